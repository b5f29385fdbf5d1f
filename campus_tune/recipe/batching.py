"""How a step's rows become micro batches, by the recipe; what `auto` will be, as far as a trainer's YAML says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

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


def foreseen(settings: Mapping[str, Any]) -> str:
    """What `batching: auto` will be in a run of these settings; the run itself looks at the model.

    Args:
        settings: of the training YAML.
    """
    if settings.get("padding_free"):
        return "`batching: auto` will be flat: the trainer's padding_free is on."
    attention = settings.get("attn_implementation")
    if not flash(attention):
        return f"`batching: auto` will be step: {padded_attention(attention)} (attn_implementation)."
    return (
        f"`batching: auto` will be flat with {attention}, unless the model, its loss or its collator cannot take rows "
        "so; the run says which at its start."
    )
