"""What a recipe's metrics ask for, sorted by how each is asked: the one place that knows which kinds there are."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property

from campus_tune.method.budget import Purpose
from campus_tune.method.selectors import START_LOSS
from campus_tune.metrics import CpuMetric, EnsembleMetric, Metric, MetricSpec, build_metric, leaves
from campus_tune.metrics.passage import HERE, Passage, PassageMetric
from campus_tune.metrics.reward import RewardMetric
from campus_tune.metrics.scorer import Scorer
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.errors import MetricError


def unscored(config: CampusConfig, unpaid: Collection[Purpose]) -> set[str]:
    """Labels of the metrics that have no scores because nothing pays for asking a model.

    Args:
        config: settings.
        unpaid: purposes that nothing is measured for.
    """
    asked = Questions(config)
    gone = set(asked.scorers) if "scorer" in unpaid else set()
    if "scoring" in unpaid:
        gone |= {*asked.losses, *asked.rewards, *asked.scorers}
    specs = (*leaves(config.scored), *config.scored)  # an ensemble is made of its members
    return {spec.label for spec in specs if gone & {leaf.label for leaf in leaves([spec])}}


def blocks_unpaid(config: CampusConfig, unpaid: Collection[Purpose]) -> dict[str, str]:
    """Label → setting of the scores that rows are drawn by, and that nothing pays for.

    Args:
        config: settings.
        unpaid: purposes that nothing is measured for.
    """
    gone = unscored(config, unpaid)
    return {label: where for label, where in config.draw.labels(config.specs).items() if label in gone}


class Questions:
    """A recipe's metrics, each once, members of ensembles in place of these.

    Args:
        config: settings; `passages` wants them resolved.

    Attributes:
        specs: entries by label, in the recipe's sequence, those that only the draw asks for behind.
        metrics: what these name.
        texts: of them, those that are scored from the texts, free of charge.
        losses: made of the losses of passages.
        rewards: made of a reward model's logits.
        scorers: trained on what the model writes; one at most.
        ensembles: entries of the recipe that are combined from the others.

    Raises:
        MetricError: a metric is of no kind that can be asked.
    """

    def __init__(self, config: CampusConfig) -> None:
        self.config = config
        self.specs: dict[str, MetricSpec] = {spec.label: spec for spec in leaves(config.scored)}
        self.metrics: dict[str, Metric] = {label: build_metric(spec) for label, spec in self.specs.items()}
        labelled, whole = self.metrics.items(), ((spec.label, build_metric(spec)) for spec in config.scored)
        self.texts = {label: metric for label, metric in labelled if isinstance(metric, CpuMetric)}
        self.losses = {label: metric for label, metric in labelled if isinstance(metric, PassageMetric)}
        self.rewards = {label: metric for label, metric in labelled if isinstance(metric, RewardMetric)}
        self.scorers = {label: metric for label, metric in labelled if isinstance(metric, Scorer)}
        self.ensembles = {label: metric for label, metric in whole if isinstance(metric, EnsembleMetric)}
        known = {*self.texts, *self.losses, *self.rewards, *self.scorers}
        for label, metric in self.metrics.items():
            if label not in known:
                raise MetricError(
                    f"`{label}` must be a CpuMetric, PassageMetric, RewardMetric, Scorer or EnsembleMetric, got a "
                    f"{type(metric).__name__}, which does not say how it is asked. Extend one of these."
                )

    @property
    def scorer(self) -> Scorer | None:
        """The recipe's scorer, if it has one."""
        return next(iter(self.scorers.values()), None)

    @property
    def aware(self) -> dict[str, MetricSpec]:
        """The metrics whose scores change as the model in hand is trained, by label."""
        return {label: spec for label, spec in self.specs.items() if self.metrics[label].competence_aware}

    @cached_property
    def passages(self) -> tuple[Passage, ...]:
        """What the metrics and the selector ask for, each once."""
        found = [passage for metric in self.losses.values() for passage in metric.passages]
        if START_LOSS in self.config.build_selector().needs or self.scorers:
            found.append(HERE)  # the scorer reads the same forward
        return tuple(dict.fromkeys(found))

    @property
    def directions(self) -> tuple[Passage, ...]:
        """Of the passages, those that ask for slopes."""
        return tuple(passage for passage in self.passages if passage.towards is not None)

    @property
    def live(self) -> tuple[Passage, ...]:
        """Of the passages, those under the model in hand."""
        return tuple(passage for passage in self.passages if passage.model is None)
