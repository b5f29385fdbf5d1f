"""One page that a reader understands: a forest plot of every effect by situation, the aims, and every number behind it.

The page is one file that needs no network, made as the package's own pages are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from campus_tune.compare.verdict import EFFECT, HELPED, HURT, WORDS
from campus_tune.evaluate.paired import LEVEL
from campus_tune.report.figures import Picture, faces_of
from campus_tune.report.forest_plot import Interval, intervals
from campus_tune.report.html_tables import Cell, Fact, HtmlTable, number, words
from campus_tune.report.page import environment
from eval.situations.judged import WORST_DOMAIN, ArmFound, Found, ends_of
from eval.situations.table import FIRST, controls_cell, label_of, once_tried, reached_cell, share_cell
from eval.situations.targets import MISSED, OURS, REACHED, SHARE, Outcome, in_short, outcomes
from eval.situations.transfer import Agreement, transfers

HERE = Path(__file__).parent
PAGE = HERE / "report.html"
BASES = {
    "tasks": "A tiny model that learned easy tasks first",
    "text": "A tiny model that learned real text first",
    "smol": "SmolLM2-135M with LoRA",
}
COMMAND = """python -m eval.situations plan --keep runs/situations     what will be trained, and how long it takes
python -m eval.situations run --keep runs/situations      train it; stopped, it goes on where it was
python -m eval.situations page runs/situations            this page"""


def page_of(found: Sequence[Found], bases: Mapping[str, str] = BASES) -> str:
    """The page as HTML.

    Args:
        found: all situations, corrected together.
        bases: what each base is called above its picture.
    """
    judging = [one for one in found if one.use == "judge"]
    tuning = [one for one in found if one.use != "judge"]
    told = in_short(outcomes(judging))
    agreed = transfers(judging)
    content = {
        "title": "Where does it pay?",
        "says": says(judging),
        "facts": facts(judging),
        "warnings": warnings(judging),
        "pictures": pictures(judging, bases),
        "about": about_table(judging),
        "aims": aims(told) if told else None,
        "situations": [
            {
                "name": one.name,
                "about": one.about,
                "table": arms_table(one),
                "domains": domains_table(one) if one.judged_by == WORST_DOMAIN else None,
            }
            for one in judging
        ],
        "ranks": ranks(agreed) if agreed else None,
        "tuned": [
            {"name": one.name, "about": one.about, "table": arms_table(one), "once": once_table(one)} for one in tuning
        ],
        "command": COMMAND,
        "refresh_s": None,
        "footer": "Made by campus_tune from the kept results of the runs. This page is one file and needs no network.",
    }
    return environment(HERE).get_template("situations.html.jinja").render(**content)


def says(found: Sequence[Found]) -> list[dict[str, str]]:
    """What stands at the top: of what acts by default and of the published order, where it helped, and where not."""
    told = []
    for name, called in ((OURS, "What acts by itself where rows look wrong"), ("order", "An order from easy to hard")):
        arms = [(one, one.arms[name]) for one in found if name in one.arms and one.arms[name].word]
        if not arms:
            continue
        by_word: dict[str, list[str]] = {}
        for one, arm in arms:
            by_word.setdefault(arm.word or "", []).append(f"`{one.name}` ({share_cell(arm.effect)}\u00a0%)")
        n = {word: len(by_word.get(word, [])) for word in (HELPED, HURT)}
        kind = HELPED if n[HELPED] > n[HURT] else HURT if n[HURT] > n[HELPED] else ""
        rest = " ".join(
            f"{word[0].upper()}{word[1:]}: {', '.join(by_word[word])}." for word in WORDS if word in by_word
        )
        head = f"{called} (`{name}`): helped in {n[HELPED]} of {len(arms)} situations, hurt in {n[HURT]}."
        told.append({"kind": kind, "word": head.replace("`", ""), "rest": rest})
    return told


def facts(found: Sequence[Found]) -> list[Fact]:
    """How much there is of everything."""
    arms = {name for one in found for name in one.arms}
    runs = sum(len(one.seeds) + sum(len(arm.seeds) for arm in one.arms.values()) for one in found)
    seeds = [len(one.seeds) for one in found] or [0]
    span = f"{min(seeds)} to {max(seeds)}" if min(seeds) < max(seeds) else str(seeds[0])
    return [
        Fact("Situations", str(len(found)), "that judge; others tuned"),
        Fact("Arms", str(1 + len(arms)), "ways to train, plain shuffling among them"),
        Fact("Seeds", span, "other rows and another sequence each"),
        Fact("Runs", f"{runs:,}", "that judge"),
        Fact("Claims", str(sum(len(one.claims()) for one in found)), "corrected for each other"),
        Fact("Worth finding", f"{EFFECT:.0%}", "of the loss"),
    ]


def warnings(found: Sequence[Found]) -> list[str]:
    """Arms about which there is no word, and why."""
    return [
        f"`{one.name}`: no word on `{arm.name}`: {arm.refused}."
        for one in found
        for arm in one.arms.values()
        if arm.refused is not None and len(arm.seeds) > 1
    ]


def pictures(found: Sequence[Found], bases: Mapping[str, str]) -> list[Picture]:
    """A forest plot of each base."""
    drawn = []
    for base in dict.fromkeys(one.base for one in found):
        mine = [one for one in found if one.base == base]
        shown = [name for name in FIRST if any(name in one.arms for one in mine)]
        rows: dict[str, dict[str, Interval]] = {}
        for one in mine:
            by_arm = {name: point for name in shown if (point := interval_of(one.arms.get(name))) is not None}
            if by_arm:
                rows[label_of(one)] = by_arm
        faces = {name: face for name, face in faces_of(FIRST).items() if any(name in row for row in rows.values())}
        text = "; ".join(
            f"{row}: {', '.join(f'{arm} {share_cell(point[0])} %' for arm, point in by_arm.items())}"
            for row, by_arm in rows.items()
        )
        if rows:
            drawn.append(
                intervals(
                    f"forest-{base}",
                    bases.get(base, base),
                    rows,
                    faces,
                    effect=EFFECT,
                    alt=f"Test loss against plain shuffling. {text}.",
                    note="A line is an interval: one that crosses the middle may be chance. The grey band is what is "
                    f"too small to matter ({EFFECT:.0%}). Oracles know which rows are wrong, or how hard each is.",
                )
            )
    return drawn


def interval_of(arm: ArmFound | None) -> Interval | None:
    """What a forest plot shows of an arm; None where there is no difference."""
    if arm is None or arm.effect is None:
        return None
    low, high = arm.interval or (None, None)
    return arm.effect, low, high


def about_table(found: Sequence[Found]) -> HtmlTable:
    """What each situation is."""
    rows = [
        [
            words(one.name),
            words(one.about, kind="text"),
            number(one.looks.get("rows")),
            number(one.looks.get("domains")),
            number(one.looks["epochs"], ",g"),
            number(one.looks["wrong"] or None, ".0%"),
            number(one.loss, ".3f"),
        ]
        for one in found
    ]
    head = ["situation", "what it is", "rows", "domains", "epochs", "not as they should be", "shuffling's loss"]
    return HtmlTable("What is trained in each situation", head, rows, opened=True)


def arms_table(found: Found) -> HtmlTable:
    """Every arm of a situation."""
    rows = []
    for arm in found.arms.values():
        if len(arm.seeds) < 2:
            continue
        low, high = arm.interval or (None, None)
        sure = {HELPED: "good", HURT: "bad"}.get(arm.word or "", "") if arm.kind in ("recipe", "plus") else ""
        worst = None if arm.worst is None else arm.worst.value
        share = arm.share if arm.share is not None and not arm.share.refused else None
        rows.append(
            [
                words(arm.name),
                words(arm.kind),
                number(len(arm.seeds)),
                number(arm.acted),
                number(arm.effect, "+.1%", kind=sure),
                number(low, "+.1%"),
                number(high, "+.1%"),
                number(arm.detectable, ".1%"),
                words(arm.word or f"none: {arm.refused}"),
                number(arm.cost or None, ".1%"),
                number(arm.charged.relative if arm.charged is not None else None, "+.1%"),
                words(reached_cell(arm)),
                number(worst, "+.1%"),
                number(share.value if share else None, ".2f"),
                number(share.low if share else None, ".2f"),
                number(share.high if share else None, ".2f"),
                words(controls_cell(arm)),
            ]
        )
    head = [
        "arm",
        "kind",
        "seeds",
        "acted",
        "loss",
        "from",
        "to",
        "MDE",
        "verdict",
        "cost",
        "charged",
        "tokens to its end",
    ]
    head += ["worst domain", "of the oracle", "from", "to", "against its control, %"]
    caption = f"{found.name}: against plain shuffling, which ended at {found.loss:.3f} nats per token"
    return HtmlTable(caption, head, rows, opened=len(rows) <= 12)


def once_table(found: Found) -> HtmlTable | None:
    """The recipes that one seed has tried, the best first; None where there is none."""
    rows = []
    for arm, controls in once_tried(found):
        beside = found.arms[controls[0]] if controls else None
        cells = [words(controls[0] if controls else "–"), number(beside.effect if beside else None, "+.1%")]
        rows.append([words(arm.name), number(arm.effect, "+.1%"), *cells])
        rows[-1] += [number(arm.tokens, ".2f"), number(arm.cost or None, ".1%")]
    head = ["arm", "loss", "its control", "loss", "tokens ÷ shuffling's", "cost"]
    caption = f"{found.name}: tried with one seed, which cannot tell a recipe from luck"
    return HtmlTable(caption, head, rows, opened=True) if rows else None


def domains_table(found: Found) -> HtmlTable:
    """What each arm did to each domain."""
    rows = []
    for arm in found.arms.values():
        for domain, one in arm.domains.items():
            ends = ends_of(one) or (None, None)
            kind = (
                "" if one.p_adjusted is None or one.p_adjusted > LEVEL else "good" if (one.value or 0.0) < 0 else "bad"
            )
            cells = [number(one.relative, "+.1%", kind=kind), *(number(end, "+.1%") for end in ends)]
            rows.append([words(arm.name), words(domain), number(one.mean, ".3f"), *cells])
    head = ["arm", "domain", "loss", "difference", "from", "to"]
    return HtmlTable(f"{found.name}: by domain; intervals for one arm's domains together", head, rows, opened=True)


def aims(told: Sequence[Outcome]) -> HtmlTable:
    """Every aim."""
    rows = []
    for one in told:
        values = [Cell("never") if each == math.inf else number(each, ".3f") for each in (one.value, one.low, one.high)]
        bound = "as it falls out" if one.bound is None else f"{'≥' if one.measure == SHARE else '≤'} {one.bound:g}"
        kind = {REACHED: "good", MISSED: "bad"}.get(one.word, "")
        word = words(f"{one.word}{f' ({one.why})' if one.why else ''}", kind=kind)
        rows.append([words(one.about), words(one.situation), words(one.arm or "–"), word, words(bound), *values])
        rows[-1] += [words(one.measure), number(one.seeds or None)]
    head = ["aim", "situation", "arm", "so", "bound", "found", "from", "to", "what", "seeds"]
    return HtmlTable("Aims that were set before the runs were made", head, rows, opened=True)


def ranks(agreed: Sequence[Agreement]) -> HtmlTable:
    """Rank agreement between bases."""
    rows = [
        [
            words(" and ".join(one.situations)),
            words(", ".join(one.arms)),
            words(" and ".join(map(str, one.seeds))),
            *(number(each, "+.2f") for each in (one.value, one.low, one.high)),
        ]
        for one in agreed
    ]
    return HtmlTable("Rank agreement", ["situations", "arms", "seeds", "τ", "from", "to"], rows, opened=True)


def write_page(found: Sequence[Found], path: Path = PAGE) -> Path:
    """Write it; gives back the file."""
    path.write_text(page_of(found), encoding="utf-8")
    return path
