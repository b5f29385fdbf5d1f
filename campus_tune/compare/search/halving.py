"""Successive halving: all trials are trained a little, the better third goes on, and of these a third to the end.

    rungs          after 1/9 and 1/3 of the steps, and at the end
    kept           of n trials at a rung the ⌈n/3⌉ with the lowest loss; a diverged one never
    ties           go on together: what differs only later cannot be told apart yet

A trial is one run: at a rung it is saved, and goes on from there, so its last weights are those of a run that was
never stopped. Which trials go on is a function of the losses alone.

Losses before the end rank what they will be at the end only while the learning rate stands where it stays: a rate that
decays moves the loss more than any recipe, and a rung in the middle of a cosine would compare what nobody will use. So
there are rungs at constant rates and on the flat part of warmup_stable_decay, behind the warmup and before the decay;
at all other schedules, the trainer's default among them, every trial is trained in full. Even so a third of the steps
favours what learns fast: a curriculum that keeps the hard rows for the end may be dropped for it.

Reference:
    Jamieson and Talwalkar, AISTATS 2016 (successive halving); Li et al., JMLR 18, 2018 (keep 1/3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from campus_tune.recipe.training_yaml import MOST_STEPS, learning_rates
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import FloatArray

KEEP = 3  # one of so many goes on
SHARES = (1 / 9, 1 / 3)  # of the steps, before the end
FLAT = ("constant", "constant_with_warmup", "warmup_stable_decay")  # schedules that stand still for a while
_FULL = 1 - 1e-9  # of the highest rate

Losses: TypeAlias = Mapping[tuple[int, int], float]  # (trial, rung) → nats per token; infinite where it diverged


@dataclass(frozen=True)
class Ladder:
    """Where trials are compared.

    Args:
        steps: of each rung; the last one is the end of the run.
        why: in a sentence, which rungs there are and why not others.
    """

    steps: tuple[int, ...]
    why: str

    def cost(self, n_trials: int) -> float:
        """What `n_trials` cost, in whole runs, where no two of them tie and none diverges."""
        runs, before, n = 0.0, 0, n_trials
        for step in self.steps:
            runs += n * (step - before) / self.steps[-1]
            before, n = step, math.ceil(n / KEEP)
        return runs


def make_ladder(settings: Mapping[str, Any], total_steps: int) -> Ladder:
    """The rungs of a training YAML.

    Args:
        settings: the YAML's, with what flags say instead; what they do not say is SFTConfig's default.
        total_steps: of a run.
    """
    kind = str(getattr(settings.get("lr_scheduler_type"), "value", settings.get("lr_scheduler_type") or "linear"))
    if kind not in FLAT:
        why = (
            f"the learning rate of lr_scheduler_type: {kind} moves all along, so a loss on the way says little about "
            "the end: every trial is trained in full. With constant_with_warmup, or before the decay of "
            "warmup_stable_decay, two thirds could be stopped early"
        )
        return Ladder((total_steps,), why)
    if total_steps > MOST_STEPS:
        return Ladder((total_steps,), f"runs of more than {MOST_STEPS} steps are trained in full")
    try:
        rates = learning_rates(settings, total_steps)
    except (RecipeError, ValueError, TypeError) as error:
        return Ladder((total_steps,), f"the learning rates are not known ({error}): every trial is trained in full")
    flat = flat_steps(rates)
    wanted = sorted({max(1, round(share * total_steps)) for share in SHARES} - {total_steps})
    rungs = [step for step in wanted if flat is not None and flat[0] < step <= flat[1]]
    if not rungs:
        why = f"no third of the steps lies where the rate of {kind} stands still: every trial is trained in full"
        return Ladder((total_steps,), why)
    left = "" if rungs == wanted else ", where the rate stands still; it moves at the other"
    listed = " and ".join(map(str, rungs))
    return Ladder((*rungs, total_steps), f"one trial in {KEEP} goes on behind step {listed} of {total_steps}{left}")


def flat_steps(rates: FloatArray) -> tuple[int, int] | None:
    """(steps before the highest rate is there, steps at whose end it still is); None where it is there for one step.

    >>> flat_steps(np.array([0.0, 0.5, 1.0, 1.0, 1.0, 0.4]))
    (2, 5)
    >>> flat_steps(np.array([1.0, 0.8, 0.6])) is None
    True

    Args:
        rates: of all steps, shape (S,).
    """
    full = np.flatnonzero(rates >= _FULL * rates.max())
    first, last = int(full[0]), int(full[-1]) + 1
    return None if last - first < 2 or len(full) < last - first else (first, last)


def promoted(losses: Mapping[int, float]) -> list[int]:
    """The trials that go on from a rung, by number.

    >>> promoted({0: 2.0, 1: 1.0, 2: 3.0, 3: math.inf})  # two of four
    [0, 1]
    >>> promoted({0: 1.0, 1: 1.0, 2: 1.0})  # nothing tells them apart yet
    [0, 1, 2]

    Args:
        losses: of all trials that reached it.
    """
    known = sorted(loss for loss in losses.values() if math.isfinite(loss))
    n = math.ceil(len(losses) / KEEP)
    if not known:
        return []
    highest = known[min(n, len(known)) - 1]
    return sorted(trial for trial, loss in losses.items() if loss <= highest)


def next_legs(losses: Losses, trials: Sequence[int], n_rungs: int) -> list[tuple[int, int]]:
    """What is to be trained now, as (trial, rung): all of one rung; nothing when the search is over.

    Args:
        losses: so far.
        trials: numbers of all that are tried.
        n_rungs: of the ladder.
    """
    going = list(trials)
    for rung in range(n_rungs):
        missing = [(trial, rung) for trial in going if (trial, rung) not in losses]
        if missing:
            return missing
        going = promoted({trial: losses[trial, rung] for trial in going}) if rung + 1 < n_rungs else []
    return []


def finalists(losses: Losses, trials: Sequence[int], n_rungs: int) -> dict[int, float]:
    """Trial → loss at the end, of those that the halving has brought there and that did not diverge."""
    going = list(trials)
    for rung in range(n_rungs - 1):
        going = promoted({trial: losses[trial, rung] for trial in going if (trial, rung) in losses})
    last = {trial: losses[trial, n_rungs - 1] for trial in going if (trial, n_rungs - 1) in losses}
    return {trial: loss for trial, loss in last.items() if math.isfinite(loss)}
