"""Numbers of the device on their way to the host: they are asked for when they have arrived, so nothing waits."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray


class OnItsWay:
    """Tensors that are copied to the host while the device goes on working.

    Args:
        tensors: all on one device, or numpy's, which are there.
    """

    def __init__(self, *tensors: Any) -> None:
        self._event: Any = None
        self._arrays = tensors
        if any(isinstance(tensor, torch.Tensor) and tensor.device.type == "cuda" for tensor in tensors):
            self._arrays = tuple(
                torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
                for tensor in tensors
            )
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            self._event.record()

    def arrays(self) -> list[NDArray[Any]]:
        """They, as arrays; waits for those that have not arrived."""
        if self._event is not None:
            self._event.synchronize()
            self._event = None
        return [array.cpu().numpy() if isinstance(array, torch.Tensor) else array for array in self._arrays]
