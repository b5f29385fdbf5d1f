"""Losses of strata over time: from probes and from training, with their errors, and as they were before."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.estimates import ratio
from campus_tune.method.loss_series import Losses, of_probes, of_training
from campus_tune.method.probe_history import ProbeHistory, ProbeRows
from campus_tune.method.view import History, PastStage

FIELDS = ("loss", "stderr", "left", "left_stderr", "drawn")


def probed(*levels: dict[str, list[float]]) -> ProbeHistory:
    """One measurement for each mapping of domains to nats of rows of ten tokens."""
    history = ProbeHistory()
    for stage, level in enumerate(levels):
        rows = {
            name: ProbeRows(np.arange(len(nll)), np.array(nll), np.full(len(nll), 10), np.zeros(len(nll), int))
            for name, nll in level.items()
        }
        history = history.taken(rows, stage=stage, step=stage, progress=0.0, mass=0.0, tokens=0)
    return history


def trained(*sums: dict[str, tuple[float, int]], shares: dict[str, float] | None = None) -> History:
    return History([PastStage(k, "shuffle", k + 1, sums=one, shares=shares or {}) for k, one in enumerate(sums)])


def same(one: Losses, other: Losses) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True) for name in FIELDS)


def test_probes_have_losses_and_paired_errors() -> None:
    history = History(measured=probed({"math": [10.0, 30.0], "code": [20.0, 20.0]}, {"math": [5.0, 15.0]}))
    found = of_probes(history, ["code", "text", "math"])
    assert found.loss[:, 2].tolist() == [2.0, 1.0]
    assert found.left[:, 2].tolist() == [1.0, 0.5]
    assert found.left_stderr[:, 2].tolist() == [0.0, 0.0]  # every row has lost half: they are the same rows
    assert found.stderr[1, 2] == pytest.approx(ratio(np.array([5.0, 15.0]), np.array([10, 10])).stderr)
    assert found.known.tolist() == [True, False, True]
    assert np.isnan(found.loss[:, 1]).all()
    assert np.isnan(found.loss[1, 0])
    assert np.isnan(found.drawn).all()


def test_probes_of_other_rows_begin_anew() -> None:
    history = History(measured=probed({"math": [10.0, 30.0]}, {"math": [5.0, 15.0]}, {"math": [6.0, 6.0, 6.0]}))
    assert of_probes(history, ["math"]).left.ravel().tolist() == [1.0, 0.5, 1.0]


def test_training_has_losses_by_stage() -> None:
    history = trained({"math": (20.0, 10), "code": (30.0, 10)}, {"math": (10.0, 10), "code": (0.0, 0)}, {})
    found = of_training(history, ["math", "code"])  # the last stage showed nothing
    assert found.loss[:, 0].tolist() == [2.0, 1.0]
    assert found.loss[0, 1] == 3.0
    assert np.isnan(found.loss[1, 1])
    assert np.isnan(found.drawn).all()
    drawn = of_training(trained({"math": (20.0, 10)}, shares={"math": 0.7}), ["math", "code"]).drawn
    assert drawn.tolist() == [[0.7, 0.0]]


@given(st.lists(st.floats(0.1, 5) | st.none(), min_size=1, max_size=9))
def test_errors_of_training_are_what_neighbouring_stages_differ_by(series: list[float | None]) -> None:
    sums = [{"rest": (1.0, 1), **({} if x is None else {"math": (x * 8, 8)})} for x in series]
    found = of_training(trained(*sums), ["math"])
    values: list[float] = []
    for t, x in enumerate(series):
        if x is None:
            assert np.isnan(found.stderr[t, 0])
            continue
        values.append(x)
        falls = [b - a for a, b in pairwise(values)]
        if len(falls) < 2:
            assert np.isnan(found.stderr[t, 0])
        else:
            slow = math.sqrt(sum(fall**2 for fall in falls) / len(falls) / 2)
            assert found.stderr[t, 0] == pytest.approx(slow)
            slow_left = x / values[0] * math.hypot(slow / x, slow / values[0])
            assert found.left_stderr[t, 0] == pytest.approx(slow_left)


def test_noise_alone_has_its_own_error() -> None:
    rng = np.random.default_rng(5)
    noisy = [{"math": (float(x), 1)} for x in 2 + 0.1 * rng.standard_normal(400)]
    assert of_training(trained(*noisy), ["math"]).stderr[-1, 0] == pytest.approx(0.1, rel=0.1)


@given(st.lists(st.floats(0.1, 5) | st.just(math.nan), min_size=2, max_size=8), st.integers(0, 8))
def test_as_it_was_is_what_was_known_then(series: list[float], n: int) -> None:
    """Nothing of a later stage shows in an earlier one."""
    sums = [{"rest": (1.0, 1), **({} if math.isnan(x) else {"math": (x, 1)})} for x in series]
    whole, then = (of_training(trained(*part), ["math", "rest"]) for part in (sums, sums[:n]))
    if n:
        assert same(whole.first(n), then)
    assert len(then) == min(n, len(series))


def test_what_is_not_known_is_what_was_last() -> None:
    loss = np.array([[np.nan, 2.0], [3.0, np.nan], [np.nan, np.nan], [1.0, 4.0]])
    found = Losses.unpaired(["a", "b"], loss, np.zeros_like(loss))
    assert found.filled(found.loss)[:, 1].tolist() == [2.0, 2.0, 2.0, 4.0]
    assert found.filled(found.loss)[1:, 0].tolist() == [3.0, 3.0, 1.0]
    assert np.isnan(found.filled(found.loss)[0, 0])
    assert found.left[3].tolist() == [1 / 3, 2.0]


def test_some_strata_alone() -> None:
    found = Losses.unpaired(["a", "b", "c"], np.arange(1.0, 7).reshape(2, 3), np.ones((2, 3)))
    some = found.of(np.array([True, False, True]))
    assert list(some.names) == ["a", "c"]
    assert some.loss.tolist() == [[1.0, 3.0], [4.0, 6.0]]


def test_a_record_of_nothing() -> None:
    for empty in (of_probes(History(), ["a"]), of_training(History(), ["a"])):
        assert len(empty) == 0
        assert empty.known.tolist() == [False]


@pytest.mark.filterwarnings("error")
def test_a_loss_of_nothing_divides_nothing() -> None:
    loss = np.array([[0.0, 2.0, 0.0], [4.0, 0.0, 0.0]])  # in float32 a model can be sure of every token
    found = Losses.unpaired("abc", loss, np.full((2, 3), 0.1))
    assert found.left[:, :2].tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert np.isfinite(found.left_stderr[:, :2]).all()
    assert found.known.tolist() == [True, True, False]
