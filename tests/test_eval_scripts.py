"""The scripts behind `eval/LOG.md`: their arithmetic by hand, and one small run of each."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from campus_tune.words.types import Json
from eval import bench_score, damage, metric_validity, rules, same_ledgers

LEVEL = np.array([0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3], dtype=np.float64)
TASKS = np.repeat([0, 1, 2], 4)
RISING, FALLING, CONSTANT = [1.0, 2, 3, 4], [40.0, 30, 20, 10], [7.0, 7, 7, 7]


# -- metric_validity --------------------------------------------------------------------------------------------------


def test_a_rank_correlation_of_many_lines_is_scipys_of_each() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(5, size=(2, 6, 20))
    expected = [stats.spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(metric_validity.row_spearman(a, b), expected)


def test_ranks_inside_tasks_do_not_see_the_other_tasks() -> None:
    values = np.array([[10.0, 20, 1000, 4000, 3000, 2000]])
    ranks = metric_validity.ranks_inside(values, np.array([0, 0, 1, 1, 1, 1]))
    assert ranks.tolist() == [[0.25, 0.75, 0.125, 0.875, 0.625, 0.375]]


def test_the_three_readings_differ_as_the_docstring_says() -> None:
    scores = np.array([*RISING, *FALLING, *CONSTANT])
    found = metric_validity.readings(scores[None], LEVEL[None], TASKS)
    assert found["by_task"][0].tolist()[:2] == pytest.approx([1.0, -1.0])
    assert np.isnan(found["by_task"][0, 2])
    assert found["mean"] == pytest.approx([0.0])  # of the two tasks that have one
    assert found["within"] == pytest.approx([0.0])
    rising = metric_validity.readings(np.array([*RISING, *RISING, *CONSTANT])[None], LEVEL[None], TASKS)
    assert rising["mean"] == pytest.approx([1.0])
    assert rising["within"] == pytest.approx([np.sqrt(2 / 3)])  # the constant task is a third of the rows
    other_scale = np.array([*RISING, *(100 - np.array(RISING[::-1])), *RISING])
    apart = metric_validity.readings(other_scale[None], LEVEL[None], TASKS)
    assert apart["within"] == pytest.approx([1.0])
    assert apart["pooled"] == pytest.approx([stats.spearmanr(other_scale, LEVEL).statistic])
    assert apart["pooled"][0] < 0.8


def test_rows_are_drawn_inside_their_task() -> None:
    drawn = metric_validity.resamples(TASKS, 50, seed=1)
    assert drawn.shape == (50, 12)
    assert (TASKS[drawn] == TASKS).all()
    assert len(np.unique(drawn)) == 12
    assert (drawn == metric_validity.resamples(TASKS, 50, seed=1)).all()


def test_a_metric_that_does_not_vary_in_a_task_is_counted_and_not_averaged_away() -> None:
    drawn = metric_validity.resamples(TASKS, 200, seed=0)
    found = metric_validity.validity(np.array([*RISING, *RISING, *CONSTANT]), LEVEL, TASKS, drawn)
    assert found["no_variation"] == 1
    assert found["by_task"][2][1] is None
    assert "| constant | 4 | - |" in metric_validity.task_table({"m": found}, ["a", "b", "constant"], [4, 4, 4])
    assert metric_validity.summary_table({"m": found}, {}).endswith("| 1 |")
    low, high = found["within"][1]
    assert low <= found["within"][0] <= high


def test_intervals_are_wider_with_fewer_rows() -> None:
    rng = np.random.default_rng(3)
    widths = []
    for n in (20, 500):
        level, tasks = np.arange(n) % 5.0, np.zeros(n, dtype=np.int64)
        drawn = metric_validity.resamples(tasks, 300, seed=0)
        low, high = metric_validity.validity(level + rng.normal(0, 3, n), level, tasks, drawn)["pooled"][1]
        widths.append(high - low)
    assert widths[0] > 3 * widths[1]


def test_rows_of_every_shape_become_prompt_and_completion() -> None:
    said = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
    wanted = {"task": "sums", "level": 3, "prompt": said[:1], "completion": said[1:]}
    assert metric_validity.as_row({"task": "sums", "level": 3, "question": "2 + 2?", "answer": "4"}, None) == wanted
    assert metric_validity.as_row({"domain": "sums", "level": 3, "messages": said}, None) == wanted
    row = {"task": "other", "kind": "sums", "level": 3, "prompt": said[:1], "completion": said[1:]}
    assert metric_validity.as_row(row, "kind") == wanted


def test_no_row_is_both_scored_and_trained() -> None:
    rows = [{"task": t, "level": level, "n": n} for t in "ab" for level in (-1, 0, 1) for n in range(9)]
    scored, others = metric_validity.deal(rows, per_cell=4, seed=0)
    assert [(row["task"], row["level"]) for row in scored] == [(t, v) for t in "ab" for v in (0, 1) for _ in range(4)]
    assert len(others) == 4 * 5
    assert not [row for row in others if row in scored or row["level"] < 0]


def test_metrics_are_judged_before_and_after_a_warm_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found.json"
    metrics = ["length", "{name: loss, reduce: sum, label: loss sum}", "{name: scorer, new_tokens: 2, pairs: 32}"]
    few = ["--per-cell", "2", "--warm-up", "3", "--resamples", "20", "--stability-rows", "10"]
    metric_validity.main([*few, "--out", str(out), "--metrics", *metrics])
    printed, found = capsys.readouterr().out, json.loads(out.read_text())
    assert list(found["before"]) == ["random numbers", "length", "loss sum", "scorer"]
    assert list(found["after"]) == ["loss sum", "scorer"]
    assert found["scores_before"]["loss sum"] != found["scores_after"]["loss sum"]
    assert found["before"]["loss sum"]["mean"][0] > 0.5  # with random weights it is the length of the answer
    assert found["before"]["length"]["by_task"][0][0] > 0.9
    assert "| length | " in printed
    assert "between two seeds" in printed


# -- bench_score ------------------------------------------------------------------------------------------------------


def test_answers_begin_with_a_space_whatever_the_row_looks_like() -> None:
    said = [{"role": "user", "content": "2 + 2? "}, {"role": "assistant", "content": " 4"}]
    wanted = {"prompt": "2 + 2?\nAnswer:", "completion": " 4"}
    assert bench_score.plain_row({"messages": said}) == wanted
    assert bench_score.plain_row({"prompt": said[:1], "completion": said[1:]}) == wanted
    assert bench_score.plain_row({"prompt": "2 + 2?", "completion": "4"}) == wanted
    assert bench_score.plain_row({"question": "2 + 2?", "answer": "4"}) == wanted


def test_the_warming_turn_is_not_counted() -> None:
    calls: list[str] = []
    seconds = bench_score.in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert calls == ["a", "b"] * 3
    assert [len(times) for times in seconds.values()] == [2, 2]


def test_the_ratio_is_taken_turn_by_turn() -> None:
    assert bench_score.median_ratio([2.0, 30.0, 4.0], [1.0, 10.0, 4.0]) == 2.0


def test_without_lm_eval_the_comparison_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_score.importlib.util, "find_spec", {}.get)
    assert "pip install lm-eval" in bench_score.harness("model", "folder", bench_score.parse([]))


def test_scoring_is_timed_in_all_its_parts(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    few = ["--rows", "16", "--rounds", "1", "--texts", "40", "--batches", "512", "1024"]
    bench_score.main([*few, "--parts", "speed", "cpu", "sweep"])
    printed = capsys.readouterr().out
    assert printed.count("| tiny random Llama | 16 |") == 1
    assert "| mtld | 40 |" in printed
    assert "| 512 | 256 |" in printed
    options = bench_score.parse(["--child", "20", "--memory-rows", "8"])
    model = str(bench_score.write_tiny(tmp_path / "tiny"))
    assert bench_score.added_memory(model, options)["tokens"] > 400


# -- damage -----------------------------------------------------------------------------------------------------------


def test_every_file_is_damaged_in_every_way_and_mended(tmp_path: Path) -> None:
    for run in ("run", "other"):
        for name in ("checkpoint-8/optimizer.pt", "checkpoint-6/optimizer.pt", "curriculum/scores/length.parquet"):
            path = tmp_path / run / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{run} {name}".encode())
    out, seen = tmp_path / "run", {}
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for one in damage.damages(out, tmp_path / "other", 3, random.Random(0)):
        with damage.damaged(out, one):
            path = out / one.file
            now = path.read_bytes() if path.exists() else None
            assert now != before.get(path)
            seen.setdefault(one.file, []).append((one.kind, None if now is None else len(now)))
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    size = len("run checkpoint-8/optimizer.pt")
    assert seen.pop("checkpoint-8/optimizer.pt") == [
        ("missing", None),
        *[("cut", length) for length in (0, 1, size // 2, size - 1)],
        ("longer", size + 1),
        *[("flipped", size)] * 3,
        ("exchanged", size + 2),
        ("exchanged", size),
    ]
    assert [kind for kind, _ in seen.pop("curriculum/scores/length.parquet")][-2:] == ["flipped", "exchanged"]
    assert seen == {f"checkpoint-8/{name}": [("added", 14)] for name in damage.STRANGERS}


def test_a_flip_turns_one_bit_over_and_the_table_adds_up() -> None:
    assert damage.flipped(b"abc", 1, 4) == b"afc"
    lines = damage.table({"a": Counter(named=2), "b": Counter(earlier=1, TRACEBACK=1)}).splitlines()
    assert lines[-1] == "| **all** | 4 | 2 | 1 | 0 | 0 | 1 |"


# -- same_ledgers -----------------------------------------------------------------------------------------------------


def test_the_eight_recipes_have_all_that_a_rebuilding_must_keep() -> None:
    recipes = same_ledgers.recipes()
    assert len(recipes) == 8
    shapes = {(r.campus.get("window", "prefix"), r.campus.get("coverage", "exact")) for r in recipes}
    assert len(shapes) == 4
    assert {r.ranks for r in recipes} == {1, 2}
    assert [(r.old, r.new) for r in recipes[-2:]] == [(("old", "old"), ("new", "new")), (("old",), ("old", "new"))]
    for option in ("gradient_accumulation_steps", "dataloader_num_workers", "dataset_num_proc", "use_peft"):
        assert any(option in r.training for r in recipes), option
    assert any("scorer" in str(r.campus) and r.campus["rescore"] for r in recipes)
    assert any("probes" in r.campus for r in recipes)


def test_everything_but_clocks_and_ids_is_compared() -> None:
    one: Json = {"step": 3, "seconds": {"share": 0.1}, "rows": [1, 2], "runtime": 5.0}
    assert list(same_ledgers.unequal(one, {**one, "seconds": 7, "runtime": 6.0})) == []
    assert list(same_ledgers.unequal(one, {**one, "rows": [1, 3]})) == ["rows.1 2 and 3"]
    assert list(same_ledgers.unequal(one, {**one, "more": 1})) == ["more is in the new one only"]
    assert list(same_ledgers.unequal([1], [1.0])) == ["0 1 and 1.0"]
    assert same_ledgers.sentences("campus: cost: 5%; by the clock, 7%\n{'loss': 1}\ntook 12 s") == [
        "campus: cost: 5%…",
        "took …",
    ]


@pytest.mark.parametrize(
    ("rows", "file", "word"),
    [
        (4, "a", "PROVEN"),
        (5, "a", "DIFFERENT  x: ledger, by its own comparison, line 2 (decision): rows 4 and 5"),
        (4, "b", "DIFFERENT  x: run/recipe.yaml: other bytes"),
    ],
)
def test_two_sides_are_run_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, file: str, word: str
) -> None:
    calls = []

    def tune(checkout: Path, folder: Path, *words: str, until: object = None) -> str:
        del until
        calls.append((checkout.name, words[0]))
        if words[0] == "sft":
            ledger = folder / "run" / "curriculum" / "ledger.jsonl"
            ledger.parent.mkdir(parents=True)
            new = checkout.name == "new"
            lines = [{"event": "run"}, {"event": "decision", "rows": rows if new else 4, "seconds": len(calls)}]
            same_ledgers.write(ledger, lines)
            (folder / "run" / "recipe.yaml").write_text(file if new else "a")
        return "the same rows in every step of 1 stages"

    monkeypatch.setattr(same_ledgers, "tune", tune)
    recipe = same_ledgers.Recipe("x", {}, {})
    checkouts = {name: tmp_path / name for name in ("old", "new")}
    found = same_ledgers.examine(recipe, checkouts, tmp_path)
    assert found.line("x", 1.0).startswith(word)
    n = len(calls)
    same_ledgers.examine(recipe, checkouts, tmp_path)
    assert set(calls[n:]) <= {("new", "diff")}, "what was run of the same source is not run again"


def test_each_fault_finds_its_place_in_the_source(tmp_path: Path) -> None:
    for number, plant in enumerate(same_ledgers.FAULTS.values()):
        copy = tmp_path / str(number)
        shutil.copytree(same_ledgers.HERE / "campus_tune", copy)
        assert plant(copy) >= 1


# -- rules -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", rules.SCHEDULES)
def test_the_mass_behind_a_measurement_is_the_integral_of_the_rate(schedule: str) -> None:
    x = (np.arange(1000) + 0.5) / 1000
    rate = {"constant": np.ones(1000), "linear": 1 - x, "cosine": (1 + np.cos(np.pi * x)) / 2}[schedule]
    behind = np.concatenate([[0.0], np.cumsum(rate) / rate.sum()])
    np.testing.assert_allclose(rules.mass_of(schedule, 11), behind[::100], atol=1e-4)


def test_what_surely_rises_fires_and_what_surely_does_not_does_not() -> None:
    mass = rules.mass_of("constant", 16)
    still, up = np.ones((16, 1)), np.concatenate([np.ones((12, 1)), np.full((4, 1), 1.5)])
    shares = [
        rules.share_that_fire(rules.Regression(), truth, n=64, jitter=0.01, mass=mass, times=3) for truth in (still, up)
    ]
    assert shares == [0.0, 1.0]


def test_the_tables_have_a_line_for_each_case() -> None:
    first, second = rules.tables(1).split("\n\n")
    assert len(first.splitlines()) == 2 + len([*rules.settings()])
    assert len(second.splitlines()) == 2 + len([*rules.powers()])
