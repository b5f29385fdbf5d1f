"""The values of a run's rows, made when it is over: which rows and domains helped the probes, and which harmed them.

A function of the files that each stage left (`curriculum/value/`), so a run that was killed and resumed has the same.
Stages that were valued otherwise than the last one (a resume has changed probes, or `value`) are left out, and said.
Rank 0 reads, folds and writes. Values that cannot be made cost the run a line and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from campus_tune.method.value import RowValues, ValuedVisits, probes_of
from campus_tune.run.data_map import domains_to_tell
from campus_tune.run.ledger import FILE as LEDGER
from campus_tune.run.ledger import plain, read_ledger
from campus_tune.run.row_texts import texts_of
from campus_tune.run.situation import Situation
from campus_tune.run.stage_visits import FOLDER
from campus_tune.run.stream.training_losses import file_of_stage
from campus_tune.run.told.events import Valued
from campus_tune.run.value_table import EXTREMES, TRANSFER, VALUES, ValueTable
from campus_tune.scores.cache import read_columns, write_columns
from campus_tune.words.errors import CampusError, DataError
from campus_tune.words.files import atomic_write
from campus_tune.words.types import Json


def value_rows(now: Situation) -> Valued | None:
    """Fold the values of a run that is over, and say what they show; None where nobody asks. Every rank calls it."""
    if now.valuing is None:
        if now.peers.leads:
            _remove_earlier(now.folder)
        return None

    def made() -> Json:
        try:
            return _written(now)
        except Exception as error:  # a file is gone, the disk is full: the run is whole without
            _remove_earlier(now.folder)
            why = str(error) if isinstance(error, CampusError) else f"{type(error).__name__}: {error}"
            return {"rows": 0, "why": why}

    return Valued({"step": now.curriculum.step, **now.peers.led(made)})


def _remove_earlier(folder: Path) -> None:
    """What an earlier end of this run has left: it has gone on from a checkpoint since."""
    for name in (VALUES, TRANSFER, EXTREMES):
        with suppress(OSError):
            (folder / name).unlink()


def stages_of(now: Situation) -> dict[Path, int]:
    """The files of the stages in which rows were valued, by the run's own record, in the sequence of training.

    Returns:
        File → the step at which the gradients were measured that its values are by.

    Raises:
        DataError: there are none.
    """
    ends = [event for event in read_ledger(now.folder / LEDGER) if event["event"] == "stage_end"]
    valued = {event["stage"]: event["value"]["measured"] for event in ends if event.get("value", {}).get("visits")}
    if not valued:
        raise DataError("no row was valued.")
    return {now.folder / FOLDER / file_of_stage(stage): step for stage, step in valued.items()}


def alike(paths: list[Path]) -> list[Path]:
    """Of the files of stages, those whose values add up with the last one's: by the same probe rows, in the same unit.

    Args:
        paths: of the files, in the sequence of training.
    """
    by = []
    for path in paths:
        try:
            by.append(read_columns(path)[1].get("by"))
        except CampusError:  # it is named when it is read for its values
            return paths
    return [path for path, one in zip(paths, by, strict=True) if one == by[-1]]


def fold(paths: list[Path], n_rows: int) -> RowValues:
    """The values in the files of stages, all by the same probe domains.

    Args:
        paths: of the files.
        n_rows: of the training set.

    Raises:
        DataError: a file is damaged, or of other probes than the first.
    """
    probes: tuple[str, ...] = ()

    def visits() -> Iterator[ValuedVisits]:
        for path in paths:
            try:
                columns, _ = read_columns(path)
                if probes_of(columns) != probes:
                    raise KeyError(f"the probes {', '.join(probes_of(columns))}")
                yield ValuedVisits.of_columns(columns, probes)
            except (CampusError, KeyError) as error:
                raise DataError(
                    f"`{path}` must be the values that this run measured in that stage, by {', '.join(probes)}, got "
                    f"{error.__cause__ or error}. Put it back from a copy to have the values of the run."
                ) from error

    with suppress(CampusError):  # it is named when it is read for its values
        probes = probes_of(read_columns(paths[0])[0])
    return RowValues.fold(visits(), n_rows, probes)


def _written(now: Situation) -> Json:
    """Write the three files; what the ledger says of them."""
    content = now.loaded.rows.content
    stages = stages_of(now)
    same = alike(list(stages))
    made = ValueTable(
        fold(same, len(content)),
        domains_to_tell(now),
        content,
        now.said().keys,
        seed=now.config.seed or 0,
        left_out=len(stages) - len(same),
        at_start=not any(stages[path] for path in same),
    )
    extremes = made.extremes()
    texts = texts_of(now.trainer, [row for _, row in extremes])
    lines = [{**made.line(*one), **text} for one, text in zip(extremes, texts, strict=True)]
    write_columns(now.folder / VALUES, made.columns(), made.about())
    atomic_write(now.folder / TRANSFER, json.dumps(plain(made.told_transfer()), ensure_ascii=False, indent=1) + "\n")
    atomic_write(
        now.folder / EXTREMES,
        (f"{json.dumps(plain(line), ensure_ascii=False)}\n".encode("utf-8", "replace") for line in lines),
    )
    return made.record()
