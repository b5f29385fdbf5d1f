"""Evaluating on two processes gives what one gives, and a model that is spread over them is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

if find_spec("lm_eval") is None:  # nothing here is run in this process, so it is not imported
    pytest.skip("needs lm-eval", allow_module_level=True)

from campus_tune.demo.tiny import write_tiny
from campus_tune.evaluate.results import read_result
from tests.distributed import ranks
from tests.evaluate import data, on_ranks
from tests.run.tiny_run import task_rows

pytestmark = pytest.mark.slow

HERE = "tests.evaluate.on_ranks"
ON_CPU = {"ACCELERATE_USE_CPU": "true"}
SUITE = """\
tasks:
  gsm8k: {metrics: ["exact_match,strict-match"], limit: 3, max_gen_toks: 8}
  arc_easy: {metrics: ["acc,none", "acc_norm,none"]}
"""


MIXED = """\
tasks:
  gsm8k: {metrics: ["exact_match,strict-match"], limit: 4, max_gen_toks: 8}
  mbpp: {metrics: ["pass_at_1,none"], limit: 3, max_gen_toks: 8, runs_code: true}
  mmlu_social_sciences: {metrics: ["acc,none"], limit: 1}  # one document a subject: fewer than processes
  arc_easy: {metrics: ["acc,none", "acc_norm,none"]}
"""


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ranks.Warm]:
    with mock.patch.object(ranks, "__file__", on_ranks.__file__):  # what is run as the warm process
        made = ranks.Warm(tmp_path_factory.mktemp("ranks"))
    with made:
        yield made


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder, a suite, a model and held-out rows."""
    folder = tmp_path_factory.mktemp("made")
    data.write(folder / "data")
    write_tiny(folder / "model")
    (folder / "quick.yaml").write_text(SUITE)
    (folder / "mixed.yaml").write_text(MIXED)
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in task_rows(25)))
    return folder


def on(warm: ranks.Warm, number: int, *words: object) -> ranks.Report:
    """The command `campus-tune eval` on so many processes."""
    report = warm.run(f"{HERE}:command", number, argv=list(map(str, words)), environment=ON_CPU).ok
    assert report.results == [0] * number
    return report


def plain(path: Path) -> Any:
    """All that a result file says of its tasks but the seconds."""
    return {name: replace(task, seconds=0.0) for name, task in read_result(path).tasks.items()}


def test_two_processes_give_what_one_gives(warm: ranks.Warm, place: Path) -> None:
    tasks = ["gsm8k", "mbpp", "mmlu_social_sciences", "arc_easy"]
    settings = {"data": str(place / "data"), "suite": str(place / "mixed.yaml")}
    (alone,) = warm.run(f"{HERE}:evaluate", 1, **settings).ok.results
    leader, follower = warm.run(f"{HERE}:evaluate", 2, **settings).ok.results
    assert leader["told"] == alone["told"] == tasks
    assert follower["told"] == []
    assert follower["results"] == leader["results"]
    for name in tasks:
        one, two = alone["results"][name], leader["results"][name]
        assert one["settings"] == two["settings"]
        assert one["documents"] == two["documents"]
        for metric, told in one["metrics"].items():
            assert two["metrics"][metric] == pytest.approx(told)


def test_two_processes_write_the_file_that_one_writes(warm: ranks.Warm, place: Path) -> None:
    words = ["--model", place / "model", "--suite", place / "quick.yaml", "--data", place / "data", "--out"]
    report = on(warm, 2, *words, place / "two")
    assert report.stdout[0].splitlines()[-2].split()[:2] == ["arc_easy", "acc_norm"]
    assert report.stdout[1] == ""
    assert "documents" not in report.stderr[1]
    on(warm, 1, *words, place / "one")
    one, two = plain(place / "one/model.json"), plain(place / "two/model.json")
    assert {name: task.documents for name, task in two.items()} == {name: task.documents for name, task in one.items()}
    assert {name: task.settings for name, task in two.items()} == {name: task.settings for name, task in one.items()}


def test_two_processes_measure_the_loss_that_one_measures_and_one_of_them_writes_it(
    warm: ranks.Warm, place: Path
) -> None:
    words = ["loss", "--model", place / "model", "--test", place / "test.jsonl", "--out"]
    report = on(warm, 2, *words, place / "losses of two")
    assert report.stdout[0].splitlines()[-1].split()[:2] == ["all", str(place / "model")]
    assert report.stdout[1] == ""
    on(warm, 1, *words, place / "losses of one")
    one, two = (plain(place / f"losses of {number}/model.json")["answer_loss"] for number in ("one", "two"))
    assert two.settings == one.settings
    assert two.metrics["answer_loss"] == pytest.approx(one.metrics["answer_loss"], rel=1e-5)
    for part, rows in one.documents.items():
        assert two.documents[part].keys() == rows.keys()
        for number, row in rows.items():
            assert two.documents[part][number] == pytest.approx(row, rel=1e-5)
    again = on(warm, 2, *words, place / "losses of two")  # both find it in the file
    assert again.stdout[0].splitlines()[-1] == report.stdout[0].splitlines()[-1]


def test_a_model_that_fsdp2_has_sharded_is_refused_on_every_process(warm: ranks.Warm, place: Path) -> None:
    for said in warm.run(f"{HERE}:refusal", 2, data=str(place / "data")).ok.results:
        assert "got a part of them (FSDP or tensor parallelism). Evaluate the saved checkpoints instead" in said
