from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from campus_tune.words.types import Json
from tests.distributed.ranks import PATIENT, Report, Warm
from tests.distributed.told import first_difference, last_step, ledger, lines, outcome
from tests.run.tiny_run import task_rows

RECIPE: Json = {"metrics": ["length", "mtld", "loss"], "stages": 4, "handover": 1.0, "budget": 2.0}
RECIPE |= {"selector": "lowest_perplexity"}
RUN: Json = {"config": RECIPE, "n": 64, "per_device_train_batch_size": 4, "patience": 80, "saves": [3]}
STEPS = 8
SOON = 40.0  # seconds, of which a quiet machine needs three; the process group would wait for 80


def live(warm: Warm, out: str, **more: Any) -> Report:
    """One life of a run on two processes."""
    return warm.run("train", 2, out=out, resume=Path(out).exists(), **{**RUN, **more})


@pytest.fixture(scope="module")
def calm(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Json:
    """The outcome of the run that nothing befalls."""
    out = str(tmp_path_factory.mktemp("calm") / "run")
    return outcome(out, live(warm, out).ok)


# -- a rank fails ------------------------------------------------------------------------------------------------------


def assert_ended_soon(report: Report, activity: str) -> None:
    """Every rank has ended by itself, and somebody said in which activity."""
    assert not report.timed_out, report.told()
    assert all(code not in (0, -15) for code in report.codes), report.told()
    assert report.lingered < SOON
    said = [text for text in report.stderr if re.search(rf"rank \d of 2 .*while {activity}", text)]
    assert said, report.told()


@pytest.mark.parametrize(
    ("activity", "on", "how"),
    [
        ("training", 1, "raise"),
        ("training", 0, "kill"),
        ("deciding", 1, "raise"),
        ("deciding", 0, "kill"),
        ("choosing", 0, "raise"),
    ],
)
def test_a_rank_that_fails_ends_the_job_soon_and_it_can_go_on(
    warm: Warm, calm: Json, tmp_path: Path, activity: str, on: int, how: str
) -> None:
    out = str(tmp_path / "run")
    fail = {"activity": activity, "on": on, "how": how, "step": 4}
    report = live(warm, out, fail=fail, term_after=PATIENT)
    assert_ended_soon(report, "deciding" if activity == "choosing" else activity)
    if how == "raise":
        assert "the cat has eaten the memory" in report.stderr[on]
    assert ledger(out)  # every line is whole
    assert last_step(out) == "checkpoint-3"
    again = live(warm, out).ok
    assert again.results[0]["first"] == 3
    assert first_difference(outcome(out, again), calm) is None


@pytest.mark.parametrize(("on", "how"), [(1, "raise"), (1, "kill"), (0, "kill")])
def test_a_rank_that_fails_while_scoring_leaves_nothing_that_counts(
    warm: Warm, tmp_path: Path, on: int, how: str
) -> None:
    out = str(tmp_path / "run")
    report = live(warm, out, fail={"activity": "scoring", "on": on, "how": how}, term_after=PATIENT)
    assert_ended_soon(report, "scoring")
    assert last_step(out) is None
    assert not lines(out, "decision")


def test_a_rank_that_hangs_ends_the_job_within_the_groups_timeout(warm: Warm, tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    report = live(warm, out, fail={"activity": "scoring", "on": 1, "how": "hang"}, patience=5)
    assert report.codes == [1, 128 + 15], report.told()  # rank 0 gives up, the agent ends rank 1
    assert report.seconds < 5 + SOON
    assert re.search(r"PeerError: rank 0 of 2 lost another process while scoring", report.stderr[0]), report.told()
    assert "rank 1 of 2 was told to stop (SIGTERM) while scoring" in report.stderr[1]


def test_a_helper_of_a_rank_that_is_ended_does_not_end_the_rank(warm: Warm, tmp_path: Path) -> None:
    report = live(warm, str(tmp_path / "run"), saves=[], helper=True).ok
    assert not [text for text in report.stderr if "was told to stop" in text]


# -- ranks that are not alike ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "words"),
    [
        pytest.param({"train": list(task_rows(64, seed=2))}, "training rows", id="rows"),
        pytest.param({"train": list(reversed(task_rows(64)))}, "training rows", id="the same rows in another sequence"),
        pytest.param({"config": {**RECIPE, "mix": 0.3}}, "mix", id="recipe"),
        pytest.param({"probes": 12}, "probe", id="probes"),
        pytest.param({"num_train_epochs": 2}, "steps", id="steps"),
        pytest.param({"per_device_train_batch_size": 2}, "batch", id="batch"),
    ],
)
def test_ranks_that_were_started_differently_are_stopped_and_named(
    warm: Warm, tmp_path: Path, other: Json, words: str
) -> None:
    out = str(tmp_path / "run")
    report = live(warm, out, probes=10, by_rank={"1": other}, term_after=PATIENT)
    assert report.codes == [1, 1], report.told()
    assert report.lingered < SOON
    for said in report.stderr:
        last = said.strip().splitlines()[-1]
        assert words in last, report.told()
        assert re.search(r"rank 1\b", last), report.told()
    assert not (Path(out) / "curriculum" / "ledger.jsonl").exists()


# -- a rank without a disk, and settings of accelerate -----------------------------------------------------------------


def test_a_rank_that_cannot_write_takes_part_where_only_rank_0_writes(warm: Warm, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    out, nowhere = str(tmp_path / "run"), str(tmp_path / "file" / "run")
    report = live(warm, out, saves=[], by_rank={"1": {"out": nowhere}}).ok
    assert report.results[1]["written"] == []
    assert lines(out, "end")


def test_a_rank_that_cannot_write_its_part_of_a_checkpoint_says_so(warm: Warm, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    out, nowhere = str(tmp_path / "run"), str(tmp_path / "file" / "run")
    report = live(warm, out, by_rank={"1": {"out": nowhere}}, term_after=PATIENT)
    assert_ended_soon(report, "saving")
    assert nowhere in report.stderr[1]


def test_dispatching_is_refused_by_name(warm: Warm, tmp_path: Path) -> None:
    report = live(warm, str(tmp_path / "run"), accelerator_config={"dispatch_batches": True})
    assert 1 in report.codes
    assert any(re.search(r"TrainerError: .*dispatch_batches", text) for text in report.stderr), report.told()
