"""Values of the rows of one stage, each time one was trained, gathered from all ranks, and written when it is over.

    curriculum/value/stage-00003.parquet  a line for each visit: row, tokens (of its answer), rate (learning rate of its
                                          step), step_tokens (answer tokens of its step), and for each domain e of the
                                          probes `a e` and `b e`: its value by either half of e's rows; in the
                                          metadata `by`, by what: values add up with others by the same

A value is ⟨∇ of the sum of the row's token losses, ∇ of e's mean loss⟩: what the row's gradient along the probes', per
answer token of the step times the rate, takes off e's loss. NaN where the row's weight was 0 or its gradient no number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from campus_tune.model.peers import Peers
from campus_tune.scores.cache import write_columns
from campus_tune.words.arrays import pack, unpack
from campus_tune.words.types import FloatArray, IntArray, Json

if TYPE_CHECKING:
    from campus_tune.run.stream.watch import Harvest

FOLDER = "value"  # in the run's `curriculum/`


@dataclass(frozen=True, eq=False)
class _Visits:
    """n visits of rows.

    Args:
        rows: of the plan, shape (n,).
        steps: of the optimizer, from 1, shape (n,).
        tokens: answer tokens of each, shape (n,).
        sums: what its gradient says, weight and part in the step divided out, shape (n, K).
    """

    rows: IntArray
    steps: IntArray
    tokens: IntArray
    sums: NDArray[np.float32]

    @staticmethod
    def none(n_groups: int) -> _Visits:
        """No visit yet."""
        whole = np.zeros(0, dtype=np.int64)
        return _Visits(whole, whole, whole, np.zeros((0, n_groups), dtype=np.float32))

    @staticmethod
    def join(parts: Sequence[_Visits]) -> _Visits:
        """Several behind one another."""
        return _Visits(*(np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])))

    def take(self, idx: IntArray) -> _Visits:
        """Some of them."""
        return _Visits(*(values[idx] for values in vars(self).values()))


class StageVisits:
    """Values of the rows that the current stage has trained so far.

    What this rank has trained since the last `share` is its own; what was before is known to all, by step and row.

    Args:
        groups: of probe rows, by whose gradients rows are valued.
        by: what these gradients are: which rows, and what became of them. Other values do not add up with these.
    """

    def __init__(self, groups: Sequence[str], by: str = "") -> None:
        self.groups, self.by = tuple(groups), by
        self.forget()

    def forget(self) -> None:
        """Begin a stage."""
        self._shared = self._own = _Visits.none(len(self.groups))
        self._steps: dict[int, tuple[float, int]] = {}  # step → learning rate, answer tokens

    def note_step(self, step: int, rate: float, answer_tokens: int) -> None:
        """A step has ended.

        Args:
            step: from 1.
            rate: its learning rate.
            answer_tokens: of its rows on all ranks.
        """
        self._steps[step] = (rate, answer_tokens)

    def add(self, harvest: Harvest) -> None:
        """Rows that this rank has trained: what `Watch.harvest` gives."""
        if harvest.values is None or harvest.steps is None:
            return
        parts = np.array([self._steps[step][1] for step in harvest.steps.tolist()], dtype=np.float64)
        weights = np.ones(len(parts)) if harvest.weights is None else harvest.weights
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            sums = (harvest.values * (parts / weights)[:, None]).astype(np.float32)
        sums[~np.isfinite(sums).all(1)] = np.nan  # also of a weight of 0
        rows, steps = (np.asarray(one, dtype=np.int64) for one in (harvest.rows, harvest.steps))
        tokens = np.asarray(harvest.losses.tokens, dtype=np.int64)
        self._own = _Visits.join([self._own, _Visits(rows, steps, tokens, sums)])

    def share(self, peers: Peers) -> None:
        """Put the rows of all ranks together; every rank calls it."""
        found = _Visits.join(peers.gather(self._own))
        in_sequence = np.lexsort((found.rows, found.steps))
        self._shared = _Visits.join([self._shared, found.take(in_sequence)])
        self._own = _Visits.none(len(self.groups))

    def counts(self) -> Json:
        """Visits, and how many of them have no value."""
        return {"visits": len(self._shared.rows), "not_valued": int(np.isnan(self._shared.sums).any(1).sum())}

    def write(self, path: Path) -> None:
        """Leave the stage behind, if any of it was valued."""
        shared = self._shared
        if not len(shared.rows):
            return
        rates, tokens = zip(*(self._steps[step] for step in shared.steps.tolist()), strict=True)
        columns: dict[str, NDArray[np.generic]] = {
            "row": shared.rows.astype(np.int32),
            "tokens": shared.tokens.astype(np.int32),
            "rate": np.array(rates, dtype=np.float64),
            "step_tokens": np.array(tokens, dtype=np.int64),
        }
        write_columns(path, {**columns, **dict(zip(self.groups, shared.sums.T, strict=True))}, {"by": self.by})

    def state(self) -> Json:
        """What was shared, as JSON."""
        shared = self._shared
        numbers: dict[str, NDArray[np.generic]] = {name: getattr(shared, name) for name in ("rows", "steps", "tokens")}
        rates: FloatArray = np.array([rate for rate, _ in self._steps.values()], dtype=np.float64)
        return {
            "groups": list(self.groups),
            "by": self.by,
            **{name: pack(values) for name, values in numbers.items()},
            "sums": pack(shared.sums.ravel()),
            "trained": pack(np.array(list(self._steps), dtype=np.int64)),
            "rates": pack(rates),
            "step_tokens": pack(np.array([tokens for _, tokens in self._steps.values()], dtype=np.int64)),
        }

    def goes_on(self, state: Json) -> bool:
        """Whether a state is of values that add up with these."""
        return tuple(state["groups"]) == self.groups and state["by"] == self.by

    def load(self, state: Json) -> None:
        """Go on from `state()`, if its values add up with these."""
        self.forget()
        if not self.goes_on(state):
            return
        rows = unpack(state["rows"], "i")
        n, k = len(rows), len(self.groups)
        steps, tokens = (unpack(state[name], "i", n) for name in ("steps", "tokens"))
        self._shared = _Visits(rows, steps, tokens, unpack(state["sums"], "f", n * k).reshape(n, k))
        trained = unpack(state["trained"], "i")
        known = (unpack(state["rates"], "f", len(trained)), unpack(state["step_tokens"], "i", len(trained)))
        for step, rate, answer_tokens in zip(trained.tolist(), *(one.tolist() for one in known), strict=True):
            self.note_step(step, rate, answer_tokens)
