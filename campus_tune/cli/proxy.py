"""`campus-tune proxy`: train a small model once, and keep it early and late, for `learnability`.

The recipe's training set, prepared as the recipe prepares it, is trained once with plain shuffling; its `campus:`
block is left aside. What is kept:

    proxy/early, proxy/late   model folders with tokenizers; adapter folders where the recipe trains a LoRA
    proxy/losses.parquet      loss of every row under both, and before the first step
    proxy/proxy.json          steps, mean losses, seconds, the command
    proxy/training            the trainer's own: checkpoints, logs

A proxy that was killed goes on from its last checkpoint; a finished one says so and does nothing. One that is worse
at its end than at its beginning is an error, and everything is kept.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from campus_tune.cli.answer import Answer, add_json
from campus_tune.cli.options import COMMANDS, Commands, add_command
from campus_tune.metrics.learnability import EARLY, LATE
from campus_tune.recipe.launched import refuse_other_launch
from campus_tune.recipe.trl_yaml import parse_trl, read_arguments
from campus_tune.run.make_trainer import make_trainer, refuse_other_model
from campus_tune.scores.proxy_losses import ABOUT
from campus_tune.words.errors import MetricError, RecipeError
from campus_tune.words.files import atomic_write
from campus_tune.words.json_shapes import read_json
from campus_tune.words.types import Json
from campus_tune.words.wording import differences

TRAINING = "training"

EXAMPLE = """\
Train a small model once on the recipe's rows, shuffled, and keep it early and late with its losses: what the metric
`learnability` asks. Takes TRL's own flags too. A killed one goes on where it was; a finished one does nothing.

example:
  campus-tune proxy --config recipe.yaml --out proxy --model HuggingFaceTB/SmolLM2-135M --early 0.1
  campus-tune proxy --config recipe.yaml --out proxy --accelerate_config recipes/accelerate/ddp.yaml
"""


def add_parser(commands: Commands) -> None:
    """Add `proxy` to the commands of `campus-tune`; what it does not know itself is TRL's."""
    parser = add_command(
        commands,
        "proxy",
        COMMANDS["proxy"],
        EXAMPLE,
        lambda given: main(
            ["--config", given.config, *given.rest], out=given.out, early=given.early, model=given.model
        ),
        takes_rest=True,
        interrupted="The same command goes on from the last checkpoint.",
    )
    parser.add_argument("--config", metavar="YAML", required=True, help="the recipe whose rows are trained")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder of the proxy")
    parser.add_argument("--model", help="folder or hub id of a small model (the recipe's)")
    parser.add_argument("--early", type=float, default=0.1, help="share of the steps, kept as early (%(default)s)")
    add_json(parser, out="its folder", more="all that proxy.json says: steps, loss, seconds, …")


def main(argv: Sequence[str], *, out: Path, early: float = 0.1, model: str | None = None) -> Answer:
    """Train, keep and measure a proxy.

    Args:
        argv: `--config recipe.yaml` and TRL's flags.
        out: folder of the proxy.
        early: share of the steps after which the early model is kept, in (0, 1).
        model: another one than the recipe's.

    Raises:
        RecipeError: problems in the YAML or the flags, all at once; or `out` holds a proxy of other settings.
        MetricError: the proxy is worse at its end than at its beginning.
    """
    settings, _, flags = read_arguments(list(argv))
    flags += ["--model_name_or_path", model] if model else []
    asked: Json = json.loads(json.dumps({"early": early, **settings, "flags": flags}, default=str))
    parsed, problems = parse_trl(settings, [*flags, "--output_dir", str(out / TRAINING)])
    refuse_other_launch()
    if not 0 < early < 1:
        problems.append(f"`--early` must be between 0 and 1, got {early}. It is a share of the steps: try 0.1.")
    if not parsed[2].model_name_or_path:
        problems.append("`--model` must be a model folder or a hub id, got nothing. Add it, or put one in the YAML.")
    if problems:
        raise RecipeError(problems)
    about = _read(out / ABOUT)
    # What is there under a proxy's names must be a proxy's, and this one's: its models are replaced.
    strange = [name for name in (EARLY, LATE, TRAINING, ABOUT) if (out / name).exists()]
    if strange and "settings" not in about:
        raise RecipeError(
            f"`--out` must be a new folder or that of a proxy, got {', '.join(strange)} in {str(out)!r} and no "
            f"{ABOUT} that says what they are: they would be replaced. Name another folder, or delete them."
        )
    there = about.get("settings", asked)
    changed = [
        f"{name} {there.get(name, 'nothing')} there and {asked.get(name, 'nothing')} now"
        for name, *_ in sorted(differences(there, asked))
    ]
    if changed:
        raise RecipeError(
            f"`--out` must be a new folder or that of the same proxy, got {str(out)!r}, which was begun with other "
            f"settings: {'; '.join(changed)}. Name another folder, or delete this one."
        )
    if about.get("finished") and _kept(out):
        _say(f"the proxy in {out} is finished: nothing to do")
    else:
        command = ["campus-tune", "proxy", *argv, "--out", str(out), "--early", str(early)]
        command += ["--model", model] if model else []
        about = {**about, "finished": False, "settings": asked, "command": shlex.join(command)}
        about = _make(parsed, out, early, about)
    _sum_up(out, about)
    return Answer({"out": out, **about})


def _make(parsed: tuple[Any, ...], out: Path, early: float, about: Json) -> Json:
    """Train unless that is done, measure, and write down what came of it."""
    from campus_tune.run import proxy as proxy_run
    from campus_tune.run.attach import refuse
    from campus_tune.run.training_bar import take_over_bar

    training, keep_early = parsed[1], proxy_run.KeepEarly(early, out / EARLY)
    # A trainer as `campus-tune sft` makes it, which shuffles, does not evaluate and keeps one checkpoint.
    training.eval_strategy, training.load_best_model_at_end, training.push_to_hub = "no", False, False
    training.save_strategy = "no" if training.save_strategy == "best" else training.save_strategy
    training.save_total_limit, training.save_only_model = 1, False
    refuse_other_model(training, parsed[2])
    trainer = make_trainer(*parsed, callbacks=[keep_early])
    keep_early.trainer = trainer
    refuse(trainer)
    take_over_bar(trainer)

    def write(**more: object) -> None:
        about.update(more)
        if trainer.is_world_process_zero():
            atomic_write(out / ABOUT, json.dumps(about, indent=2) + "\n")

    if "steps" not in about or not _kept(out):
        about.pop("steps", None)
        write()
        began = time.perf_counter()
        steps = proxy_run.train(trainer, out, early)
        spent = {"training": round(time.perf_counter() - began - keep_early.seconds, 1)}
        write(steps={EARLY: proxy_run.early_step(early, steps), LATE: steps}, seconds=spent)
    began = time.perf_counter()
    trusts = bool(getattr(parsed[1], "trust_remote_code", getattr(parsed[2], "trust_remote_code", False)))
    rows, losses = proxy_run.measure(trainer, out, trust_remote_code=trusts)
    about["seconds"]["measuring"] = round(time.perf_counter() - began + keep_early.seconds, 1)
    write(rows=len(rows), loss=proxy_run.mean_losses(losses), finished=True)
    return about


def _kept(out: Path) -> bool:
    """Both models are there."""
    return all((out / name).is_dir() for name in (EARLY, LATE))


def _say(text: str) -> None:
    """Once, however many processes there are."""
    if os.environ.get("RANK", "0") == "0":
        print(text)


def _read(path: Path) -> Json:
    """What an earlier run wrote; nothing where it wrote nothing that can be read."""
    try:
        about = read_json(path)
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _sum_up(out: Path, about: Json) -> None:
    """The last lines.

    Raises:
        MetricError: the late model is worse than the early one.
    """
    loss, steps = about["loss"], about["steps"]
    means = f"{loss[EARLY]:.4f} early (step {steps[EARLY]}), {loss[LATE]:.4f} late (step {steps[LATE]})"
    if loss[LATE] > loss[EARLY]:
        raise MetricError(
            f"a proxy must learn, got a mean loss of {means} over {about['rows']} rows. Everything is kept in {out}. "
            "Train another one with a lower --learning_rate or more steps, into another --out."
        )
    _say(
        f"proxy: mean loss of {about['rows']} rows {means}\n"
        f"to train the most learnable rows first, write in the recipe:\n"
        f"  campus:\n    metrics:\n      - {{name: -learnability, proxy: {out}}}"
    )
