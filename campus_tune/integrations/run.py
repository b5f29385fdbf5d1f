"""One run: from the first look at the training set to the last line. Everything that changes during it lives here.

The callback calls, in this sequence:

    make_loader()            get_train_dataloader: rows are read, the loader is made (its length must be known)
    begin(state)             on_train_begin: scores, orders, first decision; or all of it restored from a checkpoint
    begin_epoch / end_epoch  every epoch; one that a callback ends early leaves out the rest of its rows
    begin_step / end_step    every optimizer step; a stage's last one decides the next, before the checkpoint is saved
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

from campus_tune.curriculum import Curriculum
from campus_tune.errors import DataError, DivergedError, ResumeError, TrainerError
from campus_tune.files import atomic_write
from campus_tune.integrations import compat
from campus_tune.integrations.borrowed import Borrowed
from campus_tune.integrations.decide import Decider
from campus_tune.integrations.domains import Domains
from campus_tune.integrations.evaluate import Evaluator
from campus_tune.integrations.examples import keep_examples
from campus_tune.integrations.identity import Identity
from campus_tune.integrations.journal import Journal
from campus_tune.integrations.loader import CurriculumLoader
from campus_tune.integrations.loop_state import LoopState
from campus_tune.integrations.measure import LossMeter
from campus_tune.integrations.peers import Peers
from campus_tune.integrations.phases import (
    DECIDING,
    EVALUATING,
    FINISHING,
    PROBING,
    RESCORING,
    SAVING,
    SCORING,
    TRAINING,
    Phases,
)
from campus_tune.integrations.planning import make_scoring, refreshes_to_come, stages_between
from campus_tune.integrations.probes import Source
from campus_tune.integrations.probing import Probing
from campus_tune.integrations.rank_load import RankLoad
from campus_tune.integrations.rescore import Rescorer
from campus_tune.integrations.rows import TokenRows, read_rows
from campus_tune.integrations.scores import Scores, passages_of
from campus_tune.integrations.scoring import Scoring
from campus_tune.integrations.setup import make_budget, resolve, scores_health, start_warnings
from campus_tune.integrations.training_losses import TrainingLosses
from campus_tune.integrations.watch import CHECKS, Watch
from campus_tune.orders import order_rows
from campus_tune.recipe import CampusConfig
from campus_tune.stages import steps_of_epoch
from campus_tune.types import Json, RowArray

FOLDER = "curriculum"  # in the trainer's output_dir
STATE_VERSION = 5


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
        self.phases = Phases(self.peers, lambda: trainer.state.global_step)
        self.folder = Path(trainer.args.output_dir) / FOLDER
        self.journal: Journal | None = None
        self.watch: Watch | None = None
        self.made_loader = False  # nobody has put another one in its place
        self.finished = False
        self.resumes = False  # this call of `train()` was asked to
        self._args: Borrowed | None = None  # what is changed of the trainer's arguments while they are read
        self.loop = LoopState(trainer, self.peers)
        self._epoch: int | None = None  # that the trainer's loop is in
        self._heard = False  # of the end of the step, before the trainer told us

    # -- before training ----------------------------------------------------------------------------------------

    def make_loader(self) -> CurriculumLoader:
        """The train loader; called by the trainer through `get_train_dataloader`."""
        args, dataset = self.trainer.args, self.trainer.train_dataset
        if dataset is None or len(dataset) == 0:
            raise DataError("`train_dataset` must have at least one row, got none. Check the path, split and filters.")
        view, collator = compat.loader_view(self.trainer, dataset)
        self.rows: TokenRows = read_rows(view)
        micro_batches = self.peers.world * args.gradient_accumulation_steps
        self.global_batch: int = compat.micro_batch_size(self.trainer) * micro_batches
        if len(self.rows) < self.global_batch:
            raise DataError(
                f"`train_dataset` must fill at least one optimizer step of {self.global_batch} rows, got "
                f"{len(self.rows)}. Lower per_device_train_batch_size or gradient_accumulation_steps."
            )
        drop_last, short = args.dataloader_drop_last, len(self.rows) % self.global_batch
        self.steps_per_epoch = steps_of_epoch(len(self.rows), self.global_batch, drop_last=drop_last)
        if short and not drop_last:
            compat.refuse_masked_batches(self.trainer, short_rows=short, micro_batches=micro_batches)
        subject = partial(compat.subject, self.trainer)
        self.meter = LossMeter(subject, view, collator, self.rows.tokens, peers=self.peers, what="scoring")
        self.loader = CurriculumLoader(
            view,
            compat.training_collator(collator, flat=self.given.batching == "flat"),
            lengths=self.rows.tokens,
            steps_per_epoch=self.steps_per_epoch,
            accumulation=args.gradient_accumulation_steps,
            peers=self.peers,
            by_length=self.given.batching != "plain" and compat.counts_tokens_of_the_step(self.trainer),
            flat=self.given.batching == "flat" or bool(getattr(collator, "padding_free", False)),
            workers=compat.worker_settings(args),
        )
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
        self.load = RankLoad(self.peers, self.phases, self.loader)
        self.journal = Journal(self.folder, self.peers, self.budget, self.total_steps)
        self.training_losses = TrainingLosses()
        self._rates = 0.0  # learning rates of the stage's steps so far, added up
        self.close()  # an attempt that broke off
        self.watch = Watch(self.trainer.model, self.rows.content)
        if state.global_step == 0:
            self._plan()
        else:
            self._restore(state.global_step, saved)
        self.loader.curriculum = self.curriculum
        if state.global_step and saved and saved["epoch_ended"]:
            self._leave_epoch()
        elif self.curriculum.needs_decision:
            self._decide()
        if self.curriculum.finished:
            self.loop.make_up()
        self.phases.current = TRAINING

    # -- a new run, or an old one --------------------------------------------------------------------------------

    def _plan(self) -> None:
        """Scores, orders, the first lines of the ledger."""
        assert self.journal is not None
        self.journal.started(self.identity.record(), self.domains.sizes())
        scoring = self._make_scoring()
        with self.phases(SCORING):
            self.scores = self.peers.from_leader(scoring.start())
        self.start_digests = self.scores.digests()
        if self.peers.leads:
            self.scores.save(self.folder / "scores", self.rows)
            atomic_write(self.folder / "recipe.yaml", self.config.to_yaml())
            dataset, tokenizer = self.trainer.train_dataset, self.trainer.processing_class
            keep_examples(self.folder, self.scores.by_label, dataset, tokenizer, self.domains)
        for label, scores in self.scores.by_label.items():
            quantiles = np.quantile(scores, [0, 0.25, 0.5, 0.75, 1]).tolist()
            self.journal.scored(label, quantiles, self.scores.notes[label])
        health = scores_health(self.config, self.scores, scoring.texts, self.domains)
        self.journal.examined(health, self.budget.found_share())
        self.journal.warned(start_warnings(self.trainer, self.scores, health, scoring))
        self._make_curriculum(scoring)
        for label, notes in self.scores.notes.items():
            self.curriculum.bar(label, barred=notes.get("tells_apart") is False)

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
        self.rescorer = Rescorer(scoring, self.scores, self.curriculum, self.rows, self.folder / "scores")

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
        self.identity.refuse_other(saved["identity"], changed_future=self.config.resume == "changed_future")
        self.scores = self.peers.led(
            lambda: Scores.load(self.folder / "scores", saved["scores"], passages_of(self.config))
        )
        self.start_digests = saved["scores"]
        self.scores.refuse_missing_start(self.config)
        self._make_curriculum(self._make_scoring())
        self.rescorer.load(saved["rescoring"])
        self.curriculum.load(saved["curriculum"])
        self.probing.competence.load(saved["competence"])
        self.budget.load(saved["budget"])
        self.training_losses.load(saved["training_losses"])
        self._rates = saved["rates"]
        self.watch.checked, self.watch.passed = saved["audit"]
        self.loop.load(saved["loop"])
        world = saved["identity"]["batch"]["world"]
        self.journal.resumed(saved["journal"], step, self.curriculum.n_stages - 1, (world, self.peers.world))
        if world != self.peers.world:
            compat.seed_anew(self.config.seed or 0, step, self.peers.rank)  # no random state of this cut was saved
        if self.peers.leads:
            atomic_write(self.folder / "recipe.yaml", self.config.to_yaml())  # its future may have changed

    # -- during training ----------------------------------------------------------------------------------------

    @contextmanager
    def training(self) -> Iterator[None]:
        """Around `train()`: what is changed of the trainer's arguments meanwhile is put back, however it ends."""
        self._args = Borrowed(self.trainer.args, ignore_data_skip=True)
        self.loop, self._epoch = LoopState(self.trainer, self.peers), None
        self.made_loader = self._heard = False
        try:
            yield
        finally:
            self._args.give_back()

    def begin_epoch(self) -> None:
        """An epoch begins, or goes on after a resume."""
        self._epoch = self.curriculum.epoch

    def end_epoch(self, control: Any) -> None:
        """An epoch has ended: because its rows are trained, or because a callback has asked for it.

        Args:
            control: of the trainer, which counts epochs anew after a resume: the last one is the last.
        """
        if self.curriculum.epoch == self._epoch and control.should_epoch_stop and not control.should_training_stop:
            self._leave_epoch()
        self.loop.end_step()
        self._epoch = None
        if self.resumes and self.curriculum.finished:
            control.should_training_stop = True

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
        """An optimizer step begins: is it one that is audited?"""
        assert self.watch is not None
        assert self.curriculum.stage is not None
        if self._args is not None:
            self._args.give_back()  # the trainer has read them
        self.loop.make_up()
        self.phases.current = TRAINING
        every = max(1, self.total_steps // CHECKS)
        step = self.curriculum.step
        self.watch.begin_step(audit=step % every == 0 or step == self.curriculum.stage.first_step)
        self._rate = compat.learning_rate(self.trainer)
        self.loop.begin_step()
        self._clock = time.perf_counter()

    def end_step(self, state: Any) -> None:
        """An optimizer step is finished; a stage's last one decides the next stage."""
        assert self.watch is not None
        if self._heard:  # a callback before ours has saved
            self._heard = False
            return
        self.loop.end_step()
        self._rates += self._rate
        self.budget.seconds["training"] += time.perf_counter() - self._clock
        rows = self.curriculum.step_rows()
        self.watch.end_step(self.loader.micro_batches(rows))
        self.load.add_step(rows)
        self._step_finished()
        if self.curriculum.step != state.global_step:
            raise TrainerError(
                f"the curriculum must be at the trainer's step {state.global_step}, got {self.curriculum.step}. "
                "Something else drives this trainer's loop: call on_step_end once per optimizer step."
            )
        state.epoch = self.curriculum.place / self.steps_per_epoch  # the trainer's own restarts after a resume

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
        with self.phases(DECIDING):
            self._measure_and_choose()

    def _evaluate(self) -> None:
        assert self.journal is not None
        with self.phases(EVALUATING):
            record = self.evaluator.evaluate(self.curriculum.n_stages)
        self.journal.evaluated({"stage": self.curriculum.n_stages, "step": self.curriculum.step, **record})

    def _measure_and_choose(self) -> None:
        assert self.journal is not None
        if self.probing.due(self.curriculum.n_stages):
            self._measure_probes()
        step = self.curriculum.step
        if self.rescorer.due():
            with self.phases(RESCORING):
                record, warnings = self.rescorer.again(1 + self._refreshes_to_come(step))
            self.journal.rescored({"stage": self.curriculum.n_stages, "step": step, **record}, warnings)
        allowance = self.budget.per_decision(
            self._stages_between(step, self.curriculum.handover_step), self._reserved(step)
        )
        decision = self.decider.decide(self.curriculum, probe_loss=self.probing.loss, allowance=allowance)
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
        with self.phases(PROBING):
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
            raise DivergedError(
                f"the training loss of stage {stage.index} must be finite, got {summary['train_loss']}. The model has "
                "diverged: lower the learning rate, or resume from an earlier checkpoint."
            )
        end: Json = {"stage": stage.index, "step": self.curriculum.step, "chosen": stage.chosen, **summary}
        end["learning_rate"] = self._rates / (self.curriculum.step - stage.first_step)  # mean of its steps
        self._rates = 0.0
        end["audit"] = self._audit()
        self.journal.stage_ended({**end, **self.load.close_stage(self.watch.forward_seconds())})
        self.training_losses.close_stage(self.folder / "training_losses" if self.peers.leads else None, stage.index)

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

    def _audit(self) -> list[int]:
        """[Steps that were checked, that passed] on every rank."""
        assert self.watch is not None
        return [min(counts) for counts in zip(*self.peers.gather((self.watch.checked, self.watch.passed)), strict=True)]

    # -- state, and the end -------------------------------------------------------------------------------------

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Around the writing of a checkpoint, on every rank: what only they know comes to the one that writes."""
        if self.watch is None:  # the trainer saves without having trained
            yield
            return
        self.phases.current = SAVING
        if self.curriculum.step < self.trainer.state.global_step:  # a callback before ours saves: settle the step
            self.end_step(self.trainer.state)
            self._heard = True
        self._share_losses()
        with self.loop.saving():
            yield

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
            "audit": [self.watch.checked, self.watch.passed],
            "journal": self.journal.state(),
        }

    def _ends_epoch(self) -> bool:
        """Whether the trainer will leave the epoch before its next step."""
        inside = not self.loop.inside_step and self.curriculum.epoch == self._epoch and not self.curriculum.finished
        return inside and bool(self.trainer.control.should_epoch_stop)

    def complete_line(self, logs: dict[str, float]) -> None:
        """Add the curriculum's scalars to a log line; the last one takes what is left, and is of the whole run."""
        if {"loss", "train_runtime"} & logs.keys() and self.journal is not None:
            logs.update(self.journal.pending)
            self.journal.pending.clear()
        if "train_loss" in logs and self.loop.goes_on:
            logs["train_loss"] = compat.whole_train_loss(self.trainer)

    def close(self) -> None:
        """Take the hooks off the model and end the loader's workers, however training ended."""
        if self.watch is not None:
            self.watch.close()
            self.loader.close()

    def finish(self) -> None:
        """The last lines, in the ledger and on the console; takes the hooks off the model."""
        with self.phases(FINISHING):
            self._finish()

    def _finish(self) -> None:
        assert self.journal is not None
        assert self.watch is not None
        stage = self.curriculum.stage
        if not self.curriculum.finished and stage is not None and self.curriculum.step > stage.first_step:
            self._close_stage()  # the trainer was told to stop in the middle of it
            self._measure_probes()
        self.watch.close()
        self.finished = True
        checked, passed = self._audit()
        seen, repeated = self.curriculum.coverage_counts()
        end: Json = {
            "step": self.curriculum.step,
            "n_rows": len(self.rows),
            "rows_seen": seen,
            "rows_repeated": repeated,
            "visits": seen + repeated,
            "coverage": self.config.coverage,
            "rows_by_choice": self.curriculum.rows_by_choice,
            "audit": {"checked": checked, "passed": passed},
            "budget": self.config.budget,
            **self.load.total(),
        }
        self.journal.ended(end)
