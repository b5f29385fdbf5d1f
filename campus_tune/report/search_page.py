"""What the page of a search says: whether there is a winner, what luck alone would do, and every trial."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from campus_tune.compare.search import FOLDER, name_of, read_search, shown_changes
from campus_tune.report import markdown as short
from campus_tune.report.figures import Picture
from campus_tune.report.html_tables import Fact, HtmlTable, number, signed, words
from campus_tune.report.page import PageParts
from campus_tune.report.search_plots import search_pictures
from campus_tune.words.types import Json

RULE = (
    "The best of many trials looks better than it is: it was chosen for it. So it is trained anew with fresh seeds, "
    "beside the recipe and plain shuffling, and judged on rows that neither steered nor ranked: there is no winner "
    "unless that verdict is “helped”."
)


def search_page(folder: Path) -> PageParts:
    """The page of a search.

    Args:
        folder: of the search.

    Raises:
        DataError: its `search.json` cannot be read.
    """
    search = read_search(folder)
    pictures = search_pictures(search)
    return PageParts(search_content(folder, search, pictures), pictures, bool(search.get("conclusion")))


def search_content(folder: Path, search: Json, pictures: Sequence[Picture]) -> dict[str, Any]:
    """The variables of the template.

    Args:
        folder: of the search.
        search: its `search.json`.
        pictures: of the page.
    """
    conclusion, standing = search.get("conclusion") or {}, search.get("standing") or {}
    judged, winner = search.get("judged") or {}, conclusion.get("winner")
    ladder = search.get("ladder") or {"steps": [], "why": ""}
    of_winner = [] if winner is None else [one for one in search.get("trials", []) if one["trial"] == winner]
    name, word = folder.resolve().name, "" if not conclusion else "A winner." if winner is not None else "No winner."
    why = str(conclusion.get("why", "")).removeprefix("no winner: ")
    settings = shown_changes(of_winner[0]["changes"]) if of_winner else ""
    numbers, tried = _numbers(search, standing), trials(search)
    return {
        "title": "Which settings are worth it? A search",
        "name": name,
        "finished": bool(conclusion),
        "progress": f"{len(search.get('trials', []))} of {search['wanted']} trials have begun.",
        "markdown": short.summary(
            f"Search `{name}`",
            short.marked(f"{word} {settings}".strip()),
            short.marked(
                ". ".join(f"{said[:1].upper()}{said[1:]}" for said in (why, judged.get("said") or "") if said)
            ),
            short.of_facts(numbers),
            short.of_table(tried),
        ),
        "word": word,
        "kind": "helped" if winner is not None else "",
        "why": why,
        "winner": settings,
        "promised": judged.get("said") or "",
        "rule": RULE,
        "facts": numbers,
        "warnings": [
            f"`{name_of(one['trial'])}` {one['message']}" for one in search.get("trials", []) if one["message"]
        ],
        "pictures": pictures,
        "trials": tried,
        "rungs": rungs(search),
        "ladder": ladder["why"],
        "compared": f"{FOLDER}/report.html" if judged else "",
        "settings": yaml.safe_dump({"space": search["space"]}, sort_keys=False, allow_unicode=True),
        "rows": f"{search['rows']['items']} search rows of {', '.join(search['rows']['path'])}",
        "command": search.get("command", ""),
        "footer": "Made by campus_tune from the results of the search. This page is one file and needs no network.",
    }


def _numbers(search: Json, standing: Json) -> list[Fact]:
    found = [
        Fact("Trials", str(len(search.get("trials", []))), f"of {search['wanted']}, {search['sampler']}"),
        Fact("Seeds", str(search["seeds"]), "of each trial"),
        Fact("Search rows", str(search["rows"]["items"]), "they rank"),
    ]
    if standing:
        found += [
            Fact("The search says", signed(f"{standing['change']:+.1%}"), "of its best trial, beside the recipe"),
            Fact("By luck alone", signed(f"{standing['luck']:+.1%}"), "on average, where nothing matters"),
            Fact("As good by luck", f"{standing['chance']:.0%}", "of searches where nothing matters"),
        ]
    return found


def trials(search: Json) -> HtmlTable:
    """One row for each trial, those that came furthest and lie lowest first."""
    steps = (search.get("ladder") or {"steps": []})["steps"]
    at = (search.get("recipe") or [{"step": [], "loss": []}])[0]
    recipe = dict(zip(at["step"], at["loss"], strict=True))

    def place(one: Json) -> tuple[int, float]:
        known = [loss for loss in one["losses"] if loss is not None]
        return -len(known), known[-1] if known else 0.0

    rows = []
    for one in sorted(search.get("trials", []), key=place):
        reached = [(step, loss) for step, loss in zip(steps, one["losses"], strict=False) if loss is not None]
        step, loss = reached[-1] if reached else (None, None)
        there = recipe.get(step)
        rows.append(
            [
                number(one["trial"]),
                words(shown_changes(one["changes"])),
                number(step),
                number(loss, ".4f"),
                number((loss - there) / there if loss is not None and there else None, "+.1%"),
                words(one["message"] or "", kind="bad" if one["message"] else ""),
            ]
        )
    head = ["trial", "changes", "trained to step", "loss", "beside the recipe", "failed"]
    return HtmlTable("Trials; loss on the search rows, nats per token", head, rows, opened=True)


def rungs(search: Json) -> HtmlTable | None:
    """How far trials lie apart at each rung, and how far seeds alone do."""
    rows = [
        [
            number(one["step"]),
            number(one["trials"]),
            number(one["trial_spread"], ".2%"),
            number(one["seed_spread"], ".2%"),
        ]
        for one in search.get("rungs", [])
    ]
    head = ["step", "trials", "spread of the trials", "spread of the recipe's seeds"]
    caption = (
        "Standard deviations as shares of the loss: trials that lie no further apart than seeds are ranked by luck"
    )
    return HtmlTable(caption, head, rows, opened=True) if rows else None
