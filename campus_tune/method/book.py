"""The book: what training has shown of each row. It costs no forward, for training shows the losses anyway.

    e = (ℓ − μ) / max(d, 0.02)      a visit's excess: ℓ the row's mean loss, μ and d the level and spread of its cell
    d += 0.05 · (|ℓ − μ| − d)       then the spread, from the μ of before,
    μ += 0.05 · (ℓ − μ)             and the level. A cell begins at its first loss, d = 0.3

in the sequence of the plan; a row's excess is the mean of e over its visits. It says what a row shows beyond what its
kind shows, so it hangs neither on length or domain nor on how far the model was when the row came. d is a mean
absolute deviation: about a fifth of rows whose losses are Gaussian and clean lie above 1.

The book is a fold over the run's own record: the losses of each stage, in the sequence of the plan, one `update` after
another. So nothing of it is saved. A run that goes on folds the same files again, and `chain` says whether they were
the same. The recursion is a plain loop over floats: numpy would add in blocks and round otherwise on another machine,
and then two ranks would draw other rows. Five million rows take three seconds, once in a stage of as many.

Columns that are asked for are held as one `.npy` file each, mapped into memory: 26 bytes a row at most. They begin as
zeros (a hole in the file), and a row without a visit is unknown whatever they say.

Reference:
    Katharopoulos, Fleuret 2018, Not All Samples Are Created Equal: `surprise`, Σ (1 − p) over the answer's tokens, is
    their upper bound of the norm of a row's gradient, to a factor of √2.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.method.review import next_interval
from campus_tune.words.cores import parts_of, side_by_side
from campus_tune.words.types import BoolArray, FloatArray, IntArray, RowArray, RowLosses

FAST, SLOW = 0.05, 0.01  # per row: what a new loss moves the cell's level and spread, and its slow level
FIRST_SPREAD, LEAST_SPREAD = 0.3, 0.02  # nats
MOST_VISITS = 255  # counted, of one row
AT_ONCE = 1 << 16  # losses that are Python's floats at a time

COLUMNS: dict[str, Any] = {
    "visits": np.uint8,
    "step": np.int32,
    "stage": np.int32,
    "last": np.float32,
    "best": np.float32,
    "surprise": np.float32,
    "excess": np.float32,
    "interval": np.uint8,
}
SCORES = {"seen_loss": "last", "surprise": "surprise", "excess": "excess", "age": "stage"}  # name → its column
TRENDS = ("seen_loss", "surprise")  # scores that fall as the model learns
REVIEWED = ("last", "stage", "interval")  # columns that rows are picked by to come back
_TAKES_TOO = {"interval": ("best",)}  # columns that another one is made from


def columns_of(scores: Iterable[str], *, detrend: bool = False) -> set[str]:
    """The columns that these scores are read from.

    Args:
        scores: names in `SCORES`.
        detrend: some of them are asked for less their stage's mean.
    """
    return {SCORES[name] for name in scores} | ({"stage"} if detrend else set())


class CellLevels:
    """The running level and spread of the losses of each cell.

    Args:
        n_cells: C.
    """

    def __init__(self, n_cells: int) -> None:
        self.mean = np.full(n_cells, np.nan)  # of recent rows, nats, (C,); NaN before the first
        self.spread = np.full(n_cells, FIRST_SPREAD)  # their mean absolute deviation from it, nats, (C,)
        self.slow = np.full(n_cells, np.nan)  # the mean of five times as many rows, (C,)

    def take(self, cells: IntArray, losses: FloatArray) -> FloatArray:
        """Some rows in the sequence of training: their excess, shape (n,).

        Args:
            cells: of the rows, shape (n,).
            losses: mean of each, nats, finite, shape (n,).
        """
        excess = np.empty(len(losses))
        small = cells.astype(np.uint16 if len(self.mean) <= 1 << 16 else np.uint32)  # 16 bits sort in linear time
        by_cell = np.argsort(small, kind="stable")
        starts = np.flatnonzero(np.diff(cells[by_cell]))
        for places in np.split(by_cell, starts + 1):
            for start in range(0, len(places), AT_ONCE):
                some = places[start : start + AT_ONCE]
                excess[some] = self._take_of(int(cells[some[0]]), losses[some].tolist())
        return excess

    def _take_of(self, cell: int, losses: list[float]) -> list[float]:
        """Rows of one cell."""
        mean, spread, slow = float(self.mean[cell]), float(self.spread[cell]), float(self.slow[cell])
        if math.isnan(mean):
            mean = slow = losses[0]
        excess = []
        for loss in losses:
            above = loss - mean
            excess.append(above / (spread if spread > LEAST_SPREAD else LEAST_SPREAD))
            spread += FAST * (abs(above) - spread)
            mean += FAST * above
            slow += SLOW * (loss - slow)
        self.mean[cell], self.spread[cell], self.slow[cell] = mean, spread, slow
        return excess

    def signal(self, name: str) -> FloatArray:
        """What shares of cells can follow: `seen_loss`, or `progress`, the fall of the loss. (C,), NaN where unknown.

        Progress is how far the recent level lies below that of a longer past, at least 0.
        """
        return self.mean.copy() if name == "seen_loss" else np.maximum(self.slow - self.mean, 0.0)


class Book:
    """What training has shown of each row so far.

    Args:
        n_rows: N.
        needs: columns to keep beside `visits`; names in `COLUMNS`.
        cells: number of each row's cell, from 0, shape (N,); None for one cell.
        spacing: stages until a row is due again after its first visit, and after one that showed it forgotten.
        folder: of the columns' files, which are begun anew; None keeps them in memory.
    """

    def __init__(
        self,
        n_rows: int,
        *,
        needs: Collection[str] = tuple(COLUMNS),
        cells: RowArray | None = None,
        spacing: int = 2,
        folder: Path | None = None,
    ) -> None:
        kept = {"visits", *needs, *(more for name in needs for more in _TAKES_TOO.get(name, ()))}
        self.n_rows, self.spacing, self._cells = n_rows, spacing, cells
        self.columns = {name: _zeros(name, n_rows, folder) for name in COLUMNS if name in kept}
        self.levels = CellLevels(1 if cells is None else int(cells.max(initial=0)) + 1)
        self.chain: list[tuple[int, str]] = []  # stages that were folded, and a digest of everything up to each
        self._means: dict[str, list[float]] = {name: [] for name in TRENDS}  # of each stage

    @property
    def n_stages(self) -> int:
        """One more than the last stage that was folded."""
        return self.chain[-1][0] + 1 if self.chain else 0

    def update(self, stage: int, rows: IntArray, losses: RowLosses, steps: IntArray) -> None:
        """Take a stage that is over. Rows without answer tokens, or whose losses are not finite, leave no trace.

        Args:
            stage: its index, above those of before.
            rows: that were trained, each once, in the sequence of the plan, shape (n,).
            losses: what the training forwards have shown of them.
            steps: number of the optimizer step that trained each, from 1, shape (n,).
        """
        hashed = hashlib.sha256(f"{self.chain[-1][1] if self.chain else ''} {stage} {len(rows)}".encode())
        for values in (rows, *vars(losses).values()):
            hashed.update(np.ascontiguousarray(values, dtype=f"<{values.dtype.kind}8").data)
        self.chain.append((stage, hashed.hexdigest()[:32]))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            loss, surprise = losses.per_row(), losses.tokens - losses.sureness
        shown = (losses.tokens > 0) & np.isfinite(loss) & np.isfinite(surprise)
        rows, loss, surprise, steps = rows[shown], loss[shown], surprise[shown], steps[shown]
        for name, values in zip(TRENDS, (loss, surprise), strict=True):
            past = self._means[name]
            past += [math.nan] * (stage - len(past)) + [float(values.mean()) if len(values) else math.nan]
        cells = np.zeros(len(rows), dtype=np.int64) if self._cells is None else self._cells[rows].astype(np.int64)
        excess = self.levels.take(cells, loss)

        before = self.columns["visits"][rows]
        visits = np.minimum(before.astype(np.int64) + 1, MOST_VISITS)
        now: dict[str, Any] = {"visits": visits, "step": steps, "stage": stage, "last": loss, "surprise": surprise}
        if "best" in self.columns:
            best = np.where(before > 0, self.columns["best"][rows].astype(np.float64), math.nan)
            now["best"] = np.fmin(best, loss)
        if "interval" in self.columns:
            now["interval"] = next_interval(self.columns["interval"][rows], loss, best, self.spacing)
        if "excess" in self.columns:
            mean = self.columns["excess"][rows].astype(np.float64)
            now["excess"] = mean + (excess - mean) / visits
        for name in now.keys() & self.columns.keys():
            self.columns[name][rows] = now[name]

    @property
    def known(self) -> BoolArray:
        """Rows that were visited, shape (N,)."""
        return np.asarray(self.columns["visits"] > 0)

    @property
    def last(self) -> NDArray[Any]:
        """Loss of each row's last visit, nats per token, shape (N,); NaN of a row that was never visited."""
        return np.where(self.known, self.columns["last"], np.float32(math.nan))

    @property
    def stage(self) -> NDArray[Any]:
        """Stage of each row's last visit, shape (N,)."""
        return self.columns["stage"]

    @property
    def interval(self) -> NDArray[Any]:
        """Stages from each row's last visit until it is due again, shape (N,)."""
        return self.columns["interval"]

    def score(self, name: str, *, detrend: bool = False) -> FloatArray:
        """A score of every row, shape (N,); NaN where it was never visited.

        Args:
            name: `seen_loss` (its last, nats per token), `surprise` (of its last visit, tokens), `excess`, or `age`
                (stages since its last visit; 1 right after it).
            detrend: less the mean of the stage in which it was seen: a row that came early looks hard only because
                the model was worse. An excess is relative already, and an age has no trend.
        """
        column, means = self.columns[SCORES[name]], np.array([*self._means.get(name, ()), math.nan])
        scores = np.empty(self.n_rows, dtype=np.float64)

        def write(part: slice) -> None:
            values = column[part].astype(np.float64)
            if name == "age":
                values = self.n_stages - values
            if detrend and name in TRENDS:
                values -= means[self.columns["stage"][part]]
            scores[part] = np.where(self.columns["visits"][part] > 0, values, math.nan)

        side_by_side(write, parts_of(self.n_rows))
        return scores


def _zeros(name: str, n_rows: int, folder: Path | None) -> NDArray[Any]:
    """A column at its beginning."""
    if folder is None:
        return np.zeros(n_rows, dtype=COLUMNS[name])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.npy"
    path.unlink(missing_ok=True)  # of an earlier life, which may still be mapped: its pages stay what they are
    column: NDArray[Any] = np.lib.format.open_memmap(path, mode="w+", dtype=COLUMNS[name], shape=(n_rows,))
    return column
