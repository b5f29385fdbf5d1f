r"""A run read back as arrays: who was drawn, who was left out, how much rows counted, what steered it, what it showed.

>>> import json, tempfile
>>> folder = Path(tempfile.mkdtemp())
>>> lanes = {"offer": 6, "mix": 2, "review": 0}
>>> stages = [
...     {"event": "decision", "stage": k, "step": 2 * k, "steps": 2, "epoch": 0, "chosen": "length", "rows": 8,
...      "outcome": "only one", "scope": [0, 1], "lanes": lanes, "shares": {"code": 0.25, "math": 0.75}}
...     for k in range(3)
... ]
>>> run = {"event": "run", "past": {"n_rows": 40}, "future": {"total_steps": 6}}
>>> _ = (folder / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [run, *stages]))
>>> found = read_finished(folder)
>>> found.steps.tolist(), found.lanes["mix"].tolist(), found.shares["math"].tolist(), found.book
([0, 2, 4], [2, 2, 2], [0.75, 0.75, 0.75], {})

In pandas `pd.DataFrame(found.book)` is a table with a line for each row, `pd.DataFrame(found.weights)` one with a line
for each stage, `pd.DataFrame(found.events)` one with a line for each time a rule saw something.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.method.weighed import BARS
from campus_tune.run.book_keeping import FILE as BOOK
from campus_tune.run.ledger import FILE, FOLDER
from campus_tune.run.ledger_lines import find_ledger, read_events
from campus_tune.run.row_map import FILE as MAP
from campus_tune.run.told import DROPPED
from campus_tune.run.value_table import TRANSFER, VALUES
from campus_tune.scores.cache import read_columns
from campus_tune.words.errors import DataError, ResumeError
from campus_tune.words.files import read_jsonl
from campus_tune.words.json_shapes import read_json
from campus_tune.words.types import FloatArray, IntArray, Json


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """What a run left, stage by stage and row by row. Of a run that drew all rows alike most of it is empty.

    Args:
        steps: optimizer steps before each stage, shape (stages,).
        chosen: what each stage trained: a sub-curriculum, or `shuffle`.
        lanes: `offer`, `mix`, `review` → rows of each stage, shape (stages,).
        shares: stratum → its part of each stage's offered and mixed rows, shape (stages,).
        passes: domain → passes over it when each stage was opened, shape (stages,).
        passed_over: rows that each stage offered and did not train, shape (stages,).
        cells: rows of each cell.
        dropped: rows that were left out: `row`, `reason`, `key`, and where known `domain`, `instead`, `text`.
        map: what is known of each row at the run's end, by column: `row`, `key`, `region`, `excess`, `suspect`, …,
            shape (N,) each; NaN or None where nothing is known. {} of a run without one.
        weights: how much the rows of each stage counted, by number: `mean`, `min`, `max` of the weights, `ess` their
            effective sample size and `half` the rows that carried half of the gradient (parts of the stage's rows),
            `weighted_loss` the loss that was minimised, `clipped` and `steps` of the optimizer, shape (stages,) each;
            NaN where a stage was not weighted, is not over, or does not say. {} of a run without weights.
        weight_by_domain: domain → its rows' mean weight in each stage, by tokens, shape (stages,), NaN likewise.
        weight_bars: bar of the histogram → rows of each stage, shape (stages,).
        events: what rules saw, in sequence: `kind`, `name`, `probe`, `step`, `value`, `bound`, `against`, `actions`,
            `times`, …; where something was done at once, `done`.
        moved: what the record has made of shares, a line for each stratum each time: `stage`, `step`, `stratum`,
            `before`, `after`, `signal` (None where nothing is known).
        pi: sub-curriculum → a bandit's chance of it at each stage, shape (stages,), NaN where nothing was chosen.
        rewards: what each stage was worth to a bandit: `value` per learning rate and token, `scaled` in [−1, 1] beside
            the others, shape (stages,) each; NaN where nothing was chosen, or no later decision says it.
        probe_steps: optimizer steps before each measurement of the probes, shape (measurements,).
        competence: probe domain → competence at each measurement, shape (measurements,); NaN where it was not measured.
        calibration: probe domain → expected calibration error at each measurement, shape (measurements,), NaN likewise.
        book: what training showed of each row, by column: `row`, `visits`, `cell`, `last`, `excess`, …, shape (N,)
            each; NaN where a row was never trained. {} where nothing was drawn by it.
        value: what each row was worth to the probes, by column: `row`, `key`, `value`, `a`, `b`, `visits`, and of
            each probe domain `value NAME`, …, shape (N,) each; NaN where a row has no value. {} without.
        transfer: what domains did to each other: `domains`, `probes`, matrices `mean`, `low`, `high`, `clear`; {}
            without.
        end: the ledger's last line; {} of a run that is not over.
    """

    steps: IntArray
    chosen: tuple[str, ...]
    lanes: Mapping[str, IntArray]
    shares: Mapping[str, FloatArray]
    passes: Mapping[str, FloatArray]
    passed_over: IntArray
    cells: Mapping[str, int]
    dropped: Sequence[Json]
    map: Mapping[str, NDArray[Any]]
    weights: Mapping[str, FloatArray]
    weight_by_domain: Mapping[str, FloatArray]
    weight_bars: Mapping[str, IntArray]
    events: Sequence[Json]
    moved: Sequence[Json]
    pi: Mapping[str, FloatArray]
    rewards: Mapping[str, FloatArray]
    probe_steps: IntArray
    competence: Mapping[str, FloatArray]
    calibration: Mapping[str, FloatArray]
    book: Mapping[str, NDArray[Any]]
    value: Mapping[str, NDArray[Any]]
    transfer: Json
    end: Json


def read_finished(run: Path | str) -> FinishedRun:
    """Read a run back. A group that a stage says nothing of has 0 there.

    Args:
        run: its output_dir, the `curriculum/` folder in it, or the ledger.

    Raises:
        DataError: there is no ledger; or it, the map, the book or the list of dropped rows is damaged.
    """
    ledger = find_ledger(Path(run))
    if ledger is None:
        raise DataError(f"`{run}` must hold a run's {FOLDER}/{FILE}, got none. Name the output_dir of a run.")
    events, home = read_events(ledger), ledger.parent
    decisions = [event for event in events if event["event"] == "decision"]
    began = beginnings(events)
    ends = {event["stage"]: event for event in events if event["event"] == "stage_end"}
    weighted = [weight_numbers(ends.get(decision["stage"], {})) for decision in decisions]
    probes = [event for event in events if event["event"] == "probes"]
    told = [reward for decision in decisions if (reward := decision.get("reward")) is not None]
    worth = {reward["stage"]: {name: reward[name] for name in ("value", "scaled")} for reward in told}
    return FinishedRun(
        steps=np.array([decision["step"] for decision in decisions], dtype=np.int64),
        chosen=tuple(decision["chosen"] for decision in decisions),
        lanes={name: values.astype(np.int64) for name, values in _by_stage(decisions, "lanes").items()},
        shares=_by_stage(decisions, "shares"),
        passes=_by_stage(decisions, "passes"),
        passed_over=np.array([decision.get("passed_over", 0) for decision in decisions], dtype=np.int64),
        cells=began[-1].get("cells", {}) if began else {},
        dropped=read_dropped(home, events),
        map=read_stored(home / MAP, "map"),
        weights=_by_stage(weighted, "numbers", np.nan),
        weight_by_domain=_by_stage(weighted, "by_domain", np.nan),
        weight_bars={name: rows.astype(np.int64) for name, rows in _by_stage(weighted, "bars").items()},
        events=[{key: event[key] for key in event if key != "event"} for event in events if event["event"] == "event"],
        moved=[line for event in events if event["event"] == "shares" for line in moved_shares(event)],
        pi=_by_stage(decisions, "pi", np.nan),
        rewards=_by_stage([{"rewards": worth.get(decision["stage"], {})} for decision in decisions], "rewards", np.nan),
        probe_steps=np.array([event["step"] for event in probes], dtype=np.int64),
        competence=_by_stage([_of_domains(event, "competence") for event in probes], "domains", np.nan),
        calibration=_by_stage([_of_domains(event, "ece") for event in probes], "domains", np.nan),
        book=read_stored(home / BOOK, "book"),
        value=read_stored(home / VALUES, "values of the rows"),
        transfer=_transfer(home / TRANSFER),
        end=events[-1] if events[-1]["event"] == "end" else {},
    )


def beginnings(events: Sequence[Json]) -> list[Json]:
    """Lines of the ledger with which a run began, or went on, that say what is dropped; the last one holds."""
    return [event for event in events if event["event"] in ("run", "resumed") and "dropped" in event]


def read_dropped(home: Path, events: Sequence[Json]) -> Sequence[Json]:
    """The rows that were left out; none where a run that went on drops none any more, whatever file there is.

    Args:
        home: a run's `curriculum/`.
        events: its ledger's lines.

    Raises:
        DataError: the list of them is missing or damaged.
    """
    began = beginnings(events)
    later = events[events.index(began[-1]) :] if began else []
    left_out = any(event["dropped"] for event in later if event["event"] == "suspects" or event is later[0])
    return read_jsonl(home / DROPPED) if left_out else ()


def read_stored(path: Path, what: str) -> dict[str, NDArray[Any]]:
    """The columns of a table that the run left; {} where it left none.

    Args:
        path: of the table.
        what: it is, in messages.

    Raises:
        DataError: it is damaged.
    """
    try:
        return read_columns(path)[0] if path.exists() else {}
    except ResumeError as error:
        raise DataError(
            f"`{path}` must be the {what} that the run left, got {error.__cause__}. Put it back from a copy, or "
            "remove it to read the rest."
        ) from error


def _transfer(path: Path) -> Json:
    """What domains did to each other, as the run left it; {} where it left nothing."""
    try:
        return dict(read_json(path, {"domains": [str], "probes": [str]})) if path.exists() else {}
    except ValueError as error:
        raise DataError(
            f"`{path}` must be the transfer that the run left, got another file ({error}). Put it back from a copy, or "
            "remove it to read the rest."
        ) from error


def weight_numbers(end: Json) -> Json:
    """The numbers of a stage whose rows were weighted, as its end says them; {} of another one."""
    if "weights" not in end:
        return {}
    said, known = end["weights"], {"weighted_loss": end.get("weighted_loss")}
    known |= {name: said.get(name) for name in ("mean", "min", "max", "ess", "half")}
    known |= dict(zip(("clipped", "steps"), end.get("clipped_steps") or (None, None), strict=True))
    return {
        "numbers": {name: np.nan if number is None else number for name, number in known.items()},
        "by_domain": said["by_domain"],
        "bars": dict(zip(BARS, said["histogram"], strict=True)),
    }


def moved_shares(event: Json) -> list[Json]:
    """A line for each stratum of the ledger's line of shares that moved."""
    when = {"stage": event["stage"], "step": event["step"]}
    return [
        {
            **when,
            "stratum": name,
            "before": event["before"].get(name),
            "after": share,
            "signal": event["signal"].get(name),
        }
        for name, share in event["after"].items()
    ]


def _of_domains(event: Json, key: str) -> Json:
    """One number of each domain, of those that the probes say it of."""
    return {"domains": {name: of[key] for name, of in event["domains"].items() if of.get(key) is not None}}


def _by_stage(stages: Sequence[Json], key: str, absent: float = 0) -> dict[str, FloatArray]:
    """The numbers that stages give to groups, an array for each group over the stages.

    >>> {name: values.tolist() for name, values in _by_stage([{"shares": {"code": 1}}, {}], "shares").items()}
    {'code': [1.0, 0.0]}
    """
    names = dict.fromkeys(name for stage in stages for name in stage.get(key, {}))
    return {
        name: np.array([stage.get(key, {}).get(name, absent) for stage in stages], dtype=np.float64) for name in names
    }
