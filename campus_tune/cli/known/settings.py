"""Every setting of the blocks of a YAML, by its full name: what it is for, what it may be, its default, an example.

All of it is read from the annotations and docstrings that refuse a wrong value too. The examples are whole blocks; that
each is one which a run would take, and that every setting stands in one, a test holds.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from campus_tune.cli.known.docstrings import card
from campus_tune.cli.known.entry import KnownName, NameRow
from campus_tune.compare.search import SearchSettings
from campus_tune.compare.settings import CompareSettings
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.reader import CheckedSettings, block_of, rows
from campus_tune.words.annotated import required
from campus_tune.words.strict_yaml import read_value

BLOCKS: Mapping[str, type[CheckedSettings]] = {
    "campus": CampusConfig,
    "compare": CompareSettings,
    "search": SearchSettings,
}
# The page of the guide where a setting is told with others like it; of nested ones that of the nearest above.
PAGES: Mapping[str, str] = {
    "campus": "choosing",
    "campus.metrics": "parts",
    "campus.pacing": "parts",
    "campus.selector": "parts",
    "campus.within": "data",
    "campus.probes": "data",
    "campus.level": "data",
    "campus.cells": "data",
    "campus.budget": "cost",
    "campus.rescore": "cost",
    "campus.scores": "cost",
    "campus.batching": "cost",
    "campus.drop": "wrong",
    "campus.weights": "wrong",
    "campus.value": "wrong",
    "campus.passes": "prompts",
    "campus.control": "helps",
    "campus.evaluate": "helps",
    "campus.resume": "resume",
    "campus.seed": "resume",
    "compare": "helps",
    "search": "choosing",
}
_REFUSED = ("compare.evaluate.every",)  # of a block that is used twice: a comparison looks once, at the end
EXAMPLES = (  # of a setting the shortest in which it stands is shown
    "campus: {metrics: [length, loss]}",
    "campus: {metrics: [length], pacing: {name: linear, start: 0.1}}",
    "campus: {metrics: [length, loss], selector: round_robin}",
    "campus: {metrics: [length], stages: 8}",
    "campus: {metrics: [length], window: slice}",
    "campus: {metrics: [length], coverage: revisit, window: slice}",
    "campus: {metrics: [length], mix: 0.3}",
    "campus: {metrics: [length], handover: 0.8}",
    "campus: {metrics: [loss], budget: 0.1}",
    "campus: {metrics: [length], within: source}",
    "campus: {metrics: [loss], rescore: 2}",
    "campus: {probes: {path: ./probes.jsonl}}",
    "campus: {probes: {path: [math.jsonl, code.jsonl], domain_column: source, max_rows: 100}}",
    "campus: {evaluate: {suite: smoke, every: 5 stages}}",
    "campus: {evaluate: {suite: campus, tasks: [gsm8k], data: ./sets, limit: 50}}",
    "campus: {evaluate: {suite: campus_wide, allow_code_execution: true}}",
    "campus: {metrics: [loss], scores: ./scores}",
    "campus: {metrics: [length, loss], level: grade}",
    "campus: {batching: plain}",
    "campus: {seed: 7}",
    "campus: {cells: {by: length, bands: 5, of: source}}",
    "campus: {domains: {shares: {math: 0.4, code: 0.6}, least: 0.05}}",
    "campus: {domains: {over: cells, follow: seen_loss}}",
    "campus: {domains: {shares: {temperature: 2}, by: weights}}",
    "campus: {domains: {reweight: {name: odm, alpha: 0.9}}}",
    "campus: {phases: [{until: 0.5, shares: {math: 0.9, code: 0.1}, overlap: 0.1}, {until: 1}]}",
    "campus: {metrics: [length, mtld], phases: [{until: 0.5, offer: [length], mix: 0.2}, {until: 1}]}",
    "campus: {metrics: [length], phases: [{until: 0.7}, {until: 1, top: {length: 0.3}}]}",
    "campus: {thin: {how: rank, by: seen_loss, keep: 0.5, from: 0.1, until: 0.9}}",
    "campus: {thin: {how: prune, drop: 0.3}}",
    "campus: {thin: {how: rank, power: 2}}",
    "campus: {thin: {how: proportional, floor: 0.3, gate: 1.5, detrend: true}}",
    "campus: {metrics: [loss], thin: {how: top, by: loss, fresh: true}}",
    "campus: {review: {share: 0.1, by: spacing, spacing: 2, from: 0.1, until: 0.9}}",
    "campus: {drop: [{by: duplicates, keep: first, near: false}]}",
    "campus: {drop: [{by: length, lowest: 0.05, at_most: 0.1}]}",
    "campus: {drop: [{by: length, below: 3}]}",
    "campus: {drop: [{by: judged, path: ./judged.jsonl, on: [id]}]}",
    "campus: {drop: [{by: suspects, from: 0.5, act: auto}]}",
    "campus: {drop: [{by: value, path: ./values.parquet, probe: math}]}",
    "campus: {weights: [robust]}",
    "campus: {weights: [{name: focal, gamma: 1, from: 0.1, until: 0.9, limit: 5}]}",
    "campus: {weights: [{name: column, column: vote, normalise: none}]}",
    "campus: {thin: {how: rank}, control: shuffled_scores}",
    "campus: {probes: {path: ./probes.jsonl}, milestones: [{name: fractions, probe: math, loss: 0.8, then: note}]}",
    "campus: {probes: {path: ./probes.jsonl}, milestones: [{name: sure, probe: math, competence: 0.6, times: 2}]}",
    "campus: {probes: {path: ./probes.jsonl}, milestones: [{name: right, probe: math, accuracy: 0.7, hold: 3}]}",
    "campus: {probes: {path: ./probes.jsonl}, review: {share: 0.1}, when: {regression: review}}",
    "campus: {metrics: [length], clock: tokens}",
    "campus: {metrics: [length], probes: {path: ./probes.jsonl}, clock: {by: competence, target: 0.8}}",
    "campus: {probes: {path: ./probes.jsonl}, value: true}",
    "campus: {probes: {path: ./probes.jsonl}, value: {adam: true, budget: 0.1}}",
    "campus: {thin: {how: top, by: middle, keep: 0.5}, passes: {at: 1.0, forget: 0.02, middle: chance}}",
    "campus: {metrics: [loss], passes: {predict: false, answer: solution}}",
    "campus: {resume: changed_future}",
    "compare: {test: {path: ./test.jsonl}}",
    "compare: {test: {path: ./test.jsonl}, seeds: 3, arms: [recipe, random, reversed]}",
    "compare: {test: {path: ./test.jsonl}, effect: 0.01, speedup: 0.2}",
    "compare: {test: {path: ./test.jsonl}, points: 10, tokens_tolerance: 0.02}",
    "compare: {test: {path: ./test.jsonl}, trainer: rloo, samples: 4}",
    "compare: {test: {path: ./test.jsonl}, evaluate: {suite: campus, tasks: [gsm8k], data: ./sets, limit: 50}}",
    "compare: {test: {path: ./test.jsonl}, evaluate: {suite: campus_wide, allow_code_execution: true}}",
    "compare: {test: {path: ./test.jsonl}, sharpness: true, proxy: runs/proxy}",
    "compare: {test: {path: ./test.jsonl}, jobs: 2}",
    "compare: {test: {path: ./test.jsonl}, devices: [0, 1]}",
    "search: {space: {mix: [0, 0.5], stages: [10, 20]}, rows: ./search.jsonl}",
    "search: {space: {mix: [0, 0.5]}, rows: ./search.jsonl, trials: 12, seeds: 2, sampler: random, seed: 0}",
)


def settings() -> list[KnownName]:
    """Every block, its settings behind it, and those inside of others behind these."""
    return [one for name, kind in BLOCKS.items() for one in (_block(name, kind), *_inside(name, kind, ()))]


def _block(name: str, kind: type[CheckedSettings]) -> KnownName:
    example = next(example for example in EXAMPLES if example.startswith(f"{name}: "))
    line, facts = card(inspect.getdoc(kind) or "").line, {"written in": "a training YAML"}
    return KnownName("block", name, line, "", facts, _rows(name, kind), example, page=PAGES[name])


def _rows(where: str, kind: type[CheckedSettings]) -> tuple[NameRow, ...]:
    """The settings of a class, as lines of a table; one without a default says that it must be given."""
    needed = {kind.key(name) for name in required(kind)}
    return tuple(
        NameRow(row.name, row.doc, row.must, "none: give it" if row.name in needed else row.default)
        for row in rows(kind)
        if f"{where}.{row.name}" not in _REFUSED
    )


def _inside(where: str, kind: type[CheckedSettings], above: tuple[type[CheckedSettings], ...]) -> Iterator[KnownName]:
    known = {kind.key(name): one for name, one in kind.known().items()}
    for row in _rows(where, kind):
        name = f"{where}.{row.name}"
        inner = block_of(known[row.name])
        takes = () if inner is None else _rows(name, inner)
        facts = {"must be": row.must, "default": row.default}
        also = (name.partition(".")[2], f"--{name}", row.name)
        yield KnownName("setting", name, row.says, "", facts, takes, example_of(name), "", page_of(name), also=also)
        if inner is not None and inner not in above:
            yield from _inside(name, inner, (*above, kind))


def page_of(name: str) -> str:
    """The page of the guide that tells of a setting.

    Args:
        name: in full.
    """
    while name not in PAGES:
        name = name.rpartition(".")[0]
    return PAGES[name]


def example_of(name: str) -> str:
    """The shortest example in which a setting stands.

    Args:
        name: in full.
    """
    found = [example for example, names in _stand_in().items() if name in names]
    return min(found, key=len, default="")


@cache
def _stand_in() -> Mapping[str, frozenset[str]]:
    """The settings of each example, by their full names."""
    return {example: frozenset(_names("", read_value(example, "the example"))) for example in EXAMPLES}


def _names(where: str, value: Any) -> Iterator[str]:
    for key, inner in value.items() if isinstance(value, Mapping) else ():
        name = f"{where}.{key}".removeprefix(".")
        yield name
        for entry in inner if isinstance(inner, list) else [inner]:
            yield from _names(name, entry)
