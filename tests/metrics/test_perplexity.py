import numpy as np
import pytest

from campus_tune.metrics.base import parse_metric
from campus_tune.metrics.passage import Passage
from campus_tune.metrics.perplexity import Perplexity
from campus_tune.words.errors import RecipeError
from tests.losses import losses_of

LOSSES = losses_of([6.0, 8.0, 1.0], [2, 8, 1])


def test_the_score_is_the_logarithm_of_the_perplexity() -> None:
    perplexities = [np.exp(6.0) ** (1 / 2), np.exp(8.0) ** (1 / 8), np.exp(1.0)]
    np.testing.assert_allclose(np.exp(Perplexity(model="m").from_losses([LOSSES])), perplexities)


def test_a_sum_is_over_the_answer() -> None:
    np.testing.assert_allclose(Perplexity(model="m", reduce="sum").from_losses([LOSSES]), [6.0, 8.0, 1.0])


def test_it_asks_the_other_model_alone_and_does_not_move() -> None:
    assert Perplexity(model="./small").passages == (Passage("./small"),)
    assert not Perplexity(model="./small").competence_aware


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "`model` must be a model folder or a hub id, got None. Write for example"),
        ({"model": " "}, "`model` must be a model folder or a hub id, got ' '"),
        ({"model": 3}, "`model` must be a model folder or a hub id, got 3"),
        ({"model": "m", "reduce": "max"}, "`reduce` must be mean or sum, got 'max'"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_metric({"name": "perplexity", **options})
