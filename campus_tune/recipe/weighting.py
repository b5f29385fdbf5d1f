"""From a recipe's `weights`, and shares that count, to the weighting that the curriculum plans with.

>>> import numpy as np
>>> from campus_tune.recipe.config import CampusConfig
>>> rows = Domains(np.repeat([0, 1], [60, 40]), ["chat", "math"])
>>> config = CampusConfig(selector="shuffle", domains={"shares": {"chat": 0.3, "math": 0.7}, "by": "weights"})
>>> weighting = weighting_of(config, tokens=np.ones(100, dtype=np.int64), global_batch=10, domains=rows)
>>> [entry.name for entry in weighting.entries]
['domains']
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from campus_tune.data.domains import Domains
from campus_tune.method.levels import Groups
from campus_tune.method.pacing import build_pacing, scope_at
from campus_tune.method.weighting import Entry, ShareWeight, Weighting
from campus_tune.method.weights import OwnWeight, Weight
from campus_tune.recipe.draw_rules import SHUFFLED_WEIGHTS
from campus_tune.recipe.policy import shares_that_count
from campus_tune.words.types import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from campus_tune.method.book import Book
    from campus_tune.method.cells import Cells
    from campus_tune.method.steering import Steering
    from campus_tune.recipe.config import CampusConfig

DOMAINS = "domains"  # what records call shares that are weights


def columns_asked(config: CampusConfig) -> list[OwnWeight]:
    """The weights whose numbers are read with the rows, in the recipe's sequence."""
    return [weight for entry in config.weights or () if isinstance(weight := entry.weight, OwnWeight)]


def weighting_of(
    config: CampusConfig,
    *,
    tokens: IntArray,
    global_batch: int,
    domains: Domains | None = None,
    cells: Cells | None = None,
    columns: Mapping[Weight, FloatArray] | None = None,
    dropped: BoolArray | None = None,
    book: Book | None = None,
    steering: Steering | None = None,
    spared: BoolArray | None = None,
) -> Weighting | None:
    """The weighting of a recipe; None where all rows count alike.

    Args:
        config: resolved settings.
        tokens: answer tokens of each row, shape (N,).
        global_batch: B, rows of an optimizer step.
        domains: of the rows; None for none.
        cells: as `cells_of` made them.
        columns: numbers of each of `columns_asked`, shape (N,).
        dropped: rows that are never trained, shape (N,); natural shares are those of the others.
        book: whose levels shares follow, with `domains: follow`.
        steering: what the record makes of shares that are weights.
        spared: rows that weights which wait for a sign of wrong rows do nothing about, shape (N,); None for none.

    Raises:
        RecipeError: shares of names that no row has.
    """
    if not config.weighs:
        return None
    entries = [entry.entry(config.handover) for entry in config.weights or ()]
    shares = shares_that_count(
        config, n_rows=len(tokens), domains=domains, cells=cells, dropped=dropped, book=book, steering=steering
    )
    if shares is not None:
        groups = Groups(shares.codes, shares.strata_names)
        entries.insert(0, Entry(DOMAINS, ShareWeight(groups, shares.natural, shares.shares_at)))
    pacing = build_pacing(config.pacing)
    return Weighting(
        entries,
        tokens=tokens,
        global_batch=global_batch,
        columns=columns,
        domains=None if domains is None or domains.codes is None else Groups(domains.codes, tuple(domains.names)),
        cells=None if cells is None else Groups(cells.codes, cells.names),
        scope=lambda u: scope_at(pacing, u),
        normalise=all(entry.normalise != "none" for entry in config.weights or ()),
        shuffle=config.control == SHUFFLED_WEIGHTS,
        seed=config.seed or 0,
        spared=spared,
    )
