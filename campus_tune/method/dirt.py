"""Dirt: how many rows are wrong, overall and by domain, with an interval, from the record of training alone.

What training has shown gives each row a score z: how far it lies above the middle of its kind (`suspicion`), from the
median of all, in their distances from the lower quarter to the median, which wrong rows move least. Scores are a
mixture

    f(z) = (1 − π) · clean(z) + π · wrong(z)
    clean = (1 − h) · N(c, s; ρ) + h · N(c, 2.2 s; ρ)         wrong = N(μ, σ)

N(c, s; ρ) is a normal that is ρ times as wide above c as below it: it is symmetric, or leans a little to either side.
Wrong rows lie above, μ ≥ c + 2.5 s, and are about as wide as 0.8 to 2.2 clean ones. For every share π in a list, and
each ρ, the other numbers are fitted by expectation and maximisation (`fitted`); the prior says of a wrong row what
forty such rows would: μ = c + 3.4 s, σ = 1.9 s. The share is where the likelihood L is highest, and its interval

    { π : 2 (L(π̂) − L(π)) · 1 / (1 + n / 2000) ≤ 3.84 }

for a model that is nearly right is no better for more rows: however many there are, they say no more than 2000 would.
Both ends are a tenth of themselves further out, a quarter where rows were seen once: the model is wrong by so much.

**Is a suspect still one when the model has seen it again?** What is wrong is so at every visit; what is hard is
learned. Where most rows were seen twice, the same is done with z / √(1 + spread²), which is small where the passes
of a row disagree, and the interval holds both. Where they were seen once nothing tells the two apart: clean scores may
lean to the right by more.

**None are to be seen** (`low` is 0) where 2 (L(π̂) − L(0)) · 1 / (1 + n / 2000) is 8 at most, 20 where rows were seen
once, and 2 ln D more for each of D domains.

What is counted are rows whose answers stand out as wrong answers of their kind do. Answers that a model finds likely
(a weaker model's own) or half right (cut off in the middle) do not: of those it is a lower bound, and no interval holds
them.

Reference:
    Patra, Sen 2016, Estimation of a Two-component Mixture Model with Applications to Multiple Testing
    (arXiv 1204.5488): without an assumption on the wrong part only a lower bound of the share can be known.

    *Differs*: we assume one, and say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from campus_tune.method.suspicion import Suspicion
from campus_tune.words.types import BoolArray, FloatArray, IntArray, Json, RowArray

EDGES = np.linspace(-8.0, 12.0, 101)  # of bins of standard scores; what lies beyond is in the last ones
BINS = (EDGES[:-1] + EDGES[1:]) / 2
SHARES = np.append(0.0, np.geomspace(0.002, 0.5, 30))  # of wrong rows: more than half cannot be told from the others
LEANS, LEANS_ONCE = (0.85, 1.0, 1.15), (0.85, 1.0, 1.3)  # how much wider above than below; where rows were seen once
WIDE = 2.2  # times as wide: the clean rows that are far out
GAP, FAR, BROAD = 2.5, 3.4, 1.9  # of wrong rows, in clean widths: least distance, the usual one, the usual width
NARROWEST, BROADEST = 0.8, 2.2
PRIOR = 40  # wrong rows, as many of which the usual ones count
ROUNDS = 100
ENOUGH = 2000  # rows, more than which the model's own error does not let speak
WITHIN = 3.84  # twice the log likelihood, of an interval's ends
CLEARLY, CLEARLY_ONCE = 8.0, 20.0  # the same, up to which a share of 0 stays
OFF, OFF_ONCE = 0.1, 0.25  # of a share: by so much the model itself may be wrong
LEAST_ROWS = 50  # less than which are not judged
MOST_DOMAINS = 20  # that are judged by themselves, the largest ones: each takes a second


@dataclass(frozen=True)
class Dirt:
    """How many rows of a set are wrong.

    Args:
        rows: that were judged.
        share: of them that are wrong, best guess.
        low: lower end of a 95 % interval; 0 where no wrong rows are to be seen.
        high: its upper end.
        by_domain: the same of each domain's rows; {} without domains.
    """

    rows: int
    share: float
    low: float
    high: float
    by_domain: Mapping[str, Dirt] = field(default_factory=dict)

    @property
    def seen(self) -> bool:
        """Whether there are wrong rows to be seen."""
        return self.low > 0

    def to_mapping(self) -> Json:
        """As JSON: rows, share, low, high, seen, and by_domain, which has the same of each domain."""
        told = {"rows": self.rows, "share": self.share, "low": self.low, "high": self.high, "seen": self.seen}
        return told | ({"by_domain": {name: one.to_mapping() for name, one in self.by_domain.items()}})

    @staticmethod
    def from_mapping(told: Json) -> Dirt:
        """What `to_mapping` said."""
        of_domains = {name: Dirt.from_mapping(one) for name, one in told.get("by_domain", {}).items()}
        return Dirt(told["rows"], told["share"], told["low"], told["high"], of_domains)


def estimate_dirt(
    suspicion: Suspicion,
    *,
    domains: IntArray | RowArray | None,
    names: Sequence[str],
    among: BoolArray | None = None,
) -> Dirt:
    """How many rows are wrong.

    Where a quarter of the rows have one and the same score nothing is said, as of less than fifty of them; domains that
    are so small, and all but the twenty largest, are judged with all others only.

    Args:
        suspicion: of losses seen before anything was done about them (`suspicion.of_training`).
        domains: of each row, from 0, shape (N,); None for no domains.
        names: of the domains.
        among: rows that are judged, such as those that were never acted on, shape (N,); None for all of them.
    """
    judged = np.isfinite(suspicion.score)
    if among is not None:
        judged &= among
    score, spread = suspicion.score[judged], suspicion.spread[judged]
    whole = _of_scores(score, spread)
    if domains is None or len(names) < 2:
        return whole
    code = np.asarray(domains)[judged]
    sizes = np.bincount(code, minlength=len(names))
    largest = np.argsort(-sizes, kind="stable")[:MOST_DOMAINS]
    by_domain = {}
    for number, name in enumerate(names):
        if number in largest and sizes[number] >= LEAST_ROWS:
            mine = code == number
            by_domain[name] = _of_scores(score[mine], spread[mine], times=len(names))
    return Dirt(whole.rows, whole.share, whole.low, whole.high, by_domain)


def _of_scores(score: FloatArray, spread: FloatArray, *, times: int = 1) -> Dirt:
    """How many of these rows are wrong; `times` is how often such a question is asked of one record."""
    n = len(score)
    z, unit = standard(score) if n >= LEAST_ROWS else (score, 0.0)
    if unit == 0:
        return Dirt(n, 0.0, 0.0, float(SHARES[-1]))
    twice = np.isfinite(spread)
    again = 2 * np.count_nonzero(twice) > n
    views = [z]
    if again:
        apart = np.where(twice, spread, 0.0) / unit
        views.append(standard(z / np.sqrt(1 + apart**2))[0])
    leans, clearly, off = (LEANS, CLEARLY, OFF) if again else (LEANS_ONCE, CLEARLY_ONCE, OFF_ONCE)
    counts = [np.histogram(np.clip(one, EDGES[0], EDGES[-1]), EDGES)[0].tolist() for one in views]
    found = [_interval(tuple(one), leans, clearly + 2 * np.log(times)) for one in counts]
    low, high = (1 - off) * min(one[0] for one in found), min(1.0, (1 + off) * max(one[2] for one in found))
    return Dirt(n, found[0][1] if low else 0.0, low, high)


def standard(score: FloatArray) -> tuple[FloatArray, float]:
    """(Scores from their median in distances from the lower quarter to it, that distance: 0 where all are alike)."""
    quarter, middle = np.quantile(score, [0.25, 0.5])
    unit = float(middle - quarter)
    return (score - middle) / (unit or 1.0), unit


@lru_cache(maxsize=64)  # the end of a run asks twice: for what waits, and for the map
def _interval(counts: tuple[int, ...], leans: tuple[float, ...], clearly: float) -> tuple[float, float, float]:
    """(Low, share, high) by how many standard scores are in each bin."""
    likelihood = fitted(np.array(counts, dtype=np.float64), leans).max(axis=0)
    best = int(likelihood.argmax())
    behind = 2 * (likelihood[best] - likelihood) / (1 + sum(counts) / ENOUGH)
    inside = np.flatnonzero(behind <= WITHIN)
    low = 0.0 if behind[0] <= clearly else _crossing(behind, int(inside[0]), -1)
    return low, float(SHARES[best]), _crossing(behind, int(inside[-1]), 1)


def _crossing(behind: FloatArray, last: int, way: int) -> float:
    """The share at which an interval ends: between the last one of the list inside of it and the next one."""
    if not 0 <= last + way < len(SHARES):
        return float(SHARES[last])
    part = (WITHIN - behind[last]) / (behind[last + way] - behind[last])
    return float(SHARES[last] + part * (SHARES[last + way] - SHARES[last]))


def fitted(counts: FloatArray, leans: Sequence[float]) -> FloatArray:
    """Log likelihood at each share, at the best that the other numbers can be, shape (leans, shares).

    Args:
        counts: rows in each bin, shape (bins,).
        leans: how much wider clean scores are above their middle than below it, each.
    """
    lean, share = (one.reshape(-1, 1) for one in np.meshgrid(leans, SHARES, indexing="ij"))
    middle, width, outer = np.zeros_like(lean), np.full_like(lean, 1.2), np.full_like(lean, 0.1)
    far, broad = np.full_like(lean, 4.0), np.full_like(lean, 2.0)
    log_likelihood = np.zeros_like(lean)
    for _ in range(ROUNDS):
        side = np.where(middle < BINS, lean, 1.0)
        off = (BINS - middle) / side
        squared = (off / width) ** 2 / 2
        with np.errstate(divide="ignore"):  # a share of 0 has no wrong rows
            clean = np.log(2 * (1 - share) / (width * (1 + lean)))
            parts = np.stack(
                [
                    clean + np.log(1 - outer) - squared,
                    clean + np.log(outer / WIDE) - squared / WIDE**2,
                    np.log(share / broad) - ((BINS - far) / broad) ** 2 / 2,
                ]
            )
        highest = parts.max(axis=0)
        odds = np.exp(parts - highest)
        total = odds.sum(axis=0)
        log_likelihood = ((highest + np.log(total)) * counts).sum(axis=1, keepdims=True)
        # how many rows of each bin are core, outer and wrong; then what each part's own rows say of it
        core, out, wrong = odds / total * counts
        n_core, n_out, n_wrong = (one.sum(axis=1, keepdims=True) for one in (core, out, wrong))
        weight = core + out / WIDE**2
        pull = weight / side**2
        middle = (pull * BINS).sum(axis=1, keepdims=True) / pull.sum(axis=1, keepdims=True)
        width = np.sqrt((weight * off**2).sum(axis=1, keepdims=True) / (n_core + n_out))
        width = np.maximum(width, EDGES[1] - EDGES[0])
        outer = np.clip(n_out / (n_core + n_out), 1e-4, 0.5)
        far = ((wrong * BINS).sum(axis=1, keepdims=True) + PRIOR * (middle + FAR * width)) / (n_wrong + PRIOR)
        far = np.maximum(far, middle + GAP * width)
        around = (wrong * (BINS - far) ** 2).sum(axis=1, keepdims=True)
        broad = np.sqrt((around + PRIOR * (BROAD * width) ** 2) / (n_wrong + PRIOR))
        broad = np.clip(broad, NARROWEST * width, BROADEST * width)
    return np.asarray(log_likelihood.reshape(len(leans), len(SHARES)), dtype=np.float64)
