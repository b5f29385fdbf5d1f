"""Competence against its definition, and the slope against numpy's own fit."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.calibration import Calibration
from campus_tune.method.competence import EMA_KEEP, SLOPE_OVER, Competence, slope
from campus_tune.words.types import RowLosses
from tests.losses import losses_of


def probe(nll: list[float], tokens: list[int], top1: list[int] | None = None) -> RowLosses:
    return losses_of(np.array(nll), np.array(tokens), np.array(top1 or [0] * len(nll)))


def at_loss(loss: float) -> RowLosses:
    return probe([loss], [1])


def test_one_measurement_by_hand() -> None:
    """Two rows, 3 + 1 nats over 3 + 5 tokens: half a nat per token; 2 + 4 of the 8 tokens were the likeliest."""
    report = Competence({"math": 1.0}).update({"math": probe([3.0, 1.0], [3, 5], [2, 4])})
    assert report == {
        "math": {
            "loss": 0.5,
            "competence": math.exp(-0.5),
            "token_accuracy": 0.75,
            "ema": math.exp(-0.5),
            "slope": 0.0,
            "rows": 2,
            "tokens": 8,
        }
    }


def test_calibration_stands_beside_what_is_said_of_a_domain_where_it_was_measured() -> None:
    losses = {"math": at_loss(0.5), "code": at_loss(0.25)}
    plain = Competence({"math": 1.0}).update(losses)
    told = Competence({"math": 1.0}).update(
        losses, {"code": Calibration(0.25, 0.875, []), "math": Calibration(0.5, 0.75, [[0.75, 0.25, 4]])}
    )
    assert told == {
        "math": plain["math"] | {"ece": 0.5, "confidence": 0.75},
        "code": plain["code"] | {"ece": 0.25, "confidence": 0.875},
    }


@given(st.lists(st.integers(0, 2000).map(lambda hundredths: hundredths / 100), min_size=1, max_size=12))
def test_competence_is_a_share_and_falls_with_the_loss(losses: list[float]) -> None:
    competence = Competence({"a": 1.0})
    values = [competence.update({"a": at_loss(loss)})["a"]["competence"] for loss in losses]
    assert all(0 < value <= 1 for value in values)
    assert np.argsort(losses, kind="stable").tolist() == np.argsort(-np.array(values), kind="stable").tolist()


@given(st.lists(st.floats(0.0, 5.0), min_size=1, max_size=12))
def test_the_moving_average_and_the_slope_are_those_of_the_history(losses: list[float]) -> None:
    competence = Competence({"a": 1.0})
    for loss in losses:
        report = competence.update({"a": at_loss(loss)})["a"]
    values = [math.exp(-loss) for loss in losses]
    average = values[0]
    for value in values[1:]:
        average = EMA_KEEP * average + (1 - EMA_KEEP) * value
    assert competence.history == {"a": pytest.approx(values)}
    assert report["ema"] == pytest.approx(average)
    assert report["slope"] == pytest.approx(slope(values[-SLOPE_OVER:]))


@given(st.lists(st.floats(-1.0, 1.0), min_size=2, max_size=8))
def test_the_slope_is_the_least_squares_one(values: list[float]) -> None:
    assert slope(values) == pytest.approx(np.polyfit(range(len(values)), values, 1)[0], abs=1e-9)


def test_one_value_has_no_slope() -> None:
    assert slope([0.5]) == slope([]) == 0.0


def test_the_overall_loss_weighs_the_domains_latest_losses_by_their_shares() -> None:
    competence = Competence({"a": 0.75, "b": 0.25})
    competence.update({"a": at_loss(9.0), "b": at_loss(9.0)})
    competence.update({"a": at_loss(1.0), "b": at_loss(2.0)})
    assert competence.overall_loss() == pytest.approx(0.75 * 1.0 + 0.25 * 2.0)


def test_a_loss_that_leaves_no_competence_at_all_is_a_very_large_one() -> None:
    competence = Competence({"math": 0.5, "code": 0.5})
    competence.update({"math": at_loss(2000.0), "code": at_loss(1.0)})  # e⁻²⁰⁰⁰ is 0 in floating point
    assert competence.overall_loss() == pytest.approx(0.5 * 708.4 + 0.5, abs=0.1)


def test_competence_goes_on_from_its_state_as_if_it_had_never_stopped() -> None:
    shares = {"a": 0.5, "b": 0.5}
    whole, first, second = Competence(shares), Competence(shares), Competence(shares)
    measurements = [{"a": at_loss(1 / k), "b": at_loss(2 / k)} for k in range(1, 8)]
    for measured in measurements[:4]:
        whole.update(measured)
        first.update(measured)
    second.load(json.loads(json.dumps(first.state())))
    for measured in measurements[4:]:
        assert second.update(measured) == whole.update(measured)
    assert second.overall_loss() == whole.overall_loss()


def test_a_state_taken_earlier_does_not_change_with_later_measurements() -> None:
    competence = Competence({"a": 1.0})
    competence.update({"a": at_loss(1.0)})
    taken = competence.state()
    as_text = json.dumps(taken)
    other = Competence({"a": 1.0})
    other.load(taken)
    for one in (competence, other):
        one.update({"a": at_loss(0.5)})
    assert json.dumps(taken) == as_text
