from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from campus_tune.demo.tiny import write_tiny
from campus_tune.scores.cache import read_columns
from campus_tune.words.types import Json
from tests.distributed.ranks import Warm
from tests.distributed.told import choices, lines, steps_of
from tests.run.tiny_run import task_rows

AWARE: Json = {"metrics": ["length", "loss", {"name": "scorer", "new_tokens": 8}], "stages": 6, "rescore": 2}
AWARE |= {"handover": 0.9, "budget": 1.0, "selector": "lowest_perplexity"}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command line of a small recipe."""
    folder = tmp_path_factory.mktemp("recipe")
    write_tiny(folder / "model")
    for name, rows in (("rows", task_rows(90)), ("probes", task_rows(50, seed=77))):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "model_name_or_path": str(folder / "model"),
        "dataset_name": str(folder / "rows.jsonl"),
        "output_dir": str(folder / "out"),
        "use_cpu": True,
        "bf16": False,
        "campus": {
            "metrics": ["length", "loss"],
            "budget": 0.5,
            "probes": {"path": str(folder / "probes.jsonl")},
        },
    }
    (folder / "recipe.yaml").write_text(json.dumps(settings))  # JSON is YAML
    return ["--config", str(folder / "recipe.yaml")]


def test_scores_on_two_processes_are_those_of_one(warm: Warm, recipe: list[str], tmp_path: Path) -> None:
    metrics = ["length", "mtld", "loss", "ifd"]
    for world in (1, 2):
        report = warm.run("score", world, argv=recipe, scores=str(tmp_path / str(world)), metrics=metrics).ok
        assert "scores of 90 rows are in" in report.stdout[0]
        assert not any(report.stdout[1:])
    alone, shared = (_columns(tmp_path / str(world)) for world in (1, 2))
    assert alone.keys() == shared.keys()
    assert len(alone) >= 3
    for name, columns in alone.items():
        for column, values in columns.items():
            np.testing.assert_array_equal(values, shared[name][column], err_msg=f"{name}: {column}")
    before = _files(tmp_path / "1")
    warm.run("score", 2, argv=recipe, scores=str(tmp_path / "1"), metrics=metrics).ok  # noqa: B018  # it asserts
    assert _files(tmp_path / "1") == before  # what one process measured, two find


def _files(cache: Path) -> set[Path]:
    return {path for path in cache.rglob("*.parquet") if not path.parent.name.startswith("scored-ahead")}


def _columns(cache: Path) -> dict[str, dict[str, np.ndarray]]:
    """Metric and what its scores depend on → its columns, sorted by row."""
    found = {}
    for path in sorted(cache.rglob("*.parquet")):
        columns, _ = read_columns(path)
        order = np.lexsort(tuple(columns[name] for name in sorted(columns)))
        assert path.parent.name not in found, "one process wrote all of it"
        found[path.parent.name] = {name: values[order] for name, values in columns.items()}
    return found


def test_a_scorer_on_two_processes_decides_as_on_one(warm: Warm, tmp_path: Path) -> None:
    runs = {}
    for world in (1, 2):
        runs[world] = str(tmp_path / str(world))
        settings = {"n": 120, "per_device_train_batch_size": 8 // world, "num_train_epochs": 2}
        runs[world, "report"] = warm.run("train", world, out=runs[world], config=AWARE, **settings).ok
    first = [lines(runs[world], "decision")[0] for world in (1, 2)]
    assert first[0] == first[1]  # to the last bit
    files = [{p.name: p.read_bytes() for p in Path(runs[w], "curriculum", "scores").glob("*.parquet")} for w in (1, 2)]
    assert files[0].keys() == files[1].keys()
    assert len(lines(runs[2], "rescored")) >= 2
    assert choices(runs[1]) == choices(runs[2])
    assert steps_of(runs[1, "report"]) == steps_of(runs[2, "report"])


def test_slopes_on_two_processes_are_those_of_one(warm: Warm, recipe: list[str], tmp_path: Path) -> None:
    for world in (1, 2):
        warm.run("score", world, argv=recipe, scores=str(tmp_path / str(world)), metrics=["influence"]).ok  # noqa: B018
    (alone, shared) = (_columns(tmp_path / str(world)) for world in (1, 2))
    assert alone.keys() == shared.keys()  # the gradients' last bits are no part of what a slope hangs on
    (name,) = (name for name in alone if name.startswith("slope"))
    slopes, scale = alone[name]["nll_sum"], float(alone[name]["nll_sum"].std())
    assert np.array_equal(alone[name]["content"], shared[name]["content"])
    np.testing.assert_allclose(shared[name]["nll_sum"], slopes, rtol=0, atol=0.01 * scale)


def test_a_run_by_slopes_on_two_processes_decides_as_on_one(warm: Warm, tmp_path: Path) -> None:
    config: Json = {"metrics": ["-influence", "length"], "stages": 6, "rescore": 2, "handover": 0.9, "budget": 8.0}
    config |= {"selector": "round_robin"}
    rows = {}
    for world in (1, 2):
        settings = {"n": 96, "per_device_train_batch_size": 8 // world, "lora": True, "probes": 50}
        warm.run("train", world, out=str(tmp_path / str(world)), config=config, **settings).ok  # noqa: B018
        rescored = lines(str(tmp_path / str(world)), "rescored")
        assert len(rescored) == 2
        assert all("probe_agreement" in line["orders"]["-influence"] for line in rescored)
        rows[world] = [(line["rows"], line["tokens"], line["orders"]["-influence"]["step"]) for line in rescored[:1]]
    assert rows[1] == rows[2]  # of the second one orders decide that a last bit may turn around
