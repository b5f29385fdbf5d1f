"""Methods of a trainer that are the user's own: those that we would bypass are refused, the others are called through.

A trainer's rows are chosen by the methods of `DATA_PATH`. With a curriculum none of them is called, so one that a user
has written, in a class of theirs, on the instance or over the library's, would be left out without a word.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from campus_tune.model import compat, reward_trainers
from campus_tune.words.errors import TrainerError

if TYPE_CHECKING:
    from transformers import Trainer

DATA_PATH = ("get_train_dataloader", "_get_train_sampler", "_get_dataloader")
LIBRARIES = ("transformers",)  # trl's own trainers of other tasks choose rows in ways of theirs
RESUME = "resume_from_checkpoint"


def refuse_own_data_path(trainer: Trainer, *, ours: Collection[str] = ()) -> None:
    """The user's own way to choose what is trained would never be called.

    Args:
        trainer: a `transformers.Trainer` of any class.
        ours: methods that are set on the instance by us.

    Raises:
        TrainerError: one of them is not the library's.
    """
    path: tuple[str, ...] = DATA_PATH
    libraries: tuple[str, ...] = LIBRARIES
    if reward_trainers.is_driven_by_reward(trainer):
        path, libraries = reward_trainers.PATH_OF_PROMPTS, reward_trainers.LIBRARIES
    for name in path:
        owner = None if name in ours else compat.owner_of(trainer, name, libraries)
        if owner is not None:
            whose = "one that was set on this trainer" if owner == compat.ITSELF else f"the one of {owner}"
            library = "trl's" if reward_trainers.is_driven_by_reward(trainer) else "transformers'"
            raise TrainerError(
                f"`{name}` must be {library} own with a curriculum, got {whose}: the curriculum chooses the rows "
                "of every step, so it would never be called. Choose rows before the trainer is made (train_dataset="
                "dataset.select(…) or .filter(…)), give a sequence of your own as a column of scores "
                "(metrics: [{name: column, column: …}]), or train without the CampusCallback."
            )


class TrainCall:
    """One call of `trainer.train`, whose parameters may be the user's own: what is resumed, and how to change it.

    Args:
        train: the method.
        args: positional arguments.
        kwargs: named ones.
    """

    def __init__(self, train: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._train, self._args, self._kwargs = train, list(args), dict(kwargs)
        parameters = list(inspect.signature(train).parameters.values())
        named = [k for k, each in enumerate(parameters) if each.name == RESUME]
        passed_on = [k for k, each in enumerate(parameters) if each.kind is each.VAR_POSITIONAL]
        self._place = next(iter(named + passed_on), len(self._args))
        default = parameters[named[0]].default if named else None
        self._default = None if default is inspect.Parameter.empty else default

    @property
    def resume(self) -> Any:
        """`resume_from_checkpoint` of this call."""
        if RESUME in self._kwargs:
            return self._kwargs[RESUME]
        return self._args[self._place] if self._place < len(self._args) else self._default

    def resume_from(self, checkpoint: str | None) -> None:
        """Resume from another one than was asked for."""
        if RESUME not in self._kwargs and self._place < len(self._args):
            self._args[self._place] = checkpoint
        else:
            self._kwargs[RESUME] = checkpoint

    def make(self) -> Any:
        """Call it."""
        return self._train(*self._args, **self._kwargs)
