"""Arms that are trained by reward, where they had generated as many tokens.

Such arms take equal steps and generate more or fewer tokens, as their answers are longer or shorter; and generating is
most of what a step costs. So beside the end, where the steps are equal and which the verdict is about, the rewards are
read off the curves of each seed where both arms had generated as many tokens as the one that generated fewer, straight
lines between points. The difference has Student's t over the seeds; no word is said of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from campus_tune.compare.verdict.difference import Difference, of_seeds
from campus_tune.compare.verdict.inputs import REWARD, ArmResults, Curve
from campus_tune.compare.verdict.sentences import called, percent
from campus_tune.words.types import Json


@dataclass(frozen=True)
class AtEqualTokens:
    """An arm against the baseline at equal generated tokens.

    Args:
        difference: of the rewards, higher is better; without an interval of one seed.
        share: of the tokens that the baseline generated in all, where they are compared: mean over seeds, in (0, 1].
    """

    difference: Difference
    share: float

    @property
    def sentence(self) -> str:
        """The same for a reader in a hurry."""
        found = self.difference
        arm, other = called(found.arm), called(found.against)
        span = "" if found.low is None else f"95 % interval {found.low:+.3f} to {found.high:+.3f}, "
        where = "" if self.share > 0.999 else f" ({percent(self.share)} of those of {other})"
        seeds = "1 seed" if found.n_seeds == 1 else f"{found.n_seeds} seeds"
        said = (
            f"Where both had generated as many tokens{where}, the reward of {arm} was {found.value:+.3f} against "
            f"{other}: {found.mean:.3f} and {found.mean_against:.3f} ({span}{seeds})."
        )
        return said.replace("-", "−")

    def to_mapping(self) -> Json:
        """The same as strict JSON takes it."""
        return {"difference": self.difference.to_mapping(), "share": self.share, "sentence": self.sentence}

    @staticmethod
    def from_mapping(given: Json) -> AtEqualTokens:
        """What `to_mapping` wrote."""
        return AtEqualTokens(Difference.from_mapping(given["difference"]), float(given["share"]))


def compare_at_equal_tokens(arms: Sequence[ArmResults], base: ArmResults) -> dict[str, AtEqualTokens]:
    """Arm → what it is where it had generated as many tokens as the baseline; {} of arms that are trained on answers.

    Args:
        arms: all but the baseline.
        base: the baseline.
    """
    found = {}
    for arm in arms:
        seeds = [seed for seed in base.seeds if seed in arm.seeds]
        if arm.measure != REWARD or not seeds or not (len(arm.curves) and len(base.curves)):
            continue
        pairs = [(arm.curves[arm.seeds.index(seed)], base.curves[base.seeds.index(seed)]) for seed in seeds]
        ends = [min(mine.tokens[-1], theirs.tokens[-1]) for mine, theirs in pairs]
        mine, theirs = (
            np.array([reward_at(pair[which], end) for pair, end in zip(pairs, ends, strict=True)]) for which in (0, 1)
        )  # each of shape (S,)
        if not (np.isfinite(mine).all() and np.isfinite(theirs).all()):
            continue
        known = Difference(
            arm.name,
            base.name,
            float((mine - theirs).mean()),
            mean=float(mine.mean()),
            mean_against=float(theirs.mean()),
            n_seeds=len(seeds),
            by_seed=tuple((mine - theirs).tolist()),
        )
        share = float(np.mean([end / theirs.tokens[-1] for end, (_, theirs) in zip(ends, pairs, strict=True)]))
        found[arm.name] = AtEqualTokens(of_seeds(known, mine - theirs) if len(seeds) > 1 else known, share)
    return found


def reward_at(curve: Curve, tokens: float) -> float:
    """The reward where so many tokens were generated.

    >>> zeros = np.zeros(3)
    >>> reward_at(Curve(np.array([0.0, 10, 20]), zeros, np.array([0.0, -0.25, -0.75])), 15)
    0.5

    Args:
        curve: of one run.
        tokens: at most those of its end.
    """
    return -float(np.interp(tokens, curve.tokens, curve.loss))
