"""Scores of prompts that rewards show, for `thin: by`. Higher is more wanted.

    middle             what its next group would tell: `1 − p^G − (1 − p)^G`; `4p(1 − p)` where rewards are not scaled
    easy_first         how well it is answered
    learning_progress  how far that lies from how well it was answered before

A minus turns what rewards show around: `-easy_first` is hard first. Each p is *drawn* from the prompt's posterior
(Thompson sampling), so that a prompt of which little is known is tried though it looks useless, as often as it may not
be. And each score grows with *age*, by `AGE` for as many prompts drawn as there are, so that nothing starves for good.
More of it costs what the scores gain: in a model of 512 prompts and four epochs groups without a gradient were 0.40 of
all with 0 and 0.03, 0.42 with 0.1, 0.44 with 0.25, against 0.52 drawn at random.

>>> rates = PassRates(3, group=8, at=1.0, forget=0.0, scaled=True)
>>> rates.expect(np.array([0.0, 0.5, 1.0]), worth=1000.0)
>>> np.argmax(prompt_score("middle", rates, rng=np.random.default_rng(0), when=0)).item()
1

Reference:
    Thompson 1933, On the Likelihood that One Unknown Probability Exceeds Another. 2504.09710, DUMP, and 2504.05520,
    AdaRFT, which draw prompts by what they would tell; 2510.01037. *Differs from the papers*: rows and not
    distributions of rows are drawn; nothing is generated to be thrown away.
    Portelas et al. 2019, Teacher Algorithms for Curriculum Learning of Deep RL (1910.07224): learning progress is
    absolute, for what is being forgotten is worth training too.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from campus_tune.method.pass_rates import PassRates
from campus_tune.words.types import FloatArray

AGE = 0.03  # of a score in [0, 1], for as many prompts drawn as there are


def prompt_score(name: str, rates: PassRates, *, rng: np.random.Generator, when: int) -> FloatArray:
    """A score of every prompt, finite, shape (N,); higher is more wanted.

    Args:
        name: one of `PROMPT_SCORES`, or with a minus.
        rates: what rewards have shown, and what is expected.
        rng: of this decision; each prompt takes as many draws as another, known or not.
        when: number of the generation that comes next.
    """
    drawn_since = (when - 1 - rates.last) * rates.per_generation / max(1, rates.n_rows)
    shown = PROMPT_SCORES[name.removeprefix("-")](rates, rng)
    return (-shown if name.startswith("-") else shown) + AGE * drawn_since


def _middle(rates: PassRates, rng: np.random.Generator) -> FloatArray:
    if not rates.two_valued:
        return rng.beta(*rates.spread_posterior())
    told = rates.tells_apart(rng.beta(*rates.posterior()))
    return told if rates.scaled else 4 * told


def _easy_first(rates: PassRates, rng: np.random.Generator) -> FloatArray:
    return rng.beta(*rates.level_posterior())


def _learning_progress(rates: PassRates, rng: np.random.Generator) -> FloatArray:
    before = rng.beta(*rates.level_posterior(without_last=True))
    return np.abs(rng.beta(*rates.level_posterior(only_last=True)) - before)


PROMPT_SCORES: dict[str, Callable[[PassRates, np.random.Generator], FloatArray]] = {
    "middle": _middle,
    "easy_first": _easy_first,
    "learning_progress": _learning_progress,
}
