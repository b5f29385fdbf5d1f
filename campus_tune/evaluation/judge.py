"""The judge: runs the checks of a program inside a sandbox of its own, and asks the program's process for its answers.

Expected values, comparisons and the verdict live here, out of the program's reach: what connects the two is a pair of
pipes that carry plain values (`wire`). A name that the program made stands in the checks for an object over there,
whose calls, attributes and conversions are questions. To compare such an object would mean to ask the program whether
it is right, so that ends the test. Each question has a nonce, which nobody knew before it; whoever answers early,
twice, late, too much or in another language has failed, whatever the answer.

Python's builtins in the checks are the judge's own, as are modules of the standard library that the program imports
and the checks use (`math.isclose`): only *that* they are imported is the program's doing.

Every assert after the first is asked once more of a fresh process, which knows of no other. In the first they are
asked one after the other, as in evaluate's metric, whose verdict hangs on what a program keeps between two calls.
"""

from __future__ import annotations

import _ast
import builtins
import os
import select
import sys

from campus_tune.evaluation.jail import move_in
from campus_tune.evaluation.wire import MOST_BYTES, Reader, WireError, Writer, receive, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

NONCE_BYTES = 16
BEGUN, NEXT, PASSED, FAILED, GONE = b"begun\n", b"next\n", b"passed\n", b"failed\n", b"gone\n"
ONLY_AST, NO_INHERITANCE = 0x400, True
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

    def ask(self, *question: Any) -> Any:
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

    def _answer(self, question: tuple[Any, ...]) -> tuple[Any, ...]:
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

    def __call__(self, *args: Any, **named: Any) -> Any:
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

    def __refuse(self, *_: object) -> Any:
        raise self.__program.compared(self.__what)

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = __refuse


def _number(value: object) -> tuple[int, str]:
    if type(value) is not Opaque:
        raise WireError(f"a {type(value).__name__} cannot be handed to the program")
    return object.__getattribute__(value, "_Opaque__number"), ""


def _changed(came: Any, asked: list[Any]) -> tuple[Any, ...]:
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
    if what != "unfit":
        _put_in(asked, contents)
    return (what, *parts)


def _put_in(asked: list[Any], contents: tuple[Any, ...]) -> None:
    for one, content in zip(asked, contents, strict=True):
        try:
            new = type(one)(content)
        except (TypeError, ValueError):
            raise WireError("arguments of another kind") from None
        one.clear()
        one.extend(new) if type(one) is list else one.update(new)


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


# -- what the checks mean by their names -------------------------------------------------------------------------------


def nodes(tree: Any, *, but: tuple[type, ...] = ()) -> Iterator[Any]:
    """All parts of a syntax tree; nothing below some kinds."""
    left = [tree]
    while left:
        node = left.pop()
        yield node
        if isinstance(node, but):
            continue
        for field in node._fields:
            value = getattr(node, field, None)
            parts = value if isinstance(value, list) else [value]
            left += [part for part in parts if isinstance(part, _ast.AST)]


def used(checks: Any) -> tuple[set[str], set[str]]:
    """Names that the checks use, and those of them of which they only take attributes.

    >>> import ast
    >>> [sorted(some) for some in used(ast.parse("assert math.isclose(f(2), 4)"))]
    [['f', 'math'], ['math']]
    """
    names = [node for node in nodes(checks) if isinstance(node, _ast.Name) and isinstance(node.ctx, _ast.Load)]
    of = {id(node.value) for node in nodes(checks) if isinstance(node, _ast.Attribute)}
    alone = {node.id for node in names if id(node) not in of}
    return {node.id for node in names}, {node.id for node in names} - alone


def imported(source: str) -> set[str]:
    r"""Modules that a program imports under their own names, outside of its functions.

    >>> sorted(imported("import math, os.path, json as os\ndef f():\n    import sys"))
    ['math', 'os']
    """
    scopes = (_ast.FunctionDef, _ast.AsyncFunctionDef, _ast.ClassDef, _ast.Lambda)
    tree = compile(source, "<program>", "exec", ONLY_AST, NO_INHERITANCE)
    names = [name for node in nodes(tree, but=scopes) if isinstance(node, _ast.Import) for name in node.names]
    return {name.name.partition(".")[0] for name in names if name.asname in (None, name.name)}


def names_of(checks: Any, source: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The names of the judge's own in the checks, and those to ask the program for.

    A name of Python's that the program has taken over, like a `sum(a, b)` of its own, is meant only where the checks
    ask for nothing else: else it would be the judge's own that it takes over.
    """
    all_names, with_attributes = used(checks)
    modules = with_attributes & sys.stdlib_module_names
    modules &= imported(source) if modules else set()
    own = {name: __import__(name) for name in sorted(modules)}
    theirs = all_names - set(vars(builtins)) - (with_attributes & sys.stdlib_module_names)
    return own, tuple(sorted(theirs or all_names - set(own)))


# -- the trial -----------------------------------------------------------------------------------------------------


def trials(checks: Any, most: int) -> list[list[Any]]:
    r"""The statements of each process: all of them for the first, then one assert each and what is no assert.

    >>> import ast
    >>> [ast.unparse(some) for some in trials(ast.parse("x = 1; assert f(x); assert g(x); assert h(x)"), 2)]
    ['x = 1\nassert f(x)\nassert g(x)\nassert h(x)', 'x = 1\nassert g(x)\nassert h(x)']
    """
    asserts = [place for place, one in enumerate(checks.body) if isinstance(one, _ast.Assert)][1:]
    shares = [set(share) for share in (asserts[first :: most - 1] for first in range(most - 1)) if share]
    fresh = [
        [one for place, one in enumerate(checks.body) if place in share or not isinstance(one, _ast.Assert)]
        for share in shares
    ]
    return [checks.body, *fresh]


def judge(program: Program, statements: list[Any], checks: Any, source: str) -> None:
    """Run a program over there, and its checks here. Returns if all went well."""
    names: dict[str, Any] = {"__builtins__": builtins}
    own, theirs = names_of(checks, source)
    made = program.ask("run", source, theirs)
    if type(made) is not dict or not set(made) <= set(theirs):
        raise UnusableAnswerError("answered with other names than were asked")
    names |= made | own
    code = compile(_ast.Module(statements, []), "<checks>", "exec", 0, NO_INHERITANCE)
    exec(code, names)
    program.has_ended()


def main() -> None:
    """Judge, and say the verdict."""
    request = Reader(_all_of(0)).value()
    pipes = request["pipes"]
    verdict, *kept = move_in([1, *(end for pair in pipes for end in pair)], **request["setting"])
    try:
        program = _begun(kept[:2], verdict)
        checks = compile(request["checks"], "<checks>", "exec", ONLY_AST, NO_INHERITANCE)
        for place, statements in enumerate(trials(checks, len(pipes))):
            if place:
                os.write(verdict, NEXT)
                program = _begun(kept[2 * place : 2 * place + 2], verdict)
            judge(program, statements, checks, request["source"])
    except GoneError:
        os.write(verdict, GONE)
    except BaseException:
        os.write(verdict, FAILED)
        raise
    else:
        os.write(verdict, PASSED)
    os._exit(0)


def _begun(pipes: list[int], verdict: int) -> Program:
    program = Program(*pipes)
    if not program.begins():
        os._exit(1)
    os.write(verdict, BEGUN)
    return program


def _all_of(file: int) -> bytes:
    parts = []
    while part := os.read(file, 2**20):
        parts.append(part)
    return b"".join(parts)
