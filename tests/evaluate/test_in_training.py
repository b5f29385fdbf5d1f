"""`evaluate:` in a recipe: official tasks watch a run, which trains as if nobody watched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from campus_tune.evaluate.results import scores_in_words
from campus_tune.model.peers import Peers
from campus_tune.recipe.blocks import EvaluateSettings
from campus_tune.run.ledger import comparable
from campus_tune.run.official_tasks import Evaluator
from campus_tune.run.told.console import evaluation_line
from campus_tune.words.errors import RecipeError, TrainerError
from campus_tune.words.types import Json
from tests.evaluate.data import write
from tests.run.tiny_run import RECIPE, history_of, ledger_of, tiny_trainer, weights_of
from tests.run.witness import events

EVALUATE: Json = {"suite": "smoke", "every": "2 stages", "tasks": ["arc_easy", "gsm8k"], "limit": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write(tmp_path_factory.mktemp("data")))


def run(out: Path, evaluate: Mapping[str, Any] | None, **settings: Any) -> Any:
    config = {**RECIPE, "stages": 5} | ({} if evaluate is None else {"evaluate": dict(evaluate)})
    trainer = tiny_trainer(out, config=config, lora=True, probes=8, n=40, **settings)  # a LoRA with dropout
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, data: str) -> tuple[Path, Any]:
    out = tmp_path_factory.mktemp("watched")
    return out, run(out, {**EVALUATE, "data": data})


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    out = tmp_path_factory.mktemp("alone")
    return out, run(out, None)


@pytest.mark.slow
def test_a_watched_run_trains_bit_for_bit_as_one_that_nobody_watches(
    watched: tuple[Path, Any], alone: tuple[Path, Any]
) -> None:
    ours, theirs = (
        [{k: v for k, v in line.items() if not k.startswith("campus/eval/")} for line in history_of(trainer)]
        for _, trainer in (watched, alone)
    )
    assert ours == theirs
    ours, theirs = weights_of(watched[1]), weights_of(alone[1])
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    left = [event for event in comparable(ledger_of(watched[0])) if event["event"] != "evaluation"]
    assert left == comparable(ledger_of(alone[0]))


@pytest.mark.slow
def test_it_is_evaluated_before_the_first_stage_every_so_often_and_after_the_last(watched: tuple[Path, Any]) -> None:
    out, trainer = watched
    found = events(out, "evaluation")
    n_stages = len(events(out, "decision"))
    assert [event["stage"] for event in found] == [*range(0, n_stages, 2), n_stages][: len(found)]
    assert found[-1]["step"] == trainer.state.max_steps
    assert found[0]["scores"].keys() == {"arc_easy", "gsm8k"}
    metric = found[0]["scores"]["arc_easy"]["acc,none"]
    assert 0.0 <= metric["value"] <= 1.0
    assert metric["n"] == 2
    assert all(event["seconds"] > 0 for event in found)


@pytest.mark.slow
def test_its_cost_is_apart_and_its_scores_are_in_the_log_and_in_files(watched: tuple[Path, Any]) -> None:
    from campus_tune.evaluate.results import read_result

    out, trainer = watched
    assert "evaluation" not in events(out, "end")[0]["cost"]
    logged = [line for line in trainer.state.log_history if "campus/eval/arc_easy/acc,none" in line]
    assert len(logged) >= 2
    files = sorted(path.name for path in (out / "curriculum/evaluation").iterdir())
    assert files == [f"stage-{event['stage']:05d}.json" for event in events(out, "evaluation")]
    result = read_result(out / "curriculum/evaluation" / files[-1])
    assert len(result.tasks["gsm8k"].scores("exact_match,strict-match")) == 2
    assert result.model["step"] == trainer.state.max_steps


@pytest.mark.slow
def test_what_is_told_is_what_the_suite_reports_and_files_have_the_rest(watched: tuple[Path, Any]) -> None:
    from campus_tune.evaluate.results import read_result

    out, _ = watched
    scores = events(out, "evaluation")[0]["scores"]
    assert list(scores["arc_easy"]) == ["acc,none", "acc_norm,none"]
    whole = read_result(out / "curriculum/evaluation/stage-00000.json").tasks["arc_easy"].metrics
    assert set(scores["arc_easy"]) <= set(whole)


def test_a_line_says_only_what_a_suite_reports() -> None:
    found = {"exact_match,none": {"value": 0.0}, "math_verify,none": {"value": 0.25}}
    assert scores_in_words("minerva_math", ["math_verify,none"], found) == "minerva_math math_verify 0.2500"
    assert scores_in_words("mmlu", ["acc,none"], found) == "mmlu acc not given by lm-eval"
    scores = {"gsm8k": {"exact_match,strict-match": {"value": 0.5}}, "arc_easy": {"acc,none": {"value": 1.0}}}
    line = evaluation_line({"suite": "smoke", "stage": 5, "scores": scores, "seconds": 7.4})
    assert line == "smoke after stage 5: gsm8k exact_match strict-match 0.5000; arc_easy acc 1.0000 (7 s)"


def trainer(*, sharded: bool) -> Any:
    model = SimpleNamespace(parameters=lambda: iter(()))
    return SimpleNamespace(
        model=model,
        model_wrapped=model,
        is_fsdp_enabled=sharded,
        is_deepspeed_enabled=False,
        args=SimpleNamespace(device="cpu"),
        _prepare_inputs=None,
    )


def test_a_sharded_model_is_refused_with_the_way_to_evaluate_its_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=r"`evaluate` must have the whole model .* campus-tune eval --checkpoints"):
        Evaluator(EvaluateSettings(), trainer(sharded=True), Peers(), tmp_path)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"suite": "smok"}, "Did you mean 'smoke'"),
        ({"tasks": ("mmul",)}, "Did you mean 'mmlu'"),
        ({"tasks": ("mbpp",)}, "allow_code_execution"),
    ],
)
def test_what_cannot_be_evaluated_is_said_before_the_first_step(
    tmp_path: Path, data: str, settings: Json, match: str
) -> None:
    with pytest.raises(RecipeError, match=match):
        Evaluator(EvaluateSettings(**{"data": data, **settings}), trainer(sharded=False), Peers(), tmp_path)


def test_a_recipe_without_it_evaluates_nothing(tmp_path: Path) -> None:
    evaluator = Evaluator(None, None, Peers(), tmp_path)
    assert not evaluator.due(0)
    assert not evaluator.due(5, ends=True)
