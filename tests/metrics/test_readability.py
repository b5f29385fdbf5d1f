"""Readability: the formula by hand, no network, and clear words where something is missing."""

from __future__ import annotations

import socket
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.metrics import extras, parallel
from campus_tune.metrics.base import build_metric, parse_metric
from campus_tune.metrics.readability import NO_WORDS, Readability, grade, syllables, text_grade
from campus_tune.words.errors import MetricError, RecipeError
from campus_tune.words.types import RowTexts

CHILD = "The cat sat. The dog ran. It was fun to see them play all day."
SCHOLAR = (
    "Notwithstanding considerable methodological heterogeneity, contemporary investigations consistently demonstrate "
    "that institutional accountability presupposes comprehensive documentation of administrative responsibilities."
)


def rows(texts: list[str]) -> RowTexts:
    return RowTexts(texts, np.ones(len(texts), np.int64), np.ones(len(texts), np.int64), {})


def test_the_formula_is_that_of_1975() -> None:
    assert grade(100, 5, 150) == pytest.approx(0.39 * 20 + 11.8 * 1.5 - 15.59)
    assert grade(0, 0, 0) == NO_WORDS


@pytest.mark.parametrize(
    ("text", "words", "sentences", "n_syllables"),
    [
        ("The cat sat on the mat.", 6, 1, 6),
        ("The cat sat on the mat. A window let in the documentation.", 12, 2, 17),  # win-dow, doc-u-men-ta-tion
        ("Dog", 1, 1, 1),
        ("7 - 4 = 3", 3, 1, 3),
    ],
)
def test_a_text_is_graded_as_by_hand(text: str, words: int, sentences: int, n_syllables: int) -> None:
    assert text_grade(text) == pytest.approx(grade(words, sentences, n_syllables))


@pytest.mark.parametrize(("word", "n"), [("cat", 1), ("window", 2), ("documentation", 5), ("a", 1), ("", 1)])
def test_syllables_are_the_places_of_hyphens_and_one(word: str, n: int) -> None:
    assert syllables(word, "en_US") == n


def test_long_words_in_long_sentences_are_harder() -> None:
    assert text_grade(CHILD) < 3 < 20 < text_grade(SCHOLAR)


def test_texts_without_words_score_below_all_others_and_are_counted() -> None:
    texts = rows(["", "A.", " \n", "?!", CHILD])
    scores = Readability().scores(texts)
    assert scores.tolist()[:1] + scores.tolist()[2:4] == [NO_WORDS] * 3
    assert scores[0] < scores[1] < scores[4]
    assert Readability().describe(texts, scores) == {"texts_without_words": 3}


@given(st.text(max_size=60))
def test_any_text_has_a_grade_and_only_wordless_ones_the_lowest(text: str) -> None:
    score = text_grade(text)
    assert score == NO_WORDS or score >= grade(1, 1, 1)


def test_half_a_pair_of_surrogates_is_no_trouble() -> None:
    assert text_grade("\ud800 half a pair") == text_grade("half a pair")


def test_nothing_is_asked_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*args: Any, **options: Any) -> None:
        raise AssertionError(f"asked for {args} {options}")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr("nltk.download", no_network)
    syllables.cache_clear()
    assert Readability().scores(rows([CHILD, SCHOLAR])).argmax() == 1


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_two_processes_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "BEGIN_S", 0.0)  # as if it were a large job
    texts = rows([f"{CHILD[: i % 60]} {SCHOLAR[: i % 77]}" for i in range(200)])
    one = Readability().scores(texts, num_proc=1, progress=False)
    assert one.tolist() == Readability().scores(texts, num_proc=2, progress=False).tolist()


def test_another_language_is_divided_by_its_own_rules() -> None:
    word = "Donaudampfschifffahrt"
    assert syllables(word.lower(), "de_DE") == 5  # Do-nau-dampf-schiff-fahrt
    assert Readability(lang="de_DE").scores(rows([word, "ja"]))[0] == pytest.approx(grade(1, 1, 5))


# -- what is missing or wrong --------------------------------------------------------------------------------------


def test_an_unknown_language_is_answered_with_the_nearest() -> None:
    with pytest.raises(MetricError, match=r"`readability: lang` must be a language .* Did you mean 'pl_PL'\?"):
        Readability(lang="pp_PL").scores(rows(["a b"]))


def test_a_missing_library_is_said_before_and_while_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "textstat" else object())
    match = r'`readability` must have the library textstat, got none\. Type: pip install "campus-tune\[readability\]"'
    with pytest.raises(MetricError, match=match):
        Readability().scores(rows(["a b"]))
    [problem] = extras.missing_parts([Readability(), build_metric(parse_metric("length"))])
    assert problem.endswith('pip install "campus-tune[readability]"')


def test_nothing_is_missing_where_all_is_installed() -> None:
    assert extras.missing_parts([Readability()]) == []


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"of": "prompt"}, "`of` must be response, got 'prompt'"),
        ({"lang": ""}, "`lang` must be a language such as en_US, got ''"),
        ({"lang": 3}, "`lang` must be a language such as en_US, got 3"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(RecipeError, match=match):
        parse_metric({"name": "readability", **options})
