"""One program in one sandbox: what it may use, the process around it, and what became of it."""

from __future__ import annotations

import errno
import json
import os
import random
import secrets
import select
import shutil
import subprocess
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Literal

from campus_tune.errors import RecipeError
from campus_tune.evaluation.syscalls import call_filter
from campus_tune.evaluation.view import bubblewrap, interpreter, namespaces, python_view, takes_any_user

Kind = Literal["bubblewrap", "namespaces"]
Outcome = Literal["passed", "failed", "timeout", "memory", "ended early", "killed"]

JAIL = Path(__file__).with_name("jail.py")
BEGUN = b"begun\n"  # what it writes before a program begins
DETAIL_CHARS = 600
SIGXCPU, SIGKILL = 24, 9


class NotBegunError(OSError):
    """A sandbox ended before its program began: of that program nothing is known."""


@dataclass(frozen=True)
class Limits:
    """What one program may use. A program that asks for more is refused it, or ended.

    Args:
        cpu_seconds: computing time of all its threads, at least 1. It says the same on a busy machine.
        wall_seconds: time on the clock, start of the interpreter included.
        memory_mb: address space, in MiB; an interpreter alone takes some 20.
        threads: how many it may have, itself included; it can start no process.
        open_files: at the same time.
        file_mb: size of one file, and of what is kept of its errors, in MiB.
        folder_mb: size of all its files together, in MiB; they are kept in memory.
        folder_files: how many files (bubblewrap: bounded by time only).
    """

    cpu_seconds: int = 5
    wall_seconds: float = 15.0
    memory_mb: int = 1024
    threads: int = 32
    open_files: int = 64
    file_mb: int = 4
    folder_mb: int = 16
    folder_files: int = 1000

    def __post_init__(self) -> None:
        wrong = [(name, value) for name, value in asdict(self).items() if value <= 0]
        if wrong:
            raise RecipeError([f"`{name}` must be more than 0, got {value}. Raise it." for name, value in wrong])

    def of_process(self) -> dict[str, int]:
        """As the names of `resource` have it, in bytes."""
        return {
            "CPU": self.cpu_seconds,
            "AS": self.memory_mb * 2**20,
            "NPROC": self.threads,
            "NOFILE": self.open_files,
            "FSIZE": self.file_mb * 2**20,
            "CORE": 0,
            "MSGQUEUE": 0,
        }


@dataclass(frozen=True)
class Verdict:
    """What became of a program.

    Args:
        passed: it ran to its end and so did its checks.
        outcome: how it ended. All but "passed" is for reading: the program may have dressed it up.
        detail: the last lines of what it wrote to stderr.
        seconds: on the clock.
        kind: the sandbox it ran in.
    """

    passed: bool
    outcome: Outcome
    detail: str
    seconds: float
    kind: Kind


def run_in(kind: Kind, source: str, checks: str, limits: Limits) -> Verdict:
    """Run one program in one kind of sandbox, whether that has been tried out or not.

    Args:
        kind: which sandbox.
        source: the program.
        checks: run after it, in the same names.
        limits: what both may use together.

    Raises:
        OSError: bubblewrap, or something of the kernel's, is missing; or (`NotBegunError`) the sandbox failed before
            the program began.
    """
    token = secrets.token_hex(32)
    user = random.SystemRandom().randrange(2**30, 2**31 - 2**16)  # root's programs: each its own user, nobody else's
    request = {"source": source, "checks": checks, "token": token, "user": user, "limits": limits.of_process()}
    began = time.monotonic()
    with ExitStack() as stack:
        program = _in_memory(stack, json.dumps(request).encode())
        errors = _in_memory(stack)
        filter_ = _in_memory(stack, call_filter())
        process = subprocess.Popen(
            _command(kind, limits, filter_.fileno()),
            stdin=program,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd="/",
            env={},
            pass_fds=[filter_.fileno()],
            start_new_session=True,
        )
        assert process.stdout is not None
        pipe = stack.enter_context(process.stdout)
        try:
            in_time = _ended(process, pipe, began + limits.wall_seconds)
            process.wait(1.0 if in_time else 0.0)
        except subprocess.TimeoutExpired:
            pass
        finally:  # of Ctrl-C too
            process.kill()
            process.wait()
        _ended(None, pipe, time.monotonic() + 5.0)  # the kernel takes a moment to end what was inside
        said = _received(pipe)
        seconds = time.monotonic() - began
        detail = _tail(errors)
    if not said.startswith(BEGUN):
        late = "" if in_time else f"no start within {limits.wall_seconds:g} s"
        raise NotBegunError(detail or late or f"exit code {process.returncode}, no message")
    passed = in_time and process.returncode == 0 and secrets.compare_digest(said, BEGUN + token.encode())
    outcome = "passed" if passed else _outcome(process.returncode, in_time, detail)
    return Verdict(passed, outcome, detail, seconds, kind)


def _command(kind: Kind, limits: Limits, filter_file: int) -> list[str]:
    view = replace(python_view(), folder_bytes=limits.folder_mb * 2**20, folder_files=limits.folder_files)
    jail = [*interpreter(view.python), "-c", JAIL.read_text("utf-8")]
    if kind == "namespaces":
        return namespaces(view, filter_=call_filter(), command=jail)
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise FileNotFoundError(errno.ENOENT, "no such program", "bwrap")
    return bubblewrap(bwrap, view, as_root=takes_any_user(), filter_file=filter_file, command=jail)


def _in_memory(stack: ExitStack, content: bytes = b"") -> IO[bytes]:
    """A file without a name, gone when it is closed."""
    file = stack.enter_context(os.fdopen(os.memfd_create("sandbox"), "w+b"))
    file.write(content)
    file.seek(0)
    return file


def _ended(process: subprocess.Popen[bytes] | None, pipe: IO[bytes], until: float) -> bool:
    """Whether a process, or all that hold the other end of its pipe, end in time."""
    poll = select.poll()
    poll.register(pipe, 0)  # its end only: a program that floods the pipe waits for a reader in vain
    while (left := until - time.monotonic()) > 0:
        # the pipe is quicker, but a process that others of our threads fork may hold it too
        if poll.poll(1000 * min(left, 0.1)) or (process is not None and process.poll() is not None):
            return True
    return False


def _received(pipe: IO[bytes]) -> bytes:
    """What lies in a pipe, cut where no token is that long."""
    os.set_blocking(pipe.fileno(), False)
    try:
        return os.read(pipe.fileno(), 1000)
    except BlockingIOError:
        return b""


def _tail(errors: IO[bytes]) -> str:
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - DETAIL_CHARS))
    return errors.read(DETAIL_CHARS).decode("utf-8", "replace").strip()


def _outcome(code: int, in_time: bool, detail: str) -> Outcome:
    """How a program that did not pass ended, as far as can be told from outside."""
    if not in_time or code in (-SIGXCPU, 128 + SIGXCPU, 128 + SIGKILL):
        return "timeout"
    if detail.rpartition("\n")[2].startswith("MemoryError"):
        return "memory"
    if code == 1 and detail:
        return "failed"
    return "killed" if code < 0 or code > 128 else "ended early"
