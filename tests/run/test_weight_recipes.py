"""The recipes of weights that ship: each trains, weighs what it says, and its comparison has the arms that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from campus_tune.compare.arms import Arm, make_arms
from campus_tune.compare.settings import CompareSettings
from campus_tune.method.weights import WEIGHTS
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.strict_yaml import read_yaml
from campus_tune.words.types import Json
from tests.run.tiny_run import task_rows, tiny_trainer
from tests.run.witness import Witness, events

RECIPES = Path(__file__).parents[2] / "recipes"
NAMES = ("focal", "importance", "infobatch", "robust", "row_weights", "self_paced", "superloss")
WITHOUT_ONE = {"linupper"}  # of those that are registered


def recipe(name: str) -> Json:
    """A recipe as it is written, but for its stages and cells: a tiny run has few steps and rows."""
    read = read_yaml(RECIPES / f"{name}.yaml")
    few: Json = {"cells": {"bands": 1}} if name == "robust" else {}
    return {**read, "campus": {**read["campus"], **few, "stages": 4}}


def arms(name: str) -> dict[str, Arm]:
    read = recipe(name)
    asked = CompareSettings.from_mapping(read["compare"]).arms
    return {arm.name: arm for arm in make_arms(read["campus"], asked)}


def rows(*, domains: bool) -> list[Json]:
    drawn = [{**row, "weight": i % 4} for i, row in enumerate(task_rows(48))]
    return drawn if domains else [{key: value for key, value in row.items() if key != "domain"} for row in drawn]


def train(out: Path, name: str, arm: str = "recipe") -> tuple[Any, Witness]:
    settings: Json = {"num_train_epochs": recipe(name)["num_train_epochs"]}
    if name == "robust":  # rows of all tasks are of one kind, and the model learns some of them: the others stand out
        settings = {"num_train_epochs": 2, "learning_rate": 3e-2}
    trainer = tiny_trainer(out, config=arms(name)[arm].campus, train=rows(domains=name != "robust"), **settings)
    witness = Witness(trainer)
    trainer.train()
    return trainer, witness


def test_every_weight_has_a_recipe_but_for_those_that_are_named_here() -> None:
    used = {entry.name for name in NAMES for entry in CampusConfig.from_mapping(recipe(name)["campus"]).weights or ()}
    assert used | WITHOUT_ONE == set(WEIGHTS.names())


@pytest.mark.parametrize("name", NAMES)
def test_a_comparison_says_whether_it_is_the_weights_and_whether_it_is_these_rows(name: str) -> None:
    found = arms(name)
    configs = {arm.name: arm.config(0) for arm in found.values()}
    assert {"recipe", "random"} < set(found)
    assert configs["recipe"].weighs
    thinned = configs["recipe"].thin is not None
    controls = {"uniform_weights", "random_prune" if name == "infobatch" else "shuffled_scores"}
    assert found.keys() - {"recipe", "random"} == (controls if thinned else {"shuffled_weights"})
    if thinned:
        assert not configs["uniform_weights"].weighs
        assert configs["uniform_weights"].thin == configs["recipe"].thin


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_of_weights_trains_and_every_step_multiplied_what_was_planned(name: str, tmp_path: Path) -> None:
    trainer, _ = train(tmp_path, name)
    weights = [event["weights"] for event in events(tmp_path, "stage_end") if "weights" in event]
    assert any(one["min"] < one["max"] for one in weights)
    assert all(0 < one["ess"] <= 1 for one in weights)
    [end] = events(tmp_path, "end")
    steps = trainer.state.global_step
    assert end["weights_audit"] == [steps, steps]
    assert (tmp_path / "curriculum/book/map.parquet").exists()  # made of the losses, with weights beside them


@pytest.mark.parametrize("name", ["focal", "robust", "row_weights"])
def test_the_control_of_dealt_weights_trains_the_same_rows_under_others_weights(name: str, tmp_path: Path) -> None:
    (_, seen), (_, other) = (train(tmp_path / arm, name, arm) for arm in ("recipe", "shuffled_weights"))
    assert other.steps == seen.steps
    told = [events(tmp_path / arm, "stage_end") for arm in ("recipe", "shuffled_weights")]
    assert [event["weighted_loss"] for event in told[0]] != [event["weighted_loss"] for event in told[1]]
    if name == "row_weights":  # planned, so that as many rows of a stage count nothing
        nothing = [[event["weights"]["histogram"][0] for event in events] for events in told]
        assert nothing[0] == nothing[1]
        assert sum(nothing[0]) == 12
