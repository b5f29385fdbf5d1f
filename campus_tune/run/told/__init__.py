"""told: who tells of a run: its journal to the ledger, the trainer's log and a person; examples, trackers, the card."""

from campus_tune.run.told.drawn_lines import earned_words
from campus_tune.run.told.dropped_rows import FILE as DROPPED
from campus_tune.run.told.examples import FILE as EXAMPLES
from campus_tune.run.told.examples import pick
from campus_tune.run.told.last_lines import NO_BASIS
from campus_tune.run.told.prompt_lines import answered_line
from campus_tune.run.told.steering_lines import summed_up
from campus_tune.run.told.trackers import log_plots
from campus_tune.run.told.weight_lines import audit_line, clips_often

__all__ = [
    "DROPPED",
    "EXAMPLES",
    "NO_BASIS",
    "answered_line",
    "audit_line",
    "clips_often",
    "earned_words",
    "log_plots",
    "pick",
    "summed_up",
]
