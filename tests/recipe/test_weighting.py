"""From a recipe to the weighting that a curriculum plans with: entries, columns, shares that count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from campus_tune.data.domains import Domains
from campus_tune.method.cells import Cells
from campus_tune.method.weighting import Entry, ShareWeight, Weighting
from campus_tune.method.weights import Column, Planning, Robust, SelfPaced
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.policy import cells_of
from campus_tune.recipe.weighting import DOMAINS, columns_asked, weighting_of
from campus_tune.words.types import FloatArray

N = 100
ROWS = Domains(np.repeat([0, 1, 2], [60, 30, 10]), ["chat", "code", "math"])
SHARES = {"shares": {"chat": 0.2, "code": 0.3, "math": 0.5}, "by": "weights"}


def config(**settings: Any) -> CampusConfig:
    given = CampusConfig(**{"metrics": ["length"], **settings})
    return given.resolved(has_probes=False, domain_in_data=True, seed=3)


def cells(of: CampusConfig) -> Cells | None:
    return cells_of(of, lambda _: np.arange(N, dtype=np.float64), domains=ROWS)


def weighting(of: CampusConfig, **more: Any) -> Weighting:
    made = weighting_of(of, tokens=np.full(N, 7), global_batch=40, domains=ROWS, cells=cells(of), **more)
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
    assert asked == [Column("a"), Column("a", "message")]
    made = weighting(of, columns={asked[0]: np.arange(N) + 1.0, asked[1]: np.full(N, 2.0)})
    shown = Planning(np.array([3, 9], dtype=np.int32), np.ones(2), 0.5, made.columns)
    assert made.plan(shown, [0]) == pytest.approx(np.array([4, 10]) / 7)  # each twice itself, and then of mean 1
    assert columns_asked(config()) == []
