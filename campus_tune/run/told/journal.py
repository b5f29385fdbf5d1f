"""One door for what a run tells: to its ledger, to the trainer's own log, to a person."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from campus_tune.model.peers import Peers
from campus_tune.run.answer_groups import FOLDER as PROMPTS
from campus_tune.run.ledger import Ledger
from campus_tune.run.prompt_map import EXAMPLES as PROMPT_EXAMPLES
from campus_tune.run.prompt_map import FILE as PROMPT_MAP
from campus_tune.run.row_map import FILE as MAP
from campus_tune.run.row_map import LIKELIEST, SHOWN
from campus_tune.run.stage_visits import FOLDER as VALUE
from campus_tune.run.told.console import Console
from campus_tune.run.told.events import Event
from campus_tune.run.told.shares_file import FILE as SHARES
from campus_tune.run.told.trainers_log import TrainersLog
from campus_tune.words.types import Json

LEFT = (  # by a run
    "training_losses", "book.parquet", MAP, LIKELIEST, SHOWN, VALUE, "dropped.jsonl", SHARES, PROMPTS, PROMPT_MAP,
    PROMPT_EXAMPLES,
)  # fmt: skip


class Teller(Protocol):
    """Who tells of some events in a way of its own."""

    def take(self, event: Event) -> None:
        """Tell of it, or leave it to the others."""


class Journal:
    """Hands every event to all who tell of it. The ledger takes each of them, and first: what is said is written.

    Args:
        folder: the run's `curriculum/` folder.
        peers: only the leader writes and speaks.
        total_steps: of the run.
    """

    def __init__(self, folder: Path, peers: Peers, total_steps: int) -> None:
        self.folder = folder
        self.ledger = Ledger(folder, writes=peers.leads)
        self.log = TrainersLog()
        self.tellers: list[Teller] = [self.log, *([Console(total_steps, folder)] if peers.leads else [])]

    def take(self, event: Event) -> None:
        """Something has happened."""
        self.ledger.add(event.name, **event.line())
        for teller in self.tellers:
            teller.take(event)

    def put_aside(self) -> None:
        """Begin an empty ledger; that of an earlier run is kept under the next free number, with what it left."""
        kept = self.ledger.start()
        for path in (self.folder / name for name in LEFT):
            if kept and path.exists():
                path.rename(path.with_name(f"{path.stem}{kept.suffixes[0]}{path.suffix}"))

    def state(self) -> Json:
        """How much of the ledger is this run's, and the scalars that no log line has carried yet."""
        return {"size": self.ledger.size, "pending": dict(self.log.pending)}

    def load(self, state: Json) -> None:
        """Go on from `state()`.

        Raises:
            ResumeError: the ledger is not this run's.
        """
        self.ledger.resume(state["size"])
        self.log.pending = state["pending"]
