"""Which metrics prompts can be scored by, where a trainer is driven by reward: their rows have no answer to train.

>>> from campus_tune.metrics import parse_metric
>>> metric_problems([parse_metric("mtld"), parse_metric({"name": "column", "column": "level"})], answer=None)
[]
"""

from __future__ import annotations

from collections.abc import Sequence

from campus_tune.metrics import MetricSpec, build_metric, leaves
from campus_tune.metrics.length import Length
from campus_tune.metrics.passage import PassageMetric
from campus_tune.metrics.reward import RewardMetric
from campus_tune.metrics.scorer import Scorer


def metric_problems(specs: Sequence[MetricSpec], *, answer: str | None) -> list[str]:
    """What is wrong with the metrics of a recipe for a trainer that is driven by reward; one sentence for each.

    Args:
        specs: that the recipe scores rows by.
        answer: column of reference answers; None where the recipe names none.
    """
    problems = []
    for spec in leaves(specs):
        metric, named = build_metric(spec), f"`metrics: {spec.label}`"
        if isinstance(metric, Scorer):
            problems.append(
                f"{named} must not stand in a recipe for a trainer that is driven by reward, got it: it learns to tell "
                "reference answers from the model's own, and here rewards tell how good these are. Take it out; "
                "`thin: {by: middle}` goes by rewards."
            )
        elif metric.needs_probes:
            problems.append(
                f"{named} must have probes, which a trainer that is driven by reward does not measure, got {spec.name}."
                " Take it out."
            )
        elif isinstance(metric, PassageMetric | RewardMetric) and answer is None:
            problems.append(
                f"{named} must have a reference answer of each prompt to read, got a recipe that names none. Write "
                "passes: {answer: COLUMN}, with the column of the training set that holds it, or take this metric out."
            )
        elif isinstance(metric, Length) and metric.of == "both":
            problems.append(
                f"{named} must count the tokens of prompts, for a trainer that is driven by reward trains no answer "
                "of a row, got of: both. Write of: prompt."
            )
    return problems
