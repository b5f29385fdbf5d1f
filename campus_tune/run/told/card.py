"""The curriculum's section of the model card, so that a published adapter says how it was trained."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from campus_tune.run.ledger import FILE as LEDGER
from campus_tune.run.ledger import audited, read_ledger
from campus_tune.words.files import atomic_write

if TYPE_CHECKING:
    from transformers import Trainer

    from campus_tune.run.situation import Situation

TAGS = ["campus", "curriculum-learning"]
BEGINS, ENDS = "<!-- campus_tune: the curriculum -->", "<!-- campus_tune: end -->"  # around what is ours of a card


def section(now: Situation) -> str:
    """Markdown: the settings, what was decided and audited so far, and at the end what the map says of the rows."""
    watch, chosen = now.watch, {name: rows for name, rows in now.curriculum.rows_by_choice.items() if rows}
    total = max(1, sum(chosen.values()))
    of_rows = [event["sentence"] for event in read_ledger(now.folder / LEDGER) if "sentence" in event]
    lines = [
        BEGINS,
        "## Curriculum",
        "",
        "Trained with [CAMPUS](https://arxiv.org/abs/2509.13790)-style curriculum learning by campus_tune:",
        "",
        f"- rows by sub-curriculum: {', '.join(f'{name} {rows / total:.0%}' for name, rows in chosen.items())}",
        f"- order audit: {audited(watch.checked, watch.passed, labels=watch.labels_seen)}",
        f"- cost of the curriculum: {now.budget.shares()['all']:.1%} of the training compute",
        *(f"- the data map of its rows: {sentence}" for sentence in of_rows),
        "",
        "```yaml",
        now.config.to_yaml().rstrip(),
        "```",
        ENDS,
    ]
    return "\n".join(lines) + "\n"


def add_to_card(trainer: Trainer, planned: Callable[[], Situation | None]) -> None:
    """Wrap this trainer's `create_model_card`: trl writes the card anew at every checkpoint.

    It may be the user's own: a card that it has not written is left alone.

    Args:
        trainer: of a class that may have no cards.
        planned: gives what is to be said; None before the run is planned.
    """
    if not hasattr(trainer, "create_model_card"):
        return
    if hasattr(trainer, "_tag_names"):
        trainer._tag_names = [*trainer._tag_names, *TAGS]
    create: Callable[..., object] = trainer.create_model_card

    @functools.wraps(create)
    def create_with_section(*args: object, **kwargs: object) -> object:
        card = Path(str(trainer.args.output_dir)) / "README.md"
        before = _text(card)
        created = create(*args, **kwargs)
        text, now = _text(card), planned()
        if trainer.is_world_process_zero() and now is not None and text is not None and text != before:
            theirs, begins, rest = text.partition(BEGINS)
            if begins:  # a section that we have written earlier was kept
                theirs += rest.partition(ENDS)[2]
            atomic_write(card, f"{theirs.rstrip()}\n\n{section(now)}")
        return created

    trainer.create_model_card = create_with_section  # type: ignore[method-assign,assignment]  # of this instance, on purpose


def _text(card: Path) -> str | None:
    return card.read_text("utf-8") if card.exists() else None
