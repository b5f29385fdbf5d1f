"""The rows of a mixture: TRL's own, and the domain of their entry where no column says it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trl import DatasetMixtureConfig, get_dataset

from campus_tune.model.mixed_rows import load_mixture
from campus_tune.recipe.mixture import NamedDataset
from campus_tune.words.errors import DataError
from campus_tune.words.types import Json


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("songs", [{"text": f"song {i}"} for i in range(30)])
    write("facts", [{"text": f"fact {i}"} for i in range(20)])
    write("told", [{"text": f"told {i}", "domain": "ab"[i % 2]} for i in range(10)])
    Path("folder").mkdir()
    write("folder/train", [{"text": f"folder {i}"} for i in range(6)])
    write("folder/train_sft", [{"text": f"sft {i}"} for i in range(5)])


def write(name: str, rows: list[Json]) -> None:
    Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def mixture(*entries: Json, **more: Any) -> DatasetMixtureConfig:
    return DatasetMixtureConfig(datasets=[NamedDataset(**entry) for entry in entries], **more)


def file(name: str, **more: Any) -> Json:
    return {"path": "json", "data_files": f"{name}.jsonl", **more}


def of_trl(*entries: Json, **more: Any) -> Any:
    return get_dataset(DatasetMixtureConfig(datasets=list(entries), **more))


@pytest.mark.parametrize(
    "entries", [(file("songs"), file("facts")), ({"path": "songs.jsonl"}, {"path": "./facts.jsonl"})]
)
def test_rows_are_of_the_domain_that_their_entry_is_called(entries: tuple[Json, ...]) -> None:
    rows = load_mixture(mixture(*entries))["train"]
    assert rows["domain"][:] == ["songs"] * 30 + ["facts"] * 20
    assert rows["text"][:] == [f"song {i}" for i in range(30)] + [f"fact {i}" for i in range(20)]


def test_a_column_of_domains_stays_unless_the_entry_says_its_own() -> None:
    rows = load_mixture(mixture(file("told"), file("facts")))["train"]
    assert rows["domain"][:] == list("ab" * 5) + ["facts"] * 20
    rows = load_mixture(mixture(file("told", domain="mine"), file("facts")))["train"]
    assert rows["domain"][:] == ["mine"] * 10 + ["facts"] * 20


@pytest.mark.parametrize(
    ("entries", "more"),
    [
        ([file("told"), file("told")], {}),
        ([file("told", fraction=0.25), file("told", fraction=0.75)], {"test_split_size": 0.2}),
        ([file("songs")], {}),
        ([file("songs"), file("facts")], {"streaming": True}),
    ],
)
def test_a_mixture_that_needs_no_domains_is_trls_own(entries: list[Json], more: Json) -> None:
    np.random.seed(0)  # noqa: NPY002  # which `train_test_split` draws from
    ours = load_mixture(mixture(*entries, **more))
    np.random.seed(0)  # noqa: NPY002
    theirs = of_trl(*entries, **more)
    assert list(ours) == list(theirs)
    for split in theirs:
        assert list(ours[split]) == list(theirs[split])


@pytest.mark.parametrize("more", [{}, {"test_split_size": 0.2}, {"test_split_size": 5}])
@pytest.mark.parametrize("fractions", [(None, None), (0.5, 0.5), (3, 1), (0.9, 0.3)])
def test_but_for_the_column_a_mixture_is_what_trl_makes_of_it(more: Json, fractions: tuple[float | None, ...]) -> None:
    entries = [file(name, fraction=part) for name, part in zip(("songs", "facts"), fractions, strict=True)]
    np.random.seed(0)  # noqa: NPY002
    ours = load_mixture(mixture(*entries, **more))
    np.random.seed(0)  # noqa: NPY002
    theirs = of_trl(*entries, **more)
    assert {split: rows["text"][:] for split, rows in ours.items()} == {
        split: rows["text"][:] for split, rows in theirs.items()
    }
    for rows in ours.values():
        assert [{"song": "songs", "fact": "facts"}[text.split()[0]] for text in rows["text"]] == rows["domain"][:]


def test_one_entry_may_be_a_local_file_or_say_its_domain() -> None:
    assert load_mixture(mixture({"path": "songs.jsonl"}))["train"].column_names == ["text"]
    assert set(load_mixture(mixture(file("songs", domain="mine")))["train"]["domain"]) == {"mine"}


def test_a_data_sets_own_split_is_read_by_its_name_and_in_part() -> None:
    rows = load_mixture(mixture({"path": "folder", "split": "train[:2]"}, file("songs")))["train"]
    assert rows["text"][:2] == ["folder 0", "folder 1"]
    assert rows["domain"][1:3] == ["folder", "songs"]


def test_columns_are_chosen_before_the_domain_is_added() -> None:
    write("wide", [{"text": f"w {i}", "extra": i, "domain": "x"} for i in range(4)])
    rows = load_mixture(mixture(file("wide", columns=["text"]), file("songs")))["train"]
    assert (rows.column_names, rows["domain"][0]) == (["text", "domain"], "wide")


def test_columns_of_different_kinds_are_told_with_what_to_write() -> None:
    write("odd", [{"text": {"said": i}} for i in range(4)])
    with pytest.raises(
        DataError, match=r"`datasets:` must have entries whose columns are of the same kinds.*columns: \["
    ):
        load_mixture(mixture(file("odd"), file("songs")))
    write("mixed", [{"text": f"w {i}", "id": {"n": i}} for i in range(4)])
    write("other", [{"text": f"w {i}", "id": "x"} for i in range(4)])
    with pytest.raises(DataError, match="same kinds"):
        load_mixture(mixture(file("mixed"), file("other")))
    asked = [file(name, columns=["text"]) for name in ("mixed", "other")]  # as it advises
    assert len(load_mixture(mixture(*asked))["train"]) == 8


def test_fractions_of_some_entries_alone_are_refused() -> None:
    with pytest.raises(DataError, match="must have a `fraction` in all entries or in none, got 1 of 2"):
        load_mixture(mixture(file("songs", fraction=0.5), file("facts")))
