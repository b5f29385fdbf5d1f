"""The means of a log line that a checkpoint cuts: what was added up since the last line, and what no trainer saves.

A trainer that logs every k steps adds up losses and metrics in between. They are in no checkpoint, so the first line
after a resume would be a mean over fewer steps than it says, trl's token count would begin anew, and the loss of the
whole run would be that of its last piece. They are kept with the curriculum's state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from campus_tune.model import compat
from campus_tune.model.peers import Peers
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from transformers import Trainer


@dataclass(frozen=True)
class LogWindow:
    """What one rank has added up since the last log line. Taking it waits for no device.

    Args:
        loss: sum of losses, on the device; None where the trainer keeps it out of reach.
        counts: the trainer's own counts.
        sizes: how many values each metric had.
    """

    loss: torch.Tensor | None
    counts: dict[str, float]
    sizes: dict[str, int]

    @staticmethod
    def of(trainer: Trainer) -> LogWindow:
        """What a trainer holds now. A line that is being written has taken the metrics already."""
        loss, counts = compat.running_loss(trainer), compat.running_counts(trainer)
        logged = counts.get("_globalstep_last_logged") == trainer.state.global_step
        metrics = {} if logged else compat.running_metrics(trainer)
        return LogWindow(
            None if loss is None else loss.detach().clone(), counts, {name: len(each) for name, each in metrics.items()}
        )

    def state(self, trainer: Trainer) -> Json:
        """As JSON; {} where there is no window to be kept."""
        if self.loss is None:
            return {}
        values = compat.running_metrics(trainer)
        metrics = {name: list(values[name][:size]) for name, size in self.sizes.items() if size and name in values}
        return {"loss": self.loss.item(), "counts": self.counts, "metrics": metrics}


def restore(trainer: Trainer, saved: list[Json], peers: Peers) -> bool:
    """Go on from the states of all ranks; on another number of ranks, from what they were on average.

    Args:
        trainer: that has just loaded a checkpoint, and added up nothing yet.
        saved: by rank.
        peers: ranks now.

    Returns:
        Whether there was anything to go on from.
    """
    loss = compat.running_loss(trainer)
    if loss is None or not all(saved):
        return False
    losses = [each["loss"] for each in saved]
    loss.fill_(losses[peers.rank] if len(saved) == peers.world else sum(losses) / len(losses))
    mine = saved[min(peers.rank, len(saved) - 1)]
    compat.set_running_counts(trainer, mine["counts"])
    compat.running_metrics(trainer).update({name: list(values) for name, values in mine["metrics"].items()})
    return True
