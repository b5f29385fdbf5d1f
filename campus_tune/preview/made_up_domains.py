"""Domains of rows that are not there: as many as are asked for, or those that a recipe names.

>>> config = CampusConfig(selector="shuffle", domains={"shares": {"math": 0.4, "code": 0.6}})
>>> made_up_domains(config, None, n_rows=1000, seed=0).names
['code', 'math']
>>> made_up_domains(config, {"math": 3, "code": 1}, n_rows=1000, seed=0).sizes()
{'code': 250, 'math': 750}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from campus_tune.data.domains import Domains
from campus_tune.method.shares import natural, split
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.draw_blocks import TEMPERATURE
from campus_tune.words.errors import RecipeError
from campus_tune.words.wording import listed

USUAL = 4  # domains where nobody says how many


def made_up_domains(config: CampusConfig, asked: int | Mapping[str, int] | None, *, n_rows: int, seed: int) -> Domains:
    """Which domain each of some made-up rows is of.

    Args:
        config: whose shares may name domains, as may its milestones and rules.
        asked: how many, of about equal size; or the size of each, of which only the proportions count; None is for the
            recipe to say.
        n_rows: N.
        seed: of the draw.

    Raises:
        RecipeError: so many domains without names, where the recipe names others.
    """
    rng, named = np.random.default_rng([seed, 2]), sorted(set(_named(config)))
    if isinstance(asked, Mapping):
        names = sorted(asked)
        counts = split(natural(np.array([asked[name] for name in names])), n_rows, np.full(len(names), n_rows))
        return Domains(rng.permutation(np.repeat(np.arange(len(names)), counts)), names)
    if asked is not None and named and asked != len(named):
        raise RecipeError(
            f"`--domains` must name the domains that the recipe names ({listed(named, 5)}), got {asked}. "
            f"Write --domains {listed([f'{name}=1000' for name in named], 5, by=',')}, with the sizes of yours."
        )
    n = len(named) or asked or USUAL
    return Domains(rng.integers(n, size=n_rows), named or [f"domain {i}" for i in range(n)])


def _named(config: CampusConfig) -> Iterator[str]:
    """The domains that a recipe gives shares to, or watches; cells are not named by it."""
    yield from (milestone.probe for milestone in config.milestones or ())
    yield from (answer["probe"] for answer in (config.when or {}).values() if answer.get("probe"))
    if config.draw.over_cells:
        return
    for shares in (config.domains and config.domains.shares, *(phase.shares for phase in config.phases or ())):
        if isinstance(shares, Mapping) and list(shares) != [TEMPERATURE]:
            yield from shares
