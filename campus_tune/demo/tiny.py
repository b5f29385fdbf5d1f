"""A random Llama of a few ten thousand weights and a real tokenizer for it, made in a second without a hub.

For tests and long proofs on a CPU: everything a trainer touches is there (safetensors, fast tokenizer, chat template
with generation markers, pad, bos and eos), only the knowledge is missing. The same arguments give the same weights
and the same vocabulary, and the global random state is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from campus_tune.demo.tasks import generate
from campus_tune.words.errors import DataError, RecipeError
from campus_tune.words.files import atomic_write

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

VOCAB_SIZE = 512
CONTEXT = 512
MARKER = "campus_tiny.txt"  # in a folder that was made here
_SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>")  # ids 0, 1, 2
_N_HEADS = 4

# ChatML without a system turn. The same tokens carry loss under assistant-only and completion-only loss.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>\\n' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def tiny_model(*, vocab_size: int = VOCAB_SIZE, hidden: int = 32, layers: int = 2, seed: int = 0) -> LlamaForCausalLM:
    """A Llama with random weights in float32: the default has 35 000.

    Args:
        vocab_size: at least the length of the tokenizer it works with.
        hidden: width; must be a multiple of 8, for four heads of even size.
        layers: at least 1.
        seed: of the weights.

    Raises:
        RecipeError: a size out of range.
    """
    if hidden < 1 or hidden % (2 * _N_HEADS):
        raise RecipeError(f"`hidden` must be a positive multiple of {2 * _N_HEADS}, got {hidden!r}. Try 32.")
    if layers < 1:
        raise RecipeError(f"`layers` must be at least 1, got {layers!r}. Try 2.")
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=_N_HEADS,
        num_key_value_heads=_N_HEADS // 2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def tiny_tokenizer(texts: Iterable[str] | None = None, *, vocab_size: int = VOCAB_SIZE) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer: every text comes back as it was, whatever it was trained on.

    Args:
        texts: what to learn the merges from; None takes the demo tasks.
        vocab_size: tokens at most; 259 (the bytes and three special tokens) at least.

    Raises:
        RecipeError: `vocab_size` has no room for the bytes.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if vocab_size < len(alphabet) + len(_SPECIAL):
        raise RecipeError(f"`vocab_size` must be at least {len(alphabet) + len(_SPECIAL)}, got {vocab_size}. Raise it.")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=list(_SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    if texts is None:  # some of every kind of task, roles included
        messages = [row[part][0] for row in generate(20, seed=0) for part in ("prompt", "completion")]
        texts = [f"{message['role']}\n{message['content']}" for message in messages]
    backend.train_from_iterator(texts, trainer)
    pad, bos, eos = _SPECIAL
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        tokenizer_object=backend,
        pad_token=pad,
        bos_token=bos,
        eos_token=eos,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def write_tiny(folder: Path, *, hidden: int = 32, layers: int = 2, seed: int = 0) -> Path:
    """Save the model and its tokenizer, so that `model_name_or_path: <folder>` works, and return the folder.

    The folder is made if it is not there; a model that this made is replaced, no other. Sizes are as in `tiny_model`.

    Raises:
        RecipeError: a size out of range.
        DataError: the folder holds another model.
    """
    model = tiny_model(hidden=hidden, layers=layers, seed=seed)
    there = sorted(path.name for name in ("config.json", "*.safetensors", "tokenizer*") for path in folder.glob(name))
    if there and not (folder / MARKER).is_file():
        raise DataError(
            f"`--out` must be a folder without a model of yours, got {', '.join(there)} in {str(folder)!r}: they would "
            "be replaced. Name another folder."
        )
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    atomic_write(folder / MARKER, "a random model for tests, made by `campus-tune demo model --tiny`\n")
    return folder
