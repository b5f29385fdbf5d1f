"""Every answer is worked out a second time from the text of its question."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.demo.domains import DOMAINS, N_LEVELS
from campus_tune.demo.tasks import generate, write_tasks
from campus_tune.words.errors import DataError, RecipeError
from tests.strategies import examples

Row = dict[str, Any]


def question_of(row: Row) -> str:
    return str(row["prompt"][0]["content"])


def answer_of(row: Row) -> str:
    return str(row["completion"][0]["content"])


def integers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def shown_after_colon(question: str) -> str:
    return question.split(": ", 1)[1]


# --- second solutions, each from the question alone -------------------------------------------------------------------


def solve_arithmetic(question: str, level: int) -> str:
    if level == 4:
        match = re.search(r"when (.+) is divided by (\d+)", question)
        assert match
        return str(eval(match[1], {"__builtins__": {}}) % int(match[2]))
    match = re.search(r"What is ([-+*() \d]+)\?", question)
    assert match
    return str(eval(match[1], {"__builtins__": {}}))


def solve_text(question: str, level: int) -> str:
    words = shown_after_colon(question).split(" ")
    number = integers(question)
    if level == 0:
        return " ".join("".join(chr(ord(letter) - 32) for letter in word) for word in words)
    if level == 1:
        words[number[0] - 1] = words[number[0] - 1].upper()
        return " ".join(words)
    if level == 2:
        letter = question.split("'")[1]
        return " ".join("".join(x for x in word if x != letter) for word in words)
    if level == 4:
        words = sorted(words)
    words = ["".join(reversed(word)) for word in words]
    if level == 4:
        words[number[0] - 1] = words[number[0] - 1].upper()
    return " ".join(words)


def solve_lists(question: str, level: int) -> str:
    numbers = integers(shown_after_colon(question))
    ranked: list[int] = []
    for number in numbers:  # insertion sort
        ranked.insert(sum(other < number for other in ranked), number)
    if level == 0:
        return str(ranked[-1] if "largest" in question else ranked[0])
    if level == 1:
        return ", ".join(map(str, ranked))
    if level == 2:
        return ", ".join(map(str, ranked[::-1]))
    if level == 3:
        return str(sum(number for number in numbers if number > integers(question)[0]))
    evens = [number for number in ranked if not number & 1]
    return ", ".join(str(evens[i + 1] - evens[i]) for i in range(len(evens) - 1))


IN_SMALL_UNIT = {
    ("kilometers", "meters"): 1000,
    ("meters", "centimeters"): 100,
    ("centimeters", "millimeters"): 10,
    ("kilograms", "grams"): 1000,
    ("liters", "milliliters"): 1000,
    ("hours", "minutes"): 60,
    ("minutes", "seconds"): 60,
    ("weeks", "days"): 7,
    ("days", "hours"): 24,
}


def julian_day(iso: str) -> int:
    """Day count by the arithmetic of Fliegel and van Flandern (1968), not by datetime."""
    year, month, day = (int(part) for part in iso.split("-"))
    shift = (14 - month) // 12
    y, m = year + 4800 - shift, month + 12 * shift - 3
    return day + (153 * m + 2) // 5 + 365 * y + y // 4 - y // 100 + y // 400 - 32045


def solve_calendar(question: str, level: int) -> str:
    number = integers(question)
    if level <= 1:
        match = re.match(r"How many (\w+) are \d+ (\w+)", question)
        assert match
        rest = number[1] if level == 1 else 0
        return str(number[0] * IN_SMALL_UNIT[match[2], match[1]] + rest)
    if level == 2:
        hour, minute, hours, minutes = number
        end = datetime(2024, 1, 1, hour, minute) + timedelta(hours=hours, minutes=minutes)
        return end.strftime("%H:%M")
    dates = re.findall(r"\d{4}-\d\d-\d\d", question)
    if level == 3:
        return (datetime.fromisoformat(dates[0]) + timedelta(days=number[0])).strftime("%Y-%m-%d")
    first, last = (julian_day(text) for text in dates)
    weekdays = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
    return f"{last - first} days, {weekdays[last % 7]}"


def solve_code(question: str, level: int) -> str:
    printed: list[str] = []
    allowed = {"range": range, "len": len, "str": str, "print": lambda value: printed.append(str(value))}
    exec(question.split("\n\n", 1)[1], {"__builtins__": allowed})
    assert len(printed) == 1, level
    return printed[0]


SOLVERS: dict[str, Callable[[str, int], str]] = {
    "arithmetic": solve_arithmetic,
    "text": solve_text,
    "lists": solve_lists,
    "calendar": solve_calendar,
    "code": solve_code,
}
# Where an answer writes its steps out, the result stands after the last of these.
RESULT_AFTER = {
    ("arithmetic", 2): "= ",
    ("arithmetic", 3): "= ",
    ("arithmetic", 4): "= ",
    ("text", 4): "capitals: ",
    ("lists", 3): "sum: ",
    ("lists", 4): "differences: ",
    ("code", 3): "prints ",
}


@pytest.mark.parametrize("level", range(N_LEVELS))
@pytest.mark.parametrize("domain", DOMAINS)
def test_every_answer_agrees_with_a_second_solution(domain: str, level: int) -> None:
    for row in generate(60, seed=11, levels=[level], domains=[domain]):
        mark = RESULT_AFTER.get((domain, level))
        result = answer_of(row).rsplit(mark, 1)[1] if mark else answer_of(row)
        assert result == SOLVERS[domain](question_of(row), level), row


@pytest.mark.parametrize("level", [2, 3, 4])
def test_every_written_step_of_arithmetic_is_true_and_builds_on_the_ones_before(level: int) -> None:
    for row in generate(60, seed=12, levels=[level], domains=["arithmetic"]):
        known = set(integers(question_of(row)))
        for step in answer_of(row).split("; "):
            left, right = step.replace("mod", "%").split(" = ")
            assert eval(left, {"__builtins__": {}}) == int(right)
            assert set(integers(left)) <= known
            known.add(int(right))


def test_the_written_steps_of_the_other_domains_are_true() -> None:
    for row in generate(40, seed=13, levels=[4], domains=["text"]):
        steps = dict(step.split(": ") for step in answer_of(row).split("; "))
        assert steps["sorted"].split() == sorted(shown_after_colon(question_of(row)).split())
        assert steps["backwards"].split() == [word[::-1] for word in steps["sorted"].split()]
        assert steps["capitals"].lower() == steps["backwards"]
    for row in generate(40, seed=13, levels=[3], domains=["lists"]):
        bound, *numbers = integers(question_of(row))
        kept = integers(answer_of(row).split(";")[0])
        assert kept == [number for number in numbers if number > bound]
        assert len(kept) >= 2
    for row in generate(40, seed=13, levels=[4], domains=["lists"]):
        evens = integers(answer_of(row).split(";")[0])
        assert evens == sorted(number for number in integers(question_of(row)) if number % 2 == 0)
    for row in generate(40, seed=13, levels=[3], domains=["code"]):
        start, first, stop, step, factor = integers(question_of(row))
        running, expected = start, []
        for i in range(first, stop, step):
            running += i * factor
            expected.append(running)
        assert integers(answer_of(row).split(";")[0]) == expected


# --- levels -----------------------------------------------------------------------------------------------------------


def n_operations(row: Row) -> float:
    """Operators in the question (a remainder is one), and as tie-break the digits they work on."""
    question = question_of(row)
    return len(re.findall(r"[-+*]|divided", question)) + len(re.findall(r"\d", question)) / 100


def n_numbers(row: Row) -> float:
    """How long the list is."""
    return len(integers(shown_after_colon(question_of(row))))


def n_executed_operations(row: Row) -> float:
    """Lines that Python runs, counted by its tracer, plus the operators on each."""
    program = question_of(row).split("\n\n", 1)[1]
    operations = [1 + len(re.findall(r"[-+*%]|//|\[.|len\(", line)) for line in program.split("\n")]
    cost = 0

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal cost
        if event == "line" and frame.f_code.co_filename == "program":
            cost += operations[frame.f_lineno - 1]
        return trace

    allowed = {"range": range, "len": len, "str": str, "print": str}
    compiled, before = compile(program, "program", "exec"), sys.gettrace()
    sys.settrace(trace)
    try:
        exec(compiled, {"__builtins__": allowed})
    finally:
        sys.settrace(before)
    return cost


@pytest.mark.parametrize(
    ("domain", "work"), [("arithmetic", n_operations), ("lists", n_numbers), ("code", n_executed_operations)]
)
def test_each_level_asks_for_more_work_than_the_one_below(domain: str, work: Callable[[Row], float]) -> None:
    levels = [mean(map(work, generate(40, seed=3, levels=[level], domains=[domain]))) for level in range(N_LEVELS)]
    assert all(easy < hard for easy, hard in pairwise(levels)), levels


def test_calendar_levels_three_and_four_cross_ends_of_months_and_leap_days() -> None:
    for row in generate(100, seed=4, levels=[3], domains=["calendar"]):
        first = re.search(r"\d{4}-\d\d-\d\d", question_of(row))
        assert first
        assert first[0][:7] != answer_of(row)[:7]
    spans = [re.findall(r"\d{4}", question_of(row)) for row in generate(100, seed=4, levels=[4], domains=["calendar"])]
    assert sum(any(year % 4 == 0 for year in range(int(a), int(b) + 1)) for a, b in spans) > 50


# --- rows and files ---------------------------------------------------------------------------------------------------


@examples(20)
@given(seed=st.integers(0, 2**40), n=st.integers(1, 12), more=st.integers(0, 12))
def test_the_first_rows_of_a_cell_do_not_depend_on_how_many_are_asked_for(seed: int, n: int, more: int) -> None:
    one = generate(n, seed=seed, levels=[0], domains=["code"])
    assert generate(n + more, seed=seed, levels=[0], domains=["code"])[:n] == one


def test_a_row_does_not_depend_on_the_other_cells_or_on_global_random_state() -> None:
    every = generate(3, seed=5)
    some = generate(3, seed=5, levels=[4], domains=["lists"])
    assert [row for row in every if row["domain"] == "lists" and row["level"] == 4] == some
    assert generate(3, seed=6, levels=[4], domains=["lists"]) != some


def test_rows_have_the_schema_of_conversational_prompt_completion() -> None:
    rows = generate(2, seed=0)
    assert len(rows) == 2 * 5 * len(DOMAINS)
    assert rows[1]["id"] == "arithmetic-L0-0001"
    for row in rows:
        assert list(row) == ["id", "domain", "level", "prompt", "completion"]
        assert [message["role"] for message in row["prompt"] + row["completion"]] == ["user", "assistant"]
        assert row["id"].startswith(f"{row['domain']}-L{row['level']}-")
        assert answer_of(row).strip() == answer_of(row) != ""


def test_the_smallest_cells_have_room_for_three_thousand_different_questions() -> None:
    rows = generate(3000, seed=0, levels=[0], domains=["code", "arithmetic"])
    assert len({question_of(row) for row in rows}) == 6000


def test_a_used_up_cell_is_named_and_the_search_ends() -> None:
    message = r"`code` level 0 must have 4000 different questions, got 3\d+. Ask for fewer rows per cell"
    with pytest.raises(DataError, match=message):
        generate(4000, seed=0, levels=[0], domains=["code"])


def test_all_wrong_options_are_named_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        generate(0, seed=-1, levels=[5], domains=["arithmetics"])
    message = str(caught.value)
    assert "4 problems" in message
    assert "`n_per_cell` must be a whole number, at least 1, got 0" in message
    assert "`seed` must be a whole number, at least 0, got -1" in message
    assert "`levels` must be out of 0..4, got 5" in message
    assert "got 'arithmetics'. Did you mean 'arithmetic'?" in message


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_no_question_is_in_two_files_or_twice_in_one(tmp_path: Path) -> None:
    paths = write_tasks(tmp_path / "new" / "folder", rows_per_cell=60, probes_per_cell=4, tests_per_cell=6, seed=1)
    assert list(paths) == ["train", "probes", "test"]
    rows = {name: read(path) for name, path in paths.items()}
    cells = N_LEVELS * len(DOMAINS)
    assert {name: len(part) for name, part in rows.items()} == {
        "train": 60 * cells,
        "probes": 4 * cells,
        "test": 6 * cells,
    }
    everything = [row for part in rows.values() for row in part]
    assert len({question_of(row) for row in everything}) == len(everything)
    assert len({row["id"] for row in everything}) == len(everything)


def test_rows_for_a_search_are_a_third_held_out_set_and_leave_the_others_as_they_were(tmp_path: Path) -> None:
    without = write_tasks(tmp_path / "a", rows_per_cell=2, probes_per_cell=2, tests_per_cell=1, seed=3)
    paths = write_tasks(tmp_path / "b", rows_per_cell=2, probes_per_cell=2, tests_per_cell=1, search_per_cell=3, seed=3)
    assert list(paths) == ["train", "probes", "test", "search"]
    assert list(without) == ["train", "probes", "test"]
    assert [paths[name].read_bytes() == without[name].read_bytes() for name in ("probes", "test")] == [True, True]
    rows = [row for path in paths.values() for row in read(path)]
    assert len(read(paths["search"])) == 3 * N_LEVELS * len(DOMAINS)
    assert len({question_of(row) for row in rows}) == len(rows) == 8 * N_LEVELS * len(DOMAINS)


def test_a_larger_training_set_leaves_probes_and_tests_as_they_were(tmp_path: Path) -> None:
    small = write_tasks(tmp_path / "a", rows_per_cell=2, probes_per_cell=2, tests_per_cell=1, seed=3)
    large = write_tasks(tmp_path / "b", rows_per_cell=5, probes_per_cell=2, tests_per_cell=1, seed=3)
    assert small["probes"].read_bytes() == large["probes"].read_bytes()
    assert small["test"].read_bytes() == large["test"].read_bytes()
    assert {row["id"] for row in read(small["train"])} < {row["id"] for row in read(large["train"])}


def test_files_are_the_same_bytes_each_time_and_train_is_shuffled(tmp_path: Path) -> None:
    first = write_tasks(tmp_path / "a", rows_per_cell=6, probes_per_cell=1, seed=2)
    again = write_tasks(tmp_path / "a", rows_per_cell=6, probes_per_cell=1, seed=2)
    other = write_tasks(tmp_path / "b", rows_per_cell=6, probes_per_cell=1, seed=2)
    assert first == again
    assert list(first) == ["train", "probes"]
    assert not (tmp_path / "a" / "test.jsonl").exists()
    assert first["train"].read_bytes() == other["train"].read_bytes()
    levels = [row["level"] for row in read(first["train"])]
    assert abs(mean(levels[: len(levels) // 2]) - 2) < 0.5
    assert not list((tmp_path / "a").glob(".*"))


@pytest.mark.parametrize("text", ['{"id": 1, "text": "mine"}\n', "", "not JSON\n", "[1]\n", '{"domain": []}\n'])
def test_rows_of_the_users_own_are_not_replaced(tmp_path: Path, text: str) -> None:
    (tmp_path / "probes.jsonl").write_text(text)
    with pytest.raises(DataError, match=r"no rows of yours.*got probes\.jsonl in .*Name another folder"):
        write_tasks(tmp_path, rows_per_cell=1, probes_per_cell=1)
    assert (tmp_path / "probes.jsonl").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["probes.jsonl"]
    write_tasks(tmp_path / "another", rows_per_cell=1, probes_per_cell=1)


def test_writing_names_its_own_wrong_numbers(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        write_tasks(tmp_path, rows_per_cell=0, probes_per_cell=0, tests_per_cell=-1, search_per_cell=-1)
    for name in ("`rows_per_cell`", "`probes_per_cell`", "`tests_per_cell`", "`search_per_cell`"):
        assert name in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_making_tasks_loads_no_torch() -> None:
    code = "import sys, campus_tune.demo.tasks as t; t.generate(1, seed=0); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
