"""`campus-tune sft`: TRL's own fine-tuning script, with one more block in its YAML.

A TRL YAML is taken as it is: the same fields, the same flags as overrides, the same order of precedence. What is
added is the `campus:` block, `--campus.<setting> <value>` to override one of its settings (`--scores DIR` for short,
the folder of the score cache), local JSON-lines files as `dataset_name`, and strictness: a key that nobody knows stops
here, with the nearest known one, and not after three days of training. On many processes: `accelerate_config`,
`num_processes` and accelerate's other flags, in the YAML or on the command line (campus_tune/cli/launch.py), or
`accelerate launch -m campus_tune sft …`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.launched import refuse_other_launch
from campus_tune.recipe.trainer_settings import refused
from campus_tune.recipe.trl_yaml import parse_trl, read_arguments, read_block
from campus_tune.run.make_trainer import make_trainer, refuse_other_model
from campus_tune.words.errors import RecipeError


def main(argv: Sequence[str]) -> int:
    """Fine-tune under the recipe that `argv` names; gives back the exit code 0.

    Args:
        argv: `--config recipe.yaml` and overrides.

    Raises:
        RecipeError: problems in the YAML or the flags, all at once, before data or a model are loaded.
    """
    settings, block, flags = read_arguments(list(argv))
    config, problems = read_block(block)
    (script, training, model, mixture), more = parse_trl(settings, flags, problems)
    refuse_other_launch()
    if not model.model_name_or_path:
        more.append("`model_name_or_path` must be a model folder or a hub id, got nothing. Add it to the YAML.")
    more += [] if config is None else refused({**vars(mixture), **vars(script)})
    if problems + more:
        raise RecipeError(problems + more)
    train(script, training, model, mixture, config)
    return 0


def train(script: Any, training: Any, model: Any, mixture: Any, config: CampusConfig | None) -> Any:
    """One run, from TRL's four argument objects and the curriculum's settings; gives back the trainer.

    Args:
        script: `trl.ScriptArguments`.
        training: `trl.SFTConfig`.
        model: `trl.ModelConfig`.
        mixture: `trl.DatasetMixtureConfig`.
        config: None trains without a curriculum, as TRL would.
    """
    from campus_tune.run.callback import CampusCallback

    callbacks = []
    if config is not None:
        refuse_other_model(training, model)
        callbacks.append(CampusCallback(config))
    trainer = make_trainer(script, training, model, mixture, callbacks=callbacks)
    trainer.train(resume_from_checkpoint=_resume(training.resume_from_checkpoint))
    trainer.save_model(training.output_dir)
    trainer.accelerator.print(f"model saved to {training.output_dir}")
    if config is not None and trainer.is_world_process_zero():
        report(trainer)
    if training.push_to_hub:
        trainer.push_to_hub(dataset_name=script.dataset_name)
    if hasattr(trainer, "end"):
        trainer.end()
    return trainer


def report(trainer: Any) -> None:
    """Write the page of a finished run and hand its pictures to the trackers. A failure is told: the run is whole.

    Args:
        trainer: that has trained, in the process that leads.
    """
    from campus_tune.report.write import pngs, write_report
    from campus_tune.run.told.trackers import log_plots
    from campus_tune.words.console import say

    try:
        page = write_report(trainer.args.output_dir)
        log_plots(trainer, pngs(page))
    except Exception as error:  # of plotting, of a full disk: what was trained is saved
        say(f"warning: no report ({type(error).__name__}: {error}). campus-tune report {trainer.args.output_dir}")
    else:
        say(f"the report: {page}")


def _resume(value: Any) -> str | bool | None:
    """`resume_from_checkpoint` of a YAML or a flag: a path, or true and false however they are written."""
    if isinstance(value, str) and value.lower() in ("true", "yes", "1", "false", "no", "0", ""):
        return value.lower() in ("true", "yes", "1")
    return value  # type: ignore[no-any-return]  # None, a bool or a path
