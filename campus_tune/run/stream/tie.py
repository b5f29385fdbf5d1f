"""Which planned rows each forward of a step was given: the comparison behind the order audit.

Micro batch by micro batch, in the sequence of the plan, rows by what they are and not by where they stand: a collator
may sort the rows of its batch, or pad them on the other side. Rows that cannot be told apart (the same tokens, the same
labels) are the same row to a model. What does not fit raises, with the rows by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray

from campus_tune.data.prepared import TokenRows
from campus_tune.data.token_hashes import with_labels
from campus_tune.model.row_sums import KeptTokens
from campus_tune.run.stream.shown import Planned, ShownBatch, ShownRows
from campus_tune.run.stream.value import ForwardValues
from campus_tune.run.stream.weighed import Weighed
from campus_tune.words.errors import AuditError
from campus_tune.words.types import IntArray
from campus_tune.words.wording import listed

SHOWN = 8  # rows that a message names
_NONE = Planned(np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64))


@dataclass
class Forward:
    """One forward of the model in training mode, or in another one if a gradient came back to it.

    Args:
        shown: what it was given.
        tokens: what it shows of their losses; None where it shows none.
        device: where it was computed.
        trains: gradients were on.
        began: when, counted in forwards and backwards.
        backwards: how often a gradient came back to it.
        backward_at: when it did last, counted the same.
        numbers: what `LossAudit` notes of it, by name; tensors on the device, numbers where that is a CPU.
        listens: whether anything tells of the gradient of its loss.
        reached: whether a gradient came back to any of its outputs; None where nothing would tell.
        weighed: how its gradient is weighted; None without weights.
        values: what its gradient says of its rows; None where nobody asks.
    """

    shown: ShownBatch
    tokens: KeptTokens | None
    device: torch.device
    trains: bool
    began: int
    backwards: int = 0
    backward_at: int = 0
    listens: bool = False
    reached: bool | None = None
    numbers: dict[str, torch.Tensor | float] = field(default_factory=dict)
    weighed: Weighed | None = None
    values: ForwardValues | None = None


@dataclass(frozen=True)
class Match:
    """A micro batch and the forward that trained it.

    Args:
        rows: of the plan, shape (n,); complements are filling rows.
        places: of these rows in the sums of `tokens`, shape (n,).
        tokens: their losses; None where no forward showed them.
        labelled: labels reached the model and were compared.
        forward: its number in the step.
        answers: tokens that carry loss, as planned.
        late: first tokens that do, as `ShownBatch` has them; of rows stored with their padding they are planned.
    """

    rows: IntArray
    places: IntArray
    tokens: KeptTokens | None
    labelled: bool
    forward: int
    answers: int
    late: int = 0

    @property
    def as_planned(self) -> bool:
        """Its tokens that carry loss are known to be as many as planned."""
        return self.labelled and not self.late


def tie(
    batches: Sequence[Sequence[int]],
    forwards: Sequence[Forward],
    planned: TokenRows,
    *,
    together: bool = True,
    again: bool = True,
) -> list[Match]:
    """The forward of each micro batch. One that no gradient came back to (a callback's question) has trained nothing.

    Args:
        batches: row positions of each micro batch of a step on this rank; complements are filling rows.
        forwards: of the step, in their sequence.
        planned: all rows.
        together: a micro batch may go through the model several times before its gradient comes back (R-Drop).
        again: it may also be trained again after that.

    Raises:
        AuditError: other rows, other labels, another number of forwards.
    """
    matches = _in_sequence(batches, forwards, planned)
    if matches is not None:
        return matches
    reached = [number for number, forward in enumerate(forwards) if forward.reached is not False]
    if len(reached) < len(forwards):
        try:
            return _tie(batches, forwards, planned, reached, together=together, again=again)
        except AuditError:
            pass  # the gradient of a planned row may have been left out: said of all forwards
    return _tie(batches, forwards, planned, range(len(forwards)), together=together, again=again)


def _in_sequence(
    batches: Sequence[Sequence[int]], forwards: Sequence[Forward], planned: TokenRows
) -> list[Match] | None:
    """The same where every row stands in its planned place, as nearly always; None where one does not, or may not."""
    wanted = [row for batch in batches for row in batch]
    plain = len(forwards) == len(batches) and min(wanted, default=-1) >= 0
    if not plain or not all(one.trains and one.reached is not False and one.shown.labelled for one in forwards):
        return None
    if any(one.shown.layout == "open" for one in forwards):
        return None
    rows, given = np.array(wanted), [one.shown.rows(_NONE) for one in forwards]
    sizes = [len(batch) for batch in batches]
    if (
        [len(one.tokens) for one in given] != sizes
        or [hash_ for one in given for hash_ in one.tokens] != planned.shown[rows].tolist()
        or [hash_ for one in given for hash_ in one.labels] != planned.shown_labels[rows].tolist()
    ):
        return None
    ends, answers = list(accumulate(sizes)), planned.answer_tokens[rows].tolist()
    return [
        Match(
            rows[end - size : end],
            np.array(one.place),
            forward.tokens,
            labelled=True,
            forward=number,
            answers=sum(answers[end - size : end]),
            late=forward.shown.late,
        )
        for number, (forward, one, size, end) in enumerate(zip(forwards, given, sizes, ends, strict=True))
    ]


def _tie(
    batches: Sequence[Sequence[int]],
    forwards: Sequence[Forward],
    planned: TokenRows,
    numbers: Sequence[int],
    *,
    together: bool,
    again: bool,
) -> list[Match]:
    """The same of the forwards of these numbers."""
    matches: list[Match] = []
    several = together and len(numbers) > len(batches)
    for number in numbers:
        forward = forwards[number]
        last = matches[-1] if matches else None
        if not forward.trains:
            if last is not None and not last.labelled:
                matches[-1] = _with_labels(last, forward, planned)
            continue
        rows = np.array(batches[len(matches)] if len(matches) < len(batches) else [], dtype=np.int64)
        places = _places(rows, forward.shown, planned)
        came_back = 0 if last is None else forwards[last.forward].backward_at
        # Both made before the gradient of the first came back: of one micro batch, whose loss needs two.
        was_open = several and came_back > forward.began
        if was_open and last is not None and _places(last.rows, forward.shown, planned) is not None:
            continue  # the next micro batch may look like this one
        if places is not None:
            shown, answers = forward.shown, _answers(rows, planned)
            matches.append(Match(rows, places, forward.tokens, shown.labelled, number, answers, shown.late))
        elif last is None or _places(last.rows, forward.shown, planned) is None:
            raise AuditError(_other_rows(batches, forwards, planned))
        elif not again and (not together or 0 < came_back < forward.began):
            raise AuditError(
                f"the rows {listed(last.rows.tolist(), SHOWN)} were planned once in this step but the model trained on "
                "them again; something repeats a batch. Remove what calls the model or training_step a second time; a "
                "loss that needs two forwards belongs into a compute_loss of a trainer class of your own."
            )
    if len(matches) < len(batches):
        raise AuditError(_other_rows(batches, forwards, planned))
    return matches


def _places(rows: IntArray, shown: ShownBatch, planned: TokenRows) -> IntArray | None:
    """Where each of `rows` stands in a forward's batch; None if these are not its rows."""
    if not len(rows):
        return None
    given = _rows_of(shown, rows, planned)
    theirs = given.keys(labelled=shown.labelled)
    ours = _expected(rows, planned, labelled=shown.labelled)
    our_order, their_order = np.argsort(ours, kind="stable"), np.argsort(theirs, kind="stable")
    if not np.array_equal(ours[our_order], theirs[their_order]):
        return None
    places = np.empty(len(rows), dtype=np.int64)
    places[our_order] = np.array(given.place)[their_order]
    return places


def _rows_of(shown: ShownBatch, rows: IntArray, planned: TokenRows) -> ShownRows:
    return shown.rows(planned_rows(rows, planned))


def planned_rows(rows: IntArray, planned: TokenRows) -> Planned:
    """What is known of some rows; filling rows, complements, carry no loss."""
    ids = np.maximum(rows, ~rows)
    return Planned(planned.shown[ids], _labels(rows, planned), planned.tokens[ids] - planned.padding[ids])


def _answers(rows: IntArray, planned: TokenRows) -> int:
    return int(planned.answer_tokens[rows[rows >= 0]].sum())


def _expected(rows: IntArray, planned: TokenRows, *, labelled: bool) -> NDArray[np.uint64]:
    """The hashes that rows must have."""
    tokens = planned.shown[np.maximum(rows, ~rows)]
    return with_labels(tokens, _labels(rows, planned)) if labelled else tokens


def _labels(rows: IntArray, planned: TokenRows) -> NDArray[np.uint64]:
    """The hashes of labels that they must have; filling rows carry no loss."""
    return np.where(rows >= 0, planned.shown_labels[np.maximum(rows, ~rows)], np.uint64(0))


def _with_labels(last: Match, forward: Forward, planned: TokenRows) -> Match:
    """With what a forward without gradients, asked for trl's metrics, shows of one that was given no labels.

    Raises:
        AuditError: the same rows, with other labels than planned.
    """
    given = _rows_of(forward.shown, last.rows, planned)
    if not np.array_equal(np.sort(given.keys(labelled=False)), np.sort(_expected(last.rows, planned, labelled=False))):
        return last  # somebody else's question
    places = _places(last.rows, forward.shown, planned)
    if places is None:
        raise AuditError(_other_labels(last.rows))
    return replace(last, places=places, tokens=forward.tokens, labelled=True, late=forward.shown.late)


def _other_rows(batches: Sequence[Sequence[int]], forwards: Sequence[Forward], planned: TokenRows) -> str:
    """What was trained instead, for a person."""
    wanted = np.array([row for batch in batches for row in batch], dtype=np.int64)
    ours_named = listed(sorted(np.maximum(wanted, ~wanted).tolist()), SHOWN)
    given = [_rows_of(forward.shown, wanted, planned) for forward in forwards if forward.trains]
    tokens = np.concatenate([np.zeros(0, dtype=np.uint64), *(rows.keys(labelled=False) for rows in given)])
    ours = _expected(wanted, planned, labelled=False)
    if np.array_equal(np.sort(tokens), np.sort(ours)):
        labelled = np.concatenate([rows.keys(labelled=True) for rows in given])
        strange = _not_among(_expected(wanted, planned, labelled=True), labelled)
        if all(forward.shown.labelled for forward in forwards if forward.trains) and len(strange):
            return _other_labels(wanted[strange])
        return (
            f"the rows {ours_named} were trained in other micro batches than planned; something re-shuffles the data "
            "loader's batches inside the step. Remove whatever wraps trainer.get_train_dataloader after the "
            "CampusCallback was attached."
        )
    known = {int(value): row for row, value in enumerate(planned.shown)}
    rows = [known.get(int(value), -1) for value in tokens]
    named = [str(row) for row in sorted(rows) if row >= 0]
    if strangers := rows.count(-1):
        named.insert(0, f"{strangers} that are in no planned row")
    return (
        f"planned rows {ours_named} but the model trained on {listed(named, SHOWN) if named else 'nothing'}; something "
        "replaced the data loader, re-shuffles it, or changed the dataset. Remove whatever sets or wraps "
        "trainer.get_train_dataloader or train_dataset after the CampusCallback was attached, and any collator that "
        "alters tokens, cuts rows or hides them by its mask."
    )


def _not_among(ours: NDArray[np.uint64], theirs: NDArray[np.uint64]) -> IntArray:
    """Places of the hashes of ours that are not, or not as often, among theirs."""
    left = {int(value): int(n) for value, n in zip(*np.unique(theirs, return_counts=True), strict=True)}
    missing = []
    for place, value in enumerate(ours.tolist()):
        left[value] = left.get(value, 0) - 1
        if left[value] < 0:
            missing.append(place)
    return np.array(missing, dtype=np.int64)


def _other_labels(rows: Iterable[int]) -> str:
    named = listed(sorted(max(row, ~row) for row in map(int, rows)), SHOWN)
    return (
        f"the planned rows {named} reached the model with other labels than planned: other tokens carry loss, or with "
        "another target. Remove the collator or wrapper that masks, unmasks or exchanges labels, or give the trainer "
        "the data set with these labels, so that they are planned."
    )
