"""evaluate's metric "code_eval", as lm-eval's MBPP and HumanEval call it, with every program run in the sandbox.

The original forks the process that evaluates (its memory, its environment with the tokens in it, its network), runs
the program there, and says itself that it is no sandbox. It is also not on PyPI but fetched from the hub. Same
arguments, same numbers, same records here.

*Differs from the original*: time is computing time, not time on the clock, so that a busy machine fails nobody;
installed packages cannot be imported; a test runs in another process than its candidate, with Python's own builtins and
modules, and takes plain values for answers (`sandbox` says what that changes).

Reference: Chen et al. 2021, Evaluating Large Language Models Trained on Code, arXiv 2107.03374.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np

from campus_tune.evaluate.sandbox import Limits, run_many
from campus_tune.words.errors import DataError, RecipeError

NAME = "code_eval"
WALL_PER_CPU = 3.0  # a program may stand on the clock this many times as long as it may compute


def pass_at(k: int, n: int, c: int) -> float:
    """The chance that one of k programs passes, drawn from n of which c do: 1 − C(n−c, k) / C(n, k), unbiased.

    Args:
        k: how many are drawn, 1 to n.
        n: programs written.
        c: how many of them passed, 0 to n.

    >>> pass_at(1, n=4, c=1), pass_at(2, n=4, c=1)
    (0.25, 0.5)
    """
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def compute(
    references: Sequence[str],
    predictions: Sequence[Sequence[str]],
    k: Sequence[int] = (1, 10, 100),
    num_workers: int = 4,
    timeout: float = 3.0,
    *,
    allow_code_execution: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, float], dict[int, list[tuple[int, dict[str, Any]]]]]:
    """Run all candidates against their tests.

    Args:
        references: one test per problem.
        predictions: the candidates of each problem, any number.
        k: for which k to give pass@k; left out where a problem has fewer candidates.
        num_workers: programs at a time.
        timeout: computing time of one program, in seconds, rounded up; on the clock it may take three times as long.
        allow_code_execution: the user's word that model-written code may run here.
        progress: told (programs done, all programs) after each one.

    Returns:
        ({"pass@k": mean over the problems}, {problem: [(number of the candidate, what became of it), …]}).

    Raises:
        RecipeError: without permission, or a k below 1.
        DataError: not one reference per problem, no problem, or a problem without a test or candidates.
        SandboxError: this machine has no working sandbox.
    """
    if not allow_code_execution:
        raise RecipeError(
            "`allow_code_execution` must be true to run the code that a model writes (mbpp, humaneval), got false. "
            "Set it to true, and every program runs in a sandbox without a network; or leave these tasks out."
        )
    if any(size < 1 for size in k):
        raise RecipeError(f"`k` must be whole numbers from 1, got {list(k)}. Give [1] for pass@1.")
    if len(references) != len(predictions) or not predictions:
        raise DataError(
            f"`references` must be one test per problem, got {len(references)} for {len(predictions)} problems. "
            "Give both in the same sequence."
        )
    untested = [problem for problem, test in enumerate(references) if not test.strip()]
    if untested:
        raise DataError(
            f"`references` must be a test for each problem, got an empty one for number {untested[0]}. "
            "Without a test, that a program passed would be its own word."
        )
    empty = [problem for problem, tried in enumerate(predictions) if not tried or isinstance(tried, str)]
    if empty:
        raise DataError(
            f"`predictions` must be a list of programs for each problem, got none for number {empty[0]}. "
            "Give [program] for a single one."
        )
    limits = Limits(cpu_seconds=math.ceil(timeout), wall_seconds=WALL_PER_CPU * math.ceil(timeout))
    where = [(problem, number) for problem, tried in enumerate(predictions) for number in range(len(tried))]
    programs = [(predictions[problem][number], references[problem]) for problem, number in where]
    verdicts = run_many(programs, limits=limits, workers=num_workers, progress=progress)
    results: dict[int, list[tuple[int, dict[str, Any]]]] = {problem: [] for problem in range(len(predictions))}
    for (problem, number), verdict in zip(where, verdicts, strict=True):
        last = verdict.detail.rpartition("\n")[2]
        said = {"passed": "passed", "timeout": "timed out"}.get(verdict.outcome, f"failed: {last or verdict.outcome}")
        record = {"task_id": problem, "passed": verdict.passed, "result": said, "completion_id": number}
        results[problem].append((number, {**record, "sandbox": verdict.kind}))  # the last is ours
    counts = [(len(tried), sum(one["passed"] for _, one in tried)) for tried in results.values()]
    fewest = min(n for n, _ in counts)
    rates = {f"pass@{size}": float(np.mean([pass_at(size, n, c) for n, c in counts])) for size in k if size <= fewest}
    return rates, results


class SandboxedCodeEval:
    """What `evaluate.load("code_eval")` gives back while it is replaced.

    Args:
        allow: the user's word that model-written code may run here.
    """

    name = NAME

    def __init__(self, *, allow: bool) -> None:
        self.allow = allow

    def compute(self, **arguments: Any) -> tuple[dict[str, float], dict[int, list[tuple[int, dict[str, Any]]]]]:
        """`compute` of this module, with the permission given."""
        return compute(**arguments, allow_code_execution=self.allow)


@contextmanager
def replaced_code_eval(*, allow: bool) -> Iterator[SandboxedCodeEval]:
    """While it lasts, `evaluate.load("code_eval")` gives back the sandboxed metric; all other metrics are evaluate's.

    lm-eval's task modules load the metric when they are imported, and run a first program with it. They keep what they
    got: import them inside.

    Raises:
        RecipeError: evaluate, which comes with lm-eval, is not installed.
    """
    try:
        import evaluate  # type: ignore[import-untyped]  # ships no types
    except ImportError as error:
        raise RecipeError(
            "`evaluate` must be installed to run the code tasks, got none. "
            'Install it with `pip install "campus-tune[eval]"`.'
        ) from error
    metric, load = SandboxedCodeEval(allow=allow), evaluate.load

    def load_ours(path: str, *arguments: object, **options: object) -> Any:
        return metric if path == NAME else load(path, *arguments, **options)

    with mock.patch.object(evaluate, "load", load_ours):
        yield metric
