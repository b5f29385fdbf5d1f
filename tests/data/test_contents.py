"""The hash of a data set's values: the same values have the same one, and nothing else has."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data import contents
from campus_tune.data.contents import content_hash

texts = st.one_of(st.none(), st.text(alphabet="ab é", max_size=3))
turns = st.lists(st.fixed_dictionaries({"role": texts, "content": texts}), max_size=3)
KINDS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "tokens": (pa.list_(pa.int32()), st.lists(st.integers(0, 2), max_size=3)),
    "holes": (
        pa.list_(pa.int64()),
        st.one_of(st.none(), st.lists(st.one_of(st.none(), st.integers(0, 1)), max_size=2)),
    ),
    "wide": (pa.large_list(pa.int8()), st.lists(st.integers(0, 2), max_size=3)),
    "text": (pa.string(), texts),
    "long": (pa.large_string(), texts),
    "flag": (pa.bool_(), st.one_of(st.none(), st.booleans())),
    "number": (pa.float64(), st.sampled_from([0.0, 0.5, None])),
    "chat": (pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})), st.one_of(st.none(), turns)),
    "nothing": (pa.null(), st.none()),
}


def of(kind: pa.DataType, values: list[Any]) -> str | None:
    return content_hash(Dataset(pa.table({"x": pa.array(values, kind)})), ["x"])


@pytest.mark.parametrize("name", KINDS)
@given(data=st.data())
def test_hashes_are_equal_where_the_values_are(name: str, data: st.DataObject) -> None:
    kind, strategy = KINDS[name]
    one, other = (data.draw(st.lists(strategy, min_size=1, max_size=4)) for _ in range(2))
    hashes = of(kind, one), of(kind, other)
    assert None not in hashes
    assert (hashes[0] == hashes[1]) == (one == other)
    if len(one) > 1:  # two chunks, the second out of the middle of another array
        cut = data.draw(st.integers(1, len(one) - 1))
        parts = [pa.array(one[:cut], kind), pa.array([*other, *one[cut:]], kind)[len(other) :]]
        assert content_hash(Dataset(pa.table({"x": pa.chunked_array(parts, kind)})), ["x"]) == hashes[0]


def test_it_is_not_fooled_where_pieces_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "ROWS", 1)
    kind = pa.list_(pa.int64())
    sets = [[[0], [None]], [[None], [0]], [[0, 0], []], [[], [0, 0]], [[0], [0]], [None, [0, 0]], [[0, 0], None]]
    assert len({of(kind, rows) for rows in sets}) == len(sets)
    strings = [["a", "b"], ["ab", ""], ["", "ab"], [None, "ab"], ["ab", None]]
    assert len({of(pa.string(), rows) for rows in strings}) == len(strings)


def test_one_token_or_label_among_many_rows_is_seen() -> None:
    rng = np.random.default_rng(0)
    n, length = 40_000, 12
    ends = pa.array(np.arange(n + 1, dtype=np.int32) * length)

    def data(ids: Any, labels: Any) -> Any:
        columns = {
            name: pa.ListArray.from_arrays(ends, pa.array(flat))
            for name, flat in {"input_ids": ids, "labels": labels}.items()
        }
        return Dataset(pa.table(columns))

    ids = rng.integers(0, 500, n * length).astype(np.int32)
    labels = ids.astype(np.int64)
    seen = {content_hash(data(ids, labels), ["input_ids", "labels"])}
    for place in (0, n * length // 2, n * length - 1):
        for column in (ids, labels):
            column[place] += 1
            seen.add(content_hash(data(ids, labels), ["input_ids", "labels"]))
            column[place] -= 1
    assert len(seen) == 7
    assert content_hash(data(ids, labels), ["input_ids", "labels"]) in seen


def test_a_selection_hangs_on_which_rows_and_on_what_they_hold() -> None:
    columns = {"input_ids": [[i, i + 1] for i in range(30)], "text": [str(i) for i in range(30)]}
    whole = Dataset.from_dict(columns)
    order = random.Random(0).sample(range(30), 20)
    other = Dataset.from_dict({**columns, "text": ["x", *columns["text"][1:]]})
    names = ["input_ids", "text"]
    assert content_hash(whole.select(order), names) == content_hash(Dataset.from_dict(columns).select(order), names)
    found = {
        content_hash(each, names)
        for each in (
            whole,
            whole.select(order),
            whole.select(order[::-1]),
            whole.select(order[:-1]),
            other.select(order),
        )
    }
    assert len(found) == 5
    assert whole.select(order)["text"][:] == [str(i) for i in order]  # as it was


def test_names_and_types_count_and_columns_that_are_not_read_do_not() -> None:
    data = Dataset.from_dict({"a": [1], "b": [1], "c": ["x"]})
    assert content_hash(data, ["a"]) != content_hash(data, ["b"])
    assert content_hash(data, ["a"]) == content_hash(data.remove_columns("c"), ["a"])
    wide, narrow = (pa.array([[1]], pa.list_(kind)) for kind in (pa.int64(), pa.int32()))
    assert of(wide.type, [[1]]) != of(narrow.type, [[1]])


def test_rows_of_another_kind_and_few_of_very_many_have_none() -> None:
    assert content_hash([{"input_ids": [1]}], ["input_ids"]) is None
    data = Dataset.from_dict({"when": pa.array([0], pa.timestamp("s"))})
    assert content_hash(data, ["when"]) is None
    many = Dataset.from_dict({"a": list(range(100))})
    assert content_hash(many.select([1, 3, 2]), ["a"]) is None
    assert content_hash(many.select([1, 3, 2, 7]), ["a"]) is not None
