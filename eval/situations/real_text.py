"""Real text for the bases `text` and `smol`: short questions and answers of `shared/data`, and a tiny Llama.

A pool has one row for each question of the mix whose answer is neither a number nor a name. What the tiny Llama has
read before it is trained is everything else of the mix and of Dolly, so that no row of a pool was seen before. Both are
the same in each call.

>>> short("What is an owl?", "A bird that hunts by night."), short("What is 2 + 2?", "4")
(True, False)
"""

from __future__ import annotations

import gzip
import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from campus_tune.words.types import BoolArray, Json

DATA = Path(os.environ.get("CAMPUS_SHARED", "shared")) / "data"
MIX, DOLLY = "mix/train.jsonl.gz", "dolly/train.jsonl.gz"
LONGEST, LEAST = 300, 20  # characters of a row, and of its answer at least
VOCAB, HIDDEN, LAYERS = 2048, 128, 4
NEAR = 16  # batches of texts that are sorted by length together
CUT, BATCH, STEPS, RATE = 128, 32, 1200, 4e-3  # tokens of a text, texts of a step, steps, highest rate


def short(question: str, answer: str) -> bool:
    """Whether a row belongs to the pool."""
    return len(answer) >= LEAST and len(question) + len(answer) <= LONGEST


def available(data: Path = DATA) -> bool:
    """Whether both sets are there."""
    return all((data / name).is_file() for name in (MIX, DOLLY))


def read(path: Path) -> list[Json]:
    """The objects of a compressed file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@cache
def of_mix(data: Path = DATA) -> tuple[list[Json], list[Json]]:
    """(Rows of the pool, the others) of the mix, each a question and an answer; a question asked twice is kept once.

    Raises:
        FileNotFoundError: the data are not there.
    """
    if not available(data):
        raise FileNotFoundError(
            f"`shared/data` must have {MIX} and {DOLLY}, got {str(data)!r} without them. Set CAMPUS_SHARED to the "
            "folder that holds `data`, or leave out the situations of `text` and `smol`."
        )
    pool, rest = {}, []
    for row in read(data / MIX):
        question, answer = row["messages"][0]["content"].strip(), row["messages"][-1]["content"].strip()
        if len(row["messages"]) == 2 and short(question, answer) and question not in pool:
            pool[question] = row
        elif question not in pool:
            rest.append(row)
    return [*pool.values()], rest


def cut_apart(
    pool: Sequence[Json], *, longest: int = LONGEST, tests: int, probes: int
) -> tuple[list[Json], list[Json], list[Json]]:
    """(What may be trained, tests, probes) of a pool's rows up to a length; the same in each call.

    Args:
        pool: rows.
        longest: characters of a row.
        tests: of each domain, and no more than a quarter of its rows.
        probes: of each domain, and no more than an eighth of its rows.
    """
    by_domain: dict[str, list[Json]] = {}
    for place in np.random.default_rng(0).permutation(len(pool)).tolist():
        row = pool[place]
        if sum(len(turn["content"].strip()) for turn in row["messages"]) <= longest:
            by_domain.setdefault(row["domain"], []).append(row)
    parts: tuple[list[Json], list[Json], list[Json]] = ([], [], [])
    for _, rows in sorted(by_domain.items()):
        first = min(tests, len(rows) // 4)
        second = first + min(probes, len(rows) // 8)
        for part, some in zip(parts, (rows[second:], rows[:first], rows[first:second]), strict=True):
            part += some
    return parts


def draw(
    rows: Sequence[Json], n: int, rng: np.random.Generator, shares: Mapping[str, float] | None = None
) -> list[Json]:
    """`n` rows, mixed: by the shares of the domains, or else with no source more than a third of them.

    Raises:
        ValueError: there are not as many rows.
    """
    wanted = None if shares is None else {domain: round(share * n) for domain, share in shares.items()}
    found: list[Json] = []
    counts = Counter[str]()
    for place in rng.permutation(len(rows)).tolist():
        row = rows[place]
        kind, most = (row["source"], n / 3) if wanted is None else (row["domain"], wanted.get(row["domain"], 0))
        if len(found) < n and counts[kind] < most:
            found.append(row)
            counts[kind] += 1
    if len(found) < (n if wanted is None else sum(wanted.values())):
        raise ValueError(f"`n` must be at most the rows that there are, got {n} for {len(found)}. Ask for fewer.")
    return [found[i] for i in rng.permutation(len(found))]


def swap(rows: Sequence[Json], share: float, seed: int) -> tuple[list[Json], BoolArray]:
    """(Rows, a share of which have each other's answers inside of a source and of a length; which of them)."""
    from eval.suspects_text import swapped

    sized = [{**row, "tokens": len(row["messages"][-1]["content"].strip())} for row in rows]
    planted, wrong = swapped(sized, round(share * len(rows) / 2), seed)
    return planted, np.asarray(wrong, dtype=bool)


def as_pairs(rows: Sequence[Json]) -> list[Json]:
    """Rows as a prompt and a completion, as the generated tasks are."""
    found = []
    for row in rows:
        first, last = ({**turn, "content": turn["content"].strip()} for turn in row["messages"])
        found.append({"domain": row["domain"], "level": 0, "prompt": [first], "completion": [last]})
    return found


def reading(data: Path = DATA) -> list[list[Json]]:
    """Conversations that a model reads before anything is trained: none of them asks what a row of the pool asks."""
    pool, rest = of_mix(data)
    asked = {row["messages"][0]["content"].strip() for row in pool}
    found = [row["messages"] for row in rest]
    asked |= {messages[0]["content"].strip() for messages in found}
    for row in read(data / DOLLY):
        question = "\n\n".join(part for part in (row["instruction"].strip(), row["context"].strip()) if part)
        if question not in asked and row["instruction"].strip() not in asked and row["response"].strip():
            asked.add(question)
            found.append(
                [{"role": "user", "content": question}, {"role": "assistant", "content": row["response"].strip()}]
            )
    return found


def tokenizer_of(conversations: Sequence[Sequence[Mapping[str, Any]]]) -> Any:
    """A byte-level BPE of every third conversation."""
    from campus_tune.demo.tiny import tiny_tokenizer

    texts = (f"{turn['role']}\n{turn['content']}" for one in conversations[::3] for turn in one)
    return tiny_tokenizer(texts, vocab_size=VOCAB)


def write_model(folder: Path, data: Path = DATA, *, steps: int = STEPS) -> None:
    """A tiny Llama that has read all of that, answers and questions alike, and its tokenizer; the same in each call."""
    import torch

    from campus_tune.demo.tiny import tiny_model
    from eval.suspects import endless_batches

    conversations = reading(data)
    tokenizer = tokenizer_of(conversations)
    texts = [tokenizer.apply_chat_template(one, tokenize=False) for one in conversations]
    ids = [one[:CUT] for one in tokenizer(texts)["input_ids"]]
    model = tiny_model(vocab_size=VOCAB, hidden=HIDDEN, layers=LAYERS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.1)
    source = endless_batches(ids, np.random.default_rng(0), lengths=[len(one) for one in ids], size=BATCH, near=NEAR)
    for step in range(steps):
        batch = next(source)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 100) * max(0.05, (1 + math.cos(math.pi * step / steps)) / 2)
        width = max(map(len, batch))
        padded = torch.zeros(len(batch), width, dtype=torch.long)
        labels = torch.full((len(batch), width), -100)
        for i, one in enumerate(batch):
            padded[i, : len(one)] = labels[i, : len(one)] = torch.tensor(one)
        loss = model(input_ids=padded, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step}: {loss.item():.3f}", flush=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
