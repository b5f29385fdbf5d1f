"""A model as measurements see it: what to call, where its tensors live, and how to leave it as it was."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from campus_tune.model.random_states import RandomStates


@dataclass(frozen=True)
class Subject:
    """A causal language model that is asked for losses.

    Args:
        model: the module itself, unwrapped; its modes are kept.
        forward: what is called: the wrapped module where parameters are sharded, else `model`.
        device: where batches go.
        place: puts a collated batch there.
        sharded: each process holds a part of the weights, so that a forward is a forward of all processes together.
    """

    model: Any
    forward: Any
    device: torch.device
    place: Callable[[Any], Any]
    sharded: bool = False

    @property
    def head(self) -> torch.nn.Module:
        """The module that turns hidden states into logits."""
        head: torch.nn.Module = self.model.get_output_embeddings()
        return head

    @property
    def width(self) -> int:
        """How many numbers the head sees of a position; of the whole weight, where this process has a part of it."""
        weight: Any = self.head.weight
        return int(getattr(weight, "ds_shape", weight.shape)[-1])  # DeepSpeed leaves an empty shape behind

    @property
    def vocabulary(self) -> int:
        """How many logits a position has."""
        return int(self.model.config.get_text_config().vocab_size)

    @property
    def context(self) -> int | None:
        """Tokens that the model can look back on; None where its configuration does not say."""
        length = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return int(length) if length else None


@contextmanager
def whole_root(subject: Subject) -> Iterator[None]:
    """Weights that FSDP2 gathers when its root is called are there inside, for what calls a module further in.

    An adapter's `generate` does: it calls the base model, whose embedding may be a part of the root. FSDP2 must have
    seen its root called before any other module, so it is called once.
    """
    from torch.distributed.fsdp import FSDPModule

    root = subject.forward
    if not isinstance(root, FSDPModule):
        yield
        return
    subject.forward(input_ids=torch.zeros(1, 1, dtype=torch.long, device=subject.device), use_cache=False)
    root.unshard()
    try:
        yield
    finally:
        root.reshard()


@contextmanager
def same_random_states(seed: int | None = None) -> Iterator[None]:
    """All global random states are afterwards as before.

    Args:
        seed: that they begin with inside; None lets them go on.
    """
    states = RandomStates.now()
    if seed is not None:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  # for code of others that draws from it
        torch.manual_seed(seed)
    try:
        yield
    finally:
        states.set()


@contextmanager
def _without_router_logits(model: torch.nn.Module) -> Iterator[None]:
    """A mixture of experts does not tell its routers' logits inside, which only a training loss reads.

    Trainers switch them on in the model's configuration, and `generate` then breaks: transformers weighs those of one
    new token by the attention mask of the whole row.
    """
    get_config: Any = getattr(getattr(model, "config", None), "get_text_config", lambda: None)
    config = get_config()
    if not getattr(config, "output_router_logits", False):
        yield
        return
    config.output_router_logits = False
    try:
        yield
    finally:
        config.output_router_logits = True


@contextmanager
def undisturbed(model: torch.nn.Module) -> Iterator[None]:
    """Eval mode and no gradient inside; every module's mode and all random states as before afterwards."""
    modes = {name: module.training for name, module in model.named_modules()}
    model.eval()
    try:
        with same_random_states(), torch.no_grad(), _without_router_logits(model):
            yield
    finally:
        for name, module in model.named_modules():
            module.training = modes[name]
