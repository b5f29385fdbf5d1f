"""What a run of prompts tells: in a line a stage, in warnings, at its end, in the trainer's log."""

from __future__ import annotations

import re

import pytest

from campus_tune.run.told.decision_lines import decision_line
from campus_tune.run.told.events import StageEnded
from campus_tune.run.told.last_lines import last_lines
from campus_tune.run.told.prompt_lines import answered_line, groups_line, prompt_warnings
from campus_tune.run.told.screen import decision_words
from campus_tune.run.told.summary import facts_of
from campus_tune.run.told.trainers_log import TrainersLog
from campus_tune.words.types import Json

GROUPS: Json = {"n": 20, "without_gradient": 0.25, "shuffled": 0.5, "untried": 0}
ENDED: Json = {
    "stage": 3,
    "step": 8,
    "groups": GROUPS,
    "pass_rate": 0.4,
    "reward": 0.4,
    "by_domain": {"code": {"groups": 12, "pass_rate": 0.3, "without_gradient": 0.1}},
    "generated_tokens": 1234,
    "prediction": {"correlation": 0.6},
}
END: Json = {
    "step": 12,
    "n_rows": 48,
    "rows_seen": 40,
    "rows_repeated": 8,
    "visits": 48,
    "coverage": "exact",
    "rows_by_choice": {"shuffle": 48},
    "groups": {**GROUPS, "n": 48},
    "pass_rate": 0.4,
    "generated_tokens": 5678,
    "audit": {"checked": 12, "passed": 12, "labels": False, "prompts": True, "generations": [6, 6]},
    "budget": 0.05,
    "competence": {},
    "cost": {"all": 0.0},
    "found": 0.0,
    "seconds": {"share": 0.1},
}


def test_a_stages_line_says_what_passed_and_what_moved_nothing() -> None:
    said = "step 8/12 · after stage 3 · 40% passed · 25% of 20 groups without a gradient (shuffled about 50%)"
    assert groups_line(ENDED, 12) == f"{said} · 1,234 tokens"
    assert groups_line({"stage": 3, "step": 8}, 12) is None


def test_a_reward_that_is_more_than_passing_is_said() -> None:
    assert "40% passed · reward 1.25 · " in str(groups_line({**ENDED, "reward": 1.25}, 12))


def test_of_a_stage_without_a_reward_there_is_no_rate() -> None:
    nothing = {**ENDED, "pass_rate": None, "reward": None, "groups": {**GROUPS, "shuffled": None}}
    assert groups_line(nothing, 12) == (
        "step 8/12 · after stage 3 · 25% of 20 groups without a gradient · 1,234 tokens"
    )


@pytest.mark.parametrize(
    ("changed", "kind", "said"),
    [
        ({"without_gradient": 0.95}, "flat", "95% of the 20 groups of stage 3 gave no gradient"),
        ({"untried": 5}, "untried", "5 of the 20 groups of stage 3 got no reward at all"),
    ],
)
def test_what_a_person_should_know_is_said_once(changed: Json, kind: str, said: str) -> None:
    record = {**ENDED, "groups": {**GROUPS, **changed}}
    found = prompt_warnings(record, said=())
    assert list(found) == [kind]
    assert found[kind].startswith(said)
    assert prompt_warnings(record, said=[kind]) == {}
    assert prompt_warnings({**record, "groups": {**record["groups"], "n": 15}}, said=()) == {}  # too few to say


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (0.0, r"none of the answers of stage 3 passed, though .* \(mean 0\.4\).* If right ones earn less, change it"),
        (1.0, r"all of the answers of stage 3 passed, though .* If wrong answers earn as much, change it"),
    ],
)
def test_a_bound_that_tells_no_answers_apart_is_said(rate: float, said: str) -> None:
    record = {**ENDED, "pass_rate": rate}
    assert re.match(said, prompt_warnings(record, said=())["at"])
    assert prompt_warnings({**record, "groups": {**GROUPS, "without_gradient": 1.0}}, said=["flat"]) == {}  # all alike
    assert prompt_warnings({**record, "pass_rate": None}, said=()) == {}


def test_a_stage_of_rows_has_no_such_warning() -> None:
    assert prompt_warnings({"stage": 3, "step": 8}, said=()) == {}


def test_the_end_of_a_run_says_what_its_answers_showed() -> None:
    lines = last_lines(END, "here")
    assert "prompts: 40 of 48 seen (83%), each once per epoch, 1.00 epochs" in lines
    assert (
        "40% of the answers passed; 25% of 48 groups without a gradient (shuffled about 50%); 5,678 tokens generated"
    ) in lines
    assert (
        "order audit: all 12 steps trained the planned prompts; all 6 generations answered them, in their order"
    ) in lines
    assert answered_line({"step": 1}) is None


def test_the_panel_has_the_same_under_words() -> None:
    facts = {fact.label: fact.line for fact in facts_of(END, {}, {}, {"sentence": "48 prompts: 40 passed sometimes"})}
    assert facts["answers"].startswith("40% of the answers passed; ")
    assert facts["prompts"] == "40 passed sometimes"
    assert facts["trained"] == "12 steps, 40 of 48 seen (83%), each once per epoch, 1.00 epochs"
    assert facts["audit"].startswith("✓ all 12 steps")


def test_a_generation_that_was_not_as_planned_is_marked() -> None:
    audit = {**END["audit"], "generations": [6, 5]}
    facts = {fact.label: fact.line for fact in facts_of({**END, "audit": audit}, {}, {})}
    assert facts["audit"].startswith("! all 12 steps trained the planned prompts; only 5 of 6 generations")


def test_the_trainers_log_carries_what_is_known() -> None:
    log = TrainersLog()
    log.take(StageEnded(ENDED))
    assert log.pending == {
        "campus/pass_rate": 0.4,
        "campus/without_gradient": 0.25,
        "campus/without_gradient_shuffled": 0.5,
        "campus/generated_tokens": 1234,
        "campus/prediction_correlation": 0.6,
        "campus/pass_rate/code": 0.3,
    }
    unknown = TrainersLog()
    unknown.take(StageEnded({**ENDED, "pass_rate": None, "by_domain": {}, "prediction": None}))
    assert "campus/pass_rate" not in unknown.pending


DECISION: Json = {
    "step": 4, "stage": 2, "chosen": "shuffle", "outcome": "handed over", "rows": 8, "scope": [0.0, 1.0],
    "generation": 4,
}  # fmt: skip


@pytest.mark.parametrize(
    ("thin", "said"),
    [
        ({"how": "top", "by": "middle"}, "8 prompts by middle"),
        ({"how": "top", "by": "middle", "skipped": "nothing is known"}, "shuffled, 8 prompts"),
        ({}, "shuffled, 8 prompts"),
    ],
)
def test_a_decision_says_what_its_prompts_were_drawn_by(thin: Json, said: str) -> None:
    record = {**DECISION, "thin": thin}
    assert said in decision_line(record, 12, {}, 0.0)
    assert said.replace("8 prompts by ", "").split(",")[0] in decision_words(record, 12, {}, 0.0)[2][0]
    rows = {name: value for name, value in record.items() if name != "generation"}
    assert "shuffled, 8 rows" in decision_line(rows, 12, {}, 0.0)


def test_prompts_that_were_never_drawn_are_counted_without_a_warning() -> None:
    never = {"rows": 20, "by_domain": {"code": 20}}
    drawn = {"passes": {"code": 0.5}, "review_rows": 0, "dropped": 0, "visits_most": 1, "never_trained": never}
    assert "20 of 48 prompts were never drawn (code 20)" in last_lines({**END, **drawn}, "here")
