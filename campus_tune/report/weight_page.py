"""What the page of a run says of how much its rows counted: a sentence, pictures, and tables by stage and domain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from campus_tune.preview.weight_plan import LEAST_ESS
from campus_tune.report.figures import Picture
from campus_tune.report.html_tables import GAP, Cell, HtmlTable, number, words
from campus_tune.report.weight_facts import StageWeights, WeightFacts
from campus_tune.report.weight_plots import WEIGHT_PICTURES
from campus_tune.run.told import audit_line, clips_often


@dataclass(frozen=True)
class WeightSection:
    """The section of the page.

    Args:
        sentence: what is to be said first.
        pictures: of it.
        tables: of it.
    """

    sentence: str
    pictures: tuple[Picture, ...]
    tables: tuple[HtmlTable, ...]


def weight_section(facts: WeightFacts, pictures: Sequence[Picture]) -> WeightSection:
    """What the page says of a run's weights.

    Args:
        facts: of the run.
        pictures: of the run, those of its weights among them.
    """
    tables = (by_stage(facts), by_domain(facts))
    return WeightSection(
        sentence=sentence(facts),
        pictures=tuple(picture for picture in pictures if picture.name in WEIGHT_PICTURES),
        tables=tuple(table for table in tables if table.rows),
    )


def sentence(facts: WeightFacts) -> str:
    """How unequal the weights were, and how their audit came out."""
    audit = audit_line(facts.audit)
    audit = f"{audit[0].upper()}{audit[1:]}."
    if not facts.stages:
        return audit
    of = f"{len(facts.stages)} of {len(facts.edges) - 1} stages"
    low, high = min(stage.least for stage in facts.stages), max(stage.most for stage in facts.stages)
    worth = min(stage.ess for stage in facts.stages)
    return (
        f"In {of} the rows had weights, from {low:.2g} to {high:.2g}; where these were most unequal, a stage's rows "
        f"were worth {worth:.0%} of as many that are alike. {audit}"
    )


def by_stage(facts: WeightFacts) -> HtmlTable:
    """One row for each weighted stage; what the run warns of is marked."""
    columns = {
        "stage": [number(stage.index) for stage in facts.stages],
        "step": [number(stage.step) for stage in facts.stages],
        "mean": [number(stage.mean, ".2f") for stage in facts.stages],
        "least": [number(stage.least, ".3g") for stage in facts.stages],
        "most": [number(stage.most, ".3g") for stage in facts.stages],
        "effective sample": [
            number(stage.ess, ".0%", kind="bad" if stage.ess < LEAST_ESS else "") for stage in facts.stages
        ],
        "with half of the gradient": [number(stage.half, ".1%") for stage in facts.stages],
        "training loss": [number(stage.loss, ".3f") for stage in facts.stages],
        "weighted loss": [number(stage.weighted_loss, ".3f") for stage in facts.stages],
        "clipped steps": [clipped_steps(stage) for stage in facts.stages],
    }
    if all(stage.clipped is None for stage in facts.stages):
        del columns["clipped steps"]
    caption = "Weights by stage; effective sample size, and the fewest rows with half of the gradient, of its rows"
    return HtmlTable(caption, list(columns), list(zip(*columns.values(), strict=True)))


def clipped_steps(stage: StageWeights) -> Cell:
    """How many of its steps were clipped, of those that are known."""
    if stage.clipped is None:
        return Cell(GAP)
    clipped, steps = stage.clipped
    kind = "bad" if clips_often(clipped, steps, stage.ess) else ""
    return Cell(f"{clipped:,} of {steps:,}", clipped / max(1, steps), kind)


def by_domain(facts: WeightFacts) -> HtmlTable:
    """One row for each domain, over the stages that had rows of it."""
    names = dict.fromkeys(name for stage in facts.stages for name in stage.by_domain)
    rows = []
    for name in names:
        means = [stage.of_mean[name] for stage in facts.stages if name in stage.by_domain]
        rows.append([words(name), *(number(mean, ".3f") for mean in (means[0], means[-1], min(means), max(means)))])
    caption = "Mean weight by domain, as a multiple of the stage's: above 1 it counted for more than its tokens"
    return HtmlTable(caption, ["domain", "first stage", "last stage", "least", "most"], rows)
