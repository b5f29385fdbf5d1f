"""Who is drawn and which, in one run: the policy, the book that it goes by, and the rows that it leaves out.

All of it follows from the recipe, the rows, and the scores from before training, so a run that goes on makes the same
again. Cells are cut by those scores too, whatever re-scoring has made of them since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from campus_tune.data.domains import Domains
from campus_tune.data.prepared import column_names, read_column
from campus_tune.method.cells import ALL_ROWS, Cells
from campus_tune.method.policy import Policy
from campus_tune.model import compat
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.policy import book_columns, cells_of, column_of, policy_of, strict_domains
from campus_tune.run.book_keeping import BookKeeping
from campus_tune.scores.run_scores import Scores
from campus_tune.words.hashing import array_digest

if TYPE_CHECKING:
    from transformers import Trainer

    from campus_tune.run.situation import Outline


@dataclass(frozen=True, eq=False)
class Drawing:
    """What a run draws by.

    Args:
        policy: who is drawn and which; None where the recipe says nothing of it.
        book: what training showed of each row; None where nothing goes by it.
        dropped: reason → rows that are never drawn for it.
    """

    policy: Policy | None = None
    book: BookKeeping | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Kinds:
    """The kinds of rows that a recipe draws from, as the training set's columns name them.

    Args:
        domains: of the rows; none where the set has no such column, or the recipe draws all alike.
        others: their groups in the column of `cells: of`.
    """

    domains: Domains = field(default_factory=Domains)
    others: Domains = field(default_factory=Domains)

    @staticmethod
    def read(config: CampusConfig, trainer: Trainer) -> Kinds:
        """Those of a trainer's rows.

        Raises:
            RecipeError: the recipe gives shares to domains, and there are none.
            DataError: there is no such column; a row without a name, or with one that another looks like.
        """
        if not config.draws_apart:
            return Kinds()
        rows = compat.training_rows(trainer)

        def read(column: str | None, setting: str) -> Domains:
            if column is None:
                return Domains()
            Domains.read(rows, column)  # there is such a column
            return strict_domains(read_column(rows, column), column, setting)

        of = None if config.cells is None else config.cells.of
        return Kinds(read(column_of(config, column_names(rows)), "domains"), read(of, "cells: of"))

    def fingerprints(self) -> dict[str, str]:
        """What a run's identity holds of them."""
        named = {"drawn domains": self.domains, "cells": self.others}
        return {name: array_digest(kind.codes) for name, kind in named.items() if kind.codes is not None}

    def as_cells(self, n_rows: int) -> Cells:
        """A cell for each domain."""
        codes, names = self.domains.codes, self.domains.names
        if codes is None:
            return Cells(np.zeros(n_rows, dtype=np.int32), (ALL_ROWS,), np.zeros(1, dtype=np.int64))
        return Cells(codes.astype(np.int32), tuple(names), np.arange(len(names)))


def make_drawing(now: Outline, scores: Scores) -> Drawing:
    """What a planned run draws by.

    Args:
        now: its outline.
        scores: from before training.

    Raises:
        CampusError: blocks of the recipe that do not go with these rows.
    """
    config, by_label = now.config, dict(scores.by_label)
    if not config.draws_apart:
        return Drawing()
    domains, n_rows = now.kinds.domains, len(now.loaded.rows)
    cells = cells_of(config, by_label.__getitem__, domains=domains, others=now.kinds.others)
    keeping = None
    if book_columns(config) is not None:
        keeping = BookKeeping.begin(
            now.book_folder.make(),
            now.kinds.as_cells(n_rows) if cells is None else cells,
            global_batch=now.loaded.global_batch,
            spacing=None if config.review is None else config.review.spacing,
        )
    policy = policy_of(
        config,
        n_rows=n_rows,
        domains=domains,
        cells=cells,
        score_of=lambda label: scores.by_label[label],
        book=None if keeping is None else keeping.book,
    )
    return Drawing(policy, keeping)
