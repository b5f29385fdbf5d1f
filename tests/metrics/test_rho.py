import numpy as np
import pytest

from campus_tune.metrics.base import finish_scores, parse_metric
from campus_tune.metrics.passage import Passage
from campus_tune.metrics.rho import Rho
from campus_tune.words.errors import RecipeError
from tests.losses import losses_of

# known already, worth learning, noise
NOW, IRREDUCIBLE = losses_of([1.0, 8.0, 9.0], [1, 2, 3]), losses_of([1.0, 2.0, 8.4], [1, 2, 3])


def test_it_is_the_loss_now_minus_the_loss_that_stays() -> None:
    np.testing.assert_allclose(Rho(holdout="h").from_losses([NOW, IRREDUCIBLE]), [0.0, 3.0, 0.2])
    np.testing.assert_allclose(Rho(holdout="h", reduce="sum").from_losses([NOW, IRREDUCIBLE]), [0.0, 6.0, 0.6])


def test_with_a_minus_what_is_worth_learning_comes_first() -> None:
    scores = finish_scores(
        Rho(holdout="h").from_losses([NOW, IRREDUCIBLE]), parse_metric({"name": "-rho", "holdout": "h"})
    )
    assert np.argmin(scores) == 1


def test_an_answer_cut_into_other_tokens_is_compared_by_its_sum() -> None:
    two_tokenizers = [NOW, losses_of([1.0, 2.0, 8.4], [3, 6, 9])]
    np.testing.assert_allclose(Rho(holdout="h", reduce="sum").from_losses(two_tokenizers), [0.0, 6.0, 0.6])
    assert Rho(holdout="h", reduce="sum").remarks("rho", two_tokenizers, lambda _: True) == []
    assert Rho(holdout="h").remarks("rho", two_tokenizers, lambda _: False) == []
    (warning,) = Rho(holdout="h").remarks("rho", two_tokenizers, lambda passage: passage == Passage("h"))
    assert "losses per token of two tokenizers (h has its own)" in warning
    assert "reduce: sum" in warning


def test_it_asks_both_models() -> None:
    assert Rho(holdout="h").passages == (Passage(), Passage("h"))
    assert Rho(holdout="h").competence_aware


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "`holdout` must be a folder or a hub id of a model trained on held-out data, got None"),
        ({"holdout": "h", "reduce": "min"}, "`reduce` must be mean or sum, got 'min'"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_metric({"name": "rho", **options})
