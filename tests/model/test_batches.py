"""Which rows go through a model together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.model.batches import BATCH_TOKENS, BATCH_TOKENS_CPU, long_rows_first, token_bound


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 120))
def test_every_row_is_in_one_batch_long_ones_first_and_padding_stays_under_the_bound(
    tokens: list[int], bound: int
) -> None:
    batches = [batch.tolist() for batch in long_rows_first(np.array(tokens, dtype=np.int64), bound)]
    rows = [row for batch in batches for row in batch]
    assert rows == sorted(range(len(tokens)), key=lambda row: -tokens[row])  # a stable sort: equals stay in sequence
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(tokens[row] for row in batch) <= bound or tokens[batch[0]] == 0


@pytest.mark.parametrize(("device", "bound"), [("cpu", BATCH_TOKENS_CPU), ("meta", BATCH_TOKENS)])
def test_accelerators_take_more_at_once(device: str, bound: int) -> None:
    assert token_bound(torch.device(device)) == bound
