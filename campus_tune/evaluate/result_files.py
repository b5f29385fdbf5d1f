"""Which file an evaluation writes, and which of an earlier one's tasks stay in it.

A file is only added to: weights, lm-eval and the settings of every task that is asked for must be those of the file.
What is otherwise is refused and not replaced, since it may have cost a night: `smoke` would write over `campus`.
Finished tasks that are not asked for stay.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from campus_tune.evaluate.comparable import differences
from campus_tune.evaluate.models import Target
from campus_tune.evaluate.results import Result, TaskResult, made_with, read_result
from campus_tune.words.errors import DataError, StorageError
from campus_tune.words.types import Json
from campus_tune.words.wording import listed

FOLDER = "evaluation"  # beside the model or the checkpoints
SHOWN = 4  # differences that a message lists


def result_paths(targets: Sequence[Target], out: Path | None) -> list[Path]:
    """Where the result of each model goes: `evaluation/NAME.json` beside it, or `NAME.json` in a folder for all.

    Names that two of them share get the name of their run before them, and if those are shared too, of its folder.
    """
    folders = [Path(target.place) if Path(target.place).is_dir() else None for target in targets]
    names = [
        target.place.replace("/", "--") if folder is None else folder.resolve().name
        for target, folder in zip(targets, folders, strict=True)
    ]
    if out is None:
        places = [Path() if folder is None else folder.resolve().parent for folder in folders]
        return [place / FOLDER / f"{name}.json" for place, name in zip(places, names, strict=True)]
    above = [list(folder.resolve().parts[1:-1]) if folder else [] for folder in folders]
    while shared := {name for name, n in Counter(names).items() if n > 1}:
        more = [i for i, name in enumerate(names) if name in shared and above[i]]
        if not more:  # the same folder twice
            break
        for i in more:
            names[i] = f"{above[i].pop()}-{names[i]}"
    return [out / f"{name}.json" for name in names]


def refuse_unwritable(paths: Iterable[Path]) -> None:
    """Results can be written: tried before there are any, for the first may take a night.

    Raises:
        StorageError: a folder cannot be made, or nothing can be written into it.
    """
    for folder in dict.fromkeys(path.parent for path in paths):
        trial = folder / f".campus-tune.{os.getpid()}-{secrets.token_hex(4)}.tmp"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            trial.touch(exist_ok=False)
        except OSError as error:
            raise StorageError(
                f"`--out` must be a folder that can be written to, got {str(folder)!r} ({error.strerror or error}). "
                "Name another one."
            ) from error
        finally:
            with suppress(OSError):
                trial.unlink()


def refuse_others(path: Path, there: Result | None, settings: Mapping[str, Json]) -> None:
    """A file's tasks were asked as they would be asked now, as far as that is known without the model.

    Args:
        path: of the file, for messages.
        there: what it holds.
        settings: of each task that is asked for, or a part of them.

    Raises:
        DataError: they were not; what differs is named.
    """
    tasks = {} if there is None else there.tasks
    known = {name: {key: tasks[name].settings.get(key) for key in of} for name, of in settings.items() if name in tasks}
    problems = [f"{name}: {what}" for name, of in known.items() for what in differences(of, settings[name])]
    if problems:
        raise _others(path, problems)


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
        raise _others(path, problems)
    return dict(there.tasks)


def _others(path: Path, problems: Sequence[str]) -> DataError:
    first = listed(problems, SHOWN, by="; ", more=" … and {n} more")
    return DataError(
        f"`{path}` must be of the same weights and settings to be added to, got others: "
        f"{first}. Write --out with another folder, or --replace to lose what is in it."
    )
