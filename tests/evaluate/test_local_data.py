from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from campus_tune.evaluate.data_sets import DATA_SETS, MMLU_SUBJECTS
from campus_tune.evaluate.local_data import LocalData, check_folder, describe_layout, set_of_hub, set_of_task
from campus_tune.evaluate.suites import Suite, TaskSetting, load_suite
from campus_tune.words.errors import DataError
from tests.evaluate import data

WIDE = load_suite("campus_wide")


def suite_of(*tasks: str) -> Suite:
    return Suite("mine", tuple(TaskSetting(task, ("any,none",)) for task in tasks))


def fatal(folder: Path, *tasks: str) -> list[str]:
    return [problem.text for problem in check_folder(folder, suite_of(*tasks)) if problem.fatal]


def only(folder: Path, *tasks: str) -> str:
    (text,) = fatal(folder, *tasks)
    return text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data.write(tmp_path_factory.mktemp("data"))


# -- a whole folder ----------------------------------------------------------------------------------------------


def test_a_whole_folder_has_no_problem_but_its_size(folder: Path) -> None:
    problems = check_folder(folder, WIDE)
    assert [problem for problem in problems if problem.fatal] == []
    assert len(problems) == len(data.FILES) - 1  # dev of mmlu has five made-up rows a subject, as many as the real one
    assert str(problems[0]).startswith("warning: ")
    assert "math/test.jsonl.gz` has 13 rows, the official test split of EleutherAI/hendrycks_math has 5000." in (
        problems[0].text
    )


def test_plain_files_do_as_well(tmp_path: Path) -> None:
    (tmp_path / "mbpp").mkdir()
    (tmp_path / "mbpp" / "test.jsonl").write_text("\n".join(map(json.dumps, data.mbpp())))
    assert fatal(tmp_path, "mbpp") == []


@pytest.mark.skipif(not data.SHARED.is_dir(), reason="the real sets are not here")
def test_the_real_sets_have_their_official_sizes() -> None:
    without_math = suite_of("gsm8k", "mbpp", "humaneval", "mmlu", "arc_easy")
    assert [problem.text for problem in check_folder(data.SHARED, without_math)] == []


@pytest.mark.parametrize("data_set", DATA_SETS, ids=lambda data_set: data_set.folder)
def test_every_set_reads_in_the_hubs_columns(folder: Path, data_set: data.Any) -> None:
    columns = {
        "math": ["problem", "level", "type", "solution"],
        "gsm8k": ["question", "answer"],
        "mbpp": ["task_id", "text", "code", "test_list", "test_setup_code", "challenge_test_list"],
        "humaneval": ["task_id", "prompt", "canonical_solution", "test", "entry_point"],
        "mmlu": ["question", "subject", "choices", "answer"],
        "arc": ["id", "question", "choices", "answerKey"],
    }
    local = LocalData(folder)
    for part in data_set.parts:
        splits = local.dataset(data_set.hub, part)
        assert set(splits) == set(data_set.splits)
        assert all(rows.column_names == columns[data_set.folder] and len(rows) for rows in splits.values())


@pytest.mark.parametrize("data_set", DATA_SETS, ids=lambda one: one.folder)
def test_going_through_all_rows_gives_what_asking_for_each_does(folder: Path, data_set: data.Any) -> None:
    for rows in LocalData(folder).dataset(data_set.hub, data_set.parts[0]).values():
        assert list(rows) == [rows[n] for n in range(len(rows))]
        backwards = list(range(len(rows)))[::-1]
        assert list(rows.select(backwards)) == list(rows)[::-1]
        assert next(iter(rows.with_format("arrow"))).to_pylist() == [rows[0]]  # a format that is asked for


def test_a_part_has_its_own_rows_in_the_files_sequence(folder: Path) -> None:
    anatomy = LocalData(folder).dataset("cais/mmlu", "anatomy")["test"]
    assert anatomy.to_list() == [row for row in data.FILES["mmlu/test"] if row["subject"] == "anatomy"]


def test_arc_is_lettered_as_on_the_hub(folder: Path) -> None:
    row = LocalData(folder).dataset("allenai/ai2_arc", "ARC-Challenge")["test"][2]
    assert row["choices"] == {"text": ["red", "green like grass", "blue"], "label": ["A", "B", "C"]}
    assert (row["id"], row["answerKey"]) == ("ARC-Challenge-test-2", "C")


def test_a_column_of_empty_lists_is_one_of_texts(folder: Path) -> None:
    rows = LocalData(folder).dataset("google-research-datasets/mbpp", "full")["test"]
    assert rows.features["challenge_test_list"].feature.dtype == "string"


def test_other_fields_are_left_out(tmp_path: Path) -> None:
    data.write(tmp_path, gsm8k_test=[{"id": "mine", **row} for row in data.gsm8k(2, start=1)])
    assert LocalData(tmp_path).dataset("openai/gsm8k", "main")["test"].column_names == ["question", "answer"]


def test_the_record_names_what_was_read(folder: Path) -> None:
    local = LocalData(folder)
    assert local.record() == {}
    local.dataset("openai/gsm8k", "main")
    digest = hashlib.sha256((folder / "gsm8k/test.jsonl.gz").read_bytes()).hexdigest()
    assert list(local.record()) == ["gsm8k/test.jsonl.gz", "gsm8k/train.jsonl.gz"]
    assert local.record()["gsm8k/test.jsonl.gz"] == {"rows": 4, "sha256": digest}


def test_the_layout_says_every_file_field_and_where_math_comes_from() -> None:
    text = describe_layout()
    for data_set in DATA_SETS:
        assert all(f"{data_set.folder}/{split}.jsonl.gz" in text for split in data_set.splits)
        assert all(f"    {column}: " in text for column in data_set.columns)
    assert "nothing here downloads it: put a copy that you may use there" in text


# -- what is wrong -----------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_answered_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert "must be a folder with one folder per set" in only(tmp_path / "dta", "mbpp")
    assert "Did you mean 'data'?" in only(tmp_path / "dta", "mbpp")


def test_a_missing_set_is_named_with_its_fields_and_the_nearest_folder(tmp_path: Path) -> None:
    (tmp_path / "human_eval").mkdir()
    text = only(tmp_path, "humaneval")
    assert "humaneval/test.jsonl.gz` must be there for humaneval, humaneval_instruct, got no such file." in text
    assert "Did you mean 'human_eval'?" in text
    assert "task_id, prompt, canonical_solution, test, entry_point" in text


def test_missing_math_says_why_it_does_not_come_along(tmp_path: Path) -> None:
    text = only(tmp_path, "minerva_math")
    assert "math/test.jsonl.gz` must be there" in text
    assert "Fields: problem, level, type, solution." in text
    assert "Its rights are disputed" in text


def test_a_missing_split_is_named_with_the_files_that_are_there(tmp_path: Path) -> None:
    data.write(tmp_path)
    (tmp_path / "mmlu/dev.jsonl.gz").rename(tmp_path / "mmlu/validation.jsonl.gz")
    text = only(tmp_path, "mmlu")
    assert "mmlu/dev.jsonl.gz` must be there" in text
    assert "The folder has test.jsonl.gz, validation.jsonl.gz." in text


def test_two_files_of_one_split_are_told_and_none_is_chosen(tmp_path: Path) -> None:
    data.write(tmp_path)
    (tmp_path / "mbpp/test.jsonl").write_text("\n".join(map(json.dumps, data.mbpp())))
    assert only(tmp_path, "mbpp").endswith(
        "mbpp/test` must be one file, got test.jsonl.gz and test.jsonl. Remove the one that is not meant."
    )


def test_an_empty_folder_is_called_empty(tmp_path: Path) -> None:
    (tmp_path / "mbpp").mkdir()
    assert "The folder is empty." in only(tmp_path, "mbpp")


def test_a_wrong_field_is_named_with_its_row_and_value(tmp_path: Path) -> None:
    rows = data.mbpp()
    rows[1]["test_list"] = "assert add(1, 2) == 3"
    del rows[2]["code"]
    text = only(data.write(tmp_path, mbpp_test=rows), "mbpp")
    assert "row 2: `test_list` must be a list of three texts or more, got 'assert add(1, 2) == 3'." in text
    assert "row 3: `code` must be a text that is not empty, got no such field." in text


def test_many_wrong_rows_are_counted(tmp_path: Path) -> None:
    rows = [{"question": "1 + 1?", "answer": "2"}] * 5
    text = only(data.write(tmp_path, gsm8k_test=rows), "gsm8k")
    assert text.count("must be a text that ends in `#### number`, got '2'.") == 3
    assert "… and 2 more." in text


@pytest.mark.parametrize(
    ("name", "task", "field", "value", "must"),
    [
        ("mmlu_test", "mmlu", "subject", "alchemy", "one of MMLU's 57 subjects"),
        ("mmlu_test", "mmlu", "answer", "B", "the position of the right choice, from 0"),
        ("mmlu_test", "mmlu", "answer", True, "the position of the right choice, from 0"),
        ("mmlu_test", "mmlu", "answer", 4, "the position of one of the 4 choices"),
        ("mmlu_test", "mmlu", "choices", ["1", "2", "3"], "a list of four texts"),
        ("arc_test", "arc_easy", "answer", 7, "the position of one of the 2 choices"),
        ("arc_test", "arc_easy", "config", "ARC", "ARC-Easy or ARC-Challenge"),
        ("arc_test", "arc_easy", "choices", {"text": ["a", "b"]}, "a list of two to eight texts"),
        ("math_test", "minerva_math", "type", "Calculus", "one of Algebra, Counting & Probability"),
        ("math_test", "minerva_math", "type", ["Algebra"], "one of Algebra, Counting & Probability"),
        ("math_test", "minerva_math", "solution", "It is 5.", r"a text with its answer in \boxed{}"),
        ("mbpp_test", "mbpp", "task_id", "11", "a whole number"),
        ("mbpp_test", "mbpp", "test_setup_code", None, "a text, which may be empty"),
        ("mbpp_test", "mbpp", "challenge_test_list", [1], "a list of texts, which may be empty"),
        ("humaneval_test", "humaneval", "prompt", " ", "a text that is not empty"),
    ],
)
def test_every_kind_of_field_is_checked(
    tmp_path: Path, name: str, task: str, field: str, value: object, must: str
) -> None:
    first, *others = data.FILES[name.replace("_", "/")]
    text = only(data.write(tmp_path, **{name: [{**first, field: value}, *others]}), task)
    assert f"row 1: `{field}` must be {must}" in text


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    rows = [row for row in data.FILES["mmlu/test"] if row["subject"] != "anatomy"]
    assert "mmlu/test.jsonl.gz` must have rows of anatomy, got none." in only(
        data.write(tmp_path, mmlu_test=rows), "mmlu"
    )
    with pytest.raises(DataError, match="must have rows of anatomy, got none"):
        LocalData(tmp_path).dataset("cais/mmlu", "anatomy")


def test_a_gzip_that_breaks_off_is_named_with_file_and_line(tmp_path: Path) -> None:
    path = data.write(tmp_path) / "gsm8k/train.jsonl.gz"
    lines = [json.dumps({**row, "id": hashlib.sha256(str(i).encode()).hexdigest()}) for i in range(400)
             for row in data.gsm8k(1, i)]  # fmt: skip
    whole = gzip.compress("\n".join(lines).encode())
    path.write_bytes(whole[: len(whole) // 2])
    text = only(tmp_path, "gsm8k")
    assert "gsm8k/train.jsonl.gz` must be a whole gzip file, got one that is damaged after line " in text
    assert 100 < int(text.split("after line ")[1].split()[0]) < 300


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    (data.write(tmp_path) / "gsm8k/train.jsonl.gz").write_text('{"question": "1 + 1?", "answer": "#### 2"}\n{"que')
    assert "gsm8k/train.jsonl.gz` line 2 must be one whole JSON object" in only(tmp_path, "gsm8k")


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (data.write(tmp_path) / "mbpp/test.jsonl.gz").write_text("")
    assert "must have at least one row, got an empty file" in only(tmp_path, "mbpp")


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    data.write(tmp_path, mbpp_test=[{}])
    (tmp_path / "math/test.jsonl.gz").unlink()
    (tmp_path / "mmlu/dev.jsonl.gz").write_bytes(b"\x1f\x8b broken")
    texts = fatal(tmp_path, "minerva_math", "mbpp", "mmlu", "arc_easy", "gsm8k_coat")
    assert [next(part for part in text.split("`")[1].split("/")[-2:]) for text in texts] == [
        "task",
        "math",
        "mbpp",
        "mmlu",
    ]
    assert "Did you mean 'gsm8k_cot'?" in texts[0]


def test_a_set_or_task_without_a_layout_is_refused() -> None:
    with pytest.raises(DataError, match=r"`task` must be one of minerva_math, .*, got 'mbp'. Did you mean 'mbpp'\?"):
        set_of_task("mbp")
    with pytest.raises(DataError, match=r"`data` must be asked for one of EleutherAI/hendrycks_math.*, got 'boolq'"):
        set_of_hub("boolq")


def test_there_are_57_subjects() -> None:
    assert len(set(MMLU_SUBJECTS)) == 57
