"""What a page says of a run's prompts: each number against the run's own files, and nothing in pages of rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

from campus_tune.report import prompt_plots
from campus_tune.report.prompt_facts import GroupsShown, PredictionShown, PromptFacts, read_prompts
from campus_tune.report.prompt_page import (
    by_band,
    by_domain,
    by_feature,
    by_stage,
    gradient_sentence,
    prediction_sentence,
    prompt_numbers,
    prompt_section,
    regions_table_of_prompts,
    sentences,
)
from campus_tune.report.prompt_plots import PROMPT_PICTURES, pass_rates, prompt_pictures, prompt_words, rewards
from campus_tune.report.run_facts import RunOnDisk, read_run
from campus_tune.report.run_page import run_content
from campus_tune.report.write import markdown_of, write_report
from campus_tune.run.ledger import read_ledger
from campus_tune.run.prompt_map import CONTRADICTS, EASIEST, EXAMPLES, FILE, HARDEST
from campus_tune.words.errors import DataError
from campus_tune.words.types import Json
from tests.report.conftest import coarse_pictures
from tests.report.made_up import EVIL, make_run
from tests.report.made_up_prompts import KINDS, P, make_prompt_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_prompt_run(tmp_path_factory.mktemp("prompts") / "run")


@pytest.fixture(scope="module")
def on_disk(run: Path) -> RunOnDisk:
    return read_run(run)


@pytest.fixture(scope="module")
def facts(on_disk: RunOnDisk) -> PromptFacts:
    assert on_disk.prompts is not None
    return on_disk.prompts


def ends(run: Path) -> list[Json]:
    return [event for event in read_ledger(run / "curriculum/ledger.jsonl") if event["event"] == "stage_end"]


def test_a_runs_groups_are_its_stages_together(run: Path, facts: PromptFacts) -> None:
    told = [end["groups"] for end in ends(run)]
    assert facts.total.n == 6 * P
    assert facts.total.flat == pytest.approx(np.mean([groups["without_gradient"] for groups in told]))
    assert facts.shuffled == pytest.approx(np.mean([groups["shuffled"] for groups in told]))
    assert facts.domains == sorted(KINDS)
    assert sum(facts.over(name).n for name in KINDS) == 6 * P
    assert sum(band.n for band in facts.bands()) < 6 * P  # of some nothing was expected
    end = read_ledger(run / "curriculum/ledger.jsonl")[-1]
    assert end["groups"]["without_gradient"] == pytest.approx(facts.total.flat)


def test_groups_are_summed_by_how_many_they_are() -> None:
    assert GroupsShown.sum([]) == GroupsShown(0, None, None)
    parts = [GroupsShown(1, 1.0, 0.0), GroupsShown(3, 0.0, 1.0), GroupsShown(0, None, None)]
    assert GroupsShown.sum(parts) == GroupsShown(4, 0.25, 0.75)


def test_the_section_says_first_what_moved_the_model(facts: PromptFacts) -> None:
    section = prompt_section(facts, prompt_pictures(facts))
    assert section.sentences[0] == (
        "5% of 96 groups gave no gradient, for all their answers earned the same; with shuffled prompts it would have "
        "been about 57%, as the run's own pass rates say."
    )
    assert section.sentences[1].startswith("96 prompts: ")
    assert section.sentences[2].startswith("Where a reward contradicts itself, ")
    assert section.sentences[3] == (
        "Pass rates of prompts that were never tried are predicted from level, length of prompt <i>: rank correlation "
        "0.55 with prompts that were left out, and count as much as 3.4 tries of a prompt's own."
    )
    assert section.sentences[4] == "In 1 group no answer was scored: it counts as not tried."
    assert [picture.name for picture in section.pictures] == [name for name in PROMPT_PICTURES if name != "rewards"]
    assert [table.caption.split(";")[0] for table in section.tables] == [
        "Prompts by domain",
        "Prompts by the pass rate that was expected of them",
        "What tells how prompts pass: nats of a prompt that was left out, beyond one rate",
        "Groups by stage",
    ]
    assert [side.caption for side in section.sides] == [
        "Prompts whose reward contradicts itself",
        "The hardest prompts that were drawn",
        "The easiest prompts that were drawn",
    ]


def test_hardest_and_easiest_are_shown_with_text_and_counts(run: Path, facts: PromptFacts) -> None:
    assert facts.map is not None
    hardest, easiest = facts.map.sides[HARDEST], facts.map.sides[EASIEST]
    assert len(hardest) == len(easiest) == 10
    rates = [prompt.pass_rate or 0.0 for prompt in hardest]
    assert rates == sorted(rates)
    assert max(rates) <= min(prompt.pass_rate or 0.0 for prompt in easiest)
    side = next(side for side in prompt_section(facts, []).sides if side.caption.startswith("The hardest"))
    assert (len(side.first), len(side.rest)) == (3, 7)
    assert side.first[0].parts[0][1] == f"{EVIL} what is {hardest[0].row} + {hardest[0].row}?"
    assert f"of {hardest[0].tries} answers passed" in side.first[0].why
    [against] = facts.map.sides[CONTRADICTS]
    assert against.contradicting == 1
    del run


def test_each_table_has_a_line_for_each_thing(facts: PromptFacts) -> None:
    domains, bands, stages = by_domain(facts), by_band(facts), by_stage(facts)
    assert [row[0].text for row in domains.rows] == sorted(KINDS)
    assert sum(row[domains.head.index("prompts")].sort or 0 for row in domains.rows) == 96
    assert [row[0].text for row in bands.rows][-1] == "above 80 %"
    assert len(stages.rows) == 6
    assert stages.rows[0][list(stages.head).index("prediction")].text == "–"
    assert stages.rows[-1][list(stages.head).index("prediction")].text == "0.55"
    bare = replace(facts, stages=tuple(replace(one, shuffled=None, prediction=None) for one in facts.stages))
    assert not {"if shuffled", "prediction"} & set(by_stage(bare).head)
    assert gradient_sentence(bare) == "5% of 96 groups gave no gradient, for all their answers earned the same."


def test_a_prediction_that_says_nothing_is_told_as_one(facts: PromptFacts) -> None:
    nothing = PredictionShown("spread", 12, 4.0, None, (), {"level": -0.01})
    assert prediction_sentence(nothing).startswith(
        "Chances of a gradient of prompts that were never tried could not be"
    )
    bare = PredictionShown.read({"correlation": 0.5, "used": ["level"], "gains": {"level": None}})
    assert bare is not None
    assert prediction_sentence(bare).endswith("from level: rank correlation 0.50 with prompts that were left out.")
    assert bare.gains == {}
    spread = replace(bare, of="spread", worth=0.5)
    assert prediction_sentence(spread).endswith("left out, and count as much as 0.5 groups of a prompt's own.")
    assert PredictionShown.read(None) is None
    assert [row[2].text for row in by_feature(facts).rows] == ["yes", "yes", "no"]


def test_the_head_of_the_page_has_three_numbers_of_it(facts: PromptFacts) -> None:
    assert [(fact.name, fact.value, fact.more) for fact in prompt_numbers(facts)] == [
        ("No gradient", "5%", "of 96 groups; shuffled about 57%"),
        ("Passed", "36%", "of the last stage's answers; 56% of the first's"),
        ("Generated", "4,219", "tokens"),
    ]
    assert prompt_numbers(replace(facts, stages=())) == []


def test_every_picture_says_in_numbers_what_it_shows(facts: PromptFacts) -> None:
    with coarse_pictures():
        found = {picture.name: picture for picture in prompt_pictures(facts)}
        assert all(picture.png[:4] == b"\x89PNG" for picture in found.values())
    assert found["without_gradient"].alt.startswith("5% of all groups gave no gradient; with shuffled prompts it would")
    assert found["pass_rates"].alt.startswith("56% of the answers passed in stage 0, 36% in stage 5. By domain, first ")
    assert "above 80 %: 50%" in found["pass_rates_by_band"].alt
    assert found["prompt_map"].alt.startswith("96 prompts: 41 passed sometimes")


@pytest.mark.parametrize(("stages", "marker"), [(1, "o"), (2, None)])
def test_the_only_stage_of_a_run_is_a_dot(
    stages: int, marker: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[object, object] = {}
    monkeypatch.setattr(Axes, "plot", lambda *_, **how: drawn.update({how["label"]: how.get("marker")}))
    monkeypatch.setattr(prompt_plots, "legend_below", lambda *_, **__: None)
    facts = read_run(make_prompt_run(tmp_path / "run", stages=stages, rows=40, plain_rewards=False)).prompts
    assert facts is not None
    with coarse_pictures():
        assert all(one is not None and one.png for one in (pass_rates(facts), rewards(facts)))
    assert (drawn["all prompts"], drawn["weighted sum"]) == (marker, marker)


def test_rewards_of_several_functions_have_a_picture(tmp_path: Path) -> None:
    facts = read_run(make_prompt_run(tmp_path / "run", stages=3, rows=40, plain_rewards=False)).prompts
    assert facts is not None
    with coarse_pictures():
        found = {picture.name: picture for picture in prompt_pictures(facts)}
        assert found["rewards"].png[:4] == b"\x89PNG"
    assert found["rewards"].alt.startswith("The mean weighted reward went from ")
    assert "mean reward" in prompt_section(facts, []).sides[-1].first[0].why


def test_a_page_of_prompts_says_prompts_and_has_no_place_for_probes(on_disk: RunOnDisk) -> None:
    content = run_content(on_disk, [])
    assert content["summary"].startswith("96 prompts were trained in 6 stages over 12 steps; ")
    assert content["summary"].endswith(
        "Order audit: all 12 steps trained the planned prompts; all 6 generations answered them, in their order."
    )
    assert [fact.name for fact in content["numbers"]][:2] == ["Training prompts", "Stages"]
    assert content["missing"] == []
    assert {"prompts", "random"} <= set(content["decisions"].head)
    assert "training loss" not in content["decisions"].head
    assert "same prompts are drawn" in content["again"][0]


def test_a_run_that_goes_on_has_a_page_without_a_map(tmp_path: Path) -> None:
    out = make_prompt_run(tmp_path / "run", stages=2, finished=False, domains=False)
    facts = read_run(out).prompts
    assert facts is not None
    assert facts.map is None
    assert facts.prediction is not None
    told = prediction_sentence(facts.prediction)
    assert sentences(facts) == [
        gradient_sentence(facts),
        told,
        "In 1 group no answer was scored: it counts as not tried.",
    ]
    assert by_domain(facts).rows == []
    content = run_content(read_run(out), [])
    assert content["missing"] == ["The map of the prompts: it is made when a run is over."]
    with coarse_pictures():
        page = write_report(out).read_text("utf-8")
    assert "What answers say of the prompts" in page


def test_the_page_and_its_short_form_tell_it(run: Path) -> None:
    with coarse_pictures():
        page = write_report(run).read_text("utf-8")
    assert "<script>document.title" not in page.replace("&lt;", "")
    assert "What answers say of the prompts" in page
    text = markdown_of(run)
    assert "5% of 96 groups gave no gradient" in text
    assert "| passed sometimes | 41 | 43% |" in text


def test_prompts_without_domains_have_a_map_of_all(tmp_path: Path) -> None:
    facts = read_run(make_prompt_run(tmp_path / "run", stages=2, domains=False)).prompts
    assert facts is not None
    assert facts.map is not None
    assert facts.map.by_domain == {}
    assert by_domain(facts).rows == []
    assert sum(facts.map.regions.values()) == 96


def test_domains_are_listed_with_the_prompts_of_each_region(facts: PromptFacts) -> None:
    assert facts.map is not None
    assert {name: sum(counts.values()) for name, counts in facts.map.by_domain.items()} == dict.fromkeys(KINDS, 32)
    each = facts.map.by_domain.values()
    assert {region: sum(of[region] for of in each) for region in facts.map.regions} == facts.map.regions


def test_pages_of_rows_have_nothing_of_it(tmp_path: Path) -> None:
    facts = read_run(make_run(tmp_path / "rows", stages=2))
    assert facts.prompts is None
    assert facts.noun == "row"
    content = run_content(facts, [])
    assert content["prompts"] is None
    assert "rows were trained" in content["summary"]


def test_the_map_counts_prompts_by_region(facts: PromptFacts) -> None:
    assert facts.map is not None
    table = regions_table_of_prompts(facts.map)
    assert [row[0].text for row in table.rows] == [prompt_words(name) for name in facts.map.regions]
    assert sum(row[1].sort or 0 for row in table.rows) == facts.map.n_rows == 96
    assert facts.never_drawn == facts.map.regions["never_drawn"]
    assert facts.map.undrawn is not None
    assert facts.map.undrawn.sum() == facts.never_drawn
    assert sum(counts.sum() for counts in facts.map.drawn.values()) == 96 - facts.never_drawn


def damaged(run: Path, tmp_path: Path, name: str, text: str) -> Path:
    home = tmp_path / "curriculum"
    home.mkdir()
    for path in (run / "curriculum").iterdir():
        if path.is_file():
            (home / path.name).write_bytes(path.read_bytes())
    (home / name).write_text(text, "utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (FILE, "no table", "must be the map of prompts that the run left, got .*Put it back from a copy"),
        (EXAMPLES, json.dumps({"row": 1, "side": 3, "text": ""}) + "\n", "line 1 must be a prompt .*`side` must be"),
        (EXAMPLES, json.dumps({"row": 99, "side": "easiest", "text": ""}) + "\n", "row 99 of 96"),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(run: Path, tmp_path: Path, name: str, text: str, said: str) -> None:
    out = damaged(run, tmp_path, name, text)
    with pytest.raises(DataError, match=said):
        read_run(out)
    (out / "curriculum" / name).unlink()  # as it is advised
    assert read_run(out).prompts is not None


def test_a_run_without_examples_has_no_sides(run: Path, tmp_path: Path) -> None:
    out = damaged(run, tmp_path, EXAMPLES, "")
    facts = read_run(out).prompts
    assert facts is not None
    assert prompt_section(facts, []).sides == ()


def test_a_map_of_another_version_lacks_a_column_by_name(run: Path, tmp_path: Path) -> None:
    from campus_tune.scores.cache import write_columns

    write_columns(tmp_path / FILE, {"region": np.array(["middle"])}, {})
    with pytest.raises(DataError, match="no column `visits`"):
        read_prompts(tmp_path, [], {}, [{"never_drawn": 0, "sentence": ""}])
    del run
