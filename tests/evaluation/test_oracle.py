"""From the files to the score without weights: data, prompts, filters, sandbox and metrics in one go.

A model that knows the answers scores 1 on every task, one that does not scores 0, or chance where it chooses.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")
pytest.importorskip("math_verify")

import lm_eval

from campus_tune.evaluation.suites import Suite, load_suite
from campus_tune.evaluation.tasks import LoadedSuite, load_tasks
from tests.evaluation import data
from tests.evaluation.oracle import Oracle, Rubbish

WIDE = load_suite("campus_wide")
NAMES = [setting.task for setting in WIDE.tasks]
REAL = [name for name in NAMES if name != "minerva_math"]  # nobody hands MATH around
needs_real_data = pytest.mark.skipif(not data.SHARED.is_dir(), reason="the real sets are not here")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedSuite:
    return load_tasks(WIDE, data.write(tmp_path_factory.mktemp("data")), allow_code_execution=True)


def scores(loaded: LoadedSuite, name: str, model: Oracle, **options: Any) -> dict[str, float]:
    """The metrics that the suite reports, of a group where the task is one."""
    results = lm_eval.evaluate(model, **{**loaded.tasks[name].options(), "bootstrap_iters": 0, **options})
    return {metric: results["results"][name][metric] for metric in loaded.suite.task(name).metrics}


@pytest.mark.parametrize("name", NAMES)
def test_gold_answers_score_one(loaded: LoadedSuite, name: str) -> None:
    assert scores(loaded, name, Oracle()) == dict.fromkeys(WIDE.task(name).metrics, 1.0)


@pytest.mark.parametrize("name", ["minerva_math", "gsm8k", "mbpp", "humaneval"])
def test_rubbish_scores_zero(loaded: LoadedSuite, name: str) -> None:
    assert scores(loaded, name, Rubbish()) == dict.fromkeys(WIDE.task(name).metrics, 0.0)


def test_always_the_first_choice_scores_how_often_it_is_right(loaded: LoadedSuite) -> None:
    right = [row["answer"] == 0 for row in data.FILES["mmlu/test"]]
    assert scores(loaded, "mmlu", Rubbish())["acc,none"] == pytest.approx(sum(right) / len(right))
    # answers of the four questions: 0, 1, 2, 0
    assert scores(loaded, "arc_easy", Rubbish())["acc,none"] == 0.5


def test_a_gold_solution_fails_the_other_metric_of_math(loaded: LoadedSuite) -> None:
    """Why suites report math_verify: exact_match asks for the words in which the four shots end."""
    results = lm_eval.evaluate(Oracle(), **loaded.tasks["minerva_math"].options(), bootstrap_iters=0)
    assert results["results"]["minerva_math"]["exact_match,none"] == 0.0


def test_one_wrong_program_is_one_point_less(loaded: LoadedSuite) -> None:
    class OneWrong(Oracle):
        def answer(self, request: Any) -> str:
            return super().answer(request).replace("max(a, b)", "min(a, b)")

    assert scores(loaded, "mbpp", OneWrong()) == {"pass_at_1,none": pytest.approx(2 / 3)}
    assert scores(loaded, "humaneval", OneWrong()) == {"pass@1,create_test": pytest.approx(2 / 3)}


def test_smoke_goes_through_and_reports_its_metrics(tmp_path: Path) -> None:
    smoke = load_tasks(load_suite("smoke"), data.write(tmp_path), allow_code_execution=True)
    for name in smoke.tasks:
        assert set(scores(smoke, name, Oracle()).values()) == {1.0}


# -- the real sets, where they are -------------------------------------------------------------------------------


def real(*names: str) -> LoadedSuite:
    suite: Suite = replace(WIDE, tasks=tuple(WIDE.task(name) for name in names))
    return load_tasks(suite, data.SHARED, allow_code_execution=True)


@needs_real_data
@pytest.mark.parametrize(
    ("name", "limit"), [("gsm8k", 40), ("mbpp", 20), ("humaneval", 20), ("mmlu", 1), ("arc_easy", 40)]
)
def test_gold_answers_score_one_on_real_documents(name: str, limit: int) -> None:
    assert set(scores(real(name), name, Oracle(), limit=limit).values()) == {1.0}


@needs_real_data
def test_a_gold_program_that_needs_set_up_code_fails_and_no_other() -> None:
    """MBPP ends at 0.998 for everybody: the official task leaves `test_setup_code` out."""
    loaded = real("mbpp")
    chosen = {"limit": None, "samples": {"mbpp": [*range(350, 362)]}}
    results = lm_eval.evaluate(Oracle(), **{**loaded.tasks["mbpp"].options(), **chosen, "bootstrap_iters": 0})
    failed = [sample["doc"]["task_id"] for sample in results["samples"]["mbpp"] if not sample["pass_at_1"]]
    assert failed == [367]


@pytest.mark.slow
@needs_real_data
def test_gold_answers_score_one_on_many_real_documents() -> None:
    loaded = real("gsm8k", "arc_easy", "arc_challenge", "mmlu")
    for name in loaded.tasks:
        limit = 5 if name == "mmlu" else 300  # of each subject; of each set
        assert set(scores(loaded, name, Oracle(), limit=limit, log_samples=False).values()) == {1.0}
