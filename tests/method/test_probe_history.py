"""The history of the probes: what it keeps, what it compares with, and that it goes through JSON unchanged."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.estimates import change
from campus_tune.method.probe_history import KEPT, Measurement, ProbeHistory, ProbeRows


def rows(nll, tokens=10, ids=None):
    nll = np.asarray(nll, dtype=np.float64)
    n = len(nll)
    return ProbeRows(np.arange(n) if ids is None else np.asarray(ids), nll, np.full(n, tokens), np.full(n, 5))


def history_of(levels, domain="math", ids=None):
    """One measurement for each list of nats."""
    history = ProbeHistory()
    for k, nll in enumerate(levels):
        history = history.taken({domain: rows(nll, ids=ids)}, stage=k, step=4 * k, progress=k / 9, mass=k / 9, tokens=k)
    return history


def test_a_measurement_has_means_and_errors():
    last = history_of([[10.0, 20.0]]).last
    assert last.loss["math"].value == pytest.approx(1.5)
    assert last.accuracy["math"].value == pytest.approx(0.5)
    assert (last.stage, last.step, last.rise, last.calibration) == (0, 0, {}, {})


def test_the_best_level_is_the_mean_of_three_neighbours():
    levels = [[30.0, 30.0], [20.0, 22.0], [10.0, 8.0], [24.0, 24.0], [26.0, 25.0], [40.0, 41.0]]
    history = history_of(levels)
    triples = [np.mean(levels[k : k + 3], axis=0) for k in range(len(levels) - 2)]
    best = min(triples, key=np.sum)
    assert history.best["math"].tolist() == best.tolist()
    # the newest measurement is compared with the best level of those before it, never with itself
    before = min(triples[:3], key=np.sum)
    assert history.last.rise["math"] == change(before, np.array(levels[-1]))


def test_nothing_rises_before_three_were_measured():
    history = history_of([[10.0, 11.0]] * 4)
    assert [list(one.rise) for one in history.measurements] == [[], [], [], ["math"]]


def test_rows_of_the_last_measurements_alone_are_kept():
    history = history_of([[10.0 - k / 10, 11.0] for k in range(KEPT + 4)])
    assert len(history.recent) == KEPT
    assert len(history) == KEPT + 4
    assert history.fall("math", KEPT) is None
    found = history.fall("math", 4)
    assert found.value == pytest.approx(1 - (10 - 1.1 + 11) / (10 - 0.7 + 11))


def test_a_domain_of_other_rows_begins_anew():
    history = history_of([[10.0, 11.0]] * 5)
    other = history.taken(
        {"math": rows([5.0, 6.0], ids=[0, 2]), "code": rows([7.0, 8.0])},
        stage=5,
        step=20,
        progress=0.6,
        mass=0.6,
        tokens=5,
    )
    assert other.last.rise == {}
    assert other.best == {}
    assert other.fall("math", 1) is None
    assert other.fall("code", 1) is None
    assert len(other) == 6  # what was measured stays measured


def test_the_mean_of_all_domains_is_by_their_shares():
    history = ProbeHistory().taken(
        {"math": rows([10.0, 20.0]), "code": rows([30.0, 40.0])}, stage=0, step=0, progress=0, mass=0, tokens=0
    )
    mean = history.mean_loss({"math": 0.75, "code": 0.25})
    assert mean.value == pytest.approx(0.75 * 1.5 + 0.25 * 3.5)
    errors = [history.last.loss[name].stderr for name in ("math", "code")]
    assert mean.stderr == pytest.approx(np.hypot(0.75 * errors[0], 0.25 * errors[1]))


@given(st.lists(st.lists(st.floats(0.1, 50), min_size=3, max_size=3), max_size=12))
def test_it_goes_through_json_unchanged(levels):
    history = history_of(levels)
    again = ProbeHistory.of(json.loads(json.dumps(history.state())))
    assert again == history
    assert [one.rise for one in again.measurements] == [one.rise for one in history.measurements]
    for old, new in zip(history.recent, again.recent, strict=True):
        assert {k: v.tolist() for k, v in vars(old["math"]).items()} == {
            k: v.tolist() for k, v in vars(new["math"]).items()
        }
    more = {"math": rows([1.0, 2.0, 3.0])}
    when = {"stage": 99, "step": 99, "progress": 1.0, "mass": 1.0, "tokens": 9}
    assert again.taken(more, **when).last == history.taken(more, **when).last


def test_a_measurement_of_a_state_has_estimates_again():
    last = history_of([[10.0, 20.0]] * 4).last
    assert Measurement.of(json.loads(json.dumps(dict(vars(last))))) == last


def test_a_loss_of_nothing_is_no_level_to_compare_with():
    history = history_of([[0.0, 0.0, 0.0]] * 5)  # a model that is sure of every token, in float32
    assert history.last.loss["math"].value == 0
    assert history.last.rise == {}
    assert history.last.left == {}
    assert history.fall("math", 2) is None
