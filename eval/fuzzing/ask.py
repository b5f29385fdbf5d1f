"""How the package is asked, and what of an answer is right: taken, or refused in one of our own sentences."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from eval.fuzzing.odd import MARK

ACCEPTED, REFUSED, EITHER = "accepted", "refused", "either"
SENTENCE = re.compile(r"\b(must|takes|needs|belongs to|gives every row)\b.*", re.DOTALL)
GOT = re.compile(r"\bgot\b|\bgives every row\b|\bneeds\b")
ARGPARSE = re.compile(r"^campus-tune[\w -]*: error: .+", re.MULTILINE)
LONGEST = 20_000  # characters of a refusal, above which nobody reads it


@dataclass(frozen=True)
class Answer:
    """What came of an input.

    Args:
        outcome: accepted or refused.
        said: the words of a refusal.
    """

    outcome: str
    said: str = ""


@dataclass(frozen=True)
class Input:
    """One generated input.

    Args:
        what: how it was made, in a few words.
        expected: accepted, refused or either.
        ask: gives the input to the package; a refusal may be returned or raised.
        names: of which a refusal must name one, where it is expected.
    """

    what: str
    expected: str
    ask: Callable[[], Answer]
    names: tuple[str, ...] = ()


class WrongError(Exception):
    """The package did something that it must not; the message says what."""


def call(what: Callable[[], object]) -> Answer:
    """Accepted, unless it raises."""
    what()
    return Answer(ACCEPTED)


def command(words: Sequence[str], *, refusals: tuple[int, ...] = (2,), page: Path | None = None) -> Answer:
    """Run the command line in this process.

    Args:
        words: what follows `campus-tune`.
        refusals: exit codes that say no.
        page: the page that it may write, which must not have our elements.
    """
    from campus_tune.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(list(words))
        except SystemExit as ended:
            code = _argparse(ended, err.getvalue())
    said = err.getvalue() + out.getvalue()
    if "Traceback (most recent call last)" in said:
        raise WrongError(f"a traceback was printed: {said[-300:]}")
    if page is not None and page.is_file():
        refuse_markup(page.read_text("utf-8"))
    if code in refusals:
        if code == 2 and "campus-tune: " in err.getvalue() and not ARGPARSE.search(err.getvalue()):
            refuse_empty_words(err.getvalue().split("campus-tune: ", 1)[1])
        return Answer(REFUSED, said)
    if code not in (0, 1):
        raise WrongError(f"exit code {code}: {said[-300:]}")
    return Answer(ACCEPTED, out.getvalue())


def _argparse(ended: SystemExit, err: str) -> int:
    code = ended.code if isinstance(ended.code, int) else 1
    if code == 2 and not ("usage:" in err and re.search(r": error: .+", err)):
        raise WrongError(f"exit code 2 without usage and error: {err[-300:]}")
    if code not in (0, 2):
        raise WrongError(f"SystemExit({ended.code!r}): {err[-300:]}")
    return code


def refuse_empty_words(said: str) -> None:
    """A refusal says what must be, and what it got.

    Raises:
        WrongError: it does not.
    """
    problems = re.split(r"\n  \d+\. ", said)
    for problem in problems[1:] or problems:
        if not (SENTENCE.search(problem) and GOT.search(problem)):
            raise WrongError(f"no sentence of ours: {problem[:300]}")
    if len(said) > LONGEST:
        raise WrongError(f"a refusal of {len(said)} characters: {said[:120]}")


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [tag] if MARK in tag else []
        self.found += [name for name, _ in attrs if MARK in name]

    handle_startendtag = handle_starttag


def refuse_markup(page: str) -> None:
    """Texts of an input have become elements or attributes of a page.

    Raises:
        WrongError: they have.
    """
    parser = _Elements()
    parser.feed(page)
    parser.close()
    if parser.found:
        at = page.lower().find(parser.found[0])
        raise WrongError(f"unescaped in the page: …{page[max(0, at - 60) : at + 40]}…")
