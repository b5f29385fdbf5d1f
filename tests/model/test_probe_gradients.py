"""Gradients of held-out rows against a plain backward, row by row; and nothing of the model or the trainer touched."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainingArguments

from campus_tune.data.prepared import read_rows
from campus_tune.model import compat, probe_gradients
from campus_tune.model.peers import Peers
from campus_tune.model.probe_gradients import GradientMeter, ProbeGradient, halves, mean_gradient
from campus_tune.model.probes import load_probes
from campus_tune.words.errors import DivergedError
from tests.model.test_measure import plain, soft_capped
from tests.run.tiny_run import dataset, task_rows, tiny_trainer
from tests.run.weighted_run import worst

CHECKPOINTING = next(
    name
    for name in ("activation_checkpointing", "gradient_checkpointing")  # transformers renamed it
    if name in TrainingArguments.__dataclass_fields__
)
ROWS = {"some": np.array([0, 3, 4, 9]), "one": np.array([7])}


def meter_of(trainer: Any, peers: Peers | None = None) -> GradientMeter:
    view, collator = compat.loader_view(trainer, trainer.train_dataset)
    tokens = read_rows(view).tokens if "labels" in view.column_names else np.array([len(r["input_ids"]) for r in view])
    return GradientMeter(partial(compat.subject, trainer), view, collator, tokens, peers=peers or Peers(), what="rows")


def by_hand(trainer: Any, rows: Any) -> ProbeGradient:
    """Row by row through the whole model, in eval mode; no batch, no padding, no head of our own."""
    model = trainer.model.eval()
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    of, total, n = {name: torch.zeros_like(weight) for name, weight in weights.items()}, 0.0, 0
    for row in map(int, rows):
        one = trainer.train_dataset[row]
        ids = torch.tensor([one["input_ids"]])
        labels = torch.tensor(one.get("labels") or one["input_ids"])[1:]
        kept = labels != -100
        logits = model(input_ids=ids).logits[0, :-1]
        loss = torch.nn.functional.cross_entropy(logits[kept], labels[kept], reduction="sum")
        for name, part in zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True):
            of[name] += part
        total, n = total + float(loss.detach()), n + int(kept.sum())
    model.train()
    return ProbeGradient({name: part / n for name, part in of.items()}, total / n, n)


def sft(out: Path, **settings: Any) -> Any:
    trainer = tiny_trainer(out, config=False, n=12, **settings)
    for name, weight in trainer.model.named_parameters():  # fresh adapters have no gradient in A
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(5))
    trainer.model.train()
    if settings.get(CHECKPOINTING):  # as the trainer does when it begins
        getattr(trainer.model, f"{CHECKPOINTING}_enable")(settings.get(f"{CHECKPOINTING}_kwargs"))
        trainer.model.enable_input_require_grads()
    return trainer


def random_states() -> Any:
    kept: Any = np.random.get_state()  # noqa: NPY002  # of code of others
    return random.getstate(), kept[1].tolist(), torch.get_rng_state().tolist()


KINDS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora with dropout": {"lora": True},
    "flat": {"lora": True, "padding_free": True, "max_length": None},
    "checkpointing": {"lora": True, CHECKPOINTING: True},
    "checkpointing, reentrant": {"lora": True, CHECKPOINTING: True, f"{CHECKPOINTING}_kwargs": {"use_reentrant": True}},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("small", [False, True], ids=["together", "row by row"])
def test_gradients_are_those_of_a_plain_backward(
    kind: str, small: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if small:
        monkeypatch.setattr(probe_gradients, "BATCH_TOKENS_CPU", 1)
    trainer = sft(tmp_path, **KINDS[kind])
    found = meter_of(trainer).gradients(ROWS)
    for name, rows in ROWS.items():
        wanted = by_hand(trainer, rows)
        assert worst(found[name].of, wanted.of) < 2e-5
        assert found[name].loss == pytest.approx(wanted.loss, rel=1e-5)
        assert found[name].tokens == wanted.tokens
        assert found[name].norm == pytest.approx(wanted.norm, rel=1e-5)


def test_activations_are_checkpointed_where_training_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []

    def count(*args: Any, **kwargs: Any) -> Any:
        counted.append(kwargs)
        return torch.utils.checkpoint.checkpoint(*args, **kwargs)

    monkeypatch.setattr(probe_gradients, "checkpoint", count)
    meter_of(sft(tmp_path / "plain", lora=True)).gradients(ROWS)
    assert counted == []
    meter_of(sft(tmp_path / "less memory", lora=True, **{CHECKPOINTING: True})).gradients(ROWS)
    assert counted == 2 * len(ROWS) * [{"use_reentrant": False}]  # two layers


@pytest.mark.parametrize("model", [None, soft_capped], ids=["plain", "something after the head"])
def test_gradients_of_a_plain_trainer_are_those_of_a_plain_backward(tmp_path: Path, model: Any) -> None:
    trainer = plain(tmp_path, None if model is None else model())
    found = meter_of(trainer).gradients(ROWS)
    for name, rows in ROWS.items():
        assert worst(found[name].of, by_hand(trainer, rows).of) < 2e-5


def test_a_weight_that_nothing_goes_through_has_no_gradient(tmp_path: Path) -> None:
    trainer = sft(tmp_path, lora=True)
    trainer.model.register_parameter("idle", torch.nn.Parameter(torch.ones(3)))
    assert meter_of(trainer).gradients(ROWS)["one"].of["idle"].tolist() == [0.0, 0.0, 0.0]


def test_half_precision_is_summed_in_single(tmp_path: Path) -> None:
    trainer = sft(tmp_path, lora=True)
    wanted = by_hand(trainer, ROWS["some"])
    trainer.model.to(torch.bfloat16)
    found = meter_of(trainer).gradients({"some": ROWS["some"]})["some"]
    assert {part.dtype for part in found.of.values()} == {torch.float32}
    a, b = (torch.cat([one.of[name].reshape(-1) for name in wanted.of]) for one in (found, wanted))
    assert float(a @ b / (a.norm() * b.norm())) > 0.99


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_the_model_or_the_random_states_is_touched(kind: str, tmp_path: Path) -> None:
    trainer = sft(tmp_path, **KINDS[kind])
    model = trainer.model
    model.base_model.eval() if kind == "lora with dropout" else None  # modes are mixed
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight) if weight.requires_grad else None
    told: list[str] = []
    model.register_forward_pre_hook(lambda *_: told.append("before"))
    model.register_forward_hook(lambda *_: told.append("after"))
    weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    modes = {name: module.training for name, module in model.named_modules()}
    funcs = {name: getattr(module, "_gradient_checkpointing_func", None) for name, module in model.named_modules()}
    states = random_states()
    meter_of(trainer).gradients(ROWS)
    assert states == random_states()
    assert modes == {name: module.training for name, module in model.named_modules()}
    now = {name: getattr(module, "_gradient_checkpointing_func", None) for name, module in model.named_modules()}
    assert funcs == now
    for name, weight in model.named_parameters():
        assert torch.equal(weight, weights[name])
        assert weight.grad is None or bool((weight.grad == 1).all())
        assert (weight.grad is not None) == weight.requires_grad
    assert told == []


def test_ranks_share_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks, one after the other: what the first has summed up is added to the second's."""
    monkeypatch.setattr(probe_gradients, "BATCH_TOKENS_CPU", 1)
    trainer = sft(tmp_path)
    left: list[Any] = []

    class First(Peers):
        def gather(self, value: Any) -> list[Any]:
            left.append(value)
            return [value, (0.0, 1)]

        def add_up(self, tensor: torch.Tensor) -> None:
            left.append(tensor.clone())

    class Second(Peers):
        def gather(self, value: Any) -> list[Any]:
            return [left.pop(0), value]

        def add_up(self, tensor: torch.Tensor) -> None:
            tensor += left.pop(0)

    groups = {"some": ROWS["some"]}
    meter_of(trainer, First(0, 2)).gradients(groups)
    found = meter_of(trainer, Second(1, 2)).gradients(groups)["some"]
    wanted = by_hand(trainer, groups["some"])
    assert left == []
    assert worst(found.of, wanted.of) < 2e-5
    assert found.loss == pytest.approx(wanted.loss, rel=1e-5)
    assert found.tokens == wanted.tokens


def test_a_model_that_has_diverged_is_named(tmp_path: Path) -> None:
    trainer = sft(tmp_path)
    with torch.no_grad():
        trainer.model.model.norm.weight[0] = torch.nan
    with pytest.raises(DivergedError, match=r"`rows`: the gradient of the loss of 'some' must be finite, .* lower the"):
        meter_of(trainer).gradients(ROWS)


def test_the_probes_of_a_trainer_are_asked(tmp_path: Path) -> None:
    trainer = sft(tmp_path, lora=True)
    probes = load_probes(dataset(task_rows(12)), None, trainer)  # the training rows themselves
    meter = GradientMeter.of_probes(trainer, probes, Peers())
    found = meter.gradients(probes.domains)
    for name, rows in probes.domains.items():
        assert worst(found[name].of, by_hand(trainer, rows).of) < 2e-5
    assert meter.seconds > 0


def test_a_mean_counts_each_alike() -> None:
    one = ProbeGradient({"w": torch.tensor([1.0, 2.0])}, 3.0, 10)
    other = ProbeGradient({"w": torch.tensor([3.0, -2.0])}, 1.0, 90)
    mean = mean_gradient([one, other])
    assert mean.of["w"].tolist() == [2.0, 0.0]
    assert (mean.loss, mean.tokens, mean.norm) == (2.0, 100, 2.0)


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=50, unique=True), st.integers(0, 2**32))
def test_halves_are_a_cut_in_two(rows: list[int], seed: int) -> None:
    of = np.array(sorted(rows))
    first, second = halves(of, seed)
    assert sorted([*first.tolist(), *second.tolist()]) == of.tolist()
    assert len(first) - len(second) in (0, 1)
    again = halves(of, seed)
    assert np.array_equal(first, again[0])
    assert np.array_equal(second, again[1])


def test_halves_hang_on_the_seed() -> None:
    rows = np.arange(40)
    assert not np.array_equal(halves(rows, 1)[0], halves(rows, 2)[0])
