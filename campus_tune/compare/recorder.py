"""What a comparison records of a run while it is trained: the curve on held-out rows, learning rates, rows per step.

It only watches: the held-out losses are taken as all measurements are (`measure.LossMeter`), random states and modes
are as before, and the clock stands still meanwhile, so a run trains the same rows to the same weights with and without.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import numpy as np
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState
from transformers import TrainingArguments as Args

from campus_tune.compare.trained_rows import TrainedRows
from campus_tune.compare.training_row_losses import TrainingRowLosses
from campus_tune.data.held_out import HeldOut
from campus_tune.evaluate.answer_loss import Told
from campus_tune.method.orders import group_codes
from campus_tune.model import compat
from campus_tune.model.answer_alone import PadRight
from campus_tune.model.measure import LossMeter
from campus_tune.model.peers import Peers
from campus_tune.run.run import CampusRun
from campus_tune.words.errors import DataError
from campus_tune.words.types import FloatArray, Json, RowArray, RowLosses


class Recorder(TrainerCallback):
    """Records one run.

    Args:
        rows: held out.
        points: of the curve besides the first, evenly over the steps.
        tick: told the steps that are finished.
        training_rows: measures rows that are trained, too; None in runs that nobody compares with a proxy.
        with_gap: say the generalisation gap, which takes two measurements more; not of runs on some of the rows.
    """

    def __init__(
        self,
        rows: HeldOut,
        points: int,
        tick: Callable[[int], object] = lambda _: None,
        *,
        training_rows: TrainingRowLosses | None = None,
        with_gap: bool = True,
    ) -> None:
        self.rows, self.points, self.tick, self.training_rows = rows, points, tick, training_rows
        self.with_gap = with_gap
        self.losses: RowLosses | None = None  # of the held-out rows, as last measured
        self.learning_rates: list[float] = []
        self.visits: list[RowArray] = []  # rows of each step
        self.tokens = 0  # trained so far, padding left out
        self.curve_seconds = 0.0
        self.gap: Json | None = None  # of a run that came to its end
        self._trained: TrainedRows | None = None
        self._curve: dict[str, list[float]] = {"step": [], "tokens": [], "seconds": [], "loss": []}
        self._names, self._codes = group_codes(rows.domains)
        self._domains: dict[str, list[float]] = {domain: [] for domain in self._names}
        self._began = time.perf_counter()

    def follow(self, trainer: Trainer, run: CampusRun) -> None:
        """The trainer and the run to record; call it before `trainer.train()`, when the clock starts."""
        self.trainer, self.run = trainer, run
        told = Told.of(self.rows, compat.tokenizer_of(trainer), getattr(trainer.args, "max_length", None))
        subject = partial(compat.subject, trainer)
        self._meter = LossMeter(subject, told, PadRight(), told.tokens, peers=Peers(), what="test rows")
        self._began = time.perf_counter()

    def on_train_begin(self, args: Args, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """The first point: the model as it comes."""
        del args, control
        self._grid = set(np.linspace(0, state.max_steps, self.points + 1).round().astype(int).tolist())
        self._measure(0)
        began = time.perf_counter()
        if self.with_gap:
            assert self.losses is not None  # just measured
            with suppress(DataError):  # rows of plain text have no answers, and no gap
                self._trained = TrainedRows(self.trainer, self.rows, self.losses)
        if self.training_rows is not None:
            self.training_rows.begin(self.trainer, self.run)
        self.curve_seconds += time.perf_counter() - began

    def on_step_begin(self, args: Args, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """What this step trains, and how strongly."""
        del args, state, control
        now = self.run.situation
        rows = now.curriculum.step_rows()
        self.visits.append(rows)
        self.tokens += int(now.loaded.rows.tokens[rows].sum())
        self.learning_rates.append(compat.learning_rate(self.trainer))

    def on_step_end(self, args: Args, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """A point of the curve, if it is one."""
        del args, control
        if state.global_step in self._grid:
            self._measure(state.global_step)
        if self.training_rows is not None:
            began = time.perf_counter()
            self.training_rows.after_step(state.global_step)
            self.curve_seconds += time.perf_counter() - began
        self.tick(state.global_step)

    def on_train_end(self, args: Args, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """The gap between the test rows and those that were trained; the end is a point of the curve in any case."""
        del args, control
        if self._curve["step"][-1:] != [state.global_step]:  # a rule has stopped the run between two points
            self._measure(state.global_step)
        began = time.perf_counter()
        if self._trained is not None and self.visits:
            assert self.losses is not None  # measured at the latest now
            self.gap = self._trained.gap(self.losses, set(np.concatenate(self.visits).tolist()))
        self.curve_seconds += time.perf_counter() - began

    def curve(self) -> Json:
        """Step, tokens and seconds so far, and the loss at each point, overall and by domain, nats per token."""
        return {**self._curve, "domains": self._domains}

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

    def rates(self) -> FloatArray:
        """The learning rate of each step, shape (S,)."""
        return np.array(self.learning_rates)

    def _measure(self, step: int) -> None:
        began = time.perf_counter()
        spent = began - self._began - self.curve_seconds
        losses = self._meter.losses(np.arange(len(self.rows)))
        self.losses = losses
        point = {"step": step, "tokens": self.tokens, "seconds": spent, "loss": losses.mean()}
        for name, value in point.items():
            self._curve[name].append(value)
        for code, values in enumerate(self._domains.values()):
            values.append(losses.take(np.flatnonzero(self._codes == code)).mean())
        self.curve_seconds += time.perf_counter() - began
