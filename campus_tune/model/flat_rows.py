"""What `batching: auto` becomes: rows flat behind one another where the model reads them so, else padded.

Flat rows need no padding at all. The model must then be told where each row ends, and every part of it that looks at
other tokens must go by that: attention of variable lengths does (flash attention), one that takes a mask makes a square
of the whole micro batch; layers that carry a state from token to token do not in every model. A loss of the user's own
may read rows as lines of a matrix. Where anything of this is not known, rows are padded, which is always right.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from campus_tune.model import compat
from campus_tune.model.compat import Collator
from campus_tune.recipe.batching import AUTO, Batching, flash, padded_attention

if TYPE_CHECKING:
    from transformers import Trainer

# Kinds of layers in which tokens meet in the attention alone.
ATTENTION = {"full_attention", "sliding_attention", "chunked_attention", "dense", "sparse"}


@dataclass(frozen=True)
class Layout:
    """How rows are given to the model.

    Args:
        batching: what the recipe's setting means here: `step`, `plain` or `flat`.
        why: it became that, where the recipe says `auto`; else empty.
    """

    batching: Batching
    why: str = ""


def layout_of(trainer: Trainer, collator: Collator, asked: Batching) -> Layout:
    """What a recipe's `batching` means under this trainer.

    Args:
        trainer: whose model and loss decide.
        collator: of its training rows.
        asked: in the recipe.
    """
    if asked != AUTO:
        return Layout(asked)
    if getattr(collator, "padding_free", False):
        return Layout("flat", "the trainer's padding_free is on")
    why = _why_padded(trainer, collator)
    if why is not None:
        return Layout("step", why)
    return Layout("flat", f"the model's attention ({compat.attention_of(trainer)}) takes rows of any lengths")


def _why_padded(trainer: Trainer, collator: Collator) -> str | None:
    """The first reason why rows should not lie flat; None where there is none."""
    model: Any = compat.model_of(trainer)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not compat.can_flatten(collator):
        return f"{type(compat.inner_collator(collator)).__name__} cannot flatten rows"
    if (loss := compat.why_rows_stay_as_drawn(trainer)) is not None:
        return loss
    if compat.is_taken_at_its_word(trainer):
        return "the model or its loss is not the library's, and may read rows one by one"
    if compat.learns_prompts(model):
        return "the adapter adds places to each row that are no tokens"
    config = base.config.get_text_config()
    states = compat.carries_a_state(base) or bool({*(getattr(config, "layer_types", None) or ())} - ATTENTION)
    if states or base.config.is_encoder_decoder:
        return f"{type(base).__name__} has more than attention in which tokens meet"
    if "position_ids" not in inspect.signature(type(base).forward).parameters:
        return f"{type(base).__name__} takes no positions, by which it would know where a row begins"
    attention = compat.attention_of(trainer)
    return None if flash(attention) else padded_attention(attention)
