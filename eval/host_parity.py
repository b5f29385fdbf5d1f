"""Whether a curriculum leaves the trainer alone: the same micro batches with `selector: shuffle` and without it.

Each setting is a trainer as somebody has it: SFTTrainer or Trainer, a kind of adapter, a loss, a collator, callbacks of
their own. It is trained once with a CampusCallback, which notes the rows of every micro batch, and once without one, by
a data loader that hands over exactly these rows through the same collator, prepared by accelerate as the trainer's own
is. Both runs must then agree in everything the trainer tells and leaves: every number of every line of its log (losses,
gradient norms, learning rates, epoch, num_tokens, entropy, mean_token_accuracy, …, all but clocks and our own
`campus/…`), the sequence of its events, the checkpoints in its folder, its state at the end, and the weights: bit for
bit, for the forwards are the same.

    python -m eval.host_parity                                 # all of eval/trainers.py, minutes on one core
    python -m eval.host_parity --only "lora" --only "dora"     # these
    python -m eval.host_parity --list                          # their names
    python -m eval.host_parity --seed 5                        # other shuffles, dropout and adapters

The table goes to stdout; the exit status is 1 on any difference. A setting that the product refuses counts as good if
the refusal is the one that the setting names.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import logging
import math
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1"}

import datasets
import torch
import transformers
from torch.utils.data import DataLoader, Sampler
from transformers import TrainerCallback, TrainingArguments
from trl import SFTConfig, SFTTrainer

from campus_tune import CampusCallback
from campus_tune.demo.tiny import tiny_tokenizer
from campus_tune.words.errors import CampusError
from campus_tune.words.tables import table
from eval.trainers import SETTINGS, Setting

SHUFFLE = {"metrics": [], "selector": "shuffle", "stages": 3}
CLOCKS = re.compile(r"_runtime$|_per_second$")
EVENTS = ("train_begin", "epoch_begin", "log", "evaluate", "save", "epoch_end", "train_end")
STATE = ("global_step", "max_steps", "epoch", "num_train_epochs", "num_input_tokens_seen", "total_flos", "best_metric")


# -- two runs of one setting ------------------------------------------------------------------------------------------


class Notes(TrainerCallback):  # type: ignore[misc]
    """The trainer's events with the step at which they came, and, of a curriculum, the rows of each micro batch.

    Args:
        run: gives the CampusRun; None of a plain trainer.
    """

    def __init__(self, run: Callable[[], Any] | None = None) -> None:
        self.run = run
        self.events: list[tuple[str, int]] = []
        self.epochs: list[list[list[int]]] = []
        self.per_epoch = sys.maxsize  # micro batches of a whole epoch, of which only the last step may have fewer
        for event in EVENTS:
            setattr(self, f"on_{event}", self._note(event))

    def _note(self, event: str) -> Callable[..., None]:
        def noted(args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, control, kwargs
            self.events.append((event, state.global_step))
            if event == "epoch_begin":
                self.epochs.append([])

        return noted

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The rows that the model will see; a filling row is no row."""
        del state, control, kwargs
        if self.run is not None:
            now = self.run().situation
            batches = now.loaded.loader.micro_batches(now.curriculum.step_rows())
            kept = [batch for batch in batches if batch and batch[0] >= 0]
            self.epochs[-1] += kept
            before = (now.loaded.steps_per_epoch - 1) * args.gradient_accumulation_steps
            self.per_epoch = min(self.per_epoch, before + len(kept))


@dataclass
class Run:
    """What a run told and left."""

    log: list[dict[str, Any]]
    events: list[tuple[str, int]]
    checkpoints: list[str]
    state: dict[str, Any]
    weights: dict[str, Any]
    epochs: list[list[list[int]]]
    per_epoch: int  # micro batches of a whole epoch


def arguments(setting: Setting, out: Path, seed: int) -> Any:
    """The trainer's arguments: a CPU, four rows a step, two epochs, a line for every step, unless it says otherwise."""
    made = SFTConfig if issubclass(setting.trainer, SFTTrainer) else TrainingArguments
    defaults = {"per_device_train_batch_size": 4, "num_train_epochs": 2, "learning_rate": 3e-3, "logging_steps": 1}
    defaults |= {"save_strategy": "no", "report_to": "none", "use_cpu": True, "bf16": False, "disable_tqdm": True}
    defaults |= {"gradient_checkpointing": False, "seed": seed, **setting.args}
    return made(str(out), **defaults)


def make(setting: Setting, out: Path, seed: int, callbacks: Sequence[Any]) -> Any:
    """The trainer; all that is drawn is drawn alike each time."""
    torch.manual_seed(seed)
    model = setting.model()
    torch.manual_seed(seed)  # the weights of an adapter
    more = {"processing_class": tiny_tokenizer(), **setting.more(), **setting.by_model(model)}
    args = arguments(setting, out, seed)
    return setting.trainer(model, args=args, train_dataset=setting.rows(), callbacks=[*callbacks], **more)


def with_campus(setting: Setting, out: Path, seed: int) -> Run:
    """Train it with a curriculum that is none."""
    campus = CampusCallback({**SHUFFLE, **setting.campus}, report=False)
    notes = Notes(lambda: campus.run)
    trainer = make(setting, out, seed, [*setting.before(), campus, *setting.after(), notes])
    trainer.train()
    return _run(trainer, notes, notes.per_epoch)


def without(setting: Setting, out: Path, seed: int, like: Run) -> Run:
    """Train it without one, on the micro batches of `like`."""
    notes = Notes()
    trainer = make(setting, out, seed, [*setting.before(), *setting.after(), notes])
    flat = setting.campus.get("batching") == "flat"
    trainer.get_train_dataloader = lambda: replay(trainer, like, flat=flat)
    trainer.train()
    return _run(trainer, notes, like.per_epoch)


def _run(trainer: Any, notes: Notes, per_epoch: int) -> Run:
    weights = {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}
    log = [
        {name: value for name, value in line.items() if not (name.startswith("campus/") or CLOCKS.search(name))}
        for line in trainer.state.log_history
    ]
    checkpoints = sorted(path.name for path in Path(trainer.args.output_dir).glob("checkpoint-*"))
    state = {name: getattr(trainer.state, name) for name in STATE}
    return Run(log, notes.events, checkpoints, state, weights, notes.epochs, per_epoch)


class Replayed(Sampler[list[int]]):
    """The micro batches of a run, one epoch after the other.

    An epoch in which that run stopped is filled up: loaders look ahead, and what they see there is never trained.
    """

    batch_size, drop_last = None, False  # accelerate asks

    def __init__(self, run: Run) -> None:
        self.run, self.epoch = run, 0

    def __len__(self) -> int:
        return self.run.per_epoch

    def __iter__(self) -> Iterator[list[int]]:
        batches = self.run.epochs[min(self.epoch, len(self.run.epochs) - 1)]
        self.epoch += 1
        yield from batches
        yield from batches[:1] * (len(self) - len(batches))


def replay(trainer: Any, run: Run, *, flat: bool) -> Any:
    """A loader as the trainer makes its own, but for the rows. Its generator is its own, as is a curriculum's."""
    dataset, collator, args = trainer.train_dataset, trainer.data_collator, trainer.args
    if flat:
        collator = dataclasses.replace(collator, padding_free=True)
    if isinstance(dataset, datasets.Dataset):
        dataset = trainer._remove_unused_columns(dataset, description="training")
    else:
        collator = trainer._get_collator_with_removed_columns(collator, description="training")
    loader = DataLoader(
        dataset,
        batch_sampler=Replayed(run),
        collate_fn=collator,
        num_workers=args.dataloader_num_workers,
        generator=torch.Generator().manual_seed(0),
    )
    return trainer.accelerator.prepare(loader)


# -- comparing --------------------------------------------------------------------------------------------------------


def differences(ours: Run, plain: Run) -> list[str]:
    """What is not equal, in words: where, ours, plain's, and by how much."""
    found = []
    for part in ("events", "checkpoints", "state"):
        if apart := _apart(getattr(ours, part), getattr(plain, part)):
            found.append(f"{part}: {apart}")
    if len(ours.log) != len(plain.log):
        found.append(f"log: {len(ours.log)} lines, plain {len(plain.log)}")
    for line, other in zip(ours.log, plain.log, strict=False):
        for name in dict.fromkeys([*line, *other]):
            if not _same(line.get(name), other.get(name)):
                found.append(f"step {other.get('step')} {name}: {_numbers(line.get(name), other.get(name))}")
    if ours.weights.keys() != plain.weights.keys():
        return [*found, "weights: other names"]
    apart = {name: float((w - plain.weights[name]).abs().max()) for name, w in ours.weights.items()
             if not torch.equal(w, plain.weights[name])}  # fmt: skip
    if apart:
        worst = max(apart, key=apart.__getitem__)
        found.append(f"weights: {len(apart)} of {len(ours.weights)}, {worst} by {apart[worst]:.2g}")
    return found


def _same(a: Any, b: Any) -> bool:
    nan = isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b)
    return nan or bool(a == b)


def _numbers(a: Any, b: Any) -> str:
    told = f"{a!r}, plain {b!r}"
    if isinstance(a, int | float) and isinstance(b, int | float) and b:
        told += f" (by {abs(a / b - 1):.1g})"
    return told


def _apart(a: Any, b: Any) -> str:
    """The first place at which two lists or mappings part; "" where they do not."""
    if isinstance(a, dict):
        return "; ".join(f"{name} {_numbers(a[name], b[name])}" for name in a if not _same(a[name], b[name]))
    if a == b:
        return ""
    place = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return f"{a[place : place + 2]}, plain {b[place : place + 2]} at place {place} of {len(b)}"


def compare(name: str, folder: Path, seed: int) -> tuple[str, list[str]]:
    """(what to say of one setting, its differences)."""
    setting = SETTINGS[name]
    try:
        ours = with_campus(setting, folder / "campus", seed)
    except CampusError as error:
        said = " ".join(str(error).split())
        if setting.refused and re.search(setting.refused, said):
            return "refused, as it must be", []
        return "refused", [f"refused: {said}"]
    if setting.refused:
        return "not refused", [f"must be refused: {setting.refused}"]
    plain = without(setting, folder / "plain", seed, ours)
    found = differences(ours, plain)
    told = f"{plain.state['global_step']} steps, {len(plain.log)} lines"
    return f"equal ({told})" if not found else f"{len(found)} differences", found


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this setting; may be repeated")
    parser.add_argument("--list", action="store_true", help="print the settings' names and end")
    parser.add_argument("--seed", type=int, default=0, help="of shuffles, dropout and adapters (%(default)s)")
    options = parser.parse_args(words)
    unknown = sorted(set(options.only) - SETTINGS.keys())
    if unknown:
        parser.error(f"--only must name a setting (see --list), got {', '.join(unknown)}")
    return options


def main(words: Sequence[str] | None = None) -> int:
    """Compare all settings; 1 if any differs."""
    options = parse(words)
    if options.list:
        print(*SETTINGS, sep="\n")
        return 0
    began, lines, bad = time.perf_counter(), [], 0
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    for name in options.only or SETTINGS:
        with tempfile.TemporaryDirectory() as folder, _quiet():
            try:
                word, found = compare(name, Path(folder), options.seed)
            except Exception as error:  # a setting that breaks is a finding, and the others are to be seen too
                word, found = "broken", [f"{type(error).__name__}: {' '.join(str(error).split())}"]
        bad += bool(found)
        lines.append([name, word, found[0] if found else ""])
        print(f"{name}: {word}", *found[:4], sep="\n    ", file=sys.stderr, flush=True)
    print(table(["setting", "against plain", "first difference"], lines))
    equal = len(lines) - bad
    print(f"\n{equal} of {len(lines)} as they must be, seed {options.seed}, {time.perf_counter() - began:.0f} s")
    return int(bad > 0)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Neither the libraries nor the curriculum speak."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


if __name__ == "__main__":
    sys.exit(main())
