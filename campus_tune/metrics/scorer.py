"""Difficulty is how far the reference answer stands out from what the model writes now.

    r(x, y) = w · (h(x, y) − μ) / σ        h: hidden states of the answer's tokens, their mean and the last one
    w minimises   mean over pairs of −log σ(r(x, y⁺) − r(x, y⁻))  +  λ/2 |w|²

y⁺ is the reference answer, y⁻ one sampled from the current model for the same prompt; the score of a row is r(x, y⁺).
The better the model writes, the harder the pairs are to tell apart: model and scorer train against each other. The
problem is convex and solved anew at each refresh, so a scorer needs no state, no learning rate and no stopping rule.

Whether it has learnt anything is measured on pairs it was not fitted on (five folds): below `FLOOR` its order is not
offered. How stable its ranking is, two heads say that are fitted on half of the pairs each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from campus_tune.method.budget import FEWEST
from campus_tune.metrics.base import METRICS, Kind, Metric
from campus_tune.words.leaves import Range, Wording
from campus_tune.words.types import FloatArray, IntArray

FLOOR = 0.55  # held-out accuracy on pairs, below which a scorer tells nothing apart
FOLDS = 5
RIDGE = 0.01  # λ, on differences of features of about unit length
MOST = 1_000_000  # of either
FEWEST_PAIRS = FEWEST["scorer"]  # fewer say little: the accuracy of 32 pairs has a standard error of 0.09


@METRICS.register("scorer")
@dataclass(frozen=True, kw_only=True)
class Scorer(Metric):
    """How clearly a scorer model tells a row's answer from what the model in hand writes for the same prompt.

    A linear head on the model's own hidden states (or on those of a smaller model that you name), trained by the
    pairwise logistic loss on (reference answer, answer sampled from the current model) and trained anew with every
    re-scoring. A high score: the reference is far from the model's own writing, hard. One forward gives this and the
    loss.

    When it helps: where the likelihood of an answer is not what makes it hard: style, format, correctness. It is no
    measure of difficulty by itself: with SmolLM2-135M on tasks with known levels its rank correlation with the level
    was −0.71 and −0.33 before tuning (answers of a few words are what this model never writes) and 0.03 and −0.05 after
    50 steps of LoRA, when two scorers of different samples hardly agreed any more (0.07). Look at its `stability`.

    Cost: sampling up to `pairs` answers of up to `new_tokens` tokens, and a forward over both of each pair; bounded by
    its part of the budget. Both answers are compared on their first `new_tokens` tokens and without the token that ends
    them, so the length of a sample says nothing. Of a row with several answers the first counts; rows without a prompt
    are predicted.

    Args:
        pairs: answers sampled for one training of the scorer, at most; ≥ 32.
        new_tokens: tokens of an answer that are sampled, and looked at; ≥ 1.
        model: folder or hub id of another model whose hidden states are read; None reads those of the model in hand.

    Reference:
        CAMPUS, arXiv 2509.13790 (its scorer model); the pairwise loss is Bradley and Terry 1952.

    Differs from the paper:
        Its details are not public: features, head, loss and refresh are our reconstruction.
    """

    kind: ClassVar[Kind] = "model"
    alone: ClassVar[bool] = True

    pairs: Annotated[int, Range(FEWEST_PAIRS, MOST)] = 64
    new_tokens: Annotated[int, Range(1, MOST)] = 64
    model: Annotated[str | None, Wording("a folder or a hub id")] = None

    @property
    def competence_aware(self) -> bool:
        """It is trained anew on what the model writes."""
        return True


@dataclass(frozen=True)
class Heads:
    """A fitted scorer: one head on all pairs, and one on each half of them.

    Args:
        mean: μ of the features, shape (F,).
        scale: σ of the features, shape (F,).
        weights: w of the three heads (all pairs, the halves), shape (3, F).
        accuracy: share of held-out pairs that are told apart, in [0, 1].
        n_pairs: that it was fitted on.
    """

    mean: FloatArray
    scale: FloatArray
    weights: FloatArray
    accuracy: float
    n_pairs: int

    @property
    def tells_apart(self) -> bool:
        """Whether its order is worth offering."""
        return self.accuracy >= FLOOR

    def linear(self) -> tuple[FloatArray, FloatArray]:
        """(A, b) with scores = features · Aᵀ + b, shapes (3, F) and (3,): what a forward applies batch by batch."""
        a = self.weights / self.scale
        return a, -(a @ self.mean)

    def scores(self, features: FloatArray) -> FloatArray:
        """Scores of rows under the three heads, shape (n, 3).

        Args:
            features: shape (n, F).
        """
        a, b = self.linear()
        return features @ a.T + b


def fit_heads(reference: FloatArray, sampled: FloatArray, *, seed: int) -> Heads:
    """Train the scorer.

    Args:
        reference: features of the reference answers, shape (P, F), P ≥ 2.
        sampled: features of the sampled answers to the same prompts, shape (P, F).
        seed: of the split into folds and halves.
    """
    both = np.concatenate([reference, sampled])
    mean, scale = both.mean(axis=0), both.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0) * np.sqrt(both.shape[1])
    differences = (reference - sampled) / scale
    shuffled = np.random.default_rng([seed, 0x5C0]).permutation(len(differences))
    fold, half = np.arange(len(shuffled)) % FOLDS, np.arange(len(shuffled)) % 2
    weights = np.stack([fit(differences), *(fit(differences[shuffled[half == k]]) for k in (0, 1))])
    return Heads(mean, scale, weights, held_out_accuracy(differences[shuffled], fold), len(differences))


def held_out_accuracy(differences: FloatArray, fold: IntArray) -> float:
    """Share of pairs that a head fitted without their fold puts in the right sequence; a tie is half right.

    Args:
        differences: reference minus sample of each pair, shape (P, F).
        fold: of each pair, shape (P,).
    """
    margins = np.empty(len(differences))
    for k in np.unique(fold):
        margins[fold == k] = differences[fold == k] @ fit(differences[fold != k])
    return float(np.mean((margins > 0) + 0.5 * (margins == 0)))


def fit(differences: FloatArray) -> FloatArray:
    """The w, shape (F,), that minimises mean log(1 + exp(−d·w)) + λ/2 |w|² over the pairs' differences d.

    Args:
        differences: shape (P, F); for P = 0 the answer is 0.
    """
    import torch
    from torch.nn import functional

    if not len(differences):
        return np.zeros(differences.shape[1])
    pairs = torch.tensor(differences, dtype=torch.float64)
    w = torch.zeros(pairs.shape[1], dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([w], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def objective() -> torch.Tensor:
        solver.zero_grad()
        loss = functional.softplus(-(pairs @ w)).mean() + RIDGE / 2 * (w @ w)
        torch.autograd.backward(loss)
        return loss

    with torch.enable_grad():
        solver.step(objective)  # type: ignore[no-untyped-call]
    return np.asarray(w.detach().numpy(), dtype=np.float64)
