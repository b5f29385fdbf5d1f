"""Acting on suspects in a run: which rows were left out, at the end of which stage, and why none were.

What is decided is a function of the run's own record, the losses that it has left of each stage in `training_losses/`
(`method.suspicion` makes scores of them, `method.acting` a choice). So a checkpoint remembers but the stage, and a
digest of the rows: a run that goes on chooses again from the same files, and compares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from campus_tune.data.domains import Domains
from campus_tune.data.prepared import TokenRows
from campus_tune.method.acting import Acting, drawn_instead, unseen
from campus_tune.method.cells import Cells
from campus_tune.method.curriculum import Curriculum
from campus_tune.method.drop import Bounded
from campus_tune.method.suspicion import Suspicion
from campus_tune.method.view import PastStage
from campus_tune.metrics.passage import Passage
from campus_tune.model.peers import Peers
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.draw_rules import RANDOM_DROP
from campus_tune.recipe.policy import acting_of
from campus_tune.run.book_keeping import read_losses, unlike
from campus_tune.run.stream.training_losses import FOLDER as LOSSES
from campus_tune.run.stream.training_losses import file_of_stage
from campus_tune.scores.suspected import suspicion_of_run
from campus_tune.words.hashing import array_digest
from campus_tune.words.types import BoolArray, IntArray, Json, RowArray, RowLosses

NAMED = 100  # rows that an event names
BANDS, FEW = 5, 8  # of answer length in each domain; rows of a band, on average, below which there are fewer bands


@dataclass(frozen=True, eq=False)
class Acted:
    """What was done.

    Args:
        stage: stages that were over.
        rows: that were left out, the likeliest wrong one first; none where the recipe says `never`.
        record: of it, as the ledger has it.
    """

    stage: int
    rows: RowArray
    record: Json


@dataclass
class Suspects:
    """What a run does about suspects.

    Args:
        acting: the settings.
        cells: of the rows, inside which what training shows of them is compared.
        rows: of the training set.
        domains: of them; half of each stays.
        measured: losses from before training, where metrics of the recipe asked for them.
        seed: of the control's draw.
        at_random: the control: as many rows of each cell go, but which of them is chance.
        spared: rows that stay in any case, shape (N,); None for none.
        acted: what was done; None before.
    """

    acting: Acting
    cells: Cells
    rows: TokenRows
    domains: Domains
    measured: Mapping[Passage, RowLosses]
    seed: int = 0
    at_random: bool = False
    spared: BoolArray | None = None
    acted: Acted | None = None

    @staticmethod
    def begin(
        config: CampusConfig,
        cells: Cells | None,
        rows: TokenRows,
        domains: Domains,
        measured: Mapping[Passage, RowLosses],
        spared: BoolArray | None = None,
    ) -> Suspects | None:
        """What a recipe does about them, before anything is done; None where it says nothing of them.

        Args:
            config: resolved settings.
            cells: of the recipe; None without any.
            rows: of the training set.
            domains: of them.
            measured: losses from before training.
            spared: rows that stay in any case where rows go only if there is a sign of wrong ones, shape (N,).
        """
        acting = acting_of(config)
        if acting is None:
            return None
        cells = cells_by_answer(rows.answer_tokens, domains) if cells is None else cells
        at_random = config.control == RANDOM_DROP
        if acting.act != "auto":
            spared = None
        return Suspects(acting, cells, rows, domains, measured, config.seed or 0, at_random, spared)

    def mask(self, n_rows: int) -> BoolArray:
        """Rows that were left out, shape (N,)."""
        mask = np.zeros(n_rows, dtype=np.bool_)
        if self.acted is not None:
            mask[self.acted.rows] = True
        return mask

    def act(self, curriculum: Curriculum, home: Path, past: Sequence[PastStage], peers: Peers) -> Acted:
        """A stage is over, and it is time; every rank calls it.

        Args:
            curriculum: which draws the rows no longer.
            home: folder of the run.
            past: stages that are over.
            peers: ranks; rank 0 reads.

        Raises:
            ResumeError: a file of losses is missing or damaged.
        """
        self.acted = peers.led(lambda: self._choose(curriculum, home, past))
        if len(self.acted.rows):
            assert curriculum.apart is not None, "a recipe that drops rows has a policy"
            curriculum.apart.leave_out(self.mask(curriculum.n_rows))
        return self.acted

    def why_not(self, curriculum: Curriculum, *, earned: bool) -> Json:
        """The run is over and nothing was done: what the ledger says of it.

        Args:
            curriculum: at its end.
            earned: there was a sign of wrong rows, or nobody waited for one.
        """
        never = int(unseen(curriculum).sum())
        since = f"progress {self.acting.since:g}"
        why = f"{never} of {curriculum.n_rows} rows were never seen" if never else "every row was seen only at its end"
        if not never and curriculum.step < self.acting.since * curriculum.total_steps:
            why = f"the run ended before {since}"
        if not earned:
            why = "it was not sure that rows are wrong"
        return {
            "stage": curriculum.n_stages,
            "step": curriculum.step,
            "act": self.acting.act,
            "dropped": 0,
            "unseen": never,
            "why": why,
        }

    def state(self) -> Json:
        """What a checkpoint remembers, as JSON; {} before anything was done."""
        if self.acted is None:
            return {}
        return {"suspects": {"stage": self.acted.stage, "dropped": array_digest(self.mask(len(self.rows)))}}

    def go_on(
        self, saved: Json, curriculum: Curriculum, home: Path, past: Sequence[PastStage], peers: Peers, *, changed: bool
    ) -> None:
        """Stand where a checkpoint stood; every rank calls it, before the curriculum's own state is loaded.

        Args:
            saved: `state()` at the checkpoint, among other things.
            curriculum: at its first step.
            home: folder of the run that wrote the checkpoint.
            past: stages that were over.
            peers: ranks; rank 0 reads.
            changed: the recipe may say something else than it did.

        Raises:
            ResumeError: a file of losses is missing, damaged, or says other rows.
        """
        told = saved.get("suspects")
        if told is None or curriculum.apart is None:
            return
        over = [stage for stage in past if stage.index < told["stage"]]
        curriculum.apart.move(over[-1].end if over else 0)
        self.act(curriculum, home, over, peers)
        if not changed and self.state() != {"suspects": told}:
            raise unlike(home / LOSSES, "those of another training: other rows are suspect")

    def files(self, home: Path, past: Sequence[PastStage]) -> list[str]:
        """Of the run's folder: those that the choice is made from, or will be."""
        most = None if self.acted is None else self.acted.stage
        names = [f"{LOSSES}/{file_of_stage(stage.index)}" for stage in past if most is None or stage.index < most]
        return [name for name in names if (home / name).exists()]

    def _choose(self, curriculum: Curriculum, home: Path, past: Sequence[PastStage]) -> Acted:
        """What the files of the stages say, on the rank that has them."""
        parts = [read_losses(home / LOSSES / file_of_stage(stage.index)) for stage in past]
        suspicion = suspicion_of_run(
            np.concatenate([rows for rows, _ in parts]),
            np.concatenate([losses.per_row() for _, losses in parts]),
            self.rows,
            cells=self.cells,
            domains=self.domains,
            measured=self.measured,
        )
        found = self.acting.choose(suspicion, curriculum, self.spared)
        rows = found.rows
        if self.at_random:
            rows = drawn_instead(rows, curriculum, self.cells.codes, seed=self.seed, spared=self.spared)
        goes = rows[:0] if self.acting.act == "never" else rows
        stage, step = past[-1].index + 1, past[-1].end
        told = {"stage": stage, "step": step, "act": self.acting.act, "dropped": len(goes)}
        return Acted(stage, goes, {**told, **record_of(suspicion, found, rows, self.domains)})


def record_of(suspicion: Suspicion, found: Bounded, rows: RowArray, domains: Domains) -> Json:
    """What the ledger says of a choice.

    Args:
        suspicion: it was made by: `found` is how many the rule calls suspect.
        found: what the bounds keep (`bound`).
        rows: that go, or would, the likeliest wrong one first; those of the control in its place.
        domains: of the rows.
    """
    names = domains.names or ["all rows"]
    codes = np.zeros(len(suspicion.score), dtype=np.int64) if domains.codes is None else domains.codes
    by_domain = np.bincount(codes[rows], minlength=len(names)).tolist()
    return {
        "would_drop": len(rows),
        "found": int(suspicion.suspects.sum()),
        "threshold": suspicion.threshold,
        "by_domain": {name: n for name, n in zip(names, by_domain, strict=True) if n},
        "bound": {"by_domain": {names[code]: n for code, n in found.by_domain.items()}, "by_share": found.by_share},
        "rows": rows[:NAMED].tolist(),
    }


def cells_by_answer(tokens: IntArray, domains: Domains) -> Cells:
    """What rows are compared inside of where a recipe cuts no cells: domain × five bands of answer length.

    Fewer bands where one would have less than eight rows, and no domains where nearly every row is one of its own.

    Args:
        tokens: of each row's answer, shape (N,).
        domains: of the rows.
    """
    if len(domains.names) * FEW > len(tokens):
        domains = Domains()
    bands = len(tokens) // (FEW * max(1, len(domains.names)))
    return Cells.cut(
        tokens.astype(np.float64),
        domains=domains.codes,
        domain_names=domains.names,
        bands=min(BANDS, max(1, bands)),
        by="answer length",
    )
