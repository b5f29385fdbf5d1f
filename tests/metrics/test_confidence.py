import numpy as np
import pytest

from campus_tune.metrics.base import build_metric, parse_metric
from campus_tune.metrics.confidence import Confidence
from campus_tune.metrics.passage import Passage
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import RowLosses

# two rows: probabilities 0.5, 0.25 and 1.0, 1.0, 0.125
PROBABILITIES = [[0.5, 0.25], [1.0, 1.0, 0.125]]
LOSSES = RowLosses(
    nll_sum=np.array([-np.log(row).sum() for row in PROBABILITIES]),
    tokens=np.array([2, 3]),
    top1=np.array([0, 2]),
    worst=np.array([np.log(4), np.log(8)]),
    sureness=np.array([0.75, 2.125]),
)


def test_least_is_the_loss_of_the_least_sure_token() -> None:
    expected = [max(-np.log(p) for p in row) for row in PROBABILITIES]
    np.testing.assert_allclose(Confidence().from_losses([LOSSES]), expected)


def test_mean_is_one_minus_the_mean_probability() -> None:
    expected = [1 - sum(row) / len(row) for row in PROBABILITIES]
    np.testing.assert_allclose(Confidence(of="mean").from_losses([LOSSES]), expected)


def test_the_two_can_order_rows_differently() -> None:
    assert np.argmax(Confidence().from_losses([LOSSES])) == 1
    assert np.argmax(Confidence(of="mean").from_losses([LOSSES])) == 0


def test_it_shares_the_forward_of_the_loss_and_moves_with_the_model() -> None:
    metric = build_metric(parse_metric("confidence"))
    assert metric == Confidence()
    assert Confidence().passages == (Passage(),)
    assert Confidence().competence_aware


def test_another_kind_is_refused() -> None:
    with pytest.raises(RecipeError, match="`of` must be least or mean, got 'most'"):
        parse_metric({"name": "confidence", "of": "most"})
