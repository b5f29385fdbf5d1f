"""The recorder watches a run, and the run is the same run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from campus_tune.compare.recorder import Recorder
from campus_tune.data.held_out import HeldOut, read_held_out
from campus_tune.run.callback import CampusCallback
from campus_tune.run.ledger import read_ledger
from campus_tune.words.errors import DataError, DivergedError
from tests.compare.tiny_compare import write_rows
from tests.run.tiny_run import RECIPE, history_of, ledger_of, task_rows, tiny_trainer, weights_of

SETTINGS: dict[str, Any] = {"n": 24, "lora": True, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}
BLOCK = {**RECIPE, "metrics": ["length", "loss"], "budget": 3.0}


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> HeldOut:
    return read_held_out([write_rows(tmp_path_factory.mktemp("held") / "test.jsonl", task_rows(30, seed=5))])


def run_of(trainer: Any) -> Any:
    return next(one.run for one in trainer.callback_handler.callbacks if isinstance(one, CampusCallback))


def train(out: Path, recorder: Recorder | None, **settings: Any) -> Any:
    callbacks = [] if recorder is None else [recorder]
    trainer = tiny_trainer(out, config=BLOCK, probes=5, callbacks=callbacks, **{**SETTINGS, **settings})
    if recorder is not None:
        recorder.follow(trainer, run_of(trainer))
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def watched(held: HeldOut, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Recorder, list[int]]:
    ticks: list[int] = []
    recorder = Recorder(held, 6, ticks.append)
    return train(tmp_path_factory.mktemp("watched"), recorder), recorder, ticks


def test_a_run_trains_the_same_with_and_without(watched: tuple[Any, Recorder, list[int]], tmp_path: Path) -> None:
    trainer, _, _ = watched
    alone = train(tmp_path, None)
    for name, weight in weights_of(alone).items():
        assert torch.equal(weight, weights_of(trainer)[name]), name
    assert history_of(alone) == history_of(trainer)
    assert ledger_of(Path(alone.args.output_dir)) == ledger_of(Path(trainer.args.output_dir))


def test_visits_tokens_and_rates_are_those_of_the_plan(watched: tuple[Any, Recorder, list[int]]) -> None:
    trainer, recorder, ticks = watched
    assert ticks == [1, 2, 3, 4, 5, 6]
    assert [len(rows) for rows in recorder.visits] == [4] * 6
    assert sorted(np.concatenate(recorder.visits).tolist()) == list(range(24))
    events = read_ledger(Path(trainer.args.output_dir) / "curriculum" / "ledger.jsonl")
    assert recorder.tokens == sum(event["tokens"] for event in events if event["event"] == "decision")
    logged = [line["learning_rate"] for line in history_of(trainer) if "learning_rate" in line]
    np.testing.assert_allclose(recorder.rates(), logged, rtol=1e-12)


def test_the_curve_has_a_point_at_every_step_and_ends_in_the_end(watched: tuple[Any, Recorder, list[int]]) -> None:
    trainer, recorder, _ = watched
    curve, end = recorder.curve(), recorder.end()
    assert end is not None
    assert curve["step"] == [0, 1, 2, 3, 4, 5, 6]
    lengths = [len(ids) for ids in trainer.train_dataset["input_ids"]]
    tokens = np.cumsum([0] + [sum(lengths[row] for row in rows) for rows in recorder.visits])
    assert curve["tokens"] == tokens.tolist()
    assert curve["loss"][-1] == pytest.approx(sum(end["loss"]) / sum(end["tokens"]), rel=1e-12)
    assert curve["loss"][-1] < curve["loss"][0]
    assert set(curve["domains"]) == set(end["domains"])
    assert (np.diff(curve["seconds"]) >= 0).all()


def test_end_losses_are_those_of_the_model_asked_row_by_row(
    watched: tuple[Any, Recorder, list[int]], held: HeldOut
) -> None:
    trainer, recorder, _ = watched
    end = recorder.end()
    assert end is not None
    model = trainer.model.eval()
    for i in (0, 7, 19):
        turns = list(held.conversations[i].turns)
        prompt = trainer.processing_class.apply_chat_template(turns[:-1], add_generation_prompt=True, return_dict=False)
        whole = trainer.processing_class.apply_chat_template(turns, return_dict=False)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
        losses = [-logits[place - 1, whole[place]].item() for place in range(len(prompt), len(whole))]
        assert end["tokens"][i] == len(losses)
        assert end["loss"][i] == pytest.approx(sum(losses), rel=1e-5)
        assert end["domains"][end["domain"][i]] == held.domains[i]


def test_more_points_than_steps_are_one_per_step_and_one_point_is_the_end(held: HeldOut, tmp_path: Path) -> None:
    for points, steps in ((50, [0, 1, 2]), (1, [0, 2])):
        recorder = Recorder(held, points)
        train(tmp_path / str(points), recorder, max_steps=2)
        assert recorder.curve()["step"] == steps


def test_before_the_first_point_there_is_no_end(held: HeldOut) -> None:
    assert Recorder(held, 3).end() is None
    assert Recorder(held, 3).rates().shape == (0,)


def test_a_model_that_diverges_stops_the_run_and_keeps_what_was_measured(held: HeldOut, tmp_path: Path) -> None:
    recorder = Recorder(held, 6)
    with pytest.raises(DivergedError, match="diverged"):
        train(tmp_path, recorder, learning_rate=1e30, lora=False)
    assert recorder.curve()["step"][0] == 0
    assert all(np.isfinite(loss) for loss in recorder.curve()["loss"])
    assert recorder.end() is not None


def test_rows_whose_answer_is_cut_off_are_named(held: HeldOut, tmp_path: Path) -> None:
    recorder = Recorder(held, 3)
    trainer = tiny_trainer(tmp_path, config=BLOCK, probes=5, callbacks=[recorder], **SETTINGS)
    trainer.args.max_length = 4
    with pytest.raises(DataError, match="every test row must have an answer token among the 4"):
        recorder.follow(trainer, run_of(trainer))
