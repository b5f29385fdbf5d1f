"""Arrays survive JSON bit for bit, and travel small."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from campus_tune.arrays import pack, unpack


@given(
    st.sampled_from([np.bool_, np.uint8, np.int32, np.int64, np.float64]).flatmap(
        lambda dtype: arrays(dtype, st.integers(0, 70))
    )
)
def test_what_is_packed_comes_back_bit_for_bit_through_json(array: NDArray[Any]) -> None:
    back = unpack(json.loads(json.dumps(pack(array))))
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", [np.bool_, np.int32])
def test_what_comes_back_can_be_written_to(dtype: type[np.generic]) -> None:
    back = unpack(pack(np.zeros(9, dtype=dtype)))
    back[3] = 1
    assert back.tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0]


def test_every_other_row_of_an_array_is_packed_as_it_reads() -> None:
    assert unpack(pack(np.arange(10, dtype=np.int32)[::2])).tolist() == [0, 2, 4, 6, 8]


def test_the_mask_of_a_hundred_thousand_rows_takes_seventeen_kilobytes() -> None:
    mask = np.random.default_rng(0).random(100_000) < 0.5
    assert len(json.dumps(pack(mask))) < 17_000
