"""Whose checkpoints are whose: every start and every resume of a run has an id, and the run is the chain of them.

    [("9f…", 0), ("c2…", 40)]       begun at step 0; resumed at step 40 by another life

A checkpoint holds the chain of the life that wrote it. It counts for a run if its chain begins the run's own, and if
the next life did not begin before it: what lies after that is a future that was given up. Nothing on disk has to be
renamed for that, so checkpoints that this run did not write stay what they are.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from campus_tune.run.book_keeping import FILE as BOOK
from campus_tune.run.book_keeping import FOLDER as ROWS
from campus_tune.run.ledger import FILE as LEDGER
from campus_tune.run.stage_visits import FOLDER as VALUE
from campus_tune.run.stream.training_losses import FOLDER as LOSSES
from campus_tune.run.told.dropped_rows import FILE as DROPPED
from campus_tune.run.told.examples import FILE as EXAMPLES
from campus_tune.scores.run_scores import FOLDER as SCORES
from campus_tune.words.errors import ResumeError, TrainerError
from campus_tune.words.json_shapes import misshapen, parse
from campus_tune.words.sealed_json import read_sealed, write_sealed
from campus_tune.words.types import Json

FILE = "lineage.json"  # in the run's `curriculum/`
RECIPE, EVALUATION = "recipe.yaml", "evaluation"  # there too: the settings in full, official tasks by stage
BEST = "best"  # there too: weights that a rule may roll back to
WRITTEN = (LEDGER, RECIPE, SCORES, LOSSES, EVALUATION, EXAMPLES, BOOK, ROWS, DROPPED, BEST, VALUE)  # there, by a run
SHAPE: dict[str, Any] = {"lives": [[str, int]], "earlier": [str]}


@dataclass(frozen=True)
class Lineage:
    """One run, from its first step to its present life.

    Args:
        lives: (id, optimizer steps that were finished when it began), from the run's start on.
        earlier: ids of runs that were begun in this folder before, and given up by beginning this one.
    """

    lives: tuple[tuple[str, int], ...]
    earlier: tuple[str, ...] = ()

    @staticmethod
    def new(before: Lineage | None = None) -> Lineage:
        """A run that begins; in a folder in which there was one `before`, that one is given up."""
        return Lineage(((_id(), 0),), () if before is None else (*before.earlier, before.run))

    @property
    def run(self) -> str:
        """The id of the run: that of its first life."""
        return self.lives[0][0]

    def resumed(self, step: int, before: Lineage | None) -> Lineage:
        """A further life, which begins where a checkpoint of this one was saved.

        Args:
            step: of the checkpoint.
            before: of the run that was in the folder; another one is given up.
        """
        if before is None:
            return replace(self, lives=(*self.lives, (_id(), step)))
        others = [*before.earlier, before.run] if before.run != self.run else before.earlier
        earlier = tuple(dict.fromkeys([*self.earlier, *others]))
        return Lineage((*self.lives, (_id(), step)), earlier)

    def why_not(self, saved: Lineage, step: int) -> tuple[str, bool] | None:
        """Why a checkpoint does not count in this run, and whether that is damage; None if it counts.

        Args:
            saved: the chain that the checkpoint holds.
            step: after which it was saved.
        """
        if saved.run != self.run:
            if saved.run in self.earlier:
                return "its run was given up: another one was begun here since", False
            return "it is of another run than the curriculum/ folder beside it", True
        shared = sum(1 for ours, theirs in zip(self.lives, saved.lives, strict=False) if ours == theirs)
        if shared == len(self.lives) < len(saved.lives):
            return f"it is newer than curriculum/{FILE} beside it, which is of an earlier life of this run", True
        if shared < len(saved.lives) or (shared < len(self.lives) and self.lives[shared][1] < step):
            return f"its run was given up: it was resumed from step {self.lives[shared][1]} since", False
        return None

    def to_json(self) -> Json:
        """As files hold it."""
        return {"lives": [list(life) for life in self.lives], "earlier": list(self.earlier)}

    @staticmethod
    def from_json(value: Json) -> Lineage:
        """What `to_json` gave: of the shape `SHAPE`."""
        lives = tuple((name, step) for name, step in value["lives"])
        if not lives:
            raise ValueError("it has no life")
        return Lineage(lives, tuple(value["earlier"]))


def write_lineage(folder: Path, lineage: Lineage) -> None:
    """Write down whose folder it is."""
    write_sealed(folder / FILE, lineage.to_json())


def read_lineage(folder: Path) -> Lineage | None:
    """Whose folder it is; None where no run has begun in it.

    Raises:
        ResumeError: the file is damaged.
    """
    try:
        found = read_sealed(folder / FILE)
        if problem := misshapen(found, SHAPE):
            raise ValueError(problem)
        return Lineage.from_json(found)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ResumeError(
            f"`{folder / FILE}` must say which checkpoints are this run's, got a file that is damaged ({error}). "
            "Put the run's curriculum/ folder back as it was; to give the run up, delete the file, and start anew "
            "without resuming."
        ) from error


def refuse_strange_folder(folder: Path) -> None:
    """A run writes only into a folder in which a run has begun, or in which nothing is in its way.

    Raises:
        TrainerError: something else wrote what is there.
    """
    there = [name for name in WRITTEN if (folder / name).exists()]
    if there and not (folder / FILE).exists() and not _is_ledger(folder / LEDGER):
        raise TrainerError(
            f"`output_dir` must have no {folder.name}/ of something else, got {', '.join(there)} in {str(folder)!r}, "
            "which no run wrote: it would be written over. Choose another output_dir, or rename that folder."
        )


def _is_ledger(path: Path) -> bool:
    """Whether a run has begun to write this file."""
    try:
        with path.open("rb") as file:
            line = file.readline()
        return not line or "event" in parse(line.decode("utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _id() -> str:
    return secrets.token_hex(8)
