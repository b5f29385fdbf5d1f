"""told: who tells of a run: its journal to the ledger, the trainer's log and a person; examples, trackers, the card."""

from campus_tune.run.told.console import NO_BASIS
from campus_tune.run.told.dropped_rows import FILE as DROPPED
from campus_tune.run.told.examples import FILE as EXAMPLES
from campus_tune.run.told.examples import pick
from campus_tune.run.told.trackers import log_plots

__all__ = ["DROPPED", "EXAMPLES", "NO_BASIS", "log_plots", "pick"]
