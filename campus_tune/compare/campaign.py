"""All runs of a comparison: which are there, which are to be made, on how many processes; then the verdict.

The baseline comes first, with all its seeds: they are the pilot that says, before anything else is trained, which
effect the comparison could find. Finished runs are kept whatever happens; the same command goes on.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campus_tune.compare.bench import LOG, Bench
from campus_tune.compare.inputs import arm_of
from campus_tune.compare.outcome import DIVERGED, read_outcome, run_folder
from campus_tune.compare.plan import Plan
from campus_tune.errors import CampusError, RecipeError
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
    """

    def __init__(self, plan: Plan, command: str, say: Callable[[str], object] = print) -> None:
        self.plan, self.command, self.say = plan, command, say
        self.outcomes: dict[tuple[str, int], Json] = {}
        self._made = 0
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
            about = _joined(json.loads(path.read_text("utf-8")), about, path)
        atomic_write(path, json.dumps(plain(about), indent=1) + "\n")
        for arm in self.plan.arms:
            for seed in self.plan.settings.seeds:
                outcome = read_outcome(self.plan.out, arm.name, seed)
                if outcome is not None:
                    self.outcomes[arm.name, seed] = outcome
        if self.outcomes:
            self.say(f"{len(self.outcomes)} of {self.n_runs} runs are there already and are kept")

    @property
    def n_runs(self) -> int:
        """Runs of the whole comparison."""
        return len(self.plan.arms) * len(self.plan.settings.seeds)

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
        runner = self._in_this_process(tasks, bench) if self._workers() == 1 else self._in_processes(tasks)
        for outcome in runner:
            self._keep(outcome)

    def results(self, name: str) -> list[Json]:
        """The results of one arm, one per seed."""
        return [self.outcomes[name, seed] for seed in self.plan.settings.seeds if (name, seed) in self.outcomes]

    def arms(self) -> list[Any]:
        """All arms that have results, as the statistics take them."""
        return [arm_of(found) for arm in self.plan.arms if (found := self.results(arm.name))]

    # -- where runs are made --------------------------------------------------------------------------------------

    def _workers(self) -> int:
        settings = self.plan.settings
        return len(settings.devices) if settings.devices else settings.jobs

    def _in_this_process(self, tasks: Sequence[Task], bench: Bench) -> Iterator[Json]:
        for task in tasks:
            with _named(task, self.plan.out):
                yield bench.run(task.arm, task.seed, max_steps=task.max_steps)

    def _in_processes(self, tasks: Sequence[Task]) -> Iterator[Json]:
        """As many processes as devices or jobs, each with one run at a time."""
        waiting = list(tasks)
        with ExitStack() as stack:
            pools = [
                stack.enter_context(ProcessPoolExecutor(1, get_context("spawn"), _start, (plan,)))
                for plan in self._plans()[: len(tasks)]
            ]
            running: dict[Future[Json], tuple[ProcessPoolExecutor, Task]] = {}
            idle = list(pools)
            while waiting or running:
                while waiting and idle:
                    task, pool = waiting.pop(0), idle.pop()
                    running[pool.submit(_work, task)] = pool, task
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    pool, task = running.pop(future)
                    idle.append(pool)
                    try:
                        with _named(task, self.plan.out):
                            yield future.result()
                    except BaseException:
                        _stop(pools)
                        raise

    def _plans(self) -> list[Plan]:
        """The plan as each process gets it."""
        settings = self.plan.settings
        if settings.devices:
            return [replace(self.plan, device=device) for device in settings.devices]
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


FIXED = ("test", "points", "evaluate", "sharpness", "training", "flags")


def _joined(there: Json, asked: Json, path: Path) -> Json:
    """What a folder's file becomes when more arms or seeds are asked for.

    Raises:
        RecipeError: it was begun with other settings.
    """
    asked = json.loads(json.dumps(plain(asked)))
    changed = {name: (there.get(name), asked[name]) for name in FIXED if there.get(name) != asked[name]}
    for name, arm in asked["arms"].items():
        known = there.get("arms", {}).get(name, arm)
        if known != arm:
            changed[f"arm {name}"] = known["campus"], arm["campus"]
    if changed:
        listed = "; ".join(f"{name} {_differing(*values)}" for name, values in changed.items())
        raise RecipeError(
            f"`--out` must be a new folder or that of the same comparison, got {str(path.parent)!r}, which was begun "
            f"with other settings: {listed}. Name another folder, or delete this one."
        )
    arms = {**there["arms"], **asked["arms"]}
    return {**there, **asked, "arms": arms, "seeds": sorted({*there["seeds"], *asked["seeds"]})}


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


class _named:  # noqa: N801  # reads as a word: with _named(task)
    """An error inside says which run it was, and where its log is."""

    def __init__(self, task: Task, out: Path) -> None:
        self.task, self.out = task, out

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, CampusError):
            folder = run_folder(self.out, self.task.arm, self.task.seed)
            error.add_note(f"in {self.task.arm}, seed {self.task.seed}; its log is {folder / LOG}")


# -- in a process of their own --------------------------------------------------------------------------------------

_benches: list[Bench] = []


def _start(plan: Plan) -> None:
    """A process begins: its device and its threads, before torch is imported."""
    if plan.device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(plan.device)
    if plan.threads is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(plan.threads))
    _benches.append(Bench(plan))


def _work(task: Task) -> Json:
    return _benches[0].run(task.arm, task.seed, max_steps=task.max_steps)


def _stop(pools: Sequence[ProcessPoolExecutor]) -> None:
    """End runs that nobody waits for any more."""
    for pool in pools:
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.terminate()
