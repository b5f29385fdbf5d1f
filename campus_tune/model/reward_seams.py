"""Where TRL's trainers for reward are listened to: two methods of theirs that nobody promises.

`_generate_and_score_completions(inputs)` is handed the rows of one rank's part of a generation, each prompt as often as
it is answered, and gives back the tokens that will be trained, row by row, before they are shuffled.
`_calculate_rewards(inputs, prompts, completions, completion_ids_list)` gives every rank the rewards of all of them, in
the same sequence. Both are called while evaluating too, with the model in its evaluation mode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from campus_tune.model import compat
from campus_tune.model.reward_trainers import micro_step

if TYPE_CHECKING:
    from transformers import Trainer

GENERATES = "_generate_and_score_completions"
REWARDS = "_calculate_rewards"
LIBRARY = ("transformers.trainer", "trl.trainer", "trl.extras")  # whose methods are known
ANSWERING = ("_tokenize_prompts", "_generate", "_generate_single_turn")
LOSS = ("compute_loss", "_compute_loss", "training_step", "_get_per_token_logps_and_entropies")


def listen(trainer: Trainer, method: str, around: Callable[..., Any]) -> Callable[[], None]:
    """Let `around(the trainer's own method, *its arguments)` answer for a method of one trainer, while it trains.

    Args:
        trainer: one of the two.
        method: `GENERATES` or `REWARDS`.
        around: calls the own method and gives back what it gives.

    Returns:
        What ends it. A wrapper that somebody has put around this one in the meantime goes on working.
    """
    own, inner = vars(trainer).get(method), getattr(trainer, method)
    listens = [True]

    def heard(*args: Any, **kwargs: Any) -> Any:
        if not (listens and compat.model_of(trainer).training):
            return inner(*args, **kwargs)
        return around(inner, *args, **kwargs)

    def end() -> None:
        listens.clear()
        if vars(trainer).get(method) is heard:
            del vars(trainer)[method]
            if own is not None:
                vars(trainer)[method] = own

    vars(trainer)[method] = heard
    return end


def generation_of(trainer: Trainer) -> int:
    """The number of the generation that is made, or trained, now: it lasts so many micro batches."""
    return micro_step(trainer) // micro_batches_of_a_generation(trainer)


def micro_batches_of_a_generation(trainer: Trainer) -> int:
    """How many micro batches a generation lasts."""
    counts: Any = trainer
    return int(counts.args.steps_per_generation * counts.num_iterations)


def answers_in_its_own_way(trainer: Trainer) -> bool:
    """Whether the tokens that are answered are not only the trainer's own of a prompt.

    So it is with environments, a `rollout_func`, and a class of the user's that tokenises or generates itself.
    """
    line = [
        each
        for each in type(trainer).__mro__
        if not f"{each.__module__}.".startswith(tuple(f"{name}." for name in LIBRARY))
    ]
    given = ("environment_factories", "environments", "rollout_func")
    return any(name in vars(each) for each in line for name in ANSWERING) or any(
        getattr(trainer, name, None) is not None for name in given
    )


def tokens_of(trainer: Trainer, prompts: Sequence[Any]) -> list[list[int]] | None:
    """The trainer's own tokens of some prompts; None where it answers in a way of its own."""
    if answers_in_its_own_way(trainer):
        return None
    kind: Any = type(trainer)
    return [list(ids) for ids in kind._tokenize_prompts(trainer, list(prompts))[0]]  # not what somebody has set on it


def loss_of_its_own(trainer: Trainer) -> bool:
    """Whether a class of the user's may send a micro batch through the model otherwise than TRL does."""
    return any(compat.owner_of(trainer, name, LIBRARY) is not None for name in LOSS)


def hides_forwards(trainer: Trainer) -> bool:
    """Whether the trained forward calls a part of the model by itself, below what a hook on the model can see.

    So does the loss of Liger in earlier versions of TRL; 1.16 takes no more of it than its layers.
    """
    return bool(getattr(trainer, "use_liger_kernel", False) or getattr(trainer, "use_liger_loss", False))
