"""evaluate's code_eval, without evaluate's code: the same numbers and records, with permission only."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.evaluate import code_metric
from campus_tune.evaluate.code_metric import SandboxedCodeEval, compute, pass_at, replaced_code_eval
from campus_tune.evaluate.sandbox import sandbox
from campus_tune.words.errors import DataError, RecipeError

sandboxed = pytest.mark.skipif(
    all(sandbox._problem_of(kind) for kind in sandbox.KINDS), reason="no sandbox works on this machine"
)

GOOD, BAD = "def add(a, b):\n    return a + b", "def add(a, b):\n    return a * b"
TEST = "assert add(2, 3) == 5"


@given(st.integers(1, 8), st.data())
def test_pass_at_k_is_the_share_of_draws_with_a_program_that_passes(n: int, data: st.DataObject) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    draws = list(itertools.combinations([True] * c + [False] * (n - c), k))
    assert pass_at(k, n, c) == pytest.approx(sum(map(any, draws)) / len(draws))


@sandboxed
def test_the_example_in_evaluates_own_documentation_comes_out_the_same() -> None:
    rates, results = compute([TEST], [[BAD, GOOD]], [1, 2], allow_code_execution=True)
    assert rates == {"pass@1": 0.5, "pass@2": 1.0}
    kind = sandbox.sandbox_kind()
    wrong, right = results[0]
    assert wrong[0] == 0
    assert wrong[1] | {"result": ""} == {
        "task_id": 0, "passed": False, "result": "", "completion_id": 0, "sandbox": kind,
    }  # fmt: skip
    assert wrong[1]["result"].startswith("failed: AssertionError")
    assert right == (1, {"task_id": 0, "passed": True, "result": "passed", "completion_id": 1, "sandbox": kind})


@sandboxed
def test_a_k_larger_than_the_fewest_candidates_is_left_out() -> None:
    rates, results = compute([TEST, TEST], [[GOOD], [BAD, GOOD, GOOD]], allow_code_execution=True)
    assert rates == {"pass@1": pytest.approx((1 + 2 / 3) / 2)}
    assert [[number for number, _ in tried] for tried in results.values()] == [[0], [0, 1, 2]]


@sandboxed
def test_a_program_out_of_time_is_said_to_be() -> None:
    told: list[tuple[int, int]] = []
    _, results = compute(
        ["assert True"], [["while True: pass"]], [1], timeout=0.5, allow_code_execution=True,
        progress=lambda done, of: told.append((done, of)),
    )  # fmt: skip
    assert results[0][0][1]["result"] == "timed out"
    assert told == [(1, 1)]


@pytest.mark.parametrize("forbidden", [{}, {"allow_code_execution": False}])
def test_nothing_runs_without_permission_and_the_setting_is_named(forbidden: dict[str, bool]) -> None:
    with pytest.raises(RecipeError, match=r"`allow_code_execution` must be true .*got false\. Set it to true"):
        compute([TEST], [[GOOD]], [1], **forbidden)


@pytest.mark.parametrize(
    ("references", "predictions", "k", "says"),
    [
        ([TEST], [[GOOD], [GOOD]], [1], "`references` must be one test per problem, got 1 for 2 problems"),
        ([], [], [1], "`references` must be one test per problem, got 0 for 0"),
        ([TEST, " "], [[GOOD]] * 2, [1], "`references` must be a test for each problem, got an empty one for number 1"),
        ([TEST], [[]], [1], "`predictions` must be a list of programs for each problem, got none for number 0"),
        ([TEST], [GOOD], [1], r"`predictions` must be a list of programs.*Give \[program\]"),
    ],
)
def test_what_cannot_be_counted_is_refused(references: Any, predictions: Any, k: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        compute(references, predictions, k, allow_code_execution=True)


def test_k_starts_at_one() -> None:
    with pytest.raises(RecipeError, match=r"`k` must be whole numbers from 1, got \[0\]"):
        compute([TEST], [[GOOD]], [0], allow_code_execution=True)


def test_without_evaluate_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "evaluate", None)
    with pytest.raises(RecipeError, match=r'pip install "campus-tune\[eval\]"'), replaced_code_eval(allow=True):
        pass


class TestUnderLmEval:
    @pytest.fixture(autouse=True)
    def _fresh_modules(self) -> Iterator[None]:
        pytest.importorskip("evaluate")
        pytest.importorskip("lm_eval")
        names = [f"lm_eval.tasks.{task}.utils" for task in ("mbpp", "humaneval")]
        before = {name: sys.modules.pop(name, None) for name in names}
        yield
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module

    def test_evaluate_gives_ours_while_it_lasts_and_its_own_afterwards(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import evaluate

        def own(path: str, *arguments: Any, **options: Any) -> tuple[Any, ...]:
            return (path, arguments, options)

        monkeypatch.setattr(evaluate, "load", own)
        with replaced_code_eval(allow=True) as metric:
            assert isinstance(metric, SandboxedCodeEval)
            assert evaluate.load("code_eval") is metric
            assert evaluate.load("accuracy", "x", y=1) == ("accuracy", ("x",), {"y": 1})
        assert evaluate.load is own

    @sandboxed
    def test_the_official_tasks_get_their_metric_from_here(self) -> None:
        import importlib

        with replaced_code_eval(allow=True):
            mbpp = importlib.import_module("lm_eval.tasks.mbpp.utils")
            humaneval = importlib.import_module("lm_eval.tasks.humaneval.utils")
        assert isinstance(mbpp.pass_at_k, SandboxedCodeEval)
        assert mbpp.pass_at_1(TEST, [GOOD]) == 1.0
        assert mbpp.pass_at_1([TEST], [[BAD]]) == 0.0
        assert humaneval.pass_at_k([TEST], [[BAD, GOOD]], k=[1, 2]) == {"pass@1": 0.5, "pass@2": 1.0}
        assert humaneval.pass_at_k([TEST], [[GOOD]], k=1) == {"pass@1": 1.0}

    @pytest.mark.parametrize("task", ["mbpp", "humaneval"])
    def test_without_permission_the_tasks_do_not_even_load(self, task: str) -> None:
        import importlib

        with replaced_code_eval(allow=False), pytest.raises(RecipeError, match="`allow_code_execution` must be true"):
            importlib.import_module(f"lm_eval.tasks.{task}.utils")


def test_the_limits_of_the_clock_follow_from_those_of_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def run_many(programs: Any, **options: Any) -> list[sandbox.ProgramResult]:
        seen.update(options)
        return [sandbox.ProgramResult(True, "passed", "", 0.1, "namespaces") for _ in programs]

    monkeypatch.setattr(code_metric, "run_many", run_many)
    compute([TEST], [[GOOD]], [1], num_workers=3, timeout=2.5, allow_code_execution=True)
    assert (seen["workers"], seen["limits"].cpu_seconds, seen["limits"].wall_seconds) == (3, 3, 9.0)
