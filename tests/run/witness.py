"""What the model was really given, seen by a hook of the tests' own, and small helpers around a run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from campus_tune.run.ledger import read_ledger
from campus_tune.words.types import Json, RowLosses


class Witness:
    """Row positions of every training forward of `trainer`, found by their token ids.

    `forwards[k]` holds the rows of forward k, sorted; −1 stands for tokens that are no row of the training set.
    `tokens[k]` is how many tokens, padding included, that forward took.
    """

    def __init__(self, trainer: Any) -> None:
        self.state = lambda: trainer.state
        dataset = trainer.train_dataset
        rows = (dataset[i]["input_ids"] for i in range(len(dataset)))
        self.row_of = {tuple(int(token) for token in ids): row for row, ids in enumerate(rows)}
        assert len(self.row_of) == len(dataset), "a witness needs rows that differ"
        self.forwards: list[list[int]] = []
        self.of_step: list[int] = []  # steps that were finished before each forward
        self.tokens: list[int] = []
        self.counted: list[int] = []  # labels that carry loss
        trainer.model.register_forward_pre_hook(self._see, with_kwargs=True)

    def _see(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        del args
        if not module.training or not torch.is_grad_enabled():
            return
        ids = kwargs["input_ids"]
        if kwargs.get("attention_mask") is not None:
            pairs = zip(ids, kwargs["attention_mask"], strict=True)
            rows = [tuple(row[mask.bool()].tolist()) for row, mask in pairs]
        else:
            starts = (kwargs["position_ids"][0] == 0).nonzero()[:, 0].tolist()
            ends = [*starts[1:], ids.shape[1]]
            pairs = zip(starts, ends, strict=True)
            rows = [tuple(ids[0, start:end].tolist()) for start, end in pairs if end > start + 1]  # one is padding
        self.forwards.append(sorted(self.row_of.get(row, -1) for row in rows))
        self.of_step.append(self.state().global_step)
        self.tokens.append(ids.numel())
        self.counted.append(int((kwargs["labels"][:, 1:] != -100).sum()))

    @property
    def steps(self) -> list[list[int]]:
        """Rows of each optimizer step, sorted; filling rows are left out."""
        counted = [rows if n else [] for rows, n in zip(self.forwards, self.counted, strict=True)]
        steps = groupby(zip(self.of_step, counted, strict=True), key=itemgetter(0))
        return [sorted(flat(rows for _, rows in step)) for _, step in steps]

    @property
    def rows(self) -> list[int]:
        """All rows, step by step."""
        return [row for step in self.steps for row in step]


def flat(lists: Iterable[list[int]]) -> list[int]:
    """The lists behind one another."""
    return list(chain.from_iterable(lists))


def ledger(out: Path) -> list[Json]:
    """All lines of a run's ledger."""
    return read_ledger(Path(out) / "curriculum" / "ledger.jsonl")


def events(out: Path, name: str) -> list[Json]:
    """The ledger's lines of one kind."""
    return [line for line in ledger(out) if line["event"] == name]


def step_lines(trainer: Any, *names: str) -> list[list[float]]:
    """These numbers of every logged training step."""
    return [[line[name] for name in names] for line in trainer.state.log_history if "loss" in line]


def slow_losses(trainer: Any, row: int, dataset: Any = None) -> tuple[float, int, int, float, float]:
    """What `RowLosses` holds of one row by itself: a plain forward and a log-softmax in float64, token by token."""
    item = (dataset if dataset is not None else trainer.train_dataset)[row]
    modes = [module.training for module in trainer.model.modules()]
    trainer.model.eval()
    with torch.no_grad():
        logits = trainer.model(input_ids=torch.tensor([item["input_ids"]])).logits[0].double()
    logits = logits[-len(item["input_ids"]) :]  # behind the virtual tokens of prompt learning
    for module, mode in zip(trainer.model.modules(), modes, strict=True):
        module.training = mode
    log_probs = torch.log_softmax(logits, dim=-1)
    labels = item.get("labels", item["input_ids"])
    nll, hits = [], 0
    for place in range(1, len(labels)):
        if labels[place] != -100:
            nll.append(-float(log_probs[place - 1, labels[place]]))
            hits += int(log_probs[place - 1].argmax() == labels[place])
    return sum(nll), len(nll), hits, max(nll), sum(math.exp(-loss) for loss in nll)


def all_slow_losses(trainer: Any, rows: Any, dataset: Any = None) -> RowLosses:
    """`slow_losses` of several rows."""
    parts = [slow_losses(trainer, int(row), dataset) for row in rows]
    return RowLosses(*(np.array(column) for column in zip(*parts, strict=True)))


def assert_close(measured: RowLosses, slow: RowLosses) -> None:
    """The same losses up to the precision of float32, the same counts."""
    for name, values in vars(slow).items():
        np.testing.assert_allclose(getattr(measured, name), values, rtol=5e-6 if values.dtype.kind == "f" else 0)


def is_json_lines(path: Path) -> bool:
    """Every line of the file is one whole JSON object."""
    return all(isinstance(json.loads(line), dict) for line in path.read_text("utf-8").splitlines())
