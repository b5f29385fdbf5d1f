"""What a real run has and a simulated one must stand in for: orders, scores, and a model that shows its losses.

Scores that are given are used; others are made up, by the learner (see `learner`). A score of candidates that are
measured anew is what it was before training plus what the row's loss has changed since: of `loss` that is the loss now,
of `rho` the loss now less the other model's.

With `budget: 0` the learner is asked for nothing either: there is no order by what only a model could say, offers are
compared by the losses of training or take turns, and no probes are measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from campus_tune.data.domains import Domains
from campus_tune.method.acting import Acting
from campus_tune.method.book import Book
from campus_tune.method.budget import ALWAYS
from campus_tune.method.curriculum import Curriculum
from campus_tune.method.decide import NOT_PAID
from campus_tune.method.drop import SALT
from campus_tune.method.free_losses import FreeLosses
from campus_tune.method.grouping import NO_GROUPS
from campus_tune.method.orders import order_rows, rank_of_rows
from campus_tune.method.policy import Policy
from campus_tune.method.selectors import LOSS, NORM, OWN, PROBES, START_LOSS, Bandit, RaceResult
from campus_tune.method.stages import Stage
from campus_tune.method.steering import Steering
from campus_tune.method.suspicion import Suspicion
from campus_tune.method.view import View
from campus_tune.method.weighting import Weighting
from campus_tune.method.weights import Weight
from campus_tune.metrics.base import MetricSpec, build_metric
from campus_tune.preview.learner import ForgetfulLearner, Learner
from campus_tune.preview.made_up_rewards import MadeUpRewards
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.draw_rules import find_score
from campus_tune.recipe.policy import book_columns, cells_of, policy_of, steering_of
from campus_tune.recipe.weighting import columns_asked, weighting_of
from campus_tune.scores.questions import unscored
from campus_tune.words.types import BoolArray, FloatArray, IntArray, RowArray, RowLosses


@dataclass(frozen=True)
class RowsAtHand:
    """What is known of a simulated run's rows.

    Args:
        n_rows: N.
        scores: label → scores, each of shape (N,), higher = harder. Metrics not given are made up.
        orders: label → order, where orders are at hand already.
        groups: number of the group that each row is ranked in, shape (N,).
        domains: that rows are drawn by.
        others: their groups in the column that `cells: of` names.
        dropped: rows that are never drawn, shape (N,).
        tokens: answer tokens of each row, shape (N,); None makes them equally long.
        columns: a user's own weights, each of shape (N,). Of those that are not given all rows have the same.
        global_batch: B, rows of an optimizer step, over which weights are normalised.
    """

    n_rows: int
    scores: Mapping[str, FloatArray] = field(default_factory=dict)
    orders: Mapping[str, RowArray] = field(default_factory=dict)
    groups: IntArray | None = None
    domains: Domains = field(default_factory=Domains)
    others: Domains = field(default_factory=Domains)
    dropped: BoolArray | None = None
    tokens: IntArray | None = None
    columns: Mapping[Weight, FloatArray] = field(default_factory=dict)
    global_batch: int = 1


class Scene:
    """One simulated run's orders, policy, weighting and learner.

    Args:
        config: resolved settings.
        given: what is known of its rows.
        judges: rules act on what the learner's probes show.

    Raises:
        RecipeError: blocks of the recipe that do not go with these rows.
    """

    def __init__(self, config: CampusConfig, given: RowsAtHand, *, judges: bool = True) -> None:
        self.config, self.given = config, given
        self.asks = config.budget > 0
        unpaid = set() if self.asks else unscored(config, ALWAYS) - given.scores.keys() - given.orders.keys()
        specs = () if config.is_shuffle else tuple(spec for spec in config.specs if spec.label not in unpaid)
        asked = (*specs, *(config.draw.extras(specs) if config.draws_apart or config.weighs else ()))
        missing = [spec for spec in asked if spec.label not in given.scores and spec.label not in given.orders]
        self.selector = config.build_selector()
        self.seed = config.seed or 0
        self.groups = given.groups if config.within != NO_GROUPS else None
        columns = book_columns(config)
        self.measures = self.asks and config.thin is not None and config.thin.fresh
        self.watched = bool(self.selector.needs) or columns is not None or self.measures  # somebody looks at its losses
        self.learner: Learner | None = None
        if missing or self.watched:
            self.learner = (
                ForgetfulLearner(given.n_rows, seed=self.seed, domains=given.domains.codes)
                if config.draws_apart or columns is not None
                else Learner(given.n_rows, seed=self.seed)
            )
        self.judges = judges
        self.probed = self._probed()
        self.fresh = [spec for spec in missing if spec in specs and build_metric(spec).own_loss]
        ordered = () if config.draws_apart or config.weighs else given.orders  # of these nobody asks the scores
        self.scores = {spec.label: self._scores(spec) for spec in asked if spec.label not in ordered}
        self.orders = {spec.label: self._first_order(spec) for spec in specs}
        self.rewards: MadeUpRewards | None = None
        if config.thin is not None and config.thin.by_rewards:
            pools = given.domains.codes
            self.rewards = MadeUpRewards(config, given.n_rows, pools=pools, seed=self.seed)
        self.book, self.steering, self.policy, self.weighting = self._draw(columns)

    @property
    def has_rules(self) -> bool:
        """Rules judge: those that the recipe writes, and the usual ones where it names probes."""
        config = self.config
        return self.judges and (config.probes is not None or bool(config.milestones or config.when))

    @property
    def steered(self) -> bool:
        """Something that goes by the record changes the plan, or could."""
        config = self.config
        acts = self.judges and any(one.action != "note" for one in config.steer.asked())
        moves = config.domains is not None and config.domains.reweight is not None
        return acts or moves or config.clock_part.by != "steps"

    def _probed(self) -> ForgetfulLearner | None:
        """The learner whose probes are measured; None where nobody asks for them.

        One that forgets, whichever decides: what only watches must not change the losses that others go by.
        """
        reads = self.selector.needs & {PROBES, OWN, NORM} and isinstance(self.selector, Bandit)
        if not self.asks or (not reads and not self.config.steers(has_probes=self.has_rules)):
            return None
        if isinstance(self.learner, ForgetfulLearner):
            return self.learner
        return ForgetfulLearner(self.given.n_rows, seed=self.seed, domains=self.given.domains.codes)

    def _scores(self, spec: MetricSpec) -> FloatArray:
        """Of all rows, before training."""
        if (known := self.given.scores.get(spec.label)) is not None:
            return known
        if (order := self.given.orders.get(spec.label)) is not None:
            return rank_of_rows(order).astype(np.float64)
        return self._made_up(spec)

    def _first_order(self, spec: MetricSpec) -> RowArray:
        order = self.given.orders.get(spec.label)
        return self._order(self.scores[spec.label]) if order is None else order

    def _draw(self, columns: set[str] | None) -> tuple[Book | None, Steering | None, Policy | None, Weighting | None]:
        """The book, what steers, what a recipe's run draws by, and what its rows count by."""
        config, given = self.config, self.given
        cells = None
        if config.draws_apart or config.weighs:
            cells = cells_of(config, self.scores.__getitem__, domains=given.domains, others=given.others)
        steering = steering_of(config, has_probes=self.has_rules, domains=given.domains, cells=cells)
        if steering is not None and not self.has_rules:
            steering.rules = ()
        if not config.draws_apart and not config.weighs:
            return None, steering, None, None
        book = None
        if columns is not None:
            spacing = 1 if config.review is None else config.review.spacing
            book = Book(given.n_rows, needs=columns, cells=None if cells is None else cells.codes, spacing=spacing)
        policy = policy_of(
            config,
            n_rows=given.n_rows,
            domains=given.domains,
            cells=cells,
            score_of=self.scores.__getitem__,
            dropped=given.dropped,
            book=book,
            steering=steering,
            rates=None if self.rewards is None else self.rewards.rates,
        )
        weighting = weighting_of(
            config,
            tokens=np.ones(given.n_rows, dtype=np.int64) if given.tokens is None else given.tokens,
            global_batch=given.global_batch,
            domains=given.domains,
            cells=cells,
            columns={one: given.columns.get(one, np.ones(given.n_rows)) for one in columns_asked(config)},
            dropped=given.dropped,
            book=book,
            steering=steering,
        )
        return book, steering, policy, weighting

    def pace(self, curriculum: Curriculum) -> None:
        """What steers knows how long the run is: stages, and tokens as far as these are known."""
        if self.steering is None:
            return
        given = self.given
        tokens = given.n_rows if given.tokens is None else float(given.tokens.sum())
        self.steering.n_stages = curriculum.n_decisions
        self.steering.handover_tokens = curriculum.handover_step / curriculum.steps_per_epoch * tokens

    def _made_up(self, spec: MetricSpec) -> FloatArray:
        assert self.learner is not None, "a metric without scores has a learner to ask"
        made = self.learner.loss() if build_metric(spec).own_loss else self.learner.metric()
        return -made if spec.reverse else made

    def _order(self, scores: FloatArray) -> RowArray:
        return order_rows(scores, seed=self.seed, groups=self.groups)

    def fresh_orders(self) -> dict[str, RowArray]:
        """`loss` orders, sorted by what the learner's losses are now."""
        return {spec.label: self._order(self._made_up(spec)) for spec in self.fresh}

    def measure(self, view: View) -> RaceResult:
        """The learner's losses of all the rows of each offer, so without sampling noise; of none where none is paid."""
        if not self.asks:
            unknown, nothing = np.full(len(view.offers), np.nan), np.zeros(len(view.offers), dtype=np.int64)
            return RaceResult(unknown, unknown, nothing, None, rounds=0, tokens=0, outcome=NOT_PAID)
        assert self.learner is not None, "a selector with needs has a learner to ask"
        now, start = self.learner.loss(), self.learner.start_loss()
        return RaceResult(
            mean_loss=np.array([now[offer.pool].mean() for offer in view.offers]),
            stderr=np.zeros(len(view.offers)),
            n_rows=np.array([len(offer.pool) for offer in view.offers]),
            start_loss=np.array([start[offer.pool].mean() for offer in view.offers]),
            rounds=1,
            tokens=0,
            outcome="all rows measured",
        )

    def probe_loss(self) -> float | None:
        """The learner's loss of rows that are never trained; None where nobody asks."""
        return None if self.learner is None or not self.asks else self.learner.probe_loss()

    def shown(self, stage: Stage) -> FreeLosses | None:
        """What the forwards of a stage are about to show, for decisions that nothing is measured for."""
        if self.asks or self.learner is None or LOSS not in self.selector.needs or START_LOSS in self.selector.needs:
            return None
        loss, one = self.learner.loss()[stage.rows], np.ones(len(stage.rows), dtype=np.int64)
        return FreeLosses(stage.rows.astype(np.int64), RowLosses(loss, one, one, loss, loss))

    def candidates(self, rows: RowArray) -> FloatArray:
        """What `thin: fresh` measures of some rows now, shape (n,)."""
        thin = self.config.thin
        assert thin is not None, "only what thins has candidates"
        assert self.learner is not None, "candidates have a learner to ask"
        now = self.learner.loss()[rows]
        if thin.book_score is not None:
            return -now if thin.reversed_by else now
        found = find_score(thin.by, self.config.specs)
        before = self.scores[found.spec.label][rows]
        changed = now - self.learner.start_loss()[rows]
        turned = -before if found.spec.reverse else before
        return (turned + changed) * (-1.0 if found.turned != found.spec.reverse else 1.0)

    def act(self, acting: Acting, curriculum: Curriculum) -> None:
        """What is done about suspects: nobody is one here, so rows go only where some go in any case, at random."""
        if acting.act != "always" or curriculum.apart is None:
            return
        n = self.given.n_rows
        scores = np.random.default_rng([self.seed, SALT]).random(n)
        nobody = Suspicion(scores, np.full(n, np.nan), np.zeros(n, dtype=np.bool_), None)
        gone = np.zeros(n, dtype=np.bool_)
        gone[acting.choose(nobody, curriculum).rows] = True
        curriculum.apart.leave_out(gone)

    def go_back_to(self, learner: ForgetfulLearner) -> None:
        """The learner is again what it was; where two of them learn, it is the one whose probes are measured."""
        if self.learner is self.probed:
            self.learner = learner.copied()
            self.probed = self.learner
        else:
            self.probed = learner.copied()

    def own_loss(self, rows: RowArray) -> float | None:
        """Mean loss of some rows now; None where no bandit goes by it."""
        if self.probed is None or OWN not in self.selector.needs:
            return None
        return float(self.probed.loss()[rows].mean())

    def train(self, stage: Stage, global_batch: int) -> RowLosses | None:
        """Let the learner learn a stage, if anybody will look at its losses; what its forwards have shown."""
        shown = None
        if self.rewards is not None:
            self.rewards.answer(stage, global_batch)
        if self.probed is not None and self.probed is not self.learner:
            shown = self.probed.visit(stage.rows)
        if self.learner is None or not (self.fresh or self.watched or self.probed is self.learner):
            return shown
        if not isinstance(self.learner, ForgetfulLearner):
            self.learner.train(stage.rows)
            return shown
        losses = self.learner.visit(stage.rows)
        if self.book is not None:
            steps = stage.first_step + 1 + np.arange(len(stage.rows)) // global_batch
            self.book.update(stage.index, stage.rows.astype(np.int64), losses, steps)
        return losses if self.probed is self.learner else shown
