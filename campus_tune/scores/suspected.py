"""How suspect the rows of a run are, by what its training showed and by what was measured before it anyway."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from campus_tune.data.domains import Domains
from campus_tune.data.prepared import TokenRows
from campus_tune.method.cells import Cells
from campus_tune.method.suspicion import Suspicion, of_forward, of_training
from campus_tune.metrics.passage import ALONE, HERE, Passage
from campus_tune.words.types import FloatArray, IntArray, RowLosses


def suspicion_of_run(
    visits: IntArray,
    losses: FloatArray,
    rows: TokenRows,
    *,
    cells: Cells,
    domains: Domains,
    measured: Mapping[Passage, RowLosses],
) -> Suspicion:
    """How suspect each row of a run is.

    Args:
        visits: the rows that were trained, in the sequence of training, shape (V,).
        losses: mean of each visit, nats per token, shape (V,).
        rows: of the training set.
        cells: inside which they are compared.
        domains: of them.
        measured: losses from before training, where metrics of the recipe asked for them; zero tokens where a row was
            not measured.
    """
    tokens, prompts, groups = rows.answer_tokens, rows.prompt_tokens, domains.codes
    with np.errstate(invalid="ignore"):
        known = {passage: measured[passage].per_row() for passage in (HERE, ALONE) if passage in measured}
    alone, before = known.get(ALONE), None
    if HERE in known:
        before = of_forward(known[HERE], tokens, groups=groups, alone=alone, prompts=prompts).score
        never = np.bincount(visits, minlength=len(rows)) == 0
        before[never] = np.nan  # nothing is said of a row that was not trained
    return of_training(
        visits,
        losses,
        cells.codes,
        len(rows),
        tokens=tokens,
        groups=groups,
        prompts=prompts,
        alone=alone,
        before=before,
    )
