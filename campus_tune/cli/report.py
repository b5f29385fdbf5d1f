"""`campus-tune report`: the page of a run or of a comparison, once or while it goes on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from campus_tune.cli.help_text import HelpText
from campus_tune.report.write import EVERY_S, PLOTS, watch, write_report
from campus_tune.words.errors import INTERRUPTED

EXAMPLE = """\
One self-contained report.html for a run or a comparison, with its pictures in plots/ beside it. Needs no network.

example:
  campus-tune report runs/quickstart/run
  campus-tune report runs/quickstart/run --watch 10
  campus-tune report runs/comparison --out verdict.html --open
"""
LONGEST_S = 24 * 3600  # between two looks


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add `report` to the commands of `campus-tune`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "report",
        help="a page that shows a run or a comparison",
        description=EXAMPLE,
        formatter_class=HelpText,
    )
    parser.set_defaults(command=main)
    parser.add_argument("folder", type=Path, metavar="DIR", help="a trainer's output_dir, or a comparison's folder")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page (default: report.html inside of DIR)")
    parser.add_argument(
        "--watch",
        type=_seconds,
        nargs="?",
        const=EVERY_S,
        metavar="SECONDS",
        help=f"write it anew while the run goes on, looking every SECONDS ({EVERY_S:g})",
    )
    parser.add_argument("--open", action="store_true", help="show it in a browser")
    return parser


def main(options: argparse.Namespace) -> int:
    """Write the page and say where it is.

    Returns:
        0, or 130 after Ctrl-C.

    Raises:
        DataError: no run or comparison is there, or nothing has happened in it.
        StorageError: the page cannot be written.
    """
    if options.watch is None:
        try:
            page = write_report(options.folder, options.out)
        except KeyboardInterrupt:
            print("\ncampus: interrupted. An earlier page is untouched.")
            return INTERRUPTED
        _tell(page, options.open)
        return 0
    shown = False

    def written(page: Path) -> None:
        nonlocal shown
        if not shown:
            _tell(page, options.open)
            print("campus: written anew until the run ends; Ctrl-C stops watching, never the run", flush=True)
        shown = True

    try:
        page = watch(options.folder, options.watch, options.out, written=written)
    except KeyboardInterrupt:
        print("\ncampus: stopped watching. The page stays as it is.")
        return INTERRUPTED
    print(f"campus: finished: {page}")
    return 0


def _tell(page: Path, show: bool) -> None:
    print(f"campus: the page is {page}, its pictures are in {page.parent / PLOTS}", flush=True)
    if show:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be seconds, got {text!r}; DIR stands before it") from None
    if not 0 < value <= LONGEST_S:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most {LONGEST_S}, got {text}")
    return value
