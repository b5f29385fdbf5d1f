"""Whether the planned weights were multiplied: what the gradient showed of each row, against the plan on the host.

Of every micro batch, rows by what the model was given and not by their place:

    once       a gradient came to its losses, once: a forward without a backward trains nothing
    incoming   it is the mean loss of the step, −world/N at each token (times its probability under `dft`; at logits
               ‖g‖₁ = 2·(1 − p)/N): nobody else normalises or weighs
    outgoing   token by token it is that, times the weight that the device had
    planned    the mean over a row's tokens is what the plan and the formulas say, computed anew in numpy from the row's
               loss; of the first micro batch of each stage every single token is, where tokens of a row differ

Not seen are gradients that are written by hand below the outputs of the model, but for those that a callback changes
between the backward pass and the optimizer's step (`Weighing.before_update`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from campus_tune.method.weighting import Live
from campus_tune.run.stream.on_its_way import OnItsWay
from campus_tune.run.stream.step_weights import RowNumbers, StepWeights
from campus_tune.run.stream.tie import Forward, Match
from campus_tune.run.stream.weighed import LEAST, NOTED
from campus_tune.words.errors import AuditError
from campus_tune.words.types import FloatArray, IntArray
from campus_tune.words.wording import listed

CLOSE, ROUGH = 1e-3, 8e-3  # relative: of gradients in single and in half precision


class Weights(NamedTuple):
    """What some rows got, each shape (n,).

    Args:
        multiplier: of the row's loss, the mean over its tokens, as the gradient showed it.
        parts: mean over its tokens of the tokens' own factors; None where none has one.
    """

    multiplier: FloatArray
    parts: FloatArray | None


class Measured:
    """What the forwards of one step have shown, on its way to the host.

    Args:
        weights: of the step.
        numbers: of its rows.
        forwards: in their sequence.
    """

    def __init__(self, weights: StepWeights, numbers: RowNumbers, forwards: Sequence[Forward]) -> None:
        self._weights, self._numbers = weights, numbers
        self._weighed = [forward.weighed for forward in forwards]
        seen = [one for one in self._weighed if one is not None]
        noted = [one.noted for one in seen if one.noted is not None]
        tokens = [one.tokens for one in seen if one.tokens is not None]
        self._noted = OnItsWay(*([torch.cat(noted, dim=1)] if noted else []))
        self._tokens = OnItsWay(*tokens)

    def compare(self, tied: Sequence[Match], total: float | None) -> list[Weights]:
        """Compare it with the plan.

        Args:
            tied: the step's micro batches.
            total: answer tokens that the step's loss is a mean over; None where that is not known.

        Returns:
            What the rows of each own micro batch got, in its sequence.

        Raises:
            AuditError: other weights than planned.
        """
        rows_noted, tokens = self._arrived()
        own = [match for match in tied if match.rows[0] >= 0]
        return [self._one(match, rows_noted[match.forward], tokens[match.forward], total) for match in own]

    def answer_tokens(self, tied: Sequence[Match]) -> float:
        """Those that the forwards of a step counted, on this rank."""
        rows_noted, _ = self._arrived()
        counts = [rows_noted[match.forward] for match in tied if match.rows[0] >= 0]
        return sum(float(noted["tokens"].sum()) for noted in counts if noted is not None)

    def _arrived(self) -> tuple[list[dict[str, NDArray[np.float32]] | None], list[NDArray[np.float32] | None]]:
        """(`NOTED`, every token) of each forward, where it has any."""
        arrays, tokens = self._noted.arrays(), iter(self._tokens.arrays())
        begin = 0
        rows_noted: list[dict[str, NDArray[np.float32]] | None] = []
        of_tokens: list[NDArray[np.float32] | None] = []
        for one in self._weighed:
            if one is None or one.noted is None:
                rows_noted.append(None)
                of_tokens.append(None)
                continue
            end = begin + one.noted.shape[1]
            rows_noted.append(dict(zip(NOTED, arrays[0][:, begin:end], strict=True)))
            of_tokens.append(None if one.tokens is None else next(tokens))
            begin = end
        return rows_noted, of_tokens

    def _one(
        self, match: Match, noted: dict[str, Any] | None, tokens: NDArray[np.float32] | None, total: float | None
    ) -> Weights:
        """One micro batch."""
        weighed = self._weighed[match.forward]
        fired = 0 if weighed is None else weighed.fired
        if weighed is None or noted is None or fired != 1:
            raise AuditError(
                f"the gradient of the rows {listed(match.rows.tolist(), 8)} must meet their weights once, got {fired} "
                "times. Remove what skips or repeats the backward pass, or trains on something else than what the "
                "model's forward gives (training_step, accelerator.backward, a hook)."
            )
        close = ROUGH if weighed.rough else CLOSE
        noted = {name: values[match.places] for name, values in noted.items()}
        _compare_incoming(match.rows, noted, total, close)
        lines = self._numbers.places_of(match.rows)
        row_factors = self._row_factors(match, noted, lines)
        wanted = self._numbers.planned[lines] * row_factors
        if self._numbers.by_token is None:
            wanted = wanted * noted["parts"]
        elif self._weights.live.tokens:  # how one goes with the other is seen token by token
            wanted = row_factors * noted["spread"]
        self._compare_rows(match.rows, noted, wanted, close)
        if tokens is not None:
            self._compare_tokens(match, tokens, row_factors, close)
        parts = noted["parts"].astype(np.float64) if self._weights.live.tokens else None
        return Weights(noted["got"].astype(np.float64), parts)

    def _row_factors(self, match: Match, noted: dict[str, Any], lines: IntArray) -> NDArray[np.float32]:
        """The live factors of a micro batch's rows, in its sequence, from their losses."""
        losses = noted["nll"] / np.maximum(noted["tokens"], 1)
        live, levels = self._weights.live, self._numbers.levels[:, lines]
        factors = np.asarray(live.of_rows(losses, levels, np), dtype=np.float32)
        dealt = live.dealt(len(factors), self._weights.step)
        if dealt is not None and live.rows:
            by_place = np.argsort(match.places, kind="stable")
            factors[by_place] = factors[by_place][dealt]
        return factors

    def _compare_rows(self, rows: IntArray, noted: dict[str, Any], wanted: NDArray[np.float32], close: float) -> None:
        off = np.abs(noted["got"] - wanted) / np.maximum(wanted, LEAST)
        wrong = ~(off <= close) & ~np.isnan(wanted)  # a loss that is no number is told of elsewhere
        if wrong.any():
            i = int(np.argmax(wrong))
            kind = "weight" if self._weights.live else "planned weight"
            raise AuditError(
                f"{kind} {wanted[i]:.2f} for row {rows[i]} but its loss was multiplied by {noted['got'][i]:.2f}"
                f"{_more(rows[wrong])}; something changes the gradient of the model's outputs. {_REMOVE}"
            )
        wrong = noted["worst"] > close
        if wrong.any():
            i = int(np.argmax(wrong))
            raise AuditError(
                f"the weights of single tokens of row {rows[i]} must be as computed, got a gradient that is off by "
                f"{noted['worst'][i]:.2g} of one{_more(rows[wrong])}. {_REMOVE}"
            )

    def _compare_tokens(
        self, match: Match, tokens: NDArray[np.float32], row_factors: NDArray[np.float32], close: float
    ) -> None:
        """Every token of a micro batch, from its loss."""
        losses, got = tokens[:, match.places]
        counted = ~np.isnan(got)
        by_place = np.argsort(match.places, kind="stable")
        parts = _token_factors(self._weights.live, self._weights.step, losses[by_place], counted[by_place])
        lines = self._numbers.places_of(match.rows)
        for i, place in enumerate(np.argsort(by_place, kind="stable").tolist()):
            n = int(counted[i].sum())
            planned = self._numbers.planned[lines[i]] if self._numbers.by_token is None else None
            if planned is None:
                assert self._numbers.by_token is not None
                planned = self._numbers.by_token[lines[i]][
                    np.minimum(np.arange(n), self._numbers.by_token.shape[1] - 1)
                ]
            wanted = planned * row_factors[i] * parts[place, counted[i]]
            off = np.abs(got[i, counted[i]] - wanted) / np.maximum(wanted, LEAST)
            wrong = ~(off <= close) & ~np.isnan(wanted)
            if wrong.any():
                token = int(np.argmax(wrong))
                raise AuditError(
                    f"weight {wanted[token]:.2f} for answer token {token} of row {match.rows[i]} but its loss was "
                    f"multiplied by {got[i, counted[i]][token]:.2f}. {_REMOVE}"
                )


_REMOVE = (
    "Remove the hook, callback or wrapper that sets gradients, or scales the outputs of the model, beside the recipe's "
    "`weights`."
)


def _more(rows: IntArray) -> str:
    return f" (and {len(rows) - 1} more rows of its micro batch)" if len(rows) > 1 else ""


def _token_factors(
    live: Live, step: int, losses: NDArray[np.float32], counted: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """The tokens' own factors, lines of rows by place, shape (n, w)."""
    factors = np.asarray(live.of_tokens(losses, np), dtype=np.float32)
    dealt = live.dealt(int(counted.sum()), step)
    if dealt is not None and live.tokens:
        factors[counted] = factors[counted][dealt]
    return factors


def _compare_incoming(rows: IntArray, noted: dict[str, Any], total: float | None, close: float) -> None:
    """The gradient before the weights."""
    for name in ("least", "most"):
        share = noted[name]
        told = np.isfinite(share)
        ratio = share * total if total is not None else share / max(float(noted["most"][told].max(initial=0)), 1e-30)
        wrong = told & ~(np.abs(ratio - 1.0) <= close)
        if wrong.any():
            i = int(np.argmax(wrong))
            of, times = (
                "others" if total is None else f"the mean loss over the step's {total:.0f} answer tokens",
                ratio[i],
            )
            raise AuditError(
                f"the gradient of row {rows[i]} must be that of {of} before its weight, got {times:.3g} times that"
                f"{_more(rows[wrong])}. Something scales losses, or weighs them already: a compute_loss of your own, a "
                "hook, label smoothing, a changed num_items_in_batch. Remove it; a weight of your own is "
                "`weights: {name: column}`."
            )
