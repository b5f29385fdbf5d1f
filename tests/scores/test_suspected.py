"""How suspect the rows of a run are: what was measured before training joins in, and says nothing of other rows."""

from __future__ import annotations

import numpy as np

from campus_tune.data.domains import Domains
from campus_tune.data.prepared import TokenRows
from campus_tune.method.cells import ALL_ROWS, Cells
from campus_tune.method.suspicion import of_forward, of_training
from campus_tune.metrics.passage import ALONE, HERE
from campus_tune.scores.suspected import suspicion_of_run
from campus_tune.words.types import FloatArray, RowLosses

N = 40
RNG = np.random.default_rng(5)
TOKENS = RNG.integers(3, 30, N)
NO_HASH = np.zeros(N, dtype=np.uint64)
ROWS = TokenRows(TOKENS + 9, TOKENS, NO_HASH, np.full(N, 2), NO_HASH, NO_HASH, NO_HASH)
CELLS = Cells(np.zeros(N, dtype=np.int32), (ALL_ROWS,), np.zeros(1, dtype=np.int64))
VISITS = np.concatenate([RNG.permutation(N - 1), RNG.permutation(N - 1)])  # the last row is never trained
LOSSES = RNG.gamma(2.0, size=len(VISITS))


def measured(loss: FloatArray) -> RowLosses:
    """Mean losses of all rows as a forward gives them; NaN where a row was not measured."""
    known = np.isfinite(loss)
    losses = RowLosses.zeros(N)
    losses.put(np.flatnonzero(known), RowLosses.zeros(int(known.sum())))
    losses.nll_sum[known], losses.tokens[known] = loss[known] * TOKENS[known], TOKENS[known]
    return losses


def test_prompts_are_what_carries_no_loss_and_is_no_padding() -> None:
    assert ROWS.prompt_tokens.tolist() == [7] * N


def test_without_measurements_it_is_what_training_showed() -> None:
    found = suspicion_of_run(VISITS, LOSSES, ROWS, cells=CELLS, domains=Domains(), measured={})
    plain = of_training(VISITS, LOSSES, CELLS.codes, N, tokens=TOKENS, groups=None, prompts=np.full(N, 7))
    np.testing.assert_array_equal(found.score, plain.score)
    assert np.isnan(found.score[-1])


def test_what_was_measured_before_joins_in_where_it_was() -> None:
    loss, alone = RNG.gamma(2.0, size=N), RNG.gamma(3.0, size=N)
    loss[:5] = np.nan
    found = suspicion_of_run(
        VISITS, LOSSES, ROWS, cells=CELLS, domains=Domains(), measured={HERE: measured(loss), ALONE: measured(alone)}
    )
    before = of_forward(loss, TOKENS, groups=None, alone=alone, prompts=np.full(N, 7)).score
    before[-1] = np.nan
    wanted = of_training(
        VISITS,
        LOSSES,
        CELLS.codes,
        N,
        tokens=TOKENS,
        groups=None,
        prompts=np.full(N, 7),
        alone=alone,
        before=before,
    )
    np.testing.assert_allclose(found.score, wanted.score)
    assert np.isnan(found.score[-1]), "a row that was not trained stays unknown though it was measured"
    assert not np.allclose(
        found.score[5:-1],
        of_training(
            VISITS, LOSSES, CELLS.codes, N, tokens=TOKENS, groups=None, prompts=np.full(N, 7), alone=alone
        ).score[5:-1],
    )
