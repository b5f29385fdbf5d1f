"""The setting that asks what each row was worth: `value`, false, true or a mapping.

>>> VALUE.read("value", True)
ValueSettings(adam=False, budget=0.05)
>>> VALUE.read("value", False) is None
True
>>> VALUE.read("value", {"adam": "yes"})
Traceback (most recent call last):
campus_tune.words.errors.RecipeError: `value: adam` must be true or false, got 'yes'. Write true, or false.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from campus_tune.recipe.reader import CheckedSettings
from campus_tune.words.leaves import Leaf, Range
from campus_tune.words.types import Json

OWN_BUDGET = 0.05  # as `budget` usually has


@dataclass(frozen=True)
class ValueSettings(CheckedSettings):
    """What each row that is trained does to the loss of the probes, measured while it is trained; nothing else changes.

    Args:
        adam: as Adam would step: the probes' gradient is divided by the root of its second moments. Rows that are
            trained before the optimizer has any are not valued.
        budget: share of the training compute that the probes' gradients may cost, beside `budget`.
    """

    block = "value"
    must = "false, true or a mapping"
    write = "Write value: true, or value: {adam: true}."

    adam: bool = False
    budget: Annotated[float, Range(0, 10, "(]")] = OWN_BUDGET


class _Value(Leaf):
    """False or null for nothing, true for the usual, or a mapping."""

    must = ValueSettings.must
    block = ValueSettings

    def read(self, what: str, value: object) -> ValueSettings | None:
        del what  # the block has a name of its own
        if value is None or value is False:
            return None
        if isinstance(value, ValueSettings):
            return value
        return ValueSettings.from_mapping({} if value is True else value)

    def schema(self) -> Json:
        return {"anyOf": [{"type": "boolean"}, ValueSettings.schema()]}


VALUE = _Value()


def needs_probes() -> str:
    """What is wrong with values in a run without probes."""
    return (
        "`value` must have probes, by whose loss rows are valued, got none. Give probes: {path: ./probes.jsonl}, or "
        "take `value` out of the recipe."
    )
