"""The benchmark of situations: its files, rows, runs that are kept, and what a second run must repeat."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from campus_tune.compare.verdict import arm_of
from campus_tune.demo.tiny import tiny_model
from campus_tune.recipe.config import CampusConfig
from eval.situations import situation as situations
from eval.situations.__main__ import left_of, main, timeless, unlike
from eval.situations.arms import ARMS, block_of
from eval.situations.bases import BASES
from eval.situations.rows import MAKES, made, question
from eval.situations.runs import RESULT, VISITS, folder_of, one_run
from eval.situations.situation import Situation, names, read_situation, seeds_of

FEW = {"make": "graded", "kind": "swapped", "planted": 0.25, "levels": {0: 16}}


def small(**more: Any) -> Situation:
    """A situation that is over in seconds."""
    given = {"rows": FEW, "epochs": 2, "arms": ("random", "oracle"), "seeds": (3,), "points": 2, **more}
    return replace(read_situation("wrong_30"), name="small", **given)


@pytest.fixture(scope="module")
def keep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that knows nothing, and two runs."""
    folder = tmp_path_factory.mktemp("keep")
    tiny_model(hidden=16).save_pretrained(folder / "bases" / "tasks")
    for arm in ("random", "oracle"):
        one_run(folder, small(), arm, 3)
    return folder


@pytest.mark.parametrize("name", names())
def test_every_situation_names_what_there_is(name: str) -> None:
    found = read_situation(name)
    assert found.base in BASES
    assert found.rows["make"] in MAKES
    assert set(found.arms) <= set(ARMS)
    assert found.epochs > 0
    assert len(found.about) > 20
    assert len(set(found.seeds)) == len(found.seeds)


def test_what_tunes_does_not_judge() -> None:
    every = [read_situation(name) for name in names()]
    seeds = {use: {seed for one in every if one.use == use for seed in one.seeds} for use in ("tune", "judge")}
    assert seeds["tune"]
    assert seeds["judge"]
    assert not seeds["tune"] & seeds["judge"]


@pytest.mark.parametrize("name", sorted(ARMS))
def test_every_arm_is_a_recipe(name: str) -> None:
    kind, block = block_of(name)
    CampusConfig.from_mapping({**block, "seed": 0})
    assert kind in ("baseline", "recipe", "control")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use": "both"}, "`use` must be one of tune, judge, got 'both'"),
        ({"judged_by": "luck"}, "`judged_by` must be one of mean, worst_domain, got 'luck'"),
        ({"epoch": 2}, "unknown key 'epoch'"),
        ({"base": None}, "'base' is missing"),
        ({"arms": ["oracle"]}, "`arms` must begin with random"),
    ],
)
def test_a_file_that_is_none(
    change: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = yaml.safe_load((situations.HERE / "wrong_30.yaml").read_text())
    given = {key: value for key, value in {**given, **change}.items() if value is not None}
    (tmp_path / "odd.yaml").write_text(yaml.safe_dump(given))
    monkeypatch.setattr(situations, "HERE", tmp_path)
    with pytest.raises(SystemExit, match=message.replace("(", r"\(")):
        read_situation("odd")


def test_a_situation_that_nobody_wrote() -> None:
    with pytest.raises(SystemExit, match="`nowhere` must be a situation"):
        read_situation("nowhere")


def test_seeds() -> None:
    assert seeds_of("100-102,7") == (100, 101, 102, 7)
    assert seeds_of(4) == (4,)
    assert seeds_of([1, 2]) == (1, 2)


def test_rows_are_drawn_anew_and_test_rows_are_not() -> None:
    one, other, again = made(FEW, 3), made(FEW, 4), made(FEW, 3)
    assert one.tests == other.tests
    assert one.probes == other.probes
    assert one.rows != other.rows
    assert one.rows == again.rows
    assert (one.wrong == again.wrong).all()
    assert [row["right"] for row in one.rows] == [float(not bad) for bad in one.wrong]
    assert one.wrong.mean() == pytest.approx(0.25, abs=0.05)
    asked = [{question(row) for row in rows} for rows in (one.rows, one.tests, one.probes)]
    assert not asked[0] & asked[1]
    assert not asked[0] & asked[2]
    assert not asked[1] & asked[2]


def test_more_of_one_domain() -> None:
    rows = made({"make": "graded", "levels": {0: 20}, "domains": {"lists": 0.8, "text": 0.2}}, 0).rows
    assert [sum(row["domain"] == name for row in rows) for name in ("lists", "text")] == [16, 4]


def test_a_run_is_a_result_of_a_comparison(keep: Path) -> None:
    results = [json.loads((folder_of(keep, "small", arm, 3) / RESULT).read_text()) for arm in ("random", "oracle")]
    random, oracle = (arm_of([one]) for one in results)
    assert random.kind == "baseline"
    assert random.shared == oracle.shared
    assert random.end.items == oracle.end.items
    assert [one["audit"]["passed"] for one in results] == [4, 4]
    assert results[0]["rows"] == results[1]["rows"] == 128


def test_the_oracle_trains_no_wrong_row_and_what_was_shown_is_kept(keep: Path) -> None:
    for arm, trained in (("random", True), ("oracle", False)):
        folder = folder_of(keep, "small", arm, 3)
        visits, rows = np.load(folder / "visits.npz"), np.load(folder / "rows.npz")
        assert len(visits["row"]) == 128
        assert rows["wrong"][visits["row"]].any() == trained
        assert (visits["tokens"] == rows["answer_tokens"][visits["row"]]).all()


def test_what_is_kept_is_not_made_again_and_a_second_run_is_the_same(keep: Path, tmp_path: Path) -> None:
    path = folder_of(keep, "small", "random", 3) / RESULT
    before = path.stat().st_mtime_ns
    one_run(keep, small(), "random", 3)
    assert path.stat().st_mtime_ns == before
    tiny_model(hidden=16).save_pretrained(tmp_path / "bases" / "tasks")
    one_run(tmp_path, small(), "random", 3)
    assert unlike(keep, tmp_path) == []
    told = json.loads(path.read_text())
    other = {**told, "tokens": told["tokens"] + 1}
    assert timeless(told) != timeless(other)
    assert "seconds" not in timeless(told)["ledger"][-1]
    assert timeless(told)["ledger"][-1]["visits"] == told["rows"]
    visits = folder_of(tmp_path, "small", "random", 3) / VISITS
    with np.load(visits) as seen:
        was = dict(seen)
    np.savez(visits, **{**was, "nll_sum": was["nll_sum"] + 1e-12})
    assert unlike(keep, tmp_path) == ["small/random/seed-3"]
    np.savez(visits, **was)
    assert unlike(keep, tmp_path) == []
    (folder_of(tmp_path, "small", "random", 3) / RESULT).write_text(json.dumps(other))
    assert unlike(keep, tmp_path) == ["small/random/seed-3"]
    assert main(["same", str(keep), str(tmp_path)]) == 1


def test_the_plan_says_what_is_left(keep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--keep", str(keep), "--situations", "wrong_30", "--seeds", "100"]) == 0
    told = capsys.readouterr().out
    n = len(read_situation("wrong_30").arms)
    assert f"wrong_30 (judge, tasks): {n} arms × 1 seeds = {n} runs, {n} to make" in told
    assert left_of(keep, [("small", "random", 3), ("small", "both", 3)]) == [("small", "both", 3)]
