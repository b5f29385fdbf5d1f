"""What a setting may be, said once, by its annotation: from there to a leaf, to a default, to what it is for.

    stages: Annotated[int, Range(1, 100_000)] = 20
    mix: Annotated[float | None, Range(0, 1, "[)")] = None
    window: Literal["prefix", "slice"] = "prefix"
    tasks: Annotated[tuple[str, ...] | None, Wording("a list of names", "Write [mmlu, gsm8k].")] = None

Each annotation becomes a `Leaf`. What a setting is for stands where people look for it, under `Args:` in the docstring
of its class (`docs`). Settings of a recipe are made of leaves by `campus_tune/recipe/reader.py`; a metric, pacing or
selector, which stands below the recipe, checks its own options with `check_options` or `checked`.

>>> leaf(Annotated[int, Range(1, 9)]).read("stages", 10)
Traceback (most recent call last):
campus_tune.words.errors.RecipeError: `stages` must be a whole number of at least 1 and at most 9, got 10. Lower it.
>>> leaf(Annotated[float | None, Range(0, 1, "[)")]).schema()
{'type': ['number', 'null'], 'minimum': 0, 'exclusiveMaximum': 1}
"""

from __future__ import annotations

import functools
import inspect
import operator
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from campus_tune.words.errors import RecipeError
from campus_tune.words.leaves import (
    Anything,
    Choice,
    Flag,
    Given,
    Leaf,
    Nullable,
    Number,
    Range,
    Text,
    Texts,
    Whole,
    Worded,
    Wording,
)
from campus_tune.words.types import Json

F = TypeVar("F", bound=Callable[..., Any])

_ARGUMENT = re.compile(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)  # of a docstring whose indentation is taken off


def leaf(hint: object, more: tuple[object, ...] = ()) -> Leaf:
    """What an annotation says of a setting.

    Args:
        hint: a type, or `Annotated` with a `Range`, a `Wording`, or a leaf, which is then all there is to say.
        more: what stood around it.
    """
    if get_origin(hint) is Annotated:
        inner, *marks = get_args(hint)
        return leaf(inner, (*marks, *more))
    members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if type(None) in members and len(members) > 1:
        rest = [one for one in members if one is not type(None)]
        inner = leaf(functools.reduce(operator.or_, rest), more)
        return inner if any(isinstance(mark, Given) for mark in more) else Nullable(inner)
    told = next((mark for mark in more if isinstance(mark, Wording)), None)
    own = next((mark for mark in more if isinstance(mark, Leaf)), None) or _of_type(hint, more)
    return own if told is None else Worded(own, told)


def _of_type(kind: object, more: tuple[object, ...]) -> Leaf:
    """The leaf of a bare type. A number without a range, and what is not listed, is left to whoever takes it."""
    bounds = next((mark for mark in more if isinstance(mark, Range)), None)
    if kind in (int, float) and bounds is not None:
        return Whole(bounds) if kind is int else Number(bounds)
    if get_origin(kind) is Literal:
        return Choice(tuple(map(str, get_args(kind))))
    if hasattr(kind, "as_leaf"):  # settings inside of settings
        inner: Leaf = kind.as_leaf()
        return inner
    plain: dict[Any, Leaf] = {bool: Flag(), str: Text(), tuple[str, ...]: Texts()}
    return plain.get(kind, Anything())


@functools.cache
def leaves(kind: Any) -> Mapping[str, Leaf]:
    """Each setting that a class or function takes, by name.

    Args:
        kind: the class or function.
    """
    try:
        hints = get_type_hints(kind, include_extras=True)
    except NameError:  # another's part, annotated with names that only type checkers see
        hints = {}
    return {name: leaf(hints.get(name, Any)) for name in inspect.signature(kind).parameters}


def defaults(kind: Callable[..., Any]) -> Json:
    """The default of each setting that has one."""
    if is_dataclass(kind):
        made = {f.name: f.default_factory() for f in fields(kind) if f.default_factory is not MISSING}
        return {f.name: made.get(f.name, f.default) for f in fields(kind) if f.name in made or f.default is not MISSING}
    parameters = inspect.signature(kind).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not one.empty}


def required(kind: Callable[..., Any]) -> list[str]:
    """Settings that must be given: they have no default, or one that stands for nothing and is refused itself."""
    known = defaults(kind)
    return [name for name, one in leaves(kind).items() if name not in known or not one.takes(known[name])]


def docs(kind: Callable[..., Any]) -> dict[str, str]:
    """What each setting is for, from the `Args:` of the docstring, with null in its YAML word."""
    _, _, arguments = (inspect.getdoc(kind) or "").partition("\nArgs:\n")
    section = re.split(r"^\S", arguments, maxsplit=1, flags=re.MULTILINE)[0]
    return {name: re.sub(r"\bNone\b", "null", " ".join(said.split())) for name, said in _ARGUMENT.findall(section)}


def plain(value: object) -> Any:
    """Settings, tuples and mappings as dicts and lists, all the way down: what JSON and YAML would make of them.

    Settings that say themselves how they are written (`to_mapping`) are asked.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return value.to_mapping() if hasattr(value, "to_mapping") else plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


# -- parts: metrics, pacings, selectors --------------------------------------------------------------------------------


def check_options(part: object) -> None:
    """What a part's annotations say of its own options, asked as soon as it is made.

    Raises:
        ValueError: the first option that is wrong; the registry says of which part.
    """
    _refuse_first(type(part), vars(part))


def checked(function: F) -> F:
    """Decorator: the annotations of a function's arguments hold whenever it is called."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def check(*given: object, **named: object) -> Any:
        bound = signature.bind(*given, **named)
        bound.apply_defaults()
        _refuse_first(function, bound.arguments)
        return function(*given, **named)

    return check  # type: ignore[return-value]  # the same arguments, the same result


def _refuse_first(kind: Callable[..., Any], given: Mapping[str, object]) -> None:
    for name, one in leaves(kind).items():
        try:
            one.read(name, given[name])
        except RecipeError as error:
            raise ValueError(error.problems[0]) from error
