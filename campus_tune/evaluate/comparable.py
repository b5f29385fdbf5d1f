"""Whether two results may be compared on a task: only the same question, put in the same way, has a difference.

A point of accuracy is easily made by another template, another number of shots or a longer answer. So everything
that a result file has under `settings` must be equal, lm-eval's own version too, and the refusal says what is not.

>>> differences({"limit": 4, "versions": {"gsm8k": 3.0}}, {"limit": 8, "versions": {"gsm8k": 3.0}})
['limit is 4 against 8']
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from campus_tune.evaluate.results import Result, TaskResult
from campus_tune.words import wording
from campus_tune.words.errors import DataError

Document = tuple[str, str]  # (lm-eval's task, the document's number in it)

WEIGHTS = {"answer_loss": "tokens"}  # metrics that are a mean over tokens, and where their documents keep these


def reasons(task: str, first: Result, other: Result) -> list[str]:
    """Why two results cannot be compared on a task that at least one of them has; an empty list where they can.

    Raises:
        DataError: a document without the tokens that its loss is a mean over.
    """
    a, b = first.tasks.get(task), other.tasks.get(task)
    if a is None or b is None:
        return [f"only the {'other' if a is None else 'first'} result has it"]
    found = differences(a.settings, b.settings)
    if task not in WEIGHTS:  # its prompts and filters are lm-eval's
        found += differences(*({"lm_eval": result.made_with.get("lm_eval")} for result in (first, other)))
    shared = [metric for metric in a.metrics if metric in b.metrics]
    if not shared:
        found.append(f"no metric in common ({', '.join(a.metrics)} against {', '.join(b.metrics)})")
    for metric in () if found else shared:
        documents = both(a, b, metric)
        if not documents:
            found.append(f"no document with {metric} in common")
        for which, result in (("first", a), ("other", b)):
            scores = result.scores(metric)
            if not all(math.isfinite(scores[document]) for document in documents):
                found.append(f"{metric} is NaN or infinite on some documents of the {which} result")
        if any(weight(a, metric, document) != weight(b, metric, document) for document in documents):
            found.append(f"{WEIGHTS[metric]} of the same documents differ, so the models read them in other tokens")
    return found


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """What differs between two settings; inner ones are named by their path."""
    found = wording.differences(dict(_flat(a)), dict(_flat(b)), absent="not said")
    return [f"{name} is {one} against {other}" for name, one, other in found]


def both(a: TaskResult, b: TaskResult, metric: str) -> list[Document]:
    """The documents for which two results have a value of a metric, in the first one's sequence."""
    of_b = b.scores(metric)
    return [document for document in a.scores(metric) if document in of_b]


def weight(result: TaskResult, metric: str, document: Document) -> float:
    """How much a document counts in the mean of a metric: 1, or its tokens.

    Raises:
        DataError: it does not say how many tokens it has.
    """
    if metric not in WEIGHTS:
        return 1.0
    part, number = document
    found = result.documents[part][number].get(WEIGHTS[metric])
    if found is None or not found > 0:
        raise DataError(
            f"every document of {metric} must have its {WEIGHTS[metric]}, got {part} {number} with {found}. "
            "Evaluate again."
        )
    return float(found)


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{name}: ")
        else:
            yield f"{above}{name}", json.dumps(value, sort_keys=True, ensure_ascii=False)
