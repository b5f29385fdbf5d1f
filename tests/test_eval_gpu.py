"""`eval/gpu.py`: nothing is left to chance by the one that runs the checks, and each check finds what it looks for."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from campus_tune.cli.compare import read_plan
from campus_tune.cli.main import make_parser
from campus_tune.words.types import Json
from eval import gpu, gpu_checks
from eval.gpu_checks import Setting
from tests.libraries import leave_libraries_alone

WORKER = """
import json, os, sys, time
lines, names = sys.argv[2], sys.argv[3:]
with open(lines, "a") as told:
    def tell(line):
        told.write(json.dumps(line) + chr(10)); told.flush()
    tell({"begins": "machine"})
    tell({"machine": {"device": "none"}})
    for name in names:
        tell({"begins": name})
        print("doing", name, file=sys.stderr, flush=True)
        if name == "flash":
            os._exit(7)
        if name == "fp16":
            time.sleep(60)
        outcome = "not here" if name == "nccl" else "failed" if name == "reads" else "passed"
        tell({"name": name, "outcome": outcome, "said": f"{name} | said", "numbers": {}, "seconds": 0.1})
        if outcome == "failed":
            break
"""


@pytest.fixture
def watched(tmp_path: Path) -> gpu.Watched:
    """One whose processes are a script that dies in `flash`, hangs in `fp16` and stops behind `reads`, which fails."""
    (tmp_path / "worker.py").write_text(WORKER)
    return gpu.Watched([sys.executable, str(tmp_path / "worker.py")], tmp_path, time.monotonic() + 60)


# -- the one that runs them --------------------------------------------------------------------------------------------


def test_a_check_that_dies_or_hangs_or_fails_costs_only_itself(
    watched: gpu.Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(gpu.CHECKS, "fp16", 0.3)
    names = ["losses", "flash", "weights", "fp16", "reads", "nccl"]
    watched.run(names)
    assert [watched.outcomes[name]["outcome"] for name in names] == [
        "passed", "failed", "passed", "failed", "failed", "not here",
    ]  # fmt: skip
    assert watched.outcomes["flash"]["said"] == "its process ended with 7: doing flash"
    assert re.fullmatch(r"was ended after \d+ s: doing fp16", watched.outcomes["fp16"]["said"])
    assert watched.machine == {"device": "none"}


def test_what_there_is_no_time_for_is_named(watched: gpu.Watched) -> None:
    watched.until = time.monotonic()
    watched.run(["losses", "weights"])
    told = {"outcome": "left out", "said": "no time was left for it", "seconds": 0.0}
    assert watched.outcomes == {"losses": told, "weights": told}


def test_a_process_that_cannot_begin_is_told_once(tmp_path: Path) -> None:
    broken = gpu.Watched([sys.executable, "-c", "raise SystemExit('no torch')"], tmp_path, time.monotonic() + 60)
    broken.run(["losses"])
    assert broken.outcomes["machine"]["said"] == "its process ended with 1: no torch"
    assert broken.outcomes["losses"]["outcome"] == "left out"


def test_a_machine_is_looked_at_without_any_check(watched: gpu.Watched) -> None:
    watched.run([])
    assert (watched.machine, watched.outcomes) == ({"device": "none"}, {})


def test_what_lacks_is_named_and_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version = importlib.metadata.version

    def without_trl(name: str) -> str:
        if name == "trl":
            raise importlib.metadata.PackageNotFoundError
        return version(name)

    assert gpu.lacking() == []
    monkeypatch.setattr(importlib.metadata, "version", without_trl)
    monkeypatch.setattr("sys.argv", ["gpu", "--check"])
    assert gpu.main() == 1
    assert capsys.readouterr().out == "lacking: trl>=1.0,<2. Install them first: pip install -e .\n"


def write_run(folder: Path, arm: str, seed: int, loss: float, status: str = "finished") -> None:
    place = folder / "out" / "runs" / arm / f"seed-{seed}"
    place.mkdir(parents=True)
    curve = {"loss": [9.0, loss]}
    (place / "result.json").write_text(json.dumps({"arm": arm, "seed": seed, "status": status, "curve": curve}))


def test_a_comparison_that_was_cut_short_says_what_there_is(
    watched: gpu.Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gpu.comparison_so_far(tmp_path) == {"said": "no run of plain shuffling"}
    for arm, seed, loss in (("random", 0, 2.0), ("random", 1, 4.0), ("drop", 0, 1.0), ("drop", 2, 5.0)):
        write_run(tmp_path / "compare", arm, seed, loss)
    write_run(tmp_path / "compare", "oracle", 0, 1.0, "diverged")
    found = gpu.comparison_so_far(tmp_path / "compare")
    assert found["said"] == "random 3.000 nats a token; ÷ random by seed: drop 0.500"
    monkeypatch.setattr(gpu, "Watched", lambda *_: watched)
    watched.outcomes["compare"] = {"outcome": "failed", "said": "was ended after 9 s", "seconds": 9.0}
    watched.machine = {"device": "none"}
    options = argparse.Namespace(seconds=9.0, short=True, model=None, data=None, check=True)
    told = gpu.run(options, tmp_path)["checks"]["compare"]
    assert told["said"].startswith("was ended after 9 s; so far random 3.000 nats")
    assert told["numbers"]["ratios"] == {"drop": [0.5]}


def test_the_log_says_machine_counts_and_each_check(
    watched: gpu.Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "Watched", lambda *_: watched)
    out, keep = tmp_path / "out", tmp_path / "kept"
    monkeypatch.setattr("sys.argv", ["gpu", "--only", "losses", "nccl", "--out", str(out), "--keep", str(keep)])
    assert gpu.main() == 0
    told = (out / "gpu.md").read_text("utf-8")
    assert capsys.readouterr().out == told + "\n"
    assert told.splitlines()[0].endswith(" s: 1 passed, 1 not here.")
    assert "Machine: device none." in told
    assert "| losses | passed | 0 | losses / said |" in told
    found = json.loads((out / "gpu.json").read_text("utf-8"))
    assert found["checks"]["nccl"]["outcome"] == "not here"
    monkeypatch.setattr("sys.argv", ["gpu", "--only", "reads", "--keep", str(keep)])
    assert gpu.main() == 1


def test_both_sides_know_the_same_checks() -> None:
    assert [*gpu.CHECKS] == [*gpu_checks.CHECKS]
    assert all(f"    {name} " in str(gpu.__doc__) for name in gpu.CHECKS)


# -- the checks --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    leave_libraries_alone()
    return gpu_checks.make_model(tmp_path_factory.mktemp("model"), short=True)[0]


@pytest.fixture
def setting(model: str, tmp_path: Path) -> Setting:
    return Setting(model, tmp_path / "check", short=True)


@pytest.mark.parametrize("name", ["losses", "weights", "flash", "fp16", "resume", "reads", "scoring"])
def test_a_check_passes_here(name: str, setting: Setting) -> None:
    found = gpu_checks.outcome_of(name, setting)
    assert found["outcome"] == "passed", found["said"]
    json.dumps(found, allow_nan=False)


def test_losses_that_are_off_are_found(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    visits = gpu_checks.visits_of

    def off(run: Path) -> Json:
        found = visits(run)
        return {**found, "visit_nll_sum": found["visit_nll_sum"] + 0.01 * found["visit_tokens"]}

    monkeypatch.setattr(gpu_checks, "visits_of", off)
    found = gpu_checks.outcome_of("losses", setting)
    assert found["outcome"] == "failed"
    assert found["said"] == "AssertionError: float32: a row's loss is off by 0.0100 nats a token"


def test_weights_that_reach_no_gradient_are_found(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer_of = gpu_checks.trainer_of

    def unweighted(given: Setting, name: str, campus: Json, *rest: Any, **more: Any) -> Any:
        return trainer_of(given, name, {**campus, "weights": None}, *rest, **more)

    monkeypatch.setattr(gpu_checks, "trainer_of", unweighted)
    found = gpu_checks.outcome_of("weights", setting)
    assert found["outcome"] == "failed"
    assert "1 − cosine to the gradient by hand is" in found["said"]


def test_a_machine_without_what_a_check_needs_is_no_failure(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_: Setting) -> Json:
        raise gpu_checks.NotHereError("no kernel")

    monkeypatch.setitem(gpu_checks.CHECKS, "flash", nothing)
    found = gpu_checks.outcome_of("flash", setting)
    assert (found["outcome"], found["said"]) == ("not here", "no kernel")


def test_a_worker_stops_behind_what_fails(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(_: Setting) -> Json:
        raise RuntimeError("the device is gone")

    monkeypatch.setitem(gpu_checks.CHECKS, "losses", lambda _: {"said": "fine", "n": 1})
    monkeypatch.setitem(gpu_checks.CHECKS, "weights", breaks)
    lines = tmp_path / "lines.jsonl"
    given = ["--model", model, "--folder", str(tmp_path), "--lines", str(lines), "losses", "weights", "flash"]
    monkeypatch.setattr("sys.argv", ["gpu_checks", *given])
    gpu_checks.main()
    told = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [line.get("begins") or line.get("outcome") or "" for line in told] == [
        "machine", "", "losses", "passed", "weights", "failed",
    ]  # fmt: skip
    assert told[1]["machine"]["device"].startswith("CPU")
    assert told[3]["numbers"] == {"n": 1}
    assert told[5]["said"] == "RuntimeError: the device is gone"


def test_attention_row_by_row_is_one_masked_by_rows() -> None:
    lengths, heads = [3, 1, 4], 4
    random = np.random.default_rng(0)
    query, key, value = (
        torch.tensor(random.normal(size=(sum(lengths), n, 8)), dtype=torch.float32) for n in (heads, 2, 2)
    )
    ends = torch.tensor([0, 3, 4, 8])
    found = gpu_checks.by_hand(query, key, value, ends, ends, 4, 4, scale=0.3)
    row = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))
    mask = (row[:, None] == row) & torch.ones(8, 8, dtype=torch.bool).tril()
    k, v = (each.repeat_interleave(2, 1) for each in (key, value))
    odds = torch.einsum("qhd,khd->hqk", query, k).mul(0.3).masked_fill(~mask, -torch.inf).softmax(-1)
    torch.testing.assert_close(found, torch.einsum("hqk,khd->qhd", odds, v))


def test_who_waits_for_the_device_is_told_by_the_line() -> None:
    counts = Counter[str]()
    places = {"/home/x/campus_tune/run/stream/watch.py": "run/stream/watch.py:1", "/x/transformers/trainer.py": ""}
    with gpu_checks.waits_counted(counts):
        for place in places:
            code = "import warnings; warnings.warn('called a synchronizing CUDA operation')"
            for _ in range(2):
                exec(compile(code, place, "exec"), {})
        with pytest.raises(UserWarning, match="of something else"):
            warnings.warn("of something else", UserWarning, stacklevel=1)
    assert counts == {"campus_tune/run/stream/watch.py:1": 2, "": 2}


def test_torchs_own_lines_are_looked_through() -> None:
    def frame(path: str, line: int) -> traceback.FrameSummary:
        return traceback.FrameSummary(path, line, "f")

    stack = [frame("/x/transformers/trainer.py", 1), frame("/x/campus_tune/run/run.py", 2), frame("/x/torch/a.py", 3)]
    assert gpu_checks.asked_by(stack) == "campus_tune/run/run.py:2"
    assert gpu_checks.asked_by([stack[1], stack[0], stack[2]]) == ""
    assert gpu_checks.asked_by([]) == ""


def test_the_comparison_is_one_that_the_command_takes(setting: Setting) -> None:
    path, what = gpu_checks.write_comparison(setting)
    options, options.rest = make_parser().parse_known_args(["compare", "--config", str(path)])
    plan = read_plan(options)
    assert [arm.name for arm in plan.arms] == ["random", *gpu_checks.ARMS]
    assert plan.settings.seeds == (0, 1, 2)
    wrong = (path.parent / "wrong.jsonl").read_text().splitlines()
    assert len(wrong) == round(gpu_checks.SHARE * 60)
    assert what == "generated tasks"
    train, test = ((path.parent / f"{name}.jsonl").read_text().splitlines() for name in ("train", "test"))
    assert not {json.loads(row)["id"] for row in train} & {json.loads(row)["id"] for row in test}


def test_real_rows_are_taken_where_the_model_knows_something(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_checks.suspects_text, "MIX", "mix.jsonl")
    rows = [
        {"id": str(i), "domain": "d", "source": f"s{i % 3}", "messages": [
            {"role": "user", "content": f"what is {i}"}, {"role": "assistant", "content": f"it is {i} of them"}]}
        for i in range(120)
    ]  # fmt: skip
    (tmp_path / "mix.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    setting = Setting(model, tmp_path, short=True, data=str(tmp_path), knows=True)
    train, wrong, test, what = gpu_checks.compared_rows(setting)
    assert (len(train), int(wrong.sum()), len(test), what) == (60, 18, 30, "short rows of the mix")
    assert {*train[0]} == {"id", "domain", "messages"}
