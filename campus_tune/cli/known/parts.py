"""The parts that a recipe names, from their registries: the docstring of each is its card; those of plug-ins too."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from campus_tune.cli.known.docstrings import card
from campus_tune.cli.known.entry import KnownName, NameRow
from campus_tune.method.pacing import PACINGS
from campus_tune.method.reweight import SHARES
from campus_tune.method.rules import RULES
from campus_tune.method.selectors import SELECTORS
from campus_tune.method.thin import THINNERS
from campus_tune.method.weights import WEIGHTS
from campus_tune.metrics import METRICS
from campus_tune.recipe.reader import in_yaml
from campus_tune.words.annotated import defaults, docs, leaves
from campus_tune.words.plugins import owner
from campus_tune.words.registry import Registry, ask_plugins


@dataclass(frozen=True)
class PartKind:
    """One kind of parts.

    Args:
        word: of one of them.
        many: of several.
        registry: that knows them.
        says: what they are, in one line.
        asked: where a recipe names one.
        example: what a recipe says of one, with `NAME` for it.
        setting: of the campus block that takes it.
    """

    word: str
    many: str
    registry: Registry[Any]
    says: str
    example: str
    setting: str


KINDS = (
    PartKind(
        "metric",
        "metrics",
        METRICS,
        "what makes a row hard; higher is harder, `-name` turns it around",
        "{metrics: [NAME]}",
        "metrics",
    ),
    PartKind(
        "selector",
        "selectors",
        SELECTORS,
        "which sub-curriculum is trained next",
        "{metrics: [length, loss], selector: NAME, probes: {path: ./probes.jsonl}}",
        "selector",
    ),
    PartKind(
        "pacing", "pacings", PACINGS, "how far the orders are open", "{metrics: [length], pacing: NAME}", "pacing"
    ),
    PartKind(
        "thinner",
        "thinners",
        THINNERS,
        "which of the offered rows are trained",
        "{metrics: [length], thin: {how: NAME, by: seen_loss}}",
        "thin.how",
    ),
    PartKind(
        "weight",
        "weights",
        WEIGHTS,
        "how much a row, or a token of it, counts",
        "{weights: [NAME]}",
        "weights",
    ),
    PartKind(
        "rule",
        "rules",
        RULES,
        "what is seen in the probes, so that something is done about it",
        "{metrics: [length], probes: {path: ./probes.jsonl}, when: {NAME: note}}",
        "when",
    ),
    PartKind(
        "reweighting",
        "shares",
        SHARES,
        "how the domains' shares follow losses",
        "{metrics: [length], probes: {path: ./probes.jsonl}, domains: {reweight: NAME}}",
        "domains.reweight",
    ),
)
EXAMPLES: Mapping[tuple[str, str], str] = {  # of parts that ask for more than their name
    ("metric", "column"): "{metrics: [{name: column, column: level}]}",
    ("metric", "influence"): "{metrics: [-influence], probes: {path: ./probes.jsonl}}",
    ("metric", "learnability"): "{metrics: [{name: -learnability, proxy: runs/proxy}]}",
    ("metric", "perplexity"): "{metrics: [{name: perplexity, model: HuggingFaceTB/SmolLM2-135M}]}",
    ("metric", "quality"): "{metrics: [{name: quality, model: ./reward-model}]}",
    ("metric", "rank_mean"): "{metrics: [{name: rank_mean, of: [length, loss]}]}",
    ("metric", "rho"): "{metrics: [{name: -rho, holdout: ./holdout-model}]}",
    ("metric", "spread"): "{metrics: [{name: spread, of: loss, groups: domain}], within: none}",
    ("selector", "fixed"): "{metrics: [length, loss], selector: {name: fixed, order: length}}",
    ("selector", "replayed"): "{metrics: [length, loss], selector: {name: replayed, choices: [loss, length]}}",
    ("selector", "shuffle"): "{selector: shuffle}",
    ("pacing", "join"): (
        "{metrics: [length], pacing: {name: join, pieces: [{name: linear, until: 0.3, to: 0.5}, {name: root}]}}"
    ),
    ("weight", "unbiased"): "{metrics: [length], thin: {how: prune}, weights: [unbiased]}",
    ("rule", "milestone"): (
        "{metrics: [length], probes: {path: ./probes.jsonl}, "
        "milestones: [{name: fractions, probe: math, loss: 0.8, then: note}]}"
    ),
    ("reweighting", "doremi"): (
        "{metrics: [length], probes: {path: ./probes.jsonl}, "
        "domains: {reweight: {name: doremi, targets: {math: 0.8, code: 1.1}}}}"
    ),
    ("reweighting", "skill_graph"): (
        "{metrics: [length], probes: {path: ./probes.jsonl}, "
        "domains: {reweight: {name: skill_graph, graph: {sums: {fractions: 0.5}}}}}"
    ),
}


def parts() -> list[KnownName]:
    """Every part of every kind, those of installed plug-ins among them, each with its options behind it."""
    ask_plugins()
    return [one for kind in KINDS for name in kind.registry.names() for one in _known(kind, name)]


def _known(kind: PartKind, name: str) -> list[KnownName]:
    """A part, then each of its options."""
    part = kind.registry.get(name)
    said = card(inspect.getdoc(part) or "")
    example = f"campus: {EXAMPLES.get((kind.word, name)) or kind.example.replace('NAME', name)}"
    where = f"`{kind.setting}` of the campus block"
    options = _options(kind, name)
    page, comes_from = "parts", owner(part)
    first = KnownName(
        kind.word,
        name,
        said.line,
        said.text,
        {"written in": where},
        options,
        example,
        said.source,
        page,
        comes_from,
        (f"{kind.word}.{name}", f"{kind.many}.{name}", f"{kind.setting}.{name}"),
    )
    return [
        first,
        *(
            KnownName(
                "option",
                f"{name}.{one.name}",
                one.says,
                facts={"of": f"{kind.word} {name}: {said.line}", "must be": one.must, "default": one.default},
                example=example,
                page=page,
                comes_from=comes_from,
                also=(f"{kind.word}.{name}.{one.name}", f"{kind.setting}.{one.name}", one.name),
            )
            for one in options
        ),
    ]


def _options(kind: PartKind, name: str) -> tuple[NameRow, ...]:
    part = kind.registry.get(name)
    said, given = docs(part), defaults(part)
    return tuple(
        NameRow(option, said.get(option, ""), one.must, in_yaml(given[option]) if option in given else "")
        for option, one in leaves(part).items()
    )
