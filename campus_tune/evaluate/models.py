"""Which models an evaluation is of, and how each is opened: whole models, adapters on their base, checkpoints of both.

What can be wrong is said before the first document is read: no such folder, a checkpoint without a model, an adapter
without a base. An adapter only fits the base that it was trained on; on another one of the same shape it loads without
a word and gives wrong numbers, so names are compared first and all of its weights after loading. (What that cannot see:
another model of the same shape under a name that says nothing, or a deeper one, where the adapter names each module.)
"""

from __future__ import annotations

import glob
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campus_tune.model.reference import ADAPTER, find, fits_memory, from_folder, own_tokenizer, quietly
from campus_tune.words.errors import DataError, RecipeError
from campus_tune.words.json_shapes import read_json
from campus_tune.words.library_warnings import hushed
from campus_tune.words.registry import nearest
from campus_tune.words.types import Json

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from torch import nn
    from transformers import PreTrainedModel

DTYPES = ("auto", "float32", "bfloat16", "float16")
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "pytorch_model*.bin.index.json")
_SHARDS = {"pytorch_model_fsdp_0": "accelerate merge-weights", "global_step*": "python zero_to_fp32.py"}
_STEP = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class Target:
    """One model to be evaluated.

    Args:
        name: folder or hub id of the whole model; of an adapter its base.
        adapter: folder or hub id of the adapter on it.
        step: of training, where the folder says it.
    """

    name: str
    adapter: str | None = None
    step: int | None = None

    @property
    def place(self) -> str:
        """The folder or hub id that a user would name."""
        return self.adapter or self.name


def read_targets(model: str | None, adapter: str | None, checkpoints: Sequence[str]) -> list[Target]:
    """The models that a command line names.

    Args:
        model: folder or hub id; with `checkpoints`, the base of adapters among them.
        adapter: folder or hub id of an adapter on `model`.
        checkpoints: folders, or patterns of folders.

    Raises:
        RecipeError: nothing is named, or things that exclude each other.
        DataError: a pattern without a match, a folder without a model, an adapter without a base or of another one.
    """
    if adapter is not None and checkpoints:
        raise RecipeError("`--adapter` must be left out beside --checkpoints, got both. Name it among the checkpoints.")
    if model is None and adapter is None and not checkpoints:
        raise RecipeError(
            "`--model` must name a folder or a hub id, got none. Or write --checkpoints 'run/checkpoint-*'."
        )
    if adapter is not None:
        return [_adapter(adapter, model)]
    if not checkpoints:
        assert model is not None
        return [_checkpoint(Path(model), None) if Path(model).is_dir() else Target(model)]
    folders: dict[Path, None] = {}  # by run and step, each once
    for pattern in checkpoints:
        pattern = os.path.expanduser(pattern)  # in quotes, no shell has done so
        matches = [pattern] if Path(pattern).is_dir() else glob.glob(pattern)  # a folder may be called run[1]
        found = [Path(path) for path in matches if Path(path).is_dir()]
        if not found:
            parent = Path(pattern).parent
            names = sorted(path.name for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []
            there = f" {parent} has {', '.join(names[:5])}." if names else f" There is no folder in {parent}."
            raise DataError(
                f"`--checkpoints` must match at least one folder, got {pattern!r}, which matches none.{there}"
                f"{nearest(Path(pattern).name, names)} Correct it."
            )
        folders |= dict.fromkeys(sorted(found, key=lambda path: (str(path.parent), _step(path) or 0, path.name)))
    return [_checkpoint(folder, model) for folder in folders]


def open_model(
    target: Target, *, device: torch.device | str, dtype: str = "auto", trust_remote_code: bool = False
) -> tuple[Any, Any]:
    """(model in eval mode on its device, its tokenizer); a dtype of `DTYPES`, `auto` as the weights are stored.

    Raises:
        RecipeError: there is no such model, it is no causal language model, it has no tokenizer, or it is too large for
            the memory of its device.
        DataError: the adapter does not fit the base.
    """
    import torch
    from transformers import AutoModelForCausalLM

    loading = {"dtype": "auto" if dtype == "auto" else getattr(torch, dtype), "trust_remote_code": trust_remote_code}
    base = None if target.adapter is None else target.name
    find(target.name, "model", trust_remote_code=trust_remote_code)
    memory, remedy = f"the memory of {device}", "Write --dtype bfloat16, or free memory."
    with quietly(), fits_memory("model", target.place, memory=memory, remedy=remedy):
        model = from_folder(AutoModelForCausalLM, target.name, "model", "a causal language model", loading)
        tokenizer = own_tokenizer(target.place, base, "model", trust_remote_code)
        if target.adapter is not None:
            if len(tokenizer) > model.get_input_embeddings().num_embeddings:  # tokens were added before training
                model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
            model = _with_adapter(model, target)
        model.to(device).eval()
    return model, tokenizer


def dtype_of(model: nn.Module) -> str:
    """The precision of a model's weights, as results record it: those of its first module, so not of an adapter.

    Rounding is part of the question: the same weights as bfloat16 answer some documents otherwise.
    """
    return str(next(model.parameters()).dtype).removeprefix("torch.")


# -- folders -------------------------------------------------------------------------------------------------------


def _checkpoint(folder: Path, base: str | None) -> Target:
    """What a folder holds.

    Raises:
        DataError: neither a model nor an adapter.
        RecipeError: a base for what is a whole model.
    """
    if (folder / ADAPTER).is_file():
        return _adapter(str(folder), base)
    if (folder / "config.json").is_file() and any(True for pattern in _WEIGHTS for _ in folder.glob(pattern)):
        if base is not None:
            raise RecipeError(
                f"`--model` must be left out for {folder}, which is a whole model, got {base!r}. Remove it."
            )
        return Target(str(folder), None, _step(folder))
    there = sorted(path.name for path in folder.iterdir())
    for shards, command in _SHARDS.items():
        if any(folder.glob(shards)):
            raise DataError(
                f"`{folder}` must hold a whole model, got one in the pieces of several processes. Put them together "
                f"first: {command} (its --help says how), beside the model's config.json."
            )
    raise DataError(
        f"`{folder}` must hold a model (config.json and its weights) or an adapter ({ADAPTER}), got "
        f"{', '.join(there[:6]) or 'an empty folder'}. Name a folder that was saved by the trainer."
    )


def _adapter(adapter: str, base: str | None) -> Target:
    """An adapter on the base that it or the user names.

    Raises:
        DataError: no base is known, it is a path to no folder or to two, or the user's is another one.
    """
    named = _base_of(adapter)
    if base is None and not named:
        raise DataError(
            f"`{adapter}` must say its base model in {ADAPTER} (base_model_name_or_path), got none. Add --model BASE."
        )
    folders: list[str] = []  # that the name can mean, each once; none for a hub id
    if named:  # a relative path starts where training was started, or at the adapter
        places = {Path(adapter, named).resolve(): str(Path(adapter, named).resolve()), Path(named).resolve(): named}
        folders = [place for folder, place in places.items() if folder.is_dir()][::-1]
    if base is None:
        named = str(named)
        if len(folders) > 1:
            raise DataError(
                f"`{adapter}` must say its base model in one way, got {named!r}, which is {folders[0]} from here and "
                f"{folders[1]} from the adapter. Name the right one with --model."
            )
        if not folders and (named.startswith((".", "/", "~")) or named.count("/") > 1):
            raise DataError(
                f"`{adapter}` must say in {ADAPTER} where its base model is, got {named!r}, which is no folder, "
                "neither from here nor from the adapter. Name the base with --model."
            )
        return Target(folders[0] if folders else named, adapter, _step(Path(adapter)))
    # A folder may be a copy of what is on the hub, or have been moved: only two folders, or two ids, can contradict.
    if named and all(
        place != base and Path(place).is_dir() == Path(base).is_dir() and Path(place).resolve() != Path(base).resolve()
        for place in folders or [named]
    ):
        raise DataError(
            f"`--model` must be the base that the adapter {adapter} was trained on, {named}, got {base}. Leave --model "
            "out, or name that one."
        )
    return Target(base, adapter, _step(Path(adapter)))


def _base_of(adapter: str) -> str | None:
    if not Path(adapter).is_dir():  # of the hub: found when it is opened
        from peft import PeftConfig

        try:
            config = PeftConfig.from_pretrained(adapter)
        except (OSError, ValueError) as error:
            raise DataError(
                f"`--adapter` must be a folder or a hub id, got {adapter!r} ({error}). Correct it."
            ) from error
        return config.base_model_name_or_path  # type: ignore[no-any-return]  # peft says str | None elsewhere
    path = Path(adapter, ADAPTER)
    try:
        content: Json = read_json(path, {"base_model_name_or_path?": (str, None)})
    except (OSError, ValueError) as error:
        raise DataError(f"`{path}` must be the settings of an adapter, got {error}. Name its folder.") from error
    name = content.get("base_model_name_or_path")
    return str(name) if name else None


def _step(folder: Path) -> int | None:
    """The step of training that a checkpoint says it is of."""
    try:
        return int(read_json(folder / "trainer_state.json", {"global_step": int})["global_step"])
    except (OSError, ValueError):
        named = _STEP.fullmatch(folder.name)
        return int(named[1]) if named else None


# -- adapters ------------------------------------------------------------------------------------------------------


def _with_adapter(model: PreTrainedModel, target: Target) -> PeftModel:
    """The model with the adapter, all of whose weights have found their place.

    Raises:
        DataError: its file is damaged, or has other shapes, or other modules, than the model's.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from peft.utils.save_and_load import load_peft_weights
    from safetensors import SafetensorError

    assert target.adapter is not None
    try:
        stored = load_peft_weights(target.adapter, device="cpu")
    except (OSError, ValueError, SafetensorError) as error:
        raise DataError(
            f"`{target.adapter}` must hold an adapter's weights, got {error}. Save it again, or name another "
            "checkpoint."
        ) from error
    try:
        with hushed():
            warnings.filterwarnings("ignore", "Found missing adapter keys")  # compared below
            fitted = PeftModel.from_pretrained(model, target.adapter)
    except (RuntimeError, ValueError, KeyError) as error:
        raise _other_base(target, str(error).strip().splitlines()) from error
    needed = get_peft_model_state_dict(fitted, save_embedding_layers=False)
    there = {*needed, *(name.replace(".default.", ".") for name in fitted.state_dict())}  # grown embeddings too
    problems = [f"{name} has no place in it" for name in stored if name not in there]
    problems += [f"{name} is not in the adapter" for name in needed if name not in stored]
    if problems:
        raise _other_base(target, problems)
    return fitted


def _other_base(target: Target, problems: Sequence[str]) -> DataError:
    named = _base_of(str(target.adapter)) or "another model"
    return DataError(
        f"`{target.adapter}` must be an adapter of {target.name}, got one of {named}, which does not fit "
        f"({problems[-1].strip()}; {len(problems)} differences). Name its own base with --model."
    )
