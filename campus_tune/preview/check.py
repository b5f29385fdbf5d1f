"""`campus-tune check`: what is wrong with a recipe and its data, before a model is loaded or a step is trained.

First the settings: all problems of the block at once, what the method does that its name does not say, and trainer
options that would undo it. If those hold, the data: the scores' health, the learning rate that each difficulty decile
will meet in a simulated plan, and probes that were trained on.

The trainer's libraries are imported where a recipe has settings of TRL's or names its rows: a bare block asks for none.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campus_tune.evaluate.suites import load_suite
from campus_tune.metrics.extras import missing_parts
from campus_tune.model.prepare import HERE, OURS
from campus_tune.preview.advice import problems_in_method
from campus_tune.preview.recipe_rows import rows_named
from campus_tune.recipe.batching import foreseen
from campus_tune.recipe.config import CampusConfig, load_recipe
from campus_tune.recipe.packing import SETTING
from campus_tune.recipe.trainer_settings import refused
from campus_tune.recipe.trl_yaml import SFT, environment_problems, parse_trl, trainer_asked
from campus_tune.scores.questions import Questions
from campus_tune.words.errors import CampusError, RecipeError
from campus_tune.words.findings import SEVERITIES, Finding, Severity, as_findings
from campus_tune.words.strict_yaml import read_yaml
from campus_tune.words.tables import html_table
from campus_tune.words.types import Json

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RecipeCheck:
    """What a user should know about a recipe before starting it; in a notebook, a table.

    Args:
        recipe: as it was named; "" of one that is no file.
        findings: the gravest first. With a wrong recipe the data are not looked at.
    """

    recipe: str
    findings: tuple[Finding, ...]

    @property
    def grave(self) -> bool:
        """A run should not start."""
        return any(finding.severity in ("refused", "error") for finding in self.findings)

    @property
    def counts(self) -> dict[Severity, int]:
        """How many findings there are of each severity."""
        return {severity: sum(one.severity == severity for one in self.findings) for severity in SEVERITIES}

    @property
    def table(self) -> pd.DataFrame:
        """A line for each finding: `severity`, `what` it is, and the `remedy`: what to do; "" for information."""
        import pandas as pd  # the command has no use for it

        lines = [(finding.severity, finding.what, finding.remedy) for finding in self.findings]
        return pd.DataFrame(lines, columns=["severity", "what", "remedy"], dtype=object)

    def to_mapping(self) -> Json:
        """What `campus-tune check --json` prints."""
        return {
            "recipe": self.recipe,
            "grave": self.grave,
            "counts": dict(self.counts),
            "findings": [dict(vars(finding)) for finding in self.findings],
        }

    def __str__(self) -> str:
        called = {"refused": "refused", "error": "errors", "warning": "warnings", "info": "notes"}
        total = ", ".join(f"{n} {called[severity]}" for severity, n in self.counts.items())
        return "\n".join([*map(str, self.findings), total])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = [(finding.severity, finding.what, finding.remedy) for finding in self.findings]
        return html_table(rows, ("severity", "what", "what to do"))


def check_recipe(recipe: str | Path | Mapping[str, Any]) -> RecipeCheck:
    """Everything a user should know about a recipe before starting it, as `campus-tune check` says it.

    Args:
        recipe: a training YAML with a `campus:` block, as `campus-tune sft --config` takes it, or the same as a
            mapping.

    >>> found = check_recipe({"campus": {"metrics": ["lenght"]}})
    >>> found.grave, found.table.severity.tolist()
    (True, ['error'])
    """
    named = "" if isinstance(recipe, Mapping) else str(recipe)
    return RecipeCheck(named, tuple(check(recipe)))


def check(recipe: str | Path | Mapping[str, Any]) -> list[Finding]:
    """The findings of `check_recipe`.

    Args:
        recipe: as there.
    """
    try:
        settings = dict(recipe) if isinstance(recipe, Mapping) else read_yaml(recipe)
    except RecipeError as error:
        return as_findings(error)
    trainer = trainer_asked(settings)
    findings = _trainer_findings(settings, trainer)
    try:
        config = load_recipe(settings, named="" if isinstance(recipe, Mapping) else recipe)
    except RecipeError as error:
        return [*as_findings(error), *findings]
    if trainer != SFT:
        from campus_tune.preview.check_prompts import method_for_rewards

        config, wrong_there = method_for_rewards(config)
        findings += [*wrong_there, *_part_findings(config)]
    else:
        findings += [*problems_in_method(config), *_part_findings(config), *foreseen(settings, config.batching)]
    wrong = [finding for finding in findings if finding.severity == "error"]
    packs = bool(settings.get(SETTING)) and len(wrong) == 1
    if packs or not wrong:
        try:
            if packs:  # what else there is to say is said of the run that would be trained instead
                from campus_tune.preview.check_data import unpacked_findings

                findings, settings = unpacked_findings(findings, settings)
            if model := settings.get("model_name_or_path"):  # by its configuration, as `campus-tune sft` does first
                from campus_tune.model.other_tasks import refuse_other_model

                refuse_other_model(str(model), trust_remote_code=bool(settings.get("trust_remote_code")))
            if (name := rows_named(settings)) is None:
                findings.append(Finding("info", "The recipe names no dataset_name: the data were not looked at."))
            elif trainer != SFT:
                from campus_tune.preview.check_prompts import prompt_findings

                findings += prompt_findings(name, settings, config, trainer)
            else:
                from campus_tune.preview.check_data import data_findings

                findings += data_findings(name, settings, config)
        except CampusError as error:
            findings += as_findings(error)
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def _part_findings(config: CampusConfig) -> list[Finding]:
    """What is wrong with the metrics and tasks that the block names."""
    try:
        questions = Questions(config)
        findings = [Finding("error", problem) for problem in missing_parts(questions.metrics.values())]
        if config.thin is not None and config.thin.fresh:
            from campus_tune.scores.fresh import asked_of_candidates

            asked_of_candidates(config, questions)
        if config.evaluate is not None:  # a misspelt task would be told after the model was loaded
            load_suite(config.evaluate.suite).narrowed(config.evaluate.tasks, config.evaluate.limit)
    except CampusError as error:
        return as_findings(error)
    return findings


# -- the trainer's settings ----------------------------------------------------------------------------------------


def _trainer_findings(settings: Json, trainer: str) -> list[Finding]:
    """What its command would refuse beside the block, and what would replace, reorder or blur the planned rows."""
    problems: list[str] = []
    if "campus" in settings:  # else it is the bare block
        environment = environment_problems(settings.get("env"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of libraries about their own defaults
            try:
                asked = {k: v for k, v in (settings | HERE).items() if k not in OURS}
                parsed, wrong = parse_trl(asked, [], environment, trainer=trainer)
                problems = [*wrong, *environment]
                if trainer != SFT:
                    from campus_tune.model.reward_functions import load_rewards

                    load_rewards(parsed[0])
            except RecipeError as error:
                problems += error.problems
    found = [Finding("error", problem) for problem in [*problems, *refused(settings)]]
    if settings.get("auto_find_batch_size"):
        what = "auto_find_batch_size may change the batch, and with it the plan, after the curriculum was built."
        found.append(Finding("warning", what, "Set per_device_train_batch_size to what fits."))
    if settings.get("save_only_model"):
        what = "save_only_model: a run cannot be resumed exactly without its optimizer."
        found.append(Finding("warning", what, "Remove it."))
    return found
