"""Training rows that a run is asked about before its first step and after its last one, as the test rows are.

As many of each domain as there are test rows of it, drawn with one seed for all runs; those that a run has
trained in between make its generalisation gap. They are read as text and told to the model as test rows are (their
answers count, whatever the trainer counts), so both losses are of one kind. Rows that do not say what of them is an
answer, such as plain text, have no gap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from campus_tune.compare.gap import BeforeAfter, generalisation_gap, sample_rows
from campus_tune.data.held_out import HeldOut, conversation_of
from campus_tune.data.prepared import column_names, items, read_column
from campus_tune.data.token_hashes import IGNORED
from campus_tune.evaluate.answer_loss import Told
from campus_tune.model import compat
from campus_tune.model.answer_alone import PadRight
from campus_tune.model.conversations import retell
from campus_tune.model.measure import LossMeter
from campus_tune.model.peers import Peers
from campus_tune.words.errors import DataError
from campus_tune.words.types import Json, RowLosses

if TYPE_CHECKING:
    from transformers import Trainer

ALL = "all rows"  # the one domain of rows that have none


class TrainedRows:
    """Some training rows, measured as they are before the first step.

    Args:
        trainer: whose rows and model they are.
        test: the held-out rows.
        before: losses of the test rows at the same time.

    Raises:
        DataError: the training rows are not told apart into questions and answers, or none of them is of a domain of
            the test rows.
    """

    def __init__(self, trainer: Trainer, test: HeldOut, before: RowLosses) -> None:
        rows, limit = compat.training_rows(trainer), getattr(trainer.args, "max_length", None)
        column = test.domain_column
        named = column is not None and column in column_names(rows)
        self._of_test = list(test.domains) if named else [ALL] * len(test)
        of_rows = list(map(str, read_column(rows, str(column)))) if named else [ALL] * len(rows)
        drawn = sample_rows(of_rows, Counter(self._of_test))
        told = [
            retell(conversation_of(row, f"training row {place}"), compat.tokenizer_of(trainer))
            for place, row in zip(drawn.tolist(), items(rows, drawn.tolist()), strict=True)
        ]
        kept = [i for i, row in enumerate(told) if any(label != IGNORED for label in row.labels[1:limit])]
        if not kept:
            raise DataError(
                f"training rows must have answers and domains of the test rows to have a gap, got {len(drawn)} of such "
                "domains and none with an answer. Name the domains alike."
            )
        self.rows = drawn[kept]
        self._domains = [of_rows[row] for row in self.rows]
        answers = Told([told[i] for i in kept], limit)
        self._meter = LossMeter(
            partial(compat.subject, trainer), answers, PadRight(), answers.tokens, peers=Peers(), what="trained rows"
        )
        self._test, self._before = before, self._meter.losses(np.arange(len(kept)))

    def gap(self, test: RowLosses, visited: Collection[int]) -> Json | None:
        """The gap of the model as it is now.

        Args:
            test: losses of the test rows now.
            visited: rows that were trained.
        """
        places = np.flatnonzero([row in visited for row in self.rows.tolist()]).astype(np.int64)
        seen = BeforeAfter([self._domains[i] for i in places], self._before.take(places), self._meter.losses(places))
        return generalisation_gap(BeforeAfter(self._of_test, self._test, test), seen)
