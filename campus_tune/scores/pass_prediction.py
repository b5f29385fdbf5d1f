"""Pass rates of prompts that were never tried, from what is known of every prompt and costs nothing.

A logistic regression of the tried prompts' passes on their features, with one penalty for all of its weights. What it
is worth is not assumed but measured: five times a fifth of the tried prompts is left out and predicted from the others.
What the predictions of those then say of their passes, as the mean of a beta distribution that is worth `s` tries,
chooses the features, the penalty and `s`. A feature that says nothing alone is left out, unless all of them together
say more; and where they do not predict the prompts that were left out better than one rate for all, by more than one
and a half standard errors, there is one rate for all.

    logit p_i = w₀ + x_i·w                                    least deviance + λ‖w‖², λ from the left-out prompts
    p_i of the tried ones:  passes_i ~ BetaBinomial(tries_i, s·p_i, s·(1 − p_i))      s from the left-out prompts

Passes of one prompt are alike: eight tries tell less of a weight than eight prompts do, so a prompt of n tries counts
as n/(1 + ρ(n − 1)) of them. Features are ranks, a straight line and three kinks each, for only the order of lengths and
levels means something; domains have a weight for each of their names.

>>> features = PromptFeatures.of({"level": np.arange(40.0)}, {}, 40)
>>> passed = np.where(np.arange(40) < 20, 8.0, 0.0)
>>> found = predict_shares(passed[::2], np.full(20, 8.0), features, rows=np.arange(0, 40, 2))
>>> bool(found.rate[1] > 0.8), bool(found.rate[39] < 0.2), found.used
(True, True, ('level',))

Reference:
    The posterior that this is the prior of: Williams 1975, "The analysis of binary responses from toxicological
    experiments involving reproduction and teratogenicity", Biometrics 31 (the beta-binomial distribution).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np

from campus_tune.method.pass_rates import PassRates
from campus_tune.method.stats import average_ranks, spearman
from campus_tune.words.hashing import array_digest
from campus_tune.words.types import BoolArray, FloatArray, IntArray, Json

FEWEST_TRIED = 10  # prompts, below which nothing is predicted from them
MOST_TRIED = 2048  # the prompts tried last of which a prediction is made: more of them hardly change it
FOLDS = 5
ALIKE = 0.2  # ρ: how much the tries of one prompt say the same
KINKS = (-0.25, 0.0, 0.25)  # of a feature, in ranks from −½ to ½
PENALTIES = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3)  # λ, for columns of spread one
WORTHS = tuple(float(s) for s in np.geomspace(0.5, 64, 15))  # tries
SURELY = 0.005  # the lowest rate that is predicted, and how far below one the highest is
SURELY_MORE = 1.5  # standard errors, by which features must tell more than one rate for all
LARGEST_STEP = 2.0  # of Newton's method, in any weight
AT_ONCE = 1 << 16  # prompts that are predicted at a time
LEAST_WORTH = 2.0  # tries that one rate is worth where next to nothing is known
_SPREAD = 12**-0.5  # of a uniform rank between −½ and ½
_NEWTON, _STILL, _TINY = 12, 1e-4, 1e-9  # steps at most, the largest that is none, what divides by nothing


@dataclass(frozen=True, eq=False)
class PromptFeatures:
    """What is known of every prompt and costs nothing.

    Args:
        ranks: of each feature, from −½ to ½, equal values alike, shape (N,).
        groups: number of each prompt's group by column, from 0, shape (N,).
        n_rows: N.
    """

    ranks: Mapping[str, FloatArray]
    groups: Mapping[str, IntArray]
    n_rows: int

    @staticmethod
    def of(values: Mapping[str, FloatArray], groups: Mapping[str, IntArray], n_rows: int) -> PromptFeatures:
        """Those of some values and groups.

        What is the same for all prompts says nothing and is left out, and so is what ranks them as another one does,
        from either end.

        Args:
            values: a finite number of each prompt by name, shape (N,).
            groups: number of each prompt's group by name, from 0, shape (N,).
            n_rows: N.
        """
        ranks, met = dict[str, FloatArray](), set[str]()
        for name, each in values.items():
            if each.min() == each.max():
                continue
            found = (average_ranks(each) - 0.5) / n_rows - 0.5
            keys = {array_digest(np.round(way, 9).view(np.uint64)) for way in (0.0 + found, 0.0 - found)}
            if not keys & met:
                ranks[name] = found
            met |= keys
        return PromptFeatures(ranks, {name: codes for name, codes in groups.items() if codes.max() > 0}, n_rows)

    @property
    def names(self) -> tuple[str, ...]:
        """What they are called."""
        return (*self.ranks, *self.groups)

    def only(self, names: Collection[str]) -> PromptFeatures:
        """Some of them."""
        ranks = {name: ranks for name, ranks in self.ranks.items() if name in names}
        return PromptFeatures(ranks, {name: codes for name, codes in self.groups.items() if name in names}, self.n_rows)

    def columns(self, rows: IntArray) -> FloatArray:
        """A one and the features of some prompts, as the regression takes them, shape (n, K)."""
        parts = [np.ones(len(rows))]
        for ranks in self.ranks.values():
            here = ranks[rows] / _SPREAD
            parts += [here, *(np.maximum(0.0, here - kink / _SPREAD) for kink in KINKS)]
        for codes in self.groups.values():
            parts += [codes[rows] == code for code in range(int(codes.max()) + 1)]
        return np.stack(parts, axis=1).astype(np.float64)


@dataclass(frozen=True, eq=False)
class PassPrediction:
    """What is expected of every prompt before its own tries are looked at.

    Args:
        rate: expected share of passes, in (0, 1), shape (N,).
        worth: how many tries of its own a prompt must have for these to count as much.
        prompts: tried ones that it was made from.
        correlation: Spearman's, of left-out predictions with what came; NaN where there is one rate for all.
        gain: what the features tell of a prompt that was left out, nats of its tries, over one rate for all; 0 where
            there is one rate for all.
        error: standard error of `gain`.
        used: features that it goes by; none where there is one rate for all.
        gains: what each feature would tell alone.
    """

    rate: FloatArray
    worth: float
    prompts: int
    correlation: float = math.nan
    gain: float = 0.0
    error: float = 0.0
    used: tuple[str, ...] = ()
    gains: Mapping[str, float] = field(default_factory=dict)

    def told(self) -> Json:
        """What the ledger says of it."""
        return {
            "prompts": self.prompts,
            "worth": self.worth,
            "correlation": None if math.isnan(self.correlation) else self.correlation,
            "gain": self.gain,
            "error": self.error,
            "used": list(self.used),
            "gains": dict(self.gains),
        }


def predict_pass_rates(rates: PassRates, features: PromptFeatures) -> PassPrediction:
    """The pass rate of every prompt, as those tell it that were tried.

    Args:
        rates: what rewards have shown; what was forgotten of them counts no more.
        features: of all prompts.
    """
    rows = _latest(rates.tries, rates)
    return predict_shares(rates.passes[rows], rates.tries[rows], features, rows=rows)


def predict_spreads(rates: PassRates, features: PromptFeatures) -> PassPrediction:
    """The chance that a group of answers has a spread, of every prompt, where rewards are of more than two values.

    Args:
        rates: what rewards have shown.
        features: of all prompts.
    """
    rows = _latest(rates.groups, rates)
    return predict_shares(rates.spreads[rows], rates.groups[rows], features, rows=rows)


def _latest(trials: FloatArray, rates: PassRates) -> IntArray:
    """The prompts with trials, those tried last where there are many, rising."""
    tried = np.flatnonzero(trials > 0)
    return np.sort(tried[np.argsort(-rates.last[tried], kind="stable")[:MOST_TRIED]])


def predict_shares(
    successes: FloatArray, trials: FloatArray, features: PromptFeatures, *, rows: IntArray
) -> PassPrediction:
    """The share of successes of every prompt, from those of some.

    Args:
        successes: of each, at most its trials; need not be whole numbers, as what is old counts less. Shape (n,).
        trials: of each, above 0, shape (n,).
        features: of all prompts.
        rows: which prompts they are, shape (n,).
    """
    tried = _Tried(rows, successes, trials)
    one_rate = np.full(features.n_rows, tried.pooled(np.ones(len(rows), dtype=np.bool_)))
    if len(rows) < FEWEST_TRIED:
        return PassPrediction(one_rate, LEAST_WORTH, len(rows))

    # What each feature tells alone; and together all that tell something, or all there are. One of few that tells much
    # is not drowned by many that tell nothing, and several that tell little each may tell enough together.
    base = tried.left_out(None)
    if tried.share.min() == tried.share.max():  # all came out alike: there is nothing to tell apart
        return PassPrediction(one_rate, base.worth, len(rows), gains=dict.fromkeys(features.names, 0.0))
    gains = {name: _gain(tried.left_out(features.only([name])), base) for name in features.names}
    telling = tuple(name for name, (gain, error) in gains.items() if gain > error)
    choices = [features.only(names) for names in dict.fromkeys((telling, features.names)) if names]
    outcomes = [(each, tried.left_out(each)) for each in choices]
    chosen, found = max(outcomes, key=lambda one: one[1].told.mean(), default=(features, base))
    gain, error = _gain(found, base)
    own = {name: gain for name, (gain, _) in gains.items()}
    if not gain > SURELY_MORE * error:
        return PassPrediction(one_rate, base.worth, len(rows), gains=own)

    # All tried prompts at the chosen penalty, and what they say of all prompts.
    weights = tried.fit(chosen.columns(rows), found.penalty)
    n = features.n_rows
    parts = (np.arange(start, min(start + AT_ONCE, n)) for start in range(0, n, AT_ONCE))
    rate = np.concatenate([_rates(chosen.columns(part), weights) for part in parts])
    correlation = spearman(found.rate, tried.share)
    return PassPrediction(rate, found.worth, len(rows), correlation, gain, error, chosen.names, own)


class _LeftOut(NamedTuple):
    """What was said of tried prompts by the others.

    Args:
        rate: of each, shape (n,).
        told: log likelihood of its successes, nats, shape (n,); the number of ways in which they could have come is
            left out, for it is the same whatever was expected.
        worth: of the rates, in tries, at which that is most.
        penalty: number of the penalty at which that is most.
    """

    rate: FloatArray
    told: FloatArray
    worth: float
    penalty: int


class _Tried:
    """Prompts of which the successes are known.

    Args:
        rows: which they are, shape (n,).
        successes: of each, shape (n,).
        trials: of each, above 0, shape (n,).
    """

    def __init__(self, rows: IntArray, successes: FloatArray, trials: FloatArray) -> None:
        self.rows, self.successes, self.trials = rows, np.minimum(successes, trials), trials
        self.share = self.successes / np.maximum(trials, _TINY)
        self.counts = trials / (1 + ALIKE * np.maximum(0.0, trials - 1))
        # dealt out at random: of rows that lie by turns (five domains, interleaved) every fifth would be one domain
        self._fold = np.random.default_rng(FOLDS).permutation(np.arange(len(rows)) % FOLDS)

    def pooled(self, kept: BoolArray) -> float:
        """One rate for all, of some of them and one success and one failure beside."""
        counts = self.counts[kept]
        return float(np.clip((counts @ self.share[kept] + 1) / (counts.sum() + 2), SURELY, 1 - SURELY))

    def left_out(self, features: PromptFeatures | None) -> _LeftOut:
        """What the others say of each, by features, at the best penalty; None for one rate for all."""
        rates = np.empty((1 if features is None else len(PENALTIES), len(self.rows)))
        x = None if features is None else features.columns(self.rows)
        for k in range(FOLDS):
            kept, left = self._fold != k, self._fold == k
            if x is None:
                rates[0, left] = self.pooled(kept)
                continue
            for number, weights in enumerate(self._path(x[kept], kept)):
                rates[number, left] = _rates(x[left], weights)
        likely = [(rate, *self._most_likely(rate), number) for number, rate in enumerate(rates)]
        return _LeftOut(*max(likely, key=lambda one: one[1].mean()))

    def fit(self, x: FloatArray, penalty: int) -> FloatArray:
        """Weights of all of them at one of the penalties, shape (K,)."""
        everyone = np.ones(len(self.rows), dtype=np.bool_)
        return next(islice(self._path(x, everyone), penalty, None))

    def _path(self, x: FloatArray, kept: BoolArray) -> Iterator[FloatArray]:
        """Weights at each penalty, the largest first, each found from those before: Newton's method.

        Args:
            x: columns of some of them, shape (m, K); the first has no penalty.
            kept: which they are, shape (n,).
        """
        share, counts, pooled = self.share[kept], self.counts[kept], self.pooled(kept)
        weights = np.zeros(x.shape[1])
        weights[0] = math.log(pooled / (1 - pooled))
        for penalty in PENALTIES:
            ridge = np.append(_TINY, np.full(x.shape[1] - 1, penalty))
            for _ in range(_NEWTON):
                p = _rates(x, weights)
                slope = x.T @ (counts * (share - p)) - ridge * weights
                step = np.linalg.solve((x.T * (counts * p * (1 - p))) @ x + np.diag(ridge), slope)
                largest = float(np.abs(step).max())
                weights = weights + step * min(1.0, LARGEST_STEP / max(largest, _TINY))
                if largest < _STILL:
                    break
            yield weights

    def _most_likely(self, rate: FloatArray) -> tuple[FloatArray, float]:
        """(Log likelihood of each one's successes at the worth where that is most, shape (n,); that worth)."""
        from scipy.special import betaln  # type: ignore[import-untyped]  # scipy ships no types

        worth = np.array(WORTHS)[:, None]
        a, b = worth * rate, worth * (1 - rate)  # (worths, n)
        likely = betaln(a + self.successes, b + self.trials - self.successes) - betaln(a, b)
        best = int(np.argmax(likely.sum(axis=1)))
        return np.asarray(likely[best], dtype=np.float64), WORTHS[best]


def _gain(found: _LeftOut, base: _LeftOut) -> tuple[float, float]:
    """(Nats a prompt that were gained over one rate for all, standard error)."""
    gains = found.told - base.told
    return float(gains.mean()), float(gains.std(ddof=1) / math.sqrt(len(gains)))


def _rates(x: FloatArray, weights: FloatArray) -> FloatArray:
    """What a regression expects of some prompts, shape (n,)."""
    return np.clip(1 / (1 + np.exp(-np.clip(x @ weights, -30, 30))), SURELY, 1 - SURELY)
