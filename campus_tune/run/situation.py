"""A run once it is planned: all that is fixed then, and how it comes about.

    outline      settings, budget, probes, whose run this is: what is fixed before the first row is scored
    plan         a new run: scores, orders, the first lines of the ledger (from a checkpoint: `resuming`)
    complete     the last part, with hooks on the model: nothing can go wrong any more

Each gives back something frozen. What goes on inside of its parts (the curriculum's step, what the budget has spent) is
theirs, and `resuming.state_of` asks them for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from campus_tune.data.domains import Domains
from campus_tune.data.judged import Known
from campus_tune.data.prepared import TOKEN_COLUMNS, column_names, read_column
from campus_tune.data.said_hashes import SaidHashes
from campus_tune.method.budget import Budget
from campus_tune.method.curriculum import Curriculum
from campus_tune.method.orders import order_rows
from campus_tune.model import compat
from campus_tune.model.peers import Peers
from campus_tune.model.probes import Source
from campus_tune.model.rates import rates_of
from campus_tune.preview.cost_plan import CostFacts, budget_warnings, facts_of, needs, pays_for_all_rows, rests_on
from campus_tune.preview.reward_cost import unpaid_rewards
from campus_tune.preview.reweight_advice import probed_findings
from campus_tune.preview.rule_advice import probe_findings, stop_findings
from campus_tune.preview.setup import make_budget, resolve, scores_health, start_warnings, unweighed
from campus_tune.preview.steer_advice import few_decisions
from campus_tune.recipe.config import CampusConfig
from campus_tune.run.activity import SCORING, Activities
from campus_tune.run.best_weights import BestWeights
from campus_tune.run.book_keeping import BookFolder, BookKeeping
from campus_tune.run.decide import Decider
from campus_tune.run.drawing import Drawing, Kinds, make_drawing
from campus_tune.run.helm import Helm
from campus_tune.run.identity import Identity
from campus_tune.run.loaded import Loaded
from campus_tune.run.official_tasks import Evaluator
from campus_tune.run.probing import Probing
from campus_tune.run.rank_load import RankLoad
from campus_tune.run.saver import Saver
from campus_tune.run.stage_rewards import StageRewards
from campus_tune.run.stream.clipped import ClippedSteps
from campus_tune.run.stream.filling import Filling
from campus_tune.run.stream.finite import Finite, cause_in
from campus_tune.run.stream.loss_audit import LossAudit
from campus_tune.run.stream.step_loss import StepLoss
from campus_tune.run.stream.training_losses import TrainingLosses
from campus_tune.run.stream.value import ValueHooks
from campus_tune.run.stream.watch import Watch
from campus_tune.run.stream.weighing import Weighing
from campus_tune.run.told.dropped_rows import list_dropped
from campus_tune.run.told.events import Examined, Scored, Started, Warned
from campus_tune.run.told.examples import keep_examples
from campus_tune.run.told.journal import Journal
from campus_tune.run.user_weights import UserWeights
from campus_tune.run.valuing import Valuing
from campus_tune.scores.asking import Asking
from campus_tune.scores.directions import direction_problems, launch_problems
from campus_tune.scores.dropping import known_of, shape_of
from campus_tune.scores.fresh import FreshScores
from campus_tune.scores.planning import make_scoring, open_readings, refreshes_to_come, stages_between
from campus_tune.scores.rescore import Rescorer
from campus_tune.scores.run_scores import Scores
from campus_tune.words.errors import RecipeError
from campus_tune.words.files import atomic_write

if TYPE_CHECKING:
    from transformers import Trainer

RECIPE = "recipe.yaml"


@dataclass(frozen=True)
class Outline:
    """What is fixed before the first row is scored.

    Args:
        trainer: that is trained.
        given: settings as the user gave them.
        config: the same, nulls filled in.
        loaded: its rows and their loader.
        activities: what this process is doing.
        peers: ranks.
        folder: of the run.
        book_folder: of what this rank knows of the rows.
        total_steps: optimizer steps of the whole run.
        domains: of the rows.
        kinds: of rows that are drawn from.
        user_weights: what the training set says of how much rows count.
        budget: that measurements are charged to.
        probing: held-out rows, and when they are measured.
        identity: what makes it this run.
        evaluator: of official tasks.
        finite: looks at gradients and weights.
        best: keeps the best weights; None where no rule goes back to them.
        rewards: measures what a stage has gained; None where no selector asks for it.
        valuing: values of the rows that are trained; None where nobody asks.
        journal: that is told of everything.
    """

    trainer: Trainer
    given: CampusConfig
    config: CampusConfig
    loaded: Loaded
    activities: Activities
    peers: Peers
    folder: Path
    book_folder: BookFolder
    total_steps: int
    domains: Domains
    kinds: Kinds
    user_weights: UserWeights
    budget: Budget
    probing: Probing
    identity: Identity
    evaluator: Evaluator
    finite: Finite
    best: BestWeights | None
    rewards: StageRewards | None
    valuing: Valuing | None
    journal: Journal

    def refreshes_to_come(self, step: int) -> int:
        """About how many re-scorings there are after `step`."""
        return refreshes_to_come(self.config, self.total_steps, self.loaded.steps_per_epoch, step=step)

    def stages_between(self, step: int, end: int) -> int:
        """About how many stages there are from `step` to `end`, at least one."""
        return stages_between(self.config, self.loaded.steps_per_epoch, step, end)

    def make_scoring(self) -> Asking:
        """What scores the rows; nothing is measured yet."""
        return make_scoring(
            self.trainer,
            self.config,
            self.loaded.rows,
            self.loaded.meter,
            self.budget,
            self.peers,
            groups=self.domains.codes,
            n_refreshes=self.refreshes_to_come(0),
            trained=self.loaded.trained,
            probes=self.probing.probes,
        )

    def facts(self, scoring: Asking) -> CostFacts:
        """What the cost of the run follows from."""
        return facts_of(scoring, self.probing.probes, self.total_steps, self.loaded.steps_per_epoch)

    def known(self) -> Known:
        """What the training rows can be compared and found by."""
        rows = compat.training_rows(self.trainer)
        columns = {name: read_column(rows, name) for name in column_names(rows) if name not in TOKEN_COLUMNS}
        return known_of(self.trainer, columns, self.loaded.rows.content)

    def said(self) -> SaidHashes:
        """What the training rows say, as hashes; an earlier run may have left them."""
        (shape, end), readings = shape_of(self.trainer), open_readings(self.config, self.peers)
        rows, content = compat.training_rows(self.trainer), self.loaded.rows.content
        found = SaidHashes.read(rows, shape, content, end=end, readings=readings)
        if readings.warnings:
            self.journal.take(Warned(readings.warnings))
        return found

    def list_dropped(self, drawing: Drawing) -> None:
        """Leave a list of the rows that are left out, if there are any."""
        if drawing.left_out is not None:
            rows, tokenizer = compat.training_rows(self.trainer), compat.tokenizer_of(self.trainer)
            list_dropped(self.folder, drawing.left_out, self.known(), self.kinds.domains, rows, tokenizer)

    def make_curriculum(self, scores: Scores, drawing: Drawing) -> Curriculum:
        """The curriculum at its first step, its orders by these scores."""
        config, groups, by_label = self.config, self.domains.codes, scores.by_label
        seed = config.seed or 0
        scored = (label for label in config.labels if label in by_label)  # some may not have been paid for
        orders = {label: order_rows(by_label[label], seed=seed, groups=groups) for label in scored}
        return Curriculum(
            config.schedule(),
            {} if config.is_shuffle else orders,
            n_rows=len(self.loaded.rows),
            global_batch=self.loaded.global_batch,
            total_steps=self.total_steps,
            groups=groups,
            drop_last=self.trainer.args.dataloader_drop_last,
            policy=drawing.policy,
            weighting=drawing.weighting,
            steering=drawing.steering,
        )


@dataclass(frozen=True)
class Situation(Outline):  # a longer list of the same kind: what reads it asks for `budget`, wherever it was made
    """All that is fixed once the run is planned.

    Args:
        start_digests: what a checkpoint remembers of the scores before training.
        curriculum: which rows come next.
        drawing: what it draws by.
        decider: chooses among its offers.
        rescorer: keeps its orders in step with the model.
        training_losses: of the stage, for free.
        load: how evenly the ranks are loaded.
        helm: the record that steering goes by, and what is done when a rule has fired.
        watch: hooks that compare what is trained with the plan, and multiply weights.
        clipped: steps whose gradient was clipped; None where nothing is weighted, or nothing clipped.
        filling: hooks for ranks without a row; None where every rank always has one.
        step_loss: sees on the first steps what the trainer's loss counts; None where that is known.
        same_world: the checkpoint's random states are of this number of processes.
    """

    start_digests: dict[str, str]
    curriculum: Curriculum
    drawing: Drawing
    decider: Decider
    rescorer: Rescorer
    training_losses: TrainingLosses
    load: RankLoad
    helm: Helm
    watch: Watch
    clipped: ClippedSteps | None
    filling: Filling | None
    step_loss: StepLoss | None
    same_world: bool

    @property
    def book(self) -> BookKeeping | None:
        """What training showed of each row; None where nothing is drawn by it."""
        return self.drawing.book

    def close(self) -> None:
        """Take the hooks off the model and end the loader's workers, however training ended."""
        self.watch.close()
        self.loaded.loader.close()
        for hooks in (self.filling, self.step_loss):
            if hooks is not None:
                hooks.close()


@dataclass
class Position:
    """Where the trainer's loop is; which step it is, the curriculum knows.

    Args:
        epoch: that the loop is in.
        heard: of the end of the step, before the trainer told us.
        began: when the step in progress began, on the clock.
        rate: learning rate of the step in progress.
        rates: of the stage's steps so far, added up.
        lr_tokens: the same, each times the tokens of its step.
        offered: the sub-curricula that there were to choose from for this stage.
        logged_step: of the trainer's last line.
        warned: kinds of warnings about weights that were given.
    """

    epoch: int | None = None
    heard: bool = False
    began: float = 0.0
    rate: float = 0.0
    rates: float = 0.0
    lr_tokens: float = 0.0
    offered: list[str] = field(default_factory=list)
    logged_step: int = 0
    warned: list[str] = field(default_factory=list)


def outline(
    trainer: Trainer,
    given: CampusConfig,
    probes: Source,
    *,
    loaded: Loaded,
    activities: Activities,
    folder: Path,
    book_folder: BookFolder,
    n_steps: int,
) -> Outline:
    """The part of planning that a new run and a resumed one have in common.

    Args:
        trainer: that is trained.
        given: settings as the user gave them.
        probes: held-out rows; None for none.
        loaded: the rows and their loader.
        activities: what this process is doing.
        folder: of the run.
        book_folder: of its book, on this rank.
        n_steps: optimizer steps of the whole run.

    Raises:
        CampusError: settings, probes or tasks that do not go with this trainer; ranks of different runs.
    """
    peers, rows, per_epoch = activities.peers, loaded.rows, loaded.steps_per_epoch
    config = resolve(trainer, given, has_probes=probes is not None)
    config = replace(config, batching=loaded.layout.batching)
    n_stages = stages_between(config, per_epoch, 0, n_steps)
    problems = config.draw.passes_problems(
        total_steps=n_steps, steps_per_epoch=per_epoch, n_stages=n_stages, revisits=config.coverage == "revisit"
    )
    problems += config.draw.step_problems(compat.micro_batch_size(trainer))
    if problems:
        raise RecipeError(problems)
    domains = Domains.read(compat.training_rows(trainer), config.within)
    training_tokens = n_steps / per_epoch * float(rows.tokens.sum())
    budget = make_budget(trainer, config, training_tokens, refreshes_to_come(config, n_steps, per_epoch, step=0))
    probing = Probing(probes, config, trainer, rows, domains, budget, peers, n_stages=n_stages)
    if probing.probes is not None:
        probed = {name: len(rows) for name, rows in probing.probes.domains.items()}
        unknown = [*config.steer.unknown_probes(probed), *direction_problems(config, probed)]
        if unknown := [*unknown, *launch_problems(config, trainer)]:
            raise RecipeError(unknown)
    kinds, user_weights = Kinds.read(config, trainer), UserWeights.read(config, trainer, loaded)
    identity = Identity.of(
        trainer,
        config,
        loaded,
        domains,
        probes=probing.fingerprint,
        kinds={**kinds.fingerprints(), **user_weights.digests},
        total_steps=n_steps,
    )
    identity.refuse_different_ranks(peers)
    evaluator = Evaluator(config.evaluate, trainer, peers, folder / "evaluation")
    return Outline(
        trainer=trainer,
        given=given,
        config=config,
        loaded=loaded,
        activities=activities,
        peers=peers,
        folder=folder,
        book_folder=book_folder,
        total_steps=n_steps,
        domains=domains,
        kinds=kinds,
        user_weights=user_weights,
        budget=budget,
        probing=probing,
        identity=identity,
        evaluator=evaluator,
        # Before anything is measured: after a forward FSDP2 shows whole weights, whose memory it frees later.
        finite=Finite(compat.model_of(trainer), peers, cause_in(trainer, loaded.loader), lambda: trainer.optimizer),
        best=BestWeights.of(trainer, config.rules(has_probes=probing.probes is not None), peers, folder),
        rewards=StageRewards.of(config, trainer, loaded.meter, rows, budget),
        valuing=Valuing.of(trainer, config, probing.probes, budget, peers, folder, n_stages=n_stages),
        journal=Journal(folder, peers, n_steps),
    )


def plan(now: Outline, saver: Saver) -> Situation:
    """A new run.

    Args:
        now: its outline.
        saver: that begins to count its checkpoints.

    Raises:
        CampusError: rows that cannot be scored, or scores that do not order them.
    """
    config, rows, domains, budget = now.config, now.loaded.rows, now.domains, now.budget
    if now.peers.leads:
        saver.start()
    now.journal.put_aside()
    if not config.draws_apart:
        now.journal.take(Started(now.identity.record(), domains.sizes(), now.loaded.batching()))

    # What will be measured. Where it would cost more than the budget, less is: also of the probes.
    scoring = now.make_scoring()
    facts = now.facts(scoring)
    budget.fit(needs(config, budget, facts), rests_on(config))
    if budget.caps is not None:
        now.probing.choose()

    # Rank 0's scores are everybody's: a sum that another machine rounds otherwise would order rows otherwise.
    with now.activities(SCORING):
        scores = now.peers.from_leader(scoring.start())
    now.probing.spare()
    small = budget_warnings(config, budget, facts)
    if now.peers.leads:
        scores.save(now.folder / "scores", rows)
        atomic_write(now.folder / RECIPE, config.to_yaml())
        tokenizer = compat.tokenizer_of(now.trainer)
        keep_examples(now.folder, scores.by_label, compat.training_rows(now.trainer), tokenizer, domains)

    drawing = make_drawing(now, scores)
    if config.draws_apart:  # cells hang on scores, and a ledger begins with what makes the run this run
        now.journal.take(Started(now.identity.record(), domains.sizes(), now.loaded.batching(), drawing.told()))
    kept = () if drawing.dropped is None else drawing.dropped.notes
    if now.peers.leads:
        now.list_dropped(drawing)

    # What came out, and what a person should know of it before the first step.
    for label, values in scores.by_label.items():
        quantiles = np.quantile(values, [0, 0.25, 0.5, 0.75, 1]).tolist()
        now.journal.take(Scored(label, quantiles, scores.notes[label]))
    health = scores_health(config, scores, scoring.texts, domains, chosen=now.given.within is not None)
    now.journal.take(Examined(health, budget.found_share()))
    enough = partial(pays_for_all_rows, config, budget, facts)
    own = [*now.user_weights.warnings, *unweighed(now.trainer, now.given), *_steering_warnings(now, facts)]
    if now.valuing is not None and (unpaid := now.valuing.too_small(facts.stages(config, now.total_steps))) is not None:
        own.append(unpaid)
    now.journal.take(Warned([*small, *kept, *own, *start_warnings(now.trainer, scores, health, scoring, enough)]))

    curriculum = now.make_curriculum(scores, drawing)
    for label, notes in scores.notes.items():
        curriculum.bar(label, barred=notes.get("tells_apart") is False)
    rescorer = Rescorer(scoring, scores, curriculum, rows, now.folder / "scores")
    return complete(now, scores, scores.digests(), curriculum, drawing, rescorer, TrainingLosses())


def _steering_warnings(now: Outline, facts: CostFacts) -> list[str]:
    """What a person should know of what steers the run, once its length, rows and probes are known."""
    config, probes, steps = now.config, now.probing.probes, (now.total_steps, now.loaded.steps_per_epoch)
    found = [*few_decisions(config, *steps), *unpaid_rewards(config, now.budget, facts, now.probing.every)]
    if probes is not None:
        probed = {domain: len(rows) for domain, rows in probes.domains.items()}
        found += [*probe_findings(config, probed), *probed_findings(config, now.kinds.domains.names, probed)]
    rates = rates_of(now.trainer, now.total_steps)
    if rates is not None:
        found += stop_findings(config, rates)
    return [f"{finding.what} {finding.remedy}".rstrip() for finding in found if finding.severity != "info"]


def complete(
    now: Outline,
    scores: Scores,
    digests: dict[str, str],
    curriculum: Curriculum,
    drawing: Drawing,
    rescorer: Rescorer,
    training_losses: TrainingLosses,
    *,
    same_world: bool = True,
) -> Situation:
    """The last part of planning: what comes after it must not fail, for from here on there are hooks on the model."""
    config, loaded, trainer, peers = now.config, now.loaded, now.trainer, now.peers
    model: Any = trainer.model  # a trainer of transformers may have none until it trains
    selector, tokens = config.build_selector(), loaded.rows.tokens
    fresh = FreshScores(rescorer.asking, scores) if config.thin is not None and config.thin.fresh else None
    weighs = curriculum.weighting is not None
    audit = LossAudit.of(trainer)
    weighing = Weighing.of(trainer, audit) if weighs else None
    values = None
    if now.valuing is not None:
        values = ValueHooks(compat.unwrapped(trainer), audit.loss_scale)
        now.valuing.go_on(values, max(0, curriculum.n_stages - (not curriculum.finished)))
    return Situation(
        **vars(now),
        start_digests=digests,
        curriculum=curriculum,
        drawing=drawing,
        decider=Decider(selector, loaded.meter, scores, now.budget, tokens, peers, fresh),
        rescorer=rescorer,
        training_losses=training_losses,
        load=RankLoad(peers, now.activities, loaded.loader),
        helm=Helm(drawing.steering, rates_of(trainer, now.total_steps), now.total_steps),
        watch=Watch(model, loaded.rows, audit, labels=loaded.trained.labels_known, weighing=weighing, values=values),
        clipped=ClippedSteps.of(trainer) if weighs else None,
        filling=Filling(model) if loaded.loader.fills() else None,  # its model's hooks see real rows
        step_loss=StepLoss.of(trainer, loaded.loader),
        same_world=same_world,
    )
