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
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

from campus_tune.words import fields as check_field
from campus_tune.words.errors import RecipeError
from campus_tune.words.fields import LARGEST_SEED
from campus_tune.words.registry import nearest
from campus_tune.words.strict_yaml import read_yaml
from campus_tune.words.types import Json

FOLDER = Path(__file__).parent / "suites"
AUTO = "auto"  # batch size: the largest that fits
MOST_ROWS = 1 << 16  # of a batch


@dataclass(frozen=True)
class TaskSetting:
    """One official task or group of a suite.

    Args:
        task: lm-eval's name of it, for example `mmlu`.
        metrics: what is reported, as lm-eval's results call it: metric, comma, filter (`exact_match,strict-match`).
        few_shot: worked examples in the prompt, ≥ 0; None takes the official number.
        max_gen_toks: tokens after which an answer is cut, ≥ 1; None takes the official number, or lm-eval's 256 where
            the task has none. Only for tasks that generate.
        limit: documents, ≥ 1, from the start of each task of a group; None takes all.
        runs_code: the task executes what the model wrote; must agree with the official definition.
    """

    task: str
    metrics: tuple[str, ...]
    few_shot: int | None = None
    max_gen_toks: int | None = None
    limit: int | None = None
    runs_code: bool = False

    def __post_init__(self) -> None:
        problems = self._problems()
        if problems:
            raise RecipeError(problems)
        object.__setattr__(self, "metrics", tuple(self.metrics))

    def _problems(self) -> list[str]:
        where, problems = f"tasks: {self.task}", check_field.text("tasks", self.task)
        if not isinstance(self.metrics, list | tuple) or not self.metrics or not all(map(_is_metric, self.metrics)):
            problems.append(
                f"`{where}: metrics` must be a list of lm-eval's metric,filter names, got {self.metrics!r}. "
                'Write for example ["acc,none"].'
            )
        for name, low in (("few_shot", 0), ("max_gen_toks", 1), ("limit", 1)):
            if getattr(self, name) is not None:
                problems += check_field.whole(f"{where}: {name}", getattr(self, name), low=low)
        return problems + _flag(f"{where}: runs_code", self.runs_code)


@dataclass(frozen=True)
class Seeds:
    """Seeds of an evaluation, by default lm-eval's own, so that its command line gives the same numbers.

    Args:
        fewshot: draws the worked examples, ≥ 0.
        random: Python's generator, ≥ 0; only tasks that sample use it, as the next two.
        numpy: numpy's generator, ≥ 0.
        torch: torch's generators, ≥ 0.
    """

    fewshot: int = 1234
    random: int = 0
    numpy: int = 1234
    torch: int = 1234

    def __post_init__(self) -> None:
        problems = [
            p
            for f in fields(self)
            for p in check_field.whole(f"seeds: {f.name}", getattr(self, f.name), low=0, high=LARGEST_SEED)
        ]
        if problems:
            raise RecipeError(problems)


@dataclass(frozen=True)
class Suite:
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
        batch_size: documents at once, ≥ 1, or `auto` for the largest that fits.

    Raises:
        RecipeError: with all problems of the settings.
    """

    name: str
    tasks: tuple[TaskSetting, ...]
    apply_chat_template: bool | str = False
    fewshot_as_multiturn: bool = True
    system_instruction: str | None = None
    seeds: Seeds = field(default_factory=Seeds)
    batch_size: int | str = AUTO

    def __post_init__(self) -> None:
        problems = [] if self.tasks else ["`tasks` must have at least one task, got none. Write for example mmlu."]
        names = [setting.task for setting in self.tasks]
        twice = sorted({name for name in names if names.count(name) > 1})
        problems += [f"`tasks` must have each task once, got {name} twice. Remove one." for name in twice]
        if not isinstance(self.apply_chat_template, str):
            problems += _flag("apply_chat_template", self.apply_chat_template)
        problems += _flag("fewshot_as_multiturn", self.fewshot_as_multiturn)
        if self.system_instruction is not None:
            problems += check_field.text("system_instruction", self.system_instruction)
        if self.batch_size != AUTO:
            problems += [
                f"{p} Or write {AUTO}." for p in check_field.whole("batch_size", self.batch_size, low=1, high=MOST_ROWS)
            ]
        if problems:
            raise RecipeError(problems)

    @classmethod
    def from_mapping(cls, name: str, content: Mapping[str, Any]) -> Suite:
        """The suite that a YAML file's content describes.

        Raises:
            RecipeError: with all problems: unknown keys, values, no tasks.
        """
        known = [f.name for f in fields(cls) if f.name != "name"]
        problems = check_field.keys("suite", content, known)
        settings = {key: value for key, value in content.items() if key in known}
        # a stand-in for what was refused: the other settings are checked all the same
        settings["tasks"] = _read(_tasks, content.get("tasks"), problems) or (TaskSetting("mmlu", ("acc,none",)),)
        if "seeds" in content:
            settings["seeds"] = _read(_seeds, content["seeds"], problems) or Seeds()
        suite = _read(lambda given: cls(name, **given), settings, problems)
        if problems:
            raise RecipeError(problems)
        return cast("Suite", suite)

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
        return Suite.from_mapping(str(name_or_path), read_yaml(FOLDER / f"{name_or_path}.yaml"))
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        raise RecipeError(
            f"`suite` must be one of {', '.join(names)} or a YAML file, got {str(name_or_path)!r}."
            f"{nearest(str(name_or_path), names)} A file of your own ends in .yaml."
        )
    return Suite.from_mapping(path.stem, read_yaml(path))


def _tasks(setting: object) -> tuple[TaskSetting, ...]:
    if not isinstance(setting, Mapping) or not setting:
        raise RecipeError(
            f"`tasks` must be a mapping from lm-eval's task names to their settings, got {setting!r}. "
            'Write for example tasks: {mmlu: {metrics: ["acc,none"]}}.'
        )
    known, problems, tasks = [f.name for f in fields(TaskSetting) if f.name != "task"], [], []
    for name, content in setting.items():
        if not isinstance(content, Mapping):
            problems.append(f"`tasks: {name}` must be a mapping of settings, got {content!r}. Write its metrics.")
            continue
        problems += check_field.keys(f"tasks: {name}", content, known)
        given = {"metrics": (), **{key: value for key, value in content.items() if key in known}}
        try:
            tasks.append(TaskSetting(name, **given))
        except RecipeError as error:
            problems += error.problems
    if problems:
        raise RecipeError(problems)
    return tuple(tasks)


def _seeds(setting: object) -> Seeds:
    known = [f.name for f in fields(Seeds)]
    if not isinstance(setting, Mapping):
        raise RecipeError(f"`seeds` must be a mapping of {', '.join(known)}, got {setting!r}. Indent them.")
    problems = check_field.keys("seeds", setting, known)
    if problems:
        raise RecipeError(problems)
    return Seeds(**setting)


def _read(read: Any, setting: object, problems: list[str]) -> Any:
    """What `read` makes of a setting, or None and its problems added to the others."""
    try:
        return read(setting)
    except RecipeError as error:
        problems += error.problems
        return None


def _flag(what: str, value: object) -> list[str]:
    return [] if isinstance(value, bool) else [f"`{what}` must be true or false, got {value!r}. Write one of them."]


def _is_metric(name: object) -> bool:
    return isinstance(name, str) and all(name.partition(","))
