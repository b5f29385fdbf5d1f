"""What a run shows in a terminal: a line for each decision, its columns below each other, and a panel at the end.

>>> record = {"step": 62, "stage": 1, "chosen": "mtld", "outcome": "lowest", "rows": 252, "scope": [0.0, 0.49]}
>>> words = decision_words(record, 375, {"a": {"competence": 0.05}, "b": {"competence": 0.01}}, 0.431)
>>> print(fitted(words, 120).plain)
step  62/375 · stage 1  · mtld          252 rows of 0.00–0.49 · competence 0.030, lowest b 0.010 · cost 43.1%
>>> print(fitted(words, 72).plain)
step  62/375 · stage 1  · mtld          252 rows of 0.00–0.49
competence 0.030, lowest b 0.010 · cost 43.1%
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from campus_tune.method.curriculum import SHUFFLE
from campus_tune.run.told.decision_lines import drawn_by, drawn_words
from campus_tune.run.told.summary import GOOD, LOOK, TITLE, Upshot
from campus_tune.words.console import styled
from campus_tune.words.types import Json
from campus_tune.words.wording import cut, harmless

if TYPE_CHECKING:
    from rich.panel import Panel
    from rich.text import Text

BETWEEN = " · "
NAME = 11  # characters of an order's name that a column is wide
DOMAIN = 16  # of a domain's
STYLES = {GOOD: "bold green", LOOK: "bold yellow"}


def decision_words(
    record: Json, total_steps: int, probes: Mapping[str, Json], cost_share: float
) -> list[tuple[str, str]]:
    """One decision, as words that each have the width of those above them, and their styles.

    What stands in all domains is summed up: the ledger and a notebook's table have each of them.

    Args:
        record: the ledger's line of it.
        total_steps: of the run.
        probes: what they said when they were measured last, by domain.
        cost_share: of the curriculum so far.
    """
    low, high = record["scope"]
    shuffled = record["chosen"] == SHUFFLE
    what = "prompts" if "generation" in record else "rows"
    step = str(record["step"]).rjust(len(str(total_steps)))
    name = drawn_by(record) or "shuffled" if shuffled else cut(harmless(record["chosen"]), 2 * NAME)
    words = [
        (f"step {step}/{total_steps}", "bold"),
        (f"stage {record['stage']:<2}", ""),
        (f"{name.ljust(NAME)}{record['rows']:>6} {what} of {low:.2f}–{high:.2f}", "" if shuffled else "magenta"),
    ]
    if probes:
        each = {domain: probe["competence"] for domain, probe in probes.items()}
        worst = min(each, key=lambda domain: each[domain])
        lowest = f", lowest {cut(harmless(worst), DOMAIN)} {each[worst]:.3f}" if len(each) > 1 else ""
        words.append((f"competence {sum(each.values()) / len(each):.3f}{lowest}", "green"))
    words.append((f"cost {cost_share:.1%}", ""))
    return [*words, *((word, "yellow") for word in drawn_words(record))]


def fitted(words: Sequence[tuple[str, str]], width: int) -> Text:
    """Words in one line, or in several where they do not fit; none is broken that fits into one.

    Args:
        words: and their styles.
        width: in columns.
    """
    from rich.text import Text

    lines = [Text()]
    for word, style in words:
        between = BETWEEN if lines[-1].plain else ""
        if between and len(lines[-1].plain) + len(between) + len(word) > width:
            lines.append(Text())
            between = ""
        lines[-1].append(between, style="dim").append(word, style=style)
    return Text("\n").join(lines)


def panel(facts: Sequence[Upshot], steps: Sequence[str], where: str) -> Panel:
    """What a run comes to, in a box.

    Args:
        facts: of the run.
        steps: to type next.
        where: everything about it is.
    """
    from rich.box import ROUNDED
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for fact in facts:
        text = styled(fact.text)
        if fact.sign:
            text = Text.assemble((fact.sign, STYLES[fact.sign]), " ", text)
        grid.add_row(fact.label, text)
    grid.add_row("folder", where)
    grid.add_row("next", Text("\n".join(steps), style="cyan"))
    return Panel(grid, title=TITLE, title_align="left", box=ROUNDED, border_style="cyan")
