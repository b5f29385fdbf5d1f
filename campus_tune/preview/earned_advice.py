"""Advice that is earned: what a run, or `check`, has measured of its rows, held against the table of what helps when.

Each line names the rows of the table (`evidence`) that it rests on, and says to do something only where one of them has
the verdict `helped` and none the verdict `hurt`. Of each kind of situation that is seen, the nearest row of each base
is taken: in the share of its rows that are so and in the epochs, by the logarithm of the ratio.

>>> from campus_tune.preview.evidence import EvidenceRow, JudgedArm
>>> order = JudgedArm("an order", {"metrics": ["length"]}, 0.004, -0.01, 0.02, 8, "no detectable difference")
>>> clean = EvidenceRow("clean_3", "tiny", "clean", "right answers", None, 3, 4, 1440, None, {"default": order})
>>> table = EvidenceTable("", {"tiny": "a tiny model"}, (clean,))
>>> [line] = earned_advice(Signs(rows=900, epochs=3, domains={"code": 450, "math": 450}), table)
>>> print(line.said)
three epochs, two domains: nothing here suggests that an order will help (on a tiny model, `clean_3`: 0.4 % higher
(−1.0 % to +2.0 %; 8 seeds), no detectable difference)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from campus_tune.method.dirt import Dirt
from campus_tune.preview.duplicate_rows import Repeats
from campus_tune.preview.evidence import (
    HELPED,
    HURT,
    EvidenceRow,
    EvidenceTable,
    JudgedArm,
    best_of,
    effect_words,
    evidence,
    percent,
)
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.policy import FEW
from campus_tune.recipe.training_yaml import run_size
from campus_tune.words.annotated import defaults, plain
from campus_tune.words.findings import Finding
from campus_tune.words.types import Json
from campus_tune.words.wording import listed

A_FEW = 0.01  # share of the rows from which rows said twice, or answered in two ways, are a situation
MOSTLY = 0.7  # share of the rows in one of several domains, from which on the others may lag
LAGS = 1.25  # times the mean loss of the probes: a domain that lags
TIMES = 2.0  # as many epochs, half or twice, as a situation of few rows
NAMED = 3  # domains in a line
NEARLY = 0.05  # of a number, by which it may miss a whole one: the last step of an epoch is rarely full
WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class Signs:
    """What is known of a run's rows.

    Args:
        rows: of the training set.
        epochs: visits of a row, on average.
        domains: domain → its rows; {} without domains.
        dirt: how many rows look wrong; None where nothing tells.
        repeated: share of the rows that say what an earlier one says.
        contradicting: share of those whose prompt has another answer elsewhere.
        probe_losses: probe domain → loss when they were measured last; {} without.
        config: the recipe; None leaves out what it does already.
    """

    rows: int
    epochs: float
    domains: Mapping[str, int] = field(default_factory=dict)
    dirt: Dirt | None = None
    repeated: float = 0.0
    contradicting: float = 0.0
    probe_losses: Mapping[str, float] = field(default_factory=dict)
    config: CampusConfig | None = None


@dataclass(frozen=True)
class Advice:
    """One line of advice.

    Args:
        said: what is seen, and what was measured where it was so.
        rows: names of the rows of the table that it rests on.
        write: what to do; "" where nothing is shown to help.
    """

    said: str
    rows: tuple[str, ...]
    write: str = ""

    def line(self) -> str:
        """As a person reads it."""
        return f"{self.said}. {self.write}".rstrip() if self.write else self.said

    def record(self) -> Json:
        """As the ledger has it."""
        return {"line": self.line(), "rows": list(self.rows)}

    def finding(self) -> Finding:
        """As `check` says it."""
        return Finding("info", f"{self.said[:1].upper()}{self.said[1:]}.", self.write)


def advice_of_check(
    settings: Mapping[str, Any], config: CampusConfig, domains: Mapping[str, int], n_rows: int, repeats: Repeats | None
) -> list[Finding]:
    """What `check` says of rows before anything is trained: nobody knows yet which of them look wrong.

    Args:
        settings: of the YAML.
        config: the block, resolved.
        domains: domain → its rows.
        n_rows: of the training set.
        repeats: which rows say the same; None where rows came as tokens.
    """
    size = run_size(settings, n_rows)
    signs = Signs(
        rows=n_rows,
        epochs=size.total_steps * size.global_batch / max(1, n_rows),
        domains=domains,
        repeated=0.0 if repeats is None else repeats.share_repeated,
        contradicting=0.0 if repeats is None else repeats.share_contradicting,
        config=config,
    )
    return [advice.finding() for advice in earned_advice(signs, evidence())]


def earned_advice(signs: Signs, table: EvidenceTable) -> list[Advice]:
    """What the table says of rows such as these, the most telling first; [] where it has nothing like them.

    Args:
        signs: what is known of them.
        table: what was measured.
    """
    if len(signs.domains) * FEW > signs.rows:  # a name for nearly every row names no kind of rows
        signs = replace(signs, domains={})
    tried = [row for row in table.rows if best_of(row) is not None]
    found = []
    for kind, share, seen in _seen(signs, table):
        rows = _nearest([row for row in tried if row.kind == kind], share=share, epochs=signs.epochs)
        found += [_advice(seen, rows, table, signs.config)] if rows else []
    ordered = [row for row in tried if _order_of(row) is not None]
    clean = [row for row in ordered if row.kind == "clean"]
    return [*found, *_of_orders(signs, _nearest(clean or ordered, share=None, epochs=signs.epochs), table)]


def _seen(signs: Signs, table: EvidenceTable) -> Iterator[tuple[str, float | None, str]]:
    """(kind, share of the rows that are so, in words) of each situation that these rows are in."""
    if signs.dirt is not None and signs.dirt.seen:
        yield "wrong", max(signs.dirt.share, signs.dirt.low), dirt_words(signs.dirt)
    for kind, share, what in (
        ("duplicates", signs.repeated, "say what an earlier row says"),
        ("two answers", signs.contradicting, "have a prompt that is answered in another way too"),
    ):
        if share >= A_FEW:
            yield kind, share, f"{percent(share)} of the rows {what}"
    if lag := lag_words(signs):
        yield "lagging", None, lag
    if signs.config is not None and signs.config.phases:
        yield "phases", None, _number(len(signs.config.phases), "phase")
    few = [row for row in table.rows if row.kind == "small" and signs.rows <= TIMES * row.rows]
    if any(signs.epochs * TIMES >= row.epochs for row in few):
        yield "small", None, f"{signs.rows} rows, {_number(signs.epochs, 'epoch')}"


def dirt_words(dirt: Dirt) -> str:
    """How many rows look wrong, by domain where that is seen, the most first.

    >>> dirt_words(Dirt(90, 0.1, 0.08, 0.12, {"code": Dirt(50, 0.15, 0.12, 0.19), "math": Dirt(40, 0.01, 0.0, 0.04)}))
    '12 to 19 % of `code` look wrong'
    >>> dirt_words(Dirt(90, 0.1, 0.08, 0.12))
    '8 to 12 % of the rows look wrong'
    """
    seen = sorted((one for one in dirt.by_domain.items() if one[1].seen), key=lambda one: -one[1].low)
    each = [f"{span(one)} of `{name}`" for name, one in seen] or [f"{span(dirt)} of the rows"]
    return f"{listed(each, NAMED)} look wrong"


def span(dirt: Dirt) -> str:
    """The interval in per cent.

    >>> span(Dirt(90, 0.1, 0.004, 0.012))
    '0.4 to 1.2 %'
    """
    digits = 0 if dirt.high >= 0.1 else 1
    return f"{100 * dirt.low:.{digits}f} to {100 * dirt.high:.{digits}f} %".replace(".0", "")


def lag_words(signs: Signs) -> str:
    """Which domain lags behind the others, or may; "" where none does.

    >>> lag_words(Signs(100, 1, {"chat": 80, "code": 20}, probe_losses={"chat": 1.0, "code": 2.0}))
    '`chat` has 80 % of the rows, and the probes of `code` cost 1.33 times the mean'
    """
    sizes, losses = signs.domains, signs.probe_losses
    said = []
    if len(sizes) > 1 and max(sizes.values()) >= MOSTLY * sum(sizes.values()):
        most = max(sizes, key=lambda name: sizes[name])
        said.append(f"`{most}` has {percent(sizes[most] / sum(sizes.values()))} of the rows")
    if len(losses) > 1 and (mean := sum(losses.values()) / len(losses)) > 0:
        worst = max(losses, key=lambda name: losses[name])
        if losses[worst] >= LAGS * mean:
            said.append(f"the probes of `{worst}` cost {losses[worst] / mean:.2f} times the mean")
    return ", and ".join(said)


def _nearest(rows: Sequence[EvidenceRow], *, share: float | None, epochs: float) -> list[EvidenceRow]:
    """Of each base the row that is nearest, in the sequence of the table."""

    def apart(row: EvidenceRow) -> float:
        of_epochs = abs(math.log(max(epochs, 0.01) / max(row.epochs, 0.01)))
        return of_epochs + (abs(math.log(share / row.share)) if share and row.share else 0.0)

    found: dict[str, EvidenceRow] = {}
    for row in rows:
        if row.base not in found or apart(row) < apart(found[row.base]):
            found[row.base] = row
    return list(found.values())


def _advice(seen: str, rows: Sequence[EvidenceRow], table: EvidenceTable, config: CampusConfig | None) -> Advice:
    """What was measured where it was like this: the arm that helped in one of these rows, in all that judged it.

    Of several arms that helped it is the one that the recipe has already, else the one that the row claims.
    """
    claimed = next(((row, row.helps) for row in rows if row.helps is not None), None)
    if claimed is None:
        shown = [(row, best[1]) for row in rows if (best := best_of(row)) is not None]
        told = "; ".join(f"{_where(row, table)}: {arm.words}, {_judged(arm)}" for row, arm in shown)
        said = f"{seen}: nothing that was tried is shown to help there{f' ({told})' if told else ''}"
        return Advice(said, tuple(row.name for row in rows))
    row, name = claimed
    name = next((one for one, arm in row.arms.items() if arm.claims and does_already(config, arm)), name)
    arm = row.arms[name]
    judged = [(one, one.arms[name]) for one in rows if name in one.arms]
    told = "; ".join(f"{_where(one, table)}: {_judged(shown)}" for one, shown in judged)
    said = f"{seen}: what helped there is {arm.words} ({told})"
    if does_already(config, arm):
        when = " once it is sure that rows are wrong (`act: auto`)" if config is not None and config.only_waits else ""
        return Advice(f"{said}, as this recipe does{when}", tuple(row.name for row, _ in judged))
    hurts = any(one.verdict == HURT for _, one in judged)
    write = "" if hurts else f"Write {in_yaml(arm.campus)}."
    return Advice(said, tuple(row.name for row, _ in judged), write)


def _of_orders(signs: Signs, rows: Sequence[EvidenceRow], table: EvidenceTable) -> list[Advice]:
    """Whether an order may be expected to help: what one did on rows of which nothing else is to be said."""
    judged = [(row, arm) for row in rows if (arm := _order_of(row)) is not None]
    if not judged:
        return []  # none was ever measured
    head = _number(signs.epochs, "epoch") + (f", {_number(len(signs.domains), 'domain')}" if signs.domains else "")
    told = "; ".join(f"{_where(row, table)}: {_judged(arm)}" for row, arm in judged)
    names = tuple(row.name for row, _ in judged)
    if not any(arm.claims for _, arm in judged):
        return [Advice(f"{head}: nothing here suggests that an order will help ({told})", names)]
    arm = next(arm for _, arm in judged if arm.claims)
    ordered = signs.config is not None and not signs.config.unordered
    write = "" if ordered or any(one.verdict == HURT for _, one in judged) else f"Write {in_yaml(arm.campus)}."
    return [Advice(f"{head}: what helped there is {arm.words} ({told})", names, write)]


def _order_of(row: EvidenceRow) -> JudgedArm | None:
    """The best of the arms that train an order; None where none was measured."""
    measured = [arm for arm in row.arms.values() if arm.effect is not None and trains_an_order(arm)]
    return min(measured, key=lambda arm: (not arm.claims, arm.effect), default=None)


def trains_an_order(arm: JudgedArm) -> bool:
    """An arm has an order, and nothing that draws, weighs or steers beside it."""
    config = CampusConfig.from_mapping(arm.campus)
    return not config.unordered and not config.draws_apart and not config.weighs


def does_already(config: CampusConfig | None, arm: JudgedArm) -> bool:
    """A recipe has each of the settings of an arm that are no order, whatever it says beside them."""
    if config is None:
        return False
    mine, theirs = config.to_mapping(), CampusConfig.from_mapping(arm.campus).to_mapping()
    named = [name for name in ("weights", "drop", "thin", "review", "domains", "phases") if theirs.get(name)]
    return bool(named) and all(_kinds(mine.get(name)) >= _kinds(theirs[name]) for name in named)


def _kinds(block: object) -> set[str]:
    """What a block does, by names: `robust` of weights, `suspects` of what is dropped; not what only says so.

    >>> sorted(_kinds(["robust", {"by": "suspects", "act": "never"}, {"by": "judged", "path": "rows.jsonl"}]))
    ['judged', 'robust']
    """
    entries = block if isinstance(block, list | tuple) else [] if block is None else [block]
    told = [one if isinstance(one, Mapping) else {"name": one} for one in entries]
    acts = [one for one in told if one.get("act") != "never"]
    return {str(one.get("name") or one.get("by") or one.get("how") or one.get("reweight")) for one in acts}


def in_yaml(block: Json) -> str:
    """A block of settings on one line, without those that are so anyway.

    >>> in_yaml({"stages": 20, "metrics": [], "selector": "shuffle", "drop": [{"by": "suspects"}]})
    'campus: {selector: shuffle, drop: [{by: suspects}]}'
    """
    usual = plain(defaults(CampusConfig))
    told = {name: value for name, value in block.items() if name not in usual or plain(value) != usual[name]}
    flow = yaml.safe_dump(told, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000)
    return f"campus: {flow.strip()}"


def _where(row: EvidenceRow, table: EvidenceTable) -> str:
    """Which row, and on what it was measured."""
    return f"on {table.bases[row.base]}, `{row.name}`"


def _judged(arm: JudgedArm) -> str:
    word = arm.verdict or "no verdict"
    return f"{effect_words(arm)}, {word}{', but so did its controls' if word == HELPED and not arm.claims else ''}"


def _number(n: float, noun: str) -> str:
    """So many, in a word where there is one.

    >>> _number(1, "epoch"), _number(12, "domain"), _number(2.96, "epoch"), _number(1.5, "epoch")
    ('one epoch', '12 domains', 'three epochs', '1.5 epochs')
    """
    whole = round(n)
    if abs(n - whole) > NEARLY * n:
        return f"{n:.1f} {noun}s"
    return f"{WORDS[whole] if whole < len(WORDS) else whole} {noun}{'' if whole == 1 else 's'}"
