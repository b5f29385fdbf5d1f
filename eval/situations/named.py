"""Every recipe of `recipes/` as an arm, and the control that says what its effect is owed to.

An arm is called as its file, its control `<file>.<control>`: `infobatch`, `infobatch.random_prune`. A block is taken as
it stands. Changed is only what hangs on the place where it is used:

    probes      are the situation's, given to the callback
    stages      at least two steps each
    rules       that end a run note it instead: all arms train as many steps
    budget      as much as training itself: of a short run a measurement is a larger share, and it is charged
    math, code  and chat are the first domains of the situation; where it has more, the last of them is all others
    holdout     a model that was trained on other rows of the same make (`made_first`), and its training charged
    proxy       the same model, trained once on the run's own rows (`made_first`), and charged

The control is the first of those that the recipe names itself, else of those that a comparison would add, which is not
shuffling by another name and needs nothing that only the recipe's run could say: `stacked` has the average of shares
whose phases end when they are written to end. A recipe that cannot run in a situation is left out, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from campus_tune.compare.arms import SAME_PACING, Arm, Kind, default_arms, kind_of, make_arms
from campus_tune.compare.told_only import noting
from campus_tune.words.types import Json

RECIPES = Path(__file__).parents[2] / "recipes"
NAMES = ("math", "code", "chat")  # domains as recipes call them
STEPS = 2  # of a stage, at least
BUDGET = 1.0
HOLDOUT, PROXY = "holdout", "proxy"  # what is made before a run
NEEDS: Mapping[str, str] = {"rho_online": HOLDOUT, "irreducible": PROXY}
LEFT_OUT: Mapping[str, str] = {
    "random": "it is the baseline",
    "evaluate_campus": "its tasks never steer: it is `campus`",
    "row_weights": "its weights are the user's own",
    "prune_harmful": "its values come from another run of a LoRA (eval/value.py)",
    **dict.fromkeys(("grpo_middle", "grpo_shuffle", "quickstart_grpo"), "it is trained by reward (eval/prompts.py)"),
}
SHUFFLING = ("natural_shares", "uniform_weights")  # of a recipe of shares or weights alone
SHARED = ("phases_abc", "review", "milestones")  # recipes that name domains
OF_BOOK = ("hard_first", "importance", "infobatch", "selective_backprop")  # go by what a row has shown before


@dataclass(frozen=True)
class Given:
    """What a situation gives to recipes.

    Args:
        steps: of a run.
        epochs: of all rows.
        domains: of its rows.
        made: what was made before the run, by name (`NEEDS`): a folder.
    """

    steps: int
    epochs: float
    domains: Sequence[str]
    made: Mapping[str, Path] = field(default_factory=dict)


def files() -> list[str]:
    """All recipes, by name."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def why_left_out(name: str, domains: Sequence[str], epochs: float) -> str | None:
    """Why a recipe has no arm where rows are of these domains and are seen so often; None where it has one."""
    if name in OF_BOOK and epochs < 2:
        return f"it goes by what a row has shown before, and here are {epochs:g} epochs"
    if name in SHARED and len(set(domains)) < len(NAMES):
        return f"it needs {len(NAMES)} domains, and here are {len(set(domains))}"
    return LEFT_OUT.get(name)


def arms(domains: Sequence[str], epochs: float) -> list[str]:
    """Every arm that can run where rows are of these domains and seen so often: recipes, each with its control."""
    found = []
    for name in files():
        if why_left_out(name, domains, epochs) is None:
            control = control_of(name)
            found += [name, *([f"{name}.{control}"] if control else [])]
    return found


def need_of(arm: str) -> str | None:
    """What must be made before an arm is trained: random orders in the place of its own need nothing."""
    name, _, control = arm.partition(".")
    return None if control == SAME_PACING else NEEDS.get(name)


def is_probed(arm: str) -> bool:
    """Whether probes steer an arm."""
    return bool(_read(arm.partition(".")[0])["campus"].get("probes"))


def control_of(name: str) -> str | None:
    """The control of a recipe; None where shuffling is all that it could be compared with."""
    recipe, block = _read(name), _without_place(_read(name)["campus"])
    own = (recipe.get("compare") or {}).get("arms", [])
    for arm in [*own, *default_arms(block)]:
        if kind_of(arm) != "control" or (arm in SHUFFLING and _alone(block)):
            continue
        if not _control(arm, block).awaits:
            return str(arm)
    return None


def block_of(arm: str, given: Given, seed: int) -> tuple[Kind, Json]:
    """(Kind, `campus` block) of an arm; its random orders are drawn anew with each seed.

    Raises:
        SystemExit: no recipe of this name, it is left out, or what it needs was not made.
    """
    name, _, control = arm.partition(".")
    if name not in files():
        raise SystemExit(
            f"`{arm}` must be a recipe or its control, got another name. Write one of {', '.join(files())}."
        )
    why = why_left_out(name, given.domains, given.epochs)
    if why is not None:
        raise SystemExit(f"`{arm}` must be a recipe that can run here, got one that is left out: {why}. Remove it.")
    need = need_of(arm)
    if need is not None and need not in given.made:
        raise SystemExit(f"`{arm}` must have its {need} made first, got none. Give its folder in `made`.")
    block = _placed(_without_place(_read(name)["campus"]), given)
    one = _control(control, block) if control else Arm(arm, "recipe", block)
    return one.kind, {**one.campus, "metrics": one.config(seed).to_mapping()["metrics"]}


def _control(name: str, block: Json) -> Arm:
    """The control of a block; where it awaits the block's own run, that of its shares as they are written."""
    for one in (block, noting(block, ["next_phase"])):
        arm = next(arm for arm in make_arms(one, {"recipe": {}, "random": {}, name: {}}) if arm.name == name)
        if not arm.awaits:
            break
    return arm


def _placed(block: Json, given: Given) -> Json:
    """The block as it runs here."""
    renamed = dict(zip(NAMES, sorted(set(given.domains)), strict=False))
    others = sorted(set(given.domains))[len(NAMES) :]
    block = {
        **noting(block, ["stop"]),
        "stages": max(1, min(block.get("stages", 20), given.steps // STEPS)),
        "budget": BUDGET,
    }
    if "phases" in block:
        block["phases"] = [{**phase, "shares": _shares(phase["shares"], renamed, others)} for phase in block["phases"]]
    if "milestones" in block:
        block["milestones"] = [{**one, "probe": renamed[one["probe"]]} for one in block["milestones"]]
    if "thin" in block and isinstance(block["thin"]["by"], Mapping):
        block["thin"] = {**block["thin"], "by": _made(block["thin"]["by"], given.made)}
    return {**block, "metrics": [_made(one, given.made) for one in block.get("metrics", [])]}


def _shares(shares: Mapping[str, float], renamed: Mapping[str, str], others: Sequence[str]) -> dict[str, float]:
    """Shares by the situation's domains: what is the last name's is that of all other domains, in equal parts."""
    last = [renamed[NAMES[-1]], *others]
    found = {renamed[name]: share for name, share in shares.items() if name != NAMES[-1]}
    return found | {name: shares.get(NAMES[-1], 0.0) / len(last) for name in last}


def _made(metric: Any, made: Mapping[str, Path]) -> Any:
    """A metric with the folders that were made."""
    if not isinstance(metric, Mapping):
        return metric
    return {key: str(made[key]) if key in made else value for key, value in metric.items()}


def _alone(block: Json) -> bool:
    """Nothing but shares or weights: without them it shuffles."""
    return not block.get("metrics") and block.get("selector") == "shuffle" and not block.get("thin")


def _without_place(block: Json) -> Json:
    return {key: value for key, value in block.items() if key != "probes"}


@cache
def _read(name: str) -> Json:
    recipe: Json = yaml.safe_load((RECIPES / f"{name}.yaml").read_text("utf-8"))
    return recipe
