"""Did a search find anything? What its best trial looks like by luck alone, and the rule by which there is no winner.

The best of N trials looks better than it is: it was chosen for it. How much luck alone does is known from the seeds of
the unchanged recipe, which is trained with several. Where nothing matters, every run is one more draw around the same
loss with the spread σ of these seeds, and the best of N trials of S seeds lies below the recipe with the same seeds by

    G = mean of the recipe − lowest mean of a trial        on average σ/√S · c_N, where c_N is the mean of the largest
                                                           of N standard normals: 1.9 for 24

`stand` says how often chance alone makes G as large as the search found it (with σ as badly known as so few seeds know
it). That is a warning and not the judge, for a handful of seeds is a weak witness: the judge is `compare`, which trains
the best trial, the recipe and plain shuffling anew, with seeds that the search has not had, and tests the difference on
rows that it has not seen. There is no winner unless its verdict on the best trial against the recipe is `helped`; none
either where shuffling is better than both. Where nothing matters, `helped` comes up in at most 2.5 of 100 searches
(5 % two-sided, and the wrong half of it hurts), however many trials were drawn: the seeds and rows of the verdict had
no part in the choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from campus_tune.compare.verdict import HELPED, HURT, Judgement
from campus_tune.compare.verdict.difference import UNDERPOWERED
from campus_tune.compare.verdict.sentences import percent
from campus_tune.words.types import Json

_DRAWS = 20_000  # searches in which nothing matters
_SALT = 0x1DC  # of these draws


@dataclass(frozen=True)
class Standing:
    """The best trial of a search beside the recipe as it stands, on the search's own rows and seeds.

    Args:
        best: number of the trial.
        loss: of it, nats per token.
        recipe: loss of the unchanged recipe with the same seeds.
        change: (loss − recipe) / recipe; negative is better.
        luck: what the best of so many trials would have been by luck alone, on average, likewise a share; negative.
        chance: in which share of searches in which nothing matters the best is at least as much below the recipe.
        trial_spread: standard deviation of the trials that were trained to the end, as a share of `recipe`; None of
            fewer than two.
        seed_spread: of one trial's seeds, as the unchanged recipe shows it, likewise.
        n_trials: that were drawn.
        seeds: of each trial.
    """

    best: int
    loss: float
    recipe: float
    change: float
    luck: float
    chance: float
    trial_spread: float | None
    seed_spread: float
    n_trials: int
    seeds: int

    @property
    def improves(self) -> bool:
        """The best trial ended below the recipe: something to be confirmed."""
        return self.change < 0

    def to_mapping(self) -> Json:
        """The same as JSON."""
        return dict(vars(self))

    def said(self) -> list[str]:
        """What the search itself says, and how much of it is luck."""
        noise = f"seeds of the unchanged recipe differ by {percent(self.seed_spread)}"
        if self.trial_spread is not None:
            noise = f"the trials differ by {percent(self.trial_spread)} (standard deviation), and {noise}"
        found = f"the best trial ended {percent(self.change, signed=True)} beside the recipe with the same seeds"
        each = f"{self.n_trials} trial{'s' * (self.n_trials > 1)} of {self.seeds} seed{'s' * (self.seeds > 1)}"
        by_luck = f"by luck alone the best of {each} looks {percent(-self.luck)} better than it is"
        as_much = f"as much better as this one in {self.chance:.0%} of searches in which nothing matters"
        return [f"{found}; {noise}", f"{by_luck}, and {as_much}"]


@dataclass(frozen=True)
class Conclusion:
    """What a search has found.

    Args:
        winner: number of the trial; None where there is none.
        why: in a sentence.
    """

    winner: int | None
    why: str


def luck(n_trials: int) -> float:
    """c_N: by how many standard deviations the best of N draws lies below their mean, on average.

    >>> [round(luck(n), 2) for n in (1, 2, 24)]  # 0, 1/√π, and what tables of order statistics have
    [0.0, 0.56, 1.95]
    """
    if n_trials == 1:
        return 0.0  # and not what rounding leaves of it
    from scipy.special import ndtr  # type: ignore[import-untyped]  # scipy ships no types

    x = np.linspace(-10, 10, 4001)
    above, below = 1 - ndtr(x) ** n_trials, ndtr(x) ** n_trials  # ∫ P(largest > x) over x > 0, less P(≤ x) over x < 0
    return abs(float((np.where(x > 0, above, 0).sum() - np.where(x < 0, below, 0).sum()) * (x[1] - x[0])))


def stand(
    trials: Mapping[int, float], recipe: Sequence[float], *, n_trials: int, seeds: int, draws: int = _DRAWS
) -> Standing:
    """Where the best trial of a search stands.

    Args:
        trials: number → loss at the end, the mean over its seeds, of those that came there, at least one.
        recipe: losses of the unchanged recipe, one per seed, at least two; those of the trials' seeds come first.
        n_trials: that were drawn, those that were stopped early or diverged among them.
        seeds: of each trial.
        draws: searches in which nothing matters that are drawn for `chance`.
    """
    reference = float(np.mean(recipe[:seeds]))
    spread = float(np.std(recipe, ddof=1))
    of_trials = float(np.std(list(trials.values()), ddof=1)) / reference if len(trials) > 1 else None
    expected = -luck(n_trials) * spread / math.sqrt(seeds) / reference
    best = min(trials, key=lambda trial: (trials[trial], trial))
    gain = reference - trials[best]
    chance = chance_of(gain, spread, n_trials=n_trials, seeds=seeds, n_recipe=len(recipe), draws=draws)
    own = spread / math.sqrt(seeds) / reference
    return Standing(best, trials[best], reference, -gain / reference, expected, chance, of_trials, own, n_trials, seeds)


def chance_of(gain: float, spread: float, *, n_trials: int, seeds: int, n_recipe: int, draws: int) -> float:
    """In which share of searches in which nothing matters G/s is at least as large.

    Args:
        gain: G, nats per token.
        spread: s, standard deviation of the recipe's seeds.
        n_trials: N.
        seeds: S, of each trial.
        n_recipe: seeds of the recipe, at least S and two.
        draws: how many such searches are drawn.
    """
    if gain <= 0 or spread == 0:
        return 1.0 if gain <= 0 else 0.0
    rng = np.random.default_rng([_SALT, n_trials, seeds, n_recipe])
    recipe = rng.standard_normal((draws, n_recipe))
    # the lowest of N means in one draw: a normal at the 1 − (1 − u)^(1/N) quantile
    from scipy.special import ndtri

    lowest = ndtri(-np.expm1(np.log1p(-rng.random(draws)) / n_trials)) / math.sqrt(seeds)
    found = (recipe[:, :seeds].mean(1) - lowest) / recipe.std(1, ddof=1)
    return float((found >= gain / spread).mean())


def conclude(standing: Standing, against_recipe: Judgement | None, against_random: Judgement | None) -> Conclusion:
    """The rule: no winner unless `compare` says that it helped.

    Args:
        standing: of the best trial in the search.
        against_recipe: the verdict of `compare` on it against the unchanged recipe, with fresh seeds and test rows;
            None where it was not asked, because no trial was better even in the search.
        against_random: likewise against plain shuffling.
    """
    if not standing.improves or against_recipe is None:
        return Conclusion(None, "no winner: no trial ended below the recipe as it stands, which is kept")
    if against_recipe.verdict is None:
        return Conclusion(None, f"no winner: the runs bear no verdict: {against_recipe.refused}")
    if against_recipe.verdict != HELPED:
        more = ": more seeds or test rows may still find one" if against_recipe.verdict == UNDERPOWERED else ""
        return Conclusion(
            None, f"no winner: {against_recipe.verdict} on fresh seeds between the best trial and the recipe{more}"
        )
    if against_random is not None and against_random.verdict == HURT:
        return Conclusion(None, "no winner: the best trial helped the recipe, and plain shuffling is better than both")
    return Conclusion(standing.best, f"trial {standing.best} is better than the recipe on fresh seeds and test rows")


def promised(standing: Standing, judged: Judgement | None) -> str | None:
    """What the search said beside what `compare` says: "search said −3.1 %, compare says −0.8 % (−2.0 to +0.4 %)"."""
    difference = None if judged is None else judged.difference
    if difference is None or difference.relative is None:
        return None
    said = f"search said {percent(standing.change, signed=True)}, compare says "
    said += percent(difference.relative, signed=True)
    low, high = difference.share(difference.low), difference.share(difference.high)
    if low is None or high is None:
        return said
    return f"{said} ({percent(low, signed=True)} to {percent(high, signed=True)})"
