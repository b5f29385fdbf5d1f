"""Putting a curriculum on a trainer: what is set on the instance, and what is refused before anything is lost.

Which kind of run it gets hangs on the trainer: TRL's own for reward are handed prompts (`prompts.PromptRun`), all
others rows (`run.CampusRun`). What is set is the same.

Seven methods of this one trainer instance are set, and nothing else, of no class and no library:

- `get_train_dataloader`, the trainer's documented override point, returns our loader; a user's own is refused;
- `log` is wrapped, so that the curriculum's scalars travel in the same line as the loss, to every tracker;
- `_save_checkpoint` is wrapped: what a checkpoint needs of the curriculum is brought together on every rank before it
  is written, whoever asked for it and when; it counts once each of its files is recorded with its hash;
- `save_model` is wrapped: weights that are saved for others must be finite;
- `_load_rng_state` is wrapped: random states of another number of processes are not taken;
- `train` is wrapped, so that `resume_from_checkpoint=True` finds the last *complete* checkpoint;
- `create_model_card` is wrapped, where trl has one: the card gets a section on the curriculum.

What is wrapped may be the user's own: it is called with the arguments it was given. The first five are taken off when
`train()` ends, however it ends; while it runs, the trainer's loop over an epoch is wrapped too, so that it counts on in
a resume (`compat.resumed_inside_an_epoch`), and so is what trackers do with what is logged, so that one that fails does
not end the run (`trackers.forgiven`). The user's arguments are not touched, but for `ignore_data_skip`, which is
on from the beginning of a resume until the trainer has read it (our loader restores its own position), and for
`save_total_limit` inside of a save (`saver.Saver`).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from campus_tune.model import compat
from campus_tune.model.other_tasks import (
    refuse_headless,
    refuse_other_prompts,
    refuse_other_rows,
    refuse_other_task,
    refuse_probes,
)
from campus_tune.model.packed_rows import translated_of
from campus_tune.model.peers import Peers
from campus_tune.model.reward_trainers import is_driven_by_reward
from campus_tune.model.valuable import refuse_value
from campus_tune.model.weighable import refuse_weights
from campus_tune.preview.cost_plan import asks_the_model
from campus_tune.recipe.packing import SETTING
from campus_tune.recipe.reward_rules import for_rewards
from campus_tune.recipe.trainer_settings import NO_STREAM, refused
from campus_tune.recipe.value_block import ValueSettings
from campus_tune.run.borrowed import Borrowed
from campus_tune.run.checkpoints import Checkpoint, last_complete, named, read_state, saved_curriculum
from campus_tune.run.driven import DrivenRun
from campus_tune.run.one_trainer import refuse_taken, refuse_two
from campus_tune.run.overrides import TrainCall, refuse_own_data_path
from campus_tune.run.prompts import PromptRun
from campus_tune.run.run import CampusRun
from campus_tune.run.told.card import add_to_card
from campus_tune.run.told.trackers import forgiven
from campus_tune.words.errors import ResumeError, TrainerError
from campus_tune.words.progress import VOLUME

if TYPE_CHECKING:
    from transformers import Trainer

    from campus_tune.run.callback import CampusCallback


def put_on(trainer: Trainer, callback: CampusCallback) -> None:
    """Add a callback to a trainer that is already made, and take over its data path.

    Args:
        trainer: whose `train()` was not called yet.
        callback: that no trainer has.

    Raises:
        TrainerError: a trainer under which a planned order would not be trained; it is left as it was.
    """
    trainer.add_callback(callback)
    try:
        callback.take_over(trainer)
    except BaseException:
        trainer.remove_callback(callback)
        raise


def equip(trainer: Trainer, callback: CampusCallback, kind: type[CampusCallback]) -> DrivenRun:
    """Check the trainer and set the seven methods.

    Args:
        trainer: that has the callback.
        callback: whose settings, probes and reports the run takes.
        kind: the class of such callbacks, of which a trainer may have one.
    """
    config, train = callback.config, trainer.train
    refuse_two(trainer, kind)
    run: DrivenRun
    if is_driven_by_reward(trainer):
        config = for_rewards(config)
        refuse(trainer)
        refuse_probes(callback.probes)
        run = PromptRun(trainer, config, callback.reports)
    else:
        refuse(trainer, weighs=config.draw.must_weigh, value=config.value)
        if asks_the_model(config, has_probes=bool(config.probes) or callback.probes is not None):
            refuse_headless(compat.model_of(trainer))
        run = CampusRun(trainer, config, callback.probes, callback.reports)
    log: Callable[..., object] = trainer.log
    save: Callable[..., object] = trainer.save_model

    @functools.wraps(log)
    def log_with_curriculum(*args: object, **kwargs: object) -> None:
        logs = args[0] if args else kwargs.get("logs")
        if isinstance(logs, dict):
            run.complete_line(logs)
        log(*args, **kwargs)

    @functools.wraps(save)
    def save_what_is_finite(*args: object, **kwargs: object) -> object:
        run.before_leaving()
        return save(*args, **kwargs)

    ours = Borrowed(
        trainer,
        get_train_dataloader=run.make_loader,
        log=log_with_curriculum,
        save_model=save_what_is_finite,
        _save_checkpoint=compat.around_saves(trainer, run.saving),
        _load_rng_state=compat.random_states_if(trainer, run.takes_random_states),
    )

    @functools.wraps(train)
    def train_once(*args: object, **kwargs: object) -> object:
        call = TrainCall(train, args, kwargs)
        refuse_taken(trainer, run, kind)
        if run.finished and not call.resume:
            raise TrainerError(
                "`train()` must be called once on a trainer with a curriculum, got a second call: the model is trained "
                "already, and a second curriculum would begin with it. Make a new trainer. To train on from the last "
                "checkpoint, give the new one a larger num_train_epochs and the block resume: changed_future, and "
                "call train(resume_from_checkpoint=True)."
            )
        refuse_two(trainer, kind)
        refuse(
            trainer, ours=ours.ours, weighs=config.draw.must_weigh, value=config.value
        )  # again: it may have been changed since. Over ours: the audit finds out
        ours.take()
        try:
            with run.activities.guarded(), VOLUME.quieted(wanted=callback.quiet), run.training():
                run.come_from(_find_checkpoint(trainer, run, call))
                counting = compat.resumed_inside_an_epoch(trainer, run.steps_in_epoch)
                with counting, forgiven(trainer):
                    return run.loop.whole_loss(call.make())
        finally:
            ours.give_back()

    ours.take()
    trainer.train = train_once  # type: ignore[method-assign,assignment]  # of this instance, on purpose
    run.complete_card = add_to_card(trainer, run.card_section)
    return run


def _find_checkpoint(trainer: Trainer, run: DrivenRun, call: TrainCall) -> Checkpoint | None:
    """What a call of `train` goes on from: a checkpoint that is whole, or None to start at the first step."""
    found = None
    if call.resume is True:
        found = last_complete(Path(str(trainer.args.output_dir)), run.folder, run.peers)
    elif call.resume:
        found = named(Path(call.resume), run.folder, run.peers)
    if call.resume:
        call.resume_from(None if found is None else str(found.path))
    if found is not None:
        _refuse_other_shards(trainer, found.path, run.peers)
    return found


def refuse(
    trainer: Trainer,
    *,
    ours: Collection[str] = (),
    weighs: bool = False,
    value: ValueSettings | None = None,
) -> None:
    """Settings, and methods of the user's own, under which the planned order would not be trained.

    Args:
        trainer: that a curriculum is put on.
        ours: methods that are ours already.
        weighs: the recipe has weights that hold whatever the run shows.
        value: asks what rows are worth.

    Raises:
        TrainerError: the first of them.
    """
    args = trainer.args
    refuse_other_task(trainer)
    problems = refused(vars(args))
    if problems:
        equivalent = translated_of(trainer) if getattr(args, SETTING, False) else None
        raise TrainerError(problems[0] if equivalent is None else f"{problems[0]} Here: {equivalent}.")
    refuse_own_data_path(trainer, ours=ours)
    compat.refuse_kind_of_launch(trainer)
    if weighs:
        refuse_weights(trainer)
    if value is not None:
        refuse_value(trainer, adam=value.adam)
    dataset = trainer.train_dataset  # that there is none is said when the loader is made, in the trainer's own words
    if dataset is not None:
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise TrainerError(
                f"`train_dataset` must have a length and rows by position, got {type(dataset).__name__}: a stream "
                f"cannot be sorted. {NO_STREAM}"
            )
        if is_driven_by_reward(trainer):
            refuse_other_prompts(trainer)
        else:
            refuse_other_rows(dataset, functools.partial(compat.unused_columns, trainer))

    # Launched as many, but each for itself: all of them would train everything, and write into one folder.
    launched = int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1
    if launched > 1 and trainer.accelerator.num_processes == 1:
        raise TrainerError(
            f"{launched} processes must train together, got each for itself: accelerate found no accelerator to join "
            "them on. On a CPU write use_cpu: true in the recipe (use_cpu=True in SFTConfig)."
        )
    parallel = getattr(trainer.accelerator, "parallelism_config", None)
    sizes = {name: getattr(parallel, f"{name}_size", 1) for name in ("tp", "cp", "sp")} if parallel else {}
    if any(size > 1 for size in sizes.values()):
        raise TrainerError(
            f"tensor, context and sequence parallelism must be off with a curriculum, got {sizes}. "
            "Use data parallelism (DDP, FSDP, ZeRO)."
        )
    if args.n_gpu > 1:
        raise TrainerError(
            f"one process must drive one GPU, got {args.n_gpu} in this one (DataParallel). "
            "Start with `accelerate launch`, or set CUDA_VISIBLE_DEVICES to one GPU."
        )


def _refuse_other_shards(trainer: Trainer, checkpoint: Path, peers: Peers) -> None:
    """DeepSpeed cuts the optimizer's state by the number of processes and reads no other cut; FSDP reads only its own.

    Raises:
        ResumeError: the checkpoint was written by another number of processes, or under FSDP and this is none.
    """
    if not trainer.is_fsdp_enabled and peers.led(lambda: any(checkpoint.glob("pytorch_model_fsdp*"))):
        raise ResumeError(
            f"a checkpoint of FSDP must be resumed under FSDP, got {peers.world} process{'es' * (peers.world > 1)} "
            "without it: its optimizer state is stored in FSDP's own way. Launch with recipes/accelerate/fsdp2.yaml; "
            "the number of processes may change, from two on."
        )
    if not trainer.is_deepspeed_enabled:
        return
    state = peers.led(lambda: read_state(checkpoint)) or {}
    world = saved_curriculum(state).get("identity", {}).get("batch", {}).get("world")
    if world not in (None, peers.world):
        raise ResumeError(
            f"a DeepSpeed checkpoint must be resumed on as many processes as wrote it ({world}), got {peers.world}: "
            "its optimizer state is cut by them. Launch with that number; under DDP and FSDP2 it may change."
        )
