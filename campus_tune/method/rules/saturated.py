"""Saturation: rows that come again are known by heart, so that repeating them is used up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from campus_tune.method.estimates import quantile
from campus_tune.method.firing import Firing, Kind
from campus_tune.method.rules.base import LEVEL, RULES, Rule, Seen, Shown, Then, Times
from campus_tune.method.view import History
from campus_tune.words.leaves import Range


@RULES.register("saturated")
@dataclass(frozen=True)
class Saturated(Rule):
    """The model's most likely tokens are the answers' of nearly all rows that it trains again, `hold` stages in a row.

    Of training, and free: the rows of a stage that had been trained before, in the very forwards that train them. By
    the lower 95 % bound of Wilson's interval over their tokens, so that a stage that repeats a handful of rows says
    nothing: at 0.99, 268 tokens all right are the fewest that show it.

    Args:
        at: token accuracy, a share.
        hold: stages in a row.
        then: what is done about it: an action, or a list of them in sequence; not `review` or `raise`, which are of a
            domain.
        times: firings at most, at least `hold` stages apart.

    Reference:
        2602.11149, where a token accuracy near 1 is the sign that repetition is used up. *Differs from the paper*:
        tokens of the rows that come again, by stages; tokens count as independent, which they are not quite.
    """

    kind: ClassVar[Kind] = "saturated"

    at: Annotated[float, Range(0, 1, "(]")] = 0.99
    hold: Annotated[int, Range(1, 100)] = 2
    then: Then = ("note",)
    times: Times = 1

    @property
    def names_a_domain(self) -> bool:
        """It is of training as a whole."""
        return False

    @property
    def apart(self) -> int:
        """As many as it looks at; stages, here."""
        return self.hold

    def rests(self, history: History, last: Firing) -> bool:
        """Too few stages have ended since."""
        return len(history.stages) - last.stage < self.apart

    def judge(self, shown: Shown) -> list[Firing]:
        """One firing, if it holds."""
        stages = shown.history.stages[-self.hold :]
        bounds = [wilson(*stage.again) for stage in stages]
        if len(stages) < self.hold or min(bounds) < self.at:
            return []
        hits, tokens = stages[-1].again
        return self.fired(shown, None, Seen(hits / tokens, bounds[-1], self.at))


def wilson(hits: int, tokens: int) -> float:
    """The lower 95 % bound of a share by Wilson's interval: where 1.645 of *its own* standard errors reach the share.

    >>> round(wilson(268, 268), 5), round(wilson(95, 100), 4), wilson(0, 0)
    (0.99001, 0.9008, 0.0)

    Args:
        hits: of the tokens.
        tokens: at least 0; of none nothing is known, and the bound is 0.
    """
    if tokens == 0:
        return 0.0
    z, p = quantile(1 - LEVEL, 0), hits / tokens
    middle = p + z * z / (2 * tokens)
    half = z * math.sqrt(p * (1 - p) / tokens + (z / (2 * tokens)) ** 2)
    return (middle - half) / (1 + z * z / tokens)
