"""A curriculum's state as a checkpoint holds it: looked at before it is loaded, and named where it is not whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from campus_tune.errors import CampusError, ResumeError
from campus_tune.shapes import misshapen
from campus_tune.types import Json

SHAPE: dict[str, Any] = {
    "identity": {"batch": {"world": int}},
    "curriculum": {},
    "competence": {},
    "budget": {},
    "scores": {str: str},
    "rescoring": {},
    "training_losses": {},
    "rates": float,
    "loop": {"windows": [{}], "missing": ({}, None), "training_mode": bool},
    "epoch_ended": bool,
    "logged_step": int,
    "audit": [int, int, bool],
    "journal": {},
}


def refuse_misshapen(saved: Json, step: int) -> None:
    """Every part of the state is there.

    Args:
        saved: of this version.
        step: after which it was saved.

    Raises:
        ResumeError: one is not, or is of another kind.
    """
    problem = misshapen(saved, SHAPE)
    if problem is not None:
        raise _not_whole(step, problem)


@contextmanager
def as_saved(step: int) -> Iterator[None]:
    """Around the loading of the parts, each of which knows its own inside.

    Args:
        step: after which they were saved.

    Raises:
        ResumeError: a part is not as it was saved.
    """
    try:
        yield
    except CampusError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _not_whole(step, f"{type(error).__name__}: {error}") from error


def _not_whole(step: int, why: str) -> ResumeError:
    return ResumeError(
        f"the checkpoint at step {step} must hold the whole state of its curriculum in trainer_state.json, got one "
        f"that was changed ({why}). Put the checkpoint back from a copy, resume from an earlier one, or train without "
        "resuming."
    )
