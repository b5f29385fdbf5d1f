"""Several metrics as one: the mean of a row's places in their orders."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from campus_tune.method.stats import average_ranks, ranks_within
from campus_tune.metrics.base import METRICS, EnsembleMetric, MetricSpec, build_metric, check_labels, parse_metric
from campus_tune.words.errors import RecipeError
from campus_tune.words.leaves import Listed, Wording
from campus_tune.words.types import FloatArray, IntArray

NAME = "rank_mean"


@METRICS.register(NAME)
@dataclass(frozen=True, kw_only=True)
class RankMean(EnsembleMetric):
    """Mean rank of a row over several metrics: hard by most of them = hard.

    score = (1 / m) Σ_i rank_i / n, the rank from 1 to n counted inside the row's domain where there are domains; rows
    with equal scores share the mean of their ranks. In (0, 1].

    When it helps: single metrics are noisy and wrong in different rows; what length, diversity and loss agree on is
    more likely to be hard. Ranks, since the scores have no common scale. Not a second perspective beside its own
    members: it correlates with each of them. Cost: what the members cost, each scored once, also where it stands in
    `metrics` itself.

    Args:
        of: two or more metrics, each written as in `metrics`: a name, `-name`, or a mapping with options.

    Raises:
        ValueError: fewer than two, a rank_mean among them, two of one label, or an entry that is no metric.

    Reference:
        Borda count, de Borda 1781; mean rank as aggregation: Dwork, Kumar, Naor & Sivakumar 2001, "Rank Aggregation
        Methods for the Web", WWW10.

    >>> metric = RankMean(of=["length", "-mtld"])
    >>> metric.combine({"length": np.array([3.0, 9.0, 5.0]), "-mtld": np.array([-7.0, -8.0, -1.0])}, None).round(3)
    array([0.5  , 0.667, 0.833])
    """

    of: Annotated[
        Sequence[str | Mapping[str, Any]],
        Listed("metric", 2),
        Wording("a list of two or more metrics", f"Write for example {{name: {NAME}, of: [length, mtld]}}."),
    ] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "of", tuple(copy.deepcopy(list(self.of))))
        problems = []
        for entry in self.of:
            try:
                spec = parse_metric(entry)
            except RecipeError as error:
                problems += [f"`{NAME}: of`: {problem}" for problem in error.problems]
                continue
            if build_metric(spec).members:
                problems.append(
                    f"`{NAME}: of` must not have a {spec.name} in it, got {entry!r}. Name its members instead."
                )
        problems = problems or check_labels(self.members)
        if problems:
            raise RecipeError(problems)

    @property
    def members(self) -> tuple[MetricSpec, ...]:
        """The metrics it is made of, read."""
        return tuple(parse_metric(entry) for entry in self.of)

    def combine(self, scores: Mapping[str, FloatArray], groups: IntArray | None) -> FloatArray:
        """Mean rank of each row, shape (N,), higher = harder.

        Args:
            scores: by label of each member, finite, shape (N,); turned around where the member has a minus.
            groups: domain number of each row, shape (N,), or None to rank all rows together.
        """
        total = np.zeros(len(next(iter(scores.values()))))
        for spec in self.members:
            values = scores[spec.label]
            total += average_ranks(values) / len(values) if groups is None else ranks_within(values, groups)
        return total / len(self.members)
