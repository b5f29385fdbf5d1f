"""rules: probe history → event → action. Each a pure function of the history."""

from campus_tune.method.rules.base import RULES, Rule, Shown, build_rule, judged

__all__ = ["RULES", "Rule", "Shown", "build_rule", "judged"]
