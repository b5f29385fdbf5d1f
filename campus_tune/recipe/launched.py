"""What accelerate's launcher was asked for, and whether the processes that it started are that.

accelerate takes much in silence: under `MULTI_CPU` it starts one process whatever number it is told, and on a machine
without an accelerator it shards nothing. So the command that launches says in one environment variable what was asked
for, and every process compares what it got, before anything is loaded. Which flags there are is asked of the launcher's
own parser; what the launcher refuses by itself is refused in its words.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from campus_tune.words.errors import RecipeError
from campus_tune.words.registry import nearest

if TYPE_CHECKING:
    from accelerate.commands.config.config_args import ClusterConfig

CONFIG = "accelerate_config"
ASKED = "CAMPUS_TUNE_ASKED"  # the environment variable

# Flags of accelerate's that are no flags of ours: it is told which module to run, and by `--accelerate_config` how.
NOT_OURS = {"help", "config_file", "module", "no_python", "main_training_function", "env", "vm"}
NOT_OURS |= {"aws_access_key_id", "aws_secret_access_key"}

PREFIXED = {"fsdp_config": "fsdp_", "dynamo_config": "dynamo_"}  # sections whose keys may leave the prefix out
UNPUBLISHED = ("fsdp_ignored_modules",)  # read by the launcher, though no flag of it
SHARING = {  # kinds that are more than a copy of the model per process, and accelerate's sign of them in a process
    "FSDP": "ACCELERATE_USE_FSDP",
    "MEGATRON_LM": "ACCELERATE_USE_MEGATRON_LM",
    "DEEPSPEED": "",
    "XLA": "",
}
KINDS = {  # the flags that choose a kind of launch, in the sequence in which accelerate looks at them
    "cpu": "NO",
    "use_deepspeed": "DEEPSPEED",
    "use_fsdp": "FSDP",
    "use_megatron_lm": "MEGATRON_LM",
    "multi_gpu": "MULTI_GPU",
    "tpu": "XLA",
}


@cache
def launch_flags() -> dict[str, argparse.Action]:
    """The flags of `accelerate launch` that our commands hand on, by their names without dashes."""
    from accelerate.commands.launch import launch_command_parser

    actions = launch_command_parser()._actions
    names = {word.removeprefix("--"): action for action in actions for word in action.option_strings if word[2:]}
    return {name: one for name, one in names.items() if "-" not in name and name not in NOT_OURS}


def is_switch(action: argparse.Action) -> bool:
    """The flag stands alone: it takes no value."""
    return action.nargs == 0


def find_config(name: str) -> Path:
    """The file that `accelerate_config` means: a path, or, as in TRL, the name of a configuration that TRL ships.

    Raises:
        RecipeError: neither; the nearest name is suggested.
    """
    path = Path(name)
    if path.is_file() or len(path.parts) > 1 or path.suffix:
        return path
    import importlib.resources

    folder = Path(str(importlib.resources.files("trl").joinpath("accelerate_configs")))
    shipped = sorted(one.stem for one in folder.glob("*.yaml"))
    if name not in shipped:
        raise RecipeError(
            f"`{CONFIG}` must be a file, or a configuration of TRL's by name ({', '.join(shipped)}), got {name!r}."
            f"{nearest(name, shipped)} Ours are files: recipes/accelerate/ddp.yaml and its neighbours."
        )
    return folder / f"{name}.yaml"


def section_problems(config: ClusterConfig) -> Iterator[str]:
    """What is wrong with the sections of a YAML: keys that accelerate takes and never reads, a section that is none.

    Args:
        config: as accelerate read it.
    """
    for section in ("fsdp_config", "deepspeed_config", "dynamo_config", "parallelism_config", "mpirun_config"):
        prefix = PREFIXED.get(section, "")
        known = [*launch_flags(), *UNPUBLISHED]
        keys = getattr(config, section) or {}
        if not isinstance(keys, Mapping):
            yield f"`{section}` must be a mapping of settings, got {keys!r}. Write its settings under it, or drop it."
            continue
        for key in keys:
            name = str(key) if str(key).startswith(prefix) else f"{prefix}{key}"
            if name not in known:
                yield f"`{section}: {name}` must be a key of accelerate's, got an unknown one.{nearest(name, known)}"


@dataclass(frozen=True)
class Asked:
    """Processes that somebody asked for.

    Args:
        processes: how many, over all machines; None where nobody said.
        kind: accelerate's `distributed_type`; None where nobody said, and accelerate looks at the devices.
        on_cpu: they use no accelerator.
    """

    processes: int | None = None
    kind: str | None = None
    on_cpu: bool = False

    @staticmethod
    def of(flags: Mapping[str, str | bool], config: ClusterConfig | None, *, shipped: bool = False) -> Asked:
        """What flags and a YAML ask for; a flag wins.

        Args:
            flags: of accelerate's, by name.
            config: the YAML, as accelerate read it.
            shipped: the YAML is one of TRL's own, whose `single_gpu` says 8 and means what it is called.
        """
        there = None if config is None or shipped else config.num_processes
        number = flags.get("num_processes", there)
        kind = next((kind for flag, kind in KINDS.items() if flags.get(flag) is True), None)
        if kind is None and config is not None:
            kind = str(getattr(config.distributed_type, "value", config.distributed_type))  # a bare NO is false
        return Asked(None if number in (None, -1) else int(number), kind, bool(getattr(config, "use_cpu", False)))

    def hand_on(self) -> None:
        """Tell the processes that are started from here."""
        if self.on_cpu:
            os.environ["ACCELERATE_USE_CPU"] = "true"
        os.environ[ASKED] = json.dumps(asdict(self))


def refuse_other_launch() -> None:
    """In every process that our command launched, once the process group stands: it is what was asked for.

    Raises:
        RecipeError: other processes were asked for, in number or kind.
    """
    if ASKED not in os.environ:
        return
    from accelerate import PartialState

    asked, state = Asked(**json.loads(os.environ[ASKED])), PartialState()
    kind = str(state.distributed_type.value)
    if kind.startswith("MULTI_") and kind != "MULTI_CPU":  # what is shared on accelerators is known by its sign alone
        kind = next((one for one, sign in SHARING.items() if os.environ.get(sign) == "true"), kind)
    got = f"got {state.num_processes} under {kind}"
    if asked.processes not in (None, state.num_processes):
        raise RecipeError(
            f"`num_processes` must be what starts, asked for {asked.processes} under {asked.kind or 'no kind'}, {got}. "
            "Under NO, MULTI_CPU and --cpu accelerate starts one: write `distributed_type: MULTI_GPU` or --multi_gpu, "
            "which starts processes without a GPU too, or take recipes/accelerate/ddp_cpu.yaml."
        )
    if asked.kind is not None and asked.kind != kind and {asked.kind, kind} & set(SHARING):
        raise RecipeError(
            f"`distributed_type` must be what starts, asked for {asked.kind}, {got}. accelerate shards on accelerators "
            "only, and where ACCELERATE_USE_… says so: take a machine with them, or recipes/accelerate/ddp_cpu.yaml."
        )
