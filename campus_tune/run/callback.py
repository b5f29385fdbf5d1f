"""The callback: one line in a user's own script."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from campus_tune.model import compat
from campus_tune.model.probes import Source
from campus_tune.recipe.config import CampusConfig, load_recipe
from campus_tune.run.attach import equip, put_on
from campus_tune.run.checkpoints import CALLBACK
from campus_tune.run.driven import DrivenRun, Report
from campus_tune.run.one_trainer import refuse_shared

if TYPE_CHECKING:
    from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments


class CampusCallback(TrainerCallback, ExportableState):
    """Trains a curriculum: `SFTTrainer(…, callbacks=[CampusCallback("recipes/campus.yaml", probes="probes.jsonl")])`.

    In TRL's `GRPOTrainer` and `RLOOTrainer` it is a curriculum of prompts, drawn by what their rewards show.

    Everything else of the script stays as it is, `trainer.train(resume_from_checkpoint=True)` included. What the run
    decided, measured and cost is in `output_dir/curriculum/`.

    Args:
        config: a recipe file (its `campus:` block counts), that block as a mapping, or `CampusConfig(…)`. None is an
            empty block: rows are shuffled, and those that look wrong count less, and are left out from half of the run
            on, once the run shows that some are; prompts of a trainer that is driven by reward are shuffled.
        probes: held-out rows that the curriculum is steered by: a path or paths to JSON lines, a Dataset with a
            domain column, or a mapping domain → Dataset. None takes the recipe's.
        quiet: tell nothing but warnings while the trainer trains; the ledger is the same.

    Raises:
        RecipeError: problems in the settings, all at once.

    Reference:
        CAMPUS, arXiv 2509.13790.
    """

    _run: Callable[[], DrivenRun | None] = staticmethod(lambda: None)

    def __init__(
        self,
        config: str | Path | Mapping[str, Any] | CampusConfig | None = None,
        *,
        probes: Source = None,
        quiet: bool = False,
    ) -> None:
        self.config = load_recipe({} if config is None else config)
        self.probes, self.quiet = probes, quiet
        self.reports: list[Report] = []  # each is handed the trainer of the finished run

    @property
    def run(self) -> DrivenRun | None:
        """What the callback drives, as long as somebody has its trainer: it is the trainer's, not the callback's."""
        return self._run()

    @run.setter
    def run(self, run: DrivenRun) -> None:
        self._run = weakref.ref(run)

    @property
    def begun(self) -> DrivenRun:
        """The same, for events that come once a trainer trains.

        Raises:
            TrainerError: there is none.
        """
        run = self._run()
        if run is None:
            raise compat.no_trainer()
        return run

    def take_over(self, trainer: Trainer) -> None:
        """Drive this trainer, which has the callback.

        Raises:
            TrainerError: a trainer under which a planned order would not be trained.
        """
        self.run = equip(trainer, self, CampusCallback)

    def __getstate__(self) -> dict[str, Any]:
        """A copy has the same settings and no trainer yet."""
        return {name: value for name, value in vars(self).items() if name != "_run"}

    def on_init_end(self, *_: object, **__: object) -> None:
        """The trainer is made: take over its data path."""
        trainer = compat.trainer_of_this_callback(self)
        refuse_shared(self, trainer)
        self.take_over(trainer)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Plan the run, or restore it from the checkpoint that the trainer has just loaded."""
        del args, control
        loader = kwargs.get("train_dataloader")
        if self.run is None and isinstance(run := getattr(loader, "run", None), DrivenRun):
            self.run = run  # transformers made this object anew from the checkpoint: it adopts the run
        if compat.trainer_of_this_callback(self) is not self.begun.trainer:
            raise compat.no_trainer()
        by_name: Any = state.stateful_callbacks  # a list where the state is made, and a mapping from there on
        saved = by_name.get(CALLBACK) or {}
        by_name[CALLBACK] = saved  # a checkpoint written without us has no such key, and saving asks for it
        self.begun.begin(state, saved.get("attributes", {}).get("curriculum"))

    def on_epoch_begin(self, *_: object, **__: object) -> None:
        """The trainer's loop begins an epoch."""
        self.begun.begin_epoch()

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """The trainer's loop ends an epoch, maybe before its rows are trained."""
        del args, state, kwargs
        self.begun.end_epoch(control)

    def on_step_begin(self, *_: object, **__: object) -> None:
        """An optimizer step begins."""
        self.begun.begin_step()

    def on_pre_optimizer_step(self, *_: object, **__: object) -> None:
        """The gradients of an optimizer step are there."""
        self.begun.before_update()

    def on_optimizer_step(self, *_: object, **__: object) -> None:
        """The optimizer has used them."""
        self.begun.after_update()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """An optimizer step is finished; the next stage is decided here, before the checkpoint is written."""
        del args, control, kwargs
        self.begun.end_step(state)

    def on_train_end(self, *_: object, **__: object) -> None:
        """The last lines."""
        self.begun.finish()

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of the curriculum: JSON."""
        curriculum = self.run.state() if self.run is not None else {}
        if self.run is not None:
            self.run.saver.hold_rotation()
        return {
            "args": {"config": self.config.to_mapping()},
            "attributes": {"curriculum": curriculum},
        }


def attach(
    trainer: Trainer,
    config: str | Path | Mapping[str, Any] | CampusConfig | None = None,
    *,
    probes: Source = None,
    quiet: bool = False,
) -> CampusCallback:
    """Put a curriculum on a trainer that is already made: `campus_tune.attach(trainer, "recipes/campus.yaml")`.

    Args:
        trainer: a `transformers.Trainer`, or trl's `SFTTrainer`, `GRPOTrainer` or `RLOOTrainer`, whose `train()` was
            not called yet.
        config: a recipe file, its `campus:` block as a mapping, or settings; None is an empty block.
        probes: held-out rows: a path, a Dataset with a domain column, or a mapping domain → Dataset.
        quiet: tell nothing but warnings while the trainer trains; the ledger is the same.

    Returns:
        The `CampusCallback` that was added to the trainer.

    Raises:
        RecipeError: problems in the settings, all at once.
        TrainerError: a trainer under which a planned order would not be trained.
    """
    callback = CampusCallback(config, probes=probes, quiet=quiet)
    put_on(trainer, callback)
    return callback
