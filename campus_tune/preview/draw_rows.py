"""What `check` reads in a training set for the draw and the weights: domains, cells, a user's own weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from campus_tune.data.domains import Domains
from campus_tune.method.weights import Weight
from campus_tune.model.prepare import PreparedRows
from campus_tune.preview.health import ScoreHealth
from campus_tune.preview.own_weights import own_weights
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.draw_rules import find_score
from campus_tune.recipe.policy import column_of, drawn_domains, strict_domains
from campus_tune.words.errors import RecipeError
from campus_tune.words.findings import Finding
from campus_tune.words.registry import nearest
from campus_tune.words.types import BoolArray, FloatArray, IntArray, RowTexts

UNEQUAL = 20  # times the rows of the smallest domain, from which its share is worth a floor
FLOOR = 0.02  # that is suggested then
LIKE_LENGTH = 0.6  # rank correlation from which choosing by a score is choosing by length


@dataclass(frozen=True)
class DrawnRows:
    """The kinds of rows that a recipe draws from, as a run reads them.

    Args:
        domains: of the rows.
        others: their groups in the column of `cells: of`.
        dropped: rows that are left out, shape (N,); None for none.
        tokens: answer tokens of each row, shape (N,).
        weights: a user's own, each shape (N,).
        findings: what there is to say of them.
    """

    domains: Domains = field(default_factory=Domains)
    others: Domains = field(default_factory=Domains)
    dropped: BoolArray | None = None
    tokens: IntArray | None = None
    weights: Mapping[Weight, FloatArray] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def drawn_rows(config: CampusConfig, texts: RowTexts, prepared: PreparedRows | None = None) -> DrawnRows:
    """Read them.

    Args:
        config: resolved settings.
        texts: of the rows.
        prepared: the rows as they are trained, if they could be prepared.

    Raises:
        CampusError: what a run would refuse: no such column, rows without a name, values that are no weights.
    """
    column = column_of(config, texts.columns)
    weights, told = own_weights(config, texts, prepared)
    read = DrawnRows(tokens=texts.response_tokens, weights=weights)
    if not config.draw.uses_domains:
        domains = Domains() if column is None else Domains.of(texts.columns[column])
        return replace(read, domains=domains, findings=(*_of_sizes(config, domains), *told))
    domains = Domains() if column is None else drawn_domains(config, texts.columns[column], column)
    of = None if config.cells is None else config.cells.of
    if of is not None and of not in texts.columns:
        raise RecipeError(
            f"`cells: of` must be a column of the training set ({', '.join(texts.columns)}), got {of!r}."
            f"{nearest(of, list(texts.columns))} Name one of them, or leave it out."
        )
    others = Domains() if of is None else strict_domains(texts.columns[of], of, "cells: of")
    return replace(read, domains=domains, others=others, findings=(*_of_sizes(config, domains), *told))


def _of_sizes(config: CampusConfig, domains: Domains) -> Iterator[Finding]:
    """A domain that is so small that it hardly comes."""
    sizes = {name: n for name, n in domains.sizes().items() if n}
    says = config.domains is not None or any(phase.shares for phase in config.phases or ())
    if says or len(sizes) < 2 or len(sizes) * FLOOR > 1:
        return
    small, large = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    if sizes[large] > UNEQUAL * sizes[small] and sizes[small] < FLOOR * sum(sizes.values()):
        what = (
            f"{large} has {sizes[large] / sizes[small]:.0f} times the rows of {small} ({sizes[large]} and "
            f"{sizes[small]}), which is {sizes[small] / sum(sizes.values()):.1%} of each stage."
        )
        yield Finding("info", what, f"To draw it more often, write domains: {{least: {FLOOR:g}}}.")


def length_findings(config: CampusConfig, health: ScoreHealth) -> Iterator[Finding]:
    """Scores that rows are chosen by, and that mostly say how long a row is.

    Args:
        config: resolved settings.
        health: of the scores that are known.
    """
    in_cells = config.cells is not None and find_score(config.cells.by, config.specs).spec.name == "length"
    told: set[str] = set()
    for setting, entry in config.draw.entries():
        spec = find_score(entry, config.specs).spec
        rho = health.with_length.get(spec.label, 0.0)
        meant = spec.name == "length" or setting == "cells: by" or (setting == "thin: by" and in_cells)
        if meant or spec.label in told or not abs(rho) > LIKE_LENGTH:
            continue
        told.add(spec.label)
        remedy = "Look at the rows that it chooses"
        remedy += ", or write cells: {by: length}, inside which it is compared." if setting == "thin: by" else "."
        what = (
            f"`{spec.label}` goes with the length of a row (rank correlation {rho:.2f}): `{setting.split(':')[0]}` by "
            "it is mostly a choice by length."
        )
        yield Finding("warning", what, remedy)
