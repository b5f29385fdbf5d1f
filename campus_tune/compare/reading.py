"""What the YAML and the flags of a command that trains many runs say: TRL's settings, the recipe, the blocks.

First `read_written`, then the command's own settings (`CompareSettings.from_mapping(written.compared(flags))`) and its
arms, then `make_plan`; of `compare` itself, `plan_comparison` is all three.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from campus_tune.compare.arms import PLUS, Arm, default_arms, make_arms
from campus_tune.compare.plan import Plan
from campus_tune.compare.result_file import RUNS
from campus_tune.compare.settings import BLOCK, CompareSettings
from campus_tune.model.reward_functions import load_rewards
from campus_tune.recipe.reward_rules import for_rewards
from campus_tune.recipe.trl_yaml import OF_COMMANDS, REWARDS, SFT, is_launched, read_arguments, trainer_asked
from campus_tune.words.errors import RecipeError
from campus_tune.words.strict_yaml import read_value
from campus_tune.words.types import Json

OUT = "comparison"  # the folder where neither the YAML nor a flag names one


@dataclass(frozen=True)
class WrittenPlan:
    """What a YAML and the words behind a command say, before anything is made of it.

    Args:
        training: TRL's settings from the YAML.
        flags: TRL's flags from the command line.
        block: the recipe's campus block.
        blocks: name of a command's block → what it says, settings given as `--<block>.<setting>` in it; whatever the
            YAML has there where that is no mapping.
        trainer: sft, or grpo or rloo where rewards are named.
    """

    training: Json
    flags: tuple[str, ...]
    block: Json
    blocks: Mapping[str, Any]
    trainer: str = SFT

    def compared(self, given: Json) -> Any:
        """The `compare:` block with the settings that are flags of a command.

        Arms and test rows keep what the YAML says of them: settings, the domain column.

        Args:
            given: `seeds`, `arms` and `test` as lists, `jobs`, `devices`; None and what is missing changes nothing.
        """
        written = self.blocks[BLOCK]
        if not isinstance(written, Mapping):
            return written
        flags: Json = {name: given[name] for name in ("jobs", "devices") if given.get(name) is not None}
        if seeds := given.get("seeds"):
            flags["seeds"] = seeds[0] if len(seeds) == 1 else seeds
        if given.get("arms"):
            known = written.get("arms")
            flags["arms"] = {name: known.get(name) if isinstance(known, Mapping) else None for name in given["arms"]}
        if given.get("test"):
            known = written.get("test")
            flags["test"] = {**(known if isinstance(known, Mapping) else {}), "path": given["test"]}
        return {**written, **flags}


def read_written(
    config: str, words: Sequence[str], *, command: str = "compare", blocks: Sequence[str] = (BLOCK,)
) -> WrittenPlan:
    """What a YAML and the words that the command does not know itself say.

    Args:
        config: the YAML's file.
        words: of the command line.
        command: its name, in messages.
        blocks: of the YAML that are the command's.

    Raises:
        RecipeError: started by a launcher, a flag that belongs to a single run, no `campus:` block, no YAML.
    """
    if is_launched():
        raise RecipeError(
            f"`campus-tune {command}` must be started once, got several processes of a launcher. Name the GPUs "
            "instead, each with a run of its own: --devices 0 1."
        )
    own: dict[str, Json] = {name: {} for name in blocks}
    rest: list[str] = []
    parts = iter([part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])])
    for word in parts:
        block, dot, setting = word.removeprefix("--").partition(".")
        if not (word.startswith("--") and dot and block in own):
            rest.append(word)
            continue
        value = next(parts, None)
        if value is None:
            raise RecipeError(f"`{word}` must be followed by a value, got nothing. Write {word} VALUE.")
        own[block][setting] = read_value(value, word)
    for name, instead in (("--seed", "--seeds"), ("--output_dir", "--out")):
        if name in rest:
            raise RecipeError(f"`{name}` belongs to a single run, got it for a comparison. Write {instead}.")
    training, campus, flags = read_arguments(["--config", config, *rest], comparing=True)
    if campus is None:
        raise RecipeError(f"`campus` must be a block in {config}, got none. Add `campus:` with `metrics`.")
    found = {name: training.pop(name, None) or {} for name in blocks}
    training = {key: value for key, value in training.items() if key not in OF_COMMANDS}
    said = {name: {**what, **own[name]} if isinstance(what, Mapping) else what for name, what in found.items()}
    flagged = {name: True for name in REWARDS if f"--{name}" in flags}
    trainer = trainer_asked({**training, **flagged, BLOCK: said.get(BLOCK)})
    if trainer != SFT and command != "compare":
        raise RecipeError(
            f"`campus-tune {command}` must be given a recipe that is trained on answers, got one that is trained by "
            f"reward (`reward_funcs`). Compare such recipes: campus-tune compare --config {config}"
        )
    return WrittenPlan(training, tuple(flags), campus, said, trainer)


def make_plan(written: WrittenPlan, arms: Sequence[Arm], settings: CompareSettings, out: Path | None) -> Plan:
    """The plan of runs of these arms.

    Args:
        written: the YAML and the flags.
        arms: that the plan knows by name, the baseline among them.
        settings: of the comparison.
        out: the folder; None takes the YAML's output_dir.

    Raises:
        RecipeError: all that is wrong with TRL's settings; no model; a seed of the data, where seeds are compared.
    """
    out = out or Path(str(written.training.get("output_dir") or OUT))
    plan = Plan(written.training, written.flags, settings, tuple(arms), written.block, out, trainer=written.trainer)
    parsed, problems = plan.parsed(settings.seeds[0], out / RUNS)
    problems += _problems_of_trainer(plan, parsed[0])
    if not parsed[2].model_name_or_path:
        problems.append("`model_name_or_path` must be a model folder or a hub id, got nothing. Add it to the YAML.")
    if parsed[1].data_seed is not None:
        problems.append(f"`data_seed` must be left out where seeds are compared, got {parsed[1].data_seed}. Remove it.")
    if problems:
        raise RecipeError(problems)
    return plan


def _problems_of_trainer(plan: Plan, script: Any) -> list[str]:
    """What only one of the two ways to train has, asked of the other; rewards that cannot be had."""
    settings = plan.settings
    if not plan.by_reward:
        asked = [name for name in ("trainer", "samples") if getattr(settings, name)]
        return [
            f"`{BLOCK}: {name}` must go with `reward_funcs`, got a recipe that is trained on answers. Remove it."
            for name in asked
        ]
    problems = [
        f"`{BLOCK}: {name}` must be left out of a recipe that is trained by reward, got {value}: {why}. Remove it."
        for name, value, why in (
            ("sharpness", settings.sharpness, "it is measured on answers that the test rows have"),
            ("proxy", settings.proxy, "it ranks rows by their loss"),
            ("evaluate", settings.evaluate and "official tasks", "the test prompts decide; try campus-tune eval"),
        )
        if value
    ]
    try:
        load_rewards(script)
    except RecipeError as error:
        problems += error.problems
    for arm in plan.arms:
        try:
            if not arm.awaits:  # it is said of the recipe, whose run it awaits
                for_rewards(arm.config(0))
        except RecipeError as error:
            problems += [f"arm {arm.name!r}: {problem}" for problem in error.problems]
    return problems


def plan_comparison(
    config: str, words: Sequence[str], given: Json, *, out: Path | None, random_plus: bool = False
) -> Plan:
    """What is compared, from the YAML and the flags.

    Args:
        config: the YAML's file.
        words: of the command line that `compare` does not know itself.
        given: flags that it knows, as `WrittenPlan.compared` takes them.
        out: the folder; None takes the YAML's output_dir.
        random_plus: also plain shuffling for as much compute as the recipe.

    Raises:
        RecipeError: all that is wrong with them.
    """
    written = read_written(config, words)
    compared = written.compared(given)
    settings = CompareSettings.from_mapping(compared)
    by_reward = written.trainer != SFT
    if isinstance(compared, Mapping) and compared.get("arms") is None:
        settings = replace(settings, arms={name: {} for name in default_arms(written.block, by_reward=by_reward)})
    wanted = {**settings.arms, **({PLUS: {}} if random_plus else {})}
    return make_plan(written, make_arms(written.block, wanted), settings, out)
