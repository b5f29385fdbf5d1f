"""The page of a search: whether there is a winner, what luck would do, and every trial; also while it goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from campus_tune.report.search_page import rungs, search_page, trials
from campus_tune.report.write import write_report
from campus_tune.words.errors import DataError
from campus_tune.words.types import Json

GONE: list[float | None] = [None, None, None]


def made_up() -> Json:
    """A finished search: trial 2 is the best, trial 3 diverged, trial 4 was stopped early."""
    return {
        "format": 1,
        "space": {"mix": [0, 0.5], "thin": [None, {"how": "top"}], "rescore": [0, 4]},
        "rows": {"path": ["search.jsonl"], "digest": "d", "items": 300},
        "seeds": 1,
        "sampler": "random",
        "wanted": 4,
        "command": "campus-tune search --config r.yaml",
        "ladder": {"steps": [10, 30, 90], "why": "one trial in 3 goes on behind step 10 and 30 of 90"},
        "recipe": [
            {"seed": 1000 + i, "step": [10, 30, 90], "loss": [3.0 + d, 2.5 + d, 2.0 + d]}
            for i, d in enumerate((0, 0.02, 0.04))
        ],
        "rungs": [
            {"step": 10, "trials": 3, "trial_spread": 0.021, "seed_spread": 0.0066},
            {"step": 30, "trials": 2, "trial_spread": 0.02, "seed_spread": 0.008},
            {"step": 90, "trials": 2, "trial_spread": None, "seed_spread": 0.01},
        ],
        "trials": [
            {"trial": 1, "changes": {"mix": 0.5, "thin": None}, "losses": [2.95, 2.45, 1.98], "message": None},
            {"trial": 2, "changes": {"mix": 0, "thin": None}, "losses": [2.9, 2.4, 1.94], "message": None},
            {"trial": 3, "changes": {"mix": 0, "thin": {"how": "top"}}, "losses": GONE, "message": "diverged: NaN"},
            {"trial": 4, "changes": {"mix": 0, "thin": {"how": "<b>"}}, "losses": [3.1, None, None], "message": None},
        ],
        "standing": {"best": 2, "loss": 1.94, "recipe": 2.0, "change": -0.03, "luck": -0.0103, "chance": 0.2,
                     "trial_spread": 0.014, "seed_spread": 0.01, "n_trials": 4, "seeds": 1},
        "judged": {"arm": "trial-002", "recipe": {}, "random": {}, "said": "search said −3.0 %, compare says −0.8 %"},
        "conclusion": {"winner": None, "why": "no winner: underpowered on fresh seeds between the two"},
    }  # fmt: skip


def write(folder: Path, search: Json) -> Path:
    (folder / "search.json").write_text(json.dumps(search))
    return folder


def test_a_search_without_a_winner_says_so_first(tmp_path: Path) -> None:
    page = write_report(write(tmp_path, made_up())).read_text("utf-8")
    assert "No winner." in page
    assert "Underpowered on fresh seeds between the two." in page
    assert "search said −3.0 %, compare says −0.8 %" in page
    assert "compare/report.html" in page
    assert "300 search rows of search.jsonl" in page
    assert "&lt;b&gt;" in page  # what settings say is text
    assert "<b>" not in page
    assert (tmp_path / "plots" / "trials.png").is_file()


def test_a_winner_is_shown_with_what_it_changes(tmp_path: Path) -> None:
    search = {**made_up(), "conclusion": {"winner": 2, "why": "trial 2 is better than the recipe"}}
    content = search_page(write(tmp_path, search)).content
    assert (content["word"], content["winner"], content["kind"]) == ("A winner.", "mix: 0, thin: null", "helped")


def test_what_luck_does_stands_beside_what_the_search_says(tmp_path: Path) -> None:
    facts = {fact.name: fact.value for fact in search_page(write(tmp_path, made_up())).content["facts"]}
    assert facts["The search says"] == "−3.0%"
    assert facts["By luck alone"] == "−1.0%"
    assert facts["As good by luck"] == "20%"


def test_trials_that_came_furthest_stand_first_beside_the_recipe_at_their_step() -> None:
    table = trials(made_up())
    assert [row[0].text for row in table.rows] == ["2", "1", "4", "3"]
    by_trial = {row[0].text: [cell.text for cell in row] for row in table.rows}
    assert by_trial["2"][2:5] == ["90", "1.9400", "−3.0%"]
    assert by_trial["4"][2:5] == ["10", "3.1000", "+3.3%"]
    assert by_trial["3"][2:] == ["–", "–", "–", "diverged: NaN"]


def test_spreads_of_trials_and_seeds_are_side_by_side() -> None:
    table = rungs(made_up())
    assert table is not None
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["10", "3", "2.10%", "0.66%"],
        ["30", "2", "2.00%", "0.80%"],
        ["90", "2", "–", "1.00%"],
    ]


def test_a_search_that_goes_on_has_a_page_too(tmp_path: Path) -> None:
    begun = {key: value for key, value in made_up().items() if key not in ("standing", "judged", "conclusion")}
    parts = search_page(write(tmp_path, begun))
    assert not parts.finished
    assert parts.content["progress"] == "4 of 4 trials have begun."
    bare = {key: value for key, value in begun.items() if key not in ("trials", "rungs", "recipe", "ladder")}
    parts = search_page(write(tmp_path, bare))
    assert list(parts.pictures) == []
    assert "There is no conclusion yet" in write_report(tmp_path).read_text("utf-8")


def test_trials_in_full_alone_are_drawn_too(tmp_path: Path) -> None:
    search = made_up()
    search["ladder"] = {"steps": [90], "why": "every trial is trained in full"}
    for trial in search["trials"]:
        trial["losses"] = trial["losses"][-1:]
    (picture,) = search_page(write(tmp_path, search)).pictures
    assert "At the end: trial 1 1.9800; trial 2 1.9400." in picture.alt


def test_a_changed_file_is_told(tmp_path: Path) -> None:
    write(tmp_path, {**made_up(), "trials": [{"trial": "one"}]})
    with pytest.raises(DataError, match="must say what is searched, got another shape: `trials"):
        write_report(tmp_path)
