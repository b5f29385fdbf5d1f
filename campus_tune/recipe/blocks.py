"""Blocks inside of the `campus:` block: the probes that steer a run, and the official tasks that watch it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from campus_tune.recipe.reader import CheckedSettings
from campus_tune.words.errors import RecipeError
from campus_tune.words.leaves import Files, Leaf, Range, Wording
from campus_tune.words.types import Json

DOMAIN = "domain"  # the column that names a row's domain, unless the recipe says otherwise
EVERY = re.compile(r"([0-9]{1,9})(?: stages?)?")  # `every: 5 stages`


@dataclass(frozen=True)
class ProbeSettings(CheckedSettings):
    """Where the held-out probe rows are.

    Args:
        path: files of rows as the training set's; all are read together.
        domain_column: the column that names a row's domain.
        max_rows: probe rows used per domain; None uses all.
    """

    block = "probes"
    write = "Write probes: {path: ./probes.jsonl}."

    path: Annotated[tuple[str, ...], Files(), Wording(write="Write {path: ./probes.jsonl}.")]
    domain_column: str = DOMAIN
    max_rows: Annotated[int | None, Range(1)] = None


class _Stages(Leaf):
    """A number of stages, written `5` or `5 stages`."""

    must = "a number of stages"

    def read(self, what: str, value: object) -> int:
        written = EVERY.fullmatch(str(value).strip())
        if not written or int(written[1]) < 1:
            raise RecipeError(self.refusal(what, value, "Write 5 stages."))
        return int(written[1])

    def schema(self) -> Json:
        words = {"type": "string", "pattern": r"^\s*(?=0*[1-9])[0-9]{1,9}( stages?)?\s*$"}
        return {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 10**9 - 1}, words]}


@dataclass(frozen=True)
class EvaluateSettings(CheckedSettings):
    """Official tasks on the model as it is, while it is trained: they watch, they never steer.

    Args:
        suite: one of those that come with campus_tune, or a YAML of your own.
        every: stages between two evaluations; `5` and `5 stages` are the same. There is one before the first stage and
            one after the last.
        tasks: of the suite; None takes all of them.
        data: folder with the tasks' rows; None loads them from the hub.
        limit: documents of each task, at most; None takes the suite's.
        allow_code_execution: whether programs that the model writes may be run, in the sandbox.
    """

    block = "evaluate"
    write = "Write evaluate: {suite: smoke, every: 5 stages}."

    suite: str = "smoke"
    every: Annotated[int, _Stages()] = 5
    tasks: Annotated[tuple[str, ...] | None, Wording("a list of names", "Write [mmlu, gsm8k].")] = None
    data: str | None = None
    limit: Annotated[int | None, Range(1)] = None
    allow_code_execution: Annotated[bool, Wording(write="Write it without quotes.")] = False
