"""Calibration against a slow reference, and what must hold of it whatever the tokens are."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from campus_tune.method.calibration import BINS, SUMS, Calibration, confidence_bins
from campus_tune.words.types import BoolArray, FloatArray, IntArray

Tokens = tuple[FloatArray, BoolArray, IntArray, int]  # confidence, hits and row of each; number of rows


@st.composite
def tokens(draw: st.DrawFn) -> Tokens:
    n_rows, k = draw(st.integers(1, 6)), draw(st.integers(1, 40))
    edges = st.sampled_from([i / BINS for i in range(BINS + 1)])
    confidence = draw(st.lists(st.floats(0, 1) | edges, min_size=k, max_size=k))
    hits = draw(st.lists(st.booleans(), min_size=k, max_size=k))
    rows = draw(st.lists(st.integers(0, n_rows - 1), min_size=k, max_size=k))
    return np.array(confidence), np.array(hits), np.array(rows), n_rows


def slow_error(confidence: NDArray[Any], hits: NDArray[Any]) -> float:
    """Guo et al., equation 3, token by token."""
    bins: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for sure, hit in zip(confidence.tolist(), hits.tolist(), strict=True):
        bins[min(BINS - 1, int(sure * BINS))].append((sure, hit))
    gaps = [abs(sum(sure for sure, _ in one) - sum(hit for _, hit in one)) for one in bins.values()]
    return sum(gaps) / len(hits)


def test_two_bins_by_hand() -> None:
    """0.95 twice and right both times, 0.55 twice and right once: gaps of 0.05 each, over 2 + 2 tokens."""
    found = Calibration.of_tokens(np.array([0.55, 0.95, 0.95, 0.55]), np.array([True, True, True, False]))
    assert found.error == pytest.approx(0.05)
    assert found.confidence == pytest.approx(0.75)
    assert found.bins == [pytest.approx([0.55, 0.5, 2]), pytest.approx([0.95, 1.0, 2])]


@given(tokens())
def test_the_error_is_that_of_a_slow_reference(given: Tokens) -> None:
    confidence, hits, _, _ = given
    found = Calibration.of_tokens(confidence, hits)
    assert found.error == pytest.approx(slow_error(confidence, hits), abs=1e-12)
    assert found.confidence == pytest.approx(confidence.mean())
    assert sum(count for _, _, count in found.bins) == len(hits)


@given(tokens())
def test_an_error_is_a_share_and_bins_can_only_add_to_the_gap_of_all_tokens(given: Tokens) -> None:
    confidence, hits, _, _ = given
    found = Calibration.of_tokens(confidence, hits)
    assert 0 <= found.error <= 1 + 1e-12
    assert found.error >= abs(confidence.mean() - hits.mean()) - 1e-12


@given(tokens())
def test_bins_of_rows_add_up_to_those_of_all_of_them_in_any_sequence(given: Tokens) -> None:
    confidence, hits, rows, n_rows = given
    sums = confidence_bins(confidence, hits, rows, n_rows)
    assert sums.shape == (n_rows, BINS, SUMS)
    assert sums[:, :, 0].sum(1).tolist() == np.bincount(rows, minlength=n_rows).tolist()
    whole = Calibration.of_tokens(confidence, hits)
    for order in (np.arange(n_rows), np.arange(n_rows)[::-1]):
        assert Calibration.of(sums[order]).error == pytest.approx(whole.error, abs=1e-12)
    for row in set(rows.tolist()):
        alone = Calibration.of_tokens(confidence[rows == row], hits[rows == row])
        assert Calibration.of(sums[[row]]) == alone


def test_a_sure_model_that_is_right_has_no_error_and_one_that_is_wrong_has_all() -> None:
    assert Calibration.of_tokens(np.ones(5), np.ones(5, dtype=bool)).error == 0
    assert Calibration.of_tokens(np.ones(5), np.zeros(5, dtype=bool)).error == 1


def test_a_row_without_tokens_has_empty_bins_and_counts_for_nothing() -> None:
    sums = confidence_bins(np.array([0.5]), np.array([True]), np.array([2]), 4)
    assert not sums[[0, 1, 3]].any()
    assert Calibration.of(sums) == Calibration.of(sums[[2]]) == Calibration(0.5, 0.5, [[0.5, 1.0, 1.0]])
