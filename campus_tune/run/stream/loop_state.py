"""What a trainer's loop holds between two saves and writes into no checkpoint: kept with the curriculum's state.

Besides the log's window (`log_window`) that matters for saves that a callback makes on its own, at another moment than
the trainer's. In the middle of an optimizer step (transformers' just-in-time checkpoint saves there) the random states
and counts are already further than the step that the checkpoint says, and the resumed run trains that step again: the
checkpoint gets those from when the step began. Behind a step, before the trainer has written its log line and
evaluated, the resumed run would do neither: what was still to come is kept. The same between an epoch's last step, when
the trainer may save itself, and the epoch's end.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers import DefaultFlowCallback, TrainerControl

from campus_tune.model import compat
from campus_tune.model.peers import Peers
from campus_tune.model.random_states import RandomStates
from campus_tune.run.stream.log_window import LogWindow, restore
from campus_tune.words.errors import TrainerError
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from transformers import Trainer

FLAGS = ("should_log", "should_evaluate", "should_save")


@dataclass(frozen=True)
class StepStart:
    """What a step will change of what a checkpoint holds besides weights, as it was when the step began.

    Args:
        window: of the log.
        random: states.
        tokens: that the model has seen.
        flos: since they were last stored.
    """

    window: LogWindow
    random: RandomStates
    tokens: int
    flos: float

    @staticmethod
    def of(trainer: Trainer) -> StepStart:
        """A step begins."""
        tokens, flos = trainer.state.num_input_tokens_seen, trainer.current_flos
        return StepStart(LogWindow.of(trainer), RandomStates.now(), tokens, flos)

    @contextmanager
    def again(self, trainer: Trainer) -> Iterator[None]:
        """Inside, the trainer's random states and counts are these; afterwards what they were."""
        states, tokens, flos = RandomStates.now(), trainer.state.num_input_tokens_seen, trainer.current_flos
        self.random.set()
        counts: Any = trainer  # which counts operations from a whole 0, in floats
        trainer.state.num_input_tokens_seen, counts.current_flos = self.tokens, self.flos
        try:
            yield
        finally:
            states.set()
            trainer.state.num_input_tokens_seen = tokens
            counts.current_flos += flos - self.flos  # a save has stored the others


class LoopState:
    """The loop of one call of `train()`.

    Args:
        trainer: whose loop it is.
        peers: ranks.
    """

    def __init__(self, trainer: Trainer, peers: Peers) -> None:
        self.trainer, self.peers = trainer, peers
        self.goes_on = False  # the log's window was restored from a checkpoint
        self._start: StepStart | None = None  # while a step is in progress
        self._windows: list[Json] = []  # of every rank, for the checkpoint that is being written
        self._missing: Json | None = None  # what the loop would not do any more after a resume

    @property
    def inside_step(self) -> bool:
        """An optimizer step has begun and not ended."""
        return self._start is not None

    def begin_step(self) -> None:
        """An optimizer step begins."""
        self._start = StepStart.of(self.trainer)

    def end_step(self) -> None:
        """It has ended, or will never end."""
        self._start = None

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Around the writing of a checkpoint, on every rank.

        Raises:
            TrainerError: the weights are those of the next step already.
        """
        if compat.event(self.trainer) == "on_optimizer_step":
            step = self.trainer.state.global_step
            raise TrainerError(
                f"a checkpoint must hold the weights of its step, got a save in on_optimizer_step at step {step}: its "
                f"weights are those of step {step + 1}, so a resumed run would train that step twice. Save in "
                "on_step_end, or in on_pre_optimizer_step."
            )
        window = LogWindow.of(self.trainer) if self._start is None else self._start.window
        self._windows = self.peers.gather(window.state(self.trainer))
        with nullcontext() if self._start is None else self._start.again(self.trainer):
            yield

    def state(self, *, epoch_over: bool) -> Json:
        """As JSON, inside of `saving`.

        Args:
            epoch_over: no step of the epoch is left, and the trainer has not ended it yet.
        """
        mode = compat.model_of(self.trainer).training
        state: Json = {"windows": self._windows, "missing": None, "training_mode": mode}
        if self.inside_step:
            return state

        # The log line and the evaluation of what has just ended, if the trainer has not come to them yet.
        event, asked = compat.event(self.trainer), TrainerControl()
        ended = {event} & {"on_step_end", "on_epoch_end"}
        if ended:
            asked = copy.copy(self.trainer.control)
        if epoch_over:
            ended.add("on_epoch_end")
        for flow in self.trainer.callback_handler.callbacks:
            if isinstance(flow, DefaultFlowCallback):  # it may be called behind the one that saves
                for name in ended:
                    getattr(flow, str(name))(self.trainer.args, self.trainer.state, asked)
        if asked.should_log or asked.should_evaluate:
            due = {"log": asked.should_log, "evaluate": asked.should_evaluate}
            state["missing"] = {**due, **compat.of_last_step(self.trainer)}
        return state

    def load(self, state: Json) -> None:
        """Go on from `state()`, in a loop that has done nothing yet."""
        self.goes_on = restore(self.trainer, state["windows"], self.peers)
        self._missing = state["missing"]
        # trl asks it whether a line is of training: the last one too
        compat.model_of(self.trainer).train(state["training_mode"])

    def make_up(self) -> None:
        """Write the log line and evaluate, where that was still to come when the checkpoint was saved."""
        missing, self._missing = self._missing, None
        if missing is None or not self.goes_on:
            return
        self.trainer.model_wrapped.train()  # trl asks the model whether a line is of training
        control = self.trainer.control
        asked = {flag: getattr(control, flag) for flag in FLAGS}
        control.should_log, control.should_evaluate, control.should_save = missing["log"], missing["evaluate"], False
        compat.log_and_evaluate(self.trainer, missing["grad_norm"], missing["learning_rate"])
        for flag, value in asked.items():
            setattr(self.trainer.control, flag, value)

    def whole_loss(self, output: object) -> object:
        """What `train()` gives back, with the loss of the whole run, as the last log line has it."""
        metrics = getattr(output, "metrics", {})
        if self.goes_on and "train_loss" in metrics and hasattr(output, "_replace"):
            return output._replace(training_loss=metrics["train_loss"])
        return output
