"""Two things a comparison asks of a model at the end of its run: is its confidence right, is its minimum flat?

Both are measured on held-out rows, in eval mode, and leave the model and the random states as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch

from campus_tune.data.token_hashes import IGNORED
from campus_tune.method.calibration import Calibration, confidence_bins
from campus_tune.model.answer_alone import PadRight, TokenLists
from campus_tune.model.batches import long_rows_first
from campus_tune.model.measure import logits_of
from campus_tune.model.subject import Subject, undisturbed
from campus_tune.model.uphill import adapter_pairs, merged_step, move, plain_step, relative_step
from campus_tune.words.types import IntArray, Json

BATCH_TOKENS = 2048  # of one forward: whole logits exist here
RADIUS = 0.05  # of the step uphill, the default of Foret et al.
RELATIVE = 10.0  # times as long is the relative one: 0.5, the default of Kwon et al.


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


def sharpness(
    subject: Subject, rows: TokenLists, tokens: IntArray, domains: Sequence[str] = (), *, radius: float = RADIUS
) -> Json:
    """How much the loss rises by one step uphill: L(w + ε) − L(w), over the weights that are trained.

    In three readings, which differ by what a step's length is (`uphill`). The plain one (‖ε‖ = ρ) is among the cheap
    estimates whose link to generalisation is best supported; it depends on the scale of the weights, and of an adapter
    on how its product is shared between A and B. The relative one does not see scales, the merged one nothing but
    the product. All of them compare runs of one model, rank and targets, and nothing else. A few rows have
    a steeper gradient than many: a domain compares with the same domain of another run, and not with the whole.

    Args:
        subject: the model as it is; its weights are put back bit for bit.
        rows: tokenised, with labels.
        tokens: of each, shape (n,).
        domains: of each; () where they have none.
        radius: ρ of the plain and of the merged step, > 0; that of the relative one is ten times as long, as in its
            paper.

    Returns:
        `value`, `relative` and, of an adapter, `merged` in nats per token, None where the weights are too coarse for
        such a step; `radius`, `relative_radius`, `rows`; with more than one domain `domains`, the same of each on its
        own rows.

    Reference:
        Foret et al. 2021, "Sharpness-Aware Minimization", arXiv 2010.01412; Kwon et al. 2021, "ASAM", arXiv 2102.11600.
    """
    rises = partial(_rises, subject, rows, tokens, radius=radius)
    told = rises(np.arange(len(rows)))
    told |= {"radius": radius, "relative_radius": RELATIVE * radius, "rows": len(rows)}
    names, domain = np.unique(np.array(domains), return_inverse=True)
    if len(names) > 1:
        told["domains"] = {str(name): rises(np.flatnonzero(domain == i)) for i, name in enumerate(names)}
    return told


def _rises(subject: Subject, rows: TokenLists, tokens: IntArray, places: IntArray, *, radius: float) -> Json:
    """What each step does to the loss of some rows."""
    trained = [weight for weight in subject.model.parameters() if weight.requires_grad]
    before = [weight.detach().clone() for weight in trained]
    gradients = [torch.zeros_like(weight) for weight in before]
    read = rows.__getitems__(places.tolist())  # cut where the model stops reading
    n = sum(int(np.count_nonzero(np.array(row["labels"][1:]) != IGNORED)) for row in read)
    told: Json = {}
    with undisturbed(subject.model):
        here = 0.0
        with torch.enable_grad():  # grad and not backward: an optimizer may hang on the weights' own gradients
            for logits, wanted, _ in _answers(subject, rows, tokens, places):
                loss = torch.nn.functional.cross_entropy(logits.float(), wanted, reduction="sum") / n
                here += float(loss.detach())
                found = torch.autograd.grad(loss, trained, allow_unused=True)
                for mine, more in zip(gradients, found, strict=True):
                    if more is not None:
                        mine.add_(more)
        steps: dict[str, Callable[[], list[torch.Tensor]]] = {
            "value": lambda: plain_step(gradients, radius),
            "relative": lambda: relative_step(before, gradients, RELATIVE * radius),
        }
        if pairs := adapter_pairs(subject.model, trained):  # else it is the plain step
            steps["merged"] = lambda: merged_step(before, gradients, pairs, radius)
        for name, step in steps.items():
            try:
                told[name] = None
                if move(trained, step()):
                    told[name] = -here + sum(
                        float(torch.nn.functional.cross_entropy(logits.float(), wanted, reduction="sum")) / n
                        for logits, wanted, _ in _answers(subject, rows, tokens, places)
                    )
            finally:
                for weight, old in zip(trained, before, strict=True):
                    weight.copy_(old)
    return told


def _answers(
    subject: Subject, rows: TokenLists, tokens: IntArray, chosen: IntArray | None = None
) -> Iterator[tuple[torch.Tensor, torch.Tensor, IntArray]]:
    """(Logits of the positions that predict answer tokens, those tokens, their rows), by batch, long rows first."""
    collate = PadRight()
    chosen = np.arange(len(rows)) if chosen is None else chosen
    for batch_places in long_rows_first(tokens[chosen], BATCH_TOKENS):
        places = chosen[batch_places]
        batch = subject.place(collate(rows.__getitems__(places.tolist())))
        labels = batch.pop("labels")[:, 1:]
        wanted = labels != IGNORED
        logits = logits_of(subject.forward(**batch, use_cache=False))  # (n, L, V)
        logits = logits[:, -labels.shape[1] - 1 : -1]  # prompt learning puts places in front of a row's own
        yield logits[wanted], labels[wanted], places[wanted.nonzero()[:, 0].cpu().numpy()]
