"""When a record is looked at, what is enough to act, and who is spared whatever it says."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.dirt import Dirt
from campus_tune.method.earned import ACT_FROM, LEAST_FOUND, LOOKS, ONE_IN, convincing, enough, looks_now, spared
from campus_tune.method.levels import Groups
from campus_tune.method.weighting import Entry, Live, Weighting
from campus_tune.method.weights import Robust, build_weight

seeds = st.integers(0, 10**6)
N = 60
CONTENT = np.random.default_rng(5).integers(0, 1 << 63, 400, dtype=np.uint64)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(5, 200))
def test_a_record_is_looked_at_once_for_each_tenth_of_a_pass_however_stages_are_cut(
    sizes: list[int], rows: int
) -> None:
    ends = np.cumsum([0, *sizes]).tolist()
    looks = [looks_now(before, now, rows_per_pass=rows) for before, now in pairwise(ends)]
    assert sum(looks) <= min(len(sizes), LOOKS * ends[-1] // rows)
    tenths = {LOOKS * end // rows for end in ends[1:]} - {0}
    assert sum(looks) == len(tenths)


@given(st.floats(0, 1), st.floats(0, 1))
def test_it_is_the_lower_end_that_counts(low: float, width: float) -> None:
    high = min(1.0, low + width)
    assert enough(Dirt(100, (low + high) / 2, low, high)) == (low >= ACT_FROM)


@given(st.integers(0, 50), st.integers(0, 50))
def test_half_of_all_looks_must_say_so_and_two_at_least(found: int, others: int) -> None:
    assert convincing(found + others, found) == (found >= max(LEAST_FOUND, others))


@given(seeds, st.integers(1, 12), st.integers(1, 400))
def test_a_tenth_of_each_cell_is_spared_and_always_the_same_rows(seed: int, n_cells: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    content, cells = CONTENT[:n], rng.integers(0, n_cells, n)
    found = spared(content, cells)
    sizes, kept = (np.bincount(codes, minlength=n_cells) for codes in (cells, cells[found]))
    assert (np.abs(kept - sizes / ONE_IN) <= 0.5).all()
    mixed = rng.permutation(n)
    assert (spared(content[mixed], cells[mixed]) == found[mixed]).all()


def test_rows_that_hold_the_same_are_parted_by_their_place() -> None:
    assert spared(np.full(40, 7, dtype=np.uint64), np.zeros(40, dtype=np.int64)).nonzero()[0].tolist() == [0, 1, 2, 3]


# -- robust ------------------------------------------------------------------------------------------------------------


def weighting(act: str, *others: Entry) -> Weighting:
    """Two cells, of which each was visited often; a tenth of the rows is spared."""
    cells = np.arange(N) % 2
    found = Weighting(
        [Entry("robust", build_weight({"name": "robust", "act": act}), since=0.1), *others],
        tokens=np.full(N, 4),
        global_batch=N,
        cells=Groups(cells, ("even", "odd")),
        spared=spared(CONTENT[:N], cells),
    )
    rng = np.random.default_rng(1)
    found.close(np.tile(np.arange(N), 2), rng.gamma(4.0, 0.3, 2 * N), np.full(2 * N, 4))
    return found


def factors(live: Live) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    losses = np.full(N, 5.0)  # far above every cell's level
    return np.asarray(live.of_rows(losses, live.numbers(np.arange(N)), np) * live.mean)


@given(st.floats(0, 0.99))
def test_auto_is_not_there_until_it_is_earned_and_then_what_always_is_but_for_the_spared(u: float) -> None:
    auto, always, never = (weighting(act) for act in ("auto", "always", "never"))
    assert (auto.idle, always.idle, never.idle) == (True, False, True)
    assert not auto.live(u)
    for one in (auto, always, never):
        one.earned = True
    assert (auto.idle, never.idle) == (False, True)
    assert not never.live(u)
    assert bool(auto.live(u)) == bool(always.live(u)) == (u + 1e-9 >= 0.1)
    assert (auto.waits, always.waits, never.waits) == (True, False, False)
    if not auto.live(u):
        return
    told, wanted = factors(auto.live(u)), factors(always.live(u))
    own = auto.spared
    assert own is not None
    assert own.sum() == N // ONE_IN
    assert (told[own] == 1).all()
    assert told[~own] == pytest.approx(wanted[~own])
    assert (told[~own] < 0.1).all()


def test_what_acts_always_is_not_idle_beside_one_that_waits() -> None:
    both = weighting("auto", Entry("focal", build_weight({"name": "focal", "of": "row"})))
    assert not both.idle
    live = both.live(0.5)
    assert [entry.name for entry in live.rows] == ["focal"]
    both.earned = True
    robust, focal = both.live(0.5).rows
    assert focal.spared is None
    assert robust.spared is not None


def test_a_limit_is_kept_beside_the_rows_that_are_spared() -> None:
    made = weighting("auto")
    made.entries = (Entry("robust", Robust(act="auto"), limit=1.0),)
    made.earned = True
    [entry] = made.live(0.5).rows
    assert entry.most is not None
    assert entry.spared is made.spared


@given(seeds, st.integers(2, 300))
def test_no_more_than_half_of_a_cells_losses_are_so_far_above_their_mean_that_they_count_less(
    seed: int, n: int
) -> None:
    rng = np.random.default_rng(seed)
    losses = rng.gamma(rng.uniform(0.05, 5), 1.0, n) * rng.choice([-1, 1]) + rng.normal(size=n) * rng.random()
    mean = losses.mean()
    spread = np.abs(losses - mean).mean()
    factor = Robust().factor(losses, (np.full(n, mean), np.full(n, max(spread, 1e-9))), np)
    assert (factor < 1 - 1e-9).sum() <= n / 2
