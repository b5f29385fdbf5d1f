"""rules: probe history → event → action. Each a pure function of the history."""

from campus_tune.method.rules.base import RULES, Rule, Shown, build_rule, judged
from campus_tune.method.rules.milestone import Milestone, already_met
from campus_tune.method.rules.power import power_line, smallest_rise
from campus_tune.method.rules.regression import Regression
from campus_tune.method.rules.saturated import Saturated
from campus_tune.method.rules.stagnation import Stagnation

__all__ = [
    "RULES",
    "Milestone",
    "Regression",
    "Rule",
    "Saturated",
    "Shown",
    "Stagnation",
    "already_met",
    "build_rule",
    "judged",
    "power_line",
    "smallest_rise",
]
