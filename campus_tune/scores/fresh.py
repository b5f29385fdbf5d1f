"""Scores of a stage's candidates under the model as it is: `thin: {fresh: true}`.

    ℓ_now − ℓ_ref       of `rho`, for one: the losses of the model in hand are measured, those of other models are known
                        from before the first step

A forward over every candidate costs much, so it is on the bill (`thinning`), and it is paid for out of what the other
purposes leave. Where that does not pay for all stages, those that it pays for are spread evenly over the run: thinned
one after the other from the beginning they would all lie in the warm-up, kept for the end in the decay.

Reference:
    Mindermann et al. 2022, Prioritized Training on Points that are Learnable, Worth Learning, and Not Yet Learnt:
    candidates of each step, a tenth of them kept. *Ours are those of a stage*, which its own training makes stale.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from campus_tune.metrics.passage import HERE, Passage, PassageMetric
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.draw_rules import find_score
from campus_tune.scores.asking import Asking
from campus_tune.scores.questions import Questions
from campus_tune.scores.run_scores import Scores
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import FloatArray, IntArray, RowArray, RowLosses

_GOLDEN = (5**0.5 - 1) / 2  # its multiples, wrapped at 1, lie as evenly as can be


def asked_of_candidates(config: CampusConfig, questions: Questions) -> PassageMetric | None:
    """The metric that candidates are measured by; None where it is the loss itself (`seen_loss`).

    Args:
        config: settings of a recipe with `thin: {fresh: true}`.
        questions: that it asks.

    Raises:
        RecipeError: the score is not made of losses of the model in hand: it is what it was before training.
    """
    thin = config.thin
    assert thin is not None, "only what thins has candidates"
    if thin.book_score is not None:
        return None
    label = find_score(thin.by, config.specs).spec.label
    metric = questions.losses.get(label)
    if metric is None or not any(passage.model is None for passage in metric.passages):
        raise RecipeError(
            f"`thin: fresh` must go by what the model in hand says, got by: {label}, which training does not change. "
            "Write fresh: false, or go by seen_loss, loss, ifd, rho or influence."
        )
    return metric


class FreshScores:
    """What rows are thinned by, measured now.

    Args:
        asking: how scores are made; its budget is charged.
        scores: of the run, with the losses of other models.

    Raises:
        RecipeError: the score is not made of losses: it is what it was before training.
    """

    def __init__(self, asking: Asking, scores: Scores) -> None:
        thin = asking.config.thin
        assert thin is not None, "only what thins has candidates"
        self.asking, self.scores = asking, scores
        self._metric = asked_of_candidates(asking.config, asking.questions)
        self.passages: Sequence[Passage] = (HERE,) if self._metric is None else self._metric.passages
        if thin.book_score is not None:
            self.sign = -1.0 if thin.reversed_by else 1.0
        else:
            found = find_score(thin.by, asking.config.specs)
            self.sign = -1.0 if found.turned != found.spec.reverse else 1.0

    @cached_property
    def price(self) -> IntArray:
        """Forward tokens of each row, shape (N,)."""
        tokens = [self.asking.passages.tokens(passage) for passage in self.passages if passage.model is None]
        return np.asarray(np.sum(tokens, axis=0), dtype=np.int64)

    @property
    def once(self) -> int:
        """Forward tokens of each time, however many rows: of the directions that slopes are along."""
        return sum(map(self.asking.passages.extra_tokens, self.passages))

    def pays(self, stage: int, n_rows: int, *, available: float, n_left: int, room: float) -> bool:
        """Whether this stage is one of those that are paid for.

        Args:
            stage: its index.
            n_rows: candidates that it will measure at most.
            available: forward tokens for this and all later stages.
            n_left: stages until thinning ends, this one included.
            room: forward tokens that nothing may exceed.
        """
        n_rows = min(n_rows, len(self.price))
        if self.once + np.partition(self.price, -n_rows)[-n_rows:].sum() > room:
            return False
        part = available / (max(1, n_left) * max(1.0, self.once + n_rows * float(self.price.mean())))
        return (stage * _GOLDEN) % 1.0 < part

    def __call__(self, rows: RowArray) -> FloatArray:
        """The scores of some rows, higher = more wanted, shape (n,); NaN where the model can say nothing."""
        at = rows.astype(np.int64)
        losses = [self._losses(passage, at) for passage in self.passages]
        known = np.flatnonzero(np.stack([each.tokens > 0 for each in losses]).all(axis=0))
        values, taken = np.full(len(rows), np.nan), [each.take(known) for each in losses]
        if len(known):
            values[known] = taken[0].per_row() if self._metric is None else self._metric.from_losses(taken)
        return self.sign * np.where(np.isfinite(values), values, np.nan)

    def _losses(self, passage: Passage, rows: IntArray) -> RowLosses:
        """Of some rows in one passage: now, or as another model's were from the start."""
        if passage.model is not None:
            return self.scores.measured[passage].take(rows)
        taken = self.asking.passages.take(passage, rows, live=True)
        tokens = int(taken.charged(self.asking.passages.tokens(passage)[rows]).sum())
        tokens += self.asking.passages.extra_tokens(passage)
        self.asking.budget.charge("thinning", tokens, taken.seconds)
        return taken.losses
