"""What is said of bandits before a run: too little to learn from, rewards that are blurred, or not paid for."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from campus_tune.method.budget import FEWEST, Budget
from campus_tune.preview.advice import problems_in_method
from campus_tune.preview.cost_plan import CostFacts, asks_the_model
from campus_tune.preview.reward_cost import unpaid_rewards
from campus_tune.preview.steer_advice import bandit_findings, few_decisions
from campus_tune.recipe.config import CampusConfig
from campus_tune.scores.planning import purposes

FOUR = ["length", "mtld", "compression", "readability"]


def config(selector: Any = "exp3s", **settings: Any) -> CampusConfig:
    return CampusConfig.from_mapping({"metrics": FOUR, "selector": selector, "mix": 0.0, **settings})


def following(said: str, **settings: Any) -> CampusConfig:
    """The settings as they are once the first piece of advice is followed."""
    [name, value] = re.findall(r"(?:Write|or) (\w+): (\{.*?\}|[\w.]*\w)", said)[0]
    options = re.fullmatch(r"\{name: (\w+), reward: (\w+)\}", value)
    written = {"name": options[1], "reward": options[2]} if options else float(value) if "." in value else value
    return config(**{**settings, name: written})


# -- decisions ------------------------------------------------------------------------------------------------------


def test_too_few_decisions_are_counted_and_round_robin_is_named() -> None:
    [found] = map(str, few_decisions(config(), 200, 200))
    assert found == (
        "warning: 12 decisions for 4 sub-curricula: a bandit cannot learn from so few; round_robin does the same. "
        "Write selector: round_robin, or stages: 67."
    )
    assert list(few_decisions(following(found), 200, 200)) == []
    assert list(few_decisions(config(stages=67), 200, 200)) == []
    assert len(list(few_decisions(config(stages=65), 200, 200))) == 1


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("window", ["prefix", "slice"])
def test_the_number_of_stages_that_is_named_is_enough_and_hardly_more(epochs: int, window: str) -> None:
    settings = {"window": window, "stages": 3, "handover": 0.8}
    [found] = map(str, few_decisions(config(**settings), epochs * 97, 97))
    [stages] = re.findall(r"stages: (\d+)\.", found)
    assert list(few_decisions(config(**{**settings, "stages": int(stages)}), epochs * 97, 97)) == []
    assert len(list(few_decisions(config(**{**settings, "stages": int(stages) - 2}), epochs * 97, 97))) == 1


def test_a_run_of_too_few_steps_is_told_of_round_robin_alone() -> None:
    [found] = map(str, few_decisions(config(), 30, 30))
    assert found.startswith("warning: 12 decisions for 4")
    assert found.endswith("Write selector: round_robin.")


@pytest.mark.parametrize("metrics", [FOUR, FOUR[:2]])
def test_ten_decisions_for_each_are_let_pass(metrics: list[str]) -> None:
    assert list(few_decisions(config(metrics=metrics, stages=10 * len(metrics), handover=1.0), 400, 400)) == []
    assert len(list(few_decisions(config(metrics=metrics, stages=10 * len(metrics) - 1, handover=1.0), 400, 400))) == 1


@pytest.mark.parametrize(
    "settings", [{"selector": "round_robin"}, {"selector": None}, {"metrics": ["length"]}, {"handover": 0}]
)
def test_what_is_no_bandit_or_decides_nothing_is_not_spoken_of(settings: dict[str, Any]) -> None:
    assert list(few_decisions(config(**settings), 20, 20)) == []


def test_a_bandit_over_one_metric_is_told_as_ever() -> None:
    [found] = map(str, problems_in_method(config(metrics=["length"])))
    assert found.startswith(
        "warning: With one metric there is nothing to select: exp3s would measure and decide nothing"
    )


# -- rows at random -------------------------------------------------------------------------------------------------


def test_a_half_at_random_halves_what_a_bandit_sees() -> None:
    [found] = map(str, bandit_findings(config(mix=0.5)))
    assert found.startswith("warning: mix: 0.5 draws 50% of each stage at random")
    assert "needs 4.0 times as many decisions" in found
    [found] = map(str, bandit_findings(following(found, mix=0.5)))
    assert found.startswith("info: mix: 0.2")
    assert "1.6 times as many" in found
    assert found.endswith("decisions.")


def test_it_is_said_among_the_problems_of_the_method_of_the_default_mix_too() -> None:
    assert any("mix: 0.5 draws 50%" in str(found) for found in problems_in_method(config(mix=None)))
    for settings in ({"mix": 0.0}, {"selector": "round_robin", "mix": 0.5}, {"mix": None, "window": "slice"}):
        assert list(bandit_findings(config(**settings))) == []


# -- the bill -------------------------------------------------------------------------------------------------------


def run_of(
    kind: str, share: float, probes: Callable[[float, int], int] | None = None, **settings: Any
) -> tuple[CampusConfig, Budget, CostFacts]:
    """1000 rows of 50 tokens, one epoch of 100 steps under LoRA, twelve decisions."""
    one = config({"name": "ucb", "reward": kind}, budget=share, **settings)
    one = one.resolved(has_probes=True, domain_in_data=False, seed=0)
    facts = CostFacts(1000, 100, 100, row=50.0, scored=0.0, rescored=0.0, prompt=10.0, probes=probes)
    return one, Budget(share, 50_000.0, 0.5, purposes(one, 0)), facts


def probes_of(n: int) -> Callable[[float, int], int]:
    """One domain of `n` probe rows of 40 tokens."""
    return lambda allowance, fewest: 40 * min(n, max(fewest, int(allowance / 40)))


def said(kind: str, share: float, probes: int = 0, every: int | None = None, **settings: Any) -> list[str]:
    run = run_of(kind, share, probes_of(probes) if probes else None, **settings)
    return [str(found) for found in unpaid_rewards(*run, every)]


def test_rewards_that_are_paid_for_are_not_spoken_of() -> None:
    assert said("probes", 0.5, 8) == said("own", 0.5) == said("norm", 0.0001, 8) == []
    assert said("probes", 0.001) == []  # without probes the recipe is refused


def test_probes_that_are_measured_seldom_are_told_with_the_budget_that_would_pay() -> None:
    """A measurement of 8 rows takes 320 tokens: 21 of them need 6720, three tenths of what the budget is."""
    [found] = said("probes", 0.05, 8)
    assert "the probes are measured once in 5 stages, which is what budget: 0.05 pays for" in found
    [named] = re.findall(r"Write budget: ([0-9.]+),", found)
    assert said("probes", float(named), 8) == []
    assert 0.05 < float(named) < 0.3
    assert said("norm", 0.05, 8) == []


def test_what_the_run_itself_says_of_its_probes_counts() -> None:
    assert said("probes", 0.5, 8, every=1) == []
    [found] = said("probes", 0.5, 8, every=3)
    assert "measured once in 3 stages" in found


def test_own_samples_that_are_not_paid_for_are_told_with_the_budget_that_would_pay() -> None:
    """0.005 of 50 000 tokens pays for 500 forward tokens: 41.7 a decision, which is 0.4 rows before and after."""
    [found] = said("own", 0.005)
    assert "pays for 0.4 rows: below 8 nothing is measured, and nothing learned." in found
    [named] = re.findall(r"Write budget: ([0-9.]+),", found)
    assert said("own", float(named)) == []
    assert float(named) == pytest.approx(FEWEST["selection"] * 2 * 50 * 12 * 0.5 / 50_000, rel=0.03)
    assert said("own", float(named), 8) != []  # probes have their part


def test_own_rewards_ask_the_model() -> None:
    assert asks_the_model(config({"name": "ucb", "reward": "own"}), has_probes=False)
    assert not asks_the_model(config({"name": "ucb", "reward": "norm"}), has_probes=False)
