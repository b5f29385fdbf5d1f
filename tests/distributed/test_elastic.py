from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from campus_tune.words.types import Json
from tests.distributed.ranks import Kill, Report, Warm
from tests.distributed.told import choices, first_difference, last_step, lines, outcome, steps_of

RECIPE: Json = {"metrics": ["length", "mtld", "loss"], "stages": 3, "handover": 0.9, "budget": 2.0, "mix": 0.2}
RECIPE |= {"selector": "lowest_perplexity"}
BATCH, STEPS = 8, 16  # the last step of an epoch has 4 rows
RUN: Json = {"config": RECIPE, "probes": 10, "n": 60, "num_train_epochs": 2}


def live(warm: Warm, world: int, out: str, **more: Any) -> Report:
    """One life of a run, on so many processes."""
    settings = {**RUN, "per_device_train_batch_size": BATCH // world, **more}
    return warm.run("train", world, out=out, resume=Path(out).exists(), **settings)


# -- killed, and started again on as many ------------------------------------------------------------------------------


def test_a_job_killed_inside_a_stage_and_in_a_save_goes_on_as_if_it_had_not(warm: Warm, tmp_path: Path) -> None:
    calm, hunted = str(tmp_path / "calm"), str(tmp_path / "hunted")
    inside, sign = str(tmp_path / "inside"), str(tmp_path / "sign")
    # with dropout: every rank's random states are restored
    settings: Json = {"config": {**RECIPE, "stages": 1}, "lora": True, "saves": [3, 6, 9, 12]}
    expected = outcome(calm, live(warm, 2, calm, **settings).ok)
    assert expected["ledger"]

    first = live(warm, 2, hunted, kill=Kill("exists", inside), hold_step={"step": 4, "sign": inside}, **settings)
    assert first.killed, first.told()
    assert first.codes == [-9, -9]
    assert lines(hunted, "decision")[-1]["step"] == 0, "the kill is meant to be inside the first stage, of 8 steps"

    second = live(warm, 2, hunted, kill=Kill("exists", sign), hold_save={"step": 9, "sign": sign}, **settings)
    assert second.killed, second.told()
    assert second.codes == [-9, -9]
    assert (Path(hunted) / "checkpoint-9").is_dir()
    assert last_step(hunted) == "checkpoint-6"

    third = live(warm, 2, hunted, **settings).ok
    assert third.results[0]["first"] == 6
    assert first_difference(outcome(hunted, third), expected) is None
    assert [line["step"] for line in lines(hunted, "resumed")] == [3, 6]


# -- on other numbers of processes -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calm(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Report]:
    """The run on two processes, undisturbed: where it is, and what it told."""
    out = str(tmp_path_factory.mktemp("calm") / "run")
    return out, live(warm, 2, out, dropout=False).ok


@pytest.mark.parametrize("worlds", [(2, 1, 2), (1, 2), (2, 4)], ids=str)
def test_a_run_goes_on_with_the_same_rows_on_another_number_of_processes(
    warm: Warm, calm: tuple[str, Report], tmp_path: Path, worlds: tuple[int, ...]
) -> None:
    out, stops = str(tmp_path / "run"), [6, 11]  # inside a stage, and some steps after the checkpoint
    lives = []
    for place, world in enumerate(worlds):
        stop = stops[place] if place + 1 < len(worlds) else None
        lives.append(live(warm, world, out, stop=stop, saves=[4, 11], dropout=False).ok)
    assert [life.results[0]["first"] for life in lives] == [0, 4, 11][: len(worlds)]
    assert steps_of(*lives) == steps_of(calm[1])
    assert len(steps_of(*lives)) == STEPS
    assert choices(out) == choices(calm[0])
    told = [line["world"] for line in lines(out, "resumed")]
    assert told == [{"before": a, "now": b} for a, b in itertools.pairwise(worlds)]
    audit = lines(out, "end")[0]["audit"]
    assert audit["checked"] == audit["passed"] > 0


def test_another_global_batch_is_refused_with_the_numbers(warm: Warm, tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    assert live(warm, 2, out, stop=3, saves=[2]).ok
    before = (Path(out) / "curriculum" / "ledger.jsonl").read_bytes()
    refused = live(warm, 1, out, per_device_train_batch_size=BATCH // 2)
    assert refused.codes == [1]
    assert re.search(r"ResumeError: .*global batch.*8 .*4", refused.stderr[0]), refused.told()
    assert (Path(out) / "curriculum" / "ledger.jsonl").read_bytes() == before
