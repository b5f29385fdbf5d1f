"""What `campus-tune proxy` does with a trainer: save its model early and late, and measure all rows under both.

Before the first step all rows are measured too: the loss before training is what a curriculum by `loss` goes by, and
`compare` says how far another model agrees with it. It is one forward more, and no model folder.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from transformers import TrainerCallback

from campus_tune.data.prepared import TokenRows
from campus_tune.data.said_hashes import SaidHashes
from campus_tune.metrics.learnability import EARLY, LATE
from campus_tune.model import compat
from campus_tune.model.measure import LossMeter
from campus_tune.model.peers import Peers
from campus_tune.model.reference import load_reference
from campus_tune.model.reference_losses import reference_meter
from campus_tune.model.trained import as_trained
from campus_tune.run.checkpoints import STATE, Checkpoint, last_complete
from campus_tune.run.ledger import FOLDER
from campus_tune.run.lock import RunLock
from campus_tune.run.manifest import Beside
from campus_tune.run.saver import Saver
from campus_tune.scores.cache import write_columns
from campus_tune.scores.dropping import shape_of
from campus_tune.scores.proxy_losses import BEFORE, LOSSES, losses_before
from campus_tune.words.console import say
from campus_tune.words.errors import TrainerError
from campus_tune.words.types import Json, RowLosses

if TYPE_CHECKING:
    from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

START = "start.parquet"  # losses before training, put into the file of all losses at the end
RECORD = FOLDER  # in the proxy's output_dir, as a run's: whose checkpoints are in it


def early_step(share: float, steps: int) -> int:
    """The optimizer step after which the early model is kept.

    Args:
        share: of all steps, in (0, 1).
        steps: of the whole training.

    Raises:
        TrainerError: no step is left between early and late.
    """
    step = max(1, round(share * steps))
    if step >= steps:
        raise TrainerError(
            f"`--early` must leave steps to train after it, got {share} of {steps} steps. Train longer: more "
            "num_train_epochs or max_steps, or a smaller batch; or lower --early."
        )
    return step


class KeepEarly(TrainerCallback):
    """Saves the early model in passing, and a checkpoint to resume from with it.

    Args:
        share: of all steps, after which the model is early no more.
        folder: of the early model.
    """

    def __init__(self, share: float, folder: Path) -> None:
        self.share, self.folder = share, folder
        self.trainer: Trainer | None = None  # set when there is one
        self.seconds = 0.0  # that measuring before the first step took

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Steps enough? Then all rows are measured as long as nothing is trained."""
        del args, control
        early_step(self.share, state.max_steps)
        if self.trainer is not None and state.global_step == 0:
            began = time.perf_counter()
            measure_start(self.trainer, self.folder.with_name(START))
            self.seconds = time.perf_counter() - began

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Save, if this is the step."""
        del args
        if self.trainer is not None and state.global_step == early_step(self.share, state.max_steps):
            save_whole(self.trainer, self.folder)
            control.should_save = True
        return control


def measure_start(trainer: Trainer, path: Path) -> None:
    """Losses of all training rows under the model as it is now, written to a table.

    Args:
        trainer: whose model and training set these are.
        path: of the table.
    """
    peers = Peers.of(trainer)
    view, collator = compat.loader_view(trainer, trainer.train_dataset)
    rows = as_trained(view, collator, speaks=False).rows()
    subject = partial(compat.subject, trainer)
    meter = LossMeter(subject, view, collator, rows.tokens, peers=peers, what="proxy before training")
    losses = meter.losses(np.arange(len(rows)))
    if peers.leads:
        write_columns(path, {"content": rows.trained, **vars(losses)}, {})


def save_whole(trainer: Trainer, folder: Path) -> None:
    """A model folder (an adapter's, under LoRA) with its tokenizer; whole, or not there."""
    partial = folder.with_name(f".{folder.name}.partial")
    trainer.save_model(str(partial))
    if trainer.is_world_process_zero():
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    trainer.accelerator.wait_for_everyone()


def train(trainer: Trainer, out: Path, share: float) -> int:
    """Train from the last checkpoint, if there is one that helps; gives back the number of steps.

    Args:
        trainer: with `KeepEarly` among its callbacks.
        out: folder of the proxy.
        share: of all steps, after which the model is early no more.
    """
    peers, record = Peers.of(trainer), Path(str(trainer.args.output_dir)) / RECORD
    saver = Saver(trainer, peers, record, Beside, lambda _: None)

    @contextmanager
    def saving(checkpoint: Path) -> Iterator[None]:
        with saver.saving(checkpoint):
            saver.hold_rotation()
            yield
        saver.seal()

    lock = RunLock(record, what="--out")
    peers.led(lock.take)
    try:
        checkpoint = _checkpoint(record, out / EARLY, share, peers)
        step = 0 if checkpoint is None else _state(checkpoint)["global_step"]
        saver.refuse_strangers(step, sys.maxsize)
        saver.source = None if checkpoint is None else checkpoint.lineage
        peers.led(saver.start if checkpoint is None else partial(saver.go_on, step))
        vars(trainer)["_save_checkpoint"] = compat.around_saves(trainer, saving)
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint.path))
    finally:
        saver.settle()
        lock.release()
    save_whole(trainer, out / LATE)
    return int(trainer.state.max_steps)


def _checkpoint(record: Path, early: Path, share: float, peers: Peers) -> Checkpoint | None:
    """What to resume from: not a checkpoint after the early model where that one is missing."""
    if not peers.led(lambda: any(record.parent.glob("checkpoint-*"))):
        return None
    checkpoint = last_complete(record.parent, record, peers)
    if checkpoint is None:
        return None
    state = _state(checkpoint)
    if peers.led(lambda: not early.is_dir() and state["global_step"] >= early_step(share, state["max_steps"])):
        return None
    if peers.leads:
        say(f"resuming the proxy at step {state['global_step']} of {state['max_steps']}")
    return checkpoint


def _state(checkpoint: Checkpoint) -> Json:
    state: Json = json.loads((checkpoint.path / STATE).read_text("utf-8"))
    return state


def measure(trainer: Trainer, out: Path, *, trust_remote_code: bool) -> tuple[TokenRows, dict[str, RowLosses]]:
    """Losses of all training rows under the early and the late model, written to `losses.parquet`.

    Args:
        trainer: whose training set it is.
        out: folder of the proxy.
        trust_remote_code: as the user's TRL configuration says.
    """
    peers = Peers.of(trainer)
    trained = as_trained(*compat.loader_view(trainer, trainer.train_dataset), speaks=peers.leads)
    rows = trained.rows()
    losses = {}
    for name in (EARLY, LATE):
        loading = load_reference(
            str(out / name), setting="proxy", device=trainer.args.device, trust_remote_code=trust_remote_code
        )
        with loading as reference:
            meter, _ = reference_meter(
                reference,
                trainer.train_dataset,
                np.arange(len(rows)),
                trained=trained.dataset,
                tokenizer=compat.tokenizer_of(trainer),
                max_length=getattr(trainer.args, "max_length", None),
                peers=peers,
                what=f"{name} proxy",
            )
            losses[name] = meter.losses(np.arange(len(rows)))
    if peers.leads:
        shape, end = shape_of(trainer)
        said = SaidHashes.read(compat.training_rows(trainer), shape, rows.content, end=end)
        before = losses_before(out / START, rows.trained)
        kept = {**losses, **({} if before is None else {BEFORE: before})}
        columns = {f"{name}_{part}": values for name in kept for part, values in vars(kept[name]).items()}
        write_columns(out / LOSSES, {"content": rows.trained, "key": said.keys, **columns}, {})
    return rows, losses


def mean_losses(losses: Mapping[str, RowLosses]) -> dict[str, float]:
    """Mean over rows of their mean loss per token, early and late, in nats."""
    return {name: float(of.per_row()[of.tokens > 0].mean()) for name, of in losses.items()}
