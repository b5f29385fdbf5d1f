from __future__ import annotations

from itertools import combinations, pairwise, product
from typing import get_args

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler

from campus_tune.run.stream.micro_batches import (
    SPARE,
    Cut,
    even_cuts,
    fewest_rows,
    n_micro_batches,
    pack,
    split_step,
    tokens_by_rank,
)

LENGTHS = np.random.default_rng(0).lognormal(4, 1, 1000).astype(np.int64) + 1
CUTS: tuple[Cut, ...] = get_args(Cut)
SORTED: tuple[Cut, ...] = ("even", "packed")


def rows_of(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(1000)[:n].astype(np.int32)


def parts_of(split: list[list[np.ndarray]]) -> list[np.ndarray]:
    return [part for ranks in split for part in ranks]


def costs_of(lengths: list[int], cuts: list[int]) -> list[int]:
    """Rows times the longest, of each part."""
    return [(end - begin) * lengths[end - 1] for begin, end in pairwise(cuts)]


def equal_costs(lengths: list[int], parts: int) -> list[int]:
    """The same of parts of equal numbers of rows, ± 1, as a step was cut before."""
    ends = [len(lengths) * part // parts for part in range(parts + 1)]
    return costs_of(lengths, ends)


sorted_lengths = st.one_of(
    st.lists(st.integers(1, 30), min_size=2, max_size=9),
    st.lists(st.integers(1, 3), min_size=2, max_size=9),
    st.lists(st.sampled_from([1, 2, 5, 40, 400]), min_size=2, max_size=9),
).map(sorted)


# -- any cut -----------------------------------------------------------------------------------------------------------


@given(n=st.integers(1, 70), micro=st.integers(1, 5), world=st.integers(1, 4), cut=st.sampled_from(CUTS))
def test_every_row_is_dealt_once_and_every_rank_has_as_many_micro_batches(
    n: int, micro: int, world: int, cut: Cut
) -> None:
    split = split_step(rows_of(n), LENGTHS, micro=micro, world=world, cut=cut)
    assert len(split) == n_micro_batches(n, micro=micro, world=world) == len(range(0, n, micro * world))
    assert {len(ranks) for ranks in split} == {world}
    assert sorted(np.concatenate(parts_of(split)).tolist()) == sorted(rows_of(n).tolist())
    empty = sum(len(part) == 0 for part in parts_of(split))
    assert empty == (
        max(0, len(split) * world - n) if cut != "drawn" else max(0, world - len(np.concatenate(split[-1])))
    )
    assert all(len(part) for ranks in split[:-1] for part in ranks)  # only the last can lack rows


@given(n=st.integers(1, 70), micro=st.integers(1, 5), cut=st.sampled_from(CUTS))
def test_one_rank_by_itself_never_has_an_empty_micro_batch(n: int, micro: int, cut: Cut) -> None:
    split = split_step(rows_of(n), LENGTHS, micro=micro, world=1, cut=cut)
    assert min(len(ranks[0]) for ranks in split) >= 1


@pytest.mark.parametrize("cut", CUTS)
def test_fewer_rows_than_ranks_leave_the_last_ones_without(cut: Cut) -> None:
    split = split_step(rows_of(3), LENGTHS, micro=2, world=5, cut=cut)
    assert [len(part) for part in split[0]] == [1, 1, 1, 0, 0]


@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=24),
    micro=st.integers(1, 4),
    world=st.integers(1, 3),
    cut=st.sampled_from(SORTED),
)
def test_a_cut_is_the_same_whenever_it_is_made_and_goes_by_lengths_alone(
    lengths: list[int], micro: int, world: int, cut: Cut
) -> None:
    """A resumed run and every rank cut for themselves; rows of one length keep their sequence."""
    own, rows = np.array(lengths).clip(1), np.arange(len(lengths), dtype=np.int32)
    first = split_step(rows, own, micro=micro, world=world, cut=cut)
    moved = split_step(rows[::-1] + 7, np.append(np.zeros(7, dtype=int), own), micro=micro, world=world, cut=cut)
    again = split_step(rows.copy(), own, micro=micro, world=world, cut=cut)
    assert [part.tolist() for part in parts_of(first)] == [part.tolist() for part in parts_of(again)]
    assert [sorted(own[part]) for part in parts_of(first)] == [sorted(own[part - 7]) for part in parts_of(moved)]


@pytest.mark.parametrize("cut", SORTED)
def test_ranks_that_wait_for_one_another_have_like_costs_and_the_costliest_come_first(cut: Cut) -> None:
    split = split_step(rows_of(64), LENGTHS, micro=8, world=2, cut=cut)
    costs = [
        [len(part) * LENGTHS[part].max() if cut == "even" else LENGTHS[part].sum() for part in ranks] for ranks in split
    ]
    assert all(min(one) >= max(following) for one, following in pairwise(costs))
    loads = np.array(costs).sum(0)
    in_sequence = np.array([sorted(ranks) for ranks in costs]).sum(0)  # the same rank always has the larger one
    assert np.ptp(loads) <= np.ptp(in_sequence)


# -- as drawn ----------------------------------------------------------------------------------------------------------


@given(
    n=st.integers(1, 70),
    micro=st.integers(1, 5),
    world=st.integers(1, 4),
    cut=st.sampled_from(CUTS),
    padded=st.booleans(),
    multiple=st.sampled_from([1, 8]),
)
def test_tokens_of_each_rank_are_those_of_its_parts(
    n: int, micro: int, world: int, cut: Cut, padded: bool, multiple: int
) -> None:
    split = split_step(rows_of(n), LENGTHS, micro=micro, world=world, cut=cut)
    expected = np.zeros((2, world), dtype=np.int64)
    for ranks in split:
        for rank, part in enumerate(ranks):
            own = LENGTHS[part]
            lines, longest = (len(own), own.max(initial=0)) if padded else (1, own.sum())
            expected[:, rank] += own.sum(), lines * int(np.ceil(longest / multiple)) * multiple
    assert tokens_by_rank(split, LENGTHS, padded=padded, multiple=multiple).tolist() == expected.tolist()


def test_as_drawn_keeps_the_sequence() -> None:
    rows = rows_of(12)
    split = split_step(rows, LENGTHS, micro=2, world=2, cut="drawn")
    assert np.concatenate(parts_of(split)).tolist() == rows.tolist()


@given(n=st.integers(1, 70), micro=st.integers(1, 5), world=st.integers(1, 4))
def test_as_drawn_micro_batches_that_are_trained_together_are_of_one_size(n: int, micro: int, world: int) -> None:
    for ranks in split_step(rows_of(n), LENGTHS, micro=micro, world=world, cut="drawn"):
        sizes = [len(part) for part in ranks]
        assert max(sizes) <= micro
        assert max(sizes) - min(sizes) <= 1


@given(n=st.integers(1, 70), micro=st.integers(1, 5))
def test_as_drawn_one_rank_has_the_micro_batches_of_torchs_own_loader(n: int, micro: int) -> None:
    drawn = BatchSampler(rows_of(n).tolist(), batch_size=micro, drop_last=False)
    split = split_step(rows_of(n), LENGTHS, micro=micro, world=1, cut="drawn")
    assert [ranks[0].tolist() for ranks in split] == list(drawn)


@given(n=st.integers(1, 70), micro=st.integers(1, 5), world=st.integers(1, 4))
def test_as_drawn_only_the_last_micro_batch_can_lack_rows(n: int, micro: int, world: int) -> None:
    *full, last = split_step(rows_of(n), LENGTHS, micro=micro, world=world, cut="drawn")
    assert {len(part) for ranks in full for part in ranks} <= {micro}
    assert sum(len(part) for part in last) == fewest_rows(n, micro=micro, world=world)


# -- evenly ------------------------------------------------------------------------------------------------------------


def test_an_even_cut_worked_by_hand() -> None:
    """Seven short rows cost less than the two long ones: 7 × 2 and 2 × 9, where halves cost 4 × 9 and 5 × 2."""
    lengths = np.array([9, 2, 2, 1, 8, 2, 1, 2, 2])
    split = split_step(np.arange(9, dtype=np.int32), lengths, micro=5, world=1, cut="even")
    assert [ranks[0].tolist() for ranks in split] == [[4, 0], [3, 6, 1, 2, 5, 7, 8]]


def test_costs_are_those_of_lengths_as_they_are_padded() -> None:
    """To a multiple of 8, four rows of up to 8 tokens cost 4 × 8, as the two above do; of 9 tokens the third is one."""
    rows, cuts = np.arange(6, dtype=np.int32), []
    for third in (8, 9):
        lengths = np.array([16, 9, third, 3, 4, 7])
        [[one], [other]] = split_step(rows, lengths, micro=3, world=1, cut="even", multiple=8)
        cuts.append(sorted([len(one), len(other)]))
    assert cuts == [[2, 4], [3, 3]]


@given(lengths=sorted_lengths, parts=st.integers(1, 8))
def test_even_cuts_are_the_best_of_all_cuts_of_sorted_rows(lengths: list[int], parts: int) -> None:
    """By brute force: no other has a smaller largest cost, and of those that have the same none a smaller sum."""
    assume(parts < len(lengths))
    every = ([0, *inside, len(lengths)] for inside in combinations(range(1, len(lengths)), parts - 1))
    best = min((max(costs), sum(costs)) for costs in (costs_of(lengths, cuts) for cuts in every))
    cuts = even_cuts(lengths, parts)
    assert len(cuts) == parts + 1
    assert all(begin < end for begin, end in pairwise(cuts))
    assert (max(costs_of(lengths, cuts)), sum(costs_of(lengths, cuts))) == best


@given(lengths=sorted_lengths, parts=st.integers(1, 8), spare=st.floats(0, 1))
def test_what_is_spared_of_the_largest_cost_gives_the_least_sum_under_it(
    lengths: list[int], parts: int, spare: float
) -> None:
    assume(parts < len(lengths))
    least = max(costs_of(lengths, even_cuts(lengths, parts)))
    most = min(int(least * (1 + spare)), max(equal_costs(lengths, parts)))
    costs = costs_of(lengths, even_cuts(lengths, parts, spare=spare))
    assert max(costs) <= most
    assert sum(costs) == slow_least_sum(lengths, parts, most)


@given(seed=st.integers(0, 10_000), micro=st.integers(1, 12), parts=st.integers(1, 24), spread=st.floats(0.1, 2.0))
def test_even_cuts_are_never_worse_than_equal_ones(seed: int, micro: int, parts: int, spread: float) -> None:
    lengths = sorted(np.random.default_rng(seed).lognormal(4, spread, micro * parts).astype(int).clip(1).tolist())
    for spare in (0.0, SPARE):
        even = costs_of(lengths, even_cuts(lengths, parts, spare=spare)) if micro > 1 else lengths
        assert max(even) <= max(equal_costs(lengths, parts))


def slow_least_sum(lengths: list[int], parts: int, bound: int) -> int:
    """The least sum of costs of so many parts, none above the bound: a table of (parts, rows), filled cell by cell."""
    table = {(0, 0): 0}
    for part in range(1, parts + 1):
        for end in range(1, len(lengths) + 1):
            sums = [
                table[part - 1, begin] + (end - begin) * lengths[end - 1]
                for begin in range(end)
                if (part - 1, begin) in table
                if (end - begin) * lengths[end - 1] <= bound
            ]
            if sums:
                table[part, end] = min(sums)
    return table[parts, len(lengths)]


@pytest.mark.parametrize("seed", range(12))
def test_the_least_sum_of_larger_steps_is_that_of_a_table(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(20, 60))
    lengths = sorted((rng.lognormal(3, rng.uniform(0.2, 1.5), n).astype(int) // int(rng.integers(1, 9)) + 1).tolist())
    for parts in (2, 3, n // 4, n // 2, n - 1):
        costs = costs_of(lengths, even_cuts(lengths, parts))
        assert sum(costs) == slow_least_sum(lengths, parts, max(costs))
        with pytest.raises(KeyError):  # no cut stays below
            slow_least_sum(lengths, parts, max(costs) - 1)


def test_a_step_of_thousands_of_rows_is_cut_without_a_table_of_them() -> None:
    rng = np.random.default_rng(0)
    lengths = sorted(rng.lognormal(4, 1, 4096).astype(int).clip(1).tolist())
    costs = costs_of(lengths, even_cuts(lengths, 512))
    assert max(costs) <= max(lengths[-1], 1.1 * sum(costs) / 512)
    assert sum(costs) < 1.02 * sum(lengths)


# -- packed ------------------------------------------------------------------------------------------------------------


def test_packing_worked_by_hand() -> None:
    """9 | 8, then 7 to the 8, 6 to the 9, and 1 to either that is emptiest: 15 and 15 before it, so the first."""
    assert pack([1, 6, 7, 8, 9], 2) == ([[0, 1, 4], [2, 3]], [16, 15])


@given(lengths=st.lists(st.integers(1, 30), min_size=2, max_size=7).map(sorted), parts=st.integers(1, 3))
def test_packed_parts_differ_by_no_more_than_a_row(lengths: list[int], parts: int) -> None:
    """What longest-first promises: the fullest part has a third more than the best packing at most."""
    assume(parts < len(lengths))
    places, tokens = pack(lengths, parts)
    assert sorted(place for part in places for place in part) == list(range(len(lengths)))
    assert [sum(lengths[place] for place in part) for part in places] == tokens
    assert all(min(tokens) >= total - lengths[part[0]] for part, total in zip(places, tokens, strict=True))
    best = min(
        max(sum(length for length, its in zip(lengths, dealt, strict=True) if its == part) for part in range(parts))
        for dealt in product(range(parts), repeat=len(lengths))
    )
    assert max(tokens) * 3 * parts <= best * (4 * parts - 1)


@pytest.mark.parametrize("world", [1, 8])
def test_packed_micro_batches_of_a_usual_step_are_nearly_of_one_size(world: int) -> None:
    split = split_step(rows_of(64), np.minimum(LENGTHS, 400), micro=8, world=world, cut="packed")
    tokens = np.array([np.minimum(LENGTHS, 400)[part].sum() for part in parts_of(split)])
    assert tokens.max() <= 1.05 * tokens.mean()


# -- what is saved -----------------------------------------------------------------------------------------------------


def test_even_cuts_waste_far_fewer_tokens_on_padding() -> None:
    def padded(cut: Cut) -> int:
        split = split_step(rows_of(32), LENGTHS, micro=4, world=1, cut=cut)
        return sum(int(LENGTHS[part].max()) * len(part) for part in parts_of(split))

    real = int(LENGTHS[rows_of(32)].sum())
    assert real <= padded("even")
    assert padded("even") - real < 0.3 * (padded("drawn") - real)
