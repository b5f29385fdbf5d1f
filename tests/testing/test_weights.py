"""Every registered weight keeps what weights promise, and one that does not is found out."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.levels import Levels
from campus_tune.method.weights import WEIGHTS, Favours, LiveWeight, PlannedWeight, Planning
from campus_tune.testing import BrokenPromise, check_weight
from campus_tune.words.types import FloatArray
from tests.strategies import examples
from tests.testing.mutants import registered

OF = {"of": st.sampled_from(["token", "row"])}
OPTIONS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "column": {"column": st.sampled_from(["weight", "votes"]), "of": st.sampled_from(["row", "message"])},
    "unbiased": {},
    "self_paced": {"form": st.sampled_from(["linear", "log", "hard"]), "floor": st.floats(0, 0.99)},
    "focal": {"gamma": st.floats(0, 10), **OF},
    "superloss": {"temper": st.floats(0.001, 1000)},
    "linupper": {"delta": st.floats(0.01, 100), "r": st.floats(0.01, 100)},
    "robust": {"act": st.sampled_from(["auto", "always", "never"])},
}
settings = st.sampled_from(sorted(OPTIONS)).flatmap(
    lambda name: st.fixed_dictionaries({"name": st.just(name), **OPTIONS[name]})
)


def test_every_registered_weight_is_drawn_here_with_all_of_its_options() -> None:
    assert {name: sorted(WEIGHTS.options(name)) for name in WEIGHTS.names()} == {
        name: sorted(options) for name, options in OPTIONS.items()
    }


@examples(60)
@given(settings, st.integers(0, 1000))
def test_every_weight_keeps_what_weights_promise(setting: dict[str, Any], seed: int) -> None:
    check_weight(setting, draws=3, seed=seed)


@pytest.mark.parametrize("name", WEIGHTS.names())
def test_every_weight_has_a_default_for_everything(name: str) -> None:
    check_weight(name)


# -- planned ones that break a promise ---------------------------------------------------------------------------------


class Even(PlannedWeight):
    """All rows alike, which is what a recipe without weights does: what the others here are made of."""

    def planned(self, shown: Planning) -> FloatArray:
        return np.ones(len(shown.rows))


def spoils(shown: Planning) -> Any:
    shown.unbiased[:] *= 2
    return np.ones(len(shown.rows))


calls = itertools.count(1)


@pytest.mark.parametrize(
    ("weigh", "promise"),
    [
        (spoils, r"must leave the rows that it is shown as they were, got them changed for the rows"),
        (lambda _: 1.0, r"must give one float64 for each, shape \(\d+,\), got float for the rows"),
        (lambda shown: np.ones(len(shown.rows), dtype=np.float32), r"one float64 for each, .* got float32 \(\d+,\)"),
        (lambda shown: np.ones(len(shown.rows) + 1), r"one float64 for each, .* got float64"),
        (lambda shown: shown.unbiased - 2.0, r"must give finite weights, none below 0, got \[.*-"),
        (lambda shown: shown.unbiased * np.nan, r"must give finite weights, none below 0, got \[nan"),
        (lambda shown: shown.unbiased * next(calls), r"the same weights whenever it is asked, got .* Remember nothing"),
        (lambda shown: np.linspace(1, 2, len(shown.rows)), r"must give a row the same weight wherever it stands, got"),
    ],
)
def test_a_planned_weight_that_breaks_a_promise_is_found_out(weigh: Callable[[Planning], Any], promise: str) -> None:
    class Mutant(Even):
        """A planned weight that does something that no weight must do, for a test."""

        def planned(self, shown: Planning) -> FloatArray:
            return weigh(shown)  # type: ignore[no-any-return]

    with registered(WEIGHTS, Mutant) as name, pytest.raises(BrokenPromise, match=promise):
        check_weight(name)


# -- live ones ---------------------------------------------------------------------------------------------------------


class Mild(LiveWeight):
    """Rows above the median of their domain count a little less: what the others here are made of."""

    kind = "row"
    favours: ClassVar[Favours | None] = "easy"
    groups = "domains"

    def level(self, levels: Levels, scope: float) -> tuple[FloatArray, ...]:
        del scope
        return (levels.quantile(0.5),)

    def factor(self, loss: Any, level: Any, xp: Any) -> Any:
        return 1 / (1 + xp.clip(loss - level[0], 0.0, None))


def own(loss: Any) -> Any:
    loss *= 0.5
    return loss


@pytest.mark.parametrize(
    ("factor", "promise"),
    [
        (lambda loss, *_: own(loss), r"must leave the losses and levels that it is given as they were"),
        (lambda loss, level, _: own(level[0]) + loss, r"must leave the losses and levels that it is given as they"),
        (lambda loss, _, xp: xp.ones_like(loss)[0], r"must give one float64 for each, shape \(\d+,\), got float64"),
        (lambda loss, *_: 1 / loss, r"must give finite weights, none below 0, got \[.*inf"),
        (lambda loss, level, _: level[0] - loss, r"must give finite weights, none below 0, got \[.*-"),
        (lambda loss, _, xp: xp.exp(-loss) / next(calls), r"same factors whenever it is asked, .* draw nothing"),
        (lambda loss, *_: loss / loss.max(), r"its own factor, whatever others stand .* belongs into `level`"),
        (lambda loss, *_: np.exp(-np.asarray(loss)), r"must give a tensor like the losses where `xp` is torch"),
        (lambda loss, _, xp: xp.exp(-loss) * np.ones(1)[0] if xp is np else xp.exp(-loss).double(), r"torch\.float32"),
        (lambda loss, _, xp: xp.exp(-loss) / (1 if xp is np else 2), r"must be the same under numpy and torch, got"),
        (lambda loss, _, xp: xp.exp(2 * loss), r"must give finite weights, none below 0, as torch\.float32 too, got"),
        (lambda loss, *_: loss, r"must favour easy rows if it says so, got \[0\.0, .* Say `favours` of what"),
        (lambda loss, _, xp: 1 / (1 + loss) + 0.2 * (xp.abs(loss - 9) < 1), r"must favour easy rows if it says so"),
        (lambda loss, _, xp: xp.where(xp.abs(loss - 9) < 1, 0 * loss, 1 / (1 + loss)), r"must favour easy rows if it"),
    ],
)
def test_a_live_weight_that_breaks_a_promise_is_found_out(factor: Callable[..., Any], promise: str) -> None:
    class Mutant(Mild):
        """A live weight that does something that no weight must do, for a test."""

        def factor(self, loss: Any, level: Any, xp: Any) -> Any:
            return factor(loss, level, xp)

    with (
        np.errstate(divide="ignore"),
        registered(WEIGHTS, Mutant) as name,
        pytest.raises(BrokenPromise, match=promise),
    ):
        check_weight(name)


@pytest.mark.parametrize(
    ("level", "promise"),
    [
        (lambda levels: [levels.mean()], r"must give its level as a tuple of numbers, each of shape \(\d,\), got \["),
        (lambda _: (1.0,), r"must give its level as a tuple of numbers, each of shape \(\d,\), got \(1\.0,\)"),
        (
            lambda levels: (np.append(levels.mean(), 1),),
            r"must give its level as a tuple .* of shape \(\d,\), got",
        ),
        (lambda levels: (np.nan_to_num(levels.mean()),), r"must have no level, NaN, while no loss was seen, got \(arr"),
        (
            lambda levels: (levels.mean(), np.ones(len(levels.mean()))),
            r"must know all numbers of a group's level or none of them, got",
        ),
    ],
)
def test_a_level_that_is_none_is_found_out(level: Callable[[Levels], Any], promise: str) -> None:
    class Mutant(Mild):
        """A live weight whose level is not what levels must be, for a test."""

        def level(self, levels: Levels, scope: float) -> tuple[FloatArray, ...]:
            del scope
            return level(levels)  # type: ignore[no-any-return]

    with registered(WEIGHTS, Mutant) as name, pytest.raises(BrokenPromise, match=promise):
        check_weight(name)


# -- what a weight says of itself --------------------------------------------------------------------------------------


class Neither(Even):
    """A planned weight that says it were a live one of rows, for a test."""

    kind = "row"  # type: ignore[assignment]


class OfNothing(Mild):
    """A live weight that says it were known before the forward, for a test."""

    kind = "planned"


class OfTokens(Mild):
    """A weight of tokens that compares a token's loss with a level of rows, for a test."""

    kind = "token"


class Ungrouped(Mild):
    """A live weight with a level that does not say whose it is, for a test."""

    groups = None


class ByColour(Mild):
    """A live weight that compares a loss with those of rows of one colour, for a test."""

    groups = "colours"  # type: ignore[assignment]


class FavoursLong(Mild):
    """A live weight that says it favours long rows, for a test."""

    favours = "long"  # type: ignore[assignment]


class Late(Mild):
    """A live weight that begins to hold when the run is over, for a test."""

    since = 1.0


class Stranger:
    """Something that is not a weight at all, and would like to be one, for a test."""


@dataclass
class Changeable(Even):
    """A weight whose settings can be changed after the recipe was read, for a test."""

    power: float = 0.5


@dataclass(frozen=True)
class ChangeableInside(Even):
    """A weight whose settings are frozen, but for what is inside of them, for a test."""

    parts: list[float] = field(default_factory=list)


class Silent(Even):
    """All rows."""


@pytest.mark.parametrize(
    ("part", "promise"),
    [
        (Neither, r"must say its `kind`, one of planned, got 'row'"),
        (OfNothing, r"must say its `kind`, one of row, token, got 'planned'"),
        (OfTokens, r"must have no level, or say `groups` and be of kind row, got 1 numbers .* compared with nothing"),
        (Ungrouped, r"must have no level, or say `groups` and be of kind row, got 1 numbers"),
        (ByColour, r"must compare a loss with `groups`, one of domains, cells or None, got 'colours'"),
        (FavoursLong, r"must say which rows it `favours`, one of hard, easy or None, got 'long'"),
        (Late, r"must hold `since` a progress in \[0, 1\), got 1\.0"),
        (Stranger, r"must be a PlannedWeight or a LiveWeight, got Stranger\. Derive it from one of them"),
        (Changeable, r"must be a frozen dataclass"),
        (ChangeableInside, r"must keep its settings so that nobody can change them, got a list"),
        (Silent, r"its card, of 10 words .* 'All rows\.'"),
    ],
)
def test_a_part_that_is_no_weight_is_found_out(part: Callable[..., Any], promise: str) -> None:
    with registered(WEIGHTS, part) as name, pytest.raises(BrokenPromise, match=promise):
        check_weight(name)


@pytest.mark.parametrize("part", [Even, Mild])
def test_one_that_does_as_it_must_passes(part: Callable[..., Any]) -> None:
    with registered(WEIGHTS, part) as name:
        check_weight(name)
