"""Shapley values: the axioms, all permutations as a slow reference, and drawn sequences, training by training."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campus_tune.method.shapley import (
    ENOUGH,
    FEWEST,
    Coalition,
    CoalitionDesign,
    CoalitionWalk,
    exact,
    nested_errors,
)
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import FloatArray

Game = Callable[[int, int], FloatArray]  # the values of a set of groups, trained with a seed
THREE = np.array([0, 0.2, 0.3, 0.4, -0.1, 0.1, 0.3, 0.45])[:, None]  # by bits: ∅ 1 2 12 3 13 23 123


def by_all_permutations(values: FloatArray) -> FloatArray:
    """The definition, one sequence after the other."""
    n = len(values).bit_length() - 1
    result, orders = np.zeros((n, values.shape[1])), list(permutations(range(n)))
    for order in orders:
        inside = 0
        for group in order:
            result[group] += (values[inside | 1 << group] - values[inside]) / len(orders)
            inside |= 1 << group
    return result


games = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**31)).map(
    lambda case: np.random.default_rng(case[2]).normal(size=(2 ** case[0], case[1]))
)


def table(values: FloatArray, noise: float = 0.0) -> Game:
    """A game by its table; each seed moves every value by chance."""

    def value(coalition: int, seed: int) -> FloatArray:
        moved = np.random.default_rng([seed, coalition]).normal(size=values.shape[1]) * noise
        return np.asarray(values[coalition] + (moved if coalition else 0))

    return value


def train(
    design: CoalitionDesign, game: Game, at_once: int = 1
) -> tuple[CoalitionWalk, list[Coalition], dict[Coalition, FloatArray]]:
    """Everything that is wanted, some at a time: (what is known at the end, trainings as they came, their values)."""
    known: dict[Coalition, FloatArray] = {}
    made: list[Coalition] = []
    while True:
        walk = design.walk(known, at_once)
        if not walk.wanted:
            return walk, made, known
        assert len(walk.wanted) <= at_once
        for coalition, seed in walk.wanted:
            assert (coalition, seed) not in known
            made.append((coalition, seed))
            known[coalition, seed], known[0, seed] = game(coalition, seed), game(0, seed)


def test_the_worked_example() -> None:
    assert exact(THREE)[:, 0] == pytest.approx([1 / 6, 19 / 60, -1 / 30])
    assert exact(THREE).sum() == pytest.approx(0.45)


@given(games)
def test_it_is_the_mean_over_all_sequences(values: FloatArray) -> None:
    assert exact(values) == pytest.approx(by_all_permutations(values))


@given(games)
def test_all_that_is_gained_is_shared_out(values: FloatArray) -> None:
    assert exact(values).sum(0) == pytest.approx(values[-1] - values[0])


@given(games, st.data())
def test_groups_that_do_the_same_get_the_same(values: FloatArray, data: st.DataObject) -> None:
    n = len(values).bit_length() - 1
    one, two = (data.draw(st.integers(0, n - 1)) for _ in "ab")

    def turned(coalition: int) -> int:
        bits = coalition & ~(1 << one) & ~(1 << two)
        return bits | (coalition >> one & 1) << two | (coalition >> two & 1) << one

    even = (values + values[[turned(coalition) for coalition in range(len(values))]]) / 2
    assert exact(even)[one] == pytest.approx(exact(even)[two])


@given(games, st.data())
def test_a_group_that_adds_the_same_everywhere_gets_that(values: FloatArray, data: st.DataObject) -> None:
    n = len(values).bit_length() - 1
    group, adds = data.draw(st.integers(0, n - 1)), data.draw(st.sampled_from([0.0, 0.7]))
    values = values.copy()
    for coalition in range(len(values)):
        if coalition >> group & 1:
            values[coalition] = values[coalition ^ 1 << group] + adds
    assert exact(values)[group] == pytest.approx(adds, abs=1e-12)


@given(games, st.integers(0, 99), st.floats(-3, 3))
def test_values_of_a_sum_of_games_are_sums(values: FloatArray, seed: int, times: float) -> None:
    other = np.random.default_rng(seed).normal(size=values.shape)
    assert exact(values + times * other) == pytest.approx(exact(values) + times * exact(other))


@given(games)
def test_columns_are_games_of_their_own(values: FloatArray) -> None:
    for column in range(values.shape[1]):
        assert exact(values)[:, [column]] == pytest.approx(exact(values[:, [column]]))


# -- every set -------------------------------------------------------------------------------------------------------


def test_few_groups_are_trained_in_every_set_with_every_seed() -> None:
    design = CoalitionDesign(3, (5, 9))
    walk, made, known = train(design, table(THREE, noise=0.1))
    assert design.is_exact
    assert walk.exact
    assert sorted(made) == sorted((coalition, seed) for coalition in range(1, 8) for seed in (5, 9))
    assert made[:2] == [(7, 5), (7, 9)]  # all groups first: what they cost says what is to come
    assert walk.n_used == len(made) == design.n_all == 14
    of_seeds = [by_all_permutations(np.stack([known[c, seed] for c in range(8)])) for seed in (5, 9)]
    found = walk.shapley()
    assert found.values == pytest.approx(np.mean(of_seeds, axis=0))
    assert found.by_seed == pytest.approx(np.abs(of_seeds[0] - of_seeds[1]) / 2)  # standard error of two
    assert (found.by_sequence == 0).all()
    assert found.stderr == pytest.approx(found.by_seed)


def test_one_seed_says_nothing_of_its_error() -> None:
    walk, _, _ = train(CoalitionDesign(3, (0,)), table(THREE))
    assert np.isnan(walk.shapley().by_seed).all()
    assert walk.shapley().values[:, 0] == pytest.approx([1 / 6, 19 / 60, -1 / 30])


def test_a_seed_is_counted_once_it_is_whole() -> None:
    design = CoalitionDesign(2, (0, 1))
    _, _, known = train(design, table(THREE[:4]))
    walk = design.walk({key: value for key, value in known.items() if key != (2, 1)})
    assert walk.wanted == [(2, 1)]
    assert len(walk.units) == 1


# -- drawn sequences -------------------------------------------------------------------------------------------------


def additive(worth: FloatArray) -> FloatArray:
    """The table of a game in which each group adds the same everywhere, shape (2^G, V)."""
    bits = np.arange(2 ** len(worth))[:, None] >> np.arange(len(worth)) & 1
    return np.asarray(bits @ worth)


def curved(n: int, seed: int) -> FloatArray:
    """A table in which more groups add less, as data do: two columns."""
    worth = np.random.default_rng(seed).uniform(0.2, 2, size=(n, 2))
    return np.asarray(np.sqrt(additive(worth)))


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_no_more_is_trained_than_is_paid_for_and_values_add_up(seeds: tuple[int, ...]) -> None:
    for trainings in (10, 17, 60):
        design = CoalitionDesign(8, seeds, trainings)
        walk, made, known = train(design, table(curved(8, 1), noise=0.02))
        assert not walk.exact
        assert len(made) == len(set(made)) <= trainings
        assert len(made) == walk.n_used
        assert len(made) > trainings - 8  # the next sequence would not have been paid for
        gained = [known[255, seeds[unit.seed]] - known[0, seeds[unit.seed]] for unit in walk.units]
        assert walk.shapley().values.sum(0) == pytest.approx(np.mean(gained, axis=0))


def test_it_ends_as_soon_as_the_values_are_settled() -> None:
    design = CoalitionDesign(8, (0, 1), 400)
    walk, made, _ = train(design, table(curved(8, 2)))
    assert len(made) < 300
    found = walk.shapley()
    spread = np.ptp(found.values[:, 0])
    assert found.by_sequence[:, 0].max() <= ENOUGH * spread
    before = CoalitionWalk([], 0, walk.units[:-1], False).shapley()
    assert before.n_sequences < FEWEST or not before.settled
    assert found.n_sequences == len(walk.units) >= FEWEST


def test_errors_say_how_far_drawn_values_are_off() -> None:
    values = curved(8, 3)
    truth = exact(values)
    off = []
    for seed in range(40):  # other groups stand at the drawn places
        places = np.random.default_rng(seed).permutation(8)
        bits = np.arange(256)[:, None] >> np.arange(8) & 1
        walk, _, _ = train(CoalitionDesign(8, (0,), 60), table(values[(bits << places).sum(1)]))
        found = walk.shapley()
        off.append((found.values - truth[places])[:, 0] / found.by_sequence[:, 0])
    assert 0.8 < np.sqrt(np.mean(np.square(off))) < 1.6  # few sequences: Student's t, a little wider than 1


def test_with_all_that_can_be_known_sequences_come_to_the_exact_values() -> None:
    values = curved(5, 4)
    known = {(coalition, 0): values[coalition] for coalition in range(32)}
    design = CoalitionDesign(5, (0,), 30)
    gains = []
    for k in range(600):
        order, place = design.sequence(k)
        keys = [(int(coalition), 0) for coalition in np.bitwise_or.accumulate(1 << order)]
        gains.append(design._along(order, keys, known, np.zeros(2))[0])
        assert place == 0
    error = np.std(gains, axis=0) / np.sqrt(600)
    assert (np.abs(np.mean(gains, axis=0) - exact(values)) < 4 * error).all()


def test_a_walk_ends_where_seeds_differ_by_more_than_what_is_left() -> None:
    worth = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])[:, None]
    game = table(additive(worth), noise=0.01)
    design = CoalitionDesign(8, (0, 1, 2), 60)
    walk, made, known = train(design, game)
    found = walk.shapley()
    assert found.n_truncated > 0
    assert len(made) < 3 + 7 * found.n_sequences
    noise = 2 * np.std([known[255, seed] for seed in (0, 1, 2)], ddof=1) / np.sqrt(3)
    for unit, k in zip(walk.units, range(99), strict=False):
        order, place = design.sequence(k)
        rest = [(int(c), place) for c in np.bitwise_or.accumulate(1 << order)]
        ends = [i for i, key in enumerate(rest) if key in known and abs(known[255, place] - known[key])[0] < noise]
        gained = known[255, place] - known[0, place]
        assert unit.gains.sum(0) == pytest.approx(gained)  # what is left is shared out, too
        if unit.truncated:
            left = order[ends[0] + 1 :]
            assert len(left) >= 2  # a training is saved: that of all groups is there anyway
            assert np.ptp(unit.gains[left]) == pytest.approx(0)  # shared out evenly
            assert abs(unit.gains[left].sum()) < noise
    assert abs(found.values[1:]).max() < 0.05


def test_a_walk_goes_on_while_one_column_is_not_there() -> None:
    worth = np.zeros((8, 2))
    worth[0], worth[7, 1] = (1, 1), 1

    def game(coalition: int, seed: int) -> FloatArray:  # near is 0.2 in column 0, and 0 in column 1
        chance = np.array([0.1, 0.0]) * (1 if seed else -1)
        return np.asarray(additive(worth)[coalition] + chance * (coalition == 255))

    walk, _, _ = train(CoalitionDesign(8, (0, 1), 60), game)
    assert walk.shapley().n_truncated == 0
    assert walk.shapley().values[:, 1] == pytest.approx(worth[:, 1])


def test_one_seed_truncates_nothing() -> None:
    walk, _, _ = train(CoalitionDesign(8, (0,), 60), table(additive(np.ones((8, 1)))))
    assert walk.shapley().n_truncated == 0


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 7), st.sampled_from([(0,), (3, 4), (0, 1, 2)]), st.integers(9, 60))
def test_however_many_are_trained_at_once_the_numbers_are_the_same(
    seed: int, at_once: int, seeds: tuple[int, ...], trainings: int
) -> None:
    design = CoalitionDesign(7, seeds, trainings)
    game = table(curved(7, seed), noise=0.1)
    one, made, _ = train(design, game)
    many, more, _ = train(design, game, at_once)
    assert [unit.truncated for unit in one.units] == [unit.truncated for unit in many.units]
    assert (one.shapley().values == many.shapley().values).all()
    assert one.n_used == many.n_used
    assert set(made) <= set(more)
    assert len(more) <= trainings


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.data())
def test_after_a_kill_it_goes_on_with_what_is_known(seed: int, data: st.DataObject) -> None:
    design = CoalitionDesign(7, (0, 1), 40)
    game = table(curved(7, seed), noise=0.1)
    whole, made, known = train(design, game)
    kept = made[: data.draw(st.integers(0, len(made)))]
    some = {key: known[key] for coalition, seed in kept for key in ((coalition, seed), (0, seed))}
    assert design.walk(some, 1).wanted == made[len(kept) : len(kept) + 1]
    again = design.walk(known, 1)
    assert again.wanted == []
    assert (again.shapley().values == whole.shapley().values).all()


def test_what_is_known_beside_the_sequences_is_not_counted() -> None:
    game = table(curved(7, 5), noise=0.05)
    design = CoalitionDesign(7, (0, 1), 30)
    walk, _, known = train(design, game)
    full = {(coalition, seed): game(coalition, seed) for coalition in range(128) for seed in (0, 1)}
    assert len(full) > len(known)
    assert (design.walk(full).shapley().values == walk.shapley().values).all()


def test_sequences_take_the_seeds_in_turn_and_differ() -> None:
    design = CoalitionDesign(9, (7, 8), 99)
    drawn = [design.sequence(k) for k in range(6)]
    assert [place for _, place in drawn] == [0, 1, 0, 1, 0, 1]
    assert len({tuple(order) for order, _ in drawn}) == 6
    assert all((drawn[k][0][::-1] == drawn[k + 1][0]).all() for k in (0, 2, 4))  # every other one is turned around
    assert all(sorted(order) == list(range(9)) for order, _ in drawn)


# -- errors ------------------------------------------------------------------------------------------------------------


def test_errors_of_sequences_and_of_seeds_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    within, between, total = [], [], []
    seeds = np.arange(12) % 3
    for _ in range(2000):  # seeds differ by 2, sequences of one by 1
        gains = rng.normal(size=(12, 1, 1)) + 2 * rng.normal(size=(3, 1, 1))[seeds]
        of_sequences, of_seeds = nested_errors(gains, seeds)
        within.append(of_sequences[0, 0] ** 2)
        between.append(of_seeds[0, 0] ** 2)
        total.append(gains.mean())
    assert np.mean(within) == pytest.approx(1 / 12, rel=0.05)
    assert np.mean(between) == pytest.approx(4 / 3, rel=0.1)
    assert np.var(total) == pytest.approx(np.mean(within) + np.mean(between), rel=0.1)


def test_errors_that_cannot_be_told_apart_are_not_known() -> None:
    gains = np.array([1.0, 3.0])[:, None, None]
    same, other = np.array([0, 0]), np.array([0, 1])
    of_sequences, of_seeds = nested_errors(gains, other)
    assert (of_sequences[0, 0], np.isnan(of_seeds[0, 0])) == (1.0, True)
    of_sequences, of_seeds = nested_errors(gains, same)
    assert (of_sequences[0, 0], np.isnan(of_seeds[0, 0])) == (1.0, True)
    assert np.isnan(nested_errors(gains[:1], same[:1])).all()


def test_unequal_numbers_of_sequences_are_weighed() -> None:
    gains = np.array([0.0, 0.0, 0.0, 4.0])[:, None, None]
    of_sequences, of_seeds = nested_errors(gains, np.array([0, 0, 0, 1]))
    assert of_sequences[0, 0] == 0
    # mean 1: between = 3·1 + 1·9 = 12, n₀ = 4 − 10/4 = 1.5, σ² = 8, · Σn²/n² = 10/16
    assert of_seeds[0, 0] == pytest.approx(np.sqrt(5))


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [0, 1, 17])
def test_groups_that_are_too_few_or_too_many_are_refused(groups: int) -> None:
    with pytest.raises(RecipeError, match=re.escape(f"`--groups` must make from 2 to 16 groups, got {groups}")):
        CoalitionDesign(groups, (0,))


@pytest.mark.parametrize(("groups", "n_seeds", "least"), [(5, 1, 6), (5, 2, 6), (5, 3, 7), (16, 4, 19)])
def test_trainings_that_pay_for_no_sequence_are_refused(groups: int, n_seeds: int, least: int) -> None:
    seeds = tuple(range(n_seeds))
    with pytest.raises(
        RecipeError, match=f"`--trainings` must be at least {least} for {groups} groups with {n_seeds} seed"
    ):
        CoalitionDesign(groups, seeds, least - 1)
    walk, made, _ = train(CoalitionDesign(groups, seeds, least), table(curved(groups, 0), noise=1e-6))
    assert len(walk.units) >= 1
    assert len(made) <= least


def test_all_sets_are_trained_where_that_is_paid_for() -> None:
    assert CoalitionDesign(6, (0, 1)).is_exact
    assert CoalitionDesign(6, (0, 1)).most == 126
    assert not CoalitionDesign(6, (0, 1), 60).is_exact
    assert not CoalitionDesign(7, (0,)).is_exact
    assert CoalitionDesign(7, (0,)).most == 60
    assert CoalitionDesign(7, (0,), 127).is_exact
    assert CoalitionDesign(2, (0,), 1000).most == 3
