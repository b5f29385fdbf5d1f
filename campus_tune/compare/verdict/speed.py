"""Did the arm get there sooner? Tokens, and seconds, until a loss that both arms reach.

What a user asks is how many tokens it took to reach the loss at which plain shuffling ended. That number is shown, per
seed, and may be missing: an arm that ended worse never got there. It cannot be tested as it is: two runs of the same
recipe would each "arrive" before the end whenever they are the luckier one, and the unlucky ones would be left out. So
the test uses a target that treats both alike, the worse of the two final losses of a seed:

    r = log (tokens of the arm to it / tokens of the baseline to it)         negative = sooner

If the two arms were the same recipe, r and −r would be equally likely. Its mean over seeds has Student's t(S − 1).
The word is about charged tokens, tokens × (1 + the curriculum's share of the training compute); plain tokens and
seconds (of training and curriculum) stand beside it.

A curve that jumps counts as where it first was: the first crossing of its running minimum, straight lines between
points. So a lucky dip is an arrival, in both arms alike. A curve measured at few points makes r coarse, not wrong.

The same of each domain's own loss, where there are several: tokens of all domains until this one is as good. They have
no words; their intervals are corrected for the number of domains, as those of the domains' losses at the end are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from campus_tune.compare.verdict.difference import (
    HELPED,
    HURT,
    UNDERPOWERED,
    Difference,
    corrected,
    decide,
    of_seeds,
    seed_spread,
)
from campus_tune.compare.verdict.inputs import LOSS, PRIMARY, REWARD, ArmResults, Curve
from campus_tune.compare.verdict.judgement import FEWEST_IN_DOMAIN
from campus_tune.compare.verdict.misfits import misfits
from campus_tune.compare.verdict.sentences import called, interval, percent, saving
from campus_tune.words.types import FloatArray, Json

FASTER = 0.10  # the smallest saving worth finding, as a share of the tokens
NO_WAY = "with some seeds the {0} ended no {1} than it began, so there is no {0} to measure the way to"
ONE_SEED = "one seed cannot tell a recipe from luck"
_LEAST, _MOST = math.log(0.01), math.log(11)  # −99 % and +1000 %: beyond, only that it is more


@dataclass(frozen=True)
class DomainSpeed:
    """How much sooner an arm was as good in one domain.

    Args:
        charged: log ratio of charged tokens to the common target in this domain; None where `refused`.
        reached: per seed, charged tokens to the baseline's final loss of this domain, as a share of all its charged
            tokens; None where the arm never got there.
        refused: why there is no ratio.
    """

    charged: Difference | None
    reached: Mapping[int, float | None]
    refused: str | None = None

    def to_mapping(self) -> Json:
        """The same as strict JSON takes it."""
        reached = {str(seed): share for seed, share in self.reached.items()}
        return {**vars(self), "charged": self.charged and self.charged.to_mapping(), "reached": reached}

    @staticmethod
    def from_mapping(given: Json) -> DomainSpeed:
        """What `to_mapping` wrote."""
        reached = {int(seed): share for seed, share in given["reached"].items()}
        return DomainSpeed(given["charged"] and Difference.from_mapping(given["charged"]), reached, given["refused"])


@dataclass(frozen=True)
class Speed:
    """How much sooner an arm arrived than the baseline.

    Args:
        arm: whose runs.
        verdict: one of the four words, of charged tokens; None where refused.
        refused: why there is no word.
        sentence: the same for a reader in a hurry.
        charged: log ratio of charged tokens to the common target.
        tokens: of tokens as they are.
        seconds: of seconds of training and curriculum.
        reached: per seed, charged tokens to the baseline's final loss as a share of the baseline's tokens; None where
            the arm never got there.
        domains: the same of each domain, where there are several.
    """

    arm: str
    verdict: str | None
    refused: str | None
    sentence: str
    charged: Difference | None = None
    tokens: Difference | None = None
    seconds: Difference | None = None
    reached: Mapping[int, float | None] | None = None
    domains: Mapping[str, DomainSpeed] = field(default_factory=dict)

    def to_mapping(self) -> Json:
        """The same as strict JSON takes it."""
        domains = {name: one.to_mapping() for name, one in self.domains.items()}
        parts = {"charged": self.charged, "tokens": self.tokens, "seconds": self.seconds}
        written = {name: part and part.to_mapping() for name, part in parts.items()}
        reached = None if self.reached is None else {str(seed): share for seed, share in self.reached.items()}
        return {**vars(self), **written, "reached": reached, "domains": domains}

    @staticmethod
    def from_mapping(given: Json) -> Speed:
        """What `to_mapping` wrote."""
        parts = {
            name: None if given[name] is None else Difference.from_mapping(given[name])
            for name in ("charged", "tokens", "seconds")
        }
        shares = given["reached"]
        reached = None if shares is None else {int(seed): share for seed, share in shares.items()}
        domains = {name: DomainSpeed.from_mapping(one) for name, one in given.get("domains", {}).items()}
        return Speed(**{**given, **parts, "reached": reached, "domains": domains})


def first_reached(curve: Curve, target: float, along: FloatArray) -> float | None:
    """Where along a curve its loss was first at or below `target`; None where it never was.

    >>> curve = Curve(np.array([0.0, 10, 20, 30]), np.zeros(4), np.array([4.0, 2.0, 3.0, 1.0]))
    >>> first_reached(curve, 3.0, curve.tokens), first_reached(curve, 1.5, curve.tokens)
    (5.0, 27.5)

    Args:
        curve: the loss on the way; points without a finite loss are passed over.
        target: in nats per token.
        along: what to read off, tokens or seconds of the curve's points, shape (P,).
    """
    known = np.isfinite(curve.loss)
    loss, place = curve.loss[known], along[known]
    below = np.flatnonzero(loss <= target)
    if not len(below):
        return None
    end = int(below[0])
    if end == 0:
        return float(place[0])
    part = (loss[end - 1] - target) / (loss[end - 1] - loss[end])  # of the way from the last point above it
    return float(place[end - 1] + part * (place[end] - place[end - 1]))


def judge_speed(arm: ArmResults, base: ArmResults, *, faster: float = FASTER, comparisons: int = 1) -> Speed:
    """Speed of an arm against the baseline, on the seeds that both finished. Not yet corrected for other arms.

    Args:
        arm: with one curve per seed.
        base: the baseline, likewise.
        faster: the smallest saving worth finding, a share in (0, 1).
        comparisons: how many arms are judged together.
    """
    seeds = [seed for seed in base.seeds if seed in arm.seeds]
    if not (len(arm.curves) and len(base.curves)):
        return refused_speed(arm.name, f"the {arm.measure} was not measured on the way")
    pairs = [(arm.curves[arm.seeds.index(seed)], base.curves[base.seeds.index(seed)]) for seed in seeds]
    reached = _reached(seeds, pairs)
    ratios = [log_ratios(*pair) for pair in pairs]
    found = np.array([one for one in ratios if one is not None])
    why = no_way(arm.measure) if len(found) < len(seeds) else ONE_SEED if len(seeds) < 2 else None
    domains = judge_domains(arm, base, seeds, pairs)
    if why:
        return replace(refused_speed(arm.name, why), reached=reached, domains=domains)
    charged, plain, seconds = (_of_ratios(arm, base, of_seed, comparisons) for of_seed in found.T)
    assert charged is not None
    speed = Speed(arm.name, None, None, "", charged, plain, seconds, reached, domains)
    return told(speed, base.name, faster, arm.measure)


def no_way(measure: str) -> str:
    """That there is no way to measure.

    Args:
        measure: loss or reward.
    """
    return NO_WAY.format(measure, "higher" if measure == REWARD else "lower")


def _reached(seeds: Sequence[int], pairs: Sequence[tuple[Curve, Curve]]) -> dict[int, float | None]:
    """Charged tokens to the baseline's final loss, as a share of its charged ones."""
    reached: dict[int, float | None] = {}
    for seed, (mine, theirs) in zip(seeds, pairs, strict=True):
        end, whole = _final(theirs), float(theirs.tokens[-1]) * (1 + theirs.cost)
        tokens = None if end is None else first_reached(mine, end, mine.tokens)
        reached[seed] = None if tokens is None or not whole else tokens * (1 + mine.cost) / whole
    return reached


def _of_ratios(arm: ArmResults, base: ArmResults, ratios: FloatArray, comparisons: int) -> Difference | None:
    """The mean log ratio of several seeds; None where one is not known."""
    if not np.isfinite(ratios).all():
        return None
    with np.errstate(all="ignore"):
        known = Difference(arm.name, base.name, None, relative=math.expm1(float(ratios.mean())))
        return of_seeds(known, ratios, comparisons)


def judge_domains(
    arm: ArmResults, base: ArmResults, seeds: Sequence[int], pairs: Sequence[tuple[Curve, Curve]]
) -> dict[str, DomainSpeed]:
    """Speed in each of several domains that all curves have, corrected for the number of domains.

    Args:
        arm: whose runs.
        base: the baseline.
        seeds: that both finished.
        pairs: of each seed, the arm's curve and the baseline's.
    """
    names = [name for name in pairs[0][0].domains if all(name in one.domains for pair in pairs for one in pair)]
    if len(names) < 2:
        return {}
    sizes = {name: int((base.end.domain == i).sum()) for i, name in enumerate(base.end.domains)}
    found: dict[str, DomainSpeed] = {}
    for name in names:
        of_domain = [(mine.of(name), theirs.of(name)) for mine, theirs in pairs]
        ratios = [log_ratios(*pair) for pair in of_domain]
        known = np.array([one[0] for one in ratios if one is not None])
        why = no_way(arm.measure) if len(known) < len(seeds) else ONE_SEED if len(seeds) < 2 else None
        if sizes.get(name, 0) < FEWEST_IN_DOMAIN:
            why = f"it has fewer than {FEWEST_IN_DOMAIN} test rows"
        charged = None if why else _of_ratios(arm, base, known, len(names))
        found[name] = DomainSpeed(charged, _reached(seeds, of_domain), why)
    sure = {name: one.charged for name, one in found.items() if one.charged is not None}
    raised = dict(zip(sure, _holm(list(sure.values())), strict=True))
    return {name: replace(one, charged=raised.get(name)) for name, one in found.items()}


def _holm(family: Sequence[Difference]) -> list[Difference]:
    """Differences over seeds, corrected for each other."""
    spreads = [None if one.stderr is None else seed_spread(one.stderr**2, one.n_seeds) for one in family]
    return corrected(family, spreads)


def told(speed: Speed, against: str, faster: float, measure: str = LOSS) -> Speed:
    """The same with the word and the sentence that its p-value asks for."""
    found = speed.charged
    if found is None or found.p_adjusted is None or found.relative is None or found.detectable is None:
        alike = refused_speed(speed.arm, "all seeds gave exactly the same ratio, so nothing tells it from chance")
        return speed if speed.refused else replace(speed, refused=alike.refused, sentence=alike.sentence)
    word = decide(found, -math.log1p(-faster))
    there = [share for share in (speed.reached or {}).values() if share is not None]
    other, span = called(against), ""
    if found.low is not None and found.high is not None:
        low, high = (
            "over +1000 %" if end > _MOST else percent(math.expm1(end), signed=True) if end > _LEAST else "under −99 %"
            for end in (found.low, found.high)
        )
        span = f"{interval(found)} {low} to {high}, "
    sentence = (
        f"{word[0].upper()}{word[1:]}, in speed: to a {measure} that both reached, {called(speed.arm)} took "
        f"{amount(found.value or 0.0)} tokens {'than' if found.value else 'as'} {other}, the curriculum's cost "
        f"charged ({span}{found.n_seeds} seeds); {len(there)} of {len(speed.reached or {})} seeds came as far "
        f"as the final {measure} of {other}.{_ending(found, word, faster)}"
    )
    return replace(speed, verdict=word, sentence=sentence)


def amount(ratio: float) -> str:
    """A log ratio as more or fewer.

    >>> amount(math.log(0.8)), amount(0.0), amount(math.log(4)), amount(1000.0)
    ('20 % fewer', 'as many', '300 % more', 'over 1000 % more')
    """
    if not ratio:
        return "as many"
    if ratio > _MOST:
        return "over 1000 % more"
    if ratio < _LEAST:
        return "over 99 % fewer"
    return f"{percent(abs(math.expm1(ratio)))} {'more' if ratio > 0 else 'fewer'}"


def _ending(found: Difference, word: str, faster: float) -> str:
    if word in (HELPED, HURT):
        several = found.p is not None and found.p_adjusted is not None and found.p_adjusted > found.p
        ending = f" p = {found.p_adjusted:.2g} with all arms considered." if several else ""
        small = abs(found.value or 0.0) < -math.log1p(-faster)
        return f"{ending} It is less than the {percent(faster)} that was worth finding." if small else ending
    if not found.value and found.low is None:
        return " No seed tells the two apart."
    size = saving(-math.expm1(-(found.detectable or 0.0)))
    if word == UNDERPOWERED:
        return f" Only a saving of {size} would have been found, and {percent(faster)} was worth finding."
    return f" A saving of {size} would have been found."


def judge_speeds(
    arms: Sequence[ArmResults], base: ArmResults, *, faster: float, tokens_tolerance: float
) -> list[Speed]:
    """Speed of all arms, corrected (Holm) inside each family. Arms that bear no comparison at the end bear none here.

    Args:
        arms: all but the baseline, recipes first.
        base: the baseline.
        faster: the smallest saving worth finding, a share in (0, 1).
        tokens_tolerance: by which share the trained tokens of two arms may differ.
    """
    found: list[Speed] = []
    for kinds in (PRIMARY, ("control",)):
        family = [arm for arm in arms if arm.kind in kinds]
        reasons = {arm.name: misfits(arm, base, tokens_tolerance=tokens_tolerance) for arm in family}
        n = max(1, sum(not why for why in reasons.values()))
        speeds = [
            refused_speed(arm.name, "; ".join(reasons[arm.name]))
            if reasons[arm.name]
            else judge_speed(arm, base, faster=faster, comparisons=n)
            for arm in family
        ]
        known = {one.arm: one.charged for one in speeds if one.charged is not None}
        raised = dict(zip(known, _holm(list(known.values())), strict=True))
        found += [
            told(replace(one, charged=raised[one.arm]), base.name, faster, base.measure) if one.arm in raised else one
            for one in speeds
        ]
    return found


def refused_speed(arm: str, why: str) -> Speed:
    """No word on an arm's speed, and the reason."""
    return Speed(arm, None, why, f"No verdict on the speed of {called(arm)}: {why}.")


def _final(curve: Curve) -> float | None:
    return float(curve.loss[-1]) if np.isfinite(curve.loss[-1]) else None


def log_ratios(curve: Curve, base: Curve) -> tuple[float, float, float] | None:
    """Log ratios of charged tokens, tokens and seconds to the worse of the two final losses.

    None where either curve was there from its first point, or does not end at a finite loss; NaN for seconds of 0.
    """
    ends = _final(curve), _final(base)
    if ends[0] is None or ends[1] is None:
        return None
    target = max(ends[0], ends[1])
    tokens = [first_reached(one, target, one.tokens) for one in (curve, base)]
    seconds = [first_reached(one, target, one.seconds) for one in (curve, base)]
    if not (tokens[0] and tokens[1]):  # there from the start
        return None
    ratio = math.log(tokens[0] / tokens[1])
    timed = math.log(seconds[0] / seconds[1]) if seconds[0] and seconds[1] else math.nan
    return ratio + math.log((1 + curve.cost) / (1 + base.cost)), ratio, timed
