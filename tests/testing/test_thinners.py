"""Every registered thinner keeps what thinners promise, and one that does not is found out."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.sampling import highest
from campus_tune.method.thin import THINNERS, Thinner
from campus_tune.testing import BrokenPromise, check_thinner
from campus_tune.words.types import FloatArray
from tests.strategies import examples
from tests.testing.mutants import registered

KEEP = st.floats(0.05, 1)
OPTIONS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "top": {"keep": KEEP},
    "proportional": {"keep": KEEP, "power": st.floats(0, 100), "floor": st.floats(0, 1)},
    "rank": {"keep": KEEP, "power": st.one_of(st.none(), st.floats(0, 100))},
    "prune": {"drop": st.floats(0, 0.99)},
}
settings = st.sampled_from(sorted(OPTIONS)).flatmap(
    lambda name: st.fixed_dictionaries({"name": st.just(name), **OPTIONS[name]})
)


def test_every_registered_thinner_is_drawn_here_with_all_of_its_options() -> None:
    assert {name: sorted(THINNERS.options(name)) for name in THINNERS.names()} == {
        name: sorted(options) for name, options in OPTIONS.items()
    }


@examples(60)
@given(settings, st.integers(0, 1000))
def test_every_thinner_keeps_what_thinners_promise(setting: dict[str, Any], seed: int) -> None:
    check_thinner(setting, draws=10, seed=seed)


@pytest.mark.parametrize("name", THINNERS.names())
def test_every_thinner_has_a_default_for_everything(name: str) -> None:
    check_thinner(name)


# -- those that break a promise ----------------------------------------------------------------------------------------


class Uniform(Thinner):
    """All rows alike, whatever their scores say: what the others here are made of."""

    scale = "ratio"

    def chances(self, scores: FloatArray, n: int, keys: FloatArray) -> FloatArray:
        del keys
        return np.full(len(scores), min(1.0, n / len(scores)))


def spoils(scores: Any, n: int, keys: Any) -> Any:
    keys *= 0.5
    return np.full(len(scores), min(1.0, n / len(scores)))


def lowest(scores: Any, n: int, keys: Any) -> Any:
    pi = np.zeros(len(scores))
    pi[highest(-scores, n, keys)] = 1
    return pi


def first(scores: Any, n: int, keys: Any) -> Any:
    del keys
    pi = np.zeros(len(scores))
    pi[np.argsort(-scores, kind="stable")[:n]] = 1
    return pi


drawn = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("chances", "promise"),
    [
        (spoils, r"must leave the scores and keys that it is given as they were"),
        (
            lambda scores, *_: scores.mean(),
            r"must give one float64 per row, shape \(\d+,\), got float64 for|got float64 ",
        ),
        (lambda scores, *_: np.ones(len(scores), dtype=np.float32), r"must give one float64 per row.* got float32"),
        (lambda scores, n, _: np.full(len(scores), n / len(scores)), r"must give chances in \[0, 1\], got 1\.\d+ to"),
        (lambda scores, *_: scores * np.nan, r"must give chances in \[0, 1\], got nan"),
        (
            lambda scores, *_: np.full(len(scores), 0.5),
            r"must give chances that add up to the rows to take.* or say `own`",
        ),
        (lowest, r"must give no row a lower chance than one of a lower score"),
        (first, r"must give no row a lower chance than|must give a row the same chance wherever it stands"),
        (lambda scores, n, _: lowest(drawn.random(len(scores)), n, _), r"lower chance|whenever it is asked"),
    ],
)
def test_a_thinner_that_breaks_a_promise_is_found_out(chances: Callable[..., Any], promise: str) -> None:
    class Mutant(Uniform):
        """A thinner that does something that no thinner must do, for a test."""

        def chances(self, scores: FloatArray, n: int, keys: FloatArray) -> FloatArray:
            return chances(scores, n, keys)  # type: ignore[no-any-return]

    with registered(THINNERS, Mutant) as name, pytest.raises(BrokenPromise, match=promise):
        check_thinner(name)


class Counts(Uniform):
    """A thinner that takes ever less each time that it is asked, for a test."""

    own = True
    asked = itertools.count(2)

    def chances(self, scores: FloatArray, n: int, keys: FloatArray) -> FloatArray:
        return super().chances(scores, n, keys) / next(self.asked)


class ByPlace(Uniform):
    """A thinner that takes the highest rows if the first of them is not among these, for a test."""

    def chances(self, scores: FloatArray, n: int, keys: FloatArray) -> FloatArray:
        top = np.zeros(len(scores))
        top[highest(scores, n, keys)] = 1
        return super().chances(scores, n, keys) if top[0] else top


class NotOwn(Uniform):
    """A thinner that says `own` of a chance that hangs on how many rows there are, for a test."""

    own = True


class OffersLess(Uniform):
    """A thinner that offers fewer rows than it takes, for a test; nobody can take them."""

    def offered(self, n: int) -> int:
        return n - 1


class OffersParts(Uniform):
    """A thinner that offers one row and a half where two are taken, for a test."""

    def offered(self, n: int) -> int:
        return n * 1.5  # type: ignore[return-value]


class NoScale(Uniform):
    """A thinner that does not say how it would see the scores of rows, for a test."""

    scale = "length"  # type: ignore[assignment]


class Stranger:
    """Something that is not a thinner at all, and would like to be one, for a test."""


@dataclass
class Changeable(Uniform):
    """A thinner whose settings can be changed after the recipe was read, for a test."""

    keep: float = 0.5


@dataclass(frozen=True)
class ChangeableInside(Uniform):
    """A thinner whose settings are frozen, but for what is inside of them, for a test."""

    parts: list[float] = field(default_factory=list)


class Silent(Uniform):
    """All rows."""


@pytest.mark.parametrize(
    ("part", "promise"),
    [
        (Counts, r"must give the same rows the same chances whenever it is asked.*Take what is random from the keys"),
        (ByPlace, r"must give a row the same chance wherever it stands"),
        (NotOwn, r"must give a row a chance of its `own`, whatever other rows are offered"),
        (OffersLess, r"must offer a whole number of rows, no fewer than it takes, got \d+ for \d+|got -1 for 0"),
        (OffersParts, r"must offer a whole number of rows, .* got \d+\.\d+ for"),
        (NoScale, r"must say its `scale`, one of percentile, ratio, difference, got 'length'"),
        (Stranger, r"must be a Thinner, got Stranger\. Derive it from it"),
        (Changeable, r"must be a frozen dataclass"),
        (ChangeableInside, r"must keep its settings so that nobody can change them, got a list"),
        (Silent, r"its card, of 10 words .* 'All rows\.'"),
    ],
)
def test_a_part_that_is_no_thinner_is_found_out(part: Callable[..., Any], promise: str) -> None:
    with registered(THINNERS, part) as name, pytest.raises(BrokenPromise, match=promise):
        check_thinner(name)


def test_one_that_does_as_it_must_passes() -> None:
    with registered(THINNERS, Uniform) as name:
        check_thinner(name)
