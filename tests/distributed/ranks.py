"""Several processes as `accelerate launch` starts them, without its imports for each: they are forked from a warm one.

A warm process (this file, run) has everything imported and no thread, no process group and no
accelerate state. It takes jobs as JSON lines on stdin; for each it forks one child per rank with the environment of
`accelerate launch --multi_gpu`, which `use_cpu` in the training arguments makes a gloo group on the CPU. Like
torchrun's agent it sends SIGTERM to the others when one child has failed, and SIGKILL some seconds later; it can also
kill ranks, or all of them, when something appears on disk. Every job has a time limit, after which the stacks of all
ranks are in their stderr; children are in process groups of their own and die with the warm process, and that with its
parent.

Two things are other than under a launcher: forked children hash strings alike, and rank 0 itself holds the rendezvous.

    with Warm(tmp_path) as warm:
        report = warm.run("train", 2, out=str(tmp_path / "run"), n=48).ok
        print(report.results[1]["rows"], report.stderr[1])
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import importlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import traceback
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
SCENARIOS = "tests.distributed.scenarios"  # where a scenario is, unless its name says `module:function`
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "CUDA_VISIBLE_DEVICES": "",
}
ACCELERATE = {  # what `accelerate launch --multi_gpu --mixed_precision no --dynamo_backend no` sets
    "ACCELERATE_MIXED_PRECISION": "no",
    "ACCELERATE_DYNAMO_BACKEND": "NO",
    "ACCELERATE_DYNAMO_MODE": "default",
    "ACCELERATE_DYNAMO_USE_FULLGRAPH": "False",
    "ACCELERATE_DYNAMO_USE_DYNAMIC": "False",
    "ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION": "False",
}
PATIENT = 60.0  # seconds without a SIGTERM, for tests in which every rank shall say what it saw, however slow it is
READY_WITHIN = 600.0  # seconds for the imports, on a machine that is busy with other things
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Kill:
    """SIGKILL from outside, when something appears on disk.

    Args:
        when: "lines" (the file `path` has `n` of them), "exists" (`path`), "saving" (a checkpoint of step `n` or later
            is in the folder `path` and has no trainer state yet) or "seconds" (`n`, since the ranks were started).
        path: what is looked at.
        n: see `when`.
        ranks: who is killed; None for the whole job.
        delay: seconds between the moment and the kill.
    """

    when: str
    path: str = ""
    n: float = 0
    ranks: Sequence[int] | None = None
    delay: float = 0.0

    def moment(self) -> Callable[[], bool]:
        """Whether it is time, asked again and again from the start of the ranks."""
        began, path = time.monotonic(), Path(self.path)
        return {
            "lines": lambda: _lines(path) >= self.n,
            "exists": path.exists,
            "saving": lambda: _is_saving(path, self.n),
            "seconds": lambda: time.monotonic() - began >= self.n,
        }[self.when]


def _lines(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def _is_saving(folder: Path, step: float) -> bool:
    with contextlib.suppress(FileNotFoundError):
        for path in folder.iterdir():
            name, _, number = path.name.partition("-")
            if name == "checkpoint" and number.isdigit() and int(number) >= step:
                return not (path / "trainer_state.json").exists()
    return False


@dataclass(frozen=True)
class Job:
    """One launch.

    Args:
        scenario: a function of `scenarios.py`, or `module:function`; called on every rank, gives back JSON.
        world: how many ranks; 1 is a plain process without a launcher's environment.
        folder: for stdout, stderr and results of the ranks.
        settings: arguments of the function.
        environment: of every rank, besides the launcher's.
        kill: None lets them live.
        term_after: seconds from a rank's failure to SIGTERM for the others; torchrun looks every 0.1 s.
        kill_after: seconds from there to SIGKILL.
        timeout: seconds for all of it.
    """

    scenario: str
    world: int
    folder: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    kill: Kill | None = None
    term_after: float = 0.1
    kill_after: float = 3.0
    timeout: float = 600.0


@dataclass(frozen=True)
class Report:
    """What became of a job.

    Args:
        codes: exit code of each rank; −9 for SIGKILL, −15 for SIGTERM.
        seconds: from the start to the end of the last rank.
        lingered: seconds from the first failure to the end of the last rank; 0 without a failure.
        timed_out: the time limit ended it.
        killed: `Job.kill` found its moment.
        results: what the scenario gave back on each rank; None where it did not.
        stdout: of each rank.
        stderr: of each rank.
    """

    codes: list[int]
    seconds: float
    lingered: float
    timed_out: bool
    killed: bool
    results: list[Any]
    stdout: list[str]
    stderr: list[str]

    @property
    def ok(self) -> Report:
        """Itself, where every rank has ended well."""
        assert not any(self.codes), self.told()
        return self

    def told(self) -> str:
        """Exit codes and the ends of stderr, for a person."""
        lines = [f"exit codes {self.codes}, {'timed out, ' * self.timed_out}{self.seconds:.1f} s"]
        for rank, text in enumerate(self.stderr):
            lines += [f"rank {rank}:", *text.splitlines()[-40:]]
        return "\n".join(lines)


# -- the test's side ---------------------------------------------------------------------------------------------------


class Warm:
    """A warm process, for as many jobs as wanted, one after the other.

    Args:
        folder: where the jobs' files go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs = 0
        self._log = (folder / "warm.txt").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=REPOSITORY,
            env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def run(
        self,
        scenario: str,
        world: int,
        *,
        kill: Kill | None = None,
        environment: Mapping[str, str] | None = None,
        term_after: float = Job.term_after,
        timeout: float = Job.timeout,
        **settings: Any,
    ) -> Report:
        """Run a scenario on every rank and wait for all of them. The arguments are those of `Job`."""
        self.jobs += 1
        folder = self.folder / f"job-{self.jobs}"
        folder.mkdir()
        caches = {"CAMPUS_TUNE_CACHE": str(folder / "scores"), **(environment or {})}
        job = Job(scenario, world, str(folder), settings, caches, kill, term_after=term_after, timeout=timeout)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(job)) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()  # the warm process keeps the time limit
        assert answer, f"the warm process died: {(self.folder / 'warm.txt').read_text()}"
        return Report(
            **json.loads(answer),
            results=[_result(folder / f"rank-{rank}.json") for rank in range(world)],
            stdout=[(folder / f"rank-{rank}.out").read_text(errors="replace") for rank in range(world)],
            stderr=[(folder / f"rank-{rank}.err").read_text(errors="replace") for rank in range(world)],
        )

    def close(self) -> None:
        """End it, and with it whatever it has started."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def _result(path: Path) -> Any:
    return json.loads(path.read_text("utf-8")) if path.exists() else None


# -- the warm process's side -------------------------------------------------------------------------------------------


def serve() -> None:
    """Take jobs from stdin until it is closed."""
    parent = os.getppid()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    signal.alarm(int(READY_WITHIN))
    warm_up()
    signal.alarm(0)
    for line in sys.stdin:
        job = json.loads(line)
        kill = job.pop("kill")
        answer = launch(Job(**job, kill=Kill(**kill) if kill else None), alive=lambda: os.getppid() == parent)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def warm_up() -> None:
    """Import what every rank needs, and start no thread."""
    import peft
    import torch
    import trl

    import campus_tune
    import campus_tune.cli.score
    import campus_tune.run.run
    from campus_tune.metrics.diversity import text_mtld
    from tests.run import tiny_run, witness

    torch.set_num_threads(1)
    os.fsync = os.fstat  # type: ignore[assignment]  # as in tests/conftest.py: ranks are killed, the power stays on
    wanted = trl.SFTTrainer, peft.LoraConfig, campus_tune.CampusCallback, witness.Witness
    assert all(wanted)  # lazy modules load what is named
    text_mtld("loads what it needs when it is first called")
    tiny_run.tokenizer()  # half a second to make
    gc.collect()
    gc.freeze()  # else each child searches all of this for garbage when training begins


def launch(job: Job, alive: Callable[[], bool] = lambda: True) -> dict[str, Any]:
    """Fork the ranks, watch over them, and give back the first part of a `Report`.

    Args:
        job: what to run.
        alive: whether somebody still waits for the answer; otherwise every rank is killed.
    """
    port = free_port()
    began = time.monotonic()
    agent = Agent(job, [_fork(job, rank, port) for rank in range(job.world)])
    while agent.living:
        agent.look()
        if time.monotonic() - began > job.timeout or not alive():
            agent.give_up()
        time.sleep(0.002)
    ended = time.monotonic()
    return {
        "codes": [agent.codes[rank] for rank in range(job.world)],
        "seconds": ended - began,
        "lingered": 0.0 if agent.failed is None else ended - agent.failed,
        "timed_out": agent.gave_up,
        "killed": agent.moment is None and job.kill is not None,
    }


class Agent:
    """Watches the ranks of one job.

    Args:
        job: which.
        pids: of the ranks, each the leader of a process group.
    """

    def __init__(self, job: Job, pids: list[int]) -> None:
        self.job, self.pids = job, pids
        self.codes: dict[int, int] = {}
        self.moment = job.kill.moment() if job.kill else None
        self.failed: float | None = None  # when the first rank did
        self.warned = self.gave_up = False

    @property
    def living(self) -> list[int]:
        """Ranks that have not ended."""
        return [rank for rank in range(len(self.pids)) if rank not in self.codes]

    def look(self) -> None:
        """Reap who has ended; kill when it is time; end the others when one has failed."""
        for rank in self.living:
            self._reap(rank)
        if self.moment is not None and self.moment():
            self.moment = None
            assert self.job.kill is not None
            time.sleep(self.job.kill.delay)
            self._signal(self.living if self.job.kill.ranks is None else self.job.kill.ranks, signal.SIGKILL)
        if self.failed is not None:
            waited = time.monotonic() - self.failed
            if waited > self.job.term_after and not self.warned:
                self.warned = True
                self._signal(self.living, signal.SIGTERM)
            if waited > self.job.term_after + self.job.kill_after:
                self._signal(self.living, signal.SIGKILL)

    def give_up(self) -> None:
        """End all ranks; what each was doing is in its stderr."""
        if not self.gave_up:
            self.gave_up = True
            self._signal(self.living, signal.SIGUSR1)  # faulthandler writes the stacks
            time.sleep(0.3)
            self._signal(self.living, signal.SIGKILL)

    def _reap(self, rank: int) -> None:
        pid = self.pids[rank]
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)  # data loader workers; before the id is given back
        self.codes[rank] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if self.codes[rank] and self.failed is None:
            self.failed = time.monotonic()

    def _signal(self, ranks: Sequence[int], number: int) -> None:
        for rank in ranks:
            if rank in self.living:
                os.kill(self.pids[rank], number)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _fork(job: Job, rank: int, port: int) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(pid, pid)  # here and in the child: whoever comes first
        return pid
    status = 1
    try:
        with contextlib.suppress(PermissionError):
            os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        _become(job, rank, port)
        status = _play(job, rank)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _become(job: Job, rank: int, port: int) -> None:
    """Files, environment and random states of one rank."""
    folder = Path(job.folder)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / f"rank-{rank}.{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), descriptor)
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    os.environ.update(job.environment)
    if job.world > 1:
        os.environ.update(launch_environment(rank, job.world, port))
    import numpy as np

    random.seed()  # nothing may hang on ranks that draw alike: processes of their own do not
    np.random.seed(None)  # noqa: NPY002  # the global one is meant


def launch_environment(rank: int, world: int, port: int) -> dict[str, str]:
    """What torchrun and accelerate set for one process of a machine."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "GROUP_RANK": 0}
    texts = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo", **ACCELERATE}
    return {**{name: str(number) for name, number in numbers.items()}, **texts}


def _play(job: Job, rank: int) -> int:
    """Run the scenario; gives back the exit code."""
    module, _, name = job.scenario.rpartition(":")
    result = getattr(importlib.import_module(module or SCENARIOS), name)(**job.settings)
    whole = Path(job.folder) / f"rank-{rank}.json"
    whole.with_suffix(".part").write_text(json.dumps(result), "utf-8")
    whole.with_suffix(".part").rename(whole)
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
    return 0


def find_tests() -> None:
    """Make `tests` mean this repository's: textstat installs a package of that name."""
    tests = types.ModuleType("tests")
    tests.__path__ = [str(REPOSITORY / "tests")]
    sys.modules["tests"] = tests


if __name__ == "__main__":
    sys.path[0] = str(REPOSITORY)
    find_tests()
    serve()
