"""What rows and domains were worth in a run that is over, read back, and as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from campus_tune.method.value import ALL
from campus_tune.report.heat_map import Heat
from campus_tune.report.value_facts import FarRow, ValueFacts, read_value
from campus_tune.report.value_page import scaled
from campus_tune.run.ledger import FILE, FOLDER
from campus_tune.run.ledger_lines import find_ledger, is_by_reward, read_events
from campus_tune.run.value_table import HARMFUL, HELPFUL
from campus_tune.words.errors import DataError
from campus_tune.words.tables import table, table_with_texts
from campus_tune.words.types import Json
from campus_tune.words.wording import cut, harmless

TOP = 10  # rows of each side that are shown
LONGEST = 24  # characters of a domain's name
HEADS = {HELPFUL: "Rows that helped the probes most:", HARMFUL: "Rows that harmed the probes most:"}


def read_run_values(run: Path) -> ValueFacts:
    """What a run's values say.

    Args:
        run: its output_dir, the `curriculum/` folder in it, or the ledger.

    Raises:
        DataError: there is no run, it is not over, it measured no values or could make nothing of them (it is said
            why), or what it left is damaged.
    """
    ledger = find_ledger(run)
    if ledger is None:
        raise DataError(f"`{run}` must hold a run's {FOLDER}/{FILE}, got none. Name the output_dir of a run.")
    events = read_events(ledger)
    facts = read_value(ledger.parent, [event for event in events if event["event"] == "value"])
    if facts is None:
        over = events[-1]["event"] == "end"
        asked = bool(events[0]["future"].get("campus: value"))
        if asked and not over:
            raise DataError(
                f"`{run}` must be a run that is over, for values are added up at its end, got one that goes on or was "
                "killed. Wait for it, or resume it from its last checkpoint."
            )
        if is_by_reward(events):
            raise DataError(
                f"`{run}` must be a run that was trained on answers, got one by reward, which measures no values. What "
                f"its answers showed of each prompt: campus_tune.open_run({str(run)!r}).prompts."
            )
        raise DataError(
            f"`{run}` must be a run that measured values, got one that did not. Train with `value: true` and probes, "
            "or ask what groups of rows are worth: campus-tune value --config recipe.yaml."
        )
    if not facts.rows:
        raise DataError(f"`{run}` must have values of its rows, got none: {facts.sentence} Train it anew to have them.")
    return facts


def as_text(facts: ValueFacts, *, width: int, top: int = TOP) -> str:
    """What a run's values say, for a terminal.

    Args:
        facts: of the run.
        width: of the terminal, in characters.
        top: rows of each side that are shown, at most.
    """
    sentence = harmless(facts.sentence)
    parts = [f"{sentence[:1].upper()}{sentence[1:].rstrip('.')}.", reliability_text(facts)]
    if facts.not_valued:
        parts[-1] += f"\nRows without a value: {facts.not_valued}"
    if facts.transfer is not None:
        parts.append(transfer_text(facts.transfer))
    parts += [rows_text(head, facts.of_side(side)[:top], width) for side, head in HEADS.items() if facts.of_side(side)]
    return "\n\n".join(parts)


def as_document(facts: ValueFacts, *, top: int = TOP) -> Json:
    """The same for a program: numbers in full.

    Args:
        facts: of the run.
        top: rows of each side, at most.
    """
    heat = facts.transfer
    return {
        "sentence": facts.sentence,
        "rows": facts.rows,
        "negative": facts.negative,
        "not_valued": facts.not_valued,
        "split_half": facts.split_half,
        "transfer": None if heat is None else {**vars(heat), "sure": heat.clear},
        "visits": facts.visits,
        **{side: facts.of_side(side)[:top] for side in HEADS},
    }


def reliability_text(facts: ValueFacts) -> str:
    """How far halves of the probes agree on the rows, of all of them and of each domain."""
    lines = [
        [
            "all probes" if name == ALL else _name(name),
            *("-" if one is None else f"{one:.2f}" for one in (of.value, of.low, of.high, of.inside)),
        ]
        for name, of in facts.split_half.items()
    ]
    return "\n".join(
        [
            "How far halves of the probes agree on the rows (split-half reliability, 1 is fully):",
            table(["probes", "value", "from", "to", "inside of domains, per token"], lines),
        ]
    )


def transfer_text(transfer: Heat) -> str:
    """What domains did to each other; what may be chance is marked."""
    heat, unit = scaled(transfer)
    chance = np.isfinite(heat.values) & ~heat.clear
    lines = [
        [
            _name(name),
            *(
                f"{value:.2f}{'?' if doubt else ' '}" if np.isfinite(value) else "-"
                for value, doubt in zip(heat.values[row], chance[row], strict=True)
            ),
        ]
        for row, name in enumerate(heat.rows)
    ]
    mark = "\n? may be chance" if chance.any() else ""
    head = f"What a trained row of each domain did to each probe domain{unit} (above 0 it helped):"
    return f"{head}\n{table(['rows of', *map(_name, heat.columns)], lines)}{mark}"


def rows_text(head: str, rows: Sequence[FarRow], width: int) -> str:
    """Rows of one side with as much of their texts as there is room for.

    Args:
        head: above them.
        rows: the furthest first.
        width: of the terminal, in characters.
    """
    columns = {
        "row": [str(row.row) for row in rows],
        "domain": [_name(row.domain) for row in rows],
        "value": [f"{row.value:.2g}" for row in rows],
        "halves": [" ".join(f"{half:.2g}" for half in row.halves) for row in rows],
        "visits": [str(row.visits) for row in rows],
    }
    if not any(columns["domain"]):
        del columns["domain"]
    texts = [harmless(_text(row, width)) for row in rows]
    return f"{head}\n{table_with_texts(list(columns), list(zip(*columns.values(), strict=True)), texts, width=width)}"


def _text(row: FarRow, width: int) -> str:
    asked = cut(" ".join(row.prompt.split()), width // 3)
    answer = " ".join((row.answer or row.text).split())
    return f"{asked} → {answer}" if asked else answer


def _name(name: str) -> str:
    return harmless(cut(name, LONGEST))
