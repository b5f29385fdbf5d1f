"""What a run's values say in a terminal, and what is said of runs that have none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from campus_tune.read.finished import read_finished
from campus_tune.read.run_values import as_text, read_run_values
from campus_tune.run.value_table import ValueTable
from campus_tune.words.errors import DataError
from tests.report.made_up import EVIL, make_run
from tests.report.made_up_value import made_values, make_value, tell

NAMES = ("math", "code", "te\x1bxt")


@pytest.fixture(scope="module")
def made() -> ValueTable:
    return made_values(NAMES)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, made: ValueTable) -> Path:
    out = make_run(tmp_path_factory.mktemp("values") / "run", stages=2)
    make_value(out, made)
    return out


def test_the_text_begins_with_what_matters(run: Path, made: ValueTable) -> None:
    text = as_text(read_run_values(run), width=100)
    first, agreement, transfer, helped, harmed = text.split("\n\n")
    assert first.startswith(f"{made.n_harmful} of 89 rows harm the probes; halves of the probes agree")
    assert "all probes" in agreement
    assert agreement.endswith("Rows without a value: 1")
    assert "What a trained row of each domain did to each probe domain (above 0 it helped):" in transfer
    assert helped.startswith("Rows that helped the probes most:")
    assert harmed.startswith("Rows that harmed the probes most:")


def test_cells_that_may_be_chance_are_marked(run: Path, made: ValueTable) -> None:
    text = as_text(read_run_values(run), width=100)
    marked = text.count("?") - sum(text.count(one) for one in ("What is", "? may be"))
    assert marked == int((~made.transfer.clear).sum())
    assert "\n? may be chance" in text


def test_no_text_commands_the_terminal(run: Path) -> None:
    text = as_text(read_run_values(run), width=100)
    assert "\x1b" not in text
    assert "\\x1b" in text
    assert EVIL[:20] in text


@pytest.mark.parametrize("width", [30, 80, 200])
def test_lines_fit_the_terminal(run: Path, width: int) -> None:
    rows = as_text(read_run_values(run), width=width, top=3).split("Rows that helped")[1]
    texts = [line for line in rows.splitlines() if "→" in line]
    assert len(texts) == 6
    assert all(len(line) <= max(width, 16) for line in texts)


def test_as_many_rows_as_asked_are_shown(run: Path) -> None:
    for top in (1, 4):
        helped = as_text(read_run_values(run), width=200, top=top).split("\n\n")[3]
        assert len(helped.splitlines()) == 2 + top


def test_any_path_of_the_run_is_taken(run: Path) -> None:
    found = [read_run_values(path) for path in (run, run / "curriculum", run / "curriculum" / "ledger.jsonl")]
    assert len({one.sentence for one in found}) == 1


def test_a_run_is_read_as_arrays(run: Path, made: ValueTable) -> None:
    found = read_finished(run)
    np.testing.assert_allclose(found.value["value math"], made.values.of("math"), rtol=1e-6)
    assert found.transfer["domains"] == list(NAMES)
    np.testing.assert_allclose(found.transfer["mean"], made.transfer.mean)


def test_a_run_without_values_is_read_without(tmp_path: Path) -> None:
    found = read_finished(make_run(tmp_path / "run", stages=2))
    assert (found.value, found.transfer) == ({}, {})


@pytest.mark.parametrize(("file", "problem"), [("transfer.json", "the transfer"), ("values.parquet", "the values of")])
def test_a_damaged_file_is_named(tmp_path: Path, made: ValueTable, file: str, problem: str) -> None:
    run = make_run(tmp_path / "run", stages=2)
    make_value(run, made)
    (run / "curriculum" / "value" / file).write_text("{}")
    with pytest.raises(DataError, match=f"must be {problem}.*remove it to read the rest"):
        read_finished(run)
    (run / "curriculum" / "value" / file).unlink()
    assert not (read_finished(run).transfer and read_finished(run).value)


def test_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must hold a run's curriculum/ledger.jsonl, got none. Name the output_dir"):
        read_run_values(tmp_path)


def test_a_run_that_did_not_ask_says_how_to(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", stages=2)
    with pytest.raises(DataError, match=r"must be a run that measured values, got one that did not. Train with `value"):
        read_run_values(run)


def test_a_run_that_is_not_over_says_to_wait(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", stages=2, finished=False)
    ledger = run / "curriculum" / "ledger.jsonl"
    first, *rest = ledger.read_text("utf-8").splitlines()
    asked = json.loads(first)
    asked["future"]["campus: value"] = {"adam": False, "budget": 0.05}
    ledger.write_text("\n".join([json.dumps(asked), *rest]) + "\n", "utf-8")
    with pytest.raises(DataError, match="must be a run that is over, for values are added up at its end"):
        read_run_values(run)


def test_a_run_whose_values_could_not_be_made_says_why(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", stages=2)
    tell(run, {"rows": 0, "why": "no row was valued."})
    with pytest.raises(DataError, match=r"must have values of its rows, got none: There are no values: no row was val"):
        read_run_values(run)
