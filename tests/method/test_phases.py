"""Phases: every step lies in exactly one, and the handover is the end of the one that offers something."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.phases import offers_until, phases_of


@given(st.floats(0, 1), st.integers(1, 5000))
def test_every_step_lies_in_exactly_one_phase(handover: float, total_steps: int) -> None:
    ends = [0, *(phase.end for phase in phases_of(handover, total_steps))]
    assert [phase.first_step for phase in phases_of(handover, total_steps)] == ends[:-1]
    assert ends == sorted(set(ends))
    assert ends[-1] == total_steps


@given(st.floats(0, 1), st.integers(1, 5000))
def test_nothing_is_offered_from_the_handover_on(handover: float, total_steps: int) -> None:
    phases = phases_of(handover, total_steps)
    assert offers_until(phases) == round(handover * total_steps)
    assert all(phase.offers == (phase.end <= offers_until(phases)) for phase in phases)


@pytest.mark.parametrize(
    ("handover", "names"), [(1.0, ["curriculum"]), (0.0, ["shuffle"]), (0.5, ["curriculum", "shuffle"])]
)
def test_a_phase_without_a_step_is_none(handover: float, names: list[str]) -> None:
    assert [phase.name for phase in phases_of(handover, 10)] == names


def test_a_run_that_offers_nothing_is_handed_over_from_its_first_step() -> None:
    assert offers_until(()) == 0
