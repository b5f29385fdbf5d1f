"""One run: from the first look at the training set to the last line. Everything that changes during it lives here.

The callback calls, in this sequence:

    make_loader()            get_train_dataloader: rows are read, the loader is made (its length must be known)
    begin(state)             on_train_begin: scores, orders, first decision; or all of it restored from a checkpoint
    begin_step / end_step    every optimizer step; a stage's last one decides the next, before the checkpoint is saved
    state()                  whenever the trainer saves
    finish()                 on_train_end

Rank 0 decides and writes; the other ranks hold the same numbers.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from campus_tune.arrays import pack, unpack
from campus_tune.budget import Budget, forward_ratio
from campus_tune.cache import write_columns
from campus_tune.competence import Competence
from campus_tune.curriculum import Curriculum
from campus_tune.errors import DataError, ResumeError, TrainerError
from campus_tune.files import atomic_write
from campus_tune.health import score_findings, score_health
from campus_tune.integrations import compat, console
from campus_tune.integrations.decide import Decider
from campus_tune.integrations.identity import Identity
from campus_tune.integrations.loader import CurriculumLoader
from campus_tune.integrations.measure import LossMeter
from campus_tune.integrations.peers import Peers
from campus_tune.integrations.probes import ProbeMeter, Source, load_probes, refuse_overlap
from campus_tune.integrations.rows import TokenRows, column_names, read_rows, read_texts
from campus_tune.integrations.scoring import Scores, compute_scores, prediction_warnings
from campus_tune.integrations.watch import CHECKS, Watch
from campus_tune.ledger import Ledger
from campus_tune.method import problems_in_method
from campus_tune.orders import group_codes, order_rows
from campus_tune.recipe import DOMAIN, NO_GROUPS, CampusConfig
from campus_tune.types import IntArray, Json, RowLosses

FOLDER = "curriculum"  # in the trainer's output_dir
STATE_VERSION = 1


class CampusRun:
    """The curriculum of one trainer.

    Args:
        trainer: attached already (`attach`).
        config: settings as the user gave them.
        probes: held-out rows; None takes the recipe's.
    """

    def __init__(self, trainer: Any, config: CampusConfig, probes: Source = None) -> None:
        self.trainer = trainer
        self.given = config
        self.probe_source = probes if probes is not None else (list(config.probes.path) if config.probes else None)
        self.peers = Peers.of(trainer)
        self.folder = Path(trainer.args.output_dir) / FOLDER
        self.ledger = Ledger(self.folder, writes=self.peers.leads)
        self.pending: dict[str, float] = {}  # scalars for the trainer's next log line
        self.finished = False
        self.watch: Watch | None = None

    # -- before training ----------------------------------------------------------------------------------------

    def make_loader(self) -> CurriculumLoader:
        """The train loader; called by the trainer through `get_train_dataloader`."""
        args = self.trainer.args
        dataset = self.trainer.train_dataset
        if dataset is None or len(dataset) == 0:
            raise DataError("`train_dataset` must have at least one row, got none. Check the path, split and filters.")
        self.rows: TokenRows = read_rows(dataset)
        self.micro = compat.micro_batch_size(self.trainer)
        self.global_batch = self.micro * self.peers.world * args.gradient_accumulation_steps
        if len(self.rows) < self.global_batch:
            raise DataError(
                f"`train_dataset` must fill at least one optimizer step of {self.global_batch} rows, got "
                f"{len(self.rows)}. Lower per_device_train_batch_size or gradient_accumulation_steps."
            )
        view, collator = compat.loader_view(self.trainer, dataset)
        self.meter = LossMeter(self.trainer, view, collator, self.rows.tokens, peers=self.peers, what="scoring")
        self.loader = CurriculumLoader(
            view,
            compat.training_collator(collator, flat=self.given.batching == "flat"),
            lengths=self.rows.tokens,
            steps_per_epoch=self._steps_per_epoch(),
            accumulation=args.gradient_accumulation_steps,
            peers=self.peers,
            by_length=self.given.batching != "plain",
            workers=compat.worker_settings(args),
        )
        self.loader.run = self
        compat.refuse_masked_batches(
            self.trainer,
            short_rows=0 if args.dataloader_drop_last else len(self.rows) % self.global_batch,
            micro_batches=self.peers.world * args.gradient_accumulation_steps,
        )
        return self.loader

    def _steps_per_epoch(self) -> int:
        n = len(self.rows)
        return n // self.global_batch if self.trainer.args.dataloader_drop_last else -(-n // self.global_batch)

    def begin(self, state: Any, saved: Json | None) -> None:
        """Plan the run, or restore it.

        Args:
            state: the trainer's state; `max_steps` is known, `global_step` is above 0 when a checkpoint was loaded.
            saved: what `state()` gave when that checkpoint was written.
        """
        self.total_steps = state.max_steps
        self._resolve()
        self._make_budget()
        self._make_probes()
        self.identity = Identity.of(self)
        resumed = state.global_step > 0
        if resumed:
            self._restore(state, saved)
        else:
            self._plan()
        self.watch = Watch(self.trainer.model, self.rows.content)
        if resumed and saved is not None:
            self.watch.checked, self.watch.passed = saved["audit"]
        self.loader.curriculum = self.curriculum
        self._clock = time.perf_counter()
        if self.curriculum.step < state.global_step:  # saved by a callback that ran before ours: catch up
            self._step_finished()
        elif self.curriculum.needs_decision:
            self._decide()

    def _resolve(self) -> None:
        args = self.trainer.args
        domain = self.given.probes.domain_column if self.given.probes else DOMAIN
        self.config = self.given.resolved(
            has_probes=self.probe_source is not None,
            domain_in_data=domain in column_names(self.trainer.train_dataset),
            seed=args.seed if args.data_seed is None else args.data_seed,
        )
        self.group_names: list[str] = []
        self.groups: IntArray | None = None
        if self.config.within not in (None, NO_GROUPS):
            names = column_names(self.trainer.train_dataset)
            if self.config.within not in names:
                raise DataError(
                    f"`within` must be a column of the training set ({', '.join(names)}), got {self.config.within!r}. "
                    "Name one of them, or write within: none."
                )
            self.group_names, self.groups = group_codes(self.trainer.train_dataset[self.config.within])

    def _make_budget(self) -> None:
        model = self.trainer.model
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        ratio = forward_ratio(
            sum(p.numel() for p in model.parameters()), trained, checkpointing=compat.checkpoints_activations(self.trainer)
        )
        planned_rows = min(self.total_steps * self.global_batch, self.total_steps / self._steps_per_epoch() * len(self.rows))
        self.budget = Budget(self.config.budget, float(self.rows.tokens.mean()) * planned_rows, ratio)

    def _make_probes(self) -> None:
        self.probe_meter: ProbeMeter | None = None
        self.competence = Competence({})
        self.probes_fingerprint: str | None = None
        if self.probe_source is None:
            return
        probes = load_probes(self.probe_source, self.config.probes, self.trainer)
        refuse_overlap(probes, self.rows)
        self.probes_fingerprint = probes.rows.fingerprint()
        allowance = self.budget.per_probe(self._stages_left(0) + 1)
        chosen = probes.subset(allowance, seed=self.config.seed or 0)
        self.probe_meter = ProbeMeter(self.trainer, probes, chosen, self.peers)
        self.competence = Competence(self._domain_shares(list(chosen)))

    def _domain_shares(self, domains: list[str]) -> dict[str, float]:
        """How much each probe domain counts: its share of the training rows where they have domains, else equally."""
        if self.groups is not None:
            sizes = dict(zip(self.group_names, np.bincount(self.groups), strict=True))
            if set(domains) <= set(sizes):
                total = sum(int(sizes[domain]) for domain in domains)
                return {domain: int(sizes[domain]) / total for domain in domains}
        return {domain: 1 / len(domains) for domain in domains}

    # -- a new run ----------------------------------------------------------------------------------------------

    def _plan(self) -> None:
        """Scores, orders, the first line of the ledger."""
        self.ledger.start()
        self.ledger.add("run", **self.identity.record(), rows_with_domains=self._group_sizes())
        texts = read_texts(self.trainer.train_dataset, self.rows, self.trainer.processing_class)
        num_proc = max(1, min(getattr(self.trainer.args, "dataset_num_proc", None) or os.cpu_count() or 1, 8))
        self.scores = compute_scores(
            self.config, texts, self.meter, self.budget, groups=self.groups, num_proc=num_proc
        )
        if self.peers.leads:
            self.scores.save(self.folder / "scores", self.rows)
            atomic_write(self.folder / "recipe.yaml", self.config.to_yaml())
        self._report_scores()
        self._make_curriculum()

    def _group_sizes(self) -> dict[str, int]:
        if self.groups is None:
            return {}
        return {name: int(n) for name, n in zip(self.group_names, np.bincount(self.groups), strict=True)}

    def _report_scores(self) -> None:
        """Score health: in the ledger, and its warnings to the person."""
        findings = problems_in_method(self.config)
        if self.scores.by_label:
            lengths = self.rows.tokens.astype(np.float64)
            findings += score_findings(score_health(self.scores.by_label, lengths=lengths))
        for label, scores in self.scores.by_label.items():
            quantiles = np.quantile(scores, [0, 0.25, 0.5, 0.75, 1]).tolist()
            self.ledger.add("scores", metric=label, quantiles=quantiles, **self.scores.notes[label])
        warnings = [f"{finding.what} {finding.remedy}".rstrip() for finding in findings if finding.severity != "info"]
        warnings += prediction_warnings(self.scores, self.budget, self.rows.tokens)
        self.ledger.add("warnings", warnings=warnings)
        if self.peers.leads:
            for warning in warnings:
                console.say(f"warning: {warning}")

    def _make_curriculum(self) -> None:
        seed = self.config.seed or 0
        orders = {label: order_rows(s, seed=seed, groups=self.groups) for label, s in self.scores.by_label.items()}
        self.curriculum = Curriculum(
            self.config.schedule(),
            {} if self.config.is_shuffle else orders,
            n_rows=len(self.rows),
            global_batch=self.global_batch,
            total_steps=self.total_steps,
            groups=self.groups,
            drop_last=self.trainer.args.dataloader_drop_last,
        )
        self.decider = Decider(
            self.config.build_selector(),
            self.meter,
            self.scores,
            self.budget,
            self.rows.tokens,
            self.peers,
            self.config.seed or 0,
        )
        self.probe_report: dict[str, Json] = {}
        self.stage_losses = RowLosses.zeros(0)
        self.stage_rows: IntArray = np.zeros(0, dtype=np.int64)

    # -- during training ----------------------------------------------------------------------------------------

    def begin_step(self) -> None:
        """An optimizer step begins: is it one that is audited?"""
        assert self.watch is not None and self.curriculum.stage is not None
        every = max(1, self.total_steps // CHECKS)
        step = self.curriculum.step
        self.watch.begin_step(audit=step % every == 0 or step == self.curriculum.stage.first_step)

    def end_step(self, state: Any) -> None:
        """An optimizer step is finished; a stage's last one decides the next stage."""
        self.budget.seconds["training"] += time.perf_counter() - self._clock
        self._step_finished()
        if self.curriculum.step != state.global_step:
            raise TrainerError(
                f"the curriculum must be at the trainer's step {state.global_step}, got {self.curriculum.step}. "
                "Something else drives this trainer's loop: call on_step_end once per optimizer step."
            )
        state.epoch = state.global_step / self._steps_per_epoch()  # the trainer's own restarts after a resume
        self._clock = time.perf_counter()

    def _step_finished(self) -> None:
        rows = self.curriculum.step_rows()
        if self.watch is not None:
            self.watch.end_step(self.loader.micro_batches(rows))
        self.curriculum.advance()
        stage = self.curriculum.stage
        assert stage is not None
        if self.curriculum.finished or self.curriculum.needs_decision:
            self._close_stage()
            if self.curriculum.finished:
                self._measure_probes()
            else:
                self._decide()

    def _decide(self) -> None:
        """Measure the probes and the offers, choose the next stage, write it down."""
        self._measure_probes()
        n_decisions = self._stages_left(self.curriculum.step, until=self.curriculum.handover_step)
        probe_tokens = self.probe_meter.tokens if self.probe_meter else 0
        allowance = self.budget.per_decision(n_decisions, probe_tokens, self._stages_left(self.curriculum.step))
        loss = self.competence.overall_loss() if self.probe_meter else None
        decision = self.decider.decide(self.curriculum, probe_loss=loss, allowance=allowance)
        self.ledger.add("decision", **decision.record)
        shares = self.budget.shares()
        self._scalars(decision.record, shares["all"])
        if self.peers.leads:
            console.say(console.decision_line(decision.record, self.total_steps, self.probe_report, shares["all"]))

    def _stages_left(self, step: int, until: int | None = None) -> int:
        """About how many stages there are from `step` on."""
        steps = (self.total_steps if until is None else until) - step
        return max(1, -(-steps * self.config.stages // self._steps_per_epoch()))

    def _measure_probes(self) -> None:
        if self.probe_meter is None:
            return
        before = self.probe_meter.meter.seconds
        self.probe_report = self.competence.update(self.probe_meter.losses())
        self.budget.charge("probes", self.probe_meter.tokens, self.probe_meter.meter.seconds - before)
        self.ledger.add("probes", step=self.curriculum.step, domains=self.probe_report)
        for domain, report in self.probe_report.items():
            self.pending[f"campus/competence/{domain}"] = report["competence"]
            self.pending[f"campus/probe_loss/{domain}"] = report["loss"]

    def _scalars(self, record: Json, cost_share: float) -> None:
        """What goes to the trainer's own log."""
        self.pending |= {
            "campus/stage": record["stage"],
            "campus/scope": record["scope"][1],
            "campus/cost_share": cost_share,
        }
        for offer in record.get("offers", []):
            self.pending[f"campus/chosen/{offer['name']}"] = int(offer["name"] == record["chosen"])
            if "perplexity" in offer:
                self.pending[f"campus/perplexity/{offer['name']}"] = offer["perplexity"]

    def _close_stage(self) -> None:
        """What the stage's own forwards showed, for free."""
        stage = self.curriculum.stage
        assert stage is not None
        self._harvest()
        summary: Json = {"stage": stage.index, "step": self.curriculum.step, "chosen": stage.chosen}
        if len(self.stage_rows):
            summary |= {"train_loss": self.stage_losses.mean(), "rows_with_loss": len(self.stage_rows)}
            if self.groups is not None:
                summary["train_loss_by_domain"] = self._loss_by_domain()
            if self.peers.leads:
                columns = {"row": self.stage_rows, **vars(self.stage_losses)}
                write_columns(self.folder / "training_losses" / f"stage-{stage.index:05d}.parquet", columns, {})
        assert self.watch is not None or not len(self.stage_rows)
        audit = [self.watch.checked, self.watch.passed] if self.watch else [0, 0]
        self.ledger.add("stage_end", **summary, audit=audit, cost=self.budget.shares(), seconds=self._seconds())
        self.stage_rows, self.stage_losses = np.zeros(0, dtype=np.int64), RowLosses.zeros(0)

    def _seconds(self) -> dict[str, float]:
        return {"share": self.budget.clock_share(), **self.budget.seconds}

    def _loss_by_domain(self) -> dict[str, float]:
        assert self.groups is not None
        codes = self.groups[self.stage_rows]
        return {
            name: self.stage_losses.take(np.flatnonzero(codes == code)).mean()
            for code, name in enumerate(self.group_names)
            if (codes == code).any()
        }

    def _harvest(self) -> None:
        """Take the free losses of the steps since the last harvest from the device."""
        if self.watch is None:
            return
        rows, losses = self.watch.harvest()
        merged = RowLosses.zeros(len(self.stage_rows) + len(rows))
        merged.put(np.arange(len(self.stage_rows)), self.stage_losses)
        merged.put(np.arange(len(self.stage_rows), len(merged.tokens)), losses)
        self.stage_rows, self.stage_losses = np.concatenate([self.stage_rows, rows]).astype(np.int64), merged

    # -- state --------------------------------------------------------------------------------------------------

    def state(self) -> Json:
        """Everything a resumed run needs, as JSON; {} before the run is planned."""
        if self.watch is None:
            return {}
        self._harvest()
        return {
            "version": STATE_VERSION,
            "identity": self.identity.record(),
            "curriculum": self.curriculum.state(),
            "competence": self.competence.state(),
            "budget": self.budget.state(),
            "scores": self.scores.digests(),
            "ledger": self.ledger.size,
            "audit": [self.watch.checked, self.watch.passed],
            "stage_losses": {"rows": pack(self.stage_rows), **{k: pack(v) for k, v in vars(self.stage_losses).items()}},
        }

    def _restore(self, state: Any, saved: Json | None) -> None:
        """Continue from a checkpoint's state."""
        if not saved:
            raise ResumeError(
                f"the checkpoint at step {state.global_step} must hold a curriculum state, got none: it was written "
                "without the CampusCallback. Resume from a checkpoint of this recipe, or train without resuming."
            )
        self.identity.refuse_other(saved["identity"], changed_future=self.config.resume == "changed_future")
        folder = self.peers.from_leader(self._scores_folder())
        self.scores = Scores.load(folder, saved["scores"])
        self.scores.by_label = {label: self.scores.by_label[label] for label in self.config.labels}
        self._make_curriculum()
        self.curriculum.load(saved["curriculum"])
        self.competence.load(saved["competence"])
        self.budget.load(saved["budget"])
        losses = {name: unpack(packed) for name, packed in saved["stage_losses"].items()}
        self.stage_rows = losses.pop("rows")
        self.stage_losses = RowLosses(**losses)
        self.ledger.resume(saved["ledger"])
        self.ledger.add("resumed", step=state.global_step)
        if self.peers.leads:
            console.say(f"resumed at step {state.global_step} of {self.total_steps}, inside stage {self.curriculum.n_stages - 1}")

    def _scores_folder(self) -> Path:
        """Beside the checkpoint that is resumed, if it lies in another run's folder; else this run's."""
        return self.folder / "scores"

    # -- the end ------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """The last lines, in the ledger and on the console; takes the hooks off the model."""
        if self.watch is None:
            return
        self.watch.close()
        seen, repeated = self.curriculum.coverage_counts()
        end: Json = {
            "step": self.curriculum.step,
            "n_rows": len(self.rows),
            "rows_seen": seen,
            "rows_repeated": repeated,
            "visits": seen + repeated,
            "coverage": self.config.coverage,
            "rows_by_choice": self.curriculum.rows_by_choice,
            "audit": {"checked": self.watch.checked, "passed": self.watch.passed},
            "cost": self.budget.shares(),
            "budget": self.config.budget,
            "seconds": self._seconds(),
        }
        self.ledger.add("end", **end)
        self.finished = True
        if self.peers.leads:
            for line in console.last_lines(end, str(self.folder)):
                console.say(line)
