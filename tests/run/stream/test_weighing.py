"""Weighted gradients are those of a hand-weighted loss, in every layout, with every weight."""

from __future__ import annotations

import gc
import math
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from transformers import DataCollatorForSeq2Seq, TrainingArguments

from campus_tune.run.stream.weighing import Weighing
from tests.real_trainers import _one_thread, _quick_collections
from tests.run.tiny_run import tokenizer
from tests.run.weighted_run import PLANNED, ROWS, TOKENS, N, by_hand, cosine, live_of, loud_model, train, worst

__all__ = ["_one_thread", "_quick_collections"]
CLOSE = 2e-5
CHECKPOINTING = next(
    name
    for name in ("activation_checkpointing", "gradient_checkpointing")  # transformers renamed it
    if name in TrainingArguments.__dataclass_fields__
)
LORA = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", lora_dropout=0.0)


def planned(i: int, losses: torch.Tensor) -> torch.Tensor:
    return float(PLANNED[i]) * losses.sum()


def unweighted(_: int, losses: torch.Tensor) -> torch.Tensor:
    return losses.sum()


def longest_first(rows: Any) -> Any:
    return DataCollatorForSeq2Seq(tokenizer())(sorted(rows, key=lambda row: -len(row["input_ids"])))


def left(rows: Any) -> Any:
    ours = tokenizer()
    side, ours.padding_side = ours.padding_side, "left"
    try:
        return DataCollatorForSeq2Seq(ours)(rows)
    finally:
        ours.padding_side = side


def unmasked(rows: Any) -> Any:
    batch = DataCollatorForSeq2Seq(tokenizer())(rows)
    return {name: batch[name] for name in ("input_ids", "labels")}


LAYOUTS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"lora": LORA},
    "flat": {"padding_free": True},
    "flat lora": {"padding_free": True, "lora": LORA},
    "checkpointing": {CHECKPOINTING: True},
    "checkpointing lora": {CHECKPOINTING: True, "lora": LORA},
    "one micro batch": {"batch": N},
    "logits": {"plain": True},
    "logits, the longest first": {"plain": True, "collator": longest_first, "batch": 4},
    "logits, left padding": {"plain": True, "collator": left, "batch": 4},
    "logits, no mask": {"plain": True, "collator": unmasked, "batch": 4},
    "labels drawn by the collator": {"labels": False},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_gradient_of_planned_weights_is_that_of_a_hand_weighted_loss(name: str, tmp_path: Path) -> None:
    told = train(tmp_path, **LAYOUTS[name])
    assert worst(told.gradients, by_hand(told, planned)) < CLOSE
    assert told.watch.weights_passed == told.watch.weights_checked == 1
    rows = told.harvest.rows
    assert np.abs(told.harvest.weights - PLANNED[rows]).max() < 1e-4
    assert sorted(rows.tolist()) == list(range(N))
    assert told.harvest.parts is None


def test_dft_factors_multiply_with_weights(tmp_path: Path) -> None:
    told = train(tmp_path, loss_type="dft")
    wanted = by_hand(told, lambda i, losses: float(PLANNED[i]) * (losses * torch.exp(-losses).detach()).sum())
    assert worst(told.gradients, wanted) < CLOSE
    assert told.watch.weights_passed == 1


def test_the_loss_that_is_logged_stays_the_plain_one(tmp_path: Path) -> None:
    told = train(tmp_path, logging_steps=1)
    (logged,) = (line["loss"] for line in told.trainer.state.log_history if "loss" in line)
    losses = told.harvest.losses
    assert logged == pytest.approx(losses.mean(), rel=1e-3)


@pytest.mark.parametrize("plain", [False, True], ids=["log_probs", "logits"])
def test_under_bf16_the_direction_is_that_of_the_weighted_gradient(plain: bool, tmp_path: Path) -> None:
    told = train(tmp_path, plain=plain, bf16=True)
    wanted = by_hand(told, planned)
    assert cosine(told.gradients, wanted) > 0.999
    assert cosine(told.gradients, by_hand(told, unweighted)) < 0.95
    assert told.watch.weights_passed == 1


def test_a_model_in_bf16_is_weighted_too(tmp_path: Path) -> None:
    told = train(tmp_path, plain=True, model=loud_model().to(torch.bfloat16))
    assert told.watch.weights_passed == 1
    assert np.abs(told.harvest.weights - PLANNED[told.harvest.rows]).max() < 0.02


# -- weights of tokens ---------------------------------------------------------------------------------------------

SHAPES = [np.linspace(0.5, 1.5, n) for n in TOKENS.tolist()]


@pytest.mark.parametrize("name", ["full", "flat", "logits, the longest first", "logits, left padding"])
def test_weights_of_messages_meet_their_own_tokens(name: str, tmp_path: Path) -> None:
    told = train(tmp_path, shapes=SHAPES, **LAYOUTS[name])
    wanted = by_hand(told, lambda i, losses: float(PLANNED[i]) * (torch.tensor(SHAPES[i]) * losses).sum())
    assert worst(told.gradients, wanted) < CLOSE
    assert np.abs(told.harvest.weights - PLANNED[told.harvest.rows]).max() < 1e-4
    assert told.watch.weights_passed == 1


# -- live weights, each by a formula of the tests' own -------------------------------------------------------------


def lambert(x: float) -> float:
    """W of x ≥ −1/e, by halving."""
    low, high = -1.0, max(2.0, math.log(max(x, 1.0)) + 1)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if middle * math.exp(middle) < x else (low, middle)
    return low


def self_paced(form: str, x: float) -> float:
    if form == "hard":
        value = float(x < 1)
    elif form == "linear":
        value = max(0.0, 1 - x)
    else:
        value = math.log(0.1 + 0.9 * x) / math.log(0.1) if x < 1 else 0.0
    return 0.1 + 0.9 * value


def focal(losses: torch.Tensor, gamma: float) -> torch.Tensor:
    """The loss itself, of which the factor is the derivative."""
    return (1 - torch.exp(-losses)) ** gamma * losses


LIVE: dict[str, tuple[dict[str, Any], Any]] = {
    "self_paced": ({"name": "self_paced"}, lambda loss, a: self_paced("linear", loss / a)),
    "self_paced log": ({"name": "self_paced", "form": "log"}, lambda loss, a: self_paced("log", loss / a)),
    "self_paced hard": ({"name": "self_paced", "form": "hard"}, lambda loss, a: self_paced("hard", loss / a)),
    "superloss": (
        {"name": "superloss"},
        lambda loss, a, b: math.exp(-lambert(0.5 * max(-2 / math.e, (loss - a) / b))),
    ),
    "linupper": (
        {"name": "linupper"},
        lambda loss, a, b: math.exp(min(0.0, max(-1.0, 2 * (loss - a) / (b - a) - 1))),
    ),
    "robust": ({"name": "robust"}, lambda loss, a, b: min(1.0, math.exp(1 - (loss - a) / b))),
}


@pytest.mark.parametrize("plain", [False, True], ids=["log_probs", "logits"])
@pytest.mark.parametrize("name", LIVE)
def test_live_weights_of_rows_multiply_the_planned_ones(name: str, plain: bool, tmp_path: Path) -> None:
    setting, formula = LIVE[name]
    live = live_of(setting, cells=name == "robust")
    told = train(tmp_path, live=live, plain=plain)
    levels = live.numbers(np.arange(N))
    factors: list[float] = []

    def weighted(i: int, losses: torch.Tensor) -> torch.Tensor:
        factors.append(max(1e-3, formula(float(losses.detach().mean()), *levels[:, i].tolist())) / live.mean)
        return float(PLANNED[i]) * factors[-1] * losses.sum()

    assert worst(told.gradients, by_hand(told, weighted)) < 1e-3
    assert np.ptp(factors) > 0.1, "these weights must tell rows apart"
    got = told.harvest.weights[np.argsort(told.harvest.rows)]
    np.testing.assert_allclose(got, PLANNED * factors, rtol=2e-3, atol=1e-6)
    assert told.watch.weights_passed == 1


@pytest.mark.parametrize("name", ["full", "flat", "logits", "logits, left padding"])
@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_focal_of_tokens_is_the_gradient_of_the_focal_loss(gamma: float, name: str, tmp_path: Path) -> None:
    told = train(tmp_path, live=live_of({"name": "focal", "gamma": gamma}), **LAYOUTS[name])
    wanted = by_hand(told, lambda i, losses: float(PLANNED[i]) * focal(losses, gamma).sum())
    scale = {key: values / live_of({"name": "focal", "gamma": gamma}).mean for key, values in wanted.items()}
    assert worst(told.gradients, scale) < 1e-3
    assert told.watch.weights_passed == 1
    assert told.harvest.parts is not None
    np.testing.assert_allclose(
        told.harvest.weights, PLANNED[told.harvest.rows] * told.harvest.parts, rtol=1e-3, atol=1e-5
    )


def test_focal_of_rows_is_the_gradient_of_the_focal_loss_of_a_row(tmp_path: Path) -> None:
    live = live_of({"name": "focal", "of": "row", "gamma": 2.0})
    told = train(tmp_path, live=live)
    wanted = by_hand(told, lambda i, losses: float(PLANNED[i]) * len(losses) * focal(losses.mean(), 2.0) / live.mean)
    assert worst(told.gradients, wanted) < 1e-3


def test_weights_of_messages_and_of_tokens_multiply(tmp_path: Path) -> None:
    told = train(tmp_path, shapes=SHAPES, live=live_of({"name": "focal"}))
    mean = live_of({"name": "focal"}).mean
    wanted = by_hand(
        told,
        lambda i, losses: float(PLANNED[i]) * (torch.tensor(SHAPES[i]) * focal(losses, 1.0)).sum() / mean,
    )
    assert worst(told.gradients, wanted) < 1e-3
    assert told.watch.weights_passed == 1


@pytest.mark.parametrize("setting", [{"name": "linupper"}, {"name": "focal"}], ids=["rows", "tokens"])
@pytest.mark.parametrize("flat", [False, True])
def test_a_control_deals_the_live_factors_of_a_forward_to_others_of_it(
    setting: dict[str, Any], flat: bool, tmp_path: Path
) -> None:
    live, alone = live_of(setting, shuffle=True), live_of(setting)
    told = train(tmp_path / "dealt", np.ones(N), live=live, batch=4, padding_free=flat)
    plain = train(tmp_path / "plain", np.ones(N), live=alone, batch=4, padding_free=flat)
    assert told.watch.weights_passed == 1
    assert worst(told.gradients, plain.gradients) > 0.01
    if setting["name"] == "linupper":
        for part in (slice(0, 4), slice(4, 8)):
            ours, theirs = (np.sort(one.harvest.weights[part]) for one in (told, plain))
            np.testing.assert_allclose(ours, theirs, rtol=1e-4)


# -- which weight belongs to which row -----------------------------------------------------------------------------


def test_rows_that_look_the_same_have_the_mean_of_their_weights(tmp_path: Path) -> None:
    rows = [ROWS[0], ROWS[1], ROWS[0], ROWS[2]]
    told = train(tmp_path, np.array([1.0, 2.0, 3.0, 0.5]), rows=rows)
    wanted = by_hand(told, lambda i, losses: [1.0, 2.0, 3.0, 0.5][i] * losses.sum(), rows=rows)
    assert worst(told.gradients, wanted) < CLOSE
    assert told.harvest.weights[np.argsort(told.harvest.rows)] == pytest.approx([2.0, 2.0, 2.0, 0.5], rel=1e-4)


def test_rows_with_the_same_tokens_and_other_labels_have_their_own_weights(tmp_path: Path) -> None:
    other = {**ROWS[0], "labels": [-100, -100, -100, -100, -100, -100, *ROWS[0]["labels"][6:]]}
    assert other["labels"] != ROWS[0]["labels"]
    rows = [ROWS[0], other, ROWS[1], ROWS[2]]
    told = train(tmp_path, np.array([1.0, 3.0, 2.0, 0.5]), rows=rows, plain=True, collator=longest_first, batch=4)
    wanted = by_hand(told, lambda i, losses: [1.0, 3.0, 2.0, 0.5][i] * losses.sum(), rows=rows)
    assert worst(told.gradients, wanted) < CLOSE


@pytest.mark.parametrize("plain", [False, True], ids=["log_probs", "logits"])
def test_nothing_holds_what_a_step_was_weighted_with(
    plain: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hook that held its own node would never be freed: the graph is no place for Python to find a cycle."""
    alive: list[Any] = []
    ours = Weighing.weighed

    def keep(*args: Any, **rest: Any) -> Any:
        weighed = ours(*args, **rest)
        alive.append(weakref.ref(weighed))
        return weighed

    monkeypatch.setattr(Weighing, "weighed", keep)
    told = train(tmp_path, plain=plain, steps=2)
    assert told.watch.weights_passed == 2
    gc.collect()
    assert len(alive) == 8
    assert [one() for one in alive[:-1]] == [None] * 7  # the trainer may still have its last outputs
