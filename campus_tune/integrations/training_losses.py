"""The losses that training shows for free, row by row, gathered per stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from campus_tune.arrays import pack, unpack
from campus_tune.cache import write_columns
from campus_tune.integrations.domains import Domains
from campus_tune.types import IntArray, Json, RowLosses


class TrainingLosses:
    """Rows of the current stage trained so far on this rank, and their losses in the training forward."""

    def __init__(self) -> None:
        self.rows: IntArray
        self.losses: RowLosses
        self.forget()

    def forget(self) -> None:
        """Begin a stage."""
        self.rows, self.losses = np.zeros(0, dtype=np.int64), RowLosses.zeros(0)

    def add(self, rows: Any, losses: RowLosses) -> None:
        """Rows of further steps, shape (n,), in the sequence in which they were trained."""
        merged = RowLosses.zeros(len(self.rows) + len(rows))
        merged.put(np.arange(len(self.rows)), self.losses)
        merged.put(np.arange(len(self.rows), len(merged.tokens)), losses)
        self.rows, self.losses = np.concatenate([self.rows, rows]).astype(np.int64), merged

    def summary(self, domains: Domains) -> Json:
        """What the ledger says at a stage's end; {} where the forwards show no losses."""
        if not len(self.rows):
            return {}
        summary: Json = {"train_loss": self.losses.mean(), "rows_with_loss": len(self.rows)}
        if domains.codes is not None:
            codes = domains.codes[self.rows]
            summary["train_loss_by_domain"] = {
                name: self.losses.take(codes == code).mean()
                for code, name in enumerate(domains.names)
                if (codes == code).any()
            }
        return summary

    def close_stage(self, folder: Path | None, stage: int) -> None:
        """Write the stage's rows and losses as a parquet file (where a folder is given) and forget them."""
        if folder is not None and len(self.rows):
            write_columns(folder / f"stage-{stage:05d}.parquet", {"row": self.rows, **vars(self.losses)}, {})
        self.forget()

    def state(self) -> Json:
        """As JSON."""
        return {"rows": pack(self.rows), **{name: pack(values) for name, values in vars(self.losses).items()}}

    def load(self, state: Json) -> None:
        """Continue from `state()`."""
        arrays = {name: unpack(packed) for name, packed in state.items()}
        self.rows = arrays.pop("rows")
        self.losses = RowLosses(**arrays)
