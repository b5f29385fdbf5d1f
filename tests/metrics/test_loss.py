import numpy as np
import pytest

from campus_tune.metrics import build_metric, parse_metric
from campus_tune.metrics.loss import Loss
from campus_tune.words.errors import RecipeError
from tests.losses import losses_of

LOSSES = losses_of(np.array([6.0, 8.0, 1.0]), np.array([2, 8, 1]), np.array([1, 4, 1]))


def test_the_mean_is_per_answer_token() -> None:
    np.testing.assert_allclose(Loss().from_losses([LOSSES]), [3.0, 1.0, 1.0])


def test_the_sum_is_over_the_answer() -> None:
    np.testing.assert_allclose(Loss(reduce="sum").from_losses([LOSSES]), [6.0, 8.0, 1.0])


def test_the_two_can_order_rows_differently() -> None:
    assert np.argmax(Loss().from_losses([LOSSES])) != np.argmax(Loss(reduce="sum").from_losses([LOSSES]))


def test_a_recipe_names_it_and_its_reduction() -> None:
    metric = build_metric(parse_metric({"name": "loss", "reduce": "sum"}))
    assert metric == Loss(reduce="sum")
    assert metric.kind == "model"


def test_another_reduction_is_refused() -> None:
    with pytest.raises(RecipeError, match="`reduce` must be mean or sum, got 'max'"):
        parse_metric({"name": "loss", "reduce": "max"})
