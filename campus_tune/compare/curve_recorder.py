"""What a comparison records of any run while it is trained: a curve on held-out rows, learning rates, rows per step.

It only watches: whatever is measured leaves random states and modes as they were, and the clock stands still meanwhile,
so a run trains the same rows to the same weights with and without.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState
from transformers import TrainingArguments as Args

from campus_tune.method.orders import group_codes
from campus_tune.model import compat
from campus_tune.words.types import BoolArray, FloatArray, IntArray, Json, RowArray


class CurveRecorder(TrainerCallback, ABC):
    """Records one run.

    Args:
        domains: of each held-out row.
        points: of the curve besides the first, evenly over the steps.
        tick: told the steps that are finished.
    """

    measure: str  # what a point of the curve is called

    def __init__(self, domains: Sequence[str], points: int, tick: Callable[[int], object] = lambda _: None) -> None:
        self.points, self.tick = points, tick
        self.learning_rates: list[float] = []
        self.visits: list[RowArray] = []  # rows of each step
        self.tokens = 0  # so far
        self.curve_seconds = 0.0
        self.gap: Json | None = None  # between test rows and trained ones, where that is a thing to ask
        self.trainer: Trainer
        self._curve: dict[str, list[float]] = {"step": [], "tokens": [], "seconds": [], self.measure: []}
        self._names, self._codes = group_codes(domains)
        self._domains: dict[str, list[float]] = {domain: [] for domain in self._names}
        self._began = time.perf_counter()

    def on_train_begin(self, args: Args, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """The first point: the model as it comes."""
        del args, control
        self._grid = set(np.linspace(0, state.max_steps, self.points + 1).round().astype(int).tolist())
        self._measure(0)

    def on_step_begin(self, args: Args, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """What this step trains, and how strongly."""
        del args, control
        self._note_step(state.global_step)
        self.learning_rates.append(compat.learning_rate(self.trainer))

    def on_step_end(self, args: Args, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """A point of the curve, if it is one."""
        del args, control
        if state.global_step in self._grid:
            self._measure(state.global_step)
        self._after_step(state.global_step)
        self.tick(state.global_step)

    def on_train_end(self, args: Args, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """The end is a point of the curve in any case."""
        del args, control
        if self._curve["step"][-1:] != [state.global_step]:  # a rule has stopped the run between two points
            self._measure(state.global_step)

    def curve(self) -> Json:
        """Step, tokens and seconds so far, and what was measured at each point, overall and by domain."""
        return {**self._curve, "domains": self._domains}

    @abstractmethod
    def end(self) -> Json | None:
        """Every test row as it was measured last; None before the first point."""

    def rates(self) -> FloatArray:
        """The learning rate of each step, shape (S,)."""
        return np.array(self.learning_rates)

    def all_visits(self) -> tuple[RowArray | IntArray, IntArray]:
        """(Rows in the sequence in which they were trained, the step of each), shapes (V,)."""
        rows = np.concatenate(self.visits) if self.visits else np.zeros(0, dtype=np.int64)
        return rows, np.repeat(np.arange(len(self.visits)), [len(of) for of in self.visits])

    def leave(self, folder: Path) -> None:
        """Write what else was measured of a run that has finished.

        Args:
            folder: of the run.
        """

    @contextmanager
    def stopped_clock(self) -> Iterator[None]:
        """What is done inside takes no time of the run's."""
        began = time.perf_counter()
        yield
        self.curve_seconds += time.perf_counter() - began

    def _start_clock(self) -> None:
        self._began = time.perf_counter()

    def _measure(self, step: int) -> None:
        with self.stopped_clock():
            spent = time.perf_counter() - self._began - self.curve_seconds
            value = self._look()
            point = {"step": step, "tokens": self.tokens, "seconds": spent, self.measure: value}
            for name, one in point.items():
                self._curve[name].append(one)
            for code, values in enumerate(self._domains.values()):
                values.append(self._mean_of(self._codes == code))

    @abstractmethod
    def _note_step(self, step: int) -> None:
        """The rows that the step is about to train, and the tokens so far."""

    @abstractmethod
    def _look(self) -> float:
        """Measure all held-out rows: their mean."""

    @abstractmethod
    def _mean_of(self, some: BoolArray) -> float:
        """The mean over some of them, as they were measured last.

        Args:
            some: which, shape (I,).
        """

    def _after_step(self, step: int) -> None:
        """Whatever else is measured behind a step."""
