"""The curriculum's bill: what scoring, selection and probes may cost, and what they did cost.

One unit, forward tokens. A forward over a token costs `ratio` of training on it, by floating-point operations:

    forward 2P, backward 2P (activations) + 2·P_trained (weights), checkpointing + 2P
    ratio = 2P / (4P + 2·P_trained [+ 2P])        full 1/3, LoRA ≈ 1/2, with gradient checkpointing 1/4 and 1/3

(measured on a CPU: 0.31 full, 0.38 LoRA, 0.30 and 0.33 with checkpointing). Sample sizes follow from this count
and never from a stopwatch: a decision that hangs on wall time could not be repeated, and a resumed run would choose
differently. The stopwatch runs too, and the cost line shows both shares.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from campus_tune.types import Json

Purpose: TypeAlias = Literal["scoring", "selection", "probes"]

SCORING_PART = 0.5  # of the budget: the loss of the rows before training
PROBES_PART = 0.3  # of the budget: all probe measurements together


def forward_ratio(n_parameters: int, n_trained: int, *, checkpointing: bool) -> float:
    """Cost of a forward token in training tokens.

    >>> forward_ratio(100, 100, checkpointing=False)
    0.3333333333333333
    >>> round(forward_ratio(1000, 10, checkpointing=False), 3)
    0.498
    """
    return 2 * n_parameters / ((6 if checkpointing else 4) * n_parameters + 2 * n_trained)


@dataclass
class Budget:
    """Allowance and spending of one run, in forward tokens.

    Args:
        share: of the training compute that the curriculum may cost.
        training_tokens: that the whole run will train.
        ratio: cost of a forward token in training tokens.
    """

    share: float
    training_tokens: float
    ratio: float
    spent: dict[str, int] = field(default_factory=lambda: {"scoring": 0, "selection": 0, "probes": 0})
    seconds: dict[str, float] = field(
        default_factory=lambda: {"scoring": 0.0, "selection": 0.0, "probes": 0.0, "training": 0.0}
    )

    @property
    def total(self) -> float:
        """Forward tokens that the whole run may spend."""
        return self.share * self.training_tokens / self.ratio

    @property
    def left(self) -> float:
        """Forward tokens not spent yet, never below 0."""
        return max(0.0, self.total - sum(self.spent.values()))

    def charge(self, purpose: Purpose, tokens: int, seconds: float) -> None:
        """Count a measurement."""
        self.spent[purpose] += tokens
        self.seconds[purpose] += seconds

    def per_probe(self, n_measurements: int) -> float:
        """Forward tokens that one measurement of all probes may take."""
        return PROBES_PART * self.total / max(1, n_measurements)

    def per_decision(self, n_decisions: int, probe_tokens: float, n_probes: int) -> float:
        """Forward tokens that the next decision may take, with the probes still to come set aside."""
        return max(0.0, self.left - probe_tokens * n_probes) / max(1, n_decisions)

    def shares(self) -> dict[str, float]:
        """What was spent so far, as shares of the whole run's training compute, by purpose and `all` together."""
        shares = {purpose: self.ratio * tokens / self.training_tokens for purpose, tokens in self.spent.items()}
        return {**shares, "all": sum(shares.values())}

    def clock_share(self) -> float:
        """Seconds spent on measuring, over seconds spent on training, so far."""
        return sum(self.seconds[purpose] for purpose in self.spent) / max(1e-9, self.seconds["training"])

    def state(self) -> Json:
        """What was spent, as JSON."""
        return {"spent": dict(self.spent), "seconds": dict(self.seconds)}

    def load(self, state: Json) -> None:
        """Continue from `state()`."""
        self.spent = {purpose: state["spent"][purpose] for purpose in self.spent}  # in our sequence: sums are floats
        self.seconds = {what: state["seconds"][what] for what in self.seconds}
