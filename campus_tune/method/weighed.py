"""What there is to say of how much a stage's rows counted: the parts of a ledger's line that only a weighted run has.

>>> tokens, nats = np.array([10, 10, 10, 30]), np.array([40.0, 10, 10, 30])
>>> losses = RowLosses(nats, tokens, top1=tokens, worst=nats, sureness=nats)
>>> domains = Groups(np.array([0, 0, 1, 1]), ("code", "math"))
>>> said = of_stage(np.arange(4), np.array([3.0, 1, 0, 2 / 3]), losses, domains, Live())
>>> said["weights"]["ess"], said["weights"]["half"], said["weights"]["by_domain"]
(0.529412, 0.25, {'code': 2.0, 'math': 0.5})
>>> said["weights"]["histogram"], said["weighted_loss"]
([1, 0, 0, 0, 2, 0, 1, 0, 0], 2.5)
"""

from __future__ import annotations

import numpy as np

from campus_tune.method.levels import Groups
from campus_tune.method.weighting import Live, LiveEntry
from campus_tune.method.weights import SelfPaced, effective_share
from campus_tune.words.types import FloatArray, IntArray, Json, RowArray, RowLosses

__all__ = ["BARS", "EDGES", "LITTLE", "histogram", "level_by_group", "of_stage", "rows_of_half", "weighted_loss"]

EDGES = (0.0, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)  # upper ends of a histogram's bars; one more is open
BARS = ("0", "≤ 1/8", "≤ 1/4", "≤ 1/2", "≤ 1", "≤ 2", "≤ 4", "≤ 8", "> 8")  # their names
LITTLE = 0.2  # of the stage's mean weight, below which self-pacing has as good as shut a row out
MOST_GROUPS = 50  # whose levels a line names
_SAME = 1e-5  # of a weight that single precision has multiplied: 1 is in the bar that ends at 1
_DIGITS = 6


def of_stage(
    rows: IntArray | RowArray, weights: FloatArray | None, losses: RowLosses, domains: Groups, live: Live
) -> Json:
    """`weights`, `weighted_loss` and, with live weights, `level` of a stage; {} where none of its rows was weighted.

    Rows without answer tokens have no gradient that a weight could multiply, and are left out.

    Args:
        rows: that were trained, shape (n,).
        weights: what each one's gradient was multiplied by, the mean over its tokens, shape (n,); None for nothing.
        losses: of the same rows.
        domains: of all rows.
        live: the stage's live weights.
    """
    counted = losses.tokens > 0
    if weights is None or not counted.any():
        return {}
    rows, weights, losses = rows[counted], weights[counted], losses.take(counted)
    codes, tokens = domains.of(rows), losses.tokens
    said: Json = {
        "mean": _mean(weights, tokens),
        "min": float(weights.min()),
        "max": float(weights.max()),
        "ess": effective_share(weights, tokens),
        "half": rows_of_half(weights, tokens),
    }
    named = [] if domains.codes is None else [(name, codes == code) for code, name in enumerate(domains.names)]
    in_it = {name: inside for name, inside in named if inside.any()}
    record: Json = {
        "weights": {
            **{name: round(value, _DIGITS) for name, value in said.items()},
            "by_domain": {name: round(_mean(weights[mine], tokens[mine]), _DIGITS) for name, mine in in_it.items()},
            "histogram": histogram(weights),
        },
        "weighted_loss": weighted_loss(weights, losses),
    }
    if any(isinstance(entry.weight, SelfPaced) for entry in live.rows):
        everyone = in_it or {domains.names[0]: np.ones(len(weights), dtype=bool)}
        little = weights < LITTLE * said["mean"]
        shares = {name: float(little[mine].mean()) for name, mine in everyone.items()}
        record["weights"]["shut_out"] = {name: round(share, _DIGITS) for name, share in shares.items() if share}
    if live:
        record["level"] = {"mean": live.mean, **{one.name: level_by_group(one, rows) for one in live.rows if one.level}}
    return record


def weighted_loss(weights: FloatArray, losses: RowLosses) -> float | None:
    """The loss that was minimised, `Σ w·T·ℓ / Σ w·T` in nats per token; None where no row counted.

    Args:
        weights: shape (n,).
        losses: of the same rows.
    """
    total = float((weights * losses.tokens).sum())
    return float((weights * losses.nll_sum).sum()) / total if total > 0 else None


def histogram(weights: FloatArray) -> list[int]:
    """Rows of weight 0, up to ⅛, ¼, ½, 1, 2, 4, 8, and above.

    >>> histogram(np.array([0, 0.1, 0.25, 1.0000001, 1.01, 9]))
    [1, 1, 1, 0, 1, 1, 0, 0, 1]
    """
    bars = np.searchsorted(np.array(EDGES) * (1 + _SAME), weights)
    return [int(n) for n in np.bincount(bars, minlength=len(EDGES) + 1)]


def rows_of_half(weights: FloatArray, tokens: IntArray) -> float:
    """The least share of the rows that carry half of all weighted tokens, in (0, 1]: how few the gradient hangs on.

    Args:
        weights: shape (n,).
        tokens: answer tokens of the rows, shape (n,).
    """
    carried = np.sort(weights * tokens)[::-1].cumsum()
    return (int(np.searchsorted(carried, carried[-1] / 2)) + 1) / len(carried)


def _mean(weights: FloatArray, tokens: IntArray) -> float:
    """Token-weighted."""
    return float((weights * tokens).sum() / tokens.sum())


def level_by_group(entry: LiveEntry, rows: IntArray | RowArray) -> dict[str, list[float]]:
    """The level of each group of which a stage had rows and that has one, of the largest where they are many.

    Args:
        entry: a weight that compares a row's loss with its group's.
        rows: of the stage, shape (n,).
    """
    counts = np.bincount(entry.groups.of(rows), minlength=len(entry.groups.names))
    counts[np.isnan(entry.level[0])] = 0
    largest = np.argsort(-counts, kind="stable")[:MOST_GROUPS]
    shown = [int(code) for code in np.sort(largest) if counts[code]]
    return {entry.groups.names[code]: [round(float(n[code]), _DIGITS) for n in entry.level] for code in shown}
