"""Writes a page and its pictures, once or as long as a run goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from campus_tune.compare.kinds import ABLATION, COMPARISON, SEARCH, SHAPLEY
from campus_tune.compare.result_file import FILE as RESULT
from campus_tune.compare.result_file import RUNS
from campus_tune.report.page import PageParts, render
from campus_tune.report.run_facts import find_ledger, is_comparison, read_run
from campus_tune.report.run_page import run_content
from campus_tune.report.run_plots import run_pictures
from campus_tune.words.errors import CampusError, DataError
from campus_tune.words.files import atomic_write

PAGE, PLOTS = "report.html", "plots"
EVERY_S = 30.0
OF_MANY = (ABLATION, SEARCH, SHAPLEY, COMPARISON)  # files of folders that hold many runs


def write_report(path: str | Path, out: str | Path | None = None) -> Path:
    """Write the page of a run, a comparison, an ablation or values of groups, and its pictures in `plots/` beside it.

    Args:
        path: a trainer's output_dir, the `curriculum/` in it, or the folder of a comparison or of `campus-tune value`.
        out: the page; None puts `report.html` beside the ledger, or into the folder.

    Returns:
        The page's path.

    Raises:
        DataError: neither is there, or nothing has happened in it yet.
        StorageError: the page cannot be written; an earlier one is untouched.
    """
    return _write(Path(path), _place(Path(path), out), refresh_s=None)[0]


def watch(
    path: str | Path,
    every_s: float = EVERY_S,
    out: str | Path | None = None,
    *,
    say: Callable[[str], object] = print,
    written: Callable[[Path], object] = str,
    wait: Callable[[float], object] = time.sleep,
) -> Path:
    """Write the page anew whenever its folder changed, until it is finished.

    Meanwhile a browser that shows it reads it again by itself; the page of a finished run does not, and neither does
    what is left when watching is interrupted.

    Args:
        path: as for `write_report`; a run that has not begun yet is waited for.
        every_s: seconds between two looks, above 0.
        out: as for `write_report`.
        say: told of what is waited for.
        written: told of the page each time.
        wait: sleeps.

    Raises:
        DataError: no such folder.
        StorageError: the page cannot be written.
    """
    path = Path(path)
    if not path.is_dir():
        raise DataError(f"`{path}` must be a folder, got none. Give the output_dir of a run or a comparison.")
    try:
        seen, told = "", False
        while True:
            if (now := _changes(path)) != seen:
                seen = now
                try:
                    page, finished = _write(path, _place(path, out), refresh_s=every_s)
                except DataError as error:  # it has not begun yet
                    if not told:
                        say(f"campus: waiting: {error}")
                    told = True
                else:
                    written(page)
                    if finished:
                        return page
            wait(every_s)
    except KeyboardInterrupt:
        with suppress(DataError):  # it had not begun yet
            _write(path, _place(path, out), refresh_s=None)
        raise


def _place(path: Path, out: str | Path | None) -> Path:
    if out is not None:
        return Path(out)
    many = any((path / name).is_file() for name in OF_MANY)
    return (path if many else find_ledger(path).parent) / PAGE


def markdown_of(path: str | Path) -> str:
    """What the page of a folder says in short, as Markdown; nothing is drawn and nothing written.

    Args:
        path: as for `write_report`.

    Raises:
        DataError: as for `write_report`.
    """
    return str(_read(Path(path))[1].content["markdown"])


def _write(path: Path, page: Path, *, refresh_s: float | None) -> tuple[Path, bool]:
    """(the page, whether there is nothing left to wait for)."""
    template, (content, pictures, finished) = _read(path)
    for picture in pictures:
        atomic_write(page.parent / PLOTS / f"{picture.name}.png", picture.png)
    atomic_write(page, render(template, content, refresh_s=None if finished else refresh_s))
    return page, finished


def _read(path: Path) -> tuple[str, PageParts]:
    """The template of a folder's page, and what goes into it; whatever is wrong with its files is said."""
    try:
        return _parts(path)
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, CampusError):
            raise
        raise DataError(
            f"`{path}` must hold files that fit together as they were written, got some that cannot be shown "
            f"({type(error).__name__}: {error}). They were changed, or another version wrote them: put back its own, "
            "or read it with the campus_tune that wrote it (--debug shows where)."
        ) from error


def _parts(path: Path) -> tuple[str, PageParts]:
    """The same. Pages of runs do without what others are read with."""
    if (path / ABLATION).is_file():
        from campus_tune.report.ablation_page import ablation_page

        return "ablation", ablation_page(path)
    if (path / SEARCH).is_file():
        from campus_tune.report.search_page import search_page

        return "search", search_page(path)
    if (path / SHAPLEY).is_file():
        from campus_tune.report.shapley_page import shapley_page

        return "shapley", shapley_page(path)
    if is_comparison(path):
        from campus_tune.report.compare_facts import read_comparison
        from campus_tune.report.compare_page import compare_content
        from campus_tune.report.compare_plots import compare_pictures

        compared = read_comparison(path)
        pictures = compare_pictures(compared)
        return "comparison", PageParts(compare_content(compared, pictures), pictures, compared.finished)
    facts = read_run(path)
    pictures = run_pictures(facts)
    return "run", PageParts(run_content(facts, pictures), pictures, facts.finished)


def pngs(page: Path) -> dict[str, Path]:
    """The pictures beside a page, by name."""
    return {path.stem: path for path in sorted((page.parent / PLOTS).glob("*.png"))}


def _changes(path: Path) -> str:
    """Different when anything that a page reads is."""
    files = [*path.glob("*.json"), *path.glob(f"{RUNS}/*/*/{RESULT}")]
    with suppress(CampusError):
        files.append(find_ledger(path))
    seen = []
    for file in sorted(files):
        with suppress(OSError):  # it was moved or removed between two looks
            stat = file.stat()
            seen.append((str(file), stat.st_size, stat.st_mtime_ns))
    return repr(seen)
