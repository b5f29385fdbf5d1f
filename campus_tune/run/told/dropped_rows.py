"""Lists the rows that a run leaves out, with their text, for a person to look at: `curriculum/dropped.jsonl`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from campus_tune.data.domains import Domains
from campus_tune.data.judged import Known
from campus_tune.run.told.examples import decoded, shorten
from campus_tune.words.files import write_jsonl
from campus_tune.words.types import RowSource

if TYPE_CHECKING:  # a page names this file, and needs no model for it
    from campus_tune.scores.dropping import Dropped

FILE = "dropped.jsonl"


def list_dropped(
    home: Path, dropped: Dropped, known: Known, domains: Domains, dataset: RowSource, tokenizer: object
) -> None:
    """Write one line for each row that is left out: row, reason, key, domain, the row that is kept instead, text.

    The keys find the rows again in another run: a file of them is what `drop: [{by: judged, path: …}]` reads.

    Args:
        home: folder of the ledger.
        dropped: rows of the run.
        known: what they say.
        domains: of the rows.
        dataset: prepared, with `input_ids`: decoded where only tokens are known of the rows.
        tokenizer: that decodes them; without one the lines have no text.

    Raises:
        StorageError: the file cannot be written.
    """

    def text(row: int) -> str:
        return decoded(dataset, row, tokenizer) if known.said is None else shorten(known.said.whole[row])

    write_jsonl(home / FILE, dropped.lines(known, domains, text))
