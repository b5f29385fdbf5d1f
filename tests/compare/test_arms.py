"""What each arm of a comparison trains."""

from typing import Any

import pytest

from campus_tune.compare.arms import DEFAULT, Arm, make_arms
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.errors import RecipeError

BLOCK: dict[str, Any] = {
    "metrics": ["length", "-mtld", {"name": "loss", "reduce": "sum", "label": "answers"}],
    "selector": {"name": "fixed", "order": "length"},
    "pacing": {"name": "root", "power": 3, "start": 0.1},
    "stages": 7,
    "window": "slice",
    "handover": 0.5,
    "batching": "plain",
    "rescore": 2,
    "probes": {"path": "probes.jsonl"},
    "evaluate": {"suite": "smoke"},
}


def arms(block: dict[str, Any] = BLOCK, **asked: Any) -> dict[str, Arm]:
    found = make_arms(block, {"random": {}, "recipe": {}, **asked})
    return {arm.name: arm for arm in found}


def test_the_baseline_comes_first_then_recipes_controls_and_what_needs_their_bill() -> None:
    found = make_arms(BLOCK, {name: {} for name in ("random_plus", *reversed(DEFAULT), "mine")})
    kinds = [(arm.name, arm.kind) for arm in found]
    assert kinds == [
        ("random", "baseline"),
        ("recipe", "recipe"),
        ("mine", "recipe"),
        ("reversed", "control"),
        ("random_same_pacing", "control"),
        ("random_plus", "plus"),
    ]


def test_the_recipe_is_the_block_that_sft_trains_but_for_tasks_on_the_way() -> None:
    without = {key: value for key, value in BLOCK.items() if key != "evaluate"}
    assert arms()["recipe"].config(3) == CampusConfig.from_mapping(without)


@pytest.mark.parametrize("name", ["random", "random_plus"])
def test_random_is_plain_shuffling_that_measures_nothing(name: str) -> None:
    config = arms(random_plus={})[name].config(0)
    assert config.is_shuffle
    assert config.metrics == ()
    assert config.probes is None
    assert (config.stages, config.batching) == (7, "plain")  # audits and batches as the recipe's


def test_other_arms_change_what_they_say_and_nothing_else() -> None:
    mine = arms(mine={"stages": 30, "selector": "matched"})["mine"].config(0)
    recipe = arms()["recipe"].config(0)
    assert {key for key, value in mine.to_mapping().items() if value != recipe.to_mapping()[key]} == {
        "stages",
        "selector",
    }


def test_same_pacing_keeps_all_but_the_orders() -> None:
    control, recipe = arms(random_same_pacing={})["random_same_pacing"], arms()["recipe"].config(0)
    config = control.config(0)
    differ = {key for key, value in config.to_mapping().items() if value != recipe.to_mapping()[key]}
    assert differ == {"metrics"}
    assert config.labels == recipe.labels
    assert {spec.name for spec in config.specs} == {"random"}


def test_same_pacing_draws_other_orders_for_every_metric_and_seed() -> None:
    control = arms(random_same_pacing={})["random_same_pacing"]
    drawn = [spec.options["seed"] for seed in range(4) for spec in control.config(seed).specs]
    assert len(set(drawn)) == len(drawn) == 4 * 3


def test_a_random_metric_that_has_a_seed_keeps_it() -> None:
    block = {"metrics": ["-random", {"name": "random", "seed": 5, "label": "mine"}, "length"]}
    specs = arms(block)["recipe"].config(2).specs
    assert [spec.options.get("seed") for spec in specs] == [2000, 5, None]
    assert [spec.reverse for spec in specs] == [True, False, False]


def test_reversed_turns_every_order_around() -> None:
    config = arms(reversed={})["reversed"].config(0)
    recipe = arms()["recipe"].config(0)
    assert config.labels == ("-length", "mtld", "-answers")
    for turned, spec in zip(config.specs, recipe.specs, strict=True):
        assert (turned.name, turned.options, turned.reverse) == (spec.name, spec.options, not spec.reverse)
    assert config.selector == {"name": "fixed", "order": "-length"}
    differ = {key for key, value in config.to_mapping().items() if value != recipe.to_mapping()[key]}
    assert differ == {"metrics", "selector"}


def test_reversed_twice_is_the_recipe() -> None:
    once = arms(reversed={})["reversed"].campus
    twice = arms(once, reversed={})["reversed"].config(0)
    assert twice.specs[:2] == arms()["recipe"].config(0).specs[:2]
    assert twice.labels == arms()["recipe"].config(0).labels
    assert twice.selector == {"name": "fixed", "order": "length"}


def test_reversed_leaves_a_selector_without_an_order_as_it_is() -> None:
    for selector in (None, "matched", {"name": "matched"}):
        block = {**BLOCK, "selector": selector}
        assert arms(block, reversed={})["reversed"].config(0).selector == selector


@pytest.mark.parametrize(
    ("block", "asked", "message"),
    [
        (BLOCK, {"recipe": {}}, "`compare: arms` must have 'random', which the others are compared with, got recipe"),
        (BLOCK, {"random": {}, "reversed": {}}, "`compare: arms` must have a recipe besides the controls, got none"),
        ({**BLOCK, "seed": 4}, {"random": {}, "recipe": {}}, "`campus: seed` must be left out .* got 4"),
        (BLOCK, {"random": {}, "recipe": {}, "mine": {"seed": 4}}, "`compare: arms: mine: seed` must be left out"),
        (BLOCK, {"random": {}, "recipe": {}, "a/b": {}}, "letters, digits and .* got 'a/b'"),
        (BLOCK, {"random": {}, "recipe": {}, "..": {}}, r"letters, digits and .* got '\.\.'"),
        (BLOCK, {"random": {}, "mine": {"stagse": 3}}, "arm 'mine': .*Did you mean 'stages'"),
        (BLOCK, {"random": {"stages": 0}, "recipe": {}}, "arm 'random': `stages` must be"),
    ],
)
def test_wrong_arms_are_refused(block: dict[str, Any], asked: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make_arms(block, asked)


def test_problems_of_the_recipe_itself_come_once() -> None:
    with pytest.raises(RecipeError) as caught:
        make_arms({"metrics": ["lenght"]}, {name: {} for name in DEFAULT})
    assert len(caught.value.problems) == 1
    assert "Did you mean 'length'" in str(caught.value)
    assert "arm" not in str(caught.value)


def test_problems_of_all_arms_come_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        make_arms(BLOCK, {"random": {}, "a": {"stages": 0}, "b": {"mix": 2}})
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["arm 'a'", "arm 'b'"]
