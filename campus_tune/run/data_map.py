"""The map of a run's rows: which look wrong, which are learned, which are said twice. Made when the run is over.

It is a function of what the run writes anyway, the losses of each stage (`training_losses/`), so training pays nothing
for it, and a run that was killed and resumed has the same map. Rank 0 reads, judges and writes; all ranks take part in
the forwards, which are charged to what is left of the budget:

- of the twenty likeliest wrong rows, to see where each departs from what the model would rather have said;
- of all rows, only where training shows no losses of single rows.

Whatever does not fit is left out. A map that cannot be made costs the run a line and nothing else.

    curriculum/book/map.parquet        a line for each row; in its metadata basis, threshold, n_suspects, sentence
    curriculum/book/likeliest.jsonl    the twenty likeliest wrong rows, with their text
    curriculum/book/shown.jsonl        the beginnings of at most two thousand rows, which the report lists

Rows are compared inside the recipe's cells, else inside bands of answer length of each domain: five of them, fewer
where a band would have less than eight rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias, TypeVar

import numpy as np

from campus_tune.data.domains import Domains
from campus_tune.data.prepared import column_names
from campus_tune.method.budget import MAP, rounded_up
from campus_tune.method.cells import Cells
from campus_tune.method.dirt import Dirt, estimate_dirt
from campus_tune.method.learning import Learning
from campus_tune.method.suspicion import Suspicion, of_forward
from campus_tune.model import compat
from campus_tune.model.departures import Departure, departures, words_at
from campus_tune.model.peers import Peers
from campus_tune.run.acting import cells_by_answer
from campus_tune.run.book_keeping import read_visits
from campus_tune.run.ledger import FILE as LEDGER
from campus_tune.run.ledger import plain, read_ledger
from campus_tune.run.row_map import FILE, LIKELIEST, SHORT, SHOWN, RowMap
from campus_tune.run.row_texts import texts_of
from campus_tune.run.situation import Situation
from campus_tune.run.told.events import Mapped, Warned
from campus_tune.run.told.last_lines import NO_BASIS
from campus_tune.scores.cache import write_columns
from campus_tune.scores.suspected import suspicion_of_run
from campus_tune.words.errors import CampusError, DataError, RecipeError
from campus_tune.words.files import write_jsonl
from campus_tune.words.types import BoolArray, IntArray, Json, RowLosses

N_LIKELIEST = 20

T = TypeVar("T")
Visits: TypeAlias = tuple[IntArray, IntArray, RowLosses]  # rows, steps, losses, in the sequence of training


def map_rows(now: Situation) -> Mapped:
    """Make the map of a run that is over, and say what it shows; every rank calls it."""
    try:
        return Mapped({"step": now.curriculum.step, **_mapped(now)})
    except Exception as error:  # a file is gone, the disk is full, a model cannot be asked: the run is whole without
        if now.peers.leads:
            for name in (FILE, LIKELIEST, SHOWN):  # of an earlier end of this run
                with suppress(OSError):
                    (now.folder / name).unlink()
        why = str(error) if isinstance(error, CampusError) else f"{type(error).__name__}: {error}"
        return Mapped({"step": now.curriculum.step, "basis": NO_BASIS, "why": why, "rows": len(now.loaded.rows)})


def _mapped(now: Situation) -> Json:
    making, peers, meter = Making(now), now.peers, now.loaded.meter
    if not now.training_losses.past:
        raise DataError("no row was trained.")
    if not _led(peers, lambda: making.visits is not None):
        rows = np.flatnonzero(making.trained)
        _refuse_unpaid(now, rows)
        making.measured = _charged(now, rows, lambda: meter.losses(rows))
    worst = _led(peers, lambda: making.suspicion.worst_first[:N_LIKELIEST].astype(np.int64))
    said: Sequence[Departure | None] = [None] * len(worst)
    if len(worst) and _cost(now, worst) <= now.budget.left:
        try:
            said = _charged(now, worst, lambda: departures(meter, worst))
        except Exception as error:  # of whatever model: the rest of the map needs none
            what = f"the model was not asked what it would rather have said ({type(error).__name__}: {error})"
            now.journal.take(Warned([f"{what}: curriculum/{LIKELIEST} is without it."]))
    return _led(peers, lambda: _write(now, making.done(), worst, said))


def _led(peers: Peers, act: Callable[[], T]) -> T:
    """What rank 0 alone does; what goes wrong with it goes wrong on all ranks, so that none waits for it."""

    def named() -> T:
        try:
            return act()
        except CampusError:
            raise
        except Exception as error:
            raise CampusError(f"{type(error).__name__}: {error}") from error

    return peers.led(named)


def _cost(now: Situation, rows: IntArray) -> int:
    """Forward tokens of these rows."""
    return int(now.loaded.rows.tokens[rows].sum())


def _charged(now: Situation, rows: IntArray, ask: Callable[[], T]) -> T:
    """What one forward of these rows gives."""
    meter = now.loaded.meter
    began, spared = meter.seconds, meter.spared
    found = ask()
    now.budget.charge(MAP, _cost(now, rows) - (meter.spared - spared), meter.seconds - began)
    return found


def _refuse_unpaid(now: Situation, rows: IntArray) -> None:
    """One forward over these rows must fit into what is left of the budget."""
    budget, tokens = now.budget, _cost(now, rows)
    if tokens <= budget.left:
        return
    share, left = (budget.ratio * n / budget.training_tokens for n in (tokens, budget.left))
    enough = rounded_up(budget.spent_share() + share)
    raise RecipeError(
        f"training shows no losses of single rows: {compat.why_no_row_losses(now.trainer)}. One forward over all of "
        f"them costs {share:.1%} of the training compute, and {left:.1%} are left of the budget. `budget: {enough:g}` "
        "pays for it; campus-tune suspects --config asks the model before any training."
    )


def domains_to_tell(now: Situation) -> Domains:
    """The domains of a run; where it ranks all rows alike, those of the column that it would have taken."""
    if now.domains.codes is not None:
        return now.domains
    rows, column = compat.training_rows(now.trainer), now.config.domain_column
    return Domains.read(rows, column if column in column_names(rows) else None)


@dataclass(eq=False)
class Making:
    """What goes into the map of a run. What is read of files or judged is so on rank 0 only, when it is asked for.

    Args:
        now: the run.
        measured: what a forward over the rows in `trained` says, where training shows nothing.
    """

    now: Situation
    measured: RowLosses | None = None

    @cached_property
    def trained(self) -> BoolArray:
        """Rows that the recipe does not leave out, shape (N,)."""
        dropped = self.now.drawing.dropped
        return np.ones(len(self.now.loaded.rows), dtype=np.bool_) if dropped is None else ~dropped.mask

    @cached_property
    def visits(self) -> Visits | None:
        """What training showed, by the run's own files; None where it shows no losses of single rows.

        Raises:
            ResumeError: a file is missing or damaged.
        """
        found = read_visits(self.now.folder, read_ledger(self.now.folder / LEDGER), self.now.loaded.global_batch)
        return None if found is None else found[1:]

    @cached_property
    def learning(self) -> Learning:
        """What is known of each row; of a forward over all of them, as if it had been a visit."""
        n_rows = len(self.trained)
        if self.visits is not None:
            return Learning.of(*self.visits, n_rows)
        assert self.measured is not None, "one of the two is there"
        rows = np.flatnonzero(self.trained)
        return Learning.of(rows, np.zeros(len(rows), dtype=np.int64), self.measured, n_rows)

    @cached_property
    def domains(self) -> Domains:
        """Of the rows."""
        return domains_to_tell(self.now)

    @cached_property
    def cells(self) -> Cells:
        """Inside which rows are compared."""
        policy, tokens = self.now.drawing.policy, self.now.loaded.rows.answer_tokens
        return cells_by_answer(tokens, self.domains) if policy is None or policy.cells is None else policy.cells

    @cached_property
    def suspicion(self) -> Suspicion:
        """How suspect each row is; what was measured before training joins in."""
        of, domains = self.now.loaded.rows, self.domains
        if self.visits is None:
            loss, codes = self.learning.mean_loss, domains.codes
            return of_forward(loss, of.answer_tokens, groups=codes, alone=None, prompts=of.prompt_tokens)
        return self._suspicion_by(np.ones(len(self.visits[0]), dtype=np.bool_))

    @cached_property
    def dirt(self) -> Dirt | None:
        """How many rows are wrong; None where nothing tells.

        Of rows that the run has done something about only what it saw before counts; where losses decide from the
        first step on how much rows count, nothing does.
        """
        if self.visits is None or any(weight.when == "always" for weight in self.now.config.draw.live):
            return None
        untouched, names = self.untouched, self.domains.names or ["all rows"]
        suspicion = self.suspicion if untouched.all() else self._suspicion_by(untouched)
        return estimate_dirt(suspicion, domains=self.domains.codes, names=names)

    @cached_property
    def untouched(self) -> BoolArray:
        """Visits of before anything was done about their rows, shape (V,)."""
        assert self.visits is not None, "there are some"
        rows, steps, _ = self.visits
        past, earning, suspects = self.now.training_losses.past, self.now.drawing.earning, self.now.drawing.suspects
        over = len(past)
        spared = np.zeros(len(self.trained), dtype=np.bool_)
        if earning is not None and earning.stage is not None and earning.auto:
            over, spared = earning.stage, earning.spared
        if suspects is not None and suspects.acted is not None and len(suspects.acted.rows):
            over = min(over, suspects.acted.stage)
            if suspects.spared is None:  # they went without a sign, whoever is spared by the weights
                spared = np.zeros(len(self.trained), dtype=np.bool_)
        before = steps <= next((stage.end for stage in past if stage.index == over - 1), 0)
        return np.asarray(before | spared[rows], dtype=np.bool_)

    def _suspicion_by(self, some: BoolArray) -> Suspicion:
        """What these visits say of the rows, with what was measured before training."""
        assert self.visits is not None, "there are some"
        rows, _, losses = self.visits
        return suspicion_of_run(
            rows[some],
            losses.per_row()[some],
            self.now.loaded.rows,
            cells=self.cells,
            domains=self.domains,
            measured=self.now.rescorer.scores.measured,
        )

    def done(self) -> RowMap:
        """The map."""
        return RowMap(
            basis="forward" if self.visits is None else "training",
            content=self.now.loaded.rows.content,
            learning=self.learning,
            suspicion=self.suspicion,
            domains=self.domains,
            cells=self.cells,
            said=self.now.said(),
            dirt=self.dirt,
        )


def _write(now: Situation, made: RowMap, worst: IntArray, said: Sequence[Departure | None]) -> Json:
    """Write the map, the likeliest wrong rows, and what the rows say that a page lists.

    Args:
        now: the run.
        made: its map.
        worst: the likeliest wrong rows, the likeliest first.
        said: where each of them departs from the model, None where that is not known.

    Returns:
        What the ledger says of the map.

    Raises:
        StorageError: a file cannot be written.
    """
    tokenizer = compat.tokenizer_of(now.trainer)
    texts = texts_of(now.trainer, worst.tolist())

    def line(place: int, row: int) -> Json:
        told, departure = texts[place], said[place]
        if departure is not None and hasattr(tokenizer, "decode"):
            told |= words_at(departure, row, now.loaded.trained.dataset, tokenizer)
        return {**made.line(row), **told}

    write_columns(now.folder / FILE, made.columns(), made.about())
    write_jsonl(now.folder / LIKELIEST, (plain(line(*pair)) for pair in enumerate(worst.tolist())))
    shown = made.shown.tolist()
    told = zip(shown, texts_of(now.trainer, shown, SHORT), strict=True)
    write_jsonl(now.folder / SHOWN, ({"row": row, **text} for row, text in told))
    return made.record()
