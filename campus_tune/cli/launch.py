"""`campus-tune sft --accelerate_config fsdp2.yaml --num_processes 4 …`: commands that launch themselves, as TRL's do.

The flags of `accelerate launch` may stand among a command's own, or as keys in its YAML; the flag wins. They are taken
out, checked, and given to accelerate's launcher, which starts `python -m campus_tune` with everything else unchanged.
A process that a launcher has already started launches nothing: it leaves these keys of the YAML alone.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from campus_tune.recipe.launched import CONFIG, Asked, find_config, is_switch, launch_flags, section_problems
from campus_tune.recipe.trl_yaml import (
    BLOCK,
    BY_REWARD,
    OF_COMMANDS,
    SFT,
    environment_problems,
    is_launched,
    read_arguments,
    read_block,
    trl_parser,
    unknown_in,
)
from campus_tune.words.errors import CampusError, RecipeError
from campus_tune.words.strict_yaml import read_yaml
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from accelerate.commands.config.config_args import ClusterConfig

COMMANDS = (SFT, *BY_REWARD, "score", "proxy", "eval", "suspects")
EVAL = "eval"  # takes no YAML and no flag of TRL's
IN_ONE = ("compare", "check-data")  # parts of it that ask no model
MOST = 256  # processes on one machine without GPUs
LAUNCHER = "CAMPUS_TUNE_LAUNCHER"  # process number of the launcher, told to what it starts


@dataclass(frozen=True)
class Launch:
    """A command line, taken apart.

    Args:
        config: accelerate's YAML.
        flags: accelerate's own, by name; True for one that stands alone.
        words: what the launched processes are told, from the command's name on.
        recipe: the YAML of the command.
        shipped: `config` is one of TRL's own.
    """

    config: Path | None
    flags: dict[str, str | bool]
    words: list[str]
    recipe: Json = field(default_factory=dict)
    shipped: bool = False

    def settings(self) -> ClusterConfig | None:
        """The YAML (the user's default one, where none is named) as accelerate reads it; None: there is none.

        Raises:
            RecipeError: it is not there, or no YAML; the nearest file or the line is named.
        """
        from accelerate.commands.config import default_config_file, load_config_from_file

        path = self.config
        if path is None and Path(default_config_file).is_file() and not self.flags.get("cpu"):
            path = Path(default_config_file)
        if path is None:
            return None
        read_yaml(path)
        return load_config_from_file(str(path))

    def arguments(self) -> list[str]:
        """What `accelerate launch` is told."""
        config = [f"--config_file={self.config}"] if self.config else []
        flags = [f"--{name}" if value is True else f"--{name}={value}" for name, value in self.flags.items()]
        return [*config, *flags, "--module", "campus_tune", *self.words]


def read_launch(argv: Sequence[str]) -> Launch | None:
    """What a command line and its YAML ask to be launched; None: nothing, or it already is.

    Args:
        argv: the command's name and what follows it.

    Raises:
        RecipeError: a switch with a value, a flag without one, a truth written as text; or launch flags in a process
            that a launcher started.
    """
    if not argv or argv[0] not in COMMANDS or {"-h", "--help", "--help-all"} & set(argv):
        return None
    if argv[0] == EVAL and argv[1:2] and argv[1] in IN_ONE:
        return None
    given, words = _take(list(argv))
    if is_launched():
        if given:
            raise RecipeError(
                f"`--{next(iter(given))}` must be given to one launcher, got it in a process that one has started. "
                "Drop it here, or start this command without `accelerate launch`."
            )
        return None
    named = (
        value if word == "--config" else word.removeprefix("--config=")
        for word, value in zip(words, [*words[1:], None], strict=True)
        if word.startswith("--config=") or (word == "--config" and value is not None)
    )
    written = None if words[0] == EVAL else next(named, None)
    recipe = {} if written is None else read_yaml(written)
    flags = _from_recipe(recipe) | given
    if not flags:
        return None
    name = flags.pop(CONFIG, None)
    path = None if name is None else find_config(str(name))
    return Launch(path, flags, words, recipe, shipped=path is not None and str(path) != name)


def launch(plan: Launch) -> int:
    """Check a launch and run it; gives back the exit code of the job: of the process that failed first, or 0.

    Raises:
        RecipeError: what can be said of the launch and the YAML of the command before a process starts.
    """
    environment = plan.recipe.get("env")
    problems = environment_problems(environment)
    if not problems:  # before the devices are looked for, as in TRL
        os.environ.update({name: str(value) for name, value in (environment or {}).items()})
    arguments, asked, more = read_asked(plan)
    problems += more
    if plan.words[0] != EVAL:  # what every one of the processes would say about the YAML, said once
        recipe = {key: value for key, value in plan.recipe.items() if key not in (BLOCK, *OF_COMMANDS)}
        problems += unknown_in(recipe, plan.words[0] if plan.words[0] in BY_REWARD else SFT)
    if plan.words[0] in (SFT, *BY_REWARD):  # the others have flags that replace parts of the block
        _, block, _ = read_arguments(plan.words[1:], launching=True)
        problems += read_block(block)[1]
    if problems:
        raise RecipeError(problems)
    os.environ[LAUNCHER] = str(os.getpid())
    asked.hand_on()
    return _run(arguments)


def read_asked(plan: Launch) -> tuple[argparse.Namespace, Asked, list[str]]:
    """(What accelerate's launcher is told, what that asks for, what is wrong with it).

    Raises:
        RecipeError: accelerate does not take it, in its words.
    """
    from accelerate.commands.launch import launch_command_parser

    parser = launch_command_parser()
    parser.error = _refuse  # in place of two hundred lines of usage
    with _in_a_sentence():
        arguments = parser.parse_args(plan.arguments())
        settings = plan.settings()
        asked = Asked.of(plan.flags, settings, shipped=plan.shipped)
        machines = int(arguments.num_machines or getattr(settings, "num_machines", 1))
    problems = [] if settings is None else list(section_problems(settings))
    here = 0 if asked.on_cpu or plan.recipe.get("use_cpu") or "--use_cpu" in plan.words else n_devices()
    most, why = (here * machines, ", one per GPU") if here else (MOST * machines, "")
    if asked.processes is not None and asked.processes > most:
        problems.append(f"`num_processes` must be at most {most}{why}, got {asked.processes}. Lower it.")
    if not n_devices():  # else several processes train apart, each as if it were alone
        asked = replace(asked, on_cpu=True)
    return arguments, asked, problems


def n_devices() -> int:
    """Accelerators of this machine."""
    import torch

    return torch.accelerator.device_count()


def end_with_launcher() -> None:
    """In a launched process: end when the launcher is killed too hard to end the others. Without effect elsewhere."""
    if sys.platform == "linux" and os.environ.get(LAUNCHER) == str(os.getppid()):
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


# -- taking the command line apart ---------------------------------------------------------------------------------


@cache
def _names(*, beside_trl: bool = True) -> frozenset[str]:
    """Flags and keys that are accelerate's. Those that TRL has too are TRL's, as in `trl sft`."""
    actions = trl_parser()._actions if beside_trl else ()
    trl = {word.removeprefix("--") for action in actions for word in action.option_strings}
    return frozenset({CONFIG, *launch_flags()} - trl)


def _take(argv: list[str]) -> tuple[dict[str, str | bool], list[str]]:
    """(accelerate's flags, all other words in their sequence)."""
    if not any(word.startswith("--") for word in argv):
        return {}, argv
    names = _names(beside_trl=argv[0] != EVAL)
    given: dict[str, str | bool] = {}
    words: list[str] = []
    at = 0
    while at < len(argv):
        word, equals, value = argv[at].partition("=")
        name = word.removeprefix("--").replace("-", "_")
        at += 1
        if not word.startswith("--") or name not in names:
            words.append(argv[at - 1])
            continue
        follows = argv[at] if at < len(argv) and not argv[at].startswith("-") else None
        said = value if equals else follows
        action = launch_flags().get(name)
        alone = action is not None and is_switch(action)
        if alone and said is not None:
            raise RecipeError(
                f"`--{name}` must stand alone, got the value {said!r}. Write --{name} alone for true, and leave it "
                "out for false."
            )
        if said is None and not alone:
            raise RecipeError(f"`--{name}` must be followed by a value, got nothing. Write --{name} VALUE.")
        given[name] = True if said is None else said
        at += not equals and follows is not None
    return given, words


def _from_recipe(recipe: Json) -> dict[str, str | bool]:
    """The launch keys of a recipe, as flags: a true one stands alone, a false one is left out."""
    flags: dict[str, str | bool] = {}
    problems = []
    for key, value in recipe.items():
        action = launch_flags().get(key)
        if value is None or key not in _names():
            continue
        if action is not None and is_switch(action):
            if not isinstance(value, bool):
                problems.append(f"`{key}` must be true or false, got {value!r}. Write `{key}: true`, no quotes.")
            elif value:
                flags[key] = True
        else:
            flags[key] = str(value).lower() if isinstance(value, bool) else str(value)
    if problems:
        raise RecipeError(problems)
    return flags


# -- running it ----------------------------------------------------------------------------------------------------


@contextmanager
def _in_a_sentence() -> Iterator[None]:
    """What accelerate refuses by itself, in its own words.

    Raises:
        RecipeError: with them.
    """
    try:
        yield
    except CampusError:
        raise
    except Exception as error:  # its own checks, a value of another type that it works with, a package that is missing
        why = " ".join((str(error) or type(error).__name__).split()).rstrip(". ")
        raise RecipeError(
            f"The launch must be one that accelerate takes, got: {why}. In its YAML numbers are bare and words quoted: "
            "YAML reads a bare no as false."
        ) from error


def _refuse(why: str) -> NoReturn:
    raise ValueError(why)


@_in_a_sentence()
def _run(arguments: argparse.Namespace) -> int:
    """Run accelerate's launcher in this process; gives back the exit code of the job."""
    from subprocess import CalledProcessError

    from accelerate.commands.launch import launch_command
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        with _signals_handed_on():
            launch_command(arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        return _failed(f"rank {rank}", failure.exitcode)
    except CalledProcessError as error:
        return _failed("the process", error.returncode)
    except SignalException as error:
        return _failed("the job", -error.sigval)
    return 0


def _failed(who: str, code: int) -> int:
    how = f"ended with exit code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
    print(f"campus-tune: {who} {how}; what it said stands above", file=sys.stderr)
    return code if code >= 0 else 128 - code


@contextmanager
def _signals_handed_on() -> Iterator[None]:
    """A signal that asks this process to end is given to those it started, so that none is left behind.

    The launcher of many processes does so itself; the one of a single process would die and leave its child.
    """
    import psutil  # type: ignore[import-untyped]  # ships no types

    def hand_on(number: int, _: FrameType | None) -> None:
        children = psutil.Process().children()
        for child in children:
            child.send_signal(number)
        if not children:
            raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    try:
        for number in before:
            signal.signal(number, hand_on)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
