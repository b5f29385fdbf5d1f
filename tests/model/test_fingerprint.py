"""Fingerprints: everything that changes a score changes them, and nothing else does."""

from __future__ import annotations

import copy
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, PromptTuningConfig, TaskType, get_peft_model

from campus_tune.data.tokenizers import tokenizer_fingerprint
from campus_tune.demo.tiny import tiny_model, tiny_tokenizer
from campus_tune.model import fingerprint
from campus_tune.model.fingerprint import weights_fingerprint
from campus_tune.words.errors import TrainerError
from tests.run.tiny_run import tokenizer

# what peft says of settings that are there to be hashed, not to be trained
pytestmark = [
    pytest.mark.filterwarnings("ignore:`lora_bias=True` was passed"),
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`"),
]

MASK = 2**64 - 1


def slow_sum(data: bytes) -> int:
    """Splitmix64 of (8-byte word + place × golden ratio), summed; Python's own integers."""
    data += bytes(-len(data) % 8)
    total = 0
    for i in range(len(data) // 8):
        z = int.from_bytes(data[8 * i : 8 * i + 8], "little") + (i + 1) * 0x9E3779B97F4A7C15 & MASK
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
        total += z ^ z >> 31
    return total & MASK


@given(st.binary(max_size=100), st.integers(0, 9), st.integers(1, 5))
def test_the_sum_is_that_of_a_loop_over_words_wherever_the_bytes_begin(data: bytes, skip: int, words: int) -> None:
    tensor = torch.tensor(list(bytes(skip) + data), dtype=torch.uint8)[skip:]  # skip: not where a word begins
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fingerprint, "_WORDS", {"cpu": words})  # however many are mixed at a time
        assert fingerprint._sum_of_words(tensor).item() & MASK == slow_sum(data)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int8, torch.bool])
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (0,)])
def test_tensors_of_every_type_and_shape_are_hashed_by_their_bytes(dtype: torch.dtype, shape: tuple[int]) -> None:
    tensor = torch.from_numpy(np.array(np.random.default_rng(0).integers(0, 2, shape))).to(dtype)
    data = b"".join(element.clone().reshape(1).view(torch.uint8).numpy().tobytes() for element in tensor.flatten())
    assert fingerprint._sum_of_words(tensor).item() & MASK == slow_sum(data)


def test_a_single_element_cut_out_of_a_column_is_hashed_like_any_other() -> None:
    cut = torch.arange(10.0)[2::5][:1]
    assert cut.stride() == (5,)
    assert fingerprint._sum_of_words(cut) == fingerprint._sum_of_words(torch.tensor([2.0]))


def base(model: torch.nn.Module) -> str:
    return weights_fingerprint(model)[0]


def adapter(model: torch.nn.Module) -> str | None:
    return weights_fingerprint(model)[1]


def changed(change: Callable[[Any], Any]) -> torch.nn.Module:
    """The tiny model with a change made in place (or with what the change returns)."""
    model = tiny_model()
    with torch.no_grad():
        result = change(model)
    return result if isinstance(result, torch.nn.Module) else model


def flip_last_bit_of_last_element(model: Any) -> None:
    model.model.norm.weight.view(torch.int32)[-1] ^= 1


def set_first_element(model: Any) -> None:
    model.model.embed_tokens.weight[0, 0] += 1e-6


def swap_two_elements(model: Any) -> None:
    weight = model.model.layers[0].mlp.up_proj.weight
    weight[0, [0, 1]] = weight[0, [1, 0]]


def swap_two_rows(model: Any) -> None:
    weight = model.model.layers[1].self_attn.q_proj.weight
    weight[[0, 7]] = weight[[7, 0]]


def swap_two_tensors(model: Any) -> None:
    first, second = (model.model.layers[i].mlp.up_proj for i in range(2))
    first.weight, second.weight = second.weight, first.weight


def negate_two_elements(model: Any) -> None:
    model.model.layers[0].mlp.up_proj.weight[0, [1, 3]] *= -1  # two flipped top bits


def negate_a_tensor(model: Any) -> None:
    model.model.layers[0].mlp.down_proj.weight *= -1


def minus_zero(model: Any) -> None:
    model.model.layers[0].mlp.down_proj.weight[0, 0] = -0.0


def zero(model: Any) -> None:
    model.model.layers[0].mlp.down_proj.weight[0, 0] = 0.0


def rename(model: Any) -> None:
    mlp = model.model.layers[0].mlp
    mlp.another = mlp.up_proj
    del mlp.up_proj


def reshape(model: Any) -> None:
    norm = model.model.norm
    norm.weight = torch.nn.Parameter(norm.weight.reshape(4, 8))


def buffer(model: Any) -> None:
    model.register_buffer("scale", torch.ones(3))


def buffer_of_twos(model: Any) -> None:
    model.register_buffer("scale", torch.full((3,), 2.0))


CHANGES: list[Callable[[Any], Any]] = [
    flip_last_bit_of_last_element,
    set_first_element,
    swap_two_elements,
    swap_two_rows,
    swap_two_tensors,
    negate_two_elements,
    negate_a_tensor,
    minus_zero,
    zero,
    rename,
    reshape,
    buffer,
    buffer_of_twos,
    lambda model: model.to(torch.bfloat16),
    lambda model: model.to(torch.float16),
    lambda _: tiny_model(seed=1),
    lambda _: tiny_model(layers=3),
]


def test_every_change_of_the_weights_gives_another_hash() -> None:
    hashes = [base(tiny_model()), *(base(changed(change)) for change in CHANGES)]
    assert len(set(hashes)) == 1 + len(CHANGES)
    assert all(len(value) == 32 for value in hashes)


def test_any_single_element_counts() -> None:
    linear = torch.nn.Linear(3, 5)
    hashes = {base(linear)}
    for weight in linear.parameters():
        for i in range(weight.numel()):
            other = copy.deepcopy(linear)
            with torch.no_grad():
                next(p for p in other.parameters() if p.shape == weight.shape).view(-1)[i] += 1.0
            hashes.add(base(other))
    assert len(hashes) == 1 + 15 + 5


def test_what_does_not_change_the_weights_does_not_change_the_hash(tmp_path: Path) -> None:
    model = tiny_model()
    expected = weights_fingerprint(model)
    assert expected[1] is None
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert weights_fingerprint(loaded) == expected
    assert weights_fingerprint(copy.deepcopy(model).eval().requires_grad_(False)) == expected
    with torch.inference_mode():
        assert weights_fingerprint(model) == expected
    model.register_buffer("scratch", torch.rand(3), persistent=False)
    assert weights_fingerprint(model) == expected


def test_the_sequence_of_modules_does_not_count() -> None:
    def pair(names: str) -> torch.nn.Module:
        module = torch.nn.Module()
        for name in names:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(ord(name))
                module.add_module(name, torch.nn.Linear(2, 2))
        return module

    assert base(pair("ab")) == base(pair("ba")) != base(pair("ac"))


def test_tied_weights_and_equal_copies_are_the_same_function_and_the_same_hash() -> None:
    tied = tiny_model()
    untied = copy.deepcopy(tied)
    untied.lm_head.weight = torch.nn.Parameter(tied.lm_head.weight.clone())
    assert base(tied) == base(untied)
    with torch.no_grad():
        untied.lm_head.weight[0, 0] += 1
    assert base(tied) != base(untied)


def test_a_layout_that_is_not_contiguous_gives_the_same_hash() -> None:
    linear = torch.nn.Linear(6, 4)
    turned = copy.deepcopy(linear)
    turned.weight.data = linear.weight.data.T.contiguous().T
    assert not turned.weight.is_contiguous()
    assert base(turned) == base(linear)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch warns itself of its own modules
def test_a_compiled_model_is_the_same_model() -> None:
    model = tiny_model()
    assert weights_fingerprint(torch.compile(model, backend="eager")) == weights_fingerprint(model)  # type: ignore[arg-type]


def lora(seed: int = 0, **settings: Any) -> Any:
    """The tiny model with an adapter, fresh from this seed."""
    torch.manual_seed(seed)
    settings = {"r": 4, "target_modules": "all-linear", **settings}
    return get_peft_model(tiny_model(), LoraConfig(task_type="CAUSAL_LM", **settings))


def train(model: Any, part: str = "lora_B") -> Any:
    """Move the adapter's weights that have `part` in their names."""
    found = [weight for name, weight in model.named_parameters() if part in name]
    assert found
    with torch.no_grad():
        for weight in found:
            weight += 0.01
    return model


@pytest.mark.parametrize("settings", [{}, {"target_modules": ["q_proj", "embed_tokens"]}, {"lora_bias": True}])
def test_a_fresh_lora_is_none_whatever_its_seed_and_the_base_stays(settings: dict[str, Any]) -> None:
    for seed in range(2):
        assert weights_fingerprint(lora(seed, **settings)) == (base(tiny_model()), None)


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({}, "lora_B"),
        ({}, "layers.1.self_attn.q_proj.lora_B"),
        ({"lora_bias": True}, "lora_B.default.bias"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "lora_embedding_A"),
        ({"modules_to_save": ["norm"]}, "modules_to_save"),
    ],
)
def test_a_trained_adapter_has_a_hash_and_the_base_stays(settings: dict[str, Any], part: str) -> None:
    model = train(lora(**settings), part)
    found = weights_fingerprint(model)
    assert found[0] == base(tiny_model())
    assert found[1] is not None
    assert weights_fingerprint(train(model, part))[1] not in (None, found[1])


def test_a_lora_of_which_only_a_moved_still_adds_nothing() -> None:
    assert adapter(train(lora(), "lora_A")) is None


def test_where_one_layer_adds_something_the_random_numbers_of_the_others_do_not_count() -> None:
    one, other = (train(lora(seed), "layers.0.self_attn.q_proj.lora_") for seed in range(2))
    assert adapter(one) != adapter(other)
    with torch.no_grad():
        for name, weight in other.named_parameters():
            if "layers.0.self_attn.q_proj.lora_" in name:
                weight.copy_(one.get_parameter(name))
    assert adapter(one) == adapter(other)


def test_a_magnitude_vector_has_a_hash() -> None:
    assert adapter(lora(use_dora=True)) is not None


def test_fresh_copies_of_modules_are_none_like_the_rest() -> None:
    model = lora(modules_to_save=["norm"])
    assert weights_fingerprint(model) == (base(tiny_model()), None)


def test_the_scaling_belongs_to_a_trained_adapter() -> None:
    small, large = (train(lora(lora_alpha=alpha)) for alpha in (4, 8))
    assert adapter(small) != adapter(large)
    assert adapter(lora(lora_alpha=4)) is None


def test_an_adapter_that_is_off_or_another_one_that_is_on_is_seen() -> None:
    model = train(lora())
    on = adapter(model)
    with model.disable_adapter():
        assert weights_fingerprint(model) == (base(tiny_model()), None)
    model.add_adapter("second", LoraConfig(r=4, target_modules="all-linear"))
    assert adapter(model) == on  # it is there and takes no part
    model.set_adapter("second")
    assert adapter(model) is None


def test_a_saved_adapter_comes_back_with_its_hash(tmp_path: Path) -> None:
    model = train(lora(modules_to_save=["norm"]))
    model.save_pretrained(tmp_path)
    assert weights_fingerprint(PeftModel.from_pretrained(tiny_model(), tmp_path)) == weights_fingerprint(model)


def test_an_adapter_put_into_the_model_itself_is_found_too() -> None:
    model = tiny_model()
    torch.manual_seed(0)
    model.add_adapter(LoraConfig(r=4, target_modules=["q_proj"]))
    assert weights_fingerprint(model) == (base(tiny_model()), None)
    assert weights_fingerprint(train(model)) == weights_fingerprint(train(lora(target_modules=["q_proj"])))


def test_merging_an_adapter_changes_the_base() -> None:
    model = train(lora())
    merged = copy.deepcopy(model).merge_and_unload()
    assert adapter(merged) is None
    assert base(merged) != base(model)


def test_trained_tokens_and_prompts_have_a_hash_and_the_base_stays() -> None:
    tokens = lora(trainable_token_indices=[3, 4])
    assert base(tokens) == base(tiny_model())
    assert adapter(tokens) != adapter(train(tokens, "trainable_tokens_delta")) is not None
    prompts = get_peft_model(tiny_model(), PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=3))
    assert base(prompts) == base(tiny_model())
    assert adapter(prompts) != adapter(train(prompts, "prompt_encoder")) is not None


def test_shards_of_fsdp2_are_gathered() -> None:
    """In a process of its own, with one rank: a group of processes would stay for the other tests."""
    code = """
import torch
from torch.distributed import HashStore, init_process_group
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from campus_tune.model.fingerprint import weights_fingerprint
init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
mesh = init_device_mesh("cpu", (1,))

class Adapted(torch.nn.Module):
    adapter_layer_names, other_param_names = ("lora_A", "lora_B"), ()
    active_adapters, disable_adapters, scaling = ["default"], False, {"default": 2.0}

    def __init__(self):
        super().__init__()
        self.base_layer = torch.nn.Linear(6, 4)
        self.lora_A = torch.nn.ModuleDict({"default": torch.nn.Linear(6, 2, bias=False)})
        self.lora_B = torch.nn.ModuleDict({"default": torch.nn.Linear(2, 4, bias=False)})
        torch.nn.init.zeros_(self.lora_B["default"].weight)

model = torch.nn.Sequential(Adapted())
before = weights_fingerprint(model)
assert before[1] is None
for module in model.modules():
    for name, weight in list(module.named_parameters(recurse=False)):
        setattr(module, name, torch.nn.Parameter(distribute_tensor(weight.detach(), mesh, [Shard(0)])))
assert isinstance(model[0].base_layer.weight, DTensor)
assert weights_fingerprint(model) == before
with torch.no_grad():
    model[0].lora_B["default"].weight.add_(1)
assert weights_fingerprint(model)[0] == before[0] and weights_fingerprint(model)[1]
parallel = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(6, 4))
assert weights_fingerprint(parallel) == weights_fingerprint(parallel.module)
print("the same")
torch.distributed.destroy_process_group()
"""
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert run.stdout == "the same\n", run.stderr


def test_weights_that_are_elsewhere_are_named() -> None:
    with torch.device("meta"):
        offloaded = torch.nn.Linear(2, 2)
    with pytest.raises(TrainerError, match=r"got offloaded ones \(`\w+` is elsewhere\)\. Use ZeRO or FSDP2"):
        weights_fingerprint(offloaded)
    flat = type("FullyShardedDataParallel", (torch.nn.Sequential,), {})(torch.nn.Linear(2, 2))
    with pytest.raises(TrainerError, match=r"must have all its weights in this process.*got flat shards of FSDP1"):
        weights_fingerprint(flat)


def test_hashing_changes_nothing_and_copies_no_model() -> None:
    model = train(lora())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    weights_fingerprint(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert model.training
    big = torch.nn.Linear(4096, 4096, bias=False)  # 64 MB
    largest = 0
    real = torch.empty_like

    def watch(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal largest
        largest = max(largest, tensor.numel() * tensor.element_size())
        return real(tensor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty_like", watch)
        start = time.process_time()
        weights_fingerprint(big)
    assert largest == 8 * fingerprint._WORDS["cpu"]
    assert time.process_time() - start < 2.0  # 17 M weights; 0.1 s on an idle core


def test_tokenizers_differ_by_vocabulary_template_and_special_tokens_and_by_nothing_else(tmp_path: Path) -> None:
    ours = tiny_tokenizer()
    expected = tokenizer_fingerprint(ours)
    assert expected is not None
    ours.save_pretrained(tmp_path)
    assert tokenizer_fingerprint(type(ours).from_pretrained(tmp_path)) == expected
    ours(["one", "two words and more"], padding=True, truncation=True, max_length=3)
    ours.padding_side = "left"
    assert tokenizer_fingerprint(ours) == expected

    other_template, other_token, other_special = (copy.deepcopy(tokenizer()) for _ in range(3))
    other_template.chat_template += " "
    other_token.add_tokens(["<unheard>"])
    other_special.eos_token = "<|pad|>"
    others = [other_template, other_token, other_special, tiny_tokenizer(vocab_size=300)]
    assert len({expected, *map(tokenizer_fingerprint, others)}) == 1 + len(others)


def test_a_processor_is_known_by_its_tokenizer_and_template() -> None:
    class Processor:
        tokenizer = tokenizer()
        chat_template = "{{ messages }}"

    found = tokenizer_fingerprint(Processor())
    assert found not in (None, tokenizer_fingerprint(tokenizer()))


def test_a_slow_tokenizer_is_known_by_its_vocabulary() -> None:
    class Slow:
        def __init__(self, *words: str) -> None:
            self.words, self.special_tokens_map = words, {"eos_token": words[0]}

        def get_vocab(self) -> dict[str, int]:
            return {word: i for i, word in enumerate(self.words)}

    assert tokenizer_fingerprint(Slow("a", "b")) == tokenizer_fingerprint(Slow("a", "b")) is not None
    assert tokenizer_fingerprint(Slow("a", "b")) != tokenizer_fingerprint(Slow("a", "c"))


def test_without_a_vocabulary_there_is_no_fingerprint() -> None:
    assert tokenizer_fingerprint(None) is None
    assert tokenizer_fingerprint(object()) is None
