"""The entries of a mixture: what they are called, and what is wrong with their keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from campus_tune.recipe.mixture import NamedDataset, entry_names, read_entries
from campus_tune.recipe.trl_yaml import parse_trl
from campus_tune.words.errors import RecipeError
from campus_tune.words.library_warnings import hushed
from campus_tune.words.types import Json

HERE: Json = {"output_dir": "x", "use_cpu": True, "bf16": False}


@pytest.fixture(autouse=True)
def _hushed() -> Iterator[None]:
    with hushed():  # TRL about its own defaults
        yield


def names(*entries: Json) -> list[str]:
    return entry_names([NamedDataset(**entry) for entry in entries])


@pytest.mark.parametrize(
    ("entries", "called"),
    [
        ([{"path": "openai/gsm8k"}, {"path": "./data/chats.jsonl.gz"}], ["gsm8k", "chats"]),
        ([{"path": "openai/gsm8k", "domain": "math"}, {"path": "math"}], ["math", "math"]),  # as it was written
        ([{"path": "a/x", "name": "de"}, {"path": "b/x", "name": "fr"}], ["x/de", "x/fr"]),
        ([{"path": "x", "split": "early"}, {"path": "x", "split": "late"}], ["x/early", "x/late"]),
        ([{"path": "x", "name": "n", "split": "a"}, {"path": "x", "name": "n", "split": "b"}], ["x/n/a", "x/n/b"]),
        ([{"path": "x"}, {"path": "x"}], ["x", "x"]),  # the same rows are one domain
        ([{"path": "math/train.jsonl"}, {"path": "code/train.jsonl"}], ["math/train", "code/train"]),
        (
            [{"path": "a/train.csv"}, {"path": "a/train.csv"}, {"path": "b/train.csv"}],
            ["a/train", "a/train", "b/train"],
        ),
        ([{"path": "a/m/t.csv"}, {"path": "b/m/t.csv"}, {"path": "c"}], ["a/m/t/train", "b/m/t/train", "c"]),
        (
            [{"path": "json", "data_files": "a/code.jsonl"}, {"path": "csv", "data_files": ["b/talk.csv"]}],
            ["code", "talk"],
        ),
        (
            [{"path": "json", "data_files": {"train": "z/code.jsonl"}}, {"path": "parquet", "data_dir": "b/talk"}],
            ["code", "talk"],
        ),
        ([{"path": "text"}, {"path": "/"}], ["text", "/"]),
    ],
)
def test_an_entry_is_called_as_its_path_ends_and_by_more_where_two_end_alike(
    entries: list[Json], called: list[str]
) -> None:
    assert names(*entries) == called


def test_entries_are_read_with_the_split_of_the_recipe() -> None:
    given = {"datasets": [{"path": "a"}, {"path": "b", "split": "test", "domain": "c"}]}
    entries, problems = read_entries({**given, "dataset_train_split": "train_sft"})
    assert problems == []
    assert [(entry.split, entry.domain) for entry in entries] == [("train_sft", None), ("test", "c")]
    assert [entry.split for entry in read_entries(given)[0]] == ["train", "test"]


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (
            {"path": "a", "domian": "b"},
            "`datasets: 0: domian` must be one of path, .* Did you mean 'domain'",
        ),
        ({"name": "a"}, "`datasets: 0: path` must be a text, got None"),
        ({"path": "a", "domain": 3}, "`datasets: 0: domain` must be a text, got 3"),
        (
            {"path": "a.jsonl", "split": "train[:9]"},
            r"`datasets: 0: split` must be left out where `path` is a file, got 'train\[:9\]'.* data_files: a.jsonl",
        ),
        ({"path": "a", "split": ["train"]}, "`datasets: 0: split` must be a text"),
    ],
)
def test_a_key_that_is_wrong_is_named_with_its_entry(entry: Json, told: str) -> None:
    _, problems = parse_trl({"datasets": [entry], **HERE}, [])
    assert len(problems) == 1
    with pytest.raises(RecipeError, match=told):
        raise RecipeError(problems)


def test_the_domain_is_known_and_the_rest_reaches_trl_as_it_was() -> None:
    entries = [{"path": "a", "domain": "math", "fraction": 0.5}, {"path": "b", "columns": ["text"], "fraction": 0.5}]
    (_, _, _, mixture), problems = parse_trl({"datasets": entries, "test_split_size": 0.1, **HERE}, [])
    found: list[Any] = mixture.datasets
    assert problems == []
    assert [(one.path, one.domain, one.fraction, one.columns) for one in found] == [
        ("a", "math", 0.5, None),
        ("b", None, 0.5, ["text"]),
    ]
    assert mixture.test_split_size == 0.1


@pytest.mark.parametrize("odd", ["a", {"path": "a"}, ["a"], 3])
def test_what_is_no_list_of_entries_is_told_as_of_any_option(odd: object) -> None:
    try:
        _, problems = parse_trl({"datasets": odd, **HERE}, [])
    except RecipeError as error:
        problems = error.problems
    assert problems


@pytest.mark.parametrize("flags", [["--dataset_name", "b.jsonl"], ["--dataset_name=b.jsonl"]])
def test_rows_that_a_mixture_would_push_aside_silently_are_refused(flags: list[str]) -> None:
    _, problems = parse_trl({"datasets": [{"path": "a"}], **HERE}, flags)
    assert [problem.split(",")[0] for problem in problems] == [
        "`--data` (--dataset_name) must be left out where the recipe lists `datasets:`"
    ]
    _, problems = parse_trl({"dataset_name": "a", **HERE}, flags)
    assert problems == []
