"""Launches that are refused: what accelerate would start otherwise than asked, or what a curriculum cannot serve."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from campus_tune.recipe.accelerate_yaml import launch_flags, no_value
from campus_tune.words.types import Json

REFUSED = {
    "MEGATRON_LM": "its processes share rows",
    "XLA": "no run on TPUs has been checked",
}
SHARED = {  # several processes would read one row together
    "parallelism_config_tp_size": "tensor parallelism",
    "parallelism_config_cp_size": "context parallelism",
    "parallelism_config_sp_size": "sequence parallelism",
}
ONE_PROCESS = ("NO", "MULTI_CPU", "")  # under these, accelerate starts one, whatever number it is told
MOST = 256  # processes on one machine
KINDS = {  # the flags that choose a kind of launch, in the sequence in which accelerate looks at them
    "cpu": "NO",
    "use_deepspeed": "DEEPSPEED",
    "use_fsdp": "FSDP",
    "use_megatron_lm": "MEGATRON_LM",
    "multi_gpu": "MULTI_GPU",
    "tpu": "XLA",
}


def launch_problems(
    settings: Json, flags: Mapping[str, str | bool], *, shipped: bool = False, on_cpu: bool = False
) -> Iterator[str]:
    """All that is wrong with a launch, before a process is started.

    Args:
        settings: what accelerate will go by: its YAML, and over it the flags.
        flags: of the command line and the recipe.
        shipped: the YAML is one of TRL's own.
        on_cpu: the processes train without a GPU, also where there are some.
    """
    for name, value in flags.items():
        if name in launch_flags() and value is not True:
            yield from no_value(name, value, launch_flags()[name])
    kind = kind_of(settings)
    if kind in REFUSED:
        why = f"got {kind}: {REFUSED[kind]}. Take one of these."
        yield f"`distributed_type` must be MULTI_GPU, FSDP or DEEPSPEED, {why}"
        return
    for key, name in SHARED.items():
        if _number(settings.get(key)) > 1:
            yield f"`{key}` must be 1, got {settings[key]}: {name} lets processes share a row. Leave it out."
    if kind == "FSDP":
        yield from _fsdp_problems(settings)
    if kind == "DEEPSPEED" and not _has_deepspeed():
        yield "`distributed_type: DEEPSPEED` must have the package deepspeed, got none. Run: pip install deepspeed"
    asked = "num_processes" in flags or not shipped  # TRL's single_gpu says 8, and means what it is called
    if kind in ONE_PROCESS:
        yield from _one_process(settings, kind) if asked else ()
    else:
        yield from _several_processes(settings, on_cpu)


def kind_of(settings: Json) -> str:
    """The kind, in accelerate's words, that these settings come to; empty where it looks at the devices."""
    chosen = next((kind for flag, kind in KINDS.items() if settings.get(flag) is True), None)
    return chosen or str(settings.get("distributed_type", "MULTI_GPU" if n_devices() > 1 else ""))


def n_devices() -> int:
    """Accelerators of this machine."""
    import torch

    return torch.accelerator.device_count()


def _fsdp_problems(settings: Json) -> Iterator[str]:
    version = settings.get("fsdp_version")
    if str(version) != "2":
        got = "nothing, which accelerate takes for 1" if version is None else version
        yield f"`fsdp_version` must be 2, got {got}. Write `fsdp_version: 2` under fsdp_config."
    if not n_devices():
        yield (
            "`distributed_type: FSDP` must have accelerators, got a machine without one, where accelerate shards "
            "nothing, and says nothing. Take recipes/accelerate/ddp_cpu.yaml."
        )


def _one_process(settings: Json, kind: str) -> Iterator[str]:
    number = _number(settings.get("num_processes", 1))
    if number < 1:
        yield _too_few(settings)
    elif number > 1:
        how = "--cpu" if settings.get("cpu") else f"distributed_type: {kind}" if kind else "no kind of launch"
        yield (
            f"`num_processes` must be 1 with {how}, got {number}: accelerate would start one and say nothing. Write "
            "`distributed_type: MULTI_GPU` or --multi_gpu, which starts processes without a GPU too, or take "
            "recipes/accelerate/ddp_cpu.yaml."
        )


def _several_processes(settings: Json, on_cpu: bool) -> Iterator[str]:
    given, here = settings.get("num_processes"), n_devices()
    machines = max(1, _number(settings.get("num_machines")))
    if given is None:
        if "distributed_type" in settings or not here:
            yield "`num_processes` must be given, got nothing. Add --num_processes 2 (or what you have)."
    elif _number(given) < 1:
        yield _too_few(settings)
    elif _number(given) > MOST * machines:
        yield f"`num_processes` must be at most {MOST * machines}, got {given}. Lower it."
    elif 0 < here < _number(given) / machines and not on_cpu:
        yield f"`num_processes` must be at most {here * machines}, one per GPU, got {given}. Lower it."


def _too_few(settings: Json) -> str:
    return f"`num_processes` must be at least 1, got {settings['num_processes']}. Write --num_processes 2, for example."


def _number(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return 0


def _has_deepspeed() -> bool:
    from accelerate.utils import is_deepspeed_available

    return bool(is_deepspeed_available())
