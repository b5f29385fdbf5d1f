"""All runs of a comparison: which are there, which are to be made, on how many processes; then the verdict.

The baseline comes first, with all its seeds: they are the pilot that says, before anything else is trained, which
effect the comparison could find. Finished runs are kept whatever happens; the same command goes on.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from campus_tune.compare.arms import Arm
from campus_tune.compare.bench import LOG, Bench
from campus_tune.compare.inputs import arm_of
from campus_tune.compare.outcome import DIVERGED, read_outcome, run_folder
from campus_tune.compare.plan import Plan
from campus_tune.errors import CampusError, DataError, RecipeError
from campus_tune.files import atomic_write
from campus_tune.ledger import plain
from campus_tune.types import Json

if TYPE_CHECKING:
    from campus_tune.evaluation.held_out import HeldOut

ABOUT = "compare.json"
FORMAT = 1
SHOWN = 60  # characters of a setting in a message


@dataclass(frozen=True)
class Task:
    """One run that is to be made."""

    arm: str
    seed: int
    max_steps: int | None = None


class Campaign:
    """The runs of one comparison.

    Args:
        plan: what is compared.
        command: that started it.
        say: told every line.
        pilot: only the baseline is trained.
    """

    def __init__(self, plan: Plan, command: str, say: Callable[[str], object] = print, *, pilot: bool = False) -> None:
        self.plan, self.command, self.say, self.pilot = plan, command, say, pilot
        self.outcomes: dict[tuple[str, int], Json] = {}
        self._made = 0
        self._pools: list[ProcessPoolExecutor] = []
        self._began = time.perf_counter()

    def begin(self, test: HeldOut) -> None:
        """Write down what is compared, and find what is there already.

        Args:
            test: the rows that decide.

        Raises:
            RecipeError: the folder holds a comparison of other settings, which are named.
            DataError: a result in it cannot be read.
        """
        path = self.plan.out / ABOUT
        about = self._about(test)
        if path.exists():
            about = _joined(_read(path), about, path)
        atomic_write(path, json.dumps(plain(about), indent=1) + "\n")
        for arm in self._asked():
            for seed in self.plan.settings.seeds:
                outcome = read_outcome(self.plan.out, arm.name, seed)
                if outcome is not None:
                    self.outcomes[arm.name, seed] = outcome
        if self.outcomes:
            self.say(f"{len(self.outcomes)} of {self.n_runs} runs are there already and are kept")

    @property
    def n_runs(self) -> int:
        """Runs of the whole comparison, or of its pilot."""
        return len(self._asked()) * len(self.plan.settings.seeds)

    def _asked(self) -> tuple[Arm, ...]:
        """The arms that are trained."""
        return (self.plan.baseline,) if self.pilot else self.plan.arms

    def train(self, kinds: Sequence[str], bench: Bench) -> None:
        """Make all missing runs of the arms of some kinds.

        Args:
            kinds: of arms.
            bench: of this process.

        Raises:
            CampusError: a run cannot be made; those that are finished are kept.
        """
        tasks = [
            Task(arm.name, seed, self._steps_of_plus(seed) if arm.kind == "plus" else None)
            for kind in kinds
            for seed in self.plan.settings.seeds
            for arm in self.plan.arms
            if arm.kind == kind and (arm.name, seed) not in self.outcomes
        ]
        runner = self._in_processes(tasks) if self._has_processes() else self._in_this_process(tasks, bench)
        for outcome in runner:
            self._keep(outcome)

    def close(self) -> None:
        """End all processes, with the runs in them that nobody waits for any more."""
        for pool in self._pools:
            for process in list((getattr(pool, "_processes", None) or {}).values()):
                process.terminate()
            pool.shutdown(cancel_futures=True)
        self._pools = []

    def results(self, name: str) -> list[Json]:
        """The results of one arm, one per seed."""
        return [self.outcomes[name, seed] for seed in self.plan.settings.seeds if (name, seed) in self.outcomes]

    def arms(self) -> list[Any]:
        """All arms that have results, as the statistics take them."""
        return [arm_of(found) for arm in self.plan.arms if (found := self.results(arm.name))]

    # -- where runs are made --------------------------------------------------------------------------------------

    def _has_processes(self) -> bool:
        """Runs are made elsewhere: several at once, or on a device that this process may have passed by already."""
        return bool(self.plan.settings.devices) or self.plan.settings.jobs > 1

    def _in_this_process(self, tasks: Sequence[Task], bench: Bench) -> Iterator[Json]:
        for task in tasks:
            with _named(task, self.plan.out):
                outcome = bench.run(task.arm, task.seed, max_steps=task.max_steps)
            yield outcome

    def _in_processes(self, tasks: Sequence[Task]) -> Iterator[Json]:
        """As many processes as devices or jobs, each with one run at a time; they stay until the campaign is closed."""
        if not self._pools:
            spawn = get_context("spawn")
            self._pools = [ProcessPoolExecutor(1, spawn, _start, (plan,)) for plan in self._plans()]
        waiting, idle = list(tasks), list(self._pools)
        running: dict[Future[Json], tuple[ProcessPoolExecutor, Task]] = {}
        while waiting or running:
            while waiting and idle:
                task, pool = waiting.pop(0), idle.pop()
                running[pool.submit(_work, task)] = pool, task
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                pool, task = running.pop(future)
                idle.append(pool)
                with _named(task, self.plan.out):
                    outcome = future.result()
                yield outcome

    def _plans(self) -> list[Plan]:
        """The plan as each process gets it."""
        settings = self.plan.settings
        if settings.devices:
            return [replace(self.plan, device=name_of_device(device)) for device in settings.devices]
        threads = max(1, len(os.sched_getaffinity(0)) // settings.jobs)
        return [replace(self.plan, threads=threads)] * settings.jobs

    # -- what is said ---------------------------------------------------------------------------------------------

    def _keep(self, outcome: Json) -> None:
        self.outcomes[outcome["arm"], outcome["seed"]] = outcome
        self._made += 1
        spent = time.perf_counter() - self._began
        left = (self.n_runs - len(self.outcomes)) * spent / self._made
        more = f"; about {_duration(left)} left" if left else ""
        if outcome["status"] == DIVERGED:
            ended = f"diverged: {outcome['message']}"
        else:
            ended = f"loss {outcome['curve']['loss'][0]:.4f} → {outcome['curve']['loss'][-1]:.4f}"
        took = _duration(sum(outcome["seconds"][what] for what in ("training", "curriculum", "curve")))
        audit = outcome["audit"] or {"passed": 0, "checked": 0}
        self.say(
            f"run {len(self.outcomes)} of {self.n_runs}: {outcome['arm']}, seed {outcome['seed']}: {ended}, cost "
            f"{outcome['cost']['all']:.1%}, audit {audit['passed']} of {audit['checked']}, {took}{more}"
        )

    def _steps_of_plus(self, seed: int) -> int:
        """Steps that the recipe's whole bill would have paid for, with this seed."""
        recipe = next(arm for arm in self.plan.arms if arm.kind == "recipe")
        base, bill = self.outcomes[self.plan.baseline.name, seed], self.outcomes[recipe.name, seed]["cost"]["all"]
        return round(int(base["shared"]["steps"]) * (1 + float(bill)))

    def _about(self, test: HeldOut) -> Json:
        plan, settings = self.plan, self.plan.settings
        return {
            "format": FORMAT,
            "arms": {arm.name: {"kind": arm.kind, "campus": arm.campus} for arm in plan.arms},
            "seeds": list(settings.seeds),
            "effect": settings.effect,
            "speedup": settings.speedup,
            "test": {
                "path": list(settings.test),
                "digest": test.digest(),
                "items": len(test),
                "domains": dict(sorted(Counter(test.domains).items())),
            },
            "points": settings.points,
            "evaluate": settings.to_mapping()["evaluate"],
            "sharpness": settings.sharpness,
            "training": {k: v for k, v in plan.training.items() if k not in ("output_dir", "seed")},
            "flags": list(plan.flags),
            "command": self.command,
        }


EARLIER = "earlier"  # arms that the folder has runs of, and that are not asked for now
FIXED = ("test", "points", "evaluate", "sharpness", "training", "flags")


def _read(path: Path) -> Json:
    """What a folder was begun with.

    Raises:
        DataError: the file is damaged, or of another version.
    """
    try:
        there: Any = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"`{path}` must say what is compared, got {error}. Delete it: finished runs are kept."
        ) from error
    if not isinstance(there, dict) or there.get("format") != FORMAT:
        found = there.get("format") if isinstance(there, dict) else there
        raise DataError(
            f"`{path}` must be of format {FORMAT}, got {found!r}. Go on with the campus_tune that wrote it, or name "
            "another folder."
        )
    return there


def _joined(there: Json, asked: Json, path: Path) -> Json:
    """What a folder's file becomes when something is asked of it again: fewer or more arms and seeds.

    Raises:
        RecipeError: it was begun with other settings.
    """
    asked = json.loads(json.dumps(plain(asked)))
    known = {**there.get(EARLIER, {}), **there["arms"]}
    changed = {name: (there.get(name), asked[name]) for name in FIXED if there.get(name) != asked[name]}
    changed |= {
        f"arm {name}": (known[name]["campus"], arm["campus"])
        for name, arm in asked["arms"].items()
        if name in known and known[name] != arm
    }
    if changed:
        listed = "; ".join(f"{name} {_differing(*values)}" for name, values in changed.items())
        raise RecipeError(
            f"`--out` must be a new folder or that of the same comparison, got {str(path.parent)!r}, which was begun "
            f"with other settings: {listed}. Name another folder, or delete this one."
        )
    return {**asked, EARLIER: {name: arm for name, arm in known.items() if name not in asked["arms"]}}


def _differing(there: Any, now: Any) -> str:
    """Two settings in words; of mappings, the keys that differ."""
    if isinstance(there, dict) and isinstance(now, dict):
        keys = [key for key in {**there, **now} if there.get(key) != now.get(key)]
        return ", ".join(f"{key}: {_cut(there.get(key))} there and {_cut(now.get(key))} now" for key in keys)
    return f"{_cut(there)} there and {_cut(now)} now"


def _cut(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


@contextmanager
def _named(task: Task, out: Path) -> Iterator[None]:
    """An error inside says which run it was, and where its log is, traceback included."""
    try:
        yield
    except Exception as error:
        log = run_folder(out, task.arm, task.seed) / LOG
        why = str(error) or type(error).__name__
        raise CampusError(f"`{task.arm}`, seed {task.seed}, cannot be trained: {why}\nIts log: {log}") from error


# -- in a process of their own --------------------------------------------------------------------------------------

_benches: list[Bench] = []


def _start(plan: Plan) -> None:
    """A process begins: its device and its threads, before torch is imported."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    if plan.device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = plan.device
    if plan.threads is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(plan.threads))
    tqdm.set_lock(RLock())  # its own is shared by processes, and left behind by one that is ended
    import_module("campus_tune.integrations.recorder")  # log handlers keep the stderr of now, not a run's log file
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _benches.append(Bench(plan))


def name_of_device(device: int) -> str:
    """What CUDA calls the n-th of the devices that this process may use.

    Raises:
        RecipeError: it may use fewer.
    """
    allowed = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if allowed and device >= len(allowed):
        raise RecipeError(
            f"`compare: devices` must be below {len(allowed)}, those that CUDA_VISIBLE_DEVICES allows, got {device}. "
            "Count from 0, or change that variable."
        )
    return allowed[device] if allowed else str(device)


def _end_with_parent() -> None:
    """A run that nobody waits for any more must not go on: the next command would make it a second time."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(task: Task) -> Json:
    return _benches[0].run(task.arm, task.seed, max_steps=task.max_steps)
