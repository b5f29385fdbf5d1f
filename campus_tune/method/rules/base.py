"""What a rule is: it looks at the history after a measurement of the probes, and says whether it sees what it watches.

A rule has settings and no state. How often it has fired, and when, is in the history, so that a resumed run, `simulate`
and the tests ask the same function and a rule cannot disagree with itself.

A rule looks again at every measurement, and who looks sixty times at noise sees something: at a level of 0.05 each time
a flat history of sixty measurements showed a regression in up to 65 of 100 cases, and a loss exactly at its milestone
was met in 10 to 37. So bounds are at `LEVEL / looks`, looks the measurements so far: one look has the level itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, NamedTuple, TypeAlias, get_args

from campus_tune.method.firing import Action, Firing, Kind
from campus_tune.method.view import History
from campus_tune.words.annotated import check_options
from campus_tune.words.leaves import Range, Several
from campus_tune.words.registry import Registry

LEVEL = 0.05  # of all bounds of a rule together: the chance that the truth lies beyond one

_ACTIONS = Several(get_args(Action))
_OF_A_DOMAIN = ("review", "raise")  # actions that do something to the domain whose probe showed it

Then: TypeAlias = Annotated[tuple[Action, ...], _ACTIONS]
Times: TypeAlias = Annotated[int, Range(1, 1000)]


@dataclass(frozen=True)
class Shown:
    """What a rule is shown, once the probes were measured.

    Args:
        history: of the run, the newest measurement included.
        shares: how much each probe domain counts in the whole; sums to 1.
        total_steps: of the whole run.
        ends: the run is over: it is noted what is seen, and nothing is done about it.
    """

    history: History
    shares: Mapping[str, float] = field(default_factory=dict)
    total_steps: int = 1
    ends: bool = False


class Seen(NamedTuple):
    """What a rule sees: what was measured, its confidence bound, and what this is compared with."""

    value: float
    bound: float
    against: float


class Rule(ABC):
    """Watches for one kind of event. Subclasses are final; settings are frozen.

    `then` says what is done about it: an action, or several in sequence. `times` says how often at most, for each
    domain that it names. After a firing a rule is silent until all that it looks at has been measured since.
    """

    kind: ClassVar[Kind]
    then: tuple[Action, ...]
    times: int

    def __post_init__(self) -> None:
        """Settings are checked, and a single action becomes a tuple of one.

        Raises:
            ValueError: the first setting that is wrong.
        """
        check_options(self)
        object.__setattr__(self, "then", _ACTIONS.read("then", self.then))
        needless = [action for action in self.then if action in _OF_A_DOMAIN and not self.names_a_domain]
        if needless:
            raise ValueError(
                f"`then` must be of the whole run where {self.kind} is of no one domain, got {needless[0]}: it would "
                "do nothing. Choose another action, or name a `probe` if there is such an option."
            )

    @property
    def names_a_domain(self) -> bool:
        """Its firings have a probe."""
        return True

    @property
    def label(self) -> str:
        """The name of its firings."""
        return self.kind

    @property
    @abstractmethod
    def apart(self) -> int:
        """Measurements between two firings at least."""

    @abstractmethod
    def judge(self, shown: Shown) -> list[Firing]:
        """What it sees at the newest measurement: no firing, or one for each domain that shows it."""

    def rests(self, history: History, last: Firing) -> bool:
        """Too little has been measured since its last firing."""
        return len(history.measured) - 1 - last.measurement < self.apart

    def past(self, history: History, probe: str | None, kind: Kind | None = None) -> list[Firing]:
        """Its firings so far.

        Args:
            history: the record.
            probe: of this domain.
            kind: another one than its own.
        """
        own = (kind or self.kind, self.label if kind is None else kind, probe)
        return [one for one in history.firings if (one.kind, one.name, one.probe) == own]

    def fired(self, shown: Shown, probe: str | None, seen: Seen) -> list[Firing]:
        """The firing that answers what is seen; none where it has fired `times`, or rests."""
        past = self.past(shown.history, probe)
        if len(past) >= self.times or (past and self.rests(shown.history, past[-1])):
            return []
        return [firing(shown, self.kind, self.label, probe, seen, self.then, len(past) + 1)]


def firing(
    shown: Shown, kind: Kind, name: str, probe: str | None, seen: Seen, actions: tuple[Action, ...], times: int
) -> Firing:
    """A firing at the newest measurement; of a run without probes, at the end of its last stage."""
    history, measured = shown.history, shown.history.measured
    stage, step = len(history.stages), history.stages[-1].end if history.stages else 0
    progress = step / shown.total_steps
    if len(measured):
        stage, step, progress = measured.last.stage, measured.last.step, measured.last.progress
    return Firing(kind, name, probe, len(measured) - 1, stage, step, progress, *seen, actions, times)


RULES: Registry[Rule] = Registry("rule")


def build_rule(setting: str | Mapping[str, Any]) -> Rule:
    """The rule that a recipe names.

    Raises:
        RecipeError: unknown name or option, or a value out of its range.
    """
    return RULES.from_setting(setting)


def judged(rules: Sequence[Rule], shown: Shown) -> list[Firing]:
    """All that the rules see at the newest measurement, in their sequence."""
    return [firing for rule in rules for firing in rule.judge(shown)]
