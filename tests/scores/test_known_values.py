"""Rows that harmed the probes of an earlier run, left out of the next one: which, how found, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data.domains import Domains
from campus_tune.data.judged import Known
from campus_tune.data.said import Said
from campus_tune.data.shapes import Shape
from campus_tune.method.cells import Cells
from campus_tune.method.drop import as_many
from campus_tune.method.value import RowValues, ValuedVisits
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.drop_block import DropSettings
from campus_tune.run.value_table import ValueTable
from campus_tune.scores.cache import read_columns, write_columns
from campus_tune.scores.dropping import Dropped, drop_rows, dropped_of
from campus_tune.scores.known_values import LEAST_RELIABLE, read_values
from campus_tune.words.errors import DataError
from campus_tune.words.hashing import text_keys
from campus_tune.words.types import FloatArray
from tests.strategies import examples

PROBES = ("math", "code")
N = 40


def known(texts: list[str], tokenizer: int = 1) -> Known:
    content = text_keys([f"{tokenizer} {text}" for text in texts])
    return Known({"text": texts}, Said.of({"text": texts}, Shape()), Shape(), content)


def texts(n: int = N) -> list[str]:
    return [f"row {i}" for i in range(n)]


def leave(path: Path, halves: FloatArray, of: list[str] | None = None, visits: int = 3) -> Path:
    """The values of rows whose every visit had these, shape (2, n, 2 probe domains)."""
    rows, n = known(of or texts(halves.shape[1])), halves.shape[1]
    ones = np.ones(n, dtype=np.int64)
    stage = ValuedVisits(np.arange(n), ones, ones / 1.0, ones, halves[0], halves[1])
    values = RowValues.fold([stage] * visits, n, PROBES)
    keys = rows.keys()
    hashes = np.array([int(key, 16) for key in keys], dtype=np.uint64)
    table = ValueTable(values, Domains(), rows.content, hashes)
    write_columns(path, table.columns(), table.about())
    return path


def steady(value: Any) -> FloatArray:
    """Both halves and both domains say the same."""
    return np.broadcast_to(np.asarray(value, dtype=np.float64)[None, :, None], (2, len(value), 2)).copy()


def entry(path: Path, **given: Any) -> DropSettings:
    return DropSettings.from_mapping({"by": "value", "path": str(path), **given})


def dropped(path: Path, rows: Known, codes: list[int] | None = None, **given: Any) -> Dropped:
    domains = Domains() if codes is None else Domains(np.array(codes), ["a", "b"])
    return drop_rows([entry(path, **given)], lambda _: np.zeros(0), rows, domains, seed=3)


def rows_of(found: Dropped) -> list[int]:
    return np.flatnonzero(found.mask).tolist()


def ramp(*, low: float = -10.5) -> FloatArray:
    return np.arange(N) + low


def test_the_worst_tenth_of_the_rows_that_harm_goes(tmp_path: Path) -> None:
    path = leave(tmp_path / "values.parquet", steady(ramp()[::-1]))
    found = dropped(path, known(texts()))
    assert rows_of(found) == [36, 37, 38, 39]  # 11 rows are below 0
    assert found.counts() == {"value: below 0": 4}
    assert found.notes == (
        "`drop: value: below 0` names 11 rows and drops 4: 7 stay, for at_most: 0.1 of all rows are dropped (7).",
    )
    assert rows_of(dropped(path, known(texts()), at_most=0.9)) == list(range(29, 40))
    assert rows_of(dropped(path, known(texts()), at_most=0.9, below=-3 * 8)) == [37, 38, 39]  # of three visits


def test_rows_are_found_wherever_they_stand_and_whoever_cut_them_into_tokens(tmp_path: Path) -> None:
    path = leave(tmp_path / "values.parquet", steady(ramp()))
    turned = texts()[::-1]
    for tokenizer in (1, 2):
        assert rows_of(dropped(path, known(turned, tokenizer))) == [36, 37, 38, 39]


def test_rows_that_the_run_did_not_have_stay_and_are_counted(tmp_path: Path) -> None:
    halves = steady(ramp())
    halves[:, 1] = np.nan  # its weight was 0
    path = leave(tmp_path / "values.parquet", halves)
    rows = known([*texts()[:8], *(f"new {i}" for i in range(12))])
    found = dropped(path, rows, at_most=0.9)
    assert rows_of(found) == [0, 2, 3, 4, 5, 6, 7]
    assert found.notes == ("`drop: value` knows nothing of 13 of 20 rows, which stay.",)


def test_a_row_goes_only_if_both_halves_and_two_of_three_visits_say_so(tmp_path: Path) -> None:
    halves = steady(ramp(low=1.0))
    halves[0, 3], halves[1, 3] = -9.0, 1.0  # one half
    halves[:, 4] = -1.0
    path = leave(tmp_path / "values.parquet", halves)
    assert rows_of(dropped(path, known(texts()))) == [4]
    columns, about = read_columns(path)
    columns["negative"] = columns["negative"].copy()
    columns["negative"][4] = 1  # of 3 visits
    write_columns(path, columns, about)
    assert rows_of(dropped(path, known(texts()))) == []


def test_one_probe_domain_may_decide(tmp_path: Path) -> None:
    halves = steady(ramp(low=1.0))
    halves[:, 7, 1] = -30.0  # harms code, and helps math less than that
    halves[:, 9, 1] = -1.0
    path = leave(tmp_path / "values.parquet", halves)
    assert rows_of(dropped(path, known(texts()))) == [7]
    found = dropped(path, known(texts()), probe="code")
    assert rows_of(found) == [7, 9]
    assert found.counts() == {"value for code: below 0": 2}
    assert rows_of(dropped(path, known(texts()), probe="math")) == []


def test_rows_that_the_run_had_twice_count_together(tmp_path: Path) -> None:
    doubled = [*texts(N - 1), "row 0"]
    value = ramp(low=1.0)
    value[0], value[-1] = -5.0, 3.0
    path = leave(tmp_path / "values.parquet", steady(value), doubled)
    found = read_values(path, known(["row 0", "row 1"]))
    assert found.value.tolist() == pytest.approx([3 * -2.0, 3 * 2.0])
    assert found.visits.tolist() == [6, 3]
    assert found.harmful(0.0).tolist() == []  # in three of six visits


def test_no_domain_loses_more_than_half(tmp_path: Path) -> None:
    path = leave(tmp_path / "values.parquet", steady(ramp()))
    codes = [0] * 12 + [1] * 28
    found = dropped(path, known(texts()), codes, at_most=0.9)
    assert rows_of(found) == [0, 1, 2, 3, 4, 5]
    assert "half of their domain would be gone (a 5)" in found.notes[0]


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_values_whose_halves_disagree_drop_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    halves = rng.normal(size=(2, 400, 2))
    path = leave(tmp_path / "values.parquet", halves)
    with pytest.raises(
        DataError, match=r"halves of all probes agree, with a split-half reliability of at least 0\.3"
    ) as e:
        dropped(path, known(texts(400)))
    assert "Take this entry out of `drop`, or measure again, with more probe rows" in str(e.value)
    halves[:, :, 1] = rng.normal(size=400)  # code alone is known well
    leave(path, halves)
    assert len(rows_of(dropped(path, known(texts(400)), probe="code"))) == 40
    with pytest.raises(DataError, match="halves of the probes of math agree"):
        dropped(path, known(texts(400)), probe="math")


@pytest.mark.parametrize("value", [LEAST_RELIABLE, LEAST_RELIABLE - 1e-6, None])
def test_the_bound_of_the_reliability_is_three_tenths(tmp_path: Path, value: float | None) -> None:
    path = leave(tmp_path / "values.parquet", steady(ramp()))
    columns, about = read_columns(path)
    about["split_half"]["all"]["value"] = value
    write_columns(path, columns, about)
    if value == LEAST_RELIABLE:
        assert rows_of(dropped(path, known(texts())))
        return
    with pytest.raises(DataError, match="which rows harm is mostly chance"):
        dropped(path, known(texts()))


def test_a_probe_domain_that_is_not_there_is_named_and_corrected(tmp_path: Path) -> None:
    path = leave(tmp_path / "values.parquet", steady(ramp()))
    with pytest.raises(DataError, match=r"`drop: probe` must be a probe domain .*got 'maths'. Did you mean 'math'"):
        dropped(path, known(texts()), probe="maths")
    assert rows_of(dropped(path, known(texts()), probe="math"))


def test_another_file_is_refused_with_the_path_to_write(tmp_path: Path) -> None:
    missing, damaged, other = (tmp_path / name for name in ("missing", "damaged", "other.parquet"))
    damaged.write_bytes(b"PAR1")
    write_columns(other, {"content": np.arange(3), "key": np.array(["a"] * 3), "score": np.zeros(3)}, {})
    for path in (missing, damaged, other, tmp_path):
        with pytest.raises(DataError, match=r"Write path: RUN/curriculum/value/values\.parquet") as error:
            dropped(path, known(texts()))
        assert str(path) in str(error.value)


def test_values_of_other_data_are_refused(tmp_path: Path) -> None:
    path = leave(tmp_path / "values.parquet", steady(ramp()))
    with pytest.raises(DataError, match="must hold values of rows of the training set, got 40 rows that are none of"):
        dropped(path, known([f"other {i}" for i in range(9)]))


# -- its control -------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(0, 12))
@examples(40)
def test_as_many_of_each_cell_go_first_come_first(seed: int, n_cells: int, n_gone: int) -> None:
    rng = np.random.default_rng(seed)
    cells, gone = rng.integers(0, n_cells, 20), rng.random(20) < n_gone / 20
    first = rng.permutation(20)[: rng.integers(1, 21)]
    found = as_many(gone, cells, first)
    for cell in range(n_cells):
        may = [row for row in first.tolist() if cells[row] == cell]
        wanted = int((gone & (cells == cell)).sum())
        assert np.flatnonzero(found & (cells == cell)).tolist() == sorted(may[:wanted])


def test_its_control_drops_as_many_of_each_cell_that_helped_most(tmp_path: Path) -> None:
    path = leave(tmp_path / "values.parquet", steady(ramp()))
    drop = [{"by": "duplicates"}, {"by": "value", "path": str(path), "at_most": 0.2}]
    config = CampusConfig.from_mapping({"metrics": ["length"], "drop": drop, "seed": 0})
    rows = replace(known([*texts()[:-1], "row 7"]), content=known(texts()).content)
    cells = Cells((np.arange(N) % 2).astype(np.int32), ("even", "odd"), np.zeros(2, dtype=np.int64))
    plain, best = (
        dropped_of(replace(config, control=control), {}, rows, Domains(), cells) for control in (None, "drop_best")
    )
    assert plain is not None
    assert best is not None
    assert plain.counts() == {"value: below 0": 8, "duplicates: equal": 1}
    assert best.counts() == {"drop_best": 8, "duplicates: equal": 1}
    assert [row for row in rows_of(plain) if row != 39] == list(range(8))
    assert [row for row in rows_of(best) if row != 39] == list(range(31, 39))
