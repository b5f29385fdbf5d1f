"""Made-up records of runs whose stages have rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from campus_tune.method.estimates import Estimate
from campus_tune.method.firing import Firing
from campus_tune.method.probe_history import Measurement, ProbeHistory
from campus_tune.method.view import History, PastStage


def measured(losses: Mapping[int, float | Mapping[str, float]], rows: int = 30) -> ProbeHistory:
    """Measurements of the probes before these stages; a number is the loss of one domain."""
    found = []
    for stage, loss in losses.items():
        by_domain = loss if isinstance(loss, Mapping) else {"all": loss}
        estimates = {name: Estimate(value, 0.1, rows) for name, value in by_domain.items()}
        found.append(Measurement(stage, 10 * stage, 0.01 * stage, 0.01 * stage, 100 * stage, estimates, {}))
    return ProbeHistory(found)


def past(chosen: Sequence[str], offered: Sequence[str] = ("a", "b", "c"), **of_each: Sequence[Any]) -> list[PastStage]:
    """Stages with one choice each; learning rate times tokens is 1 where `lr_tokens` does not say it of each."""
    given = {"lr_tokens": [1.0] * len(chosen), **of_each}
    given |= {"offered": of_each.get("offers", [offered] * len(chosen))}
    given.pop("offers", None)
    return [
        PastStage(i, name, 10 * (i + 1), **{key: values[i] for key, values in given.items()})
        for i, name in enumerate(chosen)
    ]


def earning(gains: Sequence[float | None], chosen: Sequence[str], offered: Sequence[str] = ("a", "b", "c")) -> History:
    """A run whose stages gained this of their own."""
    return History(past(chosen, offered, own_gain=gains))


def rolled_back(measurement: int) -> Firing:
    """A regression, answered by putting back weights, seen at this measurement."""
    return Firing("regression", "regression", "all", measurement, measurement, 10, 0.1, 0.1, 0.1, 0.0, ("rollback",))
