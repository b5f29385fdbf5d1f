"""What a run leaves of the values of its rows: what is in the files, what is said, and what happens where it cannot."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from campus_tune.run.ledger import read_ledger
from campus_tune.run.told.last_lines import value_line
from campus_tune.run.value_table import ALL_ROWS, agreement
from campus_tune.scores.cache import read_columns
from campus_tune.words.types import Json
from tests.run.made_up_values import HARMFUL, PROBES, RATE, STEP_TOKENS, UNWEIGHTED, LeaveValues, halves_of
from tests.run.tiny_run import task_rows, tiny_trainer
from tests.run.witness import events

SHUFFLE: Json = {"selector": "shuffle", "stages": 2, "budget": 0.2}
VALUED: Json = {**SHUFFLE, "value": {"budget": 10.0}}
ASKED: Json = {"lora": True, "probes": 150}
N = 48
OWN = {"value": "float", "a": "float", "b": "float", "negative": "int32"}
COLUMNS = {
    "row": "int32",
    "content": "uint64",
    "key": "string",
    "domain": "dictionary<values=string, indices=int32, ordered=0>",
    "visits": "int32",
    "unweighted": "int32",
    "tokens": "int64",
    **OWN,
    **{f"{name} {probe}": kind for probe in PROBES for name, kind in OWN.items()},
}


def run_of(out: Path, config: Json | None = None, **settings: Any) -> Any:
    given: Json = {"config": {**VALUED, **(config or {})}, "num_train_epochs": 2, "n": N, **ASKED, **settings}
    trainer = tiny_trainer(out, callbacks=[LeaveValues(out, **given.pop("how", {}))], **given)
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("valued")
    run_of(out)
    return out


def home(out: Path) -> Path:
    return out / "curriculum" / "value"


def lines_of(out: Path) -> list[Json]:
    return [json.loads(line) for line in (home(out) / "extremes.jsonl").read_text("utf-8").splitlines()]


def test_each_row_is_a_line_with_these_columns(ran: Path) -> None:
    table = parquet.read_table(home(ran) / "values.parquet")
    assert {field.name: str(field.type) for field in table.schema} == COLUMNS
    assert table["row"].to_pylist() == list(range(N))
    assert table["domain"].to_pylist() == [row["domain"] for row in task_rows(N)]
    known = parquet.read_table(ran / "curriculum" / "book" / "map.parquet")
    for name in ("content", "key"):
        assert table[name].to_pylist() == known[name].to_pylist()


def test_a_rows_value_is_the_sum_over_its_visits(ran: Path) -> None:
    columns, _ = read_columns(home(ran) / "values.parquet")
    for row in range(N):
        if row == UNWEIGHTED:
            assert (columns["visits"][row], columns["unweighted"][row]) == (0, 2)
            assert np.isnan([columns["value"][row], columns["a code"][row]]).all()
            continue
        phi = RATE / STEP_TOKENS * sum(halves_of(row, visit, 0.3) for visit in (1, 2))
        assert columns["visits"][row] == 2
        assert columns["value"][row] == pytest.approx(phi.mean(), rel=1e-5)
        for k, probe in enumerate(PROBES):
            assert columns[f"a {probe}"][row] == pytest.approx(phi[0, k], rel=1e-5)
            assert columns[f"b {probe}"][row] == pytest.approx(phi[1, k], rel=1e-5)
        assert columns["negative"][row] == (2 if row in HARMFUL else 0)


def test_the_ledger_says_it_in_a_line_between_the_map_and_the_end(ran: Path) -> None:
    [line], everything = events(ran, "value"), read_ledger(ran / "curriculum" / "ledger.jsonl")
    assert [event["event"] for event in everything[-3:]] == ["map", "value", "end"]
    assert (line["rows"], line["negative"], line["not_valued"], line["step"]) == (N - 1, 3, 1, 24)
    assert 0.5 < line["split_half"] <= 1
    assert list(line["split_half_by_probe"]) == list(PROBES)
    assert set(line["transfer"]) == set(events(ran, "run")[0]["rows_by_domain"])
    assert all(list(row) == list(PROBES) for row in line["transfer"].values())
    assert line["sentence"].startswith("3 of 47 rows harm the probes; halves of the probes agree")


def test_the_transfer_is_a_file_of_its_own(ran: Path) -> None:
    transfer = json.loads((home(ran) / "transfer.json").read_text("utf-8"))
    [line] = events(ran, "value")
    assert transfer["probes"] == list(PROBES)
    assert sum(transfer["visits"]) == 2 * (N - 1)
    assert sum(transfer["rows"]) == N - 1
    for d, domain in enumerate(transfer["domains"]):
        assert transfer["mean"][d] == list(line["transfer"][domain].values())
        ends = zip(*(transfer[name][d] for name in ("low", "mean", "high")), strict=True)
        assert all(low < mean < high for low, mean, high in ends)
    assert transfer["split_half"]["all"]["value"] == line["split_half"]


def test_the_furthest_rows_are_listed_with_their_texts(ran: Path) -> None:
    lines = lines_of(ran)
    helpful, harmful = ([line for line in lines if line["side"] == side] for side in ("helpful", "harmful"))
    assert len(helpful) == 10
    assert {line["row"] for line in harmful} == set(HARMFUL)
    assert [line["value"] for line in helpful] == sorted((line["value"] for line in helpful), reverse=True)
    assert [line["value"] for line in harmful] == sorted(line["value"] for line in harmful)
    rows = task_rows(N)
    for line in lines:
        assert line["domain"] == rows[line["row"]]["domain"]
        assert line["prompt"] == rows[line["row"]]["prompt"][0]["content"].strip()
        assert line["answer"]
        assert line["value"] == pytest.approx(np.mean(line["halves"]))
        assert line["value"] == pytest.approx(np.mean(list(line["by_probe"].values())))


def test_the_console_says_it_before_where_everything_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_of(tmp_path / "run", num_train_epochs=1)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("campus: ")]
    assert said[-3].startswith("campus: value · 3 of 47 rows harm the probes; halves of the probes agree")
    assert said[-3].endswith("; campus-tune value shows them")
    assert said[-2].startswith("campus: advice · ")
    assert said[-1].endswith("curriculum")


def test_a_run_without_values_has_nothing_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_trainer(tmp_path, config=SHUFFLE).train()
    assert events(tmp_path, "value") == []
    assert not home(tmp_path).exists()
    assert "value ·" not in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["cut", "other probes"])
def test_values_that_cannot_be_folded_cost_a_line_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    class Damage(LeaveValues):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            super().on_step_end(args, state, control, **kwargs)
            if state.global_step < state.max_steps:
                return
            last = max((self.home / "value").glob("stage-*.parquet"))
            if damage == "cut":
                last.write_bytes(last.read_bytes()[:-10])
                return
            shutil.copy(last, keep := tmp_path / "keep.parquet")
            for path in (self.home / "value").iterdir():
                path.unlink()
            LeaveValues(tmp_path, probes=PROBES[:2]).on_step_end(args, state, control)
            shutil.move(keep, last)

    trainer = tiny_trainer(tmp_path, config=VALUED, callbacks=[Damage(tmp_path)], **ASKED)
    trainer.train()
    [line] = events(tmp_path, "value")
    assert line["rows"] == 0
    assert "must be the values that this run measured in that stage" in line["why"]
    assert "Put it back from a copy" in line["why"]
    assert {path.name[:5] for path in home(tmp_path).iterdir()} == {"stage"}
    assert events(tmp_path, "end")
    assert f"campus: {value_line(line)}" in capsys.readouterr().out.splitlines()[-1]


def test_another_run_in_the_same_folder_puts_the_values_aside(tmp_path: Path) -> None:
    run_of(tmp_path, num_train_epochs=1)
    tiny_trainer(tmp_path, config=SHUFFLE).train()
    assert events(tmp_path, "value") == []
    assert not home(tmp_path).exists()
    assert (tmp_path / "curriculum" / "value.1" / "values.parquet").exists()


def test_a_run_without_domains_has_one_row_of_the_transfer(tmp_path: Path) -> None:
    rows = [{key: value for key, value in row.items() if key != "domain"} for row in task_rows(N)]
    run_of(tmp_path, train=rows)
    transfer = json.loads((home(tmp_path) / "transfer.json").read_text("utf-8"))
    assert transfer["domains"] == [ALL_ROWS]
    assert "domain" not in read_columns(home(tmp_path) / "values.parquet")[0]
    assert all("domain" not in line for line in lines_of(tmp_path))


def test_agreement_is_said_in_five_ways() -> None:
    said = {agreement(value) for value in (0.9, 0.6, 0.4, 0.1, -0.5, float("nan"), None)}
    assert len(said) == 5
