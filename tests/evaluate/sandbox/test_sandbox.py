"""Model-written code: nothing gets out, nothing is faked, nothing stays behind; what is right passes."""

from __future__ import annotations

import ctypes
import gzip
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from campus_tune.evaluate.sandbox import isolation, sandbox, view
from campus_tune.evaluate.sandbox.sandbox import (
    Kind,
    Limits,
    ProgramResult,
    SandboxError,
    run_many,
    run_program,
    sandbox_kind,
)
from campus_tune.evaluate.sandbox.syscalls import OLD_CALLS, call_filter
from campus_tune.words.errors import RecipeError
from tests.evaluate.forgeries import FORGERIES
from tests.evaluate.hostile import HOSTILE, NATIVE, Hostile
from tests.evaluate.ordinary_user import AS_USER, python_for_all

DATA = Path(__file__).parents[4] / "shared" / "data"
PROJECT = Path(__file__).parents[3]
TIGHT = Limits(cpu_seconds=1, wall_seconds=6.0, memory_mb=512)
PATIENT = replace(TIGHT, cpu_seconds=20, wall_seconds=60.0)  # for what is not stopped by time, on a busy machine too
WHOLE = "CAMPUS_TUNE_WHOLE" in os.environ
# `eval/sandbox_attacks.py` runs them all, in both kinds of sandbox, as root and not
ATTACKS = HOSTILE | {name: one for n, (name, one) in enumerate(FORGERIES.items()) if WHOLE or n % 4 == 0}


def _works(kind: Kind) -> bool:
    return sandbox._problem_of(kind) is None


WORKING = [kind for kind in sandbox.KINDS if _works(kind)]
pytestmark = pytest.mark.skipif(not WORKING, reason="no sandbox works on this machine")


@pytest.fixture(scope="module", params=WORKING)
def kind(request: pytest.FixtureRequest) -> Iterator[Kind]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox, "sandbox_kind", lambda: request.param)
        yield request.param


@pytest.fixture(scope="module", autouse=True)
def _orphans_come_to_us() -> Iterator[None]:
    """A process whose parents are gone becomes our child, so that we would see it."""
    pr_set_child_subreaper = 36
    libc = ctypes.CDLL(None)
    libc.prctl(pr_set_child_subreaper, 1, 0, 0, 0)
    yield
    libc.prctl(pr_set_child_subreaper, 0, 0, 0, 0)


def _below(folder: Path, path: Path) -> str:
    return path.relative_to(folder).parts[0] if folder in path.parents else "nowhere"


def _alive() -> set[int]:
    """Our descendants; not those that ended and wait for whoever started them to ask."""
    alive = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                alive.add(process.pid)
    return alive


def _limits(program: Hostile) -> Limits:
    return TIGHT if "timeout" in program.why else PATIENT


class Surroundings:
    """What the hostile programs are after: a secret, a server, a process; and what they would leave behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secret = folder / "secret"
        self.secret.write_text("the secret")
        self.visits: list[str] = []
        abstract = f"campus_tune_{os.getpid()}"
        self.servers = [socket.create_server(("127.0.0.1", 0))]
        for place in (f"\0{abstract}", str(folder / "socket")):
            server = socket.socket(socket.AF_UNIX)
            server.bind(place)
            server.listen()
            self.servers.append(server)
        for server in self.servers:
            threading.Thread(target=self._serve, args=(server,), daemon=True).start()
        self.victim = subprocess.Popen(["sleep", "600"])
        self.words = {
            "PORT": str(self.servers[0].getsockname()[1]),
            "ABSTRACT": abstract,
            "FOLDER": str(folder),
            "HOME": str(Path.home()),
            "PROJECT": str(PROJECT),
            "VICTIM": str(self.victim.pid),
            "PACKAGES": sysconfig.get_path("purelib"),
            "PYTHON_LIES_IN": _below(Path.home(), Path(view.python_view().python)),
        }
        self.before = self.state()

    def _serve(self, server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                server.accept()[0].close()
                self.visits.append(str(server))

    def state(self) -> dict[str, Any]:
        names = set(Path(tempfile.gettempdir()).iterdir())
        return {
            "processes": _alive(),
            "mounts": Path("/proc/self/mountinfo").read_text(),
            "files": {name for name in names if "sandbox" in name.name or "left_behind" in name.name},
            "shared memory": {name for name in Path("/dev/shm").iterdir() if "left_behind" in name.name},
            "open files": len(list(Path("/proc/self/fd").iterdir())),
            "secret": self.secret.read_text(),
            "folder": set(self.folder.iterdir()),
            "victim": self.victim.poll(),
            "visits": list(self.visits),
        }

    def put_in(self, text: str) -> str:
        return re.sub("|".join(self.words), lambda found: self.words[found[0]], text)

    def close(self) -> None:
        self.victim.kill()
        self.victim.wait()
        for server in self.servers:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", "hf_secret")
        place = Surroundings(tmp_path_factory.mktemp("around"))
        yield place
        place.close()


@pytest.fixture(scope="module")
def verdicts(kind: Kind, surroundings: Surroundings) -> dict[str, ProgramResult]:
    assert sandbox.sandbox_kind() == kind
    found = {}
    for limits in (TIGHT, PATIENT):
        some = {name: program for name, program in ATTACKS.items() if _limits(program) == limits}
        programs = [(surroundings.put_in(program.source), program.checks) for program in some.values()]
        found |= dict(zip(some, run_many(programs, limits=limits, workers=6), strict=True))
    return found


def test_there_are_enough_hostile_programs() -> None:
    assert len(HOSTILE) >= 70
    assert len(FORGERIES) >= 150


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_program_does_not_pass_and_is_stopped_where_it_should_be(
    name: str, verdicts: dict[str, ProgramResult], kind: Kind
) -> None:
    verdict = verdicts[name]
    assert not verdict.passed
    assert verdict.outcome != "passed"
    assert verdict.kind == kind
    assert re.search(ATTACKS[name].why, f"{verdict.outcome}: {verdict.detail}", re.DOTALL), verdict
    assert "hf_secret" not in verdict.detail
    assert verdict.seconds < _limits(ATTACKS[name]).wall_seconds + 30  # the kernel ends it when it gets to it
    assert len(verdict.detail) <= isolation.DETAIL_CHARS


def test_hostile_programs_leave_nothing_behind_and_reach_nobody(
    verdicts: dict[str, ProgramResult], surroundings: Surroundings
) -> None:
    assert len(verdicts) == len(ATTACKS)
    _until(lambda: _alive() <= surroundings.before["processes"])  # the kernel ends them when it gets to it
    after = surroundings.state()
    for what, before in surroundings.before.items():
        assert after[what] == before, what


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What runs inside, to be changed."""
    for name in {name for part in isolation.PARTS.values() for name in part}:
        shutil.copy(isolation.SOURCES / f"{name}.py", tmp_path)
    monkeypatch.setattr(isolation, "SOURCES", tmp_path)
    isolation._code.cache_clear()
    yield tmp_path
    isolation._code.cache_clear()


@pytest.mark.parametrize(
    ("weaken", "into", "name"),
    [
        ("answer[:NONCE_BYTES] != nonce", "False", "out of turn: an answer to the question before"),
        ("raise self.__program.compared(self.__what)", "return True", "lie: an object that equals everything"),
        ("all_names - set(vars(builtins)) - ", "all_names - ", "lie: an abs of its own"),
        ("name in ENDS_ITERATION and not ends", "False", "lie: an iteration that ends before the first check"),
    ],
)
@pytest.mark.usefixtures("kind")
def test_these_forgeries_are_real_they_succeed_where_their_defence_is_taken_away(
    weaken: str, into: str, name: str, sources: Path
) -> None:
    texts = {file: file.read_text("utf-8") for file in sources.iterdir()}
    (strong,) = [file for file, text in texts.items() if text.count(weaken) == 1]
    strong.write_text(texts[strong].replace(weaken, into), "utf-8")
    assert run_program(FORGERIES[name].source, FORGERIES[name].checks, limits=PATIENT).passed


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of system calls")
def test_the_kernel_refuses_what_only_machine_code_can_ask_for(kind: Kind, tmp_path: Path) -> None:
    seen = replace(view.python_view(), blank=(), folder_bytes=2**20, folder_files=10)
    command = [*view.interpreter(seen.python), "-c", NATIVE]
    with (tmp_path / "filter").open("w+b") as file:
        file.write(call_filter())
        file.seek(0)
        if kind == "namespaces":
            line = view.namespaces(seen, filter_=call_filter(), command=command)
        else:
            bwrap, root = str(shutil.which("bwrap")), os.geteuid() == 0
            line = view.bubblewrap(bwrap, seen, as_root=root, filter_file=file.fileno(), command=command)
        run = subprocess.run(line, capture_output=True, text=True, env={}, pass_fds=[file.fileno()], check=True)
    assert run.stdout == "[] 30\n"  # none of 30 got through


# -- what is right passes ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("kind")
class TestOrdinaryPrograms:
    def test_a_right_program_passes(self) -> None:
        verdict = run_program("def add(a, b):\n    return a + b", "assert add(2, 3) == 5")
        assert (verdict.passed, verdict.outcome, verdict.detail) == (True, "passed", "")

    def test_a_wrong_one_fails_and_says_where(self) -> None:
        verdict = run_program("def add(a, b):\n    return a * b", "assert add(2, 3) == 5")
        assert (verdict.passed, verdict.outcome) == (False, "failed")
        assert verdict.detail.endswith("AssertionError")

    @pytest.mark.parametrize(
        "source",
        [
            "import math, re, json, heapq, itertools, collections, datetime, decimal, hashlib, statistics, sqlite3",
            "open('a.txt', 'w').write('x'); assert open('a.txt').read() == 'x'",
            "import tempfile; f = tempfile.TemporaryFile(); f.write(b'x')",
            "import threading; t = threading.Thread(target=print); t.start(); t.join()",
            "from concurrent.futures import ThreadPoolExecutor as P; assert list(P(4).map(abs, [-1])) == [1]",
            "import asyncio; asyncio.run(asyncio.sleep(0))",
            "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\nassert A(1) == A(1)",
            "from __future__ import annotations\nfrom typing import NamedTuple\nclass A(NamedTuple):\n    x: int",
            "from enum import Enum\nclass A(Enum):\n    x = 1",
            "import sys; sys.setrecursionlimit(20000)\ndef f(n): return n and 1 + f(n - 1)\nassert f(5000) == 5000",
            "print('ü' * 10**6); import sys; sys.stderr.write('ü')",
            "assert 'x'.encode('utf-8') and 'ä' in 'ä'",
            "import time; time.sleep(0.01)",
            "x = [0] * 10**7",
            "if __name__ == '__main__':\n    raise SystemExit  # exec'd in an empty dictionary, as evaluate does",
            "",
        ],
    )
    def test_what_solutions_do_is_allowed(self, source: str) -> None:
        verdict = run_program(source)
        assert verdict.passed, verdict

    def test_what_holds_solutions_is_hidden_and_the_rest_of_the_library_is_there(self) -> None:
        assert run_program("""
import os, sys
folder = os.path.dirname(os.__file__)
for place in "site-packages", "dist-packages", "test", "unittest/test", "sqlite3/test", "idlelib", "pydoc_data":
    assert not os.path.exists(f"{folder}/{place}") or not os.listdir(f"{folder}/{place}"), place
assert not [name for name in ("node_modules", "jvm") for lib in ("/lib", "/usr/lib")
            if os.path.exists(f"{lib}/{name}") and os.listdir(f"{lib}/{name}")]
import unittest.mock, xml.etree.ElementTree, ssl, sqlite3, lzma, decimal, zoneinfo, tomllib, lib2to3.pytree
""").passed

    def test_nothing_but_its_pipes_is_open(self) -> None:
        secret, kept = os.pipe()
        os.set_inheritable(secret, True)
        verdict = run_program("""
import os, stat
def kinds():
    for n in range(1024):
        try: yield n, stat.S_IFMT(os.fstat(n).st_mode)
        except OSError: pass
files = dict(kinds())
assert files.pop(0) == files.pop(1) == stat.S_IFCHR and files.pop(2) == stat.S_IFREG  # nowhere, and its errors
assert sorted(files.values()) == [stat.S_IFIFO] * 2, files
""")
        os.close(secret)
        os.close(kept)
        assert verdict.passed, verdict

    def test_nothing_of_one_program_reaches_the_next(self) -> None:
        assert run_program("open('left', 'w'); import builtins; builtins.left = 1").passed
        assert run_program("import os, builtins; assert not os.listdir() and not hasattr(builtins, 'left')").passed

    @pytest.mark.parametrize(
        ("source", "checks"),
        [
            ("from collections import Counter\ndef f(x): return Counter(x)", "assert f('aab') == {'a': 2, 'b': 1}"),
            ("from collections import defaultdict as d\ndef f(): return d(list, {1: [2]})", "assert f() == {1: [2]}"),
            ("from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(): return P(1, 2)",
             "assert f() == (1, 2)"),
            ("from enum import IntEnum\nclass A(IntEnum):\n    x = 1\ndef f(): return A.x", "assert f() == 1"),
            ("import re\ndef f(x): return re.search('ab*', x)", "assert f('xabb')\nassert not f('x')"),
            ("def f(x): return (i * 2 for i in x)", "assert list(f([1, 2])) == [2, 4] and set(f([])) == set()"),
            ("def f(x): return x.keys()", "assert sorted(f({1: 2})) == [1] and len(f({})) == 0"),
            ("from fractions import Fraction\ndef f(x): return Fraction(x)",
             "import math\nassert math.isclose(f(2), 2)"),
            ("def f(x):\n    x.sort()", "x = [3, 1]\nf(x)\nassert x == [1, 3]"),
            ("def f(x):\n    x[0]['a'].add(2); x.append(x[0])",
             "x = [{'a': {1}}]\nf(x)\nassert x[1] is x[0] and x[0]['a'] == {1, 2}"),
            ("def f(x): return x", "x = [1]\nassert f(x) is x and f(f) is f"),
            ("def f(x, kind): return [i for i in x if type(i) is kind]", "assert f([1, 'a'], str) == ['a']"),
            ("class Node:\n    def __init__(self): self.left = None\ndef f(a): return a and 1 + (f(a.left) or 0)",
             "root = Node()\nroot.left = Node()\nassert f(root) == 2 and f(root.left) == 1 and root.left.left is None"),
            ("import math\ndef f(x): return math.sqrt(x)", "assert math.isclose(f(2), 1.414, rel_tol=1e-3)"),
            ("def sum(a, b): return a * b", "assert sum(2, 3) == 6"),
            ("def f(x):\n    if x < 0: raise ValueError('negative')\n    return x",
             "try:\n    f(-1)\n    assert False\nexcept ValueError as error:\n    assert str(error) == 'negative'"),
            ("class OwnError(KeyError): pass\ndef f():\n    raise OwnError",
             "try:\n    f()\nexcept LookupError:\n    pass"),
            ("from decimal import Decimal\ndef f(): return Decimal('0.1') + Decimal('0.2'), 1 + 2j, b'x', 2**999, None",
             "from decimal import Decimal\nassert f() == (Decimal('0.3'), 1 + 2j, b'x', 2**999, None)"),
            ("limit = 5\ndef f(): return limit", "assert f() == limit == 5"),
            ("def f(x): return x", "assert f('\\udc80') == '\\udc80' and f(float('-inf')) < 0 and f(-0.0) == 0"),
            ("def f(*a, **k): return a, k", "assert f(1, *[2], x=[3]) == ((1, 2), {'x': [3]})"),
        ],
    )  # fmt: skip
    def test_what_checks_do_with_an_answer_means_what_it_means_in_one_process(self, source: str, checks: str) -> None:
        exec(f"{source}\n{checks}", {})
        verdict = run_program(source, checks)
        assert verdict.passed, verdict

    @pytest.mark.parametrize(
        ("source", "checks", "says"),
        [
            ("def f(): return (i for i in [1])",
             "assert f() == [1]", "answered with a generator, which is not a value"),
            ("class Yes:\n    def __eq__(self, _): return True\ndef f(): return Yes()", "assert f() == 42",
             "answered with a Yes, which is not a value"),
            ("def f(): return bytes(2**25)", "assert f() == 1", "answered with a value of more than 16 MiB"),
            ("def f(x): return x(2)",
             "assert f(lambda x: x) == 2", "the checks cannot ask: a function cannot be handed"),
            ("def f(): return bytearray(2)", "assert f() != 0", "answered with a bytearray, which is not a value"),
            ("def f(): raise SystemError('x')", "assert f()", "SystemError: x"),
            ("def g(): pass", "assert f() == 1", "NameError: name 'f' is not defined"),
            ("def f(): return 1", "assert f(", "SyntaxError"),
        ],
    )  # fmt: skip
    def test_an_answer_that_is_none_fails_with_the_reason(self, source: str, checks: str, says: str) -> None:
        verdict = run_program(source, checks)
        assert (verdict.passed, verdict.outcome) == (False, "failed")
        assert says in verdict.detail.rpartition("\n")[2], verdict

    def test_every_assert_is_asked_of_a_fresh_process_too(self) -> None:
        keeps = "told = []\ndef f(n):\n    told.append(n)\n    return len(told)"
        assert not run_program(keeps, "assert f(0) == 1\nassert f(0) == 2").passed  # the second test fails alone
        assert not run_program(keeps, "assert f(0) == 1\nassert f(0) == 1").passed  # and here after the first
        assert run_program(keeps, "def check(f):\n    assert f(0) == 1\n    assert f(0) == 2\ncheck(f)").passed

    def test_an_assert_on_what_the_checks_have_made_sees_what_was_done_with_it(self) -> None:
        sorts = "def f(a): a.append(1); a.sort()"
        assert run_program(sorts, "a = [3, 2]\nassert f(a) is None\nassert a == [1, 2, 3]").passed
        assert not run_program(sorts, "a = [3, 2]\nassert f(a) is None\nassert a == [3, 2]").passed

    def test_an_object_is_not_none_without_being_asked(self) -> None:
        lies = "class Yes:\n    def __eq__(self, _): return True\ndef f(): return Yes()"
        assert run_program("def f(): return object()", "assert f() != None\nassert not None == f()").passed
        assert not run_program(lies, "assert f() == None").passed

    def test_checks_that_never_end_are_ended(self) -> None:
        assert run_program("x = 1", "while True: pass", limits=Limits(cpu_seconds=1)).outcome == "timeout"

    def test_a_sleeping_program_ends_by_the_clock_and_a_busy_one_by_its_computing_time(self) -> None:
        asleep = run_program("import time; time.sleep(60)", limits=Limits(cpu_seconds=30, wall_seconds=2.0))
        assert (asleep.outcome, asleep.seconds < 50) == ("timeout", True)
        busy = run_program("while True: pass", limits=Limits(cpu_seconds=1, wall_seconds=600.0))
        assert (busy.outcome, busy.seconds < 500) == ("timeout", True)

    def test_many_keep_their_sequence_and_tell_how_far_they_are(self) -> None:
        told: list[tuple[int, int]] = []
        programs = [("x = 1", f"assert x == {n % 2}") for n in range(6)]
        verdicts = run_many(programs, workers=2, progress=lambda done, of: told.append((done, of)))
        assert [verdict.passed for verdict in verdicts] == [False, True] * 3
        assert told == [(n, 6) for n in range(1, 7)]

    def test_no_programs_are_no_verdicts(self) -> None:
        assert run_many([]) == []

    def test_a_program_dies_with_the_process_that_runs_it(self, kind: Kind) -> None:
        code = (
            "from campus_tune.evaluate.sandbox.isolation import Limits, run_in; "
            f"run_in({kind!r}, 'import time; time.sleep(600)', '', Limits(wall_seconds=600.0))"
        )
        runner = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT)
        started = psutil.Process(runner.pid)
        _until(lambda: len(started.children(recursive=True)) >= 6)  # two launchers, and in each sandbox two processes
        inside = started.children(recursive=True)
        networks = {os.readlink(f"/proc/{one.pid}/ns/net") for one in set(inside) - set(started.children())}
        assert os.readlink("/proc/self/ns/net") not in networks
        runner.kill()
        runner.wait()
        _until(lambda: not any(one.is_running() and one.status() != "zombie" for one in inside))

    def test_ctrl_c_ends_what_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(*_: Any) -> bool:
            time.sleep(0.3)
            raise KeyboardInterrupt

        before = _alive()
        monkeypatch.setattr(isolation, "_speaks", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_program("import time; time.sleep(600)")
        _until(lambda: _alive() <= before)


def _until(holds: Any) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.fixture
def untried() -> Iterator[None]:
    """What was found out by trying is forgotten before and after."""
    sandbox_kind.cache_clear()
    yield
    sandbox_kind.cache_clear()


@pytest.mark.usefixtures("untried")
def test_a_machine_without_a_sandbox_runs_nothing_and_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_problem_of", lambda kind: f"no {kind} here")
    with pytest.raises(SandboxError, match=r"(?s)must have a working sandbox.*no bubblewrap here.*no namespaces here.*"
                       "Install bubblewrap"):  # fmt: skip
        sandbox_kind()


@pytest.mark.usefixtures("untried")
def test_the_first_sandbox_that_holds_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_problem_of", lambda kind: None if kind == "namespaces" else "not here")
    assert sandbox_kind() == "namespaces"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda patch: patch.setattr(sys, "platform", "darwin"), "must run on Linux, not darwin"),
        (lambda patch: patch.setattr(platform, "machine", lambda: "riscv64"), "must run on x86_64 or aarch64"),
        (lambda patch: patch.setattr(shutil, "which", lambda _: None), "`bwrap` is not on the PATH"),
    ],
)
def test_what_a_machine_lacks_is_named(change: Any, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch)
    assert says in str(sandbox._problem_of("bubblewrap"))


@pytest.mark.parametrize("kind", WORKING)
def test_a_sandbox_that_shows_a_file_too_much_is_not_used(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "secret").write_text("")
    assert sandbox._problem_of(kind) is None
    whole = replace(view.python_view(), binds=(*view.python_view().binds, str(tmp_path)))
    monkeypatch.setattr(isolation, "python_view", lambda: whole)
    assert str(tmp_path) in str(sandbox._problem_of(kind))


@pytest.mark.parametrize("kind", WORKING)
def test_a_sandbox_without_its_filter_is_not_used(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    allow_all = (0x06).to_bytes(2, sys.byteorder) + bytes(2) + (0x7FFF0000).to_bytes(4, sys.byteorder)
    monkeypatch.setattr(isolation, "call_filter", lambda: allow_all)
    assert "AssertionError" in str(sandbox._problem_of(kind))


def test_a_broken_launcher_is_no_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho no permission >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert sandbox._problem_of("bubblewrap") == "NotBegunError: no permission"


class Unsteady:
    """A sandbox that does not start its first programs."""

    def __init__(self, failures: int) -> None:
        self.failures, self.asked = failures, 0

    def __call__(self, kind: Kind, *_: object) -> ProgramResult:
        self.asked += 1
        if self.asked <= self.failures:
            raise isolation.NotBegunError("Cannot allocate memory")
        return ProgramResult(True, "passed", "", 0.1, kind)


@pytest.mark.usefixtures("untried")
def test_a_sandbox_that_does_not_start_is_tried_again_and_then_an_error_but_no_wrong_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sandbox, "_problem_of", lambda _: None)
    monkeypatch.setattr(sandbox, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(sandbox, "run_in", Unsteady(2))
    assert run_program("x = 1").passed
    monkeypatch.setattr(sandbox, "run_in", Unsteady(3))
    with pytest.raises(SandboxError, match=r"got 3 of \w+ that ended before it began \(Cannot allocate memory\)"):
        run_many(["x = 1"])


@pytest.mark.parametrize("kind", WORKING)
@pytest.mark.parametrize(
    ("judged", "wall", "says"),
    [
        ("raise MemoryError", 60.0, "MemoryError"),
        ("def main(): pass", 60.0, "exit code 0, no message"),
        ("import time; time.sleep(60)", 0.3, "no start within 0.3 s"),
    ],
)
def test_of_a_program_that_never_began_nothing_is_said(
    kind: Kind, judged: str, wall: float, says: str, sources: Path
) -> None:
    (sources / "judged.py").write_text(judged)
    with pytest.raises(isolation.NotBegunError, match=says):
        isolation.run_in(kind, "", "", Limits(wall_seconds=wall))


def test_a_judge_that_never_began_says_nothing_either(sources: Path) -> None:
    (sources / "judge.py").write_text("raise MemoryError")
    with pytest.raises(isolation.NotBegunError, match=r"MemoryError|exit code"):
        isolation.run_in(WORKING[0], "", "", PATIENT)


def test_the_words_of_a_judge_are_the_same_inside_and_outside() -> None:
    from campus_tune.evaluate.sandbox import asking, judge, judged

    for name in ("BEGUN", "NEXT", "PASSED", "FAILED", "GONE"):
        assert getattr(judge, name) == getattr(isolation, name) + b"\n"
    assert asking.NONCE_BYTES == judged.NONCE_BYTES


def test_limits_are_more_than_nothing() -> None:
    with pytest.raises(RecipeError, match=r"(?s)`cpu_seconds` must be more than 0, got 0.*`threads` must be more than"):
        Limits(cpu_seconds=0, threads=-1)


def test_somebody_has_to_work() -> None:
    with pytest.raises(RecipeError, match="`workers` must be at least 1, got 0"):
        run_many(["x = 1"], workers=0)


def test_an_architecture_without_numbers_has_no_filter() -> None:
    with pytest.raises(KeyError, match="riscv64"):
        call_filter("riscv64")


def test_both_architectures_refuse_the_same_calls() -> None:
    only_there = {"fork", "vfork"}  # aarch64 has clone alone
    assert set(OLD_CALLS["x86_64"]) - only_there == set(OLD_CALLS["aarch64"])
    for numbers in OLD_CALLS.values():
        assert len(set(numbers.values())) == len(numbers)


# -- an ordinary user ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="takes root to become another user")
@pytest.mark.parametrize("container", [False, True])
def test_it_holds_for_an_ordinary_user_and_for_the_root_of_a_rootless_container(container: bool) -> None:
    python = python_for_all()
    if python is None or (container and shutil.which("unshare") is None):
        pytest.skip("no interpreter of this version that everybody may run, or no unshare")
    with tempfile.TemporaryDirectory() as name:
        package = Path(name) / "campus_tune"
        shutil.copytree(PROJECT / "campus_tune" / "evaluate" / "sandbox", package / "evaluate" / "sandbox")
        (package / "words").mkdir()
        for part in ("errors.py", "wording.py"):
            shutil.copy(PROJECT / "campus_tune" / "words" / part, package / "words")
        for folder in (package, package / "words", package / "evaluate", package / "evaluate" / "sandbox"):
            (folder / "__init__.py").write_text("")
        subprocess.run(["chmod", "-R", "a+rX", name], check=True)
        code = (
            "from campus_tune.evaluate.sandbox.sandbox import _problem_of, run_program; import os; "
            "print(os.getuid(), _problem_of('namespaces'), run_program('', 'assert 1').passed, "
            "run_program('import os; os._exit(0)').passed)"
        )
        user = [*AS_USER, "unshare", "--user", "--map-root-user"] if container else AS_USER
        run = subprocess.run([*user, python, "-B", "-c", code], cwd=name, capture_output=True, text=True, check=False)
    if "Operation not permitted" in run.stdout + run.stderr:
        pytest.skip("this kernel lets no ordinary user make namespaces")
    assert (run.stdout, run.stderr) == (f"{0 if container else 65534} None True False\n", "")


# -- gold ----------------------------------------------------------------------------------------------------------


def _rows(name: str) -> list[dict[str, Any]]:
    path = DATA / name / "test.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{name} is not on this machine")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.mark.slow
@pytest.mark.usefixtures("kind")
def test_the_gold_solutions_of_humaneval_pass() -> None:
    """Every sixth; all 164 with CAMPUS_TUNE_WHOLE=1, half a minute."""
    rows = _rows("humaneval")
    assert len(rows) == 164
    pairs = [(one["prompt"] + one["canonical_solution"], f"{one['test']}\ncheck({one['entry_point']})") for one in rows]
    verdicts = run_many(pairs if WHOLE else pairs[::6])
    assert all(verdict.passed for verdict in verdicts)


@pytest.mark.slow
@pytest.mark.usefixtures("kind")
def test_the_gold_solutions_of_mbpp_pass_but_for_one_or_two() -> None:
    """Every 25th, and one that fails for everybody; all 500 with CAMPUS_TUNE_WHOLE=1, some minutes."""
    rows = _rows("mbpp")
    assert len(rows) == 500
    if not WHOLE:
        rows = [one for i, one in enumerate(rows) if i % 25 == 0 or one["task_id"] == 367]
    verdicts = run_many([(one["code"], "\n".join(one["test_list"])) for one in rows])
    failed = {one["task_id"] for one, verdict in zip(rows, verdicts, strict=True) if not verdict.passed}
    assert failed <= {367, 123}, failed  # 367 needs set-up code that lm-eval leaves out; 123 computes for seconds
