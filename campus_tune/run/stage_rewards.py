"""What a stage did to the model, where a bandit's reward is that: a loss, or the weights, before it and after it.

    own    fall of the mean loss of a sample of the stage's rows: two forwards, on the bill of `selection`
    norm   rise of ½‖θ‖² of the trained weights: free

Every rank calls the same and gets the same numbers. What was measured before a stage is in the checkpoint, so a run
that was killed inside of it goes on with that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from campus_tune.data.prepared import TokenRows
from campus_tune.method.budget import Budget, Purpose
from campus_tune.method.phases import offers_until, phases_of
from campus_tune.method.selectors import NORM, OWN
from campus_tune.method.stages import SHUFFLE, Stage
from campus_tune.model import compat
from campus_tune.model.measure import LossMeter
from campus_tune.model.subject import Subject
from campus_tune.recipe.config import CampusConfig
from campus_tune.scores.planning import planned_steps, stages_between
from campus_tune.words.arrays import pack, unpack
from campus_tune.words.errors import TrainerError
from campus_tune.words.types import IntArray, Json

if TYPE_CHECKING:
    from transformers import Trainer

SAMPLE = 32  # rows of a stage, at most: those of a decision's offers grow to about as many
_SAMPLED = 3  # purpose of a draw: choices have 1 and 2


@dataclass(frozen=True, eq=False)
class _Before:
    """What was measured before a stage.

    Args:
        own: mean loss of the sample, nats; None where none was measured.
        rows: of the sample, ascending, shape (m,).
        norm: ½‖θ‖²; None where it is not asked for.
        n_trained: numbers in θ.
    """

    own: float | None = None
    rows: IntArray | None = None
    norm: float | None = None
    n_trained: int = 0


class StageRewards:
    """Measures around each stage that a sub-curriculum was chosen for.

    Args:
        trainer: whose model is trained.
        config: resolved settings; its selector asks for one of the two.
        meter: of the training rows.
        rows: of the training set.
        budget: charged for forwards.
    """

    def __init__(
        self, config: CampusConfig, trainer: Trainer, meter: LossMeter, rows: TokenRows, budget: Budget
    ) -> None:
        self.trainer, self.config, self.meter, self.rows, self.budget = trainer, config, meter, rows, budget
        needs = config.build_selector().needs
        self.asks_own, self.asks_norm = OWN in needs, NORM in needs
        self.steps_per_epoch, total_steps = planned_steps(trainer, len(rows), meter.peers)
        self.handover_step = offers_until(phases_of(config.handover, total_steps))
        self._before = _Before()

    @staticmethod
    def of(
        config: CampusConfig, trainer: Trainer, meter: LossMeter, rows: TokenRows, budget: Budget
    ) -> StageRewards | None:
        """What a recipe's selector asks for; None where it asks for neither.

        Raises:
            TrainerError: for the norm of weights of which no process has all.
        """
        needs = config.build_selector().needs
        if NORM in needs:
            refuse_sharded(compat.subject(trainer))
        return StageRewards(config, trainer, meter, rows, budget) if {OWN, NORM} & needs else None

    def open_stage(self, stage: Stage) -> None:
        """A stage was decided, and nothing of it is trained yet."""
        self._before = _Before()
        if stage.chosen == SHUFFLE:
            return
        if self.asks_norm:
            n_trained, norm = self._norm()
            self._before = _Before(norm=norm, n_trained=n_trained)
        sample = self._sample(stage) if self.asks_own else None
        if sample is not None:
            self._before = _Before(own=self._loss(sample), rows=sample)

    def close_stage(self) -> tuple[float | None, float | None]:
        """The stage is over: how far the loss of its sample fell, in nats, and by how much ½‖θ‖² rose.

        None for what was not measured before it: the selector does not ask for it, the budget did not pay for it, the
        stage was shuffled, or other weights were trained then.
        """
        before, self._before = self._before, _Before()
        own = norm = None
        if before.own is not None and before.rows is not None:
            own = before.own - self._loss(before.rows)
        if before.norm is not None:
            n_trained, now = self._norm()
            norm = now - before.norm if n_trained == before.n_trained else None
        return own, norm

    def state(self) -> Json:
        """What was measured before the stage that is open, as JSON."""
        before = self._before
        return {**vars(before), "rows": None if before.rows is None else pack(before.rows)}

    def load(self, state: Json) -> None:
        """Continue from `state()`."""
        rows = state["rows"]
        self._before = _Before(**{**state, "rows": None if rows is None else unpack(rows, "i")})

    def _sample(self, stage: Stage) -> IntArray | None:
        """Rows of the stage to measure twice: as many as are paid for; None where these are too few."""
        unique = np.unique(stage.rows).astype(np.int64)
        rows = unique[self.rows.answer_tokens[unique] > 0]
        n_left = stages_between(self.config, self.steps_per_epoch, stage.first_step, self.handover_step)
        paid = self._free() / n_left / (2 * max(1.0, float(self.rows.tokens[rows].mean()))) if len(rows) else 0.0
        n = min(SAMPLE, len(rows), int(paid))
        if n < min(len(rows), self.budget.fewest("selection")) or not n:
            return None
        rng = np.random.default_rng([self.config.seed or 0, stage.index, _SAMPLED])
        sample: IntArray = np.sort(rng.choice(rows, n, replace=False))
        return sample if 2 * self.rows.tokens[sample].sum() <= self.budget.room() else None

    def _free(self) -> float:
        """Forward tokens that are left once what else is still to come has its part."""
        budget = self.budget
        to_come: list[Purpose] = [*budget.to_come, *(("probes",) if budget.spent["probes"] else ())]
        return max(0.0, budget.left - sum(max(0.0, budget.part(one) - budget.spent[one]) for one in to_come))

    def _loss(self, rows: IntArray) -> float:
        """Mean loss of some rows under the model as it is, on the bill."""
        before, spared = self.meter.seconds, self.meter.spared
        loss = self.meter.losses(rows).mean()
        tokens = int(self.rows.tokens[rows].sum()) - (self.meter.spared - spared)
        self.budget.charge("selection", tokens, self.meter.seconds - before)
        return self.meter.peers.from_leader(loss)

    def _norm(self) -> tuple[int, float]:
        """(Numbers that are trained, half of their squared norm)."""
        trained = [p for p in compat.model_of(self.trainer).parameters() if p.requires_grad]
        return sum(p.numel() for p in trained), self.meter.peers.from_leader(half_square(trained))


def half_square(parameters: Sequence[torch.nn.Parameter]) -> float:
    """½‖θ‖², added up in float64 where the weights are; 0 of none."""
    if not parameters:
        return 0.0
    device = parameters[0].device  # large models may lie on several
    kind = torch.float32 if device.type == "mps" else torch.float64  # which that does not have
    norms = [torch.linalg.vector_norm(p.detach(), dtype=kind).to(device) for p in parameters]
    return float(torch.stack(norms).square().sum()) / 2


def refuse_sharded(subject: Subject) -> None:
    """Weights must be whole in each process.

    Raises:
        TrainerError: FSDP or ZeRO 3 has cut them.
    """
    if subject.sharded:
        zero = any(hasattr(p, "ds_id") for p in subject.model.parameters())
        raise TrainerError(
            "`selector: reward` must be another than norm where weights are cut into parts, got norm under "
            f"{'DeepSpeed ZeRO 3' if zero else 'FSDP'}: no process has all of them. Write reward: probes, or own."
        )
