"""What a run comes to: in a panel of a terminal and a table of a notebook, of the ledger's own lines."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from campus_tune.run.told import console as told
from campus_tune.run.told.console import Console
from campus_tune.run.told.events import Decided, Ended, Mapped, Valued, Warned
from campus_tune.run.told.screen import decision_words, fitted, panel
from campus_tune.run.told.summary import GOOD, LOOK, Upshot, as_html, facts_of, next_steps
from campus_tune.words import progress
from campus_tune.words.console import rendered
from campus_tune.words.types import Json
from tests.notebooks import open_notebook
from tests.terminals import COMMAND

END: Json = {
    "step": 12,
    "n_rows": 48,
    "rows_seen": 48,
    "rows_repeated": 0,
    "visits": 48,
    "coverage": "exact",
    "rows_by_choice": {"length": 12, "shuffle": 36},
    "audit": {"checked": 12, "passed": 12, "labels": True},
    "budget": 0.05,
    "competence": {"code": [0.1, 0.25]},
    "cost": {"all": 0.04, "probes": 0.04},
    "found": 0.0,
    "seconds": {"share": 0.1},
}
MAP: Json = {"basis": "training", "suspects": 3, "sentence": "3 of 48 rows look wrong"}
NO_MAP: Json = {"basis": "none", "why": "no row was trained."}
VALUE: Json = {"rows": 48, "sentence": "9 of 48 rows helped"}


def labelled(end: Json = END, of_map: Json = MAP, of_value: Json | None = None, n_warnings: int = 0) -> dict[str, str]:
    return {one.label: one.line for one in facts_of(end, of_map, of_value or {}, n_warnings=n_warnings)}


def test_each_fact_stands_under_a_word() -> None:
    assert labelled() == {
        "trained": "12 steps, 48 of 48 seen (100%), each once per epoch, 1.00 epochs",
        "drawn by": "length 25%, shuffle 75%",
        "competence": "code 0.100 → 0.250",
        "cost": "4.0% of the training compute (budget 5.0%); by the clock 10.0%",
        "audit": "✓ all 12 steps trained the planned rows, tokens and labels",
        "suspects": "! 3 of 48 rows look wrong",
    }


@pytest.mark.parametrize(
    ("changed", "label", "line"),
    [
        ({"audit": {"checked": 12, "passed": 9, "labels": True}}, "audit", "! only 9 of 12 steps trained"),
        ({"cost": {"all": 0.09, "probes": 0.09}}, "cost", "! 9.0% of the training compute (budget 5.0%)"),
        ({"cost": {"all": 0.09, "value": 0.06}}, "cost", "3.0% of the training compute"),
        ({"weights_audit": [12, 12]}, "weights", "✓ 12 of 12 checked steps multiplied the planned weights"),
        ({"weights_audit": [12, 11]}, "weights", "! 11 of 12"),
        ({"advice": [{"line": "write drop"}]}, "advice", "write drop"),
    ],
)
def test_what_is_to_be_looked_at_has_a_sign(changed: Json, label: str, line: str) -> None:
    assert labelled({**END, **changed})[label].startswith(line)


def test_what_is_not_known_says_why() -> None:
    assert labelled(of_map=NO_MAP)["suspects"] == "not looked for: no row was trained."
    assert (
        labelled(of_value={"rows": 0, "why": "no stage was measured."})["value"] == "not known: no stage was measured."
    )
    assert labelled(of_value=VALUE, n_warnings=2) | {
        "value": "9 of 48 rows helped",
        "warnings": "! 2, above",
    } == labelled(of_value=VALUE, n_warnings=2)
    assert "competence" not in labelled({**END, "competence": {}})


def test_the_next_steps_are_commands_for_what_was_found() -> None:
    run = Path("a run/curriculum")
    assert next_steps(MAP, VALUE, run) == ["campus-tune suspects 'a run'", "campus-tune value 'a run'"]
    assert next_steps({**MAP, "suspects": 0}, {}, run) == ["campus-tune report 'a run'"]
    assert next_steps({}, {"rows": 0}, run) == ["campus-tune report 'a run'"]


def test_a_panel_has_a_line_for_each_of_them_at_any_width() -> None:
    facts = [Upshot("audit", "all 12 steps", GOOD), Upshot("suspects", "3 of `code` look wrong " * 4, LOOK)]
    for width in (40, 80, 120):
        lines = COMMAND.sub("", rendered(panel(facts, ["campus-tune suspects run"], "run/curriculum"), width)).split(
            "\n"
        )
        assert {len(line) for line in lines} == {width}
        assert lines[0].startswith("╭─ the run is over ─")
        assert lines[1].split()[1:3] == ["audit", "✓"]
        assert any(line.startswith("│ next      campus-tune suspects run") for line in lines)


def test_what_comes_from_data_cannot_command_a_terminal_or_a_page() -> None:
    facts = [Upshot("competence", "\x1b[31mred <script>")]
    assert r"\x1b[31mred" in COMMAND.sub("", rendered(panel(facts, [], "run"), 80))
    assert "&lt;script&gt;" in as_html(facts, ["campus-tune report '<run>'"])


RECORD: Json = {
    "step": 4,
    "stage": 2,
    "chosen": "a_metric_of_a_long_name_indeed",
    "outcome": "-",
    "rows": 8,
    "scope": [0.0, 0.5],
}


def test_the_parts_of_decisions_stand_below_each_other() -> None:
    probes = {"a": {"competence": 0.1}}
    told = [{**RECORD, "step": step, "chosen": name} for step, name in ((0, "length"), (125, "shuffle"))]
    lines = [fitted(decision_words(record, 375, probes, 0.2), 120).plain for record in told]
    assert lines == [
        "step   0/375 · stage 2  · length          8 rows of 0.00–0.50 · competence 0.100 · cost 20.0%",
        "step 125/375 · stage 2  · shuffled        8 rows of 0.00–0.50 · competence 0.100 · cost 20.0%",
    ]


def test_what_is_out_of_the_ordinary_stands_behind_and_no_part_is_torn() -> None:
    lanes = {"offer": 0, "mix": 6, "review": 2}
    record = {**RECORD, "lanes": lanes, "shares": {}, "offered": 12, "passed_over": 6, "shortage": {}}
    words = [word for word, _ in decision_words(record, 16, {}, 0.0)]
    assert words[-2:] == ["2 rows come back", "6 of 12 offered passed over"]
    for width in (50, 72, 200):
        told = fitted(decision_words(record, 16, {}, 0.0), width).plain
        assert all(word in told for word in words)
        assert max(map(len, told.split("\n"))) <= width


# -- the console ------------------------------------------------------------------------------------------------------


def tell(console: Console) -> None:
    console.take(Warned(["the probes are few"]))
    console.take(Decided(RECORD, {}, 0.1))
    console.take(Mapped(MAP))
    console.take(Valued(VALUE))
    console.take(Ended({**END, "cost": {"all": 0.09, "probes": 0.09}}))


def test_a_terminal_has_the_warnings_of_the_end_above_the_panel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "in_terminal", lambda stream: stream is sys.stdout)
    monkeypatch.setenv("COLUMNS", "120")
    tell(Console(16, tmp_path))
    said = COMMAND.sub("", capsys.readouterr().out)
    assert "campus: warning: the probes are few\n" in said
    before, box = said.split("╭─ the run is over")
    assert "campus: warning: more was spent than the budget allows" in before
    assert "! 2, above" in box
    assert "next        campus-tune suspects" in box
    assert "order audit" not in said  # the panel has it


def test_a_notebook_has_them_in_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = open_notebook(monkeypatch)
    tell(Console(16, tmp_path))
    decisions, end = notebook.pages
    assert ">scope</th>" in decisions[-1]
    assert "9 of 48 rows helped" in end[-1]
    assert "<code>campus_tune.open_run(" in end[-1]


def test_a_quiet_run_tells_its_warnings_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def warnings_said() -> list[str]:
        return [line[:36] for line in COMMAND.sub("", capsys.readouterr().out).splitlines() if line[:1] == "c"]

    expected = ["campus: warning: the probes are few", "campus: warning: more was spent than"]
    with progress.VOLUME.quieted():
        tell(Console(16, tmp_path))
        assert warnings_said() == expected
        with monkeypatch.context() as patch:
            patch.setattr(told.progress, "in_terminal", lambda stream: stream is sys.stdout)
            tell(Console(16, tmp_path))
            assert warnings_said() == expected
        notebook = open_notebook(monkeypatch)
        tell(Console(16, tmp_path))
        assert (warnings_said(), notebook.pages) == (expected, [])
