"""Re-scoring: as the model grows, the rows that still wait are asked anew, and their places are dealt again.

Every few stages, before the next decision: the scorer is trained on what the model writes now; the rows that wait are
measured under it (all, if the re-scoring's part of the budget pays for them, else the frontier: those that some order
could open before the next time, else a sample of it); the losses of the rows trained since the last time come free
from the training forward and help to predict the rows that were not measured. Then each order that knows the model is
sorted again, in the places of the rows it has not used yet, and the ledger says how far it moved.

All of it happens between two optimizer steps, before the checkpoint of that step is written, and draws from its own
seeds: a run that is killed in the middle does the same again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.data.prepared import TokenRows
from campus_tune.method.curriculum import Curriculum
from campus_tune.method.orders import order_rows
from campus_tune.method.stats import spearman
from campus_tune.metrics import MetricSpec, finish_scores
from campus_tune.metrics.passage import HERE, Passage
from campus_tune.model.scorer_training import HEAD_COLUMNS, NothingToLearnError, Training
from campus_tune.recipe.config import CampusConfig
from campus_tune.scores.asking import Asking
from campus_tune.scores.cache import read_columns, write_columns
from campus_tune.scores.directions import agreement_warning
from campus_tune.scores.passages import Reading
from campus_tune.scores.run_scores import Scores
from campus_tune.words.arrays import pack, pack_losses, unpack, unpack_losses
from campus_tune.words.errors import ResumeError
from campus_tune.words.hashing import array_digest, hash_rows
from campus_tune.words.types import BoolArray, FloatArray, IntArray, Json, RowLosses

SALT = 0x2E5C02E
FEWEST_WAITING = 32  # rows below which there is nothing left to sort: the end of an epoch
FEWEST_KNOWN = 10  # rows with a new loss, below which nothing can be predicted from them


@dataclass
class Rescorer:
    """Keeps the scores of one run in step with its model.

    Args:
        asking: how scores are made; its budget is charged.
        scores: of the run; replaced as they are made anew.
        curriculum: whose orders are sorted again.
        rows: token counts and keys of the training rows.
        folder: where the run's scores lie.
        count: re-scorings so far.
    """

    asking: Asking
    scores: Scores
    curriculum: Curriculum
    rows: TokenRows
    folder: Path
    count: int = 0
    _digests: dict[str, str] = field(default_factory=dict)
    _trained: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    _free: RowLosses = field(default_factory=lambda: RowLosses.zeros(0))

    @property
    def config(self) -> CampusConfig:
        """The run's settings."""
        return self.asking.config

    def due(self) -> bool:
        """A re-scoring belongs before the next decision."""
        every = self.config.rescore
        if not every or self.curriculum.handed_over or not self.curriculum.n_stages:
            return False
        if {"scoring", "rescoring"} & set(self.asking.budget.unpaid):
            return False
        if self.curriculum.n_stages % every or not self.asking.questions.aware:
            return False
        return int(self.curriculum.untrained.sum()) >= FEWEST_WAITING

    def add_free(self, rows: IntArray, losses: RowLosses) -> None:
        """Losses that training has just shown of `rows`; forgotten where no re-scoring will ask for them."""
        if not self.config.rescore or self.curriculum.handed_over or not self.asking.questions.aware:
            return
        joined = RowLosses.zeros(len(self._trained) + len(rows))
        joined.put(np.arange(len(self._trained)), self._free)
        joined.put(np.arange(len(self._trained), len(joined)), losses)
        self._trained, self._free = np.concatenate([self._trained, rows]).astype(np.int64), joined

    def again(self, n_left: int) -> tuple[Json, list[str]]:
        """Score the rows that wait, sort the orders.

        Args:
            n_left: re-scorings to come, this one included; they share what is left of their part of the budget.

        Returns:
            What the ledger says of it, and what a person should know.

        Raises:
            MetricError: the model has diverged, or scores that do not order the rows.
        """
        self.count += 1
        budget, waiting = self.asking.budget, self.curriculum.untrained
        before = dict(budget.spent)
        frontier = self.curriculum.frontier(self.config.rescore)
        training, warnings = self._train_scorer(waiting, budget.per_time("scorer", n_left), budget.room())
        extra = self.asking.extra_tokens()
        allowance = budget.per_time("rescoring", n_left) - extra
        rows = self._affordable(waiting, frontier, allowance, budget.room(extra))
        fresh, read = self._measure(rows, training)
        old = dict(self.scores.by_label)
        questions = self.asking.questions
        for label, spec in questions.aware.items():
            if label in questions.losses:
                metric = questions.losses[label]
                # the live passages now, those of other models as they were from the start
                losses = [fresh.get(passage, self.scores.measured[passage]) for passage in metric.passages]
                known = np.flatnonzero(np.stack([each.tokens > 0 for each in losses]).all(axis=0))
                losses = [each.take(known) for each in losses]
                notes = self.asking.notes(label, len(rows))
                self._renew(spec, known, metric.from_losses(losses), notes, waiting)
                warnings = [*warnings, *filter(None, [agreement_warning(label, notes)])]
            elif label in questions.scorers and training is not None and training.heads.tells_apart and len(rows):
                assert self.asking.scorer is not None
                known = np.flatnonzero(self.asking.scorer.spans.known[rows])  # places in `rows`: others have no prompt
                notes = {"rows_measured": len(known), "stability": spearman(read[known, 1], read[known, 2])}
                self._renew(spec, rows[known], read[known, 0], notes, waiting)
        self.asking.combine(self.scores)
        by_label = self.scores.by_label
        moved = [label for label in self.curriculum.orders if not np.array_equal(by_label[label], old[label])]
        record: Json = {
            "refresh": self.count,
            "waiting": int(waiting.sum()),
            "frontier": int(frontier.sum()),
            "rows": len(rows),
            "rows_from_training": len(np.unique(self._trained)),
            "tokens": {purpose: budget.spent[purpose] - before[purpose] for purpose in ("rescoring", "scorer")},
            "orders": {label: self._sort(label) for label in moved},
        }
        if training is not None:
            record["scorer"] = training.notes
        self._save()
        self._trained, self._free = np.zeros(0, dtype=np.int64), RowLosses.zeros(0)
        return record, warnings

    # -- measuring -----------------------------------------------------------------------------------------------

    def _train_scorer(self, waiting: BoolArray, allowance: float, room: float) -> tuple[Training | None, list[str]]:
        """A scorer of the model as it is now, whose order is offered or not, and what a person should know of it.

        None where too few prompts wait, where the model writes nothing to compare with, and where it is not paid for.
        """
        scorer = self.asking.scorer
        if scorer is None or "scorer" in self.asking.budget.unpaid or not scorer.has_prompts(waiting):
            return None, []
        (label,) = self.asking.questions.scorers
        asked: Json = {"allowance": allowance, "refresh": self.count, "fewest": self.asking.budget.fewest("scorer")}
        if scorer.most_tokens(waiting, **asked) > room:
            return None, ["`scorer` is not trained anew: what is left of the budget does not pay for it."]
        try:
            training = scorer.train(waiting, **asked)
        except NothingToLearnError as error:
            self.curriculum.bar(label, barred=True)
            return None, [str(error)]
        self.asking.budget.charge("scorer", training.tokens, training.seconds)
        self.curriculum.bar(label, barred=not training.heads.tells_apart)
        return training, training.warnings

    def _affordable(
        self, waiting: BoolArray, frontier: BoolArray, allowance: float, room: float = math.inf
    ) -> IntArray:
        """The rows that are measured: those that wait, the frontier, or a sample of it that what is left pays for."""
        price = self.asking.live_tokens()
        whole = price + self.asking.feature_tokens()
        for wanted in (waiting, frontier):
            if price[wanted].sum() <= allowance and whole[wanted].sum() <= room:
                return np.flatnonzero(wanted)
        rows = np.flatnonzero(frontier)
        fewest = self.asking.budget.fewest("rescoring")
        n = max(fewest, int(allowance / max(1.0, float(np.mean(price[rows])))))
        seed = self.config.seed or 0
        sample = rows[np.argsort(hash_rows(rows, seed, self.count, SALT), kind="stable")[:n]]
        return np.sort(sample[np.cumsum(whole[sample]) <= room])

    def _measure(self, rows: IntArray, training: Training | None) -> tuple[dict[Passage, RowLosses], FloatArray]:
        """(Losses now of the rows that were measured or just trained, by passage; what the scorer's heads gave.)."""
        passages, scorer = self.asking.passages, self.asking.scorer
        fresh, read = {}, np.zeros((len(rows), 0))
        for passage in self.asking.questions.live:
            reading = None
            if passage == HERE and training is not None and scorer is not None and scorer.settings.model is None:
                reading = Reading(scorer.scores_reader(training.heads), HEAD_COLUMNS)
            taken = passages.take(passage, rows, live=True, reading=reading)
            if reading is not None:
                read = taken.read
            fresh[passage] = RowLosses.zeros(len(self.rows))
            if passage == HERE:
                fresh[passage].put(self._trained, self._free)  # a row trained twice keeps its later loss
            fresh[passage].put(rows, taken.losses)
            tokens = int(taken.charged(passages.tokens(passage)[rows]).sum())
            tokens += passages.extra_tokens(passage) if len(rows) else 0
            self.asking.budget.charge("rescoring", tokens, taken.seconds)
            self.asking.note(passage, taken)
        if training is not None and scorer is not None and not read.shape[1] and len(rows):
            began = time.perf_counter()
            read = scorer.read(training.heads, rows)
            tokens = int(passages.feature_tokens(scorer.settings.model)[rows].sum())
            self.asking.budget.charge("rescoring", tokens, time.perf_counter() - began)
        return fresh, read

    # -- new scores, new orders ----------------------------------------------------------------------------------

    def _renew(self, spec: MetricSpec, rows: IntArray, values: FloatArray, notes: Json, waiting: BoolArray) -> None:
        """Replace a metric's scores; rows that no longer wait keep theirs where all that wait were measured."""
        if len(rows) < FEWEST_KNOWN:
            self.scores.notes[spec.label] = {"rows_measured": len(rows), "kept": "too few rows to go by"}
            return
        old = self.scores.by_label[spec.label]
        missing = waiting.copy()
        missing[rows] = False
        if missing.any():
            self.asking.add(self.scores, spec, rows, values, notes, before=old)
            return
        new = old.copy()
        new[rows] = finish_scores(values, spec)
        self.scores.by_label[spec.label], self.scores.notes[spec.label] = new, notes

    def _sort(self, label: str) -> Json:
        """Put a metric's new scores into its order; how far it moved."""
        ranking = order_rows(self.scores.by_label[label], seed=self.config.seed or 0, groups=self.asking.groups)
        before, after = self.curriculum.resort(label, ranking)
        place = np.empty(len(self.rows), dtype=np.int64)
        place[after] = np.arange(len(after))
        moved = {"rows": len(after), "correlation": spearman(np.arange(len(before)), place[before])}
        return {**moved, **{name: value for name, value in self.scores.notes[label].items() if name != "rows"}}

    # -- state ---------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        """The scores and orders as they are now; a resumed run reads them again."""
        self._digests = {}
        scored = (spec.label for spec in self.config.scored)
        for label in dict.fromkeys([*scored, *self.asking.questions.aware]):
            if label not in self.scores.by_label:  # nobody has paid for it
                continue
            columns: dict[str, NDArray[Any]] = {"content": self.rows.content, "score": self.scores.by_label[label]}
            if label in self.curriculum.orders:  # members of ensembles have none
                columns["order"] = self.curriculum.orders[label]
            self._digests[label] = _digest_of(columns)
            if self.asking.passages.peers.leads:
                write_columns(self._file(label), columns, self.scores.notes[label])

    def _file(self, label: str) -> Path:
        return self.folder / f"{_name(self.count, label)}.parquet"

    def names(self) -> list[str]:
        """Of the files that a resume reads, in the run's folder of scores."""
        return [_name(self.count, label) for label in self._digests]

    def earlier_names(self) -> list[str]:
        """Of the files of earlier times, which show how the scores came about."""
        return [_name(count, label) for count in range(1, self.count) for label in self._digests]

    def state(self) -> Json:
        """What a checkpoint remembers, as JSON."""
        free, trained = pack_losses(self._free), pack(self._trained)
        return {"count": self.count, "digests": dict(self._digests), "trained": trained, "free": free}

    def load(self, state: Json) -> None:
        """Continue from `state()`: scores and orders come from the run's own files.

        Raises:
            ResumeError: these are missing, damaged or of another run.
        """
        self.count, self._digests = state["count"], dict(state["digests"])
        self._trained = unpack(state["trained"], "i")
        self._free = unpack_losses(state["free"], len(self._trained))
        for label, expected in self._digests.items():
            columns, notes = self.asking.passages.peers.led(partial(read_columns, self._file(label)))
            if _digest_of(columns) != expected:
                raise ResumeError(
                    f"`{self._file(label)}` must hold the scores that the checkpoint was planned with, got others. "
                    "Put the run's own curriculum/ folder back, or start anew without resuming."
                )
            self.scores.by_label[label], self.scores.notes[label] = columns["score"], notes
            if "order" in columns:
                self.curriculum.orders[label] = columns["order"]


def _name(count: int, label: str) -> str:
    """The name of a metric's file after so many re-scorings, in the folder of scores."""
    return f"refresh-{count:04d}/{label}"


def _digest_of(columns: Mapping[str, NDArray[Any]]) -> str:
    """What a checkpoint remembers of a metric's scores and order."""
    parts = [columns["score"].view(np.uint64), columns.get("order", np.zeros(0)).astype(np.uint64)]
    return array_digest(np.concatenate(parts))
