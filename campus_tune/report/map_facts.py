"""What a run's data map says of its rows: how many lie in which region, who is a suspect, the likeliest wrong rows.

The map has a line for every row; the page has counts of them, and twenty rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.method import learning
from campus_tune.method.dirt import Dirt
from campus_tune.method.orders import group_codes
from campus_tune.report.map_shape import MANY, MapShape, shape_of
from campus_tune.report.row_list import RowList, in_short, listed, read_texts
from campus_tune.run.ledger_lines import MAYBE
from campus_tune.run.row_map import ALL_ROWS, FILE, LIKELIEST, SHOWN, sample_of
from campus_tune.run.told import earned_words
from campus_tune.scores.cache import read_columns
from campus_tune.words.errors import DataError, ResumeError
from campus_tune.words.files import read_jsonl
from campus_tune.words.json_shapes import misshapen
from campus_tune.words.types import BoolArray, IntArray, Json

NEEDED = ("content", "region", "excess", "spread", "suspect", "contradicting", "duplicate_of")
SUSPECT, OTHERS = "suspect", "others"  # the latter: rows without a region, for a forward says nothing of learning
# in the sequence of the page; one that a later version knows besides comes after them
REGIONS = (*(name for name in learning.REGIONS if name != SUSPECT), OTHERS, SUSPECT)
OPTIONAL_TEXT = ("domain?", "prompt?", "answer?", "text?", "said?", "rather?", "before?")
OPTIONAL_NUMBER = ("excess?", "spread?", "visits?", "mean_loss?", "lowest_probability?", "rather_probability?")
LIKELY: dict[Any, Any] = {
    "row": int,
    **dict.fromkeys(OPTIONAL_TEXT, (str, None)),
    **dict.fromkeys(OPTIONAL_NUMBER, MAYBE),
}


@dataclass(frozen=True)
class DomainRows:
    """The rows of a domain on the map.

    Args:
        rows: all of them.
        suspects: of them.
        regions: region → rows.
    """

    rows: int
    suspects: int
    regions: Mapping[str, int]


@dataclass(frozen=True)
class LikelyRow:
    """One of the rows that are likeliest wrong; what is not known of it is None or "".

    Args:
        row: its number in the prepared training set.
        domain: of it.
        suspect: whether the rule calls it one.
        contradicting: its prompt has another answer elsewhere.
        excess: the score.
        spread: of the score over the passes.
        visits: how often it was trained.
        mean_loss: of its answer, nats per token.
        lowest_probability: of a token of its answer, the mean over visits.
        prompt: cut.
        answer: cut.
        text: the whole row, cut, where prompt and answer cannot be told apart.
        said: the token of the answer of which the model was least sure.
        rather: the model's own most likely token there.
        rather_probability: of that token.
        before: the answer's last words before that place.
    """

    row: int
    domain: str
    suspect: bool
    contradicting: bool
    excess: float | None
    spread: float | None
    visits: int | None
    mean_loss: float | None
    lowest_probability: float | None
    prompt: str
    answer: str
    text: str
    said: str
    rather: str
    rather_probability: float | None
    before: str


@dataclass(frozen=True, eq=False)
class MapFacts:
    """What the page says of a run's rows.

    Args:
        basis: what the score was made from: `training`, `forward`, `two forwards`; `none` where there is no map.
        sentence: what the run says of its rows in a line, or why it has no map.
        threshold: the excess from which on a row is a suspect; None without a rule.
        n_rows: of the training set; 0 without a map.
        n_suspects: of them.
        n_contradicting: rows whose prompt has another answer elsewhere.
        n_duplicates: rows that repeat an earlier one.
        regions: names of those that have rows.
        domains: domain → its rows, the largest first; `ALL_ROWS` alone where there are no domains.
        shape: how they lie; None where no row has a score.
        likeliest: rows, the likeliest wrong first.
        dirt: how many are wrong; None where nothing tells.
        acted: what the run has done about wrong rows by itself, or why it has not; "" where its recipe leaves it.
        listed: the rows that can be searched; None without a map.
    """

    basis: str
    sentence: str
    threshold: float | None = None
    n_rows: int = 0
    n_suspects: int = 0
    n_contradicting: int = 0
    n_duplicates: int = 0
    regions: tuple[str, ...] = ()
    domains: Mapping[str, DomainRows] | None = None
    shape: MapShape | None = None
    likeliest: tuple[LikelyRow, ...] = ()
    dirt: Dirt | None = None
    acted: str = ""
    listed: RowList | None = None


def read_map(home: Path, lines: Sequence[Json], acts: Sequence[Json] = ()) -> MapFacts | None:
    """What a run's folder and its ledger say of its rows; None of a run without a map and a word about it.

    Args:
        home: folder of the ledger.
        lines: of the ledger that speak of a map; the last one counts.
        acts: of it that say what waited for a sign of wrong rows, and whether it acts; the last one counts.

    Raises:
        DataError: the map or the list of the likeliest rows is damaged, or of another version.
    """
    said: Json = lines[-1] if lines else {}
    path = home / FILE
    if not path.exists():
        if "why" in said:
            return MapFacts(said["basis"], f"There is no map of the rows: {said['why']}")
        return MapFacts("none", said["sentence"]) if "sentence" in said else None
    try:
        columns, about = read_columns(path)
        lacking = [name for name in NEEDED if name not in columns]
        if lacking:
            raise ValueError(f"no column `{lacking[0]}`")
        threshold = about.get("threshold")
        regions, codes = _regions(columns["region"])
        suspect = columns["suspect"].astype(bool)
        contradicting = columns["contradicting"].astype(bool)
        repeated = columns["duplicate_of"].astype(np.float64)
        shape = shape_of(columns, codes, suspect, threshold)
        likeliest = read_likeliest(home / LIKELIEST, {"suspect": suspect, "contradicting": contradicting})
        texts = {row.row: in_short(row.prompt, row.answer, row.text) for row in likeliest} | read_texts(home / SHOWN)
        return MapFacts(
            basis=str(about.get("basis", "training")),
            sentence=str(about.get("sentence") or f"{suspect.sum():,} of {len(suspect):,} rows are suspects"),
            threshold=None if threshold is None else float(threshold),
            n_rows=len(suspect),
            n_suspects=int(suspect.sum()),
            n_contradicting=int(contradicting.sum()),
            n_duplicates=int((repeated >= 0).sum()),
            regions=regions,
            domains=rows_by_domain(columns.get("domain"), regions, codes, suspect),
            shape=shape,
            likeliest=likeliest,
            dirt=Dirt.from_mapping(about["dirt"]) if about.get("dirt") else None,
            acted=f"after step {acts[-1]['step']}, {earned_words(acts[-1])}" if acts else "",
            listed=listed(columns, _listed_rows(columns["content"], shape, suspect), codes, regions, texts),
        )
    except (KeyError, ResumeError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"`{path}` must be the map that the run left, got {error.__cause__ or error}. Put it back from a copy, or "
            "remove it to see the rest of the run."
        ) from error


def _listed_rows(content: NDArray[np.uint64], shape: MapShape | None, suspect: BoolArray) -> IntArray:
    """The points of the map, in their sequence, and after them the rows without a score where these are few."""
    points = np.array([], dtype=np.int64) if shape is None else shape.points.row
    others = np.setdiff1d(np.arange(len(suspect)), points)
    if len(suspect) > MANY:
        return sample_of(others, content, suspect) if shape is None else points
    return np.concatenate([points, others])


def _regions(values: NDArray[Any]) -> tuple[tuple[str, ...], IntArray]:
    """(names of the regions that have rows, in the page's sequence; the place of each row's among them)."""
    names, codes = group_codes(OTHERS if value is None else value for value in values)
    known = {name: i for i, name in enumerate(REGIONS)}
    order = sorted(range(len(names)), key=lambda i: known.get(names[i], len(known)))
    return tuple(names[i] for i in order), np.argsort(order)[codes]


def rows_by_domain(
    values: NDArray[Any] | None, regions: Sequence[str], codes: IntArray, suspect: BoolArray
) -> dict[str, DomainRows]:
    """The counts of each domain, the largest first.

    Args:
        values: the domain of each row, shape (N,); None without domains.
        regions: names.
        codes: the region of each row, a place among these, shape (N,).
        suspect: shape (N,).
    """
    names, domain = ([ALL_ROWS], np.zeros(len(codes), dtype=np.int64)) if values is None else group_codes(values)
    counts = np.bincount(domain * len(regions) + codes, minlength=len(names) * len(regions))
    counts = counts.reshape(len(names), len(regions))
    suspects = np.bincount(domain[suspect], minlength=len(names))
    found = {
        name: DomainRows(int(row.sum()), int(n), dict(zip(regions, row.tolist(), strict=True)))
        for name, row, n in zip(names, counts, suspects, strict=True)
    }
    return dict(sorted(found.items(), key=lambda item: -item[1].rows))


def read_likeliest(path: Path, flags: Mapping[str, BoolArray]) -> tuple[LikelyRow, ...]:
    """The rows of the list beside the map; none where no list was left, or an empty one.

    Args:
        path: of the list.
        flags: what the map says of each row: `suspect` and `contradicting`, shape (N,) each.

    Raises:
        DataError: it is damaged, or of another map.
    """
    if not path.exists() or not path.stat().st_size:
        return ()
    lines = read_jsonl(path)
    n_rows = len(flags["suspect"])
    for number, line in enumerate(lines, 1):
        problem = misshapen(line, LIKELY)
        if problem is None and not 0 <= line["row"] < n_rows:
            problem = f"row {line['row']} of {n_rows}"
        if problem is not None:
            raise DataError(
                f"`{path}` line {number} must be a row of the run's map, got something else ({problem}). Put the run's "
                "own list back, or remove it to see the rest of the run."
            )
    return tuple(
        LikelyRow(
            suspect=bool(flags["suspect"][line["row"]]),
            contradicting=bool(flags["contradicting"][line["row"]]),
            **_known(line),
        )
        for line in lines
    )


def _known(line: Json) -> dict[str, Any]:
    """What a line of the list says of its row, and of what it does not say that it does not."""
    texts = {name: line.get(name) or "" for name in (each.removesuffix("?") for each in OPTIONAL_TEXT)}
    numbers = {name: line.get(name) for name in (each.removesuffix("?") for each in OPTIONAL_NUMBER)}
    return {"row": line["row"], **texts, **numbers}
