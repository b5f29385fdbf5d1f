"""A user's weight of each message: which tokens it holds for, against a slow reference, and what is refused by name."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import trl
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data.message_weights import MessageWeights, read_message_weights
from campus_tune.data.prepared import read_rows
from campus_tune.data.row_weights import read_weights
from campus_tune.words.errors import DataError
from campus_tune.words.types import Json
from tests.run.tiny_run import tiny_trainer, tokenizer

SIGNS = tokenizer().convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
THINKING = (  # as Qwen3's: what an answer thought is left out once another question follows
    "{% set ns = namespace(last=-1) %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}"
    "{% if loop.index0 > ns.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m['content'].split('</think>')[-1].strip() }}"
    "{% else %}{{ m['content'] }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
)


def turn(role: str, content: str, weight: Any = None) -> Json:
    return {"role": role, "content": content} | ({} if weight is None else {"weight": weight})


def talk(*turns: tuple[str, Any]) -> list[Json]:
    """A chat in which user and assistant take turns."""
    return [turn(("user", "assistant")[i % 2], *said) for i, said in enumerate(turns)]


def prepared(tmp_path: Path, rows: Any, **settings: Any) -> datasets.Dataset:
    return tiny_trainer(tmp_path, config=False, train=rows, **settings).train_dataset


def read(rows: Any, **how: Any) -> MessageWeights:
    return read_message_weights(rows, "weight", how.pop("tok", tokenizer()), **how)


def counted(weights: MessageWeights) -> list[list[float]]:
    """How much each answer token counts, by row."""
    return [(weights.rows[row] * weights.shapes[row]).tolist() for row in range(len(weights.rows))]


def slow(rows: Any, chats: Sequence[list[Json]], whole: Any = None) -> list[list[float]]:
    """The same for ChatML, token by token: each sign of a beginning begins the next message.

    Args:
        rows: as they are trained.
        chats: of them.
        whole: the rows before they were cut off; None where they were not.
    """
    every = []
    for row, chat, uncut in zip(rows, chats, rows if whole is None else whole, strict=True):
        owner, at = [], -1
        for token in uncut["input_ids"]:
            at += token == SIGNS[0]
            owner.append(at)
        n = len(row["input_ids"])
        owner = owner[:n] if uncut["input_ids"][:n] == row["input_ids"] else owner[-n:]
        found = []
        for place, (message, label) in enumerate(zip(owner, row["labels"], strict=True)):
            if place and label != -100:
                weight = chat[message].get("weight")
                found.append(1.0 if weight is None else float(weight))
        every.append(found)
    mean = sum(map(sum, every)) / sum(map(len, every))
    return [[value / mean for value in row] for row in every]


SAID = st.sampled_from(["yes", "2 + 2 = 4", ""])
CHATS = [
    talk(("2 + 2?", None), ("It is 4, says everyone.", 0.5), ("And 3 + 3?", 3), ("6", None)),
    talk(("Name a colour.", None), ("Blue, and then some more words.", 2)),
    talk(("2 + 2?", None), ("5", 0), ("Sure?", None), ("No, it is 4.", None), ("Thanks!", 0), ("Welcome.", 4)),
    talk(("A plain one", None), ("without any weight", None)),
]


def assert_counted(weights: MessageWeights, expected: list[list[float]]) -> None:
    for found, wanted in zip(counted(weights), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize("loss", [{}, {"assistant_only_loss": True}], ids=["whole", "assistant only"])
@pytest.mark.parametrize("limit", [None, 30])
def test_every_token_has_the_weight_of_its_message(tmp_path: Path, loss: Json, limit: int | None) -> None:
    chats = [{"messages": chat} for chat in CHATS]
    rows = prepared(tmp_path, chats, max_length=limit, **loss)
    weights = read(rows)
    assert [len(shape) for shape in weights.shapes] == read_rows(rows).answer_tokens.tolist()
    assert_counted(weights, slow(rows, CHATS, prepared(tmp_path, chats, max_length=None, **loss)))
    assert weights.warnings == []


def test_rows_that_lost_their_beginning_are_weighted_from_their_end(tmp_path: Path) -> None:
    whole = list(prepared(tmp_path, [{"messages": chat} for chat in CHATS], max_length=None))
    rows = [row | {name: row[name][-20:] for name in ("input_ids", "labels")} for row in whole]
    assert_counted(read(rows), slow(rows, CHATS, whole))


@pytest.mark.parametrize("completion_only", [None, False])
def test_prompts_and_completions_are_one_chat(tmp_path: Path, completion_only: bool | None) -> None:
    rows = [{"prompt": chat[:1], "completion": chat[1:]} for chat in CHATS]
    made = prepared(tmp_path, rows, completion_only_loss=completion_only)
    assert_counted(read(made), slow(made, CHATS))


@pytest.mark.parametrize("form", ["ShareGPT", "a JSON file", "lists of Python"])
def test_weights_survive_in_whatever_form_chats_come(tmp_path: Path, form: str) -> None:
    rows: Any = [{"messages": chat} for chat in CHATS]
    if form == "ShareGPT":
        names = {"role": "from", "content": "value"}
        rows = [{"conversations": [{names.get(k, k): v for k, v in one.items()} for one in chat]} for chat in CHATS]
    elif form == "a JSON file":
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        cache = str(tmp_path / "cache")
        rows = datasets.load_dataset("json", data_files=str(tmp_path / "rows.jsonl"), split="train", cache_dir=cache)
    made = prepared(tmp_path, rows)
    expected = slow(made, CHATS)
    assert_counted(read(list(made) if form == "lists of Python" else made), expected)


def chatml(chats: Sequence[list[Json]], template: str | None = None) -> list[Json]:
    """Chats as they are trained whole."""
    made = [tokenizer().apply_chat_template(chat, return_dict=False, chat_template=template) for chat in chats]
    return [
        {"messages": chat, "input_ids": list(ids), "labels": list(ids)} for chat, ids in zip(chats, made, strict=True)
    ]


def test_a_row_by_hand() -> None:
    rows = chatml([talk(("a", 0), ("b", 4)), talk(("a", 2), ("b", 2))])
    for row in rows:  # <|im_start|> role \n content <|im_end|> \n, twice; one token of the question is trained
        assert len(row["input_ids"]) == 12
        row["labels"] = [-100] * 3 + row["labels"][3:4] + [-100] * 5 + row["labels"][9:]
    weights = read(rows)
    assert weights.rows.tolist() == pytest.approx([3 / 2.5, 2 / 2.5])  # (0 + 3·4)/4 and 2, on average 2.5
    assert weights.shapes[0].tolist() == pytest.approx([0, 4 / 3, 4 / 3, 4 / 3])
    assert weights.shapes[1].tolist() == [1, 1, 1, 1]


def test_a_row_of_weight_0_has_a_flat_shape() -> None:
    weights = read(chatml([talk(("a", 0), ("b", 0)), talk(("a", 1), ("b", 1))]))
    assert weights.rows.tolist() == [0, 2]
    assert weights.shapes[0].tolist() == [1] * 11


@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from(["yes", "2 + 2 = 4", ""]), st.sampled_from([None, 0, 1, 0.3, 5])), min_size=1
        ),
        min_size=1,
        max_size=4,
    ),
    st.randoms(use_true_random=False),
)
def test_shapes_have_mean_1_and_nothing_is_lost(said: list[list[tuple[str, Any]]], random: Any) -> None:
    rows = chatml([talk(*turns) for turns in said] + [talk(("a", 1), ("b", 2))])
    for row in rows:
        row["labels"] = [token if random.random() < 0.7 else -100 for token in row["labels"][:-1]] + [5]
    weights = read(rows)
    tokens = read_rows(rows).answer_tokens
    expected = slow(rows, [row["messages"] for row in rows])
    assert (weights.rows * tokens).sum() == pytest.approx(tokens.sum())
    for mean, shape, wanted in zip(weights.rows, weights.shapes, expected, strict=True):
        assert shape.mean() == pytest.approx(1)
        assert (mean * shape).sum() == pytest.approx(sum(wanted))
    assert_counted(weights, expected)


def test_thoughts_that_a_template_leaves_out_later_move_no_weight() -> None:
    chats = [
        talk(("a", None), ("<think>so</think> b", 2), ("and c?", 0.5), ("<think>hm</think>d e", 3)),
        talk(("a", None), ("<think>4</think> 4", 2), ("4", 5), ("4", None), ("4", 1), ("4", 2)),
    ]
    rows = chatml(chats, THINKING)
    assert "so" not in tokenizer().decode(rows[0]["input_ids"])
    tok = copy.copy(tokenizer())
    tok.chat_template = THINKING
    assert_counted(read(rows, tok=tok), slow(rows, chats))
    assert_counted(read(rows, template=THINKING), slow(rows, chats))  # one that only the trainer has


SIGNED = "{% for m in messages %}{{ '<|im_start|>' + m['content'] + '<|im_end|>' }}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "own"),
    [
        (SIGNED, "<|im_start|>a b<|im_end|>"),
        ("{% if messages | length < 2 %}{{ raise_exception('who answers?') }}{% endif %}" + SIGNED, "<|im_start|>a b"),
        ("{{ messages[0]['content'] + '<|im_end|>' + messages[1]['content'] if messages | length > 1 }}", "a b"),
        (
            "{% for m in messages %}{{ '<|im_start|>' + m['content'] | upper + '<|im_end|>' }}{% endfor %}",
            "<|im_start|>A B<|im_end|>",
        ),
        ("{% for m in messages %}{{ m['content'] if m['role'] == 'user' else m['role'] }}{% endfor %}", "system"),
    ],
    ids=["each by itself", "none alone", "a system prompt that the question takes in", "rewritten", "no content"],
)
def test_where_a_message_ends_is_found_however_it_is_written(template: str, own: str) -> None:
    [row] = chatml([[turn("system", "a b", 3), turn("user", "c d", 1)]], template)
    counts = read([row], template=template).shapes.counts
    first = row["input_ids"][: 1 + counts[0]]  # nothing predicts the very first token
    assert tokenizer().decode(first) == own


THOUGHT = "<think>\nhm\n</think>\n\n"
CALL = {"type": "function", "function": {"name": "look", "arguments": {"at": "delta"}}}
OF_TOOLS = [
    turn("user", "alpha", 1),
    {"role": "assistant", "content": "", "tool_calls": [CALL], "weight": 2},
    {"role": "tool", "name": "look", "content": "gamma", "weight": 3},
    turn("assistant", "omega", 4),
]
PLAIN = talk(("alpha", 1), ("delta", 2), ("gamma", 3), ("omega", 4))
WORDS = {1: "alpha", 2: "delta", 3: "gamma", 4: "omega", 5: "sigma"}
ALL, SOME = ("plain", "system", "thoughts", "tools"), ("plain", "system", "thoughts")


@pytest.mark.parametrize(
    ("model", "knows"),
    [
        *((model, ALL) for model in ("qwen3", "qwen2_5", "llama3_1", "glm4moe", "gemma4_v5")),
        *((model, SOME) for model in ("gemma3", "phi3", "deepseekv3", "cohere2")),
        ("gptoss", ("plain", "system")),
    ],
)
def test_each_message_has_its_own_tokens_in_the_templates_of_models(model: str, knows: Sequence[str]) -> None:
    """Each says a word of its own, which must stand among its tokens and no others'."""
    file = Path(trl.__file__).parent / "chat_templates" / f"{model}.jinja"
    if not file.exists():
        pytest.skip("this trl does not carry it")
    thoughts = talk(("alpha", 1), (THOUGHT + "delta", 2), ("gamma", 3), (THOUGHT + "omega", 4))
    chats = {"plain": PLAIN, "system": [turn("system", "sigma", 5), *PLAIN], "thoughts": thoughts, "tools": OF_TOOLS}
    for chat in (chats[name] for name in knows):
        [row] = chatml([chat], file.read_text("utf-8"))
        counts = read([row], template=file.read_text("utf-8")).shapes.counts
        ends = np.cumsum([1 + counts[0], *counts[1:]])  # nothing predicts the very first token
        parts = [tokenizer().decode(part) for part in np.split(row["input_ids"], ends[:-1])]
        found = [[word for word in WORDS.values() if word in part] for part in parts]
        assert found == [[WORDS[one["weight"]]] for one in chat]


class Wordy:
    """A tokenizer that cannot say where its tokens stand."""

    is_fast = False

    def __call__(self, text: str, **how: Any) -> Any:
        assert "return_offsets_mapping" not in how
        return tokenizer()(text, **how)

    def apply_chat_template(self, turns: list[Json], **how: Any) -> Any:
        return tokenizer().apply_chat_template(turns, **how)


def test_a_tokenizer_without_offsets_says_the_same() -> None:
    rows = chatml(CHATS)
    assert_counted(read(rows, tok=Wordy()), slow(rows, CHATS))


def test_tools_and_arguments_of_the_template_go_with_the_first_message() -> None:
    template = (
        "{% for t in tools or [] %}{{ t['name'] }}{% endfor %}{{ 'Be brief.' if brief }}{% for m in messages %}"
        "{{ '<|im_start|>' + m['role'] + m['content'] + '<|im_end|>' }}{% endfor %}"
    )
    chat = talk(("a", 3), ("b", None))
    ids = tokenizer().apply_chat_template(
        chat, tools=[{"name": "weather"}], brief=True, chat_template=template, return_dict=False
    )
    row = {"messages": chat, "tools": '[{"name": "weather"}]', "chat_template_kwargs": {"brief": True}}
    [found] = counted(read([row | {"input_ids": ids, "labels": ids}], template=template))
    first = ids.index(SIGNS[1])  # and nothing predicts the very first token
    assert found == pytest.approx([found[0]] * first + [found[0] / 3] * (len(ids) - first - 1))


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_that_is_stored_with_rows_moves_nothing(side: str) -> None:
    rows = chatml(CHATS)
    padded = []
    for row in rows:
        both = {name: row[name] for name in ("input_ids", "labels")} | {"attention_mask": [1] * len(row["input_ids"])}
        fill = {"input_ids": [0] * 3, "labels": [-100] * 3, "attention_mask": [0] * 3}
        both = {name: fill[name] + both[name] if side == "left" else both[name] + fill[name] for name in both}
        padded.append({"messages": row["messages"], **both})
    if side == "left":  # then something predicts the first token
        padded[0]["labels"][3] = -100
        for row in padded:
            row["labels"][3] = -100
    assert_counted(read(padded), slow(rows, CHATS))


def test_what_the_collator_trains_is_weighted() -> None:
    rows = chatml(CHATS)
    made = [{name: row[name] for name in ("input_ids", "labels")} for row in rows]
    for row in made:
        row["labels"] = [-100] * 5 + row["labels"][5:-2] + [-100] * 2
    assert_counted(read(rows, trained=made), slow(made, CHATS))


def test_shapes_are_a_sequence_by_row() -> None:
    shapes = read(chatml(CHATS)).shapes
    assert len(shapes) == len(list(shapes)) == 4
    for row in (-1, 4):
        with pytest.raises(IndexError):
            shapes[row]


def test_the_digest_changes_with_a_weight_and_with_the_tokens_it_holds_for() -> None:
    other = [*CHATS[:3], talk(("A plain one", 7), ("without any weight", None))]
    longer = [*CHATS[:3], talk(("A plain one", None), ("without any weight at all", None))]
    assert len({read(chatml(chats)).digest() for chats in (CHATS, other, longer)}) == 3
    assert read(chatml(CHATS)).digest() == read(chatml(CHATS)).digest()


def test_weights_that_change_nothing_say_so() -> None:
    [said] = read(chatml([talk(("a", 2), ("b", 2))])).warnings
    assert said.startswith(
        "`weights: column: weight, of: message` must differ between rows to change anything, got the"
    )


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_rows_without_chats_are_refused_and_a_column_of_the_name_is_found() -> None:
    text = [{"input_ids": [5, 6], "labels": [5, 6], "text": "a", "weight": 1}]
    message = (
        r"`weights: column: weight, of: message` must have chats .* got the columns input_ids, labels, text, weight\. "
    )
    with pytest.raises(DataError, match=message + "For the column weight, one weight a row, leave `of: message` out"):
        read(text)
    assert read_weights(text, "weight", np.array([1])).tolist() == [1]  # as it says
    plain = [{"input_ids": [5, 6], "labels": [5, 6], "prompt": "a", "completion": "b"}]
    with pytest.raises(DataError, match=r"the columns input_ids, labels, prompt, completion\. Train chats, or give"):
        read(plain)


def test_a_key_that_no_message_has_is_answered_with_those_they_have() -> None:
    rows = chatml([talk(("a", 1), ("b", 2))])
    message = (
        r"must be a key of some message, got none that has it: they have role, content, weight\. Did you mean 'weight'"
    )
    with pytest.raises(DataError, match=message):
        read_message_weights(rows, "weigth", tokenizer())


@pytest.mark.parametrize("values", [("0.5", "2"), (True, False)])
@pytest.mark.parametrize("form", ["Arrow", "JSON"])
def test_text_and_truth_values_are_refused_and_become_numbers(tmp_path: Path, values: Any, form: str) -> None:
    rows = [{"messages": talk(("a", None), ("b", value))} for value in values]
    data = datasets.Dataset.from_list(rows)
    if form == "JSON":
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        data = datasets.load_dataset(
            "json", data_files=str(tmp_path / "rows.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
        )
    message = rf"`weights: column: weight` must hold numbers, got {values[0]!r} in message 1 of row 0\. "
    with pytest.raises(DataError, match=message) as told:
        read(prepared(tmp_path, data))
    names = {"dataset": data, "datasets": datasets}
    exec(str(told.value).split("`")[-2], names)
    numbers = [{"messages": talk(("a", None), ("b", float(value)))} for value in values]
    assert counted(read(prepared(tmp_path, names["dataset"]))) == counted(read(prepared(tmp_path, numbers)))


def test_nan_is_no_weight_of_a_message() -> None:
    rows = chatml([talk(("a", 1), ("b", 2)), talk(("a", 1), ("b", float("nan")), ("c", float("nan")))])
    message = (
        r"a number for every message, got none .* for 2 of 5 messages \(first: message 1 of row 1, message 2 of row 1\)"
    )
    with pytest.raises(DataError, match=message):
        read(rows)
    for one in rows[1]["messages"][1:]:
        del one["weight"]  # as it says: without it they count 1
    assert (
        read(rows).rows.tolist()
        == read(chatml([talk(("a", 1), ("b", 2)), talk(("a", 1), ("b", 1), ("c", 1))])).rows.tolist()
    )


def test_weights_of_messages_below_0_are_named() -> None:
    rows = chatml([talk(("a", 1), ("b", 2)), talk(("a", -1), ("b", float("inf")))])
    message = r"finite weights of at least 0, got -1 in message 0 of row 1, inf in message 1 of row 1 \(2 of 4"
    with pytest.raises(DataError, match=message):
        read(rows)
    with pytest.raises(DataError, match=r"of at most 1\.8e\+308, got .* in message 0 of row 0 .*Divide all of them"):
        read(chatml([talk(("a", 10**400), ("b", 2))]))


def test_0_everywhere_and_0_for_all_that_is_trained_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must have a weight above 0 somewhere, got 0 everywhere"):
        read(chatml([talk(("a", 0), ("b", 0))]))
    rows = [{"messages": talk(("a", 1), ("b", 0))}, {"messages": talk(("a", None), ("b", 0))}]
    with pytest.raises(DataError, match="more than 0 to a message that is trained, got 0 for all of them: nothing"):
        read(prepared(tmp_path, rows, assistant_only_loss=True))
    assert read(prepared(tmp_path, rows)).rows.mean() == pytest.approx(1)  # as it says: train others


def test_a_row_whose_tokens_are_not_those_of_its_messages_is_named(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_list(chatml([talk(("a", 1), ("b", 2)), talk(("a", 1), ("b", 2))]))
    wrong = rows.map(
        lambda row, i: {"input_ids": row["input_ids"] if not i else [5, *row["input_ids"][1:]]}, with_indices=True
    )
    with pytest.raises(DataError, match=r"got row 1: its tokens are not those that the chat template makes of") as told:
        read(wrong)
    names = {"dataset": wrong}
    exec(str(told.value).split("`")[-4], names)
    assert_counted(read(prepared(tmp_path, names["dataset"])), slow(rows, rows["messages"]))


def test_tokens_beyond_the_chat_are_nobodys() -> None:
    [row] = chatml([talk(("a", 1), ("b", 2))])
    longer = {name: [*row[name], 5] for name in ("input_ids", "labels")}
    with pytest.raises(DataError, match="got row 0: its tokens are not those"):
        read([row | longer])


def test_a_template_that_hides_where_messages_end_is_refused() -> None:
    template = "{% for m in messages %}{{ m['content'] | length + messages | length }}{% endfor %}"
    rows = chatml([talk(("a", 1), ("b", 2))], template)
    with pytest.raises(DataError, match="got row 0: its chat template writes message 0 so that its end is not to be"):
        read(rows, template=template)
    same = chatml([talk(("a", 2), ("b", 2))], template)
    assert read(same, template=template).rows.tolist() == [1]  # which need not be told apart
