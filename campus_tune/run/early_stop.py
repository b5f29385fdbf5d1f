"""Early stop: a rule ends the run here. The trainer saves a checkpoint of this step first, and it is said what it is.

A schedule that is stopped is no finished one: what its rate would still have come down to, its weights have not had.
So the fair control of a run that a rule has stopped is `random` with its own schedule, ended at the same step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from campus_tune.words.types import FloatArray, Json

if TYPE_CHECKING:
    from transformers import TrainerControl

DECAYED = 0.05  # of its peak: a rate that is no further above its last one has decayed


@dataclass(frozen=True)
class EarlyStop:
    """Where a run was stopped in its schedule.

    Args:
        step: optimizer steps finished.
        total_steps: of the whole run.
        mass_left: part of its learning rates, added up, that is left, in [0, 1]; None where nobody knows them.
        rate: of the last step, over the highest of the schedule; likewise.
        last_rate: of the schedule's last step, likewise.
    """

    step: int
    total_steps: int
    mass_left: float | None = None
    rate: float | None = None
    last_rate: float | None = None

    @staticmethod
    def at(step: int, total_steps: int, rates: FloatArray | None) -> EarlyStop:
        """A stop behind `step`.

        Args:
            step: optimizer steps finished.
            total_steps: of the whole run.
            rates: of all of them, shape (total_steps,); None where nobody knows them.
        """
        if rates is None or not rates.any():
            return EarlyStop(step, total_steps)
        peak = float(rates.max())
        left = float(rates[step:].sum() / rates.sum())
        return EarlyStop(step, total_steps, left, float(rates[max(step, 1) - 1]) / peak, float(rates[-1]) / peak)

    def line(self) -> Json:
        """It as JSON, for the ledger."""
        return {**vars(self), "said": self.said()}

    def said(self) -> str:
        """It in a sentence."""
        stopped, control = f"stopped at step {self.step} of {self.total_steps}", f"`random` with max_steps: {self.step}"
        if self.mass_left is None or self.rate is None or self.last_rate is None:
            left = f"{1 - self.step / self.total_steps:.0%} of the steps were left, at rates that nobody knows"
            return f"{stopped}; {left}: the fair control is {control}"
        left = (
            f"{self.mass_left:.0%} of the learning-rate mass was left and the rate stood at {self.rate:.2g} of its peak"
        )
        if self.rate <= self.last_rate + DECAYED:
            return f"{stopped}; {left}, as it would at the end: the fair control is {control}"
        return f"{stopped}; {left}: a schedule that ends here would have decayed, and the fair control is {control}"


def stop_after_saving(control: TrainerControl) -> None:
    """The trainer saves a checkpoint of this step, whatever its strategy, and trains no further one."""
    control.should_save = control.should_training_stop = True
