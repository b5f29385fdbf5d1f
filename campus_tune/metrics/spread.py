"""Easy rows first, but not all of one kind: self-paced learning with diversity, as an order."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

import numpy as np

from campus_tune.method.orders import group_codes, order_rows
from campus_tune.metrics.base import METRICS, EnsembleMetric, MetricSpec, build_metric, parse_metric
from campus_tune.words.errors import MetricError, RecipeError
from campus_tune.words.leaves import Leaf, Range, Wording
from campus_tune.words.registry import nearest
from campus_tune.words.types import FloatArray, IntArray, Json, RowTexts

NAME = "spread"


@dataclass(frozen=True)
class OneMetric(Leaf):
    """A metric, written as in `metrics`."""

    must = "a metric"

    def problems(self, what: str, value: object) -> list[str]:
        """Neither a name nor a mapping, or what the metric itself says."""
        if not isinstance(value, str | Mapping):
            return self.refusal(what, value, "Write for example of: loss.")
        try:
            parse_metric(value)
        except RecipeError as error:
            return [f"`{what}`: {problem}" for problem in error.problems]
        return []

    def schema(self) -> Json:
        """Written once, in the definitions."""
        return {"$ref": "#/$defs/metric"}


@METRICS.register(NAME)
@dataclass(frozen=True, kw_only=True)
class Spread(EnsembleMetric):
    """Self-paced learning with diversity (SPLD): easy rows first, and those of groups that came little so far.

    score = ℓ_(i) − γ·IQR / (√i + √(i−1)), ℓ_(i) the i-th easiest row of its group by another metric, IQR the distance
    between the quartiles of all rows' ℓ. SPLD takes a row where ℓ_(i) < λ + γ / (√i + √(i−1)): so the rows that lie at
    the front of this order, as far as a pacing opens it, are its solution for some λ, and it needs no sampler.

    When it helps: where the easiest rows are all of one source or topic, and a curriculum would train that alone at
    first. Groups that have no easy rows come in too: the first row of each gains γ·IQR, the second 0.41 of it, the
    tenth 0.16. With γ = 0 it is the other metric's own order. Needs `within: none`: rows that are ranked inside the
    groups of a column and interleaved are spread in proportion already, which no γ is. Cost: the other metric's.

    Args:
        of: the metric that says what is easy, written as in `metrics`: a name, `-name`, or a mapping with options.
        groups: column of the training set with the groups to spread over: a domain, a source, a topic, a cluster.
        gamma: γ, what the first row of a group gains, in interquartile ranges of all rows; at least 0.

    Raises:
        ValueError: `of` is no metric, or one that is itself made of others.

    Reference:
        Jiang, Meng, Yu, Lan, Shan & Hauptmann 2014, "Self-Paced Learning with Diversity", NIPS.

    Differs from the paper:
        γ in units of the scores' own spread, where theirs is a number for each data set, on the losses' scale; groups
        are a column, where theirs come from clustering features; λ never appears, as the recipe's pacing says how much
        of the order is open; and losses are those of the last scoring (`rescore`), where theirs are taken before each
        update. Equal scores inside a group stand in a random sequence.

    >>> metric = Spread(gamma=2.0)
    >>> metric.combine({"loss": np.array([0.1, 0.2, 0.3, 0.25, 0.5])}, np.array([0, 0, 0, 1, 1])).round(4)
    array([-0.1   ,  0.1172,  0.2364,  0.05  ,  0.4172])
    """

    ranks_all: ClassVar[bool] = True

    of: Annotated[str | Mapping[str, Any], OneMetric()] = "loss"
    groups: Annotated[str, Wording("the name of a column", "Write for example groups: domain.")] = "domain"
    gamma: Annotated[float, Range(0, 1000)] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.of, Mapping):  # so that nobody changes it later
            object.__setattr__(self, "of", MappingProxyType(copy.deepcopy(dict(self.of))))
        [member] = self.members
        if build_metric(member).members:
            raise RecipeError(
                f"`{NAME}: of` must be a metric that is not made of others, got {member.name}. Name one of its members."
            )

    @property
    def members(self) -> tuple[MetricSpec, ...]:
        """The metric that says what is easy, read."""
        return (parse_metric(self.of),)

    def groups_of(self, texts: RowTexts, within: IntArray | None) -> IntArray:
        """The groups of its own column.

        Raises:
            MetricError: the training set has no such column.
        """
        del within
        if self.groups not in texts.columns:
            known = [str(name) for name in texts.columns]
            raise MetricError(
                f"`{NAME}: groups` must be a column of the training set ({', '.join(known) or 'which has none'}), got "
                f"{self.groups!r}.{nearest(self.groups, known)} Name one of these, or add it."
            )
        return group_codes(texts.columns[self.groups])[1]

    def combine(self, scores: Mapping[str, FloatArray], groups: IntArray | None) -> FloatArray:
        """Scores less what a row gains by its place in its group, shape (N,), higher = later.

        Args:
            scores: of the one member, by its label, finite, shape (N,); turned around where it has a minus.
            groups: group number of each row, shape (N,), or None for one group of all.
        """
        values = scores[self.members[0].label]
        groups = np.zeros(len(values), dtype=np.int64) if groups is None else groups
        order = order_rows(values, seed=0)
        order = order[np.argsort(groups[order], kind="stable")]
        begins = np.searchsorted(groups[order], groups[order])
        place = np.arange(len(values)) - begins  # i − 1
        low, high = np.quantile(values, (0.25, 0.75))
        adjusted = np.empty(len(values))
        adjusted[order] = values[order] - self.gamma * (high - low) / (np.sqrt(place + 1) + np.sqrt(place))
        return adjusted
