"""Which points are tried: new ones, as often as the space has some, the same ones whenever it is asked again."""

import itertools
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.compare.search.sampler import Tried, ask, random_points
from campus_tune.compare.search.space import Space, read_space
from campus_tune.words.errors import RecipeError

SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=4)


def space_of(**choices: tuple[object, ...]) -> Space:
    return read_space(choices, {"metrics": ["length"], "mix": 0.5})


@given(sizes=SIZES, seed=st.integers(0, 2**32 - 1))
def test_a_small_space_is_drawn_whole_and_each_point_once(sizes: list[int], seed: int) -> None:
    points = list(random_points(sizes, seed=seed))
    assert sorted(points) == sorted(itertools.product(*(range(size) for size in sizes)))
    assert points == list(random_points(sizes, seed=seed))


def test_another_seed_has_another_sequence() -> None:
    assert list(random_points([7, 7], seed=0)) != list(random_points([7, 7], seed=1))


def test_of_a_space_that_is_too_large_for_a_list_points_are_drawn_one_by_one() -> None:
    points = list(itertools.islice(random_points([1000] * 30, seed=0), 50))
    assert len(set(points)) == 50
    assert {size for point in points for size in (len(point),)} == {30}


def test_the_recipe_itself_is_no_trial_and_nothing_is_tried_twice() -> None:
    space = space_of(mix=(0, 0.25, 0.5), stages=(20, 10))
    points = ask("random", space, [], 100, seed=3)
    assert len(points) == len(set(points)) == 5  # of six, one is the recipe
    assert space.own not in {space.identity(point) for point in points}


def test_asking_in_parts_gives_what_asking_at_once_does() -> None:
    space = space_of(mix=(0, 0.25, 0.5, 0.75), stages=(20, 10, 5))
    whole = ask("random", space, [], 9, seed=3)
    first = ask("random", space, [], 4, seed=3)
    rest = ask("random", space, [Tried(point, 1.0) for point in first], 5, seed=3)
    assert [*first, *rest] == whole


def test_combinations_that_do_not_go_together_are_left_out() -> None:
    space = space_of(metrics=([], ["length"]), selector=("shuffle", "fixed"))
    for point in ask("random", space, [], 10, seed=0):
        assert space.identity(point) is not None


def test_a_space_without_an_end_that_holds_nothing_new_is_given_up() -> None:
    """Choices that say the same, thousands of combinations of them."""
    twins = tuple({"name": "linear", "start": 0.01 + 1e-9 * i} for i in range(2))
    space = space_of(pacing=twins)
    large = Space(space.block, {"pacing": twins * 60_000}, space.own)
    assert len(ask("random", large, [], 10, seed=0)) == 2


def test_tpe_without_optuna_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        RecipeError, match=r'must have optuna, got none. Install it: pip install "campus_tune\[search\]'
    ):
        ask("tpe", space_of(mix=(0, 0.25)), [], 1, seed=0)
    assert ask("random", space_of(mix=(0, 0.25)), [], 1, seed=0)  # the advice


def test_tpe_draws_more_of_what_went_well() -> None:
    pytest.importorskip("optuna")
    space = space_of(mix=tuple(i / 20 for i in range(10)), stages=(20, 10, 5, 4), handover=(0.6, 0.7, 0.8, 0.9))
    tried: list[Tried] = []
    for _ in range(60):
        (point,) = ask("tpe", space, tried, 1, seed=1)
        tried.append(Tried(point, None if point[1] == 3 else abs(point[0] - 7) + 0.1 * point[2]))
    assert len({one.point for one in tried}) == 60
    assert ask("tpe", space, tried, 1, seed=1) == ask("tpe", space, tried, 1, seed=1)
    late, early = ([abs(one.point[0] - 7) for one in part] for part in (tried[30:], tried[:10]))
    assert sum(late) / len(late) < sum(early) / len(early)
    assert sum(one.point[1] == 3 for one in tried[20:]) < 10  # what diverges is left alone


def test_tpe_falls_back_on_what_is_left_of_a_small_space() -> None:
    pytest.importorskip("optuna")
    space = space_of(mix=(0, 0.25, 0.5), stages=(20, 10))
    assert len(ask("tpe", space, [], 10, seed=0)) == 5
