"""The guide's page `parts`: every setting of the campus block and every part, a line each, from where they live.

It is a file like the other pages, `campus_tune/guide/parts.md`; a test compares it with what is written here, and says
what to type where they differ: `python -m campus_tune.cli.known.page`.
"""

from __future__ import annotations

from campus_tune.cli.known.docstrings import PACKAGE
from campus_tune.cli.known.entry import OURS
from campus_tune.cli.known.parts import KINDS, parts
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.reader import rows

PATH = PACKAGE / "guide" / "parts.md"


def parts_page() -> str:
    """The page: our own parts by kind, those of plug-ins are `list`'s to show."""
    lines = [
        "# Every setting and every part",
        "",
        "All that a recipe can say, a line each; `campus-tune explain NAME` tells the rest of any of them.",
        "",
        "That is the formula, every option with what it may be and its default, the paper, and a recipe to copy.",
        "`campus-tune list KIND` lists the parts of installed plug-ins too. In brackets: a default, or what it takes.",
        "",
        "## settings of the `campus` block",
        "",
        *(f"- `{row.name}` (`{row.default}`): {row.doc}" for row in rows(CampusConfig)),
    ]
    known = [one for one in parts() if one.comes_from == OURS]
    for kind in KINDS:
        lines += ["", f"## {kind.many}: {kind.says}", ""]
        for one in known:
            if one.kind == kind.word:
                takes = ", ".join(f"`{option.name}`" for option in one.options)
                lines.append(f"- `{one.name}`{f' ({takes})' if takes else ''}: {one.line}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(parts_page(), "utf-8")
    print(f"wrote {PATH.name}")
