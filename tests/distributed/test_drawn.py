"""Runs that draw by a book, on many ranks: each keeps one of its own, and all of them draw the same rows."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from campus_tune.words.types import Json
from tests.distributed.ranks import Kill, Report, Warm
from tests.distributed.told import choices, first_difference, last_step, lines, outcome, steps_of

RECIPE: Json = {
    "metrics": ["length"],
    "stages": 3,
    "mix": 0.25,
    "handover": 0.8,
    "budget": 1.0,
    "thin": {"how": "rank", "by": "seen_loss", "keep": 0.5},
    "review": {"share": 0.2},
    "domains": {"shares": {"temperature": 2}},
}
FRESH: Json = {**RECIPE, "thin": {"how": "top", "by": "seen_loss", "keep": 0.5, "fresh": True}}
BATCH, STEPS = 8, 16
RUN: Json = {"n": 60, "num_train_epochs": 2, "dropout": False}


def live(warm: Warm, world: int, out: str, **more: Any) -> Report:
    """One life of a run, on so many processes."""
    settings = {**RUN, "config": RECIPE, "per_device_train_batch_size": BATCH // world, **more}
    return warm.run("train", world, out=out, resume=Path(out).exists(), **settings)


@pytest.fixture(scope="module")
def calm(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Report]:
    """The run on two processes, undisturbed: where it is, and what it told."""
    out = str(tmp_path_factory.mktemp("calm") / "run")
    return out, live(warm, 2, out).ok


def book_of(out: str) -> Json:
    table: Json = parquet.read_table(Path(out) / "curriculum" / "book.parquet").to_pydict()
    return table


@pytest.mark.parametrize("worlds", [(1, 2, 1), (2, 1)], ids=str)
def test_the_same_rows_are_drawn_on_another_number_of_processes(
    warm: Warm, calm: tuple[str, Report], tmp_path: Path, worlds: tuple[int, ...]
) -> None:
    out, stops = str(tmp_path / "run"), [8, 13]  # inside a stage, and some steps after the checkpoint
    lives = []
    for place, world in enumerate(worlds):
        stop = stops[place] if place + 1 < len(worlds) else None
        lives.append(live(warm, world, out, stop=stop, saves=[7, 12]).ok)
    assert [life.results[0]["first"] for life in lives] == [0, 7, 12][: len(worlds)]
    assert steps_of(*lives) == steps_of(calm[1])
    assert len(steps_of(*lives)) == STEPS
    assert choices(out) == choices(calm[0])
    assert [line["world"] for line in lines(out, "resumed")] == [
        {"before": a, "now": b} for a, b in itertools.pairwise(worlds)
    ]
    ours, theirs = book_of(out), book_of(calm[0])
    assert ours.keys() == theirs.keys()
    for name in ("row", "cell", "visits", "step", "stage", "interval"):
        assert ours[name] == theirs[name], name
    for name in ("last", "best", "surprise", "excess"):
        pairs = [[math.nan if value is None else value for value in table[name]] for table in (ours, theirs)]
        assert pairs[0] == pytest.approx(pairs[1], rel=1e-3, abs=1e-4, nan_ok=True), name

    assert map_of(out) == map_of(calm[0])


def map_of(out: str) -> Json:
    """What must be the same of the maps of one run on any number of processes, and the list of the likeliest rows."""
    book = Path(out) / "curriculum" / "book"
    table = parquet.read_table(book / "map.parquet").to_pydict()
    names = ("row", "content", "key", "domain", "cell", "region", "visits", "first_step", "last_step", "suspect")
    likeliest = [json.loads(line) for line in (book / "likeliest.jsonl").read_text("utf-8").splitlines()]
    kept = [
        {name: line.get(name) for name in ("row", "key", "answer", "said", "rather", "before")} for line in likeliest
    ]
    return {**{name: table[name] for name in names}, "likeliest": kept}


def test_rows_that_look_wrong_are_left_out_on_every_rank(warm: Warm, tmp_path: Path) -> None:
    config = {**RECIPE, "drop": [{"by": "suspects", "act": "always", "from": 0.3}], "coverage": "exact"}
    del config["thin"], config["review"]
    runs = {world: str(tmp_path / f"on {world}") for world in (1, 2)}
    reports = {world: live(warm, world, out, config=config, num_train_epochs=3).ok for world, out in runs.items()}
    told = {world: lines(out, "suspects") for world, out in runs.items()}
    assert told[1] == told[2]
    assert told[1][0]["dropped"] == 12
    assert steps_of(reports[1]) == steps_of(reports[2])
    (acted,), trained = told[2], steps_of(reports[2])
    late = {row for step, rows in trained.items() if step >= acted["step"] for row in rows}
    assert not late & set(acted["rows"])
    assert {row for rows in trained.values() for row in rows} == set(range(60))


def test_what_waits_for_a_sign_of_wrong_rows_acts_on_every_rank_at_once_and_after_a_resume_on_another_number(
    warm: Warm, tmp_path: Path
) -> None:
    config = {**RECIPE, "cells": {"bands": 1}, "coverage": "exact"}
    config |= {"weights": [{"name": "robust", "act": "auto"}], "drop": [{"by": "suspects", "act": "auto"}]}
    del config["thin"], config["review"]
    runs = {name: str(tmp_path / name) for name in ("one", "two", "resumed")}
    more: Json = {"config": config, "num_train_epochs": 3, "dirt": 0.1}
    reports = {name: live(warm, world, runs[name], **more).ok for name, world in (("one", 1), ("two", 2))}
    first = live(warm, 2, runs["resumed"], **more, stop=16, saves=[14]).ok
    lives = [first, live(warm, 1, runs["resumed"], **more).ok]
    told = [lines(out, "act") for out in runs.values()]
    assert told[0] == told[1] == told[2]
    assert told[0][0]["acts"] == ["robust", "drop: suspects"]
    assert 0 < told[0][0]["step"] < 14
    assert steps_of(reports["one"]) == steps_of(reports["two"]) == steps_of(*lives)
    for out in runs.values():
        weighted = [line["stage"] for line in lines(out, "stage_end") if "weights" in line]
        assert weighted == list(range(told[0][0]["stage"], len(lines(out, "stage_end"))))
        (end,) = lines(out, "end")
        assert end["weights_audit"] == [end["step"] - told[0][0]["step"]] * 2


def test_candidates_are_measured_together(warm: Warm, tmp_path: Path) -> None:
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    reports = [live(warm, world, out, config=FRESH).ok for world, out in ((1, one), (2, two))]
    assert steps_of(reports[0]) == steps_of(reports[1])
    assert choices(one) == choices(two)
    assert any(line["thin"].get("known") for line in lines(two, "decision"))


def test_a_job_killed_between_a_stages_file_and_its_checkpoint_goes_on_as_if_it_had_not(
    warm: Warm, calm: tuple[str, Report], tmp_path: Path
) -> None:
    hunted, sign = str(tmp_path / "hunted"), str(tmp_path / "sign")
    end = lines(calm[0], "stage_end")[1]["step"]  # the book has just been written, the save is not finished
    settings: Json = {"saves": [3, end]}
    first = live(warm, 2, hunted, kill=Kill("exists", sign), hold_save={"step": end, "sign": sign}, **settings)
    assert first.killed, first.told()
    assert (Path(hunted) / "curriculum" / "training_losses" / "stage-00001.parquet").exists()
    assert last_step(hunted) == "checkpoint-3"
    second = live(warm, 2, hunted, **settings).ok
    assert second.results[0]["first"] == 3
    assert first_difference(outcome(hunted, second), outcome(calm[0], calm[1])) is None
    assert book_of(hunted) == book_of(calm[0])
    assert not (Path(hunted) / "curriculum" / "book" / "live").exists()
