"""The random states of this process, to go back to them."""

from __future__ import annotations

import ctypes
import random
import sys
from collections.abc import Callable
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
        return RandomStates(_PYTHON.now(), _NUMPY.now(), torch.get_rng_state(), cuda)

    def set(self) -> None:
        """Go back, or forth, to these."""
        _NUMPY.forget()
        random.setstate(self.of_python)
        np.random.set_state(self.of_numpy)  # noqa: NPY002  # theirs
        torch.set_rng_state(self.of_torch)
        if self.of_cuda:
            torch.cuda.set_rng_state_all(self.of_cuda)


class _Twister:
    """The state of a Mersenne Twister, made anew only where something was drawn since it was made last.

    Python and numpy make its 624 numbers one by one, which takes twenty times as long as to look in its memory whether
    they are the same. A normal deviate that is kept for the next call is in none of them. Of Python's it is known;
    numpy's is made by drawing, so where the last state kept none, there is none while the numbers are the same (but for
    somebody who seeds numpy between two steps, and draws one normal deviate more from it than the last time). Where a
    generator keeps its numbers is looked up by its state; where it is not found, the state is made each time.

    Args:
        make: gives (numbers, place among them, whether a deviate is kept, the whole state).
        address: of the generator's memory; None for another kind of generator.
    """

    WORDS = 625  # its numbers and the place among them

    def __init__(self, make: Callable[[], tuple[Any, int, bool, Any]], address: Callable[[], int | None]) -> None:
        self._make, self._address = make, address
        self._seen, self._state = b"", None  # the memory that the state was made of; empty where it says too little

    def now(self) -> Any:
        """The present one."""
        address = self._address()
        seen = b"" if address is None else ctypes.string_at(address, 4 * self.WORDS)
        if not seen or seen != self._seen:
            numbers, place, keeps, self._state = self._make()
            words = np.frombuffer(seen, dtype=np.uint32)
            both = [*numbers, place], [place, *numbers]  # numpy and Python
            self._seen = seen if not keeps and any(np.array_equal(words, one) for one in both) else b""
        return self._state

    def forget(self) -> None:
        """The next state is made anew: somebody has set one, which may keep a deviate beside the same numbers."""
        self._seen = b""


def _of_python() -> tuple[Any, int, bool, Any]:
    state = random.getstate()
    return state[1][:-1], state[1][-1], state[2] is not None, state


def _of_numpy() -> tuple[Any, int, bool, Any]:
    if _numpys_address() is None:
        return (), 0, True, np.random.get_state(legacy=False)  # noqa: NPY002  # theirs
    state: Any = np.random.get_state()  # noqa: NPY002  # theirs
    return state[1], state[2], bool(state[3]), state


def _numpys_address() -> int | None:
    generator: Any = np.random.get_bit_generator()  # type: ignore[attr-defined]  # numpy's stub hides it
    return int(generator.ctypes.state_address) if isinstance(generator, np.random.MT19937) else None


def _pythons_address() -> int | None:
    """Behind the head of the object that Python's functions draw from."""
    generator: Any = getattr(random, "_inst", None)
    known = sys.implementation.name == "cpython" and type(generator) is random.Random
    return id(generator) + object.__basicsize__ if known and vars(generator)["gauss_next"] is None else None


_PYTHON, _NUMPY = _Twister(_of_python, _pythons_address), _Twister(_of_numpy, _numpys_address)
