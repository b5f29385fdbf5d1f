"""What values cost, reckoned before a run: as many rows as are paid for, and a word where none is."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.budget import Budget
from campus_tune.model.peers import Peers
from campus_tune.model.probes import Probes, load_probes
from campus_tune.preview.value_plan import FEWEST, ValuePlan, value_findings
from campus_tune.recipe.config import CampusConfig
from campus_tune.run.valuing import Valuing
from tests.run.tiny_run import RECIPE, dataset, task_rows, tiny_trainer

SUMS = [row for row in task_rows(150, seed=77) if row["domain"] == "arithmetic"]


def made_up(sizes: list[int], seed: int) -> Probes:
    """Probes of some domains, of which only numbers are known."""
    tokens = np.random.default_rng(seed).integers(5, 60, sum(sizes))
    ends = np.cumsum([0, *sizes])
    domains = {str(i): np.arange(a, b) for i, (a, b) in enumerate(pairwise(ends))}
    rows: Any = SimpleNamespace(tokens=tokens)
    return Probes(SimpleNamespace(), rows, domains)  # type: ignore[arg-type]


@given(
    st.lists(st.integers(FEWEST, 200), min_size=1, max_size=4),
    st.floats(1e-3, 10.0),
    st.floats(1e3, 1e6),
    st.integers(1, 40),
    st.integers(0, 9),
)
def test_what_is_planned_is_paid_for(sizes: list[int], share: float, tokens: float, n_stages: int, seed: int) -> None:
    probes, budget = made_up(sizes, seed), Budget(0.05, tokens, 0.4)
    plan = ValuePlan.of(probes, budget, share, n_stages, seed=seed)
    assert all(len(rows) >= FEWEST for rows in plan.rows.values())
    assert all(set(rows) <= set(probes.domains[name]) for name, rows in plan.rows.items())
    asked = sum(probes.rows.tokens[rows].sum() for rows in plan.rows.values())
    assert plan.cost == pytest.approx(asked / 0.4)
    account = share * tokens
    assert plan.paid == (asked <= account)
    if plan.paid:
        assert math.ceil(n_stages / plan.every) * asked <= account
        assert plan.too_small(budget, share, n_stages) is None
    else:
        assert plan.every == n_stages


@given(st.integers(FEWEST, 100), st.floats(1e3, 1e5), st.integers(1, 30))
def test_the_budget_that_is_advised_pays(size: int, tokens: float, n_stages: int) -> None:
    probes, budget = made_up([size], 0), Budget(0.05, tokens, 0.5)
    said = ValuePlan.of(probes, budget, 1e-4, n_stages, seed=0).too_small(budget, 1e-4, n_stages)
    if said is None:
        return
    once, several = (float(found) for found in re.findall(r"(?:budget: |, or )([\d.]+)", said))
    assert ValuePlan.of(probes, budget, once, n_stages, seed=0).paid
    plan = ValuePlan.of(probes, budget, several, n_stages, seed=0)
    assert math.ceil(n_stages / plan.every) >= min(n_stages, 2)


def findings(out: Path, value: Any, *, lora: bool = True, probes: Any = SUMS) -> list[tuple[str, str]]:
    trainer = tiny_trainer(out, config=False, n=48, lora=lora)
    config = CampusConfig.from_mapping({**RECIPE, "value": value})
    known = None if probes is None else load_probes(dataset(probes), None, trainer)
    tokens = float(sum(len(row["input_ids"]) for row in trainer.train_dataset))
    found = value_findings(trainer, config, known, Budget(0.05, tokens, 0.5), 3)
    return [(one.severity, f"{one.what} {one.remedy}") for one in found]


def test_check_says_what_values_cost(tmp_path: Path) -> None:
    ((severity, said),) = findings(tmp_path, {"budget": 10.0})
    assert severity == "info"
    assert "`value`: the gradients of 30 probe rows are measured before every stage, about 3 times. That costs" in said
    ((_, seldom),) = findings(tmp_path / "seldom", {"budget": 1.6})
    assert "every 2 stages, about 2 times" in seldom


def test_check_says_what_a_run_would_refuse_or_warn_of(tmp_path: Path) -> None:
    ((severity, said),) = findings(tmp_path / "small", True)
    assert severity == "warning"
    assert "`value: budget` is too small" in said
    ((severity, said),) = findings(tmp_path / "full", True, lora=False)
    assert severity == "error"
    assert "`value` must have a LoRA" in said
    ((severity, said),) = findings(tmp_path / "few", True, probes=SUMS[:9])
    assert severity == "error"
    assert "got 9 of 'arithmetic'" in said


def test_nothing_is_said_of_a_recipe_that_asks_for_none(tmp_path: Path) -> None:
    assert findings(tmp_path, False) == []
    assert findings(tmp_path, True, probes=None) == []
    config = CampusConfig.from_mapping(RECIPE)
    trainer = tiny_trainer(tmp_path, config=False, n=48, lora=True)
    assert Valuing.of(trainer, config, None, Budget(0.05, 1e4, 0.5), Peers(), tmp_path, n_stages=3) is None
