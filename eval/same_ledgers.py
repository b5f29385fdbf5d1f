"""Whether two checkouts of this repository make the same runs: what a rebuilding that changes nothing must prove.

Eight recipes of a tiny random model on graded tasks are run by an old checkout and by this one, each by its own public
command (`python -m campus_tune …`) in processes of its own, with its own score cache, from the same files and seed.
They have both windows, both coverages, a scorer and re-scoring, workers (of the data loader and of metrics),
accumulation, two ranks, and a run that is killed in the middle of a stage and resumed: by the checkout that began it,
and begun by the old one and resumed by the new. Then everything is compared:

- the ledger under its own comparison (`campus-tune diff` and `comparable`), then every line whole, but for `seconds`;
- the names of all files of the run, and what is in them: scores, losses of rows, weights, optimizer, random states and
  the state of the curriculum in each checkpoint, the trainer's log, recipe, model card; `CLOCKED` and `VARIES` say what
  is left out. A report and its pictures must be there;
- what the run, `check` and `simulate` said to the user.

A run that the new checkout resumes must end as if it had never stopped, or be REFUSED in a sentence, which is shown.

    python eval/same_ledgers.py ../old                     # eight recipes, about ten minutes on two cores
    python eval/same_ledgers.py ../old --only slice        # those whose name contains this
    python eval/same_ledgers.py ../old --keep /tmp/same    # the runs stay, to look into; the next time, a side whose
                                                           # source and recipe are as they were is not run again
    python eval/same_ledgers.py ../old --prove             # plant faults in copies of this checkout: each must be found

A line a recipe goes to stdout: PROVEN, REFUSED, or DIFFERENT with the first difference; the exit status is 1 for that.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from campus_tune.run.ledger import comparable, read_ledger

HERE = Path(__file__).resolve().parents[1]
QUIET = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "COLUMNS": "120"}
QUIET |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "CUDA_VISIBLE_DEVICES": ""}
QUIET |= {"PYTHONHASHSEED": "0"}  # TRL writes the tags of a model card in the order of a set
STOP, KILL = "checkpoint-8", "checkpoint-16"  # a run is killed while it saves the second, and resumed from the first
PATIENCE = 900.0  # seconds after which a process counts as hung

# What differs between two runs of one checkout too.
CLOCKED = ("seconds", "runtime", "per_second")  # ends of the names of values that a clock made, in any JSON
VARIES = {
    "lives": "ids of a run's lives are drawn at random",
    "earlier": "so are those of the runs before it",
    "check": "seals a file with such an id",
    "size": "of the ledger in bytes, in which seconds have more or fewer digits",
}
CHANCE = {  # files of which only the presence is compared
    "training_args.bin": "names the folder of the logs by the time of day",
    "report.html": "shows seconds",
    ".png": "some show seconds",
    ".lock": "is empty",
}
HASHED = "campus_files.json"  # length and hash of the files of a checkpoint, some of them with seconds inside
# a file, means of past stages in a checkpoint, and tokens of padding and the cut of a step there and in the ledger:
# older ones lack them
NEWER = ("learning_rate.json", "shown.jsonl", "past", "padding", "batching", "cut", "advice")
NEWER_LINES = ("campus: padding ", "campus: no padding", "campus: advice ")  # what is said of that
GONE = ("kept",)  # keys of a checkpoint that newer ones lack: whether a budget could be kept
LEFT = ("ledger.abandoned.jsonl", ".tmp")  # by a kill: what was written after the checkpoint, or half
SHARD_ID = re.compile('"[0-9a-f]{16}": {|"key": "[0-9a-f]{32}"')  # drawn at random, in a shard; and of what it is
ASKED = "asked"  # a column of newer shards of losses, whose key has another version: what went through the model
SAID = re.compile(r"; by the clock, .*|(?<=ranks, own work: ).*|\d+(?:\.\d+)? ?(?:s|seconds|minutes)\b")


@dataclass(frozen=True)
class Recipe:
    """One run, and which checkouts it is run by.

    Args:
        name: in the table.
        campus: the block of the curriculum.
        training: settings of TRL's, over `TRAINING`.
        ranks: processes.
        old: checkouts, "old" or "new", that live one side of the comparison one after the other: all but the last are
            killed.
        new: the other side.
    """

    name: str
    campus: Mapping[str, Any]
    training: Mapping[str, Any] = field(default_factory=dict)
    ranks: int = 1
    old: Sequence[str] = ("old",)
    new: Sequence[str] = ("new",)

    @property
    def as_if(self) -> bool:
        """One side is stopped and the other is not: equal but for what says so."""
        return len(self.old) != len(self.new)


TRAINING = {
    "model_name_or_path": "../../files/model",
    "dataset_name": "../../files/train.jsonl",
    "output_dir": "run",
    "num_train_epochs": 1,
    "per_device_train_batch_size": 4,
    "learning_rate": 3e-3,
    "max_length": 512,
    "dtype": "float32",
    "bf16": False,
    "use_cpu": True,
    "gradient_checkpointing": False,
    "logging_steps": 1,
    "save_steps": 8,
    "report_to": "none",
    "disable_tqdm": True,
    "seed": 3,
}
PROBES = {"path": "../../files/probes.jsonl"}
LORA = {"use_peft": True, "lora_r": 4, "lora_dropout": 0.1, "lora_target_modules": "all-linear"}
SUM = {"name": "loss", "reduce": "sum"}


def recipes() -> list[Recipe]:
    """The eight; each setting that shapes a run has two values among them at least."""
    exact = {"metrics": ["length", "mtld", SUM], "stages": 4, "probes": PROBES, "budget": 0.5}
    published = {"metrics": ["length", "loss", "compression"], "stages": 3, "selector": "lowest_perplexity"}
    published |= {"window": "slice", "coverage": "revisit", "within": "none", "handover": 1.0}
    published |= {"rescore": 0, "budget": 1.0}
    revisit = {"metrics": ["-length", "confidence", {"name": "ifd"}], "stages": 6, "selector": "relative_perplexity"}
    revisit |= {"coverage": "revisit", "mix": 0.3, "handover": 0.8, "budget": 1.0, "batching": "plain", "seed": 11}
    many = {"metrics": ["mtld", "compression", {"name": "rank_mean", "of": ["length", "mtld"]}], "stages": 4}
    many |= {"window": "slice", "mix": 0.2, "handover": 0.9, "selector": "round_robin", "pacing": "linear"}
    reference = {"name": "perplexity", "model": "../../files/model"}
    aware = {"metrics": [{"name": "scorer", "new_tokens": 8, "pairs": 32}, "loss", reference], "stages": 6}
    aware |= {"rescore": 2, "handover": 0.9, "mix": 0.25, "budget": 2.0, "probes": PROBES}
    ranks = {"metrics": ["length", "loss"], "stages": 4, "rescore": 2, "handover": 0.8, "budget": 1.0, "probes": PROBES}
    ranks |= {"batching": "plain"}  # sorted steps were cut otherwise before, which rounds their losses otherwise
    stopped = {**aware, "metrics": ["length", "loss", "confidence"], "stages": 5}
    two = {"num_train_epochs": 2}
    workers = {"dataset_name": "../../files/long.jsonl", "dataloader_num_workers": 2, "dataset_num_proc": 2}
    found = [
        Recipe("prefix-exact", exact, two),
        Recipe("slice-revisit-published", published, two),
        Recipe("prefix-revisit-accumulation", revisit, two | LORA | {"gradient_accumulation_steps": 4}),
        Recipe("slice-exact-workers", many, {**workers, "max_steps": 24}),
        Recipe("scorer-rescored", aware, two),
        Recipe("two-ranks", ranks, two | {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}, ranks=2),
        Recipe("resumed", stopped, two | LORA, old=("old", "old"), new=("new", "new")),
        Recipe("resumed-across", stopped, two | {"dataloader_num_workers": 2}, new=("old", "new")),
    ]
    cached = {"scores": "scores"}
    padded = {"batching": "step"}  # once the default; of steps of one micro batch the cut is as it was
    return [replace(r, campus={**padded, **r.campus, **cached}, training={**TRAINING, **r.training}) for r in found]


# -- running them ----------------------------------------------------------------------------------------------------


class EndedError(Exception):
    """A command did not do what it was started for.

    Args:
        why: in words.
        refused: it ended with a sentence and exit code 2, as commands do where the user must decide.
    """

    def __init__(self, why: str, *, refused: bool) -> None:
        super().__init__(why)
        self.refused = refused


def tune(checkout: Path, folder: Path, *words: str, until: Callable[[], bool] | None = None) -> str:
    """Run a checkout's command in a folder; gives back its stdout.

    Args:
        checkout: whose `campus_tune` it is.
        folder: to be in; stdout and stderr are added to `out.txt` and `log.txt` there.
        words: what is typed after `campus-tune`.
        until: kill it, and all that it has started, as soon as this is true.

    Raises:
        EndedError: it failed, refused, or came to its end before it was to be killed.
    """
    environment = {**os.environ, **QUIET, "PYTHONPATH": str(checkout), "CAMPUS_TUNE_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "campus_tune", *words]
    with (folder / "out.txt").open("a+") as out, (folder / "log.txt").open("a+") as log:
        begin, began = (file.seek(0, os.SEEK_END) for file in (out, log))
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=log, start_new_session=True)
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline and not (until is not None and until()):
            time.sleep(0.05 if until is None else 0.001)
        killed = process.poll() is None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)  # of a finished one: whatever it left behind
        process.wait()
        out.seek(begin)
        log.seek(began)
        said, errors = out.read(), log.read()
    if process.returncode == 2 and "campus-tune: " in errors and "Traceback" not in errors:
        raise EndedError(errors.rpartition("campus-tune: ")[2].strip(), refused=True)
    if (until is not None) != killed or (process.returncode and not killed):
        tail = "\n".join(errors.splitlines()[-15:])
        raise EndedError(f"`{' '.join(words)}` of {checkout} ended with {process.returncode}\n{tail}", refused=False)
    return said


def make_files(checkout: Path, files: Path) -> None:
    """The tiny model and the tasks, by a checkout's own `demo`; from them few rows, and many with long answers."""
    files.mkdir(parents=True)
    tune(checkout, files, "demo", "model", "--tiny", "--out", "model")
    tune(checkout, files, "demo", "tasks", "--out", ".", "--rows-per-cell", "100", "--probes-per-cell", "1")
    rows = [json.loads(line) for line in (files / "train.jsonl").read_text().splitlines()]
    answers = [row["completion"][0]["content"] for row in rows]
    write(files / "train.jsonl", rows[:100])
    for k, row in enumerate(rows):  # enough work for a metric to call helpers
        row["completion"][0]["content"] = " ".join((answers[k:] + answers[:k])[:40])
    write(files / "long.jsonl", rows)


def write(path: Path, rows: Sequence[Any]) -> None:
    """Rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def live(recipe: Recipe, checkouts: Sequence[Path], folder: Path, launcher: Path) -> dict[str, str]:
    """One side of a recipe: its whole run in a folder; gives back what was said, by command.

    Args:
        recipe: what is run.
        checkouts: who lives it, one after the other; all but the last are killed.
        folder: made anew, unless the very same was run in it before.
        launcher: accelerate's YAML for many ranks.
    """
    lived, now = folder / "lived.json", [repr(recipe), *(source_of(checkout) for checkout in checkouts)]
    if lived.exists() and load(lived)["now"] == now:
        return dict(load(lived)["said"])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**recipe.training, "campus": dict(recipe.campus)}))
    train = ["sft", "--config", "recipe.yaml"]
    if recipe.ranks > 1:
        train += ["--accelerate_config", str(launcher), "--num_processes", str(recipe.ranks)]
    for checkout in checkouts[:-1]:
        tune(checkout, folder, *train, until=(folder / "run" / KILL).exists)
    resumed = ["--resume_from_checkpoint", f"run/{STOP}"] if len(checkouts) > 1 else []
    said = {"sft": tune(checkouts[-1], folder, *train, *resumed)}
    if len(checkouts) == 1:
        said["check"] = tune(checkouts[-1], folder, "check", "recipe.yaml")
    said["simulate"] = tune(checkouts[-1], folder, "simulate", "--config", "recipe.yaml", "--json")
    lived.write_text(json.dumps({"now": now, "said": said}))
    return said


def source_of(checkout: Path) -> str:
    """A hash of all that is in a checkout's package."""
    package = checkout / "campus_tune"
    paths = sorted(path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    whole = b"".join(str(path.relative_to(package)).encode() + path.read_bytes() for path in paths)
    return hashlib.sha256(whole).hexdigest()


def launcher_of(checkout: Path) -> Path:
    """Accelerate's YAML for many ranks on a machine without a GPU, that a checkout ships."""
    return checkout / "recipes" / "accelerate" / "ddp_cpu.yaml"


# -- comparing them --------------------------------------------------------------------------------------------------


@dataclass
class Found:
    """What came of comparing two sides.

    Args:
        ledger: lines compared.
        files: files compared.
        sentences: lines that were said and compared.
        difference: the first one, by name; empty if there is none.
        refused: why the new checkout does not resume the run.
    """

    ledger: int = 0
    files: int = 0
    sentences: int = 0
    difference: str = ""
    refused: str = ""

    def line(self, name: str, seconds: float) -> str:
        """For a person."""
        if self.difference:
            return f"DIFFERENT  {name}: {self.difference}"
        if self.refused:
            return f"REFUSED    {name}, by name: {self.refused}"
        counts = f"{self.ledger} ledger lines, {self.files} files, {self.sentences} sentences"
        return f"PROVEN     {name}: {counts}; {seconds:.0f} s"


def examine(recipe: Recipe, checkouts: Mapping[str, Path], folder: Path) -> Found:
    """Run both sides of a recipe at once and compare them."""
    launcher = launcher_of(checkouts["old"])
    sides = {side: folder / recipe.name / side for side in ("old", "new")}
    with ThreadPoolExecutor(2) as pool:
        lives = [
            pool.submit(live, recipe, [checkouts[name] for name in names], sides[side], launcher)
            for side, names in (("old", recipe.old), ("new", recipe.new))
        ]
        try:
            said = [life.result() for life in lives]
        except EndedError as ended:
            if ended.refused and recipe.as_if:
                return Found(refused=str(ended))
            return Found(difference=str(ended))
    return compared(recipe, list(sides.values()), said, checkouts["new"])


def compared(recipe: Recipe, sides: Sequence[Path], said: Sequence[Mapping[str, str]], checkout: Path) -> Found:
    """Two sides that were run, beside one another: by this script, and by a checkout's `campus-tune diff`."""
    found = Found()
    found.difference = next(differences(recipe, sides, said, found), "")
    if not found.difference:
        told = tune(checkout, sides[1], "diff", *(str(side / "run") for side in sides))
        found.difference = "" if "the same rows in every step" in told else f"campus-tune diff: {told.strip()}"
    return found


def differences(
    recipe: Recipe, sides: Sequence[Path], said: Sequence[Mapping[str, str]], found: Found
) -> Iterator[str]:
    """Each thing that differs, by name; counts what it compares in `found`."""
    old, new = (read_ledger(side / "run" / "curriculum" / "ledger.jsonl") for side in sides)
    yield from unequal_lines(comparable(old), comparable(new), "ledger, by its own comparison")
    if not recipe.as_if:
        yield from unequal_lines(old, new, "ledger")
    found.ledger = len(comparable(old))
    ours, theirs = (files_of(side, cache=not recipe.as_if) for side in sides)
    if odd := sorted(name for name in ours.keys() ^ theirs.keys() if not name.endswith(NEWER)):
        yield f"{odd[0]} is written by the {'old' if odd[0] in ours else 'new'} one only"
    found.files = len(ours)
    for name in sorted(ours.keys() & theirs.keys()):
        yield from unequal_file(name, ours[name], theirs[name], as_if=recipe.as_if)
    for command in said[0] if not recipe.as_if else ("simulate",):
        lines = [sentences(one[command]) for one in said]
        found.sentences += len(lines[0])
        yield from unequal_lines(*lines, f"what {command} says")


def files_of(side: Path, *, cache: bool) -> dict[str, Path]:
    """Files by name: of the run and, where wanted, of the score cache, without the random part of a shard's name."""
    paths = [path for part in ("run", *["scores"] * cache) for path in (side / part).rglob("*") if path.is_file()]
    kept = [path for path in paths if not path.name.endswith(LEFT)]
    names = (re.sub("-[0-9a-f]{16}[.]", ".", str(path.relative_to(side))) for path in kept)
    return {name.replace(path.parent.name, key_of(path.parent)): path for name, path in zip(names, kept, strict=True)}


def key_of(folder: Path) -> str:
    """A folder's name; of one of the score cache by what its key says, the version of the code aside."""
    if not (folder / "key.json").is_file():
        return folder.name
    told = json.dumps({name: value for name, value in load(folder / "key.json").items() if name != "version"})
    return f"{folder.name[:-17]}-{hashlib.sha256(told.encode()).hexdigest()[:16]}"


def sentences(out: str) -> list[str]:
    """Lines of a command's stdout without clocks; the trainer's own are in its log, and a report's comes last."""
    told = [
        SAID.sub("…", line) for line in out.splitlines() if line.strip() and not line.startswith(("{'", *NEWER_LINES))
    ]
    return sorted(told, key=lambda line: line.startswith("campus: the report: "))  # `sft` once told it after the model


def unequal_lines(old: Sequence[Any], new: Sequence[Any], what: str) -> Iterator[str]:
    """Lines that differ: which, and where in it."""
    for number, (a, b) in enumerate(zip(old, new, strict=False), 1):
        kind = f" ({a['event']})" if isinstance(a, dict) and "event" in a else ""
        for where in unequal(a, b):
            yield f"{what}, line {number}{kind}: {where}"
    if len(old) != len(new):
        yield f"{what}: {len(old)} lines and {len(new)}"


def unequal(old: Any, new: Any, name: str = "", skip: Sequence[str] = ()) -> Iterator[str]:
    """Where two JSON values differ, clocks aside."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            if str(key).endswith(CLOCKED) or key in skip:
                continue
            if (key in NEWER and key not in old) or (key in GONE and key not in new):
                continue
            if key not in old or key not in new:
                yield f"{name}{key} is in the {'old' if key in old else 'new'} one only"
            else:
                yield from unequal(old[key], new[key], f"{name}{key}.", skip)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, pair in enumerate(zip(old, new, strict=True)):
            yield from unequal(*pair, f"{name}{place}.", skip)
    elif type(old) is not type(new) or old != new:
        shown = (f"{str(value)[:200]!r}" if isinstance(value, str) else str(value)[:200] for value in (old, new))
        yield f"{name.rstrip('.')} {' and '.join(shown)}".strip()


def unequal_file(name: str, old: Path, new: Path, *, as_if: bool) -> Iterator[str]:
    """How two files of a run differ."""
    if name.endswith((*CHANCE, "ledger.jsonl")):
        return
    if name.endswith(".parquet"):
        a, b = pq.read_table(old), pq.read_table(new)
        b = b.drop_columns([ASKED] if ASKED in b.column_names and ASKED not in a.column_names else [])
        if not a.equals(b):
            columns = [column for column in a.column_names if column not in b.column_names or a[column] != b[column]]
            yield f"{name}: {', '.join(columns) or 'columns'} differ"
        said = [SHARD_ID.sub("", str(table.schema.metadata)) for table in (a, b)]
        if said[0] != said[1]:
            yield f"{name}: metadata {said[0]} and {said[1]}"
    elif name.endswith(HASHED):
        kept = [{k: sorted(v) if k in ("files", "beside") else v for k, v in load(path).items()} for path in (old, new)]
        yield from (f"{name}: {where}" for where in unequal(*kept, skip=(*VARIES, "lineage", *["beside"] * as_if)))
    elif name.endswith(".json"):
        # what the cache held, for a run that goes on finds its own; and of which version its losses are
        skip = (*VARIES, *["found"] * as_if, *["version"] * (old.name == "key.json"))
        yield from (f"{name}: {where}" for where in unequal(load(old), load(new), skip=skip))
    elif old.read_bytes() != new.read_bytes():
        yield f"{name}: other bytes"


def load(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text("utf-8"))


# -- faults, to see that they are found ------------------------------------------------------------------------------

LEDGER_FAULT = """
_add = Ledger.add


def _add_wrongly(self, event, **fields):
    if event == "stage_end":
        fields["train_loss"] *= 1 + 1e-12
    _add(self, event, **fields)


Ledger.add = _add_wrongly
"""
SAY_FAULT = """
_say = say


def say(*said, **how):
    _say(*(str(line).replace("rows by", "rows per") for line in said), **how)
"""


def plant_seed(package: Path) -> int:
    """Draw everything that the method draws with another seed; gives back in how many places."""
    places = 0
    for path in (package / "method").rglob("*.py"):
        text, count = re.subn(r"default_rng\((?=[^)])", "default_rng(7 or ", path.read_text())
        path.write_text(text)
        places += count
    return places


def plant_after(package: Path, begins: str, fault: str) -> int:
    """Write a fault below the module that defines something; gives back how many modules that are."""
    found = [path for path in package.rglob("*.py") if re.search(rf"^{begins}", path.read_text(), re.MULTILINE)]
    for path in found:
        path.write_text(path.read_text() + fault)
    return len(found)


FAULTS: dict[str, Callable[[Path], int]] = {
    "another seed in a draw": plant_seed,
    "a loss in the ledger off by 1e-12": lambda package: plant_after(package, r"class Ledger\b", LEDGER_FAULT),
    "a sentence put otherwise": lambda package: plant_after(package, r"def say\(", SAY_FAULT),
}


def prove(recipe: Recipe, folder: Path, launcher: Path) -> int:
    """Compare this checkout with faulty copies of itself; 1 if a fault is not found."""
    clean, missed = folder / recipe.name / "clean", 0
    said = live(recipe, [HERE], clean, launcher)
    for number, (fault, plant) in enumerate(FAULTS.items()):
        copy, faulty = folder / f"copy-{number}", folder / recipe.name / f"fault-{number}"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(HERE / "campus_tune", copy / "campus_tune", ignore=shutil.ignore_patterns("__pycache__"))
        if not plant(copy / "campus_tune"):
            raise SystemExit(f"`--prove` must find where to plant {fault!r}, found no such place. Mend FAULTS.")
        difference = compared(recipe, [clean, faulty], [said, live(recipe, [copy], faulty, launcher)], HERE).difference
        missed += not difference
        print(f"{'FOUND ' if difference else 'MISSED'}     {fault}: {difference}", flush=True)
    return int(missed > 0)


# -- the command -----------------------------------------------------------------------------------------------------


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, metavar="OLD_CHECKOUT", help="a folder with another version's `campus_tune/`")
    parser.add_argument("--only", default="", metavar="NAME", help="recipes whose name contains this")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="folder for the runs, kept; else a temporary one")
    parser.add_argument("--prove", action="store_true", help="plant faults in copies of this checkout and find them")
    options = parser.parse_args(arguments)
    if not (options.old / "campus_tune" / "__main__.py").is_file():
        parser.error(f"`OLD_CHECKOUT` must hold a folder `campus_tune`, got {str(options.old)!r}. Name a checkout.")
    if not [recipe for recipe in recipes() if options.only in recipe.name]:
        parser.error(f"`--only` must be part of one of {', '.join(r.name for r in recipes())}, got {options.only!r}.")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the recipes by both checkouts; 1 at any difference."""
    options = parse(arguments)
    chosen = [recipe for recipe in recipes() if options.only in recipe.name]
    checkouts = {"old": options.old.resolve(), "new": HERE}
    with contextlib.ExitStack() as stack:
        folder = (options.keep or Path(tempfile.mkdtemp(prefix="same_ledgers-"))).resolve()
        if options.keep is None:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        if not (folder / "files" / "long.jsonl").exists():
            shutil.rmtree(folder / "files", ignore_errors=True)
            make_files(checkouts["old"], folder / "files")
        if options.prove:
            return prove(chosen[0], folder, launcher_of(checkouts["old"]))
        different = 0
        for recipe in chosen:
            began = time.monotonic()
            found = examine(recipe, checkouts, folder)
            different += bool(found.difference)
            print(found.line(recipe.name, time.monotonic() - began), flush=True)
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
