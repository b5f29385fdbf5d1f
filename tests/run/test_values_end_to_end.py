"""Runs with `value: true`, and runs that drop what harmed in them: what is measured is what happened, by any kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campus_tune.report.write import write_report
from campus_tune.scores.cache import read_columns, write_columns
from campus_tune.words.errors import DataError
from campus_tune.words.types import Json
from tests.report.conftest import coarse_pictures
from tests.run.made_up_values import HARMFUL, LeaveValues
from tests.run.test_resume import SaveAt, StopAfter, StoppedError
from tests.run.tiny_run import tiny_trainer
from tests.run.witness import events

N = 96
VALUED: Json = {"selector": "shuffle", "stages": 4, "budget": 10.0, "value": {"budget": 10.0}}
FILES = ("values.parquet", "transfer.json", "extremes.jsonl")


def trainer_of(out: Path, config: Json | None = None, **settings: Any) -> Any:
    given: Json = {"config": {**VALUED, **(config or {})}, "n": N, "lora": True, "probes": 150, **settings}
    return tiny_trainer(out, **given)


def values_of(out: Path) -> tuple[Any, Json]:
    return read_columns(out / "curriculum" / "value" / "values.parquet")


@pytest.fixture(scope="module")
def plain_descent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plain gradient descent, of which first-order values are the account."""
    out = tmp_path_factory.mktemp("descent")
    trainer_of(
        out,
        optim="sgd",
        learning_rate=0.05,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        weight_decay=0.0,
    ).train()
    return out


def test_values_add_up_to_what_the_probes_gained(plain_descent: Path) -> None:
    before, *_, after = (event["domains"] for event in events(plain_descent, "probes"))
    columns, _ = values_of(plain_descent)
    for domain in before:
        fell = before[domain]["loss"] - after[domain]["loss"]
        assert np.nansum(columns[f"value {domain}"]) == pytest.approx(fell, rel=0.15, abs=0.004), domain


def test_rows_help_their_own_domain(plain_descent: Path) -> None:
    [line] = events(plain_descent, "value")
    assert (line["rows"], line["not_valued"]) == (N, 0)
    assert line["split_half"] > 0.8
    assert all(row[domain] > 0 for domain, row in line["transfer"].items())


def test_its_page_shows_them(plain_descent: Path) -> None:
    with coarse_pictures():
        page = write_report(plain_descent).read_text("utf-8")
    assert page.count("<h2>What rows were worth to the probes</h2>") == 1
    assert "rows that helped the probes most" in page


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    trainer_of(out, num_train_epochs=2, n=48, callbacks=[SaveAt(8)]).train()
    return out


def test_its_card_says_what_is_of_values_and_what_is_of_the_map(whole: Path) -> None:
    card, events_ = (whole / "README.md").read_text("utf-8"), {name: events(whole, name) for name in ("map", "value")}
    assert f"- the data map of its rows: {events_['map'][0]['sentence']}\n" in card
    assert f"- what its rows were worth to the probes: {events_['value'][0]['sentence']}\n" in card
    assert card.count("data map of its rows") == 1


def test_gradients_that_were_measured_once_before_training_are_said_to_be(whole: Path, tmp_path: Path) -> None:
    assert {end["value"]["measured"] for end in events(whole, "stage_end")} != {0}
    assert "measured once" not in events(whole, "value")[0]["sentence"]
    trainer_of(tmp_path, n=48, config={"value": {"budget": 0.001}}).train()
    assert {end["value"]["measured"] for end in events(tmp_path, "stage_end")} == {0}
    [line] = events(tmp_path, "value")
    assert line["sentence"].endswith("; by gradients measured once, before training: by what the model lacked then")


def test_a_killed_run_leaves_the_same_values_byte_by_byte(whole: Path, tmp_path: Path) -> None:
    settings: Json = {"num_train_epochs": 2, "n": 48}
    with pytest.raises(StoppedError):
        trainer_of(tmp_path, callbacks=[SaveAt(8), StopAfter(10)], **settings).train()
    assert not (tmp_path / "curriculum" / "value" / FILES[0]).exists()
    trainer_of(tmp_path, callbacks=[SaveAt(8)], **settings).train(resume_from_checkpoint=True)
    for name in FILES:
        files = [out / "curriculum" / "value" / name for out in (tmp_path, whole)]
        assert files[0].read_bytes() == files[1].read_bytes(), name


def test_a_stage_whose_file_is_gone_costs_the_values_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Removes(LeaveValues):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            super().on_step_end(args, state, control, **kwargs)
            if state.global_step == state.max_steps:
                (self.home / "value" / "stage-00001.parquet").unlink()

    trainer_of(tmp_path, n=48, callbacks=[Removes(tmp_path)]).train()
    [line] = events(tmp_path, "value")
    assert line["rows"] == 0
    assert "stage-00001.parquet` must be the values that this run measured in that stage" in line["why"]
    assert "campus: no values: " in capsys.readouterr().out


# -- dropping by them --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of which three rows harmed all probes, whatever its model says."""
    out = tmp_path_factory.mktemp("planted")
    trainer_of(out, num_train_epochs=2, n=48, callbacks=[LeaveValues(out)]).train()
    return out


def drop_of(run: Path, **more: Any) -> Json:
    path = str(run / "curriculum" / "value" / "values.parquet")
    return {"value": None, "drop": [{"by": "value", "path": path, **more}]}


def test_rows_that_harmed_are_not_trained_in_the_next_run(planted: Path, tmp_path: Path) -> None:
    trainer_of(tmp_path, drop_of(planted), n=48).train()
    listed = [json.loads(line) for line in (tmp_path / "curriculum" / "dropped.jsonl").read_text("utf-8").splitlines()]
    assert {line["row"]: line["reason"] for line in listed} == dict.fromkeys(HARMFUL, "value: below 0")
    assert all(line["text"] for line in listed)
    assert events(tmp_path, "run")[0]["dropped"] == {"value: below 0": 3}
    assert events(tmp_path, "end")[0]["rows_seen"] == 45


def test_its_control_leaves_out_as_many_that_helped_most(planted: Path, tmp_path: Path) -> None:
    trainer_of(tmp_path, {**drop_of(planted), "control": "drop_best", "cells": {"bands": 1}}, n=48).train()
    listed = [json.loads(line) for line in (tmp_path / "curriculum" / "dropped.jsonl").read_text("utf-8").splitlines()]
    assert {line["reason"] for line in listed} == {"drop_best"}
    assert len(listed) == 3
    columns, _ = values_of(planted)
    domains = columns["domain"]
    assert sorted(domains[[line["row"] for line in listed]]) == sorted(domains[list(HARMFUL)])
    for line in listed:
        of_domain = columns["value"][domains == domains[line["row"]]]
        assert columns["value"][line["row"]] >= np.sort(of_domain)[-3]


def test_values_that_are_noise_are_refused_before_anything_is_trained(planted: Path, tmp_path: Path) -> None:
    columns, about = values_of(planted)
    about["split_half"]["all"]["value"] = 0.2
    write_columns(tmp_path / "curriculum" / "value" / "values.parquet", columns, about)
    with pytest.raises(DataError, match="which rows harm is mostly chance"):
        trainer_of(tmp_path / "next", drop_of(tmp_path), n=48).train()
    assert not list((tmp_path / "next").glob("**/training_losses"))
