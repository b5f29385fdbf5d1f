"""A comparison of results as a table for the terminal, as markdown and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from campus_tune.evaluate.comparable import Document
from campus_tune.evaluate.paired import Paired
from campus_tune.words.tables import table
from campus_tune.words.types import Json
from campus_tune.words.wording import listed

FORMAT = 1
SHOWN = 3  # documents that are named, of those that only one result has
FEW = 10  # changed documents below which an interval that assumes a bell curve is rough
STATISTICS = {
    "difference": "D = sum w (b - a) / sum w over the documents that both have; w = 1, for answer_loss answer tokens",
    "stderr": "SE = sqrt(n / (n - 1) * sum w^2 (b - a - D)^2) / sum w",
    "interval": "D +- t(n - 1, 97.5 %) * SE",
    "detectable": "(z(97.5 %) + z(80 %)) * SE = 2.80 * SE: two-sided 5 %, power 80 %",
    "p": "two-sided: of D / SE under Student's t; exact (McNemar) where every document is 0 or 1",
    "p_holm": "p after Holm's correction for the several results compared with the first on this task and metric",
}
LOWER = {"answer_loss"}  # metrics of which less is better; the table marks them


@dataclass(frozen=True)
class Line:
    """One task and metric, of one result against the first.

    Args:
        model: place of the other result, from 1.
        task: of the suite.
        part: one of the tasks that it is made of; "" for all of it.
        metric: as lm-eval calls it, metric, comma, filter; or answer_loss.
        found: what the documents say.
        p_holm: p-value after Holm's correction; None where one other result is compared, or p is unknown.
    """

    model: int
    task: str
    part: str
    metric: str
    found: Paired
    p_holm: float | None = None


@dataclass(frozen=True)
class Refused:
    """A task that two results cannot be compared on.

    Args:
        model: place of the other result, from 1.
        task: of the suite.
        reasons: what differs, one sentence part each.
    """

    model: int
    task: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Unpaired:
    """Documents of a compared task that only one of two results has: they were left out.

    Args:
        model: place of the other result, from 1.
        task: of the suite.
        only_first: those of the first result.
        only_other: those of the other.
    """

    model: int
    task: str
    only_first: tuple[Document, ...]
    only_other: tuple[Document, ...]


@dataclass(frozen=True)
class ResultsTable:
    """Results against the first one.

    Args:
        names: what the results are called, the first one's first.
        models: what they are of, as their files say.
        lines: what was compared.
        refused: what was not, and why.
        unpaired: documents that were left out.
        notes: what else a reader should know.
    """

    names: tuple[str, ...]
    models: tuple[Json, ...]
    lines: tuple[Line, ...]
    refused: tuple[Refused, ...]
    unpaired: tuple[Unpaired, ...]
    notes: tuple[str, ...]

    def as_text(self) -> str:
        """For the terminal."""
        legend = [f"{letter(i)}  {text}" for i, text in enumerate(self._legend())]
        remarks = self._remarks()
        return "\n".join([*legend, "", *self._body(table), *([""] if remarks else []), *remarks])

    def as_markdown(self) -> str:
        """For an issue or a log: a list of the results, the table, remarks."""
        legend = [f"- **{letter(i)}**: {text}" for i, text in enumerate(self._legend())]
        remarks = [f"- {remark}" for remark in self._remarks()]
        lines = [*legend, "", *self._body(markdown_table), *([""] if remarks else []), *remarks]
        return "\n".join([*lines, "", f"{_SMALL_PRINT}\n"])

    def as_json(self) -> Json:
        """All numbers, unrounded; null where a number is not known."""
        return {
            "format": FORMAT,
            "statistics": STATISTICS,
            "results": [{"name": n, "model": m} for n, m in zip(self.names, self.models, strict=True)],
            "lines": [
                {"against": self.names[0], "name": self.names[line.model], "task": line.task, "part": line.part or None}
                | {"metric": line.metric, **vars(line.found), "p_holm": line.p_holm}
                for line in self.lines
            ],
            "refused": [
                {"name": self.names[one.model], "task": one.task, "reasons": [*one.reasons]} for one in self.refused
            ],
            "unpaired": [
                {"name": self.names[one.model], "task": one.task}
                | {"only_first": [[*d] for d in one.only_first], "only_other": [[*d] for d in one.only_other]}
                for one in self.unpaired
            ],
            "notes": [*self.notes],
        }

    def _legend(self) -> list[str]:
        lines = []
        for name, model in zip(self.names, self.models, strict=True):
            adapter = f", adapter {model['adapter']}" if model.get("adapter") else ""
            step = "" if model.get("step") is None else f", step {model['step']}"
            lines.append(f"{name}: {model.get('name')}{adapter}{step}")
        return lines

    def _body(self, write: Callable[[list[str], list[list[str]]], str]) -> list[str]:
        """What was compared; a pair needs no columns for which one and for Holm's correction."""
        if not self.lines:
            return ["No task could be compared."]
        several = len(self.names) > 2
        head = ["task", "metric", *(["result"] if several else []), "documents", "A", "other" if several else "B"]
        head += ["difference", "± SE", "95 % interval", "detectable", "p", *(["p (Holm)"] if several else [])]
        rows = []
        for line in self.lines:
            found, metric = line.found, f"{line.metric} ↓" if line.metric in LOWER else line.metric
            interval = "-" if found.low is None else f"{found.low:.4f} … {found.high:.4f}"
            row = [f"· {line.part}" if line.part else line.task, metric, *([letter(line.model)] if several else [])]
            row += [str(found.n), f"{found.mean_a:.4f}", f"{found.mean_b:.4f}", f"{found.difference:.4f}"]
            row += [_number(found.stderr), interval, _number(found.detectable), _p(found.p)]
            rows.append([*row, _p(line.p_holm)] if several else row)
        return [write(head, rows)]

    def _remarks(self) -> list[str]:
        remarks = [
            f"{one.task}: not compared with {self.names[one.model]}: {'; '.join(one.reasons)}." for one in self.refused
        ]
        for one in self.unpaired:
            for name, documents in ((self.names[0], one.only_first), (self.names[one.model], one.only_other)):
                if documents:
                    shown = listed([f"{task} {number}" for task, number in documents], SHOWN)
                    remarks.append(f"{one.task}: {len(documents)} documents only in {name}, left out ({shown}).")
        return [*remarks, *self.notes]


_SMALL_PRINT = (
    "Paired over documents. Detectable: the true difference found in 80 of 100 such comparisons at the two-sided 5 % "
    "level, 2.80 · SE. p: Student's t, exact (McNemar) where every document is 0 or 1. ↓: lower is better."
)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same cells as a markdown table; a bar in a cell is escaped.

    >>> print(markdown_table(["task", "p"], [["arc", "0.5"]]))
    | task | p |
    |---|---|
    | arc | 0.5 |
    """
    lines = [" | ".join(cell.replace("|", "\\|") for cell in cells) for cells in (head, *rows)]
    return "\n".join([f"| {lines[0]} |", "|" + "---|" * len(head), *(f"| {line} |" for line in lines[1:])])


def letter(place: int) -> str:
    """A short name of the result at a place: A, B, … Z, A1, B1, …."""
    return ascii_uppercase[place % 26] + (str(place // 26) if place >= 26 else "")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if value >= 0.001 or not value else f"{value:.0e}"
