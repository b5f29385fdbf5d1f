"""Every registered selector keeps what selectors promise, and a selector that does not is found out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from campus_tune.method.selectors import LOSS, SELECTORS, GreedySelector, Selector, View
from campus_tune.testing import BrokenPromise, check_selector
from tests.testing.mutants import registered

# a new selector with options must say here how it is made; `order` is one that may be offered or not
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "fixed": [{}, {"order": "b"}],
    "replayed": [{"choices": ["a"]}, {"choices": list("abcabcfedcba") * 50}],
    "exp3s": [{}, {"reward": "own", "eta": 1, "beta": 0.1}, {"reward": "norm", "eta": 10, "epsilon": 0.001}],
    "ucb": [{}, {"reward": "own", "gamma": 0.01}, {"reward": "norm", "c": 0}],
    "teacher": [{}, {"reward": "own", "epsilon": 0}, {"reward": "norm", "abs": False}],
}
EVERY = [{"name": name, **options} for name in SELECTORS.names() for options in SETTINGS.get(name, [{}])]


def test_the_published_selectors_are_registered_and_those_with_options_are_made_with_them() -> None:
    published = {"lowest_perplexity", "relative_perplexity", "matched", "fixed", "round_robin", "random", "shuffle"}
    published |= {"exp3s", "ucb", "teacher", "replayed"}
    assert published <= set(SELECTORS.names())
    assert all(name in SETTINGS for name in SELECTORS.names() if SELECTORS.options(name))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("setting", EVERY, ids=lambda s: "-".join(map(str, s.values())))
def test_every_selector_keeps_what_selectors_promise(setting: dict[str, Any], seed: int) -> None:
    check_selector(setting, seed=seed)


class Base(Selector):
    """A selector that does something that no selector must do, for a test."""

    def choose(self, view: View) -> str:
        return view.names[0]


class NoCard(Selector):
    def choose(self, view: View) -> str:
        return view.names[0]


class NoSelector:
    """Something that chooses and is no selector at all, for a test."""

    needs: frozenset[str] = frozenset()

    def choose(self, view: View) -> str:
        return view.names[0]


class Remembers(Base):
    """A selector that keeps what it was asked in a field of its own, for a test."""

    def __init__(self) -> None:
        self.seen = 0


@dataclass(frozen=True)
class Changeable(Base):
    """A selector whose settings are frozen, but for what is inside of them."""

    order: list[str] = field(default_factory=list)


class NeedsTheMoon(Base):
    """A selector that needs what no run can show it, for a test."""

    needs = frozenset({"moon"})


class NeedsLossAlone(Base):
    """A selector that needs losses and does not say how far an offer is, for a test."""

    needs = frozenset({LOSS})


class Invents(Base):
    """A selector that takes what was not offered to it, for a test."""

    def choose(self, view: View) -> str:
        del view
        return "zzz"


class Reorders(Base):
    """A selector that puts what it is shown into another sequence, for a test."""

    def choose(self, view: View) -> str:
        chosen = view.names[0]
        view.names.append("more")  # type: ignore[attr-defined] # a list, as it is drawn
        return chosen


class Counts(Base):
    """A selector that takes the next offer each time it is asked, for a test."""

    asked = 0

    def choose(self, view: View) -> str:
        Counts.asked += 1
        return view.names[Counts.asked % len(view.names)]


class Peeks(Base):
    """A selector that reads a loss and does not say that it needs it, for a test."""

    def choose(self, view: View) -> str:
        assert view.mean_loss is not None
        return view.names[int(np.argmin(view.mean_loss))]


class TakesTheUnmeasured(GreedySelector):
    """A selector to which an offer of which nothing is known is the nearest, for a test."""

    needs = frozenset({LOSS})

    def distance(self, loss: Any, *, start_loss: Any, probe_loss: Any) -> Any:
        del start_loss, probe_loss
        return np.nan_to_num(loss, nan=-1.0)


class ByName(Base):
    """A selector that goes by what the offers are called, for a test."""

    def choose(self, view: View) -> str:
        return min(view.names) if len(view.names[0]) == 1 else max(view.names)


class NeverTheFirst(Base):
    """A selector that takes nothing where there is one offer alone, for a test."""

    def choose(self, view: View) -> str:
        return view.names[1] if len(view.names) > 1 else ""


@pytest.mark.parametrize(
    ("part", "promise"),
    [
        (NoCard, r"`mutant` must have a docstring of its own, its card"),
        (NoSelector, r"`mutant` must be a Selector, got NoSelector\. Inherit it"),
        (Remembers, r"must be a frozen dataclass, got Remembers\. Write @dataclass\(frozen=True\)"),
        (Changeable, r"got a list, dict or set in order\. Keep a tuple"),
        (NeedsTheMoon, r"must need only what a run can show \(loss, start_loss, probes, own, norm\), got moon"),
        (NeedsLossAlone, r"must be a GreedySelector if, and only if, it needs 'loss'"),
        (Invents, r"must take one of the offers \[.*\], got 'zzz'"),
        (NeverTheFirst, r"must take one of the offers \['.'\], got ''"),
        (Reorders, r"must leave the view as it was"),
        (Counts, r"(?s)must choose by what it is shown and by nothing else, got '.'.* remember nothing"),
        (
            Peeks,
            r"(?s)must look only at what it says it needs \(nothing\), got '.' .* and .AssertionError.*Add to `needs`",
        ),
        (TakesTheUnmeasured, r"must prefer any measured offer to one of which nothing could be measured"),
        (ByName, r"must not go by what the offers are called"),
    ],
)
def test_a_selector_that_breaks_a_promise_is_found_out(part: type, promise: str) -> None:
    if part is NoCard:
        part.__doc__ = Selector.__doc__
    with registered(SELECTORS, part) as name, pytest.raises(BrokenPromise, match=promise):
        check_selector(name)
