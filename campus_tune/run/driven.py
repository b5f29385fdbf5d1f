"""What a run is to its trainer and to the callback, whatever it plans: rows (`run.CampusRun`) or prompts (`prompts`).

A run of pairs (DPO, KTO, reward models) would stand beside these two: the curriculum draws a row of two answers as any
other, so what it needs of its own is a reader of such rows, a watch on a forward that holds both answers, and scores of
a pair. Until then `model.other_tasks` refuses their trainers.

The callback calls, in this sequence:

    make_loader()            get_train_dataloader: rows are read, the loader is made (`loaded`)
    begin(state)             on_train_begin: the run is planned, or restored from a checkpoint (`situation`)
    begin_epoch / end_epoch  every epoch; one that a callback ends early leaves out the rest of its rows
    begin_step / end_step    every optimizer step; a stage's last one decides the next, before the checkpoint is saved
    before_ / after_update   around the optimizer's part of it
    saving() … state()       whenever the trainer saves, or a callback does
    finish()                 on_train_end
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from campus_tune.model import compat
from campus_tune.model.peers import Peers
from campus_tune.recipe.config import CampusConfig
from campus_tune.run.activity import Activities
from campus_tune.run.borrowed import Borrowed
from campus_tune.run.checkpoints import Checkpoint
from campus_tune.run.ledger import FOLDER
from campus_tune.run.lineage import refuse_strange_folder
from campus_tune.run.lock import RunLock
from campus_tune.run.manifest import Beside
from campus_tune.run.saver import Saver
from campus_tune.run.stream.loop_state import LoopState
from campus_tune.words.console import say
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from transformers import Trainer, TrainerControl, TrainerState

Report: TypeAlias = Callable[["Trainer"], object]  # is handed the trainer of a run that is finished


class DrivenRun(ABC):
    """The curriculum of one trainer.

    Args:
        trainer: with a curriculum put on it (`attach.equip`).
        config: settings as the user gave them.
        reports: called one after the other, in the process that leads, when the run is finished.
    """

    def __init__(self, trainer: Trainer, config: CampusConfig, reports: Sequence[Report] = ()) -> None:
        self.trainer, self.given, self.reports = trainer, config, reports
        self.complete_card: Report | None = None  # where the trainer writes a model card
        self.peers = Peers.of(trainer)
        self.activities = Activities(self.peers, lambda: trainer.state.global_step)
        self.folder = Path(str(trainer.args.output_dir)) / FOLDER
        self.lock = RunLock(self.folder)
        self.saver = Saver(trainer, self.peers, self.folder, self.beside, self.add_hashing)
        self.loop = LoopState(trainer, self.peers)
        self._args: Borrowed | None = None  # what is changed of the trainer's arguments while they are read
        self.checkpoint: Checkpoint | None = None  # that this call of `train()` goes on from
        self.finished = False
        self.trains = self.trained_before = False  # `train()` is running; it has run, however it ended

    @contextmanager
    def training(self) -> Iterator[None]:
        """Around `train()`, on every rank: no other run writes into the folder, and what is changed is put back.

        Raises:
            TrainerError: another run does, or the folder belongs to something else.
        """

        def claim() -> None:
            refuse_strange_folder(self.folder)
            self.lock.take()

        self.peers.led(claim)
        self._args = Borrowed(self.trainer.args, ignore_data_skip=True)
        self.loop, self.trains = LoopState(self.trainer, self.peers), True
        self.forget_loader()
        try:
            yield
        finally:
            self.trains, self.trained_before = False, True
            self._args.give_back()
            try:
                self.close()
            finally:  # also where the last checkpoint could not be recorded
                self.lock.release()

    def come_from(self, checkpoint: Checkpoint | None) -> None:
        """What this `train()` goes on from; None begins anew."""
        self.checkpoint = checkpoint
        self.saver.source = None if checkpoint is None else checkpoint.lineage

    def take_arguments(self) -> None:
        """The loader is made for the trainer's loop: where it goes on, it must not skip what our loader leaves out."""
        if self._args is not None and self.checkpoint is not None:
            self._args.take()

    def give_arguments_back(self) -> None:
        """The trainer has read them."""
        if self._args is not None:
            self._args.give_back()

    def say_everything(self, leave_behind: Sequence[Report] = (), tell_trackers: Sequence[Report] = ()) -> None:
        """Call what reports on a finished run, in the process that leads; one that fails costs a line.

        Args:
            leave_behind: write files beside the ledger; the card comes next.
            tell_trackers: what they are told; the user's own reports come last.
        """
        card = [] if self.complete_card is None else [self.complete_card]
        for report in (*leave_behind, *card, *tell_trackers, *self.reports) if self.peers.leads else ():
            try:
                report(self.trainer)
            except Exception as error:  # of whatever it draws or sends: what was trained is whole
                say(f"warning: no report ({type(error).__name__}: {error})")

    # -- what each kind of run does in its own way ----------------------------------------------------------------

    @abstractmethod
    def make_loader(self) -> Any:
        """The train loader; called by the trainer through `get_train_dataloader`, or by somebody who wants to look."""

    @abstractmethod
    def forget_loader(self) -> None:
        """A call of `train()` begins: it makes a loader of its own."""

    @abstractmethod
    def begin(self, state: TrainerState, saved: Json | None) -> None:
        """Plan the run, or restore it, and decide the first stage.

        Args:
            state: the trainer's state; `max_steps` is known, `global_step` is above 0 when a checkpoint was loaded.
            saved: what `state()` gave when that checkpoint was written.
        """

    @abstractmethod
    def begin_epoch(self) -> None:
        """An epoch begins, or goes on after a resume."""

    @abstractmethod
    def end_epoch(self, control: TrainerControl) -> None:
        """An epoch has ended: because its rows are trained, or because a callback has asked for it.

        Args:
            control: of the trainer, which counts epochs anew after a resume: the last one is the last.
        """

    @abstractmethod
    def begin_step(self) -> None:
        """An optimizer step begins."""

    @abstractmethod
    def before_update(self) -> None:
        """The gradients of an optimizer step are there."""

    @abstractmethod
    def after_update(self) -> None:
        """The optimizer has used them, or a gradient scaler has skipped the step."""

    @abstractmethod
    def end_step(self, state: TrainerState) -> None:
        """An optimizer step is finished; a stage's last one decides the next stage."""

    @abstractmethod
    def complete_line(self, logs: dict[str, float]) -> None:
        """Add the curriculum's scalars to a log line; the last one takes what is left, and is of the whole run."""

    @abstractmethod
    def saving(self, checkpoint: Path) -> AbstractContextManager[None]:
        """Around the writing of a checkpoint, on every rank: what only they know comes to the one that writes."""

    @abstractmethod
    def before_leaving(self) -> None:
        """Weights are saved for others to use, by whoever calls `save_model`, perhaps on one rank only.

        Raises:
            DivergedError: they are not finite.
        """

    @abstractmethod
    def state(self) -> Json:
        """Everything a resumed run needs, as JSON; {} before the run is planned."""

    @abstractmethod
    def finish(self) -> None:
        """The last lines, in the ledger and on the console; takes the hooks off the model."""

    @abstractmethod
    def close(self) -> None:
        """Take the hooks off the model and end the loader's workers, however training ended."""

    @abstractmethod
    def beside(self) -> Beside:
        """What a checkpoint that is saved now needs of the run's folder."""

    @abstractmethod
    def add_hashing(self, seconds: float) -> None:
        """The record of a checkpoint took so long."""

    @abstractmethod
    def takes_random_states(self) -> bool:
        """Whether the random states of the checkpoint that is loaded are of this number of processes."""

    @abstractmethod
    def steps_in_epoch(self) -> int:
        """Optimizer steps of the present epoch that are finished."""

    @abstractmethod
    def card_section(self) -> str | None:
        """What the model card says of the curriculum, Markdown; None before the run is planned."""


def finish_line(logs: dict[str, float], pending: dict[str, float], trainer: Trainer, loop: LoopState) -> None:
    """What every run does to a line of the trainer's log, in place.

    Args:
        logs: the line.
        pending: scalars of the curriculum that wait for one; they are taken.
        trainer: whose line it is.
        loop: of the trainer, which may go on from a checkpoint: then the last line is of the whole run.
    """
    if {"loss", "train_runtime"} & logs.keys():
        logs.update(pending)
        pending.clear()
    if "train_loss" in logs and loop.goes_on:
        logs["train_loss"] = compat.whole_train_loss(trainer)
