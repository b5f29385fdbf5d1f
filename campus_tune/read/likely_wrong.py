"""The rows of a run that are likeliest wrong, read back from the map that it left, with as much text as there is.

A run knows the texts of the first twenty (`curriculum/book/likeliest.jsonl`, long ones cut). Others, and the whole of
those, are in the training file, where a row is found by what it says and not by its number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.data.judged import keys_of
from campus_tune.data.said import Said
from campus_tune.data.shapes import Shape
from campus_tune.run.ledger import FILE, FOLDER
from campus_tune.run.ledger_lines import find_ledger, is_by_reward, read_events
from campus_tune.run.row_map import FILE as MAP
from campus_tune.run.row_map import LIKELIEST
from campus_tune.run.told import NO_BASIS
from campus_tune.scores.cache import read_columns
from campus_tune.words.errors import DataError, ResumeError
from campus_tune.words.files import read_jsonl, read_table
from campus_tune.words.types import IntArray, Json, RowArray

DIGITS = 4  # of numbers in a file for people
SHOWN = ("said", "rather", "rather_probability", "before")  # of a departure, as the run has written it
ASK_BEFORE = "campus-tune suspects --config recipe.yaml asks the model of the recipe, before any training."


@dataclass(frozen=True)
class RowText:
    """What a row says.

    Args:
        prompt: "" where the row does not tell question from answer.
        answer: the rest.
        whole: nothing of it is cut.
        rather: where the model would have gone on otherwise, as `likeliest.jsonl` has it.
    """

    prompt: str
    answer: str
    whole: bool
    rather: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def kept(line: Json) -> RowText:
        """As a run has kept it, in a line of `likeliest.jsonl`."""
        rather = {name: line[name] for name in SHOWN if line.get(name) is not None}
        answer = str(line.get("answer", line.get("text", "")))
        return RowText(str(line.get("prompt", "")), answer, whole=False, rather=rather)

    @property
    def text(self) -> str:
        """Both parts; of a row that is not cut it is what its key is a hash of."""
        return f"{self.prompt}\n{self.answer}"


@dataclass(frozen=True, eq=False)
class LikelyWrong:
    """The map of a run.

    Args:
        table: its columns, a value for each row, shape (N,) each.
        about: what it was made of, and its sentence.
        texts: by row, as far as they are known.
    """

    table: Mapping[str, NDArray[Any]]
    about: Json
    texts: Mapping[int, RowText]

    @property
    def worst_first(self) -> RowArray:
        """The rows that have a score, the likeliest wrong one first."""
        score = self.table["excess"]
        first = np.argsort(-score, kind="stable")
        return first[: np.count_nonzero(~np.isnan(score))].astype(np.int32)

    def domain(self, row: int) -> str:
        """Of a row; "" where the run knows none."""
        return str(self.table["domain"][row]) if "domain" in self.table else ""

    def number(self, name: str, row: int) -> float | None:
        """One of a row's numbers; None where it is not known."""
        value = self.table[name][row]
        return None if value is None or value != value else float(value)  # NaN is not itself

    def to_judge(self, row: int) -> Json:
        """A row's line in a file to judge (`data.judging`)."""
        names = {"score": "excess", "spread": "spread", "visits": "visits", "loss": "mean_loss"}
        numbers = {name: self.number(column, row) for name, column in names.items()}
        rounded = {name: None if value is None else round(value, DIGITS) for name, value in numbers.items()}
        text = self.texts.get(row)
        domain = {"domain": self.domain(row)} if "domain" in self.table else {}
        said = {} if text is None else {"answer": text.answer, **text.rather}
        return {
            "row": row,
            "key": str(self.table["key"][row]),
            "content": f"{int(self.table['content'][row]):016x}",
            **domain,
            **rounded,
            "visits": int(numbers["visits"] or 0),
            "text": None if text is None else text.text,
            **said,
        }

    def with_texts_of(self, data: Path | Sequence[Json], shape: Shape) -> LikelyWrong:
        """The same, with the texts of all rows that stand in a training file, by what they say.

        Args:
            data: the file, or its rows.
            shape: of them, as they were trained.

        Raises:
            DataError: it cannot be read, or holds no row of the run.
        """
        said = Said.of_rows(read_table(data) if isinstance(data, Path) else data, shape)
        places = {key: place for place, key in reversed(list(enumerate(keys_of(said.whole))))}
        keys = self.table["key"].tolist()
        texts = {
            row: RowText(
                said.prompts[place],
                said.answers[place],
                whole=True,
                rather=self.texts[row].rather if row in self.texts else {},
            )
            for row, key in enumerate(keys)
            if (place := places.get(key)) is not None
        }
        if not texts:
            given = data if isinstance(data, Path) else f"{len(data)} others"
            raise DataError(
                f"`--data` must be the training file of this run, got {given}, in which none of its {len(keys)} rows "
                "is. Name the file that it was trained on, as it was then, or leave --data out."
            )
        return replace(self, texts={**self.texts, **texts})

    def by_domain(self) -> list[tuple[str, IntArray]]:
        """(Domain, rows of it), one for all rows where the run knows none."""
        n_rows = len(self.table["row"])
        if "domain" not in self.table:
            return [("all rows", np.arange(n_rows))]
        names, codes = np.unique(self.table["domain"].astype(str), return_inverse=True)
        return [(str(name), np.flatnonzero(codes == code)) for code, name in enumerate(names)]


def read_likely_wrong(run: Path, data: Path | Sequence[Json] | None = None) -> LikelyWrong:
    """Read the map of a run.

    Args:
        run: its output_dir, the `curriculum/` folder in it, or the ledger.
        data: the training file that the run was given, or its rows, to look texts up in; None for those that the run
            has kept.

    Raises:
        DataError: there is no run, or it has made no map (it is said why), or one that is damaged; or the file holds
            other rows.
    """
    ledger = find_ledger(run)
    if ledger is None:
        raise DataError(f"`{run}` must hold a run's {FOLDER}/{FILE}, got none. Name the output_dir of a run.")
    home = ledger.parent
    events = read_events(ledger)
    if not (home / MAP).exists():
        raise why_no_map(run, events)
    try:
        table, about = read_columns(home / MAP)
    except ResumeError as error:
        raise DataError(
            f"`{home / MAP}` must be the map that the run left, got {error.__cause__}. Put it back from a copy."
        ) from error
    path = home / LIKELIEST
    likeliest = read_jsonl(path) if path.is_file() and path.stat().st_size else []
    found = LikelyWrong(table, about, {int(line["row"]): RowText.kept(line) for line in likeliest})
    return found if data is None else found.with_texts_of(data, trained_shape(events))


def trained_shape(events: Sequence[Json]) -> Shape:
    """How the rows of a run are read: the column of plain texts is as its trainer had it.

    Args:
        events: the lines of its ledger.
    """
    return Shape.of({"dataset_text_field": events[0].get("prepared", {}).get("dataset_text_field")})


def why_no_map(run: Path, events: Sequence[Json]) -> DataError:
    """What is said of a run that has no map, and what to do.

    Args:
        run: as it was named.
        events: the lines of its ledger.
    """
    if is_by_reward(events):
        return DataError(
            f"`{run}` must be a run that was trained on answers, got one by reward, whose rows have none that could be "
            "wrong. Its page shows the hardest prompts, and those whose reward contradicts itself: campus-tune report "
            f"{run}"
        )
    told = [event for event in events if event["event"] == "map"]
    if told and told[-1].get("basis") == NO_BASIS:
        return DataError(f"`{run}` must have made a map of its rows, got none: {told[-1].get('why', '')} {ASK_BEFORE}")
    if events[-1]["event"] == "end":
        what = "an older version" if not told else "it was removed"
        return DataError(f"`{run}` must have left {FOLDER}/{MAP}, got none ({what}). {ASK_BEFORE}")
    step = max((int(event["step"]) for event in events if event["event"] == "stage_end"), default=0)
    if not step:
        return DataError(
            f"`{run}` must be a run that is over, got one that ended before its first stage was. Resume it, or train "
            f"it anew. {ASK_BEFORE}"
        )
    total = events[0]["future"]["total_steps"]
    return DataError(
        f"`{run}` must be a run that is over, for the map is made at its end, got one that stands at step {step} of "
        f"{total}. Wait for it, or resume it from its last checkpoint: what its training showed until there is kept."
    )
