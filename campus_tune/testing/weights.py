"""What every weight promises: a planned one for any rows of a stage, a live one for any loss and any level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np

from campus_tune.method.levels import ENOUGH, Groups, Levels, Running, Visits
from campus_tune.method.weights import (
    WEIGHTS,
    Favours,
    Kind,
    LiveWeight,
    OwnWeight,
    PlannedWeight,
    Planning,
    Weight,
    build_weight,
)
from campus_tune.testing.promises import check_card, check_frozen, name_in, promise
from campus_tune.words.types import FloatArray, IntArray

ROUNDING = 1e-9  # relative: what a weight may be off by where it is computed in another way
LOSSES = (0.0, 1e-6, 60.0)  # nats, that every draw has: a row that is known by heart, and one that is nonsense
RISING = np.linspace(0, 20, 81)  # nats


def check_weight(setting: str | Mapping[str, Any], *, draws: int = 30, seed: int = 0) -> None:
    """Check that a weight keeps what campus_tune relies on, over rows, losses and levels drawn at random.

    Args:
        setting: as in a recipe: a registered name, or a mapping with its options.
        draws: sets of 1 to 40 rows.
        seed: of the draws.

    Raises:
        BrokenPromise: the first promise that is not kept, in a sentence.
        RecipeError: no weight of this name is registered or installed, or it does not take these options.
    """
    name, weight = name_in(setting), build_weight(setting)
    check_card(WEIGHTS, name, (Weight, PlannedWeight, LiveWeight))
    promise(
        isinstance(weight, PlannedWeight | LiveWeight),
        f"`{name}` must be a PlannedWeight or a LiveWeight, got {type(weight).__name__}. Derive it from one of them.",
    )
    check_frozen(weight, name, may_be_plain=True)
    kinds = tuple(kind for kind in get_args(Kind) if (kind == "planned") == isinstance(weight, PlannedWeight))
    kind = getattr(weight, "kind", None)
    promise(kind in kinds, f"`{name}` must say its `kind`, one of {', '.join(kinds)}, got {kind!r}.")
    favours = get_args(Favours)
    promise(
        weight.favours in (None, *favours),
        f"`{name}` must say which rows it `favours`, one of {', '.join(favours)} or None, got {weight.favours!r}.",
    )
    promise(
        0 <= weight.since < 1,
        f"`{name}` must hold `since` a progress in [0, 1), got {weight.since!r}.",
    )
    groups = getattr(weight, "groups", None)
    promise(
        groups in (None, "domains", "cells"),
        f"`{name}` must compare a loss with `groups`, one of domains, cells or None, got {groups!r}.",
    )
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        if isinstance(weight, LiveWeight):
            _check_live(setting, weight, rng)
        else:
            assert isinstance(weight, PlannedWeight)
            _check_planned(setting, weight, rng)


# -- planned -----------------------------------------------------------------------------------------------------------


def _check_planned(setting: str | Mapping[str, Any], weight: PlannedWeight, rng: np.random.Generator) -> None:
    """A number for each row, which is its own wherever it stands."""
    name, n = name_in(setting), int(rng.integers(1, 41))
    column = np.round(rng.exponential(size=n + 10), int(rng.integers(0, 4)))  # with ties, with zeros

    def shown(order: IntArray) -> Planning:
        return Planning(rows[order], unbiased[order], u=u, columns=dict.fromkeys(asked, column.copy()))

    asked = [weight] if isinstance(weight, OwnWeight) else []  # others read no numbers with the rows
    rows = rng.permutation(n + 10)[:n].astype(np.int32)
    unbiased, u = rng.exponential(size=n) + 0.1, float(rng.random())
    straight, turned = np.arange(n, dtype=np.int64), rng.permutation(n)
    about = f"for the rows {rows.tolist()} of the columns {column.tolist()}, unbiased by {unbiased.tolist()}"
    given = shown(straight)
    weights = weight.planned(given)
    promise(
        given.rows.tolist() == rows.tolist()
        and given.unbiased.tolist() == unbiased.tolist()
        and all(numbers.tolist() == column.tolist() for numbers in given.columns.values()),
        f"`{name}` must leave the rows that it is shown as they were, got them changed {about}.",
    )
    _check_numbers(name, weights, (n,), about)
    for again in (weight, build_weight(setting)):
        assert isinstance(again, PlannedWeight)
        second = again.planned(Planning(rows, unbiased, u=u, columns=dict.fromkeys(asked, column.copy())))
        promise(
            second.tolist() == weights.tolist(),
            f"`{name}` must give the same rows the same weights whenever it is asked, got {weights.tolist()}, then "
            f"{second.tolist()} {about}. Remember nothing, and draw nothing.",
        )
    moved = weight.planned(shown(turned))
    promise(
        np.allclose(moved, weights[turned], rtol=ROUNDING, atol=0),
        f"`{name}` must give a row the same weight wherever it stands, got {weights.tolist()}, and {moved.tolist()} in "
        f"the sequence {turned.tolist()} {about}.",
    )


def _check_numbers(name: str, weights: Any, shape: tuple[int, ...], about: str) -> None:
    """One finite number for each, none below 0."""
    kind = f"{weights.dtype} {weights.shape}" if isinstance(weights, np.ndarray) else type(weights).__name__
    promise(
        isinstance(weights, np.ndarray) and weights.dtype == np.float64 and weights.shape == shape,
        f"`{name}` must give one float64 for each, shape {shape}, got {kind} {about}.",
    )
    promise(
        np.isfinite(weights).all() and (weights >= 0).all(),
        f"`{name}` must give finite weights, none below 0, got {weights.tolist()} {about}.",
    )


# -- live --------------------------------------------------------------------------------------------------------------


def _check_live(setting: str | Mapping[str, Any], weight: LiveWeight, rng: np.random.Generator) -> None:
    """A level for each group as soon as it is known, and a factor for each loss that is the loss's own."""
    names = ("a", "b", "c")[: int(rng.integers(1, 4))]
    groups = Groups(rng.integers(0, len(names), 100), names)
    level = _check_level(name_in(setting), weight, groups, rng)
    known = np.flatnonzero(~np.isnan(level[0])) if level else np.arange(len(names))
    if known.size:
        n = int(rng.integers(1, 41))
        losses = np.concatenate([LOSSES, np.round(rng.exponential(size=n), int(rng.integers(1, 9)))])
        own = known[rng.integers(0, len(known), len(losses))]
        _check_factor(setting, weight, losses, [number[own] for number in level], rng)
    if known.size and weight.favours is not None:
        name, own_level = name_in(setting), [np.full(len(RISING), number[known[0]]) for number in level]
        # To the end, or down from a peak to what the end counts: focal loss has one.
        factors = weight.factor(RISING, own_level, np)
        towards = factors if weight.favours == "hard" else factors[::-1]
        lower = np.minimum(np.maximum.accumulate(towards), towards[-1])  # of the rows before, and of the last
        fails = np.flatnonzero(towards < lower - ROUNDING * np.abs(lower))
        promise(
            towards[-1] >= towards[0] and not fails.size,
            f"`{name}` must favour {weight.favours} rows if it says so, got {factors.tolist()} for losses from 0 to "
            f"{RISING[-1]:g} at the level {[float(one[0]) for one in own_level]}. Say `favours` of what it does, or "
            "None.",
        )


def _check_level(name: str, weight: LiveWeight, groups: Groups, rng: np.random.Generator) -> tuple[FloatArray, ...]:
    """Numbers of the groups: NaN while nothing was seen, and then all of a group's known, or none."""
    m, scope = int(rng.integers(0, 5 * ENOUGH)), float(1 - rng.random())
    losses = np.round(rng.exponential(size=m), int(rng.integers(0, 9)))  # with ties, some of them all alike
    tokens = rng.integers(1, 50, m)
    seen = Visits(rng.integers(0, 100, m), losses, tokens, np.ones(m))
    found = []
    for visits in (Visits.none(), seen):
        running = Running(groups)
        running.take(visits)
        level = weight.level(Levels(visits, groups, running), scope)
        about = f"of {len(groups.names)} groups at scope {scope} after the losses {visits.losses.tolist()}"
        shape = (len(groups.names),)
        promise(
            isinstance(level, tuple) and all(isinstance(one, np.ndarray) and one.shape == shape for one in level),
            f"`{name}` must give its level as a tuple of numbers, each of shape {shape}, got {level!r} {about}.",
        )
        promise(
            not level or (weight.kind == "row" and weight.groups is not None),
            f"`{name}` must have no level, or say `groups` and be of kind row, got {len(level)} numbers {about}: a "
            "token's loss is compared with nothing.",
        )
        promise(
            all((np.isnan(one) == np.isnan(level[0])).all() for one in level),
            f"`{name}` must know all numbers of a group's level or none of them, got {level!r} {about}.",
        )
        found.append(level)
    promise(
        all(np.isnan(one).all() for one in found[0]),
        f"`{name}` must have no level, NaN, while no loss was seen, got {found[0]!r}. A row then counts 1.",
    )
    return found[1]


def _check_factor(
    setting: str | Mapping[str, Any],
    weight: LiveWeight,
    losses: FloatArray,
    level: Sequence[FloatArray],
    rng: np.random.Generator,
) -> None:
    """The same under numpy and torch, and whoever stands beside it."""
    import torch  # the recipe's weights are read without it

    name, about = name_in(setting), f"for the losses {losses.tolist()} at the level {[one.tolist() for one in level]}"
    given, levels = losses.copy(), [one.copy() for one in level]
    factors = weight.factor(given, levels, np)
    promise(
        given.tolist() == losses.tolist() and all((a == b).all() for a, b in zip(levels, level, strict=True)),
        f"`{name}` must leave the losses and levels that it is given as they were, got them changed {about}.",
    )
    _check_numbers(name, factors, losses.shape, about)
    for again in (weight, build_weight(setting)):
        assert isinstance(again, LiveWeight)
        second = again.factor(losses, level, np)
        promise(
            second.tolist() == factors.tolist(),
            f"`{name}` must give the same losses the same factors whenever it is asked, got {factors.tolist()}, then "
            f"{second.tolist()} {about}. Remember nothing, and draw nothing.",
        )
    order = rng.permutation(len(losses))
    for part in np.array_split(order, 2):
        others = weight.factor(losses[part], [one[part] for one in level], np)
        promise(
            np.allclose(others, factors[part], rtol=ROUNDING, atol=0),
            f"`{name}` must give a loss its own factor, whatever others stand beside it, got {factors.tolist()}, and "
            f"{others.tolist()} of {part.tolist()} alone {about}. What is compared with others belongs into `level`.",
        )
    for kind in (torch.float64, torch.float32):
        there = weight.factor(torch.tensor(losses, dtype=kind), [torch.tensor(one, dtype=kind) for one in level], torch)
        promise(
            isinstance(there, torch.Tensor) and there.dtype == kind and there.shape == losses.shape,
            f"`{name}` must give a tensor like the losses where `xp` is torch, {kind} of shape {losses.shape}, got "
            f"{getattr(there, 'dtype', type(there).__name__)} {about}. Compute with `xp` alone.",
        )
        promise(
            bool(torch.isfinite(there).all()) and bool((there >= 0).all()),
            f"`{name}` must give finite weights, none below 0, as {kind} too, got {there.tolist()} {about}.",
        )
        promise(
            kind == torch.float32 or np.allclose(there.numpy(), factors, rtol=ROUNDING, atol=ROUNDING),
            f"`{name}` must be the same under numpy and torch, got {factors.tolist()} and {there.tolist()} {about}.",
        )
