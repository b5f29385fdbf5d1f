"""What each selector takes, on numbers small enough to see why."""

from __future__ import annotations

from collections import Counter
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from campus_tune.method.selectors import View, build_selector
from campus_tune.method.selectors.base import RESOLUTION
from campus_tune.method.selectors.baselines import Fixed
from campus_tune.words.errors import RecipeError

NAMES = ("length", "mtld", "loss")


def view(**shown: Any) -> View:
    arrays = {key: np.array(value) if isinstance(value, list) else value for key, value in shown.items()}
    return View(**{"names": NAMES, **arrays})


def test_lowest_perplexity_takes_what_the_model_finds_easiest() -> None:
    assert build_selector("lowest_perplexity").choose(view(mean_loss=[2.0, 1.5, 1.9])) == "mtld"


def test_relative_perplexity_takes_what_the_model_has_learned_most_of() -> None:
    """1.5 is the lowest loss, but 2.0 has come down from 3.0."""
    shown = view(mean_loss=[2.0, 1.5, 1.9], start_loss=[3.0, 1.6, 2.0])
    assert build_selector("relative_perplexity").choose(shown) == "length"


def test_matched_takes_what_is_nearest_to_the_probes_on_either_side() -> None:
    assert build_selector("matched").choose(view(mean_loss=[2.0, 1.0, 1.4], probe_loss=1.5)) == "loss"
    assert build_selector("matched").choose(view(mean_loss=[2.0, 1.0, 1.4], probe_loss=2.1)) == "length"


@pytest.mark.parametrize("name", ["lowest_perplexity", "relative_perplexity", "matched"])
def test_ties_go_to_the_first_in_the_recipes_sequence(name: str) -> None:
    shown = view(mean_loss=[1.0, 1.0, 1.0], start_loss=[2.0, 2.0, 2.0], probe_loss=0.5)
    assert build_selector(name).choose(shown) == "length"


def test_what_is_no_more_than_noise_of_floats_is_a_tie() -> None:
    """Two machines, or two and one processes, add floats in other sequences; that must not flip a choice."""
    selector = build_selector("lowest_perplexity")
    for noise in (4e-8, 1e-5, 0.9 * RESOLUTION):
        near = view(mean_loss=[1.0 + noise, 1.0, 1.2])
        assert selector.choose(near) == "length"
        assert selector.tied(near) == ["length", "mtld"]
    assert selector.choose(view(mean_loss=[1.0 + 1.1 * RESOLUTION, 1.0, 1.2])) == "mtld"


def test_the_margin_is_the_lead_over_the_next_offer_that_was_measured() -> None:
    selector = build_selector("lowest_perplexity")
    assert selector.margin(view(mean_loss=[1.5, 1.25, 2.0])) == 0.25
    assert selector.margin(view(mean_loss=[1.5, np.nan, 2.0])) == 0.5
    assert selector.margin(view(mean_loss=[1.5, np.nan, np.nan])) is None


@pytest.mark.parametrize("name", ["fixed", "round_robin", "random"])
def test_a_selector_that_compares_no_losses_has_no_distances(name: str) -> None:
    selector = build_selector(name)
    assert (selector.distances(view()), selector.tied(view()), selector.margin(view())) == (None, [], None)


@given(
    losses=st.lists(st.floats(0.1, 5.0), min_size=2, max_size=5),
    noise=st.lists(st.floats(-1e-5, 1e-5), min_size=5, max_size=5),
)
def test_noise_flips_no_choice_but_of_a_margin_at_the_edge_of_the_resolution(
    losses: list[float], noise: list[float]
) -> None:
    selector = build_selector("lowest_perplexity")
    names = tuple("abcde"[: len(losses)])
    gaps = np.array(losses) - min(losses)
    assume(not (np.abs(gaps - RESOLUTION) < 3e-5).any())
    moved = np.array(losses) + np.array(noise[: len(losses)])
    assert selector.choose(view(names=names, mean_loss=losses)) == selector.choose(view(names=names, mean_loss=moved))


@pytest.mark.parametrize("name", ["lowest_perplexity", "relative_perplexity", "matched"])
def test_an_offer_of_which_nothing_was_measured_is_not_taken(name: str) -> None:
    shown = view(mean_loss=[np.nan, 9.0, 8.0], start_loss=[np.nan, 9.0, 9.0], probe_loss=1.0)
    assert build_selector(name).choose(shown) == "loss"


def test_fixed_keeps_to_its_order_while_that_is_offered() -> None:
    assert build_selector({"name": "fixed", "order": "loss"}).choose(view()) == "loss"
    assert build_selector({"name": "fixed", "order": "loss"}).choose(view(names=("length", "mtld"))) == "length"
    assert build_selector("fixed").choose(view()) == "length"


def test_round_robin_takes_turns() -> None:
    selector, chosen = build_selector("round_robin"), Counter[str]()
    for _ in range(7):
        chosen[selector.choose(view(times_chosen=chosen))] += 1
    assert chosen == {"length": 3, "mtld": 2, "loss": 2}


def test_round_robin_goes_round_those_that_are_left() -> None:
    assert build_selector("round_robin").choose(view(names=("mtld", "loss"), times_chosen={"mtld": 2})) == "loss"


def test_random_takes_each_as_often_as_any_other() -> None:
    chosen = Counter(build_selector("random").choose(view(stage=stage, seed=4)) for stage in range(3000))
    assert sum((chosen[name] - 1000) ** 2 / 1000 for name in NAMES) < 13.8  # 2 degrees of freedom, p = 0.001


def test_random_depends_on_the_seed_and_the_stage_only() -> None:
    def choices(seed: int) -> list[str]:
        return [build_selector("random").choose(view(stage=stage, seed=seed)) for stage in range(30)]

    assert choices(1) == choices(1) != choices(2)


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError, match="order"):
        Fixed("loss").order = "length"  # type: ignore[misc] # that is the point


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("matcht", r"`selector` must be one of exp3s, .*, ucb, got 'matcht'\. Did you mean 'matched'\?"),
        ({"order": "loss"}, r"`selector` must have a name, one of exp3s, .*, got \{'order': 'loss'\}\."),
        ({"name": "fixed", "ordr": "loss"}, r"`selector: fixed` takes order, got 'ordr'\. Did you mean 'order'\?"),
        ({"name": "random", "seed": 1}, r"`selector: random` takes no options, got 'seed'\."),
    ],
)
def test_a_wrong_setting_says_what_was_given_and_what_is_wanted(setting: Any, complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        build_selector(setting)


@pytest.mark.parametrize(
    ("name", "shown", "complaint"),
    [
        ("lowest_perplexity", {}, "is shown the offers' losses"),
        ("relative_perplexity", {"mean_loss": [1.0, 2.0, 3.0]}, "is shown the losses at the start"),
        ("matched", {"mean_loss": [1.0, 2.0, 3.0]}, "is shown the probes' loss"),
    ],
)
def test_a_caller_that_does_not_show_what_a_selector_needs_is_stopped(
    name: str, shown: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(AssertionError, match=complaint):
        build_selector(name).choose(view(**shown))


def test_replayed_takes_the_choice_of_the_stage() -> None:
    selector = build_selector({"name": "replayed", "choices": ["mtld", "length", "mtld", "loss"]})
    assert [selector.choose(view(stage=stage)) for stage in range(4)] == ["mtld", "length", "mtld", "loss"]


def test_replayed_takes_the_least_often_chosen_where_its_choice_is_not_offered_or_there_is_none() -> None:
    selector = build_selector({"name": "replayed", "choices": ["mtld", "shuffle"]})
    times = {"length": 3, "loss": 1}
    assert selector.choose(view(names=("length", "loss"), times_chosen=times)) == "loss"
    assert selector.choose(view(stage=1, times_chosen={"mtld": 2, **times})) == "loss"
    assert selector.choose(view(stage=7, times_chosen=times)) == "mtld"


def test_replayed_keeps_its_choices_whatever_becomes_of_the_list() -> None:
    choices = ["mtld"]
    selector = build_selector({"name": "replayed", "choices": choices})
    choices[0] = "loss"
    assert selector.choose(view()) == "mtld"
    assert hash(selector) == hash(build_selector({"name": "replayed", "choices": ["mtld"]}))
