"""One picture of one run, drawn from its ledger: what was offered, what was chosen, what it did, what it cost.

    python eval/plot_run.py runs/quickstart/run                # draws runs/quickstart/run/curriculum/run.png
    python eval/plot_run.py runs/quickstart/run --out run.png

From top to bottom: the perplexity of what each sub-curriculum offered at every decision, with two standard errors, the
chosen one ringed, and that of the probes; each domain's competence; how far the orders were open, and what each stage
was made of; the bill against the budget. The ledger is all it reads, so a run that is still going can be drawn too.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

from campus_tune.budget import ALWAYS, PURPOSES
from campus_tune.errors import CampusError, DataError
from campus_tune.ledger import FILE, read_ledger

Event: TypeAlias = dict[str, Any]

# Okabe & Ito: eight colours that the colour-blind tell apart. Grey is what nobody chose.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
GREY = "#999999"
SHADES = ("#222222", "#777777", "#0072B2", "#999999", "#cccccc")  # one for each purpose of the bill


def main(argv: Sequence[str] | None = None) -> int:
    """Draw one run; 0 when it is drawn, 2 when there is nothing to draw."""
    parser = argparse.ArgumentParser(description="Draw one run from its ledger.")
    parser.add_argument("run", type=Path, help="the trainer's output_dir")
    parser.add_argument("--out", type=Path, help="the picture (default: run.png beside the ledger)")
    options = parser.parse_args(argv)
    try:
        out = plot_run(options.run, options.out)
    except CampusError as error:
        print(f"plot_run: {error}", file=sys.stderr)
        return 2
    print(f"drawn: {out}")
    return 0


def plot_run(output_dir: Path, out: Path | None = None) -> Path:
    """Draw the run in `output_dir` and return the picture's path.

    Args:
        output_dir: of the trainer; its `curriculum/ledger.jsonl` is read.
        out: the picture; None puts `run.png` beside the ledger.

    Raises:
        DataError: no ledger, or one without a decision.
    """
    ledger = output_dir / "curriculum" / FILE
    if not ledger.is_file():
        raise DataError(f"`run` must be a folder with curriculum/{FILE}, got {str(output_dir)!r}. Give an output_dir.")
    events = read_ledger(ledger)
    decisions = [event for event in events if event["event"] == "decision"]
    if not decisions:
        raise DataError(f"`{ledger}` must hold a decision, got none yet. Draw it when the first stage has begun.")
    colours = _colours(decisions)
    figure, axes = plt.subplots(4, 1, figsize=(9, 9.5), height_ratios=[3, 2, 2, 0.7], layout="constrained")
    end = decisions[-1]["step"] + decisions[-1]["steps"]
    for axis in axes[:3]:
        _stages(axis, decisions, colours)
        axis.set_xlim(-0.01 * end, end)
    _offers(axes[0], decisions, _of(events, "probes"), _shares(events), colours)
    _competence(axes[1], _of(events, "probes"))
    _scope(axes[2], decisions)
    _bill(axes[3], events)
    figure.suptitle("one run: what was offered, what was chosen, what it did, what it cost", fontsize=12)
    out = ledger.with_name("run.png") if out is None else out
    figure.savefig(out, dpi=100)
    plt.close(figure)
    return out


def _of(events: list[Event], name: str) -> list[Event]:
    return [event for event in events if event["event"] == name]


def _colours(decisions: list[Event]) -> dict[str, str]:
    """A colour for every sub-curriculum, in the recipe's sequence; shuffled stages are grey."""
    names = [name for name in decisions[0]["rows_by_choice"] if name != "shuffle"]
    return {**{name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}, "shuffle": GREY}


def _shares(events: list[Event]) -> dict[str, float]:
    """How much each domain of the training rows counts in the probes' mean loss; {} where they have no domains."""
    sizes = next((event["rows_by_domain"] for event in _of(events, "run")), {})
    return {name: rows / sum(sizes.values()) for name, rows in sizes.items()}


def _stages(axis: Any, decisions: list[Event], colours: dict[str, str]) -> None:
    """The stages behind every curve, each in the colour of what was chosen."""
    for decision in decisions:
        first, last = decision["step"], decision["step"] + decision["steps"]
        axis.axvspan(first, last, color=colours[decision["chosen"]], alpha=0.13, linewidth=0)
        axis.axvline(first, color="white", linewidth=1)


def _offers(
    axis: Any, decisions: list[Event], probes: list[Event], shares: dict[str, float], colours: dict[str, str]
) -> None:
    """Perplexity of the offers at each decision, the chosen one ringed, and of the probes."""
    apart = 0.005 * (decisions[-1]["step"] + decisions[-1]["steps"])  # side by side, or error bars hide each other
    for i, (name, colour) in enumerate(colours.items()):
        seen = [
            (decision["step"] + i * apart, offer, decision["chosen"] == name)
            for decision in decisions
            for offer in decision.get("offers", [])
            if offer["name"] == name and "perplexity" in offer
        ]
        if not seen:
            continue
        steps = [step for step, _, _ in seen]
        loss, stderr = (np.array([offer[key] for _, offer, _ in seen]) for key in ("loss", "stderr"))
        low, high = np.maximum(loss - 2 * stderr, 0.0), loss + 2 * stderr  # no perplexity is below 1
        perplexity = np.exp(loss)
        spread = [perplexity - np.exp(low), np.exp(high) - perplexity]
        axis.errorbar(steps, perplexity, yerr=spread, color=colour, marker="o", capsize=3, linewidth=1, label=name)
        ringed = [(step, offer["perplexity"]) for step, offer, chosen in seen if chosen]
        if ringed:
            axis.scatter(
                *zip(*ringed, strict=True), s=170, facecolors="none", edgecolors=colour, linewidths=2, zorder=5
            )
    if probes:
        steps = [event["step"] for event in probes]
        axis.plot(steps, [_probe_perplexity(event, shares) for event in probes], "k--", marker=".", label="probes")
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axis.yaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%.4g"))
    axis.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    axis.set(
        ylabel="perplexity", title="what each sub-curriculum offered (ringed: chosen; bands: what was then trained)"
    )
    axis.title.set_fontsize(10)
    if axis.get_legend_handles_labels()[1]:
        axis.legend(fontsize=8, loc="upper right")


def _probe_perplexity(event: Event, shares: dict[str, float]) -> float:
    """Perplexity of the probes: exp of the domains' mean loss, weighted as the run weighs them."""
    domains = event["domains"]
    if not set(domains) <= set(shares):
        shares = dict.fromkeys(domains, 1.0)
    total = sum(shares[name] for name in domains)
    return math.exp(sum(shares[name] * values["loss"] for name, values in domains.items()) / total)


def _competence(axis: Any, probes: list[Event]) -> None:
    """Competence of each domain at every measurement."""
    axis.set_prop_cycle(color=mpl.colormaps["Dark2"].colors)  # other colours than the sub-curricula's
    for name in probes[0]["domains"] if probes else []:
        found = [(event["step"], event["domains"][name]["competence"]) for event in probes if name in event["domains"]]
        axis.plot(*zip(*found, strict=True), marker=".", label=name)
    axis.set(ylabel="competence", title="competence on held-out probes: exp(−mean loss of an answer token)")
    axis.title.set_fontsize(10)
    if probes:
        axis.legend(fontsize=8, loc="upper left", ncols=3)
    else:
        axis.text(0.5, 0.5, "no probes in this run", transform=axis.transAxes, ha="center")


def _scope(axis: Any, decisions: list[Event]) -> None:
    """How far the chosen order was open in each stage, and the share of its rows that was random."""
    edges = [decision["step"] for decision in decisions]
    edges.append(decisions[-1]["step"] + decisions[-1]["steps"])
    axis.stairs([decision["scope"][1] for decision in decisions], edges, color="black", label="scope")
    random = [decision["random_rows"] / decision["rows"] for decision in decisions]
    axis.stairs(random, edges, color=GREY, linestyle="--", label="share of rows drawn at random")
    for decision in decisions:
        middle = decision["step"] + decision["steps"] / 2
        name = "shuffled" if decision["chosen"] == "shuffle" else decision["chosen"]
        axis.text(middle, 0.5, name, ha="center", va="center", fontsize=8, rotation=90 if len(decisions) > 9 else 0)
    axis.set(ylim=(-0.03, 1.06), xlabel="optimizer step", ylabel="share of rows", title="what was opened")
    axis.title.set_fontsize(10)
    axis.legend(fontsize=8, loc="lower right")


def _bill(axis: Any, events: list[Event]) -> None:
    """Measured share of the training compute against the budget, and the audit."""
    last = (_of(events, "end") or _of(events, "stage_end") or [{}])[-1]
    cost, left = last.get("cost", {}), 0.0
    for purpose, shade in zip(PURPOSES, SHADES, strict=True):
        if purpose not in ALWAYS and not cost.get(purpose):
            continue
        axis.barh(0, cost.get(purpose, 0.0), left=left, color=shade, label=f"{purpose} {cost.get(purpose, 0.0):.1%}")
        left += cost.get(purpose, 0.0)
    budget = last.get("budget") or next(event["future"]["campus: budget"] for event in _of(events, "run"))
    axis.axvline(budget, color="#D55E00", linewidth=2, label=f"budget {budget:.0%}")
    audit = last.get("audit", [0, 0])
    checked, passed = (audit["checked"], audit["passed"]) if isinstance(audit, dict) else audit
    axis.set(xlim=(0, 1.15 * max(budget, left, 1e-6)), yticks=[])
    axis.set_title(
        f"measuring cost {left:.1%} of the training compute · order audit: {passed} of {checked} checked steps "
        "trained the planned rows",
        fontsize=10,
    )
    axis.xaxis.set_major_formatter(mpl.ticker.PercentFormatter(1.0))
    axis.legend(fontsize=8, ncols=6, loc="upper center", bbox_to_anchor=(0.5, -0.45))


if __name__ == "__main__":
    sys.exit(main())
