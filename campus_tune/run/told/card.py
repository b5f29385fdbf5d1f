"""The curriculum's section of the model card, so that a published adapter says how it was trained."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from campus_tune.run.ledger import audited
from campus_tune.words.files import atomic_write

TAGS = ["campus", "curriculum-learning"]
BEGINS, ENDS = "<!-- campus_tune: the curriculum -->", "<!-- campus_tune: end -->"  # around what is ours of a card


def section(run: Any) -> str:
    """Markdown: the settings, and what was decided and audited so far. Empty before the run is planned."""
    if run.watch is None or run.journal is None:
        return ""
    watch, chosen = run.watch, {name: rows for name, rows in run.curriculum.rows_by_choice.items() if rows}
    total = max(1, sum(chosen.values()))
    lines = [
        BEGINS,
        "## Curriculum",
        "",
        "Trained with [CAMPUS](https://arxiv.org/abs/2509.13790)-style curriculum learning by campus_tune:",
        "",
        f"- rows by sub-curriculum: {', '.join(f'{name} {rows / total:.0%}' for name, rows in chosen.items())}",
        f"- order audit: {audited(watch.checked, watch.passed, labels=watch.labels_seen)}",
        f"- cost of the curriculum: {run.journal.budget.shares()['all']:.1%} of the training compute",
        "",
        "```yaml",
        run.config.to_yaml().rstrip(),
        "```",
        ENDS,
    ]
    return "\n".join(lines) + "\n"


def add_to_card(trainer: Any, run: Any) -> None:
    """Wrap this trainer's `create_model_card`: trl writes the card anew at every checkpoint.

    It may be the user's own: a card that it has not written is left alone.
    """
    if not hasattr(trainer, "create_model_card"):
        return
    if hasattr(trainer, "_tag_names"):
        trainer._tag_names = [*trainer._tag_names, *TAGS]
    create = trainer.create_model_card

    @functools.wraps(create)
    def create_with_section(*args: Any, **kwargs: Any) -> Any:
        card = Path(trainer.args.output_dir) / "README.md"
        before = _text(card)
        created = create(*args, **kwargs)
        text, ours = _text(card), section(run)
        if trainer.is_world_process_zero() and ours and text not in (None, before):
            atomic_write(card, f"{_without_ours(str(text)).rstrip()}\n\n{ours}")
        return created

    trainer.create_model_card = create_with_section


def _text(card: Path) -> str | None:
    return card.read_text("utf-8") if card.exists() else None


def _without_ours(text: str) -> str:
    """A card without the section that we have written earlier, if it was kept."""
    before, begins, rest = text.partition(BEGINS)
    return before + rest.partition(ENDS)[2] if begins else text
