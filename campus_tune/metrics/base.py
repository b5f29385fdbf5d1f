"""What a metric is, how a recipe names one, and what its scores must be before they order anything.

A metric gives one float per row, **higher = harder, always**. How it is asked, it says by the class that it extends:

    CpuMetric        the texts                                                  scores(texts)
    PassageMetric    losses: of the model in hand or another one, with the      passages, from_losses(losses)
                     prompt or without it
    RewardMetric     a logit of a sequence-classification model                 reward, from_logits(logits)
    Scorer           a head that tells answers from what the model writes now   its settings
    EnsembleMetric   other metrics' scores                                      members, combine(scores)

and what a person should know of what came out, by `describe` and `remarks`. `scores.questions` sorts a recipe's metrics
by these classes, once; nobody else asks which class one is. A recipe names a metric by a word (`mtld`), by a word with
a minus for the anti-curriculum (`-mtld`), or by a mapping with options.

>>> parse_metric("-length").label
'-length'
>>> parse_metric({"name": "column", "column": "level"}).label
'level'
>>> finish_scores([3, 1, 2], parse_metric("-length"))
array([-3., -1., -2.])
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from campus_tune.words.annotated import check_options
from campus_tune.words.errors import MetricError, RecipeError
from campus_tune.words.registry import Registry, nearest
from campus_tune.words.types import FloatArray, IntArray, RowTexts

# cpu: from the texts; model: asks a model; ensemble: made of other metrics' scores
Kind: TypeAlias = Literal["cpu", "model", "ensemble"]


class Metric(ABC):
    """A promise: something that can score rows. Settings only, frozen; the scores live elsewhere."""

    kind: ClassVar[Kind]
    alone: ClassVar[bool] = False  # a recipe can have one of these at most
    needs_probes: ClassVar[bool] = False  # held-out rows say what it is about
    own_loss: ClassVar[bool] = False  # its scores are the loss that selectors compare
    ranks_all: ClassVar[bool] = False  # it weighs groups against each other: asks for `within: none`
    highest_first: ClassVar[str] = ""  # what the highest values stand for, where the paper trains these first

    def __post_init__(self) -> None:
        """What the annotations say of the options holds; a metric that asks for more says so in its own."""
        check_options(self)

    def default_label(self, name: str) -> str:
        """What the metric is called in reports when the recipe gives no `label`: its registered name."""
        return name

    def missing(self) -> str | None:
        """What is not installed and what to type, or None when the metric can score; looked for, never imported."""
        return None

    @property
    def competence_aware(self) -> bool:
        """The scores change as the model in hand is trained."""
        return False

    @property
    def members(self) -> tuple[MetricSpec, ...]:
        """The metrics that it is made of; none where it is scored by itself."""
        return ()


class CpuMetric(Metric):
    """A metric of the texts alone: computed once, before training, without a model."""

    kind: ClassVar[Kind] = "cpu"
    cached: ClassVar[bool] = False  # worth a place in the score cache: dear, and made of the response text alone

    @abstractmethod
    def scores(self, texts: RowTexts, *, num_proc: int = 1, progress: bool = True) -> FloatArray:
        """One score per row, shape (N,), higher = harder; the same for any `num_proc` and any order of the rows.

        Args:
            texts: the training rows.
            num_proc: how many processes share the work, ≥ 1.
            progress: show a bar when there is enough work for one.
        """

    def made_with(self) -> dict[str, str]:
        """Versions of what computes the scores: other ones give other scores, which the cache must not mix."""
        return {}

    def describe(self, texts: RowTexts, scores: FloatArray) -> dict[str, int | float]:
        """What a user should be told about these scores besides themselves, e.g. how many rows had nothing to score.

        Args:
            texts: the rows given to `scores`.
            scores: what `scores` returned for them, before any reversal.
        """
        del texts, scores
        return {}


class EnsembleMetric(Metric):
    """A metric made of other metrics' scores."""

    kind: ClassVar[Kind] = "ensemble"

    @property
    @abstractmethod
    def members(self) -> tuple[MetricSpec, ...]:
        """The metrics it is made of, read; none of them an ensemble."""

    def groups_of(self, texts: RowTexts, within: IntArray | None) -> IntArray | None:
        """The groups that `combine` is given: those that rows are ranked in, unless it has some of its own.

        Args:
            texts: the training rows, with their columns.
            within: domain number of each row, shape (N,), or None where all rows are ranked together.
        """
        del texts
        return within

    @abstractmethod
    def combine(self, scores: Mapping[str, FloatArray], groups: IntArray | None) -> FloatArray:
        """Scores of all rows, shape (N,), higher = harder.

        Args:
            scores: by label of each member, finite, shape (N,); turned around where the member has a minus.
            groups: number of each row's group, shape (N,), as `groups_of` gives it, or None for one group of all.
        """


METRICS: Registry[Metric] = Registry("metric")


@dataclass(frozen=True)
class MetricSpec:
    """One entry of a recipe's `metrics`.

    Args:
        label: what reports, ledger and score files call it.
        name: the registered metric.
        reverse: turn the order around, the anti-curriculum.
        options: the metric's own settings.
    """

    label: str
    name: str
    reverse: bool
    options: Mapping[str, Any]


def parse_metric(entry: str | Mapping[str, Any]) -> MetricSpec:
    """Read one entry of `metrics`: a name, or `{name: …, label: …, option: …}`; a leading "-" reverses.

    Raises:
        RecipeError: another shape, an unknown metric or option (the nearest one is named), an option out of range.
    """
    options: dict[str, Any] = dict(entry) if isinstance(entry, Mapping) else {"name": entry}
    written = options.pop("name", None)
    if not isinstance(written, str):
        hint = "".join(nearest(str(key), ["name"]) for key in options)
        raise RecipeError(
            f"`metrics` entry must be a name or a mapping with a `name`, got {entry!r}. Write for example length, "
            f"-length or {{name: column, column: level}}.{hint}"
        )
    reverse, name = written.startswith("-"), written.removeprefix("-")
    label = options.pop("label", None)
    metric = METRICS.build(name, {str(key): value for key, value in options.items()})
    if label is None:
        label = f"{'-' if reverse else ''}{metric.default_label(name)}"
    if not isinstance(label, str) or not re.fullmatch(r"-?\w[\w .+-]*", label):
        raise RecipeError(
            f"`label` of metric {written!r} must be letters, digits, spaces and . + - _ (it names files and plots), "
            f"got {label!r}. Give the entry a `label` of that kind."
        )
    return MetricSpec(label, name, reverse, options)


def build_metric(spec: MetricSpec) -> Metric:
    """The metric that an entry names, with its options set."""
    return METRICS.build(spec.name, spec.options)


def leaves(specs: Iterable[MetricSpec]) -> list[MetricSpec]:
    """The metrics that are scored by themselves: those of a recipe, and the members of its ensembles, each once."""
    found: dict[str, MetricSpec] = {}
    for spec in specs:
        for leaf in build_metric(spec).members or (spec,):
            found.setdefault(leaf.label, leaf)
    return list(found.values())


def check_labels(specs: Sequence[MetricSpec]) -> list[str]:
    """One problem per label that several metrics share; empty when all differ."""
    counts = Counter(spec.label for spec in specs)
    return [
        f"`metrics` must have different labels, got {label!r} {count} times. Give all but one a `label` of its own."
        for label, count in counts.items()
        if count > 1
    ]


def finish_scores(
    raw: ArrayLike, spec: MetricSpec, *, ids: Sequence[Any] | None = None, orders: bool = True
) -> FloatArray:
    """Check what a metric returned and turn it around if the entry says so; shape (N,), a new array.

    Args:
        raw: the metric's scores, higher = harder.
        spec: the entry of the recipe: its label is named in errors.
        ids: what to call the rows in errors, length N; their positions if not given.
        orders: they are asked which row comes before which; bands of equal rows are one band.

    Raises:
        MetricError: not one number per row; NaN or infinite (count and first three rows named); all rows equal, which
            orders nothing. A single row passes: too few rows is a matter of the data, not of the metric.
    """
    scores = np.array(raw, dtype=np.float64)
    n = scores.size if ids is None else len(ids)
    if scores.shape != (n,) or n == 0:
        raise MetricError(
            f"`{spec.label}` must give one score per row, shape ({n},), got shape {scores.shape}. Return one float "
            f"per row from metric {spec.name!r}."
        )
    bad = np.flatnonzero(~np.isfinite(scores))
    if bad.size:
        kinds = " and ".join(k for k, found in (("NaN", np.isnan(scores)), ("inf", np.isinf(scores))) if found.any())
        first = ", ".join(str(i if ids is None else ids[i]) for i in bad[:3].tolist())
        raise MetricError(
            f"`{spec.label}` must give every row a finite score, got {kinds} for {bad.size} of {n} rows (first: "
            f"{first}). Drop these rows, or correct their values."
        )
    if orders and n > 1 and scores.min() == scores.max():
        raise MetricError(
            f"`{spec.label}` gives every row the same score {scores[0]}: it cannot order them. Drop it from "
            "the recipe, or use one that differs between rows."
        )
    return 0.0 - scores if spec.reverse else scores  # 0.0 - x, as -x would print zeros as -0.0
