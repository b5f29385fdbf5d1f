"""The command `campus-tune eval`, from its words to the files that it leaves."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")

import lm_eval
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from campus_tune.cli.eval_compare import compare_files
from campus_tune.cli.main import main as cli
from campus_tune.demo.tiny import tiny_model, tiny_tokenizer, write_tiny
from campus_tune.evaluate import harness, models
from campus_tune.evaluate.models import Target, open_model, read_targets
from campus_tune.evaluate.result_files import result_paths
from campus_tune.evaluate.results import Result, TaskResult, read_result, write_result
from campus_tune.words.errors import DataError, RecipeError, StorageError
from tests.evaluate import data
from tests.evaluate.on_ranks import command
from tests.json_answers import answer

SUITE = """\
tasks:
  gsm8k: {metrics: ["exact_match,strict-match", "exact_match,flexible-extract"], limit: 3, max_gen_toks: 8}
  arc_challenge: {metrics: ["acc,none"], limit: 3}
  arc_easy: {metrics: ["acc,none", "acc_norm,none"]}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder, a suite, a model and a run with two checkpoints of an adapter on it."""
    folder = tmp_path_factory.mktemp("made")
    data.write(folder / "data")
    (folder / "quick.yaml").write_text(SUITE)
    write_tiny(folder / "model")
    for step in (10, 5):
        save_adapter(folder / "run" / f"checkpoint-{step}", base=folder / "model", size=1.0 * step)
    return folder


@pytest.fixture(autouse=True)
def _in_a_copy(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder is a copy of it."""
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    for path in Path("run").glob("*/adapter_config.json"):
        set_base(path.parent, "model")


def save_adapter(folder: Path, *, base: Path, size: float) -> None:
    torch.manual_seed(round(10 * size))
    model = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=["o_proj", "down_proj"]))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=size)
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(folder)


def set_base(adapter: Path, base: str | None) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": base}))


def evaluate(*words: object) -> int:
    return command([*words, "--suite", "quick.yaml", "--data", "data"])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The first of lm-eval's tasks in everything that a model is asked."""
    names: list[str] = []
    ask = lm_eval.evaluate

    def listen(lm: Any, **options: Any) -> Any:
        names.append(next(iter(options["task_dict"]["tasks"])))
        return ask(lm, **options)

    monkeypatch.setattr(lm_eval, "evaluate", listen)
    return names


def documents(path: str | Path) -> Any:
    return {name: task.documents for name, task in read_result(path).tasks.items()}


# -- results ---------------------------------------------------------------------------------------------------------


def test_a_model_leaves_one_file_beside_it_and_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("--model", "model") == 0
    lines = capsys.readouterr().out.splitlines()
    result = read_result("evaluation/model.json")
    assert result.model.pop("weights")
    assert result.model == {"name": "model", "adapter": None, "step": None}
    assert list(result.tasks) == ["gsm8k", "arc_challenge", "arc_easy"]
    arc = result.tasks["arc_easy"].metrics["acc,none"]
    told = [line.split() for line in lines if line.startswith("arc_easy ") and " acc " in line]
    assert told == [["arc_easy", "acc", "model", f"{arc['value']:.4f}", f"{arc['stderr']:.4f}", "4"]]
    assert lines[-1] == f"campus: {Path.cwd() / 'evaluation' / 'model.json'}"
    assert any("arc/test.jsonl.gz` has 8 rows" in line for line in lines)  # what is unusual about the folder


def test_its_json_has_the_scores_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", "--model", "model", "--suite", "quick.yaml", "--data", "data", "--tasks", "arc_easy"]
    found = answer(capsys, *words)
    (model,) = found["models"]
    assert (found["suite"], model["model"]) == ("quick", "model")
    assert model["tasks"]["arc_easy"] == read_result(model["file"]).tasks["arc_easy"].metrics
    folder = answer(capsys, "eval", "check-data", "data", "--suite", "quick.yaml")
    assert (folder["whole"], folder["tasks"]) == (True, ["gsm8k", "arc_challenge", "arc_easy"])
    Path("data/gsm8k/train.jsonl.gz").unlink()
    folder = answer(capsys, "eval", "check-data", "data", "--suite", "quick.yaml", code=1)
    assert [problem["fatal"] for problem in folder["problems"]].count(True) == 1


def test_every_checkpoint_is_evaluated_by_step_as_its_live_model_is() -> None:
    from campus_tune.evaluate.session import Session
    from campus_tune.evaluate.suites import load_suite
    from campus_tune.evaluate.tasks import load_tasks

    Path("run/checkpoint-10/trainer_state.json").write_text('{"global_step": 11}')
    Path("group.yaml").write_text(
        "tasks: {mmlu_stem: {metrics: ['acc,none'], limit: 1}, arc_easy: {metrics: ['acc,none']}}"
    )
    words = ["--suite", "group.yaml", "--data", "data", "--tasks", "mmlu_stem,arc_easy"]
    assert command(["--checkpoints", "run/checkpoint-*", "--out", "out", *words]) == 0
    models = [read_result(f"out/checkpoint-{step}.json").model for step in (5, 10)]
    assert [(m["name"], m["adapter"], m["step"]) for m in models] == [
        ("model", "run/checkpoint-5", 5),
        ("model", "run/checkpoint-10", 11),
    ]
    assert models[0]["weights"] != models[1]["weights"]
    assert documents("out/checkpoint-5.json") != documents("out/checkpoint-10.json")
    session = Session(load_tasks(load_suite("group.yaml"), "data", allow_code_execution=False), silent=True)
    live = PeftModel.from_pretrained(tiny_model(), "run/checkpoint-10")
    found = session.evaluate(live, tiny_tokenizer())
    assert documents("out/checkpoint-10.json") == {name: task.documents for name, task in found.items()}


def test_an_adapter_option_and_a_moved_base_give_the_same() -> None:
    words = ("--tasks", "arc_easy", "--out")
    assert evaluate("--adapter", "run/checkpoint-5", *words, "a") == 0
    assert evaluate("--model", "model", "--adapter", "run/checkpoint-5", *words, "b") == 0
    Path("model").rename("moved")
    assert evaluate("--model", "moved", "--checkpoints", "run/checkpoint-5", *words, "c") == 0
    assert documents("a/checkpoint-5.json") == documents("b/checkpoint-5.json") == documents("c/checkpoint-5.json")


def test_a_folder_with_an_adapter_is_a_model_too() -> None:
    assert read_targets("run/checkpoint-5", None, []) == [Target("model", "run/checkpoint-5", 5)]


def test_whole_models_are_checkpoints_too() -> None:
    shutil.copytree("model", "full/checkpoint-3")
    assert evaluate("--checkpoints", "full/checkpoint-3", "--tasks", "arc_easy") == 0
    assert read_result("full/evaluation/checkpoint-3.json").model["step"] == 3
    with pytest.raises(RecipeError, match="`--model` must be left out for full/checkpoint-3, which is a whole model"):
        read_targets("model", None, ["full/checkpoint-3"])


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`", "ignore:Model has `tie_word_embeddings=True`")
def test_tokens_that_were_added_before_training_are_there() -> None:
    tokenizer, model = tiny_tokenizer(), tiny_model()
    tokenizer.add_tokens(["<new>"])
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    more = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens"]))
    more.peft_config["default"].base_model_name_or_path = "model"
    more.save_pretrained("grown")
    tokenizer.save_pretrained("grown")
    assert evaluate("--adapter", "grown", "--tasks", "arc_easy", "--out", "out") == 0


def test_weights_are_of_the_dtype_that_is_asked_for() -> None:
    for dtype in ("float32", "bfloat16"):
        assert evaluate("--model", "model", "--tasks", "arc_easy", "--dtype", dtype, "--out", dtype) == 0
    found = [read_result(f"{dtype}/model.json").model["weights"] for dtype in ("float32", "bfloat16")]
    assert found[0] != found[1]
    (why,) = compare_files(["float32/model.json", "bfloat16/model.json"]).refused
    assert why.reasons == ('dtype is "float32" against "bfloat16"',)


def test_the_chat_template_can_be_asked_for() -> None:
    for word in ("auto", "off", "on"):
        assert evaluate("--model", "model", "--tasks", "arc_easy", "--chat_template", word, "--out", word) == 0
    auto, off, on = (read_result(f"{word}/model.json").tasks["arc_easy"].settings for word in ("auto", "off", "on"))
    assert auto == off
    assert off["chat_template"] is None
    assert on["chat_template"]


def test_files_are_named_after_what_was_evaluated() -> None:
    hub, whole = Target("some/model"), Target("model")
    one, other = (Target("model", f"{run}/checkpoint-5", 5) for run in ("run", "run-b"))
    shutil.copytree("run", "run-b")
    here = Path.cwd()
    assert result_paths([hub, whole, one], None) == [
        Path("evaluation/some--model.json"),
        here / "evaluation/model.json",
        here / "run/evaluation/checkpoint-5.json",
    ]
    together = [path.name for path in result_paths([hub, whole, one, other], Path("out"))]
    assert together == ["some--model.json", "model.json", "run-checkpoint-5.json", "run-b-checkpoint-5.json"]


def test_runs_of_the_same_name_are_told_apart_by_the_folders_above() -> None:
    seeds = [Target("model", f"seed-{n}/run/checkpoint-5", 5) for n in (1, 2)]
    for target in seeds:
        Path(target.place).mkdir(parents=True)
    names = [path.name for path in result_paths([*seeds, Target("model", "run/checkpoint-5", 5)], Path("out"))]
    assert names[:2] == ["seed-1-run-checkpoint-5.json", "seed-2-run-checkpoint-5.json"]
    assert len(set(names)) == 3
    same = [Target("run/checkpoint-5"), Target(str(Path("run/checkpoint-5").resolve()))]
    assert len(set(result_paths(same, Path("out")))) == 1


def test_a_folder_is_found_by_its_own_name_and_from_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree("run", "run[1]")
    assert [target.place for target in read_targets(None, None, ["run[1]/checkpoint-5"])] == ["run[1]/checkpoint-5"]
    monkeypatch.setenv("HOME", str(Path.cwd()))
    (target,) = read_targets(None, None, ["~/run/*-10"])  # in quotes, as the help says: no shell has seen it
    assert target.place == str(Path.cwd() / "run/checkpoint-10")


def test_an_adapter_is_opened_without_the_warnings_of_its_library() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_model(Target("model", "run/checkpoint-5", 5), device="cpu")


# -- going on --------------------------------------------------------------------------------------------------------


def test_after_ctrl_c_finished_tasks_are_kept_and_the_rest_follows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], asked: list[str]
) -> None:
    assert evaluate("--model", "model", "--out", "whole") == 0
    ask = lm_eval.evaluate

    def interrupted(lm: Any, **options: Any) -> Any:
        if "arc_easy" in options["task_dict"]["tasks"]:
            raise KeyboardInterrupt  # a signal would be ignored where the tests run in the background
        return ask(lm, **options)

    with monkeypatch.context() as patch:
        patch.setattr(lm_eval, "evaluate", interrupted)
        assert evaluate("--model", "model", "--out", "out") == 130
    assert "interrupted. Finished tasks are kept: the same command goes on" in capsys.readouterr().out
    assert list(read_result("out/model.json").tasks) == ["gsm8k", "arc_challenge"]
    asked.clear()
    assert evaluate("--model", "model", "--out", "out") == 0
    assert asked == ["arc_easy"]
    assert "model: gsm8k, arc_challenge finished before" in capsys.readouterr().out
    assert documents("out/model.json") == documents("whole/model.json")


def test_what_is_finished_is_not_asked_again_and_stays_beside_new_tasks(asked: list[str]) -> None:
    for tasks in ("arc_easy", "arc_easy", "arc_challenge"):
        assert evaluate("--model", "model", "--tasks", tasks) == 0
    assert asked == ["arc_easy", "arc_challenge"]
    assert list(read_result("evaluation/model.json").tasks) == ["arc_easy", "arc_challenge"]


def test_other_settings_replace_nothing_unless_told(asked: list[str]) -> None:
    assert evaluate("--model", "model") == 0
    before = Path("evaluation/model.json").read_text()
    asked.clear()
    with pytest.raises(
        DataError, match=r"arc_easy: limit is null against 2\. Write --out with another folder, or --replace"
    ):
        evaluate("--model", "model", "--limit", 2, "--tasks", "arc_easy")
    assert asked == []
    assert Path("evaluation/model.json").read_text() == before
    assert evaluate("--model", "model", "--limit", 2, "--tasks", "arc_easy", "--replace") == 0
    result = read_result("evaluation/model.json")
    assert asked == ["arc_easy"]
    assert list(result.tasks) == ["gsm8k", "arc_challenge", "arc_easy"]
    assert result.tasks["arc_easy"].metrics["acc,none"]["n"] == 2


def test_other_weights_replace_nothing_unless_told() -> None:
    assert evaluate("--model", "model", "--tasks", "arc_easy") == 0
    write_tiny(Path("model"), seed=1)
    with pytest.raises(
        DataError, match=r"must be of the same weights and settings to be added to, got others: weights is"
    ):
        evaluate("--model", "model", "--tasks", "arc_challenge")
    assert evaluate("--model", "model", "--tasks", "arc_challenge", "--replace") == 0
    assert list(read_result("evaluation/model.json").tasks) == ["arc_challenge"]


def test_results_of_another_lm_eval_are_not_added_to() -> None:
    assert evaluate("--model", "model", "--tasks", "arc_easy") == 0
    result = read_result("evaluation/model.json")
    write_result("evaluation/model.json", Result(result.model, {**result.made_with, "lm_eval": "0.4.1"}, result.tasks))
    with pytest.raises(DataError, match=r"lm_eval is \"0\.4\.1\" against"):
        evaluate("--model", "model", "--tasks", "arc_challenge")


def test_tasks_that_lm_eval_did_not_make_stay() -> None:
    assert evaluate("--model", "model", "--tasks", "arc_easy") == 0
    result = read_result("evaluation/model.json")
    loss = TaskResult({"max_length": 8}, {}, {}, 0.0)
    write_result("evaluation/model.json", Result(result.model, {"lm_eval": None}, {"answer_loss": loss}))
    assert evaluate("--model", "model", "--tasks", "arc_challenge") == 0
    assert list(read_result("evaluation/model.json").tasks) == ["answer_loss", "arc_challenge"]


def test_a_file_of_another_version_is_told_before_a_model_is_loaded(asked: list[str]) -> None:
    Path("out").mkdir()
    Path("out/checkpoint-10.json").write_text(json.dumps({"format": 9, "made_with": {"campus_tune": "7.0"}}))
    with pytest.raises(
        DataError, match=r"out/checkpoint-10\.json` must be of format 1, got format 9, which campus_tune 7\.0"
    ):
        evaluate("--checkpoints", "run/checkpoint-*", "--out", "out")
    assert asked == []


def test_what_no_later_file_agrees_with_is_told_before_the_first_model_is_asked(asked: list[str]) -> None:
    words = ["--tasks", "arc_easy", "--out", "out"]
    assert evaluate("--checkpoints", "run/checkpoint-10", *words, "--limit", 1) == 0
    asked.clear()
    with pytest.raises(DataError, match=r"`out/checkpoint-10\.json` must be .* arc_easy: limit is 1 against 2"):
        evaluate("--checkpoints", "run/checkpoint-*", *words, "--limit", 2)
    assert asked == []


def test_a_folder_that_cannot_be_written_to_is_told_before_a_model_is_asked(asked: list[str]) -> None:
    with pytest.raises(StorageError, match=r"must be a folder that can be written to, got 'model/config\.json'"):
        evaluate("--model", "model", "--out", "model/config.json")
    assert asked == []
    assert evaluate("--model", "model", "--tasks", "arc_easy", "--out", "new/out") == 0
    assert [path.name for path in Path("new/out").iterdir()] == ["model.json"]


# -- bad input -------------------------------------------------------------------------------------------------------


def test_a_misspelt_flag_is_named_and_not_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["eval", "--model", "model", "--limt", "3"]) == 2
    assert "got '--limt'. Did you mean '--limit'?" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        cli(["eval", "compare", "a.json", "--markdwn", "b"])  # a part says so itself
    assert "unrecognized arguments: --markdwn" in capsys.readouterr().err
    assert cli(["eval", "--check", "no/checkpoint-*", "--tasks=mmlu"]) == 2  # argparse takes the beginning
    assert "`--checkpoints` must match at least one folder" in capsys.readouterr().err


def test_a_flag_before_a_part_is_refused_and_not_lost(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--suite", "quick.yaml", "check-data", "data"], ["--replace", "loss", "--test", "t"]):
        with pytest.raises(SystemExit, match="2"):
            cli(["eval", *words])
    told = capsys.readouterr().err
    assert "--suite must stand behind check-data, if it has it: campus-tune eval check-data … --suite …" in told
    assert "--replace must stand behind loss" in told


def test_a_task_that_takes_lm_evals_whole_index_is_told_before_the_wait(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(harness, "declared_names", lambda: {"arc_easy", "boolq"})
    monkeypatch.setattr(harness, "full_manager", lambda: pytest.fail(capsys.readouterr().out))
    Path("rare.yaml").write_text("tasks: {arc_easy: {metrics: ['acc,none']}, boolq: {metrics: ['acc,none']}}")
    with pytest.raises(pytest.fail.Exception, match="campus: boolq: lm-eval indexes all its tasks for it"):
        command(["--model", "model", "--suite", "rare.yaml"])


def test_an_empty_list_of_tasks_is_not_all_of_them() -> None:
    with pytest.raises(RecipeError, match="`--tasks` must name at least one task of the suite, got none"):
        evaluate("--model", "model", "--tasks", ",")


def test_help_says_what_belongs_into_a_data_folder(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli(["eval", "check-data", "--help-all"])
    assert "math/test.jsonl.gz: 5000 rows, for minerva_math" in capsys.readouterr().out


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), MemoryError()]
)
def test_a_model_that_does_not_fit_is_told(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(models, "from_folder", fail)
    with pytest.raises(RecipeError, match=r"`model` must fit into the memory of cpu, got 'model', .*out of memory"):
        open_model(Target("model"), device="cpu")


def test_other_errors_of_loading_are_not_taken_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(models, "from_folder", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        open_model(Target("model"), device="cpu")


def test_a_wrong_command_line_ends_with_2_and_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["eval"]) == 2
    assert "campus-tune: `--model` must name a folder or a hub id, got none" in capsys.readouterr().err
    for words in (["--limit", "0"], ["--batch_size", "many"]):
        with pytest.raises(SystemExit, match="2"):
            cli(["eval", "--model", "model", *words])
        assert "must be a whole number from 1 to 999999999, got" in capsys.readouterr().err


def test_options_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(RecipeError, match="`--adapter` must be left out beside --checkpoints, got both"):
        evaluate("--adapter", "run/checkpoint-5", "--checkpoints", "run/checkpoint-5")


def test_a_pattern_without_a_match_is_answered_with_what_is_there() -> None:
    with pytest.raises(DataError, match=r"none\. run has checkpoint-10, checkpoint-5\. Did you mean 'checkpoint-5'"):
        evaluate("--checkpoints", "run/chekpoint-5")
    with pytest.raises(DataError, match=r"matches none\. There is no folder in nowhere"):
        evaluate("--checkpoints", "nowhere/checkpoint-*")


def test_a_folder_without_a_model_is_named() -> None:
    Path("run/checkpoint-7").mkdir()
    Path("run/checkpoint-7/optimizer.pt").touch()
    with pytest.raises(DataError, match=r"`run/checkpoint-7` must hold a model .* or an adapter .*, got optimizer\.pt"):
        evaluate("--checkpoints", "run/checkpoint-*")
    Path("run/checkpoint-7/optimizer.pt").unlink()
    with pytest.raises(DataError, match="got an empty folder"):
        evaluate("--checkpoints", "run/checkpoint-*")
    Path("run/checkpoint-7/pytorch_model_fsdp_0").mkdir()
    with pytest.raises(
        DataError, match=r"in the pieces of several processes\. Put them together first: accelerate merge-weights"
    ):
        evaluate("--checkpoints", "run/checkpoint-*")


def test_a_model_that_is_nowhere_is_told() -> None:
    with pytest.raises(
        RecipeError, match=r"`model` must be a model folder or a hub id, got './modle': there is no such"
    ):
        evaluate("--model", "./modle")
    with pytest.raises(DataError, match="`--adapter` must be a folder or a hub id, got 'no/adapter'"):
        evaluate("--adapter", "no/adapter")


def test_an_adapter_without_a_base_is_named() -> None:
    set_base(Path("run/checkpoint-5"), None)
    with pytest.raises(
        DataError, match=r"`run/checkpoint-5` must say its base model in adapter_config\.json .*got none"
    ):
        evaluate("--checkpoints", "run/checkpoint-5")
    Path("run/checkpoint-5/adapter_config.json").write_text("{")
    with pytest.raises(DataError, match=r"adapter_config\.json` must be the settings of an adapter, got"):
        evaluate("--checkpoints", "run/checkpoint-5")


def test_a_relative_base_is_found_from_here_or_from_the_adapter() -> None:
    adapter = Path("run/checkpoint-5")
    set_base(adapter, "../../model")
    assert read_targets(None, None, [str(adapter)]) == [Target(str(Path("model").resolve()), str(adapter), 5)]
    assert evaluate("--checkpoints", adapter, "--tasks", "arc_easy", "--limit", 1) == 0
    assert read_targets("model", None, [str(adapter)]) == [Target("model", str(adapter), 5)]
    set_base(adapter, "./model")
    assert read_targets(None, str(adapter), []) == [Target("./model", str(adapter), 5)]
    set_base(adapter, "some/model")  # of the hub
    assert read_targets(None, str(adapter), []) == [Target("some/model", str(adapter), 5)]


def test_a_relative_base_that_is_nowhere_or_in_two_places_is_an_error() -> None:
    adapter = Path("run/checkpoint-5")
    set_base(adapter, "../gone/model")
    with pytest.raises(DataError, match=r"where its base model is, got '\.\./gone/model', which is no folder, neither"):
        read_targets(None, str(adapter), [])
    assert read_targets("model", str(adapter), []) == [Target("model", str(adapter), 5)]  # moved, and named
    set_base(adapter, "model")
    shutil.copytree("model", adapter / "model")
    with pytest.raises(DataError, match=r"in one way, got 'model', which is model from here and .*-5/model f"):
        read_targets(None, str(adapter), [])
    assert read_targets(str(adapter / "model"), str(adapter), []) == [Target(str(adapter / "model"), str(adapter), 5)]


def test_an_adapter_of_another_base_is_refused_by_its_name() -> None:
    shutil.copytree("model", "other")
    with pytest.raises(
        DataError, match=r"the adapter run/checkpoint-5 was trained on, model, got other\. Leave --model out"
    ):
        evaluate("--checkpoints", "run/checkpoint-5", "--model", "other")
    set_base(Path("run/checkpoint-5"), "some/model")
    with pytest.raises(DataError, match="was trained on, some/model, got another/model"):
        evaluate("--adapter", "run/checkpoint-5", "--model", "another/model")


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"hidden": 64}, r"got one of gone/base, which does not fit \(size mismatch for .* 9 differences\)"),
        ({"layers": 1}, r"layers\.1\..* has no place in it; 4 differences\)"),  # peft itself says nothing
        ({"layers": 3}, r"layers\.2\..* is not in the adapter; 4 differences\)"),
    ],
)
def test_an_adapter_of_another_base_is_refused_by_its_shapes(sizes: dict[str, int], says: str) -> None:
    write_tiny(Path("other"), **sizes)
    set_base(Path("run/checkpoint-5"), "gone/base")
    with pytest.raises(DataError, match=rf"`run/checkpoint-5` must be an adapter of other, .*{says}"):
        evaluate("--checkpoints", "run/checkpoint-5", "--model", "other")


def test_an_adapter_that_is_cut_off_is_named() -> None:
    Path("run/checkpoint-5/adapter_model.safetensors").write_bytes(b"cut off")
    with pytest.raises(DataError, match=r"`run/checkpoint-5` must hold an adapter's weights, got .*header too small"):
        evaluate("--checkpoints", "run/checkpoint-5")


def test_unknown_suites_and_tasks_are_answered_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"`suite` must be one of campus, campus_wide, smoke .* Did you mean 'smoke'"):
        command(["--model", "model", "--suite", "smok"])
    with pytest.raises(RecipeError, match=r"got 'arc_esay'\. Did you mean 'arc_easy'"):
        evaluate("--model", "model", "--tasks", "arc_esay")


def test_code_is_not_run_without_permission() -> None:
    with pytest.raises(RecipeError, match="`allow_code_execution` must be true for mbpp, got false: it runs"):
        command(["--model", "model", "--suite", "smoke", "--tasks", "mbpp", "--data", "data"])


def test_code_is_run_with_permission() -> None:
    words = ["--model", "model", "--suite", "smoke", "--tasks", "mbpp", "--data", "data", "--limit", 1]
    assert command([*words, "--allow_code_execution"]) == 0


def test_gaps_of_the_data_folder_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["check-data", "data", "--suite", "quick.yaml"]) == 0
    assert "data has what the suite quick needs: gsm8k, arc_challenge, arc_easy" in capsys.readouterr().out
    Path("data/gsm8k/train.jsonl.gz").unlink()
    with pytest.raises(DataError, match=r"`data/gsm8k/train\.jsonl\.gz` must be there"):
        evaluate("--model", "model")
    assert command(["check-data", "data", "--suite", "quick.yaml"]) == 1
    out = capsys.readouterr().out
    assert "`data/gsm8k/train.jsonl.gz` must be there for gsm8k" in out
    assert "has what the suite" not in out


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "find_spec", lambda _: None)
    with pytest.raises(
        RecipeError, match=r'must have the library lm-eval, got none\. Type: pip install "campus-tune\[eval\]"'
    ):
        evaluate("--model", "model")
