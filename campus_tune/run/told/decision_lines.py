"""One decision for a person: in a line, or in the columns of a table."""

from __future__ import annotations

from collections.abc import Mapping

from campus_tune.method.curriculum import SHUFFLE
from campus_tune.words.types import Json
from campus_tune.words.wording import listed

MANY_DIGITS = 1e4  # a perplexity from which on its size is all that a line says of it

MOST_SHORT = 3  # groups without enough rows that a decision's line names


def decision_cells(record: Json, total_steps: int, probes: Mapping[str, Json], cost_share: float) -> dict[str, str]:
    """One decision in the columns of a table."""
    low, high = record["scope"]
    drawn = {"drawn": ", ".join(drawn_words(record))} if "lanes" in record else {}
    return {
        "step": f"{record['step']}/{total_steps}",
        "stage": str(record["stage"]),
        "chosen": record["chosen"],
        "why": record["outcome"],
        "rows": str(record["rows"]),
        "scope": f"{low:.2f}–{high:.2f}",
        **drawn,
        "perplexity": _measured(record),
        "competence": ", ".join(f"{name} {probe['competence']:.3f}" for name, probe in probes.items()),
        "cost": f"{cost_share:.1%}",
    }


def decision_line(record: Json, total_steps: int, probes: Mapping[str, Json], cost_share: float) -> str:
    """One decision in one line."""
    parts = [f"step {record['step']}/{total_steps}", f"stage {record['stage']}"]
    what = "prompts" if "generation" in record else "rows"
    if record["chosen"] == SHUFFLE:
        by = drawn_by(record)
        parts.append(f"{record['rows']} {what} by {by}" if by else f"shuffled, {record['rows']} {what}")
    else:
        low, high = record["scope"]
        parts.append(f"{record['chosen']} ({record['outcome']}), {record['rows']} {what} of scope {low:.2f}–{high:.2f}")
        if measured := _measured(record):
            parts.append(f"perplexity {measured}")
    parts += drawn_words(record)
    if probes:
        parts.append("competence " + ", ".join(f"{name} {probe['competence']:.3f}" for name, probe in probes.items()))
    parts.append(f"cost {cost_share:.1%}")
    return " · ".join(parts)


def drawn_by(record: Json) -> str:
    """The score that the prompts of a stage were drawn by, where no order gave them; "" where they were shuffled.

    >>> drawn_by({"generation": 8, "thin": {"how": "top", "by": "middle"}}), drawn_by({"generation": 8})
    ('middle', '')
    """
    thin = record.get("thin", {})
    return str(thin.get("by", "")) if "generation" in record and "skipped" not in thin else ""


def drawn_words(record: Json) -> list[str]:
    """How a stage was drawn, where a policy drew it: what is out of the ordinary.

    That a scope was widened is not: a stage of a prefix asks for more rows of each group than its first scope holds.

    >>> drawn_words({"lanes": {"offer": 6, "mix": 0, "review": 2}, "offered": 12, "passed_over": 6, "shortage": {}})
    ['2 rows come back', '6 of 12 offered passed over']
    >>> short = {"code": "next pass", "math": "given to others", "text": "widened"}
    >>> lanes = {"offer": 6, "mix": 0, "review": 0}
    >>> drawn_words({"lanes": lanes, "shares": dict.fromkeys(short, 1 / 3), "passed_over": 0, "shortage": short})
    ['next pass of code', 'too few rows of math']
    """
    if "lanes" not in record:
        return []
    words = []
    if record["lanes"]["review"]:
        words.append(f"{record['lanes']['review']} rows come back")
    if record["passed_over"]:
        words.append(f"{record['passed_over']} of {record['offered']} offered passed over")
    if "skipped" in record.get("thin", {}):
        words.append(f"not thinned: {record['thin']['skipped']}")
    for what, help_ in (("next pass", "next pass"), ("too few rows", "given to others")):
        groups = [name for name, word in record["shortage"].items() if word == help_]
        if groups:
            every = len(groups) == len(record["shares"])
            words.append(f"{what} of {'all groups' if every and len(groups) > 1 else listed(groups, MOST_SHORT)}")
    return words


def _measured(record: Json) -> str:
    """The perplexity of each offer that was measured."""
    offers = [offer for offer in record.get("offers", []) if "perplexity" in offer]
    return ", ".join(f"{offer['name']} {perplexity_in_words(offer['perplexity'])}" for offer in offers)


def perplexity_in_words(perplexity: float) -> str:
    """A perplexity for a line: that of a model that diverges has up to 305 digits.

    >>> [perplexity_in_words(value) for value in (7.891, 9999.994, 123456.7, 1.014e304, 1e999)]
    ['7.89', '9999.99', '1.23e+05', '1.01e+304', 'inf']
    """
    return f"{perplexity:.2f}" if perplexity < MANY_DIGITS else f"{perplexity:.3g}"
