"""Pacing: how far the orders are open. `u → s`, from progress in [0, 1] to scope in (0, 1].

The scope `s` is the share of an order, from its easy end, that may be trained. Every pacing here is a plain
function of `u` with three promises, checked by one property test over the whole registry: it never falls, it
starts at `start` and it ends at exactly 1, so that no row is shut out for good.

With `window: slice` a sub-curriculum's own pointer is the progress (`u = k / (T − 1)`), with `window: prefix` the
run's clock is. The maths is the same, so it is written once.

>>> root = build_pacing({"name": "root", "power": 2, "start": 0.01})
>>> [round(float(s), 3) for s in root(np.array([0.0, 0.25, 1.0]))]
[0.01, 0.5, 1.0]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, TypeAlias

import numpy as np

from campus_tune.words.annotated import checked
from campus_tune.words.leaves import Listed, Range, Wording
from campus_tune.words.registry import Registry
from campus_tune.words.types import FloatArray

Pacing: TypeAlias = Callable[[FloatArray], FloatArray]  # u in [0, 1], any shape → s in (0, 1], same shape

PACINGS: Registry[Pacing] = Registry("pacing")

Share: TypeAlias = Annotated[
    float,
    Range(0, 1, "(]"),
    Wording(
        write="It is the share of rows open at the start. (YAML reads 1e-2 as text: write 0.01 or 1.0e-2.)",
    ),
]
# Powers and rates: beyond these bounds the curves are steps in double precision, and `exp` overflows.
Shape: TypeAlias = Annotated[float, Range(0.01, 100), Wording(write="Larger bends the curve more.")]


def build_pacing(setting: str | Mapping[str, Any]) -> Pacing:
    """The pacing that a recipe names: `linear`, or `{name: root, power: 2, start: 0.01}`.

    Raises:
        RecipeError: unknown name or option, or a value out of its range.
    """
    return PACINGS.from_setting(setting)


def scope_at(pacing: Pacing, u: float) -> float:
    """`pacing` at one moment, as a plain float."""
    return float(pacing(np.asarray(u, dtype=np.float64)))


@PACINGS.register("root")
@checked
def root(power: Shape = 2.0, start: Share = 0.01) -> Pacing:
    """Root-p pacing: `s(u) = min(1, (u·(1 − s₁^p) + s₁^p)^(1/p))`.

    The scope opens fast and then ever slower, so slices get finer as difficulty grows: each new row is given
    about the same time before the next one arrives.

    Args:
        power: p in [0.01, 100]. 1 is linear; larger opens sooner.
        start: s₁ in (0, 1], the scope at u = 0.

    Reference:
        Platanios et al. 2019, Competence-based Curriculum Learning for NMT (p = 2, s₁ = 0.01 are theirs).
        CAMPUS (arXiv 2509.13790) remarks that its slices get finer with difficulty, which this family does; a
        summary of that paper prints an exponential instead, see `exponential`.
    """

    def scope(u: FloatArray) -> FloatArray:
        opened: FloatArray = (u * (1.0 - start**power) + start**power) ** (1.0 / power)
        return np.clip(opened, start, 1.0)  # s₁^p of a small s₁ and a large p is 0 in double precision

    return _ends_at_one(scope)


@PACINGS.register("linear")
def linear(start: Share = 0.01) -> Pacing:
    """Linear pacing: `s(u) = s₁ + (1 − s₁)·u`. Every stage adds equally many rows.

    Args:
        start: s₁ in (0, 1], the scope at u = 0.
    """
    return root(power=1.0, start=start)


@PACINGS.register("quadratic")
@checked
def quadratic(start: Share = 0.01) -> Pacing:
    """Quadratic pacing: `s(u) = s₁ + (1 − s₁)·u²`. Stays with easy rows for long, opens late.

    Args:
        start: s₁ in (0, 1], the scope at u = 0.

    Reference:
        Wu, Dyer, Neyshabur 2021, When Do Curricula Work? (polynomial family).
    """
    return _ends_at_one(lambda u: start + (1.0 - start) * u**2)


@PACINGS.register("exponential")
@checked
def exponential(start: Share = 0.01, rate: Shape = 10.0) -> Pacing:
    """Exponential pacing: `s(u) = s₁ + (1 − s₁)·(e^{ru} − 1)/(e^r − 1)`. Opens at the very end.

    This is the form that a summary of CAMPUS prints. Its slices get *coarser* with difficulty, the opposite of
    the paper's own remark; that is why `root` is the default and this is offered.

    Args:
        start: s₁ in (0, 1], the scope at u = 0.
        rate: r in [0.01, 100]; Wu et al. use 10.

    Reference:
        Wu, Dyer, Neyshabur 2021.
    """
    return _ends_at_one(lambda u: start + (1.0 - start) * np.expm1(rate * u) / np.expm1(rate))


@PACINGS.register("logarithmic")
@checked
def logarithmic(start: Share = 0.01, rate: Shape = 10.0) -> Pacing:
    """Logarithmic pacing: `s(u) = s₁ + (1 − s₁)·(1 + ln(u + (1 − u)·e^{−r})/r)`. Opens at the very start.

    Args:
        start: s₁ in (0, 1], the scope at u = 0.
        rate: r in [0.01, 100]; Wu et al. use 10.

    Reference:
        Wu, Dyer, Neyshabur 2021. *Differs from the paper*: theirs ends a hair above 1 and is cut; the factor
        `1 − u` makes it end at exactly 1.
    """
    return _ends_at_one(
        lambda u: start + (1.0 - start) * np.clip(1.0 + np.log(u + (1.0 - u) * np.exp(-rate)) / rate, 0.0, 1.0)
    )


@PACINGS.register("step")
@checked
def step(steps: Annotated[int, Range(2), Wording(write="Use 2 or more plateaus.")] = 2, start: Share = 0.2) -> Pacing:
    """Step pacing: `s(u) = s₁ + (1 − s₁)·⌊n·u⌋/(n − 1)`, cut at 1: n plateaus of equal length, the last fully open.

    Args:
        steps: n ≥ 2 plateaus.
        start: s₁ in (0, 1], the scope of the first plateau.

    Reference:
        Wu, Dyer, Neyshabur 2021 (step family); Bengio et al. 2009 train with two plateaus.
    """
    return _ends_at_one(lambda u: np.minimum(1.0, start + (1.0 - start) * np.floor(steps * u) / (steps - 1)))


@PACINGS.register("join")
def join(pieces: Annotated[Sequence[Mapping[str, Any]], Listed("piece", 1)] = ()) -> Pacing:
    """Several pacings one after the other, each stretched over its own part of the progress and of the scope.

    `{name: join, pieces: [{name: linear, start: 0.1, until: 0.3, to: 0.5}, {name: root, until: 1, to: 1}]}` opens
    linearly from 0.1 to half of the rows in the first 30 % of the run, then the rest as a root. A piece runs on
    `u` from the previous `until` to its own, and its curve, from its start to 1, is mapped onto the scopes from
    the previous `to` to its own.

    Args:
        pieces: at least one; `until` and `to` in (0, 1] must grow and both end at 1. The first piece's own
            `start` is the scope at u = 0.
    """
    if isinstance(pieces, str) or not isinstance(pieces, Sequence) or not all(isinstance(p, Mapping) for p in pieces):
        raise ValueError(f"`pieces` must be a list of mappings, got {pieces!r}. {_PIECES}")
    if not pieces:
        raise ValueError(f"`pieces` must name at least one pacing, got none. {_PIECES}")
    untils, tos, curves = [], [], []
    for piece in pieces:
        options = dict(piece)
        untils.append(_end(options, "until"))
        tos.append(_end(options, "to"))
        curves.append(build_pacing(options))
    for what, values in (("until", untils), ("to", tos)):
        if not all(0 < a < b for a, b in pairwise(values)) or values[-1] != 1.0:
            raise ValueError(f"`{what}` of the pieces must grow and end at 1, got {values}. Order the pieces.")
    knots = [0.0, *untils]
    scopes = [scope_at(curves[0], 0.0), *tos]
    if scopes[0] > scopes[1] + _ROUNDING:
        raise ValueError(f"`to` of the first piece must be at least its start {scopes[0]}, got {scopes[1]}. Raise it.")
    scopes[0] = min(scopes[:2])

    def scope(u: FloatArray) -> FloatArray:
        result = np.full_like(u, scopes[0])
        for curve, u0, u1, s0, s1 in zip(curves, knots, knots[1:], scopes, scopes[1:], strict=False):
            local = curve(np.clip((u - u0) / (u1 - u0), 0.0, 1.0))
            first = scope_at(curve, 0.0)
            rises = 1.0 - first
            risen = (local - first) / rises if rises > _FLAT else (u > u0).astype(np.float64)
            result = np.where(u > u0, s0 + (s1 - s0) * risen, result)
        return result

    return _ends_at_one(scope)


def _end(options: dict[str, Any], what: str) -> float:
    """Where a piece ends; taken out of its options."""
    value = options.pop(what, 1.0)
    if not _is_number(value):
        raise ValueError(f"`{what}` of each piece must be a number in (0, 1], got {value!r}. Write such a number.")
    return float(value)


_PIECES = "Give [{name: …, until: …, to: …}, …]."
_FLAT = 1e-6  # a curve that rises by less is a step: stretched over its piece, little would be left but rounding
_ROUNDING = 1e-12  # what a curve's own start may be off by: a root of a power is not always the number itself


def _ends_at_one(scope: Pacing) -> Pacing:
    """Keep floating point from leaving the last row out: at u ≥ 1 the scope is exactly 1."""

    def exact(u: FloatArray) -> FloatArray:
        inside = np.clip(np.asarray(u, dtype=np.float64), 0.0, 1.0)
        return np.where(inside >= 1.0, 1.0, np.minimum(1.0, scope(inside)))

    return exact


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
