"""MTLD against a slow second writing of McCarthy & Jarvis' description, and by hand."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lexicalrichness import LexicalRichness

from campus_tune.metrics import Mtld, parallel
from campus_tune.metrics.diversity import text_mtld
from campus_tune.words.types import RowTexts

THRESHOLD = Fraction(72, 100)


def rows(texts: list[str]) -> RowTexts:
    counts = np.ones(len(texts), dtype=np.int64)
    return RowTexts(texts, counts, counts, {})


def factors(words: list[str]) -> Fraction:
    """Recursive, in exact fractions: cut the first prefix whose type-token ratio is at most the threshold."""
    for n in range(1, len(words) + 1):
        if Fraction(len(set(words[:n])), n) <= THRESHOLD:
            return 1 + factors(words[n:])
    if not words:
        return Fraction(0)
    return (1 - Fraction(len(set(words)), len(words))) / (1 - THRESHOLD)


def slow_mtld(text: str) -> float:
    words = re.sub(r"[0-9–—-]", "", text.lower())
    split = re.sub(r"[!\"#$%&'()*+,./:;<=>?@\[\\\]^_`{|}~]", " ", words).split()
    if not split:
        return 0.0
    both = [Fraction(len(split)) / (factors(way) or 1) for way in (split, split[::-1])]
    return float(sum(both) / 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("word", 1),  # one word: no factor, its number of words
        ("a b", 2),
        ("a a", 2),  # ratio 1/2 ends the only factor: 2 words / 1 factor
        ("a a a a", 2),
        ("one two three four five six seven eight nine ten", 10),
        # ratio 9/10: a part of (1 - 0.9) / (1 - 0.72) = 0.357 factors, from both sides: 10 / 0.357
        ("one two three four five six seven eight nine one", 28),
        # forward: a b a (2/3, a factor), c d left with no repetition: 5 / 1. Backward: d c a b, then a: 4/5, (1/5)/0.28
        ("a b a c d", (5 + 5 / (0.2 / 0.28)) / 2),
    ],
)
def test_mtld_by_hand(text: str, expected: float) -> None:
    assert text_mtld(text) == pytest.approx(expected)


WORDS = ["the", "cat", "sat", "on", "a", "mat", "dog", "ran.", "fast,", "It's", "it's", "well-known", "42", "—"]


@given(st.lists(st.sampled_from(WORDS), max_size=80))
def test_mtld_agrees_with_a_slow_second_writing(words: list[str]) -> None:
    text = " ".join(words)
    assert text_mtld(text) == pytest.approx(slow_mtld(text))


@given(st.one_of(st.text(max_size=80), st.lists(st.sampled_from(WORDS), max_size=80).map(" ".join)))
def test_mtld_is_that_of_lexicalrichness_to_the_last_digit(text: str) -> None:
    lexicon = LexicalRichness(text)
    assert text_mtld(text) == (lexicon.mtld(threshold=0.72) if lexicon.words else 0.0)


@given(st.text(max_size=60))
def test_any_text_has_a_finite_score_that_is_zero_only_without_words(text: str) -> None:
    score = text_mtld(text)
    assert np.isfinite(score)
    assert score == 0.0 or score >= 1.0


@pytest.mark.parametrize("text", ["", "  \n", "7 - 4 = 3", "...", "—"])
def test_a_text_without_words_scores_below_every_other(text: str) -> None:
    assert text_mtld(text) == 0.0 < text_mtld("a a a a a a")


def test_texts_without_words_are_counted() -> None:
    texts = rows(["", "one word", "1 + 1 = 2", "more words"])
    scores = Mtld().scores(texts)
    assert scores.tolist() == [0.0, 2.0, 0.0, 2.0]
    assert Mtld().describe(texts, scores) == {"texts_without_words": 2}


def test_a_richer_vocabulary_is_harder() -> None:
    poor = "the cat saw the dog and the dog saw the cat and the cat ran " * 3
    rich = (
        "curious explorers crossed frozen rivers while distant thunder rolled beyond forgotten valleys where "
        "shepherds once gathered their quiet flocks before the first winter snow had covered every narrow trail "
        "and the rivers slowed under ice"
    )
    assert text_mtld(rich) > 3 * text_mtld(poor)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_two_processes_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "BEGIN_S", 0.0)  # as if it were a large job
    texts = rows([f"the answer {'is ' * (i % 5)}here and {i % 7 * 'there '}" for i in range(400)])
    one = Mtld().scores(texts, num_proc=1, progress=False)
    assert one.tolist() == Mtld().scores(texts, num_proc=2, progress=False).tolist()
    assert one[:50].tolist() == pytest.approx([slow_mtld(text) for text in texts.response_text[:50]])
