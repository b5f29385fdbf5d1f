"""Which checkpoints count: those of this run whose trainer state is whole, which the trainer writes last."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from campus_tune.errors import ResumeError
from campus_tune.integrations import console
from campus_tune.ledger import FILE, Ledger

STATE = "trainer_state.json"
GIVEN_UP = "trainer_state.given_up.json"
NAME = re.compile(r"^checkpoint-(\d+)$")


def last_complete(output_dir: Path, *, speaks: bool = True) -> str | None:
    """The newest checkpoint that was saved to its end; None when there is none, and the run starts anew.

    The trainer's own search takes the highest number, also of a save that was interrupted. Ours says what it skips.

    Args:
        output_dir: of the trainer.
        speaks: this process is the one that says it.
    """
    say = console.say if speaks else _nothing
    for _, path in reversed(_checkpoints(output_dir)):
        if is_complete(path):
            return str(path)
        given_up = not (path / STATE).exists() and (path / GIVEN_UP).exists()
        say(f"skipping {path.name}: {'its run was given up' if given_up else 'its save was interrupted'}")
    say("no complete checkpoint to resume from: starting at the first step")
    return None


def _nothing(line: str) -> None:
    """What a process says that does not speak."""


def is_complete(checkpoint: Path) -> bool:
    """The trainer state, written last, is there and whole."""
    try:
        json.loads((checkpoint / STATE).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return True


def refuse_incomplete(checkpoint: Path) -> None:
    """A checkpoint named by its path must be whole: the trainer would load its weights and start at step 0.

    Raises:
        ResumeError: its trainer state is missing or cut off.
    """
    if not is_complete(checkpoint):
        raise ResumeError(
            f"`resume_from_checkpoint` must be a checkpoint that was saved to its end, got {str(checkpoint)!r}, whose "
            f"{STATE} is missing or cut off. Name an earlier one, or write resume_from_checkpoint=True, which finds "
            "the last complete one."
        )


def give_up_later(output_dir: Path, step: int) -> None:
    """From here on the run writes its own checkpoints after `step`: those that are there no longer count.

    They are of an earlier run in this folder, or of a future that was given up by resuming before it. Else the next
    resume would take one of them, or a save that is interrupted while it is written over one would leave a mixture
    of two runs that looks whole. Their weights stay; their trainer state is renamed.
    """
    later = [path for number, path in _checkpoints(output_dir) if number > step and (path / STATE).exists()]
    for path in later:
        (path / STATE).replace(path / GIVEN_UP)
    if later:
        console.say(
            f"{', '.join(path.name for path in later)} no longer count: this run begins at step {step} and will write "
            f"its own (their {STATE} is now {GIVEN_UP})"
        )


def bring_curriculum(checkpoint: Path, folder: Path) -> None:
    """Resuming from another output_dir: what was decided and scored there is copied here and goes on here.

    Args:
        checkpoint: that is resumed.
        folder: `curriculum/` in this run's output_dir; a ledger in it is kept under the next free number.
    """
    source = checkpoint.resolve().parent / folder.name
    if source == folder.resolve() or not (source / FILE).exists():
        return
    Ledger(folder).start()
    shutil.copyfile(source / FILE, folder / FILE)
    if (source / "scores").is_dir():
        shutil.copytree(source / "scores", folder / "scores", dirs_exist_ok=True)
    console.say(f"resuming from another folder: its ledger and scores are copied to {folder}")


def _checkpoints(output_dir: Path) -> list[tuple[int, Path]]:
    """(step, folder) of all checkpoints, complete or not, by step."""
    return sorted(
        (int(match[1]), path)
        for path in (output_dir.iterdir() if output_dir.is_dir() else [])
        if (match := NAME.match(path.name)) and path.is_dir()
    )
