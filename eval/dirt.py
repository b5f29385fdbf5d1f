"""Is the estimate of dirt honest? Records with a known truth, simulated and trained: does its interval hold it?

    python -m eval.dirt simulated --seed 1 --times 150         records, a minute or two
    python -m eval.dirt trained runs/situations runs/suspects  sets that were trained and kept
    python -m eval.dirt looks runs/situations                  what `act: auto` would have done, look by look

A simulated record draws everything at random: rows (300 to 20 000), passes (one to three), domains (one to six, of
uneven size, and wrong in uneven shares), what a row's hardness is like (`SHAPES`: normal, heavy on both sides, kinds
of questions that the model cannot answer yet, known by heart, leaning to the hard side), how much of it the lengths of
prompt and answer tell, how fast rows are learned, how much two visits of one row differ, and how far a wrong answer
lies above a right one.

Trained sets are the arms `random` of `eval/situations`, and what `eval.suspects run` has kept; what they say after
their first pass is judged too, from the same visits. Formulas and constants were decided on the simulated seed 0 and
the sets 200 to 207 of `eval/suspects`.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from campus_tune.method.cells import Cells
from campus_tune.method.dirt import Dirt, estimate_dirt
from campus_tune.method.earned import LOOKS, convincing, enough
from campus_tune.method.suspicion import LOG_FLOOR, of_training
from campus_tune.words.types import BoolArray, FloatArray, IntArray

SIZES = (300, 600, 1440, 4000, 20_000)
SHARES = (0.0, 0.0, 0.01, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
SHAPES = ("normal", "heavy", "kinds", "by heart", "hard side")


@dataclass(frozen=True, eq=False)
class Record:
    """What a run leaves, and the truth.

    Args:
        rows: of all visits in the sequence of training, shape (V,).
        losses: of each visit, nats per token, shape (V,).
        tokens: of each row's answer, shape (N,).
        prompts: tokens of each row's prompt, shape (N,).
        domain: of each row, shape (N,).
        names: of the domains.
        wrong: which rows are, shape (N,).
    """

    rows: IntArray
    losses: FloatArray
    tokens: IntArray
    prompts: IntArray
    domain: IntArray
    names: Sequence[str]
    wrong: BoolArray

    def after(self, passes: float) -> Record:
        """The same after its first passes, or a part of one."""
        seen = slice(round(passes * len(self.wrong)))
        return Record(**{**vars(self), "rows": self.rows[seen], "losses": self.losses[seen]})

    @property
    def passes(self) -> int:
        """How often each row was seen."""
        return round(len(self.rows) / len(self.wrong))

    def dirt(self, *, by_domain: bool = True) -> Dirt:
        """What the estimate says."""
        cells = Cells.cut(self.tokens.astype(np.float64), domains=self.domain, domain_names=self.names)
        suspicion = of_training(
            self.rows,
            self.losses,
            cells.codes,
            len(self.wrong),
            tokens=self.tokens,
            groups=self.domain,
            prompts=self.prompts,
        )
        return estimate_dirt(suspicion, domains=self.domain, names=self.names if by_domain else [])


def simulated(rng: np.random.Generator, *, n: int, share: float, shape: str, passes: int) -> Record:
    """A record of a run, all else drawn.

    Args:
        rng: the draws.
        n: rows.
        share: of them that are wrong.
        shape: of their hardness, one of `SHAPES`.
        passes: over all of them, each in a sequence of its own.
    """
    k = int(rng.integers(1, 7))
    domain = rng.choice(k, n, p=rng.dirichlet(np.full(k, 3.0)))
    odds = rng.gamma(2.0, size=k)[domain]  # some domains are dirtier
    wrong = np.zeros(n, dtype=bool)
    wrong[rng.choice(n, round(share * n), replace=False, p=odds / odds.sum())] = True
    tokens = 1 + np.round(np.exp(rng.normal(2.5, 0.6, n) + rng.normal(0, 0.4, k)[domain])).astype(np.int64)
    prompts = 4 + np.round(np.exp(rng.normal(3.2, 0.5, n) + rng.normal(0, 0.4, k)[domain])).astype(np.int64)
    hard = hardness(rng, shape, n)
    told = rng.uniform(0, 0.4, 2)  # of the lengths
    hard += told[0] * np.log(tokens / 12) + told[1] * np.log(prompts / 24) + rng.normal(0, 0.5, k)[domain]
    noise, speed = rng.uniform(0.3, 0.9), rng.uniform(0.1, 0.8)
    far, broad = rng.uniform(2.5, 4.5), rng.uniform(0.8, 1.6)
    above = np.where(wrong, np.maximum(far + broad * rng.standard_normal(n), 0), 0.0)
    base, learns = rng.uniform(-2, 0), np.where(wrong, 0.2, 1.0) * rng.gamma(4.0, 0.25, n)
    rows = np.concatenate([rng.permutation(n) for _ in range(passes)])
    progress = np.log1p(4 * np.arange(passes * n) / n)
    log_loss = base + hard[rows] - speed * progress * learns[rows] + above[rows]
    log_loss += noise * rng.standard_t(6, passes * n)
    losses = np.maximum(np.exp(log_loss) - LOG_FLOOR, 0.0)
    return Record(rows, losses, tokens, prompts, domain, [f"d{i}" for i in range(k)], wrong)


def hardness(rng: np.random.Generator, shape: str, n: int) -> FloatArray:
    """Log losses of n right rows from their middle."""
    core = rng.standard_normal(n)
    if shape == "heavy":
        core = rng.standard_t(5, n)
    elif shape == "kinds":
        core += 1.2 * (rng.random(n) < rng.uniform(0.1, 0.3))
    elif shape == "by heart":
        core = -np.log(rng.gamma(6.0, size=n) / 6) * -2.2
    elif shape == "hard side":
        core = -np.log(rng.gamma(12.0, size=n) / 12) * 3.2
    return np.asarray(core, dtype=np.float64)


def drawn(seed: int, times: int) -> Iterator[tuple[str, Record]]:
    """Simulated records, each with the shape of its hardness."""
    rng = np.random.default_rng(seed)
    for number in range(times):
        n, share = int(rng.choice(SIZES, p=(0.2, 0.25, 0.3, 0.2, 0.05))), float(rng.choice(SHARES))
        shape, passes = SHAPES[number % len(SHAPES)], int(rng.integers(1, 4))
        own = np.random.default_rng([seed, number])
        yield shape, simulated(own, n=n, share=share, shape=shape, passes=passes)


def kept(folders: Sequence[Path]) -> Iterator[tuple[str, Record]]:
    """The records of trained sets, each with what was planted."""
    for folder in folders:
        for path in sorted(folder.glob("*/random/seed-*/visits.npz")):
            visits, rows = np.load(path), np.load(path.with_name("rows.npz"))
            named = [str(name) for name in rows["domains"]]
            of_rows = rows["answer_tokens"], rows["prompt_tokens"], rows["domain"], named, rows["wrong"]
            yield path.parts[-4], Record(visits["row"], visits["nll_sum"] / visits["tokens"], *of_rows)
        for path in sorted(folder.glob("*-seed-*.npz")):
            run = np.load(path)
            named = [str(name) for name in run["domains"]]
            of_rows = run["row_tokens"], run["row_prompt"], run["row_domain"], named, run["row_wrong"]
            planted = path.name.split("-seed-")[0]
            yield planted, Record(run["visit_row"], run["visit_nll_sum"] / run["visit_tokens"], *of_rows)


# -- judging -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """One estimate, and the truth.

    Args:
        of: what it is an estimate of.
        passes: how often rows were seen.
        truth: share of wrong rows.
        found: the estimate.
        by_domain: share of wrong rows of each domain that was judged.
    """

    of: str
    passes: int
    truth: float
    found: Dirt
    by_domain: tuple[float, ...]

    @staticmethod
    def about(of: str, record: Record) -> Asked:
        """Ask about a record."""
        found = record.dirt()
        domains = [record.names.index(name) for name in found.by_domain]
        shares = tuple(float(record.wrong[record.domain == code].mean()) for code in domains)
        return Asked(of, record.passes, float(record.wrong.mean()), found, shares)


def holds(found: Dirt, truth: float) -> bool:
    """Whether the truth lies in an interval."""
    return found.low <= truth <= found.high


def tally(asked: Sequence[Asked]) -> str:
    """A line of the table."""
    dirty, clean = ([one for one in asked if (one.truth > 0) is there] for there in (True, False))
    domains = [pair for one in asked for pair in zip(one.found.by_domain.values(), one.by_domain, strict=True)]
    quiet_domains = [found for found, truth in domains if truth == 0]
    cells = (
        part_of([holds(one.found, one.truth) for one in asked]),
        part_of([not one.found.seen for one in clean]),
        part_of([one.found.seen for one in dirty]),
        mean_of([one.found.share - one.truth for one in dirty]),
        mean_of([one.found.high - one.found.low for one in dirty]),
        mean_of([one.found.high for one in clean]),
        part_of([holds(found, truth) for found, truth in domains]),
        part_of([not found.seen for found in quiet_domains]),
    )
    return " | ".join(cells)


def part_of(values: Sequence[bool]) -> str:
    """How many of them hold.

    >>> part_of([True, False, True]), part_of([])
    ('2 of 3 (67 %)', '-')
    """
    return f"{sum(values)} of {len(values)} ({100 * sum(values) / len(values):.0f} %)" if values else "-"


def mean_of(values: Sequence[float]) -> str:
    """Their mean as a share of rows."""
    return f"{float(np.mean(values)):.3f}" if values else "-"


def table(asked: Sequence[Asked]) -> Iterator[str]:
    """By what the estimates are of and how often rows were seen, and all of them."""
    columns = (
        "of", "passes", "interval holds the truth", "none to be seen at 0", "seen where there are some",
        "share less the truth", "width", "high at 0", "by domain: holds", "none at 0",
    )  # fmt: skip
    yield f"| {' | '.join(columns)} |"
    yield "| --- " * len(columns) + "|"
    kinds: dict[tuple[str, str], list[Asked]] = {}
    for one in asked:
        seen = "1" if one.passes == 1 else "2 or more"
        for key in ((one.of, seen), ("all", seen), ("all", "all")):
            kinds.setdefault(key, []).append(one)
    for (of, seen), some in sorted(kinds.items(), key=lambda pair: (pair[0][0] == "all", pair[0])):
        yield f"| {of} | {seen} | {tally(some)} |"


def looks(of: str, record: Record) -> str:
    """What `act: auto` would have seen: the estimate at each look before the end, and the one that was convincing."""
    seen, n_enough, wrong = [0.0], 0, float(record.wrong.mean())
    for look in range(1, LOOKS * record.passes):
        found = record.after(look / LOOKS).dirt(by_domain=False)
        n_enough += enough(found)
        if enough(found) and convincing(look, n_enough):
            return f"{of}: truth {wrong:.3f}, acts after {look / LOOKS:g} passes at {found.low:.3f} to {found.high:.3f}"
        seen.append(found.low)
    return f"{of}: truth {wrong:.3f}, never acts; enough in {n_enough} looks, the highest lower end {max(seen):.3f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    simulate = commands.add_parser("simulated", help="simulated records")
    simulate.add_argument("--seed", type=int, default=1)
    simulate.add_argument("--times", type=int, default=150, help="records")
    for name in ("trained", "looks"):
        commands.add_parser(name).add_argument("keep", type=Path, nargs="+", metavar="DIR")
    for command in commands.choices.values():
        command.add_argument("--processes", type=int, default=1)
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    records: Iterable[tuple[str, Record]]
    records = drawn(options.seed, options.times) if options.command == "simulated" else kept(options.keep)
    if options.command == "trained":
        records = [pair for of, record in records for pair in _each_pass(of, record)]
    with ProcessPoolExecutor(options.processes) as pool:
        if options.command == "looks":
            told = list(pool.map(looks, *zip(*records, strict=True)))
            acts = Counter((line.split(":")[0], "never acts" not in line) for line in told)
            print("\n".join(told))
            print(
                "\n".join(f"{of}: {'acts' if acted else 'never acts'} {n}" for (of, acted), n in sorted(acts.items()))
            )
        else:
            print("\n".join(table(list(pool.map(Asked.about, *zip(*records, strict=True))))))
    print(f"\n{time.perf_counter() - began:.0f} s")


def _each_pass(of: str, record: Record) -> Iterator[tuple[str, Record]]:
    """A record after its first pass, and whole."""
    yield of, record.after(1)
    if record.passes > 1:
        yield of, record


if __name__ == "__main__":
    main()
