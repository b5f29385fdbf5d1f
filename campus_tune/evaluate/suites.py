"""Suites: which official tasks are evaluated, and everything that decides what their numbers mean.

A score says nothing without its few-shot count, its generation limit and its chat template: the same model scores
0.00 and 0.05 on GSM8K as plain text and as a chat. So all of that is in one file, is read strictly, and is recorded
beside every result (`Suite.record`). The tasks themselves stay lm-eval's: a suite chooses and limits, it never
rewords.

>>> load_suite("campus").task("minerva_math").max_gen_toks
1024
>>> load_suite("smok")
Traceback (most recent call last):
campus_tune.words.errors.RecipeError: `suite` must be one of campus, campus_wide, smoke or a YAML file, got 'smok'. ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, TypeAlias

from campus_tune.recipe.reader import CheckedSettings
from campus_tune.words.errors import RecipeError
from campus_tune.words.leaves import LARGEST_SEED, Flag, Leaf, Range, Text, Whole
from campus_tune.words.registry import nearest
from campus_tune.words.strict_yaml import read_yaml
from campus_tune.words.types import Json
from campus_tune.words.wording import shown

FOLDER = Path(__file__).parent / "suites"
AUTO = "auto"  # batch size: the largest that fits
MOST_ROWS = 1 << 16  # of a batch
_Seed: TypeAlias = Annotated[int, Range(0, LARGEST_SEED)]


class _Metrics(Leaf):
    """Names as lm-eval's results have them."""

    must = "a list of lm-eval's metric,filter names"

    def read(self, what: str, value: object) -> tuple[str, ...]:
        if (
            not isinstance(value, list | tuple)
            or not value
            or not all(isinstance(name, str) and all(name.partition(",")) for name in value)
        ):
            raise RecipeError(f'`{what}` must be {self.must}, got {shown(value)}. Write for example ["acc,none"].')
        return tuple(value)

    def schema(self) -> Json:
        return {"type": "array", "items": {"type": "string", "pattern": r"^[^,]+,[\s\S]"}, "minItems": 1}


@dataclass(frozen=True)
class TaskSetting(CheckedSettings):
    """One official task or group of a suite.

    Args:
        task: lm-eval's name of it, for example `mmlu`.
        metrics: what is reported, as lm-eval's results call it: metric, comma, filter (`exact_match,strict-match`).
        few_shot: worked examples in the prompt; None takes the official number.
        max_gen_toks: tokens after which an answer is cut; None takes the official number, or lm-eval's 256 where
            the task has none. Only for tasks that generate.
        limit: documents, from the start of each task of a group; None takes all.
        runs_code: the task executes what the model wrote; must agree with the official definition.
    """

    must = "a mapping of settings"
    write = "Write its metrics."
    apart = ("task",)

    task: str
    metrics: Annotated[tuple[str, ...], _Metrics()] = ()
    few_shot: Annotated[int | None, Range(0)] = None
    max_gen_toks: Annotated[int | None, Range(1)] = None
    limit: Annotated[int | None, Range(1)] = None
    runs_code: bool = False

    @property
    def where(self) -> str:
        """Each task is called by its name."""
        return f"tasks: {self.task}: "

    def clashes(self, wrong: set[str]) -> list[str]:
        """Its name is a text."""
        del wrong
        return Text().problems("tasks", self.task)


class _Tasks(Leaf):
    """A mapping from task names to their settings; in code, the settings themselves."""

    must = "a mapping from lm-eval's task names to their settings"

    def read(self, what: str, value: object) -> tuple[TaskSetting, ...]:
        if isinstance(value, tuple) and all(isinstance(one, TaskSetting) for one in value):
            return value
        if not isinstance(value, Mapping) or not value:
            raise RecipeError(
                f"`{what}` must be {self.must}, got {shown(value)}. "
                'Write for example tasks: {mmlu: {metrics: ["acc,none"]}}.'
            )
        problems: list[str] = []
        tasks = []
        for name, content in value.items():
            try:
                tasks.append(TaskSetting.from_mapping(content, what=f"tasks: {name}", task=name))
            except RecipeError as error:
                problems += error.problems
        if problems:
            raise RecipeError(problems)
        return tuple(tasks)

    def schema(self) -> Json:
        return {"type": "object", "additionalProperties": TaskSetting.schema(), "minProperties": 1}


@dataclass(frozen=True)
class Seeds(CheckedSettings):
    """Seeds of an evaluation, by default lm-eval's own, so that its command line gives the same numbers.

    Args:
        fewshot: draws the worked examples.
        random: Python's generator; only tasks that sample use it, as the next two.
        numpy: numpy's generator.
        torch: torch's generators.
    """

    block = "seeds"
    must = "a mapping of fewshot, random, numpy, torch"
    write = "Indent them."

    fewshot: _Seed = 1234
    random: _Seed = 0
    numpy: _Seed = 1234
    torch: _Seed = 1234


class _BatchSize(Leaf):
    """A number of documents, or `auto`."""

    must = f"a whole number of at least 1 and at most {MOST_ROWS}, or {AUTO}"

    def problems(self, what: str, value: object) -> list[str]:
        if value == AUTO:
            return []
        return [f"{problem} Or write {AUTO}." for problem in Whole(Range(1, MOST_ROWS)).problems(what, value)]

    def schema(self) -> Json:
        return {"anyOf": [{"type": "integer", "minimum": 1, "maximum": MOST_ROWS}, {"const": AUTO}]}


class _Template(Leaf):
    """True, false, or a template's name."""

    must = "true or false"

    def problems(self, what: str, value: object) -> list[str]:
        return [] if isinstance(value, str) else Flag().problems(what, value)

    def schema(self) -> Json:
        return {"type": ["boolean", "string"]}


@dataclass(frozen=True)
class Suite(CheckedSettings):
    """The tasks that are evaluated together, and how the model is asked.

    Args:
        name: a shipped suite's name, or the stem of the YAML file.
        tasks: at least one, none twice.
        apply_chat_template: ask in the tokenizer's chat template; a text chooses the template of that name. Base
            models have none; for chat models true is closer to how they are used.
        fewshot_as_multiturn: with a chat template, every worked example is a turn of its own; without one it changes
            nothing.
        system_instruction: a system prompt before everything else; None writes none.
        seeds: of the worked examples and of sampling.
        batch_size: documents at once, or `auto` for the largest that fits.

    Raises:
        RecipeError: with all problems of the settings.
    """

    block = "suite"
    apart = ("name",)

    name: str
    tasks: Annotated[tuple[TaskSetting, ...], _Tasks()]
    apply_chat_template: Annotated[bool | str, _Template()] = False
    fewshot_as_multiturn: bool = True
    system_instruction: str | None = None
    seeds: Seeds = field(default_factory=Seeds)
    batch_size: Annotated[int | str, _BatchSize()] = AUTO

    @property
    def where(self) -> str:
        """A setting of the file is called by its own name."""
        return ""

    def clashes(self, wrong: set[str]) -> list[str]:
        """No tasks, or one twice."""
        if "tasks" in wrong:
            return []
        problems = [] if self.tasks else ["`tasks` must have at least one task, got none. Write for example mmlu."]
        names = [setting.task for setting in self.tasks]
        twice = sorted({name for name in names if names.count(name) > 1})
        return problems + [f"`tasks` must have each task once, got {name} twice. Remove one." for name in twice]

    def task(self, name: str) -> TaskSetting:
        """The setting of one task.

        Raises:
            RecipeError: the suite has no such task; the nearest one is named.
        """
        names = [setting.task for setting in self.tasks]
        if name not in names:
            raise RecipeError(
                f"`task` must be one of {self.name}'s {', '.join(names)}, got {name!r}.{nearest(name, names)}"
            )
        return self.tasks[names.index(name)]

    def narrowed(self, tasks: Sequence[str] | None = None, limit: int | None = None) -> Suite:
        """The same suite with some of its tasks, or fewer documents of each.

        Args:
            tasks: names, in any sequence; None keeps all.
            limit: documents of each task at most; None keeps the suite's.

        Raises:
            RecipeError: the suite has no such task.
        """
        chosen = self.tasks if tasks is None else tuple(self.task(name) for name in tasks)
        return replace(self, tasks=chosen if limit is None else tuple(replace(t, limit=limit) for t in chosen))

    def record(self) -> Json:
        """All settings as plain JSON values: two results may only be compared where these are equal."""
        content = asdict(self)
        tasks = {setting.pop("task"): {**setting, "metrics": list(setting["metrics"])} for setting in content["tasks"]}
        return {**content, "tasks": tasks}


def shipped_suites() -> list[str]:
    """The names of the suites that come with campus_tune."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_suite(name_or_path: str | Path) -> Suite:
    """A shipped suite by its name, or one of your own by its YAML file.

    Raises:
        RecipeError: no such suite or file (the nearest name is suggested), no YAML, or wrong settings: all problems
            of the file at once.
    """
    names = shipped_suites()
    if str(name_or_path) in names:
        return Suite.from_mapping(read_yaml(FOLDER / f"{name_or_path}.yaml"), name=str(name_or_path))
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        raise RecipeError(
            f"`suite` must be one of {', '.join(names)} or a YAML file, got {str(name_or_path)!r}."
            f"{nearest(str(name_or_path), names)} A file of your own ends in .yaml."
        )
    return Suite.from_mapping(read_yaml(path), name=path.stem)
