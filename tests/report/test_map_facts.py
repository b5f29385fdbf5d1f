"""What the page knows of a data map: counts against a slow second count, and aggregates that do not grow with it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from campus_tune.report.map_facts import REGIONS, MapFacts, read_map
from campus_tune.report.map_page import notes
from campus_tune.report.map_shape import BINS, MANY, MapShape, shape_of
from campus_tune.report.run_facts import read_run
from campus_tune.run.row_map import ALL_ROWS, SAMPLE
from campus_tune.scores.cache import read_columns, write_columns
from campus_tune.words.errors import DataError
from tests.report.made_up import make_run
from tests.report.made_up_map import THRESHOLD, make_map, tell


def facts_of(run: Path, **how: Any) -> tuple[MapFacts, dict[str, Any]]:
    """The facts of a made-up map, and its columns."""
    make_run(run)
    columns = make_map(run, **how)
    found = read_run(run).map
    assert found is not None
    return found, columns


@pytest.mark.parametrize("rows", [3, 60, 700])
def test_the_counts_are_those_of_a_loop_over_the_rows(tmp_path: Path, rows: int) -> None:
    found, columns = facts_of(tmp_path / "run", rows=rows)
    by_domain: dict[str, Counter[str]] = {}
    for i in range(rows):
        counts = by_domain.setdefault(columns["domain"][i], Counter())
        counts["rows"] += 1
        counts["suspects"] += bool(columns["suspect"][i])
        counts[columns["region"][i]] += 1
    assert found.domains is not None
    for name, of in found.domains.items():
        assert (of.rows, of.suspects) == (by_domain[name]["rows"], by_domain[name]["suspects"])
        assert {region: n for region, n in of.regions.items() if n} == {
            region: n for region, n in by_domain[name].items() if region in REGIONS
        }
    assert set(found.domains) == set(by_domain)
    assert found.n_rows == rows == sum(of.rows for of in found.domains.values())
    assert found.n_suspects == sum(map(bool, columns["suspect"]))
    assert found.n_contradicting == len(range(2, rows, 29))
    assert found.n_duplicates == len(range(30, rows, 31))
    assert found.threshold == THRESHOLD
    assert list(found.regions) == [name for name in REGIONS if name in set(columns["region"])]


def test_the_bins_hold_each_row_with_a_score_once(tmp_path: Path) -> None:
    shape = facts_of(tmp_path / "run", rows=300)[0].shape
    assert shape is not None
    assert shape.spread is not None
    assert (shape.n_rows, shape.n_once, int(shape.by_region.sum())) == (299, 0, 299)  # one was never trained
    assert len(shape.points.excess) == 299
    assert shape.density is None
    by_hand = np.zeros(BINS, dtype=int)
    for value in shape.points.excess:
        inside = [i for i in range(BINS) if shape.excess[i] <= value]
        by_hand[inside[-1]] += 1
    assert shape.by_region.sum(axis=0).tolist() == by_hand.tolist()


def test_without_domains_all_rows_are_one_group(tmp_path: Path) -> None:
    found = facts_of(tmp_path / "run", domains=False)[0]
    assert found.domains is not None
    assert list(found.domains) == [ALL_ROWS]


def test_the_largest_domain_stands_first_and_rows_seen_once_have_no_spread(tmp_path: Path) -> None:
    found = facts_of(tmp_path / "run", rows=61, passes=1)[0]
    assert found.domains is not None
    assert next(iter(found.domains)) == "arithmetic"
    assert found.shape is not None
    assert found.shape.spread is None
    assert found.shape.n_once == found.shape.n_rows == 60


def columns_of(rows: int, wrong: float) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    excess = rng.normal(size=rows)
    excess[: int(wrong * rows)] += 12.0
    return {
        "excess": excess,
        "spread": rng.gamma(2.0, size=rows),
        "content": rng.integers(0, 1 << 63, rows, dtype=np.uint64),
    }


def drawn_of(columns: dict[str, Any]) -> MapShape:
    found = shape_of(columns, np.zeros(len(columns["excess"]), dtype=np.int64), columns["excess"] > 8.0, 8.0)
    assert found is not None
    return found


@pytest.mark.parametrize("wrong", [0.0, 0.0005, 0.3, 1.0])
def test_of_a_million_rows_two_thousand_are_drawn_and_all_are_counted(wrong: float) -> None:
    rows = 1_000_000 if wrong == 0.0005 else 20_000
    shape = drawn_of(columns_of(rows, wrong))
    n_wrong = int(wrong * rows)
    assert len(shape.points.excess) == SAMPLE
    kept = int(shape.points.suspect.sum())
    assert kept == {0.0: 0, 0.0005: n_wrong, 0.3: SAMPLE // 2, 1.0: SAMPLE}[wrong]
    assert shape.density is not None
    assert shape.density.shape == (BINS, BINS)
    assert shape.density.sum() == shape.by_region.sum() == shape.n_rows == rows
    assert (shape.n_suspects, shape.n_once) == (n_wrong, 0)


def test_the_same_rows_are_drawn_wherever_they_lie() -> None:
    columns, order = columns_of(MANY + 1, 0.05), np.random.default_rng(2).permutation(MANY + 1)
    one, other = drawn_of(columns), drawn_of({name: values[order] for name, values in columns.items()})
    assert sorted(one.points.excess) == sorted(other.points.excess)
    all_of_them = drawn_of({name: values[:MANY] for name, values in columns.items()})
    assert len(all_of_them.points.excess) == MANY


finite = st.floats(-1e6, 1e6, allow_nan=False, width=32)
maybe = finite | st.just(float("nan"))


@given(arrays.arrays(np.float32, st.integers(1, 40), elements=maybe), st.data())
def test_whatever_the_scores_are_every_row_is_drawn_inside_of_the_picture(excess: Any, data: st.DataObject) -> None:
    n = len(excess)
    spread = data.draw(arrays.arrays(np.float32, n, elements=maybe.map(abs)))
    threshold = data.draw(st.none() | finite)
    region = data.draw(arrays.arrays(np.int64, n, elements=st.integers(0, 3)))
    columns = {"excess": excess, "spread": spread, "content": np.arange(n, dtype=np.uint64)}
    found = shape_of(columns, region, excess > 2, threshold)
    known = np.isfinite(excess)
    if not known.any():
        assert found is None
        return
    assert found is not None
    assert found.by_region.sum(axis=1).tolist() == np.bincount(region[known], minlength=region.max() + 1).tolist()
    assert (np.diff(found.excess) > 0).all()
    assert ((found.points.excess >= found.excess[0]) & (found.points.excess <= found.excess[-1])).all()
    assert found.points.suspect.sum() == found.n_suspects == (excess[known] > 2).sum()
    if found.spread is not None:
        assert (found.points.spread <= found.spread[-1]).all()
        assert found.n_once == np.isnan(spread[known]).sum() <= known.sum() / 2


def test_the_likeliest_rows_are_read_with_what_the_map_says_of_them(tmp_path: Path) -> None:
    found, columns = facts_of(tmp_path / "run", rows=120)
    assert len(found.likeliest) == 20
    first = found.likeliest[0]
    assert first.row == int(np.nanargmax(np.where(columns["region"] == "not_seen", np.nan, columns["excess"])))
    assert (first.suspect, first.visits, first.rather_probability) == (True, 2, 0.62)
    assert [row.suspect for row in found.likeliest] == [bool(columns["suspect"][row.row]) for row in found.likeliest]


def test_a_run_of_before_there_were_maps_has_none(tmp_path: Path) -> None:
    assert read_run(make_run(tmp_path / "run")).map is None
    assert read_map(tmp_path / "run" / "curriculum", []) is None


def test_what_has_acted_by_itself_is_said_beside_the_map(tmp_path: Path) -> None:
    seen = {"rows": 60, "share": 0.1, "low": 0.04, "high": 0.2, "seen": True}
    told = {"stage": 2, "acts": ["robust"], "threshold": 0.02, "spared": 6, **seen, "by_domain": {"code": seen}}
    run = make_run(tmp_path / "run")
    make_map(run)
    tell(run, {"event": "act", "step": 6, **told})
    found = read_run(run).map
    assert found is not None
    words = "4.0% to 20% of the rows look wrong (code 4.0% to 20%), and from 2% on robust acts; 6 rows are spared"
    assert found.acted == f"after step 6, {words}"
    assert notes(found)[0] == f"After step 6, {words}."


def test_a_run_whose_map_could_not_be_made_says_why(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    tell(run, {"basis": "none", "rows": 60, "why": "training shows no losses of single rows"})
    found = read_run(run).map
    assert found is not None
    assert found.sentence == "There is no map of the rows: training shows no losses of single rows"
    assert (found.basis, found.shape, found.domains, found.likeliest) == ("none", None, None, ())


def test_a_map_that_was_removed_leaves_its_sentence(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    make_map(run)
    (run / "curriculum" / "book" / "map.parquet").unlink()
    found = read_run(run).map
    assert found is not None
    assert found.sentence.endswith("rows look wrong (6.7%)")


@pytest.mark.parametrize("content", [b"", b"half", None])
def test_a_damaged_map_is_named(tmp_path: Path, content: bytes | None) -> None:
    run = make_run(tmp_path / "run")
    make_map(run)
    path = run / "curriculum" / "book" / "map.parquet"
    path.write_bytes(path.read_bytes()[:-40] + b"\0" * 40 if content is None else content)
    with pytest.raises(DataError, match=r"map\.parquet` must be the map that the run left, got .*remove it to see"):
        read_run(run)
    path.unlink()
    assert read_run(run).map is not None


def test_a_map_of_another_version_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    make_map(run)
    path = run / "curriculum" / "book" / "map.parquet"
    columns, about = read_columns(path)
    del columns["spread"]
    write_columns(path, columns, about)
    with pytest.raises(DataError, match=r"map\.parquet` must be the map that the run left, got no column `spread`"):
        read_run(run)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"row": "x"}', "`row` must be a whole number"),
        ('{"row": 60}', "row 60 of 60"),
        ('{"row": -1}', "row -1 of 60"),
        ('{"row": 1, "excess": "high"}', "`excess` must be a number"),
        ("{half", "must be"),
    ],
)
def test_a_damaged_list_of_the_likeliest_rows_is_named(tmp_path: Path, line: str, problem: str) -> None:
    run = make_run(tmp_path / "run")
    make_map(run)
    path = run / "curriculum" / "book" / "likeliest.jsonl"
    path.write_text('{"row": 3}\n' + line + "\n", "utf-8")
    with pytest.raises(DataError, match=rf"likeliest\.jsonl` line 2 .*{problem}"):
        read_run(run)
    path.unlink()
    found = read_run(run).map
    assert found is not None
    assert found.likeliest == ()


def test_an_empty_list_and_rows_of_which_little_is_known_are_fine(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    make_map(run)
    path = run / "curriculum" / "book" / "likeliest.jsonl"
    path.write_text("", "utf-8")
    assert read_run(run).map is not None
    path.write_text(json.dumps({"row": 3, "domain": None, "excess": None, "text": None}) + "\n", "utf-8")
    found = read_run(run).map
    assert found is not None
    [row] = found.likeliest
    assert (row.row, row.domain, row.excess, row.text) == (3, "", None, "")


def test_a_region_that_a_later_version_knows_comes_last(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    make_map(run)
    path = run / "curriculum" / "book" / "map.parquet"
    columns, about = read_columns(path)
    columns["region"] = np.where(columns["region"] == "learned", "a new one", columns["region"])
    write_columns(path, columns, about)
    found = read_run(run).map
    assert found is not None
    assert found.regions[-1] == "a new one"
    assert "learned" not in found.regions
