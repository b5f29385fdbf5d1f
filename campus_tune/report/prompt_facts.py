"""What a run that answers prompts has left to be shown: its stages' groups, and the map of its prompts.

Read for runs that are driven by reward; others have none of these lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.method.orders import group_codes
from campus_tune.run.answer_groups import BANDS
from campus_tune.run.prompt_map import CONTRADICTS, EASIEST, EXAMPLES, FILE, HARDEST, PROMPT_REGIONS
from campus_tune.scores.cache import read_columns
from campus_tune.words.errors import DataError, ResumeError
from campus_tune.words.files import read_jsonl
from campus_tune.words.json_shapes import misshapen
from campus_tune.words.types import FloatArray, IntArray, Json

SIDES = (HARDEST, EASIEST, CONTRADICTS)
NEEDED = ("region", "visits", "tries", "pass_rate", "mean_reward", "contradicting", "predicted")
KEPT: dict[Any, Any] = {"row": int, "side": str, "text": str}
BINS = 10  # of a pass rate between none and all


@dataclass(frozen=True)
class GroupsShown:
    """Groups of answers, counted.

    Args:
        n: how many.
        pass_rate: share of their answers that passed; None where none was scored.
        flat: share of the groups without a gradient; None of no groups.
    """

    n: int
    pass_rate: float | None
    flat: float | None

    @staticmethod
    def of(told: Json) -> GroupsShown:
        """From the ledger's words."""
        return GroupsShown(told["groups"], told.get("pass_rate"), told.get("without_gradient"))

    @staticmethod
    def sum(parts: Sequence[GroupsShown]) -> GroupsShown:
        """Several together; each counts as many times as it has groups."""

        def mean(values: Sequence[tuple[int, float | None]]) -> float | None:
            known = [(n, value) for n, value in values if value is not None and n]
            return sum(n * value for n, value in known) / sum(n for n, _ in known) if known else None

        rates, flat = [(part.n, part.pass_rate) for part in parts], [(part.n, part.flat) for part in parts]
        return GroupsShown(sum(part.n for part in parts), mean(rates), mean(flat))


@dataclass(frozen=True)
class PredictionShown:
    """How well pass rates were predicted of prompts that were never tried.

    Args:
        of: `pass_rate`, or `spread`: the chance of a gradient, where rewards have more than two values.
        prompts: tried ones that it was made from.
        worth: tries of its own that count as much; None where it is not said.
        correlation: rank correlation with prompts that were left out; None where there is one rate for all.
        used: features that it goes by.
        gains: what each feature would tell alone, nats a prompt.
    """

    of: str
    prompts: int
    worth: float | None
    correlation: float | None
    used: Sequence[str]
    gains: Mapping[str, float]

    @staticmethod
    def read(told: Json | None) -> PredictionShown | None:
        """From the ledger's words; None where nothing was predicted."""
        if not told:
            return None
        gains = {name: gain for name, gain in told.get("gains", {}).items() if gain is not None}
        known = {name: told.get(name) for name in ("worth", "correlation")}
        return PredictionShown(
            told.get("of", "pass_rate"), told.get("prompts", 0), **known, used=told.get("used", ()), gains=gains
        )


@dataclass(frozen=True)
class StagePrompts:
    """The groups of one stage.

    Args:
        index: of the stage, from 0.
        step: optimizer steps before it.
        end: the step after its last.
        chosen: the sub-curriculum that gave its prompts.
        shown: all groups.
        shuffled: share of groups without a gradient that shuffled prompts would have had; None where not known.
        untried: groups in which no answer was scored.
        reward: mean weighted reward; None where no answer was scored.
        rewards: reward function → mean of its own.
        by_domain: domain → its groups.
        by_band: groups by the pass rate that was expected, from hard to easy.
        tokens: generated in the run so far.
        prediction: made at its end; None where nothing was predicted.
    """

    index: int
    step: int
    end: int
    chosen: str
    shown: GroupsShown
    shuffled: float | None
    untried: int
    reward: float | None
    rewards: Mapping[str, float]
    by_domain: Mapping[str, GroupsShown]
    by_band: Sequence[GroupsShown]
    tokens: int
    prediction: PredictionShown | None

    @property
    def correlation(self) -> float | None:
        """Of predicted pass rates with those of answers, a rank correlation; None where not predicted."""
        return None if self.prediction is None else self.prediction.correlation

    @staticmethod
    def of(decision: Json, end: Json) -> StagePrompts:
        """Those of a stage that has answers."""
        groups = end["groups"]
        means = {name: told["mean"] for name, told in end.get("rewards", {}).items()}
        return StagePrompts(
            index=decision["stage"],
            step=decision["step"],
            end=end["step"],
            chosen=decision["chosen"],
            shown=GroupsShown(groups["n"], end.get("pass_rate"), groups["without_gradient"]),
            shuffled=groups.get("shuffled"),
            untried=groups.get("untried", 0),
            reward=end.get("reward"),
            rewards={name: mean for name, mean in means.items() if mean is not None},
            by_domain={name: GroupsShown.of(told) for name, told in end.get("by_domain", {}).items()},
            by_band=[GroupsShown.of(told) for told in end.get("by_band", [])],
            tokens=end.get("generated_tokens", 0),
            prediction=PredictionShown.read(end.get("prediction")),
        )


@dataclass(frozen=True)
class PromptShown:
    """A prompt for a person to look at.

    Args:
        row: its number in the training set.
        domain: "" without domains.
        text: cut; "" where it is not known.
        visits: groups that were generated for it.
        tries: answers that were scored.
        pass_rate: share of them that passed; None without one.
        reward: their mean; None without one.
        contradicting: groups in which the same answer earned different rewards.
    """

    row: int
    domain: str
    text: str
    visits: int
    tries: int
    pass_rate: float | None
    reward: float | None
    contradicting: int

    @staticmethod
    def of(line: Json, columns: Mapping[str, NDArray[Any]]) -> PromptShown:
        """One of the run's list, with what the map says of it."""
        row = line["row"]
        rate, reward = (float(columns[name][row]) for name in ("pass_rate", "mean_reward"))
        return PromptShown(
            row=row,
            domain=str(columns["domain"][row]) if "domain" in columns else "",
            text=line["text"],
            **{name: int(columns[name][row]) for name in ("visits", "tries", "contradicting")},
            pass_rate=rate if np.isfinite(rate) else None,
            reward=reward if np.isfinite(reward) else None,
        )


@dataclass(frozen=True, eq=False)
class PromptMapFacts:
    """The map of the prompts.

    Args:
        sentence: of it.
        n_rows: prompts of the training set.
        regions: region → prompts, in the page's sequence.
        by_domain: domain → region → prompts; {} without domains.
        drawn: region → prompts in each bin of the pass rate, shape (BINS + 2,): none passed, tenths, all passed.
        undrawn: prompts never drawn in each bin of the predicted pass rate, shape (BINS + 2,); None where nothing was
            predicted.
        sides: side → prompts to look at.
    """

    sentence: str
    n_rows: int
    regions: Mapping[str, int]
    by_domain: Mapping[str, Mapping[str, int]]
    drawn: Mapping[str, IntArray]
    undrawn: IntArray | None
    sides: Mapping[str, tuple[PromptShown, ...]]


@dataclass(frozen=True)
class PromptFacts:
    """What the answers of a run have shown.

    Args:
        stages: that have answers, in their sequence.
        never_drawn: prompts that no generation had; None before the run's end.
        map: of the prompts; None before the run's end.
    """

    stages: tuple[StagePrompts, ...]
    never_drawn: int | None
    map: PromptMapFacts | None

    @property
    def total(self) -> GroupsShown:
        """All groups of the run."""
        return GroupsShown.sum([stage.shown for stage in self.stages])

    @property
    def shuffled(self) -> float | None:
        """Share of all groups without a gradient that shuffled prompts would have had, where that is known."""
        told = [(stage.shown.n, stage.shuffled) for stage in self.stages if stage.shuffled is not None]
        return sum(n * share for n, share in told) / max(1, sum(n for n, _ in told)) if told else None

    @property
    def prediction(self) -> PredictionShown | None:
        """The newest one."""
        return next((stage.prediction for stage in reversed(self.stages) if stage.prediction is not None), None)

    def over(self, name: str) -> GroupsShown:
        """The groups of a domain over the whole run."""
        return GroupsShown.sum([stage.by_domain[name] for stage in self.stages if name in stage.by_domain])

    def bands(self) -> list[GroupsShown]:
        """The groups of each band over the whole run; [] where nothing was ever expected."""
        told = [stage.by_band for stage in self.stages if len(stage.by_band) == BANDS]
        found = [GroupsShown.sum([bands[place] for bands in told]) for place in range(BANDS)]
        return found if any(band.n for band in found) else []

    @property
    def domains(self) -> list[str]:
        """Names of those that had groups."""
        return list(dict.fromkeys(name for stage in self.stages for name in stage.by_domain))


def read_prompts(
    home: Path, decisions: Sequence[Json], ends: Mapping[int, Json], maps: Sequence[Json]
) -> PromptFacts | None:
    """What a run's folder and its ledger say of its prompts; None of a run without any.

    Args:
        home: folder of the ledger.
        decisions: its lines of decisions.
        ends: stage → the line of its end.
        maps: its lines of a map of prompts; the last one counts.

    Raises:
        DataError: the map or the list of examples is damaged.
    """
    told = [(decision, ends[decision["stage"]]) for decision in decisions if decision["stage"] in ends]
    stages = tuple(StagePrompts.of(decision, end) for decision, end in told if "groups" in end)
    if not stages and not maps:
        return None
    said = maps[-1] if maps else {}
    there = bool(said) and (home / FILE).exists()
    return PromptFacts(stages, said.get("never_drawn"), read_prompt_map(home, said) if there else None)


def read_prompt_map(home: Path, said: Json) -> PromptMapFacts:
    """The map of a run's prompts.

    Args:
        home: folder of the ledger.
        said: its line of the map.

    Raises:
        DataError: the map or the list of examples is damaged.
    """
    path = home / FILE
    try:
        columns = read_columns(path)[0]
        lacking = [name for name in NEEDED if name not in columns]
        if lacking:
            raise ValueError(f"no column `{lacking[0]}`")
    except (ResumeError, ValueError) as error:
        raise DataError(
            f"`{path}` must be the map of prompts that the run left, got {error.__cause__ or error}. Put it back from "
            "a copy, or remove it to see the rest of the run."
        ) from error
    found, codes = group_codes(columns["region"])
    counts = np.bincount(codes, minlength=len(found))
    names = [
        *(name for name in PROMPT_REGIONS if name in found),
        *(name for name in found if name not in PROMPT_REGIONS),
    ]
    domains, of_domain = group_codes(columns["domain"]) if "domain" in columns else ([], np.zeros(len(codes), np.int64))
    table = np.bincount(of_domain * len(found) + codes, minlength=len(domains) * len(found))
    rows = dict(zip(domains, table.reshape(-1, len(found)).tolist(), strict=False))
    drawn, rates = columns["visits"] > 0, columns["pass_rate"].astype(np.float64)
    predicted = columns["predicted"].astype(np.float64)[~drawn]
    return PromptMapFacts(
        sentence=said["sentence"],
        n_rows=len(codes),
        regions={name: int(counts[found.index(name)]) for name in names},
        by_domain={
            domain: {name: rows[domain][found.index(name)] for name in names}
            for domain in sorted(domains, key=lambda domain: -sum(rows[domain]))  # the largest first
        },
        drawn={name: _bins(rates[(codes == found.index(name)) & drawn]) for name in names},
        undrawn=_bins(predicted) if np.isfinite(predicted).any() else None,
        sides=read_sides(home / EXAMPLES, columns),
    )


def _bins(rates: FloatArray) -> IntArray:
    """Prompts in each bin: none passed, a tenth each, all passed.

    >>> _bins(np.array([0.0, 0.05, 0.1, 0.95, 1.0, np.nan])).tolist()
    [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1]
    """
    known = rates[np.isfinite(rates)]
    places = 1 + np.clip(np.floor(known * BINS).astype(np.int64), 0, BINS - 1)
    places = np.where(known <= 0, 0, np.where(known >= 1, BINS + 1, places))
    return np.bincount(places, minlength=BINS + 2)


def read_sides(path: Path, columns: Mapping[str, NDArray[Any]]) -> dict[str, tuple[PromptShown, ...]]:
    """Side → the prompts that the run has kept to be looked at; {} where it kept none.

    Args:
        path: of their list.
        columns: of the map.

    Raises:
        DataError: it is damaged, or of another map.
    """
    if not path.exists() or not path.stat().st_size:
        return {}
    n_rows = len(columns["region"])
    found: dict[str, list[PromptShown]] = {side: [] for side in SIDES}
    for number, line in enumerate(read_jsonl(path), 1):
        problem = misshapen(line, KEPT)
        if problem is None and not 0 <= line["row"] < n_rows:
            problem = f"row {line['row']} of {n_rows}"
        if problem is not None:
            raise DataError(
                f"`{path}` line {number} must be a prompt of the run's map, got something else ({problem}). Put the "
                "run's own list back, or remove it to see the rest of the run."
            )
        found.setdefault(line["side"], []).append(PromptShown.of(line, columns))
    return {side: tuple(prompts) for side, prompts in found.items() if prompts}
