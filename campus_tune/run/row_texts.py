"""What rows of a run say, for lists that people read: cut, and prompt and answer apart where they can be told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from campus_tune.data.said_hashes import said_in
from campus_tune.model import compat
from campus_tune.run.told.examples import decoded
from campus_tune.scores.dropping import shape_of
from campus_tune.words.types import Json
from campus_tune.words.wording import cut

if TYPE_CHECKING:
    from transformers import Trainer

LONGEST = 600  # characters of a prompt or an answer that are kept


def texts_of(trainer: Trainer, picked: Sequence[int], longest: int = LONGEST) -> list[Json]:
    """`prompt` and `answer` of some rows, or their `text` where these cannot be told apart.

    Args:
        trainer: that has prepared them.
        picked: positions in its training set.
        longest: characters of a prompt or an answer that are kept.
    """
    shape, end = shape_of(trainer)
    rows, tokenizer = compat.training_rows(trainer), compat.tokenizer_of(trainer)
    said = said_in(rows, picked, shape, end=end)
    if said is None:
        return [{"text": decoded(rows, row, tokenizer, longest=longest)} for row in picked]
    parts = zip(said.prompts, said.answers, strict=True)
    pairs = ((cut(prompt.strip(), longest), cut(answer.strip(), longest)) for prompt, answer in parts)
    return [{"prompt": prompt, "answer": answer} if prompt else {"text": answer} for prompt, answer in pairs]
