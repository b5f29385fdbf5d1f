"""Other models than the one in training: finding, loading, asking and letting go of them."""

from __future__ import annotations

import json
import random
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from campus_tune.data.token_hashes import IGNORED
from campus_tune.data.turns import Conversation
from campus_tune.demo.tiny import tiny_model
from campus_tune.metrics.reward import Reward
from campus_tune.model.conversations import Conversations, retell
from campus_tune.model.peers import Peers
from campus_tune.model.reference import Reference, load_reference
from campus_tune.model.reference_losses import reads_the_same, reference_meter
from campus_tune.model.reward import load_reward, reward_scores
from campus_tune.words.errors import DataError, MetricError, RecipeError
from tests.run.other_models import (
    OTHER_TEMPLATE,
    chat,
    other_tokenizer,
    plain,
    save_foreign,
    save_reward,
    save_same,
    text,
    trainer_of,
)
from tests.run.tiny_run import task_rows, tokenizer
from tests.run.witness import all_slow_losses, assert_close

CPU = torch.device("cpu")
SETTING = "perplexity: model"
EVERY = np.arange(12)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def load(folder: Path | str, **settings: Any) -> Any:
    return load_reference(str(folder), setting=SETTING, device=CPU, **settings)


@cache
def prepared(kind: str = "prompt and completion") -> Any:
    """Rows as the trainer prepares them, text columns left."""
    import tempfile

    with tempfile.TemporaryDirectory() as out:
        return trainer_of(Path(out), kind).train_dataset


def meter_of(reference: Reference, data: Any, rows: Any = EVERY, **settings: Any) -> Any:
    options: dict[str, Any] = {"tokenizer": tokenizer(), "max_length": 512, "peers": Peers(), "what": "asking"}
    return reference_meter(reference, data, np.asarray(rows), **{**options, **settings})


# -- losses --------------------------------------------------------------------------------------------------------


def test_a_model_with_the_same_tokenizer_reads_the_very_rows_of_training(tmp_path: Path) -> None:
    with load(save_same(tmp_path)) as reference:
        meter, counts = meter_of(reference, prepared(), [3, 0, 7])
        losses = meter.losses(np.arange(3))
        assert_close(losses, all_slow_losses(reference, [3, 0, 7], prepared()))
        assert meter.dataset[0]["input_ids"] == prepared()[3]["input_ids"]
        assert counts.warnings(reference) == []
    assert not counts.foreign
    assert counts.answers.tolist() == losses.tokens.tolist()


@pytest.mark.parametrize("save", [save_same, save_foreign])
def test_a_reference_counts_what_the_collator_leaves(save: Any, tmp_path: Path) -> None:
    last = [[IGNORED] * (len(row) - 1) + row[-1:] for row in prepared()["input_ids"]]
    trained = prepared().select_columns(["input_ids"]).add_column("labels", last)
    with load(save(tmp_path)) as reference:
        _, counts = meter_of(reference, prepared(), trained=trained)
    last_token = tokenizer().decode([row[-1] for row in last][:1], skip_special_tokens=True)
    extra = 0 if save is save_same else 1  # its end token, which follows an answer
    assert counts.answers.tolist() == [len(other_tokenizer()(last_token)["input_ids"][1:]) + extra] * 12


def as_other_would(row: Any) -> dict[str, list[int]]:
    """The prompt and the whole by the other template, the answer being what is longer."""
    tok = other_tokenizer()
    before = tok.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=True)["input_ids"]
    whole = tok.apply_chat_template(row["prompt"] + row["completion"], return_dict=True)["input_ids"]
    assert whole[: len(before)] == before
    return {"input_ids": whole, "labels": [IGNORED] * len(before) + whole[len(before) :]}


def test_a_model_with_its_own_tokenizer_reads_the_text_by_its_own_template(tmp_path: Path) -> None:
    expected = [as_other_would(row) for row in task_rows(12)]
    with load(save_foreign(tmp_path)) as reference:
        meter, counts = meter_of(reference, prepared())
        assert_close(meter.losses(EVERY), all_slow_losses(reference, EVERY, expected))
        assert counts.warnings(reference) == []
    assert counts.foreign
    assert counts.tokens.tolist() == [len(row["input_ids"]) for row in expected]


def test_answers_alone_count_the_same_tokens_as_whole_rows(tmp_path: Path) -> None:
    with load(save_foreign(tmp_path)) as reference:
        given, _ = meter_of(reference, prepared())
        alone, counts = meter_of(reference, prepared(), part="answer")
        expected = []
        for row in task_rows(12):
            answer = [label for label in as_other_would(row)["labels"] if label != IGNORED]
            expected.append({"input_ids": [1, *answer], "labels": [IGNORED, *answer]})
        losses = alone.losses(EVERY)
        assert_close(losses, all_slow_losses(reference, EVERY, expected))
        assert losses.tokens.tolist() == given.losses(EVERY).tokens.tolist() == counts.answers.tolist()


def told(kind: str, row: int, template: str | None = OTHER_TEMPLATE) -> tuple[str, list[str]]:
    """One prepared row for the other tokenizer: all of it, and the stretches that carry loss."""
    tok = other_tokenizer(template)
    ids, labels = retell(Conversations(prepared(kind), np.array([row]), tokenizer())[0], tok)
    assert all(label in (IGNORED, token) for token, label in zip(ids, labels, strict=True))
    runs: list[list[int]] = [[]]
    for label in labels:
        if label == IGNORED:
            runs.append([])
        else:
            runs[-1].append(label)
    return tok.decode(ids), [tok.decode(run) for run in runs if run]


def known(words: str) -> str:
    """As the other tokenizer writes and reads it."""
    tok = other_tokenizer()
    return str(tok.decode(tok(words, add_special_tokens=False)["input_ids"]))


def test_only_the_assistants_turns_carry_loss_where_they_did_in_training() -> None:
    turns = chat(task_rows(24))[4]["messages"]
    answers = [turn["content"] for turn in turns if turn["role"] == "assistant"]
    _, counted = told("chat, assistant only", 4)
    assert counted == [known(f"{answer} ;\n") for answer in answers]


def test_all_turns_carry_loss_where_they_did_in_training() -> None:
    turns = chat(task_rows(24))[4]["messages"]
    whole, counted = told("chat", 4)
    assert counted == [whole.removeprefix("<s>").lstrip()]
    assert whole.count("assistant") == sum(turn["role"] == "assistant" for turn in turns)


def test_plain_text_ends_with_the_other_models_own_end_token() -> None:
    row = plain(task_rows(12))[2]
    whole, counted = told("plain prompt and completion", 2)
    assert counted == [known(row["completion"]) + " </s>"]
    assert "im_end" not in whole
    whole, counted = told("text", 2)
    assert counted == [whole.removeprefix("<s>").lstrip()]
    assert whole.endswith("</s>")
    assert "im_end" not in whole


def test_chats_are_joined_by_line_breaks_where_the_model_has_no_template(tmp_path: Path) -> None:
    row = task_rows(12)[3]
    whole, counted = told("prompt and completion", 3, template=None)
    assert counted == [known(row["completion"][0]["content"]) + " </s>"]
    assert "assistant" not in whole
    with load(save_foreign(tmp_path, template=None)) as reference:
        (warning,) = meter_of(reference, prepared())[1].warnings(reference)
    assert "`perplexity: model`" in warning
    assert "has no chat template: 12 of 12 rows are read as plain text" in warning


def test_rows_without_text_are_decoded() -> None:
    bare = prepared("chat, assistant only").select_columns(["input_ids", "labels"])
    conversation = Conversations(bare, np.array([1]), tokenizer())[0]
    turns = chat(task_rows(24))[1]["messages"]
    assert conversation.counted == (False, True) * (len(turns) // 2)
    assert [part.strip() for part in conversation.turns[1::2]] == [turn["content"].strip() for turn in turns[1::2]]
    with pytest.raises(DataError, match="must be given the rows as text, got token ids alone and no tokenizer"):
        Conversations(bare, np.array([1]), None)[0]


def test_an_answer_is_found_where_a_template_rewrites_what_came_before() -> None:
    """As reasoning models do: only the last answer keeps what it was in a chat that ends with it."""
    rewriting = (
        "{% for message in messages %}{{ message['role'] + ' ' }}{% if not loop.last %}{{ 'short ' }}{% endif %}"
        "{{ message['content'] + ' ; ' }}{% endfor %}"
    )
    tok = other_tokenizer(rewriting)
    turns = tuple({"role": role, "content": str(i)} for i, role in enumerate(["user", "assistant"] * 2))
    ids, labels = retell(Conversation(turns, (False, True, False, True)), tok)
    assert [tok.decode(label) for label in labels if label != IGNORED] == ["1", "3"]
    assert len(ids) == len(labels)


def test_a_template_that_refuses_a_row_is_an_error_that_says_so() -> None:
    tok = other_tokenizer("{% if messages|length > 1 %}{{ raise_exception('one turn only') }}{% endif %}")
    turns = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})
    with pytest.raises(DataError, match="got a row with the roles user, assistant, of which it says: one turn only"):
        retell(Conversation(turns, (False, True)), tok)


def test_a_tokenizer_that_cannot_say_where_tokens_stand_reads_part_by_part() -> None:
    class Slow:
        is_fast, chat_template, eos_token_id = False, None, 2

        def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
            return [1] * add_special_tokens + [ord(letter) for letter in text]

    ids, labels = retell(Conversation(("ab", "c"), (False, True)), Slow())
    assert ids == [1, 97, 98, 99, 2]
    assert labels == [IGNORED] * 3 + [99, 2]


def test_rows_longer_than_the_models_context_are_cut_and_counted_and_lost_answers_are_named(tmp_path: Path) -> None:
    save_same(tmp_path)
    lengths = [len(row["input_ids"]) for row in prepared()]
    prompts = [sum(label == IGNORED for label in row["labels"]) for row in prepared()]
    limit = sorted(prompts)[6]
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "max_position_embeddings": limit}))
    lost = [row for row in range(12) if prompts[row] >= limit]
    assert 0 < len(lost) < 12
    with load(tmp_path) as reference:
        meter, counts = meter_of(reference, prepared())
        losses = meter.losses(EVERY)
        cut = [{name: prepared()[i][name][:limit] for name in ("input_ids", "labels")} for i in range(12)]
        kept = [row for row in range(12) if row not in lost]
        assert_close(losses.take(np.array(kept)), all_slow_losses(reference, kept, cut))
        warnings = counts.warnings(reference)
    assert losses.tokens[lost].tolist() == losses.nll_sum[lost].tolist() == [0] * len(lost)
    assert counts.silent.tolist() == lost
    assert counts.truncated == sum(length > limit for length in lengths)
    assert f"reads the first {limit} tokens of {counts.truncated} of 12 rows" in warnings[0]
    assert f"reads nothing of the answer of {len(lost)} of 12 rows (first: {lost[0]}" in warnings[1]


def test_training_may_read_less_than_the_model_could(tmp_path: Path) -> None:
    with load(save_same(tmp_path)) as reference:
        assert [reference.limit(None), reference.limit(100), reference.limit(9999)] == [512, 100, 512]


def test_only_silent_rows_are_no_reason_to_stop(tmp_path: Path) -> None:
    with load(save_same(tmp_path)) as reference:
        meter, counts = meter_of(reference, prepared(), max_length=2)
        assert meter.losses(EVERY).tokens.tolist() == [0] * 12
    assert len(counts.silent) == 12


def test_tokenizers_are_the_same_if_they_make_the_same_tokens() -> None:
    def changed(template: str | None) -> Any:
        copy = type(tokenizer())(tokenizer_object=tokenizer()._tokenizer, eos_token="<|im_end|>")
        copy.chat_template = template
        return copy

    marked = tokenizer().chat_template
    assert reads_the_same(tokenizer(), changed(marked))
    unmarked = marked.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    assert reads_the_same(tokenizer(), changed(unmarked)), "markers for trl are no difference"
    assert not reads_the_same(tokenizer(), changed(OTHER_TEMPLATE))
    assert not reads_the_same(tokenizer(), changed(None))
    assert not reads_the_same(tokenizer(), other_tokenizer())
    assert not reads_the_same(None, tokenizer())


def test_a_loss_that_is_no_number_is_refused_and_the_model_named(tmp_path: Path) -> None:
    with load(save_same(tmp_path)) as reference:
        with torch.no_grad():
            reference.model.model.norm.weight.fill_(torch.nan)
        with pytest.raises(MetricError, match=r"`perplexity: model` .*: the loss of every row must be finite, got NaN"):
            meter_of(reference, prepared())[0].losses(EVERY)


# -- loading -------------------------------------------------------------------------------------------------------


def test_an_adapter_is_loaded_on_its_base_and_has_its_tokenizer(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = save_same(tmp_path / "base")
    adapted = get_peft_model(tiny_model(seed=5), LoraConfig(r=4, target_modules="all-linear"))
    adapted.peft_config["default"].base_model_name_or_path = str(base)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(5))
    adapted.save_pretrained(tmp_path / "adapter")
    with load(tmp_path / "adapter") as reference, load(base) as bare:
        losses = meter_of(reference, prepared())[0].losses(EVERY)
        adapted.eval()
        assert_close(losses, all_slow_losses(SimpleNamespace(model=adapted), EVERY, prepared()))
        assert np.abs(losses.nll_sum - meter_of(bare, prepared())[0].losses(EVERY).nll_sum).max() > 0.1


def test_an_adapter_whose_base_is_gone_is_an_error_that_names_both(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "./gone"}))
    with (
        pytest.raises(RecipeError, match=r"got './gone', the base of the adapter .*: there is no such folder"),
        load(tmp_path),
    ):
        pass


@pytest.mark.parametrize("name", ["./missing", "/nowhere/at/all", "some/hub-id"])
def test_a_model_that_is_not_there_is_named_with_the_setting(name: str) -> None:
    with (
        pytest.raises(RecipeError, match=f"`perplexity: model` must be a model folder or a hub id, got '{name}'"),
        load(name),
    ):
        pass


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(RecipeError, match=r"must be a model folder or a hub id, got .*: it holds no whole model"),
        load(tmp_path),
    ):
        pass


def test_a_model_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path)
    with pytest.raises(RecipeError, match=r"must have its own tokenizer .* tokenizer.save_pretrained"), load(tmp_path):
        pass


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(RecipeError, match=r"must be a causal language model, .* says LlamaForSequenceClass"),
        load(save_reward(tmp_path)),
    ):
        pass


def test_a_model_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    save_same(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with (
        pytest.raises(RecipeError, match=r"must be a causal language model, .* its weights lack model.layers.2"),
        load(tmp_path),
    ):
        pass


def test_weights_that_are_cut_off_are_told_of_a_model_and_of_an_adapter(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = save_same(tmp_path / "base")
    adapted = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules="all-linear"))
    adapted.peft_config["default"].base_model_name_or_path = str(base)
    adapted.save_pretrained(tmp_path / "adapter")
    for folder, file in (("adapter", "adapter_model.safetensors"), ("base", "model.safetensors")):
        (tmp_path / folder / file).write_bytes(b"cut off")
        with pytest.raises(RecipeError, match=r"holds no whole model \(.*header too small"), load(tmp_path / folder):
            pass


def test_a_random_state_is_left_as_it_was_and_the_model_does_not_learn(tmp_path: Path) -> None:
    save_same(tmp_path)
    before = random.getstate(), torch.get_rng_state().tolist()
    with load(tmp_path) as reference:
        assert not reference.model.training
        meter_of(reference, prepared())[0].losses(EVERY)
        assert all(weight.grad is None for weight in reference.model.parameters())
    assert (random.getstate(), torch.get_rng_state().tolist()) == before


def test_the_model_is_gone_when_the_context_ends_whoever_holds_the_reference(tmp_path: Path) -> None:
    with load(save_same(tmp_path)) as reference:
        meter, _ = meter_of(reference, prepared())
        meter.losses(EVERY)
        seen = weakref.ref(reference.model)
    assert meter is not None
    assert seen() is None


def test_weights_come_in_the_type_that_is_asked_for(tmp_path: Path) -> None:
    save_same(tmp_path)
    with load(tmp_path) as reference:
        assert reference.model.dtype == torch.float32
    with load(tmp_path, dtype=torch.bfloat16) as reference:
        assert reference.model.dtype == torch.bfloat16


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_a_model_that_does_not_fit_is_named_whether_it_loads_or_not(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    message = "`perplexity: model` must fit into memory .* Name a smaller model, or score ahead"
    with load(save_same(tmp_path)) as reference:
        meter, _ = meter_of(reference, prepared())
        monkeypatch.setattr(reference.model, "forward", fail)
        with pytest.raises(RecipeError, match=message):
            meter.losses(EVERY)
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", fail)
    with pytest.raises(RecipeError, match=message), load(tmp_path):
        pass


def test_an_error_of_another_kind_keeps_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug")

    with load(save_same(tmp_path)) as reference:
        monkeypatch.setattr(reference.model, "forward", fail)
        with pytest.raises(RuntimeError, match="a bug"):
            meter_of(reference, prepared())[0].losses(EVERY)


# -- reward models -------------------------------------------------------------------------------------------------


@contextmanager
def rewards(folder: Path, data: Any, **settings: Any) -> Iterator[tuple[Any, Any, int]]:
    logit, max_length = settings.get("logit"), settings.get("max_length", 512)
    with load_reward(Reward(str(folder), logit), device=CPU) as (reference, label):
        scores, cut = reward_scores(
            reference,
            data,
            EVERY,
            label=label,
            tokenizer=tokenizer(),
            max_length=max_length,
            peers=Peers(),
            what="judging",
        )
        yield reference, scores, cut


def slow_logits(reference: Reference, rows: list[list[int]], label: int) -> list[float]:
    with torch.no_grad():
        return [float(reference.model(input_ids=torch.tensor([ids])).logits[0, label]) for ids in rows]


@pytest.mark.parametrize("pad", [0, None])
def test_a_reward_is_the_logit_of_the_whole_conversation(pad: int | None, tmp_path: Path) -> None:
    save_reward(tmp_path, ("poor", "good"), pad=pad)
    ids = [
        tokenizer().apply_chat_template(r["prompt"] + r["completion"], return_dict=True)["input_ids"]
        for r in task_rows(12)
    ]
    with rewards(tmp_path, prepared(), logit="good") as (reference, scores, cut):
        np.testing.assert_allclose(scores, slow_logits(reference, ids, 1), rtol=1e-4, atol=1e-6)
        assert cut == 0
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": 10}))
    with rewards(tmp_path, prepared(), logit="good") as (reference, scores, cut):
        np.testing.assert_allclose(scores, slow_logits(reference, [row[:10] for row in ids], 1), rtol=1e-4, atol=1e-6)
        assert cut == 12


def test_a_reward_model_that_knows_no_padding_reads_one_row_at_a_time(tmp_path: Path) -> None:
    bare = type(tokenizer())(tokenizer_object=tokenizer()._tokenizer, eos_token="<|im_end|>")
    bare.chat_template = tokenizer().chat_template
    save_reward(tmp_path, tok=bare, pad=None)
    ids = [
        bare.apply_chat_template(r["prompt"] + r["completion"], return_dict=True)["input_ids"] for r in task_rows(12)
    ]
    with rewards(tmp_path, prepared()) as (reference, scores, _):
        np.testing.assert_allclose(scores, slow_logits(reference, ids, 0), rtol=1e-4, atol=1e-6)


def test_a_reward_model_without_a_template_reads_prompt_and_answer_as_a_pair(tmp_path: Path) -> None:
    tok = other_tokenizer(None)
    save_reward(tmp_path, tok=tok)
    pairs = [(row["prompt"][0]["content"] + "\n", row["completion"][0]["content"]) for row in task_rows(12)]
    with rewards(tmp_path, prepared()) as (reference, scores, _):
        expected = slow_logits(reference, [tok(*pair)["input_ids"] for pair in pairs], 0)
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)


def test_a_text_without_a_prompt_is_judged_by_itself(tmp_path: Path) -> None:
    tok = other_tokenizer(None)
    save_reward(tmp_path, tok=tok)
    with rewards(tmp_path, prepared("text")) as (reference, scores, _):
        expected = slow_logits(reference, [tok(row["text"])["input_ids"] for row in text(task_rows(12))], 0)
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)


def test_a_quality_model_with_several_labels_and_no_choice_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    save_reward(tmp_path, ("poor", "fair", "good"))
    (tmp_path / "model.safetensors").unlink()
    with (
        pytest.raises(MetricError, match=r"0 \(poor\), 1 \(fair\), 2 \(good\), got None"),
        rewards(tmp_path, prepared()),
    ):
        pass


def test_a_language_model_is_no_quality_model(tmp_path: Path) -> None:
    save_same(tmp_path)
    with (
        pytest.raises(RecipeError, match=r"must be a sequence-classification model, .* its weights lack score.weight"),
        rewards(tmp_path, prepared(), logit=0),
    ):
        pass


def test_an_adapter_of_a_quality_model_must_be_merged_first(tmp_path: Path) -> None:
    base = save_reward(tmp_path / "base")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    with pytest.raises(RecipeError, match=r"it is an adapter. Merge it first"), rewards(tmp_path, prepared()):
        pass


def test_rewards_are_the_same_with_two_ranks_as_with_one(tmp_path: Path) -> None:
    save_reward(tmp_path)

    class Half(Peers):
        def merge(self, columns: Any, known: Any) -> Any:
            assert 0 < known.sum() < 12
            return {"score": np.where(known, columns["score"], np.nan)}

    with rewards(tmp_path, prepared()) as (reference, scores, _):
        parts = [
            reward_scores(
                reference,
                prepared(),
                EVERY,
                label=0,
                tokenizer=tokenizer(),
                max_length=512,
                peers=Half(rank, 2),
                what="j",
            )[0]
            for rank in (0, 1)
        ]
    np.testing.assert_allclose(np.nansum(parts, axis=0), scores)
    assert (np.isnan(parts).sum(0) == 1).all()
