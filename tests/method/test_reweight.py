"""Reweighting: shares by hand and by slow references, what holds of any of them, and what options are refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from campus_tune.method.loss_series import Losses
from campus_tune.method.reweight import SHARES, Reweight, bounded, build_reweight, check_names
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import FloatArray
from tests.strategies import examples

NAMES = ("chat", "code", "math")
PRIOR = np.array([0.5, 0.3, 0.2])
TARGETS = {"chat": 1.0, "code": 1.0, "math": 1.0}
IDENTITY = {name: {name: 1.0} for name in NAMES}
SETTINGS: dict[str, dict[str, Any]] = {
    "lagging": {},
    "doremi": {"targets": TARGETS},
    "odm": {},
    "skill_graph": {"graph": IDENTITY},
}


def made(name: str, **options: Any) -> Reweight:
    return build_reweight({"name": name, **SETTINGS[name], **options})


def losses(loss: Any, stderr: Any = 0.0, drawn: Any = None, names: Any = NAMES) -> Losses:
    loss = np.atleast_2d(np.asarray(loss, dtype=np.float64))
    drawn = None if drawn is None else np.broadcast_to(np.asarray(drawn, dtype=np.float64), loss.shape)
    return Losses.unpaired(names[: loss.shape[1]], loss, np.broadcast_to(stderr, loss.shape), drawn)


def softmax(x: Any) -> FloatArray:
    parts = np.exp(np.asarray(x) - np.max(x))
    return np.asarray(parts / parts.sum())


# -- within bounds -----------------------------------------------------------------------------------------------------


def bounded_slowly(shares: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """clip(λ·share, low, high) for the λ whose sum is 1, by halving."""
    a, b = -50.0, 50.0  # of ln λ
    for _ in range(100):
        middle = (a + b) / 2
        total = np.clip(np.exp(middle) * shares, low, high).sum()
        a, b = (middle, b) if total < 1 else (a, middle)
    return np.clip(np.exp(a) * shares, low, high)


parts = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0]) | st.floats(1e-9, 9), st.sampled_from([0.0, 1.0]) | st.floats(0.01, 9)),
    min_size=1,
    max_size=8,
)


@st.composite
def whole(draw: st.DrawFn) -> tuple[FloatArray, FloatArray]:
    """Shares and a prior."""
    pairs = np.array(draw(parts), dtype=np.float64)
    assume(pairs[:, 0].sum() > 0 and pairs[:, 1].sum() > 0)
    shares, prior = (column / column.sum() for column in pairs.T)
    return shares, prior


@examples(150)
@given(whole(), st.sampled_from([1.0, 1.5, 3.0, 50.0]), st.sampled_from([0.0, 0.02, 0.1]))
def test_shares_are_clipped_multiples(both: tuple[FloatArray, FloatArray], most: float, least: float) -> None:
    shares, prior = both
    found = bounded(shares, prior, most, least=least)
    low, high = np.maximum(prior / most, np.minimum(prior, least)), prior * most
    assert found.sum() == pytest.approx(1)
    assert (found >= low * (1 - 1e-9)).all()
    assert (found <= high * (1 + 1e-9)).all()
    assert bounded(found, prior, most, least=least) == pytest.approx(found)
    if (shares[prior > 0] > 0).all():
        assert found == pytest.approx(bounded_slowly(shares, low, high), abs=1e-9)
        ratio = np.divide(shares, prior, where=prior > 0, out=np.zeros_like(prior))
        after = np.divide(found, prior, where=prior > 0, out=np.zeros_like(prior))
        order = np.argsort(ratio, kind="stable")
        if not least:
            assert (np.diff(after[order]) >= -1e-9).all()  # who has more for its prior keeps more


@given(whole(), st.floats(1, 9))
def test_shares_within_their_bounds_stay(both: tuple[FloatArray, FloatArray], most: float) -> None:
    _, prior = both
    assert bounded(prior, prior, most) == pytest.approx(prior, abs=1e-12)


@pytest.mark.parametrize(
    ("shares", "most", "expected"),
    [
        ([0.9, 0.05, 0.05], 3.0, [5 / 6, 0.1, 1 / 15]),  # code at least .1, math at least .0667
        ([0.1, 0.1, 0.8], 3.0, [0.2, 0.2, 0.6]),  # math at most .6, the rest in proportion
        ([0.0, 0.0, 1.0], 2.0, [0.375, 0.225, 0.4]),  # nothing to scale: the prior's proportions
        ([0.2, 0.3, 0.5], 1.0, [0.5, 0.3, 0.2]),
    ],
)
def test_bounds_by_hand(shares: list[float], most: float, expected: list[float]) -> None:
    assert bounded(np.array(shares), PRIOR, most) == pytest.approx(expected)


def test_clipping_both_sides_at_once_would_be_wrong() -> None:
    """The second is below its bound only until the first gives up what it has too much: fixed one by one."""
    prior, shares = np.array([0.1, 0.45, 0.45]), np.array([0.8, 0.14, 0.06])
    assert bounded(shares, prior, 3.0) == pytest.approx([0.3, 0.49, 0.21])


def test_a_least_share_holds_where_the_prior_has_it() -> None:
    prior = np.array([0.9, 0.08, 0.02])
    found = bounded(np.array([1.0, 0.0, 0.0]), prior, 10.0, least=0.05)
    assert found == pytest.approx([0.93, 0.05, 0.02])


# -- lagging -----------------------------------------------------------------------------------------------------------


def lagging_slowly(prior: FloatArray, left: list[float], errors: list[float], rate: float) -> list[float]:
    n = len(left)
    parts = []
    for d in range(n):
        x = left[d] - sum(left) / n
        variance = sum(((1 if e == d else 0) - 1 / n) ** 2 * errors[e] ** 2 for e in range(n))
        parts.append(prior[d] * math.exp(rate * x if abs(x) > math.sqrt(variance) else 0.0))
    return [0.95 * part / sum(parts) + 0.05 * p for part, p in zip(parts, prior, strict=True)]


def test_lagging_by_hand() -> None:
    found = losses([[2.0, 2.0, 2.0], [0.8, 1.0, 1.8]])
    part = made("lagging")
    assert part.pulls(PRIOR, found) == pytest.approx({"chat": -0.2, "code": -0.1, "math": 0.3})
    pulled = softmax(np.log(PRIOR) + np.array([-0.2, -0.1, 0.3]))
    assert part.shares(PRIOR, found) == pytest.approx(0.95 * pulled + 0.05 * PRIOR)


@given(
    st.lists(st.tuples(st.floats(0.1, 3), st.floats(0, 0.5), st.floats(0.1, 1)), min_size=2, max_size=6),
    st.floats(0, 5),
)
def test_lagging_is_its_slow_reference(rows: list[tuple[float, float, float]], rate: float) -> None:
    left, errors, prior = np.array(rows).T
    prior = prior / prior.sum()
    names = [f"d{i}" for i in range(len(rows))]
    zeros = np.zeros((1, len(rows)))
    found = Losses(names, left[None] * 2, zeros, left[None], errors[None], zeros)
    slow = lagging_slowly(prior, left.tolist(), errors.tolist(), rate)
    assert made("lagging", rate=rate).moved(prior, found) == pytest.approx(slow)


def test_what_is_within_a_standard_error_is_noise() -> None:
    """Each x is ±0.05; its error is √(¼ + ¼) of one domain's."""
    zeros = np.zeros((1, 2))
    for error, moved in ((0.069, True), (0.072, False)):
        errors = np.full((1, 2), error)
        found = Losses(["a", "b"], np.ones((1, 2)), zeros, np.array([[0.95, 1.05]]), errors, zeros)
        shares = made("lagging").shares(np.array([0.5, 0.5]), found)
        assert (shares[1] > 0.5) == moved


def test_with_targets_a_domain_that_has_reached_its_own_gets_less() -> None:
    part = made("lagging", targets={"chat": 0.9, "code": 1.0, "math": 1.0}, c=0.0)
    found = losses([[2.0, 2.0, 2.0], [0.8, 1.0, 1.6]])
    assert part.pulls(PRIOR, found) == pytest.approx({"chat": -0.05, "code": 0.0, "math": 0.3})
    assert part.shares(PRIOR, found) == pytest.approx(softmax(np.log(PRIOR) + np.array([-0.05, 0.0, 0.3])))
    noisy = losses([[2.0, 2.0, 2.0], [0.8, 1.0, 1.6]], stderr=0.2)
    assert part.pulls(PRIOR, noisy) == pytest.approx({"chat": 0.0, "code": 0.0, "math": 0.3})


# -- doremi ------------------------------------------------------------------------------------------------------------


def test_doremi_by_hand() -> None:
    found = losses([[0.9, 1.2, 1.5]])  # over targets of 1: 0, .2, .5
    part = made("doremi")
    assert part.moved(PRIOR, found).round(4).tolist() == [0.4179, 0.3064, 0.2757]
    assert part.pulls(PRIOR, found) == pytest.approx({"chat": 0.0, "code": 0.2, "math": 0.5})


def doremi_slowly(prior: list[float], excesses: list[list[float]], eta: float, c: float) -> list[float]:
    shares = list(prior)
    for excess in excesses:
        grown = [share * math.exp(eta * max(x, 0.0)) for share, x in zip(shares, excess, strict=True)]
        shares = [(1 - c) * g / sum(grown) + c / len(grown) for g in grown]
    return shares


@given(st.lists(st.lists(st.floats(0.1, 4), min_size=3, max_size=3), min_size=1, max_size=9), st.floats(0, 3))
def test_doremi_is_its_slow_reference(rows: list[list[float]], eta: float) -> None:
    slow = doremi_slowly(PRIOR.tolist(), [[x - 1 for x in row] for row in rows], eta, 0.01)
    assert made("doremi", eta=eta, c=0.01).moved(PRIOR, losses(rows)) == pytest.approx(slow)


# -- odm ---------------------------------------------------------------------------------------------------------------


def odm_slowly(rows: list[list[float]], drawn: list[list[float]], alpha: float) -> list[float]:
    """The paper's algorithm 1, domain by domain."""
    k = len(rows[0])
    reward = [0.0] * k
    for row, part in zip(rows, drawn, strict=True):
        for i in range(k):
            reward[i] = alpha * reward[i] + (1 - alpha) * row[i] / part[i]
    t = len(rows) + 1
    now = min(1 / k, math.sqrt(math.log(k) / (k * t)))
    before = min(1 / k, math.sqrt(math.log(k) / (k * (t - 1))))
    weights = [math.exp(before * one) for one in reward]
    return [(1 - k * now) * weight / sum(weights) + now for weight in weights]


def test_odm_by_hand() -> None:
    """Rewards of 1.2, 2.0 and .8 after 99 stages; the constant ones of stages that reward just that."""
    equal = np.full(3, 1 / 3)
    found = losses([[0.4, 2 / 3, 0.8 / 3]] * 99, drawn=equal)
    part = made("odm", alpha=0.0)
    assert part.pulls(equal, found) == pytest.approx({"chat": 1.2, "code": 2.0, "math": 0.8})
    rate, explored = (math.sqrt(math.log(3) / (3 * t)) for t in (99, 100))
    expected = (1 - 3 * explored) * softmax(rate * np.array([1.2, 2.0, 0.8])) + explored
    assert part.moved(equal, found) == pytest.approx(expected)
    assert round(explored, 4) == 0.0605
    assert part.moved(equal, found).round(4).tolist() == [0.331, 0.3445, 0.3245]


@given(
    st.lists(st.lists(st.floats(0.1, 4), min_size=3, max_size=3), min_size=1, max_size=9),
    st.lists(st.lists(st.floats(0.05, 4), min_size=3, max_size=3), min_size=9, max_size=9),
    st.floats(0, 0.99),
)
def test_odm_is_its_slow_reference(rows: list[list[float]], drawn: list[list[float]], alpha: float) -> None:
    part = np.array(drawn[: len(rows)])
    part /= part.sum(axis=1, keepdims=True)
    slow = odm_slowly(rows, part.tolist(), alpha)
    assert made("odm", alpha=alpha).moved(PRIOR, losses(rows, drawn=part)) == pytest.approx(slow)


def test_a_stage_without_rows_of_a_domain_leaves_its_reward() -> None:
    drawn = [[0.5, 0.3, 0.2], [0.7, 0.3, 0.0]]
    for second in (np.nan, 5.0):  # none of its rows, or rows that came back alone, which shares say nothing of
        found = losses([[1.0, 1.0, 1.0], [1.0, 1.0, second]], drawn=drawn)
        assert made("odm").pulls(PRIOR, found)["math"] == pytest.approx(0.1 / 0.2)


def test_odm_takes_the_prior_where_nobody_counted_rows() -> None:
    one = [[1.0, 2.0, 3.0]]
    assert made("odm").pulls(PRIOR, losses(one)) == made("odm").pulls(PRIOR, losses(one, drawn=PRIOR))


# -- skill graph -------------------------------------------------------------------------------------------------------

GRAPH = {"chat": {"chat": 1.0, "code": 0.5}, "code": {"code": 1.0}, "math": {"code": 0.3, "math": 1.0}}


def test_skill_graph_by_hand() -> None:
    equal = np.full(3, 1 / 3)
    part = made("skill_graph", graph=GRAPH, c=0.0, over=1)
    found = losses([[1.0, 1.0, 1.0], [1.0, 2.0, 0.5]])
    assert part.pulls(equal, found) == pytest.approx({"chat": 2.0, "code": 2.0, "math": 1.1})
    assert part.moved(equal, found).round(3).tolist() == [0.379, 0.379, 0.242]


@given(st.lists(st.lists(st.floats(0.1, 4), min_size=3, max_size=3), min_size=1, max_size=7), st.integers(1, 4))
def test_skill_graph_is_its_slow_reference(rows: list[list[float]], over: int) -> None:
    total = [sum(row[j] / rows[0][j] for row in rows[-over:]) for j in range(3)]
    helps = [sum(GRAPH[i].get(j, 0.0) * total[k] for k, j in enumerate(NAMES)) for i in NAMES]
    weights = [math.exp(0.5 * x) for x in helps]
    slow = [0.95 * weight / sum(weights) + 0.05 * p for weight, p in zip(weights, PRIOR, strict=True)]
    assert made("skill_graph", graph=GRAPH, over=over).moved(PRIOR, losses(rows)) == pytest.approx(slow)


# -- any of them -------------------------------------------------------------------------------------------------------

every_part = pytest.mark.parametrize("name", SHARES.names())
known = st.floats(0.05, 6) | st.just(math.nan)


def test_every_registered_part_is_tested_here() -> None:
    assert sorted(SETTINGS) == SHARES.names()


@every_part
@examples(60)
@given(st.lists(st.lists(known, min_size=3, max_size=3), min_size=1, max_size=6), st.floats(1, 9), st.floats(0, 0.2))
def test_shares_are_shares(name: str, rows: list[list[float]], most: float, least: float) -> None:
    found = losses(rows, stderr=0.01)
    shares = made(name, most=most).shares(PRIOR, found, least=least)
    unknown = ~found.known
    assert shares.sum() == pytest.approx(1)
    assert (shares >= np.maximum(PRIOR / most, np.minimum(least, PRIOR)) * (1 - 1e-9)).all()
    assert (shares <= PRIOR * most * (1 + 1e-9)).all()
    assert shares[unknown].tolist() == PRIOR[unknown].tolist()
    pulls = made(name).pulls(PRIOR, found)
    assert list(pulls) == [one for one, there in zip(NAMES, found.known, strict=True) if there]
    assert all(map(math.isfinite, pulls.values()))


@every_part
@examples(40)
@given(st.lists(known, min_size=3, max_size=3), st.floats(1, 9), st.floats(0, 0.2))
def test_a_ceiling_is_what_no_losses_can_lift_a_share_above(
    name: str, row: list[float], most: float, least: float
) -> None:
    found = losses([[1.0, 1.0, 1.0], row], stderr=0.0)
    part = made(name, most=most)
    ceiling = part.ceiling(PRIOR, found, least=least)
    assert (part.shares(PRIOR, found, least=least) <= ceiling * (1 + 1e-9)).all()
    for i in range(3):  # and it can be reached
        assert bounded(np.eye(3)[i], PRIOR, most, least=least)[i] == pytest.approx(ceiling[i])


@every_part
def test_alike_domains_keep_the_prior(name: str) -> None:
    equal = np.full(3, 1 / 3)
    found = losses([[2.0, 2.0, 2.0], [1.5, 1.5, 1.5], [1.2, 1.2, 1.2]], drawn=equal)
    assert made(name).shares(equal, found) == pytest.approx(equal)


@every_part
def test_the_domain_that_does_not_fall_gets_more(name: str) -> None:
    equal = np.full(3, 1 / 3)
    found = losses([[2.0, 2.0, 2.0], [1.5, 1.5, 2.0], [1.2, 1.2, 2.0]], drawn=equal)
    shares = made(name).shares(equal, found)
    assert shares[2] > 1.005 / 3
    assert shares[0] == pytest.approx(shares[1])


@every_part
def test_a_domain_without_a_share_gets_none(name: str) -> None:
    prior = np.array([0.6, 0.4, 0.0])
    shares = made(name).shares(prior, losses([[2.0, 2.0, 2.0], [1.0, 1.5, 2.0]], drawn=prior))
    assert shares[2] == 0.0
    assert shares.sum() == pytest.approx(1)


@every_part
def test_nothing_known_changes_nothing(name: str) -> None:
    for rows in (np.zeros((0, 3)), [[np.nan] * 3], [[1.0, np.nan, np.nan]]):
        found = Losses.unpaired(NAMES, np.asarray(rows), np.asarray(rows))
        assert made(name).shares(PRIOR, found).tolist() == PRIOR.tolist()


@every_part
def test_names_do_not_matter_but_in_options(name: str) -> None:
    """The same numbers in another sequence are the same shares in that sequence."""
    rows = np.array([[2.0, 1.5, 3.0], [1.0, 1.4, 2.9]])
    turn = [2, 0, 1]
    part = made(name)
    there = part.shares(PRIOR, losses(rows, drawn=PRIOR))
    back = part.shares(PRIOR[turn], losses(rows[:, turn], drawn=PRIOR[turn], names=[NAMES[i] for i in turn]))
    assert back == pytest.approx(there[turn])


def test_a_domain_without_a_target_stays_at_its_prior() -> None:
    found = losses([[2.0, 2.0, 2.0], [1.0, 1.2, 1.9]])
    two = {"chat": 0.9, "math": 0.9}
    for part in (made("lagging", targets=two), made("doremi", targets=two)):
        shares = part.shares(PRIOR, found)
        assert shares[1] == PRIOR[1]
        assert shares[2] > 0.21
        assert set(part.pulls(PRIOR, found)) == set(two)
    named = made("skill_graph", graph={"chat": {"math": 1.0}})
    assert set(named.pulls(PRIOR, found)) == set(two)


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "doremi",
            "`targets` must be a mapping of names to losses, got None. Write .*a run with selector: shuffle",
        ),
        ({"name": "doremi", "targets": {}}, "`targets` must be a mapping of names to losses, got {}. Write"),
        ({"name": "lagging", "targets": 3}, "`targets` must be a mapping of names to losses, got 3. Write"),
        ({"name": "lagging", "targets": {"math": 0}}, r"`targets: math` must be a number in \(0, 1000\], got 0"),
        ({"name": "lagging", "targets": {"math": "1e-1"}}, "`targets: math` must be .* got the text '1e-1'.*write 0.1"),
        ("skill_graph", "`graph` must be a mapping of names to mappings of names to numbers, got None. Write {math:"),
        ({"name": "skill_graph", "graph": {"math": 1}}, "`graph: math` must be a mapping of names to numbers, got 1"),
        ({"name": "skill_graph", "graph": {"math": {"code": math.nan}}}, "`graph: math: code` must be .*got nan"),
        ({"name": "lagging", "most": 0.5}, r"`most` must be a number in \[1, 1000\], got 0.5. 3 lets a share be"),
        ({"name": "lagging", "rate": -1}, r"`rate` must be a number in \[0, 100\], got -1"),
        ({"name": "lagging", "every": 0}, "`every` must be a whole number of at least 1"),
        ({"name": "lagging", "c": 2}, r"`c` must be a number in \[0, 1\], got 2"),
        ({"name": "odm", "alpha": 1}, r"`alpha` must be a number in \[0, 1\), got 1"),
        ({"name": "odm", "rate": 1}, "`reweighting: odm` takes alpha, most, every, got 'rate'"),
        (
            {"name": "doremy"},
            "`reweighting` must be one of doremi, lagging, odm, skill_graph, got 'doremy'. Did you",
        ),
    ],
)
def test_refused(setting: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_reweight(setting)


@pytest.mark.parametrize("advised", [{"targets": {"math": 0.8, "code": 0.6}}, {"targets": {"math": 0.1}}])
def test_the_advice_on_targets_holds(advised: dict[str, Any]) -> None:
    assert build_reweight({"name": "doremi", **advised}).named() == set(advised["targets"])


def test_the_advice_on_graphs_holds() -> None:
    advised = {"math": {"math": 1, "code": 0.5}, "code": {"code": 1}}
    assert build_reweight({"name": "skill_graph", "graph": advised}).named() == {"math", "code"}


def test_names_that_no_row_has_are_refused_together() -> None:
    part = made("skill_graph", graph={"maths": {"chat": 1.0}, "code": {"cod": 0.5}})
    with pytest.raises(RecipeError, match=r"chat, code, math.*got 'cod'. Did you mean 'code'") as error:
        check_names(part, NAMES)
    assert len(error.value.problems) == 2
    assert "got 'maths'. Did you mean 'math'? Correct or remove it." in error.value.problems[1]
    for name in SHARES.names():
        check_names(made(name), NAMES)


@pytest.mark.filterwarnings("error")
def test_a_domain_without_any_loss_left_does_not_lag() -> None:
    losses = Losses.unpaired("ab", np.array([[2.0, 2.0], [0.0, 1.0]]), np.full((2, 2), 0.01))
    for options in ({}, {"targets": {"a": 0.5, "b": 0.5}}):
        shares = build_reweight({"name": "lagging", **options}).shares(np.array([0.5, 0.5]), losses)
        assert shares.sum() == pytest.approx(1)
        assert shares[1] > 0.5
