"""What the libraries tell each other through us, and what they tell their own developers: no business of a user's.

`campus-tune` makes the trainer, so it is our call in which TRL sets its own default by a name that transformers will
drop, and in which peft asks for it. A user can do nothing about either, nor about any other name that one library will
take from another: warnings of what is deprecated are left out, and a few lines of a log, each by its own words, with
the reason here. `python -W default -m campus_tune` shows the former. Whatever else a library warns of concerns whoever
trains and is shown: rows cut, a template that masks the end of a turn, weights that a checkpoint lacks, a checkpoint of
another version. In a script of the user's own nothing is left out at all.
"""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from campus_tune.words import progress
from campus_tune.words.console import WARNING, say

THEIRS = (
    r"`gradient_checkpointing(_kwargs)?` is deprecated",  # TRL's default, and its documented name
    r"`is_gradient_checkpointing` is deprecated",  # peft asks a model
)
OF_DEVELOPERS = (FutureWarning, DeprecationWarning, PendingDeprecationWarning)
NO_MATTER = (
    r"'pin_memory' argument is set as true but no accelerator is found",  # torch's, of a training on a processor
)
LOGGED = {  # logger → beginnings of lines
    "transformers.trainer_utils": (
        r"mtime may not be reliable",  # it then goes by the numbers of the checkpoints, as we do
        r"The tokenizer has new PAD/BOS/EOS tokens",  # TRL's own doing, and right
    ),
    "transformers.trainer": (
        r"There were missing keys in the checkpoint model loaded: \['lm_head\.weight'\]",  # tied: it is the embedding's
    ),
    "transformers.tokenization_utils_base": (
        r"Token indices sequence length is longer",  # before `max_length` has cut it; `check` says what is cut
    ),
    "transformers.configuration_utils": (r"`torch_dtype` is deprecated",),
    "transformers.modeling_utils": (r"`torch_dtype` is deprecated",),
    "transformers.modeling_layers": (r"Caching is incompatible with gradient checkpointing",),  # nothing is cached
    "transformers.utils.generic": (r"`use_cache=True` is incompatible with gradient checkpointing",),
    "accelerate.commands.launch": (r"The following values were not passed",),  # we pass what is asked for
    "datasets.arrow_dataset": (r"num_proc must be <=", r"Setting TOKENIZERS_PARALLELISM"),  # and it does
}


class LeftOut(logging.Filter):
    """Lines of a log that begin in a way are not written, but noted that there were some.

    Args:
        words: patterns of beginnings.
    """

    def __init__(self, words: tuple[str, ...]) -> None:
        super().__init__()
        self.words, self.met = words, False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is written."""
        met = any(re.match(one, record.getMessage()) for one in self.words)
        self.met = self.met or met
        return not met


def hush() -> None:
    """Leave them out from here on: for a process that is ours."""
    for kind in () if sys.warnoptions else OF_DEVELOPERS:
        warnings.simplefilter("ignore", kind)
    for words in THEIRS:
        warnings.filterwarnings("ignore", words, FutureWarning)
    for words in NO_MATTER:
        warnings.filterwarnings("ignore", words, UserWarning)
    for name, patterns in LOGGED.items():
        logger = logging.getLogger(name)
        if not any(isinstance(one, LeftOut) for one in logger.filters):
            logger.addFilter(LeftOut(patterns))


@contextmanager
def left_out(name: str, *words: str) -> Iterator[LeftOut]:
    """Lines of one log are left out meanwhile, for what they say is said otherwise, and once.

    Args:
        name: of the logger.
        words: patterns of beginnings.
    """
    found = LeftOut(words)
    logger = logging.getLogger(name)
    logger.addFilter(found)
    try:
        yield found
    finally:
        logger.removeFilter(found)


@contextmanager
def hushed() -> Iterator[None]:
    """Leave them out meanwhile; in a terminal others are told as ours are, above the bars."""
    before = {name: list(logging.getLogger(name).filters) for name in LOGGED}
    with warnings.catch_warnings():
        hush()
        if progress.in_terminal(sys.stdout) and progress.in_terminal(sys.stderr):
            warnings.showwarning = _told
        try:
            yield
        finally:
            for name, filters in before.items():
                logging.getLogger(name).filters[:] = filters


def _told(message: Warning | str, category: type[Warning], filename: str, *_: object, **__: object) -> None:
    del filename
    say(f"{WARNING}{' '.join(str(message).split())} ({category.__name__})")
