"""Trainers whose rows cannot be valued are refused by name, and the advice is one that can be followed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import IA3Config, LoHaConfig, LoraConfig, get_peft_model
from transformers import Trainer

from campus_tune.demo.tiny import tiny_model
from campus_tune.model.valuable import lora_layers, refuse_value
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.errors import TrainerError
from tests.run.other_models import with_prompts
from tests.run.plain_run import SHUFFLE, plain_trainer
from tests.run.tiny_run import RECIPE, tiny_trainer

LORA: dict[str, Any] = {"r": 2, "target_modules": ["q_proj", "up_proj"]}


def adapted(**settings: Any) -> Any:
    return get_peft_model(tiny_model(), LoraConfig(**{**LORA, **settings}))


def thawed() -> Any:
    model = adapted()
    model.base_model.model.model.norm.weight.requires_grad_()
    return model


def merged() -> Any:
    """A second adapter that is not trained beside the first."""
    model = adapted()
    model.add_adapter("other", LoraConfig(**LORA))
    return model


REFUSED: dict[str, tuple[Any, str]] = {
    "full fine-tuning": (tiny_model, r"must have a LoRA, got full fine-tuning: .* \(use_peft: true"),
    "DoRA": (lambda: adapted(use_dora=True), r"lora_magnitude_vector.* the magnitudes of DoRA, .* use_dora: false"),
    "an embedding": (
        lambda: adapted(target_modules=["q_proj", "embed_tokens"]),
        r"lora_embedding_A.*an adapter on an embedding.*\(4 such weights\)|an adapter on an embedding.*embed_tokens",
    ),
    "tokens": (lambda: adapted(trainable_token_indices=[5, 6]), r"trainable_tokens.*rows of an embedding"),
    "a whole layer": (lambda: adapted(modules_to_save=["lm_head"]), r"a layer that is trained whole \(modules_to_save"),
    "a bias": (lambda: adapted(lora_bias=True), r"a bias.*lora_bias: false"),
    "IA3": (
        lambda: get_peft_model(
            tiny_model(), IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])
        ),
        r"no linear layer of a LoRA \(the adapter is IA3\).*Train a plain LoRA",
    ),
    "LoHa": (
        lambda: get_peft_model(tiny_model(), LoHaConfig(target_modules=["q_proj"])),
        r"no linear layer of a LoRA \(the adapter is LOHA\)",
    ),
    "prompts": (lambda: with_prompts("prompt tuning"), "must not be one of prompt learning with value, got one"),
    "a weight of the model": (thawed, r"model.norm.weight, no linear layer of a LoRA"),
}


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`", "ignore:`lora_bias=True` was passed")
@pytest.mark.parametrize("name", REFUSED)
def test_an_adapter_of_another_kind_is_refused_by_name(name: str, tmp_path: Path) -> None:
    make, says = REFUSED[name]
    trainer = tiny_trainer(tmp_path, config=False, n=12, model=make())
    with pytest.raises(TrainerError, match=says) as refusal:
        refuse_value(trainer)
    assert str(refusal.value).endswith("or take `value` out of the recipe.")


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"lora_dropout": 0.3, "init_lora_weights": "pissa"}])
def test_loras_of_linear_layers_are_not(settings: Any, tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, config=False, n=12, model=adapted(**settings))
    refuse_value(trainer, adam=True)
    assert len(lora_layers(trainer.model)) == 2 * 2 * 2  # layers, targets, A and B


def test_an_adapter_that_is_not_trained_is_let_be() -> None:
    layers = lora_layers(merged())
    assert len(layers) == 8
    assert all(".default." in name for name in layers)


def own_loss(outputs: Any, labels: Any, num_items_in_batch: Any) -> Any:
    return outputs.logits.float().square().mean() + 0 * labels.sum() / num_items_in_batch


class OwnLoss(Trainer):
    loss_is_scaled_for_ga = True

    def compute_loss(self, model: Any, inputs: Any, num_items_in_batch: Any = None, **_: Any) -> Any:
        return model(**inputs, num_items_in_batch=num_items_in_batch).loss


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"label_smoothing_factor": 0.1}, "`label_smoothing_factor` must be 0 with value, got 0.1"),
        ({"compute_loss_func": own_loss}, "`compute_loss_func` must be None with value, got own_loss"),
        ({"kind": OwnLoss}, "the loss must be the library's mean .* got another: a compute_loss of your own. Take SFT"),
    ],
    ids=["label smoothing", "a loss function", "a loss of the user's own"],
)
def test_another_loss_is_refused(settings: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=says):
        plain_trainer(tmp_path, config={**SHUFFLE, "value": True}, model=adapted(), **settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"loss_type": "dft"}, "got loss_type: dft. Write loss_type: nll, or"),
        ({"torch_compile": True}, "`torch_compile` must be False with value"),
    ],
)
def test_another_setting_of_trl_is_refused(settings: Any, says: str, tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, config=False, n=12, model=adapted())
    for name, value in settings.items():
        setattr(trainer.args, name, value)
    with pytest.raises(TrainerError, match=says):
        refuse_value(trainer)


def test_a_routers_own_loss_is_refused(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, config=False, n=12, model=adapted())
    trainer.aux_loss_enabled = True
    with pytest.raises(TrainerError, match=r"of a router beside it \(output_router_logits\)\. Set output_"):
        refuse_value(trainer)


@pytest.mark.parametrize(("kind", "says"), [("is_fsdp_enabled", "got FSDP"), ("is_deepspeed_enabled", "got DeepSpeed")])
def test_weights_in_parts_are_refused(kind: str, says: str) -> None:
    trainer: Any = SimpleNamespace(model=torch.nn.Linear(2, 2), is_fsdp_enabled=False, is_deepspeed_enabled=False)
    setattr(trainer, kind, True)
    with pytest.raises(TrainerError, match=f"must have whole weights and gradients in each process, {says}"):
        refuse_value(trainer)


def test_moments_that_cannot_be_read_are_refused_and_the_advice_trains(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path / "no", config=False, n=12, model=adapted(), optim="sgd")
    with pytest.raises(TrainerError, match=r"`value: adam` must have an AdamW .* got optim: sgd. Write optim: a"):
        refuse_value(trainer, adam=True)
    refuse_value(trainer)
    refuse_value(tiny_trainer(tmp_path, config=False, n=12, model=adapted(), optim="adamw_torch"), adam=True)


def test_a_run_is_refused_when_the_trainer_is_made(tmp_path: Path) -> None:
    config = CampusConfig.from_mapping({**RECIPE, "value": True})
    with pytest.raises(TrainerError, match="`value` must have a LoRA, got full fine-tuning"):
        tiny_trainer(tmp_path, config=config, n=12, probes=12)
