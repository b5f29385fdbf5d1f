"""What the libraries tell each other through us: old names by which one of them asks another.

`campus-tune` makes the trainer, so it is our call in which TRL sets its own default by a name that transformers will
drop, and in which peft asks for it. A user can do nothing about either. Each is left out by its own words; whatever
else a library warns of is shown, and in a script of the user's own nothing is left out at all.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

THEIRS = (
    r"`gradient_checkpointing(_kwargs)?` is deprecated",  # TRL's default, and its documented name
    r"`is_gradient_checkpointing` is deprecated",  # peft asks a model
)


def hush() -> None:
    """Leave them out from here on: for a process that is ours."""
    for words in THEIRS:
        warnings.filterwarnings("ignore", words, FutureWarning)


@contextmanager
def hushed() -> Iterator[None]:
    """Leave them out meanwhile."""
    with warnings.catch_warnings():
        hush()
        yield
