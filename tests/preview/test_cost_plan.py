"""The promise of `budget`: it is kept, down to nothing, and the run says before its first step what it does without."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from campus_tune.cli.main import main
from campus_tune.data.domains import Domains
from campus_tune.data.prepared import TokenRows
from campus_tune.method.budget import FEWEST, Budget
from campus_tune.method.calibration import Calibration
from campus_tune.method.curriculum import Curriculum
from campus_tune.method.orders import order_rows
from campus_tune.metrics import Influence
from campus_tune.model import slopes
from campus_tune.model.peers import Peers
from campus_tune.model.probe_gradients import ProbeGradient
from campus_tune.model.probes import Probes
from campus_tune.model.slopes import Direction
from campus_tune.preview.cost_plan import CostFacts, budget_warnings, facts_of, needs, rests_on, unpaid_candidates
from campus_tune.preview.simulate import simulate
from campus_tune.recipe.config import CampusConfig
from campus_tune.run import probing as probing_module
from campus_tune.run.decide import Decider
from campus_tune.run.probing import MeasuredAt, Probing
from campus_tune.scores.asking import Asking
from campus_tune.scores.cache import ScoreCache
from campus_tune.scores.directions import Directions
from campus_tune.scores.passages import Passages
from campus_tune.scores.planning import purposes, refreshes_to_come, stages_between
from campus_tune.scores.rescore import Rescorer
from campus_tune.scores.run_scores import Scores
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import IntArray, Json, RowLosses, RowTexts
from tests.losses import losses_of
from tests.run.tiny_run import RECIPE, task_rows, tiny_trainer
from tests.run.witness import events
from tests.strategies import examples

DIRECTION = Direction(ProbeGradient({"w": torch.ones(1)}, 1.0, 1), 0.5, 1.0)
TOO_SMALL = "the budget is too small for this run"

# -- any small run, without a model --------------------------------------------------------------------------------


class Meter:
    """Losses by a rule."""

    tick: Any = None
    seconds, spared = 0.0, 0

    def __init__(self, rows: TokenRows) -> None:
        self.tokens, self.answers = rows.tokens, rows.answer_tokens
        self.per_token = np.random.default_rng(7).uniform(0.5, 4.0, len(rows))

    def losses(self, rows: IntArray) -> RowLosses:
        answers = self.answers[rows]
        return losses_of(self.per_token[rows] * answers, answers, np.zeros(len(rows), dtype=np.int64))

    def measure(self, rows: IntArray, *, reader: Any = None, width: int = 0) -> Any:
        assert reader is None
        return mock.Mock(losses=self.losses(rows), read=np.zeros((len(rows), width)), asked=None)


class ProbeMeter:
    """Losses of the probes by a rule."""

    def __init__(self, _: Any, probes: Probes, chosen: Any, peers: Peers) -> None:
        assert peers.leads
        self.meter, self.chosen = Meter(probes.rows), chosen
        self.tokens = int(sum(probes.rows.tokens[rows].sum() for rows in chosen.values()))

    def measure(self) -> tuple[dict[str, RowLosses], dict[str, Calibration]]:
        losses = {domain: self.meter.losses(rows) for domain, rows in self.chosen.items()}
        return losses, dict.fromkeys(losses, Calibration(0.1, 0.5, []))


def rows_of(n: int, rng: np.random.Generator) -> TokenRows:
    answers = rng.permutation(n) + 2 + (rng.pareto(1.5, n) * 20).astype(np.int64)
    ids = np.arange(n, dtype=np.uint64)
    return TokenRows(answers + rng.integers(1, 40, n), answers, ids, np.zeros(n, dtype=np.int64), ids, ids, ids)


@dataclass(frozen=True)
class Small:
    """A small run: its recipe, rows, batch, epochs, and the sizes of its probes' domains."""

    recipe: Json
    n_rows: int
    batch: int
    epochs: float
    probes: tuple[int, ...]
    seed: int


@st.composite
def small_runs(draw: st.DrawFn) -> Small:
    probes = draw(st.lists(st.integers(1, 30), max_size=4))
    metrics = ["length", "random", "loss", "-length", *(["influence"] if probes else [])]
    selectors = ["round_robin", "lowest_perplexity", "relative_perplexity", *(["matched"] if probes else [])]
    recipe = {
        "metrics": draw(st.lists(st.sampled_from(metrics), min_size=1, unique=True)),
        "selector": draw(st.sampled_from(selectors)),
        "stages": draw(st.integers(1, 30)),
        "window": draw(st.sampled_from(["prefix", "slice"])),
        "coverage": draw(st.sampled_from(["exact", "revisit"])),
        "mix": draw(st.sampled_from([0.0, 0.5])),
        "handover": draw(st.sampled_from([0.0, 0.3, 0.6, 1.0])),
        "rescore": draw(st.integers(0, 5)),
        "budget": draw(st.sampled_from([0.0, 0.001]) | st.floats(0.005, 3.0)),
        "within": "none",
    }
    epochs = draw(st.sampled_from([0.4, 1.0, 2.0]))
    return Small(
        recipe, draw(st.integers(24, 400)), draw(st.integers(1, 8)), epochs, tuple(probes), draw(st.integers(0, 9))
    )


CHEAPEST = {"selector": "round_robin", "stages": 1, "handover": 0.0, "rescore": 0, "within": "none"}


@contextmanager
def probes_of(run: Small, rng: np.random.Generator) -> Iterator[Probes]:
    ends = np.cumsum([0, *run.probes])
    domains = {f"d{i}": np.arange(a, b) for i, (a, b) in enumerate(pairwise(ends))}
    probes = Probes(None, rows_of(int(ends[-1]), rng), domains)
    with (
        mock.patch.object(probing_module, "load_probes", return_value=probes),
        mock.patch.object(probing_module, "refuse_overlap"),
        mock.patch.object(probing_module, "ProbeMeter", ProbeMeter),
        mock.patch.object(Rescorer, "_save"),
        mock.patch.object(Directions, "make", return_value=DIRECTION),
        mock.patch.object(slopes, "losses_along", lambda meter, _, rows, lengths: [meter.losses(rows)] * len(lengths)),
        mock.patch.object(Influence, "from_losses", lambda _, losses: losses[0].tokens + 0.5),  # of which no two agree
    ):
        yield probes


@dataclass(frozen=True)
class Bill:
    """What a run has spent and may spend, in forward tokens, what it said before its first step, and its choices."""

    spent: float
    total: float
    said: list[str]
    decisions: list[Json]
    measured: dict[str, int]

    @property
    def small(self) -> bool:
        """It measured less than half of the fewest rows of everything, and said so."""
        return bool(self.said) and (TOO_SMALL in self.said[0] or "measures nothing" in self.said[0])


def cost_of(run: Small) -> Bill:
    """A run of small numbers, without a model."""
    rng = np.random.default_rng(run.seed)
    with probes_of(run, rng) as probes:
        return _cost_of(run, rng, probes)


def _cost_of(run: Small, rng: np.random.Generator, probes: Probes) -> Bill:
    given = CampusConfig.from_mapping({**run.recipe, "scores": "none"})
    config = given.resolved(has_probes=bool(run.probes), domain_in_data=False, seed=run.seed)
    rows, per_epoch = rows_of(run.n_rows, rng), -(-run.n_rows // run.batch)
    total = max(1, round(run.epochs * per_epoch))
    texts = RowTexts([str(i) for i in range(len(rows))], rows.answer_tokens, rows.tokens - rows.answer_tokens, {})
    meter: Any = Meter(rows)
    found = Directions(None, probes, Peers(), seed=run.seed, ratio=0.5) if "influence" in config.labels else None
    passages = Passages(None, [{}] * len(rows), rows, meter, ScoreCache(None), Peers(), directions=found)
    passages.known.__dict__["_identity"] = {"model": "m", "adapter": None, "template": "t", "precision": "no"}

    def refreshes(step: int) -> int:
        return refreshes_to_come(config, total, per_epoch, step=step)

    def stages(step: int, end: int) -> int:
        return stages_between(config, per_epoch, step, end)

    training_tokens = total / per_epoch * float(rows.tokens.sum())
    budget = Budget(config.budget, training_tokens, 0.5, purposes(config, refreshes(0)))
    domains = Domains.read(mock.Mock(column_names=[]), "none")
    source = "probes" if run.probes else None
    probing = Probing(source, config, None, rows, domains, budget, Peers(), n_stages=stages(0, total))
    scoring = Asking(config, texts, passages, budget, n_refreshes=refreshes(0))
    facts = facts_of(scoring, probing.probes, total, per_epoch)
    budget.fit(needs(config, budget, facts), rests_on(config))
    if budget.caps is not None:
        probing.choose()
    scores = scoring.start()
    probing.spare()
    said = budget_warnings(config, budget, facts)
    orders = {label: order_rows(of, seed=run.seed) for label, of in scores.by_label.items() if label in config.labels}
    curriculum = Curriculum(config.schedule(), orders, n_rows=len(rows), global_batch=run.batch, total_steps=total)
    decider = Decider(config.build_selector(), meter, scores, budget, rows.tokens, Peers())
    rescorer = Rescorer(scoring, scores, curriculum, rows, Path())
    decisions: list[Json] = []
    shown: Any = None
    while not curriculum.finished:
        if curriculum.needs_decision:
            if probing.due(curriculum.n_stages):
                probing.measure(MeasuredAt(curriculum.n_stages, curriculum.step, 0.0, 0.0, 0))
            if rescorer.due():
                rescorer.again(1 + refreshes(curriculum.step))
            reserved = stages(curriculum.step, total) // probing.every * float(probing.tokens)
            if refreshes(curriculum.step):
                reserved += sum(budget.per_time(purpose, 1) for purpose in budget.to_come)
            allowance = budget.per_decision(stages(curriculum.step, curriculum.handover_step), reserved)
            decisions.append(decider.decide(curriculum, probe_loss=probing.loss, allowance=allowance, shown=shown))
            assert curriculum.stage is not None
            trained = np.unique(curriculum.stage.rows).astype(np.int64)
            shown = trained, meter.losses(trained)
        assert sum(budget.spent.values()) <= budget.total + 1e-6  # at every moment
        curriculum.advance()
    probing.measure(MeasuredAt(curriculum.n_stages, curriculum.step, 0.0, 0.0, 0))
    return Bill(sum(budget.spent.values()), budget.total, said, decisions, dict(budget.spent))


@examples(40)
@given(small_runs())
def test_a_run_keeps_its_budget_whatever_it_is(run: Small) -> None:
    bill = cost_of(run)
    assert bill.spent <= bill.total + 1e-6
    if not bill.small:  # everything is measured
        assert not any("not_measured" in decision for decision in bill.decisions[:1])
    for decision in bill.decisions:
        if "selection_tokens" in decision and decision["outcome"] == "losses of training":
            assert decision["selection_tokens"] == 0


@examples(15)
@given(small_runs())
@example(Small({**CHEAPEST, "metrics": ["loss"], "budget": 0.001}, n_rows=352, batch=1, epochs=0.4, probes=(), seed=0))
def test_a_budget_that_is_named_as_large_enough_is(run: Small) -> None:
    said = cost_of(run).said
    if not said or TOO_SMALL not in said[0]:
        return
    least, usual = re.findall(r"budget: ([0-9.]+)[ ;]", said[0].split("Write ")[1].replace(" pays", ";"))
    for budget in (float(least), float(usual)):
        if budget <= 10:  # the most that a recipe takes
            again = cost_of(Small(**{**vars(run), "recipe": {**run.recipe, "budget": budget}}))
            assert again.spent <= again.total + 1e-6
            assert not again.small


@examples(15)
@given(small_runs())
def test_a_budget_of_nothing_measures_nothing_and_plans_as_simulated(run: Small) -> None:
    bill = cost_of(Small(**{**vars(run), "recipe": {**run.recipe, "budget": 0.0}}))
    assert set(bill.measured.values()) == {0}
    config = CampusConfig.from_mapping({**run.recipe, "budget": 0.0, "seed": run.seed})
    if config.selector_name in ("lowest_perplexity", "matched"):
        return  # they go by what training shows, which a made-up learner does not know
    per_epoch = -(-run.n_rows // run.batch)
    orders = orders_of(run)
    planned = simulate(
        config,
        n_rows=run.n_rows,
        global_batch=run.batch,
        total_steps=max(1, round(run.epochs * per_epoch)),
        orders={label: order for label, order in orders.items() if label not in ("loss", "influence")},
    )
    assert [(stage.chosen, stage.n_rows) for stage in planned.stages] == [
        (decision["chosen"], decision["rows"]) for decision in bill.decisions
    ]


def orders_of(run: Small) -> dict[str, IntArray]:
    """The orders of what costs nothing, as the run has them."""
    rows = rows_of(run.n_rows, _after_probes(run))
    texts = RowTexts([str(i) for i in range(len(rows))], rows.answer_tokens, rows.tokens - rows.answer_tokens, {})
    config = CampusConfig.from_mapping({**run.recipe, "seed": run.seed}).resolved(
        has_probes=bool(run.probes), domain_in_data=False, seed=run.seed
    )
    asking = Asking(config, texts, mock.Mock(), mock.Mock())
    scores = Scores()
    asking.add_texts(scores)
    return {label: order_rows(of, seed=run.seed) for label, of in scores.by_label.items()}


def _after_probes(run: Small) -> np.random.Generator:
    rng = np.random.default_rng(run.seed)
    rows_of(sum(run.probes), rng)
    return rng


# -- candidates that are measured before some of them are taken --------------------------------------------------------


def unpaid(share: float, **thin: Any) -> tuple[str, str] | None:
    """Of 1000 rows of 50 tokens, one epoch under LoRA: all candidates of `keep: 0.5` cost as much as the training."""
    block = {"how": "top", "by": "seen_loss", "keep": 0.5, "fresh": True, **thin}
    config = CampusConfig.from_mapping({"selector": "shuffle", "thin": block, "budget": share})
    facts = CostFacts(1000, 100, 100, row=50.0, scored=0.0, rescored=0.0, prompt=10.0, probes=None, candidate=50.0)
    return unpaid_candidates(config, Budget(share, 50_000.0, 0.5, purposes(config, 0)), facts)


def test_fresh_candidates_that_the_budget_cannot_pay_are_told_with_the_budget_that_would() -> None:
    found = unpaid(0.05)
    assert found is not None
    assert found[0].startswith(
        "fresh scores of all candidates cost about 100% of the training compute, and what budget:"
    )
    assert "pays for about 5% of the stages: the others are not thinned." in found[0]
    (named,) = re.findall(r"Write budget: ([0-9.]+),", found[1])
    assert unpaid(float(named)) is None


@pytest.mark.parametrize(
    ("thin", "enough"), [({}, 1.0), ({"keep": 0.8}, 0.625), ({"from": 0.5}, 0.5), ({"until": 0.1}, 0.1)]
)
def test_what_candidates_cost_is_as_worked_out_by_hand(thin: dict[str, Any], enough: float) -> None:
    assert unpaid(enough + 1e-9, **thin) is None
    assert unpaid(enough * 0.99, **thin) is not None


# -- runs with a model ---------------------------------------------------------------------------------------------


def run(out: Path, budget: float, **recipe: Any) -> Json:
    config = RECIPE | {"metrics": ["length", "loss"], "selector": "matched", "budget": budget, "scores": "none"}
    trainer = tiny_trainer(out, n=80, probes=50, max_length=64, config=config | recipe, logging_steps=50)
    trainer.train()
    return events(out, "end")[0]


def test_a_short_run_measures_fewer_rows_than_usual_and_says_which_budget_pays_for_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    end = run(tmp_path / "small", 0.8)
    said = capsys.readouterr().out
    assert end["cost"]["all"] <= 0.8
    probes = events(tmp_path / "small", "probes")[0]["domains"]
    assert {domain["rows"] for domain in probes.values()} < set(range(FEWEST["probes"] // 2, FEWEST["probes"]))
    assert TOO_SMALL not in said
    (named,) = re.findall(r"to keep to budget: 0.8. budget: ([0-9.]+) pays for the usual ones", said)
    end = run(tmp_path / "named", float(named))
    assert end["cost"]["all"] <= float(named)
    assert "the usual numbers of rows would cost" not in capsys.readouterr().out
    probes = events(tmp_path / "named", "probes")[0]["domains"]
    assert {domain["rows"] for domain in probes.values()} == {FEWEST["probes"]}


@pytest.mark.parametrize("budget", [0.0, 0.01, 0.2])
def test_a_budget_that_is_too_small_is_kept_and_the_run_says_what_it_does_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], budget: float
) -> None:
    end = run(tmp_path, budget, handover=1.0)
    lines = capsys.readouterr().out.splitlines()
    said = "measures nothing" if budget == 0 else TOO_SMALL
    (before,) = (place for place, line in enumerate(lines) if said in line)
    assert before < next(place for place, line in enumerate(lines) if line.startswith("campus: step 0/"))
    assert ("Write budget: " in lines[before]) is bool(budget)
    assert end["cost"]["all"] <= budget
    assert end["audit"]["checked"] == end["audit"]["passed"] == end["step"]
    if budget < 0.2:
        assert "there is no order by `loss`; the probes are not measured; offers are compared by" in lines[before]
        assert (end["cost"]["scoring"], end["cost"]["probes"], end["competence"]) == (0, 0, {})
        assert events(tmp_path, "probes") == []
        assert not (tmp_path / "curriculum/scores/loss.parquet").exists()


def test_a_decision_that_is_not_paid_for_goes_by_what_training_showed_and_says_why(tmp_path: Path) -> None:
    recipe = {"metrics": ["length", "mtld"], "handover": 1.0, "mix": 0.5, "stages": 5}
    run(tmp_path / "a", 0.01, **recipe)
    first, *others = events(tmp_path / "a", "decision")
    assert (first["outcome"], first["not_measured"]) == ("not paid for", {"why": "no probes to compare with"})
    free = [decision for decision in others if decision["outcome"] == "losses of training"]
    assert free
    for decision in free:
        assert decision["selection_tokens"] == decision["rounds"] == 0
        level = decision["not_measured"]["compared_with"]
        offers = {offer["name"]: offer for offer in decision["offers"]}
        for offer in offers.values():
            assert offer["distance"] == pytest.approx(abs(offer["loss"] - level))
            assert offer["trained_rows"] >= 4
            assert offer["stderr"] is None
        assert offers[decision["chosen"]]["distance"] == min(offer["distance"] for offer in offers.values())
    run(tmp_path / "b", 0.01, **recipe, selector="lowest_perplexity")
    first, *others = [one for one in events(tmp_path / "b", "decision") if one["outcome"] != "only one offer"]
    assert all(decision["not_measured"]["tokens"] > decision["not_measured"]["left"] for decision in (first, *others))
    assert "losses of training" in {decision["outcome"] for decision in others}


def test_a_run_that_measures_nothing_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    recipe = RECIPE | {"metrics": ["length", "mtld", "loss"], "mix": 0.5, "stages": 5, "budget": 0.0, "scores": "none"}
    settings: Json = {"n": 60, "probes": 25, "max_length": 64, "config": recipe, "save_steps": 4}
    tiny_trainer(tmp_path / "whole", **settings).train()
    tiny_trainer(tmp_path / "cut", **settings).train()
    tiny_trainer(tmp_path / "cut", **settings).train(resume_from_checkpoint=str(tmp_path / "cut/checkpoint-8"))
    whole, cut = (events(tmp_path / name, "decision") for name in ("whole", "cut"))
    assert whole == cut
    assert {"not paid for", "losses of training"} <= {decision["outcome"] for decision in whole}
    assert "loss" not in whole[0]["rows_by_choice"]


def test_a_run_that_goes_on_with_a_larger_budget_measures_again_but_makes_no_orders(tmp_path: Path) -> None:
    recipe = RECIPE | {"metrics": ["length", "mtld", "loss"], "mix": 0.5, "stages": 5, "budget": 0.0, "scores": "none"}
    settings: Json = {"n": 60, "probes": 25, "max_length": 64, "save_steps": 4}
    tiny_trainer(tmp_path, config=recipe, **settings).train()
    assert events(tmp_path, "probes") == []
    larger = recipe | {"budget": 9.0, "resume": "changed_future"}
    tiny_trainer(tmp_path, config=larger, **settings).train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    assert events(tmp_path, "probes")
    *_, last = [decision for decision in events(tmp_path, "decision") if len(decision["offers"]) > 1]
    assert "loss" not in [offer["name"] for offer in last["offers"]]
    assert last["selection_tokens"] > 0


BANDS: Json = {"metrics": ["length"], "thin": {"how": "top", "by": "loss", "keep": 0.5}, "probes": None}


def test_rows_that_would_be_drawn_by_scores_that_nothing_pays_for_are_refused_with_the_budget_that_would(
    tmp_path: Path,
) -> None:
    with pytest.raises(RecipeError, match=r"`budget` must pay for the scores that rows are drawn by \(`thin: by` loss"):
        run(tmp_path / "a", 0.01, **BANDS)
    with pytest.raises(RecipeError, match=r"Write budget: [0-9.]+, score the rows ahead") as refused:
        run(tmp_path / "b", 0.0, **BANDS)
    (named,) = re.findall(r"Write budget: ([0-9.]+),", str(refused.value))
    end = run(tmp_path / "c", float(named), **BANDS)
    assert 0 < end["cost"]["scoring"] <= end["cost"]["all"] <= float(named)


def test_check_says_of_the_budget_what_the_run_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from campus_tune.demo.tiny import write_tiny
    from campus_tune.preview.check import check

    write_tiny(tmp_path / "model")
    for name, rows in (("train", task_rows(60)), ("probes", task_rows(25, seed=77))):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    recipe = {
        "model_name_or_path": str(tmp_path / "model"),
        "dataset_name": str(tmp_path / "train.jsonl"),
        "output_dir": str(tmp_path / "run"),
        "use_peft": True,
        "lora_target_modules": "all-linear",
        "num_train_epochs": 1,
        "max_length": 64,
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "disable_tqdm": True,
        "save_strategy": "no",
        "campus": {
            "metrics": ["length", "loss"],
            "stages": 6,
            "budget": 0.01,
            "scores": "none",
            "probes": {"path": str(tmp_path / "probes.jsonl")},
        },
    }
    monkeypatch.setattr("campus_tune.report.callback.report_on", lambda _: None)  # drawing takes longer than the run
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), "utf-8")
    (finding,) = [finding for finding in check(path) if TOO_SMALL in finding.what]
    assert finding.severity == "warning"
    assert main(["sft", "--config", str(path)]) == 0
    said = capsys.readouterr().out
    assert f"campus: warning: {finding.what} {finding.remedy}" in said
    (stages,) = re.findall(r" or stages: (\d+);", finding.remedy) or [None]
    assert stages is None or int(stages) < 6
