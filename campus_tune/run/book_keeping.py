"""The book of a run: written at each stage's end, folded again when the run goes on, exported when it is over.

What training shows lies in `training_losses/` anyway, in the sequence of the plan, so a checkpoint holds no book but
the chain of its digests. Every rank keeps a book of its own out of the same numbers. Its columns are files: rank 0's in
the run's `curriculum/book/live/`, those of the others in a temporary folder; both are gone when training has ended,
however it did.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from campus_tune.method.book import REVIEWED, Book
from campus_tune.method.cells import Cells
from campus_tune.method.view import PastStage
from campus_tune.model.peers import Peers
from campus_tune.run.stream.training_losses import FOLDER as LOSSES
from campus_tune.run.stream.training_losses import file_of_stage
from campus_tune.scores.cache import read_columns, write_columns
from campus_tune.words.errors import ResumeError
from campus_tune.words.types import IntArray, Json, RowLosses

FOLDER, LIVE = "book", "live"  # in the run's: what it says of rows; in that, columns that grow while it trains
FILE = "book.parquet"  # in the run's: what is left of them
EXPORTED = ("step", "stage", "last", "best", "surprise", "excess")  # kept by every book, for people to look at


class BookFolder:
    """Where the columns of one rank's book lie while its run trains.

    Args:
        home: the run's folder.
        peers: ranks.
    """

    def __init__(self, home: Path, peers: Peers) -> None:
        self.home, self.peers = home, peers
        self._path: Path | None = None

    def make(self) -> Path:
        """The folder, which is empty or of an earlier life."""
        if self._path is None:
            live = self.home / FOLDER / LIVE
            self._path = live if self.peers.leads else Path(tempfile.mkdtemp(prefix="campus-book-"))
        return self._path

    def remove(self) -> None:
        """Training has ended, however it did. What is still mapped of the files stays readable."""
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            if self.peers.leads:
                with suppress(OSError):  # something is left in it
                    self._path.parent.rmdir()
            self._path = None


@dataclass(frozen=True, eq=False)
class BookKeeping:
    """A run's book, and what is done with it.

    Args:
        book: what training showed of each row.
        cells: inside which its excess is taken.
        global_batch: rows of an optimizer step.
    """

    book: Book
    cells: Cells
    global_batch: int

    @staticmethod
    def begin(folder: Path, cells: Cells, *, global_batch: int, spacing: int | None) -> BookKeeping:
        """A book in which nothing is written.

        Args:
            folder: of its columns.
            cells: of the rows.
            global_batch: rows of an optimizer step.
            spacing: stages until a row is due again at first; None where no rows come back.
        """
        needs = (*EXPORTED, *(REVIEWED if spacing else ()))
        book = Book(len(cells.codes), needs=needs, cells=cells.codes, spacing=spacing or 1, folder=folder)
        return BookKeeping(book, cells, global_batch)

    def close_stage(self, stage: int, end: int, rows: IntArray, losses: RowLosses) -> None:
        """A stage is over.

        Args:
            stage: its index.
            end: optimizer steps finished after it.
            rows: that it trained, in the sequence of the plan, shape (n,).
            losses: what the training forwards have shown of them.
        """
        self.book.update(stage, rows, losses, steps_of(end, len(rows), self.global_batch))

    def files(self) -> list[str]:
        """Of the run's folder: those that the book is folded from."""
        return [f"{LOSSES}/{file_of_stage(stage)}" for stage, _ in self.book.chain]

    def state(self) -> Json:
        """What a checkpoint remembers of it, as JSON."""
        return {"chain": [list(link) for link in self.book.chain]}

    def fold(self, home: Path, past: Sequence[PastStage], saved: Json | None, peers: Peers) -> None:
        """Write the book again out of a run's own record.

        Args:
            home: the folder of the run that wrote the checkpoint.
            past: stages that are over.
            saved: `state()` at that checkpoint; None where that run kept no book.
            peers: ranks; every one calls it, rank 0 reads.

        Raises:
            ResumeError: a file is missing or damaged, or of other trainings than the checkpoint's.
        """
        chain = None if saved is None else [(stage, link) for stage, link in saved["chain"]]
        known = {stage for stage, _ in chain} if chain is not None else None
        for stage in past:
            if known is not None and stage.index not in known:
                continue
            path = home / LOSSES / file_of_stage(stage.index)
            rows, losses = peers.led(lambda path=path: read_losses(path))  # type: ignore[misc] # a lambda with a default
            self.close_stage(stage.index, stage.end, rows, losses)
            if chain is not None and self.book.chain[-1] != chain[len(self.book.chain) - 1]:
                raise unlike(path, "those of another training")

    def export(self, home: Path) -> None:
        """Leave the book behind as a parquet table, a line for each row: null where training has shown nothing."""
        import pyarrow as pa

        unknown = ~self.book.known
        table: dict[str, Any] = {"row": np.arange(self.book.n_rows, dtype=np.int32)}
        for name, values in self.book.columns.items():
            table[name] = pa.array(np.asarray(values), mask=None if name == "visits" else unknown)
        table["cell"] = pa.DictionaryArray.from_arrays(self.cells.codes, list(self.cells.names))
        write_columns(home / FILE, table, {})


def steps_of(end: int, n: int, global_batch: int) -> IntArray:
    """The optimizer step of each of the `n` rows of a stage in the sequence of the plan, from 1, shape (n,).

    Args:
        end: steps finished after it.
        n: its rows.
        global_batch: rows of a step; only the stage's last one may have fewer.

    >>> steps_of(5, 7, 3).tolist()
    [3, 3, 3, 4, 4, 4, 5]
    """
    first = end - -(-n // global_batch)
    return first + 1 + np.arange(n) // global_batch


def read_losses(path: Path) -> tuple[IntArray, RowLosses]:
    """The rows of a stage and their losses, as `TrainingLosses` left them; weights that stand beside them are let be.

    Raises:
        ResumeError: the file is missing or damaged.
    """
    try:
        columns, _ = read_columns(path)
        losses = RowLosses(**{name: columns[name] for name in vars(RowLosses.zeros(0))})
        return columns["row"].astype(np.int64), losses
    except (ResumeError, KeyError) as error:
        raise unlike(path, str(error.__cause__ or error)) from error


def read_visits(
    home: Path, events: Sequence[Json], global_batch: int
) -> tuple[IntArray, IntArray, IntArray, RowLosses] | None:
    """(stage, row, optimizer step, losses) of every visit in the sequence of training, shape (V,) each.

    Args:
        home: a run's `curriculum/`.
        events: its ledger's lines.
        global_batch: rows of an optimizer step.

    Returns:
        None where training shows no losses of single rows.

    Raises:
        ResumeError: a file is missing or damaged.
    """
    ends = [event for event in events if "rows_with_loss" in event]
    if not ends:
        return None
    parts = [read_losses(home / LOSSES / file_of_stage(end["stage"])) for end in ends]
    stages = [np.full(len(rows), end["stage"]) for end, (rows, _) in zip(ends, parts, strict=True)]
    steps = [steps_of(end["step"], len(rows), global_batch) for end, (rows, _) in zip(ends, parts, strict=True)]
    losses = {name: np.concatenate([getattr(one, name) for _, one in parts]) for name in vars(RowLosses.zeros(0))}
    rows = np.concatenate([rows for rows, _ in parts])
    return np.concatenate(stages), rows, np.concatenate(steps), RowLosses(**losses)


def unlike(path: Path, found: str) -> ResumeError:
    """The error of a file, or a folder of them, that is not what the run's training showed."""
    return ResumeError(
        f"`{path}` must be the losses that this run's training showed in that stage, got {found}. What is drawn hangs "
        "on them. Put the run's curriculum/ folder back beside its checkpoints, resume from an earlier checkpoint, or "
        "start anew."
    )
