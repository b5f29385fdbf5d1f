"""Processes that make runs side by side, each with one at a time; none outlives the command that started it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from importlib import import_module
from multiprocessing import get_context, parent_process
from threading import RLock

from tqdm.auto import tqdm

from campus_tune.compare.plan import Plan
from campus_tune.compare.reward_training import make_bench
from campus_tune.compare.task import Task
from campus_tune.compare.training import Bench
from campus_tune.words.errors import RecipeError
from campus_tune.words.library_warnings import hush
from campus_tune.words.types import Json


class Processes:
    """As many processes as plans. They start with the first run and stay until they are closed.

    Args:
        plans: what each process gets: the same comparison, with its own device or share of the threads.
    """

    def __init__(self, plans: Sequence[Plan]) -> None:
        self.plans = plans
        self._pools: list[ProcessPoolExecutor] = []

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Future[Json]]]:
        """Each run with its finished future, in the sequence in which they end."""
        if not self._pools:
            spawn = get_context("spawn")
            self._pools = [ProcessPoolExecutor(1, spawn, begin, (plan,)) for plan in self.plans]
        waiting, idle = list(tasks), list(self._pools)
        running: dict[Future[Json], tuple[ProcessPoolExecutor, Task]] = {}
        while waiting or running:
            while waiting and idle:
                task, pool = waiting.pop(0), idle.pop()
                running[pool.submit(_work, task)] = pool, task
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                pool, task = running.pop(future)
                idle.append(pool)
                yield task, future

    def close(self) -> None:
        """End them, with the runs in them that nobody waits for any more."""
        for pool in self._pools:
            for process in list((getattr(pool, "_processes", None) or {}).values()):
                process.terminate()
            pool.shutdown(cancel_futures=True)
        self._pools = []


def plans_of_processes(plan: Plan) -> list[Plan]:
    """The plan as each process gets it; none where runs are made in this one.

    A single device has a process of its own too: this one may have passed it by already.

    Raises:
        RecipeError: a device that this process may not use.
    """
    settings = plan.settings
    if settings.devices:
        return [replace(plan, device=name_of_device(device)) for device in settings.devices]
    if settings.jobs == 1:
        return []
    threads = max(1, len(os.sched_getaffinity(0)) // settings.jobs)
    return [replace(plan, threads=threads)] * settings.jobs


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


# -- inside of a process ----------------------------------------------------------------------------------------------

_benches: list[Bench] = []


def begin(plan: Plan) -> None:
    """A process begins: its device and its threads, before torch is imported."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    if plan.device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = plan.device
    if plan.threads is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(plan.threads))
    hush()
    tqdm.set_lock(RLock())  # its own is shared by processes, and left behind by one that is ended
    import_module("campus_tune.compare.recorder")  # log handlers keep the stderr of now, not a run's log file
    threading.Thread(target=end_with_parent, daemon=True).start()
    _benches.append(make_bench(plan))


def end_with_parent() -> None:
    """A run that nobody waits for any more must not go on: the next command would make it a second time."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(task: Task) -> Json:
    return _benches[0].make(task)
