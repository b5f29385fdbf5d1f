"""What a YAML and the flags of a training command say: TRL's settings, the `campus:` block, and what is neither.

Every key must be known to somebody: to TRL, to accelerate's launcher or to us.
"""

from __future__ import annotations

import os
import re
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, NoReturn

from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.launched import CONFIG, launch_flags
from campus_tune.recipe.trl_values import field_schemas, made_problems, range_problems, value_problems
from campus_tune.words.errors import RecipeError
from campus_tune.words.registry import nearest
from campus_tune.words.strict_yaml import read_value, read_yaml
from campus_tune.words.types import Json
from campus_tune.words.wording import shown

BLOCK = "campus"
COMPARE, SEARCH = "compare", "search"
OF_COMMANDS = (COMPARE, SEARCH)  # blocks of commands that train many runs
SFT, GRPO, RLOO = "sft", "grpo", "rloo"  # the trainers, by the commands of ours and of TRL's that make them
BY_REWARD = (GRPO, RLOO)
REWARDS = ("reward_funcs", "reward_model_name_or_path")  # a YAML with one of these is trained by reward
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


def read_arguments(
    argv: list[str], *, launching: bool = False, comparing: bool = False
) -> tuple[Json, Json | None, list[str]]:
    """(TRL's settings from the YAML, the `campus:` block or None, TRL's flags); what a launcher reads is left out.

    Args:
        argv: `--config recipe.yaml` and overrides.
        launching: the processes that the YAML asks for are about to be started.
        comparing: leave the blocks of commands that train many runs among the settings.

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
            overrides[word.removeprefix(f"--{BLOCK}.")] = read_value(_value_of(word, words), word)
        elif word == "--scores":  # as `campus-tune score` takes it
            overrides["scores"] = _value_of(word, words)
        else:
            flags.append(word)
    # without the keys that a launcher reads: a run is the same run on any number of processes
    trl = _dests(trl_parser()) if settings else []
    keys = [key for key in settings if _is_launch_key(key) and key not in trl]
    asked = [key for key in keys if settings[key] not in (None, False)]
    if asked and not (launching or is_launched()):  # a call from Python: the command line would have acted on them
        raise RecipeError(
            f"`{asked[0]}` must be read by a launcher, got it in a process that runs alone. Start the command "
            "`campus-tune`, which launches, or take the key out."
        )
    settings = {key: value for key, value in settings.items() if key not in keys}
    if not comparing:
        settings = {key: value for key, value in settings.items() if key not in OF_COMMANDS}
    block = settings.pop(BLOCK, None)
    if isinstance(block, dict) or (block is None and overrides):
        block = {**(block or {}), **overrides}
    return settings, block, flags


def _value_of(word: str, words: Iterator[str]) -> str:
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


def trainer_asked(settings: Mapping[str, Any]) -> str:
    """The trainer that a YAML is for: sft, or grpo or rloo where it names rewards.

    >>> trainer_asked({"reward_funcs": ["accuracy_reward"]}), trainer_asked({"max_length": 512})
    ('grpo', 'sft')
    >>> trainer_asked({"reward_funcs": ["accuracy_reward"], "normalize_advantages": True})  # which RLOO alone has
    'rloo'

    Args:
        settings: of the YAML; `compare: {trainer: rloo}` says which of the two, else the one that knows its fields.
    """
    if not any(settings.get(name) for name in REWARDS):
        return SFT
    compare = settings.get(COMPARE)
    named = compare.get("trainer") if isinstance(compare, Mapping) else None
    if named in BY_REWARD:
        return str(named)
    return min(BY_REWARD, key=lambda trainer: len(unknown_in(dict(settings), trainer)))  # the first, where both do


def trl_parser(trainer: str = SFT) -> Any:
    """The parser of `trl sft`, `trl grpo` or `trl rloo`, on TRL's own four argument classes.

    Args:
        trainer: which of them.
    """
    from trl import DatasetMixtureConfig, ModelConfig, TrlParser

    if trainer == GRPO:
        from trl import GRPOConfig as Config
        from trl.scripts.grpo import GRPOScriptArguments as Script
    elif trainer == RLOO:
        from trl import RLOOConfig as Config
        from trl.scripts.rloo import RLOOScriptArguments as Script
    else:
        from trl import ScriptArguments as Script
        from trl import SFTConfig as Config
    parser = TrlParser((Script, Config, ModelConfig, DatasetMixtureConfig), prog=f"campus-tune {trainer}")
    parser.error = _refuse  # in place of two hundred lines of usage, and the end of the process
    return parser


def _dests(parser: ArgumentParser) -> list[str]:
    return [action.dest for action in parser._actions]


def parse_trl(
    settings: Json, flags: list[str], before: Sequence[str] = (), *, trainer: str = SFT
) -> tuple[tuple[Any, ...], list[str]]:
    """TRL's four argument objects, and what is wrong with the keys and flags: unknown, of another type, out of range.

    Args:
        settings: of the YAML.
        flags: TRL's.
        before: problems that were found already, told with those that leave no objects to give back.
        trainer: sft, grpo or rloo.

    Raises:
        RecipeError: TRL takes them in no way.
    """
    parser = trl_parser(trainer)
    classes = parser.dataclass_types
    wrong = value_problems(classes, settings)
    problems = [*unknown_in(settings, trainer), *environment_problems(settings.get("env")), *wrong.values()]
    settings = _with_entries(settings, flags, wrong, problems)
    if not problems:
        os.environ.update({name: str(value) for name, value in (settings.get("env") or {}).items()})
    parser.set_defaults_with_config(**{key: value for key, value in settings.items() if key not in {*wrong, "env"}})
    try:
        values, remaining = parser.parse_known_args(flags)
        found = range_problems(classes, vars(values))
        problems += [*found.values(), *_left_over(remaining, _dests(parser), trainer)]
        given = {key: value for key, value in vars(values).items() if key not in found}
        made = [one(**{f.name: given[f.name] for f in fields(one) if f.init and f.name in given}) for one in classes]
    except Exception as error:  # whatever TRL, transformers and what they ask raise at settings that they do not take
        raise RecipeError([*before, *problems, *_not_taken(error)]) from error
    return tuple(made), problems + [problem for one in made for problem in made_problems(one)]


def _with_entries(settings: Json, flags: Sequence[str], wrong: Mapping[str, str], problems: list[str]) -> Json:
    """The settings with the entries of a mixture read, which may say their domain; what is wrong is added."""
    if not settings.get("datasets") or "datasets" in wrong or not isinstance(settings["datasets"], list):
        return settings
    from campus_tune.recipe.mixture import read_entries

    entries, found = read_entries(settings)
    problems += found
    if any(re.fullmatch(r"--dataset[_-]name(=.*)?", word) for word in flags):
        problems.append(
            "`--data` (--dataset_name) must be left out where the recipe lists `datasets:`, which would be trained all "
            "the same. Leave it out, or write dataset_name in place of datasets into the recipe."
        )
    return {**settings, "datasets": entries}


def _left_over(words: list[str], known: list[str], trainer: str) -> Iterator[str]:
    """What is wrong with the words of a command line that are no flag of TRL's, nor the value of one."""
    for before, word in zip(["", *words], words, strict=False):
        if word.startswith("--"):
            yield _unknown(word.removeprefix("--"), known, trainer)
        elif not before.startswith("--"):
            yield f"{shown(word)} must follow a flag, got it alone. Write the flag before it, or leave it out."


def environment_problems(env: object) -> list[str]:
    """What is wrong with the environment variables of a YAML."""
    if env is None:
        return []
    if not isinstance(env, Mapping) or not all(isinstance(value, str | int | float) for value in env.values()):
        return [f"`env` must be a mapping from names to text, got {shown(env)}. Write env: {{NAME: value}}."]
    odd = [name for name in env if not name or "=" in name]
    return [f"`env` must have names without =, got {odd[0]!r}. Write env: {{NAME: value}}."] if odd else []


def _not_taken(error: Exception) -> list[str]:
    """What TRL said of options, as a problem of the recipe."""
    why = " ".join((str(error) or type(error).__name__).split()).rstrip(". ")
    if isinstance(error, RecipeError):
        return error.problems
    if isinstance(error, ImportError):
        return [f"The training options must ask for packages that are installed, got: {why}. Install it, or remove it."]
    return [f"The training options must be ones that TRL takes, got: {why}. Correct or remove them."]


def _refuse(why: str) -> NoReturn:
    raise RecipeError(_not_taken(ValueError(why)))


def unknown_in(settings: Json, trainer: str = SFT) -> list[str]:
    """The keys of a YAML, its block aside, that neither TRL nor accelerate's launcher knows.

    Args:
        settings: of the YAML.
        trainer: sft, grpo or rloo.
    """
    known = _dests(trl_parser(trainer))
    unknown = [key for key in settings if key not in known and key != "env" and not _is_launch_key(key)]
    return [_unknown(key, known, trainer) for key in unknown]


def trl_schema() -> Json:
    """Each key of a training YAML besides the blocks as JSON schema: TRL's fields, accelerate's, and `env`."""
    schemas: Json = {}
    for trainer in (RLOO, GRPO, SFT):  # what several have is as the last has it
        parser = trl_parser(trainer)
        schemas |= field_schemas(parser.dataclass_types)
        for action in parser._actions:
            if action.dest in schemas:
                schemas[action.dest]["description"] = " ".join(str(action.help or "").split())
                if isinstance(action.default, str | int | float):  # others are made by TRL where it needs them
                    schemas[action.dest]["default"] = action.default
    launch: Json = {
        name: {"description": " ".join(str(action.help or "").split())} for name, action in launch_flags().items()
    }
    launch[CONFIG] = {"type": "string", "description": "accelerate's YAML, or the name of one that TRL ships"}
    env = {"type": ["string", "number"]}
    said = "environment variables of the run"
    return {
        **launch,
        **schemas,
        "env": {"type": ["object", "null"], "additionalProperties": env, "description": said},
    }


def _is_launch_key(key: str) -> bool:
    return key == CONFIG or key in launch_flags()


def _unknown(key: str, known: list[str], trainer: str) -> str:
    hint = nearest(key, [*known, BLOCK, CONFIG, *launch_flags()])
    others = [one for one in (SFT, *BY_REWARD) if one != trainer and key in _dests(trl_parser(one))]
    if others:
        way = "on answers" if others[0] == SFT else "by reward"
        hint = f" It is of training {way}: campus-tune {', or '.join(others)}."
    return f"`{key}` must be a field of TRL's {trainer} YAML or `{BLOCK}`, got an unknown key.{hint}"
