"""AUM, one of Donkii's four scores, which needs full logits: what evaluates suspects makes them, the product does not.

trl's fused head makes no logits, so they are made here, of the answers' tokens alone, from the same hidden states. A
step's rows come to the model by length and not in the sequence of the plan; they are told apart by their losses.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from campus_tune.words.types import FloatArray, Json


class Margins:
    """AUM's number of each row as it is trained: Σ over its answer's tokens of (its logit − the largest other one)."""

    def __init__(self, model: Any) -> None:
        self._found: list[tuple[FloatArray, FloatArray]] = []  # of each step's rows: loss, margin
        self._states: Any = None
        self._head = model.get_output_embeddings()
        model.get_decoder().register_forward_hook(self._keep)
        model.register_forward_hook(self._take, with_kwargs=True)

    def _keep(self, _module: Any, _args: Any, outputs: Any) -> None:
        self._states = outputs.last_hidden_state.detach()

    def _take(self, module: Any, _args: Any, kwargs: Json, _outputs: Any) -> None:
        labels = kwargs.get("labels")
        if labels is None or not module.training:
            return
        mask = labels[:, 1:] != -100
        with torch.no_grad():
            logits = self._head(self._states[:, :-1][mask])
            wanted = labels[:, 1:][mask][:, None]
            own = logits.gather(1, wanted)[:, 0]
            loss, margin = logits.logsumexp(1) - own, own - logits.scatter(1, wanted, -math.inf).amax(1)
            sums = [torch.zeros(len(labels)).index_add_(0, mask.nonzero()[:, 0], x.float()) for x in (loss, margin)]
        self._found.append((sums[0].numpy().astype(np.float64), sums[1].numpy().astype(np.float64)))

    def of_visits(self, losses: FloatArray) -> FloatArray:
        """The margins in the sequence of the plan, (V,): a step's rows come to the model in another one.

        Args:
            losses: of the visits in the sequence of the plan, summed, by which a step's rows are told apart, (V,).
        """
        margins, start = np.empty(len(losses)), 0
        for own, found in self._found:
            planned = start + np.argsort(losses[start : start + len(own)])
            shown = np.argsort(own)
            assert np.allclose(losses[planned], own[shown], rtol=1e-3, atol=1e-3), "a step has trained other rows"
            margins[planned] = found[shown]
            start += len(own)
        assert start == len(losses), "a step is missing"
        return margins
