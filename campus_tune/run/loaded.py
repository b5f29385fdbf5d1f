"""The rows of one run and the loader that hands them over: made when the trainer asks for its loader.

That is before the first step is planned, because the trainer must know the loader's length. Somebody who asks at
another time gets a `SampleBatches`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from campus_tune.data.prepared import NO_ROWS, TokenRows, refuse_untokenised
from campus_tune.method.stages import steps_of_epoch
from campus_tune.model import compat
from campus_tune.model.flat_rows import Layout, layout_of
from campus_tune.model.measure import LossMeter
from campus_tune.model.peers import Peers
from campus_tune.model.trained import Trained, as_trained
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.draw_rules import SHUFFLED_WEIGHTS
from campus_tune.run.look import SampleBatches
from campus_tune.run.stream.loader import CurriculumLoader, batches_of_epoch
from campus_tune.run.stream.micro_batches import fewest_rows, n_micro_batches
from campus_tune.scores.planning import open_readings
from campus_tune.words.errors import DataError
from campus_tune.words.types import Json

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
        layout: how the rows of a micro batch lie.
        steps_per_epoch: optimizer steps of one pass over it.
        global_batch: rows of an optimizer step.
    """

    trained: Trained
    rows: TokenRows
    meter: LossMeter
    loader: CurriculumLoader
    layout: Layout
    steps_per_epoch: int
    global_batch: int

    def batching(self) -> Json:
        """What `batching` means here, how a step is cut, and why where the recipe left that open."""
        why = {"why": self.layout.why} if self.layout.why else {}
        return {"is": self.layout.batching, "cut": self.loader.cut, **why}


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
        raise DataError(f"`train_dataset` must have at least one row, got none. {NO_ROWS}")
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
    layout = layout_of(trainer, collator, given.batching)
    training_collator = compat.training_collator(collator, flat=layout.batching == "flat")
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
    flat = layout.batching == "flat" or bool(getattr(collator, "padding_free", False))
    drawn = layout.batching == "plain" or compat.why_rows_stay_as_drawn(trainer) is not None
    drawn = drawn or given.control == SHUFFLED_WEIGHTS  # which are dealt among the rows of a micro batch
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
        cut="drawn" if drawn else "packed" if flat else "even",
        flat=flat,
        multiple=compat.pads_to_multiple_of(collator),
        workers=compat.worker_settings(args),
    )
    loader.counts_down = compat.asks_the_loader_in_each_epoch(trainer)
    return Loaded(trained, rows, meter, loader, layout, steps_per_epoch, global_batch)
