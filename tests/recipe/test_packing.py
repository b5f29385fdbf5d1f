"""`packing: true` in whole rows: TRL's own count of sequences, and a batch that no other one beats."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from trl import pack_dataset

from campus_tune.recipe.packing import CLOSE, ROOM, Translated, count_sequences, translate

LENGTHS = st.lists(st.integers(1, 64), min_size=1, max_size=60)


def packed_by_trl(lengths: list[int], max_length: int) -> int:
    rows = Dataset.from_dict({"input_ids": [[0] * length for length in lengths]})
    return len(pack_dataset(rows, max_length, "bfd"))


@settings(max_examples=40, deadline=None)
@given(lengths=LENGTHS, max_length=st.integers(1, 64))
def test_sequences_are_counted_as_trl_packs_them(lengths: list[int], max_length: int) -> None:
    own = np.minimum(lengths, max_length)
    assert count_sequences(own, max_length) == packed_by_trl(lengths, max_length)


def test_a_thousand_rows_are_packed_together_as_by_trl() -> None:
    lengths = np.random.default_rng(0).lognormal(4, 1, 2500).astype(int).clip(1, 256)
    assert count_sequences(lengths, 256) == packed_by_trl(lengths.tolist(), 256)


def test_rows_of_a_quarter_of_a_sequence_are_four_to_a_sequence() -> None:
    found = translate(np.full(100, 64), max_length=256, micro=2, accumulation=4)
    assert found == Translated(micro=8, accumulation=4, row_tokens=64.0, packed_tokens=2048.0)
    assert str(found) == (
        "packing: false, per_device_train_batch_size: 8, gradient_accumulation_steps: 4, campus: {batching: flat}: "
        "32 rows of 64 tokens on average are 2,048 tokens a step on each process, where packing has 2,048"
    )


def test_rows_that_are_longer_than_a_sequence_count_as_they_are_cut() -> None:
    assert translate(np.full(10, 900), max_length=256, micro=2, accumulation=1).row_tokens == 256


def test_another_accumulation_is_taken_where_the_one_asked_for_is_off() -> None:
    # 1.5 rows to a sequence: one or two of them are a third off, three in two micro batches are as many tokens
    lengths = np.array([60, 30] * 10)
    found = translate(lengths, max_length=90, micro=1, accumulation=2)
    assert (found.micro * found.accumulation, found.packed_tokens) == (4, 180.0)
    one = translate(lengths, max_length=100, micro=1, accumulation=1, n_sequences=13)
    assert (one.micro, one.accumulation) == (1, 2)


@settings(max_examples=200, deadline=None)
@given(lengths=LENGTHS, micro=st.integers(1, 8), accumulation=st.integers(1, 8), max_length=st.integers(8, 128))
def test_no_other_batch_is_nearer(lengths: list[int], micro: int, accumulation: int, max_length: int) -> None:
    found = translate(np.array(lengths), max_length=max_length, micro=micro, accumulation=accumulation)

    def off(batch: int, steps: int) -> float:
        return abs(batch * steps * found.row_tokens / found.packed_tokens - 1)

    room = ROOM * found.packed_tokens / accumulation
    here = off(found.micro, found.accumulation)
    assert found.micro == 1 or found.micro * found.row_tokens <= room
    if here <= CLOSE and found.accumulation == accumulation:
        return
    for steps in range(1, 2 * accumulation + 2):
        for batch in range(1, int(room / found.row_tokens) + 1):
            assert off(batch, steps) >= here - 1e-9


@pytest.mark.parametrize("shape", [(2, 4, 512), (1, 1, 1024), (4, 2, 256)])
def test_lengths_of_a_mixture_come_within_a_tenth_of_the_same_tokens(shape: tuple[int, int, int]) -> None:
    micro, accumulation, max_length = shape
    lengths = np.random.default_rng(1).lognormal(4.7, 0.6, 3000).astype(int).clip(16, 700)
    found = translate(lengths, max_length=max_length, micro=micro, accumulation=accumulation)
    assert found.micro * found.accumulation * found.row_tokens == pytest.approx(found.packed_tokens, rel=0.1)
