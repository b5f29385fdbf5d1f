"""The `compare:` block: what it takes, and how it answers what it does not."""

from typing import Any

import pytest

from campus_tune.compare.settings import CompareSettings
from campus_tune.recipe.blocks import EvaluateSettings
from campus_tune.words.errors import RecipeError

TEST = {"path": "test.jsonl"}


def read(**block: Any) -> CompareSettings:
    return CompareSettings.from_mapping({"test": TEST, **block})


def test_a_file_is_all_it_needs() -> None:
    settings = CompareSettings.from_mapping({"test": "test.jsonl"})
    assert settings == CompareSettings(test=("test.jsonl",))
    assert tuple(settings.arms) == ("recipe", "random", "random_same_pacing", "reversed")
    assert settings.seeds == (0, 1, 2, 3, 4)
    assert settings.domain_column == "domain"
    assert "random_plus" not in settings.arms


def test_everything_can_be_set() -> None:
    settings = read(
        test={"path": ["a.jsonl", "b.jsonl"], "domain_column": "none"},
        arms={"recipe": None, "random": {}, "longer": {"stages": 30}, "random_plus": None},
        seeds=[7, 3],
        effect=0.05,
        speedup=0.2,
        points=5,
        tokens_tolerance=0,
        evaluate={"suite": "smoke", "tasks": ["mmlu"]},
        sharpness=True,
        jobs=2,
        devices=1,
    )
    assert settings.test == ("a.jsonl", "b.jsonl")
    assert settings.domain_column is None
    assert settings.arms == {"recipe": {}, "random": {}, "longer": {"stages": 30}, "random_plus": {}}
    assert "random_plus" in settings.arms
    assert settings.seeds == (7, 3)
    assert settings.devices == (1,)
    assert settings.evaluate == EvaluateSettings(suite="smoke", tasks=("mmlu",))


def test_how_runs_are_shared_out_makes_no_other_comparison() -> None:
    one, other = read(jobs=2).to_mapping(), read(devices=[0, 1]).to_mapping()
    assert one == other
    assert one != read(points=5).to_mapping()
    assert read(evaluate={"suite": "smoke"}).to_mapping()["evaluate"]["suite"] == "smoke"


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"sedes": 3}, "Did you mean 'seeds'"),
        ({"domain_column": "source"}, "domain_column"),
        ({"test": None}, "`compare: test` must be a file of held-out rows or a list of files, got None"),
        ({"test": []}, r"`compare: test` must be a file of held-out rows or a list of files, got \[\]"),
        ({"test": [1]}, "`compare: test` must be a file"),
        ({"test": {"path": "t.jsonl", "domian_column": "x"}}, "Did you mean 'domain_column'"),
        ({"test": {"path": "t.jsonl", "domain_column": 3}}, "domain_column"),
        ({"seeds": 2**31}, "`compare: seeds` must be how many, or a list of whole numbers"),
        ({"jobs": 2**31}, "`compare: jobs` must be a whole number of at least 1 and at most 256"),
        ({"seeds": 0}, "`compare: seeds` must be how many, or a list of whole numbers"),
        ({"seeds": -2}, "`compare: seeds` must be .* got -2"),
        ({"seeds": True}, "`compare: seeds` must be .* got True"),
        ({"seeds": [0, True]}, "`compare: seeds` must be"),
        ({"seeds": [0, -1]}, "`compare: seeds` must be"),
        ({"seeds": "5"}, "`compare: seeds` must be .* got '5'"),
        ({"seeds": [1, 2, 1]}, "`compare: seeds` must be different, got 1 twice: a repeated run is no second"),
        ({"arms": []}, "`compare: arms` must be a list of names, or a mapping"),
        ({"arms": "random"}, "`compare: arms` must be a list of names"),
        ({"arms": [{"random": {}}]}, "`compare: arms` must be a list of names"),
        ({"arms": {"random": 3}}, "`compare: arms: random` must be settings of the campus block, got 3"),
        ({"evaluate": "smoke"}, "`compare: evaluate` must be a mapping"),
        ({"evaluate": {"every": 5}}, "`compare: evaluate` must look once, at the end, got every: 5. Remove `every`."),
        ({"evaluate": {"siute": "smoke"}}, "Did you mean 'suite'"),
        ({"devices": []}, "`compare: devices` must be numbers of GPUs"),
        ({"devices": [0, -1]}, "`compare: devices` must be numbers of GPUs"),
        ({"devices": [True]}, "`compare: devices` must be numbers of GPUs"),
        ({"devices": [0, 0]}, "`compare: devices` must be different, got 0 twice"),
        ({"jobs": 0}, "`compare: jobs` must be"),
        ({"jobs": 1.5}, "`compare: jobs` must be"),
        ({"points": 0}, "`compare: points` must be"),
        ({"effect": 0}, "`compare: effect` must be"),
        ({"effect": 1}, "`compare: effect` must be"),
        ({"effect": None}, "`compare: effect` must be"),
        ({"speedup": float("nan")}, "`compare: speedup` must be"),
        ({"tokens_tolerance": -0.1}, "`compare: tokens_tolerance` must be"),
        ({"sharpness": "yes"}, "`compare: sharpness` must be true or false, got 'yes'"),
    ],
)
def test_a_wrong_setting_is_refused(block: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read(**block)


def test_all_problems_come_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        CompareSettings.from_mapping({"seeds": 0, "effect": 7, "poinst": 3})
    assert len(caught.value.problems) == 4  # and no test


@pytest.mark.parametrize("block", [["random"], "test.jsonl", None])
def test_a_block_that_is_no_mapping_is_refused(block: Any) -> None:
    with pytest.raises(RecipeError, match="`compare` must be a mapping"):
        CompareSettings.from_mapping(block)
