"""Is the estimate of dirt honest? Records with a known truth, simulated and trained: does its interval hold it?

    python -m eval.dirt simulated                              240 records, a minute or two
    python -m eval.dirt trained runs/suspects runs/dirt        sets that `eval.suspects run` has trained and kept

A simulated record draws everything at random: rows (300 to 20 000), passes (one to three), domains (one to six, of
uneven size, and wrong in uneven shares), what a row's hardness is like (`SHAPES`: normal, heavy on both sides, kinds
of questions that the model cannot answer yet, known by heart, leaning to the hard side), how much of it the lengths of
prompt and answer tell, how fast rows are learned, how much two visits of one row differ, and how far a wrong answer
lies above a right one. Trained sets are the tiny Llama's of `eval/suspects.py`; what they say after one pass is judged
too, from the same visits.

Formulas and constants were decided on seeds 0 (simulated) and 200 to 207 (trained); seeds 1 and 300 on judge them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from campus_tune.method.cells import Cells
from campus_tune.method.dirt import Dirt, estimate_dirt
from campus_tune.method.suspicion import LOG_FLOOR, of_training
from campus_tune.words.types import BoolArray, FloatArray, IntArray

SIZES = (300, 600, 1440, 4000, 20_000)
SHARES = (0.0, 0.0, 0.01, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
SHAPES = ("normal", "heavy", "kinds", "by heart", "hard side")
HELD = ("swapped", "any", "template", "two_answers")  # kinds of wrong answers that an interval is asked to hold


@dataclass(frozen=True, eq=False)
class Record:
    """What a run leaves, and the truth.

    Args:
        rows: of all visits in the sequence of training, shape (V,).
        losses: of each visit, nats per token, shape (V,).
        tokens: of each row's answer, shape (N,).
        prompts: tokens of each row's prompt, shape (N,).
        domain: of each row, shape (N,).
        names: of the domains.
        wrong: which rows are, shape (N,).
    """

    rows: IntArray
    losses: FloatArray
    tokens: IntArray
    prompts: IntArray
    domain: IntArray
    names: Sequence[str]
    wrong: BoolArray

    def passes(self, n: int) -> Record:
        """The same after its first n passes."""
        seen = slice(n * len(self.wrong))
        return Record(**{**vars(self), "rows": self.rows[seen], "losses": self.losses[seen]})

    def dirt(self) -> Dirt:
        """What the estimate says."""
        cells = Cells.cut(self.tokens.astype(np.float64), domains=self.domain, domain_names=self.names)
        suspicion = of_training(
            self.rows,
            self.losses,
            cells.codes,
            len(self.wrong),
            tokens=self.tokens,
            groups=self.domain,
            prompts=self.prompts,
        )
        return estimate_dirt(suspicion, domains=self.domain, names=self.names)


def simulated(rng: np.random.Generator, *, n: int, share: float, shape: str, passes: int) -> Record:
    """A record of a run, all else drawn.

    Args:
        rng: the draws.
        n: rows.
        share: of them that are wrong.
        shape: of their hardness, one of `SHAPES`.
        passes: over all of them, each in a sequence of its own.
    """
    k = int(rng.integers(1, 7))
    domain = rng.choice(k, n, p=rng.dirichlet(np.full(k, 3.0)))
    odds = rng.gamma(2.0, size=k)[domain]  # some domains are dirtier
    wrong = np.zeros(n, dtype=bool)
    wrong[rng.choice(n, round(share * n), replace=False, p=odds / odds.sum())] = True
    tokens = 1 + np.round(np.exp(rng.normal(2.5, 0.6, n) + rng.normal(0, 0.4, k)[domain])).astype(np.int64)
    prompts = 4 + np.round(np.exp(rng.normal(3.2, 0.5, n) + rng.normal(0, 0.4, k)[domain])).astype(np.int64)
    hard = hardness(rng, shape, n)
    told = rng.uniform(0, 0.4, 2)  # of the lengths
    hard += told[0] * np.log(tokens / 12) + told[1] * np.log(prompts / 24) + rng.normal(0, 0.5, k)[domain]
    noise, speed = rng.uniform(0.3, 0.9), rng.uniform(0.1, 0.8)
    far, broad = rng.uniform(2.5, 4.5), rng.uniform(0.8, 1.6)
    above = np.where(wrong, np.maximum(far + broad * rng.standard_normal(n), 0), 0.0)
    base, learns = rng.uniform(-2, 0), np.where(wrong, 0.2, 1.0) * rng.gamma(4.0, 0.25, n)
    rows = np.concatenate([rng.permutation(n) for _ in range(passes)])
    progress = np.log1p(4 * np.arange(passes * n) / n)
    log_loss = base + hard[rows] - speed * progress * learns[rows] + above[rows]
    log_loss += noise * rng.standard_t(6, passes * n)
    losses = np.maximum(np.exp(log_loss) - LOG_FLOOR, 0.0)
    return Record(rows, losses, tokens, prompts, domain, [f"d{i}" for i in range(k)], wrong)


def hardness(rng: np.random.Generator, shape: str, n: int) -> FloatArray:
    """Log losses of n right rows from their middle."""
    core = rng.standard_normal(n)
    if shape == "heavy":
        core = rng.standard_t(5, n)
    elif shape == "kinds":
        core += 1.2 * (rng.random(n) < rng.uniform(0.1, 0.3))
    elif shape == "by heart":
        core = -np.log(rng.gamma(6.0, size=n) / 6) * -2.2
    elif shape == "hard side":
        core = -np.log(rng.gamma(12.0, size=n) / 12) * 3.2
    return np.asarray(core, dtype=np.float64)
