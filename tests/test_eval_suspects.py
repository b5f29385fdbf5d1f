"""The evaluation of suspects: what is planted, the arithmetic by hand, and one small run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from campus_tune.demo.tasks import generate
from campus_tune.words.types import Json
from eval import suspects
from eval.planting import FRAMES, KINDS, answer_of, area, plant, precision

ROWS = generate(8, seed=0)
ANSWERS = ["of a weaker model"] * len(ROWS)


def prompt_of(row: Json) -> str:
    """The question."""
    return str(row["prompt"][0]["content"])


@pytest.mark.parametrize("kind", KINDS)
def test_as_many_rows_become_wrong_as_asked_for_and_no_other_changes(kind: str) -> None:
    before = [(prompt_of(row), answer_of(row)) for row in ROWS]
    planted, wrong = plant(ROWS, kind, 0.1, np.random.default_rng(0), answers=ANSWERS)
    again, _ = plant(ROWS, kind, 0.1, np.random.default_rng(0), answers=ANSWERS)
    assert planted == again
    assert [(prompt_of(row), answer_of(row)) for row in ROWS] == before
    assert wrong.sum() == round(0.1 * len(ROWS))
    assert wrong.tolist() == [new != old for new, old in zip(planted, ROWS, strict=True)]
    assert [row["id"] for row in planted] == [row["id"] for row in ROWS]


def test_swapped_answers_are_of_the_domain_and_about_as_long() -> None:
    rows = generate(40, seed=1)
    planted, wrong = plant(rows, "swapped", 0.3, np.random.default_rng(0))
    domain_of = {answer_of(row): row["domain"] for row in rows}
    pairs = [(answer_of(old), answer_of(new)) for old, new, bad in zip(rows, planted, wrong, strict=True) if bad]
    assert all(domain_of[a].isalpha() and domain_of[b] for a, b in pairs)
    assert np.median([abs(len(a) - len(b)) for a, b in pairs]) <= 1
    same = [
        domain_of[b] == row["domain"] for row, bad, b in zip(rows, wrong, map(answer_of, planted), strict=True) if bad
    ]
    assert np.mean(same) > 0.9  # a number may be the answer in two domains


def test_each_kind_is_what_the_table_says() -> None:
    texts = {answer_of(row) for row in ROWS}
    made: dict[str, list[tuple[Json, Json]]] = {}
    for kind in KINDS:
        planted, wrong = plant(ROWS, kind, 0.2, np.random.default_rng(3), answers=ANSWERS)
        made[kind] = [(old, new) for old, new, bad in zip(ROWS, planted, wrong, strict=True) if bad]
    assert all(answer_of(new) in texts for _, new in made["any"])
    assert all(answer_of(old).startswith(answer_of(new)) for old, new in made["cut"])
    assert all(answer_of(new) in [frame.format(answer_of(old)) for frame in FRAMES] for old, new in made["template"])
    assert all(answer_of(new) == ANSWERS[0] for _, new in made["weaker"])
    for old, new in made["two_answers"]:
        others = [row for row in ROWS if prompt_of(row) == prompt_of(new)]
        assert answer_of(new) == answer_of(old) != answer_of(others[0])
        assert others[0]["domain"] == old["domain"]


def test_a_weaker_model_must_have_answered() -> None:
    with pytest.raises(
        ValueError, match=r"`answers` must be given for the kind `weaker`, got None\. Let a weaker model"
    ):
        plant(ROWS, "weaker", 0.1, np.random.default_rng(0))


def test_precision_and_area_are_scikits() -> None:
    rng = np.random.default_rng(0)
    score, wrong = rng.integers(0, 9, 60).astype(np.float64), rng.random(60) < 0.3
    above, below = score[wrong], score[~wrong]
    assert area(score, wrong) == pytest.approx(stats.mannwhitneyu(above, below).statistic / len(above) / len(below))
    assert np.isnan(area(score, np.zeros(60, dtype=bool)))
    assert np.isnan(precision(score, wrong, 0))
    assert precision(np.array([1.0, np.nan]), np.array([False, True]), 1) == 0


def test_a_list_is_as_long_as_there_are_wrong_rows_and_at_most_the_top_tenth() -> None:
    assert suspects.length_of_list(np.arange(100) < 7) == 7
    assert suspects.length_of_list(np.arange(100) < 30) == 10


def test_the_interval_is_ts() -> None:
    values = [0.1, 0.3, 0.2, 0.4]
    mean, half = suspects.interval(values)
    low, _ = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (mean, mean - half) == (pytest.approx(0.25), pytest.approx(low))
    assert np.isnan(suspects.interval([0.5])[1])


def test_seeds_are_read_as_a_range_or_a_list() -> None:
    assert suspects.seeds_of("3-5") == [3, 4, 5]
    assert suspects.seeds_of("7,2") == [7, 2]


def test_a_small_run_shows_all_that_the_scores_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suspects, "START", ((2, 2, 1e-3),))
    monkeypatch.setattr(suspects, "HIDDEN", 16)
    monkeypatch.setattr(suspects, "ROWS", {0: 12})
    planted = ["swapped:0.25", "weaker:0.1", "none:0"]
    suspects.run_all(tmp_path, [0], planted, 2)
    suspects.run_all(tmp_path, [0], planted, 2)  # finds them
    by_kind = suspects.load(tmp_path, [0, 1], planted)
    run: dict[str, Any] = by_kind["swapped:0.25"][0]
    assert sorted(run["visit_row"].tolist()) == sorted([*range(48)] * 2)
    assert run["row_wrong"].sum() == 12
    assert (
        np.corrcoef(run["visit_margin"] / run["visit_tokens"], run["visit_nll_sum"] / run["visit_tokens"])[0, 1] < -0.9
    )
    assert (run["row_prompt"] > 0).all()
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 3
    dirty = {name: runs for name, runs in by_kind.items() if name != "none:0"}
    assert suspects.table_of_kinds(dirty).count("\n") == 3
    assert suspects.table_of_domains(dirty).count("\n") == 5
    assert "| none:0 | local excess | 1 of 1 | 0.00% (0.00%) | - | - | - | - |" in suspects.table_of_suspects(by_kind)
