"""What is compared, by name: a `campus` block each, and what kind of arm it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from campus_tune.compare.arms import Kind
from campus_tune.words.types import Json
from eval.situations import named
from eval.situations.named import Given

SHUFFLE: Json = {"metrics": [], "selector": "shuffle"}
ROBUST: Json = {"name": "robust"}
SUSPECTS: Json = {"by": "suspects", "from": 0.5}
RIGHT: Json = {"name": "column", "column": "right"}
REPEATED: Json = {"by": "duplicates"}
FIRST, OTHERS = "arithmetic", ("calendar", "lists", "text")  # domains that are trained in turn


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
PROBED = frozenset({"order", "true_level", "lagging"})  # probes steer them: the others neither have nor pay for any
RECIPES, PEERS = "recipes", "peers"  # many arms in a word
PLAIN = "trl_plain"
DATAFLEX = (
    "dataflex_random",
    "dataflex_loss",
    "dataflex_delta_loss",
    "dataflex_less",
    "dataflex_near",
    "dataflex_tsds",
    "dataflex_weigh",
    "dataflex_adapt",
    "dataflex_odm",
    "dataflex_doremi",
)
PARTS: Mapping[str, Json] = {  # what peers do, by parts of ours
    "linupper": {**SHUFFLE, "weights": [{"name": "linupper"}]},
    "odm": {**SHUFFLE, "domains": {"reweight": "odm"}},
}


def block_of(name: str, given: Given | None = None, seed: int = 0) -> tuple[Kind, Json]:
    """(Kind, `campus` block) of an arm: one of `ARMS` or `PARTS`, or a recipe or its control (`named`).

    Args:
        name: of the arm.
        given: what the situation has; recipes need it.
        seed: of the run: random orders are drawn anew with each.
    """
    if name in ARMS:
        kind, block = ARMS[name]
    elif name in PARTS:
        kind, block = "recipe", PARTS[name]
    else:
        return named.block_of(name, given or Given(named.STEPS * STAGES, 1, ()), seed)
    return kind, {"stages": STAGES, **block}


def asked_for(words: Sequence[str], domains: Sequence[str], epochs: float) -> list[str]:
    """Arms by name, and all at once: `recipes` is every recipe with its control, `peers` every peer.

    Args:
        words: as they are typed.
        domains: of the situation's rows: some recipes need several.
        epochs: of the situation: some recipes need two.
    """
    every = {RECIPES: lambda: named.arms(domains, epochs), PEERS: lambda: [PLAIN, *DATAFLEX, *PARTS]}
    return [name for word in words for name in (every[word]() if word in every else [word])]


def is_probed(name: str) -> bool:
    """Whether probes steer an arm, so that it has them, and pays for them."""
    return name in PROBED or (name not in ARMS and name not in PARTS and named.is_probed(name))


def is_peer(name: str) -> bool:
    """Whether an arm is none of ours (`peers`)."""
    return name == PLAIN or name in DATAFLEX
