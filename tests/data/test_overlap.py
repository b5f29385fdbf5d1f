"""Probe rows that were trained on: found word for word and nearly, and nothing else."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data import word_hashes as module
from campus_tune.data.overlap import Overlap, overlap, overlap_findings

MIX = Path(__file__).parent.parent.parent / "shared" / "data" / "mix"
SENTENCE = "one two three four five six seven eight nine ten eleven twelve thirteen"


def slow(probes: list[str], training: list[str], n: int) -> Overlap:
    """The same by comparing lists of words."""
    probe_words, training_words = ([_words(text) for text in texts] for texts in (probes, training))
    equal = [(p, t) for p, a in enumerate(probe_words) for t, b in enumerate(training_words) if a and a == b]
    runs = [{tuple(words[i : i + n]) for i in range(len(words) - n + 1)} for words in training_words]
    near = [
        (p, t)
        for p, words in enumerate(probe_words)
        for t, has in enumerate(runs)
        if (p, t) not in equal
        and any(
            run in has and sum(run in other for other in runs) <= module.TEMPLATE
            for run in {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}
        )
    ]
    return Overlap(equal, near)


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9\u0080-\U0010ffff]+|[-+*/=<>^%]", text.lower())


texts = st.lists(
    st.lists(st.sampled_from(["a", "B", "cd", "7", "+", "-", "é", ".", "\n"]), max_size=8).map(" ".join), max_size=8
)


@given(probes=texts, training=texts, n=st.integers(1, 4))
def test_hashing_finds_what_comparing_words_finds(probes: list[str], training: list[str], n: int) -> None:
    assert overlap(probes, training, n=n) == slow(probes, training, n)


@given(probes=texts, training=texts, chunk=st.integers(1, 30))
def test_it_does_not_matter_how_the_texts_are_cut_into_chunks(
    probes: list[str], training: list[str], chunk: int
) -> None:
    whole = overlap(probes, training, n=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", chunk)
        assert overlap(probes, training, n=2) == whole


def test_case_spacing_and_punctuation_hide_nothing() -> None:
    assert overlap(["Why is the sky blue?"], ["", "why  is the sky,\nBLUE"]).equal == [(0, 1)]


def test_another_sign_is_another_question() -> None:
    assert overlap(["7 - 4"], ["7 + 4"]) == Overlap([], [])


def test_thirteen_words_in_a_row_are_near_and_twelve_are_not() -> None:
    assert overlap([f"{SENTENCE} and then"], [f"but {SENTENCE}"]).near == [(0, 0)]
    assert overlap([SENTENCE.removesuffix(" thirteen") + " a"], [f"but {SENTENCE}"]).near == []


def test_a_prompt_template_is_not_near() -> None:
    assert overlap([f"{SENTENCE} a"], [f"{SENTENCE} {i}" for i in range(6)]).near == []
    assert len(overlap([f"{SENTENCE} a"], [f"{SENTENCE} {i}" for i in range(5)]).near) == 5


def test_texts_with_broken_characters_are_compared_too() -> None:
    assert overlap(["\ud800 x"], ["y", "\ud800  X"]).equal == [(0, 1)]


def test_findings_name_the_rows() -> None:
    error, warning = overlap_findings(Overlap([(3, 10), (3, 11)], [(0, 1), (1, 2), (2, 3), (4, 5)]))
    assert str(error) == (
        "error: 1 probe row is a training row (probe 3 and row 10, probe 3 and row 11): what they measure is memory. "
        "Remove them from one of the two files."
    )
    assert "4 probe rows share 13 words in a row with a training row (probe 0 and row 1, probe 1 and row 2, " in (
        warning.what
    )
    assert overlap_findings(Overlap([], [])) == []


@pytest.mark.skipif(not MIX.is_dir(), reason="the mixed instruction set is not beside this repository")
def test_the_mixed_set_holds_its_probes_out_and_a_planted_one_is_found() -> None:
    training = _contents(MIX / "train.jsonl.gz")
    probes = _contents(MIX / "probe_general.jsonl.gz")
    assert overlap(probes, training).equal == []
    assert overlap([*probes, training[77].upper()], training).equal == [(len(probes), 77)]


def _contents(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return ["\n".join(turn["content"] for turn in json.loads(line)["messages"]) for line in file]
