"""Is the verdict of `campus-tune compare` honest? How often it errs where the truth is known.

    python eval/calibration.py                                    simulated comparisons, a table for eval/LOG.md
    python eval/calibration.py --times 200 --resamples 499        quicker and coarser
    python eval/calibration.py --runs runs/many_seeds             the same recipe against itself, on real runs

False alarms: two arms that are the same recipe, judged by `judge`. Every "helped" or "hurt" is one. Four kinds of
noise, from hardly any difference between seeds to hardly anything else; items have heavy tails (t with 3 degrees of
freedom) and unequal lengths, every seed has its luck with each of four domains, and items move for good in one kind.

Power: effects of 0.5, 1 and 1.5 times the minimum detectable effect that the true spread implies are planted; at 1 the
verdict must find 80 of 100. Speed is judged on curves with jitter whose length of learning differs between seeds.

Real runs: `--runs` takes a comparison's folder (`runs/<arm>/seed-<seed>/result.json`) with at least four seeds of its
baseline. Two disjoint groups of its seeds are drawn at random and called arms. The draws share runs, so their false
alarms are not independent, and a rate has no error bar: all of them stem from the same few seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from campus_tune.compare.verdict import (
    EFFECT,
    HELPED,
    HURT,
    WORDS,
    ArmResults,
    Curve,
    ItemValues,
    Judgement,
    Speed,
    VarianceParts,
    Verdict,
    arm_of,
    judge,
    judge_speed,
)

LOSS = 2.0  # nats per token of the baseline, on average
CELL = 0.5  # standard deviation of one seed's effect on one item, nats per token
DOMAINS = 4  # with each of which a seed has its luck


@dataclass(frozen=True)
class Noise:
    """Standard deviations of a difference, nats per token: of one seed, one seed and domain, one item, one cell."""

    name: str
    seed: float
    domain: float = 0.0
    item: float = 0.0
    cell: float = CELL

    def components(self, weights: Any, domain: Any) -> tuple[float, float, float]:
        """Variances of seeds, items and cells as `VarianceParts` means them."""
        share = np.bincount(domain, weights) / weights.sum()
        uneven = len(weights) * float((weights**2).sum()) / float(weights.sum()) ** 2  # long items count more
        seed = self.seed**2 + self.domain**2 * float((share**2).sum())
        return seed, self.item**2 * uneven, self.cell**2 * uneven


NOISES = (
    Noise("items only", 0.0),
    Noise("little between seeds", 0.02, 0.02),
    Noise("seeds and lasting items", 0.05, 0.05, 0.25),
    Noise("mostly seeds", 0.2, 0.1),
)


# -- simulated comparisons ---------------------------------------------------------------------------------------------


def simulate(rng: np.random.Generator, noise: Noise, seeds: int, items: int, effect: float = 0.0) -> list[ArmResults]:
    """A baseline and a recipe whose true difference on these very items' kind is `effect`, nats per token."""
    weights = rng.integers(4, 40, items).astype(np.float64)
    domain = np.arange(items) % DOMAINS
    level = LOSS + 0.7 * rng.standard_normal(items) + 0.1 * rng.standard_normal((seeds, 1))

    def heavy(*shape: int) -> Any:
        return rng.standard_t(3, shape) / math.sqrt(3)  # variance 1

    by_domain = noise.domain * rng.standard_normal((seeds, DOMAINS))[:, domain]
    change = (
        effect
        + noise.seed * rng.standard_normal((seeds, 1))
        + by_domain
        + noise.item * heavy(1, items)
        + noise.cell * heavy(seeds, items)
    )
    numbers = tuple(range(seeds))

    def arm(name: str, kind: str, per_token: Any) -> ArmResults:
        return ArmResults(
            name, kind, numbers, ItemValues(per_token * weights, weights, np.zeros_like(domain), ("all",))
        )

    return [arm("random", "baseline", level), arm("recipe", "recipe", level + change)]


def planned(noise: Noise, seeds: int, items: int) -> VarianceParts:
    """The spread that the true noise implies, with items of the mean unevenness."""
    weights = np.resize(np.arange(4, 40), items).astype(np.float64)
    return VarianceParts.of(noise.components(weights, np.arange(items) % DOMAINS), seeds, items)


def learning(rng: np.random.Generator, seeds: int, spread: float, faster: float = 0.0) -> list[ArmResults]:
    """A baseline and a recipe that learns `faster` (a log ratio of tokens), with a curve for each seed.

    Args:
        rng: the draws.
        seeds: per arm.
        spread: standard deviation of a run's log speed.
        faster: how much longer the recipe takes, as a log ratio; negative is sooner.
    """
    grid = np.linspace(0.0, 200_000.0, 81)

    def curve(shift: float) -> Curve:
        used = grid * math.exp(-shift - spread * rng.standard_normal())
        loss = 1.0 + 3.0 / (1 + used / 20_000) ** 0.7  # a power law: no run is ever done
        return Curve(grid, grid / 3000, loss + 0.002 * rng.standard_normal(len(grid)))

    def arm(name: str, kind: str, shift: float) -> ArmResults:
        values = LOSS + rng.standard_normal((seeds, 30))
        end = ItemValues(values, np.ones(30), np.zeros(30, dtype=np.int64), ("all",))
        return ArmResults(name, kind, tuple(range(seeds)), end, curves=tuple(curve(shift) for _ in range(seeds)))

    return [arm("random", "baseline", 0.0), arm("recipe", "recipe", faster)]


@dataclass
class Tally:
    """What many verdicts on the same truth said."""

    words: Counter[str]
    covered: int = 0
    detectable: float = 0.0  # mean of what each verdict says it could find, nats per token or log ratio

    @property
    def times(self) -> int:
        """How many there were."""
        return sum(self.words.values())

    def share(self, *words: str) -> float:
        """Share of verdicts with one of these words."""
        return sum(self.words[word] for word in words) / self.times


def tally(judged: Iterable[Judgement | Speed], truth: float) -> Tally:
    """Count words, and intervals that hold the truth."""
    found = Tally(Counter())
    for one in judged:
        difference = one.charged if isinstance(one, Speed) else one.difference
        found.words[one.verdict or "refused"] += 1
        if difference is not None and difference.low is not None and difference.high is not None:
            found.covered += difference.low <= truth <= difference.high
            found.detectable += difference.detectable or 0.0
    found.detectable /= found.times
    return found


def ends(noise: Noise, seeds: int, items: int, effect: float, options: argparse.Namespace) -> Tally:
    """Verdicts at the end of training of many simulated comparisons."""
    rng = np.random.default_rng([options.seed, seeds, items, NOISES.index(noise)])
    draws = (simulate(rng, noise, seeds, items, effect) for _ in range(options.times))
    return tally((judge(arms, resamples=options.resamples).judgements["recipe"] for arms in draws), effect)


def speeds(seeds: int, spread: float, faster: float, options: argparse.Namespace) -> Tally:
    """Verdicts on speed of many simulated comparisons."""
    rng = np.random.default_rng([options.seed, seeds, round(1000 * spread)])
    draws = (learning(rng, seeds, spread, faster) for _ in range(options.times))
    return tally((judge_speed(recipe, base) for base, recipe in draws), faster)


# -- real runs ---------------------------------------------------------------------------------------------------------


def baseline_of(folder: Path) -> ArmResults:
    """The baseline's runs of a comparison's folder."""
    results = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("runs/*/seed-*/result.json"))]
    return arm_of([result for result in results if result["kind"] == "baseline"])


def group(arm: ArmResults, places: Sequence[int], name: str, kind: str) -> ArmResults:
    """Some seeds of an arm, as an arm of its own numbered from 0."""
    return ArmResults(
        name,
        kind,
        tuple(range(len(places))),
        arm.end.take(places),
        arm.trained[list(places)],
        curves=tuple(replace(arm.curves[place], cost=0.0) for place in places),
    )


def splits(arm: ArmResults, options: argparse.Namespace) -> Iterator[Verdict]:
    """Verdicts on random disjoint groups of seeds."""
    rng, half = np.random.default_rng(options.seed), len(arm.seeds) // 2
    for _ in range(options.times):
        places = rng.permutation(len(arm.seeds)).tolist()
        pair = [
            group(arm, places[:half], "random", "baseline"),
            group(arm, places[half : 2 * half], "recipe", "recipe"),
        ]
        yield judge(pair, resamples=options.resamples)


def real(folder: Path, options: argparse.Namespace) -> str:
    """The table of A/A comparisons of real runs."""
    arm = baseline_of(folder)
    if len(arm.seeds) < 4:
        raise SystemExit(f"`--runs` must hold at least 4 seeds of the baseline, got {len(arm.seeds)}. Run more seeds.")
    verdicts = list(splits(arm, options))
    lines = [_heading("verdict on", "seeds of an arm", "false alarms", *WORDS[2:])]
    for speed in (False, True):
        found = tally([(one.speed if speed else one.judgements)["recipe"] for one in verdicts], 0.0)
        lines.append(
            _line(
                "speed" if speed else "the end",
                str(len(arm.seeds) // 2),
                f"{found.share(HELPED, HURT):.1%}",
                *(f"{found.share(word):.1%}" for word in WORDS[2:]),
            )
        )
    return "\n".join(
        [f"{options.times} random splits of {len(arm.seeds)} runs ({arm.end.n_items} items); splits overlap.\n", *lines]
    )


# -- tables ------------------------------------------------------------------------------------------------------------


def alarms(options: argparse.Namespace) -> Iterator[str]:
    """False alarms, coverage and words where there is no difference, line by line."""
    yield _heading("noise", "seeds", "items", "false alarms", "truth in interval", *WORDS[2:])
    for noise in NOISES:
        for seeds in options.seeds:
            for items in options.items:
                found = ends(noise, seeds, items, 0.0, options)
                yield _line(
                    noise.name,
                    str(seeds),
                    str(items),
                    f"{found.share(HELPED, HURT):.1%}",
                    f"{found.covered / found.times:.1%}",
                    *(f"{found.share(word):.1%}" for word in WORDS[2:]),
                )


def found_effects(options: argparse.Namespace) -> Iterator[str]:
    """How often planted effects are found, as multiples of the minimum detectable one, line by line."""
    header = [f"at {times:g} ×" for times in options.multiples]
    yield _heading("noise", "seeds", "items", "MDE, nats", "stated after, mean", *header, "wrong sign")
    for noise in NOISES:
        for seeds in options.seeds:
            for items in options.items:
                size = planned(noise, seeds, items).detectable()
                found = [ends(noise, seeds, items, -size * times, options) for times in options.multiples]
                yield _line(
                    noise.name,
                    str(seeds),
                    str(items),
                    f"{size:.3f}",
                    f"{found[0].detectable:.3f}",
                    *(f"{one.share(HELPED):.1%}" for one in found),
                    f"{max(one.share(HURT) for one in found):.1%}",
                )


def missed(options: argparse.Namespace) -> Iterator[str]:
    """The words on an effect of exactly the size worth finding: "no detectable difference" may be said of 20 in 100."""
    yield _heading("noise", "seeds", "items", *WORDS)
    for noise in NOISES:
        for seeds in options.seeds:
            for items in options.items:
                found = ends(noise, seeds, items, -EFFECT * LOSS, options)
                yield _line(noise.name, str(seeds), str(items), *(f"{found.share(word):.1%}" for word in WORDS))


def speed_table(options: argparse.Namespace) -> Iterator[str]:
    """The same of speed: false alarms, and planted savings."""
    header = [f"found at {times:g} ×" for times in options.multiples]
    yield _heading("spread of runs", "seeds", "false alarms", "truth in interval", "MDE, tokens saved", *header)
    for spread in (0.03, 0.15):
        for seeds in options.seeds:
            size = speed_planned(spread, seeds, options)
            none = speeds(seeds, spread, 0.0, options)
            found = [speeds(seeds, spread, -size * times, options) for times in options.multiples]
            yield _line(
                f"{spread:.0%}",
                str(seeds),
                f"{none.share(HELPED, HURT):.1%}",
                f"{none.covered / none.times:.1%}",
                f"{-math.expm1(-size):.1%}",
                *(f"{one.share(HELPED):.1%}" for one in found),
            )


def speed_planned(spread: float, seeds: int, options: argparse.Namespace) -> float:
    """The detectable log ratio that the true variance implies, from a thousand seeds of an A/A comparison."""
    base, recipe = learning(np.random.default_rng([options.seed, 1]), 1000, spread)
    charged = judge_speed(recipe, base).charged
    assert charged is not None
    assert charged.stderr is not None
    return VarianceParts(1000 * charged.stderr**2 / seeds, 0.0, 0.0, seeds, 10**9).detectable()


TABLES = {"alarms": alarms, "power": found_effects, "missed": missed, "speed": speed_table}


def _heading(*cells: str) -> str:
    return f"{_line(*cells)}\n{_line(*('---' for _ in cells))}"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="a comparison's folder with many seeds of the baseline")
    parser.add_argument("--times", type=int, help="verdicts per cell; 1000 simulated, 200 of real runs")
    parser.add_argument("--seed", type=int, default=0, help="of all draws")
    parser.add_argument("--resamples", type=int, default=999, help="of each bootstrap")
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5, 10], help="seeds per arm")
    parser.add_argument("--items", type=int, nargs="+", default=[60, 400], help="test items")
    parser.add_argument("--multiples", type=float, nargs="+", default=[0.5, 1.0, 1.5], help="of the detectable effect")
    parser.add_argument("--parts", nargs="+", choices=list(TABLES), default=list(TABLES))
    options = parser.parse_args(arguments)
    if options.runs and any(getattr(options, name) != parser.get_default(name) for name in ("seeds", "items", "parts")):
        parser.error("--runs splits the runs that are there into halves: leave out --seeds, --items and --parts")
    options.times = options.times or (200 if options.runs else 1000)
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    options = parse(arguments)
    started = time.perf_counter()
    if options.runs:
        print(real(options.runs, options))
    else:
        for part in options.parts:
            for line in TABLES[part](options):
                print(line, flush=True)
            print()
    worth = f"effect worth finding {EFFECT:.0%}" if not options.runs else f"seed {options.seed}"
    print(f"{options.times} verdicts a cell, {worth}, {time.perf_counter() - started:.0f} s.")


if __name__ == "__main__":
    main()
