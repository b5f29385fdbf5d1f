"""Mean loss of gold answers on held-out rows, per domain: what moves where accuracies cannot.

A model of 135 M parameters solves no problem of GSM8K before a fine-tuning and none after it; the loss of the right
answers falls all the same, on every row, so that some hundred rows show it. Rows are those of a training file
(`messages`, or `prompt` and `completion`), never trained on, with a domain each.

    loss of a domain = Σ nats of its answer tokens / Σ answer tokens                  lower is better

The answer tokens are those that completion-only training counts: every assistant turn with the token that ends it. (A
plain prompt whose last token runs into the answer, as after a trailing space, may count one token more or less.)
Tokenised and measured as other models are for scores (`conversations.retell`, `measure.LossMeter`); a row that is
too long keeps its beginning, and one that has no answer token left is refused. Losses per token of two tokenizers
are on two scales: the tokenizer is part of the settings, so `compare` refuses them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from campus_tune.data.held_out import SHOWN, HeldOut
from campus_tune.data.token_hashes import IGNORED
from campus_tune.data.tokenizers import tokenizer_fingerprint
from campus_tune.evaluate.models import dtype_of
from campus_tune.evaluate.paired import paired
from campus_tune.evaluate.results import TaskResult
from campus_tune.model.answer_alone import Labelled, PadRight, TokenLists
from campus_tune.model.conversations import retell
from campus_tune.model.measure import LossMeter
from campus_tune.model.peers import Peers
from campus_tune.model.reference import Reference, fits_memory
from campus_tune.words.errors import DataError
from campus_tune.words.types import IntArray, Json

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

TASK = "answer_loss"


def measure_answer_loss(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rows: HeldOut,
    *,
    peers: Peers | None = None,
    max_length: int | None = None,
    say: Callable[[str], object] = print,
) -> TaskResult:
    """Measure the loss of the gold answers. Nothing of the model changes, nor any random state.

    Args:
        model: a causal language model, with or without an adapter, on its device.
        tokenizer: its own.
        rows: held out.
        peers: the processes that share the work; all of them must call this, and all get the whole result.
        max_length: tokens that are kept of each row; None keeps what the model can read.
        say: told what is unusual.

    Raises:
        DataError: rows of which no answer token is left, or that the chat template refuses.
        MetricError: a loss is NaN or infinite.
        RecipeError: the rows do not fit into memory.
    """
    began = time.perf_counter()
    reference = _reference(model, tokenizer)
    limit = reference.limit(max_length)
    told = Told.of(rows, tokenizer, limit)
    if told.cut:
        say(
            f"warning: {told.cut} of {len(rows)} rows are cut at {limit} tokens: of their answers, what is left counts."
        )
    meter = LossMeter(reference.subject, told, PadRight(), told.tokens, peers=peers or Peers(), what=TASK)
    with fits_memory(TASK, reference.name):
        losses = meter.losses(np.arange(len(rows)))
    settings = answer_loss_settings(model, tokenizer, rows, max_length=max_length)
    per_row = losses.per_row()
    documents: dict[str, dict[str, dict[str, float]]] = {domain: {} for domain in sorted(set(rows.domains))}
    of_rows = zip(rows.domains, rows.numbers, per_row.tolist(), losses.tokens.tolist(), strict=True)
    for domain, number, loss, tokens in of_rows:
        documents[domain][number] = {TASK: loss, "tokens": float(tokens)}
    # that of a ratio, both of whose sides vary from row to row
    stderr = paired(np.zeros(len(per_row)), per_row, losses.tokens).stderr
    metrics: dict[str, Json] = {TASK: {"value": losses.mean(), "stderr": stderr, "n": len(losses)}}
    return TaskResult(settings, metrics, documents, time.perf_counter() - began)


def answer_loss_settings(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, rows: HeldOut, *, max_length: int | None = None
) -> Json:
    """What must be equal for two results to be comparable; the arguments are those of `measure_answer_loss`."""
    return {
        "data": {"rows": len(rows), "digest": rows.digest()},
        "domain_column": rows.domain_column,
        "max_length": _reference(model, tokenizer).limit(max_length),
        "tokenizer_and_template": tokenizer_fingerprint(tokenizer),
        "dtype": dtype_of(model),
    }


def _reference(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> Reference:
    """The model as other models than the one in training are measured."""
    device = next(model.parameters()).device
    return Reference(TASK, str(getattr(model, "name_or_path", "")), model, tokenizer, device)


class Told(TokenLists):
    """Tokenised rows.

    Args:
        rows: whole.
        limit: tokens that are kept of each; None keeps all.
    """

    def __init__(self, rows: Sequence[Labelled], limit: int | None) -> None:
        super().__init__(len(rows), limit)
        self._rows = rows
        kept = [row.labels[:limit] for row in rows]
        self.tokens: IntArray = np.array([len(labels) for labels in kept], dtype=np.int64)
        self.cut = sum(len(row.ids) > len(labels) for row, labels in zip(rows, kept, strict=True))

    @classmethod
    def of(cls, rows: HeldOut, tokenizer: PreTrainedTokenizerBase, limit: int | None) -> Told:
        """Held-out rows as a tokenizer reads them.

        Raises:
            DataError: rows without an answer to be measured, or that the chat template refuses.
        """
        labelled = [retell(conversation, tokenizer) for conversation in rows.conversations]
        silent = [i for i, row in enumerate(labelled) if all(label == IGNORED for label in row.labels[1:limit])]
        if silent:
            first = ", ".join(f"{rows.domains[i]} {rows.numbers[i]}" for i in silent[:SHOWN])
            raise DataError(
                f"every test row must have an answer token among the {limit or 'tokens'} that are read, got "
                f"{len(silent)} rows without (first: {first}): cut off, or lost by the chat template. Raise "
                "max_length, or remove them."
            )
        return cls(labelled, limit)

    def whole(self, places: Sequence[int]) -> list[Labelled]:
        """These rows, whole."""
        return [self._rows[place] for place in places]
