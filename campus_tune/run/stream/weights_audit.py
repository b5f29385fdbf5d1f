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
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from campus_tune.run.stream.on_its_way import OnItsWay
from campus_tune.run.stream.step_weights import RowNumbers, StepWeights
from campus_tune.run.stream.tie import Forward, Match
from campus_tune.run.stream.weighed import LEAST, NOTED
from campus_tune.words.errors import AuditError
from campus_tune.words.types import BoolArray, FloatArray
from campus_tune.words.wording import listed

FloatArray32: TypeAlias = NDArray[np.float32]

CLOSE, ROUGH = 1e-3, 8e-3  # relative: of gradients in single and in half precision


_REMOVE = (
    "Remove the hook, callback or wrapper that sets gradients, or scales the outputs of the model, beside the recipe's "
    "`weights`."
)


class Weights(NamedTuple):
    """What some rows got, each shape (n,).

    Args:
        multiplier: of the row's loss, the mean over its tokens, as the gradient showed it.
        parts: mean over its tokens of the tokens' own factors; None where none has one.
    """

    multiplier: FloatArray
    parts: FloatArray | None

    @staticmethod
    def join(several: Sequence[Weights]) -> tuple[FloatArray | None, FloatArray | None]:
        """(Multipliers, parts) of several micro batches behind one another; None where there are none."""
        if not several:
            return None, None
        parts = [np.ones(len(one.multiplier)) if one.parts is None else one.parts for one in several]
        has_parts = any(one.parts is not None for one in several)
        return np.concatenate([one.multiplier for one in several]), np.concatenate(parts) if has_parts else None


class StepGradients:
    """What the forwards of one step have shown, on its way to the host.

    Args:
        weights: of the step.
        numbers: of its rows.
        forwards: in their sequence.
    """

    def __init__(self, weights: StepWeights, numbers: RowNumbers, forwards: Sequence[Forward]) -> None:
        self._weights, self._numbers, self.trial = weights, numbers, weights.trial
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
        arrived, found = self._arrived(), []
        for match in tied:
            if match.rows[0] < 0:
                continue
            weighed, (noted, tokens) = self._weighed[match.forward], arrived[match.forward]
            fired = 0 if weighed is None else weighed.fired
            if weighed is None or not noted or fired != 1:
                raise AuditError(
                    f"the gradient of the rows {listed(match.rows.tolist(), 8)} must meet their weights once, got "
                    f"{fired} times. Remove what skips or repeats the backward pass, or trains on something else than "
                    "what the model's forward gives (training_step, accelerator.backward, a hook)."
                )
            close = ROUGH if weighed.rough else CLOSE
            batch = BatchGradients(match, noted, self._weights, self._numbers, close)
            batch.compare_incoming(total)
            batch.compare_rows()
            if tokens is not None:
                batch.compare_tokens(*tokens[:, match.places])
            found.append(batch.got())
        return found

    def answer_tokens(self, tied: Sequence[Match]) -> float:
        """Those that the forwards of a step counted, on this rank."""
        arrived = self._arrived()
        own = [arrived[match.forward][0] for match in tied if match.rows[0] >= 0]
        return sum(float(noted["tokens"].sum()) for noted in own if noted)

    def _arrived(self) -> list[tuple[dict[str, FloatArray32], FloatArray32 | None]]:
        """(`NOTED` by name, every token) of each forward; {} and None where it has none."""
        arrays, tokens = self._noted.arrays(), iter(self._tokens.arrays())
        found: list[tuple[dict[str, FloatArray32], FloatArray32 | None]] = []
        begin = 0
        for one in self._weighed:
            if one is None or one.noted is None:
                found.append(({}, None))
                continue
            end = begin + one.noted.shape[1]
            noted = dict(zip(NOTED, arrays[0][:, begin:end], strict=True))
            found.append((noted, None if one.tokens is None else next(tokens)))
            begin = end
        return found


class BatchGradients:
    """What the gradient of one micro batch has shown, its rows in the sequence of the plan.

    Args:
        match: the micro batch.
        noted: `NOTED` of the forward's rows, by name.
        weights: of the step.
        numbers: of its rows.
        close: how close a factor must be, relative.
    """

    def __init__(
        self, match: Match, noted: dict[str, FloatArray32], weights: StepWeights, numbers: RowNumbers, close: float
    ) -> None:
        self.rows, self.live, self.step, self.close = match.rows, weights.live, weights.step, close
        self.noted = {name: values[match.places] for name, values in noted.items()}
        self.by_place = np.argsort(match.places, kind="stable")
        lines = numbers.places_of(match.rows)
        self.planned = numbers.planned[lines]
        self.by_token = None if numbers.by_token is None else numbers.by_token[lines]
        losses = self.noted["nll"] / np.maximum(self.noted["tokens"], 1)
        self.factors = np.asarray(self.live.of_rows(losses, numbers.levels[:, lines], np), dtype=np.float32)
        dealt = self.live.dealt(len(lines), self.step)
        if dealt is not None and self.live.rows:
            self.factors[self.by_place] = self.factors[self.by_place][dealt]

    def got(self) -> Weights:
        """What the rows got."""
        parts = self.noted["parts"].astype(np.float64) if self.live.tokens else None
        return Weights(self.noted["got"].astype(np.float64), parts)

    def compare_incoming(self, total: float | None) -> None:
        """The gradient before the weights.

        Args:
            total: answer tokens that the step's loss is a mean over; where it is not known, all tokens' are alike.

        Raises:
            AuditError: somebody else scales it.
        """
        shares = np.stack([self.noted["least"], self.noted["most"]])
        told = np.isfinite(shares)
        among, scale = "the mean of its micro batch", 1.0 / max(float(shares[told].max(initial=0.0)), 1e-30)
        if total is not None:
            among, scale = f"the mean loss over the step's {total:.0f} answer tokens", total
        wrong = told & ~(np.abs(shares * scale - 1.0) <= self.close)
        if wrong.any():
            which, i = (int(at[0]) for at in np.nonzero(wrong))
            raise AuditError(
                f"the gradient of row {self.rows[i]} must be that of {among} before its weight, got "
                f"{shares[which, i] * scale:.3g} times that{self.more(wrong.any(0))}. Something scales losses, or "
                "weighs them already: a compute_loss of your own, a hook, label smoothing, a changed "
                "num_items_in_batch. Remove it; a weight of your own is `weights: {name: column}`."
            )

    def compare_rows(self) -> None:
        """What each row was multiplied by, on average over its tokens.

        Raises:
            AuditError: by something else than planned.
        """
        noted, wanted = self.noted, self.planned * self.factors
        if self.by_token is None:
            wanted = wanted * noted["parts"]
        elif self.live.tokens:  # how one goes with the other is seen token by token
            wanted = self.factors * noted["spread"]
        wrong = far(noted["got"], wanted, self.close)
        if wrong.any():
            i = int(np.argmax(wrong))
            kind = "weight" if self.live else "planned weight"
            raise AuditError(
                f"{kind} {wanted[i]:.2f} for row {self.rows[i]} but its loss was multiplied by {noted['got'][i]:.2f}"
                f"{self.more(wrong)}; something changes the gradient of the model's outputs. {_REMOVE}"
            )
        wrong = noted["worst"] > self.close
        if wrong.any():
            i = int(np.argmax(wrong))
            raise AuditError(
                f"the weights of single tokens of row {self.rows[i]} must be as computed, got a gradient that is off "
                f"by {noted['worst'][i]:.2g} of one{self.more(wrong)}. {_REMOVE}"
            )

    def compare_tokens(self, losses: FloatArray32, got: FloatArray32) -> None:
        """What each token was multiplied by, from its loss.

        Args:
            losses: nats, by place, shape (n, w).
            got: multiplier; NaN where nothing is counted.

        Raises:
            AuditError: by something else than planned.
        """
        counted = ~np.isnan(got)
        parts = np.asarray(self.live.of_tokens(losses, np), dtype=np.float32)
        dealt = self.live.dealt(int(counted.sum()), self.step)
        if dealt is not None and self.live.tokens:
            in_batch = parts[self.by_place]
            in_batch[counted[self.by_place]] = in_batch[counted[self.by_place]][dealt]
            parts[self.by_place] = in_batch
        for i, row in enumerate(self.rows.tolist()):
            own = got[i, counted[i]]
            planned = self.planned[i] if self.by_token is None else self.by_token[i, : len(own)]
            wanted = planned * self.factors[i] * parts[i, counted[i]]
            wrong = far(own, wanted, self.close)
            if wrong.any():
                token = int(np.argmax(wrong))
                raise AuditError(
                    f"weight {wanted[token]:.2f} for answer token {token} of row {row} but its loss was multiplied by "
                    f"{own[token]:.2f}. {_REMOVE}"
                )

    def more(self, wrong: BoolArray) -> str:
        """How many rows beside the first are wrong, in words."""
        others = int(wrong.sum()) - 1
        return f" (and {others} more of its micro batch)" if others else ""


def far(got: FloatArray32, wanted: FloatArray32, close: float) -> BoolArray:
    """Which multipliers are not as they should be, shape (n,); of a loss that is no number it is said elsewhere."""
    return np.asarray(~(np.abs(got - wanted) <= close * np.maximum(wanted, LEAST)) & ~np.isnan(wanted))
