"""Length: counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from campus_tune.metrics import Length
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import RowTexts

ROWS = RowTexts(["a b c", "a", ""], np.array([3, 1, 0]), np.array([10, 20, 30]), {})


@pytest.mark.parametrize(
    ("of", "expected"), [("response", [3, 1, 0]), ("prompt", [10, 20, 30]), ("both", [13, 21, 30])]
)
def test_tokens_of_the_chosen_part_are_counted(of: str, expected: list[float]) -> None:
    scores = Length(of=of).scores(ROWS)  # type: ignore[arg-type]
    assert scores.tolist() == expected
    assert scores.dtype == np.float64


def test_another_part_is_named_and_corrected() -> None:
    with pytest.raises(RecipeError, match=r"one of response, prompt, both, got 'promt'\. Did you mean 'prompt'\?"):
        Length(of="promt")  # type: ignore[arg-type]


def test_scores_are_the_callers_own() -> None:
    floats = np.array([3.0, 1.0])
    Length().scores(RowTexts(["", ""], floats, floats, {}))[0] = 9  # type: ignore[arg-type]
    assert floats.tolist() == [3.0, 1.0]


def test_there_is_nothing_further_to_tell() -> None:
    assert Length().describe(ROWS, Length().scores(ROWS)) == {}
