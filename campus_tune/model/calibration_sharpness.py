"""Two things a comparison asks of a model at the end of its run: is its confidence right, is its minimum flat?

Both are measured on held-out rows, in eval mode, and leave the model and the random states as they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from campus_tune.method.calibration import Calibration, confidence_bins
from campus_tune.model.answer_alone import PadRight, TokenLists
from campus_tune.model.batches import long_rows_first
from campus_tune.model.measure import logits_of
from campus_tune.model.row_sums import IGNORED
from campus_tune.model.subject import Subject, undisturbed
from campus_tune.words.types import IntArray, Json

BATCH_TOKENS = 2048  # of one forward: whole logits exist here
RADIUS = 0.05  # of the step uphill, the default of Foret et al.
LEAST = 1e-12


def calibration(subject: Subject, rows: TokenLists, tokens: IntArray, domains: Sequence[str] = ()) -> Json:
    """Expected calibration error of the model's most likely next token, on the answer tokens of some rows.

    Args:
        subject: the model as it is.
        rows: tokenised, with labels.
        tokens: of each, shape (n,).
        domains: of each; () where they have none.

    Returns:
        `error` and `bins` of all rows together, see `Calibration`; with more than one domain `domains`, the error of
        each.
    """
    confidences, hits, of_rows = [], [], []
    with undisturbed(subject.model), torch.no_grad():
        for logits, wanted, row in _answers(subject, rows, tokens):
            best = logits.float().softmax(-1).max(-1)
            confidences.append(best.values.double().cpu().numpy())
            hits.append((best.indices == wanted).cpu().numpy())
            of_rows.append(row)
    confidence, hit, row = np.concatenate(confidences), np.concatenate(hits), np.concatenate(of_rows)
    whole = Calibration.of_tokens(confidence, hit)
    told: Json = {"error": whole.error, "bins": whole.bins}
    names, domain = np.unique(np.array(domains), return_inverse=True)
    if len(names) > 1:
        sums = confidence_bins(confidence, hit, domain[row], len(names))
        told["domains"] = {str(name): Calibration.of(sums[[i]]).error for i, name in enumerate(names)}
    return told


def sharpness(subject: Subject, rows: TokenLists, tokens: IntArray, *, radius: float = RADIUS) -> Json:
    """How much the loss rises by one step uphill: L(w + ρ g/‖g‖) − L(w), over the weights that are trained.

    One forward and backward and one forward more. Among the cheap estimates the one whose link to generalisation is
    best supported; it depends on the scale of the weights, so it compares runs of one model and nothing else.

    Args:
        subject: the model as it is; its weights are put back bit for bit.
        rows: tokenised, with labels.
        tokens: of each, shape (n,).
        radius: ρ, the length of the step, > 0.

    Returns:
        `value` in nats per token, and `radius`.

    Reference:
        Foret et al. 2021, "Sharpness-Aware Minimization", arXiv 2010.01412.
    """
    trained = [weight for weight in subject.model.parameters() if weight.requires_grad]
    kept = [weight.grad for weight in trained]
    before = [weight.detach().clone() for weight in trained]
    n = sum(int(np.count_nonzero(np.array(row.labels[1:]) != IGNORED)) for row in rows.whole(range(len(rows))))
    with undisturbed(subject.model):
        try:
            for weight in trained:
                weight.grad = None
            with torch.enable_grad():
                here = 0.0
                for logits, wanted, _ in _answers(subject, rows, tokens):
                    loss = torch.nn.functional.cross_entropy(logits.float(), wanted, reduction="sum") / n
                    loss.backward()  # type: ignore[no-untyped-call]
                    here += float(loss.detach())
            gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in trained]
            norm = float(torch.sqrt(torch.stack([g.double().pow(2).sum() for g in gradients]).sum()))
            with torch.no_grad():
                for weight, gradient in zip(trained, gradients, strict=True):
                    weight.add_(gradient, alpha=radius / max(norm, LEAST))
                there = sum(
                    float(torch.nn.functional.cross_entropy(logits.float(), wanted, reduction="sum")) / n
                    for logits, wanted, _ in _answers(subject, rows, tokens)
                )
        finally:
            with torch.no_grad():
                for weight, old, gradient in zip(trained, before, kept, strict=True):
                    weight.copy_(old)
                    weight.grad = gradient
    return {"value": there - here, "radius": radius}


def _answers(
    subject: Subject, rows: TokenLists, tokens: IntArray
) -> Iterator[tuple[torch.Tensor, torch.Tensor, IntArray]]:
    """(Logits of the positions that predict answer tokens, those tokens, their rows), by batch, long rows first."""
    collate = PadRight()
    for places in long_rows_first(tokens, BATCH_TOKENS):
        batch = subject.place(collate(rows.__getitems__(places.tolist())))
        labels = batch.pop("labels")[:, 1:]
        wanted = labels != IGNORED
        logits = logits_of(subject.forward(**batch, use_cache=False))  # (n, L, V)
        logits = logits[:, -labels.shape[1] - 1 : -1]  # prompt learning puts places in front of a row's own
        yield logits[wanted], labels[wanted], places[wanted.nonzero()[:, 0].cpu().numpy()]
