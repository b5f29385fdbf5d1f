"""What a rule is: it looks at the history after a measurement of the probes, and says whether it sees what it watches.

A rule has settings and no state. How often it has fired, and when, is in the history, so that a resumed run, `simulate`
and the tests ask the same function and a rule cannot disagree with itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from campus_tune.method.firing import Action, Firing, Kind
from campus_tune.method.view import History
from campus_tune.words.registry import Registry


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


class Rule(ABC):
    """Watches for one kind of event. Subclasses are final; settings are frozen.

    `then` says what is done about it, and `times` how often at most.
    """

    kind: ClassVar[Kind]
    then: tuple[Action, ...]
    times: int

    @abstractmethod
    def judge(self, shown: Shown) -> list[Firing]:
        """What it sees at the newest measurement: no firing, or one for each domain that shows it."""


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
