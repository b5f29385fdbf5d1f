"""The part of a run's page that says which rows look wrong: its picture, its tables, and the rows to look at."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.dirt import Dirt
from campus_tune.report import map_plots, write
from campus_tune.report.map_facts import REGIONS, LikelyRow
from campus_tune.report.map_page import LONGEST, MOST_DOMAINS, map_section, readable, regions_table, shown_row
from campus_tune.report.map_plots import FACES, MAP_PICTURE, map_picture
from campus_tune.report.run_facts import read_run
from campus_tune.report.write import write_report
from campus_tune.run.row_map import SAMPLE
from campus_tune.words.errors import DataError
from tests.report.conftest import coarse_pictures
from tests.report.made_up import DOMAINS, EVIL, make_run
from tests.report.made_up_map import facts_of, make_map, tell
from tests.report.test_pages import Page


def page_of(run: Path) -> tuple[str, Page]:
    """The page without pictures, which take seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "run_pictures", lambda _: [])
        text = write_report(run).read_text("utf-8")
    return text, Page(text)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 300 rows of which 20 are wrong; its page has the picture of its map."""
    run = make_run(tmp_path_factory.mktemp("map") / "run")
    make_map(run, rows=300)
    with coarse_pictures(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "run_pictures", lambda facts: [map_picture(facts.map)])
        write_report(run)
    return run


@pytest.fixture(scope="module")
def page(planted: Path) -> Page:
    return Page((planted / "curriculum" / "report.html").read_text("utf-8"))


ROW = LikelyRow(
    row=7,
    domain="code",
    suspect=True,
    contradicting=False,
    excess=5.0,
    spread=0.5,
    visits=2,
    mean_loss=1.25,
    lowest_probability=0.004,
    prompt="2 + 2?",
    answer="5",
    text="",
    said=" 5",
    rather=" 4",
    rather_probability=0.62,
    before="it is",
)


def test_the_section_has_the_sentence_the_map_the_shares_and_the_rows(planted: Path, page: Page) -> None:
    text = (planted / "curriculum" / "report.html").read_text("utf-8")
    section = page.text[page.text.index("What training says of the rows") :]
    order = ["20 of 300 rows look wrong (6.7%).", "nothing was measured for it", "Suspects, and where the rows lie"]
    order += ["contradict each other", "campus-tune suspects RUN --judge", "The 20 rows that are likeliest wrong"]
    places = [section.index(words) for words in order]
    assert places == sorted(places)
    assert f'id="{MAP_PICTURE}"' in text
    assert text.count('<article class="row">') == 20
    assert text.index('<article class="row">') < text.index("<summary>The other 15</summary>")
    assert "the answer is 7 → rather " in section
    assert "(62%)" in section


def test_what_is_in_rows_stays_text_and_keeps_its_spaces(page: Page) -> None:
    assert EVIL in page.text
    assert len(page.scripts()) == 1
    assert "line one\n  line two\n\nline four" in page.text
    assert "قل 12 بالعربية" in page.text
    assert all(attributes["dir"] == "auto" for attributes in page.all("pre") if attributes.get("class") == "said")
    assert "a\tb␀␛[31m␡\ufffd end" in page.text
    assert "x" * LONGEST not in page.text
    assert "x" * (LONGEST - 200) in page.text
    assert len(page.text) < 120_000


def test_nothing_to_see_is_said_and_the_rows_wait_to_be_opened(tmp_path: Path) -> None:
    make_map(make_run(tmp_path / "run"), rows=120, wrong=0.0)
    text, page = page_of(tmp_path / "run")
    assert "Nothing to see: no row stands out from its kind." in page.text
    assert "<h3>The 20 rows that are likeliest wrong</h3>" in text
    folded = text.index("<summary>Show 20</summary>")
    assert folded < text.index('<article class="row">')
    assert text.count('<article class="row">') == 20


def test_a_run_of_before_there_were_maps_has_no_section(tmp_path: Path) -> None:
    text, _ = page_of(make_run(tmp_path / "run"))
    assert "What training says of the rows" not in text
    assert '<article class="row">' not in text


def test_why_there_is_no_map_is_said_in_its_place(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    tell(run, {"basis": "none", "rows": 60, "why": "labels are smoothed <b>."})
    text, page = page_of(run)
    assert "There is no map of the rows: labels are smoothed <b>." in page.text
    assert f'id="{MAP_PICTURE}"' not in text
    assert "--judge" not in text


def test_a_damaged_map_is_an_error_by_name(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    make_map(run)
    (run / "curriculum" / "book" / "map.parquet").write_bytes(b"half")
    with pytest.raises(DataError, match=r"map\.parquet` must be the map that the run left"):
        write_report(run)


@pytest.mark.parametrize(("basis", "said"), [("forward", "one forward"), ("two forwards", "and without")])
def test_a_map_from_forwards_says_so(tmp_path: Path, basis: str, said: str) -> None:
    found = facts_of(tmp_path / "run", basis=basis, passes=1)
    assert said in map_section(found, []).basis
    assert found.regions == ("not_seen", "contradicting", "duplicate", "others", "suspect")
    with coarse_pictures():
        drawn = map_picture(found)
    assert drawn is not None
    assert drawn.title == "How far the rows stand out"
    assert "have no spread" in drawn.note


def test_the_picture_says_in_numbers_what_it_shows(tmp_path: Path) -> None:
    found = facts_of(tmp_path / "run", rows=300)
    with coarse_pictures():
        drawn = map_picture(found)
    assert drawn is not None
    assert drawn.alt.startswith("299 rows with a score: median excess about ")
    assert " 20 are suspects, from an excess of 4.00 on." in drawn.alt
    assert drawn.alt.endswith("suspect 20.")
    assert "Swayamdipta et al. 2020" in drawn.note
    assert "Grey" not in drawn.note
    assert map_picture(replace(found, shape=None)) is None


def test_of_many_rows_the_picture_is_a_density_and_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = facts_of(tmp_path / "run", rows=30_000, wrong=0.02)
    drawn: list[int] = []
    from matplotlib.axes import Axes

    scatter = Axes.scatter
    monkeypatch.setattr(Axes, "scatter", lambda axis, x, *a, **k: (drawn.append(len(x)), scatter(axis, x, *a, **k))[1])
    with coarse_pictures():
        picture = map_picture(found)
    assert picture is not None
    assert not drawn  # nobody has looked at it
    assert len(picture.svg()) < 250_000
    assert sum(drawn) == SAMPLE
    n = found.n_suspects
    assert "Grey is where all 29,999 rows lie. The points are 2,000 of them" in picture.note
    assert f"{n} suspects are among them" in picture.note
    assert len(picture.png) < 100_000


def test_every_region_has_a_face_of_its_own() -> None:
    assert list(FACES) == list(REGIONS)
    assert len({(face.colour, face.marker) for face in FACES.values()}) == len(FACES)
    assert map_plots.region_words("not_seen") == "not seen"


def test_the_table_counts_suspects_and_regions_of_each_domain(tmp_path: Path) -> None:
    table = regions_table(facts_of(tmp_path / "run", rows=300))
    assert list(table.head[:3]) == ["domain", "rows", "suspects"]
    assert "suspect" not in table.head
    assert [[cell.text for cell in row[:3]] for row in table.rows] == [
        ["arithmetic", "100", "–"],
        ["code", "100", "10 (10.0%)"],
        ["text", "100", "10 (10.0%)"],
        ["all rows", "300", "20 (6.7%)"],
    ]
    for row in table.rows:
        assert sum(cell.sort or 0 for cell in row[2:]) == row[1].sort


def test_a_domain_with_twice_the_suspects_of_all_is_marked(tmp_path: Path) -> None:
    found = facts_of(tmp_path / "run", rows=300)
    assert found.domains is not None
    much = {**found.domains, "code": replace(found.domains["code"], suspects=50)}
    rows = regions_table(replace(found, domains=much)).rows
    assert [row[2].kind for row in rows] == ["", "bad", "", ""]


def test_of_very_many_domains_the_largest_are_listed(tmp_path: Path) -> None:
    found = facts_of(tmp_path / "run")
    assert found.domains is not None
    many = {f"domain {i}": found.domains[DOMAINS[0]] for i in range(MOST_DOMAINS + 1)}
    table = regions_table(replace(found, domains=many))
    assert len(table.rows) == MOST_DOMAINS + 1
    assert table.caption.endswith("; the 200 largest of 201 domains")


def test_a_row_says_why_it_is_here() -> None:
    shown = shown_row(ROW)
    assert shown.title == "Row 7 · code · suspect"
    assert shown.why == "5.00 ± 0.50 excess · trained 2 times · mean loss 1.25 · lowest probability 0.004"
    assert shown.parts == (("prompt", "2 + 2?"), ("answer", "5"))
    assert (shown.before, shown.said, shown.rather, shown.chance) == ("it is", " 5", " 4", "62%")


def test_a_token_of_blanks_is_shown_by_their_signs() -> None:
    assert shown_row(replace(ROW, said=" \n", rather="\t")).said == "␣↵"
    assert shown_row(replace(ROW, said=" \n", rather="\t")).rather == "⇥"
    assert shown_row(replace(ROW, said=" a b")).said == " a b"


def test_a_probability_that_was_rounded_away_is_not_said_to_be_nothing() -> None:
    assert shown_row(replace(ROW, lowest_probability=0.0)).why.endswith("lowest probability under 0.0001")


def test_of_a_row_what_is_not_known_is_left_out() -> None:
    bare = replace(ROW, domain="", suspect=False, contradicting=True, excess=None, visits=1, mean_loss=None)
    bare = replace(bare, lowest_probability=None, prompt="", answer="", text="one text", rather_probability=None)
    shown = shown_row(bare)
    assert shown.title == "Row 7 · contradicts another row"
    assert shown.why == "trained once"
    assert shown.parts == (("row", "one text"),)
    assert shown.chance == ""
    assert shown_row(replace(ROW, excess=-0.001, spread=None, visits=None)).why.startswith("0.00 excess · mean")


def test_a_model_that_would_say_the_same_is_not_said_to_say_another_thing(
    tmp_path: Path,
) -> None:
    assert shown_row(replace(ROW, rather=ROW.said)).rather == ""
    run = make_run(tmp_path / "run")
    make_map(run)
    path = run / "curriculum" / "book" / "likeliest.jsonl"
    line = {"row": 1, "excess": 5.0, "prompt": "p", "answer": "a", "said": " 5", "rather": " 5"}
    path.write_text(json.dumps({**line, "rather_probability": 0.4}) + "\n", "utf-8")
    _, page = page_of(run)
    assert "5 (the model's own choice too, 40%)" in page.text
    assert "The row that is likeliest wrong" in page.text


@given(st.text(st.characters(codec=None), max_size=80), st.integers(8, 60))
def test_a_readable_text_is_short_and_can_be_written(text: str, longest: int) -> None:
    found = readable(text, longest)
    assert len(found) <= longest
    found.encode("utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", found)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=60))
def test_a_text_that_can_be_seen_stays_as_it_is(text: str) -> None:
    assert readable(text, 60) == text


def test_how_many_are_wrong_stands_beside_the_suspects_of_each_domain(tmp_path: Path) -> None:
    first, second, *_ = DOMAINS
    dirt = Dirt(300, 0.1, 0.05, 0.2, {first: Dirt(100, 0.3, 0.2, 0.4), second: Dirt(100, 0.0, 0.0, 0.1)})
    facts = facts_of(tmp_path / "run", rows=300, dirt=dirt.to_mapping())
    table = regions_table(facts)
    told = {row[0].text: row[3].text for row in table.rows}
    assert facts.dirt == dirt
    assert table.head[3] == "estimated wrong"
    assert (told[first], told[second], told["all rows"]) == ("20 to 40 %", "none to be seen, 10 % at most", "5 to 20 %")
    assert "How many are wrong is an estimate, with a 95 % interval" in page_of(tmp_path / "run")[0]
    without = replace(facts, dirt=None)
    assert "estimated wrong" not in regions_table(without).head
    assert not any("an estimate" in note for note in map_section(without, []).notes)


def test_an_estimate_that_is_damaged_is_said(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    make_map(tmp_path / "run", dirt={"rows": 3})
    with pytest.raises(DataError, match="must be the map that the run left"):
        read_run(tmp_path / "run")
