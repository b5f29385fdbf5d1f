from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from campus_tune.data.prepared import read_rows
from campus_tune.demo.tiny import tiny_model
from campus_tune.model import compat
from campus_tune.model.measure import LossMeter
from campus_tune.model.peers import Peers
from campus_tune.model.subject import Subject
from tests.run.tiny_run import tiny_trainer
from tests.run.witness import all_slow_losses, assert_close


def subject_of(**lora: Any) -> Subject:
    """A tiny model with a fresh LoRA on all of its linear layers."""
    torch.manual_seed(0)
    settings = {"r": 4, "target_modules": "all-linear", "lora_dropout": 0.2, **lora}
    model = get_peft_model(tiny_model(), LoraConfig(**settings))
    return Subject(model, model, torch.device("cpu"), lambda batch: batch)


def layers_of(subject: Subject) -> list[Any]:
    return [module for module in subject.model.modules() if hasattr(module, "lora_B")]


def asked(subject: Subject) -> int:
    """LoRA layers that are asked in a forward."""
    calls: list[int] = []
    handles = [
        part.register_forward_hook(lambda *_: calls.append(1))
        for one in layers_of(subject)
        for part in one.lora_A.values()
    ]
    with torch.no_grad(), compat.without_idle_adapters(subject):
        subject.model.eval()(input_ids=torch.tensor([[5, 6, 7]]))
    for handle in handles:
        handle.remove()
    return len(calls)


def test_a_fresh_adapter_is_not_asked_and_the_logits_are_the_same_to_the_last_digit() -> None:
    subject = subject_of()
    assert asked(subject) == 0
    model, ids = subject.model.eval(), torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        whole = model(input_ids=ids).logits
        with compat.without_idle_adapters(subject):
            assert torch.equal(model(input_ids=ids).logits, whole)


def test_an_adapter_that_has_learnt_anything_is_asked() -> None:
    subject = subject_of()
    last = layers_of(subject)[-1]
    with torch.no_grad():
        last.lora_B["default"].weight[0, 0] = 1e-30
    assert asked(subject) == len(layers_of(subject))


def test_layers_and_what_is_trained_are_afterwards_as_before() -> None:
    subject = subject_of()
    frozen = layers_of(subject)[0].lora_A["default"].weight
    frozen.requires_grad_(False)  # by a user
    before = [parameter.requires_grad for parameter in subject.model.parameters()]
    with pytest.raises(RuntimeError, match="stopped"), compat.without_idle_adapters(subject):
        raise RuntimeError("stopped")
    assert [parameter.requires_grad for parameter in subject.model.parameters()] == before
    assert not any(layer.disable_adapters for layer in layers_of(subject))
    with torch.no_grad():
        layers_of(subject)[0].lora_B["default"].weight.fill_(1.0)
    assert asked(subject) == len(layers_of(subject))


@pytest.mark.parametrize("why", ["another kind of adapter", "switched off", "merged", "sharded"])
def test_an_adapter_of_which_less_is_known_is_left_alone(why: str) -> None:
    subject = subject_of(use_dora=why == "another kind of adapter")
    if why == "sharded":
        subject = replace(subject, sharded=True)
    for layer in layers_of(subject)[:1]:
        if why == "switched off":
            layer._disable_adapters = True
        if why == "merged":
            layer.merge()
    kept = [layer.disable_adapters for layer in layers_of(subject)]
    with compat.without_idle_adapters(subject):
        assert [layer.disable_adapters for layer in layers_of(subject)] == kept
    assert [layer.disable_adapters for layer in layers_of(subject)] == kept
    assert why == "another kind of adapter" or asked(subject) >= len(layers_of(subject)) - 1


def test_losses_before_the_first_step_are_those_of_the_model_without_its_adapter(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, config=False, n=12, lora=True)
    view, collator = compat.loader_view(trainer, trainer.train_dataset)
    tokens = read_rows(view).tokens
    meter = LossMeter(partial(compat.subject, trainer), view, collator, tokens, peers=Peers(), what="x")
    calls: list[int] = []
    layers_of(compat.subject(trainer))[0].lora_A["default"].register_forward_hook(lambda *_: calls.append(1))
    measured = meter.losses(np.arange(12))
    assert not calls
    assert_close(measured, all_slow_losses(trainer, range(12)))
    assert calls  # in the slow ones
