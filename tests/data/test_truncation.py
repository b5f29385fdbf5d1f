"""A model with another tokenizer reads of a row what is trained of it, cut where its tokens are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campus_tune.data.truncation import cut_to
from campus_tune.data.turns import Conversation, template_arguments
from campus_tune.model.conversations import Conversations, retell
from tests.run.other_models import other_tokenizer
from tests.run.tiny_run import dataset, tiny_trainer, tokenizer

TALK = tuple(
    {"role": role, "content": said} for role, said in zip("uaua", ("How?", "So.", "Why?", "Thus."), strict=True)
)


def chat(*said: str) -> Conversation:
    """The talk with other words."""
    return Conversation(tuple({**turn, "content": word} for turn, word in zip(TALK, said, strict=True)), (False,) * 4)


def said(conversation: Conversation) -> list[Any]:
    return [turn["content"] if isinstance(turn, dict) else turn for turn in conversation.turns]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("u\nHow?\na\nSo.\nu\nWhy?\na\nThus.\n", ["How?", "So.", "Why?", "Thus."]),
        ("u\nHow?\na\nSo.\nu\nWhy?\na\nTh", ["How?", "So.", "Why?", "Th"]),
        ("u\nHow?\na\nSo.\nu\nWhy?\na\nTh\ufffd", ["How?", "So.", "Why?", "Th"]),
        ("u\nHow?\na\nS", ["How?", "S"]),
        ("u\nHow?\na\n", ["How?", ""]),
        ("w?\na\nSo.\nu\nWhy?\na\nThus.\n", ["w?", "So.", "Why?", "Thus."]),
        ("y?\na\nThus.\n", ["", "", "y?", "Thus."]),
    ],
)
def test_a_chat_is_cut_where_its_tokens_are(text: str, kept: list[str]) -> None:
    cut = cut_to(Conversation(TALK, (False, True, False, True)), text)
    assert said(cut) == kept
    assert cut.counted == (False, True, False, True)[: len(kept)]


def test_what_a_template_writes_in_another_way_is_not_taken_for_cut_off() -> None:
    talk = chat("How?", "<think>well</think>So.", "Why?", "Thus.")
    assert said(cut_to(talk, "u\nHow?\na\nSo.\nu\nWhy?\na\nThu")) == ["How?", "<think>well</think>So.", "Why?", "Thu"]


def test_turns_that_are_gone_call_no_tools() -> None:
    called = {"role": "a", "content": "", "tool_calls": [{"function": {"name": "add"}}]}
    cut = cut_to(Conversation((TALK[0], called, *TALK[2:]), (False,) * 4), "?\na\nThus.")
    assert [turn.get("tool_calls") for turn in cut.turns] == [None] * 4
    assert said(cut) == ["", "", "?", "Thus."]


def test_plain_texts_are_cut_too() -> None:
    cut = cut_to(Conversation(("What is it? ", "It is this."), (False, True)), "What is it? It is")
    assert cut == Conversation(("What is it? ", "It is"), (False, True))


@pytest.mark.filterwarnings("ignore:The `'keep_end'` truncation mode is deprecated")
@pytest.mark.parametrize("side", ["keep_start", "keep_end"])
@pytest.mark.parametrize("columns", ["chat", "text"])
def test_another_tokenizer_is_told_what_is_left_of_a_row(side: str, columns: str, tmp_path: Path) -> None:
    words = "one two three four five six seven eight nine ten"
    row: dict[str, Any] = {"prompt": "Count: ", "completion": words}
    if columns == "chat":
        row = {
            "prompt": [{"role": "user", "content": "Count: "}],
            "completion": [{"role": "assistant", "content": words}],
        }
    data = tiny_trainer(tmp_path, config=False, train=[row] * 4, max_length=16, truncation_mode=side).train_dataset
    trained = tokenizer().decode(data[0]["input_ids"], skip_special_tokens=True)
    [told] = Conversations(data, np.array([0]), tokenizer(), max_length=16).__getitems__([0])
    answer = said(told)[-1]
    assert 0 < len(answer) < len(words)
    assert answer.strip() in trained
    if side == "keep_start":
        assert words.startswith(answer)
    else:
        assert words.endswith(answer)
    whole = Conversations(data, np.array([0]), tokenizer(), max_length=17)[0]
    assert said(whole)[-1] == words  # no row of 16 tokens is cut at 17


def test_a_row_that_the_collator_cuts_is_told_so() -> None:
    ids = tokenizer()("one two three four")["input_ids"]
    data = dataset([{"input_ids": ids, "text": "one two three four"}])
    trained = dataset([{"input_ids": ids[: len(ids) // 2]}])
    [told] = said(Conversations(data, np.array([0]), tokenizer(), trained=trained)[0])
    assert told == tokenizer().decode(ids[: len(ids) // 2])


# -- what the template is given besides messages ---------------------------------------------------------------------

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
WITH_TOOLS = (
    "{% if tools %}[{% for t in tools %}{{ t['function']['name'] }}{% endfor %}]{% endif %}{% for m in messages %}"
    "{{ m['role'] }}{% if brief %}!{% endif %}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant{% if brief %}!{% endif %}: {% endif %}"
)


@pytest.mark.parametrize("tools", [TOOLS, json.dumps(TOOLS)], ids=["a list", "JSON"])
def test_a_foreign_template_gets_the_tools_and_arguments_of_the_row(
    tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "Nice."}]
    row = {"messages": turns, "tools": tools, "chat_template_kwargs": {"brief": True}}
    assert template_arguments(row) == {"tools": TOOLS, "brief": True}
    other = other_tokenizer(WITH_TOOLS)
    rendered = []
    apply = other.apply_chat_template
    monkeypatch.setattr(other, "apply_chat_template", lambda *a, **k: rendered.append(apply(*a, **k)) or rendered[-1])
    ids, labels = retell(Conversation(tuple(turns), (False, True), template_arguments(row)), other)
    assert rendered[0] == "[weather]user!: Weather?\nassistant!: Nice.\n"
    assert rendered[1] == "[weather]user!: Weather?\nassistant!: "
    asked = len(other(rendered[1], add_special_tokens=False)["input_ids"])
    assert [label >= 0 for label in labels] == [False] * asked + [True] * (len(ids) - asked)


def test_conversations_bring_what_their_template_is_given() -> None:
    turns = [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "Nice."}]
    rows = [
        {"input_ids": [5, 6, 7], "messages": turns, "tools": json.dumps(TOOLS)},
        {"input_ids": [5, 6, 7], "messages": turns, "tools": None},
    ]
    first, second = Conversations(dataset(rows), np.arange(2), tokenizer()).__getitems__([0, 1])
    assert (first.given, second.given) == ({"tools": TOOLS}, {})
    apart = [{"input_ids": [5, 6, 7], "prompt": turns[:1], "completion": turns[1:], "tools": json.dumps(TOOLS)}]
    assert Conversations(dataset(apart), np.arange(1), tokenizer())[0].given == {"tools": TOOLS}


@pytest.mark.parametrize(
    ("columns", "field", "told"),
    [
        ({"text": "a title", "body": "one two"}, "body", ["one two"]),
        ({"text": "one two", "completion": "left over"}, "text", ["one two"]),
        ({"text": "a title", "prompt": "one ", "completion": "two"}, "text", ["one ", "two"]),
    ],
)
def test_what_is_told_to_another_model_is_the_column_that_is_trained(
    columns: dict[str, str], field: str, told: list[str]
) -> None:
    data = dataset([{"input_ids": tokenizer()("one two")["input_ids"], **columns}])
    assert said(Conversations(data, np.array([0]), tokenizer(), text_field=field)[0]) == told
