"""What of the trainer is refused: the same list for a YAML and for the arguments of a run."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from accelerate import DistributedType
from torch.nn import Linear
from transformers.trainer_pt_utils import AcceleratorConfig

from campus_tune.preview.check import check
from campus_tune.recipe.trainer_settings import REFUSALS, refused
from campus_tune.run.attach import refuse
from campus_tune.words.errors import TrainerError

BAD: list[tuple[str, Any, str]] = [
    ("packing", True, r"`packing` must be off with a curriculum, got True: .* campus: {batching: flat}"),
    ("dataloader_drop_last", None, "`dataloader_drop_last` must be True or False, got None. Set one of them."),
    ("train_sampling_strategy", "group_by_length", "must be left alone with a curriculum, got 'group_by_length'"),
    ("train_sampling_strategy", "batch_rebalance", "must be left alone with a curriculum, got 'batch_rebalance'"),
    ("dataset_streaming", True, r"must be off with a curriculum, got True: a stream has no rows .* Load it without"),
    ("streaming", True, r"must be off with a curriculum, got True: .*Dataset\.from_generator\(lambda: islice"),
    ("group_by_length", True, "`group_by_length` must be left alone with a curriculum, got True"),
    (
        "accelerator_config",
        {"dispatch_batches": True},
        r"`accelerator_config` must leave dispatch_batches off .*, got dispatch_batches: true: .*split_batches works",
    ),
]
GOOD: list[tuple[str, Any]] = [
    ("packing", False),
    ("dataloader_drop_last", True),
    ("train_sampling_strategy", "random"),
    ("train_sampling_strategy", "sequential"),
    ("padding_free", True),
    ("accelerator_config", {"split_batches": True}),
    ("accelerator_config", {"dispatch_batches": None}),
]


def trainer(**settings: Any) -> SimpleNamespace:
    """As much of a trainer as `refuse` looks at."""
    return SimpleNamespace(
        args=SimpleNamespace(**{"dataloader_drop_last": False, "n_gpu": 1, **settings}),
        callback_handler=SimpleNamespace(callbacks=[]),
        model=Linear(1, 1),
        data_collator=None,
        train_dataset=None,
        accelerator=SimpleNamespace(distributed_type=DistributedType.NO),
        is_fsdp_enabled=False,
    )


def test_every_refusal_is_tried_here() -> None:
    assert {refusal.setting for refusal in REFUSALS} == {setting for setting, _, _ in BAD}


@pytest.mark.parametrize(("setting", "value", "match"), BAD)
def test_what_the_run_refuses_check_refuses(setting: str, value: Any, match: str, tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=match) as caught:
        refuse(trainer(**{setting: value}))
    assert refused({setting: value}) == [str(caught.value)]
    shown = json.dumps(value).strip('"')
    (tmp_path / "recipe.yaml").write_text(f"{setting}: {shown}\ncampus: {{metrics: [length]}}\n")
    assert str(caught.value) in [finding.what for finding in check(tmp_path / "recipe.yaml")]


@pytest.mark.parametrize(("setting", "value"), GOOD)
def test_what_the_run_trains_check_lets_pass(setting: str, value: Any, tmp_path: Path) -> None:
    refuse(trainer(**{setting: value}))
    shown = json.dumps(value).strip('"')
    (tmp_path / "recipe.yaml").write_text(f"{setting}: {shown}\ncampus: {{metrics: [length]}}\n")
    assert not any(f"`{setting}`" in finding.what for finding in check(tmp_path / "recipe.yaml"))


def test_the_settings_object_that_transformers_makes_of_it_is_read_too() -> None:
    assert refused({"accelerator_config": AcceleratorConfig()}) == []
    (problem,) = refused({"accelerator_config": AcceleratorConfig(dispatch_batches=True)})
    assert "dispatch_batches: true" in problem


def test_settings_that_are_not_there_are_fine() -> None:
    assert refused({}) == []
