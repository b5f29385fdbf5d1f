"""What a YAML and the flags of a training command say: TRL's settings, the `campus:` block, and what is neither.

Every key must be known to somebody: to TRL, to accelerate's launcher or to us.
"""

from __future__ import annotations

import os
from typing import Any

import yaml

from campus_tune.accelerate_yaml import CONFIG, launch_flags
from campus_tune.errors import RecipeError
from campus_tune.recipe import CampusConfig
from campus_tune.registry import nearest
from campus_tune.strict_yaml import read_yaml
from campus_tune.types import Json

BLOCK = "campus"
COMPARE = "compare"
# One of these is set in a process that torchrun, mpirun or accelerate started; the last by accelerate alone, also where
# it starts a single process. WORLD_SIZE is no sign: clusters set it for a machine on which nothing is launched yet.
LAUNCHED = (
    "LOCAL_RANK",
    "MPI_LOCALRANKID",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MV2_COMM_WORLD_LOCAL_RANK",
    "ACCELERATE_DYNAMO_USE_FULLGRAPH",
)


def is_launched() -> bool:
    """A launcher started this process: what a YAML says about launching has been done, or overruled."""
    return any(name in os.environ for name in LAUNCHED)


def read_arguments(argv: list[str], *, launching: bool = False) -> tuple[Json, Json | None, list[str]]:
    """(TRL's settings from the YAML, the `campus:` block or None, TRL's flags); what a launcher reads is left out.

    Args:
        argv: `--config recipe.yaml` and overrides.
        launching: the processes that the YAML asks for are about to be started.

    Raises:
        RecipeError: no such file, no YAML, a flag without a value; or the YAML asks for processes, and nothing launches
            them.
    """
    settings: Json = {}
    flags: list[str] = []
    overrides: Json = {}
    words = iter([part for word in argv for part in (word.split("=", 1) if word.startswith("--") else [word])])
    for word in words:
        if word == "--config":
            settings = read_yaml(_value_of(word, words))
        elif word.startswith(f"--{BLOCK}."):
            overrides[word.removeprefix(f"--{BLOCK}.")] = yaml.safe_load(_value_of(word, words))
        elif word == "--scores":  # as `campus-tune score` takes it
            overrides["scores"] = _value_of(word, words)
        else:
            flags.append(word)
    settings = _without_launch(settings, allowed=launching or is_launched())
    settings.pop(COMPARE, None)  # what `campus-tune compare` reads
    block = settings.pop(BLOCK, None)
    if isinstance(block, dict) or (block is None and overrides):
        block = {**(block or {}), **overrides}
    return settings, block, flags


def _value_of(word: str, words: Any) -> str:
    value = next(words, None)
    if value is None:
        raise RecipeError(f"`{word}` must be followed by a value, got nothing. Write {word} VALUE.")
    return str(value)


def read_block(block: Json | None) -> tuple[CampusConfig | None, list[str]]:
    """The curriculum's settings, or what is wrong with them."""
    if block is None:
        return None, []
    try:
        return CampusConfig.from_mapping(block), []
    except RecipeError as error:
        return None, error.problems


def _without_launch(settings: Json, *, allowed: bool) -> Json:
    """The settings without the keys that a launcher reads, so that a run is the same run on any number of processes."""
    trl = _dests(trl_parser()) if settings else []
    keys = [key for key in settings if _is_launch_key(key) and key not in trl]
    asked = [key for key in keys if settings[key] not in (None, False)]
    if asked and not allowed:  # a call from Python: the command line would have acted on them
        raise RecipeError(
            f"`{asked[0]}` must be read by a launcher, got it in a process that runs alone. Start the command "
            "`campus-tune`, which launches, or take the key out."
        )
    return {key: value for key, value in settings.items() if key not in keys}


def trl_parser() -> Any:
    """The parser of `trl sft`, on TRL's own four argument classes."""
    from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments, SFTConfig, TrlParser

    return TrlParser((ScriptArguments, SFTConfig, ModelConfig, DatasetMixtureConfig), prog="campus-tune sft")


def _dests(parser: Any) -> list[str]:
    return [action.dest for action in parser._actions]


def parse_trl(settings: Json, flags: list[str]) -> tuple[tuple[Any, ...], list[str]]:
    """TRL's four argument objects, and the keys and flags that nobody knows, each with the nearest known one."""
    parser = trl_parser()
    problems = unknown_in(settings)
    for name, value in (settings.pop("env", None) or {}).items():
        os.environ[name] = str(value)
    parser.set_defaults_with_config(**settings)
    *parsed, remaining = parser.parse_args_into_dataclasses(args=flags, return_remaining_strings=True)
    known = _dests(parser)
    problems += [_unknown(word.removeprefix("--"), known) for word in remaining if word.startswith("--")]
    return tuple(parsed), problems


def unknown_in(settings: Json) -> list[str]:
    """The keys of a YAML, its block aside, that neither TRL nor accelerate's launcher knows."""
    known = _dests(trl_parser())
    return [_unknown(key, known) for key in settings if key not in known and key != "env" and not _is_launch_key(key)]


def _is_launch_key(key: str) -> bool:
    return key == CONFIG or key in launch_flags()


def _unknown(key: str, known: list[str]) -> str:
    hint = nearest(key, [*known, BLOCK, CONFIG, *launch_flags()])
    return f"`{key}` must be a field of TRL's sft YAML or `{BLOCK}`, got an unknown key.{hint}"
