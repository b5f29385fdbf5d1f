"""What a person reads: plain in a file, broken at words in a terminal, and never by colour alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from campus_tune.words.console import complain, say, show_table
from campus_tune.words.errors import RecipeError
from campus_tune.words.progress import VOLUME
from tests.terminals import COMMAND, InTerminal

SAID = "warning: `mtld` gives 64% of the rows one score: among those, the order is a coin toss. Use another metric."
SCRIPT = f"""
import sys
from campus_tune.words.console import complain, say, show_table
from campus_tune.words.errors import RecipeError
say({SAID!r})
say("red \\x1b[31mletters")
show_table(["metric", "rank correlation within"], [["length", "-0.55"], ["loss", "0.7"]])
complain(RecipeError(["`stages` must be at least 1, got 0. Write stages: 8, or leave it out and take the default.",
                      "`mix` must be at most 1, got 2."]))
"""
PLAIN = [
    f"campus: {SAID}",
    "campus: red \x1b[31mletters",
    "campus: metric  rank correlation within",
    "campus: length                    -0.55",
    "campus: loss                        0.7",
]


def in_terminal(folder: Path, width: int, **settings: str) -> InTerminal:
    return InTerminal([sys.executable, "-c", SCRIPT], folder, width=width, settings=settings)


def test_in_a_terminal_lines_are_broken_at_words_and_go_on_under_their_beginning(tmp_path: Path) -> None:
    assert in_terminal(tmp_path, 60).lines == [
        "campus: warning: `mtld` gives 64% of the rows one score:",
        "        among those, the order is a coin toss. Use another",
        "        metric.",
        r"campus: red \x1b[31mletters",
        "campus: metric  rank correlation within",
        "        length                    -0.55",
        "        loss                        0.7",
        "campus-tune: 2 problems in this recipe:",
        "  1. `stages` must be at least 1, got 0. Write stages: 8, or",
        "     leave it out and take the default.",
        "  2. `mix` must be at most 1, got 2.",
    ]


def test_a_table_that_is_too_wide_has_its_heads_broken_and_never_a_number(tmp_path: Path) -> None:
    code = 'from campus_tune.words.console import show_table\nshow_table(["metric", "of all", "rank correlation"], '
    code += '[["compression", "1500", "-0.55"], ["loss", "20 of 1500", "0.7"]])'
    assert InTerminal([sys.executable, "-c", code], tmp_path, width=43).lines == [
        "campus:                                rank",
        "        metric          of all  correlation",
        "        compression       1500        -0.55",
        "        loss        20 of 1500          0.7",
    ]
    narrow = InTerminal([sys.executable, "-c", code], tmp_path, width=40).lines  # each line is broken as it is
    assert narrow[2:4] == ["campus: compression        1500", "        -0.55"]


def test_a_single_problem_goes_on_under_itself(tmp_path: Path) -> None:
    code = "from campus_tune.words.console import complain\ncomplain(ValueError('`stages` must be at least 1, got 0.'))"
    ended = InTerminal([sys.executable, "-c", code], tmp_path, width=40)
    assert ended.lines == ["campus-tune: `stages` must be at least", "             1, got 0."]


def test_colour_is_left_out_where_it_is_not_wanted(tmp_path: Path) -> None:
    coloured, plain = in_terminal(tmp_path, 60), in_terminal(tmp_path, 60, NO_COLOR="1")
    assert "\x1b[36mcampus: " in coloured.written
    assert {"\x1b[1m", "\x1b[0m"} >= set(COMMAND.findall(plain.written))  # weights alone
    assert plain.lines == coloured.lines
    dumb = in_terminal(tmp_path, 200, TERM="dumb")
    assert dumb.written.replace("\r\n", "\n").startswith("\n".join(PLAIN))


def test_in_a_file_a_line_is_as_long_as_it_is(tmp_path: Path) -> None:
    ended = InTerminal([sys.executable, "-c", SCRIPT], tmp_path, out=False, err=False)
    assert ended.out.splitlines() == PLAIN
    assert ended.err.startswith(
        "campus-tune: 2 problems in this recipe:\n  1. `stages` must be at least 1, got 0. Write"
    )


def test_where_only_warnings_are_told_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    with VOLUME.quieted():
        say("a line on the way")
        say("warning: a warning")
        show_table(["a"], [["1"]])
        complain(RecipeError("`a` must be b, got c."))
    with VOLUME.quieted(wanted=False):
        say("as before")
    said = capsys.readouterr()
    assert said.out == "campus: warning: a warning\ncampus: as before\n"
    assert said.err == "campus-tune: `a` must be b, got c.\n"
