"""The blocks that steer: what is read, what is refused with which words, and that following them helps."""

from __future__ import annotations

import copy
import math
import re
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.clock import Clock
from campus_tune.method.estimates import Estimate
from campus_tune.method.firing import Action
from campus_tune.method.probe_history import Measurement
from campus_tune.method.reweight import build_reweight
from campus_tune.method.rules import RULES, Milestone, Regression, Saturated, Stagnation
from campus_tune.recipe.config import STEERED, CampusConfig, load_recipe, part_schemas
from campus_tune.recipe.plugins import plugins_used
from campus_tune.recipe.steer_blocks import LEVELS, THEN, WHEN, ClockSettings, MilestoneSettings, events, options_of
from campus_tune.recipe.steer_rules import OF_DOMAINS, ORDERS
from campus_tune.words.annotated import defaults, leaves
from campus_tune.words.errors import RecipeError
from campus_tune.words.strict_yaml import read_value
from campus_tune.words.types import Json
from tests.schema_walk import valid
from tests.strategies import examples

DEFS = {"$defs": part_schemas()}
ACTIONS = get_args(Action)
SUMS: Json = {"name": "sums", "probe": "math", "loss": 0.8}
HALVES = [{"until": 0.5}, {"until": 1}]


def config(**settings: Any) -> CampusConfig:
    return CampusConfig.from_mapping({"metrics": ["length"], **settings})


def problems(**settings: Any) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        config(**settings)
    return caught.value.problems


# -- what is read ------------------------------------------------------------------------------------------------------


def test_an_event_is_answered_by_an_action_by_several_or_by_a_mapping() -> None:
    when = config(
        when={"stagnation": "note", "regression": ["rollback", "hand_over"], "saturated": {"at": 0.9, "times": 3}}
    ).when
    assert when == {
        "stagnation": {"then": ("note",)},
        "regression": {"then": ("rollback", "hand_over")},
        "saturated": {"then": ("note",), "at": 0.9, "times": 3},
    }


def test_an_action_alone_is_a_list_of_one() -> None:
    assert config(when={"stagnation": "stop"}) == config(when={"stagnation": {"then": ["stop"]}})
    one, other = ({**SUMS, "then": then} for then in ("stop", ["stop"]))
    assert config(milestones=[one]) == config(milestones=[other])


@pytest.mark.parametrize(
    ("when", "has_probes", "rules"),
    [
        (None, True, (Regression(), Stagnation())),
        (None, False, ()),
        ({}, True, ()),
        ({"regression": "stop"}, True, (Regression(then=("stop",)),)),
        (
            {"stagnation": {"window": 5, "probe": "math"}, "saturated": {"at": 0.9, "then": "stop"}},
            True,
            (Saturated(at=0.9, then=("stop",)), Stagnation(window=5, probe="math")),
        ),
    ],
)
def test_what_is_usual_is_noted_where_there_are_probes_and_what_is_written_is_all(
    when: Any, has_probes: bool, rules: Any
) -> None:
    assert config(when=when).rules(has_probes=has_probes) == rules


def test_milestones_come_first_as_they_are_written_then_events_by_name_however_they_are_written() -> None:
    milestones = [{"name": "b", "probe": "code", "accuracy": 0.9, "hold": 1, "then": "stop"}, SUMS]
    for when in ({"stagnation": "note", "regression": "note"}, {"regression": "note", "stagnation": "note"}):
        assert config(milestones=milestones, when=when).rules(has_probes=True) == (
            Milestone("b", "code", accuracy=0.9, hold=1, then=("stop",)),
            Milestone("sums", "math", loss=0.8),
            Regression(),
            Stagnation(),
        )


@pytest.mark.parametrize(
    ("written", "clock"),
    [
        (None, Clock()),
        ("steps", Clock()),
        ("tokens", Clock("tokens")),
        ({"by": "tokens"}, Clock("tokens")),
        ({"by": "competence", "target": 0.8}, Clock("competence", 0.8)),
    ],
)
def test_a_clock_is_a_word_or_a_mapping(written: Any, clock: Clock) -> None:
    assert config(clock=written).clock_part == clock


@pytest.mark.parametrize(
    ("settings", "has_probes", "steers"),
    [
        ({}, False, False),
        ({}, True, True),  # it notes
        ({"when": {}}, True, False),
        ({"clock": "steps", "when": {}}, True, False),
        ({"clock": "tokens"}, False, True),
        ({"domains": {"reweight": "odm"}}, False, True),
        ({"domains": {"follow": "seen_loss"}}, False, False),
        ({"when": {"regression": "note"}}, True, True),
        ({"milestones": [SUMS], "when": {}}, True, True),
    ],
)
def test_a_recipe_steers_where_something_goes_by_the_record(settings: Any, has_probes: bool, steers: bool) -> None:
    assert config(**settings).steers(has_probes=has_probes) == steers


def test_a_milestone_of_a_recipe_has_the_options_and_defaults_of_its_rule() -> None:
    assert list(MilestoneSettings.known()) == list(leaves(Milestone)) == RULES.options("milestone")
    assert defaults(MilestoneSettings) == defaults(Milestone)
    own = {name: one for name, one in MilestoneSettings.known().items() if name != "then"}
    assert own == {name: one for name, one in leaves(Milestone).items() if name != "then"}


def _events() -> st.SearchStrategy[Json]:
    """Any `when` that is right by itself."""
    then: st.SearchStrategy[Any] = st.sampled_from(ACTIONS) | st.lists(
        st.sampled_from(ACTIONS), min_size=1, max_size=4, unique=True
    )
    own: dict[str, dict[str, st.SearchStrategy[Any]]] = {
        "regression": {"over": st.floats(0, 9), "hold": st.integers(1, 100)},
        "saturated": {"at": st.floats(0.01, 1), "hold": st.integers(1, 100)},
        "stagnation": {"window": st.integers(1, 7), "least": st.floats(0.001, 0.9), "probe": st.just("math")},
    }
    assert sorted(own) == events()  # a new rule must say here what it takes
    entries = {
        event: then | st.fixed_dictionaries({}, optional={"then": then, "times": st.integers(1, 9), **options})
        for event, options in own.items()
    }
    return st.fixed_dictionaries({}, optional=entries)


def _is_whole(when: Json) -> bool:
    """Nothing behind the end, and nothing of one domain where there is none: what a schema cannot say."""
    for event, entry in when.items():
        then = entry.get("then", "note") if isinstance(entry, dict) else entry
        given = [then] if isinstance(then, str) else then
        alone = event == "saturated" or (event == "stagnation" and not (isinstance(entry, dict) and "probe" in entry))
        if "stop" in given[:-1] or (alone and {*given} & {*OF_DOMAINS}):
            return False
    return True


@examples(200)
@given(_events())
def test_what_is_written_is_read_and_written_again_and_the_schema_takes_it(when: Json) -> None:
    before = copy.deepcopy(when)
    assert valid(when, WHEN.schema(), DEFS)
    if not _is_whole(when):
        with pytest.raises(RecipeError, match=r"behind it. Put stop last|of no one domain, got r[ae]"):
            WHEN.read("when", when)
        return
    read = WHEN.read("when", when)
    assert when == before
    assert WHEN.read("when", read) == read
    rules = CampusConfig(metrics=["length"], when={}).steer.without(["clock"])
    assert rules.rules(has_probes=True) == ()
    for event, answer in read.items():
        rule = RULES.build(event, answer)
        assert rule.then == answer["then"]
        assert rule == RULES.build(event, {name: value for name, value in answer.items() if name in options_of(event)})


@examples(200)
@given(
    _events(),
    st.sampled_from([*events(), "milestone", "stagnatoin"]),
    st.sampled_from(
        [None, 0.99, True, "note", "reveiw", ["note", "note"], [], {}, {"then": []}, {"window": 3}, {"at": 2}]
    ),
)
def test_what_is_valid_is_what_is_read(when: Json, event: str, entry: Any) -> None:
    changed = {**when, event: entry}
    try:
        WHEN.read("when", changed)
        taken = True
    except RecipeError:
        taken = False
    assert (valid(changed, WHEN.schema(), DEFS) and _is_whole(changed)) == taken


def test_a_recipe_comes_back_from_its_yaml() -> None:
    recipe = config(
        milestones=[{**SUMS, "then": ["rollback", "hand_over"]}],
        when={"stagnation": {"then": "widen", "probe": "math"}, "saturated": {"at": 0.9}},
        clock={"by": "competence", "target": 0.5},
        domains={"reweight": {"name": "lagging", "rate": 0.5}},
    )
    assert CampusConfig.from_mapping(read_value(recipe.to_yaml(), "recipe")["campus"]) == recipe
    assert recipe.to_mapping()["when"]["saturated"] == {"then": ["note"], "at": 0.9}


def test_the_blocks_are_future_settings_and_a_recipe_without_them_says_nothing_of_them() -> None:
    plain = config()
    assert not {*STEERED} & plain.to_mapping().keys()
    assert "reweight" not in config(domains={}).to_mapping()["domains"]
    blocks: list[Json] = [{"milestones": [SUMS]}, {"when": {}}, {"clock": "tokens"}]
    for block in blocks:
        steered = config(**block)
        assert steered.past() == plain.past()
        assert steered.future().keys() - plain.future().keys() == block.keys()
        assert not steered.draws_apart


def test_what_is_read_does_not_change_with_the_callers_own() -> None:
    mine: Json = {"stagnation": {"then": ["widen"], "window": 3}}
    block = config(when=mine)
    mine["stagnation"]["then"].append("stop")
    mine["stagnation"]["window"] = 5
    block.to_mapping()["when"]["stagnation"]["then"].append("stop")
    assert block.rules(has_probes=True) == (Stagnation(window=3, then=("widen",)),)


def test_shares_that_a_rule_raises_or_losses_move_are_drawn_apart() -> None:
    raised = config(when={"regression": "raise"})
    assert raised.draws_apart
    assert raised.draw.uses_domains
    assert config(domains={"reweight": "odm"}).draws_apart
    weighed = config(when={"regression": "raise"}, domains={"by": "weights"})
    assert (weighed.draws_apart, weighed.weighs, weighed.draw.share_weights) == (False, True, True)


def test_the_package_of_anothers_rule_or_reweighting_is_part_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = config(when={"regression": "note"}, domains={"reweight": {"name": "odm", "alpha": 0.5}})
    assert plugins_used(recipe) == {}
    monkeypatch.setattr("campus_tune.recipe.plugins.version_of", lambda part: {part.__name__: "1"})
    assert {"Regression", "Odm"} <= plugins_used(recipe).keys()


# -- what is refused ---------------------------------------------------------------------------------------------------

WRONG: list[tuple[Json, str, Json]] = [  # settings, what is said, what it says to write
    (
        {"when": {"stagnation": "reveiw"}},
        (
            "`when: stagnation` must be one of note, widen, back_off, hand_over, review, raise, rollback, stop, "
            "next_phase, or a list of these, got 'reveiw'. Did you mean 'review'?"
        ),
        {"when": {"stagnation": {"then": "review", "probe": "math"}}, "review": {}},
    ),
    ({"when": {"stagnation": []}}, "or a list of these, got []. Choose one of them.", {"when": {"stagnation": "note"}}),
    (
        {"when": {"stagnation": True}},
        "got True. YAML reads yes, no, on and off as true and false: write note.",
        {"when": {"stagnation": "note"}},
    ),
    (
        {"when": {"saturated": 0.99}},
        (
            "`when: saturated` must be one of note, widen, back_off, hand_over, review, raise, rollback, stop, "
            "next_phase, or a list of these, got 0.99. Write saturated: {at: 0.99, then: note}."
        ),
        {"when": {"saturated": {"at": 0.99, "then": "note"}}},
    ),
    (
        {"when": {"stagnation": None}},
        "got None. Write stagnation: note, or leave it out.",
        {"when": {"stagnation": "note"}},
    ),
    (
        {"when": "note"},
        (
            "`when` must be a mapping of events to actions, got 'note'. Write {stagnation: note, regression: note}, or "
            "{} for none."
        ),
        {"when": {"stagnation": "note", "regression": "note"}},
    ),
    (
        {"when": {"milestone": {"probe": "math"}}},
        (
            "`when` must be of regression, saturated, stagnation, got milestone, which has a block of its own. Write "
            "milestones: [{name: fractions, probe: math, loss: 0.8, then: note}]."
        ),
        {"milestones": [{"name": "fractions", "probe": "math", "loss": 0.8, "then": "note"}]},
    ),
    (
        {"when": {"stagnatoin": "note"}},
        (
            "`when` takes regression, saturated, stagnation, got 'stagnatoin'. Did you mean 'stagnation'? Correct or "
            "remove it."
        ),
        {"when": {"stagnation": "note"}},
    ),
    (
        {"when": {"regression": {"then": "note", "windw": 3}}},
        "`when: regression` takes over, hold, then, times, got 'windw'. Correct or remove it.",
        {"when": {"regression": {"then": "note"}}},
    ),
    (
        {"when": {"stagnation": {"window": 9}}},
        "`when: stagnation: window` must be a whole number of at least 1 and at most 7, got 9. Lower it.",
        {"when": {"stagnation": {"window": 7}}},
    ),
    (
        {"when": {"stagnation": {"then": "note", "times": 0}}},
        "`when: stagnation: times` must be a whole number of at least 1, got 0. Raise it.",
        {"when": {"stagnation": {"then": "note", "times": 1}}},
    ),
    (
        {"when": {"regression": ["widen", "widen"]}},
        "`when: regression` must name an action once, got widen twice. Keep one of them.",
        {"when": {"regression": "widen"}},
    ),
    (
        {"when": {"regression": ["stop", "rollback"]}},
        "`when: regression` must end with stop, got rollback behind it. Put stop last.",
        {"when": {"regression": ["rollback", "stop"]}},
    ),
    (
        {"when": {"saturated": "raise"}},
        (
            "`when: saturated`: `then` must be of the whole run where saturated is of no one domain, got raise: it "
            "would do nothing. Choose another action, or name a `probe` if there is such an option."
        ),
        {"when": {"saturated": "widen"}},
    ),
    (
        {"when": {"stagnation": "raise"}},
        "got raise: it would do nothing. Choose another action, or name a `probe` if there is such an option.",
        {"when": {"stagnation": {"then": "raise", "probe": "math"}}},
    ),
    (
        {"milestones": [{"name": "a", "probe": "math"}]},
        "`milestones` must have one of loss, competence, accuracy, got none. Write loss: 0.8.",
        {"milestones": [{"name": "a", "probe": "math", "loss": 0.8}]},
    ),
    (
        {"milestones": [{"name": "a", "probe": "math", "loss": 0.8, "accuracy": 0.5}]},
        (
            "`milestones` must have one of loss, competence, accuracy, got loss: 0.8 and accuracy: 0.5. Keep loss: "
            "0.8, and give the others milestones of their own."
        ),
        {"milestones": [SUMS, {"name": "a", "probe": "math", "accuracy": 0.5}]},
    ),
    (
        {"milestones": [SUMS, {**SUMS, "loss": 0.5}]},
        "`milestones: name` must be of one milestone, got 'sums' twice. Rename one of them: sums 2.",
        {"milestones": [SUMS, {**SUMS, "name": "sums 2", "loss": 0.5}]},
    ),
    (
        {"milestones": {"name": "a"}},
        (
            "`milestones` must be a list of one or more, got {'name': 'a'}. Write milestones: [{name: fractions, "
            "probe: math, loss: 0.8}], or null for none."
        ),
        {"milestones": [{"name": "fractions", "probe": "math", "loss": 0.8}]},
    ),
    (
        {"milestones": [{"probe": "math", "loss": 0.8}]},
        "`milestones: name` must be a text, got None. Write a name.",
        {"milestones": [SUMS]},
    ),
    (
        {"milestones": [{**SUMS, "hold": 0}]},
        "`milestones: hold` must be a whole number of at least 1, got 0. Raise it.",
        {"milestones": [{**SUMS, "hold": 1}]},
    ),
    (
        {"milestones": [{"name": "a", "probe": "m", "competence": 1}]},
        "`milestones: competence` must be a number in (0, 1), got 1. Choose a value in this range.",
        {"milestones": [{"name": "a", "probe": "m", "competence": 0.99}]},
    ),
    (
        {"milestones": [{**SUMS, "then": "nte"}]},
        "got 'nte'. Did you mean 'note'?",
        {"milestones": [{**SUMS, "then": "note"}]},
    ),
    (
        {"clock": "competence"},
        (
            "`clock: target` must be given with by: competence, got nothing. Write clock: {by: competence, target: "
            "0.8}, or clock: steps."
        ),
        {"clock": {"by": "competence", "target": 0.8}},
    ),
    (
        {"clock": {"by": "tokens", "target": 0.8}},
        (
            "`clock: target` must be left out with by: tokens, got 0.8: it is a competence. Write by: competence, or "
            "remove it."
        ),
        {"clock": {"by": "competence", "target": 0.8}},
    ),
    (
        {"clock": "token"},
        "`clock: by` must be one of steps, tokens, competence, got 'token'. Did you mean 'tokens'?",
        {"clock": "tokens"},
    ),
    (
        {"clock": 3},
        (
            "`clock` must be steps, tokens, or a mapping, got 3. Write clock: steps, clock: tokens or clock: {by: "
            "competence, target: 0.8}."
        ),
        {"clock": "steps"},
    ),
    # what the blocks ask of the others
    (
        {"when": {"regression": "review"}},
        (
            "`when: regression` must have a `review` block whose rows it can double, got none. Add review: {share: "
            "0.05}, or write then: note."
        ),
        {"when": {"regression": "review"}, "review": {"share": 0.05}},
    ),
    (
        {"when": {"regression": "next_phase"}},
        (
            "`when: regression` must have `phases` to go on to, got none. Write phases: [{until: 0.5}, {until: 1}], or "
            "then: note."
        ),
        {"when": {"regression": "next_phase"}, "phases": HALVES},
    ),
    (
        {"milestones": [{**SUMS, "then": "next_phase"}], "phases": [{"until": 1}]},
        "`milestones: sums` must have `phases` to go on to, got 1 of them. Write phases: [{until: 0.5}, {until: 1}],",
        {"milestones": [{**SUMS, "then": "next_phase"}], "phases": HALVES},
    ),
    (
        {"when": {"regression": "raise"}, "domains": {"follow": "progress"}},
        (
            "`when: regression` must leave the shares to `domains: follow`, got raise, which would decide them too. "
            "Write then: note, or take `follow` out."
        ),
        {"when": {"regression": "raise"}, "domains": {}},
    ),
    (
        {"when": {"regression": "raise"}, "domains": {"reweight": "odm"}},
        (
            "`when: regression` must leave the shares to `domains: reweight`, got raise, which would decide them too. "
            "Write then: note, or take `reweight` out."
        ),
        {"when": {"regression": "note"}, "domains": {"reweight": "odm"}},
    ),
    (
        {"domains": {"follow": "progress", "reweight": "odm"}},
        "`domains: follow` must be alone to move the shares, got progress and reweight: 'odm'. Leave out one of them.",
        {"domains": {"reweight": "odm"}},
    ),
    (
        {"domains": {"reweight": "laging"}},
        "`reweighting` must be one of doremi, lagging, odm, skill_graph, got 'laging'. Did you mean 'lagging'?",
        {"domains": {"reweight": "lagging"}},
    ),
    (
        {"when": {"stagnation": "widen"}, "selector": "shuffle"},
        (
            "`when: stagnation` must have orders to widen, got selector: shuffle: rows are plainly shuffled anyway. "
            "Write then: note."
        ),
        {"when": {"stagnation": "note"}, "selector": "shuffle"},
    ),
    (
        {"when": {"stagnation": "back_off"}, "handover": 0},
        "`when: stagnation` must have orders to narrow, got handover: 0: rows are plainly shuffled anyway. Write ",
        {"when": {"stagnation": "note"}, "handover": 0},
    ),
    (
        {"when": {"stagnation": ["rollback", "hand_over"]}, "handover": 0},
        "`when: stagnation` must have orders to hand over, got handover: 0: rows are plainly shuffled anyway. Write ",
        {"when": {"stagnation": "note"}, "handover": 0},
    ),
    (
        {"when": {"stagnation": "widen"}, "window": "slice"},
        (
            "`when: stagnation` must have an order that opens step by step to be widen, got window: slice. Write "
            "window: prefix, or then: note."
        ),
        {"when": {"stagnation": "widen"}, "window": "prefix"},
    ),
    (
        {"when": {"stagnation": "widen", "regression": "back_off"}},
        (
            "`when` must not undo what it does, got widen (`when: stagnation`) and back_off (`when: regression`) in "
            "one recipe. Keep one of them, and note the other: then: note."
        ),
        {"when": {"stagnation": "widen", "regression": "note"}},
    ),
    (
        {"clock": "tokens", "window": "slice"},
        "`clock: tokens` must have orders that open by it, got window: slice. Write window: prefix, or clock: steps.",
        {"clock": "tokens", "window": "prefix"},
    ),
    (
        {"clock": {"by": "competence", "target": 0.5}, "handover": 0},
        "`clock: competence` must have orders that open by it, got handover: 0. Write clock: steps.",
        {"clock": "steps", "handover": 0},
    ),
    (
        {"on": {"stagnation": "note"}},
        "`campus` takes `when` for what is done about events, got the key 'on'. Write ",
        {},
    ),
    ({True: {"stagnation": "note"}}, "got the key True. Write when: {…}.", {"when": {"stagnation": "note"}}),  # type: ignore[dict-item]  # as YAML 1.1 reads it
]


@pytest.mark.parametrize(("settings", "message", "right"), WRONG, ids=[case[1][:60] for case in WRONG])
def test_what_is_wrong_is_said_and_what_it_says_to_write_is_right(settings: Json, message: str, right: Json) -> None:
    with pytest.raises(RecipeError) as caught:
        CampusConfig.from_mapping({"metrics": ["length"], **settings})
    assert len(caught.value.problems) == 1
    assert message in caught.value.problems[0]
    config(**right)


def test_every_problem_is_told_at_once_and_a_wrong_block_is_not_asked_for_more() -> None:
    found = problems(
        on={}, when={"stagnation": "reveiw", "saturated": 1}, clock="competence", milestones=[{"name": "a"}], stages=0
    )
    assert len(found) == 7, found
    assert len(problems(when={"regression": "review"}, review={"share": 3})) == 1  # what is wrong of the review block


def test_the_key_on_is_answered_with_when_from_a_file_too(tmp_path: Any) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("campus:\n  metrics: [length]\n  on: {stagnation: note}\n", "utf-8")
    with pytest.raises(RecipeError, match=r"takes `when` for what is done about events, got the key 'on'. Write when"):
        load_recipe(path)
    path.write_text("campus:\n  metrics: [length]\n  when: {stagnation: note}\n", "utf-8")
    assert load_recipe(path).when


@pytest.mark.parametrize("action", ORDERS)
def test_a_list_of_orders_is_what_every_action_on_orders_needs(action: Action) -> None:
    config(when={"stagnation": action})
    assert "must have orders to" in problems(when={"stagnation": action}, selector="shuffle", metrics=[])[0]


# -- what needs probes -------------------------------------------------------------------------------------------------


def resolved(*, has_probes: bool = False, **settings: Any) -> CampusConfig:
    return config(**settings).resolved(has_probes=has_probes, domain_in_data=True, seed=0)


@pytest.mark.parametrize(
    ("settings", "message", "right"),
    [
        ({"milestones": [SUMS]}, "`milestones` must have probes to be judged by, got none. Give probes: {path: ./", {}),
        ({"when": {"saturated": "stop"}}, "`when` must have probes to be judged by, got none. Give probes", {}),
        (
            {"clock": {"by": "competence", "target": 0.5}},
            (
                "`clock: competence` must have probes to go by, got none. Give probes: {path: ./probes.jsonl}, or "
                "write clock: steps."
            ),
            {"clock": "steps"},
        ),
        (
            {"domains": {"reweight": {"name": "lagging", "rate": 2}}},
            (
                "`domains: reweight` must have probes to be lagging, got none. Give probes: {path: ./probes.jsonl}, or "
                "write reweight: odm, which goes by the losses of training."
            ),
            {"domains": {"reweight": "odm"}},
        ),
    ],
)
def test_what_needs_probes_is_refused_without_them(settings: Json, message: str, right: Json) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        resolved(**settings)
    resolved(**right)
    resolved(has_probes=True, **settings)


def test_what_needs_no_probes_is_taken_without_them() -> None:
    resolved(when={}, clock="tokens", domains={"reweight": "odm"})
    resolved(domains={"reweight": "lagging", "over": "cells"})  # cells have no probes: what training shows goes
    assert build_reweight("odm").signal == "training"


def test_the_selector_and_the_rules_are_told_together() -> None:
    with pytest.raises(RecipeError) as caught:
        resolved(when={"stagnation": "note"}, selector="matched", metrics=["length", "mtld"])
    assert len(caught.value.problems) == 2


def test_a_probe_that_no_row_is_of_is_named_with_the_nearest_one() -> None:
    recipe = config(milestones=[{**SUMS, "probe": "mth"}], when={"stagnation": {"probe": "chess"}})
    assert recipe.steer.unknown_probes(["code", "math"]) == [
        (
            "`milestones: sums: probe` must be a domain of the probes (code, math), got 'mth'. Did you mean 'math'? "
            "Name one of them."
        ),
        "`when: stagnation: probe` must be a domain of the probes (code, math), got 'chess'. Name one of them.",
    ]
    assert config(milestones=[SUMS]).steer.unknown_probes(["code", "math"]) == []
    assert config().steer.unknown_probes([]) == []


# -- what the start model has reached ----------------------------------------------------------------------------------


def measured(loss: float, stderr: float = 0.01, accuracy: float = 0.6) -> Measurement:
    losses = {"math": Estimate(loss, stderr, 100), "code": Estimate(2.0, stderr, 100)}
    return Measurement(0, 0, 0.0, 0.0, 0, losses, {name: Estimate(accuracy, stderr, 100) for name in losses})


@pytest.mark.parametrize(
    ("level", "message"),
    [
        ({"loss": 0.8}, "got loss: 0.8, and math has 0.7 before the first step. Write loss: 0.63, or take it out."),
        ({"competence": 0.4}, "got competence: 0.4, and math has 0.497 before the first step. Write competence: 0.748"),
        ({"accuracy": 0.5}, "got accuracy: 0.5, and math has 0.6 before the first step. Write accuracy: 0.8, or take"),
    ],
)
def test_a_milestone_that_the_start_model_meets_is_refused_with_what_was_measured(level: Json, message: str) -> None:
    start = measured(0.7)
    (found,) = config(milestones=[{"name": "sums", "probe": "math", **level}]).steer.already_met(start)
    assert found.startswith("`milestones: sums` must be ahead of the start model, ")
    assert message in found
    ((name, value),) = re.findall(r"Write (\w+): ([\d.]+\d)", found)
    assert config(milestones=[{"name": "sums", "probe": "math", name: float(value)}]).steer.already_met(start) == []


def test_a_start_that_may_be_beyond_by_chance_alone_is_no_milestone_met() -> None:
    recipe = config(milestones=[{**SUMS, "hold": 5}])
    assert recipe.steer.already_met(measured(0.78, 0.03)) == []
    assert len(recipe.steer.already_met(measured(0.78, 0.01))) == 1  # whatever `hold` asks for


def test_a_target_that_the_start_model_has_reached_is_refused() -> None:
    start = measured(0.7)
    mean = (math.exp(-0.7) + math.exp(-2.0)) / 2
    (found,) = config(clock={"by": "competence", "target": 0.3}).steer.already_met(start)
    assert found == (
        f"`clock: target` must be ahead of the start model, got 0.3, and the probes have {mean:.3g} before the first "
        "step. Write target: 0.658, or clock: steps."
    )
    assert config(clock={"by": "competence", "target": 0.658}).steer.already_met(start) == []
    assert config(clock="steps").steer.already_met(start) == []


@examples(60)
@given(st.floats(0.01, 5), st.floats(0.001, 0.3), st.floats(0.01, 0.99), st.sampled_from(LEVELS))
def test_what_it_says_to_write_is_always_ahead(loss: float, stderr: float, accuracy: float, what: str) -> None:
    start = measured(loss, stderr, accuracy)
    met = config(milestones=[{"name": "a", "probe": "math", what: 0.5}]).steer.already_met(start)
    for found in met:
        value = float(re.findall(r"Write \w+: ([\d.]+(?:e-\d+)?)", found)[0].rstrip("."))
        assert config(milestones=[{"name": "a", "probe": "math", what: value}]).steer.already_met(start) == []


def test_the_words_of_actions_are_those_of_firings() -> None:
    assert THEN.words == ACTIONS
    assert {*OF_DOMAINS, *ORDERS} < {*ACTIONS}
    assert ClockSettings().clock == Clock()
