"""One situation: a YAML file beside this module.

    about: a sentence for a reader
    use: judge              claims rest on these alone; `tune`: defaults and thresholds were chosen by looking at it
    base: tasks             the model, and how it is trained (`bases`)
    rows: {make: graded, kind: swapped, planted: 0.3}      what `rows.MAKES` takes
    epochs: 2               of all rows; every arm of a seed trains as many steps
    points: 8               of the curve on the test rows
    judged_by: mean         or worst_domain
    arms: [random, auto, oracle]
    seeds: 100-107

>>> read_situation("clean_1").seeds[:2]
(100, 101)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
USES = ("tune", "judge")
JUDGED_BY = ("mean", "worst_domain")


@dataclass(frozen=True)
class Situation:
    """What is trained, from which model, and what is compared.

    Args:
        name: of the file.
        about: a sentence.
        use: tune or judge.
        base: one of `bases.BASES`.
        epochs: of all rows.
        arms: names in `arms`, the baseline `random` first.
        seeds: of the rows and of the runs.
        rows: `make` and what it takes.
        points: of the curve besides the first.
        judged_by: the mean over all test rows, or the domain whose loss is worst.
        training: settings of the trainer beside those of the base.
    """

    name: str
    about: str
    use: str
    base: str
    epochs: float
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    rows: Mapping[str, Any] = field(default_factory=dict)
    points: int = 4
    judged_by: str = "mean"
    training: Mapping[str, Any] = field(default_factory=dict)


def names() -> list[str]:
    """All situations that have a file."""
    return sorted(path.stem for path in HERE.glob("*.yaml"))


def read_situation(name: str) -> Situation:
    """The situation of a name.

    Raises:
        SystemExit: there is no such file, or it is not one of a situation.
    """
    path = HERE / f"{name}.yaml"
    if not path.is_file():
        raise SystemExit(f"`{name}` must be a situation, got another name. Write one of {', '.join(names())}.")
    given = yaml.safe_load(path.read_text())
    known = {one.name: one for one in fields(Situation) if one.name != "name"}
    needed = {key for key, one in known.items() if one.default is MISSING and one.default_factory is MISSING}
    problems = [f"unknown key {key!r}" for key in given if key not in known]
    problems += [f"{key!r} is missing" for key in sorted(needed - given.keys())]
    problems += [
        f"`{key}` must be one of {', '.join(words)}, got {given[key]!r}"
        for key, words in (("use", USES), ("judged_by", JUDGED_BY))
        if key in given and given[key] not in words
    ]
    if not problems and (not given["arms"] or given["arms"][0] != "random"):
        problems.append(f"`arms` must begin with random, got {given['arms']}")
    if problems:
        raise SystemExit(f"{path.name}: {'; '.join(problems)}. Correct the file.")
    return Situation(name=name, **{**given, "arms": tuple(given["arms"]), "seeds": seeds_of(given["seeds"])})


def seeds_of(text: str | int | Sequence[int]) -> tuple[int, ...]:
    """`100-107`, `0,3,7`, a number or a list of numbers.

    >>> seeds_of("0-2,7"), seeds_of(3), seeds_of([1, 4])
    ((0, 1, 2, 7), (3,), (1, 4))
    """
    if not isinstance(text, str):
        return (text,) if isinstance(text, int) else tuple(text)
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)
