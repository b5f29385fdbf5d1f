"""The block that says which rows are never trained: `drop`, a list of entries.

An entry goes by a score, by what rows repeat, by a person's marks, by what rows were worth in an earlier run: then its
rows are left out from the start. Or by `suspects`: then the run finds out by itself which rows look wrong, and leaves
them out from there on (`method.acting`).

>>> DropSettings.from_mapping({"by": "suspects", "from": 0.6}).to_mapping()["from"]
0.6
>>> DropSettings.from_mapping({"by": "suspects", "act": "on"})
Traceback (most recent call last):
campus_tune.words.errors.RecipeError: `drop: act` must be one of auto, always, never, got 'on'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from campus_tune.method.acting import Way
from campus_tune.metrics import parse_metric
from campus_tune.recipe.draw_blocks import PART, Entry, ScoredBy
from campus_tune.recipe.reader import CheckedSettings, Entries
from campus_tune.words.leaves import Given, Range, Wording
from campus_tune.words.wording import shown

DUPLICATES, JUDGED, SUSPECTS = "duplicates", "judged", "suspects"  # what rows can be dropped by besides a metric
VALUE = "value"  # and this
DROPS_SUSPECTS = f"drop: {SUSPECTS}"  # what records call the entry
WORDS = (DUPLICATES, JUDGED, SUSPECTS, VALUE)
HALF, A_FIFTH, A_TENTH = 0.5, 0.2, 0.1  # of all rows, that one entry drops at most


TAKEN: Mapping[str, tuple[str, ...]] = {  # what each way of dropping has of its own
    "a metric": ("lowest", "below"),
    DUPLICATES: ("keep", "near"),
    JUDGED: ("path", "on"),
    SUSPECTS: ("since", "act"),
    VALUE: ("path", "below", "probe"),
}


@dataclass(frozen=True)
class DropSettings(CheckedSettings):
    """Rows that are never trained: by a score, by repeating others, by a mark, by value; or no longer: suspects.

    Args:
        by: a metric, `duplicates` (equal and nearly equal rows), `judged` (rows that a person marked in a file),
            `value` (rows that harmed the probes of an earlier run), or `suspects` (rows that look wrong once all were
            seen).
        lowest: share of the rows with the lowest scores.
        below: rows with a score below this number; by value, of those that harm, rows below this one, 0 for None.
        at_most: share of all rows that it may drop; no domain ever loses more than half. None is a tenth with `below`
            and by value, for nobody sees beforehand how many rows that is, a fifth of suspects, else a half.
        keep: which row of several duplicates stays: the first.
        near: rows of which an earlier one has at least half are duplicates too; None is true. False where rows ask
            several things about one text.
        path: file with the judged rows, or a run's `curriculum/value/values.parquet`.
        probe: the probe domain that dropped rows harmed; None is all of them together.
        on: columns that the judged rows share with the training set; None finds them by what they say.
        since: progress from which suspects are dropped, once every row was seen; None is 0.5.
        act: what happens to suspects. auto drops those that stand out once the run shows for sure that rows are wrong,
            but for a tenth of the rows; always the `at_most` worst whether they stand out or not; never says only which
            would go. None drops those that stand out.
    """

    block = "drop"
    must = "a mapping with by"
    write = "Write drop: [{by: duplicates}]."
    written: ClassVar[Mapping[str, str]] = {"since": "from"}  # Python keeps the word `from` for itself
    unsaid = ("since", "act", "probe")

    by: Annotated[Entry | None, Given(), ScoredBy(WORDS)] = None
    lowest: Annotated[float | None, PART] = None
    below: Annotated[float | None, Range(-1e9, 1e9)] = None
    at_most: Annotated[float | None, PART] = None
    keep: Literal["first"] | None = None
    near: Annotated[bool | None, Wording("true or false", "Write near: false.")] = None
    path: str | None = None
    on: Annotated[tuple[str, ...] | None, Wording("a list of columns", "Write on: [id].")] = None
    since: Annotated[float | None, Range(0, 1, "[)")] = None
    act: Literal["auto", "always", "never"] | None = None
    probe: str | None = None

    @property
    def by_metric(self) -> bool:
        """It goes by a score."""
        return self.by not in WORDS

    @property
    def bound(self) -> float:
        """`at_most`, or what its null stands for."""
        unseen = self.by == VALUE or self.below is not None
        usual = A_FIFTH if self.by == SUSPECTS else A_TENTH if unseen else HALF
        return usual if self.at_most is None else self.at_most

    @property
    def begins(self) -> float:
        """`from`, or what its null stands for."""
        return 0.5 if self.since is None else self.since

    @property
    def acts(self) -> Way:
        """`act`, or what its null stands for."""
        return self.act or "found"

    @property
    def reason(self) -> str:
        """What rows are dropped for, in words."""
        name = parse_metric(self.by).label if isinstance(self.by, Mapping) else str(self.by)
        if self.by == VALUE:
            return f"{name}{f' for {self.probe}' if self.probe is not None else ''}: below {self.below or 0:g}"
        if not self.by_metric:
            return name
        return f"{name}: lowest {self.lowest:g}" if self.lowest is not None else f"{name}: below {self.below:g}"

    def clashes(self, wrong: set[str]) -> list[str]:
        """What only one kind of dropping takes, or needs."""
        if wrong:
            return []
        found = []
        given = {name: getattr(self, name) for names in TAKEN.values() for name in names}
        taken = TAKEN.get(str(self.by), TAKEN["a metric"])
        found += [
            f"`drop: {self.key(name)}` must be left out with by: {self.by if not self.by_metric else 'a metric'}, got "
            f"{shown(value)}. Remove it."
            for name, value in given.items()
            if value is not None and name not in taken
        ]
        if self.by_metric and (self.lowest is None) == (self.below is None):
            got = "both" if self.lowest is not None else "neither"
            found.append(f"`drop` by a metric must have lowest or below, got {got}. Write lowest: 0.05, or below: 0.")
        if self.by == JUDGED and self.path is None:
            found.append("`drop: path` must be the file of judged rows, got nothing. Write path: judged.jsonl.")
        if self.by == VALUE and self.path is None:
            found.append(
                "`drop: path` must be the values that an earlier run has left, got nothing. Write path: "
                "RUN/curriculum/value/values.parquet, with its output_dir for RUN."
            )
        if self.by == VALUE and (self.below or 0) > 0:
            found.append(
                f"`drop: below` must be at most 0 with by: {VALUE}, got {self.below:g}: rows above 0 helped. Write "
                "below: 0, or leave it out."
            )
        return found


DROPS = Entries(DropSettings.as_leaf(), "Write drop: [{by: duplicates}], always a list, or null for none.", least=1)
