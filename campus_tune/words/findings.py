"""Findings: what a user should know before training, how grave it is, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from campus_tune.words.errors import CampusError, RecipeError

Severity: TypeAlias = Literal["refused", "error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("refused", "error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """One thing a user should know before training.

    Args:
        severity: refused (the method would not be what its name says), error (the data or settings are wrong),
            warning (works, but probably not what you want), info (correct but rare).
        what: one or two sentences, with numbers.
        remedy: what to type or do next; empty for information.
    """

    severity: Severity
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.severity}: {self.what} {self.remedy}".rstrip()


def as_findings(error: CampusError) -> list[Finding]:
    """What an error says as findings, each problem of a recipe as one of its own."""
    problems = error.problems if isinstance(error, RecipeError) else [str(error)]
    return [Finding("error", problem) for problem in problems]
