from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler

from campus_tune.run.stream.micro_batches import fewest_rows, n_micro_batches, split_step

LENGTHS = np.random.default_rng(0).lognormal(4, 1, 1000).astype(np.int64) + 1


def rows_of(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(1000)[:n].astype(np.int32)


@given(n=st.integers(1, 70), micro=st.integers(1, 5), world=st.integers(1, 4), by_length=st.booleans())
def test_every_row_is_dealt_once_and_micro_batches_that_are_trained_together_are_of_one_size(
    n: int, micro: int, world: int, by_length: bool
) -> None:
    split = split_step(rows_of(n), LENGTHS, micro=micro, world=world, by_length=by_length)
    assert len(split) == n_micro_batches(n, micro=micro, world=world) == len(range(0, n, micro * world))
    parts = [part for ranks in split for part in ranks]
    assert sorted(np.concatenate(parts).tolist()) == sorted(rows_of(n).tolist())
    assert max(len(part) for part in parts) <= micro
    for together in [parts] if by_length else split:
        sizes = [len(part) for part in together]
        assert max(sizes) - min(sizes) <= 1


def test_rows_are_grouped_by_length_so_a_hand_worked_step_comes_out_so() -> None:
    lengths = np.array([9, 2, 7, 4])
    split = split_step(np.array([0, 1, 2, 3], dtype=np.int32), lengths, micro=2, world=1)
    assert [ranks[0].tolist() for ranks in split] == [[1, 3], [2, 0]]


def test_as_drawn_keeps_the_sequence() -> None:
    rows = rows_of(12)
    split = split_step(rows, LENGTHS, micro=2, world=2, by_length=False)
    assert np.concatenate([part for ranks in split for part in ranks]).tolist() == rows.tolist()


def test_ranks_that_wait_for_one_another_get_neighbours_in_length() -> None:
    split = split_step(rows_of(64), LENGTHS, micro=8, world=2)
    longest = [[LENGTHS[part].max() for part in ranks] for ranks in split]
    assert all(max(one) <= min(following) for one, following in pairwise(longest))


@pytest.mark.parametrize("world", [1, 2, 8])
def test_the_rows_of_a_step_do_not_depend_on_how_it_is_split(world: int) -> None:
    split = split_step(rows_of(64), LENGTHS, micro=8, world=world)
    parts = [part.tolist() for ranks in split for part in ranks]
    assert parts == [part.tolist() for part in np.array_split(np.concatenate(parts), 8)]


def test_sorting_by_length_wastes_far_fewer_tokens_on_padding() -> None:
    def padded(by_length: bool) -> int:
        split = split_step(rows_of(32), LENGTHS, micro=4, world=1, by_length=by_length)
        return sum(int(LENGTHS[part].max()) * len(part) for ranks in split for part in ranks)

    real = int(LENGTHS[rows_of(32)].sum())
    assert real <= padded(True)
    assert padded(True) - real < 0.4 * (padded(False) - real)


@given(n=st.integers(1, 70), micro=st.integers(1, 5))
def test_as_drawn_one_rank_has_the_micro_batches_of_torchs_own_loader(n: int, micro: int) -> None:
    drawn = BatchSampler(rows_of(n).tolist(), batch_size=micro, drop_last=False)
    split = split_step(rows_of(n), LENGTHS, micro=micro, world=1, by_length=False)
    assert [ranks[0].tolist() for ranks in split] == list(drawn)


@given(n=st.integers(1, 70), micro=st.integers(1, 5), by_length=st.booleans())
def test_one_rank_by_itself_never_has_an_empty_micro_batch(n: int, micro: int, by_length: bool) -> None:
    split = split_step(rows_of(n), LENGTHS, micro=micro, world=1, by_length=by_length)
    assert min(len(ranks[0]) for ranks in split) >= 1


@given(n=st.integers(1, 70), micro=st.integers(1, 5), world=st.integers(1, 4))
def test_as_drawn_only_the_last_micro_batch_can_lack_rows(n: int, micro: int, world: int) -> None:
    *full, last = split_step(rows_of(n), LENGTHS, micro=micro, world=world, by_length=False)
    assert {len(part) for ranks in full for part in ranks} <= {micro}
    assert sum(len(part) for part in last) == fewest_rows(n, micro=micro, world=world)


def test_fewer_rows_than_ranks_leave_the_last_ones_without() -> None:
    for by_length in (True, False):
        split = split_step(rows_of(3), LENGTHS, micro=2, world=5, by_length=by_length)
        assert [len(part) for part in split[0]] == [1, 1, 1, 0, 0]
