"""Checks of single settings: the type, the range, the nearest name. Each returns the problems it found, as sentences.

Returned and not raised, so that a recipe with five mistakes is answered once and not five times. Values come from
YAML, whose traps are named where they bite: `1e-3` is text there, `yes`, `no`, `on` and `off` are booleans, and a
boolean is not a number.

>>> number("mix", "1e-3", low=0, high=1)
["`mix` must be a number in [0, 1], got the text '1e-3'. YAML reads it as text: write 0.001."]
>>> choice("window", "slices", ("prefix", "slice"))
["`window` must be one of prefix, slice, got 'slices'. Did you mean 'slice'?"]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from campus_tune.words.registry import nearest
from campus_tune.words.wording import shown

LARGEST = 2**31 - 1  # of a whole number, where a setting has no bound of its own
LARGEST_SEED = 2**32 - 1  # numpy's
QUOTES = "'\""


def keys(what: str, given: Mapping[Any, Any], known: Sequence[str]) -> list[str]:
    """Keys of `given` that `what` does not have."""
    return [
        f"`{what}` takes {', '.join(known)}, got {shown(key)}.{nearest(str(key), known)} Correct or remove it."
        for key in given
        if key not in known
    ]


def choice(what: str, value: object, accepted: Sequence[str]) -> list[str]:
    """`value` is one of a few words."""
    if isinstance(value, str) and value in accepted:
        return []
    got = shown(value)
    return [f"`{what}` must be one of {', '.join(accepted)}, got {got}.{nearest(got.strip(QUOTES), accepted)}"]


def number(
    what: str, value: object, *, low: float, high: float, open_low: bool = False, open_high: bool = False
) -> list[str]:
    """`value` is a number between `low` and `high`, the ends included unless open."""
    range_ = f"{'(' if open_low else '['}{_end(low)}, {_end(high)}{')' if open_high else ']'}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return [f"`{what}` must be a number in {range_}, got {_not_a_number(value)}"]
    above = low < value if open_low else low <= value  # NaN is neither
    inside = above and (value < high if open_high else value <= high)
    # NaN is not
    return (
        [] if inside else [f"`{what}` must be a number in {range_}, got {shown(value)}. Choose a value in this range."]
    )


def whole(what: str, value: object, *, low: int, high: int = LARGEST) -> list[str]:
    """`value` is a whole number from `low` to `high`."""
    must = f"`{what}` must be a whole number of at least {low}"
    if isinstance(value, int) and not isinstance(value, bool):
        if value < low:
            return [f"{must}, got {shown(value)}. Raise it."]
        return [] if value <= high else [f"{must} and at most {high}, got {shown(value)}. Lower it."]
    return [f"{must}, got {_not_a_number(value)}"]


def text(what: str, value: object) -> list[str]:
    """`value` is a text that is not empty."""
    if isinstance(value, str) and value:
        return []
    hint = " Quote it: YAML reads it as something else." if isinstance(value, bool | int | float) else " Write a name."
    return [f"`{what}` must be a text, got {shown(value)}.{hint}"]


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


def _end(bound: float) -> str:
    """An end of a range: whole ones with all their digits."""
    return str(int(bound)) if bound == int(bound) else f"{bound:g}"


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
