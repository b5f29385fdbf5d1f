"""`value`: false, true or a mapping; absent where nobody asks."""

from __future__ import annotations

from typing import Any

import pytest

from campus_tune.method.budget import VALUE, Budget
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.errors import RecipeError

PLAIN = {"metrics": ["length"]}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (False, None),
        (None, None),
        (True, {"adam": False, "budget": 0.05}),
        ({}, {"adam": False, "budget": 0.05}),
        ({"adam": True}, {"adam": True, "budget": 0.05}),
        ({"budget": 0.2}, {"adam": False, "budget": 0.2}),
    ],
)
def test_it_is_read_and_written_back(written: Any, read: Any) -> None:
    config = CampusConfig.from_mapping({**PLAIN, "value": written})
    assert (config.value and config.value.to_mapping()) == read
    assert CampusConfig.from_mapping(config.to_mapping()) == config
    assert config.to_mapping().get("value") == read
    assert "value" not in config.past()
    assert config.future().get("value") == read


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("yes", r"`value` must be false, true or a mapping, got 'yes'. Write value: true, or value: \{adam: true\}"),
        (1, r"`value` must be false, true or a mapping, got 1"),
        ({"adam": "yes"}, r"`value: adam` must be true or false, got 'yes'"),
        ({"budget": 0}, r"`value: budget` must be a number in \(0, 10\], got 0"),
        ({"adem": True}, r"`value` takes adam, budget, got 'adem'. Did you mean 'adam'\?"),
    ],
)
def test_what_is_wrong_is_named(written: Any, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        CampusConfig.from_mapping({**PLAIN, "value": written})


def test_it_needs_probes() -> None:
    with pytest.raises(
        RecipeError, match=r"`value` must have probes, .* Give probes: \{path: ./probes.jsonl\}, or take"
    ):
        CampusConfig.from_mapping({**PLAIN, "value": True}).resolved(has_probes=False, domain_in_data=False, seed=0)


def test_what_it_costs_is_beside_the_budget() -> None:
    budget = Budget(0.1, 1000.0, 0.5, ("scoring", "selection", "probes", VALUE))
    left = budget.left
    budget.charge(VALUE, 100, 1.0)
    assert budget.left == left
    budget.charge("probes", 40, 1.0)
    assert budget.left == left - 40
    assert budget.shares()[VALUE] == 0.05
    assert budget.shares()["all"] == pytest.approx(0.07)
    assert budget.spent_share() == pytest.approx(0.02)


def test_what_it_cost_is_known_after_a_resume_with_it_or_without() -> None:
    budget = Budget(0.1, 1000.0, 0.5, ("scoring", "selection", "probes", VALUE))
    budget.charge(VALUE, 100, 1.0)
    for purposes in (budget.purposes, budget.purposes[:-1]):
        again = Budget(0.1, 1000.0, 0.5, purposes)
        again.load(budget.state())
        assert again.spent == budget.spent
        assert again.state() == budget.state()
    before = Budget(0.1, 1000.0, 0.5, budget.purposes[:-1])
    begun = Budget(0.1, 1000.0, 0.5, budget.purposes)
    begun.load(before.state())
    assert begun.spent[VALUE] == 0
