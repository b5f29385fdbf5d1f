"""One program and its judge, each in a sandbox of its own: what they may use, what connects them, what became of it."""

from __future__ import annotations

import errno
import marshal
import os
import random
import select
import shutil
import subprocess
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import IO, Literal

from campus_tune.evaluate.sandbox.syscalls import call_filter
from campus_tune.evaluate.sandbox.view import bubblewrap, interpreter, namespaces, python_view, takes_any_user
from campus_tune.evaluate.sandbox.wire import Writer
from campus_tune.words.errors import RecipeError

Kind = Literal["bubblewrap", "namespaces"]
Outcome = Literal["passed", "failed", "timeout", "memory", "ended early", "killed"]

PROCESSES = 4  # of one program at most: one for all of its tests, and one for each test after the first
SOURCES = Path(__file__).parent
PARTS = {"judge": ("wire", "jail", "asking", "judge"), "judged": ("wire", "jail", "judged")}
# starts an interpreter with modules that are in no file inside; compiled once for all programs
BOOT = """\
import marshal, sys
for name, code in marshal.loads(bytes.fromhex(sys.argv.pop(1))):
    module = sys.modules[name] = type(sys)(name)
    exec(code, vars(module))
module.main()
"""
BEGUN, NEXT, PASSED, FAILED, GONE = b"begun", b"next", b"passed", b"failed", b"gone"  # what a judge says
DETAIL_CHARS = 600
SIGXCPU, SIGKILL = 24, 9


class NotBegunError(OSError):
    """A sandbox ended before its program began: of that program nothing is known."""


@dataclass(frozen=True)
class Limits:
    """What one process of a program may use, or its checks. One that asks for more is refused it, or ended.

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
        }


@dataclass(frozen=True)
class ProgramResult:
    """What became of a program.

    Args:
        passed: it ran to its end and so did its checks.
        outcome: how it ended. All but "passed" is for reading: the program may have dressed it up.
        detail: the last lines of what it wrote to stderr, and of why its checks failed.
        seconds: on the clock.
        kind: the sandbox it ran in.
    """

    passed: bool
    outcome: Outcome
    detail: str
    seconds: float
    kind: Kind


def run_in(kind: Kind, source: str, checks: str, limits: Limits) -> ProgramResult:
    """Run one program in one kind of sandbox, and its checks in another one, whether that has been tried out or not.

    Raises:
        OSError: bubblewrap, or something of the kernel's, is missing; or (`NotBegunError`) the sandbox failed before
            the program began.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        trial = _Trial(stack, kind, limits)
        outcome, detail = trial.outcome(source, checks)
    return ProgramResult(outcome == "passed", outcome, detail, time.monotonic() - began, kind)


@dataclass
class _Process:
    """The launcher of a sandbox, and what was written to stderr inside."""

    popen: subprocess.Popen[bytes]
    errors: IO[bytes]

    def code(self, seconds: float) -> int | None:
        """How it ended, or None if it does not in some time."""
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> None:
        self.popen.kill()
        self.popen.wait()


@dataclass
class _Pipe:
    read: IO[bytes]
    write: IO[bytes]


class _Trial:
    """A judge, the processes of the program that it judges, and the pipes between them. All end with the stack."""

    def __init__(self, stack: ExitStack, kind: Kind, limits: Limits) -> None:
        self._stack, self._kind, self._limits = stack, kind, limits
        self._pipes = [(_pipe(stack), _pipe(stack)) for _ in range(PROCESSES)]  # questions, answers
        self._verdict = _pipe(stack)
        self._judged: list[_Process] = []
        self._said, self._begun = b"", 0

    def outcome(self, source: str, checks: str) -> tuple[Outcome, str]:
        """How it went, and the last lines of what was written to stderr.

        Raises:
            NotBegunError: it did not begin.
        """
        # both sides start at the same time
        ends = [(questions.write.fileno(), answers.read.fileno()) for questions, answers in self._pipes]
        request = {"source": source, "checks": checks, "pipes": ends, "setting": self._setting()}
        stdin = _in_memory(self._stack, Writer(most=2**40).bytes_of(request))
        self._judge = self._start("judge", stdin, self._verdict.write, [end for pair in ends for end in pair])
        self._verdict.write.close()
        for questions, _ in self._pipes:
            questions.write.close()
        self._next()
        # the judge says when a side has begun, when it wants another one, and in the end its verdict
        while (word := self._word()) in (BEGUN, NEXT):
            if word == BEGUN:
                self._begun += 1
            else:
                self._next()
        outcome, detail = self._read(word)
        for process in (self._judge, *self._judged):
            process.end()
        for _, answers in self._pipes[: len(self._judged)]:
            poll = select.poll()
            poll.register(answers.read, 0)  # nothing but the end: that nobody holds the other side any more
            poll.poll(5000)  # ms; the kernel takes a moment to end what was inside
        return outcome, detail

    def _next(self) -> None:
        """Start a process for the program. Of its ends of the pipes nobody else has one."""
        questions, answers = self._pipes[len(self._judged)]
        setting = Writer().bytes_of(self._setting()).hex()
        self._judged.append(self._start("judged", questions.read, answers.write, [], setting))
        questions.read.close()
        answers.write.close()
        self._until = time.monotonic() + self._limits.wall_seconds

    def _setting(self) -> dict[str, object]:
        # root's programs: each its own user, nobody else's
        return {"user": random.SystemRandom().randrange(2**30, 2**31 - 2**16), "limits": self._limits.of_process()}

    def _start(self, part: str, stdin: IO[bytes], stdout: IO[bytes], pipes: list[int], *words: str) -> _Process:
        errors, filter_ = _in_memory(self._stack), _in_memory(self._stack, call_filter())
        megabytes, files = self._limits.folder_mb, self._limits.folder_files
        view = replace(python_view(), folder_bytes=megabytes * 2**20, folder_files=files)
        command = [*interpreter(view.python), "-c", BOOT, _code(PARTS[part]), *words]
        if self._kind == "namespaces":
            command = namespaces(view, filter_=call_filter(), command=command)
        elif bwrap := shutil.which("bwrap"):
            as_root = takes_any_user()
            command = bubblewrap(bwrap, view, as_root=as_root, filter_file=filter_.fileno(), command=command)
        else:
            raise FileNotFoundError(errno.ENOENT, "no such program", "bwrap")
        popen = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=stdout,
            stderr=errors,
            cwd="/",
            env={},
            pass_fds=[filter_.fileno(), *pipes],
            start_new_session=True,
        )
        process = _Process(popen, errors)
        self._stack.callback(process.end)  # on Ctrl-C too
        return process

    def _word(self) -> bytes | None:
        """What the judge says next; nothing if it ended without a word, None if it took too long."""
        file = self._verdict.read.fileno()
        while b"\n" not in self._said:
            if not _speaks(file, self._until):
                return None
            part = os.read(file, 100)
            if not part:
                return b""
            self._said += part
        word, _, self._said = self._said.partition(b"\n")
        return word

    def _read(self, verdict: bytes | None) -> tuple[Outcome, str]:
        """What a verdict means for the program."""
        program = self._judged[-1]
        codes = (
            self._judge.code(5.0 if verdict in (FAILED, b"") else 0.0),
            program.code(1.0 if verdict == GONE else 0.0),
        )
        if self._begun < len(self._judged):
            late = "" if verdict is not None else f"no start within {self._limits.wall_seconds:g} s"
            said = _tail(program.errors) or _tail(self._judge.errors)
            raise NotBegunError(said or late or f"exit code {codes[1]}, no message")
        detail = _tail(program.errors, *([] if verdict in (PASSED, GONE) else [self._judge.errors]))
        if verdict == PASSED:
            return "passed", detail
        if verdict == FAILED:
            return _outcome(1, True, detail), detail
        code = codes[verdict != b""]
        return _outcome(0 if code is None else code, verdict is not None, detail), detail


@cache
def _code(names: tuple[str, ...]) -> str:
    """Modules of this package, for the same interpreter to run inside."""
    texts = {name: (SOURCES / f"{name}.py").read_text("utf-8") for name in names}
    codes = [(f"{__package__}.{name}", compile(text, f"<{name}>", "exec")) for name, text in texts.items()]
    return marshal.dumps(codes).hex()


def _pipe(stack: ExitStack) -> _Pipe:
    read, write = os.pipe()
    return _Pipe(stack.enter_context(os.fdopen(read, "rb", 0)), stack.enter_context(os.fdopen(write, "wb", 0)))


def _in_memory(stack: ExitStack, content: bytes = b"") -> IO[bytes]:
    """A file without a name, gone when it is closed."""
    file = stack.enter_context(os.fdopen(os.memfd_create("sandbox"), "w+b"))
    file.write(content)
    file.seek(0)
    return file


def _speaks(file: int, until: float) -> bool:
    """Whether something can be read from a pipe, or its end, in time."""
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(max(0.0, 1000 * (until - time.monotonic()))))


def _tail(*errors: IO[bytes]) -> str:
    """The last lines of some files, one after the other."""
    parts = []
    for file in errors:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - DETAIL_CHARS))
        parts.append(file.read(DETAIL_CHARS))
    return b"".join(parts)[-DETAIL_CHARS:].decode("utf-8", "replace").strip()


def _outcome(code: int, in_time: bool, detail: str) -> Outcome:
    """How a program that did not pass ended, as far as can be told from outside."""
    if not in_time or code in (-SIGXCPU, 128 + SIGXCPU, 128 + SIGKILL):
        return "timeout"
    if detail.rpartition("\n")[2].startswith("MemoryError"):
        return "memory"
    if code == 1 and detail:
        return "failed"
    return "killed" if code < 0 or code > 128 else "ended early"
