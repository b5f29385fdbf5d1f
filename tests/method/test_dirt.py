"""How many rows are wrong: the formula against a slow one, and what must hold of any estimate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campus_tune.method import dirt
from campus_tune.method.dirt import BINS, SHARES, Dirt, estimate_dirt, fitted, standard
from campus_tune.method.suspicion import Suspicion
from campus_tune.words.types import FloatArray


def suspicion(score: FloatArray, spread: FloatArray | None = None) -> Suspicion:
    """Of scores, each row seen twice and its passes agreeing, or as is said."""
    return Suspicion.of_scores(score, np.zeros(len(score)) if spread is None else spread)


def planted(n: int, share: float, seed: int, *, far: float = 5.0) -> tuple[FloatArray, FloatArray]:
    """(Scores of right rows and of wrong ones that lie `far` above, a spread for each)."""
    rng = np.random.default_rng(seed)
    wrong = np.arange(n) < round(share * n)
    return np.where(wrong, far + 1.5 * rng.standard_normal(n), rng.standard_normal(n)), np.full(n, 0.3)


def slow(counts: list[float], lean: float, share: float, rounds: int) -> float:
    """`fitted` at one lean and share, number by number, as its docstring says it."""
    c, s, h, mu, sigma = 0.0, 1.2, 0.1, 4.0, 2.0
    log_likelihood = 0.0

    def normal(x: float, m: float, width: float) -> float:
        return math.exp(-(((x - m) / width) ** 2) / 2) / width

    def split(x: float, width: float) -> float:
        return 2 / (1 + lean) * normal(x, c, width * (lean if x > c else 1.0))

    def split_density(x: float, width: float) -> float:
        return split(x, width) * (lean if x > c else 1.0)  # of one height at the middle: the width is that below it

    for _ in range(rounds):
        log_likelihood, owned = 0.0, []
        for x, n in zip(BINS.tolist(), counts, strict=True):
            parts = (
                (1 - share) * (1 - h) * split_density(x, s),
                (1 - share) * h * split_density(x, dirt.WIDE * s),
                share * normal(x, mu, sigma),
            )
            total = sum(parts)
            log_likelihood += n * math.log(total) if n else 0.0
            owned.append([n * part / total if n else 0.0 for part in parts])
        n_core, n_out, n_wrong = (sum(own[i] for own in owned) for i in range(3))
        pulls, squares = [], 0.0
        for x, (core, out, _) in zip(BINS.tolist(), owned, strict=True):
            side = lean if x > c else 1.0
            weight = core + out / dirt.WIDE**2
            pulls.append(weight / side**2)
            squares += weight * ((x - c) / side) ** 2
        c = sum(pull * x for pull, x in zip(pulls, BINS.tolist(), strict=True)) / sum(pulls)
        s, h = math.sqrt(squares / (n_core + n_out)), min(0.5, max(1e-4, n_out / (n_core + n_out)))
        usual = dirt.PRIOR * (c + dirt.FAR * s)
        mu = (sum(own[2] * x for own, x in zip(owned, BINS.tolist(), strict=True)) + usual) / (n_wrong + dirt.PRIOR)
        mu = max(mu, c + dirt.GAP * s)
        around = sum(own[2] * (x - mu) ** 2 for own, x in zip(owned, BINS.tolist(), strict=True))
        sigma = math.sqrt((around + dirt.PRIOR * (dirt.BROAD * s) ** 2) / (n_wrong + dirt.PRIOR))
        sigma = min(dirt.BROADEST * s, max(dirt.NARROWEST * s, sigma))
    return log_likelihood


@pytest.mark.parametrize("share", [0, 9, 24])
def test_the_fit_is_what_a_slow_one_says(share: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dirt, "ROUNDS", 12)
    score, _ = planted(300, 0.2, 0)
    counts = np.histogram(np.clip(standard(score)[0], -8, 12), dirt.EDGES)[0].astype(np.float64)
    found = fitted(counts, dirt.LEANS)
    for lean, width in enumerate(dirt.LEANS):
        assert found[lean, share] == pytest.approx(slow(counts.tolist(), width, float(SHARES[share]), 12), rel=1e-9)


@pytest.mark.parametrize("share", [0.03, 0.1, 0.25])
def test_what_was_planted_lies_in_the_interval(share: float) -> None:
    found = [estimate_dirt(suspicion(*planted(1500, share, seed)), domains=None, names=[]) for seed in range(5)]
    assert sum(one.low <= share <= one.high for one in found) >= 4
    assert all(one.seen for one in found)
    assert np.mean([one.share for one in found]) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("once", [False, True])
def test_where_nothing_was_planted_none_are_to_be_seen(once: bool) -> None:
    for seed in range(5):
        score, spread = planted(800, 0.0, seed)
        found = estimate_dirt(suspicion(score, spread * np.nan if once else spread), domains=None, names=[])
        assert not found.seen
        assert (found.share, found.low) == (0.0, 0.0)
        assert found.high < 0.1


def test_of_rows_seen_once_less_is_known() -> None:
    score, spread = planted(1500, 0.1, 0)
    twice = estimate_dirt(suspicion(score, spread), domains=None, names=[])
    once = estimate_dirt(suspicion(score, np.full(1500, np.nan)), domains=None, names=[])
    assert once.low < twice.low
    assert once.high > twice.high


def test_suspects_that_are_none_when_seen_again_are_not_counted() -> None:
    score, spread = planted(1500, 0.1, 0, far=4.0)
    hard = np.where(np.arange(1500) < 150, 2 * score, spread)  # their passes disagree as much as they lie above
    wrong = estimate_dirt(suspicion(score, spread), domains=None, names=[])
    learned = estimate_dirt(suspicion(score, hard), domains=None, names=[])
    assert wrong.seen
    assert not learned.seen


def test_domains_are_judged_apart() -> None:
    parts = [planted(600, share, seed) for seed, share in enumerate((0.0, 0.2))]
    score, spread = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    found = estimate_dirt(suspicion(score, spread), domains=np.repeat([0, 1], 600), names=["text", "code"])
    assert list(found.by_domain) == ["text", "code"]
    assert not found.by_domain["text"].seen
    assert found.by_domain["code"].low <= 0.2 <= found.by_domain["code"].high
    assert found.low <= 0.1 <= found.high
    assert [found.by_domain[name].rows for name in ("text", "code")] == [600, 600]


def test_a_small_domain_is_judged_with_the_others_only() -> None:
    score, spread = planted(300, 0.1, 0)
    found = estimate_dirt(suspicion(score, spread), domains=np.arange(300) % 50 // 10, names=[*"abcde"])
    small = estimate_dirt(suspicion(score, spread), domains=(np.arange(300) < 49).astype(int), names=["a", "b"])
    assert len(found.by_domain) == 5
    assert [*small.by_domain] == ["a"]


def test_of_many_domains_the_largest_are_judged_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dirt, "MOST_DOMAINS", 2)
    score, spread = planted(400, 0.1, 0)
    domains = np.repeat([0, 1, 2, 3], [60, 150, 60, 130])
    found = estimate_dirt(suspicion(score, spread), domains=domains, names=[*"abcd"])
    assert {name: one.rows for name, one in found.by_domain.items()} == {"b": 150, "d": 130}
    assert found.rows == 400


def test_what_was_asked_before_is_not_fitted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    score, spread = planted(120, 0.1, 3)
    first = estimate_dirt(suspicion(score, spread), domains=None, names=[])
    monkeypatch.setattr(dirt, "fitted", None)
    assert estimate_dirt(suspicion(score, spread), domains=None, names=[]) == first


def test_rows_that_were_acted_on_or_never_seen_are_left_out() -> None:
    score, spread = planted(1000, 0.2, 0)
    kept = np.arange(1000) % 4 == 0
    known = np.where(kept, score, np.nan)
    among = estimate_dirt(suspicion(score, spread), domains=None, names=[], among=kept)
    assert among == estimate_dirt(suspicion(known, spread), domains=None, names=[])
    assert among == estimate_dirt(suspicion(score[kept], spread[kept]), domains=None, names=[])
    assert among.rows == 250


def test_of_few_rows_nothing_is_said() -> None:
    found = estimate_dirt(suspicion(np.arange(49.0)), domains=None, names=[])
    assert (found.rows, found.low, found.high, found.seen) == (49, 0.0, 0.5, False)
    none = estimate_dirt(suspicion(np.full(80, np.nan)), domains=None, names=[])
    assert (none.rows, none.seen) == (0, False)


def test_rows_that_are_all_alike() -> None:
    for score in (np.zeros(100), np.repeat([0.0, 1.0, 1e9], [80, 10, 10])):
        found = estimate_dirt(suspicion(score), domains=None, names=[])
        assert (found.rows, found.share, found.low, found.high) == (100, 0.0, 0.0, 0.5)


def test_scores_far_out_and_a_narrow_middle() -> None:
    score = np.concatenate([np.linspace(0, 1e-3, 100), np.full(40, 1e6)])
    found = estimate_dirt(suspicion(score), domains=None, names=[])
    assert found.seen
    assert found.high <= 0.55


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    share=st.sampled_from([0.0, 0.05, 0.3]),
    unit=st.floats(0.01, 100.0),
    shift=st.floats(-10.0, 10.0),
)
def test_neither_unit_nor_zero_nor_sequence_of_the_scores_matters(
    seed: int, share: float, unit: float, shift: float
) -> None:
    score, spread = planted(200, share, seed)
    turned = np.random.default_rng(seed).permutation(200)
    found = estimate_dirt(suspicion(score, spread), domains=None, names=[])
    other = estimate_dirt(suspicion((unit * score + shift)[turned], (unit * spread)[turned]), domains=None, names=[])
    assert 0 <= found.low <= found.share <= found.high <= 1
    assert found.seen == other.seen
    for name in ("share", "low", "high"):  # a score at the very edge of a bin may change it
        assert getattr(found, name) == pytest.approx(getattr(other, name), rel=0.05, abs=0.005)


def test_there_and_back_as_json() -> None:
    found = Dirt(100, 0.1, 0.05, 0.2, {"code": Dirt(60, 0.2, 0.1, 0.3)})
    assert Dirt.from_mapping(found.to_mapping()) == found
    assert found.to_mapping()["by_domain"]["code"]["seen"] is True
