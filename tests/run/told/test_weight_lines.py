"""What a weighted run tells a person, and that one without weights tells nothing of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from campus_tune.run.told.console import Console
from campus_tune.run.told.events import Event, StageEnded
from campus_tune.run.told.last_lines import last_lines
from campus_tune.run.told.trainers_log import TrainersLog
from campus_tune.run.told.weight_lines import audit_line, card_line, changed_nothing, stage_line, warnings_of
from campus_tune.words.types import Json

WEIGHTS: Json = {
    "mean": 1.0,
    "min": 0.1296,
    "max": 2.4,
    "ess": 0.714,
    "half": 0.3,
    "by_domain": {"code": 1.2, "text": 0.8},
    "histogram": [0, 0, 1, 2, 4, 2, 1, 0, 0],
}
PLAIN: Json = {"stage": 3, "step": 40, "chosen": "shuffle", "train_loss": 1.4025, "audit": {}}
RECORD: Json = {**PLAIN, "weights": WEIGHTS, "weighted_loss": 1.21, "clipped_steps": [0, 10], "weights_audit": [40, 40]}
END: Json = {
    "competence": {},
    "rows_by_choice": {"shuffle": 8},
    "rows_seen": 8,
    "n_rows": 8,
    "coverage": "exact",
    "visits": 8,
    "cost": {"all": 0.0},
    "found": 0.0,
    "budget": 0.05,
    "seconds": {"share": 0.0},
    "audit": {"checked": 120, "passed": 120, "labels": True},
}
AUDIT = "weights audit: 120 of 120 checked steps multiplied the planned weights"


def weighted(**changed: object) -> Json:
    return {**RECORD, "weights": {**WEIGHTS, **changed}}


# -- lines -----------------------------------------------------------------------------------------------------------


def test_a_stages_line_is_short_and_fits_into_a_terminal() -> None:
    line = stage_line(RECORD, 120)
    assert line == "step 40/120 · after stage 3 · weights 0.13–2.4, ess 71% · loss 1.403, weighted 1.210"
    clipped = stage_line({**RECORD, "clipped_steps": [4, 10]}, 120)
    assert clipped == f"{line} · 4 of 10 clipped"
    assert stage_line({**RECORD, "clipped_steps": None}, 120) == line
    assert stage_line({**RECORD, "weighted_loss": None}, 120) == line.partition(" · loss")[0]  # no row counted
    alike = stage_line(weighted(min=0.9999, max=1.0001, ess=1.0), 120)
    assert alike == "step 40/120 · after stage 3 · all weights 1 · loss 1.403, weighted 1.210"


def test_only_the_stages_of_a_weighted_run_have_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(120, tmp_path)
    console.take(StageEnded(PLAIN))
    assert capsys.readouterr().out == ""
    console.take(StageEnded(RECORD))
    assert capsys.readouterr().out == f"campus: {stage_line(RECORD, 120)}\n"


def test_the_weights_audit_stands_behind_the_order_audit_where_there_is_one() -> None:
    lines = last_lines({**END, "weights_audit": [120, 120]}, "out")
    assert lines[-3:] == [
        "order audit: all 120 steps trained the planned rows, tokens and labels",
        AUDIT,
        "everything about this run is in out",
    ]
    assert [line for line in lines if line != AUDIT] == last_lines(END, "out")


def test_a_run_whose_weights_never_held_says_so() -> None:
    assert audit_line([0, 0]) == "weights audit: no weight held in any step, so there was nothing to check"
    assert audit_line([1200, 1199]).startswith("weights audit: 1,199 of 1,200 checked steps")


def test_trackers_get_the_loss_that_was_minimised_and_the_effective_share() -> None:
    log = TrainersLog()
    event: Event = StageEnded(PLAIN)
    log.take(event)
    assert log.pending == {}
    log.take(StageEnded(RECORD))
    assert log.pending == {"campus/weighted_loss": 1.21, "campus/weight_ess": 0.714}
    log.pending.clear()
    log.take(StageEnded({**RECORD, "weighted_loss": None}))
    assert log.pending == {"campus/weight_ess": 0.714}


def test_a_model_card_says_how_even_the_weights_were_and_that_they_were_audited() -> None:
    events = [{"event": "run"}, weighted(ess=0.9), {**weighted(ess=0.5), "weights_audit": [120, 120]}]
    assert card_line(events) == (
        f"rows counted by the `weights` below: effective sample size 50% to 90% of the rows of a stage; {AUDIT}"
    )
    assert card_line([{**PLAIN, "weights_audit": [0, 0]}]) == (
        "rows counted by the `weights` below: weights audit: no weight held in any step, so there was nothing to check"
    )
    assert card_line([{"event": "run"}, PLAIN, END]) is None


# -- warnings --------------------------------------------------------------------------------------------------------


def test_a_stage_of_a_run_without_weights_warns_of_nothing() -> None:
    assert warnings_of({**PLAIN, "clipped_steps": [9, 10]}, set()) == {}
    assert warnings_of(RECORD, set()) == {}


def test_few_rows_that_carry_half_of_the_gradient_are_warned_of_in_numbers() -> None:
    found = warnings_of(weighted(ess=0.299, half=0.031), set())
    assert list(found) == ["ess"]
    assert found["ess"].startswith(
        "3.1% of the rows of stage 3 carried half of the gradient (the effective sample size of the weights was 30% of "
    )
    assert warnings_of(weighted(ess=0.3), set()) == {}


@pytest.mark.parametrize(
    ("clipped", "warned"), [([4, 10], False), ([5, 10], True), ([30, 100], False), ([31, 100], True), (None, False)]
)
def test_many_clipped_steps_are_warned_of(clipped: list[int] | None, warned: bool) -> None:
    found = warnings_of({**RECORD, "clipped_steps": clipped}, set())
    assert list(found) == ["clipped"] * warned
    if warned and clipped is not None:
        assert found["clipped"].startswith(f"{clipped[0]} of {clipped[1]} steps of stage 3 had their gradient clipped")


def test_clipped_steps_are_no_matter_of_weights_that_are_alike() -> None:
    assert warnings_of({**weighted(ess=0.995), "clipped_steps": [9, 10]}, set()) == {}


def test_domains_that_self_pacing_shuts_out_are_named_the_worst_first() -> None:
    shares = {"code": 0.09, "text": 0.14, "math": 0.5}
    found = warnings_of(weighted(shut_out=shares), set())
    assert list(found) == ["shut_out"]
    assert found["shut_out"].startswith("self-pacing shut out 50% of `math`, 14% of `text` in stage 3: these rows")
    (text,) = warnings_of(weighted(shut_out={"all rows": 0.2}, by_domain={}), set()).values()
    assert text.startswith("self-pacing shut out 20% of all rows in stage 3")
    assert warnings_of(weighted(shut_out={"code": 0.09}), set()) == {}
    many = {f"domain {i}": 0.2 for i in range(9)}
    assert "`domain 3`, … in stage 3" in warnings_of(weighted(shut_out=many), set())["shut_out"]


def test_each_kind_is_said_once_in_a_run() -> None:
    bad = {**weighted(ess=0.1, shut_out={"text": 0.5}), "clipped_steps": [9, 10]}
    said: set[str] = set()
    counts = []
    for _ in range(2):
        found = warnings_of(bad, said)
        said |= set(found)
        counts.append(list(found))
    assert counts == [["ess", "clipped", "shut_out"], []]
    assert list(warnings_of(bad, {"ess"})) == ["clipped", "shut_out"]


def test_weights_that_were_1_in_every_stage_are_said_to_have_changed_nothing() -> None:
    still = {"event": "stage_end", **RECORD, "weights": {**WEIGHTS, "min": 0.99999, "max": 1.00001}}
    said = changed_nothing([{"event": "run"}, still, still, {"event": "end", **END}])
    assert said is not None
    assert said.startswith("the weights changed nothing: every row of all 2 stages counted 1.")
    assert changed_nothing([still, {"event": "stage_end", **RECORD}]) is None
    assert changed_nothing([{"event": "stage_end", **PLAIN}]) is None
