"""What a command answers: a text for a person, and the same as one JSON document for a program (`--json`).

With `--json` standard output has that document and nothing else: whatever is said meanwhile, by us, by a library or by
a process that we started, goes to standard error. The document is strict JSON: what is not finite is null.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from campus_tune.cli.exit_codes import DONE
from campus_tune.cli.parser import CommandParser
from campus_tune.words.annotated import plain


@dataclass(frozen=True)
class Answer:
    """What a command that takes `--json` gives back.

    Args:
        document: all that the text says, and more; anything that `plain` takes, numpy's numbers and paths.
        text: for a person; empty where everything was said on the way.
        code: the exit code.
    """

    document: object
    text: str = ""
    code: int = DONE


def add_json(parser: CommandParser, **keys: str) -> None:
    """The flag `--json` of a command that gives back an `Answer`.

    Args:
        parser: of the command.
        keys: of the document, and what each of them is, for `--help-all`; `more` is whatever a file has besides.
    """
    parser.add_argument("--json", action="store_true", help="print the answer as JSON, and nothing else")
    parser.set_defaults(answers=True)
    parser.keys = keys


def as_json(document: object) -> str:
    r"""Strict JSON, a line for each leaf.

    >>> as_json({"loss": float("nan"), "rows": np.arange(1)})
    '{\n "loss": null,\n "rows": [\n  0\n ]\n}'
    """
    return json.dumps(_finite(document), indent=1, ensure_ascii=False, allow_nan=False)


def _finite(value: object) -> Any:
    """A document without what JSON has not."""
    value = plain(value)
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, PurePath) else value


@contextmanager
def document_alone() -> Iterator[None]:
    """Whatever is printed meanwhile, by processes that are started too, goes to standard error."""
    out, kept = sys.stdout, None
    with suppress(AttributeError, OSError, ValueError):  # none, or not a file: nothing that a process could inherit
        out.flush()
        if out.fileno() == 1:
            kept = os.dup(1)
            os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)
