"""Reading a YAML recipe strictly: the safe subset, UTF-8, no key twice, and errors that name file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from campus_tune.errors import RecipeError
from campus_tune.registry import nearest
from campus_tune.types import Json


def read_yaml(path: str | Path) -> Json:
    """A YAML file whose top level is a mapping; a key that comes twice is refused.

    Raises:
        RecipeError: the file is absent, not UTF-8, not YAML, or no mapping; file and line are named.
    """
    path = Path(path)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except OSError as error:
        hint = nearest(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise RecipeError(f"`{path}` must be a readable YAML file, got {error.strerror or error}.{hint}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"`{path}` must be UTF-8, got byte 0x{error.object[error.start]:02x} at offset {error.start}. "
            "Convert it: iconv -f latin1 -t utf-8 (or from the encoding it really has)."
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise RecipeError(
            f"`{path}`{where} must be YAML, got: {what}. Check indentation, quotes and brackets there."
        ) from error
    if not isinstance(content, dict):
        raise RecipeError(f"`{path}` must be a mapping, got {type(content).__name__}. Write `key: value` lines.")
    return content


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe subset, without its silent "the last of two equal keys wins"."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value
            if key in seen and key != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)
