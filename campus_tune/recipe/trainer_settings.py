"""Settings of the trainer under which a planned order would not be trained: one list, for `check` and for the run.

>>> refused({"packing": False, "train_sampling_strategy": "sequential", "padding_free": True})
[]
>>> print(*refused({"dataloader_drop_last": None}))
`dataloader_drop_last` must be True or False, got None. Set one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from campus_tune.recipe.packing import FLAG, SETTING

_GATHERED = "dispatch_batches"


def _dispatches(accelerator_config: object) -> bool:
    """Whether accelerate is told to let rank 0 read all batches; its settings are a mapping or an object."""
    if isinstance(accelerator_config, Mapping):
        return bool(accelerator_config.get(_GATHERED))
    return bool(getattr(accelerator_config, _GATHERED, False))


@dataclass(frozen=True)
class Refusal:
    """One setting, and when it is refused.

    Args:
        setting: its name in the training YAML and in the trainer's arguments.
        when: of its value.
        must: what it must be; the message goes on with the value.
        why: the rest of the message, with the way out.
    """

    setting: str
    when: Callable[[Any], bool]
    must: str
    why: str


_GROUPS_BY_LENGTH = "Remove it; campus: {batching: step} already groups rows by length inside each optimizer step."

NO_STREAM = (
    "Load it without streaming: rows then lie on the disk and are mapped into memory, not held in it; or write the "
    "part that you want to the disk once: `from datasets import Dataset; from itertools import islice; dataset = "
    "Dataset.from_generator(lambda: islice(stream, 100_000))`."
)

REFUSALS = (
    Refusal(
        SETTING,
        bool,
        "be off with a curriculum",
        ": packing shuffles and re-cuts the rows, so no order survives it. Set packing to False and campus: {batching: "
        "flat}, which flattens rows inside a stage instead; `campus-tune check` says which batch size trains as many "
        f"tokens in a step, and `campus-tune sft {FLAG}` takes it.",
    ),
    Refusal("dataloader_drop_last", lambda value: value is None, "be True or False", ". Set one of them."),
    Refusal(
        "train_sampling_strategy",
        lambda value: value not in (None, "random", "sequential"),
        "be left alone with a curriculum",
        f": it would re-order the rows. {_GROUPS_BY_LENGTH}",
    ),
    Refusal(
        "accelerator_config",
        _dispatches,
        "leave dispatch_batches off with a curriculum",
        ": one process would read all rows and cut them in its own way. Remove dispatch_batches; each process reads "
        "its own rows of the plan (split_batches works).",
    ),
    *(
        Refusal(name, bool, "be off with a curriculum", f": a stream has no rows by position. {NO_STREAM}")
        for name in ("dataset_streaming", "streaming")  # of one data set, of a mixture
    ),
    # what transformers 4 calls it
    Refusal(
        "group_by_length", bool, "be left alone with a curriculum", f": it would re-order the rows. {_GROUPS_BY_LENGTH}"
    ),
)


def refused(settings: Mapping[str, Any]) -> list[str]:
    """One problem per setting that is refused; settings that are not there are as the trainer's defaults: fine.

    Args:
        settings: a training YAML, or the trainer's arguments as a mapping.
    """
    problems = []
    for refusal in REFUSALS:
        if refusal.setting in settings and refusal.when(value := settings[refusal.setting]):
            got = f"{_GATHERED}: true" if _dispatches(value) else repr(value)  # of accelerate's, what matters here
            problems.append(f"`{refusal.setting}` must {refusal.must}, got {got}{refusal.why}")
    return problems
