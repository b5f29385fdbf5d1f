"""The block that says what a pass is where a model is trained by reward: `passes`.

>>> PassSettings.from_mapping({"at": 0.5}).forget
0.002
>>> PassSettings.from_mapping({"forget": 1})
Traceback (most recent call last):
campus_tune.words.errors.RecipeError: `passes: forget` must be a number in [0, 1), got 1. Write 0.002.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from campus_tune.method.pass_rates import PassRates
from campus_tune.recipe.reader import CheckedSettings
from campus_tune.words.leaves import Range, Wording
from campus_tune.words.types import IntArray, RowArray


@dataclass(frozen=True)
class PassSettings(CheckedSettings):
    """What a pass is, and how long what a prompt has shown counts. For trainers that go by rewards (GRPO, RLOO).

    Args:
        at: weighted reward from which an answer passes.
        forget: part of what was counted of each prompt that every generation takes: 0.002 halves it in 346.
        middle: what a group of answers is worth: chance (that its rewards are not all the same), variance (p(1 − p) of
            the pass rate), or auto, which is chance where the trainer scales rewards by group.
        predict: pass rates of prompts that were never tried are predicted from what costs nothing.
        answer: column with a reference answer of each prompt, by whose loss prompts can be ordered and predicted.
    """

    block = "passes"
    write = "Write passes: {at: 1.0}."

    at: Annotated[float, Range(-1e9, 1e9)] = 1.0
    forget: Annotated[float, Range(0, 1, "[)"), Wording(write="Write 0.002.")] = 0.002
    middle: Literal["auto", "chance", "variance"] = "auto"
    predict: bool = True
    answer: str | None = None

    def rates(
        self, n_rows: int, *, group: int, scaled_by_group: bool, pools: IntArray | RowArray | None = None
    ) -> PassRates:
        """Pass rates at the beginning of a run.

        Args:
            n_rows: N prompts.
            group: answers of a prompt at a time.
            scaled_by_group: the trainer divides rewards by the spread of their group.
            pools: number of each prompt's domain, shape (N,); None without domains.
        """
        scaled = scaled_by_group if self.middle == "auto" else self.middle == "chance"
        return PassRates(n_rows, group=group, at=self.at, forget=self.forget, scaled=scaled, pools=pools)
