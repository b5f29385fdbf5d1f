"""What every thinner promises, whatever scores it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import numpy as np

from campus_tune.method.standing import Scale, relative
from campus_tune.method.thin import THINNERS, Thinner, build_thinner
from campus_tune.testing.promises import check_card, check_frozen, name_in, promise
from campus_tune.words.types import FloatArray

ROUNDING = 1e-9  # what chances may be off by
SUM_ROUNDING = 1e-6


def check_thinner(setting: str | Mapping[str, Any], *, draws: int = 50, seed: int = 0) -> None:
    """Check that a thinner keeps what campus_tune relies on, over scores drawn at random.

    Args:
        setting: as in a recipe: a registered name, or a mapping with its options.
        draws: sets of 1 to 40 offered rows.
        seed: of the draws.

    Raises:
        BrokenPromise: the first promise that is not kept, in a sentence.
        RecipeError: no thinner of this name is registered or installed, or it does not take these options.
    """
    name, thinner = name_in(setting), build_thinner(setting)
    check_card(THINNERS, name, (Thinner,))
    promise(
        isinstance(thinner, Thinner), f"`{name}` must be a Thinner, got {type(thinner).__name__}. Derive it from it."
    )
    check_frozen(thinner, name, may_be_plain=True)
    scales, scale = get_args(Scale), getattr(thinner, "scale", None)
    promise(scale in scales, f"`{name}` must say its `scale`, one of {', '.join(scales)}, got {scale!r}.")
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        m = int(rng.integers(1, 41))
        n = int(rng.integers(0, m + 3))
        known = np.round(rng.exponential(size=m + 20), int(rng.integers(0, 4)))  # with ties, with zeros
        known[rng.random(m + 20) < 0.2] = np.nan  # not trained yet
        _check_chances(setting, thinner, relative(thinner.scale, known, None, np.arange(m)), n, rng.random(m))
        offered = thinner.offered(n)
        promise(
            isinstance(offered, int) and offered >= n,
            f"`{name}` must offer a whole number of rows, no fewer than it takes, got {offered!r} for {n}.",
        )


def _check_chances(
    setting: str | Mapping[str, Any], thinner: Thinner, scores: FloatArray, n: int, keys: FloatArray
) -> None:
    """Chances that add up, rise with the score, and belong to a row wherever it stands."""
    name, m = name_in(setting), len(scores)
    given = scores.copy(), keys.copy()
    pi = thinner.chances(scores, n, keys)
    about = f"for the scores {given[0].tolist()}, {n} to take"
    promise(
        scores.tolist() == given[0].tolist() and keys.tolist() == given[1].tolist(),
        f"`{name}` must leave the scores and keys that it is given as they were, got them changed {about}.",
    )
    kind = f"{pi.dtype} {pi.shape}" if isinstance(pi, np.ndarray) else type(pi).__name__
    promise(
        isinstance(pi, np.ndarray) and pi.dtype == np.float64 and pi.shape == (m,),
        f"`{name}` must give one float64 per row, shape ({m},), got {kind} {about}.",
    )
    promise(
        ((pi >= 0) & (pi <= 1)).all(), f"`{name}` must give chances in [0, 1], got {pi.min()} to {pi.max()} {about}."
    )
    promise(
        thinner.own or abs(float(pi.sum()) - min(n, m)) <= SUM_ROUNDING * max(1, n),
        f"`{name}` must give chances that add up to the rows to take, or to all rows where these are fewer, or say "
        f"`own`, got {float(pi.sum())} {about}.",
    )
    rising = pi[np.lexsort((-keys, scores))]  # of equal scores the lowest key goes first
    falls = np.flatnonzero(np.diff(rising) < -ROUNDING)
    promise(
        not falls.size,
        f"`{name}` must give no row a lower chance than one of a lower score, got {pi.tolist()} {about}. A minus "
        "before the score's name turns it around.",
    )
    for again in (thinner, build_thinner(setting)):
        promise(
            again.chances(scores.copy(), n, keys.copy()).tolist() == pi.tolist(),
            f"`{name}` must give the same rows the same chances whenever it is asked, got others the second time "
            f"{about}. Take what is random from the keys.",
        )
    turned = thinner.chances(scores[::-1].copy(), n, keys[::-1].copy())[::-1]
    promise(
        np.allclose(turned, pi, rtol=0, atol=ROUNDING),
        f"`{name}` must give a row the same chance wherever it stands, got {pi.tolist()}, and {turned.tolist()} from "
        f"the last to the first {about}.",
    )
    half = (m + 1) // 2
    promise(
        not thinner.own or thinner.chances(scores[:half].copy(), n, keys[:half].copy()).tolist() == pi[:half].tolist(),
        f"`{name}` must give a row a chance of its `own`, whatever other rows are offered, got another one beside the "
        f"first {half} rows alone {about}.",
    )
