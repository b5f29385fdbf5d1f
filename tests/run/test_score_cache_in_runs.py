"""Runs and the score cache: what lies on a disk saves work and changes no decision."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from campus_tune.model.scorer_training import ScorerTrainer
from campus_tune.words.types import Json
from tests.run.other_models import save_reward, save_same
from tests.run.tiny_run import history_of, ledger_of, task_rows, tiny_trainer, weights_of
from tests.run.witness import events
from tests.scores.test_passages import Counter

N = 64
SCORER: Json = {"name": "scorer", "new_tokens": 4, "pairs": 32}
CONFIG: Json = {
    "metrics": ["length", "loss", SCORER],
    "stages": 5,
    "rescore": 0,
    "handover": 1.0,
    "budget": 6.0,
    "selector": "lowest_perplexity",
}


def run(out: Path, **changes: Any) -> Any:
    """A finished run; rows that went through its model outside of training are in `trainer.asked`."""
    settings = {"n": N, "per_device_train_batch_size": 8, **changes}
    trainer = tiny_trainer(out, **{**settings, "config": {**CONFIG, **settings.get("config", {})}})
    counter = Counter(trainer)
    trainer.train()
    trainer.asked = counter.since() - N * round(trainer.args.num_train_epochs)
    return trainer


def shards() -> list[Path]:
    return sorted(Path(os.environ["CAMPUS_TUNE_CACHE"]).rglob("*.parquet"))


def found(out: Path) -> float:
    share: float = events(out, "end")[0]["found"]
    return share


def same_runs(first: Any, second: Any) -> None:
    ours, theirs = (ledger_of(Path(trainer.args.output_dir)) for trainer in (first, second))
    for a, b in zip(ours, theirs, strict=True):
        assert a == b
    assert history_of(first) == history_of(second)
    weights = weights_of(second)
    assert all(bool((value == weights[name]).all()) for name, value in weights_of(first).items())


def test_a_second_run_finds_what_the_first_has_measured_and_decides_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(tmp_path / "first", config={"rescore": 2})
    assert "found in the cache" not in capsys.readouterr().out
    trained: list[int] = []
    train = ScorerTrainer.train
    monkeypatch.setattr(ScorerTrainer, "train", lambda *a, **k: [trained.append(k["refresh"]), train(*a, **k)][1])
    second = run(tmp_path / "second", config={"rescore": 2})
    said = capsys.readouterr().out
    same_runs(first, second)
    assert trained == [1]  # the first one was found, its answers were not sampled again
    assert second.asked < first.asked - N
    assert (found(tmp_path / "first"), found(tmp_path / "second") > 0) == (0, True)
    end = events(tmp_path / "second", "end")[0]
    assert end["found"] == pytest.approx(end["cost"]["scoring"] + end["cost"]["scorer"] - rescored_scorer(second))
    assert "of the training compute were found in the cache, not measured" in said
    assert f"{end['found']:.1%} of it found in the score cache" in said


def rescored_scorer(trainer: Any) -> float:
    """Share of the training compute that the scorer cost after the start."""
    lines = events(Path(trainer.args.output_dir), "rescored")
    end = events(Path(trainer.args.output_dir), "end")[0]
    tokens = sum(line["tokens"]["scorer"] for line in lines)
    rescoring = sum(line["tokens"]["rescoring"] for line in lines)
    return float(tokens * end["cost"]["rescoring"] / rescoring)


def test_rows_that_are_known_only_in_part_change_no_decision(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", config={"metrics": ["length", "loss"], "scores": "none"})
    other = [json.loads(json.dumps(row)) for row in task_rows(N)]
    for row in other[::2]:
        row["completion"][0]["content"] += " indeed"
    run(tmp_path / "other", config={"metrics": ["length", "loss"]}, train=other)
    again = run(tmp_path / "again", config={"metrics": ["length", "loss"]})
    assert 0 < found(tmp_path / "again") < events(tmp_path / "again", "end")[0]["cost"]["scoring"]
    ours, theirs = ledger_of(tmp_path / "again"), ledger_of(tmp_path / "whole")
    assert [e for e in ours if e["event"] == "decision"] == [e for e in theirs if e["event"] == "decision"]
    assert whole.asked - again.asked == N // 2


def test_no_cache_is_read_or_written_when_the_recipe_says_so(tmp_path: Path) -> None:
    first = run(tmp_path / "first", config={"scores": "none", "metrics": ["mtld", "loss"]})
    second = run(tmp_path / "second", config={"scores": "none", "metrics": ["mtld", "loss"]})
    assert shards() == []
    assert first.asked == second.asked
    same_runs(first, second)


def test_a_cache_that_the_recipe_names_is_shared_by_runs_and_leaves_the_users_own_alone(tmp_path: Path) -> None:
    named = {"metrics": ["length", "loss"], "scores": str(tmp_path / "ours")}
    first = run(tmp_path / "first", config=named)
    assert shards() == []
    assert list((tmp_path / "ours").rglob("*.parquet"))
    second = run(tmp_path / "second", config=named)
    assert second.asked == first.asked - N
    run(tmp_path / "other", config=named, train=task_rows(N, seed=8))
    said = [
        [w for w in events(tmp_path / name, "warnings")[0]["warnings"] if w.startswith("`scores`")]
        for name in ("first", "second", "other")
    ]
    assert said[:2] == [[], []]
    assert said[2][0].endswith(f"are of another dataset: 0 of {N} rows are in it.")


def test_runs_that_ask_for_other_metrics_of_the_same_forward_share_it(tmp_path: Path) -> None:
    run(tmp_path / "first", config={"metrics": ["length", "loss"]})
    run(tmp_path / "second", config={"metrics": ["-loss", {"name": "confidence", "of": "mean"}]})
    end = events(tmp_path / "second", "end")[0]
    assert end["found"] == pytest.approx(end["cost"]["scoring"])


def test_another_seed_or_learning_rate_finds_the_same_losses(tmp_path: Path) -> None:
    run(tmp_path / "first", config={"metrics": ["length", "loss"]})
    run(tmp_path / "second", config={"metrics": ["length", "loss"]}, seed=8, learning_rate=1e-4)
    assert found(tmp_path / "second") > 0


def test_the_losses_of_a_re_scoring_are_not_kept(tmp_path: Path) -> None:
    config = {"metrics": ["length", "loss"], "selector": "round_robin"}
    run(tmp_path / "calm", config=config)
    before = shards()
    run(tmp_path / "rescored", config={**config, "rescore": 2})
    assert events(tmp_path / "rescored", "rescored")
    assert shards() == before


def test_a_damaged_shard_is_measured_again_and_named(tmp_path: Path) -> None:
    config = {"metrics": ["length", "loss"]}
    first = run(tmp_path / "first", config=config)
    (shard,) = shards()
    shard.write_bytes(shard.read_bytes()[:-40])
    second = run(tmp_path / "second", config=config)
    assert second.asked == first.asked
    assert found(tmp_path / "second") == 0
    assert any(shard.name in warning for warning in events(tmp_path / "second", "warnings")[0]["warnings"])
    assert run(tmp_path / "third", config=config).asked == first.asked - N


def test_other_models_and_rewards_are_asked_once_for_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = [
        {"name": "perplexity", "model": str(save_same(tmp_path / "same"))},
        {"name": "quality", "model": str(save_reward(tmp_path / "reward"))},
    ]
    config = {"metrics": metrics, "rescore": 0, "selector": "round_robin"}
    first = run(tmp_path / "first", config=config)
    for name in ("load_reference", "load_reward"):
        monkeypatch.setattr(f"campus_tune.scores.passages.{name}", None)
    second = run(tmp_path / "second", config=config)
    same_runs(first, second)
    end = events(tmp_path / "second", "end")[0]
    assert end["found"] == pytest.approx(end["cost"]["scoring"])
    assert end["found"] > 0


def test_what_is_found_is_on_the_bill_so_the_rest_of_the_budget_is_the_same(tmp_path: Path) -> None:
    config = {"metrics": ["length", "loss"], "budget": 2.0}
    costs = []
    for name in ("first", "second"):
        run(tmp_path / name, config=config)
        costs.append([event["cost"] for event in events(tmp_path / name, "stage_end")])
    assert costs[0] == costs[1]
