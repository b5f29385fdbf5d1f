"""What one run of a comparison leaves behind: `runs/<arm>/seed-<seed>/result.json`, written whole or not at all.

Every number that a verdict needs is in it, and what must be equal for two arms to be comparable (`shared`), so a
comparison can be judged anew, extended by seeds and arms, and moved to another machine.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from campus_tune.compare.file_shapes import RESULT
from campus_tune.run.ledger import plain
from campus_tune.words.errors import DataError
from campus_tune.words.files import atomic_write
from campus_tune.words.json_shapes import misshapen, read_json
from campus_tune.words.types import Json

FORMAT = 1
RUNS = "runs"  # in a comparison's folder
FILE = "result.json"  # in that of a run
VISITS = "visits.npz"  # there too: rows, the step of each, and the learning rate of each step
LOG = "log.txt"  # there too: all that the run has printed
FINISHED, DIVERGED = "finished", "diverged"
FAILED = "failed"  # of a trial of a search: it cannot be trained


def run_folder(out: Path, arm: str, seed: int) -> Path:
    """Where one run lives: the trainer's output_dir."""
    return out / RUNS / arm / f"seed-{seed}"


def write_run_result(out: Path, outcome: Json) -> Path:
    """Write the result of one run; gives back the file.

    Raises:
        StorageError: it cannot be written.
    """
    path = run_folder(out, outcome["arm"], outcome["seed"]) / FILE
    atomic_write(path, json.dumps(plain({"format": FORMAT, **outcome}), allow_nan=False) + "\n")
    return path


def read_run_result(out: Path, arm: str, seed: int) -> Json | None:
    """The result of one run; None where it was not finished.

    Raises:
        DataError: the file is no result of this version.
    """
    path = run_folder(out, arm, seed) / FILE
    if not path.exists():
        return None
    return read_stored(path, FORMAT, "be the result of a run", "delete it: the run is repeated", RESULT)


def read_stored(path: Path, format_: int, must: str, otherwise: str, shape: Json) -> Json:
    """A JSON object that some version of us has written, of the format that this one knows.

    Args:
        path: of the file.
        format_: the known one.
        must: what the file is for, in a message.
        otherwise: what to do about a file that is of no use, in a message.
        shape: of a file of the known format.

    Raises:
        DataError: the file is damaged, of another format, or of another shape.
    """
    try:
        content: Any = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"`{path}` must {must}, got {error}. {otherwise[0].upper()}{otherwise[1:]}.") from error
    if not isinstance(content, dict) or content.get("format") != format_:
        found = content.get("format") if isinstance(content, dict) else content
        raise DataError(
            f"`{path}` must be of format {format_}, got {found!r}. Go on with the campus_tune that wrote it, or "
            f"{otherwise}."
        )
    if problem := misshapen(content, shape):
        raise DataError(f"`{path}` must {must}, got another shape: {problem}. {otherwise[0].upper()}{otherwise[1:]}.")
    return content
