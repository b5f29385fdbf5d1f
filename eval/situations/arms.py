"""What is compared, by name: a `campus` block each, and what kind of arm it is."""

from __future__ import annotations

from collections.abc import Mapping

from campus_tune.compare.arms import Kind
from campus_tune.words.types import Json
from eval.situations import named
from eval.situations.named import Given

SHUFFLE: Json = {"metrics": [], "selector": "shuffle"}
ROBUST: Json = {"name": "robust"}
SUSPECTS: Json = {"by": "suspects", "from": 0.5}
RIGHT: Json = {"name": "column", "column": "right"}

ARMS: Mapping[str, tuple[Kind, Json]] = {
    "random": ("baseline", SHUFFLE),
    "default": ("recipe", {}),
    "robust": ("recipe", {**SHUFFLE, "weights": [ROBUST]}),
    "robust_control": ("control", {**SHUFFLE, "weights": [ROBUST], "control": "shuffled_weights"}),
    "drop": ("recipe", {**SHUFFLE, "drop": [SUSPECTS]}),
    "drop_control": ("control", {**SHUFFLE, "drop": [SUSPECTS], "control": "random_drop"}),
    "both": ("recipe", {**SHUFFLE, "weights": [ROBUST], "drop": [{**SUSPECTS, "at_most": 0.3}]}),
    "oracle": ("recipe", {**SHUFFLE, "drop": [{"by": RIGHT, "below": 0.5, "at_most": 0.5}]}),
    "true_level": ("recipe", {"metrics": [{"name": "column", "column": "level"}]}),
}
STAGES = 20
PROBED = frozenset({"default"})  # arms that probes steer: the others neither have nor pay for any
PLAIN, DATAFLEX = "trl_plain", "dataflex_"
PARTS: Mapping[str, Json] = {  # what peers do, by parts of ours
    "linupper": {**SHUFFLE, "weights": [{"name": "linupper"}]},
    "odm": {**SHUFFLE, "domains": {"reweight": "odm"}},
    "doremi": {**SHUFFLE, "domains": {"reweight": "doremi"}},
}


def block_of(name: str, given: Given, seed: int) -> tuple[Kind, Json]:
    """(Kind, `campus` block) of an arm: one of `ARMS` or `PARTS`, or a recipe or its control by name (`named`).

    Args:
        name: of the arm.
        given: what the situation has.
        seed: of the run: random orders are drawn anew with each.
    """
    kind, block = ARMS.get(name) or (("recipe", PARTS[name]) if name in PARTS else named.block_of(name, given, seed))
    return kind, {"stages": max(1, min(STAGES, given.steps // named.STEPS)), **block}


def is_probed(name: str) -> bool:
    """Whether probes steer an arm, so that it has them, and pays for them."""
    return name in PROBED or (name not in ARMS and name not in PARTS and named.is_probed(name))


def is_peer(name: str) -> bool:
    """Whether an arm is none of ours (`peers`)."""
    return name == PLAIN or name.startswith(DATAFLEX)
