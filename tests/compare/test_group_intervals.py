"""Intervals of values: right together, whatever chance does to trainings."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import stdtrit

from campus_tune.compare.group_intervals import intervals
from campus_tune.method.shapley import CoalitionDesign, CoalitionWalk, Unit, exact
from campus_tune.words.types import FloatArray


def walk_of(gains: FloatArray, seeds: list[int] | None = None) -> CoalitionWalk:
    places = seeds or list(range(len(gains)))
    return CoalitionWalk([], 0, [Unit(one, seed) for one, seed in zip(gains, places, strict=True)], seeds is None)


NOISES = ("independent", "of_seeds", "of_small_sets", "of_one_group")


def noise(kind: str, rng: np.random.Generator, n_seeds: int, groups: int) -> FloatArray:
    """What chance does to the value of each set with each seed, shape (S, 2^G)."""
    sets = np.arange(2**groups)
    has = sets[:, None] >> np.arange(groups) & 1
    alone = rng.normal(size=(n_seeds, len(sets)))
    if kind == "of_seeds":
        alone = 0.3 * alone + rng.normal(size=(n_seeds, 1))
    if kind == "of_small_sets":
        alone = alone * np.where(has.sum(1) < 2, 3, 1)
    if kind == "of_one_group":
        alone = 0.3 * alone + 3 * rng.normal(size=(n_seeds, 1)) * has[:, 0]
    return np.asarray(np.where(sets > 0, alone, 0.0))


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize(("groups", "n_seeds"), [(3, 2), (3, 3), (5, 3)])
def test_where_nothing_is_worth_anything_nothing_is_said(kind: str, groups: int, n_seeds: int) -> None:
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(300):
        low, high = intervals(walk_of(np.stack([exact(v[:, None]) for v in noise(kind, rng, n_seeds, groups)])))
        wrong += bool(((low > 0) | (high < 0)).any())
    assert wrong / 300 < 0.08  # 5 %, and three standard errors of 300 cases


def test_worth_that_is_there_is_found() -> None:
    rng = np.random.default_rng(2)
    worth = np.array([1.0, 0.5, 0.0])
    found = np.zeros(3)
    for _ in range(100):
        chance = 0.05 * noise("independent", rng, 3, 3)
        low, _ = intervals(walk_of(np.stack([exact(v[:, None])[:, 0:] + worth[:, None] for v in chance])))
        found += low[:, 0] > 0
    assert found.tolist()[:2] == [100, 100]
    assert found[2] <= 5


def test_a_group_that_makes_trainings_chancy_has_its_own_interval() -> None:
    gains = np.array([[[1.0], [0.0], [0.0]], [[-1.0], [0.01], [0.0]], [[0.3], [0.0], [0.01]]])
    low, high = intervals(walk_of(gains))
    assert (high - low)[0, 0] > (high - low)[1, 0]


def test_one_interval_by_hand() -> None:
    gains = np.array([[[1.0], [3.0]], [[2.0], [6.0]]])  # seed means 2 and 4; rest ±0.5
    low, high = intervals(walk_of(gains))
    of_seeds, rest = 2 * 2.0, 4 * 0.25
    variance = of_seeds / 4 + rest * 1 / 4
    assert variance == 1.25
    share = of_seeds / 4 / variance
    point = stdtrit(1, 1 - 0.025 / 2)  # both have one degree of freedom
    assert share == 0.8
    own = np.array([0.5, 1.5])
    assert (high - low)[:, 0] / 2 == pytest.approx(point * np.maximum(own, np.sqrt(1.25)))
    assert ((high + low)[:, 0] / 2).tolist() == pytest.approx([1.5, 4.5])


def drawn(groups: int, kind: str, seed: int) -> tuple[CoalitionWalk, FloatArray]:
    """60 trainings of a game in which groups of unequal worth add less, more, or by pairs; and the truth."""
    rng = np.random.default_rng([seed, groups])
    worth = rng.exponential(1, size=groups) ** 2 if kind == "unequal" else rng.uniform(0.2, 2, size=groups)
    bits = np.arange(2**groups)[:, None] >> np.arange(groups) & 1
    values = bits @ worth
    pairs = np.einsum("si,ij,sj->s", bits, rng.normal(size=(groups, groups)), bits)
    values = {"more": values**1.5, "pairs": values + 0.3 * pairs}.get(kind, np.sqrt(values))
    truth, design = exact(values[:, None])[:, 0], CoalitionDesign(groups, (0, 1, 2, 3, 4), 60)
    chance = 0.03 * np.ptp(truth) * rng.normal(size=(5, 2**groups))
    known = {(c, s): values[[c]] + chance[s, [c]] * (c > 0) for c in range(2**groups) for s in range(5)}
    return design.walk(known), truth


@pytest.mark.parametrize("kind", ["less", "more", "pairs", "unequal"])
def test_drawn_sequences_are_as_sure_as_they_say(kind: str) -> None:
    wrong, right_sign = 0, []
    for seed in range(60):
        walk, truth = drawn(9, kind, seed)
        low, high = intervals(walk)
        wrong += bool(((low[:, 0] > truth) | (high[:, 0] < truth)).any())
        clear = (low[:, 0] > 0) | (high[:, 0] < 0)
        right_sign += (np.sign(walk.shapley().values[clear, 0]) == np.sign(truth[clear])).tolist()
    assert wrong <= 3
    assert len(right_sign) > 100  # of 540: they say something, too
    assert all(right_sign)


def test_sequences_of_one_seed_are_one_observation() -> None:
    gains = np.array([0.0, 2.0, 4.0, 8.0])[:, None, None] * np.ones((1, 2, 1))
    low, high = intervals(walk_of(gains, [0, 1, 0, 1]))
    # seeds 2 and 5: of both groups alike, so all of it is the seeds', with one degree of freedom
    assert (high - low)[0, 0] / 2 == pytest.approx(stdtrit(1, 1 - 0.025 / 2) * 1.5)
    assert ((high + low)[0, 0] / 2) == pytest.approx(3.5)


def test_all_domains_are_judged_together() -> None:
    gains = np.random.default_rng(4).normal(size=(3, 2, 1)) * np.ones((1, 1, 4))
    low, high = intervals(walk_of(gains))
    widths = (high - low)[0]
    assert widths[1] == widths[2] == widths[3] > widths[0]


def test_one_seed_has_no_interval() -> None:
    low, high = intervals(walk_of(np.ones((1, 3, 2))))
    assert np.isnan(low).all()
    assert np.isnan(high).all()
    low, _ = intervals(walk_of(np.ones((4, 3, 2)), [0, 0, 0, 0]))
    assert np.isnan(low).all()
