"""What is known of one name: where it is said, what it may be, how it is written, where else to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from campus_tune.words.types import Json

OURS = "campus_tune"


@dataclass(frozen=True)
class NameRow:
    """One option of a part, field of an event or flag of a command, as a line of a table.

    Args:
        name: of it.
        says: what it is for.
        must: what it may be; "" where that goes without saying.
        default: as it is written; "" where there is none.
    """

    name: str
    says: str
    must: str = ""
    default: str = ""


@dataclass(frozen=True)
class KnownName:
    """What is known of one name.

    Args:
        kind: what it is, in one word: metric, setting, event, …
        name: in full, as `explain` prints it: `thin.keep`.
        line: what it is in one line.
        text: more of it, in paragraphs.
        facts: short answers by their question: default, must be, set by.
        options: what it takes or holds.
        example: as it is written into a YAML, or typed.
        source: of papers.
        page: of the guide.
        comes_from: the package that brings it, with its version.
        also: other words that find it.
    """

    kind: str
    name: str
    line: str
    text: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    options: tuple[NameRow, ...] = ()
    example: str = ""
    source: str = ""
    page: str = ""
    comes_from: str = OURS
    also: tuple[str, ...] = ()

    def as_json(self) -> Json:
        """All of it as plain values, for `--json`."""
        return asdict(self)

    def as_listed(self) -> Json:
        """What a list says of it."""
        return {"kind": self.kind, "name": self.name, "line": self.line, "from": self.comes_from}
