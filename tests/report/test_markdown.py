"""What a page says in short: for a pull request, and the same from the command."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from campus_tune.cli.main import main
from campus_tune.report import markdown
from campus_tune.report.html_tables import Fact, HtmlTable, number, words
from campus_tune.report.page import sections
from campus_tune.report.write import markdown_of
from campus_tune.words.errors import DataError
from tests.json_answers import answer
from tests.report.made_up import EVIL, make_comparison, make_run
from tests.report.made_up_map import make_map
from tests.report.test_search_pages import made_up, write


def rows_of(text: str, head: str) -> list[list[str]]:
    """The cells of the table whose first line begins so."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {head}"))
    found = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return [found[0], *found[2:]]


def test_a_run_in_short_has_its_audit_its_cost_its_suspects_and_its_advice(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    make_map(run, rows=300)
    ledger = run / "curriculum" / "ledger.jsonl"
    *lines, end = ledger.read_text("utf-8").splitlines()
    advised = {**json.loads(end), "advice": [{"line": "weights `robust` may help.", "rows": ["wrong_15"]}]}
    ledger.write_text("\n".join([*lines, json.dumps(advised)]) + "\n", "utf-8")
    text = markdown_of(run)
    assert text.startswith(f"### Curriculum run `{tmp_path.name}/run`\n\n48 rows were trained in 6 stages")
    assert "20 of 300 rows look wrong (6.7%)." in text
    head, values = rows_of(text, "Order audit")
    told = dict(zip(head, values, strict=True))
    assert told["Order audit"] == "12 of 12 steps as planned"
    assert told["Cost"] == "4.0% of the training; budget 5.0%"
    assert told["Suspects"] == "20 of 300 rows"
    assert [row[:3] for row in rows_of(text, "domain")][1:3] == [
        ["arithmetic", "100", "–"],
        ["code", "100", "10 (10.0%)"],
    ]
    assert "\n- Weights `robust` may help." in text


def test_a_comparison_in_short_begins_with_its_verdict(tmp_path: Path) -> None:
    text = markdown_of(make_comparison(tmp_path / "one", seeds=3))
    assert text.splitlines()[:1] == ["### Did the curriculum help? `one`"]
    assert text.splitlines()[2].startswith("**Helped.** Recipe ended")
    assert [row[0] for row in rows_of(text, "arm")][1:] == ["recipe", "random", "random_same_pacing", "reversed"]
    begun = markdown_of(make_comparison(tmp_path / "two", seeds=1, verdict=False))
    assert "4 of 4 runs are done. There is no verdict yet." in begun


def test_a_search_in_short_says_whether_there_is_a_winner(tmp_path: Path) -> None:
    text = markdown_of(write(tmp_path, made_up()))
    assert text.startswith(
        f"### Search `{tmp_path.name}`\n\nNo winner.\n\nUnderpowered on fresh seeds between the two."
    )
    assert len(rows_of(text, "trial")) == 1 + 4


def test_what_is_in_names_is_no_markdown() -> None:
    assert markdown.marked(EVIL).startswith("\\<script>document")
    assert markdown.marked("__init__ of a_b") == "\\_\\_init\\_\\_ of a_b"
    assert markdown.marked("a `b") == "a \\`b"
    assert markdown.marked("`x|y` | *z*\n[l](u)") == "`x\\|y` \\| \\*z\\* \\[l\\](u)"
    table = HtmlTable("a|b", ["x|y"], [[words("1|2")]])
    assert markdown.of_table(table) == "**a\\|b**\n\n| x\\|y |\n| --- |\n| 1\\|2 |"


def test_of_a_long_table_the_first_rows_are_copied_and_nothing_of_an_empty_one() -> None:
    table = HtmlTable("Rows", ["n"], [[number(i)] for i in range(30)])
    text = markdown.of_table(table)
    assert text.startswith("**Rows (the first 12 of 30)**\n\n| n |\n| ---: |\n| 0 |")
    assert text.count("\n|") == 2 + 12
    assert markdown.of_table(HtmlTable("Rows", ["n"], [])) == markdown.of_facts([]) == ""
    assert markdown.of_facts([Fact("a", "1", "of 2")]) == "| a |\n| --- |\n| 1 of 2 |"
    assert markdown.summary("t", "", "x") == "### t\n\nx\n"


def test_the_command_prints_it_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run")
    assert main(["report", str(run), "--markdown"]) == 0
    assert capsys.readouterr().out == markdown_of(run)
    assert answer(capsys, "report", run, "--markdown") == {"markdown": markdown_of(run)}
    assert not list(run.rglob("report.html"))
    with pytest.raises(DataError, match="must be a folder"):
        markdown_of(tmp_path / "nowhere")


def test_a_page_of_one_section_needs_no_links() -> None:
    assert sections('<section id="a"><h2>A</h2></section>') == ""
    assert sections("<section><h2>A</h2></section>") == ""
