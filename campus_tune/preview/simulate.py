"""The plan of a run without its model: which slices would be trained, how large, from which domains, how often.

The curriculum and the selectors here are those of a real run; only the losses that some selectors ask for come from
a made-up learner (see `learner`), and made-up scores stand in where none are given. So the numbers of rows, stages,
repeats and shares are exact for selectors that need no model, and for the others show what the rules lead to. A recipe
that says who is drawn is planned by the same policy, with a book that the learner writes. No row of it is wrong. What
goes by probes (rules, bandits, shares that are moved, a clock of competence) goes by those of the learner.

>>> from campus_tune.recipe.config import CampusConfig
>>> config = CampusConfig(metrics=["length", "mtld"], selector="round_robin", stages=4, handover=0.5, seed=0)
>>> run = simulate(config, n_rows=800, global_batch=8)
>>> [(stage.chosen, stage.n_rows) for stage in run.stages]
[('length', 200), ('mtld', 200), ('shuffle', 200), ('shuffle', 200)]
>>> run.seen, run.repeats
(800, 0)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from campus_tune.data.domains import Domains
from campus_tune.method.curriculum import SHUFFLE, Curriculum
from campus_tune.method.decide import decide
from campus_tune.method.drawn import of_end, of_stage
from campus_tune.method.firing import Firing
from campus_tune.method.free_losses import FreeLosses
from campus_tune.method.policy import Policy
from campus_tune.method.stages import Stage
from campus_tune.method.weighting import Weighting
from campus_tune.method.weights import Weight
from campus_tune.preview.made_up_record import MadeUpRecord
from campus_tune.preview.scene import RowsAtHand, Scene
from campus_tune.preview.weight_plan import planned_weights
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.policy import acting_of
from campus_tune.recipe.reward_rules import for_rewards, only_by_rewards
from campus_tune.words.errors import DataError
from campus_tune.words.findings import Finding
from campus_tune.words.types import BoolArray, FloatArray, IntArray, Json, RowArray

MOST_STAGES = 20_000  # a millisecond or two each
MOST_VISITS = 50_000_000  # rows of a plan that is kept: 0.8 GB
DOMINATES = 0.9  # share of the rows from which one sub-curriculum is the whole curriculum


@dataclass(frozen=True)
class SimulatedStage:
    """One planned stage.

    Args:
        index: stages before it.
        epoch: the pass over the rows it begins in.
        chosen: the sub-curriculum, or `shuffle`.
        scope: (from, to) of its order, in shares.
        n_rows: rows it trains.
        n_random: of these, drawn at random.
        n_repeats: of these, planned before in this epoch's worth of rows.
        domain_shares: share of each domain, shape (G,) as `SimulatedRun.domains`; sums to 1.
        drawn: how a policy drew it, as the ledger has it; {} without one.
        weights: what its planned weights come to, by the ledger's names; {} without any.
    """

    index: int
    epoch: int
    chosen: str
    scope: tuple[float, float]
    n_rows: int
    n_random: int
    n_repeats: int
    domain_shares: tuple[float, ...]
    drawn: Json = field(default_factory=dict)
    weights: Json = field(default_factory=dict)


@dataclass(frozen=True)
class SimulatedRun:
    """A planned run.

    Args:
        stages: in sequence.
        n_rows: N, rows of the training set.
        global_batch: rows per optimizer step.
        total_steps: optimizer steps.
        domains: their names.
        selector: its name.
        rows_by_choice: rows that each sub-curriculum supplied, and `shuffle`.
        seen: rows planned at least once.
        repeats: row visits beyond each row's first.
        made_up: some scores or losses were made up.
        drawn: what a policy has made of the rows, as the ledger's last line has it; {} without one.
        policy: that rows were drawn by; None without one.
        weighting: by which rows count; None where all count alike.
        acts_at: progress at which suspects would be dropped; None where the recipe does not, or it is never time.
        steered: something that goes by the record changes the plan, or could: a rule that acts, a clock, shares.
        events: what rules have seen, and done, in sequence.
        probe_losses: domain → mean loss at each measurement of the made-up probes; {} where nobody asked.
        stopped_at: optimizer step at which a rule ended it; None where it went on to its end.
        plan: every planned row in training order, shape (V,), if it was asked for.
        step_of_visit: the optimizer step of each entry of `plan`, shape (V,).
    """

    stages: tuple[SimulatedStage, ...]
    n_rows: int
    global_batch: int
    total_steps: int
    domains: tuple[str, ...]
    selector: str
    rows_by_choice: Mapping[str, int]
    seen: int
    repeats: int
    made_up: bool
    drawn: Json = field(default_factory=dict)
    policy: Policy | None = field(default=None, compare=False)
    weighting: Weighting | None = field(default=None, compare=False)
    acts_at: float | None = None
    steered: bool = False
    events: tuple[Firing, ...] = ()
    probe_losses: Mapping[str, Sequence[float]] = field(default_factory=dict)
    stopped_at: int | None = None
    plan: RowArray | None = None
    step_of_visit: IntArray | None = None

    @property
    def visits(self) -> int:
        """Rows handed out, repeats included."""
        return sum(stage.n_rows for stage in self.stages)

    def findings(self) -> list[Finding]:
        """What a user should know of this plan: one order is all of it, rows stay unseen."""
        found = []
        chosen = {name: n for name, n in self.rows_by_choice.items() if name != SHUFFLE}
        total = sum(chosen.values())
        if len(chosen) > 1 and max(chosen.values()) > DOMINATES * total:
            name = max(chosen, key=chosen.__getitem__)
            made_up = " (with made-up losses)" if self.made_up else ""
            found.append(
                Finding(
                    "warning",
                    f"`{name}` supplies {chosen[name] / total:.0%} of the rows that are not random: one curriculum, "
                    f"not several{made_up}.",
                    "Drop the other metrics, or write selector: round_robin, which takes all of them in turn.",
                )
            )
        due = min(self.n_rows, self.visits)  # rows that a plan without repeats would have seen
        if self.policy is None and self.seen < 0.999 * due:
            found.append(
                Finding(
                    "warning",
                    f"{self.visits} rows' worth of training sees {self.seen / self.n_rows:.0%} of the {self.n_rows} "
                    f"rows, and {self.repeats / self.visits:.0%} of it is repetition.",
                    "Write coverage: exact to train every row once per epoch.",
                )
            )
        return found


def simulate(
    config: CampusConfig,
    *,
    n_rows: int,
    global_batch: int,
    total_steps: int | None = None,
    epochs: float = 1.0,
    scores: Mapping[str, FloatArray] | None = None,
    orders: Mapping[str, RowArray] | None = None,
    groups: IntArray | None = None,
    domains: tuple[str, ...] = (),
    drawn_by: Domains | None = None,
    others: Domains | None = None,
    dropped: BoolArray | None = None,
    tokens: IntArray | None = None,
    columns: Mapping[Weight, FloatArray] | None = None,
    judges: bool = True,
    keep_plan: bool = False,
) -> SimulatedRun:
    """Plan a whole run.

    Args:
        config: the settings. A null seed counts as 0, a null selector as what it would be with probes.
        n_rows: N ≥ 1 rows.
        global_batch: B ≥ 1, rows per optimizer step.
        total_steps: of the run; None plans `epochs`.
        epochs: passes over the rows, > 0.
        scores: label → scores, each of shape (N,), higher = harder. Metrics not given are made up.
        orders: label → order, where orders are at hand already.
        groups: domain number of each row, shape (N,).
        domains: the domains' names.
        drawn_by: the domains that a policy draws by, where they are not these.
        others: the rows' groups in the column that `cells: of` names.
        dropped: rows that are never drawn, shape (N,).
        tokens: answer tokens of each row, shape (N,), by which weights are normalised; None makes them equally long.
        columns: a user's own weights, each of shape (N,). Weights that a forward decides are neutral here.
        judges: rules act on what made-up probes show; else none sees anything, and the plan is as far as it is sure.
        keep_plan: keep the planned rows themselves.

    Raises:
        DataError: fewer rows than one optimizer step takes, or more stages than can be gone through.
        RecipeError: blocks of the recipe that do not go with these rows.
    """
    if n_rows < global_batch:
        raise DataError(
            f"`rows` must be at least the {global_batch} of one optimizer step, got {n_rows}. "
            "Use a smaller batch or more rows."
        )
    rewarded = any(only_by_rewards(config))
    config = for_rewards(config) if rewarded else config
    config = config.resolved(has_probes=True, domain_in_data=groups is not None, seed=0, by_rewards=rewarded)
    per_epoch = -(-n_rows // global_batch)
    total_steps = total_steps or max(1, round(epochs * per_epoch))
    _refuse_too_long(config, n_rows, total_steps, per_epoch, keep_plan=keep_plan)
    kinds = Domains(groups, list(domains)) if drawn_by is None else drawn_by
    at_hand = RowsAtHand(
        n_rows,
        scores or {},
        orders or {},
        groups,
        kinds,
        others or Domains(),
        dropped,
        tokens,
        columns or {},
        global_batch,
    )
    scene = Scene(config, at_hand, judges=judges)
    curriculum = Curriculum(
        config.schedule(),
        scene.orders,
        n_rows=n_rows,
        global_batch=global_batch,
        total_steps=total_steps,
        groups=groups,
        policy=scene.policy,
        weighting=scene.weighting,
        steering=scene.steering,
    )
    scene.pace(curriculum)
    record = MadeUpRecord(scene, curriculum)
    shown = Domains(groups, list(domains)) if scene.policy is None else kinds
    stages: list[SimulatedStage] = []
    plan, steps = [], []
    acting, acts_at = acting_of(config), None
    free: FreeLosses | None = None
    while not curriculum.finished:
        if acting is not None and acts_at is None and acting.due(curriculum):
            acts_at = curriculum.step / total_steps
            scene.act(acting, curriculum)
        record.look()
        if record.stopped_at is not None:
            break
        if not curriculum.handed_over:
            curriculum.orders |= scene.fresh_orders()
        chosen = decide(
            curriculum,
            scene.selector,
            scene.measure,
            probe_loss=scene.probe_loss(),
            history=record.history,
            fresh=scene.candidates if scene.measures else None,
            free=free,
        )
        stage, before = chosen.stage, scene.own_loss(chosen.stage.rows)
        free = scene.shown(stage)
        losses = scene.train(stage, global_batch)
        stages.append(_simulated(curriculum, stage, shown))
        if keep_plan:
            plan.append(stage.rows)
            steps.append(stage.first_step + np.arange(len(stage.rows)) // global_batch)
        for _ in range(stage.n_steps):
            curriculum.advance()
        record.close(chosen, losses, before)
    if curriculum.finished:
        record.look()
    seen, repeats = curriculum.coverage_counts()
    return SimulatedRun(
        stages=tuple(stages),
        n_rows=n_rows,
        global_batch=global_batch,
        total_steps=total_steps,
        domains=tuple(shown.names),
        selector=config.selector_name or "",
        rows_by_choice=dict(curriculum.rows_by_choice),
        seen=seen,
        repeats=repeats,
        made_up=scene.learner is not None,
        drawn=of_end(curriculum),
        policy=scene.policy,
        weighting=scene.weighting,
        acts_at=acts_at,
        steered=scene.steered,
        events=tuple(record.firings),
        probe_losses=record.losses(),
        stopped_at=record.stopped_at,
        plan=np.concatenate(plan) if keep_plan else None,
        step_of_visit=np.concatenate(steps) if keep_plan else None,
    )


def _refuse_too_long(config: CampusConfig, n_rows: int, total_steps: int, per_epoch: int, *, keep_plan: bool) -> None:
    """Stages are planned one after the other, so a run can be too long to be simulated and yet be trained."""
    most = config.stages * max(1, len(config.metrics)) * math.ceil(total_steps / per_epoch)
    if min(total_steps, most) > MOST_STAGES:
        raise DataError(
            f"`stages` of a simulated run must be at most {MOST_STAGES} in all, got {min(total_steps, most)}. Simulate "
            "fewer epochs or stages: what follows is alike."
        )
    visits = total_steps * math.ceil(n_rows / per_epoch)
    if keep_plan and visits > MOST_VISITS:
        raise DataError(
            f"`rows` of a plan that is kept must be at most {MOST_VISITS}, got {visits}. Simulate fewer epochs."
        )


def _simulated(curriculum: Curriculum, stage: Stage, shown: Domains) -> SimulatedStage:
    """What is kept of a stage that was just opened."""
    shares: tuple[float, ...] = ()
    if shown.codes is not None and shown.names:
        counts = np.bincount(shown.codes[stage.rows], minlength=len(shown.names))
        shares = tuple((counts / len(stage.rows)).tolist())
    return SimulatedStage(
        index=stage.index,
        epoch=stage.epoch,
        chosen=stage.chosen,
        scope=stage.scope,
        n_rows=len(stage.rows),
        n_random=stage.n_random,
        n_repeats=stage.n_repeats,
        domain_shares=shares,
        drawn=of_stage(curriculum, stage),
        weights=planned_weights(curriculum, stage),
    )
