"""The judged: runs a program inside a sandbox of its own, and answers what the judge asks about it.

The program owns this process: it can read and change all that is here, and speak in our place. All that gains it is
answers of its own choosing, which is what a program is for. Nothing here knows what an answer should be.

Asked by number are the objects that are no values (functions, classes and what they make): they stay here.
"""

from __future__ import annotations

import builtins
import os
import sys

from campus_tune.evaluate.sandbox.jail import move_in
from campus_tune.evaluate.sandbox.wire import Reader, WireError, Writer, receive, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

NONCE_BYTES = 16


class ProgramObjects:
    """What a program made, and the objects of it that the judge has been told of."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}
        self._objects: list[object] = []
        self._numbers: dict[int, int] = {}

    def run(self, source: str, wanted: tuple[str, ...]) -> dict[str, Any]:
        """Run the program; give back what it calls by some names.

        As evaluate's metric does it, in an empty dictionary, so that it is nobody's `__main__`.
        """
        exec(compile(source, "<program>", "exec", dont_inherit=True), self.names)
        return {name: self.names[name] for name in wanted if name in self.names}

    def call(self, what: Callable[..., object], args: tuple[Any, ...], named: dict[str, Any]) -> object:
        """The result of a call."""
        return what(*args, **named)

    def turn(self, of: object, into: str) -> object:
        """What one of Python's own functions makes of an object: `len(it)`, `bool(it)`, `next(it)`."""
        return getattr(builtins, into)(of)

    def item(self, of: Mapping[object, object] | Sequence[object], key: Any) -> object:
        """`of[key]`."""
        return of[key]

    def number(self, value: object) -> tuple[int, str]:
        """The number of an object, and the name of its type."""
        number = self._numbers.setdefault(id(value), len(self._objects))
        if number == len(self._objects):
            self._objects.append(value)
        return number, type(value).__name__

    def object_of(self, number: int, _: str) -> object:
        """The object of a number."""
        return self._objects[number]

    def answer(self, question: bytes) -> bytes:
        """Do what is asked, and put into bytes what came of it: a result or an exception, and the arguments since.

        What ends the process does so here too: the judge sees that nobody answers.
        """
        known: list[Any] = []
        what, *about = Reader(question, known, self.object_of).value()
        act: dict[str, Callable[..., object]] = {"get": getattr, "set": setattr}
        act |= {"run": self.run, "call": self.call, "turn": self.turn, "item": self.item}
        try:
            came: tuple[Any, ...] = ("value", act[what](*about))
        except Exception as error:
            if what == "run":
                raise
            sys.__excepthook__(type(error), error, error.__traceback__)
            kind = next(one.__name__ for one in type(error).__mro__ if getattr(builtins, one.__name__, None) is one)
            came = ("raised", kind, str(error))
        try:
            return Writer(known, self.number).bytes_of((*came, tuple(map(_content, known))))
        except WireError as error:
            return Writer().bytes_of(("unfit", str(error)))


def _content(of: dict[Any, Any] | Iterable[Any]) -> tuple[Any, ...]:
    """What a list, dict or set holds now."""
    return tuple(of.items()) if isinstance(of, dict) else tuple(of)


def main() -> None:
    """Say that it begins, then answer until nobody asks any more."""
    setting = Reader(bytes.fromhex(sys.argv.pop())).value()
    questions, answers = move_in([0, 1], **setting)
    program = ProgramObjects()
    send(answers, b"")
    while (question := receive(questions, most=2**62)) is not None:
        nonce, question = question[:NONCE_BYTES], question[NONCE_BYTES:]
        send(answers, nonce + program.answer(question))
    os._exit(0)
