"""What a command loads before it begins: seconds in which nothing is done yet. `eval/bench_start.py` measures them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import campus_tune
from campus_tune.cli.main import make_parser
from campus_tune.cli.options import BESIDE, COMMANDS
from tests.test_layers import HEAVY

ROOT = Path(__file__).parents[2]
CLI = {"campus_tune.cli"} | {
    f"campus_tune.cli.{name}" for name in ("answer", "exit_codes", "help_text", "main", "options", "parser")
}
SLOW = HEAVY | {"pandas", "pyarrow", "matplotlib", "scipy", "sklearn", "huggingface_hub"}
SHOW = """
import sys
from importlib import import_module
try:
    {code}
except SystemExit:
    pass
print(*sys.modules, file=sys.stderr)
"""


def loaded_by(code: str) -> set[str]:
    """Every module that a new process has loaded after `code`."""
    script = SHOW.format(code=code)
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True)
    return set(run.stderr.splitlines()[-1].split())


def foreign(modules: set[str]) -> set[str]:
    """The packages among them that are neither ours nor Python's; an editable install's finder is the installer's."""
    names = {name.split(".")[0] for name in modules if not name.startswith("__")}
    installer = {name for name in names if name.endswith("_virtualenv") or name == "distutils-precedence"}
    return names - set(sys.stdlib_module_names) - installer - {"campus_tune"}


def ours(modules: set[str]) -> set[str]:
    return {name for name in modules if name.startswith("campus_tune.")}


def test_importing_the_package_loads_none_of_its_rooms_and_no_library() -> None:
    modules = loaded_by("import campus_tune")
    assert (ours(modules), foreign(modules) - foreign(loaded_by("pass"))) == (set(), set())


def command(*words: str) -> str:
    return f'import_module("campus_tune.cli.main").main({list(words)!r})'


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["nonsense"]])
def test_help_loads_words_numpy_and_no_command(words: Sequence[str]) -> None:
    modules = loaded_by(command(*words))
    assert foreign(modules) - foreign(loaded_by("pass")) <= {"numpy"}
    assert {name for name in ours(modules) if not name.startswith("campus_tune.words")} == CLI


@pytest.mark.parametrize("words", [["check", "--help"], ["simulate", "--help"], ["demo", "--help"], ["diff", "--help"]])
def test_help_of_a_command_loads_its_own_file_and_no_other(words: Sequence[str]) -> None:
    modules = loaded_by(command(*words))
    assert ours(modules) & {f"campus_tune.cli.{name}" for name in COMMANDS} == {f"campus_tune.cli.{words[0]}"}
    assert foreign(modules) & SLOW == set()


def test_check_of_a_bare_block_asks_no_library_of_the_trainers(tmp_path: Path) -> None:
    recipe = tmp_path / "block.yaml"
    recipe.write_text("metrics: [length, mtld, loss]\nstages: 4\n", "utf-8")
    assert foreign(loaded_by(command("check", str(recipe)))) & SLOW == set()


def test_the_list_of_commands_is_what_their_own_files_say() -> None:
    whole, typed = make_parser(), make_parser(["--help"])
    assert typed.format_help() == whole.format_help()
    assert all(
        summary in " ".join(whole.format_help().split()) for name, summary in COMMANDS.items() if name not in BESIDE
    )
    files = {path.stem for path in Path(campus_tune.__file__).parent.glob("cli/*.py")}
    assert set(COMMANDS) <= files


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "sft"])
def test_the_flags_of_a_typed_command_are_all_there(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for parser in (make_parser(), make_parser([name, "--help"]), make_parser(["--debug", name])):
        with pytest.raises(SystemExit):
            parser.parse_args([name, "--help"])
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] == said[2]
    assert "--help" in said[0]


def test_an_unknown_command_is_answered_with_all_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        make_parser(["chekc"]).parse_args(["chekc"])
    said = capsys.readouterr().err
    assert all(repr(name) in said or name in said for name in COMMANDS)


def test_public_names_are_found_when_they_are_first_used_and_shown_before() -> None:
    assert set(campus_tune.__all__) <= set(dir(campus_tune))
    assert [getattr(campus_tune, name).__name__ for name in campus_tune.__all__] == campus_tune.__all__
    with pytest.raises(AttributeError, match="module 'campus_tune' has no attribute 'Curiculum'"):
        _ = campus_tune.Curiculum
