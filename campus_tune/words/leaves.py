"""The leaves of settings: what a single one may be, how it is read, what a refusal says, what an editor is told.

A leaf is found by a setting's annotation (`campus_tune/words/annotated.py`): by its type, by the marks `Range`,
`Wording` and `Given` beside it, or because it stands there itself.

Problems are returned and not raised, so that a recipe with five mistakes is answered once and not five times. Values
come from YAML, whose traps are named where they bite: `1e-3` is text there, `yes`, `no`, `on` and `off` are booleans,
and a boolean is not a number.

>>> Number(Range(0, 1)).problems("mix", "1e-3")
["`mix` must be a number in [0, 1], got the text '1e-3'. YAML reads it as text: write 0.001."]
>>> Choice(("prefix", "slice")).read("window", "slices")
Traceback (most recent call last):
campus_tune.words.errors.RecipeError: `window` must be one of prefix, slice, got 'slices'. Did you mean 'slice'?
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, Literal

from campus_tune.words.errors import RecipeError
from campus_tune.words.registry import nearest
from campus_tune.words.types import Json
from campus_tune.words.wording import shown

LARGEST = 2**31 - 1  # of a whole number, where a setting has no bound of its own
LARGEST_SEED = 2**32 - 1  # numpy's
_QUOTES = "'\""

# -- what stands in annotations ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; of the ends, `[` and `]` are included, `(` and `)` are not."""

    low: float
    high: float = LARGEST
    ends: Literal["[]", "(]", "[)", "()"] = "[]"


@dataclass(frozen=True)
class Wording:
    """Other words for a refusal than those of the type.

    Args:
        must: what the setting must be; empty leaves the type's own words.
        write: what to do about it.
    """

    must: str = ""
    write: str = ""


class Given:
    """The setting must be given: the null that is its default says nothing, and is refused."""


# -- leaves ------------------------------------------------------------------------------------------------------------


class Leaf(ABC):
    """What one setting may be. Most say `problems`; those that make something else of a value say `read`."""

    @property
    @abstractmethod
    def must(self) -> str:
        """What the setting must be, as a refusal says it."""

    @abstractmethod
    def schema(self) -> Json:
        """The same as JSON schema (draft 2020-12)."""

    def problems(self, what: str, value: object) -> list[str]:
        """What is wrong with a value, as sentences."""
        del what, value
        return []

    def refusal(self, what: str, value: object, advice: str) -> list[str]:
        """The sentence that refuses a value, and says what to do about it."""
        return [f"`{what}` must be {self.must}, got {shown(value)}. {advice}".rstrip()]

    def read(self, what: str, value: object) -> Any:
        """The value as it is kept.

        Args:
            what: the setting's name in messages.
            value: as YAML or Python gives it.

        Raises:
            RecipeError: with all that is wrong with it.
        """
        if problems := self.problems(what, value):
            raise RecipeError(problems)
        return value

    def takes(self, value: object) -> bool:
        """Whether `read` would take it."""
        try:
            self.read("", value)
        except RecipeError:
            return False
        return True


@dataclass(frozen=True)
class Anything(Leaf):
    """A setting of which only its owner knows what it may be."""

    must = "a value"

    def schema(self) -> Json:
        """Nothing is refused."""
        return {}


@dataclass(frozen=True)
class Whole(Leaf):
    """A whole number."""

    range: Range

    @property
    def must(self) -> str:
        """Its upper end only where it is a bound of its own."""
        above = "" if self.range.high == LARGEST else f" and at most {int(self.range.high)}"
        return f"a whole number of at least {int(self.range.low)}{above}"

    def problems(self, what: str, value: object) -> list[str]:
        """No whole number, or out of range."""
        low, high = int(self.range.low), int(self.range.high)
        least = f"`{what}` must be a whole number of at least {low}"
        if isinstance(value, bool) or not isinstance(value, int):
            return [f"{least}, got {_not_a_number(value)}"]
        if value < low:
            return [f"{least}, got {shown(value)}. Raise it."]
        return [] if value <= high else [f"{least} and at most {high}, got {shown(value)}. Lower it."]

    def schema(self) -> Json:
        """An integer; JSON has no other word for 2.0 than for 2, so there a schema takes more."""
        return {"type": "integer", "minimum": int(self.range.low), "maximum": int(self.range.high)}


@dataclass(frozen=True)
class Number(Leaf):
    """A number, whole ones too."""

    range: Range

    @property
    def must(self) -> str:
        """With the range as mathematicians write it, whole ends with all their digits."""
        ends = (str(int(end)) if end == int(end) else f"{end:g}" for end in (self.range.low, self.range.high))
        return f"a number in {self.range.ends[0]}{', '.join(ends)}{self.range.ends[1]}"

    def problems(self, what: str, value: object) -> list[str]:
        """No number, or out of range."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return [f"`{what}` must be {self.must}, got {_not_a_number(value)}"]
        low, high = self.range.low, self.range.high
        above = low < value if self.range.ends[0] == "(" else low <= value  # NaN is neither
        inside = above and (value < high if self.range.ends[1] == ")" else value <= high)
        return [] if inside else self.refusal(what, value, "Choose a value in this range.")

    def schema(self) -> Json:
        """With exclusive ends where they are open."""
        low, high = self.range.ends
        names = ("exclusiveMinimum" if low == "(" else "minimum", "exclusiveMaximum" if high == ")" else "maximum")
        return {"type": "number", names[0]: self.range.low, names[1]: self.range.high}


@dataclass(frozen=True)
class Choice(Leaf):
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def must(self) -> str:
        """All of them."""
        return f"one of {', '.join(self.words)}"

    def problems(self, what: str, value: object) -> list[str]:
        """Another word; the nearest is named."""
        if isinstance(value, str) and value in self.words:
            return []
        got = shown(value)
        return [f"`{what}` must be {self.must}, got {got}.{nearest(got.strip(_QUOTES), self.words)}"]

    def schema(self) -> Json:
        """An enumeration."""
        return {"enum": list(self.words)}


@dataclass(frozen=True)
class Several(Leaf):
    """One of a few words, or a list of them in sequence; kept as a tuple.

    >>> Several(("note", "stop")).read("then", "note"), Several(("note", "stop")).read("then", ["stop", "note"])
    (('note',), ('stop', 'note'))
    """

    words: tuple[str, ...]

    @property
    def must(self) -> str:
        """All of them."""
        return f"one of {', '.join(self.words)}, or a list of these"

    def read(self, what: str, value: object) -> tuple[str, ...]:
        """At least one; the nearest word is named for one that is none of them."""
        given = list(value) if isinstance(value, list | tuple) else [value]
        wrong = [one for one in given if not isinstance(one, str) or one not in self.words]
        if given and not wrong:
            return tuple(map(str, given))
        advice = nearest(wrong[0], self.words).strip() if wrong and isinstance(wrong[0], str) else "Choose one of them."
        raise RecipeError(self.refusal(what, value, advice))

    def schema(self) -> Json:
        """A word of an enumeration, or an array of such."""
        word = {"enum": list(self.words)}
        return {"anyOf": [word, {"type": "array", "items": word, "minItems": 1}]}


@dataclass(frozen=True)
class Flag(Leaf):
    """True or false."""

    must = "true or false"

    def problems(self, what: str, value: object) -> list[str]:
        """Anything else."""
        return [] if isinstance(value, bool) else self.refusal(what, value, "Write one of them.")

    def schema(self) -> Json:
        """A boolean."""
        return {"type": "boolean"}


@dataclass(frozen=True)
class Text(Leaf):
    """A text that is not empty."""

    must = "a text"

    def problems(self, what: str, value: object) -> list[str]:
        """No text, or an empty one."""
        if isinstance(value, str) and value:
            return []
        disguised = isinstance(value, bool | int | float)
        return self.refusal(what, value, "Quote it: YAML reads it as something else." if disguised else "Write a name.")

    def schema(self) -> Json:
        """At least one character."""
        return {"type": "string", "minLength": 1}


@dataclass(frozen=True)
class Place(Leaf):
    """A folder, or a name on the hub; whether there is one shows when it is loaded.

    Args:
        what: must be there.
        example: of what to write.
    """

    what: str
    example: str

    @property
    def must(self) -> str:
        """What must be there."""
        return self.what

    def problems(self, what: str, value: object) -> list[str]:
        """No text, or nothing but blanks."""
        right = isinstance(value, str) and value.strip()
        return [] if right else self.refusal(what, value, f"Write for example {self.example}.")

    def schema(self) -> Json:
        """A text that is not blank."""
        return {"type": "string", "pattern": r"\S"}


@dataclass(frozen=True)
class Listed(Leaf):
    """A list of parts, each of which the owner of the setting looks at.

    Args:
        of: the definition of each in the schema.
        least: how many there must be.
    """

    of: str
    least: int

    @property
    def must(self) -> str:
        """How many."""
        return f"a list of {self.least} or more"

    def problems(self, what: str, value: object) -> list[str]:
        """No list, or a short one."""
        right = isinstance(value, Sequence) and not isinstance(value, str) and len(value) >= self.least
        return [] if right else self.refusal(what, value, "Write [one, another].")

    def schema(self) -> Json:
        """An array of what is defined elsewhere."""
        return {"type": "array", "items": {"$ref": f"#/$defs/{self.of}"}, "minItems": self.least}


@dataclass(frozen=True)
class Texts(Leaf):
    """A list of texts, kept as a tuple."""

    must = "a list of texts"

    def read(self, what: str, value: object) -> tuple[str, ...]:
        """At least one."""
        if not isinstance(value, list | tuple) or not value or not all(isinstance(one, str) for one in value):
            raise RecipeError(self.refusal(what, value, "Write [one, another]."))
        return tuple(value)

    def schema(self) -> Json:
        """At least one."""
        return {"type": "array", "items": {"type": "string"}, "minItems": 1}


@dataclass(frozen=True)
class Files(Leaf):
    """A file or a list of files, kept as a tuple of texts."""

    must = "a file or a list of files"

    def read(self, what: str, value: object) -> tuple[str, ...]:
        """At least one."""
        paths = [value] if isinstance(value, str | PathLike) else value
        if not isinstance(paths, list | tuple) or not paths or not all(isinstance(p, str | PathLike) for p in paths):
            raise RecipeError(self.refusal(what, value, "Name one."))
        return tuple(str(path) for path in paths)

    def schema(self) -> Json:
        """A text or several."""
        return {"anyOf": [{"type": "string"}, Texts().schema()]}


@dataclass(frozen=True)
class Nullable(Leaf):
    """A leaf, or null, which stands for something that the setting's description names."""

    of: Leaf

    @property
    def must(self) -> str:
        """That null is fine is seen in the default."""
        return self.of.must

    def read(self, what: str, value: object) -> Any:
        """Null is null."""
        return None if value is None else self.of.read(what, value)

    def schema(self) -> Json:
        """One more type, or one more word."""
        schema = self.of.schema()
        if "enum" in schema:
            return {**schema, "enum": [*schema["enum"], None]}
        if isinstance(schema.get("type"), str):
            return {**schema, "type": [schema["type"], "null"]}
        return {"anyOf": [schema, {"type": "null"}]} if schema else schema


@dataclass(frozen=True)
class Worded(Leaf):
    """A leaf that refuses in words of its own."""

    of: Leaf
    told: Wording

    @property
    def must(self) -> str:
        """Its own words, if it has any for this."""
        return self.told.must or self.of.must

    def read(self, what: str, value: object) -> Any:
        """As the leaf does, but for the words."""
        try:
            return self.of.read(what, value)
        except RecipeError as error:
            raise RecipeError(self.refusal(what, value, self.told.write)) from error

    def schema(self) -> Json:
        """The leaf's."""
        return self.of.schema()


# -- of whole mappings -------------------------------------------------------------------------------------------------


def keys(what: str, given: Mapping[Any, Any], known: Sequence[str]) -> list[str]:
    """Keys of `given` that `what` does not have."""
    return [
        f"`{what}` takes {', '.join(known)}, got {shown(key)}.{nearest(str(key), known)} Correct or remove it."
        for key in given
        if key not in known
    ]


def numbers_inside(what: str, setting: object) -> list[str]:
    """No option inside `setting` is a number in disguise: text such as `1e-2`, or a boolean."""
    if isinstance(setting, Mapping):
        pairs: Iterable[tuple[str, object]] = ((f"{what}: {key}", value) for key, value in setting.items())
    elif isinstance(setting, list | tuple):
        pairs = ((f"{what}[{i}]", value) for i, value in enumerate(setting))
    else:
        disguised = isinstance(setting, bool) or (isinstance(setting, str) and _as_number(setting) is not None)
        return [f"`{what}` must be a number, got {_not_a_number(setting)}"] if disguised else []
    return [problem for name, value in pairs for problem in numbers_inside(name, value)]


def _not_a_number(value: object) -> str:
    if isinstance(value, str) and (meant := _as_number(value)) is not None:
        return f"the text {shown(value)}. YAML reads it as text: write {meant:g}."
    if isinstance(value, bool):
        return f"{str(value).lower()}, which is not a number. (YAML reads yes, no, on and off as this.) Write a number."
    return f"{shown(value)}. Write a number."


def _as_number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None
