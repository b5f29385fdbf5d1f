"""The learning rates of a whole run, before it has had them: of what is still to come, a trainer shows none.

A schedule of transformers is a base rate times a function of the step, so all of its rates can be asked at once, and
nothing is stepped. Of any other (of torch's own most hold their rate in the optimizer and change it from step to step;
two of transformers' wait for a measurement) nothing is known.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING

import numpy as np
from accelerate.scheduler import AcceleratedScheduler
from torch.optim.lr_scheduler import LambdaLR

from campus_tune.words.types import FloatArray

if TYPE_CHECKING:
    from transformers import Trainer


def rates_of(trainer: Trainer, n_steps: int) -> FloatArray | None:
    """The learning rate of each optimizer step of the trainer's schedule as it is now, shape (n_steps,).

    They are those of the first group of parameters, as in the trainer's log. Steps that a gradient scaler leaves out
    leave the schedule where it is: a run that has such steps is that much behind.

    Args:
        trainer: that has its scheduler; after a resume it has the one that was saved.
        n_steps: of the whole run.

    Returns:
        None where they cannot be known: another kind of scheduler, or a function of the step that has a state, or that
        gives something else than a rate.
    """
    scheduler, each = trainer.lr_scheduler, 1
    if isinstance(scheduler, AcceleratedScheduler):
        if scheduler.step_with_optimizer and not scheduler.split_batches:  # it steps once for each process
            each = trainer.accelerator.num_processes
        scheduler = scheduler.scheduler
    if type(scheduler) is not LambdaLR or not _is_function(scheduler.lr_lambdas[0]):
        return None
    base, factor = float(scheduler.base_lrs[0]), scheduler.lr_lambdas[0]
    try:
        rates = base * np.array([float(factor(each * step)) for step in range(n_steps)])
    except (ArithmeticError, ValueError, TypeError, LookupError):  # of a step that the run may never come to
        return None
    return rates if np.isfinite(rates).all() and (rates >= 0).all() else None


def _is_function(factor: object) -> bool:
    """Whether asking leaves it as it is: an object of a class of the user's may count how often it was asked."""
    return inspect.isfunction(factor.func if isinstance(factor, functools.partial) else factor)
