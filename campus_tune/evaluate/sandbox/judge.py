"""The judge: runs the checks of a program inside a sandbox of its own, and asks the program's process for its answers.

Expected values, comparisons and the verdict live here, out of the program's reach: what connects the two is a pair of
pipes that carry plain values (`wire`). A name that the program made stands in the checks for an object over there
(`asking`).

Python's builtins in the checks are the judge's own, as are modules of the standard library that the program imports
and the checks use (`math.isclose`): only *that* they are imported is the program's doing.

Every assert after the first is asked once more of a fresh process, which knows of no other, unless it looks at what
the checks have made. In the first they are asked one after the other, as in evaluate's metric, whose verdict hangs on
what a program keeps between two calls.
"""

from __future__ import annotations

import _ast
import builtins
import os
import sys

from campus_tune.evaluate.sandbox.asking import GoneError, Program, UnusableAnswerError
from campus_tune.evaluate.sandbox.jail import move_in
from campus_tune.evaluate.sandbox.wire import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

BEGUN, NEXT, PASSED, FAILED, GONE = b"begun\n", b"next\n", b"passed\n", b"failed\n", b"gone\n"
ONLY_AST, NO_INHERITANCE = 0x400, True


def nodes(tree: _ast.AST, *, but: tuple[type, ...] = ()) -> Iterator[_ast.AST]:
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


def used(checks: _ast.AST) -> tuple[set[str], set[str]]:
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


def names_of(checks: _ast.AST, source: str) -> tuple[dict[str, Any], tuple[str, ...]]:
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


def trials(checks: _ast.Module, most: int) -> list[list[_ast.stmt]]:
    r"""The statements of each process: all of them for the first, then one assert each and what is no assert.

    An assert on what the checks have made, which the asserts before it may have changed, is asked in the first alone.

    >>> import ast
    >>> [ast.unparse(some) for some in trials(ast.parse("import m; assert f(1); assert g(1); assert h(1)"), 2)]
    ['import m\nassert f(1)\nassert g(1)\nassert h(1)', 'import m\nassert g(1)\nassert h(1)']
    >>> len(trials(ast.parse("a = [2, 1]; assert f(a) is None; assert a == [1, 2]"), 2))
    1
    """
    made = {
        node.id
        for one in checks.body
        if not isinstance(one, _ast.Assert)
        for node in nodes(one, but=(_ast.FunctionDef, _ast.AsyncFunctionDef, _ast.ClassDef, _ast.Lambda))
        if isinstance(node, _ast.Name) and isinstance(node.ctx, _ast.Store)
    }
    asserts = [place for place, one in enumerate(checks.body) if isinstance(one, _ast.Assert)][1:]
    asserts = [place for place in asserts if not made & used(checks.body[place])[0]]
    shares = [set(share) for share in (asserts[first :: most - 1] for first in range(most - 1)) if share]
    fresh = [
        [one for place, one in enumerate(checks.body) if place in share or not isinstance(one, _ast.Assert)]
        for share in shares
    ]
    return [checks.body, *fresh]


def judge(program: Program, statements: list[_ast.stmt], checks: _ast.Module, source: str) -> None:
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
    parts = []
    while part := os.read(0, 2**20):
        parts.append(part)
    request = Reader(b"".join(parts)).value()
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
