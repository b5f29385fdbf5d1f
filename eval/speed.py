"""How fast it is, as ratios that hold on any machine, beside the last time: `.ci/bench` runs it before a release.

Each ratio is of things that are measured in turns within this run, and smaller is better. What stands below the line is
something that campus_tune cannot be faster than, or that would be there without it:

    start    processor seconds of `import campus_tune`, of `--help`, of `check` of a block / those of numpy's import
    plan     four orders of a million rows; an epoch planned from them, also under a policy / numpy's sort of as much
    step     our own time in a step of the tiny model, without and with weights / the rest of this step
    run      a whole run on rows of many lengths and on rows of one length / plain TRL's
    rows     reading prepared rows / adding up their tokens
    score    scoring, tiny model / a bare forward of the same batches

A ratio that is 20 % worse than in the last entry of `eval/speed.json` is measured twice more, and the middle one of the
three counts: then it is told, and the exit code is 1. `--keep` adds what was measured to the file.

    python -m eval.speed                      all, some minutes; leave the machine alone meanwhile
    python -m eval.speed --parts start plan   these
    python -m eval.speed --keep               the next entry
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from campus_tune.words.errors import DataError
from campus_tune.words.files import atomic_write
from campus_tune.words.progress import bar
from campus_tune.words.tables import table
from campus_tune.words.types import Json
from campus_tune.words.versions import versions

ROOT = Path(__file__).parents[1]
FILE = ROOT / "eval" / "speed.json"
WORSE = 1.2  # times the last entry
AGAIN = 2  # how often what looks worse is measured again
LIBRARIES = ("numpy", "torch", "transformers", "trl", "accelerate", "datasets", "peft")
ROWS, TURNS = 1_000_000, 3


# -- what is measured -------------------------------------------------------------------------------------------------


def start() -> dict[str, float]:
    """Beginning, beside numpy's import."""
    from eval import bench_start

    names = [bench_start.BASE, "import", "help", "block"]
    return bench_start.ratios(bench_start.measure({"now": ROOT}, names, 5)["now"])


def plan() -> dict[str, float]:
    """Orders, an epoch and an epoch under a policy, beside numpy's sort of four arrays of the same size."""
    from campus_tune.method.orders import order_rows
    from campus_tune.preview.simulate import simulate
    from campus_tune.recipe.config import CampusConfig
    from eval import bench_plan

    scores = {name: bench_plan.made_up(name, ROWS) for name in bench_plan.METRICS}
    orders = {name: order_rows(values, seed=0) for name, values in scores.items()}
    config = CampusConfig(metrics=bench_plan.METRICS, selector="round_robin", seed=0)
    policy = argparse.Namespace(window="prefix", mix=0.0, batch=256)
    acts: dict[str, Callable[[], object]] = {
        "sort": lambda: [np.sort(values) for values in scores.values()],
        "orders": lambda: [order_rows(values, seed=0) for values in scores.values()],
        "epoch": lambda: simulate(config, n_rows=ROWS, global_batch=256, orders=orders),
        "policy": lambda: bench_plan.curriculum_seconds(
            orders, ROWS, policy, bench_plan.made_up_policy("thin", ROWS, Path())
        ),
    }
    return beside("sort", in_turns(acts, TURNS))


def step() -> dict[str, float]:
    """Our own time beside the rest of a step, by the thread's clock."""
    found = last_line("bench_overhead", "--recipe", "plain", "--recipe", "weights", "--json")
    return {name: one["ours"] / (one["step"] - one["ours"]) for name, one in found.items()}


def run() -> dict[str, float]:
    """A whole run beside plain TRL's: `selector: shuffle` where lengths differ, the default where they do not."""
    found = {}
    for lengths, arm in (("spread", "shuffle"), ("equal", "default")):
        with tempfile.TemporaryDirectory() as folder:
            numbers = Path(folder, "numbers.json")
            started("bench_run", "--sets", lengths, "--arms", "plain", arm, "--rows", "256", "--json", str(numbers))
            found[f"{arm}, {lengths}"] = json.loads(numbers.read_text())[lengths][arm]["cpu_ratio"][0]
    return found


def rows() -> dict[str, float]:
    """Reading prepared rows beside adding up their tokens."""
    from eval.bench_rows import reading_against_a_bare_pass

    return {"reading": reading_against_a_bare_pass()}


def score() -> dict[str, float]:
    """Scoring beside a bare forward of the same batches, the model without its head."""
    from campus_tune.demo.tiny import write_tiny
    from eval import bench_score

    with tempfile.TemporaryDirectory() as folder:
        seconds = bench_score.speeds(str(write_tiny(Path(folder, "tiny"))), folder, bench_score.parse([]))
    return {"tiny": beside("without the head", seconds)["scoring"]}


PARTS: dict[str, Callable[[], dict[str, float]]] = {
    "start": start,
    "plan": plan,
    "step": step,
    "run": run,
    "rows": rows,
    "score": score,
}


def started(script: str, *words: str) -> str:
    """What a script of this folder prints, in a process of its own.

    Raises:
        DataError: it failed.
    """
    command = [sys.executable, "-m", f"eval.{script}", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        said = (ended.stderr.strip().splitlines() or [""])[-1]
        raise DataError(f"`python -m eval.{script} {' '.join(words)}` must end with 0, got {ended.returncode}: {said}")
    return ended.stdout


def last_line(script: str, *words: str) -> Json:
    """The JSON with which a script ends."""
    found: Json = json.loads(started(script, *words).splitlines()[-1])
    return found


def in_turns(acts: Mapping[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Processor seconds of some functions, one after the other, `turns` times; once more before, to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in acts}
    for turn in range(turns + 1):
        for name, act in acts.items():
            began = time.process_time()
            act()
            if turn:
                seconds[name].append(time.process_time() - began)
    return seconds


def beside(base: str, seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The middle of the turns' ratios to one of them."""
    return {
        name: statistics.median(one / other for one, other in zip(took, seconds[base], strict=True))
        for name, took in seconds.items()
        if name != base
    }


def measure(parts: Sequence[str]) -> dict[str, float]:
    """Every ratio of some parts, as `part: name`; each part in a process of its own."""
    found = {part: last_line("speed", "--child", part) for part in bar(parts, desc="measuring", unit="part")}
    return {f"{part}: {name}": ratio for part, ratios in found.items() for name, ratio in ratios.items()}


# -- comparing --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One ratio, then and now.

    Args:
        name: `part: what`.
        before: of the last entry; None where it had none.
        now: None where it was not measured.
    """

    name: str
    before: float | None
    now: float | None

    @property
    def verdict(self) -> str:
        """In a few words."""
        if self.now is None:
            return "not measured"
        if self.before is None:
            return "new"
        if self.is_worse:
            return f"{self.now / self.before - 1:.0%} WORSE"
        better = self.before / self.now - 1
        return f"{better:.0%} better" if better > WORSE - 1 else "as before"

    @property
    def is_worse(self) -> bool:
        """By more than a fifth."""
        return self.before is not None and self.now is not None and self.now > WORSE * self.before


def compared(before: Mapping[str, float], now: Mapping[str, float], parts: Sequence[str]) -> list[Line]:
    """Every ratio of these parts that was measured then or now."""
    names = [name for name in before if part_of(name) in parts]
    names += [name for name in now if name not in before]
    return [Line(name, before.get(name), now.get(name)) for name in names]


def part_of(name: str) -> str:
    """Of `part: what`, the part."""
    return name.partition(":")[0]


def measure_anew(
    before: Mapping[str, float], now: Mapping[str, float], ask: Callable[[Sequence[str]], Mapping[str, float]]
) -> dict[str, float]:
    """What looks worse, as the middle one of three measurements; the others as they are.

    Args:
        before: of the last entry.
        now: measured once.
        ask: measures some parts again.
    """
    worse = [line.name for line in compared(before, now, list(PARTS)) if line.is_worse]
    parts = [part for part in PARTS if part in {part_of(name) for name in worse}]
    more = [ask(parts) for _ in range(AGAIN)] if parts else []
    return {**now, **{name: statistics.median([now[name], *(one[name] for one in more)]) for name in worse}}


# -- the file ---------------------------------------------------------------------------------------------------------


def read_entries(path: Path) -> list[Json]:
    """All entries, the last one last; none where there is no file.

    Raises:
        DataError: the file is none of ours.
    """
    if not path.exists():
        return []
    try:
        found = json.loads(path.read_text("utf-8"))
        assert all(ratio > 0 for entry in found for ratio in entry["ratios"].values())
    except (ValueError, TypeError, KeyError, AttributeError, AssertionError) as error:
        raise DataError(
            f"{path} must be a list of entries with ratios above 0, got others ({error}). Take it back from git."
        ) from error
    return list(found)


def entry_of(ratios: Mapping[str, float], before: Mapping[str, float]) -> Json:
    """What is written down: when, where, of which code, and the ratios; those that were not measured are as before."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions(LIBRARIES),
        "ratios": {name: round(ratio, 4) for name, ratio in {**before, **ratios}.items()},
    }


def machine() -> str:
    """The processor, and how many cores there are for us."""
    named = [line.partition(":")[2].strip() for line in _cpu_info() if line.startswith("model name")]
    return f"{named[0] if named else platform.machine()}, {len(os.sched_getaffinity(0))} cores"


def _cpu_info() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text("utf-8").splitlines() if path.exists() else []


def main(
    argv: Sequence[str] | None = None,
    *,
    file: Path = FILE,
    ask: Callable[[Sequence[str]], Mapping[str, float]] = measure,
) -> int:
    """Measure, compare and tell.

    Args:
        argv: the command line.
        file: of the entries.
        ask: measures some parts.

    Returns:
        1 where something is worse, else 0.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what is measured (all)")
    parser.add_argument("--child", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help="add what was measured to eval/speed.json")
    options = parser.parse_args(argv)
    if options.child:
        print(json.dumps(PARTS[options.child]()))
        return 0
    entries = read_entries(file)
    last: Json = entries[-1] if entries else {"ratios": {}}
    before = last["ratios"]
    ratios = measure_anew(before, dict(ask(options.parts)), ask)
    lines = compared(before, ratios, options.parts)
    shown = [
        [one.name, *("" if value is None else f"{value:.3f}" for value in (one.before, one.now)), one.verdict]
        for one in lines
    ]
    print(table(["ratio", f"{last.get('date', 'no entry')}", "now", ""], shown))
    others = {
        name: version
        for name, version in versions(LIBRARIES).items()
        if last.get("versions", {}).get(name, version) != version
    }
    if others:
        print(f"other versions than then: {', '.join(f'{name} {version}' for name, version in others.items())}")
    worse = [one for one in lines if one.is_worse]
    print(
        f"{len(worse)} of {len(lines)} are worse by more than {WORSE - 1:.0%}"
        if entries
        else "Nothing to compare with: --keep writes the first entry."
    )
    if options.keep:
        kept = [*entries, entry_of(ratios, before)]
        atomic_write(file, json.dumps(kept, indent=1) + "\n")
        print(f"kept in {file}")
    return int(bool(worse))


if __name__ == "__main__":
    sys.exit(main())
