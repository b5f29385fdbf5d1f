"""Rows that TRL would not train, told in one sentence before a model is loaded: which row, and the call that mends it.

What TRL takes, we take (`shapes` says what that is). What it does not take it answers with a KeyError or an
AttributeError out of a `map`, after the model is loaded.

>>> print(why_not([{"text": "a"}, {"text": None}], Shape()).split(". ")[0])
row 1: `text` must be in every row, got none (null or no such field)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from campus_tune.data.conversions import (
    ROLES,
    Origin,
    conversion,
    is_json,
    joined_texts,
    renamed_roles,
)
from campus_tune.data.prepared import rows_with
from campus_tune.data.shapes import ANSWERS, Row, Shape, columns_read, is_chat, must_have
from campus_tune.words.errors import DataError
from campus_tune.words.types import Json
from campus_tune.words.wording import shown

if TYPE_CHECKING:
    from datasets import Dataset

Rows: TypeAlias = "Dataset | Sequence[Row]"

SHORT = 60  # characters of a value, beside which a call is written out
CHATS = ("messages", "conversations", "prompt", "completion")


HERE = Origin()


def refuse_rows(rows: Rows, shape: Shape, origin: Origin = HERE, *, most: int | None = None) -> None:
    """Refuse rows that TRL would not train; see `why_not`.

    Raises:
        DataError: with the row, the column and what to do.
    """
    problem = why_not(rows, shape, origin, most=most)
    if problem is not None:
        raise DataError(problem)


def why_not(rows: Rows, shape: Shape, origin: Origin = HERE, *, most: int | None = None) -> str | None:
    """Why TRL would not train these rows, with the first row for which it would not; None where it would.

    Args:
        rows: dictionaries, or a `datasets.Dataset`.
        shape: what the trainer's settings say of them.
        origin: where they come from.
        most: rows that are looked at; None for all.
    """
    if not len(rows):
        return "the training set must have at least one row, got none. Check the path, the split and filters."
    names = list(getattr(rows, "column_names", None) or dict.fromkeys(name for row in rows for name in row))
    if "input_ids" in names:
        return None  # prepared by its user
    if not names:
        return "training rows must have columns, got none in any row. Check the file that they were written from."
    kind = columns_read(rows[0], names, shape)
    if kind is None:
        what, method = must_have(names, shape), conversion(rows[0], names)
        if method is not None:
            return what + origin.advice(method)
        texts = [name for name in names if isinstance(rows[0].get(name), str)]
        if len(texts) == 1:
            return f"{what}Write dataset_text_field: {texts[0]}, if that is the text to train on."
        return (
            f"{what}Name the column of texts in dataset_text_field (dataset_text_field: {[*texts, *names][0]}, for "
            f"example), or make one. {origin.advice(joined_texts(texts or names))}"
        )
    for number, row in enumerate(rows_with(rows, [*kind, "tools", "labels", shape.dataset_text_field], most)):
        problem = next(_problems(row, kind, shape, origin), None)
        if problem is not None:
            return f"row {number}: {problem}"
    return None


def foreign_roles(rows: Rows, origin: Origin = HERE) -> str | None:
    """What to know of a chat whose speakers are called as ShareGPT calls them; None where they are not.

    Args:
        rows: that `refuse_rows` has let pass.
        origin: where they come from.
    """
    for name, role in (("conversations", "from"), ("messages", "role")):
        turns = rows[0].get(name)
        if isinstance(turns, list) and (found := [turn[role] for turn in turns if turn.get(role) in ROLES]):
            return (
                f"the speakers of `{name}` are called {' and '.join(dict.fromkeys(found))}, and so they are given to "
                f"the chat template, which knows user and {ANSWERS}. {origin.advice(renamed_roles(name))}"
            )
    return None


# -- single rows ---------------------------------------------------------------------------------------------------


def _problems(row: Row, kind: Sequence[str], shape: Shape, origin: Origin) -> Iterator[str]:
    """What is wrong with one row, and how to mend it and its like."""
    values = {name: row.get(name) for name in kind}
    for name, value in values.items():
        # a column of texts may bear the name of a chat; TRL loses one called messages
        is_text_field = isinstance(value, str) and name == shape.dataset_text_field != "messages"
        if value is None:
            gone = f"row[{name!r}] is not None"
            yield f"`{name}` must be in every row, got none (null or no such field). {origin.left_out(gone)}"
        elif isinstance(value, list):
            yield from _turn_problems(name, value, origin)
        elif name in ("messages", "conversations") and not is_text_field:
            mend = "Correct or remove the row."
            if isinstance(value, Mapping) and all(isinstance(field, list) for field in value.values()):
                turns = f"[dict(zip(row[{name!r}], turn)) for turn in zip(*row[{name!r}].values())]"
                mend = origin.advice(f"map(lambda row: {{{name!r}: {turns}}})")
            yield f"`{name}` must be a list of turns, got {shown(value, SHORT)}. {mend}"
        elif not isinstance(value, str):
            mend = "Correct or remove the row, or name another column of texts."
            if not isinstance(value, Mapping):  # a map would make numbers of its texts again
                mend = origin.advice(f"cast_column({name!r}, datasets.Value('string'))")
            yield f"`{name}` must be text, got {shown(value, SHORT)}. {mend}"
    yield from _problems_of_all(row, values, shape, origin)


def _turn_problems(name: str, turns: Sequence[Any], origin: Origin) -> Iterator[str]:
    """What is wrong with the turns of one chat."""
    role, content = ("from", "value") if name == "conversations" else ("role", "content")
    what = f"`{name}` must be a list of turns with {role} and {content}"
    if not turns:
        yield f"{what}, got an empty one. {origin.left_out(f'row[{name!r}]')}"
    elif None in turns:
        kept = f"map(lambda row: {{{name!r}: [turn for turn in row[{name!r}] if turn is not None]}})"
        kept += f".filter(lambda row: row[{name!r}])"
        yield f"{what}, got null as turn {list(turns).index(None)}. {origin.advice(kept)}"
    elif all(isinstance(turn, str) for turn in turns):
        taken = f"{{{role!r}: ('user', {ANSWERS!r})[i % 2], {content!r}: turn}}"
        said = f"map(lambda row: {{{name!r}: [{taken} for i, turn in enumerate(row[{name!r}])]}})"
        yield f"{what}, got texts without a role. If they are asked and answered in turn: {origin.advice(said)}"
    else:
        strange = next((i for i, turn in enumerate(turns) if not (isinstance(turn, Mapping) and turn.get(role))), None)
        if strange is not None and is_chat(turns, "from", "value"):
            yield f"{what}, got from and value. {origin.advice('map(trl.maybe_convert_to_chatml)')}"
        elif strange is not None:
            yield f"{what}, got {shown(turns[strange], SHORT)} as turn {strange}. Correct or remove the row."


def _problems_of_all(row: Row, values: Row, shape: Shape, origin: Origin) -> Iterator[str]:
    """What is wrong with columns beside one another, trained or not: TRL works on some because of their names."""
    kinds = {name: type(value) for name, value in values.items() if isinstance(value, str | list)}
    if len(set(kinds.values())) > 1:  # TRL joins a text and a chat as they are
        text = next(name for name, kind in kinds.items() if kind is str)
        role = "user" if text == "prompt" else ANSWERS
        made = f"map(lambda row: {{{text!r}: [{{'role': {role!r}, 'content': row[{text!r}]}}]}})"
        yield f"prompt and completion must both be texts or both be turns, got a text as {text}. {origin.advice(made)}"
    # TRL reads every text of tools as JSON; null is none where no chat is told of them
    tools, spare = row.get("tools"), object if isinstance(next(iter(values.values())), str) else None
    if isinstance(tools, str) and not (is_json(tools, list) or is_json(tools, spare)):
        yield f"`tools` must be a list, or one as JSON text, got {shown(tools, SHORT)}. Correct it, or take it out."
    name = shape.dataset_text_field
    if isinstance(values.get("prompt"), str) and name in row and not isinstance(row[name], str):
        advice = origin.advice(f"remove_columns([{name!r}])")
        yield f"`{name}` beside prompt and completion must be text, got {shown(row[name], SHORT)}. {advice}"
    if "labels" in row and not isinstance(row["labels"], list):
        advice = origin.advice("remove_columns(['labels'])")
        yield f"`labels` must be a list, one for each token of a row, got {shown(row['labels'], SHORT)}. {advice}"
    for name, role in (("messages", "role"), ("conversations", "from")) if shape.assistant_only_loss else ():
        roles = sorted({str(turn.get(role)) for turn in values.get(name) or []})
        if roles and ANSWERS not in roles:
            advice = origin.advice(renamed_roles(name)) if ROLES.keys() & roles else "Rename the role of the answers."
            yield (
                f"a chat must have a turn of the role {ANSWERS} under assistant_only_loss, got {', '.join(roles)}. "
                f"{advice} Or drop assistant_only_loss."
            )


def silent_contents(rows: Rows, origin: Origin = HERE) -> str | None:
    """That a chat has turns without content, which templates may write as the word None; None where all have one.

    Args:
        rows: that `refuse_rows` has let pass.
        origin: where they come from.
    """
    for number, row in enumerate(rows_with(rows, CHATS, None)):
        for name in ("messages", "prompt", "completion"):
            turns: list[Json] = row.get(name) if isinstance(row.get(name), list) else []  # type: ignore[assignment]
            for i, turn in enumerate(turns):
                if turn.get("content") is None and not turn.get("tool_calls"):
                    said = f"[turn | {{'content': turn.get('content') or ''}} for turn in row[{name!r}]]"
                    return (
                        f"row {number}: turn {i} of `{name}` must have content, got none: chat templates refuse it or "
                        f"write the word None. {origin.advice(f'map(lambda row: {{{name!r}: {said}}})')}"
                    )
    return None
