"""The error tree, and how several problems are told at once."""

from __future__ import annotations

import inspect

import pytest

from campus_tune.words import errors
from campus_tune.words.errors import CampusError, RecipeError, StorageError

TREE = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, Exception)]


def test_one_problem_is_told_as_it_is() -> None:
    error = RecipeError("`mix` must be in [0, 1), got 2. Lower it.")
    assert str(error) == "`mix` must be in [0, 1), got 2. Lower it."
    assert error.problems == ["`mix` must be in [0, 1), got 2. Lower it."]


def test_several_problems_are_numbered_and_all_shown() -> None:
    error = RecipeError(f"problem {letter}" for letter in "ab")
    assert str(error) == "2 problems in this recipe:\n  1. problem a\n  2. problem b"
    assert error.problems == ["problem a", "problem b"]


@pytest.mark.parametrize("error", TREE)
def test_every_error_can_be_caught_as_ours_and_as_pythons_own(error: type[Exception]) -> None:
    assert issubclass(error, CampusError)
    if error is not CampusError:
        assert issubclass(error, ValueError | RuntimeError | OSError)


def test_a_full_disk_is_caught_by_who_catches_operating_system_errors() -> None:
    with pytest.raises(OSError, match="no space"):
        raise StorageError("no space")
