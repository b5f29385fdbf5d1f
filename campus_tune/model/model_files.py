"""What can be said of another model without loading it: which one it is, and how large."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import torch

from campus_tune.model.reference import find, quietly

MATTER = (".safetensors", ".bin", ".json", ".model", ".jinja", ".txt")  # weights, settings, tokenizer, template
BLOCK = 1 << 24


def model_identity(name: str, setting: str, *, trust_remote_code: bool) -> str:
    """The commit of a hub model, or a hash of a folder's files; that of an adapter has its base's behind it.

    Args:
        name: folder or hub id.
        setting: of the recipe, for messages.
        trust_remote_code: as in the user's own configuration.

    Raises:
        RecipeError: there is no such model.
    """
    from transformers.utils.peft_utils import find_adapter_config_file

    config, base = find(name, setting, trust_remote_code=trust_remote_code)
    if Path(name).is_dir():
        own = _folder_hash(Path(name))
    elif base is None:
        own = f"{name}@{getattr(config, '_commit_hash', None)}"
    else:
        found = find_adapter_config_file(name)  # in the hub's cache, whose folders are called as commits
        own = f"{name}@{None if found is None else Path(found).parent.name}"
    if base is None:
        return own
    return f"{own} on {model_identity(base, setting, trust_remote_code=trust_remote_code)}"


@cache
def model_size(name: str, setting: str, *, trust_remote_code: bool) -> int:
    """Parameters of a model, counted from its configuration; no weights are read.

    Args:
        name: folder or hub id; of an adapter, its base is counted.
        setting: of the recipe, for messages.
        trust_remote_code: as in the user's own configuration.

    Raises:
        RecipeError: there is no such model.
    """
    from transformers import AutoModel

    config, _ = find(name, setting, trust_remote_code=trust_remote_code)
    with quietly(), torch.device("meta"):
        make: Any = AutoModel.from_config
        model = make(config, trust_remote_code=trust_remote_code)
    return int(sum(p.numel() for p in model.parameters()))


def _folder_hash(folder: Path) -> str:
    """32 hex digits of the contents of the files that make a model what it is."""
    total = hashlib.blake2b(digest_size=16)
    for path in sorted(p for p in folder.iterdir() if p.is_file() and p.suffix in MATTER):
        total.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                total.update(block)
    return total.hexdigest()
