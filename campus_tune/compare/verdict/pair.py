"""Two arms and one measure: the difference on all test items or some, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from campus_tune.compare.verdict.bootstrap import VarianceParts, crossed_spread
from campus_tune.compare.verdict.difference import Difference, with_spread
from campus_tune.compare.verdict.inputs import ArmResults, ItemValues
from campus_tune.words.types import BoolArray


@dataclass(frozen=True)
class Pair:
    """Two arms, one measure, and why they cannot be compared.

    Args:
        arm: whose runs.
        base: the other arm.
        mine: what was measured of the first.
        theirs: of the other.
        reasons: why they bear no comparison.
    """

    arm: ArmResults
    base: ArmResults
    mine: ItemValues
    theirs: ItemValues
    reasons: tuple[str, ...]

    def common(self) -> tuple[ItemValues, ItemValues]:
        """Both measurements on the seeds that both arms finished, in one sequence."""
        seeds = [seed for seed in dict.fromkeys(self.base.seeds) if seed in self.arm.seeds]
        mine = self.mine.take([self.arm.seeds.index(seed) for seed in seeds])
        return mine, self.theirs.take([self.base.seeds.index(seed) for seed in seeds])

    def bare(self, items: BoolArray) -> Difference | None:
        """The difference on some items, without a word on how sure it is; None without common seeds or items.

        Args:
            items: which, shape (I,).
        """
        mine, theirs = self.common()
        if not (len(mine.values) and items.any()):
            return None
        weight = float(mine.weights[items].sum())
        a, b = (one.values[:, items].sum(1) / weight for one in (mine, theirs))  # (S,)
        value, mean = float((a - b).mean()), float(b.mean())
        return Difference(
            self.arm.name,
            self.base.name,
            value,
            relative=value / mean if mean > 0 else None,
            mean=float(a.mean()),
            mean_against=mean,
            n_seeds=len(a),
            n_items=int(items.sum()),
            by_seed=tuple((a - b).tolist()),
        )

    def sure(
        self, bare: Sequence[Difference], items: Sequence[BoolArray], comparisons: int, *, resamples: int, seed: int
    ) -> tuple[list[Difference], list[VarianceParts]]:
        """The same differences with their intervals, and the spreads that these come from.

        Args:
            bare: the differences.
            items: those of each, shape (I,).
            comparisons: how many are corrected together.
            resamples: of the bootstrap.
            seed: the same seed, the same numbers.
        """
        mine, theirs = self.common()
        (spreads,) = crossed_spread(
            (mine.values - theirs.values)[None], mine.weights, items, resamples=resamples, seed=seed
        )
        return [with_spread(one, spread, comparisons) for one, spread in zip(bare, spreads, strict=True)], spreads
