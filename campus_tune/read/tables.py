"""The tables of a run as pandas DataFrames: which columns each has, and how the ledger's lines become them.

A table has its columns whatever a run has done: one that measured no probes has an empty table of probes, with the same
columns and types, so that code written for one run goes on with another. What is not known of a line is NaN (None in
columns of words).

>>> table("probes", []).columns.tolist()
['step', 'stage', 'domain', 'loss', 'competence', 'rows', 'ece']
>>> table("costs", [{"purpose": "probes", "share": 0.01}]).seconds.isna().tolist()
[True]
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import pandas as pd
from numpy.typing import NDArray

from campus_tune.read.finished import moved_shares, weight_numbers
from campus_tune.run.ledger_fields import FIELDS
from campus_tune.run.ledger_lines import audit_of
from campus_tune.words.types import Json

Values: TypeAlias = Sequence[object] | NDArray[Any]  # of a column

# A column's type, for tables without lines too. What is "int" or "bool" is known of every line.
_WHOLE, _NUMBER, _TEXT, _YES, _OF_FEW, _KEY = "int64", "float64", "object", "bool", "category", "uint64"

# of the map, which others repeat
_ROW = {
    "row": (_WHOLE, "number of the row in the training set, as the trainer prepared it, from 0"),
    "key": (_TEXT, "hash of what the row says, 16 hex digits: the same in every run and in the user's own file"),
    "domain": (_OF_FEW, "its domain; None without"),
    "region": (_OF_FEW, "where it lies on the map: learned, suspect, …; None where one forward was all that was asked"),
    "visits": (_NUMBER, "how often it was trained"),
    "mean_loss": (_NUMBER, "mean over its visits of the loss of its answer, nats per token"),
    "lowest_probability": (_NUMBER, "of a token of its answer, the mean over visits"),
    "excess": (
        _NUMBER,
        "loss beyond that of like rows at the same moment, in their spreads: what suspicion is made of",
    ),
    "spread": (_NUMBER, "of the excess over its visits"),
    "suspect": (_YES, "it looks wrong: it stands out further than chance"),
    "contradicting": (_YES, "the same prompt has another answer elsewhere"),
    "duplicate_of": (_NUMBER, "the earlier row that says the same; NaN of any other row"),
}
_STAGE = {
    "stage": (_WHOLE, FIELDS["decision"]["stage"]),
    "step": (_WHOLE, "optimizer steps before it"),
}


def _fields(event: str, *, of: str = "", **kinds: str) -> dict[str, tuple[str, str]]:
    """Columns that are fields of the ledger, with the ledger's own words for them.

    Args:
        event: whose fields.
        of: the field that they stand in.
        kinds: the type of each.
    """
    return {name: (kind, FIELDS[event][f"{of}{name}"]) for name, kind in kinds.items()}


# table → column → (its type, what it says)
TABLES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "ledger": {
        "line": (_WHOLE, "number of the line in ledger.jsonl, from 1; its other keys are columns as they stand there"),
        "event": (_TEXT, "what it tells of: run, decision, stage_end, probes, …, end"),
        "step": (_NUMBER, "optimizer steps before it"),
        "stage": (_NUMBER, "of the stage that it tells of"),
    },
    "decisions": {
        **_STAGE,
        **_fields("decision", steps=_WHOLE, epoch=_WHOLE, chosen=_TEXT, outcome=_TEXT),
        "scope_from": (_NUMBER, "where the open part of the order begins, a share of the rows, easy to hard"),
        "scope_to": (_NUMBER, "where it ends"),
        **_fields("decision", rows=_WHOLE, random_rows=_WHOLE, repeated_rows=_WHOLE, margin=_NUMBER),
        **_fields("stage_end", train_loss=_NUMBER, learning_rate=_NUMBER),
        "checked": (_NUMBER, "steps so far whose rows were compared with the plan"),
        "passed": (_NUMBER, "of them, those that trained what was planned"),
        "cost": (_NUMBER, "measuring so far, as a share of the compute of training"),
    },
    "offers": {
        **_STAGE,
        "name": (_TEXT, "the sub-curriculum that offered rows"),
        "chosen": (_YES, "they were trained"),
        **_fields("decision", of="offers.", loss=_NUMBER, stderr=_NUMBER, perplexity=_NUMBER, sampled_rows=_NUMBER),
    },
    "probes": {
        "step": (_WHOLE, "optimizer steps before the measurement"),
        "stage": (_NUMBER, "stages that were over; NaN at the start"),
        "domain": (_TEXT, "of the probe"),
        **_fields("probes", of="domains.", loss=_NUMBER, competence=_NUMBER, rows=_NUMBER, ece=_NUMBER),
    },
    "evaluations": {
        "step": (_WHOLE, "optimizer steps before it"),
        "task": (_TEXT, "official task"),
        "metric": (_TEXT, "of the task"),
        **_fields("evaluation", of="scores.", value=_NUMBER, stderr=_NUMBER),
    },
    "costs": {
        "purpose": (
            _TEXT,
            "what was measured; `all` is the sum that the budget bounds, `training` the training itself",
        ),
        "share": (_NUMBER, "of the compute of training"),
        "seconds": (_NUMBER, "on the clock"),
    },
    "scores": {"row": (_WHOLE, "number of the row; then a column for each metric: its score, higher is harder")},
    "visits": {
        "stage": (_WHOLE, "number of the stage that trained it, from 0"),
        "step": (_WHOLE, "number of the optimizer step, from 1"),
        "row": _ROW["row"],
        "tokens": (_WHOLE, "of its answer, that carry loss"),
        "loss": (_NUMBER, "mean over them in the training forward, nats"),
        "worst": (_NUMBER, "loss of the token that the model was least sure of, nats"),
        "surprise": (_NUMBER, "Σ (1 − p) over them, an upper bound of the gradient's norm to a factor"),
    },
    "book": {
        "row": _ROW["row"],
        "cell": (_OF_FEW, "the domain and length inside which it is compared"),
        "visits": (_WHOLE, "how often it was trained"),
        "step": (_NUMBER, "number of the optimizer step that trained it last"),
        "stage": (_NUMBER, "the stage that trained it last"),
        "last": (_NUMBER, "loss of that visit, nats per token"),
        "best": (_NUMBER, "the lowest of its losses"),
        "surprise": (_NUMBER, "Σ (1 − p) of its last visit"),
        "excess": (_NUMBER, "mean over visits of its loss beyond that of its cell, in spreads"),
    },
    "map": {
        **_ROW,
        "cell": (_OF_FEW, "the domain and length inside which it was compared"),
        "content": (_KEY, "hash of its tokens"),
        "first_step": (_NUMBER, "number of the optimizer step that trained it first"),
        "last_step": (_NUMBER, "and last"),
        "first_loss": (_NUMBER, "of its first visit, nats per token"),
        "last_loss": (_NUMBER, "of its last visit"),
        "mean_probability": (_NUMBER, "of the tokens of its answer"),
    },
    "suspects": {
        **{name: _ROW[name] for name in ("row", "key", "domain", "excess", "spread", "visits", "mean_loss")},
        "contradicting": _ROW["contradicting"],
        "prompt": (_TEXT, "what is asked; None where the run did not keep it (`open_run(…, data=…)` looks it up)"),
        "answer": (_TEXT, "the rest of the row"),
        "said": (_TEXT, "the token of the answer of which the model was least sure"),
        "rather": (_TEXT, "the model's own most likely token there"),
        "rather_probability": (_NUMBER, "of that token"),
        "before": (_TEXT, "the answer's last words before that place"),
    },
    "dropped": {
        "row": _ROW["row"],
        "reason": (_TEXT, "why it was left out"),
        "key": _ROW["key"],
        "domain": _ROW["domain"],
        "instead": (_NUMBER, "the row that was kept in its place"),
        "text": (_TEXT, "what it says, cut"),
    },
    "weights": {
        **_STAGE,
        **_fields("stage_end", of="weights.", mean=_NUMBER, min=_NUMBER, max=_NUMBER, ess=_NUMBER, half=_NUMBER),
        **_fields("stage_end", weighted_loss=_NUMBER),
        "clipped": (_NUMBER, "optimizer steps whose gradient was clipped"),
        "steps": (_NUMBER, "of the optimizer"),
    },
    "shares": {
        **_STAGE,
        "stratum": (_TEXT, "domain or cell that rows are drawn from"),
        "share": (_NUMBER, "of the stage's offered and mixed rows"),
        "passes": (_NUMBER, "over it when the stage was opened"),
    },
    "moved": {
        **_STAGE,
        "stratum": (_TEXT, "domain or cell"),
        **_fields("shares", before=_NUMBER, after=_NUMBER, signal=_NUMBER),
    },
    "firings": {
        "step": (_WHOLE, "optimizer steps before it"),
        "stage": (_WHOLE, "number of the stage, from 0"),
        **_fields("event", kind=_TEXT, name=_TEXT, probe=_TEXT, value=_NUMBER, bound=_NUMBER, against=_NUMBER),
        **_fields("event", actions=_TEXT, times=_WHOLE),
    },
    "groups": {
        **_STAGE,
        **_fields("stage_end", generation=_NUMBER),
        "groups": (_WHOLE, FIELDS["stage_end"]["groups.n"]),
        **_fields("stage_end", of="groups.", without_gradient=_NUMBER, shuffled=_NUMBER, untried=_NUMBER),
        **_fields("stage_end", pass_rate=_NUMBER, reward=_NUMBER, generated_tokens=_NUMBER),
        "prediction_correlation": (_NUMBER, "of predicted pass rates with what answers showed, a rank correlation"),
    },
    "pass_rates": {
        **_STAGE,
        "by": (_TEXT, "`domain` or `band`: the fifth of the pass rate that was expected"),
        "name": (_TEXT, "of the domain; of a band the rates that it holds: `0-20 %`"),
        **_fields("stage_end", of="by_domain.", groups=_WHOLE, pass_rate=_NUMBER, without_gradient=_NUMBER),
    },
    "answers": {
        "stage": (_WHOLE, "number of the stage, from 0"),
        "generation": (_WHOLE, "number of the generation, from 0"),
        "row": (_WHOLE, "number of the prompt in the training set, from 0"),
        "answer": (_WHOLE, "number of the answer inside of its group, from 0"),
        "reward": (_NUMBER, "weighted sum over the reward functions; NaN where it was not scored"),
        "expected": (_NUMBER, "the pass rate that was expected of the prompt when the stage was opened"),
        "without_gradient": (_YES, "all answers of its group earned the same"),
    },
    "prompts": {
        "row": (_WHOLE, "number of the prompt in the training set, from 0"),
        "domain": (_OF_FEW, "its domain; None without"),
        "region": (_OF_FEW, "middle, always_passed, never_passed, contradicts_itself, not_scored, never_drawn"),
        "visits": (_WHOLE, "how often it was drawn: groups of answers"),
        "without_gradient": (_WHOLE, "of them, those whose answers all earned the same"),
        "tries": (_WHOLE, "answers that were scored"),
        "pass_rate": (_NUMBER, "share of them that passed"),
        "mean_reward": (_NUMBER, "mean of their weighted rewards"),
        "first_pass_rate": (_NUMBER, "of its first group"),
        "last_pass_rate": (_NUMBER, "of its last group"),
        "last_generation": (_WHOLE, "that it was drawn in last; -1 for never"),
        "contradicting": (_WHOLE, "groups in which the same answer earned different rewards"),
        "predicted": (_NUMBER, "the pass rate that was expected of it at the run's end"),
    },
    "values": {
        "row": _ROW["row"],
        "key": _ROW["key"],
        "domain": _ROW["domain"],
        "value": (_NUMBER, "what it was worth to the probes, above 0 it helped; of each probe domain in `value NAME`"),
        "a": (_NUMBER, "the same by one half of the probes"),
        "b": (_NUMBER, "by the other"),
        "visits": (_NUMBER, "that were valued"),
    },
}


def table(name: str, lines: Sequence[Json] | Mapping[str, Values]) -> pd.DataFrame:
    """Lines, or whole columns, as the table of that name.

    Args:
        name: in `TABLES`.
        lines: of it; what one says beside the table's columns is left out, columns are all kept.
    """
    wanted = TABLES[name]
    if not isinstance(lines, Mapping):
        lines = {column: [line.get(column) for line in lines] for column in wanted}
    # as objects first: pandas would make a type of its own of words, and NaN of a None among them
    found = pd.DataFrame(
        {column: pd.Series(values, dtype=getattr(values, "dtype", object)) for column, values in lines.items()}
    )
    found = found.reindex(columns=[*wanted, *(column for column in found if column not in wanted)])
    return found.astype({column: kind for column, (kind, _) in wanted.items()})


def meanings() -> pd.DataFrame:
    """All tables and their columns, with what each says."""
    lines = [(name, column, what) for name, columns in TABLES.items() for column, (_, what) in columns.items()]
    return pd.DataFrame(lines, columns=["table", "column", "meaning"])


def whole_ledger(events: Sequence[Json]) -> pd.DataFrame:
    """A line for each of the ledger's, a column for each key that any of them has."""
    keys = list(dict.fromkeys(key for event in events for key in event))
    columns: dict[str, Values] = {"line": range(1, len(events) + 1)}
    return table("ledger", columns | {key: [event.get(key) for event in events] for key in keys})


def lines_of_decisions(events: Sequence[Json]) -> Iterator[Json]:
    """A line for each stage."""
    ends = {event["stage"]: event for event in events if event["event"] == "stage_end"}
    for decision in of(events, "decision"):
        end = ends.get(decision["stage"], {})
        checked, passed, _ = audit_of(end) if "audit" in end else (None, None, False)
        yield {
            "random_rows": 0,
            "repeated_rows": 0,
            **decision,
            **dict(zip(("scope_from", "scope_to"), decision["scope"], strict=True)),
            **{name: end.get(name) for name in ("train_loss", "learning_rate")},
            "checked": checked,
            "passed": passed,
            "cost": end.get("cost", {}).get("all"),
        }


def lines_of_offers(events: Sequence[Json]) -> Iterator[Json]:
    """A line for each offer at each decision, of those that were measured."""
    for decision in of(events, "decision"):
        when = {name: decision[name] for name in ("stage", "step")}
        for offer in decision.get("offers", []):
            if (loss := offer.get("loss")) is not None:
                known = {"perplexity": math.exp(min(loss, 700.0)), **offer}
                yield {**known, **when, "chosen": offer["name"] == decision["chosen"]}


def lines_of_probes(events: Sequence[Json]) -> Iterator[Json]:
    """A line for each domain at each measurement."""
    for event in of(events, "probes"):
        for domain, measured in event["domains"].items():
            yield {"step": event["step"], "stage": event.get("stage"), "domain": domain, **measured}


def lines_of_evaluations(events: Sequence[Json]) -> Iterator[Json]:
    """A line for each metric of each task each time."""
    ends = {event["stage"]: event["step"] + event["steps"] for event in of(events, "decision")}
    for event in of(events, "evaluation"):
        before = [end for stage, end in ends.items() if stage < event.get("stage", 0)]
        for task, metrics in event["scores"].items():
            for metric, measured in metrics.items():
                name = metric.split(",")[0]  # lm-eval's filter stands behind it
                yield {"step": event.get("step", max(before, default=0)), "task": task, "metric": name, **measured}


def lines_of_costs(events: Sequence[Json]) -> list[Json]:
    """A line for each purpose, as the last line that says it has them."""
    told = next((event for event in reversed(events) if "cost" in event), {})
    cost, seconds = told.get("cost", {}), {k: v for k, v in told.get("seconds", {}).items() if k != "share"}
    purposes = [*(name for name in {**cost, **seconds} if name != "all"), *(["all"] if "all" in cost else [])]
    return [{"purpose": name, "share": cost.get(name), "seconds": seconds.get(name)} for name in purposes]


def lines_of_weights(events: Sequence[Json]) -> Iterator[Json]:
    """A line for each stage whose rows were weighted."""
    began = {event["stage"]: event["step"] for event in of(events, "decision")}
    for end in of(events, "stage_end"):
        if found := weight_numbers(end):
            yield {"stage": end["stage"], "step": began[end["stage"]], **found["numbers"]}


def lines_of_groups(events: Sequence[Json]) -> Iterator[Json]:
    """A line for each stage that has answers."""
    began = {event["stage"]: event["step"] for event in of(events, "decision")}
    for end in of(events, "stage_end"):
        if "groups" in end:
            correlation = (end.get("prediction") or {}).get("correlation")
            counts = {**end["groups"], "groups": end["groups"]["n"], "prediction_correlation": correlation}
            yield {**end, **counts, "step": began[end["stage"]]}


def lines_of_pass_rates(events: Sequence[Json]) -> Iterator[Json]:
    """A line for each domain and each band of each stage that has answers."""
    began = {event["stage"]: event["step"] for event in of(events, "decision")}
    for end in of(events, "stage_end"):
        when, bands = {"stage": end["stage"], "step": began.get(end["stage"])}, end.get("by_band", [])
        fifths = [f"{100 * i // len(bands)}-{100 * (i + 1) // len(bands)} %" for i in range(len(bands))]
        yield from ({**when, "by": "domain", "name": name, **shown} for name, shown in end.get("by_domain", {}).items())
        yield from ({**when, "by": "band", "name": name, **shown} for name, shown in zip(fifths, bands, strict=True))


def lines_of_shares(events: Sequence[Json]) -> Iterator[Json]:
    """A line for each stratum of each stage, where a recipe says who is drawn."""
    for decision in of(events, "decision"):
        shares, passes = decision.get("shares", {}), decision.get("passes", {})
        when = {name: decision[name] for name in ("stage", "step")}
        for name in {**shares, **passes}:
            yield {**when, "stratum": name, "share": shares.get(name), "passes": passes.get(name)}


def lines_of_moved(events: Sequence[Json]) -> Iterator[Json]:
    """A line for each stratum each time that the record has moved its share."""
    for event in of(events, "shares"):
        yield from moved_shares(event)


def of(events: Iterable[Json], name: str) -> list[Json]:
    """The lines that tell of one thing."""
    return [event for event in events if event["event"] == name]
