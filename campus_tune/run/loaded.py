"""The rows of one run and the loader that hands them over: made when the trainer asks for its loader.

That is before the first step is planned, because the trainer must know the loader's length. Somebody who asks at
another time gets a `SampleBatches`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from campus_tune.data.prepared import TokenRows, refuse_untokenised
from campus_tune.method.stages import steps_of_epoch
from campus_tune.model import compat
from campus_tune.model.measure import LossMeter
from campus_tune.model.peers import Peers
from campus_tune.model.trained import Trained, as_trained
from campus_tune.recipe.config import CampusConfig
from campus_tune.run.look import SampleBatches
from campus_tune.run.stream.loader import CurriculumLoader, batches_of_epoch
from campus_tune.run.stream.micro_batches import fewest_rows, n_micro_batches
from campus_tune.scores.planning import open_readings
from campus_tune.words.errors import DataError

if TYPE_CHECKING:
    from transformers import Trainer


@dataclass(frozen=True)
class Loaded:
    """What is known of a trainer's rows once they are read.

    Args:
        trained: the training set as the collator makes it.
        rows: its token counts and keys.
        meter: measures its losses.
        loader: hands it over.
        steps_per_epoch: optimizer steps of one pass over it.
        global_batch: rows of an optimizer step.
    """

    trained: Trained
    rows: TokenRows
    meter: LossMeter
    loader: CurriculumLoader
    steps_per_epoch: int
    global_batch: int


def load(trainer: Trainer, given: CampusConfig, peers: Peers, *, to_train: bool) -> Loaded | SampleBatches:
    """Read the rows and make their loader, or only look at them.

    Args:
        trainer: whose arguments say how rows are batched.
        given: settings as the user gave them.
        peers: ranks.
        to_train: it is the trainer's own loop that asks.

    Raises:
        DataError: no rows, fewer than one optimizer step takes, or rows that are no tokens yet.
        TrainerError: an epoch's last step that this trainer cannot share among its ranks.
    """
    args = trainer.args
    dataset: Any = trainer.train_dataset  # its type promises no length
    if dataset is None or len(dataset) == 0:
        raise DataError("`train_dataset` must have at least one row, got none. Check the path, split and filters.")
    refuse_untokenised(dataset)
    view, collator = compat.loader_view(trainer, dataset)
    micro, world, accumulation = compat.micro_batch_size(trainer), peers.world, args.gradient_accumulation_steps
    global_batch = micro * world * accumulation
    if len(view) < global_batch:
        raise DataError(
            f"`train_dataset` must fill at least one optimizer step of {global_batch} rows, got "
            f"{len(view)}. Lower per_device_train_batch_size or gradient_accumulation_steps."
        )
    drop_last = args.dataloader_drop_last
    steps_per_epoch = steps_of_epoch(len(view), global_batch, drop_last=drop_last)
    always_full = drop_last or given.coverage == "revisit" or given.draws_apart
    short = 0 if always_full else len(view) % global_batch
    training_collator = compat.training_collator(collator, flat=given.batching == "flat")
    if not to_train:
        of_short = n_micro_batches(short, micro=micro, world=world)
        n_batches = batches_of_epoch(steps_per_epoch, accumulation, of_short)
        place = compat.subject(trainer).place
        return SampleBatches(view, training_collator, n_batches=n_batches, batch_size=micro, place=place, peers=peers)

    trained = as_trained(view, collator, speaks=peers.leads)
    rows = trained.rows(readings=open_readings(given, peers))
    if short:
        compat.refuse_masked_batches(trainer, last_rows=fewest_rows(short, micro=micro, world=world), world=world)
    subject = partial(compat.subject, trainer)
    meter = LossMeter(subject, view, collator, rows.tokens, peers=peers, what="scoring")
    loader = CurriculumLoader(
        view,
        training_collator,
        lengths=rows.tokens,
        steps_per_epoch=steps_per_epoch,
        accumulation=accumulation,
        micro=micro,
        short_rows=short,
        peers=peers,
        by_length=given.batching != "plain" and compat.why_rows_stay_as_drawn(trainer) is None,
        flat=given.batching == "flat" or bool(getattr(collator, "padding_free", False)),
        workers=compat.worker_settings(args),
    )
    loader.counts_down = compat.asks_the_loader_in_each_epoch(trainer)
    return Loaded(trained, rows, meter, loader, steps_per_epoch, global_batch)
