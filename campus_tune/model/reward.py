"""What a reward or quality model says of the training rows: the logit of its sequence-classification head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from campus_tune.data.turns import Conversation
from campus_tune.metrics.reward import Reward, pick_label
from campus_tune.model.answer_alone import Labelled, PadRight, TokenLists
from campus_tune.model.batches import long_rows_first, token_bound
from campus_tune.model.conversations import (
    Conversations,
    has_template,
    plain_texts,
    render_whole,
)
from campus_tune.model.measure import SLOW
from campus_tune.model.peers import Peers
from campus_tune.model.reference import (
    Reference,
    find,
    fits_memory,
    from_folder,
    let_go,
    other_kind,
    own_tokenizer,
    quietly,
)
from campus_tune.model.reference_losses import CHUNK
from campus_tune.model.subject import undisturbed
from campus_tune.words.progress import bar
from campus_tune.words.types import FloatArray, IntArray, RowSource

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

SETTING = "quality: model"
KIND = "a sequence-classification model"


@contextmanager
def load_reward(
    reward: Reward, *, device: torch.device, dtype: torch.dtype | None = None, trust_remote_code: bool = False
) -> Iterator[tuple[Reference, int]]:
    """A reward model and which of its logits counts, there as long as the context lasts.

    Args:
        reward: names the model and the label.
        device: where to put it.
        dtype: of its weights; None as they are stored.
        trust_remote_code: only if the user's own TRL configuration says so.

    Raises:
        RecipeError: there is no such model, it is no sequence classifier, it has no tokenizer, or it does not fit.
        MetricError: it has several labels and none is chosen, or one that it has not.
    """
    from transformers import AutoModelForSequenceClassification

    name = reward.model
    with quietly(), fits_memory(SETTING, name):
        config, base = find(name, SETTING, trust_remote_code=trust_remote_code)
        if base is not None:
            raise other_kind(name, SETTING, KIND, "it is an adapter. Merge it first: merge_and_unload() in peft")
        label = pick_label(config, reward.logit)
        loading = {"dtype": dtype or "auto", "trust_remote_code": trust_remote_code}
        model = from_folder(AutoModelForSequenceClassification, name, SETTING, KIND, loading)
        tokenizer = own_tokenizer(name, None, SETTING, trust_remote_code)
        if model.config.get_text_config().pad_token_id is None:  # how it finds a row's last token in a padded batch
            model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
        model.to(device).eval()
    reference = Reference(SETTING, name, model, tokenizer, device)
    del model
    try:
        yield reference, label
    finally:
        let_go(reference)


class Judged(TokenLists):
    """Conversations as a reward model reads them: by its template, else as a pair of texts, prompt and answer.

    Args:
        conversations: as text.
        tokenizer: of the reward model.
        limit: tokens that are kept of each.
    """

    def __init__(self, conversations: Conversations, tokenizer: PreTrainedTokenizerBase, *, limit: int | None) -> None:
        super().__init__(len(conversations), limit)
        self._conversations, self._tokenizer = conversations, tokenizer

    def whole(self, places: Sequence[int]) -> list[Labelled]:
        """These rows, whole; nothing carries loss."""
        return [Labelled(ids, ids) for ids in map(self._ids, self._conversations.__getitems__(places))]

    def _ids(self, conversation: Conversation) -> list[int]:
        tokenizer = self._tokenizer
        if conversation.is_chat and has_template(tokenizer):
            text = render_whole(conversation, tokenizer)
            return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        texts = plain_texts(conversation)
        prompt, answer = "".join(texts[:-1]), texts[-1]
        pair = (prompt, answer) if prompt else (answer,)
        return list(tokenizer(*pair, verbose=False)["input_ids"])


def reward_scores(
    reference: Reference,
    dataset: Dataset,
    rows: IntArray,
    *,
    trained: RowSource | None = None,
    label: int,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None,
    text_field: str = "text",
    peers: Peers,
    what: str,
) -> tuple[FloatArray, int]:
    """The logit of each row, shape (n,), and how many rows were cut to the model's context.

    Args:
        reference: a loaded reward model.
        dataset: the prepared training set, with the columns that it had before.
        rows: positions in it, shape (n,).
        trained: the rows as the collator makes them; None where the columns say it.
        label: which logit counts.
        tokenizer: the one that `dataset` was prepared with, or None.
        max_length: of training, in tokens; None for no limit.
        text_field: the column of plain texts.
        peers: the processes that share the work.
        what: the word before the progress bar.

    Raises:
        RecipeError: the model does not fit into memory with its batches.
    """
    conversations = Conversations(
        dataset, rows, tokenizer, trained=trained, max_length=max_length, text_field=text_field
    )
    told = Judged(conversations, reference.tokenizer, limit=reference.limit(None))
    starts = bar(range(0, len(told), CHUNK), desc=f"{what}: tokens", unit="chunk", delay=SLOW)
    chunks = (range(start, min(start + CHUNK, len(told))) for start in starts)
    lengths = np.array([len(row.ids) for chunk in chunks for row in told.whole(chunk)], dtype=np.int64)  # before cuts
    kept = lengths if told.limit is None else np.minimum(lengths, told.limit)
    scores, known = np.zeros(len(rows)), np.zeros(len(rows), dtype=np.bool_)
    pad = reference.model.config.get_text_config().pad_token_id
    batches = long_rows_first(kept, 1 if pad is None else token_bound(reference.device))  # without, one row at a time
    collate = PadRight(0 if pad is None else int(pad))
    mine = batches[peers.rank :: peers.world]
    with fits_memory(reference.setting, reference.name), undisturbed(reference.model):
        for batch in bar(mine, desc=what, unit="batch", delay=SLOW, disable=not peers.leads):
            inputs = collate(told.__getitems__(batch.tolist()))
            inputs.pop("labels")
            logits = reference.model(**reference.place(inputs)).logits  # (n, labels)
            scores[batch] = logits[:, label].double().cpu().numpy()
            known[batch] = True
    merged = peers.merge({"score": scores}, known)
    return np.asarray(merged["score"], dtype=np.float64), int((kept < lengths).sum())
