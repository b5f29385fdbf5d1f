"""Hands what a run leaves at its end to the trackers that its trainer reports to: TensorBoard, wandb, trackio.

Pictures (`log_plots`), and what the map of the rows and their values say in numbers (`log_map`, `log_value`): no text
of a row is sent anywhere. What a tracker cannot take costs a line and never the run: all of it lies in the run's folder
anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from campus_tune.words.console import say
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from transformers import Trainer
    from transformers.integrations.integration_utils import TensorBoardCallback, TrackioCallback, WandbCallback

PREFIX = "campus/plots"

Table: TypeAlias = Sequence[Sequence[str | int]]  # lines; the first names the columns
Things: TypeAlias = Mapping[str, "Path | float | Table"]  # name → a picture's file, a number, a table
Send: TypeAlias = Callable[[Any, "Trainer", Things], None]


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


def log_map(trainer: Trainer, record: Json) -> list[str]:
    """Log what the map of the rows says: a number for suspects and for each region, and a table by domain.

    Args:
        trainer: a `transformers.Trainer`.
        record: the ledger's line of the map; one without a map has nothing to log.

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
    return _send_all(trainer, {**numbers, "campus/map": table}, "the map of the rows")


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
    reliable = {"": record["split_half"], **{f"/{name}": one for name, one in record["split_half_by_probe"].items()}}
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
        name = type(callback).__name__
        send = _SENDERS.get(name)
        if send is None:
            continue
        tracker = name.removesuffix("Callback")
        try:
            send(callback, trainer, things)
        except Exception as error:  # of whatever library, over whatever network: no reason to lose a run
            say(f"warning: {tracker} did not take {what} ({type(error).__name__}: {error}); they are files as well")
        else:
            took.append(tracker)
    return took


def _to_tensorboard(callback: TensorBoardCallback, trainer: Trainer, things: Things) -> None:
    """Its writer is closed and gone when training has ended: another one writes into the same folder."""
    import numpy as np
    from PIL import Image

    writer, step = callback.tb_writer, trainer.state.global_step
    opened = writer is None
    if opened:
        writer = callback._SummaryWriter(log_dir=callback.logging_dir)
    try:
        for name, thing in things.items():
            if isinstance(thing, Path):
                with Image.open(thing) as image:
                    pixels = np.asarray(image.convert("RGB"))
                writer.add_image(name, pixels, step, dataformats="HWC")
            elif isinstance(thing, Sequence):
                first, *rest = (f"| {' | '.join(map(str, line))} |" for line in thing)
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


def _to_trackio(callback: TrackioCallback, trainer: Trainer, things: Things) -> None:
    """Its run is finished when training has ended, and opened again by its name."""
    trackio, ended = callback._trackio, not callback._initialized
    if ended and not trainer.args.run_name:
        raise RuntimeError("its run is finished and has no name to open it by: set run_name")
    if ended:
        callback.setup(trainer.args, trainer.state, trainer.model)  # type: ignore[no-untyped-call]  # library's
    try:
        trackio.log({**_as_theirs(trackio, things), "train/global_step": trainer.state.global_step})
    finally:
        if ended:
            trackio.finish()
            callback._initialized = False


_SENDERS: dict[str, Send] = {
    "TensorBoardCallback": _to_tensorboard,
    "WandbCallback": _to_wandb,
    "TrackioCallback": _to_trackio,
}
