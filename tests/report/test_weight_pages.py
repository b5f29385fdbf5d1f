"""The part of a run's page that says how much its rows counted: there for runs that weigh them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from campus_tune.report.compare_facts import read_comparison
from campus_tune.report.compare_page import compare_content
from campus_tune.report.run_facts import read_run
from campus_tune.report.run_page import run_content
from campus_tune.report.weight_facts import StageWeights, WeightFacts, read_weights
from campus_tune.report.weight_page import WeightSection, weight_section
from campus_tune.report.weight_plots import WEIGHT_PICTURES, by_domain, weight_pictures, weights
from campus_tune.report.write import write_report
from campus_tune.words.types import Json
from tests.report.conftest import coarse_pictures
from tests.report.made_up import EVIL, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("weights") / "run", weighted=True)


@pytest.fixture(scope="module")
def facts(run: Path) -> WeightFacts:
    found = read_run(run).weights
    assert found is not None
    return found


def stage(index: int, **other: object) -> StageWeights:
    values: dict[str, object] = {
        "index": index,
        "step": 2 * index,
        "end": 2 * index + 2,
        "mean": 1.0,
        "least": 0.5,
        "most": 1.5,
        "ess": 0.9,
        "half": 0.4,
        "by_domain": {},
        "bars": [0, 0, 0, 3, 2, 3, 0, 0, 0],
        "loss": 2.0,
        "weighted_loss": 1.5,
        "clipped": None,
    }
    return StageWeights(**{**values, **other})  # type: ignore[arg-type]  # a mixture of all that a stage has


def section(*stages: StageWeights, audit: tuple[int, int] = (4, 4)) -> WeightSection:
    edges = tuple(range(0, 2 * len(stages) + 1, 2))
    return weight_section(WeightFacts(edges, stages, audit), [])


def column(shown: WeightSection, name: str, caption: str = "by stage") -> list[str]:
    [table] = [one for one in shown.tables if caption in one.caption]
    return [row[list(table.head).index(name)].text for row in table.rows]


def test_what_the_ledger_says_is_read(facts: WeightFacts) -> None:
    assert facts.edges == (0, 2, 4, 6, 8, 10, 12)
    assert [one.index for one in facts.stages] == [1, 2, 3, 4, 5]  # the first had no weights
    assert facts.stages[-1].clipped == (2, 2)
    assert facts.stages[-1].weighted_loss == pytest.approx(facts.stages[-1].loss - 0.2)  # type: ignore[operator]
    assert facts.audit == (10, 10)
    assert facts.bars().sum(axis=0) == pytest.approx([0, 1, 1, 1, 1, 1])
    assert facts.bars()[4].tolist() == [0, 0.5, 0.5, 0.375, 0.375, 0.375]


def test_a_run_without_weights_has_nothing_of_it(tmp_path: Path) -> None:
    plain = read_run(make_run(tmp_path / "plain", stages=2))
    assert plain.weights is None
    assert run_content(plain, [])["weights"] is None
    assert not any(fact.name == "Weights audit" for fact in run_content(plain, [])["facts"])
    with coarse_pictures():
        page = write_report(tmp_path / "plain").read_text("utf-8")
    assert "How much the rows counted" not in page
    assert not re.search(r'id="(weights|weight_ess|weights_by_domain|how-much)"', page)


def test_the_page_has_the_section_once_and_its_pictures_in_it(run: Path) -> None:
    with coarse_pictures():
        page = write_report(run).read_text("utf-8")
    assert page.count("<h2>How much the rows counted</h2>") == 1
    for name in WEIGHT_PICTURES:
        assert page.count(f'id="{name}"') == 1
        assert page.index('id="how-much"') < page.index(f'id="{name}"')
    assert "Weights audit: 10 of 10 checked steps multiplied the planned weights." in page
    assert "<script>document.title" not in page


def test_a_run_that_goes_on_shows_the_stages_that_are_over(tmp_path: Path) -> None:
    found = read_run(make_run(tmp_path / "run", weighted=True, finished=False)).weights
    assert found is not None
    assert (len(found.stages), found.audit) == (5, (10, 10))


def test_a_run_whose_weights_do_not_hold_yet_says_only_that(tmp_path: Path) -> None:
    ledger = make_run(tmp_path / "run", weighted=True, stages=1, finished=False) / "curriculum/ledger.jsonl"
    found = read_run(tmp_path / "run").weights
    assert found is not None
    assert weight_pictures(found) == []
    shown = weight_section(found, [])
    assert (shown.sentence, shown.tables) == (
        "Weights audit: no weight held in any step, so there was nothing to check.",
        (),
    )
    assert not any(fact.name == "Weights audit" for fact in run_content(read_run(ledger.parent), [])["facts"])


def test_the_top_of_the_page_has_the_audit(run: Path) -> None:
    [fact] = [fact for fact in run_content(read_run(run), [])["facts"] if fact.name == "Weights audit"]
    assert (fact.value, fact.kind) == ("10 of 10", "")
    read = read_run(run)
    ledger = [json.loads(line) for line in (run / "curriculum/ledger.jsonl").read_text("utf-8").splitlines()]
    ledger[-1]["weights_audit"] = [10, 9]
    ends = {event["stage"]: event for event in ledger if event["event"] == "stage_end"}
    decisions = [event for event in ledger if event["event"] == "decision"]
    bad = {**vars(read), "weights": read_weights(decisions, ends, ledger[-1])}
    [fact] = [one for one in run_content(type(read)(**bad), [])["facts"] if one.name == "Weights audit"]
    assert (fact.value, fact.kind) == ("9 of 10", "bad")


def test_the_sentence_says_how_unequal_the_weights_were() -> None:
    shown = section(stage(0, ess=0.9), stage(1, least=0.05, most=8.0, ess=0.25))
    assert shown.sentence == (
        "In 2 of 2 stages the rows had weights, from 0.05 to 8; where these were most unequal, a stage's rows were "
        "worth 25% of as many that are alike. Weights audit: 4 of 4 checked steps multiplied the planned weights."
    )


def test_the_table_marks_what_the_run_warns_of() -> None:
    uneven, alike = stage(0, ess=0.29, clipped=(5, 10)), stage(3, ess=1.0, clipped=(9, 10))
    shown = section(uneven, stage(1, ess=0.3, clipped=(4, 10)), stage(2, half=None), alike)
    table = shown.tables[0]
    marked = [[name for name, cell in zip(table.head, row, strict=True) if cell.kind == "bad"] for row in table.rows]
    assert marked == [["effective sample", "clipped steps"], [], [], []]
    assert column(shown, "clipped steps") == ["5 of 10", "4 of 10", "–", "9 of 10"]
    assert column(shown, "with half of the gradient") == ["40.0%", "40.0%", "–", "40.0%"]


def test_what_no_stage_says_has_no_column() -> None:
    shown = section(stage(0))
    assert "clipped steps" not in shown.tables[0].head
    assert len(shown.tables) == 1  # no domains


def test_a_domains_weights_are_summed_up_over_the_stages_that_had_rows_of_it() -> None:
    shown = section(
        stage(0, by_domain={EVIL: 1.2, "text": 0.5}), stage(1, by_domain={EVIL: 1.0}), stage(2, by_domain={EVIL: 1.1})
    )
    assert column(shown, "domain", "by domain") == [EVIL, "text"]
    assert column(shown, "first stage", "by domain") == ["1.200", "0.500"]
    assert column(shown, "last stage", "by domain") == ["1.100", "0.500"]
    assert column(shown, "least", "by domain") == ["1.000", "0.500"]


def test_a_domain_is_set_beside_the_mean_of_its_stage() -> None:
    drifted = stage(0, mean=2.0, by_domain={"code": 2.2, "text": 1.0})  # live weights, while losses fell
    assert drifted.of_mean == pytest.approx({"code": 1.1, "text": 0.5})
    assert column(section(drifted), "last stage", "by domain") == ["1.100", "0.500"]
    assert stage(0, mean=0.0, by_domain={"code": 0.0}).of_mean == {"code": 1.0}


def test_every_picture_says_in_numbers_what_it_shows(facts: WeightFacts) -> None:
    with coarse_pictures():
        found = {picture.name: picture for picture in weight_pictures(facts)}
    assert tuple(found) == WEIGHT_PICTURES
    assert found["weights"].alt == (
        "Weights were 0.43 to 2.8 in stage 1, 0.1 to 5.5 in stage 5. "
        "Rows by weight there: ≤ 1/4 12%, ≤ 1/2 12%, ≤ 1 38%, ≤ 2 25%, ≤ 4 12%."
    )
    assert found["weight_ess"].alt == (
        "The effective sample size was 80% of the rows at step 2, 40% at step 10; the least was 40%."
    )
    assert found["weights_by_domain"].alt == (
        "Weights in the last stage, as multiples of its mean: arithmetic 2.00, text 0.50, code 1.00."
    )


def test_one_domain_alone_is_not_drawn_and_of_many_those_that_were_moved_most() -> None:
    def of(domains: Json) -> WeightFacts:
        return WeightFacts((0, 2), (stage(0, by_domain=domains),), (1, 1))

    assert by_domain(of({"code": 1.0})) is None
    many = by_domain(of({f"domain {i}": 1 + i / 10 for i in range(20)}))
    assert many is not None
    assert "domain 19 2.90" in many.alt
    assert "domain 7 " not in many.alt
    assert many.note.endswith("Of 20 domains those that were moved most.")


def test_a_stage_between_others_that_had_no_weights_is_a_gap() -> None:
    found = WeightFacts((0, 2, 4, 6), (stage(0), stage(2)), (1, 1))
    assert found.bars().sum(axis=0).tolist() == [1, 0, 1]
    with coarse_pictures():
        assert weights(found).png[:4] == b"\x89PNG"


def test_rows_that_all_lie_in_one_bar_are_drawn() -> None:
    alike = WeightFacts((0, 2), (stage(0, bars=[0, 0, 0, 0, 8, 0, 0, 0, 0], half=None),), (1, 1))
    assert np.array_equal(alike.bars()[:, 0], np.eye(9)[4])
    with coarse_pictures():
        assert [picture.name for picture in weight_pictures(alike)] == ["weights", "weight_ess"]


def test_a_comparison_adds_up_the_audits_of_the_arms_that_weigh_rows(comparison: Path, tmp_path: Path) -> None:
    def audits(folder: Path) -> list[tuple[str, str]]:
        content = compare_content(read_comparison(folder), [])
        return [(fact.value, fact.kind) for fact in content["facts"] if fact.name == "Weights audit"]

    assert audits(comparison) == []
    folder = Path(shutil.copytree(comparison, tmp_path / "comparison"))
    for seed, counts in enumerate([[38, 38], [38, 37]]):
        path = folder / f"runs/recipe/seed-{seed}/result.json"
        path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "weights_audit": counts}), "utf-8")
    assert audits(folder) == [("75 of 76", "bad")]
