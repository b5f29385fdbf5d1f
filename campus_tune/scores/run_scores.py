"""The scores of one run: what each metric gave each row, the losses they were made of, and their files."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from campus_tune.data.prepared import TokenRows
from campus_tune.method.budget import Purpose
from campus_tune.method.selectors import START_LOSS
from campus_tune.metrics import CpuMetric, EnsembleMetric, MetricSpec, finish_scores, leaves
from campus_tune.metrics.passage import HERE, Passage
from campus_tune.recipe.config import CampusConfig
from campus_tune.scores.cache import read_columns, write_columns
from campus_tune.scores.questions import blocks_unpaid, unscored
from campus_tune.words.errors import ResumeError
from campus_tune.words.hashing import array_digest
from campus_tune.words.types import BoolArray, FloatArray, IntArray, Json, RowLosses, RowTexts

START = "start_loss"  # file name of the losses before training
FOLDER = "scores"  # in the run's: a file for each metric and passage


@dataclass
class Scores:
    """The scores of a run.

    Args:
        by_label: metric label → scores, each of shape (N,), reversed where the recipe says so; of the members of
            ensembles too.
        measured: passage → losses of the measured rows, shape (N,), zero tokens where not measured. `HERE` is before
            training.
        notes: metric label → what the ledger says of it.
        warnings: what a person should know of how they came about.
    """

    by_label: dict[str, FloatArray] = field(default_factory=dict)
    measured: dict[Passage, RowLosses] = field(default_factory=dict)
    notes: dict[str, Json] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def start(self) -> RowLosses | None:
        """Losses of the measured rows before training."""
        return self.measured.get(HERE)

    @property
    def known(self) -> BoolArray | None:
        """Rows whose loss before training was measured."""
        return None if self.start is None else self.start.tokens > 0

    def put(self, spec: MetricSpec, raw: FloatArray, notes: Json, *, orders: bool = True) -> None:
        """Scores of all rows, shape (N,), turned around if the recipe says so, and what the ledger says of them.

        They may all be equal where they only cut rows into bands (not `orders`).

        Raises:
            MetricError: they do not order the rows.
        """
        self.by_label[spec.label] = finish_scores(raw, spec, orders=orders)
        self.notes[spec.label] = notes

    def put_texts(
        self, spec: MetricSpec, metric: CpuMetric, texts: RowTexts, raw: FloatArray, *, orders: bool = True
    ) -> None:
        """The same for what a metric of the texts gave each of them."""
        self.put(spec, raw, {"rows_measured": len(raw)}, orders=orders)
        self.notes[spec.label] |= metric.describe(texts, raw)

    def combine(self, spec: MetricSpec, metric: EnsembleMetric, groups: IntArray | None) -> None:
        """An ensemble's scores, from those of its members."""
        members = {member.label: self.by_label[member.label] for member in metric.members}
        measured = min(self.notes[label]["rows_measured"] for label in members)
        self.put(spec, metric.combine(members, groups), {"rows_measured": measured})

    def digests(self) -> dict[str, str]:
        """What a checkpoint remembers of the scores."""
        digests = {label: array_digest(scores.view(np.uint64)) for label, scores in self.by_label.items()}
        files = passage_files(self.measured)
        return digests | {name: array_digest(self.measured[p].nll_sum.view(np.uint64)) for name, p in files.items()}

    def save(self, folder: Path, rows: TokenRows) -> None:
        """Write one parquet file per metric and passage."""
        self.save_metrics(folder, rows, self.by_label)
        for name, passage in passage_files(self.measured).items():
            columns = {"content": rows.content, **vars(self.measured[passage])}
            write_columns(folder / f"{name}.parquet", columns, {"passage": str(passage)})

    def save_metrics(self, folder: Path, rows: TokenRows, labels: Iterable[str]) -> None:
        """Write the files of some metrics."""
        for label in labels:
            columns = {"content": rows.content, "score": self.by_label[label]}
            write_columns(folder / f"{label}.parquet", columns, self.notes[label])

    @staticmethod
    def load(folder: Path, digests: Mapping[str, str], passages: Iterable[Passage]) -> Scores:
        """The scores that a checkpoint was planned with.

        Args:
            folder: of the run.
            digests: what the checkpoint remembers.
            passages: that the recipe can ask for.

        Raises:
            ResumeError: missing, damaged, or of another run.
        """
        scores, files = Scores(), passage_files({HERE, *passages})
        for label, expected in digests.items():
            columns, notes = read_columns(folder / f"{label}.parquet")
            names = set(vars(RowLosses.zeros(0))) if label in files else {"score"}
            whole = names <= columns.keys() and all(columns[name].dtype.kind in "iuf" for name in names)
            if whole and label in files:
                scores.measured[files[label]] = RowLosses(**{name: columns[name] for name in names})
            elif whole:
                scores.by_label[label], scores.notes[label] = columns["score"], notes
            if scores.digests().get(label) != expected:
                raise ResumeError(
                    f"`{folder / label}.parquet` must hold the scores that the checkpoint was planned with, got "
                    "others. Put the run's own curriculum/ folder back, or start anew without resuming."
                )
        return scores

    def refuse_missing(self, config: CampusConfig, unpaid: Collection[Purpose] = ()) -> None:
        """What was not scored before training cannot be once training has begun.

        Args:
            config: resolved settings.
            unpaid: purposes that the run's budget did not pay for.

        Raises:
            ResumeError: a metric's scores are not there; or the recipe's selector needs the losses before training,
                and the one that began the run did not.
        """
        asked = [*config.scored, *leaves(config.scored)]
        left_out = unscored(config, unpaid) - blocks_unpaid(config, unpaid).keys()
        lacking = {spec.label for spec in asked} - self.by_label.keys() - left_out
        if lacking:
            raise ResumeError(
                f"the checkpoint must remember scores of {', '.join(sorted(lacking))}, got those of "
                f"{', '.join(self.by_label) or 'nothing'}: it was changed, or the recipe asks for more by now than the "
                "model in hand can still say. Put it back from a copy, resume from an earlier one, or train without "
                "resuming."
            )
        if "scoring" not in unpaid and START_LOSS in config.build_selector().needs and self.start is None:
            raise ResumeError(
                f"`selector` must not need the losses before training on a checkpoint that has none, got "
                f"{config.selector!r}. Choose lowest_perplexity, or matched with probes, or start anew."
            )


def passage_files(passages: Iterable[Passage]) -> dict[str, Passage]:
    """File name → passage; the one of the model in hand is `start_loss`."""
    passages = set(passages)
    others = sorted(passages - {HERE}, key=str)
    files = {f"{START}-{number + 1}": passage for number, passage in enumerate(others)}
    return {START: HERE, **files} if HERE in passages else files
