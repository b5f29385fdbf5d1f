"""Does steering help? Each part beside its control and plain shuffling, on a tiny model, with the losses by domain.

    python -m eval.steering run --keep runs/steering                 train, three seeds: some hours on two cores
    python -m eval.steering table runs/steering                      the table for eval/LOG.md
    python -m eval.steering run --keep /tmp/quick --quick            minutes: whether it works, not what comes out

The tiny Llama of `eval/suspects.py`, which copies and counts a little, trains through the product on generated tasks of
four domains (levels 0 to 2), in batches of 32, two epochs, by a rate that falls linearly. The probes are 32 held-out
rows of each domain; the losses in the table are those of other held-out rows, over those of plain shuffling with the
same seed and as many steps: below 1 is better.

    forgetful   phases: two domains to 40 % of the run, the two others from there on. The first two are forgotten:
                notes alone, a tenth of review, a fiftieth, and the same fiftieth, which a rule enlarges
    unequal     one domain has seven tenths of the rows: shares that follow lagging probes, and the same on average
    bandits     two orders, forty decisions: exp3s, turns, and one order
    clocks      one order, opened by steps or by what the probes say

A run is kept as one JSON file: the loss summed over each held-out row, and its firings, shares and choices.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from campus_tune.demo.tasks import generate
from campus_tune.demo.tiny import tiny_model
from campus_tune.words.files import atomic_write
from campus_tune.words.types import Json
from eval.suspects import DOMAINS, held_out, interval, seeds_of, start_model, trainer_of

LEVELS = (0, 1, 2)
ROWS, MANY, FEW = 500, 1400, 200  # rows of each domain; of the one that has most, of the others
PROBES, TESTS, PROBE_SEED, TEST_SEED = 32, 96, 3000, 2000  # rows of each domain
EPOCHS, STAGES = 2, 10
RANDOM = "random"
FIRST, LATER = DOMAINS[:2], DOMAINS[2:]
REVIEW, LITTLE = {"share": 0.1, "by": "forgetting"}, {"share": 0.02, "by": "forgetting"}
ORDERS: Json = {"metrics": ["length", "mtld"], "mix": 0.0, "handover": 1.0, "within": "none"}

ANSWERED: Json = {"regression": {"then": "review", "times": 4}}


def _shares(names: Sequence[str]) -> dict[str, float]:
    return {name: float(name in names) / len(names) for name in DOMAINS}


FORGETFUL: Json = {
    "selector": "shuffle",
    "phases": [{"until": 0.4, "shares": _shares(FIRST)}, {"until": 1.0, "shares": _shares(LATER)}],
}
PARTS: Mapping[str, Mapping[str, Json]] = {  # part → arm → its `campus` block
    "forgetful": {
        RANDOM: {"selector": "shuffle"},
        "notes": FORGETFUL,
        "review": {**FORGETFUL, "review": REVIEW},
        "little review": {**FORGETFUL, "review": LITTLE},
        "little review, answered": {**FORGETFUL, "review": LITTLE, "when": ANSWERED},
    },
    "unequal": {
        RANDOM: {"selector": "shuffle"},
        "lagging": {"selector": "shuffle", "domains": {"reweight": "lagging"}},
        "equal shares": {"selector": "shuffle", "domains": {"shares": {"temperature": 1000}}},
    },
    "bandits": {
        RANDOM: {"selector": "shuffle"},
        "exp3s": {**ORDERS, "selector": {"name": "exp3s", "reward": "probes"}},
        "round_robin": {**ORDERS, "selector": "round_robin"},
        "length alone": {**ORDERS, "metrics": ["length"]},
    },
    "clocks": {
        RANDOM: {"selector": "shuffle"},
        "steps": {**ORDERS, "metrics": ["length"], "mix": 0.5, "handover": 0.6},
        "competence": {
            **ORDERS, "metrics": ["length"], "mix": 0.5, "handover": 0.6, "clock": {"by": "competence", "target": 0.6},
        },
    },
}  # fmt: skip


def campus_of(part: str, arm: str) -> Json:
    """The `campus` block of an arm."""
    stages = 20 if part == "bandits" else STAGES
    return {**PARTS[part][arm], "stages": stages, "budget": 1.0, "scores": "none"}


def rows_of(part: str, seed: int, n: int) -> list[Json]:
    """What is trained; no probe and no test row is in it.

    Args:
        part: of the evaluation.
        seed: of the run.
        n: rows of each domain, where all have as many.
    """
    sizes = dict.fromkeys(DOMAINS, n)
    if part == "unequal":
        sizes = {name: (MANY if name == DOMAINS[0] else FEW) * n // ROWS for name in DOMAINS}
    kept_out = {_asked(row) for row in [*held_out_rows(PROBES, PROBE_SEED), *held_out_rows(TESTS, TEST_SEED)]}
    drawn = list(generate(2 * max(sizes.values()), seed=seed, levels=LEVELS, domains=DOMAINS))
    order = np.random.default_rng([seed, 5]).permutation(len(drawn))
    found: list[Json] = []
    for i in order.tolist():
        row = drawn[i]
        if sizes[row["domain"]] and _asked(row) not in kept_out:
            sizes[row["domain"]] -= 1
            found.append(row)
    return found


def held_out_rows(n: int, seed: int) -> list[Json]:
    """`n` rows of each domain, as many of each level as can be."""
    drawn = generate(-(-n // len(LEVELS)), seed=seed, levels=LEVELS, domains=DOMAINS)
    return [row for name in DOMAINS for row in [one for one in drawn if one["domain"] == name][:n]]


def _asked(row: Json) -> str:
    return str(row["prompt"][0]["content"])


def one_run(start: Path, part: str, arm: str, *, seed: int, n: int) -> Json:
    """Train once; the loss on each held-out row, and what the ledger says of steering."""
    from datasets import Dataset

    from campus_tune import CampusCallback
    from campus_tune.run.ledger import read_ledger

    tests, kept_out = held_out_rows(TESTS, TEST_SEED), {_asked(row) for row in held_out_rows(TESTS, TEST_SEED)}
    probes = [row for row in held_out_rows(PROBES, PROBE_SEED) if _asked(row) not in kept_out]
    columns = ("domain", "prompt", "completion")
    probe_set = Dataset.from_list([{key: row[key] for key in columns} for row in probes])
    model = start_model(start)
    with tempfile.TemporaryDirectory() as out:
        callback = CampusCallback({**campus_of(part, arm), "seed": seed}, probes=probe_set, report=False)
        trainer = trainer_of(
            model, rows_of(part, seed, n), Path(out), epochs=EPOCHS, seed=seed, callbacks=[callback],
            lr_scheduler_type="linear",
        )  # fmt: skip
        trainer.train()
        ledger = read_ledger(Path(out) / "curriculum" / "ledger.jsonl")
    nll, tokens = held_out(model, tests)
    return {
        "nll": nll.tolist(),
        "tokens": tokens.tolist(),
        "domains": [row["domain"] for row in tests],
        "firings": [event for event in ledger if event["event"] == "event"],
        "shares": [event["after"] for event in ledger if event["event"] == "shares"],
        "chosen": [event["chosen"] for event in ledger if event["event"] == "decision"],
        "review_rows": next((event.get("review_rows") for event in ledger if event["event"] == "end"), None),
    }


# -- all of them -------------------------------------------------------------------------------------------------------


def arms(parts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(Part, arm) of all runs of a seed."""
    return ((part, arm) for part in parts for arm in PARTS[part])


def file_of(folder: Path, part: str, arm: str, seed: int) -> Path:
    """Where a run is kept."""
    return folder / f"{part}-{arm.replace(', ', '-').replace(' ', '-')}-seed-{seed}.json"


def run_all(folder: Path, seeds: Sequence[int], parts: Sequence[str], n: int = ROWS) -> None:
    """Train what is not kept yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for part, arm in arms(parts):
            path = file_of(folder, part, arm, seed)
            if path.is_file():
                continue
            began = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                run = one_run(folder / "start", part, arm, seed=seed, n=n)
            atomic_write(path, json.dumps(run))
            fired = ", ".join(f"{one['kind']} of {one['probe']} at {one['step']}" for one in run["firings"])
            seconds = time.perf_counter() - began
            print(f"{path.stem}: {seconds:.0f} s, {loss_of(run):.4f} nats; {fired or 'nothing fired'}", flush=True)


def loss_of(run: Json, domains: Sequence[str] = DOMAINS) -> float:
    """Mean over the held-out tokens of some domains."""
    of = np.isin(run["domains"], list(domains))
    return float(np.sum(np.array(run["nll"])[of]) / np.sum(np.array(run["tokens"])[of]))


# -- the table ---------------------------------------------------------------------------------------------------------


def runs_of(folder: Path, seeds: Sequence[int], part: str, arm: str) -> dict[int, Json]:
    """Seed → run, of those that are kept."""
    paths = {seed: file_of(folder, part, arm, seed) for seed in seeds}
    return {seed: json.loads(path.read_text()) for seed, path in paths.items() if path.is_file()}


def table(folder: Path, seeds: Sequence[int], parts: Sequence[str]) -> str:
    """Every arm against plain shuffling: all held-out rows, those of the first two domains, of the others."""
    groups = {"all": DOMAINS, " + ".join(FIRST): FIRST, " + ".join(LATER): LATER}
    head = ["part", "arm", *(f"÷ random, {name}" for name in groups), "mean, all", "firings a run"]
    lines = [head, ["---"] * len(head)]
    for part, arm in arms(parts):
        ours, theirs = runs_of(folder, seeds, part, arm), runs_of(folder, seeds, part, RANDOM)
        if not ours:
            continue
        if arm == RANDOM:
            shown = [" ".join(f"{loss_of(run, of):.3f}" for run in ours.values()) for of in groups.values()]
            lines.append([part, arm, *(f"{losses} nats" for losses in shown), "1", ""])
            continue
        ratios = [
            [loss_of(run, of) / loss_of(theirs[seed], of) for seed, run in ours.items() if seed in theirs]
            for of in groups.values()
        ]
        mean, half = interval(ratios[0]) if len(ratios[0]) > 1 else (ratios[0][0], float("nan"))
        fired = np.mean([sum(one["kind"] != "recovered" for one in run["firings"]) for run in ours.values()])
        shown = [" ".join(f"{ratio:.3f}" for ratio in of) for of in ratios]
        lines.append([part, arm, *shown, f"{mean:.3f} ± {half:.3f}", f"{fired:.1f}"])
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
        command.add_argument("--parts", nargs="+", default=[*PARTS], choices=[*PARTS], metavar="NAME")
    options: Any = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    seeds = seeds_of(options.seeds)
    if options.command == "run":
        n, seeds = (60, seeds[:1]) if options.quick else (ROWS, seeds)
        if options.quick:
            tiny_model(hidden=16).save_pretrained(options.keep / "start")
        run_all(options.keep, seeds, options.parts, n)
    print(table(options.keep, seeds, options.parts))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
