"""Whether runs on many processes go on as if nothing had happened: killed, and moved to other numbers of processes.

Each round draws a seed (rows' places, weights of the adapter, dropout; in every second one rows count by their loss in
the very forward, against a level that all ranks know) and does two things with a tiny random model:

- **killed**: a LoRA with dropout is trained on 2 processes in peace, then again in another folder under SIGKILL. A kill
  comes at a random moment of the job's life, after a random optimizer step or in the middle of a save, and hits the
  whole job or one rank, after which the others are ended as torchrun would. The run is resumed on 2 processes each
  time. Both must agree in every decision and measurement of the ledger, every row's training loss, the trainer's log
  of each step and, bit for bit, the weights of every rank.
- **moved**: all weights are trained on 2 processes in peace, then again on a random sequence of 1, 2 and 4 processes
  with the same global batch, stopped at random steps in between, some steps after a checkpoint. Both must train the
  same rows in every optimizer step and decide the same.

    python eval/kill_ranks.py               # 10 rounds, about six minutes on two cores
    python eval/kill_ranks.py --times 2 --seed 7

The table goes to stdout, a line as each run is done; the exit status is 1 at the first difference.
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
if "tests" not in sys.modules:  # textstat installs a package of that name, which would be found first
    package = types.ModuleType("tests")
    package.__path__ = [str(REPOSITORY / "tests")]
    sys.modules["tests"] = package

from tests.distributed.ranks import Kill, Report, Warm  # noqa: E402  # only now it is ours
from tests.distributed.told import choices, first_difference, outcome, steps_of  # noqa: E402

BATCH, ROWS, EPOCHS, STEPS = 8, 60, 2, 16  # the last step of an epoch has 4 rows
SAVES = [3, 6, 9, 12]
SELECTORS = ("lowest_perplexity", "matched", "relative_perplexity")
KINDS = ("time", "step", "save")
WORLDS = (1, 2, 4)
HEAD = ("round", "run", "processes", "lives", "kills", "in a save", "re-done", "equal")


@dataclass
class Outcome:
    """One line of the table.

    Args:
        number: of the round.
        run: "killed" or "moved".
        worlds: processes of each life.
        kills: that hit a living job.
        in_saves: kills after which a checkpoint was half written.
        redone: steps trained more than once.
        difference: the first one, in words; None where there is none.
    """

    number: int
    run: str
    worlds: list[int] = field(default_factory=list)
    kills: int = 0
    in_saves: int = 0
    redone: int = 0
    difference: str | None = None

    def line(self) -> str:
        """As markdown."""
        worlds = " → ".join(map(str, self.worlds)) if self.run == "moved" else str(self.worlds[0])
        counts = map(str, (len(self.worlds), self.kills, self.in_saves, self.redone))
        cells = [str(self.number), self.run, worlds, *counts, "**no**" if self.difference else "yes"]
        return f"| {' | '.join(cells)} |"


def life(warm: Warm, world: int, out: str, chance_seed: int, **more: Any) -> Report:
    """Start a run, or go on from its last complete checkpoint."""
    campus = {"metrics": ["length", "mtld", "loss"], "stages": 3, "handover": 0.9, "budget": 2.0, "mix": 0.2}
    campus |= {"selector": SELECTORS[chance_seed % len(SELECTORS)], "scores": "none"}
    campus |= {"weights": ["superloss"]} if chance_seed % 2 else {}
    settings = {"config": campus, "probes": 10, "n": ROWS, "num_train_epochs": EPOCHS, "seed": chance_seed}
    settings |= {"per_device_train_batch_size": BATCH // world, "saves": SAVES}
    return warm.run("train", world, out=out, resume=Path(out).exists(), timeout=300.0, **{**settings, **more})


def killed(warm: Warm, folder: Path, number: int, seed: int, kills: int) -> Outcome:
    """Train in peace, then under kills, and compare."""
    chance, found = random.Random(f"killed {seed}"), Outcome(number, "killed")
    calm, hunted = str(folder / f"{number}-calm"), str(folder / f"{number}-killed")
    peace = life(warm, 2, calm, seed, lora=True).ok
    for kind in moments(chance, kills):
        report = life(warm, 2, hunted, seed, lora=True, kill=kill_at(kind, hunted, chance, peace.seconds))
        found.worlds.append(2)
        if not any(report.codes):
            break  # it was done before
        if not report.killed:
            raise SystemExit(f"round {number}: the job failed by itself\n{report.told()}")
        found.kills += 1
        found.in_saves += half_saved(Path(hunted))
        say(f"round {number}: killed ({kind}) after step {beats(hunted)[-1:] or 0}, exit codes {report.codes}")
    last = life(warm, 2, hunted, seed, lora=True).ok
    found.worlds.append(2)
    found.redone = len(beats(hunted)) - STEPS
    found.difference = first_difference(outcome(hunted, last), outcome(calm, peace))
    return found


def moved(warm: Warm, folder: Path, number: int, seed: int) -> Outcome:
    """Train in peace, then on changing numbers of processes, and compare."""
    chance, found = random.Random(f"moved {seed}"), Outcome(number, "moved")
    calm, restless = str(folder / f"{number}-still"), str(folder / f"{number}-moved")
    peace = life(warm, 2, calm, seed, dropout=False).ok
    stops = sorted(chance.sample(range(SAVES[0] + 1, STEPS), chance.choice((1, 2, 3))))
    world, lives = chance.choice(WORLDS), []
    for stop in (*stops, None):
        lives.append(life(warm, world, restless, seed, dropout=False, stop=stop).ok)
        found.worlds.append(world)
        say(f"round {number}: on {world} processes to step {STEPS if stop is None else stop}")
        world = chance.choice([other for other in WORLDS if other != world])
    found.redone = len(beats(restless)) - STEPS
    rows, expected = steps_of(*lives), steps_of(peace)
    others = [step for step in expected if rows.get(step) != expected[step]]
    if others:
        found.difference = f"step {others[0]}: rows {rows.get(others[0])} instead of {expected[others[0]]}"
    else:
        found.difference = first_difference({"decisions": choices(restless)}, {"decisions": choices(calm)})
    return found


def moments(chance: random.Random, kills: int) -> Iterator[str]:
    """Kinds of kills, each as often as the others, in a random sequence."""
    kinds = [KINDS[k % len(KINDS)] for k in range(kills)]
    chance.shuffle(kinds)
    return iter(kinds)


def kill_at(kind: str, out: str, chance: random.Random, seconds: float) -> Kill:
    """A kill of the whole job or, one time in three, of one rank."""
    ranks = [chance.randrange(2)] if chance.random() < 1 / 3 else None
    done = beats(out)
    if kind == "time":
        return Kill("seconds", n=chance.uniform(0.0, seconds), ranks=ranks)
    if kind == "step":
        return Kill("lines", f"{out}.beats", n=len(done) + chance.randint(1, STEPS // 3), ranks=ranks)
    later = [step for step in SAVES if step > max(done, default=0)] or SAVES[-1:]
    return Kill("saving", out, n=chance.choice(later[:2]), ranks=ranks, delay=chance.uniform(0.0, 0.02))


def beats(out: str) -> list[int]:
    """The optimizer steps finished so far, over all lives, in sequence."""
    path = Path(f"{out}.beats")
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def half_saved(out: Path) -> bool:
    """Whether there is a checkpoint without a whole trainer state that a later life will have to skip."""
    return any(not (path / "trainer_state.json").exists() for path in out.glob("checkpoint-*"))


def say(line: str) -> None:
    """What happens meanwhile."""
    print(f"  {line}", file=sys.stderr, flush=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10, help="rounds")
    parser.add_argument("--kills", type=int, default=3, help="in each round")
    parser.add_argument("--seed", type=int, default=0, help="of the first round; each has the next one")
    parser.add_argument("--keep", type=Path, help="folder for the runs, kept; without it a temporary one")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the rounds; 1 at the first difference."""
    options = parse(arguments)
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(tempfile.mkdtemp(prefix="kill_ranks-"))
        if options.keep is None:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        warm = stack.enter_context(Warm(folder))
        print(f"| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}")
        for number in range(options.times):
            seed = options.seed + number
            for found in (killed(warm, folder, number, seed, options.kills), moved(warm, folder, number, seed)):
                print(found.line(), flush=True)
                if found.difference:
                    print(f"\nround {number}, {found.run}, `--seed {seed} --times 1`: {found.difference}")
                    return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
