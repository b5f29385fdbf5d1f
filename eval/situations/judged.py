"""From the runs of a situation to what they say: every arm against plain shuffling, by the arithmetic of `compare`.

An arm is judged on the seeds that it was given, against plain shuffling with the same seeds. A run that diverged takes
the verdict away, as in every comparison. What is told of an arm:

    the end     the loss after the last step against plain shuffling's, with the interval and the word of a comparison;
                Holm's correction is over all claims of the table (`corrected_table`), not over one situation alone
    charged     the same where an arm pays for what it has measured: its loss is read off its own curve at the tokens
                that it could have trained for the same compute. Where the learning rate falls to 0 this errs on the
                hard side, for a run planned that short would have come to its end
    speed       charged tokens to the loss at which plain shuffling ended (`compare.verdict.speed`)
    worst       the highest loss of any domain ÷ the highest that plain shuffling has, seed by seed, with Student's t.
                Where a situation is judged by it, it is what the word is about
    share       of the oracle's gain (`eval.situations.gains`)
    controls    a recipe against each of its own controls, a family of its own

Oracles know what nobody knows. They are shown, are no claim, and do not widen the intervals of those that are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from campus_tune.compare.verdict import EFFECT, HELPED, ArmResults, Curve, Speed, VarianceParts, arm_of, judge_speed
from campus_tune.compare.verdict.bootstrap import RESAMPLES
from campus_tune.compare.verdict.difference import Difference, corrected, decide, of_seeds, seed_spread, with_spread
from campus_tune.compare.verdict.misfits import misfits, misfits_of, same_items
from campus_tune.compare.verdict.pair import Pair
from campus_tune.compare.verdict.sentences import attribution
from campus_tune.words.types import FloatArray, Json
from eval.situations.gains import Share, share_of_gain

BASELINE, ORACLES = "random", ("oracle", "true_level")
WORST_DOMAIN = "worst_domain"
TOKENS = 0.05  # by which share the trained tokens of two arms may differ: answers that were cut off are shorter
FEWER = (
    0.25  # by which an arm may have trained fewer, as other shares of domains do: that it helped is said all the same
)
ALIKE = "the difference is the same in every seed and item, so nothing tells it from chance"


@dataclass(frozen=True)
class ArmFound:
    """What the runs say of one arm.

    Args:
        name: of the arm.
        kind: recipe, control or oracle.
        seeds: that were compared.
        difference: to plain shuffling, of what the word is about: the loss at the end, over all test rows or of the
            worst domain; None where no seed can be compared.
        spread: of the difference; None where it has no interval.
        refused: why there is no word.
        handicap: why there is none but `helped`: it trained fewer tokens.
        word: one of the four; None where refused.
        charged: the difference when what it measured is paid for; None where nobody counted, or it measured nothing.
        cost: what it measured, as a share of its training compute.
        tokens: trained ÷ plain shuffling's.
        speed: of the curves.
        mean: the difference over all test rows, whatever the word is about.
        worst: ratio of the worst domain's loss to plain shuffling's, less 1; None where there is one domain.
        domains: difference in each of several domains, each with the interval of one alone.
        share: of the oracle's gain; None where there is no oracle.
        contrasts: against each of its own controls, by what the control is.
        attribution: what these say of the reason.
        campus: its block.
        of: the recipe whose control it is; None of others.
        acted: with how many of its seeds it did something where it acts by itself; None of arms that always do.
    """

    name: str
    kind: str
    seeds: tuple[int, ...]
    difference: Difference | None
    spread: VarianceParts | None = None
    refused: str | None = None
    handicap: str | None = None
    word: str | None = None
    charged: Difference | None = None
    cost: float = 0.0
    tokens: float = 1.0
    speed: Speed | None = None
    mean: Difference | None = None
    worst: Difference | None = None
    domains: Mapping[str, Difference] = field(default_factory=dict)
    share: Share | None = None
    contrasts: Mapping[str, Difference] = field(default_factory=dict)
    attribution: str | None = None
    campus: Json = field(default_factory=dict)
    of: str | None = None
    acted: int | None = None

    @property
    def effect(self) -> float | None:
        """The difference as a share of plain shuffling's loss."""
        return None if self.difference is None else self.difference.relative

    @property
    def interval(self) -> tuple[float, float] | None:
        """Its ends as such shares; None where there are none."""
        return None if self.difference is None else ends_of(self.difference)

    @property
    def detectable(self) -> float | None:
        """The effect that is found in 80 of 100 such comparisons, as such a share."""
        return None if self.difference is None else self.difference.share(self.difference.detectable)


def ends_of(difference: Difference) -> tuple[float, float] | None:
    """The ends of an interval as shares of the other's mean; None where there are none.

    A difference of exactly 0 in every seed and row is that of an arm that never acted.
    """
    if difference.value == 0 and difference.p == 1:
        return 0.0, 0.0
    low, high = (difference.share(end) for end in (difference.low, difference.high))
    return None if low is None or high is None else (low, high)


@dataclass(frozen=True)
class Found:
    """What the runs of a situation say.

    Args:
        name: of the situation.
        about: a sentence.
        base: the model.
        use: tune or judge.
        looks: what was planted, how often each row is trained, how many rows there are.
        n_items: test rows.
        seeds: of plain shuffling.
        loss: at which plain shuffling ended, nats per token.
        arms: all but plain shuffling.
        judged_by: the mean over the test rows, or the worst domain.
    """

    name: str
    about: str
    base: str
    use: str
    looks: Json
    n_items: int
    seeds: tuple[int, ...]
    loss: float
    arms: Mapping[str, ArmFound]
    judged_by: str = "mean"

    def claims(self) -> list[ArmFound]:
        """The arms that somebody could use: recipes with a difference that has an interval."""
        return [arm for arm in self.arms.values() if arm.kind in ("recipe", "plus") and arm.refused is None]


def judge_arms(
    results: Mapping[str, Sequence[Json]], *, judged_by: str = "mean", resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, ArmFound]:
    """Every arm of a situation against plain shuffling, not yet corrected for other arms.

    Args:
        results: of each arm, one a seed; plain shuffling's among them.
        judged_by: what the word is about: `mean` or `worst_domain`.
        resamples: of the bootstrap.
        seed: of the bootstrap; the same seed gives the same numbers.
    """
    arms = {name: arm_of(of_arm) for name, of_arm in results.items()}
    base = arms[BASELINE]
    oracle = next((arms[name] for name in ORACLES if name in arms), None)
    what = {name: what_control(name, of_arm[0].get("campus") or {}) for name, of_arm in results.items()}
    found: dict[str, ArmFound] = {}
    for name, arm in arms.items():
        if name == BASELINE:
            continue
        one = against(arm, _on_seeds_of(base, arm), resamples, seed)
        if judged_by == WORST_DOMAIN and one.worst is not None and one.refused is None:
            one = replace(one, difference=one.worst, spread=_spread_of(one.worst))
        if oracle is not None and name not in ORACLES and _shares(arm, base, oracle):
            one = replace(one, share=share_of_gain(arm, base, oracle, resamples=resamples, seed=seed))
        own = {what[other]: arms[other] for other in arms if recipe_of(other, arms) == name}
        contrasts = _contrasts(arm, own, judged_by, resamples, seed)
        campus = results[name][0].get("campus") or {}
        acted = acted_with(results[name])
        found[name] = replace(one, contrasts=contrasts, campus=campus, of=recipe_of(name, arms), acted=acted)
    return found


def acted_with(results: Sequence[Json]) -> int | None:
    """With how many seeds an arm has acted, as its runs' ledgers say; None where it was never to decide that.

    Args:
        results: of the arm.
    """
    said = [[one["acts"] for one in result.get("ledger", ()) if one["event"] == "act"] for result in results]
    return sum(any(acts) for acts in said) if any(said) else None


def what_control(name: str, campus: Json) -> str:
    """What kind of control an arm is: as its block says, else as the name of a named recipe's control does.

    >>> what_control("both_control", {"control": "shuffled_weights"}), what_control("campus.random_same_pacing", {})
    ('shuffled_weights', 'random_same_pacing')
    """
    return str(campus.get("control") or name.rpartition(".")[2])


def recipe_of(control: str, arms: Mapping[str, ArmResults]) -> str | None:
    """Whose control an arm is: of the recipe with whose name its own begins.

    Args:
        control: name of an arm.
        arms: all of them.
    """
    if arms[control].kind != "control":
        return None
    recipes = [
        name for name, arm in arms.items() if arm.kind == "recipe" and control.startswith((f"{name}_", f"{name}."))
    ]
    return max(recipes, key=len, default=None)


def corrected_table(situations: Sequence[Found], *, effect: float = EFFECT) -> list[Found]:
    """The same with words: p-values and intervals corrected (Holm) over all claims of the situations that judge.

    What was seen with situations that tune is no claim: each of their arms stands alone. So do controls and oracles.

    Args:
        situations: of the whole table.
        effect: the smallest worth finding, a share of plain shuffling's loss.
    """
    judging = [(found, arm) for found in situations if found.use == "judge" for arm in found.claims()]
    sure = [_at(arm, max(1, len(judging))) for _, arm in judging]
    together = corrected(sure, [arm.spread for _, arm in judging])
    by_place = {(found.name, arm.name): one for (found, arm), one in zip(judging, together, strict=True)}
    told = []
    for found in situations:
        arms = {}
        for name, arm in found.arms.items():
            one = by_place.get((found.name, name), arm.difference)
            arms[name] = _with_word(replace(arm, difference=one), effect)
        told.append(replace(found, arms=arms))
    return told


def _at(arm: ArmFound, comparisons: int) -> Difference:
    assert arm.difference is not None
    assert arm.spread is not None
    return with_spread(arm.difference, arm.spread, comparisons)


def _with_word(arm: ArmFound, effect: float) -> ArmFound:
    """The word that the corrected p-value asks for, and what the controls say of it."""
    one = arm.difference
    if arm.refused is not None or one is None or one.p_adjusted is None:
        return replace(arm, refused=arm.refused or ALIKE)
    word = decide(one, effect * abs(one.mean_against or 0.0))
    if arm.handicap is not None and word != HELPED:
        return replace(arm, refused=arm.handicap)
    return replace(arm, word=word, attribution=attribution(word, arm.contrasts))


# -- one arm -----------------------------------------------------------------------------------------------------------


def _on_seeds_of(base: ArmResults, arm: ArmResults) -> ArmResults:
    """Plain shuffling on the seeds that an arm was given, finished or not."""
    given = {*arm.seeds, *arm.diverged}
    places = [i for i, seed in enumerate(base.seeds) if seed in given]
    return ArmResults(
        base.name,
        base.kind,
        tuple(base.seeds[i] for i in places),
        base.end.take(places),
        base.trained[places],
        tuple(base.shared[i] for i in places),
        tuple(base.curves[i] for i in places),
        {seed: why for seed, why in base.diverged.items() if seed in given},
    )


def against(arm: ArmResults, base: ArmResults, resamples: int, seed: int) -> ArmFound:
    """All that two arms say.

    Args:
        arm: whose runs.
        base: plain shuffling with the same seeds.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    kind = "oracle" if arm.name in ORACLES else arm.kind
    reasons, unlike = misfits(arm, base, tokens_tolerance=TOKENS), misfits_of(arm.end, base.end)
    handicap = None
    if reasons and trained_less(arm, base) and not (free := misfits(arm, base, tokens_tolerance=FEWER)):
        reasons, handicap = free, "; ".join(reasons)
    reasons = [*reasons, *unlike]
    pair = Pair(arm, base, arm.end, base.end, tuple(reasons))
    everything = np.ones(arm.end.n_items, dtype=np.bool_)
    bare = pair.bare(everything) if same_items(arm.end, base.end) else None
    seeds = tuple(one for one in base.seeds if one in arm.seeds)
    places = [(arm.seeds.index(one), base.seeds.index(one)) for one in seeds]
    counted = places and len(arm.trained) and len(base.trained)
    found = ArmFound(
        arm.name,
        kind,
        seeds,
        bare,
        refused="; ".join(reasons) or None,
        handicap=handicap,
        cost=float(np.mean([curve.cost for curve in arm.curves])) if arm.curves else 0.0,
        tokens=float(np.mean([arm.trained[i] / base.trained[j] for i, j in places])) if counted else 1.0,
    )
    if reasons or bare is None:
        return found
    (one,), (spread,) = pair.sure([bare], [everything], 1, resamples=resamples, seed=seed)
    return replace(
        found,
        difference=one,
        spread=spread,
        mean=one,
        refused=ALIKE if one.p_adjusted is None else None,
        charged=_charged(arm, base, places),
        speed=judge_speed(arm, base),
        worst=_worst(arm, base, places),
        domains=_domains(pair, resamples, seed),
    )


def trained_less(arm: ArmResults, base: ArmResults) -> bool:
    """With each seed of both the arm trained no more tokens."""
    both = [(arm.seeds.index(seed), base.seeds.index(seed)) for seed in arm.seeds if seed in base.seeds]
    counted = bool(both) and len(arm.trained) > 0 and len(base.trained) > 0
    return counted and all(arm.trained[i] <= base.trained[j] for i, j in both)


def _domains(pair: Pair, resamples: int, seed: int) -> dict[str, Difference]:
    """The difference in each of several domains, corrected for their number."""
    chosen = {name: pair.mine.domain == i for i, name in enumerate(pair.mine.domains)}
    known = {name: one for name, items in chosen.items() if items.sum() > 1 and (one := pair.bare(items)) is not None}
    if len(known) < 2:
        return {}
    items = [chosen[name] for name in known]
    sure = pair.sure([*known.values()], items, len(known), resamples=resamples, seed=seed)
    return dict(zip(known, corrected(*sure), strict=True))


def _charged(arm: ArmResults, base: ArmResults, places: Sequence[tuple[int, int]]) -> Difference | None:
    """The difference, had every arm had the compute of plain shuffling for its training and its measurements."""
    if not (arm.curves and base.curves) or not any(curve.cost for curve in arm.curves):
        return None
    more = []
    for i, j in places:
        mine, theirs = arm.curves[i], base.curves[j]
        paid = loss_at(mine, mine.tokens[-1] * (1 + theirs.cost) / (1 + mine.cost))
        more.append(paid / theirs.loss[-1])
    ratios = np.array(more)
    return of_ratios(arm, base, ratios) if np.isfinite(ratios).all() and len(ratios) > 1 else None


def loss_at(curve: Curve, tokens: float) -> float:
    """The loss of a curve at some tokens, on a straight line between its points.

    >>> loss_at(Curve(np.array([0.0, 10, 20]), np.zeros(3), np.array([4.0, 2.0, 1.0])), 15.0)
    1.5
    """
    return float(np.interp(tokens, curve.tokens, curve.loss))


def of_ratios(arm: ArmResults, base: ArmResults, ratios: FloatArray) -> Difference:
    """How far ratios of seeds are from 1 on average, with Student's t, as a difference to a loss of 1."""
    mean = float(ratios.mean())
    return of_seeds(Difference(arm.name, base.name, None, mean - 1, mean, 1.0), ratios - 1)


def _worst(arm: ArmResults, base: ArmResults, places: Sequence[tuple[int, int]]) -> Difference | None:
    """The worst domains' losses, each of its own run."""
    if len(base.end.domains) < 2 or len(places) < 2:
        return None
    mine, theirs = (domain_losses(one).max(1) for one in (arm, base))
    return of_ratios(arm, base, np.array([mine[i] / theirs[j] for i, j in places]))


def _spread_of(difference: Difference) -> VarianceParts | None:
    """The spread of what varies over seeds alone."""
    return None if difference.stderr is None else seed_spread(difference.stderr**2, difference.n_seeds)


def domain_losses(arm: ArmResults) -> FloatArray:
    """Loss per token of each domain that has test rows, with each seed, shape (S, D)."""
    end = arm.end
    codes = np.unique(end.domain)
    return np.stack(
        [end.values[:, end.domain == code].sum(1) / end.weights[end.domain == code].sum() for code in codes], axis=1
    )


def _contrasts(
    arm: ArmResults, own: Mapping[str, ArmResults], judged_by: str, resamples: int, seed: int
) -> dict[str, Difference]:
    """A recipe against each of its controls, on the seeds of both, corrected for their number."""
    found: dict[str, tuple[Difference, VarianceParts | None]] = {}
    for what, other in own.items():
        mine, theirs = _on_seeds_of(arm, other), _on_seeds_of(other, arm)
        reasons = [*misfits(mine, theirs, tokens_tolerance=TOKENS), *misfits_of(mine.end, theirs.end)]
        pair = Pair(mine, theirs, mine.end, theirs.end, tuple(reasons))
        everything = np.ones(mine.end.n_items, dtype=np.bool_)
        bare = None if reasons else pair.bare(everything)
        if bare is None:
            continue
        places = [(mine.seeds.index(one), theirs.seeds.index(one)) for one in theirs.seeds if one in mine.seeds]
        worst = _worst(mine, theirs, places) if judged_by == WORST_DOMAIN else None
        if worst is not None:
            found[what] = worst, _spread_of(worst)
        else:
            (one,), (spread,) = pair.sure([bare], [everything], len(own), resamples=resamples, seed=seed)
            found[what] = one, spread
    together = corrected([one for one, _ in found.values()], [spread for _, spread in found.values()])
    return dict(zip(found, together, strict=True))


def _shares(arm: ArmResults, base: ArmResults, oracle: ArmResults) -> bool:
    """The three have seeds and items in common."""
    return same_items(arm.end, base.end) and same_items(oracle.end, base.end)
