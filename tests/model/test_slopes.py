"""Slopes against exact gradients, row by row; and the model is afterwards what it was, whatever happens."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data.prepared import read_rows
from campus_tune.model import compat, slopes
from campus_tune.model.measure import LossMeter
from campus_tune.model.peers import Peers
from campus_tune.model.probe_gradients import ProbeGradient
from campus_tune.model.slopes import MOVES, Direction, SlopeMeter, by_chance, losses_along, step_of
from campus_tune.words.errors import DivergedError, MetricError
from campus_tune.words.types import FloatArray, RowLosses
from tests.losses import losses_of
from tests.model.test_probe_gradients import by_hand, random_states, sft
from tests.strategies import examples

PROBES = np.array([0, 2, 5, 8])
ROWS = np.array([1, 3, 4, 6, 7, 9, 10, 11])


def meter_of(trainer: Any) -> LossMeter:
    view, collator = compat.loader_view(trainer, trainer.train_dataset)
    tokens = read_rows(view).tokens
    return LossMeter(partial(compat.subject, trainer), view, collator, tokens, peers=Peers(), what="rows")


def direction_of(trainer: Any, meter: LossMeter, moves: float = MOVES) -> Direction:
    """Towards the probes, made of gradients by hand."""
    found = Direction.between([by_hand(trainer, PROBES[:2]), by_hand(trainer, PROBES[2:])])
    step = step_of(
        lambda length: losses_along(meter, found.gradient, PROBES, [length])[0], found.gradient.norm, moves=moves
    )
    return Direction(found.gradient, step, found.agreement)


def exact(trainer: Any, gradient: ProbeGradient) -> FloatArray:
    """⟨∇ Σ_t ℓ_t, G⟩ of each row: the slow way, a backward for each."""
    found = []
    for row in ROWS:
        own = by_hand(trainer, [row])
        dot = sum(float((part.double() * gradient.of[name].double()).sum()) for name, part in own.of.items())
        found.append(dot * own.tokens)
    return np.array(found)


def frozen(trainer: Any) -> Any:
    """Half of the weights are not trained."""
    for k, weight in enumerate(trainer.model.parameters()):
        weight.requires_grad_(k % 2 == 0)
    return trainer


def tied(out: Path) -> Any:
    from campus_tune.demo.tiny import tiny_model

    model = tiny_model()
    model.config.tie_word_embeddings = True
    model.tie_weights()
    assert model.lm_head.weight is model.model.embed_tokens.weight
    return sft(out, model=model)


KINDS: dict[str, Callable[[Path], Any]] = {
    "full": sft,
    "lora with dropout": partial(sft, lora=True),
    "flat": partial(sft, lora=True, padding_free=True, max_length=None),
    "some weights frozen": lambda out: frozen(sft(out)),
    "tied": tied,
}


@pytest.mark.parametrize("kind", KINDS)
def test_slopes_are_the_products_of_exact_gradients(kind: str, tmp_path: Path) -> None:
    trainer = KINDS[kind](tmp_path)
    meter = meter_of(trainer)
    direction = direction_of(trainer, meter)
    measured = SlopeMeter(meter, direction).measure(ROWS).losses
    wanted = exact(trainer, direction.gradient)
    np.testing.assert_allclose(measured.nll_sum, wanted, atol=0.02 * wanted.std(), rtol=0)
    assert measured.tokens.tolist() == meter.losses(ROWS).tokens.tolist()


def test_half_precision_weights_have_the_slopes_of_single_precision(tmp_path: Path) -> None:
    trainer = sft(tmp_path)
    gradient = Direction.between([by_hand(trainer, PROBES)] * 2).gradient
    wanted = exact(trainer, gradient)
    trainer.model.to(torch.bfloat16)
    meter = meter_of(trainer)

    def along(length: float) -> RowLosses:
        return losses_along(meter, gradient, PROBES, [length])[0]

    step = step_of(along, gradient.norm, moves=slopes.MOVES_HALF)
    measured = SlopeMeter(meter, Direction(gradient, step, 1.0)).measure(ROWS).losses
    assert np.corrcoef(measured.nll_sum, wanted)[0, 1] > 0.99


def test_half_precision_weights_notice_a_step_that_is_finer_than_their_grain(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(1)
    model = torch.nn.Linear(1000, 300, bias=False)
    model.weight.data = (0.02 * torch.randn(300, 1000, generator=draw)).to(torch.bfloat16)
    gradient = ProbeGradient({"weight": torch.randn(300, 1000, generator=draw)}, 1.0, 1)

    def gone(length: float) -> float:
        """How far along the gradient the weights have moved."""
        with slopes.as_they_were(model, gradient) as kept:
            slopes.move(kept, gradient, length / gradient.norm)
            way = model.weight.detach().double() - kept["weight"][1].double()
        return float((way * gradient.of["weight"].double()).sum()) / gradient.norm

    for length in (1e-2, 1e-3, -1e-3):  # steps of a weight: 2e-5 and 2e-6; grains: 3e-5 and more
        assert gone(length) == pytest.approx(length, rel=0.1)
    monkeypatch.setattr(slopes, "by_chance", lambda values, dtype, _: values.to(dtype))
    assert abs(gone(1e-3)) < 3e-4  # what rounding to the nearest would make of it


# -- and nothing is left of it ------------------------------------------------------------------------------------


def state(model: torch.nn.Module) -> dict[str, list[int]]:
    return {name: one.detach().reshape(-1).view(torch.uint8).tolist() for name, one in model.state_dict().items()}


class Interrupting(LossMeter):
    """Something happens when the model has moved."""

    def __init__(self, of: LossMeter, what: BaseException) -> None:
        vars(self).update(vars(of))
        self.happens = what

    def losses(self, rows: Any) -> RowLosses:
        del rows
        raise self.happens


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_afterwards_what_they_were_bit_for_bit(kind: str, tmp_path: Path) -> None:
    trainer = KINDS[kind](tmp_path)
    for weight in trainer.model.parameters():
        weight.grad = torch.ones_like(weight) if weight.requires_grad else None
    before, modes = state(trainer.model), [module.training for module in trainer.model.modules()]
    meter, drawn = meter_of(trainer), random_states()
    direction = direction_of(trainer, meter)
    SlopeMeter(meter, direction).measure(ROWS)
    for what in (KeyboardInterrupt(), DivergedError("a loss"), MemoryError()):
        with pytest.raises(type(what)):
            SlopeMeter(Interrupting(meter, what), direction).measure(ROWS)
        assert state(trainer.model) == before
    assert random_states() == drawn
    assert [module.training for module in trainer.model.modules()] == modes
    assert all(bool((w.grad == 1).all()) for w in trainer.model.parameters() if w.requires_grad)


def test_bits_that_no_sum_keeps_are_put_back_too(tmp_path: Path) -> None:
    trainer = sft(tmp_path, lora=True)
    meter = meter_of(trainer)
    direction = direction_of(trainer, meter)
    weight = next(w for name, w in trainer.model.named_parameters() if "lora_B" in name)
    with torch.no_grad():
        weight.view(-1)[:3] = torch.tensor([-0.0, 1e-42, 1e30])  # minus zero, a subnormal, what swallows a step
    before = state(trainer.model)
    SlopeMeter(meter, direction).measure(ROWS)
    assert state(trainer.model) == before


def test_ctrl_c_while_weights_are_put_back_is_heard_when_all_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = sft(tmp_path, lora=True)
    meter = meter_of(trainer)
    direction, before = direction_of(trainer, meter), state(trainer.model)
    pressed = []

    def copy(weight: torch.Tensor, kept: torch.Tensor, copy_: Any = torch.Tensor.copy_) -> Any:
        if len(pressed) < 3:
            pressed.append(True)
            signal.raise_signal(signal.SIGINT)
        return copy_(weight, kept)

    def there_and_back() -> None:
        with slopes.as_they_were(trainer.model, direction.gradient) as kept:
            slopes.move(kept, direction.gradient, 1.0)
            assert state(trainer.model) != before
            monkeypatch.setattr(torch.Tensor, "copy_", copy)

    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs these may be deaf to it
    try:
        with pytest.raises(KeyboardInterrupt):
            there_and_back()
    finally:
        signal.signal(signal.SIGINT, heard)
    monkeypatch.undo()
    assert len(pressed) == 3
    assert state(trainer.model) == before


# -- direction and step -------------------------------------------------------------------------------------------


def test_which_half_is_first_does_not_matter(tmp_path: Path) -> None:
    trainer = sft(tmp_path)
    a, b = by_hand(trainer, PROBES[:2]), by_hand(trainer, PROBES[2:])
    one, other = Direction.between([a, b]), Direction.between([b, a])
    assert one.agreement == pytest.approx(other.agreement)
    assert all(torch.equal(part, other.gradient.of[name]) for name, part in one.gradient.of.items())


def vector(*numbers: float) -> ProbeGradient:
    return ProbeGradient({"w": torch.tensor(numbers, dtype=torch.float32)}, 1.0, 1)


def test_how_far_halves_agree_is_the_cosine_between_them() -> None:
    assert Direction.between([vector(1, 0), vector(3, 0)]).agreement == pytest.approx(1)
    assert Direction.between([vector(1, 1), vector(0, 2)]).agreement == pytest.approx(0.5**0.5)
    assert Direction.between([vector(3, 0), vector(-1, 0)]).agreement == pytest.approx(-1)
    assert Direction.between([vector(3, 0), vector(0, 0)]).agreement == 0


def test_where_nothing_rises_there_is_no_direction() -> None:
    with pytest.raises(
        MetricError, match=r"a direction in which the probes' loss rises, got a gradient of length 0\.0"
    ):
        Direction.between([vector(1, 0), vector(-1, 0)])


def rising(slope: float) -> Callable[[float], RowLosses]:
    """Ten rows of three tokens whose mean losses rise so steeply, every second one the other way."""
    turned = np.where(np.arange(10) % 2, -1.0, 1.0)
    return lambda length: losses_of(3 * (2 + slope * length * turned), np.full(10, 3), np.zeros(10, dtype=np.int64))


@examples(50)
@given(slope=st.floats(1e-3, 1e3), norm=st.floats(1e-3, 1e3))
def test_the_step_moves_the_losses_as_far_as_it_should(slope: float, norm: float) -> None:
    step = step_of(rising(slope), norm)
    assert np.log2(step) == round(np.log2(step))
    assert MOVES / 2 < 2 * step * slope < MOVES * 2


def test_losses_that_do_not_move_are_refused() -> None:
    with pytest.raises(MetricError, match=r"losses move along their own gradient \(length 2\), got none"):
        step_of(rising(0.0), 2.0)


# -- half precision -----------------------------------------------------------------------------------------------


@examples(50)
@given(
    value=st.floats(-1e3, 1e3, width=32),
    dtype=st.sampled_from([torch.bfloat16, torch.float16]),
    seed=st.integers(0, 1000),
)
def test_a_number_is_rounded_to_one_of_its_neighbours_and_is_itself_on_average(
    value: float, dtype: torch.dtype, seed: int
) -> None:
    values = torch.full((4000,), value)
    rounded = by_chance(values, dtype, torch.Generator().manual_seed(seed)).double()
    grain = max(abs(value), torch.finfo(dtype).smallest_normal) * torch.finfo(dtype).eps
    assert float((rounded - value).abs().max()) <= 1.01 * grain
    assert abs(float(rounded.mean()) - value) <= 5 * grain / 4000**0.5
    assert by_chance(values, torch.float32, torch.Generator()).tolist() == values.tolist()


def test_what_half_precision_holds_stays_as_it_is() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        values = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)  # all there are
        values = values[values.isfinite()]
        same = by_chance(values.float(), dtype, torch.Generator().manual_seed(0))
        assert same.view(torch.int16).tolist() == values.view(torch.int16).tolist()


def test_powers_of_two_and_the_smallest_numbers_have_the_right_neighbours() -> None:
    for value, low, high in ((1 - 1e-3, 1 - 2**-8, 1.0), (-1 + 1e-3, -1.0, -1 + 2**-8), (1e-41, 0.0, 2.0**-133)):
        rounded = by_chance(torch.full((4000,), value), torch.bfloat16, torch.Generator().manual_seed(0)).double()
        assert rounded.unique().tolist() == [low, high]
        assert float(rounded.mean()) == pytest.approx(value, rel=0.1 if value < 1e-30 else 1e-3)
