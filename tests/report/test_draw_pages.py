"""The part of a run's page that says who was drawn and which rows: there for runs that say something of it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from campus_tune.report.draw_facts import DrawFacts, StageDraw, read_draw
from campus_tune.report.draw_page import draw_tables
from campus_tune.report.draw_plots import MOST_NAMES, OTHERS, draw_pictures, effective, lanes, passes, shares
from campus_tune.report.run_facts import read_run
from campus_tune.report.run_page import run_content
from campus_tune.report.write import write_report
from tests.report.made_up import make_run

PICTURES = ("shares", "passes", "lanes", "ess")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("draw") / "run", drawn=True)


@pytest.fixture(scope="module")
def draw(run: Path) -> DrawFacts:
    found = read_run(run).draw
    assert found is not None
    return found


def stage(index: int, **other: object) -> StageDraw:
    values: dict[str, object] = {
        "index": index,
        "step": index,
        "end": index + 1,
        "lanes": {"offer": 8, "mix": 0, "review": 0},
        "shares": {"all": 1.0},
        "offered": 8,
        "passed_over": 0,
        "passes": {},
        "shortage": {},
        "ess": None,
    }
    return StageDraw(**{**values, **other})  # type: ignore[arg-type]  # a mixture of all that a stage has


def facts(*stages: StageDraw) -> DrawFacts:
    return DrawFacts(stages, {}, {}, (), {}, 0, ())


def table_of(draw: DrawFacts, caption: str) -> list[list[str]]:
    [table] = [one for one in draw_tables(draw, {"arithmetic": 20, "code": 20, "text": 20}) if caption in one.caption]
    return [list(table.head), *([cell.text for cell in row] for row in table.rows)]


def test_what_the_ledger_and_the_files_say_is_read(draw: DrawFacts) -> None:
    assert [one.passed_over for one in draw.stages] == [0, 7, 7, 7, 7, 7]
    assert draw.stages[0].ess is None
    assert draw.stages[3].ess == pytest.approx(0.65)
    assert draw.stages[3].shortage == {"text": "next pass"}
    assert [(row.row, row.instead) for row in draw.dropped_rows] == [(7, 4), (9, 4), (11, None)]
    assert [(row.row, row.visits) for row in draw.most_visited[:3]] == [(4, 4), (9, 4), (14, 4)]
    assert draw.most_visited[0].last == pytest.approx(1.6)


def test_the_tables_say_who_never_came_and_why(draw: DrawFacts) -> None:
    assert table_of(draw, "never trained: 5")[1:] == [["arithmetic", "4", "20", "20.0%"], ["code", "1", "20", "5.0%"]]
    assert table_of(draw, "left out from the start: 3")[1:] == [["duplicates: equal", "2"], ["judged", "1"]]
    listed = table_of(draw, "The rows that were left out")
    assert listed[0] == ["row", "reason", "kept instead", "domain", "text"]
    assert listed[3] == ["11", "judged", "–", "text", "eleven"]
    assert table_of(draw, "too few rows")[1:] == [["3", "6", "text", "next pass"]]
    assert table_of(draw, "Most often trained")[1] == ["4", "4", "1.600"]
    assert table_of(draw, "Cells")[1] == ["arithmetic/1", "10"]


def test_every_picture_says_in_numbers_what_it_shows(draw: DrawFacts) -> None:
    found = {picture.name: picture for picture in draw_pictures(draw)}
    assert tuple(found) == PICTURES
    assert found["shares"].alt == (
        "Shares of 3 groups over 6 stages. From first to last: arithmetic 60% to 27%, code 20% to 53%. "
        "The same all the time: text 20%."
    )
    assert found["passes"].alt == "Passes when the last stage began: text 1.67, code 0.83, arithmetic 0.42."
    assert found["lanes"].alt == (
        "Of 47 rows: offer 64%, mix 26%, review 11%. 35 rows had their turn and were not taken."
    )
    assert "75% of the rows taken at step 2, 55% at step 10; the least was 55%." in found["ess"].alt


def test_the_page_has_the_section_and_what_is_in_rows_stays_text(run: Path) -> None:
    page = write_report(run).read_text("utf-8")
    assert "Who was drawn, and who was not" in page
    assert all(f'id="{name}"' in page for name in PICTURES)
    assert "<script>document.title" not in page


def test_a_run_that_draws_as_ever_has_nothing_of_it(tmp_path: Path) -> None:
    plain = read_run(make_run(tmp_path / "plain"))
    assert plain.draw is None
    content = run_content(plain, [])
    assert content["drawn"] == []
    page = write_report(tmp_path / "plain").read_text("utf-8")
    assert "Who was drawn" not in page
    assert not re.search(r'id="(shares|passes|lanes|ess)"', page)


def test_a_run_that_goes_on_has_no_word_of_its_end(tmp_path: Path) -> None:
    draw = read_run(make_run(tmp_path / "run", drawn=True, finished=False)).draw
    assert draw is not None
    assert (draw.never, draw.most_visited) == ({}, ())
    captions = [table.caption for table in draw_tables(draw, {})]
    assert not any("never" in caption or "Most often" in caption for caption in captions)


@pytest.mark.parametrize("damage", ["", "{half", '{"row": 3}\n', '{"row": "x", "reason": "y"}\n', None])
def test_a_list_of_dropped_rows_that_is_not_whole_is_left_out(tmp_path: Path, damage: str | None) -> None:
    run = make_run(tmp_path / "run", drawn=True)
    path = run / "curriculum" / "dropped.jsonl"
    path.unlink()
    if damage is not None:
        path.write_text(damage, "utf-8")
    found = read_run(run).draw
    assert found is not None
    assert found.dropped_rows == ()
    assert found.dropped == {"duplicates: equal": 2, "judged": 1}


def test_a_book_that_is_not_whole_is_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", drawn=True)
    (run / "curriculum" / "book.parquet").write_bytes(b"half")
    found = read_run(run).draw
    assert found is not None
    assert found.most_visited == ()


def test_one_group_one_lane_and_no_thinning_need_no_picture() -> None:
    plain = facts(stage(0), stage(1))
    assert draw_pictures(plain) == []
    assert draw_tables(plain, {}) == []


def test_the_smallest_of_many_groups_are_drawn_together() -> None:
    n = MOST_NAMES + 8
    many = {f"cell {i}": (i + 1) / (n * (n + 1) / 2) for i in range(n)}
    found = shares(facts(stage(0, shares=many), stage(1, shares=many)))
    assert found is not None
    assert f"Shares of {MOST_NAMES} groups" in found.alt
    assert OTHERS in found.alt
    assert "cell 0 " not in found.alt


def test_a_domain_that_came_later_is_shown_from_then_on() -> None:
    late = facts(stage(0, passes={"a": 0.0}), stage(1, passes={"a": 0.5, "b": 0.25}))
    found = passes(late)
    assert found is not None
    assert found.alt == "Passes when the last stage began: a 0.50, b 0.25."


def test_rows_that_are_passed_over_are_shown_without_another_lane() -> None:
    assert lanes(facts(stage(0, passed_over=3))) is not None
    assert lanes(facts(stage(0, lanes={"offer": 0, "mix": 8, "review": 0}))) is None
    assert effective(facts(stage(0, ess=0.5))) is not None


def test_rows_of_a_book_that_were_all_trained_alike_are_no_table(draw: DrawFacts) -> None:
    alike = replace(draw, most_visited=())
    assert not any("Most often" in table.caption for table in draw_tables(alike, {}))


def test_names_of_users_are_drawn_whatever_they_are() -> None:
    odd = {"$a_{$ <b>": 0.5, "_hidden 中文": 0.3, "long " * 40: 0.2}
    drawn = facts(stage(0, shares=odd, passes=odd, ess=0.25), stage(1, shares=odd, passes=odd, passed_over=1))
    assert [picture.name for picture in draw_pictures(drawn)] == list(PICTURES)


def test_a_ledger_without_these_lines_is_of_a_run_that_draws_as_ever(tmp_path: Path) -> None:
    decision = {"event": "decision", "stage": 0, "step": 0, "steps": 1}
    assert read_draw(tmp_path, {}, [decision], {}) is None
    least = {"lanes": {"offer": 1}, "shares": {}, "offered": 1, "passed_over": 0}
    found = read_draw(tmp_path, {}, [{**decision, **least}], {})
    assert found is not None
    assert found.stages[0].lanes == {"offer": 1}
