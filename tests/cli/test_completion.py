"""`campus-tune completion`: a real bash asks what may follow, and is answered without the trainer's libraries."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from campus_tune.cli.completion import SHELLS, block_settings, explained, values_of
from campus_tune.cli.main import main
from campus_tune.cli.options import TRAINERS
from campus_tune.cli.trl_names import trl_fields
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.trl_yaml import trl_parser
from tests.test_layers import HEAVY

ROOT = Path(__file__).parents[2]
BASH = """
source <(campus-tune completion bash)
while IFS= read -r COMP_LINE; do
  COMP_POINT=${#COMP_LINE}; COMP_TYPE=9; COMP_WORDS=($COMP_LINE)
  [[ "$COMP_LINE" == *" " ]] && COMP_WORDS+=("")
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
  _python_argcomplete campus-tune "${COMP_WORDS[$COMP_CWORD]}" ""
  echo "${COMPREPLY[@]}"
done
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, a run and the command."""
    folder = tmp_path_factory.mktemp("shell")
    command = folder / "bin" / "campus-tune"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m campus_tune "$@"\n', "utf-8")
    command.chmod(0o755)
    for name in ("recipe.yaml", "rows.jsonl"):
        (folder / name).touch()
    (folder / "runs").mkdir()
    return folder


def ask(place: Path, *lines: str) -> list[list[str]]:
    """What bash would offer at the end of each line."""
    path = f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    typed = "".join(f"campus-tune {line}\n" for line in lines)
    done = subprocess.run(
        ["bash", "-c", BASH], cwd=place, env=environment, input=typed, capture_output=True, text=True, check=True
    )
    return [line.split() for line in done.stdout.splitlines()]


def test_commands_flags_recipes_settings_and_parts_are_completed(place: Path) -> None:
    found = ask(
        place,
        "si",
        "eval lo",
        "simulate --epo",
        "report --wat",
        "simulate --config re",
        "sft re",
        "sft --config recipe.yaml --learning_r",
        "sft --config recipe.yaml --campus.cov",
        "sft --config recipe.yaml --campus.coverage ",
        "sft --config recipe.yaml --campus.selector mat",
        "compare --config recipe.yaml --compare.spe",
        "report r",
        "simulate --pacing lin",
        "explain suspects.bound.by_d",
        "list metr",
        "guide sta",
    )
    assert found == [
        ["simulate"],
        ["loss"],
        ["--epochs"],
        ["--watch"],
        ["recipe.yaml"],
        ["recipe.yaml"],
        ["--learning_rate"],
        ["--campus.coverage"],
        ["exact", "revisit"],
        ["matched"],
        ["--compare.speedup"],
        ["runs/"],
        ["linear"],
        ["suspects.bound.by_domain"],
        ["metrics"],
        ["start"],
    ]


@pytest.mark.parametrize("line", ["campus-tune sft --campus.se", "campus-tune score --learn", "campus-tune "])
def test_no_library_of_the_trainers_is_loaded_at_a_tab(line: str, tmp_path: Path) -> None:
    script = (
        "import os, sys, atexit\n"
        f"import argcomplete; argcomplete.CompletionFinder.__call__.__defaults__\n"
        "end = os._exit\n"
        f"os._exit = lambda code: (print(*(set(sys.modules) & {HEAVY!r}), file=sys.stderr), end(code))\n"
        "from functools import partial\n"
        "argcomplete.autocomplete = partial(argcomplete.autocomplete, exit_method=os._exit)\n"
        "from campus_tune.cli.main import main; main()\n"
    )
    out = tmp_path / "out"
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"}
    environment = {**os.environ, **asked, "_ARGCOMPLETE_STDOUT_FILENAME": str(out), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""
    assert out.read_text("utf-8")


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_its_code(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    code = capsys.readouterr().out
    assert "campus-tune" in code
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=code, text=True, check=True)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_the_fields_of_trl_are_read_as_its_parser_has_them(trainer: str) -> None:
    known = {action.dest for action in trl_parser(trainer)._actions} - {"help"}
    assert set(trl_fields(trainer)) == known
    assert known <= set(trl_fields())


def test_every_setting_and_what_it_may_be() -> None:
    settings = block_settings("campus")
    assert set(settings) == {CampusConfig.key(name) for name in CampusConfig.known()}
    assert list(values_of(settings["window"])) == ["prefix", "slice"]
    assert {"length", "mtld"} <= set(values_of(settings["metrics"]))
    assert {"campus.stages", "mtld", "simulate", "robust"} <= set(explained())
