"""The table: what every arm does in every situation, against plain shuffling, as Markdown for `eval/LOG.md`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from statistics import median

from campus_tune.compare.verdict import HELPED, HURT
from campus_tune.compare.verdict.difference import UNDERPOWERED, Difference
from campus_tune.compare.verdict.sentences import percent
from eval.situations.judged import WORST_DOMAIN, ArmFound, Found, ends_of
from eval.situations.targets import OURS, SHARE, SPEED, Outcome, in_short, outcomes
from eval.situations.transfer import Agreement, transfers

DASH = "–"
FIRST = (OURS, "both", "robust", "drop", "order", "oracle", "true_level")  # columns of the short table, where judged
MARKS = {HELPED: "**", HURT: "**", UNDERPOWERED: "?"}


def lines_of(found: Sequence[Found]) -> Iterator[str]:
    """Everything that the LOG takes from the runs, line by line.

    Args:
        found: the situations, corrected together.
    """
    judging = [one for one in found if one.use == "judge"]
    tuning = [one for one in found if one.use != "judge"]
    if judging:
        n = sum(len(one.claims()) for one in judging)
        yield f"{len(judging)} situations that judge, Holm over {n} claims. **Bold**: told from chance; ? underpowered."
        yield ""
        yield from short(judging)
    if tuning:
        yield "\nSituations that tuned: every arm alone, no claim.\n"
        yield from short(tuning)
    for one in found:
        yield f"\n{one.name} ({one.use}, {one.base}): {one.about}; shuffling {one.loss:.4f} nats per token\n"
        yield from every_arm(one)
        if any(len(arm.seeds) < 2 for arm in one.arms.values()):
            yield "\nWith one seed, which cannot tell a recipe from luck:\n"
            yield from once(one)
        if one.judged_by == WORST_DOMAIN:
            yield ""
            yield from by_domain(one)
    told = outcomes(judging)
    if told:
        yield "\nTargets, and the best of the others, which was chosen by looking:\n"
        yield from aims(in_short(told))
    agreed = transfers(judging)
    if agreed:
        yield "\nRank agreement (Kendall's τ) of the arms between bases, with a 95 % interval over seeds:\n"
        yield from rank_lines(agreed)


def short(found: Sequence[Found]) -> Iterator[str]:
    """A line for each situation: the differences of the arms that are tried everywhere, in per cent."""
    names = [name for name in FIRST if any(name in one.arms for one in found)]
    yield from head("situation", "seeds", "shuffling", *names, "best of the rest")
    for one in found:
        rest = [arm for arm in one.claims() if arm.name not in names and arm.effect is not None]
        best = min(rest, key=lambda arm: arm.effect or 0.0, default=None)
        cells = [effect_cell(one.arms.get(name)) for name in names]
        yield line(
            label_of(one), str(len(one.seeds)), f"{one.loss:.3f}", *cells,
            DASH if best is None else f"{best.name} {effect_cell(best)}",
        )  # fmt: skip


def label_of(found: Found) -> str:
    """The name of a situation, and which loss its differences are of where it is not that of all test rows."""
    return f"{found.name}, worst domain" if found.judged_by == WORST_DOMAIN else found.name


def every_arm(found: Found) -> Iterator[str]:
    """A line for each arm of one situation."""
    yield from head(
        "arm", "seeds", "acted", "loss, %", "MDE", "verdict", "p", "cost", "charged, %", "tokens to its end",
        "worst, %", "of the oracle", "against its control",
    )  # fmt: skip
    for arm in found.arms.values():
        if len(arm.seeds) < 2:
            continue
        yield line(
            arm.name,
            str(len(arm.seeds)),
            DASH if arm.acted is None else str(arm.acted),
            effect_cell(arm, marked=False),
            DASH if arm.detectable is None else percent(arm.detectable),
            arm.word or f"none: {arm.refused}",
            DASH if arm.difference is None or arm.difference.p_adjusted is None else f"{arm.difference.p_adjusted:.2g}",
            DASH if not arm.cost else percent(arm.cost),
            DASH if arm.charged is None or arm.charged.value is None else share_cell(arm.charged.relative),
            reached_cell(arm),
            ratio_cell(arm),
            share_of_oracle(arm),
            controls_cell(arm),
        )


def once(found: Found) -> Iterator[str]:
    """A line for each recipe that one seed has tried, with its control beside it."""
    yield from head("arm", "loss, %", "its control", "loss, %", "tokens ÷ shuffling's", "cost")
    for arm, controls in once_tried(found):
        yield line(
            arm.name,
            share_cell(arm.effect),
            ", ".join(controls) or DASH,
            ", ".join(share_cell(found.arms[name].effect) for name in controls) or DASH,
            f"{arm.tokens:.2f}",
            DASH if not arm.cost else percent(arm.cost),
        )


def once_tried(found: Found) -> list[tuple[ArmFound, list[str]]]:
    """The arms that one seed has tried, the best first, each with its controls' names; controls of such are no line."""
    arms = [arm for arm in found.arms.values() if len(arm.seeds) < 2]
    names = {arm.name for arm in arms}
    lines = [arm for arm in arms if arm.of not in names]
    lines.sort(key=lambda arm: math.inf if arm.effect is None else arm.effect)
    return [(arm, [one.name for one in found.arms.values() if one.of == arm.name]) for arm in lines]


def by_domain(found: Found) -> Iterator[str]:
    """What each arm of a situation did to each domain, in per cent of plain shuffling's loss there."""
    names = list(dict.fromkeys(name for arm in found.arms.values() for name in arm.domains))
    yield from head("arm", *names)
    for arm in found.arms.values():
        yield line(arm.name, *(difference_cell(arm.domains.get(name)) for name in names))


def aims(told: Iterable[Outcome]) -> Iterator[str]:
    """A line for each aim."""
    yield from head("aim", "situation", "arm", "seeds", "bound", "found", "")
    for one in told:
        form = (lambda x: f"{x:.2f}") if one.measure in (SHARE, SPEED) else (lambda x: f"{x:.3f}")
        value, low, high = (DASH if x is None else "never" if x == math.inf else form(x) for x in
                            (one.value, one.low, one.high))  # fmt: skip
        why = f" ({one.why})" if one.why else ""
        bound = DASH if one.bound is None else f"{'≥' if one.measure == SHARE else '≤'} {one.bound:g}"
        span = "" if one.low is None and one.high is None else f" ({low} to {high})"
        word = f"**{one.word}**" if one.word == "missed" else one.word
        found = f"{value}{span}".replace("-", "−")
        yield line(one.about, one.situation, one.arm or DASH, str(one.seeds), bound, found, f"{word}{why}")


def rank_lines(agreed: Iterable[Agreement]) -> Iterator[str]:
    """A line for each situation that two bases share."""
    yield from head("situations", "arms", "seeds", "τ")
    for one in agreed:
        span = "" if one.low is None or one.high is None else f" ({one.low:+.2f} to {one.high:+.2f})"
        value = DASH if one.value is None else f"{one.value:+.2f}{span}"
        yield line(
            " · ".join(one.situations), ", ".join(one.arms), " · ".join(map(str, one.seeds)), value.replace("-", "−")
        )


# -- cells -------------------------------------------------------------------------------------------------------------


def effect_cell(arm: ArmFound | None, *, marked: bool = True) -> str:
    """A difference with its interval, in per cent of plain shuffling's loss.

    Args:
        arm: None where it was not tried.
        marked: bold where it is told from chance, a question mark where it is underpowered.
    """
    if arm is None or arm.effect is None:
        return DASH
    mark = MARKS.get(arm.word or "", "") if marked and arm.kind in ("recipe", "plus") else ""
    value = share_cell(arm.effect)
    value = f"{value}?" if mark == "?" else f"{mark}{value}{mark}"
    return value + half_width(arm.interval)


def difference_cell(found: Difference | None) -> str:
    """A difference with its interval, in per cent of the other's loss."""
    if found is None or found.value is None:
        return DASH
    return share_cell(found.relative) + half_width(ends_of(found))


def half_width(ends: tuple[float, float] | None) -> str:
    """How far an interval reaches to each side of its value, in per cent; they are as wide on both.

    >>> half_width((-0.12, -0.1)), half_width(None)
    (' ± 1.0', '')
    """
    return "" if ends is None else f" ± {50 * (ends[1] - ends[0]):.1f}"


def share_cell(share: float | None) -> str:
    """A share in per cent, signed, without the sign of per cent.

    >>> share_cell(-0.1234), share_cell(0.002), share_cell(0.0), share_cell(None)
    ('−12.3', '+0.2', '0.0', '–')
    """
    if share is None:
        return DASH
    text = f"{100 * share:+.1f}".replace("-", "−")
    return text[1:] if not float(text[1:]) else text


def reached_cell(arm: ArmFound) -> str:
    """Charged tokens to the loss at which plain shuffling ended: the median over seeds, and how many got there."""
    reached = [] if arm.speed is None or arm.speed.reached is None else [*arm.speed.reached.values()]
    there = sorted(one for one in reached if one is not None)
    if not there:
        return "never" if reached else DASH
    middle = median(math.inf if one is None else one for one in reached)
    value = "never" if middle == math.inf else f"{middle:.2f}"
    return value if len(there) == len(reached) else f"{value}, {len(there)} of {len(reached)}"


def ratio_cell(arm: ArmFound) -> str:
    """The worst domain's loss against that of plain shuffling."""
    return difference_cell(arm.worst)


def share_of_oracle(arm: ArmFound) -> str:
    """The share of the oracle's gain."""
    found = arm.share
    if found is None or found.value is None or found.refused:
        return DASH
    span = "" if found.low is None or found.high is None else f" ({found.low:.2f} to {found.high:.2f})"
    return f"{found.value:.2f}{span}".replace("-", "−")


def controls_cell(arm: ArmFound) -> str:
    """What a recipe has over its controls."""
    return "; ".join(f"{name} {difference_cell(one)}" for name, one in arm.contrasts.items()) or DASH


def head(*cells: str) -> Iterator[str]:
    """The first two lines of a Markdown table."""
    yield line(*cells)
    yield line(*("---" for _ in cells))


def line(*cells: str) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"
