"""The curriculum's section of the model card, so that a published adapter says how it was trained."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from campus_tune.recipe.config import CampusConfig
from campus_tune.run.ledger import FILE as LEDGER
from campus_tune.run.ledger import audited, read_ledger
from campus_tune.run.ledger_lines import audit_words
from campus_tune.run.told.prompt_lines import answered_line
from campus_tune.run.told.steering_lines import summed_up
from campus_tune.run.told.weight_lines import card_line
from campus_tune.words.files import atomic_write
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from transformers import Trainer

    from campus_tune.run.prompts.situation import PromptPosition, PromptSituation
    from campus_tune.run.situation import Situation

TAGS = ["campus", "curriculum-learning"]
BEGINS, ENDS = "<!-- campus_tune: the curriculum -->", "<!-- campus_tune: end -->"  # around what is ours of a card
OF_ROWS = {"map": "the data map of its rows", "value": "what its rows were worth to the probes"}  # event → what it says


def section(now: Situation) -> str:
    """Markdown: the settings, what was decided so far, and of a run that is over what the audit and the map say.

    A checkpoint's card says at which step it was written: the audit of what is trained by then is no verdict yet.
    """
    watch, events = now.watch, read_ledger(now.folder / LEDGER)
    told = (event for event in events if event["event"] in OF_ROWS and "sentence" in event)
    of_rows = [f"{OF_ROWS[event['event']]}: {event['sentence']}" for event in told]
    weighted, over = card_line(events), _is_over(events)
    audit = audited(watch.checked, watch.passed, labels=watch.labels_seen)
    lines = [
        "rows by sub-curriculum: " + _shares(now.curriculum.rows_by_choice),
        f"order audit: {audit}" if over else _at_step(now.curriculum.step, now.curriculum.total_steps),
        *([weighted] if over and weighted else []),
        *summed_up(events),
        f"cost of the curriculum: {now.budget.shares()['all']:.1%} of the training compute",
        *of_rows,
    ]
    return _whole(
        "Trained with [CAMPUS](https://arxiv.org/abs/2509.13790)-style curriculum learning", lines, now.config
    )


def prompt_section(now: PromptSituation, position: PromptPosition) -> str:
    """The same of a run that is driven by reward.

    Args:
        now: the run.
        position: where it is.
    """
    events = read_ledger(now.folder / LEDGER)
    mapped = [event["sentence"] for event in events if event["event"] == "prompt_map"]
    over = _is_over(events)
    answered = answered_line(events[-1]) if over else None
    lines = [
        "prompts by sub-curriculum: " + _shares(now.curriculum.rows_by_choice),
        f"order audit: {audit_words(events[-1])}" if over else _at_step(position.steps, now.total_steps),
        *([f"answers: {answered}"] if answered else []),
        f"cost of the curriculum: {now.budget.shares()['all']:.1%} of the training compute",
        *(f"the map of its prompts: {sentence}" for sentence in mapped[-1:]),
    ]
    return _whole("Trained by reward with a curriculum of prompts", lines, now.config)


def _is_over(events: Sequence[Json]) -> bool:
    return any(event["event"] == "end" for event in events)


def _shares(by_choice: Mapping[str, int]) -> str:
    """Which part each sub-curriculum gave."""
    n = max(1, sum(by_choice.values()))
    return ", ".join(f"{name} {rows / n:.0%}" for name, rows in by_choice.items() if rows)


def _at_step(step: int, total: int) -> str:
    return f"not over: this is a checkpoint at step {step:,} of {total:,}"


def _whole(how: str, lines: Sequence[str], config: CampusConfig) -> str:
    """The section: what it is, lines, settings."""
    said = [f"- {line}" for line in lines]
    settings = ["```yaml", config.to_yaml().rstrip(), "```"]
    return "\n".join([BEGINS, "## Curriculum", "", f"{how} by campus_tune:", "", *said, "", *settings, ENDS]) + "\n"


def add_to_card(trainer: Trainer, section_now: Callable[[], str | None]) -> Callable[[Trainer], None] | None:
    """Wrap this trainer's `create_model_card`: trl writes the card anew at every checkpoint.

    It may be the user's own: a card that it has not written is left alone.

    Args:
        trainer: of a class that may have no cards.
        section_now: gives what is to be said; None before the run is planned.

    Returns:
        What says it anew in a card that it has written, when the run is over, in the process that leads: at its last
        checkpoint not all was known. None for a trainer without cards.
    """
    if not hasattr(trainer, "create_model_card"):
        return None
    ours = False  # the card is one that this trainer has written

    def say_in_card() -> None:
        text, said = _text(trainer), section_now()
        if text is None or said is None:
            return
        theirs, begins, rest = text.partition(BEGINS)
        if begins:  # a section that we have written earlier was kept
            theirs += rest.partition(ENDS)[2]
        atomic_write(_card(trainer), f"{theirs.rstrip()}\n\n{said}")

    def say_again(_: Trainer) -> None:
        if ours:
            say_in_card()

    if hasattr(trainer, "_tag_names"):
        trainer._tag_names = [*trainer._tag_names, *TAGS]
    create: Callable[..., object] = trainer.create_model_card

    @functools.wraps(create)
    def create_with_section(*args: object, **kwargs: object) -> object:
        nonlocal ours
        before = _text(trainer)
        created = create(*args, **kwargs)
        if trainer.is_world_process_zero() and _text(trainer) != before:
            say_in_card()
            ours = True
        return created

    trainer.create_model_card = create_with_section  # type: ignore[method-assign,assignment]  # of this instance, on purpose
    return say_again


def _card(trainer: Trainer) -> Path:
    return Path(str(trainer.args.output_dir)) / "README.md"


def _text(trainer: Trainer) -> str | None:
    return _card(trainer).read_text("utf-8") if _card(trainer).exists() else None
