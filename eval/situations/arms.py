"""What is compared, by name: a `campus` block each, and what kind of arm it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from campus_tune.compare.arms import Kind
from campus_tune.words.types import Json

SHUFFLE: Json = {"metrics": [], "selector": "shuffle"}
ROBUST: Json = {"name": "robust"}
SUSPECTS: Json = {"by": "suspects", "from": 0.5}
RIGHT: Json = {"name": "column", "column": "right"}

ARMS: Mapping[str, tuple[Kind, Json]] = {
    "random": ("baseline", SHUFFLE),
    "order": ("recipe", {"metrics": ["length", "mtld", "compression"]}),
    "auto": (
        "recipe",
        {**SHUFFLE, "weights": [{**ROBUST, "act": "auto"}], "drop": [{**SUSPECTS, "act": "auto", "at_most": 0.3}]},
    ),
    "auto_drop": ("recipe", {**SHUFFLE, "drop": [{**SUSPECTS, "act": "auto", "at_most": 0.3}]}),
    "robust": ("recipe", {**SHUFFLE, "weights": [ROBUST]}),
    "robust_control": ("control", {**SHUFFLE, "weights": [ROBUST], "control": "shuffled_weights"}),
    "drop": ("recipe", {**SHUFFLE, "drop": [{**SUSPECTS, "at_most": 0.3}]}),
    "drop_control": ("control", {**SHUFFLE, "drop": [{**SUSPECTS, "at_most": 0.3}], "control": "random_drop"}),
    "both": ("recipe", {**SHUFFLE, "weights": [ROBUST], "drop": [{**SUSPECTS, "at_most": 0.3}]}),
    "oracle": ("recipe", {**SHUFFLE, "drop": [{"by": RIGHT, "below": 0.5, "at_most": 0.5}]}),
    "true_level": ("recipe", {"metrics": [{"name": "column", "column": "level"}]}),
}
STAGES = 20
PROBED = frozenset({"order", "true_level"})  # arms that probes steer: the others neither have nor pay for any


def block_of(name: str, **more: Any) -> tuple[Kind, Json]:
    """(Kind, `campus` block) of an arm."""
    kind, block = ARMS[name]
    return kind, {"stages": STAGES, **block, **more}
