"""Compression: bounds, edges and the direction."""

from __future__ import annotations

import random
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.metrics import Compression, parallel
from campus_tune.metrics.compression import text_compression
from campus_tune.words.types import RowTexts


def rows(texts: list[str]) -> RowTexts:
    counts = np.ones(len(texts), dtype=np.int64)
    return RowTexts(texts, counts, counts, {})


def raw_deflate_bytes(text: str) -> int:
    """A second way to the same number: the stream without the header and checksum of zlib."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return len(deflate.compress(text.encode()) + deflate.flush())


@given(st.text(min_size=1, max_size=60))
def test_the_constant_is_what_zlib_adds_to_a_bare_stream(text: str) -> None:
    bare_empty = raw_deflate_bytes("")
    assert text_compression(text) == pytest.approx((raw_deflate_bytes(text) - bare_empty) / len(text.encode()))


@pytest.mark.parametrize("text", ["a", "ab", "abc", "no", "42"])
def test_a_text_too_short_to_compress_scores_about_one_and_not_three(text: str) -> None:
    assert text_compression(text) == pytest.approx(1.0, abs=0.5)
    assert len(zlib.compress(text.encode(), 9)) / len(text) > 3


def test_repetition_is_easy_and_noise_is_hard() -> None:
    letters = random.Random(0).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=600)
    prose = (
        "A ledger is an append-only record. Every decision is written once, with the measurements it rests on, and "
        "nothing that was written is changed later. Whoever reads it can follow the run from the first to the last "
        "step, and say of each row when it was trained and why it was chosen before the others were. "
    )
    noise = "".join(letters)  # 36 letters: log2(36) / 8 = 0.65 is as far as any compressor can go
    assert text_compression("ha" * 300) < 0.05 < 0.3 < text_compression(prose) < 0.65 < text_compression(noise) < 0.75


def test_bytes_and_not_characters_are_counted() -> None:
    assert text_compression("ü") == (len(zlib.compress("ü".encode(), 9)) - 8) / 2


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=100))  # unpaired surrogates too
def test_any_text_has_a_finite_score_that_is_zero_only_if_empty(text: str) -> None:
    score = text_compression(text)
    assert (score == 0.0) == (text == "")
    assert 0.0 <= score < 3.0


@given(st.one_of(st.text(max_size=600), st.text(alphabet="ab", max_size=3_000), st.integers(0, 40_000)))
def test_buffers_made_to_measure_compress_as_the_full_ones(text: str | int) -> None:
    if isinstance(text, int):
        text = "".join(chr(32 + (i * i) % 95) for i in range(text))
    data = text.encode("utf-8")
    expected = (len(zlib.compress(data, 9)) - 8) / len(data) if data else 0.0
    assert text_compression(text) == expected


def test_empty_texts_score_below_all_others_and_are_counted() -> None:
    texts = rows(["", "a" * 10_000, "", "x"])
    scores = Compression().scores(texts)
    assert scores[0] == scores[2] == 0.0 < scores[1] < scores[3]
    assert Compression().describe(texts, scores) == {"empty_texts": 2}


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_two_processes_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "BEGIN_S", 0.0)  # as if it were a large job
    texts = rows([f"row {i} " * (i % 9) for i in range(400)])
    one = Compression().scores(texts, num_proc=1, progress=False)
    assert one.tolist() == Compression().scores(texts, num_proc=2, progress=False).tolist()
