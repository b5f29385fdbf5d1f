"""The last lines of a run under a policy: what came too often, what never came, chances that were worth little."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from campus_tune.run.told.console import Console
from campus_tune.run.told.drawn_lines import drawn_lines, thinned_lines
from campus_tune.run.told.events import Decided

END: dict[str, Any] = {
    "n_rows": 1000,
    "visits": 2000,
    "passes": {"chat": 1.5, "math": 6.25},
    "never_trained": {"rows": 0, "by_domain": {}},
    "dropped": 0,
    "visits_most": 7,
    "review_rows": 0,
}
DECISION = {"stage": 0, "step": 0, "chosen": "shuffle", "outcome": "no order to offer", "scope": [0, 1], "rows": 8}
LANES = {"lanes": {"offer": 0, "mix": 8, "review": 0}, "offered": 16, "passed_over": 8, "shortage": {}}


def thin(tau: float | None, ess: float) -> dict[str, Any]:
    return {"how": "proportional", "by": "worth", "tau": tau, "known": 64, "ess": ess}


def test_domains_that_came_more_than_four_times_are_warned_of() -> None:
    passes, warning = drawn_lines(END)
    assert passes == "passes: chat 1.50, math 6.25"
    assert warning.startswith("warning: rows came up to 7 times (passes of math 6.2).")
    assert len(drawn_lines({**END, "passes": {"chat": 1.5, "math": 4.0}})) == 1
    assert len(drawn_lines({**END, "groups": {"n": 8}})) == 1  # prompts are answered anew each time


def test_rows_that_were_offered_often_and_trained_seldom_are_no_repeats() -> None:
    assert len(drawn_lines({**END, "passes": {"chat": 10.0}, "visits_most": 2})) == 1


def test_rows_that_never_came_are_warned_of_where_there_was_room_for_them() -> None:
    never = {"rows": 300, "by_domain": {"chat": 200, "math": 100}}
    end = {**END, "visits_most": 2, "never_trained": never}
    assert drawn_lines(end)[1] == "warning: 300 of 1000 rows were never trained (chat 200, math 100)"
    assert drawn_lines({**end, "visits": 700})[1] == "300 of 1000 rows were never trained (chat 200, math 100)"
    assert drawn_lines({**end, "visits": 600, "dropped": 100})[1].startswith("300 of 1000")


def test_a_run_without_a_policy_has_none_of_these_lines() -> None:
    assert drawn_lines({"n_rows": 8}) == []
    assert thinned_lines([]) == []


def test_chances_that_were_hardly_unequal_or_very_much_so_are_warned_of() -> None:
    assert thinned_lines([thin(1.4, 0.8), thin(1.02, 0.97)]) == []
    (alike,) = thinned_lines([thin(1.05, 0.9), thin(1.02, 0.97)])
    assert alike.startswith("warning: `worth` was nearly the same in all rows offered (τ 1.05 at most)")
    (few,) = thinned_lines([thin(3.0, 0.25), thin(2.0, 0.5)])
    assert few.startswith("warning: in 1 of 2 stages rows were taken with chances so unequal that they count as 25%")


def test_chances_by_rank_are_unequal_on_purpose() -> None:
    assert thinned_lines([thin(None, 0.1)]) == []


def test_stages_that_were_not_paid_for_are_warned_of() -> None:
    unpaid = {"how": "top", "by": "loss", "skipped": "not paid for"}
    (warning,) = thinned_lines([unpaid, unpaid, thin(None, 1.0)])
    assert warning.startswith(
        "warning: in 2 of 3 stages candidates were not measured, and rows not thinned: not paid for."
    )
    assert thinned_lines([{**unpaid, "skipped": "nothing is known of the rows offered"}]) == []


def test_the_console_remembers_what_the_stages_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(8, tmp_path)
    for tau in (1.01, 1.02):
        console.take(Decided({**DECISION, **LANES, "thin": thin(tau, 0.9)}, {}, 0.0))
    assert "8 of 16 offered passed over" in capsys.readouterr().out
    assert "(τ 1.02 at most)" in thinned_lines(console.thinned)[0]
