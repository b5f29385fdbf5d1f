"""The losses that training shows for free, row by row, gathered per stage from all ranks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from campus_tune.data.domains import Domains
from campus_tune.method.view import PastStage
from campus_tune.model.peers import Peers
from campus_tune.scores.cache import write_columns
from campus_tune.words.arrays import pack, pack_losses, unpack, unpack_losses
from campus_tune.words.types import FloatArray, IntArray, Json, RowArray, RowLosses

FOLDER = "training_losses"  # in the run's


def file_of_stage(stage: int) -> str:
    """The name of a stage's file."""
    return f"stage-{stage:05d}.parquet"


@dataclass(frozen=True, eq=False)
class _Trained:
    """Rows, each of n lines.

    Args:
        rows: of the plan.
        losses: in the training forward.
        weights: what their losses were multiplied by; None where all count alike.
        parts: of that, the mean of their tokens' own factors; None where none has one.
    """

    rows: IntArray
    losses: RowLosses
    weights: FloatArray | None = None
    parts: FloatArray | None = None

    @staticmethod
    def none() -> _Trained:
        """No row yet."""
        return _Trained(np.zeros(0, dtype=np.int64), RowLosses.zeros(0))

    def take(self, idx: IntArray) -> _Trained:
        """Some of them."""
        weights, parts = (None if one is None else one[idx] for one in (self.weights, self.parts))
        return _Trained(self.rows[idx], self.losses.take(idx), weights, parts)

    def extras(self) -> dict[str, FloatArray]:
        """What is there only with weights, by name."""
        extras = {"weights": self.weights, "parts": self.parts}
        return {name: values for name, values in extras.items() if values is not None}


class TrainingLosses:
    """Rows of the current stage trained so far, and their losses in the training forward.

    What this rank has trained since the last `share` is its own; everything before is known to every rank, in the
    sequence of the plan, however many ranks there are.

    Of the stages that are over, their means are kept (`past`): policies are shown them. A run that goes on from a
    checkpoint of a version that kept none begins with those from there on. Of the last of them the rows and losses are
    there too (`before`), until the next one is over: a decision may go by them. No checkpoint comes in between.
    """

    def __init__(self) -> None:
        self.past: list[PastStage] = []
        self.before: tuple[IntArray, RowLosses] | None = None
        self._shared: _Trained
        self._own: _Trained
        self.forget()

    @property
    def rows(self) -> IntArray:
        """Rows of the stage, in the sequence of the plan, shape (n,)."""
        return self._shared.rows

    @property
    def losses(self) -> RowLosses:
        """Their losses."""
        return self._shared.losses

    @property
    def weights(self) -> FloatArray | None:
        """What their losses were multiplied by, the mean over their tokens, shape (n,); None without weights."""
        return self._shared.weights

    @property
    def parts(self) -> FloatArray | None:
        """Of that, the mean of their tokens' own factors, shape (n,); None where none has one."""
        return self._shared.parts

    def forget(self) -> None:
        """Begin a stage."""
        self._shared = self._own = _Trained.none()
        self._logged: list[tuple[int, float]] = []  # of the trainer's log lines: steps, their mean loss

    def add_logged(self, n_steps: int, loss: float) -> None:
        """A line of the trainer's log: what is left to say of a stage whose forwards show no losses of rows.

        Args:
            n_steps: that it is the mean of, at least one.
            loss: as the trainer takes it.
        """
        self._logged.append((n_steps, loss))

    def add(
        self,
        rows: IntArray | RowArray,
        losses: RowLosses,
        weights: FloatArray | None = None,
        parts: FloatArray | None = None,
    ) -> None:
        """Rows that this rank has trained, shape (n,): what `Watch.harvest` gives."""
        self._own = _joined(self._own, _Trained(np.asarray(rows, dtype=np.int64), losses, weights, parts))

    def share(self, peers: Peers, planned: RowArray) -> None:
        """Put the rows of all ranks together; every rank calls it.

        Args:
            peers: ranks.
            planned: rows of the current stage in the sequence in which they are trained.
        """
        found = _joined(*peers.gather(self._own))
        by_row = np.argsort(planned, kind="stable")
        places = by_row[np.searchsorted(planned[by_row], found.rows)]
        self._shared = _joined(self._shared, found.take(np.argsort(places, kind="stable")))
        self._own = _Trained.none()

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
            extras = {name[:-1]: values for name, values in self._shared.extras().items()}  # weight, part
            write_columns(folder / file_of_stage(stage.index), {"row": self.rows, **vars(self.losses), **extras}, {})
        self.past.append(stage)
        self.before = (self.rows, self.losses) if len(self.rows) else None
        self.forget()

    def state(self) -> Json:
        """What was shared, as JSON."""
        past = [dict(vars(stage)) for stage in self.past]
        extras = {name: pack(values) for name, values in self._shared.extras().items()}
        shared = {"rows": pack(self.rows), "losses": pack_losses(self.losses), **extras}
        return {**shared, "logged": self._logged, "past": past}

    def load(self, state: Json) -> None:
        """Continue from `state()`."""
        self.forget()
        rows = unpack(state["rows"], "i")
        extras: dict[str, Any] = {
            name: unpack(state[name], "f", len(rows)) for name in ("weights", "parts") if name in state
        }
        self._shared = _Trained(rows, unpack_losses(state["losses"], len(rows)), **extras)
        self._logged = [(n_steps, loss) for n_steps, loss in state["logged"]]
        self.past = [PastStage.of(stage) for stage in state.get("past", [])]


def _joined(*parts: _Trained) -> _Trained:
    """The rows of several parts behind one another; 1 for those without what others have."""
    rows = np.concatenate([part.rows for part in parts]).astype(np.int64)
    losses = RowLosses.zeros(len(rows))
    start = 0
    for part in parts:
        losses.put(np.arange(start, start + len(part.rows)), part.losses)
        start += len(part.rows)
    extras: dict[str, Any] = {
        name: np.concatenate([part.extras().get(name, np.ones(len(part.rows))) for part in parts])
        for name in sorted({name for part in parts for name in part.extras()})
    }
    return _Trained(rows, losses, **extras)
