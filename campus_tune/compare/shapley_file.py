"""What groups of rows are worth, as a file: `shapley.json` in the folder of the trainings behind it.

It is written before the first training, without values, so that the same command goes on and another one is refused;
and again when all is known. More seeds and more trainings may be asked for later.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from campus_tune.compare.file_shapes import MAYBE
from campus_tune.compare.group_intervals import intervals
from campus_tune.compare.group_trainings import GroupTrainings
from campus_tune.compare.kinds import SHAPLEY as FILE
from campus_tune.compare.kinds import refuse_other_kind
from campus_tune.compare.result_file import read_stored
from campus_tune.method.shapley import CoalitionWalk, Shapley
from campus_tune.run.ledger import plain
from campus_tune.words.errors import RecipeError
from campus_tune.words.files import atomic_write
from campus_tune.words.types import Json
from campus_tune.words.wording import cut, differences

if TYPE_CHECKING:
    from campus_tune.data.held_out import HeldOut

FORMAT = 1
FIXED = ("groups", "campus", "test", "training", "flags")  # what makes two of these the same
SHOWN = 60  # characters of a setting in a message
MOST_NAMED = 6  # groups in a sentence
WORTH = {"value": float, **dict.fromkeys(("stderr", "by_sequence", "by_seed", "low", "high"), MAYBE)}
LOSSES = {"before": float, "after": float}
SHAPE: dict[str, Any] = {
    "format": int,
    "groups": {"names": [str], "sizes": [int], "column": str, "by": (str, None), "rows": (str, None)},
    "model": str,
    "of_recipe": bool,
    "campus": {},
    "test": {"path": [str], "digest": str, "items": int, "domains": {str: int}},
    "training": {},
    "flags": [str],
    "seeds": [int],
    "command": str,
    "found": (
        {
            "exact": bool,
            "trainings": int,
            "sequences": int,
            "truncated": int,
            "loss": LOSSES,
            "losses": {str: LOSSES},
            "values": {str: {**WORTH, "domains": {str: WORTH}}},
            "sentences": [str],
        },
        None,
    ),
}


def begin_file(trainings: GroupTrainings, test: HeldOut, *, command: str, other_model: bool) -> Json:
    """Write down what is asked, and what was found of it before.

    Args:
        trainings: that are to be made.
        test: the rows that decide.
        command: that was typed.
        other_model: another one than the recipe's is trained.

    Raises:
        RecipeError: the folder holds the values of other groups or settings, which are named.
        DataError: the file that is there is damaged, or of another version.
    """
    plan, path = trainings.plan, trainings.plan.out / FILE
    refuse_other_kind(plan.out, FILE)
    about: Json = {
        "format": FORMAT,
        "groups": trainings.groups.to_mapping(),
        "model": str(plan.parsed(trainings.design.seeds[0], plan.out)[0][2].model_name_or_path),
        "of_recipe": not other_model,
        "campus": plan.arms[0].campus,
        "test": {
            "path": list(plan.settings.test),
            "digest": test.digest(),
            "items": len(test),
            "domains": dict(sorted(Counter(test.domains).items())),
        },
        "training": {name: value for name, value in plan.training.items() if name not in ("output_dir", "seed")},
        "flags": list(plan.flags),
        "seeds": list(trainings.design.seeds),
        "command": command,
        "found": None,
    }
    about = json.loads(json.dumps(plain(about)))  # as it is in a file, to be compared with one
    if path.exists():
        there = read_shapley(path)
        changed = differences({key: there[key] for key in FIXED}, {key: about[key] for key in FIXED})
        if changed:
            told = "; ".join(f"{name}: {_shown(old)} there and {_shown(new)} now" for name, old, new in changed)
            raise RecipeError(
                f"`--out` must be a new folder or that of the same groups, got {str(plan.out)!r}, which was begun with "
                f"other settings: {told}. Name another folder, or delete this one."
            )
    _write(plan.out, about)
    return about


def end_file(about: Json, walk: CoalitionWalk, trainings: GroupTrainings) -> Json:
    """Write down what was found.

    Args:
        about: as it was begun.
        walk: at its end.
        trainings: that were made.
    """
    found, names, known = walk.shapley(), trainings.groups.names, trainings.known
    low, high = intervals(walk)
    columns = {
        "value": found.values,
        "stderr": found.stderr,
        "by_sequence": found.by_sequence,
        "by_seed": found.by_seed,
        "low": low,
        "high": high,
    }

    def worth(group: int, column: int) -> Json:
        numbers = {name: float(values[group, column]) for name, values in columns.items()}
        return {name: number if np.isfinite(number) else None for name, number in numbers.items()}

    seeds = [trainings.design.seeds[unit.seed] for unit in walk.units]
    before, after = (-np.mean([known[what, seed] for seed in seeds], axis=0) for what in (0, trainings.design.full))
    losses = [{"before": float(b), "after": float(a)} for b, a in zip(before, after, strict=True)]
    values = {
        name: {
            **worth(group, 0),
            "domains": {domain: worth(group, column) for column, domain in enumerate(trainings.domains, 1)},
        }
        for group, name in enumerate(names)
    }
    about = {
        **about,
        "found": {
            "exact": walk.exact,
            "trainings": walk.n_used,
            "sequences": found.n_sequences,
            "truncated": found.n_truncated,
            "loss": losses[0],
            "losses": dict(zip(trainings.domains, losses[1:], strict=True)),
            "values": values,
            "sentences": [],
        },
    }
    about["found"]["sentences"] = sentences(about, found)
    _write(trainings.plan.out, about)
    return about


def read_shapley(path: Path) -> Json:
    """What groups are worth, as it is in a file; `found` is null while it is not known.

    Raises:
        DataError: the file is damaged, of another format, or of another shape.
    """
    return read_stored(path, FORMAT, "say what groups are worth", "delete it: finished trainings are kept", SHAPE)


def sentences(about: Json, found: Shapley) -> list[str]:
    """What is to be said of the values, the answer first.

    Args:
        about: the file's content, values in it.
        found: the values with their errors.
    """
    loss, values = about["found"]["loss"], about["found"]["values"]
    gain = loss["before"] - loss["after"]
    lowers = "lowers" if gain > 0 else "raises"
    shared = f"{loss['before']:.4f} → {loss['after']:.4f}), which is shared out below"
    said = [f"Training on all groups {lowers} the test loss by {abs(gain):.4f} nats per token ({shared}."]
    clear = {
        "lowers": [name for name, one in values.items() if one["low"] is not None and one["low"] > 0],
        "raises": [name for name, one in values.items() if one["high"] is not None and one["high"] < 0],
    }
    for does, names in clear.items():
        if names:
            said.append(f"{', '.join(names)} {does if len(names) == 1 else does[:-1]} it beyond chance.")
    open_ones = [name for name in values if name not in clear["lowers"] and name not in clear["raises"]]
    if len(about["seeds"]) < 2:
        said.append("One seed: how much of this is luck is not known. Give more: --seeds 3")
    elif found.n_sequences == 1:
        said.append("One sequence: how much of this is luck is not known. Give more --trainings.")
    elif open_ones:
        by_seed, by_sequence = (
            float(np.nan_to_num(error[:, 0] ** 2).mean()) for error in (found.by_seed, found.by_sequence)
        )
        more = f"--seeds {2 * len(about['seeds'])}" if by_seed >= by_sequence else "more --trainings"
        which = ", ".join(open_ones) if len(open_ones) <= MOST_NAMED else f"{len(open_ones)} of the groups"
        said.append(f"Whether {which} help or harm is not said: it may be chance. Give {more}.")
    if not about["of_recipe"]:
        said.append(
            f"This is what they are worth to {about['model']}; the recipe's own model was not trained, and may value "
            "them otherwise."
        )
    return said


def _write(out: Path, about: Json) -> None:
    atomic_write(out / FILE, json.dumps(plain(about), indent=1, allow_nan=False) + "\n")


def _shown(value: object) -> str:
    return cut(json.dumps(value), SHOWN, head=SHOWN)
