"""The race: samples that nest and are shared, estimates that are right, endings that are the true ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.selectors import LOSS, GreedySelector, Selector, View, build_selector
from campus_tune.method.selectors.race import FIRST_ROUND, RaceResult, measure_offers, stratified_sample
from campus_tune.method.stages import Offer
from campus_tune.words.hashing import hash_rows
from campus_tune.words.types import BoolArray, FloatArray, IntArray, RowArray, RowLosses
from tests.losses import losses_of


class Never(GreedySelector):
    """All offers are equally far, so that none is ever ahead: the race runs to its budget."""

    needs = frozenset({LOSS})

    def distance(self, loss: FloatArray, *, start_loss: FloatArray | None, probe_loss: float | None) -> FloatArray:
        del start_loss, probe_loss
        return np.zeros_like(loss)


class Model:
    """A stand-in for the model: known losses, and a note of every row that was asked for."""

    def __init__(self, losses: RowLosses) -> None:
        self.known = losses
        self.asked: list[list[int]] = []

    def __call__(self, rows: RowArray) -> RowLosses:
        self.asked.append(rows.tolist())
        return self.known.take(rows)

    @property
    def rows(self) -> list[int]:
        return [row for call in self.asked for row in call]


def made_up(n_rows: int, seed: int = 0, spread: float = 0.5) -> RowLosses:
    """Answers of 2 to 60 tokens whose losses depend on their length, as real ones do."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(2, 61, n_rows)
    mean = 1.0 + 0.5 / np.sqrt(tokens) + np.abs(rng.normal(0, spread, n_rows))
    return losses_of(mean * tokens, tokens, np.zeros(n_rows, dtype=np.int64))


def offers_of(*pools: Sequence[int] | RowArray) -> list[Offer]:
    arrays = [np.asarray(pool, dtype=np.int32) for pool in pools]
    return [
        Offer(name, pool, n_rows=len(pool), stage_rows=len(pool), scope=(0.0, 1.0), slice=0)
        for name, pool in zip("abcdef", arrays, strict=False)
    ]


def run_race(
    offers: Sequence[Offer],
    model: Model,
    selector: str | Selector = "lowest_perplexity",
    *,
    budget: float = np.inf,
    row_tokens: IntArray | None = None,
    start: RowLosses | None = None,
    known: BoolArray | None = None,
    **shown: Any,
) -> RaceResult:
    built = build_selector(selector) if isinstance(selector, str) else selector
    return measure_offers(
        built,
        View(names=[offer.name for offer in offers], offers=offers, **shown),
        model,
        row_tokens=np.ones(len(model.known.tokens), dtype=np.int64) if row_tokens is None else row_tokens,
        budget_tokens=budget,
        start_losses=start,
        known=known,
    )


# -- samples ------------------------------------------------------------------------------------------------------

pools = st.lists(st.integers(0, 10_000), min_size=1, max_size=200, unique=True).map(
    lambda rows: np.array(rows, np.int32)
)
seeds = st.lists(st.integers(0, 1000), min_size=1, max_size=2)


@given(pools, st.integers(1, 250), seeds)
def test_a_sample_has_one_row_of_each_equal_part_the_one_with_the_smallest_hash(
    pool: RowArray, n: int, seed: list[int]
) -> None:
    sample = stratified_sample(pool, n, seed=seed).tolist()
    if n >= len(pool):
        assert sample == pool.tolist()
        return
    edges = [i * len(pool) // n for i in range(n)] + [len(pool)]
    parts = [pool[a:b] for a, b in pairwise(edges)]
    assert sample == [min(part.tolist(), key=lambda row: hash_rows(np.array([row]), *seed)[0]) for part in parts]


@given(pools, st.integers(1, 120), seeds)
def test_doubling_a_sample_keeps_every_row_of_it(pool: RowArray, n: int, seed: list[int]) -> None:
    small, large = stratified_sample(pool, n, seed=seed), stratified_sample(pool, 2 * n, seed=seed)
    assert set(small.tolist()) <= set(large.tolist())


def test_offers_that_share_rows_share_more_of_their_samples_than_chance_would() -> None:
    """Two orders of the same 1000 rows, 64 sampled of each: independent samples would share 64²/1000 ≈ 4 rows."""
    rng = np.random.default_rng(0)
    one, other = (rng.permutation(1000).astype(np.int32) for _ in range(2))
    shared = [
        len(set(stratified_sample(one, 64, seed=[s]).tolist()) & set(stratified_sample(other, 64, seed=[s]).tolist()))
        for s in range(20)
    ]
    assert np.mean(shared) > 20


def test_every_row_of_a_part_is_as_likely_to_be_its_sample() -> None:
    pool = np.arange(40, dtype=np.int32)
    counts = np.bincount(
        np.concatenate([stratified_sample(pool, 8, seed=[s]) for s in range(2000)]), minlength=40
    )  # 400 each
    assert ((counts - 400.0) ** 2 / 400.0).sum() < 62.5  # 8 parts × 4 degrees of freedom, p = 0.001


# -- estimates ----------------------------------------------------------------------------------------------------


def classical(losses: RowLosses, sample: RowArray, pool_size: int) -> tuple[float, float]:
    """Cochran 1977, ch. 6: ratio of two sample means, and its standard error without replacement."""
    y, x, n = losses.nll_sum[sample], losses.tokens[sample].astype(float), len(sample)
    ratio = y.mean() / x.mean()
    residual_variance = ((y - ratio * x) ** 2).sum() / (n - 1)
    return float(ratio), float(np.sqrt((1 - n / pool_size) * residual_variance / n) / x.mean())


@pytest.mark.parametrize("n", [8, 16, 64])
def test_means_and_standard_errors_are_the_textbooks(n: int) -> None:
    model = Model(made_up(500))
    pool = np.arange(500, dtype=np.int32)
    result = run_race(offers_of(pool, pool[::-1]), model, Never(), budget=2 * n - 1 if n == 8 else 2 * n, seed=3)
    assert result.n_rows.tolist() == [n, n]
    for k, rows in enumerate((pool, pool[::-1])):
        mean, stderr = classical(model.known, stratified_sample(rows, n, seed=[3, 0]), 500)
        assert result.mean_loss[k] == pytest.approx(mean)
        assert result.stderr[k] == pytest.approx(stderr)


@pytest.mark.parametrize(("n", "lowest"), [(64, 0.925), (8, 0.84)])
def test_two_standard_errors_hold_the_true_loss_nineteen_times_in_twenty(n: int, lowest: float) -> None:
    """400 races over one pool in no particular order. Eight rows are too few for that: seventeen in twenty."""
    model = Model(made_up(2000))
    truth = model.known.mean()
    pool = np.random.default_rng(1).permutation(2000).astype(np.int32)
    results = [run_race(offers_of(pool, pool), model, Never(), budget=n, seed=s) for s in range(400)]
    inside = np.mean([abs(result.mean_loss[0] - truth) <= 2 * result.stderr[0] for result in results])
    assert {int(result.n_rows[0]) for result in results} == {n}
    assert lowest <= inside <= 0.975


def test_along_a_slice_that_is_sorted_the_interval_is_only_ever_too_wide() -> None:
    """Strata take out the variance between them; the standard error does not count on it."""
    model = Model(made_up(2000))
    truth = model.known.mean()
    pool = np.argsort(model.known.per_row()).astype(np.int32)
    results = [run_race(offers_of(pool, pool), model, Never(), budget=64, seed=s) for s in range(200)]
    errors = np.array([result.mean_loss[0] - truth for result in results])
    assert np.mean(np.abs(errors) <= 2 * np.array([result.stderr[0] for result in results])) >= 0.97
    assert errors.std() < 0.7 * np.mean([result.stderr[0] for result in results])


def test_a_race_that_measures_every_row_is_exact() -> None:
    model = Model(made_up(40))
    offers = offers_of(range(30), range(10, 40))
    result = run_race(offers, model, Never())
    assert result.outcome == "all rows measured"
    assert result.mean_loss.tolist() == pytest.approx([model.known.take(offer.pool).mean() for offer in offers])
    assert result.stderr.tolist() == [0.0, 0.0]
    assert result.n_rows.tolist() == [30, 30]
    assert sorted(model.rows) == list(range(40))


# -- what it costs ------------------------------------------------------------------------------------------------


@given(
    st.lists(st.lists(st.integers(0, 199), min_size=1, max_size=150, unique=True), min_size=1, max_size=4),
    st.integers(0, 4000),
    st.integers(0, 99),
)
def test_each_row_is_asked_for_once_in_ascending_calls_and_charged_once(
    rows: list[list[int]], budget: int, seed: int
) -> None:
    model, row_tokens = Model(made_up(200)), np.arange(200) % 17 + 1
    result = run_race(offers_of(*rows), model, budget=budget, row_tokens=row_tokens, seed=seed)
    assert len(model.rows) == len(set(model.rows))
    assert all(call == sorted(call) for call in model.asked)
    assert result.tokens == row_tokens[model.rows].sum()


@given(st.integers(0, 3000), st.integers(0, 99))
def test_after_the_first_round_a_race_keeps_to_its_budget(budget: int, seed: int) -> None:
    model, row_tokens = Model(made_up(300)), np.arange(300) % 17 + 1
    pools = [np.random.default_rng([seed, k]).permutation(300)[:200] for k in range(3)]
    result = run_race(offers_of(*pools), model, Never(), budget=budget, row_tokens=row_tokens, seed=seed)
    first = row_tokens[model.asked[0]].sum()
    assert result.tokens <= max(budget, first)
    if result.outcome == "budget spent":
        n = 2 * int(result.n_rows[0])
        samples = [stratified_sample(pool.astype(np.int32), n, seed=[seed, 0]) for pool in pools]
        next_round = row_tokens[np.unique(np.concatenate(samples))].sum()
        assert next_round > budget  # it stopped only where the next round would not have fitted


def test_the_first_round_is_run_whatever_it_costs() -> None:
    model = Model(made_up(300))
    result = run_race(offers_of(range(150), range(150, 300)), model, Never(), budget=0.0)
    assert (result.rounds, result.outcome, result.tokens) == (1, "budget spent", 2 * FIRST_ROUND)


def test_samples_double_until_the_budget_is_spent() -> None:
    model = Model(made_up(1000))
    result = run_race(offers_of(range(500), range(500, 1000)), model, Never(), budget=130.0)
    assert [len(call) for call in model.asked] == [16, 16, 32, 64]
    assert (result.rounds, result.tokens, result.outcome) == (4, 128, "budget spent")


# -- when it ends -------------------------------------------------------------------------------------------------


def two_levels(gap: float, n: int = 600, seed: int = 0) -> Model:
    """The second half of the rows costs `gap` nats a token more."""
    losses = made_up(n, seed)
    higher = np.arange(n) >= n // 2
    return Model(losses_of(losses.nll_sum + gap * higher * losses.tokens, losses.tokens, losses.top1))


def test_offers_that_are_far_apart_are_separated_at_once() -> None:
    result = run_race(offers_of(range(300), range(300, 600)), two_levels(gap=2.0))
    assert (result.outcome, result.rounds) == ("separated", 1)
    assert np.argmin(result.mean_loss) == 0


def test_offers_that_are_close_take_more_rounds() -> None:
    rounds = [
        np.mean([run_race(offers_of(range(300), range(300, 600)), two_levels(gap), seed=s).rounds for s in range(20)])
        for gap in (1.0, 0.2, 0.05)
    ]
    assert rounds == sorted(rounds)
    assert rounds[0] < rounds[-1] - 1


def test_a_separated_winner_is_the_true_one() -> None:
    """Two standard errors leave room for mistakes, over several looks at the data: under one in ten here."""
    wrong, separated = 0, 0
    for s in range(200):
        model = two_levels(gap=0.1, seed=s)
        result = run_race(offers_of(range(300), range(300, 600)), model, seed=s)
        truth = [model.known.take(np.arange(300)).mean(), model.known.take(np.arange(300, 600)).mean()]
        if result.outcome == "separated":
            separated += 1
            wrong += int(np.argmin(result.mean_loss) != np.argmin(truth))
    assert separated > 100
    assert wrong / separated < 0.1


def test_rows_that_two_offers_share_do_not_blur_the_difference() -> None:
    """Offers that are equal but for a quarter of their rows, against offers of the same losses with none in common."""
    losses = made_up(800, spread=1.0)
    pool = np.arange(400)
    nearly = np.where(pool % 4 == 0, pool + 400, pool)  # a quarter swapped for other rows
    tokens = losses.tokens.copy()
    nll = losses.nll_sum.copy()
    tokens[400:], nll[400:] = tokens[:400], nll[:400] + 1.5 * tokens[:400]  # the same rows, 1.5 nats harder
    model = Model(losses_of(nll, tokens, losses.top1))
    apart = np.where(pool % 4 == 0, pool + 400, pool) + 800
    doubled = Model(losses_of(np.tile(nll, 2), np.tile(tokens, 2), np.zeros(1600, dtype=np.int64)))
    shared = [run_race(offers_of(pool, nearly), model, seed=s).n_rows[0] for s in range(30)]
    distinct = [run_race(offers_of(pool, apart), doubled, seed=s).n_rows[0] for s in range(30)]
    assert np.mean(shared) < 0.75 * np.mean(distinct)


def test_a_single_offer_needs_one_round() -> None:
    result = run_race(offers_of(range(100)), Model(made_up(100)))
    assert (result.rounds, result.outcome) == (1, "separated")


# -- other selectors ----------------------------------------------------------------------------------------------


def test_against_the_start_rows_are_their_own_controls() -> None:
    """Losses spread over nats, but every row of the first offer has come down by 0.3 and of the second by 0.1."""
    start = made_up(600, spread=2.0)
    fell = np.where(np.arange(600) < 300, 0.3, 0.1) * start.tokens
    model = Model(losses_of(start.nll_sum - fell, start.tokens, start.top1))
    result = run_race(offers_of(range(300), range(300, 600)), model, "relative_perplexity", start=start)
    assert (result.outcome, result.rounds) == ("separated", 1)
    assert result.start_loss is not None
    assert (result.mean_loss - result.start_loss).tolist() == pytest.approx([-0.3, -0.1])


def test_start_losses_are_those_of_the_sample() -> None:
    start, model = made_up(200, seed=1), Model(made_up(200))
    pool = np.arange(200, dtype=np.int32)
    start = losses_of(start.nll_sum, model.known.tokens, start.top1)
    result = run_race(offers_of(pool), model, "relative_perplexity", start=start, seed=9)
    sample = stratified_sample(pool, 8, seed=[9, 0])
    assert result.start_loss is not None
    assert result.start_loss[0] == pytest.approx(start.take(sample).mean())


def test_only_rows_whose_start_is_known_are_sampled() -> None:
    start, model = made_up(400, seed=1), Model(made_up(400))
    known = np.arange(400) % 3 == 0
    run_race(offers_of(range(200), range(200, 400)), model, "relative_perplexity", start=start, known=known)
    assert known[model.rows].all()


def test_an_offer_without_a_known_row_is_not_measured_and_not_taken() -> None:
    start, model = made_up(400, seed=1), Model(made_up(400))
    known = np.arange(400) < 200
    offers = offers_of(range(200, 400), range(200))
    result = run_race(offers, model, "relative_perplexity", start=start, known=known)
    assert np.isnan(result.mean_loss).tolist() == np.isnan(result.stderr).tolist() == [True, False]
    assert result.n_rows[0] == 0
    view = View(names=["a", "b"], mean_loss=result.mean_loss, start_loss=result.start_loss)
    assert build_selector("relative_perplexity").choose(view) == "b"


def test_when_nothing_is_known_the_first_offer_is_left_to_take() -> None:
    known = np.zeros(100, dtype=np.bool_)
    model = Model(made_up(100))
    result = run_race(
        offers_of(range(50), range(50, 100)), model, "relative_perplexity", start=model.known, known=known
    )
    assert (result.outcome, result.tokens, model.asked) == ("not measured", 0, [])
    view = View(names=["a", "b"], mean_loss=result.mean_loss, start_loss=result.start_loss)
    assert build_selector("relative_perplexity").choose(view) == "a"


def test_matched_is_separated_by_distances_on_both_sides_of_the_probes() -> None:
    model = two_levels(gap=2.0)
    easy, hard = model.known.take(np.arange(300)).mean(), model.known.take(np.arange(300, 600)).mean()
    result = run_race(offers_of(range(300), range(300, 600)), model, "matched", probe_loss=hard - 0.2)
    assert result.outcome == "separated"
    assert abs(result.mean_loss[1] - hard) < 0.5 < hard - easy


def test_offers_on_opposite_sides_at_equal_distance_are_not_separated_by_luck() -> None:
    """|loss − probe| is the same for both: whatever is drawn, the race goes on, but for a mistake in twenty."""
    model = two_levels(gap=1.0)
    easy, hard = model.known.take(np.arange(300)).mean(), model.known.take(np.arange(300, 600)).mean()
    first_round = [
        run_race(
            offers_of(range(300), range(300, 600)), model, "matched", budget=0, seed=s, probe_loss=(easy + hard) / 2
        )
        for s in range(100)
    ]
    assert sum(result.outcome == "separated" for result in first_round) <= 15


class LikesLosses(Selector):
    """Needs losses and compares none."""

    needs = frozenset({LOSS})

    def choose(self, view: View) -> str:
        return view.names[0]


def test_a_selector_without_distances_is_shown_as_much_as_the_budget_pays_for() -> None:
    result = run_race(offers_of(range(300), range(300, 600)), two_levels(gap=2.0), LikesLosses(), budget=100)
    assert (result.outcome, result.rounds, result.tokens) == ("budget spent", 3, 64)


# -- repeatable ---------------------------------------------------------------------------------------------------


def test_the_same_stage_of_the_same_seed_measures_the_same_rows() -> None:
    def rows(stage: int, seed: int) -> list[int]:
        model = Model(made_up(300))
        run_race(offers_of(range(200), range(100, 300)), model, Never(), budget=50, stage=stage, seed=seed)
        return model.rows

    assert rows(1, 2) == rows(1, 2)
    assert rows(1, 2) != rows(2, 2)
    assert rows(1, 2) != rows(1, 3)
