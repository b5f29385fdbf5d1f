"""`check` reads what `sft` trains: TRL's own preparation, around a stand-in for the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from campus_tune.model.prepare import PreparedRows, prepare_rows
from campus_tune.preview.check import check
from campus_tune.words.errors import DataError
from campus_tune.words.types import Json
from tests.run.tiny_run import task_rows, tiny_trainer, tokenizer

TURNS = ("user", "assistant")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tokenizer and no weights."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer().save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return str(folder)


def talk(i: int, names: tuple[str, str] = TURNS, keys: tuple[str, str] = ("from", "value")) -> list[Json]:
    says = (f"What is {i}?", f"It is {i}" + f" and {i}" * (i % 5))
    return [dict(zip(keys, pair, strict=True)) for pair in zip(names, says, strict=True)]


def shared(names: tuple[str, str] = TURNS) -> list[Json]:
    """ShareGPT's form."""
    return [{"conversations": talk(i, names)} for i in range(24)]


def prepared(model: str, rows: Any, **settings: Any) -> PreparedRows:
    made = prepare_rows({"model_name_or_path": model, **settings}, list(rows))
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("rows", "settings"),
    [
        (task_rows(12), {}),
        (task_rows(12), {"max_length": 30, "completion_only_loss": False}),
        (shared(), {}),
        ([{"messages": talk(i, keys=("role", "content"))} for i in range(12)], {"assistant_only_loss": True}),
        ([{"said": f"{i} is {i}"} for i in range(12)], {"dataset_text_field": "said", "max_length": 4}),
    ],
    ids=["prompt and completion", "cut", "ShareGPT", "assistant only", "another text field"],
)
def test_rows_are_those_of_the_run(rows: Any, settings: Json, model: str, tmp_path: Path) -> None:
    run = tiny_trainer(tmp_path, config=False, train=list(rows), **settings).train_dataset
    ours = prepared(model, rows, **settings)
    for name in ("input_ids", "labels"):
        assert list(ours.trainer.train_dataset[name]) == list(run[name])
    kept = [[label for label in row[1:] if label >= 0] for row in run["labels"]]
    assert list(ours.texts.response_text) == tokenizer().batch_decode(kept, skip_special_tokens=True)
    assert ours.texts.response_tokens.tolist() == [len(row) for row in kept]


def test_rows_of_which_nothing_is_left_are_counted(model: str) -> None:
    rows = [{"prompt": "one two three four five six seven " * (i % 2), "completion": "eight"} for i in range(8)]
    assert prepared(model, rows, max_length=12).dropped == 4
    assert prepared(model, rows, max_length=512).dropped == 0


def test_without_a_tokenizer_nothing_is_prepared(tmp_path: Path) -> None:
    assert prepare_rows({}, shared()) is None
    assert prepare_rows({"model_name_or_path": str(tmp_path / "nowhere")}, shared()) is None


def test_what_trl_refuses_is_told_in_its_words(model: str) -> None:
    rows = [{"prompt": "2 + 2?", "completion": 4}] * 4
    with pytest.raises(DataError, match=r"^row 0: `completion` must be text, got 4\. Convert it with "):
        prepared(model, rows)
    assert len(prepared(model, [{**row, "completion": "4"} for row in rows]).texts) == 4


@pytest.mark.parametrize("chat", [[None], [], {}])
def test_rows_that_trl_prepares_and_leaves_without_tokens_are_told(chat: Any, model: str) -> None:
    with pytest.raises(
        DataError, match=r"^row 0: `messages` must be a list of turns.*, got .*\. (Convert|Correct|Fill)"
    ):
        prepare_rows({"model_name_or_path": model}, [{"messages": chat}] * 8)


def test_a_chat_in_which_nobody_answers_is_told_its_roles(model: str) -> None:
    with pytest.raises(DataError, match=r"row 0: .* role assistant under assistant_only_loss, got gpt, human"):
        prepared(model, shared(("human", "gpt")), assistant_only_loss=True)


# -- check -------------------------------------------------------------------------------------------------------------


def found(folder: Path, model: str, rows: Any, campus: Json, **settings: Any) -> list[str]:
    """What `check` says of a recipe."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {"model_name_or_path": model, "dataset_name": str(folder / "rows.jsonl"), "campus": campus}
    recipe |= {"per_device_train_batch_size": 4, **settings}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return [str(finding) for finding in check(folder / "recipe.yaml")]


@pytest.mark.parametrize("names", [TURNS, ("human", "gpt")])
def test_check_takes_the_rows_that_sft_takes(names: tuple[str, str], model: str, tmp_path: Path) -> None:
    said = found(tmp_path, model, shared(names), {"metrics": ["mtld"], "stages": 2})
    assert not [text for text in said if text.startswith(("error", "refused"))]
    assert any(
        text.endswith(f"lengths are counted in tokens of {Path(model).name}, as they are trained.") for text in said
    )


def test_check_orders_by_what_is_left_of_the_answers(model: str, tmp_path: Path) -> None:
    rows = [{"prompt": f"Q{i:02d} ", "completion": "one two three four five " * 3 + f"w{i} " * i} for i in range(12)]
    [error] = [
        text
        for text in found(tmp_path, model, rows, {"metrics": ["mtld"], "stages": 2}, max_length=16)
        if text.startswith("error")
    ]
    assert "`mtld` gives every row the same score" in error
    half = [{**row, "prompt": row["prompt"] * (1 + 20 * (i % 2))} for i, row in enumerate(rows)]
    said = found(tmp_path, model, half, {"metrics": ["length"], "stages": 2}, max_length=40)
    assert any(text.startswith("warning: 6 of 12 rows are not trained: max_length leaves nothing") for text in said)


def test_check_finds_probes_that_cannot_be_prepared_as_the_rows_are(model: str, tmp_path: Path) -> None:
    (tmp_path / "probes.jsonl").write_text('{"prompt": "3 + 3?", "completion": 6}\n')
    campus = {"metrics": ["length"], "stages": 2, "probes": {"path": str(tmp_path / "probes.jsonl")}}
    rows = [{"prompt": f"{i}?", "completion": "It is so." * (1 + i)} for i in range(12)]
    errors = [text for text in found(tmp_path, model, rows, campus) if text.startswith("error")]
    assert "`probes` must be rows as the training set's" in errors[0]
    (tmp_path / "probes.jsonl").write_text('{"prompt": "3 + 3?", "completion": "6"}\n')
    assert not [text for text in found(tmp_path, model, rows, campus) if text.startswith("error")]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables_that_check_reads_are_read_by_sft_too(kind: str, tmp_path: Path) -> None:
    from types import SimpleNamespace

    from datasets import Dataset

    from campus_tune.run.make_trainer import load_rows

    rows = Dataset.from_list([{"prompt": "a", "completion": "b"}] * 3)
    path = str(tmp_path / f"rows.{kind}")
    rows.to_csv(path) if kind == "csv" else rows.to_parquet(path)
    loaded = load_rows(SimpleNamespace(dataset_name=path), SimpleNamespace(datasets=[]))
    assert loaded["train"].to_list() == rows.to_list()
