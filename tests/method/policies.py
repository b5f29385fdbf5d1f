"""Any policy over a small set of rows, a made-up book beside it, and the loop that a run makes of them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from campus_tune.method.apart import Apart
from campus_tune.method.book import Book
from campus_tune.method.cells import Cells
from campus_tune.method.curriculum import Curriculum, Schedule, Stage
from campus_tune.method.pacing import build_pacing
from campus_tune.method.policy import Period, Policy
from campus_tune.method.review import Review
from campus_tune.method.shares import SharePhase
from campus_tune.method.thin import Thin
from campus_tune.method.thinning import MeasureRows
from campus_tune.words.types import FloatArray, RowArray, RowLosses

NAMES = ("math", "code", "chat", "text")


def made_up(stage: int, n: int) -> RowLosses:
    """What training shows of the `n` rows of a stage."""
    rng = np.random.default_rng([7, stage])
    tokens = rng.integers(1, 9, n)
    zeros = np.zeros(n)
    return RowLosses(rng.random(n) * 3 * tokens, tokens, zeros.astype(np.int64), zeros, rng.random(n) * tokens)


def measured(rows: RowArray) -> FloatArray:
    """Fresh scores of some rows."""
    return np.asarray(np.sin(rows * 1.7 + 1) + 1, dtype=np.float64)


@dataclass
class Life:
    """A curriculum, its book, and all that was opened."""

    curriculum: Curriculum
    book: Book
    measure: MeasureRows | None = None
    stages: list[Stage] = field(default_factory=list)
    shown: list[tuple[int, RowArray]] = field(default_factory=list)  # stages that the book has taken

    @property
    def apart(self) -> Apart:
        assert self.curriculum.apart is not None
        return self.curriculum.apart

    def fold(self, stage: int, rows: RowArray) -> None:
        """The book takes a stage."""
        self.book.update(stage, rows.astype(np.int64), made_up(stage, len(rows)), 1 + np.arange(len(rows)))
        self.shown.append((stage, rows))

    def step(self) -> None:
        """One optimizer step, opening a stage where one is due."""
        made = self.curriculum
        if made.needs_decision:
            past = made.stage
            if past is not None and len(past.rows) and all(past.index != stage for stage, _ in self.shown):
                self.fold(past.index, past.rows)
            offers = made.offers()
            self.stages.append(made.open(offers[made.n_stages % len(offers)] if offers else None, self.measure))
        made.advance()

    def run(self) -> list[Stage]:
        """To the end."""
        while not self.curriculum.finished:
            self.step()
        return self.stages


def lived(
    policy: Policy, book: Book | None = None, *, n_orders: int = 2, batch: int = 4, steps: int = 60, **schedule: Any
) -> Life:
    """A curriculum under a policy at its first step."""
    settings = {"pacing": build_pacing("root"), "stages": 5, **schedule}
    n = policy.n_rows
    orders = {name: np.random.default_rng([n, k]).permutation(n).astype(np.int32) for k, name in enumerate("abc")}
    orders = dict(list(orders.items())[:n_orders])
    made = Curriculum(Schedule(**settings), orders, n_rows=n, global_batch=batch, total_steps=steps, policy=policy)
    return Life(made, book or Book(n))


def anything(seed: int, **fixed: Any) -> Life:
    """Any life: every part of a policy, on or off, over any schedule. `fixed` holds fields of the policy still."""
    rnd, rng = random.Random(seed), np.random.default_rng(seed)
    n = rnd.randint(8, 90)
    batch = rnd.randint(1, min(12, n // 2))
    domains = rng.permutation(np.arange(n) % rnd.randint(1, 4))
    names = NAMES[: int(domains.max()) + 1]
    bands = rnd.choice([1, 2]) if n > 4 * len(names) else 1
    cells = Cells.cut(rng.random(n), domains=domains, domain_names=names, bands=bands)
    book = Book(n, cells=cells.codes)
    of, strata = rnd.choice([(domains, names), (cells.codes, cells.names), (None, ("all rows",))])
    metric = rng.random(n)

    def shares() -> FloatArray:
        drawn = np.array([rnd.choice([0, 0.1, 1, 3]) for _ in strata]) + np.eye(len(strata))[0] * 0.1
        return np.asarray(drawn / drawn.sum(), dtype=np.float64)

    def most_of(share: float) -> Any:
        rows = rng.random(n) < share
        return rows if np.count_nonzero(rows & ~gone) >= batch else None

    gone = np.zeros(n, dtype=np.bool_)
    kept = most_of(0.7) if rnd.random() < 0.3 else None
    gone = gone if kept is None else ~kept
    how = rnd.choice(["top", "proportional", "rank", "prune"])
    knobs = {"drop": rnd.choice([0.5, 0.9])} if how == "prune" else {"keep": rnd.choice([0.3, 0.5, 1.0])}
    if how == "proportional":
        knobs["gate"] = rnd.choice([None, 1.1])
    thin = Thin(how, rnd.choice(["seen_loss", "metric"]), fresh=rnd.random() < 0.3, until=rnd.choice([1, 0.8]), **knobs)
    first = Period(
        SharePhase(0.4, rnd.choice([None, shares()]), 0.1),
        offer=rnd.choice([None, ("a",), ()]),
        mix=rnd.choice([None, 0.3]),
        top=most_of(0.6),
    )
    whole = {
        "strata": of,
        "strata_names": strata,
        "domains": domains,
        "domain_names": names,
        "cells": cells,
        "shares": rnd.choice([None, shares()]),
        "follow": rnd.choice([None, None, "seen_loss", "progress"]),
        "periods": rnd.choice([(), (first, Period(SharePhase(1.0, rnd.choice([None, shares()]))))]),
        "thin": rnd.choice([None, thin]),
        "review": rnd.choice([None, Review(rnd.choice([0.1, 0.3, 0.6]), rnd.choice(["spacing", "uniform"]))]),
        "dropped": None if kept is None else ~kept,
        "control": rnd.choice([None, "shuffled_scores"]),
        "scores": lambda name: metric if name == "metric" else book.score(name),
        "book": book,
    }
    life = lived(
        Policy(n, **{**whole, **fixed}),
        book,
        n_orders=rnd.randint(0, 3),
        batch=batch,
        steps=rnd.randint(1, 5 * n // batch + 1),
        stages=rnd.randint(1, 8),
        window=rnd.choice(["prefix", "slice"]),
        coverage=rnd.choice(["exact", "revisit"]),
        mix=rnd.choice([0.0, 0.2, 0.5, 0.9]),
        handover=rnd.choice([1.0, 0.6, 0.0]),
        seed=seed % 5,
    )
    life.measure = rnd.choice([None, measured])
    return life
