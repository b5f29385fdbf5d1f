"""What is decided from the trainer's settings where several processes train."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.utils import DistributedType

from campus_tune.model import compat
from campus_tune.model.batches import BATCH_TOKENS, BATCH_TOKENS_CPU
from campus_tune.model.measure import FEWEST_TOKENS, LossMeter, share
from campus_tune.model.peers import Peers
from campus_tune.words.errors import TrainerError


def trainer(
    world: int = 1, *, across: bool = True, accepts: bool = True, fsdp: bool = False, version: int = 2
) -> SimpleNamespace:
    return SimpleNamespace(
        model_accepts_loss_kwargs=accepts,
        compute_loss_func=None,
        args=SimpleNamespace(world_size=world, average_tokens_across_devices=across),
        is_fsdp_enabled=fsdp,
        accelerator=SimpleNamespace(is_fsdp2=fsdp and version == 2, distributed_type=DistributedType.NO),
    )


@pytest.mark.parametrize(
    ("settings", "counted"),
    [
        ({}, True),
        ({"across": False}, True),  # one process has all the tokens of its step
        ({"world": 2}, True),
        ({"world": 2, "across": False}, False),
        ({"accepts": False}, False),
    ],
)
def test_a_loss_that_each_process_normalises_by_itself_is_not_one_over_the_step(
    settings: dict[str, Any], counted: bool
) -> None:
    assert compat.counts_tokens_of_the_step(trainer(**settings)) is counted


def test_a_short_step_is_refused_where_processes_normalise_by_themselves_and_says_why() -> None:
    compat.refuse_masked_batches(trainer(4), last_rows=2, world=4)
    compat.refuse_masked_batches(trainer(4, across=False), last_rows=4, world=4)
    with pytest.raises(TrainerError, match=r"got 2: the loss is a mean per process \(average_tokens_across"):
        compat.refuse_masked_batches(trainer(4, across=False), last_rows=2, world=4)
    with pytest.raises(TrainerError, match=r"4 processes, got 2: this model's loss is a mean per micro batch"):
        compat.refuse_masked_batches(trainer(4, accepts=False), last_rows=2, world=4)


def test_fsdp1_is_refused_with_the_line_to_write() -> None:
    compat.refuse_kind_of_launch(trainer(2))
    compat.refuse_kind_of_launch(trainer(2, fsdp=True))
    with pytest.raises(TrainerError, match=r"FSDP must be version 2 .* got version 1.*Write fsdp_version: 2"):
        compat.refuse_kind_of_launch(trainer(2, fsdp=True, version=1))


@pytest.mark.parametrize(("kind", "why"), [("MEGATRON_LM", "its processes share rows"), ("XLA", "no run on TPUs")])
def test_a_kind_of_launch_that_a_curriculum_cannot_serve_is_refused(kind: str, why: str) -> None:
    other = trainer(2)
    other.accelerator.distributed_type = DistributedType(kind)
    with pytest.raises(TrainerError, match=f"must be MULTI_GPU, FSDP or DEEPSPEED with .* got {kind}: {why}"):
        compat.refuse_kind_of_launch(other)


def test_parameters_that_zero_3_has_taken_away_are_counted() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    model[0].requires_grad_(False)
    assert compat.parameter_counts(model) == (26, 10)
    for parameter in model.parameters():
        parameter.ds_numel, parameter.data = parameter.numel(), torch.empty(0)
    assert compat.parameter_counts(model) == (26, 10)


def test_other_models_are_loaded_whole_and_the_settings_of_sharding_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.integrations import deepspeed as zero

    class Stage3:
        config: Any = None

        def is_zero3(self) -> bool:
            return True

    ours = Stage3()
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "true")
    monkeypatch.setattr(zero, "_hf_deepspeed_config_weak_ref", None)
    zero.set_hf_deepspeed_config(ours)
    with pytest.raises(KeyError, match="inside"), compat.loaded_whole():  # noqa: PT012  # what is inside counts
        assert not zero.is_deepspeed_zero3_enabled()
        assert "FSDP_CPU_RAM_EFFICIENT_LOADING" not in os.environ
        raise KeyError("inside")
    assert zero.is_deepspeed_zero3_enabled()
    assert os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] == "true"


@pytest.mark.parametrize("n", range(8))
@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_every_rank_has_as_many_batches_and_together_they_have_all(n: int, world: int) -> None:
    batches = list(range(n))
    shares = [share(batches, Peers(rank, world)) for rank in range(world)]
    assert {len(mine) for mine in shares} == {-(-n // world)}
    assert {batch for mine in shares for batch in mine} == set(batches)


@pytest.mark.parametrize(
    ("device", "world", "tokens", "bound"),
    [
        ("cpu", 4, 40_000, BATCH_TOKENS_CPU),  # on CPUs losses come from the same batches on any number of processes
        ("cuda", 1, 100, BATCH_TOKENS),
        ("cuda", 4, 10_001, 2501),
        ("cuda", 4, 100, FEWEST_TOKENS),
        ("cuda", 4, 10**6, BATCH_TOKENS),
    ],
)
def test_on_accelerators_few_rows_are_shared_among_all_ranks(device: str, world: int, tokens: int, bound: int) -> None:
    rows = np.arange(2)
    lengths = np.array([tokens // 2, tokens - tokens // 2])
    meter = LossMeter(lambda: None, None, None, lengths, peers=Peers(0, world), what="measuring")  # type: ignore[arg-type]
    assert meter.token_bound(SimpleNamespace(device=torch.device(device)), rows) == bound  # type: ignore[arg-type]
