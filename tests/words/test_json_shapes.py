"""JSON read back: what is no JSON, what is of another shape, and what each reader of ours makes of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from campus_tune.cli.proxy import _read
from campus_tune.compare.result_file import read_run_result
from campus_tune.evaluate.models import _step
from campus_tune.evaluate.results import read_result
from campus_tune.read.same_stream import compare_runs
from campus_tune.report import write
from campus_tune.report.compare_facts import read_comparison
from campus_tune.report.run_facts import read_run
from campus_tune.run.checkpoints import is_ours, read_state, saved_curriculum
from campus_tune.run.ledger_lines import EVENTS, read_events
from campus_tune.words.errors import CampusError, DataError
from campus_tune.words.json_shapes import misshapen, parse, read_json
from campus_tune.words.sealed_json import read_sealed
from tests.report.made_up import EVIL, make_comparison, make_run


def told(read: Callable[[], object]) -> str | None:
    """What a reader says of a file that it does not take."""
    try:
        read()
    except CampusError as error:
        return str(error)
    return None


NO_PICTURES = lambda _: []  # noqa: E731  # they are drawn elsewhere, and slowly
ODD = [None, 2**70, "x", [], {"a": 1}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("[1, 2", "Expecting ',' delimiter"),
        ("NaN", "it says NaN, which is no JSON"),
        ('{"a": -Infinity}', "it says -Infinity"),
        ("[" * 100_000, "it is nested too deep"),
        ("9" * 5000, "Exceeds the limit"),
    ],
)
def test_what_is_no_json_is_a_value_error_and_nothing_else(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("value", "shape", "problem"),
    [
        (3, int, None),
        (True, int, "it must be a whole number, got True"),
        (3.0, int, "it must be a whole number, got 3.0"),
        (2**63, int, f"it must be a whole number, got {2**63}"),
        (3, float, None),
        (1e300, float, None),
        (2**63, float, f"it must be a number, got {2**63}"),
        (float("inf"), float, "it must be a number, got inf"),
        (None, (float, None), None),
        ("x", (float, None), "it must be a number or null, got 'x'"),
        ([1, "x"], [int], "`1` must be a whole number, got 'x'"),
        ([1], [int, int], "it must be a list of 2, got [1]"),
        ({}, {"a": int}, "it must have `a`, got []"),
        ({}, {"a?": int}, None),
        ({"a": None}, {"a?": int}, "`a` must be a whole number, got None"),
        ({"a": {"b": [{}]}}, {str: {"b": [{"c": str}]}}, "`a: b: 0` must have `c`, got []"),
        ({"b": 1}, {str: int, "all": int}, "it must have `all`, got ['b']"),
        ([], {}, "it must be a mapping, got []"),
        ({}, [int], "it must be a list, got {}"),
        ({"a": 1}, object, None),
        (True, bool, None),
        (1, bool, "it must be true or false, got 1"),
    ],
)
def test_the_first_place_of_another_shape_is_named(value: Any, shape: Any, problem: str | None) -> None:
    assert misshapen(value, shape) == problem


def test_a_file_is_read_with_its_shape(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"step": "x"}')
    with pytest.raises(ValueError, match="`step` must be a whole number, got 'x'"):
        read_json(tmp_path / "a.json", {"step": int})
    assert read_json(tmp_path / "a.json", {"step": str}) == {"step": "x"}


# -- every reader ----------------------------------------------------------------------------------------------------

BROKEN = {
    "empty": b"",
    "half": b'{"format": 1, "arms": {',
    "a list": b"[1, 2]",
    "a number": b"7",
    "null": b"null",
    "deep": b"[" * 100_000,
    "nan": b'{"format": NaN}',
    "bytes": b"\xff\xfe\x00",
    "another version": b'{"format": 99}',
    "no keys": b'{"format": 1}',
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("shapes") / "run", ranks=2, weighted=True)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_comparison(tmp_path_factory.mktemp("shapes") / "comparison", seeds=2, items=12)


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("name", ["compare.json", "verdict.json", "runs/recipe/seed-0/result.json"])
def test_a_comparisons_file_of_another_shape_is_named(
    name: str, content: bytes, comparison: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(comparison, tmp_path / "comparison"))
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}` must "):
        read_comparison(folder)
    if name.endswith("result.json"):
        with pytest.raises(DataError, match=r"result\.json` must .* the run is repeated"):
            read_run_result(folder, "recipe", 0)


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_every_other_reader_says_so_or_goes_without(content: bytes, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-7" / "trainer_state.json"
    path.parent.mkdir()
    path.write_bytes(content)
    assert _step(path.parent) == 7  # from the folder's name
    assert saved_curriculum(read_state(path.parent) or {}) == {}
    assert not is_ours(path.parent)
    assert isinstance(_read(path), dict)
    with pytest.raises(ValueError, match=r"it|Expecting|decode|hash|Extra"):
        read_sealed(path)
    with pytest.raises(DataError, match=r"trainer_state.json` (must|line)"):
        read_result(path)
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    (folder / "curriculum/examples.json").write_bytes(content)
    (folder / "curriculum/learning_rate.json").write_bytes(content)
    facts = read_run(folder)
    assert facts.examples["length"].easiest[0].text == ""
    assert facts.rates == {}


@pytest.mark.parametrize("state", [[], 5, {"CampusCallback": 5}, {"CampusCallback": {"attributes": []}}])
def test_a_trainers_state_of_another_shape_holds_no_curriculum(state: Any) -> None:
    assert saved_curriculum({"stateful_callbacks": state}) == {}


RESUMED = {
    "event": "resumed",
    "step": 1,
    "world": {"before": 1, "now": 1},
    "cells": {"all rows": 1},
    "dropped": {"judged": 1},
}
DIRT = {"rows": 40, "share": 0.1, "low": 0.05, "high": 0.2, "seen": True}
ACT = {
    "event": "act",
    "stage": 2,
    "step": 4,
    "acts": ["robust"],
    "would": ["robust"],
    "cannot": "…",
    "threshold": 0.02,
    "spared": 4,
    "why": "…",
    **DIRT,
    "by_domain": {"code": DIRT},
}
SUSPECTS = {
    "event": "suspects",
    "stage": 2,
    "step": 4,
    "act": "auto",
    "dropped": 1,
    "found": 1,
    "would_drop": 1,
    "threshold": 2.5,
    "by_domain": {"code": 1},
    "bound": {"by_domain": {"code": 1}, "by_share": 0},
    "rows": [7],
    "unseen": 0,
    "why": "…",
}
MAP = {
    "event": "map",
    "step": 6,
    "basis": "none",
    "why": "…",
    "rows": 40,
    "regions": {"learned": 39, "suspect": 1},
    "suspects": 1,
    "share_of_suspects": 0.025,
    "by_domain": {"code": {"rows": 40, "suspects": 1}},
    "threshold": 2.5,
    "sentence": "…",
}
PROMPTS = {
    "event": "prompt_map",
    "step": 6,
    "rows": 40,
    "regions": {"passed sometimes": 30, "never drawn": 10},
    "never_drawn": 10,
    "by_domain": {"code": {"rows": 40, "never_drawn": 10, "pass_rate": 0.5}},
    "sentence": "…",
}
FIRED = {
    "event": "event",
    "kind": "regression",
    "name": "regression",
    "probe": "code",
    "measurement": 2,
    "stage": 2,
    "step": 4,
    "progress": 0.5,
    "value": 0.06,
    "bound": 0.03,
    "against": 0.02,
    "actions": ["rollback", "stop"],
    "times": 1,
    "done": {"rollback": {"step": 2}, "stop": {"said": "…"}},
}
SHARES = {
    "event": "shares",
    "stage": 2,
    "step": 4,
    "before": {"code": 0.5, "text": 0.5},
    "after": {"code": 0.6, "text": 0.4},
    "signal": {"code": 0.1, "text": None},
}
VALUED = {
    "event": "value",
    "step": 6,
    "rows": 0,
    "negative": 2,
    "not_valued": 1,
    "split_half": 0.7,
    "split_half_by_probe": {"code": 0.8, "text": None},
    "transfer": {"code": {"code": 0.2, "text": -0.1}},
    "why": "…",
}


@pytest.mark.parametrize("kind", EVENTS)
def test_a_ledgers_line_of_another_shape_is_named_by_report_and_diff(
    kind: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "run_pictures", NO_PICTURES)
    ledger = run / "curriculum" / "ledger.jsonl"
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    lines[-1:-1] = [RESUMED, ACT, SUSPECTS, FIRED, SHARES, MAP, PROMPTS, VALUED]  # this run has none of them
    place = max(i for i, line in enumerate(lines) if line["event"] == kind)  # the last stage's end says most
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    for key in lines[place]:
        for new in ODD:
            changed = [*lines[:place], {**lines[place], key: new}, *lines[place + 1 :]]
            (folder / "curriculum/ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in changed))
            for read in (lambda: write.write_report(folder), lambda: compare_runs(folder, run).lines()):
                said = told(read)
                assert said is None or ledger.name in said or "must hold files that fit together" in said


def test_files_that_are_whole_and_do_not_fit_together_are_told_as_that(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "run_content", lambda *_: {}["gone"])
    monkeypatch.setattr(write, "run_pictures", NO_PICTURES)
    with pytest.raises(DataError, match=r"must hold files that fit together .*\(KeyError: 'gone'\)"):
        write.write_report(run, tmp_path / "page.html")


def test_a_ledger_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must be readable, got No such file"):
        read_events(tmp_path / "ledger.jsonl")


def test_a_damaged_score_file_is_left_out_and_the_page_says_so(run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    path = folder / "curriculum/scores/mtld.parquet"
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(bytes(data))
    facts = read_run(folder)
    assert list(facts.scores) == ["length", "loss"]
    assert any("mtld.parquet is left out of this page" in warning for warning in facts.warnings)


def test_no_name_or_file_becomes_markup_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "run_pictures", NO_PICTURES)
    evil = 'x"><img src=x onerror=alert(1)>$\\frac{'
    folder = make_run(tmp_path / "run <script>alert(1)</script>", stages=2, rows=12)
    ledger = folder / "curriculum" / "ledger.jsonl"
    text = ledger.read_text().replace('"arithmetic"', json.dumps(evil)).replace('"separated"', json.dumps(EVIL))
    ledger.write_text(text)
    page = write.write_report(folder).read_text()
    for forbidden in ("<script>alert", "<script>document", "<img src=x", "<img src=http"):
        assert forbidden not in page
