"""What the reward functions say of each generation, as the trainer gathers it anyway, and what they may not say.

No id column is needed: a generation is made of the planned prompts, each answered G times in a row, so the plan says
whose reward is whose. Every rank hears all of it, before the generation's first optimizer step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from campus_tune.model.peers import Peers
from campus_tune.model.reward_seams import REWARDS, generation_of, listen
from campus_tune.model.reward_trainers import names_of_rewards
from campus_tune.run.prompts.asked_with_care import Answers, asked_with_care
from campus_tune.run.prompts.shown_tokens import token_key
from campus_tune.words.errors import RewardError
from campus_tune.words.types import BoolArray, FloatArray, IntArray, RowArray

if TYPE_CHECKING:
    from transformers import Trainer

SILENT = 3  # generations in a row without any reward; one may be of prompts that no function can judge
SUMMED = "sum_then_normalize"  # how several rewards become one, unless the trainer's settings say otherwise


@dataclass(frozen=True, eq=False)
class Heard:
    """What one generation has earned, the same on every rank but for its own inputs.

    Args:
        generation: its number, from 0.
        rows: the P prompts, as planned.
        inputs: rows of this rank, as the reward functions saw them, n of them.
        prompts: of this rank, n of them.
        rewards: of each function, in the planned sequence, shape (P · G, F); NaN where one gave None.
        weighted: the reward that is trained on, shape (P, G); NaN where every function gave None.
        by_function: each function's rewards by its name, shape (P, G).
        completion_tokens: length of each answer, shape (P, G).
        tells_apart: prompts whose answers earned unlike rewards, so that the group has a gradient, shape (P,).
        contradicting: prompts of which one and the same answer earned unlike rewards, shape (P,).
    """

    generation: int
    rows: RowArray
    inputs: Sequence[Mapping[str, Any]]
    prompts: Sequence[Any]
    rewards: FloatArray
    weighted: FloatArray
    by_function: Mapping[str, FloatArray]
    completion_tokens: IntArray
    tells_apart: BoolArray
    contradicting: BoolArray


class RewardWatch:
    """Listens to the rewards of one trainer.

    Args:
        trainer: TRL's own for reward.
        heard: called with what each generation has earned, on every rank.
        planned: the prompts of a generation by its number, those of all ranks, shape (P,).
    """

    def __init__(self, trainer: Trainer, heard: Callable[[Heard], None], planned: Callable[[int], RowArray]) -> None:
        self._trainer: Any = trainer
        self._heard, self._planned, self._peers = heard, planned, Peers.of(trainer)
        self._silent = 0  # generations in a row without any reward
        self.close = listen(trainer, REWARDS, self._scored)

    @staticmethod
    def on(trainer: Trainer, heard: Callable[[Heard], None], planned: Callable[[int], RowArray]) -> RewardWatch:
        """Begin to listen; `close()` ends it."""
        return RewardWatch(trainer, heard, planned)

    def _scored(
        self,
        score: Callable[..., torch.Tensor],
        inputs: Sequence[Mapping[str, Any]],
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]],
    ) -> torch.Tensor:
        generation = generation_of(self._trainer)
        rows = self._planned(generation)
        group, first = self._trainer.num_generations, self._peers.rank * len(prompts)
        answers = Answers(np.repeat(rows, group)[first : first + len(prompts)], prompts, completions)
        with asked_with_care(self._trainer, names_of_rewards(self._trainer), answers):
            gathered = score(inputs, prompts, completions, completion_ids)
        rewards = gathered.detach().double().cpu().numpy()
        self._refuse(generation, rewards, np.repeat(rows, group))
        told = [(token_key(ids), len(ids)) for ids in completion_ids]
        every = [each for rank in self._peers.gather(told) for each in rank]
        answer, tokens = np.array(every, dtype=np.uint64).T.reshape(2, -1, group)
        weighted = weighted_rewards(self._trainer, rewards).reshape(-1, group)
        names, by_group = names_of_rewards(self._trainer), rewards.reshape(len(rows), group, -1)
        self._heard(
            Heard(
                generation=generation,
                rows=rows,
                inputs=inputs,
                prompts=prompts,
                rewards=rewards,
                weighted=weighted,
                by_function={name: by_group[..., place] for place, name in enumerate(names)},
                completion_tokens=tokens.astype(np.int64),
                tells_apart=self._tells_apart(weighted, by_group),
                contradicting=np.array([_contradicts(*each) for each in zip(answer, weighted, strict=True)]),
            )
        )
        return gathered

    def _tells_apart(self, weighted: FloatArray, by_group: FloatArray) -> BoolArray:
        """Where rewards are brought to one scale before they are added up, one function's spread is enough."""
        if getattr(self._trainer, "multi_objective_aggregation", SUMMED) == SUMMED:
            return spreads(weighted)
        counts = self._trainer.reward_weights.cpu().numpy() != 0
        return np.asarray((spreads(by_group.transpose(0, 2, 1)) & counts).any(axis=1))

    def _refuse(self, generation: int, rewards: FloatArray, rows: RowArray) -> None:
        """Stop at what no function may have said.

        Raises:
            RewardError: an infinite reward, one of a reward model that is no number, no reward for too long.
        """
        asks = np.array([isinstance(each, torch.nn.Module) for each in self._trainer.reward_funcs])
        bad = np.isinf(rewards) | (np.isnan(rewards) & asks)
        if bad.any():
            place, function = (int(each[0]) for each in bad.nonzero())
            raise RewardError(
                f"the reward {names_of_rewards(self._trainer)[function]!r} must be finite, got "
                f"{rewards[place, function]} for an answer to row {rows[place]} in generation {generation}. "
                + ("Load the reward model in float32 or bfloat16." if asks[function] else "Give None instead.")
            )
        self._silent = self._silent + 1 if np.isnan(rewards).all() else 0
        if self._silent == SILENT:
            raise RewardError(
                f"at least one answer in {SILENT} generations must get a reward, got None from every reward function "
                f"for all answers to the rows {sorted(set(rows.tolist()))[:8]} and those before. Give a reward "
                "function that judges these rows, or take them out of the training set."
            )


def weighted_rewards(trainer: Trainer, rewards: FloatArray) -> FloatArray:
    """The reward of each answer: Σ weight · reward over the functions that judged it, cut where the trainer cuts it.

    Rounded to the trainer's own 24 bits, so that weights of 0.1 and 0.9 make 1.

    Args:
        trainer: whose weights these are.
        rewards: shape (n, F); NaN where a function gave None.

    Returns:
        Shape (n,); NaN where all gave None.
    """
    own: Any = trainer
    total = np.nansum(rewards * own.reward_weights.double().cpu().numpy(), axis=1).astype(np.float32)
    if (bounds := getattr(trainer, "reward_clip_range", None)) is not None:  # RLOO's
        total = total.clip(*bounds)
    return np.where(np.isnan(rewards).all(axis=1), np.nan, total.astype(np.float64))


def spreads(rewards: FloatArray) -> BoolArray:
    """Whether any two of the last axis differ; NaN is like every other."""
    known = ~np.isnan(rewards)
    most = np.where(known, rewards, -np.inf).max(axis=-1)
    return np.asarray(most > np.where(known, rewards, np.inf).min(axis=-1))


def _contradicts(answers: Sequence[int], rewards: FloatArray) -> bool:
    """Whether one answer, by its hash, earned two rewards; None and a number are two."""
    earned: dict[int, float] = {}
    return any(
        not np.array_equal(earned.setdefault(int(answer), reward), reward, equal_nan=True)
        for answer, reward in zip(answers, rewards, strict=True)
    )
