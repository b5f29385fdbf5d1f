"""The same micro batches twice: a run of ours that is recorded, and the library's own trainer fed with its batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from trl import SFTTrainer

from campus_tune.words.types import Json
from tests.run.tiny_run import tiny_trainer

NOT_ITS_OWN = ("campus/", "train_runtime", "train_tokens_per_second")


class Recording(TrainerCallback):
    """A collator that keeps the rows of every batch it makes for training; before that it is only asked for rows."""

    def __init__(self, collator: Any) -> None:
        self.collator, self.batches = collator, []

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        del args, state, control
        self.batches.clear()

    def __call__(self, rows: list[Json]) -> Any:
        self.batches.append([dict(row) for row in rows])
        return self.collator(rows)


class Fed:
    """Goes before a trainer class: it trains given micro batches, an epoch after the other."""

    batches: list[list[Json]]
    per_epoch: int

    def get_train_dataloader(self) -> Any:
        return self

    @property
    def dataset(self) -> Any:
        return self.train_dataset  # type: ignore[attr-defined]  # the trainer's

    def __len__(self) -> int:
        return self.per_epoch

    def __iter__(self) -> Iterator[Any]:
        epoch, self.batches = self.batches[: self.per_epoch], self.batches[self.per_epoch :]
        return map(self.data_collator, epoch)  # type: ignore[attr-defined]  # the trainer's


def ours_and_plain(
    out: Path, *, kind: type = SFTTrainer, make_model: Callable[[], Any] = lambda: None, **settings: Any
) -> tuple[Any, Any]:
    """Two trainers that are done: one shuffled by us, and the library's own with the same micro batches.

    Args:
        out: folder for both.
        kind: of trainer.
        make_model: gives a model for each; None for the tiny one.
        settings: of `tiny_trainer`; two epochs are trained.
    """
    settings = {"config": {"selector": "shuffle"}, "num_train_epochs": 2, **settings}
    ours = tiny_trainer(out / "ours", model=make_model(), trainer_class=kind, **settings)
    ours.data_collator = recording = Recording(ours.data_collator)
    ours.add_callback(recording)
    ours.train()
    fed = type("Fed", (Fed, kind), {})
    plain = tiny_trainer(out / "plain", model=make_model(), trainer_class=fed, **{**settings, "config": False})
    plain.batches = list(recording.batches)
    plain.per_epoch = len(recording.batches) // 2
    plain.train()
    return ours, plain


def lines_of(trainer: Any) -> list[Json]:
    """What the trainer logged of its own, with the tokens that it counted."""
    lines = [line for line in trainer.state.log_history if "loss" in line]
    own = [{key: value for key, value in line.items() if not key.startswith(NOT_ITS_OWN)} for line in lines]
    return [*own, {"seen": trainer.state.num_input_tokens_seen, "flos": trainer.state.total_flos}]
