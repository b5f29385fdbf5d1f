"""What leaving a domain out did to each domain: a matrix of tested differences, and a word for each cell.

    Δ[d, e] = loss of test domain e without the rows of d  −  loss of e with all rows

in nats per answer token, paired over seeds and test rows, with the two-way bootstrap of a comparison. All cells of a
matrix are one family: Holm's correction lets any of them be called by chance in at most 5 of 100 ablations.

    needed                    Δ > 0 is significant: without d, e is learnt worse
    harmful                   Δ < 0 is significant: without d, e is learnt better
    no detectable difference  neither, and an effect worth finding would have been found (in 80 of 100 cases)
    underpowered              neither, and it could have been missed

The same of runs of one domain alone, against all rows:

    not enough                Δ > 0 is significant: from d alone, e is learnt worse
    better alone              Δ < 0 is significant: from d alone, e is learnt better
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np

from campus_tune.compare.verdict.bootstrap import RESAMPLES, VarianceParts
from campus_tune.compare.verdict.difference import HURT, NO_DIFFERENCE, UNDERPOWERED, Difference, corrected, decide
from campus_tune.compare.verdict.inputs import ArmResults
from campus_tune.compare.verdict.judgement import FEWEST_IN_DOMAIN
from campus_tune.compare.verdict.misfits import TOKENS_TOLERANCE, misfits, misfits_of, same_items
from campus_tune.compare.verdict.pair import Pair
from campus_tune.evaluate.paired import LEVEL
from campus_tune.words.types import BoolArray, Json

AblationPart: TypeAlias = Literal["without", "only"]
Place: TypeAlias = tuple[str, str]  # of a cell: the domain that was left out or alone, and the test domain

NEEDED, HARMFUL, NOT_ENOUGH, BETTER_ALONE = "needed", "harmful", "not enough", "better alone"
PARTS: Mapping[str, tuple[str, str]] = {"without": (NEEDED, HARMFUL), "only": (NOT_ENOUGH, BETTER_ALONE)}  # Δ > 0, < 0
ABLATION_WORDS = (NEEDED, HARMFUL, NOT_ENOUGH, BETTER_ALONE, NO_DIFFERENCE, UNDERPOWERED)
ALL = ""  # in the place of a test domain: all of them
_OF_ROWS = ("data", "steps", "learning_rates")  # what runs of other rows do not share


@dataclass(frozen=True)
class Effect:
    """One cell: what became of one test domain, or of all.

    Args:
        difference: to the runs of all rows.
        verdict: one of the words; None where there is none.
    """

    difference: Difference
    verdict: str | None

    def to_mapping(self) -> Json:
        """The same as strict JSON takes it."""
        return {"verdict": self.verdict, **self.difference.to_mapping()}

    @staticmethod
    def from_mapping(given: Json) -> Effect:
        """What `to_mapping` wrote."""
        return Effect(Difference.from_mapping(given), given["verdict"])


@dataclass(frozen=True)
class Ablation:
    """The matrix of one kind of runs.

    Args:
        part: what was trained: all rows `without` a domain, or those of one `only`.
        cells: domain → test domain → effect; domains whose runs are not there are left out.
        overall: domain → effect on all test rows; a family of its own.
        refused: domain → why there is no word on any of its cells.
    """

    part: AblationPart
    cells: Mapping[str, Mapping[str, Effect]]
    overall: Mapping[str, Effect]
    refused: Mapping[str, str] = field(default_factory=dict)

    def to_mapping(self) -> Json:
        """The same as strict JSON takes it."""
        return {
            "cells": {d: {e: one.to_mapping() for e, one in row.items()} for d, row in self.cells.items()},
            "overall": {d: one.to_mapping() for d, one in self.overall.items()},
            "refused": dict(self.refused),
        }

    @staticmethod
    def from_mapping(part: AblationPart, given: Json) -> Ablation:
        """What `to_mapping` wrote of a part."""
        cells = {d: {e: Effect.from_mapping(one) for e, one in row.items()} for d, row in given["cells"].items()}
        overall = {d: Effect.from_mapping(one) for d, one in given["overall"].items()}
        return Ablation(part, cells, overall, given["refused"])


def judge_ablation(
    full: ArmResults,
    parts: Mapping[str, ArmResults],
    *,
    part: AblationPart = "without",
    effect: float,
    fewer: bool = False,
    tokens_tolerance: float = TOKENS_TOLERANCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Ablation:
    """What the runs of some of the rows say, against those of all.

    Args:
        full: runs of all rows.
        parts: domain → runs without it, or of it alone.
        part: which of the two.
        effect: the smallest effect worth finding, as a share of the loss with all rows, > 0.
        fewer: runs of fewer rows trained fewer tokens, as was asked for.
        tokens_tolerance: else, by which share their tokens may differ.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    pairs = {name: _pair(arm, full, fewer=fewer, tolerance=tokens_tolerance) for name, arm in parts.items()}
    chosen: dict[Place, BoolArray] = {}  # the test rows of each cell
    known: dict[Place, Difference] = {}
    for name, pair in pairs.items():
        by_test = {test: pair.mine.domain == i for i, test in enumerate(pair.mine.domains)}
        for test, items in {**by_test, ALL: np.ones(pair.mine.n_items, dtype=np.bool_)}.items():
            bare = pair.bare(items) if same_items(pair.mine, pair.theirs) else None
            if bare is not None:
                chosen[name, test], known[name, test] = items, bare
    large = [
        place for place, items in chosen.items() if not pairs[place[0]].reasons and items.sum() >= FEWEST_IN_DOMAIN
    ]
    for family in ([place for place in large if place[1] != ALL], [place for place in large if place[1] == ALL]):
        spreads: dict[Place, VarianceParts] = {}
        for name, pair in pairs.items():  # one bootstrap for all cells of a row
            row = [place for place in family if place[0] == name]
            values, items_of = [known[place] for place in row], [chosen[place] for place in row]
            if row:
                sure, of_row = pair.sure(values, items_of, len(family), resamples=resamples, seed=seed)
                known |= zip(row, sure, strict=True)
                spreads |= zip(row, of_row, strict=True)
        together = corrected([known[place] for place in family], [spreads[place] for place in family])
        known |= zip(family, together, strict=True)
    effects = {place: Effect(one, _word(one, part, effect)) for place, one in known.items()}
    return Ablation(
        part,
        {d: {e: one for (of, e), one in effects.items() if of == d and e != ALL} for d in pairs},
        {d: one for (d, e), one in effects.items() if e == ALL},
        {d: "; ".join(pair.reasons) for d, pair in pairs.items() if pair.reasons},
    )


def _pair(arm: ArmResults, full: ArmResults, *, fewer: bool, tolerance: float) -> Pair:
    """Two arms that share all but their rows, and what follows from those."""
    one, all_rows = (
        replace(each, shared=tuple({k: v for k, v in run.items() if k not in _OF_ROWS} for run in each.shared))
        for each in (arm, full)
    )
    if fewer:
        one = replace(one, trained=one.trained[:0])
    steps = [run["steps"] for run in full.shared if run.get("steps")]
    tolerance = max([tolerance, *(2 / n for n in steps)])  # runs end with a whole step, of rows that luck has drawn
    reasons = [*misfits(one, all_rows, tokens_tolerance=tolerance), *misfits_of(arm.end, full.end)]
    return Pair(arm, full, arm.end, full.end, tuple(reasons))


def _word(found: Difference, part: AblationPart, effect: float) -> str | None:
    """The word of a cell; None where nothing is known of chance."""
    if found.p_adjusted is None:
        return None
    word = decide(found, effect * abs(found.mean_against or 0.0))
    if word in (NO_DIFFERENCE, UNDERPOWERED):
        return word
    more, less = PARTS[part]
    return more if word == HURT else less


def times_its_error(seeds: int, cells: int) -> float:
    """By how many standard errors of its seeds the first of some cells must differ to be told from chance.

    >>> round(times_its_error(3, 25), 1), round(times_its_error(5, 25), 1)
    (22.3, 7.2)

    Args:
        seeds: at least 2.
        cells: that are looked at together.
    """
    from scipy.special import stdtrit  # type: ignore[import-untyped]  # scipy ships no types

    return float(stdtrit(seeds - 1, 1 - LEVEL / cells / 2))


def graph_of(matrices: Sequence[Ablation], domains: Collection[str]) -> dict[str, dict[str, float]]:
    """How much each domain helps each, for `reweight: skill_graph`: the detected cells of `without`, largest size 1.

    >>> cell = Effect(Difference("without_math", "full", 0.2, relative=0.1), NEEDED)
    >>> graph_of([Ablation("without", {"math": {"code": cell}}, {})], ["math", "code"])
    {'math': {'code': 1.0}}

    Args:
        matrices: of an ablation.
        domains: of the training rows; others have no share to be moved.
    """
    cells = {
        (d, e): one.difference.relative or 0.0
        for matrix in matrices
        if matrix.part == "without"
        for d, row in matrix.cells.items()
        for e, one in row.items()
        if one.verdict in (NEEDED, HARMFUL) and e in domains
    }
    largest = max(map(abs, cells.values()), default=0.0) or 1.0
    graph: dict[str, dict[str, float]] = {}
    for (d, e), size in cells.items():
        graph.setdefault(d, {})[e] = round(size / largest, 4)
    return graph
