"""The `weights` block: what is read, what is refused with which words, and that following them helps."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.weighting import Entry
from campus_tune.method.weights import WEIGHTS, Focal, PlannedWeight, Planning, build_weight
from campus_tune.recipe.config import CampusConfig, part_schemas
from campus_tune.recipe.plugins import plugins_used
from campus_tune.recipe.weights_block import WeightSettings
from campus_tune.words.errors import RecipeError
from campus_tune.words.strict_yaml import read_value
from campus_tune.words.types import FloatArray, Json
from tests.schema_walk import valid
from tests.strategies import WEIGHT_OPTIONS, examples, weight_entries

THIN = {"how": "prune"}
DEFS = {"$defs": part_schemas()}


def config(**settings: Any) -> CampusConfig:
    return CampusConfig.from_mapping({"selector": "shuffle", **settings})


def problems(**settings: Any) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        config(**settings)
    return caught.value.problems


# -- what is read ------------------------------------------------------------------------------------------------------


def test_there_are_options_for_every_registered_weight() -> None:
    assert sorted(WEIGHT_OPTIONS) == WEIGHTS.names()


def test_an_entry_is_a_name_or_a_mapping_and_both_mean_the_same() -> None:
    assert config(weights=["focal"]) == config(weights=[{"name": "focal"}])
    assert config(weights=["focal"]).to_mapping()["weights"] == [{"name": "focal"}]
    (entry,) = (
        config(weights=[{"name": "focal", "gamma": 2, "of": "row", "from": 0.2, "until": 0.9, "limit": 5}]).weights
        or ()
    )
    assert entry.entry(0.6) == Entry("focal", Focal(2, "row"), 0.2, 0.9, 5)


@pytest.mark.parametrize(
    ("entry", "span"),
    [
        ("column", (0, 1)),
        ("robust", (0.1, 1)),
        ("self_paced", (0, 0.6)),
        ({"name": "robust", "from": 0}, (0, 1)),
        ({"name": "self_paced", "until": 1}, (0, 1)),
        ({"name": "self_paced", "from": None, "until": None}, (0, 0.6)),
    ],
)
def test_a_null_is_what_the_weight_itself_says(entry: Any, span: tuple[float, float]) -> None:
    assert WeightSettings.from_mapping(entry).span(0.6) == span


@examples(200)
@given(weight_entries())
def test_an_entry_is_written_as_it_is_read_and_its_schema_takes_it(entry: Json) -> None:
    before = copy.deepcopy(entry)
    read = WeightSettings.from_mapping(entry)
    written = {key: value for key, value in entry.items() if value is not None}
    assert read.to_mapping() == written
    assert WeightSettings.from_mapping(written) == read
    assert read.weight == build_weight(read.part)
    assert entry == before
    assert valid(entry, WeightSettings.schema(), DEFS)


@examples(200)
@given(weight_entries(), st.sampled_from(["gamma", "from", "until", "limit", "normalise", "since", "lmit"]), st.data())
def test_an_entry_is_valid_exactly_where_it_is_read(entry: Json, key: str, data: st.DataObject) -> None:
    values = st.sampled_from([None, -1, 0, 0.5, 1, 2, 20, 1e7, True, "1e-3", "step", "token", [1]])
    changed = {**entry, key: data.draw(values)}
    try:
        WeightSettings.from_mapping(changed)
        taken = True
    except RecipeError:
        taken = False
    assert valid(changed, WeightSettings.schema(), DEFS) == taken


def test_what_is_read_does_not_change_with_the_callers_own() -> None:
    mine: Json = {"name": "focal", "gamma": 2}
    block = config(weights=[mine])
    mine["gamma"] = 3
    assert block.weights is not None
    assert block.weights[0].weight == Focal(2)
    block.to_mapping()["weights"][0]["gamma"] = 4
    assert block.weights[0].weight == Focal(2)


def test_a_recipe_comes_back_from_its_yaml() -> None:
    recipe = config(
        weights=["unbiased", {"name": "robust", "limit": 2, "from": 0.2}], thin=THIN, control="shuffled_weights"
    )
    assert CampusConfig.from_mapping(read_value(recipe.to_yaml(), "recipe")["campus"]) == recipe


def test_weights_are_future_settings_and_a_recipe_without_them_says_nothing_of_them() -> None:
    plain, weighed = config(), config(weights=["focal"])
    assert "weights" not in plain.to_mapping()
    assert weighed.past() == plain.past()
    assert weighed.future() == {**plain.future(), "weights": [{"name": "focal"}]}
    assert (weighed.weighs, weighed.draws_apart, weighed.scored) == (True, False, ())


@pytest.mark.parametrize(
    ("settings", "weighs", "apart"),
    [
        ({}, False, False),
        ({"weights": ["focal"]}, True, False),
        ({"domains": {"by": "weights"}}, False, False),
        ({"domains": {"by": "weights", "shares": {"a": 1}}}, True, False),
        ({"domains": {"by": "weights", "least": 0.1}}, True, False),
        ({"domains": {"by": "weights", "follow": "progress"}}, True, False),
        ({"domains": {"by": "weights"}, "phases": [{"until": 1, "shares": {"a": 1}}]}, True, False),
        ({"domains": {"by": "weights"}, "phases": [{"until": 1, "shares": {"a": 1}, "mix": 0.5}]}, True, True),
        ({"domains": {"shares": {"a": 1}}}, False, True),
        ({"phases": [{"until": 1}]}, False, True),
        ({"thin": THIN, "weights": ["unbiased"]}, True, True),
    ],
)
def test_weights_never_change_which_rows_are_drawn(settings: Json, weighs: bool, apart: bool) -> None:
    read = config(**settings)
    assert (read.weighs, read.draws_apart) == (weighs, apart)


@pytest.mark.parametrize(
    ("weights", "domains", "cells"),
    [
        ([{"name": "column"}], False, False),
        (["focal"], False, False),
        (["self_paced"], True, False),
        (["linupper"], True, False),
        (["robust"], True, True),
    ],
)
def test_what_a_weight_compares_with_is_read_and_scored(weights: Any, domains: bool, cells: bool) -> None:
    read = config(weights=weights).resolved(has_probes=False, domain_in_data=True, seed=0)
    assert read.draw.uses_domains == domains
    assert read.draw.uses_cells == cells == (read.cells is not None)
    assert [spec.label for spec in read.scored] == ["length"] * cells
    assert read.no_orders == ("length",) * cells


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("focal", "`weights` must be a list of one or more, got 'focal'. Write weights: [unbiased], always a list, or"),
        ([], "`weights` must be a list of one or more, got []."),
        (
            [3],
            "`weights` must be a name or a mapping, got 3. Write weights: [unbiased, {name: column, column: weight}].",
        ),
        (
            ["focl"],
            "`weight` must be one of column, focal, linupper, robust, self_paced, superloss, unbiased, got 'focl'.",
        ),
        (["focl"], "Did you mean 'focal'?"),
        ([{"gamma": 1}], "`weight` must have a name, one of column, "),
        ([{"name": ["focal"]}], "`weight` must have a name, one of column, "),
        (
            [{"name": "focal", "gama": 1}],
            "`weights: focal` takes name, gamma, of, from, until, limit, normalise, got 'gama'. Did you mean 'gamma'?",
        ),
        ([{"name": "focal", "lmit": 5}], "got 'lmit'. Did you mean 'limit'? Correct or remove it."),
        (
            [{"name": "focal", "since": 0}],
            "`weights: focal` takes name, gamma, of, from, until, limit, normalise, got 'since'",
        ),
        (
            [{"name": "focal", "gamma": "1e-3"}],
            "`weight: focal`: `gamma` must be a number in [0, 10], got the text '1e-3'.",
        ),
        ([{"name": "self_paced", "floor": 1}], "`weight: self_paced`: `floor` must be a number in [0, 1), got 1."),
        (
            [{"name": "robust", "limit": 0.5}],
            "`weights: robust: limit` must be a number of at least 1, for weights are 1 on average, got 0.5. Write lim",
        ),
        ([{"name": "robust", "from": 1}], "`weights: robust: from` must be a number in [0, 1), got 1."),
        (
            [{"name": "robust", "normalise": "off"}],
            "`weights: robust: normalise` must be one of step, none, got 'off'.",
        ),
    ],
)
def test_a_wrong_entry_is_answered_with_what_to_write(weights: Any, message: str) -> None:
    assert message in "\n".join(problems(weights=weights))


def test_all_that_is_wrong_is_told_at_once_and_which_entry_has_it() -> None:
    found = problems(
        weights=["focal", {"name": "robust", "limit": 0, "frm": 1, "from": 2}, {"name": "superloss", "temper": 0}]
    )
    assert [problem.partition(":")[0] for problem in found] == ["entry 2"] * 3 + ["entry 3"]


@pytest.mark.parametrize(
    ("settings", "message", "instead"),
    [
        (
            {"weights": ["unbiased"]},
            "`weights: unbiased` must have `thin`, whose chances it makes up for, got none: all rows would count 1.",
            {"thin": {"how": "prune"}},
        ),
        (
            {"weights": ["unbiased"], "thin": {"how": "top"}},
            "`weights: unbiased` must go with a `thin` that gives every row a chance, got how: top: nothing makes up",
            {"thin": {"how": "rank"}},
        ),
        (
            {"weights": ["focal", {"name": "focal", "of": "row"}]},
            "`weights` must have focal once, got it twice: which of them holds? Keep one.",
            {"weights": ["focal"]},
        ),
        (
            {"weights": ["column", {"name": "column", "column": "weight"}]},
            "`weights` must have column once, got it twice",
            {"weights": ["column", {"name": "column", "column": "votes"}]},
        ),
        (
            {"weights": [{"name": "column", "of": "message"}, {"name": "column", "column": "b", "of": "message"}]},
            "`weights: column` must be of messages once, got two entries with of: message",
            {"weights": ["column", {"name": "column", "of": "message"}]},
        ),
        (
            {"weights": ["self_paced", "linupper"]},
            "got self_paced for easy rows and linupper for hard ones, both from 0 until 0.6. Keep one, or part them",
            {"weights": [{"name": "self_paced", "until": 0.3}, {"name": "linupper", "from": 0.3}]},
        ),
        (
            {"weights": [{"name": "column", "normalise": "none"}, {"name": "focal", "normalise": "step"}]},
            "`weights: normalise` must be one for all entries, got step and none. Write it in one of them.",
            {"weights": [{"name": "column", "normalise": "none"}, "focal"]},
        ),
        (
            {"weights": [{"name": "focal", "normalise": "none"}]},
            "`weights: normalise` must be of weights that are planned (column, unbiased), got focal: what a forward",
            {"weights": ["focal"]},
        ),
        (
            {"weights": [{"name": "self_paced", "from": 0.7}]},
            "must be before its until, got from: 0.7, and it ends with the handover (0.6). Write until: 1 beside it.",
            {"weights": [{"name": "self_paced", "from": 0.7, "until": 1}]},
        ),
        (
            {"weights": ["self_paced"], "handover": 0},
            "`weights: self_paced: from` must be before its until, got from: 0, and it ends with the handover (0).",
            {"weights": [{"name": "self_paced", "until": 1}]},
        ),
        (
            {"weights": [{"name": "robust", "until": 0.1}]},
            "`weights: robust: from` must be before its until, got until: 0.1, and its own from is 0.1. Write from: 0",
            {"weights": [{"name": "robust", "until": 0.1, "from": 0}]},
        ),
        (
            {"weights": [{"name": "focal", "from": 0.5, "until": 0.5}]},
            "`weights: focal: from` must be before its until, got from: 0.5, until: 0.5. Write until: 1, or an earlier",
            {"weights": [{"name": "focal", "from": 0.5, "until": 1}]},
        ),
        (
            {"control": "shuffled_weights"},
            "`control` must be of a block that the recipe has, got shuffled_weights without `weights`. Add `weights`",
            {"weights": ["focal"]},
        ),
        (
            {"thin": {"how": "infobatch"}, "weights": ["unbiased"]},
            "got 'infobatch': that is prune whose rows are weighed. Write thin: {how: prune} and weights: [unbiased].",
            {"thin": {"how": "prune"}},
        ),
        (
            {"thin": "unbiased"},
            "Write it beside: thin: {how: proportional} and weights: [unbiased].",
            {"thin": {"how": "proportional"}, "weights": ["unbiased"]},
        ),
    ],
)
def test_what_does_not_go_together_is_refused_and_the_advice_helps(settings: Json, message: str, instead: Json) -> None:
    (problem,) = problems(**settings)
    assert message in problem
    config(**{**settings, **instead})


def test_what_pulls_apart_at_different_times_or_beside_a_neutral_one_is_fine() -> None:
    config(weights=["self_paced", {"name": "linupper", "from": 0.6}])
    config(weights=["self_paced", "superloss", "robust", "column"])
    config(weights=["focal", "linupper"])
    config(weights=["unbiased", {"name": "column", "normalise": "none"}], thin={"how": "proportional"})
    config(weights=[{"name": "focal", "normalise": "none"}], domains={"by": "weights", "shares": {"a": 1}})


def test_a_weight_of_a_block_that_is_wrong_is_not_held_against_it() -> None:
    assert len(problems(weights=["unbiased"], thin={"how": "topp"})) == 1
    assert len(problems(weights=["focal"], control="shuffled_weight")) == 1
    assert len(problems(weights=["self_paced"], handover=2)) == 1


@pytest.mark.parametrize("name", ["self_paced", "superloss", "linupper", "robust"])
def test_a_weight_that_compares_with_a_stage_before_needs_one(name: str) -> None:
    def found(n_stages: int, **settings: Any) -> list[str]:
        draw = config(**{"weights": [name], **settings}).draw
        return draw.passes_problems(total_steps=20, steps_per_epoch=20, n_stages=n_stages, revisits=False)

    assert found(2) == []
    (problem,) = found(1)
    assert (
        f"`weights: {name}` must have the losses of a stage before to compare with, got a run of one stage" in problem
    )
    assert problem.endswith("Write stages: 20, or leave it out.")
    assert found(1, weights=["focal", "column"]) == []


def test_shares_that_are_weights_let_no_row_come_again() -> None:
    def found(**domains: Any) -> list[str]:
        draw = config(thin=THIN, weights=["unbiased"], domains={"shares": {"a": 1}, **domains}).draw
        return draw.passes_problems(total_steps=20, steps_per_epoch=20, n_stages=5, revisits=False)

    assert found() == []
    (problem,) = found(by="weights")
    assert "no row was seen before, there is nothing to go by" in problem


def test_rows_alone_in_their_forward_cannot_deal_their_weights() -> None:
    def found(micro_batch: int, **settings: Any) -> list[str]:
        return config(**{"control": "shuffled_weights", **settings}).draw.step_problems(micro_batch)

    (problem,) = found(1, weights=["column", "superloss"])
    assert "must be at least 2 with control: shuffled_weights and superloss, got 1: a row's weight that" in problem
    assert problem.endswith("Write 2, and half of gradient_accumulation_steps.")
    assert found(2, weights=["superloss"]) == []
    assert found(1, weights=["superloss"], control=None) == []
    assert found(1, weights=["column", "focal"]) == []  # of a step, and of tokens


def test_a_part_of_a_plug_in_is_a_weight_like_ours() -> None:
    @WEIGHTS.register("by_row_number")
    @dataclass(frozen=True)
    class ByRowNumber(PlannedWeight):
        """Later rows count more."""

        power: float = 1.0

        def planned(self, shown: Planning) -> FloatArray:
            """By the number."""
            return (shown.rows + 1.0) ** self.power

    try:
        read = config(weights=["by_row_number", {"name": "by_row_number", "power": 2, "limit": 3}])
        assert [entry.weight for entry in read.weights or ()] == [ByRowNumber(), ByRowNumber(2)]
        assert plugins_used(read) == {}  # of this test, which is no package
        assert valid({"name": "by_row_number", "until": 0.5}, part_schemas()["weight"], {})
    finally:
        WEIGHTS.forget("by_row_number")


def test_an_entry_that_is_made_in_python_may_be_a_name() -> None:
    assert WeightSettings("focal") == WeightSettings.from_mapping("focal")  # type: ignore[arg-type]  # a name
    with pytest.raises(RecipeError, match=r"`weights: focal: from` must be a number"):
        WeightSettings("focal", since=3)  # type: ignore[arg-type]  # a name
