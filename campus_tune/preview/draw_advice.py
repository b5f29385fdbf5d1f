"""What the blocks that say who is drawn do that their names do not say: found from the settings alone, before any data.

>>> found = draw_findings(CampusConfig(metrics=["length"], review={}, coverage="revisit", phases=[{"until": 1}]))
>>> [finding.severity for finding in found]
['warning']
"""

from __future__ import annotations

from collections.abc import Iterator

from campus_tune.preview.reweight_advice import reweight_findings
from campus_tune.preview.rule_advice import rule_findings
from campus_tune.preview.weight_advice import weight_findings
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.draw_blocks import NATURAL, TEMPERATURE
from campus_tune.words.findings import Finding
from campus_tune.words.wording import listed

_FEW_KEPT = 0.5  # of a slice's rows, below which its steps fill slowly


def draw_findings(config: CampusConfig) -> list[Finding]:
    """Everything in the blocks of the draw that works and is probably not meant."""
    found = [*_of_shares(config), *_of_review(config), *_of_cells(config), *_forgotten(config)]
    found += [*weight_findings(config), *rule_findings(config), *reweight_findings(config)]
    if config.handover == 0 and (config.draws_apart or config.weighs) and not config.is_shuffle:
        does = "drawn" if config.draws_apart else "weighed"
        found.append(Finding("info", f"handover: 0 trains no order: rows are {does} as the other blocks say."))
    if config.only_waits and config.is_shuffle and not config.metrics:
        what = (
            "The recipe asks for no order: rows are shuffled, and what waits for a sign of wrong rows acts once the "
            "losses of training show one."
        )
        remedy = "Write metrics: [length] for an order, or selector: shuffle and nothing else for plain shuffling."
        found.append(Finding("info", what, remedy))
    return found


def _of_shares(config: CampusConfig) -> Iterator[Finding]:
    """Shares that nobody draws by."""
    domains, phases = config.domains, config.phases or ()
    if domains is not None and domains.changes_nothing:
        yield Finding("info", "domains: {shares: natural} draws as without it: in proportion to the rows.")
    if domains is not None and domains.shares != NATURAL and any(phase.shares for phase in phases):
        what = "`phases` have shares of their own: `domains: shares` hold only in a phase that has none."
        yield Finding("warning", what, "Take one of them out.")


def _of_review(config: CampusConfig) -> Iterator[Finding]:
    """Rows that come back where they come back anyway, or where little is forgotten."""
    if config.review is None:
        return
    if config.coverage == "revisit":
        what = "coverage: revisit lets rows come again anyway: what `review` adds to it is hard to tell."
        yield Finding("warning", what, "Write coverage: exact, or take `review` out.")
    elif not config.phases and config.window == "prefix" and (config.share_at_random > 0 or config.is_shuffle):
        what = "review without phases, with the prefix window and a share at random: little is forgotten there."
        yield Finding("warning", what, "It is meant for phases, and for window: slice.")


def _of_cells(config: CampusConfig) -> Iterator[Finding]:
    """Cells that nobody asks for, slices of which too little is kept."""
    if config.cells is not None and not config.draw.uses_cells:
        yield Finding("warning", "`cells` are cut and nothing is compared in them.", "Add `thin`, or take them out.")
    keep = None if config.thin is None else config.thin.keep
    if config.window == "slice" and keep is not None and keep < _FEW_KEPT and not config.is_shuffle:
        what = f"thin: keep: {keep:g} with window: slice fills steps slowly: slices end early, and stages are short."
        yield Finding("warning", what, "Write window: prefix, or keep: 0.5.")


def _forgotten(config: CampusConfig) -> Iterator[Finding]:
    """Domains that an earlier phase trains and a later one leaves out, with nothing that brings them back."""
    if config.review is not None or (config.domains is not None and config.domains.least):
        return
    trained: dict[str, float] = {}
    for number, phase in enumerate(config.phases or (), 1):
        if phase.shares is None or isinstance(phase.shares, str) or TEMPERATURE in phase.shares:
            continue  # all of them are drawn
        left_out = [name for name in trained if not phase.shares.get(name)]
        if left_out:
            what = (
                f"Phase {number} leaves out {listed(left_out, 5)}, which an earlier one trains: it will be forgotten."
            )
            yield Finding("warning", what, "Keep a small share of it (0.01 helps), or write review: {share: 0.05}.")
        trained |= {name: share for name, share in phase.shares.items() if share}
