"""The names of TRL's flags without TRL, whose import takes seconds: they are read out of its source.

That is a reading, not a parser: a name that it misses is not offered at a Tab, and taken all the same.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

OF_TRL = (
    "trl/scripts/utils.py",
    "trl/trainer/base_config.py",
    "trl/trainer/model_config.py",
    "transformers/training_args.py",
)
OF_TRAINER = {  # what each trainer has besides
    "sft": ("trl/trainer/sft_config.py",),
    "grpo": ("trl/scripts/grpo.py", "trl/trainer/grpo_config.py"),
    "rloo": ("trl/scripts/rloo.py", "trl/trainer/rloo_config.py"),
}
APART = "DatasetConfig"  # of one part of a mixture: no flags
_CLASS = re.compile(r"^class (\w+)", re.M)
_FIELD = re.compile(r"^    (\w+): [^=\n]+=(?!=)", re.M)


def trl_fields(*trainers: str) -> list[str]:
    """The names of TRL's flags, read from its source and that of transformers.

    Args:
        trainers: which are meant; none means all of them.
    """
    names: set[str] = set()
    for path in (*OF_TRL, *(path for one in trainers or OF_TRAINER for path in OF_TRAINER[one])):
        package, _, rest = path.partition("/")
        found = find_spec(package)
        file = Path(found.origin).parent / rest if found is not None and found.origin else None
        if file is None or not file.is_file():
            continue
        parts = _CLASS.split(file.read_text("utf-8"))
        for name, body in zip(parts[1::2], parts[2::2], strict=True):
            if name != APART:
                names |= {field for field in _FIELD.findall(body) if not field.startswith("_")}
    return sorted(names)
