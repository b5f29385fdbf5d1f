"""What a steered run tells a person, trackers and its card, and that another one tells nothing of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from campus_tune.method.firing import Firing
from campus_tune.method.firing_lines import fired_line, seen
from campus_tune.run.ledger import read_ledger
from campus_tune.run.ledger_lines import EVENTS
from campus_tune.run.told.console import Console
from campus_tune.run.told.events import Decided, Fired, Probed, SharesMoved
from campus_tune.run.told.steering_lines import moves, steering_warnings, summed_up
from campus_tune.run.told.trainers_log import TrainersLog
from campus_tune.words.json_shapes import misshapen
from campus_tune.words.types import Json
from tests.run.told.test_journal import DECISION, made

REGRESSED = Firing("regression", "regression", "math", 5, 10, 120, 0.3, 0.0612, 0.032, 0.02, ("review",))
RECOVERED = Firing("recovered", "recovered", "math", 7, 14, 160, 0.4, 0.004, 0.012, 0.02)
STILL = Firing("stagnation", "stagnation", None, 9, 18, 200, 0.5, 0.001, 0.0031, 0.005, ("widen",))
MET = Firing("milestone", "fractions", "math", 9, 18, 200, 0.5, 0.78, 0.796, 0.8)
LEARNED = Firing("saturated", "saturated", None, 9, 18, 200, 0.5, 0.994, 0.991, 0.99, ("stop",))
MOVED = SharesMoved(4, 80, {"math": 0.2, "code": 0.8}, {"math": 0.31, "code": 0.69}, {"math": 0.4, "code": 0.1})
RUN: Json = {"event": "run", "past": {"n_rows": 8}, "future": {"total_steps": 400}}


def line(firing: Firing, **done: Json) -> Json:
    return {"event": "event", **Fired(firing, done).line()}


# -- the ledger ------------------------------------------------------------------------------------------------------


def test_a_firing_and_moved_shares_are_lines_of_the_ledger(tmp_path: Path) -> None:
    journal, rolled_back = made(tmp_path), Fired(replace(REGRESSED, actions=("rollback",)), {"rollback": {"step": 80}})
    for event in (Fired(REGRESSED), rolled_back, MOVED):
        journal.take(event)
    plain, rolled, moved = read_ledger(tmp_path / "ledger.jsonl")
    assert plain == {"event": "event", **REGRESSED.line()}
    assert rolled["done"] == {"rollback": {"step": 80}}
    assert moved == {"event": "shares", **vars(MOVED)}
    for found in (plain, rolled, moved):
        assert misshapen(found, EVENTS[found["event"]]) is None
    assert Firing.of({name: value for name, value in plain.items() if name != "event"}) == REGRESSED


# -- the console -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("firing", "said"),
    [
        (REGRESSED, "math regressed: loss 6.12% above its best (at least 3.2%, limit 2%) → its rows in the review"),
        (RECOVERED, "math has recovered: loss 0.4% above its best (at most 1.2%, limit 2%)"),
        (replace(RECOVERED, value=-0.01), "math has recovered: loss 1% below its best (at most 1.2%, limit 2%)"),
        (STILL, "the probes stand still: gain 0.1% (at most 0.31%, limit 0.5%) → the orders are opened a step further"),
        (replace(STILL, probe="code", value=-0.001), "code stands still: gain -0.1% (at most 0.31%, limit 0.5%)"),
        (MET, "milestone fractions met: loss of math 0.780 (at most 0.796, limit 0.8)"),
        (replace(MET, value=0.5, bound=0.45, against=0.4), "fractions met: math 0.500 (at least 0.450, limit 0.4)"),
        (replace(MET, value=0.5, bound=0.5, against=0.6), "met: loss of math 0.500 (at most 0.500, limit 0.6)"),
        (replace(MET, value=0.5, bound=0.5, against=0.4), "met: math 0.500 (at least 0.500, limit 0.4)"),
        (LEARNED, "again are learned: 99.4% of their tokens are the likeliest (at least 99.1%, limit 99%)"),
    ],
)  # fmt: skip
def test_a_firing_is_said_in_plain_words_with_its_numbers(firing: Firing, said: str) -> None:
    shown = fired_line(line(firing), 400)
    assert shown.startswith(f"step {firing.step}/400 · ")
    assert said in shown


def test_what_is_only_noted_has_no_answer_and_a_list_is_said_in_sequence() -> None:
    assert "→" not in fired_line(line(RECOVERED), 400)
    both = fired_line(line(replace(REGRESSED, actions=("rollback", "hand_over"), times=2), rollback={"step": 80}), 400)
    assert both.endswith("→ weights and moments of step 80 are back, then rows are shuffled from here on (time 2)")
    stop = fired_line(line(LEARNED, stop={"said": "the last checkpoint is that of step 200"}), 400)
    assert stop.endswith("limit 99%) → the last checkpoint is that of step 200")
    assert fired_line(line(LEARNED), 400).endswith("→ training stops here")


@pytest.mark.parametrize("kind", ["regression", "stagnation", "milestone", "saturated", "another"])
def test_a_number_that_json_could_not_hold_is_said_to_be_unknown(kind: str) -> None:
    assert seen({**line(REGRESSED), "kind": kind, "value": None}) == f"{kind} of math, of unknown size"
    assert seen({**line(STILL), "kind": kind, "bound": None}) == f"{kind} of unknown size"


def test_shares_are_told_once_they_have_moved_by_more_than_a_point(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    console = Console(400, tmp_path)
    shares = [0.2, 0.206, 0.209, 0.215, 0.22, 0.4]
    for step, (before, after) in enumerate(pairwise(shares)):
        console.take(SharesMoved(step, step, {"a": before, "b": 1 - before}, {"a": after, "b": 1 - after}))
    assert capsys.readouterr().out.splitlines() == [
        "campus: step 2/400 · shares: a 20% → 22%, b 80% → 78%",
        "campus: step 4/400 · shares: a 22% → 40%, b 78% → 60%",
    ]
    console.take(Fired(REGRESSED))
    assert capsys.readouterr().out == f"campus: {fired_line(line(REGRESSED), 400)}\n"


def test_of_many_shares_those_that_moved_most_are_named() -> None:
    before = dict.fromkeys("abcdef", 1 / 6)
    after = dict(zip("abcdef", [0.05, 0.1, 0.15, 0.17, 0.23, 0.3], strict=True))
    assert moves(before, after) == ["f 17% → 30%", "a 17% → 5%", "b 17% → 10%", "e 17% → 23%", "c 17% → 15%"]
    assert moves({}, {"new": 0.5}) == ["new 0% → 50%"]


# -- trackers --------------------------------------------------------------------------------------------------------


def test_trackers_get_events_shares_calibration_and_what_a_bandit_does() -> None:
    log = TrainersLog()
    log.take(Fired(REGRESSED))
    log.take(MOVED)
    log.take(
        Probed(4, {"math": {"competence": 0.5, "loss": 0.7, "ece": 0.04}, "code": {"competence": 0.5, "loss": 0.7}})
    )
    assert log.pending == {
        "campus/event/regression": 1,
        "campus/target_share/math": 0.31,
        "campus/target_share/code": 0.69,
        **{f"campus/competence/{name}": 0.5 for name in ("math", "code")},
        **{f"campus/probe_loss/{name}": 0.7 for name in ("math", "code")},
        "campus/ece/math": 0.04,
    }
    log.pending.clear()
    reward = {"stage": 0, "chosen": "length", "value": 30.0, "scaled": 0.25}
    log.take(Decided({**DECISION, "reward": reward, "pi": {"length": 0.7, "mtld": 0.3}}, {}, 0.0))
    assert log.pending["campus/reward"] == 0.25
    assert (log.pending["campus/pi/length"], log.pending["campus/pi/mtld"]) == (0.7, 0.3)
    log.pending.clear()
    log.take(Decided({**DECISION, "reward": None, "pi": {}}, {}, 0.0))
    assert set(log.pending) == {"campus/stage", "campus/scope", "campus/cost_share"}


# -- the end ---------------------------------------------------------------------------------------------------------


def test_a_regression_that_has_not_recovered_is_warned_of_with_what_was_done() -> None:
    again = replace(REGRESSED, step=240, value=0.08, times=2)
    (warning,) = steering_warnings([RUN, line(REGRESSED), line(again)])
    assert warning.startswith(
        "`math` regressed at step 120 (the loss was 8% above its best at step 240) and had not recovered at the end, "
        "though its rows in the review lane × 2. "
    )
    assert steering_warnings([RUN, line(REGRESSED), line(RECOVERED)]) == []
    (later,) = steering_warnings([RUN, line(REGRESSED), line(RECOVERED), line(again)])
    assert later.startswith("`math` regressed at step 240")


def test_a_regression_that_was_only_noted_is_told_and_what_would_answer_it() -> None:
    (warning,) = steering_warnings([RUN, line(replace(REGRESSED, actions=("note",)))])
    assert "had not recovered at the end; nothing was done about it. Review it (`when: {regression: review}`" in warning


def test_a_stagnation_that_an_action_did_not_end_is_warned_of() -> None:
    again = replace(STILL, step=280, times=2)
    (warning,) = steering_warnings([RUN, line(STILL), line(again)])
    assert warning.startswith("the probes stood still at steps 200, 280, though the orders are opened a step further. ")
    assert steering_warnings([RUN, line(STILL)]) == []  # nobody knows yet whether it helped
    noted = [line(replace(one, actions=("note",))) for one in (STILL, again)]
    assert steering_warnings([RUN, *noted]) == []
    assert steering_warnings([RUN, line(STILL), line(replace(again, probe="code"))]) == []


def test_nothing_else_is_warned_of() -> None:
    assert steering_warnings([RUN, line(MET), line(LEARNED), {"event": "shares", **vars(MOVED)}]) == []


def test_a_card_says_what_was_seen_and_an_early_stop_plainly() -> None:
    stop = line(LEARNED, stop={"said": "stopped at step 200 of 400; the fair control is `random`"})
    events = [RUN, line(REGRESSED), line(replace(REGRESSED, step=140, times=2)), line(RECOVERED), line(MET), stop]
    assert summed_up(events) == [
        (
            "rules saw: `math` regressed at steps 120, 140 (its rows in the review lane × 2); `math` recovered at step "
            "160; milestone `fractions` was met at step 200; rows that come again were learned at step 200"
        ),
        (
            "training was stopped early, because rows that come again are learned: 99.4% of their tokens are the "
            "likeliest (at least 99.1%, limit 99%): stopped at step 200 of 400; the fair control is `random`"
        ),
    ]
    assert summed_up([RUN, line(LEARNED)])[1].endswith("limit 99%): stopped at step 200 of 400")
    assert summed_up([RUN]) == []


def test_a_card_says_how_far_shares_have_moved() -> None:
    moved = {"event": "shares", **vars(MOVED)}
    assert summed_up([RUN, moved]) == ["shares followed the record, 1 time: math 20% → 31%, code 80% → 69%"]
    back = {**moved, "before": moved["after"], "after": moved["before"]}
    assert summed_up([RUN, moved, back]) == ["shares followed the record, 2 times: by less than a point in the end"]
