"""What was saved: the padding of a random draw by order statistics, against simulation and by hand."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campus_tune.run.stream.padding import Padding, padding_at_random, saved_words


def by_all_draws(lengths: list[int], visits: list[int], micro: int, multiple: int) -> float:
    """The slow reference: every set of visits that could be a micro batch."""
    drawn = np.repeat(lengths, visits)
    every = list(combinations(drawn.tolist(), min(micro, len(drawn))))
    return 1 - float(np.mean(drawn)) / float(np.mean([-(-max(one) // multiple) * multiple for one in every]))


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 2)), min_size=1, max_size=7),
    micro=st.integers(1, 5),
    multiple=st.sampled_from([1, 4]),
)
def test_the_mean_of_the_longest_is_that_over_all_draws(rows: list[tuple[int, int]], micro: int, multiple: int) -> None:
    lengths, visits = (list(column) for column in zip(*rows, strict=True))
    found = padding_at_random(np.array(lengths), np.array(visits, dtype=np.uint8), micro, multiple)
    assert found == pytest.approx(by_all_draws(lengths, visits, micro, multiple) if sum(visits) else 0.0, abs=1e-12)


def test_shuffled_micro_batches_have_that_much_padding() -> None:
    rng = np.random.default_rng(0)
    lengths, micro = rng.lognormal(4.7, 0.6, 4096).astype(np.int64) + 1, 8
    padded = [lengths[rng.permutation(4096)].reshape(-1, micro).max(1).sum() * micro for _ in range(40)]
    simulated = 1 - lengths.sum() / np.mean(padded)
    assert padding_at_random(lengths, np.ones(4096, dtype=np.uint8), micro) == pytest.approx(simulated, abs=0.003)


def test_rows_are_counted_in_blocks_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    lengths, visits = rng.integers(1, 90, 1000), rng.integers(0, 3, 1000).astype(np.uint8)
    whole = padding_at_random(lengths, visits, 4)
    monkeypatch.setattr("campus_tune.run.stream.padding.BLOCK", 64)
    assert padding_at_random(lengths, visits, 4) == whole


def test_a_row_at_a_time_has_none_nor_have_rows_of_one_length() -> None:
    lengths, visits = np.array([1, 5, 9]), np.ones(3, dtype=np.uint8)
    assert padding_at_random(lengths, visits, 1) == 0.0
    assert padding_at_random(np.full(3, 7), visits, 3) == 0.0
    assert padding_at_random(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.uint8), 2) == 0.0


def test_steps_add_up_over_ranks_and_over_a_resume() -> None:
    padding = Padding(2, "even")
    assert padding.told(np.array([2, 6]), np.array([1, 1])) == {}
    padding.add(np.array([[8, 4], [12, 4]]))
    later = Padding(2, "even")
    later.load(padding.state())
    for each in (padding, later):
        each.add(np.array([[8, 4], [8, 8]]))
    assert padding.told(np.array([2, 6]), np.array([6, 6])) == later.told(np.array([2, 6]), np.array([6, 6]))
    told = later.told(np.array([2, 6]), np.array([1, 1]))["padding"]
    assert told == {
        "share": 0.25,
        "at_random": round(1 - 4 / 6, 4),
        "tokens": [24, 32],
        "micro": 2,
        "cut": "even",
        "steps": 2,
    }
    older = Padding(2, "even")
    older.load(None)  # a checkpoint of before it was counted
    assert older.state() == [0, 0, 0]


@pytest.mark.parametrize(
    ("share", "at_random", "cut", "words"),
    [
        (0.17, 0.49, "even", "padding 17% where drawn at random would have had 49%: 39% fewer tokens went through"),
        (0.0, 0.49, "packed", "no padding where drawn at random would have had 49%: 49% fewer tokens"),
        (0.0, 0.0, "even", "no padding, nor would rows drawn at random have had any"),
        (0.5, 0.49, "drawn", "padding 50%, by chance about 49%: rows were cut as drawn, so nothing was saved"),
        (0.492, 0.49, "even", "padding 49%, as rows drawn at random would have had (49%): nothing was saved"),
    ],
)
def test_what_was_saved_is_said_and_what_was_not(share: float, at_random: float, cut: str, words: str) -> None:
    assert saved_words({"share": share, "at_random": at_random, "cut": cut}).startswith(words)
