"""One function over many texts: the same result from any number of processes, and none of them left behind."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import datasets
import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.metrics import parallel
from campus_tune.metrics.parallel import map_batches, map_texts
from campus_tune.words.errors import MetricError, RecipeError
from tests.strategies import examples

# from Python 3.12 on, forking a process in which other libraries run threads warns
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

TEXTS = [f"text {i} ä{'x' * (i % 13)}" for i in range(500)]
TEXTS[7], TEXTS[8], TEXTS[400] = "\ud800 half a pair", "", "\udc00"

THEIRS: set[object] = set()  # processes that other tests left, such as data loaders' workers


@pytest.fixture(autouse=True)
def _count_what_is_there() -> None:
    THEIRS.clear()
    THEIRS.update(multiprocessing.active_children())


def spelled(text: str) -> float:
    """A score that shows every character of its text, unpaired surrogates included."""
    return float(sum(i * ord(c) for i, c in enumerate(text, 1)))


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first batch, every job counts as one for helpers and for a bar."""
    monkeypatch.setattr(parallel, "BEGIN_S", 0.0)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("num_proc", [1, 2, 3, 100])
def test_the_map_gives_the_same_for_any_number_of_processes(num_proc: int) -> None:
    scores = map_texts(spelled, TEXTS, num_proc=num_proc, progress=False, what="t")
    assert scores.tolist() == [spelled(text) for text in TEXTS]
    assert scores.dtype == np.float64


@examples(10)
@given(n=st.integers(0, 70), num_proc=st.integers(1, 3))
def test_jobs_of_any_size_are_scored_in_order(n: int, num_proc: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "BEGIN_S", 0.0)
        scores = map_texts(spelled, TEXTS[:n], num_proc=num_proc, progress=False, what="t")
    assert scores.tolist() == [spelled(text) for text in TEXTS[:n]]


def lengths_of_batches(batch: Sequence[str]) -> list[float]:
    return [float(len(batch))] * len(batch)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("num_proc", [1, 2])
def test_the_batches_are_the_same_ones_for_any_number_of_processes(num_proc: int) -> None:
    scores = map_batches(lengths_of_batches, TEXTS[:100], size=16, num_proc=num_proc, progress=False, what="t")
    assert scores.tolist() == [16.0] * 96 + [4.0] * 4


def whoami(text: str) -> float:
    del text
    time.sleep(0.001)
    return float(os.getpid())


def test_a_small_job_stays_in_this_process() -> None:
    assert set(map_texts(whoami, TEXTS[:50], num_proc=2, what="t")) == {os.getpid()}


@pytest.mark.usefixtures("large")
def test_a_large_job_is_shared_after_its_first_batch(tmp_path: Path) -> None:
    here = os.getpid()

    def once_both_are_there(text: str) -> float:
        """A busy machine may start the second process when the first could have done it all."""
        if os.getpid() != here:
            (tmp_path / str(os.getpid())).touch()
            while len(list(tmp_path.iterdir())) < 2:
                time.sleep(0.01)
        return whoami(text)

    pids = map_texts(once_both_are_there, TEXTS, num_proc=2, progress=False, what="t")
    assert set(pids[:16]) == {os.getpid()}
    assert len(set(pids[16:])) == 2
    assert os.getpid() not in set(pids[16:])


@pytest.mark.parametrize("num_proc", [0, -1])
def test_fewer_than_one_process_is_refused(num_proc: int) -> None:
    with pytest.raises(RecipeError, match=f"`num_proc` must be at least 1, got {num_proc}"):
        map_texts(spelled, ["a"], num_proc=num_proc, what="t")


# -- what goes wrong in another process ----------------------------------------------------------------------------


def stumbles(text: str) -> float:
    return float(text) if text.startswith("text 400") else 0.0


class StubbornError(Exception):
    """Cannot be made again from its `args`, so it does not survive pickling."""

    def __init__(self, what: str, where: int) -> None:
        super().__init__(f"{what} at {where}")


def is_stubborn(text: str) -> float:
    if text.startswith("text 401"):
        raise StubbornError("stuck", 401)
    return 0.0


def dies(text: str) -> float:
    if text.startswith("text 402"):
        os.kill(os.getpid(), signal.SIGKILL)
    return 0.0


def leaves(text: str) -> float:
    if text.startswith("text 403"):
        os._exit(3)
    return 0.0


@pytest.mark.usefixtures("large")
def test_an_error_in_another_process_arrives_with_its_place() -> None:
    texts = [*TEXTS[:399], "text 400", *TEXTS]
    with pytest.raises(ValueError, match="could not convert string to float") as caught:
        map_texts(stumbles, texts, num_proc=2, progress=False, what="t")
    assert "raised in another process" in caught.value.__notes__[0]
    assert "in stumbles" in caught.value.__notes__[0]
    assert set(multiprocessing.active_children()) - THEIRS == set()


@pytest.mark.usefixtures("large")
def test_an_error_that_cannot_travel_arrives_in_words() -> None:
    with pytest.raises(RuntimeError, match="StubbornError: stuck at 401"):
        map_texts(is_stubborn, TEXTS, num_proc=2, progress=False, what="t")


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize(("function", "how"), [(dies, "was killed by SIGKILL"), (leaves, "ended with exit code 3")])
def test_a_process_that_dies_is_told_with_what_to_do(function: object, how: str) -> None:
    match = f"`parser` must be scored by processes that live, got one that {how}. .* use fewer processes"
    with pytest.raises(MetricError, match=match):
        map_texts(function, TEXTS, num_proc=2, progress=False, what="parser")  # type: ignore[arg-type]
    assert set(multiprocessing.active_children()) - THEIRS == set()


SLOW = """
import signal
import time
from campus_tune.metrics import parallel

parallel.BEGIN_S = 0.0
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs in its background without it


def slow(text):
    if text == "16":
        print("started", flush=True)
    time.sleep(0.05)
    return 0.0


parallel.map_texts(slow, [str(i) for i in range(10_000)], num_proc=2, progress=False, what="t")
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_an_interrupted_or_killed_parent(how: signal.Signals) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", SLOW], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        assert parent.stdout.readline() == "started\n"
        children: list[psutil.Process] = []
        until = time.monotonic() + 60
        while len(children) < 2 and time.monotonic() < until:  # the first may speak before the second is there
            children = psutil.Process(parent.pid).children()
        assert len(children) == 2
        parent.send_signal(how)
        parent.wait(timeout=60)
        _, alive = psutil.wait_procs(children, timeout=60)
        assert alive == []
        assert ("KeyboardInterrupt" in parent.stderr.read()) == (how == signal.SIGINT)


# -- what it leaves alone ------------------------------------------------------------------------------------------


@pytest.fixture
def progress_bars() -> Iterator[None]:
    before = datasets.are_progress_bars_disabled()
    yield
    (datasets.disable_progress_bars if before else datasets.enable_progress_bars)()


@pytest.mark.usefixtures("progress_bars", "large")
@pytest.mark.parametrize("disabled_by_user", [False, True])
@pytest.mark.parametrize("progress", [False, True])
@pytest.mark.parametrize("num_proc", [1, 2])
def test_a_bar_is_shown_if_wanted_by_both_and_the_users_setting_stays(
    disabled_by_user: bool,
    progress: bool,
    num_proc: int,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("campus_tune.words.progress.SELDOM", 0.0)  # else a file sees none of a bar this quick
    (datasets.disable_progress_bars if disabled_by_user else datasets.enable_progress_bars)()
    map_texts(spelled, TEXTS, progress=progress, num_proc=num_proc, what="reading")
    shown = capfd.readouterr().err
    assert ("reading: " in shown and "/500" in shown) == (progress and not disabled_by_user)
    assert datasets.are_progress_bars_disabled() == disabled_by_user


@pytest.mark.usefixtures("progress_bars")
def test_what_takes_no_time_shows_no_bar(capfd: pytest.CaptureFixture[str]) -> None:
    datasets.enable_progress_bars()
    map_texts(spelled, TEXTS, what="reading")
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("large")
def test_the_map_writes_no_files_and_draws_no_random_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 (the state that trainers use)
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    map_texts(spelled, TEXTS, num_proc=2, progress=False, what="t")
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def busy(text: str) -> float:
    return float(sum(i * i for i in range(12_000)) + len(text))


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_two_processes_cost_hardly_more_cpu_than_one() -> None:
    """The speed-up without its noise: the work is shared, and sharing it costs next to nothing.

    What else the machine does can only add to CPU seconds (two threads of one core, its caches): of a few turns the
    least of each counts.
    """
    texts = TEXTS * 6

    def cpu_seconds(num_proc: int) -> tuple[float, float]:
        before = os.times()
        map_texts(busy, texts, num_proc=num_proc, progress=False, what="t")
        after = os.times()
        return (
            after.user + after.system - before.user - before.system,
            after.children_user + after.children_system - before.children_user - before.children_system,
        )

    alone = parent = children = np.inf
    for _ in range(6):
        alone = min(alone, cpu_seconds(1)[0])
        parent, children = np.minimum((parent, children), cpu_seconds(2))
        if parent < 0.4 * alone and parent + children < 1.9 * alone:
            break
    assert parent < 0.4 * alone  # what it does before it calls for help, and handing out
    assert parent + children < 1.9 * alone  # generous: other processes share the cores' caches
