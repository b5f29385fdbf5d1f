"""One function, many texts, a few processes: what CPU metrics share.

A pool of forked processes: a child finds function and texts in the memory that it inherits, is told `(start, stop)`,
and answers with floats. Two processes against one, on a machine with two cores that were not ours alone, medians of
eleven pairs: 300 000 answers of 180 bytes compressed 1.8 times as fast, MTLD of 100 000 1.8 times. `datasets.map` was
*slower* with two than with one (41 000 texts compressed: 1.53 s against 0.86 s): each text went through Arrow. What
`concurrent.futures` leaves open is closed here: children that stay when their parent is killed, or finish what they
have begun after Ctrl-C, and errors that cannot be pickled.

Why fork, when other threads are about: a child started afresh would import the user's own script, which trains at its
top level, and would load a spaCy pipeline of its own. It is what torch's DataLoader does with its workers, and under
the same condition: a child calls `function` and touches neither CUDA nor a thread pool.

Whether a job is small is a matter of seconds, not of texts (a parser reads 200 a second, zlib 50 000). So the work is
begun here, and helpers are called when more than `HELP_S` of it is left.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from typing import TypeAlias

import numpy as np

from campus_tune.words.errors import MetricError, RecipeError
from campus_tune.words.progress import bar
from campus_tune.words.types import FloatArray

BEGIN_S = 0.1  # seconds of work done here first, to see how fast it goes
HELP_S = 0.2  # seconds of work left from which helpers are called: two forks of a process of 2 GB take 70 ms
BAR_S = 2.0  # seconds of work from which a bar is worth a line
CHUNK_S = 0.05  # seconds; what a process does between two answers, and at most waits for the others at the end

Score: TypeAlias = Callable[[int, int], FloatArray]  # of the texts from start to stop
_score: Score  # what a child does


def map_texts(
    function: Callable[[str], float], texts: Sequence[str], *, num_proc: int = 1, progress: bool = True, what: str
) -> FloatArray:
    """`function` of every text, in order, shape (N,): in this process for small jobs, else in several.

    Nothing is written to disk, no random number is drawn, and the result is the same for any `num_proc`. When it is
    interrupted, or one process fails, the others are stopped at once.

    Args:
        function: a pure function of one text; it need not be picklable.
        texts: N texts; unpaired surrogates, as broken JSON escapes leave them, are allowed.
        num_proc: processes, ≥ 1.
        progress: show a bar for what takes seconds, unless the user turned the bars of `datasets` off.
        what: the metric, for the bar and in errors.

    Raises:
        RecipeError: `num_proc` is below 1.
        MetricError: a process died, as one that runs out of memory does.

    >>> map_texts(len, ["one", "three", ""], what="length")
    array([3., 5., 0.])
    """

    def each(batch: Sequence[str]) -> list[float]:
        return [function(text) for text in batch]

    return map_batches(each, texts, size=16, num_proc=num_proc, progress=progress, what=what)


def map_batches(
    function: Callable[[Sequence[str]], Sequence[float]],
    texts: Sequence[str],
    *,
    size: int,
    num_proc: int = 1,
    progress: bool = True,
    what: str,
) -> FloatArray:
    """As `map_texts`, for a function that is faster over several texts at a time, as a neural parser is.

    Args:
        function: a pure function of some texts, one float for each.
        texts: N texts.
        size: texts in a batch, ≥ 1; the batches are the same ones for any `num_proc`.
        num_proc: processes, ≥ 1.
        progress: show a bar for what takes seconds, unless the user turned the bars of `datasets` off.
        what: the metric, for the bar and in errors.

    Raises:
        RecipeError: `num_proc` is below 1.
        MetricError: a process died, as one that runs out of memory does.
    """
    if num_proc < 1:
        raise RecipeError(f"`num_proc` must be at least 1, got {num_proc}. Use 1 for no further processes.")
    scores = np.empty(len(texts))

    def score(start: int, stop: int) -> FloatArray:
        batches = (texts[i : min(i + size, stop)] for i in range(start, stop, size))
        return np.array([value for batch in batches for value in function(batch)], dtype=np.float64)

    begun = min(size, len(texts))
    scores[:begun] = score(0, begun)  # not timed: it may import a library and load a model
    clock, done = time.perf_counter(), begun
    while done < len(texts) and time.perf_counter() - clock < BEGIN_S:
        scores[done : done + size] = score(done, min(done + size, len(texts)))
        done = min(done + size, len(texts))
    left, rate = len(texts) - done, (done - begun) / max(time.perf_counter() - clock, 1e-9)
    step = max(1, int(rate * CHUNK_S / size)) * size
    chunks = ((start, min(start + step, len(texts))) for start in range(done, len(texts), step))
    if num_proc > 1 and left > rate * HELP_S:
        answers = _together(score, chunks, min(num_proc, math.ceil(left / step)), what)
    else:
        answers = ((start, stop, score(start, stop)) for start, stop in chunks)
    with _progress_bar(progress and left > rate * BAR_S, what, len(texts), done) as moved, closing(answers):
        for start, stop, values in answers:
            scores[start:stop] = values
            moved(stop - start)
    return scores


def _together(
    score: Score, chunks: Iterable[tuple[int, int]], n_processes: int, what: str
) -> Generator[tuple[int, int, FloatArray]]:
    """Let processes score `chunks`, each the next one as soon as it has none; in the sequence of their answers."""
    others, children = multiprocessing.active_children(), []
    pool = ProcessPoolExecutor(n_processes, multiprocessing.get_context("fork"), _begin, (score,))
    try:
        asked = {pool.submit(_answer, *chunk): chunk for chunk in chunks}
        children = [child for child in multiprocessing.active_children() if child not in others]
        for answered in as_completed(asked):
            answer = answered.result()
            if isinstance(answer, BaseException):
                raise answer
            yield *asked[answered], answer
    except BrokenProcessPool as error:
        pool.shutdown()  # which has ended the others by SIGTERM
        codes = [child.exitcode or 0 for child in children]
        code = next((code for code in codes if code not in (0, -signal.SIGTERM)), -signal.SIGTERM)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        raise MetricError(
            f"`{what}` must be scored by processes that live, got one that {how}. If the machine ran out of memory, "
            "use fewer processes (num_proc) or shorter texts."
        ) from error
    finally:
        for child in children:
            child.kill()  # nothing to lose, and Ctrl-C should not have to wait
        pool.shutdown(cancel_futures=True)


def _begin(score: Score) -> None:
    """In a child, once: keep what it is to do, and leave to the parent when it ends."""
    global _score  # a pool hands its children nothing but what can be pickled, this aside
    _score = score
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent answers it for all
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which a pool ends its children: no handler of the user's own
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "a child has a parent"
    parent.join()  # a pool whose parent is killed would wait for work for ever
    os._exit(1)


def _answer(start: int, stop: int) -> FloatArray | Exception:
    """In a child: scores of a chunk, or the error that they met."""
    try:
        return _score(start, stop)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
            portable: Exception = error
        except Exception:
            portable = RuntimeError(f"{type(error).__name__}: {error}")
        portable.add_note(f"raised in another process:\n{traceback.format_exc()}")
        return portable


@contextmanager
def _progress_bar(wanted: bool, what: str, total: int, done: int) -> Iterator[Callable[[int], object]]:
    """What to call with the number of texts just scored: it moves a bar, if one is wanted by us and by the user."""
    if not wanted:
        yield int
        return
    from datasets.utils import are_progress_bars_disabled

    with bar(desc=what, total=total, unit=" texts", disable=are_progress_bars_disabled()) as progress:
        progress.update(done)
        yield progress.update
