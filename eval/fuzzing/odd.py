"""Odd values, and ways to damage what is right: texts, JSON and bytes. All chance comes from a `random.Random`."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Sequence
from typing import Any

MARK = "fuzzmark"  # the element, and `onfuzzmark` the attribute, that no page may have
MARKUP = (
    f"<{MARK}>",
    f'"><{MARK}>',
    f'" on{MARK}="1',
    f"' on{MARK}='1",
    f"</script><{MARK}>",
    f"--><{MARK}>",
    f"</title></style><{MARK}>",
    f"`<{MARK}>`",
    f"<svg><{MARK} on{MARK}=1>",
)
TEXTS = (
    "", " ", "\n", "\0", "a\0b", "\ufeff", "\ud800", "\udfff", "é", "日本語", "🙂", "\u202e", "x" * 5000, "nan", "inf",
    "null",
    "true", "yes", "1e-3", "0x10", "1_000", "12", "-1", "~", "*x", "&x", "!!int 3", "{", "[", "a: b", "- a", "%",
    "@", "`",
    "../../etc/passwd", "/dev/null", "/", ".", "-", "--", "=", "$HOME", "${HOME}", "%s", "{0}", "{x}", "\\", '"',
    "'", "2020-99-99",
    "a/b", "con", "None",
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 2, 3, 255, 2**15, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 10**30, 10**400,
    0.0, -0.0, 0.5, 1.5, -0.5, 1e-300, 5e-324, 1e300, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip


def value(chance: random.Random, depth: int = 2) -> Any:
    """Any value that JSON can carry, and NaN."""
    kinds = ["text", "number", "word", "word", "markup"] + (["list", "mapping"] if depth else [])
    kind = chance.choice(kinds)
    if kind == "list":
        return [value(chance, depth - 1) for _ in range(chance.choice([0, 1, 2, 3]))]
    if kind == "mapping":
        return {text(chance): value(chance, depth - 1) for _ in range(chance.choice([0, 1, 2]))}
    if kind == "number":
        return chance.choice(NUMBERS)
    return {"text": text, "markup": lambda c: c.choice(MARKUP), "word": lambda c: c.choice([None, True, False])}[kind](
        chance
    )


def text(chance: random.Random) -> str:
    """Any text, half a surrogate pair included."""
    if chance.random() < 0.2:
        return "".join(
            chr(chance.choice([chance.randrange(32, 127), chance.randrange(0x300), chance.randrange(0x11000)]))
            for _ in range(chance.randrange(6))
        )
    return chance.choice(TEXTS)


def misspelt(word: str, chance: random.Random) -> str:
    """A word with a letter lost, doubled, exchanged or added, and never the word itself."""
    at = chance.randrange(len(word))
    other = {
        "lost": word[:at] + word[at + 1 :],
        "doubled": word[:at] + word[at] + word[at:],
        "added": f"{word}x",
        "case": word.swapcase(),
    }[chance.choice(["lost", "doubled", "added", "case"])]
    return other if other and other != word else f"{word}x"


# -- JSON --------------------------------------------------------------------------------------------------------------


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values inside of a JSON value, its own left out."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    found = []
    for key, part in list(inner)[:40]:
        found += [(*path, key), *places(part, (*path, key))]
    return found


def mutated(content: Any, chance: random.Random, times: int = 1) -> Any:
    """A copy of a JSON value in which something is replaced, lost, misspelt, added, doubled or moved."""
    content = copy.deepcopy(content)
    for _ in range(times):
        paths = places(content)
        if not paths:
            return value(chance)
        by_depth = [path for path in paths if len(path) <= chance.choice([1, 2, 3, 9])]
        *outer, key = chance.choice(by_depth or paths)
        where = content
        for step in outer:
            where = where[step]
        _change(where, key, chance)
    return content


def _change(where: Any, key: Any, chance: random.Random) -> None:
    how = chance.choice(["odd", "odd", "odd", "lost", "misspelt", "text", "wrapped", "number", "other"])
    if how == "lost":
        del where[key]
    elif how == "misspelt" and isinstance(key, str) and key:
        where[misspelt(key, chance)] = where.pop(key)
    elif how == "text":
        where[key] = str(where[key])
    elif how == "wrapped":
        where[key] = [where[key]]
    elif how == "number" and isinstance(where[key], int | float):
        where[key] = chance.choice([-where[key], where[key] + 1, where[key] * 10**6, float(where[key])])
    elif how == "other":
        where[key] = copy.deepcopy(chance.choice(list(where.values()) if isinstance(where, dict) else where))
    else:
        where[key] = value(chance)


def as_json(content: Any, chance: random.Random) -> str:
    """A JSON value as text, as Python writes it: NaN and half surrogate pairs included."""
    return json.dumps(content, ensure_ascii=chance.random() < 0.5)


# -- bytes -------------------------------------------------------------------------------------------------------------


def damaged(data: bytes, chance: random.Random, others: Sequence[bytes] = ()) -> tuple[str, bytes]:
    """(What was done, other bytes): cut, emptied, lengthened, a bit flipped, bytes put in, or another file's."""
    how = chance.choice(["cut", "flipped", "flipped", "empty", "longer", "put in", "zeros", "swapped"])
    at = chance.randrange(len(data)) if data else 0
    if how == "flipped" and data:
        return how, data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]
    if how == "zeros" and data:
        return how, data[:at] + bytes(min(64, len(data) - at)) + data[at + 64 :]
    if how == "swapped" and (other := [one for one in others if one != data]):
        return how, chance.choice(other)
    if how == "cut" and data:
        return how, data[:at]
    if how == "empty" and data:
        return how, b""
    if how == "put in":
        return how, data[:at] + chance.randbytes(chance.choice([1, 4, 64])) + data[at:]
    return "longer", data + chance.choice([b"\n", b"\0", b"x", data or b"y"])
