"""Who is drawn and which, in real runs: what was planned was trained, and no kill changes it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from campus_tune.run.callback import CampusCallback
from campus_tune.run.checkpoints import saved_curriculum
from campus_tune.run.manifest import FILE as MANIFEST
from campus_tune.words.errors import MetricError, ResumeError, TrainerError
from campus_tune.words.types import Json
from tests.run.plain_run import plain_trainer
from tests.run.sealing import reseal
from tests.run.test_resume import SaveAt, StopAfter, StoppedError, assert_same, outcome
from tests.run.tiny_run import ledger_of, saved_state, task_rows, tiny_trainer
from tests.run.witness import Witness, events, flat

BASE: Json = {"metrics": ["length"], "stages": 3, "mix": 0.0, "handover": 1.0, "budget": 0.5}
N, BATCH = 30, 4  # 8 steps an epoch, 16 in all: every one of them full
RUN: Json = {"n": N, "num_train_epochs": 2}

POLICIES: dict[str, Json] = {
    "shares": {"domains": {"shares": {"text": 0.4, "lists": 0.3, "arithmetic": 0.3}}},
    "shares over cells that follow the loss": {
        "domains": {"over": "cells", "follow": "seen_loss"},
        "cells": {"bands": 2},
    },
    "phases": {
        "mix": 0.25,
        "phases": [
            {"until": 0.5, "shares": {"text": 0.4, "lists": 0.3, "arithmetic": 0.3}, "overlap": 0.2},
            {"until": 1.0, "mix": 0.5, "top": {"length": 0.5}},
        ],
    },
    "top": {"thin": {"how": "top", "by": "-length", "keep": 0.5}},
    "proportional": {"thin": {"how": "proportional", "by": "surprise", "keep": 0.75}},
    "rank": {"thin": {"how": "rank", "by": "excess", "keep": 0.5, "from": 0.4, "until": 0.8}, "window": "slice"},
    "prune": {"thin": {"how": "prune", "by": "seen_loss", "drop": 0.5}, "selector": "shuffle", "metrics": []},
    "fresh": {"thin": {"how": "top", "by": "loss", "keep": 0.5, "fresh": True}, "budget": 1.0},
    "review": {"review": {"share": 0.25, "by": "forgetting"}, "coverage": "revisit"},
    "drop": {"drop": [{"by": "length", "lowest": 0.1}, {"by": "duplicates"}], "review": {"share": 0.2}},
}
BOOKED = ("shares over cells that follow the loss", "proportional", "rank", "prune", "review", "drop")


def trained(out: Path, name: str, **settings: Any) -> tuple[Any, Witness]:
    trainer = tiny_trainer(out, config={**BASE, **POLICIES[name]}, **{**RUN, **settings})
    witness = Witness(trainer)
    trainer.train()
    return trainer, witness


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Witness]]:
    """Runs in peace, trained when they are asked for first."""
    known: dict[str, tuple[Any, Witness]] = {}

    class Runs(dict[str, Any]):
        def __missing__(self, name: str) -> tuple[Any, Witness]:
            known[name] = self[name] = trained(tmp_path_factory.mktemp("calm"), name)
            return known[name]

    return Runs()


def out_of(trainer: Any) -> Path:
    return Path(trainer.args.output_dir)


def planned_rows(out: Path) -> list[int]:
    """Rows of all stages, as their files say."""
    files = sorted((out / "curriculum" / "training_losses").glob("*.parquet"))
    return [row for file in files for row in parquet.read_table(file)["row"].to_pylist()]


@pytest.mark.parametrize("name", POLICIES)
def test_what_was_planned_was_trained_in_full_steps(name: str, runs: Any) -> None:
    trainer, witness = runs[name]
    out = out_of(trainer)
    decisions, (end,) = events(out, "decision"), events(out, "end")
    assert end["audit"] == {"checked": 16, "passed": 16, "labels": True}
    assert [len(step) for step in witness.steps] == [BATCH] * 16
    assert sorted(planned_rows(out)) == sorted(witness.rows)
    assert sum(sum(line["lanes"].values()) for line in decisions) == sum(line["rows"] for line in decisions) == 64
    assert all(abs(sum(line["shares"].values()) - 1) < 1e-5 for line in decisions)
    assert end["passes"] == decisions[-1]["passes"]
    seen = np.bincount(witness.rows, minlength=N)
    assert end["visits_most"] == seen.max()
    assert end["never_trained"]["rows"] + end["dropped"] == (seen == 0).sum()
    assert end["review_rows"] == sum(line["lanes"]["review"] for line in decisions)
    offered = sum(line["offered"] for line in decisions)
    assert offered - sum(line["passed_over"] for line in decisions) + end["review_rows"] == 64


@pytest.mark.parametrize("name", POLICIES)
def test_a_killed_run_goes_on_as_if_it_had_not_stopped(name: str, runs: Any, tmp_path: Path) -> None:
    calm = outcome(runs[name][0])
    for stop in (8, None):  # inside a stage
        callbacks = [SaveAt(7), *([] if stop is None else [StopAfter(stop)])]
        trainer = tiny_trainer(tmp_path, config={**BASE, **POLICIES[name]}, callbacks=callbacks, **RUN)
        if stop is None:
            trainer.train(resume_from_checkpoint=True)
        else:
            with pytest.raises(StoppedError):
                trainer.train()
    assert_same(outcome(trainer), calm)
    book = Path("curriculum") / "book.parquet"
    assert (tmp_path / book).exists() == (out_of(runs[name][0]) / book).exists() == (name in BOOKED)
    if name in BOOKED:
        assert parquet.read_table(tmp_path / book).equals(parquet.read_table(out_of(runs[name][0]) / book))
    assert not (tmp_path / "curriculum" / "book" / "live").exists()


def domains_of(rows: Any) -> list[str]:
    return [task_rows(N)[row]["domain"] for row in rows]


def test_shares_are_those_of_the_rows_that_were_trained(runs: Any) -> None:
    _, witness = runs["shares"]
    found = domains_of(witness.rows)
    assert {name: found.count(name) / len(found) for name in set(found)} == pytest.approx(
        {"text": 0.4, "lists": 0.3, "arithmetic": 0.3}, abs=0.05
    )


def test_a_phase_draws_its_domains_and_then_only_its_best_rows(runs: Any) -> None:
    trainer, witness = runs["phases"]
    assert set(domains_of(flat(witness.steps[:6]))) == {"text", "lists", "arithmetic"}
    decisions = events(out_of(trainer), "decision")
    assert {line["step"] for line in decisions} >= {0, 8}  # no stage crosses the end of a phase
    lengths = parquet.read_table(out_of(trainer) / "curriculum" / "scores" / "length.parquet")["score"].to_numpy()
    last = np.unique(flat(witness.steps[8:]))
    assert lengths[last].mean() > lengths.mean()


def test_thinning_says_what_it_went_by(runs: Any) -> None:
    for name, keys in {"top": {"tau": None, "known": 1}, "proportional": {"tau": 1, "known": 1}}.items():
        thins = [line["thin"] for line in events(out_of(runs[name][0]), "decision")]
        told = [thin for thin in thins if "ess" in thin]
        assert told
        assert all((thin["tau"] is None) == (keys["tau"] is None) and thin["known"] > 0 for thin in told)
    first = events(out_of(runs["proportional"][0]), "decision")[0]["thin"]
    assert first == {"how": "proportional", "by": "surprise", "skipped": "nothing is known of the rows offered"}
    assert "thin" not in events(out_of(runs["rank"][0]), "decision")[0]  # from: 0.4


def test_the_cells_of_a_run_are_in_its_first_line(runs: Any) -> None:
    run = ledger_of(out_of(runs["top"][0]))[0]
    assert run["event"] == "run"
    assert sum(run["cells"].values()) == N
    assert run["dropped"] == {}


def test_dropped_rows_are_listed_with_text_and_never_trained(runs: Any) -> None:
    trainer, witness = runs["drop"]
    lines = [json.loads(line) for line in (out_of(trainer) / "curriculum" / "dropped.jsonl").read_text().splitlines()]
    (end,), run = events(out_of(trainer), "end"), ledger_of(out_of(trainer))[0]
    assert len(lines) == end["dropped"] == sum(run["dropped"].values()) >= 3
    assert run["dropped"]["length: lowest 0.1"] == 3
    assert not {line["row"] for line in lines} & set(witness.rows)
    assert all(line["text"] and line["reason"] in run["dropped"] for line in lines)


def test_rows_that_come_back_were_trained_before(runs: Any) -> None:
    trainer, witness = runs["review"]
    decisions = events(out_of(trainer), "decision")
    assert decisions[0]["lanes"]["review"] == 0
    assert sum(line["lanes"]["review"] for line in decisions) >= 3
    assert len(witness.rows) == 64


# -- fresh scores ------------------------------------------------------------------------------------------------------


def test_fresh_candidates_are_on_the_bill_and_take_the_hardest_of_each_cell(runs: Any) -> None:
    trainer, _ = runs["fresh"]
    (end,), decisions = events(out_of(trainer), "end"), events(out_of(trainer), "decision")
    assert end["cost"]["thinning"] > 0
    assert end["cost"]["all"] <= 1.0
    assert all(line["thin"].get("known") == line["offered"] for line in decisions if "ess" in line["thin"])


@pytest.mark.parametrize("budget", [0.01, 0.6])
def test_what_the_budget_does_not_pay_for_is_not_thinned_and_the_ledger_says_so(budget: float, tmp_path: Path) -> None:
    thin = {"how": "top", "by": "seen_loss", "keep": 0.5, "fresh": True}
    tiny_trainer(tmp_path, config={**BASE, "thin": thin, "stages": 5, "budget": budget}, **RUN).train()
    (end,), decisions = events(tmp_path, "end"), events(tmp_path, "decision")
    skipped = [line["thin"].get("skipped") for line in decisions]
    assert "not paid for" in skipped
    assert all((word is None) == (line["passed_over"] > 0) for word, line in zip(skipped, decisions, strict=True))
    assert (None in skipped) == (end["cost"]["thinning"] > 0) == (budget > 0.1)
    assert end["cost"]["all"] <= budget + 1e-9


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_training_that_shows_no_losses_of_rows_stops_a_run_that_draws_by_them(tmp_path: Path) -> None:
    recipe = {"selector": "shuffle", "thin": {"how": "rank", "by": "seen_loss"}, "stages": 2}
    trainer = plain_trainer(tmp_path, config=recipe, label_smoothing_factor=0.1, num_train_epochs=3)
    with pytest.raises(TrainerError, match=r"training must show the losses of single rows.*label smoothing"):
        trainer.train()


@pytest.mark.parametrize(
    ("blocks", "says"),
    [
        ({"thin": {"how": "rank", "by": "seen_loss"}}, r"no row was seen before, there is nothing to go by"),
        ({"domains": {"shares": {"code": 0.99, "text": 0.01}}}, r"no more rows of a stage than there are, got code"),
        ({"domains": {"shares": {"cod": 0.5, "text": 0.5}}}, r"cod.*did you mean .?code|Did you mean .?code"),
        (
            {"thin": {"how": "top", "by": "length", "fresh": True}},
            r"`thin: fresh` must go by what the model in",
        ),
        ({"cells": {"bands": 20}, "thin": {"how": "top", "by": "length"}}, r"`cells` must be no more than rows"),
        (
            {"cells": {"of": "levl"}, "thin": {"how": "top", "by": "length"}},
            r"`cells: of` must be a column of the training set .*got 'levl'\. Did you mean 'level'\?",
        ),
    ],
)
def test_what_does_not_go_with_the_rows_is_refused_before_the_first_step(
    blocks: Json, says: str, tmp_path: Path
) -> None:
    trainer = tiny_trainer(tmp_path, config={**BASE, **blocks}, n=N)
    with pytest.raises(Exception, match=says):
        trainer.train()
    assert trainer.state.global_step == 0


@pytest.mark.parametrize("by", ["cells", "thin"])
def test_rows_of_one_difficulty_are_one_band_and_no_score_to_thin_by(by: str, tmp_path: Path) -> None:
    rows = [{**row, "grade": 1.0} for row in task_rows(N)]
    entry = {"name": "column", "column": "grade"}
    thin = {"how": "rank", "by": entry if by == "thin" else "mtld"}
    trainer = tiny_trainer(tmp_path, config={**BASE, "cells": {"by": entry}, "thin": thin}, train=rows)
    if by == "thin":
        with pytest.raises(MetricError, match=r"`grade` gives every row the same score 1\.0.*Drop it from the recipe"):
            trainer.train()
        return
    trainer.train()
    assert len(ledger_of(tmp_path)[0]["cells"]) == len({row["domain"] for row in rows})


# -- resume ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A run by `rank` that was stopped after a checkpoint in its second stage."""
    config = {**BASE, **POLICIES["prune"]}
    with pytest.raises(StoppedError):
        tiny_trainer(tmp_path, config=config, callbacks=[SaveAt(4), StopAfter(5)], **RUN).train()
    return tmp_path


def state_in(checkpoint: Path) -> Json:
    """What a checkpoint holds of the curriculum."""
    return saved_curriculum(saved_state(checkpoint))


def losses_file(out: Path) -> Path:
    return out / "curriculum" / "training_losses" / "stage-00000.parquet"


def test_a_checkpoint_needs_the_files_that_its_book_is_folded_from(stopped: Path) -> None:
    manifest = json.loads((stopped / "checkpoint-4" / MANIFEST).read_text())
    assert "training_losses/stage-00000.parquet" in json.dumps(manifest)
    assert state_in(stopped / "checkpoint-4")["book"]["chain"]
    losses_file(stopped).unlink()
    with pytest.raises(ResumeError, match=r"training_losses/stage-00000\.parquet is missing"):
        tiny_trainer(stopped, config={**BASE, **POLICIES["prune"]}, **RUN).train(resume_from_checkpoint=True)


def test_losses_of_another_training_are_named(stopped: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    tiny_trainer(other, config={**BASE, **POLICIES["prune"]}, **{**RUN, "learning_rate": 1e-3}).train()
    shutil.copyfile(losses_file(other), losses_file(stopped))
    reseal(stopped / "checkpoint-4")
    with pytest.raises(ResumeError, match=r"stage-00000\.parquet` must be the losses .* those of another training"):
        tiny_trainer(stopped, config={**BASE, **POLICIES["prune"]}, **RUN).train(resume_from_checkpoint=True)


def test_new_blocks_go_on_from_the_record_of_a_run_without_them(tmp_path: Path) -> None:
    plain = {**BASE, "selector": "shuffle", "metrics": []}
    with pytest.raises(StoppedError):
        tiny_trainer(tmp_path, config=plain, callbacks=[SaveAt(8), StopAfter(8)], **RUN).train()
    thinned = {**plain, "thin": {"how": "rank", "by": "seen_loss", "keep": 0.5}, "review": {"share": 0.25}}
    with pytest.raises(ResumeError, match=r"`campus: thin`"):
        tiny_trainer(tmp_path, config=thinned, **RUN).train(resume_from_checkpoint=True)
    tiny_trainer(tmp_path, config={**thinned, "resume": "changed_future"}, **RUN).train(resume_from_checkpoint=True)
    last = events(tmp_path, "decision")[-1]
    assert last["thin"]["known"] > 0
    assert last["lanes"]["review"] > 0
    assert sum(parquet.read_table(tmp_path / "curriculum" / "book.parquet")["visits"].to_pylist()) == 62


PLAIN: Json = {**BASE, "selector": "shuffle", "metrics": []}


@pytest.mark.parametrize("at", [5, 7, 11])
@pytest.mark.parametrize("name", ["shares", "prune", "drop"])
def test_a_run_that_lost_its_policy_trains_what_its_epoch_has_not(name: str, at: int, tmp_path: Path) -> None:
    before, settings = {**PLAIN, **POLICIES[name]}, {**RUN, "gradient_accumulation_steps": 2}
    settings["per_device_train_batch_size"] = 2
    with pytest.raises(StoppedError):
        tiny_trainer(tmp_path, config=before, callbacks=[SaveAt(at), StopAfter(at)], **settings).train()
    with pytest.raises(ResumeError, match=rf"`campus: {'domains' if name == 'shares' else 'thin|review|drop'}"):
        tiny_trainer(tmp_path, config=PLAIN, **settings).train(resume_from_checkpoint=True)
    trainer = tiny_trainer(tmp_path, config={**PLAIN, "resume": "changed_future"}, **settings)
    witness = Witness(trainer)
    trainer.train(resume_from_checkpoint=True)
    (end,) = events(tmp_path, "end")
    assert end["audit"] == {"checked": 16, "passed": 16, "labels": True}
    steps, epochs = witness.steps, {5: (3, 8), 7: (1, 8), 11: (0, 5)}[at]
    first, second = steps[: epochs[0]], steps[epochs[0] :]
    assert len(steps) == 16 - at == sum(epochs)
    for epoch in filter(None, (first, second)):
        assert [len(step) for step in epoch] == [BATCH] * (len(epoch) - 1) + [2]
        assert len(set(flat(epoch))) == len(flat(epoch))
    assert sorted(flat(second)) == list(range(N)) or at == 11
    assert "passes" not in end
    closed = events(tmp_path, "stage_end")
    assert [line["stage"] for line in closed] == [line["stage"] for line in events(tmp_path, "decision")]
    assert sorted(planned_rows(tmp_path))[:: N - 1]  # every stage has its file
    assert len(planned_rows(tmp_path)) == at * BATCH + len(witness.rows)


@pytest.mark.parametrize("at", [5, 7, 11])
def test_a_run_that_got_a_policy_fills_every_step_from_there_on(at: int, tmp_path: Path) -> None:
    settings = {**RUN, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}
    with pytest.raises(StoppedError):
        tiny_trainer(tmp_path, config=PLAIN, callbacks=[SaveAt(at), StopAfter(at)], **settings).train()
    config = {**PLAIN, **POLICIES["drop"], "resume": "changed_future"}
    trainer = tiny_trainer(tmp_path, config=config, **settings)
    witness = Witness(trainer)
    trainer.train(resume_from_checkpoint=True)
    (end,), (resumed,) = events(tmp_path, "end"), events(tmp_path, "resumed")
    assert end["audit"] == {"checked": 16, "passed": 16, "labels": True}
    assert [len(step) for step in witness.steps] == [BATCH] * (16 - at)
    assert resumed["dropped"]["length: lowest 0.1"] == 3
    assert resumed["cells"] == {}
    closed = events(tmp_path, "stage_end")
    assert [line["stage"] for line in closed] == [line["stage"] for line in events(tmp_path, "decision")]
    assert len(planned_rows(tmp_path)) == at * BATCH - 2 * (at > 8) + len(witness.rows)


def test_a_judged_file_that_has_changed_is_noticed(tmp_path: Path) -> None:
    judged = tmp_path / "judged.jsonl"
    rows = [dict(row) for row in task_rows(N)]
    judged.write_text("".join(json.dumps(row) + "\n" for row in rows[:3]))
    config = {**BASE, "drop": [{"by": "judged", "path": str(judged)}]}
    with pytest.raises(StoppedError):
        tiny_trainer(tmp_path / "run", config=config, callbacks=[SaveAt(4), StopAfter(5)], **RUN).train()
    judged.write_text("".join(json.dumps(row) + "\n" for row in rows[1:4]))
    with pytest.raises(ResumeError, match=r"leaves out other rows: a file that `drop` reads"):
        tiny_trainer(tmp_path / "run", config=config, **RUN).train(resume_from_checkpoint=True)


# -- unused ------------------------------------------------------------------------------------------------------------


def test_natural_shares_alone_change_nothing(tmp_path: Path) -> None:
    lines = []
    for name, blocks in {"without": {}, "natural": {"domains": {"shares": "natural"}}}.items():
        out = tmp_path / name
        tiny_trainer(out, config={**BASE, **blocks}, save_steps=5, **RUN).train()
        lines.append([line for line in ledger_of(out) if line["event"] != "run"])
        saved = state_in(out / "checkpoint-5")
        assert not {"book", "dropped"} & saved.keys()
        assert "draw" not in saved["curriculum"]["stage"]
        assert "thinning" not in saved["budget"]["spent"]
    assert lines[0] == lines[1]
    assert CampusCallback({**BASE}).config.draws_apart is False
