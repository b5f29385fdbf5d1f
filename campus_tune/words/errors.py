"""The error tree: every way in which campus_tune says no.

All messages have one shape, "`what` must be *constraint*, got *value*. *What to do.*"; several problems of one
recipe are reported together, so that a user mends a file once and not five times.
"""

from __future__ import annotations

from collections.abc import Iterable

from campus_tune.words.wording import cut

INTERRUPTED = 130  # what a shell expects after Ctrl-C
LONGEST = 2000  # characters of a problem: a value of a megabyte says no more than its two ends


class CampusError(Exception):
    """The root of everything campus_tune raises on purpose."""


def shortened(problem: str) -> str:
    """A problem whose middle is left out where it is very long."""
    return cut(problem, LONGEST, head=LONGEST - 500, tail=500, mark=" […] ")


class RecipeError(CampusError, ValueError):
    """The settings are wrong: an unknown key, a value out of range, parts that cannot work together.

    Args:
        problems: one sentence per problem; all of them are shown.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = [shortened(p) for p in ([problems] if isinstance(problems, str) else problems)]
        if len(self.problems) == 1:
            super().__init__(self.problems[0])
        else:
            listed = "\n".join(f"  {i}. {problem}" for i, problem in enumerate(self.problems, 1))
            super().__init__(f"{len(self.problems)} problems in this recipe:\n{listed}")


class DataError(CampusError, ValueError):
    """The training rows, the probes or a file cannot be used as they are."""


class MetricError(CampusError, ValueError):
    """A metric gave scores that do not order the rows: NaN, inf, all equal, missing."""


class TrainerError(CampusError, RuntimeError):
    """The trainer is set up in a way under which a planned order would not be trained."""


class DivergedError(MetricError, TrainerError):
    """The model has diverged: a loss is NaN or infinite."""


class PeerError(CampusError, RuntimeError):
    """Another process of this run is gone or stopped answering; the cause is with that one."""


class AuditError(CampusError, RuntimeError):
    """The rows that reached the model are not the planned ones."""


class ResumeError(CampusError, RuntimeError):
    """The checkpoint does not belong to this run, or its curriculum state is missing or damaged."""


class NoCheckpointError(ResumeError, ValueError):
    """There is no checkpoint of this name. The trainer alone would say so with a ValueError."""


class StorageError(CampusError, OSError):
    """The ledger, a score file or a state could not be written. What was there before is still whole."""


class RewardError(CampusError, ValueError):
    """A reward function failed, or gave something that is no reward."""
