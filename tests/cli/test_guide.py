"""`campus-tune guide`: what is listed, shown, found, and told of a page that is not there."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest

from campus_tune.cli.guide import PAGES, read_page
from campus_tune.cli.main import main
from campus_tune.words.errors import RecipeError
from tests.cli.test_start import command, foreign, loaded_by

ROOT = Path(__file__).parents[2]
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def in_a_terminal(*words: str, columns: int = 90, **environment: str) -> str:
    """What a command writes into a pseudo-terminal, line ends as in a file."""
    leader, follower = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "500"}
    env = {name: value for name, value in env.items() if name not in ("NO_COLOR", "PAGER", "LESS")}
    line = [sys.executable, "-m", "campus_tune", *words]
    with subprocess.Popen(line, stdin=follower, stdout=follower, stderr=follower, env={**env, **environment}) as child:
        os.close(follower)
        said = b""
        while select.select([leader], [], [], 60)[0]:
            try:
                piece = os.read(leader, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            said += piece
    os.close(leader)
    assert child.returncode == 0, said
    return said.decode().replace("\r\n", "\n")


def test_without_a_page_all_are_listed_with_a_sentence_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guide"]) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split()[0] for line in lines] == list(PAGES)
    assert all(line.endswith(".") for line in lines)


def test_a_page_goes_into_a_pipe_as_it_was_written_but_for_links(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guide", "start"]) == 0
    said = capsys.readouterr().out
    written = (ROOT / "campus_tune/guide/start.md").read_text("utf-8")
    assert said.splitlines()[:12] == written.splitlines()[:12]
    assert "your data (`campus-tune guide data`)" in said
    assert "](data.md)" in written
    assert "](data.md)" not in said


def test_a_terminal_shows_it_formatted_within_its_width() -> None:
    said = in_a_terminal("guide", "data", columns=60, PAGER="cat")
    assert COLOUR.search(said)
    plain = COLOUR.sub("", said)
    assert "Your data" in plain
    assert "```" not in plain
    assert max(map(len, plain.splitlines())) <= 60


def test_a_terminal_that_wants_no_colour_gets_none() -> None:
    said = in_a_terminal("guide", "data", PAGER="cat", NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", said)


def test_a_dumb_terminal_gets_the_text() -> None:
    assert "```yaml" in in_a_terminal("guide", "data", TERM="dumb")


def test_words_are_found_whatever_their_case_under_page_and_heading(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guide", "--search", "PROBE ROWS"]) == 0
    said = capsys.readouterr().out
    assert "data: Probes\n    " in said
    assert "probe rows" in said
    assert main(["guide", "wrong", "--search", "zzz"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "the guide says nothing of 'zzz'. Try: campus-tune explain zzz" in captured.err


def test_pages_and_lines_are_there_for_programs_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guide", "--json"]) == 0
    assert [page["name"] for page in json.loads(capsys.readouterr().out)["pages"]] == list(PAGES)
    assert main(["guide", "start", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == read_page("start").text
    assert main(["guide", "--search", "probe rows", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["found"]
    assert {"page", "heading", "line"} == set(found[0])
    assert all("probe rows" in hit["line"].lower() for hit in found)
    assert main(["guide", "--search", "zzz", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"found": []}


def test_an_unknown_page_is_told_with_the_nearest_one_and_how_to_search(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guide", "questoins"]) == 2
    said = capsys.readouterr().err
    assert "got 'questoins'. Did you mean 'questions'? Search all of them with: campus-tune guide --search q" in said
    with pytest.raises(RecipeError, match=r"a page of the guide must be one of start, data, .*, got 'x'\. Search"):
        read_page("x")


def test_the_help_of_it_waits_for_no_library() -> None:
    foreigners = foreign(loaded_by(command("guide", "--help"))) - foreign(loaded_by("pass"))
    assert foreigners <= {"numpy"}
