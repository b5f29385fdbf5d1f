"""With which learning rate a run has trained its easy and its hard rows: what it leaves of that at its end.

Read from its own files, so a run that was resumed, wherever, says the same.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np

from campus_tune.preview.lr_mass import deciles_of, lr_by_decile
from campus_tune.run.ledger import FILE as LEDGER
from campus_tune.run.ledger import plain, read_ledger
from campus_tune.run.stream.training_losses import FOLDER as LOSSES
from campus_tune.run.stream.training_losses import file_of_stage
from campus_tune.scores.cache import read_columns
from campus_tune.scores.run_scores import FOLDER as SCORES
from campus_tune.words.errors import ResumeError
from campus_tune.words.files import atomic_write

FILE = "learning_rate.json"  # in the run's `curriculum/`


def leave_decile_rates(home: Path) -> None:
    """Write metric → mean learning rate of each tenth of the rows, easy to hard by the scores before training.

    A rate is the mean of its stage; null stands for a tenth of which no row was trained. There is no metric where
    training shows no losses of single rows, for then `training_losses/` does not say which rows a stage has trained.

    Args:
        home: folder of the ledger, whose run is over.
    """
    events, found = read_ledger(home / LEDGER), {}
    with suppress(ResumeError):  # a file is not there
        ends = [event for event in events if event["event"] == "stage_end"]
        rows = [read_columns(home / LOSSES / file_of_stage(end["stage"]))[0]["row"] for end in ends]
        rates = np.repeat([end["learning_rate"] for end in ends], [len(part) for part in rows])
        for label in [event["metric"] for event in events if event["event"] == "scores"] if rows else ():
            deciles = deciles_of(read_columns(home / SCORES / f"{label}.parquet")[0]["score"])
            found[label] = lr_by_decile(deciles, np.concatenate(rows), rates)
    atomic_write(home / FILE, json.dumps(plain(found)) + "\n")
