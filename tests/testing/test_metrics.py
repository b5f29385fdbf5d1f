"""Every registered metric keeps what metrics promise, and a metric that does not is found out."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.metrics import METRICS, CpuMetric, EnsembleMetric, Metric, build_metric, parse_metric
from campus_tune.metrics.base import Kind
from campus_tune.metrics.extras import missing_parts
from campus_tune.testing import BrokenPromise, check_metric
from campus_tune.words.types import RowTexts
from tests.strategies import examples
from tests.testing.mutants import registered

OPTIONS: dict[str, dict[str, Any]] = {  # what a metric cannot be built without
    "column": {"column": "grade"},
    "learnability": {"proxy": "./proxy"},
    "perplexity": {"model": "./model"},
    "quality": {"model": "./model"},
    "rank_mean": {"of": ["length", "mtld"]},
    "rho": {"holdout": "./model"},
}
GRADES = {"grade": [0.0, 1.0, -1e6, 1e6, 2.5]}


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


def setting(name: str) -> dict[str, Any]:
    return {"name": name, **OPTIONS.get(name, {})}


def built(name: str) -> Metric:
    return build_metric(parse_metric(setting(name)))


CPU_METRICS = [name for name in METRICS.names() if isinstance(built(name), CpuMetric)]
WORDS = st.text(alphabet="ab cd,.1ü\n", max_size=40)
CORPORA = st.lists(st.tuples(WORDS, st.integers(0, 999), st.floats(-1e6, 1e6)), min_size=1, max_size=12)


def corpus(rows: list[tuple[str, int, float]]) -> RowTexts:
    texts, tokens, grades = zip(*rows, strict=True)
    return RowTexts(list(texts), np.array(tokens), np.array(tokens), {"grade": list(grades)})


def test_the_contract_covers_the_metrics_that_exist() -> None:
    assert {"column", "compression", "length", "mtld", "parse_depth", "random", "readability"} <= set(CPU_METRICS)


@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_keeps_what_metrics_promise(name: str) -> None:
    check_metric(setting(name), columns=GRADES, by_place=name == "random", draws=10)


@pytest.mark.parametrize("name", CPU_METRICS)
def test_a_metric_turned_around_keeps_it_too(name: str) -> None:
    check_metric({**setting(name), "name": f"-{name}"}, columns=GRADES, by_place=name == "random", draws=2)


@pytest.mark.parametrize("name", CPU_METRICS)
@examples(30)
@given(rows=CORPORA, data=st.data())
def test_any_text_has_a_finite_score_wherever_it_stands(name: str, rows: list[Any], data: st.DataObject) -> None:
    metric = built(name)
    assert isinstance(metric, CpuMetric)
    scores = metric.scores(corpus(rows), progress=False)
    assert np.isfinite(scores).all()
    if name != "random":  # which goes by the place
        order = data.draw(st.permutations(range(len(rows))))
        moved = metric.scores(corpus([rows[i] for i in order]), progress=False)
        assert moved.tolist() == scores[order].tolist()


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


# -- metrics that break a promise ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Base(CpuMetric):
    """A metric that does something that no metric must do, for a test of what is told about it."""

    def scores(self, texts: RowTexts, *, num_proc: int = 1, progress: bool = True) -> Any:
        del num_proc, progress
        return texts.response_tokens.astype(np.float64)


def scoring(score: Callable[[RowTexts], Any]) -> type[CpuMetric]:
    class Mutant(Base):
        """A metric that does something that no metric must do, for a test of what is told about it."""

        def scores(self, texts: RowTexts, *, num_proc: int = 1, progress: bool = True) -> Any:
            del num_proc, progress
            return score(texts)

    return Mutant


@dataclass(frozen=True)
class NoCard(CpuMetric):
    def scores(self, texts: RowTexts, *, num_proc: int = 1, progress: bool = True) -> Any:
        del num_proc, progress
        return np.zeros(len(texts))


NoCard.__doc__ = CpuMetric.__doc__


@dataclass
class NotFrozen(CpuMetric):
    """A metric whose settings anybody can change after the recipe was read, for a test."""

    scores = Base.scores


@dataclass(frozen=True)
class Changeable(Base):
    """A metric whose settings are frozen, but for what is inside of them, for a test."""

    words: list[str] = field(default_factory=list)


class SaysModel(Base):
    """A metric of the texts that says it asks a model, for a test of what is told about it."""

    kind: ClassVar[Kind] = "model"


class MadeWithNumbers(Base):
    """A metric that gives versions as numbers, which the cache of scores cannot name, for a test."""

    def made_with(self) -> Any:
        return {"numpy": 2}


class DescribesInWords(Base):
    """A metric that describes its scores in words where numbers are wanted, for a test."""

    def describe(self, texts: RowTexts, scores: Any) -> Any:
        del texts, scores
        return {"rows": "many"}


def in_place(texts: RowTexts) -> Any:
    texts.response_tokens[:] += 1
    return texts.response_tokens.astype(np.float64)


calls = itertools.count()


@pytest.mark.parametrize(
    ("part", "promise"),
    [
        (NoCard, r"`mutant` must have a docstring of its own, its card, of 10 words or more"),
        (NotFrozen, r"`mutant` must be a frozen dataclass, got NotFrozen\. Write @dataclass\(frozen=True\)"),
        (Changeable, r"got a list, dict or set in words\. Keep a tuple"),
        (SaysModel, r"must say kind 'cpu' if, and only if, it is a CpuMetric, got 'model'"),
        (MadeWithNumbers, r"library → version, both text, got \{'numpy': 2\}"),
        (DescribesInWords, r"must describe its scores by numbers, got \{'rows': 'many'\}"),
        (scoring(lambda texts: [1.0] * len(texts)), r"must give one float64 per row, shape \(\d+,\), got list"),
        (scoring(lambda texts: texts.response_tokens), r"one float64 per row, shape \(\d+,\), got int64"),
        (scoring(lambda texts: np.zeros((len(texts), 1))), r"shape \(\d+,\), got float64 \(\d+, 1\)"),
        (
            scoring(lambda texts: np.array([1.0 if text else np.nan for text in texts.response_text])),
            r"must give every row a finite score, an empty answer too, got \[.*nan.*\] for the answers \[.*''",
        ),
        (scoring(in_place), r"must leave its rows as they were, got them changed for the answers"),
        (
            scoring(lambda texts: np.arange(len(texts), dtype=np.float64) + next(calls)),
            r"must give the same rows the same scores whenever it is asked, got \[.*\], then \[.*remember nothing",
        ),
        (
            scoring(lambda texts: np.arange(len(texts), dtype=np.float64)),
            r"must give a row the same score wherever it stands, got \[.*\] after the rows were put in the sequence",
        ),
        (
            scoring(lambda texts: texts.response_tokens / max(1, texts.response_tokens.sum())),
            "",  # keeps all of them: what is compared with the other rows is a metric, too
        ),
    ],
)
def test_a_metric_that_breaks_a_promise_is_found_out(part: type[CpuMetric], promise: str) -> None:
    with registered(METRICS, part) as name:
        if not promise:
            check_metric(name)
            return
        with pytest.raises(BrokenPromise, match=promise):
            check_metric(name)


def test_a_score_that_goes_by_the_place_is_allowed_where_that_is_said() -> None:
    with registered(METRICS, scoring(lambda texts: np.arange(len(texts), dtype=np.float64))) as name:
        check_metric(name, by_place=True)
