"""What is built is lm-eval's own, whatever feeds it: compared with the harness itself on the same rows."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import process_time
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("lm_eval")
pytest.importorskip("math_verify")

import datasets
import lm_eval
from lm_eval.tasks._factory import TaskFactory

from campus_tune.evaluate import harness, tasks
from campus_tune.evaluate.suites import Seeds, Suite, TaskSetting, load_suite
from campus_tune.evaluate.tasks import LoadedSuite, load_tasks
from campus_tune.words.errors import DataError, RecipeError
from tests.evaluate import data
from tests.evaluate.oracle import Oracle

WIDE = load_suite("campus_wide")
GSM8K = replace(WIDE, name="mine", tasks=(WIDE.task("gsm8k"),))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data.write(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedSuite:
    return load_tasks(WIDE, folder, allow_code_execution=True)


METRICS = {"minerva_math": "math_verify,none", "gsm8k": "exact_match,strict-match"}


def suite_of(task: str, *metrics: str, **settings: Any) -> Suite:
    return Suite("mine", (TaskSetting(task, metrics or (METRICS.get(task, "acc,none"),), **settings),))


def problems_of(suite: Suite, folder: Path | None = None, *, allow: bool = False) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_tasks(suite, folder, allow_code_execution=allow)
    return caught.value.problems


def no_download(*args: object, **_: object) -> None:
    raise AssertionError(f"lm-eval wants to download {args}")


# -- what is built -----------------------------------------------------------------------------------------------


def test_groups_come_with_all_their_tasks(loaded: LoadedSuite) -> None:
    assert {name: len(task.tasks) for name, task in loaded.tasks.items()} == {
        "minerva_math": 7,
        "gsm8k": 1,
        "mbpp": 1,
        "humaneval": 1,
        "mmlu": 57,
        "arc_easy": 1,
        "arc_challenge": 1,
    }
    assert set(loaded.tasks["mmlu"].groups) == {
        "mmlu",
        "mmlu_stem",
        "mmlu_other",
        "mmlu_social_sciences",
        "mmlu_humanities",
    }


def test_shots_and_limits_stand_in_lm_evals_own_configuration(loaded: LoadedSuite) -> None:
    said = {
        name: (config["num_fewshot"], config.get("generation_kwargs", {}).get("max_gen_toks"))
        for task in loaded.tasks.values()
        for name, config in ((name, leaf.dump_config()) for name, leaf in task.tasks.items())
    }
    assert said["minerva_math_geometry"] == (4, 1024)
    assert said["mbpp"] == (3, 256)
    assert said["gsm8k"] == (5, 256)
    assert said["humaneval"] == (0, 1024)
    assert said["mmlu_anatomy"] == said["arc_easy"] == (0, None)


def test_a_suite_that_says_nothing_records_the_official_numbers(folder: Path) -> None:
    setting = replace(GSM8K.tasks[0], max_gen_toks=None)
    (leaf,) = (
        load_tasks(replace(GSM8K, tasks=(setting,)), folder, allow_code_execution=False).tasks["gsm8k"].tasks.values()
    )
    assert leaf.config.generation_kwargs["max_gen_toks"] == 256
    assert leaf.config.generation_kwargs["until"] == ["Question:", "</s>", "<|im_end|>"]


def test_a_suite_sets_shots_and_limit(folder: Path) -> None:
    setting = replace(GSM8K.tasks[0], few_shot=2, max_gen_toks=77, limit=3)
    model = Oracle()
    task = load_tasks(replace(GSM8K, tasks=(setting,)), folder, allow_code_execution=False).tasks["gsm8k"]
    results = lm_eval.evaluate(model, **task.options())
    assert results["n-shot"]["gsm8k"] == 2
    assert results["n-samples"]["gsm8k"] == {"original": 4, "effective": 3}
    assert results["configs"]["gsm8k"]["generation_kwargs"]["max_gen_toks"] == 77
    assert model.limits == {77}
    assert all(prompt.count("Question:") == 3 for prompt in model.prompts)


def test_options_say_how_the_model_is_asked(folder: Path) -> None:
    suite = replace(GSM8K, apply_chat_template=True, fewshot_as_multiturn=False, system_instruction="Be brief.")
    options = load_tasks(suite, folder, allow_code_execution=False).tasks["gsm8k"].options()
    options.pop("task_dict")
    assert options == {
        "limit": None,
        "apply_chat_template": True,
        "fewshot_as_multiturn": False,
        "system_instruction": "Be brief.",
        "confirm_run_unsafe_code": False,
    }


def test_the_record_is_json_and_names_versions_and_data(loaded: LoadedSuite) -> None:
    record = loaded.record()
    assert json.loads(json.dumps(record)) == record
    assert record["suite"] == WIDE.record()
    assert record["lm_eval"] == lm_eval.__version__
    assert record["versions"]["mmlu"] == "2"
    assert record["versions"]["gsm8k"] == "3.0"
    assert len(record["versions"]) == 69 + 6  # tasks and groups
    assert set(record["data"]) == {f"{name}.jsonl.gz" for name in data.FILES}


def test_a_folder_of_another_size_is_warned_of_not_refused(loaded: LoadedSuite) -> None:
    assert len(loaded.warnings) == len(data.FILES) - 1
    assert all("not comparable with published ones" in warning for warning in loaded.warnings)


def test_tasks_that_are_used_again_ask_the_same(folder: Path) -> None:
    task = load_tasks(GSM8K, folder, allow_code_execution=False).tasks["gsm8k"]
    first, second, careless = Oracle(), Oracle(), Oracle()
    lm_eval.evaluate(first, **task.options())
    lm_eval.evaluate(second, **(options := task.options()))
    lm_eval.evaluate(careless, **options)  # without seeding again: the trap that options() is for
    assert first.prompts == second.prompts != careless.prompts


def test_another_seed_draws_other_examples(folder: Path) -> None:
    prompts = []
    for seed in (1234, 5):
        task = load_tasks(replace(GSM8K, seeds=Seeds(fewshot=seed)), folder, allow_code_execution=False).tasks["gsm8k"]
        lm_eval.evaluate(model := Oracle(), **task.options())
        prompts.append(model.prompts)
    assert prompts[0] != prompts[1]


# -- the same as lm-eval itself ----------------------------------------------------------------------------------


def _hub(path: str, name: str | None = None, **_: object) -> datasets.DatasetDict:
    """The made-up rows as the hub would hand them out; written without campus_tune's tables."""
    folder = path.split("/")[-1].removeprefix("ai2_").removeprefix("openai_").replace("hendrycks_math", "math")
    splits = {}
    for file, rows in data.FILES.items():
        if file.split("/")[0] != folder:
            continue
        if folder == "math":
            kinds = {"counting_and_probability": "Counting & Probability"}
            rows = [row for row in rows if row["type"] == kinds.get(str(name), str(name).replace("_", " ").title())]
        if folder == "mmlu":
            rows = [row for row in rows if row["subject"] == name]
        if folder == "arc":
            letters = [list("ABC"[: len(row["choices"])]) for row in rows]
            rows = [
                {
                    "id": row["id"],
                    "question": row["question"],
                    "choices": {"text": row["choices"], "label": letter},
                    "answerKey": letter[row["answer"]],
                }
                for row, letter in zip(rows, letters, strict=True)
                if row["config"] == name
            ]
        if folder == "mbpp":
            keys = ["task_id", "text", "code", "test_list", "test_setup_code", "challenge_test_list"]
            rows = [{key: row[key] for key in keys} for row in rows]
        if folder == "humaneval":
            rows = [
                {k: row[k] for k in ("task_id", "prompt", "canonical_solution", "test", "entry_point")} for row in rows
            ]
        splits[file.split("/")[1]] = datasets.Dataset.from_list(rows)
    return datasets.DatasetDict(splits)


@pytest.mark.parametrize("name", [setting.task for setting in WIDE.tasks])
def test_prompts_samples_and_configurations_are_those_of_lm_eval_itself(
    loaded: LoadedSuite, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = {"limit": 1 if name in ("mmlu", "minerva_math") else None}  # of each of the group's tasks
    ours = lm_eval.evaluate(mine := Oracle(), **{**loaded.tasks[name].options(), **limit}, bootstrap_iters=0)
    monkeypatch.setattr(datasets, "load_dataset", _hub)
    monkeypatch.setattr(lm_eval.evaluator, "add_env_info", lambda _: None)  # asks pip and nvidia-smi, for seconds
    manager = harness.trimmed_manager(tasks.FOLDERS[name])
    theirs = lm_eval.simple_evaluate(
        model=(model := Oracle()),
        tasks=[name],
        task_manager=manager,
        gen_kwargs={"max_gen_toks": most} if (most := WIDE.task(name).max_gen_toks) else None,
        confirm_run_unsafe_code=True,
        bootstrap_iters=0,
        **limit,
    )
    assert mine.prompts == model.prompts
    assert len(mine.prompts) >= 3
    for key in ("versions", "n-shot", "n-samples", "higher_is_better", "group_subtasks"):
        assert ours[key] == theirs[key]
    for leaf, config in theirs["configs"].items():
        own = dict(ours["configs"][leaf])
        assert "Rows from campus_tune's `data` folder" in own.pop("custom_dataset")
        assert own == config
        hashes = [{key: s[key] for key in ("doc_hash", "prompt_hash", "target_hash")} for s in ours["samples"][leaf]]
        assert hashes == [{key: s[key] for key in hashes[0]} for s in theirs["samples"][leaf]]


def test_online_tasks_are_lm_evals_with_shots_and_limits_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset", _hub)
    online = load_tasks(replace(WIDE, tasks=(WIDE.task("minerva_math"), WIDE.task("mbpp"))), allow_code_execution=True)
    assert online.data is None
    assert online.record()["versions"]["mbpp"] == "1.0"
    leaf = online.tasks["minerva_math"].tasks["minerva_math_geometry"]
    assert leaf.config.custom_dataset is None
    assert leaf.config.generation_kwargs["max_gen_toks"] == 1024


def test_with_a_folder_nothing_is_downloaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset", no_download)
    load_tasks(WIDE, folder, allow_code_execution=True)


def test_the_trimmed_index_misses_nothing_of_the_full_one() -> None:
    """Full is every folder with a file that names one of our tasks, groups or tags: 14 000 more cannot matter."""
    trimmed = harness.trimmed_manager({f for fs in tasks.FOLDERS.values() for f in fs})
    names, root = "|".join(map(re.escape, trimmed.task_index)), harness.folder_of_tasks()
    ours = re.compile(rf"(?<![\w-])(?:{names})(?![\w-])".encode())
    folders = {path.parent.relative_to(root) for path in root.rglob("*.yaml") if ours.search(path.read_bytes())}
    full = harness.trimmed_manager(map(str, folders))
    assert len(full.task_index) > 3 * len(trimmed.task_index)
    for name in tasks.FOLDERS:
        theirs = list(tasks._official_configs(full, name))
        assert list(tasks._official_configs(trimmed, name)) == theirs
        assert theirs


def test_indexing_takes_a_fraction_of_a_second() -> None:
    folders = {folder for setting in WIDE.tasks for folder in tasks.FOLDERS[setting.task]}
    start = process_time()
    manager = harness.trimmed_manager(folders)
    assert process_time() - start < 2.0  # 0.08 on an idle core; the full index takes 10 to 32
    assert 70 < len(manager.all_tasks) < 200


# -- a changed lm-eval -------------------------------------------------------------------------------------------


def test_lm_eval_calls_the_hook(folder: Path) -> None:
    """Fails when a new lm-eval builds its tasks in another way: see `harness`."""
    manager = harness.trimmed_manager(["gsm8k"])
    served = harness.redirect(manager, tasks.LocalData(folder))
    built = manager.load(["gsm8k"])["tasks"]["gsm8k"]
    assert built.dataset is served["gsm8k"]


def test_the_installed_lm_eval_is_one_that_was_tried() -> None:
    assert lm_eval.__version__ in harness.TESTED


def test_a_hook_that_is_not_called_is_an_error_and_no_download(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    real = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: (asked.append(k["path"]), real(*a, **k))[1])
    original = TaskFactory._load_full_config
    monkeypatch.setattr(
        TaskFactory,
        "_build_task",
        lambda self, entry, overrides: lm_eval.api.task.ConfigurableTask(config=original(self, entry, overrides)),
    )
    with pytest.raises(
        RecipeError, match=r"`lm-eval` must be one of 0\.4\.12, 0\.4\.13, got .*, which builds its tasks"
    ):
        load_tasks(GSM8K, folder, allow_code_execution=False)
    assert asked == [harness._CANARY["dataset_path"]]  # nothing that exists


@pytest.mark.parametrize("name", ["lm_eval.tasks._factory", "TaskFactory"])
def test_a_private_name_that_is_gone_is_an_error(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "TaskFactory":
        monkeypatch.delattr("lm_eval.tasks._factory.TaskFactory")
    else:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(RecipeError, match=r"Type: pip install lm-eval==0\.4\.13\. Without `data`"):
        load_tasks(GSM8K, folder, allow_code_execution=False)


def test_rows_from_elsewhere_are_an_error() -> None:
    task = type("Task", (), {"dataset": "the hub's"})()
    with pytest.raises(RecipeError, match="gsm8k got other rows"):
        harness.check_served({"gsm8k": "ours"}, {"gsm8k": task})
    with pytest.raises(RecipeError, match="gsm8k got other rows"):
        harness.check_served({}, {"gsm8k": task})


def test_a_metric_that_was_loaded_before_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module of a code task keeps the metric of its first import: one from before must not run our programs."""
    theirs = ModuleType("lm_eval.tasks.mbpp.utils")
    monkeypatch.setitem(sys.modules, theirs.__name__, theirs)
    path = harness.folder_of_tasks() / "mbpp/utils.py"
    theirs.__dict__.update(__mtime__=path.stat().st_mtime_ns, pass_at_1=no_download, list_fewshot_samples=no_download)
    load_tasks(replace(WIDE, tasks=(WIDE.task("mbpp"),)), folder, allow_code_execution=True)
    assert sys.modules[theirs.__name__] is not theirs


def test_a_metric_that_is_not_ours_is_an_error(loaded: LoadedSuite) -> None:
    with pytest.raises(RecipeError, match="mbpp got its metric elsewhere"):
        harness.check_metric(object(), loaded.tasks["mbpp"].tasks)


# -- what is refused ---------------------------------------------------------------------------------------------


def test_code_tasks_need_permission_and_say_how_to_give_it(folder: Path) -> None:
    problems = problems_of(WIDE, folder)
    assert [p.split(",")[0] for p in problems] == [
        "`allow_code_execution` must be true for mbpp",
        "`allow_code_execution` must be true for humaneval",
    ]
    assert "Write allow_code_execution: true, on the command line --allow_code_execution" in problems[0]


def test_without_permission_no_module_of_a_code_task_is_imported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mbpp", "humaneval"):
        monkeypatch.delitem(sys.modules, f"lm_eval.tasks.{name}.utils", raising=False)
    problems_of(WIDE, folder)
    assert not {"lm_eval.tasks.mbpp.utils", "lm_eval.tasks.humaneval.utils"} & sys.modules.keys()


@pytest.mark.parametrize(
    ("task", "settings", "problem"),
    [
        ("mbpp", {}, "`tasks: mbpp: runs_code` must be true, as lm-eval says, got false"),
        ("gsm8k", {"runs_code": True}, "`tasks: gsm8k: runs_code` must be false, as lm-eval says, got true"),
        ("mmlu", {"max_gen_toks": 5}, "max_gen_toks` must be null, since the task only weighs answers, got 5. Re"),
        ("humaneval", {"few_shot": 2, "runs_code": True}, "`tasks: humaneval: few_shot` must be 0, as the official"),
        ("mmlu_stem_tasks", {}, "`tasks: mmlu_stem_tasks` must be a task or a group, got a tag"),
    ],
)
def test_a_setting_that_a_task_does_not_take_is_refused(
    task: str, settings: dict[str, Any], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tasks.FOLDERS, "mmlu_stem_tasks", ("mmlu/default",))
    assert problem in problems_of(suite_of(task, **settings), allow=True)[0]


@pytest.mark.parametrize(("task", "there"), [("mmlu", 5), ("minerva_math", 4), ("gsm8k", 9)])
def test_more_shots_than_there_are_examples_are_refused(folder: Path, task: str, there: int) -> None:
    (problem,) = problems_of(suite_of(task, few_shot=there + 1), folder)
    assert f"`tasks: {task}: few_shot` must be at most {there} for {task}" in problem
    load_tasks(suite_of(task, few_shot=there), folder, allow_code_execution=False)


def test_a_misspelt_task_is_answered_with_the_nearest() -> None:
    misspelt = tuple(TaskSetting(name, ("acc,none",)) for name in ("minerva_maths", "hellaswagg"))
    ours, other = problems_of(Suite("mine", misspelt))
    assert ours.startswith(
        "`tasks` must be tasks or groups of lm-eval, got 'minerva_maths'. Did you mean 'minerva_math'?"
    )
    assert "Did you mean 'hellaswag'?" in other


def test_a_task_outside_of_the_shipped_suites_takes_the_full_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda **_: datasets.DatasetDict(
        {split: datasets.Dataset.from_list([{"question": "Is it?", "passage": "It is.", "label": 1}])
         for split in ("train", "validation")}))  # fmt: skip
    monkeypatch.setattr(harness, "full_manager", lambda: harness.trimmed_manager(["super_glue/boolq"]))
    assert list(load_tasks(suite_of("boolq"), allow_code_execution=False).tasks["boolq"].tasks) == ["boolq"]


@pytest.mark.parametrize(
    ("task", "metric", "says"),
    [
        (
            "gsm8k",
            "exact_match,strict_match",
            r"ble-extract, got .* Did you mean 'exact_match,strict-match'",
        ),
        ("mmlu", "acc_norm,none", r"`tasks: mmlu: metrics` must be of acc,none, got 'acc_norm,none'"),
        ("arc_easy", "acc,noen", r"must be of acc,none, acc_norm,none, got 'acc,noen'\. Did you mean 'acc,none'"),
        ("minerva_math", "math_verfy,none", r"Did you mean 'math_verify,none'"),
    ],
)
def test_a_metric_that_lm_eval_does_not_give_is_told_before_the_night_and_not_after(
    folder: Path, task: str, metric: str, says: str
) -> None:
    (problem,) = problems_of(suite_of(task, metric), folder)
    assert re.search(says, problem)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("Couldn't reach 'openai/gsm8k' on the Hub (OfflineModeIsEnabled)"),
        FileNotFoundError("Dataset 'openai/gsm8k' doesn't exist on the Hub or cannot be accessed."),
        ValueError("Couldn't find cache for openai/gsm8k for config 'main'"),
    ],
)
def test_a_hub_that_gives_no_rows_is_answered_with_the_folder_to_name(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match=r"from the hub \(.*openai/gsm8k.*\)\. Go online once, or name a fol.*--data"):
        load_tasks(GSM8K, allow_code_execution=False)


def test_other_errors_of_building_a_task_are_not_the_hubs(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(ValueError, match="a bug"):
        load_tasks(GSM8K, allow_code_execution=False)


def test_problems_of_the_folder_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_tasks(WIDE, tmp_path, allow_code_execution=True)
    assert len(str(caught.value).splitlines()) == 9


def _hide(*names: str) -> Callable[[str], object]:
    return lambda name: None if name in names else object()


def test_without_lm_eval_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "find_spec", _hide("lm_eval"))
    assert problems_of(GSM8K) == [
        '`suite` must have the library lm-eval, got none. Type: pip install "campus-tune[eval]"'
    ]


@pytest.mark.parametrize("library", ["sympy", "math_verify", "antlr4"])
def test_without_what_math_needs_the_extra_is_named(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "find_spec", _hide(library))
    (problem,) = problems_of(suite_of("minerva_math"))
    assert f"must have the library {library}, got none. Type: pip install" in problem


@pytest.mark.parametrize("runtime", ["4.9.3", None])
def test_another_antlr_is_named(runtime: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(_: str) -> str:
        if runtime is None:
            raise harness.PackageNotFoundError
        return runtime

    monkeypatch.setattr(harness, "version", version)
    (problem,) = problems_of(suite_of("minerva_math"))
    assert (
        f"must have antlr4-python3-runtime 4.11, which sympy's LaTeX parser is made for, got {runtime or 'one'}"
        in problem
    )


def test_loading_draws_no_bars_and_leaves_them_as_they_were(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    datasets.enable_progress_bars()
    math = replace(WIDE, tasks=(WIDE.task("minerva_math"),))  # its documents are prepared by a map
    load_tasks(math, folder, allow_code_execution=False)
    assert capsys.readouterr().err == ""
    assert not datasets.are_progress_bars_disabled()
    datasets.Dataset.from_dict({"a": [1]}).map(lambda row: row)
    assert "Map" in capsys.readouterr().err


def test_only_the_known_advice_is_left_out_of_the_log(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    import logging

    load_tasks(GSM8K, folder, allow_code_execution=False)
    assert caplog.text == ""
    with harness.quiet():
        logging.getLogger("lm_eval.api.task").warning("something else")
    assert "something else" in caplog.text
