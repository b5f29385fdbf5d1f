"""Pictures as parts of a page: their own ids, the page's colours, nothing from names that breaks out of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from campus_tune.report.characters import visible
from campus_tune.report.figures import ACCENT, COLOURS, GREY, INK, ON_FACE, THEMED, Picture, fitted, picture
from campus_tune.report.svg import ROWS, inline_svg
from tests.report.made_up import EVIL

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def drawn(title: str = "a", name: str = "one") -> Picture:
    def draw(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        axis.plot([0, 1], [0, 1], color=INK, label=fitted(title))
        axis.scatter(np.arange(50.0), np.arange(50.0), color=ACCENT, gid=f"{ROWS}3")
        axis.text(0.5, 0.5, "on a face", color=ON_FACE)
        axis.set(xlabel=fitted(title), title="narrow" if narrow else "wide")

    return picture(name, "A picture", draw, alt=f"It shows {title}.", height=(2, 3))


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def test_nothing_is_drawn_before_somebody_looks() -> None:
    looked: list[bool] = []
    found = picture("a", "A", lambda _, narrow: looked.append(narrow), alt="", height=1)
    assert looked == []
    assert found.svg(narrow=True)
    assert found.png == found.png
    assert looked == [True, False]


def test_a_picture_says_what_is_seen_and_is_as_wide_as_a_desk_or_a_phone() -> None:
    wide, narrow = (parsed(drawn().svg(narrow=narrow)) for narrow in (False, True))
    assert (wide.get("role"), wide.get("aria-label")) == ("img", "It shows a.")
    assert (wide.get("style"), narrow.get("style")) == ("max-width: 960px", "max-width: 370px")
    texts = [[each.text for each in svg.iter("text")] for svg in (wide, narrow)]
    assert "wide" in texts[0]
    assert "narrow" in texts[1]


def test_the_pages_colours_are_named_and_all_others_stay() -> None:
    svg = str(drawn().svg())
    assert "stroke: var(--ink)" in svg
    assert INK not in svg
    assert f"fill: {ACCENT.lower()}" in svg
    assert f"fill: {ON_FACE}" in svg
    assert {colour.lower() for colour in THEMED} == set(THEMED)  # as matplotlib writes them
    assert len({*COLOURS, INK, GREY}) == len(COLOURS) + 2


def test_the_style_sheet_has_each_of_these_colours_for_light_and_for_dark() -> None:
    from campus_tune.report.page import environment

    sheet = environment().get_template("style.css.jinja").render()
    for variable in THEMED.values():
        assert len(re.findall(rf"{variable}: #", sheet)) == 3  # light, chosen dark, the system's dark


def test_two_pictures_share_no_id_and_each_reference_has_its_aim() -> None:
    svgs = [parsed(drawn(name=name).svg(narrow=narrow)) for name in ("one", "two") for narrow in (False, True)]
    ids = [each.get("id") for svg in svgs for each in svg.iter() if each.get("id")]
    assert len(ids) == len(set(ids)) > 0
    for svg in svgs:
        own = {f"#{each.get('id')}" for each in svg.iter() if each.get("id")}
        text = ElementTree.tostring(svg, encoding="unicode")
        aims = {*re.findall(r'href="([^"]+)"', text), *re.findall(r"url\(([^)]+)\)", text)}
        assert aims
        assert aims <= own


def test_a_picture_is_the_same_every_time() -> None:
    assert drawn().svg() == drawn().svg()


def test_points_that_are_rows_can_be_found_and_their_style_is_said_once() -> None:
    [group] = [each for each in parsed(drawn().svg()).iter() if each.get("data-rows")]
    assert group.get("data-rows") == "3"
    points = list(group.iter("use"))
    assert len(points) == 50
    assert not any(point.get("style") for point in points)
    assert all(len(point.get("x", "").partition(".")[2]) <= 2 for point in points)


def test_a_style_or_a_comment_of_the_file_does_not_come_along() -> None:
    svg = str(drawn().svg())
    assert "<style" not in svg
    assert "<metadata" not in svg
    assert "<?xml" not in svg
    assert "<!" not in svg


@pytest.mark.parametrize("name", [EVIL, "]]>", "<!-- -->", "$a_{$", "中文", "\x00\x1b\ud800\ufffe", "_hidden", ""])
def test_a_name_from_a_training_set_stays_text(name: str) -> None:
    svg = parsed(drawn(name).svg())
    assert not list(svg.iter("script"))
    texts = [each.text or "" for each in svg.iter("text")]
    assert fitted(name).strip() in [text.strip() for text in texts] or not name


def test_what_no_xml_may_hold_is_replaced() -> None:
    svg = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 72 72"><text>a\x01b</text></svg>'
    found = parsed(inline_svg(svg, "one", alt="\x02", colours={}))
    assert found.get("aria-label") == "␂"
    assert [each.text for each in found.iter("text")] == ["a\ufffdb"]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(st.characters(codec=None), max_size=40))
def test_every_character_that_is_shown_can_be_written_and_parsed(name: str) -> None:
    shown = visible(name)
    shown.encode("utf-8")
    assert ElementTree.fromstring(f"<a>{shown.replace('&', '').replace('<', '')}</a>") is not None


def test_a_notebook_shows_a_figure_without_pyplot() -> None:
    figure = drawn("中文").figure()
    assert figure._repr_png_()[:4] == b"\x89PNG"  # type: ignore[attr-defined]
    assert figure.get_size_inches().tolist() == [9.6, 2.0]
    assert drawn().figure(narrow=True).get_size_inches().tolist() == [3.7, 3.0]
