"""Whether a run has earned it that something is done about wrong rows: looks at its own record, and what came of them.

A look is a function of the losses that the run has left of each stage in `training_losses/` (`method.dirt` makes an
estimate of them). Once they are convincing, everything with `act: auto` acts from there on, and nothing is looked at
any more: so a checkpoint remembers but how many looks there were, in how many of them there was enough to see, and the
stage at which that was convincing. Until then it needs the files of all stages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from campus_tune.data.domains import Domains
from campus_tune.data.prepared import TokenRows
from campus_tune.method.cells import Cells
from campus_tune.method.dirt import Dirt, estimate_dirt
from campus_tune.method.earned import ACT_FROM, convincing, enough, looks_now, spared
from campus_tune.method.view import PastStage
from campus_tune.metrics.passage import Passage
from campus_tune.model.peers import Peers
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.drop_block import DROPS_SUSPECTS
from campus_tune.run.acting import cells_by_answer
from campus_tune.run.book_keeping import read_losses
from campus_tune.run.stream.training_losses import FOLDER as LOSSES
from campus_tune.run.stream.training_losses import file_of_stage
from campus_tune.scores.suspected import suspicion_of_run
from campus_tune.words.types import BoolArray, Json, RowLosses

UNSHOWN = "training shows no losses of single rows"


@dataclass(frozen=True)
class Look:
    """What the record said at the end of a stage.

    Args:
        stage: stages that were over.
        step: optimizer steps finished.
        dirt: how many rows are wrong; None where training shows no losses of rows.
    """

    stage: int
    step: int
    dirt: Dirt | None

    @property
    def enough(self) -> bool:
        """It says that something may be done."""
        return self.dirt is not None and enough(self.dirt)


@dataclass
class Earning:
    """What in a recipe waits for a sign of wrong rows, and whether there was one.

    Args:
        auto: settings that act once there is one, by name.
        never: settings of which it is only said that they would.
        spared: rows that nothing is done about, shape (N,).
        cells: inside which what training shows of rows is compared.
        rows: of the training set.
        domains: of them.
        measured: losses from before training, where metrics of the recipe asked for them.
        stage: stages that were over when there was a sign; None before.
        looks: at the record so far.
        found: looks in which it said enough.
        cannot: why weights cannot be multiplied in this run, as its first step has shown; "" where they can.
    """

    auto: tuple[str, ...]
    never: tuple[str, ...]
    spared: BoolArray
    cells: Cells
    rows: TokenRows
    domains: Domains
    measured: Mapping[Passage, RowLosses]
    stage: int | None = None
    looks: int = 0
    found: int = 0
    cannot: str = ""

    @staticmethod
    def begin(
        config: CampusConfig,
        cells: Cells | None,
        rows: TokenRows,
        domains: Domains,
        measured: Mapping[Passage, RowLosses],
    ) -> Earning | None:
        """What waits in a recipe, before anything was looked at; None where nothing does.

        Args:
            config: resolved settings.
            cells: of the recipe; None without any.
            rows: of the training set.
            domains: of them.
            measured: losses from before training.
        """
        auto, never = (config.draw.that_act(when) for when in ("auto", "never"))
        if not auto and not never:
            return None
        cells = cells_by_answer(rows.answer_tokens, domains) if cells is None else cells
        return Earning(auto, never, spared(rows.content, cells.codes), cells, rows, domains, measured)

    @property
    def earned(self) -> bool:
        """There was a sign, so what waits acts."""
        return self.stage is not None

    def due(self, past: Sequence[PastStage], global_batch: int) -> bool:
        """At the end of a stage: there was no sign yet, and a further tenth of a pass is over."""
        before, now = (0, past[-1].end) if len(past) == 1 else (past[-2].end, past[-1].end)
        batch, n_rows = global_batch, len(self.rows)
        return not self.earned and looks_now(before * batch, now * batch, rows_per_pass=n_rows)

    def note(self, look: Look) -> bool:
        """Count a look; whether it makes the sign convincing."""
        self.looks += 1
        self.found += look.enough
        if look.enough and convincing(self.looks, self.found):
            self.stage = look.stage
        return self.earned

    def look(self, home: Path, past: Sequence[PastStage], peers: Peers, *, ends: bool = False) -> Look:
        """What the record says of the rows by now, before anything was done about them; every rank calls it.

        Args:
            home: folder of the run.
            past: stages that are over, at least one.
            peers: ranks; rank 0 reads.
            ends: the run is over.

        Raises:
            ResumeError: a file of losses is damaged.
        """
        return peers.led(lambda: self._look(home, past, ends=ends))

    def _look(self, home: Path, past: Sequence[PastStage], *, ends: bool) -> Look:
        """On the rank that has the files."""
        stage, step = past[-1].index + 1, past[-1].end
        files = [home / LOSSES / file_of_stage(one.index) for one in past]
        parts = [read_losses(file) for file in files if file.exists()]  # a stage that showed none has left none
        if not parts:
            return Look(stage, step, None)
        suspicion = suspicion_of_run(
            np.concatenate([rows for rows, _ in parts]),
            np.concatenate([losses.per_row() for _, losses in parts]),
            self.rows,
            cells=self.cells,
            domains=self.domains,
            measured=self.measured,
        )
        whole = estimate_dirt(suspicion, domains=None, names=[])
        if not ends and not enough(whole):  # of its domains nobody asks, and each of them takes as long
            return Look(stage, step, whole)
        return Look(stage, step, estimate_dirt(suspicion, domains=self.domains.codes, names=self.domains.names))

    def record(self, look: Look, *, ends: bool = False) -> Json:
        """What the ledger says of a look: what acts from here on, or that nothing does, and why.

        Args:
            look: at the record.
            ends: the run is over.
        """
        acts = self.auto if look.enough and not ends else ()
        if self.cannot:
            acts = tuple(name for name in acts if name == DROPS_SUSPECTS)
        told: Json = {"stage": look.stage, "step": look.step, "acts": list(acts), "threshold": ACT_FROM}
        if self.never:
            told["would"] = list(self.never) if look.enough else []
        if self.cannot:
            told["cannot"] = self.cannot
        told["spared"] = int(self.spared.sum()) if self.auto else 0
        if look.dirt is None:
            return {**told, "why": UNSHOWN}
        if not look.enough:
            told["why"] = "too few rows look wrong" if look.dirt.seen else "no wrong rows are to be seen"
        elif ends:
            told["why"] = f"that was seen in {self.found} of {self.looks} looks before"
        return {**told, **look.dirt.to_mapping()}

    def state(self) -> Json:
        """What a checkpoint remembers, as JSON; {} before the first look, and where weights can be multiplied."""
        if not self.looks and not self.cannot:
            return {}
        counted: Json = {"looks": self.looks, "found": self.found, "stage": self.stage}
        return {"act": {**counted, **({"cannot": self.cannot} if self.cannot else {})}}

    def go_on(self, saved: Json) -> None:
        """Stand where a checkpoint stood.

        Args:
            saved: `state()` at the checkpoint, among other things.
        """
        if "act" in saved:
            told = saved["act"]
            self.looks, self.found, self.stage = told["looks"], told["found"], told["stage"]
            self.cannot = told.get("cannot", "")

    def files(self, home: Path, past: Sequence[PastStage]) -> list[str]:
        """Of the run's folder: those that will be looked at; none any more once there was a sign."""
        names = [] if self.earned else [f"{LOSSES}/{file_of_stage(stage.index)}" for stage in past]
        return [name for name in names if (home / name).exists()]
