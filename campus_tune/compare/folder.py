"""What a comparison's folder says of itself: `compare.json`, and how it grows when more is asked of the folder."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from campus_tune.compare.arms import Arm
from campus_tune.compare.file_shapes import COMPARISON
from campus_tune.compare.kinds import COMPARISON as ABOUT
from campus_tune.compare.kinds import refuse_other_kind
from campus_tune.compare.plan import Plan
from campus_tune.compare.result_file import read_stored, run_folder
from campus_tune.compare.task import Task
from campus_tune.compare.verdict import REWARD
from campus_tune.run.ledger import plain
from campus_tune.words.errors import RecipeError
from campus_tune.words.files import atomic_write
from campus_tune.words.types import Json
from campus_tune.words.wording import cut, differences

if TYPE_CHECKING:
    from pathlib import Path

    from campus_tune.data.held_out import HeldOut
    from campus_tune.data.held_out_prompts import HeldOutPrompts

FORMAT = 1
EARLIER = "earlier"  # arms that the folder has runs of, and that are not asked for now
FIXED = ("test", "points", "evaluate", "sharpness", "training", "flags", "measure", "trainer", "samples")
SHOWN = 60  # characters of a setting in a message


def write_about(plan: Plan, test: HeldOut | HeldOutPrompts, command: str) -> None:
    """Write down what is compared; arms and seeds may be added to those of a folder.

    Raises:
        RecipeError: the folder holds a comparison of other settings, which are named, or is another command's.
        DataError: the file that is there is damaged, or of another version.
    """
    refuse_other_kind(plan.out, ABOUT)
    path = plan.out / ABOUT
    settings = plan.settings
    about: Json = {
        "format": FORMAT,
        "arms": {arm.name: {"kind": arm.kind, "campus": arm.campus} for arm in plan.arms},
        "seeds": list(settings.seeds),
        "effect": settings.effect,
        "speedup": settings.speedup,
        "test": {
            "path": list(settings.test),
            "digest": test.digest(),
            "items": len(test),
            "domains": dict(sorted(Counter(test.domains).items())),
        },
        "points": settings.points,
        "evaluate": settings.to_mapping()["evaluate"],
        "sharpness": settings.sharpness,
        "training": {k: v for k, v in plan.training.items() if k not in ("output_dir", "seed")},
        "flags": list(plan.flags),
        "command": command,
        **({"measure": REWARD, "trainer": plan.trainer, "samples": settings.samples} if plan.by_reward else {}),
    }
    if path.exists():
        there = read_stored(path, FORMAT, "say what is compared", "delete it: finished runs are kept", COMPARISON)
        about = json.loads(json.dumps(plain(about)))  # as it is in a file, to be compared with one
        known = {**there.get(EARLIER, {}), **there["arms"]}
        changed = {name: (there.get(name), about.get(name)) for name in FIXED if there.get(name) != about.get(name)}
        changed |= {
            f"arm {name}": (known[name].get("campus"), arm["campus"])
            for name, arm in about["arms"].items()
            if name in known and known[name] != arm
        }
        if changed:
            listed = "; ".join(f"{name} {_differing(*values)}" for name, values in changed.items())
            raise RecipeError(
                f"`--out` must be a new folder or that of the same comparison, got {str(plan.out)!r}, which was begun "
                f"with other settings: {listed}. Name another folder, or delete this one."
            )
        about[EARLIER] = {name: arm for name, arm in known.items() if name not in about["arms"]}
    atomic_write(path, json.dumps(plain(about), indent=1) + "\n")


def refuse_other_block(arm: Arm, seed: int, outcome: Json, out: Path, recorded: Json | None = None) -> None:
    """No result may be that of another recipe, which a folder without its `compare.json` would not tell.

    Args:
        arm: whose run it is said to be.
        seed: of the run.
        outcome: its result.
        out: folder of the comparison.
        recorded: what the arm has of the recipe's run with this seed, where it awaits one.

    Raises:
        RecipeError: it was trained with other settings of the campus block, which are named.
    """
    there = outcome.get("campus") or {}
    now = json.loads(json.dumps(plain(arm.config(seed, recorded).to_mapping())))
    other = [key for key in now if key != "scores" and key in there and there[key] != now[key]]
    if other:
        listed = _differing({key: there[key] for key in other}, {key: now[key] for key in other})
        raise RecipeError(
            f"`{run_folder(out, arm.name, seed)}` must be a run of the arm {arm.name!r}, got one with other settings: "
            f"{listed}. Name another --out, or delete that folder: the run is repeated."
        )


def refuse_other_rows(task: Task, outcome: Json, out: Path) -> None:
    """No result may be that of other rows or of another length.

    Args:
        task: what is asked for.
        outcome: its result.
        out: folder of the comparison.

    Raises:
        RecipeError: it was trained on other rows, or for other steps than the task names.
    """
    now, there = (
        {f"{name}: {key}": value for name in ("only", "as_long") for key, value in (one.get(name) or {}).items()}
        for one in (task.asked(), outcome)
    )
    if task.max_steps is not None:
        now["steps"], there["steps"] = task.max_steps, outcome["shared"].get("steps")
    if there != json.loads(json.dumps(now)):
        raise RecipeError(
            f"`{run_folder(out, task.name, task.seed)}` must be a run of the rows and steps that are asked for, got "
            f"one of others: {_differing(there, now)}. Name another --out, or delete that folder: the run is repeated."
        )


def _differing(there: object, now: object) -> str:
    """Two settings in words; of mappings, the keys that differ."""
    if isinstance(there, dict) and isinstance(now, dict):
        return ", ".join(f"{key}: {_cut(old)} there and {_cut(new)} now" for key, old, new in differences(there, now))
    return f"{_cut(there)} there and {_cut(now)} now"


def _cut(value: object) -> str:
    return cut(json.dumps(value, default=str), SHOWN, head=SHOWN)
