"""known: everything that has a name, from the docstrings where it lives: what `explain` tells and `list` lists."""

from campus_tune.cli.known.entry import KnownName, NameRow
from campus_tune.cli.known.finding import find, near
from campus_tune.cli.known.kinds import ALL, NameKind
from campus_tune.cli.known.shown import explained, show, show_list, width_of_output

__all__ = [
    "ALL",
    "KnownName",
    "NameKind",
    "NameRow",
    "explained",
    "find",
    "near",
    "show",
    "show_list",
    "width_of_output",
]
