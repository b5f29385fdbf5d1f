"""What every registered metric of kind "cpu" promises."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campus_tune.difficulty import METRICS, CpuMetric, build_metric, finish_scores, parse_metric
from campus_tune.types import RowTexts

OPTIONS: dict[str, dict[str, Any]] = {"column": {"column": "grade"}}  # what a metric cannot be built without


def made(name: str) -> CpuMetric | None:
    metric = build_metric(parse_metric({"name": name, **OPTIONS.get(name, {})}))
    return metric if isinstance(metric, CpuMetric) else None


CPU_METRICS = [name for name in METRICS.names() if made(name) is not None]
every_metric = pytest.mark.parametrize("name", CPU_METRICS)

WORDS = st.text(alphabet="ab cd,.1ü\n", max_size=40)
CORPORA = st.lists(
    st.tuples(WORDS, st.integers(0, 999), st.integers(0, 999), st.floats(-1e6, 1e6)), min_size=1, max_size=12
)


def corpus(rows: list[tuple[str, int, int, float]]) -> RowTexts:
    texts, responses, prompts, grades = zip(*rows, strict=True)
    return RowTexts(list(texts), np.array(responses), np.array(prompts), {"grade": list(grades)})


def test_the_contract_covers_the_metrics_that_exist() -> None:
    assert {"column", "compression", "length", "mtld"} <= set(CPU_METRICS)


def test_every_metric_says_which_kind_it_is() -> None:
    for name in METRICS.names():
        metric = build_metric(parse_metric({"name": name, **OPTIONS.get(name, {})}))
        assert metric.kind == ("cpu" if isinstance(metric, CpuMetric) else "model")


@every_metric
@settings(deadline=None, max_examples=30)
@given(rows=CORPORA)
def test_a_metric_gives_one_finite_float_per_row_and_the_same_again(name: str, rows: list[Any]) -> None:
    metric, texts = made(name), corpus(rows)
    assert metric is not None
    scores = metric.scores(texts, progress=False)
    assert scores.shape == (len(rows),)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    assert scores.tolist() == metric.scores(texts, progress=False).tolist()


@every_metric
@settings(deadline=None, max_examples=30)
@given(rows=CORPORA, data=st.data())
def test_a_row_has_the_same_score_wherever_it_stands(name: str, rows: list[Any], data: st.DataObject) -> None:
    metric = made(name)
    assert metric is not None
    order = data.draw(st.permutations(range(len(rows))))
    moved = metric.scores(corpus([rows[i] for i in order]), progress=False)
    assert moved.tolist() == metric.scores(corpus(rows), progress=False)[order].tolist()


@every_metric
def test_a_minus_turns_the_order_around(name: str) -> None:
    texts = corpus([("one two", 3, 1, 2.0), ("two two two two", 9, 4, 1.0), ("", 1, 2, 5.0)])
    entry = {"name": name, **OPTIONS.get(name, {})}
    up, down = parse_metric(entry), parse_metric({**entry, "name": f"-{name}"})
    metric = made(name)
    assert metric is not None
    assert down.label == f"-{up.label}"
    assert (finish_scores(metric.scores(texts), down) == -finish_scores(metric.scores(texts), up)).all()


@every_metric
def test_settings_are_frozen_and_notes_are_numbers(name: str) -> None:
    metric, texts = made(name), corpus([("one two", 3, 1, 2.0), ("", 1, 2, 5.0)])
    assert metric is not None
    assert dataclasses.is_dataclass(metric)
    assert type(metric).__dataclass_params__.frozen  # type: ignore[attr-defined]
    notes = metric.describe(texts, metric.scores(texts))
    assert all(isinstance(value, int | float) for value in notes.values())


@every_metric
def test_a_metric_leaves_its_rows_as_they_were(name: str) -> None:
    metric, texts = made(name), corpus([("one two", 3, 1, 2.0), ("b", 1, 2, 5.0)])
    assert metric is not None
    metric.scores(texts)[:] = -1.0
    assert texts.response_tokens.tolist() == [3, 1]
    assert texts.prompt_tokens.tolist() == [1, 2]
    assert texts.columns["grade"] == [2.0, 5.0]
