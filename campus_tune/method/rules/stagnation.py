"""Stagnation: the probes no longer gain, and they are precise enough to say so.

A gain is counted per learning-rate mass, or every decaying rate would end in stagnation: the fall over a window is
multiplied by

    factor = (steps of the window ÷ steps of the run) ÷ mass of the window

which is 1 where the window's mean rate is the run's, and gives what the window would have gained at that rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from campus_tune.method.estimates import Estimate, weighed_sum
from campus_tune.method.firing import Firing, Kind
from campus_tune.method.probe_history import KEPT, ProbeHistory
from campus_tune.method.rules.base import LEVEL, RULES, Rule, Seen, Shown, Then, Times
from campus_tune.words.leaves import Range

LEAST_LEFT = 0.1  # of a run's learning-rate mass: with less left, nothing done about it would show


@RULES.register("stagnation")
@dataclass(frozen=True)
class Stagnation(Rule):
    """The relative gain of the probes over the last measurements is less than `least`, and surely so.

    By the upper bound of the gain, paired over rows, at 0.05 over the looks of the whole run, by the pace of the last
    ones: nothing has to hold twice here, and by the looks so far a run that gained just enough stagnated in 17 of 100
    cases. Probes that are merely noisy are not stagnant, and few rows never show it. Silent when less than a tenth of
    the run's learning-rate mass is left.

    Args:
        window: measurements that a gain is over.
        least: relative fall of the loss over a window, at the run's mean learning rate, that is still a gain.
        probe: domain of the probes; None for all, each with its share.
        then: what is done about it: an action, or a list of them in sequence.
        times: firings at most, at least `window` measurements apart.
    """

    kind: ClassVar[Kind] = "stagnation"

    window: Annotated[int, Range(1, KEPT - 1)] = 4
    least: Annotated[float, Range(0, 1, "()")] = 0.005
    probe: str | None = None
    then: Then = ("note",)
    times: Times = 2

    @property
    def names_a_domain(self) -> bool:
        """Where it watches a single one."""
        return self.probe is not None

    @property
    def apart(self) -> int:
        """A window."""
        return self.window

    def judge(self, shown: Shown) -> list[Firing]:
        """One firing, if it is so."""
        measured = shown.history.measured
        if not len(measured) or 1 - measured.last.mass < LEAST_LEFT:
            return []
        shares = shown.shares if self.probe is None else {self.probe: 1.0}
        gain = gain_of(measured, shares, self.window, shown.total_steps)
        if gain is None:
            return []
        steps = measured.last.step - measured.measurements[-1 - self.window].step
        looks = max(len(measured) - self.window, self.window * shown.total_steps / steps)
        upper = gain.upper(LEVEL / looks)
        return self.fired(shown, self.probe, Seen(gain.value, upper, self.least)) if upper < self.least else []


def gain_of(measured: ProbeHistory, shares: Mapping[str, float], window: int, total_steps: int) -> Estimate | None:
    """Relative fall of the loss over the last measurements, as it would have been at the run's mean learning rate.

    Of several domains the mean of their relative falls by shares: nats of different domains are not on one scale.

    Args:
        measured: the probes.
        shares: domain → how much it counts.
        window: measurements, from 1 to `KEPT` − 1.
        total_steps: of the run.

    Returns:
        None where a domain that counts was not measured so long, or where nothing was trained between.
    """
    falls = {name: measured.fall(name, window) for name, share in shares.items() if share > 0}
    known = {name: fall for name, fall in falls.items() if fall is not None}
    if not known or len(known) < len(falls):
        return None
    first, last = measured.measurements[-1 - window], measured.last
    steps, mass = (last.step - first.step) / total_steps, last.mass - first.mass
    if steps <= 0 or mass <= 0:
        return None
    return weighed_sum([(shares[name], fall) for name, fall in known.items()]).scaled(steps / mass)
