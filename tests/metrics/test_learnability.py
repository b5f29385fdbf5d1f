import numpy as np
import pytest

from campus_tune.metrics.base import finish_scores, parse_metric
from campus_tune.metrics.learnability import Learnability
from campus_tune.metrics.passage import Passage
from campus_tune.words.errors import RecipeError
from tests.losses import losses_of

EARLY, LATE = losses_of([6.0, 3.0, 5.0], [2, 3, 1]), losses_of([2.0, 3.0, 4.0], [2, 3, 1])


def test_it_is_what_was_learned_per_token() -> None:
    np.testing.assert_allclose(Learnability(proxy="p").from_losses([EARLY, LATE]), [2.0, 0.0, 1.0])


def test_or_over_the_answer() -> None:
    np.testing.assert_allclose(Learnability(proxy="p", reduce="sum").from_losses([EARLY, LATE]), [4.0, 0.0, 1.0])


def test_with_a_minus_the_most_learnable_comes_first() -> None:
    spec = parse_metric({"name": "-learnability", "proxy": "p"})
    scores = finish_scores(Learnability(proxy="p").from_losses([EARLY, LATE]), spec)
    assert np.argsort(scores).tolist() == [0, 2, 1]


def test_a_proxy_that_is_worse_late_than_early_is_remarked() -> None:
    assert Learnability(proxy="p").remarks("-x", [EARLY, LATE], lambda _: False) == []
    assert Learnability(proxy="p").remarks("-x", [LATE, LATE], lambda _: False) == []
    (warning,) = Learnability(proxy="p").remarks("-x", [LATE, EARLY], lambda _: False)
    assert warning.startswith("`-x`: the proxy is worse late than early (mean loss 1.500, then 2.333)")


def test_it_asks_both_checkpoints_of_the_proxy() -> None:
    assert Learnability(proxy="p/").passages == (Passage("p/early"), Passage("p/late"))
    assert not Learnability(proxy="p").competence_aware


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "`proxy` must be a folder that campus-tune proxy has written, got None"),
        ({"proxy": "p", "reduce": 1}, "`reduce` must be mean or sum, got 1"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_metric({"name": "learnability", **options})
