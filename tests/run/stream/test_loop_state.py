"""What a trainer's loop holds between two saves, on its own: the log's window by rank, and the start of a step."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from campus_tune.model import compat
from campus_tune.model.peers import Peers
from campus_tune.run.stream import log_window
from campus_tune.run.stream.log_window import LogWindow
from campus_tune.run.stream.loop_state import LoopState, StepStart


def loop(**values: Any) -> Any:
    """A trainer that has added up a loss of 3 over a step, and two values of a metric."""
    metrics = {"train": defaultdict(list, {"entropy": [0.25, 0.5], "num_tokens": [40]})}
    counts = {"_total_loss_scalar": 7.0, "_globalstep_last_logged": 2, "_total_train_tokens": 40}
    state = SimpleNamespace(global_step=3, num_input_tokens_seen=40)
    made = {"_tr_loss": torch.tensor(3.0), "_metrics": metrics, "state": state, "current_flos": 5.0, **counts}
    return SimpleNamespace(**{**made, **values})


def fresh() -> Any:
    return loop(_tr_loss=torch.tensor(0.0), _metrics={"train": defaultdict(list)}, _total_loss_scalar=0.0)


def test_a_window_comes_back_on_each_rank_as_it_was_there() -> None:
    saved = [LogWindow.of(trainer).state(trainer) for trainer in (loop(), loop(_tr_loss=torch.tensor(5.0)))]
    for rank, expected in enumerate((3.0, 5.0)):
        trainer = fresh()
        assert log_window.restore(trainer, saved, Peers(rank, 2))
        assert (trainer._tr_loss.item(), trainer._total_loss_scalar, trainer._total_train_tokens) == (expected, 7.0, 40)
        assert trainer._metrics["train"] == {"entropy": [0.25, 0.5], "num_tokens": [40]}


@pytest.mark.parametrize("world", [1, 3])
def test_on_another_number_of_ranks_the_loss_is_the_mean_that_would_have_been_logged(world: int) -> None:
    saved = [LogWindow.of(trainer).state(trainer) for trainer in (loop(), loop(_tr_loss=torch.tensor(5.0)))]
    for rank in range(world):
        trainer = fresh()
        assert log_window.restore(trainer, saved, Peers(rank, world))
        assert trainer._tr_loss.item() == 4.0
        assert trainer._metrics["train"]["entropy"] == [0.25, 0.5]


def test_a_loss_that_is_a_variable_of_the_loop_is_found_there() -> None:
    """As before transformers 5."""

    class Loop:
        def run(self, look: Callable[[], Any]) -> Any:
            tr_loss = torch.tensor(2.0)
            return look(), tr_loss

    trainer = Loop()
    found, loss = trainer.run(lambda: compat.running_loss(trainer))
    assert found is loss
    assert compat.running_loss(trainer) is None


def test_a_loop_that_keeps_its_loss_out_of_reach_goes_on_with_a_window_of_its_own() -> None:
    trainer = loop()
    del trainer._tr_loss
    assert LogWindow.of(trainer).state(trainer) == {}
    assert not log_window.restore(trainer, [{}], Peers())
    assert not log_window.restore(fresh(), [{}], Peers())


def test_a_line_that_is_being_written_has_taken_the_metrics() -> None:
    trainer = loop(_globalstep_last_logged=3)
    assert LogWindow.of(trainer).state(trainer)["metrics"] == {}


def test_in_the_middle_of_a_step_what_is_saved_is_from_its_start() -> None:
    trainer = loop()
    start = StepStart.of(trainer)
    expected = [random.random(), np.random.random(), torch.rand(1).item()]  # noqa: NPY002  # whose state it is
    trainer._tr_loss += 1.0
    trainer._metrics["train"]["entropy"].append(9.0)
    trainer.state.num_input_tokens_seen += 8
    trainer.current_flos += 2.0
    assert start.window.state(trainer)["loss"] == 3.0
    assert start.window.state(trainer)["metrics"]["entropy"] == [0.25, 0.5]
    after = torch.get_rng_state()
    with start.again(trainer):
        assert [random.random(), np.random.random(), torch.rand(1).item()] == expected  # noqa: NPY002  # as above
        assert (trainer.state.num_input_tokens_seen, trainer.current_flos) == (40, 5.0)
        trainer.current_flos = 0.0  # a save stores them
    assert (trainer.state.num_input_tokens_seen, trainer.current_flos) == (48, 2.0)
    assert torch.equal(torch.get_rng_state(), after)


def test_what_train_gives_back_is_left_alone_where_nothing_was_resumed() -> None:
    output = SimpleNamespace(metrics={"train_loss": 1.0})
    assert LoopState(loop(), Peers()).whole_loss(output) is output
