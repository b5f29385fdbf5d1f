"""Score health: what is wrong with the scores before anything is trained by them, as findings and as tables.

A curriculum fails quietly. Two metrics that are one, an order made of ties, an order that is noise, a metric that
follows the length and not the difficulty: each gives a smooth loss curve and a wrong conclusion. Everything here is
numpy on whole arrays (a million rows take seconds), reads nothing and decides nothing.

>>> scores = {"length": np.array([1.0, 2.0, 3.0, 4.0]), "words": np.array([10.0, 20.0, 30.0, 40.0])}
>>> [finding.what for finding in score_findings(score_health(scores))]
['`length` and `words` order the rows alike (rank correlation 1.00).']
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np

from campus_tune.method.grouping import FEW, Grouping
from campus_tune.method.stats import (
    correlation_matrix,
    largest_tie,
    mean_within,
    ranks_within,
    spearman,
    tie_share,
    ties_within,
)
from campus_tune.words.errors import DataError
from campus_tune.words.findings import Finding
from campus_tune.words.registry import nearest
from campus_tune.words.tables import table
from campus_tune.words.types import FloatArray, IntArray, Json

ALIKE = 0.98  # rank correlation from which two metrics are one
OPPOSED = 0.9  # below minus this, a metric is another one's anti-curriculum in all but name
NOISE = 0.5  # rank correlation of a ranking between two halves below which it is mostly noise
LEVEL, LENGTH = "level", "length"  # columns of the training set and of the tables here
MANY_DIGITS = 1e7  # a score from which on its size is all that a table says of it
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
TIED = 0.5  # share of the rows with one and the same score from which an order is mostly a coin toss


@dataclass(frozen=True)
class WithinGroups:
    """What can be said of scores inside the groups that rows are ranked in: there is where they order anything.

    Args:
        grouping: the groups, and what they leave of the orders.
        ties: per metric, share of the rows that share their score with another row of their group.
        largest_tie: per metric, share of the rows with the score that is commonest in their group, if not theirs alone.
        correlation: of the ranks inside groups, laid out as `ScoreHealth.correlation`.
    """

    grouping: Grouping
    ties: Mapping[str, float]
    largest_tie: Mapping[str, float]
    correlation: FloatArray


@dataclass(frozen=True)
class ScoreHealth:
    """What can be said of some scores without a model. Correlations are Spearman's; NaN where a side is constant.

    Args:
        n_rows: N.
        measured: per metric, rows whose score was measured; the rest were predicted from those.
        bad: per metric, rows that are NaN or infinite.
        ties: per metric, share of the rows that share their score with another row.
        largest_tie: per metric, share of the rows with the commonest score.
        quantiles: per metric, the scores at 5, 25, 50, 75 and 95 %.
        names: the metrics, and `length` where lengths were given, as the rows and columns of `correlation`.
        correlation: between all of them, shape (n, n); NaN for metrics with bad rows too.
        with_level: per metric, correlation with a known level over the labelled rows; empty without levels.
        with_level_within: the same inside the groups, averaged over their rows; empty without levels or groups.
        stability: per metric, correlation of its ranking between two halves or seeds, where a caller measured it.
        within: the same inside the groups that rows are ranked in; None where all are ranked together.
    """

    n_rows: int
    measured: Mapping[str, int]
    bad: Mapping[str, int]
    ties: Mapping[str, float]
    largest_tie: Mapping[str, float]
    quantiles: Mapping[str, FloatArray]
    names: list[str]
    correlation: FloatArray
    with_level: Mapping[str, float]
    with_level_within: Mapping[str, float]
    stability: Mapping[str, float]
    within: WithinGroups | None = None

    @property
    def with_length(self) -> Mapping[str, float]:
        """Per metric, correlation with the length; empty when no lengths are known."""
        if LENGTH not in self.names:
            return {}
        column = self.correlation[:, self.names.index(LENGTH)]
        return {name: float(column[self.names.index(name)]) for name in self.bad}


def score_health(
    scores: Mapping[str, FloatArray],
    *,
    lengths: FloatArray | None = None,
    level: FloatArray | None = None,
    groups: IntArray | None = None,
    stability: Mapping[str, float] | None = None,
    measured: Mapping[str, int] | None = None,
    column: str | None = None,
    chosen: bool = False,
) -> ScoreHealth:
    """Ties, spread, bad values and rank correlations of named scores.

    Args:
        scores: one array per metric, each of shape (N,).
        lengths: tokens per row, shape (N,); correlated as `length` unless a metric of that name is there.
        level: known difficulty of each row, NaN where there is none, shape (N,); see `known_level`.
        groups: domain number of each row, shape (N,): levels of different domains are not on one scale.
        stability: rank correlation of a metric's ranking between two halves or seeds, in [-1, 1].
        measured: rows that a metric measured, where the others were predicted.
        column: where the groups were read, if rows are ranked inside them.
        chosen: the recipe names that column.
    """
    named = dict(scores)
    if lengths is not None:
        named.setdefault(LENGTH, lengths)
    finite = {name: values[np.isfinite(values)] for name, values in scores.items()}
    usable = {name: v if np.isfinite(v).all() else np.zeros(len(v)) for name, v in named.items()}  # constant → NaN
    names, correlation = correlation_matrix(usable)
    n_rows = max((len(values) for values in scores.values()), default=0)
    pooled: dict[str, float] = {}
    inside: dict[str, float] = {}
    if level is not None:  # over the labelled rows
        rows = np.flatnonzero(np.isfinite(level))
        pooled = {name: spearman(usable[name][rows], level[rows]) for name in scores}
        if groups is not None:
            inside = {name: mean_within(usable[name][rows], level[rows], groups[rows]) for name in scores}
    within = None
    if column is not None and groups is not None:
        shares = {name: ties_within(usable[name], groups) for name in scores}
        within = WithinGroups(
            grouping=Grouping.of({name: usable[name] for name in scores}, groups, column=column, chosen=chosen),
            ties={name: shared for name, (shared, _) in shares.items()},
            largest_tie={name: largest for name, (_, largest) in shares.items()},
            correlation=correlation_matrix({name: ranks_within(v, groups) for name, v in usable.items()})[1],
        )
    return ScoreHealth(
        n_rows=n_rows,
        measured={name: (measured or {}).get(name, n_rows) for name in scores},
        bad={name: int(len(scores[name]) - len(finite[name])) for name in scores},
        ties={name: tie_share(values) for name, values in finite.items()},
        largest_tie={name: largest_tie(values) for name, values in finite.items()},
        quantiles={
            name: np.asarray(np.quantile(values, QUANTILES) if len(values) else np.full(5, np.nan), dtype=np.float64)
            for name, values in finite.items()
        },
        names=names,
        correlation=correlation,
        with_level=pooled,
        with_level_within=inside,
        stability={name: value for name, value in (stability or {}).items() if name in scores},
        within=within,
    )


def score_findings(health: ScoreHealth, *, no_orders: Collection[str] = ()) -> list[Finding]:
    """What in `health` a user should mend or know.

    Args:
        health: of the scores.
        no_orders: metrics that order nothing: rows are drawn or left out by them, and they may say what another says.
    """
    found = [
        Finding(
            "error",
            f"`{name}` is NaN or infinite in {n_bad} of {health.n_rows} rows.",
            "Drop these rows, or correct their values.",
        )
        for name, n_bad in health.bad.items()
        if n_bad
    ]
    for name, share in health.largest_tie.items():
        tied = "one and the same score"
        if health.within is not None and health.within.largest_tie[name] > share:
            tied, share = "the score that is commonest in their group", health.within.largest_tie[name]
        if share > TIED:
            low, high = health.quantiles[name][0], health.quantiles[name][-1]
            what = (
                f"`{name}` gives {share:.0%} of the rows {tied} (90 % lie between {low:.4g} and {high:.4g}): among "
                "those, the order is a coin toss."
            )
            found.append(Finding("warning", what, "Use a metric that tells these rows apart, or drop it."))
    correlation = health.correlation if health.within is None else health.within.correlation
    for i, j in zip(*np.triu_indices(len(health.names), 1), strict=True):
        drawn_by = {health.names[i], health.names[j]} & set(no_orders)
        if drawn_by and drawn_by != {LENGTH}:
            continue
        found += _alike_findings(health.names[i], health.names[j], float(correlation[i, j]), health)
    if health.within is not None:
        found += _grouping_findings(health.within.grouping)
    found += [
        Finding(
            "warning",
            f"`{name}` does not rank the rows the same way twice (rank correlation {rho:.2f} between two halves or "
            "seeds): its order is mostly noise.",
            "Measure more (a larger budget), or drop it.",
        )
        for name, rho in health.stability.items()
        if rho < NOISE  # NaN says nothing
    ]
    return found


def _alike_findings(first: str, second: str, rho: float, health: ScoreHealth) -> list[Finding]:
    """Two metrics that are one, or one and its reverse. NaN is neither."""
    if rho > ALIKE:
        return [
            Finding(
                "warning",
                f"`{first}` and `{second}` order the rows alike (rank correlation {rho:.2f}).",
                "Drop one: two names for one order are no second perspective.",
            )
        ]
    if not rho < -OPPOSED or not {first, second} <= health.bad.keys():  # the reverse of a length nobody orders by
        return []
    if rho < -ALIKE:
        return [
            Finding(
                "warning",
                f"`{first}` and `{second}` order the rows in reverse (rank correlation {rho:.2f}).",
                "Drop one: a curriculum and its reverse undo each other.",
            )
        ]
    what = f"`{first}` and `{second}` order the rows almost in reverse (rank correlation {rho:.2f}): what one opens "
    return [Finding("info", what + "first, the other keeps for the end.")]


def _grouping_findings(grouping: Grouping) -> list[Finding]:
    """Groups that take the order away: too small to rank anything in, or themselves easier and harder."""
    if not grouping.lost:
        return []
    column, lost = grouping.column, " and ".join(f"{left:.0%} by `{name}`" for name, left in grouping.lost.items())
    if grouping.typical < FEW:
        return [
            Finding(
                "warning",
                f"rows are ranked inside the groups of `within: {column}`, where hardly any can be compared: half of "
                f"them are in groups of {grouping.typical} or fewer ({grouping.n_groups} groups). Of the orders is "
                f"left: {lost} (0 % is a random order).",
                "Write within: none to order all rows together, or name a column of a few groups.",
            )
        ]
    if grouping.chosen:
        return []
    return [
        Finding(
            "warning",
            f"rows are ranked inside the groups of the column {column!r}, which are themselves easier and harder, so "
            f"that easy and hard groups are trained side by side. Of the orders is left: {lost} (0 % is a random "
            "order).",
            f"Write within: none to keep the sequence of the groups, or within: {column} to say that ranks inside "
            "them are meant.",
        )
    ]


# -- as tables and as data -----------------------------------------------------------------------------------------


def health_table(health: ScoreHealth) -> str:
    """The scores for the console: one line per metric, and under it how the metrics correlate with each other.

    >>> scores = {"length": np.array([1.0, 2.0, 3.0, 4.0, 4.0]), "loss": np.array([2.0, 1.0, 3.0, 5.0, 4.0])}
    >>> print(health_table(score_health(scores)))
    metric  rows    5 %  median  95 %  ties  ρ length
    length     5    1.2       3     4   40%      1.00
    loss       5    1.2       3   4.8    0%      0.87
    <BLANKLINE>
    rank correlation  length
    loss                0.87
    """
    return "\n\n".join(table(head, rows) for head, rows in health_tables(health))


def health_tables(health: ScoreHealth) -> list[tuple[list[str], list[list[str]]]]:
    """The same as heads and rows of each table; the second one only where there are several metrics."""
    columns = {"ρ length": health.with_length, "ρ level": health.with_level}
    columns |= {"ρ level within": health.with_level_within, "stability": health.stability}
    if health.within is not None:
        columns |= {"ties within": health.within.ties, "order left": health.within.grouping.left}
    columns = {head: rho for head, rho in columns.items() if rho}
    metrics = list(health.bad)
    measured = {
        name: f"{n}" if n == health.n_rows else f"{n} of {health.n_rows}" for name, n in health.measured.items()
    }
    rows = [
        [name, measured[name], *map(_number, health.quantiles[name][[0, 2, 4]]), f"{health.ties[name]:.0%}"]
        + [_rho(rho.get(name)) for rho in columns.values()]
        for name in metrics
    ]
    scores = (["metric", "rows", "5 %", "median", "95 %", "ties", *columns], rows)
    if len(metrics) < 2:
        return [scores]
    at = [health.names.index(name) for name in metrics]
    pairs = [
        [metrics[i], *(_rho(float(health.correlation[at[i], at[j]])) if j < i else "" for j in range(len(at) - 1))]
        for i in range(1, len(at))
    ]
    return [scores, (["rank correlation", *metrics[:-1]], pairs)]


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if 1000 <= abs(value) < MANY_DIGITS else f"{value:.3g}"


def _rho(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{round(value, 2) + 0.0:.2f}"  # + 0.0: no -0.00


def health_record(health: ScoreHealth) -> Json:
    """The same for the ledger, as plain JSON values: four decimals, quantiles to six digits, NaN as null."""
    metrics = {
        name: {
            "rows": health.measured[name],
            "bad": health.bad[name],
            "ties": _rounded(health.ties[name]),
            "largest_tie": _rounded(health.largest_tie[name]),
            "quantiles": [None if math.isnan(q) else float(f"{q:.6g}") for q in health.quantiles[name].tolist()],
            "with_length": _rounded(health.with_length.get(name)),
            "with_level": _rounded(health.with_level.get(name)),
            "with_level_within": _rounded(health.with_level_within.get(name)),
            "stability": _rounded(health.stability.get(name)),
        }
        for name in health.bad
    }
    correlation = [[_rounded(rho) for rho in row] for row in health.correlation.tolist()]
    record = {"n_rows": health.n_rows, "metrics": metrics, "names": health.names, "correlation": correlation}
    if health.within is None:
        return record
    grouping = health.within.grouping
    inside = {
        name: {
            "ties": _rounded(health.within.ties[name]),
            "largest_tie": _rounded(health.within.largest_tie[name]),
            "left": _rounded(left),
        }
        for name, left in grouping.left.items()
    }
    correlation = [[_rounded(rho) for rho in row] for row in health.within.correlation.tolist()]
    about = {"column": grouping.column, "n_groups": grouping.n_groups, "typical": grouping.typical}
    return {**record, "within": {**about, "metrics": inside, "correlation": correlation}}


def _rounded(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(float(value), 4)


# -- a known level -------------------------------------------------------------------------------------------------


def known_level(columns: Mapping[str, Sequence[Any]], name: str | None) -> FloatArray | None:
    """The difficulty that a column of the training set gives, shape (N,), NaN for rows without one.

    Only to judge metrics by: it orders nothing, unless the recipe names it as a metric too.

    >>> known_level({"level": [2, None, -1, 0]}, None).tolist()
    [2.0, nan, nan, 0.0]

    Args:
        columns: of the training set, by name, each of length N.
        name: the column; None looks for one called `level` and takes it if it holds numbers.

    Returns:
        Negative, missing and infinite values count as unlabelled. None without the column, or where fewer than two
        different levels are left.

    Raises:
        DataError: the named column is not there or does not hold numbers.
    """
    wanted = LEVEL if name is None else name
    if wanted not in columns:
        if name is None:
            return None
        known = [str(column) for column in columns]
        raise DataError(
            f"`level` must be a column of the training set ({', '.join(known)}), got {name!r}.{nearest(name, known)} "
            "Correct it, or leave it out."
        )
    values = columns[wanted]
    odd = next((value for value in values if value is not None and not _is_number(value)), None)
    if odd is not None:
        if name is None:
            return None
        raise DataError(f"`level` must be a column of numbers, got {odd!r} in {name!r}. Number the levels from easy.")
    level = np.array([np.nan if value is None else float(value) for value in values], dtype=np.float64)
    level[~(np.isfinite(level) & (level >= 0))] = np.nan
    return level if len(np.unique(level[np.isfinite(level)])) > 1 else None


def _is_number(value: Any) -> bool:
    """It has a size that a float has."""
    try:
        return isinstance(value, Real | Decimal) and float(value) is not None
    except (OverflowError, ValueError):
        return False
