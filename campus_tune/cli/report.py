"""`campus-tune report`: the page of a run or of a comparison, once or while it goes on."""

from __future__ import annotations

import argparse
from pathlib import Path

from campus_tune.cli.answer import Answer, add_json
from campus_tune.cli.options import COMMANDS, Commands, add_command, seconds
from campus_tune.report.write import EVERY_S, PLOTS, markdown_of, watch, write_report
from campus_tune.words.errors import INTERRUPTED

EXAMPLE = """\
One self-contained report.html for a run or a comparison, with its pictures in plots/ beside it. Needs no network.

example:
  campus-tune report runs/quickstart/run
  campus-tune report runs/quickstart/run --watch 10
  campus-tune report runs/comparison --out verdict.html --open
  campus-tune report runs/comparison --markdown >> pull_request.md
"""


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    """Add `report` to the commands of `campus-tune`."""
    parser = add_command(commands, "report", COMMANDS["report"], EXAMPLE, main)
    parser.add_argument("folder", type=Path, metavar="DIR", help="a trainer's output_dir, or a comparison's folder")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page (default: report.html inside of DIR)")
    parser.add_argument(
        "--watch",
        type=seconds,
        nargs="?",
        const=EVERY_S,
        metavar="SECONDS",
        help=f"write it anew while the run goes on, looking every SECONDS ({EVERY_S:g})",
    )
    parser.add_argument(
        "--markdown", action="store_true", help="print it in short, for a pull request, and write no page"
    )
    parser.add_argument("--open", action="store_true", help="show it in a browser")
    add_json(parser, page="the file", plots="folder of its pictures", markdown="with --markdown alone: the text")
    return parser


def main(options: argparse.Namespace) -> int | Answer:
    """Write the page and say where it is.

    Returns:
        Where it is, or the text; 130 after Ctrl-C.

    Raises:
        DataError: no run or comparison is there, or nothing has happened in it.
        StorageError: the page cannot be written.
    """
    if options.markdown:
        text = markdown_of(options.folder)
        return Answer({"markdown": text}, text.removesuffix("\n"))
    if options.watch is None:
        try:
            page = write_report(options.folder, options.out)
        except KeyboardInterrupt:
            print("\ncampus: interrupted. An earlier page is untouched.")
            return INTERRUPTED
        _tell(page, options.open)
        return _where(page)
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
    return _where(page)


def _where(page: Path) -> Answer:
    """What a program is told; a person was told before."""
    return Answer({"page": page, "plots": page.parent / PLOTS})


def _tell(page: Path, show: bool) -> None:
    print(f"campus: the page is {page}, its pictures are in {page.parent / PLOTS}", flush=True)
    if show:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())
