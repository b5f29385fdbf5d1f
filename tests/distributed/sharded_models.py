"""Measuring, sampling and fingerprinting under `fully_shard`, on every rank beside the same model unsharded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from campus_tune.words.types import Json

ENDS = list(range(2, 60))  # so many tokens end an answer that ranks are done at different times
LR = 0.1


def compare(out: str, kind: str) -> Json:
    """All of it for one kind of model, JSON with what was found on this rank.

    Args:
        out: a folder.
        kind: "llama", "soft caps" or "lora".
    """
    from campus_tune.model import compat
    from campus_tune.model.fingerprint import weights_fingerprint
    from campus_tune.model.peers import Peers
    from tests.run.tiny_run import tiny_trainer

    trainer, together = tiny_trainer(Path(out), config=False, n=24), _start()  # for its rows; its model is unused
    whole, model = _model(kind), _shard(_model(kind), kind)
    alone, sharded = _subject(trainer, whole, shards=False), _subject(trainer, model, shards=True)
    with _small_batches():
        # the scorer first: sampling is the first that a run may ask of a sharded model
        answers = [
            sorted(_scorer(trainer, sharded, together)._sample(np.arange(17), 0)[0].items()),
            sorted(_scorer(trainer, alone, Peers())._sample(np.arange(17), 0)[0].items()),
        ]
        losses = [_losses(trainer, sharded, together), _losses(trainer, alone, Peers())]
        features = [_features(trainer, sharded, together), _features(trainer, alone, Peers())]
        trained = [_train(trainer, kind, asks=asks) for asks in (False, True)]
    return {
        "answers": answers,
        "losses": losses,
        "features": features,
        "fingerprints": [weights_fingerprint(model), weights_fingerprint(whole)],
        "counts": [compat.parameter_counts(model), compat.parameter_counts(whole)],
        "width": [sharded.width, alone.width],
        "trained": trained,
    }


def _start() -> Any:
    from accelerate import PartialState

    from campus_tune.model.peers import Peers

    state = PartialState()
    return Peers(state.process_index, state.num_processes)


def _model(kind: str) -> Any:
    """The same one at every call."""
    import torch
    from peft import LoraConfig, get_peft_model

    from campus_tune.demo.tiny import tiny_model
    from tests.model.test_measure import soft_capped

    if kind != "lora":
        return soft_capped() if kind == "soft caps" else tiny_model()
    model = get_peft_model(tiny_model(), LoraConfig(r=4, lora_dropout=0.2, target_modules="all-linear"))
    generator = torch.Generator().manual_seed(5)
    for name, weight in model.named_parameters():  # fresh adapters change nothing
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3, generator=generator)
    return model


def _shard(model: Any, kind: str) -> Any:
    """Layers by themselves; what is left, the embedding and the head, in the root, which is not kept whole either."""
    from torch.distributed.fsdp import fully_shard

    base = model.get_base_model() if kind == "lora" else model
    for layer in base.model.layers:
        fully_shard(layer)
    return fully_shard(model, reshard_after_forward=True)


def _subject(trainer: Any, model: Any, *, shards: bool) -> Any:
    from campus_tune.model.subject import Subject

    return Subject(model, model, trainer.args.device, lambda batch: batch, sharded=shards)


@contextmanager
def _small_batches() -> Iterator[None]:
    """Several batches of a few rows each, and logits of nine places at a time."""
    from campus_tune.model import batches, measure

    before = batches.BATCH_TOKENS_CPU, measure.LOGIT_BYTES
    batches.BATCH_TOKENS_CPU = 150
    measure.LOGIT_BYTES = 4 * 512 * 9
    yield
    batches.BATCH_TOKENS_CPU, measure.LOGIT_BYTES = before


def _meter(trainer: Any, subject: Any, peers: Any) -> Any:
    from campus_tune.data.prepared import read_rows
    from campus_tune.model import compat
    from campus_tune.model.measure import LossMeter

    view, collator = compat.loader_view(trainer, trainer.train_dataset)
    return LossMeter(lambda: subject, view, collator, read_rows(view).tokens, peers=peers, what="measuring")


def _losses(trainer: Any, subject: Any, peers: Any) -> list[dict[str, list[float]]]:
    """Of many rows, of fewer than there are ranks, and of a number that does not come out even."""
    meter = _meter(trainer, subject, peers)
    asked = (np.arange(23), np.array([3]), np.array([11, 4, 4, 7, 1]))
    return [{name: values.tolist() for name, values in vars(meter.losses(rows)).items()} for rows in asked]


def _scorer(trainer: Any, subject: Any, peers: Any) -> Any:
    from campus_tune.data.prepared import read_rows
    from campus_tune.metrics.scorer import Scorer
    from campus_tune.model import compat
    from campus_tune.model.scorer_training import ScorerTrainer

    view, _ = compat.loader_view(trainer, trainer.train_dataset)
    scorer = ScorerTrainer(
        Scorer(new_tokens=12),
        subject=lambda: subject,
        dataset=trainer.train_dataset,
        view=view,
        rows=read_rows(view),
        tokenizer=trainer.processing_class,
        peers=peers,
        seed=3,
    )
    scorer.ends = ENDS
    return scorer


def _features(trainer: Any, subject: Any, peers: Any) -> list[list[float]]:
    from campus_tune.model.scorer_training import pooled

    reader = pooled(_scorer(trainer, subject, peers).spans)
    read = _meter(trainer, subject, peers).measure(np.arange(23), reader=reader, width=2 * subject.width).read
    return [[float(number) for number in row] for row in read]


def _train(trainer: Any, kind: str, *, asks: bool) -> str:
    """A digest of the weights after two steps, with everything asked of the model in between or not."""
    import torch

    from campus_tune.data.prepared import items
    from campus_tune.model import compat
    from campus_tune.model.fingerprint import weights_fingerprint

    peers = _start()
    view, collator = compat.loader_view(trainer, trainer.train_dataset)
    model = _shard(_model(kind), kind)
    subject = _subject(trainer, model, shards=True)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=LR)
    torch.manual_seed(peers.rank)  # of dropout
    for step in range(2):
        model.train()
        first = 4 * step + 2 * peers.rank
        rows = [first, first + 1]
        batch = collator(items(view, rows))
        model(**batch).loss.backward()
        if asks:  # gradients wait
            _losses(trainer, subject, peers)
            weights_fingerprint(model)
        optimizer.step()
        optimizer.zero_grad()
        if asks and step == 0:
            _scorer(trainer, subject, peers)._sample(np.arange(9), 0)
            _features(trainer, subject, peers)
            weights_fingerprint(model)
    return ",".join(map(str, weights_fingerprint(model)))
