"""Rows of a large local file lie on the disk once, are what the file says, and the next start finds their tokens."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import pytest

from campus_tune.data import as_dataset as rows
from campus_tune.data.as_dataset import as_dataset, found_again
from campus_tune.words.files import STALE
from tests.run.tiny_run import task_rows, tiny_trainer

ROWS = [{"prompt": f"what is {i} + 1", "completion": f" {i + 1}", "note": None if i else "first"} for i in range(30)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(rows, "MANY", 20)
    return tmp_path / "cache" / rows.FOLDER


def made(items: Any = ROWS) -> Any:
    return found_again(as_dataset(items, "rows.jsonl"))


def test_the_rows_of_the_file_are_mapped_from_the_disk_and_written_once(cache: Path) -> None:
    first = made()
    assert first.to_list() == ROWS
    assert first.column_names == list(ROWS[0])
    [folder] = cache.iterdir()
    assert [Path(file["filename"]).parent for file in first.cache_files] == [folder]
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert made().to_list() == ROWS
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize("change", [{"completion": " 12 "}, {"note": ""}, {"note": "x"}, {"prompt": "what is 11 + 2"}])
def test_any_other_value_is_another_file(change: dict[str, str], cache: Path) -> None:
    made()
    other = [*ROWS[:11], {**ROWS[11], **change}, *ROWS[12:]]
    assert made(other).to_list() == other
    assert len(list(cache.iterdir())) == 2
    assert made().to_list() == ROWS


def test_what_was_made_of_them_is_found_by_the_next_start() -> None:
    calls: list[int] = []

    def tokenise(row: Any) -> Any:
        calls.append(1)
        return {"n": len(row["prompt"])}

    assert as_dataset(ROWS, "x").map(tokenise).cache_files == []
    once = made().map(tokenise, new_fingerprint="ab")
    seen = len(calls)
    assert made().map(tokenise, new_fingerprint="ab").to_list() == once.to_list()
    assert len(calls) == seen
    assert made()._fingerprint == made()._fingerprint


def test_a_trainer_finds_the_tokens_of_an_earlier_one(cache: Path, tmp_path: Path) -> None:
    items = task_rows(24)
    first = tiny_trainer(tmp_path / "a", train=made(items), config=False).train_dataset
    before = sorted(path.name for path in cache.glob("*/cache-*"))
    again = tiny_trainer(tmp_path / "b", train=made(items), config=False).train_dataset
    assert again.to_list() == first.to_list()
    assert before
    assert sorted(path.name for path in cache.glob("*/cache-*")) == before


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-40], lambda data: data[:300] + b"x" + data[301:], lambda _: b""]
)
def test_a_damaged_file_is_written_again(damage: Any, cache: Path) -> None:
    made()
    [path] = cache.glob("*/data-*.arrow")
    whole = path.read_bytes()
    changed = damage(whole)
    path.unlink()  # what is mapped stays as it was
    path.write_bytes(changed)
    assert made().to_list() == ROWS
    [path] = cache.glob("*/data-*.arrow")
    assert path.read_bytes() == whole


def test_what_a_killed_writer_left_is_swept_and_what_another_writes_now_is_not(cache: Path) -> None:
    for name, age in ((".dead.1-ab.tmp", 2 * STALE), (".alive.2-cd.tmp", 0)):
        (cache / name).mkdir(parents=True)
        (cache / name / "data.arrow").write_bytes(b"half")
        os.utime(cache / name, (time.time() - age,) * 2)
    made()
    assert sorted(path.name for path in cache.glob(".*")) == [".alive.2-cd.tmp"]


def test_every_byte_of_the_rows_is_looked_at(cache: Path) -> None:
    """A file in which one letter is another is not these rows."""
    made()
    [path] = cache.glob("*/data-*.arrow")
    data = path.read_bytes()
    place = data.index(b"what is 17 + 1")
    path.unlink()
    path.write_bytes(data[:place] + b"W" + data[place + 1 :])
    assert made().to_list() == ROWS


def test_few_rows_and_a_user_who_wants_no_cache_leave_nothing(cache: Path) -> None:
    assert made(ROWS[:19]).cache_files == []
    datasets.disable_caching()
    try:
        assert made().cache_files == []
    finally:
        datasets.enable_caching()
    assert not cache.exists()


def test_where_nothing_can_be_written_the_rows_stay_in_memory(cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("a file in its place")
    found = made()
    assert found.cache_files == []
    assert found.to_list() == ROWS


def test_several_processes_at_once_have_the_same_rows(cache: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: made().to_list(), range(16)))
    assert all(each == ROWS for each in found)
    assert [path.name for path in cache.iterdir() if path.name.startswith(".")] == []
