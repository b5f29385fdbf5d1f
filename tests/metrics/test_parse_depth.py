"""Depth of syntax: on trees made by hand, with a small parser trained here, and without what it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc
from spacy.training import Example

from campus_tune.metrics import extras, parallel, parse_depth
from campus_tune.metrics.base import parse_metric
from campus_tune.metrics.parse_depth import NO_WORDS, ParseDepth, batch_depths, load_pipeline, tree_depths
from campus_tune.words.errors import MetricError, RecipeError
from campus_tune.words.types import RowTexts

VOCAB = spacy.blank("en").vocab
FLAT = (["Dogs", "bark", "."], [1, 1, 1], ["nsubj", "ROOT", "punct"])  # depth 1
DEEP = (["The", "cat", "sat", "."], [1, 2, 2, 2], ["det", "nsubj", "ROOT", "punct"])  # sat, cat, The: depth 2
BOTH = ([*FLAT[0], *DEEP[0]], [*FLAT[1], *(head + 3 for head in DEEP[1])], [*FLAT[2], *DEEP[2]])


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a parser that has learned three examples by heart."""
    nlp = spacy.blank("en")
    parser = nlp.add_pipe("parser", config={"min_action_freq": 1})
    for label in ("nsubj", "ROOT", "det", "punct"):
        parser.add_label(label)
    gold = [
        Example.from_dict(Doc(nlp.vocab, words=words), {"heads": heads, "deps": deps})
        for words, heads, deps in (FLAT, DEEP, BOTH)
    ]
    spacy.util.fix_random_seed(0)
    optimizer = nlp.initialize(lambda: gold)
    for _ in range(40):
        nlp.update(gold, sgd=optimizer)
    folder = tmp_path_factory.mktemp("pipeline") / "parser"
    nlp.to_disk(folder)
    return str(folder)


def rows(texts: list[str]) -> RowTexts:
    return RowTexts(texts, np.ones(len(texts), np.int64), np.ones(len(texts), np.int64), {})


def doc(heads: list[int], words: list[str] | None = None) -> Doc:
    return Doc(VOCAB, words=words or ["w"] * len(heads), heads=heads, deps=["dep"] * len(heads))


# -- arithmetic ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heads", "depths"),
    [
        ([0], [0]),
        (FLAT[1], [1]),
        (DEEP[1], [2]),
        (BOTH[1], [1, 2]),
        ([1, 2, 3, 3], [3]),  # a chain to the left
        ([0, 0, 1, 2], [3]),  # and to the right
        ([2, 2, 2, 4, 2], [2]),
        ([0, 1, 2], [0, 0, 0]),  # three words that stand alone
    ],
)
def test_depth_is_the_edges_to_the_deepest_word(heads: list[int], depths: list[int]) -> None:
    assert tree_depths(doc(heads)) == depths


def test_white_space_is_no_word() -> None:
    assert tree_depths(doc([1, 1, 2], ["cats", "sleep", "\n"])) == [1]
    assert tree_depths(doc([0, 0, 1], ["Yes", ",", " \n"])) == [1]
    assert tree_depths(Doc(VOCAB)) == []


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=25))
def test_depths_are_those_of_a_slow_walk(draws: list[int]) -> None:
    heads = [i if draw % 4 == 0 else draw % i if i else 0 for i, draw in enumerate(draws)]  # heads stand to the left

    def depth(i: int) -> int:
        return 0 if heads[i] == i else 1 + depth(heads[i])

    def root(i: int) -> int:
        return i if heads[i] == i else root(heads[i])

    trees: dict[int, int] = {}
    for i in range(len(heads)):
        trees[root(i)] = max(trees.get(root(i), 0), depth(i))
    assert sorted(tree_depths(doc(heads))) == sorted(trees.values())


# -- with a parser -------------------------------------------------------------------------------------------------


def test_the_mean_or_the_maximum_over_sentences_is_taken(pipeline: str) -> None:
    texts = rows(["Dogs bark .", "The cat sat .", "Dogs bark . The cat sat ."])
    assert ParseDepth(model=pipeline).scores(texts).tolist() == [1.0, 2.0, 1.5]
    assert ParseDepth(model=pipeline, reduce="max").scores(texts).tolist() == [1.0, 2.0, 2.0]


def test_texts_without_words_score_below_all_others_and_are_counted(pipeline: str) -> None:
    texts = rows(["", "Dogs", " \n "])
    metric = ParseDepth(model=pipeline)
    scores = metric.scores(texts)
    assert scores.tolist() == [NO_WORDS, 0.0, NO_WORDS]
    assert metric.describe(texts, scores) == {"texts_without_words": 2}


def test_half_a_pair_of_surrogates_is_no_trouble(pipeline: str) -> None:
    [depth] = batch_depths(["\ud800 Dogs bark ."], model=pipeline, reduce="max")
    assert depth >= 0


def test_endless_texts_are_read_as_far_as_memory_goes(pipeline: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse_depth, "LONGEST", len("Dogs bark ."))
    assert batch_depths(["Dogs bark . The cat sat ."], model=pipeline, reduce="max") == [1.0]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_two_processes_give_what_one_gives_from_one_load(pipeline: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "BEGIN_S", 0.0)  # as if it were a large job
    loads = []
    load = spacy.load
    monkeypatch.setattr(spacy, "load", lambda *args, **options: loads.append(args) or load(*args, **options))
    load_pipeline.cache_clear()
    texts = rows([" ".join(["Dogs bark .", "The cat sat ."][i % 2 :][: 1 + i % 3]) for i in range(300)])
    metric = ParseDepth(model=pipeline)
    one = metric.scores(texts, num_proc=1, progress=False)
    assert one.tolist() == metric.scores(texts, num_proc=2, progress=False).tolist()
    assert len(loads) == 1


def test_a_text_has_the_same_depth_alone_and_in_a_batch(pipeline: str) -> None:
    texts = [" ".join(["the", "Dogs", "sat", "cat", "bark", "."][i % 5 :]) for i in range(20)]
    alone = [batch_depths([text], model=pipeline, reduce="mean")[0] for text in texts]
    assert batch_depths(texts, model=pipeline, reduce="mean") == alone


# -- what is missing or wrong --------------------------------------------------------------------------------------


def test_a_missing_library_is_said_before_and_while_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "spacy" else object())
    load_pipeline.cache_clear()
    match = r'`parse_depth` must have the library spacy, got none\. Type: pip install "campus-tune\[parse\]"'
    with pytest.raises(MetricError, match=match):
        ParseDepth().scores(rows(["a b"]))
    [problem] = extras.missing_parts([ParseDepth()])
    assert problem.endswith('pip install "campus-tune[parse]"')


def test_a_missing_pipeline_is_said_with_the_command_that_brings_it() -> None:
    match = r"got 'xx_none_sm', which is neither\. Type: python -m spacy download xx_none_sm"
    with pytest.raises(MetricError, match=match):
        ParseDepth(model="xx_none_sm").scores(rows(["a b"]))
    [problem] = extras.missing_parts([ParseDepth(model="xx_none_sm")])
    assert problem.endswith("python -m spacy download xx_none_sm")


def test_a_path_that_is_not_there_is_not_offered_for_download() -> None:
    [problem] = extras.missing_parts([ParseDepth(model="./no/pipeline")])
    assert problem.endswith("Correct the path, or name a pipeline such as en_core_web_sm.")


def test_nothing_is_missing_where_the_folder_is_there(pipeline: str) -> None:
    assert extras.missing_parts([ParseDepth(model=pipeline)]) == []


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MetricError, match=r"must be a spaCy pipeline that can be loaded, got .* Correct the path"):
        ParseDepth(model=str(tmp_path)).scores(rows(["a b"]))


@pytest.mark.parametrize("component", [None, "sentencizer"])
def test_a_pipeline_that_does_not_parse_is_refused(component: str | None, tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    if component:
        nlp.add_pipe(component)
    nlp.to_disk(tmp_path / "bare")
    match = f"with a dependency parser, got .* with {component or 'no component'}. Type: python -m spacy download"
    with pytest.raises(MetricError, match=match):
        ParseDepth(model=str(tmp_path / "bare")).scores(rows(["a b"]))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"reduce": "median"}, "`reduce` must be mean or max, got 'median'"),
        ({"model": ""}, "`model` must name a spaCy pipeline, got ''"),
        ({"model": None}, "`model` must name a spaCy pipeline, got None"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(RecipeError, match=match):
        parse_metric({"name": "parse_depth", **options})
