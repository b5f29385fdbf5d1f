"""What is said of a comparison before it is made."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from campus_tune.compare import ahead
from campus_tune.compare.inputs import Arm, Measured
from campus_tune.compare.verdict import judge
from campus_tune.errors import DataError

N_ITEMS = 60


def arm(name: str, kind: str, seeds: int, shift: float = 0.0) -> Arm:
    draw = np.random.default_rng([seeds, *name.encode()])
    items = np.random.default_rng(5).uniform(5, 30, N_ITEMS)
    values = items + shift + draw.normal(size=(seeds, N_ITEMS)) + draw.normal(size=(seeds, 1))
    end = Measured(values, np.full(N_ITEMS, 10.0), np.zeros(N_ITEMS, dtype=np.int64), ("all",))
    return Arm(name, kind, tuple(range(seeds)), end)


def plan(seeds: int = 5) -> Any:
    settings = SimpleNamespace(seeds=tuple(range(seeds)), effect=0.02, speedup=0.1)
    return SimpleNamespace(settings=settings, arms=[SimpleNamespace(kind="recipe")], baseline=SimpleNamespace(name="r"))


def earlier(folder: Path, seeds: int) -> Path:
    verdict = judge([arm("random", "baseline", seeds), arm("recipe", "recipe", seeds, 0.5)], resamples=200)
    (folder / ahead.VERDICT).write_text(json.dumps(verdict.to_mapping()), "utf-8")
    return folder


def test_an_earlier_comparison_says_what_more_seeds_would_find(tmp_path: Path) -> None:
    few, many = (ahead.from_earlier(earlier(tmp_path, 4), plan(seeds)) for seeds in (4, 40))
    assert [len(few), len(many)] == [1, 1]
    assert many[0].detectable < few[0].detectable
    assert few[0].learned_from == "the earlier comparison of recipe with random"


def test_a_folder_without_a_verdict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="`--earlier` must be the folder of a finished comparison, got "):
        ahead.from_earlier(tmp_path, plan())
    (tmp_path / ahead.VERDICT).write_text("{}", "utf-8")
    with pytest.raises(DataError, match=r"`format` of a verdict must be 1, got None|must be the folder of a finished"):
        ahead.from_earlier(tmp_path, plan())


def test_a_refused_verdict_plans_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="`--earlier` must have a verdict on a recipe, got none in "):
        ahead.from_earlier(earlier(tmp_path, 1), plan())


def test_one_run_of_the_baseline_says_nothing_and_that_is_said() -> None:
    campaign: Any = SimpleNamespace(plan=plan(), results=lambda _: [{"status": "finished"}], said=[])
    campaign.say = campaign.said.append
    ahead.say(campaign, ahead.from_baseline(campaign))
    assert campaign.said == [
        "which effect could be found is not known from fewer than two finished runs of `random`",
        ahead.NOTHING,
    ]
