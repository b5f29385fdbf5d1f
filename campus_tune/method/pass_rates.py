"""Pass rates: what rewards have shown of each prompt, and what its next group of answers would tell.

A prompt is tried G times in a row, a *group*. An answer passes where its weighted reward is at least `at`. All that is
counted of a prompt fades: each generation takes the part `forget` of it, for the model that gave these answers is gone.
What is left stands beside what was expected of it, and both together are a beta posterior of its pass rate:

    a = worth · rate + passes        b = worth · (1 − rate) + (tries − passes)

Where nobody predicted it, the rate is that of all prompts, and its worth follows from how much they differ (`prior`).

A group whose rewards are all the same gives no gradient. The chance that it *tells apart* is `1 − p^G − (1 − p)^G`
where a trainer divides rewards by the group's spread, so that any spread counts as much as another; where it does not,
what a group tells goes with the rewards' variance, `p(1 − p)`. Rewards of more than two values have no such formula:
there the chance is counted, groups that had a spread of groups that were tried, shrunk to that of the prompt's pool.

>>> rates = PassRates(3, group=4, at=1.0, forget=0.0, scaled=True)
>>> rates.note(np.array([0, 2]), np.array([[1.0, 0, 0, 1], [0, 0, np.nan, 0]]), when=0)
>>> rates.passes.tolist(), rates.tries.tolist(), rates.pass_rate.tolist()
([2.0, 0.0, 0.0], [4.0, 0.0, 3.0], [0.5, nan, 0.0])
>>> rates.posterior()[0].tolist(), rates.tells_apart(np.array([0.0, 0.5, 1.0])).tolist()
([3.0, 1.0, 1.0], [0.0, 0.875, 0.0])

Reference:
    2504.03380, Online Difficulty Filtering for Reasoning Oriented Reinforcement Learning: prompts of a middle pass
    rate. *Differs from the paper*: nothing is generated to be thrown away; a pass rate is known from what was trained,
    or predicted, and how sure that is decides with it (Thompson sampling, `prompt_scores`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.words.types import BoolArray, FloatArray, IntArray, RowArray

UNKNOWING = 2.0  # tries that a prior is worth which says nothing: beta(1, 1)
FEWEST = 10  # prompts that were tried, below which nothing is said of how much they differ
FADING = ("tries", "passes", "total", "squares", "groups", "spreads", "last_tries", "last_total")
COUNTS = ("visits", "last")
_LEAST_WORTH, _MOST_WORTH = 0.05, 50.0
_SURE = 1e-3  # how near to 0 and 1 an expected rate may be
_FEW = 32.0  # compared groups, below which they say less than all of what was wrong
_LATELY = 64.0  # groups after which what was wrong with an expectation counts half
_SAME = 1e-6  # rewards that differ by less, as a part of the larger one, are the same


class PassRates:
    """What rewards have shown of each prompt so far. Nothing of it depends on chance.

    Args:
        n_rows: N prompts.
        group: G answers of a prompt at a time.
        at: weighted reward from which an answer passes.
        forget: part of what was counted that each generation takes, in [0, 1).
        scaled: the trainer divides rewards by the spread of their group.
        pools: number of each prompt's pool, from 0, shape (N,), for rewards of more than two values; None for one.

    Attributes:
        tries: answers that had a reward, faded, shape (N,), as all below.
        passes: of these, answers that passed.
        total: their rewards added up.
        squares: the squares of these added up.
        groups: groups in which at least two answers had a reward.
        spreads: of these, groups whose rewards were not all the same.
        last_tries: answers of its last visit that had a reward.
        last_total: their rewards added up.
        visits: groups that were generated for it, tried or not; these do not fade.
        last: generation of its last visit; -1 before the first.
        now: the last generation that was noted; -1 before the first.
    """

    def __init__(
        self,
        n_rows: int,
        *,
        group: int,
        at: float = 1.0,
        forget: float = 0.002,
        scaled: bool = True,
        pools: IntArray | RowArray | None = None,
    ) -> None:
        self.n_rows, self.group, self.at, self.forget, self.scaled = n_rows, group, at, forget, scaled
        self.pools = np.zeros(n_rows, dtype=np.int64) if pools is None else pools.astype(np.int64)
        zeros = {name: np.zeros(n_rows) for name in FADING}
        self.tries, self.passes, self.total, self.squares = (zeros[name] for name in FADING[:4])
        self.groups, self.spreads, self.last_tries, self.last_total = (zeros[name] for name in FADING[4:])
        self.visits = np.zeros(n_rows, dtype=np.int64)
        self.last = np.full(n_rows, -1, dtype=np.int64)
        self.now = -1
        self.failing = self.passing = math.nan  # the one reward on either side of `at`, while it is one
        self.least, self.most = math.inf, -math.inf  # rewards so far
        self.two_valued = True
        self.rate: FloatArray | None = None  # expected pass rate of each prompt, and how many tries that is worth
        self.worth = UNKNOWING
        self.spread: FloatArray | None = None  # expected chance of a spread, and how many groups that is worth
        self.spread_worth = UNKNOWING
        self.more_flat = self.compared = 0.0  # groups without a gradient beyond those expected, of how many; lately

    # -- what is told of them -----------------------------------------------------------------------------------

    def note(self, rows: IntArray | RowArray, rewards: FloatArray, *, when: int) -> None:
        """Take one generation.

        Args:
            rows: its prompts, each once, shape (n,).
            rewards: weighted, of each prompt's answers, shape (n, G); NaN of an answer that no function gave one.
            when: number of the generation, not below those of before; the same again where an epoch ended inside of it.
        """
        assert rewards.shape == (len(rows), self.group), f"{rewards.shape} rewards of {len(rows)} × {self.group}"
        assert when >= self.now, f"generation {when} after {self.now}"
        knows = self.rate is not None or np.count_nonzero(self.tries > 0.5) >= FEWEST  # something to be wrong with
        expected = self.flat_chance(rows)
        kept = (1.0 - self.forget) ** (when - self.now)
        for name in FADING:
            vars(self)[name] *= kept
        self.now = when
        tried = ~np.isnan(rewards)
        n_tried = tried.sum(axis=1)
        given = np.where(tried, rewards, 0.0)
        low = np.where(tried, rewards, np.inf).min(axis=1)
        high = np.where(tried, rewards, -np.inf).max(axis=1)
        two = n_tried >= 2
        spread = two & ~_same(low, high)
        compared = two & knows
        lately = 0.5 ** (np.count_nonzero(compared) / _LATELY)
        self.more_flat = lately * self.more_flat + float((~spread[compared] - expected[compared]).sum())
        self.compared = lately * self.compared + np.count_nonzero(compared)
        self._look(rewards[tried])
        self.last_tries[rows], self.last_total[rows] = n_tried, given.sum(axis=1)
        self.tries[rows] += n_tried
        self.passes[rows] += (tried & passes_at(given, self.at)).sum(axis=1)
        self.total[rows] += self.last_total[rows]
        self.squares[rows] += (given**2).sum(axis=1)
        self.groups[rows] += two
        self.spreads[rows] += spread
        self.visits[rows] += 1
        self.last[rows] = when

    def expect(self, rate: FloatArray | None, worth: float = UNKNOWING) -> None:
        """What to expect of each prompt before its own answers are counted.

        Args:
            rate: expected pass rate, in [0, 1], shape (N,); None for what `prior` makes of all prompts.
            worth: how many tries that is worth, above 0.
        """
        assert worth > 0, f"an expected rate must be worth something, got {worth}"
        assert rate is None or rate.shape == (self.n_rows,), "a rate for each prompt"
        if (self.rate is None) != (rate is None):  # what was wrong before was wrong with other expectations
            self.more_flat = self.compared = 0.0
        self.rate = None if rate is None else np.clip(rate, _SURE, 1 - _SURE)
        self.worth = float(worth)

    def expect_spread(self, chance: FloatArray | None, worth: float = UNKNOWING) -> None:
        """What to expect where rewards are of more than two values: the chance that a group has a spread.

        Args:
            chance: in [0, 1], shape (N,); None for that of the prompt's pool.
            worth: how many groups that is worth, above 0.
        """
        assert worth > 0, f"an expected chance must be worth something, got {worth}"
        assert chance is None or chance.shape == (self.n_rows,), "a chance for each prompt"
        self.spread = None if chance is None else np.clip(chance, _SURE, 1 - _SURE)
        self.spread_worth = float(worth)

    def _look(self, rewards: FloatArray) -> None:
        """Whether rewards are still of two values, one that passes and one that does not."""
        if not len(rewards):
            return
        self.least, self.most = min(self.least, float(rewards.min())), max(self.most, float(rewards.max()))
        passed = passes_at(rewards, self.at)
        for side, name in ((passed, "passing"), (~passed, "failing")):
            values = rewards[side]
            if not len(values):
                continue
            one = vars(self)[name] if math.isfinite(vars(self)[name]) else float(values[0])
            vars(self)[name] = one
            self.two_valued &= bool(_same(values, np.full_like(values, one)).all())

    # -- what they say ------------------------------------------------------------------------------------------

    @property
    def pass_rate(self) -> FloatArray:
        """Passes of tries, faded, shape (N,); NaN where a prompt was never tried."""
        return _ratio(self.passes, self.tries)

    @property
    def mean_reward(self) -> FloatArray:
        """Mean weighted reward, faded, shape (N,); NaN where a prompt was never tried."""
        return _ratio(self.total, self.tries)

    def prior(self) -> tuple[FloatArray, float]:
        """(Expected pass rate of each prompt, shape (N,), how many tries that is worth).

        What was expected; else what the tried prompts are on average, with as much worth as their differences leave:
        `1/ρ − 1`, ρ the intraclass correlation of passes (analysis of variance of unequal groups). Prompts that all
        pass or all fail make it worth little: the next one is one of these, and none of the middle. Of fewer than ten
        tried prompts nothing is known: beta(1, 1).
        """
        if self.rate is not None:
            return self.rate, self.worth
        some = self.tries > 0.5  # what faded to less tells nothing of a prompt
        n, k, m = self.tries[some], self.passes[some], int(np.count_nonzero(some))
        if m < FEWEST or n.sum() <= m:
            return np.full(self.n_rows, 0.5), UNKNOWING
        total, mean, own = n.sum(), k.sum() / n.sum(), k / n
        between = float((n * (own - mean) ** 2).sum() / (m - 1))
        within = float((n * own * (1 - own)).sum() / (total - m))
        usual = float(total - (n**2).sum() / total) / (m - 1)  # tries of a prompt
        rate = np.full(self.n_rows, np.clip((k.sum() + 1) / (total + 2), _SURE, 1 - _SURE))
        if between + within <= 0:
            return rate, UNKNOWING
        alike = (between - within) / max(1e-12, between + (usual - 1) * within)
        return rate, float(np.clip(1 / max(alike, 1e-6) - 1, _LEAST_WORTH, _MOST_WORTH))

    def posterior(self) -> tuple[FloatArray, FloatArray]:
        """(a, b) of the beta posterior of each prompt's pass rate, above 0, shape (N,)."""
        rate, worth = self.prior()
        return worth * rate + self.passes, worth * (1 - rate) + np.maximum(0.0, self.tries - self.passes)

    def spread_posterior(self) -> tuple[FloatArray, FloatArray]:
        """(a, b) of the beta posterior of the chance that a prompt's next group has a spread, counted, shape (N,).

        Its prior is what was expected (`expect_spread`); else the share of groups with a spread in the prompt's pool,
        worth two groups, itself shrunk to that of all prompts, likewise.
        """
        rest = np.maximum(0.0, self.groups - self.spreads)
        if self.spread is not None:
            return self.spread_worth * self.spread + self.spreads, self.spread_worth * (1 - self.spread) + rest
        n = int(self.pools.max(initial=0)) + 1
        every = (self.spreads.sum() + 1) / (self.groups.sum() + 2)
        spreads, groups = (np.bincount(self.pools, of, n) for of in (self.spreads, self.groups))
        prior = ((spreads + UNKNOWING * every) / (groups + UNKNOWING))[self.pools]
        prior = np.clip(prior, _SURE, 1 - _SURE)
        return UNKNOWING * prior + self.spreads, UNKNOWING * (1 - prior) + rest

    def level_posterior(self, *, without_last: bool = False, only_last: bool = False) -> tuple[FloatArray, FloatArray]:
        """(a, b) of a beta posterior of how well a prompt is answered, shape (N,).

        Its pass rate where rewards are of two values; else its mean reward between the least and the highest that was
        seen, an answer there counting in parts.

        Args:
            without_last: of what was known before its last visit.
            only_last: of its last visit.
        """
        n, total = (self.last_tries, self.last_total) if only_last else (self.tries, self.total)
        if without_last:
            n, total = np.maximum(0.0, self.tries - self.last_tries), self.total - self.last_total
        least, most = (self.failing, self.passing) if self.two_valued else (self.least, self.most)
        if math.isnan(least) or math.isnan(most) or not most > least:  # one value so far: passes are all there is
            good = n * float(self.two_valued and math.isfinite(self.passing))
        else:
            good = np.clip((total - least * n) / (most - least), 0.0, n)
        rate, worth = self.prior()
        if not self.two_valued:  # what is expected is a pass rate, and says nothing of parts of a reward
            mean = (self.total.sum() - self.least * self.tries.sum()) / max(1e-12, self.tries.sum())
            rate = np.full(self.n_rows, np.clip(mean / max(1e-12, self.most - self.least), _SURE, 1 - _SURE))
            worth = UNKNOWING
        return worth * rate + good, worth * (1 - rate) + (n - good)

    def tells_apart(self, rate: FloatArray) -> FloatArray:
        """What a group of answers would tell at a pass rate, in the shape of `rate`; rewards are of two values.

        Args:
            rate: in [0, 1].

        Returns:
            `1 − p^G − (1 − p)^G`, the chance of a spread, where rewards are scaled by group; else `p(1 − p)`.
        """
        return 1 - rate**self.group - (1 - rate) ** self.group if self.scaled else rate * (1 - rate)

    def flat_chance(self, rows: IntArray | RowArray | None = None) -> FloatArray:
        """The chance that a prompt's next group gives no gradient, all its rewards being the same, shape (n,).

        Over the posterior: `E[p^G] + E[(1 − p)^G]`, of a beta in closed form; from the counted spreads where rewards
        are of more than two values.

        Args:
            rows: that are asked about, shape (n,); None for all.
        """
        a, b = self.posterior() if self.two_valued else self.spread_posterior()
        if rows is not None:
            a, b = a[rows], b[rows]
        if not self.two_valued:
            return b / (a + b)
        every, none = np.ones(len(a)), np.ones(len(a))
        for i in range(self.group):
            every *= (a + i) / (a + b + i)
            none *= (b + i) / (a + b + i)
        return every + none

    def shuffled_share(self, rows: BoolArray | None = None) -> float:
        """The share of groups without a gradient that drawing prompts at random would have now.

        That is what is expected of the prompts, and what was wrong lately with what was expected of the drawn ones (the
        difference estimator of survey sampling): a prompt that was tried long ago was tried by a model that knew less.
        So a run that draws at random is told its own share, whatever it has learned.

        Args:
            rows: that can be drawn, shape (N,); None for all.
        """
        chances = self.flat_chance()
        wrong = self.more_flat / max(self.compared, _FEW)
        return float(np.clip((chances if rows is None else chances[rows]).mean() + wrong, 0.0, 1.0))

    @property
    def per_generation(self) -> float:
        """Prompts of a generation, on average so far; 0 before the first."""
        return float(self.visits.sum()) / (self.now + 1) if self.now >= 0 else 0.0

    # -- state --------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, NDArray[Any]]:
        """All that was noted and expected, as arrays by name: the counts go on from them to the last bit."""
        marks = [self.now, self.failing, self.passing, self.least, self.most, float(self.two_valued), self.worth]
        marks += [self.spread_worth, self.more_flat, self.compared]
        rate, spread = (np.zeros(0) if one is None else one.copy() for one in (self.rate, self.spread))
        arrays = {name: vars(self)[name].copy() for name in (*FADING, *COUNTS)}
        return {**arrays, "rate": rate, "spread": spread, "marks": np.array(marks, dtype=np.float64)}

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from `state()`.

        Raises:
            ValueError: it is of other prompts, or not all there.
        """
        missing = sorted({*FADING, *COUNTS, "rate", "spread", "marks"} - state.keys())
        if missing or any(len(state[name]) != self.n_rows for name in (*FADING, *COUNTS)):
            raise ValueError(
                f"pass rates must be of {self.n_rows} prompts, got "
                + (f"none of {', '.join(missing)}" if missing else f"those of {len(state['tries'])}")
            )
        for name in FADING:
            vars(self)[name] = np.array(state[name], dtype=np.float64)
        self.visits, self.last = (np.array(state[name], dtype=np.int64) for name in COUNTS)
        rate, spread = (np.array(state[name], dtype=np.float64) for name in ("rate", "spread"))
        self.rate, self.spread = rate if len(rate) else None, spread if len(spread) else None
        now, self.failing, self.passing, self.least, self.most, two, *worth = state["marks"].tolist()
        self.now, self.two_valued = int(now), bool(two)
        self.worth, self.spread_worth, self.more_flat, self.compared = worth


def passes_at(rewards: FloatArray, at: float) -> BoolArray:
    """Which weighted rewards are a pass, of the same shape; one that was not scored, NaN, is none.

    A trainer adds rewards up in 24 bits, where a weight of 0.7 is a little less.

    Args:
        rewards: weighted sums over the reward functions.
        at: the reward from which on an answer passes.

    >>> passes_at(np.array([np.float32(0.7), 0.69, np.nan, 2.0]), 0.7).tolist()
    [True, False, False, True]
    """
    return (rewards >= at) | _same(rewards, np.full_like(rewards, at))


def _same(one: FloatArray, other: FloatArray) -> BoolArray:
    """Which rewards are the same, but for what adding up in another sequence does to them."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(one - other) <= _SAME * np.maximum(1.0, np.maximum(np.abs(one), np.abs(other))))


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    """Part of the whole; NaN where that is 0."""
    return np.asarray(np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0))
