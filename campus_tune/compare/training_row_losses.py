"""Losses of the training rows themselves in a run of plain shuffling: before, early and after its training.

They say how far a proxy ranks the rows as the trained model does (`compare: proxy`). At most `MOST` rows are asked,
each domain by its share and by `LEAST` at least, chosen by a hash of what they say: the same ones in every seed and
whenever a comparison goes on. They are measured as the held-out curve is: the clock stands still, random states stay as
they were, and the run is the run that it would have been. With 2 000 rows an interval of ρ is about ±.04 wide.

The first two seeds are asked. The first is compared with the proxy, and the second says how well another training of
the very same model would have done (`method.agreement`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import Trainer

from campus_tune.compare.arms import Arm
from campus_tune.compare.plan import Plan
from campus_tune.compare.proxy_scores import LEARNABILITY, LOSS, ProxyScores, read_proxy
from campus_tune.compare.task import Task
from campus_tune.data.domains import Domains
from campus_tune.data.prepared import column_names
from campus_tune.method.agreement import FEWEST
from campus_tune.method.sampling import quotas
from campus_tune.metrics.learnability import EARLY, LATE
from campus_tune.model import compat
from campus_tune.model.measure import LossMeter
from campus_tune.model.peers import Peers
from campus_tune.run.proxy import early_step
from campus_tune.run.run import CampusRun
from campus_tune.run.value_table import ALL_ROWS
from campus_tune.scores.cache import read_columns, write_columns
from campus_tune.scores.proxy_losses import BEFORE
from campus_tune.words.errors import DataError, RecipeError
from campus_tune.words.hashing import hash_rows
from campus_tune.words.types import FloatArray, IntArray, RowLosses

FILE = "training_rows.parquet"  # in a run's folder, beside its result
MOST, LEAST = 2000, 100  # rows that are measured, and of each domain
SEEDS = 2  # whose runs are asked: one to compare, one that says what a perfect proxy would reach


class TrainingRowLosses:
    """Measures one run.

    Args:
        proxy: whose rows are asked.
    """

    def __init__(self, proxy: ProxyScores) -> None:
        self.proxy = proxy
        self.losses: dict[str, RowLosses] = {}

    def begin(self, trainer: Trainer, run: CampusRun) -> None:
        """Choose the rows, and measure them before the first step.

        Raises:
            RecipeError: the proxy was made of other rows.
            TrainerError: so few steps that early is late.
        """
        now = run.situation
        said = now.said()
        column = now.config.domain_column
        domains = now.domains
        if domains.codes is None:
            names = column_names(compat.training_rows(trainer))
            domains = Domains.read(compat.training_rows(trainer), column if column in names else None)
        codes = np.zeros(len(said.keys), dtype=np.int64) if domains.codes is None else domains.codes
        self.names = [ALL_ROWS] if domains.codes is None else domains.names
        known = np.flatnonzero(np.isin(said.keys, self.proxy.keys))
        first = np.zeros(len(said.keys), dtype=np.bool_)  # rows that say the same have one loss
        first[np.unique(said.keys, return_index=True)[1]] = True
        known = known[first[known]]
        if len(known) < FEWEST:
            raise RecipeError(
                f"`compare: proxy` must know at least {FEWEST} of the training rows, got {len(known)} of "
                f"{int(first.sum())} in {self.proxy.folder!r}: it was made of other rows. Make it from this recipe: "
                "campus-tune proxy --config recipe.yaml --model SMALL_MODEL --out FOLDER"
            )
        self.rows = known[chosen(said.keys[known], codes[known])]
        self.keys, self.domain, self.n_known = said.keys[self.rows], codes[self.rows], len(known)
        self.steps = now.total_steps
        self.early = None if self.proxy.early is None else early_step(self.proxy.early, self.steps)
        meter = now.loaded.meter
        subject = partial(compat.subject, trainer)
        tokens = now.loaded.rows.tokens
        self._meter = LossMeter(subject, meter.dataset, meter.collator, tokens, peers=Peers(), what="training rows")
        self._measure(BEFORE)

    def after_step(self, step: int) -> None:
        """Measure, if this is the step."""
        if step == self.early:
            self._measure(EARLY)
        if step == self.steps:
            self._measure(LATE)

    def write(self, folder: Path) -> None:
        """Leave the file of a run that came to its last step; of another one there is nothing to compare."""
        if LATE not in self.losses:
            return
        columns = {f"{name}_{part}": values for name, of in self.losses.items() for part, values in vars(of).items()}
        about = {"domains": self.names, "early": self.proxy.early, "known": self.n_known}
        write_columns(folder / FILE, {"key": self.keys, "domain": self.domain.astype(np.int64), **columns}, about)

    def _measure(self, name: str) -> None:
        self.losses[name] = self._meter.losses(self.rows)


def asked_of_run(plan: Plan, arm: Arm, task: Task) -> TrainingRowLosses | None:
    """What measures the rows that one run trains; None where nobody compares them with a proxy.

    Args:
        plan: of the comparison.
        arm: that is trained.
        task: the run.
    """
    settings = plan.settings
    compared = arm.name == plan.baseline.name and task.only is None and task.seed in settings.seeds[:SEEDS]
    return TrainingRowLosses(read_proxy(settings.proxy)) if settings.proxy is not None and compared else None


def chosen(keys: NDArray[np.uint64], domains: IntArray) -> IntArray:
    """Places of the rows that are measured, rising: of each domain those with the lowest hashes.

    Args:
        keys: of what the rows say, shape (n,).
        domains: number of each row's domain, shape (n,).
    """
    sizes = np.bincount(domains)
    wanted = np.maximum(quotas(sizes, min(MOST, len(keys))), np.minimum(sizes, LEAST))
    by_hash = np.lexsort((hash_rows(keys), domains))
    before = np.cumsum(sizes) - sizes
    place_in_domain = np.arange(len(keys)) - np.repeat(before, sizes)
    return np.sort(by_hash[place_in_domain < np.repeat(wanted, sizes)])


@dataclass(frozen=True, eq=False)
class MeasuredRun:
    """What one run says of training rows.

    Args:
        keys: of what they say, shape (n,).
        domains: of the rows, numbers, shape (n,).
        names: of the domains.
        scores: `loss` and `learnability`, shape (n,) each.
        n_known: rows of the training set that the proxy knows, from which these were chosen.
    """

    keys: NDArray[np.uint64]
    domains: IntArray
    names: list[str]
    scores: Mapping[str, FloatArray]
    n_known: int


def read_run_rows(folder: Path, early: float | None) -> MeasuredRun | None:
    """What `TrainingRowLosses` has left in a run's folder; None where it was not asked, or asked at another step.

    Args:
        folder: of the run.
        early: of the proxy.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        columns, about = read_columns(path)
        names = [name for name in (BEFORE, EARLY, LATE) if f"{name}_nll_sum" in columns]
        loss = {name: columns[f"{name}_nll_sum"] / columns[f"{name}_tokens"] for name in names}
        if early is not None and about["early"] != early:
            return None
        first = BEFORE if early is None else EARLY
        scores = {LOSS: loss[BEFORE], LEARNABILITY: loss[first] - loss[LATE]}
        return MeasuredRun(columns["key"], columns["domain"], list(about["domains"]), scores, int(about["known"]))
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"`{path}` must hold losses of training rows, got {type(error).__name__}: {error}. Delete the run's folder "
            f"{folder}: it is trained again."
        ) from error
