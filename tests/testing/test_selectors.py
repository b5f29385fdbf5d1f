"""What every registered selector promises, whatever it is shown."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.selectors import (
    LOSS,
    PROBES,
    SELECTORS,
    START_LOSS,
    GreedySelector,
    Selector,
    View,
    build_selector,
)
from tests.strategies import examples

# a new selector with options must say here how it is made; `order` is one that may be offered or not
SETTINGS: dict[str, list[dict[str, Any]]] = {"fixed": [{}, {"order": "b"}]}
EVERY = [{"name": name, **options} for name in SELECTORS.names() for options in SETTINGS.get(name, [{}])]

every_selector = pytest.mark.parametrize("setting", EVERY, ids=lambda s: "-".join(map(str, s.values())))


@st.composite
def views(draw: st.DrawFn) -> View:
    names = draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6, unique=True))
    losses = st.lists(st.floats(0.0, 12.0) | st.sampled_from([1.0, 2.0]), min_size=len(names), max_size=len(names))
    return View(
        names=names,
        stage=draw(st.integers(0, 1000)),
        times_chosen=draw(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 9))),
        seed=draw(st.integers(0, 2**40)),
        mean_loss=np.array(draw(losses)),
        start_loss=np.array(draw(losses)),
        probe_loss=draw(st.floats(0.0, 12.0)),
    )


def asked(test: Callable[..., None]) -> Callable[..., None]:
    """Shown a few views; every selector is."""
    return examples(20)(given(view=views())(test))


def test_all_seven_selectors_are_registered_and_those_with_options_are_made_with_them() -> None:
    published = {"lowest_perplexity", "relative_perplexity", "matched", "fixed", "round_robin", "random", "shuffle"}
    assert published <= set(SELECTORS.names())
    assert all(name in SETTINGS for name in SELECTORS.names() if SELECTORS.options(name))


@every_selector
@asked
def test_a_selector_takes_one_of_the_offers(setting: dict[str, Any], view: View) -> None:
    assert build_selector(setting).choose(view) in view.names


@every_selector
@asked
def test_a_choice_depends_on_what_is_shown_and_on_nothing_else(setting: dict[str, Any], view: View) -> None:
    one, other = build_selector(setting), build_selector(setting)
    other.choose(replace(view, stage=view.stage + 1))  # having been asked before leaves no trace
    assert one.choose(view) == one.choose(view) == other.choose(view)


@every_selector
@asked
def test_a_choice_does_not_depend_on_what_the_offers_are_called(setting: dict[str, Any], view: View) -> None:
    called = {name: f"renamed {name}" for name in "abcdef"}
    if "order" in setting:
        setting = {**setting, "order": called[setting["order"]]}
    renamed = replace(
        view,
        names=[called[name] for name in view.names],
        times_chosen={called[name]: times for name, times in view.times_chosen.items()},
    )
    original = {**setting, "order": "b"} if "order" in setting else setting
    assert build_selector(setting).choose(renamed) == called[build_selector(original).choose(view)]


@every_selector
@asked
def test_a_selector_looks_only_at_what_it_says_it_needs(setting: dict[str, Any], view: View) -> None:
    selector = build_selector(setting)
    bare = replace(
        view,
        mean_loss=view.mean_loss if LOSS in selector.needs else None,
        start_loss=view.start_loss if START_LOSS in selector.needs else None,
        probe_loss=view.probe_loss if PROBES in selector.needs else None,
    )
    assert selector.choose(bare) == selector.choose(view)


@every_selector
@asked
def test_a_single_offer_is_taken(setting: dict[str, Any], view: View) -> None:
    assert view.mean_loss is not None
    assert view.start_loss is not None
    alone = replace(view, names=view.names[:1], mean_loss=view.mean_loss[:1], start_loss=view.start_loss[:1])
    assert build_selector(setting).choose(alone) == view.names[0]


@pytest.mark.parametrize("setting", [s for s in EVERY if isinstance(build_selector(s), GreedySelector)])
@examples(20)
@given(view=views().filter(lambda view: len(view.names) > 1), data=st.data())
def test_a_greedy_selector_prefers_any_measured_offer_to_an_unmeasured_one(
    setting: dict[str, Any], view: View, data: st.DataObject
) -> None:
    selector = build_selector(setting)
    assert view.mean_loss is not None
    unmeasured = data.draw(st.integers(0, len(view.names) - 1))
    losses = view.mean_loss.copy()
    losses[unmeasured] = np.nan
    assert selector.choose(replace(view, mean_loss=losses)) != view.names[unmeasured]


@every_selector
def test_a_selector_needs_only_what_a_run_can_show(setting: dict[str, Any]) -> None:
    selector = build_selector(setting)
    assert isinstance(selector, Selector)
    assert selector.needs <= {LOSS, START_LOSS, PROBES}
    assert isinstance(selector, GreedySelector) == (LOSS in selector.needs)


@pytest.mark.parametrize("name", SELECTORS.names())
def test_a_card_of_its_own_says_what_is_taken(name: str) -> None:
    card = inspect.getdoc(SELECTORS.get(name)) or ""
    assert card != (inspect.getdoc(Selector) or "")
    assert len(card.split()) >= 10
