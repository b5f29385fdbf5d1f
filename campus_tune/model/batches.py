"""Which rows go through a model together: long ones first, cut so that padded tokens stay under a bound.

Rows of like length side by side make padding cheap, and what does not fit into memory shows with the first batch, not
after an hour.
"""

from __future__ import annotations

import numpy as np
import torch

from campus_tune.words.types import IntArray

BATCH_TOKENS = 16384  # tokens of one scoring forward on an accelerator
BATCH_TOKENS_CPU = 512  # on a CPU larger batches are slower: 1024 by 7 %, 4096 by 31 % (SmolLM2-135M)


def token_bound(device: torch.device) -> int:
    """Tokens, padding included, of one forward without gradients."""
    return BATCH_TOKENS_CPU if device.type == "cpu" else BATCH_TOKENS


def long_rows_first(tokens: IntArray, bound: int) -> list[IntArray]:
    """Batches of places in `tokens`, each row in one of them.

    Args:
        tokens: of every row, shape (n,).
        bound: padded tokens of a batch; a row that is longer stands alone.

    >>> [batch.tolist() for batch in long_rows_first(np.array([2, 9, 3, 3, 1]), 6)]
    [[1], [2, 3], [0, 4]]
    """
    longest_first = np.argsort(-tokens, kind="stable")
    batches, start = [], 0
    while start < len(tokens):
        size = max(1, bound // max(1, int(tokens[longest_first[start]])))
        batches.append(longest_first[start : start + size])
        start += size
    return batches
