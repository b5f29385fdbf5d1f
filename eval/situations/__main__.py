"""Where does it pay? Situations × recipes × seeds.

python -m eval.situations plan --keep runs/situations                 arms, situations, seeds, and how long it takes
python -m eval.situations run --keep runs/situations                  train what is not kept yet; stop it at any time
python -m eval.situations same runs/situations runs/again             are two folders' runs alike, bit for bit?
python -m eval.situations table runs/situations                       what they say, as Markdown for eval/LOG.md
python -m eval.situations page runs/situations                        the same as a page, with a forest plot
python -m eval.situations evidence runs/situations                    the same as the package reads it
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.situations.arms import ARMS, asked_for
from eval.situations.rows import made
from eval.situations.runs import RESULT, VISITS, folder_of, one_run
from eval.situations.situation import Situation, names, read_situation, seeds_of

Task = tuple[str, str, int]  # situation, arm, seed
TOLD = {
    "table": "what the runs say, as Markdown",
    "page": "the same as a page",
    "evidence": "the same as the package reads it",
}
SECONDS = {"tasks": 12.0, "text": 20.0, "smol": 300.0}  # of a run, until one was measured


def tasks_of(options: Any) -> list[Task]:
    """All runs that are asked for: situation by situation, seed by seed."""
    found = []
    for name in options.situations or names():
        situation = read_situation(name)
        if options.use and situation.use != options.use:
            continue
        seeds = situation.seeds if options.seeds is None else seeds_of(options.seeds)
        domains = [row["domain"] for row in made(situation.rows, seeds[0]).rows] if options.arms else []
        arms = situation.arms if options.arms is None else asked_for(options.arms, domains, situation.epochs)
        arms = [arm for arm in arms if arm in situation.arms or arm not in ARMS]
        found += [(name, arm, seed) for seed in seeds for arm in arms]
    return found


def left_of(keep: Path, tasks: Sequence[Task]) -> list[Task]:
    """Those that are not kept yet."""
    return [task for task in tasks if not (folder_of(keep, *task) / RESULT).is_file()]


def seconds_of(keep: Path, situation: Situation) -> float:
    """Of a run of this situation: measured where one is kept."""
    found = [json.loads(path.read_text())["seconds"] for path in sorted(keep.glob(f"{situation.name}/*/*/{RESULT}"))]
    spent = [one["training"] + one["curve"] for one in found]
    return sum(spent) / len(spent) if spent else SECONDS[situation.base]


def plan_lines(keep: Path, tasks: Sequence[Task], processes: int) -> Iterator[str]:
    """What will be trained, and how long that takes."""
    total = 0.0
    left = left_of(keep, tasks)
    for name in dict.fromkeys(task[0] for task in tasks):
        situation = read_situation(name)
        mine = [task for task in tasks if task[0] == name]
        missing, each = sum(task[0] == name for task in left), seconds_of(keep, situation)
        total += missing * each
        arms, seeds = dict.fromkeys(task[1] for task in mine), dict.fromkeys(task[2] for task in mine)
        yield (
            f"{name} ({situation.use}, {situation.base}): {len(arms)} arms × {len(seeds)} seeds = {len(mine)} runs, "
            f"{missing} to make at {each:.0f} s"
        )
    yield f"{len(left)} of {len(tasks)} runs to make, about {total / processes / 3600:.1f} h on {processes} processes"


def make(keep: Path, task: Task) -> str:
    """Make one run, unless another process is at it; a line about it."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    name, arm, seed = task
    folder = folder_of(keep, name, arm, seed)
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return f"{name} {arm} {seed}: another process is at it"
        try:
            outcome = one_run(keep, read_situation(name), arm, seed)
        except (Exception, SystemExit) as error:
            return f"{name} {arm} {seed}: FAILED {type(error).__name__}: {error}"
    loss = outcome["curve"]["loss"]
    return f"{name} {arm} {seed}: {loss[0]:.4f} → {loss[-1]:.4f}, {time.perf_counter() - began:.0f} s"


def run_all(keep: Path, tasks: Sequence[Task]) -> int:
    """Make what is not kept yet, as one of any number of processes; how many failed."""
    failed, made, began = 0, 0, time.perf_counter()
    for task in tasks:
        if not left_of(keep, [task]):
            continue
        line = make(keep, task)
        failed, made = failed + ("FAILED" in line), made + 1
        left = len(left_of(keep, tasks))
        print(f"{line} · {left} left · {time.perf_counter() - began:.0f} s for {made}", flush=True)
    return failed


def unlike(ours: Path, theirs: Path) -> list[str]:
    """Runs of the second folder whose numbers or visits are not those of the first, clocks left out."""
    found = []
    for path in sorted(theirs.glob(f"*/*/*/{RESULT}")):
        where = path.relative_to(theirs)
        mine = ours / where
        if not mine.is_file() or not _alike(mine, path):
            found.append(str(where.parent))
    return found


def _alike(mine: Path, theirs: Path) -> bool:
    """Two kept results, and the visits beside them."""
    told = [timeless(json.loads(path.read_text())) for path in (mine, theirs)]
    with np.load(mine.with_name(VISITS)) as one, np.load(theirs.with_name(VISITS)) as other:
        return told[0] == told[1] and all(np.array_equal(one[name], other[name], equal_nan=True) for name in one)


def timeless(result: Any) -> Any:
    """A result without what clocks say."""
    kept = {key: value for key, value in result.items() if key != "seconds"}
    if "ledger" in kept:
        kept["ledger"] = [{key: one[key] for key in one if key != "seconds"} for one in kept["ledger"]]
    return {**kept, "curve": {key: value for key, value in result["curve"].items() if key != "seconds"}}


def tell(options: Any) -> str:
    """What the kept runs say: the table itself, or the file that was written."""
    from eval.situations.bases import BASES
    from eval.situations.evidence import PATH, write_evidence
    from eval.situations.kept import found_in
    from eval.situations.page import PAGE, write_page
    from eval.situations.table import lines_of

    if options.command == "evidence" and options.situations and options.out is None:
        raise SystemExit(
            "`evidence` must be of all situations, for its words are corrected for all of them, got "
            f"{', '.join(options.situations)}. Leave --situations out, or write --out FILE."
        )
    found = found_in(options.keep, options.situations, resamples=options.resamples)
    if not found:
        raise SystemExit(f"`{options.keep}` must hold runs of plain shuffling and of another arm, got none. Run some.")
    if options.command == "table":
        return "\n".join(lines_of(found))
    abouts = {name: base.about for name, base in BASES.items()}
    if options.command == "page":
        return str(write_page(found, options.out or PAGE))
    return str(write_evidence(found, abouts, options.out or PATH))


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in (("plan", "say what would be trained"), ("run", "train what is not kept yet")):
        command = commands.add_parser(name, help=about)
        command.add_argument("--keep", type=Path, required=True, metavar="DIR")
        command.add_argument("--situations", nargs="+", metavar="NAME", help="all by default")
        command.add_argument(
            "--arms",
            nargs="+",
            metavar="NAME",
            help="those of the situation by default; recipes: each with its control; peers: TRL, DataFlex",
        )
        command.add_argument("--seeds", help="0-2, or 0,3,7; those of the situation by default")
        command.add_argument("--use", choices=("tune", "judge"), help="situations of this use alone")
        command.add_argument("--processes", type=int, default=os.cpu_count() or 1, metavar="N")
    same = commands.add_parser("same", help="compare two folders, bit for bit")
    same.add_argument("folders", nargs=2, type=Path, metavar="DIR")
    for name, about in TOLD.items():
        command = commands.add_parser(name, help=about)
        command.add_argument("keep", type=Path, metavar="DIR")
        command.add_argument("--situations", nargs="+", metavar="NAME", help="all by default")
        command.add_argument("--resamples", type=int, default=9999, metavar="N", help="of each bootstrap")
        if name != "table":
            command.add_argument("--out", type=Path, metavar="FILE", help="another than the one that is kept here")
    options: Any = parser.parse_args(arguments)
    if options.command in TOLD:
        print(tell(options))
        return 0
    if options.command == "same":
        different = unlike(*options.folders)
        n = len(list(options.folders[1].glob(f"*/*/*/{RESULT}")))
        print(f"{n - len(different)} of {n} runs are alike" + "".join(f"\nother: {name}" for name in different))
        return int(bool(different) or not n)
    tasks = tasks_of(options)
    if options.processes > 1 or options.command == "plan":
        print("\n".join(plan_lines(options.keep, tasks, options.processes)), flush=True)
    if options.command == "plan":
        return 0
    if options.processes > 1:  # each goes through all runs, and leaves out those that another is at
        given = [*(sys.argv[1:] if arguments is None else arguments), "--processes", "1"]
        command = [sys.executable, "-m", "eval.situations", *given]
        codes = [child.wait() for child in [subprocess.Popen(command) for _ in range(options.processes)]]
        return int(any(codes))
    return int(run_all(options.keep, tasks) > 0)


if __name__ == "__main__":
    raise SystemExit(main())
