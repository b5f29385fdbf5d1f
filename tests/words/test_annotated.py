"""An annotation is read once, and says the same to a user, to an editor and to whoever makes a part in Python."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest

from campus_tune.words.annotated import check_options, checked, defaults, docs, leaf, leaves, plain, required
from campus_tune.words.leaves import Anything, Given, Place, Range, Wording

if TYPE_CHECKING:
    from somewhere import Else  # type: ignore[import-not-found]  # as another's part may import it


@dataclass(frozen=True)
class Kettle:
    """Water.

    Args:
        litres: of it; None fills it,
            to the brim.
        where: it stands.
        kinds: of tea.

    Raises:
        ValueError: litres: of it.
    """

    litres: Annotated[float | None, Range(0, 2, "(]")] = None
    where: Annotated[str | None, Given(), Place("a stove", "kitchen")] = None
    kinds: tuple[str, ...] = field(default_factory=lambda: ("green",))

    def __post_init__(self) -> None:
        check_options(self)


def test_the_docstring_says_what_each_setting_is_for_and_no_more() -> None:
    assert docs(Kettle) == {
        "litres": "of it; null fills it, to the brim.",
        "where": "it stands.",
        "kinds": "of tea.",
    }
    assert docs(int) == {}


def test_what_has_no_default_that_stands_for_anything_must_be_given() -> None:
    assert required(Kettle) == ["where"]
    assert defaults(Kettle) == {"litres": None, "where": None, "kinds": ("green",)}
    assert plain(Kettle(where="here")) == {"litres": None, "where": "here", "kinds": ["green"]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"where": "here", "litres": 0},
            r"^`litres` must be a number in \(0, 2\], got 0. Choose a value in this range",
        ),
        ({"where": " "}, "^`where` must be a stove, got ' '. Write for example kitchen"),
        ({}, "^`where` must be a stove, got None"),
        ({"where": "here", "kinds": []}, r"^`kinds` must be a list of texts, got \[\]. Write \[one, another\]"),
    ],
)
def test_a_part_made_in_python_is_checked_as_one_of_a_yaml(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Kettle(**options)


def test_a_function_is_checked_whenever_it_is_called() -> None:
    @checked
    def pour(cups: Annotated[int, Range(1, 9), Wording(write="Use another kettle.")] = 2, *, into: str = "cup") -> str:
        return f"{cups} {into}"

    assert (pour(), pour(3), pour(cups=4, into="glass")) == ("2 cup", "3 cup", "4 glass")
    with pytest.raises(
        ValueError, match=r"`cups` must be a whole number of at least 1 and at most 9, got 10. Use anoth"
    ):
        pour(10)
    with pytest.raises(ValueError, match=r"`into` must be a text, got ''. Write a name"):
        pour(into="")


def test_words_of_ones_own_replace_those_of_the_type() -> None:
    one = leaf(Annotated[Literal["a", "b"] | None, Wording("a or b")])
    assert one.takes(None)
    with pytest.raises(ValueError, match=r"^`x` must be a or b, got 3.$"):
        one.read("x", 3)


def test_names_that_only_type_checkers_see_leave_a_part_unchecked() -> None:
    def other(one: Else, two: int) -> None:
        del one, two

    assert leaves(other) == {"one": Anything(), "two": Anything()}
