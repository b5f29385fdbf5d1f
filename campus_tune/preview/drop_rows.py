"""What `check` says of the rows that a recipe's `drop:` would leave out, as far as no model has to be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from campus_tune.data.domains import Domains
from campus_tune.data.judged import Known
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.draw_rules import find_score
from campus_tune.recipe.drop_block import SUSPECTS, DropSettings
from campus_tune.scores.dropping import dropped_of
from campus_tune.words.findings import Finding
from campus_tune.words.types import BoolArray, FloatArray
from campus_tune.words.wording import listed

MOST_DOMAINS = 5  # that a finding names


def drop_findings(
    config: CampusConfig, scores: Mapping[str, FloatArray], known: Known, domains: Domains
) -> tuple[list[Finding], BoolArray | None]:
    """How many rows the recipe leaves out, for what, of which domains, and what a bound keeps of those it names.

    Args:
        config: resolved settings.
        scores: label → scores that are known without a model, each of shape (N,).
        known: what rows can be compared and found by.
        domains: of the rows.

    Returns:
        What there is to say of them, and which they are, shape (N,); None where nobody knows yet.

    Raises:
        DataError: a file of judged rows that cannot be read, or has rows that are none of the training set.
    """

    def waits(entry: DropSettings) -> bool:
        return entry.by_metric and entry.by is not None and find_score(entry.by, config.specs).spec.label not in scores

    entries = config.drop or ()
    found = [
        Finding("info", f"`drop: {entry.reason}` is decided in the run, when its scores are measured.")
        for entry in entries
        if waits(entry)
    ]
    ready = tuple(entry for entry in entries if entry.by != SUSPECTS and not waits(entry))
    dropped = dropped_of(replace(config, drop=ready or None, control=None), scores, known, domains)
    if dropped is None:
        return found, None
    n, total = int(dropped.mask.sum()), len(dropped.mask)
    what = f"`drop` leaves out {n} of {total} rows ({n / total:.1%})"
    reasons = listed([f"{why} {count}" for why, count in dropped.counts().items()], MOST_DOMAINS)
    of = ""
    if domains.codes is not None and n:
        counts = np.bincount(domains.codes[dropped.mask], minlength=len(domains.names))
        most_first = sorted(zip(domains.names, counts.tolist(), strict=True), key=lambda pair: -pair[1])
        of = f"; by domain: {listed([f'{name} {count}' for name, count in most_first if count], MOST_DOMAINS)}"
    found.append(Finding("info", f"{what}{f': {reasons}' if reasons else ''}{of}."))
    found += [Finding("warning", note, "Look at what the entry names.") for note in dropped.notes]
    return found, dropped.mask
