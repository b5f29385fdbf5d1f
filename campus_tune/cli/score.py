"""`campus-tune score`: all scores of a recipe ahead of training, into the score cache.

The rows are prepared as the recipe's own run prepares them, and every row is measured, whatever the budget would pay
for: the next run of this recipe, or of another one with the same rows and model, finds them. What is measured is
written as it comes, so a `score` that is killed goes on where it stopped; a changed row is scored again alone.
`accelerate launch -m campus_tune score …` shares the rows among processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from campus_tune.cli.answer import Answer, add_json
from campus_tune.cli.options import COMMANDS, Commands, add_command
from campus_tune.data.domains import Domains
from campus_tune.preview.health import health_record, health_table, score_findings
from campus_tune.recipe.config import DRAWN, STEERED, CampusConfig
from campus_tune.recipe.launched import refuse_other_launch
from campus_tune.recipe.trainer_settings import refused
from campus_tune.recipe.trl_yaml import parse_trl, read_arguments, read_block
from campus_tune.run.make_trainer import make_trainer, refuse_other_model
from campus_tune.words.errors import RecipeError
from campus_tune.words.strict_yaml import read_value
from campus_tune.words.tables import table
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from trl import SFTTrainer

    from campus_tune.scores.asking import Asking

EXAMPLE = """\
All scores of a recipe, of every row, ahead of training: into the score cache, where the next run finds them. A killed
`score` goes on where it stopped; a changed row is scored again alone. Any flag of TRL's overrides the YAML.

example:
  campus-tune score --config recipe.yaml
  campus-tune score --config recipe.yaml --metrics length "{name: loss, reduce: sum}" --scores scores
  campus-tune score --config recipe.yaml --accelerate_config recipes/accelerate/ddp.yaml --num_processes 4
"""


def add_parser(commands: Commands) -> None:
    """Add `score` to the commands of `campus-tune`; what it does not know itself is TRL's."""
    parser = add_command(
        commands,
        "score",
        COMMANDS["score"],
        EXAMPLE,
        lambda given: main(["--config", given.config, *given.rest], metrics=given.metrics, scores=given.scores),
        takes_rest=True,
        interrupted="What was measured is kept: the same command goes on.",
    )
    parser.add_argument("--config", metavar="YAML", required=True, help="the recipe whose rows are scored")
    parser.add_argument("--metrics", nargs="+", default=[], help="instead of the recipe's: names, or {name: loss, …}")
    parser.add_argument("--scores", "--out", metavar="DIR", help="the score cache (the recipe's, else your own)")
    add_json(
        parser,
        scores="folder of the cache",
        rows="that were scored",
        measured="each measurement: what, rows, found in the cache, tokens, seconds",
        health="of the scores, by metric, as in the ledger",
        findings="what to know, with severity, what and remedy",
        warnings="of measuring",
    )


def main(argv: Sequence[str], *, metrics: Sequence[str] = (), scores: str | None = None) -> Answer:
    """Score the rows of a recipe.

    Args:
        argv: `--config recipe.yaml` and TRL's flags.
        metrics: instead of the recipe's: names, or mappings written as YAML.
        scores: folder of the cache, instead of the recipe's.

    Raises:
        RecipeError: problems in the YAML or the flags, all at once.
    """
    settings, block, flags = read_arguments(list(argv))
    return report(*open_recipe(settings, block, flags, metrics=metrics, scores=scores))


def open_recipe(
    settings: Json,
    block: Json | None,
    flags: Sequence[str],
    *,
    metrics: Sequence[str] = (),
    scores: str | None = None,
) -> tuple[SFTTrainer, CampusConfig]:
    """The trainer of a recipe, which is not going to train, and the settings that its rows are scored by.

    Args:
        settings: of the YAML, without its campus block.
        block: that block.
        flags: TRL's.
        metrics: instead of the recipe's: names, or mappings written as YAML.
        scores: folder of the cache, instead of the recipe's.

    Raises:
        RecipeError: problems in the YAML or the flags, all at once.
    """
    block = dict(block or {})
    if metrics:  # written as a recipe would have them
        entries = [read_value(text, "--metrics") if text.lstrip().startswith("{") else text for text in metrics]
        gone = (*DRAWN, *STEERED)  # these go by the recipe's metrics, or by one another
        block = {name: value for name, value in block.items() if name not in gone}
        block |= {"metrics": entries, "selector": "round_robin"}
    if scores is not None:
        block["scores"] = scores
    config, problems = read_block(block)
    parsed, more = parse_trl(settings, [*flags, "--report_to", "none"], problems)
    refuse_other_launch()
    if not parsed[2].model_name_or_path:
        more.append("`model_name_or_path` must be a model folder or a hub id, got nothing. Add it to the YAML.")
    more += refused({**vars(parsed[3]), **vars(parsed[0])})
    if problems + more or config is None:
        raise RecipeError(problems + more)
    refuse_other_model(*parsed[1:3])
    return make_trainer(*parsed, callbacks=[]), config


def report(trainer: SFTTrainer, config: CampusConfig) -> Answer:
    """Score all rows of a trainer, and say how long it took and what came out.

    Args:
        trainer: made, not trained.
        config: settings; nulls are filled in from the trainer.

    Raises:
        RecipeError: `scores: none`, or no metric.
    """
    from campus_tune.preview.setup import scores_health

    scoring, domains = prepare(trainer, config)
    scores = scoring.start()
    scoring.mark_ahead()
    say = trainer.accelerator.print
    cache = scoring.passages.cache
    lines = []
    for one in scoring.passages.timings:
        measured = one.rows - one.found
        rate = [f"{measured / one.seconds:.1f}", f"{one.tokens / one.seconds:.0f}"] if measured else ["-", "-"]
        seconds = f"{one.seconds:.1f}" if one.seconds < 100 else f"{math.ceil(one.seconds)}"
        lines.append([one.what, str(one.rows), str(one.found), seconds, *rate])
    if lines:
        say(table(["measured", "rows", "in cache", "seconds", "rows/s", "tokens/s"], lines))
    health = scores_health(scoring.config, scores, scoring.texts, domains, chosen=config.within is not None)
    say(health_table(health))
    findings = [f"warning: {f.what} {f.remedy}".rstrip() for f in score_findings(health) if f.severity != "info"]
    warnings = [*scores.warnings, *scoring.passages.warnings, *cache.warnings]
    for line in [*findings, *(f"warning: {warning}" for warning in warnings)]:
        say(line)
    say(f"scores of {len(scoring.texts)} rows are in {cache.folder}")
    return Answer(
        {
            "scores": cache.folder,
            "rows": len(scoring.texts),
            "measured": [vars(one) for one in scoring.passages.timings],
            "health": health_record(health),
            "findings": score_findings(health),
            "warnings": warnings,
        }
    )


def prepare(trainer: SFTTrainer, config: CampusConfig) -> tuple[Asking, Domains]:
    """What scores the rows of a trainer that is not trained, and their domains.

    Args:
        trainer: made, not trained.
        config: settings as the user gave them.

    Raises:
        RecipeError: there is nowhere to keep the scores, or nothing to score.
    """
    from campus_tune.data.prepared import refuse_untokenised
    from campus_tune.model import compat
    from campus_tune.model.measure import LossMeter
    from campus_tune.model.peers import Peers
    from campus_tune.model.probes import named_probes
    from campus_tune.model.trained import as_trained
    from campus_tune.preview.cost_plan import facts_of, needs, rests_on
    from campus_tune.preview.setup import make_budget, resolve
    from campus_tune.scores.directions import direction_problems, launch_problems
    from campus_tune.scores.planning import NO_CACHE, make_scoring, open_readings, planned_steps, refreshes_to_come
    from campus_tune.scores.questions import Questions

    if config.scores == NO_CACHE:
        raise RecipeError("`scores` must name a folder to keep scores in, got none. Write --scores DIR, or remove it.")
    if not config.scored:
        raise RecipeError("`metrics` must name what to score, got nothing. Write --metrics length loss, for example.")
    resolved = resolve(trainer, config, has_probes=config.probes is not None)
    refuse_untokenised(trainer.train_dataset)
    view, collator = compat.loader_view(trainer, trainer.train_dataset)
    peers = Peers.of(trainer)
    trained = as_trained(view, collator, speaks=peers.leads)
    rows = trained.rows(readings=open_readings(config, peers))
    meter = LossMeter(partial(compat.subject, trainer), view, collator, rows.tokens, peers=peers, what="scoring")
    domains = Domains.read(trainer.train_dataset, resolved.within)
    per_epoch, total = planned_steps(trainer, len(rows), peers)
    refreshes = refreshes_to_come(resolved, total, per_epoch, step=0)
    asked = Questions(resolved)
    probes = named_probes(config, trainer) if asked.scorer is not None or asked.directions else None
    if probes is not None:
        probed = {name: len(places) for name, places in probes.domains.items()}
        if problems := [*direction_problems(resolved, probed), *launch_problems(resolved, trainer)]:
            raise RecipeError(problems)
    budget = make_budget(trainer, resolved, total / per_epoch * float(rows.tokens.sum()), refreshes)
    scoring = make_scoring(
        trainer,
        resolved,
        rows,
        meter,
        budget,
        peers,
        groups=domains.codes,
        n_refreshes=refreshes,
        whole=True,
        trained=trained,
        probes=probes,
    )
    if asked.scorer is not None or asked.directions:
        # a run asks for the heads of as many pairs, and slopes along as many probes, as all that it pays for leaves
        budget.fit(needs(resolved, budget, facts_of(scoring, probes, total, per_epoch)), rests_on(resolved))
    return scoring, domains
