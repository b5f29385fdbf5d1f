"""What TRL's options may hold, looked at before TRL takes them: the type that a field asks for, and a range.

TRL's parser believes a YAML: a list for a learning rate, a batch of NaN rows, 2^63 epochs and a scheduler of another
name reach the trainer, or the middle of training. What fields there are, and of which types, is asked of the TRL that
is installed. The bounds are wide: they say what is surely a mistake, never what is wise.
"""

from __future__ import annotations

import dataclasses
import os
import types
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from campus_tune.recipe.schedule import make_schedule
from campus_tune.words.leaves import LARGEST, LARGEST_SEED, Choice, Number, Range
from campus_tune.words.registry import nearest
from campus_tune.words.types import Json
from campus_tune.words.wording import shown

TRUE_TOO = ("resume_from_checkpoint", "fsdp")  # a text for TRL, and true for every trainer
LIST_TOO = ("fsdp",)  # its words one by one
FRACTION = 1e12  # of a number without a bound of its own

# Name → the least and the largest value; a third word: the least one is not in it.
RANGES: dict[str, tuple[float, float, *tuple[str, ...]]] = {
    "per_device_train_batch_size": (1, 1 << 16),
    "per_device_eval_batch_size": (1, 1 << 16),
    "gradient_accumulation_steps": (1, 1 << 20),
    "num_train_epochs": (0, 1e6),
    "max_steps": (-1, 1e9),
    "learning_rate": (0, FRACTION),
    "warmup_steps": (0, 1e9),
    "warmup_ratio": (0, 1),
    "weight_decay": (0, 1e3),
    "adam_beta1": (0, 1),
    "adam_beta2": (0, 1),
    "adam_epsilon": (0, 1),
    "max_grad_norm": (0, FRACTION),
    "label_smoothing_factor": (0, 1),
    "neftune_noise_alpha": (0, 1e6),
    "logging_steps": (0, 1e9),
    "eval_steps": (0, 1e9),
    "eval_delay": (0, 1e9),
    "save_steps": (0, 1e9),
    "save_total_limit": (0, 1e6),
    "eval_accumulation_steps": (1, 1e9),
    "seed": (0, LARGEST_SEED),
    "data_seed": (0, LARGEST_SEED),
    "dataloader_num_workers": (0, 1024),
    "dataloader_prefetch_factor": (1, 1 << 16),
    "dataset_num_proc": (1, 1024),
    "max_length": (1, LARGEST),
    "lora_r": (1, 1 << 16),
    "lora_alpha": (1, 1e9),
    "lora_dropout": (0, 1),
    "test_split_size": (0, 1e9, "open"),
    # of training by reward
    "max_completion_length": (1, LARGEST),
    "num_generations": (2, 1 << 16),
    "num_generations_eval": (1, 1 << 16),
    "generation_batch_size": (1, 1 << 24),
    "steps_per_generation": (1, 1 << 20),
    "num_iterations": (1, 1 << 16),
    "temperature": (0, 1e3, "open"),
    "top_p": (0, 1, "open"),
    "min_p": (0, 1),
    "beta": (0, 1e6),
    "epsilon": (0, 1e6),
    "torch_empty_cache_steps": (1, 1e9),
    "num_processes": (1, 1 << 16),  # of the launcher's, with which a plan is counted
}


def value_problems(classes: Sequence[type], settings: Mapping[str, Any]) -> dict[str, str]:
    """Setting → what is wrong with the type of its value in a YAML; a text is left to the parser.

    Args:
        classes: TRL's argument classes.
        settings: of a YAML; keys that no class has are skipped.
    """
    hints = _hints(tuple(classes))
    return {
        name: _misfit(name, value, hints[name])
        for name, value in settings.items()
        if name in hints and not isinstance(value, str) and not (isinstance(value, bool) and name in TRUE_TOO)
        if not any(_is_a(value, one) for one in [*_members(hints[name]), *([list[str]] if name in LIST_TOO else [])])
    }


def range_problems(classes: Sequence[type], values: Mapping[str, Any]) -> dict[str, str]:
    """Setting → what is wrong with its value as TRL's parser read it: out of range, or none of a few words.

    Args:
        classes: TRL's argument classes.
        values: of all their fields.
    """
    hints = _hints(tuple(classes))
    problems = {
        name: problem for name, value in values.items() if name in hints for problem in _out_of_range(name, value)
    }
    for name, value in values.items():
        words = _words(hints.get(name))
        if words and isinstance(value, str) and value not in words:
            problems[name] = Choice(tuple(words)).problems(name, value)[0]
    return problems


def made_problems(options: object) -> Iterator[str]:
    """What is wrong with one of TRL's argument objects, and that the trainer would say after the model is loaded.

    Args:
        options: any of the four.
    """
    for name, value in vars(options).items():
        if name.endswith("_kwargs") and isinstance(value, str):
            yield f"`{name}` must be a mapping, got {shown(value)}. Write it as JSON: {{...}}."
    out = getattr(options, "output_dir", None)
    there = next((place for place in (Path(out), *Path(out).parents) if os.path.lexists(place)), None) if out else None
    if there is not None and not there.is_dir():
        yield f"`output_dir` must be a folder, got the file {str(there)!r} in its place. Name another one."
    given: dict[str, Any] = vars(options)
    if "lr_scheduler_type" not in given or isinstance(given["lr_scheduler_kwargs"], str):
        return
    # whether the learning rate's schedule can be made, tried on a weight of its own
    name, rate, more = given["lr_scheduler_type"], given["learning_rate"], given["lr_scheduler_kwargs"] or {}
    try:
        made = make_schedule(name, rate, warmup_steps=1, total_steps=10, options=more)
        made[0].step()  # with the schedule held: the optimizer knows it by a weak reference
    except Exception as error:  # of whatever the schedule asks of its options
        got = f"{getattr(name, 'value', name)} with {shown(dict(more))} at learning rate {rate:g}"
        yield f"`lr_scheduler_type` must make a schedule, got {got}: {error}. Correct `lr_scheduler_kwargs`."


def number_problem(name: str, value: object) -> str | None:
    """What is wrong with a number of the training YAML; None where nothing is, or no bound is known."""
    return next(_out_of_range(name, value), None)


def _out_of_range(name: str, value: object) -> Iterator[str]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    low, high, *ends = RANGES.get(name, (-LARGEST, LARGEST) if isinstance(value, int) else (-FRACTION, FRACTION))
    yield from Number(Range(low, high, "(]" if ends else "[]")).problems(name, value)


def field_schemas(classes: Sequence[type]) -> Json:
    """Field → its type and range as JSON schema (draft 2020-12), for the YAML of a training command.

    A number may be text that reads as one, for YAML takes `1e-4` for text. Words for true and false, which TRL's
    parser takes as text, are not offered: YAML has a type for them.

    Args:
        classes: TRL's argument classes.
    """
    schemas: Json = {}
    for name, hint in _hints(tuple(classes)).items():
        members = [*_members(hint), *([list[str]] if name in LIST_TOO else []), *([bool] if name in TRUE_TOO else [])]
        words = _words(hint)
        several = [one for kind in members for one in _kind_schemas(name, kind)]
        any_of = [one for i, one in enumerate(several) if one not in several[:i]]
        if words:
            schemas[name] = {"enum": [*words, None] if type(None) in members else words}
        else:
            schemas[name] = any_of[0] if len(any_of) == 1 else {"anyOf": any_of}
    return schemas


def _kind_schemas(name: str, kind: object) -> list[Json]:
    """What may stand in a YAML for one type, each a schema."""
    origin = get_origin(kind) or kind
    if kind in (int, float):
        low, high, *ends = RANGES.get(name, (None, None))
        bounds = {"exclusiveMinimum" if ends else "minimum": low, "maximum": high} if low is not None else {}
        word = {"type": "string", "pattern": r"^[-+]?[0-9_]*\.?[0-9_]+([eE][-+]?[0-9]+)?$"}
        return [{"type": "integer" if kind is int else "number", **bounds}, word]
    if origin is list:
        of = next(iter(get_args(kind)), Any)
        if of is str or _words(of):
            return [{"type": "array", "items": {"type": "string"}}, {"type": "string"}]  # one text is a list of it
        return [{"type": "array"}]
    if origin is Literal:
        return [{"enum": list(get_args(kind))}]
    plain: dict[Any, Json] = {
        bool: {"type": ["boolean", "null"]},  # null is false to every trainer
        str: {"type": "string"},
        type(None): {"type": "null"},
        Any: {},
    }
    return [plain[kind]] if kind in plain else [{"type": ["object", "string"]}]  # a mapping, or JSON of one


@cache
def _hints(classes: tuple[type, ...]) -> dict[str, Any]:
    """Field → its type, of all classes."""
    return {
        field.name: get_type_hints(one)[field.name]
        for one in classes
        for field in dataclasses.fields(one)
        if field.init
    }


def _members(hint: object) -> tuple[Any, ...]:
    """The types of a union, or the one that it is."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _words(hint: object) -> list[str]:
    """The words of an enumeration, where the field takes them and nothing else."""
    members = [one for one in _members(hint) if one not in (str, type(None))]
    if len(members) == 1 and get_origin(members[0]) is Literal:
        return [str(one) for one in get_args(members[0])]
    if len(members) == 1 and isinstance(members[0], type) and issubclass(members[0], Enum):
        return [str(one.value) for one in members[0]]
    return []


def _is_a(value: object, kind: object) -> bool:
    """Whether a value of a YAML that is no text is of a type."""
    if kind is bool:
        return value is None or isinstance(value, bool)  # null is false to every trainer
    if kind in (int, float):
        return isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    origin = get_origin(kind) or kind
    if origin is list:
        of = next(iter(get_args(kind)), Any)
        texts = of is str or bool(_words(of))
        return isinstance(value, list) and all(_is_a(one, of) or (texts and isinstance(one, str)) for one in value)
    if origin is Literal:
        return value in get_args(kind)
    if kind is type(None):
        return value is None
    return kind is Any or (isinstance(value, Mapping) and kind is not str and not _words(kind))


def _misfit(name: str, value: object, hint: object) -> str:
    words = _words(hint)
    kinds = list(dict.fromkeys(_named(one) for one in _members(hint) if one is not type(None)))
    must = f"one of {', '.join(words)}" if words else " or ".join(kinds)
    if value is None:
        return f"`{name}` must be {must}, got null. Remove the line: TRL has a default."
    if isinstance(value, bool):
        said = "no" if value is False else "yes"
        near = nearest(said, words)
        advice = f'YAML reads a bare {said} as this: write `{name}: "{said}"`, in quotes.' if near else "Write one."
        return f"`{name}` must be {must}, got {str(value).lower()}. {advice}"
    return f"`{name}` must be {must}, got {shown(value)}. Write one, in quotes if it is text."


def _named(kind: object) -> str:
    origin = get_origin(kind) or kind
    names: dict[Any, str] = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        list: "a list",
    }
    return names.get(origin, "text" if _words(kind) else "a mapping")
