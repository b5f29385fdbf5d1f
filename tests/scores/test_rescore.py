"""Re-scoring as the model grows: what is measured anew, what is predicted, what may move, and what the ledger says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campus_tune.method import budget
from campus_tune.method.orders import order_rows
from campus_tune.method.stats import spearman
from campus_tune.metrics.passage import Passage
from campus_tune.metrics.rank_mean import RankMean
from campus_tune.metrics.scorer import Heads
from campus_tune.model.answer_alone import answers_alone
from campus_tune.model.scorer_training import ScorerTrainer, Training
from campus_tune.recipe.config import CampusConfig
from campus_tune.scores.asking import Asking
from campus_tune.scores.questions import Questions
from campus_tune.scores.rescore import FEWEST_WAITING, Rescorer
from campus_tune.words.errors import MetricError
from campus_tune.words.types import BoolArray, FloatArray, Json, RowLosses
from tests.model.test_scorer_training import RUBBISH, reference, slow_features, writes
from tests.run.other_models import save_same, text
from tests.run.tiny_run import task_rows, tiny_trainer
from tests.run.witness import all_slow_losses, events, ledger

N = 100  # 25 steps, ten stages
BASE: Json = {"metrics": ["length", "loss"], "stages": 10, "rescore": 3, "handover": 0.8, "selector": "round_robin"}
RICH: Json = {**BASE, "budget": 10.0, "within": "none"}
POOR: Json = {**BASE, "budget": 0.2}  # the fewest rows cost about 0.27: down to half of them are measured
FEWEST = budget.FEWEST["rescoring"]
HALF = FEWEST // 2  # rows that are measured where the budget does not pay for the fewest


@dataclass
class Seen:
    """What one re-scoring found and left."""

    waiting: BoolArray
    old_orders: dict[str, Any]
    old_scores: dict[str, FloatArray]
    now: RowLosses  # of all rows, slowly
    alone: RowLosses  # of their answers alone
    free: dict[int, float]  # mean loss of rows in training
    training: Training | None
    features: FloatArray
    record: Json
    scores: dict[str, FloatArray]
    notes: dict[str, Json]
    orders: dict[str, Any]
    barred: set[str]
    spent: dict[str, int]


class Spy:
    """Looks at every re-scoring of one run from both sides."""

    def __init__(self, patch: pytest.MonkeyPatch, *, slow: bool = True) -> None:
        self.seen: list[Seen] = []
        self.trainer: Any = None
        self.rescorer: Any = None
        self.slow = slow
        self._training: Training | None = None
        again, train = Rescorer.again, ScorerTrainer.train

        def look(rescorer: Rescorer, n_left: int) -> Any:
            self.rescorer = rescorer
            return self._look(rescorer, n_left, again)

        def keep(scorer: ScorerTrainer, *args: Any, **rest: Any) -> Training:
            self._training = train(scorer, *args, **rest)
            return self._training

        patch.setattr(Rescorer, "again", look)
        patch.setattr(ScorerTrainer, "train", keep)

    def _look(self, rescorer: Rescorer, n_left: int, again: Callable[..., Any]) -> Any:
        trainer, curriculum, scores = self.trainer, rescorer.curriculum, rescorer.scores
        nothing, rows = RowLosses.zeros(0), range(len(trainer.train_dataset))
        alone = answers_alone(trainer.train_dataset, trainer.processing_class)
        seen: dict[str, Any] = {
            "waiting": curriculum.untrained.copy(),
            "old_orders": {name: order.copy() for name, order in curriculum.orders.items()},
            "old_scores": {label: values.copy() for label, values in scores.by_label.items()},
            "now": all_slow_losses(trainer, rows) if self.slow else nothing,
            "alone": all_slow_losses(trainer, rows, alone) if "ifd" in scores.by_label else nothing,
            "free": dict(zip(rescorer._trained.tolist(), rescorer._free.per_row().tolist(), strict=True)),
            "features": self._features(rescorer) if self.slow and rescorer.asking.scorer else np.zeros(0),
        }
        before = dict(rescorer.asking.budget.spent)
        record, warnings = again(rescorer, n_left)
        seen |= {
            "training": self._training,
            "record": record,
            "scores": {label: values.copy() for label, values in scores.by_label.items()},
            "notes": dict(scores.notes),
            "orders": {name: order.copy() for name, order in curriculum.orders.items()},
            "barred": set(curriculum.barred),
            "spent": {name: after - before[name] for name, after in rescorer.asking.budget.spent.items()},
        }
        self.seen.append(Seen(**seen))
        return record, warnings

    def _features(self, rescorer: Rescorer) -> FloatArray:
        assert rescorer.asking.scorer is not None
        spans, data = rescorer.asking.scorer.spans, self.trainer.train_dataset
        ends = np.maximum(spans.end, spans.start + 1)
        rows = [(list(data[row]["input_ids"]), int(spans.start[row]), int(ends[row])) for row in range(len(data))]
        return np.stack([slow_features(self.trainer.model, *row) for row in rows])


def spied(out: Path, patch: pytest.MonkeyPatch, config: Json, *, slow: bool = True, **settings: Any) -> Spy:
    spy = Spy(patch, slow=slow)
    spy.trainer = tiny_trainer(out, config=config, **{"n": N, **settings})
    spy.trainer.train()
    return spy


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Spy]:
    """A run that re-scores every kind of metric, on a budget that pays for all rows."""
    out = tmp_path_factory.mktemp("everything")
    holdout = str(save_same(tmp_path_factory.mktemp("holdout"), seed=4))
    metrics = [
        "length",
        "loss",
        {"name": "-loss", "reduce": "sum", "label": "-sum"},
        "confidence",
        "ifd",
        {"name": "-rho", "holdout": holdout},
        {"name": "scorer", "new_tokens": 6, "pairs": 32},
        {"name": "rank_mean", "of": ["mtld", "loss"]},
    ]
    with pytest.MonkeyPatch.context() as patch:
        spy = spied(out, patch, {**RICH, "metrics": metrics})
    return out, spy


@pytest.fixture(scope="module")
def poor(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Spy]:
    """A run whose budget does not pay for the fewest rows."""
    out = tmp_path_factory.mktemp("poor")
    with pytest.MonkeyPatch.context() as patch:
        spy = spied(out, patch, POOR, n=240, per_device_train_batch_size=8)
    return out, spy


# -- when -------------------------------------------------------------------------------------------------------------


def stages(out: Path) -> list[int]:
    return [event["stage"] for event in events(out, "rescored")]


def test_it_is_due_every_so_many_stages_before_the_handover(everything: tuple[Path, Spy]) -> None:
    out, spy = everything
    assert stages(out) == [3, 6]
    assert min(seen.waiting.sum() for seen in spy.seen) >= FEWEST_WAITING
    handover = next(e["stage"] for e in events(out, "decision") if e["outcome"] == "handed over")
    assert max(stages(out)) < handover
    assert [event["refresh"] for event in events(out, "rescored")] == [1, 2]


def test_it_comes_before_the_decision_of_its_stage(everything: tuple[Path, Spy]) -> None:
    out, _ = everything
    lines = [line for line in ledger(out) if line["event"] in ("rescored", "decision")]
    for line, after in pairwise(lines):
        if line["event"] == "rescored":
            assert (after["event"], after["stage"], after["step"]) == ("decision", line["stage"], line["step"])


@pytest.mark.parametrize(
    "changes",
    [
        {"rescore": 0},
        {"handover": 0.1},
        {"metrics": ["length", "mtld"]},
        {"metrics": ["length"], "selector": "relative_perplexity"},  # it needs losses, of the start
        {"selector": "shuffle"},
    ],
    ids=str,
)
def test_it_is_not_due_where_nothing_would_change(tmp_path: Path, changes: Json) -> None:
    tiny_trainer(tmp_path, n=60, config={**RICH, **changes}).train()
    assert stages(tmp_path) == []
    assert events(tmp_path, "end")[0]["cost"]["rescoring"] == 0


def test_it_is_not_due_at_the_end_of_an_epoch_where_few_rows_are_left_to_sort(tmp_path: Path) -> None:
    config = {**RICH, "handover": 1.0, "rescore": 1}
    tiny_trainer(tmp_path, n=60, num_train_epochs=2, config=config).train()
    waiting = [event["waiting"] for event in events(tmp_path, "rescored")]
    assert waiting[0] < 60
    assert 60 in waiting  # all rows wait again when the second epoch begins
    assert min(waiting) >= FEWEST_WAITING


def test_rows_that_are_revisited_wait_until_they_are_seen(tmp_path: Path) -> None:
    scorer = {"name": "scorer", "new_tokens": 2, "pairs": 32}
    config = {**RICH, "coverage": "revisit", "handover": 1.0, "metrics": ["loss", scorer]}
    tiny_trainer(tmp_path, n=80, num_train_epochs=2, per_device_train_batch_size=8, config=config).train()
    records = events(tmp_path, "rescored")
    assert records
    assert all(record["waiting"] >= FEWEST_WAITING for record in records)


def test_the_metrics_that_know_the_model_are_found_inside_ensembles_too() -> None:
    def labels(*metrics: Any) -> list[str]:
        return list(Questions(CampusConfig(metrics=list(metrics), selector="random")).aware)

    assert labels("length", "mtld", {"name": "perplexity", "model": "./m"}) == []
    assert labels("length", "-loss", "scorer") == ["-loss", "scorer"]
    assert labels({"name": "rank_mean", "of": ["length", "confidence"]}) == ["confidence"]
    assert labels({"name": "ifd", "model": "./m"}, {"name": "rho", "holdout": "./h"}) == ["rho"]
    assert labels({"name": "learnability", "proxy": "./p"}) == []


# -- all rows are paid for --------------------------------------------------------------------------------------------


def test_rows_that_wait_have_the_losses_of_the_model_as_it_is_now(everything: tuple[Path, Spy]) -> None:
    for seen in everything[1].seen:
        wait, now, alone = seen.waiting, seen.now, seen.alone
        wanted = {
            "loss": now.per_row(),
            "-sum": -now.nll_sum,
            "confidence": now.worst,
            "ifd": now.per_row() / alone.per_row(),
        }
        for label, values in wanted.items():
            np.testing.assert_allclose(seen.scores[label][wait], values[wait], rtol=2e-5, err_msg=label)
        assert not np.allclose(seen.old_scores["loss"][wait], now.per_row()[wait], rtol=1e-2)


def test_what_another_model_says_is_kept_from_the_start(everything: tuple[Path, Spy]) -> None:
    _, spy = everything
    (passage,) = [p for p in spy.rescorer.scores.measured if p.model is not None]
    holdout = spy.rescorer.scores.measured[passage].per_row()
    assert len(spy.seen) > 1
    for seen in spy.seen:
        wait = seen.waiting
        now = seen.now.per_row()
        np.testing.assert_allclose(seen.scores["-rho"][wait], (holdout - now)[wait], rtol=1e-4, atol=1e-5)


def test_rows_that_were_trained_keep_the_loss_that_training_showed(everything: tuple[Path, Spy]) -> None:
    for seen in everything[1].seen:
        trained = sorted(seen.free)
        assert not seen.waiting[trained].any()
        assert len(trained) == seen.record["rows_from_training"]
        np.testing.assert_allclose(seen.scores["loss"][trained], [seen.free[row] for row in trained])
        done = ~seen.waiting
        done[trained] = False  # trained before the last time
        np.testing.assert_array_equal(seen.scores["loss"][done], seen.old_scores["loss"][done])
        np.testing.assert_array_equal(seen.scores["ifd"][~seen.waiting], seen.old_scores["ifd"][~seen.waiting])


def test_the_scorers_scores_are_those_of_its_new_heads_on_the_states_of_the_model_now(
    everything: tuple[Path, Spy],
) -> None:
    for seen in everything[1].seen:
        assert seen.training is not None
        assert seen.record["scorer"] == seen.training.notes
        assert ("scorer" in seen.barred) == (not seen.training.heads.tells_apart)
        if seen.training.heads.tells_apart:
            wanted = seen.training.heads.scores(seen.features)[:, 0]
            np.testing.assert_allclose(seen.scores["scorer"][seen.waiting], wanted[seen.waiting], rtol=1e-2, atol=1e-3)


def test_an_ensemble_follows_its_members(everything: tuple[Path, Spy]) -> None:
    combine = RankMean(of=["mtld", "loss"]).combine
    for seen in everything[1].seen:
        wanted = combine({label: seen.scores[label] for label in ("mtld", "loss")}, None)
        np.testing.assert_allclose(seen.scores["rank_mean"], wanted)
        assert not np.array_equal(seen.scores["rank_mean"], seen.old_scores["rank_mean"])


def test_metrics_of_the_texts_stay_and_so_do_their_orders(everything: tuple[Path, Spy]) -> None:
    for seen in everything[1].seen:
        for label in ("length", "mtld"):
            np.testing.assert_array_equal(seen.scores[label], seen.old_scores[label])
        np.testing.assert_array_equal(seen.orders["length"], seen.old_orders["length"])
        assert "length" not in seen.record["orders"]
        assert {"loss", "-sum", "confidence", "ifd", "-rho", "rank_mean"} <= seen.record["orders"].keys()
        assert "mtld" not in seen.orders  # a member is scored, not offered


# -- orders -----------------------------------------------------------------------------------------------------------


def test_only_rows_that_wait_change_places_and_they_are_sorted(everything: tuple[Path, Spy]) -> None:
    for seen in everything[1].seen:
        for label in seen.record["orders"]:
            old, new = seen.old_orders[label], seen.orders[label]
            assert sorted(new.tolist()) == list(range(N))
            stays = ~seen.waiting[old]
            np.testing.assert_array_equal(new[stays], old[stays])
            by_score = order_rows(seen.scores[label], seed=3)
            np.testing.assert_array_equal(new[seen.waiting[new]], by_score[seen.waiting[by_score]])


def test_the_ledger_says_how_far_each_order_moved(everything: tuple[Path, Spy]) -> None:
    for seen in everything[1].seen:
        for label, said in seen.record["orders"].items():
            places = []
            for order in (seen.old_orders[label], seen.orders[label]):
                place = np.argsort(order)
                places.append(np.argsort(np.argsort(place[seen.waiting])))
            assert said["rows"] == seen.waiting.sum()
            assert said["correlation"] == pytest.approx(spearman(places[0], places[1]))


def test_the_ledger_has_counts_and_cost(everything: tuple[Path, Spy]) -> None:
    out, spy = everything
    tokens = spy.rescorer.rows.tokens
    alone = spy.rescorer.asking.passages.tokens(Passage(part="answer"))
    for seen, line in zip(spy.seen, events(out, "rescored"), strict=True):
        assert {"event", "stage", "step", "warnings", *seen.record} == line.keys()
        assert line["waiting"] == line["rows"] == seen.waiting.sum()
        assert 0 < line["frontier"] <= line["waiting"]
        assert line["tokens"] == {name: seen.spent[name] for name in ("rescoring", "scorer")}
        assert seen.spent["rescoring"] == (tokens + alone)[seen.waiting].sum()
        assert seen.training is not None
        assert seen.spent["scorer"] == seen.training.tokens
        assert seen.spent["scoring"] == seen.spent["probes"] == seen.spent["selection"] == 0
    cost = events(out, "end")[0]["cost"]
    assert cost["rescoring"] > 0 < cost["scorer"]


def test_curves_of_it_reach_the_trainers_own_log(everything: tuple[Path, Spy]) -> None:
    _, spy = everything
    lines = [line for line in spy.trainer.state.log_history if "campus/order_kept/loss" in line]
    assert [line["campus/order_kept/loss"] for line in lines] == [
        seen.record["orders"]["loss"]["correlation"] for seen in spy.seen
    ]
    said = [line["campus/scorer_accuracy"] for line in lines]
    assert said == [seen.record["scorer"]["accuracy"] for seen in spy.seen]


# -- they are not -----------------------------------------------------------------------------------------------------


def test_rows_that_were_not_measured_are_predicted(poor: tuple[Path, Spy]) -> None:
    out, spy = poor
    assert len(spy.seen) >= 2
    for seen in spy.seen:
        n = seen.record["rows"]
        assert HALF <= n < FEWEST < seen.record["waiting"]
        scores, notes = seen.scores["loss"], seen.notes["loss"]
        assert notes["rows_measured"] == n
        assert -1 <= notes["prediction_correlation"] <= 1
        near = np.isclose(scores, seen.now.per_row(), rtol=2e-5) & seen.waiting
        assert n <= near.sum() <= n + 3
        assert np.isfinite(scores).all()
        trained = sorted(seen.free)
        np.testing.assert_allclose(scores[trained], [seen.free[row] for row in trained])
        assert seen.record["orders"]["loss"]["prediction_correlation"] == notes["prediction_correlation"]
    assert events(out, "rescored")[0]["orders"]["loss"]["rows"] == spy.seen[0].waiting.sum()


def test_what_training_has_shown_is_among_what_the_others_are_predicted_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    add = Asking.add

    def count(self: Asking, scores: Any, spec: Any, rows: Any, *rest: Any, **named: Any) -> None:
        told.append(len(rows))
        add(self, scores, spec, rows, *rest, **named)

    monkeypatch.setattr(Asking, "add", count)
    spy = spied(tmp_path, monkeypatch, POOR, slow=False, n=240, per_device_train_batch_size=8)
    assert HALF <= told[0] < FEWEST
    assert told[1:] == [seen.record["rows"] + len(seen.free) for seen in spy.seen]
    assert all(len(seen.free) == seen.record["rows_from_training"] > HALF / 3 for seen in spy.seen)


def test_the_rows_measured_are_those_that_wait_the_frontier_or_a_sample_of_it(poor: tuple[Path, Spy]) -> None:
    _, spy = poor
    rescorer, tokens = spy.rescorer, spy.rescorer.rows.tokens
    waiting = np.ones(240, dtype=np.bool_)
    waiting[:40] = False
    frontier = waiting.copy()
    frontier[160:] = False

    def taken(allowance: float) -> list[int]:
        rows: list[int] = rescorer._affordable(waiting, frontier, allowance).tolist()
        return rows

    assert taken(tokens[waiting].sum()) == np.flatnonzero(waiting).tolist()
    assert taken(tokens[waiting].sum() - 1) == np.flatnonzero(frontier).tolist()
    assert taken(tokens[frontier].sum()) == np.flatnonzero(frontier).tolist()
    for share in (0.9, 0.7):
        allowance = share * tokens[frontier].sum()
        sample = taken(allowance)
        assert set(sample) < set(np.flatnonzero(frontier).tolist())
        assert len(sample) > HALF
        assert tokens[sample].sum() == pytest.approx(allowance, rel=0.1)
    assert len(taken(0.0)) == HALF
    few = frontier & (np.arange(240) < 60)
    assert rescorer._affordable(waiting, few, 0.0).tolist() == np.flatnonzero(few).tolist()


def test_the_sample_is_another_one_each_time_and_the_same_when_asked_again(poor: tuple[Path, Spy]) -> None:
    _, spy = poor
    rescorer, everyone = spy.rescorer, np.ones(240, dtype=np.bool_)
    first = rescorer._affordable(everyone, everyone, 0.0)
    assert rescorer._affordable(everyone, everyone, 0.0).tolist() == first.tolist()
    rescorer.count += 1
    assert rescorer._affordable(everyone, everyone, 0.0).tolist() != first.tolist()
    rescorer.count -= 1


def test_spending_stays_within_its_part_unless_the_fewest_rows_cost_more(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        spy = spied(tmp_path, patch, {**BASE, "budget": 1.2}, slow=False, n=400, per_device_train_batch_size=16)
    budget, n = spy.rescorer.asking.budget, len(spy.seen)
    fewest = n * FEWEST * float(spy.rescorer.rows.tokens.mean())
    assert n == 2
    assert budget.spent["rescoring"] <= max(1.1 * budget.part("rescoring"), 1.1 * fewest)
    assert any(seen.record["rows"] > FEWEST for seen in spy.seen)


# -- the scorer -------------------------------------------------------------------------------------------------------


SCORER: Json = {**RICH, "metrics": ["length", {"name": "scorer", "new_tokens": 6, "pairs": 32}]}


def test_a_scorer_that_tells_nothing_apart_is_barred_until_it_does_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes(monkeypatch, lambda *_: RUBBISH)
    train, n_trained = ScorerTrainer.train, [0]

    def sometimes(self: ScorerTrainer, *args: Any, **rest: Any) -> Training:
        n_trained[0] += 1
        with pytest.MonkeyPatch.context() as patch:
            if n_trained[0] == 2:
                writes(patch, reference)
            return train(self, *args, **rest)

    monkeypatch.setattr(ScorerTrainer, "train", sometimes)
    spy = spied(tmp_path, monkeypatch, {**SCORER, "rescore": 2}, slow=False)
    assert [seen.barred for seen in spy.seen] == [{"scorer"}, set(), set()]
    offered = [[offer["name"] for offer in e.get("offers", [])] for e in events(tmp_path, "decision")]
    assert offered[:6] == [["length", "scorer"]] * 2 + [["length"]] * 2 + [["length", "scorer"]] * 2
    first, second, _ = spy.seen
    assert "scorer" not in first.record["orders"]  # its old order waits for better times
    np.testing.assert_array_equal(first.scores["scorer"], first.old_scores["scorer"])
    assert "scorer" in second.record["orders"]
    said = events(tmp_path, "rescored")
    assert "no better than a coin" in said[0]["warnings"][-1]
    assert [line["scorer"]["tells_apart"] for line in said] == [False, True, True]


def test_a_scorer_that_tells_nothing_apart_at_the_start_is_not_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = 60
    writes(monkeypatch, lambda scorer, row: reference(scorer, row) if row % 2 else RUBBISH[: row % 3])
    monkeypatch.setattr(Heads, "tells_apart", False)
    tiny_trainer(tmp_path, n=n, config={**SCORER, "rescore": 0}).train()
    offered = [[offer["name"] for offer in e.get("offers", [])] for e in events(tmp_path, "decision")]
    assert offered[0] == ["length"]
    assert not any("scorer" in names for names in offered)
    (warnings,) = events(tmp_path, "warnings")
    assert any("its order is not offered until the next re-scoring" in warning for warning in warnings["warnings"])


def test_plain_text_has_no_scorer_and_it_says_so_before_the_first_step(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, train=text(task_rows(48)), config=SCORER)
    with pytest.raises(MetricError, match=r"at least 10 rows with a prompt .* got 0 of 48"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_one_forward_gives_losses_and_scorer_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {**SCORER, "metrics": ["loss", SCORER["metrics"][1]]}
    spy = spied(tmp_path, monkeypatch, config, slow=False)
    for seen in spy.seen:
        assert seen.spent["rescoring"] == spy.rescorer.rows.tokens[seen.waiting].sum()


def test_a_scorer_on_another_models_states_is_renewed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes(monkeypatch, lambda *_: RUBBISH)
    small = str(save_same(tmp_path / "small", seed=8))
    config = {**SCORER, "metrics": ["length", {**SCORER["metrics"][1], "model": small}]}
    spy = spied(tmp_path / "run", monkeypatch, config, slow=False)
    assert len(spy.seen) == 2
    assert all("scorer" in seen.record["orders"] for seen in spy.seen)
