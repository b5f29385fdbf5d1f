"""Weights that stand in the user's own data: read once, before a run is planned, and part of what makes it this run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from campus_tune.data.message_weights import Shapes, read_message_weights
from campus_tune.data.row_weights import read_weights, saying_nothing, weights_digest
from campus_tune.method.weights import OwnWeight, Weight
from campus_tune.model import compat
from campus_tune.recipe.config import CampusConfig
from campus_tune.run.loaded import Loaded
from campus_tune.words.types import FloatArray

if TYPE_CHECKING:
    from transformers import Trainer


@dataclass(frozen=True, eq=False)
class UserWeights:
    """What the columns and messages of a training set say of how much it counts.

    Args:
        columns: the weight of each row, by the entry that asks for it, shape (N,).
        shapes: how that is spread over a row's answer tokens; None where no messages have weights.
        digests: what each was, for the run's identity.
        warnings: what a person should know of them.
    """

    columns: Mapping[Weight, FloatArray] = field(default_factory=dict)
    shapes: Shapes | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @staticmethod
    def read(config: CampusConfig, trainer: Trainer, loaded: Loaded) -> UserWeights:
        """Those that a recipe names.

        Raises:
            DataError: no such column or key, or what stands there is no weight.
        """
        columns: dict[Weight, FloatArray] = {}
        shapes, digests, warnings = None, {}, []
        rows = compat.training_rows(trainer)
        for entry in config.weights or ():
            asked = entry.weight
            if not isinstance(asked, OwnWeight):
                continue
            name = f"weights: {asked.column}"
            if asked.of == "message":
                found = read_message_weights(
                    rows,
                    asked.column,
                    compat.tokenizer_of(trainer),
                    trained=loaded.trained.dataset,
                    template=compat.trained_template(trainer),
                    limit=entry.limit,
                )
                columns[asked], shapes, digests[f"{name}, of: message"] = found.rows, found.shapes, found.digest()
                warnings += found.warnings
            else:
                columns[asked] = read_weights(rows, asked.column, loaded.rows.answer_tokens)
                digests[name] = weights_digest(columns[asked])
                warnings += saying_nothing(columns[asked], asked.column)
        return UserWeights(columns, shapes, digests, tuple(warnings))
