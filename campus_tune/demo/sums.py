"""Sums with a reward that can be checked, and a tiny model that gets some of them right: for training by reward.

A prompt is a small story in numbers, three domains (`plus`, `minus`, `times`) in five levels: the larger of the two
numbers is in the level's range. The names and things in it say nothing: they make many prompts of one sum, so that a
pass rate can be told from prompts that were tried before. `right_sum` is the reward: 1.0 for the number, 0.0 for
anything else.

A model of random weights never passes, and one that always passes has nothing to learn. `warm_model` trains the tiny
model for some seconds on right answers, easy levels far more often than hard ones. Its chance of a right answer, the
mean of each level from the easiest (200 prompts a cell, exact): plus .93 .73 .24 .05 .01, minus .99 .95 .56 .16 .03,
times .99 .94 .44 .14 .04. So of groups of eight drawn at random 58 % pass or fail as one, and teach nothing.

>>> row = sums(1, seed=0)[7]
>>> row["id"], row["prompt"][0]["content"], row["answer"]
('minus-L2-0000', 'Nils has 7 nuts minus 5', '2')
>>> right_sum([[{"role": "assistant", "content": " 0"}], "8"], answer=["0", "0"])
[1.0, 0.0]
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from campus_tune.demo.tiny import MARKER, tiny_model, tiny_tokenizer
from campus_tune.words.errors import DataError, RecipeError
from campus_tune.words.files import atomic_write
from campus_tune.words.json_shapes import parse
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

OPERATIONS = ("plus", "minus", "times")
N_LEVELS = 5
ROOM = 600  # different prompts that every cell has
_NAMES = (
    *("Ann", "Ben", "Cem", "Dora", "Emil", "Fay", "Gus", "Ida", "Jan", "Kim"),
    *("Leo", "Mia", "Nils", "Ola", "Pia", "Rob", "Sue", "Tom", "Uma", "Vic"),
)
_THINGS = ("pens", "cups", "hats", "keys", "eggs", "nuts", "maps", "toys")
# The larger number of a level is above the bound before, and at most this.
_BOUNDS = {"plus": (-1, 3, 5, 9, 19, 49), "minus": (-1, 3, 5, 9, 19, 49), "times": (0, 2, 3, 5, 9, 12)}
_FILES = ("train", "test")

# The warm-up: half of its rows are of level 0. Two layers learn to look both numbers up; one layer of twice the width
# learns it much later (0.74 nats after as many steps, against 0.36).
_WARM_SHARES = (0.5, 0.25, 0.15, 0.07, 0.03)
_WARM_ROWS = 8192
_WARM_STEPS = 600
_WARM_BATCH = 64
_WARM_RATE = 8e-3


def sums(n_per_cell: int, *, seed: int) -> list[Json]:
    """Prompts for every (domain, level), none twice, domain by domain and level by level.

    Args:
        n_per_cell: prompts of each domain and level, 1 to `ROOM`.
        seed: at least 0; the same seed gives the same prompts, and the first ones do not depend on `n_per_cell`.

    Returns:
        Rows as TRL's `GRPOTrainer` and `RLOOTrainer` take them: `id`, `domain`, `level`, `prompt` (a list of one
        message), and `answer`, the right number as text, which the reward function is handed.

    Raises:
        RecipeError: a number out of range; all problems are named.
    """
    _check({"n_per_cell": (n_per_cell, 1, ROOM), "seed": (seed, 0, None)})
    rows = []
    for domain in OPERATIONS:
        for level in range(N_LEVELS):
            draw = np.random.default_rng([seed, level, *domain.encode()])
            cell: dict[str, str] = {}
            while len(cell) < n_per_cell:
                question, answer = _sum(draw, domain, level)
                cell.setdefault(question, answer)
            rows += [
                {
                    "id": f"{domain}-L{level}-{number:04d}",
                    "domain": domain,
                    "level": level,
                    "prompt": [{"role": "user", "content": question}],
                    "answer": answer,
                }
                for number, (question, answer) in enumerate(cell.items())
            ]
    return rows


def right_sum(completions: Sequence[str | list[dict[str, str]]], answer: Sequence[str], **_: object) -> list[float]:
    """1.0 for every completion that is the right number and nothing else, else 0.0: a reward function for TRL.

    In a recipe: `reward_funcs: [campus_tune.demo.sums.right_sum]`.

    Args:
        completions: one per try, as TRL hands them over: texts, or conversations whose last message counts.
        answer: the right number of each, as text; the column of that name.
        _: what else TRL hands over; not used.
    """
    texts = [done if isinstance(done, str) else done[-1]["content"] for done in completions]
    return [float(text.strip() == right) for text, right in zip(texts, answer, strict=True)]


def write_sums(folder: Path, *, prompts_per_cell: int = 64, tests_per_cell: int = 8, seed: int = 0) -> dict[str, Path]:
    """Write `train.jsonl` and `test.jsonl`, with no prompt in both, and return where they are.

    Tests are dealt first: more prompts leave them as they were. The training file is shuffled, so that a prompt's
    place in it says nothing about its level.

    Args:
        folder: made if it is not there; files of these names that this made are replaced.
        prompts_per_cell: training prompts of each domain and level, at least 1.
        tests_per_cell: held-out prompts of each, at least 1; both together are at most `ROOM`.
        seed: at least 0.

    Raises:
        RecipeError: a number out of range.
        DataError: a file of such a name holds something else.
        StorageError: a file cannot be written.
    """
    counts = {"prompts_per_cell": (prompts_per_cell, 1, ROOM), "tests_per_cell": (tests_per_cell, 1, ROOM)}
    _check(counts | {"seed": (seed, 0, None)})
    per_cell = prompts_per_cell + tests_per_cell
    rows = sums(per_cell, seed=seed)
    tested = np.arange(len(rows)) % per_cell < tests_per_cell
    train_idx = np.random.default_rng(seed).permutation(np.flatnonzero(~tested))
    paths = {name: folder / f"{name}.jsonl" for name in _FILES}
    strangers = [path.name for path in paths.values() if path.exists() and not _is_made_here(path)]
    if strangers:
        raise DataError(
            f"`--out` must hold no prompts of yours under the names of the sums, got {', '.join(strangers)} in "
            f"{str(folder)!r}: they would be replaced. Name another folder."
        )
    for path, idx in zip(paths.values(), (train_idx, np.flatnonzero(tested)), strict=True):
        atomic_write(path, "".join(json.dumps(rows[i]) + "\n" for i in idx))
    return paths


def warm_model(
    *, steps: int | None = None, hidden: int = 32, seed: int = 0
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """A tiny model that gets the easy sums right, few of the hard ones, and its tokenizer.

    It is trained here, on right answers of sums of the same kind, which are not kept apart from those of `sums`: what
    it saw before training by reward is no secret. The global random state is left alone.

    Args:
        steps: of its training, at least 1; None takes 600. The fewer, the fewer sums it gets right.
        hidden: its width, a multiple of 8.
        seed: of its weights and of what it is shown.

    Raises:
        RecipeError: a number out of range.
    """
    steps = _WARM_STEPS if steps is None else steps
    _check({"steps": (steps, 1, None), "seed": (seed, 0, None)})
    import torch

    draw = np.random.default_rng([seed, *b"warm"])
    n_rows = min(_WARM_ROWS, steps * _WARM_BATCH)
    levels = draw.choice(N_LEVELS, size=n_rows, p=_WARM_SHARES)
    rows = [_sum(draw, OPERATIONS[draw.integers(len(OPERATIONS))], int(level)) for level in levels]
    tokenizer = tiny_tokenizer([f"user\n{question}" for question, _ in rows] + ["assistant\n"])
    model = tiny_model(vocab_size=len(tokenizer), hidden=hidden, seed=seed)
    ids, labels = _taught(tokenizer, rows)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_WARM_RATE, betas=(0.9, 0.98))
    # Up and down again: at a rate that stays, the last weights are as good as the last batch.
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _WARM_RATE, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        batch = torch.from_numpy(draw.choice(len(rows), size=_WARM_BATCH, replace=False))
        shown, right = ids[batch], labels[batch]  # (b, t), (b, s)
        mask = (shown != tokenizer.pad_token_id).long()
        # positions are told by their distance alone, so that padding on the left needs no numbers of its own
        logits = model(shown, attention_mask=mask, logits_to_keep=right.shape[1] + 1).logits[:, :-1]  # (b, s, V)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), right.flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        schedule.step()
    model.train(False)
    return model, tokenizer


def write_warm_model(folder: Path, *, seed: int = 0) -> Path:
    """Save `warm_model` and its tokenizer, so that `model_name_or_path: <folder>` works, and return the folder.

    Raises:
        RecipeError: `seed` below 0.
        DataError: the folder holds a model that was not made by this package.
    """
    there = sorted(path.name for name in ("config.json", "*.safetensors", "tokenizer*") for path in folder.glob(name))
    if there and not (folder / MARKER).is_file():
        raise DataError(
            f"`--out` must be a folder without a model of yours, got {', '.join(there)} in {str(folder)!r}: they would "
            "be replaced. Name another folder."
        )
    model, tokenizer = warm_model(seed=seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    atomic_write(folder / MARKER, "a tiny model warmed up on sums, made by `campus-tune demo sums`\n")
    return folder


def _sum(draw: np.random.Generator, domain: str, level: int) -> tuple[str, str]:
    """One prompt of a cell, and its answer."""
    name, thing = _NAMES[draw.integers(len(_NAMES))], _THINGS[draw.integers(len(_THINGS))]
    first = _BOUNDS[domain][0] + 1
    below, most = _BOUNDS[domain][level : level + 2]
    one, other = int(draw.integers(below + 1, most + 1)), int(draw.integers(first, most + 1))
    a, b = (one, other) if draw.integers(2) else (other, one)
    if domain == "minus":  # never below zero
        a, b = max(a, b), min(a, b)
    value = {"plus": a + b, "minus": a - b, "times": a * b}[domain]
    return f"{name} has {a} {thing} {domain} {b}", str(value)


def _taught(tokenizer: PreTrainedTokenizerFast, rows: list[tuple[str, str]]) -> tuple[Tensor, Tensor]:
    """Token ids (n, t), padded on the left, and labels of the last ones (n, s): of the answer and its end alone."""
    import torch

    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    chats = [[{"role": "user", "content": question}] for question, _ in rows]
    asked = tokenizer(tokenizer.apply_chat_template(chats, add_generation_prompt=True, tokenize=False))["input_ids"]
    said = [[*ids, end] for ids in tokenizer([answer for _, answer in rows])["input_ids"]]
    width = max(len(prompt) + len(answer) for prompt, answer in zip(asked, said, strict=True))
    ids = torch.full((len(rows), width), pad)
    labels = torch.full((len(rows), max(map(len, said))), -100)
    for row, (prompt, answer) in enumerate(zip(asked, said, strict=True)):
        ids[row, -len(prompt) - len(answer) :] = torch.tensor(prompt + answer)
        labels[row, -len(answer) :] = torch.tensor(answer)
    return ids, labels


def _is_made_here(path: Path) -> bool:
    """Whether a file begins with a row as `sums` makes them."""
    try:
        with path.open(encoding="utf-8") as file:
            row = parse(file.readline())
        return [*row] == ["id", "domain", "level", "prompt", "answer"] and row["domain"] in OPERATIONS
    except (OSError, ValueError, TypeError):
        return False


def _check(numbers: dict[str, tuple[int, int, int | None]]) -> None:
    """Refuse what nothing can be made from, all of it at once: (value, least, most) by name."""
    problems = [
        f"`{name}` must be a whole number, at least {least}{'' if most is None else f', at most {most}'}, got "
        f"{value!r}. Change it."
        for name, (value, least, most) in numbers.items()
        if not isinstance(value, int) or value < least or (most is not None and value > most)
    ]
    if problems:
        raise RecipeError(problems)
