"""What scores a run's rows: the cache, what can be measured, the scorer, and their part of the bill."""

from __future__ import annotations

import math
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from campus_tune.data.prepared import TokenRows, read_texts
from campus_tune.data.readings import Readings
from campus_tune.method.budget import ALWAYS, THINNING, VALUE, Budget, Purpose
from campus_tune.method.phases import offers_until, phases_of
from campus_tune.method.stages import steps_of_epoch
from campus_tune.model import compat
from campus_tune.model.measure import LossMeter
from campus_tune.model.peers import Peers
from campus_tune.model.probes import Probes
from campus_tune.model.scorer_training import ScorerTrainer
from campus_tune.model.trained import Trained
from campus_tune.recipe.config import CampusConfig
from campus_tune.scores.asking import Asking
from campus_tune.scores.cache import ScoreCache, default_folder
from campus_tune.scores.directions import Directions
from campus_tune.scores.passages import Passages
from campus_tune.scores.questions import Questions
from campus_tune.words.types import IntArray

if TYPE_CHECKING:
    from transformers import Trainer

NO_CACHE = "none"  # `scores: none`
MOST_PROCESSES = 8  # for CPU metrics, unless the trainer's arguments say how many


def purposes(config: CampusConfig, refreshes: int) -> tuple[Purpose, ...]:
    """What a run of this recipe measures.

    Args:
        config: resolved settings.
        refreshes: re-scorings that the whole run will make.
    """
    found: list[Purpose] = list(ALWAYS)
    if refreshes:
        found.append("rescoring")
    if Questions(config).scorers:
        found.append("scorer")
    if config.thin is not None and config.thin.fresh:
        found.append(THINNING)
    if config.value is not None:
        found.append(VALUE)
    return tuple(found)


def open_cache(config: CampusConfig, peers: Peers) -> ScoreCache:
    """The score cache that the recipe names, the user's own, or none."""
    if config.scores == NO_CACHE:
        return ScoreCache(None)
    return ScoreCache(default_folder() if config.scores is None else Path(config.scores), writes=peers.leads)


def open_readings(config: CampusConfig, peers: Peers) -> Readings:
    """What was read of data sets before: it lies in the same folder, and without a cache there is none."""
    return Readings(open_cache(config, peers).folder, writes=peers.leads)


def planned_steps(trainer: Trainer, n_rows: int, peers: Peers) -> tuple[int, int]:
    """(Optimizer steps of an epoch, of the whole run), as the trainer will count them.

    Args:
        trainer: made, not trained.
        n_rows: of its prepared training set.
        peers: ranks.
    """
    args = trainer.args
    batch = compat.micro_batch_size(trainer) * args.gradient_accumulation_steps * peers.world
    per_epoch = max(1, steps_of_epoch(n_rows, batch, drop_last=args.dataloader_drop_last))
    return per_epoch, args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * per_epoch)


def stages_between(config: CampusConfig, steps_per_epoch: int, step: int, end: int) -> int:
    """About how many stages there are from `step` to `end`, at least one."""
    return max(1, math.ceil((end - step) * config.stages / steps_per_epoch))


def refreshes_to_come(config: CampusConfig, total_steps: int, steps_per_epoch: int, *, step: int) -> int:
    """About how many re-scorings there are between `step` and the handover, one that is due at `step` left out."""
    handover = offers_until(phases_of(config.handover, total_steps))
    if not config.rescore or config.is_shuffle or step >= handover or not Questions(config).aware:
        return 0
    return (stages_between(config, steps_per_epoch, step, handover) - 1) // config.rescore


def make_scoring(
    trainer: Trainer,
    config: CampusConfig,
    rows: TokenRows,
    meter: LossMeter,
    budget: Budget,
    peers: Peers,
    *,
    groups: IntArray | None,
    n_refreshes: int = 0,
    whole: bool = False,
    trained: Trained,
    probes: Probes | None = None,
) -> Asking:
    """Everything that scores the training rows of a trainer.

    Args:
        trainer: with its prepared training set.
        config: resolved settings.
        rows: token counts and keys of the training set.
        meter: of its rows.
        budget: charged for what is measured.
        peers: ranks.
        groups: domain number of every row, shape (N,), or None.
        n_refreshes: re-scorings to come.
        whole: measure all rows, whatever they cost.
        trained: the training set as the collator makes it.
        probes: that some metrics are about; None without any.
    """
    dataset, questions = trainer.train_dataset, Questions(config)
    directions = None
    if questions.directions and probes is not None:
        directions = Directions(trainer, probes, peers, seed=config.seed or 0, ratio=budget.ratio)
    cache = open_cache(config, peers)
    passages = Passages(trainer, dataset, rows, meter, cache, peers, trained=trained, directions=directions)
    settings = questions.scorer
    scorer = None
    if settings is not None:
        scorer = ScorerTrainer(
            settings,
            subject=partial(compat.subject, trainer),
            features=passages.features(settings.model),
            dataset=dataset,
            view=trained.dataset,
            rows=rows,
            tokenizer=compat.tokenizer_of(trainer),
            peers=peers,
            seed=config.seed or 0,
        )
    num_proc = getattr(trainer.args, "dataset_num_proc", None) or min(os.cpu_count() or 1, MOST_PROCESSES)
    return Asking(
        config=config,
        texts=read_texts(compat.training_rows(trainer), rows, compat.tokenizer_of(trainer), trained=trained.dataset),
        passages=passages,
        budget=budget,
        scorer=scorer,
        groups=groups,
        num_proc=num_proc,
        n_refreshes=n_refreshes,
        whole=whole,
    )
