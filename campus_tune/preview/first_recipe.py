"""A first recipe for some rows, with a comment behind each line that a person may want to change.

The curriculum is the default, for which there is evidence (`recipes/default.yaml`). What nobody can know ahead is a
guess and says so: the learning rate by what is trained and how large it is, the batch by the size of the data.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from campus_tune.data.split import PROBES, TEST, TRAIN, Split
from campus_tune.preview.first_look import FirstLook
from campus_tune.recipe.blocks import DOMAIN
from campus_tune.words.errors import CampusError
from campus_tune.words.types import IntArray

LENGTHS = (128, 256, 512, 1024, 1536, 2048, 3072, 4096, 6144, 8192)  # tokens; the first that cuts few rows is taken
CUT = 0.01  # share of rows that may be cut
UNKNOWN = 1024  # tokens, where no tokenizer could be asked
MANY = 0.04  # probes for each row that is trained, above which they cost more than the usual budget pays for
FEW = 1000  # rows that are trained, below which measuring and chance weigh more
SMALL, LARGE = 3e9, 10e9  # parameters: full fine-tuning of more takes half the rate, LoRA of more likewise
PLAIN = re.compile(r"[A-Za-z./][\w./-]*(?<!:)")
WORDS = {"true", "false", "yes", "no", "on", "off", "null", "none"}


@dataclass(frozen=True)
class Machine:
    """What the recipe is written for.

    Args:
        gpu: there is an accelerator.
        bf16: it computes in bfloat16.
        parameters: of the model; None where it could not be asked.
        context: tokens that the model can read; None likewise.
    """

    gpu: bool
    bf16: bool
    parameters: int | None
    context: int | None

    @staticmethod
    def here(model: str) -> Machine:
        """This one, and a model that may be on it or not.

        Args:
            model: folder or hub id.
        """
        import torch

        from campus_tune.model.model_files import model_size
        from campus_tune.model.reference import find

        gpu = torch.cuda.is_available()
        try:
            size = model_size(model, "model_name_or_path", trust_remote_code=False)
            config, _ = find(model, "model_name_or_path", trust_remote_code=False)
        except CampusError:
            return Machine(gpu, gpu and torch.cuda.is_bf16_supported(), None, None)
        context = getattr(config, "max_position_embeddings", None)
        return Machine(gpu, gpu and torch.cuda.is_bf16_supported(), size, context)


def max_length(tokens: IntArray | None, context: int | None) -> int:
    """The shortest limit that cuts hardly any row, and that the model can read.

    Args:
        tokens: of some rows; None where nobody could count them.
        context: of the model.

    >>> import numpy as np
    >>> max_length(np.array([100] * 99 + [3000]), None), max_length(np.array([900]), 512), max_length(None, None)
    (128, 512, 1024)
    """
    most = context or LENGTHS[-1]
    if tokens is None:
        return min(UNKNOWN, most)
    fits = (length for length in LENGTHS if (tokens > length).mean() <= CUT)
    return min(next(fits, LENGTHS[-1]), most)


def batches(n_rows: int, machine: Machine) -> tuple[int, int]:
    """(Rows of a micro batch, micro batches of a step): 16 rows a step, fewer of a small set, so that there are steps.

    >>> on_cpu, on_gpu = Machine(False, False, 10**8, 512), Machine(True, True, 4 * 10**9, 512)
    >>> batches(10_000, on_cpu), batches(10_000, on_gpu), batches(3, on_cpu)
    ((8, 2), (2, 8), (3, 1))
    """
    step = next((size for size in (16, 8) if n_rows >= 50 * size), min(4, n_rows))
    micro = 2 if (machine.parameters or 0) > SMALL else min(8, step)
    micro = min(micro, step)
    return micro, step // micro


def learning_rate(*, lora: bool, parameters: int | None) -> str:
    """A usual rate, as YAML has it."""
    size = parameters or 0
    if lora:
        return "1.0e-4" if size > LARGE else "2.0e-4"
    return "1.0e-5" if size > SMALL else "2.0e-5"


def scalar(value: object) -> str:
    """A text as YAML has it: bare where that is a text too.

    >>> scalar("./data/train.jsonl"), scalar("a b: c"), scalar("no"), scalar("2020")
    ('./data/train.jsonl', '"a b: c"', '"no"', '"2020"')
    """
    text = str(value)
    bare = PLAIN.fullmatch(text) and text.lower() not in WORDS and not text.strip(".").isnumeric()
    return text if bare else json.dumps(text, ensure_ascii=False)


def first_recipe(
    look: FirstLook,
    *,
    model: str,
    machine: Machine,
    tokens: IntArray | None,
    files: dict[str, str],
    cut: Split | None,
    recipe: Path,
    lora: bool,
) -> str:
    """The YAML.

    Args:
        look: at all rows.
        model: folder or hub id.
        machine: that it is written for.
        tokens: of some rows; None where nobody could count them.
        files: part of the rows → its file, or the name of the data set for the training rows.
        cut: what is held out; None for nothing.
        recipe: the file that is written.
        lora: an adapter is trained, not the whole model.
    """
    n_rows = len(look.rows) if cut is None else len(cut.train)
    length, (micro, accumulation) = max_length(tokens, machine.context), batches(n_rows, machine)
    steps = -(-n_rows // (micro * accumulation))
    size = (
        "a size that could not be read" if machine.parameters is None else f"{machine.parameters / 1e6:.0f} M weights"
    )
    out = output_of(recipe)
    lines = [
        f"# Fine-tuning on {n_rows} rows of {look.name}: {look.kind}{_domains_in_words(look)}.",
        '# Written by `campus-tune init`: a beginning. Lines that say "a guess" are worth a second thought.',
        "#",
        *(f"# {name:<11}{command}" for name, command in next_steps(recipe, judged=TEST in files)),
        "",
        "# -- the training run: any setting of TRL's `sft` command --",
        f"model_name_or_path: {scalar(model)} # {size}",
        f"dataset_name: {scalar(files[TRAIN])}",
    ]
    if look.shape.dataset_text_field != "text":
        lines.append(f"dataset_text_field: {scalar(look.shape.dataset_text_field)} # the column of texts")
    if "chats" in look.kind:
        lines.append("# assistant_only_loss: true # learn the answers alone; the model's chat template must mark them")
    lines += [
        f"output_dir: {scalar(out)}",
        "num_train_epochs: 2 # rows that look wrong are left out once all were seen: in one epoch that comes too late",
        f"per_device_train_batch_size: {micro} # a guess: lower it, and raise the next, where memory is short",
        f"gradient_accumulation_steps: {accumulation} # {micro * accumulation} rows a step, {steps} steps an epoch",
        f"max_length: {length} # tokens; {_cut_in_words(tokens, length)}",
        f"learning_rate: {learning_rate(lora=lora, parameters=machine.parameters)} # a guess: usual for "
        + ("LoRA" if lora else "training all weights"),
    ]
    if lora:
        lines += [
            "use_peft: true # LoRA; without these four lines all weights are trained",
            "lora_r: 16",
            "lora_alpha: 32",
        ]
        lines += ["lora_target_modules: all-linear"]
    if not machine.gpu:
        lines += ["bf16: false # no GPU was found here: remove these three lines on a machine that has one"]
        lines += ["dtype: float32 # many CPUs are several times slower in bfloat16", "gradient_checkpointing: false"]
    elif not machine.bf16:
        lines += ["bf16: false # this GPU has no bfloat16", "fp16: true"]
    lines += [
        f"logging_steps: {max(1, min(10, steps // 10))}",
        f"save_steps: {max(10, min(100, steps // 2))}",
        "seed: 0",
        "",
    ]
    n_probes = 0 if cut is None else len(cut.probes)
    lines += _campus(look, files, dear=n_rows < FEW or n_probes > MANY * n_rows)
    if TEST in files:
        column = "null" if look.column is None else scalar(look.column)
        lines += [
            "",
            "# -- did it help? `campus-tune compare` trains this recipe and plain shuffling, and these rows decide --",
            "compare:",
            f"  test: {{path: {scalar(files[TEST])}, domain_column: {column}}} # neither trained nor probes",
            "  arms: [recipe, random]",
            "  seeds: 3 # runs of each; five or more find smaller effects",
        ]
        if n_rows < FEW:
            lines.append("  tokens_tolerance: 0.05 # of so few rows, two runs draw some that differ in length")
    return "\n".join(lines) + "\n"


def next_steps(recipe: Path, *, judged: bool) -> list[tuple[str, str]]:
    """(What for, the command) of what comes after `init`.

    Args:
        recipe: that was written.
        judged: there are test rows.
    """
    run = output_of(recipe)
    compared = run.with_name(f"{run.name}-compare")
    steps = [
        ("check", ["check", recipe]),
        ("train", ["sft", "--config", recipe]),
        ("look", ["report", run]),
        ("compare", ["compare", "--config", recipe, "--out", compared]),
    ]
    return [(what, shlex.join(["campus-tune", *map(str, words)])) for what, words in steps[: 4 if judged else 3]]


def output_of(recipe: Path) -> Path:
    """The folder of the run, beside the recipe."""
    return recipe.parent / "runs" / recipe.stem


def _campus(look: FirstLook, files: dict[str, str], *, dear: bool) -> list[str]:
    """The curriculum's block."""
    lines = [
        "# -- the curriculum: the default, for which there is evidence --",
        "# Rows are shuffled; their losses show which look wrong. Those count less, and are left out once it is sure",
        "# that there are some. The run ends with a map of the rows. What else helps: campus-tune guide choosing",
    ]
    if PROBES not in files:
        within = f"within: {scalar(look.column)}" if look.column not in (None, DOMAIN) else ""
        return [*lines, f"campus: {{{within}}}"]
    column = "" if look.column in (None, DOMAIN) else f", domain_column: {scalar(look.column)}"
    budget = [
        "  budget: 0.2 # of the training compute goes into measuring; usual are 0.05, too little for so small a set"
    ]
    return [
        *lines,
        "campus:",
        "  # held-out rows: measured while training, so that you see what is learned and forgotten; never trained",
        f"  probes: {{path: {scalar(files[PROBES])}{column}}}",
        *(budget if dear else []),
        "  # metrics: [length, loss] # rows from easy to hard; by the evidence, seldom better than shuffling",
    ]


def _domains_in_words(look: FirstLook) -> str:
    if look.column is None:
        return ", no column of domains"
    return f", {len(look.domains.names)} domains in the column `{look.column}`"


def _cut_in_words(tokens: IntArray | None, length: int) -> str:
    if tokens is None:
        return "a guess, for the tokenizer could not be asked; what is longer is cut"
    share, longest = float((tokens > length).mean()), int(tokens.max())
    return (
        f"cuts {share:.1%} of the rows, the longest has {longest}" if share else f"cuts none, the longest has {longest}"
    )
