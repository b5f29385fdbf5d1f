"""What it costs `robust` that its level stands still for a stage, against one that moves with every step.

    python -m eval.robust_level --keep runs/robust                three seeds, clean rows and 30 % wrong answers
    python -m eval.robust_level --keep /tmp/quick --quick         seconds: whether it works

The product compares a row's loss with its cell's level as it was at the stage's opening, which every rank knows
without a word; a level that moves with every step is fresher, and costs an exchange between the ranks in each of them.
Here both are trained in a plain loop on the same batches of the tiny Llama of `eval/suspects.py`, by the product's own
weights (`campus_tune.method.weighting`):

    none          every row counts 1
    stage         the product: level and mean weight of the stage's opening, ten stages
    step          the level moves with every step, rows of all ranks; the mean weight stays the stage's
    step, mean    and weights are divided by their mean over this very step, as the sketch had them

Held-out loss of right answers, against `none` with the same seed; and the mean weight of wrong and of right rows.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from campus_tune.demo.tiny import tiny_model
from campus_tune.method.cells import Cells
from campus_tune.method.levels import Groups, Levels, Running, Visits
from campus_tune.method.weighting import Entry, Live, Weighting
from campus_tune.method.weights import build_weight
from campus_tune.words.files import atomic_write
from campus_tune.words.types import BoolArray, FloatArray, IntArray, Json
from eval.suspects import BATCH, RATE, answered, held_out, interval, planted_rows, seeds_of, start_model, token_losses
from eval.weights import DIRT, ROWS, loss_of_run, test_rows

STAGES, EPOCHS, WARM = 10, 2, 10
NONE, STAGE, STEP, STEP_MEAN = "none", "stage", "step", "step, mean"


@dataclass(frozen=True, eq=False)
class Data:
    """The rows of a run: as token ids and places of their answers, their cells, and which of them are wrong."""

    pairs: Sequence[tuple[list[int], int]]
    tokens: IntArray
    cells: Groups
    wrong: BoolArray

    @staticmethod
    def of(rows: Sequence[Json], wrong: BoolArray) -> Data:
        """Cells as a recipe has them: five bands of length inside each domain."""
        pairs = answered(rows)
        tokens = np.array([len(ids) - prompt for ids, prompt in pairs])
        names = sorted({row["domain"] for row in rows})
        domains = np.array([names.index(row["domain"]) for row in rows])
        cells = Cells.cut(tokens.astype(np.float64), domains=domains, domain_names=names)
        return Data(pairs, tokens, Groups(cells.codes, cells.names), wrong)


class Loop:
    """A plain training loop under `robust`.

    Args:
        data: the rows.
        level: one of the four.
        seed: of the batches.
    """

    def __init__(self, data: Data, level: str, seed: int) -> None:
        self.data, self.level = data, level
        robust = Entry("robust", build_weight("robust"), since=0.1)
        self.weighting = Weighting([robust], tokens=data.tokens, global_batch=BATCH, cells=data.cells)
        self.running = Running(data.cells)  # moved with every step
        self.weights: list[tuple[IntArray, FloatArray]] = []
        rng, n = np.random.default_rng(seed), len(data.pairs)
        every = [rng.permutation(n)[: n // BATCH * BATCH].reshape(-1, BATCH) for _ in range(EPOCHS)]
        self.batches = np.concatenate(every)
        self.openings = set(np.linspace(0, len(self.batches), STAGES, endpoint=False).astype(int).tolist())

    def train(self, model: Any) -> None:
        """All steps."""
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
        n_steps, live, stage = len(self.batches), Live(), Visits.none()
        model.train()
        for step, rows in enumerate(self.batches):
            if step in self.openings:
                self.weighting.close(**vars(stage))
                live, stage = self.weighting.live(step / n_steps), Visits.none()
            for group in optimizer.param_groups:
                group["lr"] = RATE * min((step + 1) / WARM, 1 - step / n_steps)
            losses, row = token_losses(model, [self.data.pairs[i] for i in rows.tolist()])
            tokens = torch.bincount(row, minlength=len(rows))
            nll = torch.zeros(len(rows)).index_add_(0, row, losses)
            shown = (nll.detach() / tokens).numpy().astype(np.float64)
            weights = self._weights(live, rows, shown)
            optimizer.zero_grad()
            ((torch.from_numpy(weights).float() * nll).sum() / tokens.sum()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            visits = Visits(rows, shown, self.data.tokens[rows], np.ones(len(rows)))
            self.running.take(visits)
            stage = Visits(**{name: np.concatenate([old, vars(visits)[name]]) for name, old in vars(stage).items()})
            self.weights.append((rows, weights))

    def _weights(self, live: Live, rows: IntArray, losses: FloatArray) -> FloatArray:
        """What the rows of a step count, (n,)."""
        if self.level == NONE or not live:
            return np.ones(len(rows))
        if self.level != STAGE:
            (entry,) = live.rows
            fresh = entry.weight.level(Levels(Visits.none(), self.data.cells, self.running), 1.0)
            live = replace(live, rows=(replace(entry, level=fresh),))
        weights = np.asarray(live.of_rows(losses, live.numbers(rows), np))
        tokens = self.data.tokens[rows]
        return weights * tokens.sum() / (weights * tokens).sum() if self.level == STEP_MEAN else weights

    def mean_weights(self) -> dict[str, float | None]:
        """Of wrong and of right rows, over the run."""
        rows, weights = (np.concatenate(parts) for parts in zip(*self.weights, strict=True))
        of = {"wrong": self.data.wrong[rows], "right": ~self.data.wrong[rows]}
        return {name: float(weights[some].mean()) if some.any() else None for name, some in of.items()}


def one_run(start: Path, dirt: str, level: str, seed: int, sizes: dict[int, int]) -> Json:
    """Train once; the loss on each held-out row, and what rows counted."""
    model = start_model(start)
    kind, share = DIRT[dirt]
    rows, wrong = planted_rows(kind, share, seed, model, sizes)
    loop = Loop(Data.of(rows, wrong), level, seed)
    loop.train(model)
    nll, tokens = held_out(model, test_rows(rows, sizes))
    return {"nll": nll.tolist(), "tokens": tokens.tolist(), "weights": loop.mean_weights()}


def run_all(folder: Path, seeds: Sequence[int], sizes: dict[int, int]) -> dict[tuple[str, str], list[Json]]:
    """What is kept, and what is not trained now; by rows and level, one a seed."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[tuple[str, str], list[Json]] = {}
    for seed in seeds:
        for dirt in DIRT:
            for level in (NONE, STAGE, STEP, STEP_MEAN):
                path = folder / f"{dirt}-{level}-seed-{seed}.json".replace(" % ", "-").replace(", ", "-")
                if not path.is_file():
                    began = time.perf_counter()
                    atomic_write(path, json.dumps(one_run(folder / "start", dirt, level, seed, sizes)))
                    print(f"{path.stem}: {time.perf_counter() - began:.0f} s", flush=True)
                found.setdefault((dirt, level), []).append(json.loads(path.read_text()))
    return found


def table(found: dict[tuple[str, str], list[Json]]) -> str:
    """Held-out loss against `none`, and against the product's; what wrong and right rows counted."""
    head = ["rows", "level", "÷ none by seed", "mean", "÷ stage", "weight of wrong rows", "of right ones"]
    lines = [head, ["---"] * len(head)]
    for (dirt, level), runs in found.items():
        losses = {name: [loss_of_run(run) for run in found[dirt, name]] for name in (level, NONE, STAGE)}
        to_none, to_stage = (np.divide(losses[level], losses[name]).tolist() for name in (NONE, STAGE))
        means = [f"{mean:.3f} ± {half:.3f}" for mean, half in (interval(to_none), interval(to_stage))]
        of_rows = [[run["weights"][name] for run in runs] for name in ("wrong", "right")]
        shown = ["-" if None in values else f"{np.mean(values):.3f}" for values in of_rows]
        lines.append([dirt, level, " ".join(f"{ratio:.3f}" for ratio in to_none), *means, *shown])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, required=True, metavar="DIR", help="of the runs; what is there stays")
    parser.add_argument("--seeds", default="0-2", help="0-2, or 0,3,7 (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="few rows of a model that knows nothing, one seed")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    seeds, sizes = (seeds_of(options.seeds)[:1], {0: 60}) if options.quick else (seeds_of(options.seeds), ROWS)
    if options.quick:
        tiny_model(hidden=16).save_pretrained(options.keep / "start")
    print(table(run_all(options.keep, seeds, sizes)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
