"""The lines of a ledger, read back: whole, and with what `report` and `diff` take for granted in each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from campus_tune.method.weighed import BARS
from campus_tune.run.ledger import FILE, FOLDER, audited
from campus_tune.run.saved_state import FIRING
from campus_tune.words.errors import DataError
from campus_tune.words.json_shapes import misshapen, parse
from campus_tune.words.types import Json

NUMBERS: dict[Any, Any] = {str: float}
MAYBE = (float, None)
SHARE: dict[Any, Any] = {"rows": int, "share": float, "low": float, "high": float}  # of wrong rows, with its interval
ESTIMATE: dict[Any, Any] = {**SHARE, "by_domain?": {str: SHARE}}
COST: dict[Any, Any] = {**NUMBERS, "all": float}
AUDIT = (  # once a list
    {"checked": int, "passed": int, "labels?": bool, "prompts?": bool, "generations?": [int, int]},
    [int, int],
    [int, int, object],
)
OFFER = {
    "name": str,
    **dict.fromkeys(("loss?", "stderr?", "perplexity?", "sampled_rows?", "trained_rows?"), MAYBE),
}

SIZES: dict[Any, Any] = {str: int}
LOOKED: dict[str, Any] = {"rows?": int, "share?": float, "low?": float, "high?": float, "seen?": bool}
WEIGHTS = {
    **dict.fromkeys(("mean", "min", "max", "ess"), float),
    "half?": float,
    "by_domain": NUMBERS,
    "histogram": [int] * len(BARS),
    "shut_out?": NUMBERS,
}
SHOWN: dict[str, Any] = {"groups": int, "pass_rate?": MAYBE, "without_gradient?": MAYBE}  # by groups of answers
GROUPS: dict[str, Any] = {"n": int, "without_gradient": float, "shuffled?": MAYBE, "untried?": int}
PREDICTION: dict[str, Any] = {
    "of?": str,
    "prompts?": int,
    **dict.fromkeys(("worth?", "correlation?", "gain?", "error?"), MAYBE),
    "used?": [str],
    "gains?": {str: MAYBE},
}
ANSWERED: dict[str, Any] = {  # of a run whose model answers prompts, at a stage's end and at its own
    "groups?": GROUPS,
    "pass_rate?": MAYBE,
    "generated_tokens?": int,
    "prediction?": (PREDICTION, None),
}
DRAWN_AT_START = {"cells?": SIZES, "dropped?": SIZES}

EVENTS: dict[str, Any] = {
    "run": {
        "past": {"n_rows": int},
        "future": {"total_steps": int, "campus: budget?": float},
        "rows_by_domain?": {str: int},
        "batch?": {"micro": int, "world": int, "accumulation": int, "cut?": str},
        "batching?": {"is?": str, "cut?": str, "why?": str},  # empty where prompts are trained
        **DRAWN_AT_START,
    },
    "resumed": {"step": int, **DRAWN_AT_START},
    "scores": {"metric": str},
    "health": {"names?": [str], "correlation?": [[MAYBE]]},
    "decision": {
        "stage": int,
        "step": int,
        "steps": int,
        "epoch": int,
        "chosen": str,
        "outcome": str,
        "scope": [float, float],
        "rows": int,
        "random_rows?": int,
        "repeated_rows?": int,
        "rows_by_choice?": {str: int},
        "offers?": [OFFER],
        "margin?": MAYBE,
        "lanes?": {"offer": int, "mix": int, "review": int},
        "shares?": NUMBERS,
        "offered?": int,
        "passed_over?": int,
        "passes?": NUMBERS,
        "shortage?": {str: str},
        "thin?": {"how": str, "by": str, "tau?": MAYBE, "known?": int, "ess?": float, "skipped?": str},
        "progress?": float,
        "reward?": ({"stage": int, "chosen": str, "value": float, "scaled": float}, None),
        "pi?": NUMBERS,
        "not_measured?": {"why": str, "tokens?": int, "left?": int, "compared_with?": MAYBE},
    },
    "event": {
        **FIRING,
        **dict.fromkeys(("value", "bound", "against"), MAYBE),  # null for what is no finite number
        "done?": {"rollback?": {"step?": int}, "stop?": {"said?": str}},
    },
    "shares": {"stage": int, "step": int, "before": NUMBERS, "after": NUMBERS, "signal": {str: MAYBE}},
    "stage_end": {
        "stage": int,
        "step": int,
        "train_loss?": MAYBE,
        "train_loss_by_domain?": {str: MAYBE},
        "learning_rate?": MAYBE,
        "audit?": AUDIT,
        "cost?": COST,
        "seconds?": NUMBERS,
        "weights?": WEIGHTS,
        "weighted_loss?": MAYBE,
        "clipped_steps?": ([int, int], None),
        "weights_audit?": [int, int],
        "level?": {str: (float, {str: [MAYBE]})},
        "generation?": int,
        **ANSWERED,
        "reward?": MAYBE,
        "rewards?": {str: {"mean": MAYBE, "std": MAYBE}},
        "by_domain?": {str: SHOWN},
        "by_band?": [SHOWN],
    },
    "act": {
        "stage": int,
        "step": int,
        "acts": [str],
        "would?": [str],
        "cannot?": str,
        "threshold": float,
        "spared": int,
        "why?": str,
        **LOOKED,
        "by_domain?": {str: LOOKED},
    },
    "suspects": {
        "stage": int,
        "step": int,
        "act": str,
        "dropped": int,
        "found?": int,
        "would_drop?": int,
        "threshold?": MAYBE,
        "by_domain?": SIZES,
        "bound?": {"by_domain": SIZES, "by_share": int},
        "rows?": [int],
        "unseen?": int,
        "why?": str,
    },
    "probes": {
        "step": int,
        "stage?": int,
        "domains": {str: {"competence": MAYBE, "loss?": MAYBE, "rows?": MAYBE, "ece?": MAYBE}},
    },
    "evaluation": {
        "stage?": int,
        "step?": int,
        "scores": {str: {str: {"value?": MAYBE, "stderr?": MAYBE}}},
    },
    "map": {
        "step?": int,
        "basis": str,
        "why?": str,
        "rows": int,
        "regions?": SIZES,
        "suspects?": int,
        "share_of_suspects?": float,
        "by_domain?": {str: {"rows": int, "suspects": int}},
        "threshold?": MAYBE,
        "sentence?": str,
        "dirt?": (ESTIMATE, None),
    },
    "prompt_map": {
        "step?": int,
        "rows": int,
        "regions": SIZES,
        "never_drawn": int,
        "by_domain?": {str: {"rows": int, "never_drawn": int, "pass_rate?": MAYBE}},
        "sentence": str,
    },
    "value": {
        "step?": int,
        "rows": int,
        "why?": str,
        "negative?": int,
        "not_valued?": int,
        "split_half?": MAYBE,
        "split_half_by_probe?": {str: MAYBE},
        "transfer?": {str: {str: MAYBE}},
        "sentence?": str,
    },
    "end": {
        "step": int,
        "visits?": int,
        "rows_seen?": int,
        "audit?": AUDIT,
        "budget?": float,
        "cost?": COST,
        "seconds?": NUMBERS,
        "ranks?": ({}, {"tokens": [float], "padding": [float]}),
        "padding?": {"share": float, "at_random": float, "cut?": str},
        "passes?": NUMBERS,
        "never_trained?": {"rows": int, "by_domain": SIZES},
        "dropped?": int,
        "visits_most?": int,
        "review_rows?": int,
        "suspects?": int,
        "weights_audit?": [int, int],
        "smallest_rise?": NUMBERS,
        "dirt?": ESTIMATE,
        "advice?": [{"line": str, "rows": [str]}],
        **ANSWERED,
    },
}

# What `diff` needs, which compares ledgers of any version: what is there must be of its type.
COMPARED: dict[str, Any] = {
    kind: {f"{name.removesuffix('?')}?": of for name, of in shape.items()} for kind, shape in EVENTS.items()
}
COMPARED["decision"] |= {"chosen": str, "lanes?": SIZES}
COMPARED["probes"] = {"stage?": int, "domains": {str: {"loss?": MAYBE, "rows?": MAYBE}}}


def is_by_reward(events: Sequence[Json]) -> bool:
    """Whether a run's model was trained by reward.

    Args:
        events: the lines of its ledger.
    """
    return any(event.get("task") == "prompts" for event in events[:1])


def find_ledger(run: Path) -> Path | None:
    """The ledger of a run: itself, or in the trainer's output_dir, or in the `curriculum/` in it; None without one."""
    return next((path for path in (run, run / FOLDER / FILE, run / FILE) if path.is_file()), None)


def read_events(path: Path, shapes: Mapping[str, Any] = EVENTS) -> list[Json]:
    """The whole lines of a ledger; a last line without its end is still being written and left out.

    Args:
        path: of the ledger.
        shapes: event → what its line must hold.

    Raises:
        DataError: it cannot be read, nothing is in it yet, or another line is damaged or of another shape.
    """
    try:
        lines = path.read_text("utf-8", errors="replace").split("\n")[:-1]
    except OSError as error:
        raise DataError(f"`{path}` must be readable, got {error.strerror or error}. Mend its rights.") from error
    events = []
    for number, line in enumerate(lines, 1):
        try:
            event: Json = parse(line)
            problem = misshapen(event, {"event": str, "warnings?": [str]})
            problem = problem or misshapen(event, shapes.get(event["event"], object))
            if problem:
                raise ValueError(problem)
            events.append(event)
        except ValueError as error:
            raise DataError(
                f"`{path}` line {number} must be one whole JSON object of a ledger, got something else ({error}). "
                "The file was changed or damaged, or another version wrote it: put the run's own ledger back."
            ) from error
    if not events or events[0]["event"] != "run":
        raise DataError(
            f"`{path}` must begin with the line of a run, got {'an empty ledger' if not events else 'another line'}. "
            "The run has not begun to train yet, or did not get that far: look at what it printed."
        )
    return events


def audit_of(event: Json) -> tuple[int, int, bool]:
    """(Steps compared, as planned, with their labels) by a line of the ledger, also as earlier versions wrote it.

    >>> audit_of({"audit": {"checked": 12, "passed": 12, "labels": True}}), audit_of({"audit": [12, 12]}), audit_of({})
    ((12, 12, True), (12, 12, False), (0, 0, False))
    """
    told = event.get("audit", {})
    if isinstance(told, dict):
        return told.get("checked", 0), told.get("passed", 0), bool(told.get("labels"))
    return told[0], told[1], len(told) > 2 and bool(told[2])


def audit_words(event: Json) -> str:
    """The order audit by a line of the ledger, in words; "" where no step was compared.

    >>> audit_words({"audit": [12, 12, 1]}), audit_words({})
    ('all 12 steps trained the planned rows, tokens and labels', '')
    """
    (checked, passed, labels), told = audit_of(event), event.get("audit", {})
    of_prompts = {name: told[name] for name in ("prompts", "generations") if name in told} if told else {}
    return audited(checked, passed, labels=labels, **of_prompts) if checked else ""
