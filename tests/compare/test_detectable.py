"""What is said of a comparison before it is made."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from campus_tune.compare import detectable
from campus_tune.compare.verdict import ArmResults, ItemValues, judge
from campus_tune.words.errors import DataError
from campus_tune.words.types import Json

N_ITEMS = 60


def arm(name: str, kind: str, seeds: int, shift: float = 0.0) -> ArmResults:
    draw = np.random.default_rng([seeds, *name.encode()])
    items = np.random.default_rng(5).uniform(5, 30, N_ITEMS)
    values = items + shift + draw.normal(size=(seeds, N_ITEMS)) + draw.normal(size=(seeds, 1))
    end = ItemValues(values, np.full(N_ITEMS, 10.0), np.zeros(N_ITEMS, dtype=np.int64), ("all",))
    return ArmResults(name, kind, tuple(range(seeds)), end)


def plan(seeds: int = 5) -> Any:
    settings = SimpleNamespace(seeds=tuple(range(seeds)), effect=0.02, speedup=0.1)
    return SimpleNamespace(settings=settings, arms=[SimpleNamespace(kind="recipe")], baseline=SimpleNamespace(name="r"))


def earlier(folder: Path, seeds: int) -> Path:
    verdict = judge([arm("random", "baseline", seeds), arm("recipe", "recipe", seeds, 0.5)], resamples=200)
    (folder / detectable.VERDICT).write_text(json.dumps(verdict.to_mapping()), "utf-8")
    return folder


def test_an_earlier_comparison_says_what_more_seeds_would_find(tmp_path: Path) -> None:
    few, many = (detectable.from_earlier(earlier(tmp_path, 4), plan(seeds)) for seeds in (4, 40))
    assert [len(few), len(many)] == [1, 1]
    assert many[0].detectable < few[0].detectable
    assert few[0].learned_from == "the earlier comparison of recipe with random"


def test_a_folder_without_a_verdict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="`--earlier` must be the folder of a finished comparison, got "):
        detectable.from_earlier(tmp_path, plan())
    (tmp_path / detectable.VERDICT).write_text("{}", "utf-8")
    with pytest.raises(DataError, match=r"`format` of a verdict must be 1, got None|must be the folder of a finished"):
        detectable.from_earlier(tmp_path, plan())


def test_a_refused_verdict_plans_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="`--earlier` must have a verdict on a recipe, got none in "):
        detectable.from_earlier(earlier(tmp_path, 1), plan())


@pytest.mark.parametrize("text", ["[]", "null", '{"format": 1, "judgements": 3}'])
def test_other_json_is_no_verdict_either(tmp_path: Path, text: str) -> None:
    (tmp_path / detectable.VERDICT).write_text(text, "utf-8")
    with pytest.raises(DataError, match="`--earlier` must be the folder of a finished comparison"):
        detectable.from_earlier(tmp_path, plan())


def a_result(seed: int, curve: list[float]) -> Json:
    losses = np.random.default_rng(seed).uniform(5, 30, N_ITEMS).tolist()
    test = {"items": [str(i) for i in range(N_ITEMS)], "tokens": [10] * N_ITEMS, "domain": [0] * N_ITEMS}
    return {
        "arm": "random", "kind": "baseline", "seed": seed, "status": "finished", "shared": {}, "tokens": 100,
        "test": {**test, "domains": ["all"], "loss": losses}, "cost": {"all": 0.0},
        "curve": {"tokens": [0, 50, 100], "seconds": [0, 1, 2], "loss": curve},
    }  # fmt: skip


def a_campaign(results: list[Json], seeds: int = 2) -> Any:
    campaign: Any = SimpleNamespace(plan=plan(seeds), results=lambda _: results, said=[])
    campaign.say = campaign.said.append
    return campaign


def test_a_baseline_whose_loss_rises_is_no_reason_to_stop() -> None:
    campaign = a_campaign([a_result(0, [2.0, 2.5, 3.0]), a_result(1, [2.0, 1.5, 1.0])])
    (end,) = detectable.from_baseline(campaign)
    assert end.n_items == N_ITEMS
    assert campaign.said == [
        "which saving could be found is not known: the loss of `random` did not fall with every seed"
    ]


def test_runs_that_do_not_differ_promise_nothing() -> None:
    same = [{**a_result(0, [2.0, 1.5, 1.0]), "seed": seed} for seed in (0, 1)]
    said = [one.sentence for one in detectable.from_baseline(a_campaign(same))]
    assert said == [
        "The runs do not differ at all, so which effect 2 seeds and 60 test rows would find is not known.",
        "The runs do not differ at all, so which saving 2 seeds would find is not known.",
    ]


def test_one_seed_is_told_before_its_arms_are_trained_that_there_will_be_no_verdict() -> None:
    campaign = a_campaign([a_result(0, [2.0, 1.5, 1.0])], seeds=1)
    detectable.say(campaign, detectable.from_baseline(campaign))
    assert campaign.said[0].startswith("there will be no verdict: one seed cannot tell a recipe from luck")


def test_one_run_of_the_baseline_says_nothing_and_that_is_said() -> None:
    campaign: Any = SimpleNamespace(plan=plan(), results=lambda _: [{"status": "finished"}], said=[])
    campaign.say = campaign.said.append
    detectable.say(campaign, detectable.from_baseline(campaign))
    assert campaign.said == [
        "which effect could be found is not known from fewer than two finished runs of `random`",
        detectable.NOTHING,
    ]
