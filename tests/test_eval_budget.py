"""`eval/bench_budget.py`: a run of it by hand, and the lines of its table."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval import bench_budget


def test_a_run_of_a_budget_that_pays_for_nothing_spends_nothing_and_says_what_it_does_without(tmp_path: Path) -> None:
    found = bench_budget.run_once(8, 0.0, tmp_path)
    assert (found["cost"]["all"], found["probes"], found["asked"]) == (0.0, 0, 0)
    assert found["free"] + found["turns"] > 0
    assert found["without"].startswith("there is no order by `loss`; the probes are not measured; offers are compared")
    assert bench_budget.line_of(found).startswith("    8    0.0%    0.0%     –  0 asked, ")


@pytest.mark.parametrize(("spent", "shown"), [(0.049, "  98%  5 asked"), (0.06, " 120% OVER  5 asked")])
def test_a_line_says_how_much_of_a_budget_was_spent_and_whether_that_was_too_much(spent: float, shown: str) -> None:
    decided = {"asked": 5, "free": 0, "turns": 1, "probes": 3, "without": ""}
    line = bench_budget.line_of({"steps": 400, "budget": 0.05, "cost": {"all": spent, "probes": spent}, **decided})
    assert shown in line
    assert line.endswith(f"1 in turns; probes 3 times (probes {spent:.1%})")


def test_a_refusal_is_a_line_too() -> None:
    assert bench_budget.line_of({"steps": 10, "budget": 0.0, "refused": "no"}).endswith("refused: no")
