"""Weights: the oracle numbers, slow references by minimising and by autograd, and numpy beside torch."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import lambertw

from campus_tune.method.levels import Groups, Levels, Visits
from campus_tune.method.thin import build_thinner, take
from campus_tune.method.weights import (
    WEIGHTS,
    LiveWeight,
    OwnWeight,
    PlannedWeight,
    Planning,
    build_weight,
    effective_share,
    lambert_w,
    normalised,
)
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import FloatArray, IntArray

LOSSES = [0.5, 1.2, 2.0, 0.8, 1.5]
KINDS = [(np, np.float32), (np, np.float64), (torch, torch.float32), (torch, torch.float64)]


def live(setting: str | dict[str, Any]) -> LiveWeight:
    weight = build_weight(setting)
    assert isinstance(weight, LiveWeight)
    return weight


def factor(setting: str | dict[str, Any], losses: Any, *level: float) -> FloatArray:
    """Of some losses that are all compared with the same numbers."""
    losses = np.asarray(losses, dtype=np.float64)
    found = live(setting).factor(losses, [np.full(len(losses), number) for number in level], np)
    return np.asarray(found, dtype=np.float64)


def as_in(xp: Any, dtype: Any, values: Any) -> Any:
    return np.asarray(values, dtype=dtype) if xp is np else torch.tensor(np.asarray(values), dtype=dtype)


def relative_tolerance(dtype: Any) -> float:
    return 1e-3 if "32" in str(dtype) else 1e-6


# -- self-paced --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("hard", [1, 1, 0, 1, 0]),
        ("linear", [0.6154, 0.0769, 0, 0.3846, 0]),
        ("log", [0.3505, 0.0312, 0, 0.1845, 0]),
    ],
)
def test_worked_self_pacing(form: str, expected: list[float]) -> None:
    assert factor({"name": "self_paced", "form": form, "floor": 0}, LOSSES, 1.3).round(4).tolist() == expected
    lifted = factor({"name": "self_paced", "form": form}, LOSSES, 1.3)
    assert lifted.tolist() == pytest.approx([0.1 + 0.9 * v for v in expected], abs=1e-4)


def regret(form: str, v: FloatArray, scale: float) -> FloatArray:
    """f(v; λ) of Jiang et al., of which Σ vℓ + f is least at the weights; losses are on a scale where λ is `scale`."""
    if form == "hard":
        return -scale * v
    if form == "linear":
        return scale * (v**2 / 2 - v)
    zeta = 1 - scale
    return np.asarray(zeta * v - zeta**v / math.log(zeta))


@pytest.mark.parametrize("form", ["hard", "linear", "log"])
@given(loss=st.floats(0.001, 5), level=st.floats(0.05, 5))
def test_self_paced_weights_are_the_least_of_the_papers_problem(form: str, loss: float, level: float) -> None:
    v = np.linspace(0, 1, 20001)
    scale = 0.9  # λ of the logarithm; the other two have none that matters
    found = factor({"name": "self_paced", "form": form, "floor": 0}, [loss], level)[0]
    slow = v[np.argmin(v * loss * scale / level + regret(form, v, scale))]
    if form != "hard" or abs(loss - level) > 1e-6:
        assert found == pytest.approx(slow, abs=1e-3)


def test_a_level_of_nothing_is_no_division_by_nothing() -> None:
    for form in ("hard", "linear", "log"):
        assert factor({"name": "self_paced", "form": form}, [0.0, 1.0], 0.0).tolist() == pytest.approx([1, 0.1])


# -- importance sampling and InfoBatch ---------------------------------------------------------------------------------

GRID = (np.arange(4000) + 0.5) / 4000


def sampled(pi: FloatArray, n: int, values: FloatArray) -> tuple[FloatArray, float]:
    """(Weights (n/m)/π of the rows, mean over the draws of Σ w·value over the rows that are taken)."""
    weights = n / len(pi) / pi
    return weights, float(np.mean([(weights * values)[take(pi, float(u))].sum() for u in GRID]))


@pytest.mark.parametrize(("floor", "expected"), [(0.0, [0.4, 1.6]), (0.3, [0.4878, 1.3559])])
def test_worked_importance_weights_are_those_of_an_unbiased_draw(floor: float, expected: list[float]) -> None:
    scores = np.array([4.0, 1, 1, 1, 1])
    pi = build_thinner({"name": "proportional", "floor": floor}).chances(scores, 2, np.zeros(5))
    weights, drawn = sampled(pi, 2, np.ones(5))
    assert weights.round(4).tolist() == [expected[0], *[expected[1]] * 4]
    assert (pi * weights).sum() == pytest.approx(2)
    assert drawn == pytest.approx(2, abs=1e-3)
    _, of_losses = sampled(pi, 2, np.array(LOSSES))
    assert of_losses == pytest.approx(2 / 5 * sum(LOSSES), abs=2e-3)


def test_worked_infobatch_keeps_the_sum_of_the_losses() -> None:
    losses = np.array([0.2, 0.4, 0.6, 1.0, 2.8])
    pi = build_thinner("prune").chances(losses - losses.mean(), 5, np.zeros(5))
    assert pi.tolist() == [0.5, 0.5, 0.5, 1, 1]
    each = np.array([(np.random.default_rng(seed).random(5) < pi) @ (losses / pi) for seed in range(4000)])
    assert each.mean() == pytest.approx(5.0, abs=4 * each.std() / math.sqrt(len(each)))


# -- focal -------------------------------------------------------------------------------------------------------------


def test_worked_focal() -> None:
    assert factor("focal", -np.log([0.1, 0.5, 0.9])).round(4).tolist() == [1.1303, 0.8466, 0.1948]
    assert factor({"name": "focal", "gamma": 2}, [-math.log(0.5)])[0].round(4) == 0.5966
    assert factor({"name": "focal", "gamma": 0}, [0.0, 0.3, 4.0]).tolist() == [1, 1, 1]


@given(st.floats(1e-4, 20), st.floats(0, 10))
def test_the_focal_factor_is_the_derivative_of_the_focal_loss(loss: float, gamma: float) -> None:
    leaf = torch.tensor([loss], dtype=torch.float64, requires_grad=True)
    ((1 - torch.exp(-leaf)) ** gamma * leaf).sum().backward()
    assert leaf.grad is not None
    assert factor({"name": "focal", "gamma": gamma}, [loss])[0] == pytest.approx(float(leaf.grad), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 10.0])
@pytest.mark.parametrize(("xp", "dtype"), KINDS)
def test_a_token_that_is_certain_has_a_focal_factor(xp: Any, dtype: Any, gamma: float) -> None:
    losses = as_in(xp, dtype, [0.0, 1e-12, 1e-8, 1e-4, 80.0])
    found = np.asarray(live({"name": "focal", "gamma": gamma}).factor(losses, (), xp))
    assert np.isfinite(found).all()
    assert found[0] <= 1
    assert found[-1] == pytest.approx(1)


# -- SuperLoss ---------------------------------------------------------------------------------------------------------


def test_worked_superloss() -> None:
    sigma = factor("superloss", [-2 / math.e, 0, 1, 3], 0.0, 1.0)
    assert sigma.round(3).tolist() == [2.718, 1, 0.703, 0.484]
    assert sigma[2:].tolist() == pytest.approx([0.7035, 0.4839], abs=5e-5)
    assert factor("superloss", [-100.0], 0.0, 1.0)[0] == pytest.approx(math.e, rel=1e-6)


@given(st.floats(-0.7, 8), st.floats(0.05, 5))
def test_superloss_is_the_least_over_sigma(beta: float, temper: float) -> None:
    """Min over σ of (ℓ − τ)·σ + λ·(ln σ)², which for β below −2/e has none."""
    found = minimize_scalar(
        lambda log: beta * temper * math.exp(log) + temper * log**2, bounds=(-4, 1), method="bounded",
        options={"xatol": 1e-10},
    )  # fmt: skip
    sigma = factor("superloss", [3.0 + beta * temper], 3.0, temper)[0]
    assert sigma == pytest.approx(math.exp(found.x), rel=1e-4)


@given(st.floats(-0.7, 50), st.floats(0.05, 5))
def test_the_superloss_factor_is_the_derivative_of_the_least_superloss(beta: float, temper: float) -> None:
    loss = torch.tensor([2.0 + beta * temper], dtype=torch.float64, requires_grad=True)
    level = torch.tensor([2.0], dtype=torch.float64), torch.tensor([temper], dtype=torch.float64)
    sigma = live("superloss").factor(loss, level, torch)
    ((loss - level[0]) * sigma + temper * torch.log(sigma) ** 2).sum().backward()
    assert loss.grad is not None
    assert float(loss.grad) == pytest.approx(float(sigma.detach()), rel=1e-6)


@pytest.mark.parametrize(("xp", "dtype"), KINDS)
def test_lambert_w_is_scipys_from_the_branch_to_a_million(xp: Any, dtype: Any) -> None:
    near = -1 / math.e + np.concatenate([[0.0], np.logspace(-18, 0, 3000)])
    x = as_in(xp, dtype, np.concatenate([near, np.linspace(-1 / math.e, 3, 3000), np.logspace(-3, 6, 1000)]))
    rounded = np.maximum(np.asarray(x, dtype=np.float64), -np.exp(-1))
    theirs = lambertw(rounded).real
    beside = rounded < -np.exp(-1) + 1e-15  # where older ones have no value
    expected = np.where((rounded <= -np.exp(-1)) | (beside & np.isnan(theirs)), -1.0, theirs)
    found = np.asarray(lambert_w(x, xp), dtype=np.float64)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.exp(-found), np.exp(-expected), rtol=relative_tolerance(dtype))


@pytest.mark.parametrize(("xp", "dtype"), KINDS)
def test_sigma_falls_and_stays_above_0_wherever_a_loss_lies(xp: Any, dtype: Any) -> None:
    losses = as_in(xp, dtype, np.concatenate([[0.0], np.logspace(-6, 4, 3000)]))
    level = [as_in(xp, dtype, np.full(3001, number)) for number in (1.0, 0.3)]
    sigma = np.asarray(live("superloss").factor(losses, level, xp), dtype=np.float64)
    assert ((sigma > 0) & (sigma <= math.e * (1 + 1e-3))).all()
    assert (np.diff(sigma) <= 1e-5).all()


def test_rows_that_are_all_alike_have_a_spread_of_nothing_and_a_sigma() -> None:
    assert factor("superloss", [1.0, 0.9, 1.1], 1.0, 0.0).round(3).tolist() == [1, 2.718, 0]


# -- LinUpper and robust -----------------------------------------------------------------------------------------------


def test_worked_linupper() -> None:
    found = factor("linupper", [1.0, 1.5, 2.0, 2.5, 3.0], 1.0, 3.0)  # ℓ̃ −1 −.5 0 .5 1
    assert found.round(4).tolist() == [0.3679, 0.6065, 1, 1, 1]
    assert factor("linupper", [-5.0, 99.0], 1.0, 3.0).round(4).tolist() == [0.3679, 1]
    steep = factor({"name": "linupper", "delta": 2, "r": 0.5}, [1.0, 1.5, 2.5], 1.0, 3.0)
    assert steep.tolist() == pytest.approx([math.exp(-4), math.exp(-2), 1])


def test_worked_robust() -> None:
    excess = np.array([-3.0, 0, 1, 2, 3, 1000])
    found = factor("robust", 2 + 0.5 * excess, 2.0, 0.5)
    assert found.tolist() == pytest.approx([1, 1, 1, math.exp(-1), math.exp(-2), math.exp(-49)])


def test_levels_are_those_that_the_cards_say() -> None:
    losses = np.concatenate([np.linspace(1, 3, 41), np.linspace(5, 9, 41)])
    codes = np.repeat([0, 1], 41)
    visits = Visits(np.arange(82), losses, np.ones(82, dtype=np.int64), np.ones(82))
    levels = Levels(visits, Groups(codes, ("a", "b")))
    assert live("self_paced").level(levels, 0.25)[0].tolist() == pytest.approx([1.5, 6.0])
    tau, temper = live({"name": "superloss", "temper": 2}).level(levels, 0.25)
    assert (tau.tolist(), temper.tolist()) == (pytest.approx([2, 7]), pytest.approx([2, 4]))
    low, high = live("linupper").level(levels, 0.25)
    assert (low.tolist(), high.tolist()) == (pytest.approx([1.1, 5.2]), pytest.approx([2.9, 8.8]))
    assert live("focal").level(levels, 0.25) == ()


# -- all of them -------------------------------------------------------------------------------------------------------

SETTINGS: list[dict[str, Any]] = [
    *[{"name": "self_paced", "form": form, "floor": floor} for form in ("linear", "log", "hard") for floor in (0, 0.3)],
    *[{"name": "focal", "gamma": gamma, "of": of} for gamma in (0.5, 1, 2) for of in ("row", "token")],
    {"name": "superloss"},
    {"name": "superloss", "temper": 0.1},
    {"name": "linupper"},
    {"name": "linupper", "delta": 3, "r": 0.5},
    {"name": "robust"},
]


def test_every_live_weight_is_among_the_settings_that_are_tried() -> None:
    assert WEIGHTS.names() == ["column", "focal", "linupper", "robust", "self_paced", "superloss", "unbiased"]
    live_ones = {name for name in WEIGHTS.names() if isinstance(build_weight(name), LiveWeight)}
    assert live_ones == {setting["name"] for setting in SETTINGS}


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_the_device_multiplies_with_what_the_host_recomputes(setting: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.gamma(2, 1, 400), [0.0, 1e-6, 30.0]])
    level = [rng.uniform(0.5, 1.5, 403), rng.uniform(1.6, 3, 403)]
    level = level[: 1 if setting["name"] == "self_paced" else 2 if setting["name"] != "focal" else 0]
    if setting["name"] == "self_paced" and setting["form"] == "hard":
        losses += 1e-3 * (np.abs(losses / level[0] - 1) < 1e-3)  # not where a rounding decides
    expected = live(setting).factor(losses, level, np)
    assert (expected >= 0).all()
    assert np.isfinite(expected).all()
    for xp, dtype in KINDS:
        found = live(setting).factor(as_in(xp, dtype, losses), [as_in(xp, dtype, part) for part in level], xp)
        assert found.dtype == dtype
        np.testing.assert_allclose(np.asarray(found), expected, rtol=relative_tolerance(dtype), atol=1e-5)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_a_weight_favours_the_rows_that_it_says(setting: dict[str, Any]) -> None:
    weight = live(setting)
    numbers = {"self_paced": [1.3], "focal": []}.get(setting["name"], [1.0, 2.0])
    found = factor(setting, np.linspace(0.01, 4, 200), *numbers)
    rises, falls = found[-1] > found[0], found[-1] < found[0]
    assert {"hard": rises, "easy": falls, None: falls}[weight.favours]


def test_cards_of_plug_ins_are_read_and_every_weight_has_one() -> None:
    for name in WEIGHTS.names():
        assert len(inspect.getdoc(WEIGHTS.get(name)) or "") > 80
        weight = build_weight(name)
        assert isinstance(weight, PlannedWeight) == (weight.kind == "planned")
    assert {name: weight.since for name in WEIGHTS.names() if (weight := build_weight(name)).since} == {"robust": 0.1}
    assert [build_weight({"name": "focal", "of": of}).kind for of in ("row", "token")] == ["row", "token"]


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ("focall", r"`weight` must be one of column, focal, .*, got 'focall'. Did you mean 'focal'\?"),
        ({"name": "focal", "gama": 1}, r"`weight: focal` takes gamma, of, got 'gama'. Did you mean 'gamma'\?"),
        ({"name": "focal", "gamma": 11}, r"`gamma` must be a number in \[0, 10\], got 11"),
        ({"name": "focal", "of": "step"}, r"`of` must be one of token, row, got 'step'"),
        ({"name": "self_paced", "floor": 1}, r"`floor` must be a number in \[0, 1\), got 1"),
        ({"name": "self_paced", "form": "soft"}, r"`form` must be one of linear, log, hard, got 'soft'"),
        ({"name": "superloss", "temper": 0}, r"`temper` must be a number .*, got 0"),
        ({"name": "linupper", "delta": 0}, r"`delta` must be a number .*, got 0"),
        ({"name": "linupper", "r": -1}, r"`r` must be a number .*, got -1"),
        ({"name": "column", "of": "token"}, r"`of` must be one of row, message, got 'token'"),
        ({"gamma": 1}, r"`weight` must have a name, one of column, .*, got \{'gamma': 1\}"),
    ],
)
def test_a_setting_that_cannot_be_is_named(setting: Any, match: str) -> None:
    with pytest.raises(RecipeError, match=match):
        build_weight(setting)


def test_a_weight_of_ones_own_is_checked_like_ours() -> None:
    @dataclass(frozen=True)
    class Half(PlannedWeight):
        """Half of what a row counts."""

        def planned(self, shown: Planning) -> FloatArray:
            """½."""
            return np.full(len(shown.rows), 0.5)

    WEIGHTS.register("half_of_it")(Half)
    try:
        shown = Planning(np.arange(3, dtype=np.int32), np.ones(3), 0.0, {})
        made = build_weight("half_of_it")
        assert isinstance(made, PlannedWeight)
        assert made.planned(shown).tolist() == [0.5] * 3
    finally:
        WEIGHTS.forget("half_of_it")


def test_columns_are_told_apart_by_what_they_read() -> None:
    votes, price = OwnWeight("votes"), OwnWeight("price")
    columns: Mapping[Any, FloatArray] = {votes: np.array([1.0, 2, 3]), price: np.array([4.0, 5, 6])}
    shown = Planning(np.array([2, 0], dtype=np.int32), np.ones(2), 0.0, columns)
    assert (votes.planned(shown).tolist(), price.planned(shown).tolist()) == ([3, 1], [6, 4])
    assert build_weight({"name": "column", "column": "votes"}) == votes != price


# -- normalising -------------------------------------------------------------------------------------------------------

steps_drawn = st.lists(
    st.tuples(st.floats(0, 5), st.integers(0, 40), st.integers(0, 4)), min_size=1, max_size=30
).map(lambda rows: [np.array(part) for part in zip(*rows, strict=True)])  # fmt: skip


@given(steps_drawn, st.floats(0.01, 100))
def test_normalised_weights_keep_the_tokens_of_every_step_and_no_scale(parts: list[Any], scale: float) -> None:
    weights, tokens, unit = parts
    weights = weights + 0.01
    found = normalised(weights, tokens, unit)
    for step in np.unique(unit):
        of = unit == step
        total, left = float(tokens[of].sum()), float((found * tokens)[of].sum())
        assert left == pytest.approx(total)  # also of a step whose rows have no answer
        if total:
            slow = weights[of] * total / sum(w * t for w, t in zip(weights[of], tokens[of], strict=True))
            assert found[of] == pytest.approx(slow)
            assert normalised(scale * weights, tokens, unit)[of] == pytest.approx(found[of])
    assert np.isfinite(found).all()


def test_worked_effective_share() -> None:
    assert effective_share(np.ones(4), np.array([1, 2, 3, 4])) == 1
    assert effective_share(np.array([1.0, 0, 0, 0]), np.full(4, 7)) == 0.25
    assert effective_share(np.array([3.0, 1.0]), np.array([1, 3])) == pytest.approx(36 / (4 * 12))
    assert effective_share(np.zeros(3), np.ones(3)) == 1


@given(st.lists(st.floats(0.01, 9), min_size=1, max_size=20), st.floats(0.1, 10))
def test_the_effective_share_is_in_0_to_1_and_has_no_scale(weights: list[float], scale: float) -> None:
    values, tokens = np.array(weights), np.arange(1, len(weights) + 1)
    share = effective_share(values, tokens)
    assert 0 < share <= 1 + 1e-12
    assert effective_share(scale * values, tokens) == pytest.approx(share)


def test_a_plan_of_no_rows_is_normalised_too() -> None:
    nothing: IntArray = np.zeros(0, dtype=np.int64)
    assert len(normalised(np.zeros(0), nothing, nothing)) == 0
