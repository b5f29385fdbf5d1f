"""The rows that a page lists: which, with what, and how they get into it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from campus_tune.report.map_facts import MapFacts
from campus_tune.report.row_list import RowList, RowSection, in_short, read_texts, row_section
from campus_tune.report.run_facts import read_run
from campus_tune.report.write import write_report
from campus_tune.run.row_map import SAMPLE, SHORT, SHOWN
from campus_tune.words.errors import DataError
from campus_tune.words.types import Json
from tests.report.conftest import coarse_pictures
from tests.report.made_up import EVIL
from tests.report.made_up_map import facts_of


def listed_of(facts: MapFacts) -> RowList:
    assert facts.listed is not None
    return facts.listed


def data_of(section: RowSection) -> Json:
    found: Json = json.loads(section.data)
    return found


def test_of_few_rows_all_are_listed_those_of_the_map_first(tmp_path: Path) -> None:
    facts = facts_of(tmp_path / "run", rows=300)
    found = listed_of(facts)
    assert sorted(found.rows.tolist()) == list(range(300))
    assert facts.shape is not None
    assert found.rows[:299].tolist() == facts.shape.points.row.tolist()
    assert found.rows[299] == 299  # it has no score
    data = data_of(row_section(found))
    assert data["excess"][299] is None
    assert data["suspect"] == found.suspect.astype(int).tolist()
    assert [data["domains"][code] for code in data["domain"][:3]] == ["arithmetic", "code", "text"]
    assert {
        len(data[name]) for name in ("row", "domain", "region", "suspect", "excess", "spread", "visits", "text")
    } == {300}


def test_of_many_rows_a_sample_is_listed_and_the_section_says_so(tmp_path: Path) -> None:
    found = listed_of(facts_of(tmp_path / "run", rows=30_000, wrong=0.1))
    assert len(found.rows) == SAMPLE
    assert found.suspect.sum() == SAMPLE // 2
    note = row_section(found).note
    assert note.startswith(
        f"2,000 of 30,000 rows: 1,000 of {found.n_suspects:,} suspects, and others drawn by the hash"
    )
    assert "The table above counts all rows." in note


def test_without_domains_and_scores_there_is_no_column_of_them(tmp_path: Path) -> None:
    found = listed_of(facts_of(tmp_path / "run", domains=False, passes=1))
    section = row_section(found)
    assert list(section.columns) == ["row", "region", "excess", "visits", "text"]
    assert list(section.filters) == ["region"]
    assert set(section.numeric) == {"row", "excess", "visits"}
    assert data_of(section)["domain"] == []


def test_a_row_has_the_text_that_the_run_has_kept(tmp_path: Path) -> None:
    run = tmp_path / "run"
    facts_of(run, rows=60)
    lines = [{"row": row, "prompt": f"ask {row}", "answer": "x" * 999} for row in range(59)]
    lines.append({"row": 59, "text": EVIL})
    path = run / "curriculum" / SHOWN
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    found = read_run(run).map
    assert found is not None
    section = row_section(listed_of(found))
    data = data_of(section)
    texts = dict(zip(data["row"], data["text"], strict=True))
    assert texts[3].startswith("ask 3 → xxx")
    assert len(texts[3]) <= len("ask 3 → ") + SHORT
    assert texts[59] == EVIL
    assert "<" not in section.data
    assert section.note == "All 60 rows of the training set. A click on a point of the map finds its row."
    with coarse_pictures():
        page = write_report(run).read_text("utf-8")
    assert page.count("\\u003cscript>document.title") >= 1


def test_without_kept_texts_the_section_says_so(tmp_path: Path) -> None:
    run = tmp_path / "run"
    facts_of(run)
    (run / "curriculum" / "book" / "likeliest.jsonl").unlink()
    found = read_run(run).map
    assert found is not None
    section = row_section(listed_of(found))
    assert "Their texts were not kept with this run." in section.note
    assert "text" not in section.columns


@pytest.mark.parametrize("line", ['{"row": "a"}', '{"text": "b"}', '{"row": 1, "text": 3}'])
def test_a_damaged_list_of_texts_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "shown.jsonl"
    path.write_text('{"row": 0, "text": "a"}\n' + line + "\n", "utf-8")
    with pytest.raises(DataError, match=r"shown\.jsonl` line 2 must be a row and its text, got something else"):
        read_texts(path)
    path.unlink()  # the advice
    assert read_texts(path) == {}


def test_a_text_is_one_line_of_what_can_be_seen() -> None:
    assert in_short("a\n b\x00", "", "") == "a b␀"
    assert in_short("", "", "") == ""
    assert len(in_short("y" * 999, "z" * 999, "")) == 2 * SHORT + 3
