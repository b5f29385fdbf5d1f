"""A suite's official tasks as lm-eval builds them, ready to be evaluated as often as wanted.

    loaded = load_tasks(load_suite("campus"), data=None, allow_code_execution=True)
    for task in loaded.tasks.values():
        results = lm_eval.evaluate(lm, **task.options())

Built once per session: a second's work here, and 20 seconds if lm-eval indexes all it has. With `data`, rows come from
a folder and everything else stays official. Shots, limits and few-shot seed are set through lm-eval's own settings, so
its results record them.

Traps that are dealt with here: a task that is used again draws *other* worked examples unless its few-shot seed is set
anew (`options` does); an override given as a mapping is not merged with the registered task; a task of one's own that
carries an official tag can replace the tag, and a group shrinks without a word (a tag is refused as a task here).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campus_tune.evaluate import harness
from campus_tune.evaluate.local_data import LocalData, Problem
from campus_tune.evaluate.suites import Suite, TaskSetting
from campus_tune.words.errors import CampusError, DataError, RecipeError
from campus_tune.words.registry import nearest
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from lm_eval.api.task import Task
    from lm_eval.tasks import TaskManager

# Where lm-eval defines the tasks that the shipped suites use. For others it indexes everything.
FOLDERS: dict[str, tuple[str, ...]] = {
    "minerva_math": ("minerva_math", "benchmarks"),
    "gsm8k": ("gsm8k",),
    "gsm8k_cot": ("gsm8k",),
    "gsm8k_cot_zeroshot": ("gsm8k",),
    "mbpp": ("mbpp",),
    "mbpp_instruct": ("mbpp",),
    "humaneval": ("humaneval",),
    "humaneval_instruct": ("humaneval",),
    "mmlu": ("mmlu/default",),
    "mmlu_stem": ("mmlu/default",),
    "mmlu_humanities": ("mmlu/default",),
    "mmlu_social_sciences": ("mmlu/default",),
    "mmlu_other": ("mmlu/default",),
    "arc_easy": ("arc",),
    "arc_challenge": ("arc",),
}
_MATH = ("minerva_math", "hendrycks_math")


@dataclass(frozen=True)
class LoadedTask:
    """One task of a suite, or a group with all its tasks.

    Args:
        setting: what the suite says of it.
        suite: the suite.
        tasks: lm-eval's task objects by name: one, or 57 for mmlu, 7 for minerva_math.
        groups: lm-eval's group objects by name.
        group_map: names of each group's members.
    """

    setting: TaskSetting
    suite: Suite
    tasks: dict[str, Any]
    groups: dict[str, Any]
    group_map: dict[str, list[str]]

    def options(self) -> Json:
        """The arguments of `lm_eval.evaluate` besides the model. Call it anew for every evaluation.

        It seeds the draw of worked examples, which goes on from call to call otherwise, and with it the prompts.
        """
        for task in self.tasks.values():
            task.set_fewshot_seed(self.suite.seeds.fewshot)
        return {
            "task_dict": {"tasks": self.tasks, "groups": self.groups, "group_map": self.group_map},
            "limit": self.setting.limit,
            "apply_chat_template": self.suite.apply_chat_template,
            "fewshot_as_multiturn": self.suite.fewshot_as_multiturn,
            "system_instruction": self.suite.system_instruction,
            "confirm_run_unsafe_code": self.setting.runs_code,
        }

    @property
    def versions(self) -> dict[str, str]:
        """lm-eval's version of each task and group."""
        tasks = {name: str(task.VERSION) for name, task in self.tasks.items()}
        return {**tasks, **{name: str(group.version) for name, group in self.groups.items()}}


@dataclass(frozen=True)
class LoadedSuite:
    """All tasks of a suite.

    Args:
        suite: the suite.
        tasks: by the suite's name for them, in its sequence.
        lm_eval: its version.
        data: rows and SHA-256 of the local files that were read, None for rows from the hub.
        warnings: what is unusual about the data folder.
    """

    suite: Suite
    tasks: dict[str, LoadedTask]
    lm_eval: str
    data: Json | None = None
    warnings: tuple[str, ...] = ()

    def record(self) -> Json:
        """What must be recorded beside every result: the suite, versions of lm-eval and its tasks, and the data."""
        versions = {name: version for task in self.tasks.values() for name, version in task.versions.items()}
        return {"suite": self.suite.record(), "lm_eval": self.lm_eval, "versions": versions, "data": self.data}


def load_tasks(suite: Suite, data: str | Path | None = None, *, allow_code_execution: bool) -> LoadedSuite:
    """Build the official tasks of a suite.

    Args:
        suite: what to load.
        data: folder with the rows (see `local_data`); None leaves them to lm-eval, which takes them from the hub.
        allow_code_execution: the user agrees that programs which the model wrote are run, in a sandbox.

    Raises:
        RecipeError: lm-eval is not installed or of an unknown make, an unknown task (the nearest is named), a task
            that runs code without permission, or settings that a task does not take: all of a kind at once.
        DataError: files of the folder are missing or wrong: all of them at once; or the hub gives no rows.
    """
    version = harness.require(math=any(setting.task.startswith(_MATH) for setting in suite.tasks))
    manager = _manager(suite)
    problems = [p for setting in suite.tasks for p in _problems(manager, setting, allow_code_execution)]
    if problems:
        raise RecipeError(problems)
    local = None if data is None else LocalData(data)
    doubts: list[Problem] = local.check(setting.task for setting in suite.tasks) if local else []
    if fatal := [problem.text for problem in doubts if problem.fatal]:
        raise DataError("\n".join(fatal))
    served = harness.redirect(manager, local) if local else None
    source = nullcontext() if local else _of_hub()
    with _code_metric(suite, allow=allow_code_execution) as metric, harness.quiet(), source:
        tasks = {}
        for setting in suite.tasks:
            built = manager.load([setting.task])
            groups, members = built.get("groups", {}), built.get("group_map", {})
            tasks[setting.task] = LoadedTask(setting, suite, built["tasks"], groups, members)
            for name, task in built["tasks"].items():
                _set(task, name, setting)
    for task in tasks.values():  # metrics that lm-eval will not give: a typo would show when the night is over
        name, known = task.setting.task, harness.metrics_of(task.tasks, task.groups, task.setting.task)
        problems += [
            f"`tasks: {name}: metrics` must be of {', '.join(known)}, got {metric!r}.{nearest(metric, known)}"
            for metric in task.setting.metrics
            if known is not None and metric not in known
        ]
    if problems:
        raise RecipeError(problems)
    for task in tasks.values():
        if task.setting.runs_code:
            harness.check_metric(metric, task.tasks)
    if served is not None:
        harness.check_served(served, {name: leaf for task in tasks.values() for name, leaf in task.tasks.items()})
    return LoadedSuite(suite, tasks, version, local.record() if local else None, tuple(one.text for one in doubts))


def _manager(suite: Suite) -> TaskManager:
    """A TaskManager that knows the suite's tasks, and as little else as possible.

    Raises:
        RecipeError: lm-eval has no such task.
    """
    names = [setting.task for setting in suite.tasks]
    folders = dict.fromkeys(folder for name in names for folder in FOLDERS.get(name, ()))
    manager = harness.trimmed_manager(folders)
    if all(name in manager.task_index for name in names):
        return manager
    declared = harness.declared_names()
    manager = harness.full_manager() if declared.issuperset(names) else manager
    unknown = [name for name in names if name not in manager.task_index and name not in declared]
    if unknown:
        hints = [nearest(name, FOLDERS) or nearest(name, declared) for name in unknown]
        raise RecipeError(
            f"`tasks` must be tasks or groups of lm-eval, got {name!r}.{hint} `lm_eval ls tasks` lists them."
            for name, hint in zip(unknown, hints, strict=True)
        )
    return manager


def _problems(manager: TaskManager, setting: TaskSetting, allow_code_execution: bool) -> list[str]:
    """What speaks against a task before it is built: building a code task already runs a program."""
    where = f"tasks: {setting.task}"
    if setting.task in manager.all_tags:
        return [f"`{where}` must be a task or a group, got a tag. Write the tasks it stands for."]
    configs = list(_official_configs(manager, setting.task))
    runs_code = any(config.get("unsafe_code") for config in configs)
    problems = []
    if runs_code != setting.runs_code:
        right, got = (str(value).lower() for value in (runs_code, setting.runs_code))
        problems.append(f"`{where}: runs_code` must be {right}, as lm-eval says, got {got}. Correct it.")
    if runs_code and not allow_code_execution:
        problems.append(
            f"`allow_code_execution` must be true for {setting.task}, got false: it runs programs that the model wrote "
            "(in a sandbox). Write allow_code_execution: true, on the command line --allow_code_execution, or take the "
            "task out of the suite."
        )
    if setting.max_gen_toks is not None and not any(
        config.get("output_type", "generate_until") == "generate_until" for config in configs
    ):
        problems.append(
            f"`{where}: max_gen_toks` must be null, since the task only weighs answers, got {setting.max_gen_toks}. "
            "Remove it."
        )
    if setting.few_shot and any(config.get("num_fewshot") == 0 for config in configs):
        problems.append(
            f"`{where}: few_shot` must be 0, as the official definition fixes it, got {setting.few_shot}. Remove it."
        )
    return problems


def _official_configs(manager: TaskManager, name: str) -> Iterator[Json]:
    """The definitions of a task, or of all tasks in a group, read but not built."""
    entry = manager.task_index.get(name)
    if entry is None:
        return
    if name in manager.all_subtasks:
        yield entry.cfg or {}
        return
    members = entry.tags if name in manager.all_tags else (entry.cfg or {}).get("task", ())
    for member in members if not isinstance(members, str) else (members,):
        inner = member if isinstance(member, str) else member.get("task", member.get("group"))
        if isinstance(inner, str):
            yield from _official_configs(manager, inner)


def _code_metric(suite: Suite, *, allow: bool) -> AbstractContextManager[Any]:
    """While code tasks are built: the metric that they ask for is ours, which runs programs in the sandbox."""
    if not any(setting.runs_code for setting in suite.tasks):
        return nullcontext()
    from campus_tune.evaluate.code_metric import replaced_code_eval

    harness.forget_code_modules()
    return replaced_code_eval(allow=allow)


@contextmanager
def _of_hub() -> Iterator[None]:
    """While tasks take their rows from the hub, or from what an earlier run has left of it on this machine.

    Raises:
        DataError: they do not get them.
    """
    try:
        yield
    except CampusError:
        raise
    except (OSError, ValueError) as error:
        text = str(error)
        if isinstance(error, ValueError) and "cache" not in text:  # so datasets calls what was never downloaded
            raise
        raise DataError(
            f"the rows of all tasks must come from the hub or from files of your own, got none from the hub "
            f"({text.strip().splitlines()[0] if text.strip() else type(error).__name__}). Go online once, or name a "
            "folder that has them with `data` (--data DIR): campus-tune eval check-data DIR says what belongs there."
        ) from error


def _set(task: Task, name: str, setting: TaskSetting) -> None:
    """Shots and limit of a task, through lm-eval's own settings.

    Raises:
        RecipeError: there are fewer worked examples than shots.
    """
    from lm_eval.defaults import DEFAULT_MAX_GEN_TOKS

    few_shot = task.get_config("num_fewshot") or 0 if setting.few_shot is None else setting.few_shot
    if few_shot and few_shot > (there := len(task.fewshot_docs())):
        raise RecipeError(
            f"`tasks: {setting.task}: few_shot` must be at most {there} for {name}, got {few_shot}. Lower it."
        )
    task.set_config("num_fewshot", few_shot)
    if task.get_config("output_type") == "generate_until":
        official = task.get_config("generation_kwargs").get("max_gen_toks", DEFAULT_MAX_GEN_TOKS)
        limit = official if setting.max_gen_toks is None else setting.max_gen_toks
        task.set_config("generation_kwargs", {"max_gen_toks": limit}, update=True)
