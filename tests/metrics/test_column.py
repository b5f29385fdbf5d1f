"""A user's own numbers: found by name, joined by content, never by row number; every gap is named."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.metrics import Column
from campus_tune.words.errors import DataError, MetricError, RecipeError
from campus_tune.words.types import RowTexts


def rows(**columns: Sequence[Any]) -> RowTexts:
    n = len(next(iter(columns.values()), []))
    return RowTexts([""] * n, np.ones(n, dtype=np.int64), np.ones(n, dtype=np.int64), columns)


def table(path: Path, *lines: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


@pytest.mark.parametrize(
    "values",
    [[3, 1, 2], [3.0, 1.0, 2.0], np.array([3, 1, 2]), [np.float32(3), np.int8(1), Decimal(2)], (Fraction(3), 1, 2)],
)
def test_numbers_of_every_kind_are_scores(values: Sequence[Any]) -> None:
    scores = Column(column="level").scores(rows(level=values))
    assert scores.tolist() == [3.0, 1.0, 2.0]
    assert scores.dtype == np.float64


def test_an_absent_column_is_answered_with_the_present_ones() -> None:
    message = r"`column: levle` must be a column of the training set \(id, level\).* Did you mean 'level'\?.*`path`"
    with pytest.raises(MetricError, match=message):
        Column(column="levle").scores(rows(id=[1], level=[2]))
    with pytest.raises(MetricError, match="which has none"):
        Column(column="level").scores(rows())


def test_words_are_no_numbers_and_the_first_is_shown() -> None:
    with pytest.raises(MetricError, match=r"`column: level` must hold numbers, got 'easy' in row 1\. Store a number"):
        Column(column="level").scores(rows(level=[1, "easy", "hard"]))
    with pytest.raises(MetricError, match="got '3' in row 0"):
        Column(column="level").scores(rows(level=["3"]))
    with pytest.raises(MetricError, match=r"got \[1\] in row 0"):
        Column(column="level").scores(rows(level=[[1]]))


def test_numbers_of_any_size_that_a_float_has_are_scores() -> None:
    values = [Decimal("1e300"), 2**70, Decimal("-0.5"), 2**1000]
    assert Column(column="level").scores(rows(level=values)).tolist() == [1e300, 2.0**70, -0.5, 2.0**1000]


@pytest.mark.parametrize("value", [2**2000, -(10**400), Decimal("sNaN")])
def test_a_number_that_no_float_can_be_is_named_with_its_row(value: Any) -> None:
    message = r"must hold numbers of at most 1\.8e\+308, got .* in row 1 .*Store its logarithm"
    with pytest.raises(MetricError, match=message):
        Column(column="level").scores(rows(level=[1, value, 2]))


@pytest.mark.parametrize("day", [dt.datetime(2026, 11, 29, 8, tzinfo=dt.UTC), dt.date(2026, 11, 29)])
def test_days_and_times_are_told_how_to_become_numbers(day: Any) -> None:
    data = datasets.Dataset.from_dict({"when": [day + dt.timedelta(days=i) for i in range(3)]})
    with pytest.raises(MetricError, match=r"got datetime.* in row 0\. Store a number, higher = harder: `") as told:
        Column(column="when").scores(rows(when=data["when"]))
    names = {"dataset": data}
    exec(str(told.value).split("`")[-2], names)
    scores = Column(column="when").scores(rows(when=names["dataset"]["when"]))
    assert scores.tolist() == sorted(scores)
    assert len(set(scores)) == 3


@pytest.mark.parametrize("values", [[True, False], np.array([True, False])])
def test_a_truth_value_is_no_number(values: Sequence[Any]) -> None:
    with pytest.raises(MetricError, match=r"must hold numbers, got True in row 0\. Write 1 for harder and 0"):
        Column(column="hard").scores(rows(hard=values))


@pytest.mark.parametrize("nothing", [None, float("nan"), np.float32("nan")])
def test_missing_values_are_counted_and_the_first_rows_named(nothing: Any) -> None:
    message = r"got none \(null or NaN\) for 4 of 6 rows \(first: 0, 2, 3\)\. Fill them in"
    with pytest.raises(MetricError, match=message):
        Column(column="level").scores(rows(level=[nothing, 1, nothing, nothing, 2, nothing]))


def test_scores_follow_their_id_when_rows_were_dropped_and_reordered(tmp_path: Path) -> None:
    path = table(tmp_path / "s.jsonl", *({"id": f"r{i}", "grade": i * i} for i in range(6)))
    metric = Column(column="grade", path=path, on="id")
    assert metric.scores(rows(id=["r5", "r0", "r3"])).tolist() == [25.0, 0.0, 9.0]


def test_scores_follow_their_content(tmp_path: Path) -> None:
    long = "an answer far longer than sixty-four characters, so that only its hash is remembered " * 3
    path = table(
        tmp_path / "s.jsonl",
        {"prompt": "p", "completion": "a", "grade": 1},
        {"completion": "b", "grade": 2, "prompt": "p"},
        {"prompt": "p", "completion": long, "grade": 3},
        {"prompt": "p", "completion": long + ".", "grade": 4},
    )
    metric = Column(column="grade", path=path, on=["prompt", "completion"])
    texts = rows(completion=[long, "b", long + ".", "a", "b"], prompt=["p"] * 5)
    assert metric.scores(texts).tolist() == [3.0, 2.0, 4.0, 1.0, 2.0]


def test_columns_that_concatenate_alike_are_told_apart(tmp_path: Path) -> None:
    path = table(tmp_path / "s.jsonl", {"a": "x", "b": "yz", "g": 1}, {"a": "xy", "b": "z", "g": 2})
    assert Column(column="g", path=path, on=["a", "b"]).scores(rows(a=["xy", "x"], b=["z", "yz"])).tolist() == [2, 1]


def test_messages_match_whatever_their_key_order_and_null_fields(tmp_path: Path) -> None:
    path = table(tmp_path / "s.jsonl", {"messages": [{"role": "user", "content": "hi"}], "grade": 1})
    messages = [[{"content": "hi", "name": None, "role": "user"}]]
    assert Column(column="grade", path=path, on=["messages"]).scores(rows(messages=messages)).tolist() == [1.0]


@given(st.permutations(range(8)), st.sets(st.integers(0, 7), min_size=1))
def test_the_join_is_a_lookup(tmp_path_factory: pytest.TempPathFactory, order: list[int], kept: set[int]) -> None:
    path = table(tmp_path_factory.mktemp("t") / "s.jsonl", *({"id": i, "g": i / 8} for i in order))
    assert Column(column="g", path=path, on="id").scores(rows(id=np.array(sorted(kept)))).tolist() == [
        i / 8 for i in sorted(kept)
    ]


@pytest.mark.parametrize("suffix", ["jsonl.gz", "json", "csv", "parquet"])
def test_every_table_format_gives_the_same(tmp_path: Path, suffix: str) -> None:
    lines = [{"id": i, "prompt": f"say, {i}", "grade": i + 0.5} for i in range(3)]
    path = tmp_path / f"s.{suffix}"
    if suffix == "csv":
        path.write_text("id,prompt,grade\n" + "".join(f'{r["id"]},"{r["prompt"]}",{r["grade"]}\n' for r in lines))
    elif suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(lines), path)
    else:
        data = "".join(json.dumps(line) + "\n" for line in lines).encode()
        path.write_bytes(gzip.compress(data) if suffix == "jsonl.gz" else data)
    for on, wanted in (("id", {"id": [2, 0]}), ("prompt", {"prompt": ["say, 2", "say, 0"]})):
        assert Column(column="grade", path=str(path), on=on).scores(rows(**wanted)).tolist() == [2.5, 0.5]


def test_a_csv_cell_that_is_no_number_or_empty_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("id,grade\na,hard\nb,\n")
    metric = Column(column="grade", path=str(path), on="id")
    with pytest.raises(MetricError, match=r"grade of .*s\.csv` must hold numbers, got 'hard' in row 1"):
        metric.scores(rows(id=["b", "a"]))
    with pytest.raises(MetricError, match=r"got none .* for 1 of 1 rows"):
        metric.scores(rows(id=["b"]))


def test_training_rows_without_a_match_are_counted_and_shown(tmp_path: Path) -> None:
    path = table(tmp_path / "s.jsonl", {"id": "r1", "grade": 1})
    message = (
        r"must find every training row in .*s\.jsonl by id, got no match for 4 of 5 rows \(first: "
        r'"r2", 1, null\)\. The table has keys such as "r1"'
    )
    with pytest.raises(MetricError, match=message):
        Column(column="grade", path=path, on="id").scores(rows(id=["r2", 1, "r1", None, "r5"]))


def test_an_empty_key_never_matches_an_empty_key(tmp_path: Path) -> None:
    path = table(tmp_path / "s.jsonl", {"id": None, "grade": 1}, {"id": 1, "grade": 2})
    with pytest.raises(MetricError, match=r"no match for 1 of 2 rows \(first: null\)"):
        Column(column="grade", path=path, on="id").scores(rows(id=[1, None]))


def test_a_key_with_two_values_is_ambiguous(tmp_path: Path) -> None:
    path = table(tmp_path / "s.jsonl", *({"id": i % 2, "grade": g} for i, g in enumerate([1, 5, 1, 6])))
    with pytest.raises(MetricError, match=r"one value per key, got different values for 1 of them \(first: 1\)"):
        Column(column="grade", path=path, on="id").scores(rows(id=[0, 1]))


def test_a_key_twice_with_the_same_value_is_as_good_as_once(tmp_path: Path) -> None:
    path = table(tmp_path / "s.jsonl", {"id": 1, "grade": 4}, {"id": 1, "grade": 4}, {"id": 2, "grade": 3})
    assert Column(column="grade", path=path, on="id").scores(rows(id=[2, 1, 1])).tolist() == [3.0, 4.0, 4.0]


def test_a_key_column_absent_on_either_side_is_named_with_its_side(tmp_path: Path) -> None:
    path = table(tmp_path / "s.jsonl", {"key": 1, "grade": 4})
    with pytest.raises(MetricError, match=r"`column: key` must be a column of the training set \(keys\).*'keys'"):
        Column(column="grade", path=path, on="key").scores(rows(keys=[1]))
    with pytest.raises(MetricError, match=r"`column: id` must be a column of .*s\.jsonl \(key, grade\)"):
        Column(column="grade", path=path, on="id").scores(rows(id=[1]))
    with pytest.raises(MetricError, match=r"`column: garde` must be a column of .*s\.jsonl .*'grade'"):
        Column(column="garde", path=path, on="key").scores(rows(key=[1]))


def test_an_unreadable_table_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        Column(column="grade", path=str(tmp_path / "s.jsonl"), on="id").scores(rows(id=[1]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "`column: column` must name a column, got ''"),
        ({"column": 3}, "`column: column` must name a column, got 3"),
        ({"column": "g", "path": "s.jsonl"}, r"`column: on` must name the column\(s\) to join s\.jsonl on.*on: id"),
        ({"column": "g", "path": "s.jsonl", "on": []}, "`column: on` must name the column"),
        ({"column": "g", "on": "id"}, "`column: on` needs a `path`"),
        ({"column": "g", "on": "id", "path": "s.xlsx"}, r"`column: path` must end in one of .*got 's\.xlsx'"),
    ],
)
def test_options_that_do_not_fit_together_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Column(**options)


def test_all_problems_of_a_column_are_reported_together() -> None:
    with pytest.raises(RecipeError) as caught:
        Column(path="s.xlsx")
    assert len(caught.value.problems) == 3
