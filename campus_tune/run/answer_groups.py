"""What the groups of a stage have shown: how many answers passed, and how many groups gave a gradient.

A prompt is answered G times; these answers are a *group*. Where all of them earn the same, none is better than another,
and the group moves nothing: GRPO, whatever it divides by, and RLOO compare inside of a group. So it is also where fewer
than two were scored.

>>> groups = StageGroups(["right"], Domains(), at=1.0)
>>> groups.add(
...     np.array([4, 7]),
...     generation=0,
...     weighted=np.array([[1.0, 0.0], [1.0, 1.0]]),
...     by_function={"right": np.array([[1.0, 0.0], [1.0, 1.0]])},
...     tokens=np.array([[3, 5], [2, 2]]),
... )
>>> record = groups.record(shuffled=0.25)
>>> record["groups"], record["pass_rate"], record["generated_tokens"]
({'n': 2, 'without_gradient': 0.5, 'shuffled': 0.25, 'untried': 0}, 0.75, 12)

Every rank keeps the same: the trainer gathers rewards anyway. What is here of a stage travels in a checkpoint; of the
stages before it there is a file each in `prompt_rewards/`, of which the map of the prompts is made at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.data.domains import Domains
from campus_tune.method.pass_rates import passes_at
from campus_tune.scores.cache import read_columns, write_columns
from campus_tune.words.types import BoolArray, FloatArray, IntArray, Json, RowArray

FOLDER = "prompt_rewards"  # in the run's
BANDS = 5  # of the rate that was expected of a prompt
EQUAL = 1e-8  # between the lowest and the highest reward of a group: TRL's bound of a spread that is none
_REWARD = "reward_"  # and the number of the answer: a column of a stage's file


def file_of_stage(stage: int) -> str:
    """The name of a stage's file."""
    return f"stage-{stage:05d}.parquet"


@dataclass(frozen=True, eq=False)
class AnswerGroups:
    """Groups of answers, n of them, each of G answers to one prompt, in the sequence in which they were planned.

    Args:
        rows: the prompt of each, shape (n,).
        generation: that each is of, shape (n,).
        rewards: weighted sums over the reward functions, NaN where an answer was not scored, shape (n, G).
        flat: the group gives no gradient, shape (n,).
        tokens: that were generated for each, shape (n,).
        expected: the pass rate that was expected of its prompt, NaN where nothing was, shape (n,).
        contradicting: the same answer earned different rewards, shape (n,).
    """

    rows: IntArray
    generation: IntArray
    rewards: FloatArray
    flat: BoolArray
    tokens: IntArray
    expected: FloatArray
    contradicting: BoolArray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def tried(self) -> BoolArray:
        """Answers that were scored, shape (n, G)."""
        return np.isfinite(self.rewards)

    def take(self, chosen: BoolArray | IntArray) -> AnswerGroups:
        """Some of them."""
        return AnswerGroups(**{name: values[chosen] for name, values in vars(self).items()})

    def joined(self, *others: AnswerGroups) -> AnswerGroups:
        """These, and others behind them."""
        return AnswerGroups(
            **{name: np.concatenate([values, *(vars(o)[name] for o in others)]) for name, values in vars(self).items()}
        )

    def shown(self, at: float) -> Json:
        """How many they are, and what they have shown.

        Args:
            at: the reward from which on an answer passes.
        """
        return {
            "groups": len(self),
            "pass_rate": pass_rate(self.rewards, at),
            "without_gradient": float(self.flat.mean()) if len(self) else None,
        }


def all_equal(rewards: FloatArray) -> BoolArray:
    """Groups whose scored answers all earned the same, or fewer than two were scored, shape (n,).

    Args:
        rewards: NaN where an answer was not scored, shape (n, G).

    >>> all_equal(np.array([[1.0, 1.0], [0.0, 1.0], [np.nan, 1.0]])).tolist()
    [True, False, True]
    """
    tried = np.isfinite(rewards)
    low = np.where(tried, rewards, np.inf).min(axis=1, initial=np.inf)
    high = np.where(tried, rewards, -np.inf).max(axis=1, initial=-np.inf)
    equal: BoolArray = high - low <= EQUAL
    return equal


def pass_rate(rewards: FloatArray, at: float) -> float | None:
    """Share of the scored answers that passed; None where none was scored.

    Args:
        rewards: NaN where an answer was not scored.
        at: the reward from which on an answer passes.
    """
    tried = np.isfinite(rewards)
    return float(passes_at(rewards[tried], at).mean()) if tried.any() else None


class StageGroups:
    """The groups of the stage that is being trained, and sums over the run.

    Args:
        functions: names of the reward functions.
        domains: of the prompts.
        at: the weighted reward from which on an answer passes.
    """

    def __init__(self, functions: Sequence[str], domains: Domains, *, at: float) -> None:
        self.functions, self.domains, self.at = tuple(functions), domains, at
        self._groups: list[AnswerGroups] = []
        self._by_function: list[FloatArray] = []  # shape (n, G, functions) each
        # over the stages that are closed: groups, those without a gradient, those that shuffling would have had
        # without one, those without a reward, generated tokens, answers that were scored, of these those that passed
        self._sums: FloatArray = np.zeros(7)

    def add(
        self,
        rows: IntArray | RowArray,
        *,
        generation: int,
        weighted: FloatArray,
        by_function: Mapping[str, FloatArray],
        tokens: IntArray,
        tells_apart: BoolArray | None = None,
        expected: FloatArray | None = None,
        contradicting: BoolArray | None = None,
    ) -> None:
        """A generation's groups, as all ranks together had them.

        Args:
            rows: their prompts, shape (P,).
            generation: its number in the run, from 0.
            weighted: rewards, NaN where an answer was not scored, shape (P, G).
            by_function: function → its own rewards, NaN likewise, shape (P, G).
            tokens: that each answer has, shape (P, G).
            tells_apart: the group gives a gradient, shape (P,); None where the weighted rewards alone say so.
            expected: the pass rate that was expected of each prompt, NaN where nothing was, shape (P,).
            contradicting: the same answer of the group earned different rewards, shape (P,).
        """
        n, flat = len(rows), all_equal(weighted) if tells_apart is None else ~np.asarray(tells_apart, dtype=bool)
        self._groups.append(
            AnswerGroups(
                np.asarray(rows, dtype=np.int64),
                np.full(n, generation, dtype=np.int64),
                np.asarray(weighted, dtype=np.float64),
                flat,
                np.asarray(tokens, dtype=np.int64).reshape(n, -1).sum(axis=1),
                np.full(n, np.nan) if expected is None else np.asarray(expected, dtype=np.float64),
                np.zeros(n, dtype=bool) if contradicting is None else np.asarray(contradicting, dtype=bool),
            )
        )
        self._by_function.append(np.stack([np.asarray(by_function[name]) for name in self.functions], axis=-1))

    @property
    def groups(self) -> AnswerGroups | None:
        """Those of the stage so far; None before its first."""
        return self._groups[0].joined(*self._groups[1:]) if self._groups else None

    @property
    def generated_tokens(self) -> int:
        """Of all answers so far, those of the stage included."""
        return int(self._sums[4]) + sum(int(groups.tokens.sum()) for groups in self._groups)

    def record(self, shuffled: float | None) -> Json:
        """What the ledger says of them at the stage's end; {} where there are none.

        Args:
            shuffled: share of groups without a gradient that shuffled prompts would have had, as it is estimated.
        """
        groups = self.groups
        if groups is None:
            return {}
        own, bands, names = groups.shown(self.at), band_of(groups.expected), self.domains.names
        codes = None if self.domains.codes is None else self.domains.codes[groups.rows]

        def shown_of(some: BoolArray) -> Json:
            return groups.take(some).shown(self.at)

        every = np.concatenate(self._by_function)
        known = {name: of[np.isfinite(of)] for name, of in zip(self.functions, np.moveaxis(every, -1, 0), strict=True)}
        scored = groups.rewards[groups.tried]
        return {
            "groups": {
                "n": len(groups),
                "without_gradient": own["without_gradient"],
                "shuffled": shuffled,
                "untried": int((~groups.tried.any(axis=1)).sum()),
            },
            "reward": float(scored.mean()) if len(scored) else None,
            "rewards": {
                name: {"mean": float(of.mean()), "std": float(of.std())} if len(of) else {"mean": None, "std": None}
                for name, of in known.items()
            },
            "pass_rate": own["pass_rate"],
            "by_domain": {} if codes is None else {names[code]: shown_of(codes == code) for code in np.unique(codes)},
            "by_band": [shown_of(bands == band) for band in range(BANDS)] if bands.max() >= 0 else [],
            "generated_tokens": self.generated_tokens,
        }

    def close(self, folder: Path | None, stage: int, shuffled: float | None) -> None:
        """The stage is over: its groups become a file, and the next one begins.

        Args:
            folder: the run's; None on ranks that do not write.
            stage: its number.
            shuffled: as `record` was given it.

        Raises:
            StorageError: the file cannot be written.
        """
        groups = self.groups
        if groups is None:
            return
        if folder is not None:
            write_groups(folder / FOLDER / file_of_stage(stage), groups)
        tried, flat = groups.tried, groups.flat
        passed = passes_at(groups.rewards, self.at).sum()
        of_shuffling = (flat.mean() if shuffled is None else shuffled) * len(groups)
        untried = (~tried.any(axis=1)).sum()
        self._sums += [len(groups), flat.sum(), of_shuffling, untried, groups.tokens.sum(), tried.sum(), passed]
        self._groups, self._by_function = [], []

    def totals(self) -> Json:
        """The same of all stages that are closed, for the run's last line; {} before the first."""
        n, flat, shuffled, untried, tokens, tried, passed = self._sums.tolist()
        if not n:
            return {}
        shares = {"without_gradient": flat / n, "shuffled": shuffled / n}
        return {
            "groups": {"n": int(n), **shares, "untried": int(untried)},
            "pass_rate": passed / tried if tried else None,
            "generated_tokens": int(tokens),
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that a checkpoint inside a stage must hold."""
        groups = self.groups
        if groups is None:
            return {"sums": self._sums}
        return {"sums": self._sums, **vars(groups), "by_function": np.concatenate(self._by_function)}

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from `arrays()`."""
        self._sums = np.array(arrays["sums"], dtype=np.float64)
        self._groups, self._by_function = [], []
        if "rows" in arrays:
            self._groups = [AnswerGroups(**{name: arrays[name] for name in AnswerGroups.__dataclass_fields__})]
            self._by_function = [arrays["by_function"]]


def band_of(expected: FloatArray) -> IntArray:
    """The fifth that each expected pass rate lies in, from 0; −1 where nothing was expected.

    >>> band_of(np.array([0.0, 0.2, 0.99, 1.0, np.nan])).tolist()
    [0, 1, 4, 4, -1]
    """
    known = np.isfinite(expected)
    place = np.floor(np.where(known, expected, 0.0) * BANDS).astype(np.int64)
    return np.where(known, np.clip(place, 0, BANDS - 1), -1)


def write_groups(path: Path, groups: AnswerGroups) -> None:
    """A stage's groups as a table, a line for each.

    Raises:
        StorageError: the file cannot be written.
    """
    named = {name: values for name, values in vars(groups).items() if name not in ("rows", "rewards")}
    answers = {f"{_REWARD}{place}": groups.rewards[:, place] for place in range(groups.rewards.shape[1])}
    write_columns(path, {"row": groups.rows, **named, **answers}, {})


def read_groups(path: Path) -> AnswerGroups:
    """The groups of a stage's file.

    Raises:
        ResumeError: the file is missing or damaged.
    """
    columns = read_columns(path)[0]
    answers = [columns[f"{_REWARD}{place}"] for place in range(sum(name.startswith(_REWARD) for name in columns))]
    named = {name: columns[name] for name in AnswerGroups.__dataclass_fields__ if name not in ("rows", "rewards")}
    return AnswerGroups(rows=columns["row"], rewards=np.stack(answers, axis=1), **named)
