"""What a list of tokens is known by: XXH3 of its bytes, as the supervised audit knows rows (`data.token_hashes`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray


def token_key(ids: Sequence[int] | NDArray[Any]) -> int:
    """64 bits that change with any token and any change of their sequence."""
    return xxhash.xxh3_64_intdigest(np.ascontiguousarray(ids, dtype=np.int64).tobytes())
