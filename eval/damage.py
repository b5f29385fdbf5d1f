"""Damages a run's files one after the other, and counts what a resume makes of it.

Every file of the newest checkpoint and of the run's `curriculum/` is in turn

    missing         cut to 0, to 1, to half, to all but one byte        lengthened by a byte
    flipped         one bit in each of 100 places (all of its bytes, if it has fewer)
    exchanged       for that of another run, and for that of an older checkpoint of the same run

and files that the trainer would read are put beside those that the save wrote. Then `resume_from_checkpoint=True` is
asked what it would take, which takes milliseconds:

    named           refused, and the message names the file (or the checkpoint's run)
    earlier         the checkpoint before it is taken, and the words say why not this one
    warned          this checkpoint is taken, and the words name the file: no resume reads it
    unread          this checkpoint is taken without a word: no resume reads the file, or these bytes of it
    TRACEBACK       anything else was raised

Whatever is not refused is right only if training then goes on as if nothing had happened, so every kind of damage to
every file that ended in `warned` or `unread` is resumed to the end, as are a sample of the others, and compared with
the run that nothing befell: log lines, ledger, row losses and weights, bit by bit. A difference is OTHER RESULTS.

    python eval/damage.py                           # 100 flips a file: some minutes
    python eval/damage.py --flips 5 --resumes 5     # a look
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import shutil
import sys
import tempfile
import time
import types
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
REPOSITORY = Path(__file__).parents[1]
if "tests" not in sys.modules:  # textstat installs a package of that name, which would be found first
    package = types.ModuleType("tests")
    package.__path__ = [str(REPOSITORY / "tests")]
    sys.modules["tests"] = package

LAST, STEPS = 8, 12  # the newest checkpoint, and the steps of the run
LIVES = (5, 8)  # steps at which it was stopped, and resumed from the checkpoint before
STRANGERS = ("scaler.pt", "optimizer.bin", "pytorch_model.bin", "rng_state_1.pth", "latest")
RECIPE = {"metrics": ["length", "mtld", "loss"], "stages": 4, "rescore": 1, "handover": 0.9, "budget": 0.9}
RECIPE |= {"scores": "none", "selector": "relative_perplexity"}
SETTINGS: dict[str, Any] = {"config": RECIPE, "n": 96, "max_steps": STEPS, "lora": True, "save_steps": 2}
SETTINGS |= {"per_device_train_batch_size": 8}
NAMED, EARLIER, WARNED, UNREAD, TRACEBACK = OUTCOMES = ("named", "earlier", "warned", "unread", "TRACEBACK")


@dataclass(frozen=True)
class Damage:
    """One damage to one file.

    Args:
        file: its name in the run's folder.
        kind: missing, cut, longer, flipped, exchanged, added.
        do: makes new content of the old; None removes the file.
    """

    file: str
    kind: str
    do: Callable[[bytes], bytes | None]


# -- the runs ----------------------------------------------------------------------------------------------------------


def trained(out: Path, stops: tuple[int, ...], **settings: Any) -> Any:
    """A run that is stopped before each of these steps, and resumed after each stop but the last."""
    from transformers import TrainerCallback

    from tests.run.tiny_run import tiny_trainer

    class Stopped(Exception):  # noqa: N818  # not an error
        pass

    class Stop(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        def __init__(self, step: int) -> None:
            self.step = step

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, control, kwargs
            if state.global_step == self.step:
                raise Stopped

    trainer = None
    for step in stops or (STEPS,):
        trainer = tiny_trainer(out, callbacks=[Stop(step)], **{**SETTINGS, **settings})
        with contextlib.suppress(Stopped):
            trainer.train(resume_from_checkpoint=True)
    return trainer


def outcome(trainer: Any) -> list[Any]:
    """All that a damage must not change."""
    from tests.run.tiny_run import history_of, ledger_of, weights_of

    out = Path(trainer.args.output_dir)
    losses = (out / "curriculum" / "training_losses").glob("*.parquet")
    weights = {name: value.numpy().tobytes() for name, value in weights_of(trainer).items()}
    return [history_of(trainer), ledger_of(out), {path.name: path.read_bytes() for path in losses}, weights]


# -- the damages -------------------------------------------------------------------------------------------------------


def damages(out: Path, other: Path, flips: int, chance: random.Random) -> Iterator[Damage]:
    """Every damage to every file of the newest checkpoint and of the run's folder."""
    newest, older = out / f"checkpoint-{LAST}", out / f"checkpoint-{LAST - 2}"
    for folder in (newest, out / "curriculum"):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name, content = path.relative_to(out).as_posix(), path.read_bytes()
            yield Damage(name, "missing", lambda _: None)
            for length in sorted({0, 1, len(content) // 2, len(content) - 1} & set(range(len(content)))):
                yield Damage(name, "cut", lambda old, length=length: old[:length])  # type: ignore[misc]
            yield Damage(name, "longer", lambda old: old + b"\n")
            for place in chance.sample(range(len(content)), min(flips, len(content))):
                bit = 1 << chance.randrange(8)
                yield Damage(name, "flipped", lambda old, at=place, bit=bit: flipped(old, at, bit))  # type: ignore[misc]
            for theirs in [other / name, *([older / path.relative_to(folder)] if folder == newest else [])]:
                if theirs.exists() and theirs.read_bytes() != content:
                    yield Damage(name, "exchanged", lambda _, theirs=theirs: theirs.read_bytes())  # type: ignore[misc]
    for stranger in STRANGERS:
        yield Damage(f"{newest.name}/{stranger}", "added", lambda _: b"of another run")


def flipped(old: bytes, place: int, bit: int) -> bytes:
    """With one bit turned over."""
    return old[:place] + bytes([old[place] ^ bit]) + old[place + 1 :]


@contextlib.contextmanager
def damaged(out: Path, damage: Damage) -> Iterator[None]:
    """A run's folder with the damage, which is mended afterwards."""
    path = out / damage.file
    old = path.read_bytes() if path.exists() else None
    new = damage.do(old or b"")
    if new is None:
        path.unlink()
    else:
        path.write_bytes(new)
    try:
        yield
    finally:
        if old is None:
            path.unlink()
        else:
            path.write_bytes(old)


# -- what becomes of them ----------------------------------------------------------------------------------------------


def taken(out: Path, file: str) -> str:
    """What a resume would take of a damaged run, and whether it says so: one of `OUTCOMES`."""
    from campus_tune.model.peers import Peers
    from campus_tune.run.checkpoints import last_complete
    from campus_tune.words.errors import CampusError

    short, said = Path(file).name, io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            found = last_complete(out, out / "curriculum", Peers())
    except CampusError as refusal:
        named = short in str(refusal) or "of another run" in str(refusal) or "of an earlier life" in str(refusal)
        return NAMED if named else TRACEBACK
    except Exception:
        return TRACEBACK
    if found is None:
        return TRACEBACK
    if found.path.name != f"checkpoint-{LAST}":
        return EARLIER if f"skipping checkpoint-{LAST}" in said.getvalue() else TRACEBACK
    return WARNED if short in said.getvalue() else UNREAD


def goes_on_right(out: Path, damage: Damage, scratch: Path, undisturbed: list[Any]) -> str:
    """Resume a damaged run to its end: "same", "refused", "OTHER RESULTS" or "TRACEBACK"."""
    from campus_tune.words.errors import CampusError

    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(out, scratch)
    try:
        with damaged(scratch, damage), contextlib.redirect_stdout(io.StringIO()):
            trainer = trained(scratch, ())
            ours = outcome(trainer)
    except CampusError:
        return "refused"
    except Exception as error:
        return f"{TRACEBACK} {type(error).__name__}"
    calm = [*undisturbed]
    for found in (ours, calm):
        found[2] = {name: losses for name, losses in found[2].items() if name != Path(damage.file).name}  # named above
    differ = [name for name, a, b in zip(("log", "ledger", "losses", "weights"), ours, calm, strict=True) if a != b]
    return f"OTHER RESULTS {differ}" if differ else "same"


def table(counts: dict[str, Counter[str]]) -> str:
    """One line for each file."""
    lines = [f"| file | cases | {' | '.join(OUTCOMES)} |", f"| --- | {'--- | ' * (len(OUTCOMES) + 1)}"]
    total: Counter[str] = Counter()
    for file, found in counts.items():
        lines.append(f"| {file} | {found.total()} | {' | '.join(str(found[name]) for name in OUTCOMES)} |")
        total += found
    lines.append(f"| **all** | {total.total()} | {' | '.join(str(total[name]) for name in OUTCOMES)} |")
    return "\n".join(lines)


def chosen(cases: list[tuple[Damage, str]], n: int, chance: random.Random) -> list[tuple[Damage, str]]:
    """What is resumed to its end: one of each file, kind and outcome that took the newest, and `n` of the others."""
    ends = {(damage.file, damage.kind, found): (damage, found) for damage, found in cases if found in (WARNED, UNREAD)}
    others = [case for case in cases if case[1] in (NAMED, EARLIER)]
    return [*ends.values(), *chance.sample(others, min(n, len(others)))]


def run(folder: Path, flips: int, resumes: int, seed: int) -> bool:
    """All of it; whether nothing was wrong."""
    from tests.run.tiny_run import task_rows

    chance, began = random.Random(seed), time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        calm = outcome(trained(folder / "calm", ()))
        trained(folder / "run", LIVES)
        trained(folder / "other", (LAST,), train=task_rows(96, seed=2), seed=9)
    out, counts, cases = folder / "run", {}, []
    for damage in damages(out, folder / "other", flips, chance):
        with damaged(out, damage):
            found = taken(out, damage.file)
        cases.append((damage, found))
        counts.setdefault(damage.file, Counter())[found] += 1
    print(table(counts))
    print(f"\n{len(cases)} cases in {time.perf_counter() - began:.0f} s", flush=True)
    ends: Counter[str] = Counter()
    nothing = (Damage("curriculum/.lock", "not at all", lambda old: old), UNREAD)
    for damage, found in [nothing, *chosen(cases, resumes, chance)]:
        end = goes_on_right(out, damage, folder / "scratch", calm)
        ends[f"{found}: {end}"] += 1
        if end not in ("same", "refused") or (end == "refused") != (found == NAMED):
            print(f"{damage.file} {damage.kind}: {found}, then {end}", flush=True)
    print("\nresumed to the end: " + "; ".join(f"{what} {n}" for what, n in sorted(ends.items())))
    wrong = [what for what in ends if "OTHER" in what or TRACEBACK in what]
    return not wrong and not any(found == TRACEBACK for _, found in cases)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=100, help="places in each file (%(default)s)")
    parser.add_argument("--resumes", type=int, default=40, help="of those that take no damaged file (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="folder of the runs (a temporary one)")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    folder = options.keep or Path(tempfile.mkdtemp(prefix="damage-"))
    try:
        right = run(folder, options.flips, options.resumes, options.seed)
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if right else 1


if __name__ == "__main__":
    raise SystemExit(main())
