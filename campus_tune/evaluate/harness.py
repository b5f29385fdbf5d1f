"""The one place that knows lm-eval from the inside: which names of it are not public, and what they must do.

Everything else uses what lm-eval documents. Three things cannot be had that way:

- Rows from a folder. A task definition may name a `custom_dataset`, a documented field; but which one belongs to
  which task is only known where the definition is read, in `TaskFactory._load_full_config`. Ours overrides that one
  method and sets that one field, so prompts, shots, filters, metrics and versions stay the official ones.
- An index of some folders only. lm-eval reads 14 000 YAML files in 10 to 32 seconds; ours are some 90, in 0.1.
- The modules of code tasks, which ask for their metric while they are imported, once per process.

A new lm-eval may change any of these without a word. So the override is tried out on a made-up task before real ones
are built: where it is not called, that is an error and not a silent download.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from campus_tune.evaluate.local_data import LocalData
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from datasets import DatasetDict
    from lm_eval.api.group import Group
    from lm_eval.api.task import Task
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._factory import Entry, TaskFactory

TESTED = ("0.4.12", "0.4.13")  # the versions that the tests were run with; 0.4.11 has no TaskFactory
INSTALL = 'pip install "campus-tune[eval]"'
_CODE_MODULES = re.compile(r"lm_eval\.tasks\.(mbpp|humaneval)\.utils")
_NAME = re.compile(rb"^\"?(?:task|group)\"?:[ \t]*[\"']?([\w.\-]+)", re.MULTILINE)
_NOISE = {  # by the logger that says it
    "lm_eval.api.task": "Custom kwargs can be passed",  # of every task with rows of its own, 57 times for mmlu
    "lm_eval.tasks._index": "from None overrides existing task from None",  # a tag in two folders: no task is lost
}
_CANARY = {
    "task": "campus_tune_canary",
    "dataset_path": "/campus_tune/no/such/folder",  # nothing that could be found or downloaded
    "output_type": "generate_until",
    "generation_kwargs": {"until": ["\n"]},
    "test_split": "test",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
}


def require(*, math: bool) -> str:
    """The version of lm-eval that is installed.

    Args:
        math: MATH is among the tasks, whose metric needs libraries of its own.

    Raises:
        RecipeError: lm-eval or what MATH needs is not installed; the command that mends it is named.
    """
    if find_spec("lm_eval") is None:
        raise RecipeError(f"`suite` must have the library lm-eval, got none. Type: {INSTALL}")
    if not math:
        return version("lm_eval")
    for library in ("sympy", "math_verify", "antlr4"):
        if find_spec(library) is None:
            raise RecipeError(f"`tasks: minerva_math` must have the library {library}, got none. Type: {INSTALL}")
    try:
        runtime = version("antlr4-python3-runtime")
    except PackageNotFoundError:
        runtime = "one of unknown version"
    if not runtime.startswith("4.11"):
        raise RecipeError(
            "`tasks: minerva_math` must have antlr4-python3-runtime 4.11, which sympy's LaTeX parser is made for, got "
            f"{runtime}. Type: {INSTALL}"
        )
    return version("lm_eval")


def folder_of_tasks() -> Path:
    """Where lm-eval's task definitions are."""
    import lm_eval.tasks

    return Path(lm_eval.tasks.__file__).parent


def trimmed_manager(folders: Iterable[str]) -> TaskManager:
    """A TaskManager that knows the definitions in these folders only; folders that are not there are left out."""
    from lm_eval.tasks import TaskManager

    paths = [folder_of_tasks() / name for name in folders]
    with quiet():
        return TaskManager(include_defaults=False, include_path=[path for path in paths if path.is_dir()])


def full_manager() -> TaskManager:
    """A TaskManager that knows every task of lm-eval: 10 to 32 seconds."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def declared_names() -> set[str]:
    """Names of all tasks and groups, read off the files without parsing them: a second, for hints only."""
    paths = folder_of_tasks().rglob("*.yaml")
    return {name.decode() for path in paths for name in _NAME.findall(path.read_bytes())}


def redirect(manager: TaskManager, data: LocalData) -> dict[str, DatasetDict]:
    """Let the tasks that `manager` builds read their rows from a folder.

    Returns:
        The datasets handed out, by the task's name; it fills while tasks are built.

    Raises:
        RecipeError: this version of lm-eval does not build tasks through the method that we override.
    """
    served: dict[str, DatasetDict] = {}
    try:
        manager._factory = _local_factory(data, served)
        with quiet():
            manager.load([dict(_CANARY)])
    except Exception as error:  # whatever a changed lm-eval does instead
        raise _changed(str(error)) from error
    if _CANARY["task"] not in served:
        raise _changed("the method was not called")
    return served


def _local_factory(data: LocalData, served: dict[str, DatasetDict]) -> TaskFactory:
    from datasets import Dataset, DatasetDict
    from lm_eval.tasks._factory import TaskFactory

    class LocalFactory(TaskFactory):  # type: ignore[misc]  # lm-eval ships no types
        """lm-eval's own, with the rows of a folder."""

        def _load_full_config(self, entry: Entry, overrides: Json | None = None) -> Json:
            config: Json = super()._load_full_config(entry, overrides)
            if "dataset_path" not in config:  # a group
                return config
            task, path, part = config["task"], config["dataset_path"], config.get("dataset_name")

            def custom_dataset(**_: object) -> DatasetDict:
                """Rows from campus_tune's `data` folder: the result's `data` says which files they were."""
                if task == _CANARY["task"]:
                    served[task] = DatasetDict({"test": Dataset.from_list([{"question": "1 + 1 =", "answer": "2"}])})
                else:
                    served[task] = data.dataset(path, part)
                return served[task]

            return {**config, "custom_dataset": custom_dataset}

    return LocalFactory()


def check_served(served: dict[str, DatasetDict], tasks: dict[str, Task]) -> None:
    """Every task holds the rows that were handed to it.

    Raises:
        RecipeError: lm-eval got the rows of one of them elsewhere.
    """
    elsewhere = [name for name, task in tasks.items() if served.get(name) is not getattr(task, "dataset", None)]
    if elsewhere:
        raise _changed(f"{', '.join(elsewhere)} got other rows")


def _changed(what: str) -> RecipeError:
    return RecipeError(
        f"`lm-eval` must be one of {', '.join(TESTED)}, got {version('lm_eval')}, which builds its tasks in another "
        f"way ({what}). Type: pip install lm-eval=={TESTED[-1]}. Without `data` and without code tasks later ones do."
    )


def forget_code_modules() -> None:
    """Import the modules of code tasks anew: one imported earlier keeps the metric it met then, ours or not."""
    for name in [name for name in sys.modules if _CODE_MODULES.fullmatch(name)]:
        del sys.modules[name]


def check_metric(metric: object, tasks: dict[str, Task]) -> None:
    """Every task scores through `metric`, and not through one that runs programs in this very process.

    Raises:
        RecipeError: lm-eval loaded its metric in another way.
    """
    for name, task in tasks.items():
        functions = [each["metric"] for each in task.get_config("metric_list") if callable(each["metric"])]
        if not any(value is metric for each in functions for value in each.__globals__.values()):
            raise _changed(f"{name} got its metric elsewhere")


def metrics_of(tasks: dict[str, Task], groups: dict[str, Group], name: str) -> list[str] | None:
    """The metrics, as `metric,filter`, that lm-eval gives of a task or group; None where only running it tells."""
    listed = [task.get_config("filter_list") or ({"name": "none"},) for task in tasks.values()]
    filters = list(dict.fromkeys(one["name"] for each in listed for one in each))
    if name in groups:
        lists = groups[name].aggregate_metric_list or []
        return [f"{one.metric},{filter_}" for one in lists for filter_ in one.filter_list or filters]
    task = tasks.get(name)
    if task is None or any(callable(one["metric"]) for one in task.get_config("metric_list") or ()):
        return None  # a function names its values itself, such as pass@1
    return [f"{metric},{filter_}" for metric in task.aggregation() for filter_ in filters]


@contextmanager
def no_bars() -> Iterator[None]:
    """Let datasets draw no bars, such as one for each time that a task prepares its rows."""
    import datasets

    drew = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if drew:
            datasets.enable_progress_bars()


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out bars, and what lm-eval logs as a matter of course; every other message passes."""

    def passes(record: logging.LogRecord) -> bool:
        return _NOISE[record.name] not in record.getMessage()

    loggers = [logging.getLogger(name) for name in _NOISE]
    for logger in loggers:
        logger.addFilter(passes)
    try:
        with no_bars():
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(passes)
