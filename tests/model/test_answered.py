"""Prompts with their reference answers are the tokens that supervised tuning would train, as far as the end token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from campus_tune.data.prepared import read_rows
from campus_tune.model.answer_alone import Prepared
from campus_tune.model.answered import answered
from tests.run.tiny_run import dataset, tokenizer

CHATS = [[{"role": "user", "content": f"{n} + 3 ="}] for n in range(3)]
TEXTS = [f"what is {n} + 3 =\n" for n in range(3)]
ANSWERS = ["3", "four", "five it is"]


@pytest.mark.parametrize("prompts", [CHATS, TEXTS])
def test_the_tokens_are_those_of_trls_own_preparation(tiny_trainer: Callable[..., Any], prompts: list[Any]) -> None:
    said = [[{"role": "assistant", "content": answer}] for answer in ANSWERS] if prompts is CHATS else ANSWERS
    rows = [{"prompt": prompt, "completion": answer} for prompt, answer in zip(prompts, said, strict=True)]
    trained = tiny_trainer(train=dataset(rows), config=False).train_dataset
    found = answered(prompts, ANSWERS, tokenizer(), given={})
    ours, theirs = Prepared(found).whole(range(3)), Prepared(trained).whole(range(3))
    for row, trained_row in zip(ours, theirs, strict=True):
        n = len(row.ids)
        assert (row.ids, row.labels) == (trained_row.ids[:n], trained_row.labels[:n])
        assert row.ids[-1] == row.labels[-1] == tokenizer().eos_token_id
        assert len(trained_row.ids) - n == (1 if prompts is CHATS else 0)  # the template's line break
    assert found["completion"] == said
    assert read_rows(found).answer_tokens.min() > 0


def test_the_template_is_given_what_the_trainer_gives_it() -> None:
    found = answered(CHATS, ANSWERS, tokenizer(), given={"enable_thinking": False})
    assert found["chat_template_kwargs"][:] == [{"enable_thinking": False}] * 3
