"""Values of rows, read from the training backward, against each row's own gradient, one after the other."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig

from campus_tune.data.prepared import read_rows
from campus_tune.model import compat
from campus_tune.model.peers import Peers
from campus_tune.model.probe_gradients import GradientMeter
from campus_tune.run.stream import value
from campus_tune.words.errors import AuditError, TrainerError
from tests.real_trainers import _one_thread, _quick_collections
from tests.run.stream.test_weighing import CHECKPOINTING, left, live_of, longest_first, unmasked
from tests.run.tiny_run import dataset
from tests.run.weighted_run import PLANNED, ROWS, TOKENS, N, train

__all__ = ["_one_thread", "_quick_collections"]
LORA = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", lora_dropout=0.0)
HALVES = ([0, 2, 5], [1, 6], [7])  # of the rows themselves: three probes
ONES = np.ones(N)


def gradients(trainer: Any) -> Any:
    """Of three groups of rows."""
    rows = dataset(ROWS)
    meter = GradientMeter(
        partial(compat.subject, trainer), rows, compat.inner_collator(trainer.data_collator), read_rows(rows).tokens,
        peers=Peers(),
    )  # fmt: skip
    found = meter.gradients({str(i): np.array(half) for i, half in enumerate(HALVES)})
    trainer.probe_gradients = list(found.values())
    return trainer.probe_gradients


def losses_of(trainer: Any, rows: Any) -> torch.Tensor:
    """Loss of the rows' answers, each by itself, without padding."""
    model, total = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False), torch.zeros(())
    for row in rows:
        labels = torch.tensor(ROWS[row]["labels"])[1:]
        logits = model(input_ids=torch.tensor([ROWS[row]["input_ids"]])).logits[0, :-1].float()
        total = total + torch.nn.functional.cross_entropy(logits, labels, reduction="sum", ignore_index=-100)
    return total


def exact(told: Any) -> Any:
    """⟨∇ Σ ℓ_t of a row, ∇ of a probe's mean loss⟩, (N, 3), by nothing but autograd."""
    model = told.trainer.model.train()
    getattr(model.get_base_model(), f"{CHECKPOINTING}_disable")()  # autograd.grad knows no reentrant one
    weights = [weight for weight in model.parameters() if weight.requires_grad]

    def gradient(rows: Any) -> torch.Tensor:
        return torch.cat(
            [one.reshape(-1).double() for one in torch.autograd.grad(losses_of(told.trainer, rows), weights)]
        )

    model.eval()
    probes = [gradient(half) / int(TOKENS[half].sum()) for half in HALVES]
    model.train()
    return np.array([[float(gradient([row]) @ probe) for probe in probes] for row in range(N)])


def values_of(told: Any, weights: Any = ONES) -> Any:
    """What the run has shown, (N, 3), the step's part and the weights divided out."""
    harvest = told.harvest
    assert sorted(harvest.rows.tolist()) == list(range(N))
    assert harvest.steps.tolist() == [1] * N
    order = np.argsort(harvest.rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        return harvest.values[order] * TOKENS.sum() / weights[:, None]


def off(found: Any, wanted: Any) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


LAYOUTS: dict[str, dict[str, Any]] = {
    "two by two": {},
    "one micro batch": {"batch": N},
    "three by three": {"batch": 3},
    "flat": {"padding_free": True, "batch": 4},
    "checkpointing": {CHECKPOINTING: True},
    "checkpointing, flat": {CHECKPOINTING: True, "padding_free": True, "batch": 4},
    "checkpointing, reentrant": {CHECKPOINTING: True, f"{CHECKPOINTING}_kwargs": {"use_reentrant": True}},
    "logits": {"plain": True, "batch": 4},
    "logits, the longest first": {"plain": True, "collator": longest_first, "batch": 4},
    "logits, left padding": {"plain": True, "collator": left, "batch": 4},
    "logits, no mask": {"plain": True, "collator": unmasked, "batch": 4},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_values_are_each_rows_own_gradient_along_the_probes(name: str, tmp_path: Path) -> None:
    told = train(tmp_path, ONES, lora=LORA, gradients=gradients, **LAYOUTS[name])
    found, wanted = values_of(told), exact(told)
    assert off(found, wanted) < 1e-4
    assert (wanted < 0).any()  # some rows harm


def test_weights_are_divided_out(tmp_path: Path) -> None:
    told = train(tmp_path, lora=LORA, gradients=gradients)
    found, wanted, counts = values_of(told, PLANNED), exact(told), PLANNED > 0
    assert off(found[counts], wanted[counts]) < 1e-4
    assert (told.harvest.values[~counts[told.harvest.rows]] == 0).all()


def test_weights_of_tokens_leave_the_row_as_it_was_trained(tmp_path: Path) -> None:
    told = train(tmp_path, ONES, lora=LORA, gradients=gradients, live=live_of({"name": "focal", "gamma": 2.0}))
    harvest = told.harvest
    assert np.isfinite(harvest.values).all()
    whole = harvest.values.sum(0)
    step = [
        sum(float((told.gradients[k] * g).sum()) for k, g in one.of.items()) for one in told.trainer.probe_gradients
    ]
    assert whole == pytest.approx(step, rel=1e-3)


class Masked(torch.nn.Module):
    """A dropout whose mask hangs on the place in the row alone, whatever batch it is in."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = torch.rand(64, x.shape[-1], generator=torch.Generator().manual_seed(x.shape[-1])) > 0.3
        return x * (kept[: x.shape[1]] / 0.7) if self.training else x


def with_masks(trainer: Any) -> None:
    for module in trainer.model.modules():
        if hasattr(module, "lora_dropout"):
            module.lora_dropout["default"] = Masked()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_value_is_that_of_what_dropout_left(checkpointing: bool, tmp_path: Path) -> None:
    told = train(
        tmp_path, ONES, lora=LORA, gradients=gradients, put_on=with_masks, batch=4, **{CHECKPOINTING: checkpointing}
    )
    wanted = exact(told)
    assert off(values_of(told), wanted) < 1e-4
    told.trainer.model.eval()
    for module in told.trainer.model.modules():
        if isinstance(module, Masked):
            module.forward = lambda x: x  # type: ignore[method-assign]
    assert off(wanted, exact(told)) > 0.01  # else the mask would show nothing


@pytest.mark.parametrize("plain", [False, True], ids=["log_probs", "logits"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_under_bf16_values_are_close(plain: bool, checkpointing: bool, tmp_path: Path) -> None:
    settings = {"plain": plain, "bf16": True, CHECKPOINTING: checkpointing}
    told = train(tmp_path, ONES, lora=LORA, gradients=gradients, batch=4, **settings)
    found, wanted = values_of(told), exact(told)
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.999


def test_training_is_bit_for_bit_what_it_is_without(tmp_path: Path) -> None:
    lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", lora_dropout=0.3)
    for name, settings in (("plain", {}), ("less memory", {CHECKPOINTING: True}), ("bf16", {"bf16": True})):
        runs = [
            train(tmp_path / name / str(asks), ONES, lora=lora, gradients=gradients if asks else None, **settings)
            for asks in (False, True)
        ]
        assert runs[0].gradients.keys() == runs[1].gradients.keys()
        for weight, gradient in runs[0].gradients.items():
            assert torch.equal(gradient, runs[1].gradients[weight])
        assert runs[0].harvest.values is None


def test_nothing_is_left_on_the_model(tmp_path: Path) -> None:
    told = train(tmp_path, ONES, lora=LORA, gradients=gradients)
    for module in told.trainer.model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    for weight in told.trainer.model.parameters():
        assert not weight._backward_hooks


def test_without_a_gradient_nothing_is_valued(tmp_path: Path) -> None:
    told = train(tmp_path, ONES, lora=LORA, gradients=lambda _: [])
    assert told.harvest.values is None
    assert told.harvest.steps is None


def test_rows_of_several_steps_are_told_apart(tmp_path: Path) -> None:
    told = train(tmp_path, ONES, lora=LORA, gradients=gradients, steps=2)
    assert told.harvest.steps.tolist() == [1] * N + [2] * N
    assert off(told.harvest.values[:N], told.harvest.values[N:]) < 1e-5  # the rate is 0


# -- the audit -----------------------------------------------------------------------------------------------------


def doubled(trainer: Any) -> None:
    """An adapter that adds its product once more, past its layer."""
    layer = trainer.model.base_model.model.model.layers[0].mlp.up_proj
    inner = layer.lora_B["default"]
    layer.lora_B["default"].register_forward_hook(
        lambda _, args, output: output + torch.nn.functional.linear(args[0], inner.weight)
    )


@pytest.mark.parametrize("settings", [{}, {"bf16": True}, {CHECKPOINTING: True}], ids=["", "bf16", "checkpointing"])
def test_an_adapter_that_computes_otherwise_is_found_on_the_first_step(settings: Any, tmp_path: Path) -> None:
    with pytest.raises(
        AuditError, match=r"value audit of step 1: the values of the rows must add up to those of the w"
    ):
        train(tmp_path, ONES, lora=LORA, gradients=gradients, put_on=doubled, steps=3, **settings)


def test_only_the_first_step_after_a_new_gradient_is_audited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audited = []
    whole = value.ForwardValues.refuse_other_sums
    monkeypatch.setattr(
        value.ForwardValues, "refuse_other_sums", lambda self: (audited.append(self.whole is not None), whole(self))
    )
    train(tmp_path, ONES, lora=LORA, gradients=gradients, steps=2, batch=4)
    assert audited == [True, True, False, False]


def test_a_layer_that_sees_tokens_in_other_places_is_named(tmp_path: Path) -> None:
    def flattened(trainer: Any) -> None:
        """As experts are given theirs."""
        layer = trainer.model.base_model.model.model.layers[0].mlp.up_proj
        forward = layer.forward
        layer.forward = lambda x: forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    message = (
        r"`value` must see each token in its place, \(rows, tokens, numbers\) = \(2, \d+, …\), got \(\d+, 32\) in "
    )
    with pytest.raises(
        TrainerError, match=message + r".*up_proj.lora_A.default.weight: a layer that routes.*Take it out"
    ):
        train(tmp_path, ONES, lora=LORA, gradients=gradients, put_on=flattened)
