"""Arrays survive JSON bit for bit, and travel small."""

from __future__ import annotations

import json
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from campus_tune.words.arrays import LARGE, pack, pack_losses, unpack, unpack_losses
from campus_tune.words.types import RowLosses


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


MASK = pack(np.ones(9, dtype=np.bool_))
OTHER = pack(np.arange(9))["data"]


@pytest.mark.parametrize(
    ("packed", "says"),
    [
        ({**MASK, "n": 8}, "must be of kind b and length 9, got bool and 8"),
        ({**MASK, "dtype": "<i8"}, "must be of kind b and length 9, got int64 and 9"),
        ({**MASK, "data": OTHER}, "of 9 must have as many, got 72 bytes of bool"),
        ({**MASK, "data": "eJwD"}, "must be deflated, got Error -5"),
        ({**MASK, "data": "é"}, "ASCII"),
        ({**MASK, "data": "?"}, "base64"),
    ],
)
def test_what_was_not_packed_like_that_is_refused(packed: Any, says: str) -> None:
    assert unpack(MASK, "b", 9).all()
    with pytest.raises(ValueError, match=says):
        unpack(packed, "b", 9)


@pytest.mark.parametrize("dtype", ["O", "<U1", "V0", "<M8[s]", "<c16"])
def test_only_numbers_were_packed(dtype: str) -> None:
    with pytest.raises(ValueError, match="must be of kind biuf"):
        unpack({"dtype": dtype, "n": 9, "data": OTHER})
    with pytest.raises(ValueError, match="of 9223372036854775807 must have as many"):
        unpack({**MASK, "n": 2**63 - 1})


def test_losses_come_back_and_those_of_another_number_of_rows_do_not() -> None:
    losses = RowLosses.zeros(3)
    losses.nll_sum[:], losses.top1[:] = [1.5, 2.5, 0.1], [1, 2, 0]
    back = unpack_losses(json.loads(json.dumps(pack_losses(losses))), 3)
    assert {name: values.tolist() for name, values in vars(back).items()} == {
        name: values.tolist() for name, values in vars(losses).items()
    }
    with pytest.raises(ValueError, match="of kind f and length 4, got float64 and 3"):
        unpack_losses(pack_losses(losses), 4)


def test_the_mask_of_a_hundred_thousand_rows_takes_seventeen_kilobytes() -> None:
    mask = np.random.default_rng(0).random(100_000) < 0.5
    assert len(json.dumps(pack(mask))) < 17_000


def test_a_large_array_comes_back_whole_and_is_deflated_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    levels: list[int] = []
    compress = zlib.compress
    monkeypatch.setattr(zlib, "compress", lambda raw, level: levels.append(level) or compress(raw, level))
    visits = (np.arange(LARGE) % 7 == 0).astype(np.uint8)
    for array in (visits, visits[1:], visits > 0, visits.astype(np.int32)):
        assert np.array_equal(unpack(pack(array)), array)
    assert levels == [1, 6, 6, 1]
