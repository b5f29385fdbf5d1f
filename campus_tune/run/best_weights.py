"""Best weights: what a `rollback` goes back to, kept at each measurement of the probes that is the best so far.

    noted       after a measurement, before the rules look at it: rank 0 writes weights and moments, if it is the best
    roll_back   they are copied back, bit for bit, on every rank

Time is not rewound: step, learning rate, plan, ledger and a gradient scaler go on. Which measurement is the best is
said by the mean loss of all domains, and is a function of the history; that of a tie is the earlier one.

Files stay as long as this run, or a checkpoint on the disk, may come back to them. So a run that is killed after a
better measurement, and resumed from a checkpoint before it, rolls back to what was the best then.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from campus_tune.method.probe_history import ProbeHistory
from campus_tune.method.rules import Rule
from campus_tune.model.moments import INSTEAD, Snapshot, TrainedWeights
from campus_tune.model.peers import Peers
from campus_tune.run.best_files import names_of, prune, read_snapshot, write_snapshot
from campus_tune.run.checkpoints import kept_for_checkpoints
from campus_tune.run.lineage import BEST
from campus_tune.run.manifest import Files, hash_files
from campus_tune.words.errors import ResumeError, TrainerError
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from transformers import Trainer

GB = 1e9
MOST_BYTES = 2 * GB  # of weights and moments, where all weights are trained: each best measurement writes them
ROOM = 2  # times what is kept, that must be free: the new files are there before the old ones go


@dataclass(frozen=True)
class Kept:
    """Which measurement's weights are kept.

    Args:
        measurement: its index.
        step: optimizer steps finished at it.
        loss: mean over the domains of the probes, nats per token.
        files: in `curriculum/best/`, the weights' first, with size and SHA-256.
    """

    measurement: int
    step: int
    loss: float
    files: Files

    def line(self) -> Json:
        """It without the files, for the ledger."""
        return {"measurement": self.measurement, "step": self.step, "loss": self.loss}


class BestWeights:
    """The weights of the best measurement of one run.

    Args:
        weights: of its model, and their moments.
        peers: ranks.
        folder: of the run, on rank 0's disk.
    """

    def __init__(self, weights: TrainedWeights, peers: Peers, folder: Path) -> None:
        self.peers, self.folder = peers, folder / BEST
        self.seconds = 0.0  # of keeping and rolling back, so far in this life
        self._weights = weights
        self._kept: Kept | None = None
        self._saved: set[str] = set()  # what the last checkpoint needs, whose record may not be sealed yet

    @staticmethod
    def of(trainer: Trainer, rules: Sequence[Rule], peers: Peers, folder: Path) -> BestWeights | None:
        """Those of a trainer whose optimizer is made; None where no rule rolls back. Every rank calls it.

        Args:
            trainer: that is trained.
            rules: of its recipe.
            peers: ranks.
            folder: of the run.

        Raises:
            TrainerError: weights and moments that cannot be kept: FSDP, ZeRO, too large, no room on the disk.
        """
        if not any("rollback" in rule.then for rule in rules):
            return None
        weights = TrainedWeights(trainer)
        n_bytes = weights.n_bytes()
        if not weights.adapter and n_bytes > MOST_BYTES:
            raise TrainerError(
                f"`rollback` must keep at most {MOST_BYTES / GB:g} GB of weights and moments where all weights are "
                f"trained, got about {n_bytes / GB:.1f} GB. Train a LoRA (use_peft: true), {INSTEAD}."
            )
        peers.led(lambda: _refuse_full(folder, ROOM * n_bytes))
        return BestWeights(weights, peers, folder)

    def noted(self, measured: ProbeHistory, shares: Mapping[str, float]) -> Json | None:
        """Keep the weights as they are now, if the newest measurement is the best so far. Every rank calls it.

        Args:
            measured: all measurements; the newest is of these weights.
            shares: how much each domain counts.

        Returns:
            Which measurement is kept from now on; None where the one before stays.

        Raises:
            StorageError: they cannot be written.
            TrainerError: the optimizer holds what cannot be kept.
        """
        loss = measured.mean_loss(shares).value
        if not self._is_best(loss, measured, shares):
            return None
        began, index = time.perf_counter(), len(measured) - 1

        def keep() -> Files:
            return write_snapshot(self.folder, index, self._weights.take())

        self._kept = Kept(index, measured.last.step, loss, self.peers.led(keep))
        self.tidy()
        self.seconds += time.perf_counter() - began
        return self._kept.line()

    def roll_back(self) -> Json:
        """Weights and moments become those of the best measurement. Every rank calls it, after `noted`.

        Returns:
            Which one that is.

        Raises:
            StorageError: they cannot be read, or are no longer as they were written.
            TrainerError: other weights are trained now.
        """
        kept = self._kept
        assert kept is not None, "a rule fires at a measurement, and one is kept from the first on"
        began = time.perf_counter()
        found: list[Snapshot] = []
        self.peers.led(lambda: found.append(read_snapshot(self.folder, kept.files)))
        self._weights.put(found[0] if found else None, self.peers)
        self.seconds += time.perf_counter() - began
        return kept.line()

    def tidy(self) -> None:
        """Remove what neither this run nor a checkpoint on the disk may come back to; also when training has ended."""
        if self.peers.leads:
            prune(self.folder, self._needed())

    def files(self) -> list[str]:
        """Of the run's folder: what a checkpoint that is saved now needs."""
        names = list(self._kept.files) if self._kept is not None else []
        self._saved = set(names)
        return [f"{BEST}/{name}" for name in names]

    def state(self) -> Json:
        """Which measurement is kept, with the digests of its files, as JSON; {} before the first."""
        if self._kept is None:
            return {}
        return {**self._kept.line(), "files": {name: list(known) for name, known in self._kept.files.items()}}

    def load(self, state: Json, home: Path) -> None:
        """Go on from `state()`. Every rank calls it.

        Args:
            state: of a checkpoint.
            home: the folder of the run that wrote it, on rank 0's disk.

        Raises:
            ResumeError: the files are missing there, or are no longer as they were.
        """
        if not state:
            return
        names = names_of(state["measurement"])  # in this sequence, which JSON may have changed
        files: Files = {name: (state["files"][name][0], state["files"][name][1]) for name in names}
        self.peers.led(lambda: _refuse_damaged(home / BEST, files))
        self._kept = Kept(state["measurement"], state["step"], state["loss"], files)
        self._saved = set(files)

    def _is_best(self, loss: float, measured: ProbeHistory, shares: Mapping[str, float]) -> bool:
        """Whether the newest measurement is better than the one that is kept, by the same shares."""
        kept = self._kept
        if kept is None or not shares.keys() <= measured.measurements[kept.measurement].loss.keys():
            return True  # there are other probes now
        before = measured.mean_loss(shares, kept.measurement).value
        return math.isfinite(loss) and not before <= loss  # one that is no number is worse than any

    def _needed(self) -> set[str]:
        """Files that this run or a checkpoint on the disk may come back to."""
        kept = self._kept.files if self._kept is not None else ()
        return {*self._saved, *kept, *kept_for_checkpoints(self.folder.parents[1], BEST)}


def _refuse_full(folder: Path, needed: float) -> None:
    """There must be room on the disk.

    Raises:
        TrainerError: there is less than is needed.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise TrainerError(
            f"the disk of `{folder}` must have room for {ROOM} times the weights and moments that `rollback` keeps, "
            f"{needed / GB:.2g} GB, got {free / GB:.2g} GB free. Free space, choose another output_dir, {INSTEAD}."
        )


def _refuse_damaged(folder: Path, files: Files) -> None:
    """The files must be as they were written.

    Raises:
        ResumeError: one is not.
    """
    try:
        found = hash_files(folder, files)
    except OSError as error:
        raise _damaged(folder, error.strerror or str(error)) from error
    if found != files:
        raise _damaged(folder, "files of another SHA-256")


def _damaged(folder: Path, found: str) -> ResumeError:
    return ResumeError(
        f"`{folder}` must hold the weights that this checkpoint would roll back to, got {found}. Put the run's "
        "curriculum/ folder back beside its checkpoints, resume from an earlier checkpoint, or start anew."
    )
