"""What the page of a run says in words and tables, around its pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from campus_tune.method.budget import VALUE
from campus_tune.method.curriculum import SHUFFLE
from campus_tune.preview.earned_advice import span
from campus_tune.report import markdown as short
from campus_tune.report.draw_page import draw_tables
from campus_tune.report.examples import Example
from campus_tune.report.figures import Picture
from campus_tune.report.html_tables import Cell, Fact, HtmlTable, number, words
from campus_tune.report.map_page import map_section, map_sentence, regions_table
from campus_tune.report.map_plots import MAP_PICTURE
from campus_tune.report.prompt_page import gradient_sentence, prompt_numbers, prompt_section, regions_table_of_prompts
from campus_tune.report.prompt_plots import PROMPT_PICTURES
from campus_tune.report.row_list import row_section
from campus_tune.report.run_facts import RunOnDisk
from campus_tune.report.steer_page import steer_section
from campus_tune.report.steer_plots import STEER_PICTURES
from campus_tune.report.value_page import TRANSFER_PICTURE, value_section
from campus_tune.report.weight_page import weight_section
from campus_tune.report.weight_plots import WEIGHT_PICTURES

MOST_WARNINGS = 5  # of a summary
SECTIONS = {  # section of the page → pictures in it; one that is named nowhere stands with those of training
    "decisions": ("choices", "pacing"),
    "training": ("competence", "calibration", "training_loss", "evaluations", "lr_mass"),
    "drawn": ("shares", "passes", "lanes", "ess"),
    "costs": ("cost", "ranks"),
    "scores": ("scores", "correlations"),
}
BLOCK = "campus: "  # before the names of a recipe's settings in the ledger


def run_content(facts: RunOnDisk, pictures: Sequence[Picture]) -> dict[str, Any]:
    """The variables of the template `run`."""
    drawn = [] if facts.draw is None else draw_tables(facts.draw, facts.rows_by_domain)
    has_texts = any(example.text for pair in facts.examples.values() for example in (*pair.easiest, *pair.hardest))
    return {
        "title": f"Curriculum run {facts.name}",
        "name": facts.name,
        "finished": facts.finished,
        "summary": summary(facts),
        "facts": head(facts),
        "numbers": numbers(facts),
        "markdown": run_markdown(facts),
        "warnings": facts.warnings,
        "advice": advice(facts),
        "map": None if facts.map is None else map_section(facts.map, pictures),
        "rows": None if facts.map is None or facts.map.listed is None else row_section(facts.map.listed),
        "value": None if facts.value is None else value_section(facts.value, pictures),
        "prompts": None if facts.prompts is None else prompt_section(facts.prompts, pictures),
        "pictures": grouped(pictures),
        "missing": missing(facts),
        "decisions": decisions(facts),
        "steer": None if facts.steer is None else steer_section(facts.steer, pictures),
        "weights": None if facts.weights is None else weight_section(facts.weights, pictures),
        "drawn": drawn,
        "examples": [
            {
                "metric": label,
                "easiest": _rows(f"Easiest by {label}", pair.easiest, has_texts, opened=has_texts and not i),
                "hardest": _rows(f"Hardest by {label}", pair.hardest, has_texts, opened=has_texts and not i),
            }
            for i, (label, pair) in enumerate(facts.examples.items())
        ],
        "examples_note": "Scores before training; higher is harder. Rows are numbered as the trainer prepared them"
        + ("." if has_texts else "; their texts were not kept with this run."),
        "recipe": facts.recipe,
        "again": again(facts),
        "footer": "Made by campus_tune from the run's ledger and scores. This page is one file and needs no network.",
    }


def grouped(pictures: Sequence[Picture]) -> dict[str, list[Picture]]:
    """Section → its pictures, in the page's sequence; not those of sections that bring their own."""
    elsewhere = (MAP_PICTURE, TRANSFER_PICTURE, *STEER_PICTURES, *WEIGHT_PICTURES, *PROMPT_PICTURES)
    found: dict[str, list[Picture]] = {section: [] for section in SECTIONS}
    of = {name: section for section, names in SECTIONS.items() for name in names}
    for picture in pictures:
        if picture.name not in elsewhere:
            found[of.get(picture.name, "training")].append(picture)
    return found


def advice(facts: RunOnDisk) -> list[str]:
    """What may help, a sentence each."""
    return [f"{one['line'][:1].upper()}{one['line'][1:].rstrip('.')}." for one in facts.end.get("advice", [])]


def run_markdown(facts: RunOnDisk) -> str:
    """The run in short, for a pull request."""
    found, prompts = facts.map, facts.prompts
    of_prompts = None if prompts is None else prompts.map
    return short.summary(
        f"Curriculum run `{facts.name}`",
        short.marked(summary(facts)),
        short.of_facts(head(facts)),
        "" if found is None else short.marked(map_sentence(found)),
        "" if found is None or not found.domains else short.of_table(regions_table(found)),
        "" if prompts is None or not prompts.stages else short.marked(gradient_sentence(prompts)),
        "" if of_prompts is None else short.of_table(regions_table_of_prompts(of_prompts)),
        "\n".join(f"- {short.marked(line)}" for line in advice(facts)),
        "\n".join(f"- warning: {short.marked(line)}" for line in facts.warnings[:MOST_WARNINGS]),
    )


def summary(facts: RunOnDisk) -> str:
    """The run in a sentence or two."""
    total = facts.cost.get("all")
    if not facts.finished:
        parts = [f"{facts.step} of {facts.total_steps} steps are trained, in {_n(len(facts.stages), 'stage')} so far"]
    else:
        visits = facts.end.get("visits", sum(stage.rows for stage in facts.stages))
        parts = [
            f"{_n(visits, facts.noun)} were trained in {_n(len(facts.stages), 'stage')} over {_n(facts.step, 'step')}"
        ]
    if total is not None:
        within = "within" if total <= facts.budget + 1e-9 else "over"
        parts.append(
            f"the curriculum cost {total:.1%} of the training compute, {within} its budget of {facts.budget:.1%}"
        )
    return f"{'; '.join(parts)}. {audit_line(facts)}"


def audit_line(facts: RunOnDisk) -> str:
    """Whether the planned rows were trained."""
    return f"Order audit: {facts.audit_said}." if facts.audit_said else "No step was audited yet."


def _n(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def head(facts: RunOnDisk) -> list[Fact]:
    """What a person wants first: was it trained as planned, at what cost, which rows look wrong, how long it took."""
    found = []
    for name, (checked, passed) in (
        ("Order audit", facts.audit),
        ("Weights audit", (0, 0) if facts.weights is None else facts.weights.audit),
    ):
        if checked:
            bad = "" if passed == checked else "bad"
            found.append(Fact(name, f"{passed:,} of {checked:,}", "steps as planned", bad))
    if facts.cost:
        total = facts.cost["all"] - facts.cost.get(VALUE, 0.0)  # which has an account of its own
        over = "bad" if total > 1.2 * facts.budget else ""
        found.append(Fact("Cost", f"{total:.1%}", f"of the training; budget {facts.budget:.1%}", over))
    if facts.map is not None and facts.map.n_rows:
        seen = facts.map.dirt
        wrong = f"; {span(seen)} estimated wrong" if seen is not None and seen.seen else ""
        found.append(Fact("Suspects", f"{facts.map.n_suspects:,}", f"of {facts.map.n_rows:,} rows{wrong}"))
    found += [] if facts.prompts is None else prompt_numbers(facts.prompts)
    found.append(Fact("Steps", f"{facts.step:,}", how_far(facts)))
    if facts.seconds:
        spent = sum(seconds for name, seconds in facts.seconds.items() if name not in ("training", "share"))
        trained = clock(facts.seconds.get("training", 0.0))
        found.append(Fact("Training time", trained, f"and {clock(spent)} of measuring"))
    return found


def numbers(facts: RunOnDisk) -> list[Fact]:
    """What else there is to count."""
    seen, shuffled = facts.end.get("rows_seen"), sum(stage.chosen == SHUFFLE for stage in facts.stages)
    by_score = facts.prompts is not None and facts.draw is not None  # which thinning goes by
    of_rows = "" if seen is None else f"{seen / facts.n_rows:.0%} of them trained"
    found = [
        Fact(f"Training {facts.noun}s", f"{facts.n_rows:,}", of_rows),
        Fact("Stages", f"{len(facts.stages):,}", f"{shuffled} of them shuffled" if shuffled and not by_score else ""),
    ]
    if padding := facts.end.get("padding"):
        found.append(Fact("Padding", f"{padding['share']:.0%}", f"{padding['at_random']:.0%} if drawn at random"))
    return found


def how_far(facts: RunOnDisk) -> str:
    """What is to be said of the number of steps: nothing of a run that has come to its planned end."""
    of = f"of {facts.total_steps:,}"
    if facts.steer is not None and facts.steer.stopped is not None:
        return f"{of}, stopped early"
    return "" if facts.finished else of


def clock(seconds: float) -> str:
    """A time as people say it.

    >>> clock(7.2), clock(207.5), clock(7300)
    ('7.2 s', '3 min 28 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def missing(facts: RunOnDisk) -> list[str]:
    """What a reader may look for and not find, with the reason."""
    sentences = []
    if facts.prompts is not None:
        return [] if facts.prompts.map is not None else ["The map of the prompts: it is made when a run is over."]
    if not facts.probes:
        sentences.append("Competence: this run had no held-out probes.")
    if not facts.rates:
        sentences.append(
            "Learning rate on easy and hard rows: a run writes it into learning_rate.json when it is over, where "
            "training shows the losses of single rows."
        )
    if not facts.scores:
        sentences.append("Scores: none are there yet.")
    return sentences


def decisions(facts: RunOnDisk) -> HtmlTable:
    """One row for each stage."""
    offered = [name for name in facts.choices if any(name in stage.offers for stage in facts.stages)]
    columns: dict[str, list[Cell]] = {
        "stage": [number(stage.index) for stage in facts.stages],
        "epoch": [number(stage.epoch) for stage in facts.stages],
        "step": [number(stage.step) for stage in facts.stages],
        "chosen": [words(stage.chosen) for stage in facts.stages],
        "because": [words(stage.outcome) for stage in facts.stages],
        "scope from": [number(stage.scope[0], ".0%") for stage in facts.stages],
        "scope to": [number(stage.scope[1], ".0%") for stage in facts.stages],
        f"{facts.noun}s": [number(stage.rows) for stage in facts.stages],
        "random": [number(stage.random_rows) for stage in facts.stages],
        "repeats": [number(stage.repeated_rows) for stage in facts.stages],
        "training loss": [number(stage.train_loss, ".3f") for stage in facts.stages],
    }
    for name in ("epoch", "scope from", "random", "repeats"):
        if not any(cell.sort for cell in columns[name]):  # zeros alone say nothing and take room
            del columns[name]
    if facts.prompts is not None:  # their stages say what answers earned
        del columns["training loss"]
    for name in offered:
        losses = [stage.offers[name].loss if name in stage.offers else None for stage in facts.stages]
        values = [None if loss is None else math.exp(min(loss, 700.0)) for loss in losses]
        columns[f"offer {name}"] = [number(perplexity, ",.4g") for perplexity in values]
    rows = list(zip(*columns.values(), strict=True))
    head = [name.removeprefix("offer ") for name in columns]
    return HtmlTable("Decisions; the last columns are the perplexities offered", head, rows)


def _rows(caption: str, examples: Sequence[Example], texts: bool, *, opened: bool) -> HtmlTable:
    domains = any(example.domain for example in examples)
    head = ["row", "score", *(["text"] if texts else []), *(["domain"] if domains else [])]
    rows = [
        [
            Cell(str(example.row), example.row),
            number(example.score, ",.4g"),
            *([words(example.text, kind="text")] if texts else []),
            *([words(example.domain)] if domains else []),
        ]
        for example in examples
    ]
    return HtmlTable(caption, head, rows, opened)


def again(facts: RunOnDisk) -> list[str]:
    """How to train the same run once more."""
    past = facts.run["past"]
    if facts.prompts is not None:
        same = (
            "Put the settings above into the YAML of the training run and start it with the same model, prompts, "
            "reward functions, trainer settings and seeds: as long as the model samples the same answers, the same "
            f"prompts are drawn. Their fingerprint is `{past.get('dataset', 'unknown')}` for {facts.n_rows:,} prompts."
        )
        return [same]
    train = (
        "Put the settings above into the YAML of the training run and start `campus-tune sft --config RECIPE.yaml` "
        "with the same model, training rows, trainer settings and seeds: the same rows are trained in every step."
    )
    same = (
        f"They are the same training rows when the new ledger's fingerprint is `{past.get('dataset', 'unknown')}` for "
        f"{facts.n_rows:,} rows, {past.get('global_batch', '?')} rows in a step. `campus-tune diff` compares two runs "
        "step by step."
    )
    return [train, same]
