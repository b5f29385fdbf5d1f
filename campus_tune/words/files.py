"""Reading a user's rows strictly, and writing ours so that a crash leaves the earlier file whole.

Reading never skips or repairs a line: a file that breaks off, holds another encoding or another shape is refused
with its name, the line and what to do, because a training run on half a file looks like a training run. Writing goes
to a temporary file in the same folder, is forced to the disk and then renamed over the target in one step, so that
a reader sees the old file or the new one, never a piece of either.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import os
import secrets
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import IO

from campus_tune.words.errors import DataError, StorageError
from campus_tune.words.registry import nearest
from campus_tune.words.types import Json
from campus_tune.words.wording import cut

TABLE_SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".csv", ".parquet")
STALE = 3600  # seconds after which a temporary file has no writer any more
_GZIP_MAGIC = b"\x1f\x8b"


def read_jsonl(path: str | Path) -> list[Json]:
    """All rows of a file with one JSON object per line, or of one JSON array of objects; plain or gzipped.

    Blank lines are skipped.

    Args:
        path: the file; gzip is recognised by its first bytes, whatever the name says.

    Raises:
        DataError: the file is absent or unreadable, empty, a gzip that breaks off, not UTF-8 (line and byte offset
            are named), or has a line or an entry that is no JSON object (its number is named).
    """
    path = Path(path)
    lines = ((number, line) for number, line in _text_lines(path) if line.strip())
    first = next(lines, None)
    if first is not None and first[1].lstrip().startswith("["):
        rows = _json_array("".join(line for _, line in _text_lines(path)), path)
    else:
        rows = [_json_object(line, path, number) for number, line in chain([first] if first else [], lines)]
    if not rows:
        raise DataError(f"`{path}` must have at least one row, got an empty file. Write one JSON object per line.")
    return rows


def read_table(path: str | Path) -> list[Json]:
    """The rows of a table file as dictionaries: JSON lines, CSV with a header (all cells text), or parquet.

    Raises:
        DataError: the suffix is none of these, or the file cannot be read as what its suffix says.
    """
    path = Path(path)
    if not path.name.endswith(TABLE_SUFFIXES):
        raise DataError(
            f"`{path}` must be a file whose name ends in one of {', '.join(TABLE_SUFFIXES)}, got "
            f"{'a folder' if path.is_dir() else repr(path.name)}. Convert the table or rename it."
        )
    if path.suffix == ".csv":
        rows = _read_csv(path)
    elif path.suffix == ".parquet":
        from pyarrow import ArrowException, parquet

        _open(path).close()
        try:
            rows = parquet.read_table(path).to_pylist()
        except (ArrowException, OSError, ValueError, OverflowError) as error:  # of cells that are no text or date, too
            raise DataError(f"`{path}` must be a parquet file, got: {error}. Write it again.") from error
    else:
        return read_jsonl(path)
    if not rows:
        raise DataError(f"`{path}` must have at least one row, got none. Write the table again.")
    return rows


def write_jsonl(path: str | Path, lines: Iterable[Json]) -> None:
    """Replace a file by a JSON object a line, in one step; half a surrogate pair, which no file can hold, becomes `?`.

    Args:
        path: of the file.
        lines: the objects.

    Raises:
        StorageError: see `atomic_write`.
    """
    texts = (json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    atomic_write(path, (text.encode("utf-8", "replace") for text in texts))


def atomic_write(path: str | Path, data: bytes | str | Iterable[bytes | memoryview]) -> None:
    """Replace the file at `path` by `data` (text as UTF-8) in one step; the folder is made if it is not there.

    Args:
        path: of the file.
        data: all of it, or its parts one after the other.

    Raises:
        StorageError: the disk is full, the folder is read-only, …. The file that was there before is untouched, and
            no temporary file stays behind.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            data = data.encode("utf-8") if isinstance(data, str) else data
            file.writelines([data] if isinstance(data, bytes) else data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StorageError(
            f"`{path}` must be writable, got {error.strerror or error}. What was there before is unchanged. "
            "Free space or choose another folder, then run again."
        ) from error
    finally:
        with suppress(OSError):  # after the rename it is gone; a disk that fails here has raised above already
            temporary.unlink()
    with suppress(OSError):  # the rename itself shall survive a power cut, where a folder can be opened and synced
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _open(path: Path) -> IO[bytes] | gzip.GzipFile:
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == _GZIP_MAGIC
        return gzip.open(path) if zipped else path.open("rb")
    except OSError as error:
        hint = nearest(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise DataError(f"`{path}` must be a readable file, got {error.strerror or error}.{hint}") from error


def _lines(path: Path) -> Iterator[bytes]:
    number = 0
    with _open(path) as file:
        try:
            for line in file:
                number += 1
                yield line
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(
                f"`{path}` must be a whole gzip file, got one that is damaged after line {number} ({error}). "
                "Copy or download it again."
            ) from error
        except OSError as error:
            raise DataError(
                f"`{path}` must be readable, got {error.strerror} after line {number}. Copy it anew, or mend its "
                "rights."
            ) from error


def _text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, text) with a byte order mark at the start taken off."""
    start = 0  # in bytes, of the unzipped file
    for number, line in enumerate(_lines(path), 1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            if number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise DataError(
                    f"`{path}` must be UTF-8, got UTF-16. Convert it: iconv -f utf-16 -t utf-8 {path} > "
                    f"{path.with_name(f'utf8-{path.name}')}"
                ) from error
            raise DataError(
                f"`{path}` must be UTF-8, got byte 0x{line[error.start]:02x} in line {number} (byte offset "
                f"{start + error.start}). Convert it: iconv -f latin1 -t utf-8 (or from the encoding it really has)."
            ) from error
        start += len(line)
        yield number, text.removeprefix("\ufeff") if number == 1 else text


def _json_object(line: str, path: Path, number: int) -> Json:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"`{path}` line {number} must be one whole JSON object, got {_shorten(line)} ({error}). A file that was "
            "cut off ends like this: write it again, or delete the line."
        ) from error
    if not isinstance(value, dict):
        raise DataError(
            f"`{path}` line {number} must be a JSON object, got {_shorten(line)}. Write one {{…}} per line, "
            "without a surrounding list."
        )
    return value


def _json_array(text: str, path: Path) -> list[Json]:
    """The rows of a file that is one array, as exports write it."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"`{path}` must be one whole JSON array, for it begins with [, got one that ends in {_shorten(text[-60:])} "
            f"({error}). Write it again, or one {{…}} per line."
        ) from error
    for number, value in enumerate(values):
        if not isinstance(value, dict):
            raise DataError(
                f"`{path}` entry {number} of its array must be a JSON object, got {_shorten(json.dumps(value))}. Write "
                "{…} for each row."
            )
    return list(values)


def _shorten(text: str, width: int = 60) -> str:
    text = text.strip()
    return repr(cut(text, width, head=width // 2, tail=width // 2, mark=" … "))


def _read_csv(path: Path) -> list[Json]:
    reader = csv.DictReader(line for _, line in _text_lines(path))
    rows: list[Json] = []
    try:
        names = list(reader.fieldnames or [])
        separator = next((mark for mark in ";\t|" if len(names) == 1 and mark in names[0]), None)
        if separator is not None:
            raise DataError(
                f"`{path}` must have cells separated by commas, got the header {names[0]!r}. Convert it: "
                f"`import datasets; datasets.load_dataset('csv', data_files={str(path)!r}, sep={separator!r}, "
                f"split='train').to_json({str(path.with_suffix('.jsonl'))!r})`"
            )
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(
                f"`{path}` must have columns of different names, got {', '.join(map(repr, twice))} twice. Rename one "
                "of them in its first line."
            )
        for row in reader:
            if None in row or None in row.values():  # a cell too many, a cell too few
                found = [cell for cells in row.values() for cell in (cells if isinstance(cells, list) else [cells])]
                n_cells = sum(cell is not None for cell in found)
                raise DataError(
                    f"`{path}` line {reader.line_num} must have {len(names)} cells as the header "
                    f"does, got {n_cells}. Quote cells that contain commas or line breaks."
                )
            rows.append(row)
    except csv.Error as error:
        raise DataError(
            f"`{path}` must be CSV, got after line {reader.line_num}: {error}. Write it as .jsonl."
        ) from error
    return rows
