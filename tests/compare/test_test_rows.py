"""Test rows are enough, and nothing is trained or steered by them."""

from pathlib import Path

import pytest

from campus_tune.compare.deciding_rows import read_probes, read_test
from campus_tune.words.errors import DataError
from tests.compare.tiny_compare import PROBES, TESTS, plan_of, tiny_recipe, write_rows
from tests.run.tiny_run import task_rows


def test_rows_that_nobody_trains_are_taken(tmp_path: Path) -> None:
    rows = read_test(plan_of(tiny_recipe(tmp_path)))
    assert len(rows) == TESTS
    assert rows.domain_column == "domain"


def test_few_rows_are_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "test.jsonl", task_rows(29, seed=5))
    with pytest.raises(DataError, match="`compare: test` must have at least 30 rows, got 29"):
        read_test(plan_of(tiny_recipe(tmp_path)))


def test_a_test_row_that_is_trained_is_named(tmp_path: Path) -> None:
    write_rows(tmp_path / "test.jsonl", [*task_rows(39, seed=5), task_rows(48, seed=1)[7]])
    with pytest.raises(DataError, match=r"got 1 that are in the training set \(`.*test.jsonl` row 39 = row 7 there\)"):
        read_test(plan_of(tiny_recipe(tmp_path)))


def test_a_test_row_that_steers_is_named(tmp_path: Path) -> None:
    write_rows(tmp_path / "test.jsonl", [task_rows(PROBES, seed=77)[2], *task_rows(39, seed=5)])
    with pytest.raises(DataError, match=r"in the steering probes `.*probes.jsonl` \(`.*test.jsonl` row 0 = row 2"):
        read_test(plan_of(tiny_recipe(tmp_path)))


def test_probes_of_another_arm_count_too(tmp_path: Path) -> None:
    others = write_rows(tmp_path / "others.jsonl", task_rows(40, seed=5)[3:5])
    arms = {"random": {}, "mine": {"probes": {"path": others}}}
    with pytest.raises(DataError, match=r"in the steering probes `.*others.jsonl` \(.* row 3 = row 0 there, .* row 4"):
        read_test(plan_of(tiny_recipe(tmp_path, compare={"arms": arms})))


def test_probes_are_read_as_text_with_their_domains(tmp_path: Path) -> None:
    block = {"probes": {"path": write_rows(tmp_path / "p.jsonl", task_rows(5, seed=77))}}
    probes = read_probes(block)
    assert probes is not None
    assert list(probes.domains) == [row["domain"] for row in task_rows(5, seed=77)]
    plain = [{key: row[key] for key in ("prompt", "completion")} for row in task_rows(5, seed=77)]
    alone = read_probes({"probes": {"path": write_rows(tmp_path / "plain.jsonl", plain)}})
    assert alone is not None
    assert set(alone.domains) == {"plain"}
    assert read_probes({"metrics": ["length"]}) is None
