"""Which points of a space are tried next: at random, or by what the trials before have shown.

A sampler has no state: the record of the trials says all it needs, so a search that was killed asks the same again.

    random   each combination once, in a sequence that the seed says; a small space is tried whole
    tpe      tree-structured Parzen estimators, by optuna: more of the choices that good trials had. The first ten are
             random, and it takes some dozens of trials to be worth more than that.

Reference:
    Bergstra and Bengio, JMLR 13, 2012 (random search); Bergstra et al., NeurIPS 2011 (TPE).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Literal, TypeAlias

import numpy as np

from campus_tune.compare.search.space import Point, Space
from campus_tune.words.errors import RecipeError

Sampler: TypeAlias = Literal["random", "tpe"]
RANDOM: Sampler = "random"
TPE: Sampler = "tpe"
_SALT = 0x5EA  # of the sampler's draws
_WHOLE = 100_000  # points that are shuffled as a list; of more, new ones are drawn until they are
_VAIN = 10_000  # draws in a row that bring nothing new: the space is tried out, as far as anybody can tell
_ASKED = 50  # of a model of the space, before the rest is drawn at random


@dataclass(frozen=True)
class Tried:
    """A point that was tried.

    Args:
        point: of the space.
        loss: nats per token, at the first rung; None where it diverged.
    """

    point: Point
    loss: float | None


def ask(kind: Sampler, space: Space, tried: Sequence[Tried], n: int, *, seed: int) -> list[Point]:
    """The next points: new ones, whose choices go together. Fewer than `n` where the space has no more.

    Args:
        kind: of the sampler.
        space: of the search.
        tried: so far, in their sequence.
        n: how many are wanted.
        seed: of the sampler.

    Raises:
        RecipeError: optuna is asked for and not installed.
    """
    modelled = tpe_points(space.sizes, tried, seed=seed) if kind == TPE else iter(())
    seen = {space.own, *(space.identity(one.point) for one in tried)}

    def fresh() -> Iterator[Point]:
        vain = 0
        for point in chain(modelled, random_points(space.sizes, seed=seed)):
            identity, vain = space.identity(point), vain + 1
            if identity is not None and identity not in seen:
                seen.add(identity)
                vain = 0
                yield point
            elif vain >= _VAIN:
                return

    return list(islice(fresh(), n))


def refuse_nothing(kind: Sampler, space: Space, *, seed: int) -> None:
    """A search must have something to try and what draws it: told before anything is trained.

    Args:
        kind: of the sampler.
        space: of the search.
        seed: of the sampler.

    Raises:
        RecipeError: all points are the recipe as it stands, or optuna is asked for and not installed.
    """
    if not ask(kind, space, [], 1, seed=seed):
        raise RecipeError(
            f"`search: space` must have a recipe besides the one that stands there, got {space.n_points} that are the "
            "same or whose choices do not go together. Add choices that change it."
        )


def random_points(sizes: Sequence[int], *, seed: int) -> Iterator[Point]:
    """All points of a space in a random sequence, each once; of a very large space without an end, and maybe again.

    Args:
        sizes: choices of each setting.
        seed: of the sequence.
    """
    draws, n = np.random.default_rng([seed, _SALT]), math.prod(sizes)
    if n <= _WHOLE:
        for place in draws.permutation(n).tolist():
            yield tuple(int(i) for i in np.unravel_index(place, sizes))
        return
    while True:
        yield tuple(int(draws.integers(size)) for size in sizes)


def tpe_points(sizes: Sequence[int], tried: Sequence[Tried], *, seed: int) -> Iterator[Point]:
    """Points that optuna proposes, some dozens.

    Args:
        sizes: choices of each setting.
        tried: so far.
        seed: of the sampler.

    Raises:
        RecipeError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise RecipeError(
            'search: `sampler: tpe` must have optuna, got none. Install it: pip install "campus_tune[search]", or '
            "write sampler: random."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    known: dict[str, optuna.distributions.BaseDistribution] = {
        str(i): optuna.distributions.CategoricalDistribution(range(size)) for i, size in enumerate(sizes)
    }
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=(seed + len(tried)) % 2**32))
    for one in tried:
        choices = {str(i): choice for i, choice in enumerate(one.point)}
        value = math.inf if one.loss is None else one.loss
        study.add_trial(optuna.trial.create_trial(params=choices, distributions=known, value=value))
    for _ in range(_ASKED):
        trial = study.ask(known)
        yield tuple(int(trial.params[str(i)]) for i in range(len(sizes)))
