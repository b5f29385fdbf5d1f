"""The callback: one line in a user's own script."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from campus_tune.model import compat
from campus_tune.model.probes import Source
from campus_tune.recipe.config import CampusConfig, load_recipe
from campus_tune.run.attach import equip
from campus_tune.run.checkpoints import CALLBACK
from campus_tune.run.one_trainer import refuse_shared
from campus_tune.run.run import CampusRun, Report
from campus_tune.run.stream.loader import CurriculumLoader
from campus_tune.words.errors import AuditError


class CampusCallback(TrainerCallback, ExportableState):
    """Trains a curriculum: `SFTTrainer(…, callbacks=[CampusCallback("recipes/campus.yaml", probes="probes.jsonl")])`.

    Everything else of the script stays as it is, `trainer.train(resume_from_checkpoint=True)` included. What the run
    decided, measured and cost is in `output_dir/curriculum/`.

    Args:
        config: a recipe file (its `campus:` block counts), that block as a mapping, or `CampusConfig(…)`.
        probes: held-out rows that the curriculum is steered by: a path or paths to JSON lines, a Dataset with a
            domain column, or a mapping domain → Dataset. None takes the recipe's.

    Raises:
        RecipeError: problems in the settings, all at once.

    Reference:
        CAMPUS, arXiv 2509.13790.
    """

    _run: Callable[[], CampusRun | None] = staticmethod(lambda: None)

    def __init__(self, config: str | Path | Mapping[str, Any] | CampusConfig, *, probes: Source = None) -> None:
        self.config = load_recipe(config)
        self.probes = probes
        self.reports: list[Report] = []  # each is handed the trainer of the finished run

    @property
    def run(self) -> CampusRun | None:
        """What the callback drives, as long as somebody has its trainer: it is the trainer's, not the callback's."""
        return self._run()

    @run.setter
    def run(self, run: CampusRun) -> None:
        self._run = weakref.ref(run)

    def __getstate__(self) -> dict[str, Any]:
        """A copy has the same settings and no trainer yet."""
        return {name: value for name, value in vars(self).items() if name != "_run"}

    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The trainer is made: take over its data path."""
        del args, state, control, kwargs
        trainer = compat.trainer_of_this_callback(self)
        refuse_shared(self, trainer)
        self.run = equip(trainer, self.config, self.probes, self.reports)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Plan the run, or restore it from the checkpoint that the trainer has just loaded."""
        del args, control
        loader = kwargs.get("train_dataloader")
        if self.run is None and isinstance(loader, CurriculumLoader):
            self.run = loader.run  # transformers made this object anew from the checkpoint: it adopts the run
        if self.run is None or compat.trainer_of_this_callback(self) is not self.run.trainer:
            raise compat.no_trainer()
        if not self.run.made_loader:
            raise AuditError(
                "order audit: no planned rows would reach the model: something replaced the data loader. Remove "
                "whatever sets trainer.get_train_dataloader after the CampusCallback was attached."
            )
        saved = state.stateful_callbacks.get(CALLBACK) or {}
        state.stateful_callbacks[CALLBACK] = (
            saved  # a checkpoint written without us has no such key, and saving asks for it
        )
        self.run.begin(state, saved.get("attributes", {}).get("curriculum"))

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The trainer's loop begins an epoch."""
        del args, state, control, kwargs
        assert self.run is not None
        self.run.begin_epoch()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The trainer's loop ends an epoch, maybe before its rows are trained."""
        del args, state, kwargs
        assert self.run is not None
        self.run.end_epoch(control)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """An optimizer step begins."""
        del args, state, control, kwargs
        assert self.run is not None
        self.run.begin_step()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The gradients of an optimizer step are there."""
        del args, state, control, kwargs
        assert self.run is not None
        self.run.before_update()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The optimizer has used them."""
        del args, state, control, kwargs
        assert self.run is not None
        self.run.after_update()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """An optimizer step is finished; the next stage is decided here, before the checkpoint is written."""
        del args, control, kwargs
        assert self.run is not None
        self.run.end_step(state)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The last lines."""
        del args, state, control, kwargs
        assert self.run is not None
        self.run.finish()

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of the curriculum: JSON."""
        curriculum = self.run.state() if self.run is not None else {}
        if self.run is not None:
            self.run.saver.hold_rotation()
        return {
            "args": {"config": self.config.to_mapping()},
            "attributes": {"curriculum": curriculum},
        }
