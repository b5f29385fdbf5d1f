"""Does it help to let rows and tokens count differently? Each recipe of weights beside its control and plain shuffling.

    python -m eval.weights run --keep runs/weights                   train, three seeds, clean and 30 % wrong answers
    python -m eval.weights table runs/weights                        the table for eval/LOG.md
    python -m eval.weights run --keep /tmp/quick --quick             minutes: whether it works, not what comes out

The tiny Llama of `eval/suspects.py`, which copies and counts a little, is trained through the product on 2 000 rows of
generated tasks (levels 0 to 2), in batches of 32, by a rate that falls linearly, with the `campus` blocks of `recipes/`
in ten stages and for as many epochs as these say, two at most. The number is the mean loss of the answers of 480
held-out rows, all of them right, over that of plain shuffling with the same seed, rows and epochs: below 1 is better.

    uniform_weights     the same rows without weights. Where nothing is thinned that is plain shuffling itself
    shuffled_weights    the same weights, dealt to other rows of the step, or tokens

`row_weights` has a column that nobody has for nothing: the share of three raters who say that the answer is right, each
of whom is right about 70 % of the rows, on clean rows too.

A run is kept as one JSON file: the loss summed over each held-out row, and what the ledger says of its weights.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from campus_tune.compare.arms import make_arms
from campus_tune.demo.tasks import generate
from campus_tune.demo.tiny import tiny_model
from campus_tune.words.files import atomic_write
from campus_tune.words.types import BoolArray, FloatArray, Json
from eval.suspects import DOMAINS, held_out, interval, planted_rows, seeds_of, start_model, trainer_of

ROWS = {0: 100, 1: 100, 2: 300}  # level → rows of each domain
HELD_OUT, HELD_OUT_SEED = 40, 2000  # rows of each domain and level
DIRT = {"clean": ("none", 0.0), "30 % wrong": ("swapped", 0.3)}
RATERS, RIGHT = 3, 0.7
STAGES, MOST_EPOCHS = 10, 2
RECIPES = Path(__file__).parents[1] / "recipes"
RANDOM, RECIPE, UNIFORM, SHUFFLED = "random", "recipe", "uniform_weights", "shuffled_weights"
TRIED = {  # recipe → its controls
    "infobatch": (UNIFORM, SHUFFLED),
    "importance": (UNIFORM, SHUFFLED),
    "self_paced": (SHUFFLED,),
    "focal": (SHUFFLED,),
    "superloss": (SHUFFLED,),
    "robust": (SHUFFLED,),
    "row_weights": (SHUFFLED,),
}


def written(name: str) -> Json:
    """The recipe's file."""
    found: Json = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    return found


def epochs_of(name: str) -> int:
    """Those of its file, two at most."""
    return min(MOST_EPOCHS, int(written(name)["num_train_epochs"]))


def campus_of(name: str, arm: str) -> Json:
    """The `campus` block of an arm, as a comparison has it."""
    block = {**written(name)["campus"], "stages": STAGES}
    made = make_arms(block, {asked: {} for asked in (RANDOM, RECIPE, *TRIED[name])})
    return next(one.campus for one in made if one.name == arm)


def votes(wrong: BoolArray, rng: np.random.Generator) -> FloatArray:
    """The share of the raters who call a row right, (N,)."""
    says_right = (rng.random((RATERS, len(wrong))) < RIGHT) != wrong
    return np.asarray(says_right.mean(axis=0), dtype=np.float64)


def one_run(start: Path, campus: Json, dirt: str, *, epochs: int, seed: int, sizes: dict[int, int]) -> Json:
    """Train once; the loss on each held-out row, and what the ledger says."""
    from campus_tune import CampusCallback
    from campus_tune.run.ledger import read_ledger

    model = start_model(start)
    kind, share = DIRT[dirt]
    rows, wrong = planted_rows(kind, share, seed, model, sizes)
    said = votes(wrong, np.random.default_rng([seed, RATERS]))
    rows = [{**row, "weight": vote} for row, vote in zip(rows, said.tolist(), strict=True)]
    with tempfile.TemporaryDirectory() as out:
        callback = CampusCallback({**campus, "scores": "none", "seed": seed}, report=False)
        trainer = trainer_of(
            model, rows, Path(out), epochs=epochs, seed=seed, callbacks=[callback], lr_scheduler_type="linear"
        )
        trainer.train()
        ledger = read_ledger(Path(out) / "curriculum" / "ledger.jsonl")
    nll, tokens = held_out(model, test_rows(rows, sizes))
    return {
        "nll": nll.tolist(),
        "tokens": tokens.tolist(),
        "weights": [event["weights"] for event in ledger if event["event"] == "stage_end" and "weights" in event],
        "audit": next((event.get("weights_audit") for event in ledger if event["event"] == "end"), None),
    }


def test_rows(rows: Sequence[Json], sizes: dict[int, int]) -> list[Json]:
    """Right rows of the same tasks whose questions are not trained."""
    asked = {row["prompt"][0]["content"] for row in rows}
    drawn = generate(HELD_OUT, seed=HELD_OUT_SEED, levels=sizes, domains=DOMAINS)
    return [row for row in drawn if row["prompt"][0]["content"] not in asked]


# -- all of them -------------------------------------------------------------------------------------------------------


def arms(names: Sequence[str]) -> Iterator[tuple[str, str, int]]:
    """(Recipe, arm, epochs) of all runs of a seed: plain shuffling first."""
    for epochs in sorted({epochs_of(name) for name in names}):
        yield "", RANDOM, epochs
    for name in names:
        for arm in (RECIPE, *TRIED[name]):
            yield name, arm, epochs_of(name)


def file_of(folder: Path, dirt: str, name: str, arm: str, epochs: int, seed: int) -> Path:
    """Where a run is kept."""
    words = [dirt.replace(" % ", "-"), name, arm, f"{epochs}-epochs", f"seed-{seed}"]
    return folder / f"{'-'.join(word for word in words if word)}.json"


def run_all(folder: Path, seeds: Sequence[int], names: Sequence[str], sizes: dict[int, int] | None = None) -> None:
    """Train what is not kept yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for dirt in DIRT:
            for name, arm, epochs in arms(names):
                path = file_of(folder, dirt, name, arm, epochs, seed)
                if path.is_file():
                    continue
                campus, began = campus_of(name or names[0], arm), time.perf_counter()
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    run = one_run(folder / "start", campus, dirt, epochs=epochs, seed=seed, sizes=sizes or ROWS)
                atomic_write(path, json.dumps(run))
                seconds = time.perf_counter() - began
                print(f"{path.stem}: {seconds:.0f} s, {loss_of_run(run):.4f} nats, audit {run['audit']}", flush=True)


def loss_of_run(run: Json) -> float:
    """Mean over all held-out tokens."""
    return float(np.sum(run["nll"]) / np.sum(run["tokens"]))


# -- the table ---------------------------------------------------------------------------------------------------------


def losses(folder: Path, seeds: Sequence[int], dirt: str, name: str, arm: str, epochs: int) -> dict[int, float]:
    """Seed → held-out loss, of the runs that are kept."""
    paths = {seed: file_of(folder, dirt, name, arm, epochs, seed) for seed in seeds}
    return {seed: loss_of_run(json.loads(path.read_text())) for seed, path in paths.items() if path.is_file()}


def against(ours: dict[int, float], theirs: dict[int, float]) -> tuple[str, str]:
    """(The ratios by seed, their mean and 95 % interval) of two arms, seed by seed."""
    ratios = [loss / theirs[seed] for seed, loss in ours.items() if seed in theirs]
    if not ratios:
        return "-", "-"
    mean, half = interval(ratios)
    return " ".join(f"{ratio:.3f}" for ratio in ratios), f"{mean:.3f} ± {half:.3f}"


def ess_of(folder: Path, seeds: Sequence[int], dirt: str, name: str, arm: str, epochs: int) -> str:
    """The effective share of the rows, averaged over stages and seeds."""
    paths = [file_of(folder, dirt, name, arm, epochs, seed) for seed in seeds]
    runs = [json.loads(path.read_text()) for path in paths if path.is_file()]
    shares = [stage["ess"] for run in runs for stage in run["weights"]]
    return f"{np.mean(shares):.2f}" if shares else "-"


def table(folder: Path, seeds: Sequence[int], names: Sequence[str]) -> str:
    """Every recipe and control against plain shuffling, and every recipe against its controls."""
    head = ["rows", "recipe", "arm", "epochs", "÷ random by seed", "mean", "÷ uniform", "÷ shuffled", "effective share"]
    lines = [head, ["---"] * len(head)]
    for dirt in DIRT:
        for name, arm, epochs in arms(names):
            ours = losses(folder, seeds, dirt, name, arm, epochs)
            if not ours:
                continue
            if arm == RANDOM:
                shown = " ".join(f"{loss:.3f}" for loss in ours.values())
                lines.append([dirt, "", arm, str(epochs), f"{shown} nats", "1", "", "", ""])
                continue
            ratios, mean = against(ours, losses(folder, seeds, dirt, "", RANDOM, epochs))
            beside = [
                against(ours, losses(folder, seeds, dirt, name, control, epochs))[1]
                if arm == RECIPE and control in TRIED[name]
                else ""
                for control in (UNIFORM, SHUFFLED)
            ]
            ess = ess_of(folder, seeds, dirt, name, arm, epochs)
            lines.append([dirt, name, arm, str(epochs), ratios, mean, *beside, ess])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("run", help="train what is not kept yet")
    train.add_argument("--keep", type=Path, required=True, metavar="DIR")
    train.add_argument("--quick", action="store_true", help="few rows of a model that knows nothing, one seed")
    show = commands.add_parser("table", help="the table of the runs that are kept")
    show.add_argument("keep", type=Path, metavar="DIR")
    for command in (train, show):
        command.add_argument("--seeds", default="0-2", help="0-2, or 0,3,7 (%(default)s)")
        command.add_argument("--recipes", nargs="+", default=[*TRIED], choices=[*TRIED], metavar="NAME")
    options: Any = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    seeds = seeds_of(options.seeds)
    if options.command == "run":
        sizes, seeds = ({0: 24}, seeds[:1]) if options.quick else (ROWS, seeds)
        if options.quick:
            tiny_model(hidden=16).save_pretrained(options.keep / "start")
        run_all(options.keep, seeds, options.recipes, sizes)
    print(table(options.keep, seeds, options.recipes))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
