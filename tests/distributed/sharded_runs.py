"""Whole runs of a sharded trainer on CPUs. Accelerate shards on accelerators only: it is made to believe in some."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from campus_tune.words.types import Json

FSDP2 = {  # what `accelerate launch` sets for a config with fsdp_version: 2
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_OFFLOAD_PARAMS": "false",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    "FSDP_SYNC_MODULE_STATES": "true",
    "FSDP_ACTIVATION_CHECKPOINTING": "false",
}
ZERO = {  # the same for DeepSpeed; the stage comes on top
    "ACCELERATE_USE_DEEPSPEED": "true",
    "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "none",
    "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "none",
    "ACCELERATE_DEEPSPEED_ZERO3_INIT": "true",
    "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL": "true",
    "DS_ACCELERATOR": "cpu",
}


def train(
    out: str,
    *,
    saves: tuple[int, ...] = (),
    stop: int | None = None,
    resume: bool = False,
    soft_caps: bool = False,
    **settings: Any,
) -> Json:
    """One run of `tiny_run.tiny_trainer`.

    Args:
        out: output_dir.
        saves: steps after which a checkpoint is written.
        stop: step before which training breaks off.
        resume: go on from the last checkpoint.
        soft_caps: train a model that does something after its head.
        settings: of `tiny_trainer`.
    """
    take_cpus_for_accelerators()
    from campus_tune.model import compat
    from campus_tune.model.fingerprint import weights_fingerprint
    from tests.distributed.scenarios import save_at, stop_before, train_until
    from tests.run.tiny_run import history_of, tiny_trainer

    if soft_caps:
        from tests.model.test_measure import soft_capped

        settings["model"] = soft_capped()
    stopper = stop_before(stop)
    trainer = tiny_trainer(Path(out), callbacks=[save_at(*saves), stopper], **settings)
    train_until(trainer, stopper, resume=resume)
    return {
        "kind": trainer.accelerator.distributed_type.value,
        "sharded": compat.subject(trainer).sharded,
        "history": history_of(trainer),
        "weights": weights_fingerprint(trainer.model),
        "counts": compat.parameter_counts(trainer.model),
        "stopped": stopper.reached,
    }


def take_cpus_for_accelerators() -> None:
    """Accelerate asks what kind of devices the processes have before it shards; on CPUs it would use DDP."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return
    from accelerate import PartialState
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedType

    begin = AcceleratorState.__init__

    def pretend(self: Any, mixed_precision: Any = None, cpu: bool = False, *args: Any, **kwargs: Any) -> None:
        state = PartialState(cpu)
        if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
            import deepspeed

            deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)  # the group that is there
            cpu = False
        elif state.distributed_type == DistributedType.MULTI_CPU:
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        begin(self, mixed_precision, cpu, *args, **kwargs)

    AcceleratorState.__init__ = pretend
