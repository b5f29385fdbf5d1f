from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.evaluate.results import FORMAT, Result, TaskResult, made_with, read_result, write_result
from campus_tune.words.errors import DataError, StorageError

TASK = TaskResult(
    {"few_shot": 0, "limit": None},
    {"acc,none": {"value": 0.5, "stderr": 0.5, "n": 2}, "acc_norm,none": {"value": 1.0, "stderr": None, "n": 1}},
    {"easy": {"0": {"acc,none": 1.0, "acc_norm,none": 1.0}}, "hard": {"7": {"acc,none": 0.0}}},
    1.5,
)
RESULT = Result({"name": "model", "adapter": None, "step": 5, "weights": "ab"}, made_with(), {"arc": TASK})
FILE = RESULT.as_json()


def test_a_result_comes_back_as_it_was(tmp_path: Path) -> None:
    write_result(tmp_path / "new" / "one.json", RESULT)
    assert read_result(tmp_path / "new" / "one.json") == RESULT


numbers = st.floats(allow_nan=False, allow_infinity=False)
names = st.text(min_size=1, max_size=8)


@given(
    st.dictionaries(names, st.dictionaries(names, st.dictionaries(names, numbers, max_size=3), max_size=3), max_size=3)
)
def test_every_score_comes_back_to_the_last_bit(documents: dict[str, dict[str, dict[str, float]]]) -> None:
    task = TaskResult({}, {}, documents, 0.0)
    result = Result(RESULT.model, {}, {"task": task})
    assert Result.from_json(json.loads(json.dumps(result.as_json()))) == result


def test_the_file_is_what_its_format_says() -> None:
    assert list(FILE) == ["format", "model", "made_with", "tasks"]
    assert list(FILE["tasks"]["arc"]) == ["settings", "metrics", "documents", "seconds", "finished"]
    assert FILE["tasks"]["arc"]["finished"] is True


def test_scores_are_keyed_by_task_and_document() -> None:
    assert TASK.scores("acc,none") == {("easy", "0"): 1.0, ("hard", "7"): 0.0}
    assert TASK.scores("acc_norm,none") == {("easy", "0"): 1.0}  # the other document has none


def test_an_unknown_metric_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        DataError, match=r"must be one of acc,none, acc_norm,none, got 'acc_norm'. Did you mean 'acc_norm,none'"
    ):
        TASK.scores("acc_norm")


def test_it_says_what_it_was_made_with() -> None:
    versions = made_with()
    assert list(versions) == ["campus_tune", "lm_eval", "transformers", "torch"]
    assert versions["campus_tune"].count(".") == 2
    assert versions["torch"]


def test_another_format_is_refused_with_the_version_that_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "new.json"
    path.write_text(json.dumps({**FILE, "format": FORMAT + 1, "made_with": {"campus_tune": "9.1.0"}}))
    with pytest.raises(
        DataError, match=r"new\.json` must be of format 1, got format 2, which campus_tune 9\.1\.0 wrote"
    ):
        read_result(path)


def test_a_misspelt_file_is_answered_with_the_nearest(tmp_path: Path) -> None:
    write_result(tmp_path / "checkpoint-5.json", RESULT)
    with pytest.raises(DataError, match=r"got No such file or directory\. Did you mean 'checkpoint-5.json'"):
        read_result(tmp_path / "checkpont-5.json")


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "half.json").write_text(json.dumps(FILE)[:200])
    with pytest.raises(DataError, match="got no JSON"):
        read_result(tmp_path / "half.json")


def changed(**task: Any) -> Any:
    return {**FILE, "tasks": {"arc": {**FILE["tasks"]["arc"], **task}}}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([], "must be a result of `campus-tune eval`, got \\[\\]"),
        ({"tasks": {}}, "must be a result of `campus-tune eval`"),
        ({**FILE, "more": 1}, "must have format, model, made_with and tasks"),
        ({**FILE, "model": {"name": "x"}}, "must have name, adapter, step, weights as model, got \\['name'\\]"),
        ({**FILE, "model": {**FILE["model"], "name": [1]}}, "eval`: `model: name` must be text, got \\[1\\]"),
        ({**FILE, "made_with": None}, "`made_with` must be a mapping, got None. It was changed or is another file"),
        ({**FILE, "made_with": {"lm_eval": [1]}}, "`made_with: lm_eval` must be text or null, got \\[1\\]"),
        ({**FILE, "tasks": []}, "must have a mapping as tasks"),
        (changed(more=1), "must have settings, metrics, documents, seconds, finished as tasks: arc"),
        (changed(finished=False), "must have tasks: arc finished, got False"),
        (changed(settings=[]), "must have a mapping as tasks: arc: settings"),
        (changed(metrics=[]), "must have a mapping as tasks: arc: metrics"),
        (changed(metrics={"acc": {"value": 1.0}}), "must have value, stderr, n as tasks: arc: metrics: acc"),
        (changed(metrics={"acc": {"value": True, "stderr": None, "n": 1}}), "must have numbers as tasks: arc: metrics"),
        (changed(seconds="1"), "must have a number as tasks: arc: seconds, got '1'"),
        (changed(documents={"easy": {"0": {"acc": "1"}}}), "must have the values of tasks: arc: documents as"),
        (changed(documents={"easy": {"0": 1.0}}), "must have the values of tasks: arc: documents as"),
    ],
)  # fmt: skip
def test_what_is_no_result_is_refused(tmp_path: Path, content: Any, says: str) -> None:
    (tmp_path / "file.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=says):
        read_result(tmp_path / "file.json")


def test_a_result_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match="must be writable"):
        write_result(tmp_path / "file" / "one.json", RESULT)
    assert (tmp_path / "file").read_text() == "not a folder"
