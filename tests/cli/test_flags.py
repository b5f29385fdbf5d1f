"""The same flags everywhere: what each command takes, that it says so on a page, and that one word means one thing."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from campus_tune.cli.main import in_full, main, make_parser
from campus_tune.cli.options import BESIDE, COMMANDS, TAKE_A_RECIPE
from campus_tune.cli.parser import CommandParser

SHARED = ("--config", "--out", "--json", "--data", "--model", "--seeds", "--seed", "--test", "--jobs", "--top")
# Which of these a command has itself; of those that train, TRL's --model, --data, --out and --seed come beside.
TABLE = {
    "sft": "",
    "simulate": "--config --json --seed",
    "check": "--config --json",
    "score": "--config --out --json",
    "proxy": "--config --out --json --model",
    "compare": "--config --out --json --seeds --test --jobs",
    "ablate": "--config --out --json --model --seeds --test --jobs",
    "search": "--config --out --json --seeds --jobs",
    "report": "--out --json",
    "suspects": "--config --out --json --data --top",
    "value": "--config --out --json --model --seeds --test --jobs --top",
    "eval": "--out --json --data --model",
    "eval loss": "--out --json --model --test",
    "eval compare": "--json",
    "eval check-data": "--json",
    "schema": "--out --json",
    "diff": "--json",
    "demo tasks": "--out --json --seed",
    "demo model": "--out --json",
    "demo sums": "--out --json --seed",
    "completion": "",
    "guide": "--json",
    "explain": "--json",
    "list": "--json",
}
METAVARS = {  # what stands behind a shared flag, whatever the command
    "--config": {"YAML"},
    "--out": {"DIR", "FILE", "YAML"},
    "--seeds": {"N"},
    "--test": {"FILE", "N"},  # held-out rows: where they are, or how many are cut off
    "--jobs": {"N"},
    "--top": {"N"},
    "--model": {None, "NAME"},
}


def parsers() -> Iterator[tuple[str, CommandParser]]:
    """Every command and every part of one, by what is typed."""

    def below(name: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, CommandParser]]:
        assert isinstance(parser, CommandParser)
        yield name, parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for part, inner in action.choices.items():
                    yield from below(f"{name} {part}".strip(), inner)

    yield from below("", make_parser())


PARSERS = dict(parsers())


@pytest.mark.parametrize("name", TABLE)
def test_the_shared_flags_of_each_command_are_those_of_the_table(name: str) -> None:
    assert {flag for flag in SHARED if flag in PARSERS[name]._option_string_actions} == set(TABLE[name].split())


@pytest.mark.parametrize("name", PARSERS)
def test_a_shared_flag_is_followed_by_the_same_thing_everywhere(name: str) -> None:
    for flag, metavars in METAVARS.items():
        action = PARSERS[name]._option_string_actions.get(flag)
        assert action is None or action.metavar in metavars, flag


@pytest.mark.parametrize("name", PARSERS)
def test_help_is_a_page_of_forty_lines_with_an_example_and_fits_80_columns(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        main([*name.split(), "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 40
    assert [line for line in lines if len(line) > 80] == []
    assert "example:" in lines
    assert lines[lines.index("example:") + 1].startswith(f"  campus-tune {name}".rstrip())


@pytest.mark.parametrize("name", [name for name, parser in PARSERS.items() if parser.rare or parser.more])
def test_help_all_has_the_flags_that_help_only_names(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for flag in ("--help", "--help-all"):
        with pytest.raises(SystemExit, match="0"):
            main([*name.split(), flag])
        said.append(capsys.readouterr().out)
    short, whole = said
    rare = PARSERS[name].rare
    assert set(rare) <= set(PARSERS[name]._option_string_actions)
    assert "More with --help-all" in " ".join(short.split())
    assert all(f"\n  {flag}" not in short and f"\n  {flag}" in whole for flag in rare)
    more = "".join(PARSERS[name].more.split())
    assert more in "".join(whole.replace("\\\n", " ").split())


def test_without_arguments_it_shows_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert all(f"\n    {command} " in err for command in COMMANDS if command not in BESIDE)
    assert all(f"also: {command}\n" in err for command in BESIDE)


# -- one word, one meaning ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", TAKE_A_RECIPE)
def test_a_recipe_may_follow_the_name_of_a_command(command: str) -> None:
    assert in_full([command, "a.yaml", "--x"]) == [command, "--config", "a.yaml", "--x"]
    assert in_full([command, "--config", "a.yaml"]) == [command, "--config", "a.yaml"]
    assert in_full([command, "run"]) == [command, "run"]


def test_trls_names_of_the_model_the_rows_and_the_folder_are_short_where_the_command_has_none() -> None:
    words = ["--model", "m", "--data=d", "--out", "o"]
    assert in_full(["sft", *words]) == ["sft", "--model_name_or_path", "m", "--dataset_name=d", "--output_dir", "o"]
    assert in_full(["compare", *words]) == ["compare", "--model_name_or_path", "m", "--dataset_name=d", "--out", "o"]
    assert in_full(["suspects", *words]) == ["suspects", *words]
    assert in_full(["eval", *words]) == ["eval", *words]


def test_a_flag_has_hyphens_or_underscores(tmp_path: Path) -> None:
    for flag in ("--rows-per-cell", "--rows_per_cell", "--rows_per-cell"):
        assert main(["demo", "tasks", "--out", str(tmp_path / flag), f"{flag}=1"]) == 0
    files = [(tmp_path / flag / "train.jsonl").read_text() for flag in ("--rows-per-cell", "--rows_per_cell")]
    assert files[0] == files[1]
    parser = PARSERS["eval"]
    assert parser.parse_known_args(["--batch-size", "4"])[0].batch_size == 4
    assert parser.parse_known_args(["--trust-remote-code"])[0].trust_remote_code


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chekc"], "Did you mean 'check'?"),
        (["simulate", "--rwos", "5"], "Did you mean '--rows'?"),
        (["eval", "compare", "--mardown", "x", "y"], "Did you mean '--markdown'?"),
        (["eval", "--modle", "x"], "Did you mean '--model'?"),
        (["eval", "chek-data", "x"], "Did you mean 'check-data'?"),
        (["compare", "--config", "r.yaml", "--seedz", "3"], "Did you mean '--seeds'?"),
        (["search", "--config", "r.yaml", "--trails", "3"], "Did you mean '--trials'?"),
        (["compare"], "required: --config. For example: campus-tune compare --config"),
        (["--json", "list"], "arguments: --json. Write --json behind `campus-tune list`."),
        (["simulate", "--model", "x"], "unrecognized arguments: --model x.\n"),
        (["sft"], "`sft` must be given a recipe, got none. Write: campus-tune sft recipe.yaml"),
        (["demo"], "required: PART. For example: campus-tune demo tasks --out data"),
    ],
)
def test_what_is_misspelt_or_missing_is_answered_with_what_was_probably_meant(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(words)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) <= 3


def test_a_flag_of_trls_that_is_nearly_ours_is_trls(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[list[str]] = []
    monkeypatch.setattr("campus_tune.cli.search.main", lambda options: told.append(options.rest) or 0)
    assert main(["search", "--config", "r.yaml", "--seed", "3"]) == 0  # nearly --seeds
    assert told == [["--seed", "3"]]


def test_simulate_and_demo_and_schema_answer_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["demo", "tasks", "--out", str(tmp_path), "--rows-per-cell", "1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {name: Path(file).exists() for name, file in said["files"].items()} == dict.fromkeys(said["files"], True)
    assert main(["schema", "suite", "--json", "--out", str(tmp_path / "s.json")]) == 0
    assert json.loads(capsys.readouterr().out)["out"] == str(tmp_path / "s.json")
    assert main(["schema", "suite", "--json"]) == 0
    printed = capsys.readouterr().out
    assert main(["schema", "suite"]) == 0
    assert capsys.readouterr().out == printed == (tmp_path / "s.json").read_text()
    assert main(["demo", "model", "--tiny", "--out", str(tmp_path / "tiny"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"out": str(tmp_path / "tiny"), "tiny": True}
    monkeypatch.setattr("campus_tune.demo.sums._WARM_STEPS", 2)
    assert main(["demo", "sums", "--out", str(tmp_path / "sums"), "--prompts-per-cell", "2", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["model"] == str(tmp_path / "sums/model")
    assert Path(said["files"]["train"]).read_text().count("\n") == 30
    asked = ["simulate", "--rows", "400", "--metrics", "length"]
    assert main([*asked, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert main(asked) == 0
    assert f"{plan['total_steps']} steps of {plan['global_batch']} rows" in capsys.readouterr().out
