"""Whole runs of a real trainer whose weights are sharded, beside the same run of one process."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campus_tune.demo.tiny import write_tiny
from campus_tune.words.types import Json
from tests.distributed.ranks import PATIENT, Report, Warm
from tests.distributed.sharded_runs import FSDP2, ZERO
from tests.run.tiny_run import task_rows
from tests.run.witness import events

TRAIN = "tests.distributed.sharded_runs:train"
RECIPE: Json = {"metrics": ["length", "loss"], "selector": "lowest_perplexity", "stages": 3, "handover": 1.0}
RECIPE |= {"budget": 2.0}
SCORER: Json = {**RECIPE, "metrics": ["length", {"name": "scorer", "new_tokens": 8}]}
STEPS = 12
AUTO = dict.fromkeys(("train_micro_batch_size_per_gpu", "train_batch_size", "gradient_accumulation_steps"), "auto")
AUTO |= {"gradient_clipping": "auto"}
LARGE = {"stage3_param_persistence_threshold": 0, "stage3_max_live_parameters": 0, "stage3_prefetch_bucket_size": 0}

Run = Callable[..., Report]


@pytest.fixture(scope="module", params=["FSDP2", "ZeRO 2", "ZeRO 3"])
def sharding(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment that `accelerate launch` makes of a config."""
    if request.param == "FSDP2":
        return FSDP2
    pytest.importorskip("deepspeed")
    config = {"zero_optimization": {"stage": int(request.param[-1])}, **AUTO}
    if request.param == "ZeRO 3":  # no parameter is small enough to be kept whole
        config["zero_optimization"] |= {"stage3_gather_16bit_weights_on_model_save": True, **LARGE}
    file = tmp_path_factory.mktemp("config") / "zero.json"
    file.write_text(json.dumps(config), "utf-8")
    return {**ZERO, "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(file)}


def train(warm: Warm, environment: Mapping[str, str], out: Path, world: int = 2, **settings: Any) -> Report:
    """Four rows a step, on any number of processes; it ends well."""
    settings = {"config": RECIPE, "probes": 8, "n": 4 * STEPS, "per_device_train_batch_size": 4 // world, **settings}
    environment = environment if world > 1 else {}
    return warm.run(TRAIN, world, environment=environment, out=str(out), timeout=600, **settings).ok


@pytest.fixture
def run(warm: Warm, sharding: Mapping[str, str]) -> Run:
    return partial(train, warm, sharding)


@pytest.fixture(scope="module")
def whole(warm: Warm, sharding: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """A sharded run from beginning to end."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return out, train(warm, sharding, out)


@pytest.fixture(scope="module")
def alone(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """The same of one process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    return out, train(warm, {}, out, 1)


def decisions(out: Path) -> list[Any]:
    return [(event["chosen"], event["rows_digest"]) for event in events(out, "decision")]


def scores(out: Path, metric: str) -> list[float]:
    return next(list(event["quantiles"]) for event in events(out, "scores") if event["metric"] == metric)


def losses(report: Report) -> list[float]:
    return [line["loss"] for line in report.results[0]["history"] if "loss" in line]


def test_a_sharded_run_decides_and_trains_what_one_process_does(
    whole: tuple[Path, Report], alone: tuple[Path, Report]
) -> None:
    (out, report), (single, one) = whole, alone
    assert {rank["kind"] for rank in report.results} <= {"FSDP", "DEEPSPEED"}
    assert decisions(out) == decisions(single)
    np.testing.assert_allclose(scores(out, "loss"), scores(single, "loss"), rtol=1e-5)
    np.testing.assert_allclose(losses(report), losses(one), rtol=1e-5)
    assert events(out, "end")[0]["audit"] == {"checked": STEPS, "passed": STEPS, "labels": True}
    first, second = report.results
    assert first["weights"] == second["weights"]
    assert first["counts"] == second["counts"] == one.results[0]["counts"]


def test_a_sharded_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    run: Run, whole: tuple[Path, Report], tmp_path: Path
) -> None:
    assert run(tmp_path / "run", saves=(5,), stop=8).results[0]["stopped"]
    resumed = run(tmp_path / "run", resume=True)
    out, uninterrupted = whole
    assert resumed.results[0]["weights"] == uninterrupted.results[0]["weights"]
    assert decisions(tmp_path / "run") == decisions(out)
    assert events(tmp_path / "run", "end")[0]["audit"] == {"checked": STEPS, "passed": STEPS, "labels": True}


@pytest.mark.parametrize("lora", [False, True])
def test_a_scorer_that_samples_from_a_sharded_model_scores_as_one_process_does(
    run: Run, tmp_path: Path, lora: bool
) -> None:
    run(tmp_path / "run", config=SCORER, lora=lora)
    run(tmp_path / "one", 1, config=SCORER, lora=lora)
    np.testing.assert_allclose(scores(tmp_path / "run", "scorer"), scores(tmp_path / "one", "scorer"), rtol=1e-3)
    ours, theirs = (
        next(event for event in events(tmp_path / name, "scores") if event["metric"] == "scorer")
        for name in ("run", "one")
    )
    assert ours["sampled_tokens"] == theirs["sampled_tokens"]


def test_a_model_that_does_something_after_its_head_is_measured_without_standing_still(
    run: Run, tmp_path: Path
) -> None:
    run(tmp_path / "run", soft_caps=True)
    run(tmp_path / "one", 1, soft_caps=True)
    np.testing.assert_allclose(scores(tmp_path / "run", "loss"), scores(tmp_path / "one", "loss"), rtol=1e-5)


def test_another_model_is_whole_in_every_process(warm: Warm, sharding: Mapping[str, str], tmp_path: Path) -> None:
    other = write_tiny(tmp_path / "other", seed=7)
    config = {**RECIPE, "metrics": ["length", {"name": "perplexity", "model": str(other)}]}
    settings = {"config": config, "model": str(write_tiny(tmp_path / "model"))}
    train(warm, {**sharding, "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}, tmp_path / "run", **settings)
    train(warm, {}, tmp_path / "one", 1, **settings)
    ours, theirs = (scores(tmp_path / name, "perplexity") for name in ("run", "one"))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_a_run_sharded_over_two_processes_goes_on_over_four(warm: Warm, tmp_path: Path) -> None:
    train(warm, FSDP2, tmp_path / "run", saves=(5,), stop=8)
    resumed = train(warm, FSDP2, tmp_path / "run", 4, resume=True)
    assert events(tmp_path / "run", "resumed")[0]["world"] == {"before": 2, "now": 4}
    uninterrupted = train(warm, FSDP2, tmp_path / "whole")
    assert decisions(tmp_path / "run") == decisions(tmp_path / "whole")
    np.testing.assert_allclose(losses(resumed), losses(uninterrupted), rtol=1e-5)


def test_a_sharded_checkpoint_is_refused_by_a_process_that_shards_nothing(warm: Warm, tmp_path: Path) -> None:
    train(warm, FSDP2, tmp_path / "run", saves=(5,), stop=8)
    settings = {"config": RECIPE, "probes": 8, "n": 4 * STEPS, "per_device_train_batch_size": 4, "resume": True}
    report = warm.run(TRAIN, 1, out=str(tmp_path / "run"), **settings)
    assert all(report.codes)
    assert "a checkpoint of FSDP must be resumed under FSDP, got 1 process without it" in report.stderr[0]


def test_fsdp1_is_refused_before_anything_is_trained(warm: Warm, tmp_path: Path) -> None:
    old = {**FSDP2, "FSDP_VERSION": "1", "FSDP_SYNC_MODULE_STATES": "false"}  # which would ask for a real GPU
    report = warm.run(TRAIN, 2, environment=old, term_after=PATIENT, out=str(tmp_path / "run"), config=RECIPE, n=8)
    assert all(report.codes)
    assert all("FSDP must be version 2 with a curriculum, got version 1" in text for text in report.stderr)


WEIGHTS: Json = {"selector": "shuffle", "stages": 2, "weights": [{"name": "column"}, {"name": "linupper"}]}


def test_weights_multiply_where_a_model_is_sharded(run: Run, warm: Warm, tmp_path: Path) -> None:
    rows = [{**row, "weight": 0.25 + i % 5} for i, row in enumerate(task_rows(4 * STEPS))]
    settings: Json = {"config": WEIGHTS, "train": rows, "probes": None}
    ours, theirs = run(tmp_path / "ours", **settings), train(warm, {}, tmp_path / "theirs", 1, **settings)
    assert losses(ours) == pytest.approx(losses(theirs), rel=1e-2)
    found, wanted = (events(out, "stage_end") for out in (tmp_path / "ours", tmp_path / "theirs"))
    assert [end["weights_audit"] for end in found] == [[6, 6], [12, 12]]
    for ours_end, theirs_end in zip(found, wanted, strict=True):
        assert ours_end["weighted_loss"] == pytest.approx(theirs_end["weighted_loss"], rel=1e-2)
        assert ours_end["weights"]["ess"] == pytest.approx(theirs_end["weights"]["ess"], rel=1e-2)
