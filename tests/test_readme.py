"""The README says what is so, shortly; so does the page for contributors. Its code blocks run in `tests/guide`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from campus_tune.preview.evidence import evidence, short_table
from tests.guide.blocks import README as PAGE
from tests.guide.blocks import blocks

ROOT = Path(__file__).parent.parent
README = PAGE.read_text("utf-8")
CONTRIBUTING = (ROOT / ".github/CONTRIBUTING.md").read_text("utf-8")
PICTURES = re.findall(r"(?:!\[[^\]]+\]\(|<img src=\")([^)\"]+)[)\"]", README)


def test_it_is_read_in_five_minutes() -> None:
    assert len(README.encode()) <= 9 * 1024


def test_it_begins_with_three_sentences_and_a_picture() -> None:
    first = README.split("\n\n")[1]
    assert len(re.findall(r"[.:!?](?= [A-Z`]|$)", first)) == 3
    assert README.split("\n\n")[2].startswith("![")


def test_the_first_two_commands_are_the_quickstart_and_the_tests() -> None:
    assert blocks(PAGE, "bash")[0].splitlines() == ["bash recipes/quickstart.sh", "bash tests/run.sh"]


@pytest.mark.parametrize("language", ["python", "yaml"])
def test_its_doors_are_ten_lines_each(language: str) -> None:
    assert len([line for line in blocks(PAGE, language)[0].splitlines() if line.strip()]) <= 11


def test_it_shows_what_helped_as_it_was_measured() -> None:
    assert short_table(evidence()) in README


@pytest.mark.parametrize("picture", PICTURES)
def test_a_picture_is_small_enough_to_load_with_the_page(picture: str) -> None:
    path = ROOT / picture
    assert path.read_bytes()[:4] == b"\x89PNG"
    assert path.stat().st_size < 200_000


def test_there_are_four_pictures_and_all_links_are_of_files_that_are_there() -> None:
    assert len(PICTURES) == 4
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("https://")]
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_way_of_a_batch_leads_through_files_that_are_there_and_are_as_long_as_is_said() -> None:
    way = CONTRIBUTING[CONTRIBUTING.index("## One batch") : CONTRIBUTING.index("## What we like")]
    files = sorted(set(re.findall(r"`(\w+(?:/\w+)*\.py)`", way)))
    lines = sum(len((ROOT / "campus_tune" / file).read_text("utf-8").splitlines()) for file in files)
    said_files, said_lines = map(int, re.findall(r"(\d+) files and (\d+) lines", way)[0])
    assert len(files) == said_files < 25
    assert abs(lines - said_lines) < 200  # a number that is looked at now and then


def test_the_changes_name_the_version_of_the_package_first() -> None:
    from campus_tune import __version__

    changes = (ROOT / "campus_tune/CHANGES.md").read_text("utf-8")
    assert re.findall(r"^## (\S+)", changes, flags=re.MULTILINE)[0] == __version__
