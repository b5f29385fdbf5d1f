"""Arrays in JSON: packed bits or plain bytes, deflated, base64. For the state that travels in a checkpoint.

A list of 100 000 numbers costs a megabyte of indented JSON; packed, the mask of trained rows costs 17 kB.

>>> unpack(pack(np.array([True, False, True]))).tolist()
[True, False, True]
"""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.words.types import Json, RowLosses

LARGE = 1 << 20  # bytes from which an array is deflated in a tenth of the time, to a third more


def pack(array: NDArray[Any]) -> Json:
    """A one-dimensional array as a JSON object: `{"dtype", "n", "data"}`."""
    raw = np.packbits(array) if array.dtype == np.bool_ else array
    level = 6 if raw.nbytes < LARGE else 1
    data = base64.b64encode(zlib.compress(raw.tobytes(), level)).decode("ascii")
    return {"dtype": array.dtype.str, "n": len(array), "data": data}


def unpack(packed: Json, kind: str | None = None, n: int | None = None) -> NDArray[Any]:
    """The array that `pack` was given, writable.

    Args:
        packed: of a state, which somebody may have changed since.
        kind: numpy's letter of its type, `b`, `i`, `u` or `f`, where it is known.
        n: its length, where it is known.

    Raises:
        ValueError: `pack` has made none like that.
    """
    dtype, told = np.dtype(packed["dtype"]), packed["n"]
    bits = dtype == np.bool_
    if dtype.kind not in (kind or "biuf") or (n is not None and told != n):
        raise ValueError(f"a packed array must be of kind {kind or 'biuf'} and length {n}, got {dtype} and {told}")
    try:
        raw = zlib.decompress(base64.b64decode(packed["data"], validate=True))
    except zlib.error as error:
        raise ValueError(f"a packed array must be deflated, got {error}") from error
    if len(raw) != ((told + 7) // 8 if bits else told * dtype.itemsize):
        raise ValueError(f"a packed array of {told} must have as many, got {len(raw)} bytes of {dtype}")
    if bits:
        return np.unpackbits(np.frombuffer(raw, dtype=np.uint8), count=told).astype(np.bool_)
    return np.frombuffer(raw, dtype=dtype).copy()


def pack_losses(losses: RowLosses) -> Json:
    """The losses of some rows as a JSON object."""
    return {name: pack(values) for name, values in vars(losses).items()}


def unpack_losses(packed: Json, n: int) -> RowLosses:
    """The losses of `n` rows that `pack_losses` was given.

    Raises:
        ValueError: it has made none like that.
    """
    return RowLosses(
        **{name: unpack(packed[name], like.dtype.kind, n) for name, like in vars(RowLosses.zeros(0)).items()}
    )
