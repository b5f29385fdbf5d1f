"""One run: from the first look at the training set to the last line. Everything that changes during it lives here.

The callback calls, in this sequence:

    make_loader()            get_train_dataloader: rows are read, the loader is made (its length must be known)
    begin(state)             on_train_begin: scores, orders, first decision; or all of it restored from a checkpoint
    begin_epoch / end_epoch  every epoch; one that a callback ends early leaves out the rest of its rows
    begin_step / end_step    every optimizer step; a stage's last one decides the next, before the checkpoint is saved
    before_ / after_update   around the optimizer's part of it
    saving() … state()       whenever the trainer saves, or a callback does
    finish()                 on_train_end

Rank 0 decides and writes; the other ranks hold the same numbers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from campus_tune.data.domains import Domains
from campus_tune.data.prepared import TokenRows, refuse_untokenised
from campus_tune.data.readings import Readings
from campus_tune.method.curriculum import Curriculum
from campus_tune.method.orders import order_rows
from campus_tune.method.stages import steps_of_epoch
from campus_tune.model import compat
from campus_tune.model.measure import LossMeter
from campus_tune.model.peers import Peers
from campus_tune.model.probes import Source
from campus_tune.model.trained import as_trained
from campus_tune.preview.cost_plan import RunFacts, budget_warnings, facts_of, needs, pays_for_all_rows
from campus_tune.preview.setup import make_budget, resolve, scores_health, start_warnings
from campus_tune.recipe.config import CampusConfig
from campus_tune.run.activity import (
    DECIDING,
    EVALUATING,
    FINISHING,
    PROBING,
    RESCORING,
    SAVING,
    SCORING,
    TRAINING,
    Activities,
)
from campus_tune.run.borrowed import Borrowed
from campus_tune.run.checkpoints import Checkpoint, bring_curriculum
from campus_tune.run.decide import Decider
from campus_tune.run.identity import Identity
from campus_tune.run.ledger import FILE as LEDGER
from campus_tune.run.lineage import refuse_strange_folder
from campus_tune.run.lock import RunLock
from campus_tune.run.look import SampleBatches
from campus_tune.run.manifest import Beside
from campus_tune.run.official_tasks import Evaluator
from campus_tune.run.probing import Probing
from campus_tune.run.rank_load import RankLoad
from campus_tune.run.saved_state import as_saved, refuse_misshapen
from campus_tune.run.saver import Saver
from campus_tune.run.stream.filling import Filling
from campus_tune.run.stream.finite import MANY_SKIPPED, Finite, Update, cause_in
from campus_tune.run.stream.loader import CurriculumLoader, batches_of_epoch
from campus_tune.run.stream.loop_state import LoopState
from campus_tune.run.stream.loss_audit import LossAudit
from campus_tune.run.stream.micro_batches import fewest_rows, n_micro_batches
from campus_tune.run.stream.step_loss import StepLoss
from campus_tune.run.stream.training_losses import FOLDER as LOSSES
from campus_tune.run.stream.training_losses import TrainingLosses, file_of_stage
from campus_tune.run.stream.watch import Watch
from campus_tune.run.told.examples import keep_examples
from campus_tune.run.told.journal import Journal
from campus_tune.scores.asking import Scoring
from campus_tune.scores.columns import Scores, passages_of
from campus_tune.scores.planning import make_scoring, open_cache, refreshes_to_come, stages_between
from campus_tune.scores.rescore import Rescorer
from campus_tune.words.errors import DataError, DivergedError, ResumeError, TrainerError
from campus_tune.words.files import atomic_write
from campus_tune.words.types import Json, RowArray

FOLDER = "curriculum"  # in the trainer's output_dir
STATE_VERSION = 6


class CampusRun:
    """The curriculum of one trainer.

    Args:
        trainer: with a curriculum put on it (`attach.equip`).
        config: settings as the user gave them.
        probes: held-out rows; None takes the recipe's.
    """

    def __init__(self, trainer: Any, config: CampusConfig, probes: Source = None) -> None:
        self.trainer = trainer
        self.given = config
        self.probe_source = probes if probes is not None else (list(config.probes.path) if config.probes else None)
        self.peers = Peers.of(trainer)
        self.activities = Activities(self.peers, lambda: trainer.state.global_step)
        self.folder = Path(trainer.args.output_dir) / FOLDER
        self.home = self.folder  # where what a checkpoint was planned with is read
        self.lock = RunLock(self.folder)
        self.saver = Saver(trainer, self.peers, self.folder, self._beside, self._add_hashing)
        self.same_world = True  # the checkpoint's random states are of this number of processes
        self.journal: Journal | None = None
        self.watch: Watch | None = None
        self.step_loss: StepLoss | None = None
        self.filling: Filling | None = None
        self.made_loader = False  # nobody has put another one in its place
        self.finished = False
        self.trains = self.trained_before = False  # `train()` is running; it has run, however it ended
        self.resumes = False  # this call of `train()` was asked to
        self._args: Borrowed | None = None  # what is changed of the trainer's arguments while they are read
        self.loop = LoopState(trainer, self.peers)
        self._epoch: int | None = None  # that the trainer's loop is in
        self._heard = False  # of the end of the step, before the trainer told us

    # -- before training ----------------------------------------------------------------------------------------

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """While the trainer trains: no other run writes into its folder; every rank calls it.

        Raises:
            TrainerError: another run does, or the folder belongs to something else.
        """
        self.peers.led(self._claim)
        try:
            yield
        finally:
            self.lock.release()

    def _claim(self) -> None:
        refuse_strange_folder(self.folder)
        self.lock.take()

    def come_from(self, checkpoint: Checkpoint | None) -> None:
        """What this `train()` goes on from; None begins anew."""
        self.resumes = checkpoint is not None
        self.home = self.folder if checkpoint is None else checkpoint.home
        self.saver.source = None if checkpoint is None else checkpoint.lineage
        self.same_world = True

    def make_loader(self) -> CurriculumLoader | SampleBatches:
        """The train loader; called by the trainer through `get_train_dataloader`, or by somebody who wants to look."""
        args, dataset = self.trainer.args, self.trainer.train_dataset
        if dataset is None or len(dataset) == 0:
            raise DataError("`train_dataset` must have at least one row, got none. Check the path, split and filters.")
        refuse_untokenised(dataset)
        view, collator = compat.loader_view(self.trainer, dataset)
        micro, world = compat.micro_batch_size(self.trainer), self.peers.world
        self.global_batch: int = micro * world * args.gradient_accumulation_steps
        if len(view) < self.global_batch:
            raise DataError(
                f"`train_dataset` must fill at least one optimizer step of {self.global_batch} rows, got "
                f"{len(view)}. Lower per_device_train_batch_size or gradient_accumulation_steps."
            )
        drop_last = args.dataloader_drop_last
        self.steps_per_epoch = steps_of_epoch(len(view), self.global_batch, drop_last=drop_last)
        short = 0 if drop_last or self.given.coverage == "revisit" else len(view) % self.global_batch
        training_collator = compat.training_collator(collator, flat=self.given.batching == "flat")
        if not self.trains or (self.made_loader and not compat.the_loop_asks(self.trainer)):
            return SampleBatches(
                view,
                training_collator,
                n_batches=batches_of_epoch(
                    self.steps_per_epoch,
                    args.gradient_accumulation_steps,
                    n_micro_batches(short, micro=micro, world=world),
                ),
                batch_size=micro,
                place=compat.subject(self.trainer).place,
                peers=self.peers,
            )
        self._leave_step_loss()  # of an attempt that broke off: it would look like the user's own training_step
        self.trained = as_trained(view, collator, speaks=self.peers.leads)
        readings = Readings(open_cache(self.given, self.peers).folder, writes=self.peers.leads)
        self.rows: TokenRows = self.trained.rows(readings=readings)
        if short:
            last_rows = fewest_rows(short, micro=micro, world=world)
            compat.refuse_masked_batches(self.trainer, last_rows=last_rows, world=world)
        subject = partial(compat.subject, self.trainer)
        self.meter = LossMeter(subject, view, collator, self.rows.tokens, peers=self.peers, what="scoring")
        self.loader = CurriculumLoader(
            view,
            training_collator,
            lengths=self.rows.tokens,
            steps_per_epoch=self.steps_per_epoch,
            accumulation=args.gradient_accumulation_steps,
            micro=micro,
            short_rows=short,
            peers=self.peers,
            by_length=self.given.batching != "plain" and compat.why_rows_stay_as_drawn(self.trainer) is None,
            flat=self.given.batching == "flat" or bool(getattr(collator, "padding_free", False)),
            workers=compat.worker_settings(args),
        )
        self.loader.counts_down = compat.asks_the_loader_in_each_epoch(self.trainer)
        self.loader.run = self
        self.made_loader = True
        if self._args is not None and self.resumes:
            self._args.take()
        return self.loader

    def begin(self, state: Any, saved: Json | None) -> None:
        """Plan the run, or restore it.

        Args:
            state: the trainer's state; `max_steps` is known, `global_step` is above 0 when a checkpoint was loaded.
            saved: what `state()` gave when that checkpoint was written.
        """
        self.saver.refuse_strangers(state.global_step, state.max_steps)
        self.total_steps: int = state.max_steps
        self.config = resolve(self.trainer, self.given, has_probes=self.probe_source is not None)
        self.domains = Domains.read(self.trainer.train_dataset, self.config.within)
        training_tokens = self.total_steps / self.steps_per_epoch * float(self.rows.tokens.sum())
        self.budget = make_budget(self.trainer, self.config, training_tokens, self._refreshes_to_come(0))
        self.probing = Probing(
            self.probe_source,
            self.config,
            self.trainer,
            self.rows,
            self.domains,
            self.budget,
            self.peers,
            n_stages=self._stages_between(0, self.total_steps),
        )
        self.identity = Identity.of(self)
        self.identity.refuse_different_ranks(self.peers)
        self.evaluator = Evaluator(self.config.evaluate, self.trainer, self.peers, self.folder / "evaluation")
        self.load = RankLoad(self.peers, self.activities, self.loader)
        self.journal = Journal(self.folder, self.peers, self.budget, self.total_steps)
        self.training_losses = TrainingLosses()
        self._rates = 0.0  # learning rates of the stage's steps so far, added up
        self._logged_step = state.global_step  # of the trainer's last line
        self.close()  # an attempt that broke off
        self.watch = Watch(self.trainer.model, self.rows, LossAudit.of(self.trainer), labels=self.trained.labels_known)
        self.filling = Filling(self.trainer.model) if self.loader.fills() else None  # its model's hooks see real rows
        self.finite = Finite(self.trainer.model, self.peers, cause_in(self.trainer, self.loader))
        if state.global_step == 0:
            self._plan()
        else:
            self._restore(state.global_step, saved)
        self.step_loss = StepLoss.of(self.trainer, self.loader)
        self.loader.curriculum = self.curriculum
        if state.global_step and saved and saved["epoch_ended"]:
            self._leave_epoch()
        elif self.curriculum.needs_decision:
            self._decide()
        if self.curriculum.finished:
            self.loop.make_up()
        self.activities.current = TRAINING

    # -- a new run, or an old one --------------------------------------------------------------------------------

    def _plan(self) -> None:
        """Scores, orders, the first lines of the ledger."""
        assert self.journal is not None
        if self.peers.leads:
            self.saver.start()
        self.journal.started(self.identity.record(), self.domains.sizes())
        scoring = self._make_scoring()
        facts = self._cost_facts(scoring)
        self.budget.fit(needs(self.config, self.budget, facts))
        if self.budget.caps is not None:
            self.probing.choose()
        with self.activities(SCORING):
            self.scores = self.peers.from_leader(scoring.start())
        small = self._warnings_of_budget(facts)
        enough = partial(pays_for_all_rows, self.config, self.budget, facts)
        self.start_digests = self.scores.digests()
        if self.peers.leads:
            self.scores.save(self.folder / "scores", self.rows)
            atomic_write(self.folder / "recipe.yaml", self.config.to_yaml())
            dataset, tokenizer = self.trainer.train_dataset, compat.tokenizer_of(self.trainer)
            keep_examples(self.folder, self.scores.by_label, dataset, tokenizer, self.domains)
        for label, scores in self.scores.by_label.items():
            quantiles = np.quantile(scores, [0, 0.25, 0.5, 0.75, 1]).tolist()
            self.journal.scored(label, quantiles, self.scores.notes[label])
        health = scores_health(
            self.config, self.scores, scoring.texts, self.domains, chosen=self.given.within is not None
        )
        self.journal.examined(health, self.budget.found_share())
        self.journal.warned([*small, *start_warnings(self.trainer, self.scores, health, scoring, enough)])
        self._make_curriculum(scoring)
        for label, notes in self.scores.notes.items():
            self.curriculum.bar(label, barred=notes.get("tells_apart") is False)

    def _cost_facts(self, scoring: Scoring) -> RunFacts:
        return facts_of(scoring, self.probing.probes, self.total_steps, self.steps_per_epoch)

    def _warnings_of_budget(self, facts: RunFacts) -> list[str]:
        """Whether what is still measured in any case fits in what is left of the budget: said before training."""
        certain = self.probing.tokens * (1 + (not self.probing.competence.history))
        self.budget.must_pay(certain)
        return budget_warnings(self.config, self.budget, facts, certain)

    def _make_scoring(self) -> Scoring:
        return make_scoring(
            self.trainer,
            self.config,
            self.rows,
            self.meter,
            self.budget,
            self.peers,
            groups=self.domains.codes,
            n_refreshes=self._refreshes_to_come(0),
            trained=self.trained,
        )

    def _make_curriculum(self, scoring: Scoring) -> None:
        seed, groups, by_label = self.config.seed or 0, self.domains.codes, self.scores.by_label
        orders = {label: order_rows(by_label[label], seed=seed, groups=groups) for label in self.config.labels}
        self.curriculum = Curriculum(
            self.config.schedule(),
            {} if self.config.is_shuffle else orders,
            n_rows=len(self.rows),
            global_batch=self.global_batch,
            total_steps=self.total_steps,
            groups=groups,
            drop_last=self.trainer.args.dataloader_drop_last,
        )
        self.decider = Decider(
            self.config.build_selector(), self.meter, self.scores, self.budget, self.rows.tokens, self.peers, seed
        )
        self.rescorer = Rescorer(scoring, self.scores, self.curriculum, self.rows, self.home / "scores")

    def _restore(self, step: int, saved: Json | None) -> None:
        """Continue from a checkpoint's state."""
        assert self.journal is not None
        assert self.watch is not None
        if not self.resumes:
            raise TrainerError(
                f"`train` must be told where to resume as resume_from_checkpoint, got a resume at step {step} that "
                "something else began: whether its checkpoint is whole was not asked. Call trainer.train("
                "resume_from_checkpoint=…); a train method of your own must have that parameter and pass it on."
            )
        if not saved:
            raise ResumeError(
                f"the checkpoint at step {step} must hold a curriculum state, got none: it was written without the "
                "CampusCallback. Resume from a checkpoint of this recipe, or train without resuming."
            )
        if saved.get("version") != STATE_VERSION:
            raise ResumeError(
                f"the checkpoint at step {step} must hold a curriculum state of version {STATE_VERSION}, got "
                f"{saved.get('version')!r}. Resume with the campus_tune that wrote it, or train without resuming."
            )
        refuse_misshapen(saved, step)
        changed = self.config.resume == "changed_future"
        self.identity.refuse_other(saved["identity"], changed_future=changed)
        self.scores = self.peers.led(
            lambda: Scores.load(self.home / "scores", saved["scores"], passages_of(self.config))
        )
        self.start_digests = saved["scores"]
        self.scores.refuse_missing(self.config)
        self._make_curriculum(scoring := self._make_scoring())
        with as_saved(step):
            self.rescorer.load(saved["rescoring"])
            self.curriculum.load(saved["curriculum"])
            self.probing.competence.load(saved["competence"])
            self.budget.load(saved["budget"])
            self.training_losses.load(saved["training_losses"])
        self.probing.choose()
        kept, small = self.budget.kept, []
        if changed and not self.curriculum.finished:  # the budget may be smaller than before, or more to come
            small = self._warnings_of_budget(self._cost_facts(scoring))
        self._rates, self._logged_step = saved["rates"], saved["logged_step"]
        self.watch.checked, self.watch.passed, self.watch.labels_seen = saved["audit"]
        with as_saved(step):
            self.loop.load(saved["loop"])
        world = saved["identity"]["batch"]["world"]
        self.same_world = world == self.peers.world
        self.peers.led(partial(self._move_in, step))
        self.journal.resumed(saved["journal"], step, self.curriculum.n_stages - 1, (world, self.peers.world))
        if kept and not self.budget.kept:
            self.journal.warned(small)
        if not self.same_world:
            compat.seed_anew(self.config.seed or 0, step, self.peers.rank)  # no random state of this cut was saved
        if self.peers.leads:
            atomic_write(self.folder / "recipe.yaml", self.config.to_yaml())  # its future may have changed

    def _move_in(self, step: int) -> None:
        """Nothing can refuse the resume any more: from here on the run's folder is written to."""
        assert self.journal is not None
        self.saver.go_on(step)
        bring_curriculum(self.home, self.folder, self.journal.put_aside)
        self.home = self.folder
        self.rescorer.folder = self.folder / "scores"

    # -- during training ----------------------------------------------------------------------------------------

    @contextmanager
    def training(self) -> Iterator[None]:
        """Around `train()`: what is changed of the trainer and its arguments meanwhile is put back, however it ends."""
        self._args = Borrowed(self.trainer.args, ignore_data_skip=True)
        self.loop, self._epoch = LoopState(self.trainer, self.peers), None
        self.made_loader = self._heard = False
        self.trains = True
        try:
            yield
        finally:
            self.trains, self.trained_before = False, True
            self._args.give_back()
            self.close()

    def begin_epoch(self) -> None:
        """An epoch begins, or goes on after a resume."""
        self._epoch = self.curriculum.epoch

    def end_epoch(self, control: Any) -> None:
        """An epoch has ended: because its rows are trained, or because a callback has asked for it.

        Args:
            control: of the trainer, which counts epochs anew after a resume: the last one is the last.
        """
        if self.curriculum.epoch == self._epoch and control.should_epoch_stop and not control.should_training_stop:
            if self.loop.inside_step:
                self._warn_of_left_over_gradients()
            self._leave_epoch()
        self.loop.end_step()
        self._epoch = None
        if self.resumes and self.curriculum.finished:
            control.should_training_stop = True

    def _warn_of_left_over_gradients(self) -> None:
        assert self.journal is not None
        step = self.curriculum.step + 1
        warning = (
            f"a callback ended the epoch between the micro batches of step {step}. The trainer keeps the gradients of "
            "those it has had, so they are part of its next update, beside the rows that are planned for it, and "
            "may be trained again. Set should_epoch_stop in on_step_end to leave out whole steps."
        )
        self.journal.warned([warning])

    def _leave_epoch(self) -> None:
        """The rest of the epoch is left out; the next one begins with a decision of its own."""
        assert self.journal is not None
        stage, epoch = self.curriculum.stage, self.curriculum.epoch
        if stage is not None and self.curriculum.step > stage.first_step:
            self._close_stage()
        left_out = self.curriculum.end_epoch()
        self.journal.epoch_ended(epoch, step=self.curriculum.step, left_out=left_out)
        self._decide_next()

    def begin_step(self) -> None:
        """An optimizer step begins."""
        assert self.watch is not None
        if self._args is not None:
            self._args.give_back()  # the trainer has read them
        self.saver.seal()
        self.loop.make_up()
        self.activities.current = TRAINING
        self.watch.begin_step(self.curriculum.step + 1)
        self._rate = compat.learning_rate(self.trainer)
        self.loop.begin_step()
        self._clock = time.perf_counter()

    def before_update(self) -> None:
        """The gradients of an optimizer step are there."""
        step, rows = self.curriculum.step, self.curriculum.step_rows()
        self.finite.before_update(Update(step + 1, rows, compat.learning_rate(self.trainer)))

    def after_update(self) -> None:
        """The optimizer has used them, or a gradient scaler has skipped the step."""
        assert self.journal is not None
        self.finite.after_update(skipped=bool(self.trainer.accelerator.optimizer_step_was_skipped))
        if self.finite.many_were_skipped():
            self.journal.warned([MANY_SKIPPED])

    def end_step(self, state: Any) -> None:
        """An optimizer step is finished; a stage's last one decides the next stage."""
        assert self.watch is not None
        if self._heard:  # a callback before ours has saved
            self._heard = False
            return
        self.loop.end_step()
        self._rates += self._rate
        self.budget.seconds["training"] += time.perf_counter() - self._clock
        if self.step_loss is not None and not self.step_loss.end_step():
            self._leave_step_loss()
        rows = self.curriculum.step_rows()
        self._compare_step(rows)
        if self.curriculum.step == 0 and not self.watch.shows_losses:
            self._warn_of_silent_rows()
        self.load.add_step(rows)
        self._step_finished()
        if self.curriculum.step != state.global_step:
            raise TrainerError(
                f"the curriculum must be at the trainer's step {state.global_step}, got {self.curriculum.step}. "
                "Something else drives this trainer's loop: call on_step_end once per optimizer step."
            )
        state.epoch = self.loader.epoch_after(self.curriculum.place)  # the trainer's own restarts after a resume

    def _compare_step(self, rows: RowArray) -> None:
        """Hand the step's plan to the audit."""
        assert self.watch is not None
        self.watch.end_step(self.loader.micro_batches(rows), answer_tokens=int(self.rows.answer_tokens[rows].sum()))

    def _warn_of_silent_rows(self) -> None:
        assert self.journal is not None
        warning = (
            f"training shows no losses of single rows: {compat.why_no_row_losses(self.trainer)}. So the ledger has "
            "the trainer's own loss for each stage and none by domain, training_losses/ stays empty, and "
            "re-scoring measures what it would have had for free. Everything else is as with them."
        )
        self.journal.warned([warning])

    def complete_line(self, logs: dict[str, float]) -> None:
        """Add the curriculum's scalars to a log line; the last one takes what is left, and is of the whole run."""
        step = self.trainer.state.global_step
        if "loss" in logs and self.watch is not None and step > self._logged_step:
            self.training_losses.add_logged(step - self._logged_step, logs["loss"])
            self._logged_step = step
        if {"loss", "train_runtime"} & logs.keys() and self.journal is not None:
            logs.update(self.journal.pending)
            self.journal.pending.clear()
        if "train_loss" in logs and self.loop.goes_on:
            logs["train_loss"] = compat.whole_train_loss(self.trainer)

    def _step_finished(self) -> None:
        self.curriculum.advance()
        if self.curriculum.finished or self.curriculum.needs_decision:
            self._close_stage()
            self._decide_next()

    def _decide_next(self) -> None:
        """A stage is closed: decide the next one, or measure a last time."""
        if not self.curriculum.finished:
            self._decide()
            return
        self._measure_probes()
        if self.evaluator.due(self.curriculum.n_stages, ends=True):
            self._evaluate()

    def _decide(self) -> None:
        """Measure the probes and the offers, choose the next stage, write it down."""
        if self.evaluator.due(self.curriculum.n_stages):
            self._evaluate()
        with self.activities(DECIDING):
            self._measure_and_choose()

    def _evaluate(self) -> None:
        assert self.journal is not None
        with self.activities(EVALUATING):
            record = self.evaluator.evaluate(self.curriculum.n_stages)
        self.journal.evaluated({"stage": self.curriculum.n_stages, "step": self.curriculum.step, **record})

    def _measure_and_choose(self) -> None:
        assert self.journal is not None
        if self.probing.due(self.curriculum.n_stages):
            self._measure_probes()
        step = self.curriculum.step
        if self.rescorer.due():
            with self.activities(RESCORING):
                record, warnings = self.rescorer.again(1 + self._refreshes_to_come(step), self.probing.tokens)
            self.journal.rescored({"stage": self.curriculum.n_stages, "step": step, **record}, warnings)
        allowance = self.budget.per_decision(
            self._stages_between(step, self.curriculum.handover_step), self._reserved(step)
        )
        decision = self.decider.decide(
            self.curriculum, probe_loss=self.probing.loss, allowance=allowance, reserved=self.probing.tokens
        )
        self.journal.decided(decision.record)

    def _reserved(self, step: int) -> float:
        """Forward tokens set aside for the probes and re-scorings still to come."""
        n_probes = self._stages_between(step, self.total_steps) // self.probing.every
        reserved = n_probes * float(self.probing.tokens)
        if self._refreshes_to_come(step):
            reserved += sum(self.budget.per_time(purpose, 1) for purpose in self.budget.to_come)
        return reserved

    def _refreshes_to_come(self, step: int) -> int:
        return refreshes_to_come(self.config, self.total_steps, self.steps_per_epoch, step=step)

    def _stages_between(self, step: int, end: int) -> int:
        return stages_between(self.config, self.steps_per_epoch, step, end)

    def _measure_probes(self) -> None:
        assert self.journal is not None
        with self.activities(PROBING):
            report = self.probing.measure()
        if report is not None:
            self.journal.probed(self.curriculum.step, report)

    def _close_stage(self) -> None:
        """What the stage's own forwards showed, for free."""
        stage = self.curriculum.stage
        assert stage is not None
        assert self.journal is not None
        assert self.watch is not None
        self._share_losses()
        self.rescorer.add_free(self.training_losses.rows, self.training_losses.losses)
        summary = self.training_losses.summary(self.domains)
        if not math.isfinite(summary.get("train_loss", 0.0)):
            self._settle()  # says more, where it finds the cause in the weights
            raise DivergedError(
                f"the training loss of stage {stage.index} must be finite, got {summary['train_loss']}. The model has "
                "diverged: lower the learning rate, or resume from an earlier checkpoint."
            )
        end: Json = {"stage": stage.index, "step": self.curriculum.step, "chosen": stage.chosen, **summary}
        end["learning_rate"] = self._rates / (self.curriculum.step - stage.first_step)  # mean of its steps
        self._rates = 0.0
        end["audit"] = self._audit()
        self.journal.stage_ended({**end, **self.load.close_stage(self.watch.forward_seconds())})
        self.training_losses.close_stage(self.folder / LOSSES if self.peers.leads else None, stage.index)

    def _share_losses(self) -> None:
        """Every rank's training losses to all ranks; every rank calls it."""
        assert self.watch is not None
        self.training_losses.add(*self.watch.harvest())
        self.training_losses.share(self.peers, self._planned())

    def _planned(self) -> RowArray:
        """The rows of the current stage, as they are trained."""
        stage = self.curriculum.stage
        assert stage is not None
        return stage.rows

    def _audit(self) -> Json:
        """Steps that were checked, that passed, and whether labels were seen in all of them, on every rank."""
        assert self.watch is not None
        mine = (self.watch.checked, self.watch.passed, self.watch.labels_seen)
        checked, passed, labels = (min(counts) for counts in zip(*self.peers.gather(mine), strict=True))
        return {"checked": checked, "passed": passed, "labels": labels}

    # -- state, and the end -------------------------------------------------------------------------------------

    @contextmanager
    def saving(self, checkpoint: Path) -> Iterator[None]:
        """Around the writing of a checkpoint, on every rank: what only they know comes to the one that writes."""
        if self.watch is None:  # the trainer saves without having trained
            with self.saver.saving(checkpoint):
                yield
            return
        self.activities.current = SAVING
        if self.curriculum.step < self.trainer.state.global_step:  # a callback before ours saves: settle the step
            self.end_step(self.trainer.state)
            self._heard = True
        self._share_losses()  # every step is compared before one of them reaches a checkpoint
        self._settle()
        with self.loop.saving(), self.saver.saving(checkpoint):
            yield

    def before_leaving(self) -> None:
        """Weights are saved for others to use, by whoever calls `save_model`, perhaps on one rank only.

        Raises:
            DivergedError: they are not finite.
        """
        if self.watch is not None and not self.saver.inside:  # before a checkpoint they were looked at
            self.finite.refuse_weights()

    def _settle(self) -> None:
        before = self.finite.seconds
        with self.activities(SAVING):
            self.finite.settle()
        self.budget.seconds["checking"] += self.finite.seconds - before

    def state(self) -> Json:
        """Everything a resumed run needs, as JSON; {} before the run is planned."""
        if self.watch is None or self.journal is None:
            return {}
        return {
            "version": STATE_VERSION,
            "identity": self.identity.record(),
            "curriculum": self.curriculum.state(),
            "competence": self.probing.competence.state(),
            "budget": self.budget.state(),
            "scores": self.start_digests,
            "rescoring": self.rescorer.state(),
            "training_losses": self.training_losses.state(),
            "rates": self._rates,
            "loop": self.loop.state(epoch_over=self._epoch not in (None, self.curriculum.epoch) or self._ends_epoch()),
            "epoch_ended": self._ends_epoch(),
            "logged_step": self._logged_step,
            "audit": [self.watch.checked, self.watch.passed, self.watch.labels_seen],
            "journal": self.journal.state(),
        }

    def _ends_epoch(self) -> bool:
        """Whether the trainer will leave the epoch before its next step."""
        inside = not self.loop.inside_step and self.curriculum.epoch == self._epoch and not self.curriculum.finished
        return inside and bool(self.trainer.control.should_epoch_stop)

    def _beside(self) -> Beside:
        """What a checkpoint that is saved now needs of the run's folder, and what the run has left there so far."""
        assert self.journal is not None
        closed = self.curriculum.n_stages - (not self.curriculum.finished)
        left = ["examples.json", *(f"{LOSSES}/{file_of_stage(stage)}" for stage in range(closed))]
        left += [f"evaluation/stage-{stage:05d}.json" for stage in range(closed + 1)]
        left += [f"scores/{name}.parquet" for name in self.rescorer.earlier_names()]
        return Beside(
            ledger=LEDGER,
            ledger_size=self.journal.ledger.size,
            needed=tuple(f"scores/{name}.parquet" for name in [*self.start_digests, *self.rescorer.names()]),
            outcome=tuple(name for name in left if (self.folder / name).exists()),
        )

    def _add_hashing(self, seconds: float) -> None:
        self.budget.seconds["hashing"] += seconds

    def close(self) -> None:
        """Take the hooks off the model and end the loader's workers, however training ended."""
        if self.watch is not None:
            self.watch.close()
            self.loader.close()
            self._leave_step_loss()
            if self.filling is not None:
                self.filling.close()
        self.saver.settle()

    def _leave_step_loss(self) -> None:
        if self.step_loss is not None:
            self.step_loss.close()
            self.step_loss = None

    def finish(self) -> None:
        """The last lines, in the ledger and on the console; takes the hooks off the model."""
        with self.activities(FINISHING):
            self._finish()

    def _finish(self) -> None:
        assert self.journal is not None
        assert self.watch is not None
        self._settle()
        self.watch.settle()
        stage = self.curriculum.stage
        if not self.curriculum.finished and stage is not None and self.curriculum.step > stage.first_step:
            self._close_stage()  # the trainer was told to stop in the middle of it
            self._measure_probes()
        self.watch.close()
        self.finished = True
        seen, repeated = self.curriculum.coverage_counts()
        end: Json = {
            "step": self.curriculum.step,
            "n_rows": len(self.rows),
            "rows_seen": seen,
            "rows_repeated": repeated,
            "visits": seen + repeated,
            "coverage": self.config.coverage,
            "rows_by_choice": self.curriculum.rows_by_choice,
            "audit": self._audit(),
            "budget": self.config.budget,
            **self.load.total(),
        }
        self.journal.ended(end)
