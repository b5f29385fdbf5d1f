"""How long a command takes to begin, beside `python -c "import numpy"`: processor seconds of whole processes, in turns.

    import     `import campus_tune`, and beside it the first use of its settings
    help       `campus-tune --help`, and the help of a command
    block      `campus-tune check` of a bare block: settings alone, no model, no rows
    check      the same of a TRL YAML without rows or a model: TRL's own parser is asked, and TRL imported for it
    trl        what that import takes alone

With `--before CHECKOUT` each is measured of that code too, in the same turns. Goals are compared with seconds of the
processor: on a machine that does other things the clock counts these too, and the least that it showed stands beside.

    python eval/bench_start.py --before ../before --turns 9
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from campus_tune.words.tables import table

ROOT = Path(__file__).parents[1]
BASE = "numpy"
GOALS = {"import": 0.15, "help": 0.25, "block": 1.0, "check": 1.0}  # seconds
BLOCK = "metrics: [length, mtld, loss]\nstages: 4\n"
YAML = "output_dir: out\nlearning_rate: 1.0e-4\ncampus: {metrics: [length, mtld, loss], stages: 4}\n"


@dataclass(frozen=True)
class Took:
    """Of one process, in seconds.

    Args:
        cpu: of the processor, its children's too.
        wall: on the clock.
    """

    cpu: float
    wall: float


def commands(folder: Path) -> dict[str, list[str]]:
    """What is started, by name; two recipes are written into `folder`."""
    (folder / "block.yaml").write_text(BLOCK, "utf-8")
    (folder / "training.yaml").write_text(YAML, "utf-8")
    tune = ["-m", "campus_tune"]
    return {
        BASE: ["-c", "import numpy"],
        "import": ["-c", "import campus_tune"],
        "settings": ["-c", "from campus_tune import CampusConfig"],
        "help": [*tune, "--help"],
        "help of check": [*tune, "check", "--help"],
        "block": [*tune, "check", str(folder / "block.yaml")],
        "check": [*tune, "check", str(folder / "training.yaml")],
        "trl": ["-c", "from trl import SFTConfig, TrlParser"],
    }


def start(words: Sequence[str], code: Path, compiled: Path) -> Took:
    """Run Python with these words until it ends.

    Args:
        words: after `python`.
        code: a checkout whose `campus_tune` is imported.
        compiled: folder of what Python compiles.
    """
    environment = {**os.environ, "PYTHONPATH": str(code), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what is compiled once is no part of a start
    environment["PYTHONPYCACHEPREFIX"] = str(compiled)
    used, clock = _children(), time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, env=environment, stdout=subprocess.DEVNULL, cwd=code)
    return Took(_children() - used, time.perf_counter() - clock)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(codes: Mapping[str, Path], names: Sequence[str], turns: int) -> dict[str, dict[str, list[Took]]]:
    """What each command of each checkout took, turn by turn; once more before, for what is compiled or cached.

    Args:
        codes: name → checkout.
        names: of `commands`.
        turns: that count.
    """
    found: dict[str, dict[str, list[Took]]] = {code: {name: [] for name in names} for code in codes}
    with tempfile.TemporaryDirectory() as folder:
        words = commands(Path(folder))
        for turn in range(turns + 1):
            for name in names:
                for code, path in codes.items():
                    took = start(words[name], path, Path(folder, "compiled"))
                    if turn:
                        found[code][name].append(took)
    return found


def ratios(found: Mapping[str, Sequence[Took]]) -> dict[str, float]:
    """Processor seconds of each command beside those of numpy's import: the middle of the turns' ratios."""
    base = found[BASE]
    return {
        name: statistics.median(one.cpu / other.cpu for one, other in zip(took, base, strict=True))
        for name, took in found.items()
        if name != BASE
    }


def verdict(name: str, seconds: float) -> str:
    """Whether a command's goal is reached; "" where it has none."""
    if name not in GOALS:
        return ""
    return f"≤ {GOALS[name]:g} s: {'reached' if seconds <= GOALS[name] else 'missed'}"


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="other code, measured in the same turns")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print the seconds of every turn instead")
    options = parser.parse_args()
    codes = {"now": ROOT} if options.before is None else {"before": options.before.resolve(), "now": ROOT}
    with tempfile.TemporaryDirectory() as folder:
        names = list(commands(Path(folder)))
    found = measure(codes, names, options.turns)
    if options.json:
        print(
            json.dumps(
                {code: {name: [vars(one) for one in took] for name, took in by.items()} for code, by in found.items()}
            )
        )
        return
    beside = {code: ratios(by) for code, by in found.items()}
    lines = []
    for name in names:
        cells = [name]
        for code, by in found.items():
            cpu = statistics.median(one.cpu for one in by[name])
            cells += [f"{cpu:.2f}", f"{min(one.wall for one in by[name]):.2f}", f"{beside[code].get(name, 1.0):.1f}"]
        lines.append([*cells, verdict(name, statistics.median(one.cpu for one in found["now"][name]))])
    head = [f"{code}, {what}" for code in codes for what in ("CPU s", "least wall s", "× numpy")]
    print(table(["", *head, "goal"], lines))


if __name__ == "__main__":
    main()
