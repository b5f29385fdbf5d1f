"""Milestones: a probe has reached what a recipe names, or training has nothing left to learn from rows that it repeats.

A milestone is met when the confidence bound is on the right side, not when the mean is: probe rows are a sample.

>>> from campus_tune.method.estimates import Estimate
>>> fractions = Milestone("fractions", "math", loss=0.80)
>>> for stderr in (0.03, 0.01):
...     now = Measurement(0, 0, 0.0, 0.0, 0, {"math": Estimate(0.78, stderr)}, {})
...     print(round(fractions.reading(now).bound, 3), already_met(fractions, now))
0.829 False
0.796 True
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from campus_tune.method.firing import Firing, Kind
from campus_tune.method.probe_history import Measurement
from campus_tune.method.rules.base import LEVEL, RULES, Rule, Seen, Shown, Then, Times
from campus_tune.words.leaves import Range

_MOST = 50.0  # e^50 times a loss is a bound that no target is above


@RULES.register("milestone")
@dataclass(frozen=True)
class Milestone(Rule):
    """A probe is on the right side of a target, `hold` measurements in a row.

    By the one-sided 95 % bound of the mean over probe rows: 0.78 ± 0.03 against a loss of 0.80 has the bound 0.829 and
    is not met, ± 0.01 has 0.796 and is. Later looks share the level. A competence c is a loss of −ln c.

    Args:
        name: of the milestone, as events tell it.
        probe: domain of the probes.
        loss: target, nats per token; exactly one of the three is given.
        competence: target, in (0, 1).
        accuracy: target, the share of answer tokens that are the model's most likely ones.
        hold: measurements in a row.
        then: what is done about it: an action, or a list of them in sequence.
        times: firings at most.
    """

    kind: ClassVar[Kind] = "milestone"

    name: str
    probe: str
    loss: Annotated[float | None, Range(0, 1000, "(]")] = None
    competence: Annotated[float | None, Range(0, 1, "()")] = None
    accuracy: Annotated[float | None, Range(0, 1, "(]")] = None
    hold: Annotated[int, Range(1, 100)] = 2
    then: Then = ("note",)
    times: Times = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [name for name in ("loss", "competence", "accuracy") if getattr(self, name) is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none of them"
            raise ValueError(
                f"milestone {self.name!r} must have exactly one of loss, competence, accuracy, got {got}. "
                "Write for example loss: 0.8."
            )

    @property
    def label(self) -> str:
        """Its own name."""
        return self.name

    @property
    def apart(self) -> int:
        """As many as it looks at."""
        return self.hold

    def reading(self, measurement: Measurement, looks: int = 1) -> Seen | None:
        """What a measurement says of its probe; None where there is no such domain.

        The bound of a loss whose rows are known is `loss·exp(t·stderr/loss)`: row losses are skewed, and a plain bound
        of eight of them is wrong twice as often as it says.

        Args:
            measurement: of the probes.
            looks: that share the level.
        """
        if self.probe not in measurement.loss:
            return None
        loss, level = measurement.loss[self.probe], LEVEL / looks
        if self.accuracy is not None:
            accuracy = measurement.accuracy[self.probe]
            return Seen(accuracy.value, accuracy.lower(level), self.accuracy)
        upper = loss.upper(level)
        if loss.n and loss.value > 0:
            upper = loss.value * math.exp(min(_MOST, upper / loss.value - 1))
        if self.competence is not None:
            return Seen(math.exp(-loss.value), math.exp(-upper), self.competence)
        return Seen(loss.value, upper, float(self.loss or 0))

    def met(self, seen: Seen | None) -> bool:
        """The bound is on the right side."""
        if seen is None:
            return False
        return seen.bound <= seen.against if self.loss is not None else seen.bound >= seen.against

    def judge(self, shown: Shown) -> list[Firing]:
        """One firing, if it is met."""
        measured = shown.history.measured
        held = [self.reading(one, len(measured)) for one in measured.measurements[-self.hold :]]
        if len(held) < self.hold or held[-1] is None or not all(self.met(seen) for seen in held):
            return []
        return self.fired(shown, self.probe, held[-1])


def already_met(rule: Milestone, measurement: Measurement) -> bool:
    """Whether the start model meets a milestone: by its one measurement, whatever `hold` asks for."""
    return rule.met(rule.reading(measurement))
