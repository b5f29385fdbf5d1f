"""What a person reads of a run or a command, a line at a time."""

from __future__ import annotations

from campus_tune.words import progress


def say(line: str) -> None:
    """A line on stdout that does not tear a progress bar."""
    progress.say(f"campus: {line}")
