"""Trainers whose loss cannot be weighted are refused by name, and the advice is one that can be followed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer

from campus_tune.model.weighable import refuse_weights, why_not_weighted
from campus_tune.words.errors import TrainerError
from tests.run.other_models import with_prompts
from tests.run.plain_run import SHUFFLE, plain_trainer
from tests.run.tiny_run import tiny_trainer
from tests.run.witness import events

FOCAL = {**SHUFFLE, "weights": [{"name": "focal"}]}


def own_loss(outputs: Any, labels: Any, num_items_in_batch: Any) -> Any:
    return outputs.logits.float().square().mean() + 0 * labels.sum() / num_items_in_batch


class OwnLoss(Trainer):
    def compute_loss(self, model: Any, inputs: Any, num_items_in_batch: Any = None, **_: Any) -> Any:
        return model(**inputs, num_items_in_batch=num_items_in_batch).loss


class Scaled(OwnLoss):
    loss_is_scaled_for_ga = True


REFUSED: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "label smoothing": (
        {"label_smoothing_factor": 0.1},
        "`label_smoothing_factor` must be 0 with .* 0.1",
        {},
    ),
    "a loss function": (
        {"compute_loss_func": own_loss},
        "`compute_loss_func` must be .*own_loss",
        {"kind": Scaled},
    ),
    "a loss of the user's own": (
        {"kind": OwnLoss},
        r"counted over the answer tokens .* got another: OwnLoss.compute_loss .* \(loss_is_scaled_for_ga = True",
        {"kind": Scaled},
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_weighted_is_refused_at_once_and_the_advice_trains(name: str, tmp_path: Path) -> None:
    settings, says, advised = REFUSED[name]
    with pytest.raises(TrainerError, match=says):
        plain_trainer(tmp_path / "no", config=FOCAL, **settings)
    plain_trainer(tmp_path / "yes", config=FOCAL, **advised).train()
    assert events(tmp_path / "yes", "end")[0]["weights_audit"] == [7, 7]


def test_it_may_be_changed_until_training_begins(tmp_path: Path) -> None:
    trainer = plain_trainer(tmp_path, config=FOCAL)
    trainer.args.torch_compile = True
    with pytest.raises(TrainerError, match="`torch_compile` must be False with weights, got True"):
        trainer.train()
    trainer.args.torch_compile = False
    refuse_weights(trainer)


def test_prompt_learning_is_refused_and_a_lora_is_not(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=r"must not be one of prompt learning with weights.*Train a LoRA"):
        tiny_trainer(tmp_path / "no", n=8, config=FOCAL, model=with_prompts("prompt tuning"))
    tiny_trainer(tmp_path / "yes", n=8, config=FOCAL, lora=True).train()
    assert events(tmp_path / "yes", "end")[0]["weights_audit"] == [2, 2]


def test_ligers_fused_loss_is_refused_and_its_other_kernels_are_not(tmp_path: Path) -> None:
    trainer = plain_trainer(tmp_path, config=FOCAL)
    trainer.args.use_liger_kernel = True
    with pytest.raises(TrainerError, match=r"`use_liger_kernel` must leave .*\{fused_linear_cross_entropy: false\}"):
        refuse_weights(trainer)
    trainer.args.liger_kernel_config = {"fused_linear_cross_entropy": False}
    assert why_not_weighted(trainer) is None


class Silent(torch.nn.Module):
    """A model with a loss kernel: no logits."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner, self.config, self.accepts_loss_kwargs = inner, inner.config, True

    def forward(self, input_ids: Any, attention_mask: Any = None, labels: Any = None, **more: Any) -> Any:
        outputs = self.inner(input_ids, attention_mask=attention_mask, labels=labels, **more)
        outputs["logits"] = None
        return outputs


def test_a_kernel_without_logits_stops_the_run_before_an_update(tmp_path: Path) -> None:
    from campus_tune.demo.tiny import tiny_model

    trainer = plain_trainer(tmp_path, config=FOCAL, model=Silent(tiny_model()))
    with pytest.raises(TrainerError, match=r"must give log_probs or logits .* got CausalLMOutput\w+ with neither"):
        trainer.train()
    assert trainer.state.global_step == 0
