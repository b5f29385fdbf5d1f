"""Files: nothing is read by halves, nothing is written by halves."""

from __future__ import annotations

import errno
import gzip
import json
import os
import resource
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.words.errors import CampusError, DataError, StorageError
from campus_tune.words.files import atomic_write, read_jsonl, read_table

ROWS = [{"id": 1, "text": "naïve"}, {"id": 2, "text": "line\u2028separator"}]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_plain_and_gzipped_lines_give_the_same_rows(tmp_path: Path) -> None:
    assert read_jsonl(write(tmp_path / "a.jsonl", JSONL)) == ROWS
    assert read_jsonl(write(tmp_path / "a.jsonl.gz", gzip.compress(JSONL))) == ROWS


def test_gzip_is_recognised_by_content_and_not_by_name(tmp_path: Path) -> None:
    assert read_jsonl(write(tmp_path / "a.jsonl", gzip.compress(JSONL))) == ROWS
    assert read_jsonl(str(write(tmp_path / "b.jsonl.gz", JSONL))) == ROWS


def test_a_byte_order_mark_blank_lines_and_a_missing_last_newline_do_no_harm(tmp_path: Path) -> None:
    assert read_jsonl(write(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"a": 1}\r\n\n  \n{"a": 2}')) == [{"a": 1}, {"a": 2}]


@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.none()), min_size=1))
def test_what_json_wrote_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]]) -> None:
    path = tmp_path_factory.mktemp("rows") / "a.jsonl"
    atomic_write(path, "".join(json.dumps(row) + "\n" for row in rows))
    assert read_jsonl(path) == rows


def test_a_truncated_line_is_named_by_file_and_number(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", b'{"a": 1}\n\n{"a": 2}\n{"a": "cut o')
    with pytest.raises(DataError, match=r"train\.jsonl` line 4 must be one whole JSON object, got '\{\"a\": \"cut o'"):
        read_jsonl(path)


def test_a_long_bad_line_is_shown_by_its_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b'{"a": "' + b"x" * 5000 + b" the end")
    with pytest.raises(DataError, match="line 1") as caught:
        read_jsonl(path)
    assert "the end" in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("line", ['{"a": ' + "[" * 100_000, '{"a": ' + "1" * 5000 + "}", "[" * 100_000])
def test_json_that_python_gives_up_on_is_a_bad_line_too(tmp_path: Path, line: str) -> None:
    with pytest.raises(DataError, match=r"line 1 must be one whole JSON object|must be one whole JSON array"):
        read_jsonl(write(tmp_path / "a.jsonl", line.encode()))


@pytest.mark.parametrize("line", ["[1, 2]", "3", '"text"', "null"])
def test_a_line_that_is_no_object_is_named(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "a.jsonl", f'{{"a": 1}}\n{line}\n'.encode())
    with pytest.raises(DataError, match=r"line 2 must be a JSON object, got .* without a surrounding list"):
        read_jsonl(path)


@pytest.mark.parametrize("start", ["", "\ufeff", "\r\n \n"])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_array_is_as_good_as_lines(tmp_path: Path, start: str, indent: int | None) -> None:
    text = start + json.dumps(ROWS, indent=indent, ensure_ascii=False).replace("\n", "\r\n")
    path = write(tmp_path / "a.json", text.encode())
    assert read_table(path) == read_jsonl(path) == ROWS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1}, {"a": ', r"must be one whole JSON array, .* got one that ends in .*Write it again"),
        ('[{"a": 1}, [2]]', r"entry 1 of its array must be a JSON object, got '\[2\]'"),
        ("[]", "at least one row"),
    ],
)
def test_an_array_that_is_cut_off_or_holds_no_rows_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_jsonl(write(tmp_path / "a.json", text.encode()))


def test_utf_16_is_told_how_to_become_utf_8(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", JSONL.decode().encode("utf-16"))
    with pytest.raises(DataError, match="must be UTF-8, got UTF-16") as told:
        read_jsonl(path)
    command = str(told.value).split("Convert it: ")[1]
    subprocess.run(["sh", "-c", command], check=True)
    assert read_jsonl(tmp_path / "utf8-a.jsonl") == ROWS


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_a_csv_with_other_separators_is_told_how_to_become_lines(tmp_path: Path, mark: str) -> None:
    path = write(tmp_path / "a.csv", f"id{mark}text\n1{mark}one\n2{mark}two\n".encode())
    with pytest.raises(DataError, match="must have cells separated by commas, got the header") as told:
        read_table(path)
    exec(str(told.value).split("`")[-2], {})
    assert read_table(tmp_path / "a.jsonl") == [{"id": 1, "text": "one"}, {"id": 2, "text": "two"}]


def test_a_csv_whose_header_names_a_column_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"columns of different names, got 'a' twice\. Rename"):
        read_table(write(tmp_path / "a.csv", b"a,b,a\n1,2,3\n"))


@pytest.mark.parametrize("zipped", [False, True])
def test_a_wrong_encoding_is_named_by_line_and_byte_offset(tmp_path: Path, zipped: bool) -> None:
    data = '{"a": "ä"}\n'.encode() + '{"a": "ä"}\n'.encode("latin-1")
    offset = data.index(b"\xe4")
    path = write(tmp_path / "a.jsonl", gzip.compress(data) if zipped else data)
    with pytest.raises(DataError, match=rf"UTF-8, got byte 0xe4 in line 2 \(byte offset {offset}\).*iconv"):
        read_jsonl(path)


def test_a_gzip_that_breaks_off_is_refused_though_its_first_lines_are_whole(tmp_path: Path) -> None:
    whole = gzip.compress(JSONL * 1000)
    path = write(tmp_path / "a.jsonl.gz", whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"damaged after line .* Copy or download it again"):
        read_jsonl(path)


def test_a_gzip_with_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    damaged = bytearray(gzip.compress(JSONL * 1000))
    damaged[-6] ^= 1  # in the checksum
    with pytest.raises(DataError, match="damaged after line 2000"):
        read_jsonl(write(tmp_path / "a.jsonl.gz", bytes(damaged)))


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xef\xbb\xbf", gzip.compress(b"", mtime=0)])
def test_a_file_without_rows_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DataError, match="at least one row, got an empty file"):
        read_jsonl(write(tmp_path / "a.jsonl", data))


def test_a_misspelt_file_name_is_corrected(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", JSONL)
    with pytest.raises(DataError, match=r"trian\.jsonl` .*No such file or directory\. Did you mean 'train\.jsonl'\?"):
        read_jsonl(tmp_path / "trian.jsonl")
    with pytest.raises(DataError, match="No such file or directory"):
        read_jsonl(tmp_path / "no" / "such" / "folder.jsonl")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Is a directory"):
        read_jsonl(tmp_path)


def test_csv_cells_stay_text_and_quoted_line_breaks_stay_inside(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", '\ufeff,id,text\n0,007,"a,\nb"\n1,8,ü\n'.encode())
    assert read_table(path) == [{"": "0", "id": "007", "text": "a,\nb"}, {"": "1", "id": "8", "text": "ü"}]


@pytest.mark.parametrize(("row", "n"), [("1,2,3", 3), ("1,2,3,4", 4), ("1", 1)])
def test_a_csv_row_of_another_width_is_named(tmp_path: Path, row: str, n: int) -> None:
    with pytest.raises(DataError, match=rf"line 3 must have 2 cells as the header does, got {n}\. Quote cells"):
        read_table(write(tmp_path / "a.csv", f"a,b\n1,2\n{row}\n".encode()))


def test_a_csv_cell_beyond_the_limit_of_the_reader_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must be CSV, got after line 1: field larger .* Write it as \.jsonl"):
        read_table(write(tmp_path / "a.csv", b"a,b\n" + b"x" * 200_000 + b",1\n"))


def test_parquet_gives_rows(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet") == ROWS


def test_what_is_no_parquet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.parquet` must be a parquet file"):
        read_table(write(tmp_path / "a.parquet", JSONL))
    with pytest.raises(DataError, match="No such file"):
        read_table(tmp_path / "b.parquet")


def test_a_parquet_file_with_a_cell_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """A flipped bit that the reader does not see, until the cell becomes text."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["abcdefgh"]}), path, compression="none", use_dictionary=False)
    path.write_bytes(path.read_bytes().replace(b"abcdefgh", b"abc\xf5efgh"))
    with pytest.raises(DataError, match=r"a\.parquet` must be a parquet file, got: .*can't decode byte 0xf5"):
        read_table(path)
    pq.write_table(pa.table({"when": pa.array([2**62], type=pa.timestamp("us"))}), path)
    with pytest.raises(DataError, match=r"a\.parquet` must be a parquet file, got: "):
        read_table(path)


def test_a_table_of_json_lines_is_read_as_such(tmp_path: Path) -> None:
    assert read_table(write(tmp_path / "a.json", JSONL)) == ROWS


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one row, got none"):
        read_table(write(tmp_path / "a.csv", b"a,b\n"))


def test_another_suffix_is_answered_with_the_list(tmp_path: Path) -> None:
    told = r"must be a file whose name ends in one of \.jsonl, \.jsonl\.gz, \.json, \.csv, \.parquet, got"
    with pytest.raises(DataError, match=rf"a\.xlsx` {told} 'a\.xlsx'\. Convert"):
        read_table(tmp_path / "a.xlsx")
    with pytest.raises(DataError, match=rf"{told} a folder\. Convert"):
        read_table(tmp_path)


def test_a_write_replaces_the_file_and_makes_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "state.json"
    atomic_write(path, "first ü")
    assert path.read_bytes() == "first ü".encode()
    atomic_write(str(path), b"\x00second")
    assert path.read_bytes() == b"\x00second"
    assert os.listdir(path.parent) == ["state.json"]


def test_a_written_file_has_the_permissions_of_any_other_file(tmp_path: Path) -> None:
    atomic_write(tmp_path / "ours", b"x")
    write(tmp_path / "theirs", b"x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "theirs").stat().st_mode


def test_a_limit_reached_in_the_middle_of_a_write_loses_nothing_earlier(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    atomic_write(path, b"earlier")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # the kernel itself refuses what goes beyond 4 KiB
    try:
        with pytest.raises(StorageError, match=r"ledger\.jsonl` must be writable, got File too large"):
            atomic_write(path, b"x" * 1_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"earlier"
    assert os.listdir(tmp_path) == ["ledger.jsonl"]


def test_a_full_disk_loses_nothing_earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    atomic_write(path, b"earlier")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"No space left on device\. What was there before is unchanged"):
        atomic_write(path, b"later")
    assert path.read_bytes() == b"earlier"
    assert os.listdir(tmp_path) == ["state.json"]


def test_a_read_only_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "open", refuse)  # tests may run as root, to whom no folder is read-only
    with pytest.raises(StorageError, match=r"state\.json` must be writable, got Read-only file system"):
        atomic_write(tmp_path / "state.json", b"x")


def test_a_file_in_the_place_of_the_folder_is_a_storage_error(tmp_path: Path) -> None:
    write(tmp_path / "out", b"")
    with pytest.raises(StorageError, match=r"File exists|Not a directory"):
        atomic_write(tmp_path / "out" / "state.json", b"x")


def test_storage_errors_are_ours_and_os_errors() -> None:
    assert issubclass(StorageError, CampusError)
    assert issubclass(StorageError, OSError)
