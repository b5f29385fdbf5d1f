"""A user's weights: only how rows stand to each other counts, and what is no weight is named with its row."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data.row_weights import read_weights, saying_nothing, scaled, weights_digest
from campus_tune.words.errors import DataError
from campus_tune.words.types import FloatArray


def dataset(values: Sequence[Any], name: str = "price") -> datasets.Dataset:
    return datasets.Dataset.from_dict({"input_ids": [[5, 6]] * len(values), name: values})


def read(rows: Any, column: str = "price", tokens: Sequence[int] | None = None) -> FloatArray:
    return read_weights(rows, column, np.array([1] * len(rows) if tokens is None else tokens))


def advised(rows: datasets.Dataset) -> datasets.Dataset:
    """The rows after what their refusal advises."""
    with pytest.raises(DataError) as told:
        read(rows)
    names = {"dataset": rows, "datasets": datasets}
    exec(str(told.value).split("`")[-2], names)
    changed = names["dataset"]
    assert isinstance(changed, datasets.Dataset)
    return changed


@given(
    st.lists(st.tuples(st.just(0.0) | st.floats(1e-9, 1e9), st.integers(1, 10**6)), min_size=1), st.floats(1e-3, 1e3)
)
def test_the_mean_token_counts_1_and_ratios_stay(rows: list[tuple[float, int]], factor: float) -> None:
    weights, tokens = (np.array(values) for values in zip(*rows, strict=True))
    weights[0] += 1.0
    made = scaled(weights, tokens)
    mean = sum(w * t for w, t in zip(made, tokens, strict=True)) / sum(tokens)
    assert mean == pytest.approx(1)
    np.testing.assert_allclose(made * weights[0], weights * made[0], rtol=1e-12)
    np.testing.assert_allclose(scaled(weights * factor, tokens), made, rtol=1e-12)


def test_numbers_of_every_kind_and_of_any_size_are_weights() -> None:
    assert read(dataset([1, 3])).tolist() == [0.5, 1.5]
    assert read([{"price": Decimal(1)}, {"price": np.float32(3)}]).tolist() == [0.5, 1.5]
    assert read(dataset([1.7e308, 1.7e308, 0]), tokens=[1, 1, 2]).tolist() == [2.0, 2.0, 0.0]
    assert read(dataset([5e-324, 0])).tolist() == [2.0, 0.0]


def test_a_long_row_moves_the_mean_by_its_tokens() -> None:
    assert read(dataset([1, 5]), tokens=[1, 3]).tolist() == [0.25, 1.25]


def test_an_absent_column_is_answered_with_the_present_ones() -> None:
    message = r"`weights: column: prise` must be a column of the training set \(price\), .* Did you mean 'price'\? Name"
    with pytest.raises(DataError, match=message):
        read(dataset([1, 2]), "prise")
    assert read(dataset([1, 2]), "price").mean() == 1


@pytest.mark.parametrize(("values", "first"), [(["0.5", "1.5"], "'0.5'"), ([True, False], "True")])
def test_text_and_truth_values_are_no_numbers_until_they_are_cast(values: list[Any], first: str) -> None:
    with pytest.raises(DataError, match=rf"`weights: column: price` must hold numbers, got {first} in row 0\. "):
        read(dataset(values))
    numbers = [float(value) for value in values]
    assert read(advised(dataset(values))).tolist() == scaled(np.array(numbers), np.ones(2, dtype=np.int64)).tolist()


@pytest.mark.parametrize("nothing", [None, float("nan")])
def test_rows_without_a_weight_are_counted_and_the_first_named(nothing: float | None) -> None:
    rows = dataset([nothing, 1.0, nothing, 0.0, 3.0, nothing, nothing])
    with pytest.raises(DataError, match=r"got none \(null or NaN\) for 4 of 7 rows \(first: 0, 2, 5\)\. Fill them in"):
        read(rows)
    assert read(advised(rows)).tolist() == [0.75, 0.0, 2.25]


def test_weights_below_0_and_without_end_are_named() -> None:
    message = r"finite weights of at least 0, got -1 in row 1, inf in row 2, -inf in row 4, … \(4 of 6 are none\)"
    with pytest.raises(DataError, match=message):
        read(dataset([1, -1, float("inf"), 0, float("-inf"), -2]))
    assert read(dataset([1, 0, 1])).tolist() == [1.5, 0, 1.5]  # as it says: 0 for what shall teach nothing


def test_a_number_that_no_float_can_be_is_named() -> None:
    with pytest.raises(DataError, match=r"of at most 1\.8e\+308, got 1000.* in row 1 .*Divide all of them by the larg"):
        read([{"price": 10**399}, {"price": 1}][::-1])
    assert read([{"price": 10**399 / 10**399}, {"price": 1 / 10**399}]).tolist() == [2, 0]


def test_nothing_above_0_is_refused() -> None:
    with pytest.raises(DataError, match=r"must have a weight above 0 somewhere, got 0 everywhere: nothing would be"):
        read(dataset([0, 0.0]))


def test_equal_weights_are_said_to_say_nothing() -> None:
    [sentence] = saying_nothing(read(dataset([2, 2, 2])), "price")
    assert sentence.startswith("`weights: column: price` must differ between rows to change anything")
    assert saying_nothing(read(dataset([2, 2, 1])), "price") == []


def test_the_digest_changes_with_any_weight_and_their_sequence() -> None:
    rows = [np.array(values) for values in ([1.0, 2.0], [2.0, 1.0], [1.0, 2.0 + 2**-51], [1.0, 2.0, 0.0])]
    assert len({weights_digest(row) for row in rows}) == 4
    assert weights_digest(rows[0]) == weights_digest(np.array([1, 2])) == weights_digest(np.array([1.0, 0, 2])[::2])
