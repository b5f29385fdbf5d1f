"""Parts of an array, worked through side by side: each once, in sequence, on no more cores than there are for it."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.words import cores
from campus_tune.words.cores import parts_of, side_by_side


@given(st.integers(0, 100), st.integers(1, 40))
def test_parts_hold_each_entry_once(n: int, size: int) -> None:
    entries = list(range(n))
    parts = [entries[part] for part in parts_of(n, size)]
    assert [entry for part in parts for entry in part] == entries
    assert all(len(part) == size for part in parts[:-1])


@pytest.mark.parametrize(
    ("machine", "beside", "threads"),
    [(1, None, 1), (2, None, 2), (64, None, 8), (64, "8", 8), (8, "4", 2), (2, "8", 1), (4, "many", 4), (4, "0", 4)],
)
def test_threads_are_the_cores_that_are_there_for_this_process(
    machine: int, beside: str | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(machine)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if beside is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", beside)
    together = threading.Barrier(threads)  # breaks after a second where fewer threads came than are waited for
    assert side_by_side(lambda part: together.wait(5) >= 0 and part, list(range(1, threads + 1))) == list(
        range(1, threads + 1)
    )


def test_a_machine_that_tells_no_affinity_has_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert side_by_side(lambda part: part > 0 and threading.current_thread() is threading.main_thread(), [1, 2]) == [
        True,
        True,
    ]


def test_what_goes_wrong_in_a_part_goes_wrong() -> None:
    def work(part: int) -> int:
        return 1 // part

    with pytest.raises(ZeroDivisionError):
        side_by_side(work, [1, 0, 2])


def _machine_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)


@pytest.mark.parametrize("n_parts", [3, 127, 128, 129, 5000])
def test_many_parts_are_handed_over_some_at_a_time(n_parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _machine_of_two(monkeypatch)
    handed: list[Any] = []

    class Pool(ThreadPoolExecutor):
        def submit(self, *args: Any, **named: Any) -> Any:
            handed.append(args)
            return super().submit(*args, **named)

    monkeypatch.setattr(cores, "ThreadPoolExecutor", Pool)
    assert side_by_side(lambda part: 2 * part, range(n_parts)) == [2 * part for part in range(n_parts)]
    assert 2 <= len(handed) <= 2 * cores.TURNS


@pytest.mark.parametrize(("entries", "elsewhere"), [(cores.PART - 1, False), (cores.PART, True), (None, True)])
def test_parts_of_few_entries_are_not_worth_a_thread(
    entries: int | None, elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _machine_of_two(monkeypatch)
    away = side_by_side(lambda _: threading.current_thread() is not threading.main_thread(), range(9), entries)
    assert away == [elsewhere] * 9


def test_parts_are_of_the_usual_size_where_nothing_is_said() -> None:
    assert [part.stop for part in parts_of(cores.PART + 1)] == [cores.PART, cores.PART + 1]
