"""Which checkpoints count: those of this run that are whole on every rank.

Rank 0 writes the trainer's state last of what it writes; the random states are each rank's own, and a job that is
killed may have one and not the other.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path

from campus_tune.errors import ResumeError
from campus_tune.integrations import console
from campus_tune.integrations.peers import Peers
from campus_tune.ledger import FILE, Ledger
from campus_tune.types import Json

STATE = "trainer_state.json"
GIVEN_UP = "trainer_state.given_up.json"
CALLBACK = "CampusCallback"  # its name in the trainer's state
NAME = re.compile(r"^checkpoint-(\d+)$")


def last_complete(output_dir: Path, peers: Peers) -> str | None:
    """The newest checkpoint that was saved to its end; None when there is none, and the run starts anew.

    The trainer's own search takes the highest number, also of a save that was interrupted. Ours says what it skips.

    Args:
        output_dir: of the trainer.
        peers: ranks; every one calls it and gets the same answer.

    Raises:
        ResumeError: a rank cannot see what rank 0 sees.
    """
    for name in peers.led(lambda: [path.name for _, path in reversed(_checkpoints(output_dir))]):
        reason = _unfit(output_dir / name, peers)
        if reason is None:
            return str(output_dir / name)
        if peers.leads:
            console.say(f"skipping {name}: {reason}")
    if peers.leads:
        console.say("no complete checkpoint to resume from: starting at the first step")
    return None


def refuse_incomplete(checkpoint: Path, peers: Peers) -> None:
    """A checkpoint named by its path must be whole: the trainer would load its weights and start at step 0.

    Raises:
        ResumeError: its trainer state is missing or cut off, or a rank's random state, or a rank cannot see it.
    """
    reason = _unfit(checkpoint, peers)
    if reason is not None:
        raise ResumeError(
            f"`resume_from_checkpoint` must be a checkpoint that was saved to its end, got {str(checkpoint)!r}: "
            f"{reason}. Name an earlier one, or write resume_from_checkpoint=True, which finds the last complete one."
        )


def _unfit(checkpoint: Path, peers: Peers) -> str | None:
    """Why a checkpoint cannot be resumed; None if it can.

    Raises:
        ResumeError: a rank cannot see it, though rank 0 can.
    """
    state = peers.led(lambda: read_state(checkpoint))
    if state is None:
        given_up = not (checkpoint / STATE).exists() and (checkpoint / GIVEN_UP).exists()
        return peers.from_leader(
            "its run was given up" if given_up else f"its save was interrupted ({STATE} is missing or cut off)"
        )
    blind = [rank for rank, sees in enumerate(peers.gather((checkpoint / STATE).exists())) if not sees]
    if blind:
        raise ResumeError(
            f"`{checkpoint}` must be readable by every process, got none on rank {', '.join(map(str, blind))}: each "
            "loads the weights itself. Put output_dir on storage that all machines share, or copy the checkpoint there."
        )
    damaged = peers.gather(_random_state_is_damaged(checkpoint, state, peers))
    lost = [rank for rank, is_damaged in enumerate(damaged) if is_damaged]
    if lost:
        return f"its save was interrupted (the random state of rank {', '.join(map(str, lost))} is missing or cut off)"
    return None


def _random_state_is_damaged(checkpoint: Path, state: Json, peers: Peers) -> bool:
    """Whether this rank's random state should be there and is not whole; on other ranks than before none is needed."""
    batch = saved_curriculum(state).get("identity", {}).get("batch", {})
    if peers.world == 1 or batch.get("world") != peers.world:
        return False
    if not any(checkpoint.glob("rng_state_*.pth")):
        return False  # save_only_model
    return not zipfile.is_zipfile(checkpoint / f"rng_state_{peers.rank}.pth")


def read_state(checkpoint: Path) -> Json | None:
    """The trainer's state, which is written last; None where it is missing or cut off."""
    try:
        state: Json = json.loads((checkpoint / STATE).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return state


def saved_curriculum(state: Json) -> Json:
    """What a trainer's state holds of the curriculum; {} when it was written without one."""
    saved = state.get("stateful_callbacks", {}).get(CALLBACK) or {}
    curriculum: Json = saved.get("attributes", {}).get("curriculum") or {}
    return curriculum


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
