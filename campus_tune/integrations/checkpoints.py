"""Which checkpoints count: those whose trainer state is whole, which the trainer writes last."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path

from campus_tune.integrations import console

STATE = "trainer_state.json"
NAME = re.compile(r"^checkpoint-(\d+)$")


def last_complete(output_dir: Path) -> str | None:
    """The newest checkpoint that was saved to its end; None when there is none, and the run starts anew.

    The trainer's own search takes the highest number, also of a save that was interrupted. Ours says what it skips.
    """
    found = sorted(
        (int(match[1]), path)
        for path in (output_dir.iterdir() if output_dir.is_dir() else [])
        if (match := NAME.match(path.name)) and path.is_dir()
    )
    for _, path in reversed(found):
        if is_complete(path):
            return str(path)
        console.say(f"skipping {path.name}: its save was interrupted")
    console.say("no complete checkpoint to resume from: starting at the first step")
    return None


def is_complete(checkpoint: Path) -> bool:
    """The trainer state, written last, is there and whole."""
    try:
        json.loads((checkpoint / STATE).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return True


def forget_stale(output_dir: Path, step: int) -> None:
    """Before a checkpoint is written over an older one of the same name: it no longer counts as complete.

    Else a save that is interrupted half-way would leave a mixture of two runs that looks whole.
    """
    with suppress(FileNotFoundError):
        (output_dir / f"checkpoint-{step}" / STATE).unlink()
