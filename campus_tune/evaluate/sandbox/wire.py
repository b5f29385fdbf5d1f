"""The language between a judge and the program it judges: plain values as bytes, in frames, read without mercy.

What can be said: None, bool, int, float, complex, str (lone surrogates too), bytes, Decimal; list, tuple, dict, set
and frozenset of these; the names of Python's own types; and the number of an object that stays on the other side.
Nothing else, so nothing that arrives can carry code: the reader knows sixteen letters, looks nothing up and calls
nothing of the other side's. A list, dict or set is written once and then by its place, so two names of one list stay
two names of one list, and a list may hold itself.

    N T F          None, True, False             l t S Z n:…     list, tuple, set, frozenset of n
    i s b D n:…    int, str, bytes, Decimal      d n:…           dict of n: key, value, key, value
    f c n:…        float, complex (in two)       r n:            the list, dict or set at place n
    y n:…          type by its name              h n:m:…         object n of the other side, and what it is

Numbers n are lower-case hexadecimal. A frame is eight bytes of length and as many bytes. Read by both sides inside
their sandboxes, so it imports nothing but what an interpreter has at hand.
"""

from __future__ import annotations

import builtins
import os
import sys

TYPE_CHECKING = False  # importing typing would take a tenth of the time that a program does
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

MOST_BYTES = 2**24  # of one answer
MOST_DEPTH = 100  # of lists in lists
_DIGITS = 16
_TYPES: dict[str, type] = {
    name: getattr(builtins, name)
    for name in (
        "bool", "int", "float", "complex", "str", "bytes", "list", "tuple", "dict", "set", "frozenset", "object",
    )
}  # fmt: skip
_TYPES["NoneType"] = type(None)
_NAMES = {kind: name for name, kind in _TYPES.items()}
_BASES = (int, float, complex, str, bytes, list, tuple, dict, set, frozenset)


class WireError(ValueError):
    """What was to be said cannot be, or what arrived is no value."""


def plain_kind(kind: type) -> type | None:
    """The type as which values of a type are said; None: they are no values.

    A subclass counts as its base where it is equal to what its base is equal to, so that a named tuple, a Counter or
    an IntEnum means in the judge what it meant in the program. One with an `__eq__` of its own is no value.

    >>> from collections import Counter, namedtuple
    >>> plain_kind(Counter), plain_kind(namedtuple("Point", "x y")), plain_kind(range)
    (<class 'dict'>, <class 'tuple'>, None)
    """
    if kind in _WRITERS:
        return kind
    if kind.__module__ == "decimal":  # loaded by whoever has such a number
        return kind if kind is getattr(sys.modules.get("decimal"), "Decimal", None) else None
    known = sys.modules.get("collections")
    if known is not None and kind in (getattr(known, "Counter", None), getattr(known, "OrderedDict", None)):
        return dict
    for base in _BASES:
        if issubclass(kind, base):
            return base if kind.__eq__ is base.__eq__ else None
    return None


def _no_object(value: object) -> tuple[int, str]:
    raise WireError(f"a {type(value).__name__} is not a value")


def _nothing_known(number: int, _: str) -> object:
    raise WireError(f"there is no object {number}")


class Writer:
    """Puts one value into bytes.

    Args:
        known: the lists, dicts and sets that both sides have, in their places; what is written comes behind them.
        number: gives an object that is no value (its number, what it is), or raises.
        most: bytes that it may take.
    """

    def __init__(
        self,
        known: list[Any] | None = None,
        number: Callable[[object], tuple[int, str]] = _no_object,
        most: int = MOST_BYTES,
    ) -> None:
        self.known = list(known or [])  # held here: an address says who it is as long as its owner lives
        self._number, self._most = number, most
        self._places = {id(one): place for place, one in enumerate(self.known)}
        self._parts: list[bytes] = []
        self._size = 0

    def bytes_of(self, value: object) -> bytes:
        """The value.

        Raises:
            WireError: it holds what cannot be said, or too much.
        """
        self._put(value, 0)
        return b"".join(self._parts)

    def _add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._most:
            raise WireError(f"a value of more than {self._most // 2**20} MiB")
        self._parts.append(part)

    def _put(self, value: object, depth: int) -> None:
        if depth > MOST_DEPTH:
            raise WireError(f"a value nested deeper than {MOST_DEPTH}")
        kind = plain_kind(type(value))
        if kind is None or (kind is type and value not in _NAMES):
            number, what = self._number(value)
            self._add(b"h%x:" % number)
            self._text(b"", what)
        elif kind in _WRITERS:
            _WRITERS[kind](self, value, depth)
        else:
            self._text(b"D", str(value))

    def _text(self, letter: bytes, text: str) -> None:
        content = str.encode(text, "utf-8", "surrogatepass")
        self._add(b"%b%x:%b" % (letter, len(content), content))

    def _double(self, letter: bytes, value: float) -> None:
        self._text(letter, float.hex(value))

    def _complex(self, value: complex) -> None:
        self._double(b"c", value.real)
        self._double(b"", value.imag)

    def _whole(self, value: int, _: int) -> None:
        size = int.bit_length(value) // 8 + 1
        self._add(b"i%x:%b" % (size, int.to_bytes(value, size, "big", signed=True)))

    def _items(self, letter: bytes, count: int, items: Iterator[Any], depth: int) -> None:
        self._add(b"%b%x:" % (letter, count))
        for item in items:
            self._put(item, depth + 1)

    def _once(self, value: object) -> bool:
        """Whether a list, dict or set is here for the first time; if not, its place is written."""
        place = self._places.setdefault(id(value), len(self.known))
        if place < len(self.known):
            self._add(b"r%x:" % place)
            return False
        self.known.append(value)
        return True

    def _list(self, value: list[Any], depth: int) -> None:
        if self._once(value):
            self._items(b"l", list.__len__(value), list.__iter__(value), depth)

    def _set(self, value: set[Any], depth: int) -> None:
        if self._once(value):
            self._items(b"S", set.__len__(value), set.__iter__(value), depth)

    def _dict(self, value: dict[Any, Any], depth: int) -> None:
        if self._once(value):
            items = (part for pair in dict.items(value) for part in pair)
            self._items(b"d", dict.__len__(value), items, depth)


_WRITERS: dict[type, Callable[[Writer, Any, int], None]] = {
    type(None): lambda to, _, __: to._add(b"N"),
    bool: lambda to, value, __: to._add(b"T" if value else b"F"),
    int: Writer._whole,
    float: lambda to, value, __: to._double(b"f", value),
    complex: lambda to, value, __: to._complex(value),
    str: lambda to, value, __: to._text(b"s", value),
    bytes: lambda to, value, __: to._add(b"b%x:%b" % (bytes.__len__(value), bytes.__getitem__(value, slice(None)))),
    list: Writer._list,
    tuple: lambda to, value, depth: to._items(b"t", tuple.__len__(value), tuple.__iter__(value), depth),
    dict: Writer._dict,
    set: Writer._set,
    frozenset: lambda to, value, depth: to._items(b"Z", frozenset.__len__(value), frozenset.__iter__(value), depth),
    type: lambda to, value, __: to._text(b"y", _NAMES[value]),
}


class Reader:
    """Takes one value out of bytes.

    Args:
        data: the bytes.
        known: the lists, dicts and sets that both sides have, in their places; those that arrive are added.
        object_of: what stands here for an object of the other side: of its number, and what it is.
    """

    def __init__(
        self,
        data: bytes,
        known: list[Any] | None = None,
        object_of: Callable[[int, str], object] = _nothing_known,
    ) -> None:
        self.known = [] if known is None else known
        self._data, self._at, self._object_of = data, 0, object_of

    def value(self) -> Any:
        """The value.

        Raises:
            WireError: the bytes are no value, or hold more than one.
        """
        value = self._value(0)
        if self._at != len(self._data):
            raise WireError("more follows behind the value")
        return value

    def _take(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        if len(part) != size:
            raise WireError("the value breaks off")
        self._at += size
        return part

    def _count(self) -> int:
        end = self._data.find(b":", self._at, self._at + _DIGITS + 1)
        digits = self._data[self._at : end]
        if end <= self._at or digits.strip(b"0123456789abcdef"):
            raise WireError("a number is missing")
        self._at = end + 1
        return int(digits, 16)

    def _text(self) -> str:
        try:
            return self._take(self._count()).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise WireError("a text is not UTF-8") from None

    def _items(self, depth: int, each: int = 1) -> list[Any]:
        count = each * self._count()
        if count > len(self._data) - self._at:  # an item takes a byte at least
            raise WireError("the value breaks off")
        return [self._value(depth + 1) for _ in range(count)]

    def _value(self, depth: int) -> Any:
        if depth > MOST_DEPTH:
            raise WireError(f"a value nested deeper than {MOST_DEPTH}")
        read = _READERS.get(self._take(1))
        if read is None:
            raise WireError("an unknown letter")
        return read(self, depth)

    def _double(self, _: int = 0) -> float:
        try:
            return float.fromhex(self._text())
        except (ValueError, OverflowError):
            raise WireError("a float is no number") from None

    def _decimal(self, _: int) -> Any:
        from decimal import Decimal, InvalidOperation

        try:
            return Decimal(self._text())
        except (InvalidOperation, ValueError):
            raise WireError("a Decimal is no number") from None

    def _type(self, _: int) -> type:
        kind = _TYPES.get(self._text())
        if kind is None:
            raise WireError("a type is unknown")
        return kind

    def _reference(self, _: int) -> Any:
        place = self._count()
        if place >= len(self.known):
            raise WireError("a list is at no place")
        return self.known[place]

    def _object(self, _: int) -> object:
        return self._object_of(self._count(), self._text())

    def _list(self, depth: int) -> list[Any]:
        made: list[Any] = []
        self.known.append(made)
        made += self._items(depth)
        return made

    @staticmethod
    def _hashed(make: Callable[[list[Any]], Any], items: list[Any], count: int) -> Any:
        try:
            made = make(items)
        except TypeError:
            raise WireError("a key that has no hash") from None
        if len(made) != count:
            raise WireError("a key is there twice")
        return made

    def _set(self, depth: int) -> set[Any]:
        made: set[Any] = set()
        self.known.append(made)
        items = self._items(depth)
        made |= self._hashed(set, items, len(items))
        return made

    def _frozenset(self, depth: int) -> frozenset[Any]:
        items = self._items(depth)
        made: frozenset[Any] = self._hashed(frozenset, items, len(items))
        return made

    def _dict(self, depth: int) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        self.known.append(made)
        parts = self._items(depth, 2)
        pairs = list(zip(parts[::2], parts[1::2], strict=True))
        made |= self._hashed(dict, pairs, len(pairs))
        return made


_READERS: dict[bytes, Callable[[Reader, int], Any]] = {
    b"N": lambda _of, _: None,
    b"T": lambda _of, _: True,
    b"F": lambda _of, _: False,
    b"i": lambda of, _: int.from_bytes(of._take(of._count()), "big", signed=True),
    b"f": Reader._double,
    b"c": lambda of, _: complex(of._double(), of._double()),
    b"s": lambda of, _: of._text(),
    b"b": lambda of, _: of._take(of._count()),
    b"D": Reader._decimal,
    b"l": Reader._list,
    b"t": lambda of, depth: tuple(of._items(depth)),
    b"d": Reader._dict,
    b"S": Reader._set,
    b"Z": Reader._frozenset,
    b"r": Reader._reference,
    b"y": Reader._type,
    b"h": Reader._object,
}


def send(file: int, content: bytes) -> None:
    """Write one frame.

    Raises:
        BrokenPipeError: nobody is there to read it.
    """
    left = memoryview(len(content).to_bytes(8, "big") + content)
    while left:
        left = left[os.write(file, left) :]


def receive(file: int, *, most: int) -> bytes | None:
    """Read one frame; None: the other side is gone.

    Args:
        file: the pipe.
        most: bytes that a frame may have.

    Raises:
        WireError: a frame that is longer.
    """
    head = _read(file, 8)
    if head is None:
        return None
    size = int.from_bytes(head, "big")
    if size > most:
        raise WireError(f"a value of more than {most // 2**20} MiB")
    return _read(file, size)


def _read(file: int, size: int) -> bytes | None:
    parts: list[bytes] = []
    while size:
        part = os.read(file, min(size, 2**20))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
