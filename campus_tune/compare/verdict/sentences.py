"""A verdict in words that a manager understands. Numbers in per cent of the other arm, no symbols.

What a sentence may say is as much a part of the verdict as the word: "pacing alone may explain it" stands there
whenever the recipe is not shown to beat shuffled rows with the same pacing, whatever its own gain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from campus_tune.compare.verdict.difference import HELPED, HURT, UNDERPOWERED, Difference
from campus_tune.compare.verdict.inputs import REWARD
from campus_tune.evaluate.paired import LEVEL

RECIPE = "recipe"  # the campus block as it stands
ALMOST_ALL = 0.99

# What it means if the recipe is not shown to beat this arm.
UNEXPLAINED = {
    "random_same_pacing": "pacing alone may explain the gain",
    "reversed": "easy-to-hard is not shown to be the reason",
    "random_plus": "the same compute spent on plain shuffling may do as well",
    "uniform_weights": "the weights are not shown to be the reason",
    "shuffled_weights": "which rows have which weights is not shown to be the reason",
    "shuffled_scores": "which rows are thinned is not shown to be the reason",
    "random_prune": "which rows are pruned is not shown to be the reason",
    "natural_shares": "the shares are not shown to be the reason",
    "mean_shares": "that the shares change is not shown to be the reason",
    "stacked": "what is in the phases may explain the gain without their sequence",
    "round_robin": "that the bandit learned is not shown to be the reason",
    "replayed_choices": "when which sub-curriculum was chosen is not shown to be the reason",
    "no_review": "rows that come back are not shown to be the reason",
    "uniform_review": "which rows come back is not shown to be the reason",
    "random_drop": "which rows are dropped is not shown to be the reason",
    "drop_best": "that the dropped rows harmed is not shown to be the reason",
    "notes_only": "what the rules did is not shown to be the reason",
}
CALLED = {
    "random": "plain shuffling",
    "random_same_pacing": "random rows with the same pacing",
    "reversed": "the reversed order",
    "random_plus": "plain shuffling with the same compute",
    "uniform_weights": "the recipe without its weights",
    "shuffled_weights": "its weights dealt to other rows",
    "shuffled_scores": "thinning by shuffled scores",
    "random_prune": "pruning at random",
    "natural_shares": "natural shares",
    "mean_shares": "its own shares on average",
    "stacked": "the same shares without phases",
    "round_robin": "its sub-curricula in turn",
    "replayed_choices": "its choices in another sequence",
    "no_review": "the recipe without review",
    "uniform_review": "review at random",
    "random_drop": "dropping at random",
    "drop_best": "dropping the rows that helped most",
    "notes_only": "its rules without what they do",
}


OF_RECIPE = CALLED.keys() - {"random", "random_plus"}  # that have the settings of the one called `recipe`


def called(name: str) -> str:
    """What to call an arm."""
    return CALLED.get(name, name)


def percent(share: float | None, *, signed: bool = False) -> str:
    """A share in per cent, with as many digits as it takes.

    >>> percent(0.0123), percent(-0.5, signed=True), percent(0.00021)
    ('1.2 %', '−50 %', '0.021 %')
    """
    if share is None:
        return "an unknown share"
    number = share * 100
    digits = 0 if abs(number) >= 10 else 1
    if 0 < abs(number) < 0.095:
        digits = 1 - math.floor(math.log10(abs(number)))
    sign = ("−" if number < 0 else "+") if signed else ""
    return f"{sign}{abs(number):.{digits}f} %"


def saving(share: float) -> str:
    """A saving that would be found, or any larger one; what rounds to everything is no number.

    >>> saving(0.25), saving(0.99998)
    ('25 % or more', 'over 99 %')
    """
    return f"{percent(share)} or more" if share <= ALMOST_ALL else f"over {percent(ALMOST_ALL)}"


def verdict_sentence(found: Difference, word: str, *, measure: str, smallest: float) -> str:
    """The word, the difference, its interval, and what could have been found.

    Args:
        found: with an interval, unless all its cells are equal.
        word: one of the four.
        measure: what was measured, such as `loss` or `reward`.
        smallest: the smallest effect worth finding, a share.
    """
    assert found.value is not None
    ended = f"exactly as high in {measure} as"
    if found.value:
        ended = f"{_size(found, found.value)} {'lower' if found.value < 0 else 'higher'} in {measure} than"
    head = f"{word[0].upper()}{word[1:]}: {called(found.arm)} ended {ended} "
    between = f"{found.n_seeds} seeds, {found.n_items} {rows_of(measure)}"
    if found.low is not None:
        between = f"{interval(found)} {signed(found, found.low)} to {signed(found, found.high)}, {between}"
    return f"{head}{called(found.against)} ({between}){_ending(found, word, smallest)}"


def signed(found: Difference, value: float | None) -> str:
    """A difference or a bound of it: a share of the other arm's mean, where that is above 0, else as it is.

    >>> [signed(Difference("a", "b", -0.1, mean_against=mean), -0.1) for mean in (2.0, -2.0)]
    ['−5.0 %', '−0.1']

    Args:
        found: the difference.
        value: in its units; None where it is not known.
    """
    share = found.share(value)
    return percent(share, signed=True) if share is not None or value is None else f"{value:+.3g}".replace("-", "−")


def rows_of(measure: str) -> str:
    """What to call the items of a test.

    >>> rows_of("reward"), rows_of("loss")
    ('test prompts', 'test rows')
    """
    return "test prompts" if measure == REWARD else "test rows"


def interval(found: Difference) -> str:
    """What to call an interval: 95 %, and wider where several arms are judged together.

    >>> interval(Difference("a", "b", 0.1)), interval(Difference("a", "b", 0.1, level=0.05 / 3))
    ('95 % interval', '98.3 % interval')
    """
    percents = f"{min(99.9, 100 * (1 - (found.level or LEVEL))):.1f}"
    return f"{percents.removesuffix('.0')} % interval"


def _ending(found: Difference, word: str, smallest: float) -> str:
    if word in (HELPED, HURT):
        several = found.p is not None and found.p_adjusted is not None and found.p_adjusted > found.p
        ending = f"; p = {found.p_adjusted:.2g} with all arms considered" if several else ""
        share = found.share(abs(found.value or 0.0))
        small = share is not None and share < smallest
        return f"{ending}; it is less than the {percent(smallest)} that was worth finding." if small else f"{ending}."
    if not found.value and found.low is None:
        return "; no seed and no row tells the two apart."
    size = _size(found, found.detectable or 0.0)
    if word == UNDERPOWERED and found.share(0.0) is None:
        none = "the mean of the other arm is not above 0, so no share of it says what was worth finding"
        return f"; only an effect of {size} or more would have been found, and {none}."
    if word == UNDERPOWERED:
        return f"; only an effect of {size} or more would have been found, and {percent(smallest)} was worth finding."
    return f"; an effect of {size} or more would have been found."


def refused_sentence(arm: str, why: str) -> str:
    """No word, and the reason."""
    return f"No verdict on {called(arm)}: {why}."


def attribution(
    word: str | None, contrasts: Mapping[str, Difference], *, arm: str = RECIPE, higher_is_better: bool = False
) -> str | None:
    """What the controls say of the reason.

    Args:
        word: of the recipe against the baseline.
        contrasts: the recipe against each control, p-values corrected.
        arm: the recipe's name. The controls are made of the one that is called `recipe`.
        higher_is_better: false of losses.
    """
    if not contrasts or word is None:
        return None
    if word != HELPED:
        return "There is no gain to explain." if word == HURT else "No gain is shown, so there is none to explain."
    beaten, others = [], []
    for name, found in contrasts.items():
        if found.p_adjusted is None or found.value is None:
            others.append(f"No verdict against {called(name)}.")
        elif found.p_adjusted > LEVEL:
            why = UNEXPLAINED.get(name, f"what it shares with {name} may explain the gain")
            others.append(f"It is not shown to beat {called(name)}: {why}.")
        elif (found.value > 0) == higher_is_better:
            beaten.append(called(name))
        else:
            better = called(name)
            others.append(f"{better[:1].upper()}{better[1:]} ended even better ({_size(found, found.value)}).")
    if arm != RECIPE and not contrasts.keys().isdisjoint(OF_RECIPE):
        others.append(f"The controls have the settings of {RECIPE!r}, which may not be those of {arm}.")
    return " ".join(([f"It also beats {' and '.join(beaten)}."] if beaten else []) + others)


def _size(found: Difference, value: float) -> str:
    share = found.share(abs(value))
    return f"{abs(value):.3g}" if share is None else percent(share)
