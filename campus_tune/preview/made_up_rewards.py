"""Rewards of a simulated run that would be trained by reward: some prompts are hopeless, some trivial, some between.

Every prompt has a pass rate of its own that stays as it is: a plan shows what such a recipe draws again, and not how a
model learns.
"""

from __future__ import annotations

import numpy as np

from campus_tune.method.pass_rates import PassRates
from campus_tune.method.stages import Stage
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.passes_block import PassSettings
from campus_tune.words.types import IntArray

GROUP = 8  # answers to each prompt
EDGES = 0.4  # both numbers of the beta distribution of pass rates: more at both ends than in the middle


class MadeUpRewards:
    """Pass rates that are made up, and what answers have shown of them.

    Args:
        config: resolved settings.
        n_rows: N prompts.
        pools: number of each prompt's domain, shape (N,); None without domains.
        seed: of the rates and the answers.
    """

    def __init__(self, config: CampusConfig, n_rows: int, *, pools: IntArray | None, seed: int) -> None:
        settings = config.passes or PassSettings()
        self.rates: PassRates = settings.rates(n_rows, group=GROUP, scaled_by_group=True, pools=pools)
        self._draw = np.random.default_rng([seed, GROUP])
        self._true = self._draw.beta(EDGES, EDGES, n_rows)
        self._at = settings.at

    def answer(self, stage: Stage, global_batch: int) -> None:
        """The prompts of a stage are answered, a step's at a time.

        Args:
            stage: that is trained.
            global_batch: prompts of a step.
        """
        for start in range(0, len(stage.rows), global_batch):
            rows = np.unique(stage.rows[start : start + global_batch])
            passed = self._draw.random((len(rows), GROUP)) < self._true[rows, None]
            self.rates.note(rows, np.where(passed, self._at, self._at - 1.0), when=self.rates.now + 1)
