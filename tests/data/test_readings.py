"""What was read of a large data set is found again at the next start, and never believed when it is damaged or old."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campus_tune.data import prepared as rows
from campus_tune.data import readings
from campus_tune.data.prepared import Answers, read_rows
from campus_tune.data.readings import Readings
from campus_tune.words.hashing import text_keys
from tests.run.tiny_run import RECIPE, dataset, history_of, tiny_trainer, tokenizer
from tests.run.witness import events

N = 200


def tokenised(n: int = N, first: int = 5) -> Any:
    return dataset([{"input_ids": [first + (i + k) % 300 for k in range(3 + i % 9)]} for i in range(n)])


@pytest.fixture
def data(tmp_path: Path) -> Any:
    """Token rows on the disk."""
    from datasets import load_from_disk

    tokenised().save_to_disk(tmp_path / "data")
    return load_from_disk(tmp_path / "data")


class Counter:
    """A reader that counts the rows it is asked for."""

    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, part: Any) -> dict[str, Any]:
        self.rows += len(part)
        return {"first": np.array([ids[0] for ids in part["input_ids"]], dtype=np.int64)}


def of(folder: Path) -> Readings:
    return Readings(folder / "cache", least=N)


def files(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "readings").glob("*"))


def test_a_second_start_reads_a_sample_alone_and_finds_the_rest(data: Any, tmp_path: Path) -> None:
    read = Counter()
    first = of(tmp_path).take("rows", data, read)
    assert read.rows == N
    again = of(tmp_path)
    second = again.take("rows", data, read)
    assert read.rows == N + readings.SAMPLE
    assert second["first"].tolist() == first["first"].tolist()
    assert again.warnings == []
    assert files(tmp_path)[0].stat().st_size < 8 * N + 2000


def test_token_rows_and_text_keys_are_the_same_found_or_read(data: Any, tmp_path: Path) -> None:
    plain = read_rows(data)
    for _ in range(2):
        found = read_rows(data, readings=of(tmp_path))
        for name, values in vars(plain).items():
            np.testing.assert_array_equal(getattr(found, name), values)
        keys = Answers(data, tokenizer()).keys(of(tmp_path))
        np.testing.assert_array_equal(keys, text_keys(list(Answers(data, tokenizer()))))
    assert len(files(tmp_path)) == 2


def test_below_a_million_rows_and_without_a_folder_nothing_is_kept(data: Any, tmp_path: Path) -> None:
    for kept in (Readings(tmp_path / "cache"), Readings(None, least=1), Readings(tmp_path / "cache", least=N + 1)):
        assert kept.take("rows", data, Counter())["first"][0] == 5
    assert not (tmp_path / "cache").exists()
    assert readings.MANY == 1_000_000


def test_other_ranks_write_nothing(data: Any, tmp_path: Path) -> None:
    Readings(tmp_path / "cache", writes=False, least=1).take("rows", data, Counter())
    assert not (tmp_path / "cache").exists()


def test_rows_that_are_no_data_set_are_read(tmp_path: Path) -> None:
    items = [{"input_ids": [1, 2]}] * N
    assert of(tmp_path).take("rows", items, lambda part: {"n": np.arange(len(part))})["n"][-1] == N - 1
    assert not (tmp_path / "cache").exists()


def flip(place: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[place] ^= 4
        path.write_bytes(content)

    return damage


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    "damage",
    [
        *(flip(place) for place in (2, 40, -1, -8 * N, -5 * N)),
        cut_off,
        lambda path: path.write_bytes(path.read_bytes() + b"x"),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\xff\n"),
        lambda path: path.write_bytes(b"[1]\n"),
    ],
)
def test_a_damaged_file_is_found_told_and_written_anew(
    damage: Callable[[Path], None], data: Any, tmp_path: Path
) -> None:
    first = of(tmp_path).take("rows", data, Counter())
    damage(files(tmp_path)[0])
    again = of(tmp_path)
    assert again.take("rows", data, Counter())["first"].tolist() == first["first"].tolist()
    assert len(again.warnings) == 1
    assert "the rows were read again, and it is written anew." in again.warnings[0]
    last, read = of(tmp_path), Counter()
    last.take("rows", data, read)
    assert (read.rows, last.warnings) == (readings.SAMPLE, [])


def test_a_reading_of_other_files_is_stale(data: Any, tmp_path: Path) -> None:
    of(tmp_path).take("rows", data, Counter())
    os.utime(data.cache_files[0]["filename"], (1, 1))
    again, read = of(tmp_path), Counter()
    again.take("rows", data, read)
    assert read.rows == N
    assert "is of other files" in again.warnings[0]


def test_other_rows_under_the_same_fingerprint_are_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "data_fingerprint", lambda _: "always the same")
    of(tmp_path).take("rows", tokenised(), Counter())
    again = of(tmp_path)
    assert again.take("rows", tokenised(first=6), Counter())["first"][0] == 6
    assert "says something else of some rows than the data set" in again.warnings[0]


def test_the_oldest_readings_go(data: Any, tmp_path: Path) -> None:
    for i in range(readings.KEPT + 3):
        of(tmp_path).take(f"word{i}", data, Counter())
    assert len(files(tmp_path)) == readings.KEPT


def test_a_folder_that_cannot_be_written_is_a_warning(data: Any, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "readings").write_text("a file")
    kept = of(tmp_path)
    assert len(kept.take("rows", data, Counter())["first"]) == N
    assert "is not kept, and the next start reads them again" in kept.warnings[-1]


def test_a_run_that_finds_its_reading_trains_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import load_from_disk

    lengths = [{"input_ids": [5 + (i * k) % 300 for k in range(1, 4 + i % 9)]} for i in range(24)]
    dataset(lengths).save_to_disk(tmp_path / "data")
    read, asked = rows._read_arrays, []
    monkeypatch.setattr(rows, "_read_arrays", lambda part: asked.append(len(part)) or read(part))

    def train(name: str, scores: str) -> Any:
        config = {**RECIPE, "scores": scores}
        trainer = tiny_trainer(tmp_path / name, train=load_from_disk(tmp_path / "data"), config=config)
        trainer.train()
        return [line["loss"] for line in history_of(trainer)], [
            event["rows_digest"] for event in events(tmp_path / name, "decision")
        ]

    plain = train("plain", "none")
    monkeypatch.setattr(readings, "MANY", 20)
    monkeypatch.setattr(readings, "SAMPLE", 4)
    assert train("first", str(tmp_path / "cache")) == plain
    assert train("second", str(tmp_path / "cache")) == plain
    assert asked == [24, 24, 4]
    assert [path.name.split("-")[0] for path in files(tmp_path)] == ["rows", "texts"]
