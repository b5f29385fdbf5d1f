"""Shards on disk: what is damaged is never believed, and nobody who writes at the same time loses anything."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from campus_tune.scores import shards
from campus_tune.scores.cache import CacheKey, ScoreCache
from campus_tune.scores.shards import Shard, ShardFolder, merged
from campus_tune.words.hashing import sha256

ROOT = Path(__file__).parents[2]
KEY = CacheKey("loss", {"reduce": "mean"}, model="a1")
ROWS = np.arange(40, dtype=np.uint64)


def filled(folder: Path, n_shards: int = 4) -> ScoreCache:
    """Ten rows per shard, each row's score is its content key plus one."""
    cache = ScoreCache(folder)
    for i in range(n_shards):
        content = np.arange(10 * i, 10 * i + 10, dtype=np.uint64)
        cache.write(KEY, content, {"nll": content + 1.0, "tokens": content.astype(np.int64)}, {"shard": i})
    return cache


def files(folder: Path, pattern: str = "*/shard-*.parquet") -> list[Path]:
    return sorted(folder.glob(pattern))


def child(code: str, folder: Path) -> subprocess.Popen[str]:
    """Another process that works on the same cache."""
    head = f"""
from pathlib import Path
import numpy as np
from campus_tune.scores import shards
from campus_tune.scores.cache import CacheKey, ScoreCache
KEY, FOLDER = {KEY!r}, Path({str(folder)!r})
"""
    return subprocess.Popen([sys.executable, "-c", head + code], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def fill_with_garbage(path: Path) -> None:
    path.write_bytes(b"PAR1" + bytes(range(256)) * 4 + b"PAR1")


def flip_a_bit_of_the_data(path: Path) -> None:
    data = bytearray(path.read_bytes())
    place = data.index(np.float64(12.0).tobytes())  # a score of the second shard: still a number afterwards
    data[place + 2] ^= 1
    path.write_bytes(bytes(data))


def flip_a_bit_of_the_footer(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(bytes(data))


def take_the_bytes_of_another_key(path: Path) -> None:
    other = ScoreCache(path.parents[2] / "other")
    other.write(CacheKey("loss", model="c3"), ROWS, {"nll": np.zeros(40), "tokens": np.zeros(40, dtype=np.int64)})
    assert other.folder is not None
    path.write_bytes(files(other.folder)[0].read_bytes())


def rewrite_with_another_score(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.set_column(1, "nll", [np.zeros(len(table))]), path)


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        empty,
        fill_with_garbage,
        flip_a_bit_of_the_data,
        flip_a_bit_of_the_footer,
        take_the_bytes_of_another_key,
        rewrite_with_another_score,
    ],
)
def test_a_damaged_shard_is_found_put_aside_and_its_rows_alone_are_scored_again(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    cache = filled(tmp_path / "scores")
    victim = files(tmp_path / "scores")[1]
    damage(victim)
    for _ in range(2):  # the second time it is out of the way
        known, columns = cache.read(KEY, ROWS)
        assert np.flatnonzero(~known).tolist() == list(range(10, 20))
        np.testing.assert_array_equal(columns["nll"], np.where(known, ROWS + 1.0, 0.0))
    assert not victim.exists()
    assert victim.with_name(f"{victim.name}.damaged").exists()
    assert len(cache.warnings) == 1
    assert f"`{victim}` is damaged (its checksum is another): it is left out and its rows" in cache.warnings[0]
    assert cache.about(KEY) == [{"shard": 0}, {"shard": 2}, {"shard": 3}]
    cache.write(KEY, ROWS[10:20], {"nll": ROWS[10:20] + 1.0, "tokens": ROWS[10:20].astype(np.int64)})
    assert cache.read(KEY, ROWS)[0].all()


def test_a_whole_shard_of_another_key_under_its_own_name_is_not_believed(tmp_path: Path) -> None:
    cache = filled(tmp_path, n_shards=1)
    cache.write(CacheKey("loss", model="c3"), ROWS, {"nll": np.zeros(40), "tokens": np.zeros(40, dtype=np.int64)})
    mine, other = tmp_path / KEY.folder_name, tmp_path / CacheKey("loss", model="c3").folder_name
    stranger = files(other, "shard-*")[0]
    stranger.rename(mine / stranger.name)
    known, columns = cache.read(KEY, ROWS)
    assert known.sum() == 10
    assert columns["nll"][5] == 6.0
    assert len(cache.warnings) == 1
    assert f"`{mine / stranger.name}` is damaged (it belongs to another key): " in cache.warnings[0]


def test_what_has_a_checksum_and_is_no_shard_is_put_aside_too(tmp_path: Path) -> None:
    cache = filled(tmp_path, n_shards=1)
    data = b"not parquet"
    path = tmp_path / KEY.folder_name / f"shard-00000007-{sha256(data, 16)}.parquet"
    path.write_bytes(data)
    assert cache.read(KEY, ROWS)[0].sum() == 10
    assert "is damaged (it is no shard of scores, " in cache.warnings[0]


def test_a_file_under_a_foreign_name_is_not_believed(tmp_path: Path) -> None:
    cache = filled(tmp_path, n_shards=1)
    first = files(tmp_path)[0]
    (first.parent / "shard-copy.parquet").write_bytes(first.read_bytes())
    assert cache.read(KEY, ROWS)[0].sum() == 10
    assert len(cache.warnings) == 1


def test_without_writing_a_damaged_shard_stays_and_is_named_once(tmp_path: Path) -> None:
    filled(tmp_path)
    victim = files(tmp_path)[0]
    truncate(victim)
    cache = ScoreCache(tmp_path, writes=False)
    for _ in range(3):
        assert cache.read(KEY, ROWS)[0].sum() == 30
    assert victim.exists()
    assert len(cache.warnings) == 1


def test_a_shard_that_the_disk_does_not_give_out_is_left_out_and_left_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = filled(tmp_path)
    victim, read_bytes = files(tmp_path)[2], Path.read_bytes

    def fail(path: Path) -> bytes:
        if path == victim:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", fail)
    assert np.flatnonzero(~cache.read(KEY, ROWS)[0]).tolist() == list(range(20, 30))
    assert cache.warnings == [f"`{victim}` cannot be read (Input/output error): its rows are scored again."]
    monkeypatch.setattr(shards, "MANY", 2)  # merging the others does not remove it
    cache.write(KEY, ROWS[20:30], {"nll": ROWS[20:30] + 1.0, "tokens": ROWS[20:30].astype(np.int64)})
    assert victim.exists()
    assert cache.read(KEY, ROWS)[0].all()


def test_a_writer_killed_in_the_middle_leaves_nothing_that_counts(tmp_path: Path) -> None:
    """The child dies when its third shard is on the disk and not yet renamed."""
    code = """
import os, signal
rename, n = Path.replace, 0
def kill(path, target):
    global n
    n += 1
    if n == 4:  # key.json is the first
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(path, target)
Path.replace = kill
cache = ScoreCache(FOLDER)
for i in range(4):
    content = np.arange(10 * i, 10 * i + 10, dtype=np.uint64)
    cache.write(KEY, content, {"nll": content + 1.0, "tokens": content.astype(np.int64)}, {"shard": i})
"""
    process = child(code, tmp_path)
    process.communicate()
    assert process.returncode == -9
    folder = tmp_path / KEY.folder_name
    left = list(folder.glob(".*.tmp"))
    assert len(left) == 1
    cache = ScoreCache(tmp_path)
    assert np.flatnonzero(cache.read(KEY, ROWS)[0]).tolist() == list(range(20))
    assert cache.warnings == []
    filled(tmp_path)
    assert left[0].exists()  # a young one may have a writer
    os.utime(left[0], (time.time() - 7200,) * 2)
    cache = filled(tmp_path)
    assert list(folder.glob(".*.tmp")) == []
    known, columns = cache.read(KEY, ROWS)
    assert known.all()
    np.testing.assert_array_equal(columns["nll"], ROWS + 1.0)


def test_many_small_shards_become_one_and_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MANY", 5)
    cache = ScoreCache(tmp_path)
    expected: dict[int, float] = {}
    for i in range(23):
        content = np.random.default_rng(i).integers(0, 60, 7).astype(np.uint64)
        cache.write(KEY, content, {"nll": np.arange(7) + 100.0 * i}, {"shard": i})
        expected |= {int(row): 100.0 * i + j for j, row in enumerate(content)}
        rows = np.arange(60, dtype=np.uint64)
        known, columns = cache.read(KEY, rows)
        assert {int(row): value for row, value in zip(rows[known], columns["nll"][known], strict=True)} == expected
        assert cache.about(KEY) == [{"shard": j} for j in range(i + 1)]
    assert len(files(tmp_path)) <= 5
    assert cache.warnings == []


def test_a_kill_between_merging_and_removing_leaves_rows_twice_and_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = filled(tmp_path)
    cache.write(KEY, ROWS[:5], {"nll": np.full(5, 7.0), "tokens": np.zeros(5, dtype=np.int64)}, {"shard": 4})
    before = cache.read(KEY, ROWS)[1]
    monkeypatch.setattr(shards, "MANY", 5)
    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda path: None if path.suffix == ".parquet" else unlink(path))
    cache.write(KEY, ROWS[:1], {"nll": np.full(1, 9.0), "tokens": np.zeros(1, dtype=np.int64)}, {"shard": 5})
    assert len(files(tmp_path)) == 7  # all six and the merged one
    before["nll"][0] = 9.0
    after = ScoreCache(tmp_path).read(KEY, ROWS)[1]
    np.testing.assert_array_equal(after["nll"], before["nll"])
    assert cache.about(KEY) == [{"shard": i} for i in range(6)]  # costs are not counted twice


def test_a_large_shard_is_not_written_again_and_stays_earlier_than_what_came_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MANY", 2)
    monkeypatch.setattr(shards, "SMALL_BYTES", 20_000)
    cache = ScoreCache(tmp_path)
    cache.write(KEY, ROWS, {"nll": np.full(40, 1.0)})
    large = np.arange(5000, dtype=np.uint64)
    cache.write(KEY, large, {"nll": np.full(5000, 2.0)})
    kept = files(tmp_path)
    for i in range(6):
        cache.write(KEY, ROWS[i : i + 1], {"nll": np.full(1, 3.0)})
    assert files(tmp_path)[:2] == kept
    assert len(files(tmp_path)) <= 4
    np.testing.assert_array_equal(cache.read(KEY, ROWS)[1]["nll"], np.where(ROWS < 6, 3.0, 2.0))


def test_a_shard_that_another_process_merges_while_we_read_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path)
    folder, read_bytes = ShardFolder(tmp_path / KEY.folder_name, KEY.digest(), str, writes=True), Path.read_bytes
    merging = iter([True])

    def merge_first(path: Path) -> bytes:
        if next(merging, False):
            folder._merge(folder.paths())
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", merge_first)
    cache = ScoreCache(tmp_path)
    assert cache.read(KEY, ROWS)[0].all()
    assert len(files(tmp_path)) == 1
    assert cache.warnings == []


def test_two_processes_write_and_merge_one_key_at_once_and_lose_nothing(tmp_path: Path) -> None:
    code = """
shards.MANY = 3
cache = ScoreCache(FOLDER)
for i in range(40):
    content = np.arange(10, dtype=np.uint64) + np.uint64(10 * (2 * i + me))
    cache.write(KEY, content, {"nll": content + 1.0}, {"by": me, "i": i})
print(cache.warnings)
"""
    children = [child(f"me = {me}{code}", tmp_path) for me in range(2)]
    assert [process.communicate()[0] for process in children] == ["[]\n", "[]\n"]
    cache, rows = ScoreCache(tmp_path), np.arange(800, dtype=np.uint64)
    known, columns = cache.read(KEY, rows)
    assert known.all()
    np.testing.assert_array_equal(columns["nll"], rows + 1.0)
    words = [(about["by"], about["i"]) for about in cache.about(KEY)]
    assert sorted(words) == [(me, i) for me in range(2) for i in range(40)]
    assert len(files(tmp_path)) < 40
    assert list(tmp_path.glob("*/*.damaged")) == []


def test_rows_without_the_columns_of_the_latest_shard_are_left_out() -> None:
    old = Shard.of(ROWS[:2], {"nll": np.ones(2)}, {"old": True})
    new = Shard.of(ROWS[1:3], {"nll": np.ones(2), "tokens": np.ones(2, dtype=np.int64)}, {})
    assert merged([old, new]).content.tolist() == [1, 2]
    assert list(merged([old, new]).about.values()) == [{"old": True}, {}]


def test_a_shard_reads_without_our_code(tmp_path: Path) -> None:
    filled(tmp_path, n_shards=1)
    table = pq.read_table(files(tmp_path)[0])
    assert table.column_names == ["content", "nll", "tokens"]
    assert table["nll"].to_pylist() == [row + 1.0 for row in range(10)]
    assert json.loads(table.schema.metadata[b"campus_tune"])["key"] == KEY.digest()
