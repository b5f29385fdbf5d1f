"""A run's own scores, and the cache that runs share: what was written is read, under its own key and no other."""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.scores import shards
from campus_tune.scores.cache import CacheKey, ScoreCache, default_folder, read_columns, write_columns
from campus_tune.words.errors import MetricError, ResumeError, StorageError
from campus_tune.words.hashing import text_keys

KEY = CacheKey(
    "loss",
    {"reduce": "mean", "max_length": 512},
    model="a1b2c3d4e5f60718",
    template="00112233445566778899aabbccddeeff",
    precision="float32",
)
ROWS = np.arange(10, dtype=np.uint64)


def test_what_is_written_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    columns = {"content": np.array([2**64 - 1, 5], dtype=np.uint64), "score": np.array([0.1 + 0.2, -1e-300])}
    write_columns(tmp_path / "a.parquet", columns, {"rows_measured": 2})
    read, about = read_columns(tmp_path / "a.parquet")
    assert about == {"rows_measured": 2}
    for name, values in columns.items():
        np.testing.assert_array_equal(read[name], values)
        assert read[name].dtype == values.dtype


def test_a_null_among_words_is_read_as_nothing_and_not_as_a_word(tmp_path: Path) -> None:
    words = pa.array(["code", None, "math"]).dictionary_encode()
    write_columns(tmp_path / "a.parquet", {"domain": words, "n": pa.array([1.5, None, 2.5])}, {})
    read, _ = read_columns(tmp_path / "a.parquet")
    assert read["domain"].tolist() == ["code", None, "math"]
    np.testing.assert_array_equal(read["n"], [1.5, np.nan, 2.5])


def test_it_reads_without_our_code(tmp_path: Path) -> None:
    write_columns(tmp_path / "a.parquet", {"score": np.arange(3.0)}, {})
    assert pq.read_table(tmp_path / "a.parquet").to_pydict() == {"score": [0.0, 1.0, 2.0]}


def test_a_missing_file_says_that_scores_cannot_be_made_again(tmp_path: Path) -> None:
    with pytest.raises(
        ResumeError, match=r"(?s)must be the scores that this run was planned with.*the model has moved"
    ):
        read_columns(tmp_path / "gone.parquet")


def test_a_damaged_file_is_never_believed(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_columns(path, {"score": np.arange(100.0)}, {})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ResumeError, match="must be the scores that this run was planned with"):
        read_columns(path)


@pytest.mark.parametrize("place", [0, 4, 500, -1, -9, -200, -700])
def test_a_flipped_bit_is_found_before_the_file_is_parsed(place: int, tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "a.parquet"
    write_columns(path, {"score": np.arange(100.0)}, {"rows_measured": 2})
    data = bytearray(path.read_bytes())
    data[place] ^= 16
    path.write_bytes(data)
    monkeypatch.setattr(pq, "ParquetFile", None)  # what is damaged never gets there: it once asked for all memory
    with pytest.raises(ResumeError, match=r"a\.parquet` must be .* a damaged file: its SHA-256 is another"):
        read_columns(path)


def test_any_flipped_bit_is_found_or_hides_only_the_hash_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_columns(path, {"score": np.arange(20.0)}, {"a": 1})
    whole = path.read_bytes()
    believed = 0
    for place in range(0, len(whole), 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with suppress(ResumeError):
            columns, about = read_columns(path)
            np.testing.assert_array_equal(columns["score"], np.arange(20.0))
            assert about == {"a": 1}
            believed += 1
    assert believed <= len("campus_sha256:")


def test_a_file_of_an_earlier_version_is_still_read(tmp_path: Path) -> None:
    table = pa.table({"score": [1.0, 2.0]}).replace_schema_metadata({"campus_tune": '{"a": 1}'})
    pq.write_table(table, tmp_path / "a.parquet")
    columns, about = read_columns(tmp_path / "a.parquet")
    assert (columns["score"].tolist(), about) == ([1.0, 2.0], {"a": 1})


@pytest.mark.parametrize("about", ["", "{", "[" * 10_000, "5", "\xff"])
def test_an_earlier_file_with_damaged_metadata_is_named(about: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"score": [1.0]}).replace_schema_metadata({"campus_tune": about}), tmp_path / "a.parquet")
    with pytest.raises(ResumeError, match=r"a\.parquet` must be the scores that this run was planned with"):
        read_columns(tmp_path / "a.parquet")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="file"):
        write_columns(tmp_path / "file" / "a.parquet", {"score": np.arange(3.0)}, {})


rows = st.lists(st.integers(0, 12), max_size=12)


@given(st.lists(rows, max_size=8), rows, st.integers(1, 4))
def test_any_sequence_of_writes_reads_as_a_dictionary_would(
    tmp_path_factory: pytest.TempPathFactory, writes: list[list[int]], asked: list[int], many: int
) -> None:
    """Duplicates inside a write, rows written again, rows nobody knows, duplicates in what is asked, merging."""
    folder = tmp_path_factory.mktemp("scores")
    slow: dict[int, tuple[float, int]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "MANY", many)
        cache, value = ScoreCache(folder), 0
        for write in writes:
            numbers = np.arange(value + 1, value + 1 + len(write))
            value += len(write)
            # extreme content keys: 0 and 2⁶⁴ − 1 are keys like any other
            cache.write(KEY, spread(write), {"nll": numbers / 7, "hits": numbers.astype(np.int16)})
            slow |= {row: (number / 7, int(number)) for row, number in zip(write, numbers, strict=True)}
    known, columns = ScoreCache(folder, writes=False).read(KEY, spread(asked))
    assert known.tolist() == [row in slow for row in asked]
    if known.any():
        assert columns["nll"].tolist() == [slow.get(row, (0.0, 0))[0] for row in asked]
        assert columns["hits"].tolist() == [slow.get(row, (0.0, 0))[1] for row in asked]
        assert columns["hits"].dtype == np.int16
    else:
        assert columns == {}


def spread(numbers: list[int]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """0..12 over all of the 64 bits, ends included."""
    return np.array([number * ((2**64 - 1) // 12) + (2**64 - 1) % 12 * (number == 12) for number in numbers], np.uint64)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "int64", "float32", "float64"])
def test_numbers_of_any_kind_keep_every_bit(tmp_path: Path, dtype: str) -> None:
    values = np.array([0, 1, 2**63 + 1 if dtype == "uint64" else 1]).astype(dtype)
    cache = ScoreCache(tmp_path)
    cache.write(KEY, ROWS[:3], {"value": values})
    known, columns = cache.read(KEY, ROWS[[2, 9, 1, 0]])
    assert known.tolist() == [True, False, True, True]
    assert columns["value"].dtype == values.dtype
    assert columns["value"].tolist() == [values[2], 0, values[1], values[0]]


def test_a_second_run_goes_on_where_the_first_one_stopped(tmp_path: Path) -> None:
    ScoreCache(tmp_path).write(KEY, ROWS[:6], {"nll": ROWS[:6] * 1.0}, {"seconds": 2.5})
    cache = ScoreCache(tmp_path)
    known, _ = cache.read(KEY, ROWS)
    cache.write(KEY, ROWS[~known], {"nll": ROWS[~known] * 1.0}, {"seconds": 1.5})
    known, columns = cache.read(KEY, ROWS[::-1])
    assert known.all()
    assert columns["nll"].tolist() == ROWS[::-1].tolist()
    assert cache.about(KEY) == [{"seconds": 2.5}, {"seconds": 1.5}]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": "c3d4e5f60718293a"}, "another model (a1b2c3d4… there, c3d4e5f6… now)"),
        ({"model": "org/name@c3"}, "another model (a1b2c3d4… there, org/name@c3 now)"),
        ({"adapter": "c3d4e5f60718293a"}, "another adapter (none there, c3d4e5f6… now)"),
        ({"template": None}, "another template (00112233… there, none now)"),
        ({"precision": "bfloat16"}, "another precision (float32 there, bfloat16 now)"),
        ({"version": 2}, "another version of the code (1 there, 2 now)"),
        ({"settings": {"reduce": "sum", "max_length": 512}}, "another `reduce` (mean there, sum now)"),
        ({"settings": {"reduce": "mean", "max_length": 512.0}}, "another `max_length` (512 there, 512.0 now)"),
        ({"settings": {"reduce": "mean"}}, "another `max_length` (512 there, not set now)"),
        (
            {"settings": KEY.settings | {"long": "x" * 90}},  # type: ignore[operator]
            f"another `long` (not set there, {'x' * 79}… now)",
        ),
        (
            {"version": 3, "adapter": "c3"},
            "another adapter (none there, c3 now) and another version of the code (1 there, 3 now)",
        ),
    ],
)
def test_scores_taken_under_other_conditions_are_not_used_and_the_difference_is_named(
    tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    cache = ScoreCache(tmp_path)
    cache.write(KEY, ROWS, {"nll": np.ones(10)})
    now = replace(KEY, **change)
    known, columns = cache.read(now, ROWS)
    assert not known.any()
    assert columns == {}
    assert cache.missing(now, ROWS) == f"the `loss` scores in `{tmp_path}` were taken with {named}."
    assert cache.missing(KEY, ROWS) is None
    assert cache.warnings == []


def test_of_several_keys_the_nearest_is_compared(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path)
    for key in (replace(KEY, model="m1", precision="bfloat16"), replace(KEY, model="m2"), CacheKey("mtld")):
        cache.write(key, ROWS, {"nll": np.ones(10)})
    (tmp_path / "loss-0000").mkdir()
    for text in ("{", "[1]", '{"what": "loss", "colour": 3}', '{"what": "loss", "settings": null}'):
        (tmp_path / "loss-0000" / "key.json").write_text(text)  # what is damaged is not compared
        reason = cache.missing(replace(KEY, model="m3"), ROWS)
        assert reason == f"the `loss` scores in `{tmp_path}` were taken with another model (m2 there, m3 now)."


def test_the_cache_of_another_dataset_is_named(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path)
    cache.write(KEY, ROWS + np.uint64(100), {"nll": np.ones(10)})
    assert cache.missing(KEY, ROWS) == (
        f"the `loss` scores in `{tmp_path}` are of another dataset: 0 of 10 rows are in it."
    )
    assert cache.missing(KEY, np.array([3, 104], dtype=np.uint64)) is None  # one row is enough to be of use
    assert cache.missing(KEY, ROWS[:0]) is None


def test_a_cache_without_this_metric_says_what_it_holds(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path)
    assert cache.missing(KEY, ROWS) == f"`{tmp_path}` holds no `loss` scores, it holds nothing."
    for what in ("mtld", "answer loss/τ"):  # a folder can be made of any name
        cache.write(CacheKey(what), ROWS, {"value": np.ones(10)})
        assert cache.read(CacheKey(what), ROWS)[0].all()
    assert cache.missing(KEY, ROWS) == f"`{tmp_path}` holds no `loss` scores, it holds answer loss/τ, mtld."


def test_a_changed_row_is_the_only_one_to_be_scored_again(tmp_path: Path) -> None:
    texts = ["one", "two", "three", "four"]
    cache = ScoreCache(tmp_path)
    cache.write(KEY, text_keys(texts), {"nll": np.arange(4.0)})
    known, columns = cache.read(KEY, text_keys(["four", "two", "drei", "one"]))
    assert known.tolist() == [True, True, False, True]
    assert columns["nll"].tolist() == [3.0, 1.0, 0.0, 0.0]


@given(st.lists(st.text(st.characters()), unique=True, max_size=30))
def test_different_texts_have_different_keys(texts: list[str]) -> None:
    keys = text_keys(texts)
    assert keys.dtype == np.uint64
    assert len(set(keys.tolist())) == len(texts)
    assert text_keys(texts[::-1]).tolist() == keys[::-1].tolist()


def test_half_a_surrogate_pair_is_text_too() -> None:
    assert len({*text_keys(["\ud83d", "\ude00", "?", ""]).tolist()}) == 4
    assert text_keys([]).shape == (0,)


def test_a_digest_does_not_depend_on_sequence_or_kind_of_mapping_and_is_the_same_in_a_year() -> None:
    turned = replace(KEY, settings=MappingProxyType({"max_length": 512, "reduce": "mean"}))
    assert turned.digest() == KEY.digest() == "bf0de956dc599e95121316c62aadbece"
    fields = ("what", "settings", "model", "adapter", "template", "precision", "version")
    changed = [replace(KEY, **{name: {"a": 1} if name == "settings" else 9}) for name in fields]
    assert len({key.digest() for key in [KEY, *changed]}) == 1 + len(fields)


def test_the_key_can_be_read_by_people(tmp_path: Path) -> None:
    ScoreCache(tmp_path).write(KEY, ROWS, {"nll": np.ones(10)})
    assert json.loads((tmp_path / KEY.folder_name / "key.json").read_text()) == {
        "what": "loss",
        "settings": {"reduce": "mean", "max_length": 512},
        "model": KEY.model,
        "adapter": None,
        "template": KEY.template,
        "precision": "float32",
        "version": 1,
    }


def test_a_damaged_key_file_is_written_again(tmp_path: Path) -> None:
    ScoreCache(tmp_path).write(KEY, ROWS[:5], {"nll": np.ones(5)})
    path = tmp_path / KEY.folder_name / "key.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:10])
    assert ScoreCache(tmp_path).read(KEY, ROWS)[0].sum() == 5  # reading does not need it
    ScoreCache(tmp_path).write(KEY, ROWS[5:], {"nll": np.ones(5)})
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"nll": np.array([1.0, np.nan, np.inf])}, r"`nll` of `loss` must be finite .*got NaN or inf on 2 of 3 rows"),
        ({"nll": np.ones(4)}, r"one number per row, shape \(3,\), got float64 of shape \(4,\)"),
        ({"nll": np.ones((3, 2))}, r"got float64 of shape \(3, 2\)\. Make a column of each"),
        ({"nll": np.array(["a", "b", "c"])}, r"`nll` of `loss` must be one number per row.* got <U1"),
        ({"nll": np.array([1j, 2j, 3j])}, "must be one number per row.* got complex128"),
        ({}, "must have columns of its own to be kept, got none"),
        ({"content": np.ones(3)}, r"columns of its own to be kept, got content\. .*none of the name content"),
    ],
)
def test_what_is_no_score_is_refused_and_nothing_is_written(
    tmp_path: Path, columns: dict[str, Any], match: str
) -> None:
    for cache in (ScoreCache(tmp_path), ScoreCache(None)):
        with pytest.raises(MetricError, match=match):
            cache.write(KEY, ROWS[:3], columns)
    assert list(tmp_path.iterdir()) == []


def test_content_keys_must_be_unsigned(tmp_path: Path) -> None:
    with pytest.raises(MetricError, match=r"`content` must be one uint64 per row, got int64 of shape \(3,\)"):
        ScoreCache(tmp_path).write(KEY, np.arange(3), {"nll": np.ones(3)})  # type: ignore[arg-type]
    with pytest.raises(MetricError, match=r"`content` must be one uint64 per row, got int64 of shape \(3,\)"):
        ScoreCache(tmp_path).read(KEY, np.arange(3))  # type: ignore[arg-type]


def test_without_a_folder_nothing_is_known_and_nothing_is_written() -> None:
    cache = ScoreCache(None)
    cache.write(KEY, ROWS, {"nll": np.ones(10)})
    assert not cache.read(KEY, ROWS)[0].any()
    assert cache.about(KEY) == []
    assert cache.missing(KEY, ROWS) is None
    assert cache.warnings == []


def test_one_that_does_not_write_leaves_no_trace(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path / "new", writes=False)
    cache.write(KEY, ROWS, {"nll": np.ones(10)})
    assert not cache.read(KEY, ROWS)[0].any()
    assert list(tmp_path.iterdir()) == []


def test_no_rows_make_no_shard(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path)
    cache.write(KEY, ROWS[:0], {"nll": np.ones(0)})
    assert list(tmp_path.iterdir()) == []
    cache.write(KEY, ROWS, {"nll": np.ones(10)})
    assert cache.read(KEY, ROWS[:0])[0].shape == (0,)


@pytest.mark.parametrize("inside", [".", "deep/er"])
def test_a_file_in_the_place_of_the_folder_is_refused_at_once(tmp_path: Path, inside: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"the score cache must be a folder, got the file `.*file`\. Name another"):
        ScoreCache(tmp_path / "file" / inside)


@pytest.mark.parametrize("error", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_a_folder_that_cannot_be_written_costs_one_warning_and_no_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    cache = ScoreCache(tmp_path)
    cache.write(KEY, ROWS[:5], {"nll": np.ones(5)})
    attempts = []

    def fail(path: Path, _: bytes) -> None:
        attempts.append(path)
        raise StorageError(f"`{path}` must be writable, got {os.strerror(error)}.")

    monkeypatch.setattr(shards, "atomic_write", fail)  # tests may run as root, to whom no folder is read-only
    for _ in range(3):
        cache.write(KEY, ROWS[5:], {"nll": np.ones(5)})
    assert len(attempts) == 1
    assert len(cache.warnings) == 1
    assert "is not written any more, scoring goes on without it" in cache.warnings[0]
    assert os.strerror(error) in cache.warnings[0]
    assert cache.read(KEY, ROWS)[0].tolist() == [True] * 5 + [False] * 5


def test_a_disk_that_fills_up_while_a_shard_is_written_leaves_the_others_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ScoreCache(tmp_path)
    cache.write(KEY, ROWS[:5], {"nll": np.ones(5)})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        cache.write(KEY, ROWS[5:], {"nll": np.ones(5)})
    assert "No space left on device" in cache.warnings[0]
    assert len(list((tmp_path / KEY.folder_name).iterdir())) == 2  # the key and the first shard
    assert ScoreCache(tmp_path).read(KEY, ROWS)[0].sum() == 5


def test_the_folder_is_the_users_own_else_the_one_for_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("CAMPUS_TUNE_CACHE", "~/scores")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/caches")
    assert default_folder() == Path("/home/somebody/scores")
    monkeypatch.setenv("CAMPUS_TUNE_CACHE", "")
    assert default_folder() == Path("/var/caches/campus_tune/scores")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_folder() == Path("/home/somebody/.cache/campus_tune/scores")
