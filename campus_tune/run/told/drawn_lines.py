"""The last lines of a run whose rows were drawn by a policy: what came how often, what never came, what went wrong."""

from __future__ import annotations

from collections.abc import Sequence

from campus_tune.method.thinning import NOT_PAID
from campus_tune.preview.draw_plan import LEAST_TAU, NOTABLE
from campus_tune.preview.forecast import MOST_PASSES
from campus_tune.preview.weight_plan import LEAST_ESS
from campus_tune.words.types import Json
from campus_tune.words.wording import listed

MOST_DOMAINS = 8  # that a line names


def drawn_lines(end: Json) -> list[str]:
    """What a policy has made of the rows: passes over each domain, rows left out, rows that never came."""
    if "passes" not in end:
        return []
    shown = [f"{name} {passes:.2f}" for name, passes in end["passes"].items()]
    parts = [f"passes: {listed(shown, MOST_DOMAINS)}"]
    if end["review_rows"]:
        parts.append(f"{end['review_rows']} visits of rows that came back")
    suspects = end.get("suspects", 0)
    if end["dropped"] > suspects:
        parts.append(f"{end['dropped'] - suspects} rows were left out from the start")
    if suspects:
        parts.append(f"{suspects} were left out when they looked wrong")
    lines = ["; ".join(parts)]
    prompts = "groups" in end  # which are answered anew each time, and drawn by what they would tell
    often = [f"{name} {passes:.1f}" for name, passes in end["passes"].items() if passes > MOST_PASSES]
    if often and not prompts and end["visits_most"] > MOST_PASSES:
        lines.append(
            f"warning: rows came up to {end['visits_most']} times (passes of {listed(often, MOST_DOMAINS)}). Up to "
            f"{MOST_PASSES:g} repeats cost little in pretraining (arXiv 2305.16264): lower their shares, or look at "
            "their probes."
        )
    never = end["never_trained"]
    if never["rows"]:
        of = listed([f"{name} {n}" for name, n in never["by_domain"].items()], MOST_DOMAINS)
        if prompts:  # as it should be
            return [*lines, f"{never['rows']} of {end['n_rows']} prompts were never drawn ({of})"]
        line = f"{never['rows']} of {end['n_rows']} rows were never trained ({of})"
        no_room = max(0, end["n_rows"] - end["dropped"] - end["visits"])  # for so many of them
        beyond = never["rows"] - no_room > NOTABLE * end["n_rows"]
        lines.append(f"warning: {line}" if beyond else line)
    return lines


def earned_line(record: Json, total_steps: int) -> str:
    """That something acts from here on because rows are wrong, or that nothing does, as the ledger's line has it.

    >>> seen = {"share": 0.15, "low": 0.12, "high": 0.19, "by_domain": {"code": {"low": 0.2, "high": 0.31}}}
    >>> told = {"step": 8, "acts": ["robust"], "threshold": 0.02, "spared": 0}
    >>> earned_line({**told, **seen}, 16)
    'step 8/16 · act: 12% to 19% of the rows look wrong (code 20% to 31%), and from 2% on robust acts'
    >>> earned_line({**told, "acts": [], "why": "training shows no losses of single rows"}, 16)
    'step 8/16 · act: nothing acts, for training shows no losses of single rows'
    """
    return f"step {record['step']}/{total_steps} · act: {earned_words(record)}"


def earned_words(record: Json) -> str:
    """The same, without when that was."""
    looks = ""
    if "high" in record:
        worst_first = sorted(record["by_domain"].items(), key=lambda pair: -pair[1]["low"])
        of = listed([f"{name} {_range(dirt)}" for name, dirt in worst_first], MOST_DOMAINS)
        looks = f"{_range(record)} of the rows look wrong{f' ({of})' if of else ''}"
    if "why" in record:
        return f"nothing acts, for {record['why']}{f': {looks}' if looks else ''}"
    acts, would = (" and ".join(record.get(key, [])) for key in ("acts", "would"))
    parts = [f"{acts} acts" if acts else "nothing acts", *([f"{would} would, with act: auto"] if would else [])]
    parts += [f"weights cannot be multiplied ({record['cannot']})"] if record.get("cannot") else []
    spared = f"; {record['spared']} rows are spared" if record["spared"] else ""
    return f"{looks}, and from {record['threshold']:.0%} on {', '.join(parts)}{spared}"


def _range(dirt: Json) -> str:
    """The interval of an estimate.

    >>> _range({"low": 0.0, "high": 0.013})
    '0% to 1.3%'
    """
    low, high = (f"{dirt[end]:.{int(0 < dirt[end] < 0.1)}%}" for end in ("low", "high"))
    return f"{low} to {high}"


def suspects_line(record: Json, total_steps: int) -> str:
    """What was done about rows that look wrong, as the ledger's line of it has it.

    >>> suspects_line({"step": 8, "act": "auto", "dropped": 0, "why": "3 of 9 rows were never seen"}, 8)
    'step 8/8 · suspects: no row was left out, for 3 of 9 rows were never seen'
    >>> record = {"step": 8, "act": "auto", "dropped": 5, "would_drop": 5, "found": 7, "by_domain": {"code": 5}}
    >>> suspects_line({**record, "bound": {"by_domain": {"code": 2}, "by_share": 0}}, 16)
    'step 8/16 · suspects: 5 rows look wrong and are left out from here on (code 5); 2 stay for the bounds of `drop`'
    """
    when = f"step {record['step']}/{total_steps} · suspects"
    if "why" in record:
        return f"{when}: no row was left out, for {record['why']}"
    n = record["would_drop"]
    if not n:
        return f"{when}: no row stands out from its kind, none is left out"
    kept = sum(record["bound"]["by_domain"].values()) + record["bound"]["by_share"]
    most_first = sorted(record["by_domain"].items(), key=lambda pair: -pair[1])
    of = listed([f"{name} {count}" for name, count in most_first], MOST_DOMAINS)
    what = "are left out from here on"
    if record["act"] in ("found", "auto"):
        what = f"look wrong and {what}"
    if record["act"] == "always":
        what += f", the likeliest wrong ones ({record['found']} stand out)"
    if record["act"] == "never":
        what = "look wrong and would be left out without act: never"
    return f"{when}: {n} rows {what} ({of}){f'; {kept} stay for the bounds of `drop`' if kept else ''}"


def thinned_lines(told: Sequence[Json]) -> list[str]:
    """What the thinning of a run's stages comes to: chances that were hardly unequal, or very much so.

    Args:
        told: of each stage, as the ledger has it.
    """
    lines: list[str] = []
    unpaid = sum(thin.get("skipped") == NOT_PAID for thin in told)
    if unpaid:
        what = f"in {unpaid} of {len(told)} stages candidates were not measured, and rows not thinned: {NOT_PAID}"
        lines.append(f"warning: {what}. Write a larger budget, which campus-tune check names.")
    by_ratio = [thin for thin in told if thin.get("tau") is not None]
    if not by_ratio:
        return lines  # of other chances nobody makes weights
    few = [thin["ess"] for thin in by_ratio if thin["ess"] < LEAST_ESS]
    if few:
        lines.append(
            f"warning: in {len(few)} of {len(told)} stages rows were taken with chances so unequal that they count as "
            f"{min(few):.0%} of as many drawn alike, at the least. Raise `floor`, or lower `power`."
        )
    highest = max(thin["tau"] for thin in by_ratio)
    if highest < LEAST_TAU:
        lines.append(
            f"warning: `{by_ratio[0]['by']}` was nearly the same in all rows offered (τ {highest:.2f} at most): "
            "thinning by it was nearly a random draw. Write how: rank, or leave `thin` out."
        )
    return lines
