"""Lexical diversity of the response (MTLD): how long a text goes on before its words begin to repeat."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from campus_tune.metrics.base import METRICS, CpuMetric
from campus_tune.metrics.parallel import map_texts
from campus_tune.words.types import FloatArray, RowTexts

_THRESHOLD = 0.72  # type-token ratio that closes a factor: McCarthy & Jarvis' value; they find 0.66 to 0.75 alike

_DASHES = "-\N{EN DASH}\N{EM DASH}"
_SPLIT = str.maketrans({**dict.fromkeys(string.punctuation, " "), **dict.fromkeys(string.digits + _DASHES, None)})


def text_mtld(text: str) -> float:
    """MTLD of one text, ≥ 1; 0.0 for a text without words.

    >>> text_mtld("to be or not to be"), text_mtld("7 - 4 = 3")
    (6.0, 0.0)
    """
    words = text.lower().translate(_SPLIT).split()
    return (words_per_factor(words) + words_per_factor(words[::-1])) / 2 if words else 0.0


def words_per_factor(words: Sequence[str]) -> float:
    """Length of the stretches, read from the left, that stay above the threshold; at least one word."""
    factors, types, n = 0.0, set[str](), 0
    for word in words:
        types.add(word)
        n += 1
        if len(types) / n <= _THRESHOLD:
            factors, types, n = factors + 1.0, set(), 0
    if n:
        factors += (1 - len(types) / n) / (1 - _THRESHOLD)
    return len(words) / (factors or 1.0)


@METRICS.register("mtld")
@dataclass(frozen=True, kw_only=True)
class Mtld(CpuMetric):
    """Measure of textual lexical diversity of the response: a richer vocabulary = harder.

    Read the words from the left and keep the type-token ratio, distinct words / words. When it falls to 0.72, one
    factor is complete: start again. What is left at the end counts as the part (1 − ratio) / (1 − 0.72) of a factor.
    MTLD = words / factors, the mean of reading from the left and from the right. Unlike the plain type-token ratio it
    hardly depends on the length of long texts, and it is among the difficulty signals that served best in pretraining
    (Zhang et al. 2025).

    Words are lower-cased runs between spaces and ASCII punctuation, without digits. Texts without any (empty, pure
    arithmetic) have no vocabulary to vary and score 0.0, below every text with words (MTLD ≥ 1); `describe` counts
    them. Below some fifty words the measure is rough, and for answers of a few words it is little more than their
    number (Spearman with length 0.86 on a mix of short instruction answers). Languages written without spaces count
    as one word per sentence: use `compression` there.

    Reference:
        McCarthy & Jarvis 2010, "MTLD, vocd-D, and HD-D", Behavior Research Methods 42. As difficulty: Zhang et al.
        2025, "Beyond Random Sampling", arXiv 2506.11300.

    Differs from the paper:
        A text in which no word repeats has no factor at all; it scores its number of words (the choice of the
        lexicalrichness package), so ten different words score 10 and ten words with one repetition 28.
    """

    cached: ClassVar[bool] = True

    def made_with(self) -> dict[str, str]:
        """The package whose values these are to the last digit: what it has scored need not be scored again."""
        return {"lexicalrichness": "0.5.1"}

    def scores(self, texts: RowTexts, *, num_proc: int = 1, progress: bool = True) -> FloatArray:
        """MTLD per response, shape (N,); 0.0 where there are no words."""
        return map_texts(text_mtld, texts.response_text, num_proc=num_proc, progress=progress, what="mtld")

    def describe(self, texts: RowTexts, scores: FloatArray) -> dict[str, int | float]:
        """How many responses had no words."""
        del texts
        return {"texts_without_words": int(np.count_nonzero(scores == 0.0))}
