"""What goes through the model in training, padding counted, and how evenly the ranks of a run are loaded by it.

All ranks wait for the slowest one, so what the clock shows is alike everywhere. What tells a slow machine from a slow
activity is the work without the waiting, and how much of it was padding.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from campus_tune.model.peers import Peers
from campus_tune.run.activity import TRAINING, Activities
from campus_tune.run.stream.loader import CurriculumLoader
from campus_tune.run.stream.padding import Padding
from campus_tune.words.types import IntArray, Json, RowArray


class RankLoad:
    """The picture of one stage after the other, and of the whole run since its processes began.

    Args:
        peers: ranks; with one there is no picture, only the padding of all.
        activities: of this process.
        loader: which knows every rank's part of a step.
    """

    def __init__(self, peers: Peers, activities: Activities, loader: CurriculumLoader) -> None:
        self.peers, self.activities, self.loader = peers, activities, loader
        self._stage_tokens = self._no_tokens()
        self._tokens = self._no_tokens()
        self._seconds: list[dict[str, float]] = [{} for _ in range(peers.world)]
        self.padding = Padding(loader.micro, loader.cut, loader.multiple)

    def _no_tokens(self) -> IntArray:
        return np.zeros((2, self.peers.world), dtype=np.int64)

    def add_step(self, rows: RowArray) -> None:
        """The rows of an optimizer step that was trained."""
        tokens = self.loader.tokens_by_rank(rows)
        self.padding.add(tokens)
        self._stage_tokens += tokens

    def close_stage(self, forward_seconds: float) -> Json:
        """The stage's picture as the ledger has it, {} for one process. Every rank calls it.

        Args:
            forward_seconds: of this rank's training forwards in this stage.
        """
        if self.peers.world == 1:
            return {}
        self.activities.add(TRAINING, forward_seconds)
        seconds, self.activities.seconds = self.peers.gather(self.activities.seconds), {}
        for total, more in zip(self._seconds, seconds, strict=True):
            for activity, value in more.items():
                total[activity] = total.get(activity, 0.0) + value
        tokens, self._stage_tokens = self._stage_tokens, self._no_tokens()
        self._tokens += tokens
        return {"ranks": _picture(seconds, tokens)}

    def total(self) -> Json:
        """The same over the run."""
        return {} if self.peers.world == 1 else {"ranks": _picture(self._seconds, self._tokens)}


def _picture(seconds: list[dict[str, float]], tokens: IntArray) -> Json:
    own, padded = tokens
    padding = 1.0 - own / np.maximum(padded, 1)
    return {"seconds": by_activity(seconds), "tokens": own.tolist(), "padding": np.round(padding, 4).tolist()}


def by_activity(per_rank: list[dict[str, float]]) -> dict[str, dict[str, list[Any]]]:
    """Fastest and slowest rank of each activity, [rank, seconds], from every rank's own seconds.

    >>> by_activity([{"training": 2.0}, {"training": 1.5}])
    {'training': {'fastest': [1, 1.5], 'slowest': [0, 2.0]}}
    """
    picture = {}
    for activity in dict.fromkeys(name for seconds in per_rank for name in seconds):
        times = [(seconds.get(activity, 0.0), rank) for rank, seconds in enumerate(per_rank)]
        (low, fastest), (high, slowest) = min(times), max(times)
        picture[activity] = {"fastest": [fastest, round(low, 3)], "slowest": [slowest, round(high, 3)]}
    return picture
