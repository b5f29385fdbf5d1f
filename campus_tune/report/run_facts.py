"""Everything that the page of a run shows, read from what the run left behind; nothing is measured anew.

A run that is still going on can be read too: half of a last line is left out, and what has not happened yet is absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from campus_tune.compare.kinds import COMPARISON
from campus_tune.compare.result_file import RUNS
from campus_tune.method.curriculum import SHUFFLE
from campus_tune.preview.lr_mass import N_DECILES
from campus_tune.report.draw_facts import DrawFacts, read_draw, with_suspects
from campus_tune.report.examples import Extremes, read_extremes
from campus_tune.report.map_facts import MapFacts, read_map
from campus_tune.report.prompt_facts import PromptFacts, read_prompts
from campus_tune.report.steer_facts import SteerFacts, read_steer
from campus_tune.report.value_facts import ValueFacts, read_value
from campus_tune.report.weight_facts import WeightFacts, read_weights
from campus_tune.run.decile_rates import FILE as RATES
from campus_tune.run.ledger import FILE, FOLDER
from campus_tune.run.ledger_lines import MAYBE, audit_of, audit_words, read_events
from campus_tune.run.ledger_lines import find_ledger as ledger_in
from campus_tune.scores.cache import read_columns
from campus_tune.scores.run_scores import FOLDER as SCORES
from campus_tune.words.errors import CampusError, DataError
from campus_tune.words.json_shapes import read_json
from campus_tune.words.types import FloatArray, Json


@dataclass(frozen=True)
class Offered:
    """What a sub-curriculum offered at a decision, as far as it was measured.

    Args:
        loss: mean over answer tokens of the sampled rows, nats.
        stderr: of that loss, nats.
    """

    loss: float
    stderr: float


@dataclass(frozen=True)
class StageFacts:
    """One stage: its decision, and what its training showed if it is over.

    Args:
        index: from 0.
        step: optimizer steps before it.
        steps: it takes.
        epoch: from 0.
        chosen: the sub-curriculum, or `shuffle`.
        outcome: how the decision ended, in words.
        scope: part of the order that was open, two shares of the rows.
        rows: trained in it.
        random_rows: of them, drawn at random.
        repeated_rows: of them, trained before.
        offers: by sub-curriculum; only those that were measured.
        train_loss: mean over answer tokens of the stage's own forwards, nats; None where unknown.
        train_loss_by_domain: the same by domain.
    """

    index: int
    step: int
    steps: int
    epoch: int
    chosen: str
    outcome: str
    scope: tuple[float, float]
    rows: int
    random_rows: int
    repeated_rows: int
    offers: Mapping[str, Offered]
    train_loss: float | None
    train_loss_by_domain: Mapping[str, float]

    @property
    def end(self) -> int:
        """The step after its last."""
        return self.step + self.steps


@dataclass(frozen=True)
class ProbeFacts:
    """One measurement of the held-out probes.

    Args:
        step: optimizer steps before it.
        competence: exp(−mean loss), by domain, in [0, 1].
        calibration: expected calibration error, by domain, in [0, 1], where it was measured.
    """

    step: int
    competence: Mapping[str, float]
    calibration: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationFacts:
    """One evaluation of official tasks.

    Args:
        step: optimizer steps before it.
        scores: (task, metric) → (value, standard error or None).
    """

    step: int
    scores: Mapping[tuple[str, str], tuple[float, float | None]]


@dataclass(frozen=True)
class RunOnDisk:
    """What the page of a run shows.

    Args:
        folder: with the ledger.
        finished: the run came to its end.
        step: optimizer steps that are known to be trained.
        total_steps: of the run as planned.
        n_rows: of the training set.
        rows_by_domain: of the training set; {} without domains.
        choices: the sub-curricula in the recipe's sequence, and `shuffle` where a stage was shuffled.
        stages: in their sequence.
        probes: in their sequence.
        evaluations: in their sequence.
        scores: metric → score of every row before training, shape (N,), higher is harder.
        correlation_names: rows and columns of `correlation`.
        correlation: rank correlations; None where a side is constant.
        examples: metric → its easiest and hardest rows.
        rates: metric → mean learning rate of each tenth of the rows, easy to hard, NaN where none of it was trained.
        cost: shares of the training compute by purpose, and `all`.
        budget: the share that was allowed.
        seconds: on the clock, by purpose, and of training.
        audit: (steps that were checked, that trained the planned rows).
        audit_said: the same in words; "" where no step was checked.
        ranks: load of the ranks, from the ledger; {} with one.
        warnings: from the ledger, each once.
        end: the ledger's last word, {} while the run goes on.
        recipe: the resolved `campus:` block as YAML; "" where the file is missing.
        run: the ledger's first word: what the run was planned with.
        draw: who was drawn and which rows; None where the recipe says nothing of it.
        map: what training says of the rows; None of a run that goes on, or of before there were maps.
        weights: how much rows counted; None where all count alike.
        steer: what the record has made of the plan; None where nothing steered.
        value: what rows were worth to the probes; None where that was not measured.
        prompts: what answers to prompts have shown; None of a run that is not driven by reward.
    """

    folder: Path
    finished: bool
    step: int
    total_steps: int
    n_rows: int
    rows_by_domain: Mapping[str, int]
    choices: tuple[str, ...]
    stages: tuple[StageFacts, ...]
    probes: tuple[ProbeFacts, ...]
    evaluations: tuple[EvaluationFacts, ...]
    scores: Mapping[str, FloatArray]
    correlation_names: tuple[str, ...]
    correlation: tuple[tuple[float | None, ...], ...]
    examples: Mapping[str, Extremes]
    rates: Mapping[str, FloatArray]
    cost: Mapping[str, float]
    budget: float
    seconds: Mapping[str, float]
    audit: tuple[int, int]
    audit_said: str
    ranks: Json
    warnings: tuple[str, ...]
    end: Json
    recipe: str
    run: Json
    draw: DrawFacts | None
    map: MapFacts | None
    weights: WeightFacts | None
    steer: SteerFacts | None
    value: ValueFacts | None
    prompts: PromptFacts | None

    @property
    def noun(self) -> str:
        """What is trained, one of them."""
        return "row" if self.prompts is None else "prompt"

    @property
    def name(self) -> str:
        """The last two parts of its output_dir: many are called `run`."""
        out = self.folder.resolve()
        return "/".join((out.parent if out.name == FOLDER else out).parts[-2:])


def is_comparison(folder: Path) -> bool:
    """Whether a folder is that of a comparison."""
    return (folder / COMPARISON).is_file()


def find_ledger(folder: Path) -> Path:
    """The ledger of a run, whether the trainer's output_dir or the `curriculum/` in it is given.

    Raises:
        DataError: no such folder, the folder of a comparison, or no run in it.
    """
    if not folder.is_dir():
        raise DataError(f"`run` must be a folder, got {str(folder)!r}. Give the output_dir of a run or a comparison.")
    path = ledger_in(folder)
    if path is not None:
        return path
    if is_comparison(folder):
        raise DataError(
            f"`run` must be the folder of one run, got the comparison {str(folder)!r}. "
            f"Give one of {folder / RUNS}/ARM/seed-SEED, or the page of the comparison: campus-tune report {folder}."
        )
    raise DataError(
        f"`run` must be a folder with {FOLDER}/{FILE}, got {str(folder)!r} without. Give the output_dir of a run that "
        "trained with a campus: block, or the folder of a comparison."
    )


def read_run(folder: Path) -> RunOnDisk:
    """What a run left behind.

    Args:
        folder: the trainer's output_dir, or the `curriculum/` in it.

    Raises:
        DataError: no run is there, or its ledger is empty or damaged, or the map of its rows.
    """
    ledger = find_ledger(folder)
    home, events = ledger.parent, read_events(ledger)
    by_kind: dict[str, list[Json]] = {}
    for event in events:
        by_kind.setdefault(event["event"], []).append(event)
    run, end = events[0], by_kind.get("end", [{}])[-1]
    ends = {event["stage"]: event for event in by_kind.get("stage_end", [])}
    stages = tuple(_stage(event, ends.get(event["stage"], {})) for event in by_kind.get("decision", []))
    evaluations = []
    for event in by_kind.get("evaluation", []):
        # the ledger knows how many stages were trained before it; their last step is where it stands
        before = [stage.end for stage in stages if stage.index < event.get("stage", 0)]
        found = {
            (task, metric.split(",")[0]): (of["value"], of.get("stderr"))
            for task, metrics in event["scores"].items()
            for metric, of in metrics.items()
            if of.get("value") is not None
        }
        evaluations.append(EvaluationFacts(int(event.get("step", max(before, default=0))), found))
    began = [run, *(event for event in by_kind.get("resumed", []) if "dropped" in event)]
    last = end or by_kind.get("stage_end", [{}])[-1]
    checked, passed, _ = audit_of(last)
    scores, damaged = _scores(home, [event["metric"] for event in by_kind.get("scores", [])])
    health, recipe = by_kind.get("health", [{}])[-1], home / "recipe.yaml"
    return RunOnDisk(
        folder=home,
        finished=bool(end),
        step=int(last.get("step", 0)),
        total_steps=run["future"]["total_steps"],
        n_rows=run["past"]["n_rows"],
        rows_by_domain=run.get("rows_by_domain", {}),
        choices=_choices(by_kind.get("decision", [])),
        stages=stages,
        probes=tuple(
            ProbeFacts(
                event["step"],
                _known({name: of["competence"] for name, of in event["domains"].items()}),
                _known({name: of.get("ece") for name, of in event["domains"].items()}),
            )
            for event in by_kind.get("probes", [])
        ),
        evaluations=tuple(evaluations),
        scores=scores,
        correlation_names=tuple(health.get("names", ())),
        correlation=tuple(tuple(row) for row in health.get("correlation", ())),
        examples=read_extremes(home, scores),
        rates=_rates(home / RATES) if end else {},
        cost=last.get("cost", {}),
        budget=end.get("budget", run["future"].get("campus: budget", 0.0)),
        seconds=last.get("seconds", {}),
        audit=(checked, passed),
        audit_said=audit_words(last),
        ranks=last.get("ranks", {}),
        warnings=tuple(dict.fromkeys([*damaged, *(w for event in events for w in event.get("warnings", []))])),
        end=end,
        recipe=recipe.read_text("utf-8", errors="replace") if recipe.is_file() else "",
        run=run,
        draw=read_draw(home, with_suspects(began[-1], events), by_kind.get("decision", []), end),
        map=read_map(home, by_kind.get("map", []), by_kind.get("act", [])),
        weights=read_weights(by_kind.get("decision", []), ends, last),
        steer=read_steer(events),
        value=read_value(home, by_kind.get("value", [])),
        prompts=read_prompts(home, by_kind.get("decision", []), ends, by_kind.get("prompt_map", [])),
    )


def _stage(decision: Json, end: Json) -> StageFacts:
    measured = [offer for offer in decision.get("offers", []) if offer.get("loss") is not None and "stderr" in offer]
    return StageFacts(
        **{name: decision[name] for name in ("step", "steps", "epoch", "chosen", "outcome", "rows")},
        index=decision["stage"],
        scope=(decision["scope"][0], decision["scope"][1]),
        random_rows=decision.get("random_rows", 0),
        repeated_rows=decision.get("repeated_rows", 0),
        offers={offer["name"]: Offered(offer["loss"], offer["stderr"] or 0.0) for offer in measured},
        train_loss=end.get("train_loss"),
        train_loss_by_domain=_known(end.get("train_loss_by_domain", {})),
    )


def _choices(decisions: list[Json]) -> tuple[str, ...]:
    """Sub-curricula in the recipe's sequence; shuffling last, and only where a stage was shuffled."""
    if not decisions:
        return ()
    names = [name for name in decisions[-1].get("rows_by_choice", {}) if name != SHUFFLE]
    chosen = [event["chosen"] for event in decisions]
    return tuple(dict.fromkeys([*names, *(name for name in chosen if name != SHUFFLE), *sorted(set(chosen))]))


def _known(values: Mapping[str, float | None]) -> dict[str, float]:
    """Without what could not be measured."""
    return {name: value for name, value in values.items() if value is not None}


def _rates(path: Path) -> dict[str, FloatArray]:
    """What the run has left at its end; {} where that is nothing, or damaged."""
    try:
        found = read_json(path, {str: [MAYBE]})
    except (OSError, ValueError):
        return {}
    return {label: np.array(rates, dtype=np.float64) for label, rates in found.items() if len(rates) == N_DECILES}


def _scores(home: Path, labels: list[str]) -> tuple[dict[str, FloatArray], list[str]]:
    """Those whose files are there, for a run that goes on may not have written them yet; and what is wrong with others.

    A file that is damaged is left out of the page, and the page says so.
    """
    found: dict[str, FloatArray] = {}
    damaged = []
    for label in labels:
        path = home / SCORES / f"{label}.parquet"
        if not path.exists():
            continue
        try:
            scores = read_columns(path)[0]["score"]
            found[label] = np.asarray(scores, dtype=np.float64)
        except (CampusError, KeyError, ValueError) as error:
            damaged.append(f"{path.name} is left out of this page: {error}")
    return found, damaged
