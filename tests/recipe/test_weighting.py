"""From a recipe to the weighting that a curriculum plans with: entries, columns, shares that count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from campus_tune.data.domains import Domains
from campus_tune.method.book import Book
from campus_tune.method.cells import Cells
from campus_tune.method.curriculum import Curriculum
from campus_tune.method.weighting import Entry, ShareWeight, Weighting
from campus_tune.method.weights import OwnWeight, Planning, Robust, SelfPaced
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.policy import book_columns, cells_of, policy_of, shares_that_count
from campus_tune.recipe.weighting import DOMAINS, columns_asked, weighting_of
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import FloatArray, RowLosses

N = 100
ROWS = Domains(np.repeat([0, 1, 2], [60, 30, 10]), ["chat", "code", "math"])
SHARES = {"shares": {"chat": 0.2, "code": 0.3, "math": 0.5}, "by": "weights"}


def config(**settings: Any) -> CampusConfig:
    given = CampusConfig(**{"metrics": ["length"], **settings})
    return given.resolved(has_probes=False, domain_in_data=True, seed=3)


def cells(of: CampusConfig) -> Cells | None:
    return cells_of(of, lambda _: np.arange(N, dtype=np.float64), domains=ROWS)


def weighting(of: CampusConfig, *, global_batch: int = 40, **more: Any) -> Weighting:
    tokens = np.full(N, 7)
    made = weighting_of(of, tokens=tokens, global_batch=global_batch, domains=ROWS, cells=cells(of), **more)
    assert made is not None
    return made


def shares_of(made: Weighting, u: float) -> FloatArray:
    """What each domain's rows weigh together, as a part of all, at a progress."""
    shown = Planning(np.arange(N, dtype=np.int32), np.ones(N), u, made.columns)
    planned = made.plan(shown, [0, 0, 0])
    assert planned is not None
    return np.bincount(ROWS.codes, planned) / planned.sum()


# -- entries -----------------------------------------------------------------------------------------------------------


def test_a_recipe_without_weights_has_no_weighting() -> None:
    for settings in (
        {},
        {"domains": {"by": "weights"}},
        {"domains": {"shares": SHARES["shares"]}},
        {"phases": [{"until": 1}]},
    ):
        assert (
            weighting_of(config(**settings), tokens=np.ones(N, dtype=np.int64), global_batch=10, domains=ROWS) is None
        )
        assert not config(**settings).weighs


def test_entries_are_those_of_the_recipe_in_its_sequence_with_the_shares_before_them() -> None:
    of = config(
        weights=[{"name": "robust", "limit": 2}, {"name": "self_paced", "floor": 0.2}], domains=SHARES, handover=0.7
    )
    first, *others = weighting(of).entries
    assert (first.name, type(first.weight)) == (DOMAINS, ShareWeight)
    assert others == [Entry("robust", Robust(), 0.1, 1.0, 2), Entry("self_paced", SelfPaced(floor=0.2), 0.0, 0.7)]


def test_columns_are_asked_for_once_each_and_found_by_their_weight() -> None:
    of = config(
        weights=["focal", {"name": "column", "column": "a"}, {"name": "column", "column": "a", "of": "message"}]
    )
    asked = columns_asked(of)
    assert asked == [OwnWeight("a"), OwnWeight("a", "message")]
    made = weighting(of, columns={asked[0]: np.arange(N) + 1.0, asked[1]: np.full(N, 2.0)})
    shown = Planning(np.array([3, 9], dtype=np.int32), np.ones(2), 0.5, made.columns)
    assert made.plan(shown, [0]) == pytest.approx(np.array([4, 10]) / 7)  # each twice itself, and then of mean 1
    assert columns_asked(config()) == []


def test_rows_and_messages_may_both_have_weights() -> None:
    asked = {"name": "column", "of": "message"}
    both = config(weights=[asked, {"name": "column", "column": "weight"}])
    assert columns_asked(both) == [OwnWeight(of="message"), OwnWeight()]


def test_the_settings_of_all_weights_reach_the_method() -> None:
    of = config(
        weights=[{"name": "column", "normalise": "none"}, "robust"],
        control="shuffled_weights",
        pacing={"name": "linear", "start": 0.5},
    )
    made = weighting(of, columns={OwnWeight(): np.repeat([1.0, 5.0], 50)})
    plain = weighting(config(weights=["column"]), columns={OwnWeight(): np.repeat([1.0, 5.0], 50)})
    rows = np.arange(N, dtype=np.int32)
    dealt = made.plan(Planning(rows, np.ones(N), 0.0, made.columns), [3, 0, 0])
    assert dealt is not None
    assert sorted(dealt[40:80]) == [1.0] * 10 + [5.0] * 30  # as they stand, and dealt inside of each step of 40
    assert dealt.tolist() != made.columns[OwnWeight()].tolist()
    kept = plain.plan(Planning(rows, np.ones(N), 0.0, plain.columns), [3, 0, 0])
    assert kept is not None
    assert kept[40:80].mean() == pytest.approx(1)
    assert made.live(0.5).shuffle is not None
    assert plain.live(0.5).shuffle is None


def test_self_pacing_opens_by_the_recipes_pacing() -> None:
    of = config(weights=[{"name": "self_paced", "until": 1}], pacing={"name": "linear", "start": 0.5})
    made, losses = weighting(of), np.tile(np.arange(20.0), 5)  # in no domain another distribution than in the others
    made.close(np.arange(N), losses, np.full(N, 7))
    for u, scope in ((0.0, 0.5), (0.5, 0.75), (0.999, 0.9995)):
        (entry,) = made.live(u).rows
        of_chat = np.quantile(losses[:60], scope)
        assert entry.level[0][0] == pytest.approx(of_chat)


def test_robust_compares_inside_the_cells_of_the_recipe() -> None:
    of = config(weights=["robust"], cells={"bands": 2})
    made, where = weighting(of), cells(of)
    assert where is not None
    assert len(where.names) == 6
    made.close(np.arange(N), where.codes + 1.0, np.full(N, 7))
    (entry,) = made.live(0.5).rows
    mean, _ = entry.level
    assert mean[:2] == pytest.approx([1, 2], abs=1e-9)  # of the two bands of chat
    assert np.isnan(mean[4:]).all()  # five rows are too few


# -- shares that count -------------------------------------------------------------------------------------------------


def test_shares_become_the_domains_parts_of_all_weights() -> None:
    assert shares_of(weighting(config(domains=SHARES), global_batch=N), 0.3) == pytest.approx([0.2, 0.3, 0.5])
    least = {"least": 0.25, "by": "weights"}
    assert shares_of(weighting(config(domains=least), global_batch=N), 0.3)[2] == pytest.approx(0.25)
    hot = {"shares": {"temperature": 2}, "by": "weights"}
    roots = np.sqrt([60, 30, 10])
    assert shares_of(weighting(config(domains=hot), global_batch=N), 0.3) == pytest.approx(roots / roots.sum())


def test_the_shares_of_phases_become_weights_too_and_go_over_into_one_another() -> None:
    of = config(
        domains={"by": "weights"},
        phases=[{"until": 0.5, "shares": {"chat": 1}, "overlap": 0.2}, {"until": 1, "shares": {"math": 1}}],
    )
    made = weighting(of, global_batch=N)
    assert shares_of(made, 0.1) == pytest.approx([1, 0, 0])
    assert shares_of(made, 0.5) == pytest.approx([0.5, 0, 0.5])
    assert shares_of(made, 0.9) == pytest.approx([0, 0, 1])
    assert policy_of(of, n_rows=N, domains=ROWS) is None


def test_cells_may_have_the_shares_that_count() -> None:
    of = config(domains={"over": "cells", "shares": {"temperature": 2}, "by": "weights"}, cells={"bands": 2})
    (entry,) = weighting(of).entries
    assert isinstance(entry.weight, ShareWeight)
    where = cells(of)
    assert where is not None
    assert entry.weight.groups.names == where.names
    assert entry.weight.natural == pytest.approx([0.3, 0.3, 0.15, 0.15, 0.05, 0.05])


def test_shares_that_follow_training_need_no_draw_but_a_book() -> None:
    of = config(domains={"follow": "seen_loss", "by": "weights"})
    assert book_columns(of) == set()
    where = cells(of)
    assert where is not None
    book = Book(N, needs=set(), cells=where.codes)
    made = weighting(of, global_batch=N, book=book)
    assert shares_of(made, 0.5) == pytest.approx([0.6, 0.3, 0.1])  # nothing is known
    tokens = np.full(N, 7)
    nats = np.where(ROWS.codes == 2, 4.0, 1.0) * tokens
    book.update(0, np.arange(N), RowLosses(nats, tokens, tokens, nats, nats), np.ones(N, dtype=np.int64))
    after = shares_of(made, 0.5)
    assert after[2] > 0.1
    drawn = policy_of(config(domains={"follow": "seen_loss"}), n_rows=N, domains=ROWS, cells=where, book=book)
    assert drawn is not None
    assert after == pytest.approx(drawn.shares_at(0.5))  # the shares that it would draw by
    assert shares_of(made, 0.04) == pytest.approx([0.6, 0.3, 0.1])


def test_rows_that_are_dropped_are_no_part_of_the_natural_shares() -> None:
    dropped = np.zeros(N, dtype=np.bool_)
    dropped[:50] = True
    policy = shares_that_count(config(domains=SHARES), n_rows=N, domains=ROWS, dropped=dropped)
    assert policy is not None
    assert policy.natural == pytest.approx([0.2, 0.6, 0.2])


def test_shares_of_a_domain_that_no_row_has_are_refused_as_they_are_by_sampling() -> None:
    for by in ("sampling", "weights"):
        of = config(domains={"shares": {"chat": 0.5, "maths": 0.5}, "by": by})
        with pytest.raises(RecipeError, match=r"`domains: shares` must .*Did you mean 'math'\?"):
            (policy_of if by == "sampling" else shares_that_count)(of, n_rows=N, domains=ROWS)


@pytest.mark.parametrize(
    "more",
    [
        {"thin": {"how": "rank", "by": "length"}},
        {"review": {"share": 0.2}},
        {
            "phases": [
                {"until": 0.5, "mix": 0.9, "shares": {"temperature": 1}},
                {"until": 1, "shares": {"temperature": 3}},
            ]
        },
    ],
)
def test_rows_are_drawn_as_without_shares_that_count(more: dict[str, Any]) -> None:
    def drawn(**domains: Any) -> list[int]:
        of = config(**{**more, **domains}, handover=0, stages=4)
        where = cells(of)
        book = Book(N, needs=book_columns(of) or set(), cells=None if where is None else where.codes)
        policy = policy_of(
            of, n_rows=N, domains=ROWS, cells=where, book=book, score_of=lambda _: np.arange(N, dtype=np.float64)
        )
        assert policy is not None
        weighted = weighting_of(of, tokens=np.full(N, 7), global_batch=5, domains=ROWS, cells=where, book=book)
        curriculum = Curriculum(
            of.schedule(), {}, n_rows=N, global_batch=5, total_steps=40, policy=policy, weighting=weighted
        )
        rows: list[int] = []
        while not curriculum.finished:
            stage = curriculum.open(None)
            assert (stage.weights is None) == (weighted is None)
            rows += stage.rows.tolist()
            for _ in range(stage.n_steps):
                curriculum.advance()
        return rows

    plain = {"phases": [{**phase, "shares": None} for phase in more["phases"]]} if "phases" in more else {}
    shares = {"shares": {"chat": 0.4, "code": 0.3, "math": 0.3}, "by": "weights"}
    assert drawn(domains=shares) == drawn(**plain)
