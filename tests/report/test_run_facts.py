from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from campus_tune.report.run_facts import read_run
from campus_tune.report.run_page import missing
from campus_tune.run.decile_rates import leave_decile_rates
from campus_tune.run.told.examples import LONGEST, pick, shorten
from campus_tune.words.errors import DataError
from tests.report.made_up import EVIL, make_comparison, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("facts") / "run")


@pytest.fixture
def own(run: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(run, tmp_path / "run"))


def test_the_output_dir_and_the_folder_in_it_are_the_same_run(run: Path) -> None:
    assert read_run(run).stages == read_run(run / "curriculum").stages


def test_everything_in_the_ledger_is_read(run: Path) -> None:
    facts = read_run(run)
    assert facts.finished
    assert (facts.n_rows, facts.step, facts.total_steps, len(facts.stages)) == (60, 12, 12, 6)
    assert facts.choices == ("length", "mtld", "loss", "shuffle")
    assert [stage.chosen for stage in facts.stages] == ["length", "mtld", "loss", "length", "shuffle", "shuffle"]
    assert facts.stages[1].offers["loss"].loss == pytest.approx(3.0 - 1 / 6 + 0.2)
    assert facts.stages[5].offers == {}
    assert facts.audit == (12, 12)
    assert facts.cost["all"] == 0.04
    assert facts.warnings == ("`mtld` has <ties>. Drop it.",)
    assert [(one.step, one.scores) for one in facts.evaluations] == [
        (4, {("gsm8k", "exact_match"): (0.25, 0.05)}),
        (12, {("gsm8k", "exact_match"): (0.5, 0.05)}),
    ]
    assert facts.examples["length"].easiest[0].text.startswith(EVIL)


def test_half_of_a_last_line_is_left_out_because_it_is_still_being_written(own: Path) -> None:
    ledger = own / "curriculum" / "ledger.jsonl"
    text = ledger.read_text("utf-8")
    ledger.write_text(text[: text.rindex('"audit"')], "utf-8")
    facts = read_run(own)
    assert not facts.finished
    assert len(facts.stages) == 6
    assert facts.step == 12


def test_a_run_of_which_only_the_first_line_is_there_can_be_read(own: Path) -> None:
    ledger = own / "curriculum" / "ledger.jsonl"
    ledger.write_text(ledger.read_text("utf-8").splitlines(keepends=True)[0], "utf-8")
    facts = read_run(own)
    assert (facts.stages, facts.probes, facts.cost, facts.audit) == ((), (), {}, (0, 0))
    assert facts.rates == {}


def test_a_damaged_line_is_named(own: Path) -> None:
    ledger = own / "curriculum" / "ledger.jsonl"
    lines = ledger.read_text("utf-8").splitlines(keepends=True)
    ledger.write_text("".join([*lines[:2], "{broken\n", *lines[2:]]), "utf-8")
    with pytest.raises(DataError, match=r"line 3 must be one whole JSON object"):
        read_run(own)


def test_an_empty_ledger_says_that_the_run_has_not_begun(own: Path) -> None:
    (own / "curriculum" / "ledger.jsonl").write_text("", "utf-8")
    with pytest.raises(DataError, match=r"must begin with the line of a run, got an empty ledger\. The run has not"):
        read_run(own)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must be a folder with curriculum/ledger\.jsonl"):
        read_run(tmp_path)
    with pytest.raises(DataError, match=r"`run` must be a folder, got .*nowhere"):
        read_run(tmp_path / "nowhere")


def test_the_folder_of_a_comparison_is_told_from_that_of_a_run(tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "comparison", seeds=1, verdict=False)
    with pytest.raises(DataError, match=r"folder of one run, got the comparison .* campus-tune report"):
        read_run(folder)


def test_what_is_lost_of_the_scores_is_left_out(own: Path) -> None:
    (own / "curriculum" / "scores" / "mtld.parquet").unlink()
    (own / "curriculum" / "scores" / "loss.parquet").write_bytes(b"half")
    assert list(read_run(own).scores) == ["length"]


def test_the_learning_rate_on_easy_and_hard_rows_is_what_the_run_has_left(run: Path) -> None:
    rates = read_run(run).rates
    assert list(rates) == ["length", "mtld", "loss"]
    assert {values.shape for values in rates.values()} == {(10,)}


def test_the_rates_of_a_tenth_are_those_of_the_stages_that_trained_it(own: Path) -> None:
    ledger = own / "curriculum" / "ledger.jsonl"
    lines = [json.loads(line) for line in ledger.read_text("utf-8").splitlines()]
    for line in lines:
        if line["event"] == "stage_end":
            line["learning_rate"] = 1e-3 if line["stage"] == 0 else 0.0
    ledger.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    leave_decile_rates(own / "curriculum")
    trained = read_run(own).rates["length"] > 0
    assert 1 <= trained.sum() <= 8  # only the eight rows of the first stage met a rate


@pytest.mark.parametrize("content", ["{}", "[]", '{"length": [1.0]}', '{"length": "no"}', "half"])
def test_where_the_run_has_left_no_rates_a_sentence_says_when_it_does(own: Path, content: str) -> None:
    (own / "curriculum" / "learning_rate.json").write_text(content, "utf-8")
    assert read_run(own).rates == {}
    assert any("a run writes it into learning_rate.json when it is over" in line for line in missing(read_run(own)))


def test_rates_of_the_run_before_are_not_those_of_a_run_that_goes_on(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", finished=False)
    leave_decile_rates(run / "curriculum")
    assert read_run(run).rates == {}


def test_a_run_that_does_not_know_its_rows_leaves_no_rates(own: Path) -> None:
    shutil.rmtree(own / "curriculum" / "training_losses")
    leave_decile_rates(own / "curriculum")
    assert json.loads((own / "curriculum" / "learning_rate.json").read_text("utf-8")) == {}


def test_no_row_is_among_the_easiest_and_the_hardest() -> None:
    easiest, hardest = pick(np.arange(15.0))
    assert (easiest, hardest) == ([0, 1, 2, 3, 4, 5, 6], [14, 13, 12, 11, 10, 9, 8])


def test_long_texts_end_in_an_ellipsis() -> None:
    text = shorten("word " * 1000)
    assert len(text) <= LONGEST
    assert text.endswith("…")
