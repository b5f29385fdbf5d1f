"""A user's own weights as a run will read them, for `check`: in columns, and in the messages of chats."""

from __future__ import annotations

import numpy as np

from campus_tune.data.message_weights import read_message_weights
from campus_tune.data.row_weights import read_weights, saying_nothing
from campus_tune.method.weights import Weight
from campus_tune.model import compat
from campus_tune.model.prepare import PreparedRows
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.weighting import columns_asked
from campus_tune.words.findings import Finding
from campus_tune.words.types import FloatArray, RowTexts


def own_weights(
    config: CampusConfig, texts: RowTexts, prepared: PreparedRows | None
) -> tuple[dict[Weight, FloatArray], list[Finding]]:
    """The weight of each row by each column that a recipe names, shape (N,), and what there is to say of them.

    Args:
        config: settings.
        texts: of the rows.
        prepared: the rows as they are trained; without them nobody knows which tokens a message has.

    Raises:
        DataError: what a run would refuse: no such column or key, or what stands there is no weight.
    """
    found: dict[Weight, FloatArray] = {}
    told: list[Finding] = []
    limits = {entry.weight: entry.limit for entry in config.weights or ()}
    for asked in columns_asked(config):
        if asked.of == "row":
            values = texts.columns.get(asked.column)  # where there is none, it is refused with the names of the others
            rows = [dict.fromkeys(texts.columns)] if values is None else [{asked.column: value} for value in values]
            found[asked] = read_weights(rows, asked.column, np.maximum(1, texts.response_tokens))
            told += [Finding("warning", what) for what in saying_nothing(found[asked], asked.column)]
        elif prepared is None:
            told.append(Finding("info", f"`weights: {asked.column}` of messages is read in the run."))
        else:
            read = read_message_weights(
                compat.training_rows(prepared.trainer),
                asked.column,
                compat.tokenizer_of(prepared.trainer),
                trained=prepared.trained.dataset,
                template=compat.trained_template(prepared.trainer),
                limit=limits[asked],
            )
            found[asked] = read.rows
            told += [Finding("warning", what) for what in read.warnings]
    return found, told
