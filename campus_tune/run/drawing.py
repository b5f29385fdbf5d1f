"""Who is drawn and which, in one run: the policy, the book that it goes by, and the rows that it leaves out.

All of it follows from the recipe, the rows, and the scores from before training, so a run that goes on makes the same
again. Cells are cut by those scores too, whatever re-scoring has made of them since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from campus_tune.data.domains import Domains
from campus_tune.data.message_weights import Shapes
from campus_tune.data.prepared import column_names, read_column
from campus_tune.method.cells import ALL_ROWS, Cells
from campus_tune.method.curriculum import Curriculum
from campus_tune.method.drawn import of_start
from campus_tune.method.phases import offers_until, phases_of
from campus_tune.method.policy import Policy
from campus_tune.method.steering import Steering
from campus_tune.method.view import PastStage
from campus_tune.method.weighting import Weighting
from campus_tune.model import compat
from campus_tune.model.peers import Peers
from campus_tune.preview.forecast import quota_problems, stage_rows
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.draw_rules import RANDOM_DROP
from campus_tune.recipe.drop_block import SUSPECTS
from campus_tune.recipe.policy import (
    book_columns,
    cells_of,
    column_of,
    drawn_domains,
    policy_of,
    shares_that_count,
    steering_of,
    strict_domains,
)
from campus_tune.recipe.weighting import weighting_of
from campus_tune.run.acting import Suspects
from campus_tune.run.book_keeping import BookKeeping
from campus_tune.run.earned import Earning
from campus_tune.scores.dropping import Dropped, dropped_of
from campus_tune.scores.run_scores import Scores
from campus_tune.words.errors import DataError, RecipeError, ResumeError
from campus_tune.words.hashing import array_digest
from campus_tune.words.registry import nearest
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from transformers import Trainer

    from campus_tune.run.situation import Outline


@dataclass(frozen=True, eq=False)
class Drawing:
    """What a run draws by.

    Args:
        policy: who is drawn and which; None where the recipe says nothing of it.
        book: what training showed of each row; None where nothing goes by it.
        dropped: rows that are never drawn; None where the recipe drops none.
        suspects: what is done about rows that look wrong; None where the recipe says nothing of them.
        weighting: how much rows count; None where all count alike.
        shapes: how much each answer token of a row counts beside the others; None where all do alike.
        steering: what the record makes of the plan; None where nothing steers.
        shares_by: whose strata's losses the record keeps, for shares that follow them; None where none do.
        earning: what waits for a sign of wrong rows; None where nothing does.
    """

    policy: Policy | None = None
    book: BookKeeping | None = None
    dropped: Dropped | None = None
    suspects: Suspects | None = None
    weighting: Weighting | None = None
    shapes: Shapes | None = None
    steering: Steering | None = None
    shares_by: Policy | None = None
    earning: Earning | None = None

    @property
    def must_drop_suspects(self) -> bool:
        """Suspects go whether there is a sign of wrong rows or not: training must show the losses of rows."""
        return self.suspects is not None and self.suspects.acting.act != "auto"

    @property
    def may_drop(self) -> bool:
        """Nothing is missing for suspects to go but that it is time: with `act: auto` a sign of wrong rows."""
        return self.must_drop_suspects or (self.earning is not None and self.earning.earned)

    @property
    def left_out(self) -> Dropped | None:
        """Rows that are not drawn any more, whenever they were left out."""
        if self.dropped is None or self.suspects is None or self.suspects.acted is None:
            return self.dropped
        why = RANDOM_DROP if self.suspects.at_random else SUSPECTS
        return self.dropped.with_more(self.suspects.acted.rows, why)

    def told(self) -> Json:
        """Cells, and what is dropped, as the ledger says it where it begins."""
        return of_start(self.policy, {} if self.left_out is None else self.left_out.counts())

    def told_at_end(self) -> Json:
        """How many rows were left out when they looked wrong; {} where a recipe leaves none out so."""
        if self.suspects is None:
            return {}
        return {"suspects": 0 if self.suspects.acted is None else len(self.suspects.acted.rows)}

    def state(self) -> Json:
        """What a checkpoint remembers of it, as JSON; {} of what a recipe says nothing of."""
        book = {} if self.book is None else {"book": self.book.state()}
        dropped = {} if self.dropped is None else {"dropped": array_digest(self.dropped.mask)}
        acts = {} if self.earning is None else self.earning.state()
        return {**book, **dropped, **acts, **({} if self.suspects is None else self.suspects.state())}

    def files(self, home: Path, past: Sequence[PastStage]) -> list[str]:
        """Of the run's folder: those without which a checkpoint that is saved now cannot be resumed.

        Args:
            home: that folder.
            past: stages that are over.
        """
        book = [] if self.book is None else self.book.files()
        waits = [part for part in (self.suspects, self.earning) if part is not None]
        return list(dict.fromkeys([*book, *(name for part in waits for name in part.files(home, past))]))

    def go_on(
        self, saved: Json, curriculum: Curriculum, home: Path, past: Sequence[PastStage], peers: Peers, *, changed: bool
    ) -> None:
        """Stand where a checkpoint stood; every rank calls it, before the curriculum's own state is loaded.

        Args:
            saved: its state.
            curriculum: at its first step.
            home: the folder of the run that wrote it.
            past: stages that were over then.
            peers: ranks; rank 0 reads.
            changed: the recipe may say something else than it did.

        Raises:
            ResumeError: other rows are left out now, because a file that names them has changed; or the losses that
                the book is written from are not those of then.
        """
        if self.book is not None:
            self.book.fold(home, past, saved.get("book"), peers)
        if self.earning is not None:
            self.earning.go_on(saved)
            if self.weighting is not None:
                self.weighting.earned = self.earning.earned and not self.earning.cannot
        if self.suspects is not None:
            self.suspects.go_on(saved, curriculum, home, past, peers, changed=changed)
        if not changed and saved.get("dropped") != self.state().get("dropped"):
            raise ResumeError(
                "the checkpoint must belong to this run, got one that leaves out other rows: a file that `drop` reads "
                "has changed. Put it back, or go on with the others on purpose: campus: {resume: changed_future}."
            )


@dataclass(frozen=True)
class Kinds:
    """The kinds of rows that a recipe draws from, as the training set's columns name them.

    Args:
        domains: of the rows; none where the set has no such column, or the recipe draws all alike.
        others: their groups in the column of `cells: of`.
    """

    domains: Domains = field(default_factory=Domains)
    others: Domains = field(default_factory=Domains)

    @staticmethod
    def read(config: CampusConfig, trainer: Trainer) -> Kinds:
        """Those of a trainer's rows.

        Raises:
            RecipeError: the recipe gives shares to domains, and there are none.
            DataError: there is no such column; a row without a name, or with one that another looks like.
        """
        if not config.draw.uses_domains:
            return Kinds()
        rows = compat.training_rows(trainer)
        names = column_names(rows)
        column, of = column_of(config, names), None if config.cells is None else config.cells.of
        domains = Domains() if column is None else drawn_domains(config, read_column(rows, column), column)
        if of is None:
            return Kinds(domains)
        if of not in names:
            raise DataError(
                f"`cells: of` must be a column of the training set ({', '.join(names)}), got {of!r}."
                f"{nearest(of, names)} Name one of them, or leave it out."
            )
        return Kinds(domains, strict_domains(read_column(rows, of), of, "cells: of"))

    def fingerprints(self) -> dict[str, str]:
        """What a run's identity holds of them."""
        named = {"drawn domains": self.domains, "cells": self.others}
        return {name: array_digest(kind.codes) for name, kind in named.items() if kind.codes is not None}

    def as_cells(self, n_rows: int) -> Cells:
        """A cell for each domain."""
        codes, names = self.domains.codes, self.domains.names
        if codes is None:
            return Cells(np.zeros(n_rows, dtype=np.int32), (ALL_ROWS,), np.zeros(1, dtype=np.int64))
        return Cells(codes.astype(np.int32), tuple(names), np.arange(len(names)))


def make_drawing(now: Outline, scores: Scores) -> Drawing:
    """What a planned run draws by.

    Args:
        now: its outline.
        scores: from before training.

    Raises:
        CampusError: blocks of the recipe that do not go with these rows.
    """
    config, by_label = now.config, dict(scores.by_label)
    domains, n_rows = now.kinds.domains, len(now.loaded.rows)
    drawn_otherwise = config.draws_apart or config.weighs
    cells = None
    if drawn_otherwise:
        cells = cells_of(config, by_label.__getitem__, domains=domains, others=now.kinds.others)
    handover = offers_until(phases_of(config.handover, now.total_steps))
    steering = steering_of(
        config,
        has_probes=now.probing.probes is not None,
        domains=domains,
        cells=cells,
        n_stages=now.stages_between(0, handover),
        handover_tokens=handover * now.loaded.global_batch * float(np.mean(now.loaded.rows.tokens)),
    )
    if not drawn_otherwise:
        return Drawing(steering=steering)
    dropped = None
    if config.drop:  # files that rank 0 alone may have
        dropped = now.peers.led(lambda: dropped_of(config, by_label, now.known(), domains, cells))
    keeping = None
    if book_columns(config) is not None:
        keeping = BookKeeping.begin(
            now.book_folder.make(),
            now.kinds.as_cells(n_rows) if cells is None else cells,
            global_batch=now.loaded.global_batch,
            spacing=None if config.review is None else config.review.spacing,
        )
    policy = policy_of(
        config,
        n_rows=n_rows,
        domains=domains,
        cells=cells,
        score_of=lambda label: scores.by_label[label],
        dropped=None if dropped is None else dropped.mask,
        book=None if keeping is None else keeping.book,
        steering=steering,
    )
    earning = Earning.begin(config, cells, now.loaded.rows, domains, scores.measured)
    spared = None if earning is None else earning.spared
    weighting = weighting_of(
        config,
        tokens=now.loaded.rows.answer_tokens,
        global_batch=now.loaded.global_batch,
        domains=domains,
        cells=cells,
        columns=now.user_weights.columns,
        dropped=None if dropped is None else dropped.mask,
        book=None if keeping is None else keeping.book,
        steering=steering,
        spared=spared,
    )
    shares_by = None
    if steering is not None and (steering.reweight is not None or config.steer.asks("raise")):
        shares_by = policy if policy is not None and not config.draw.counts_in_shares else None
        shares_by = shares_by or shares_that_count(config, n_rows=n_rows, domains=domains, cells=cells)
    shapes = now.user_weights.shapes
    if policy is None:  # all rows are drawn as ever, and count otherwise
        return Drawing(
            book=keeping,
            weighting=weighting,
            shapes=shapes,
            steering=steering,
            shares_by=shares_by,
            earning=earning,
        )
    problems = quota_problems(policy, stage_rows(config, n_rows=n_rows, global_batch=now.loaded.global_batch))
    if problems:
        raise RecipeError(problems)
    suspects = Suspects.begin(config, policy.cells, now.loaded.rows, now.kinds.domains, scores.measured, spared)
    return Drawing(policy, keeping, dropped, suspects, weighting, shapes, steering, shares_by, earning)
