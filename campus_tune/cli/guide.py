"""`campus-tune guide`: the guide for users, a page at a time.

The pages are Markdown in `campus_tune/guide/`. A terminal shows them formatted, page by page; anything else gets the
text as it stands, so that it can be searched and kept.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from dataclasses import asdict, dataclass
from importlib import resources
from itertools import groupby

from campus_tune.cli.answer import Answer, add_json
from campus_tune.cli.exit_codes import DONE, FOUND
from campus_tune.cli.options import COMMANDS, Commands, add_command
from campus_tune.words.errors import RecipeError
from campus_tune.words.registry import nearest

PAGES = (  # in the sequence in which one reads them
    "start",
    "data",
    "wrong",
    "helps",
    "choosing",
    "prompts",
    "parts",
    "many",
    "resume",
    "cost",
    "ledger",
    "plugins",
    "questions",
    "others",
)
WIDTH = 100  # letters of a line in a terminal: longer ones are hard to read
EXAMPLE = f"""\
The guide, a page at a time: {", ".join(PAGES)}. Without a page: what each of them has.

example:
  campus-tune guide
  campus-tune guide start
  campus-tune guide --search probes
"""
_LINK = re.compile(r"\[([^\]]+)\]\((\w+)\.md(?:#[\w-]+)?\)")  # to another page


@dataclass(frozen=True)
class GuidePage:
    """One page of the guide.

    Args:
        name: that is typed.
        title: its heading.
        summary: what it has, a sentence.
        text: all of it, Markdown.
    """

    name: str
    title: str
    summary: str
    text: str


def read_page(name: str) -> GuidePage:
    """A page of the guide; links to other pages say what is typed to see them.

    Args:
        name: one of `PAGES`.

    Raises:
        RecipeError: there is no page of this name.
    """
    if name not in PAGES:
        raise RecipeError(
            f"a page of the guide must be one of {', '.join(PAGES)}, got {name!r}.{nearest(name, PAGES)} Search all of "
            f"them with: campus-tune guide --search {name}"
        )
    text = resources.files("campus_tune").joinpath("guide", f"{name}.md").read_text("utf-8")
    title, _, summary, *_ = text.split("\n", 3)
    return GuidePage(name, title.removeprefix("# "), summary, _LINK.sub(r"\1 (`campus-tune guide \2`)", text))


def add_parser(commands: Commands) -> None:
    """Add `guide` to the commands of `campus-tune`."""
    parser = add_command(commands, "guide", COMMANDS["guide"], EXAMPLE, main)
    parser.add_argument("page", nargs="?", metavar="PAGE", help="which page (all of them, a line each)")
    parser.add_argument("--search", metavar="WORD", help="show the lines of all pages that have it")
    add_json(parser)


def main(options: argparse.Namespace) -> Answer:
    """Show a page, all pages or what was searched for.

    Returns:
        The same as a document; its exit code is 1 where nothing was found.

    Raises:
        RecipeError: there is no page of this name.
    """
    names = PAGES if options.page is None else [options.page.lower()]
    pages = [read_page(name) for name in names]
    if options.search is not None:
        return _searched(pages, options.search)
    if options.page is not None:
        if not options.json:
            _show(pages[0])
        return Answer(asdict(pages[0]))
    lines = [f"  {page.name:<10} {page.summary}" for page in pages]
    listed = [{"name": page.name, "title": page.title, "summary": page.summary} for page in pages]
    return Answer({"pages": listed}, "\n".join(["The guide. Show a page with: campus-tune guide PAGE", "", *lines]))


def _searched(pages: list[GuidePage], word: str) -> Answer:
    """Every line with a word, whatever its case, under the page and the heading that it stands under."""
    hits: list[dict[str, str]] = []
    for page in pages:
        heading = ""
        for line in page.text.splitlines():
            if line.startswith("#"):
                heading = line.strip("# ")
            if word.casefold() in line.casefold():
                hits.append({"page": page.name, "heading": heading, "line": line.strip()})
    if not hits:
        print(f"campus-tune: the guide says nothing of {word!r}. Try: campus-tune explain {word}", file=sys.stderr)
    places = groupby(hits, key=lambda hit: f"{hit['page']}: {hit['heading']}")
    lines = [line for place, of_it in places for line in (place, *(f"    {hit['line']}" for hit in of_it))]
    return Answer({"found": hits}, "\n".join(lines), code=DONE if hits else FOUND)


def _show(page: GuidePage) -> None:
    from rich.console import Console
    from rich.markdown import Markdown
    from rich.theme import Theme

    console = Console(theme=Theme({"markdown.code": "bold cyan"}))  # no background: terminals are dark or light
    if not console.is_terminal or console.is_dumb_terminal:
        print(page.text, end="")
        return
    os.environ.setdefault("LESS", "-RFX")  # colours as colours; a page that fits the screen is just shown
    with console.pager(styles=True):
        width = min(WIDTH, console.width)
        console.print(Markdown(page.text, hyperlinks=False, code_theme="ansi_dark"), width=width)
