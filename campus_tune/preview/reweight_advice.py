"""What shares that follow losses do that their names do not say.

    reweight_findings   from the settings alone
    probed_findings     once it is known whose losses the probes show
    growth_findings     once it is known how many rows there are

`check` prints them, and a run says the same before its first step.

>>> config = CampusConfig(selector="shuffle", domains={"reweight": "odm"})
>>> [finding.severity for finding in reweight_findings(config)]
['info']
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from campus_tune.method.policy import Policy
from campus_tune.method.reweight import Odm, Reweight, build_reweight
from campus_tune.preview.forecast import MOST_PASSES, usual_shares
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.findings import Finding
from campus_tune.words.types import BoolArray, FloatArray
from campus_tune.words.wording import listed

FEWEST_ROWS = 30  # of a probe whose loss moves a share: below, its noise does
NAMED = 5  # strata that a finding names
_ROUNDING = 1e-6


def reweight_of(config: CampusConfig) -> Reweight | None:
    """How a recipe moves its shares; None where it does not."""
    setting = None if config.domains is None else config.domains.reweight
    return None if setting is None else build_reweight(setting)


def reweight_findings(config: CampusConfig) -> Iterator[Finding]:
    """What a reweighting goes after, whatever the rows are."""
    reweight = reweight_of(config)
    if isinstance(reweight, Odm):
        what = (
            "reweight: odm gives more rows to domains of a high loss, whether that is for want of training or because "
            "their answers cannot be foretold: open dialogue gains, mathematics loses."
        )
        yield Finding("info", what, "Compare it with its control natural_shares, or write reweight: lagging.")
    if reweight is not None and len(reweight.named()) == 1:
        what = f"`domains: reweight` names {reweight.named().pop()} alone: shares move between two or more."
        yield Finding("warning", what, "Name the others too.")


def probed_findings(config: CampusConfig, trained: Sequence[str], probed: Mapping[str, int]) -> Iterator[Finding]:
    """Domains whose shares the probes cannot move, or move by noise.

    Args:
        config: settings.
        trained: domains of the training rows.
        probed: probe domain → its rows; empty where probes and rows have no column of domains in common.
    """
    reweight = reweight_of(config)
    if reweight is None or reweight.signal != "probes" or config.draw.over_cells:
        return
    moved = [name for name in trained if name in probed]
    if len(moved) < 2:
        what = (
            f"`domains: reweight` compares the losses of domains, and probes show those of {len(moved)} of "
            f"{len(trained)}: no share moves."
        )
        yield Finding("warning", what, "Give probes of each domain (probes: domain_column), or write reweight: odm.")
        return
    if still := [name for name in trained if name not in probed]:
        what = f"No probe is of {listed(still, NAMED)}: `domains: reweight` leaves their shares as they are."
        yield Finding("warning", what, "Hold some of their rows out, if they should follow too.")
    if few := [f"{name} {probed[name]}" for name in moved if probed[name] < FEWEST_ROWS]:
        what = (
            f"Probes of fewer than {FEWEST_ROWS} rows move shares ({listed(few, NAMED)} rows): what moves them is "
            "mostly chance."
        )
        yield Finding("warning", what, f"Hold out {FEWEST_ROWS} rows or more of each domain.")


def growth_findings(config: CampusConfig, policy: Policy, *, rows: int, visits: int) -> Iterator[Finding]:
    """What comes of it where shares grow as far as they may: too many passes, stages that a domain cannot fill.

    Args:
        config: settings.
        policy: of the run.
        rows: of its largest stage.
        visits: rows that it trains in all.
    """
    reweight = reweight_of(config)
    if reweight is None:
        return
    if isinstance(reweight, Odm):
        yield from _explored(config, len(policy.strata_names), visits / rows)
    if config.draw.counts_in_shares:
        return
    sizes = policy.sizes(policy.codes, len(policy.strata_names))
    shares = usual_shares(policy)
    there = (sizes > 0) & (shares > 0)
    highest, passes = ceilings(shares, reweight.most), visits / np.maximum(1, sizes)
    often = there & (highest * passes > MOST_PASSES + _ROUNDING) & (shares * passes <= MOST_PASSES + _ROUNDING)
    if often.any():
        each = [f"{policy.strata_names[i]} {highest[i] * passes[i]:.1f}" for i in np.flatnonzero(often).tolist()]
        what = (
            f"`reweight` may train rows more than {MOST_PASSES:g} times each, where it gives all run long the most "
            f"that most: {reweight.most:g} allows: {listed(each, NAMED)}."
        )
        most = _lowered(shares, often, MOST_PASSES / passes)
        yield Finding("warning", what, f"Write most: {most:g}, or train for fewer epochs.")
    asked = np.floor(highest * rows + _ROUNDING).astype(np.int64)
    short = there & (asked > sizes) & (np.floor(shares * rows + _ROUNDING) <= sizes)
    if short.any():
        each = [f"{policy.strata_names[i]} {asked[i]} of {sizes[i]}" for i in np.flatnonzero(short).tolist()]
        what = (
            f"A stage of {rows} rows has each once, and `reweight` may ask for more than there are: "
            f"{listed(each, NAMED)}. What they cannot give is drawn from the others, and the ledger says so."
        )
        most = _lowered(shares, short, sizes / rows)
        yield Finding("warning", what, f"Write more `stages`, or most: {most:g}.")


def _explored(config: CampusConfig, n: int, n_stages: float) -> Iterator[Finding]:
    """The stages in which odm draws all of `n` strata alike: `ε_t` is 1/n until t = n·ln n."""
    alike = math.floor(n * math.log(n))
    if 2 * alike > n_stages:
        what = (
            f"reweight: odm explores {n} shares first: as far as `most` lets it they are alike until stage {alike} of "
            f"about {n_stages:.0f}."
        )
        stages = math.ceil(config.stages * 2 * alike / n_stages)
        yield Finding("warning", what, f"Write stages: {stages}, or reweight: lagging, which needs probes.")


def ceilings(shares: FloatArray, most: float) -> FloatArray:
    """The most that each share can be while the others keep the least that they may, shape (S,)."""
    low = shares / most
    return np.asarray(np.minimum(shares * most, 1 - low.sum() + low), dtype=np.float64)


def _lowered(shares: FloatArray, strata: BoolArray, limits: FloatArray) -> float:
    """A `most`, in hundredths, under which no share of some strata can be above its limit."""
    most = np.floor(100 * (limits[strata] / shares[strata]).min() + _ROUNDING) / 100
    return max(1.0, float(most))
