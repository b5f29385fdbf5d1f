"""How a recipe names a metric, and what its scores must be."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.metrics import (
    METRICS,
    Column,
    Length,
    MetricSpec,
    build_metric,
    check_labels,
    finish_scores,
    parse_metric,
)
from campus_tune.words.errors import MetricError, RecipeError

SPEC = MetricSpec("mine", "column", False, {})


def test_a_word_names_a_metric_and_a_minus_reverses_it() -> None:
    assert parse_metric("length") == MetricSpec("length", "length", False, {})
    assert parse_metric("-length") == MetricSpec("-length", "length", True, {})


def test_a_mapping_gives_options_and_a_label() -> None:
    spec = parse_metric({"name": "length", "of": "both", "label": "all tokens"})
    assert spec == MetricSpec("all tokens", "length", False, {"of": "both"})
    assert build_metric(spec) == Length(of="both")


def test_a_column_is_called_by_its_name() -> None:
    assert parse_metric({"name": "column", "column": "level"}).label == "level"
    assert parse_metric({"name": "-column", "column": "level"}).label == "-level"
    assert parse_metric({"name": "-column", "column": "level", "label": "down"}).label == "down"
    assert build_metric(parse_metric({"name": "-column", "column": "level"})) == Column(column="level")


def test_reading_an_entry_leaves_it_as_it_was() -> None:
    entry = {"name": "length", "of": "both"}
    parse_metric(entry)
    assert entry == {"name": "length", "of": "both"}


def test_a_misspelt_metric_is_named_and_corrected() -> None:
    with pytest.raises(RecipeError, match=r"`metric` must be one of .*got 'lenght'\. Did you mean 'length'\?"):
        parse_metric("-lenght")


def test_a_misspelt_option_is_named_and_corrected() -> None:
    with pytest.raises(RecipeError, match=r"`metric: column` takes .*got 'colunm'\. Did you mean 'column'\?"):
        parse_metric({"name": "column", "column": "level", "colunm": "x"})


def test_an_option_out_of_range_is_refused_when_the_recipe_is_read() -> None:
    with pytest.raises(RecipeError, match="`length: of` must be one of response, prompt, both, got 'respons'"):
        parse_metric({"name": "length", "of": "respons"})


@pytest.mark.parametrize("entry", [None, 3, ["length"], {}, {"column": "level"}, {"name": None}, True])
def test_an_entry_of_another_shape_is_answered_with_examples(entry: object) -> None:
    with pytest.raises(RecipeError, match=r"a name or a mapping with a `name`.*\{name: column, column: level\}"):
        parse_metric(entry)  # type: ignore[arg-type]


def test_a_misspelt_name_key_is_corrected() -> None:
    with pytest.raises(RecipeError, match=r"Did you mean 'name'\?"):
        parse_metric({"nam": "length"})


@pytest.mark.parametrize("entry", ["", "-", "--length", " length"])
def test_a_name_that_is_no_name_is_refused(entry: str) -> None:
    with pytest.raises(RecipeError, match="`metric` must be one of"):
        parse_metric(entry)


@pytest.mark.parametrize("label", ["", "../x", "a/b", 3, "a\nb", "..", " x"])
def test_a_label_that_cannot_name_a_file_is_refused(label: object) -> None:
    with pytest.raises(RecipeError, match="`label` of metric 'length' must be letters, digits"):
        parse_metric({"name": "length", "label": label})


def test_a_column_whose_name_cannot_name_a_file_needs_a_label() -> None:
    with pytest.raises(RecipeError, match=r"got 'meta/level'\. Give the entry a `label`"):
        parse_metric({"name": "column", "column": "meta/level"})
    assert parse_metric({"name": "column", "column": "meta/level", "label": "level"}).label == "level"


def test_shared_labels_are_a_problem_each() -> None:
    specs = [parse_metric(e) for e in ("length", {"name": "length", "of": "both"}, "mtld", "-length", "mtld", "mtld")]
    problems = check_labels(specs)
    assert len(problems) == 2
    assert "got 'length' 2 times" in problems[0]
    assert "got 'mtld' 3 times" in problems[1]
    assert check_labels(specs[1:3]) == []


def test_finished_scores_are_a_float_copy_and_reversed_ones_the_negative() -> None:
    raw = np.array([2, 0, 1])
    assert finish_scores(raw, SPEC).tolist() == [2.0, 0.0, 1.0]
    assert finish_scores(raw, parse_metric("-length")).tolist() == [-2.0, 0.0, -1.0]
    floats = np.array([1.0, 2.0])
    finish_scores(floats, SPEC)[0] = 9.0
    assert floats.tolist() == [1.0, 2.0]


def test_scores_that_are_no_numbers_are_counted_and_their_first_rows_named() -> None:
    scores = np.arange(10.0)
    scores[[2, 4, 6, 8]] = np.nan
    with pytest.raises(MetricError, match=r"`mine` .* got NaN for 4 of 10 rows \(first: 2, 4, 6\)\. Drop these rows"):
        finish_scores(scores, SPEC)
    scores[9] = -np.inf
    with pytest.raises(MetricError, match=r"got NaN and inf for 5 of 10 rows \(first: c, e, g\)"):
        finish_scores(scores, SPEC, ids="abcdefghij")


@pytest.mark.parametrize("reverse", [False, True])
def test_all_equal_scores_are_refused(reverse: bool) -> None:
    with pytest.raises(MetricError, match=r"`mine` gives every row the same score 3\.0: it cannot order them\. Drop"):
        finish_scores([3, 3, 3], MetricSpec("mine", "column", reverse, {}))


def test_a_single_row_is_no_matter_of_the_metric() -> None:
    assert finish_scores([3.0], SPEC).tolist() == [3.0]


@pytest.mark.parametrize("raw", [[], 3.0, [[1.0, 2.0]], [1.0, 2.0]])
def test_another_number_of_scores_than_rows_is_refused(raw: object) -> None:
    with pytest.raises(MetricError, match="`mine` must give one score per row"):
        finish_scores(raw, SPEC, ids=["a", "b", "c"] if raw == [1.0, 2.0] else None)  # type: ignore[arg-type]


@given(st.lists(st.floats(-1e300, 1e300), min_size=2, max_size=50).filter(lambda x: len(set(x)) > 1))
def test_a_reversed_metric_orders_the_other_way_round(raw: list[float]) -> None:
    up = finish_scores(raw, SPEC)
    down = finish_scores(raw, MetricSpec("mine", "column", True, {}))
    assert (up == -down).all()
    assert not np.signbit(down[down == 0]).any()


def test_importing_the_metrics_loads_no_heavy_library() -> None:
    code = (
        "import sys, campus_tune.metrics; "
        "heavy = ('torch', 'datasets', 'pandas', 'lexicalrichness', 'textstat', 'pyphen', 'spacy'); "
        "print([m for m in heavy if m in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert out.stdout.strip() == "[]"


def test_the_metrics_that_need_no_model_are_registered() -> None:
    cheap = {"column", "compression", "length", "mtld", "parse_depth", "rank_mean", "readability"}
    assert cheap <= set(METRICS.names())
