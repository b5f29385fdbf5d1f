"""What is made once, with the package itself: rows, a tokenizer, two runs, a comparison, results, scores, a cache."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

CACHE_ROWS = 30


def make(folder: Path, *, trains: bool = True) -> None:
    """Fill an empty folder.

    Args:
        folder: made if it is not there.
        trains: False leaves out what must be trained: the kinds `checkpoint` and `state` cannot be asked then.
    """
    from campus_tune.demo.tasks import write_tasks
    from campus_tune.demo.tiny import write_tiny

    write_tasks(folder / "data", rows_per_cell=2, probes_per_cell=1, tests_per_cell=1, seed=0)
    write_tiny(folder / "model")
    _tables(folder)
    _scores(folder)
    _results(folder / "results")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        _made_up(folder)
        if trains:
            _runs(folder)


def _tables(folder: Path) -> None:
    import csv

    import pyarrow as pa
    import pyarrow.parquet as pq

    lines = (folder / "data" / "train.jsonl").read_text("utf-8").splitlines()[:12]
    rows = [{"prompt": str(row["prompt"]), "completion": str(row["completion"])} for row in map(json.loads, lines)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _scores(folder: Path) -> None:
    from campus_tune.scores.cache import CacheKey, ScoreCache, write_columns
    from campus_tune.scores.run_scores import Scores

    content, chance = np.arange(1, CACHE_ROWS + 1, dtype=np.uint64), np.random.default_rng(0)
    scores = Scores()
    for label in ("length", "mtld"):
        scores.by_label[label] = chance.normal(size=CACHE_ROWS)
        columns = {"content": content, "score": scores.by_label[label]}
        write_columns(folder / "scores" / f"{label}.parquet", columns, {})
    (folder / "scores" / "digests.json").write_text(json.dumps(scores.digests()), "utf-8")
    for key, times in ((CacheKey("length", {"of": "response"}, version=3), 2.0), (CacheKey("mtld", version=3), 5.0)):
        ScoreCache(folder / "cache").write(key, content, {"score": content * times})


def _results(folder: Path) -> None:
    from campus_tune.evaluate.results import Result, TaskResult, write_result

    metric = "exact_match,strict-match"
    for name, right in (("a", 3), ("b", 5)):
        documents: Any = {"gsm8k": {str(i): {metric: float(i % 7 < right)} for i in range(20)}}
        mean = sum(values[metric] for values in documents["gsm8k"].values()) / 20
        told = {metric: {"value": mean, "stderr": 0.1, "n": 20}}
        task = TaskResult({"limit": 20, "versions": {"gsm8k": 3.0}}, told, documents, 7.5)
        model = {"name": name, "adapter": None, "step": None, "weights": f"{name}0"}
        write_result(folder / f"{name}.json", Result(model, {"campus_tune": "1", "lm_eval": "1"}, {"gsm8k": task}))


def _made_up(folder: Path) -> None:
    from tests.report.made_up import make_comparison, make_run

    make_run(folder / "made", stages=3, rows=24)
    make_comparison(folder / "comparison", seeds=2, items=12)


def _runs(folder: Path) -> None:
    from tests.run.tiny_run import task_rows, tiny_trainer

    tiny_trainer(folder / "run", n=24, save_steps=2).train()
    tiny_trainer(folder / "other", train=task_rows(24, seed=9), save_steps=2, seed=4).train()
