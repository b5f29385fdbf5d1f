"""Is the table honest? Tables of simulated runs, of which the truth is known.

    python -m eval.situations.honest                 200 tables without any effect; 400 shares of an oracle's gain

A table without any effect must claim something in at most 5 of 100 cases, for all that it claims together. An interval
of a share must hold the true one in about 95 of 100, where it says that there is one. The noise is as
`eval.calibration` has it: of seeds, of domains with which a seed has its luck, of items, and of single cells, with
heavy tails.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from campus_tune.compare.verdict import HELPED, HURT, ArmResults, ItemValues
from eval.calibration import NOISES, Noise, simulate
from eval.situations.gains import share_of_gain
from eval.situations.judged import Found, against, corrected_table

SITUATIONS, ARMS, SEEDS, ITEMS = 8, 4, 8, 120
GAIN, TRUTH = 0.2, 0.7  # of the oracle, nats per token, and the share of it that the arm has


@dataclass(frozen=True)
class Tally:
    """What many tables or shares said.

    Args:
        times: how many there were.
        claimed: tables that claimed anything.
        asked: shares that had an interval.
        held: of these, how many held the truth.
    """

    times: int
    claimed: int = 0
    asked: int = 0
    held: int = 0


def tables(noise: Noise, times: int, *, seed: int = 0, resamples: int = 300) -> Tally:
    """How many tables without any effect claim one.

    Args:
        noise: of a difference.
        times: tables.
        seed: of the draws.
        resamples: of each bootstrap.
    """
    rng, claimed = np.random.default_rng([seed, NOISES.index(noise)]), 0
    for _ in range(times):
        found = []
        for place in range(SITUATIONS):
            arms = {}
            for number in range(ARMS):
                base, arm = simulate(rng, noise, SEEDS, ITEMS)
                one = against(replace(arm, name=f"arm {number}"), base, resamples, seed)
                arms[one.name] = one
            found.append(Found(f"situation {place}", "", "tasks", "judge", {}, ITEMS, tuple(range(SEEDS)), 2.0, arms))
        words = [arm.word for one in corrected_table(found) for arm in one.arms.values()]
        claimed += HELPED in words or HURT in words
    return Tally(times, claimed)


def shares(noise: Noise, times: int, *, seed: int = 0, resamples: int = 300) -> Tally:
    """How many intervals of shares hold the true share.

    Args:
        noise: of what the oracle changes, and, drawn anew, of what the arm does.
        times: shares.
        seed: of the draws.
        resamples: of each bootstrap.
    """
    rng, asked, held = np.random.default_rng([seed, 1, NOISES.index(noise)]), 0, 0
    for _ in range(times):
        base, oracle = simulate(rng, noise, SEEDS, ITEMS, -GAIN)
        other, arm = simulate(rng, noise, SEEDS, ITEMS, -GAIN * TRUTH)
        items = base.end
        ours = _with(items, items.values + (arm.end.values - other.end.values) / other.end.weights * items.weights)
        found = share_of_gain(ours, base, replace(oracle, name="oracle"), resamples=resamples, seed=seed)
        if found.refused is None:
            asked += 1
            held += (found.low is None or found.low <= TRUTH) and (found.high is None or found.high >= TRUTH)
    return Tally(times, asked=asked, held=held)


def _with(items: ItemValues, values: np.ndarray) -> ArmResults:
    """An arm with these losses on the same items."""
    return ArmResults("ours", "recipe", tuple(range(len(values))), replace(items, values=values))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what came of it, a line for each kind of noise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=200, help="tables of each noise; of shares twice as many")
    parser.add_argument("--seed", type=int, default=0, help="of all draws")
    options = parser.parse_args(arguments)
    print("| noise | tables that claim something | oracle's gain shown | its share's interval holds the truth |")
    print("| --- | --- | --- | --- |")
    for noise in NOISES:
        claims, found = (
            tables(noise, options.times, seed=options.seed),
            shares(noise, 2 * options.times, seed=options.seed),
        )
        held = f"{found.held / found.asked:.1%}" if found.asked else "–"
        shown = f"{found.asked / found.times:.0%}"
        print(f"| {noise.name} | {claims.claimed / claims.times:.1%} | {shown} | {held} |", flush=True)


if __name__ == "__main__":
    main()
