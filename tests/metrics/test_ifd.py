import numpy as np
import pytest

from campus_tune.metrics.base import parse_metric
from campus_tune.metrics.ifd import FLOOR, Ifd
from campus_tune.metrics.passage import Passage
from campus_tune.words.errors import RecipeError
from tests.losses import losses_of


def test_it_is_the_mean_loss_with_over_the_mean_loss_without_the_instruction() -> None:
    given, alone = losses_of([2.0, 9.0, 4.0], [4, 3, 2]), losses_of([8.0, 9.0, 2.0], [4, 3, 2])
    # (2/4) / (8/4), (9/3) / (9/3), (4/2) / (2/2): it helps, it does nothing, it misleads
    np.testing.assert_allclose(Ifd().from_losses([given, alone]), [0.25, 1.0, 2.0])


def test_an_answer_known_by_heart_has_a_finite_score() -> None:
    scores = Ifd().from_losses([losses_of([0.0, 1.0], [1, 1]), losses_of([0.0, 0.0], [1, 1])])
    np.testing.assert_allclose(scores, [0.0, 1 / FLOOR])


def test_the_model_in_hand_is_asked_unless_another_is_named() -> None:
    assert Ifd().passages == (Passage(), Passage(None, "answer"))
    assert Ifd().competence_aware
    assert Ifd(model="m").passages == (Passage("m"), Passage("m", "answer"))
    assert not Ifd(model="m").competence_aware


def test_an_empty_model_is_refused() -> None:
    with pytest.raises(RecipeError, match="`model` must be a model folder or a hub id, or left out, got ''"):
        parse_metric({"name": "ifd", "model": ""})
