"""`campus-tune suspects RUN`: who is shown, what is written, what is asked, and what each mistake is told."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from campus_tune.cli.judge import as_text, go_through, judge
from campus_tune.cli.main import main
from campus_tune.data.judged import keys_of
from campus_tune.data.judging import Judging, read_rows
from campus_tune.method.dirt import Dirt
from campus_tune.run.row_map import FILE as MAP
from campus_tune.run.row_map import LIKELIEST, estimated
from campus_tune.scores.cache import read_columns, write_columns
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import Json
from tests.json_answers import answer

N = 30
ROWS = [{"prompt": f"Question {i}?", "completion": f"Answer {i}."} for i in range(N)]
KEYS = keys_of([f"Question {i}?\nAnswer {i}." for i in range(N)])
SENTENCE = "2 of 28 rows look wrong (7.1%; most in code: 2)"


def score_of(row: int) -> float:
    return float("nan") if row in (4, 5) else 10.0 - row


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that is over, with a map of thirty rows: the first ones are the likeliest wrong, two were never seen."""
    home = tmp_path / "run" / "curriculum"
    scores = np.array([score_of(row) for row in range(N)], dtype=np.float32)
    unknown = np.isnan(scores)
    floats = {name: pa.array(np.full(N, 0.25, dtype=np.float32), mask=unknown) for name in ("mean_loss", "spread")}
    columns: dict[str, Any] = {
        "row": np.arange(N, dtype=np.int32),
        "content": np.arange(100, 100 + N, dtype=np.uint64),
        "key": pa.array(KEYS),
        "domain": pa.array(["code" if row < 10 else "math" for row in range(N)]).dictionary_encode(),
        "region": pa.array(["suspect" if row < 2 else "learned" for row in range(N)]).dictionary_encode(),
        "visits": np.where(unknown, 0, 2).astype(np.uint8),
        **floats,
        "lowest_probability": pa.array(np.full(N, 1.25e-5, dtype=np.float32), mask=unknown),
        "excess": pa.array(scores, mask=unknown),
        "suspect": np.arange(N) < 2,
    }
    write_columns(home / MAP, columns, {"basis": "training", "sentence": SENTENCE})
    likeliest = [
        {"row": row, "prompt": ROWS[row]["prompt"], "answer": ROWS[row]["completion"], "said": " 0", "rather": " 7"}
        for row in range(20)
        if not unknown[row]
    ]
    put(home / LIKELIEST, likeliest)
    ledger(home, {"event": "stage_end", "stage": 0, "step": 5}, {"event": "end", "step": 10})
    put(tmp_path / "train.jsonl", ROWS)
    return tmp_path / "run"


def put(path: Path, rows: Sequence[Json]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def ledger(home: Path, *events: Json) -> None:
    put(home / "ledger.jsonl", [{"event": "run", "past": {"n_rows": N}, "future": {"total_steps": 10}}, *events])


def told(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str]:
    """Exit code, and what was said."""
    code = main(["suspects", *map(str, argv)])
    out, err = capsys.readouterr()
    return code, out + err


# -- the table ---------------------------------------------------------------------------------------------------------


def test_the_likeliest_wrong_rows_are_shown_with_text_and_those_that_stand_out_marked(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    code, said = told(capsys, run, "--top", 3)
    assert code == 0
    assert said.splitlines() == [
        SENTENCE,
        "row  domain  excess  spread  visits  loss  lowest p",
        " 0*  code     10.00    0.25       2  0.25   1.2e-05  Question 0? → Answer 0.",
        " 1*  code      9.00    0.25       2  0.25   1.2e-05  Question 1? → Answer 1.",
        " 2   code      8.00    0.25       2  0.25   1.2e-05  Question 2? → Answer 2.",
        "* stands out from its kind",
    ]


def test_by_domain_says_how_many_are_wrong_by_the_estimate(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, about = read_columns(run / "curriculum" / MAP)
    dirt = Dirt(280, 0.1, 0.05, 0.2, {"code": Dirt(80, 0.3, 0.2, 0.4)})
    sentence = f"{SENTENCE}{estimated(dirt)}"
    write_columns(run / "curriculum" / MAP, table, {**about, "sentence": sentence, "dirt": dirt.to_mapping()})
    code, said = told(capsys, run, "--top", 1, "--by-domain")
    lines = said.splitlines()
    assert code == 0
    assert lines[0] == f"{SENTENCE}; estimated wrong: 5 to 20 %, of `code` 20 to 40 %"
    assert [line.split("  ")[-1].strip() for line in lines[-3:]] == ["estimated wrong", "20 to 40 %", "-"]


def test_rows_that_stand_out_where_no_wrong_ones_are_to_be_seen_are_said_to_be_doubtful(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, about = read_columns(run / "curriculum" / MAP)
    doubt = "The record as a whole shows no sign of wrong rows (0 to 55 % by the estimate)"
    for dirt, said in ((Dirt(280, 0.0, 0.0, 0.55), True), (Dirt(280, 0.1, 0.05, 0.2), False)):
        write_columns(run / "curriculum" / MAP, table, {**about, "dirt": dirt.to_mapping()})
        assert (doubt in told(capsys, run)[1]) == said
    assert "Name the kinds" not in told(capsys, run)[1]
    del table["domain"]
    write_columns(run / "curriculum" / MAP, table, {**about, "dirt": Dirt(280, 0.0, 0.0, 0.55).to_mapping()})
    assert "Name the kinds of your rows in a column `domain`" in told(capsys, run)[1]


def test_their_json_has_the_rows_of_the_table_and_how_many_of_each_domain(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(capsys, "suspects", run, "--top", 3)
    assert (found["sentence"], found["suspects"], found["out"]) == (SENTENCE, 2, None)
    assert [(row["row"], row["score"], row["suspect"]) for row in found["rows"]] == [
        (0, 10.0, True),
        (1, 9.0, True),
        (2, 8.0, False),
    ]
    assert found["rows"][0]["text"] == "Question 0?\nAnswer 0."
    code = {"domain": "code", "rows": 10, "suspects": 2, "never_learned": 0, "contradicting": 0, "duplicate": 0}
    assert found["by_domain"][0] == code


def test_the_ledger_and_its_folder_name_the_run_too(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    every = {told(capsys, path) for path in (run, run / "curriculum", run / "curriculum" / "ledger.jsonl")}
    assert len(every) == 1
    assert len(every.pop()[1].splitlines()) >= 22


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_lines_fit_a_terminal_or_are_the_tables_own(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    _, said = told(capsys, run)
    table = len("row  domain  excess  spread  visits  loss  lowest p")
    assert all(len(line) <= max(width, table) for line in said.splitlines()[1:])


def test_rows_beyond_those_that_a_run_keeps_have_their_text_from_the_training_file_alone(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without, with_ = (told(capsys, run, "--top", 28, *more)[1] for more in ((), ("--data", run.parent / "train.jsonl")))
    assert "row 29" in without
    assert "Answer 29." not in without
    assert "Answer 29." in with_
    assert "row 29" not in with_


def test_domains_are_told_with_the_most_suspects_first(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, said = told(capsys, run, "--top", 1, "--by-domain")
    assert said.splitlines()[-3:] == [
        "domain  rows  suspect  share  never learned  contradicting  duplicate",
        "code      10        2  20.0%              0              0          0",
        "math      20        0   0.0%              0              0          0",
    ]


def test_a_text_cannot_command_the_terminal(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(run / "curriculum" / LIKELIEST, [{"row": 0, "text": "\x1b[2Jgone\u202e"}])
    _, said = told(capsys, run, "--top", 1)
    assert "\\x1b[2Jgone\\u202e" in said


# -- what is written ---------------------------------------------------------------------------------------------------


def test_rows_are_written_for_a_person_to_judge_and_what_was_judged_stays(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run.parent / "rows.jsonl"
    code, said = told(capsys, run, "--top", 2, "--out", path)
    assert (code, said.splitlines()[-1]) == (0, f"2 rows to judge are in {path}")
    first = json.loads(path.read_text("utf-8").splitlines()[0])
    assert first == {
        "row": 0,
        "key": KEYS[0],
        "content": f"{100:016x}",
        "domain": "code",
        "score": 10.0,
        "spread": 0.25,
        "visits": 2,
        "loss": 0.25,
        "text": "Question 0?\nAnswer 0.",
        "answer": "Answer 0.",
        "said": " 0",
        "rather": " 7",
        "keep": None,
    }
    put(path, [{**row, "keep": False} for row in read_rows(path)])
    _, said = told(capsys, run, "--top", 3, "--out", path)
    assert said.splitlines()[-1] == f"{path}: 1 new rows of 3; 2 were judged before and stay as they were"
    assert [row["keep"] for row in read_rows(path)] == [False, False, None]


def test_rows_without_a_text_are_said_to_be_and_the_training_file_helps(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run.parent / "rows.jsonl"
    _, said = told(capsys, run, "--top", 28, "--out", path)
    assert "10 of them without their text, which the run has not kept: give its training file, --data" in said
    _, said = told(capsys, run, "--top", 28, "--out", path, "--data", run.parent / "train.jsonl")
    assert "without their text" not in said
    assert all(row["text"] for row in read_rows(path))


# -- judging -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def rows(run: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    path = run.parent / "rows.jsonl"
    told(capsys, run, "--top", 4, "--out", path)
    return path


def keep_of(path: Path) -> list[bool | None]:
    return [row["keep"] for row in read_rows(path)]


def gone_through(path: Path, keys: str) -> list[str]:
    said: list[str] = []
    pressed = iter(keys)
    go_through(Judging(path), lambda: next(pressed, "\x04"), said.append)
    return said


def test_a_key_a_row_kept_after_each_and_the_recipes_line_at_the_end(rows: Path) -> None:
    said = gone_through(rows, "ny?x")  # two answers, two keys that are none, and the terminal is gone
    assert keep_of(rows) == [False, True, None, None]
    assert said[0] == f"4 of 4 rows in {rows} are not judged yet"
    assert said[1].startswith("\n1/4 · row 0 · code · score 10.00 · loss 0.25\n────")
    assert "Question 0?\n\n→ Answer 0.\n\nit says ' 0'; the model: ' 7'" in said[1]
    assert [line for line in said if line.startswith("\n")][:3][2].startswith("\n3/4")
    assert said[-1].splitlines()[1:] == [
        f"1 wrong, 1 right, 2 not judged: {rows}",
        "the same command goes on with those that are not judged",
        "the next run leaves out what is wrong with this line in its recipe:",
        f"  drop: [{{by: judged, path: {rows}}}]",
    ]


def test_it_goes_on_where_it_stopped_and_back_changes_an_answer(rows: Path) -> None:
    gone_through(rows, "nnq")
    said = gone_through(rows, "bbysy")
    assert said[1].startswith("\n3/4")
    assert "judged wrong" in said[3]
    assert keep_of(rows) == [True, False, None, True]
    assert gone_through(rows, "")[1].startswith("\n3/4")


def test_a_text_that_is_not_known_says_what_helps_and_long_ones_are_shown_whole() -> None:
    assert "give the training file as --data FILE" in as_text({"key": "0", "text": None, "keep": None}, 1, 1)
    long = " ".join(f"word{i}" for i in range(2000))
    shown = as_text({"key": "0", "text": long, "keep": None}, 1, 1)
    assert "word1999" in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_judging_without_a_terminal_says_what_to_do_instead(rows: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"`--judge` must be asked for in a terminal, .* write true or false as `keep`"
    ):
        judge(rows)


def in_terminal(argv: Sequence[object], keys: str, *, stop: bool = False) -> tuple[int, str]:
    """The command in a pseudo terminal of its own: exit code, and all that was shown."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "campus_tune", "suspects", *map(str, argv)]
    env = {**os.environ, "COLUMNS": "80"}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell takes it from what it runs behind
    try:
        process = subprocess.Popen(
            command, stdin=follower, stdout=follower, stderr=follower, env=env, start_new_session=True
        )
    finally:
        signal.signal(signal.SIGINT, before)
    os.close(follower)
    shown, left, until = b"", list(keys), time.monotonic() + 60
    while time.monotonic() < until:
        if select.select([leader], [], [], 0.1)[0]:
            try:
                part = os.read(leader, 4096)
            except OSError:  # the process has closed its end
                part = b""
            if not part:
                break
            shown += part
        if left and shown.count(b"q quit") >= len(keys) - len(left) + 1:
            os.write(leader, left.pop(0).encode())
        elif stop and shown.count(b"q quit") > len(keys):  # the last answer was taken
            process.send_signal(signal.SIGINT)
            stop = False
    try:
        process.wait(30)
    finally:
        process.kill()
        process.wait()
        os.close(leader)
    return process.returncode, shown.decode()


def test_in_a_terminal_single_keys_are_answers_without_enter(run: Path) -> None:
    path = run.parent / "judged.jsonl"
    code, shown = in_terminal([run, "--top", 3, "--judge", "--out", path], "nys")
    assert code == 0, shown
    assert keep_of(path) == [False, True, None]
    assert "drop: [{by: judged" in shown


def test_ctrl_c_keeps_what_was_judged(run: Path) -> None:
    path = run.parent / "judged.jsonl"
    code, shown = in_terminal([run, "--top", 3, "--judge", "--out", path], "n", stop=True)
    assert code == 130, shown
    assert "interrupted. What was judged is kept" in shown
    assert keep_of(path) == [False, None, None]


def test_rows_that_were_written_before_are_judged_without_their_run(rows: Path) -> None:
    code, shown = in_terminal(["--judge", "--out", rows], "yyyy")
    assert code == 0, shown
    assert keep_of(rows) == [True] * 4
    assert "drop:" not in shown  # nothing is wrong


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "`suspects` must have one RUN, the output_dir of a run, or --config with a recipe, got none."),
        (["a", "b"], "`suspects` must have one RUN, the output_dir of a run, or --config with a recipe, got 2: a, b."),
        (["nowhere"], "`nowhere` must hold a run's curriculum/ledger.jsonl, got none."),
        (["RUN", "--top", "29"], "`--top` must be from 1 to 28, the number of rows that have a score, got 29."),
        (["RUN", "--rows", "5"], "`--rows` must go with --config, got it with RUN. Leave it out."),
        (["RUN", "--forwards", "1"], "`--forwards` must go with --config, got it with RUN. Leave it out."),
        (["RUN", "--max_length", "5"], "`suspects RUN` must have no flags of TRL's, got --max_length."),
        (["--config", "r.yaml", "--by-domain"], "`--by-domain` must go with RUN, got it with --config r.yaml."),
        (
            ["RUN", "--data", "ROWS"],
            "`--data` must be the training file of this run, got ROWS, in which none of its 30",
        ),
        (["RUN", "--out", "rows.csv"], "must be a file of JSON lines, got 'rows.csv'. Write --out rows.jsonl."),
        (["RUN", "--judge"], "`--judge` must be asked for in a terminal, got input or output that is none."),
    ],
)
def test_what_does_not_go_is_said_with_what_to_write(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, argv: list[str], says: str
) -> None:
    monkeypatch.chdir(run.parent)
    Path("r.yaml").write_text("campus: {metrics: [length]}\n", "utf-8")
    put(run.parent / "other.jsonl", [{"prompt": "Another?", "completion": "Yes."}])
    names = {"RUN": str(run), "ROWS": "other.jsonl"}
    code, said = told(capsys, *[names.get(word, word) for word in argv])
    assert code == 2
    assert says.replace("ROWS", "other.jsonl") in said


@pytest.mark.parametrize("top", ["0", "-1", "x"])
def test_top_is_a_number_from_one(run: Path, capsys: pytest.CaptureFixture[str], top: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["suspects", str(run), f"--top={top}"])
    assert ended.value.code == 2
    assert "must be a whole number from 1 to 999999999" in capsys.readouterr().err


STAGE, END = {"event": "stage_end", "stage": 0, "step": 5}, {"event": "end", "step": 10}


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ([STAGE, END], "must have left curriculum/book/map.parquet, got none (an older version)."),
        ([STAGE, {"event": "map", "step": 10, "basis": "training", "rows": N}, END], "got none (it was removed)."),
        (
            [STAGE, {"event": "map", "step": 10, "basis": "none", "rows": N, "why": "the disk was full."}, END],
            "the disk was full.",
        ),
        ([STAGE], "for the map is made at its end, got one that stands at step 5 of 10. Wait for it, or resume it"),
        ([], "must be a run that is over, got one that ended before its first stage was. Resume it"),
    ],
    ids=["older", "removed", "none could be made", "killed", "killed before a stage was over"],
)
def test_a_run_without_a_map_is_told_why_and_what_to_do(
    run: Path, capsys: pytest.CaptureFixture[str], events: list[Json], says: str
) -> None:
    home = run / "curriculum"
    (home / MAP).unlink()
    (home / "training_losses").mkdir()
    ledger(home, *events)
    code, said = told(capsys, run)
    assert code == 2
    assert says in said


def test_a_damaged_map_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "curriculum" / MAP
    path.write_bytes(path.read_bytes()[:-30])
    code, said = told(capsys, run)
    assert code == 2
    assert "map.parquet` must be the map that the run left, got " in said


def test_a_recipe_is_asked_with_the_flags_that_are_trls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    asking = SimpleNamespace(before=lambda argv, **flags: asked.append((argv, flags)) or 0)
    monkeypatch.setitem(sys.modules, "campus_tune.cli.suspects_before", asking)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("campus: {metrics: [length]}\n", "utf-8")
    argv = ["--config", str(recipe), "--max_length", "64", "--rows", "9", "--forwards", "1"]
    assert main(["suspects", *argv]) == 0
    flags = {"rows": 9, "top": None, "out": None, "forwards": 1}
    assert asked == [(["--config", str(recipe), "--max_length", "64"], flags)]


def test_a_reader_that_leaves_is_no_error(run: Path) -> None:
    command = f"{sys.executable} -m campus_tune suspects {run} | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == (SENTENCE, "")
