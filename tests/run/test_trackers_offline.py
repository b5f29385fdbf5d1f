"""One run that reports to all four trackers, each in its offline mode: what it leaves in their own files."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campus_tune.run.told.trackers import OF_A_SUSPECT, SUSPECTS, suspect_table
from campus_tune.scores.cache import write_columns
from campus_tune.words.types import Json
from tests.run.tiny_run import tiny_trainer

ROOT = Path(__file__).parents[2]
SHUFFLE: Json = {"selector": "shuffle", "stages": 1, "budget": 0}
LINES = [[6, "d6", "code", "suspect", 5.5, 2, 3.25, 0.1], [1, "d1", "math", "suspect", 4.1235, 2, 3.25, None]]


def made_map(folder: Path, suspects: tuple[int, ...] = (1, 6), *, domains: bool = True) -> Path:
    """`curriculum/` with a map of eight rows."""
    n = 8
    columns: dict[str, Any] = {
        "row": np.arange(n),
        "key": [f"d{row}" for row in range(n)],
        **({"domain": ["code", "math", *["code"] * 6]} if domains else {}),
        "region": ["suspect" if row in suspects else "learned" for row in range(n)],
        "excess": np.array([0, 4.12345, 0, 0, 0, 0, 5.5, np.nan]),
        "visits": np.full(n, 2),
        "mean_loss": np.full(n, 3.25),
        "lowest_probability": [None if row == 1 else 0.1 for row in range(n)],
        "suspect": np.isin(np.arange(n), suspects),
    }
    (folder / "book").mkdir(parents=True, exist_ok=True)
    write_columns(folder / "book" / "map.parquet", columns, {})
    return folder


def test_the_table_has_the_likeliest_wrong_row_first_and_no_text(tmp_path: Path) -> None:
    path = made_map(tmp_path) / "book" / "map.parquet"
    assert suspect_table(path) == [list(OF_A_SUSPECT), *LINES]


def test_without_domains_the_table_has_no_such_column_and_without_suspects_there_is_none(tmp_path: Path) -> None:
    columns, *_ = suspect_table(made_map(tmp_path / "a", domains=False) / "book" / "map.parquet")
    assert columns == [name for name in OF_A_SUSPECT if name != "domain"]
    assert suspect_table(made_map(tmp_path / "b", ()) / "book" / "map.parquet") == []


class Logged:
    """Where each tracker has left its files, and what the process that ran said of it."""

    def __init__(self, out: Path, said: Json) -> None:
        self.out, self.said = out, said

    def trackio(self) -> list[tuple[str, Json]]:
        """Lines of its database: the run, what was logged."""
        with closing(sqlite3.connect(next((self.out / "trackio").glob("*.db")))) as files:
            found = files.execute("select run_name, metrics from metrics").fetchall()
        return [(run, json.loads(line)) for run, line in found]

    def board(self) -> Any:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        board = EventAccumulator(str(self.out / "board"))
        board.Reload()
        return board


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    """A process of its own: the four keep much in mind that no other test should find."""
    if missing := [name for name in ("tensorboard", "wandb", "trackio", "mlflow") if find_spec(name) is None]:
        pytest.skip(f"not installed: {missing}")
    out = tmp_path_factory.mktemp("trackers")
    folders = {f"WANDB_{what}DIR": out / "wandb" for what in ("", "CACHE_", "CONFIG_", "DATA_")}
    folders |= {"TRACKIO_DIR": out / "trackio", "TENSORBOARD_LOGGING_DIR": out / "board", "HOME": out / "home"}
    for folder in folders.values():
        folder.mkdir(exist_ok=True)
    offline = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "MLFLOW_ALLOW_FILE_STORE": "true"}
    here = {"MLFLOW_TRACKING_URI": (out / "mlflow").as_uri(), "PYTHONPATH": str(ROOT)}
    given = {**os.environ, **offline, **here, **{name: str(folder) for name, folder in folders.items()}}
    made_map(out / "curriculum")
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("all_trackers.py")), str(out)]
    child = subprocess.run(command, env=given, capture_output=True, text=True, check=False, cwd=out)
    assert child.returncode == 0, child.stderr
    return Logged(out, {"stdout": child.stdout, **json.loads((out / "said.json").read_text("utf-8"))})


def in_tensorboard(logged: Logged) -> set[str]:
    tags = logged.board().Tags()
    return {*tags["scalars"], *(name.removesuffix("/text_summary") for name in tags["tensors"])}


def in_wandb(logged: Logged) -> set[str]:
    return set(logged.said["wandb"])


def in_trackio(logged: Logged) -> set[str]:
    return {name for _, line in logged.trackio() for name in line}


def in_mlflow(logged: Logged) -> set[str]:
    [run] = [path.parent for path in (logged.out / "mlflow").glob("*/*/metrics")]
    numbers = {str(path.relative_to(run / "metrics")) for path in (run / "metrics").rglob("*") if path.is_file()}
    tables = {str(path.relative_to(run / "artifacts").with_suffix("")) for path in (run / "artifacts").rglob("*.json")}
    return numbers | tables


def ours(names: set[str]) -> set[str]:
    """Ours of them, without what transformers puts before them in three of the trackers, as it does before the loss."""
    plain = {name.removeprefix("train/") for name in names}
    return {name for name in plain if name.startswith("campus/")}


@pytest.mark.slow
def test_all_take_the_map_after_the_end_of_the_run(logged: Logged) -> None:
    assert sorted(logged.said["took"]) == ["MLflow", "TensorBoard", "Trackio", "Wandb"]
    assert "did not take" not in logged.said["stdout"]


@pytest.mark.slow
def test_all_have_the_same_names(logged: Logged) -> None:
    found = {read.__name__: ours(read(logged)) for read in (in_tensorboard, in_wandb, in_trackio, in_mlflow)}
    assert {"campus/stage", "campus/cost_share", "campus/competence/code", "campus/map/learned"} <= found["in_mlflow"]
    assert {"campus/suspects", "campus/map", SUSPECTS} <= found["in_mlflow"]
    assert {name: names ^ found["in_mlflow"] for name, names in found.items()} == {name: set() for name in found}


@pytest.mark.slow
def test_mlflow_and_wandb_show_the_table_of_suspects(logged: Logged) -> None:
    [of_mlflow] = (logged.out / "mlflow").rglob("suspect_rows.json")
    assert json.loads(of_mlflow.read_text("utf-8")) == {"columns": list(OF_A_SUSPECT), "data": LINES}
    [of_wandb] = (logged.out / "wandb").rglob("suspect_rows*.table.json")
    assert json.loads(of_wandb.read_text("utf-8"))["data"] == LINES


@pytest.mark.slow
def test_trackio_shows_it_too(logged: Logged) -> None:
    [table] = [line[SUSPECTS]["_value"] for _, line in logged.trackio() if SUSPECTS in line]
    assert [list(line.values()) for line in table] == LINES


@pytest.mark.slow
def test_tensorboard_shows_it_as_text(logged: Logged) -> None:
    [text] = logged.board().Tensors(f"{SUSPECTS}/text_summary")
    said = text.tensor_proto.string_val[0].decode()
    assert "| 6 | d6 | code | suspect | 5.5 | 2 | 3.25 | 0.1 |\n" in said
    assert said.endswith("| 3.25 |  |")


@pytest.mark.slow
def test_trackio_has_one_run_though_nobody_named_it_and_says_so_once(logged: Logged) -> None:
    assert len({run for run, _ in logged.trackio()}) == 1
    assert logged.said["stdout"].count("* Run finished.") == 1


@pytest.mark.slow
def test_mlflow_has_one_run_that_is_over(logged: Logged) -> None:
    [about] = (logged.out / "mlflow").glob("*/*/meta.yaml")
    assert "status: 3" in about.read_text("utf-8")


def failing(*events: str) -> Any:
    """A tracker of transformers' whose server is gone, in these events."""
    from transformers.integrations import TensorBoardCallback

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("nobody is there")

    tracker = type("TensorBoardCallback", (TensorBoardCallback,), dict.fromkeys(events, fail))()
    tracker.logging_dir = None
    return tracker


def test_a_run_goes_on_without_a_tracker_that_fails_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    tracker = failing("on_log", "on_train_end")
    trainer = tiny_trainer(tmp_path / "run", n=8, config=SHUFFLE, callbacks=[tracker])
    trainer.train()
    said = capsys.readouterr().out
    assert said.count("did not take") == 1
    assert "warning: TensorBoard did not take what was logged (ConnectionError: nobody is there); training goes" in said
    assert "order audit: all 2 steps" in said
    assert not {"on_log", "on_train_end"} & set(vars(tracker))


def test_a_tracker_that_cannot_begin_ends_the_run_before_it_is_one(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, n=8, config=SHUFFLE, callbacks=[failing("on_train_begin")])
    with pytest.raises(ConnectionError, match="nobody is there"):
        trainer.train()


def test_a_callback_of_ones_own_may_fail(tmp_path: Path) -> None:
    from transformers import TrainerCallback

    class Mine(TrainerCallback):
        def on_log(self, *_: object, **__: object) -> None:
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        tiny_trainer(tmp_path, n=8, config=SHUFFLE, callbacks=[Mine()]).train()
