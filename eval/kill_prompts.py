"""Whether a run that is driven by reward goes on, after SIGKILL, as if it had never stopped.

Each setting is trained once in peace. Then the same run is started in another folder, killed, resumed with
`resume_from_checkpoint=True`, killed again, … and left to end. Kills come at a random moment of the process's life,
after a random optimizer step, or in the middle of a save. Most checkpoints are inside of a generation: trl's own resume
would answer other prompts there. Both runs must agree in every line of the ledger (decisions, rewards, pass rates),
in every group of answers with its rewards, in every line of the trainer's log, and bit for bit in the weights.

    python eval/kill_prompts.py                       # 40 kills, 10 settings, minutes
    python eval/kill_prompts.py --kills 4 --only rloo

GRPO and RLOO, with half a generation in a step (`spg4`), with two passes over each generation (`mu2`), with two
generations in a step (`spg1`), with a quarter of one in a step, under a LoRA, beside a callback that saves in the
middle of steps (`inside`), and with two processes (`two`), of which one alone is killed now and then. The table goes
to stdout; the exit status is 1 on any difference.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import sys
import tempfile
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))
tests = types.ModuleType("tests")  # a library brings a package of that name
tests.__path__ = [str(REPOSITORY / "tests")]
sys.modules["tests"] = tests

from tests.distributed.ranks import Kill, Report, Warm  # noqa: E402  # only now it is ours
from tests.distributed.told import first_difference, outcome  # noqa: E402

SCENARIO = "tests.distributed.prompt_runs:train"
STEPS, SAVES = 14, [1, 3, 5, 7, 9, 11, 13]
KINDS = ("time", "step", "save")
MIDDLE = {"metrics": ["length"], "stages": 3, "handover": 1.0, "mix": 0.2, "scores": "none"}
MIDDLE |= {"thin": {"how": "top", "by": "middle", "keep": 0.5}}
HALF = {"gradient_accumulation_steps": 2, "steps_per_generation": 4}
TWO = {"world": 2, "per_device_train_batch_size": 4}
SETTINGS: dict[str, dict[str, Any]] = {
    "grpo-spg4": {"kind": "grpo", **HALF},
    "rloo-spg4": {"kind": "rloo", **HALF, "logging_steps": 5},
    "grpo-mu2": {"kind": "grpo", "gradient_accumulation_steps": 2, "num_iterations": 2, "logging_steps": 5},
    "rloo-mu2": {"kind": "rloo", "gradient_accumulation_steps": 2, "num_iterations": 2},
    "grpo-spg1": {"kind": "grpo", "gradient_accumulation_steps": 2, "steps_per_generation": 1},
    "rloo-quarter-lora": {"kind": "rloo", "gradient_accumulation_steps": 1, "steps_per_generation": 4, "lora": True},
    "grpo-inside": {"kind": "grpo", **HALF, "saves_itself": True, "log_completions": True},
    "rloo-inside": {"kind": "rloo", "gradient_accumulation_steps": 1, "steps_per_generation": 2, "saves_itself": True},
    "grpo-two": {**TWO, "kind": "grpo", **HALF},
    "rloo-two": {**TWO, "kind": "rloo", "num_iterations": 2, "gradient_accumulation_steps": 1, "lora": True},
}
HEAD = ("setting", "processes", "lives", "kills", "in a save", "re-done", "equal")


@dataclass
class Outcome:
    """One line of the table.

    Args:
        name: of the setting.
        world: processes.
        lives: of the run under kills.
        kills: that hit a living job.
        in_saves: kills after which a checkpoint was half written.
        redone: steps trained more than once.
        difference: the first one, in words; None where there is none.
    """

    name: str
    world: int
    lives: int = 0
    kills: int = 0
    in_saves: int = 0
    redone: int = 0
    difference: str | None = None

    def line(self) -> str:
        """As markdown."""
        counts = map(str, (self.world, self.lives, self.kills, self.in_saves, self.redone))
        return f"| {' | '.join([self.name, *counts, '**no**' if self.difference else 'yes'])} |"


@dataclass(frozen=True)
class Hunt:
    """One setting.

    Args:
        name: of it.
        warm: runs the processes.
        folder: for the runs.
        chance: of the moments.
        settings: of the run.
    """

    name: str
    warm: Warm
    folder: Path
    chance: random.Random
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def world(self) -> int:
        """Processes."""
        return int(self.settings.get("world", 1))

    def life(self, out: Path, kill: Kill | None = None) -> Report:
        """Start the run, or go on from its last complete checkpoint."""
        settings = {name: value for name, value in self.settings.items() if name != "world"}
        more = {"config": MIDDLE, "max_steps": STEPS, "saves": SAVES, "resume": out.exists(), "save_total_limit": 3}
        return self.warm.run(SCENARIO, self.world, kill=kill, timeout=300.0, out=str(out), **{**more, **settings})

    def run(self, kills: int) -> Outcome:
        """Train in peace, then under kills, and compare."""
        found, calm, hunted = Outcome(self.name, self.world), self.folder / "calm", self.folder / "killed"
        self.folder.mkdir(parents=True, exist_ok=True)
        peace = self.life(calm).ok
        rounds = 0
        while found.kills < kills and found.difference is None:
            out, rounds = hunted.with_name(f"killed-{rounds}"), rounds + 1
            for kind in moments(self.chance, kills - found.kills):
                report = self.life(out, self._kill_at(kind, out, peace.seconds))
                found.lives += 1
                if not any(report.codes):
                    break  # it was done before
                if not report.killed:
                    raise SystemExit(f"{self.name}: the job failed by itself\n{report.told()}")
                found.kills += 1
                found.in_saves += half_saved(out)
                print(f"  {self.name}: killed ({kind}) after step {beats(out)[-1:] or 0}", file=sys.stderr, flush=True)
            last = self.life(out).ok
            found.lives += 1
            found.redone += len(beats(out)) - STEPS
            found.difference = first_difference(whole(out, last), whole(calm, peace))
        return found

    def _kill_at(self, kind: str, out: Path, seconds: float) -> Kill:
        """A kill of the whole job or, one time in three, of one rank."""
        ranks = [self.chance.randrange(self.world)] if self.chance.random() < 1 / 3 else None
        done = beats(out)
        if kind == "time":
            return Kill("seconds", n=self.chance.uniform(0.3 * seconds, seconds), ranks=ranks)
        if kind == "step":
            return Kill("lines", f"{out}.beats", n=len(done) + self.chance.randint(1, STEPS // 3), ranks=ranks)
        later = [step for step in SAVES if step > max(done, default=0)] or SAVES[-1:]
        delay = self.chance.uniform(0.0, 0.02)
        return Kill("saving", str(out), n=self.chance.choice(later[:2]), ranks=ranks, delay=delay)


def whole(out: Path, last: Report) -> dict[str, Any]:
    """All that must not depend on whether a run was stopped: part → value."""
    home = out / "curriculum"
    files = [*sorted((home / "prompt_rewards").glob("*.parquet")), *sorted(home.glob("prompt_map.parquet"))]
    tables = sorted((out / "completions").glob("*.parquet"))
    return {**outcome(str(out), last), "groups": [(path.name, path.read_bytes()) for path in [*files, *tables]]}


def moments(chance: random.Random, kills: int) -> Iterator[str]:
    """Kinds of kills, each as often as the others, in a random sequence."""
    kinds = [KINDS[k % len(KINDS)] for k in range(kills)]
    chance.shuffle(kinds)
    return iter(kinds)


def beats(out: Path) -> list[int]:
    """The optimizer steps finished so far, over all lives, in sequence."""
    path = out.with_name(f"{out.name}.beats")
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def half_saved(out: Path) -> bool:
    """Whether there is a checkpoint without a whole trainer state that a later life will have to skip."""
    return any(not (path / "trainer_state.json").exists() for path in out.glob("checkpoint-*"))


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40, help="in all, spread over the settings")
    parser.add_argument("--only", default="", help="settings whose name contains this")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--keep", type=Path, help="folder for the runs, kept; without it a temporary one")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the settings; 1 if any of them differs."""
    options = parse(arguments)
    chosen = [name for name in SETTINGS if options.only in name]
    if not chosen:
        raise SystemExit(f"`--only` must be part of one of {', '.join(SETTINGS)}.")
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(tempfile.mkdtemp(prefix="kill_prompts-"))
        if options.keep is None:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        warm = stack.enter_context(Warm(folder))
        print(f"| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}")
        outcomes = []
        for place, name in enumerate(chosen):
            kills = options.kills // len(chosen) + (place < options.kills % len(chosen))
            hunt = Hunt(name, warm, folder / name, random.Random(f"{options.seed} {name}"), SETTINGS[name])
            outcomes.append(hunt.run(kills))
            print(outcomes[-1].line(), flush=True)
    print(f"| **all** | | {sum(one.lives for one in outcomes)} | {sum(one.kills for one in outcomes)} | | | |")
    for one in outcomes:
        if one.difference:
            print(f"\n{one.name}: {one.difference}")
    return int(any(one.difference for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
