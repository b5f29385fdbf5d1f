"""What was read of a large data set is found again at the next start, and never believed when it is damaged or old."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campus_tune.data import prepared as rows
from campus_tune.data import readings, said_hashes
from campus_tune.data.prepared import AnswerTexts, read_rows
from campus_tune.data.readings import Readings
from campus_tune.words.hashing import text_keys
from tests.run.tiny_run import RECIPE, dataset, history_of, tiny_trainer, tokenizer
from tests.run.witness import events

N = 200
IDS = ["input_ids"]


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
    return Readings(folder / "cache", least=0)


def files(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "readings").glob("*"))


def test_a_second_start_reads_a_sample_alone_and_finds_the_rest(data: Any, tmp_path: Path) -> None:
    read = Counter()
    first = of(tmp_path).take("rows", data, read, IDS)
    assert read.rows == N
    again = of(tmp_path)
    second = again.take("rows", data, read, IDS)
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
        keys = AnswerTexts(data, tokenizer()).keys(of(tmp_path))
        np.testing.assert_array_equal(keys, text_keys(list(AnswerTexts(data, tokenizer()))))
    assert len(files(tmp_path)) == 2


def test_what_was_read_in_no_time_and_without_a_folder_is_not_kept(data: Any, tmp_path: Path) -> None:
    for kept in (Readings(tmp_path / "cache", least=3600), Readings(None, least=0), Readings(tmp_path / "cache")):
        assert kept.take("rows", data, Counter(), IDS)["first"][0] == 5
    assert not (tmp_path / "cache").exists()
    assert readings.LEAST == 1.0


def test_other_ranks_write_nothing(data: Any, tmp_path: Path) -> None:
    Readings(tmp_path / "cache", writes=False, least=0).take("rows", data, Counter(), IDS)
    assert not (tmp_path / "cache").exists()


def test_rows_that_are_no_data_set_are_read(tmp_path: Path) -> None:
    items = [{"input_ids": [1, 2]}] * N
    assert of(tmp_path).take("rows", items, lambda part: {"n": np.arange(len(part))}, IDS)["n"][-1] == N - 1
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
    first = of(tmp_path).take("rows", data, Counter(), IDS)
    damage(files(tmp_path)[0])
    again = Readings(tmp_path / "cache", least=1e9)  # by a faster machine
    assert again.take("rows", data, Counter(), IDS)["first"].tolist() == first["first"].tolist()
    assert len(again.warnings) == 1
    assert "the rows were read again, and it is written anew." in again.warnings[0]
    last, read = of(tmp_path), Counter()
    last.take("rows", data, read, IDS)
    assert (read.rows, last.warnings) == (readings.SAMPLE, [])


def test_rows_are_found_by_what_they_hold_wherever_they_lie(data: Any, tmp_path: Path) -> None:
    from datasets import load_from_disk

    of(tmp_path).take("rows", data, Counter(), IDS)
    os.utime(data.cache_files[0]["filename"], (1, 1))
    data.map(lambda row, _: row, with_rank=True).save_to_disk(tmp_path / "moved", num_shards=3)
    in_memory = tokenised()
    assert len({each._fingerprint for each in (data, in_memory)}) == 2
    for same in (data, load_from_disk(tmp_path / "moved"), in_memory, in_memory.add_column("further", list(range(N)))):
        again, read = of(tmp_path), Counter()
        again.take("rows", same, read, IDS)
        assert (read.rows, again.warnings) == (readings.SAMPLE, [])


@pytest.mark.parametrize("row", [0, 1, N // 2, N - 1])
@pytest.mark.parametrize("column", ["input_ids", "labels"])
def test_one_changed_token_or_label_is_another_data_set(row: int, column: str, tmp_path: Path) -> None:
    items = [{**item, "labels": list(item["input_ids"])} for item in tokenised()]
    before = read_rows(dataset(items), readings=of(tmp_path))
    items[row][column][-1] += 1
    again = of(tmp_path)
    found, plain = read_rows(dataset(items), readings=again), read_rows(dataset(items))
    for name, values in vars(plain).items():
        np.testing.assert_array_equal(getattr(found, name), values)
    assert np.flatnonzero(found.trained != before.trained).tolist() == [row]
    assert again.warnings == []  # nothing was found that could have been believed


def test_a_row_less_or_another_sequence_is_another_data_set(data: Any, tmp_path: Path) -> None:
    of(tmp_path).take("rows", data, Counter(), IDS)
    for other in (data.select(range(N - 1)), data.select(range(N - 1, -1, -1))):
        read = Counter()
        of(tmp_path).take("rows", other, read, IDS)
        assert read.rows == len(other)


def test_a_file_that_says_something_else_of_some_rows_is_not_believed(data: Any, tmp_path: Path) -> None:
    def other(part: Any) -> dict[str, Any]:  # as another version of the code would read
        return {"first": Counter()(part)["first"] + 1}

    of(tmp_path).take("rows", data, other, IDS)
    again = of(tmp_path)
    assert again.take("rows", data, Counter(), IDS)["first"][0] == 5
    assert "says something else of some rows than the data set" in again.warnings[0]


def test_a_file_of_other_rows_under_this_name_is_not_believed(data: Any, tmp_path: Path) -> None:
    of(tmp_path).take("rows", data, Counter(), IDS)
    [path] = files(tmp_path)
    other = tokenised(first=6)
    of(tmp_path).take("rows", other, Counter(), IDS)
    [second] = set(files(tmp_path)) - {path}
    second.replace(path)
    again = of(tmp_path)
    assert again.take("rows", data, Counter(), IDS)["first"][0] == 5
    assert "is of another data set" in again.warnings[0]


def test_what_was_not_used_for_longest_goes_and_the_latest_stays(
    data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kept() -> list[str]:
        return [path.name.split("-")[0] for path in files(tmp_path)]

    for i in range(3):
        of(tmp_path).take(f"word{i}", data, Counter(), IDS)
        os.utime(next(path for path in files(tmp_path) if path.name.startswith(f"word{i}")), (i + 1, i + 1))
    monkeypatch.setattr(readings, "ROOM", int(3.5 * files(tmp_path)[0].stat().st_size))
    of(tmp_path).take("word0", data, Counter(), IDS)  # used again
    of(tmp_path).take("word3", data, Counter(), IDS)
    assert kept() == ["word0", "word2", "word3"]
    monkeypatch.setattr(readings, "ROOM", 1)
    of(tmp_path).take("word4", data, Counter(), IDS)
    assert kept() == ["word4"]


def test_what_a_killed_writer_left_is_swept_and_what_another_writes_now_is_not(data: Any, tmp_path: Path) -> None:
    of(tmp_path).take("rows", data, Counter(), IDS)
    left, young = (tmp_path / "cache" / "readings" / f".rows-{name}.bin.1-ab.tmp" for name in ("old", "young"))
    for path in (left, young):
        path.write_bytes(b"half")
    os.utime(left, (1, 1))
    of(tmp_path).take("more", data, Counter(), IDS)
    assert (left.exists(), young.exists()) == (False, True)


def test_a_kill_while_writing_leaves_nothing_to_believe(
    data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: Path) -> Path:
        raise Killed

    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(Killed):
        of(tmp_path).take("rows", data, Counter(), IDS)
    monkeypatch.undo()
    again, read = of(tmp_path), Counter()
    again.take("rows", data, read, IDS)
    assert (read.rows, again.warnings) == (N, [])


def test_several_processes_may_read_and_write_at_once(data: Any, tmp_path: Path) -> None:
    """Each of them ends with the same arrays, whoever was first, and none is warned."""
    from concurrent.futures import ThreadPoolExecutor

    def start(_: int) -> tuple[list[int], list[str]]:
        kept = of(tmp_path)
        return kept.take("rows", data, Counter(), IDS)["first"].tolist(), kept.warnings

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(start, range(32)))
    assert all(each == (found[0][0], []) for each in found)
    assert len(files(tmp_path)) == 1


def test_a_folder_that_cannot_be_written_is_a_warning(data: Any, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "readings").write_text("a file")
    kept = of(tmp_path)
    assert len(kept.take("rows", data, Counter(), IDS)["first"]) == N
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
    monkeypatch.setattr(readings, "LEAST", 0.0)
    monkeypatch.setattr(readings, "SAMPLE", 4)
    assert train("first", str(tmp_path / "cache")) == plain
    assert train("second", str(tmp_path / "cache")) == plain
    assert asked == [24, 24, 4]
    assert [path.name.split("-")[0] for path in files(tmp_path)] == ["rows", "texts"]  # they came as tokens


def test_the_map_finds_what_the_rows_say_and_is_the_same_where_that_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "LEAST", 0.0)
    asked = []
    read = said_hashes.text_keys
    monkeypatch.setattr(said_hashes, "text_keys", lambda texts: asked.append(len(texts)) or read(texts))

    def train(name: str) -> tuple[bytes, list[str]]:
        tiny_trainer(tmp_path / name, n=20, config={**RECIPE, "scores": str(tmp_path / "cache")}).train()
        warned = [line for event in events(tmp_path / name, "warnings") for line in event["warnings"]]
        return (tmp_path / name / "curriculum/book/map.parquet").read_bytes(), warned

    first, _ = train("first")
    [path] = (path for path in files(tmp_path) if path.name.startswith("said-"))
    assert train("again")[0] == first
    assert asked == [20, 20]  # of a sample, which is all rows here
    flip(-3)(path)
    damaged, warned = train("damaged")
    assert damaged == first
    assert f"`{path}` is damaged" in warned[-1]
