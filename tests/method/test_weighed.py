"""What a ledger says of a weighted stage, against loops over its rows and tokens."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.levels import Groups
from campus_tune.method.weighed import EDGES, LITTLE, MOST_GROUPS, histogram, of_stage, rows_of_half
from campus_tune.method.weighting import Live, LiveEntry
from campus_tune.method.weights import Focal, Robust, SelfPaced, Unbiased
from campus_tune.words.types import Json
from tests.losses import losses_of

some_weights = st.lists(
    st.tuples(st.sampled_from([0.0, 0.001, 0.1, 0.125, 0.19, 0.25, 1.0, 2.0, 7.9]), st.integers(1, 9)),
    min_size=1,
    max_size=12,
)
DOMAINS = Groups(np.array([0, 0, 1, 1, 1, 2]), ("code", "math", "text"))
ROWS = np.array([4, 0, 1, 2])
WEIGHTS, LOSSES = np.array([0.1, 2.0, 1.0, 0.15]), losses_of([8.0, 2.0, 6.0, 4.0], [4, 2, 2, 8])


def live(*entries: LiveEntry, mean: float = 0.5) -> Live:
    return Live(tuple(one for one in entries if one.weight.kind == "row"), (), mean)


def paced(groups: Groups = DOMAINS) -> LiveEntry:
    return LiveEntry("self_paced", SelfPaced(), groups, (np.array([1.5, np.nan, 2.0])[: len(groups.names)],))


def said(**changed: object) -> Json:
    given: dict[str, object] = {
        "rows": ROWS, "weights": WEIGHTS, "losses": LOSSES, "domains": DOMAINS, "live": Live(), **changed
    }  # fmt: skip
    return of_stage(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("weights", [None, np.zeros(0)])
def test_of_a_stage_in_which_nothing_was_weighted_nothing_is_said(weights: object) -> None:
    assert said(weights=weights, rows=np.zeros(0, dtype=np.int64), losses=losses_of([], [])) == {}


def test_a_row_without_answer_tokens_has_no_weight_to_speak_of() -> None:
    rows, weights = np.array([*ROWS, 5]), np.array([*WEIGHTS, np.nan])
    losses = losses_of([*LOSSES.nll_sum, 0.0], [*LOSSES.tokens, 0])
    assert said(rows=rows, weights=weights, losses=losses) == said()
    assert said(rows=rows[4:], weights=weights[4:], losses=losses.take(np.array([4]))) == {}


def test_a_stage_in_numbers_worked_by_hand() -> None:
    record = said()
    assert record["weights"] == {
        "mean": 0.475,  # (0.1·4 + 2·2 + 1·2 + 0.15·8) / 16
        "min": 0.1,
        "max": 2.0,
        "ess": round(7.6**2 / (16 * (0.04 + 8 + 2 + 0.18)), 6),
        "half": 0.25,  # the second row alone has 4 of 7.6 weighted tokens
        "by_domain": {"code": 1.5, "math": round(1.6 / 12, 6)},  # of text there was no row
        "histogram": [0, 1, 1, 0, 1, 1, 0, 0, 0],
    }
    assert record["weighted_loss"] == pytest.approx((0.1 * 8 + 2 * 2 + 6 + 0.15 * 4) / 7.6)
    assert list(record) == ["weights", "weighted_loss"]


def test_rows_without_domains_have_no_means_by_domain() -> None:
    assert said(domains=Groups())["weights"]["by_domain"] == {}


def test_what_self_pacing_shut_out_is_a_share_of_each_domains_rows() -> None:
    little = np.array([0.08, 2.0, 1.0, 0.15])  # the mean is .47: only the first is below a fifth of it
    assert said(weights=little, live=live(paced()))["weights"]["shut_out"] == {"math": 0.5}
    assert said(weights=little / 9, live=live(paced()))["weights"]["shut_out"] == {"math": 0.5}
    found = said(weights=little, live=live(paced(Groups())), domains=Groups())
    assert found["weights"]["shut_out"] == {"all rows": 0.25}
    robust = LiveEntry("robust", Robust(), Groups(), (np.ones(1), np.ones(1)))
    assert "shut_out" not in said(weights=little, live=live(robust))["weights"]


def test_levels_are_named_by_entry_and_group_where_the_stage_had_rows_and_they_are_known() -> None:
    focal = LiveEntry("focal", Focal(of="row"), Groups(), ())
    level = said(live=live(paced(), focal))["level"]
    assert level["mean"] == 0.5
    assert level["self_paced"]["code"] == [1.5]
    assert set(level) == {"mean", "self_paced"}  # focal compares with nothing
    assert set(level["self_paced"]) == {"code"}  # that of math is not known yet, of text there were no rows


def test_of_very_many_groups_the_largest_are_named_in_their_sequence() -> None:
    n = MOST_GROUPS + 10
    codes = np.repeat(np.arange(n), np.where(np.arange(n) % 6, 2, 1))  # every sixth has one row, others two
    many = Groups(codes, tuple(f"cell {code}" for code in range(n)))
    robust = LiveEntry("robust", Robust(), many, (np.arange(n) / 1.0, np.ones(n)))
    rows = np.arange(len(codes))
    losses = losses_of(np.ones(len(rows)), np.ones(len(rows)))
    level = said(rows=rows, weights=np.ones(len(rows)), losses=losses, domains=Groups(), live=live(robust))["level"]
    assert list(level["robust"]) == [f"cell {code}" for code in range(n) if code % 6]
    assert level["robust"]["cell 7"] == [7.0, 1.0]


def test_without_live_weights_there_is_no_level() -> None:
    assert "level" not in said(live=Live())
    assert Unbiased().kind == "planned"  # nothing of it is live


# -- against slow ones -----------------------------------------------------------------------------------------------


@given(some_weights)
def test_the_weighted_loss_and_the_effective_share_are_those_of_single_tokens(rows: list[tuple[float, int]]) -> None:
    weights, tokens = np.array([w for w, _ in rows]), np.array([t for _, t in rows])
    losses = losses_of(tokens * (1.0 + np.arange(len(rows))), tokens)
    each = [(w, 1.0 + place) for place, (w, t) in enumerate(rows) for _ in range(t)]
    total = math.fsum(w for w, _ in each)
    record = said(rows=np.arange(len(rows)), weights=weights, losses=losses, domains=Groups())
    if not total:
        assert record["weighted_loss"] is None
        return
    assert record["weighted_loss"] == pytest.approx(math.fsum(w * loss for w, loss in each) / total)
    share = total**2 / (len(each) * math.fsum(w * w for w, _ in each))
    assert record["weights"]["ess"] == pytest.approx(share, abs=1e-6)
    assert record["weights"]["mean"] == pytest.approx(total / len(each), abs=1e-6)


@given(some_weights)
def test_no_fewer_rows_carry_half_of_the_weighted_tokens(rows: list[tuple[float, int]]) -> None:
    weights, tokens = np.array([w for w, _ in rows]), np.array([t for _, t in rows])
    parts = (weights * tokens).tolist()
    enough = next(
        n
        for n in range(1, len(parts) + 1)
        for some in itertools.combinations(parts, n)
        if sum(some) >= sum(parts) / 2 * (1 - 1e-12)
    )
    assert rows_of_half(weights, tokens) == enough / len(parts)


@given(st.lists(st.floats(0, 100) | st.sampled_from(EDGES), max_size=30))
def test_every_row_is_in_one_bar_the_one_whose_end_it_does_not_pass(weights: list[float]) -> None:
    bars = histogram(np.array(weights))
    assert sum(bars) == len(weights)
    ends = [*(edge * (1 + 1e-5) for edge in EDGES), math.inf]
    lows = [-1.0, *ends]
    assert bars == [sum(low < w <= high for w in weights) for low, high in zip(lows, ends, strict=False)]


@given(some_weights, st.floats(0.1, 10))
def test_only_how_weights_stand_to_each_other_counts(rows: list[tuple[float, int]], scale: float) -> None:
    weights, tokens = np.array([w for w, _ in rows]) + 0.01, np.array([t for _, t in rows])
    losses = losses_of(tokens * (1.0 + np.arange(len(rows))), tokens)
    now, scaled = (
        said(weights=by * weights, rows=np.arange(len(rows)), losses=losses, domains=Groups()) for by in (1.0, scale)
    )
    assert scaled["weighted_loss"] == pytest.approx(now["weighted_loss"])
    assert scaled["weights"]["ess"] == pytest.approx(now["weights"]["ess"])


def test_a_weight_of_a_fifth_is_not_shut_out() -> None:
    rest = (16 - 4 * LITTLE) / 12  # so that the mean is 1, by tokens
    weights = np.array([LITTLE + 1e-6, rest, rest, rest])
    assert said(weights=weights, live=live(paced()))["weights"]["shut_out"] == {}
    assert said(weights=weights - [2e-6, 0, 0, 0], live=live(paced()))["weights"]["shut_out"] == {"math": 0.5}
