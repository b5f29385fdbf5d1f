"""What a search's folder says of itself: `search.json`, written anew after each run, so that a killed search goes on.

The losses themselves are in the results of the runs. Here stand the settings, which must be those of the runs that are
there, the trials with what they changed, and at the end what was found.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

from campus_tune.compare.file_shapes import SEARCH
from campus_tune.compare.kinds import SEARCH as FILE
from campus_tune.compare.kinds import refuse_other_kind
from campus_tune.compare.plan import Plan
from campus_tune.compare.result_file import read_stored
from campus_tune.compare.search.sampler import RANDOM, TPE, Sampler
from campus_tune.compare.search.settings import SearchSettings
from campus_tune.compare.search.space import Point, Space
from campus_tune.data.held_out import HeldOut
from campus_tune.run.ledger import plain
from campus_tune.words.errors import RecipeError
from campus_tune.words.files import atomic_write
from campus_tune.words.types import Json
from campus_tune.words.wording import cut, differences

FORMAT = 1
FIXED = ("space", "rows", "seeds", "sampler", "seed", "campus", "training", "flags")
SHOWN = 60  # characters of a setting in a message


class SearchRecord:
    """The file of one search.

    Args:
        plan: of the trials.
        settings: of the search.
        space: that is searched.
        rows: that rank.
        command: that started it.
    """

    def __init__(self, plan: Plan, settings: SearchSettings, space: Space, rows: HeldOut, command: str) -> None:
        self.path, self.space = plan.out / FILE, space
        self._content: Json = {
            "format": FORMAT,
            "space": {name: list(choices) for name, choices in settings.space.items()},
            "rows": {"path": list(settings.rows), "digest": rows.digest(), "items": len(rows)},
            "seeds": settings.seeds,
            "sampler": settings.sampler or RANDOM,
            "seed": settings.seed,
            "campus": space.block,
            "training": {k: v for k, v in plan.training.items() if k not in ("output_dir", "seed")},
            "flags": list(plan.flags),
            "wanted": settings.trials,
            "command": command,
        }

    def begin(self) -> list[Point]:
        """The trials that an earlier start has drawn, in their sequence.

        Raises:
            RecipeError: the folder holds a search with other settings, which are named.
            DataError: the file that is there is damaged, or of another version.
        """
        refuse_other_kind(self.path.parent, FILE)
        if not self.path.exists():
            return []
        there = read_stored(self.path, FORMAT, "say what is searched", "delete it: finished runs are kept", SEARCH)
        now = json.loads(json.dumps(plain(self._content)))  # as it is in a file, to be compared with one
        changed = differences({name: there.get(name) for name in FIXED}, {name: now[name] for name in FIXED})
        if changed:
            listed = "; ".join(
                f"{one.name}: {cut(str(one.there), SHOWN)} there and {cut(str(one.now), SHOWN)} now" for one in changed
            )
            raise RecipeError(
                f"`--out` must be a new folder or that of the same search, got {str(self.path.parent)!r}, which was "
                f"begun with other settings: {listed}. Name another folder, or delete this one."
            )
        return [self.space.point_of(trial["changes"]) for trial in there.get("trials", [])]

    def write(self, **more: object) -> None:
        """Write what is known by now.

        Args:
            more: of it, by name.

        Raises:
            StorageError: it cannot be written.
        """
        self._content |= more
        atomic_write(self.path, json.dumps(plain(self._content), indent=1, allow_nan=False) + "\n")


def sampler_in(folder: Path) -> Sampler:
    """How trials are drawn where the settings do not say: as this folder's search has begun, else as well as can be.

    Raises:
        DataError: the folder's file is damaged, or of another version.
    """
    if (folder / FILE).exists():
        found: Sampler = read_search(folder)["sampler"]
        return found
    return TPE if find_spec("optuna") else RANDOM


def read_search(folder: Path) -> Json:
    """What a search's folder says of it.

    Raises:
        DataError: the file is damaged, or of another version.
    """
    return read_stored(folder / FILE, FORMAT, "say what is searched", "start the search again", SEARCH)
