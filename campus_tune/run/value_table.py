"""What a run's values say, once they are folded: the table of its rows, the transfer between domains, a line for each.

curriculum/value/values.parquet    a line for each row; its metadata has the reliabilities, which `drop: value` reads
curriculum/value/transfer.json     what domains do to each other
curriculum/value/extremes.jsonl    the ten rows that helped the probes most, and the ten that harmed them most
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.data.domains import Domains
from campus_tune.method.value import ALL, LEVEL, Half, Reliability, RowValues, Transfer, transfer_of
from campus_tune.run.stage_visits import FOLDER
from campus_tune.scores.known_values import LEAST_RELIABLE
from campus_tune.words.hashing import hex_keys
from campus_tune.words.types import FloatArray, IntArray, Json
from campus_tune.words.wording import cut

VALUES, TRANSFER, EXTREMES = (f"{FOLDER}/{name}" for name in ("values.parquet", "transfer.json", "extremes.jsonl"))
ALL_ROWS = "all rows"  # the one domain of rows that have none
N_EXTREMES = 10
HELPFUL, HARMFUL = "helpful", "harmful"  # sides of the list
AGREE, IN_PART = 0.8, 0.5  # reliabilities, from which on halves are said to agree
LONGEST = 40  # characters of a domain's name in a sentence


def agreement(reliability: float | None) -> str:
    """How well the halves of the probes agree, in words.

    >>> agreement(0.85), agreement(0.4), agreement(None)
    ('agree well on the rows', 'agree weakly on the rows: single ones are hardly told apart', 'cannot be compared')
    """
    if reliability is None or reliability != reliability:
        return "cannot be compared"
    if reliability >= AGREE:
        return "agree well on the rows"
    if reliability >= IN_PART:
        return "agree in part on the rows: trust many of them rather than one"
    if reliability >= LEAST_RELIABLE:
        return "agree weakly on the rows: single ones are hardly told apart"
    return "do not agree on the rows: what is said of single ones is mostly chance"


@dataclass(frozen=True, eq=False)
class ValueTable:
    """What is known of the value of each row.

    Args:
        values: of the rows.
        domains: of the rows.
        content: 64-bit hashes of the rows' tokens, shape (N,).
        keys: hashes of what they say, shape (N,).
        seed: of the intervals.
        left_out: stages that were valued by other probes, or otherwise.
        at_start: all by gradients of the probes that were measured once, before the first step.
    """

    values: RowValues
    domains: Domains
    content: NDArray[np.uint64]
    keys: NDArray[np.uint64]
    seed: int = 0
    left_out: int = 0
    at_start: bool = False

    @property
    def codes(self) -> IntArray:
        """The domain of each row, a place among the names, shape (N,)."""
        return np.zeros(len(self.content), dtype=np.int64) if self.domains.codes is None else self.domains.codes

    @property
    def names(self) -> tuple[str, ...]:
        """Of the domains."""
        return (ALL_ROWS,) if self.domains.codes is None else tuple(self.domains.names)

    @cached_property
    def transfer(self) -> Transfer:
        """What domains do to each other."""
        return transfer_of(self.values, self.codes, self.names, seed=self.seed)

    @cached_property
    def reliabilities(self) -> Mapping[str, Reliability]:
        """Of each probe domain, and of all."""
        return {name: self.values.reliability(name, self.codes) for name in (ALL, *self.values.probes)}

    @property
    def n_harmful(self) -> int:
        """Rows that harm the probes altogether."""
        return int(self.values.harmful().sum())

    def columns(self) -> dict[str, Any]:
        """The table, a line for each row: numpy's or arrow's columns, null where a row has no value."""
        import pyarrow as pa

        values, known = self.values, self.values.valued
        domain = {}
        if self.domains.codes is not None:
            codes = pa.array(self.domains.codes.astype(np.int32))
            domain["domain"] = pa.DictionaryArray.from_arrays(codes, list(self.domains.names))

        def of(probe: str, behind: str) -> dict[str, Any]:
            halves: dict[str, Half] = {"value": "", "a": "a", "b": "b"}
            numbers = {name: values.of(probe, half).astype(np.float32) for name, half in halves.items()}
            found = {f"{name}{behind}": pa.array(column, mask=~known) for name, column in numbers.items()}
            return {**found, f"negative{behind}": values.negative_visits(probe).astype(np.int32)}

        by_probe = [of(probe, f" {probe}") for probe in values.probes]
        return {
            "row": np.arange(len(known), dtype=np.int32),
            "content": self.content,
            "key": pa.array(hex_keys(self.keys)),
            **domain,
            "visits": values.visits.astype(np.int32),
            "unweighted": values.unweighted.astype(np.int32),
            "tokens": values.tokens,
            **of(ALL, ""),
            **{name: column for columns in by_probe for name, column in columns.items()},
        }

    def about(self) -> Json:
        """What the table's metadata holds."""
        return {
            "probes": list(self.values.probes),
            "split_half": {
                name: {part: _number(number) for part, number in vars(one).items()}
                for name, one in self.reliabilities.items()
            },
            "sentence": self.sentence(),
        }

    def told_transfer(self) -> Json:
        """What the file of the transfer holds: a row of each matrix is a trained domain, a column a probe domain."""
        found = self.transfer
        matrices = {name: _matrix(getattr(found, name)) for name in ("mean", "low", "high", "a", "b")}
        return {
            "domains": list(found.domains),
            "probes": list(found.probes),
            **matrices,
            "clear": found.clear.tolist(),
            "visits": found.visits.tolist(),
            "rows": found.rows.tolist(),
            "tokens": [_number(tokens) for tokens in found.tokens],
            "level": LEVEL,
            "split_half": self.about()["split_half"],
        }

    def record(self) -> Json:
        """What the ledger's line holds."""
        found, split_half = self.transfer, self.reliabilities
        n = int(self.values.valued.sum())
        return {
            "rows": n,
            "negative": self.n_harmful,
            "not_valued": len(self.content) - n,
            "split_half": _number(split_half[ALL].value),
            "split_half_by_probe": {name: _number(split_half[name].value) for name in found.probes},
            "transfer": {
                domain: dict(zip(found.probes, row, strict=True))
                for domain, row in zip(found.domains, _matrix(found.mean), strict=True)
            },
            "sentence": self.sentence(),
        }

    def sentence(self) -> str:
        """What the values show, in one line."""
        n, harmful, whole = int(self.values.valued.sum()), self.n_harmful, self.reliabilities[ALL]
        said = f"{harmful} of {n} rows {'harms' if harmful == 1 else 'harm'} the probes"
        value = "" if np.isnan(whole.value) else f" (split-half {whole.value:.2f})"
        once = "; by gradients measured once, before training: by what the model lacked then" if self.at_start else ""
        return f"{said}; halves of the probes {agreement(whole.value)}{value}{self._most()}{once}{self._left_out()}"

    def _left_out(self) -> str:
        if not self.left_out:
            return ""
        stages = "1 stage that was" if self.left_out == 1 else f"{self.left_out} stages that were"
        return f"; {stages} valued before by other probes, or otherwise, left out"

    def _most(self) -> str:
        """The domain that helps another most, and the one that harms another most, of those that are clear."""
        found, parts = self.transfer, []
        for word, sign in (("helps", 1), ("harms", -1)):
            other = np.array([[domain != probe for probe in found.probes] for domain in found.domains])
            strength = np.where(found.clear & other, sign * found.mean, -np.inf)
            if strength.size and strength.max() > 0:
                d, e = np.unravel_index(strength.argmax(), strength.shape)
                parts.append(f"{cut(found.domains[d], LONGEST)} {word} {cut(found.probes[e], LONGEST)} most")
        return f"; {', '.join(parts)}" if parts else ""

    def extremes(self) -> list[tuple[str, int]]:
        """(Side, row) of those that helped the probes most and of those that harmed them most, the furthest first."""
        value = self.values.of()
        order = np.argsort(np.where(np.isnan(value), 0.0, value), kind="stable")
        harmful = [(HARMFUL, int(row)) for row in order[:N_EXTREMES] if value[row] < 0]
        helpful = [(HELPFUL, int(row)) for row in order[::-1][:N_EXTREMES] if value[row] > 0]
        return [*helpful, *harmful]

    def line(self, side: str, row: int) -> Json:
        """What a list for people says of one row; its text is not known here."""
        values = self.values
        domain = {} if self.domains.codes is None else {"domain": self.names[int(self.codes[row])]}
        return {
            "side": side,
            "row": row,
            "key": f"{int(self.keys[row]):016x}",
            **domain,
            "value": float(values.of()[row]),
            "halves": [float(values.of(ALL, half)[row]) for half in ("a", "b")],
            "by_probe": {probe: float(values.of(probe)[row]) for probe in values.probes},
            "visits": int(values.visits[row]),
            "negative": int(values.negative_visits()[row]),
        }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _matrix(values: FloatArray) -> list[list[float | None]]:
    return [[_number(value) for value in row] for row in values]
