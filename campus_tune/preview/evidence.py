"""What helps when: a row for each situation that was tried, with what was judged in it. Measured, and read from a file.

`evidence.json` is written by `python -m eval.situations evidence`, from runs whose command and seeds are in
`eval/LOG.md`. All that this package claims about what helps is in it: the guide's table (`whole_table`), the README's
(`short_table`) and the advice that `check` and a run give (`earned_advice`). An effect is the change of the held-out
loss beside plain shuffling at as many steps, as a share of shuffling's: −0.1 is a tenth lower. Where a situation is
judged by the domain whose loss is worst, it is the change of that loss, and what happened on average (`mean`) is told
beside it.

>>> arm = {"words": "dropping suspects", "campus": {}, "effect": -0.1, "low": -0.14, "high": -0.06, "seeds": 8}
>>> row = {"name": "dirty", "base": "tiny", "kind": "wrong", "looks": "dirty", "share": 0.3, "epochs": 2, "domains": 4}
>>> table = as_table({"version": 1, "log": "Where it pays", "bases": {"tiny": "a tiny model"}, "situations": [
...     {**row, "rows": 1440, "helps": "drop", "arms": {"drop": {**arm, "verdict": "helped"}}}]})
>>> print(effect_words(table.rows[0].arms["drop"]))
10 % lower (6.0 to 14 %; 8 seeds)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from campus_tune.words.errors import DataError
from campus_tune.words.json_shapes import misshapen, read_json
from campus_tune.words.types import Json

PATH = Path(__file__).with_name("evidence.json")
VERSION = 1
HELPED, HURT = "helped", "hurt"
VERDICTS = (HELPED, HURT, "no detectable difference", "underpowered")
# What a situation is made of. The first seven can be seen in a run or its rows; of the others nothing tells.
SEEN_KINDS = ("clean", "wrong", "duplicates", "two answers", "lagging", "phases", "small")
KINDS = (*SEEN_KINDS, "cut off", "template", "mixed")
SHAPE: dict[Any, Any] = {
    "version": int,
    "log": str,
    "bases": {str: str},
    "situations": [
        {
            "name": str,
            "base": str,
            "kind": str,
            "looks": str,
            "share": (float, None),
            "epochs": float,
            "domains": int,
            "rows": int,
            "helps": (str, None),
            "arms": {
                str: {
                    "words": str,
                    "campus": {str: object},
                    "effect": (float, None),
                    "low": (float, None),
                    "high": (float, None),
                    "seeds": int,
                    "verdict": (str, None),
                    "beats_controls?": (bool, None),
                    "mean?": (float, None),
                }
            },
        }
    ],
}


@dataclass(frozen=True)
class JudgedArm:
    """One recipe in one situation, beside plain shuffling.

    Args:
        words: what it does, as the end of "what helps: …", such as `dropping suspects`.
        campus: its block.
        effect: change of the held-out loss, a share of shuffling's; None where nothing was measured.
        low: lower end of its interval; None without one.
        high: upper end.
        seeds: that judged it.
        verdict: one of the four words, corrected for the whole table; None where there is none.
        beats_controls: it ended lower than each of its controls; None where none was run.
        mean: where the effect is of the worst domain's loss, the same of the loss of all rows; None of others.
    """

    words: str
    campus: Json
    effect: float | None
    low: float | None
    high: float | None
    seeds: int
    verdict: str | None
    beats_controls: bool | None = None
    mean: float | None = None

    @property
    def claims(self) -> bool:
        """It helped, and no control of it did as well."""
        return self.verdict == HELPED and self.beats_controls is not False


@dataclass(frozen=True)
class EvidenceRow:
    """One situation, and what was judged in it.

    Args:
        name: of the situation, as `eval/situations` and the LOG call it.
        base: the model that was trained, a name of the table's `bases`.
        kind: what it is made of, one of `KINDS`.
        looks: what it looks like, in words.
        share: of the rows that are so, where that is what was planted; None else.
        epochs: that were trained.
        domains: of the rows.
        rows: of the training set.
        helps: the arm that is claimed to help, one whose verdict is `helped`; None where none is.
        arms: by name.
    """

    name: str
    base: str
    kind: str
    looks: str
    share: float | None
    epochs: float
    domains: int
    rows: int
    helps: str | None
    arms: Mapping[str, JudgedArm]


@dataclass(frozen=True)
class EvidenceTable:
    """All situations that were judged.

    Args:
        log: heading of the entry of `eval/LOG.md` that has commands, seeds and losses.
        bases: name of a base → what it is, in words.
        rows: a situation each.
    """

    log: str
    bases: Mapping[str, str]
    rows: tuple[EvidenceRow, ...]


@cache
def evidence() -> EvidenceTable:
    """The table that this version was released with."""
    return read_evidence(PATH)


def read_evidence(path: Path) -> EvidenceTable:
    """A table from its file.

    Args:
        path: of the JSON.

    Raises:
        DataError: it is missing or damaged, or claims what was not judged so.
    """
    try:
        return as_table(read_json(path))
    except (OSError, ValueError) as error:
        raise DataError(
            f"`{path}` must be the table of what was measured, got {error}. Install campus_tune again, or write it: "
            "python -m eval.situations evidence."
        ) from error


def as_table(said: Json) -> EvidenceTable:
    """The table that a JSON says.

    Args:
        said: as the file has it.

    Raises:
        ValueError: it has another shape, or claims what was not judged so; the words say what is wrong.
    """
    problem = misshapen(said, SHAPE)
    if problem is None and said["version"] != VERSION:
        problem = f"`version` must be {VERSION}, got {said['version']}"
    rows = said["situations"] if problem is None else []
    problem = problem or next(filter(None, (_wrong_in(row, said["bases"]) for row in rows)), None)
    names = [row["name"] for row in rows]
    if problem is None and len(set(names)) < len(names):
        problem = f"`situations` must have different names, got {names}"
    if problem is not None:
        raise ValueError(problem)
    return EvidenceTable(
        said["log"],
        said["bases"],
        tuple(EvidenceRow(**{**_known(row, EvidenceRow), "arms": _arms(row["arms"])}) for row in rows),
    )


def _arms(said: Mapping[str, Json]) -> dict[str, JudgedArm]:
    return {name: JudgedArm(**_known(arm, JudgedArm)) for name, arm in said.items()}


def _known(said: Json, kind: type) -> Json:
    """What a class takes of a mapping; a later version may say more."""
    return {name: said[name] for name in kind.__annotations__ if name in said}


def _wrong_in(row: Json, bases: Mapping[str, str]) -> str | None:
    """What is wrong in one situation; None where all is well."""
    name, helps, arms = row["name"], row["helps"], row["arms"]
    if row["base"] not in bases:
        return f"`{name}: base` must be one of {', '.join(bases)}, got {row['base']!r}"
    if row["kind"] not in KINDS:
        return f"`{name}: kind` must be one of {', '.join(KINDS)}, got {row['kind']!r}"
    for arm, judged in arms.items():
        if judged["verdict"] not in (*VERDICTS, None):
            return f"`{name}: {arm}: verdict` must be one of {', '.join(VERDICTS)} or null, got {judged['verdict']!r}"
        if judged["verdict"] in (HELPED, HURT) and None in (judged["effect"], judged["low"], judged["high"]):
            return f"`{name}: {arm}` must have effect, low and high to have {judged['verdict']}, got null"
    judged = arms.get(helps, {})
    if helps is not None and (judged.get("verdict") != HELPED or judged.get("beats_controls") is False):
        return f"`{name}: helps` must be an arm that has helped, more than its controls, got {helps!r}"
    return None


# -- in words ------------------------------------------------------------------------------------------------------


def percent(share: float) -> str:
    """A share in per cent, without its sign.

    >>> percent(0.0912), percent(-0.131), percent(0.0004)
    ('9.1 %', '13 %', '0.0 %')
    """
    number = abs(share) * 100
    return f"{number:.1f} %" if number < 9.95 else f"{number:.0f} %"


def effect_words(arm: JudgedArm) -> str:
    """How far an arm ended from shuffling, with its interval.

    Args:
        arm: judged.
    """
    seeds = f"{arm.seeds} seed{'' if arm.seeds == 1 else 's'}"
    if arm.effect is None:
        return f"not measured ({seeds})"
    whose, and_mean = ("", "") if arm.mean is None else ("the worst domain ", f", the mean {_beside(arm.mean)}")
    if arm.low is None or arm.high is None:
        span = "no interval"
    else:
        near, far = (arm.high, arm.low) if arm.effect < 0 else (arm.low, arm.high)
        span = f"{percent(near).removesuffix(' %')} to {percent(far)}"
        if near * far < 0:  # the interval has both sides of shuffling
            span = f"−{percent(arm.low)} to +{percent(arm.high)}"
    return f"{whose}{_beside(arm.effect)} ({span}; {seeds}){and_mean}"


def _beside(effect: float) -> str:
    """An effect without its sign.

    >>> _beside(-0.1), _beside(0.003)
    ('10 % lower', '0.3 % higher')
    """
    return f"{percent(effect)} {'lower' if effect < 0 else 'higher'}"


def best_of(row: EvidenceRow) -> tuple[str, JudgedArm] | None:
    """The arm that a row shows: the one that helps, else the one that ended lowest; None where none was measured.

    Args:
        row: a situation.
    """
    if row.helps is not None:
        return row.helps, row.arms[row.helps]
    measured = [(arm.effect, name) for name, arm in row.arms.items() if arm.effect is not None]
    name = min(measured)[1] if measured else None
    return None if name is None else (name, row.arms[name])


def whole_table(table: EvidenceTable) -> str:
    """The table of what helps when, as Markdown: a line a situation.

    Args:
        table: that is shown.
    """
    lines = [
        "| situation | it looks like | what helps | held-out loss beside shuffling | verdict |",
        "|---|---|---|---|---|",
    ]
    for row in table.rows:
        best = best_of(row)
        helps = row.arms[row.helps].words if row.helps is not None else "nothing that was tried"
        shown, verdict = ("not measured", "none")
        if best is not None:
            of = "" if row.helps is not None else f"{best[1].words}: "
            shown, verdict = f"{of}{effect_words(best[1])}", best[1].verdict or "none"
        lines.append(f"| `{row.name}` | {row.looks} | {helps} | {shown} | {verdict} |")
    return "\n".join(lines)


def short_table(table: EvidenceTable) -> str:
    """The situations in which something helped, as Markdown, and how many there are in which nothing did.

    Args:
        table: that is shown.
    """
    lines = ["| the rows | what helps | held-out loss beside shuffling |", "|---|---|---|"]
    for row in table.rows:
        if row.helps is not None:
            arm = row.arms[row.helps]
            lines.append(f"| {row.looks} | {arm.words} | {effect_words(arm)} |")
    without = sum(row.helps is None for row in table.rows)
    return "\n".join([*lines, "", f"In {without} other situations nothing that was tried helped for sure."])
