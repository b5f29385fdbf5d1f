"""The `compare:` block of a YAML: which arms, which seeds, which rows decide.

>>> CompareSettings.from_mapping({"test": {"path": "test.jsonl"}, "seeds": 3}).seeds
(0, 1, 2)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from os import PathLike
from typing import Any

from campus_tune.compare.arms import DEFAULT
from campus_tune.recipe.blocks import DOMAIN, EvaluateSettings
from campus_tune.words import fields as check_field
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import Json
from campus_tune.words.wording import shown

BLOCK = "compare"
MOST_SEEDS = 1000
MOST = {"points": 10_000, "jobs": 256}
MOST_DEVICES = 1024


@dataclass(frozen=True)
class CompareSettings:
    """How arms are compared.

    Args:
        test: files of held-out rows that decide; never those of the probes.
        domain_column: their column with the domain; None makes each file a domain.
        arms: name → settings of the campus block that differ from the recipe's. `recipe`, `random`,
            `random_same_pacing`, `reversed` and `random_plus` are known names; others are recipes of their own.
        seeds: of the runs; each arm is trained with each.
        effect: the smallest effect worth finding, as a share of the random arm's final loss, in (0, 1).
        speedup: the smallest saving of tokens worth finding, as a share, in (0, 1).
        points: of each curve, besides the first.
        tokens_tolerance: how far arms may differ in trained tokens, as a share.
        evaluate: official tasks on each trained model: `{suite, tasks, data, limit, allow_code_execution}`.
        sharpness: measure how sharp the minimum is that each run ended in.
        jobs: runs at once, on CPU cores.
        devices: accelerators, each with a run of its own; None takes the first one.

    Raises:
        RecipeError: with all that is wrong in the block.
    """

    test: tuple[str, ...]
    domain_column: str | None = DOMAIN
    arms: Mapping[str, Json] = field(default_factory=lambda: {name: {} for name in DEFAULT})
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    effect: float = 0.02
    speedup: float = 0.1
    points: int = 20
    tokens_tolerance: float = 0.01
    evaluate: EvaluateSettings | None = None
    sharpness: bool = False
    jobs: int = 1
    devices: tuple[int, ...] | None = None

    @classmethod
    def from_mapping(cls, block: Any) -> CompareSettings:
        """Read the `compare:` block.

        Raises:
            RecipeError: with all that is wrong in it.
        """
        if not isinstance(block, Mapping):
            raise RecipeError(
                f"`{BLOCK}` must be a mapping, got {block!r}. Write `{BLOCK}:` and below it test: {{path: test.jsonl}}."
            )
        problems = check_field.keys(BLOCK, block, [f.name for f in fields(cls) if f.name != "domain_column"])
        known = {f.name: block[f.name] for f in fields(cls) if f.name in block}
        values: Json = {}
        for name, read in _READERS.items():
            if name in known or name == "test":
                try:
                    values |= read(known.pop(name, None))
                except RecipeError as error:
                    problems += error.problems
        problems += _number_problems(known)
        if problems:
            raise RecipeError(problems)
        return cls(**values, **known)

    def to_mapping(self) -> Json:
        """What makes two comparisons the same one: all but how the runs are shared out."""
        mapping = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("jobs", "devices")}
        mapping |= {"test": list(self.test), "seeds": list(self.seeds), "arms": dict(self.arms)}
        if self.evaluate is not None:
            mapping["evaluate"] = {f.name: getattr(self.evaluate, f.name) for f in fields(self.evaluate)}
        return mapping


def _read_test(setting: Any) -> Json:
    """A file, files, or `{path, domain_column}`."""
    values = dict(setting) if isinstance(setting, Mapping) else {"path": setting}
    problems = check_field.keys(f"{BLOCK}: test", values, ["path", "domain_column"])
    paths = values.get("path")
    paths = [paths] if isinstance(paths, str | PathLike) else paths
    if not isinstance(paths, list | tuple) or not paths or not all(isinstance(p, str | PathLike) for p in paths):
        problems.append(
            f"`{BLOCK}: test` must be a file of held-out rows or a list of files, got {shown(setting)}. "
            "Write test: {path: test.jsonl}."
        )
    column = values.get("domain_column", DOMAIN)
    if column is not None:
        problems += check_field.text(f"{BLOCK}: test: domain_column", column)
    if problems:
        raise RecipeError(problems)
    return {
        "test": tuple(str(path) for path in paths or ()),
        "domain_column": None if column in (None, "none") else column,
    }


def _read_arms(setting: Any) -> Json:
    """A list of names, or a mapping name → settings that differ."""
    if isinstance(setting, list) and all(isinstance(name, str) for name in setting):
        setting = dict.fromkeys(setting)
    if not isinstance(setting, Mapping) or not setting:
        raise RecipeError(
            f"`{BLOCK}: arms` must be a list of names, or a mapping of names to settings, got {setting!r}. "
            f"Write arms: [{', '.join(DEFAULT)}]."
        )
    problems = [
        f"`{BLOCK}: arms: {name}` must be settings of the campus block, got {change!r}. Write {{stages: 10}}."
        for name, change in setting.items()
        if change is not None and not isinstance(change, Mapping)
    ]
    if problems:
        raise RecipeError(problems)
    return {"arms": {str(name): dict(change or {}) for name, change in setting.items()}}


def _read_seeds(setting: Any) -> Json:
    """How many, or which."""
    seeds = setting
    if isinstance(setting, int) and not isinstance(setting, bool):
        seeds = list(range(setting)) if setting <= MOST_SEEDS else []
    if (
        not isinstance(seeds, list | tuple)
        or not seeds
        or len(seeds) > MOST_SEEDS
        or any(check_field.whole("seed", seed, low=0, high=check_field.LARGEST_SEED) for seed in seeds)
    ):
        raise RecipeError(
            f"`{BLOCK}: seeds` must be how many, or a list of whole numbers (at most {MOST_SEEDS}, each in "
            f"[0, {check_field.LARGEST_SEED}]), got {shown(setting)}. Write seeds: 5."
        )
    twice = [seed for seed, n in Counter(seeds).items() if n > 1]
    if twice:
        raise RecipeError(
            f"`{BLOCK}: seeds` must be different, got {twice[0]} twice: a repeated run is no second observation. "
            "Remove it."
        )
    return {"seeds": tuple(seeds)}


def _read_evaluate(setting: Any) -> Json:
    if setting is None:
        return {"evaluate": None}
    if not isinstance(setting, Mapping):
        raise RecipeError(f"`{BLOCK}: evaluate` must be a mapping, got {setting!r}. Write evaluate: {{suite: campus}}.")
    if "every" in setting:
        raise RecipeError(
            f"`{BLOCK}: evaluate` must look once, at the end, got every: {setting['every']!r}. Remove `every`."
        )
    return {"evaluate": EvaluateSettings.from_mapping(setting)}


def _read_devices(setting: Any) -> Json:
    devices = [setting] if isinstance(setting, int) and not isinstance(setting, bool) else setting
    if devices is not None and not (
        isinstance(devices, list | tuple)
        and devices
        and all(
            isinstance(device, int) and not isinstance(device, bool) and 0 <= device < MOST_DEVICES
            for device in devices
        )
    ):
        raise RecipeError(
            f"`{BLOCK}: devices` must be numbers of GPUs below {MOST_DEVICES}, got {shown(setting)}. "
            "Write devices: [0, 1]."
        )
    twice = [device for device, n in Counter(devices or ()).items() if n > 1]
    if twice:
        raise RecipeError(
            f"`{BLOCK}: devices` must be different, got {twice[0]} twice: each has one run at a time. Remove it."
        )
    return {"devices": None if devices is None else tuple(devices)}


_READERS = {
    "test": _read_test,
    "arms": _read_arms,
    "seeds": _read_seeds,
    "evaluate": _read_evaluate,
    "devices": _read_devices,
}


def _number_problems(known: Json) -> list[str]:
    problems: list[str] = []
    for name in ("effect", "speedup"):
        if name in known:
            problems += check_field.number(
                f"{BLOCK}: {name}", known[name], low=0, high=1, open_low=True, open_high=True
            )
    if "tokens_tolerance" in known:
        problems += check_field.number(f"{BLOCK}: tokens_tolerance", known["tokens_tolerance"], low=0, high=1)
    for name in ("points", "jobs"):
        if name in known:
            problems += check_field.whole(f"{BLOCK}: {name}", known[name], low=1, high=MOST[name])
    if not isinstance(known.get("sharpness", False), bool):
        problems.append(f"`{BLOCK}: sharpness` must be true or false, got {known['sharpness']!r}. Write true.")
    return problems
