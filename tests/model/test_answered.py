"""Prompts with their reference answers are the tokens that supervised tuning would train."""

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
    assert [row.ids for row in ours] == [row.ids for row in theirs]
    assert [row.labels for row in ours] == [row.labels for row in theirs]
    assert found["completion"] == said
    assert read_rows(found).answer_tokens.min() > 0


def test_the_template_is_given_what_the_trainer_gives_it() -> None:
    found = answered(CHATS, ANSWERS, tokenizer(), given={"enable_thinking": False})
    assert found["chat_template_kwargs"][:] == [{"enable_thinking": False}] * 3
