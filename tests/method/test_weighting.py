"""Weighting: what is planned, what is live and what is remembered, for any entries and any past."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.levels import Groups
from campus_tune.method.weighting import FLOOR, Entry, Live, ShareWeight, Weighting
from campus_tune.method.weights import LiveWeight, OwnWeight, PlannedWeight, Planning, build_weight
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import FloatArray, IntArray

N_ROWS = 120
TOKENS = np.random.default_rng(1).integers(1, 60, N_ROWS)
DOMAINS = Groups(np.arange(N_ROWS) % 3, ("a", "b", "c"))
CELLS = Groups(np.arange(N_ROWS) % 6, tuple("uvwxyz"))
ROWS = np.random.default_rng(2).permutation(N_ROWS).astype(np.int32)
COLUMN = OwnWeight()
VALUES = np.random.default_rng(3).gamma(2, 0.5, N_ROWS)

seeds = st.integers(0, 10**6)


def entry(setting: str | dict[str, Any], **span: Any) -> Entry:
    weight = build_weight(setting)
    return Entry(setting if isinstance(setting, str) else setting["name"], weight, **{"since": weight.since, **span})


def weighting(*entries: Entry, **settings: Any) -> Weighting:
    given_ = {"tokens": TOKENS, "global_batch": 40, "columns": {COLUMN: VALUES}, "domains": DOMAINS, "cells": CELLS}
    return Weighting(entries, **{**given_, **settings})


def planned(made: Weighting, rows: Any = ROWS, *, u: float = 0.0, unbiased: FloatArray | None = None) -> FloatArray:
    ones = np.ones(len(rows)) if unbiased is None else unbiased
    found = made.plan(Planning(np.asarray(rows), ones, u, made.columns), seeds=[0, 0, 0])
    assert found is not None
    return found


def sums(weights: FloatArray, rows: Any, size: int) -> list[float]:
    """Σ wT/ΣT of each `size` rows."""
    parts = [slice(begin, begin + size) for begin in range(0, len(rows), size)]
    return [float((weights[part] * TOKENS[rows[part]]).sum() / TOKENS[rows[part]].sum()) for part in parts]


# -- planned -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "unit"), [(40, 40), (32, 32), (31, N_ROWS), (1, N_ROWS)])
def test_planned_weights_keep_the_tokens_of_each_step_or_of_a_stage_of_small_ones(batch: int, unit: int) -> None:
    found = planned(weighting(entry("column"), global_batch=batch))
    assert sums(found, ROWS, unit) == pytest.approx([1] * math.ceil(N_ROWS / unit))
    for part in (slice(begin, begin + unit) for begin in range(0, N_ROWS, unit)):
        ratio = found[part] / VALUES[ROWS[part]]
        assert ratio == pytest.approx(ratio[0] * np.ones(len(ratio)))  # who counts how much of the others is the user's


@given(st.floats(1e-3, 1e3), st.sampled_from([8, 40]))
def test_a_column_has_no_scale(scale: float, batch: int) -> None:
    one = weighting(entry("column"), global_batch=batch)
    other = weighting(entry("column"), global_batch=batch, columns={COLUMN: scale * VALUES})
    np.testing.assert_allclose(planned(one), planned(other))


def test_weights_that_are_not_normalised_are_left_as_they_are() -> None:
    found = planned(weighting(entry("column"), normalise=False))
    np.testing.assert_array_equal(found, VALUES[ROWS])


def test_factors_multiply_and_each_has_its_own_limit() -> None:
    unbiased = np.random.default_rng(5).uniform(0.2, 4, N_ROWS)
    both = weighting(entry("column", limit=2), entry("unbiased", limit=3), normalise=False)
    expected = np.minimum(VALUES[ROWS], 2) * np.minimum(unbiased, 3)
    np.testing.assert_array_equal(planned(both, unbiased=unbiased), expected)
    alone = weighting(entry("unbiased"), normalise=False)
    np.testing.assert_array_equal(planned(alone, unbiased=unbiased), unbiased)


@pytest.mark.parametrize(
    ("u", "holds"), [(0.0, False), (0.2999, False), (0.3, True), (0.6999, True), (0.7, False), (1.0, False)]
)
def test_outside_of_its_span_a_weight_is_neutral(u: float, holds: bool) -> None:
    made = weighting(entry("column", since=0.3, until=0.7), entry("superloss", since=0.3, until=0.7))
    assert (made.plan(Planning(ROWS, np.ones(N_ROWS), u, made.columns), [0]) is not None) == holds
    assert bool(made.live(u)) == holds
    assert not any(weighting().live(u).rows)


def test_nothing_is_planned_where_no_weight_is() -> None:
    shown = Planning(ROWS, np.ones(N_ROWS), 0.5, {})
    assert weighting().plan(shown, [0]) is None
    assert weighting(entry("focal"), entry("robust")).plan(shown, [0]) is None
    assert not Live()


@given(seeds)
def test_a_weight_goes_with_its_row_wherever_it_comes_in_the_step(seed: int) -> None:
    made = weighting(entry("column"), entry("unbiased"))
    unbiased = np.random.default_rng(0).uniform(0.5, 2, N_ROWS)
    found = planned(made, unbiased=unbiased)
    rng = np.random.default_rng(seed)
    sequence = np.concatenate([begin + rng.permutation(40) for begin in range(0, N_ROWS, 40)])
    np.testing.assert_allclose(planned(made, ROWS[sequence], unbiased=unbiased[sequence]), found[sequence])


@given(seeds, st.sampled_from([7, 40]))
def test_a_shuffled_control_deals_the_weights_of_a_step_to_its_rows(seed: int, batch: int) -> None:
    made = weighting(entry("column"), global_batch=batch, normalise=False)
    control = weighting(entry("column"), global_batch=batch, normalise=False, shuffle=True)
    shown = Planning(ROWS, np.ones(N_ROWS), 0.0, made.columns)
    own, dealt, again = made.plan(shown, [seed]), control.plan(shown, [seed]), control.plan(shown, [seed])
    assert own is not None
    assert dealt is not None
    np.testing.assert_array_equal(dealt, again)
    assert (own != dealt).any()
    for begin in range(0, N_ROWS, batch):
        assert sorted(own[begin : begin + batch]) == sorted(dealt[begin : begin + batch])
    control = weighting(entry("column"), global_batch=40, shuffle=True)
    assert sums(planned(control), ROWS, 40) == pytest.approx([1, 1, 1])


def test_a_step_in_which_nothing_would_be_trained_is_refused_and_the_advice_helps() -> None:
    values = VALUES.copy()
    values[ROWS[40:80]] = 0
    first = r", ".join(str(row) for row in ROWS[40:48])
    made = weighting(entry("column"), columns={COLUMN: values})
    with pytest.raises(
        RecipeError, match=rf"the weight 0 for all rows of 1 of the 3 steps of a stage \(of the first: {first}, …\)"
    ):
        planned(made)
    with pytest.raises(RecipeError, match="Leave such rows out of the training set, or give them a small weight"):
        planned(made)
    left = np.flatnonzero(values > 0)
    assert sums(planned(made, ROWS[np.isin(ROWS, left)]), ROWS[np.isin(ROWS, left)], 40) == pytest.approx([1, 1])
    values[ROWS[40:80]] = 1e-3
    assert sums(planned(weighting(entry("column"), columns={COLUMN: values})), ROWS, 40) == pytest.approx([1, 1, 1])


def test_a_step_of_small_ones_in_which_nothing_would_be_trained_is_refused_too() -> None:
    values = VALUES.copy()
    values[ROWS[:4]] = 0
    with pytest.raises(RecipeError, match="all rows of 1 of the 30 steps"):
        planned(weighting(entry("column"), columns={COLUMN: values}, global_batch=4))


def test_a_step_whose_weight_lies_on_rows_without_an_answer_is_refused_and_one_without_answers_is_not() -> None:
    tokens, values = TOKENS.copy(), VALUES.copy()
    tokens[ROWS[:5]] = 0
    values[ROWS[5:40]] = 0
    with pytest.raises(RecipeError, match="`weights` must leave something of every optimizer step"):
        planned(weighting(entry("column"), tokens=tokens, columns={COLUMN: values}))
    tokens[ROWS[:40]] = 0
    assert np.isfinite(planned(weighting(entry("column"), tokens=tokens, columns={COLUMN: values}))).all()


# -- shares ------------------------------------------------------------------------------------------------------------


def test_shares_as_weights_are_shares_over_natural_ones() -> None:
    natural = np.array([0.5, 0.25, 0.25])

    def at(u: float) -> FloatArray | None:
        return np.array([0.1, 0.4, 0.5]) if u >= 0.5 else None

    made = weighting(Entry("shares", ShareWeight(DOMAINS, natural, at)), normalise=False)
    assert planned(made, u=0.4).tolist() == [1] * N_ROWS
    expected = np.array([0.2, 1.6, 2.0])[DOMAINS.of(ROWS)]
    assert planned(made, u=0.5) == pytest.approx(expected)


def test_a_domain_without_rows_has_no_share_to_divide_by() -> None:
    shares = ShareWeight(DOMAINS, np.array([0.5, 0.5, 0.0]), lambda _: np.array([0.6, 0.2, 0.2]))
    assert planned(weighting(Entry("shares", shares), normalise=False), np.arange(3)) == pytest.approx([1.2, 0.4, 1])


# -- live --------------------------------------------------------------------------------------------------------------


def lived(made: Weighting, n_stages: int, seed: int = 0, *, parts: bool = False) -> Weighting:
    """It at the end of some stages."""
    rng = np.random.default_rng(seed)
    for _ in range(n_stages):
        rows = rng.permutation(N_ROWS)[: int(rng.integers(40, N_ROWS))].astype(np.int64)
        losses = rng.gamma(2, 1, len(rows)) * (1 + DOMAINS.of(rows))
        made.close(rows, losses, TOKENS[rows], rng.uniform(0.2, 1.2, len(rows)) if parts else None)
    return made


def pacing(u: float) -> float:
    return 0.2 + 0.8 * u


LIVE: list[tuple[str | dict[str, Any], ...]] = [
    ("self_paced",),
    ({"name": "self_paced", "form": "log", "floor": 0},),
    ("superloss",),
    ("linupper",),
    ("robust",),
    ({"name": "focal", "of": "row"},),
    ({"name": "focal", "gamma": 2},),
    ("superloss", "robust", {"name": "focal", "of": "row"}, {"name": "focal", "gamma": 2}),
]
every_live = pytest.mark.parametrize("settings", LIVE, ids=str)


def all_of(settings: Sequence[str | dict[str, Any]], **more: Any) -> Weighting:
    return weighting(*[entry(setting, since=0.0) for setting in settings], scope=pacing, **more)


def factors(live: Live, rows: IntArray, losses: FloatArray, xp: Any = np, dtype: Any = np.float64) -> FloatArray:
    numbers = live.numbers(rows)
    if xp is torch:
        return np.asarray(live.of_rows(torch.tensor(losses, dtype=dtype), torch.tensor(numbers, dtype=dtype), torch))
    return np.asarray(live.of_rows(losses.astype(dtype), numbers.astype(dtype), np))


@every_live
def test_before_anything_is_known_only_what_needs_no_level_weighs(settings: Any) -> None:
    live = all_of(settings).live(0.3)
    losses = np.linspace(0.1, 3, N_ROWS)
    assert live.mean == 1
    known = [build_weight(setting) for setting in settings]
    focal = [one for one in known if isinstance(one, LiveWeight) and one.kind == "row" and one.groups is None]
    expected = np.prod([one.factor(losses, (), np) for one in focal], axis=0) if focal else np.ones(N_ROWS)
    np.testing.assert_allclose(factors(live, ROWS.astype(np.int64), losses), expected)


@every_live
@pytest.mark.parametrize(("xp", "dtype"), [(np, np.float32), (torch, torch.float64), (torch, torch.float32)])
def test_live_weights_are_the_same_on_host_and_device(settings: Any, xp: Any, dtype: Any) -> None:
    live = lived(all_of(settings), 3).live(0.4)
    losses = np.random.default_rng(9).gamma(2, 1, N_ROWS)
    expected = factors(live, ROWS.astype(np.int64), losses)
    found = factors(live, ROWS.astype(np.int64), losses, xp, dtype)
    np.testing.assert_allclose(found, expected, rtol=1e-9 if dtype is torch.float64 else 1e-4)
    assert ((found >= FLOOR / live.mean * (1 - 1e-6)) & np.isfinite(found)).all()
    tokens = losses.astype(np.float32)
    ours = live.of_tokens(tokens, np)
    np.testing.assert_allclose(np.asarray(live.of_tokens(torch.tensor(tokens), torch)), ours, rtol=1e-5)


@every_live
def test_a_rows_weight_is_a_function_of_its_own_loss_and_group_alone(settings: Any) -> None:
    live = lived(all_of(settings), 3).live(0.4)
    losses = np.random.default_rng(9).gamma(2, 1, N_ROWS)
    rows = ROWS.astype(np.int64)
    whole = factors(live, rows, losses)
    mixed = np.random.default_rng(1).permutation(N_ROWS)
    np.testing.assert_array_equal(factors(live, rows[mixed], losses[mixed]), whole[mixed])
    alone = np.concatenate([factors(live, rows[[i]], losses[[i]]) for i in range(N_ROWS)])
    np.testing.assert_array_equal(alone, whole)


def product_slowly(made: Weighting, u: float, rows: IntArray, losses: FloatArray) -> FloatArray:
    """The product of the rows' factors, one row and one entry after the other."""
    live = made.live(u)
    found = []
    for row, loss in zip(rows.tolist(), losses.tolist(), strict=True):
        weight = 1.0
        for one in live.rows:
            level = [np.array([float(number[one.groups.of(np.array([row]))[0]])]) for number in one.level]
            factor = float(one.weight.factor(np.array([loss]), level, np)[0])
            if not any(np.isnan(number[0]) for number in level):
                weight *= factor if one.most is None else min(factor, one.most)
        found.append(max(weight, FLOOR))
    return np.array(found)


@every_live
def test_live_weights_are_divided_by_their_mean_over_the_last_visits(settings: Any) -> None:
    made = lived(all_of(settings), 3, parts=True)
    last = made._last
    slow = product_slowly(made, 0.4, last.rows, last.losses)
    tokens_hold = any(build_weight(setting).kind == "token" for setting in settings)
    parts = last.parts if tokens_hold else np.ones(len(last))
    live = made.live(0.4)
    assert live.mean == pytest.approx(float((slow * parts * last.tokens).sum() / last.tokens.sum()))
    found = live.of_rows(last.losses, live.numbers(last.rows), np)
    np.testing.assert_allclose(found, slow / live.mean)
    assert float((found * parts * last.tokens).sum() / last.tokens.sum()) == pytest.approx(1)


def test_a_limit_of_a_live_weight_is_in_units_of_its_mean() -> None:
    free = lived(weighting(entry("superloss")), 3)
    held = lived(weighting(entry("superloss", limit=1.2)), 3)
    last, (made,) = free._last, held.live(0.0).rows
    neutral = free.live(0.0)
    plain = factors(neutral, last.rows, last.losses) * neutral.mean
    mean = float((plain * last.tokens).sum() / last.tokens.sum())
    assert made.most == pytest.approx(1.2 * mean)
    cut = factors(held.live(0.0), last.rows, last.losses) * held.live(0.0).mean
    np.testing.assert_allclose(cut, np.minimum(plain, 1.2 * mean))
    assert (cut < plain).any()


def test_a_limit_of_a_tokens_weight_is_in_units_of_its_mean() -> None:
    made = lived(weighting(entry("focal", limit=1.5)), 2, parts=True)
    last, (token,) = made._last, made.live(0.0).tokens
    assert token.most == pytest.approx(1.5 * float((last.parts * last.tokens).sum() / last.tokens.sum()))
    found = made.live(0.0).of_tokens(np.linspace(0, 9, 50), np)
    assert found.max() == pytest.approx(token.most)


def test_self_pacing_opens_with_the_recipes_pacing_over_its_own_span() -> None:
    made = lived(weighting(entry("self_paced", since=0.2, until=0.6), scope=pacing), 2)
    of = {u: made.live(u).rows[0].level[0] for u in (0.2, 0.4, 0.599)}
    losses = made._last.losses[DOMAINS.of(made._last.rows) == 1]
    for u, share in ((0.2, 0.2), (0.4, 0.6), (0.599, pacing(0.9975))):
        assert of[u][1] == pytest.approx(np.quantile(losses, share))


def test_robust_lets_a_cell_be_until_it_was_visited_twenty_times() -> None:
    made = weighting(entry("robust"))
    rows = np.flatnonzero(CELLS.of(np.arange(N_ROWS)) == 2)
    made.close(rows[:19], np.ones(19), TOKENS[rows[:19]])
    assert np.isnan(made.live(0.5).rows[0].level[0]).all()
    assert factors(made.live(0.5), rows, np.full(len(rows), 9.0)).tolist() == [1] * len(rows)
    made.close(rows[19:], np.ones(1), TOKENS[rows[19:]])
    live = made.live(0.5)
    assert np.isnan(live.rows[0].level[0]).tolist() == [True, True, False, True, True, True]
    assert (factors(live, rows, np.full(len(rows), 9.0)) < 0.01).all()
    assert not made.live(0.05)


def test_a_domain_that_had_few_rows_in_a_stage_keeps_the_level_it_had() -> None:
    made = weighting(entry("superloss"))
    rows = np.arange(90)
    made.close(rows, 1.0 + DOMAINS.of(rows), TOKENS[rows])
    rows = np.flatnonzero(DOMAINS.of(np.arange(N_ROWS)) == 0)
    made.close(np.append(rows, 1), np.append(np.full(40, 0.5), 9.0), TOKENS[np.append(rows, 1)])
    tau = made.live(0.5).rows[0].level[0]
    assert tau.tolist() == pytest.approx([0.5, (19 * 2 + 9) / 20, 3])


def test_rows_that_were_never_measured_leave_no_trace() -> None:
    one, other = weighting(entry("robust"), entry("focal")), weighting(entry("robust"), entry("focal"))
    rows = np.arange(60)
    losses, tokens, parts = np.linspace(1, 2, 60), TOKENS[:60].copy(), np.linspace(0.5, 1, 60)
    losses[3], parts[7], tokens[11] = np.nan, np.inf, 0
    kept = np.setdiff1d(rows, [3, 7, 11])
    one.close(rows, losses, tokens, parts)
    other.close(kept, losses[kept], tokens[kept], parts[kept])
    assert one.state() == other.state()


@given(seeds, st.integers(1, 40))
def test_a_live_control_deals_factors_inside_a_forward(seed: int, n: int) -> None:
    assert weighting(entry("robust")).live(0.5).dealt(n, 3) is None
    live = weighting(entry("robust"), shuffle=True, seed=seed).live(0.5)
    dealt = live.dealt(n, 3)
    assert dealt is not None
    assert sorted(dealt.tolist()) == list(range(n))
    assert dealt.tolist() == weighting(entry("robust"), shuffle=True, seed=seed).live(0.2).dealt(n, 3).tolist()  # type: ignore[union-attr]
    if n > 12:
        other = live.dealt(n, 4)
        assert other is not None
        assert dealt.tolist() != other.tolist()


# -- remembered --------------------------------------------------------------------------------------------------------


def same(one: Live, other: Live) -> bool:
    """To the last bit."""

    def bits(live: Live) -> Any:
        entries = [(e.name, e.weight, e.most, [level.tobytes() for level in e.level]) for e in live.rows + live.tokens]
        return entries, live.mean, live.shuffle

    return bool(bits(one) == bits(other))


@every_live
def test_live_weights_go_on_from_json_to_the_last_bit(settings: Any) -> None:
    one, other = lived(all_of(settings), 3, parts=True), all_of(settings)
    other.load(json.loads(json.dumps(one.state())))
    for _ in range(3):
        for u in (0.0, 0.4, 0.99):
            assert same(one.live(u), other.live(u))
        lived(one, 1, seed=7, parts=True)
        lived(other, 1, seed=7, parts=True)
    assert one.state() == other.state()


def test_what_is_not_used_is_not_remembered() -> None:
    made = lived(weighting(entry("column"), entry("unbiased")), 2)
    assert made.state() == {}
    assert lived(weighting(), 2).state() == {}
    assert "running" not in lived(weighting(entry("superloss")), 2).state()
    assert "running" in lived(weighting(entry("robust")), 2).state()


def test_a_changed_future_keeps_what_it_can_use() -> None:
    past = lived(weighting(entry("robust"), entry("superloss")), 2)
    state = json.loads(json.dumps(past.state()))
    without = weighting(entry("superloss"))
    without.load(state)
    assert without.live(0.5).rows[0].level[0].tolist() == past.live(0.5).rows[1].level[0].tolist()
    fewer = weighting(entry("robust"), entry("superloss"), cells=DOMAINS)
    fewer.load(state)
    assert np.isnan(fewer.live(0.5).rows[0].level[0]).all()
    assert fewer.live(0.5).rows[1].level[0].tolist() == past.live(0.5).rows[1].level[0].tolist()
    new = weighting(entry("robust"))
    new.load(json.loads(json.dumps(lived(weighting(entry("column")), 2).state())))
    assert same(new.live(0.5), weighting(entry("robust")).live(0.5))
    planned_only = weighting(entry("column"))
    planned_only.load(state)
    assert planned_only.state() == {}


def test_visits_of_rows_that_are_not_there_are_refused() -> None:
    state = lived(weighting(entry("superloss")), 2).state()
    fewer = weighting(entry("superloss"), tokens=TOKENS[:50])
    with pytest.raises(ValueError, match="visits must be of rows below 50, got 11"):
        fewer.load(state)


@pytest.mark.parametrize("setting", ["superloss", "robust", "linupper", "self_paced"])
def test_a_plan_and_its_levels_are_those_of_the_stages_opening(setting: str) -> None:
    """What a stage shows while it is trained changes nothing of it."""
    made = lived(weighting(entry(setting, since=0.0), scope=pacing), 2)
    live = made.live(0.5)
    before: Callable[[], list[float]] = lambda: [*factors(live, ROWS.astype(np.int64), VALUES)]  # noqa: E731
    was = before()
    lived(made, 1, seed=8)
    assert before() == was
    assert not same(made.live(0.5), live)


def test_entries_are_frozen_and_say_how_far_they_are() -> None:
    one = entry("column", since=0.2, until=0.6)
    assert [one.inside(u) for u in (0.0, 0.2, 0.4, 0.6, 1.0)] == pytest.approx([0, 0, 0.5, 1, 1])
    assert replace(one, since=0.3).holds(0.25) is False


# -- messages ----------------------------------------------------------------------------------------------------------


def of_messages(**settings: Any) -> Weighting:
    weight = OwnWeight(of="message")
    return weighting(Entry("column", weight, 0.25, 0.5), entry("focal"), columns={weight: VALUES}, **settings)


def test_a_row_is_spread_over_its_tokens_while_its_messages_have_weights() -> None:
    shape = np.array([0.5, 0.5, 2.0])
    for u, holds in ((0.0, False), (0.25, True), (0.49, True), (0.5, False)):
        assert of_messages().spread(shape, u, 3).tolist() == (shape if holds else np.ones(3)).tolist()
    assert weighting(entry("column")).spread(shape, 0.3, 3).tolist() == [1, 1, 1]


def test_a_control_deals_what_tokens_count_to_others_of_the_row() -> None:
    shape = np.linspace(0.0, 2.0, 50)
    control = of_messages(shuffle=True, seed=5)
    dealt = control.spread(shape, 0.3, 3)
    assert dealt.tolist() != shape.tolist() == sorted(dealt)
    assert dealt.tolist() == control.spread(shape, 0.4, 3).tolist()  # whenever the row comes, and after a resume
    assert dealt.tolist() != control.spread(shape, 0.3, 4).tolist()


# -- parts of others ---------------------------------------------------------------------------------------------------


class Given(PlannedWeight):
    """Somebody else's."""

    def __init__(self, numbers: Callable[[int], Any]) -> None:
        self.numbers = numbers

    def planned(self, shown: Planning) -> Any:
        return self.numbers(len(shown.rows))


class Lives(LiveWeight):
    """The same, of losses."""

    def __init__(self, kind: Any, numbers: Callable[[Any], Any]) -> None:
        self.kind, self.numbers = kind, numbers

    def factor(self, loss: Any, level: Sequence[Any], xp: Any) -> Any:
        del level, xp
        return self.numbers(loss)


@pytest.mark.parametrize(
    ("numbers", "got"),
    [
        (lambda n: np.full(n, -0.5), "-0.5"),
        (lambda n: np.full(n, np.nan), "nan"),
        (lambda n: np.full(n, np.inf), "inf"),
        (lambda n: np.ones(n + 1), r"ndarray of shape \("),
        (lambda n: np.ones((n, 1)), r"ndarray of shape \("),
        (lambda n: ["a"] * n, r"list of shape \("),
        (lambda n: None, r"NoneType of shape \(\)"),  # noqa: ARG005
    ],
)
def test_numbers_of_a_part_of_others_that_are_no_weights_are_refused_before_they_turn_a_gradient(
    numbers: Callable[[int], Any], got: str
) -> None:
    said = r"`weights: theirs` must give an array of shape \(\d+,\) of finite numbers of at least 0, got " + got
    with pytest.raises(RecipeError, match=said):
        planned(weighting(Entry("theirs", Given(numbers))))
    for kind in ("row", "token"):
        with pytest.raises(RecipeError, match=said):
            weighting(Entry("theirs", Lives(kind, lambda loss: numbers(len(loss))))).live(0.0)


def test_a_part_of_others_that_gives_weights_is_taken() -> None:
    assert planned(weighting(Entry("theirs", Given(np.ones)))).tolist() == [1.0] * N_ROWS
    assert weighting(Entry("theirs", Lives("row", np.exp))).live(0.0).rows[0].name == "theirs"
