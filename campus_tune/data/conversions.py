r"""Python that turns rows as people have them into rows that TRL trains, written out for this very file.

Each shape is known by its columns and its first row: Alpaca's instruction, input and output, questions and answers, a
chat under another name, with a prompt beside it, or written as JSON into a cell. What is said is a call on a
`datasets.Dataset`, to be run as it stands.

>>> method = conversion({"question": "2 + 2?", "answer": "4"}, ["question", "answer"])
>>> print(Origin.of("math.json").call(method).replace(".rename", "\n.rename").replace(".to", "\n.to"))
import datasets; datasets.load_dataset('json', data_files='math.json', split='train')
.rename_columns({'question': 'prompt', 'answer': 'completion'})
.to_json('math-trl.jsonl')
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from campus_tune.data.shapes import ANSWERS, Row, has_turns, is_chat
from campus_tune.words.files import TABLE_SUFFIXES

PROMPTS = ("prompt", "instruction", "question", "query", "input")
CONTEXTS = ("input", "context")
COMPLETIONS = ("completion", "output", "response", "answer", "target", "chosen")
ROLES = {"human": "user", "gpt": ANSWERS}  # of ShareGPT, and what chat templates call them


@dataclass(frozen=True)
class Origin:
    """Where rows come from, as Python that loads them, and what the recipe is to name once they are converted.

    Args:
        code: an expression that gives the `datasets.Dataset`.
        target: a file to write it to; None where it stays in a script of the user's own.
    """

    code: str = "dataset"
    target: str | None = None

    @staticmethod
    def in_recipe(settings: Mapping[str, Any]) -> Origin:
        """That of the training rows of a YAML."""
        split = settings.get("dataset_train_split") or "train"
        return Origin.of(settings.get("dataset_name"), config=settings.get("dataset_config"), split=split)

    @staticmethod
    def of(name: str | None, *, config: str | None = None, split: str = "train") -> Origin:
        """That of a recipe's `dataset_name`.

        Args:
            name: a file, a folder or a hub id; None for rows that no recipe names.
            config: its configuration.
            split: which part.
        """
        if not name:
            return Origin()
        stem = Path(name).name.split(".")[0]
        if name.endswith(TABLE_SUFFIXES):
            kind = {".csv": "csv", ".parquet": "parquet"}.get(Path(name).suffix, "json")
            target = str(Path(name).with_name(f"{stem}-trl.jsonl"))
            return Origin(f"datasets.load_dataset({kind!r}, data_files={name!r}, split='train')", target)
        which = "" if config is None else f", {config!r}"
        return Origin(f"datasets.load_dataset({name!r}{which}, split={split!r})", f"{stem}-trl.jsonl")

    def call(self, method: str) -> str:
        """The rows after a call on them, as Python to be run as it stands."""
        needed = [module for module in ("datasets", "json", "trl") if f"{module}." in f"{self.code} {method}"]
        first = f"import {', '.join(needed)}; " if needed else ""
        if self.target is None:
            return f"{first}{self.code} = {self.code}.{method}"
        return f"{first}{self.code}.{method}.to_json({self.target!r})"

    def left_out(self, condition: str) -> str:
        """How rows that do not fulfil a condition on `row` are left out, in a sentence."""
        call = self.call(f"filter(lambda row: {condition})")
        return f"Fill it in, or leave such rows out with `{call}`{self._then()}."

    def advice(self, method: str) -> str:
        """The same in a sentence."""
        return f"Convert it with `{self.call(method)}`{self._then()}."

    def _then(self) -> str:
        return "" if self.target is None else f", then write dataset_name: {self.target}"


def conversion(first: Row, names: Sequence[str]) -> str | None:
    """The call on a data set that makes prompts and completions or messages of these columns; None where none is known.

    Args:
        first: the first row.
        names: all columns.
    """
    return next((found for way in _WAYS if (found := way(first, names)) is not None), None)


def converted(dataset: Any, method: str) -> Any:
    """A data set after a call that is said here: what is told is what is done.

    Args:
        dataset: of `datasets`.
        method: as `conversion` and the others give it, never a user's text.
    """
    return eval(f"dataset.{method}", {"dataset": dataset, "json": json})


def _a_prompt_too_many(first: Row, names: Sequence[str]) -> str | None:
    if "prompt" in names and has_turns(first.get("messages")):
        return "remove_columns(['prompt'])"
    return None


def _chat_as_text(first: Row, names: Sequence[str]) -> str | None:
    """A list that was written as JSON into a cell."""
    del names
    for name in ("messages", "conversations"):
        value = first.get(name)
        if isinstance(value, str) and is_json(value, list):
            return f"map(lambda row: {{{name!r}: json.loads(row[{name!r}])}})"
    return None


def _chat_by_another_name(first: Row, names: Sequence[str]) -> str | None:
    for name in names:
        value = first.get(name)
        if has_turns(value) and name not in ("messages", "prompt", "completion"):
            return f"rename_column({name!r}, 'messages')"
        if is_chat(value, "from", "value") and name not in ("conversations", "prompt", "completion"):
            return f"rename_column({name!r}, 'conversations')"
    return None


def _question_and_answer(first: Row, names: Sequence[str]) -> str | None:
    """Alpaca and its like."""
    answer = next((name for name in COMPLETIONS if name in names), None)
    prompt = next((name for name in PROMPTS if name in names), None)
    if answer is None or prompt is None or not isinstance(first.get(prompt), str | list):
        return None
    number = isinstance(first.get(answer), int | float) and isinstance(first[prompt], str) and answer != "completion"
    if not number and not isinstance(first.get(answer), type(first[prompt])):
        return None
    context = next((name for name in CONTEXTS if name in names and name != prompt), None)
    if context is None and not number:
        renamed = {old: new for old, new in ((prompt, "prompt"), (answer, "completion")) if old != new}
        return f"rename_columns({renamed})"
    said = f"'\\n\\n'.join(part for part in (row[{prompt!r}], row[{context!r}]) if part) + '\\n\\n'"
    said = f"row[{prompt!r}]" if context is None else said
    told = f"None if row[{answer!r}] is None else str(row[{answer!r}])" if number else f"row[{answer!r}]"
    taken = [name for name in (prompt, context, answer) if name not in (None, "prompt", "completion")]
    return f"map(lambda row: {{'prompt': {said}, 'completion': {told}}}, remove_columns={taken})"


_WAYS: tuple[Callable[[Row, Sequence[str]], str | None], ...] = (
    _a_prompt_too_many,
    _chat_as_text,
    _chat_by_another_name,
    _question_and_answer,
)


def joined_texts(names: list[str]) -> str:
    """The call that makes one text of some columns."""
    return f"map(lambda row: {{'text': '\\n'.join(str(row[name]) for name in {names})}})"


def renamed_roles(name: str) -> str:
    """The call that gives the speakers of a column of chats the names that chat templates know."""
    role, content = ("from", "value") if name == "conversations" else ("role", "content")
    turn = f"{{'role': {ROLES}.get(turn[{role!r}], turn[{role!r}]), 'content': turn[{content!r}]}}"
    taken = ", remove_columns=['conversations']" if name == "conversations" else ""
    return f"map(lambda row: {{'messages': [{turn} for turn in row[{name!r}]]}}{taken})"


def is_json(text: str, kind: type | None) -> bool:
    """A text that is a value of some type in JSON.

    Args:
        text: of a cell.
        kind: the type; None for null.
    """
    try:
        return isinstance(json.loads(text), type(None) if kind is None else kind)
    except (ValueError, RecursionError):
        return False
