"""What a run comes to: some facts under a word each, for the panel at its end, and the commands to type next.

They are made of the ledger's last lines, so a run that is read back has the same. What is as it should be has a tick,
what a person should look at an exclamation mark: nothing hangs on a colour.

>>> fact = Upshot("audit", "all 12 steps trained the planned rows", GOOD)
>>> fact.line
'✓ all 12 steps trained the planned rows'
>>> as_html([fact], ["campus-tune report <run>"]).startswith('<table><caption>the run is over</caption>')
True
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from campus_tune.method.budget import VALUE
from campus_tune.run.ledger import audited, weights_audited
from campus_tune.run.told.drawn_lines import drawn_lines
from campus_tune.run.told.last_lines import coverage_line
from campus_tune.run.told.prompt_lines import answered_line
from campus_tune.words.types import Json
from campus_tune.words.wording import listed

GOOD, LOOK = "✓", "!"
TITLE = "the run is over"
MOST_DOMAINS = 8  # whose competence is named
CHECKS = ("checked", "passed")  # of an audit


@dataclass(frozen=True)
class Upshot:
    """One thing that a run comes to.

    Args:
        label: what it is about, a word.
        text: what there is to say.
        sign: `GOOD`, `LOOK`, or "" for what is neither.
    """

    label: str
    text: str
    sign: str = ""

    @property
    def line(self) -> str:
        """The text behind its sign."""
        return f"{self.sign} {self.text}".strip()


def facts_of(
    end: Json, of_map: Json, of_value: Json, of_prompts: Json | None = None, *, n_warnings: int = 0
) -> list[Upshot]:
    """What there is to say of a run, in the sequence in which one asks.

    Args:
        end: the ledger's last line.
        of_map: its line of the map; {} without one.
        of_value: its line of the rows' values; {} without one.
        of_prompts: its line of the map of prompts; None or {} without one.
        n_warnings: that were told.
    """
    by_choice = end["rows_by_choice"]
    shares = [f"{name} {rows / max(1, sum(by_choice.values())):.0%}" for name, rows in by_choice.items() if rows]
    trained = f"{end['step']:,} steps, {coverage_line(end).partition(': ')[2]}"
    facts = [Upshot("trained", trained), Upshot("drawn by", ", ".join(shares))]
    if (answered := answered_line(end)) is not None:
        facts.append(Upshot("answers", answered))
    facts += [Upshot("drawn", line) for line in drawn_lines(end) if not line.startswith("warning: ")]
    if end["competence"]:
        changes = [f"{name} {first:.3f} → {last:.3f}" for name, (first, last) in end["competence"].items()]
        facts.append(Upshot("competence", listed(changes, MOST_DOMAINS)))
    spent, clock = end["cost"]["all"] - end["cost"].get(VALUE, 0.0), end["seconds"]["share"]
    cost = f"{spent:.1%} of the training compute (budget {end['budget']:.1%}); by the clock {clock:.1%}"
    facts.append(Upshot("cost", cost, LOOK if spent > end["budget"] + 1e-9 else ""))
    audit = end["audit"]
    checked, passed = (audit[name] + audit.get("generations", (0, 0))[place] for place, name in enumerate(CHECKS))
    facts.append(Upshot("audit", audited(**audit), GOOD if checked == passed else LOOK))
    if "weights_audit" in end:
        checked, passed = end["weights_audit"]
        facts.append(Upshot("weights", weights_audited(checked, passed), GOOD if checked == passed else LOOK))
    if of_map:
        text = of_map.get("sentence") or f"not looked for: {of_map['why']}"
        facts.append(Upshot("suspects", text, LOOK if of_map.get("suspects") else ""))
    if of_prompts:
        facts.append(Upshot("prompts", of_prompts["sentence"].partition(": ")[2]))
    if of_value:
        facts.append(
            Upshot("value", of_value.get("sentence") or f"not known: {of_value.get('why', 'no row was asked')}")
        )
    facts += [Upshot("advice", one["line"]) for one in end.get("advice", [])]
    if n_warnings:
        facts.append(Upshot("warnings", f"{n_warnings}, above", LOOK))
    return facts


def next_steps(of_map: Json, of_value: Json, folder: Path) -> list[str]:
    """What to type next, each a command.

    Args:
        of_map: the ledger's line of the map; {} without one.
        of_value: its line of the rows' values; {} without one.
        folder: the run's `curriculum/`.
    """
    run = shlex.quote(str(folder.parent))
    steps = [f"campus-tune suspects {run}"] if of_map.get("suspects") else []
    steps += [f"campus-tune value {run}"] if of_value.get("rows") else []
    return steps or [f"campus-tune report {run}"]


def as_html(facts: Sequence[Upshot], steps: Sequence[str]) -> str:
    """The same for a notebook.

    Args:
        facts: of the run.
        steps: to type next.
    """
    rows = [(fact.label, escape(fact.line)) for fact in facts]
    rows.append(("next", "<br>".join(f"<code>{escape(step)}</code>" for step in steps)))
    left = ' style="text-align: left"'
    body = "".join(f"<tr><th{left}>{escape(label)}</th><td{left}>{text}</td></tr>" for label, text in rows)
    return f"<table><caption>{TITLE}</caption><tbody>{body}</tbody></table>"
