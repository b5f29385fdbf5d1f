"""What is said in each row as its user wrote it, read from the columns that preparation leaves beside the tokens.

So that rows are compared with each other, and with a person's file, in words and not in one tokenizer's numbers. Rows
that came to the trainer as tokens alone have no words here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from campus_tune.data.plain import split_row
from campus_tune.data.shapes import Shape, columns_read
from campus_tune.words.errors import DataError
from campus_tune.words.types import Json


@dataclass(frozen=True)
class Said:
    """What is said in some rows.

    Args:
        whole: all of each row, length N.
        prompts: of it, what is asked, length N; "" where the row does not tell question from answer.
        answers: the rest, length N.
    """

    whole: Sequence[str]
    prompts: Sequence[str]
    answers: Sequence[str]

    @staticmethod
    def of(columns: Mapping[str, Sequence[Any]], shape: Shape, *, end: str = "") -> Said | None:
        """What prepared rows say; None where their columns have none of the shapes that TRL trains.

        Args:
            columns: of the training set by name, each of length N.
            shape: what the trainer's settings say of the rows.
            end: of sequence: TRL appends it to plain texts, and no user's file has it.
        """
        names = list(columns)
        if not names or not len(columns[names[0]]):
            return None
        read = columns_read({name: columns[name][0] for name in names}, names, shape)
        if read is None:
            return None
        rows = [dict(zip(read, values, strict=True)) for values in zip(*(columns[name] for name in read), strict=True)]
        try:
            return Said.of_rows(rows, shape, end=end)
        except DataError:  # what the columns are called was chance
            return None

    @staticmethod
    def of_rows(rows: Sequence[Json], shape: Shape, *, end: str = "") -> Said:
        """What rows say, as they stand in a file.

        Args:
            rows: of them.
            shape: what the trainer's settings say of them.
            end: as above.

        Raises:
            DataError: a row has none of the shapes that TRL trains on (its number is named).
        """
        parts, plain = [], replace(shape, assistant_only_loss=False, completion_only_loss=None)
        of_answers = replace(plain, assistant_only_loss=True)
        for number, row in enumerate(rows):
            try:
                parts.append(_parts(row, of_answers, plain))
            except DataError as error:
                raise DataError(f"row {number}: {error}") from error
        prompts = [prompt for prompt, _ in parts]
        answers = [answer.removesuffix(end) if end else answer for _, answer in parts]
        whole = ["\n".join(part) for part in zip(prompts, answers, strict=True)]
        return Said(whole, prompts, answers)


def _parts(row: Json, of_answers: Shape, plain: Shape) -> tuple[str, str]:
    """(What is asked, what is answered): by role where there are turns, whatever of them carries loss."""
    try:
        return split_row(row, of_answers)
    except DataError:  # nobody answers
        return split_row(row, plain)
