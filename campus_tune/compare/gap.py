"""The generalisation gap of a run: how much worse the model is at held-out rows than at rows that it was trained on.

    gap = loss of the test rows − loss of trained rows        nats per token, both in eval mode after the last step
    grown = gap − what it was before the first step

Some rows are harder than others before anything is learned, so the gap alone may be no more than another draw of
rows: `grown` is the part that came with training. Some are easier to learn than others, too, so it can be negative, and
its standard error over rows says how far it is the draw. That is the same for all arms, which are asked about the same
rows: their difference is what a comparison can read. Both are taken by domain, and all together with the domains
counted as the test rows are, so that another mixture of the training set is no gap.

What it is not: a verdict. A run that learned more has a larger gap as a rule, and a lower test loss; the test loss
decides. Rows of the last steps are remembered best, so a recipe that ends with some domain shows it there. And
a training row that has a twin among the test rows makes it small.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from campus_tune.evaluate.paired import paired
from campus_tune.words.types import IntArray, Json, RowLosses

FEWEST = 10  # rows of a domain on either side, below which it has no gap


class BeforeAfter(NamedTuple):
    """Rows as they were measured twice."""

    domains: Sequence[str]  # of each
    before: RowLosses  # the first step
    after: RowLosses  # the last one

    def take(self, places: IntArray) -> BeforeAfter:
        """Some of them, by place."""
        return BeforeAfter([self.domains[i] for i in places], self.before.take(places), self.after.take(places))


def sample_rows(domains: Sequence[str], wanted: Mapping[str, int], *, seed: int = 0) -> IntArray:
    """Training rows for a gap: of each domain as many as are wanted, or all of them. The same for every arm and seed.

    >>> sample_rows(["a", "b", "a", "c", "a"], {"a": 2, "b": 4}).tolist()
    [0, 1, 4]

    Args:
        domains: of each training row.
        wanted: rows of each domain; others are left out.
        seed: of the draw.
    """
    names, rng = np.array(domains, dtype=object), np.random.default_rng(seed)
    drawn = [
        rng.permutation(np.flatnonzero(names == name))[:count].astype(np.int64)
        for name, count in sorted(wanted.items())
    ]
    return np.sort(np.concatenate(drawn)) if drawn else np.zeros(0, dtype=np.int64)


def generalisation_gap(test: BeforeAfter, trained: BeforeAfter) -> Json | None:
    """The gap of one run, see above; None where no domain has ten rows on both sides.

    Args:
        test: rows that were held out.
        trained: rows that this run has trained, of the same domains.

    Returns:
        `value`, `at_start`, `grown`, standard errors over rows of the first and the last, `test` and `trained` (the two
        losses at the end), `rows` (trained ones); with more than one domain `domains`, the same of each.
    """
    parts: dict[str, Json] = {}
    tokens: dict[str, int] = {}
    for name in sorted(set(test.domains)):
        sides = [
            one.take(np.flatnonzero([domain == name for domain in one.domains]).astype(np.int64))
            for one in (test, trained)
        ]
        if min(len(one.domains) for one in sides) >= FEWEST:
            parts[name], tokens[name] = gap_of_one(*sides), int(sides[0].after.tokens.sum())
    if not parts:
        return None
    total = sum(tokens.values())
    share = {name: count / total for name, count in tokens.items()}
    told: Json = {
        key: sum(share[name] * part[key] for name, part in parts.items())
        for key in ("value", "at_start", "grown", "test", "trained")
    }
    for key in ("stderr", "grown_stderr"):
        told[key] = math.hypot(*(share[name] * part[key] for name, part in parts.items()))
    told["rows"] = sum(part["rows"] for part in parts.values())
    return {**told, "domains": parts} if len(parts) > 1 else told


def gap_of_one(test: BeforeAfter, trained: BeforeAfter) -> Json:
    """The gap of rows that are all of one domain.

    Args:
        test: rows that were held out, at least two.
        trained: rows that were trained, likewise.
    """
    sides = [(one.before.per_row(), one.after.per_row(), one.after.tokens) for one in (test, trained)]
    changes = [paired(before, after, tokens) for before, after, tokens in sides]
    ends = [paired(np.zeros(len(after)), after, tokens) for _, after, tokens in sides]
    value, at_start = (ends[0].mean_b - ends[1].mean_b, changes[0].mean_a - changes[1].mean_a)
    return {
        "value": value,
        "at_start": at_start,
        "grown": value - at_start,
        "stderr": math.hypot(*(end.stderr or 0.0 for end in ends)),
        "grown_stderr": math.hypot(*(change.stderr or 0.0 for change in changes)),
        "test": ends[0].mean_b,
        "trained": ends[1].mean_b,
        "rows": len(trained.domains),
    }
