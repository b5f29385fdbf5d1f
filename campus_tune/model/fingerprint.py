"""Fingerprints: is this the model, the adapter, the tokenizer under which a score was taken?

A path or a name does not say it: weights move under the same path. So the weights themselves are hashed, bit by bit,
on the device they are on. Every 8 bytes of a tensor go, with their place, through the finaliser of splitmix64 and
are summed (as `words.hashing.hash_rows` does with row ids). Sums of integers do not depend on the sequence, so any
device gives the same number, and only 8 bytes per tensor come to the host. 135 M float32 weights take 0.7 s on one
CPU thread.

A sum of products with the place alone would be faster and is not safe: a flipped top bit stays on top in a product
of 64 bits, so negating two weights would cancel out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from campus_tune.words.errors import TrainerError
from campus_tune.words.hashing import GOLDEN, LAST_SHIFT, ROUNDS, digest, signed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_WORDS = {"cpu": 1 << 16}  # 8-byte words mixed at a time: what fits in the processor's cache
_WORDS_ACCELERATOR = 1 << 23

_WRAPPED = {"base_layer", "original_module"}  # how peft calls what an adapter is put around
_UNNAMED = {*_WRAPPED, "token_adapter", "_orig_mod"}  # parts of names that come and go with peft and torch.compile
_LORA = {"lora_A.weight", "lora_B.weight", "lora_embedding_A", "lora_embedding_B"}  # factors of what it adds

Tensors: TypeAlias = Mapping[str, torch.Tensor]
# by name: dtype, shape and 64-bit sum of a tensor
Prints: TypeAlias = dict[str, tuple[str, list[int], int]]


_NO_MATTER = {"_name_or_path", "transformers_version", "use_cache", "torch_dtype", "dtype", "_attn_implementation"}


def weights_fingerprint(model: torch.nn.Module) -> tuple[str, str | None]:
    """Hashes of a model's base weights and of its active adapter, 32 hex digits each.

    Any changed, moved or renamed element gives another one, as does another dtype; what was saved and loaded gives
    the same. Buffers that are saved with the model count as weights. The base has the same hash with and without an
    adapter around it, compiled or not.

    An adapter that changes nothing is none, so that runs that differ only in the adapter's random numbers share the
    scores taken before training: one that is disabled, a LoRA that has a factor of zeros (as each begins), copies of
    modules (`modules_to_save`) that equal the originals. The scaling of an adapter belongs to its hash.

    What only the configuration says, such as the base of rotary embeddings, is not seen here. Under FSDP2 and
    DeepSpeed ZeRO 3 each weight is gathered in turn, so every process must call this.

    Args:
        model: any module, a `PeftModel` too.

    Raises:
        TrainerError: the weights cannot be had in this process (FSDP1, offloaded).
    """
    if isinstance(model, torch.nn.parallel.DistributedDataParallel):
        model = model.module
    _refuse_absent(model)
    tuners = {name: module for name, module in model.named_modules() if hasattr(type(module), "adapter_layer_names")}
    find = getattr(model, "get_base_model", lambda: model)
    inside = find()  # of a `PeftModel`
    prefix = next(f"{name}." if name else "" for name, module in model.named_modules() if module is inside)
    base: dict[str, torch.Tensor] = {}
    parts: dict[tuple[str, str], dict[str, torch.Tensor]] = {}  # (module, adapter) → weights of it
    for name, tensor in model.state_dict(keep_vars=True).items():  # the parameters themselves: ZeRO 3 gathers those
        if not isinstance(tensor, torch.Tensor):  # what a module adds in a form of its own
            continue
        if (found := _adapter_of(name, tuners)) is not None:
            owner, adapter, rest = found
            if not tuners[owner].disable_adapters and adapter in ("", *tuners[owner].active_adapters):
                parts.setdefault((owner, adapter), {})[rest] = tensor
        elif name.startswith(prefix):
            base[_canonical(name.removeprefix(prefix))] = tensor
        else:  # prompt tuning and its like lie beside the base model
            parts.setdefault(("", ""), {})[name] = tensor
    prints = _prints(base)
    changes = {}
    for (owner, adapter), weights in parts.items():
        place = _canonical(owner.removeprefix(prefix))
        added = {} if _adds_nothing(weights) else _prints(weights)
        copied = {name: prints.get(f"{place}.{name.removeprefix('modules_to_save.')}") for name in added}
        if copied != added:
            scaling = getattr(tuners.get(owner), "scaling", None)  # with another factor it is another adapter
            factor = repr(scaling.get(adapter)) if isinstance(scaling, Mapping) else None
            changes[f"{place} {adapter}"] = [added, factor]
    return digest(prints), digest(changes) if changes else None


def weights_at_start(model: torch.nn.Module) -> str:
    """A hash of a model before its first step: its base, and every weight that is trained, first adapters included.

    Args:
        model: any module, a `PeftModel` too, whole in this process.
    """
    hashed = hashlib.blake2b(digest_size=8)
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            hashed.update(name.encode())
            hashed.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return f"{weights_fingerprint(model)[0]}-{hashed.hexdigest()}"


def trained_fingerprint(model: torch.nn.Module) -> str:
    """A hash of the weights that are trained, bit by bit, 32 hex digits: what a gradient is in.

    Other than `weights_fingerprint`, it tells two adapters apart that change nothing yet, and other frozen weights, and
    knows by what factor a LoRA's product is scaled.

    Args:
        model: any module, a `PeftModel` too, whole in this process.
    """
    trained = {_canonical(name): one.detach() for name, one in model.named_parameters() if one.requires_grad}
    factors = {_canonical(name): getattr(module, "scaling", None) for name, module in model.named_modules()}
    scaled = {name: repr(factor) for name, factor in factors.items() if isinstance(factor, Mapping)}
    return digest([_prints(trained), scaled])


def config_fingerprint(model: PreTrainedModel) -> str:
    """A hash of a model's settings (rotary base, norm epsilon, …), which its weights do not show, 32 hex digits.

    Args:
        model: of transformers, an adapter's or a bare one.
    """
    config = model.config.to_dict()
    return digest({name: value for name, value in config.items() if name not in _NO_MATTER})


def _refuse_absent(model: torch.nn.Module) -> None:
    reason = None
    if any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules()):
        reason = "flat shards of FSDP1"
    for name, weight in model.named_parameters():
        if weight.is_meta:
            reason = f"offloaded ones (`{name}` is elsewhere)"
    if reason is not None:
        raise TrainerError(
            f"`model` must have all its weights in this process to be recognised by the score cache, got {reason}. "
            "Use ZeRO or FSDP2 and no offloading, or score without a cache."
        )


def _canonical(name: str) -> str:
    """The name that a weight or module has without adapters and compilation."""
    return ".".join(part for part in name.split(".") if part not in _UNNAMED)


def _adapter_of(weight: str, tuners: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """(Module, adapter, the weight's name without both); None for a weight that was there before adapters.

    Weights that serve all adapters have "" for one.
    """
    parts = weight.split(".")
    n, owner = next(((n, name) for n in range(1, len(parts)) if (name := ".".join(parts[:n])) in tuners), (0, ""))
    if not n or _WRAPPED & set(parts[n:]):
        return None
    rest = ".".join(parts[n:])
    for attribute in (*tuners[owner].adapter_layer_names, *tuners[owner].other_param_names):
        if rest.startswith(f"{attribute}."):
            adapter, _, behind = rest.removeprefix(f"{attribute}.").partition(".")
            return owner, adapter, f"{attribute}.{behind}" if behind else attribute
    return owner, "", rest


def _adds_nothing(weights: Tensors) -> bool:
    """LoRA whose product is zero: a factor of zeros, and no bias or magnitude beside the factors."""
    factors = {name: weight for name, weight in weights.items() if name in _LORA}
    others = {name: weight for name, weight in weights.items() if name not in _LORA}
    return (
        bool(factors)
        and any(_is_zero(weight) for weight in factors.values())
        and all(name == "lora_B.bias" and _is_zero(weight) for name, weight in others.items())
    )


def _prints(tensors: Tensors) -> Prints:
    """One per tensor. Each memory is read once, under however many names it is tied; one transfer per device."""
    sums: dict[Any, torch.Tensor] = {}
    keys: dict[str, Any] = {}
    for name, tensor in tensors.items():
        # what two names of one tensor have in common; all ranks say the same of a sharded one: each is gathered
        key: tuple[Any, ...]
        if hasattr(tensor, "ds_id"):
            key = (tensor.device, f"parameter {tensor.ds_id}", tensor.dtype, _shape(tensor), ())
        elif hasattr(tensor, "full_tensor"):
            key = (tensor.device, name, tensor.dtype, tensor.shape, ())
        else:  # nothing is at the address 0, but what is empty
            key = (tensor.device, tensor.data_ptr() or name, tensor.dtype, tensor.shape, tensor.stride())
        keys[name] = key
        if key not in sums:
            with _whole(tensor) as whole:
                sums[key] = _sum_of_words(whole)
    numbers: dict[Any, int] = {}
    for device in {key[0] for key in sums}:
        here = [key for key in sums if key[0] == device]
        numbers.update(zip(here, torch.stack([sums[key] for key in here]).tolist(), strict=True))
    return {name: (str(tensor.dtype), list(_shape(tensor)), numbers[keys[name]]) for name, tensor in tensors.items()}


def _shape(tensor: torch.Tensor) -> torch.Size:
    """Of all of a tensor: ZeRO 3 leaves an empty one behind."""
    shape: torch.Size = getattr(tensor, "ds_shape", tensor.shape)
    return shape


@contextmanager
def _whole(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """All of a tensor, gathered where FSDP2 or ZeRO 3 has sharded it."""
    if hasattr(tensor, "ds_id"):
        import deepspeed  # type: ignore[import-not-found]  # no dependency of ours

        with deepspeed.zero.GatheredParameters([tensor]):
            yield tensor.detach()
    else:
        gather = getattr(tensor, "full_tensor", None)
        yield tensor.detach() if gather is None else gather().detach()


def _is_zero(weight: torch.Tensor) -> bool:
    with _whole(weight) as whole:
        return not whole.any()


def _sum_of_words(tensor: torch.Tensor) -> torch.Tensor:
    """Sum over the mixed 8-byte words of a tensor, modulo 2⁶⁴, on its device; the last word is filled with zeros."""
    if not tensor.numel():
        return torch.zeros((), dtype=torch.int64, device=tensor.device)
    # a single element may keep the stride of where it was taken from, so the stride is said, not kept
    data = tensor.contiguous().as_strided((tensor.numel(),), (1,)).view(torch.uint8)
    if data.storage_offset() % 8:  # part of a larger tensor, cut where no word begins
        data = data.clone()
    n_words, left = divmod(len(data), 8)
    total = _sum_mixed(data[: 8 * n_words].view(torch.int64), 0)
    if left:
        last = torch.zeros(8, dtype=torch.uint8, device=data.device)
        last[:left] = data[8 * n_words :]
        total += _sum_mixed(last.view(torch.int64), n_words)
    return total


def _sum_mixed(words: torch.Tensor, first: int) -> torch.Tensor:
    """Sum of splitmix64 of (word + place × golden ratio); `first` is the place of the first word."""
    size = min(len(words), _WORDS.get(words.device.type, _WORDS_ACCELERATOR))
    places = torch.arange(1, size + 1, device=words.device) * signed(GOLDEN)
    mixed, shifted = torch.empty_like(places), torch.empty_like(places)  # all the memory it takes
    total = torch.zeros((), dtype=torch.int64, device=words.device)
    for start in range(0, len(words), size or 1):
        part = words[start : start + size]
        z, high = mixed[: len(part)], shifted[: len(part)]
        torch.add(part, places[: len(part)], out=z)
        z += signed((first + start) * GOLDEN)
        for shift, factor in ROUNDS:
            _fold(z, shift, high)
            z *= signed(factor)
        _fold(z, LAST_SHIFT, high)
        total += z.sum()
    return total


def _fold(z: torch.Tensor, shift: int, high: torch.Tensor) -> None:
    """`z ^= z >> shift` in place, unsigned; `high` is overwritten."""
    torch.bitwise_right_shift(z, shift, out=high)
    high &= (1 << (64 - shift)) - 1  # torch shifts the sign in
    z ^= high
