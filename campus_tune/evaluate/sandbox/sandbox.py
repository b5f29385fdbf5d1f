"""Run a Python program that a language model wrote: alone, without a network, within limits, and not to be fooled.

Every program gets a fresh interpreter behind Linux namespaces (bubblewrap's where it is installed, else our own), a
seccomp filter and resource limits; its checks run in another such sandbox, and what joins the two is a pair of pipes.
The checks' process asks (`judge`, `asking`): call this with these values. The program's process answers (`judged`) with
plain values (`wire`), or with an object that stays there and can be called, but not compared. Expected values and the
verdict are never where the program is, so a program that has taken over its own process, by bytecode, machine code or
Python alone, gains nothing but answers of its own choosing: it passes where they are right. A sandbox that fails before
its program begins (no memory, no processes left) is tried again, and then an error: it says nothing about the program.

A pass without checks, or with checks that ask nothing of the program, is the word of the program's own process that it
ran to its end. That is enough to try the sandbox out (`probe` is ours), and no score: benchmarks have checks.

*Differs from evaluate's metric*, where program and checks share a process: an object of the program's own class that
says it equals everything passes there and fails here, as does a standard library or builtins that the program changed
under the checks. Other rare programs fail here alone: those whose checks compare their objects (Fraction, deque,
dataclass) with anything but None, add or assign into them, hand them functions, or change in place what they gave back;
and those that must remember one assert in the next. What is an int, float, str or container of these, by its equality
too (Counter, namedtuple, IntEnum), counts as such. A check sees the program's globals as they were when it had run.

What stays possible in principle: a program that recognises the questions of a benchmark and knows their answers; and a
hole in the kernel, or in CPython's own reading of sixteen kinds of bytes. For programs of unknown authors rather than a
model of your own, run the whole evaluation in a virtual machine.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from functools import cache
from pathlib import Path

from campus_tune.evaluate.sandbox.isolation import Kind, Limits, ProgramResult, run_in
from campus_tune.evaluate.sandbox.syscalls import AUDIT_ARCHITECTURE
from campus_tune.evaluate.sandbox.view import FOLDER, python_view
from campus_tune.words.errors import CampusError, RecipeError

__all__ = ["Kind", "Limits", "ProgramResult", "SandboxError", "probe", "run_many", "run_program", "sandbox_kind"]

KINDS: tuple[Kind, ...] = ("bubblewrap", "namespaces")
PAUSES = (0.5, 5.0)  # seconds before a sandbox that did not start is tried again


class SandboxError(CampusError, RuntimeError):
    """No program can be run safely on this machine."""


def run_program(source: str, checks: str = "", *, limits: Limits | None = None) -> ProgramResult:
    """Run one program, then its checks, and say whether both ran to their end.

    Checks are compiled apart: a program that ends in the middle of a line cannot swallow the first of them. Each of
    their asserts after the first that needs nothing which the checks have made is asked of a fresh process too.

    Args:
        source: the program.
        checks: asserts, as MBPP and HumanEval have them. Without any, a pass is the program's own word.
        limits: what each of its processes may use.

    Raises:
        SandboxError: this machine has no working sandbox, or none any more.
    """
    kind, limits = sandbox_kind(), limits or Limits()
    for pause in PAUSES:
        with suppress(OSError):
            return run_in(kind, source, checks, limits)
        time.sleep(pause)
    try:
        return run_in(kind, source, checks, limits)
    except OSError as error:
        raise SandboxError(
            f"every program must get a sandbox, got {len(PAUSES) + 1} of {kind} that ended before it began ({error}). "
            "Nothing is said of the program: free memory or processes, then run again."
        ) from error


def run_many(
    programs: Iterable[str | tuple[str, str]],
    *,
    limits: Limits | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[ProgramResult]:
    """Run programs side by side; verdicts in their sequence.

    Args:
        programs: sources, or pairs of source and checks.
        limits: of each.
        workers: how many at a time, at least 1; one for each CPU core if not given.
        progress: told (programs done, all programs) after each one, in the calling thread.

    Raises:
        RecipeError: fewer than one worker.
        SandboxError: this machine has no working sandbox, or none any more.
    """
    sandbox_kind()
    pairs = [(one, "") if isinstance(one, str) else one for one in programs]
    workers = len(os.sched_getaffinity(0)) if workers is None else workers
    if workers < 1:
        raise RecipeError(f"`workers` must be at least 1, got {workers}. Give the number of CPU cores to use.")
    pool = ThreadPoolExecutor(workers)
    try:
        runs = [pool.submit(run_program, *pair, limits=limits) for pair in pairs]
        for done, _ in enumerate(as_completed(runs), 1):
            if progress is not None:
                progress(done, len(runs))
        return [run.result() for run in runs]
    finally:  # of Ctrl-C too: what has not begun never does
        pool.shutdown(cancel_futures=True)


@cache
def sandbox_kind() -> Kind:
    """The sandbox of this machine: the first that, tried out, holds. Tried once in a process.

    Raises:
        SandboxError: there is none; the message says what each of them lacks.
    """
    lacking = []
    for kind in KINDS:
        problem = _problem_of(kind)
        if problem is None:
            return kind
        lacking.append(f"  {kind}: {problem}")
    raise SandboxError(
        "`allow_code_execution` must have a working sandbox, got none on this machine:\n" + "\n".join(lacking) + "\n"
        "Install bubblewrap (`apt install bubblewrap`, `dnf install bubblewrap`), or allow user namespaces: in a "
        "container they need `--security-opt seccomp=unconfined` or `--cap-add SYS_ADMIN`. Or leave the code tasks out."
    )


def _problem_of(kind: Kind) -> str | None:
    """Why a kind of sandbox is not to be used here; None: it holds."""
    if sys.platform != "linux":
        return f"must run on Linux, not {sys.platform}"
    if platform.machine() not in AUDIT_ARCHITECTURE:
        return f"must run on {' or '.join(AUDIT_ARCHITECTURE)}, not {platform.machine()}"
    if kind == "bubblewrap" and shutil.which("bwrap") is None:
        return "`bwrap` is not on the PATH"
    limits = Limits(wall_seconds=60.0)  # a machine that is busy starting a run is not unsafe
    try:
        verdict = run_in(kind, probe(limits), "", limits)
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    return None if verdict.passed else f"{verdict.outcome}: {verdict.detail or 'no message'}"


def probe(limits: Limits) -> str:
    """A program that passes only where the sandbox holds."""
    view = python_view()
    places = [Path("/etc/passwd"), Path("/proc/self"), Path("/sys"), Path.home(), Path.cwd(), Path(__file__)]
    with suppress(OSError):  # no home, or not ours to list
        places += list(Path.home().iterdir())
    unseen = [str(place) for place in places if not view.shows(place)]
    return f"""
import os, socket, threading, time

def refused(act, *args):
    try:
        act(*args)
    except (OSError, RuntimeError):
        return True

for family in socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_VSOCK:
    assert refused(socket.socket, family), family
seen = [path for path in {unseen!r} if os.path.exists(path)]
assert not seen, seen
assert refused(os.fork) and refused(os.chroot, "/") and refused(os.setuid, 0)
assert os.getuid() and os.getpid() < 10 and not os.environ and os.getcwd() == {FOLDER!r} and not os.listdir()
open("mine", "w").close()
assert refused(open, "/not_mine", "w")
for n in range({limits.threads + 1}):
    if refused(threading.Thread(target=time.sleep, args=(1,), daemon=True).start):
        break
else:
    assert False, "no limit on threads"
"""
