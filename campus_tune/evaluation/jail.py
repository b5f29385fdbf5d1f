"""What runs inside of the sandbox, in the process of the program itself: limits, then the program, then its word.

A first word on the pipe says that the program is about to begin: what fails before it is a fault of the machine and
no wrong answer. Of the rest the outside believes only one thing: a random token. So the question is who can write it,
and when. No function of ours runs once the program has begun: the remaining steps (the program, its checks, writing
the token, the end of the process) wait as a list inside of C's own iteration, `deque(starmap(call, steps))`. No frame,
module, constant or closure that Python code can reach holds that list; an exception, an exit or a crash ends the
iteration, and what is left of it is never done. What would find it all the same is switched off: the garbage
collector's list of objects, other interpreters, memory by address, and tracing, which can make a frame jump over its
asserts.

Nothing here hangs on what `f_locals` of a frame is. Since Python 3.13 (PEP 667) it writes through to the variables of
a function that still runs, and before it did not. The frames above a program are those of modules, whose variables are
dictionaries open to everybody in all versions (the steps are in none), and of functions of the checks: a program that
alters these gains what an object that equals everything gains it. The audit hook is a function too, so it runs nothing
of the program's: it asks only texts of Python's own class.

Fresh interpreter, standard library only, nothing of campus_tune: its text is handed to `python -I -S -B -c`.
"""

from __future__ import annotations

import builtins
import json
import os
import resource
import sys
from collections import deque
from itertools import starmap
from operator import call

BEGUN = b"begun\n"
TYPE_CHECKING = False  # importing typing would take a tenth of the time that a program does
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def refuse(event: str, args: tuple[Any, ...]) -> None:  # its parameters and constants are all it may rely on
    """Audit hook: raise at what could find the token or skip a check. Nothing can take an audit hook away again."""
    if event in {
        "gc.get_objects", "gc.get_referents", "gc.get_referrers",
        "sys._current_frames", "sys._current_exceptions", "sys.settrace", "sys.setprofile",
        "sys.monitoring.register_callback", "cpython.PyInterpreterState_New",
    } or event[:7] == "ctypes.":  # fmt: skip
        raise PermissionError(f"{event} is not available to a program under test")
    if event == "import":
        name = "".join(args[:1])  # the letters themselves: a text of the program's own class may lie about them
        if name in {"_ctypes", "_xxsubinterpreters", "_interpreters"}:
            raise ImportError(f"{name} is not available to a program under test")
        path = "/" if args[1] is None else "".join(args[1:2])
        if path[:9] == "/sandbox/" or path[:1] != "/" or ".." in path:
            raise ImportError(f"{name} is machine code of the program's own")


def _limit(limits: dict[str, int]) -> None:
    """Set the limits, by the names that `resource` has for them, so that they cannot be raised again."""
    for name, most in {**limits, "CORE": 0, "MSGQUEUE": 0}.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = most + (name == "CPU")  # a second after the signal that can be ignored comes the one that cannot
        _, ceiling = resource.getrlimit(kind)
        if ceiling != resource.RLIM_INFINITY:
            hard = min(hard, ceiling)
        resource.setrlimit(kind, (min(most, hard), hard))


def _become(user: int) -> None:
    """Leave root, and with it every capability. Elsewhere the sandbox has already seen to it."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)


def _steps() -> list[tuple[Callable[..., object], Any] | tuple[Any, ...]]:
    """Read the request, shut the door, and give back what is left to do."""
    request = json.loads(_read_all(0))
    channel = os.dup(1)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    os.environ.clear()
    _become(request["user"])
    _limit(request["limits"])
    os.write(channel, BEGUN)
    program = compile(request["source"], "<program>", "exec", dont_inherit=True)
    checks = compile(request["checks"], "<checks>", "exec", dont_inherit=True)
    names: dict[str, Any] = {}
    own = vars(builtins)
    sys.addaudithook(refuse)
    return [
        (exec, program, names),
        (own.update, dict(own)),  # the checks mean Python's own abs() and all(), whatever the program made of them
        (names.__setitem__, "__builtins__", own),
        (exec, checks, names),
        (os.write, channel, request["token"].encode()),
        (os._exit, 0),
    ]


def _read_all(file: int) -> bytes:
    parts = []
    while part := os.read(file, 2**20):
        parts.append(part)
    return b"".join(parts)


if __name__ == "__main__":
    deque(starmap(call, _steps()), maxlen=0)
