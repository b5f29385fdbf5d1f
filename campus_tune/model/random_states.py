"""The random states of this process, to go back to them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class RandomStates:
    """Those that a checkpoint holds: of Python, numpy, torch, and each GPU. Asking for them waits for no device."""

    of_python: Any
    of_numpy: Any
    of_torch: torch.Tensor
    of_cuda: list[torch.Tensor]

    @staticmethod
    def now() -> RandomStates:
        """The present ones."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return RandomStates(random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda)  # noqa: NPY002  # theirs

    def set(self) -> None:
        """Go back, or forth, to these."""
        random.setstate(self.of_python)
        np.random.set_state(self.of_numpy)  # noqa: NPY002  # theirs
        torch.set_rng_state(self.of_torch)
        if self.of_cuda:
            torch.cuda.set_rng_state_all(self.of_cuda)
