"""`eval/bench_run.py`: paired ratios by hand, goals as they are met and missed, turns that are kept, and one run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from campus_tune.words.types import Json
from eval import bench_run
from eval.bench_run import Job, interval, kept, ratios, rows_of, tell, train, verdicts

JOB = Job("plain", "spread", 0, "", 64, 4, 2, 1, "")


def took(cpu: float, *, peak: float = 1e9, own: int = 100, padded: int = 150, steps: int = 2) -> Json:
    return {
        "wall": 2 * cpu,
        "cpu": cpu,
        "peak": peak,
        "own": own,
        "padded": padded,
        "largest": 40,
        "steps": steps,
        "loss": 1.0,
    }


def test_the_interval_is_students_of_the_logarithms() -> None:
    mean, low, high = interval([0.5, 0.6, 0.55])
    logs = np.log([0.5, 0.6, 0.55])
    half = stats.t.ppf(0.975, 2) * logs.std(ddof=1) / math.sqrt(3)
    expected = [math.exp(logs.mean() + shift) for shift in (0.0, -half, half)]
    assert (mean, low, high) == pytest.approx(tuple(expected))


def test_a_ratio_is_of_one_turn_and_a_turn_that_lacks_an_arm_has_none() -> None:
    runs = {"plain": {0: took(10.0), 1: took(20.0), 2: took(1.0)}, "shuffle": {0: took(6.0), 1: took(10.0)}}
    assert ratios(runs, "shuffle", "cpu") == [0.6, 0.5]
    assert ratios(runs, "default", "cpu") == []


def test_fewer_steps_are_no_saving_nor_are_fewer_tokens() -> None:
    runs = {"plain": {0: took(10.0)}, "shuffle": {0: took(6.0, steps=1)}}
    assert ratios(runs, "shuffle", "cpu") == [1.2]
    packed = {"packed": {0: took(10.0)}, "translated": {0: took(10.0, own=200)}, "plain": {0: took(1.0)}}
    assert ratios(packed, "translated", "cpu", "own") == [0.5]


@pytest.mark.parametrize(
    ("seconds", "memory", "words"),
    [
        ((5.0, 5.1, 4.9), 1.0, ("reached", "reached")),
        ((5.0, 6.9, 4.9), 1.0, ("missed", "reached")),
        ((7.0, 7.1, 6.9), 1.1, ("missed", "missed")),
    ],
)
def test_a_goal_is_reached_by_the_bound_of_the_ratio(
    seconds: tuple[float, ...], memory: float, words: tuple[str, str]
) -> None:
    runs = {
        "plain": {turn: took(10.0) for turn in range(3)},
        "default": {turn: took(cpu, peak=memory * 1e9) for turn, cpu in enumerate(seconds)},
    }
    table, numbers = tell(runs)
    assert numbers["default"]["padding"] == pytest.approx(1 / 3)
    wall, cpu, peak = verdicts("mix", numbers)
    assert "default, cpu: at most 0.6 × plain TRL" in cpu
    assert [line.rpartition(" ")[2] for line in (wall, cpu, peak)] == [words[0], words[0], words[1]]
    assert table.splitlines()[0].split()[:2] == ["arm", "turns"]
    assert verdicts("spread", numbers) == [peak]  # no goal was set for these rows
    assert verdicts("mix", tell({"default": {0: took(1.0)}, "plain": {0: took(1.0)}})[1]) == []  # one turn says nothing


def test_turns_go_through_the_arms_both_ways_and_the_next_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []

    class Ended:
        returncode, stderr = 0, ""
        stdout = json.dumps(took(1.0))

    def run(command: list[str], **options: Any) -> Ended:
        job = Job(**json.loads(command[-1]))
        ran.append(f"{job.arm} {job.turn} {Path(options['env']['PYTHONPATH']).name}")
        return Ended()

    monkeypatch.setattr(bench_run.subprocess, "run", run)
    words = ["bench_run", "--sets", "equal", "--keep", str(tmp_path), "--arms", "plain", "shuffle_before"]
    monkeypatch.setattr("sys.argv", [*words, "--before", "old", "--turns", "2"])
    here = Path(bench_run.__file__).parents[1].name
    bench_run.main()
    assert ran == [f"plain 0 {here}", "shuffle_before 0 old", "shuffle_before 1 old", f"plain 1 {here}"]
    monkeypatch.setattr("sys.argv", [*words, "--before", "old", "--turns", "3"])
    bench_run.main()
    assert ran[4:] == [f"plain 2 {here}", "shuffle_before 2 old"]
    assert len(kept(tmp_path, [Job("plain", "equal", 0, "", 512, 8, 4, 1, "")])["plain"]) == 3
    assert capsys.readouterr().out.count("tiny-equal-512x1-8x4\n") == 2


def test_rows_are_the_same_for_all_arms_of_a_turn_and_others_in_the_next() -> None:
    rows, probes = rows_of(JOB, 100)
    assert (rows, probes) == rows_of(Job(**{**vars(JOB), "arm": "default"}), 100)
    assert rows != rows_of(Job(**{**vars(JOB), "turn": 1}), 100)[0]
    assert (len(rows), len(probes)) == (64, bench_run.N_PROBES)
    equal, _ = rows_of(Job(**{**vars(JOB), "rows_of": "equal"}), 100)
    assert {len(row["input_ids"]) for row in equal} == {bench_run.MEAN}


def test_one_run_of_ours_and_one_of_trls(capsys: pytest.CaptureFixture[str]) -> None:
    plain, ours = (train(Job(**{**vars(JOB), "arm": arm, "rows": 24})) for arm in ("plain", "shuffle"))
    assert (plain["steps"], plain["own"]) == (ours["steps"], ours["own"])
    assert ours["padded"] < plain["padded"]
    assert ours["padding"]["tokens"] == [ours["own"], ours["padded"]]
    assert ours["audit"]["passed"] == ours["steps"] == 3
    capsys.readouterr()
