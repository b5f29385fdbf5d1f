"""Which checkpoints count: those of this run that are whole, file by file and on every rank.

A checkpoint counts when its record (`manifest`) is sealed, its run is this one (`lineage`), and every file of it and
of the run's folder that a resume reads is as it was when it was saved. All others stay as they are on the disk, and
a resume says why it takes none of them.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from campus_tune.model.peers import Peers
from campus_tune.run.answer_groups import FOLDER as GROUPS
from campus_tune.run.ledger import FILE as LEDGER
from campus_tune.run.lineage import BEST, Lineage, read_lineage
from campus_tune.run.lineage import FILE as LINEAGE
from campus_tune.run.manifest import (
    FILE,
    Manifest,
    damaged_outcome,
    names_in,
    read_manifest,
    what_is_wrong,
    wrong_of_rank,
)
from campus_tune.run.stage_visits import FOLDER as VALUE
from campus_tune.run.stream.training_losses import FOLDER as LOSSES
from campus_tune.run.told.dropped_rows import FILE as DROPPED
from campus_tune.run.told.examples import FILE as EXAMPLES
from campus_tune.scores.run_scores import FOLDER as SCORES
from campus_tune.words.console import say
from campus_tune.words.errors import NoCheckpointError, ResumeError
from campus_tune.words.json_shapes import misshapen, read_json
from campus_tune.words.types import Json

STATE = "trainer_state.json"
CALLBACK = "CampusCallback"  # its name in the trainer's state
NAME = re.compile(r"^checkpoint-(\d+)$")
INTERRUPTED = "its save was interrupted"
# of a run's folder, when it goes on in another one
BRING = (LEDGER, SCORES, LOSSES, EXAMPLES, DROPPED, BEST, VALUE, GROUPS)


@dataclass(frozen=True)
class Checkpoint:
    """One that can be resumed.

    Args:
        path: of its folder.
        home: the folder of the run that wrote it, with its ledger and scores.
        lineage: that run; its present life is the one that wrote the checkpoint.
    """

    path: Path
    home: Path
    lineage: Lineage


@dataclass(frozen=True)
class Unfit:
    """Why a checkpoint cannot be resumed.

    Args:
        reason: in words.
        damaged: it was whole once, and is of this run: to start anew instead would throw the run away.
    """

    reason: str
    damaged: bool = False


def last_complete(output_dir: Path, folder: Path, peers: Peers) -> Checkpoint | None:
    """The newest checkpoint of this run that is whole; None when there is none, and the run starts anew.

    The trainer's own search takes the highest number, whatever is missing and whoever wrote it. Ours says what it
    skips.

    Args:
        output_dir: of the trainer.
        folder: of the run in it.
        peers: ranks; every one calls it and gets the same answer.

    Raises:
        ResumeError: there are checkpoints of this run and all of them are damaged, or a rank cannot see what rank 0
            sees.
    """
    damaged = []
    for name in peers.led(lambda: [path.name for _, path in reversed(checkpoints_in(output_dir))]):
        found = examine(output_dir / name, folder, peers)
        if isinstance(found, Checkpoint):
            return found
        if found.damaged:
            damaged.append(f"{name}: {found.reason}")
        if peers.leads:
            say(f"skipping {name}: {found.reason}")
    if damaged:
        raise ResumeError(
            f"`resume_from_checkpoint` must find a whole checkpoint of this run, got {'; '.join(damaged)}. Put the "
            "run's curriculum/ folder back beside its checkpoints, or the files named from a copy, or start anew "
            "without resuming."
        )
    if peers.leads:
        say("no complete checkpoint to resume from: starting at the first step")
    return None


def named(checkpoint: Path, folder: Path, peers: Peers) -> Checkpoint:
    """A checkpoint named by its path; it must be whole: the trainer would take what is there and start the rest anew.

    Args:
        checkpoint: the path.
        folder: of this run; a checkpoint that has its own run's folder beside it is judged by that.
        peers: ranks; every one calls it.

    Raises:
        NoCheckpointError: there is none of this name.
        ResumeError: it is not whole, or of another run, or a rank cannot see it.
    """
    if not peers.led(checkpoint.is_dir):
        beside = ", ".join(path.name for _, path in checkpoints_in(checkpoint.parent))
        known = f"In {checkpoint.parent} there is {beside}: name one of these" if beside else "Correct the path"
        raise NoCheckpointError(
            f"`resume_from_checkpoint` must be a checkpoint's folder, got {str(checkpoint)!r}, which is not there. "
            f"{known}, write resume_from_checkpoint=True, which finds the last complete one of output_dir, or start "
            "anew without resuming."
        )
    near = checkpoint.resolve().parent / folder.name
    home = near if peers.led(lambda: (near / LEDGER).exists()) else folder
    found = examine(checkpoint, home, peers)
    if isinstance(found, Checkpoint):
        return found
    match, instead = NAME.match(checkpoint.name), "Name another one"
    step = int(match[1]) if match else 0
    for before in peers.led(lambda: [path for n, path in reversed(checkpoints_in(checkpoint.parent)) if n < step]):
        if isinstance(examine(before, home, peers), Checkpoint):
            instead = f"Name {before.name}, the newest before it that is whole"
            break
    raise ResumeError(
        f"`resume_from_checkpoint` must be a checkpoint that was saved to its end, got {str(checkpoint)!r}: "
        f"{found.reason}. {instead}, or write resume_from_checkpoint=True, which finds the last complete one; or start "
        "anew without resuming."
    )


def examine(checkpoint: Path, home: Path, peers: Peers) -> Checkpoint | Unfit:
    """Whether a checkpoint can be resumed; every rank calls it.

    Raises:
        ResumeError: a rank cannot see it, though rank 0 can; or the run's folder does not say whose it is.
    """
    manifest, unfit = peers.led(lambda: _judge(checkpoint, home))
    if unfit is not None:
        return unfit
    assert manifest is not None
    blind = [rank for rank, sees in enumerate(peers.gather((checkpoint / STATE).exists())) if not sees]
    if blind:
        raise ResumeError(
            f"`{checkpoint}` must be readable by every process, got none on rank {', '.join(map(str, blind))}: each "
            "loads the weights itself. Put output_dir on storage that all machines share, or copy the checkpoint there."
        )
    if manifest.world == peers.world > 1:
        for rank, wrong in enumerate(peers.gather(wrong_of_rank(checkpoint, manifest, peers.rank))):
            if wrong is not None:
                return Unfit(f"{wrong} (of rank {rank})", damaged=True)
    if peers.leads:
        for wrong in damaged_outcome(manifest, home):
            say(f"warning: {wrong}. No resume needs it; the report will lack it")
    return Checkpoint(checkpoint, home, manifest.lineage)


def _judge(checkpoint: Path, home: Path) -> tuple[Manifest | None, Unfit | None]:
    """What rank 0 sees."""
    try:
        manifest = read_manifest(checkpoint)
    except ValueError as error:
        return None, Unfit(str(error), damaged=True)
    if manifest is None:
        return None, _without_record(checkpoint)
    if manifest.files is None:
        return None, Unfit(f"{INTERRUPTED} ({FILE} was begun and not sealed)")
    lineage = read_lineage(home)
    if lineage is None:
        return None, Unfit(f"{home / LINEAGE}, which says whose checkpoints these are, is missing", damaged=True)
    why_not = lineage.why_not(manifest.lineage, manifest.step)
    if why_not is not None:
        return None, Unfit(*why_not)
    wrong = what_is_wrong(checkpoint, manifest, home)
    return manifest, None if wrong is None else Unfit(wrong, damaged=True)


def _without_record(checkpoint: Path) -> Unfit:
    if not checkpoint.is_dir():
        return Unfit("there is no such folder")
    if is_ours(checkpoint):
        return Unfit(f"{FILE} is missing, with its files' hashes (an earlier campus_tune wrote none)", damaged=True)
    if read_state(checkpoint) is None:
        return Unfit(f"{INTERRUPTED} ({STATE} is missing or cut off)")
    return Unfit("it is not of this run: it was written without a curriculum")


def is_ours(checkpoint: Path) -> bool:
    """Whether this tool wrote a checkpoint, in whatever run."""
    return (checkpoint / FILE).exists() or bool(saved_curriculum(read_state(checkpoint) or {}))


def is_strange(checkpoint: Path) -> bool:
    """Whether somebody else has written into a checkpoint's folder; one that is empty is nobody's."""
    return not is_ours(checkpoint) and bool(names_in(checkpoint))


def read_state(checkpoint: Path) -> Json | None:
    """The trainer's state, which is written last; None where it is missing or cut off."""
    try:
        state: Json = read_json(checkpoint / STATE, {})
    except (OSError, ValueError):
        return None
    return state


def saved_curriculum(state: Json) -> Json:
    """What a trainer's state holds of the curriculum; {} when it was written without one."""
    shape: Json = {"stateful_callbacks": {CALLBACK: {"attributes": {"curriculum": {}}}}}
    if misshapen(state, shape) is not None:
        return {}
    curriculum: Json = state["stateful_callbacks"][CALLBACK]["attributes"]["curriculum"]
    return curriculum


def bring_curriculum(source: Path, folder: Path, put_aside: Callable[[], object]) -> None:
    """Resuming from another output_dir: what was decided and scored there is copied here and goes on here.

    Args:
        source: `curriculum/` beside the checkpoint that is resumed.
        folder: `curriculum/` in this run's output_dir.
        put_aside: keeps what an earlier run left in it.
    """
    if source.resolve() == folder.resolve():
        return
    put_aside()
    for name in BRING:
        if (source / name).is_dir():
            shutil.copytree(source / name, folder / name, dirs_exist_ok=True)
        elif (source / name).exists():
            shutil.copyfile(source / name, folder / name)
    say(f"resuming from another folder: its ledger and scores are copied to {folder}")


def kept_for_checkpoints(output_dir: Path, folder: str) -> set[str]:
    """Names of files that a checkpoint on the disk needs of a folder in the run's own.

    Args:
        output_dir: of the run.
        folder: in its `curriculum/`.
    """
    needed: set[str] = set()
    for _, checkpoint in checkpoints_in(output_dir):
        try:
            manifest = read_manifest(checkpoint)
        except ValueError:  # it does not count
            continue
        beside = {} if manifest is None else manifest.beside
        needed |= {name.removeprefix(f"{folder}/") for name in beside if name.startswith(f"{folder}/")}
    return needed


def checkpoints_in(output_dir: Path) -> list[tuple[int, Path]]:
    """(step, folder) of all checkpoints, complete or not, by step."""
    return sorted(
        (int(match[1]), path)
        for path in (output_dir.iterdir() if output_dir.is_dir() else [])
        if (match := NAME.match(path.name)) and path.is_dir()
    )
