"""One run: from the first look at the training set to the last line.

What the callback calls, and in which sequence, is in `driven`. What changes here is where the trainer's loop is, and
what must be taken off the trainer again. Rank 0 decides and writes; the other ranks hold the same numbers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from campus_tune.model import compat
from campus_tune.model.probes import Source
from campus_tune.recipe.config import CampusConfig
from campus_tune.run import boundary
from campus_tune.run.activity import FINISHING, SAVING, TRAINING
from campus_tune.run.book_keeping import BookFolder
from campus_tune.run.data_map import map_rows
from campus_tune.run.decile_rates import leave_decile_rates
from campus_tune.run.driven import DrivenRun, Report, finish_line
from campus_tune.run.early_stop import stop_after_saving
from campus_tune.run.end_advice import advise
from campus_tune.run.loaded import Loaded, load
from campus_tune.run.look import SampleBatches
from campus_tune.run.manifest import Beside
from campus_tune.run.resuming import beside, restore, state_of
from campus_tune.run.situation import Position, Situation, outline, plan
from campus_tune.run.stream.finite import MANY_SKIPPED, Update
from campus_tune.run.stream.loader import CurriculumLoader
from campus_tune.run.stream.weighing import step_weights
from campus_tune.run.told.card import section
from campus_tune.run.told.events import Warned
from campus_tune.run.told.trackers import log_map, log_value, remember_runs
from campus_tune.run.value_map import value_rows
from campus_tune.words.errors import AuditError, TrainerError
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from transformers import Trainer, TrainerControl, TrainerState


class CampusRun(DrivenRun):
    """The curriculum of one trainer that learns the answers of its rows.

    Args:
        trainer: with a curriculum put on it (`attach.equip`).
        config: settings as the user gave them.
        probes: held-out rows; None takes the recipe's.
        reports: called one after the other, in the process that leads, when the run is finished.
    """

    def __init__(
        self, trainer: Trainer, config: CampusConfig, probes: Source = None, reports: Sequence[Report] = ()
    ) -> None:
        super().__init__(trainer, config, reports)
        self.probe_source = probes if probes is not None else (list(config.probes.path) if config.probes else None)
        self.book_folder = BookFolder(self.folder, self.peers)
        # what it owns
        self.loaded: Loaded | None = None  # by this call of `train()`
        self.planned: Situation | None = None
        # where it is
        self.position = Position()

    @property
    def situation(self) -> Situation:
        """All that is fixed once the run is planned.

        Raises:
            TrainerError: it is not, because nobody has told us that training begins.
        """
        if self.planned is None:
            raise compat.no_trainer()
        return self.planned

    # -- before training ----------------------------------------------------------------------------------------

    def make_loader(self) -> CurriculumLoader | SampleBatches:
        """The train loader; called by the trainer through `get_train_dataloader`, or by somebody who wants to look."""
        to_train = self.trains and (self.loaded is None or compat.the_loop_asks(self.trainer))
        if to_train:  # hooks of an attempt that broke off: one of them would look like the user's own training_step
            self.close()
        found = load(self.trainer, self.given, self.peers, to_train=to_train)
        if isinstance(found, SampleBatches):
            return found
        self.loaded = found
        found.loader.run = self
        self.take_arguments()
        return found.loader

    def forget_loader(self) -> None:
        """A call of `train()` begins: it makes a loader of its own."""
        self.loaded = None

    def begin(self, state: TrainerState, saved: Json | None) -> None:
        """Plan the run, or restore it, and decide the first stage.

        Args:
            state: the trainer's state; `max_steps` is known, `global_step` is above 0 when a checkpoint was loaded.
            saved: what `state()` gave when that checkpoint was written.
        """
        step, loaded = state.global_step, self.loaded
        if loaded is None:
            raise AuditError(
                "order audit: no planned rows would reach the model: something replaced the data loader. Remove "
                "whatever sets trainer.get_train_dataloader after the CampusCallback was attached."
            )
        self.close()  # an attempt that broke off
        self.planned = None
        self.saver.refuse_strangers(step, state.max_steps)
        outlined = outline(
            self.trainer,
            self.given,
            self.probe_source,
            loaded=loaded,
            activities=self.activities,
            folder=self.folder,
            book_folder=self.book_folder,
            n_steps=state.max_steps,
        )
        if step == 0:
            now, self.position = plan(outlined, self.saver), Position()
        else:
            now, self.position = restore(outlined, self.saver, self.loop, step, self.checkpoint, saved)
        self.planned = now
        remember_runs(self.trainer)
        loaded.loader.curriculum = now.curriculum
        if step and saved and saved["epoch_ended"]:
            boundary.leave_epoch(now, self.position)
        elif now.curriculum.needs_decision:
            boundary.close_cut_stage(now, self.position)
            boundary.decide_next(now, self.position)
        if now.curriculum.finished:
            self.loop.make_up()
        self.activities.current = TRAINING

    # -- during training ----------------------------------------------------------------------------------------

    def begin_epoch(self) -> None:
        """An epoch begins, or goes on after a resume."""
        self.position.epoch = self.situation.curriculum.epoch

    def end_epoch(self, control: TrainerControl) -> None:
        """An epoch has ended: because its rows are trained, or because a callback has asked for it.

        Args:
            control: of the trainer, which counts epochs anew after a resume: the last one is the last.
        """
        now, stopped = self.situation, control.should_epoch_stop and not control.should_training_stop
        if stopped and now.curriculum.epoch == self.position.epoch:
            if self.loop.inside_step:
                warning = (
                    f"a callback ended the epoch between the micro batches of step {now.curriculum.step + 1}. The "
                    "trainer keeps the gradients of those it has had, so they are part of its next update, beside the "
                    "rows that are planned for it, and may be trained again. Set should_epoch_stop in on_step_end to "
                    "leave out whole steps."
                )
                now.journal.take(Warned([warning]))
            boundary.leave_epoch(now, self.position)
        self.loop.end_step()
        self.position.epoch = None
        if self.checkpoint is not None and now.curriculum.finished:
            control.should_training_stop = True

    def begin_step(self) -> None:
        """An optimizer step begins."""
        now, position = self.situation, self.position
        self.give_arguments_back()
        self.saver.seal()
        self.loop.make_up()
        self.activities.current = TRAINING
        weights = None
        weighting = now.curriculum.weighting
        tries = weighting is not None and weighting.waits and now.watch.untried
        if weighting is not None and (tries or not weighting.idle):  # else a step is cut once, at its end
            batches = now.loaded.loader.micro_batches(now.curriculum.step_rows())
            weights = step_weights(now.curriculum, batches, now.drawing.shapes)
        now.watch.begin_step(now.curriculum.step + 1, weights)
        position.rate = compat.learning_rate(self.trainer)
        self.loop.begin_step()
        position.began = time.perf_counter()

    def before_update(self) -> None:
        """The gradients of an optimizer step are there."""
        now = self.situation
        step, rows = now.curriculum.step, now.curriculum.step_rows()
        now.watch.before_update()
        norm = compat.gradient_norm(self.trainer)
        now.finite.before_update(Update(step + 1, rows, self.position.rate, norm))

    def after_update(self) -> None:
        """The optimizer has used them, or a gradient scaler has skipped the step."""
        now = self.situation
        if now.clipped is not None and now.finite.last is not None:
            now.clipped.add(now.finite.last.norm)
        if now.finite.after_update(skipped=bool(self.trainer.accelerator.optimizer_step_was_skipped)):
            now.journal.take(Warned([MANY_SKIPPED]))

    def end_step(self, state: TrainerState) -> None:
        """An optimizer step is finished; a stage's last one decides the next stage."""
        now, position = self.situation, self.position
        if position.heard:  # a callback before ours has saved
            position.heard = False
            return
        self.loop.end_step()
        position.rates += position.rate
        now.budget.seconds["training"] += time.perf_counter() - position.began
        if now.step_loss is not None:
            now.step_loss.end_step()

        curriculum, loader = now.curriculum, now.loaded.loader
        rows = curriculum.step_rows()
        position.lr_tokens += position.rate * float(sum(loader.tokens_by_rank(rows)[0].tolist()))
        alone = self.peers.world == 1 and now.valuing is None  # then the watch counts them by the way
        answer_tokens = None if alone else int(now.loaded.rows.answer_tokens[rows].sum())
        now.watch.end_step(loader.micro_batches(rows), answer_tokens=answer_tokens)
        if now.valuing is not None and answer_tokens is not None:
            now.valuing.visits.note_step(curriculum.step + 1, position.rate, answer_tokens)
        if curriculum.step == 0 and not now.watch.shows_losses:
            if now.book is not None or now.drawing.must_drop_suspects or now.valuing is not None:
                raise TrainerError(
                    "training must show the losses of single rows, by which this recipe draws or values (`thin`, "
                    "`review`, `domains: follow`, `drop: suspects` or `value`), got none: "
                    f"{compat.why_no_row_losses(self.trainer)}. Change that, or take these blocks out of the recipe."
                )
            warning = (
                f"training shows no losses of single rows: {compat.why_no_row_losses(self.trainer)}. So the ledger has "
                "the trainer's own loss for each stage and none by domain, training_losses/ stays empty, and "
                "re-scoring measures what it would have had for free. "
            )
            if now.drawing.earning is None:
                warning += "Everything else is as with them."
            else:
                warning += "What waits for a sign of wrong rows (act: auto) sees none, and does nothing."
            now.journal.take(Warned([warning]))
        now.load.add_step(rows)
        curriculum.advance()
        if curriculum.finished or curriculum.needs_decision:
            boundary.close_stage(now, position)
            boundary.decide_next(now, position)
        if now.helm.stops:  # again: where a rule said so before this step, the trainer has forgotten to save
            stop_after_saving(self.trainer.control)
        if curriculum.step != state.global_step:
            raise TrainerError(
                f"the curriculum must be at the trainer's step {state.global_step}, got {curriculum.step}. "
                "Something else drives this trainer's loop: call on_step_end once per optimizer step."
            )
        state.epoch = loader.epoch_after(curriculum.place)  # the trainer's own restarts after a resume

    def complete_line(self, logs: dict[str, float]) -> None:
        """Add the curriculum's scalars to a log line; the last one takes what is left, and is of the whole run."""
        now, position, step = self.planned, self.position, self.trainer.state.global_step
        if "loss" in logs and now is not None and step > position.logged_step:
            now.training_losses.add_logged(step - position.logged_step, logs["loss"])
            position.logged_step = step
        finish_line(logs, {} if now is None else now.journal.log.pending, self.trainer, self.loop)

    # -- state, and the end -------------------------------------------------------------------------------------

    @contextmanager
    def saving(self, checkpoint: Path) -> Iterator[None]:
        """Around the writing of a checkpoint, on every rank: what only they know comes to the one that writes."""
        now = self.planned
        if now is None:  # the trainer saves without having trained
            with self.saver.saving(checkpoint):
                yield
            return
        self.activities.current = SAVING
        if now.curriculum.step < self.trainer.state.global_step:  # a callback before ours saves: settle the step
            self.end_step(self.trainer.state)
            self.position.heard = True
        boundary.share_losses(now)  # every step is compared before one of them reaches a checkpoint
        boundary.settle(now)
        if now.valuing is not None:
            now.valuing.keep()
        with self.loop.saving(), self.saver.saving(checkpoint):
            yield

    def before_leaving(self) -> None:
        """Weights are saved for others to use, by whoever calls `save_model`, perhaps on one rank only.

        Raises:
            DivergedError: they are not finite.
        """
        if self.planned is not None and not self.saver.inside:  # before a checkpoint they were looked at
            self.planned.finite.refuse_weights()

    def state(self) -> Json:
        """Everything a resumed run needs, as JSON; {} before the run is planned."""
        return {} if self.planned is None else state_of(self.planned, self.position, self.loop)

    def finish(self) -> None:
        """The last lines, in the ledger and on the console; takes the hooks off the model."""
        now = self.situation
        with self.activities(FINISHING):
            boundary.settle(now)
            now.watch.settle()
            if not now.curriculum.finished and boundary.close_stage(now, self.position):
                boundary.measure_probes(now, ends=True)  # the trainer was told to stop in the middle of it
            now.watch.close()
            boundary.give_up_looking(now)
            boundary.give_up_suspects(now)
            boundary.give_up_weights(now)
            boundary.give_up_steering(now)
            mapped, valued = map_rows(now), value_rows(now)
            now.journal.take(mapped)
            if valued is not None:
                now.journal.take(valued)
            self.finished = True
            now.journal.take(boundary.summed_up(now, advise(now, mapped.record), mapped.record.get("dirt")))
        tell_trackers: list[Report] = [partial(log_map, record=mapped.record, folder=self.folder)]
        tell_trackers += [] if valued is None else [partial(log_value, record=valued.record)]
        self.say_everything([self._leave_behind], tell_trackers)

    def _leave_behind(self, trainer: Trainer) -> None:
        """What the run says of its rows at its end, beside the ledger."""
        del trainer
        leave_decile_rates(self.folder)
        if self.situation.book is not None:
            self.situation.book.export(self.folder)
        self.situation.helm.leave_shares(self.situation)

    def close(self) -> None:
        """Take the hooks off the model and end the loader's workers, however training ended."""
        if self.planned is not None:
            self.planned.close()
        self.book_folder.remove()
        self.saver.settle()
        if self.planned is not None:
            for kept in (self.planned.best, self.planned.valuing):
                if kept is not None:
                    kept.tidy()  # older checkpoints are gone now

    def beside(self) -> Beside:
        """What a checkpoint that is saved now needs of the run's folder."""
        return beside(self.situation)

    def add_hashing(self, seconds: float) -> None:
        """The record of a checkpoint took so long."""
        self.situation.budget.seconds["hashing"] += seconds

    def takes_random_states(self) -> bool:
        """Whether the random states of the checkpoint that is loaded are of this number of processes."""
        return self.planned is None or self.planned.same_world

    def steps_in_epoch(self) -> int:
        """Optimizer steps of the present epoch that are finished."""
        return self.situation.curriculum.steps_in_epoch

    def card_section(self) -> str | None:
        """What the model card says of the curriculum; None before the run is planned."""
        return None if self.planned is None else section(self.planned)
