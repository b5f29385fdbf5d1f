"""`campus-tune sft`: TRL's own fine-tuning script, with one more block in its YAML.

A TRL YAML is taken as it is: the same fields, the same flags as overrides, the same order of precedence. What is
added is the `campus:` block, `--campus.<setting> <value>` to override one of its settings (`--scores DIR` for short,
the folder of the score cache), local JSON-lines files as `dataset_name`, and strictness: a key that nobody knows stops
here, with the nearest known one, and not after three days of training. On many processes: `accelerate_config`,
`num_processes` and accelerate's other flags, in the YAML or on the command line (campus_tune/launch.py), or
`accelerate launch -m campus_tune sft …`.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from campus_tune.accelerate_yaml import CONFIG, launch_flags
from campus_tune.errors import DataError, RecipeError
from campus_tune.files import read_jsonl
from campus_tune.recipe import CampusConfig
from campus_tune.registry import nearest
from campus_tune.strict_yaml import read_yaml
from campus_tune.types import Json

BLOCK = "campus"
COMPARE = "compare"
JSON_LINES = (".jsonl", ".jsonl.gz", ".json")
TRAIN = "train"
# One of these is set in a process that torchrun, mpirun or accelerate started; the last by accelerate alone, also where
# it starts a single process. WORLD_SIZE is no sign: clusters set it for a machine on which nothing is launched yet.
LAUNCHED = (
    "LOCAL_RANK",
    "MPI_LOCALRANKID",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MV2_COMM_WORLD_LOCAL_RANK",
    "ACCELERATE_DYNAMO_USE_FULLGRAPH",
)


def main(argv: Sequence[str]) -> int:
    """Fine-tune under the recipe that `argv` names; gives back the exit code 0.

    Args:
        argv: `--config recipe.yaml` and overrides.

    Raises:
        RecipeError: problems in the YAML or the flags, all at once, before data or a model are loaded.
    """
    settings, block, flags = read_arguments(list(argv))
    config, problems = read_block(block)
    (script, training, model, mixture), more = parse_trl(settings, flags)
    if not model.model_name_or_path:
        more.append("`model_name_or_path` must be a model folder or a hub id, got nothing. Add it to the YAML.")
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
    from campus_tune.integrations.callback import CampusCallback

    callbacks = [] if config is None else [CampusCallback(config)]
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


@dataclass
class Prepared:
    """What the trainers of one recipe can share in one process: loaded once, prepared once.

    Args:
        model: as it was loaded; every trainer gets a copy.
        tokenizer: the model's.
        dataset: training rows as the first trainer prepared them.
    """

    model: Any = None
    tokenizer: Any = None
    dataset: Any = None


def report(trainer: Any) -> None:
    """Write the page of a finished run and hand its pictures to the trackers. A failure is told: the run is whole.

    Args:
        trainer: that has trained, in the process that leads.
    """
    from campus_tune.integrations.console import say
    from campus_tune.integrations.trackers import log_plots
    from campus_tune.report.write import pngs, write_report

    try:
        page = write_report(trainer.args.output_dir)
        log_plots(trainer, pngs(page))
    except Exception as error:  # of plotting, of a full disk: what was trained is saved
        say(f"warning: no report ({type(error).__name__}: {error}). campus-tune report {trainer.args.output_dir}")
    else:
        say(f"the report: {page}")


def make_shared_trainer(
    script: Any, training: Any, model: Any, mixture: Any, *, callbacks: Sequence[Any], prepared: Prepared
) -> Any:
    """The same trainer as `make_trainer`'s, bit for bit, from what an earlier one has loaded and prepared.

    Args:
        script: `trl.ScriptArguments`.
        training: `trl.SFTConfig`.
        model: `trl.ModelConfig`.
        mixture: `trl.DatasetMixtureConfig`.
        callbacks: of the trainer.
        prepared: empty before the first trainer, and filled by it.
    """
    from transformers import set_seed
    from trl import SFTTrainer, get_peft_config, get_quantization_config

    if get_quantization_config(model) is not None:  # quantised weights cannot be copied
        return make_trainer(script, training, model, mixture, callbacks=callbacks)
    if prepared.model is None:
        from campus_tune.integrations.compat import load_model

        prepared.model, prepared.tokenizer = load_model(model.model_name_or_path, loading(training, model))
        prepared.dataset = _split(load_rows(script, mixture), script, "dataset_train_split")
    training.model_init_kwargs = None
    set_seed(training.seed)
    trainer = SFTTrainer(
        model=copy.deepcopy(prepared.model),
        args=training,
        train_dataset=prepared.dataset,
        processing_class=prepared.tokenizer,
        peft_config=get_peft_config(model),
        callbacks=list(callbacks),
    )
    prepared.dataset = trainer.train_dataset
    return trainer


def loading(training: Any, model: Any) -> Json:
    """What the model is loaded with.

    Args:
        training: `trl.SFTConfig`.
        model: `trl.ModelConfig`.
    """
    named = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        "trust_remote_code": getattr(training, "trust_remote_code", getattr(model, "trust_remote_code", False)),
    }
    return {**named, **(training.model_init_kwargs or {})}


def make_trainer(script: Any, training: Any, model: Any, mixture: Any, *, callbacks: Sequence[Any]) -> Any:
    """The SFTTrainer that a recipe describes, its rows prepared.

    Args:
        script: `trl.ScriptArguments`.
        training: `trl.SFTConfig`; gets what the model is loaded with.
        model: `trl.ModelConfig`.
        mixture: `trl.DatasetMixtureConfig`.
        callbacks: of the trainer.
    """
    from transformers import set_seed
    from trl import SFTTrainer, get_peft_config, get_quantization_config

    set_seed(training.seed)  # an adapter's first weights are drawn before the trainer seeds anything
    training.model_init_kwargs = loading(training, model)
    dataset = load_rows(script, mixture)
    quantization = get_quantization_config(model)
    return SFTTrainer(
        model=model.model_name_or_path,
        args=training,
        train_dataset=_split(dataset, script, "dataset_train_split"),
        eval_dataset=_split(dataset, script, "dataset_test_split") if training.eval_strategy != "no" else None,
        peft_config=get_peft_config(model),
        callbacks=list(callbacks),
        **({} if quantization is None else {"quantization_config": quantization}),
    )


def is_launched() -> bool:
    """A launcher started this process: what a YAML says about launching has been done, or overruled."""
    return any(name in os.environ for name in LAUNCHED)


def read_arguments(argv: list[str], *, launching: bool = False) -> tuple[Json, Json | None, list[str]]:
    """(TRL's settings from the YAML, the `campus:` block or None, TRL's flags); what a launcher reads is left out.

    Args:
        argv: `--config recipe.yaml` and overrides.
        launching: the processes that the YAML asks for are about to be started.

    Raises:
        RecipeError: no such file, no YAML, a flag without a value; or the YAML asks for processes, and nothing launches
            them.
    """
    settings: Json = {}
    flags: list[str] = []
    overrides: Json = {}
    words = iter([part for word in argv for part in (word.split("=", 1) if word.startswith("--") else [word])])
    for word in words:
        if word == "--config":
            settings = read_yaml(_value_of(word, words))
        elif word.startswith(f"--{BLOCK}."):
            overrides[word.removeprefix(f"--{BLOCK}.")] = yaml.safe_load(_value_of(word, words))
        elif word == "--scores":  # as `campus-tune score` takes it
            overrides["scores"] = _value_of(word, words)
        else:
            flags.append(word)
    settings = _without_launch(settings, allowed=launching or is_launched())
    settings.pop(COMPARE, None)  # what `campus-tune compare` reads
    block = settings.pop(BLOCK, None)
    if isinstance(block, dict) or (block is None and overrides):
        block = {**(block or {}), **overrides}
    return settings, block, flags


def _value_of(word: str, words: Any) -> str:
    value = next(words, None)
    if value is None:
        raise RecipeError(f"`{word}` must be followed by a value, got nothing. Write {word} VALUE.")
    return str(value)


def read_block(block: Json | None) -> tuple[CampusConfig | None, list[str]]:
    """The curriculum's settings, or what is wrong with them."""
    if block is None:
        return None, []
    try:
        return CampusConfig.from_mapping(block), []
    except RecipeError as error:
        return None, error.problems


def _without_launch(settings: Json, *, allowed: bool) -> Json:
    """The settings without the keys that a launcher reads, so that a run is the same run on any number of processes."""
    trl = _dests(trl_parser()) if settings else []
    keys = [key for key in settings if _is_launch_key(key) and key not in trl]
    asked = [key for key in keys if settings[key] not in (None, False)]
    if asked and not allowed:  # a call from Python: the command line would have acted on them
        raise RecipeError(
            f"`{asked[0]}` must be read by a launcher, got it in a process that runs alone. Start the command "
            "`campus-tune`, which launches, or take the key out."
        )
    return {key: value for key, value in settings.items() if key not in keys}


def trl_parser() -> Any:
    """The parser of `trl sft`, on TRL's own four argument classes."""
    from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments, SFTConfig, TrlParser

    return TrlParser((ScriptArguments, SFTConfig, ModelConfig, DatasetMixtureConfig), prog="campus-tune sft")


def _dests(parser: Any) -> list[str]:
    return [action.dest for action in parser._actions]


def parse_trl(settings: Json, flags: list[str]) -> tuple[tuple[Any, ...], list[str]]:
    """TRL's four argument objects, and the keys and flags that nobody knows, each with the nearest known one."""
    parser = trl_parser()
    problems = unknown_in(settings)
    for name, value in (settings.pop("env", None) or {}).items():
        os.environ[name] = str(value)
    parser.set_defaults_with_config(**settings)
    *parsed, remaining = parser.parse_args_into_dataclasses(args=flags, return_remaining_strings=True)
    known = _dests(parser)
    problems += [_unknown(word.removeprefix("--"), known) for word in remaining if word.startswith("--")]
    return tuple(parsed), problems


def unknown_in(settings: Json) -> list[str]:
    """The keys of a YAML, its block aside, that neither TRL nor accelerate's launcher knows."""
    known = _dests(trl_parser())
    return [_unknown(key, known) for key in settings if key not in known and key != "env" and not _is_launch_key(key)]


def _is_launch_key(key: str) -> bool:
    return key == CONFIG or key in launch_flags()


def _unknown(key: str, known: list[str]) -> str:
    hint = nearest(key, [*known, BLOCK, CONFIG, *launch_flags()])
    return f"`{key}` must be a field of TRL's sft YAML or `{BLOCK}`, got an unknown key.{hint}"


def load_rows(script: Any, mixture: Any) -> Any:
    """The splits that the YAML names: a local JSON-lines file, a hub id or folder, or TRL's `datasets:` mixture.

    Raises:
        DataError: a local file that cannot be read (file and line named), or nothing is named.
    """
    import datasets
    from trl import get_dataset

    if mixture.datasets:
        return get_dataset(mixture)
    name = script.dataset_name
    if not name:
        raise DataError("`dataset_name` must be a file, a folder or a hub id, got nothing. Add it to the YAML.")
    if str(name).endswith(JSON_LINES):
        return datasets.DatasetDict({TRAIN: datasets.Dataset.from_list(read_jsonl(Path(name)))})
    return datasets.load_dataset(name, name=script.dataset_config, streaming=script.dataset_streaming)


def _split(dataset: Any, script: Any, option: str) -> Any:
    """The rows of the split that an option of the YAML names."""
    name = getattr(script, option)
    if name not in dataset:
        evaluation = "" if option == "dataset_train_split" else ', or set eval_strategy: "no"'
        raise DataError(
            f"`{option}` must be one of {', '.join(dataset)}, got {name!r}. Name a split that is there{evaluation}."
        )
    return dataset[name]


def _resume(value: Any) -> str | bool | None:
    """`resume_from_checkpoint` of a YAML or a flag: a path, or true and false however they are written."""
    if isinstance(value, str) and value.lower() in ("true", "yes", "1", "false", "no", "0", ""):
        return value.lower() in ("true", "yes", "1")
    return value  # type: ignore[no-any-return]  # None, a bool or a path
