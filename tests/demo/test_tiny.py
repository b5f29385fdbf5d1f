from __future__ import annotations

from pathlib import Path

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from campus_tune.demo.tasks import generate
from campus_tune.demo.tiny import tiny_model, tiny_tokenizer, write_tiny
from campus_tune.words.errors import DataError, RecipeError
from tests.strategies import examples

TOKENIZER = tiny_tokenizer()


@examples(50)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_comes_back_as_it_was(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER(text)["input_ids"], skip_special_tokens=False) == text


def test_digits_are_split_one_by_one() -> None:
    tokens = TOKENIZER.tokenize("x = 1234")
    assert tokens[-4:] == ["1", "2", "3", "4"]


def test_pad_bos_and_eos_are_three_different_tokens_that_the_model_agrees_with() -> None:
    ids = (TOKENIZER.pad_token_id, TOKENIZER.bos_token_id, TOKENIZER.eos_token_id)
    config = tiny_model().config
    assert ids == (0, 1, 2)
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == ids
    assert len(TOKENIZER) <= config.vocab_size


def test_the_same_arguments_give_the_same_weights_and_leave_the_global_stream_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    one = tiny_model(seed=3).state_dict()
    assert torch.equal(torch.rand(3), expected)
    same, other = tiny_model(seed=3).state_dict(), tiny_model(seed=4).state_dict()
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


def test_two_folders_hold_the_same_bytes_and_load_by_their_path(tmp_path: Path) -> None:
    first, second = write_tiny(tmp_path / "a"), write_tiny(tmp_path / "b")
    names = sorted(path.name for path in first.iterdir())
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= set(names)
    assert names == sorted(path.name for path in second.iterdir())
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)
    loaded, tokenizer = AutoModelForCausalLM.from_pretrained(first), AutoTokenizer.from_pretrained(first)
    assert torch.equal(loaded.model.embed_tokens.weight, tiny_model().model.embed_tokens.weight)
    row = generate(1, seed=0)[-1]
    messages = row["prompt"] + row["completion"]
    assert tokenizer.apply_chat_template(messages) == TOKENIZER.apply_chat_template(messages)


def test_a_model_of_the_users_own_is_not_replaced_and_one_made_here_is(tmp_path: Path) -> None:
    write_tiny(tmp_path / "made", seed=1)
    before = (tmp_path / "made" / "model.safetensors").read_bytes()
    write_tiny(tmp_path / "made", seed=2)
    assert (tmp_path / "made" / "model.safetensors").read_bytes() != before
    tiny_model(seed=1).save_pretrained(tmp_path / "mine")
    before = (tmp_path / "mine" / "model.safetensors").read_bytes()
    with pytest.raises(DataError, match=r"without a model of yours, got config\.json, model\.safetensors in"):
        write_tiny(tmp_path / "mine", seed=2)
    assert (tmp_path / "mine" / "model.safetensors").read_bytes() == before


def test_the_template_is_chatml_and_marks_the_answers_only() -> None:
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "bc"},
        {"role": "user", "content": "d"},
    ]
    rendered = TOKENIZER.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    turns = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nbc<|im_end|>\n<|im_start|>user\nd<|im_end|>\n"
    assert rendered == turns + "<|im_start|>assistant\n"
    encoded = TOKENIZER.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    marked = [i for i, mark in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mark]
    assert TOKENIZER.decode(marked) == "bc<|im_end|>\n"


def test_a_vocabulary_can_be_learnt_from_other_texts() -> None:
    tokenizer = tiny_tokenizer(["zebra zebra zebra"] * 3, vocab_size=270)
    assert tokenizer.tokenize("zebra") == ["zebra"]
    assert len(tokenizer) <= 270


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 12}, "`hidden` must be a positive multiple of 8, got 12. Try 32."),
        ({"layers": 0}, "`layers` must be at least 1, got 0. Try 2."),
    ],
)
def test_sizes_that_make_no_model_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        tiny_model(**options)


def test_a_vocabulary_without_room_for_the_bytes_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"`vocab_size` must be at least 259, got 100\. Raise it"):
        tiny_tokenizer(vocab_size=100)


# transformers 5 warns about its own setting inside TRL's constructor
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning")
@pytest.mark.parametrize("assistant_only", [False, True])
def test_trl_trains_the_folder_with_loss_on_the_answers_only(tmp_path: Path, assistant_only: bool) -> None:
    from trl import SFTConfig, SFTTrainer

    rows = generate(1, seed=0)
    answers = [row["completion"][0]["content"] for row in rows]
    if assistant_only:
        rows = [{"messages": row["prompt"] + row["completion"]} for row in rows]
    args = SFTConfig(
        output_dir=str(tmp_path / "out"),
        max_steps=3,
        per_device_train_batch_size=4,
        learning_rate=0.01,
        assistant_only_loss=assistant_only,
        bf16=False,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
    )
    trainer = SFTTrainer(str(write_tiny(tmp_path / "tiny")), args=args, train_dataset=Dataset.from_list(rows))
    labels = [row["labels"] for row in trainer.train_dataset]
    trained = [TOKENIZER.decode([i for i in row if i != -100]) for row in labels]
    assert trained == [f"{answer}<|im_end|>\n" for answer in answers]
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]
