"""The trainer's bar of `campus-tune sft` in a terminal: transformers' own, with the loss in it and short log lines.

Transformers writes every log line as Python's dictionary, a dozen lines of a terminal with the curriculum's scalars in
it; these are in the decisions' lines, in the ledger and in every tracker. A script of the user's own keeps what
it has: the trainer is not ours there. So does a file, which other programs may read.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tqdm.auto import tqdm
from transformers import PrinterCallback, ProgressCallback

from campus_tune.words import progress
from campus_tune.words.console import NAME, columns, rendered
from campus_tune.words.wording import duration

if TYPE_CHECKING:
    from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

SHORT = {"learning_rate": "lr", "grad_norm": "grad norm", "train_loss": "mean loss", "mean_token_accuracy": "accuracy"}
LARGE = 1e4  # a value from which on its size is all that a line says of it
LEFT_OUT = ("campus/", "total_flos", "num_tokens", "entropy", "epoch")  # beginnings of what no line needs


def log_words(logs: Mapping[str, object]) -> list[str]:
    """What a log line says, in short.

    >>> log_words({"loss": 3.0123, "learning_rate": 0.0049, "campus/stage": 1, "epoch": 0.5})
    ['loss 3.012', 'lr 4.90e-03']
    >>> log_words({"eval_loss": 2.5, "eval_runtime": 0.51, "eval_note": "a text"})
    ['eval loss 2.500', 'eval runtime 0.510']
    >>> log_words({"train_runtime": 15.72, "train_samples_per_second": 95.4, "train_loss": 2.861, "epoch": 1.0})
    ['trained in 16 s', '95.4 rows/s', 'mean loss 2.861']
    """
    if "train_runtime" in logs:
        took, speed = logs["train_runtime"], logs.get("train_samples_per_second")
        return [
            f"trained in {duration(float(str(took)))}",
            f"{speed} rows/s",
            *log_words({"train_loss": logs.get("train_loss")}),
        ]
    words = []
    for key, value in logs.items():
        if key.startswith(LEFT_OUT) or not isinstance(value, int | float):
            continue
        name = SHORT.get(key, key.replace("_", " "))
        how = ".2e" if name == "lr" else ".3f" if abs(value) < LARGE else ".4g"
        words.append(f"{name} {value:{how}}")
    return words


class TrainingBar(ProgressCallback):
    """Draws the bar of a training, and writes a short line above it for each log line."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """The bar begins, in the process that leads."""
        del args, control, kwargs
        if state.is_world_process_zero:
            self.training_bar = tqdm(
                total=state.max_steps, desc="training", unit="step", leave=False, delay=0, **progress.look(sys.stderr)
            )
        self.current_step = 0

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, object] | None = None,
        **kwargs: object,
    ) -> None:
        """A line of it, and its loss in the bar."""
        del args, control, kwargs
        words = log_words(logs or {})
        if not (state.is_world_process_zero and words):
            return
        from rich.text import Text

        if self.training_bar is not None and logs and "loss" in logs:
            self.training_bar.set_postfix_str(words[0], refresh=False)
        step = str(state.global_step).rjust(len(str(state.max_steps)))
        line = Text(f"{' ' * len(NAME)}step {step}/{state.max_steps} · {' · '.join(words)}", style="dim")
        line.truncate(columns(), overflow="ellipsis")
        progress.say(rendered(line, columns()))


def take_over_bar(trainer: Trainer) -> None:
    """Put our bar in the place of transformers' own, in a terminal; where nothing but warnings is told, none.

    Args:
        trainer: that a command has made.
    """
    if progress.VOLUME.quiet:
        for theirs in (ProgressCallback, PrinterCallback):
            trainer.remove_callback(theirs)
    elif progress.in_terminal(sys.stdout) and trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(TrainingBar)
