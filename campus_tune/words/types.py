"""Words as code: the few types that all parts share. numpy only.

Row ids are positions in the *prepared* training set, `0..N-1`. Scores are one float64 per row, and **higher is
harder, always**. An order is a permutation of row ids, easy to hard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
RowArray: TypeAlias = NDArray[np.int32]  # row ids; 2**31 rows are more than one run trains
BoolArray: TypeAlias = NDArray[np.bool_]
Json: TypeAlias = dict[str, Any]


class RowSource(Protocol):
    """Rows by position: a `datasets.Dataset`, any map-style data set of mappings, or a list of them."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, row: int, /) -> Any:
        """One of them."""
        ...


class Tokenizer(Protocol):
    """What is asked of a tokenizer of transformers, or of a processor that has one."""

    def __call__(self, text: str, /, **how: Any) -> Any:
        """The tokens of a text, as `input_ids` and more."""
        ...

    @property
    def batch_decode(self) -> Callable[..., list[str]]:
        """The texts of some lists of token ids."""
        ...

    @property
    def apply_chat_template(self) -> Callable[..., Any]:
        """A chat as its template writes it."""
        ...


@dataclass(frozen=True)
class RowLosses:
    """What one forward says of some rows: the loss of the answer's tokens, added up in several ways.

    Args:
        nll_sum: nats, shape (n,).
        tokens: counted answer tokens, shape (n,).
        top1: how many of them were the model's most likely token, shape (n,).
        worst: loss of the answer's least sure token, nats, shape (n,); 0 without tokens.
        sureness: probabilities of the answer's tokens added up, in [0, tokens], shape (n,).
    """

    nll_sum: FloatArray
    tokens: IntArray
    top1: IntArray
    worst: FloatArray
    sureness: FloatArray

    @staticmethod
    def zeros(n: int) -> RowLosses:
        """Nothing known yet of `n` rows: no loss over no tokens."""
        return RowLosses(
            np.zeros(n), np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64), np.zeros(n), np.zeros(n)
        )

    def __len__(self) -> int:
        return len(self.tokens)

    def mean(self) -> float:
        """Token-weighted mean loss in nats: the logarithm of the perplexity of these rows together."""
        return float(self.nll_sum.sum() / self.tokens.sum())

    def accuracy(self) -> float:
        """Share of answer tokens that were the model's most likely token, teacher-forced."""
        return float(self.top1.sum() / self.tokens.sum())

    def per_row(self) -> FloatArray:
        """Mean loss per token of each row in nats, shape (n,)."""
        return np.asarray(self.nll_sum / self.tokens, dtype=np.float64)

    def take(self, idx: NDArray[Any]) -> RowLosses:
        """The same for some of the rows."""
        return RowLosses(**{name: values[idx] for name, values in vars(self).items()})

    def put(self, idx: NDArray[Any], losses: RowLosses) -> None:
        """Write what was measured of rows `idx` in place."""
        for name, values in vars(losses).items():
            getattr(self, name)[idx] = values


@dataclass(frozen=True)
class RowTexts:
    """The training rows as CPU metrics see them: token counts, and the response as text.

    Args:
        response_text: what is trained, decoded from the tokens that carry loss; length N.
        response_tokens: how many tokens carry loss, shape (N,).
        prompt_tokens: how many tokens do not, shape (N,).
        columns: further columns of the training set by name, each of length N (a user's own numbers, domains).
    """

    response_text: Sequence[str]
    response_tokens: IntArray
    prompt_tokens: IntArray
    columns: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        return len(self.response_tokens)

    def take(self, idx: IntArray) -> RowTexts:
        """Some of the rows, shape (n,); columns are read when they are asked for."""
        return RowTexts(
            [self.response_text[row] for row in idx.tolist()],
            self.response_tokens[idx],
            self.prompt_tokens[idx],
            {name: _Some(values, idx) for name, values in self.columns.items()},
        )


class _Some(Sequence[Any]):
    """Some values of a column."""

    def __init__(self, values: Sequence[Any], idx: IntArray) -> None:
        self._values, self._idx = values, idx

    def __len__(self) -> int:
        return len(self._idx)

    def __getitem__(self, place: int | slice) -> Any:
        chosen = self._idx[place]
        return [self._values[row] for row in chosen.tolist()] if isinstance(place, slice) else self._values[int(chosen)]
