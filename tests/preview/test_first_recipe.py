"""A first recipe: what it says is read by the reader, whatever the rows, the model and the machine are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campus_tune.data.split import PROBES, TEST, TRAIN, split
from campus_tune.demo.tiny import write_tiny
from campus_tune.preview.first_look import FirstLook, first_look
from campus_tune.preview.first_recipe import (
    LENGTHS,
    Machine,
    batches,
    first_recipe,
    learning_rate,
    max_length,
    next_steps,
    scalar,
)
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.trl_yaml import unknown_in
from campus_tune.words.strict_yaml import read_yaml
from campus_tune.words.types import IntArray, Json

CPU, GPU, OLD_GPU = (
    Machine(False, False, 10**8, 2048),
    Machine(True, True, 4 * 10**9, 2048),
    Machine(True, False, None, None),
)
FILES = {TRAIN: "data/train.jsonl", PROBES: "data/probes.jsonl", TEST: "data/test.jsonl"}


def look_at(n: int = 200, **more: Any) -> FirstLook:
    rows = [{"prompt": f"ask {i} w{i}", "completion": f"say v{i}", "domain": "ab"[i % 2], **more} for i in range(n)]
    return first_look("rows of mine.jsonl", rows)


def written(tmp_path: Path, look: FirstLook | None = None, **how: Any) -> tuple[str, Json]:
    look = look or look_at()
    given: dict[str, Any] = {
        "model": "org/model",
        "machine": CPU,
        "tokens": np.array([50] * 99 + [300]),
        "files": FILES,
        "cut": split(look.texts, look.said.prompts, look.domains),
        "recipe": Path("mine.yaml"),
        "lora": True,
    }
    text = first_recipe(look, **{**given, **how})
    (tmp_path / "recipe.yaml").write_text(text, "utf-8")
    return text, read_yaml(tmp_path / "recipe.yaml")


@pytest.mark.parametrize("lora", [True, False])
@pytest.mark.parametrize("machine", [CPU, GPU, OLD_GPU])
@pytest.mark.parametrize("files", [FILES, {TRAIN: "rows.jsonl"}])
def test_every_recipe_is_one_that_the_reader_takes(
    tmp_path: Path, lora: bool, machine: Machine, files: dict[str, str]
) -> None:
    text, settings = written(tmp_path, lora=lora, machine=machine, files=files)
    block, compare = settings.pop("campus"), settings.pop("compare", None)
    config = CampusConfig.from_mapping(block)
    assert unknown_in(settings) == []
    assert config.selector == "shuffle"  # the default: what there is evidence for
    assert (config.probes is None, compare is None) == (PROBES not in files, TEST not in files)
    assert settings.get("use_peft", False) == lora
    assert settings["output_dir"] == "runs/mine"
    assert settings.get("bf16", True) == (machine.gpu and machine.bf16)
    assert all(len(line) <= 140 for line in text.splitlines())


def test_the_domain_column_is_said_where_it_is_not_the_usual_one(tmp_path: Path) -> None:
    _, usual = written(tmp_path)
    assert usual["campus"]["probes"] == {"path": FILES[PROBES]}
    _, other = written(tmp_path, look_at().with_column("completion"))
    assert other["campus"]["probes"] == {"path": FILES[PROBES], "domain_column": "completion"}
    assert other["compare"]["test"]["domain_column"] == "completion"
    _, none = written(tmp_path, look_at().with_column("none"))
    assert none["compare"]["test"]["domain_column"] is None
    _, unprobed = written(tmp_path, look_at().with_column("completion"), files={TRAIN: "rows.jsonl"})
    assert unprobed["campus"] == {"within": "completion"}


def test_texts_and_chats_get_the_lines_that_are_theirs(tmp_path: Path) -> None:
    text, settings = written(tmp_path, first_look("rows", [{"body": f"said w{i}"} for i in range(40)]))
    assert settings["dataset_text_field"] == "body"
    assert "assistant_only_loss" not in text
    turns = [[{"role": "user", "content": f"a w{i}"}, {"role": "assistant", "content": f"b{i}"}] for i in range(40)]
    text, _ = written(tmp_path, first_look("rows", [{"messages": chat} for chat in turns]))
    assert "# assistant_only_loss: true" in text


def test_few_rows_get_a_budget_and_a_tolerance_that_fit_them(tmp_path: Path) -> None:
    _, few = written(tmp_path)
    _, many = written(tmp_path, look_at(8000))
    assert (few["campus"]["budget"], "budget" in many["campus"]) == (0.2, False)
    cut_in_many = look_at(8000)
    cut = split(cut_in_many.texts, cut_in_many.said.prompts, cut_in_many.domains, probes=400, test=0)
    _, dear = written(tmp_path, cut_in_many, cut=cut)
    assert dear["campus"]["budget"] == 0.2  # many probes
    assert (few["compare"]["tokens_tolerance"], "tokens_tolerance" in many["compare"]) == (0.05, False)


@pytest.mark.parametrize(
    ("tokens", "context", "length", "said"),
    [
        (np.array([50] * 99 + [300]), 2048, 128, "cuts 1.0% of the rows, the longest has 300"),
        (np.array([50] * 90 + [300] * 10), 2048, 512, "cuts none, the longest has 300"),
        (np.array([9000] * 10), 2048, 2048, "cuts 100.0% of the rows, the longest has 9000"),
        (np.array([90_000] * 10), None, LENGTHS[-1], "cuts 100.0% of the rows"),
        (None, 512, 512, "a guess, for the tokenizer could not be asked"),
        (None, None, 1024, "a guess"),
    ],
)
def test_the_length_cuts_hardly_any_row_and_says_how_many(
    tmp_path: Path, tokens: IntArray | None, context: int | None, length: int, said: str
) -> None:
    assert max_length(tokens, context) == length
    text, settings = written(tmp_path, tokens=tokens, machine=Machine(False, False, None, context))
    assert settings["max_length"] == length
    assert said in text


def test_guesses_go_by_the_size_of_the_data_and_of_the_model() -> None:
    assert [batches(n, CPU) for n in (799, 800, 400, 399, 10)] == [(8, 1), (8, 2), (8, 1), (4, 1), (4, 1)]
    assert batches(10**6, GPU) == (2, 8)
    assert [learning_rate(lora=True, parameters=size) for size in (None, 10**8, 2 * 10**10)] == ["2.0e-4"] * 2 + [
        "1.0e-4"
    ]
    assert [learning_rate(lora=False, parameters=size) for size in (None, 10**8, 7 * 10**9)] == ["2.0e-5"] * 2 + [
        "1.0e-5"
    ]


@pytest.mark.parametrize("text", ["a b", "no", "12", "1e5", "x: y", "x #y", "'q'", "é", "-a", "~", "a:", "null", "0x1"])
def test_any_text_comes_back_from_the_yaml_as_it_was(tmp_path: Path, text: str) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(f"a: {scalar(text)} # and a comment\nb: {{path: {scalar(text)}, n: 1}}\n", "utf-8")
    assert read_yaml(path) == {"a": text, "b": {"path": text, "n": 1}}


def test_the_next_steps_are_commands_that_there_are() -> None:
    words = [command.split() for _, command in next_steps(Path("a/mine.yaml"), judged=True)]
    assert [one[:2] for one in words] == [["campus-tune", name] for name in ("check", "sft", "report", "compare")]
    assert words[2][2] == "a/runs/mine"
    assert words[3][-2:] == ["--out", "a/runs/mine-compare"]
    steps = dict(next_steps(Path("my rows.yaml"), judged=False))
    assert (len(steps), steps["train"]) == (3, "campus-tune sft --config 'my rows.yaml'")


def test_this_machine_and_a_model_are_asked(tmp_path: Path) -> None:
    write_tiny(tmp_path / "tiny")
    here = Machine.here(str(tmp_path / "tiny"))
    assert here.parameters is not None
    assert 10_000 < here.parameters < 100_000
    assert here.context == 512
    nowhere = Machine.here(str(tmp_path / "nowhere"))
    assert (nowhere.parameters, nowhere.context) == (None, None)
