"""How a recipe names a metric, what its scores must be, and the map over texts."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.difficulty import (
    METRICS,
    Column,
    Length,
    MetricSpec,
    build_metric,
    check_labels,
    finish_scores,
    map_texts,
    parse_metric,
)
from campus_tune.difficulty.base import SMALL_JOB
from campus_tune.errors import MetricError, RecipeError

SPEC = MetricSpec("mine", "column", False, {})

# from Python 3.12 on, forking a process in which other libraries run threads warns; `datasets` forks
many_threads = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


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


def spelled(text: str) -> float:
    """A score that shows every character of its text, unpaired surrogates included."""
    return float(sum(i * ord(c) for i, c in enumerate(text, 1)))


TEXTS = [f"text {i} ä{'x' * (i % 13)}" for i in range(SMALL_JOB + 500)]
TEXTS[7], TEXTS[8] = "\ud800 half a pair", ""


@many_threads
def test_the_map_gives_the_same_for_any_number_of_processes() -> None:
    expected = [spelled(text) for text in TEXTS]
    for num_proc in (1, 2):
        assert map_texts(spelled, TEXTS, num_proc=num_proc, progress=False, what="t").tolist() == expected
    small = map_texts(spelled, TEXTS[: SMALL_JOB - 1], num_proc=2, what="t")
    assert small.tolist() == expected[: SMALL_JOB - 1]
    assert small.dtype == np.float64


def test_the_map_of_nothing_is_empty() -> None:
    assert map_texts(spelled, [], what="t").shape == (0,)


@pytest.mark.parametrize("num_proc", [0, -1])
def test_fewer_than_one_process_is_refused(num_proc: int) -> None:
    with pytest.raises(RecipeError, match=f"`num_proc` must be at least 1, got {num_proc}"):
        map_texts(spelled, ["a"], num_proc=num_proc, what="t")


@pytest.fixture
def progress_bars() -> Iterator[None]:
    before = datasets.are_progress_bars_disabled()
    yield
    (datasets.disable_progress_bars if before else datasets.enable_progress_bars)()


@pytest.mark.usefixtures("progress_bars")
@pytest.mark.parametrize("disabled_by_user", [False, True])
@pytest.mark.parametrize("progress", [False, True])
def test_a_bar_is_shown_if_wanted_by_both_and_the_users_setting_stays(
    disabled_by_user: bool, progress: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    (datasets.disable_progress_bars if disabled_by_user else datasets.enable_progress_bars)()
    map_texts(spelled, TEXTS, progress=progress, what="reading")
    assert ("reading" in capfd.readouterr().err) == (progress and not disabled_by_user)
    assert datasets.are_progress_bars_disabled() == disabled_by_user


@many_threads
def test_the_map_writes_no_files_and_draws_no_random_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 (the state that trainers use)
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    map_texts(spelled, TEXTS, num_proc=2, progress=False, what="t")
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@many_threads
def test_an_error_in_another_process_arrives() -> None:
    with pytest.raises(ValueError, match="invalid literal for int"):
        map_texts(int, TEXTS, num_proc=2, progress=False, what="t")


def test_importing_the_metrics_loads_no_heavy_library() -> None:
    code = (
        "import sys, campus_tune.difficulty; "
        "print([m for m in ('torch', 'datasets', 'pandas', 'lexicalrichness') if m in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert out.stdout.strip() == "[]"


def test_the_metrics_that_need_no_model_are_registered() -> None:
    assert {"column", "compression", "length", "mtld"} <= set(METRICS.names())
