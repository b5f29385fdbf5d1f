"""The sums: prompts that can be checked, and a tiny model that gets some of them right."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from campus_tune.demo.sums import N_LEVELS, OPERATIONS, ROOM, right_sum, sums, warm_model, write_sums, write_warm_model
from campus_tune.words.errors import DataError, RecipeError

SIGNS = {"plus": "+", "minus": "-", "times": "*"}


@pytest.fixture(scope="module")
def warm() -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    return warm_model(steps=300)


def test_every_answer_is_what_its_prompt_asks_for_and_no_prompt_comes_twice() -> None:
    rows = sums(40, seed=0)
    assert Counter((row["domain"], row["level"]) for row in rows) == {
        (domain, level): 40 for domain in OPERATIONS for level in range(N_LEVELS)
    }
    assert len({row["prompt"][0]["content"] for row in rows}) == len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        match = re.fullmatch(r"[A-Z][a-z]+ has (\d+) [a-z]+ (plus|minus|times) (\d+)", row["prompt"][0]["content"])
        assert match is not None
        assert match[2] == row["domain"]
        assert row["answer"] == str(eval(f"{match[1]} {SIGNS[match[2]]} {match[3]}"))
        assert int(row["answer"]) >= 0


def test_a_level_has_larger_numbers_than_the_one_below() -> None:
    largest: dict[tuple[str, int], list[int]] = {}
    for row in sums(30, seed=1):
        numbers = [int(number) for number in re.findall(r"\d+", row["prompt"][0]["content"])]
        largest.setdefault((row["domain"], row["level"]), []).append(max(numbers))
    for domain in OPERATIONS:
        for level in range(1, N_LEVELS):
            assert min(largest[domain, level]) > max(largest[domain, level - 1])


def test_more_prompts_leave_the_first_ones_as_they_were_and_every_cell_has_the_room_that_is_promised() -> None:
    few, many = sums(2, seed=3), sums(ROOM, seed=3)
    assert [row for row in many if row["id"][-4:] in ("0000", "0001")] == few
    assert sums(2, seed=4) != few


def test_all_that_is_out_of_range_is_named_at_once() -> None:
    with pytest.raises(RecipeError, match=r"(?s)`n_per_cell` .* at least 1, at most 600, got 601.*`seed` .*got -1"):
        sums(601, seed=-1)
    with pytest.raises(RecipeError, match="`steps` must be a whole number, at least 1, got 0"):
        warm_model(steps=0)


def test_the_reward_is_for_the_number_alone_as_text_or_as_a_conversation() -> None:
    said = ["7", " 7\n", "07", "7.", "", "8", [{"role": "assistant", "content": "7"}]]
    assert right_sum(said, answer=["7"] * 7, level=[0] * 7) == [1, 1, 0, 0, 0, 0, 1]


def test_files_share_no_prompt_and_more_prompts_leave_the_tests_alone(tmp_path: Path) -> None:
    small = write_sums(tmp_path / "small", prompts_per_cell=2, tests_per_cell=3)
    large = write_sums(tmp_path / "large", prompts_per_cell=9, tests_per_cell=3)
    assert [*small] == ["train", "test"]
    assert small["test"].read_bytes() == large["test"].read_bytes()
    rows = {name: [json.loads(line) for line in path.read_text("utf-8").splitlines()] for name, path in large.items()}
    assert {name: len(part) for name, part in rows.items()} == {"train": 135, "test": 45}
    asked = {name: {row["prompt"][0]["content"] for row in part} for name, part in rows.items()}
    assert not asked["train"] & asked["test"]
    assert [row["id"] for row in rows["train"]] != sorted(row["id"] for row in rows["train"])  # shuffled


def test_files_of_ones_own_are_not_replaced(tmp_path: Path) -> None:
    write_sums(tmp_path, prompts_per_cell=1, tests_per_cell=1)
    write_sums(tmp_path, prompts_per_cell=2, tests_per_cell=1)  # its own are
    (tmp_path / "train.jsonl").write_text('{"prompt": "mine"}\n', "utf-8")
    with pytest.raises(DataError, match=r"must hold no prompts of yours .*, got train\.jsonl"):
        write_sums(tmp_path)
    (tmp_path / "config.json").write_text("{}", "utf-8")
    with pytest.raises(DataError, match=r"a folder without a model of yours, got config\.json .* Name another folder"):
        write_warm_model(tmp_path)


def test_a_short_warm_up_gets_more_easy_sums_right_than_hard_ones(
    warm: tuple[LlamaForCausalLM, PreTrainedTokenizerFast],
) -> None:
    model, tokenizer = warm
    tokenizer.padding_side = "left"
    rates = []
    for level in (0, N_LEVELS - 1):
        rows = [row for row in sums(40, seed=9) if row["level"] == level]
        texts = tokenizer.apply_chat_template(
            [row["prompt"] for row in rows], add_generation_prompt=True, tokenize=False
        )
        asked = tokenizer(texts, return_tensors="pt", padding=True)
        said = model.generate(**asked, max_new_tokens=4, do_sample=False)[:, asked["input_ids"].shape[1] :]
        done = tokenizer.batch_decode(said, skip_special_tokens=True)
        rates.append(sum(right_sum(done, answer=[row["answer"] for row in rows])) / len(rows))
    assert rates[0] > 0.3
    assert rates[1] < 0.1


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_stream_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    one, other = warm_model(steps=2)[0].state_dict(), warm_model(steps=2)[0].state_dict()
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_folder_is_loaded_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("campus_tune.demo.sums._WARM_STEPS", 2)
    folder = write_warm_model(tmp_path / "model")
    assert write_warm_model(folder) == folder  # its own is replaced
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == model.config.vocab_size
    assert tokenizer.tokenize("12")[-2:] == ["1", "2"]
