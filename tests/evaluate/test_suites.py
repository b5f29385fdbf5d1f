from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from campus_tune.evaluate.suites import Seeds, Suite, TaskSetting, load_suite, shipped_suites
from campus_tune.words.errors import RecipeError

MMLU = TaskSetting("mmlu", ("acc,none",))


def from_text(folder: Path, text: str) -> Suite:
    path = folder / "mine.yaml"
    path.write_text(text)
    return load_suite(path)


@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("campus", ["minerva_math", "mbpp", "mmlu"]),
        ("campus_wide", ["minerva_math", "gsm8k", "mbpp", "humaneval", "mmlu", "arc_easy", "arc_challenge"]),
        ("smoke", ["minerva_math", "gsm8k", "mbpp", "humaneval", "mmlu", "arc_easy", "arc_challenge"]),
    ],
)
def test_the_shipped_suites_have_these_tasks(name: str, tasks: list[str]) -> None:
    assert [setting.task for setting in load_suite(name).tasks] == tasks


def test_three_suites_are_shipped() -> None:
    assert shipped_suites() == ["campus", "campus_wide", "smoke"]


def test_what_decides_a_score_is_the_same_in_campus_and_campus_wide() -> None:
    wide = load_suite("campus_wide")
    assert all(setting == wide.task(setting.task) for setting in load_suite("campus").tasks)


def test_math_is_not_cut_and_reported_by_the_metric_that_a_gold_solution_passes() -> None:
    math = load_suite("campus").task("minerva_math")
    assert (math.max_gen_toks, math.metrics) == (1024, ("math_verify,none",))


def test_only_code_tasks_run_code() -> None:
    assert {s.task for s in load_suite("campus_wide").tasks if s.runs_code} == {"mbpp", "humaneval"}


def test_every_task_of_smoke_is_limited_and_no_task_of_the_others() -> None:
    assert all(setting.limit for setting in load_suite("smoke").tasks)
    assert not any(setting.limit for name in ("campus", "campus_wide") for setting in load_suite(name).tasks)


def test_the_record_has_all_settings_and_is_json() -> None:
    record = load_suite("campus").record()
    assert json.loads(json.dumps(record)) == record
    assert record["tasks"]["minerva_math"] == {
        "metrics": ["math_verify,none"],
        "few_shot": None,
        "max_gen_toks": 1024,
        "limit": None,
        "runs_code": False,
    }
    assert {key: value for key, value in record.items() if key != "tasks"} == {
        "name": "campus",
        "apply_chat_template": False,
        "fewshot_as_multiturn": True,
        "system_instruction": None,
        "seeds": {"fewshot": 1234, "random": 0, "numpy": 1234, "torch": 1234},
        "batch_size": "auto",
    }


def test_a_record_reads_back_as_the_suite() -> None:
    suite = load_suite("smoke")
    record = suite.record()
    assert Suite.from_mapping(record, name=record.pop("name")) == suite


def test_a_file_of_ones_own_sets_everything(tmp_path: Path) -> None:
    suite = from_text(
        tmp_path,
        'tasks: {mmlu: {metrics: ["acc,none"], few_shot: 5, limit: 3}}\napply_chat_template: default\n'
        "fewshot_as_multiturn: false\nsystem_instruction: Be brief.\nseeds: {fewshot: 7}\nbatch_size: 8\n",
    )
    assert suite == Suite(
        "mine",
        (replace(MMLU, few_shot=5, limit=3),),
        apply_chat_template="default",
        fewshot_as_multiturn=False,
        system_instruction="Be brief.",
        seeds=Seeds(fewshot=7),
        batch_size=8,
    )


def test_a_suite_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        load_suite("campus").batch_size = 3  # type: ignore[misc]  # the point


def test_a_misspelt_suite_is_answered_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"one of campus, campus_wide, smoke or a YAML file, got 'campsu'.*'campus'"):
        load_suite("campsu")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"mine\.yaml. must be a readable YAML file"):
        load_suite(tmp_path / "mine.yaml")


def test_a_misspelt_task_of_a_suite_is_answered_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"one of campus's minerva_math, mbpp, mmlu, got 'mbp'\. Did you mean 'mbpp'"):
        load_suite("campus").task("mbp")


def test_all_problems_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        from_text(
            tmp_path,
            "tasks:\n  mmlu: {metrics: [acc], few_shots: 5, limit: 0, runs_code: maybe}\n  gsm8k: 3\n"
            "seeds: {fewshot: -1, nump: 3}\nbatch: 8\nbatch_size: all\napply_chat_template: 1\n"
            "fewshot_as_multiturn: 1\nsystem_instruction: 3\n",
        )
    assert [problem.split("`")[1] for problem in caught.value.problems] == [
        "suite",
        "tasks: mmlu",
        "tasks: mmlu: metrics",
        "tasks: mmlu: limit",
        "tasks: mmlu: runs_code",
        "tasks: gsm8k",
        "apply_chat_template",
        "fewshot_as_multiturn",
        "system_instruction",
        "seeds",
        "seeds: fewshot",
        "batch_size",
    ]
    assert "got 'few_shots'. Did you mean 'few_shot'?" in str(caught.value)
    assert "got 'nump'. Did you mean 'numpy'?" in str(caught.value)


@pytest.mark.parametrize("text", ["tasks: []\n", "tasks: {}\n", "batch_size: 2\n"])
def test_a_suite_without_tasks_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeError, match="`tasks` must be a mapping from lm-eval's task names"):
        from_text(tmp_path, text)


def test_seeds_are_a_mapping_of_whole_numbers(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="`seeds` must be a mapping of fewshot, random, numpy, torch, got 3"):
        from_text(tmp_path, 'tasks: {mmlu: {metrics: ["acc,none"]}}\nseeds: 3\n')
    with pytest.raises(RecipeError, match="`seeds: torch` must be a whole number of at least 0"):
        Seeds(torch=-1)


def test_a_suite_made_in_code_has_tasks_and_none_twice() -> None:
    with pytest.raises(RecipeError, match="at least one task, got none"):
        Suite("mine", ())
    with pytest.raises(RecipeError, match="each task once, got mmlu twice"):
        Suite("mine", (MMLU, MMLU))
