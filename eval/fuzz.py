"""Generated inputs of every kind, to find out whether anything but a sentence comes of a wrong one.

Recipes and other YAML, command lines, rows and tables, tokenised rows, score files and the score cache, ledgers and
their pages, checkpoints and what they say, results of evaluations, comparisons. Each input is made from the seed, its
number and nothing else, and is then given to the package in a process that is watched. What must never happen:

    a traceback         anything raised that is no CampusError, or a command that ends otherwise than with 0, 1 or 2
    no sentence         a refusal that does not say what must be and what it got
    a hang              more than 60 s of a processor for one input, or 5 minutes on the clock
    memory              4 GB more than the package takes when it does nothing
    markup              an element or attribute of the input's in a page
    taken, refused      an input that is wrong and is taken, or right and refused; or read as something else

About a third of the inputs are right, and each kind must have taken some and refused some, or the fuzz itself failed.

    python eval/fuzz.py                                   # 10 000 inputs with a new seed, which is printed
    python eval/fuzz.py --seed 7 --only 1234              # one of them again, with all that it says
    python eval/fuzz.py --seed 7 --kind ledger -n 500     # one kind
    python eval/fuzz.py --prove                           # are faults found that are planted into a copy?

Processes are forked from one that has loaded torch and its relatives, and has not loaded the package: so a killed one
is replaced in a second, and each planted fault costs no more than its inputs.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import random
import re
import resource
import secrets
import shutil
import signal
import sys
import tempfile
import time
import traceback
import types
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

for name, value in {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}.items():
    os.environ.setdefault(name, value)
REPOSITORY = Path(__file__).parents[1]
if str(REPOSITORY) not in sys.path:
    sys.path.insert(0, str(REPOSITORY))
if "tests" not in sys.modules:  # textstat installs a package of that name, which would be found first
    package = types.ModuleType("tests")
    package.__path__ = [str(REPOSITORY / "tests")]
    sys.modules["tests"] = package

from eval.fuzzing import kinds, left  # noqa: E402  # after the path is set
from eval.fuzzing.ask import ACCEPTED, EITHER, REFUSED, Answer, Input, WrongError, refuse_empty_words  # noqa: E402
from eval.fuzzing.faults import FAULTS, plant  # noqa: E402

if TYPE_CHECKING:
    from campus_tune.report.figures import Picture

LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "pyarrow.parquet", "yaml", "jinja2",
             "matplotlib.figure", "matplotlib.backends.backend_agg", "PIL.Image",
             "scipy.stats")  # fmt: skip
KINDS: dict[str, tuple[kinds.Kind, float]] = {  # what makes it, and how often
    "recipe": (kinds.recipe, 12),
    "yaml": (kinds.yaml_text, 14),
    "compare block": (kinds.compare_block, 4),
    "suite": (kinds.suite, 3),
    "accelerate": (kinds.accelerate, 3),
    "simulate": (kinds.simulate, 9),
    "command": (kinds.commands, 4),
    "check": (kinds.check, 2),
    "rows": (kinds.rows, 12),
    "column": (kinds.column, 6),
    "tokens": (kinds.tokens, 4),
    "prepared rows": (kinds.prepared_rows, 0.5),
    "scores": (left.score_files, 4),
    "cache": (left.score_cache, 4),
    "ledger": (left.ledger, 5),
    "page": (left.page, 1.5),
    "beside": (left.beside, 1.5),
    "checkpoint": (left.checkpoint, 4),
    "state": (left.state, 0.3),
    "results": (left.results, 5),
    "comparison": (left.comparison, 1.5),
    "judged": (left.judged, 3),
}
ONE_SIDED = {
    "page",
    "beside",
    "cache",
    "prepared rows",
    "state",
}  # nothing in them is refused for certain, or few are made
HANG_S, MEMORY = 60.0, 4 << 30
WAITS = 5  # times that, on the clock, for one that waits and does nothing
FAULT = "FAULT"


@dataclass
class Found:
    """What came of some inputs.

    Args:
        outcomes: kind → how many were accepted, refused, faults.
        faults: number → (kind, how the input was made, what went wrong).
        seconds: by kind.
        each: seconds by number.
        peak: most memory that a process held, bytes.
    """

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    faults: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    seconds: Counter[str] = field(default_factory=Counter)
    each: dict[int, float] = field(default_factory=dict)
    peak: int = 0

    def add(self, number: int, kind: str, what: str, outcome: str, said: str, seconds: float) -> None:
        """Count one."""
        self.outcomes.setdefault(kind, Counter())[outcome] += 1
        self.seconds[kind] += seconds
        self.each[number] = seconds
        if outcome == FAULT:
            self.faults[number] = (kind, what, said)

    def one_sided(self) -> list[str]:
        """Kinds of which nothing was taken, or nothing refused, though enough were asked."""
        counts = {
            kind: counts for kind, counts in self.outcomes.items() if kind not in ONE_SIDED and counts.total() >= 30
        }
        return [
            f"{kind} {outcome} none" for kind, n in counts.items() for outcome in (ACCEPTED, REFUSED) if not n[outcome]
        ]


# -- in the process that asks ------------------------------------------------------------------------------------------


def chance_of(seed: int, number: int) -> random.Random:
    """All chance in the input of a number."""
    return random.Random(f"{seed}:{number}")


def make(world: kinds.World, seed: int, number: int, only: str | None) -> tuple[str, Input]:
    """The input of a number: its kind, and how to ask. It is written into the working directory."""
    chance = chance_of(seed, number)
    names = list(KINDS) if only is None else [only]
    kind = chance.choices(names, [KINDS[name][1] for name in names])[0]
    return kind, KINDS[kind][0](world, chance)


def judged(given: Input) -> tuple[str, str]:
    """(accepted, refused or FAULT; the refusal or what went wrong) of one input."""
    from campus_tune.words.errors import CampusError

    try:
        answer = given.ask()
    except WrongError as wrong:
        return FAULT, str(wrong)
    except CampusError as refusal:
        try:
            refuse_empty_words(str(refusal))
        except WrongError as wrong:
            return FAULT, str(wrong)
        answer = Answer(REFUSED, str(refusal))
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # pyo3's panics are no Exception
        return FAULT, f"{type(error).__name__}: {str(error)[:200]} | {_where(error)}"
    if given.expected not in (EITHER, answer.outcome):
        return FAULT, f"{answer.outcome}, but must be {given.expected}: {answer.said[:300]}"
    if given.expected == REFUSED and given.names and not _named(given.names, answer.said):
        return FAULT, f"the refusal does not name {' or '.join(given.names)}: {answer.said[:300]}"
    return answer.outcome, answer.said[:300]


PARTS = ("metric", "label", "column", "length", "random", "rank_mean", "`of`", "loss")  # of `metrics`, named for it


def _named(names: Sequence[str], said: str) -> bool:
    """Whether a refusal says which of the wrong settings it means, by its name, a part's or its line."""
    parts = PARTS if "metrics" in names else ()
    return any(name in said for name in (*names, *parts)) or re.search(r"line \d+", said) is not None


def _where(error: BaseException) -> str:
    """The innermost lines of the package, and the very last one."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/campus_tune/" in frame.filename][-2:]
    return " > ".join(f"{Path(frame.filename).name}:{frame.name}: {frame.line}" for frame in [*ours, *frames[-1:]])


def cut_off(pictures: bool) -> None:
    """What would train, load a model or launch ends where that would begin; pictures are drawn, and seldom painted."""
    from campus_tune.cli import compare as run_compare
    from campus_tune.cli import eval as run_eval
    from campus_tune.cli import launch, proxy, score, sft
    from campus_tune.report import figures

    sft.train = lambda *_, **__: None  # type: ignore[assignment]
    score.make_trainer = score.report = lambda *_, **__: None  # type: ignore[assignment]
    proxy._make, proxy._sum_up = lambda *_: {}, lambda *_: None  # type: ignore[assignment]
    run_compare._compare = lambda *_: 0
    run_eval.main = lambda options: run_eval.read_suite(options) and 0  # type: ignore[return-value]
    launch._run = lambda _: 0
    if not pictures:
        figures.Picture.png, figures.Picture.svg = PNG, _drawn  # type: ignore[assignment,method-assign]


_draws = True  # the pictures of this input's page
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000 1f15c4890000000d49444154789c6360f8cf00000003010100"
    "18dd8db00000000049454e44ae426082".replace(" ", "")
)


def _drawn(picture: Picture, *, narrow: bool = False) -> str:
    """As `Picture.svg`, without what takes most of the time; of three pages out of four nothing is drawn."""
    if _draws and narrow:
        picture.figure(narrow=True)
    return ""


def work(
    pipe: Any, product: Path, world: kinds.World, scratch: Path, numbers: Sequence[int], options: argparse.Namespace
) -> None:
    """Ask for all of some numbers, and tell the parent before and after each."""
    for name in [name for name in sys.modules if name == "campus_tune" or name.startswith("campus_tune.")]:
        if product != REPOSITORY:
            del sys.modules[name]
    sys.path.insert(0, str(product))
    warnings.simplefilter("ignore")
    os.environ |= {"CAMPUS_TUNE_CACHE": str(scratch / "cache"), "HOME": str(scratch / "home")}
    scratch.mkdir(parents=True, exist_ok=True)
    _warm(world, pictures=options.pictures)
    calm = dict(os.environ)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    for number in numbers:
        here = scratch / "input"
        shutil.rmtree(here, ignore_errors=True)
        here.mkdir()
        os.chdir(here)
        kind, given = make(world, options.seed, number, options.kind)
        globals()["_draws"] = number % 4 == 0
        pipe.send(("asked", number, kind, given.what))
        began = time.perf_counter()
        outcome, said = judged(given)
        seconds = time.perf_counter() - began
        os.environ.clear()
        os.environ.update(calm)
        pipe.send(("answered", number, kind, given.what, outcome, said, seconds))
    pipe.send(("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def _warm(world: kinds.World, *, pictures: bool) -> None:
    """Load the package, and what it loads when it is used: not a matter of the first input."""
    import datasets

    from campus_tune.cli import main as cli

    assert cli.__file__
    importlib.import_module("campus_tune.evaluate.suites")
    cut_off(pictures)
    datasets.disable_progress_bars()
    from transformers.utils import logging

    logging.set_verbosity_error()
    del world


# -- in the process that watches ---------------------------------------------------------------------------------------


@dataclass
class Worker:
    """A process, and what it is at."""

    process: Any
    pipe: Any
    left: list[int]
    at: tuple[int, str, str] | None = None
    since: float = field(default_factory=time.monotonic)
    busy: float = 0.0


def fuzz(
    folder: Path, product: Path, numbers: Sequence[int], options: argparse.Namespace, until: int | None = None
) -> Found:
    """Ask for all numbers, in some processes.

    Args:
        folder: with `corpus/`; for everything else that is written too.
        product: folder to import the package from.
        numbers: of the inputs.
        options: `seed`, `kind`, `jobs`, `hang` and `pictures`.
        until: faults after which the others are left out.
    """
    found, world = Found(), kinds.World(REPOSITORY, folder / "corpus")
    workers: list[Worker] = []
    jobs = max(1, min(options.jobs, len(numbers)))
    try:
        for job in range(jobs):
            workers.append(_start(product, world, folder / f"job-{job}", list(numbers[job::jobs]), options))
        while workers and (until is None or len(found.faults) < until):
            workers = [w for worker in workers if (w := _look(worker, found, product, world, folder, options))]
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.join()
    return found


def _start(product: Path, world: kinds.World, scratch: Path, numbers: list[int], options: argparse.Namespace) -> Worker:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(theirs, product, world, scratch, numbers, options), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's, that a fork may not find all threads: none of them works just now
        process.start()
    theirs.close()
    return Worker(process, ours, numbers)


def _look(
    worker: Worker, found: Found, product: Path, world: kinds.World, folder: Path, options: argparse.Namespace
) -> Worker | None:
    """Hear what a process says, and end it where it hangs or eats; gives back the one that goes on."""
    try:
        for _ in range(50):
            if not worker.pipe.poll(0.02):
                break
            _hear(worker, worker.pipe.recv(), found)
        else:
            return worker
    except EOFError:
        worker.process.join()
        why = f"the process died ({worker.process.exitcode})"
        return _again(worker, why, found, product, world, folder, options) if worker.left else None
    if worker.at is None:
        return worker
    wall, busy = time.monotonic() - worker.since, _busy(worker.process.pid) - worker.busy
    if busy > options.hang or wall > WAITS * options.hang:
        return _again(worker, f"a hang of {options.hang:g} s", found, product, world, folder, options)
    if _resident(worker.process.pid) > 2 * MEMORY:
        return _again(worker, "more than 4 GB of memory", found, product, world, folder, options)
    return worker


def _hear(worker: Worker, said: tuple[Any, ...], found: Found) -> None:
    if said[0] == "asked":
        worker.at, worker.since, worker.busy = said[1:], time.monotonic(), _busy(worker.process.pid)
    elif said[0] == "answered":
        worker.at = None
        worker.left.remove(said[1])
        found.add(*said[1:])
    else:
        found.peak = max(found.peak, said[1])


def _again(
    worker: Worker, why: str, found: Found, product: Path, world: kinds.World, folder: Path, options: argparse.Namespace
) -> Worker | None:
    """A process that goes on after the input that this one could not end."""
    if worker.process.is_alive():
        os.kill(worker.process.pid, signal.SIGKILL)
    worker.process.join()
    number, kind, what = worker.at or (worker.left[0], "?", "before it was made")
    found.add(number, kind, what, FAULT, why, time.monotonic() - worker.since)
    worker.left.remove(number)
    scratch = folder / f"job-{secrets.token_hex(4)}"
    return _start(product, world, scratch, worker.left, options) if worker.left else None


def _busy(pid: int) -> float:
    """Seconds that a process has worked: on a machine with other work the clock says little."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def _corpus(folder: Path) -> None:
    """Made in a process of its own, so that this one never loads the package."""
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_make_corpus, args=(folder,))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"the corpus could not be made (exit code {process.exitcode})")


def _make_corpus(folder: Path) -> None:
    from eval.fuzzing import corpus

    warnings.simplefilter("ignore")
    os.environ["CAMPUS_TUNE_CACHE"] = str(folder / "cache-of-runs")
    corpus.make(folder / "corpus")


# -- what comes of it --------------------------------------------------------------------------------------------------


def table(found: Found) -> str:
    """One line for each kind."""
    lines = ["| kind | inputs | accepted | refused | faults | ms each |", "| --- | --- | --- | --- | --- | --- |"]
    total: Counter[str] = Counter()
    for kind in [kind for kind in KINDS if kind in found.outcomes] + [
        kind for kind in found.outcomes if kind not in KINDS
    ]:
        counts = found.outcomes[kind]
        total += counts
        each = 1000 * found.seconds[kind] / counts.total()
        lines.append(
            f"| {kind} | {counts.total()} | {counts[ACCEPTED]} | {counts[REFUSED]} | {counts[FAULT]} | {each:.0f} |"
        )
    lines.append(f"| **all** | {total.total()} | {total[ACCEPTED]} | {total[REFUSED]} | {total[FAULT]} | |")
    return "\n".join(lines)


def listed(found: Found, seed: int, kind: str | None) -> Iterator[str]:
    """The faults, those of one place together."""
    places: dict[str, list[int]] = {}
    for number, (its, _, said) in sorted(found.faults.items()):
        places.setdefault(f"{its}: {said.split(' | ')[-1][:160] if ' | ' in said else said[:60]}", []).append(number)
    for numbers in places.values():
        its, what, said = found.faults[numbers[0]]
        again = f"--seed {seed} --only {numbers[0]}" + (f" --kind {kind!r}" if kind else "")
        more = f" (and {len(numbers) - 1} more: {', '.join(map(str, numbers[1:4]))})" if len(numbers) > 1 else ""
        yield f"- {its}{more}: {what[:300]}\n  {said[:600]}\n  python eval/fuzz.py {again}"


def prove(folder: Path, options: argparse.Namespace) -> int:
    """Plant each fault into a copy, and ask what the right one was asked, the quickest first, until one differs."""
    numbers = range(options.n)
    right = fuzz(folder, REPOSITORY, numbers, options)
    print(f"without a fault: {len(right.faults)} of {options.n} inputs", flush=True)
    print("\n".join(listed(right, options.seed, options.kind)))
    quiet = sorted((number for number in numbers if number not in right.faults), key=right.each.__getitem__)
    missed = []
    faults = [fault for fault in FAULTS if any(words in fault.name for words in options.fault)]
    for fault in faults:
        copied = folder / "planted" / fault.name.replace(" ", "-").replace("'", "")
        began = time.perf_counter()
        found = fuzz(folder, plant(fault, REPOSITORY / "campus_tune", copied), quiet, options, until=1)
        seconds = time.perf_counter() - began
        if found.faults:
            number, (kind, what, said) = next(iter(found.faults.items()))
            print(f"found   {fault.name} ({seconds:.0f} s): {kind} {number}: {what[:90]} → {said[:140]}", flush=True)
        else:
            missed.append(fault.name)
            print(f"MISSED  {fault.name} ({seconds:.0f} s)", flush=True)
    print(f"\n{len(faults) - len(missed)} of {len(faults)} planted faults found")
    return int(10 * len(missed) > len(faults))


def run(folder: Path, options: argparse.Namespace) -> int:
    """The fuzz itself."""
    numbers = range(options.n) if options.only is None else [options.only]
    began = time.perf_counter()
    found = fuzz(folder, REPOSITORY, numbers, options)
    print(table(found))
    print("\n".join(listed(found, options.seed, options.kind)))
    one_sided = found.one_sided()
    if one_sided:
        print("the fuzz itself is wrong: " + "; ".join(one_sided))
    seconds = time.perf_counter() - began
    print(f"{len(found.faults)} faults; {seconds:.0f} s; at most {found.peak / 2**30:.2f} GB a process")
    if options.only is not None and not found.faults:
        kind, counts = next(iter(found.outcomes.items()))
        print(f"{kind}: {next(iter(counts))}")
    return int(bool(found.faults or one_sided))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=None, help="inputs (10000; with --prove 3000)")
    parser.add_argument("--seed", type=int, default=None, help="of all of them (a new one)")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="this one alone")
    parser.add_argument("--kind", choices=list(KINDS), help="of this kind alone")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="processes (%(default)s)")
    parser.add_argument("--hang", type=float, default=HANG_S, help="seconds for one input (%(default)g)")
    parser.add_argument("--pictures", action="store_true", help="paint the pictures of pages, half a minute each")
    parser.add_argument("--prove", action="store_true", help="plant faults into a copy, and find them")
    parser.add_argument("--fault", nargs="+", default=[""], metavar="WORDS", help="of these, those with such names")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="folder to work in (a temporary one)")
    options = parser.parse_args(argv)
    options.seed = secrets.randbits(32) if options.seed is None else options.seed
    options.n = (3000 if options.prove else 10_000) if options.n is None else options.n
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    options = parse(argv)
    print(f"seed {options.seed}", flush=True)
    for library in LIBRARIES:
        importlib.import_module(library)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        if not (folder / "corpus").is_dir():
            _corpus(folder)
        return prove(folder, options) if options.prove else run(folder, options)
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    raise SystemExit(main())
