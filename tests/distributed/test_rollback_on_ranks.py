"""Weights that go back on several ranks: rank 0 alone has the files, and all of them end with the same numbers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from campus_tune.words.types import Json
from tests.distributed.ranks import Warm

HERE = "tests.distributed.test_rollback_on_ranks"


def roll_back(out: str, *, adafactor: bool = False, own_folders: bool = False, **settings: Any) -> Json:
    """Train without a curriculum: keep behind step 1, spoil rank 1 behind step 3 and roll back, train on.

    Returns:
        kept, spoilt, back, end: digests of weights and moments; files: that this rank left in its folder.
    """
    from campus_tune.model.peers import Peers
    from campus_tune.run.best_weights import BestWeights
    from tests.run.test_best_weights import EQUAL, RULES, measured
    from tests.run.tiny_run import tiny_trainer

    rank = os.environ.get("RANK", "0")
    folder = Path(f"{out}-{rank}" if own_folders else out) / "curriculum"
    seen: Json = {}

    def behind(step: int) -> None:
        best: Any = seen.get("best")
        if step == 0:
            seen["best"] = BestWeights.of(trainer, RULES, Peers.of(trainer), folder)
            return
        if step == 1:
            best.noted(measured(1.0), EQUAL)
            seen["kept"] = digest(trainer)
        if step == 3:
            assert best.noted(measured(1.0, 2.0), EQUAL) is None
            if rank == "1":
                spoil(trainer)
            seen["spoilt"] = digest(trainer)
            best.roll_back()
            seen["back"] = digest(trainer)

    optim = {"optim": "adafactor"} if adafactor else {}
    trainer = tiny_trainer(Path(out), config=False, callbacks=[_behind(behind)], **optim, **settings)
    trainer.train()
    found = sorted(path.name for path in folder.rglob("*.safetensors"))
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    kind = trainer.accelerator.distributed_type.value
    del seen["best"]
    return {**seen, "end": digest(trainer), "files": found, "losses": losses, "kind": kind}


def refuse(out: str, *, full: bool) -> str:
    """What each rank is told where rank 0's disk has no room, or where its files were damaged meanwhile."""
    import shutil

    from campus_tune.model.peers import Peers
    from campus_tune.run.best_weights import BestWeights
    from campus_tune.words.errors import CampusError
    from tests.run.test_best_weights import EQUAL, RULES, measured
    from tests.run.tiny_run import tiny_trainer

    said: list[str] = []

    def behind(step: int) -> None:
        if step:
            return
        if full and os.environ["RANK"] == "0":
            shutil.disk_usage = lambda path: shutil._ntuple_diskusage(1, 1, 0)  # type: ignore[assignment] # noqa: ARG005
        try:
            best: Any = BestWeights.of(trainer, RULES, Peers.of(trainer), Path(out) / "curriculum")
            best.noted(measured(1.0), EQUAL)
            if os.environ["RANK"] == "0":
                next((Path(out) / "curriculum" / "best").glob("*-optimizer*")).write_bytes(b"")
            best.roll_back()
        except CampusError as error:
            said.append(str(error))

    trainer = tiny_trainer(Path(out), config=False, callbacks=[_behind(behind)], max_steps=1)
    trainer.train()
    return said[0]


def _behind(act: Any) -> Any:
    from transformers import TrainerCallback

    class Behind(TrainerCallback):  # type: ignore[misc]  # untyped here
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, control, kwargs
            act(state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, control, kwargs
            act(state.global_step)

    return Behind()


def spoil(trainer: Any) -> None:
    """Other numbers than those of the other ranks, also where no step would notice."""
    import torch

    held: Mapping[Any, Json] = trainer.optimizer.optimizer.state
    with torch.no_grad():
        for parameter in trainer.optimizer.optimizer.state:
            parameter.add_(1.0)
            for key, value in held[parameter].items():
                held[parameter][key] = value + 1


def digest(trainer: Any) -> str:
    """Of all weights and of all that the optimizer holds, bit for bit."""
    import torch

    whole = hashlib.sha256()
    values: list[Any] = [value for _, value in sorted(trainer.model.state_dict().items())]
    for group in trainer.optimizer.optimizer.param_groups:
        for parameter in group["params"]:
            values += [value for _, value in sorted(trainer.optimizer.optimizer.state.get(parameter, {}).items())]
    for value in values:
        is_tensor = isinstance(value, torch.Tensor)
        whole.update(value.detach().contiguous().numpy().tobytes() if is_tensor else repr(value).encode())
    return whole.hexdigest()


RUN: Json = {"n": 48, "per_device_train_batch_size": 2}


@pytest.mark.parametrize(
    "settings",
    [{}, {"lora": True}, {"gradient_accumulation_steps": 2, "n": 96}, {"adafactor": True}],
    ids=["all weights", "lora", "two micro batches", "python numbers"],
)
def test_every_rank_goes_back_to_the_same_bits(settings: Json, warm: Warm, tmp_path: Path) -> None:
    report = warm.run(f"{HERE}:roll_back", 2, out=str(tmp_path / "run"), own_folders=True, **{**RUN, **settings}).ok
    first, second = report.results
    assert first["kind"] == "MULTI_CPU"
    if not settings.get("adafactor"):  # its running factors are of no matter here
        assert first["kept"] == second["kept"]
    assert second["spoilt"] != first["spoilt"] != first["kept"]
    assert first["back"] == first["kept"]
    assert second["back"] == first["back"]
    assert first["end"] == second["end"]
    assert first["losses"] == second["losses"]
    assert first["files"] == ["measurement-00000-optimizer.safetensors", "measurement-00000.safetensors"]
    assert second["files"] == []  # it has no disk in common with the first, and needs none


@pytest.mark.parametrize("full", [True, False], ids=["no room", "damaged"])
def test_what_is_wrong_on_rank_0s_disk_is_said_on_every_rank(full: bool, warm: Warm, tmp_path: Path) -> None:
    said = warm.run(f"{HERE}:refuse", 2, out=str(tmp_path / "run"), full=full).ok.results
    assert said[0] == said[1]
    assert ("must have room" if full else "must hold the weights that were kept there") in said[0]
