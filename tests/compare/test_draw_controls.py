"""The controls of who is drawn: each changes what it is the control of, and nothing besides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.compare.arms import DEFAULT, KINDS, Arm, default_arms, make_arms
from campus_tune.compare.draw_controls import CONTROLS, of_recipe
from campus_tune.compare.recorded import choices_of_run, shares_of_run, shares_of_settings
from campus_tune.compare.told_only import actions_of, noting
from campus_tune.compare.verdict.sentences import CALLED, UNEXPLAINED
from campus_tune.method.shares import SharePhase, at_phase
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.draw_rules import find_score
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import Json

PHASES: list[Json] = [
    {"until": 0.25, "shares": {"math": 1.0}, "overlap": 0.1, "mix": 0.3},
    {"until": 1, "shares": {"math": 0.2, "code": 0.8}},
]
ORDERS: Json = {"metrics": ["length", {"name": "loss", "reduce": "sum", "label": "answers"}]}


def arms(block: Json, *names: str, **changed: Any) -> dict[str, Arm]:
    found = make_arms({**ORDERS, **block}, {"random": {}, "recipe": {}, **{name: {} for name in names}, **changed})
    return {arm.name: arm for arm in found}


def differs(block: Json, name: str) -> Json:
    """What a control has otherwise than the recipe."""
    found = arms(block, name)
    mine, recipe = (found[one].config(0).to_mapping() for one in (name, "recipe"))
    return {key: mine.get(key) for key in {*mine, *recipe} if mine.get(key) != recipe.get(key)}


# -- what each changes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "name", "change"),
    [
        ({"thin": {"how": "rank"}}, "shuffled_scores", {"control": "shuffled_scores"}),
        ({"thin": {"how": "prune"}}, "shuffled_scores", {"control": "shuffled_scores"}),
        ({"thin": {"how": "prune"}}, "random_prune", {"control": "shuffled_scores"}),
        ({"drop": [{"by": "duplicates"}]}, "random_drop", {"control": "random_drop"}),
        ({"drop": [{"by": "value", "path": "v.parquet"}]}, "random_drop", {"control": "random_drop"}),
        ({"drop": [{"by": "value", "path": "v.parquet"}]}, "drop_best", {"control": "drop_best"}),
        ({"review": {"share": 0.2}}, "no_review", {"review": None}),
        ({"domains": {"least": 0.1}}, "natural_shares", {"domains": None}),
        ({"domains": {"over": "cells", "follow": "progress"}}, "natural_shares", {"domains": None}),
        ({"weights": ["robust"]}, "uniform_weights", {"weights": None}),
        ({"weights": ["robust"]}, "shuffled_weights", {"control": "shuffled_weights"}),
        ({"weights": ["unbiased"], "thin": {"how": "prune"}}, "uniform_weights", {"weights": None}),
        ({"weights": ["unbiased"], "thin": {"how": "prune"}}, "random_prune", {"control": "shuffled_scores"}),
        ({"domains": {"least": 0.1, "by": "weights"}}, "shuffled_weights", {"control": "shuffled_weights"}),
        ({"domains": {"least": 0.1, "by": "weights"}}, "uniform_weights", {"domains": None}),
        (
            {"domains": {"least": 0.1, "by": "weights"}, "weights": [{"name": "column", "normalise": "none"}]},
            "uniform_weights",
            {"domains": None, "weights": None},
        ),
        ({"domains": {"least": 0.1}, "weights": ["column"]}, "uniform_weights", {"weights": None}),
        ({"selector": "exp3s"}, "round_robin", {"selector": "round_robin"}),
        ({"selector": {"name": "ucb", "reward": "own"}}, "round_robin", {"selector": "round_robin"}),
        ({"domains": {"reweight": "lagging"}}, "natural_shares", {"domains": None}),
        ({"domains": {"least": 0.1, "by": "weights"}, "weights": ["column"]}, "natural_shares", {"domains": None}),
    ],
)
def test_a_control_changes_what_it_is_the_control_of(block: Json, name: str, change: Json) -> None:
    assert differs(block, name) == change


def test_review_at_random_is_review_of_the_same_share() -> None:
    change = differs({"review": {"share": 0.2, "spacing": 5, "from": 0.3}}, "uniform_review")
    assert change["review"] == {"share": 0.2, "by": "uniform", "spacing": 5, "from": 0.3, "until": 1.0}
    assert set(change) == {"review"}


def test_natural_shares_leave_of_phases_what_is_no_share() -> None:
    change = differs({"phases": PHASES}, "natural_shares")
    assert set(change) == {"phases"}
    config = arms({"phases": PHASES}, "natural_shares")["natural_shares"].config(0)
    assert [(one.until, one.mix, one.shares, one.overlap) for one in config.phases or ()] == [
        (0.25, 0.3, None, 0.0),
        (1, None, None, 0.0),
    ]
    bare = [{key: value for key, value in phase.items() if key != "mix"} for phase in PHASES]
    assert differs({"phases": bare}, "natural_shares") == {"phases": None}


def test_uniform_weights_leave_of_phases_that_weigh_what_they_say_of_the_draw() -> None:
    block: Json = {"phases": PHASES, "domains": {"by": "weights"}}
    found = arms(block, "uniform_weights")
    config, recipe = (found[name].config(0) for name in ("uniform_weights", "recipe"))
    assert [(one.until, one.mix, one.shares) for one in config.phases or ()] == [(0.25, 0.3, None), (1, None, None)]
    assert (recipe.weighs, config.weighs) == (True, False)
    assert recipe.draws_apart == config.draws_apart


@pytest.mark.parametrize(("name", "mixes"), [("mean_shares", [0.3, None]), ("stacked", [])])
def test_the_average_of_phases_is_that_of_the_settings(name: str, mixes: list[float | None]) -> None:
    arm = arms({"phases": PHASES}, name)[name]
    config = arm.config(0)
    assert not arm.awaits
    assert config.domains is not None
    assert config.domains.shares == pytest.approx({"math": 0.25 + 0.75 * 0.2, "code": 0.75 * 0.8})
    assert [phase.mix for phase in config.phases or ()] == mixes
    assert not any(phase.shares for phase in config.phases or ())


@given(
    st.lists(st.floats(0.05, 0.95), min_size=1, max_size=4, unique=True).map(sorted),
    st.lists(st.floats(0, 1), min_size=5, max_size=5),
    st.floats(0, 1),
)
def test_the_average_is_that_of_the_shares_at_each_moment(
    ends: list[float], parts: list[float], overlap: float
) -> None:
    untils = [*ends, 1.0]
    room = min(np.diff([0.0, *untils]))
    overlaps = [overlap * room] * len(ends) + [0.0]
    phases = [
        {"until": until, "shares": {"a": part, "b": 1 - part}, "overlap": over}
        for until, part, over in zip(untils, parts, overlaps, strict=False)
    ]
    config = CampusConfig.from_mapping({**ORDERS, "phases": phases})
    mean = shares_of_settings(config)
    assert mean is not None
    curve = [
        SharePhase(phase["until"], np.array([phase["shares"]["a"], phase["shares"]["b"]]), phase["overlap"])
        for phase in phases
    ]
    moments = (np.arange(4000) + 0.5) / 4000
    slow = np.mean([at_phase(curve, np.array([0.5, 0.5]), u) for u in moments], axis=0)
    assert [mean["a"], mean["b"]] == pytest.approx(slow.tolist(), abs=2e-3)


@pytest.mark.parametrize(
    "block",
    [
        {"domains": {"over": "cells", "follow": "seen_loss"}},
        {"phases": [{"until": 0.5, "shares": {"a": 1.0}}, {"until": 1}]},
        {"phases": [{"until": 0.5, "shares": {"a": 1.0}}, {"until": 1, "shares": {"temperature": 2}}]},
        {"phases": PHASES, "domains": {"least": 0.1}},
    ],
)
def test_an_average_that_only_the_run_knows_is_taken_from_it(block: Json) -> None:
    arm = arms(block, "mean_shares")["mean_shares"]
    assert arm.awaits
    config = arm.config(0, {"shares": {"a": 0.25, "b": 0.75}})
    assert config.domains is not None
    assert config.domains.shares == {"a": 0.25, "b": 0.75}
    assert (config.domains.follow, config.domains.least) == (None, 0.0)
    recipe = CampusConfig.from_mapping({**ORDERS, **block})
    assert config.draw.over_cells == recipe.draw.over_cells
    assert not any(phase.shares for phase in config.phases or ())
    with pytest.raises(RecipeError, match=r"arm 'mean_shares': `compare: arms` must have 'recipe', whose shares this"):
        make_arms({**ORDERS, **block}, {"random": {}, "mine": {}, "mean_shares": {}})


@pytest.mark.parametrize("name", ["mean_shares", "stacked"])
def test_the_average_of_shares_that_are_weights_is_that_of_weights(name: str) -> None:
    config = arms({"phases": PHASES, "domains": {"by": "weights"}}, name)[name].config(0)
    assert config.domains is not None
    assert config.domains.by == "weights"
    assert config.domains.shares == pytest.approx({"math": 0.25 + 0.75 * 0.2, "code": 0.75 * 0.8})


@pytest.mark.parametrize(
    ("block", "name"),
    [
        ({"domains": {"follow": "progress", "by": "weights"}}, "mean_shares"),
        ({"domains": {"by": "weights", "least": 0.1}, "phases": PHASES}, "stacked"),
    ],
)
def test_an_average_of_weights_that_only_the_run_knows_is_refused_and_never_a_default(block: Json, name: str) -> None:
    said = (
        r"`compare: arms` must have average shares that the settings say .*, got .* Leave this arm out, or write by: s"
    )
    with pytest.raises(RecipeError, match=said):
        arms(block, name)
    assert name not in default_arms({**ORDERS, **block})
    sampled = {**block, "domains": {**block["domains"], "by": "sampling"}}
    assert arms(sampled, name)[name].awaits


def test_a_run_says_its_shares_on_average_over_its_rows() -> None:
    choices = [{"rows": 30, "shares": {"a": 0.5, "b": 0.5}}, {"rows": 10, "shares": {"b": 1.0}}, {"rows": 9}]
    assert shares_of_run(choices) == pytest.approx({"a": 15 / 40, "b": 25 / 40})
    with pytest.raises(RecipeError, match="must have the shares of the recipe's run, got a result that has none"):
        shares_of_run([{"rows": 9}])


# -- what steers -------------------------------------------------------------------------------------------------------

ACTING: Json = {
    "review": {"share": 0.2},
    "phases": PHASES,
    "when": {"regression": {"then": ["review", "raise"], "times": 3}, "stagnation": "widen", "saturated": "stop"},
    "milestones": [{"name": "sums", "probe": "math", "loss": 0.5, "then": ["next_phase"]}],
}


def test_rules_that_only_note_are_the_same_rules() -> None:
    found = arms(ACTING, "notes_only")
    mine, recipe = (found[name].config(0).rules(has_probes=True) for name in ("notes_only", "recipe"))
    assert set(differs(ACTING, "notes_only")) == {"when", "milestones"}
    assert {rule.then for rule in mine} == {("note",)}
    assert [vars(rule) for rule in mine] == [{**vars(rule), "then": ("note",)} for rule in recipe]


@pytest.mark.parametrize(
    ("name", "gone"),
    [("no_review", {"review"}), ("stacked", {"next_phase", "raise"}), ("mean_shares", {"raise"})],
)
def test_a_control_without_a_part_notes_what_its_rules_would_do_with_it(name: str, gone: set[str]) -> None:
    found = arms(ACTING, name)[name]
    config = found.config(0, {"shares": {"math": 0.5, "code": 0.5}}) if found.awaits else found.config(0)
    assert actions_of(config) == {"review", "raise", "widen", "stop", "next_phase"} - gone
    assert len(config.rules(has_probes=True)) == 4


def test_natural_shares_leave_no_phase_to_end_where_phases_say_nothing_else() -> None:
    bare = [{key: value for key, value in phase.items() if key != "mix"} for phase in PHASES]
    acting = {**ACTING, "phases": bare}
    assert "next_phase" not in actions_of(arms(acting, "natural_shares")["natural_shares"].config(0))
    assert "next_phase" in actions_of(arms(ACTING, "natural_shares")["natural_shares"].config(0))


@pytest.mark.parametrize(
    ("then", "left"),
    [
        ("review", "note"),
        ("widen", "widen"),
        (["review"], "note"),
        (["rollback", "review", "hand_over"], ["rollback", "hand_over"]),
        ({"then": "review", "times": 2}, {"then": "note", "times": 2}),
        ({"times": 2}, {"times": 2}),
    ],
)
def test_an_action_that_is_taken_out_leaves_a_note_where_it_was_the_only_one(then: object, left: object) -> None:
    assert noting({"when": {"regression": then}}, ["review"]) == {"when": {"regression": left}}


@pytest.mark.parametrize(
    "block",
    [
        {"phases": PHASES, "milestones": [{"name": "a", "probe": "math", "loss": 0.5, "then": "next_phase"}]},
        {"phases": PHASES, "when": {"regression": "raise"}},
        {"phases": PHASES, "domains": {"reweight": "lagging"}},
    ],
)
def test_an_average_of_shares_that_the_record_moves_is_taken_from_the_run(block: Json) -> None:
    arm = arms(block, "mean_shares")["mean_shares"]
    assert arm.awaits
    config = arm.config(0, {"shares": {"math": 0.25, "code": 0.75}})
    assert config.domains is not None
    assert (config.domains.reweight, config.domains.shares) == (None, {"math": 0.25, "code": 0.75})
    assert actions_of(config) <= {"next_phase"}


def test_shares_that_are_moved_have_an_average_without_phases_too() -> None:
    arm = arms({"domains": {"reweight": {"name": "lagging", "rate": 0.5}, "least": 0.1}}, "mean_shares")["mean_shares"]
    config = arm.config(0, {"shares": {"math": 0.25, "code": 0.75}})
    assert arm.awaits
    assert config.domains is not None
    assert (config.domains.reweight, config.domains.least) == (None, 0.0)


def test_choices_are_replayed_as_often_and_in_another_sequence() -> None:
    names = [*"ababbbbaab", "shuffle", *"bbbab", "shuffle", "shuffle"]
    choices: list[Json] = [{"chosen": name} for name in names]
    found = [choices_of_run(choices, seed) for seed in range(5)]
    for one in found:
        asked = [name for i, name in enumerate(one) if names[i] != "shuffle"]
        assert sorted(asked) == sorted(name for name in names if name != "shuffle")
        assert len(one) == len(names) - 2  # what is shuffled at the end is shuffled without being told
        assert set(one) == {"a", "b"}  # a recipe's own labels, and no other word
    assert len({tuple(one) for one in found}) == 5
    assert choices_of_run(choices, 3) == found[3]
    with pytest.raises(RecipeError, match="must have the choices of the recipe's run, got a result that has none"):
        choices_of_run([{"chosen": "shuffle"}], 0)


def test_choices_are_replayed_of_a_run_that_the_comparison_makes() -> None:
    arm = arms({"selector": "exp3s"}, "replayed_choices")["replayed_choices"]
    assert arm.awaits
    assert arm.config(0).selector == "exp3s"
    assert arm.config(0, {"choices": ["length", "answers"]}).selector == {
        "name": "replayed",
        "choices": ["length", "answers"],
    }
    with pytest.raises(RecipeError, match=r"must have 'recipe', whose choices this arm replays. Add it."):
        make_arms({**ORDERS, "selector": "exp3s"}, {"random": {}, "mine": {}, "replayed_choices": {}})


# -- where it is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "name", "message"),
    [
        (
            {},
            "shuffled_scores",
            "arm 'shuffled_scores': `shuffled_scores` must be the control of `thin`, got a recipe w",
        ),
        (
            {"thin": {"how": "top"}},
            "random_prune",
            "must be the control of `thin: {how: prune}`, got a recipe without.",
        ),
        (
            {"domains": {}},
            "natural_shares",
            "must be the control of shares that are not natural, in `domains` or `phas",
        ),
        (
            {"domains": {"least": 0.1}},
            "mean_shares",
            "must be the control of shares that change, by `phases` or `domai",
        ),
        ({"phases": [{"until": 1}]}, "stacked", "must be the control of `phases` with shares, got a recipe without. L"),
        ({}, "no_review", "must be the control of `review`, got a recipe without. Leave this arm out."),
        ({"review": {"by": "uniform"}}, "uniform_review", "must be the control of `review` by anything but uniform"),
        ({}, "random_drop", "must be the control of `drop`, got a recipe without."),
        (
            {"drop": [{"by": "duplicates"}]},
            "drop_best",
            "must be the control of `drop: [{by: value}]`, got a recipe without.",
        ),
        ({}, "round_robin", "must be the control of a bandit, `selector` exp3s, ucb or teacher, got a recipe without."),
        ({"selector": "matched"}, "replayed_choices", "must be the control of a bandit, `selector` exp3s, ucb or tea"),
        ({}, "notes_only", "must be the control of rules that do more than note, got a recipe without. Leave"),
        ({"when": {"regression": "note"}}, "notes_only", "must be the control of rules that do more than note, got a"),
        (
            {},
            "uniform_weights",
            "must be the control of `weights`, or of `domains: {by: weights}` with shares, got a re",
        ),
        (
            {"domains": {"by": "weights"}},
            "shuffled_weights",
            "must be the control of `weights`, or of `domains: {by: w",
        ),
    ],
)
def test_a_control_of_a_part_that_is_not_there_is_refused(block: Json, name: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        arms(block, name)
    assert message in str(caught.value)


# -- which arms there are ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({}, DEFAULT),
        ({"domains": {"shares": "natural"}}, DEFAULT),
        ({"thin": {"how": "rank"}}, ("recipe", "random", "shuffled_scores", "random_same_pacing", "reversed")),
        ({"thin": {"how": "prune"}, "metrics": [], "selector": "shuffle"}, ("recipe", "random", "random_prune")),
        (
            {"review": {}, "phases": PHASES, "thin": {"how": "rank"}, "drop": [{"by": "duplicates"}]},
            ("recipe", "random", "shuffled_scores", "stacked", "no_review"),
        ),
        (
            {"domains": {"follow": "progress"}, "drop": [{"by": "duplicates"}]},
            ("recipe", "random", "natural_shares", "random_drop", "random_same_pacing"),
        ),
        ({"weights": ["robust"], "metrics": [], "selector": "shuffle"}, ("recipe", "random", "shuffled_weights")),
        ({"weights": ["robust"]}, ("recipe", "random", "uniform_weights", "random_same_pacing", "reversed")),
        (
            {"weights": ["unbiased"], "thin": {"how": "prune"}, "metrics": [], "selector": "shuffle"},
            ("recipe", "random", "uniform_weights", "random_prune"),
        ),
        (
            {"domains": {"least": 0.1, "by": "weights"}, "metrics": [], "selector": "shuffle"},
            ("recipe", "random", "shuffled_weights"),
        ),
        ({"selector": "teacher"}, ("recipe", "random", "round_robin", "random_same_pacing", "reversed")),
        ({"domains": {"reweight": "odm"}}, ("recipe", "random", "natural_shares", "random_same_pacing", "reversed")),
        (
            {"selector": "ucb", "when": {"regression": "review"}, "review": {}},
            ("recipe", "random", "round_robin", "no_review", "notes_only"),
        ),
        ({"when": {"stagnation": "stop"}}, ("recipe", "random", "notes_only", "random_same_pacing", "reversed")),
    ],
)
def test_a_comparison_has_the_controls_of_what_its_recipe_uses(block: Json, expected: tuple[str, ...]) -> None:
    assert default_arms({**ORDERS, **block}) == expected
    assert make_arms({**ORDERS, **block}, {name: {} for name in expected})


def test_all_of_them_are_controls_that_have_a_name_in_the_verdict() -> None:
    assert {KINDS[name] for name in CONTROLS} == {"control"}
    assert set(CONTROLS) <= CALLED.keys() & UNEXPLAINED.keys()
    everything: Json = {"review": {}, "phases": PHASES, "thin": {"how": "prune"}, "drop": [{"by": "duplicates"}]}
    everything |= {"weights": ["focal"], "selector": "exp3s", "when": {"regression": "review"}}
    config = CampusConfig.from_mapping({**ORDERS, **everything})
    expected = ["uniform_weights", "random_prune", "stacked", "round_robin", "no_review", "random_drop", "notes_only"]
    assert of_recipe(config) == expected


# -- the orders' own controls keep the draw ----------------------------------------------------------------------------

DRAWN: Json = {
    "thin": {"how": "rank", "by": "answers"},
    "drop": [{"by": "-answers", "lowest": 0.1}, {"by": "duplicates"}, {"by": "mtld", "below": 1}],
    "phases": [{"until": 0.5, "offer": ["answers"]}, {"until": 1, "top": {"mtld": 0.5}}],
    "selector": {"name": "fixed", "order": "answers"},
}


@pytest.mark.parametrize("name", ["random_same_pacing", "reversed"])
def test_other_orders_leave_the_scores_of_the_draw(name: str) -> None:
    mine = arms(DRAWN, name)[name].config(3)
    recipe = CampusConfig.from_mapping({**ORDERS, **DRAWN})
    assert {spec.label for spec in mine.specs}.isdisjoint({"answers", "length"})
    assert mine.thin is not None
    assert mine.cells is not None
    loss, length = recipe.specs[1], recipe.specs[0]
    assert find_score(mine.thin.by, mine.specs).spec == loss
    assert find_score(mine.cells.by, mine.specs).spec == length
    first = find_score((mine.drop or ())[0].by or "", mine.specs)
    assert (first.spec.name, first.spec.options, first.spec.reverse) == (loss.name, loss.options, True)
    assert mine.labels[1] == {"random_same_pacing": "random answers", "reversed": "-answers"}[name]
    assert (mine.phases or ())[0].offer == (mine.labels[1],)
    assert mine.selector == {"name": "fixed", "order": mine.labels[1]}
    assert {"length", "answers", "mtld"} <= {spec.label for spec in mine.scored}


@pytest.mark.parametrize("name", ["random_same_pacing", "reversed"])
def test_a_recipe_whose_draw_goes_by_no_order_has_the_arms_that_it_had(name: str) -> None:
    change = differs({"review": {}}, name)
    assert set(change) == {"metrics"}
    assert differs({"review": {}}, name) == differs({}, name)
