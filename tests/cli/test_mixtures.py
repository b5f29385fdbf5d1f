"""A mixture without a column of domains, through every command: it is trained as a file that has the column."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import Trainer

from campus_tune.cli.main import main
from campus_tune.compare.deciding_rows import read_test
from campus_tune.demo.tiny import write_tiny
from campus_tune.read.same_stream import compare_runs
from campus_tune.run.ledger import comparable, read_ledger
from campus_tune.words.errors import INTERRUPTED, DataError
from campus_tune.words.types import Json
from tests.compare.tiny_compare import plan_of
from tests.run.tiny_run import task_rows

NAMES = ("songs", "facts")


@pytest.fixture(autouse=True)
def _no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("campus_tune.report.callback.report_on", lambda _: None)


def write_rows(path: Path, rows: Sequence[Json]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def write_recipe(folder: Path, name: str, **settings: Any) -> str:
    """A recipe in the folder, by its name."""
    recipe = {
        "model_name_or_path": str(folder / "model"),
        "output_dir": str(folder / name),
        "per_device_train_batch_size": 4,
        "num_train_epochs": 1,
        "bf16": False,
        "use_cpu": True,
        "activation_checkpointing": False,
        "report_to": "none",
        "save_steps": 4,
        "campus": {"metrics": ["length"], "stages": 4, "probes": {"path": str(folder / "probes.jsonl")}},
        **settings,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe), "utf-8")
    return str(path)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, rows of two domains in a file each and all in one, probes, and recipes that are told apart by them."""
    folder = tmp_path_factory.mktemp("mixtures")
    write_tiny(folder / "model", hidden=16, layers=1)
    parts = {}
    for name, seed in (("songs", 1), ("facts", 2)):
        rows = [{key: row[key] for key in ("prompt", "completion")} for row in task_rows(20, seed=seed)]
        parts[name] = [{**row, "domain": name} for row in rows]
        write_rows(folder / f"{name}.jsonl", rows)
        write_rows(folder / f"{name}-told.jsonl", parts[name])
    write_rows(folder / "all.jsonl", [*parts["songs"], *parts["facts"]])
    held = [{**row, "domain": NAMES[i % 2]} for i, row in enumerate(task_rows(80, seed=77))]
    write_rows(folder / "probes.jsonl", held[:40])
    write_rows(folder / "test.jsonl", held[40:])
    write_recipe(folder, "file", dataset_name=str(folder / "all.jsonl"))
    write_recipe(folder, "mixture", datasets=[{"path": str(folder / f"{name}.jsonl")} for name in NAMES])
    told = [{"path": "json", "data_files": str(folder / f"{name}-told.jsonl")} for name in NAMES]
    write_recipe(folder, "told", datasets=told)
    return folder


@pytest.fixture(scope="module")
def trained(home: Path) -> Path:
    """The same folder, with a run of each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("campus_tune.report.callback.report_on", lambda _: None)
        for name in ("file", "mixture", "told"):
            assert main(["sft", "--config", str(home / f"{name}.yaml")]) == 0
    return home


@pytest.mark.parametrize("name", ["mixture", "told"])
def test_a_mixture_is_planned_and_trained_as_a_file_that_says_the_domains(trained: Path, name: str) -> None:
    assert compare_runs(trained / "file", trained / name).same
    ledgers = [read_ledger(trained / run / "curriculum/ledger.jsonl") for run in ("file", name)]
    one, other = map(comparable, ledgers)
    assert one == other
    assert {*NAMES} <= {*json.dumps(one).replace('"', " ").split()}


def test_a_mixture_is_resumed(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sft", "--config", str(trained / "mixture.yaml"), "--output_dir", str(tmp_path / "again")]
    real = Trainer._save_checkpoint

    def save(self: Any, *args: Any, **how: Any) -> None:
        real(self, *args, **how)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_save_checkpoint", save)
        assert main(words) == INTERRUPTED
    assert main([*words, "--resume_from_checkpoint", "true"]) == 0
    assert "order audit: all 10 steps trained the planned rows" in capsys.readouterr().out
    assert compare_runs(trained / "mixture", tmp_path / "again").same


def test_check_looks_at_a_mixture_with_its_domains(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(home / "mixture.yaml")]) == 0
    mixture = capsys.readouterr().out
    assert main(["check", str(home / "file.yaml")]) == 0
    assert mixture == capsys.readouterr().out
    assert "40 rows" in mixture


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ([{"path": "a.jsonl"}, {"path": "b.jsonl"}], "`a.jsonl` must be a readable file"),
        ([{"path": "a", "domian": "x"}], "`datasets: 0: domian` must be one of path"),
        ([{"path": "./nowhere"}, {"path": "b"}], "`datasets` must name data sets that can be loaded, got ./nowhere, b"),
    ],
)
def test_check_says_what_is_wrong_with_a_mixture(
    entries: list[Json], told: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", write_recipe(home, "wrong", datasets=entries)]) == 1
    assert told in capsys.readouterr().out


def test_a_mixture_is_scored_and_looked_through(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = str(home / "mixture.yaml")
    assert main(["score", "--config", recipe, "--scores", str(tmp_path / "scores")]) == 0
    capsys.readouterr()
    assert main(["suspects", "--config", recipe]) == 0
    told = capsys.readouterr().out
    assert "songs" in told
    assert "facts" in told


def test_a_comparison_knows_a_mixtures_rows(home: Path) -> None:
    entries = [{"path": str(home / f"{name}.jsonl")} for name in NAMES]
    compare = {"test": {"path": str(home / "test.jsonl")}, "seeds": 2}
    assert len(read_test(plan_of(Path(write_recipe(home, "compared", datasets=entries, compare=compare))))) == 40
    compare["test"] = {"path": [str(home / f"{name}-told.jsonl") for name in NAMES]}
    with pytest.raises(DataError, match="test rows must be held out of the training set, got 40"):
        read_test(plan_of(Path(write_recipe(home, "leaking", datasets=entries, compare=compare))))


def test_a_split_of_the_recipes_own_name_is_read_and_trained(home: Path) -> None:
    for name, rows in (("train_sft", task_rows(12, seed=1)), ("test_sft", task_rows(4, seed=2))):
        (home / "chosen").mkdir(exist_ok=True)
        write_rows(home / "chosen" / f"{name}.jsonl", rows)
    files = {"train_sft": str(home / "chosen/train_sft.jsonl")}
    entries = [{"path": "json", "data_files": files}, {"path": str(home / "facts.jsonl"), "split": "train"}]
    recipe = write_recipe(home, "split", datasets=entries, dataset_train_split="train_sft", max_steps=2)
    assert main(["check", recipe]) == 0
    assert main(["sft", "--config", recipe]) == 0
