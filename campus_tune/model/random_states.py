"""The random states of this process, to go back to them."""

from __future__ import annotations

import ctypes
import random
from dataclasses import dataclass
from typing import Any, ClassVar

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
        return RandomStates(random.getstate(), _OfNumpy.now(), torch.get_rng_state(), cuda)

    def set(self) -> None:
        """Go back, or forth, to these."""
        random.setstate(self.of_python)
        np.random.set_state(self.of_numpy)  # noqa: NPY002  # theirs
        torch.set_rng_state(self.of_torch)
        if self.of_cuda:
            torch.cuda.set_rng_state_all(self.of_cuda)


class _OfNumpy:
    """The state of numpy's own generator, made anew only where something was drawn since it was made last.

    numpy copies the generator's 624 numbers one by one, fifty times as slow as it is to look whether they are the same.
    A normal deviate that is kept for the next call is in none of them; it is made by drawing, so where the last state
    kept none, there is none as long as the numbers are the same.
    """

    WORDS = 625  # of the Mersenne Twister: its numbers and the place among them
    _seen: ClassVar[bytes] = b""  # the words from which `_state` was made; empty where they say too little
    _state: ClassVar[Any] = None

    @classmethod
    def now(cls) -> Any:
        """As `np.random.get_state()` gives it."""
        generator: Any = np.random.get_bit_generator()
        if not isinstance(generator, np.random.MT19937):
            return np.random.get_state()  # noqa: NPY002  # theirs
        seen = ctypes.string_at(generator.ctypes.state_address, 4 * cls.WORDS)
        if seen != cls._seen:
            state: Any = np.random.get_state()  # noqa: NPY002  # theirs
            words = np.frombuffer(seen, dtype=np.uint32)
            tells = np.array_equal(words[:-1], state[1]) and words[-1] == state[2] and not state[3]
            cls._seen, cls._state = seen if tells else b"", state
        return cls._state
