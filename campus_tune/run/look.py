"""A look at what is trained, by somebody who asks for the train loader outside of the trainer's own loop.

    batch = next(iter(trainer.get_train_dataloader()))

Which rows come first is not known then: that hangs on scores that are measured when training begins. So the rows come
in the sequence of the data set, through the same collator, in batches of the same size, and one line says so. A look
changes nothing: no random state, no generator of the collator's, no worker, no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from campus_tune.data.prepared import items
from campus_tune.model.peers import Peers
from campus_tune.model.subject import same_random_states
from campus_tune.model.trained import own_collator
from campus_tune.words.console import say
from campus_tune.words.types import RowSource

SAID = (
    "these batches show what rows look like, in the sequence of the data set: which of them are trained first is "
    "decided in train(), and told there (`campus-tune simulate` shows a plan before)"
)


class SampleBatches:
    """Batches like those that will be trained, in another sequence.

    Args:
        dataset: prepared rows, unused columns removed.
        collator: of training; its own generators and counters stay as they are.
        n_batches: of an epoch, on this rank.
        batch_size: rows of a batch on this rank.
        place: puts a batch where the model is.
        peers: ranks, each of which sees rows of its own.
    """

    def __init__(
        self,
        dataset: RowSource,
        collator: Callable[[list[Any]], Any],
        *,
        n_batches: int,
        batch_size: int,
        place: Callable[[Any], Any],
        peers: Peers,
    ) -> None:
        self.dataset, self.batch_size, self.collate_fn = dataset, batch_size, collator
        self._n_batches, self._place, self._peers = n_batches, place, peers

    def __len__(self) -> int:
        return self._n_batches

    def __iter__(self) -> Iterator[Any]:
        if self._peers.leads:
            say(SAID)
        collator, n = own_collator(self.collate_fn), len(self.dataset)
        for number in range(len(self)):
            start = (number * self._peers.world + self._peers.rank) * self.batch_size
            end = min(start + self.batch_size, n)
            rows = range(start, end) if start < n else [number % n]  # a rank without a row sees an earlier one
            with same_random_states():
                batch = collator(items(self.dataset, list(rows)))
            yield self._place(batch)
