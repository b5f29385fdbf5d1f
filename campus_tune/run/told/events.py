"""What happens in a run that somebody tells of: frozen facts, each with what the ledger's line of it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from campus_tune.method.firing import Firing
from campus_tune.preview.health import ScoreHealth, health_record
from campus_tune.words.types import Json

OTHER_WORLD = "the same rows in every step; sums are rounded in another sequence, and dropout draws other noise"


@dataclass(frozen=True)
class Event:
    """Something that has happened; `name` is that of its line in the ledger."""

    name: ClassVar[str]

    def line(self) -> Json:
        """What the line holds: the event's own fields, unless it says otherwise."""
        return dict(vars(self))


@dataclass(frozen=True)
class Started(Event):
    """A new run: what makes it this run, and how many of its rows are of each domain.

    Args:
        identity: its parts.
        rows_by_domain: of the training set.
        batching: how a step is cut into micro batches, and why so.
        drawn: cells and what is dropped, where the recipe has such.
    """

    name = "run"
    identity: Json
    rows_by_domain: Mapping[str, int]
    batching: Json = field(default_factory=dict)
    drawn: Json = field(default_factory=dict)

    def line(self) -> Json:
        """The identity's parts beside the domains."""
        return {**self.identity, "rows_by_domain": self.rows_by_domain, "batching": self.batching, **self.drawn}


@dataclass(frozen=True)
class Resumed(Event):
    """A run goes on from a checkpoint.

    Args:
        step: optimizer steps finished.
        stage: that is being trained.
        before: processes that wrote the checkpoint.
        now: processes that go on.
        cuts: how steps were cut into micro batches before the checkpoint, and how they are from here on.
        drawn: cells and what is dropped from here on, where the recipe has such and may have changed.
    """

    name = "resumed"
    step: int
    stage: int
    before: int
    now: int
    cuts: tuple[str, str] = ("", "")
    drawn: Json = field(default_factory=dict)

    def line(self) -> Json:
        """How the number of processes changed, and the cut of a step, and what hangs on it."""
        before, now = self.cuts
        differs: Json = {} if before == now else {"cut": {"before": before, "now": now}}
        if differs or self.before != self.now:
            differs["differs"] = OTHER_WORLD
        return {"step": self.step, "world": {"before": self.before, "now": self.now}, **differs, **self.drawn}


@dataclass(frozen=True)
class Warned(Event):
    """What the person should know."""

    name = "warnings"
    warnings: Sequence[str]


@dataclass(frozen=True)
class Scored(Event):
    """The scores of one metric: their five quantiles, and what is noted of them."""

    name = "scores"
    metric: str
    quantiles: list[float]
    notes: Json

    def line(self) -> Json:
        """The notes beside the numbers."""
        return {"metric": self.metric, "quantiles": self.quantiles, **self.notes}


@dataclass(frozen=True)
class Examined(Event):
    """How the scores look, and how much of them was found in the cache (a share of the training compute)."""

    name = "health"
    health: ScoreHealth
    found: float

    def line(self) -> Json:
        """The look alone: what a cache held is no part of a run."""
        return health_record(self.health)


@dataclass(frozen=True)
class Rescored(Event):
    """Rows that wait were scored anew, and orders sorted again."""

    name = "rescored"
    record: Json
    warnings: Sequence[str]

    def line(self) -> Json:
        """The record, and the warnings."""
        return {**self.record, "warnings": self.warnings}


@dataclass(frozen=True)
class Probed(Event):
    """Competence was measured: what the probes of each domain say."""

    name = "probes"
    step: int
    domains: Mapping[str, Json]


@dataclass(frozen=True)
class Fired(Event):
    """A rule saw what it watches for.

    Args:
        firing: what, where, and its numbers.
        done: action → what came of it, of those that do something at once: `rollback: {step: …}` says whose weights
            are back, `stop: {said: …}` how the run compares with one that goes on to its end.
    """

    name = "event"
    firing: Firing
    done: Json = field(default_factory=dict)

    def line(self) -> Json:
        """The firing's own fields, and what was done where something was."""
        return {**self.firing.line(), **({"done": self.done} if self.done else {})}


@dataclass(frozen=True)
class SharesMoved(Event):
    """The record has moved the shares that rows are drawn by, from the next stage on.

    Args:
        stage: that is drawn by the new ones.
        step: optimizer steps finished.
        before: stratum → its share until now.
        after: stratum → its share from here on.
        signal: stratum → what they follow, of those of which something is known.
    """

    name = "shares"
    stage: int
    step: int
    before: Mapping[str, float]
    after: Mapping[str, float]
    signal: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Recorded(Event):
    """An event that comes with its whole line."""

    record: Json

    def line(self) -> Json:
        """As it came."""
        return self.record


@dataclass(frozen=True)
class Evaluated(Recorded):
    """Official tasks were evaluated."""

    name = "evaluation"


@dataclass(frozen=True)
class Decided(Recorded):
    """A stage was chosen.

    Args:
        probes: what they said when they were measured last, by domain.
        cost_share: of the curriculum so far, in the whole run's training compute.
    """

    name = "decision"
    probes: Mapping[str, Json]
    cost_share: float


@dataclass(frozen=True)
class StageEnded(Recorded):
    """A stage was trained."""

    name = "stage_end"


@dataclass(frozen=True)
class Suspected(Recorded):
    """Rows that look wrong were looked for, once: those that are left out from here on, or why none are."""

    name = "suspects"


@dataclass(frozen=True)
class SignSeen(Recorded):
    """There is a sign of wrong rows, and what waited for it acts from here on; or the run is over without."""

    name = "act"


@dataclass(frozen=True)
class EpochEnded(Event):
    """An epoch was ended early: its last steps are not trained."""

    name = "epoch_ended"
    step: int
    epoch: int
    steps_left_out: int


@dataclass(frozen=True)
class Mapped(Recorded):
    """The map of the rows was made, or could not be: `basis` is "none" then, and `why` says it."""

    name = "map"


@dataclass(frozen=True)
class PromptsMapped(Recorded):
    """The map of the prompts was made."""

    name = "prompt_map"


@dataclass(frozen=True)
class Valued(Recorded):
    """What rows were worth to the probes was folded, or could not be: `rows` is 0 then, and `why` says it."""

    name = "value"


@dataclass(frozen=True)
class Ended(Recorded):
    """The run is over."""

    name = "end"
