"""Hands the pictures of a run to the trackers that its trainer reports to: TensorBoard, wandb, trackio.

What a tracker cannot take costs a line and never the run: the pictures lie beside the report anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from campus_tune.words.console import say

if TYPE_CHECKING:
    from transformers import Trainer
    from transformers.integrations.integration_utils import TensorBoardCallback, TrackioCallback, WandbCallback

PREFIX = "campus/plots"

Send: TypeAlias = Callable[[Any, "Trainer", Mapping[str, Path]], None]


def log_plots(trainer: Trainer, pngs: Mapping[str, Path]) -> list[str]:
    """Log pictures to every tracker of a trainer, under `campus/plots/…`. Only the leading process does.

    Works while training and after its end, when trackers have closed their files.

    Args:
        trainer: a `transformers.Trainer`.
        pngs: name → file.

    Returns:
        The trackers that took them.
    """
    if not pngs or not trainer.is_world_process_zero():
        return []
    took = []
    for callback in trainer.callback_handler.callbacks:
        name = type(callback).__name__
        send = _SENDERS.get(name)
        if send is None:
            continue
        tracker = name.removesuffix("Callback")
        try:
            send(callback, trainer, pngs)
        except Exception as error:  # of whatever library, over whatever network: no reason to lose a run
            say(f"warning: {tracker} did not take the plots ({type(error).__name__}: {error}); they are files as well")
        else:
            took.append(tracker)
    return took


def _to_tensorboard(callback: TensorBoardCallback, trainer: Trainer, pngs: Mapping[str, Path]) -> None:
    """Its writer is closed and gone when training has ended: another one writes into the same folder."""
    import numpy as np
    from PIL import Image

    writer = callback.tb_writer
    opened = writer is None
    if opened:
        writer = callback._SummaryWriter(log_dir=callback.logging_dir)
    try:
        for name, path in pngs.items():
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
            writer.add_image(f"{PREFIX}/{name}", pixels, trainer.state.global_step, dataformats="HWC")
        writer.flush()
    finally:
        if opened:
            writer.close()


def _to_wandb(callback: WandbCallback, trainer: Trainer, pngs: Mapping[str, Path]) -> None:
    """Its run stays open until the process ends."""
    wandb = callback._wandb
    images = {f"{PREFIX}/{name}": wandb.Image(str(path), caption=name) for name, path in pngs.items()}
    wandb.log({**images, "train/global_step": trainer.state.global_step})


def _to_trackio(callback: TrackioCallback, trainer: Trainer, pngs: Mapping[str, Path]) -> None:
    """Its run is finished when training has ended, and opened again by its name."""
    trackio, ended = callback._trackio, not callback._initialized
    if ended and not trainer.args.run_name:
        raise RuntimeError("its run is finished and has no name to open it by: set run_name")
    if ended:
        callback.setup(trainer.args, trainer.state, trainer.model)  # type: ignore[no-untyped-call]  # library's
    try:
        images = {f"{PREFIX}/{name}": trackio.Image(str(path), caption=name) for name, path in pngs.items()}
        trackio.log({**images, "train/global_step": trainer.state.global_step})
    finally:
        if ended:
            trackio.finish()
            callback._initialized = False


_SENDERS: dict[str, Send] = {
    "TensorBoardCallback": _to_tensorboard,
    "WandbCallback": _to_wandb,
    "TrackioCallback": _to_trackio,
}
