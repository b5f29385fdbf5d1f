from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.integrations.split import split_step

LENGTHS = np.random.default_rng(0).lognormal(4, 1, 1000).astype(np.int64) + 1


def rows_of(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(1000)[:n].astype(np.int32)


@given(n=st.integers(1, 70), accumulation=st.integers(1, 5), world=st.integers(1, 4), by_length=st.booleans())
def test_every_row_is_dealt_once_and_every_micro_batch_is_of_one_size(
    n: int, accumulation: int, world: int, by_length: bool
) -> None:
    split = split_step(rows_of(n), LENGTHS, accumulation=accumulation, world=world, by_length=by_length)
    assert [len(ranks) for ranks in split] == [world] * accumulation
    parts = [part for ranks in split for part in ranks]
    assert sorted(np.concatenate(parts).tolist()) == sorted(rows_of(n).tolist())
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_rows_are_grouped_by_length_so_a_hand_worked_step_comes_out_so() -> None:
    lengths = np.array([9, 2, 7, 4])
    split = split_step(np.array([0, 1, 2, 3], dtype=np.int32), lengths, accumulation=2, world=1)
    assert [ranks[0].tolist() for ranks in split] == [[1, 3], [2, 0]]


def test_as_drawn_keeps_the_sequence() -> None:
    rows = rows_of(12)
    split = split_step(rows, LENGTHS, accumulation=3, world=2, by_length=False)
    assert np.concatenate([part for ranks in split for part in ranks]).tolist() == rows.tolist()


def test_ranks_that_wait_for_one_another_get_neighbours_in_length() -> None:
    split = split_step(rows_of(64), LENGTHS, accumulation=4, world=2)
    longest = [[LENGTHS[part].max() for part in ranks] for ranks in split]
    assert all(max(one) <= min(following) for one, following in pairwise(longest))


@pytest.mark.parametrize(("accumulation", "world"), [(8, 1), (4, 2), (1, 8)])
def test_the_rows_of_a_step_do_not_depend_on_how_it_is_split(accumulation: int, world: int) -> None:
    split = split_step(rows_of(64), LENGTHS, accumulation=accumulation, world=world)
    parts = [part.tolist() for ranks in split for part in ranks]
    assert parts == [part.tolist() for part in np.array_split(np.concatenate(parts), 8)]


def test_sorting_by_length_wastes_far_fewer_tokens_on_padding() -> None:
    def padded(by_length: bool) -> int:
        split = split_step(rows_of(32), LENGTHS, accumulation=8, world=1, by_length=by_length)
        return sum(int(LENGTHS[part].max()) * len(part) for ranks in split for part in ranks)

    real = int(LENGTHS[rows_of(32)].sum())
    assert real <= padded(True)
    assert padded(True) - real < 0.4 * (padded(False) - real)


def test_fewer_rows_than_micro_batches_leave_the_last_ones_empty() -> None:
    split = split_step(rows_of(3), LENGTHS, accumulation=5, world=1)
    assert [len(ranks[0]) for ranks in split] == [1, 1, 1, 0, 0]
