from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campus_tune.method.budget import Budget
from campus_tune.method.curriculum import Curriculum, Schedule
from campus_tune.method.pacing import linear
from campus_tune.method.selectors import build_selector
from campus_tune.model.peers import Peers
from campus_tune.run.decide import Decider, Decision, perplexity
from campus_tune.scores.run_scores import HERE, Scores
from campus_tune.words.types import FloatArray, IntArray, RowLosses
from tests.losses import losses_of
from tests.run.tiny_run import tiny_trainer
from tests.run.witness import events

N = 400
TOKENS = 10  # of every row


class Meter:
    """Losses by a rule, and how many rows it was asked for."""

    def __init__(self, per_row: FloatArray) -> None:
        self.per_row, self.seconds, self.asked = per_row, 0.0, 0

    def losses(self, rows: IntArray) -> RowLosses:
        self.asked += len(rows)
        self.seconds += 0.25
        return losses_of(self.per_row[rows] * TOKENS, np.full(len(rows), TOKENS), np.zeros(len(rows), dtype=np.int64))


def scene(
    selector: Any,
    per_row: FloatArray,
    *,
    orders: Any = None,
    stages: int = 4,
    start: float = 0.25,
    handover: float = 1.0,
) -> tuple[Decider, Curriculum, Meter]:
    """Two orders over 400 rows, up and down, in steps of 10 rows."""
    rows = np.arange(N, dtype=np.int32)
    curriculum = Curriculum(
        Schedule(linear(start=start), stages=stages, window="slice", handover=handover),
        {"up": rows, "down": rows[::-1].copy()} if orders is None else orders,
        n_rows=N,
        global_batch=10,
        total_steps=40,
    )
    meter = Meter(per_row)
    start = losses_of(np.ones(N) * TOKENS, np.full(N, TOKENS), np.zeros(N, dtype=np.int64))
    scores = Scores(measured={HERE: start})
    tokens = np.full(N, TOKENS)
    budget = Budget(0.1, N * TOKENS, 0.5)
    decider = Decider(build_selector(selector), meter, scores, budget, tokens, Peers(), 0)  # type: ignore[arg-type]
    return decider, curriculum, meter


def decide(decider: Decider, curriculum: Curriculum, allowance: float = 1e9, probe_loss: float = 1.0) -> Decision:
    return decider.decide(curriculum, probe_loss=probe_loss, allowance=allowance)


RISING = np.linspace(0.5, 2.5, N)  # rows that come first in "up" are those the model knows


@pytest.mark.parametrize(
    ("selector", "probe_loss", "chosen"),
    [
        ("lowest_perplexity", 1.0, "up"),
        ("matched", 2.0, "down"),
        ("matched", 0.9, "up"),
        ("relative_perplexity", 1.0, "up"),
    ],
)
def test_the_chosen_offer_is_the_one_with_the_lowest_recorded_distance(
    selector: str, probe_loss: float, chosen: str
) -> None:
    decision = decide(*scene(selector, RISING)[:2], probe_loss=probe_loss)
    offers = {offer["name"]: offer for offer in decision.record["offers"]}
    assert decision.record["chosen"] == decision.stage.chosen == chosen
    assert offers[chosen]["distance"] == min(offer["distance"] for offer in offers.values())
    for offer in offers.values():
        expected = {"lowest_perplexity": offer["loss"], "matched": abs(offer["loss"] - probe_loss)}
        assert offer["distance"] == pytest.approx(expected.get(selector, offer["loss"] - 1.0), abs=1e-6)
        assert offer["perplexity"] == pytest.approx(np.exp(offer["loss"]))


def test_offers_that_nothing_separates_are_measured_to_the_last_row() -> None:
    record = decide(*scene("lowest_perplexity", np.tile([0.5, 1.5], N // 2))[:2]).record
    assert record["outcome"] == "all rows measured"
    assert [(offer["sampled_rows"], offer["loss"]) for offer in record["offers"]] == [(100, 1.0), (100, 1.0)]
    assert record["chosen"] == "up"  # the first in the recipe's sequence


def test_samples_grow_with_the_allowance_and_stay_inside_it() -> None:
    noisy = 1.0 + np.random.default_rng(1).normal(0, 0.5, N).clip(-0.9, 0.9)  # nothing separates the offers
    asked = []
    for allowance in (0, 400, 1000, 1e9):
        decider, curriculum, meter = scene("lowest_perplexity", noisy)
        record = decide(decider, curriculum, allowance).record
        asked.append(meter.asked)
        assert record["selection_tokens"] == meter.asked * TOKENS == decider.budget.spent["selection"]
        assert decider.budget.seconds["selection"] == meter.seconds > 0
        if allowance >= 400:
            assert record["selection_tokens"] <= allowance
        assert record["outcome"] in ("budget spent", "separated", "all rows measured")
    assert asked == sorted(asked)
    assert asked[0] == 16  # the first round of 8 rows each is run whatever it costs
    assert asked[0] < asked[-1] <= 200


def test_rows_that_both_offer_are_measured_once() -> None:
    rows = np.arange(N, dtype=np.int32)
    orders = {"up": rows, "nearly up": np.concatenate([rows[1:100], rows[:1], rows[100:]])[:N].astype(np.int32)}
    orders["nearly up"][98], orders["nearly up"][100] = orders["nearly up"][100], orders["nearly up"][98]
    decider, curriculum, meter = scene("lowest_perplexity", np.ones(N), orders=orders)
    decide(decider, curriculum)
    assert meter.asked <= 110  # of 200 offered


def test_offers_of_the_same_rows_cost_nothing() -> None:
    decider, curriculum, meter = scene("lowest_perplexity", RISING, stages=1)
    record = decide(decider, curriculum).record
    assert (meter.asked, record["outcome"], record["chosen"]) == (0, "only one offer", "up")
    assert "selection_tokens" not in record
    assert decider.budget.spent["selection"] == 0


@pytest.mark.parametrize("selector", ["round_robin", "random", "fixed"])
def test_selectors_that_ask_no_model_cost_nothing(selector: str) -> None:
    decider, curriculum, meter = scene(selector, RISING)
    record = decide(decider, curriculum).record
    assert (meter.asked, record["outcome"]) == (0, "not measured")
    assert all("loss" not in offer for offer in record["offers"])


def test_after_the_handover_nothing_is_offered_or_measured() -> None:
    decider, curriculum, meter = scene("lowest_perplexity", RISING, handover=0.0)
    decision = decide(decider, curriculum)
    assert (meter.asked, decision.stage.chosen, decision.record["outcome"]) == (0, "shuffle", "handed over")
    assert "offers" not in decision.record


def test_what_a_decision_says_of_its_stage_is_the_stage() -> None:
    decider, curriculum, _ = scene("lowest_perplexity", RISING)
    decision = decide(decider, curriculum)
    stage, record = decision.stage, decision.record
    assert curriculum.stage is stage
    assert record["rows"] == len(stage.rows) == 100
    assert record["tokens"] == 100 * TOKENS
    assert (record["steps"], record["step"], record["stage"], record["epoch"]) == (10, 0, 0, 0)
    assert record["scope"] == [0.0, 0.25]
    assert record["rows_by_choice"] == {"up": 100, "down": 0, "shuffle": 0}
    assert record["progress"] == 0.0


def test_the_same_numbers_give_the_same_decision() -> None:
    records = [decide(*scene("matched", RISING)[:2]).record for _ in range(2)]
    assert records[0] == records[1]


def test_a_perplexity_does_not_overflow() -> None:
    assert perplexity(1.0) == pytest.approx(2.718281828)
    assert np.isfinite(perplexity(1e9))


# -- what a run costs -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def paid(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The `end` record and the last lines of a run that has rows enough for its budget, and of one that has not."""
    runs = {}
    for name, n, budget, batch in (("enough", 560, 0.3, 16), ("too few", 32, 0.01, 8)):
        out = tmp_path_factory.mktemp("paid")
        recipe = {
            "metrics": ["length", "compression", "loss"],
            "stages": 4,
            "handover": 1.0,
            "budget": budget,
            "within": "none",
            "selector": "matched",
        }
        trainer = tiny_trainer(
            out, n=n, config=recipe, probes=50, per_device_train_batch_size=batch, logging_steps=20, max_length=64
        )
        trainer.train()
        runs[name] = (out, events(out, "end")[0])
    return runs


def test_the_cost_stays_within_its_budget_where_the_data_are_large_enough(paid: Any) -> None:
    cost = paid["enough"][1]["cost"]
    assert 0.8 * 0.3 <= cost["all"] <= 0.3
    assert cost["all"] == pytest.approx(cost["scoring"] + cost["selection"] + cost["probes"])
    assert min(cost["scoring"], cost["selection"], cost["probes"]) > 0


def test_the_ledger_adds_up_to_the_cost(paid: Any) -> None:
    out, end = paid["enough"]
    decisions = events(out, "decision")
    selection = sum(decision.get("selection_tokens", 0) for decision in decisions)
    tokens = sum(decision["tokens"] for decision in decisions)
    assert end["cost"]["selection"] == pytest.approx(selection / tokens / 3, rel=1e-2)  # a third: full fine-tuning


def test_a_budget_that_is_too_small_for_its_run_is_overspent_and_known(paid: Any) -> None:
    assert paid["too few"][1]["cost"]["all"] > 1.2 * 0.01


def test_sizes_of_the_samples_follow_the_budget(tmp_path: Path) -> None:
    measured = []
    for budget in (0.05, 0.4):
        out = tmp_path / str(budget)
        recipe = {
            "metrics": ["length", "compression"],
            "stages": 2,
            "handover": 1.0,
            "budget": budget,
            "within": "none",
        }
        recipe |= {"selector": "lowest_perplexity"}
        trainer = tiny_trainer(out, n=160, config=recipe, per_device_train_batch_size=16, logging_steps=50)
        trainer.train()
        measured.append(sum(offer["sampled_rows"] for offer in events(out, "decision")[0]["offers"]))
    assert measured[0] < measured[1]
