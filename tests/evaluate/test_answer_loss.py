"""The loss of gold answers: the tokens that training counts, the numbers of a slow loop, and rows that are held out."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from campus_tune.cli import main as cli
from campus_tune.cli.eval_compare import compare, compare_files
from campus_tune.data.held_out import HeldOut, read_held_out
from campus_tune.demo.tiny import tiny_model, write_tiny
from campus_tune.evaluate import answer_loss, models
from campus_tune.evaluate.answer_loss import measure_answer_loss
from campus_tune.evaluate.results import Result, TaskResult, read_result, write_result
from campus_tune.words.errors import DataError, MetricError, RecipeError, StorageError
from campus_tune.words.library_warnings import LOGGED
from campus_tune.words.types import Json
from tests.json_answers import answer
from tests.run.other_models import other_tokenizer, plain, trainer_of
from tests.run.tiny_run import task_rows, tiny_trainer, tokenizer

CHAT = {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}], "domain": "sums"}
PLAIN = {"prompt": "2 + 2? ", "completion": "4", "domain": "sums"}


def write(path: Path, rows: Sequence[Json]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def held_out(tmp_path: Path, rows: Sequence[Json], **options: Any) -> HeldOut:
    return read_held_out([write(tmp_path / "test.jsonl", rows)], **options)


def silent(_: str) -> None:
    pytest.fail(f"nothing is unusual here, got {_}")


def values(result: TaskResult, name: str) -> list[float]:
    return [document[name] for documents in result.documents.values() for document in documents.values()]


# -- the numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["prompt and completion", "plain prompt and completion", "chat, assistant only", "lora"]
)
def test_it_counts_the_tokens_that_training_counts_and_finds_their_loss(kind: str, tmp_path: Path) -> None:
    if kind == "plain prompt and completion":  # a line break: no token reaches from the prompt into the answer
        rows = [{**row, "prompt": row["prompt"].strip() + "\n"} for row in plain(task_rows(6))]
        trainer = tiny_trainer(tmp_path, config=False, train=rows)
    else:
        trainer = trainer_of(tmp_path, kind, n=6)
    slow = []
    for row in trainer.train_dataset:
        mask = row.get("labels") or row.get("completion_mask") or row.get("assistant_masks")
        counted = [bool(m) if "labels" not in row else m != -100 for m in mask]
        ids = torch.tensor([row["input_ids"]], device=trainer.model.device)
        with torch.no_grad():
            log_p = trainer.model.eval()(ids).logits.log_softmax(-1)[0]
        nats = [-log_p[i - 1, ids[0, i]].item() for i in range(1, len(counted)) if counted[i]]
        slow.append((sum(nats) / len(nats), len(nats)))
    names = [name for name in ("prompt", "completion", "messages") if name in trainer.train_dataset.column_names]
    rows = [{**{n: row[n] for n in names}, "domain": "d"} for row in trainer.train_dataset]
    eos = trainer.processing_class.eos_token
    for row in rows:  # training puts the end token behind a plain completion
        if isinstance(row.get("completion"), str):
            row["completion"] = row["completion"].removesuffix(eos)
    found = measure_answer_loss(trainer.model, trainer.processing_class, held_out(tmp_path, rows), say=silent)
    assert values(found, "tokens") == [tokens for _, tokens in slow]
    assert values(found, "answer_loss") == pytest.approx([loss for loss, _ in slow], rel=1e-5)
    total = sum(tokens for _, tokens in slow)
    assert found.metrics["answer_loss"]["value"] == pytest.approx(sum(x * n for x, n in slow) / total, rel=1e-5)
    assert found.metrics["answer_loss"]["n"] == 6


def test_the_error_of_the_loss_is_near_that_of_a_slow_bootstrap(tmp_path: Path) -> None:
    found = measure_answer_loss(tiny_model(), tokenizer(), held_out(tmp_path, task_rows(100)), say=silent)
    losses, tokens = np.array(values(found, "answer_loss")), np.array(values(found, "tokens"))
    rng = np.random.default_rng(0)
    means = []
    for _ in range(1000):
        drawn = rng.integers(len(losses), size=len(losses))
        means.append((losses[drawn] * tokens[drawn]).sum() / tokens[drawn].sum())
    assert found.metrics["answer_loss"]["stderr"] == pytest.approx(np.std(means), rel=0.1)


def test_measuring_changes_neither_the_model_nor_any_random_state(tmp_path: Path) -> None:
    model, rows = tiny_model().train(), held_out(tmp_path, task_rows(10))
    before = torch.get_rng_state(), {name: p.clone() for name, p in model.named_parameters()}
    one, other = (measure_answer_loss(model, tokenizer(), rows, say=silent) for _ in range(2))
    assert one.documents == other.documents
    assert model.training
    assert torch.equal(before[0], torch.get_rng_state())
    assert all(torch.equal(before[1][name], p) and p.grad is None for name, p in model.named_parameters())


def test_its_results_are_written_read_and_compared_by_domain(tmp_path: Path) -> None:
    rows = held_out(tmp_path, task_rows(25))
    results = []
    for seed in (0, 1):
        task = measure_answer_loss(tiny_model(seed=seed), tokenizer(), rows, say=silent)
        model = {"name": f"seed {seed}", "adapter": None, "step": None, "weights": None}
        write_result(tmp_path / f"{seed}.json", Result(model, {}, {"answer_loss": task}))
        results.append(read_result(tmp_path / f"{seed}.json"))
    lines = compare(*results).lines
    assert [line.part for line in lines] == ["", *sorted({row["domain"] for row in task_rows(25)})]
    told = [result.tasks["answer_loss"].metrics["answer_loss"]["value"] for result in results]
    assert lines[0].found.difference == pytest.approx(told[1] - told[0])
    assert not compare(*results).notes


def test_another_tokenizer_template_precision_or_test_set_is_another_question(tmp_path: Path) -> None:
    rows, model = held_out(tmp_path, task_rows(10)), tiny_model()

    def settings(tokenizer: Any, rows: HeldOut = rows, **options: Any) -> Json:
        return measure_answer_loss(model, tokenizer, rows, say=lambda _: None, **options).settings

    base = settings(tokenizer())
    assert settings(tokenizer()) == base
    assert settings(other_tokenizer())["tokenizer_and_template"] != base["tokenizer_and_template"]
    assert (
        settings(other_tokenizer(None))["tokenizer_and_template"]
        != settings(other_tokenizer())["tokenizer_and_template"]
    )
    assert settings(tokenizer(), max_length=200)["max_length"] == 200
    other_rows = held_out(tmp_path, task_rows(10, seed=2))
    assert settings(tokenizer(), other_rows)["data"]["digest"] != base["data"]["digest"]
    model = model.to(torch.bfloat16)
    assert (base["dtype"], settings(tokenizer())["dtype"]) == ("float32", "bfloat16")


def test_rows_are_known_by_their_text_wherever_they_stand(tmp_path: Path) -> None:
    rows = [{**row, "id": i} for i, row in enumerate(task_rows(10))]
    one = held_out(tmp_path, rows)
    other = held_out(tmp_path, [{**row, "id": 0, "split": "x"} for row in reversed(rows)])
    assert one.digest() == other.digest()
    assert one.numbers == tuple(reversed(other.numbers))
    assert held_out(tmp_path, rows[1:]).digest() != one.digest()


def test_a_row_that_is_there_twice_counts_twice(tmp_path: Path) -> None:
    found = measure_answer_loss(tiny_model(), tokenizer(), held_out(tmp_path, [CHAT, CHAT]), say=silent)
    one, two = found.documents["sums"].items()
    assert two == (f"{one[0]}-2", one[1])


# -- rows -------------------------------------------------------------------------------------------------------------


def test_each_file_is_a_domain_where_there_is_no_column(tmp_path: Path) -> None:
    bare = {name: value for name, value in PLAIN.items() if name != "domain"}
    paths = [write(tmp_path / name, [bare]) for name in ("math.jsonl", "code.test.jsonl")]
    assert read_held_out(paths, domain_column=None).domains == ("math", "code")


def test_files_of_one_name_in_two_folders_are_two_domains(tmp_path: Path) -> None:
    bare = {name: value for name, value in PLAIN.items() if name != "domain"}
    for folder in "ab":
        (tmp_path / folder).mkdir()
    names = ("a/test.jsonl", "b/test.jsonl", "test.csv.jsonl", ".jsonl", "code.jsonl", "code.jsonl")
    paths = [write(tmp_path / name, [bare]) for name in names]
    whole = [str(path) for path in paths[:4]]
    assert read_held_out(paths, domain_column=None).domains == (*whole, "code", "code")


def test_answers_are_the_assistants_turns_and_completions(tmp_path: Path) -> None:
    two = {"messages": [*CHAT["messages"], *CHAT["messages"]], "domain": "sums"}
    mixed = {"prompt": CHAT["messages"][:1], "completion": CHAT["messages"][1:], "domain": "sums"}
    rows = held_out(tmp_path, [CHAT, two, mixed, PLAIN])
    assert [row.counted for row in rows.conversations] == [
        (False, True),
        (False, True) * 2,
        (False, True),
        (False, True),
    ]


def test_chats_of_sharegpt_are_the_same_rows(tmp_path: Path) -> None:
    names = {"role": "from", "content": "value"}
    shared = {"conversations": [{names[k]: v for k, v in t.items()} for t in CHAT["messages"]], "domain": "sums"}
    assert held_out(tmp_path, [shared]) == held_out(tmp_path, [CHAT])


def test_tools_are_part_of_a_row_and_reach_its_template(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "add"}}]
    rows = held_out(tmp_path, [CHAT, {**CHAT, "tools": json.dumps(tools), "chat_template_kwargs": {"brief": True}}])
    assert [row.given for row in rows.conversations] == [{}, {"tools": tools, "brief": True}]
    assert len({number.split("-")[0] for number in rows.numbers}) == 2


def test_null_fields_of_parquet_are_no_part_of_a_row(tmp_path: Path) -> None:
    with_nulls = {**CHAT, "messages": [{**turn, "tool_calls": None} for turn in CHAT["messages"]]}
    assert held_out(tmp_path, [with_nulls]).numbers == held_out(tmp_path, [CHAT]).numbers


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"text": "2 + 2 = 4", "domain": "d"}, r"row 1 must have messages, or prompt and completion, got text, domain"),
        (
            {"messages": [{"role": "user", "content": "?"}], "domain": "d"},
            r"row 1 must have an answer, got no assistant",
        ),
        ({**PLAIN, "prompt": CHAT["messages"][:1]}, r"row 1 must be all text or all messages with roles"),
        ({**PLAIN, "completion": 4}, r"row 1 must be all text or all messages"),
        (
            {**PLAIN, "domain": None},
            r"row 1 must have its domain in the column 'domain', got the columns prompt, compl",
        ),
        ({"prompt": "a", "completion": "b"}, r"Name the column with --domain_column, or write --domain_column none"),
    ],
)
def test_a_row_of_another_shape_is_named(row: Json, says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says):
        held_out(tmp_path, [CHAT, row])


def test_no_file_is_refused() -> None:
    with pytest.raises(DataError, match="`test` must name at least one file of held-out rows, got none"):
        read_held_out([])


def test_test_rows_that_are_training_rows_are_refused_however_they_are_spaced(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", [{"prompt": "1 + 1?", "completion": "2"}, {**PLAIN, "prompt": "2+2?"}])
    with pytest.raises(DataError, match=r"got 1 that are in `.*train.jsonl` \(`.*test.jsonl` row 1 = row 1 there\)"):
        held_out(
            tmp_path,
            [{**CHAT, "messages": [*CHAT["messages"][:1], {"role": "assistant", "content": "5"}]}, CHAT],
            train=[train],
        )


def test_test_rows_near_training_rows_are_told(tmp_path: Path) -> None:
    words = " ".join(f"word{i}" for i in range(13))
    train = write(tmp_path / "train.jsonl", [{"prompt": f"{words}?", "completion": "no"}])
    told: list[str] = []
    rows = held_out(
        tmp_path, [{"prompt": f"Say {words}.", "completion": "yes", "domain": "d"}], train=[train], say=told.append
    )
    assert len(rows) == 1
    assert told[0].startswith("warning: 1 test row shares 13 words in a row with a row of `")
    assert held_out(tmp_path, [CHAT], train=[train], say=silent)


def test_long_rows_are_cut_and_told_and_those_without_an_answer_left_are_refused(tmp_path: Path) -> None:
    told: list[str] = []
    rows = held_out(tmp_path, [{"prompt": "2 + 2? ", "completion": "four " * 50, "domain": "d"}])
    whole = measure_answer_loss(tiny_model(), tokenizer(), rows, say=silent)
    cut = measure_answer_loss(tiny_model(), tokenizer(), rows, max_length=20, say=told.append)
    assert values(cut, "tokens")[0] < values(whole, "tokens")[0]
    assert told == ["warning: 1 of 1 rows are cut at 20 tokens: of their answers, what is left counts."]
    with pytest.raises(DataError, match=r"an answer token among the 2 that are read, got 1 rows without \(first: d "):
        measure_answer_loss(tiny_model(), tokenizer(), rows, max_length=2, say=silent)


def test_a_model_that_has_diverged_is_no_result(tmp_path: Path) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(math.nan)
    with pytest.raises(MetricError, match="the loss of every row must be finite"):
        measure_answer_loss(model, tokenizer(), held_out(tmp_path, [CHAT]), say=silent)


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A base model, two checkpoints of adapters on it, test rows."""
    from peft import LoraConfig, get_peft_model

    write_tiny(tmp_path / "model")
    for step in (2, 10):
        adapted = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
        adapted.peft_config["default"].base_model_name_or_path = str(tmp_path / "model")
        adapted.save_pretrained(tmp_path / "run" / f"checkpoint-{step}")
    write(tmp_path / "test.jsonl", task_rows(25))
    return tmp_path


def command(*argv: object) -> int:
    return cli.main(["--debug", "eval", "loss", *map(str, argv)])


def test_the_command_measures_a_model_and_its_checkpoints_into_comparable_files(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test, out = ("--test", place / "test.jsonl"), ("--out", place / "out")
    assert command("--model", place / "model", *test, *out) == 0
    assert command("--checkpoints", place / "run" / "checkpoint-*", *test, *out) == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines() if line.endswith("25") or " 25 " in line] == ["all"] * 3
    files = [place / "out" / f"{name}.json" for name in ("model", "checkpoint-2", "checkpoint-10")]
    found = compare_files(files)
    assert not found.refused
    assert found.models[2]["step"] == 10
    direct = measure_answer_loss(tiny_model(), tokenizer(), read_held_out([place / "test.jsonl"]), say=silent)
    assert found.lines[0].found.mean_a == pytest.approx(direct.metrics["answer_loss"]["value"])
    assert found.lines[0].found.difference != 0


def test_after_ctrl_c_finished_models_are_kept(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure, measured = answer_loss.measure_answer_loss, []

    def interrupted(*arguments: Any, **options: Any) -> TaskResult:
        if measured:
            raise KeyboardInterrupt
        measured.append(1)
        return measure(*arguments, **options)

    monkeypatch.setattr(answer_loss, "measure_answer_loss", interrupted)
    words = ("--checkpoints", place / "run/checkpoint-*", "--test", place / "test.jsonl", "--out", place / "out")
    assert command(*words) == 130
    assert "interrupted. Finished models are kept: the same command goes on" in capsys.readouterr().out
    assert [path.name for path in (place / "out").iterdir()] == ["checkpoint-2.json"]


def test_a_folder_that_cannot_be_written_to_is_told_before_a_model_is_loaded(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "open_model", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(StorageError, match="`--out` must be a folder that can be written to"):
        command("--model", place / "model", "--test", place / "test.jsonl", "--out", place / "test.jsonl")


def test_a_finished_measurement_is_not_made_again_and_other_tasks_stay_in_the_file(place: Path) -> None:
    argv = ("--model", place / "model", "--test", place / "test.jsonl", "--out", place / "out")
    command(*argv)
    path = place / "out" / "model.json"
    first = read_result(path)
    write_result(path, Result(first.model, first.made_with, {**first.tasks, "arc": first.tasks["answer_loss"]}))
    written = path.stat().st_mtime_ns
    command(*argv)
    assert path.stat().st_mtime_ns == written
    with pytest.raises(
        DataError, match=r"must be of the same weights and settings to be added to, got others: answer_loss: max_len"
    ):
        command(*argv, "--max_length", 300)
    command(*argv, "--max_length", 300, "--replace")
    assert read_result(path).tasks["answer_loss"].settings["max_length"] == 300
    assert "arc" in read_result(path).tasks
    write_tiny(place / "model", seed=4)
    with pytest.raises(DataError, match="got others: weights is"):
        command(*argv)
    command(*argv, "--replace")
    assert list(read_result(path).tasks) == ["answer_loss"]


def test_a_script_that_opens_an_adapter_hears_its_libraries_as_before(place: Path) -> None:
    loggers = [logging.getLogger(name) for name in LOGGED]
    before = [list(logger.filters) for logger in loggers]
    [target] = models.read_targets(None, str(place / "run/checkpoint-2"), [])
    models.open_model(target, device="cpu")
    assert [logger.filters for logger in loggers] == before


def test_the_base_is_measured_with_its_adapter_and_the_difference_is_shown(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = ("--base", "--test", place / "test.jsonl", "--out", place / "out")
    assert command("--adapter", place / "run" / "checkpoint-2", *rest) == 0
    table = compare_files([place / "out" / "model.json", place / "out" / "checkpoint-2.json"]).as_text()
    assert table in capsys.readouterr().out
    with pytest.raises(RecipeError, match="`--base` must be asked of adapters on one base, got "):
        command("--model", place / "model", *rest)


def test_its_json_has_the_losses_of_the_table(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", "loss", "--adapter", place / "run" / "checkpoint-2", "--test", place / "test.jsonl"]
    found = answer(capsys, *words, "--out", place / "out")
    assert cli.main([*map(str, words), "--out", str(place / "out")]) == 0
    told = capsys.readouterr().out
    (model,) = found["models"]
    assert model["rows"] == sum(domain["rows"] for domain in model["domains"].values()) == 25
    for domain in [model, *model["domains"].values()]:
        assert f"{domain['loss']:.4f}" in told
    both = answer(capsys, *words, "--base", "--out", place / "out")
    assert len(both["models"]) == 2
    assert both["compared"]["lines"][0]["mean_b"] == pytest.approx(model["loss"])


def test_test_rows_that_were_trained_stop_the_command(place: Path) -> None:
    train = write(place / "train.jsonl", task_rows(25)[:3])
    with pytest.raises(DataError, match="test rows must be held out of the training set, got"):
        command("--model", place / "model", "--test", place / "test.jsonl", "--train", train)


def test_a_length_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command("--model", "m", "--test", "t", "--max_length", "0")
    assert "must be a whole number from 1 to 999999999, got '0'" in capsys.readouterr().err
