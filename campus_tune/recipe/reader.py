"""The one reader of settings: a frozen dataclass whose annotations say what each of them may be.

Settings check themselves when they are made, from a YAML's mapping or in Python: the type, range or words of each,
unknown keys with the nearest known one, settings inside of settings, parts by their names, then what does not go
together; all that is wrong is told at once. The same annotations give the JSON schema that an editor completes and
checks with, the guide's page of parts and the list in `--help`. So a new setting is one line of its class, and one
that says what it is for under `Args:`.

>>> @dataclass(frozen=True)
... class Tea(CheckedSettings):
...     '''Tea.
...
...     Args:
...         milk: with it.
...     '''
...     block = "tea"
...     milk: bool = False
>>> Tea.from_mapping({"milk": True})
Tea(milk=True)
>>> Tea.from_mapping({"millk": True, "milk": 3})
Traceback (most recent call last):
campus_tune.words.errors.RecipeError: 2 problems in this recipe: ...
>>> list(rows(Tea))
[SettingRow(name='milk', default='false', must='true or false', doc='with it.')]
"""

from __future__ import annotations

import copy
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import yaml

from campus_tune.words.annotated import defaults, docs, leaves, plain, required
from campus_tune.words.errors import RecipeError
from campus_tune.words.leaves import Leaf, keys, numbers_inside
from campus_tune.words.registry import Registry
from campus_tune.words.types import Json
from campus_tune.words.wording import shown


class CheckedSettings:
    """Settings that check themselves; to be a frozen dataclass, whose annotations are the checks.

    A setting whose name is in `apart` is no key of the YAML: `from_mapping` is told it. One in `written` has another
    name there, because Python keeps the word for itself (`from`): messages, schema and help say what is written. One in
    `unsaid` is left out of `to_mapping` where it is null, so that a setting that is new leaves the files of the others
    as they were.
    """

    block: ClassVar[str]  # what a refusal calls them
    must: ClassVar[str] = "a mapping"
    write: ClassVar[str] = "Write `name: value` lines."  # where something else is given
    apart: ClassVar[tuple[str, ...]] = ()
    written: ClassVar[Mapping[str, str]] = {}
    unsaid: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        problems: list[str] = []
        wrong: set[str] = set()
        for name, one in type(self).known().items():
            try:
                object.__setattr__(self, name, one.read(f"{self.where}{self.key(name)}", getattr(self, name)))
            except RecipeError as error:
                problems += error.problems
                wrong.add(name)
        problems += self.clashes(wrong)
        if problems:
            raise RecipeError(problems)

    @property
    def where(self) -> str:
        """What stands before a setting's name in messages."""
        return f"{self.block}: "

    def clashes(self, wrong: set[str]) -> list[str]:
        """What does not go together, or asks for more than its type says.

        Args:
            wrong: settings that are wrong by themselves, and not to be looked at.
        """
        del wrong
        return []

    @classmethod
    def known(cls) -> dict[str, Leaf]:
        """The settings that a YAML can give."""
        kind: Callable[..., Any] = cls  # mypy asks whether the instances can be hashed, not the class
        return {name: one for name, one in leaves(kind).items() if name not in cls.apart}

    @classmethod
    def key(cls, name: str) -> str:
        """What a YAML calls a setting."""
        return cls.written.get(name, name)

    @classmethod
    def from_mapping(cls, given: object, *, what: str = "", **apart: Any) -> Self:
        """The settings in a mapping, as YAML gives it.

        Args:
            given: the mapping.
            what: what a refusal calls it; empty is the block's own name.
            apart: settings that are no keys of the mapping.

        Raises:
            RecipeError: with all that is wrong: unknown keys, values, settings that do not go together.
        """
        what = what or cls.block
        if not isinstance(given, Mapping):
            raise RecipeError(f"`{what}` must be {cls.must}, got {shown(given)}. {cls.write}")
        known = {cls.key(name): name for name in cls.known()}
        problems = keys(what, given, list(known))
        missing = dict.fromkeys(set(known.values()) - set(defaults(cls)))  # what nothing was given for, a leaf refuses
        try:
            settings = cls(**{**missing, **{known[key]: given[key] for key in known if key in given}}, **apart)
        except RecipeError as error:
            raise RecipeError([*problems, *error.problems]) from error
        if problems:
            raise RecipeError(problems)
        return settings

    def to_mapping(self) -> Json:
        """All keys as plain JSON values, in their sequence; `from_mapping` reads it back."""
        values = {name: plain(getattr(self, name)) for name in type(self).known()}
        return {self.key(name): value for name, value in values.items() if value is not None or name not in self.unsaid}

    @classmethod
    def as_leaf(cls) -> Leaf:
        """These settings as one setting of others."""
        return _Block(cls)

    @classmethod
    def schema(cls) -> Json:
        """The mapping as JSON schema (draft 2020-12); parts by name are in `part_schema`."""
        return mapping_schema(cls, cls.known(), cls.written)


@dataclass(frozen=True)
class _Block(Leaf):
    """Settings inside of settings: the mapping, or what was read from it."""

    kind: type[CheckedSettings]

    @property
    def must(self) -> str:
        return self.kind.must

    def read(self, what: str, value: object) -> CheckedSettings:
        del what  # a block has a name of its own
        return value if isinstance(value, self.kind) else self.kind.from_mapping(value)

    def schema(self) -> Json:
        return self.kind.schema()


@dataclass(frozen=True)
class Part(Leaf):
    """A part by its name, or by a mapping of its name and options; kept as it is written.

    Args:
        registry: that knows the part.
        build: makes the part, or refuses it.
        numbers: all options are numbers, and one in disguise (`1e-2`, which YAML reads as text) is named first.
    """

    registry: Registry[Any]
    build: Callable[[Any], object]
    numbers: bool = False

    must = "a name or a mapping"

    def problems(self, what: str, value: object) -> list[str]:
        """Neither a name nor a mapping, or what the part itself says."""
        if self.numbers and (problems := numbers_inside(what, value)):
            return problems
        if not isinstance(value, str | Mapping):
            return self.refusal(what, value, "Write a name, or {name: …, option: …}.")
        try:
            self.build(value)
        except RecipeError as error:
            return error.problems
        return []

    def read(self, what: str, value: object) -> Any:
        """A copy: settings do not change when the caller's own do."""
        return copy.deepcopy(super().read(what, value))

    def schema(self) -> Json:
        """Written once, in `part_schema`."""
        return {"$ref": f"#/$defs/{self.registry.kind}"}


@dataclass(frozen=True)
class Entries(Leaf):
    """A list of parts, kept as a tuple.

    Args:
        of: each entry.
        write: where it is no list, or a short one.
        least: how many there must be.
    """

    of: Leaf
    write: str
    least: int = 0

    @property
    def must(self) -> str:
        """How many."""
        return "a list of one or more" if self.least else "a list"

    def read(self, what: str, value: object) -> tuple[Any, ...]:
        """All entries are looked at."""
        if isinstance(value, str | Mapping) or not isinstance(value, Sequence) or len(value) < self.least:
            raise RecipeError(self.refusal(what, value, self.write))
        problems: list[str] = []
        taken = []
        for number, entry in enumerate(value, 1):
            try:
                taken.append(self.of.read(what, entry))
            except RecipeError as error:  # a block names itself, and not which of several it is
                which = f"entry {number}: " if isinstance(self.of, _Block) and len(value) > 1 else ""
                problems += [f"{which}{problem}" for problem in error.problems]
        if problems:
            raise RecipeError(problems)
        return tuple(taken)

    def schema(self) -> Json:
        """An array, which may be empty if none is asked for."""
        return {"type": "array", "items": self.of.schema(), **({"minItems": self.least} if self.least else {})}


# -- told --------------------------------------------------------------------------------------------------------------


class SettingRow(NamedTuple):
    """One setting as a table tells it: name, default as YAML, what it must be, what it is for."""

    name: str
    default: str
    must: str
    doc: str


def rows(kind: type[CheckedSettings]) -> Iterator[SettingRow]:
    """The settings of a class, one by one."""
    known, said = defaults(kind), docs(kind)
    for name, one in kind.known().items():
        yield SettingRow(kind.key(name), in_yaml(known.get(name)), one.must, said[name])


def in_yaml(value: object) -> str:
    """A value as a YAML says it, in one line."""
    written = yaml.safe_dump(plain(value), default_flow_style=True, sort_keys=False, width=1000)
    return str(written).removesuffix("...\n").strip()


def block_of(one: Leaf) -> type[CheckedSettings] | None:
    """The settings inside of a setting, one of them or a list; None where it holds none."""
    if isinstance(one, _Block):
        return one.kind
    inner = getattr(one, "of", None)  # of a list, of one that may be null, of one in words of its own
    return block_of(inner) if isinstance(inner, Leaf) else getattr(one, "block", None)


def settings_help(kind: type[CheckedSettings], flag: str, *, width: int = 78) -> str:
    """The settings of a class for a terminal: each as a flag with its default, what it must be, what it is for.

    Args:
        kind: the class.
        flag: what stands before a setting's name on the command line.
        width: of the terminal, in letters.
    """
    lines = []
    for row in rows(kind):
        said = f"{row.doc.rstrip('.')} ({row.must}; default {row.default})"
        indent = " " * 6
        lines += [f"  {flag}{row.name}", textwrap.fill(said, width, initial_indent=indent, subsequent_indent=indent)]
    return "\n".join(lines)


def mapping_schema(kind: Callable[..., Any], known: Mapping[str, Leaf], written: Mapping[str, str] = {}) -> Json:
    """What a class or function takes, as JSON schema: a mapping with these keys and no others.

    Args:
        kind: the class or function, whose docstring says what each key is for.
        known: what each of them may be.
        written: names that a YAML writes otherwise.
    """
    said, given = docs(kind), defaults(kind)
    properties: Json = {}
    for name, one in known.items():
        described = {**one.schema(), "description": said.get(name, "")}
        if name in given and one.takes(given[name]):
            described["default"] = plain(given[name])
        properties[written.get(name, name)] = described
    needed = [written.get(name, name) for name in required(kind) if name in known]
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **({"required": needed} if needed else {}),
    }


def part_schema(registry: Registry[Any], *, reverse: bool = False, more: Json | None = None) -> Json:
    """The parts of a registry as JSON schema: the name alone, or a mapping of the name and the part's own options.

    Args:
        registry: of the parts; those of installed packages are among them.
        reverse: a name may begin with a minus.
        more: options that each part takes besides its own.
    """
    alone, mappings = [], []
    for name in registry.names():
        part = registry.get(name)
        card = (inspect.getdoc(part) or "").partition("\n")[0]
        names = [name, f"-{name}"] if reverse else [name]
        mapping = mapping_schema(part, leaves(part))
        mapping["properties"] = {"name": {"enum": names, "description": card}, **mapping["properties"], **(more or {})}
        if "required" not in mapping:
            alone += [{"const": one, "description": card} for one in names]
        mapping["required"] = ["name", *mapping.get("required", [])]
        mappings.append(mapping)
    return {"anyOf": [*alone, *mappings]}
