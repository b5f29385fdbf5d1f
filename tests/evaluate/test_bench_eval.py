"""The comparison with lm-eval's own command: that its data are the same, and that it would notice another score."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from campus_tune.evaluate.tasks import load_tasks
from campus_tune.words.errors import DataError
from eval.bench_eval import Turn, differing, hub_folder, narrowed, parse, ratio, run
from tests.evaluate import data

pytestmark = pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="needs lm-eval")


def turn(seconds: float = 1.0, **documents: float) -> Turn:
    return Turn(seconds, seconds, {"arc": {"acc,none": 0.5}}, {("arc", n, "acc,none"): v for n, v in documents.items()})


def test_the_folder_gives_the_rows_under_the_hubs_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    folder = data.write(tmp_path / "data")
    options = parse(["--data", str(folder), "--tasks", "arc_easy", "gsm8k", "--limit", "2"])
    suite = narrowed(options)
    assert [(task.limit, task.max_gen_toks) for task in suite.tasks] == [(2, None), (2, 64)]
    hub_folder(tmp_path / "hub", suite, str(folder))
    monkeypatch.chdir(tmp_path / "hub")
    for task in load_tasks(suite, folder, allow_code_execution=False).tasks.values():
        (leaf,) = task.tasks.values()
        cache = str(tmp_path / "cache")
        found = datasets.load_dataset(leaf.config.dataset_path, leaf.config.dataset_name, cache_dir=cache)
        assert {split: list(rows) for split, rows in found.items()} == {s: list(r) for s, r in leaf.dataset.items()}


def test_a_score_that_is_not_the_same_to_the_last_digit_is_named() -> None:
    assert not differing(turn(a=1.0), turn(a=1.0))
    assert differing(turn(a=0.3), turn(a=0.1 + 0.2)) == ["arc a acc,none: 0.3 and 0.30000000000000004"]
    assert differing(turn(a=1.0, b=0.0), turn(a=1.0)) == ["arc b acc,none: 0.0 and None"]
    other = Turn(1.0, 1.0, {"arc": {"acc,none": 0.25}}, {})
    assert differing(turn(), other) == ["arc acc,none: 0.5 and 0.25"]
    assert differing(turn(), Turn(1.0, 1.0, {}, {})) == ["arc acc,none: 0.5 and None"]


def test_the_ratio_is_taken_turn_by_turn() -> None:
    pairs = [(turn(2.0), turn(1.0)), (turn(30.0), turn(10.0)), (turn(4.0), turn(4.0))]
    assert ratio(pairs, "seconds") == 2.0


def test_a_command_that_fails_is_shown(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)must run, got:.*NameError"):
        run([sys.executable, "-c", "nothing_of_this_name"], tmp_path, tmp_path)
