"""Where the answer stands that the scorer looks at: by hand, and in rows as the trainer prepares them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campus_tune.data.spans import Spans, read_spans, unknown_roles
from tests.run.other_models import chat, text, trainer_of
from tests.run.tiny_run import dataset, task_rows, tiny_trainer, tokenizer

END = 2  # <|im_end|>
NEWLINE = tokenizer()("\n", add_special_tokens=False)["input_ids"]


def spans_of(rows: list[dict[str, Any]], tok: Any = None, ends: tuple[int, ...] = (END,)) -> Spans:
    return read_spans(dataset(rows), tok, ends)


def pairs(spans: Spans) -> list[tuple[int, int]]:
    return list(zip(spans.start.tolist(), spans.end.tolist(), strict=True))


def said(trainer: Any, spans: Spans, row: int) -> tuple[str, str]:
    """(Text before the answer, the answer) of one row."""
    ids = [int(token) for token in trainer.train_dataset[row]["input_ids"]]
    start, end = int(spans.start[row]), int(spans.end[row])
    return tokenizer().decode(ids[:start]), tokenizer().decode(ids[start:end])


def test_labels_say_where_the_answer_is_and_its_end_token_is_left_out() -> None:
    rows = [
        {"input_ids": [5, 6, 7, 8, 9, END], "labels": [-100, -100, -100, 8, 9, END]},
        {"input_ids": [5, 6, 7, 8, 9, 9], "labels": [-100, -100, 7, 8, 9, 9]},  # cut off: it has no end
        {"input_ids": [5, 6, 7, 8, 9, 4], "labels": [-100, -100, 7, 8, -100, -100]},  # something follows
    ]
    spans = spans_of(rows)
    assert pairs(spans) == [(3, 5), (2, 6), (2, 4)]
    assert spans.known.all()


def test_masks_of_older_trainers_say_the_same() -> None:
    rows = [{"input_ids": [5, 6, 7, 8, END], "completion_mask": [0, 0, 1, 1, 1]}]
    assert pairs(spans_of(rows)) == [(2, 4)]


def test_any_of_several_end_tokens_ends_an_answer() -> None:
    rows = [{"input_ids": [5, 6, 7, 8, 9], "labels": [-100, -100, 7, 8, 9]}]
    assert pairs(spans_of(rows, ends=(END, 8))) == [(2, 3)]
    assert pairs(spans_of(rows, ends=())) == [(2, 5)]


def test_an_answer_of_an_end_token_alone_is_no_answer() -> None:
    rows = [{"input_ids": [5, 6, 7, END], "labels": [-100, -100, -100, END]}]
    assert spans_of(rows).known.tolist() == [False]


def test_a_first_token_that_nothing_predicts_is_no_prompt() -> None:
    rows = [{"input_ids": [1, 6, 7]}, {"input_ids": [1, 6, 7], "labels": [-100, 6, 7]}]
    for row in rows:
        spans = spans_of([row])
        assert (spans.start.tolist(), spans.known.tolist()) == ([0], [False])


def test_only_the_first_of_several_answers_counts() -> None:
    rows = [{"input_ids": [5, 6, 7, 8, 9, 7, 8], "labels": [-100, -100, 7, -100, -100, 7, 8]}]
    assert pairs(spans_of(rows)) == [(2, 3)]


def test_no_more_than_the_limit_of_each_answer_is_looked_at() -> None:
    spans = Spans(np.array([3, 0, 4]), np.array([10, 1, 5])).cut(4)
    assert pairs(spans) == [(3, 7), (0, 1), (4, 5)]
    assert spans.known.tolist() == [True, False, True]


@pytest.mark.parametrize("kind", ["prompt and completion", "plain prompt and completion"])
def test_a_completion_is_the_answer(tmp_path: Path, kind: str) -> None:
    trainer = trainer_of(tmp_path, kind)
    spans = read_spans(trainer.train_dataset, trainer.processing_class, [END])
    for row, source in enumerate(task_rows(24)[:12]):
        before, answer = said(trainer, spans, row)
        assert answer.strip() == source["completion"][0]["content"]
        assert source["prompt"][0]["content"] in before
        after = trainer.train_dataset[row]["input_ids"][int(spans.end[row])]
        assert after == END


@pytest.mark.parametrize("kind", ["chat", "chat, assistant only"])
def test_a_conversation_is_cut_before_its_first_answer_trained_whole_or_not(tmp_path: Path, kind: str) -> None:
    trainer = trainer_of(tmp_path, kind)
    spans = read_spans(trainer.train_dataset, trainer.processing_class, [END])
    for row, source in enumerate(chat(task_rows(24))):
        before, answer = said(trainer, spans, row)
        assert answer == source["messages"][1]["content"]
        assert before == f"<|im_start|>user\n{source['messages'][0]['content']}<|im_end|>\n<|im_start|>assistant\n"


def test_a_conversation_that_begins_with_a_system_turn_keeps_it_in_the_prompt(tmp_path: Path) -> None:
    system = {"role": "system", "content": "Be brief."}
    rows = [{"messages": [system, *row["messages"]]} for row in chat(task_rows(16))]
    trainer = tiny_trainer(tmp_path, config=False, train=rows)
    spans = read_spans(trainer.train_dataset, trainer.processing_class, [END])
    before, answer = said(trainer, spans, 0)
    assert "Be brief." in before
    assert answer == rows[0]["messages"][2]["content"]


def test_a_conversation_whose_tokens_the_template_does_not_give_is_not_cut(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, "chat")
    other = tokenizer().__class__(tokenizer_object=tokenizer().backend_tokenizer, eos_token="<|im_end|>")
    other.chat_template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}{% endfor %}"
    assert not read_spans(trainer.train_dataset, other, [END]).known.any()
    other.chat_template = None
    assert not read_spans(trainer.train_dataset, other, [END]).known.any()
    assert not read_spans(trainer.train_dataset, None, [END]).known.any()


def test_a_conversation_without_a_question_or_without_an_answer_is_not_cut() -> None:
    user, assistant = ({"role": role, "content": "7 + 5 = 12"} for role in ("user", "assistant"))
    for turns in ([assistant, user], [user, user], [assistant]):
        ids = tokenizer().apply_chat_template(turns, tokenize=True, return_dict=False)
        assert not spans_of([{"input_ids": ids, "messages": turns}], tokenizer()).known.any()


def test_plain_text_has_no_prompt(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, "text")
    assert len(text(task_rows(12))) == 12
    assert not read_spans(trainer.train_dataset, trainer.processing_class, [END]).known.any()


def test_a_truncated_answer_ends_with_the_row(tmp_path: Path) -> None:
    long = task_rows(24)
    whole = tiny_trainer(tmp_path / "whole", config=False, train=long)
    lengths = [len(row["input_ids"]) for row in whole.train_dataset]
    spans = read_spans(whole.train_dataset, tokenizer(), [END])
    limit = int(spans.start[int(np.argmax(lengths))]) + 3
    cut = tiny_trainer(tmp_path / "cut", config=False, train=long, max_length=limit)
    after = read_spans(cut.train_dataset, tokenizer(), [END])
    assert after.known.all()  # trl drops rows of which no answer is left
    assert after.end.max() == limit
    ended = [row for row in range(len(cut.train_dataset)) if END not in cut.train_dataset[row]["input_ids"][-2:]]
    assert ended
    for row in ended:
        assert after.end[row] == len(cut.train_dataset[row]["input_ids"])


def test_rows_of_a_plain_list_of_dicts_are_read_like_those_of_a_dataset() -> None:
    rows = [{"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8]}, {"input_ids": [5, 6], "labels": [-100, 6]}]
    listed = read_spans(rows, None, [END])
    assert pairs(listed) == pairs(spans_of(rows)) == [(2, 4), (0, 0)]


@pytest.mark.parametrize("every", [1, 2], ids=["all rows", "every second row"])
def test_a_prompt_is_rendered_with_the_tools_and_arguments_that_the_row_was(
    every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = (
        "{% if tools %}{% for t in tools %}{{ t | tojson }}{% endfor %}{% endif %}{% if brief %}{{ 'Be brief.' }}"
        "{% endif %}{% for m in messages %}{{ '<|im_start|>' + m['role'] + '<|im_start|>' + m['content'] }}"
        "{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_start|>' }}"
        "{% endif %}"
    )
    monkeypatch.setattr(tokenizer(), "chat_template", template)
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    rows = [
        {**row, "tools": json.dumps(tools if i % every == 0 else []), "chat_template_kwargs": {"brief": i % 3 == 0}}
        for i, row in enumerate(chat(task_rows(16)))
    ]
    trainer = tiny_trainer(tmp_path, config=False, train=rows)
    spans = read_spans(trainer.train_dataset, tokenizer(), [END])
    assert spans.known.all()
    for i, row in enumerate(rows):
        before, answer = said(trainer, spans, i)
        assert answer == row["messages"][1]["content"]
        assert ("weather" in before, "Be brief." in before) == (i % every == 0, i % 3 == 0)


def test_a_chat_of_prompt_and_completion_that_is_trained_whole_has_its_prompt(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, config=False, n=8, completion_only_loss=False)
    spans = read_spans(trainer.train_dataset, tokenizer(), [END])
    for row in range(8):
        assert said(trainer, spans, row)[1] == task_rows(8)[row]["completion"][0]["content"]


def test_what_the_collator_makes_says_where_the_answer_is() -> None:
    rows = dataset([{"input_ids": [5, 6, 7, 8, 9, END]}])
    made = dataset([{"input_ids": [5, 6, 7, 8, 9, END], "labels": [-100, -100, -100, 8, 9, END]}])
    assert pairs(read_spans(rows, None, [END], trained=made)) == [(3, 5)]


def test_roles_under_which_nobody_answers_are_named() -> None:
    talk = [{"role": "human", "content": "2 + 2?"}, {"role": "gpt", "content": "4"}]
    told = unknown_roles(dataset([{"input_ids": [5, 6], "messages": talk}]))
    assert told == (
        " The messages have the roles gpt, human, and answers are looked for under assistant: rename the role of the "
        "answers."
    )
    talk[1]["role"] = "assistant"
    assert unknown_roles(dataset([{"input_ids": [5, 6], "messages": talk}])) == ""
    assert unknown_roles(dataset([{"input_ids": [5, 6]}])) == ""
