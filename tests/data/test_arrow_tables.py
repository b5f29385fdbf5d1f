"""Rows by the stretch are the rows that `datasets` gives one by one, through any list of which are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from datasets import Dataset, Features, Image, List, Value
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data import arrow_tables as tables
from campus_tune.data.arrow_tables import arrow_tables, chosen_rows, is_arrow, python_chunks, whole_table
from campus_tune.data.prepared import read_column, rows_with

N = 40
COLUMNS = {"ids": [list(range(i % 5)) for i in range(N)], "text": [None if i == 7 else f"é{i}" for i in range(N)]}
CHATS = [[{"role": "user", "content": str(i)}] * (i % 3) for i in range(N)]


def in_parts() -> Any:
    from datasets import concatenate_datasets

    whole = Dataset.from_dict({**COLUMNS, "chat": CHATS})
    return concatenate_datasets([whole.select(range(a, b)) for a, b in ((0, 1), (1, 18), (18, N))])


chosen = st.one_of(
    st.none(),
    st.lists(st.integers(0, N - 1), min_size=1, max_size=60),  # any rows, again and again
    st.sets(st.integers(0, N - 1), min_size=1).map(sorted),  # what a filter keeps
    st.tuples(st.integers(0, N // 2), st.integers(N // 2 + 1, N)).map(lambda ends: list(range(*ends))),
)


@given(rows=chosen, at_once=st.integers(1, 50), format=st.sampled_from([None, "numpy", "torch"]))
def test_chunks_are_the_rows_in_their_sequence(rows: list[int] | None, at_once: int, format: str | None) -> None:
    dataset = in_parts() if rows is None else in_parts().select(rows)
    dataset = dataset.with_format(format)
    wanted = range(N) if rows is None else rows
    found: list[Any] = []
    for chunk in python_chunks(dataset, ["text", "ids", "chat"], at_once):
        assert list(chunk) == ["text", "ids", "chat"]
        assert len(chunk["ids"]) <= at_once
        found += zip(*chunk.values(), strict=True)
    assert found == [(COLUMNS["text"][row], COLUMNS["ids"][row], CHATS[row]) for row in wanted]
    assert list(read_column(dataset, "text")) == [COLUMNS["text"][row] for row in wanted]
    told = [row["ids"] for row in rows_with(dataset, ["ids", "nowhere"], most=5)]
    assert told == [COLUMNS["ids"][row] for row in wanted][:5]


def test_a_stretch_is_taken_in_one_piece_and_scattered_rows_are_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets.table import IndexedTableMixin

    gathered: list[int] = []
    gather = IndexedTableMixin.fast_gather
    monkeypatch.setattr(
        IndexedTableMixin, "fast_gather", lambda self, rows: gathered.append(len(rows)) or gather(self, rows)
    )
    kept = in_parts().filter(lambda row: len(row["ids"]) != 2)
    assert sum(table.num_rows for table in arrow_tables(kept, ["ids"], 8)) == len(kept)
    assert gathered == []
    assert [table.num_rows for table in arrow_tables(in_parts().select([0, 39, 3]), ["ids"], 8)] == [3]
    assert gathered == [3]


def test_what_datasets_makes_of_stored_bytes_comes_as_datasets_makes_it(tmp_path: Any) -> None:
    from PIL import Image as Picture

    Picture.new("L", (2, 1), 9).save(tmp_path / "a.png")
    dataset = Dataset.from_dict({"picture": [str(tmp_path / "a.png")]}, features=Features({"picture": Image()}))
    [picture] = read_column(dataset, "picture")
    assert (picture.size, picture.getpixel((0, 0))) == ((2, 1), 9)


def test_the_whole_table_is_another_object_and_the_selection_stays() -> None:
    selected = in_parts().select([3, 1])
    rows = chosen_rows(selected)
    assert rows is not None
    assert rows.tolist() == [3, 1]
    assert (len(whole_table(selected)), len(selected)) == (N, 2)
    assert chosen_rows(in_parts()) is None
    assert tables.AT_ONCE > 1


def test_who_has_tables() -> None:
    assert is_arrow(in_parts())
    assert not is_arrow([{"ids": [1]}])
    assert not is_arrow(np.zeros(3))
    data = Dataset.from_dict({"ids": [[1]]}, features=Features({"ids": List(Value("int32"))}))
    assert not is_arrow(data.to_iterable_dataset())
