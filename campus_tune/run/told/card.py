"""The curriculum's section of the model card, so that a published adapter says how it was trained."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from campus_tune.run.ledger import FILE as LEDGER
from campus_tune.run.ledger import audited, read_ledger
from campus_tune.run.told.steering_lines import summed_up
from campus_tune.run.told.weight_lines import card_line
from campus_tune.words.files import atomic_write

if TYPE_CHECKING:
    from transformers import Trainer

    from campus_tune.run.situation import Situation

TAGS = ["campus", "curriculum-learning"]
BEGINS, ENDS = "<!-- campus_tune: the curriculum -->", "<!-- campus_tune: end -->"  # around what is ours of a card
OF_ROWS = {"map": "the data map of its rows", "value": "what its rows were worth to the probes"}  # event → what it says


def section(now: Situation) -> str:
    """Markdown: the settings, what was decided so far, and of a run that is over what the audit and the map say.

    A checkpoint's card says at which step it was written: the audit of what is trained by then is no verdict yet.
    """
    watch, chosen = now.watch, {name: rows for name, rows in now.curriculum.rows_by_choice.items() if rows}
    rows_drawn = max(1, sum(chosen.values()))
    events = read_ledger(now.folder / LEDGER)
    told = (event for event in events if event["event"] in OF_ROWS and "sentence" in event)
    of_rows = [f"{OF_ROWS[event['event']]}: {event['sentence']}" for event in told]
    weighted = card_line(events)
    audit = audited(watch.checked, watch.passed, labels=watch.labels_seen)
    over = any(event["event"] == "end" for event in events)
    step, total = now.curriculum.step, now.curriculum.total_steps
    lines = [
        BEGINS,
        "## Curriculum",
        "",
        "Trained with [CAMPUS](https://arxiv.org/abs/2509.13790)-style curriculum learning by campus_tune:",
        "",
        f"- rows by sub-curriculum: {', '.join(f'{name} {rows / rows_drawn:.0%}' for name, rows in chosen.items())}",
        f"- order audit: {audit}" if over else f"- not over: this is a checkpoint at step {step:,} of {total:,}",
        *([f"- {weighted}"] if over and weighted else []),
        *(f"- {sentence}" for sentence in summed_up(events)),
        f"- cost of the curriculum: {now.budget.shares()['all']:.1%} of the training compute",
        *(f"- {sentence}" for sentence in of_rows),
        "",
        "```yaml",
        now.config.to_yaml().rstrip(),
        "```",
        ENDS,
    ]
    return "\n".join(lines) + "\n"


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
