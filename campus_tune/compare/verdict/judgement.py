"""One arm against the baseline and the controls at the end of training: differences, p-value families, the word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from campus_tune.compare.verdict.bootstrap import VarianceParts
from campus_tune.compare.verdict.difference import Difference, corrected, decide
from campus_tune.compare.verdict.inputs import PRIMARY, ArmResults, ItemValues
from campus_tune.compare.verdict.misfits import misfits, misfits_of, same_items
from campus_tune.compare.verdict.pair import Pair
from campus_tune.compare.verdict.sentences import attribution, refused_sentence, verdict_sentence
from campus_tune.words.types import Json

FEWEST_IN_DOMAIN = 10  # items; below, a domain's difference is shown without an interval


@dataclass(frozen=True)
class Settings:
    """What the user may set of a verdict; see `judge`."""

    effect: float
    tokens_tolerance: float
    resamples: int
    seed: int


@dataclass(frozen=True)
class Judgement:
    """What the runs say of one arm.

    Args:
        arm: its name.
        kind: recipe, control or plus.
        measure: what was measured: `loss`, `reward`, or a task and its metric.
        verdict: one of the four words; None where refused.
        refused: why there is no word.
        sentence: the verdict for a reader in a hurry.
        attribution: what the controls say of the reason; None without controls, or of a control.
        difference: against the baseline; None where the items are not the same.
        domains: the same of each domain, where there are several.
        contrasts: against each control, of a recipe.
    """

    arm: str
    kind: str
    measure: str
    verdict: str | None
    refused: str | None
    sentence: str
    attribution: str | None = None
    difference: Difference | None = None
    domains: Mapping[str, Difference] = field(default_factory=dict)
    contrasts: Mapping[str, Difference] = field(default_factory=dict)

    def to_mapping(self) -> Json:
        """The same as strict JSON takes it."""
        return {
            **vars(self),
            "difference": self.difference and self.difference.to_mapping(),
            "domains": {name: one.to_mapping() for name, one in self.domains.items()},
            "contrasts": {name: one.to_mapping() for name, one in self.contrasts.items()},
        }

    @staticmethod
    def from_mapping(given: Json) -> Judgement:
        """What `to_mapping` wrote."""
        parts = {
            "difference": given["difference"] and Difference.from_mapping(given["difference"]),
            "domains": {name: Difference.from_mapping(one) for name, one in given["domains"].items()},
            "contrasts": {name: Difference.from_mapping(one) for name, one in given["contrasts"].items()},
        }
        return Judgement(**{**given, **parts})


def judge_losses(arms: Sequence[ArmResults], base: ArmResults, settings: Settings) -> list[Judgement]:
    """Judgements of all arms but the baseline on the loss or reward at the end, in the same sequence."""
    found: dict[str, Judgement] = {}
    for kinds in (PRIMARY, ("control",)):
        pairs = [_pair(arm, base, arm.end, base.end, settings) for arm in arms if arm.kind in kinds]
        for pair, difference in zip(pairs, _family(pairs, settings), strict=True):
            arm = pair.arm
            others = [one for one in arms if one.kind in ("control", "plus")] if arm.kind == "recipe" else []
            against = _family([_pair(arm, other, arm.end, other.end, settings) for other in others], settings)
            contrasts = {other.name: one for other, one in zip(others, against, strict=True) if one is not None}
            found[arm.name] = _judgement(pair, difference, arm.measure, settings, _domains(pair, settings), contrasts)
    return [found[arm.name] for arm in arms]


def judge_tasks(arms: Sequence[ArmResults], base: ArmResults, settings: Settings) -> dict[str, dict[str, Judgement]]:
    """Judgements of the arms on official tasks, all of them one family: task → arm → judgement."""
    pairs = [
        (task, _pair(arm, base, arm.tasks[task], base.tasks[task], settings))
        for task in base.tasks
        for arm in arms
        if task in arm.tasks
    ]
    found: dict[str, dict[str, Judgement]] = {}
    differences = _family([pair for _, pair in pairs], settings)
    for (task, pair), difference in zip(pairs, differences, strict=True):
        found.setdefault(task, {})[pair.arm.name] = _judgement(pair, difference, task, settings, {}, {})
    return found


def _domains(pair: Pair, settings: Settings) -> dict[str, Difference]:
    """The difference in each of several domains; small ones without an interval."""
    if len(pair.mine.domains) < 2 or not same_items(pair.mine, pair.theirs):
        return {}
    chosen = {name: pair.mine.domain == i for i, name in enumerate(pair.mine.domains)}
    bare = {name: pair.bare(items) for name, items in chosen.items() if items.any()}
    known = {name: one for name, one in bare.items() if one is not None}
    large = [name for name in known if chosen[name].sum() >= FEWEST_IN_DOMAIN]
    if pair.reasons or not large:
        return known
    sure = pair.sure(
        [known[name] for name in large],
        [chosen[name] for name in large],
        len(large),
        resamples=settings.resamples,
        seed=settings.seed,
    )
    return {**known, **dict(zip(large, corrected(*sure), strict=True))}


def _family(pairs: Sequence[Pair], settings: Settings) -> list[Difference | None]:
    """Overall differences of several pairs, corrected for each other."""
    n = max(1, sum(not pair.reasons for pair in pairs))
    known: dict[int, tuple[Difference, VarianceParts | None]] = {}
    for i, pair in enumerate(pairs):
        everything = np.ones(pair.mine.n_items, dtype=np.bool_)
        bare = pair.bare(everything) if same_items(pair.mine, pair.theirs) else None
        if bare is not None and pair.reasons:
            known[i] = bare, None
        elif bare is not None:
            (one,), (spread,) = pair.sure([bare], [everything], n, resamples=settings.resamples, seed=settings.seed)
            known[i] = one, spread
    raised = corrected([one for one, _ in known.values()], [spread for _, spread in known.values()])
    by_place = dict(zip(known, raised, strict=True))
    return [by_place.get(i) for i in range(len(pairs))]


def _pair(arm: ArmResults, base: ArmResults, mine: ItemValues, theirs: ItemValues, settings: Settings) -> Pair:
    reasons = [*misfits(arm, base, tokens_tolerance=settings.tokens_tolerance), *misfits_of(mine, theirs)]
    return Pair(arm, base, mine, theirs, tuple(reasons))


def _judgement(
    pair: Pair,
    found: Difference | None,
    measure: str,
    settings: Settings,
    domains: Mapping[str, Difference],
    contrasts: Mapping[str, Difference],
) -> Judgement:
    reasons, higher = list(pair.reasons), pair.mine.higher_is_better
    if not reasons and (found is None or found.p_adjusted is None):
        reasons.append("the difference is the same in every seed and item, so nothing tells it from chance")
    name, kind = pair.arm.name, pair.arm.kind
    if reasons or found is None:
        why = "; ".join(reasons)
        return Judgement(name, kind, measure, None, why, refused_sentence(name, why), None, found, domains, contrasts)
    word = decide(found, settings.effect * abs(found.mean_against or 0.0), higher_is_better=higher)
    return Judgement(
        name,
        kind,
        measure,
        word,
        None,
        verdict_sentence(found, word, measure=measure, smallest=settings.effect),
        attribution(word, contrasts, arm=name, higher_is_better=higher),
        found,
        domains,
        contrasts,
    )
