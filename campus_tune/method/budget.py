"""The curriculum's bill: what scoring, selection and probes may cost, and what they did cost.

One unit, forward tokens. A forward over a token costs `ratio` of training on it, by floating-point operations:

    forward 2P, backward 2P (activations) + 2·P_trained (weights), checkpointing + 2P
    ratio = 2P / (4P + 2·P_trained [+ 2P])        full 1/3, LoRA ≈ 1/2, with gradient checkpointing 1/4 and 1/3

(measured on a CPU: 0.31 full, 0.38 LoRA, 0.30 and 0.33 with checkpointing). Sample sizes follow from this count
and never from a stopwatch: a decision that hangs on wall time could not be repeated, and a resumed run would choose
differently. The stopwatch runs too, and the cost line shows both shares.

Some measurements say nothing below a number of rows (`FEWEST`), whatever their part of the budget pays for. In a long
run these are small beside the budget; in a short one they can cost more than all of it. So before the first step the
costs are added up (`Need`). Where they fit, nothing changes. Where they do not, first what is above the fewest rows
gives way, each purpose in proportion (`allot`), then the fewest rows themselves, down to half of them. Where even the
halves do not fit, the run says so before it trains. Whatever is measured later asks first how much is left (`room`), so
a budget that was not called too small is kept to the last token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from campus_tune.words.types import Json

Purpose: TypeAlias = Literal["scoring", "rescoring", "scorer", "selection", "probes", "thinning", "map", "value"]
THINNING: Purpose = "thinning"  # candidates of a stage: of what the others leave, and only in a run that thins by them
MAP: Purpose = "map"  # of the rows, when a run is over: of what is left then
VALUE: Purpose = "value"  # gradients of the probes: beside the budget, from an account of its own
PURPOSES: tuple[Purpose, ...] = tuple(name for name in get_args(Purpose) if name not in (THINNING, MAP, VALUE))

# How the budget is shared among what a run measures: scores before training, scores of rows that still wait, sampling
# and training of the scorer, offers of a decision, probes. What a run does not do leaves its part to the others.
WEIGHTS: dict[Purpose, float] = {"scoring": 5, "rescoring": 3, "scorer": 3, "selection": 2, "probes": 3}
ALWAYS: tuple[Purpose, ...] = ("scoring", "selection", "probes")

# The fewest rows of one measurement: with a loss before training; with a new loss at a re-scoring; pairs of a scorer's
# training; of every offer; of every domain's probes. A budget that does not pay for them gets down to half of them.
FEWEST: dict[Purpose, int] = {"scoring": 64, "rescoring": 64, "scorer": 32, "selection": 8, "probes": 8}

_SIZES = ("usual", "fewest", "least")  # of a `Need`


def forward_ratio(n_parameters: int, n_trained: int, *, checkpointing: bool) -> float:
    """Cost of a forward token in training tokens.

    >>> forward_ratio(100, 100, checkpointing=False)
    0.3333333333333333
    >>> round(forward_ratio(1000, 10, checkpointing=False), 3)
    0.498
    """
    return 2 * n_parameters / ((6 if checkpointing else 4) * n_parameters + 2 * n_trained)


@dataclass(frozen=True)
class Need:
    """What a run will spend on one purpose, in forward tokens.

    Args:
        usual: what its part of the budget pays for, or the fewest rows.
        fewest: with the fewest rows.
        least: with half of them.
    """

    usual: float
    fewest: float
    least: float

    def after(self, other: Need, times: int = 1) -> Need:
        """This and, so many times, another one."""
        return Need(*(getattr(self, size) + times * getattr(other, size) for size in _SIZES))


def allot(wanted: Mapping[Purpose, float], lowest: Mapping[Purpose, float], total: float) -> dict[Purpose, float]:
    """Forward tokens for each purpose: what is wanted times one factor, so that all fit, but none below its lowest.

    >>> allot({"scoring": 60, "probes": 40}, {"scoring": 10, "probes": 38}, 80)
    {'scoring': 42.0, 'probes': 38}
    """
    free = list(wanted)
    while True:
        left = total - sum(lowest[name] for name in wanted if name not in free)
        factor = min(1.0, max(0.0, left) / max(1e-9, sum(wanted[name] for name in free)))
        short = [name for name in free if factor * wanted[name] < lowest[name]]
        if not short:
            return {name: factor * wanted[name] if name in free else lowest[name] for name in wanted}
        free = [name for name in free if name not in short]


def rounded_up(share: float) -> float:
    """A budget to write into a recipe: at least `share`, in as few digits as are read easily.

    >>> rounded_up(0.4301), rounded_up(0.0213), rounded_up(0.44)
    (0.44, 0.022, 0.44)
    """
    digits = 3 if share < 0.1 else 2
    scale = 10.0**digits
    return math.ceil(share * scale - 1e-9) / scale


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
        caps: tokens for each purpose, where what is usual costs more than the budget; None where it does not.
        halved: the fewest rows of each measurement are half of the usual ones.
        kept: the budget can be kept; else the halves are measured whatever they cost, and the user was told.
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
    caps: dict[Purpose, float] | None = None
    halved: bool = False
    kept: bool = True

    def __post_init__(self) -> None:
        for counts in (self.spent, self.found, self.seconds):
            counts |= {purpose: 0 for purpose in self.purposes if purpose not in counts}

    @property
    def total(self) -> float:
        """Forward tokens that the whole run may spend."""
        return self.share * self.training_tokens / self.ratio

    @property
    def left(self) -> float:
        """Forward tokens not spent yet, never below 0. What is spent on values is beside it: it decides nothing."""
        return max(0.0, self.total - sum(tokens for name, tokens in self.spent.items() if name != VALUE))

    @property
    def to_come(self) -> tuple[Purpose, ...]:
        """What is measured again and again before decisions, besides the probes."""
        return tuple(purpose for purpose in self.purposes if purpose in ("rescoring", "scorer"))

    def weight(self, purpose: Purpose) -> float:
        """The share of `purpose` in a budget that pays for all usual numbers."""
        return WEIGHTS[purpose] / sum(WEIGHTS[each] for each in self.purposes if each in WEIGHTS)

    def part(self, purpose: Purpose) -> float:
        """Forward tokens that the whole run may spend on `purpose`."""
        return self.weight(purpose) * self.total if self.caps is None else self.caps.get(purpose, 0.0)

    def fit(self, needs: Mapping[Purpose, Need]) -> None:
        """Make smaller what the run will measure, if it would cost more than the budget."""
        usual, fewest, least = ({name: getattr(need, size) for name, need in needs.items()} for size in _SIZES)
        if sum(usual.values()) <= self.total:
            return
        self.halved = sum(fewest.values()) > self.total
        self.caps = allot(fewest, least, self.total) if self.halved else allot(usual, fewest, self.total)
        self.kept = sum(least.values()) <= self.total

    def must_pay(self, tokens: float) -> None:
        """So many forward tokens more will be spent in any case: whether the budget can still be kept."""
        self.kept = self.kept and tokens <= self.left

    def fewest(self, purpose: Purpose) -> int:
        """Rows of one measurement below which it says nothing."""
        return FEWEST[purpose] // 2 if self.halved else FEWEST[purpose]

    def room(self, reserved: float) -> float:
        """Forward tokens that the next measurement must not exceed.

        Args:
            reserved: forward tokens that will be spent in any case.
        """
        return max(0.0, self.left - reserved) if self.kept else math.inf

    def charge(self, purpose: Purpose, tokens: int, seconds: float, *, found: int = 0) -> None:
        """Count a measurement.

        Args:
            purpose: what it was for.
            tokens: forward tokens, those found in the cache included.
            seconds: on the clock.
            found: of them, tokens that were not measured because their scores were in the cache.
        """
        self.spent[purpose] = self.spent.get(purpose, 0) + tokens
        self.found[purpose] = self.found.get(purpose, 0) + found
        self.seconds[purpose] = self.seconds.get(purpose, 0.0) + seconds

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

    def spent_share(self) -> float:
        """What was spent of the budget so far, as a share of the training compute: all but values."""
        return sum(share for name, share in self.shares().items() if name not in (VALUE, "all"))

    def clock_share(self) -> float:
        """Seconds spent on measuring, over seconds spent on training, so far."""
        return sum(self.seconds[purpose] for purpose in self.spent) / max(1e-9, self.seconds["training"])

    def found_share(self) -> float:
        """What was found in the cache instead of measured, as a share of the whole run's training compute."""
        return self.ratio * sum(self.found.values()) / self.training_tokens

    def state(self) -> Json:
        """What was spent, as JSON."""
        spent = {"spent": dict(self.spent), "found": dict(self.found), "seconds": dict(self.seconds)}
        caps = None if self.caps is None else dict(self.caps)
        return {**spent, "caps": caps, "halved": self.halved, "kept": self.kept}

    def load(self, state: Json) -> None:
        """Continue from `state()`."""
        own = [name for name in (THINNING, VALUE) if name in self.purposes or name in state["spent"]]
        new = {name: 0 for name in own if name not in state["spent"]}
        names = [*PURPOSES, *own]
        self.spent = {name: (state["spent"] | new)[name] for name in names}  # in our sequence: sums are floats
        self.found = {name: (state["found"] | new)[name] for name in names}
        self.seconds = {what: (state["seconds"] | new)[what] for what in {**self.seconds, **self.spent}}
        self.caps, self.halved, self.kept = state["caps"], state["halved"], state["kept"]
