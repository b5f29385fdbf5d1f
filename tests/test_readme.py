"""The README says what is so: its code runs, its files and commands exist, its tables list what there is."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from campus_tune.cli.main import make_parser
from campus_tune.cli.suspects import run_of
from campus_tune.demo.tasks import write_tasks
from campus_tune.method.pacing import PACINGS
from campus_tune.method.selectors import SELECTORS
from campus_tune.method.thin import THINNERS
from campus_tune.metrics import METRICS
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.reader import rows
from campus_tune.run.ledger import read_ledger
from campus_tune.run.told import events as told_events

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
CONTRIBUTING = (ROOT / ".github/CONTRIBUTING.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def table(first_column: str) -> dict[str, list[str]]:
    """The rows of the table whose first heading is `first_column`: first cell without backticks → the other cells."""
    lines = README.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first_column} |")) + 2
    rows: dict[str, list[str]] = {}
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        first, *others = [cell.strip() for cell in line.strip("|").split(" | ")]
        rows[first.strip("` ")] = others
    return rows


def source_strings() -> str:
    """Every string of the package, the parts of f-strings joined, one behind the other."""
    texts = []
    for path in (ROOT / "campus_tune").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


@pytest.fixture(scope="module")
def script_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(folder, output) of the README's script, on few rows and a tiny random model where SmolLM2 would be."""
    from campus_tune.demo.tiny import write_tiny

    folder = tmp_path_factory.mktemp("readme")
    write_tasks(folder / "runs/quickstart/data", rows_per_cell=1, probes_per_cell=1)
    write_tiny(folder / "runs/quickstart/model")
    (script,) = blocks("python")
    told = '"budget": 0.6'  # of 38 steps; the seven of these rows would pay for no probes
    assert told in script
    (folder / "script.py").write_text(script.replace(told, '"budget": 3'), "utf-8")
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_DATASETS_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done.stdout


@pytest.mark.slow
def test_the_script_trains_under_a_curriculum_with_audit_and_cost(script_run: tuple[Path, str]) -> None:
    _, output = script_run
    assert "campus: order audit: all 7 steps trained the planned rows, tokens and labels" in output
    assert "campus: cost:" in output
    assert "competence on the probes, before → after: arithmetic" in output


@pytest.mark.slow
def test_every_key_of_the_ledger_lines_is_in_a_real_ledger(script_run: tuple[Path, str]) -> None:
    events = read_ledger(script_run[0] / "runs/script/curriculum/ledger.jsonl")
    real = {event["event"]: event for event in events}
    shown = [json.loads(line) for line in blocks("json")[0].splitlines()]
    assert set(real) <= {event["event"] for event in shown}
    for event in shown:
        if event["event"] in real:
            assert missing(event, real[event["event"]]) == []


def missing(shown: dict[str, Any], real: dict[str, Any]) -> list[str]:
    """Keys of `shown`, at any depth, that `real` does not have."""
    absent = [key for key in shown if key not in real]
    for key, value in shown.items():
        if isinstance(value, dict) and key in real:
            absent += missing(value, real[key])
    return absent


def test_the_ledger_lines_show_one_of_every_event_that_is_written() -> None:
    shown = [json.loads(line)["event"] for line in blocks("json")[0].splitlines()]
    kinds = [kind for kind in vars(told_events).values() if isinstance(kind, type) and hasattr(kind, "name")]
    assert sorted(shown) == sorted(kind.name for kind in kinds if issubclass(kind, told_events.Event))


def test_the_script_has_hardly_more_than_fifteen_lines() -> None:
    (script,) = blocks("python")
    assert len([line for line in script.splitlines() if line.strip()]) <= 17


@pytest.mark.filterwarnings("ignore::FutureWarning")  # what trl and transformers say to each other
def test_the_yaml_block_is_a_recipe_that_trl_and_we_take() -> None:
    from campus_tune.recipe.trl_yaml import parse_trl

    settings = yaml.safe_load(blocks("yaml")[0])
    config = CampusConfig.from_mapping(settings.pop("campus"))
    (script, training, model, _), problems = parse_trl(settings, ["--bf16", "false"])  # tests have no GPU
    assert problems == []
    assert config.labels == ("length", "mtld", "loss")
    assert (script.dataset_name, training.output_dir, model.use_peft) == ("./train.jsonl", "runs/mine", True)


def test_the_first_two_commands_are_the_quickstart_and_the_tests() -> None:
    assert blocks("bash")[0].splitlines() == ["bash recipes/quickstart.sh", "bash tests/run.sh"]


@pytest.mark.parametrize("line", blocks("bash")[1].splitlines())
def test_every_command_is_one_that_the_command_line_takes(line: str) -> None:
    program, subcommand, *flags = shlex.split(line)
    assert program == "campus-tune"
    if subcommand == "sft":  # its flags are trl's
        from campus_tune.cli.launch import read_launch
        from campus_tune.recipe.trl_yaml import read_arguments

        words = [str(ROOT / flag) if "/" in flag else flag for flag in flags]
        plan = read_launch([subcommand, *words])
        settings, block, others = read_arguments(plan.words[1:] if plan else words)
        assert settings["use_peft"]
        assert block is not None
        if plan:
            assert plan.flags["num_processes"] == "2"
        else:
            assert block["stages"] == 5
            assert others == ["--learning_rate", "1e-4"]
    elif subcommand == "suspects":  # whose RUN is among what it hands on
        options, rest = make_parser().parse_known_args([subcommand, *flags])
        assert run_of(rest, judges=options.judge) == Path("runs/quickstart/run")
    else:
        assert make_parser().parse_args([subcommand, *flags]).command


def test_every_file_it_names_is_there() -> None:
    named = set(re.findall(r"(?<![\w/])((?:campus_tune|recipes|eval|tests|\.github)/[\w./-]*\w)", README))
    assert len(named) > 15
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_settings_table_is_what_the_class_says() -> None:
    shown = [(name, cells[0].strip("`"), cells[1]) for name, cells in table("setting").items()]
    assert shown == [(row.name, row.default, row.must) for row in rows(CampusConfig)]


def test_the_blocks_of_who_is_drawn_and_which_rows_are_read_as_they_stand() -> None:
    block = next(text for text in blocks("yaml") if "phases:" in text)
    config = CampusConfig.from_mapping(yaml.safe_load(block)["campus"])
    assert config.draws_apart
    assert len(config.phases or ()) == 2


@pytest.mark.parametrize(
    ("heading", "registry"),
    [("metric", METRICS), ("selector", SELECTORS), ("pacing", PACINGS), ("thinner", THINNERS)],
)
def test_a_table_lists_exactly_what_is_registered(heading: str, registry: Any) -> None:
    assert sorted(table(heading)) == sorted(registry.names())


@pytest.mark.parametrize("phrase", list(table("it says")))
def test_every_message_it_explains_is_one_that_we_give(phrase: str) -> None:
    assert phrase in source_strings()


def test_it_stays_readable_and_finished() -> None:
    assert len(README.splitlines()) < 430
    assert not re.search(r"TODO|FIXME|/work/|/home/", README)


def test_the_way_of_a_batch_leads_through_files_that_are_there_and_are_as_long_as_is_said() -> None:
    way = CONTRIBUTING[CONTRIBUTING.index("## One batch") : CONTRIBUTING.index("## What we like")]
    files = sorted(set(re.findall(r"`(\w+(?:/\w+)*\.py)`", way)))
    lines = sum(len((ROOT / "campus_tune" / file).read_text("utf-8").splitlines()) for file in files)
    said_files, said_lines = map(int, re.findall(r"(\d+) files and (\d+) lines", way)[0])
    assert len(files) == said_files < 25
    assert abs(lines - said_lines) < 200  # a number that is looked at now and then


def test_the_picture_is_small_enough_to_load_with_the_page() -> None:
    picture = ROOT / ".github/run.png"
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert picture.stat().st_size < 200_000


def test_the_changes_name_the_version_of_the_package_first() -> None:
    from campus_tune import __version__

    changes = (ROOT / "campus_tune/CHANGES.md").read_text("utf-8")
    assert re.findall(r"^## (\S+)", changes, flags=re.MULTILINE)[0] == __version__
