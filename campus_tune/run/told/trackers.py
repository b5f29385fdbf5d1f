"""Hands what a run leaves at its end to the trackers that its trainer reports to: TensorBoard, wandb, trackio, MLflow.

Pictures (`log_plots`), and what the map of the rows and their values say in numbers (`log_map`, `log_value`), with a
table of the rows that look wrong: no text of a row is sent anywhere. All trackers get the same names. What a tracker
cannot take costs one line and never the run: all of it lies in the run's folder anyway.

A run may be over before ours are sent: its tracker has closed it then. `remember_runs` notes which it was. While
training, `forgiven` lets a tracker fail: with several processes, the others would wait for the one that it stops.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary, WeakSet

from campus_tune.run.row_map import FILE as MAP
from campus_tune.words.console import say
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from transformers import Trainer, TrainerCallback
    from transformers.integrations.integration_utils import (
        MLflowCallback,
        TensorBoardCallback,
        TrackioCallback,
        WandbCallback,
    )

PREFIX = "campus/plots"
SUSPECTS = "campus/suspect_rows"
MOST_SUSPECTS = 100  # rows of that table
OF_A_SUSPECT = ("row", "key", "domain", "region", "excess", "visits", "mean_loss", "lowest_probability")  # its columns
DIGITS = 4  # of its numbers
LIBRARY = "transformers.integrations."  # where the callbacks of all trackers are, also of those that get no pictures
EVENTS = ("on_log", "on_evaluate", "on_save", "on_train_end")  # what they may miss: not the beginning, which is in time

Table: TypeAlias = Sequence[Sequence[str | float | None]]  # lines; the first names the columns
Things: TypeAlias = Mapping[str, "Path | float | Table"]  # name → a picture's file, a number, a table
Send: TypeAlias = Callable[[Any, "Trainer", Things], None]
NameOfRun: TypeAlias = Callable[[Any], str | None]  # of a tracker's callback, as long as its run is open

_RUNS: WeakKeyDictionary[TrainerCallback, str] = WeakKeyDictionary()  # the run of each, by name, id or folder
_WARNED: WeakSet[TrainerCallback] = WeakSet()


def remember_runs(trainer: Trainer) -> None:
    """Note which run each tracker has open, so that it can be found when training has ended.

    Args:
        trainer: a `transformers.Trainer` whose training begins.
    """
    for callback in trainer.callback_handler.callbacks:
        tracker = _TRACKERS.get(type(callback).__name__)
        with suppress(Exception):  # of whatever version of a library: there is still what the trainer's arguments say
            if tracker is not None and (name := tracker.name_of_run(callback)):
                _RUNS[callback] = name


@contextmanager
def forgiven(trainer: Trainer) -> Iterator[None]:
    """While it trains, a tracker that fails costs one line: hours of training do not hang on a server.

    Args:
        trainer: a `transformers.Trainer` that is about to train.
    """

    def forgiving(callback: TrainerCallback, act: Callable[..., object]) -> Callable[..., object]:
        def acting(*args: object, **kwargs: object) -> object:
            try:
                return act(*args, **kwargs)
            except Exception as error:  # of whatever library, over whatever network
                _warn(callback, "what was logged", error, "training goes on")
                return None

        return acting

    held = [
        (callback, event)
        for callback in trainer.callback_handler.callbacks
        if any(base.__module__.startswith(LIBRARY) for base in type(callback).__mro__)
        for event in EVENTS
        if event not in vars(callback)  # somebody's own
    ]
    for callback, event in held:
        setattr(callback, event, forgiving(callback, getattr(callback, event)))
    try:
        yield
    finally:
        for callback, event in held:
            delattr(callback, event)


def log_plots(trainer: Trainer, pngs: Mapping[str, Path]) -> list[str]:
    """Log pictures to every tracker of a trainer, under `campus/plots/…`. Only the leading process does.

    Works while training and after its end, when trackers have closed their files.

    Args:
        trainer: a `transformers.Trainer`.
        pngs: name → file.

    Returns:
        The trackers that took them.
    """
    return _send_all(trainer, {f"{PREFIX}/{name}": path for name, path in pngs.items()}, "the plots")


def log_map(trainer: Trainer, record: Json, folder: Path | None = None) -> list[str]:
    """Log what the map of the rows says: a number for suspects and for each region, tables by domain and of suspects.

    Args:
        trainer: a `transformers.Trainer`.
        record: the ledger's line of the map; one without a map has nothing to log.
        folder: the run's `curriculum/`, where the map is; None logs no table of suspects.

    Returns:
        The trackers that took it.
    """
    if "regions" not in record:
        return []
    numbers = {f"campus/map/{region}": n for region, n in record["regions"].items()}
    numbers |= {"campus/suspects": record["suspects"], "campus/share_of_suspects": record["share_of_suspects"]}
    dirt = record.get("dirt") or {}
    numbers |= {f"campus/wrong/{name}": dirt[name] for name in ("share", "low", "high") if dirt}
    domains = [(name, found["rows"], found["suspects"]) for name, found in record["by_domain"].items()]
    table = [("domain", "rows", "suspects"), *domains, ("all rows", record["rows"], record["suspects"])]
    suspects = suspect_table(folder / MAP) if folder is not None and record["suspects"] else []
    tables = {"campus/map": table, **({SUSPECTS: suspects} if suspects else {})}
    return _send_all(trainer, {**numbers, **tables}, "the map of the rows")


def suspect_table(path: Path) -> Table:
    """The rows of a map that look wrong, the likeliest first, without their texts; [] where there are none.

    Args:
        path: `map.parquet`.
    """
    import pyarrow.parquet as pq

    found = pq.read_table(path, filters=[("suspect", "=", True)])
    columns = [name for name in OF_A_SUSPECT if name in found.column_names]  # a run may have no domains
    rows = found.sort_by([("excess", "descending"), ("row", "ascending")]).slice(0, MOST_SUSPECTS).to_pylist()
    lines = [
        [round(value, DIGITS) if isinstance(value, float) else value for value in (row[name] for name in columns)]
        for row in rows
    ]
    return [columns, *lines] if lines else []


def log_value(trainer: Trainer, record: Json) -> list[str]:
    """Log what rows were worth: rows that harm, how far halves of the probes agree, and a table of the transfer.

    Args:
        trainer: a `transformers.Trainer`.
        record: the ledger's line of it; one without values has nothing to log.

    Returns:
        The trackers that took it.
    """
    if not record["rows"]:
        return []
    numbers = {"campus/value/negative": record["negative"], "campus/value/rows": record["rows"]}
    by_probe = {f"_by_probe/{name}": one for name, one in record["split_half_by_probe"].items()}
    reliable = {"": record["split_half"], **by_probe}  # no name is the folder of another one: MLflow's would be one
    numbers |= {f"campus/value/split_half{name}": one for name, one in reliable.items() if one is not None}
    probes = list(record["split_half_by_probe"])
    rows = [
        (domain, *("" if row[probe] is None else f"{row[probe]:.3g}" for probe in probes))
        for domain, row in record["transfer"].items()
    ]
    return _send_all(trainer, {**numbers, "campus/transfer": [("rows of", *probes), *rows]}, "the values of the rows")


def _send_all(trainer: Trainer, things: Things, what: str) -> list[str]:
    """Send these to every tracker, from the leading process alone; the trackers that took them."""
    if not things or not trainer.is_world_process_zero():
        return []
    took = []
    for callback in trainer.callback_handler.callbacks:
        tracker = _TRACKERS.get(type(callback).__name__)
        if tracker is None:
            continue
        try:
            tracker.send(callback, trainer, things)
        except Exception as error:  # of whatever library, over whatever network: no reason to lose a run
            _warn(callback, what, error, "they are files as well")
        else:
            took.append(_called(callback))
    return took


def _called(callback: TrainerCallback) -> str:
    return type(callback).__name__.removesuffix("Callback")


def _warn(callback: TrainerCallback, what: str, error: Exception, instead: str) -> None:
    """Once for each tracker: what ails it is likely to go on."""
    if callback not in _WARNED:
        say(f"warning: {_called(callback)} did not take {what} ({type(error).__name__}: {error}); {instead}")
    _WARNED.add(callback)


def _folder_of_tensorboard(callback: TensorBoardCallback) -> str | None:
    return None if callback.tb_writer is None else str(callback.tb_writer.log_dir)


def _to_tensorboard(callback: TensorBoardCallback, trainer: Trainer, things: Things) -> None:
    """Its writer is closed and gone when training has ended: another one writes into the same folder."""
    import numpy as np
    from PIL import Image

    writer, step = callback.tb_writer, trainer.state.global_step
    opened = writer is None
    if opened:
        writer = callback._SummaryWriter(log_dir=_RUNS.get(callback) or callback.logging_dir)
    try:
        for name, thing in things.items():
            if isinstance(thing, Path):
                with Image.open(thing) as image:
                    pixels = np.asarray(image.convert("RGB"))
                writer.add_image(name, pixels, step, dataformats="HWC")
            elif isinstance(thing, Sequence):
                cells = ([("" if cell is None else str(cell)) for cell in line] for line in thing)
                first, *rest = (f"| {' | '.join(line)} |" for line in cells)
                writer.add_text(name, "\n".join([first, "|---" * len(thing[0]) + "|", *rest]), step)
            else:
                writer.add_scalar(name, thing, step)
        writer.flush()
    finally:
        if opened:
            writer.close()


def _as_theirs(library: Any, things: Things) -> dict[str, Any]:
    """Pictures and tables as wandb and trackio, whose words are the same, want them; early trackio has no tables."""

    def theirs(name: str, thing: Path | float | Table) -> Any:
        if isinstance(thing, Path):
            return library.Image(str(thing), caption=name.rpartition("/")[2])
        if isinstance(thing, Sequence):
            columns, *lines = ([*line] for line in thing)
            return library.Table(columns=columns, data=lines)
        return thing

    shown = {
        name: thing
        for name, thing in things.items()
        if hasattr(library, "Table") or isinstance(thing, Path) or not isinstance(thing, Sequence)
    }
    return {name: theirs(name, thing) for name, thing in shown.items()}


def _to_wandb(callback: WandbCallback, trainer: Trainer, things: Things) -> None:
    """Its run stays open until the process ends."""
    wandb = callback._wandb
    wandb.log({**_as_theirs(wandb, things), "train/global_step": trainer.state.global_step})


def _name_of_trackio(callback: TrackioCallback) -> str | None:
    run = callback._trackio.context_vars.current_run.get()
    return None if run is None else str(run.name)


def _to_trackio(callback: TrackioCallback, trainer: Trainer, things: Things) -> None:
    """Its run is finished when training has ended, and opened again by its name, which it has said once already."""
    trackio, ended = callback._trackio, not callback._initialized
    said = {**_as_theirs(trackio, things), "train/global_step": trainer.state.global_step}
    if not ended:
        trackio.log(said)
        return
    args = copy.copy(trainer.args)
    args.run_name = _RUNS.get(callback) or args.run_name
    if not args.run_name:
        raise RuntimeError("its run is finished and has no name to open it by: set run_name")
    with redirect_stdout(StringIO()):
        callback.setup(args, trainer.state, trainer.model)  # type: ignore[no-untyped-call]  # library's
        try:
            trackio.log(said)
        finally:
            trackio.finish()
            callback._initialized = False


def _name_of_mlflow(callback: MLflowCallback) -> str | None:
    run = callback._ml_flow.active_run()
    return None if run is None else str(run.info.run_id)


def _to_mlflow(callback: MLflowCallback, trainer: Trainer, things: Things) -> None:
    """Its run has ended with the training: numbers and files go to it by its id, pictures and tables as artifacts."""
    mlflow, step = callback._ml_flow, trainer.state.global_step
    run = _name_of_mlflow(callback) or _RUNS.get(callback)
    if run is None:
        raise RuntimeError("it has no run open")
    client = mlflow.MlflowClient()
    for given, thing in things.items():
        name = re.sub(r"[^\w\-. :/]", "_", given, flags=re.ASCII)  # as transformers writes those of its log
        if isinstance(thing, Path):
            client.log_artifact(run, str(thing), name.rpartition("/")[0])
        elif isinstance(thing, Sequence):
            columns, *lines = thing
            data = {str(column): [line[place] for line in lines] for place, column in enumerate(columns)}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what it would have to do for a newer pandas
                client.log_table(run, data, f"{name}.json")
        else:
            client.log_metric(run, name, float(thing), step=step)


@dataclass(frozen=True)
class Tracker:
    """How one of them is sent to.

    Args:
        send: what sends to it.
        name_of_run: by which its run is found again when it has been closed.
    """

    send: Send
    name_of_run: NameOfRun = lambda _: None


_TRACKERS: dict[str, Tracker] = {  # by the class of the trainer's callback
    "TensorBoardCallback": Tracker(_to_tensorboard, _folder_of_tensorboard),
    "WandbCallback": Tracker(_to_wandb),
    "TrackioCallback": Tracker(_to_trackio, _name_of_trackio),
    "MLflowCallback": Tracker(_to_mlflow, _name_of_mlflow),
}
