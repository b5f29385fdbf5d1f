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
from typing import Literal, TypeAlias, get_args

from campus_tune.types import Json

Purpose: TypeAlias = Literal["scoring", "rescoring", "scorer", "selection", "probes"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)

# How the budget is shared among what a run measures: scores before training, scores of rows that still wait, sampling
# and training of the scorer, offers of a decision, probes. What a run does not do leaves its part to the others.
WEIGHTS: dict[Purpose, float] = {"scoring": 5, "rescoring": 3, "scorer": 3, "selection": 2, "probes": 3}
ALWAYS: tuple[Purpose, ...] = ("scoring", "selection", "probes")


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
        purposes: what this run measures.
        spent: forward tokens by purpose, those that were found in the score cache included: what a run decides must
            not hang on what lies on a disk.
        found: of them, the tokens whose scores were found in the cache and cost nothing now.
        seconds: on the clock, by purpose, of training, of checking weights before saves and hashing checkpoints beside.
    """

    share: float
    training_tokens: float
    ratio: float
    purposes: tuple[Purpose, ...] = ALWAYS
    spent: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PURPOSES, 0))
    found: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PURPOSES, 0))
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys((*PURPOSES, "training", "checking", "hashing"), 0.0)
    )

    @property
    def total(self) -> float:
        """Forward tokens that the whole run may spend."""
        return self.share * self.training_tokens / self.ratio

    @property
    def left(self) -> float:
        """Forward tokens not spent yet, never below 0."""
        return max(0.0, self.total - sum(self.spent.values()))

    @property
    def to_come(self) -> tuple[Purpose, ...]:
        """What is measured again and again before decisions, besides the probes."""
        return tuple(purpose for purpose in self.purposes if purpose in ("rescoring", "scorer"))

    def part(self, purpose: Purpose) -> float:
        """Forward tokens that the whole run may spend on `purpose`."""
        return WEIGHTS[purpose] / sum(WEIGHTS[each] for each in self.purposes) * self.total

    def charge(self, purpose: Purpose, tokens: int, seconds: float, *, found: int = 0) -> None:
        """Count a measurement.

        Args:
            purpose: what it was for.
            tokens: forward tokens, those found in the cache included.
            seconds: on the clock.
            found: of them, tokens that were not measured because their scores were in the cache.
        """
        self.spent[purpose] += tokens
        self.found[purpose] += found
        self.seconds[purpose] += seconds

    def per_probe(self, n_measurements: int) -> float:
        """Forward tokens that one measurement of all probes may take."""
        return self.part("probes") / max(1, n_measurements)

    def per_time(self, purpose: Purpose, n_left: int) -> float:
        """Forward tokens that the next of `n_left` measurements for `purpose` may take."""
        return max(0.0, self.part(purpose) - self.spent[purpose]) / max(1, n_left)

    def per_decision(self, n_decisions: int, reserved: float) -> float:
        """Forward tokens that the next decision may take.

        Args:
            n_decisions: still to come, this one included.
            reserved: forward tokens set aside for what else is still to come.
        """
        return max(0.0, self.left - reserved) / max(1, n_decisions)

    def shares(self) -> dict[str, float]:
        """What was spent so far, as shares of the whole run's training compute, by purpose and `all` together."""
        shares = {purpose: self.ratio * tokens / self.training_tokens for purpose, tokens in self.spent.items()}
        return {**shares, "all": sum(shares.values())}

    def clock_share(self) -> float:
        """Seconds spent on measuring, over seconds spent on training, so far."""
        return sum(self.seconds[purpose] for purpose in PURPOSES) / max(1e-9, self.seconds["training"])

    def found_share(self) -> float:
        """What was found in the cache instead of measured, as a share of the whole run's training compute."""
        return self.ratio * sum(self.found.values()) / self.training_tokens

    def state(self) -> Json:
        """What was spent, as JSON."""
        return {"spent": dict(self.spent), "found": dict(self.found), "seconds": dict(self.seconds)}

    def load(self, state: Json) -> None:
        """Continue from `state()`."""
        self.spent = {purpose: state["spent"][purpose] for purpose in PURPOSES}  # in our sequence: sums are floats
        self.found = {purpose: state["found"][purpose] for purpose in PURPOSES}
        self.seconds = {what: state["seconds"][what] for what in self.seconds}
