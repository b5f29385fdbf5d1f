"""`eval/speed.py` and `.ci/bench`: what is said of planted ratios, and how the script is called."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.words.errors import DataError
from campus_tune.words.types import Json
from eval import bench_start, speed

ROOT = Path(__file__).parents[1]
THEN = {"plan: orders": 3.0, "plan: epoch": 5.0, "step: plain": 0.02}
Ask = Callable[[Sequence[str]], Mapping[str, float]]


def planted(*answers: Mapping[str, float]) -> tuple[Ask, list[list[str]]]:
    """What stands for a measurement: one answer after the other, of the parts asked for; and what it was asked."""
    asked: list[list[str]] = []

    def ask(parts: Sequence[str]) -> Mapping[str, float]:
        answer = answers[len(asked)]
        asked.append(list(parts))
        return {name: ratio for name, ratio in answer.items() if speed.part_of(name) in parts}

    return ask, asked


def entry(ratios: Mapping[str, float], **more: object) -> Json:
    return {"date": "2026-01-02", "machine": "m", "versions": {}, "ratios": dict(ratios), **more}


def bench(
    file: Path, capsys: pytest.CaptureFixture[str], *answers: Mapping[str, float], words: Sequence[str] = ()
) -> tuple[int, str, list[list[str]]]:
    """(Exit code, what was said, which parts were measured in which sequence)."""
    ask, asked = planted(*answers)
    code = speed.main(list(words), file=file, ask=ask)
    return code, capsys.readouterr().out, asked


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "speed.json"
    path.write_text(json.dumps([entry({"plan: orders": 1.0}, date="2025-01-01"), entry(THEN)]), "utf-8")
    return path


def test_what_is_as_fast_as_then_or_faster_passes(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said, asked = bench(file, capsys, {"plan: orders": 3.5, "plan: epoch": 2.5, "step: plain": 0.02})
    assert (code, len(asked)) == (0, 1)
    assert "2026-01-02" in said  # beside the last entry, and no earlier one
    assert [line.split()[-1] for line in said.splitlines()[1:4]] == ["before", "better", "before"]
    assert "100% better" in said
    assert "0 of 3 are worse by more than 20%" in said
    assert len(json.loads(file.read_text())) == 2


def test_what_is_worse_three_times_is_told_and_fails(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow = {**THEN, "plan: epoch": 6.5}
    code, said, asked = bench(file, capsys, slow, {**slow, "plan: epoch": 7.0}, {**slow, "plan: epoch": 6.4})
    assert code == 1
    assert asked == [list(speed.PARTS), ["plan"], ["plan"]]  # only what looked worse is measured again
    assert "30% WORSE" in said
    assert "1 of 3 are worse by more than 20%" in said


def test_what_looks_worse_once_is_noise(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said, _ = bench(file, capsys, {**THEN, "step: plain": 0.2}, THEN, THEN)
    assert (code, "WORSE" in said) == (0, False)


def test_a_measurement_that_is_gone_and_a_new_one_are_told_and_do_not_fail(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = {"plan: orders": 3.0, "step: plain": 0.02, "rows: reading": 2.0}
    code, said, _ = bench(file, capsys, now)
    assert code == 0
    assert [line.split()[-1] for line in said.splitlines()[1:5]] == ["before", "measured", "before", "new"]


def test_only_the_parts_asked_for_are_measured_and_compared(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said, asked = bench(file, capsys, THEN, words=["--parts", "step"])
    assert (code, asked) == (0, [["step"]])
    assert "plan" not in said


def test_keep_adds_an_entry_in_which_what_was_not_measured_stays(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, _ = bench(file, capsys, {"step: plain": 0.0123456}, words=["--parts", "step", "--keep"])
    assert code == 0
    *before, last = json.loads(file.read_text("utf-8"))
    assert [one["ratios"] for one in before] == [{"plan: orders": 1.0}, THEN]
    assert last["ratios"] == {**THEN, "step: plain": 0.0123}
    assert {"campus_tune", "numpy", "torch", "trl"} <= last["versions"].keys()
    assert last["date"] > "2026"
    assert "cores" in last["machine"]
    assert bench(file, capsys, last["ratios"])[0] == 0


def test_keep_of_something_worse_writes_it_and_still_fails(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow = {**THEN, "step: plain": 0.05}
    assert bench(file, capsys, slow, slow, slow, words=["--keep"])[0] == 1
    assert json.loads(file.read_text("utf-8"))[-1]["ratios"] == slow


def test_without_an_entry_nothing_is_compared_and_keep_writes_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "none.json"
    code, said, _ = bench(path, capsys, THEN)
    assert code == 0
    assert "Nothing to compare with: --keep writes the first entry." in said
    assert not path.exists()
    bench(path, capsys, THEN, words=["--keep"])
    assert [one["ratios"] for one in json.loads(path.read_text("utf-8"))] == [THEN]


def test_other_versions_than_then_are_named(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(json.dumps([entry(THEN, versions={"numpy": "0.1", "torch": speed.versions(["torch"])["torch"]})]))
    said = bench(file, capsys, THEN)[1]
    assert "other versions than then: numpy " in said
    assert "torch" not in said


@pytest.mark.parametrize("text", ["{}x", '[{"ratio": {}}]', '[{"ratios": {"a: b": 0}}]', '{"ratios": 3}', "[3]"])
def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "speed.json"
    path.write_text(text, "utf-8")
    with pytest.raises(DataError, match=r"speed\.json must be a list of entries with ratios above 0, got .*from git"):
        speed.read_entries(path)


@given(st.floats(1e-3, 1e3), st.floats(0.1, 10))
def test_worse_is_by_more_than_a_fifth_and_never_both_worse_and_better(before: float, factor: float) -> None:
    line = speed.Line("a: b", before, before * factor)
    assert line.is_worse == (before * factor > 1.2 * before)
    assert line.is_worse == line.verdict.endswith("WORSE")
    assert line.verdict.endswith("better") <= (factor < 1)


def test_ratios_are_of_the_same_turn_and_the_middle_one_counts() -> None:
    seconds = {"sort": [1.0, 10.0, 2.0], "orders": [3.0, 20.0, 8.0]}
    assert speed.beside("sort", seconds) == {"orders": 3.0}
    turns: list[str] = []
    speed.in_turns({"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, 2)
    assert turns == ["a", "b"] * 3


def test_a_benchmark_that_fails_says_which_and_why() -> None:
    with pytest.raises(
        DataError, match=r"`python -m eval\.no_such_bench --json` must end with 0, got 1: .*no_such_bench"
    ):
        speed.last_line("no_such_bench", "--json")


def test_every_entry_that_is_kept_can_be_compared_with() -> None:
    for one in speed.read_entries(speed.FILE):
        assert {speed.part_of(name) for name in one["ratios"]} <= set(speed.PARTS)
        assert {"date", "machine", "versions"} <= one.keys()


# -- bench_start ------------------------------------------------------------------------------------------------------


def test_a_start_is_compared_with_numpys_of_the_same_turn() -> None:
    took = {name: [bench_start.Took(cpu, 9.0) for cpu in seconds] for name, seconds in PLANTED.items()}
    assert bench_start.ratios(took) == {"help": 2.0}


PLANTED = {"numpy": [0.1, 0.2, 0.1], "help": [0.2, 0.4, 0.9]}


@pytest.mark.parametrize(("name", "seconds", "said"), [
    ("help", 0.25, "≤ 0.25 s: reached"), ("help", 0.26, "≤ 0.25 s: missed"), ("trl", 9.0, "")
])  # fmt: skip
def test_a_goal_is_reached_or_missed(name: str, seconds: float, said: str) -> None:
    assert bench_start.verdict(name, seconds) == said


def test_processes_are_started_and_their_seconds_counted(tmp_path: Path) -> None:
    took = bench_start.start(["-c", "sum(range(10**6))"], ROOT, tmp_path)
    assert 0 < took.cpu < took.wall + 1
    assert set(bench_start.commands(tmp_path)) >= {bench_start.BASE, *bench_start.GOALS}


# -- .ci/bench, with a python that only says how it was called --------------------------------------------------------

PYTHON = """#!/usr/bin/env bash
case "$*" in
    *sys.prefix*) echo "$VIRTUAL_ENV" ;;
    "-m eval.speed"*) echo "speed ${*:3}"; exit "$WORSE" ;;
esac
"""


@pytest.mark.parametrize("worse", [0, 1])
def test_the_script_sets_itself_up_and_ends_as_the_comparison_does(tmp_path: Path, worse: int) -> None:
    for name in ("pyproject.toml", "tests/constraints.txt", "tests/environment.sh", ".ci/bench"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(PYTHON)
    python.chmod(0o755)
    environment = {**os.environ, "VIRTUAL_ENV": str(tmp_path), "WORSE": str(worse)}
    command = ["bash", str(tmp_path / ".ci/bench"), "--parts", "plan", "--keep"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (worse, "speed --parts plan --keep")
    assert os.access(ROOT / ".ci/bench", os.X_OK)
