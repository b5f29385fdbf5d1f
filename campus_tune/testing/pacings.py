"""What every pacing promises, whatever its options."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from campus_tune.method.pacing import PACINGS, build_pacing, scope_at
from campus_tune.testing.promises import check_card, name_in, promise

ROUNDING = 1e-9  # what powers may be off by, alone or together with others: a piece of `join` may stretch a flat curve


def check_pacing(setting: str | Mapping[str, Any], *, draws: int = 50, seed: int = 0) -> None:
    """Check that a pacing keeps what campus_tune relies on, at many moments of a run.

    Args:
        setting: as in a recipe: a registered name, or a mapping with its options.
        draws: random moments beside 201 evenly spaced ones.
        seed: of the draws.

    Raises:
        BrokenPromise: the first promise that is not kept, in a sentence.
        RecipeError: no pacing of this name is registered or installed, or it does not take these options.
    """
    name = name_in(setting)
    check_card(PACINGS, name, ())
    pacing = build_pacing(setting)
    u = np.unique(np.concatenate([np.linspace(0, 1, 201), np.random.default_rng(seed).random(draws)]))
    given = u.copy()
    scopes = np.asarray(pacing(u))
    promise((u == given).all(), f"`{name}` must leave the progress that it is given as it was, got it changed.")
    promise(
        scopes.shape == u.shape and scopes.dtype == np.float64,
        f"`{name}` must give one float64 for each moment, shape {u.shape}, got {scopes.dtype} {scopes.shape}.",
    )
    promise(
        ((scopes > 0) & (scopes <= 1)).all(),
        f"`{name}` must give shares in (0, 1], never nothing, got {scopes.min()} to {scopes.max()}.",
    )
    falls = np.flatnonzero(np.diff(scopes) < -ROUNDING)
    promise(
        not falls.size,
        f"`{name}` must never fall: a row that is open stays open. Got "
        + "".join(f"{scopes[i]} at u = {u[i]}, then {scopes[i + 1]} at u = {u[i + 1]}." for i in falls[:1]),
    )
    promise(
        scopes[-1] == 1.0,
        f"`{name}` must end at exactly 1, or the hardest rows are shut out for good, got {scopes[-1]} at u = 1.",
    )
    alone = [scope_at(pacing, moment) for moment in u]
    square = np.asarray(pacing(np.stack([u, u])))
    promise(
        np.allclose(alone, scopes, rtol=0, atol=ROUNDING)
        and square.shape == (2, len(u))
        and np.allclose(square, scopes, rtol=0, atol=ROUNDING),
        f"`{name}` must give each moment its own scope, whatever moments it is asked for together, got others alone.",
    )
    again = np.asarray(build_pacing(setting)(u))
    promise(
        again.tolist() == scopes.tolist(),
        f"`{name}` must give the same scope for the same moment whenever it is asked, got others the second time.",
    )
    parameters = inspect.signature(PACINGS.get(name)).parameters
    if "start" in parameters:  # an option of that name is where it starts
        start = dict(setting if isinstance(setting, Mapping) else {}).get("start", parameters["start"].default)
        promise(
            abs(float(scopes[0]) - start) <= ROUNDING,
            f"`{name}` must start at its `start`, {start}, got {float(scopes[0])} at u = 0.",
        )
