"""The map that a run leaves of its rows: what is in it, what it says, and what it costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet
from transformers import TrainerCallback

from campus_tune.method import suspicion as rule
from campus_tune.method.dirt import Dirt
from campus_tune.method.learning import REGIONS
from campus_tune.method.suspicion import Suspicion, of_training
from campus_tune.model.departures import departures
from campus_tune.read.finished import read_finished
from campus_tune.run import data_map, earned
from campus_tune.scores import suspected
from campus_tune.scores.cache import read_columns
from campus_tune.words.types import Json
from tests.run.plain_run import ROWS, plain_trainer
from tests.run.test_resume import SaveAt, StopAfter, StoppedError
from tests.run.tiny_run import task_rows, tiny_trainer
from tests.run.witness import all_slow_losses, events

SHUFFLE: Json = {"selector": "shuffle", "stages": 2, "budget": 0.2}
PLANTED = (3, 17, 29, 41)
N = 48
COLUMNS = {
    "row": "int32",
    "content": "uint64",
    "key": "string",
    "domain": "dictionary<values=string, indices=int32, ordered=0>",
    "cell": "dictionary<values=string, indices=int32, ordered=0>",
    "region": "dictionary<values=string, indices=int32, ordered=0>",
    "visits": "uint8",
    "first_step": "int32",
    "last_step": "int32",
    "first_loss": "float",
    "last_loss": "float",
    "mean_loss": "float",
    "mean_probability": "float",
    "lowest_probability": "float",
    "excess": "float",
    "spread": "float",
    "suspect": "bool",
    "contradicting": "bool",
    "duplicate_of": "int32",
}


def answered(row: Json, answer: str) -> Json:
    return {**row, "completion": [{"role": "assistant", "content": answer}]}


def planted() -> list[Json]:
    """Rows of one answer that is learned at once, and a few of another."""
    return [answered(row, "seven apples" if place in PLANTED else "yes") for place, row in enumerate(task_rows(N))]


def run_of(out: Path, config: Json | None = None, **settings: Any) -> Any:
    given: Json = {"config": {**SHUFFLE, **(config or {})}, "num_train_epochs": 2, **settings}
    trainer = tiny_trainer(out, **given)
    trainer.train()
    return trainer


def table_of(out: Path) -> Any:
    return parquet.read_table(out / "curriculum" / "book" / "map.parquet")


def likeliest_of(out: Path) -> list[Json]:
    lines = (out / "curriculum" / "book" / "likeliest.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("campus: ")]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    out = tmp_path_factory.mktemp("planted")
    return out, run_of(out, train=planted(), learning_rate=1e-2)


def test_each_row_is_a_line_with_these_columns(ran: tuple[Path, Any]) -> None:
    table = table_of(ran[0])
    assert {field.name: str(field.type) for field in table.schema} == COLUMNS
    assert table["row"].to_pylist() == list(range(N))
    assert table["visits"].to_pylist() == [2] * N
    assert all(
        1 <= first <= 12 < last <= 24
        for first, last in zip(table["first_step"].to_pylist(), table["last_step"].to_pylist(), strict=True)
    )
    assert table["domain"].to_pylist() == [row["domain"] for row in task_rows(N)]
    assert all(len(key) == 16 for key in table["key"].to_pylist())


def test_what_is_said_of_a_row_is_what_its_visits_showed(ran: tuple[Path, Any]) -> None:
    out, _ = ran
    files = sorted((out / "curriculum" / "training_losses").glob("*.parquet"))
    shown = [(row, vars_of) for file in files for *vars_of, row in _visits(file)]
    table = table_of(out)
    for row in range(N):
        losses = np.array([values for of, values in shown if of == row])
        assert table["first_loss"][row].as_py() == pytest.approx(losses[0, 0], rel=1e-6)
        assert table["last_loss"][row].as_py() == pytest.approx(losses[-1, 0], rel=1e-6)
        assert table["mean_loss"][row].as_py() == pytest.approx(losses[:, 0].mean(), rel=1e-6)
        assert table["mean_probability"][row].as_py() == pytest.approx(losses[:, 1].mean(), rel=1e-6)
        assert table["lowest_probability"][row].as_py() == pytest.approx(losses[:, 2].mean(), rel=1e-6)


def _visits(file: Path) -> list[tuple[float, float, float, int]]:
    """Mean loss, mean and lowest probability, row."""
    columns, _ = read_columns(file)
    means = columns["nll_sum"] / columns["tokens"], columns["sureness"] / columns["tokens"], np.exp(-columns["worst"])
    return list(zip(*(values.tolist() for values in means), columns["row"].tolist(), strict=True))


def test_planted_answers_lead_the_list_with_what_the_model_would_rather_have_said(ran: tuple[Path, Any]) -> None:
    lines = likeliest_of(ran[0])
    assert len(lines) == 20
    assert {line["row"] for line in lines[:8]} >= set(PLANTED)
    assert [line["excess"] for line in lines] == sorted((line["excess"] for line in lines), reverse=True)
    first = lines[0]
    assert first["answer"] == "seven apples"
    assert first["prompt"] == task_rows(N)[first["row"]]["prompt"][0]["content"].strip()
    several = [line for line in lines if "\n" in task_rows(N)[line["row"]]["prompt"][0]["content"].strip()]
    assert all("\n" in line["prompt"] for line in several)  # a program stays one
    assert first["rather"] != first["said"]
    assert first["before"] + first["said"] in "seven apples<|im_end|>\n"
    assert 0 < first["rather_probability"] <= 1
    keys = table_of(ran[0])["key"].to_pylist()
    assert all(line["key"] == keys[line["row"]] for line in lines)


def test_the_ledger_says_it_in_a_line_before_the_last(ran: tuple[Path, Any]) -> None:
    out, _ = ran
    [line] = events(out, "map")
    table, about = table_of(out), read_columns(out / "curriculum" / "book" / "map.parquet")[1]
    assert (line["basis"], line["rows"], line["step"]) == ("training", N, 24)
    assert sum(line["regions"].values()) == N
    assert tuple(line["regions"]) == REGIONS
    assert line["suspects"] == sum(table["suspect"].to_pylist()) == about["n_suspects"]
    assert {name: found["rows"] for name, found in line["by_domain"].items()} == events(out, "run")[0]["rows_by_domain"]
    assert sum(found["suspects"] for found in line["by_domain"].values()) == line["suspects"]
    assert {name: line[name] for name in ("basis", "threshold", "sentence", "dirt")} == {
        name: about[name] for name in ("basis", "threshold", "sentence", "dirt")
    }
    assert (line["dirt"]["rows"], line["dirt"]["seen"]) == (N, False)  # of so few rows nothing is said
    assert events(out, "end")[0]["dirt"] == line["dirt"]
    assert (out / "curriculum" / "ledger.jsonl").read_text().splitlines()[-2].startswith('{"event": "map"')
    [end] = events(out, "end")
    asked = [line["row"] for line in likeliest_of(out)]
    assert end["cost"]["map"] > 0
    assert end["cost"]["all"] <= SHUFFLE["budget"]
    assert len(asked) == 20


def test_the_model_card_has_the_sentence(ran: tuple[Path, Any]) -> None:
    out, trainer = ran
    trainer.create_model_card()
    [line] = events(out, "map")
    assert f"- the data map of its rows: {line['sentence']}" in (out / "README.md").read_text("utf-8").splitlines()


def test_the_map_is_read_back_as_arrays(ran: tuple[Path, Any]) -> None:
    found = read_finished(ran[0]).map
    assert list(found) == list(COLUMNS)
    assert found["region"].tolist() == table_of(ran[0])["region"].to_pylist()
    assert np.isnan(found["duplicate_of"]).sum() + (found["duplicate_of"] >= 0).sum() == N


def test_a_departure_is_the_least_sure_token_of_the_answer(ran: tuple[Path, Any]) -> None:
    import torch

    trainer = ran[1]
    rows = np.array([3, 5, 8])
    [run] = [one.run for one in trainer.callback_handler.callbacks if hasattr(one, "run")]
    meter = run.situation.loaded.meter
    slow = all_slow_losses(trainer, rows)
    for row, found, worst in zip(rows, departures(meter, rows), slow.worst, strict=True):
        item = trainer.train_dataset[int(row)]
        batch = trainer.data_collator([item])
        ids = batch["input_ids"]
        answers = [place for place, label in enumerate(batch["labels"][0].tolist()) if label != -100]
        with torch.no_grad():
            logits = trainer.model.eval()(ids).logits[0].double().log_softmax(-1)
        losses = [-float(logits[place - 1, ids[0, place]]) for place in answers]
        place = int(np.argmax(losses))
        assert found is not None
        assert losses[place] == pytest.approx(worst, rel=1e-4)
        assert (found.place, found.said) == (place, int(ids[0, answers[place]]))
        assert found.rather == int(logits[answers[place] - 1].argmax())
        assert found.probability == pytest.approx(float(logits[answers[place] - 1].max().exp()), rel=1e-4)


def test_a_killed_run_leaves_the_same_map_byte_by_byte(ran: tuple[Path, Any], tmp_path: Path) -> None:
    settings: Json = {"train": planted(), "learning_rate": 1e-2, "num_train_epochs": 2, "config": SHUFFLE}
    with pytest.raises(StoppedError):
        tiny_trainer(tmp_path, callbacks=[SaveAt(7), StopAfter(9)], **settings).train()
    assert not (tmp_path / "curriculum" / "book").exists()
    tiny_trainer(tmp_path, callbacks=[SaveAt(7)], **settings).train(resume_from_checkpoint=True)
    for name in ("map.parquet", "likeliest.jsonl", "shown.jsonl"):
        files = [out / "curriculum" / "book" / name for out in (tmp_path, ran[0])]
        assert files[0].read_bytes() == files[1].read_bytes(), name


def test_the_texts_of_the_rows_that_a_page_lists_are_kept(ran: tuple[Path, Any]) -> None:
    lines = (ran[0] / "curriculum" / "book" / "shown.jsonl").read_text("utf-8").splitlines()
    texts = {line["row"]: line for line in map(json.loads, lines)}
    assert sorted(texts) == list(range(N))
    assert {texts[row]["answer"] for row in PLANTED} == {"seven apples"}
    assert texts[0]["prompt"] == planted()[0]["prompt"][-1]["content"]


# -- what a run may be -------------------------------------------------------------------------------------------------


def test_ten_rows_of_one_pass_without_domains_have_a_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{key: row[key] for key in ("prompt", "completion")} for row in task_rows(10)]
    run_of(tmp_path, train=rows, num_train_epochs=1)
    table, [line] = table_of(tmp_path), events(tmp_path, "map")
    assert "domain" not in table.column_names
    assert line["by_domain"] == {}
    assert set(table["region"].to_pylist()) == {"learned_early", "seen_once"}
    assert table["spread"].null_count == 10
    assert "campus: data map · nothing to see: no row stands out from its kind" in said(capsys)[-3]  # before the advice


def test_a_domain_column_that_the_recipe_does_not_use_is_used(tmp_path: Path) -> None:
    run_of(tmp_path, {"within": "none"}, num_train_epochs=1, n=12)
    assert table_of(tmp_path)["domain"].to_pylist() == [row["domain"] for row in task_rows(12)]


def test_cells_are_the_recipes(tmp_path: Path) -> None:
    config: Json = {"cells": {"bands": 2}, "domains": {"over": "cells", "follow": "seen_loss"}, "metrics": ["length"]}
    run_of(tmp_path, config, num_train_epochs=1, n=24)
    book = parquet.read_table(tmp_path / "curriculum" / "book.parquet")
    assert table_of(tmp_path)["cell"].to_pylist() == book["cell"].to_pylist()
    assert not (tmp_path / "curriculum" / "book" / "live").exists()


def test_rows_that_say_the_same_or_contradict_are_marked_and_dropped_ones_not_seen(tmp_path: Path) -> None:
    rows = [dict(row) for row in task_rows(20)]
    rows[11] = dict(rows[2])
    rows[13] = answered(rows[4], "something else")
    run_of(tmp_path / "all", train=rows, num_train_epochs=1)
    table = table_of(tmp_path / "all")
    assert table["duplicate_of"].to_pylist() == [2 if row == 11 else None for row in range(20)]
    assert [row for row, mark in enumerate(table["contradicting"].to_pylist()) if mark] == [4, 13]
    suspects = table["suspect"].to_pylist()
    for row, region in ((11, "duplicate"), (4, "contradicting"), (13, "contradicting")):
        assert table["region"][row].as_py() == ("suspect" if suspects[row] else region)

    run_of(tmp_path / "dropped", {"drop": [{"by": "duplicates"}]}, train=rows, num_train_epochs=1)
    line = table_of(tmp_path / "dropped").slice(11, 1).to_pylist()[0]
    assert (line["region"], line["visits"], line["duplicate_of"]) == ("not_seen", 0, 2)
    names = ("first_step", "last_step", "first_loss", "mean_loss", "lowest_probability", "excess")
    assert [line[name] for name in names] == [None] * len(names)
    assert not line["suspect"]


def suspicion_asked_of(monkeypatch: pytest.MonkeyPatch) -> list[Suspicion]:
    """What the estimate of wrong rows is made from, once it was asked for."""
    asked: list[Suspicion] = []

    def estimate(suspicion: Suspicion, **_: Any) -> Dirt:
        asked.append(suspicion)
        return Dirt(N, 0.2, 0.1, 0.3)

    monkeypatch.setattr(data_map, "estimate_dirt", estimate)
    return asked


@pytest.mark.parametrize("when", ["never", "auto", "always"])
def test_how_many_are_wrong_is_judged_by_rows_before_anything_was_done_about_them(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = suspicion_asked_of(monkeypatch)
    monkeypatch.setattr(earned, "estimate_dirt", lambda *_, **__: Dirt(N, 0.2, 0.1, 0.3))
    weighs = {"weights": [{"name": "robust", "act": when}], "cells": {"bands": 1}, "stages": 4}
    trainer = run_of(tmp_path, weighs, train=planted(), learning_rate=1e-2)
    [line] = events(tmp_path, "map")
    if when == "always":  # rows counted less from the start
        assert (asked, line["dirt"]) == ([], None)
        return
    [suspicion] = asked
    [callback] = (one for one in trainer.callback_handler.callbacks if hasattr(one, "run"))
    assert line["dirt"]["low"] == 0.1
    assert line["sentence"].endswith("; estimated wrong: 10 to 30 %")
    twice = ~np.isnan(suspicion.spread)
    if when == "never":
        assert twice.all()
    else:
        [told] = events(tmp_path, "act")
        spared = callback.run.situation.drawing.earning.spared
        assert told["acts"] == ["robust"]
        assert spared.any()
        assert twice[spared].all()
        assert not twice[~spared].any()


def test_of_a_run_that_left_rows_out_only_what_was_before_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rule, "stands_out", lambda scores: float(np.sort(scores)[-4]))
    asked = suspicion_asked_of(monkeypatch)
    drops = {"drop": [{"by": "suspects", "from": 0.5}], "stages": 4}
    run_of(tmp_path, drops, train=planted(), learning_rate=1e-2, num_train_epochs=2)
    [told] = events(tmp_path, "suspects")
    [suspicion] = asked
    assert told["dropped"] > 0
    assert told["step"] == 12
    assert np.isfinite(suspicion.score).all()
    assert np.isnan(suspicion.spread).all()


def test_rows_that_were_left_out_before_others_waited_for_a_sign_end_what_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rule, "stands_out", lambda scores: float(np.sort(scores)[-4]))
    asked = suspicion_asked_of(monkeypatch)
    late = iter([0.0] * 3)  # the first looks show nothing
    monkeypatch.setattr(earned, "estimate_dirt", lambda *_, **__: Dirt(N, 0.2, next(late, 0.1), 0.3))
    both = {"drop": [{"by": "suspects", "from": 0.5}], "weights": [{"name": "robust", "act": "auto"}]}
    run_of(tmp_path, {**both, "stages": 4}, train=planted(), learning_rate=1e-2, num_train_epochs=2)
    [dropped], [acts] = events(tmp_path, "suspects"), events(tmp_path, "act")
    [suspicion] = asked
    assert (dropped["step"] < acts["step"], acts["acts"]) == (True, ["robust"])
    assert np.isfinite(suspicion.score).all()
    assert np.isnan(suspicion.spread).all()  # the spared rows' too: some of them are gone


def test_a_run_that_stops_early_maps_what_it_saw(tmp_path: Path) -> None:
    run_of(tmp_path, max_steps=3)
    table, [line] = table_of(tmp_path), events(tmp_path, "map")
    assert sum(table["visits"].to_pylist()) == 12
    assert line["regions"]["not_seen"] == N - 12
    assert table["excess"].null_count == N - 12


def test_what_was_measured_before_training_joins_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Json] = []

    def watched(*args: Any, **more: Any) -> Suspicion:
        seen.append(more)
        return of_training(*args, **more)

    monkeypatch.setattr(suspected, "of_training", watched)
    run_of(tmp_path, {"selector": "relative_perplexity", "metrics": ["ifd"], "budget": 3.0}, num_train_epochs=1, n=24)
    [more] = seen
    assert np.isfinite(more["alone"]).all()
    assert np.isfinite(more["before"]).all()
    run_of(tmp_path / "free", num_train_epochs=1, n=12)
    assert (seen[1]["alone"], seen[1]["before"]) == (None, None)


# -- where training shows no losses of rows ----------------------------------------------------------------------------


def smoothed(out: Path, budget: float) -> Any:
    trainer = plain_trainer(out, config={**SHUFFLE, "budget": budget}, label_smoothing_factor=0.1)
    trainer.train()
    return trainer


def test_one_forward_within_the_budget_makes_the_map_where_training_shows_no_losses(tmp_path: Path) -> None:
    trainer = smoothed(tmp_path, 1.0)
    table, [line], [end] = table_of(tmp_path), events(tmp_path, "map"), events(tmp_path, "end")
    assert line["basis"] == "forward"
    rows = np.arange(n := len(ROWS))
    slow = all_slow_losses(trainer, rows)
    assert table["mean_loss"].to_pylist() == pytest.approx((slow.nll_sum / slow.tokens).tolist(), rel=1e-3)
    assert table["excess"].null_count == 0
    assert table["visits"].null_count == table["first_step"].null_count == table["last_loss"].null_count == n
    assert set(table["region"].to_pylist()) <= {None, "suspect", "contradicting", "duplicate"}
    assert 0.3 < end["cost"]["map"] <= 1.0


def test_a_map_that_is_not_paid_for_is_the_last_thing_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    smoothed(tmp_path, 1e-6)
    [line], last = events(tmp_path, "map"), said(capsys)[-1]
    assert (line["basis"], line["rows"]) == ("none", len(ROWS))
    assert last == f"campus: no data map: {line['why']}"
    assert "label smoothing (label_smoothing_factor) takes the labels away" in last
    assert "campus-tune suspects --config" in last
    assert not (tmp_path / "curriculum" / "book").exists()
    enough = float(last.partition("`budget: ")[2].partition("`")[0])
    smoothed(tmp_path / "paid", enough)
    assert events(tmp_path / "paid", "map")[0]["basis"] == "forward"


def test_without_a_budget_nothing_is_asked_of_the_model(tmp_path: Path) -> None:
    run_of(tmp_path, {"budget": 1e-6}, num_train_epochs=1, n=12)
    assert "map" not in events(tmp_path, "end")[0]["cost"]
    assert all("rather" not in line and "answer" in line for line in likeliest_of(tmp_path))


# -- what may go wrong -------------------------------------------------------------------------------------------------


class Cut(TrainerCallback):
    """Damages the losses of the first stage while the last one is trained."""

    def __init__(self, out: Path) -> None:
        self.file = out / "curriculum" / "training_losses" / "stage-00000.parquet"

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, control, kwargs
        if state.global_step == state.max_steps - 1:
            self.file.write_bytes(self.file.read_bytes()[:-9])


def test_a_damaged_file_costs_the_run_its_map_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = run_of(tmp_path, num_train_epochs=1, n=16, callbacks=[Cut(tmp_path)])
    assert trainer.state.global_step == 4
    assert events(tmp_path, "map")[0]["basis"] == "none"
    assert "stage-00000.parquet` must be the losses that this run's training showed" in said(capsys)[-1]


def test_a_model_that_cannot_be_asked_costs_the_list_its_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise AttributeError("no head")

    monkeypatch.setattr(data_map, "departures", broken)
    run_of(tmp_path, {"budget": 1.0}, num_train_epochs=1, n=12)
    assert "rather" not in likeliest_of(tmp_path)[0]
    assert any("what it would rather have said (AttributeError: no head)" in line for line in said(capsys))


def test_rows_that_came_as_tokens_are_decoded_and_known_by_them(tmp_path: Path) -> None:
    trainer = plain_trainer(tmp_path, learning_rate=1e-3)
    trainer.train()
    table = table_of(tmp_path)
    assert table["key"].to_pylist() == [f"{content:016x}" for content in table["content"].to_pylist()]
    assert all({"prompt", "answer"}.isdisjoint(line) and "text" in line for line in likeliest_of(tmp_path))
