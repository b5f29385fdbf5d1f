"""All scores a recipe asks for, before the first step: CPU metrics on every row, losses on as many as are paid for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from campus_tune.budget import SCORING_PART, Budget
from campus_tune.cache import read_columns, write_columns
from campus_tune.difficulty import CpuMetric, MetricSpec, build_metric, finish_scores
from campus_tune.difficulty.loss import Loss
from campus_tune.difficulty.surrogate import spread
from campus_tune.errors import ResumeError
from campus_tune.integrations.measure import LossMeter
from campus_tune.integrations.rows import TokenRows, digest
from campus_tune.orders import order_rows
from campus_tune.recipe import CampusConfig
from campus_tune.selectors import START_LOSS
from campus_tune.selectors.race import stratified_sample
from campus_tune.types import BoolArray, FloatArray, IntArray, Json, RowLosses, RowTexts

FEWEST = 64  # rows whose loss is measured at the start, whatever the budget says
START = "start_loss"  # file name of the losses before training


@dataclass
class Scores:
    """The scores of a run.

    Args:
        by_label: metric label → scores, each of shape (N,), reversed where the recipe says so.
        start: losses of the measured rows before training, shape (N,), zero tokens where not measured.
        notes: metric label → what the ledger says of it.
    """

    by_label: dict[str, FloatArray] = field(default_factory=dict)
    start: RowLosses | None = None
    notes: dict[str, Json] = field(default_factory=dict)

    @property
    def known(self) -> BoolArray | None:
        """Rows whose loss before training was measured."""
        return None if self.start is None else self.start.tokens > 0

    def digests(self) -> dict[str, str]:
        """What a checkpoint remembers of the scores."""
        digests = {label: digest(scores.view(np.uint64)) for label, scores in self.by_label.items()}
        if self.start is not None:
            digests[START] = digest(self.start.nll_sum.view(np.uint64))
        return digests

    def save(self, folder: Path, rows: TokenRows) -> None:
        """Write one parquet file per metric."""
        for label, scores in self.by_label.items():
            write_columns(folder / f"{label}.parquet", {"content": rows.content, "score": scores}, self.notes[label])
        if self.start is not None:
            columns = {"content": rows.content, **vars(self.start)}
            write_columns(folder / f"{START}.parquet", columns, {})

    @staticmethod
    def load(folder: Path, digests: Mapping[str, str]) -> Scores:
        """The scores that a checkpoint was planned with.

        Raises:
            ResumeError: missing, damaged, or of another run.
        """
        scores = Scores()
        for label, expected in digests.items():
            columns, notes = read_columns(folder / f"{label}.parquet")
            if label == START:
                scores.start = RowLosses(**{name: columns[name] for name in vars(RowLosses.zeros(0))})
            else:
                scores.by_label[label], scores.notes[label] = columns["score"], notes
            if scores.digests().get(label) != expected:
                raise ResumeError(
                    f"`{folder / label}.parquet` must hold the scores that the checkpoint was planned with, got "
                    "others. Put the run's own curriculum/ folder back, or start anew without resuming."
                )
        return scores

    def refuse_missing_start(self, config: CampusConfig) -> None:
        """Losses before training cannot be measured once training has begun.

        Raises:
            ResumeError: the recipe's selector needs them, and the one that began the run did not.
        """
        if START_LOSS in config.build_selector().needs and self.start is None:
            raise ResumeError(
                f"`selector` must not need the losses before training on a checkpoint that has none, got "
                f"{config.selector!r}. Choose lowest_perplexity, or matched with probes, or start anew."
            )


def compute_scores(
    config: CampusConfig, texts: RowTexts, meter: LossMeter, budget: Budget, *, groups: IntArray | None, num_proc: int
) -> Scores:
    """Every score the recipe asks for.

    Args:
        config: resolved settings.
        texts: the rows as CPU metrics see them.
        meter: of the training rows, under the model before its first step.
        budget: charged for what is measured.
        groups: domain number of every row.
        num_proc: processes for CPU metrics.

    Raises:
        MetricError: a metric whose scores do not order the rows.
    """
    scores = Scores()
    metrics = [(spec, build_metric(spec)) for spec in config.specs]
    for spec, metric in metrics:
        if isinstance(metric, CpuMetric):
            raw = metric.scores(texts, num_proc=num_proc)
            scores.by_label[spec.label] = finish_scores(raw, spec)
            scores.notes[spec.label] = {"rows_measured": len(raw), **metric.describe(texts, raw)}
    losses = [(spec, metric) for spec, metric in metrics if isinstance(metric, Loss)]
    if losses or START_LOSS in config.build_selector().needs:
        scores.start = _measure_start(texts, meter, budget, groups, config.seed or 0)
    for spec, metric in losses:
        _add_loss(scores, spec, metric, texts, groups)
    scores.by_label = {label: scores.by_label[label] for label in config.labels}
    return scores


def _measure_start(texts: RowTexts, meter: LossMeter, budget: Budget, groups: IntArray | None, seed: int) -> RowLosses:
    """Losses before training: of all rows if half the budget pays for them, else of a sample stratified by length."""
    tokens = texts.response_tokens + texts.prompt_tokens
    affordable = SCORING_PART * budget.total / max(1.0, float(tokens.mean()))
    rows = np.arange(len(tokens))
    if affordable < len(rows):
        by_length = order_rows(tokens.astype(np.float64), seed=seed, groups=groups)
        n = min(len(rows), max(FEWEST, int(affordable)))
        rows = np.sort(stratified_sample(by_length, n, seed=[seed, 0x57A27])).astype(np.int64)
    before = meter.seconds
    start = RowLosses.zeros(len(tokens))
    start.put(rows, meter.losses(rows))
    budget.charge("scoring", int(tokens[rows].sum()), meter.seconds - before)
    return start


def _add_loss(scores: Scores, spec: MetricSpec, metric: Loss, texts: RowTexts, groups: IntArray | None) -> None:
    assert scores.start is not None
    measured = np.flatnonzero(scores.start.tokens)
    values = metric.from_losses([scores.start.take(measured)])
    notes: Json = {"rows_measured": len(measured)}
    if len(measured) < len(texts):
        finish_scores(values, spec)  # NaN and ties are found before they are spread
        features = {
            "response": texts.response_tokens.astype(np.float64),
            "prompt": texts.prompt_tokens.astype(np.float64),
            **scores.by_label,
        }
        values, notes["prediction_correlation"] = spread(measured, values, features, groups)
    scores.by_label[spec.label] = finish_scores(values, spec)
    scores.notes[spec.label] = notes


def prediction_warnings(scores: Scores, budget: Budget, tokens: IntArray) -> list[str]:
    """What a user must know of losses that were predicted for most rows."""
    warnings = []
    for label, notes in scores.notes.items():
        if "prediction_correlation" in notes:
            share = budget.ratio * float(tokens.sum()) / budget.training_tokens
            warnings.append(
                f"`{label}` was measured on {notes['rows_measured']} of {len(tokens)} rows and predicted on the others "
                f"(cross-validated rank correlation {notes['prediction_correlation']:.2f}). "
                f"budget: {share / SCORING_PART:.2f} pays for all of them."
            )
    return warnings
