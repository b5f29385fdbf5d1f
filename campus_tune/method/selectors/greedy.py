"""Selectors that let the current model's perplexity on the offered slices decide.

All three compare mean answer losses in nats, the logarithm of perplexity, so "lowest perplexity" and "lowest mean
loss" are one thing. They differ in what the loss is compared with: nothing, the start of training, the probes.
"""

from __future__ import annotations

import numpy as np

from campus_tune.method.selectors.base import LOSS, PROBES, SELECTORS, START_LOSS, GreedySelector
from campus_tune.words.types import FloatArray


@SELECTORS.register("lowest_perplexity")
class LowestPerplexity(GreedySelector):
    """CAMPUS as published: the offer on which the current model has the lowest perplexity.

    `argmin_i exp(mean loss of offer i)`: the slice the model is most ready for.

    With exact coverage and a `loss` order among the metrics it always takes `loss`, because a slice sorted by the
    very quantity that selects it wins; `campus-tune check` refuses to call that a multi-perspective curriculum.

    Reference:
        CAMPUS, arXiv 2509.13790.
    """

    needs = frozenset({LOSS})

    def distance(self, loss: FloatArray, *, start_loss: FloatArray | None, probe_loss: float | None) -> FloatArray:
        """The mean loss itself."""
        del start_loss, probe_loss
        return loss


@SELECTORS.register("relative_perplexity")
class RelativePerplexity(GreedySelector):
    """The offer whose perplexity has fallen most against the same rows at the start of training.

    `argmin_i ppl_i(now) / ppl_i(start)`, in nats `loss_i(now) − loss_i(start)`: what the model has learned to do,
    not what was easy from the beginning. A row is its own control, so text that is merely short or repetitive
    has no advantage. Ours, not in the paper.
    """

    needs = frozenset({LOSS, START_LOSS})

    def distance(self, loss: FloatArray, *, start_loss: FloatArray | None, probe_loss: float | None) -> FloatArray:
        """The change of the mean loss since the start."""
        del probe_loss
        assert start_loss is not None, "relative_perplexity is shown the losses at the start"
        return loss - start_loss


@SELECTORS.register("matched")
class Matched(GreedySelector):
    """The offer whose perplexity is nearest to that of the held-out probes: material at the model's own level.

    `argmin_i |loss_i − probe loss|`: neither what it masters nor what is beyond it, in the spirit of the zone of
    proximal development. Needs `probes`. Ours, not in the paper.
    """

    needs = frozenset({LOSS, PROBES})

    def distance(self, loss: FloatArray, *, start_loss: FloatArray | None, probe_loss: float | None) -> FloatArray:
        """The distance to the probes' mean loss."""
        del start_loss
        assert probe_loss is not None, "matched is shown the probes' loss"
        return np.abs(loss - probe_loss)
