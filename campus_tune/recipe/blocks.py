"""Blocks inside of the `campus:` block: the probes that steer a run, and the official tasks that watch it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from os import PathLike
from typing import Any

from campus_tune.words import fields as check_field
from campus_tune.words.errors import RecipeError

DOMAIN = "domain"  # the column that names a row's domain, unless the recipe says otherwise
EVERY = re.compile(r"([0-9]{1,9})(?: stages?)?")  # `every: 5 stages`


@dataclass(frozen=True)
class ProbeSettings:
    """Where the held-out probe rows are.

    Args:
        path: files of rows as the training set's; all are read together.
        domain_column: the column that names a row's domain.
        max_rows: probe rows used per domain; None uses all.
    """

    path: tuple[str, ...]
    domain_column: str = DOMAIN
    max_rows: int | None = None

    @classmethod
    def from_mapping(cls, setting: Mapping[str, Any]) -> ProbeSettings:
        """Read the `probes` mapping.

        Raises:
            RecipeError: with all that is wrong in it.
        """
        paths = setting.get("path")
        paths = [paths] if isinstance(paths, str | PathLike) else paths
        problems = check_field.keys("probes", setting, [f.name for f in fields(cls)])
        if not isinstance(paths, list | tuple) or not paths or not all(isinstance(p, str | PathLike) for p in paths):
            problems.append(
                f"`probes: path` must be a file or a list of files, got {setting.get('path')!r}. "
                "Write {path: ./probes.jsonl}."
            )
        column, max_rows = setting.get("domain_column", DOMAIN), setting.get("max_rows")
        problems += check_field.text("probes: domain_column", column)
        if max_rows is not None:
            problems += check_field.whole("probes: max_rows", max_rows, low=1)
        if problems:
            raise RecipeError(problems)
        return cls(tuple(str(p) for p in paths or ()), column, max_rows)


@dataclass(frozen=True)
class EvaluateSettings:
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

    suite: str = "smoke"
    every: int = 5
    tasks: tuple[str, ...] | None = None
    data: str | None = None
    limit: int | None = None
    allow_code_execution: bool = False

    @classmethod
    def from_mapping(cls, setting: Mapping[str, Any]) -> EvaluateSettings:
        """Read the `evaluate` mapping.

        Raises:
            RecipeError: with all that is wrong in it.
        """
        problems = check_field.keys("evaluate", setting, [f.name for f in fields(cls)])
        values = {**{f.name: f.default for f in fields(cls)}, **setting}
        written = EVERY.fullmatch(str(values["every"]).strip())
        every = int(written[1]) if written else 0
        if every < 1:
            problems.append(f"`evaluate: every` must be a number of stages, got {values['every']!r}. Write 5 stages.")
        problems += check_field.text("evaluate: suite", values["suite"])
        tasks = values["tasks"]
        if tasks is not None and not (
            isinstance(tasks, list | tuple) and tasks and all(isinstance(t, str) for t in tasks)
        ):
            problems.append(f"`evaluate: tasks` must be a list of names, got {tasks!r}. Write [mmlu, gsm8k].")
        if values["data"] is not None:
            problems += check_field.text("evaluate: data", values["data"])
        if values["limit"] is not None:
            problems += check_field.whole("evaluate: limit", values["limit"], low=1)
        if not isinstance(values["allow_code_execution"], bool):
            problems.append(
                f"`evaluate: allow_code_execution` must be true or false, got {values['allow_code_execution']!r}. "
                "Write it without quotes."
            )
        if problems:
            raise RecipeError(problems)
        values |= {"every": every, "tasks": None if tasks is None else tuple(tasks)}
        return cls(**{f.name: values[f.name] for f in fields(cls)})
