"""What may be searched: read before anything is trained, refused by name, and never a trial that is no recipe."""

import itertools
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.compare.search.sampler import ask
from campus_tune.compare.search.settings import SearchSettings
from campus_tune.compare.search.space import KEPT, Space, put, read_space
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import Json

BLOCK: Json = {"metrics": ["length"], "pacing": "linear"}
ROWS = {"rows": "search.jsonl"}


def problems_of(given_: Any, block: Json = BLOCK) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        read_space(given_, block)
    return caught.value.problems


@pytest.mark.parametrize(
    ("space", "says"),
    [
        (None, "`search: space` must be a mapping from settings of the campus block to lists of choices, got None."),
        ({}, "`search: space` must be a mapping from settings of the campus block to lists of choices, got {}."),
        ({"mix": 0.5}, "`search: space: mix` must be a list of two or more choices, got 0.5."),
        ({"mix": []}, "`search: space: mix` must be a list of two or more choices, got []."),
        ({"mix": [0.5]}, "A single one belongs into the campus block."),
        ({"mix": [0, 0.5, 0.0]}, "`search: space: mix` must have different choices, got 0.0 twice. Remove one."),
        ({"thin": [None, {"how": "top"}, None]}, "must have different choices, got None twice."),
        ({3: [1, 2]}, "`search: space` must have names of settings as keys, got 3."),
    ],
)
def test_a_space_that_is_none_is_refused_by_name(space: Any, says: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(says)):
        SearchSettings.from_mapping({"space": space, **ROWS})


def test_one_and_true_are_two_choices() -> None:
    assert SearchSettings.from_mapping({"space": {"mix": [1, True]}, **ROWS}).space == {"mix": (1, True)}


def test_the_block_says_what_it_lacks_and_what_it_does_not_know() -> None:
    with pytest.raises(RecipeError) as caught:
        SearchSettings.from_mapping({"trails": 3, "seeds": 0})
    said = "\n".join(caught.value.problems)
    assert "`search` takes space, rows, trials, seeds, sampler, seed, got 'trails'. Did you mean 'trials'?" in said
    assert "`search: seeds` must be a whole number of at least 1, got 0" in said
    assert "`search: rows` must be a file or a list of files, got None. Write rows: search.jsonl." in said


@pytest.mark.parametrize(
    ("name", "choices", "says"),
    [
        ("mixx", (0, 0.5), "got 'mixx'. Did you mean 'mix'?"),
        ("pacing.powr", (1, 2), "`pacing: linear` takes start, got 'powr'."),
        (
            "stages",
            (5, "10"),
            "`stages` must be a whole number of at least 1, got the text '10'. YAML reads it as text",
        ),
        ("metrics", (["length"], ["lenght"]), "got 'lenght'. Did you mean 'length'?"),
        ("thin.kep", (0.5, 0.7), "got 'kep'. Did you mean 'keep'?"),
        ("metrics.length", (1, 2), "`metrics` must have settings inside of it for metrics.length to be one, got"),
        ("learning_rate", (1e-3, 1e-4), "`campus` takes metrics, pacing, "),
    ],
)
def test_a_choice_that_fits_nowhere_is_refused_with_the_nearest_known_name(
    name: str, choices: tuple[Any, ...], says: str
) -> None:
    found = problems_of({name: choices})
    assert all(problem.startswith(f"`search: space: {name}`: ") for problem in found)
    assert any(says in problem for problem in found)


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert len(problems_of({"mix": (0, 2), "handover": (0.5, 7), "stages": (0, 5)})) == 3


@pytest.mark.parametrize("name", KEPT)
def test_what_makes_no_other_recipe_is_not_searched(name: str) -> None:
    (problem,) = problems_of({name: (1, 2)})
    assert problem == f"`search: space` must leave `{name}` alone, got {name}: {KEPT[name]}. Remove it."


def test_a_part_and_a_setting_inside_of_it_are_not_both_searched() -> None:
    (problem,) = problems_of({"thin": (None, {"how": "top"}), "thin.keep": (0.5, 0.7)})
    assert "must say of each setting once what is tried, got thin and thin.keep, which is inside of it." in problem


def test_the_advice_to_write_whole_choices_is_one_that_works() -> None:
    assert read_space({"metrics": (["length"], ["mtld"])}, BLOCK).n_points == 2


def test_a_choice_may_fit_only_together_with_others() -> None:
    space = read_space({"metrics": ([], ["length"]), "selector": ("shuffle", "fixed")}, BLOCK)
    fits = {point for point in ((0, 0), (0, 1), (1, 0), (1, 1)) if space.identity(point) is not None}
    assert (0, 0) in fits  # no metrics, and shuffling
    assert (0, 1) not in fits  # no metrics, and an order of them
    assert fits >= {(1, 1)}


def test_a_choice_changes_one_setting_and_nothing_else() -> None:
    assert put(BLOCK, "mix", 0.25) == {**BLOCK, "mix": 0.25}
    assert put(BLOCK, "thin.keep", 0.5) == {**BLOCK, "thin": {"keep": 0.5}}
    assert put({"thin": {"how": "top"}}, "thin.keep", 0.5) == {"thin": {"how": "top", "keep": 0.5}}
    assert put({}, "pacing.power", 3)["pacing"] == {"name": "root", "power": 3, "start": 0.01}  # as the default is
    assert put({"domains": {"reweight": "skill_graph"}}, "domains.reweight.rate", 1) == {
        "domains": {"reweight": {"name": "skill_graph", "rate": 1}}
    }
    assert BLOCK == {"metrics": ["length"], "pacing": "linear"}


def test_the_recipe_itself_and_its_twins_have_one_identity() -> None:
    space = read_space({"pacing": ("linear", {"name": "linear"}), "mix": (None, 0.25)}, BLOCK)
    assert space.identity((0, 0)) == space.own
    assert space.identity((0, 1)) not in (space.own, None)


def test_official_tasks_of_the_recipe_are_no_part_of_a_trial() -> None:
    space = read_space({"mix": (0, 0.5)}, {**BLOCK, "evaluate": {"suite": "smoke"}})
    assert "evaluate" not in space.block_of((1,))


@given(
    mix=st.lists(st.sampled_from([0, 0.1, 0.25, 0.5, 0.9]), min_size=2, unique=True),
    stages=st.lists(st.integers(1, 50), min_size=2, max_size=4, unique=True),
    data=st.data(),
)
def test_every_point_is_a_recipe_with_exactly_its_choices(
    mix: list[float], stages: list[int], data: st.DataObject
) -> None:
    space = read_space({"mix": tuple(mix), "stages": tuple(stages)}, BLOCK)
    point = data.draw(st.tuples(*(st.integers(0, size - 1) for size in space.sizes)))
    config = CampusConfig.from_mapping(space.block_of(point))
    assert (config.mix, config.stages) == (mix[point[0]], stages[point[1]])
    assert space.point_of(space.changes(point)) == point


def test_a_point_is_found_again_from_what_a_file_says_of_it() -> None:
    space = Space(BLOCK, {"mix": (1, True, 0.5), "thin": (None, {"how": "top"}), "metrics": (["a"], ["b"])}, "")
    for point in itertools.product(range(3), range(2), range(2)):
        assert space.point_of(json.loads(json.dumps(space.changes(point)))) == point
    with pytest.raises(ValueError, match="is not in list"):
        space.point_of({"mix": 0.7})


@pytest.mark.parametrize(
    ("name", "same", "other"),
    [
        (
            "pacing",
            ["root", {"name": "root"}, {"name": "root", "power": 2, "start": 0.01}],
            {"name": "root", "power": 3},
        ),
        ("metrics", [["length"], [{"name": "length"}], [{"name": "length", "label": "length"}]], ["-length"]),
        ("metrics", [["loss"], [{"name": "loss", "reduce": "mean"}]], [{"name": "loss", "reduce": "sum"}]),
        ("mix", [0.0], 0.25),
    ],
)
def test_a_recipe_that_is_written_otherwise_is_the_same_recipe(name: str, same: list[Any], other: object) -> None:
    block = {"metrics": ["length"], "mix": 0}
    space = read_space({name: (*same, other)}, {**block, name: 0 if name == "mix" else same[0]})
    assert {space.identity((i,)) for i in range(len(same))} == {space.own}
    assert ask("random", space, [], 9, seed=0) == [(len(same),)]
