"""How a judge asks a program: one question at a time, and what stands in the checks for an object over there.

Each question has a nonce, which nobody knew before it; whoever answers early, twice, late, too much or in another
language has failed, whatever the answer. The calls, attributes and conversions of an object that stays over there are
questions; to compare it would mean to ask the program whether it is right, so that ends the test.
"""

from __future__ import annotations

import builtins
import os
import select

from campus_tune.evaluate.sandbox.wire import MOST_BYTES, Reader, WireError, Writer, receive, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

NONCE_BYTES = 16
ENDS_ITERATION = ("StopIteration", "StopAsyncIteration")


class GoneError(BaseException):
    """The program's process has ended, or hung up."""


class UnusableAnswerError(BaseException):
    """An answer that is none. Not an Exception: a check that catches those cannot go on."""


class ProgramError(Exception):
    """An exception of the program that Python itself has no class for."""


class Program:
    """The other side, asked one question at a time.

    Args:
        questions: pipe to it.
        answers: pipe from it.
    """

    def __init__(self, questions: int, answers: int) -> None:
        self._questions, self._answers = questions, answers
        self._objects: dict[int, Opaque] = {}
        self.fault: BaseException | None = None  # what ends the test, even if a check caught it

    def begins(self) -> bool:
        """Wait for its first word. False: it ended before it began."""
        return receive(self._answers, most=0) == b""

    def ask(self, *question: object) -> Any:
        """Ask, and give back the answer; lists that went over with the question are changed as they were there.

        Raises:
            UnusableAnswerError: no value came back, or not in the way it has to.
            GoneError: nobody is there to answer.
            Exception: the program raised it.
        """
        try:
            came = self._answer(question)
            if came[0] == "unfit":
                raise WireError(came[1])
        except BrokenPipeError:
            self.fault = GoneError()
        except Exception as error:  # a WireError; should reading ever fail otherwise, it is the answer's fault too
            self.fault = UnusableAnswerError(f"answered with {error}")
        except (GoneError, UnusableAnswerError) as error:
            self.fault = error
        if self.fault is not None:
            raise self.fault
        if came[0] == "raised":
            raise _exception(*came[1:3], ends=question[::2] == ("turn", "next"))
        return came[1]

    def has_ended(self) -> None:
        """Nothing is asked any more.

        Raises:
            UnusableAnswerError: something is there all the same.
            BaseException: the fault that a check caught.
        """
        if self.fault is not None:
            raise self.fault
        self._hears_nothing()

    def compared(self, what: str) -> UnusableAnswerError:
        """The fault of a program that answered with an object, where a value was asked."""
        self.fault = UnusableAnswerError(f"answered with a {what}, which is not a value")
        return self.fault

    def _answer(self, question: tuple[object, ...]) -> tuple[Any, ...]:
        if self.fault is not None:
            raise self.fault
        self._hears_nothing()
        nonce = os.urandom(NONCE_BYTES)
        writer = Writer(number=_number)
        try:
            content = writer.bytes_of(question)
        except WireError as error:
            raise UnusableAnswerError(f"the checks cannot ask: {error}") from None
        send(self._questions, nonce + content)
        answer = receive(self._answers, most=MOST_BYTES)
        if answer is None:
            raise GoneError
        if answer[:NONCE_BYTES] != nonce:
            raise UnusableAnswerError("answered another question than was asked")
        theirs = len(writer.known)
        came = Reader(answer[NONCE_BYTES:], writer.known, self._object).value()
        return _changed(came, writer.known[:theirs])

    def _hears_nothing(self) -> None:
        poll = select.poll()
        poll.register(self._answers, select.POLLIN)
        if poll.poll(0) and os.read(self._answers, 1):  # nothing is read where the program has ended
            raise UnusableAnswerError("answered without being asked")

    def _object(self, number: int, what: str) -> Opaque:
        if number not in self._objects:
            self._objects[number] = Opaque(self, number, what)
        return self._objects[number]


class Opaque:
    """An object of the program's: stands here for what stays there.

    Args:
        program: whose it is.
        number: which.
        what: the name of its type.
    """

    __slots__ = ("_Opaque__number", "_Opaque__program", "_Opaque__what")

    def __init__(self, program: Program, number: int, what: str) -> None:
        for name, value in (("program", program), ("number", number), ("what", what)):
            object.__setattr__(self, f"_Opaque__{name}", value)

    def __call__(self, *args: object, **named: object) -> Any:
        """Call it over there."""
        return self.__program.ask("call", self, args, named)

    def __getattr__(self, name: str) -> Any:
        return self.__program.ask("get", self, name)

    def __setattr__(self, name: str, value: object) -> None:
        self.__program.ask("set", self, name, value)

    def __getitem__(self, key: object) -> Any:
        return self.__program.ask("item", self, key)

    def __iter__(self) -> Iterator[Any]:
        items = self.__turned_into("iter")
        while True:
            try:
                item = next(items)
            except StopIteration:
                return
            yield item

    def __bool__(self) -> Any:
        return self.__turned_into("bool")

    def __len__(self) -> Any:
        return self.__turned_into("len")

    def __int__(self) -> Any:
        return self.__turned_into("int")

    def __float__(self) -> Any:
        return self.__turned_into("float")

    def __str__(self) -> Any:
        return self.__turned_into("str")

    def __repr__(self) -> Any:
        return self.__turned_into("repr")

    def __next__(self) -> Any:
        return self.__turned_into("next")

    def __turned_into(self, kind: str) -> Any:
        return self.__program.ask("turn", self, kind)

    def __eq__(self, other: object) -> Any:
        """Whatever it is, it is not None, and nobody has to be asked."""
        return False if other is None else self.__refuse()

    def __ne__(self, other: object) -> Any:
        return True if other is None else self.__refuse()

    def __refuse(self, *_: object) -> Any:
        raise self.__program.compared(self.__what)

    __lt__ = __le__ = __gt__ = __ge__ = __hash__ = __refuse


def _number(value: object) -> tuple[int, str]:
    if type(value) is not Opaque:
        raise WireError(f"a {type(value).__name__} cannot be handed to the program")
    return object.__getattribute__(value, "_Opaque__number"), ""


def _changed(came: object, asked: list[Any]) -> tuple[Any, ...]:
    """Make of the lists, dicts and sets of a question what the program made of them.

    Raises:
        WireError: an answer of another form.
    """
    forms = {"value": (object,), "raised": (str, str), "unfit": (str,)}
    if type(came) is not tuple or not came or type(came[0]) is not str or came[0] not in forms:
        raise WireError("something else than a value")
    what, *parts = came
    contents = parts.pop() if what != "unfit" and parts else (None,) * len(asked)
    if (
        len(parts) != len(forms[what])
        or not all(map(isinstance, parts, forms[what]))
        or type(contents) is not tuple
        or len(contents) != len(asked)
    ):
        raise WireError("something else than a value")
    for one, content in () if what == "unfit" else zip(asked, contents, strict=True):
        try:
            new = type(one)(content)
        except (TypeError, ValueError):
            raise WireError("arguments of another kind") from None
        one.clear()
        one.extend(new) if type(one) is list else one.update(new)
    return (what, *parts)


def _exception(name: str, text: str, *, ends: bool) -> Exception:
    """The exception of Python's with some name.

    A `StopIteration` out of a call would end the loop of a check that calls inside `map`, so it is one only where an
    iterator was asked.
    """
    kind = getattr(builtins, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)) or (name in ENDS_ITERATION and not ends):
        return ProgramError(f"{name}: {text}")
    try:
        return kind(text)
    except TypeError:  # one that wants more than a text
        return ProgramError(f"{name}: {text}")
