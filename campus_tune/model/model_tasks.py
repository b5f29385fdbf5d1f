"""For which task a model was made: what transformers' own lists say of its class, and its configuration of itself.

Whatever has a forward of the user's own may be anything, and is asked nothing but whether its configuration names an
encoder. Models that see or hear write too: on rows of text they are language models like others.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Lists of classes that say nothing of a task, and those of classes that write.
_NO_TASK = {"BACKBONE", "TEXT_ENCODING", "IMAGE"}
_WRITES = {
    "CAUSAL_LM",
    "MULTIMODAL_LM",
    "IMAGE_TEXT_TO_TEXT",
    "VISION_2_SEQ",
    "SEQ_TO_SEQ_CAUSAL_LM",
    "SPEECH_SEQ_2_SEQ",
}


def task_of_model(model: torch.nn.Module | None) -> str | None:
    """What a model is, in words, if it is no causal language model; None if it is one, or may be.

    Args:
        model: bare, or wrapped by peft, torch.compile or for many processes.
    """
    bare: Any = model
    inside: Any = model  # without what peft, torch.compile and engines of many processes put around it
    while inside is not None:
        bare = inside.get_base_model() if hasattr(inside, "get_base_model") else inside
        wraps = type(bare).__module__.split(".")[0] in ("torch", "deepspeed")
        inside = next((bare._modules[name] for name in ("_orig_mod", "module") if name in bare._modules), None)
        inside = inside if wraps else None
    encodes = _encodes(getattr(bare, "config", None))
    for kind in type(bare).__mro__:
        if kind.__module__.startswith("transformers.models."):
            task = _task_of_class(kind.__name__, encodes=encodes)
            if task is None and kind.__name__.endswith("Model") and bare.get_output_embeddings() is None:
                return f"a model without its head ({kind.__name__})"  # it gives hidden states and no logits
            return task
        if "forward" in vars(kind):
            break
    return f"an encoder-decoder ({type(bare).__name__})" if encodes else None


def task_of_config(config: object) -> str | None:
    """The same of a model that is not loaded: what all classes are that its configuration names.

    Args:
        config: of transformers.
    """
    if _is_custom(config):
        return None
    tasks = [_task_of_class(name, encodes=_encodes(config)) for name in _classes(config)]
    return tasks[0] if tasks and None not in tasks else None


def is_causal(config: object) -> bool:
    """Whether a model may be loaded as a causal language model, which must be said where the class is ours to choose.

    An encoder would load as one, and see the answer that it is to predict.

    Args:
        config: of transformers.
    """
    named = _classes(config)
    says = any("CAUSAL_LM" in _lists().get(name, ()) or name.endswith("ForCausalLM") for name in named)
    return (not named or _is_custom(config) or says) and not getattr(config, "is_encoder_decoder", False)


def _classes(config: object) -> list[str]:
    """Names of the classes that a configuration says it is of."""
    return [str(name) for name in getattr(config, "architectures", None) or []]


def _is_custom(config: object) -> bool:
    """A causal language model by code of its own."""
    return "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})


def _encodes(config: object) -> bool:
    return getattr(config, "is_encoder_decoder", False) is True


def _task_of_class(name: str, *, encodes: bool) -> str | None:
    """The task that a class of transformers is for, in words; None if it writes, or if nothing is said of it.

    Args:
        name: of the class.
        encodes: an encoder reads the whole row first; the decoders of such models may be there alone.
    """
    tasks = _lists().get(name, set())
    if "CAUSAL_LM" in tasks:
        return None
    if encodes:
        return f"an encoder-decoder ({name})"
    if tasks & _WRITES or not tasks:
        return None
    task = min(tasks, key=lambda each: (each == "PRETRAINING", each))
    return f"a model for {task.lower().replace('_', ' ').replace(' lm', ' language modelling')} ({name})"


@cache
def _lists() -> dict[str, set[str]]:
    """Names of transformers' classes → the tasks for which it lists them, as it writes them."""
    from transformers.models.auto import modeling_auto

    found: dict[str, set[str]] = {}
    for name, mapping in vars(modeling_auto).items():
        task = name.removeprefix("MODEL_FOR_").removesuffix("_MAPPING_NAMES")
        if name != f"MODEL_FOR_{task}_MAPPING_NAMES" or task in _NO_TASK:
            continue
        for classes in mapping.values():
            for each in [classes] if isinstance(classes, str) else classes:
                found.setdefault(each, set()).add(task)
    return found
