"""One decision: when offers are measured, what a selector is shown of them, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from campus_tune.method.curriculum import Curriculum, Offer, Schedule
from campus_tune.method.decide import Chosen, all_alike, decide
from campus_tune.method.free_losses import FreeLosses
from campus_tune.method.pacing import linear
from campus_tune.method.policy import Policy
from campus_tune.method.selectors import LOSS, Outcome, RaceResult, Selector, build_selector
from campus_tune.method.thin import Thin
from campus_tune.method.view import History, PastStage, View
from campus_tune.words.types import FloatArray, RowArray
from tests.losses import losses_of
from tests.method.policies import lived

N = 40


class Hardest(Selector):
    """Takes the highest loss and compares nothing; keeps what it was shown."""

    needs = frozenset({LOSS})

    def __init__(self) -> None:
        self.shown: list[View] = []

    def choose(self, view: View) -> str:
        self.shown.append(view)
        assert view.mean_loss is not None
        return view.names[int(view.mean_loss.argmax())]


class Meter:
    """Says that later rows are harder, or that nothing is paid for, and counts how often it is asked."""

    def __init__(self, outcome: Outcome = "all rows measured") -> None:
        self.outcome, self.asked = outcome, 0

    def __call__(self, view: View) -> RaceResult:
        self.asked += 1
        losses = np.array([offer.pool.mean() for offer in view.offers])
        sizes = np.array([len(offer.pool) for offer in view.offers])
        return RaceResult(losses, 0 * losses, sizes, None, rounds=1, tokens=int(sizes.sum()), outcome=self.outcome)


def curriculum(**settings: Any) -> Curriculum:
    schedule = Schedule(linear(start=0.25), **{"stages": 4, "window": "slice", "seed": 7, **settings})
    rows = np.arange(N, dtype=np.int32)
    return Curriculum(schedule, {"up": rows, "down": rows[::-1].copy()}, n_rows=N, global_batch=2, total_steps=20)


def finish(made: Curriculum, choice: Chosen) -> None:
    for _ in range(choice.stage.n_steps):
        made.advance()


def test_a_selector_that_needs_losses_is_shown_them_whatever_it_does_with_them() -> None:
    meter = Meter()
    choice = decide(curriculum(), Hardest(), meter)
    assert (choice.stage.chosen, choice.outcome, meter.asked) == ("down", "all rows measured", 1)
    assert choice.measured is not None
    assert choice.view.mean_loss is not None
    assert choice.view.mean_loss.tolist() == [4.5, 34.5]


def test_a_selector_that_needs_nothing_is_asked_without_a_measurement() -> None:
    meter = Meter()
    choice = decide(curriculum(), build_selector({"name": "fixed", "order": "down"}), meter)
    assert (choice.stage.chosen, choice.outcome, choice.measured, meter.asked) == ("down", "not measured", None, 0)


def test_a_selector_is_shown_the_whole_record() -> None:
    made, selector = curriculum(), Hardest()
    history = History([PastStage(0, "down", 5, loss=1.5)], {"math": [0.2, 0.3]})
    finish(made, decide(made, selector, Meter(), probe_loss=1.0))
    choice = decide(made, selector, Meter(), probe_loss=0.5, history=history)
    first, second = selector.shown
    assert (first.stage, first.step, first.progress, first.probe_loss, first.history) == (0, 0, 0.0, 1.0, History())
    assert [offer.name for offer in second.offers] == list(second.names) == ["up", "down"]
    assert (second.stage, second.step, second.total_steps, second.epoch, second.progress) == (1, 5, 20, 0, 0.25)
    assert second.times_chosen == {"up": 0, "down": 1}
    assert second.rows_by_choice == {"up": 0, "down": 10, "shuffle": 0}
    assert (second.history, second.seed, second.probe_loss) == (history, 7, 0.5)
    assert choice.view is second


def test_what_a_selector_was_shown_does_not_change_with_the_run() -> None:
    made, selector = curriculum(), Hardest()
    decide(made, selector, Meter())
    assert selector.shown[0].times_chosen == {"up": 0, "down": 0}
    assert made.times_chosen == {"up": 0, "down": 1}


def test_what_nothing_pays_for_is_taken_in_turns() -> None:
    made, chosen = curriculum(stages=8), []
    for _ in range(4):
        choice = decide(made, Hardest(), Meter("not paid for"))
        assert (choice.outcome, choice.measured, choice.view.mean_loss) == ("not paid for", None, None)
        chosen.append(choice.stage.chosen)
        finish(made, choice)
    assert chosen == ["up", "down", "up", "down"]


def trained(*rows: int) -> FreeLosses:
    """Rows that were just trained, whose loss is their number."""
    values, tokens = np.array(rows, dtype=np.float64), np.ones(len(rows), dtype=np.int64)
    return FreeLosses(np.array(rows), losses_of(values, tokens, 0 * tokens))


def test_what_nothing_pays_for_is_chosen_by_the_losses_of_the_rows_just_trained() -> None:
    refused = Meter("not paid for")
    choice = decide(curriculum(), Hardest(), refused, free=trained(*range(0, N, 2)))
    assert (choice.stage.chosen, choice.outcome, refused.asked) == ("down", "losses of training", 1)
    assert choice.measured is not None
    assert choice.refused is not None
    assert choice.measured.n_rows.tolist() == [5, 5]
    assert choice.view.mean_loss is not None
    assert choice.view.mean_loss[0] < 10 < 30 < choice.view.mean_loss[1]


def test_what_was_trained_elsewhere_is_no_ground_for_a_choice() -> None:
    choice = decide(curriculum(), Hardest(), Meter("not paid for"), free=trained(*range(10)))
    assert (choice.stage.chosen, choice.outcome, choice.measured) == ("up", "not paid for", None)


def test_losses_that_are_free_are_not_asked_where_a_measurement_is_paid_for() -> None:
    choice = decide(curriculum(), Hardest(), Meter(), free=trained(*range(0, N, 2)))
    assert (choice.outcome, choice.refused) == ("all rows measured", None)


@pytest.mark.parametrize(("more", "chosen"), [(range(16), "up"), (range(24, 40), "down")])
def test_without_probes_a_selector_compares_with_the_mean_of_what_was_trained(more: range, chosen: str) -> None:
    meter, free = Meter(), trained(*{*range(0, N, 2), *more})  # rows of either end, and more of one
    choice = decide(curriculum(), build_selector("matched"), meter, free=free)
    assert meter.asked == 0  # a measurement would have had nothing to be compared with
    assert (choice.outcome, choice.view.probe_loss) == ("losses of training", free.level)
    assert choice.stage.chosen == chosen


def test_without_probes_and_before_the_first_stage_offers_take_turns() -> None:
    meter = Meter()
    choice = decide(curriculum(), build_selector("matched"), meter)
    assert (choice.stage.chosen, choice.outcome, choice.refused, meter.asked) == ("up", "not paid for", None, 0)


def test_the_ranks_agree_on_a_choice_before_its_stage_is_opened() -> None:
    assert decide(curriculum(), Hardest(), Meter(), agree={"down": "up"}.__getitem__).stage.chosen == "up"


def test_without_offers_nobody_is_asked_and_rows_are_shuffled() -> None:
    barred = curriculum()
    for name in ("up", "down"):
        barred.bar(name, barred=True)
    for made, outcome in ((curriculum(handover=0.0), "handed over"), (barred, "no order to offer")):
        choice = decide(made, Hardest(), Meter())
        assert (choice.stage.chosen, choice.outcome, choice.view.offers) == ("shuffle", outcome, [])


@pytest.mark.parametrize(
    ("pools", "alike"),
    [
        ([[1, 2]], True),
        ([[1, 2], [2, 1], [1, 2]], True),
        ([[1, 2], [1, 2, 3]], False),
        ([[0, 3], [1, 2]], False),  # as many rows, of the same sum
        ([[1, 2], [2, 1], [0, 3]], False),
    ],
)
def test_offers_are_alike_that_hold_the_same_rows(pools: Sequence[Sequence[int]], alike: bool) -> None:
    made = [Offer("a", np.array(pool, dtype=np.int32), len(pool), len(pool), (0.0, 1.0), 0) for pool in pools]
    assert all_alike(made) == alike


def test_a_policy_that_measures_its_candidates_is_handed_what_measures_them() -> None:
    asked: list[int] = []

    def fresh(rows: RowArray) -> FloatArray:
        asked.append(len(rows))
        return np.ones(len(rows))

    policy = Policy(40, thin=Thin("top", "x", keep=0.5, fresh=True))
    for n_orders in (0, 1):
        made = lived(policy, n_orders=n_orders, batch=4, stages=5).curriculum
        chosen = decide(made, build_selector("round_robin"), lambda _: pytest.fail("not asked"), fresh=fresh)
        assert chosen.stage.draw is not None
        assert chosen.stage.draw.passed_over == 8
    assert asked == [16, 16]
