"""The curriculum of a trainer that is driven by reward: which prompts its model answers, and when.

What the callback calls, and in which sequence, is in `run.driven`. The trainer makes the answers, scores them and
trains on them as without us; ours is which prompts it is handed (`loader`), what is heard of their rewards, and what is
compared with the plan.

Rewards are heard when they are made, before the first optimizer step of their generation, and noted when that step is
finished: a checkpoint that is saved inside of a step holds what was known when it began.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from campus_tune.method.rounds import Rounds
from campus_tune.model import compat
from campus_tune.model.reward_trainers import sizes_of, stand_at
from campus_tune.recipe.config import CampusConfig
from campus_tune.run.activity import FINISHING, SAVING, TRAINING
from campus_tune.run.driven import DrivenRun, Report, finish_line
from campus_tune.run.manifest import Beside
from campus_tune.run.prompts import boundary
from campus_tune.run.prompts.leaving import expected_rates, map_prompts
from campus_tune.run.prompts.loader import PromptLoader, SamplePrompts
from campus_tune.run.prompts.rewards import Heard
from campus_tune.run.prompts.situation import PromptPosition, PromptSituation, outline, plan
from campus_tune.run.prompts.state import beside, keep, restore, state_of
from campus_tune.run.stream.finite import MANY_SKIPPED, Update
from campus_tune.run.told.card import prompt_section
from campus_tune.run.told.events import Warned
from campus_tune.run.told.trackers import remember_runs
from campus_tune.words.errors import AuditError, DataError, TrainerError
from campus_tune.words.types import Json, RowArray

if TYPE_CHECKING:
    from transformers import Trainer, TrainerControl, TrainerState


class PromptRun(DrivenRun):
    """The curriculum of one trainer that is driven by reward.

    Args:
        trainer: with a curriculum put on it (`attach.equip`).
        config: settings as the user gave them.
        reports: called one after the other, in the process that leads, when the run is finished.
    """

    def __init__(self, trainer: Trainer, config: CampusConfig, reports: Sequence[Report] = ()) -> None:
        super().__init__(trainer, config, reports)
        Rounds(**sizes_of(trainer))  # refuses before a first step is planned
        self.loaded: PromptLoader | None = None  # by this call of `train()`
        self.planned: PromptSituation | None = None
        self.position = PromptPosition()
        self._heard: list[Heard] = []  # and not noted yet

    @property
    def situation(self) -> PromptSituation:
        """All that is fixed once the run is planned.

        Raises:
            TrainerError: it is not, because nobody has told us that training begins.
        """
        if self.planned is None:
            raise compat.no_trainer()
        return self.planned

    @property
    def generated_tokens(self) -> int:
        """Tokens of all answers so far, on all ranks together."""
        return self.situation.groups.generated_tokens

    def step_prompts(self) -> RowArray:
        """The prompts of the generations that the coming optimizer step trains of, each once, shape (n,)."""
        now, rounds = self.situation, self.situation.rounds
        first = self.position.inside * rounds.accumulation
        touched = {micro // rounds.micro_per_generation for micro in range(first, first + rounds.accumulation)}
        return np.concatenate([now.loader.planned(now.generation + number) for number in sorted(touched)])

    # -- before training ------------------------------------------------------------------------------------------

    def forget_loader(self) -> None:
        """A call of `train()` begins: it makes a loader of its own."""
        self.loaded = None

    def make_loader(self) -> PromptLoader | SamplePrompts:
        """The train loader; called by the trainer through `get_train_dataloader`, or by somebody who wants to look.

        Raises:
            DataError: fewer prompts than a round takes.
            TrainerError: a generation and an optimizer step do not divide one another.
        """
        to_train = self.trains and (self.loaded is None or compat.the_loop_asks(self.trainer))
        if to_train:
            self.close()
        rounds, rows = Rounds(**sizes_of(self.trainer)), compat.training_rows(self.trainer)
        if len(rows) < rounds.global_batch:
            per = f"{rounds.generations} generations" if rounds.generations > 1 else "one generation"
            raise DataError(
                f"`train_dataset` must have at least the {rounds.global_batch} prompts of {per}, got {len(rows)}. "
                "Lower per_device_train_batch_size, steps_per_generation or gradient_accumulation_steps, or raise "
                "num_generations."
            )
        dataset, _ = compat.loader_view(self.trainer, rows)
        if not to_train:
            return SamplePrompts(dataset, rounds, peers=self.peers)
        loader = PromptLoader(dataset, rounds, rounds_per_epoch=len(rows) // rounds.global_batch, peers=self.peers)
        loader.counts_down = compat.asks_the_loader_in_each_epoch(self.trainer)
        loader.steps_inside = lambda: self.position.inside
        loader.run, self.loaded = self, loader
        self.take_arguments()
        return loader

    def begin(self, state: TrainerState, saved: Json | None) -> None:
        """Plan the run, or restore it, and decide the first stage.

        Args:
            state: the trainer's state; `max_steps` is known, `global_step` is above 0 when a checkpoint was loaded.
            saved: what `state()` gave when that checkpoint was written.
        """
        step, loader = state.global_step, self.loaded
        if loader is None:
            raise AuditError(
                "prompt audit: no planned prompts would reach the model: something replaced the data loader. Remove "
                "whatever sets trainer.get_train_dataloader after the CampusCallback was attached."
            )
        self.close()  # an attempt that broke off
        self.planned, self._heard = None, []
        self.saver.refuse_strangers(step, state.max_steps)
        outlined = outline(
            self.trainer,
            self.given,
            loader=loader,
            activities=self.activities,
            folder=self.folder,
            n_steps=state.max_steps,
        )
        if step == 0:
            stand_at(self.trainer, 0)
            now, self.position = plan(outlined, self.saver, self._heard.append), PromptPosition()
            now.audit.begin()
        else:
            now, self.position = restore(
                outlined, self.saver, self.loop, step, self.checkpoint, saved, self._heard.append
            )
        self.planned = now
        remember_runs(self.trainer)
        if self.position.inside and self.position.steps >= now.total_steps:
            self._finish_round()  # nothing of it is left to train
        if step and saved and saved["epoch_ended"]:
            self._leave_epoch()
        elif now.curriculum.needs_decision:
            boundary.decide_next(now, self.position)
        if now.curriculum.finished:
            self.loop.make_up()
        self.activities.current = TRAINING

    # -- during training ------------------------------------------------------------------------------------------

    def begin_epoch(self) -> None:
        """An epoch begins, or goes on after a resume."""
        self.position.epoch = self.situation.curriculum.epoch

    def end_epoch(self, control: TrainerControl) -> None:
        """An epoch has ended: because its prompts are trained, or because a callback has asked for it.

        Args:
            control: of the trainer, which counts epochs anew after a resume: the last one is the last.
        """
        now, position = self.situation, self.position
        stopped = control.should_epoch_stop and not control.should_training_stop
        if stopped and now.curriculum.epoch == position.epoch:
            if self.loop.inside_step:
                warning = (
                    f"a callback ended the epoch between the micro batches of step {position.steps + 1}. The trainer "
                    "keeps the gradients of those it has had, so they are part of its next update. Set "
                    "should_epoch_stop in on_step_end to leave out whole steps."
                )
                now.journal.take(Warned([warning]))
            self._note()
            self._leave_epoch()
        self.loop.end_step()
        now.kept.end_step()
        position.epoch = None
        if self.checkpoint is not None and now.curriculum.finished:
            control.should_training_stop = True

    def _leave_epoch(self) -> None:
        """The rest of the epoch is left out, that of a round which is begun, too; trl counts on from a border."""
        now, position, epoch = self.situation, self.position, self.situation.curriculum.epoch
        if position.inside or self.loop.inside_step:
            self._finish_round()
        if now.curriculum.epoch == epoch:
            boundary.leave_epoch(now, position)
        else:
            boundary.close_stage(now, position)
            boundary.decide_next(now, position)
        stand_at(self.trainer, now.curriculum.step * now.rounds.micro_batches)
        now.audit.begin()

    def begin_step(self) -> None:
        """An optimizer step begins."""
        self.give_arguments_back()
        self.saver.seal()
        self.loop.make_up()
        self.activities.current = TRAINING
        self.position.rate = compat.learning_rate(self.trainer)
        self.loop.begin_step()
        self.situation.kept.begin_step()
        self.position.began = time.perf_counter()

    def before_update(self) -> None:
        """The gradients of an optimizer step are there."""
        norm = compat.gradient_norm(self.trainer)
        update = Update(self.position.steps + 1, self.step_prompts(), self.position.rate, norm)
        self.situation.finite.before_update(update)

    def after_update(self) -> None:
        """The optimizer has used them, or a gradient scaler has skipped the step."""
        now = self.situation
        if now.finite.after_update(skipped=bool(self.trainer.accelerator.optimizer_step_was_skipped)):
            now.journal.take(Warned([MANY_SKIPPED]))

    def end_step(self, state: TrainerState) -> None:
        """An optimizer step is finished; a round's last one may end the stage, and then decides the next."""
        now, position = self.situation, self.position
        if position.heard:  # a callback before ours has saved
            position.heard = False
            return
        self.loop.end_step()
        now.kept.end_step()
        position.steps, position.inside = position.steps + 1, position.inside + 1
        position.rates, position.stage_steps = position.rates + position.rate, position.stage_steps + 1
        now.budget.seconds["training"] += time.perf_counter() - position.began
        now.audit.settle(position.steps)
        self._note()
        if (
            position.inside == now.rounds.steps
        ):  # one that the run's end cuts is finished last: a longer run goes on in it
            self._finish_round()
            if now.curriculum.finished or now.curriculum.needs_decision:
                boundary.close_stage(now, position)
                boundary.decide_next(now, position)
        if position.steps != state.global_step:
            raise TrainerError(
                f"the curriculum must be at the trainer's step {state.global_step}, got {position.steps}. Something "
                "else drives this trainer's loop: call on_step_end once per optimizer step."
            )
        batches = now.curriculum.place * now.rounds.micro_batches + position.inside * now.rounds.accumulation
        state.epoch = batches / (now.loader.rounds_per_epoch * now.rounds.micro_batches)

    def _finish_round(self) -> None:
        """The round in progress is trained, or what there was to train of it."""
        self.situation.curriculum.advance()
        self.position.inside = 0

    def _note(self) -> None:
        """Take what was heard since the last step."""
        now = self.situation
        for heard in self._heard:
            expected = expected_rates(now.rates)
            now.groups.add(
                heard.rows,
                generation=heard.generation,
                weighted=heard.weighted,
                by_function=heard.by_function,
                tokens=heard.completion_tokens,
                tells_apart=heard.tells_apart,
                expected=expected[heard.rows],
                contradicting=heard.contradicting,
            )
            now.rates.note(heard.rows, heard.weighted, when=heard.generation)
        self._heard.clear()

    def complete_line(self, logs: dict[str, float]) -> None:
        """Add the curriculum's scalars to a log line; the last one takes what is left, and is of the whole run."""
        pending = {} if self.planned is None else self.planned.journal.log.pending
        finish_line(logs, pending, self.trainer, self.loop)

    # -- state, and the end ---------------------------------------------------------------------------------------

    @contextmanager
    def saving(self, checkpoint: Path) -> Iterator[None]:
        """Around the writing of a checkpoint, on every rank: what only they know comes to the one that writes."""
        now = self.planned
        if now is None:  # the trainer saves without having trained
            with self.saver.saving(checkpoint):
                yield
            return
        self.activities.current = SAVING
        if self.position.steps < self.trainer.state.global_step:  # a callback before ours saves: settle the step
            self.end_step(self.trainer.state)
            self.position.heard = True
        self._settle()
        with self.loop.saving(), self.saver.saving(checkpoint):
            keep(now, checkpoint)
            yield

    def _settle(self) -> None:
        """The weights are finite, on every rank."""
        now = self.situation
        before = now.finite.seconds
        with self.activities(SAVING):
            now.finite.settle()
        now.budget.seconds["checking"] += now.finite.seconds - before

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
        """The last lines, in the ledger and on the console; takes what hears and compares off the trainer."""
        now, position = self.situation, self.position
        with self.activities(FINISHING):
            self._settle()
            self._note()
            if position.inside:  # the run's end cuts it, or the trainer was told to stop in the middle of it
                self._finish_round()
            boundary.close_stage(now, position)
            now.close()
            map_prompts(now)
            self.finished = True
            now.journal.take(boundary.summed_up(now, position))
        self.say_everything()

    def close(self) -> None:
        """Take what hears and compares off the trainer, however training ended."""
        if self.planned is not None:
            self.planned.close()
        self.saver.settle()

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
        return self.situation.curriculum.steps_in_epoch * self.situation.rounds.steps + self.position.inside

    def card_section(self) -> str | None:
        """What the model card says of the curriculum; None before the run is planned."""
        return None if self.planned is None else prompt_section(self.planned, self.position)
