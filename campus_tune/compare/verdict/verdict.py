"""The verdict: did the recipe help, hurt, or neither, and would we have seen it?

Every arm is compared with the baseline on the same test items and seeds. With w the answer tokens of an item,

    D = Σₛ Σᵢ (loss of the arm − loss of the baseline) / (S · Σᵢ wᵢ)        nats per token, negative = helped

and how sure that is is said in `bootstrap`. Looking at several things finds something by chance, so p-values are raised
(Holm) inside each family: the recipes (and arms with more compute) against the baseline; each recipe against each
control; each arm's domains; the controls against the baseline; all official tasks together. One family, one question:
a recipe's verdict does not get weaker because a domain table stands below it. Intervals are widened by the same rule
(`difference.corrected`), so an interval excludes 0 exactly where its corrected p-value is at most 5 %.

The word is about the whole test set at the end of training. Speed has its own word (`speed`). Runs that do not bear a
verdict get none, with the reason in `refused`: one seed, a diverged run, other data, other settings, other tokens.

Reference:
    Holm, Scand. J. Statist. 6, 1979; Wu et al., "When do curricula work?", arXiv 2012.03107 (the controls).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from campus_tune.compare.verdict.bootstrap import RESAMPLES
from campus_tune.compare.verdict.equal_tokens import AtEqualTokens, compare_at_equal_tokens
from campus_tune.compare.verdict.inputs import LOSS, PRIMARY, ArmResults
from campus_tune.compare.verdict.judgement import (
    FEWEST_IN_DOMAIN,
    Judgement,
    Settings,
    judge_losses,
    judge_tasks,
)
from campus_tune.compare.verdict.misfits import TOKENS_TOLERANCE
from campus_tune.compare.verdict.readings import LastLook, compare_readings
from campus_tune.compare.verdict.speed import FASTER, Speed, judge_speeds
from campus_tune.evaluate.paired import LEVEL, POWER
from campus_tune.words.errors import DataError
from campus_tune.words.leaves import Number, Range, Whole
from campus_tune.words.types import Json
from campus_tune.words.wording import cut, listed

FORMAT = 1
SHOWN, LONGEST = 6, 40  # domains that a note names, and characters of each
EFFECT = 0.02  # the smallest effect worth finding, as a share of the baseline's final loss


@dataclass(frozen=True)
class Verdict:
    """Everything `verdict.json` holds.

    Args:
        baseline: name of the arm that all are compared with.
        baseline_mean: its loss at the end, nats per token, or its reward; None if none of its seeds finished.
        seeds: those the baseline finished.
        n_items: test items.
        domains: how many of them each domain has.
        effect: smallest effect worth finding at the end, a share of the baseline's loss.
        faster: smallest saving of tokens worth finding, a share.
        judgements: of every arm but the baseline, recipes first.
        speed: likewise.
        tasks: of recipes, per official task.
        diverged: arm, seed and message of each run that did not finish.
        notes: what else a reader should know.
        planned: what was said before training could be found, from the baseline's runs alone.
        readings: generalisation gap and sharpness, where they were measured: what → arm → against the baseline.
        proxy: how far a proxy ranks the training rows as the trained model does; None where none is named.
        measure: loss, or reward where the arms are trained by reward.
        equal: of those, each where it had generated as many tokens as the baseline.
    """

    baseline: str
    baseline_mean: float | None
    seeds: tuple[int, ...]
    n_items: int
    domains: Mapping[str, int]
    effect: float
    faster: float
    judgements: Mapping[str, Judgement]
    speed: Mapping[str, Speed]
    tasks: Mapping[str, Mapping[str, Judgement]] = field(default_factory=dict)
    diverged: tuple[Json, ...] = ()
    notes: tuple[str, ...] = ()
    planned: tuple[Json, ...] = ()
    readings: Mapping[str, Mapping[str, LastLook]] = field(default_factory=dict)
    proxy: Json | None = None
    measure: str = LOSS
    equal: Mapping[str, AtEqualTokens] = field(default_factory=dict)

    def to_mapping(self) -> Json:
        """The content of `verdict.json`: no NaN, no infinity."""
        equal = {name: one.to_mapping() for name, one in self.equal.items()}
        of_reward = {} if self.measure == LOSS else {"measure": self.measure, "equal": equal}
        kept = {name: value for name, value in vars(self).items() if name not in ("measure", "equal")}
        return {
            "format": FORMAT,
            "level": LEVEL,
            "power": POWER,
            **{name: value for name, value in kept.items() if name != "proxy" or value is not None},
            **of_reward,
            "seeds": list(self.seeds),
            "domains": dict(self.domains),
            "judgements": {name: one.to_mapping() for name, one in self.judgements.items()},
            "speed": {name: one.to_mapping() for name, one in self.speed.items()},
            "tasks": {task: {name: one.to_mapping() for name, one in of.items()} for task, of in self.tasks.items()},
            "diverged": list(self.diverged),
            "notes": list(self.notes),
            "planned": list(self.planned),
            "readings": {
                what: {name: one.to_mapping() for name, one in of.items()} for what, of in self.readings.items()
            },
        }

    @staticmethod
    def from_mapping(given: Json) -> Verdict:
        """What `to_mapping` wrote.

        Raises:
            DataError: another format.
        """
        if given.get("format") != FORMAT:
            raise DataError(
                f"`format` of a verdict must be {FORMAT}, got {given.get('format')!r}. "
                "Write it again with `campus-tune compare`, which keeps finished runs."
            )
        tasks = {
            task: {name: Judgement.from_mapping(one) for name, one in of.items()} for task, of in given["tasks"].items()
        }
        parts = {
            "seeds": tuple(given["seeds"]),
            "judgements": {name: Judgement.from_mapping(one) for name, one in given["judgements"].items()},
            "speed": {name: Speed.from_mapping(one) for name, one in given["speed"].items()},
            "tasks": tasks,
            "diverged": tuple(given["diverged"]),
            "notes": tuple(given["notes"]),
            "planned": tuple(given.get("planned", ())),
            "equal": {name: AtEqualTokens.from_mapping(one) for name, one in given.get("equal", {}).items()},
            "readings": {
                what: {name: LastLook.from_mapping(one) for name, one in of.items()}
                for what, of in given.get("readings", {}).items()
            },
        }
        rest = {name: value for name, value in given.items() if name not in ("format", "level", "power")}
        return Verdict(**{**rest, **parts})


def judge(
    arms: Sequence[ArmResults],
    *,
    effect: float = EFFECT,
    faster: float = FASTER,
    tokens_tolerance: float = TOKENS_TOLERANCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Verdict:
    """The verdict on all arms of a comparison.

    Args:
        arms: exactly one baseline, at least one recipe or arm with more compute, any controls.
        effect: smallest effect worth finding at the end, a share of the baseline's mean, in (0, 1).
        faster: smallest saving of tokens worth finding, a share in (0, 1).
        tokens_tolerance: by which share the trained tokens of two arms may differ, in [0, 1].
        resamples: of the bootstrap, at least 100.
        seed: of the bootstrap; the same seed gives the same verdict.

    Raises:
        DataError: no or several baselines, nothing to judge, a name twice, settings out of range.
    """
    problems = [
        *Number(Range(0, 1, "()")).problems("effect", effect),
        *Number(Range(0, 1, "()")).problems("faster", faster),
        *Number(Range(0, 1)).problems("tokens_tolerance", tokens_tolerance),
        *Whole(Range(100)).problems("resamples", resamples),
    ]
    names, kinds = [arm.name for arm in arms], [arm.kind for arm in arms]
    if len(set(names)) < len(names):
        problems.append(f"`arms` must have different names, got {', '.join(names)}. Rename one.")
    if kinds.count("baseline") != 1:
        problems.append(f"`arms` must have exactly one baseline, got {kinds.count('baseline')}. Plain shuffling is it.")
    if not set(kinds) & set(PRIMARY):
        problems.append("`arms` must have a recipe to judge, got none. Add one of kind recipe.")
    if problems:
        raise DataError("\n".join(problems))
    settings = Settings(effect, tokens_tolerance, resamples, seed)
    base = next(arm for arm in arms if arm.kind == "baseline")
    sizes = {name: int((base.end.domain == i).sum()) for i, name in enumerate(base.end.domains)}
    notes = []
    if len(base.seeds) == 2:
        notes.append(
            "Two seeds hardly know their own spread: only very large effects can be found. Run at least three."
        )
    small = [f"{cut(name, LONGEST)} ({n})" for name, n in sizes.items() if n < FEWEST_IN_DOMAIN]
    if small and len(sizes) > 1:
        named = listed(small, SHOWN, more=" and {n} more")
        notes.append(
            f"Differences in these domains have no interval, which takes {FEWEST_IN_DOMAIN} test items: {named}."
        )
    rest = [arm for kind in (*PRIMARY, "control") for arm in arms if arm.kind == kind]
    return Verdict(
        base.name,
        base.end.mean() if base.end.values.size else None,
        base.seeds,
        base.end.n_items,
        sizes,
        effect,
        faster,
        {one.arm: one for one in judge_losses(rest, base, settings)},
        {one.arm: one for one in judge_speeds(rest, base, faster=faster, tokens_tolerance=tokens_tolerance)},
        judge_tasks([arm for arm in rest if arm.kind in PRIMARY], base, settings),
        tuple({"arm": arm.name, "seed": s, "message": why} for arm in arms for s, why in sorted(arm.diverged.items())),
        tuple(notes),
        readings=compare_readings(rest, base),
        measure=base.measure,
        equal=compare_at_equal_tokens(rest, base),
    )
