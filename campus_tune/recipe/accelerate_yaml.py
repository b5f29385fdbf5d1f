"""accelerate's YAML and flags, read strictly, before any process starts.

accelerate takes much in silence: a text 'false' is true to it, a key of `fsdp_config` that it does not know is dropped,
and `distributed_type: NO` written without quotes is no text but false. What it would guess at is refused here, with
what to write. Which keys and flags there are is asked of the accelerate that is installed: its configuration's fields
and its launcher's own parser.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

from campus_tune.words.errors import RecipeError
from campus_tune.words.registry import nearest
from campus_tune.words.strict_yaml import read_yaml
from campus_tune.words.types import Json

CONFIG = "accelerate_config"

# Sections of the YAML, and how the launcher's flags for their keys begin.
SECTIONS = {
    "fsdp_config": ("fsdp_",),
    "deepspeed_config": ("deepspeed_", "zero", "offload_", "gradient_"),
    "dynamo_config": ("dynamo_",),
    "parallelism_config": ("parallelism_config_",),
    "mpirun_config": ("mpirun_",),
    "fp8_config": (),  # accelerate's questionnaire writes keys that its launcher does not know: not looked into
    "megatron_lm_config": (),  # refused as a whole
}
PREFIXED = {"fsdp_config": "fsdp_", "dynamo_config": "dynamo_"}  # keys may leave the prefix out
OLDER = ("fp16", "dynamo_backend")  # keys of older files, which accelerate still reads
UNPUBLISHED = ("fsdp_ignored_modules",)  # read by the launcher, though no flag of it
RESHARD = (
    "fsdp_reshard_after_forward"  # true or false for FSDP2; words like FULL_SHARD belong to FSDP1, refused as such
)
UNREAD = "downcast_bf16"  # for TPUs alone; accelerate itself writes it as the text 'no'

# Flags of accelerate's that are no flags of ours: it is told which module to run, and by `--accelerate_config` how.
NOT_OURS = {"help", "config_file", "module", "no_python", "main_training_function", "env", "vm"}
NOT_OURS |= {"aws_access_key_id", "aws_secret_access_key"}

TRUE = ("true", "yes", "on", "1")
FALSE = ("false", "no", "off", "0")


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


def is_truth(action: argparse.Action) -> bool:
    """The flag means true or false, whether it stands alone or takes the word."""
    words = str(action.default).lower() in ("true", "false") or "(true|false)" in str(action.help)
    return is_switch(action) or action.type is bool or words


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


def read_accelerate(path: Path) -> Json:
    """The settings of an accelerate YAML, those of its sections under the names of the launcher's flags.

    Raises:
        RecipeError: no such file, no YAML, or all keys and values that accelerate would drop or misread.
    """
    content = read_yaml(path)
    problems = [f"`{path}`: {problem}" for problem in (*_top_problems(content), *_section_problems(content))]
    if problems:
        raise RecipeError(problems)
    top = {key: value for key, value in content.items() if key not in SECTIONS}
    return top | {key: value for _, key, value in _in_sections(content)}


def _in_sections(content: Json) -> Iterator[tuple[str, str, Any]]:
    """(section, name of the flag, value) of all keys in sections."""
    for section in SECTIONS:
        inner = content.get(section)
        for key, value in inner.items() if isinstance(inner, dict) else ():
            prefix = PREFIXED.get(section, "")
            yield section, str(key) if str(key).startswith(prefix) else f"{prefix}{key}", value


def _top_problems(content: Json) -> Iterator[str]:
    from accelerate.commands.config.config_args import ClusterConfig

    hints = get_type_hints(ClusterConfig)
    if content.get("compute_environment", "LOCAL_MACHINE") != "LOCAL_MACHINE":
        yield f"`compute_environment` must be LOCAL_MACHINE, got {content['compute_environment']!r}. Launch it there."
        return
    if "distributed_type" not in content:
        yield "`distributed_type` must be given, got nothing. Write distributed_type: MULTI_GPU, FSDP or DEEPSPEED."
    for key, value in content.items():
        if key not in hints and key not in OLDER:
            yield f"`{key}` must be a key of accelerate's, got an unknown one.{nearest(str(key), [*hints, *OLDER])}"
        elif key in hints and value is not None and key not in (UNREAD, "compute_environment"):
            yield from _misread(key, value, hints[key])
    yield from _not_among(content, "mixed_precision", launch_flags()["mixed_precision"].choices)


def _misread(key: str, value: Any, hint: Any) -> Iterator[str]:
    """What is wrong with a value at the top, whose field in accelerate has the type `hint`."""
    kinds = get_args(hint) if type(None) in get_args(hint) else (hint,)
    if bool in kinds:
        yield from _no_truth(key, value)
    elif int in kinds:
        if not isinstance(value, int) or isinstance(value, bool):
            yield f"`{key}` must be a whole number, got {value!r}. Write {key}: 2 (or what you need)."
    elif dict in kinds:
        if not isinstance(value, dict):
            yield f"`{key}` must be a mapping, got {value!r}. Indent its keys below it."
    elif key == "distributed_type":
        yield from _no_type(value)
    elif str in kinds and not isinstance(value, str):
        yield _unquoted(key, value)


def _no_type(value: Any) -> Iterator[str]:
    from accelerate.utils import DistributedType

    known = [one.value for one in DistributedType]
    if not isinstance(value, str):
        yield _unquoted("distributed_type", value, text="NO")
    elif value not in known:
        yield f"`distributed_type` must be one of {', '.join(known)}, got {value!r}.{nearest(value.upper(), known)}"


def _section_problems(content: Json) -> Iterator[str]:
    flags = launch_flags()
    for section, key, value in _in_sections(content):
        known = [name for name in (*flags, *UNPUBLISHED) if name.startswith(SECTIONS[section])]
        if not SECTIONS[section]:
            continue
        if key not in known:
            yield f"`{section}: {key}` must be a key of accelerate's, got an unknown one.{nearest(key, known)}"
        elif key in flags and value is not None and not (key == RESHARD and isinstance(value, str) and value.isupper()):
            yield from _misread_flag(key, value, flags[key])


def _misread_flag(key: str, value: Any, action: argparse.Action) -> Iterator[str]:
    """What is wrong with a value of a section, whose flag is `action`."""
    if is_truth(action):
        yield from _no_truth(key, value)
    elif isinstance(value, bool):
        yield _unquoted(key, value)
    elif value != "auto" or not key.startswith("gradient_"):  # `auto` takes the recipe's
        yield from no_value(key, value, action)


def no_value(key: str, value: Any, action: argparse.Action) -> Iterator[str]:
    """What is wrong with the value that a flag takes, if anything is."""
    try:
        action.type(str(value)) if callable(action.type) else None
    except (TypeError, ValueError):
        yield f"`{key}` must be a number, got {value!r}. Write a number."
    yield from _not_among({key: value}, key, action.choices)


def _not_among(content: Json, key: str, choices: Any) -> Iterator[str]:
    value = content.get(key)
    if choices and isinstance(value, str | int) and not isinstance(value, bool):
        known = [str(one) for one in choices]
        if str(value).lower() not in [one.lower() for one in known]:
            yield f"`{key}` must be one of {', '.join(known)}, got {value!r}.{nearest(str(value), known)}"


def _no_truth(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, bool):
        return
    word = str(value).strip().lower()
    write = {**dict.fromkeys(TRUE, f"{key}: true"), **dict.fromkeys(FALSE, f"{key}: false")}
    advice = f"Write `{write[word]}`, no quotes." if word in write else f"Write `{key}: true` or `{key}: false`."
    yield f"`{key}` must be true or false, got {value!r}, which accelerate may take for true. {advice}"


def _unquoted(key: str, value: Any, text: str = "no") -> str:
    if value is False:
        return f'`{key}` must be text, got false: so YAML reads a bare {text}. Write `{key}: "{text}"`, in quotes.'
    return f'`{key}` must be text, got {value!r}. Write `{key}: "{value}"`, in quotes.'
