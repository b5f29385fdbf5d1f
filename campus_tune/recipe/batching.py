"""How a step's rows become micro batches, by the recipe; what `auto` will be, as far as a trainer's YAML says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from campus_tune.words.findings import Finding

AUTO = "auto"
Batching = Literal["auto", "step", "plain", "flat"]


def flash(attention: str | None) -> bool:
    """Whether an attention of this name takes rows of variable lengths, as transformers names them.

    >>> flash("flash_attention_2"), flash("kernels-community/vllm-flash-attn3"), flash("sdpa"), flash(None)
    (True, True, False, False)
    """
    return attention is not None and "flash" in attention


def padded_attention(attention: str | None) -> str:
    """Why rows are padded under this attention."""
    return f"the model's attention ({attention or 'sdpa'}) takes rows padded; flash attention would take them flat"


def foreseen(settings: Mapping[str, Any], asked: Batching) -> list[Finding]:
    """What `auto` will be in a run of these settings; the run itself looks at the model.

    Args:
        settings: of the training YAML; a bare block says nothing of a trainer.
        asked: in the recipe.
    """
    if asked != AUTO or "campus" not in settings:
        return []
    attention = settings.get("attn_implementation")
    if settings.get("padding_free"):
        will_be = "flat: the trainer's padding_free is on."
    elif flash(attention):
        will_be = (
            f"flat with {attention}, unless the model, its loss or its collator cannot take rows so; the run says "
            "which, and why."
        )
    else:
        will_be = f"step: {padded_attention(attention)} (attn_implementation)."
    return [Finding("info", f"`batching: auto` will be {will_be}")]
