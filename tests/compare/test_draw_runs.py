"""The controls of the draw, trained: each does to real runs what its name says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from campus_tune.compare.campaign import Campaign
from campus_tune.compare.result_file import VISITS, run_folder
from campus_tune.compare.training import Bench
from campus_tune.words.types import IntArray, Json
from tests.compare.tiny_compare import plan_of, tiny_recipe

CAMPUS: Json = {
    "metrics": ["length"],
    "stages": 3,
    "cells": {"bands": 2},
    "domains": {"follow": "seen_loss"},
    "thin": {"how": "rank", "by": "length", "keep": 0.7},
    "review": {"share": 0.25},
    "drop": [{"by": "-length", "lowest": 0.1}],
}
ARMS = ["recipe", "random", "shuffled_scores", "natural_shares", "mean_shares", "no_review", "random_drop"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Campaign, Path]:
    folder = tmp_path_factory.mktemp("drawn")
    recipe = tiny_recipe(folder, campus=CAMPUS, num_train_epochs=2)
    plan = plan_of(recipe, "--out", str(folder / "out"), "--arms", *ARMS, "--compare.seeds", "[0]")
    campaign, bench = Campaign(plan, "campus-tune compare", lambda _: None), Bench(plan)
    campaign.begin(bench.read_test())
    for kinds in (["baseline"], ["recipe", "control"], ["control"]):
        campaign.train(kinds, bench)
    return campaign, folder / "out"


def visits(world: tuple[Campaign, Path], arm: str) -> IntArray:
    """How often each row was trained."""
    with np.load(run_folder(world[1], arm, 0) / VISITS) as kept:
        return np.bincount(kept["rows"], minlength=48)


def test_all_of_them_train_the_same_number_of_rows(world: tuple[Campaign, Path]) -> None:
    outcomes = world[0].outcomes
    assert {name for name, _ in outcomes} == set(ARMS)
    assert {outcome["status"] for outcome in outcomes.values()} == {"finished"}
    assert len({outcome["rows"] for outcome in outcomes.values()}) == 1


def test_scores_that_are_shuffled_thin_other_rows(world: tuple[Campaign, Path]) -> None:
    assert not np.array_equal(visits(world, "shuffled_scores"), visits(world, "recipe"))


def test_average_shares_are_those_of_the_recipes_run_and_constant(world: tuple[Campaign, Path]) -> None:
    outcomes = world[0].outcomes
    written = outcomes["mean_shares", 0]["campus"]["domains"]
    choices = outcomes["recipe", 0]["choices"]
    n_rows = sum(choice["rows"] for choice in choices)
    for name, share in written["shares"].items():
        assert share == pytest.approx(sum(one["shares"][name] * one["rows"] for one in choices) / n_rows)
    assert written["follow"] is None


def test_dropping_at_random_drops_as_many_rows_and_other_ones(world: tuple[Campaign, Path]) -> None:
    mine, recipe = (visits(world, name) == 0 for name in ("random_drop", "recipe"))
    dropped = [world[0].outcomes[name, 0]["campus"]["control"] for name in ("random_drop", "shuffled_scores")]
    assert dropped == ["random_drop", "shuffled_scores"]
    assert np.count_nonzero(recipe) >= 4
    assert np.count_nonzero(mine) >= 4
    assert not np.array_equal(mine, recipe)


def test_the_same_command_again_makes_no_run(world: tuple[Campaign, Path]) -> None:
    campaign, _ = world
    said: list[str] = []
    again = Campaign(campaign.plan, "campus-tune compare", said.append)
    again.begin(Bench(campaign.plan).read_test())
    assert said == [f"{len(ARMS)} of {len(ARMS)} runs are there already and are kept"]
