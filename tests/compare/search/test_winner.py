"""There is no winner where nothing matters, and one where something does: by simulated searches, many of them."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.compare.search.halving import finalists, next_legs
from campus_tune.compare.search.winner import Standing, chance_of, conclude, luck, promised, stand
from campus_tune.compare.verdict import Judgement, judge
from campus_tune.compare.verdict.difference import Difference
from campus_tune.compare.verdict.inputs import ArmResults, ItemValues
from campus_tune.words.types import FloatArray

N_TRIALS, RECIPE_SEEDS, SEEDS, ITEMS = 24, 3, 5, 40
SPREAD, CELL = 0.02, 0.15  # of seeds; of one item in one run, both in nats of a loss of 2


def judged(verdict: str | None, relative: float = -0.008, **more: object) -> Judgement:
    difference = Difference("best", "recipe", 2 * relative, relative=relative, mean_against=2.0, low=-0.04, high=0.008)
    return Judgement("best", "recipe", "loss", verdict, None, "", None, replace(difference, **more))  # type: ignore[arg-type]


def standing(change: float = -0.031) -> Standing:
    return Standing(7, 2 * (1 + change), 2.0, change, -0.02, 0.4, 0.009, 0.011, 24, 1)


# -- luck --------------------------------------------------------------------------------------------------------------


@given(n=st.integers(1, 200))
def test_the_best_of_many_draws_is_as_low_as_drawing_says(n: int) -> None:
    """Within five standard errors of 4000 draws."""
    lowest = np.random.default_rng(n).standard_normal((4000, n)).min(1)
    assert luck(n) == pytest.approx(-lowest.mean(), abs=5 * lowest.std() / math.sqrt(4000) + 1e-9)


@pytest.mark.parametrize(("n_trials", "seeds", "n_recipe"), [(1, 1, 3), (24, 1, 3), (12, 2, 4)])
def test_chance_is_what_searches_in_which_nothing_matters_show(n_trials: int, seeds: int, n_recipe: int) -> None:
    """Drawn run by run, as slowly as it goes: G over s, and how often it is larger than a given one."""
    rng, n = np.random.default_rng(5), 20_000
    recipe = rng.standard_normal((n, n_recipe))
    trials = rng.standard_normal((n, n_trials, seeds)).mean(2).min(1)
    found = (recipe[:, :seeds].mean(1) - trials) / recipe.std(1, ddof=1)
    for gain in (0.5, 1.5, 4.0):
        said = chance_of(0.02 * gain, 0.02, n_trials=n_trials, seeds=seeds, n_recipe=n_recipe, draws=20_000)
        assert said == pytest.approx((found >= gain).mean(), abs=0.02)


def test_chance_is_as_likely_to_be_small_as_it_says() -> None:
    """Of a thousand searches in which nothing matters, one in ten has a chance of at most one in ten."""
    rng, small = np.random.default_rng(6), 0
    for _ in range(1000):
        recipe, trials = rng.normal(2, SPREAD, RECIPE_SEEDS), rng.normal(2, SPREAD, N_TRIALS)
        found = stand(dict(enumerate(trials)), recipe.tolist(), n_trials=N_TRIALS, seeds=1, draws=2000)
        small += found.chance <= 0.1
    assert 65 <= small <= 140


def test_a_search_says_where_its_best_trial_stands() -> None:
    found = stand({3: 1.9, 1: 1.95}, [2.0, 2.02, 2.04], n_trials=24, seeds=1)
    assert (found.best, found.loss, found.recipe) == (3, 1.9, 2.0)  # beside the recipe with the trials' seed
    assert found.change == pytest.approx(-0.05)
    assert found.seed_spread == pytest.approx(0.01)
    assert found.luck == pytest.approx(-0.0195, abs=1e-4)
    assert found.trial_spread == pytest.approx(np.std([1.9, 1.95], ddof=1) / 2)
    first, second = found.said()
    assert first.startswith("the best trial ended −5.0 % beside the recipe with the same seeds; the trials differ by")
    assert "by luck alone the best of 24 trials of 1 seed looks 1.9 % better than it is" in second


def test_of_several_seeds_luck_is_less() -> None:
    one, four = (stand({0: 1.9}, [2.0, 2.02, 2.04, 2.06], n_trials=24, seeds=n).luck for n in (1, 4))
    assert one == pytest.approx(2 * four, rel=0.05)


def test_a_recipe_whose_seeds_do_not_differ_leaves_nothing_to_luck() -> None:
    assert stand({0: 1.9}, [2.0, 2.0], n_trials=24, seeds=1).chance == 0.0
    assert stand({0: 2.1}, [2.0, 2.0], n_trials=24, seeds=1).chance == 1.0


def test_a_single_trial_has_no_luck_to_speak_of() -> None:
    standing = stand({1: 0.9}, [1.0, 1.1, 1.2], n_trials=1, seeds=1, draws=100)
    assert standing.luck == 0
    assert "the best of 1 trial of 1 seed looks 0.0 % better" in standing.said()[1]


# -- the rule ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "recipe", "random", "winner", "says"),
    [
        (standing(), judged("helped"), judged("helped"), 7, "trial 7 is better than the recipe on fresh seeds"),
        (standing(), judged("helped"), judged("underpowered"), 7, "trial 7 is better"),
        (standing(), judged("helped"), judged("hurt"), None, "plain shuffling is better than both"),
        (standing(), judged("hurt"), None, None, "no winner: hurt on fresh seeds"),
        (standing(), judged("underpowered"), None, None, "more seeds or test rows may still find one"),
        (standing(), judged("no detectable difference"), None, None, "no winner: no detectable difference on fresh"),
        (standing(), replace(judged(None), refused="one seed"), None, None, "the runs bear no verdict: one seed"),
        (standing(0.01), None, None, None, "no trial ended below the recipe as it stands"),
        (standing(0.01), judged("helped"), None, None, "no trial ended below the recipe as it stands"),
    ],
)
def test_a_winner_is_what_compare_says_has_helped(
    found: Standing, recipe: Judgement | None, random: Judgement | None, winner: int | None, says: str
) -> None:
    conclusion = conclude(found, recipe, random)
    assert conclusion.winner == winner
    assert says in conclusion.why
    assert (winner is None) == conclusion.why.startswith("no winner")


def test_both_numbers_stand_side_by_side() -> None:
    assert promised(standing(), judged("underpowered")) == "search said −3.1 %, compare says −0.8 % (−2.0 % to +0.4 %)"
    assert promised(standing(), judged("underpowered", low=None)) == "search said −3.1 %, compare says −0.8 %"
    assert promised(standing(), None) is None


# -- whole searches, simulated -----------------------------------------------------------------------------------------


def arm(name: str, kind: str, shift: float, rng: np.random.Generator, items: FloatArray) -> ArmResults:
    """Runs with fresh seeds: item losses of mean 2, seeds and cells around them."""
    seeds = rng.normal(0, SPREAD, (SEEDS, 1))
    values = items + shift + seeds + rng.normal(0, CELL, (SEEDS, ITEMS))
    return ArmResults(
        name, kind, tuple(range(SEEDS)), ItemValues(values, np.ones(ITEMS), np.zeros(ITEMS, dtype=np.int64), ("all",))
    )


def search(rng: np.random.Generator, effects: FloatArray, *, shuffled: float = 0.0) -> tuple[int | None, Standing]:
    """A whole search: halving over three rungs, the best trial, the verdict on fresh seeds."""
    trials, losses = range(len(effects)), dict[tuple[int, int], float]()
    luck_of_trial = rng.normal(0, SPREAD, len(effects))
    while legs := next_legs(losses, trials, 3):
        for trial, rung in legs:  # on the way a run has as much luck of its own as at the end, half of it the same
            own = luck_of_trial[trial] if rung == 2 else (luck_of_trial[trial] + rng.normal(0, SPREAD)) / math.sqrt(2)
            losses[trial, rung] = 2 + (2 - rung) + effects[trial] * (rung + 1) / 3 + own
    recipe = rng.normal(2, SPREAD, RECIPE_SEEDS).tolist()
    found = stand(finalists(losses, trials, 3), recipe, n_trials=len(effects), seeds=1, draws=500)
    if not found.improves:
        return conclude(found, None, None).winner, found
    items = rng.normal(2, 0.5, ITEMS)
    best = arm("best", "recipe", effects[found.best], rng, items)
    base, plain = arm("recipe", "recipe", 0.0, rng, items), arm("random", "baseline", shuffled, rng, items)
    against_recipe = judge([replace(base, kind="baseline"), best], resamples=200).judgements["best"]
    against_random = judge([plain, base, best], resamples=200).judgements["best"]
    return conclude(found, against_recipe, against_random).winner, found


def test_where_nothing_matters_there_is_no_winner() -> None:
    """200 searches: `helped` is wrong in at most 2.5 of 100, so at most 12 (one in 10 000 if it were 2.5)."""
    winners = [search(np.random.default_rng([1, k]), np.zeros(N_TRIALS))[0] for k in range(200)]
    assert sum(winner is not None for winner in winners) <= 12


def test_where_something_matters_it_wins_and_is_found_less_large_than_the_search_said() -> None:
    """A third of the trials are 5 % better, and seeds differ by 1 %."""
    effects = np.where(np.arange(N_TRIALS) % 3 == 0, -0.1, 0.0)
    found = [search(np.random.default_rng([2, k]), effects, shuffled=0.05) for k in range(30)]
    assert sum(winner is not None and winner % 3 == 0 for winner, _ in found) >= 24
    assert all(winner is None or winner % 3 == 0 for winner, _ in found)
    changes = [there.change for _, there in found]
    assert np.mean(changes) < -0.055  # of −5 %: the best of several looks better than it is


def test_what_is_better_than_the_recipe_and_worse_than_shuffling_does_not_win() -> None:
    effects = np.where(np.arange(N_TRIALS) % 3 == 0, -0.1, 0.0)
    found = [search(np.random.default_rng([3, k]), effects, shuffled=-0.4)[0] for k in range(10)]
    assert found == [None] * 10
