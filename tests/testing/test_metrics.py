"""What every registered metric promises: those of kind "cpu" by their scores, all of them by their settings."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.metrics import METRICS, CpuMetric, EnsembleMetric, Metric, build_metric, finish_scores, parse_metric
from campus_tune.metrics.base import Kind
from campus_tune.metrics.extras import missing_parts
from campus_tune.words.types import RowTexts
from tests.strategies import examples

OPTIONS: dict[str, dict[str, Any]] = {  # what a metric cannot be built without
    "column": {"column": "grade"},
    "learnability": {"proxy": "./proxy"},
    "perplexity": {"model": "./model"},
    "quality": {"model": "./model"},
    "rank_mean": {"of": ["length", "mtld"]},
    "rho": {"holdout": "./model"},
}


@pytest.fixture(scope="module", autouse=True)
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A parser for `parse_depth`: it has learned nothing, and parses all the same."""
    nlp = spacy.blank("en")
    parser = nlp.add_pipe("parser")
    for label in ("nsubj", "ROOT", "det"):
        parser.add_label(label)
    nlp.initialize()
    folder = tmp_path_factory.mktemp("pipeline") / "parser"
    nlp.to_disk(folder)
    OPTIONS["parse_depth"] = {"model": str(folder)}


def built(name: str) -> Metric:
    return build_metric(parse_metric({"name": name, **OPTIONS.get(name, {})}))


def made(name: str) -> CpuMetric | None:
    metric = built(name)
    return metric if isinstance(metric, CpuMetric) else None


CPU_METRICS = [name for name in METRICS.names() if made(name) is not None]
every_metric = pytest.mark.parametrize("name", CPU_METRICS)
every_metric_of_texts = pytest.mark.parametrize("name", [name for name in CPU_METRICS if name != "random"])

WORDS = st.text(alphabet="ab cd,.1ü\n", max_size=40)
CORPORA = st.lists(
    st.tuples(WORDS, st.integers(0, 999), st.integers(0, 999), st.floats(-1e6, 1e6)), min_size=1, max_size=12
)


def corpus(rows: list[tuple[str, int, int, float]]) -> RowTexts:
    texts, responses, prompts, grades = zip(*rows, strict=True)
    return RowTexts(list(texts), np.array(responses), np.array(prompts), {"grade": list(grades)})


def test_the_contract_covers_the_metrics_that_exist() -> None:
    assert {"column", "compression", "length", "mtld", "parse_depth", "random", "readability"} == set(CPU_METRICS)


@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_says_which_kind_it_is(name: str) -> None:
    metric = built(name)
    kinds: dict[type[Metric], Kind] = {CpuMetric: "cpu", EnsembleMetric: "ensemble"}
    assert metric.kind == next((kind for base, kind in kinds.items() if isinstance(metric, base)), "model")


@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_is_a_card(name: str) -> None:
    """What, when it helps, cost, source."""
    card = str(type(built(name)).__doc__)
    if name != "column":  # a user's own number
        assert "Reference:" in card
    if name not in ("column", "length", "compression", "mtld"):  # which say it in other words
        assert "When it helps:" in card
        assert "Cost:" in card


def test_nothing_is_missing_for_the_tests() -> None:
    assert missing_parts(map(built, METRICS.names())) == []


@pytest.mark.parametrize("name", METRICS.names())
def test_settings_are_frozen(name: str) -> None:
    assert dataclasses.is_dataclass(built(name))
    assert type(built(name)).__dataclass_params__.frozen  # type: ignore[attr-defined]


@every_metric
@examples(30)
@given(rows=CORPORA)
def test_a_metric_gives_one_finite_float_per_row_and_the_same_again(name: str, rows: list[Any]) -> None:
    metric, texts = made(name), corpus(rows)
    assert metric is not None
    scores = metric.scores(texts, progress=False)
    assert scores.shape == (len(rows),)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    assert scores.tolist() == metric.scores(texts, progress=False).tolist()


@every_metric_of_texts  # a random one goes by the place
@examples(30)
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
def test_notes_are_numbers(name: str) -> None:
    metric, texts = made(name), corpus([("one two", 3, 1, 2.0), ("", 1, 2, 5.0)])
    assert metric is not None
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
