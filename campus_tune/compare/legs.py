"""One run in several legs: it is saved and left where one ends, and the next goes on from there, maybe days later.

A leg is left like a run that is killed, right behind a checkpoint, and the next resumes it: rows, losses and weights
are those of a run that was never left, which is tested of every run. What a leg leaves behind is small: the losses of
the held-out rows where it was measured. Its checkpoint stays until whoever plans the legs removes it (`forget`).
"""

from __future__ import annotations

import json
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campus_tune.compare.arms import Arm
from campus_tune.compare.file_shapes import LEG
from campus_tune.compare.plan import Plan
from campus_tune.compare.result_file import DIVERGED, FAILED, FINISHED, FORMAT, LOG, read_stored, run_folder
from campus_tune.compare.task import Leg, Task
from campus_tune.run.ledger import plain
from campus_tune.run.make_trainer import Shared, make_shared_trainer
from campus_tune.words.errors import DivergedError, RecipeError, StorageError
from campus_tune.words.files import atomic_write
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from campus_tune.data.held_out import HeldOut

CHECKPOINT = "checkpoint-{}"  # as transformers calls it
END = "end"


def leg_file(out: Path, arm: str, seed: int, leg: Leg) -> Path:
    """Where a leg's result is."""
    return run_folder(out, arm, seed) / f"leg-{END if leg.until is None else leg.until}.json"


def read_leg(out: Path, arm: str, seed: int, leg: Leg) -> Json | None:
    """The result of a leg; None where it was not finished.

    Raises:
        DataError: the file is no result of this version.
    """
    path = leg_file(out, arm, seed, leg)
    if not path.exists():
        return None
    return read_stored(path, FORMAT, "be the result of a part of a run", "delete it: the part is repeated", LEG)


def forget(out: Path, arm: str, seed: int) -> None:
    """Remove the checkpoints of a run: no leg goes on from them any more."""
    for path in run_folder(out, arm, seed).glob(CHECKPOINT.format("*")):
        shutil.rmtree(path)


def train_leg(
    plan: Plan, arm: Arm, task: Task, rows: HeldOut, shared: Shared, tick: Callable[[int], object] = lambda _: None
) -> Json:
    """Train one leg; the result, as it is in its file. One that cannot be trained is a result without a file.

    Args:
        plan: of all runs.
        arm: of this one.
        task: with the leg.
        rows: held out, on which losses are measured.
        shared: of this process.
        tick: told the finished steps of the run.

    Raises:
        StorageError: nothing can be written.
    """
    leg = task.leg
    assert leg is not None
    folder = run_folder(plan.out, arm.name, task.seed)
    path = leg_file(plan.out, arm.name, task.seed, leg)
    outcome: Json = {"arm": arm.name, "seed": task.seed, "until": leg.until, "status": FINISHED, "message": None}
    try:
        outcome |= _train(plan, arm, task, leg, folder, rows, shared, tick)
    except StorageError:
        raise
    except Exception as error:  # whatever a library says to the settings of one trial: the others go on
        traceback.print_exc()
        why = " ".join((str(error) or type(error).__name__).split())
        return {**outcome, "status": FAILED, "message": f"{why} (its log: {folder / LOG})"}
    atomic_write(path, json.dumps(plain({"format": FORMAT, **outcome}), allow_nan=False) + "\n")
    return outcome


def _train(
    plan: Plan,
    arm: Arm,
    task: Task,
    leg: Leg,
    folder: Path,
    rows: HeldOut,
    shared: Shared,
    tick: Callable[[int], object],
) -> Json:
    from campus_tune.compare.leg_recorder import LegEnded, LegRecorder
    from campus_tune.model import compat
    from campus_tune.run.callback import CampusCallback
    from campus_tune.run.run import CampusRun

    parsed, problems = plan.parsed(task.seed, folder, task.max_steps)
    if problems:
        raise RecipeError(problems)
    training: Any = parsed[1]
    training.save_only_model, training.save_total_limit = False, None  # what goes on needs its optimizer
    config = arm.config(task.seed, task.recorded)
    config = config if config.scores else replace(config, scores=str(plan.out / "scores"))
    callback, recorder = CampusCallback(config), LegRecorder(rows, leg, tick)
    trainer = make_shared_trainer(*parsed, callbacks=[callback, recorder], shared=shared, only=task.only)
    assert isinstance(callback.run, CampusRun)  # it was made with the trainer
    recorder.follow(trainer, callback.run)
    start = folder / CHECKPOINT.format(leg.since)
    outcome: Json = {"campus": config.to_mapping()}
    began = time.perf_counter()
    try:
        trainer.train(resume_from_checkpoint=str(start) if leg.since and start.is_dir() else None)
    except LegEnded:
        pass
    except DivergedError as error:
        outcome |= {"status": DIVERGED, "message": str(error)}
    step = int(trainer.state.global_step)
    outcome |= {
        "step": step,
        "steps": int(trainer.state.max_steps),
        "over": step == trainer.state.max_steps or step != leg.until,  # a rule may have stopped it
        "tokens": recorder.tokens,
        "seconds": time.perf_counter() - began,
        "curve": {name: recorder.curve()[name] for name in ("step", "loss")},
        "test": recorder.end(),
    }
    compat.let_go(trainer)
    return outcome
