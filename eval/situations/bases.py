"""The models that runs begin with, and how they are trained.

    tasks   a tiny Llama (hidden 64, two layers) that has learned the easy levels of the generated tasks: five minutes
    text    a tiny Llama (hidden 128, four layers) that has read the mix and Dolly (`real_text`): six minutes
    smol    SmolLM2-135M-Instruct as `campus_tune.demo.smollm2` converts it, and a LoRA on it

A base is made in `KEEP/bases/<name>` when it is first asked for, and kept; a link to a converted SmolLM2 does as well.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from campus_tune.words.types import Json

COLUMNS = ("domain", "prompt", "completion", "level", "right")
UPPER = tuple(range(20, 30))  # layers of SmolLM2-135M that get an adapter: a third less to compute than with one in all


@dataclass(frozen=True)
class Base:
    """A model to begin with.

    Args:
        name: of its folder.
        about: a sentence.
        make: writes the model, and its tokenizer, into a folder.
        batch: rows of a step.
        settings: of the trainer.
        lora: settings of an adapter; None trains every weight.
    """

    name: str
    about: str
    make: Callable[[Path], None]
    batch: int = 32
    settings: Mapping[str, Any] = field(default_factory=dict)
    lora: Mapping[str, Any] | None = None

    def folder(self, keep: Path) -> Path:
        """Where it is; made now where it is not there, by one process alone."""
        folder = keep / "bases" / self.name
        if not (folder / "tokenizer.json").is_file():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with folder.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not (folder / "tokenizer.json").is_file():
                    self.make(folder)
        return folder

    def model(self, keep: Path) -> Any:
        """The model, as every run begins with it."""
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(self.folder(keep), dtype="float32")

    def tokenizer(self, keep: Path) -> Any:
        """What its rows are read with; without the system turn that a template may open every conversation with."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self.folder(keep))
        before, _, rest = tokenizer.chat_template.partition("{% if loop.first")
        tokenizer.chat_template = before + rest.partition("{% endif %}")[2] if rest else before
        return tokenizer


def _write_tasks(folder: Path) -> None:
    from campus_tune.demo.tiny import tiny_tokenizer
    from eval.suspects import start_model

    start_model(folder)
    tiny_tokenizer().save_pretrained(folder)


def _write_text(folder: Path) -> None:
    from eval.situations.real_text import write_model

    write_model(folder)


def _write_smol(folder: Path) -> None:
    from campus_tune.demo.smollm2 import convert

    convert(folder)


TINY = {
    "per_device_train_batch_size": 16,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "linear",
    "warmup_steps": 10,
    "activation_checkpointing": False,
}
LORA = {**TINY, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
ADAPTER = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"], "layers_to_transform": UPPER}
_ALL = (
    Base("tasks", "a tiny Llama that has learned the easy levels of the generated tasks", _write_tasks, settings=TINY),
    Base("text", "a tiny Llama that has read other rows of the mix, and Dolly", _write_text, settings=TINY),
    Base("smol", "SmolLM2-135M-Instruct, de-quantised, and a LoRA in its upper third", _write_smol, 8, LORA, ADAPTER),
)
BASES: Mapping[str, Base] = {base.name: base for base in _ALL}


def trainer_of(
    base: Base, keep: Path, rows: Sequence[Json], out: Path, *, steps: int, seed: int, callbacks: Sequence[Any],
    training: Mapping[str, Any],
) -> Any:  # fmt: skip
    """An SFTTrainer of a base on some rows."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import set_seed
    from trl import SFTConfig, SFTTrainer

    settings = {
        "per_device_train_batch_size": base.batch,
        "max_steps": steps,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1000,
        "use_cpu": True,
        "bf16": False,
        "disable_tqdm": True,
        "seed": seed,
        **base.settings,
        **training,
    }
    set_seed(seed)  # an adapter's first weights are drawn before the trainer seeds anything
    return SFTTrainer(
        base.model(keep),
        args=SFTConfig(str(out), **settings),
        train_dataset=Dataset.from_list([{key: row[key] for key in COLUMNS if key in row} for row in rows]),
        processing_class=base.tokenizer(keep),
        peft_config=LoraConfig(**base.lora) if base.lora else None,
        callbacks=[*callbacks],
    )
