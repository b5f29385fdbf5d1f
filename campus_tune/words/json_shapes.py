"""JSON that we once wrote and read back: parsed without surprises, and of the shape that its reader takes for granted.

A file may be another version's, another program's, half written, or changed by hand. A shape is written as an example:

    int, float, str, bool, None    a whole number, a finite number (whole ones too), text, true or false, null
    [float]                        a list of numbers
    [float, float]                 a list of two numbers
    {"step": int, "rows?": int}    a mapping that has `step`, and may have `rows`; further keys are let be
    {str: float, "all": float}     a mapping from any names to numbers, `all` among them
    (float, None)                  a number or null
    object                         anything

>>> misshapen({"step": 3, "domains": {"code": "x"}}, {"step": int, "domains": {str: float}})
"`domains: code` must be a number, got 'x'"
>>> misshapen([], {"step": int})
'it must be a mapping, got []'
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from campus_tune.words.wording import shown

WHOLE = 2**63  # what fits into no array
_WORDS: dict[Any, str] = {int: "a whole number", float: "a number", str: "text", bool: "true or false", None: "null"}


def parse(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is none, says NaN or Infinity, which JSON has not, or is nested as deep as nothing of ours.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def read_json(path: Path, shape: object = object) -> Any:
    """The value in a JSON file.

    Args:
        path: of the file.
        shape: that it must have.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is no JSON, or of another shape; the words say what is wrong.
    """
    value = parse(path.read_text("utf-8"))
    problem = misshapen(value, shape)
    if problem is not None:
        raise ValueError(problem)
    return value


def misshapen(value: object, shape: object, where: str = "") -> str | None:
    """The first place in which a value is not of a shape, as a sentence; None where it is.

    Args:
        value: as JSON gives it.
        shape: see above.
        where: names of the places around it.
    """
    if shape is object:
        return None
    if isinstance(shape, tuple):
        problems = [misshapen(value, one, where) for one in shape]
        return None if None in problems else _told(where, " or ".join(map(_word, shape)), value)
    if isinstance(shape, list):
        if not isinstance(value, list) or (len(shape) > 1 and len(value) != len(shape)):
            return _told(where, _word(shape), value)
        of = shape if len(shape) > 1 else shape * len(value)
        inside = (
            misshapen(one, each, _inside(where, str(i))) for i, (one, each) in enumerate(zip(value, of, strict=True))
        )
        return next((problem for problem in inside if problem), None)
    if isinstance(shape, dict):
        return _mapping(value, shape, where)
    return None if _is(value, shape) else _told(where, _word(shape), value)


def _mapping(value: object, shape: dict[Any, Any], where: str) -> str | None:
    if not isinstance(value, dict):
        return _told(where, "a mapping", value)
    for name, of in shape.items():
        if name is str:
            inside = (misshapen(one, of, _inside(where, key)) for key, one in value.items())
            problem = next((problem for problem in inside if problem), None)
        elif name.removesuffix("?") in value:
            key = name.removesuffix("?")
            problem = misshapen(value[key], of, _inside(where, key))
        else:
            problem = None if name.endswith("?") else f"{_place(where)} must have `{name}`, got {shown(list(value))}"
        if problem:
            return problem
    return None


def _is(value: object, shape: object) -> bool:
    if shape is None:
        return value is None
    if shape is bool or isinstance(value, bool):
        return isinstance(value, bool) and shape is bool
    if shape is int:
        return isinstance(value, int) and -WHOLE <= value < WHOLE
    if shape is float:
        return math.isfinite(value) if isinstance(value, float) else _is(value, int)
    return isinstance(shape, type) and isinstance(value, shape)


def _word(shape: object) -> str:
    if isinstance(shape, list | dict):
        return "a mapping" if isinstance(shape, dict) else "a list" if len(shape) < 2 else f"a list of {len(shape)}"
    return _WORDS[shape]


def _told(where: str, must: str, value: object) -> str:
    return f"{_place(where)} must be {must}, got {shown(value)}"


def _place(where: str) -> str:
    return f"`{where}`" if where else "it"


def _inside(where: str, name: str) -> str:
    return f"{where}: {name}" if where else name


def _refuse(constant: str) -> Any:
    raise ValueError(f"it says {constant}, which is no JSON")
