"""The clock: what each of its three kinds reads, and between which bounds the probes can set it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.clock import Clock

share = st.floats(0, 1)


@given(share, st.lists(share), share)
def test_steps_are_steps(steps, competence, tokens):
    assert Clock().at(steps, competence, tokens) == steps


@given(share, st.lists(share), st.floats(0, 3))
def test_tokens_are_tokens_and_end_at_one(steps, competence, tokens):
    assert Clock("tokens").at(steps, competence, tokens) == min(1.0, tokens)


@given(share, st.lists(share, min_size=1), st.floats(0.01, 1))
def test_competence_is_the_formula(steps, competence, target):
    start = competence[0]
    raw = (max(competence) - start) / (target - start) if target > start else 1.0
    low, high = steps / 2, min(1.0, 2 * steps)
    expected = low if raw < low else high if raw > high else raw
    assert Clock("competence", target).at(steps, competence) == pytest.approx(expected)


@given(st.lists(share, min_size=1, max_size=30), st.floats(0.01, 1))
def test_competence_never_runs_backwards(competence, target):
    """Whatever the probes say: C is the best so far, and both bounds grow with the steps."""
    n = len(competence)
    seen = [Clock("competence", target).at(k / n, competence[: k + 1]) for k in range(n)]
    assert seen == sorted(seen)


def test_before_the_first_measurement_it_goes_by_steps():
    assert Clock("competence", 0.9).at(0.3) == 0.3


def test_a_run_ends_where_the_trainer_ends():
    assert Clock("competence", 0.9).at(1.0, [0.1, 0.1]) == 0.5  # half open at the handover, which comes all the same
    assert Clock("competence", 0.9).at(1.0, [0.1, 0.95]) == 1.0
