"""Every code block of the README and the guide: bash is parsed and run where that is cheap, Python is run, YAML read.

All of it in one folder such as a user has: rows, probes and test rows, a tiny random model in the place of the hub's,
the recipe of the page `start`, and two finished runs.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from campus_tune.cli.main import main, make_parser
from campus_tune.cli.suspects import run_of
from campus_tune.compare.settings import CompareSettings
from campus_tune.data.shapes import Shape, columns_read
from campus_tune.metrics import METRICS
from campus_tune.recipe.config import CampusConfig
from campus_tune.run.ledger import read_ledger
from tests.guide.blocks import PAGES, ROOT, all_blocks, blocks, commands, name_of, words_of
from tests.run.tiny_run import task_rows

HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
CHEAP = {
    "check",
    "demo",
    "diff",
    "explain",
    "guide",
    "init",
    "list",
    "probes",
    "report",
    "score",
    "simulate",
    "suspects",
}
TINY = {"bf16": False, "use_cpu": True, "report_to": "none", "save_strategy": "no", "per_device_train_batch_size": 8}
CPU = "use_cpu=True, bf16=False, report_to='none', save_strategy='no'"
GUIDE = ROOT / "campus_tune/guide"
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # what trl and transformers say to each other


@pytest.fixture(autouse=True, scope="module")
def _no_pages() -> Iterator[None]:
    """Drawing takes longer than these runs do; `campus-tune report` draws one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("campus_tune.report.callback.report_on", lambda _: None)
        patch.setattr("campus_tune.demo.sums._WARM_STEPS", 2)
        yield


# -- the folder of a user ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where all blocks run: `recipe.yaml` of the page `start`, trained as `runs/mine`; another, `runs/other`."""
    from campus_tune.demo.tiny import write_tiny

    folder = tmp_path_factory.mktemp("guide")
    here = os.getcwd()
    os.chdir(folder)
    rows = {"train": task_rows(40), "probes": task_rows(25, seed=77), "test": task_rows(40, seed=5)}
    rows["rows"] = task_rows(100, seed=9)
    for name, some in rows.items():
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some), "utf-8")
    write_tiny(folder / "model")
    recipe = yaml.safe_load(blocks(GUIDE / "start.md", "yaml")[0])
    ordered = yaml.safe_load(blocks(GUIDE / "choosing.md", "yaml")[0])
    settings = {**recipe, **TINY, "model_name_or_path": "model", "logging_steps": 1, "lora_r": 2}
    judged = {"test": {"path": "test.jsonl"}, "seeds": 2, "arms": ["recipe", "random"], "points": 2}
    Path("recipe.yaml").write_text(yaml.safe_dump({**settings, "compare": judged}), "utf-8")
    other = {
        **settings,
        "output_dir": "runs/other",
        "num_train_epochs": 1,
        "campus": {**ordered["campus"], "budget": 3},
    }
    Path("other.yaml").write_text(yaml.safe_dump(other), "utf-8")
    assert main(["sft", "--config", "recipe.yaml"]) == 0
    assert main(["sft", "--config", "other.yaml"]) == 0
    yield folder
    os.chdir(here)


# -- bash --------------------------------------------------------------------------------------------------------------


def parsed(words: list[str]) -> None:
    """Take a command as the command line would; fails where it would not."""
    if words[0] in ("sft", "grpo", "rloo"):  # their flags are trl's
        from campus_tune.cli.launch import read_launch
        from campus_tune.recipe.trl_yaml import read_arguments

        at = words.index("--config") + 1
        files = [str(ROOT / word) if word.startswith("recipes/") else word for word in words]
        plan = read_launch(files)
        assert read_arguments(plan.words[1:] if plan else files[1:])[0]["use_peft"], words[at]
        return
    options, rest = make_parser().parse_known_args(words)
    if words[0] == "suspects" and options.config is None:  # whose RUN is among what it hands on
        assert run_of(rest, judges=options.judge)
    else:
        assert not rest or options.takes_rest


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("page", "line"), commands(), ids=lambda value: value)
def test_every_command_is_one_that_is_there(page: str, line: str) -> None:
    program, *words = words_of(line)
    if (program, *words[:3]) == ("accelerate", "launch", "-m", "campus_tune"):
        program, words = "campus-tune", words[3:]
    if program == "campus-tune":
        parsed(words)
    elif (program, words[0]) == ("pip", "install"):
        assert set(re.findall(r"\[(\w+)\]", line)) <= set(EXTRAS)
    elif (program, words[0]) == ("python", "-m"):
        assert importlib.util.find_spec(words[1]) is not None
    else:
        assert program == "bash", f"{page}: {line}"
        assert (ROOT / words[0]).exists()


def runs() -> list[str]:
    """The commands that take a moment, without those that ask a person or need what was not made."""
    lines = {line for _, line in commands() if line.startswith("campus-tune ")}
    cheap = [line for line in sorted(lines) if words_of(line)[1] in CHEAP and "recipes/" not in line]
    return [line.replace(" --open", "") for line in cheap if "--judge" not in line]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("line", runs())
def test_a_cheap_command_does_what_is_said(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    for said, here in (
        (HUB, "model"),
        ("runs/on_two", "runs/other"),
        ("runs/sums/run", "runs/mine"),
        ("--out recipe.yaml", "--out first.yaml --yes"),
    ):
        line = line.replace(said, here)
    words = words_of(line)[1:]
    code = main(words)
    assert code in ((0, 1) if words[0] == "diff" else (0,)), capsys.readouterr().err
    assert capsys.readouterr().out


def test_most_commands_were_run() -> None:
    assert len(runs()) >= 10


# -- Python ------------------------------------------------------------------------------------------------------------


WITH_PYTHON = [  # the page `helps` makes a comparison
    pytest.param(page, id=name_of(page), marks=pytest.mark.slow if page.stem == "helps" else ())
    for page in PAGES
    if blocks(page, "python")
]


@pytest.fixture
def _parts_forgotten() -> Iterator[None]:
    yield
    if "commas" in METRICS.names():
        METRICS.forget("commas")


@pytest.mark.usefixtures("folder", "_parts_forgotten")
@pytest.mark.parametrize("page", WITH_PYTHON)
def test_the_python_of_a_page_runs_from_its_top_to_its_end(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks(page, "python"):
        code = re.sub(r'(SFT|GRPO)Config\(("[^"]+")', rf"\1Config(\2, {CPU}", block.replace(HUB, "model"))
        exec(compile(code, str(page), "exec"), {"__name__": f"guide_{page.stem}"})
    if page.stem in ("README", "start"):
        assert "order audit: all " in (said := capsys.readouterr().out)
        assert "campus: cost:" in said


# -- YAML and JSON -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [block for _, block in all_blocks("yaml")])
def test_every_yaml_is_taken_by_the_reader(block: str) -> None:
    from campus_tune.compare.search.settings import SearchSettings
    from campus_tune.recipe.trl_yaml import parse_trl, trainer_asked

    settings = yaml.safe_load(block)
    trainer = trainer_asked(settings)
    campus = settings.pop("campus", None)
    compare, search = settings.pop("compare", None), settings.pop("search", None)
    if campus is not None:
        CampusConfig.from_mapping(campus)
    if compare is not None:
        CompareSettings.from_mapping(compare)
    if search is not None:
        SearchSettings.from_mapping(search)
    if settings:
        _, problems = parse_trl(settings, ["--bf16", "false"], trainer=trainer)  # tests have no GPU
        assert problems == []


def test_the_rows_that_are_shown_are_of_shapes_that_trl_trains() -> None:
    rows = [json.loads(line) for line in blocks(GUIDE / "data.md", "json")[0].splitlines()]
    assert [columns_read(row, list(row), Shape()) is not None for row in rows] == [True] * 3


def missing(shown: dict[str, Any], real: dict[str, Any]) -> list[str]:
    """Keys of `shown`, at any depth, that `real` does not have."""
    absent = [key for key in shown if key not in real]
    for key, value in shown.items():
        if isinstance(value, dict) and key in real:
            absent += missing(value, real[key])
    return absent


def test_every_key_of_the_ledger_lines_is_in_a_real_ledger(folder: Path) -> None:
    real = {event["event"]: event for event in read_ledger(folder / "runs/other/curriculum/ledger.jsonl")}
    shown = [
        json.loads(line) for page in ("ledger", "cost") for line in blocks(GUIDE / f"{page}.md", "json")[0].splitlines()
    ]
    assert set(real) <= {event["event"] for event in shown}
    assert len(set(real)) >= 8
    for event in shown:
        if event["event"] in real:
            assert missing(event, real[event["event"]]) == []


def test_the_ledger_page_shows_one_line_of_every_event() -> None:
    from campus_tune.run.told import events as told_events

    shown = [json.loads(line)["event"] for line in blocks(GUIDE / "ledger.md", "json")[0].splitlines()]
    kinds = [kind for kind in vars(told_events).values() if isinstance(kind, type) and hasattr(kind, "name")]
    assert sorted(shown) == sorted(kind.name for kind in kinds if issubclass(kind, told_events.Event))


@pytest.mark.usefixtures("folder")
def test_what_check_says_of_alpaca_is_what_the_page_shows(capsys: pytest.CaptureFixture[str]) -> None:
    Path("alpaca.json").write_text(json.dumps([{"instruction": "Add.", "input": "2 2", "output": "4"}] * 8), "utf-8")
    settings = yaml.safe_load(Path("recipe.yaml").read_text("utf-8"))
    Path("alpaca.yaml").write_text(yaml.safe_dump({**settings, "dataset_name": "alpaca.json"}), "utf-8")
    assert main(["check", "alpaca.yaml"]) == 1
    (shown,) = blocks(GUIDE / "data.md", "text")
    assert " ".join(shown.split()).removesuffix(" …") in " ".join(capsys.readouterr().out.split())
