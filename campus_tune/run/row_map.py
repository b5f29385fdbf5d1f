"""The map of a set of rows, once everything about them is known: its table, its sentence, its line in the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from campus_tune.data.domains import Domains
from campus_tune.data.said_hashes import SaidHashes
from campus_tune.method.cells import Cells
from campus_tune.method.dirt import LEAST_ROWS, Dirt
from campus_tune.method.learning import REGIONS, Learning, flagged
from campus_tune.method.suspicion import Suspicion
from campus_tune.preview.earned_advice import span
from campus_tune.run.book_keeping import FOLDER
from campus_tune.words.types import BoolArray, FloatArray, IntArray, Json
from campus_tune.words.wording import listed

Basis: TypeAlias = Literal["training", "forward", "two forwards"]  # what a map is made of

FILE, LIKELIEST = f"{FOLDER}/map.parquet", f"{FOLDER}/likeliest.jsonl"  # in the run's `curriculum/`
SHOWN = f"{FOLDER}/shown.jsonl"  # texts of the rows that a page lists
SAMPLE = 2000  # of these rows
SHORT = 240  # characters of a prompt or an answer there
NOT_KNOWN = -1  # the region of a row that one forward was asked about: without visits there is none
NOTHING = "nothing to see: no row stands out from its kind"
ALL_ROWS = "all rows"  # where a run has no domains
DIGITS = 4  # of numbers in files for people
MOST_DOMAINS = 3  # that a sentence names


def sample_of(rows: IntArray, content: NDArray[np.uint64], suspect: BoolArray) -> IntArray:
    """`SAMPLE` of the rows: all suspects where these are at most half of it, else half of it, and others.

    They are picked by the hash of their content: it has nothing to do with what a row is like, and in the next run of
    the same data the same rows are shown.

    Args:
        rows: that are picked from.
        content: hashes of all rows, shape (N,).
        suspect: shape (N,).
    """
    by_hash = rows[np.argsort(content[rows], kind="stable")]
    wrong, others = by_hash[suspect[by_hash]], by_hash[~suspect[by_hash]]
    wrong = wrong[: max(SAMPLE // 2, SAMPLE - len(others))]
    return np.concatenate([others[: SAMPLE - len(wrong)], wrong])


def looks_wrong(n: int, n_rows: int, most: tuple[str, int] | None, *, whose: str = "") -> str:
    """How many rows are suspects, in one line.

    Args:
        n: suspects.
        n_rows: rows that were looked at.
        most: the domain with most of them, and how many; None leaves it out.
        whose: behind the rows, where these are not all.
    """
    if not n:
        return NOTHING
    of, where = "the " if whose else "", "" if most is None else f"; most in {most[0]}: {most[1]}"
    return f"{n} of {of}{n_rows} rows{whose} {'looks' if n == 1 else 'look'} wrong ({n / n_rows:.1%}{where})"


def estimated(dirt: Dirt | None) -> str:
    """How many are wrong, behind what stands out; "" where none are to be seen, or nothing tells.

    >>> estimated(Dirt(90, 0.1, 0.08, 0.12, {"code": Dirt(50, 0.15, 0.12, 0.19), "math": Dirt(40, 0.0, 0.0, 0.04)}))
    '; estimated wrong: 8 to 12 %, of `code` 12 to 19 %'
    """
    if dirt is None or not dirt.seen:
        return ""
    dirtiest = sorted((one for one in dirt.by_domain.items() if one[1].seen), key=lambda one: -one[1].low)
    each = [f"of `{name}` {span(one)}" for name, one in dirtiest]
    return f"; estimated wrong: {span(dirt)}{', ' if each else ''}{listed(each, MOST_DOMAINS)}"


def interval_words(dirt: Dirt, domain: str) -> str:
    """How many of a domain are wrong, for a table; a domain of few rows was not asked about, nor are few rows at all.

    >>> dirt = Dirt(90, 0.1, 0.08, 0.12, {"code": Dirt(50, 0.15, 0.12, 0.19), "math": Dirt(50, 0.0, 0.0, 0.04)})
    >>> [interval_words(dirt, domain) for domain in ("code", "math", "law", "all rows")]
    ['12 to 19 %', 'none to be seen, 4 % at most', '-', '8 to 12 %']
    """
    found = dirt if domain == ALL_ROWS else dirt.by_domain.get(domain)
    if found is None or found.rows < LEAST_ROWS:
        return "-"
    return span(found) if found.seen else f"none to be seen, {100 * found.high:.2g} % at most"


@dataclass(frozen=True, eq=False)
class RowMap:
    """What is known of each row.

    Args:
        basis: the losses come from training, or from forwards of their own.
        content: 64-bit hashes of the rows' tokens, shape (N,).
        learning: what visits say, or a forward as if it had been one.
        suspicion: how likely each row is wrong.
        domains: of the rows.
        cells: inside which they were compared.
        said: what they say, as hashes.
        dirt: how many of them are wrong; None where nothing tells.
    """

    basis: Basis
    content: NDArray[np.uint64]
    learning: Learning
    suspicion: Suspicion
    domains: Domains
    cells: Cells
    said: SaidHashes
    dirt: Dirt | None = None

    def columns(self) -> Mapping[str, Any]:
        """The table, a line for each row: numpy's or arrow's columns, null where nothing is known."""
        import pyarrow as pa

        seen, trained = self.learning.seen, self.basis == "training"
        domain = {} if self.domains.codes is None else {"domain": _words(self.domains.codes, self.domains.names)}
        facts: dict[str, Any] = {
            name: _floats(getattr(self.learning, name), seen & (trained or not name.startswith(("first", "last"))))
            for name in ("first_loss", "last_loss", "mean_loss", "mean_probability", "lowest_probability")
        }
        steps = {name: getattr(self.learning, name) for name in ("first_step", "last_step")}
        return {
            "row": np.arange(len(seen), dtype=np.int32),
            "content": self.content,
            "key": pa.array(self.said.hex_keys()),
            **domain,
            "cell": _words(self.cells.codes, self.cells.names),
            "region": _words(self.regions, REGIONS),
            "visits": pa.array(self.learning.visits, mask=seen & (not trained)),
            **{name: pa.array(values, mask=~seen | (not trained)) for name, values in steps.items()},
            **facts,
            "excess": _floats(self.suspicion.score),
            "spread": _floats(self.suspicion.spread),
            "suspect": self.suspicion.suspects,
            "contradicting": self.said.contradicting,
            "duplicate_of": pa.array(self.said.duplicate_of, mask=self.said.duplicate_of < 0),
        }

    @property
    def regions(self) -> NDArray[np.int8]:
        """Of each row a place in `REGIONS`, or `NOT_KNOWN`, shape (N,)."""
        free = self.learning.regions(self.cells.codes)
        if self.basis != "training":
            free[self.learning.seen] = NOT_KNOWN
        return flagged(
            free,
            duplicate=self.said.duplicate_of >= 0,
            contradicting=self.said.contradicting,
            suspect=self.suspicion.suspects,
        )

    @property
    def n_judged(self) -> int:
        """Rows that have a score."""
        return int(np.isfinite(self.suspicion.score).sum())

    @property
    def shown(self) -> IntArray:
        """Numbers of the rows that a page lists, at most `SAMPLE`, shape (n,); those with a score first."""
        scored = np.isfinite(self.suspicion.score)
        rows = sample_of(np.flatnonzero(scored), self.content, self.suspicion.suspects)
        return np.concatenate([rows, np.flatnonzero(~scored)])[:SAMPLE]

    @property
    def suspects_by_domain(self) -> dict[str, int]:
        """Suspects of each domain; {} without domains."""
        if self.domains.codes is None:
            return {}
        counts = np.bincount(self.domains.codes[self.suspicion.suspects], minlength=len(self.domains.names))
        return dict(zip(self.domains.names, counts.tolist(), strict=True))

    def sentence(self) -> str:
        """What the map shows, in one line."""
        n, judged, by_domain = int(self.suspicion.suspects.sum()), self.n_judged, self.suspects_by_domain
        whose = "" if judged == len(self.content) else " that were seen"
        most = max(by_domain.items(), key=lambda pair: pair[1]) if len(by_domain) > 1 and n > 1 else None
        return looks_wrong(n, judged, most, whose=whose) + estimated(self.dirt)

    def about(self) -> Json:
        """What the table's metadata holds."""
        n = int(self.suspicion.suspects.sum())
        return {
            "basis": self.basis,
            "threshold": self.suspicion.threshold,
            "n_suspects": n,
            "sentence": self.sentence(),
            "dirt": None if self.dirt is None else self.dirt.to_mapping(),
        }

    def record(self) -> Json:
        """What the ledger's line holds."""
        about, sizes = self.about(), self.domains.sizes()
        counts = np.bincount(self.regions + 1, minlength=len(REGIONS) + 1)[1:]
        by_domain = {name: {"rows": sizes[name], "suspects": n} for name, n in self.suspects_by_domain.items()}
        return {
            "basis": self.basis,
            "rows": len(self.content),
            "regions": dict(zip(REGIONS, counts.tolist(), strict=True)),
            "suspects": about["n_suspects"],
            "share_of_suspects": about["n_suspects"] / max(1, self.n_judged),
            "by_domain": by_domain,
            "threshold": about["threshold"],
            "sentence": about["sentence"],
            "dirt": about["dirt"],
        }

    def line(self, row: int) -> Json:
        """What a list for people says of one row; its text is not known here."""
        domain = {} if self.domains.codes is None else {"domain": self.domains.names[int(self.domains.codes[row])]}
        learning = self.learning
        numbers = {
            "excess": self.suspicion.score[row],
            "spread": self.suspicion.spread[row],
            "visits": int(learning.visits[row]) if self.basis == "training" else None,
            "mean_loss": learning.mean_loss[row],
            "lowest_probability": learning.lowest_probability[row],
        }
        rounded = {name: round(float(x), DIGITS) if isinstance(x, float) else x for name, x in numbers.items()}
        return {"row": row, "key": f"{int(self.said.keys[row]):016x}", **domain, **rounded}


def _floats(values: FloatArray, known: BoolArray | None = None) -> Any:
    """A column of float32, null where a value is NaN or nothing is known."""
    import pyarrow as pa

    return pa.array(values.astype(np.float32), mask=np.isnan(values) | (False if known is None else ~known))


def _words(codes: NDArray[Any], names: Any) -> Any:
    """A column of few different words, null where a code is below 0."""
    import pyarrow as pa

    places = codes.astype(np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(places, mask=places < 0), list(names))
