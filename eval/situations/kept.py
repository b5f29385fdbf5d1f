"""What a folder of runs says of every situation: results read, judged, and corrected over the whole table."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from campus_tune.compare.verdict import EFFECT
from campus_tune.compare.verdict.bootstrap import RESAMPLES
from campus_tune.words.types import Json
from eval.situations.evidence import KINDS
from eval.situations.judged import BASELINE, Found, corrected_table, judge_arms
from eval.situations.situation import Situation, names, read_situation
from eval.situations.transfer import BASES, plain_name

RESULT, ROWS = "result.json", "rows.npz"  # as `runs` writes them


def found_in(
    keep: Path, situations: Sequence[str] | None = None, *, effect: float = EFFECT, resamples: int = RESAMPLES
) -> list[Found]:
    """Every situation of which runs of plain shuffling and of another arm are kept, the cheapest base first.

    Args:
        keep: the folder.
        situations: names; None for all that have a file. The correction is over these.
        effect: the smallest worth finding, a share of plain shuffling's loss.
        resamples: of each bootstrap.
    """
    found = []
    for name in situations or names():
        situation = read_situation(name)
        results = results_of(keep, situation)
        if len(results.get(BASELINE, [])) > 1 and len(results) > 1:
            found.append(_judged(keep, situation, results, resamples))
    return corrected_table(sorted(found, key=_place), effect=effect)


def _place(found: Found) -> tuple[int, int, list[str | int]]:
    """The cheapest base first; inside of it clean rows first, and what is more after what is less."""
    base = BASES.index(found.base) if found.base in BASES else len(BASES)
    kind = next((i for i, begins in enumerate(KINDS) if plain_name(found).startswith(begins)), len(KINDS))
    return base, kind, [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", found.name)]


def results_of(keep: Path, situation: Situation) -> dict[str, list[Json]]:
    """The kept results of a situation's own seeds, arm by arm: its own arms first, in their sequence."""
    there = sorted(path.name for path in (keep / situation.name).glob("*") if path.is_dir())
    arms = [*(arm for arm in situation.arms if arm in there), *(arm for arm in there if arm not in situation.arms)]
    found: dict[str, list[Json]] = {}
    for arm in arms:
        paths = [keep / situation.name / arm / f"seed-{seed}" / RESULT for seed in situation.seeds]
        read = [json.loads(path.read_text("utf-8")) for path in paths if path.is_file()]
        if read:
            found[arm] = read
    return found


def _judged(keep: Path, situation: Situation, results: dict[str, list[Json]], resamples: int) -> Found:
    plain = results[BASELINE]
    test = plain[0]["test"]
    losses = [sum(one["test"]["loss"]) / sum(one["test"]["tokens"]) for one in plain]
    return Found(
        situation.name,
        situation.about,
        situation.base,
        situation.use,
        looks_of(keep, situation, plain[0]),
        len(test["items"]),
        tuple(one["seed"] for one in plain),
        float(np.mean(losses)),
        judge_arms(results, judged_by=situation.judged_by, resamples=resamples),
        situation.judged_by,
    )


def looks_of(keep: Path, situation: Situation, result: Json) -> Json:
    """What the rows of a situation are: how many, of how many domains, and how many of them are wrong."""
    looks: dict[str, Any] = {"epochs": float(situation.epochs), "wrong": float(result.get("planted") or 0.0)}
    looks["share"] = situation.rows.get("planted")
    path = keep / situation.name / BASELINE / f"seed-{result['seed']}" / ROWS
    if path.is_file():
        with np.load(path) as kept:
            looks |= {"rows": len(kept["wrong"]), "domains": len(np.unique(kept["domain"]))}
    return looks
