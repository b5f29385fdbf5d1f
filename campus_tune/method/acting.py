"""Acting: once in a run the rows that look wrong are left out. When that is, and which rows go.

It waits until every row was seen once, for what was never trained is known nothing of; a run that ends before leaves
out none. No more go than a share of all rows, than half of each domain, and than leave every step to come full. With
`act: auto` it waits for a sign that rows are wrong, too, and lets a tenth of the rows be in any case (`earned`).

>>> acting = Acting(at_most=0.5)
>>> losses = Suspicion(np.array([0.0, 9.0, 5.0, 7.0]), np.zeros(4), np.array([False, True, False, True]), 6.0)
>>> acting.named(losses).tolist(), Acting(0.5, act="always").named(losses).tolist()
([1, 3], [1, 3])
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from campus_tune.method.curriculum import Curriculum
from campus_tune.method.drop import Bounded, at_random, bounded
from campus_tune.method.suspicion import Suspicion
from campus_tune.words.types import BoolArray, IntArray, RowArray

Way: TypeAlias = Literal["found", "auto", "always", "never"]
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Acting:
    """What is done about suspects, and when.

    Args:
        at_most: share of all rows that may go.
        since: progress from which they do.
        act: found (those that the rule calls suspects), auto (the same, once there is a sign that rows are wrong),
            always (the `at_most` share of the highest scores), never (nobody goes, but it is said who would).
    """

    at_most: float = 0.2
    since: float = 0.5
    act: Way = "found"

    def due(self, curriculum: Curriculum) -> bool:
        """At the end of a stage: it is late enough, every row was seen, and there is something left to train."""
        late = curriculum.step >= self.since * curriculum.total_steps - _ROUNDING
        return late and not curriculum.finished and not unseen(curriculum).any()

    def named(self, suspicion: Suspicion, spared: BoolArray | None = None) -> RowArray:
        """The rows that would go if nothing bounded them, worst first; none of the spared ones, shape (N,)."""
        worst = suspicion.worst_first
        if spared is not None:
            worst = worst[~spared[worst]]
        if self.act == "always":
            return worst[: int(self.at_most * len(suspicion.score) + _ROUNDING)]
        return worst[suspicion.suspects[worst]]

    def choose(self, suspicion: Suspicion, curriculum: Curriculum, spared: BoolArray | None = None) -> Bounded:
        """The rows that go, worst first, and what the others owe their stay to.

        Rows that were dropped before do not count, but for their domain, half of which stays.

        Args:
            suspicion: what training has shown of the rows.
            curriculum: under a policy, between two stages.
            spared: rows that stay in any case, shape (N,); None for none.
        """
        apart = curriculum.apart
        assert apart is not None, "a recipe that drops rows has a policy"
        policy = apart.policy
        found = bounded(
            self.named(suspicion, spared),
            policy.n_rows,
            at_most=self.at_most,
            domains=policy.domain_codes,
            dropped=policy.dropped,
        )
        rows = found.rows[: apart.most_left_out(found.rows)]
        return Bounded(rows, found.wanted, found.by_domain, found.by_share + len(found.rows) - len(rows))


def unseen(curriculum: Curriculum) -> BoolArray:
    """Rows that were never trained although nothing dropped them, shape (N,)."""
    never: BoolArray = curriculum.passes.seen == 0
    dropped = None if curriculum.apart is None else curriculum.apart.policy.dropped
    return never if dropped is None else never & ~dropped


def drawn_instead(
    rows: RowArray,
    curriculum: Curriculum,
    cells: IntArray | RowArray,
    *,
    seed: int,
    spared: BoolArray | None = None,
) -> RowArray:
    """As many rows of each cell at random, of those that can be drawn: the control.

    Args:
        rows: that would go.
        curriculum: under a policy.
        cells: of each row, shape (N,).
        seed: of the draw.
        spared: rows that stay in any case, shape (N,); None for none.
    """
    assert curriculum.apart is not None, "a recipe that drops rows has a policy"
    gone = curriculum.apart.policy.dropped
    if spared is not None:
        gone = spared if gone is None else gone | spared
    wanted = np.zeros(len(cells), dtype=np.bool_)
    wanted[rows] = True
    drawn = at_random(wanted, cells, seed=seed, gone=gone)
    return np.flatnonzero(drawn).astype(np.int32)
