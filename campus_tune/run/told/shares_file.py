"""The shares that a run drew by on average, as a block for the recipe of a second run: `curriculum/shares.yaml`.

It is what a run with `reweight: doremi` is made for (Xie et al. 2023): a small model finds the shares, another one is
trained in them.

>>> import numpy as np
>>> print(shares_block(["code", "math"], np.array([0.25, 0.75])), end="")
domains:
  shares:
    code: 0.25
    math: 0.75
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import yaml

from campus_tune.method.reweight import Doremi
from campus_tune.method.reweighted import mean_shares
from campus_tune.method.steering import Steering
from campus_tune.words.files import atomic_write
from campus_tune.words.types import FloatArray, Json

FILE = "shares.yaml"
_DIGITS = 6  # of a share
_HEAD = """\
# The shares of this run on average, over its steps. A second run draws by them with this block under `campus:`.
"""


def leave_shares(home: Path, steering: Steering | None, base_at: Callable[[int], FloatArray]) -> None:
    """Write the average of the shares, where the run had `reweight: doremi`; nothing else does it for any other.

    Args:
        home: folder of the ledger.
        steering: of the run, with its whole record.
        base_at: step → what is drawn from there on without it, shape (S,).

    Raises:
        StorageError: the file cannot be written.
    """
    if steering is not None and isinstance(steering.reweight, Doremi):
        block = shares_block(steering.names, mean_shares(steering, base_at), over_cells=bool(steering.domain_of))
        atomic_write(home / FILE, _HEAD + block)


def shares_block(names: Sequence[str], shares: FloatArray, *, over_cells: bool = False) -> str:
    """Shares as a `domains` block in YAML.

    Args:
        names: of the strata.
        shares: of each, shape (S,), sum 1; they are rounded so that they still sum to 1.
        over_cells: the strata are cells.
    """
    rounded = np.round(shares, _DIGITS)
    rounded[np.argmax(rounded)] += 1 - rounded.sum()
    written = {name: round(share, _DIGITS) for name, share in zip(names, rounded.tolist(), strict=True)}
    block: Json = {"shares": written, **({"over": "cells"} if over_cells else {})}
    return yaml.safe_dump({"domains": block}, allow_unicode=True, sort_keys=False, width=1000)
