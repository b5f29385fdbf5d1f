"""The rows of one seed: what is trained, which of it is wrong, and the test rows, which are the same for all seeds.

A row has `domain`, `level`, `prompt`, `completion` and `right`: 1, or 0 where its answer was made wrong or it repeats
another row. `right` and `level` are for the oracles and the tables; no other arm reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from campus_tune.demo.tasks import generate
from campus_tune.demo.tiny import tiny_tokenizer
from campus_tune.words.types import BoolArray, Json
from eval.planting import answer_of, plant
from eval.situations import real_text

DOMAINS = ("arithmetic", "text", "lists", "calendar")  # code has the longest prompts and is left out
LEVELS = {0: 150, 1: 150, 2: 60}  # level → rows of each domain: what the models know, and some of what they do not
HELD_OUT, HELD_OUT_SEED = 120, 2000  # test rows of each domain, of each level as many as are trained
PROBES, PROBE_SEED = 12, 3000  # probes of each domain and level
FRAMES = ("{}!", "Please: {}", '"{}"', "{} Thank you.", "({})", "Question: {}", "{} ...", "Tell me. {}")  # asked again
DOMAINS_OF_TEXT = ("code", "general", "math", "reasoning")


@dataclass(frozen=True)
class Made:
    """What a run trains and is tested on.

    Args:
        rows: N of them, in the sequence of the file.
        wrong: which of them are wrong, shape (N,).
        tests: rows that decide; all of them right.
        probes: rows that may steer; all of them right.
    """

    rows: list[Json]
    wrong: BoolArray
    tests: list[Json]
    probes: list[Json]


def question(row: Json) -> str:
    """What a row asks."""
    return str(row["prompt"][0]["content"])


def graded(seed: int, *, kind: str = "none", planted: float = 0.0, levels: Mapping[int, int] | None = None,
           domains: Mapping[str, float] | None = None) -> Made:  # fmt: skip
    """Generated tasks of four domains, some of whose answers are wrong.

    Args:
        seed: of the rows and of what is planted.
        kind: none, or one of `eval.planting.KINDS`.
        planted: share of all rows that are made wrong.
        levels: level → rows of each domain; None for `LEVELS`.
        domains: domain → how many times as many rows it has; None for once each.
    """
    levels = LEVELS if levels is None else levels
    times = dict.fromkeys(DOMAINS, 1.0) if domains is None else domains
    share = {level: n / sum(levels.values()) for level, n in levels.items()}
    tests = [
        row
        for domain in times
        for level in levels
        for row in generate(round(share[level] * HELD_OUT), seed=HELD_OUT_SEED, levels=[level], domains=[domain])
    ]
    probes = _others(generate(2 * PROBES, seed=PROBE_SEED, levels=levels, domains=times), tests)
    probes = [row for cell in _cells(probes).values() for row in cell[:PROBES]]
    rows = []
    for domain, factor in times.items():
        for level, n in levels.items():
            wanted = round(factor * n)
            drawn = generate(wanted + HELD_OUT + 2 * PROBES, seed=seed, levels=[level], domains=[domain])
            rows += _others(drawn, [*tests, *probes])[:wanted]
    rng = np.random.default_rng([seed, *kind.encode(), round(1000 * planted)])
    rows = [rows[i] for i in rng.permutation(len(rows))]
    wrong = np.zeros(len(rows), dtype=bool)
    if kind != "none":
        ids = tiny_tokenizer()([answer_of(row) for row in rows])["input_ids"]
        rows, wrong = plant(rows, kind, planted, rng, lengths=np.array([len(one) for one in ids]))
    rows = [{**row, "right": float(not bad)} for row, bad in zip(rows, wrong.tolist(), strict=True)]
    return Made(rows, wrong, tests, probes)


def _others(rows: Any, kept_out: list[Json]) -> list[Json]:
    asked = {question(row) for row in kept_out}
    return [row for row in rows if question(row) not in asked]


def _cells(rows: list[Json]) -> dict[tuple[str, int], list[Json]]:
    found: dict[tuple[str, int], list[Json]] = {}
    for row in rows:
        found.setdefault((row["domain"], row["level"]), []).append(row)
    return found


def repeated(seed: int, *, planted: float, copies: int = 4, levels: Mapping[int, int] | None = None) -> Made:
    """Generated tasks of which a share say again, in other words, what one of a few rows has asked and answered.

    Args:
        seed: of the rows.
        planted: share of all rows that are such copies; as many others are left out, so that N is what it was.
        copies: of each row that is copied, which differ from it and from each other in how they ask, never in the
            answer; half of them in marks alone, which a comparison of words does not see.
        levels: level → rows of each domain; None for `LEVELS`.
    """
    whole = graded(seed, levels=levels)
    rng, n = np.random.default_rng([seed, 8]), round(planted * len(whole.rows))
    kept = rng.permutation(len(whole.rows))[n:]
    originals = kept[: -(-n // copies)]
    found = [whole.rows[i] for i in kept.tolist()]
    for number in range(n):
        row = whole.rows[originals[number // copies]]
        frame = FRAMES[(number // copies + number % copies) % len(FRAMES)]
        asked = [{**row["prompt"][0], "content": frame.format(question(row))}]
        found.append({**row, "prompt": asked, "right": 0.0})
    order = rng.permutation(len(found))
    return Made([found[i] for i in order], np.zeros(len(found), dtype=bool), whole.tests, whole.probes)


def real(seed: int, *, n: int, kind: str = "none", planted: float = 0.0, longest: int = real_text.LONGEST,
         tests: int = 60, probes: int = 32, domains: Mapping[str, float] | None = None) -> Made:  # fmt: skip
    """Short rows of the mix in `shared/data`, some of whose answers are swapped inside of a source and a length.

    Args:
        seed: of the rows and of what is planted.
        n: rows.
        kind: none or swapped.
        planted: share of all rows that are made wrong.
        longest: characters of a row.
        tests: of each domain.
        probes: of each domain.
        domains: share of each domain; None draws as the pool has them, no source more than a third.

    Raises:
        ValueError: another kind.
    """
    if kind not in ("none", "swapped"):
        raise ValueError(f"`kind` must be none or swapped, got {kind!r}. Write one of the two.")
    trained, *held_out = real_text.cut_apart(real_text.of_mix()[0], longest=longest, tests=tests, probes=probes)
    drawn = real_text.draw(trained, n, np.random.default_rng([seed, n]), domains)
    wrong = np.zeros(len(drawn), dtype=bool)
    if kind == "swapped":
        drawn, wrong = real_text.swap(drawn, planted, seed)
    rows = [
        {**row, "right": float(not bad)} for row, bad in zip(real_text.as_pairs(drawn), wrong.tolist(), strict=True)
    ]
    judged, steering = (real_text.as_pairs([row for row in part if row["domain"] in (domains or DOMAINS_OF_TEXT)])
                        for part in held_out)  # fmt: skip
    return Made(rows, wrong, judged, steering)


MAKES: Mapping[str, Callable[..., Made]] = {"graded": graded, "repeated": repeated, "real": real}


def made(rows: Mapping[str, Any], seed: int) -> Made:
    """The rows of a situation with one seed."""
    given = dict(rows)
    return MAKES[given.pop("make")](seed, **given)
