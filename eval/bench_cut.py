"""How evenly an optimizer step is cut into micro batches, and what that costs, beside other ways to cut the same rows.

    as drawn    rows in the sequence of the plan, equal numbers: what a trainer's own loader does
    equal       sorted by length, equal numbers: what `batching: step` was before
    even        sorted by length, equal costs (`batching: step`)
    packed      flat rows, equal tokens (`batching: flat`)
    Trainer's   transformers' BatchRebalanceSampler, fed with the same steps

Of each, on the layouts (rows of a micro batch × accumulation × ranks) whose numbers are in the LOG:

    padding     share of what the model computes that is padding
    largest     tokens of the largest micro batch, padding included: what memory must hold
    slowest     what the ranks wait for, Σ over accumulation steps of the largest rank, over a rank's fair share of the
                rows' own tokens: 1 is no padding and no waiting
    ms          processor milliseconds of one cut, the median over all steps, all ways in turns

    python eval/bench_cut.py                                        # lognormal lengths like those of the mix
    python eval/bench_cut.py --rows train.jsonl.gz --model FOLDER   # of conversations, counted by a model's tokenizer

The goals are printed last, each reached or missed; the exit status is 1 where one is missed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from campus_tune.run.stream.micro_batches import Cut, split_step
from campus_tune.words.types import FloatArray, IntArray, RowArray

LAYOUTS = ((8, 4, 1), (4, 4, 1), (8, 1, 1), (8, 4, 2), (16, 8, 1), (2, 16, 1), (8, 1, 8))  # the last for its ranks
WAYS = ("as drawn", "equal", "even", "packed", "Trainer's")
MOST = {"even": 1.25, "packed": 1.05}  # times its fair share that the slowest of several ranks may have
MS = 0.2  # of a step of 32 rows
ROUNDED = 1.0005  # what is compared is printed with three digits

Split = list[list[RowArray]]


@dataclass(frozen=True)
class Cuts:
    """What one way makes of the steps of one layout.

    Args:
        padding: share of tokens that are padding.
        largest: tokens of the largest micro batch.
        slowest: the slowest rank's tokens, over its fair share.
        ms: processor milliseconds of a cut.
    """

    padding: float
    largest: int
    slowest: float
    ms: float


def main() -> None:
    """Measure, and print a markdown table and the goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, help="a .jsonl or .jsonl.gz of conversations; made-up lengths without it")
    parser.add_argument("--model", help="whose tokenizer counts them")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    lengths = lengths_of(options.rows, options.model) if options.rows else made_up(options.seed)
    quantiles = np.quantile(lengths, [0, 0.25, 0.5, 0.75, 0.95, 1]).astype(int).tolist()
    print(f"{len(lengths)} rows, {lengths.sum()} tokens, quantiles 0 25 50 75 95 100: {quantiles}\n")
    print(
        "| rows × accumulation × ranks | "
        + " | ".join(f"{way}" for way in WAYS)
        + " |\n|---"
        + "|---" * len(WAYS)
        + "|"
    )
    found = {}
    for layout in LAYOUTS:
        found[layout] = measured(lengths, layout, options.seed)
        cells = [
            f"{c.padding:.3f}, {c.largest}, {c.slowest:.2f}, {c.ms:.3f} ms"
            for c in (found[layout][way] for way in WAYS)
        ]
        print(f"| {' × '.join(map(str, layout))} | " + " | ".join(cells) + " |", flush=True)
    print("\nEach cell: padding, largest micro batch, slowest rank, time of a cut.\n")
    missed = 0
    for goal, reached in goals(found):
        missed += not reached
        print(f"{'reached' if reached else 'MISSED'}: {goal}")
    sys.exit(min(missed, 1))


def made_up(seed: int, n: int = 10_364) -> IntArray:
    """Lengths with the quartiles and the cut end of the mix."""
    drawn = np.random.default_rng(seed).lognormal(np.log(112), 0.6, n)
    return drawn.clip(35, 669).astype(np.int64)


def lengths_of(path: Path, model: str | None) -> IntArray:
    """Tokens of conversations under a model's chat template."""
    from transformers import AutoTokenizer

    if model is None:
        raise SystemExit("`--rows` must have --model, whose tokenizer counts them. Name a model's folder.")
    tokenizer = AutoTokenizer.from_pretrained(model)
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
        texts = [tokenizer.apply_chat_template(json.loads(line)["messages"], tokenize=False) for line in lines]
    return np.array([len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]])


def measured(lengths: IntArray, layout: tuple[int, int, int], seed: int = 0) -> dict[str, Cuts]:
    """Every way on the same steps of one shuffled epoch, in turns.

    Args:
        lengths: tokens of each row.
        layout: rows of a micro batch, accumulation, ranks.
        seed: of the shuffle.
    """
    micro, accumulation, world = layout
    size = micro * accumulation * world
    order = np.random.default_rng(seed).permutation(len(lengths)).astype(np.int32)
    steps = order[: len(order) // size * size].reshape(-1, size)
    ways = ways_of(lengths, layout)
    splits: dict[str, list[Split]] = {way: [] for way in ways}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for rows in steps:
        for way, cut in ways.items():
            began = time.thread_time()
            split = cut(rows)
            seconds[way].append(time.thread_time() - began)
            splits[way].append(split)
    return {way: summed_up(splits[way], lengths, 1e3 * float(np.median(seconds[way])), way) for way in ways}


def ways_of(lengths: IntArray, layout: tuple[int, int, int]) -> dict[str, Callable[[RowArray], Split]]:
    """How each way cuts the rows of a step.

    Args:
        lengths: tokens of each row.
        layout: rows of a micro batch, accumulation, ranks.
    """
    micro, accumulation, world = layout

    def ours(cut: Cut) -> Callable[[RowArray], Split]:
        return lambda rows: split_step(rows, lengths, micro=micro, world=world, cut=cut)

    def equal(rows: RowArray) -> Split:
        parts = np.array_split(rows[np.argsort(lengths[rows], kind="stable")], accumulation * world)
        return [parts[a * world : (a + 1) * world] for a in range(accumulation)]

    def trainers(rows: RowArray) -> Split:
        from transformers.trainer_pt_utils import BatchRebalanceSampler

        sampler: Any = BatchRebalanceSampler(lengths[rows].tolist(), len(rows), world, accumulation, shuffle=False)
        of_ranks = sampler._assign(rows.tolist(), lengths[rows].tolist())
        return [[np.array(of_ranks[rank][a]) for rank in range(world)] for a in range(accumulation)]

    return {
        "as drawn": ours("drawn"),
        "equal": equal,
        "even": ours("even"),
        "packed": ours("packed"),
        "Trainer's": trainers,
    }


def summed_up(splits: list[Split], lengths: IntArray, ms: float, way: str) -> Cuts:
    """What is told of the cuts of many steps.

    Args:
        splits: of each step.
        lengths: tokens of each row.
        ms: of one cut.
        way: `packed` rows have no padding.
    """
    tokens = [[[int(lengths[part].sum()) for part in ranks] for ranks in split] for split in splits]
    padded = [[[len(part) * int(lengths[part].max()) for part in ranks] for ranks in split] for split in splits]
    own, cost = np.array(tokens), np.array(tokens if way == "packed" else padded)  # (steps, accumulation, ranks)
    fair: FloatArray = own.sum((1, 2)) / own.shape[2]
    slowest = float((cost.max(2).sum(1) / fair).mean())
    return Cuts(float(1 - own.sum() / cost.sum()), int(cost.max()), slowest, ms)


def goals(found: dict[tuple[int, int, int], dict[str, Cuts]]) -> Iterator[tuple[str, bool]]:
    """Each goal in words, and whether it was reached."""
    for layout, ways in found.items():
        name, even, theirs = " × ".join(map(str, layout)), ways["even"], ways["Trainer's"]
        padding = even.padding <= theirs.padding * ROUNDED
        yield f"{name}: padding {even.padding:.3f} ≤ {theirs.padding:.3f} of the Trainer's rebalancing", padding
        yield f"{name}: largest micro batch {even.largest} ≤ {theirs.largest} of it", even.largest <= theirs.largest
        if layout[2] > 1:
            for way, most in MOST.items():
                slowest = ways[way].slowest
                yield f"{name}: {way}, the slowest rank has {slowest:.3f} ≤ {most} × its fair share", slowest <= most
    ms = found[8, 4, 1]["even"].ms
    yield f"8 × 4 × 1: a cut takes {ms:.3f} ≤ {MS} ms", ms <= MS


if __name__ == "__main__":
    main()
