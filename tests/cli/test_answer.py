"""With `--json` a program reads one document, whatever anybody else prints; exit codes are those that are written."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from campus_tune.cli import exit_codes
from campus_tune.cli.answer import Answer, as_json
from campus_tune.cli.main import main, make_parser

ROOT = Path(__file__).parents[2]
LOUD = """
import os, subprocess, sys
import campus_tune.cli.diff as diff
from campus_tune.cli.answer import Answer
from campus_tune.cli.main import main

def loud(options):
    print("a line of ours")
    os.write(1, b"a line of a library\\n")
    subprocess.run(["echo", "a line of a process"])
    return Answer({"loss": float("nan"), "rows": 3}, "a table", code=1)

diff.main = loud
sys.exit(main(["diff", "a", "b", *sys.argv[1:]]))
"""


@dataclass(frozen=True)
class Thing:
    rows: np.ndarray
    path: Path


def loud(*words: str) -> subprocess.CompletedProcess[str]:
    done = [sys.executable, "-c", LOUD, *words]
    return subprocess.run(done, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_document_is_alone_on_standard_output_and_all_else_on_the_other() -> None:
    done = loud("--json")
    assert json.loads(done.stdout) == {"loss": None, "rows": 3}
    assert done.returncode == 1
    said = ["a line of ours", "a line of a library", "a line of a process"]
    assert sorted(done.stderr.splitlines()) == sorted(said)


def test_without_the_flag_all_is_said_where_it_was() -> None:
    done = loud()
    said = ["a line of ours", "a line of a library", "a line of a process"]
    assert sorted(done.stdout.splitlines()) == sorted([*said, "a table"])
    assert (done.stderr, done.returncode) == ("", 1)


def test_a_document_is_strict_json() -> None:
    document = {"a": np.float32(0.5), "b": [np.int64(3), float("inf")], "c": Thing(np.arange(2), Path("x")), 4: None}
    assert json.loads(as_json(document)) == {
        "a": 0.5,
        "b": [3, None],
        "c": {"rows": [0, 1], "path": "x"},
        "4": None,
    }


def test_of_several_processes_one_answers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("campus_tune.cli.diff.main", lambda _: Answer({}, "a table"))
    monkeypatch.setenv("RANK", "1")
    assert main(["diff", "a", "b"]) == 0
    assert capsys.readouterr().out == ""


# -- exit codes --------------------------------------------------------------------------------------------------------


def interrupt(options: argparse.Namespace) -> int:
    del options
    raise KeyboardInterrupt


def test_each_exit_code_is_what_is_written_of_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("metrics: [loss, length]\nselector: lowest_perplexity\n", "utf-8")
    codes = [main(["simulate", "--rows", "100"]), main(["check", str(bad)]), main(["diff", "nowhere", "either"])]
    monkeypatch.setattr("campus_tune.cli.diff.main", interrupt)
    codes.append(main(["diff", "a", "b"]))
    assert codes == list(exit_codes.MEANINGS)
    assert "campus-tune: interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["sft", "--config", "r.yaml"], ["--debug", "sft"]])
def test_after_ctrl_c_sft_says_how_it_goes_on(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text("learning_rate: 0.1\n", "utf-8")
    monkeypatch.setattr("campus_tune.cli.sft.main", interrupt)
    if "--debug" in words:
        with pytest.raises(KeyboardInterrupt):
            main(words)
        return
    assert main(words) == 130
    assert "--resume_from_checkpoint true goes on from it" in capsys.readouterr().err


def test_help_tells_the_exit_codes() -> None:
    said = " ".join(make_parser([]).format_help().split())
    assert all(f"{code} {meaning}" in said for code, meaning in exit_codes.MEANINGS.items())
