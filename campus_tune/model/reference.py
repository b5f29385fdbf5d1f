"""Another model than the one in training: found, checked, loaded for a while, and let go.

What can be wrong with it is said before a row is read: no such folder or hub id, not the kind of model that is
wanted, no tokenizer beside it, too big for the memory that training leaves.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from campus_tune.model import compat
from campus_tune.model.model_tasks import is_causal
from campus_tune.model.subject import Subject, undisturbed
from campus_tune.words.errors import RecipeError
from campus_tune.words.json_shapes import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ADAPTER = "adapter_config.json"
NO_LIMIT = 1 << 24  # from here on a tokenizer's model_max_length means "unknown"


@dataclass
class Reference:
    """A loaded model that is not in training.

    Args:
        setting: of the recipe, that named it.
        name: folder or hub id.
        model: in eval mode, on its device.
        tokenizer: its own.
        device: where it is.
    """

    setting: str
    name: str
    model: Any
    tokenizer: PreTrainedTokenizerBase
    device: torch.device

    def subject(self) -> Subject:
        """The model as measurements see it."""
        return Subject(self.model, self.model, self.device, self.place)

    def place(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A batch on the model's device."""
        return {name: values.to(self.device) for name, values in batch.items()}

    def limit(self, max_length: int | None) -> int | None:
        """Tokens of a row that it can read.

        Args:
            max_length: of training; None for no limit.
        """
        known = (max_length, self.subject().context, getattr(self.tokenizer, "model_max_length", None))
        limits = [int(n) for n in known if n and n < NO_LIMIT]
        return min(limits, default=None)


@contextmanager
def load_reference(
    name: str, *, setting: str, device: torch.device, dtype: torch.dtype | None = None, trust_remote_code: bool = False
) -> Iterator[Reference]:
    """A causal language model, there as long as the context lasts; an adapter comes on its base.

    Args:
        name: folder or hub id of a model or of a PEFT adapter.
        setting: of the recipe, for messages, e.g. "perplexity: model".
        device: where to put it.
        dtype: of its weights; None as they are stored.
        trust_remote_code: only if the user's own TRL configuration says so.

    Raises:
        RecipeError: there is no such model, it is no causal language model, it has no tokenizer, or it does not fit.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    loading = {"dtype": dtype or "auto", "trust_remote_code": trust_remote_code}
    with quietly(), fits_memory(setting, name):
        config, base = find(name, setting, trust_remote_code=trust_remote_code)
        if not is_causal(config):
            said = f"its configuration says {', '.join(map(str, getattr(config, 'architectures', None) or []))}"
            raise other_kind(base or name, setting, "a causal language model", said)
        model = from_folder(AutoModelForCausalLM, base or name, setting, "a causal language model", loading)
        if base is not None:
            try:
                model = PeftModel.from_pretrained(model, name)
            except (OSError, ValueError, RuntimeError, SafetensorError) as error:
                raise _unreachable(name, setting, error) from error
        tokenizer = own_tokenizer(name, base, setting, trust_remote_code)
        model.to(device).eval()
    reference = Reference(setting, name, model, tokenizer, device)
    del model
    try:
        yield reference
    finally:
        let_go(reference)


def let_go(reference: Reference) -> None:
    """Free the memory of its model, whoever still holds the reference."""
    reference.model = None
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def quietly() -> Iterator[None]:
    """Random states as before: weights that a folder lacks are drawn before we can refuse them. Nothing is sharded."""
    with undisturbed(torch.nn.Module()), torch.enable_grad(), compat.loaded_whole():
        yield


@contextmanager
def fits_memory(
    setting: str,
    name: str,
    *,
    memory: str = "memory beside the model in training",
    remedy: str = "Name a smaller model, or score ahead of training: campus-tune score.",
) -> Iterator[None]:
    """Out of memory, said in our words.

    Args:
        setting: that names the model.
        name: the model's.
        memory: what it must fit into.
        remedy: what to do.

    Raises:
        RecipeError: the model does not fit.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not known and "DefaultCPUAllocator" not in str(error) and "out of memory" not in str(error):
            raise
        raise RecipeError(
            f"`{setting}` must fit into {memory}, got {name!r}, which does not: "
            f"{(str(error) or 'out of memory').splitlines()[0]}. {remedy}"
        ) from error


def find(name: str, setting: str, *, trust_remote_code: bool) -> tuple[Any, str | None]:
    """A model's configuration; for an adapter that of its base, and the name of the base.

    A hub id is looked up as a model first, so that an adapter is asked for only where there is none.

    Raises:
        RecipeError: neither is there.
    """
    from transformers import AutoConfig
    from transformers.utils.peft_utils import find_adapter_config_file

    adapter: str | Path | None = Path(name, ADAPTER)
    if not Path(name, ADAPTER).exists():
        try:
            return AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code), None
        except (OSError, ValueError) as error:
            adapter = None
            with suppress(OSError, ValueError):  # no name of the hub's: early ones raise the second
                adapter = None if os.path.isdir(name) else find_adapter_config_file(name)
            if adapter is None:
                raise _unreachable(name, setting, error) from error
    assert adapter is not None
    try:
        base = str(read_json(Path(adapter), {"base_model_name_or_path": str})["base_model_name_or_path"])
    except (OSError, ValueError) as error:
        raise _unreachable(name, setting, error) from error
    try:
        return AutoConfig.from_pretrained(base, trust_remote_code=trust_remote_code), base
    except (OSError, ValueError) as error:
        raise _unreachable(base, setting, error, f", the base of the adapter {name}") from error


def _unreachable(name: str, setting: str, error: Exception, of: str = "") -> RecipeError:
    if os.path.isdir(name):
        why = f"it holds no whole model ({_first_line(error)})"
    elif name.startswith((".", "/", "~")) or name.count("/") > 1:
        why = "there is no such folder"
    else:
        why = f"there is no such folder, and from the hub it cannot be loaded ({_first_line(error)})"
    return RecipeError(
        f"`{setting}` must be a model folder or a hub id, got {name!r}{of}: {why}. Correct the name, or download the "
        "model while online."
    )


def other_kind(name: str, setting: str, kind: str, why: str) -> RecipeError:
    """The error of a model that cannot do what is wanted, to be raised.

    Args:
        name: folder or hub id.
        setting: of the recipe, that named it.
        kind: what it must be.
        why: it is not that.
    """
    return RecipeError(f"`{setting}` must be {kind}, got {name!r}: {why}. Name a model that was trained as one.")


def from_folder(auto_class: Any, name: str, setting: str, kind: str, loading: dict[str, Any]) -> Any:
    """A model with all of its weights.

    Args:
        auto_class: of transformers.
        name: folder or hub id.
        setting: of the recipe, for messages.
        kind: what the model must be, in words.
        loading: further arguments of `from_pretrained`.

    Raises:
        RecipeError: it cannot be loaded, or weights that it needs are not in it.
    """
    try:
        model, told = auto_class.from_pretrained(name, output_loading_info=True, **loading)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise _unreachable(name, setting, error) from error
    if told["missing_keys"]:
        missing = ", ".join(sorted(told["missing_keys"])[:3])
        raise other_kind(name, setting, kind, f"its weights lack {missing}")
    return model


def own_tokenizer(name: str, base: str | None, setting: str, trust_remote_code: bool) -> Any:
    """The model's tokenizer; an adapter without one has its base's.

    Raises:
        RecipeError: neither has one.
    """
    from transformers import AutoTokenizer

    for place in dict.fromkeys((name, base or name)):
        try:
            return AutoTokenizer.from_pretrained(place, trust_remote_code=trust_remote_code)
        except (OSError, ValueError, KeyError) as error:
            why = _first_line(error)
    raise RecipeError(
        f"`{setting}` must have its own tokenizer beside its weights, got none in {name!r} ({why}). Save it there: "
        "tokenizer.save_pretrained(folder)."
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0].rstrip(". ") or type(error).__name__
