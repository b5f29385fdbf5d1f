"""`campus-tune grpo` and `rloo`: TRL's own YAML, our block, our messages; and `check` of such a recipe."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from campus_tune.cli.completion import prepare
from campus_tune.cli.main import in_full, is_misspelt, main, make_parser
from campus_tune.preview.check import check
from campus_tune.preview.simulate import simulate
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.trl_yaml import parse_trl, trainer_asked, trl_schema
from campus_tune.run.ledger import read_ledger
from campus_tune.words.types import Json
from tests.compare.reward_recipe import REWARD, STEPS, reward_recipe
from tests.compare.tiny_compare import write_rows
from tests.report.made_up_prompts import make_prompt_run
from tests.run.prompts.tiny_prompts import prompts

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # what trl and transformers say to each other
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command; its exit code and what it said."""
    monkeypatch.setattr("campus_tune.report.callback.report_on", lambda _: None)  # drawing takes longer than these runs

    def typed(*words: str) -> tuple[int, str]:
        code = main(list(words))
        said = capsys.readouterr()
        return code, said.out + said.err

    return typed


# -- the commands ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trainer", ["grpo", "rloo"])
def test_a_yaml_trains_and_leaves_a_model_and_a_ledger(trainer: str, tmp_path: Path, run: Run) -> None:
    recipe = reward_recipe(tmp_path)
    code, said = run(trainer, str(recipe), "--out", str(tmp_path / "out"), "--campus.stages", "3")
    assert code == 0, said
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
    events = read_ledger(tmp_path / "out" / "curriculum" / "ledger.jsonl")
    assert events[0]["task"] == "prompts"
    assert [event["event"] for event in events].count("decision") > 1
    assert events[-1]["audit"]["passed"] == STEPS


def test_without_a_block_it_trains_as_trl_does(tmp_path: Path, run: Run) -> None:
    written = yaml.safe_load(reward_recipe(tmp_path).read_text())
    recipe = tmp_path / "plain.yaml"
    recipe.write_text(yaml.safe_dump({key: value for key, value in written.items() if key != "campus"}))
    assert run("grpo", str(recipe), "--max_steps", "1", "--out", str(tmp_path / "out"))[0] == 0
    assert not (tmp_path / "out" / "curriculum").exists()


def test_everything_wrong_is_told_at_once_before_a_model_is_loaded(tmp_path: Path, run: Run) -> None:
    recipe = reward_recipe(tmp_path, model_name_or_path="no/such", reward_funcs=["is_right"], num_generation=4)
    code, said = run("grpo", str(recipe), "--campus.stages", "0", "--num_generations", "1")
    assert code == 2
    for part in (
        "`stages` must be",
        "`num_generation` must be a field of TRL's grpo YAML or `campus`, got an unknown key. Did you mean",
        "`num_generations` must be",
        "`reward_funcs` must be of TRL's (accuracy_reward",
    ):
        assert part in said


def test_a_recipe_must_be_named_and_have_rewards(tmp_path: Path, run: Run) -> None:
    assert "`rloo` must be given a recipe, got none. Write: campus-tune rloo recipe.yaml" in run("rloo")[1]
    recipe = reward_recipe(tmp_path, reward_funcs=None, model_name_or_path=None)
    said = run("grpo", str(recipe))[1]
    assert "`reward_funcs` must name a reward, got none" in said
    assert "`model_name_or_path` must be a model folder or a hub id" in said


def test_sft_says_which_command_takes_it(tmp_path: Path, run: Run) -> None:
    said = run("sft", str(reward_recipe(tmp_path)))[1]
    assert "`reward_funcs` must be a field of TRL's sft YAML" in said
    assert said.count("It is of training by reward: campus-tune grpo, or rloo.") == said.count("an unknown key") > 1
    back = run("grpo", str(reward_recipe(tmp_path, max_length=64)))[1]
    assert "`max_length` must be a field of TRL's grpo YAML or `campus`, got an unknown key. It is of" in back


def test_what_the_trainer_would_refuse_is_told_before_a_model_is_loaded(tmp_path: Path, run: Run) -> None:
    sizes = {"steps_per_generation": 2, "gradient_accumulation_steps": 3}
    block = {"metrics": ["length"], "weights": ["focal"]}
    said = run("rloo", str(reward_recipe(tmp_path, model_name_or_path="no/such", campus=block, **sizes)))[1]
    assert "`weights` must be left out where a model is trained by reward" in said
    assert "a generation and an optimizer step must divide one another" in said


@pytest.mark.parametrize("field", ["epsilon", "delta", "scale_rewards", "max_length"])
def test_a_field_of_any_trainer_is_no_misspelt_flag_of_compare(field: str) -> None:
    compare = make_parser(["compare"]).parse_known_args(["compare", "--config", "recipe.yaml"])[0].parser
    assert not is_misspelt(f"--{field}", compare)
    assert is_misspelt("--devics", compare)


def test_a_run_by_reward_has_neither_suspects_nor_values(tmp_path: Path, run: Run) -> None:
    of_prompts = str(make_prompt_run(tmp_path / "run"))
    code, said = run("suspects", of_prompts)
    assert code == 2
    assert "got one by reward, whose rows have none that could be wrong" in said
    code, said = run("value", of_prompts)
    assert code == 2
    assert f"campus_tune.open_run('{of_prompts}').prompts" in said


@pytest.mark.parametrize(
    ("sizes", "steps", "prompts"),
    [
        ({}, 4, 2),  # one generation of 8 answers, 4 to each prompt, in each of 4 steps
        ({"steps_per_generation": 4, "gradient_accumulation_steps": 2}, 2, 8),
        ({"generation_batch_size": 16, "num_iterations": 2, "gradient_accumulation_steps": 8}, 4, 8),
        ({"steps_per_generation": 1, "gradient_accumulation_steps": 2, "max_steps": -1, "num_train_epochs": 2}, 20, 4),
    ],
)
def test_simulate_counts_rounds_of_prompts(sizes: Json, steps: int, prompts: int, tmp_path: Path, run: Run) -> None:
    asked = {"per_device_train_batch_size": 8, "num_generations": 4, "max_steps": 4, "campus": {"selector": "shuffle"}}
    recipe = reward_recipe(tmp_path, **{**asked, **sizes})
    said = run("simulate", "--config", str(recipe), "--rows", "40")[1]
    assert f"{steps} steps of {prompts} rows" in said
    assert f"a step here is a round, of {prompts} prompts with 4 answers each" in said


def test_simulate_refuses_a_generation_that_holds_no_whole_prompts(tmp_path: Path, run: Run) -> None:
    recipe = reward_recipe(tmp_path, per_device_train_batch_size=8, num_generations=3)
    said = run("simulate", "--config", str(recipe))[1]
    assert "`num_generations` must divide the 8 answers of a generation, got 3. Change it" in said


def test_rows_are_looked_at_before_the_model(tmp_path: Path, run: Run) -> None:
    recipe = reward_recipe(tmp_path, model_name_or_path="no/such", campus={})
    written = yaml.safe_load(recipe.read_text())
    recipe.write_text(yaml.safe_dump({key: value for key, value in written.items() if key != "campus"}))
    write_rows(tmp_path / "train.jsonl", [{"question": "2 + 3"}] * 40)
    assert "row 0 must have its prompt in the column 'prompt', got the columns question" in run("grpo", str(recipe))[1]
    write_rows(tmp_path / "train.jsonl", [{"prompt": row["prompt"]} for row in prompts(32)])
    assert "`reward_funcs: passes` must find the column 'cut' in the rows" in run("grpo", str(recipe))[1]
    write_rows(tmp_path / "train.jsonl", [])
    assert "must" in run("grpo", str(recipe))[1]


def test_words_are_those_of_sft() -> None:
    assert in_full(["grpo", "a.yaml", "--model", "m"]) == ["grpo", "--config", "a.yaml", "--model_name_or_path", "m"]
    parser = make_parser(["rloo"])
    typed: Any = next(iter(parser._subparsers._group_actions))  # type: ignore[union-attr]  # argparse gives no other way
    prepare(typed.choices["rloo"], "rloo", flag="--num_gen")
    assert "--num_generations" in typed.choices["rloo"]._option_string_actions


def test_help_says_how_rewards_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["grpo", "--help"])
    assert "my_rewards.is_right" in capsys.readouterr().out


def test_explain_names_the_command_that_takes_a_field(run: Run) -> None:
    assert "campus-tune grpo --config recipe.yaml --num_generations" in run("explain", "num_generations")[1]
    assert "campus-tune rloo --config recipe.yaml --normalize_advantages" in run("explain", "normalize_advantages")[1]
    assert "campus-tune sft --config recipe.yaml --max_length" in run("explain", "max_length")[1]


# -- the trainer that a YAML is for ------------------------------------------------------------------------------------


def test_a_yaml_is_for_the_trainer_whose_fields_it_has() -> None:
    rewards = {"reward_funcs": ["accuracy_reward"]}
    assert trainer_asked({}) == "sft"
    assert trainer_asked(rewards) == "grpo"
    assert trainer_asked({"reward_model_name_or_path": "judge"}) == "grpo"
    assert trainer_asked({**rewards, "scale_rewards": "none", "compare": {"trainer": "rloo"}}) == "rloo"


def test_an_editor_knows_the_fields_of_all_three() -> None:
    schema = trl_schema()
    assert {"max_length", "num_generations", "reward_funcs", "normalize_advantages", "scale_rewards"} <= schema.keys()
    assert "Reward functions to use" in schema["reward_funcs"]["description"]


@pytest.mark.parametrize(
    ("setting", "value"), [("num_generations", 1), ("temperature", 0), ("beta", -1), ("max_completion_length", 0)]
)
def test_numbers_of_rewards_have_bounds(setting: str, value: float, tmp_path: Path) -> None:
    wrong = {"output_dir": str(tmp_path), "reward_funcs": [REWARD], "bf16": False, "use_cpu": True, setting: value}
    try:
        problems = parse_trl(wrong, [], trainer="grpo")[1]
    except Exception as error:  # TRL looks at some of them too
        problems = [str(error)]
    assert any(f"`{setting}` must be" in problem for problem in problems)


# -- check and simulate ------------------------------------------------------------------------------------------------


def said_by_check(recipe: Path) -> str:
    return "\n".join(map(str, check(str(recipe))))


def test_check_counts_prompts_and_rounds(tmp_path: Path) -> None:
    said = said_by_check(reward_recipe(tmp_path, steps_per_generation=4, gradient_accumulation_steps=2))
    assert "32 prompts, with the columns prompt, cut, level, domain." in said
    assert "domains: a (16), b (16)." in said
    assert (
        "A generation is 8 prompts with 4 answers each, a round is one generation, trained in 2 optimizer steps" in said
    )
    assert "6 steps draw 24 prompts, 0.75 for each that is there." in said
    assert "error" not in said


def test_check_says_of_several_generations_in_a_step(tmp_path: Path) -> None:
    said = said_by_check(reward_recipe(tmp_path, steps_per_generation=1, gradient_accumulation_steps=2))
    assert "a round is 2 generations in one optimizer step" in said


def test_check_names_what_a_run_would_refuse(tmp_path: Path) -> None:
    block = {"metrics": ["length"], "weights": ["focal"]}
    said = said_by_check(reward_recipe(tmp_path, campus=block, reward_funcs=["is_right"]))
    assert "`weights` must be left out where a model is trained by reward" in said
    assert "`reward_funcs` must be of TRL's" in said
    cut = said_by_check(reward_recipe(tmp_path, steps_per_generation=2, gradient_accumulation_steps=3))
    assert "a generation and an optimizer step must divide one another" in cut
    few = said_by_check(reward_recipe(tmp_path, steps_per_generation=32))
    assert "32 prompts are fewer than the 64 that one round of generations takes. Add prompts" in few


def test_check_looks_at_the_prompts(tmp_path: Path) -> None:
    recipe = reward_recipe(tmp_path)
    write_rows(tmp_path / "train.jsonl", [*prompts(32), *prompts(2)])
    assert "2 of 34 prompts repeat another" in said_by_check(recipe)
    write_rows(tmp_path / "train.jsonl", [{"prompt": row["prompt"]} for row in prompts(32)])
    assert "`reward_funcs: passes` must find the column 'cut' in the rows, got prompt" in said_by_check(recipe)
    write_rows(tmp_path / "train.jsonl", [{"question": "2 + 3"}])
    assert "must have its prompt in the column 'prompt'" in said_by_check(recipe)
    (tmp_path / "train.jsonl").write_text("\n")
    assert "must" in said_by_check(recipe)
    here = reward_recipe(tmp_path, campus={"metrics": ["length"], "within": "topic"})
    assert "`within` must be a column of the training set (prompt, cut, level, domain), got 'topic'" in said_by_check(
        here
    )


@pytest.mark.parametrize("metric", [{"name": "column", "column": "levl"}, {"name": "column", "column": "domain"}])
def test_check_reads_the_columns_that_prompts_are_ordered_by(metric: Json, tmp_path: Path) -> None:
    said = said_by_check(reward_recipe(tmp_path, campus={"metrics": [metric]}))
    assert "error: " in said
    assert metric["column"] in said
    assert "error" not in said_by_check(reward_recipe(tmp_path, campus={"metrics": [{**metric, "column": "level"}]}))


def test_a_single_reward_needs_no_brackets_and_weights_are_as_many_as_rewards(tmp_path: Path, run: Run) -> None:
    assert "error" not in said_by_check(reward_recipe(tmp_path, reward_funcs=REWARD))
    recipe = reward_recipe(tmp_path, reward_funcs=REWARD, reward_weights=[1.0, 0.5], model_name_or_path="no/such")
    wanted = "`reward_weights` must have one number for each of 1 rewards, got 2. Write as many"
    assert wanted in said_by_check(reward_recipe(tmp_path, reward_funcs=REWARD, reward_weights=[1.0, 0.5]))
    assert wanted in run("grpo", str(recipe))[1]


def test_check_looks_for_the_column_of_reference_answers(tmp_path: Path) -> None:
    said = said_by_check(reward_recipe(tmp_path, campus={"metrics": [], "passes": {"answer": "levl"}}))
    assert "`passes: answer` must be a column of the training set (prompt, cut, level, domain), got 'levl'" in said
    assert "error" not in said_by_check(reward_recipe(tmp_path, campus={"metrics": [], "passes": {"answer": "level"}}))


def test_the_recipe_of_the_middle_is_simulated_with_made_up_rewards() -> None:
    block = {"metrics": [], "thin": {"how": "top", "by": "middle", "keep": 0.5}, "stages": 10}
    plan = simulate(CampusConfig.from_mapping(block), n_rows=200, global_batch=8, epochs=3)
    assert plan.visits == 600
    shuffled = simulate(CampusConfig.from_mapping({"selector": "shuffle"}), n_rows=200, global_batch=8, epochs=3)
    assert plan.seen <= shuffled.seen == 200
    again = simulate(CampusConfig.from_mapping(block), n_rows=200, global_batch=8, epochs=3)
    assert json.dumps(plan.drawn, default=str) == json.dumps(again.drawn, default=str)
