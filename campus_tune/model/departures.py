"""Where an answer departs from its model: its least sure token, and what the model would rather have said there.

One forward with the answer before that place given, as in training: no text is generated. The place is the token with
the greatest loss, `RowLosses.worst`.

    The capital of Peru is | Quito    said: " Quito", rather: " Lima" (0.83)

What a model does after its head (a soft cap, a scale) is not seen here. Where that makes the loss at the place another
one than the model's own, nothing is said of the row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from campus_tune.data.prepared import answer_masks, items
from campus_tune.model.measure import SAME, TILE, LossMeter
from campus_tune.model.row_sums import places_of, token_losses
from campus_tune.words.types import IntArray, RowSource

WIDTH = 5  # numbers that the forward gives of each row
BEFORE = 12  # tokens of the answer before the place, that are shown


class Departure(NamedTuple):
    """Where the answer of one row departs.

    Args:
        place: of the least sure token among the tokens of the answer, from 0.
        said: the token there.
        rather: the model's most likely token there; it may be the same.
        probability: that the model gives it, in (0, 1].
    """

    place: int
    said: int
    rather: int
    probability: float


def departures(meter: LossMeter, rows: IntArray) -> list[Departure | None]:
    """Where the answers of some rows depart; all ranks call it with the same rows.

    Args:
        meter: measures the rows of the training set.
        rows: positions in it, shape (n,).

    Returns:
        One for each of them; None where the head alone does not say it.
    """
    head: Any = meter.subject().head

    def look(hidden: torch.Tensor, batch: dict[str, Any], _: IntArray) -> torch.Tensor:
        places, mask = places_of(batch)
        wanted, answers = batch["labels"][:, 1:][mask], hidden[:, :-1][mask]  # (k,), (k, d)
        parts = []
        for tile, tokens in zip(torch.split(answers, TILE), torch.split(wanted, TILE), strict=True):
            logits = head.forward(tile).float()  # not a call: the measurement's own hook is on it
            top, best = logits.max(-1)
            nll = token_losses(logits, tokens)[0]
            parts.append(torch.stack([tokens.float(), best.float(), torch.exp(top - logits.logsumexp(-1)), nll], 1))
        of_tokens = torch.cat(parts)  # (k, 4)
        lines = torch.zeros(places.n_rows, WIDTH, device=of_tokens.device)
        for row in range(places.n_rows):
            mine = of_tokens[places.row == row]
            if len(mine):
                worst = mine[:, 3].argmax()
                lines[row] = torch.cat([worst.float()[None], mine[worst]])
        return lines

    measured = meter.measure(rows, reader=look, width=WIDTH)
    found: list[Departure | None] = []
    for (place, said, rather, probability, nll), greatest in zip(measured.read, measured.losses.worst, strict=True):
        same = math.isclose(nll, greatest, rel_tol=SAME, abs_tol=SAME)
        found.append(Departure(int(place), int(said), int(rather), float(probability)) if same else None)
    return found


def words_at(departure: Departure, row: int, trained: RowSource, tokenizer: Any) -> dict[str, str | float]:
    """A departure in words: `said`, `rather` with its probability, and the answer's last words `before`; {} unknown.

    Args:
        departure: of the row.
        row: its position.
        trained: the rows as the collator makes them (`model.trained.as_trained`).
        tokenizer: that decodes.
    """
    [picked] = items(trained, [row])
    chunk: dict[str, Sequence[Any]] = {str(name): [values] for name, values in picked.items()}
    answer = np.asarray(chunk.get("labels", chunk["input_ids"])[0])[answer_masks(chunk)[0]]
    if departure.place >= len(answer) or answer[departure.place] != departure.said:
        return {}

    def words(tokens: Iterable[int]) -> str:
        return str(tokenizer.decode([int(token) for token in tokens]))

    return {
        "said": words([departure.said]),
        "rather": words([departure.rather]),
        "rather_probability": round(departure.probability, 4),
        "before": words(answer[max(0, departure.place - BEFORE) : departure.place].tolist()),
    }
