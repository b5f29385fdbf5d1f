"""The losses that training shows for free, row by row, gathered per stage from all ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from campus_tune.data.domains import Domains
from campus_tune.method.view import PastStage
from campus_tune.model.peers import Peers
from campus_tune.scores.cache import write_columns
from campus_tune.words.arrays import pack, pack_losses, unpack, unpack_losses
from campus_tune.words.types import IntArray, Json, RowArray, RowLosses

FOLDER = "training_losses"  # in the run's


def file_of_stage(stage: int) -> str:
    """The name of a stage's file."""
    return f"stage-{stage:05d}.parquet"


class TrainingLosses:
    """Rows of the current stage trained so far, and their losses in the training forward.

    What this rank has trained since the last `share` is its own; everything before is known to every rank, in the
    sequence of the plan, however many ranks there are.

    Of the stages that are over, their means are kept (`past`): policies are shown them. A run that goes on from a
    checkpoint of a version that kept none begins with those from there on.
    """

    def __init__(self) -> None:
        self.past: list[PastStage] = []
        self.rows: IntArray
        self.losses: RowLosses
        self.forget()

    def forget(self) -> None:
        """Begin a stage."""
        self.rows, self.losses = _nothing()
        self._own_rows, self._own = _nothing()
        self._logged: list[tuple[int, float]] = []  # of the trainer's log lines: steps, their mean loss

    def add_logged(self, n_steps: int, loss: float) -> None:
        """A line of the trainer's log: what is left to say of a stage whose forwards show no losses of rows.

        Args:
            n_steps: that it is the mean of, at least one.
            loss: as the trainer takes it.
        """
        self._logged.append((n_steps, loss))

    def add(self, rows: IntArray | RowArray, losses: RowLosses) -> None:
        """Rows that this rank has trained, shape (n,)."""
        self._own_rows, self._own = _joined((self._own_rows, self._own), (np.asarray(rows), losses))

    def share(self, peers: Peers, planned: RowArray) -> None:
        """Put the rows of all ranks together; every rank calls it.

        Args:
            peers: ranks.
            planned: rows of the current stage in the sequence in which they are trained.
        """
        rows, losses = _joined(*peers.gather((self._own_rows, self._own)))
        by_row = np.argsort(planned, kind="stable")
        places = by_row[np.searchsorted(planned[by_row], rows)]
        sequence = np.argsort(places, kind="stable")
        self.rows, self.losses = _joined((self.rows, self.losses), (rows[sequence], losses.take(sequence)))
        self._own_rows, self._own = _nothing()

    def summary(self, domains: Domains) -> Json:
        """What the ledger says at a stage's end.

        Where the forwards show no losses of rows, the mean of what the trainer has logged since the last stage's end,
        and that it is that: its line of a stage's last step comes after the stage. {} where it has logged nothing.
        """
        if not len(self.rows):
            n_steps = sum(n for n, _ in self._logged)
            if not n_steps:
                return {}
            return {"train_loss": sum(n * loss for n, loss in self._logged) / n_steps, "train_loss_from": "log"}
        summary: Json = {"train_loss": self.losses.mean(), "rows_with_loss": len(self.rows)}
        if domains.codes is not None:
            codes = domains.codes[self.rows]
            summary["train_loss_by_domain"] = {
                name: self.losses.take(codes == code).mean()
                for code, name in enumerate(domains.names)
                if (codes == code).any()
            }
        return summary

    def close_stage(self, folder: Path | None, stage: PastStage) -> None:
        """Write the stage's rows and losses as a parquet file (where a folder is given), and keep its means only."""
        if folder is not None and len(self.rows):
            write_columns(folder / file_of_stage(stage.index), {"row": self.rows, **vars(self.losses)}, {})
        self.past.append(stage)
        self.forget()

    def state(self) -> Json:
        """What was shared, as JSON."""
        past = [dict(vars(stage)) for stage in self.past]
        return {"rows": pack(self.rows), "losses": pack_losses(self.losses), "logged": self._logged, "past": past}

    def load(self, state: Json) -> None:
        """Continue from `state()`."""
        self.forget()
        self.rows = unpack(state["rows"], "i")
        self.losses = unpack_losses(state["losses"], len(self.rows))
        self._logged = [(n_steps, loss) for n_steps, loss in state["logged"]]
        self.past = [PastStage(**stage) for stage in state.get("past", [])]


def _nothing() -> tuple[IntArray, RowLosses]:
    return np.zeros(0, dtype=np.int64), RowLosses.zeros(0)


def _joined(*parts: tuple[IntArray, RowLosses]) -> tuple[IntArray, RowLosses]:
    """The rows of several parts behind one another, and their losses."""
    rows = np.concatenate([rows for rows, _ in parts]).astype(np.int64)
    losses = RowLosses.zeros(len(rows))
    start = 0
    for part, values in parts:
        losses.put(np.arange(start, start + len(part)), values)
        start += len(part)
    return rows, losses
