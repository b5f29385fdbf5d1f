"""What is recorded of a run that is trained in legs: the losses where it is asked for, and the end of the leg."""

from __future__ import annotations

from collections.abc import Callable

from transformers import TrainerControl, TrainerState
from transformers import TrainingArguments as Args

from campus_tune.compare.recorder import Recorder
from campus_tune.compare.task import Leg
from campus_tune.data.held_out import HeldOut


class LegEnded(Exception):  # noqa: N818  # nothing went wrong
    """The leg is trained and saved: the run is left here."""


class LegRecorder(Recorder):
    """Records one leg, and ends it.

    Args:
        rows: held out.
        leg: that is trained.
        tick: told the finished steps of the run.
    """

    def __init__(self, rows: HeldOut, leg: Leg, tick: Callable[[int], object] = lambda _: None) -> None:
        super().__init__(rows, 1, tick)
        self.leg = leg
        self._ends = False  # the checkpoint that is being saved is the leg's last

    def on_train_begin(self, args: Args, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Where it is measured."""
        del args, control
        ends = state.max_steps if self.leg.until is None else self.leg.until
        self._grid = {max(1, round(share * state.max_steps)) for share in self.leg.marks} | {ends}

    def on_step_end(self, args: Args, state: TrainerState, control: TrainerControl, **more: object) -> None:
        """Measure, and save where the leg ends before the run does."""
        super().on_step_end(args, state, control, **more)
        if state.global_step == self.leg.until and state.global_step < state.max_steps:
            self._ends = control.should_save = True

    def on_save(self, args: Args, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """A checkpoint is written.

        Raises:
            LegEnded: it is the leg's last.
        """
        del args, control
        if self._ends:
            raise LegEnded(f"step {state.global_step}")
