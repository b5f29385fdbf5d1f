"""What `check` says of a recipe that is trained by reward: its rewards, its prompts, and how the run will cut them.

No model is loaded and no answer is made, so nothing is said of how prompts will pass; `campus-tune compare` says
whether the order helps.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from campus_tune.data.prompt_rows import PROMPT, text_of, why_no_prompts
from campus_tune.data.prompts import read_answers
from campus_tune.method.rounds import Rounds
from campus_tune.metrics.base import build_metric
from campus_tune.metrics.column import Column
from campus_tune.model.prepare import HERE, OURS
from campus_tune.model.reward_functions import load_rewards, missing_columns, weight_problems
from campus_tune.model.reward_trainers import sizes_asked
from campus_tune.preview.recipe_rows import recipe_rows
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.reward_rules import for_rewards
from campus_tune.recipe.trl_yaml import parse_trl
from campus_tune.words.errors import CampusError, DataError, RecipeError
from campus_tune.words.findings import Finding
from campus_tune.words.types import RowTexts
from campus_tune.words.wording import listed

if TYPE_CHECKING:
    from trl import GRPOConfig

SHOWN = 8  # domains that are named


def method_for_rewards(config: CampusConfig) -> tuple[CampusConfig, list[Finding]]:
    """The settings as a trainer by reward takes them, and what is wrong with them there.

    Args:
        config: of the block.
    """
    try:
        return for_rewards(config), []
    except RecipeError as error:
        return config, [Finding("error", problem) for problem in error.problems]


def prompt_findings(name: str, settings: Mapping[str, Any], config: CampusConfig, trainer: str) -> list[Finding]:
    """What is to be known of the prompts that a recipe names, before any is answered.

    Args:
        name: of the data set, as the YAML has it.
        settings: of the YAML, its blocks among them.
        config: the block, read.
        trainer: grpo or rloo.

    Raises:
        CampusError: they cannot be looked at: no such file, no rows, a row without a prompt.
    """
    rows = recipe_rows(settings)
    if not rows:
        raise DataError(f"`{name}` must have at least one row, got none. Add prompts.")
    if problem := why_no_prompts(rows, [f"`{name}` row {i}" for i in range(len(rows))]):
        raise DataError(problem)
    columns = list(dict.fromkeys(column for row in rows[:1] for column in row))
    column = config.within if config.within not in (None, "none") else "domain"
    findings = [Finding("info", f"{len(rows)} prompts, with the columns {', '.join(columns)}.")]
    if config.within == column and column not in columns:
        raise RecipeError(
            f"`within` must be a column of the training set ({', '.join(columns)}), got {column!r}. Correct it, or "
            "write within: none."
        )
    held = {name: [row.get(name) for row in rows] for name in columns}
    if config.passes is not None and config.passes.answer is not None:
        read_answers(held, config.passes.answer)
    none = np.zeros(len(rows), dtype=np.int64)  # a column is read, no tokens are
    texts = RowTexts(response_text=[""] * len(rows), response_tokens=none, prompt_tokens=none, columns=held)
    for metric in map(build_metric, config.scored):
        if isinstance(metric, Column):
            metric.scores(texts)
    if column in columns:
        sizes = Counter(map(str, held[column])).most_common()
        findings.append(Finding("info", f"domains: {listed([f'{one} ({n})' for one, n in sizes], SHOWN)}."))
    repeated = len(rows) - len({text_of(row[PROMPT]) for row in rows})
    if repeated:
        what = f"{repeated} of {len(rows)} prompts repeat another: each is drawn, and its pass rate counted, by itself."
        findings.append(Finding("warning", what, "Remove them, unless their other columns differ on purpose."))
    asked = {key: value for key, value in {**settings, **HERE}.items() if key not in OURS}
    (script, training, _, _), _ = parse_trl(asked, [], trainer=trainer)
    rewards = load_rewards(script)
    problems = [*missing_columns(rewards, columns), *weight_problems(training, rewards)]
    findings += [Finding("error", problem) for problem in problems]
    try:
        findings += _cut(training, len(rows))
    except CampusError as error:
        findings += [Finding("error", problem) for problem in getattr(error, "problems", [str(error)])]
    return findings


def _cut(training: GRPOConfig, n: int) -> list[Finding]:
    """How prompts are cut into generations and optimizer steps, and how many of them a run draws.

    Raises:
        TrainerError: a generation and an optimizer step do not divide one another.
    """
    rounds = Rounds(**sizes_asked(training))
    if n < rounds.global_batch:
        what = f"{n} prompts are fewer than the {rounds.global_batch} that one round of generations takes."
        remedy = "Add prompts, or lower per_device_train_batch_size or steps_per_generation, or raise num_generations."
        return [Finding("error", what, remedy)]
    per_epoch = n // rounds.global_batch * rounds.steps
    steps = training.max_steps if training.max_steps > 0 else math.ceil(training.num_train_epochs * per_epoch)
    drawn = math.ceil(steps / rounds.steps) * rounds.global_batch
    of_round = (
        f"{rounds.generations} generations in one optimizer step"
        if rounds.generations > 1
        else f"one generation, trained in {rounds.steps} optimizer step{'s' * (rounds.steps > 1)}"
    )
    said = (
        f"A generation is {rounds.prompts} prompts with {rounds.group} answers each, a round is {of_round}: {steps} "
        f"steps draw {drawn} prompts, {drawn / n:.2g} for each that is there."
    )
    return [Finding("info", said)]
