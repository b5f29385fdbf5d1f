"""The page of an ablation: what was found in words, the matrix as a picture and a table, every cell, every length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import yaml

from campus_tune.compare.ablation import FORMAT, FULL
from campus_tune.compare.file_shapes import ABLATION
from campus_tune.compare.kinds import ABLATION as ABOUT
from campus_tune.compare.result_file import FILE, RUNS, read_stored
from campus_tune.compare.verdict import Ablation, AblationPart, Effect, ablation_sentences
from campus_tune.report import markdown as short
from campus_tune.report.figures import Picture
from campus_tune.report.heat_map import Heat, heat_map
from campus_tune.report.html_tables import Fact, HtmlTable, number, words
from campus_tune.report.page import PageParts
from campus_tune.words.errors import DataError
from campus_tune.words.types import FloatArray, Json

ALL_ROWS = "all test rows"
FORM = ".1%"
TITLES: Mapping[str, str] = {
    "without": "What leaving a domain out did to each",
    "only": "What one domain alone comes to, against all rows",
}
SIDES = {"without": ("harms", "helps"), "only": ("better alone", "needs the others")}
QUESTIONS = {
    "equal": "Runs without a domain trained as many tokens as those of all rows: the other domains filled its place. "
    "So a domain that is needed is worth more than what else its tokens could have bought.",
    "fewer": "Runs without a domain trained fewer tokens: nothing filled its place. So a domain that is needed says "
    "nothing of what else its tokens could have bought.",
}


@dataclass(frozen=True)
class AblationFacts:
    """What the page of an ablation shows.

    Args:
        folder: of the ablation.
        about: ablation.json.
        matrices: part → what was found; empty while runs are missing.
        n_done: runs that are finished.
    """

    folder: Path
    about: Json
    matrices: Mapping[AblationPart, Ablation]
    n_done: int

    @property
    def finished(self) -> bool:
        """Nothing is left to wait for."""
        return bool(self.about["finished"])

    @property
    def n_planned(self) -> int:
        """Runs that were asked for."""
        parts = 2 if self.about.get("only_too") else 1
        return (1 + parts * len(self.about["left_out"])) * len(self.about["seeds"])


def read_ablation(folder: Path) -> AblationFacts:
    """What an ablation left behind.

    Raises:
        DataError: its file is damaged or of another format, or no run is done yet.
    """
    about = read_stored(folder / ABOUT, FORMAT, "say what is ablated", "delete it: finished runs are kept", ABLATION)
    parts: tuple[AblationPart, ...] = get_args(AblationPart)
    matrices = {part: Ablation.from_mapping(part, about[part]) for part in parts if about.get(part)}
    n_done = sum(1 for _ in folder.glob(f"{RUNS}/*/*/{FILE}"))
    if not n_done:
        raise DataError(
            f"`{folder}` must hold the result of a run, got none yet. Wait for the first one, or start the ablation "
            "again: it goes on where it stopped."
        )
    return AblationFacts(folder, about, matrices, n_done)


def ablation_page(folder: Path) -> PageParts:
    """The page of an ablation.

    Raises:
        DataError: its file is damaged or of another format, or no run is done yet.
    """
    facts = read_ablation(folder)
    pictures = ablation_pictures(facts)
    return PageParts(ablation_content(facts, pictures), pictures, facts.finished)


def ablation_pictures(facts: AblationFacts) -> list[Picture]:
    """A heat map of each matrix."""
    found = [
        heat_map(
            f"ablation_{part}",
            TITLES[part],
            heat_of(matrix),
            form=FORM,
            down="left out" if part == "without" else "trained alone",
            across="loss of test domain",
            sides=SIDES[part],
            note="Change of the loss, as a share of that with all rows.",
        )
        for part, matrix in facts.matrices.items()
    ]
    return [picture for picture in found if picture is not None]


def heat_of(matrix: Ablation) -> Heat:
    """Changes as shares of the loss with all rows; the last column is all test rows."""
    tests = list(dict.fromkeys(e for row in matrix.cells.values() for e in row))
    rows = [[*(row.get(e) for e in tests), matrix.overall.get(d)] for d, row in matrix.cells.items()]

    def of(name: str) -> FloatArray:
        return np.array([[_share(one, name) for one in row] for row in rows], dtype=np.float64)

    return Heat(tuple(matrix.cells), (*tests, "all"), of("value"), of("low"), of("high"))


def _share(one: Effect | None, name: str) -> float:
    share = None if one is None else one.difference.share(getattr(one.difference, name))
    return float("nan") if share is None else share


def ablation_content(facts: AblationFacts, pictures: Sequence[Picture]) -> dict[str, Any]:
    """The variables of the template `ablation`."""
    about, test = facts.about, facts.about.get("test") or {}
    runs = about.get("runs") or {}
    diverged = [
        f"`{name}` diverged with seed {seed}. It is reported here and not averaged away."
        for name, run in runs.items()
        for seed in run.get("diverged") or ()
    ]
    target = about["target"]
    untested = [f"`{about['model']}` was trained in the place of `{target}`, which was not tested."] if target else []
    refused = [
        f"No word on `{domain}` ({part}): {why}."
        for part, matrix in facts.matrices.items()
        for domain, why in matrix.refused.items()
    ]
    tests = {e for matrix in facts.matrices.values() for row in matrix.cells.values() for e in row}
    unseen = [
        f"No test row is of `{domain}`: what its rows do for it is not seen."
        for domain in about["left_out"]
        if tests and domain not in tests
    ]
    words_of = [
        one.verdict for matrix in facts.matrices.values() for row in matrix.cells.values() for one in row.values()
    ]
    missed = words_of.count("underpowered")
    numbers = [
        Fact("Domains", str(len(about["domains"])), f"{len(about['left_out'])} left out in turn"),
        Fact("Seeds", str(len(about["seeds"])), "paired over the runs"),
        Fact("Runs", str(facts.n_done), "all done" if facts.n_done >= facts.n_planned else f"of {facts.n_planned}"),
        Fact("Tokens", about["tokens"], "of runs without a domain"),
        Fact("Worth finding", f"{about['effect']:.1%}", "smallest effect, share of the loss"),
        Fact("Underpowered", f"{missed} of {len(words_of)}", "cells", "bad" if missed else ""),
    ]
    said = [line for matrix in facts.matrices.values() for line in ablation_sentences(matrix)]
    tables = [cells(part, matrix) for part, matrix in facts.matrices.items()]
    return {
        "title": "What does each domain do for the others? An ablation",
        "name": facts.folder.resolve().name,
        "finished": facts.finished,
        "progress": f"{facts.n_done} of {facts.n_planned} runs are done.",
        "markdown": short.summary(
            f"Ablation `{facts.folder.resolve().name}`",
            "\n".join(f"- {short.marked(line)}" for line in said),
            short.of_facts(numbers),
            *map(short.of_table, tables),
        ),
        "said": said,
        "question": QUESTIONS[about["tokens"]],
        "trained": f"Trained: {about['model']}." + (f" {target} was not tested." if target else ""),
        "facts": numbers,
        "warnings": [*untested, *refused, *diverged, *unseen],
        "pictures": pictures,
        "cells": tables,
        "lengths": lengths(runs),
        "settings": yaml.safe_dump(about.get("campus") or {}, sort_keys=False, allow_unicode=True),
        "training": yaml.safe_dump(about.get("training") or {}, sort_keys=False, allow_unicode=True),
        "command": about.get("command", ""),
        "test": f"{test.get('items', '?')} test rows of {', '.join(test.get('path') or ['unnamed files'])} "
        f"(fingerprint {test.get('digest', '?')})",
        "footer": "Made by campus_tune from the results of the ablation. This page is one file and needs no network.",
    }


def cells(part: AblationPart, matrix: Ablation) -> HtmlTable:
    """One row for each cell.

    Args:
        part: what was trained.
        matrix: its cells.
    """
    every = [
        (d, e, one) for d, row in matrix.cells.items() for e, one in (*row.items(), (ALL_ROWS, matrix.overall.get(d)))
    ]
    rows = []
    for d, e, one in every:
        if one is None:
            continue
        found, sure = one.difference, one.difference.p_adjusted is not None and one.difference.p_adjusted <= 0.05
        kind = ("good" if (found.value or 0.0) > 0 else "bad") if sure else ""
        shares = [None if np.isnan(share := _share(one, name)) else share for name in ("value", "low", "high")]
        rows.append(
            [
                words(d),
                words(e),
                number(found.n_items),
                number(found.mean_against, ".4f"),
                number(found.mean, ".4f"),
                number(shares[0], "+.1%", kind=kind),
                *(number(share, "+.1%") for share in shares[1:]),
                number(found.p_adjusted, ".2g"),
                number(found.share(found.detectable), ".1%"),
                words(one.verdict or "no word"),
            ]
        )
    head = [part, "test domain", "rows", "loss, all rows", f"loss, {part}", "change", "from", "to", "p"]
    caption = (
        f"{TITLES[part]}: intervals and p-values corrected for the number of cells (Holm); those of {ALL_ROWS} for "
        "each other. Would be found: in 4 of 5 such ablations"
    )
    return HtmlTable(caption, [*head, "would be found", "word"], rows)


def lengths(runs: Mapping[str, Json]) -> HtmlTable | None:
    """How long the runs were: what fills the place of a domain comes more often.

    Args:
        runs: of each arm, on average.
    """
    whole = (runs.get(FULL) or {}).get("tokens")
    rows = []
    for name, run in runs.items():
        share = run["tokens"] / whole - 1 if whole and run.get("tokens") is not None else None
        rows.append(
            [
                words(name),
                number(run["n"]),
                number(run.get("loss"), ".4f"),
                number(run.get("steps")),
                number(run.get("tokens")),
                number(share, "+.1%"),
                number(run.get("passes"), ".2f"),
            ]
        )
    head = ["rows", "runs", "final loss", "steps", "tokens", "against all rows", "passes"]
    return HtmlTable("Length of the runs; means over seeds", head, rows, opened=True) if rows else None
