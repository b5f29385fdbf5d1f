"""Data as people have them: what TRL takes, every door reads alike; the rest is told how to become what it takes."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trl
import yaml

from campus_tune.cli import score, sft
from campus_tune.data.conversions import Origin
from campus_tune.data.refusals import why_not
from campus_tune.data.shapes import Shape
from campus_tune.demo.tiny import write_tiny
from campus_tune.model.prepare import prepare_rows
from campus_tune.model.probes import load_probes
from campus_tune.preview.check import check
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.trl_yaml import parse_trl
from campus_tune.run.make_trainer import make_trainer
from campus_tune.words.errors import DataError
from campus_tune.words.files import read_table
from campus_tune.words.types import Json
from tests.libraries import CHECKPOINTING

N = 12
ASKED, SAID = [f"What is {i} and {i}?" for i in range(N)], [f"It is {2 * i}." for i in range(N)]
PAIRS = list(zip(ASKED, SAID, strict=True))


def chat(asked: str, said: str, keys: tuple[str, str] = ("role", "content")) -> list[Json]:
    return [dict(zip(keys, turn, strict=True)) for turn in (("user", asked), ("assistant", said))]


def shared(asked: str, said: str) -> list[Json]:
    return chat(asked, said, ("from", "value"))


def lines(rows: list[Json], **how: Any) -> bytes:
    return "".join(json.dumps(row, **how) + "\n" for row in rows).encode()


def table(rows: list[Json], **how: Any) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), **how)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def parquet(rows: list[Json]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny(tmp_path_factory.mktemp("forms") / "model"))


@pytest.fixture
def recipe(model: str, tmp_path: Path) -> Callable[..., Json]:
    def make(name: str, data: bytes, **settings: Any) -> Json:
        (tmp_path / name).write_bytes(data)
        recipe = {
            "model_name_or_path": model,
            "dataset_name": str(tmp_path / name),
            "output_dir": str(tmp_path / "out"),
            "per_device_train_batch_size": 4,
            "use_cpu": True,
            "bf16": False,
            "report_to": "none",
            CHECKPOINTING: False,
            **settings,
        }
        (tmp_path / "recipe.yaml").write_text(
            yaml.safe_dump({**recipe, "campus": {"metrics": ["length"], "stages": 2}})
        )
        return recipe

    return make


DAY = dt.date(2026, 11, 29)
CONVERSATION, SHARED = [chat(*pair) for pair in PAIRS], [shared(*pair) for pair in PAIRS]
WEATHER = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
TEXT_PARTS = [[{"role": "user", "content": [{"type": "text", "text": a}]}, chat(a, s)[1]] for a, s in PAIRS]
CONVERSED = [{"prompt": talk[:1], "completion": talk[1:]} for talk in CONVERSATION]
TOGETHER = [f"{asked}{said}" for asked, said in PAIRS]

TAKEN: dict[str, tuple[str, bytes, Json]] = {
    "ShareGPT": ("a.jsonl", lines([{"conversations": talk, "id": i} for i, talk in enumerate(SHARED)]), {}),
    "messages in an array": (
        "a.json",
        json.dumps([{"messages": talk} for talk in CONVERSATION], indent=1).encode(),
        {},
    ),
    "a byte order mark and Windows line ends": (
        "a.jsonl",
        "\ufeff".encode() + lines([{"messages": talk} for talk in CONVERSATION]).replace(b"\n", b"\r\n"),
        {},
    ),
    "turns on both sides": ("a.jsonl", lines(CONVERSED), {}),
    "prompts in a CSV": ("a.csv", b"\xef\xbb\xbf" + table([{"prompt": a, "completion": s} for a, s in PAIRS]), {}),
    "a parquet with decimals and days": (
        "a.parquet",
        parquet(
            [{"prompt": a, "completion": s, "price": Decimal("0.25"), "day": dt.date(2026, 1, 1)} for a, s in PAIRS]
        ),
        {},
    ),
    "texts by another name": (
        "a.jsonl",
        lines([{"body": t, "text": "no"} for t in TOGETHER]),
        {"dataset_text_field": "body"},
    ),
    "tools as JSON text": (
        "a.jsonl",
        lines([{"messages": talk, "tools": json.dumps(WEATHER)} for talk in CONVERSATION]),
        {},
    ),
    "no tools as JSON text": ("a.jsonl", lines([{"messages": talk, "tools": "null"} for talk in CONVERSATION]), {}),
    "texts beside JSON": ("a.jsonl", lines([{"text": t, "tools": '{"hammer": 1}'} for t in TOGETHER]), {}),
    "texts by the name of a chat": (
        "a.jsonl",
        lines([{"conversations": t} for t in TOGETHER]),
        {"dataset_text_field": "conversations"},
    ),
    "answers alone": ("a.jsonl", lines([{"messages": talk} for talk in CONVERSATION]), {"assistant_only_loss": True}),
    "a column that only later rows have": (
        "a.jsonl",
        lines([{"messages": talk, **({"tools": WEATHER} if i else {})} for i, talk in enumerate(CONVERSATION)]),
        {},
    ),
}


@pytest.mark.parametrize("form", TAKEN)
def test_what_trl_takes_every_door_reads_alike(form: str, recipe: Callable[..., Json]) -> None:
    name, data, settings = TAKEN[form]
    asked = recipe(name, data, **settings)
    (script, training, model, mixture), _ = parse_trl(dict(asked), [])
    trainer = make_trainer(script, training, model, mixture, callbacks=[])
    scoring, _ = score.prepare(trainer, CampusConfig(metrics=["mtld"]))  # as `score` and a run read them
    checked = prepare_rows(asked, read_table(asked["dataset_name"]))  # as `check` reads them
    assert checked is not None
    for texts in (scoring.texts, checked.texts):
        assert [said.splitlines()[-1].endswith(SAID[i]) for i, said in enumerate(texts.response_text)] == [True] * N
    assert list(scoring.texts.response_text) == list(checked.texts.response_text)
    assert scoring.texts.prompt_tokens.tolist() == checked.texts.prompt_tokens.tolist()
    if not name.endswith((".csv", ".parquet")):  # probes are lines, or a Dataset
        probes = load_probes(asked["dataset_name"], None, trainer)
        assert probes.rows.trained.tolist() == scoring.passages.rows.trained.tolist()


ALPACA = [{"instruction": a, "input": "in words" * (i % 2), "output": s} for i, (a, s) in enumerate(PAIRS)]
# what, rows, settings, what is said of them
TOLD: dict[str, tuple[list[Json], str]] = {
    "Alpaca": (ALPACA, r"got the columns instruction, input, output\. Convert"),
    "Alpaca without inputs": ([{"instruction": a, "output": s} for a, s in PAIRS], "columns instruction, output"),
    "Dolly": ([{"instruction": a, "context": "c", "response": s} for a, s in PAIRS], "instruction, context, response"),
    "questions": ([{"question": a, "answer": s} for a, s in PAIRS], "columns question, answer"),
    "a response": ([{"prompt": a, "response": s} for a, s in PAIRS], "columns prompt, response"),
    "preferences": ([{"prompt": a, "chosen": s, "rejected": a} for a, s in PAIRS], "prompt, chosen, rejected"),
    "a prompt beside the chat": (
        [{"prompt": t[0]["content"], "messages": t} for t in CONVERSATION],
        "prompt, messages",
    ),
    "a chat as JSON text": ([{"messages": json.dumps(talk)} for talk in CONVERSATION], "columns messages"),
    "ShareGPT as JSON text": ([{"conversations": json.dumps(talk)} for talk in SHARED], "columns conversations"),
    "ShareGPT by another name": ([{"messages": talk} for talk in SHARED], "columns messages"),
    "a chat by ShareGPT's name": ([{"conversations": talk} for talk in CONVERSATION], "columns conversations"),
    "a chat by a third name": ([{"dialogue": talk} for talk in CONVERSATION], "columns dialogue"),
    "no answer": (
        [{"prompt": a, "completion": s if i else None} for i, (a, s) in enumerate(PAIRS)],
        r"^row 0: `completion` must be in every row, got none \(null or no such field\)",
    ),
    "no messages": (
        [{"messages": None if i == 3 else talk} for i, talk in enumerate(CONVERSATION)],
        "^row 3: `messages` must be in every row",
    ),
    "no turns": (
        [{"messages": [] if i == 3 else talk} for i, talk in enumerate(CONVERSATION)],
        "^row 3: `messages` must be a list of turns with role and content, got an empty one",
    ),
    "a null turn": (
        [{"messages": [None, *talk] if i == 3 else talk} for i, talk in enumerate(CONVERSATION)],
        "^row 3: `messages` must be a list of turns with role and content, got null as turn 0",
    ),
    "null turns alone": ([{"messages": [None]}, *({"messages": t} for t in CONVERSATION)], "^row 0: .* null as turn 0"),
    "null turns of ShareGPT": (
        [{"conversations": [None]}, *({"conversations": t} for t in SHARED)],
        "^row 0: .* from and value, got null as turn 0",
    ),
    "turns without a role": ([{"messages": [*pair]} for pair in PAIRS], "^row 0: .* got texts without a role"),
    "turns as lists of fields": (
        [{"messages": {"role": ["user", "assistant"], "content": [*pair]}} for pair in PAIRS],
        "^row 0: `messages` must be a list of turns, got {'role'",
    ),
    "numbers for texts": ([{"text": i} for i in range(N)], r"^row 0: `text` must be text, got 0\."),
    "a text before a chat": (
        [{"prompt": a, "completion": chat(a, s)[1:]} for a, s in PAIRS],
        "^row 0: prompt and completion must both be texts or both be turns, got a text as prompt",
    ),
    "a text behind a chat": (
        [{"prompt": chat(a, s)[:1], "completion": s} for a, s in PAIRS],
        "must both be texts or both be turns, got a text as completion",
    ),
    "ShareGPT on both sides": (
        [{"prompt": t[:1], "completion": t[1:]} for t in SHARED],
        "^row 0: `prompt` must be a list of turns with role and content, got from and value",
    ),
    "labels of whole rows": (
        [{"prompt": a, "completion": s, "labels": "good"} for a, s in PAIRS],
        "^row 0: `labels` must be a list, one for each token of a row, got 'good'",
    ),
    "a gap in what is not trained": (
        [{"prompt": a, "completion": s, "text": None if i == 5 else a} for i, (a, s) in enumerate(PAIRS)],
        "^row 5: `text` beside prompt and completion must be text, got None",
    ),
    "columns of no known name": ([{"title": a, "said": s} for a, s in PAIRS], "dataset_text_field: title, for example"),
}


@pytest.mark.parametrize("form", TOLD)
def test_what_trl_does_not_take_is_told_how_to_become_what_it_takes(form: str, model: str, tmp_path: Path) -> None:
    rows, message = TOLD[form]
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(rows))
    settings = {"model_name_or_path": model, "output_dir": str(tmp_path / "out")}
    told = why_not(datasets.Dataset.from_list(rows), Shape(), Origin.of(str(path)))
    assert told is not None
    assert re.search(message, told)
    [code] = re.findall(r"`((?:import|datasets)[^`]*)`", told)
    exec(code, {})
    assert f"then write dataset_name: {tmp_path / 'a-trl.jsonl'}." in told
    converted = read_table(tmp_path / "a-trl.jsonl")
    assert why_not(converted, Shape()) is None
    prepared = prepare_rows(settings, converted)
    assert prepared is not None
    if form != "numbers for texts":
        assert all(SAID[int(re.findall(r"\d+", said)[-1]) // 2] in said for said in prepared.texts.response_text)
    of_the_script = why_not(datasets.Dataset.from_list(rows), Shape())
    assert of_the_script is not None
    [code] = re.findall(r"`((?:import|dataset)[^`]*dataset\.[^`]*)`", of_the_script)
    names: Json = {"dataset": datasets.Dataset.from_list(rows)}
    exec(code, names)
    assert why_not(names["dataset"], Shape()) is None


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ([{"said": text, "n": i} for i, text in enumerate(TOGETHER)], {}, "Write dataset_text_field: said, if that is"),
        ([{"messages": t, "tools": "[1"} for t in CONVERSATION], {}, r"`tools` must be a list, or one as JSON text"),
        ([{"messages": [*t, {"content": "x"}]} for t in CONVERSATION], {}, "as turn 2. Correct or remove the row"),
        ([{"messages": 3}], {}, "must be a list of turns, got 3. Correct or remove the row"),
        (
            [{"messages": [{**turn, "role": turn["role"].upper()} for turn in t]} for t in CONVERSATION],
            {"assistant_only_loss": True},
            "got ASSISTANT, USER. Rename the role of the answers. Or drop",
        ),
    ],
)
def test_what_no_call_can_mend_names_row_and_column(rows: list[Json], settings: Json, message: str) -> None:
    told = why_not(datasets.Dataset.from_list(rows), Shape.of(settings))
    assert told is not None
    assert message in told


def test_a_column_of_texts_is_named_and_then_taken() -> None:
    rows = datasets.Dataset.from_list([{"said": text} for text in TOGETHER])
    told = why_not(rows, Shape())
    assert told is not None
    [(setting, value)] = re.findall(r"Write (dataset_text_field): (\w+)", told)
    assert why_not(rows, Shape.of({setting: value})) is None


def test_speakers_with_sharegpts_names_are_warned_of_and_can_be_renamed(
    recipe: Callable[..., Json], tmp_path: Path
) -> None:
    rows = [{"conversations": [{"from": "human", "value": a}, {"from": "gpt", "value": s}]} for a, s in PAIRS]
    asked = recipe("a.jsonl", lines(rows))
    [told] = [f.what for f in check(tmp_path / "recipe.yaml") if "are called human and gpt" in f.what]
    exec(re.findall(r"`(import[^`]*)`", told)[0], {})
    recipe("a-trl.jsonl", (tmp_path / "a-trl.jsonl").read_bytes(), assistant_only_loss=True)
    assert not [f for f in check(tmp_path / "recipe.yaml") if f.severity == "error" or "are called" in f.what]
    asked = recipe("a.jsonl", lines(rows), assistant_only_loss=True)
    [error] = [f.what for f in check(tmp_path / "recipe.yaml") if f.severity == "error"]
    assert "role assistant under assistant_only_loss, got gpt, human. Convert it with" in error
    assert asked["assistant_only_loss"]


def test_turns_without_content_are_warned_of_and_can_be_filled(recipe: Callable[..., Json], tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "system", "content": None if i == 5 else "x"}, *t]} for i, t in enumerate(CONVERSATION)
    ]
    recipe("a.jsonl", lines(rows))
    [told] = [f.what for f in check(tmp_path / "recipe.yaml") if "must have content" in f.what]
    assert told.startswith("row 5: turn 0 of `messages` must have content, got none")
    exec(re.findall(r"`(import[^`]*)`", told)[0], {})
    recipe("a-trl.jsonl", (tmp_path / "a-trl.jsonl").read_bytes())
    assert not [f for f in check(tmp_path / "recipe.yaml") if "must have content" in f.what]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lines(ALPACA), "got the columns instruction, input, output. Convert it with `import datasets"),
        (lines([{"text": "a"}, {"text": 2**70}] * 8), "`text` must be a whole number of at most"),
        (lines([{"text": "a", "id": 2**70}] * 8), "row 0: `id` must be a whole number of at most 9223372036854775807"),
        (lines([{"text": "a", "id": 1}, {"text": "b", "id": "x"}]), "row 1: `id` must be of the same kind in all rows"),
        (lines([{"messages": CONVERSATION[0]}, {"messages": ["x"]}]), "got ['x'] (list of str) after list of dict"),
        (b'{"text": "a \\ud83d"}\n' * 8, "got 'a \\ud83d', which has half a surrogate pair. Take it out of the row"),
        (lines([{"messages": CONVERSATION[0]}, {"messages": [None]}]), "row 1: `messages` must be a list of turns"),
        (lines([{"prompt": "a", "completion": "b"}, {"prompt": "a"}]), "row 1: `completion` must be in every row"),
    ],
)
def test_every_door_says_the_same_before_a_model_is_loaded(
    data: bytes, message: str, recipe: Callable[..., Json], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe("a.jsonl", data)
    said = [finding.what for finding in check(tmp_path / "recipe.yaml") if finding.severity == "error"]
    assert len(said) == 1
    assert message in said[0]

    def loads(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(trl, "SFTTrainer", loads)
    for door in (sft.main, score.main):
        with pytest.raises(DataError) as told:
            door(["--config", str(tmp_path / "recipe.yaml")])
        assert str(told.value) == said[0]
