"""The pages of the guide: short, finished, linked rightly, and of things that are there. Nothing is trained here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from campus_tune.cli.guide import PAGES as NAMES
from campus_tune.cli.options import COMMANDS
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.reader import rows
from campus_tune.run.told import events as told_events
from tests.guide.blocks import GUIDE, LANGUAGES, PAGES, README, ROOT, inline, name_of, prose, source_strings, table

SETTINGS = [row.name for row in rows(CampusConfig)]
of_guide = pytest.mark.parametrize("page", GUIDE, ids=name_of)
of_all = pytest.mark.parametrize("page", PAGES, ids=name_of)


def test_the_pages_are_those_that_the_command_shows() -> None:
    assert sorted(map(name_of, GUIDE)) == sorted(NAMES)


@of_guide
def test_a_page_has_a_title_a_sentence_and_at_most_120_lines(page: Path) -> None:
    title, empty, summary, *rest = page.read_text("utf-8").splitlines()
    assert re.fullmatch(r"# \S.*", title)
    assert empty == rest[0] == ""
    assert summary.endswith(".")
    assert len(summary) <= 120
    assert len(rest) + 3 <= 120


@of_all
def test_it_is_finished_and_of_no_machine(page: Path) -> None:
    text = page.read_text("utf-8")
    assert not re.search(r"TODO|FIXME|/work/|/home/|/tmp/", text)
    assert set(re.findall(r"^```(\S+)$", text, flags=re.MULTILINE)) <= LANGUAGES
    assert text.count("```") % 2 == 0


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "parts"], ids=name_of)  # it is generated
def test_lines_of_prose_fit_an_editor(page: Path) -> None:
    assert [line for line in prose(page).splitlines() if len(line) > 130 and not line.startswith(("|", "!["))] == []


@of_guide
def test_links_lead_to_pages_that_are_there_or_out_into_the_world(page: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8"))
    inside = [link for link in links if not link.startswith("https://")]
    assert [link for link in inside if link.removesuffix(".md") not in NAMES or not link.endswith(".md")] == []


def test_every_page_is_reached_from_the_readme() -> None:
    linked = set(re.findall(r"campus_tune/guide/(\w+)\.md", README.read_text("utf-8")))
    assert linked == set(NAMES)


@of_all
def test_every_file_of_ours_that_it_names_is_there(page: Path) -> None:
    named = set(
        re.findall(r"(?<![\w/])((?:campus_tune|recipes|eval|tests|\.github)/[\w./-]*\w)", page.read_text("utf-8"))
    )
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@of_all
def test_every_command_that_is_named_in_prose_is_there(page: Path) -> None:
    named = {text.split()[1] for text in inline(page) if re.match(r"campus-tune [a-z]", text)}
    assert named <= set(COMMANDS)


@of_all
def test_every_setting_that_is_named_in_prose_is_read_as_it_stands(page: Path) -> None:
    for text in inline(page):
        if not re.match(rf"(campus|{'|'.join(SETTINGS)}): \S", text) or "…" in text or ", `" in text:
            continue
        said = yaml.safe_load(text)
        CampusConfig.from_mapping(said.get("campus", {"metrics": ["length"], **said}))


@pytest.mark.parametrize("phrase", list(table(ROOT / "campus_tune/guide/questions.md", "it says")))
def test_every_message_that_is_explained_is_one_that_we_give(phrase: str) -> None:
    assert phrase in source_strings()


def test_there_are_twenty_questions() -> None:
    text = (ROOT / "campus_tune/guide/questions.md").read_text("utf-8")
    assert list(map(int, re.findall(r"^\*\*(\d+)\. ", text, flags=re.MULTILINE))) == list(range(1, 21))


def test_the_ledger_page_has_every_event_that_is_written() -> None:
    kinds = [kind for kind in vars(told_events).values() if isinstance(kind, type) and hasattr(kind, "name")]
    written = {kind.name for kind in kinds if issubclass(kind, told_events.Event)}
    explained = table(ROOT / "campus_tune/guide/ledger.md", "event")
    assert {name.strip("` ") for cell in explained for name in cell.split(",")} == written


@pytest.mark.filterwarnings("ignore::FutureWarning")  # what trl and transformers say to each other
def test_what_other_tools_call_otherwise_is_called_here_by_names_that_trl_has() -> None:
    from campus_tune.recipe.trl_yaml import parse_trl

    page = ROOT / "campus_tune/guide/others.md"
    cells = [line.split(" | ")[1] for line in page.read_text("utf-8").splitlines() if line.startswith("| `")]
    said = [text.partition(":")[0] for cell in cells for text in re.findall(r"`([^`]+)`", cell)]
    fields = {name for part in parse_trl({"output_dir": "x"}, ["--bf16", "false"])[0][:3] for name in vars(part)}
    known = fields | set(SETTINGS) | {"datasets", "prompt", "completion", "messages", "campus-tune sft"}
    assert len(said) > 25
    assert [name for name in said if name not in known] == []
