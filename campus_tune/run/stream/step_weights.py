"""What the rows of one optimizer step count, and by what they are known once they have reached the model.

Rows that look the same to the model (the same tokens, the same labels) cannot be told apart in front of it. They have
the mean of their weights, which is the same gradient in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from campus_tune.data.prepared import TokenRows
from campus_tune.method.curriculum import Curriculum
from campus_tune.method.weighting import Live
from campus_tune.words.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class StepWeights:
    """What the rows of one optimizer step on this rank count.

    Args:
        step: from 1, as the trainer counts.
        rows: of its micro batches, filling rows left out, shape (R,).
        planned: weight of each, shape (R,).
        shapes: how each row's weight is spread over its answer tokens, (answer_tokens,), mean 1; None for evenly.
        live: the weights that the forward decides.
        trial: all are 1, to see whether weights could be multiplied: what cannot be is noted, and stops nothing.
    """

    step: int
    rows: IntArray
    planned: FloatArray
    shapes: Sequence[FloatArray] | None
    live: Live
    trial: bool = False


def step_weights(
    curriculum: Curriculum, batches: Sequence[Sequence[int]], shapes: Sequence[FloatArray] | None
) -> StepWeights | None:
    """Those of the step that is about to be trained; None where a recipe has no weights, a trial where all wait.

    Args:
        curriculum: that stands in front of the step.
        batches: rows of each micro batch of this rank; complements are filling rows.
        shapes: of all rows, N of them; None without weights of messages.
    """
    if curriculum.weighting is None:
        return None
    stage = curriculum.stage
    assert stage is not None, "open() a stage before asking what its rows count"
    rows = np.array([row for batch in batches for row in batch if row >= 0], dtype=np.int64)
    planned = np.ones(len(rows))
    if curriculum.weighting.idle:
        return StepWeights(curriculum.step + 1, rows, planned, None, Live(), trial=True)
    if stage.weights is not None:
        of_step = curriculum.step_rows()
        begin = (curriculum.step - stage.first_step) * curriculum.global_batch
        by_row = np.argsort(of_step, kind="stable")
        places = by_row[np.searchsorted(of_step[by_row], rows)]
        planned = stage.weights[begin : begin + len(of_step)][places].astype(np.float64)
    own, u = None, stage.first_step / curriculum.total_steps
    if shapes is not None:
        own = [curriculum.weighting.spread(shapes[row], u, row) for row in rows.tolist()]
    return StepWeights(curriculum.step + 1, rows, planned, own, curriculum.live)


@dataclass(frozen=True, eq=False)
class RowNumbers:
    """What each row of a step is multiplied with, by the hash of what reaches the model; each of R lines.

    Single precision, on the host as on the device: a weight that jumps must jump at the same loss on both.

    Args:
        rows: of the plan, sorted, shape (R,).
        keys: their hashes, of what is trained or of the tokens alone, shape (R,).
        planned: weights, shape (R,).
        levels: what the rows' losses are compared with, shape (k, R).
        by_token: planned weight of each answer token, shape (R, T), the last one repeated; None where all are alike.
    """

    rows: IntArray
    keys: NDArray[np.int64]
    planned: NDArray[np.float32]
    levels: NDArray[np.float32]
    by_token: NDArray[np.float32] | None

    @staticmethod
    def of(weights: StepWeights, planned: TokenRows, *, labelled: bool) -> RowNumbers:
        """Those of a step.

        Args:
            weights: of the step.
            planned: all rows.
            labelled: labels are known before they reach the model, so rows are told apart by them too.
        """
        order = np.argsort(weights.rows, kind="stable")
        rows = weights.rows[order]
        keys = (planned.trained if labelled else planned.content)[rows].view(np.int64)
        numbers = np.concatenate([weights.planned[None, order], weights.live.numbers(rows)])
        by_token = None
        if weights.shapes is not None and len(rows):
            shapes, width = [weights.shapes[i] for i in order], max(len(one) for one in weights.shapes)
            lines = [np.pad(one, (0, width - len(one)), mode="edge") for one in shapes]
            by_token = np.stack(lines) * numbers[0, :, None]
        same, group = np.unique(keys, return_inverse=True)
        if len(same) < len(keys):
            numbers = _means(numbers.T, group).T
            by_token = None if by_token is None else _means(by_token, group)
        return RowNumbers(
            rows,
            keys,
            numbers[0].astype(np.float32),
            numbers[1:].astype(np.float32),
            None if by_token is None else by_token.astype(np.float32),
        )

    def places_of(self, rows: IntArray) -> IntArray:
        """The lines of some of the rows."""
        return np.searchsorted(self.rows, rows)


def _means(lines: FloatArray, group: IntArray) -> FloatArray:
    """Each line's mean over the lines of its group, NaN where one of them is; lines of shape (R, m)."""
    sums = np.zeros((group.max() + 1, lines.shape[1]))
    np.add.at(sums, group, lines)
    return np.asarray((sums / np.bincount(group)[:, None])[group], dtype=np.float64)
