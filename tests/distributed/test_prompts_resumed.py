"""Runs that are driven by reward, on two processes that are stopped and go on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from campus_tune.words.types import Json
from tests.distributed.ranks import Kill, Warm
from tests.distributed.told import first_difference, outcome

TRAIN = "tests.distributed.prompt_runs:train"
CUT: Json = {"per_device_train_batch_size": 4, "train": 24, "max_steps": 6, "saves": [3, 4], "steps_per_generation": 4}
MIDDLE: Json = {"metrics": ["length"], "stages": 3, "thin": {"how": "top", "by": "middle", "keep": 0.5}}


@pytest.mark.parametrize(
    ("kind", "kill"),
    [
        pytest.param("grpo", None, id="stopped"),
        pytest.param("rloo", Kill("saving", n=4, ranks=[1]), id="a rank killed in a save"),
    ],
)
def test_two_processes_stopped_inside_a_generation_go_on_each_with_its_part(
    warm: Warm, tmp_path: Path, kind: str, kill: Kill | None
) -> None:
    settings = {**CUT, "kind": kind, "config": MIDDLE, "lora": kind == "rloo"}
    calm = warm.run(TRAIN, 2, out=str(tmp_path / "calm"), **settings).ok
    out = str(tmp_path / "stopped")
    kill = kill and replace(kill, path=out)
    first = warm.run(TRAIN, 2, out=out, stop=None if kill else 3, kill=kill, **settings)
    assert first.killed == (kill is not None)
    last = warm.run(TRAIN, 2, out=out, resume=True, **settings).ok
    assert first_difference(outcome(out, last), outcome(str(tmp_path / "calm"), calm)) is None
    names = {path.name for path in (tmp_path / "stopped" / "checkpoint-3").glob("campus_generation-*")}
    assert names == {f"campus_generation-{rank}.{kind}" for rank in range(2) for kind in ("json", "safetensors")}
    for rank in range(2):  # step 3 is half of the second generation: no further one before the third
        assert last.results[rank]["asked"] == calm.results[rank]["asked"][2:]


def test_a_process_that_is_killed_three_times_goes_on_as_in_peace(warm: Warm, tmp_path: Path) -> None:
    settings = {**CUT, "config": MIDDLE, "per_device_train_batch_size": 8, "saves": [1, 3, 5]}
    calm = warm.run(TRAIN, 1, out=str(tmp_path / "calm"), **settings).ok
    out = str(tmp_path / "killed")
    beats = f"{out}.beats"
    for place, kill in enumerate(
        [Kill("lines", beats, 2), Kill("saving", out, 3), Kill("lines", beats, 6, delay=0.01)]
    ):
        assert warm.run(TRAIN, 1, out=out, kill=kill, resume=place > 0, **settings).killed
    last = warm.run(TRAIN, 1, out=out, resume=True, **settings).ok
    assert first_difference(outcome(out, last), outcome(str(tmp_path / "calm"), calm)) is None


def test_another_number_of_processes_is_refused_on_every_rank_and_a_damaged_part_by_its_rank(
    warm: Warm, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert not any(warm.run(TRAIN, 2, out=str(out), stop=3, **CUT).codes)
    alone = warm.run(TRAIN, 1, out=str(out), resume=True, **{**CUT, "per_device_train_batch_size": 8})
    assert "Its answers are shared out over 2 processes: start as many" in alone.told()
    (out / "checkpoint-3" / "campus_generation-1.safetensors").write_bytes(b"short")
    both = warm.run(TRAIN, 2, out=str(out), resume=True, **CUT)
    assert both.codes == [1, 1]
    assert "campus_generation-1.safetensors has 5 bytes" in both.told()
    assert "(of rank 1)" in both.told()
