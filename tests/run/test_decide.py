from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campus_tune.method.budget import Budget
from campus_tune.method.curriculum import Curriculum, Schedule
from campus_tune.method.pacing import linear
from campus_tune.method.selectors import LOSS, Selector, View, build_selector
from campus_tune.method.view import History
from campus_tune.model.peers import Peers
from campus_tune.preview.simulate import simulate
from campus_tune.recipe.config import CampusConfig
from campus_tune.run.decide import Decider, perplexity
from campus_tune.scores.run_scores import HERE, Scores
from campus_tune.words.types import FloatArray, IntArray, Json, RowLosses
from tests.losses import losses_of
from tests.run.tiny_run import tiny_trainer
from tests.run.witness import events

N = 400
TOKENS = 10  # of every row


class Meter:
    """Losses by a rule, and how many rows it was asked for."""

    def __init__(self, per_row: FloatArray) -> None:
        self.per_row, self.seconds, self.spared, self.asked = per_row, 0.0, 0, 0

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
    decider = Decider(build_selector(selector), meter, scores, budget, tokens, Peers())  # type: ignore[arg-type]
    return decider, curriculum, meter


def decide(decider: Decider, curriculum: Curriculum, allowance: float = 1e9, probe_loss: float = 1.0) -> Json:
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
    decider, curriculum, _ = scene(selector, RISING)
    record = decide(decider, curriculum, probe_loss=probe_loss)
    offers = {offer["name"]: offer for offer in record["offers"]}
    assert curriculum.stage is not None
    assert record["chosen"] == curriculum.stage.chosen == chosen
    assert offers[chosen]["distance"] == min(offer["distance"] for offer in offers.values())
    for offer in offers.values():
        expected = {"lowest_perplexity": offer["loss"], "matched": abs(offer["loss"] - probe_loss)}
        assert offer["distance"] == pytest.approx(expected.get(selector, offer["loss"] - 1.0), abs=1e-6)
        assert offer["perplexity"] == pytest.approx(np.exp(offer["loss"]))


def test_offers_that_nothing_separates_are_measured_to_the_last_row() -> None:
    record = decide(*scene("lowest_perplexity", np.tile([0.5, 1.5], N // 2))[:2])
    assert record["outcome"] == "all rows measured"
    assert [(offer["sampled_rows"], offer["loss"]) for offer in record["offers"]] == [(100, 1.0), (100, 1.0)]
    assert record["chosen"] == "up"  # the first in the recipe's sequence


def test_samples_grow_with_the_allowance_and_stay_inside_it() -> None:
    noisy = 1.0 + np.random.default_rng(1).normal(0, 0.5, N).clip(-0.9, 0.9)  # nothing separates the offers
    asked = []
    for allowance in (0, 400, 1000, 1e9):
        decider, curriculum, meter = scene("lowest_perplexity", noisy)
        record = decide(decider, curriculum, allowance)
        asked.append(meter.asked)
        assert record["selection_tokens"] == meter.asked * TOKENS == decider.budget.spent["selection"]
        assert decider.budget.seconds["selection"] == meter.seconds > 0
        if allowance >= 400:
            assert record["selection_tokens"] <= allowance
        assert record["outcome"] in ("budget spent", "separated", "all rows measured")
    assert asked == sorted(asked)
    assert asked[0] == 16  # the first round of 8 rows each is run whatever it costs
    assert asked[0] < asked[-1] <= 200


def test_what_rows_share_at_their_beginning_is_on_the_bill_once() -> None:
    decider, curriculum, meter = scene("lowest_perplexity", RISING)
    losses = meter.losses

    def spares(rows: IntArray) -> RowLosses:
        meter.spared += 3 * (len(rows) - 1)
        return losses(rows)

    meter.losses = spares  # type: ignore[method-assign]
    record = decide(decider, curriculum)
    assert meter.spared > 0
    assert record["selection_tokens"] == decider.budget.spent["selection"] == TOKENS * meter.asked - meter.spared


def test_rows_that_both_offer_are_measured_once() -> None:
    rows = np.arange(N, dtype=np.int32)
    orders = {"up": rows, "nearly up": np.concatenate([rows[1:100], rows[:1], rows[100:]])[:N].astype(np.int32)}
    orders["nearly up"][98], orders["nearly up"][100] = orders["nearly up"][100], orders["nearly up"][98]
    decider, curriculum, meter = scene("lowest_perplexity", np.ones(N), orders=orders)
    decide(decider, curriculum)
    assert meter.asked <= 110  # of 200 offered


def test_offers_of_the_same_rows_cost_nothing() -> None:
    decider, curriculum, meter = scene("lowest_perplexity", RISING, stages=1)
    record = decide(decider, curriculum)
    assert (meter.asked, record["outcome"], record["chosen"]) == (0, "only one offer", "up")
    assert "selection_tokens" not in record
    assert decider.budget.spent["selection"] == 0


@pytest.mark.parametrize("selector", ["round_robin", "random", "fixed"])
def test_selectors_that_ask_no_model_cost_nothing(selector: str) -> None:
    decider, curriculum, meter = scene(selector, RISING)
    record = decide(decider, curriculum)
    assert (meter.asked, record["outcome"]) == (0, "not measured")
    assert all("loss" not in offer for offer in record["offers"])


def test_after_the_handover_nothing_is_offered_or_measured() -> None:
    decider, curriculum, meter = scene("lowest_perplexity", RISING, handover=0.0)
    record = decide(decider, curriculum)
    assert curriculum.stage is not None
    assert (meter.asked, curriculum.stage.chosen, record["outcome"]) == (0, "shuffle", "handed over")
    assert "offers" not in record


def test_what_a_decision_says_of_its_stage_is_the_stage() -> None:
    decider, curriculum, _ = scene("lowest_perplexity", RISING)
    record, stage = decide(decider, curriculum), curriculum.stage
    assert stage is not None
    assert record["rows"] == len(stage.rows) == 100
    assert record["tokens"] == 100 * TOKENS
    assert (record["steps"], record["step"], record["stage"], record["epoch"]) == (10, 0, 0, 0)
    assert record["scope"] == [0.0, 0.25]
    assert record["rows_by_choice"] == {"up": 100, "down": 0, "shuffle": 0}
    assert record["progress"] == 0.0


def test_the_same_numbers_give_the_same_decision() -> None:
    records = [decide(*scene("matched", RISING)[:2]) for _ in range(2)]
    assert records[0] == records[1]


class Hardest(Selector):
    """Takes the highest loss, and compares nothing in a way that the race could go by."""

    needs = frozenset({LOSS})

    def choose(self, view: View) -> str:
        assert view.mean_loss is not None
        return view.names[int(view.mean_loss.argmax())]


def test_a_selector_without_distances_is_measured_and_recorded_without_them() -> None:
    decider, curriculum, meter = scene("lowest_perplexity", RISING)
    decider.selector = Hardest()
    record = decide(decider, curriculum)
    assert (record["chosen"], record["margin"], record["tied"]) == ("down", None, [])
    assert meter.asked * TOKENS == record["selection_tokens"] > 0
    for offer in record["offers"]:
        assert {"loss", "stderr", "perplexity", "sampled_rows"} < offer.keys()
        assert "distance" not in offer


@pytest.mark.parametrize("selector", ["round_robin", "random", {"name": "fixed", "order": "mtld"}])
@pytest.mark.parametrize("schedule", [{"window": "slice"}, {"window": "prefix", "coverage": "revisit", "mix": 0.2}])
def test_a_simulated_plan_is_the_one_that_a_run_trains(selector: Any, schedule: Any) -> None:
    config = CampusConfig(metrics=["length", "mtld"], selector=selector, stages=6, seed=3, handover=0.8, **schedule)
    rng = np.random.default_rng(5)
    orders = {name: rng.permutation(N).astype(np.int32) for name in ("length", "mtld")}
    plan = simulate(config, n_rows=N, global_batch=10, epochs=2, orders=orders, keep_plan=True).plan
    decider, _, _ = scene(selector, RISING)
    curriculum = Curriculum(config.schedule(), orders, n_rows=N, global_batch=10, total_steps=80)
    trained: list[int] = []
    while not curriculum.finished:
        decide(decider, curriculum)
        stage = curriculum.stage
        assert stage is not None
        trained += stage.rows.tolist()
        for _ in range(stage.n_steps):
            curriculum.advance()
    assert plan is not None
    assert trained == plan.tolist()


def test_a_perplexity_does_not_overflow() -> None:
    assert perplexity(1.0) == pytest.approx(2.718281828)
    assert np.isfinite(perplexity(1e9))


def test_a_policy_is_shown_the_stages_and_probes_before_it_and_the_same_after_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[list[Any], dict[str, list[float]]]] = []
    decided = Decider.decide

    def noted(self: Decider, curriculum: Curriculum, *, history: History, **asked: Any) -> Json:
        probes = {name: list(values) for name, values in history.probes.items()}
        shown.append(([vars(stage) for stage in history.stages], probes))
        return decided(self, curriculum, history=history, **asked)

    monkeypatch.setattr(Decider, "decide", noted)
    recipe = {"metrics": ["length", "mtld"], "stages": 3, "budget": 10.0, "selector": "round_robin"}
    settings: dict[str, Any] = {"config": recipe, "n": 24, "probes": 25, "save_steps": 2}
    tiny_trainer(tmp_path, **settings).train()
    whole, ends = list(shown), events(tmp_path, "stage_end")
    names = {"index": "stage", "chosen": "chosen", "end": "step", "loss": "train_loss"}
    for stage, (stages, probes) in enumerate(whole):
        assert [{name: one[name] for name in names} for one in stages] == [
            {name: end[of] for name, of in names.items()} for end in ends[:stage]
        ]
        assert [one["loss_by_domain"] for one in stages] == [end["train_loss_by_domain"] for end in ends[:stage]]
        assert {len(values) for values in probes.values()} == {stage + 1}
    shown.clear()
    tiny_trainer(tmp_path, **settings).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert shown == whole[-len(shown) :] != []


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
    assert cost["all"] == pytest.approx(cost["scoring"] + cost["selection"] + cost["probes"] + cost["map"])
    assert min(cost["scoring"], cost["selection"], cost["probes"]) > 0


def test_the_ledger_adds_up_to_the_cost(paid: Any) -> None:
    out, end = paid["enough"]
    decisions = events(out, "decision")
    selection = sum(decision.get("selection_tokens", 0) for decision in decisions)
    tokens = sum(decision["tokens"] for decision in decisions)
    assert end["cost"]["selection"] == pytest.approx(selection / tokens / 3, rel=1e-2)  # a third: full fine-tuning


def test_a_budget_that_is_too_small_for_its_run_is_kept(paid: Any) -> None:
    assert paid["too few"][1]["cost"]["all"] <= 0.01


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
