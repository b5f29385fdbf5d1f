"""The controls of what steers, trained: each does to real runs what its name says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from campus_tune.compare.campaign import Campaign
from campus_tune.compare.training import Bench
from campus_tune.words.types import Json
from tests.compare.tiny_compare import plan_of, tiny_recipe

ARMS = ["recipe", "random", "round_robin", "replayed_choices", "mean_shares", "notes_only"]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    folder = tmp_path_factory.mktemp("steered")
    campus: Json = {
        "metrics": ["length", "mtld"],
        "selector": {"name": "exp3s", "reward": "norm"},
        "stages": 6,
        "handover": 1.0,
        "budget": 5.0,
        "domains": {"reweight": {"name": "odm"}},
        "probes": {"path": str(folder / "probes.jsonl")},
        "when": {"stagnation": {"least": 0.9, "window": 1, "then": "hand_over", "times": 1}},
    }
    recipe = tiny_recipe(folder, campus=campus, num_train_epochs=2)
    plan = plan_of(recipe, "--out", str(folder / "out"), "--arms", *ARMS, "--compare.seeds", "[0]")
    made, bench = Campaign(plan, "campus-tune compare", lambda _: None), Bench(plan)
    made.begin(bench.read_test())
    for kinds in (["baseline"], ["recipe", "control"], ["control"]):
        made.train(kinds, bench)
    return made


def chosen(campaign: Campaign, arm: str) -> list[str]:
    return [choice["chosen"] for choice in campaign.outcomes[arm, 0]["choices"]]


def test_all_of_them_are_trained_to_the_end(campaign: Campaign) -> None:
    assert {name for name, _ in campaign.outcomes} == set(ARMS)
    assert {outcome["status"] for outcome in campaign.outcomes.values()} == {"finished"}
    assert len({outcome["rows"] for outcome in campaign.outcomes.values()}) == 1


def test_the_rule_of_the_recipe_hands_over_and_its_notes_do_not(campaign: Campaign) -> None:
    assert "shuffle" in chosen(campaign, "recipe")
    assert "shuffle" not in chosen(campaign, "notes_only")


def test_choices_are_those_of_the_recipes_run_in_another_sequence(campaign: Campaign) -> None:
    recipe = [name for name in chosen(campaign, "recipe") if name != "shuffle"]
    written = campaign.outcomes["replayed_choices", 0]["campus"]["selector"]
    assert written["name"] == "replayed"
    assert Counter(written["choices"]) == Counter(recipe)
    assert chosen(campaign, "replayed_choices")[: len(recipe)] == written["choices"]


def test_round_robin_takes_turns(campaign: Campaign) -> None:
    names = [name for name in chosen(campaign, "round_robin") if name != "shuffle"]
    assert names == (["length", "mtld"] * len(names))[: len(names)]


def test_average_shares_are_those_of_the_run_and_follow_nothing(campaign: Campaign) -> None:
    written = campaign.outcomes["mean_shares", 0]["campus"]["domains"]
    choices = campaign.outcomes["recipe", 0]["choices"]
    n_rows = sum(choice["rows"] for choice in choices)
    for name, share in written["shares"].items():
        assert share == pytest.approx(sum(one["shares"][name] * one["rows"] for one in choices) / n_rows)
    assert written.get("reweight") is None


def test_the_same_command_again_makes_no_run(campaign: Campaign) -> None:
    said: list[str] = []
    again = Campaign(campaign.plan, "campus-tune compare", said.append)
    again.begin(Bench(campaign.plan).read_test())
    assert said == [f"{len(ARMS)} of {len(ARMS)} runs are there already and are kept"]


def test_a_run_that_replays_another_recipes_choices_is_refused(campaign: Campaign, tmp_path: Path) -> None:
    del tmp_path
    again = Campaign(campaign.plan, "campus-tune compare", lambda _: None)
    again.begin(Bench(campaign.plan).read_test())
    recorded = again._recorded_for(campaign.plan.arm("replayed_choices"), 0)
    assert recorded is not None
    assert recorded["choices"] == campaign.outcomes["replayed_choices", 0]["campus"]["selector"]["choices"]
