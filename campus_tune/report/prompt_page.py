"""What the page of a run says of its prompts in words and tables: groups, domains, bands, and prompts to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from campus_tune.report.figures import Picture
from campus_tune.report.html_tables import Cell, Fact, HtmlTable, number, words
from campus_tune.report.map_page import ShownRow, readable
from campus_tune.report.prompt_facts import PredictionShown, PromptFacts, PromptMapFacts, PromptShown
from campus_tune.report.prompt_plots import BANDS, PROMPT_PICTURES, prompt_words
from campus_tune.run.prompt_map import CONTRADICTS, EASIEST, HARDEST
from campus_tune.words.wording import listed

OPENED = 3  # prompts of a side that are shown without being asked for
MOST_FEATURES = 6  # that a sentence names
MOST_DOMAINS = 200  # that the table lists, the largest
CAPTIONS = {
    CONTRADICTS: "Prompts whose reward contradicts itself",
    HARDEST: "The hardest prompts that were drawn",
    EASIEST: "The easiest prompts that were drawn",
}
CONTRADICTION = (
    "Where a reward contradicts itself, the same answer to the same prompt earned different ones. A function that "
    "draws by chance, or asks a model, does so; where it should not, look at what it compares."
)


@dataclass(frozen=True)
class Side:
    """Prompts to look at.

    Args:
        caption: above them.
        first: shown.
        rest: that wait to be opened.
    """

    caption: str
    first: tuple[ShownRow, ...]
    rest: tuple[ShownRow, ...]


@dataclass(frozen=True)
class PromptSection:
    """The section of the page.

    Args:
        sentences: what is to be said first, code between backticks.
        pictures: of it.
        tables: of it.
        sides: prompts with their texts.
    """

    sentences: tuple[str, ...]
    pictures: tuple[Picture, ...]
    tables: tuple[HtmlTable, ...]
    sides: tuple[Side, ...]


def prompt_section(facts: PromptFacts, pictures: Sequence[Picture]) -> PromptSection:
    """What the page says of a run's prompts.

    Args:
        facts: of the run.
        pictures: of the run, those of its prompts among them.
    """
    kept = {} if facts.map is None else facts.map.sides
    tables = [by_domain(facts), by_band(facts), by_feature(facts), by_stage(facts)]
    return PromptSection(
        sentences=tuple(sentences(facts)),
        pictures=tuple(one for name in PROMPT_PICTURES for one in pictures if one.name == name),
        tables=tuple(table for table in tables if table.rows),
        sides=tuple(side_of(name, kept[name]) for name in CAPTIONS if name in kept),
    )


def sentences(facts: PromptFacts) -> list[str]:
    """What the answers have shown, a sentence each."""
    found = [gradient_sentence(facts)] if facts.stages else []
    if facts.map is not None:
        found.append(f"{facts.map.sentence}.")
        found += [CONTRADICTION] if CONTRADICTS in facts.map.regions else []
    if facts.prediction is not None:
        found.append(prediction_sentence(facts.prediction))
    untried = sum(stage.untried for stage in facts.stages)
    if untried:
        found.append(f"In {untried:,} group{'' if untried == 1 else 's'} no answer was scored: it counts as not tried.")
    return found


def gradient_sentence(facts: PromptFacts) -> str:
    """How many groups moved the model, beside what shuffling would have given."""
    total, shuffled = facts.total, facts.shuffled
    flat = total.flat or 0.0
    of = f"{flat:.0%} of {total.n:,} groups gave no gradient, for all their answers earned the same"
    if shuffled is None:
        return f"{of}."
    return f"{of}; with shuffled prompts it would have been about {shuffled:.0%}, as the run's own pass rates say."


def prediction_sentence(found: PredictionShown) -> str:
    """What was known of prompts before they were tried."""
    what, tries = ("Pass rates", "tries") if found.of == "pass_rate" else ("Chances of a gradient", "groups")
    if not found.used or found.correlation is None:
        return (
            f"{what} of prompts that were never tried could not be told by anything that is known of them: one rate "
            "stands for all of these."
        )
    worth = "" if found.worth is None else f", and count as much as {found.worth:.2g} {tries} of a prompt's own"
    return (
        f"{what} of prompts that were never tried are predicted from {listed(found.used, MOST_FEATURES)}: rank "
        f"correlation {found.correlation:.2f} with prompts that were left out{worth}."
    )


def by_feature(facts: PromptFacts) -> HtmlTable:
    """One row for each thing that is known of every prompt: what it tells of how prompts pass."""
    found = facts.prediction
    gains = {} if found is None else found.gains
    used = () if found is None else found.used
    rows = [
        [words(name), number(gain, ".3f"), words("yes" if name in used else "no")]
        for name, gain in sorted(gains.items(), key=lambda item: -item[1])
    ]
    head = ["known of each prompt", "tells alone", "predicts"]
    return HtmlTable("What tells how prompts pass: nats of a prompt that was left out, beyond one rate", head, rows)


def prompt_numbers(facts: PromptFacts) -> list[Fact]:
    """What a person wants first of it, in numbers."""
    total, shuffled = facts.total, facts.shuffled
    found = []
    if total.flat is not None:
        beside = "" if shuffled is None else f"; shuffled about {shuffled:.0%}"
        found.append(Fact("No gradient", f"{total.flat:.0%}", f"of {total.n:,} groups{beside}"))
    rates = [stage.shown.pass_rate for stage in facts.stages if stage.shown.pass_rate is not None]
    if rates:
        found.append(Fact("Passed", f"{rates[-1]:.0%}", f"of the last stage's answers; {rates[0]:.0%} of the first's"))
    if facts.stages:
        found.append(Fact("Generated", f"{facts.stages[-1].tokens:,}", "tokens"))
    return found


def by_domain(facts: PromptFacts) -> HtmlTable:
    """One row for each domain: its groups, and where its prompts lie on the map."""
    of_map = {} if facts.map is None else facts.map.by_domain
    names = list(of_map) or facts.domains
    regions = () if facts.map is None or not of_map else tuple(facts.map.regions)
    rows = []
    for name in names[:MOST_DOMAINS]:
        shown, rates = facts.over(name), [s.by_domain[name].pass_rate for s in facts.stages if name in s.by_domain]
        known = [rate for rate in rates if rate is not None]
        counts = of_map.get(name, {})
        rows.append(
            [
                words(name),
                number(shown.n),
                number(shown.flat, ".0%"),
                number(known[0] if known else None, ".0%"),
                number(known[-1] if known else None, ".0%"),
                *([number(sum(counts.values()))] if regions else []),
                *(number(counts.get(region, 0)) for region in regions),
            ]
        )
    head = ["domain", "groups", "without a gradient", "passed at first", "passed at last"]
    head += ["prompts", *map(prompt_words, regions)] if regions else []
    return HtmlTable("Prompts by domain; first and last are of the stages that had some", head, rows)


def by_band(facts: PromptFacts) -> HtmlTable:
    """One row for each band of the expected pass rate."""
    rows = [
        [words(band), number(shown.n), number(shown.pass_rate, ".0%"), number(shown.flat, ".0%")]
        for band, shown in zip(BANDS, facts.bands(), strict=False)
        if shown.n
    ]
    head = ["expected to pass", "groups", "passed", "without a gradient"]
    return HtmlTable("Prompts by the pass rate that was expected of them", head, rows)


def by_stage(facts: PromptFacts) -> HtmlTable:
    """One row for each stage."""
    stages = facts.stages
    columns: dict[str, list[Cell]] = {
        "stage": [number(stage.index) for stage in stages],
        "step": [number(stage.step) for stage in stages],
        "chosen": [words(stage.chosen) for stage in stages],
        "groups": [number(stage.shown.n) for stage in stages],
        "without a gradient": [number(stage.shown.flat, ".0%") for stage in stages],
        "if shuffled": [number(stage.shuffled, ".0%") for stage in stages],
        "passed": [number(stage.shown.pass_rate, ".0%") for stage in stages],
        "reward": [number(stage.reward, ",.3g") for stage in stages],
        "tokens so far": [number(stage.tokens) for stage in stages],
        "prediction": [number(stage.correlation, ".2f") for stage in stages],
    }
    for name in ("if shuffled", "prediction"):
        if not any(cell.sort is not None for cell in columns[name]):
            del columns[name]
    caption = "Groups by stage; prediction is its rank correlation with prompts that were left out"
    if "prediction" not in columns:
        caption = "Groups by stage"
    return HtmlTable(caption, list(columns), list(zip(*columns.values(), strict=True)))


def side_of(name: str, prompts: Sequence[PromptShown]) -> Side:
    """Prompts of one side as they are shown.

    Args:
        name: of the side.
        prompts: the furthest first.
    """
    rows = tuple(shown_prompt(prompt) for prompt in prompts)
    return Side(CAPTIONS[name], rows[:OPENED], rows[OPENED:])


def shown_prompt(prompt: PromptShown) -> ShownRow:
    """A prompt as it is shown."""
    marks = [f"Prompt {prompt.row}", readable(prompt.domain, 80) if prompt.domain else ""]
    said = ["drawn once" if prompt.visits == 1 else f"drawn {prompt.visits:,} times"]
    if prompt.pass_rate is not None:
        said.append(f"{prompt.pass_rate * prompt.tries:.0f} of {prompt.tries:,} answers passed")
    if prompt.reward is not None and prompt.reward != prompt.pass_rate:
        said.append(f"mean reward {prompt.reward:.3g}")
    if prompt.contradicting:
        n = prompt.contradicting
        said.append(f"contradicts itself in {n:,} group{'' if n == 1 else 's'}")
    return ShownRow(
        title=" · ".join(filter(None, marks)),
        why=" · ".join(said),
        parts=(("prompt", readable(prompt.text)),) if prompt.text else (),
        before="",
        said="",
        rather="",
        chance="",
    )


def regions_table_of_prompts(facts: PromptMapFacts) -> HtmlTable:
    """How many prompts are of which region."""
    n = max(1, facts.n_rows)
    rows = [
        [words(prompt_words(region)), number(count), number(count / n, ".0%")]
        for region, count in facts.regions.items()
    ]
    return HtmlTable("The prompts by what their answers showed", ["prompts", "how many", "share"], rows)
