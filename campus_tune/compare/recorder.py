"""What a comparison records of a run that is trained on answers: the losses of held-out rows, and the tokens trained.

The held-out losses are taken as all measurements are (`measure.LossMeter`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
from transformers import Trainer, TrainerControl, TrainerState
from transformers import TrainingArguments as Args

from campus_tune.compare.curve_recorder import CurveRecorder
from campus_tune.compare.trained_rows import TrainedRows
from campus_tune.compare.training_row_losses import TrainingRowLosses
from campus_tune.data.held_out import HeldOut
from campus_tune.evaluate.answer_loss import Told
from campus_tune.model import compat
from campus_tune.model.answer_alone import PadRight
from campus_tune.model.measure import LossMeter
from campus_tune.model.peers import Peers
from campus_tune.run.run import CampusRun
from campus_tune.words.errors import DataError
from campus_tune.words.types import BoolArray, Json, RowLosses


class Recorder(CurveRecorder):
    """Records one run.

    Args:
        rows: held out.
        points: of the curve besides the first, evenly over the steps.
        tick: told the steps that are finished.
        training_rows: measures rows that are trained, too; None in runs that nobody compares with a proxy.
        with_gap: say the generalisation gap, which takes two measurements more; not of runs on some of the rows.
    """

    measure = "loss"

    def __init__(
        self,
        rows: HeldOut,
        points: int,
        tick: Callable[[int], object] = lambda _: None,
        *,
        training_rows: TrainingRowLosses | None = None,
        with_gap: bool = True,
    ) -> None:
        super().__init__(rows.domains, points, tick)
        self.rows, self.training_rows, self.with_gap = rows, training_rows, with_gap
        self.losses: RowLosses | None = None  # of the held-out rows, as last measured
        self._trained: TrainedRows | None = None

    def follow(self, trainer: Trainer, run: CampusRun) -> None:
        """The trainer and the run to record; call it before `trainer.train()`, when the clock starts."""
        self.trainer, self.run = trainer, run
        told = Told.of(self.rows, compat.tokenizer_of(trainer), getattr(trainer.args, "max_length", None))
        subject = partial(compat.subject, trainer)
        self._meter = LossMeter(subject, told, PadRight(), told.tokens, peers=Peers(), what="test rows")
        self._start_clock()

    def on_train_begin(self, args: Args, state: TrainerState, control: TrainerControl, **more: object) -> None:
        """The first point: the model as it comes."""
        super().on_train_begin(args, state, control, **more)
        with self.stopped_clock():
            if self.with_gap:
                assert self.losses is not None  # just measured
                with suppress(DataError):  # rows of plain text have no answers, and no gap
                    self._trained = TrainedRows(self.trainer, self.rows, self.losses)
            if self.training_rows is not None:
                self.training_rows.begin(self.trainer, self.run)

    def on_train_end(self, args: Args, state: TrainerState, control: TrainerControl, **more: object) -> None:
        """The gap between the test rows and those that were trained; the end is a point of the curve in any case."""
        super().on_train_end(args, state, control, **more)
        with self.stopped_clock():
            if self._trained is not None and self.visits:
                assert self.losses is not None  # measured at the latest now
                self.gap = self._trained.gap(self.losses, set(np.concatenate(self.visits).tolist()))

    def end(self) -> Json | None:
        """Every test row as it was measured last: its domain, tokens and summed loss; None before the first point."""
        if self.losses is None:
            return None
        return {
            "domains": self._names,
            "items": [f"{d} {n}" for d, n in zip(self.rows.domains, self.rows.numbers, strict=True)],
            "domain": self._codes.tolist(),
            "tokens": self.losses.tokens.tolist(),
            "loss": self.losses.nll_sum.tolist(),
        }

    def leave(self, folder: Path) -> None:
        """Write the losses of trained rows.

        Args:
            folder: of the run.
        """
        if self.training_rows is not None:
            self.training_rows.write(folder)

    def _note_step(self, step: int) -> None:
        del step
        now = self.run.situation
        rows = now.curriculum.step_rows()
        self.visits.append(rows)
        self.tokens += int(now.loaded.rows.tokens[rows].sum())

    def _look(self) -> float:
        self.losses = self._meter.losses(np.arange(len(self.rows)))
        return self.losses.mean()

    def _mean_of(self, some: BoolArray) -> float:
        assert self.losses is not None  # just measured
        return self.losses.take(np.flatnonzero(some)).mean()

    def _after_step(self, step: int) -> None:
        if self.training_rows is not None:
            with self.stopped_clock():
                self.training_rows.after_step(step)
