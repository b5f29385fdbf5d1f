"""A curriculum's state as a checkpoint holds it: looked at before it is loaded, and named where it is not whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from campus_tune.method.levels import Visits
from campus_tune.words.errors import CampusError, ResumeError
from campus_tune.words.json_shapes import misshapen
from campus_tune.words.types import Json, RowLosses

PACKED = {"dtype": str, "n": int, "data": str}
_LOSSES = dict.fromkeys(vars(RowLosses.zeros(0)), PACKED)
STAGE = {
    "index": int,
    "epoch": int,
    "chosen": str,
    "first_step": int,
    "n_steps": int,
    "rows": PACKED,
    "scope": [float, float],
    "n_random": int,
    "n_repeats": int,
    "widened": bool,
    "weights?": PACKED,
}
_LEVELS = {"last": dict.fromkeys(vars(Visits.none()), PACKED), "running?": {str: PACKED}}
PAST = {
    "index": int,
    "chosen": str,
    "end": int,
    "loss": (float, None),
    "loss_by_domain": {str: float},
    "offered?": [str],
    "tokens?": int,
    "lr_mass?": float,
    "lr_tokens?": float,
    "sums?": {str: [float, int]},
    "shares?": {str: float},
    "again?": [int, int],
    "own_gain?": (float, None),
    "norm_gain?": (float, None),
}
_ESTIMATES = {str: [float, float, int]}
_MEASURED = {
    "measurements": [
        {
            "stage": int,
            "step": int,
            "progress": float,
            "mass": float,
            "tokens": int,
            "loss": _ESTIMATES,
            "accuracy": _ESTIMATES,
            "rise": _ESTIMATES,
            "left": _ESTIMATES,
            "calibration": {str: float},
        }
    ],
    "recent": [{str: dict.fromkeys(("ids", "nll", "tokens", "hits"), PACKED)}],
    "best": {str: PACKED},
    "start": {str: PACKED},
}
FIRING = {  # also a line of the ledger
    "kind": str,
    "name": str,
    "probe": (str, None),
    "measurement": int,
    "stage": int,
    "step": int,
    "progress": float,
    "value": float,
    "bound": float,
    "against": float,
    "actions": [str],
    "times": int,
}
CURRICULUM = {
    "step": int,
    "left_out": int,
    "n_stages": int,
    "pointers": {str: int},
    "times_chosen": {str: int},
    "rows_by_choice": {str: int},
    "barred": [str],
    "spent": PACKED,
    "seen": PACKED,
    "stage": (STAGE, None),
}
BUDGET = {
    "spent": {str: float},
    "found": {str: float},
    "seconds": {str: float},
    "caps": ({str: float}, None),
    "halved": bool,
    "kept?": bool,  # of a version that could overspend
    "unpaid?": [str],
    "at_ends?": (float, None),
}
LOOP = {
    "windows": [{"counts?": {str: object}, "metrics?": {str: [object]}}],
    "missing": ({"log": bool, "evaluate": bool, "grad_norm": object, "learning_rate": object}, None),
    "training_mode": bool,
}
SHAPE: dict[str, Any] = {
    "identity": {"past": {"global_batch": int}, "future": {}, "batch": {"world": int}, "prepared": {}},
    "curriculum": {**CURRICULUM, "levels?": _LEVELS},
    "competence": {"history": {str: [float]}, "ema": {str: float}},
    "budget": BUDGET,
    "scores": {str: str},
    "rescoring": {"count": int, "digests": {str: str}, "trained": PACKED, "free": _LOSSES},
    "training_losses": {
        "rows": PACKED,
        "losses": _LOSSES,
        "logged": [object],
        "past?": [PAST],
        "weights?": PACKED,
        "parts?": PACKED,
    },
    "rates": float,
    "lr_tokens?": float,
    "offered?": [str],
    "measured?": _MEASURED,
    "helm?": {"firings": [FIRING]},
    "best?": {"measurement": int, "step": int, "loss": float, "files": {str: [int, str]}},
    "loop": LOOP,
    "epoch_ended": bool,
    "logged_step": int,
    "padding?": [int, int, int],
    "audit": [int, int, bool],
    "weights_audit?": [int, int],
    "clipped?": {"clipped": int, "steps": int},
    "warned?": [str],
    "book?": {"chain": [[int, str]]},
    "dropped?": str,
    "rewards?": {"own": (float, None), "rows": (PACKED, None), "norm": (float, None), "n_trained": int},
    "value?": {
        "measured": ([int, int], None),
        "files": {str: [int, str]},
        "visits": {
            "groups": [str],
            "by": str,
            **dict.fromkeys(("rows", "steps", "tokens", "sums", "trained", "rates", "step_tokens"), PACKED),
        },
    },
    "suspects?": {"stage": int, "dropped": str},
    "act?": {"looks": int, "found": int, "stage": (int, None), "cannot?": str},
    "journal": {"size": int, "pending": {}, "probes": {str: {"competence": float}}, "first": {str: float}},
}


def refuse_misshapen(saved: Json, step: int, shape: Mapping[str, Any] = SHAPE) -> None:
    """Every part of the state is there.

    Args:
        saved: of this version.
        step: after which it was saved.
        shape: of all parts.

    Raises:
        ResumeError: one is not, or is of another kind.
    """
    problem = misshapen(saved, shape)
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
