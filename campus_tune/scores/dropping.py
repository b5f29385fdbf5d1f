"""Rows that a recipe's `drop:` leaves out of the whole run: by a score, by repeating others, by a mark, by value.

Entries are gone through in the recipe's sequence. Each names its rows, worst first, and may drop so many of all rows as
its `at_most` says; all of them together leave every domain half of its rows (`method.drop`). Prompts with contradicting
answers are never among them: `preview.check` tells of them, and a person decides.

`control: random_drop` leaves out as many rows of each cell at random: was it which rows, or how many? `drop_best`
leaves out, in the place of those that harmed, as many that helped most: if values say anything, that must do worse.

Suspects are not among them: nothing is known of them before training (`run.acting` drops them when it is).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.data.domains import Domains
from campus_tune.data.duplicates import duplicates, first_of_each
from campus_tune.data.judged import Known, judged_wrong
from campus_tune.data.said import Said
from campus_tune.data.shapes import Shape
from campus_tune.method.cells import Cells
from campus_tune.method.drop import Bounded, as_many, bounded
from campus_tune.model import compat
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.draw_rules import DROP_BEST, RANDOM_DROP, find_score
from campus_tune.recipe.drop_block import DUPLICATES, JUDGED, SUSPECTS, VALUE, DropSettings
from campus_tune.recipe.policy import dropped_rows
from campus_tune.scores.known_values import read_values
from campus_tune.words.hashing import hash_rows
from campus_tune.words.types import BoolArray, FloatArray, IntArray, Json, RowArray
from campus_tune.words.wording import listed

if TYPE_CHECKING:
    from transformers import Trainer

EQUAL, NEAR = f"{DUPLICATES}: equal", f"{DUPLICATES}: near"
_TIES = 0xD209  # what random numbers are drawn for


@dataclass(frozen=True)
class Dropped:
    """The rows that a run leaves out, and why.

    Args:
        reasons: in words.
        reason: which of them each row is left out for, −1 for one that is trained, int16, shape (N,).
        instead: the row that is kept in the place of each, −1 for none, shape (N,).
        notes: what a bound kept in the set although it was named.
    """

    reasons: tuple[str, ...]
    reason: NDArray[np.int16]
    instead: RowArray
    notes: tuple[str, ...] = ()

    @property
    def mask(self) -> BoolArray:
        """Which rows are left out, shape (N,)."""
        return self.reason >= 0

    def with_more(self, rows: RowArray, why: str) -> Dropped:
        """The same, and some more rows for one more reason."""
        reason = self.reason.copy()
        reason[rows] = len(self.reasons)
        return Dropped((*self.reasons, why), reason, self.instead, self.notes)

    def counts(self) -> dict[str, int]:
        """Rows left out for each reason that left out any."""
        found = np.bincount(self.reason[self.mask], minlength=len(self.reasons))
        return {why: int(n) for why, n in zip(self.reasons, found, strict=True) if n}

    def lines(self, known: Known, domains: Domains, text: Callable[[int], str]) -> Iterator[Json]:
        """One line for each row that is left out, ascending.

        Args:
            known: what the rows can be found by again.
            domains: of the rows.
            text: of a row, cut.
        """
        keys = known.keys()
        for row in np.flatnonzero(self.mask).tolist():
            line: Json = {"row": row, "reason": self.reasons[self.reason[row]], "key": keys[row]}
            if domains.codes is not None:
                line["domain"] = domains.names[int(domains.codes[row])]
            if self.instead[row] >= 0:
                line["instead"] = int(self.instead[row])
            yield {**line, "text": text(row)}


@dataclass
class _Dropping:
    """The rows that are left out so far."""

    domains: Domains
    reason: NDArray[np.int16]
    instead: RowArray
    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def mask(self) -> BoolArray:
        return self.reason >= 0

    def take(
        self,
        entry: DropSettings,
        parts: Sequence[tuple[str, RowArray]],
        best: tuple[IntArray | RowArray, IntArray] | None = None,
    ) -> None:
        """Leave out what an entry names, worst first, as far as both bounds allow.

        Args:
            entry: whose bound it is.
            parts: reason → its rows; no row is in two parts.
            best: cells of the rows, and rows, the best first: as many of each cell go in the place of the worst.
        """
        worst_first = np.concatenate([rows for _, rows in parts])
        n_rows = len(self.reason)
        codes = self.domains.codes
        found = bounded(worst_first, n_rows, at_most=entry.bound, domains=codes, dropped=self.mask)
        goes = np.zeros(n_rows, dtype=np.bool_)
        goes[found.rows] = True
        if best is not None:
            cells, best_first = best
            goes = as_many(goes, cells, best_first[~self.mask[best_first]])
            parts = [(DROP_BEST, np.flatnonzero(goes).astype(np.int32))]
        for why, rows in parts:
            self.reason[rows[goes[rows]]] = len(self.reasons)
            self.reasons.append(why)
        self.notes += _cut_by_bounds(entry, found, self.domains)


def shape_of(trainer: Trainer) -> tuple[Shape, str]:
    """What a trainer's settings say of its rows, and the end of sequence that TRL appends to plain texts."""
    return Shape.of(vars(trainer.args)), getattr(compat.tokenizer_of(trainer), "eos_token", None) or ""


def known_of(trainer: Trainer, columns: Mapping[str, Sequence[Any]], content: NDArray[np.uint64]) -> Known:
    """What the training rows of a trainer can be compared and found by.

    Args:
        trainer: that has prepared them.
        columns: of its training set, without the tokens.
        content: 64-bit hashes of their tokens, shape (N,).
    """
    shape, end = shape_of(trainer)
    return Known(columns, Said.of(columns, shape, end=end), shape, content)


def dropped_of(
    config: CampusConfig,
    scores: Mapping[str, FloatArray],
    known: Known,
    domains: Domains,
    cells: Cells | None = None,
) -> Dropped | None:
    """The rows that a recipe leaves out of its run, or those of its control; None for a recipe without `drop`.

    Args:
        config: resolved settings.
        scores: label → scores, each of shape (N,).
        known: what rows can be compared and found by.
        domains: of the rows.
        cells: whose numbers `control: random_drop` and `drop_best` keep.

    Raises:
        DataError: see `drop_rows`.
    """
    if not config.drop:
        return None

    def score(entry: DropSettings) -> FloatArray:
        assert entry.by is not None, "a score has a name"
        found = find_score(entry.by, config.specs)
        return -scores[found.spec.label] if found.turned else scores[found.spec.label]

    best = None
    if config.control == DROP_BEST:
        best = np.zeros(len(known.content), dtype=np.int64) if cells is None else cells.codes
    dropped = drop_rows(config.drop, score, known, domains, seed=config.seed or 0, best_of=best)
    if config.control != RANDOM_DROP:
        return dropped
    drawn = dropped_rows(config, dropped.mask, cells)
    reason = np.where(drawn, 0, -1).astype(np.int16)
    return Dropped((RANDOM_DROP,), reason, np.full(len(reason), -1, dtype=np.int32), dropped.notes)


def drop_rows(
    entries: Sequence[DropSettings],
    score: Callable[[DropSettings], FloatArray],
    known: Known,
    domains: Domains,
    *,
    seed: int,
    best_of: IntArray | RowArray | None = None,
) -> Dropped:
    """The rows that a recipe leaves out.

    Args:
        entries: of `drop:`, in their sequence.
        score: what each row is scored by an entry that goes by a metric, shape (N,).
        known: what rows can be compared and found by.
        domains: of the rows; half of each stays.
        seed: of the run: which rows go first where scores are equal.
        best_of: cells of the rows, shape (N,), where in the place of those that harmed as many of their cell go that
            helped most; None lets those go that harmed.

    Raises:
        DataError: a file of judged rows or of values that cannot be read, or is of other data; values that are noise.
    """
    n_rows = len(known.content)
    so_far = _Dropping(domains, np.full(n_rows, -1, dtype=np.int16), np.full(n_rows, -1, dtype=np.int32))
    for entry in entries:
        if entry.by == SUSPECTS:
            continue
        if entry.by == DUPLICATES:
            so_far.take(entry, _repeated(known, so_far, near=entry.near is not False))
        elif entry.by == JUDGED:
            so_far.take(entry, [(JUDGED, judged_wrong(str(entry.path), known, on=entry.on or ()))])
        elif entry.by == VALUE:
            values = read_values(str(entry.path), known, probe=entry.probe)
            best = None if best_of is None else (best_of, values.best_first)
            so_far.take(entry, [(entry.reason, values.harmful(entry.below or 0.0))], best)
            so_far.notes += values.notes()
        else:
            so_far.take(entry, [(entry.reason, worst_by_score(entry, score(entry), seed=seed))])
    instead = np.where(so_far.mask, so_far.instead, -1).astype(np.int32)
    return Dropped(tuple(so_far.reasons), so_far.reason, instead, tuple(so_far.notes))


def worst_by_score(entry: DropSettings, scores: FloatArray, *, seed: int) -> RowArray:
    """The rows that an entry's `lowest` or `below` names, the lowest score first, equal ones at random.

    Args:
        entry: that goes by a metric.
        scores: shape (N,).
        seed: for equal scores.
    """
    ascending = np.lexsort((hash_rows(np.arange(len(scores)), seed, _TIES), scores))
    if entry.lowest is not None:
        return ascending[: int(entry.lowest * len(scores) + 1e-9)].astype(np.int32)
    assert entry.below is not None, "an entry by a metric has one of the two"
    return ascending[: int((scores < entry.below).sum())].astype(np.int32)


def _repeated(known: Known, so_far: _Dropping, *, near: bool) -> list[tuple[str, RowArray]]:
    """Rows that repeat an earlier one of those that are left: equal ones first, then near ones."""
    left = np.flatnonzero(~so_far.mask).astype(np.int32)
    itself = np.arange(len(left), dtype=np.int32)
    if known.said is None:
        parts = [(EQUAL, first_of_each(known.content[left]))]
    else:
        texts, prompts = ([texts[row] for row in left.tolist()] for texts in (known.said.whole, known.said.prompts))
        found = duplicates(texts, prompts, near=near)
        parts = [(EQUAL, found.equal), (NEAR, found.near)]
    for _, of in parts:
        so_far.instead[left[of != itself]] = left[of[of != itself]]
    return [(why, left[of != itself]) for why, of in parts]


def _cut_by_bounds(entry: DropSettings, found: Bounded, domains: Domains) -> Iterator[str]:
    """What a bound has kept of the rows that an entry names."""
    stay = found.wanted - len(found.rows)
    if not stay:
        return
    why = []
    if found.by_domain:
        names = [f"{domains.names[code]} {n}" if domains.names else f"{n}" for code, n in found.by_domain.items()]
        whose = "of their domain" if domains.names else "of the set"
        why.append(f"half {whose} would be gone ({listed(names, 5)})")
    if found.by_share:
        why.append(f"at_most: {entry.bound:g} of all rows are dropped ({found.by_share})")
    yield (
        f"`drop: {entry.reason}` names {found.wanted} rows and drops {len(found.rows)}: {stay} stay, for "
        f"{' and '.join(why)}."
    )
