"""A step of a real trainer under weights, without a curriculum: its gradients, and a slow reference for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from peft import get_peft_model
from transformers import DataCollatorForSeq2Seq, Trainer, TrainerCallback, TrainingArguments

from campus_tune.data.prepared import read_rows
from campus_tune.demo.tiny import tiny_model
from campus_tune.method.levels import Groups
from campus_tune.method.weighting import Entry, Live, Weighting, build_weight
from campus_tune.run.stream.loss_audit import LossAudit
from campus_tune.run.stream.value import ValueHooks
from campus_tune.run.stream.watch import Watch
from campus_tune.run.stream.weighing import StepWeights, Weighing
from tests.run.tiny_run import dataset, sft_config, tokenizer

N = 8  # rows, all of one step
_random = np.random.default_rng(0)


def _row(share: float) -> dict[str, list[int]]:
    """A share of the tokens follow themselves, which is what `loud_model` says of each."""
    length, prompt = int(_random.integers(8, 24)), int(_random.integers(2, 5))
    ids = _random.integers(3, 500, length).tolist()
    for place in range(1, length):
        if _random.random() < share:
            ids[place] = ids[place - 1]
    return {"input_ids": ids, "labels": [-100] * prompt + ids[prompt:]}


ROWS = [_row(i / N) for i in range(N)]
TOKENS = np.array([len(row["labels"]) - row["labels"].count(-100) for row in ROWS])
PLANNED = np.array([0.25, 2.0, 1.0, 0.0, 3.0, 0.5, 1.5, 0.75])


def loud_model() -> Any:
    """A tiny model that says each token once more, quite sure, so that rows and tokens differ in their losses."""
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight.mul_(8.0)
    return model


def live_of(setting: Mapping[str, Any], *, cells: bool = False, shuffle: bool = False, limit: Any = None) -> Live:
    """The live weights of a stage after one whose losses were those of `loud_model`, about; in two domains."""
    groups = Groups(np.arange(N) % 2, ("even", "odd"))
    weighting = Weighting(
        [Entry(setting["name"], build_weight(setting), limit=limit)],
        tokens=TOKENS,
        global_batch=N,
        domains=groups,
        cells=groups if cells else None,
        scope=lambda u: 0.6,  # noqa: ARG005
        shuffle=shuffle,
    )
    rows = np.arange(200) % N
    losses = 4.5 + np.random.default_rng(1).normal(size=200) + rows % 2
    weighting.close(rows, losses, TOKENS[rows], np.ones(200))
    return weighting.live(0.5)


@dataclass
class Told:
    """What came of a step.

    Args:
        gradients: of each trained parameter, at `on_pre_optimizer_step`.
        harvest: of the watch.
        watch: that looked on.
        trainer: that trained, at the rate 0.
    """

    gradients: dict[str, torch.Tensor] = field(default_factory=dict)
    harvest: Any = None
    watch: Any = None
    trainer: Any = None


def micro_batches(n_rows: int, size: int) -> list[list[int]]:
    """Rows in their own sequence."""
    return [list(range(a, min(a + size, n_rows))) for a in range(0, n_rows, size)]


class Weighs(TrainerCallback):
    """Puts a watch on a trainer that trains its rows in their sequence, all in each step.

    Args:
        told: where it leaves what it sees.
        rows: of the data set.
        planned: weights, shape (N,).
        shapes: of the rows; None for even ones.
        live: live weights.
        labels: they are known before they reach the model.
        batch: rows of a micro batch.
        gradients: gives those that rows are valued along, from the trainer; None values none.
    """

    def __init__(self, told: Told, rows: Sequence[Any], planned: Any, shapes: Any, live: Live, **how: Any) -> None:
        self.told, self.rows, self.planned, self.shapes, self.live = told, rows, planned, shapes, live
        self.labels, self.batch, self.step = how.get("labels", True), how.get("batch", 2), 0
        self.gradients = how.get("gradients")

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        trainer = self.told.trainer
        loss = LossAudit.of(trainer)
        model = trainer.accelerator.unwrap_model(trainer.model)
        weighing = Weighing.of(trainer, loss)
        values = None
        if self.gradients is not None:
            values = ValueHooks(model, loss.loss_scale)
            values.go_by(self.gradients(trainer))
        rows = read_rows(dataset(self.rows))
        self.told.watch = Watch(model, rows, loss, labels=self.labels, weighing=weighing, values=values)

    def batches(self) -> list[list[int]]:
        return micro_batches(len(self.rows), self.batch)

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.step += 1
        rows = np.concatenate([np.array(batch) for batch in self.batches()])
        shapes = None if self.shapes is None else [self.shapes[row] for row in rows]
        self.told.watch.begin_step(self.step, StepWeights(self.step, rows, self.planned[rows], shapes, self.live))

    def on_pre_optimizer_step(self, *_: Any, model: Any = None, **__: Any) -> None:
        named = self.told.trainer.accelerator.unwrap_model(model).named_parameters()
        self.told.gradients.update({k: p.grad.detach().clone() for k, p in named if p.requires_grad})
        self.told.watch.before_update()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        tokens = int(self.told.watch.planned.answer_tokens.sum())
        self.told.watch.end_step(self.batches(), answer_tokens=tokens)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.told.harvest = self.told.watch.harvest()
        self.told.watch.close()


def train(
    out: Any,
    planned: Any = PLANNED,
    *,
    shapes: Any = None,
    live: Live | None = None,
    rows: Sequence[Any] = ROWS,
    plain: bool = False,
    kind: Any = None,
    model: Any = None,
    collator: Any = None,
    lora: Any = None,
    batch: int = 2,
    steps: int = 1,
    labels: bool = True,
    callbacks: Sequence[Any] = (),
    before: Sequence[Any] = (),
    put_on: Callable[[Any], None] | None = None,
    gradients: Callable[[Any], Any] | None = None,
    **settings: Any,
) -> Told:
    """Train some steps of all rows.

    Args:
        out: output folder.
        planned: weights of the rows.
        shapes: of their tokens.
        live: live weights.
        rows: the data set.
        plain: with a `transformers.Trainer`, whose model gives logits.
        kind: a class of trainer.
        model: that is trained.
        collator: of batches.
        lora: adapter.
        batch: rows of a micro batch.
        steps: of the optimizer.
        labels: they are known before they reach the model.
        callbacks: after the one that weighs.
        before: callbacks before it.
        put_on: something to do to the trainer before it trains.
        gradients: gives those that rows are valued along.
        settings: of the trainer's arguments.
    """
    told = Told()
    weighs = Weighs(
        told, rows, np.asarray(planned), shapes, live or Live(), labels=labels, batch=batch, gradients=gradients
    )
    arguments = {
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": -(-len(rows) // batch),
        "max_steps": steps,
        "learning_rate": 0.0,
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "train_sampling_strategy": "sequential",
        "bf16": False,
        **settings,
    }
    extra: dict[str, Any] = {"callbacks": [*before, weighs, *callbacks], "processing_class": tokenizer()}
    if plain:
        kind, args = kind or Trainer, TrainingArguments(str(out), **arguments)
        if lora is not None:
            model = get_peft_model(loud_model() if model is None else model, lora)
        extra["data_collator"] = collator or DataCollatorForSeq2Seq(tokenizer())
    else:
        from trl import SFTTrainer

        kind, args = kind or SFTTrainer, sft_config(out, max_length=None, **arguments)
        extra |= {"peft_config": lora} | ({} if collator is None else {"data_collator": collator})
    told.trainer = kind(model if model is not None else loud_model(), args=args, train_dataset=dataset(rows), **extra)
    if lora is not None:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, parameter in told.trainer.model.named_parameters():
                if "lora_B" in name:
                    parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    if put_on is not None:
        put_on(told.trainer)
    told.trainer.train()
    return told


TokenWeights = Callable[
    [int, torch.Tensor], Any
]  # of a row's number and its tokens' losses (T,), which have a gradient


def by_hand(
    told: Told, loss_of: TokenWeights, *, rows: Sequence[Any] = ROWS, n_tokens: int | None = None
) -> dict[str, torch.Tensor]:
    """The gradients of the same step: row by row, Σ of `loss_of` over all answer tokens of the step.

    Args:
        told: of the step; its model was trained at the rate 0.
        loss_of: what a row adds to the step's loss times its tokens.
        rows: of the step.
        n_tokens: the loss is divided by; the rows' own where None.
    """
    model = told.trainer.accelerator.unwrap_model(told.trainer.model, keep_fp32_wrapper=False)
    model.zero_grad(set_to_none=True)
    total = n_tokens or sum(sum(label != -100 for label in row["labels"][1:]) for row in rows)
    for i, row in enumerate(rows):
        logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1].float()
        labels = torch.tensor(row["labels"])[1:]
        kept = labels != -100
        losses = torch.nn.functional.cross_entropy(logits[kept], labels[kept], reduction="none")
        (loss_of(i, losses) / total).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


def worst(found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> float:
    """The greatest difference of any gradient, relative to the greatest of its parameter."""
    assert found.keys() == wanted.keys()
    return max(float((found[name] - wanted[name]).abs().max() / (wanted[name].abs().max() + 1e-12)) for name in wanted)


def cosine(found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> float:
    """Of all gradients as one vector."""
    a, b = (torch.cat([values[name].float().reshape(-1) for name in wanted]) for values in (found, wanted))
    return float(a @ b / (a.norm() * b.norm()))
