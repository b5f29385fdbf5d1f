"""A comparison of runs that are trained by reward: the runs that `campus-tune grpo` makes, judged on test prompts."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from campus_tune.cli import by_reward
from campus_tune.cli.main import main
from campus_tune.compare.reading import plan_comparison
from campus_tune.compare.reward_training import RewardBench, make_bench
from campus_tune.compare.task import Task
from campus_tune.compare.training import Bench
from campus_tune.read.compared import ComparisonResult, open_comparison, run_comparison
from campus_tune.recipe.trl_yaml import RLOO
from campus_tune.words.errors import DataError, RecipeError
from campus_tune.words.types import Json
from tests.compare.reward_recipe import REWARD, STEPS, TESTS, reward_recipe
from tests.compare.tiny_compare import plan_of, result_of, write_rows
from tests.run.prompts.tiny_prompts import prompts
from tests.run.tiny_run import weights_of

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # what trl and transformers say to each other


@dataclass
class World:
    """A comparison that was made."""

    recipe: Path
    result: ComparisonResult

    @property
    def out(self) -> Path:
        return self.result.folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two arms, two seeds, one process."""
    recipe = reward_recipe(tmp_path_factory.mktemp("rewards"))
    return World(recipe, run_comparison(recipe, quiet=True))


class Witness(RewardBench):
    """A bench that keeps the weights of its last run."""

    def _last_looks(self, trainer: Any, folder: Path) -> Json:
        self.weights = weights_of(trainer)
        return super()._last_looks(trainer, folder)


# -- the runs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trainer", ["grpo", "rloo"])
def test_a_run_is_that_of_the_command_bit_for_bit_however_often_it_is_looked_at(
    trainer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = reward_recipe(tmp_path, compare={"trainer": trainer, "samples": 1})
    monkeypatch.setattr("campus_tune.report.callback.report_on", lambda _: None)
    found: list[Any] = []
    train = by_reward.train
    monkeypatch.setattr(by_reward, "train", lambda *parts: found.append(train(*parts)))
    by_reward.train_by_reward(
        trainer, ["--config", str(recipe), "--seed", "1", "--output_dir", str(tmp_path / "alone")]
    )
    bench = Witness(plan_of(recipe))
    bench.make(Task("random", 0))  # the second run has what the first has loaded
    outcome = bench.make(Task("recipe", 1))
    alone = weights_of(found[0])
    assert alone.keys() == bench.weights.keys()
    assert all(torch.equal(weight, bench.weights[name]) for name, weight in alone.items())
    assert outcome["shared"]["steps"] == STEPS


def test_a_result_says_what_was_measured(world: World) -> None:
    for arm in ("recipe", "random"):
        result = result_of(world.out, arm, 1)
        assert result["measure"] == "reward"
        assert len(result["test"]["reward"]) == TESTS
        assert set(result["test"]["by_function"]) == {"passes"}
        curve = result["curve"]
        assert curve["step"] == [0, 2, 4, 6]
        assert np.allclose(np.mean(result["test"]["reward"]), curve["reward"][-1])
        assert curve["tokens"][0] == 0
        assert result["tokens"] == curve["tokens"][-1]
        assert 0 < result["tokens"] <= STEPS * 8 * 2  # eight answers a step, two tokens at most
        assert result["rows"] == STEPS * 2
        assert result["audit"]["checked"] == result["audit"]["passed"] == STEPS
        assert 0 <= result["groups"]["without_gradient"] <= 1


def test_arms_of_a_seed_share_what_they_must(world: World) -> None:
    one, other = (result_of(world.out, arm, 0)["shared"] for arm in ("recipe", "random"))
    assert one == other
    assert one["rewards"] == ["passes"]


def test_several_steps_of_one_generation_are_one_point_of_the_curve(tmp_path: Path) -> None:
    recipe = reward_recipe(tmp_path, compare={"points": STEPS, "seeds": 1}, steps_per_generation=2)
    curve = make_bench(plan_of(recipe)).make(Task("random", 0))["curve"]
    assert curve["step"] == [0, 2, 4, 6]
    assert (np.diff(curve["tokens"]) > 0).all()
    assert len(curve["domains"]["a"]) == 4


# -- the verdict -------------------------------------------------------------------------------------------------------


def test_the_verdict_is_about_rewards(world: World) -> None:
    verdict = world.result.verdict
    assert verdict is not None
    assert verdict.measure == "reward"
    judged = verdict.judgements["recipe"]
    assert judged.measure == "reward"
    assert judged.refused is None or "same in every seed" in judged.refused
    assert verdict.equal["recipe"].difference.n_seeds == 2
    stored = json.loads((world.out / "verdict.json").read_text("utf-8"))
    assert stored["equal"]["recipe"]["sentence"] in world.result.sentences


def test_tables_and_page_say_reward_and_not_loss(world: World) -> None:
    result = open_comparison(world.out)
    assert "reward" in result.table.columns
    assert "loss" not in result.table.columns
    assert {"reward", "tokens"} <= set(result.runs.columns) & set(result.curves.columns)
    assert "final reward" in str(result)
    assert "test prompts" in str(result)
    page = (world.out / "report.html").read_text("utf-8")
    for said in ("final reward", "generated tokens", "Test prompts", "groups without a gradient"):
        assert said in page, said
    assert "final loss" not in page
    assert "nats per token" not in page


def test_the_same_call_makes_nothing_again(world: World) -> None:
    before = {path: path.stat().st_mtime_ns for path in world.out.rglob("result.json")}
    run_comparison(world.recipe, quiet=True)
    assert {path: path.stat().st_mtime_ns for path in world.out.rglob("result.json")} == before


def test_answers_are_taken_alike_in_all_of_a_folder(world: World) -> None:
    with pytest.raises(RecipeError, match=r"begun with other settings: samples 0 there and 2 now"):
        run_comparison(world.recipe, flags=["--compare.samples", "2"], quiet=True)


def test_processes_of_their_own_find_rewards_of_the_present_folder(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_rewards.py").write_text(
        "def passes(completion_ids, cut, **_):\n"
        "    pairs = zip(completion_ids, cut)\n"
        "    return [float((ids[0] * 197 + below * 31) % 512 < below) if ids else 0.0 for ids, below in pairs]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    flags = ["--reward_funcs", "my_rewards.passes"]
    made = run_comparison(world.recipe, out=tmp_path / "two", jobs=2, seeds=1, flags=flags, quiet=True)
    for arm in ("recipe", "random"):
        here, there = (result_of(out, arm, 0) for out in (world.out, made.folder))
        assert here["test"] == there["test"]


# -- what is refused ---------------------------------------------------------------------------------------------------


def refusal(tmp_path: Path, *flags: str, **given: Any) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        plan_of(reward_recipe(tmp_path, **given), *flags)
    return caught.value


def test_what_only_answers_of_the_rows_can_say_is_refused_all_at_once(tmp_path: Path) -> None:
    said = str(refusal(tmp_path, compare={"sharpness": True, "proxy": "proxy", "evaluate": {"suite": "campus"}}))
    assert "`compare: sharpness` must be left out of a recipe that is trained by reward, got True" in said
    assert "`compare: proxy` must be left out of a recipe that is trained by reward, got proxy" in said
    assert "`compare: evaluate` must be left out of a recipe that is trained by reward" in said


def test_a_reward_that_is_not_there_is_told_before_a_run_is_made(tmp_path: Path) -> None:
    assert "Did you mean 'accuracy_reward'?" in str(refusal(tmp_path, reward_funcs=["accuracy_rewrd"]))


def test_an_arm_that_goes_by_losses_is_named(tmp_path: Path) -> None:
    said = str(refusal(tmp_path, compare={"arms": {"recipe": {}, "random": {}, "heavy": {"weights": ["focal"]}}}))
    assert "arm 'heavy': `weights` must be left out where a model is trained by reward" in said


def test_settings_of_rewards_are_refused_where_rows_have_answers(tmp_path: Path) -> None:
    given = {"compare": {"samples": 4}, "reward_funcs": None, "num_generations": None, "max_completion_length": None}
    assert "`compare: samples` must go with `reward_funcs`" in str(refusal(tmp_path, **given, beta=None))


@pytest.mark.parametrize("command", ["search", "ablate"])
def test_other_commands_of_many_runs_send_to_compare(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = reward_recipe(tmp_path)
    written = yaml.safe_load(recipe.read_text())
    recipe.write_text(yaml.safe_dump({**written, "search": {"space": {"stages": [2, 4]}, "rows": "test.jsonl"}}))
    assert main([command, "--config", str(recipe)]) == 2
    assert "that is trained by reward (`reward_funcs`). Compare such recipes:" in capsys.readouterr().err


def test_a_training_prompt_cannot_be_a_test_prompt(tmp_path: Path) -> None:
    recipe = reward_recipe(tmp_path)
    write_rows(tmp_path / "test.jsonl", prompts(31 + 1))
    with pytest.raises(DataError, match=r"test rows must be held out of the training set, got 32 that are in"):
        make_bench(plan_of(recipe)).deciding_rows()


def test_few_prompts_decide_nothing(tmp_path: Path) -> None:
    recipe = reward_recipe(tmp_path)
    write_rows(tmp_path / "test.jsonl", [{**row, "prompt": f"quiz {row['prompt']}"} for row in prompts(8)])
    with pytest.raises(DataError, match=r"must have at least 30 prompts, got 8: their reward says nothing"):
        make_bench(plan_of(recipe)).deciding_rows()


# -- which trainer -----------------------------------------------------------------------------------------------------


def test_the_trainer_is_that_of_the_yaml(tmp_path: Path) -> None:
    recipe = reward_recipe(tmp_path)
    assert plan_of(recipe).trainer == "grpo"
    assert plan_of(recipe, "--compare.trainer", RLOO).trainer == RLOO
    assert plan_of(reward_recipe(tmp_path, normalize_advantages=True)).trainer == RLOO
    assert type(make_bench(plan_of(recipe))) is RewardBench


def test_rewards_may_be_named_by_a_flag(tmp_path: Path) -> None:
    recipe = reward_recipe(tmp_path, reward_funcs=None)
    assert plan_of(recipe, "--reward_funcs", REWARD).by_reward


def test_an_sft_recipe_has_the_bench_it_had(tmp_path: Path) -> None:
    from tests.compare.tiny_compare import tiny_recipe

    assert type(make_bench(plan_of(tiny_recipe(tmp_path)))) is Bench


def test_default_arms_have_no_control_of_weights_that_are_not_there(tmp_path: Path) -> None:
    recipe = reward_recipe(tmp_path, compare={"arms": None})
    names = [arm.name for arm in plan_comparison(str(recipe), [], {}, out=None).arms]
    assert names == ["random", "recipe", "random_same_pacing", "reversed"]
    thin = {"metrics": [], "thin": {"how": "top", "by": "middle", "keep": 0.5}, "passes": {"at": 0.5}}
    arms = plan_comparison(str(reward_recipe(tmp_path, compare={"arms": None}, campus=thin)), [], {}, out=None).arms
    assert [arm.name for arm in arms] == ["random", "recipe", "shuffled_scores"]
    assert arms[0].campus["passes"] == {"at": 0.5}
    for block in ({}, {"selector": "shuffle"}):  # nothing is ordered, so nothing is there to turn around
        arms = plan_comparison(
            str(reward_recipe(tmp_path, compare={"arms": None}, campus=block)), [], {}, out=None
        ).arms
        assert [arm.name for arm in arms] == ["random", "recipe"]
