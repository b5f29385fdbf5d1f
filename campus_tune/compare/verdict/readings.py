"""What else was read off the models at their end, against the baseline: generalisation gap and sharpness, by domain.

No word is said of them: a sharper minimum or a larger gap is no loss that a user has. They are there to be looked at
when the losses have spoken, so each difference has its own 95 % interval over the seeds (Student's t), and none is
corrected for the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from campus_tune.compare.verdict.difference import Difference, of_seeds
from campus_tune.compare.verdict.inputs import READINGS, ArmResults
from campus_tune.words.types import Json


@dataclass(frozen=True)
class LastLook:
    """One number of each model of an arm, against the baseline's.

    Args:
        difference: of all rows together; without an interval of one seed, None where no seed has both.
        domains: the same of each domain.
    """

    difference: Difference | None
    domains: Mapping[str, Difference] = field(default_factory=dict)

    def to_mapping(self) -> Json:
        """The same as strict JSON takes it."""
        return {
            "difference": self.difference and self.difference.to_mapping(),
            "domains": {name: one.to_mapping() for name, one in self.domains.items()},
        }

    @staticmethod
    def from_mapping(given: Json) -> LastLook:
        """What `to_mapping` wrote."""
        domains = {name: Difference.from_mapping(one) for name, one in given["domains"].items()}
        return LastLook(given["difference"] and Difference.from_mapping(given["difference"]), domains)


def compare_readings(arms: Sequence[ArmResults], base: ArmResults) -> dict[str, dict[str, LastLook]]:
    """Reading → arm → what it is, of those that the baseline and some arm have.

    Args:
        arms: all but the baseline.
        base: the baseline.
    """
    found: dict[str, dict[str, LastLook]] = {}
    for name in READINGS:
        for arm in arms:
            known = {
                domain: one
                for kind, domain in base.readings
                if kind == name and (one := difference_of(arm, base, name, domain)) is not None
            }
            if known:
                domains = {domain: one for domain, one in known.items() if domain is not None}
                found.setdefault(name, {})[arm.name] = LastLook(known.get(None), domains)
    return found


def difference_of(arm: ArmResults, base: ArmResults, name: str, domain: str | None) -> Difference | None:
    """One reading of an arm against the baseline's, on the seeds of which both are known; None where there are none.

    Args:
        arm: whose runs.
        base: the baseline.
        name: of the reading.
        domain: whose; None for all rows together.
    """
    if (name, domain) not in arm.readings:
        return None
    seeds = [seed for seed in base.seeds if seed in arm.seeds]
    mine, theirs = (
        one.readings[name, domain][[one.seeds.index(seed) for seed in seeds]] for one in (arm, base)
    )  # each of shape (S,)
    both = np.isfinite(mine) & np.isfinite(theirs)
    if not both.any():
        return None
    mean, against, apart = float(mine[both].mean()), float(theirs[both].mean()), (mine - theirs)[both]
    known = Difference(arm.name, base.name, mean - against, mean=mean, mean_against=against, n_seeds=len(apart))
    return of_seeds(known, apart) if len(apart) > 1 else known
