from __future__ import annotations

import builtins
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from campus_tune.data.domains import Domains
from campus_tune.report.examples import read_extremes
from campus_tune.run.told.examples import keep_examples
from campus_tune.run.told.trackers import log_map, log_plots, log_value
from tests.run.all_trackers import MAP


@pytest.fixture
def plots(tmp_path: Path) -> dict[str, Path]:
    from PIL import Image

    path = tmp_path / "cost.png"
    Image.new("RGB", (30, 20), "#0072B2").save(path)
    return {"cost": path}


class Fake:
    """A tracker's library: remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def Image(self, data: str, caption: str | None = None) -> tuple[str, str | None]:  # noqa: N802 - their name
        return data, caption

    def Table(self, columns: list[str], data: list[Any]) -> tuple[list[str], list[Any]]:  # noqa: N802 - their name
        return columns, data

    def log(self, metrics: dict[str, Any]) -> None:
        self.said.append(metrics)

    def finish(self) -> None:
        self.said.append("finished")


class WandbCallback:
    def __init__(self, library: Fake) -> None:
        self._wandb = library


class TrackioCallback:
    def __init__(self, library: Fake) -> None:
        self._trackio, self._initialized = library, False

    def setup(self, args: Any, state: Any, model: Any) -> None:
        assert (args.run_name, state.global_step, model) == ("mine", 7, "model")
        self._initialized = True


def trainer(*callbacks: Any, leads: bool = True, run_name: str | None = "mine") -> Any:
    return SimpleNamespace(
        callback_handler=SimpleNamespace(callbacks=list(callbacks)),
        is_world_process_zero=lambda: leads,
        state=SimpleNamespace(global_step=7),
        args=SimpleNamespace(run_name=run_name),
        model="model",
    )


@pytest.mark.parametrize("ended", [True, False])
def test_tensorboard_gets_the_picture_while_training_and_after(
    tmp_path: Path, plots: dict[str, Path], ended: bool
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from transformers.integrations import TensorBoardCallback

    callback = TensorBoardCallback()
    callback.logging_dir = str(tmp_path / "runs")
    if not ended:
        callback.tb_writer = callback._SummaryWriter(log_dir=callback.logging_dir)
    assert log_plots(trainer(callback), plots) == ["TensorBoard"]
    assert (callback.tb_writer is None) == ended
    if not ended:
        callback.tb_writer.close()
    events = EventAccumulator(str(tmp_path / "runs"))
    events.Reload()
    (image,) = events.Images("campus/plots/cost")
    assert (image.step, image.width, image.height) == (7, 30, 20)


def test_wandb_gets_images_with_their_names(plots: dict[str, Path]) -> None:
    library = Fake()
    assert log_plots(trainer(WandbCallback(library)), plots) == ["Wandb"]
    assert library.said == [{"campus/plots/cost": (str(plots["cost"]), "cost"), "train/global_step": 7}]


def test_a_finished_trackio_run_is_opened_again_and_finished(plots: dict[str, Path]) -> None:
    library = Fake()
    callback = TrackioCallback(library)
    assert log_plots(trainer(callback), plots) == ["Trackio"]
    assert library.said == [{"campus/plots/cost": (str(plots["cost"]), "cost"), "train/global_step": 7}, "finished"]
    assert not callback._initialized


def test_a_trackio_run_without_a_name_cannot_be_opened_again(
    plots: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert log_plots(trainer(TrackioCallback(Fake()), run_name=None), plots) == []
    assert (
        "Trackio did not take the plots (RuntimeError: its run is finished and has no name" in capsys.readouterr().out
    )


def test_a_tracker_that_fails_costs_a_line_and_not_the_run(
    plots: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, library = Fake(), Fake()
    monkeypatch.setattr(broken, "log", lambda metrics: {}[builtins.len(metrics)])
    assert log_plots(trainer(WandbCallback(broken), WandbCallback(library)), plots) == ["Wandb"]
    assert "warning: Wandb did not take the plots (KeyError: 2)" in capsys.readouterr().out
    assert len(library.said) == 1


def test_a_tracker_that_fails_again_is_told_of_once(
    plots: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Fake()
    monkeypatch.setattr(broken, "log", lambda metrics: {}[builtins.len(metrics)])
    broken_trainer = trainer(WandbCallback(broken))
    assert [log_plots(broken_trainer, plots), log_map(broken_trainer, MAP)] == [[], []]
    assert capsys.readouterr().out.count("warning") == 1


def test_other_ranks_and_no_plots_tell_nobody(plots: dict[str, Path]) -> None:
    library = Fake()
    assert log_plots(trainer(WandbCallback(library), leads=False), plots) == []
    assert log_plots(trainer(WandbCallback(library)), {}) == []
    assert library.said == []


def test_a_run_keeps_the_texts_of_the_rows_that_its_page_shows(tmp_path: Path) -> None:
    dataset = [{"input_ids": [row, row]} for row in range(30)]
    tokenizer = SimpleNamespace(decode=lambda ids, skip_special_tokens: f"row {ids[0]} {skip_special_tokens}")
    domains = Domains(np.arange(30) % 2, ["a", "b"])
    assert keep_examples(tmp_path, {"length": np.arange(30.0)}, dataset, tokenizer, domains)
    found = read_extremes(tmp_path, {"length": np.arange(30.0)})["length"]
    assert (found.easiest[0].text, found.easiest[1].domain) == ("row 0 True", "b")
    assert [example.text for example in found.hardest[:2]] == ["row 29 True", "row 28 True"]
    assert len(json.loads((tmp_path / "examples.json").read_text("utf-8"))["rows"]) == 20


def test_without_a_tokenizer_no_texts_are_kept(tmp_path: Path) -> None:
    assert not keep_examples(tmp_path, {"length": np.arange(30.0)}, [], None)
    assert list(tmp_path.iterdir()) == []


NUMBERS = {"campus/map/learned": 5, "campus/map/suspect": 2, "campus/suspects": 2, "campus/share_of_suspects": 0.25}


def test_a_map_goes_to_the_trackers_as_numbers_and_a_table_of_domains() -> None:
    wandb, trackio = Fake(), Fake()
    assert log_map(trainer(WandbCallback(wandb), TrackioCallback(trackio)), MAP) == ["Wandb", "Trackio"]
    lines = [["code", 5, 2], ["math", 3, 0], ["all rows", 8, 2]]
    logged = {**NUMBERS, "campus/map": (["domain", "rows", "suspects"], lines), "train/global_step": 7}
    assert wandb.said == [logged]
    assert trackio.said == [logged, "finished"]


def test_how_many_are_wrong_goes_to_the_trackers_where_something_tells() -> None:
    library = Fake()
    dirt = {"rows": 8, "share": 0.2, "low": 0.1, "high": 0.3, "seen": True, "by_domain": {}}
    log_map(trainer(WandbCallback(library)), {**MAP, "dirt": dirt})
    log_map(trainer(WandbCallback(library)), {**MAP, "dirt": None})
    told, without = library.said
    assert {name: told.get(f"campus/wrong/{name}") for name in ("share", "low", "high")} == {
        name: dirt[name] for name in ("share", "low", "high")
    }
    assert not any("wrong" in name for name in without)


def test_a_tracker_without_tables_takes_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Fake, "Table")
    library = Fake()
    assert log_map(trainer(TrackioCallback(library)), MAP) == ["Trackio"]
    assert library.said == [{**NUMBERS, "train/global_step": 7}, "finished"]


def test_tensorboard_takes_the_table_as_text() -> None:
    class Writer:
        def __init__(self) -> None:
            self.said: list[Any] = []

        def __getattr__(self, name: str) -> Any:
            return lambda *what: self.said.append((name, *what))

    class TensorBoardCallback:
        tb_writer = Writer()

    assert log_map(trainer(TensorBoardCallback()), MAP) == ["TensorBoard"]
    *numbers, text, flushed = TensorBoardCallback.tb_writer.said
    assert numbers == [("add_scalar", name, value, 7) for name, value in NUMBERS.items()]
    table = "| domain | rows | suspects |\n|---|---|---|\n| code | 5 | 2 |\n| math | 3 | 0 |\n| all rows | 8 | 2 |"
    assert text == ("add_text", "campus/map", table, 7)
    assert flushed == ("flush",)


def test_a_run_without_a_map_logs_none(capsys: pytest.CaptureFixture[str]) -> None:
    library = Fake()
    assert log_map(trainer(WandbCallback(library)), {"basis": "none", "why": "no row was trained.", "rows": 8}) == []
    assert log_map(trainer(WandbCallback(library), leads=False), MAP) == []
    assert library.said == []
    assert capsys.readouterr().out == ""


VALUE: dict[str, Any] = {
    "rows": 9,
    "negative": 2,
    "split_half": 0.7,
    "split_half_by_probe": {"math": 0.8, "code": None},
    "transfer": {"math": {"math": 0.0123456, "code": -0.5}, "text": {"math": None, "code": 0.25}},
}


def test_values_go_to_the_trackers_as_numbers_and_a_table_of_the_transfer() -> None:
    library = Fake()
    assert log_value(trainer(WandbCallback(library)), VALUE) == ["Wandb"]
    [said] = library.said
    columns, lines = said.pop("campus/transfer")
    assert columns == ["rows of", "math", "code"]
    assert lines == [["math", "0.0123", "-0.5"], ["text", "", "0.25"]]
    assert said == {
        "campus/value/rows": 9,
        "campus/value/negative": 2,
        "campus/value/split_half": 0.7,
        "campus/value/split_half_by_probe/math": 0.8,
        "train/global_step": 7,
    }


def test_a_run_whose_values_could_not_be_made_logs_none() -> None:
    library = Fake()
    assert log_value(trainer(WandbCallback(library)), {"rows": 0, "why": "no stage was measured."}) == []
    assert library.said == []
