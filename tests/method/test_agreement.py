"""How far two models rank the same rows alike, and what noise takes from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from campus_tune.method import agreement as module
from campus_tune.method.agreement import FEWEST, RankAgreement, RankCorrelation, agreement


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESAMPLES", 99)


def planted(n: int, truth: float, *, noise: float = 0.0, seed: int = 0) -> tuple[Any, Any, Any]:
    """(our score, the proxy's, ours again): truths that correlate, each seen with noise of its own."""
    rng = np.random.default_rng(seed)
    ours = rng.normal(size=n)
    theirs = truth * ours + np.sqrt(1 - truth**2) * rng.normal(size=n)
    return tuple(values + noise * rng.normal(size=n) for values in (ours, theirs, ours))


def one_domain(n: int) -> Any:
    return np.zeros(n, dtype=np.int64)


@given(st.integers(30, 80), st.integers(1, 5), st.integers(0, 10**6))
def test_it_is_spearmans_by_scipy_overall_and_in_each_domain(n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b, codes = rng.integers(0, 9, n).astype(float), rng.normal(size=n), rng.integers(0, k, n)
    b[rng.random(n) < 0.2] = np.nan
    names = [str(code) for code in range(k)]
    found = agreement(a, b, codes, names)
    known = np.isfinite(b)
    assert found.overall.n == known.sum()
    if len(np.unique(a[known])) > 1 and known.sum() >= FEWEST:
        assert found.overall.value == pytest.approx(spearmanr(a[known], b[known])[0])
    for name, rho in found.domains.items():
        rows = known & (codes == int(name))
        assert rho.n == rows.sum() >= FEWEST
        assert rho.value == pytest.approx(spearmanr(a[rows], b[rows])[0])
    if len(found.domains) > 1:
        assert found.within is not None
        mean = np.average([rho.value for rho in found.domains.values()], weights=[r.n for r in found.domains.values()])
        assert found.within.value == pytest.approx(mean)
    else:
        assert found.within is None


def test_domains_that_differ_make_no_agreement_inside_of_them() -> None:
    rng = np.random.default_rng(1)
    codes = np.repeat([0, 1, 2], 60)
    found = agreement(codes * 10 + rng.normal(size=180), codes * 10 + rng.normal(size=180), codes, ["a", "b", "c"])
    assert found.overall.value is not None
    assert found.overall.value > 0.8
    assert found.within is not None
    assert found.within.low is not None
    assert found.within.low < 0 < (found.within.high or 0)
    assert found.word == "does not serve"  # what decides is inside of domains


def test_a_proxy_as_good_as_another_seed_is_all_of_what_can_be() -> None:
    ours, theirs, again = planted(2000, 1.0, noise=1.0)
    found = agreement(ours, theirs, one_domain(2000), ["all"], again=again)
    assert found.ceiling == pytest.approx(0.48, abs=0.05)  # 6/π·asin(r/2) of r = ½
    assert found.of_ceiling == pytest.approx(1.0, abs=0.1)
    assert found.word == "serves"
    # the same numbers without the second training look like half an agreement
    assert agreement(ours, theirs, one_domain(2000), ["all"]).word == "in part"


@pytest.mark.parametrize("names", [["all rows"], ["math", "code"]])
def test_rows_that_the_other_training_has_no_score_of_say_nothing_of_the_ceiling(names: list[str]) -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(size=400)
    ours, theirs, again = (truth + 0.3 * rng.normal(size=400) for _ in range(3))
    domains = np.arange(400) % len(names)
    whole = agreement(ours, theirs, domains, names, again=again).ceiling
    again[:200] = np.nan
    half = agreement(ours, theirs, domains, names, again=again).ceiling
    assert whole is not None
    assert half == pytest.approx(whole, abs=0.03)
    again[20:] = np.nan
    nothing = agreement(ours, theirs, domains, names, again=again)
    assert (nothing.ceiling, nothing.word) == (None, "serves")


def test_noise_is_taken_out_of_what_is_agreed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the noise, ρ over the ceiling is near the agreement of what the scores are without it."""
    monkeypatch.setattr(module, "RESAMPLES", 2)
    for noise in (0.3, 0.7, 1.2):
        ours, theirs, again = planted(6000, 0.6, noise=noise, seed=3)
        found = agreement(ours, theirs, one_domain(6000), ["all"], again=again)
        assert found.of_ceiling == pytest.approx(6 / np.pi * np.arcsin(0.6 / 2), abs=0.07)


@pytest.mark.parametrize(
    ("truth", "noise", "word"),
    [
        (0.95, 0.0, "serves"),
        (0.6, 0.0, "in part"),
        (0.1, 0.0, "does not serve"),
        (0.0, 0.0, "does not serve"),
        (-0.9, 0.0, "does not serve"),
        (0.9, 3.0, "nothing to transfer"),
    ],
)
def test_each_truth_has_its_word(truth: float, noise: float, word: str) -> None:
    ours, theirs, again = planted(1500, truth, noise=noise, seed=5)
    assert agreement(ours, theirs, one_domain(1500), ["all"], again=again).word == word


def test_of_few_rows_nothing_is_said() -> None:
    found = agreement(np.arange(29.0), np.arange(29.0), one_domain(29), ["all"])
    assert found.word == "too few rows"
    assert found.third is None
    assert (found.overall.low, found.overall.high) == (None, None)


def test_a_score_that_is_the_same_for_all_rows_agrees_with_nothing() -> None:
    found = agreement(np.ones(50), np.arange(50.0), one_domain(50), ["all"])
    assert found.overall == RankCorrelation(None, None, None, 50)
    assert found.word == "too few rows"
    assert found.of_ceiling is None


def test_the_third_by_hand() -> None:
    ours = np.arange(30.0)
    theirs = np.concatenate([ours[5:15], ours[:5], ours[15:]])  # of its lowest ten, five are at places 10 to 14
    assert agreement(ours, theirs, one_domain(30), ["all"]).third == 0.5


def test_the_same_seed_gives_the_same_interval_and_the_mapping_says_all() -> None:
    ours, theirs, again = planted(60, 0.5)
    codes = np.arange(60) % 2
    first, second = (agreement(ours, theirs, codes, ["a", "b"], again=again, seed=4) for _ in range(2))
    assert first == second
    told = first.to_mapping()
    assert told["word"] == first.word
    assert told["domains"]["a"] == {**vars(first.domains["a"])}
    assert RankAgreement(first.overall, None).decides == first.overall


def test_intervals_hold_the_truth_as_often_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESAMPLES", 199)
    truth, held, tried = 6 / np.pi * np.arcsin(0.6 / 2), 0, 60
    for seed in range(tried):
        rho = agreement(*planted(60, 0.6, seed=seed)[:2], one_domain(60), ["all"]).overall
        assert rho.low is not None
        assert rho.high is not None
        held += rho.low <= truth <= rho.high
    assert held >= 0.87 * tried


@pytest.mark.parametrize(
    ("low", "high", "ceiling", "word"),
    [
        (0.71, 0.9, None, "serves"),
        (0.69, 0.9, None, "in part"),  # by the lower end
        (0.36, 0.5, 0.5, "serves"),
        (0.01, 0.5, None, "in part"),
        (-0.01, 0.5, None, "does not serve"),  # no agreement is shown
        (0.1, 0.29, None, "does not serve"),
        (0.1, 0.29, 0.8, "in part"),
        (0.2, 0.3, 0.29, "nothing to transfer"),
    ],
)
def test_words_go_by_the_ends_of_the_interval_and_by_the_ceiling(
    low: float, high: float, ceiling: float | None, word: str
) -> None:
    rho = RankCorrelation((low + high) / 2, low, high, 200)
    assert RankAgreement(rho, None, ceiling=ceiling).word == word
    everywhere = RankCorrelation(0.99, 0.98, 1.0, 200)
    assert RankAgreement(everywhere, rho, ceiling=ceiling).word == word  # inside of domains decides


def test_domains_count_by_their_rows_in_the_mean_and_in_its_ceiling() -> None:
    rng = np.random.default_rng(2)
    sizes = (40, 200, 10)
    codes = np.repeat([0, 1, 2], sizes)
    ours = rng.normal(size=250)
    theirs = np.where(codes == 0, -ours, ours) + rng.normal(size=250)
    again = np.where(codes == 0, ours, rng.normal(size=250))  # the first domain alone is without noise
    found = agreement(ours, theirs, codes, ["a", "b", "few"], again=again)
    assert set(found.domains) == {"a", "b"}
    assert found.within is not None
    assert found.within.n == 240
    by_domain = [found.domains[name].value or 0.0 for name in ("a", "b")]
    assert found.within.value == pytest.approx((40 * by_domain[0] + 200 * by_domain[1]) / 240)
    noisy = spearmanr(ours[codes == 1], again[codes == 1])[0]
    assert found.ceiling == pytest.approx((40 * 1.0 + 200 * noisy) / 240)
