from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campus_tune.demo.tiny import write_tiny
from campus_tune.run.ledger import FILE
from campus_tune.words.types import Json
from tests.distributed.ranks import ENVIRONMENT, REPOSITORY, Report, Warm
from tests.distributed.told import choices, history, ledger, lines, steps_of
from tests.run.tiny_run import task_rows

RECIPE: Json = {"metrics": ["length", "mtld", "loss"], "mix": 0.0, "stages": 4, "handover": 0.9, "budget": 2.0}
RECIPE |= {"selector": "lowest_perplexity", "batching": "step"}
BATCH = 8
# 32 steps, the last one of each epoch with 2 rows: fewer than 4 processes can share
RUN: Json = {"config": RECIPE, "probes": 10, "n": 122, "num_train_epochs": 2, "dropout": False}
FEW: Json = {**RUN, "n": 60, "num_train_epochs": 1}


class Run:
    """A finished run: where it is, and what its ranks have told."""

    def __init__(self, out: str, report: Report) -> None:
        self.out, self.report = out, report


@pytest.fixture(scope="module")
def run(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """A run of so many processes, trained once for each choice of settings."""
    known: dict[str, Run] = {}

    def train(world: int, **settings: Any) -> Run:
        if (key := repr((world, settings))) not in known:
            out = str(tmp_path_factory.mktemp("ddp") / "run")
            micro = BATCH // world // settings.get("gradient_accumulation_steps", 1)
            report = warm.run("train", world, out=out, **{**RUN, "per_device_train_batch_size": micro, **settings})
            known[key] = Run(out, report.ok)
        return known[key]

    return train


worlds = pytest.mark.parametrize("world", [2, 4])


@worlds
def test_every_step_trains_the_rows_of_the_run_on_one_process(run: Callable[..., Run], world: int) -> None:
    ours = run(world).report
    assert {result["kind"] for result in ours.results} == {"MULTI_CPU"}
    assert steps_of(ours) == steps_of(run(1).report)
    assert len(steps_of(ours)) == 32


@worlds
def test_every_decision_is_that_of_the_run_on_one_process(run: Callable[..., Run], world: int) -> None:
    ours, single = run(world).out, run(1).out
    assert choices(ours) == choices(single)
    assert {line["chosen"] for line in lines(ours, "decision")} >= {"length", "loss"}
    measured = [
        [
            [offer["loss"] for offer in line["offers"] if "loss" in offer]
            for line in lines(out, "decision")
            if "offers" in line
        ]
        for out in (ours, single)
    ]
    for a, b in zip(*measured, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)
    assert measured[0][0] == measured[1][0]  # before any step: to the last bit


@pytest.mark.parametrize(("world", "lora"), [(2, False), (4, False), (2, True)])
def test_the_loss_of_every_step_is_that_of_the_run_on_one_process(
    run: Callable[..., Run], world: int, lora: bool
) -> None:
    settings = {"lora": True} if lora else {}
    ours, single = (history(run(w, **settings).report, "loss", "grad_norm", "learning_rate") for w in (world, 1))
    assert len(ours) == 32
    np.testing.assert_allclose(ours, single, rtol=2e-4)


@worlds
def test_the_calibration_of_the_probes_is_that_of_the_run_on_one_process(run: Callable[..., Run], world: int) -> None:
    ours, single = (lines(run(w).out, "probes") for w in (world, 1))
    assert len(ours) == len(single) > 2
    for a, b in zip(ours, single, strict=True):
        for name, report in a["domains"].items():
            for what in ("ece", "confidence"):
                assert report[what] == pytest.approx(b["domains"][name][what], rel=1e-3, abs=5e-3)
    assert ours[0]["domains"] == single[0]["domains"]  # before any step: to the last bit


@worlds
def test_every_rank_ends_with_the_same_weights(run: Callable[..., Run], world: int) -> None:
    assert len({result["weights"] for result in run(world).report.results}) == 1


@worlds
def test_the_audit_is_complete(run: Callable[..., Run], world: int) -> None:
    audit = lines(run(world).out, "end")[0]["audit"]
    assert audit["checked"] == audit["passed"] >= lines(run(1).out, "end")[0]["audit"]["checked"] > 0


@worlds
def test_only_rank_0_writes_and_speaks(run: Callable[..., Run], world: int) -> None:
    ours = run(world)
    assert "everything about this run is in" in ours.report.stdout[0]
    for rank in range(1, world):
        assert ours.report.stdout[rank] == ""
        assert ours.report.results[rank]["written"] == []
    assert str(Path(ours.out) / "curriculum" / FILE) in ours.report.results[0]["written"]
    assert _files(ours.out) == _files(run(1).out)


def _files(out: str) -> set[str]:
    return {str(path.relative_to(out)) for path in Path(out).rglob("*") if path.is_file()}


def test_losses_of_every_row_that_any_rank_trained_are_kept(run: Callable[..., Run]) -> None:
    ours, single = (lines(run(world).out, "stage_end") for world in (2, 1))
    assert [line["rows_with_loss"] for line in ours] == [line["rows_with_loss"] for line in single]
    np.testing.assert_allclose([s["train_loss"] for s in ours], [s["train_loss"] for s in single], rtol=2e-4)


def test_the_ledger_shows_the_slowest_rank_and_the_padding_of_each(run: Callable[..., Run]) -> None:
    ranks = [line["ranks"] for line in lines(run(2).out, "stage_end")]
    for stage in ranks:
        assert len(stage["padding"]) == len(stage["tokens"]) == 2
        for activity in stage["seconds"].values():
            assert {activity["fastest"][0], activity["slowest"][0]} <= {0, 1}
            assert activity["fastest"][1] <= activity["slowest"][1]
    assert "training" in ranks[0]["seconds"]
    assert not [line for line in ledger(run(1).out) if "ranks" in line]


def test_padding_is_counted_over_all_ranks(run: Callable[..., Run]) -> None:
    ours, single = (lines(run(world).out, "end")[0]["padding"] for world in (2, 1))
    assert ours["tokens"][0] == single["tokens"][0]
    assert ours["tokens"][1] < single["tokens"][1]  # twice as many micro batches of half the rows
    assert (ours["micro"], single["micro"]) == (4, 8)
    assert ours["at_random"] < single["at_random"]


def test_workers_and_accumulation_change_no_row_and_no_loss(run: Callable[..., Run]) -> None:
    shared = {**FEW, "gradient_accumulation_steps": 2, "dataloader_num_workers": 1}
    ours, single = run(2, **shared).report, run(1, **FEW).report
    assert steps_of(ours) == steps_of(single)
    np.testing.assert_allclose(history(ours, "loss", "grad_norm"), history(single, "loss", "grad_norm"), rtol=2e-4)


METRICS = ("loss", "grad_norm", "entropy", "mean_token_accuracy", "epoch")
# 8 rows, then one for both ranks; weights stay, so that only what is measured can differ
ONE_LEFT: Json = {"config": {"selector": "shuffle"}, "probes": None, "n": 9, "num_train_epochs": 1}
ONE_LEFT |= {"learning_rate": 0.0, "include_num_input_tokens_seen": "non_padding"}


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="padded"),
        pytest.param({"padding_free": True, "max_length": None, "dataloader_num_workers": 1}, id="flat, workers"),
        pytest.param({"moe": True}, id="experts whose router is trained"),
    ],
)
def test_a_rank_without_a_row_leaves_no_trace_in_any_metric_or_gradient(
    run: Callable[..., Run], settings: Json
) -> None:
    settings = {**ONE_LEFT, **settings}
    two, alone = run(2, **settings).report, run(1, **settings).report
    names = (*METRICS, "aux_loss") if "moe" in settings else METRICS
    steps = [history(report, *names)[-1] for report in (two, alone)]  # of earlier ones a router's loss hangs on the cut
    np.testing.assert_allclose(*steps, rtol=1e-5)
    assert steps_of(two) == steps_of(alone)
    for result in two.results:
        assert result["counted"] == alone.results[0]["counted"]


def test_split_batches_splits_the_micro_batch_among_the_processes(run: Callable[..., Run]) -> None:
    split = {"per_device_train_batch_size": BATCH, "accelerator_config": {"split_batches": True}}
    assert steps_of(run(2, **FEW, **split).report) == steps_of(run(1, **FEW).report)


@pytest.mark.skipif("CAMPUS_TUNE_WHOLE" not in os.environ, reason="half a minute: `sft --num_processes` has its own")
def test_the_launcher_itself_trains_the_stream_of_one_process(warm: Warm, tmp_path: Path) -> None:
    write_tiny(tmp_path / "model")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in task_rows(60)))
    shared: Json = {"model_name_or_path": str(tmp_path / "model"), "dataset_name": str(tmp_path / "rows.jsonl")}
    shared |= {"num_train_epochs": 2, "learning_rate": 3.0e-3, "use_cpu": True, "bf16": False, "report_to": "none"}
    shared |= {"save_strategy": "no", "seed": 3, "campus": {**RECIPE, "scores": "none"}}
    argv = {}
    for name, micro in (("alone", BATCH), ("launched", BATCH // 2)):
        recipe = {**shared, "output_dir": str(tmp_path / name), "per_device_train_batch_size": micro}
        (tmp_path / f"{name}.yaml").write_text(json.dumps(recipe))  # JSON is YAML
        argv[name] = ["sft", "--config", str(tmp_path / f"{name}.yaml")]
    assert warm.run("sft", 1, argv=argv["alone"][1:]).ok
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    done = subprocess.run(
        [*launch, "-m", "campus_tune", *argv["launched"]],
        cwd=REPOSITORY,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert choices(str(tmp_path / "launched")) == choices(str(tmp_path / "alone"))
    assert lines(str(tmp_path / "launched"), "run")[0]["batch"]["world"] == 2
    assert done.stdout.count("everything about this run is in") == 1
