"""What a person sees while a run goes on: whole lines above whole bars, in a terminal, a file and a notebook."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tqdm import std
from tqdm.auto import tqdm

from campus_tune.words import progress
from tests.notebooks import Notebook, open_notebook
from tests.terminals import InTerminal

WIDTH = 80

# The trainer's own bar as transformers makes it, its lines, a bar of ours inside of a step, and lines of ours in both.
SCRIPT = """
import time
from tqdm.auto import tqdm
from campus_tune.words.progress import bar, say

training = tqdm(total=3, dynamic_ncols=True)
for step in range(3):
    training.update(1)
    training.write(str({"loss": step}))
    for batch in bar(range(3), desc="probes", unit="batch"):
        time.sleep(0.11)
        say(f"campus: batch {batch} of step {step}" + " wide" * 20)
    say(f"campus: step {step}")
training.close()
print("campus: the end")
"""
SAID = [
    line
    for step in range(3)
    for line in [
        str({"loss": step}),
        *(f"campus: batch {batch} of step {step}" + " wide" * 20 for batch in range(3)),
        f"campus: step {step}",
    ]
] + ["campus: the end"]


def run_in_terminal(folder: Path, *, out: bool, err: bool) -> tuple[list[str], str, str]:
    """(What stands on the screen at last, what is in the file of stdout, of stderr): each goes to one of the two."""
    ended = InTerminal([sys.executable, "-c", SCRIPT], folder, width=WIDTH, out=out, err=err)
    assert ended.code == 0
    return ended.lines, ended.out, ended.err


def wrapped(lines: list[str]) -> list[str]:
    return [
        part for line in lines for start in range(0, len(line), WIDTH) if (part := line[start : start + WIDTH].rstrip())
    ]


def test_in_a_terminal_of_80_columns_every_line_stands_whole_above_the_bars(tmp_path: Path) -> None:
    seen, _, _ = run_in_terminal(tmp_path, out=True, err=True)
    assert [line for line in seen if "|" not in line] == wrapped(SAID)  # bars are gone but for the trainer's own
    (bar,) = [line for line in seen if "|" in line]
    assert "3/3" in bar


def test_lines_in_a_file_are_lines_while_the_bars_stay_in_the_terminal(tmp_path: Path) -> None:
    seen, out, _ = run_in_terminal(tmp_path, out=False, err=True)
    assert out.splitlines() == SAID
    (bar,) = seen
    assert "3/3" in bar


def test_lines_in_the_terminal_are_whole_while_the_bars_go_to_a_file(tmp_path: Path) -> None:
    seen, _, err = run_in_terminal(tmp_path, out=True, err=False)
    assert seen == wrapped(SAID)
    assert "probes" not in err  # a bar of a third of a second in a file is noise


LIBRARY = """
import logging, sys, time
from tqdm.auto import tqdm
from campus_tune.words.progress import VOLUME, bar, say, tidied

logger = logging.getLogger("a library")
logger.addHandler(logging.StreamHandler())  # to the stderr of now, as transformers does
with VOLUME.quieted(wanted="quiet" in sys.argv), tidied():
    for row in tqdm(range(3), desc="a moment"):
        pass
    with tqdm(total=2, desc="training", leave=True, delay=0) as training:
        training.update()
        logger.warning("a line of a log")
        for row in bar(range(2), desc="ours", unit="row"):
            time.sleep(0.11)
        for row in tqdm(range(2), desc="longer"):
            time.sleep(0.6)
    for row in tqdm(range(1), desc="no longer"):
        logger.warning("another line")
    for row in bar(range(1), desc="not due", unit="row", delay=9.0):
        say("a line of ours")
print("the end")
"""


def test_while_a_command_runs_full_bars_are_gone_and_what_is_logged_stands_above_those_that_are_not(
    tmp_path: Path,
) -> None:
    ended = InTerminal([sys.executable, "-c", LIBRARY], tmp_path, width=WIDTH)
    logged, bar, *lines = ended.lines
    assert (logged, *lines) == ("a line of a log", "another line", "a line of ours", "the end")
    assert bar.startswith("training:  50%")  # it was told to stay
    assert not any(bar in ended.written for bar in ("a moment", "no longer", "not due"))
    assert "longer" in ended.written
    assert "━" in ended.written  # ours, in its look


def test_in_a_file_the_bars_of_libraries_are_as_they_were(tmp_path: Path) -> None:
    ended = InTerminal([sys.executable, "-c", LIBRARY], tmp_path, out=False, err=False)
    assert "a moment: 100%" in ended.err
    assert "longer: 100%" in ended.err
    assert "ours" not in ended.err


@pytest.mark.parametrize("terminal", [True, False])
def test_where_only_warnings_are_told_nobody_draws(tmp_path: Path, terminal: bool) -> None:
    ended = InTerminal([sys.executable, "-c", LIBRARY, "quiet"], tmp_path, out=terminal, err=terminal)
    told = ended.lines if terminal else [*ended.err.splitlines(), *ended.out.splitlines()]
    assert told == ["a line of a log", "another line", "a line of ours", "the end"]


def test_what_is_changed_of_tqdm_and_of_logging_is_put_back() -> None:
    before = vars(std.tqdm)["__init__"], vars(std.tqdm)["refresh"], logging.StreamHandler.emit
    with progress.VOLUME.quieted(), progress.tidied():
        assert progress.VOLUME.quiet
        assert progress.bar(desc="a", unit="b", total=3).disable
        assert vars(std.tqdm)["__init__"] is not before[0]
    assert (vars(std.tqdm)["__init__"], vars(std.tqdm)["refresh"], logging.StreamHandler.emit) == before
    assert not progress.VOLUME.quiet


def test_a_bar_that_is_due_and_was_drawn_by_a_line_above_it_is_gone_when_it_is_closed(tmp_path: Path) -> None:
    script = (
        "import time\nfrom campus_tune.words.progress import bar, say\n"
        "with bar(desc='waits', unit='row', delay=0.1):\n    time.sleep(0.2)\n    say('a line')\n"
    )
    ended = InTerminal([sys.executable, "-c", script], tmp_path, width=WIDTH)
    assert "waits" in ended.written
    assert ended.lines == ["a line"]


def test_a_terminal_that_only_prints_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as stream:
        monkeypatch.setenv("TERM", "xterm")
        assert progress.in_terminal(stream)
        assert progress.look(stream)["colour"] == "cyan"
        monkeypatch.setenv("NO_COLOR", "1")
        assert "colour" not in progress.look(stream)
        monkeypatch.setenv("TERM", "dumb")
        assert not progress.in_terminal(stream)
        assert progress.look(stream) == {}
    os.close(ours)
    assert not progress.in_terminal(None)


def test_one_file_for_both_has_each_line_where_it_was_said(tmp_path: Path) -> None:
    script = "import sys\nfrom campus_tune.words.progress import say\n"
    script += "for n in range(3):\n    say(f'line {n}')\n    print(f'other {n}', file=sys.stderr)\n"
    with (tmp_path / "both").open("w") as file:
        subprocess.run([sys.executable, "-c", script], stdout=file, stderr=file, check=True)
    told = [line for n in range(3) for line in (f"line {n}", f"other {n}")]
    assert (tmp_path / "both").read_text("utf-8").splitlines() == told


def test_a_reader_that_has_gone_ends_no_run() -> None:
    script = "import os\nfrom campus_tune.words.progress import say\n"
    script += "for n in range(20_000):\n    say('line')\nos._exit(7)\n"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.stdout.close()
        assert writer.wait() == 7


def test_only_the_first_process_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not progress.bar(desc="a", unit="b", total=3).disable
    monkeypatch.setenv("RANK", "1")
    assert progress.bar(desc="a", unit="b", total=3).disable


# -- a notebook -------------------------------------------------------------------------------------------------------


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    return open_notebook(monkeypatch)


def test_ipython_in_a_terminal_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    shell: Any = ModuleType("IPython")
    shell.get_ipython = lambda: None
    monkeypatch.setitem(sys.modules, "IPython", shell)
    assert progress.notebook() is None
    shell.get_ipython = lambda: ModuleType("shell")
    assert progress.notebook() is None


def test_a_bar_in_a_notebook_is_one_piece_of_html_that_is_gone_at_the_end(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "REDRAW", 0.0)
    assert list(progress.bar(range(3), desc="rows of <b>", unit="row")) == [0, 1, 2]
    (pages,) = notebook.pages
    assert '<progress value="2" max="3"></progress> rows of &lt;b&gt;: 2 of 3 row' in pages[1]
    assert pages[-1] == ""
    with progress.bar(desc="tokens", unit="token", total=100) as bar:
        bar.update(40)
        assert "40 of 100" in notebook.pages[1][-1]
    assert (capfd.readouterr().out, capfd.readouterr().err) == ("", "")


def test_what_is_done_before_a_bar_would_show_draws_none(notebook: Notebook) -> None:
    assert list(progress.bar(range(3), desc="quick", unit="row", delay=60.0)) == [0, 1, 2]
    assert list(progress.bar(range(3), desc="silent", unit="row", disable=True)) == [0, 1, 2]
    assert notebook.pages == []


def test_a_table_in_a_notebook_grows_in_place_and_shows_its_last_rows_escaped(notebook: Notebook) -> None:
    table = progress.NotebookTable(progress.notebook(), ["step", "<chosen>"])
    for step in range(progress.MOST_ROWS + 2):
        table.add([str(step), "<script>alert(1)</script>"])
    (pages,) = notebook.pages
    assert len(pages) == progress.MOST_ROWS + 2
    plain = re.sub(' style="[^"]*"', "", pages[-1])
    assert "<th>&lt;chosen&gt;</th>" in plain
    assert "<td>41</td><td>&lt;script&gt;alert(1)&lt;/script&gt;</td>" in plain
    assert "2 rows before these are in the ledger" in pages[-1]
    assert "<td>1</td>" not in plain
    assert "<script>" not in "".join(pages)


def test_whoever_reads_along_may_leave_whatever_is_written_by_whomever(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", buffering=1) as pipe:
        out = progress.Unbroken(pipe)
        monkeypatch.setattr(sys, "stdout", out)
        print("one line, as transformers writes it")
        tqdm.write("another")
        progress.say("and one of ours")
        out.flush()
        assert (out.encoding, out.isatty()) == (pipe.encoding, False)


def test_a_command_goes_on_when_its_reader_has_left(tmp_path: Path) -> None:
    code = "import sys, transformers.trainer_callback as t\nimport campus_tune.cli.main as cli\n"
    code += "def run(words):\n    [print('line' * 999, flush=True) for _ in range(99)]\n    return 7\n"
    code += "cli._dispatch = run\nsys.exit(cli.main(['simulate']))"
    script = tmp_path / "script.py"
    script.write_text(code)
    ends = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert ends.stdout is not None
    ends.stdout.readline()
    ends.stdout.close()
    assert ends.wait(timeout=60) == 7
    assert ends.stderr is not None
    assert ends.stderr.read() == b""
    ends.stderr.close()
