"""`campus-tune sft`: TRL's own fine-tuning script, with one more block in its YAML.

A TRL YAML is taken as it is: the same fields, the same flags as overrides, the same order of precedence. What is
added is the `campus:` block, `--campus.<setting> <value>` to override one of its settings (`--scores DIR` for short,
the folder of the score cache), local JSON-lines files as `dataset_name`, and strictness: a key that nobody knows stops
here, with the nearest known one, and not after three days of training. On many processes: `accelerate_config`,
`num_processes` and accelerate's other flags, in the YAML or on the command line (campus_tune/cli/launch.py), or
`accelerate launch -m campus_tune sft …`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from campus_tune.cli.options import COMMANDS, Commands, add_command
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.launched import refuse_other_launch
from campus_tune.recipe.packing import FLAG, SETTING, Translated
from campus_tune.recipe.trainer_settings import refused
from campus_tune.recipe.trl_yaml import is_launched, parse_trl, read_arguments, read_block, trl_parser
from campus_tune.run.make_trainer import make_trainer, refuse_other_model
from campus_tune.words.console import say
from campus_tune.words.errors import RecipeError
from campus_tune.words.progress import VOLUME

if TYPE_CHECKING:
    from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments, SFTConfig, SFTTrainer

EXAMPLE = """\
Supervised fine-tuning under a curriculum: a TRL YAML with a `campus:` block. Any flag of TRL's overrides the YAML,
--campus.<setting> the block; --model, --data and --out are short for TRL's names of these. --help-all lists every
setting and every flag.

example:
  campus-tune sft --config recipe.yaml --learning_rate 1e-4
  campus-tune sft recipe.yaml --model ./model --data train.jsonl --out runs/first
  campus-tune sft --config recipe.yaml --campus.stages 10 --scores scores
  campus-tune sft --config recipe.yaml --resume_from_checkpoint true
  campus-tune sft --config recipe.yaml --translate-packing
  campus-tune sft --config recipe.yaml --accelerate_config recipes/accelerate/fsdp2.yaml --num_processes 4

--translate-packing takes a recipe with `packing: true`, which leaves no order of rows: whole rows are trained without
padding instead (batching: flat), as many tokens in a step.

The last one launches itself on many processes: flags of `accelerate launch` may stand among the others, or as keys in
the YAML (num_processes: 4). Switches stand alone: --multi_gpu, and in the YAML multi_gpu: true, no quotes.
`accelerate launch -m campus_tune sft --config recipe.yaml` is the same, launched by you.
"""


def add_parser(commands: Commands) -> None:
    """Add `sft` to the list of commands. Its flags are TRL's, so `main` is handed the words as they are."""
    parser = add_command(commands, "sft", COMMANDS["sft"], EXAMPLE)
    parser.usage = "campus-tune sft --config YAML [--campus.<setting> VALUE …] [flags of TRL]"


def main(argv: Sequence[str]) -> int:
    """Fine-tune under the recipe that `argv` names; gives back the exit code 0.

    Args:
        argv: `--config recipe.yaml` and overrides.

    Raises:
        RecipeError: problems in the YAML or the flags, all at once, before data or a model are loaded.
    """
    if not argv:
        raise RecipeError("`sft` must be given a recipe, got none. Write: campus-tune sft recipe.yaml")
    translates = FLAG in argv
    settings, block, flags = read_arguments([word for word in argv if word != FLAG])
    config, problems = read_block(block)
    (script, training, model, mixture), more = parse_trl(settings, flags, problems)
    refuse_other_launch()
    if not model.model_name_or_path:
        more.append("`model_name_or_path` must be a model folder or a hub id, got nothing. Add it to the YAML.")
    more += [] if config is None else refused({**vars(mixture), **vars(script)})
    packs = config is not None and training.packing
    if problems + more:
        raise RecipeError(problems + more + (refused({SETTING: True}) if packs and not translates else []))
    if config is not None and packs:
        from campus_tune.run.translate_packing import translate_packing

        flagged = {word.removeprefix("--").replace("-", "_") for word in flags if word.startswith("--")}
        values = vars(trl_parser().parse_known_args(flags)[0])
        asked = settings | {name: value for name, value in values.items() if name in flagged}
        agreed = _say if translates else _ask
        config = translate_packing(script, training, mixture, config, settings=asked, agreed=agreed)
    train(script, training, model, mixture, config)
    return 0


def _say(found: Translated) -> bool:
    """What a recipe is translated to, said once; as it was asked for by the flag."""
    if os.environ.get("RANK", "0") == "0":
        say(f"packing, translated: {found}. Write that into the recipe, and {FLAG} is no longer needed.")
    return True


def _ask(found: Translated) -> bool:
    """Whether a person at a terminal wants it; nobody else is asked."""
    if is_launched() or sys.stdin is None or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    print(f"`packing: true` leaves no order of rows. As many tokens in a step have {found}.")
    return input("Train that? [y/N] ").strip().lower() in ("y", "yes")


def train(
    script: ScriptArguments,
    training: SFTConfig,
    model: ModelConfig,
    mixture: DatasetMixtureConfig,
    config: CampusConfig | None,
) -> SFTTrainer:
    """One run, from TRL's four argument objects and the curriculum's settings; without those, as TRL would train."""
    from campus_tune.report.callback import CampusCallback

    callbacks = []
    if config is not None:
        refuse_other_model(training, model)
        callbacks.append(CampusCallback(config))
    trainer = make_trainer(script, training, model, mixture, callbacks=callbacks)
    trained: SFTTrainer = finish(trainer, training, script.dataset_name)
    return trained


def finish(trainer: Any, training: Any, dataset_name: str | None) -> Any:
    """Train, save the model, and push it where that is asked for; gives back the trainer.

    Args:
        trainer: TRL's.
        training: its configuration, `trl.SFTConfig` or that of a trainer by reward.
        dataset_name: of the recipe, for the model's card.
    """
    from campus_tune.run.training_bar import take_over_bar

    take_over_bar(trainer)
    trainer.train(resume_from_checkpoint=_resume(training.resume_from_checkpoint))
    trainer.save_model(training.output_dir)
    if not VOLUME.quiet:
        trainer.accelerator.print(f"model saved to {training.output_dir}")
    if training.push_to_hub:
        trainer.push_to_hub(dataset_name=dataset_name)
    if hasattr(trainer, "end"):
        trainer.end()
    return trainer


def _resume(value: str | bool | None) -> str | bool | None:
    """`resume_from_checkpoint` of a YAML or a flag: a path, or true and false however they are written."""
    if isinstance(value, str) and value.lower() in ("true", "yes", "1", "false", "no", "0", ""):
        return value.lower() in ("true", "yes", "1")
    return value
