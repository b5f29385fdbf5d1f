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
REPEATED: Json = {"by": "duplicates"}
FIRST, OTHERS = "calendar", ("arithmetic", "lists", "text")  # domains that are trained in turn


def _in_turn(kept: float) -> Json:
    """Phases: the first domain alone for as long as its rows last, then the others, with a share of the first."""
    rest = dict.fromkeys(OTHERS, (1 - kept) / len(OTHERS))
    shares = [{FIRST: 1.0} | dict.fromkeys(OTHERS, 0.0), {FIRST: kept} | rest]
    return {**SHUFFLE, "phases": [{"until": end, "shares": one} for end, one in zip((0.25, 1.0), shares, strict=True)]}


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
    "dedup": ("recipe", {**SHUFFLE, "drop": [REPEATED]}),
    "dedup_control": ("control", {**SHUFFLE, "drop": [REPEATED], "control": "random_drop"}),
    "lagging": (
        "recipe",
        {**SHUFFLE, "domains": {"least": 0.02, "reweight": {"name": "lagging", "rate": 2.0, "most": 3}}},
    ),
    "tempered": ("recipe", {**SHUFFLE, "domains": {"shares": {"temperature": 2}}}),
    "equal": ("recipe", {**SHUFFLE, "domains": {"shares": {"temperature": 1000}}}),
    "in_turn": ("recipe", _in_turn(0.0)),
    "in_turn_kept": ("recipe", _in_turn(0.1)),
    "in_turn_review": ("recipe", {**_in_turn(0.0), "review": {"share": 0.1}}),
    "in_turn_review_control": ("control", {**_in_turn(0.0), "review": {"share": 0.1, "by": "uniform"}}),
    "true_level": ("recipe", {"metrics": [{"name": "column", "column": "level"}]}),
}
STAGES = 20
PROBED = frozenset(
    {"order", "true_level", "lagging"}
)  # arms that probes steer: the others neither have nor pay for any


def block_of(name: str, **more: Any) -> tuple[Kind, Json]:
    """(Kind, `campus` block) of an arm."""
    kind, block = ARMS[name]
    return kind, {"stages": STAGES, **block, **more}
