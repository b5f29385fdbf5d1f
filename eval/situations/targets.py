"""What was aimed at before the runs were made, and what came of it, one by one.

    reached                       the value meets the aim, and so does the end of its interval that is nearer to it
    in the middle, not shown      the value does, and chance could have done that
    missed                        the value does not
    not asked, not run            the oracle's own gain is not told from 0; there are no runs that bear an answer

Intervals are of 95 % and each stands alone: of shares by Fieller (`eval.situations.gains`), of losses by the test of a
comparison, of the worst domain by Student's t over the seeds, of the speed by order: between the lowest and the highest
of n seeds lies the median in 1 − 2^(1−n) of all cases (of 8 seeds 99.2 %; below six seeds it is too few for an
interval), whatever the distribution, and a seed that never got there is the highest of all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from campus_tune.compare.verdict import from_difference
from campus_tune.compare.verdict.sentences import percent
from campus_tune.words.types import Json
from eval.situations.gains import NO_GAIN
from eval.situations.judged import ArmFound, Found, ends_of

REACHED, MIDDLE, MISSED, NOT_ASKED, NOT_RUN = "reached", "in the middle, not shown", "missed", "not asked", "not run"
OURS = "auto"  # what acts by default: the first that a target is about
WORST_COSTS = 0.01  # of the mean, what a lagging domain may cost
FEWEST = 6  # seeds, between the lowest and the highest of which the median lies in 95 % of all cases
Value = tuple[float | None, float | None, float | None]  # and the ends of its interval; None where there is none


@dataclass(frozen=True)
class Target:
    """An aim.

    Args:
        about: in words.
        situations: that it is about.
        measure: one of `MEASURES`.
        bound: what is aimed at; None where it is told as it falls out.
    """

    about: str
    situations: tuple[str, ...]
    measure: str
    bound: float | None


@dataclass(frozen=True)
class Outcome:
    """What came of an aim with one arm.

    Args:
        about: the aim.
        situation: where.
        arm: whose runs; "" where there are none.
        measure: what was measured.
        bound: that was aimed at.
        value: that was found.
        low: lower end of its interval.
        high: upper end.
        seeds: behind it.
        word: reached, or one of the others.
        why: what else a reader should know.
    """

    about: str
    situation: str
    arm: str
    measure: str
    bound: float | None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: int = 0
    word: str = NOT_RUN
    why: str = ""

    def to_mapping(self) -> Json:
        """The same as strict JSON takes it."""
        return {name: None if one == math.inf else one for name, one in vars(self).items()}


def _share(arm: ArmFound) -> tuple[Value, str]:
    if arm.share is None:
        return (None, None, None), "there is no oracle"
    return (arm.share.value, arm.share.low, arm.share.high), arm.share.refused or ""


def _tokens(arm: ArmFound) -> tuple[Value, str]:
    reached = [] if arm.speed is None or arm.speed.reached is None else [*arm.speed.reached.values()]
    if not reached:
        return (None, None, None), "the loss was not measured on the way"
    sizes = sorted(math.inf if one is None else one for one in reached)
    there = sum(one < math.inf for one in sizes)
    ends = (sizes[0], sizes[-1]) if len(sizes) >= FEWEST else (None, None)
    return (median(sizes), *ends), "" if there == len(sizes) else f"{there} of {len(sizes)} seeds there"


def _loss(arm: ArmFound) -> tuple[Value, str]:
    if arm.mean is None:
        return (None, None, None), arm.refused or ""
    ends = ends_of(arm.mean) or (None, None)
    return (_one_more(arm.mean.relative), _one_more(ends[0]), _one_more(ends[1])), arm.refused or ""


def _one_more(share: float | None) -> float | None:
    return None if share is None else 1 + share


def _worst(arm: ArmFound) -> tuple[Value, str]:
    found = arm.worst
    if found is None or found.value is None:
        return (None, None, None), "there is one domain"
    ends = ends_of(found) or (None, None)
    mean = 0.0 if arm.mean is None else arm.mean.relative or 0.0
    dear = f"the mean is {mean:+.1%}" if mean > WORST_COSTS else ""
    return (1 + found.value, _one_more(ends[0]), _one_more(ends[1])), dear


MEASURES: Mapping[str, Callable[[ArmFound], tuple[Value, str]]] = {
    "share of the oracle's gain": _share,  # at least the bound
    "tokens to shuffling's end": _tokens,  # all others at most
    "loss ÷ shuffling's": _loss,
    "worst domain's loss ÷ shuffling's": _worst,
}
SHARE, SPEED, LOSS, WORST = MEASURES

TARGETS = (
    Target("30 % wrong answers: 0.7 of what leaving them out gains", ("wrong_30",), SHARE, 0.7),
    Target("30 % wrong answers: shuffling's end in half of its tokens", ("wrong_30",), SPEED, 0.5),
    Target("15 % wrong answers: 0.7 of what leaving them out gains", ("wrong_15",), SHARE, 0.7),
    Target("5 % wrong answers: half of what leaving them out gains", ("wrong_5",), SHARE, 0.5),
    Target("near-duplicates: 5 % less loss", ("duplicates_20",), LOSS, 0.95),
    Target("several epochs: 5 % less loss", ("clean_3", "small_many"), LOSS, 0.95),
    Target("lagging domains: the worst 5 % better, the mean no more than 1 % worse", ("domains_80",), WORST, 0.95),
    Target("clean: what acts by default costs no more than 1 %", ("clean_1", "clean_3"), LOSS, 1.01),
    Target("real text, SmolLM2: the same share, as it falls out", ("smol_wrong_30", "text_wrong_30"), SHARE, None),
)


def outcomes(found: Sequence[Found], targets: Sequence[Target] = TARGETS) -> list[Outcome]:
    """Every aim with every arm that somebody could use, what acts by default first.

    Args:
        found: the judged situations.
        targets: the aims.
    """
    by_name = {one.name: one for one in found}
    told = []
    for target in targets:
        for name in target.situations:
            arms = by_name[name].claims() if name in by_name else []
            if target.measure == LOSS and target.bound is not None and target.bound > 1:  # it costs little: ours alone
                arms = [arm for arm in arms if arm.name == OURS]
            arms.sort(key=lambda arm: arm.name != OURS)
            told += [outcome_of(target, name, arm) for arm in arms]
            told += [] if arms else [Outcome(target.about, name, "", target.measure, target.bound)]
    return told


def outcome_of(target: Target, situation: str, arm: ArmFound) -> Outcome:
    """What came of one aim with one arm."""
    (value, low, high), why = MEASURES[target.measure](arm)
    word = word_of(target, value, low, high, why)
    if target.measure == LOSS and target.bound is not None:
        acted = None if arm.acted is None else f"it acted with {arm.acted} of {len(arm.seeds)} seeds"
        needed = seeds_needed(arm, abs(target.bound - 1)) if word == MIDDLE else None
        takes = None if needed is None else f"{needed} seeds would find {percent(abs(target.bound - 1))}"
        why = "; ".join(filter(None, (why, acted, takes)))
    seeds = len(arm.seeds)
    return Outcome(target.about, situation, arm.name, target.measure, target.bound, value, low, high, seeds, word, why)


def seeds_needed(arm: ArmFound, effect: float) -> int | None:
    """Seeds with which an effect of this size is found in 80 of 100 comparisons of this arm; None where none suffice.

    Args:
        arm: with a difference whose spread is known.
        effect: a share of plain shuffling's loss.
    """
    if arm.mean is None or not arm.mean.cell_variance:
        return None
    return from_difference(arm.mean, seeds=len(arm.seeds), effect=effect).seeds_needed


def word_of(target: Target, value: float | None, low: float | None, high: float | None, why: str) -> str:
    """The word for a value and its interval.

    >>> least, most = Target("", (), SHARE, 0.7), Target("", (), LOSS, 0.95)
    >>> word_of(least, 0.9, 0.8, 1.0, ""), word_of(least, 0.9, 0.6, 1.2, ""), word_of(most, 0.96, 0.9, 1.0, "")
    ('reached', 'in the middle, not shown', 'missed')
    """
    if target.measure == SHARE and why == NO_GAIN:
        return NOT_ASKED
    if value is None:
        return NOT_RUN
    if target.bound is None:
        return ""
    way, end = (-1, low) if target.measure == SHARE else (1, high)
    if way * (value - target.bound) > 0 or (target.measure == WORST and why):
        return MISSED
    return MIDDLE if end is None or way * (end - target.bound) > 0 else REACHED


def in_short(told: Sequence[Outcome]) -> list[Outcome]:
    """Of each aim in each situation what acts by default, and beside it the best of the others.

    The best was chosen by looking: its interval is for a choice that was made before.
    """
    kept = []
    for about, situation in dict.fromkeys((one.about, one.situation) for one in told):
        arms = [one for one in told if (one.about, one.situation) == (about, situation)]
        others = [one for one in arms if one.arm != OURS and one.value is not None]
        others.sort(key=lambda one: -(one.value or 0.0) if one.measure == SHARE else one.value or 0.0)
        kept += [one for one in arms if one.arm in (OURS, "")] + others[:1]
    return kept
