"""Which file an evaluation writes, and which of an earlier one's tasks stay in it.

A file is only added to: weights, lm-eval and the settings of every task that is asked for must be those of the file.
What is otherwise is refused and not replaced, since it may have cost a night: `smoke` would write over `campus`.
Finished tasks that are not asked for stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from campus_tune.errors import DataError
from campus_tune.evaluation.comparable import differences
from campus_tune.evaluation.models import Target
from campus_tune.evaluation.results import Result, TaskResult, made_with, read_result
from campus_tune.types import Json

FOLDER = "evaluation"  # beside the model or the checkpoints
SHOWN = 4  # differences that a message lists


def result_paths(targets: Sequence[Target], out: Path | None) -> list[Path]:
    """Where the result of each model goes: `evaluation/NAME.json` beside it, or `NAME.json` in a folder for all.

    Names that two of them share get the name of their run before them.
    """
    folders = [Path(target.place) if Path(target.place).is_dir() else None for target in targets]
    names = [
        target.place.replace("/", "--") if folder is None else folder.resolve().name
        for target, folder in zip(targets, folders, strict=True)
    ]
    if out is None:
        places = [Path() if folder is None else folder.resolve().parent for folder in folders]
        return [place / FOLDER / f"{name}.json" for place, name in zip(places, names, strict=True)]
    shared = {name for name, n in Counter(names).items() if n > 1}
    return [
        out / (f"{folder.resolve().parent.name}-{name}.json" if folder and name in shared else f"{name}.json")
        for folder, name in zip(folders, names, strict=True)
    ]


def earlier(path: Path) -> Result | None:
    """What a file holds; None where there is none.

    Raises:
        DataError: it is no result, or one of another version.
    """
    return read_result(path) if path.exists() else None


def kept(
    path: Path, there: Result | None, model: Json, settings: Mapping[str, Json], *, replace: bool
) -> dict[str, TaskResult]:
    """The tasks of a result file that stay in it when a model is evaluated into it.

    Args:
        path: of the file, for messages.
        there: what it holds.
        model: the record of the model that is evaluated.
        settings: of each task that is asked for.
        replace: leave out what does not agree, instead of refusing.

    Raises:
        DataError: some would have to be replaced, and nobody said so; what differs is named.
    """
    if there is None:
        return {}
    of_all = differences({"weights": there.model["weights"]}, {"weights": model["weights"]})
    if there.made_with.get("lm_eval") is not None:  # else there are none of its tasks in the file
        of_all += differences({"lm_eval": there.made_with["lm_eval"]}, {"lm_eval": made_with()["lm_eval"]})
    of_tasks = {
        name: differences(there.tasks[name].settings, wanted)
        for name, wanted in settings.items()
        if name in there.tasks
    }
    if replace:
        return {} if of_all else {name: task for name, task in there.tasks.items() if not of_tasks.get(name)}
    problems = of_all + [f"{name}: {what}" for name, found in of_tasks.items() for what in found]
    if problems:
        more = f" … and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise DataError(
            f"`{path}` must be of the same weights and settings to be added to, got others: "
            f"{'; '.join(problems[:SHOWN])}{more}. Write --out with another folder, or --replace to lose what is in it."
        )
    return dict(there.tasks)
