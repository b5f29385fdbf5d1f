"""Saves of a run, from before the trainer writes a checkpoint to the moment from which it counts.

    begin      the folder is ours to write into, what an earlier save left in it goes, `campus_files.json` says "begun"
    (trainer)  weights, optimizer, scheduler, random states, its state
    seal       when the next step begins, and callbacks have put into it and taken out of it what they like: a thread
               hashes every file and seals the record; only then are older checkpoints deleted

Hashing takes a second for each one or two gigabytes, beside the training. It is over before the next save begins and
before the run ends. A process that is killed meanwhile leaves a checkpoint that does not count, and the one before it:
`save_total_limit` is obeyed after the sealing, not before, so there is always one that counts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from campus_tune.model import compat
from campus_tune.model.peers import Peers
from campus_tune.run.checkpoints import STATE, checkpoints_in, is_ours, is_strange
from campus_tune.run.lineage import Lineage, read_lineage, write_lineage
from campus_tune.run.manifest import (
    Beside,
    Files,
    Manifest,
    hash_files,
    is_read_on_resume,
    names_in,
    names_of_rank,
    read_manifest,
)
from campus_tune.words.console import say
from campus_tune.words.errors import StorageError, TrainerError
from campus_tune.words.hashing import hash_file

if TYPE_CHECKING:
    from transformers import Trainer


class Saver:
    """What a trainer's saves need besides the trainer.

    Args:
        trainer: whose checkpoints are recorded.
        peers: ranks; the leader writes the record.
        folder: of the run, in its output_dir.
        beside: asks which files in it belong to a checkpoint that is being saved.
        add_seconds: told how long a record took.
    """

    def __init__(
        self,
        trainer: Trainer,
        peers: Peers,
        folder: Path,
        beside: Callable[[], Beside],
        add_seconds: Callable[[float], object],
    ) -> None:
        self.trainer, self.peers, self.folder = trainer, peers, folder
        self.beside, self.add_seconds = beside, add_seconds
        self.lineage: Lineage | None = None  # on the leader
        self.source: Lineage | None = None  # of the checkpoint that is resumed
        self._limit: int | None = None  # of checkpoints, while it is held back
        self.inside = self._held = False  # a checkpoint is being written; the limit is held back
        self._saved: tuple[Path, Manifest, Files, Beside, str | None] | None = None  # and not sealed yet
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._seconds = 0.0

    # -- whose checkpoints these are -------------------------------------------------------------------------------

    def refuse_strangers(self, step: int, last: int) -> None:
        """A run that saves must find no checkpoint of another trainer where its own will be written.

        Args:
            step: optimizer steps finished; the run saves after later ones.
            last: step of the run.

        Raises:
            TrainerError: there is one.
        """
        self.peers.led(partial(self._refuse_strangers, step, last))

    def _refuse_strangers(self, step: int, last: int) -> None:
        if not compat.saves(self.trainer):
            return
        output_dir = Path(str(self.trainer.args.output_dir))
        there = [path for number, path in checkpoints_in(output_dir) if step < number <= last and is_strange(path)]
        if there:
            raise _stranger(", ".join(path.name for path in there), output_dir)

    def start(self) -> None:
        """A new run begins in the folder: on the leader, before anything else of it is written."""
        before = read_lineage(self.folder)
        self.lineage = Lineage.new(before)
        self._begin_life(0)

    def go_on(self, step: int) -> None:
        """The run goes on from the checkpoint of `step`: on the leader, once nothing can refuse it any more."""
        assert self.source is not None
        self.lineage = self.source.resumed(step, read_lineage(self.folder))
        self._begin_life(step)

    def _begin_life(self, step: int) -> None:
        assert self.lineage is not None
        write_lineage(self.folder, self.lineage)
        there = checkpoints_in(Path(str(self.trainer.args.output_dir)))
        later = [path.name for number, path in there if number > step and is_ours(path)]
        if later:
            say(
                f"{', '.join(later)} no longer count: this run begins at step {step} and will write its own (they "
                "stay as they are until then)"
            )

    # -- one save --------------------------------------------------------------------------------------------------

    @contextmanager
    def saving(self, checkpoint: Path) -> Iterator[None]:
        """Around the trainer's writing of one checkpoint; every rank calls it.

        Raises:
            TrainerError: a checkpoint of another trainer is in its place.
            StorageError: the one before could not be recorded, or this one cannot be written.
        """
        self.settle()
        self.peers.led(partial(self._begin, checkpoint))
        self.inside = True
        try:
            yield
        finally:
            self.inside = False
            if self._held:
                self.trainer.args.save_total_limit, self._held = self._limit, False

        # All ranks have written their parts: what was known when it was saved is kept for its record.
        own = names_of_rank(self.peers.rank) if self.peers.world > 1 else []
        mine = {name: hash_file(checkpoint / name) for name in own if (checkpoint / name).exists()}
        states = {name: known for files in self.peers.gather(mine) for name, known in files.items()}
        if self.lineage is not None:
            manifest = Manifest(self.lineage, self.trainer.state.global_step, self.peers.world)
            self._saved = (checkpoint, manifest, states, self.beside(), self.trainer.state.best_model_checkpoint)

    def hold_rotation(self) -> None:
        """No older checkpoint is deleted until the new one counts.

        Called when the trainer asks for the state that it will save: after it has written its arguments, which are to
        say what the user wrote, and before it deletes.
        """
        if self.inside and self.lineage is not None and not self._held:
            self._limit, self._held = self.trainer.args.save_total_limit, True
            self.trainer.args.save_total_limit = None

    def seal(self) -> None:
        """Begin to record the last checkpoint, if that has not begun: nobody changes it any more."""
        if self._saved is not None:
            self._thread = threading.Thread(target=self._seal, args=self._saved, daemon=True, name="campus checkpoint")
            self._saved = None
            self._thread.start()

    def settle(self) -> None:
        """Wait until the last checkpoint counts.

        Raises:
            StorageError: it could not be recorded.
        """
        self.seal()
        if self._thread is None:
            return
        self._thread.join()
        self._thread = None
        self.add_seconds(self._seconds)
        error, self._error = self._error, None
        if error is not None:
            raise StorageError(
                f"the record of a checkpoint must be writable, got {error}. Free space or mend the folder's rights, "
                "then resume: the checkpoint before it counts."
            ) from error

    def _begin(self, checkpoint: Path) -> None:
        if self.lineage is None:  # the trainer saves without having trained
            return
        if is_strange(checkpoint):
            raise _stranger(checkpoint.name, checkpoint.parent)
        # What an earlier save of this tool left in the folder; what others put beside it stays.
        try:
            earlier = read_manifest(checkpoint)
        except ValueError:
            earlier = None
        known = set((earlier.files if earlier is not None else None) or {})
        there = names_in(checkpoint)
        leftovers = [name for name in there if name in known or is_read_on_resume(name) or name == STATE]
        Manifest(self.lineage, self.trainer.state.global_step).write(checkpoint)  # first: from here on it is ours
        for name in leftovers:
            (checkpoint / name).unlink()
        for folder in sorted((path for path in checkpoint.rglob("*") if path.is_dir()), reverse=True):
            if not any(folder.iterdir()):  # it held only leftovers; the innermost first
                folder.rmdir()

    def _seal(self, checkpoint: Path, manifest: Manifest, states: Files, beside: Beside, best: str | None) -> None:
        began = time.perf_counter()
        try:
            if (checkpoint / STATE).exists():  # else a callback has moved it away
                names = [name for name in names_in(checkpoint) if name not in states]
                ledger = {beside.ledger: beside.ledger_size} if beside.ledger else {}
                replace(
                    manifest,
                    files={**hash_files(checkpoint, names), **states},
                    beside=hash_files(self.folder, [*ledger, *beside.needed], ledger),
                    outcome=hash_files(self.folder, beside.outcome),
                    ledger=beside.ledger,
                ).write(checkpoint)
            compat.delete_old_checkpoints(self.trainer, checkpoint.parent, best)
        except Exception as error:  # raised by `settle`, in the thread that trains
            self._error = error
        self._seconds = time.perf_counter() - began


def _stranger(names: str, folder: Path) -> TrainerError:
    return TrainerError(
        f"`output_dir` must hold no checkpoint of another trainer where this run writes its own, got {names} in "
        f"{str(folder)!r}, written without a curriculum. Choose another output_dir, or remove them."
    )
