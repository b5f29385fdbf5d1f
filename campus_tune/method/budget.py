"""The curriculum's bill: what scoring, selection and probes may cost, and what they did cost.

One unit, forward tokens. A forward over a token costs `ratio` of training on it, by floating-point operations:

    forward 2P, backward 2P (activations) + 2·P_trained (weights), checkpointing + 2P
    ratio = 2P / (4P + 2·P_trained [+ 2P])        full 1/3, LoRA ≈ 1/2, with gradient checkpointing 1/4 and 1/3

(measured on a CPU: 0.31 full, 0.38 LoRA, 0.30 and 0.33 with checkpointing). Sample sizes follow from this count
and never from a stopwatch: a decision that hangs on wall time could not be repeated, and a resumed run would choose
differently. The stopwatch runs too, and the cost line shows both shares.

Some measurements say nothing below a number of rows (`FEWEST`), whatever their part of the budget pays for. In a long
run these are small beside the budget; in a short one they can cost more than all of it. So before the first step the
costs are added up (`Need`). Where they fit, nothing changes. Where they do not, sizes follow from the budget:

1. what is above the fewest rows gives way, each purpose in proportion (`allot`);
2. then the fewest rows themselves, down to half of them;
3. then purposes are left out whole (`unpaid`), the last in `PRECEDENCE` first, and the probes are measured twice only;
4. a budget of 0 measures nothing.

What is left out has something that costs nothing in its place (see `method/decide`), or is not there: no order by a
metric that nobody has asked the model for. The run says which before it trains. Whatever is measured later asks first
how much is left (`room`), so every budget is kept to the last token.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from campus_tune.words.types import Json

Purpose: TypeAlias = Literal[
    "scoring", "rescoring", "scorer", "selection", "probes", "thinning", "map", "value", "prediction"
]
THINNING: Purpose = "thinning"  # candidates of a stage: of what the others leave, and only in a run that thins by them
MAP: Purpose = "map"  # of the rows, when a run is over: of what is left then
VALUE: Purpose = "value"  # gradients of the probes: beside the budget, from an account of its own
PREDICTION: Purpose = "prediction"  # of pass rates, from what costs no forward: of the clock alone, and only of prompts
OWN: tuple[Purpose, ...] = (THINNING, MAP, VALUE, PREDICTION)  # of the runs that have them
PURPOSES: tuple[Purpose, ...] = tuple(name for name in get_args(Purpose) if name not in OWN)

# How the budget is shared among what a run measures: scores before training, scores of rows that still wait, sampling
# and training of the scorer, offers of a decision, probes. What a run does not do leaves its part to the others.
WEIGHTS: dict[Purpose, float] = {"scoring": 5, "rescoring": 3, "scorer": 3, "selection": 2, "probes": 3}
ALWAYS: tuple[Purpose, ...] = ("scoring", "selection", "probes")

# The fewest rows of one measurement: with a loss before training; with a new loss at a re-scoring; pairs of a scorer's
# training; of every offer; of every domain's probes. A budget that does not pay for them gets down to half of them.
FEWEST: dict[Purpose, int] = {"scoring": 64, "rescoring": 64, "scorer": 32, "selection": 8, "probes": 8}

# What is paid first where not even half of the fewest rows of everything are: orders, what rules and a person go by,
# and last what can be had for nothing from the losses of training.
PRECEDENCE: tuple[Purpose, ...] = ("scoring", "probes", "scorer", "rescoring", "selection")
Rests: TypeAlias = tuple[Purpose, Purpose]
RESTS_ON: tuple[Rests, ...] = (("scorer", "scoring"), ("rescoring", "scoring"))  # nothing without it

Tokens: TypeAlias = Mapping[Purpose, float]
_SIZES = ("usual", "fewest", "least", "barest")  # of a `Need`


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
        barest: the same, as seldom as it says anything at all.
    """

    usual: float
    fewest: float
    least: float
    barest: float

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


def paid_for(barest: Mapping[Purpose, float], rests_on: Iterable[Rests], total: float) -> set[Purpose]:
    """The purposes that a total pays for: each in turn that what those before it leave is enough for.

    Args:
        barest: forward tokens of each purpose.
        rests_on: pairs of which the first says nothing without the second.
        total: forward tokens.

    >>> sorted(paid_for({"selection": 1, "scoring": 5, "rescoring": 1, "probes": 3}, [("rescoring", "scoring")], 4))
    ['probes', 'selection']
    """
    paid: set[Purpose] = set()
    for name in (each for each in PRECEDENCE if each in barest):
        missing = any(of == name and on in barest and on not in paid for of, on in rests_on)
        if not missing and barest[name] <= total:
            paid.add(name)
            total -= barest[name]
    return paid


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
        unpaid: purposes that nothing is measured for, and the user was told.
        at_ends: forward tokens for the probes where they are measured before the first stage and after the last one
            only; None where they are measured oftener, or not at all.
        to_end: forward tokens of the measurement of the probes that ends the run: nothing else may take them.
        held: forward tokens that scores before training must leave to the probes.
        short: forward tokens of a measurement that turned out to cost more than was left for it; 0 without one.
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
    unpaid: tuple[Purpose, ...] = ()
    at_ends: float | None = None
    to_end: float = 0.0
    held: float = 0.0
    short: float = 0.0

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

    def fit(self, needs: Mapping[Purpose, Need], rests_on: Iterable[Rests] = RESTS_ON) -> None:
        """Make smaller what the run will measure, if it would cost more than the budget.

        Args:
            needs: of each purpose.
            rests_on: pairs of which the first says nothing without the second.
        """
        usual, fewest, least, barest = ({name: getattr(need, size) for name, need in needs.items()} for size in _SIZES)
        self.held = barest.get("probes", 0.0)
        if sum(usual.values()) <= self.total:
            return
        if sum(least.values()) <= self.total:
            self._allot(usual, fewest, least)
            return
        paid = paid_for(barest, rests_on, self.total)
        while True:
            parts = ({name: of[name] for name in needs if name in paid} for of in (usual, fewest, barest))
            self._allot(*parts)
            rare = "probes" in paid and self.part("probes") < least["probes"]
            late = {of for of, on in rests_on if rare and on == "probes"} & paid  # no selector goes by what is so old
            if not late:
                break
            paid -= late
        self.halved = True  # what is measured may go down to half of the fewest rows, whatever is left out beside
        self.unpaid = tuple(name for name in needs if name not in paid)
        self.at_ends = self.part("probes") if rare else None
        self.held = self.held if "probes" in paid else 0.0

    def _allot(self, usual: Tokens, fewest: Tokens, lowest: Tokens) -> None:
        """Parts that fit together: of the usual numbers, none below the fewest, or of these, none below the lowest."""
        self.halved = sum(fewest.values()) > self.total
        self.caps = allot(fewest, lowest, self.total) if self.halved else allot(usual, fewest, self.total)

    @property
    def cut_short(self) -> bool:
        """Not even half of the fewest rows of everything are paid for: less is measured."""
        return bool(self.unpaid) or self.at_ends is not None

    def leave_out(self, purpose: Purpose, tokens: float) -> None:
        """Nothing is measured for a purpose, nor for what rests on it.

        Args:
            purpose: that is left out.
            tokens: that it turned out to cost, which is more than is left for it.
        """
        gone = [name for name, on in RESTS_ON if purpose == on and name in self.purposes]
        self.unpaid = tuple(dict.fromkeys([*self.unpaid, purpose, *gone]))
        self.short = tokens

    def pay_again(self) -> None:
        """A run goes on with a larger budget: offers and probes can be measured again; orders cannot be made now."""
        self.unpaid = tuple(name for name in self.unpaid if name not in ("selection", "probes"))
        self.at_ends = None

    def fewest(self, purpose: Purpose) -> int:
        """Rows of one measurement below which it says nothing."""
        return FEWEST[purpose] // 2 if self.halved else FEWEST[purpose]

    def room(self, reserved: float = 0.0) -> float:
        """Forward tokens that the next measurement must not exceed, so that the run can end with its probes.

        Args:
            reserved: forward tokens that will be spent in any case beside.
        """
        return max(0.0, self.left - self.to_end - reserved)

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
        cut = {"unpaid": list(self.unpaid), "at_ends": self.at_ends} if self.cut_short else {}
        return {**spent, "caps": caps, "halved": self.halved, **cut}

    def load(self, state: Json) -> None:
        """Continue from `state()`."""
        own = [name for name in (THINNING, VALUE, PREDICTION) if name in self.purposes or name in state["spent"]]
        new = {name: 0 for name in own if name not in state["spent"]}
        names = [*PURPOSES, *own]
        self.spent = {name: (state["spent"] | new)[name] for name in names}  # in our sequence: sums are floats
        self.found = {name: (state["found"] | new)[name] for name in names}
        self.seconds = {what: (state["seconds"] | new)[what] for what in {**self.seconds, **self.spent}}
        self.caps, self.halved = state["caps"], state["halved"]
        self.unpaid, self.at_ends = tuple(state.get("unpaid", ())), state.get("at_ends")
