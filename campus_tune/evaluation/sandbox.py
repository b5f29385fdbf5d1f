"""Run a Python program that a language model wrote: alone, without a network, within limits, and not to be fooled.

Every program gets a fresh interpreter behind Linux namespaces (bubblewrap's where it is installed, else our own), a
seccomp filter and resource limits. It passes if it ran to its end, and its checks after it, without an exception: then
a random token arrives that the program had no way to see. Ending early, whatever the exit code, is no pass. A sandbox
that fails before its program begins (no memory, no processes left) is tried again, and then an error: it says nothing
about the program.

What stays possible in principle: (a) answers that lie in legal Python, like an object that equals everything, or a
function of the standard library replaced by another, pass as they do in evaluate's metric. (b) a program that breaks
CPython's own memory (hand-made bytecode, a hole in a C module) could find the token and forge its own verdict; it
stays in the sandbox. So do interpreters that have ctypes built in. (c) a hole in the kernel. For programs of unknown
authors rather than a model of your own, run the whole evaluation in a virtual machine.
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

from campus_tune.errors import CampusError, RecipeError
from campus_tune.evaluation.isolation import Kind, Limits, Verdict, run_in
from campus_tune.evaluation.syscalls import AUDIT_ARCHITECTURE
from campus_tune.evaluation.view import FOLDER, python_view

__all__ = ["Kind", "Limits", "SandboxError", "Verdict", "probe", "run_many", "run_program", "sandbox_kind"]

KINDS: tuple[Kind, ...] = ("bubblewrap", "namespaces")
PAUSES = (0.5, 5.0)  # seconds before a sandbox that did not start is tried again


class SandboxError(CampusError, RuntimeError):
    """No program can be run safely on this machine."""


def run_program(source: str, checks: str = "", *, limits: Limits | None = None) -> Verdict:
    """Run one program, then its checks in the same names, and say whether both ran to their end.

    Checks are compiled apart: a program that ends in the middle of a line cannot swallow the first of them, and
    Python's builtins are put back in front of them.

    Args:
        source: the program.
        checks: asserts, as MBPP and HumanEval have them; nothing if the program holds its own.
        limits: what it may use.

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
) -> list[Verdict]:
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
