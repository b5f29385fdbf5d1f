"""The training rows as text again, for a model that has its own tokenizer and chat template.

A row that is tokenised for one model says nothing to another. So its text is taken from the columns that preparation
leaves (`messages`, `prompt` and `completion`, `text`), else decoded, and tokenised anew, a batch at a time; which
turns carry loss is what the prepared tokens say. Where an answer begins and ends in the new tokens is found in the
rendered text: the template of the turns before it must be a prefix of the whole; where it is not, for templates that
rewrite earlier turns, the answer's own text is looked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from jinja2 import TemplateError

from campus_tune.data.prepared import items
from campus_tune.data.shapes import is_answer, turns_of
from campus_tune.data.token_hashes import IGNORED
from campus_tune.data.truncation import cut_to
from campus_tune.data.turns import Conversation, content, template_arguments
from campus_tune.model.answer_alone import Labelled, TokenLists, answer_mask, labelled
from campus_tune.words.errors import DataError
from campus_tune.words.types import BoolArray, IntArray, RowSource

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

Pieces: TypeAlias = list[tuple[str, bool]]  # parts of a text, and whether they carry loss
NOTHING: Mapping[str, Any] = MappingProxyType({})
AS_IT_STANDS = {"clean_up_tokenization_spaces": False}  # for decoding: some tokenizers take blanks out of texts


class Conversations(Sequence[Conversation]):
    """Rows of the training set as text, read when they are asked for.

    Args:
        dataset: prepared, with the columns it had before.
        rows: positions in it, shape (n,).
        tokenizer: the one it was prepared with: decodes where no text is left, and its end token is taken off.
        trained: the rows as the collator makes them; None where the columns of `dataset` say it.
        max_length: tokens at which preparation cuts rows off: of those, only what is trained is told.
        text_field: the column of plain texts.
    """

    def __init__(
        self,
        dataset: Dataset,
        rows: IntArray,
        tokenizer: PreTrainedTokenizerBase,
        *,
        trained: RowSource | None = None,
        max_length: int | None = None,
        text_field: str = "text",
    ) -> None:
        self._dataset = dataset.with_format(None) if hasattr(dataset, "with_format") else dataset
        self._trained = self._dataset if trained is None else trained
        self._rows, self._tokenizer, self._max_length = rows, tokenizer, max_length
        self._text_field = text_field

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: Any) -> Any:
        return self.__getitems__([place])[0]

    def __getitems__(self, places: Sequence[int]) -> list[Conversation]:
        """These rows, in one read."""
        rows = self._rows[list(places)].tolist()
        told = items(self._dataset, rows)
        trained = told if self._trained is self._dataset else items(self._trained, rows)
        return [self._as_trained(*pair) for pair in zip(told, trained, strict=True)]

    def _as_trained(self, item: Mapping[str, Any], trained: Mapping[str, Any]) -> Conversation:
        """One row, cut as its tokens are."""
        mask, stored, (ids, labels) = answer_mask(trained), labelled(item), labelled(trained)
        if labels != stored.labels[: len(labels)]:  # made by the collator: no column knows of them
            return self._decoded(trained["input_ids"], mask)
        whole = self._conversation(item, mask, trained["input_ids"])
        is_cut = self._max_length is not None and len(ids) >= self._max_length
        if not (is_cut or len(ids) < len(stored.ids)) or not hasattr(self._tokenizer, "decode"):
            return whole
        return cut_to(whole, str(self._tokenizer.decode(ids, skip_special_tokens=True, **AS_IT_STANDS)))

    def _conversation(self, item: Mapping[str, Any], mask: BoolArray, ids: IntArray) -> Conversation:
        everything = bool(mask[1:].all())
        completion, messages, text = item.get("completion"), item.get("messages"), item.get(self._text_field)
        if "prompt" not in item and (messages or isinstance(text, str)):
            completion = None  # trl asks for the prompt first
        if isinstance(completion, str):
            return Conversation((str(item.get("prompt") or ""), self._without_end(completion)), (everything, True))
        if completion:
            prompt = turns_of(item.get("prompt") or ())
            answer = turns_of(completion)
            counted = (everything,) * len(prompt) + (True,) * len(answer)
            return Conversation((*prompt, *answer), counted, template_arguments(item))
        if messages:
            turns = turns_of(messages)
            counted = tuple(everything or is_answer(turn) for turn in turns)
            return Conversation(turns, counted, template_arguments(item))
        if everything and isinstance(text, str):
            return Conversation((self._without_end(text),), (True,))
        return self._decoded(ids, mask)

    def _without_end(self, text: str) -> str:
        """Preparation has put the end token behind the text."""
        return text.removesuffix(getattr(self._tokenizer, "eos_token", None) or "")

    def _decoded(self, ids: IntArray, mask: BoolArray) -> Conversation:
        """Runs of tokens with and without loss."""
        if not hasattr(self._tokenizer, "decode"):
            raise DataError(
                "a model with another tokenizer must be given the rows as text, got token ids alone and no tokenizer "
                "to decode them with. Pass processing_class=tokenizer to the trainer, or keep a completion or "
                "messages column."
            )
        mask = np.append(mask[1:2], mask[1:])  # the first token goes with the second: it carries no loss anyway
        runs = [(kind, [place for place, _ in run]) for kind, run in groupby(enumerate(mask), key=lambda pair: pair[1])]
        ids = np.asarray(ids)
        texts = [self._tokenizer.decode(ids[places].tolist(), skip_special_tokens=True) for _, places in runs]
        return Conversation(tuple(texts), tuple(bool(kind) for kind, _ in runs))


class Retold(TokenLists):
    """Conversations in the words of another tokenizer.

    Args:
        conversations: as text.
        tokenizer: the other model's.
        limit: tokens that are kept of each.
    """

    def __init__(
        self, conversations: Conversations, tokenizer: PreTrainedTokenizerBase, *, limit: int | None = None
    ) -> None:
        super().__init__(len(conversations), limit)
        self._conversations, self._tokenizer = conversations, tokenizer

    def whole(self, places: Sequence[int]) -> list[Labelled]:
        """These rows, whole."""
        return [retell(conversation, self._tokenizer) for conversation in self._conversations.__getitems__(places)]


def retell(conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> Labelled:
    """One conversation as tokens, labels on those of its answers.

    Chats go through the tokenizer's template; without one their contents are joined by line breaks. Plain text gets
    the tokenizer's special tokens, and its end token if the last part carries loss.

    Raises:
        DataError: the template refuses the conversation.
    """
    templated = conversation.is_chat and has_template(tokenizer)
    if templated:
        pieces = list(_rendered(conversation, tokenizer))
    else:
        pieces = list(zip(plain_texts(conversation), conversation.counted, strict=True))
    ids, counted = _encode(pieces, tokenizer, special=not templated)
    end = tokenizer.eos_token_id
    if not templated and conversation.counted[-1] and end is not None and ids[-1:] != [end]:
        ids, counted = [*ids, end], [*counted, True]
    labels = [token if yes and place else IGNORED for place, (token, yes) in enumerate(zip(ids, counted, strict=True))]
    return Labelled(ids, labels)


def has_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """The tokenizer can render a chat."""
    return bool(getattr(tokenizer, "chat_template", None))


def plain_texts(conversation: Conversation) -> list[str]:
    """The turns without roles, as they follow one another."""
    if not conversation.is_chat:
        return [str(turn) for turn in conversation.turns]
    last = len(conversation.turns) - 1
    return [content(turn) + ("\n" if i < last else "") for i, turn in enumerate(conversation.turns)]


def render(
    turns: Sequence[Any],
    tokenizer: PreTrainedTokenizerBase,
    *,
    prompts: bool = False,
    given: Mapping[str, Any] = NOTHING,
) -> str:
    """A chat as the tokenizer's template writes it.

    Args:
        turns: messages.
        tokenizer: with a template.
        prompts: the model is to answer next.
        given: what the template is given besides (`turns.template_arguments`).
    """
    return str(tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=prompts, **given))


def render_whole(conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> str:
    """A whole chat.

    Raises:
        DataError: the template refuses it.
    """
    try:
        return render(conversation.turns, tokenizer, given=conversation.given)
    except TemplateError as error:
        roles = ", ".join(str(turn.get("role")) for turn in conversation.turns)
        raise DataError(
            f"the rows must suit the chat template of {tokenizer.name_or_path}, got a row with the roles {roles}, of "
            f"which it says: {error}. Take these rows out, give that tokenizer another chat_template, or choose "
            "another model."
        ) from error


def _rendered(conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[str, bool]]:
    """The rendered chat, cut where answers begin and end; an answer that is not found is an empty piece."""
    turns, full = conversation.turns, render_whole(conversation, tokenizer)
    if all(conversation.counted):
        yield full, True
        return
    at = 0
    for i in np.flatnonzero(conversation.counted).tolist():
        try:
            asked = is_answer(turns[i])
            before = render(turns[:i], tokenizer, prompts=asked, given=conversation.given) if i else ""
            until = render(turns[: i + 1], tokenizer, given=conversation.given) if i + 1 < len(turns) else full
        except TemplateError:  # refuses a chat that ends here
            before = until = "\0"
        if at <= len(before) < len(until) and full.startswith(before) and full.startswith(until):
            start, end = len(before), len(until)
        else:  # a template that rewrites earlier turns: the answer's own text is looked for
            answer = content(turns[i]).strip()
            start = full.find(answer, at)
            start, end = (start, start + len(answer)) if start >= 0 else (at, at)
        yield full[at:start], False
        yield full[start:end], True
        at = end
    yield full[at:], False


def _encode(pieces: Pieces, tokenizer: PreTrainedTokenizerBase, *, special: bool) -> tuple[list[int], list[bool]]:
    """Token ids of the joined pieces, and which of them lie in one that carries loss."""
    if not tokenizer.is_fast:  # cannot say where a token stands: piece by piece
        parts = [tokenizer.encode(text, add_special_tokens=special and not i) for i, (text, _) in enumerate(pieces)]
        counted = [yes for part, (_, yes) in zip(parts, pieces, strict=True) for _ in part]
        return [token for part in parts for token in part], counted
    told = tokenizer(
        "".join(text for text, _ in pieces), add_special_tokens=special, return_offsets_mapping=True, verbose=False
    )
    ends = np.cumsum([len(text) for text, _ in pieces])
    kinds = np.array([yes for _, yes in pieces])
    starts, stops = np.array(told["offset_mapping"], dtype=np.int64).reshape(-1, 2).T
    inside = np.minimum(np.searchsorted(ends, starts, side="right"), len(pieces) - 1)
    return list(told["input_ids"]), (kinds[inside] & (stops > starts)).tolist()
