"""Regression: a domain's loss is above the best level that it had, and surely so; and that it has recovered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from campus_tune.method.firing import Firing, Kind
from campus_tune.method.rules.base import LEVEL, RULES, Rule, Seen, Shown, Then, Times, firing
from campus_tune.words.leaves import Range


@RULES.register("regression")
@dataclass(frozen=True)
class Regression(Rule):
    """A domain has forgotten: its loss is above its best level by more than `over`, `hold` measurements in a row.

    By the lower bound of the relative rise, paired over rows, at 0.05 over the domains and over the measurements so
    far: the best level is the luckiest of as many.

    A domain has `recovered`, which is a firing of its own and ends what `review` does, when the upper bound of its rise
    is below `over`, or when it is back at its best level: with few rows no bound ever is, and what this ends is mild.

    Args:
        over: relative rise over the best level, the mean of the best three neighbouring measurements.
        hold: measurements in a row.
        then: what is done about it: an action, or a list of them in sequence.
        times: firings at most for each domain, at least `hold` measurements apart.
    """

    kind: ClassVar[Kind] = "regression"

    over: Annotated[float, Range(0, 10, "[)")] = 0.02
    hold: Annotated[int, Range(1, 100)] = 2
    then: Then = ("note",)
    times: Times = 2

    @property
    def apart(self) -> int:
        """As many as it looks at."""
        return self.hold

    @staticmethod
    def level(n_domains: int) -> float:
        """What all looks at one of the domains share: the chance that it is said to have regressed and has not."""
        return LEVEL / n_domains

    def judge(self, shown: Shown) -> list[Firing]:
        """A firing for each domain that has regressed, or recovered."""
        measured = shown.history.measured
        if not len(measured):
            return []
        return [one for name in sorted(measured.last.rise) for one in self._of(shown, name)]

    def _of(self, shown: Shown, name: str) -> list[Firing]:
        held = [one for one in shown.history.measured.measurements[-self.hold :] if name in one.rise]
        if len(held) < self.hold:
            return []
        level = self.level(len(shown.history.measured.last.loss)) / len(shown.history.measured)
        rise, upper = held[-1].rise[name], held[-1].rise[name].upper(LEVEL)
        if all(one.rise[name].lower(level) > self.over for one in held):
            return self.fired(shown, name, Seen(rise.value, rise.lower(level), self.over))
        back = upper < self.over or rise.value <= 0
        past = self.past(shown.history, name) + self.past(shown.history, name, "recovered")
        if not back or not past or max(past, key=lambda one: one.measurement).kind != self.kind:
            return []
        times = len(self.past(shown.history, name, "recovered")) + 1
        return [firing(shown, "recovered", "recovered", name, Seen(rise.value, upper, self.over), ("note",), times)]
