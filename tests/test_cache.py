from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from campus_tune.cache import read_columns, write_columns
from campus_tune.errors import ResumeError, StorageError


def test_what_is_written_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    columns = {"content": np.array([2**64 - 1, 5], dtype=np.uint64), "score": np.array([0.1 + 0.2, -1e-300])}
    write_columns(tmp_path / "a.parquet", columns, {"rows_measured": 2})
    read, about = read_columns(tmp_path / "a.parquet")
    assert about == {"rows_measured": 2}
    for name, values in columns.items():
        np.testing.assert_array_equal(read[name], values)
        assert read[name].dtype == values.dtype


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


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="file"):
        write_columns(tmp_path / "file" / "a.parquet", {"score": np.arange(3.0)}, {})
