"""A run that is driven by reward, once it is planned: all that is fixed then, and how it comes about.

    outline      settings, prompts, whose run this is: what is fixed before the first prompt is scored
    plan         a new run: scores, orders, the first lines of the ledger (from a checkpoint: `state`)
    complete     the last part, with hooks on the trainer: nothing can go wrong any more

The curriculum is the one of rows, and knows nothing of rewards: a step of its is a round here (`rounds`), a row of its
a prompt. What rewards show of the prompts is in `rates`, which the policy draws by.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from campus_tune.data.domains import Domains
from campus_tune.data.judged import Known
from campus_tune.data.prepared import column_names
from campus_tune.data.said import Said
from campus_tune.method.budget import Budget
from campus_tune.method.cells import Cells
from campus_tune.method.curriculum import Curriculum
from campus_tune.method.drawn import of_start
from campus_tune.method.orders import order_rows
from campus_tune.method.pass_rates import PassRates
from campus_tune.method.policy import Policy
from campus_tune.method.rounds import Rounds
from campus_tune.method.selectors import Selector
from campus_tune.method.view import PastStage
from campus_tune.model import compat
from campus_tune.model.peers import Peers
from campus_tune.model.reward_trainers import divides_by_spread, names_of_rewards
from campus_tune.preview.forecast import quota_problems, stage_rows
from campus_tune.preview.health import score_findings
from campus_tune.preview.setup import scores_health
from campus_tune.recipe.blocks import DOMAIN
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.passes_block import PassSettings
from campus_tune.recipe.policy import cells_of, policy_of
from campus_tune.run.activity import SCORING, Activities
from campus_tune.run.answer_groups import StageGroups
from campus_tune.run.drawing import Kinds
from campus_tune.run.identity import Identity
from campus_tune.run.prompts.audit import PromptAudit, not_compared, row_keys
from campus_tune.run.prompts.identity import prompt_identity
from campus_tune.run.prompts.kept import KeptGeneration
from campus_tune.run.prompts.loader import PromptLoader
from campus_tune.run.prompts.rewards import Heard, RewardWatch
from campus_tune.run.saver import Saver
from campus_tune.run.situation import RECIPE
from campus_tune.run.stream.finite import Finite, Update, likely_cause
from campus_tune.run.told.dropped_rows import list_dropped
from campus_tune.run.told.events import Examined, Scored, Started, Warned
from campus_tune.run.told.journal import Journal
from campus_tune.scores.dropping import Dropped, dropped_of, shape_of
from campus_tune.scores.prompt_scoring import PromptScoring
from campus_tune.scores.run_scores import Scores
from campus_tune.words.errors import RecipeError
from campus_tune.words.files import atomic_write
from campus_tune.words.hashing import text_keys
from campus_tune.words.types import FloatArray

if TYPE_CHECKING:
    from transformers import Trainer

MOST_NAMED = 3  # of prompts that repeat others


@dataclass(frozen=True)
class PromptOutline:
    """What is fixed before the first prompt is scored.

    Args:
        trainer: that is trained.
        given: settings as the user gave them.
        config: the same, nulls filled in.
        loader: hands the prompts over.
        keys: what each is known by, all its columns, shape (N,).
        scoring: scores them, and predicts how they will pass.
        activities: what this process is doing.
        folder: of the run.
        total_steps: optimizer steps of the whole run.
        domains: that prompts are ranked in.
        kinds: of prompts that are drawn from.
        identity: what makes it this run.
        finite: looks at gradients and weights.
        journal: that is told of everything.
    """

    trainer: Trainer
    given: CampusConfig
    config: CampusConfig
    loader: PromptLoader
    keys: NDArray[np.uint64]
    scoring: PromptScoring
    activities: Activities
    folder: Path
    total_steps: int
    domains: Domains
    kinds: Kinds
    identity: Identity
    finite: Finite
    journal: Journal

    @property
    def peers(self) -> Peers:
        """Ranks."""
        return self.activities.peers

    @property
    def rounds(self) -> Rounds:
        """How prompts are cut into generations and optimizer steps."""
        return self.loader.rounds

    @property
    def total_rounds(self) -> int:
        """Rounds of the whole run; the last one may end before its last optimizer step."""
        return math.ceil(self.total_steps / self.rounds.steps)

    @property
    def n_prompts(self) -> int:
        """N."""
        return len(self.loader.dataset)

    @property
    def budget(self) -> Budget:
        """That measurements are charged to."""
        return self.scoring.budget

    def known(self) -> Known:
        """What the prompts can be compared and found by."""
        texts = self.scoring.texts
        nothing = [""] * len(texts)
        said = Said(texts.response_text, nothing, texts.response_text)  # no prompt has an answer of its own
        return Known(texts.columns, said, shape_of(self.trainer)[0], text_keys(texts.response_text))

    def make_cells(self, scores: Scores) -> Cells | None:
        """The cells that prompts are compared in; None where nothing is."""
        by_label, kinds = scores.by_label.__getitem__, self.kinds
        return cells_of(self.config, by_label, domains=kinds.domains, others=kinds.others)

    def make_dropped(self, scores: Scores) -> Dropped | None:
        """The prompts that are never drawn; None where the recipe drops none. Every rank calls it.

        Raises:
            DataError: a file that names them cannot be read, or is of other data.
        """
        config, domains = self.config, self.kinds.domains
        if not config.drop:
            return None
        cells = self.make_cells(scores)
        return self.peers.led(lambda: dropped_of(config, scores.by_label, self.known(), domains, cells))

    def list_dropped(self, dropped: Dropped | None) -> None:
        """Leave a list of the prompts that are left out, if there are any."""
        if dropped is not None:
            rows, tokenizer = compat.training_rows(self.trainer), compat.tokenizer_of(self.trainer)
            list_dropped(self.folder, dropped, self.known(), self.kinds.domains, rows, tokenizer)

    def make_policy(self, scores: Scores, rates: PassRates, dropped: Dropped | None) -> Policy | None:
        """Who is drawn and which; None where all are alike.

        Raises:
            RecipeError: a stage is too short for the shares, or names that no prompt has.
        """
        config, n_rows = self.config, self.n_prompts
        if not config.draws_apart:
            return None

        def score_of(label: str) -> FloatArray:
            return scores.by_label[label]

        policy = policy_of(
            config,
            n_rows=n_rows,
            domains=self.kinds.domains,
            cells=self.make_cells(scores),
            score_of=score_of,
            dropped=None if dropped is None else dropped.mask,
            rates=rates,
        )
        if policy is not None:
            stage = stage_rows(config, n_rows=n_rows, global_batch=self.rounds.global_batch)
            if problems := quota_problems(policy, stage):
                raise RecipeError(problems)
        return policy

    def make_rates(self) -> PassRates:
        """What rewards have shown of the prompts: nothing yet."""
        settings = self.config.passes or PassSettings()
        return settings.rates(
            self.n_prompts,
            group=self.rounds.group,
            scaled_by_group=divides_by_spread(self.trainer),
            pools=self.domains.codes,
        )

    def make_curriculum(self, scores: Scores, policy: Policy | None) -> Curriculum:
        """The curriculum at its first round, its orders by these scores."""
        config, groups, by_label = self.config, self.domains.codes, scores.by_label
        scored = (label for label in config.labels if label in by_label)
        orders = {label: order_rows(by_label[label], seed=config.seed or 0, groups=groups) for label in scored}
        return Curriculum(
            config.schedule(),
            {} if config.is_shuffle else orders,
            n_rows=self.n_prompts,
            global_batch=self.rounds.global_batch,
            total_steps=self.total_rounds,
            groups=groups,
            drop_last=True,
            policy=policy,
        )


@dataclass(frozen=True)
class PromptSituation(PromptOutline):  # a longer list of the same kind, as `Situation` is
    """All that is fixed once the run is planned.

    Args:
        scores: from before training.
        curriculum: which prompts come next.
        rates: what rewards have shown of each.
        dropped: prompts that are never drawn; None where the recipe drops none.
        selector: chooses among the curriculum's offers.
        groups: what those of the stage have shown.
        rewards: hears them.
        audit: compares what is answered and trained with the plan.
        kept: keeps the generation in progress with a checkpoint.
        past: stages that are over.
        same_world: the checkpoint's random states are of this number of processes.
    """

    scores: Scores
    curriculum: Curriculum
    rates: PassRates
    dropped: Dropped | None
    selector: Selector
    groups: StageGroups
    rewards: RewardWatch
    audit: PromptAudit
    kept: KeptGeneration
    past: list[PastStage] = field(default_factory=list)
    same_world: bool = True

    @property
    def generation(self) -> int:
        """Generations before the round in progress."""
        return self.curriculum.step * self.rounds.generations

    def close(self) -> None:
        """Take what hears and compares off the trainer, however training ended."""
        self.audit.close()
        self.rewards.close()


@dataclass
class PromptPosition:
    """Where the trainer's loop is; which round it is in, the curriculum knows.

    Args:
        steps: optimizer steps finished.
        inside: of them, those of the round in progress.
        epoch: that the loop is in.
        heard: of the end of the step, before the trainer told us.
        began: when the step in progress began, on the clock.
        rate: learning rate of the step in progress.
        rates: of the stage's steps so far, added up.
        stage_steps: how many these are.
        offered: the sub-curricula that there were to choose from for this stage.
        warned: kinds of warnings about rewards that were given.
    """

    steps: int = 0
    inside: int = 0
    epoch: int | None = None
    heard: bool = False
    began: float = 0.0
    rate: float = 0.0
    rates: float = 0.0
    stage_steps: int = 0
    offered: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)


def outline(
    trainer: Trainer, given: CampusConfig, *, loader: PromptLoader, activities: Activities, folder: Path, n_steps: int
) -> PromptOutline:
    """The part of planning that a new run and a resumed one have in common.

    Args:
        trainer: that is trained.
        given: settings as the user gave them.
        loader: of its prompts.
        activities: what this process is doing.
        folder: of the run.
        n_steps: optimizer steps of the whole run.

    Raises:
        CampusError: settings that do not go with this trainer; ranks of different runs.
    """
    peers, rounds, args = activities.peers, loader.rounds, trainer.args
    rows = compat.training_rows(trainer)
    config = given.resolved(
        has_probes=False,
        domain_in_data=DOMAIN in column_names(rows),
        seed=args.seed if args.data_seed is None else args.data_seed,
        by_rewards=True,
    )
    total_rounds, per_epoch = math.ceil(n_steps / rounds.steps), loader.rounds_per_epoch
    problems = config.draw.passes_problems(
        total_steps=total_rounds,
        steps_per_epoch=per_epoch,
        n_stages=max(1, math.ceil(total_rounds * config.stages / per_epoch)),
        revisits=config.coverage == "revisit",
    )
    if problems:
        raise RecipeError(problems)
    domains, kinds, keys = Domains.read(rows, config.within), Kinds.read(config, trainer), row_keys(loader.each())
    answers = n_steps * rounds.accumulation * rounds.micro_rows * rounds.world
    scoring = PromptScoring.of(trainer, config, peers, n_answers=answers, groups=domains.codes)
    identity = prompt_identity(trainer, config, loader, keys, domains, kinds, total_steps=n_steps)
    identity.refuse_different_ranks(peers)
    return PromptOutline(
        trainer=trainer,
        given=given,
        config=config,
        loader=loader,
        keys=keys,
        scoring=scoring,
        activities=activities,
        folder=folder,
        total_steps=n_steps,
        domains=domains,
        kinds=kinds,
        identity=identity,
        finite=Finite(compat.model_of(trainer), peers, _cause_in(trainer), lambda: trainer.optimizer),
        journal=Journal(folder, peers, n_steps),
    )


def _cause_in(trainer: Trainer) -> Callable[[Update], str]:
    """What says the likely cause of a failure in this trainer."""

    def cause(update: Update) -> str:
        half = "The forward computes in" if compat.precision(trainer) == "fp16" else None
        if any(p.requires_grad and p.dtype == torch.float16 for p in compat.model_of(trainer).parameters()):
            half = "The trained weights are in"
        return likely_cause(learning_rate=update.learning_rate, half=half)

    return cause


def plan(now: PromptOutline, saver: Saver, heard: Callable[[Heard], None]) -> PromptSituation:
    """A new run.

    Args:
        now: its outline.
        saver: that begins to count its checkpoints.
        heard: is told of the rewards of every generation.

    Raises:
        CampusError: prompts that cannot be scored, or scores that do not order them.
    """
    if now.peers.leads:
        saver.start()
    now.journal.put_aside()
    with now.activities(SCORING):
        scores = now.peers.from_leader(now.scoring.start())
    if now.peers.leads:
        scores.save(now.folder / "scores", now.scoring.rows)
        atomic_write(now.folder / RECIPE, now.config.to_yaml())
    rates = now.make_rates()
    dropped = now.make_dropped(scores)
    policy = now.make_policy(scores, rates, dropped)
    rounds = {"task": "prompts", "rounds": now.rounds.record()}
    now.journal.take(
        Started(
            now.identity.record(),
            now.domains.sizes(),
            drawn={**rounds, **of_start(policy, {} if dropped is None else dropped.counts())},
        ),
    )
    for label, values in scores.by_label.items():
        quantiles = np.quantile(values, [0, 0.25, 0.5, 0.75, 1]).tolist()
        now.journal.take(Scored(label, quantiles, scores.notes[label]))
    health = scores_health(now.config, scores, now.scoring.texts, now.domains, chosen=now.given.within is not None)
    now.journal.take(Examined(health, now.budget.found_share()))
    findings = score_findings(health, no_orders=now.config.no_orders)
    found = [f"{one.what} {one.remedy}".rstrip() for one in findings if one.severity != "info"]
    if now.peers.leads:
        now.list_dropped(dropped)
    repeated = repeated_prompts(text_keys(now.scoring.texts.response_text))
    kept = () if dropped is None else dropped.notes
    now.journal.take(Warned([*found, *scores.warnings, *kept, *repeated, *not_compared(now.trainer)]))
    curriculum = now.make_curriculum(scores, policy)
    for label, notes in scores.notes.items():
        curriculum.bar(label, barred=notes.get("tells_apart") is False)
    return complete(now, scores, curriculum, rates, dropped, heard)


def repeated_prompts(keys: NDArray[np.uint64]) -> list[str]:
    """What a person should know of prompts that are asked more than once; nothing where none is.

    Args:
        keys: content hash of every prompt, shape (N,).
    """
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    again = np.sort(first[counts > 1])
    if not len(again):
        return []
    n = int((counts[counts > 1] - 1).sum())
    named = ", ".join(map(str, again[:MOST_NAMED].tolist()))
    repeated = f"{n} of {len(keys)} prompts repeat an earlier one (first: rows {named})"
    return [f"{repeated}: each is drawn, and its pass rate counted, as a prompt of its own."]


def complete(
    now: PromptOutline,
    scores: Scores,
    curriculum: Curriculum,
    rates: PassRates,
    dropped: Dropped | None,
    heard: Callable[[Heard], None],
    *,
    same_world: bool = True,
) -> PromptSituation:
    """The last part of planning: what comes after it must not fail, for from here on there are hooks on the trainer."""
    trainer, loader = now.trainer, now.loader
    loader.curriculum = curriculum
    domains = now.kinds.domains if now.domains.codes is None else now.domains
    return PromptSituation(
        **vars(now),
        scores=scores,
        curriculum=curriculum,
        rates=rates,
        dropped=dropped,
        selector=now.config.build_selector(),
        groups=StageGroups(names_of_rewards(trainer), domains, at=rates.at),
        rewards=RewardWatch.on(trainer, heard, loader.planned),
        audit=PromptAudit(trainer, loader.dataset, now.keys, loader.planned),
        kept=KeptGeneration(trainer, now.peers, micro_per_generation=now.rounds.micro_per_generation),
        same_world=same_world,
    )
