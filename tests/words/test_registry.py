"""Names, options and the hints that answer a misspelt one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from campus_tune.words.errors import RecipeError
from campus_tune.words.registry import Registry, nearest


@pytest.fixture
def shapes() -> Registry[str]:
    registry: Registry[str] = Registry("shape")

    @registry.register("circle")
    def circle(radius: float = 1.0) -> str:
        """A circle."""
        if radius <= 0:
            raise ValueError(f"`radius` must be above 0, got {radius}. Raise it.")
        return f"circle {radius}"

    @registry.register("square")
    class Square(str):
        """A square."""

        __slots__ = ()

        def __new__(cls, *, side: float) -> Square:
            return super().__new__(cls, f"square {side}")

    return registry


def test_a_part_is_made_by_its_name_with_its_options(shapes: Registry[str]) -> None:
    assert shapes.build("circle") == "circle 1.0"
    assert shapes.build("circle", {"radius": 2.0}) == "circle 2.0"
    assert shapes.build("square", {"side": 3}) == "square 3"


def test_names_and_options_are_listed_for_messages(shapes: Registry[str]) -> None:
    assert shapes.names() == ["circle", "square"]
    assert shapes.options("circle") == ["radius"]
    assert shapes.options("square") == ["side"]


def test_a_misspelt_name_is_answered_with_the_nearest_one(shapes: Registry[str]) -> None:
    with pytest.raises(
        RecipeError, match=r"`shape` must be one of circle, square, got 'sqare'\. Did you mean 'square'\?$"
    ):
        shapes.get("sqare")


def test_a_name_that_is_near_nothing_gets_no_hint(shapes: Registry[str]) -> None:
    with pytest.raises(RecipeError, match=r"got 'xyz'\.$"):
        shapes.build("xyz")


def test_a_misspelt_option_is_named_and_corrected(shapes: Registry[str]) -> None:
    with pytest.raises(RecipeError, match=r"`shape: circle` takes radius, got 'radios'\. Did you mean 'radius'\?$"):
        shapes.build("circle", {"radios": 2.0})


def test_all_misspelt_options_are_told_at_once(shapes: Registry[str]) -> None:
    with pytest.raises(RecipeError, match=r"2 problems") as caught:
        shapes.build("circle", {"radios": 2.0, "colour": 1})
    assert len(caught.value.problems) == 2


def test_an_option_that_is_no_word_is_an_unknown_option(shapes: Registry[str]) -> None:
    with pytest.raises(RecipeError, match=r"`shape: circle` takes radius, got 1\.$"):
        shapes.build("circle", {1: 2.0})  # type: ignore[dict-item] # YAML allows it


def test_a_part_without_options_says_so() -> None:
    registry: Registry[int] = Registry("number")

    @registry.register("one")
    def one() -> int:
        """One."""
        return 1

    with pytest.raises(RecipeError, match=r"`number: one` takes no options, got 'x'\."):
        registry.build("one", {"x": 1})


def test_a_value_out_of_range_is_a_recipe_error_that_names_the_part(shapes: Registry[str]) -> None:
    with pytest.raises(RecipeError, match=r"`shape: circle`: `radius` must be above 0, got -1\. Raise it\."):
        shapes.build("circle", {"radius": -1})


def test_a_missing_option_is_a_recipe_error_that_names_it(shapes: Registry[str]) -> None:
    with pytest.raises(RecipeError, match=r"`shape: square`: .*missing 1 required keyword-only argument: 'side'"):
        shapes.build("square")


def test_a_recipe_error_from_inside_a_part_keeps_its_problems() -> None:
    registry: Registry[int] = Registry("number")

    @registry.register("nested")
    def nested() -> int:
        """Fails with two problems."""
        raise RecipeError(["first", "second"])

    with pytest.raises(RecipeError, match="2 problems") as caught:
        registry.build("nested")
    assert caught.value.problems == ["first", "second"]


def _documented() -> int:
    """A number."""
    return 1


def _bare() -> int:
    return 1


@pytest.mark.parametrize(
    ("name", "part", "complaint"),
    [
        ("Circle", _documented, r"`shape` name must be lower snake case, got 'Circle'\. Rename"),
        ("my-circle", _documented, r"`shape` name must be lower snake case, got 'my-circle'\. Rename"),
        ("circle", _documented, r"`shape` name must be new, got 'circle' twice\. Rename"),
        ("round", _bare, r"`shape` 'round' must have a docstring, its card, got none\. Write one\."),
    ],
)
def test_a_part_is_checked_when_it_registers(
    shapes: Registry[str], name: str, part: Callable[..., Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        shapes.register(name)(part)
    assert shapes.names() == ["circle", "square"]


def test_the_hint_knows_letters_dropped_swapped_and_added() -> None:
    known = ["pacing", "selector", "handover"]
    assert nearest("pacin", known) == nearest("pacnig", known) == nearest("paccing", known) == " Did you mean 'pacing'?"
    assert nearest("", known) == nearest("budget", []) == ""
