"""`campus-tune eval compare A B …`: every task of two or more results, document by document.

What is compared must be the same question: where versions, few-shot counts, chat templates, limits, seeds or data of
a task differ between two results, that task is not compared and the table says what differs; the other tasks are.
A task has one line; one of a few parts (MATH's types, the domains of answer_loss) has a line for each part too, while
MMLU's 57 subjects stay one. Which numbers are in the table, and why those, is said in `paired`.

With more than two results, each is compared with the first. Someone who looks at ten checkpoints finds one that is
better by chance, so p-values are then also given after Holm's correction, over the results, for each line apart.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from campus_tune.cli.answer import Answer, as_json
from campus_tune.cli.exit_codes import DONE, FOUND
from campus_tune.cli.options import Commands, add_command
from campus_tune.evaluate.comparable import WEIGHTS, Document, both, reasons, weight
from campus_tune.evaluate.compare_table import FEW, Line, Refused, ResultsTable, Unpaired
from campus_tune.evaluate.paired import Paired, holm, paired
from campus_tune.evaluate.results import Result, TaskResult, read_result
from campus_tune.words.errors import DataError
from campus_tune.words.files import atomic_write

MOST_PARTS = 10  # of a task that get a line each
_LIBRARIES = ("campus_tune", "transformers", "torch")  # of which another version is worth a word, and no more
_SAME = 1e-6  # how far a mean over documents may be, relatively, from the value that the file has

EXAMPLE = """\
Compare results of `campus-tune eval`, each with the first: differences, their errors and what they could detect.

example:
  campus-tune eval compare eval/base.json eval/checkpoint-500.json --markdown comparison.md
"""


def compare(first: Result, *others: Result, names: Sequence[str] = ()) -> ResultsTable:
    """Compare results with the first one, task by task.

    Args:
        first: what the others are measured against.
        others: at least one.
        names: what to call them in the table, the first one's first; A, B, … without.

    Raises:
        DataError: no other result, or a value that is no number.
    """
    if not others:
        raise DataError("`compare` must have at least two results, got one. Name another one.")
    results = (first, *others)
    lines: list[Line] = []
    refused: list[Refused] = []
    unpaired: list[Unpaired] = []
    for task in dict.fromkeys(name for result in results for name in result.tasks):
        for place, other in enumerate(others, 1):
            if against := reasons(task, first, other):
                refused.append(Refused(place, task, tuple(against)))
                continue
            a, b = first.tasks[task], other.tasks[task]
            lines += _lines(place, task, a, b)
            of_a, of_b = (dict.fromkeys((part, n) for part, of in r.documents.items() for n in of) for r in (a, b))
            only_a, only_b = tuple(d for d in of_a if d not in of_b), tuple(d for d in of_b if d not in of_a)
            if only_a or only_b:
                unpaired.append(Unpaired(place, task, only_a, only_b))
    names = tuple(names) or tuple(f"result {i}" for i in range(1, len(results) + 1))
    notes = tuple(_notes(results, names, lines))
    # By task, part and metric as they came, then by result; each such family of several results is corrected apart.
    families: dict[tuple[str, str, str], list[Line]] = {}
    for line in lines:
        families.setdefault((line.task, line.part, line.metric), []).append(line)
    ordered = [sorted(family, key=lambda line: line.model) for family in families.values()]
    if len(others) > 1:
        ordered = [
            [replace(line, p_holm=p) for line, p in zip(family, holm([one.found.p for one in family]), strict=True)]
            for family in ordered
        ]
    models = tuple(dict(result.model) for result in results)
    shown = tuple(line for family in ordered for line in family)
    return ResultsTable(tuple(names), models, shown, tuple(refused), tuple(unpaired), notes)


def _lines(place: int, task: str, a: TaskResult, b: TaskResult) -> Iterator[Line]:
    """The line of a task for each metric, and those of its parts where it has few."""
    parts = [part for part in a.documents if part in b.documents]
    for metric in a.metrics:
        if metric not in b.metrics:
            continue
        documents = both(a, b, metric)
        yield Line(place, task, "", metric, _paired(a, b, metric, documents))
        if not 1 < len(parts) <= MOST_PARTS:
            continue
        for part in parts:
            if chosen := [document for document in documents if document[0] == part]:
                yield Line(place, task, part, metric, _paired(a, b, metric, chosen))


def _paired(a: TaskResult, b: TaskResult, metric: str, documents: Sequence[Document]) -> Paired:
    of_a, of_b = a.scores(metric), b.scores(metric)
    weights = [weight(a, metric, document) for document in documents] if metric in WEIGHTS else None
    return paired([of_a[d] for d in documents], [of_b[d] for d in documents], weights)


def _notes(results: Sequence[Result], names: Sequence[str], lines: Sequence[Line]) -> Iterator[str]:
    """What else to know of the numbers."""
    for library in _LIBRARIES:
        versions = {name: result.made_with.get(library) for name, result in zip(names, results, strict=True)}
        if len(set(versions.values())) > 1:
            listed = ", ".join(f"{version} ({name})" for name, version in versions.items())
            yield f"Made with different versions of {library}: {listed}. Prompts and metrics are the same."
    # Metrics whose value is no mean over documents: the table compares such means all the same.
    for name, result in zip(names, results, strict=True):
        parts = [(task, found, metric) for task, found in result.tasks.items() for metric in found.metrics]
        for task, found, metric in parts:
            scores, told = found.scores(metric), found.metrics[metric]
            weights = {document: weight(found, metric, document) for document in scores}
            mean = sum(weights[d] * scores[d] for d in scores) / (sum(weights.values()) or math.nan)
            if scores and not math.isclose(mean, told["value"], rel_tol=_SAME, abs_tol=_SAME):
                yield (
                    f"{task}: {metric} is {told['value']:.4f} in {name}, and {mean:.4f} as a mean over its "
                    "documents, which is what is compared."
                )
    for line in lines:
        if not line.part and line.found.n > 1 and 0 < line.found.changed < FEW:
            yield (
                f"{line.task}: {line.metric} changed on {line.found.changed} of {line.found.n} documents between "
                f"{names[0]} and {names[line.model]}: the interval is rough."
            )


def add_parser(parts: Commands) -> argparse.ArgumentParser:
    """Add `compare` to the subcommands of `campus-tune eval`; its `command` is `main`."""
    parser = add_command(parts, "compare", "differences of results, paired by document", EXAMPLE, main)
    parser.add_argument("results", nargs="+", type=Path, metavar="FILE", help="result files; the first is the base")
    said = "print the answer as JSON, and nothing else; with FILE, write it there beside the table"
    parser.add_argument("--json", type=Path, metavar="FILE", nargs="?", const=True, help=said)
    parser.set_defaults(answers=True)
    parser.keys = {
        "format": "of this document",
        "statistics": "how each number is made",
        "results": "names and models, the base first",
        "lines": "a task, part and metric each, unrounded",
        "refused": "what was not compared, and why",
        "unpaired": "documents that one result has alone",
        "notes": "what else to know",
    }
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there")
    return parser


def main(options: argparse.Namespace) -> Answer:
    """The table of some result files, written where asked; the exit code is 1 where no task could be compared.

    Raises:
        DataError: a file that is no result, or one alone.
        StorageError: a file cannot be written.
    """
    if isinstance(options.json, Path):
        _refuse_result(options.json)
    found = compare_files(options.results)
    if isinstance(options.json, Path):
        atomic_write(options.json, as_json(found.as_json()) + "\n")
    if options.markdown is not None:
        atomic_write(options.markdown, found.as_markdown())
    return Answer(found.as_json(), found.as_text(), DONE if found.lines else FOUND)


def _refuse_result(path: Path) -> None:
    """`compare --json a.json b.json` would lose a result of a night.

    Raises:
        DataError: the file that would be written is a result.
    """
    try:
        read_result(path)
    except (DataError, OSError):
        return
    raise DataError(
        f"`--json` must be a file to write, got {path}, which is a result. Write --json behind the results, or --json "
        "FILE with another name."
    )


def compare_files(paths: Sequence[str | Path]) -> ResultsTable:
    """Compare result files with the first one; they are called as their files are.

    Raises:
        DataError: a file that is no result, or one alone.
    """
    if len(paths) < 2:
        raise DataError("`compare` must be given at least two result files, got one. Name the base first.")
    results = [read_result(Path(path)) for path in paths]
    stems = [Path(path).stem for path in paths]
    return compare(*results, names=stems if len(set(stems)) == len(stems) else [str(path) for path in paths])
