"""A run as tables and figures: each against the files it is made of, and with its columns where there is nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from campus_tune import open_run
from campus_tune.read.finished import read_finished
from campus_tune.read.likely_wrong import read_likely_wrong
from campus_tune.read.opened_run import OpenedRun
from campus_tune.read.tables import TABLES
from campus_tune.run.ledger import read_ledger
from campus_tune.scores.cache import read_columns
from campus_tune.words.errors import DataError
from campus_tune.words.types import Json
from tests.report.made_up import DOMAINS, EVIL, make_comparison, make_run
from tests.report.made_up_map import make_map
from tests.report.made_up_prompts import make_prompt_run
from tests.report.made_up_value import made_values, make_value
from tests.run.tiny_run import RECIPE, dataset, task_rows, tiny_trainer

N_ROWS = 40
OF_PROMPTS = {"answers", "groups", "pass_rates", "prompts"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a real trainer: two passes over 40 rows, the last of which is the first once more."""
    out = tmp_path_factory.mktemp("opened") / "run"
    tiny_trainer(out, train=train_rows(), probes=10, config=RECIPE | {"budget": 2.0}, num_train_epochs=2).train()
    return out


def train_rows() -> list[Json]:
    rows = list(task_rows(N_ROWS - 1))
    return [*rows, rows[0]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with everything that any table is made of."""
    out = make_run(tmp_path_factory.mktemp("made") / "run", drawn=True, weighted=True, steered=True)
    make_map(out)
    make_value(out, made_values(DOMAINS))
    return out


@pytest.fixture(scope="module")
def of_prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is driven by reward."""
    return make_prompt_run(tmp_path_factory.mktemp("prompts") / "run", stages=2)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of which there is no more than the first line, and the half of a second."""
    home = tmp_path_factory.mktemp("begun") / "curriculum"
    home.mkdir()
    line = {"event": "run", "past": {"n_rows": 8, "global_batch": 4}, "future": {"total_steps": 4}}
    (home / "ledger.jsonl").write_text(json.dumps(line) + '\n{"event": "deci', "utf-8")
    return home.parent


def events_of(run: Path, name: str) -> list[Json]:
    return [event for event in read_ledger(run / "curriculum/ledger.jsonl") if event["event"] == name]


# -- a table for each thing, with the same columns in every run ----------------------------------------------------


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_its_columns_in_every_run(name: str, trained: Path, made: Path, begun: Path) -> None:
    for run in (trained, made, begun):
        found = getattr(open_run(run), name)
        assert found.columns.tolist()[: len(TABLES[name])] == list(TABLES[name])
        assert {column: str(found[column].dtype) for column in TABLES[name]} == {
            column: kind for column, (kind, _) in TABLES[name].items()
        }


@pytest.mark.parametrize("name", sorted(TABLES.keys() - {"visits"} - OF_PROMPTS))
def test_a_run_that_has_everything_has_lines_in_every_table(name: str, made: Path) -> None:
    assert len(getattr(open_run(made), name))


@pytest.mark.parametrize("name", sorted(OF_PROMPTS))
def test_a_run_of_prompts_has_lines_in_the_tables_of_prompts(name: str, of_prompts: Path) -> None:
    assert len(getattr(open_run(of_prompts), name))


@pytest.mark.parametrize("name", sorted(TABLES.keys() - {"ledger"}))
def test_a_run_that_has_only_begun_has_empty_tables(name: str, begun: Path) -> None:
    assert len(getattr(open_run(begun), name)) == 0


def test_what_columns_mean_is_a_table_too(made: Path) -> None:
    found = open_run(made).columns
    assert found.columns.tolist() == ["table", "column", "meaning"]
    assert len(found) == sum(map(len, TABLES.values()))
    assert found.meaning.str.len().min() > 5
    assert set(found.table) == set(TABLES)


def test_a_table_is_read_once(trained: Path) -> None:
    run = open_run(trained)
    assert run.map is run.map
    assert run.decisions is run.decisions


# -- each against what it is made of -------------------------------------------------------------------------------


def test_the_ledger_is_whole(trained: Path) -> None:
    found, lines = open_run(trained).ledger, read_ledger(trained / "curriculum/ledger.jsonl")
    assert found.event.tolist() == [line["event"] for line in lines]
    assert found.line.tolist() == list(range(1, len(lines) + 1))
    assert found.past[0] == lines[0]["past"]
    assert found.cost.iloc[-1] == lines[-1]["cost"]


def test_lines_of_one_kind_are_flat(trained: Path) -> None:
    run = open_run(trained)
    ends = run.events("stage_end")
    assert ends["cost.all"].tolist() == [end["cost"]["all"] for end in events_of(trained, "stage_end")]
    assert len(run.events("rollback")) == 0


def test_decisions_are_those_of_the_ledger_with_what_their_stages_showed(trained: Path) -> None:
    found = open_run(trained).decisions
    decisions, ends = events_of(trained, "decision"), events_of(trained, "stage_end")
    for name in ("stage", "step", "steps", "epoch", "chosen", "outcome", "rows"):
        assert found[name].tolist() == [line[name] for line in decisions]
    assert found.scope_to.tolist() == [line["scope"][1] for line in decisions]
    assert found.train_loss.tolist() == [line["train_loss"] for line in ends]
    assert found.cost.tolist() == [line["cost"]["all"] for line in ends]
    assert found.checked.tolist() == found.passed.tolist() == found.step.add(found.steps).tolist()
    assert found.rows.sum() == 2 * N_ROWS


def test_offers_are_those_that_were_measured(trained: Path) -> None:
    found = open_run(trained).offers
    measured = [
        (line["stage"], offer["name"], offer["loss"])
        for line in events_of(trained, "decision")
        for offer in line["offers"]
        if offer.get("loss") is not None
    ]
    assert list(zip(found.stage, found.name, found.loss, strict=True)) == measured
    assert np.exp(found.loss).tolist() == pytest.approx(found.perplexity.tolist())
    chosen = found[found.chosen].set_index("stage").name
    decisions = open_run(trained).decisions.set_index("stage").chosen
    assert chosen.equals(decisions[chosen.index].rename("name"))


def test_probes_have_a_line_for_each_domain_each_time(trained: Path) -> None:
    found, told = open_run(trained).probes, events_of(trained, "probes")
    assert len(found) == sum(len(event["domains"]) for event in told)
    last = found[found.step == told[-1]["step"]].set_index("domain")
    for domain, measured in told[-1]["domains"].items():
        assert last.competence[domain] == measured["competence"]
        assert last.loss[domain] == measured["loss"]


def test_costs_add_up_to_what_the_run_says(trained: Path) -> None:
    found, end = open_run(trained).costs.set_index("purpose"), events_of(trained, "end")[0]
    assert found.share["all"] == end["cost"]["all"]
    assert found.share.drop("all").sum() == pytest.approx(end["cost"]["all"])
    assert found.seconds["training"] == end["seconds"]["training"]
    assert np.isnan(found.share["training"])


def test_visits_are_every_row_that_was_trained_and_its_loss(trained: Path) -> None:
    run = open_run(trained)
    found = run.visits
    assert len(found) == run.decisions.rows.sum()
    assert found.step.tolist() == sorted(found.step)
    assert found.groupby("row").size().tolist() == [2] * N_ROWS
    by_row = found.groupby("row").loss.mean()
    assert by_row.tolist() == pytest.approx(run.map.mean_loss.tolist(), rel=1e-5)
    first, _ = read_columns(trained / "curriculum/training_losses/stage-00000.parquet")
    assert found.loss[:4].tolist() == pytest.approx((first["nll_sum"] / first["tokens"])[:4].tolist())


def test_scores_are_a_column_for_each_metric(trained: Path) -> None:
    found = open_run(trained).scores
    assert found.columns.tolist() == ["row", "length", "mtld"]
    assert found.length.tolist() == read_columns(trained / "curriculum/scores/length.parquet")[0]["score"].tolist()


def test_the_map_is_the_file_of_the_run(trained: Path) -> None:
    found, columns = open_run(trained).map, read_columns(trained / "curriculum/book/map.parquet")[0]
    assert sorted(found.columns) == sorted(columns)
    assert found.region.tolist() == columns["region"].tolist()
    assert found.duplicate_of.dropna().to_dict() == {N_ROWS - 1: 0}
    assert found.content.tolist() == columns["content"].tolist()


def test_suspects_are_the_likeliest_first_with_the_texts_that_were_kept(made: Path) -> None:
    run = open_run(made)
    found = run.suspects
    assert found.row.tolist() == run.map[run.map.suspect].sort_values("excess", ascending=False).row.tolist()
    assert found.prompt.notna().all()
    assert found.contradicting.dtype == bool
    assert found.rather.notna().any()


def test_what_was_drawn_weighted_and_steered_agrees_with_the_run_read_as_arrays(made: Path) -> None:
    run, arrays = open_run(made), read_finished(made)
    code = run.shares[run.shares.stratum == "code"]
    assert code.share.tolist() == arrays.shares["code"].tolist()
    assert code.passes.tolist() == arrays.passes["code"].tolist()
    weighted = run.weights.set_index("stage")
    assert np.allclose(arrays.weights["ess"][weighted.index], weighted.ess)
    assert run.firings.kind.tolist() == [event["kind"] for event in arrays.events]
    assert run.moved.after.tolist() == [line["after"] for line in arrays.moved]
    assert run.values.value.tolist() == pytest.approx(arrays.value["value"].tolist(), nan_ok=True)
    assert run.dropped.row.tolist() == [line["row"] for line in arrays.dropped]
    assert run.dropped.instead.notna().any()


def test_a_run_that_went_on_without_dropping_has_dropped_none_though_the_list_is_there(tmp_path: Path) -> None:
    run = {"event": "run", "past": {"n_rows": 4}, "future": {"total_steps": 6}, "dropped": {"length": 1}}
    later = {"event": "resumed", "step": 2, "dropped": {}}
    (tmp_path / "dropped.jsonl").write_text(json.dumps({"row": 3, "reason": "length", "key": "k"}) + "\n", "utf-8")
    for lines, n in (([run], 1), ([run, later], 0)):
        (tmp_path / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
        assert (len(open_run(tmp_path).dropped), len(read_finished(tmp_path).dropped)) == (n, n)


def test_evaluations_have_a_line_for_each_metric(made: Path) -> None:
    found = open_run(made).evaluations
    assert found.value.dropna().tolist() == [
        measured["value"]
        for event in events_of(made, "evaluation")
        for metrics in event["scores"].values()
        for measured in metrics.values()
        if measured["value"] is not None
    ]
    assert found.step.unique().tolist() == [4, 12]
    assert not found.metric.str.contains(",").any()


# -- rows ----------------------------------------------------------------------------------------------------------


def data_of(kind: str, folder: Path) -> Any:
    rows = train_rows()
    if kind == "file":
        path = folder / "train.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        return str(path)
    return rows if kind == "dicts" else dataset(rows)


@pytest.mark.parametrize("kind", ["file", "dicts", "Dataset"])
def test_rows_are_the_users_own_with_what_the_run_knows_beside_them(trained: Path, tmp_path: Path, kind: str) -> None:
    run = open_run(trained, data=data_of(kind, tmp_path))
    found = run.rows
    assert found["prompt"][:] == [row["prompt"] for row in train_rows()]
    assert found["row"][:] == list(range(N_ROWS))  # the last says what the first does, and is still the last
    assert found["region"][:] == run.map.region.tolist()
    assert found["duplicate_of"][:] == [None] * (N_ROWS - 1) + [0]
    assert found["visits"][:] == [2] * N_ROWS
    assert found["key"][:] == run.map.key.tolist()


def test_rows_in_another_sequence_and_strangers_are_told_apart(trained: Path) -> None:
    stranger, *_ = task_rows(1, seed=99)
    found = open_run(trained, data=[stranger, *reversed(train_rows()[:5])]).rows
    assert found["row"][:] == [None, 4, 3, 2, 1, 0]
    assert found["region"][0] is None
    assert found["suspect"][0] is None


def test_a_name_that_the_data_have_is_theirs(trained: Path) -> None:
    found = open_run(trained, data=[{**row, "row": "mine"} for row in train_rows()]).rows
    assert found["row"][0] == "mine"
    assert found["run_row"][:] == list(range(N_ROWS))


def test_without_the_data_rows_have_the_texts_that_the_run_kept(made: Path) -> None:
    run = open_run(made)
    found = run.rows
    assert found.num_rows == len(run.map)
    kept = [row for row, prompt in enumerate(found["prompt"][:]) if prompt is not None]
    assert set(run.suspects.row[:10]) <= set(kept)
    assert len(kept) == 20


def test_plain_texts_are_found_in_the_column_that_was_trained(tmp_path: Path) -> None:
    rows = [{"body": f"{row['prompt']} {row['completion']}", "n": n} for n, row in enumerate(task_rows(16))]
    tiny_trainer(tmp_path / "run", train=rows, dataset_text_field="body").train()
    run = open_run(tmp_path / "run", data=rows)
    assert run.rows["row"][:] == list(range(16))
    assert run.suspects.empty or run.suspects.answer.notna().all()
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    found = read_likely_wrong(tmp_path / "run", path)
    assert [found.texts[row].answer for row in range(16)] == [row["body"] for row in rows]


def test_with_the_data_every_suspect_has_its_text(trained: Path) -> None:
    run = open_run(trained, data=train_rows())
    likely = run._likely_wrong
    assert likely is not None
    assert sorted(likely.texts) == list(range(N_ROWS))
    assert likely.texts[0].prompt == train_rows()[0]["prompt"][0]["content"]


def test_data_of_another_run_are_refused(trained: Path) -> None:
    run = open_run(trained, data=list(task_rows(3, seed=99)))
    with pytest.raises(DataError, match=r"`--data` must be the training file of this run, got 3 others, in which none"):
        _ = run.suspects


def test_a_run_without_a_map_has_rows_without_it(begun: Path) -> None:
    assert open_run(begun).rows.num_rows == 0
    found = open_run(begun, data=train_rows()).rows
    assert found["region"][:] == [None] * N_ROWS
    assert found["completion"][:] == [row["completion"] for row in train_rows()]


# -- what a person sees --------------------------------------------------------------------------------------------


def test_a_run_shows_what_it_came_to(trained: Path) -> None:
    run = open_run(trained)
    told = repr(run)
    assert "state:    finished" in told
    assert "audit:    all 20 steps trained the planned rows, tokens and labels" in told
    assert f"rows:     {N_ROWS}, {N_ROWS} of them trained" in told
    assert "<td" in run._repr_html_()
    assert all(word in run._repr_html_() for word in ("finished", "of the training compute", "data map"))
    assert run.finished
    assert run.advice == [one["line"] for one in events_of(trained, "end")[0]["advice"]]
    assert "metrics" in run.recipe


def test_a_run_that_has_only_begun_says_so(begun: Path) -> None:
    run = open_run(begun)
    assert not run.finished
    assert run.facts["state"] == "not over: it goes on, or was killed"
    assert run.facts["steps"] == "0 of 4, in 0 stages"
    assert (run.advice, run.warnings, run.recipe) == ([], [], "")


def test_what_stands_in_a_run_is_escaped(made: Path, tmp_path: Path) -> None:
    assert EVIL not in OpenedRun(make_run(tmp_path / EVIL.replace("/", "")))._repr_html_()
    assert open_run(made).warnings == ["`mtld` has <ties>. Drop it."]


@pytest.mark.parametrize("name", ["plot_map", "plot_decisions", "plot_probes", "plot_loss", "plot_costs"])
def test_pictures_are_figures_and_say_so_where_there_is_nothing(name: str, made: Path, begun: Path) -> None:
    from matplotlib.figure import Figure

    drawn, nothing = (getattr(open_run(run), name)() for run in (made, begun))
    assert isinstance(drawn, Figure)
    assert drawn.axes
    assert not nothing.axes
    assert any(word in nothing.texts[0].get_text() for word in ("no map", "no decision", "no measurement", "no stage"))


def test_a_notebook_shows_a_picture_and_the_page_without_help(made: Path, tmp_path: Path) -> None:
    run = open_run(made)
    assert run.plot_costs()._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]  # of our own figures
    shown = run.report(tmp_path / "page.html")
    frame = shown._repr_html_()
    assert frame.startswith("<iframe srcdoc=")
    assert "<html" not in frame  # escaped: the frame alone makes a page of it
    assert repr(shown) == f"the page is {tmp_path / 'page.html'}"
    assert "| " in run.markdown()


# -- what cannot be opened -----------------------------------------------------------------------------------------


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"`run` must be a folder, got .* Give the output_dir of a run"):
        open_run(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"`run` must be a folder with curriculum/ledger\.jsonl, got .* without"):
        open_run(tmp_path)


def test_a_comparison_is_pointed_to_its_runs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must be the folder of one run, got the comparison"):
        open_run(make_comparison(tmp_path / "comparison"))


def test_a_damaged_table_is_named_and_the_others_can_be_read(tmp_path: Path) -> None:
    out = make_run(tmp_path / "run")
    make_map(out)
    path = out / "curriculum/book/map.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    run = open_run(out)
    with pytest.raises(DataError, match=r"map\.parquet` must be the map that the run left"):
        _ = run.map
    assert len(run.decisions) == 6


def test_runs_side_by_side_are_one_table(trained: Path, made: Path) -> None:
    runs = [open_run(trained), open_run(made / "curriculum")]
    both = pd.concat({run.name: run.probes for run in runs})
    assert len(both) == sum(len(run.probes) for run in runs)
