"""What an evaluation leaves behind: one JSON file per checkpoint, with the score of every document.

    {"format": 1,
     "model": {"name": …, "adapter": …, "step": …, "weights": …},
     "made_with": {"campus_tune": …, "lm_eval": …, "transformers": …, "torch": …},
     "tasks": {"gsm8k": {"settings": …, "metrics": {"exact_match,strict-match": {"value", "stderr", "n"}},
                         "documents": {"gsm8k": {"0": {"exact_match,strict-match": 1.0}}},
                         "seconds": 70.1, "finished": true}}}

The documents are the point: two checkpoints answer the same questions, so their paired difference has a far smaller
error than two means side by side. `settings` holds whatever must be equal for that. Only finished tasks are in the
file, which is written anew after each of them, in one step.

>>> result = Result({"name": "model", "adapter": None, "step": None, "weights": None}, {}, {})
>>> Result.from_json(result.as_json()) == result
True
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from campus_tune.words.errors import DataError
from campus_tune.words.files import atomic_write
from campus_tune.words.json_shapes import misshapen, read_json
from campus_tune.words.registry import nearest
from campus_tune.words.types import Json
from campus_tune.words.versions import versions
from campus_tune.words.wording import cut

FORMAT = 1
_LIBRARIES = ("lm_eval", "transformers", "torch")
_MODEL = {"name": str, "adapter": (str, None), "step": (int, None), "weights": (str, None)}
_MADE_WITH = {str: (str, None)}
_TASK = ("settings", "metrics", "documents", "seconds", "finished")
_METRIC = ("value", "stderr", "n")
_EVALUATE = "It was changed or is another file: evaluate again."


@dataclass(frozen=True)
class TaskResult:
    """One finished task.

    Args:
        settings: plain JSON; two results are comparable where these are equal.
        metrics: name → value, its standard error (None where there is none) and the number of documents n.
        documents: lm-eval's task → number of the document → its value of each metric.
        seconds: on the clock.
    """

    settings: Json
    metrics: dict[str, Json]
    documents: dict[str, dict[str, dict[str, float]]]
    seconds: float

    def scores(self, metric: str) -> dict[tuple[str, str], float]:
        """Each document's value of one metric, by (lm-eval's task, number); documents without it are left out.

        Raises:
            DataError: the task has no such metric; the nearest one is named.
        """
        if metric not in self.metrics:
            raise DataError(
                f"`metric` must be one of {', '.join(self.metrics)}, got {metric!r}.{nearest(metric, self.metrics)}"
            )
        return {
            (task, number): values[metric]
            for task, documents in self.documents.items()
            for number, values in documents.items()
            if metric in values
        }

    def as_json(self) -> Json:
        """As in the file."""
        return {
            "settings": self.settings,
            "metrics": self.metrics,
            "documents": self.documents,
            "seconds": self.seconds,
            "finished": True,
        }

    @classmethod
    def from_json(cls, what: str, given: object) -> TaskResult:
        """The result that a part of a file's content is; `what` names the part in messages.

        Raises:
            DataError: it is none.
        """
        content = _with_keys(what, given, _TASK)
        _need(content["finished"] is True, f"have {what} finished", content["finished"])
        _need(isinstance(content["settings"], dict), f"have a mapping as {what}: settings", content["settings"])
        _need(isinstance(content["metrics"], dict), f"have a mapping as {what}: metrics", content["metrics"])
        _need(_is_number(content["seconds"]), f"have a number as {what}: seconds", content["seconds"])
        for name, metric in content["metrics"].items():
            _with_keys(f"{what}: metrics: {name}", metric, _METRIC)
            fits = _is_number(metric["value"]) and (metric["stderr"] is None or _is_number(metric["stderr"]))
            _need(fits and isinstance(metric["n"], int), f"have numbers as {what}: metrics: {name}", metric)
        fits = _is_nested(content["documents"], depth=3)
        _need(fits, f"have the values of {what}: documents as task, number, metric, value", content["documents"])
        return cls(content["settings"], content["metrics"], content["documents"], content["seconds"])


@dataclass(frozen=True)
class Result:
    """What one file holds.

    Args:
        model: `name` (folder or hub id), `adapter` (folder or None), `step` and `weights` (a fingerprint), both None
            where unknown.
        made_with: versions of the libraries.
        tasks: by the suite's name for them.
    """

    model: Json
    made_with: Json
    tasks: dict[str, TaskResult]

    def as_json(self) -> Json:
        """As in the file."""
        tasks = {name: task.as_json() for name, task in self.tasks.items()}
        return {"format": FORMAT, "model": self.model, "made_with": self.made_with, "tasks": tasks}

    @classmethod
    def from_json(cls, content: object) -> Result:
        """The result that a file's content is.

        Raises:
            DataError: the content is of another format, or not what this one must have.
        """
        _need(isinstance(content, dict) and "format" in content, "be a result of `campus-tune eval`", content)
        assert isinstance(content, dict)  # for the types
        if content["format"] != FORMAT:
            wrote = content.get("made_with")
            by = wrote.get("campus_tune", "unknown") if isinstance(wrote, dict) else "unknown"
            raise DataError(
                f"must be of format {FORMAT}, got format {content['format']!r}, which campus_tune {by} wrote (this is "
                f"{made_with()['campus_tune']}). Evaluate again into another folder, or read it with that version."
            )
        fits = set(content) == {"format", "model", "made_with", "tasks"}
        _need(fits, "have format, model, made_with and tasks", list(content))
        _with_keys("model", content["model"], tuple(_MODEL))
        for what, shape in (("model", _MODEL), ("made_with", _MADE_WITH)):
            problem = misshapen(content[what], shape, what)
            if problem is not None:
                raise DataError(f"must be a result of `campus-tune eval`: {problem}. {_EVALUATE}")
        _need(isinstance(content["tasks"], dict), "have a mapping as tasks", content["tasks"])
        tasks = {name: TaskResult.from_json(f"tasks: {name}", task) for name, task in content["tasks"].items()}
        return cls(content["model"], content["made_with"], tasks)


def read_result(path: str | Path) -> Result:
    """Read a result file strictly.

    Raises:
        DataError: no such file, no JSON, another format (with the version of campus_tune that wrote it), or content
            that is not a result's.
    """
    path = Path(path)
    try:
        content = read_json(path)
    except OSError as error:
        names = [p.name for p in path.parent.glob("*.json")]
        raise DataError(
            f"`{path}` must be a readable result file, got {error.strerror or error}.{nearest(path.name, names)}"
        ) from error
    except ValueError as error:
        raise DataError(
            f"`{path}` must be a result of `campus-tune eval`, got no JSON ({error}). Move it away and evaluate again."
        ) from error
    try:
        return Result.from_json(content)
    except DataError as error:
        raise DataError(f"`{path}` {error}") from error


def write_result(path: str | Path, result: Result) -> None:
    """Write a result file in one step; what was there before is whole until then.

    Raises:
        StorageError: the disk is full, the folder cannot be written to, ….
    """
    atomic_write(path, json.dumps(result.as_json(), ensure_ascii=False) + "\n")


def made_with() -> Json:
    """The versions of the libraries that make a result; None for one that is not installed."""
    return dict(versions(_LIBRARIES))


def _with_keys(what: str, content: object, known: tuple[str, ...]) -> Json:
    """What was given, if it is a mapping with these keys and no others."""
    fits = isinstance(content, dict) and set(content) == set(known)
    _need(fits, f"have {', '.join(known)} as {what}", list(content) if isinstance(content, dict) else content)
    assert isinstance(content, dict)  # for the types
    return content


def _need(fits: bool, must: str, got: object) -> None:
    if not fits:
        raise DataError(f"must {must}, got {cut(repr(got), 60, mark=' …')}. {_EVALUATE}")


def _is_nested(content: object, depth: int) -> bool:
    if depth == 0:
        return _is_number(content)
    return isinstance(content, Mapping) and all(_is_nested(inner, depth - 1) for inner in content.values())


def _is_number(value: object) -> bool:
    return misshapen(value, float) is None


def scores_in_words(task: str, reported: Iterable[str], metrics: Mapping[str, Json]) -> str:
    """A task's scores as every line about an evaluation says them.

    Args:
        task: of a suite.
        reported: the metrics that the suite reports, by lm-eval's names.
        metrics: what was found, maybe more than that.

    >>> scores_in_words("arc_easy", ["acc,none"], {"acc,none": {"value": 0.27}, "acc_norm,none": {"value": 0.31}})
    'arc_easy acc 0.2700'
    """
    values = {name: f"{metrics[name]['value']:.4f}" if name in metrics else "not given by lm-eval" for name in reported}
    return f"{task} {', '.join(f'{metric_in_words(name)} {value}' for name, value in values.items())}"


def metric_in_words(metric: str) -> str:
    """`acc,none` → acc; `exact_match,strict-match` → exact_match strict-match."""
    return metric.removesuffix(",none").replace(",", " ")
