"""An ablation as lines for the console: what was found, the matrix it stands in, and what could have been missed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from campus_tune.compare.verdict.ablation import PARTS, Ablation, AblationPart, Effect
from campus_tune.compare.verdict.difference import UNDERPOWERED
from campus_tune.compare.verdict.sentences import interval, percent
from campus_tune.words.tables import table

SURE, MISSED = "*", "?"
_SAYS = {
    "needed": "{d} is needed for {e}: without it the loss of {e} ends",
    "harmful": "{d} is harmful for {e}: without it the loss of {e} ends",
    "not enough": "{d} alone is not enough for {e}: its loss ends",
    "better alone": "{e} is learnt better from {d} alone: its loss ends",
}


def ablation_lines(found: Mapping[AblationPart, Ablation], *, effect: float, seeds: int) -> list[str]:
    """What a person wants to know, part by part.

    Args:
        found: the matrices.
        effect: the smallest effect worth finding, a share.
        seeds: of each run.
    """
    said: list[str] = []
    for matrix in found.values():
        tests = list(dict.fromkeys(e for row in matrix.cells.values() for e in row))
        rows = [
            [d, *(_cell(row.get(e)) for e in tests), _cell(matrix.overall.get(d))] for d, row in matrix.cells.items()
        ]
        shown = table([f"{matrix.part} ↓ loss of →", *tests, "all"], rows)
        said += ["", *ablation_sentences(matrix), "", shown, "", *_rest(matrix, effect, seeds)]
    return said


def ablation_sentences(matrix: Ablation) -> list[str]:
    """What was found, the largest first; that nothing was, where so it is."""
    cells = [
        (d, e, one) for d, row in matrix.cells.items() for e, one in row.items() if one.verdict in PARTS[matrix.part]
    ]
    cells += [(d, "all rows", one) for d, one in matrix.overall.items() if one.verdict in PARTS[matrix.part]]
    cells.sort(key=lambda cell: -abs(cell[2].difference.relative or 0.0))
    words = [one.verdict for row in matrix.cells.values() for one in row.values()]
    if not any(words):
        return ["NO WORD: the runs do not bear one."]
    if not cells:
        gone = "leaving a domain out" if matrix.part == "without" else "training one domain alone"
        return [f"NO EFFECT is shown: nothing that {gone} does can be told from chance."]
    return [effect_sentence(d, e, one) for d, e, one in cells]


def effect_sentence(domain: str, test: str, one: Effect) -> str:
    """One cell that has been found, in words.

    Args:
        domain: that was left out, or alone.
        test: domain of the test rows, or what to call all of them.
        one: the cell.
    """
    found = one.difference
    assert found.value is not None
    assert one.verdict is not None
    size = found.share(abs(found.value))
    how = f"{abs(found.value):.3g}" if size is None else percent(size)
    low, high = (percent(found.share(value), signed=True) for value in (found.low, found.high))
    head = _SAYS[one.verdict].format(d=domain, e=test)
    return (
        f"{head[:1].upper()}{head[1:]} {how} {'higher' if found.value > 0 else 'lower'} ({interval(found)} {low} to "
        f"{high}, {found.n_seeds} seeds, {found.n_items} test rows)."
    )


def _cell(one: Effect | None) -> str:
    if one is None or one.difference.value is None:
        return "-"
    mark = SURE if one.verdict in (*PARTS["without"], *PARTS["only"]) else MISSED if one.verdict == UNDERPOWERED else ""
    return f"{percent(one.difference.share(one.difference.value), signed=True)}{mark}"


def _rest(matrix: Ablation, effect: float, seeds: int) -> list[str]:
    """What the marks mean, what could have been missed, and where there is no word."""
    cells = [one for row in matrix.cells.values() for one in row.values()]
    missed = [one.difference for one in cells if one.verdict == UNDERPOWERED]
    said = [f"{SURE} told from chance, all cells considered together (Holm); {MISSED} underpowered"]
    if missed:
        sizes: Sequence[float] = [share for one in missed if (share := one.share(one.detectable)) is not None]
        would = f"; they would show {percent(min(sizes))} to {percent(max(sizes))} or more" if sizes else ""
        said.append(
            f"underpowered: {len(missed)} of {len(cells)} cells could have missed {percent(effect)}{would} in "
            f"4 of 5 ablations of {seeds} seeds. Add seeds or test rows: finished runs are kept."
        )
    said += [f"no word on {domain}: {why}." for domain, why in matrix.refused.items()]
    if any(" tokens and " in why for why in matrix.refused.values()):
        said.append("more tokens apart may be allowed without training anew: --compare.tokens_tolerance 0.1")
    return said
