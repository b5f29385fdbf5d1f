"""How the losses of rows change as the weights move the way a gradient points: two forwards, no backward.

    slope of row r  =  ‖G‖ · (ℓ_r(θ + ε G/‖G‖) − ℓ_r(θ − ε G/‖G‖)) / 2ε  =  ⟨∇ℓ_r(θ), G⟩ + O(ε²)

A backward for each row would give the same and cost a row's own backward, one row at a time; this costs two forwards in
batches as large as any measurement's, for any kind of weights that are whole in this process.

The step ε is chosen on the rows that G is of: as long as it takes to move their losses by so many nats per token from
one side to the other, on average. Shorter, and what is left of a difference of two losses is rounding; longer, and it
is the loss's bend. Spearman correlation with exact gradients of 80 rows (tiny model, before training and after 60
steps, the lower of the two):

    nats            1e-4     1e-3     5e-3     1e-2     2e-2     4e-2     1e-1
    float32, LoRA   1.000    1.000    1.000    0.999    0.995    0.961    0.195
    float32, full   1.000    1.000    1.000    1.000    1.000    1.000    0.998
    bf16, LoRA      0.240    0.954    0.998    0.999    0.995    0.961    0.193
    bf16, full      0.180    0.655    0.813    0.953    0.990    0.996    0.998

It is a power of two, so that the last bits of a gradient, which another device rounds otherwise, do not make another
step of it.

The model is moved in place and put back from a copy, bit for bit, whatever happens in between. Weights of half
precision would not notice a step that is finer than their grain, so they are rounded up or down by chance (always the
same chance): on average over many weights the step is what it should be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

from campus_tune.model.measure import LossMeter, MeasuredRows, Reader
from campus_tune.model.probe_gradients import ProbeGradient, mean_gradient
from campus_tune.words.errors import MetricError
from campus_tune.words.types import IntArray, RowLosses

MOVES = 1e-3  # nats per token that the rows which a direction is of should move by, on average
MOVES_HALF = 2e-2  # the same where losses are computed in half precision
_CHANCE = 0x510BE  # seed of how half-precision weights are rounded


@dataclass(frozen=True, eq=False)
class Direction:
    """Which way the loss of some rows rises, and how far to go to see it.

    Args:
        gradient: G, of the mean loss of these rows.
        step: ε, the length of one step to either side; 0 while nobody has chosen one.
        agreement: cosine of the angle between the gradients of two halves of these rows, in [−1, 1].
    """

    gradient: ProbeGradient
    step: float
    agreement: float

    @staticmethod
    def between(halves: Sequence[ProbeGradient], step: float = 0.0) -> Direction:
        """The direction in the middle of those of two halves.

        Args:
            halves: two gradients in the same weights; which of them is first does not matter.
            step: ε.

        Raises:
            MetricError: there is no direction: the gradient is zero, or no weight is trained.
        """
        first, second = halves
        middle = mean_gradient(halves)
        if not middle.norm > 0:
            raise MetricError(
                "`influence` must have a direction in which the probes' loss rises, got a gradient of length "
                f"{middle.norm}: no weight that is trained changes it. Train some weights, or drop the metric."
            )
        dot = sum(float((part.double() * second.of[name].double()).sum()) for name, part in first.of.items())
        lengths = first.norm * second.norm
        return Direction(middle, step, dot / lengths if lengths else 0.0)


def step_of(losses: Callable[[float], RowLosses], norm: float, *, moves: float = MOVES) -> float:
    """The step that moves the losses of a direction's own rows by so many nats per token, a power of two.

    From one side to the other these rows move by 2 ε ‖G‖ on average, each domain counted alike, if signs are kept; the
    first guess is the ε that makes this `MOVES`. Single rows move by more, some of them down: the guess is corrected
    once, by how far they did.

    Args:
        losses: of these rows, so far along the direction.
        norm: ‖G‖, > 0.
        moves: nats per token, > 0.

    Raises:
        MetricError: no loss moved.
    """
    guess = moves / (2 * norm)
    moved = float(np.mean(np.abs(losses(guess).per_row() - losses(-guess).per_row())))
    if not moved > 0:
        raise MetricError(
            f"`influence` must see the probes' losses move along their own gradient (length {norm:.3g}), got none that "
            "moved: the weights are too coarse for it. Train in float32 or with an adapter, or drop the metric."
        )
    return float(2.0 ** round(math.log2(guess * moves / moved)))


class SlopeMeter:
    """Measures slopes of rows in the place of their losses: what a `LossMeter` gives, with slopes for nats.

    Args:
        meter: of the rows' losses.
        direction: along which they are measured.
    """

    def __init__(self, meter: LossMeter, direction: Direction) -> None:
        self.meter, self.direction = meter, direction

    @property
    def tokens(self) -> IntArray:
        """Tokens of every row that go through the model, shape (N,): twice its own."""
        return 2 * self.meter.tokens

    @property
    def tick(self) -> Callable[[int], object] | None:
        """Told the tokens of each batch."""
        return self.meter.tick

    @tick.setter
    def tick(self, told: Callable[[int], object] | None) -> None:
        self.meter.tick = told

    def measure(self, rows: IntArray, *, reader: Reader | None = None, width: int = 0) -> MeasuredRows:
        """Slopes of `rows`: of the sum of each row's token losses, with the number of its tokens.

        Args:
            rows: shape (n,), positions in the data set.
            reader: none can be asked: the model is not itself.
            width: 0.

        Raises:
            DivergedError: a loss is NaN or infinite.
        """
        assert reader is None, "hidden states are read of the model as it is"
        gradient, step, spared = self.direction.gradient, self.direction.step, self.meter.spared
        up, down = losses_along(self.meter, gradient, rows, (step, -step))
        slopes = RowLosses.zeros(len(rows))
        slopes.nll_sum[:] = gradient.norm * (up.nll_sum - down.nll_sum) / (2 * step)
        slopes.tokens[:] = up.tokens
        asked = 1 - (self.meter.spared - spared) / max(1, int(self.tokens[rows].sum()))
        return MeasuredRows(slopes, np.zeros((len(rows), width)), asked=np.full(len(rows), asked))


def losses_along(
    meter: LossMeter, gradient: ProbeGradient, rows: IntArray, lengths: Sequence[float]
) -> list[RowLosses]:
    """Losses of `rows` under the model moved so far along a gradient, for each length; then it is as it was.

    Args:
        meter: of these rows.
        gradient: that says which way.
        rows: shape (n,).
        lengths: of the way, signed.
    """
    norm, losses = gradient.norm, []
    with as_they_were(meter.subject().model, gradient) as kept:
        for length in lengths:
            move(kept, gradient, length / norm)
            losses.append(meter.losses(rows))
    return losses


Kept: TypeAlias = Mapping[str, tuple[torch.nn.Parameter, torch.Tensor]]  # name → a weight, and a copy of what it was


@contextmanager
def as_they_were(model: torch.nn.Module, gradient: ProbeGradient) -> Iterator[Kept]:
    """The weights that a gradient is in are afterwards what they were, bit for bit, whatever happened inside.

    Args:
        model: bare.
        gradient: in some of its weights.
    """
    kept = {name: (one, one.detach().clone()) for name, one in model.named_parameters() if name in gradient.of}
    try:
        yield kept
    finally:
        again: KeyboardInterrupt | None = None
        while True:  # somebody who presses Ctrl-C twice does not want half of a model back
            try:
                with torch.no_grad():
                    for weight, before in kept.values():
                        weight.copy_(before)
                break
            except KeyboardInterrupt as pressed:
                again = pressed
        if again is not None:
            raise again


@torch.no_grad()
def move(kept: Kept, gradient: ProbeGradient, factor: float) -> None:
    """Weights become what they were plus a gradient times a factor.

    Args:
        kept: weights, and what they were.
        gradient: in these weights.
        factor: of any sign.
    """
    for k, (name, (weight, before)) in enumerate(kept.items()):
        chance = torch.Generator(weight.device).manual_seed(_CHANCE + k)
        wide = torch.promote_types(weight.dtype, torch.float32)
        weight.copy_(by_chance(before.to(wide) + factor * gradient.of[name].to(wide), weight.dtype, chance))


def by_chance(values: torch.Tensor, dtype: torch.dtype, chance: torch.Generator) -> torch.Tensor:
    """Numbers in another precision; in half precision up or down by chance, so that on average they are the same.

    >>> fine = torch.full((10_000,), 1.001)  # bfloat16 knows 1 and 1.0078125
    >>> coarse = by_chance(fine, torch.bfloat16, torch.Generator().manual_seed(0))
    >>> coarse.unique().tolist(), abs(float(coarse.double().mean()) - 1.001) < 1e-4
    ([1.0, 1.0078125], True)

    Args:
        values: in single precision or better.
        dtype: wanted.
        chance: draws.
    """
    nearest = values.to(dtype)
    if dtype.itemsize >= torch.float32.itemsize:
        return nearest
    # The bits of a float, read as a whole number, are next to those of its neighbours: one more is farther from zero.
    left = values - nearest.to(values.dtype)  # exact
    outward = torch.where((left < 0) == (nearest < 0), 1, -1).to(torch.int16)
    smallest = torch.where(left < 0, -(2**15) + 1, 1).to(torch.int16)  # beside zero, on the side of what is left
    bits = torch.where(nearest == 0, smallest, nearest.view(torch.int16) + outward)
    other = torch.where(left == 0, nearest, bits.view(dtype))
    gap = (other.to(values.dtype) - nearest.to(values.dtype)).abs()
    draws = torch.rand(values.shape, generator=chance, device=values.device)
    return torch.where(draws * gap < left.abs(), other, nearest)
