"""What a run tells a person of who was drawn: short, and only what is out of the ordinary."""

from __future__ import annotations

import pytest

from campus_tune.run.told.decision_lines import decision_cells, decision_line
from campus_tune.words.types import Json

DECISION: Json = {
    "step": 4,
    "stage": 2,
    "chosen": "shuffle",
    "outcome": "only one offer",
    "rows": 8,
    "scope": [0.0, 1.0],
}
GROUPS = ("code", "lists", "math", "text", "a", "b")
DRAWN: Json = {
    "lanes": {"offer": 0, "mix": 6, "review": 2},
    "shares": dict.fromkeys(GROUPS, 1 / 6),
    "offered": 12,
    "passed_over": 6,
    "shortage": {},
}


def line_of(**changed: object) -> str:
    return decision_line({**DECISION, **DRAWN, **changed}, 16, {}, 0.0)


def test_a_stage_says_what_came_back_and_what_was_passed_over() -> None:
    said = "step 4/16 · stage 2 · shuffled, 8 rows · 2 rows come back · 6 of 12 offered passed over · cost 0.0%"
    assert line_of() == said


@pytest.mark.parametrize(
    ("shortage", "said"),
    [
        (dict.fromkeys(GROUPS, "widened"), []),
        (dict.fromkeys(GROUPS, "next pass"), ["next pass of all groups"]),
        (dict.fromkeys(GROUPS[:5], "next pass"), ["next pass of code, lists, math, …"]),
        ({"code": "given to others", "text": "next pass"}, ["next pass of text", "too few rows of code"]),
    ],
)
def test_groups_that_were_short_of_rows_are_summed_up(shortage: Json, said: list[str]) -> None:
    found = line_of(shortage=shortage, passed_over=0).split(" · ")
    assert found[4:-1] == said


def test_one_group_of_all_rows_has_its_name() -> None:
    assert "next pass of all rows" in line_of(shares={"all rows": 1.0}, shortage={"all rows": "next pass"})


def test_a_stage_that_was_not_thinned_says_why() -> None:
    thin = {"how": "top", "by": "loss", "skipped": "not paid for"}
    assert "not thinned: not paid for" in line_of(thin=thin)


def test_a_table_has_the_same_words_and_no_column_where_all_rows_are_drawn_alike() -> None:
    assert (
        decision_cells({**DECISION, **DRAWN}, 16, {}, 0.0)["drawn"] == "2 rows come back, 6 of 12 offered passed over"
    )
    assert "drawn" not in decision_cells(DECISION, 16, {}, 0.0)
