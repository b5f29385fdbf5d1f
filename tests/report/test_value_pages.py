"""The part of a run's page that says what rows were worth to the probes: there for runs that measured it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from campus_tune.report.heat_map import Heat
from campus_tune.report.run_facts import read_run
from campus_tune.report.run_page import run_content
from campus_tune.report.value_facts import ValueFacts
from campus_tune.report.value_page import far_row, reliabilities, scaled, transfer_picture, value_section
from campus_tune.report.write import write_report
from campus_tune.run.value_table import ValueTable
from campus_tune.words.errors import DataError
from tests.report.conftest import coarse_pictures
from tests.report.made_up import EVIL, make_run
from tests.report.made_up_value import made_values, make_value, tell

NAMES = ("math", EVIL, "text")


@pytest.fixture(scope="module")
def made() -> ValueTable:
    return made_values(NAMES)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, made: ValueTable) -> Path:
    out = make_run(tmp_path_factory.mktemp("value") / "run", stages=2)
    make_value(out, made)
    return out


@pytest.fixture(scope="module")
def facts(run: Path) -> ValueFacts:
    found = read_run(run).value
    assert found is not None
    return found


def test_what_the_run_left_is_read(facts: ValueFacts, made: ValueTable) -> None:
    assert (facts.rows, facts.negative, facts.not_valued) == (89, made.n_harmful, 1)
    assert list(facts.split_half) == ["all", *NAMES]
    assert facts.split_half["math"].value == pytest.approx(made.reliabilities["math"].value)
    assert facts.transfer is not None
    np.testing.assert_allclose(facts.transfer.values, made.transfer.mean)
    np.testing.assert_array_equal(facts.transfer.clear, made.transfer.clear)
    assert [(row.side, row.row) for row in facts.far] == made.extremes()
    assert [len(facts.of_side(side)) for side in ("helpful", "harmful")] == [10, 10]


def test_a_run_without_values_has_nothing_of_it(tmp_path: Path) -> None:
    plain = read_run(make_run(tmp_path / "plain", stages=2))
    assert plain.value is None
    assert run_content(plain, [])["value"] is None
    with coarse_pictures():
        page = write_report(tmp_path / "plain").read_text("utf-8")
    assert "What rows were worth" not in page


def test_the_page_has_the_section_once_and_its_picture_in_it(run: Path) -> None:
    with coarse_pictures():
        page = write_report(run).read_text("utf-8")
    assert page.count("<h2>What rows were worth to the probes</h2>") == 1
    assert page.count('id="transfer"') == 1
    assert page.index('id="value"') < page.index('id="transfer"') < page.index("helped the probes most")
    assert (run / "curriculum" / "plots" / "transfer.png").exists()
    assert "<script>document.title" not in page
    assert re.search(r"<code>drop: \[\{by: value, path: RUN/curriculum/value/values.parquet\}\]</code>", page)


def test_a_run_whose_values_could_not_be_made_says_why(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", stages=2)
    tell(run, {"rows": 0, "why": "no stage was measured."})
    found = read_run(run).value
    assert found is not None
    shown = value_section(found, [])
    assert shown.sentence == "There are no values: no stage was measured."
    assert (shown.notes, shown.picture, shown.tables, shown.far) == ((), None, (), ())
    with coarse_pictures():
        assert "There are no values" in write_report(run).read_text("utf-8")


def test_reliability_is_said_in_words_beside_its_numbers(facts: ValueFacts) -> None:
    notes = " ".join(value_section(facts, []).notes)
    whole = facts.split_half["all"]
    assert f"(split-half {whole.value:.2f}, {whole.low:.2f} to {whole.high:.2f})" in notes
    assert "Inside of the domains, and per token, they agree" in notes
    assert "1 row has no value" in notes
    assert "`campus-tune ablate`" in notes


def test_halves_that_do_not_agree_are_said_to(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", stages=2)
    make_value(run, made_values(("a", "b", "c"), noise=200.0))
    found = read_run(run).value
    assert found is not None
    assert "do not agree on the rows: what is said of single ones is mostly chance" in found.sentence
    table = reliabilities(found)
    assert {row[-1].text for row in table.rows} <= {"do not agree on the rows", "agree weakly on the rows"}


@pytest.mark.parametrize(
    ("scale", "unit"), [(1.0, ""), (0.2, ""), (1e-7, ", in units of 10⁻⁷"), (3e4, ", in units of 10⁴")]
)
def test_numbers_can_be_read_whatever_their_size(scale: float, unit: str) -> None:
    heat, said = scaled(Heat(("a",), ("p", "q"), scale * np.array([[2.5, -0.3]]), np.zeros((1, 2)), np.ones((1, 2))))
    assert said == unit
    assert 0.1 <= heat.largest < 100
    assert heat.values[0] / heat.largest == pytest.approx([1, -0.12])


def test_a_matrix_of_zeros_is_drawn() -> None:
    assert scaled(Heat(("a",), ("p",), np.zeros((1, 1))))[1] == ""
    assert transfer_picture(ValueFacts("none")) is None


def test_the_table_has_the_matrix_and_the_visits(facts: ValueFacts, made: ValueTable) -> None:
    matrix, halves = value_section(facts, []).tables
    assert matrix.head == ["rows of", *NAMES, "measured visits"]
    assert [row[-1].text for row in matrix.rows] == [str(n) for n in made.transfer.visits]
    first = matrix.rows[0]
    assert first[1].sort == pytest.approx(made.transfer.mean[0, 0] / 10 ** np.floor(np.log10(facts.transfer.largest)))  # type: ignore[union-attr]
    assert first[1].kind == "good"
    assert first[3].kind == "bad"
    assert [row[0].text for row in halves.rows] == ["all probe domains", *NAMES]


def test_a_row_says_what_it_was_worth_to_whom(facts: ValueFacts) -> None:
    row = facts.of_side("harmful")[0]
    shown = far_row(row)
    assert shown.title == f"Row {row.row} · {row.domain}"
    assert shown.why.startswith("value −")
    assert "by halves of the probes" in shown.why
    assert shown.why.endswith("trained 2 times")
    assert [what for what, _ in shown.parts] == ["prompt", "answer"]
    whole = far_row(facts.far[9])
    assert [what for what, _ in whole.parts] == ["row"]


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("transfer.json", None, "No such file"),
        ("transfer.json", "{}", "must have `domains`"),
        ("transfer.json", "{", "Expecting"),
        ("extremes.jsonl", '{"side": "helpful"}\n', "must have `row`"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, file: str, content: str | None, problem: str) -> None:
    run = make_run(tmp_path / "run", stages=2)
    make_value(run, made_values(("a", "b", "c")))
    path = run / "curriculum" / "value" / file
    path.unlink()
    if content is not None:
        path.write_text(content, "utf-8")
    with pytest.raises(DataError, match=problem) as error:
        read_run(run)
    assert str(path) in str(error.value)
    assert "Put the run's own" in str(error.value)


def test_a_side_that_nobody_knows_is_named_and_the_advice_helps(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", stages=2)
    make_value(run, made_values(("a", "b", "c")))
    path = run / "curriculum" / "value" / "extremes.jsonl"
    first, *rest = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(first), "side": "odd"}), *rest]) + "\n", "utf-8")
    with pytest.raises(DataError, match=r"line 1 must be a row of the run, got something else \(side 'odd'\)"):
        read_run(run)
    path.unlink()
    found = read_run(run).value
    assert found is not None
    assert found.far == ()


def test_a_matrix_that_does_not_fit_its_names_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", stages=2)
    make_value(run, made_values(("a", "b", "c")))
    path = run / "curriculum" / "value" / "transfer.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "probes": ["a"]}), "utf-8")
    with pytest.raises(DataError, match="must be what the run left of its values, got cannot reshape"):
        read_run(run)
