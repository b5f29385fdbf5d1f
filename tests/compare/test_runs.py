"""The run that a comparison makes is the run that `campus-tune sft` makes, and its result says what happened in it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from campus_tune.cli import sft
from campus_tune.compare.rate_mass import add_rates
from campus_tune.compare.result_file import read_run_result
from campus_tune.compare.task import Task
from campus_tune.compare.training import Bench
from campus_tune.compare.verdict import arm_of
from campus_tune.data.held_out import read_held_out
from campus_tune.recipe.trl_yaml import parse_trl
from campus_tune.run import make_trainer as sft_trainer
from campus_tune.run.ledger import comparable, read_ledger
from campus_tune.scores.cache import read_columns
from campus_tune.words.types import Json
from tests.compare.tiny_compare import (
    PROBES,
    ROWS,
    STEPS,
    TESTS,
    bench_of,
    plan_of,
    result_of,
    timeless,
    tiny_recipe,
    write_rows,
)
from tests.evaluate.data import write as write_sets
from tests.run.tiny_run import history_of, task_rows, weights_of


@dataclass
class Trained:
    """What is left of a trainer."""

    weights: Mapping[str, torch.Tensor]
    history: list[Json]
    outcome: Json = field(default_factory=dict)


class Witness(Bench):
    """A bench that keeps the weights and the log lines of its last run."""

    def _last_looks(self, trainer: Any, folder: Path) -> Json:
        self.weights, self.history = weights_of(trainer), history_of(trainer)
        return super()._last_looks(trainer, folder)

    def trained(self, arm: str, seed: int) -> Trained:
        outcome = self.make(Task(arm, seed))
        return Trained(self.weights, self.history, outcome)


def by_sft(recipe: Path, out: Path, seed: int, patch: pytest.MonkeyPatch) -> Trained:
    """The same by the command `sft`."""
    patch.setattr("campus_tune.report.callback.report_on", lambda _: None)
    found: list[Any] = []
    train = sft.train
    patch.setattr(sft, "train", lambda *parts: found.append(train(*parts)))
    sft.main(["--config", str(recipe), "--seed", str(seed), "--output_dir", str(out), "--save_strategy", "no"])
    return Trained(weights_of(found[0]), history_of(found[0]))


def assert_same(one: Trained, other: Trained) -> None:
    assert one.weights.keys() == other.weights.keys()
    for name, weight in one.weights.items():
        assert torch.equal(weight, other.weights[name]), name
    assert [line.get("loss") for line in one.history] == [line.get("loss") for line in other.history]
    assert len(one.history) == STEPS


@dataclass
class World:
    """Runs of one recipe."""

    recipe: Path
    out: Path
    runs: dict[tuple[str, int], Trained]
    bench: Witness

    def folder(self, arm: str, seed: int) -> Path:
        return self.out / "runs" / arm / f"seed-{seed}"


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two arms, two seeds, one process."""
    folder = tmp_path_factory.mktemp("lora")
    recipe = tiny_recipe(folder, compare={"sharpness": True})
    bench = Witness(plan_of(recipe))
    order = (("random", 0), ("recipe", 0), ("random", 1), ("recipe", 1))
    return World(recipe, folder / "comparison", {(a, s): bench.trained(a, s) for a, s in order}, bench)


def test_with_lora_a_run_is_that_of_sft_bit_for_bit(
    lora: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = by_sft(lora.recipe, tmp_path / "alone", 1, monkeypatch)
    assert_same(lora.runs["recipe", 1], alone)
    rows = [
        [event["rows_digest"] for event in comparable(read_ledger(home / "curriculum" / "ledger.jsonl"))
         if event["event"] == "decision"]
        for home in (tmp_path / "alone", lora.folder("recipe", 1))
    ]  # fmt: skip
    assert rows[0] == rows[1]


def test_with_all_weights_too(lora: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny_recipe(lora.recipe.parent / "full", lora=False)
    bench = Witness(plan_of(recipe))
    bench.trained("random", 1)
    assert_same(bench.trained("recipe", 1), by_sft(recipe, tmp_path / "alone", 1, monkeypatch))


@pytest.mark.parametrize(
    "settings",
    [
        {"max_length": 24},
        {"completion_only_loss": False},
        {"dataset_name": "messages.jsonl", "assistant_only_loss": True},
        {"dataset_name": "text.jsonl"},
    ],
)
def test_rows_that_were_prepared_once_are_those_that_sft_prepares(
    lora: World, tmp_path: Path, settings: dict[str, Any]
) -> None:
    write_rows(tmp_path / "messages.jsonl", [{"messages": row["prompt"] + row["completion"]} for row in task_rows(12)])
    write_rows(tmp_path / "text.jsonl", [{"text": row["prompt"][0]["content"]} for row in task_rows(12)])
    if "dataset_name" in settings:
        settings = {**settings, "dataset_name": str(tmp_path / settings["dataset_name"])}
    written = {**yaml.safe_load(lora.recipe.read_text()), **settings, "output_dir": str(tmp_path / "out")}
    prepared, made = sft_trainer.Shared(), []
    shared_trainer = partial(sft_trainer.make_shared_trainer, shared=prepared)
    makers: list[Callable[..., Any]] = [sft_trainer.make_trainer, shared_trainer, shared_trainer]
    for make in makers:
        parsed, problems = parse_trl({k: v for k, v in written.items() if k not in ("campus", "compare")}, [])
        assert not problems
        made.append(make(*parsed, callbacks=[]))
    alone, *shared = made
    for trainer in shared:
        assert trainer.train_dataset.column_names == alone.train_dataset.column_names
        assert trainer.train_dataset[:] == alone.train_dataset[:]
        assert type(trainer.data_collator) is type(alone.data_collator)
        for name, weight in weights_of(alone).items():
            assert torch.equal(weights_of(trainer)[name], weight)


def test_a_fresh_process_makes_the_same_run_however_often_it_looks(lora: World, tmp_path: Path) -> None:
    plan = plan_of(lora.recipe, "--out", str(tmp_path), "--compare.points", str(STEPS))
    fresh = Witness(plan).trained("recipe", 1)
    assert_same(lora.runs["recipe", 1], fresh)
    assert fresh.outcome["curve"]["step"] == list(range(STEPS + 1))
    rare = timeless(lora.runs["recipe", 1].outcome)
    often = timeless(fresh.outcome)
    differ = {key for key in rare if rare[key] != often[key]}
    assert differ == {"curve", "campus"}  # the score cache lies elsewhere
    places = [often["curve"]["step"].index(step) for step in rare["curve"]["step"]]
    assert [often["curve"]["loss"][place] for place in places] == rare["curve"]["loss"]


def test_what_is_in_the_file_is_what_was_given_back(lora: World) -> None:
    for (arm, seed), run in lora.runs.items():
        there = read_run_result(lora.out, arm, seed)
        assert there is not None
        assert there["status"] == "finished"
        assert timeless(there) == {"format": 1, **timeless(run.outcome)}


def test_arms_of_a_seed_share_what_they_must_and_seeds_differ_in_their_first_weights(lora: World) -> None:
    for seed in (0, 1):
        one, other = (lora.runs[arm, seed].outcome["shared"] for arm in ("recipe", "random"))
        assert one == other
    first, second = (lora.runs["recipe", seed].outcome["shared"] for seed in (0, 1))
    assert {key for key in first if first[key] != second[key]} == {"weights_before"}
    assert first["steps"] == STEPS
    assert first["global_batch"] == 8


def test_tokens_and_visits_are_those_of_the_plan(lora: World) -> None:
    for (arm, seed), run in lora.runs.items():
        events = read_ledger(lora.folder(arm, seed) / "curriculum" / "ledger.jsonl")
        decisions = [event for event in events if event["event"] == "decision"]
        assert run.outcome["tokens"] == sum(event["tokens"] for event in decisions)
        assert run.outcome["rows"] == ROWS
        with np.load(lora.folder(arm, seed) / "visits.npz") as visits:
            assert sorted(visits["rows"].tolist()) == list(range(ROWS))
            assert visits["steps"].tolist() == [step for step in range(STEPS) for _ in range(8)]
            logged = [line["learning_rate"] for line in run.history]
            np.testing.assert_allclose(visits["rates"], logged, rtol=1e-12)
        assert [choice["chosen"] for choice in run.outcome["choices"]] == [event["chosen"] for event in decisions]
        assert sum(choice["steps"] for choice in run.outcome["choices"]) == STEPS
        end = events[-1]
        assert run.outcome["audit"] == end["audit"] == {"checked": STEPS, "passed": STEPS, "labels": True}
        assert run.outcome["cost"] == end["cost"]


def test_an_arm_is_not_charged_for_values_which_decide_nothing(tmp_path: Path) -> None:
    write_rows(tmp_path / "probes.jsonl", [row for row in task_rows(150, seed=77) if row["domain"] == "text"])
    outcomes = []
    for name, asks in (("with", {"value": {"budget": 10}}), ("without", {})):
        block = {"metrics": ["length"], "stages": 2, "budget": 2.0, "probes": {"path": str(tmp_path / "probes.jsonl")}}
        recipe = tiny_recipe(tmp_path, campus={**block, **asks})
        outcomes.append(bench_of(recipe, tmp_path / name).make(Task("recipe", 0)))
    valued, plain = outcomes
    assert valued["cost"] == plain["cost"]
    assert timeless(valued)["curve"] == timeless(plain)["curve"]
    ledger = tmp_path / "with" / "runs" / "recipe" / "seed-0" / "curriculum" / "ledger.jsonl"
    assert next(line["cost"]["value"] for line in read_ledger(ledger) if line["event"] == "end") > 0


def test_random_costs_nothing_and_the_recipe_its_bill(lora: World) -> None:
    assert lora.runs["random", 0].outcome["cost"]["all"] == 0
    cost = lora.runs["recipe", 0].outcome["cost"]
    assert cost["all"] > 0
    assert cost["all"] == pytest.approx(sum(share for purpose, share in cost.items() if purpose != "all"))


def test_scores_found_in_the_cache_are_charged_as_if_they_were_measured(lora: World) -> None:
    first, second = (lora.runs["recipe", seed].outcome for seed in (0, 1))
    assert second["cost"]["scoring"] >= first["cost"]["scoring"] > 0
    if first["shared"]["data"] == second["shared"]["data"]:
        assert (lora.out / "scores").exists()


def test_the_curve_ends_in_the_end_losses_and_rises_in_tokens(lora: World) -> None:
    for run in lora.runs.values():
        curve, test = run.outcome["curve"], run.outcome["test"]
        assert curve["step"] == [0, 2, 4, 6]
        assert curve["tokens"][0] == 0
        assert curve["tokens"][-1] == run.outcome["tokens"]
        assert (np.diff(curve["tokens"]) > 0).all()
        assert (np.diff(curve["seconds"]) >= 0).all()
        assert curve["loss"][-1] == pytest.approx(sum(test["loss"]) / sum(test["tokens"]), rel=1e-9)
        losses, tokens, domain = (np.array(test[part]) for part in ("loss", "tokens", "domain"))
        for number, name in enumerate(test["domains"]):
            mean = losses[domain == number].sum() / tokens[domain == number].sum()
            assert curve["domains"][name][-1] == pytest.approx(mean, rel=1e-9)
        assert run.outcome["seconds"]["curve"] > 0


def test_all_runs_begin_at_the_loss_of_the_model_and_are_tested_on_the_same_items(lora: World) -> None:
    first = [run.outcome["curve"]["loss"][0] for run in lora.runs.values()]
    assert len(set(first)) == 1
    held = read_held_out([lora.recipe.parent / "test.jsonl"])
    names = [f"{domain} {number}" for domain, number in zip(held.domains, held.numbers, strict=True)]
    for run in lora.runs.values():
        assert run.outcome["test"]["items"] == names
        assert len(run.outcome["test"]["loss"]) == TESTS


def test_last_looks_are_taken_of_every_run(lora: World) -> None:
    for run in lora.runs.values():
        told, domains = run.outcome["calibration"], {row["domain"] for row in task_rows(PROBES, seed=77)}
        assert 0 <= told["error"] <= 1
        assert set(told["domains"]) == domains
        assert all(0 <= error <= 1 for error in told["domains"].values())
        sharp = run.outcome["sharpness"]
        assert (sharp["radius"], sharp["relative_radius"], sharp["rows"]) == (0.05, 0.5, TESTS)
        assert set(sharp["domains"]) == domains
        for one in (sharp, *sharp["domains"].values()):
            assert one["value"] > 0
            assert one["relative"] > 0
            assert one["merged"] > 0
        assert run.outcome["evaluation"] is None


def test_every_run_says_its_gap_on_the_same_training_rows(lora: World) -> None:
    of_runs = [run.outcome["gap"] for run in lora.runs.values()]
    assert len({json.dumps([gap["at_start"], gap["rows"]]) for gap in of_runs}) == 1  # every run trains all rows
    for gap, run in zip(of_runs, lora.runs.values(), strict=True):
        domains = run.outcome["test"]["domains"]
        assert set(gap.get("domains") or domains) <= set(domains)
        assert gap["value"] == pytest.approx(gap["test"] - gap["trained"])
        assert gap["grown"] == pytest.approx(gap["value"] - gap["at_start"])


def test_learning_rate_per_decile_is_that_of_a_slow_reference(lora: World) -> None:
    results = {key: result_of(lora.out, *key) for key in lora.runs}
    assert add_rates(lora.out, list(results.values())) == []
    for (arm, seed), result in results.items():
        found = result["learning_rate"]
        assert list(found) == ["length", "loss"]
        with np.load(lora.folder(arm, seed) / "visits.npz") as visits:
            rows, steps, rates = (visits[name].tolist() for name in ("rows", "steps", "rates"))
        for label, deciles in found.items():
            scores = read_columns(lora.folder("recipe", 0) / "curriculum" / "scores" / f"{label}.parquet")[0]["score"]
            met: list[list[float]] = [[] for _ in range(10)]
            place_of = _places(scores.tolist(), lora.bench.plan.settings.seeds[0])
            for row, step in zip(rows, steps, strict=True):
                met[place_of[row] * 10 // ROWS].append(rates[step])
            np.testing.assert_allclose(deciles, [sum(one) / len(one) for one in met], rtol=1e-12)


def test_the_run_itself_leaves_the_same_of_the_mean_rates_of_its_stages(lora: World) -> None:
    home = lora.folder("recipe", 0)
    stages = [event for event in read_ledger(home / "curriculum" / "ledger.jsonl") if event["event"] == "stage_end"]
    of_step = [next(stage["learning_rate"] for stage in stages if step < stage["step"]) for step in range(STEPS)]
    left = json.loads((home / "curriculum" / "learning_rate.json").read_text("utf-8"))
    assert list(left) == ["length", "loss"]
    with np.load(home / "visits.npz") as visits:
        rates = np.array(of_step)[visits["steps"]]
        for label, deciles in left.items():
            scores = read_columns(home / "curriculum" / "scores" / f"{label}.parquet")[0]["score"]
            place_of = _places(scores.tolist(), 0)
            tenth = np.array([place_of[row] * 10 // ROWS for row in visits["rows"].tolist()])
            np.testing.assert_allclose(deciles, [rates[tenth == k].mean() for k in range(10)], rtol=1e-12)


def _places(scores: list[float], seed: int) -> dict[int, int]:
    """Row → place from easy to hard, ties as every order of this seed breaks them."""
    from campus_tune.method.sorting import Ties

    keys = Ties(seed).in_part(slice(0, len(scores)))
    ordered = sorted(range(len(scores)), key=lambda row: (scores[row], int(keys[row])))
    return {row: place for place, row in enumerate(ordered)}


def test_a_decile_that_a_run_never_met_has_no_rate(lora: World, tmp_path: Path) -> None:
    results = []
    for arm in ("recipe", "random"):
        home = tmp_path / "runs" / arm / "seed-0"
        (home / "curriculum").mkdir(parents=True)
        (home / "curriculum" / "scores").symlink_to(lora.folder("recipe", 0) / "curriculum" / "scores")
        results.append(dict(lora.runs[arm, 0].outcome))
    scores = read_columns(lora.folder("recipe", 0) / "curriculum" / "scores" / "loss.parquet")[0]["score"]
    easiest = np.argsort(scores, kind="stable")[:4]  # of 48 rows: less than a decile
    np.savez(tmp_path / "runs" / "recipe" / "seed-0" / "visits.npz", rows=easiest, steps=[0, 0, 1, 1], rates=[2.0, 4.0])
    assert add_rates(tmp_path, results) == []
    np.testing.assert_array_equal(results[0]["learning_rate"]["loss"], [3.0] + [np.nan] * 9)
    assert "learning_rate" not in results[1]  # came without its visits


def test_what_a_version_before_wrote_stays_and_what_is_damaged_is_told(lora: World, tmp_path: Path) -> None:
    home = tmp_path / "runs" / "recipe" / "seed-0"
    home.mkdir(parents=True)
    (home / "visits.npz").write_bytes(b"half")
    old, new = ({**lora.runs["recipe", 0].outcome, **more} for more in ({"learning_rate": {"loss": [1.0] * 10}}, {}))
    [sentence] = add_rates(tmp_path, [old, new])
    assert "visits.npz` is damaged" in sentence
    assert (old["learning_rate"], "learning_rate" in new) == ({"loss": [1.0] * 10}, False)


def test_a_model_that_diverges_is_a_result_and_spoils_no_other_run(lora: World, tmp_path: Path) -> None:
    recipe = tiny_recipe(lora.recipe.parent / "full", lora=False)
    bench = Witness(plan_of(recipe, "--out", str(tmp_path), "--learning_rate", "1e12"))
    outcome = bench.make(Task("recipe", 0))
    assert outcome["status"] == "diverged"
    assert "The model has diverged" in outcome["message"]
    assert all(np.isfinite(outcome["curve"]["loss"]))
    there = result_of(tmp_path, "recipe", 0)
    assert there["calibration"] is None
    assert there["audit"] is None
    assert 0 < there["tokens"] <= lora.runs["recipe", 0].outcome["tokens"]
    for weight in bench._prepared.model.state_dict().values():
        assert torch.isfinite(weight).all()


def test_more_steps_make_the_arm_with_more_compute(lora: World, tmp_path: Path) -> None:
    plan = plan_of(lora.recipe, "--out", str(tmp_path), "--random-plus")
    outcome = Witness(plan).make(Task("random_plus", 0, max_steps=8))
    base = lora.runs["random", 0].outcome
    assert outcome["shared"]["steps"] == 8
    differ = {key for key, value in outcome["shared"].items() if value != base["shared"][key]}
    assert differ == {"steps", "learning_rates"}
    assert outcome["tokens"] > base["tokens"]
    assert outcome["kind"] == "plus"


def test_the_log_of_a_run_is_its_own(lora: World) -> None:
    for arm, seed in lora.runs:
        log = (lora.folder(arm, seed) / "log.txt").read_text()
        assert "order audit: all 6 steps" in log
        assert "Logging error" not in log


def test_tasks_on_the_way_are_left_to_single_runs(lora: World) -> None:
    recipe = yaml.safe_load((lora.folder("recipe", 0) / "curriculum" / "recipe.yaml").read_text())
    assert recipe["campus"]["evaluate"] is None


@pytest.mark.slow
def test_official_tasks_are_asked_once_at_the_end_of_every_run(lora: World, tmp_path: Path) -> None:
    asked = {"suite": "smoke", "tasks": ["arc_easy"], "limit": 3, "data": str(write_sets(tmp_path / "data"))}
    bench = Witness(plan_of(lora.recipe, "--out", str(tmp_path / "out"), "--compare.evaluate", yaml.safe_dump(asked)))
    runs = {(arm, seed): bench.trained(arm, seed) for arm, seed in (("random", 1), ("recipe", 1))}
    for key, run in runs.items():
        assert_same(run, lora.runs[key])
        assert list(run.outcome["evaluation"]) == ["arc_easy"]
        values = run.outcome["evaluation"]["arc_easy"]["acc,none"]
        assert len(values) == 3
        assert all(name.startswith("arc_easy/") and value in (0, 1) for name, value in values.items())
        folder = tmp_path / "out" / "runs" / key[0] / f"seed-{key[1]}" / "evaluation"
        assert [path.name for path in folder.iterdir()] == ["end.json"]
    arm = arm_of([runs["recipe", 1].outcome])
    assert arm.tasks["arc_easy: acc,none"].values.shape == (1, 3)
