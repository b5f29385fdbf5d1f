"""Reading YAML strictly: what JSON could say as well, in UTF-8, no key twice, and errors that name file and line.

YAML can say much more than settings need, and most of it surprises: an alias makes a file of 400 bytes a value of
gigabytes, `2020-99-99` is a date that raises while it is read, `12:30` is 750 and `010` is 8, a tag names a Python
object, `.nan` passes every comparison. So there are text, numbers, true, false, null, lists and mappings with text for
keys, and nothing else. A key is what stands there: `on: 0.7` has the key `on`, which YAML would read as true.

>>> read_value("{name: column, path: day.csv, on: id, since: 2026-11-29}", "--campus.metrics")
{'name': 'column', 'path': 'day.csv', 'on': 'id', 'since': '2026-11-29'}
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

from campus_tune.words.errors import RecipeError
from campus_tune.words.registry import nearest
from campus_tune.words.types import Json
from campus_tune.words.wording import cut

LARGEST = 1 << 16  # bytes; PyYAML takes seconds for them, and no recipe comes near
DEEPEST = 40  # levels, far below those at which Python's own stack ends
SHOWN = 40  # characters of a value in a message
WHOLE = 1 << 63  # whole numbers of more than 64 bits fit into nothing that takes them
_CHECK = "Check indentation, quotes and brackets there."
_STANDARD = "tag:yaml.org,2002:"
_INT, _FLOAT = f"{_STANDARD}int", f"{_STANDARD}float"
_INTS = re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)")
_FLOATS = re.compile(
    r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+][0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)


def read_yaml(path: str | Path) -> Json:
    """A YAML file whose top level is a mapping; a key that comes twice is refused.

    Raises:
        RecipeError: the file is absent, not UTF-8, not YAML, no mapping, or says what JSON could not; file and line
            are named.
    """
    path = Path(path)
    content = _parsed(_text_of(path), f"`{path}`")
    if not isinstance(content, dict):
        got = "nothing" if content is None else type(content).__name__
        raise RecipeError(f"`{path}` must be a mapping, got {got}. Write `key: value` lines.")
    return content


def read_value(text: str, what: str) -> Any:
    """A value that a flag gives as YAML.

    Args:
        text: of the value.
        what: the flag, as it is written.

    Raises:
        RecipeError: no YAML, or it says what JSON could not.
    """
    if len(text) > LARGEST:
        raise RecipeError(f"`{what}` must be at most {LARGEST} characters, got {len(text)}. Write it into the YAML.")
    return _parsed(text, f"`{what}`")


def _text_of(path: Path) -> str:
    """The text of a file, which is a file, and no larger than a recipe is."""
    try:
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "a pipe or a device"
            raise RecipeError(f"`{path}` must be a readable YAML file, got {kind}. Name the file itself.")
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise RecipeError(f"`{path}` must have at most {LARGEST} bytes, got more. Name the recipe, not its data.")
        return data.decode("utf-8")
    except (OSError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise RecipeError(
                f"`{path}` must be UTF-8, got byte 0x{error.object[error.start]:02x} at offset {error.start}. "
                "Convert it: iconv -f latin1 -t utf-8 (or from the encoding it really has)."
            ) from error
        if isinstance(error, RecipeError):
            raise
        hint = nearest(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else ""
        why = getattr(error, "strerror", None) or error
        raise RecipeError(f"`{path}` must be a readable YAML file, got {why}.{hint}") from error


def _parsed(text: str, what: str) -> Any:
    """The value of a YAML text.

    Args:
        text: YAML.
        what: where it stands, for messages.
    """
    try:
        return _StrictLoader(text).get_single_data()
    except _Odd as odd:
        raise RecipeError(
            f"{what} line {odd.line} must be text, numbers, true, false, null, or lists and mappings of them, got "
            f"{odd.got}. {odd.advice}"
        ) from odd
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        why = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise RecipeError(f"{what}{where} must be YAML, got: {why}. {_CHECK}") from error


class _Odd(yaml.YAMLError):
    """Something that YAML can say and JSON cannot."""

    def __init__(self, mark: Any, got: str, advice: str) -> None:
        super().__init__(got)
        self.line, self.got, self.advice = mark.line + 1, got, advice


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe subset without tags, anchors, dates, other bases, and "the last of two equal keys wins"."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's own way to keep them

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> Any:
        """One value, at whatever depth."""
        event = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML has no types here
        shown = cut(getattr(event, "anchor", None) or getattr(event, "tag", None) or "", SHOWN).replace(_STANDARD, "!!")
        if isinstance(event, yaml.AliasEvent):
            raise _Odd(event.start_mark, f"the alias *{shown}", "Write out what it stands for, or quote the text.")
        if event.anchor is not None:
            raise _Odd(event.start_mark, f"the anchor &{shown}", "Write the value where it is needed, or quote it.")
        if event.tag is not None:
            raise _Odd(event.start_mark, f"the tag {shown}", "Write the value without it, or quote the text.")
        if self.depth >= DEEPEST:
            raise _Odd(event.start_mark, f"more than {DEEPEST} levels in one another", "Write it flatter.")
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        """A mapping, whose keys are the texts that stand there."""
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _Odd(key_node.start_mark, "a list or a mapping for a key", "Write a name before the colon.")
            key = _text(self, key_node)
            if key in found:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} twice", key_node.start_mark)
            found[key] = self.construct_object(value_node, deep=True)
        return found


def _whole(loader: _StrictLoader, node: yaml.ScalarNode) -> int:
    given, digits = cut(node.value, SHOWN), node.value.replace("_", "").lstrip("+-").lower()
    if len(digits) > 1 and digits[0] == "0" and digits[1] not in "bx":
        meant = cut(digits.lstrip("0") or "0", SHOWN)
        raise _Odd(node.start_mark, f"the number {given}", f"Write {meant}, or quote it as text.")
    number = int(loader.construct_yaml_int(node)) if len(digits) < 80 else WHOLE  # more Python reads only when asked to
    if not -WHOLE <= number < WHOLE:
        raise _Odd(node.start_mark, f"the number {given}", "Write one of 64 bits, or quote it as text.")
    return number


def _real(loader: _StrictLoader, node: yaml.ScalarNode) -> float:
    number = float(loader.construct_yaml_float(node))
    if not math.isfinite(number):
        raise _Odd(node.start_mark, f"the number {cut(node.value, SHOWN)}", "Write a finite one, or quote it as text.")
    return number


def _text(loader: _StrictLoader, node: yaml.ScalarNode) -> str:
    text = str(loader.construct_scalar(node))
    odd = next((c for c in text if c == "\0" or "\ud800" <= c <= "\udfff"), None)
    if odd is not None:
        raise _Odd(node.start_mark, f"a text with the character {odd!r}", "Take it out: no file can hold it.")
    return text


for _first, _resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items():
    _kept = [(tag, form) for tag, form in _resolvers if tag.rpartition(":")[2] in ("bool", "null")]
    _StrictLoader.yaml_implicit_resolvers[_first] = _kept
_StrictLoader.add_implicit_resolver(_INT, re.compile(rf"^(?:{_INTS.pattern})$"), list("-+0123456789"))
_StrictLoader.add_implicit_resolver(_FLOAT, re.compile(rf"^(?:{_FLOATS.pattern})$"), list("-+0123456789."))
_StrictLoader.add_constructor(_INT, _whole)
_StrictLoader.add_constructor(_FLOAT, _real)
_StrictLoader.add_constructor(f"{_STANDARD}str", _text)
_StrictLoader.add_constructor(f"{_STANDARD}map", _StrictLoader.mapping)
