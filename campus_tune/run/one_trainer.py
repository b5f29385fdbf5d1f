"""One callback drives one trainer at a time.

A callback that is handed on takes its run from the trainer that had it: whatever that one does then would be told to
another run, and written into another folder. So the second trainer of two is refused when it is made, as long as the
first is there and has not been trained. Once the first has trained, well or badly, the callback may go on to the next;
from then on the first one's `train()` is refused. A trainer that nobody has any more, or from which the callback was
removed, has no say.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from campus_tune.words.errors import TrainerError

if TYPE_CHECKING:
    from transformers import Trainer

    from campus_tune.run.callback import CampusCallback
    from campus_tune.run.driven import DrivenRun

REMEDY = "Make one CampusCallback for each trainer: write callbacks=[CampusCallback(…)] where the trainer is made"


def refuse_two(trainer: Trainer, kind: type[CampusCallback]) -> None:
    """A trainer has one curriculum.

    Raises:
        TrainerError: it has two callbacks of this kind.
    """
    if len(_of_kind(trainer, kind)) > 1:
        raise TrainerError("a trainer must have one CampusCallback, got two. Remove one: two orders cannot be trained.")


def refuse_shared(callback: CampusCallback, trainer: Trainer) -> None:
    """A callback is given to a trainer: it must have no other one that needs it.

    Args:
        callback: a `CampusCallback`.
        trainer: that it is given to.

    Raises:
        TrainerError: another one has it, and has not been trained or is being trained.
    """
    if _holder(callback, trainer) is None:
        return
    gc.collect()  # one that was let go stays until then: trainers are circles
    holder = _holder(callback, trainer)
    if holder is None:
        return
    raise TrainerError(
        f"a CampusCallback must drive one trainer at a time, got a second one, while the first (output_dir "
        f"{holder.trainer.args.output_dir!r}) {'is being trained' if holder.trains else 'was not trained yet'}. "
        f"{REMEDY}; or take it off the first before: trainer.remove_callback(CampusCallback)."
    )


def refuse_taken(trainer: Trainer, run: DrivenRun, kind: type[CampusCallback]) -> None:
    """A trainer is to be trained: the callback that it was made with must still be its own.

    Args:
        trainer: that has it.
        run: its own.
        kind: of callback.

    Raises:
        TrainerError: the callback was given to another trainer meanwhile.
    """
    for callback in _of_kind(trainer, kind):
        theirs = callback.run
        if theirs is not None and theirs is not run:
            raise TrainerError(
                f"a CampusCallback must drive one trainer at a time, got one that was given to another meanwhile "
                f"(output_dir {theirs.trainer.args.output_dir!r}). {REMEDY}; to go on here, make this trainer anew."
            )


def _of_kind(trainer: Trainer, kind: type[CampusCallback]) -> list[CampusCallback]:
    return [callback for callback in trainer.callback_handler.callbacks if isinstance(callback, kind)]


def _holder(callback: CampusCallback, trainer: Trainer) -> DrivenRun | None:
    """The run of the other trainer that needs the callback; None if there is none."""
    run = callback.run
    if run is None or run.trainer is trainer or callback not in run.trainer.callback_handler.callbacks:
        return None
    return run if run.trains or not run.trained_before else None
