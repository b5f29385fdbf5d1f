"""Answers without their prompts: which tokens they are, and that they are counted as in the whole row."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from campus_tune.data.prepared import read_rows
from campus_tune.data.token_hashes import IGNORED
from campus_tune.model import compat
from campus_tune.model.answer_alone import (
    AnswersAlone,
    PadRight,
    Prepared,
    answers_alone,
    labelled,
    start_token,
)
from campus_tune.model.measure import LossMeter
from campus_tune.model.peers import Peers
from campus_tune.words.errors import DataError
from tests.run.other_models import chat, trainer_of
from tests.run.tiny_run import dataset, task_rows, tiny_trainer, tokenizer
from tests.run.witness import all_slow_losses, assert_close


def alone_meter(trainer: Any) -> LossMeter:
    alone = answers_alone(trainer.train_dataset, trainer.processing_class)
    tokens = read_rows(trainer.train_dataset).answer_tokens + 1
    subject = partial(compat.subject, trainer)
    return LossMeter(subject, alone, PadRight(), tokens, peers=Peers(), what="answers alone")


@pytest.mark.parametrize("kind", ["prompt and completion", "text", "chat, assistant only", "lora", "padding-free"])
def test_losses_of_answers_alone_are_those_of_a_slow_forward_over_a_start_token_and_the_answer(
    kind: str, tmp_path: Path
) -> None:
    trainer = trainer_of(tmp_path, kind)
    slow = []
    for item in trainer.train_dataset:
        labels = trainer.data_collator([item])["labels"].flatten().tolist()  # early trl keeps masks in the rows
        ids = [token for token, label in zip(item["input_ids"][1:], labels[1:], strict=True) if label != IGNORED]
        slow.append({"input_ids": [tokenizer().bos_token_id, *ids], "labels": [IGNORED, *ids]})
    measured = alone_meter(trainer).losses(np.arange(12))
    assert_close(measured, all_slow_losses(trainer, range(12), slow))


@pytest.mark.parametrize("kind", ["prompt and completion", "text", "chat, assistant only"])
def test_the_same_tokens_are_counted_with_the_prompt_and_without(kind: str, tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, kind)
    view, collator = compat.loader_view(trainer, trainer.train_dataset)
    whole = LossMeter(
        partial(compat.subject, trainer), view, collator, read_rows(view).tokens, peers=Peers(), what="rows"
    )
    rows = np.array([7, 0, 11])
    assert whole.losses(rows).tokens.tolist() == alone_meter(trainer).losses(rows).tokens.tolist()


def test_the_answers_of_several_turns_follow_one_another(tmp_path: Path) -> None:
    rows = chat(task_rows(2))
    trainer = tiny_trainer(tmp_path, config=False, train=rows, assistant_only_loss=True)
    (row,) = answers_alone(trainer.train_dataset, tokenizer()).whole([0])
    answers = [turn["content"] for turn in rows[0]["messages"] if turn["role"] == "assistant"]
    assert tokenizer().decode(row.ids) == "<|im_start|>" + "".join(f"{answer}<|im_end|>\n" for answer in answers)


MASKED = {"input_ids": [5, 6, 7, 8], "completion_mask": [0, 0, 1, 1]}


@pytest.mark.parametrize(
    ("item", "ids", "labels"),
    [
        ({"input_ids": [5, 6, 7]}, [5, 6, 7], [IGNORED, 6, 7]),
        ({"input_ids": [5, 6, 7], "labels": [5, IGNORED, 7]}, [5, 6, 7], [IGNORED, IGNORED, 7]),
        (MASKED, [5, 6, 7, 8], [IGNORED, IGNORED, 7, 8]),
        ({**MASKED, "assistant_masks": [1, 1, 0, 1]}, [5, 6, 7, 8], [IGNORED, IGNORED, IGNORED, 8]),
        ({"input_ids": [5, 6, 7, 0, 0], "attention_mask": [1, 1, 1, 0, 0]}, [5, 6, 7], [IGNORED, 6, 7]),
    ],
)
def test_every_way_to_mark_an_answer_becomes_labels(item: Any, ids: list[int], labels: list[int]) -> None:
    assert labelled(item) == (ids, labels)


def test_rows_are_cut_from_their_end_and_their_answers_with_them() -> None:
    rows = Prepared(dataset([MASKED, MASKED]), np.array([1]), limit=3)
    assert rows[0] == {"input_ids": [5, 6, 7], "labels": [IGNORED, IGNORED, 7]}
    assert AnswersAlone(rows, start=1)[0] == {"input_ids": [1, 7], "labels": [IGNORED, 7]}
    assert len(rows) == len(AnswersAlone(rows, start=1)) == 1


def test_a_dataset_of_any_kind_will_do() -> None:
    rows = Prepared([MASKED, {"input_ids": [1, 2], "completion_mask": [0, 1]}])
    assert rows.__getitems__([1, 0])[0]["labels"] == [IGNORED, 2]


def test_a_batch_is_padded_on_the_right_and_the_padding_masked() -> None:
    batch = PadRight(9)([{"input_ids": [1, 2, 3], "labels": [IGNORED, 2, 3]}, {"input_ids": [4], "labels": [4]}])
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED, 2, 3], [4, IGNORED, IGNORED]]
    assert {values.dtype for values in batch.values()} == {torch.int64}


@pytest.mark.parametrize(
    ("ids", "start"),
    [
        ({"bos_token_id": 0, "eos_token_id": 2}, 0),
        ({"bos_token_id": None, "eos_token_id": 2}, 2),
        ({"pad_token_id": 3}, 3),
    ],
)
def test_an_answer_begins_behind_the_first_of_start_end_and_padding_token(ids: dict[str, Any], start: int) -> None:
    assert start_token(SimpleNamespace(**ids)) == start


@pytest.mark.parametrize("tok", [SimpleNamespace(bos_token_id=None), None])
def test_a_tokenizer_with_none_of_them_is_refused(tok: Any) -> None:
    with pytest.raises(DataError, match="the tokenizer must have a start, end or padding token"):
        start_token(tok)
