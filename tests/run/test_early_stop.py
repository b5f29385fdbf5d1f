from __future__ import annotations

import numpy as np
import pytest

from campus_tune.run.early_stop import EarlyStop

LINEAR = np.linspace(1.0, 0.0, 10, endpoint=False) * 3e-4  # 1.0, 0.9, …, 0.1 of the peak


def test_a_stop_says_how_much_of_the_schedule_was_left() -> None:
    stop = EarlyStop.at(4, 10, LINEAR)
    assert stop.mass_left == pytest.approx((0.6 + 0.5 + 0.4 + 0.3 + 0.2 + 0.1) / 5.5)
    assert stop.rate == pytest.approx(0.7)
    assert stop.last_rate == pytest.approx(0.1)
    assert stop.said() == (
        "stopped at step 4 of 10; 38% of the learning-rate mass was left and the rate stood at 0.7 of its peak: a "
        "schedule that ends here would have decayed, and the fair control is `random` with max_steps: 4"
    )


def test_a_rate_that_has_decayed_or_never_does_is_that_of_a_finished_schedule() -> None:
    constant = EarlyStop.at(120, 300, np.full(300, 2e-5))
    assert constant.said() == (
        "stopped at step 120 of 300; 60% of the learning-rate mass was left and the rate stood at 1 of its peak, as it "
        "would at the end: the fair control is `random` with max_steps: 120"
    )
    assert "would have decayed" not in EarlyStop.at(10, 10, LINEAR).said()


def test_where_nobody_knows_the_rates_steps_stand_in() -> None:
    said = "stopped at step 3 of 12; 75% of the steps were left, at rates that nobody knows: the fair control is "
    for rates in (None, np.zeros(12)):
        stop = EarlyStop.at(3, 12, rates)
        assert stop.said() == said + "`random` with max_steps: 3"
        assert stop.line() == {
            "step": 3,
            "total_steps": 12,
            "mass_left": None,
            "rate": None,
            "last_rate": None,
            "said": stop.said(),
        }


def test_a_stop_before_the_first_step_has_all_of_the_mass_left() -> None:
    stop = EarlyStop.at(0, 10, LINEAR)
    assert (stop.mass_left, stop.rate) == (1.0, 1.0)
