"""`campus-tune explain`: every name that there is has an answer, from where it lives; an unknown one near names."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from campus_tune.cli.known import ALL, KnownName, NameRow, explained, find, messages, near
from campus_tune.cli.known.docstrings import PACKAGE, card, meanings
from campus_tune.cli.known.messages import find_message, said
from campus_tune.cli.known.page import PATH, parts_page
from campus_tune.cli.known.settings import BLOCKS, EXAMPLES
from campus_tune.cli.known.words import OUTCOMES, TERMS
from campus_tune.cli.main import main
from campus_tune.cli.options import COMMANDS
from campus_tune.method.pacing import PACINGS, linear
from campus_tune.method.reweight import SHARES
from campus_tune.method.rules import RULES
from campus_tune.method.selectors import SELECTORS
from campus_tune.method.thin import THINNERS
from campus_tune.method.weights import WEIGHTS
from campus_tune.metrics import METRICS
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.reader import rows
from campus_tune.run.ledger_fields import FIELDS, SAID
from campus_tune.run.ledger_lines import EVENTS
from campus_tune.words import errors
from campus_tune.words.registry import Registry
from campus_tune.words.strict_yaml import read_value
from campus_tune.words.types import Json

GUIDE = PACKAGE / "guide"
PAGES = {
    "start",
    "data",
    "wrong",
    "helps",
    "choosing",
    "prompts",
    "parts",
    "many",
    "resume",
    "cost",
    "ledger",
    "plugins",
} | {
    "questions",
    "others",
}
REGISTRIES: dict[str, Registry[Any]] = {
    "metric": METRICS,
    "selector": SELECTORS,
    "pacing": PACINGS,
    "thinner": THINNERS,
    "weight": WEIGHTS,
    "rule": RULES,
    "reweighting": SHARES,
}


@cache
def every(kind: str) -> dict[str, KnownName]:
    return {one.name: one for one in ALL[kind].names()}


def taken(example: str) -> Json:
    """An example as the classes of its blocks take it; the words that refuse it else."""
    blocks: Json = read_value(example, "the example")
    for name, block in blocks.items():
        BLOCKS[name].from_mapping(block)
    return blocks


# -- names -------------------------------------------------------------------------------------------------------------


def test_every_setting_of_the_block_is_told_as_its_class_says_it() -> None:
    for row in rows(CampusConfig):
        (one,) = (one for one in find(f"campus.{row.name}") if one.kind == "setting")
        assert (one.line, one.facts["must be"], one.facts["default"]) == (row.doc, row.must, row.default)
        assert one in find(f"--campus.{row.name}")


def test_a_setting_inside_of_another_is_found_however_it_is_written() -> None:
    for written in ("campus.drop.by", "drop.by", "drop: by", "`drop: by`", "--campus.drop.by", "setting drop.by"):
        assert [one.name for one in find(written)] == ["campus.drop.by"], written


def test_a_word_that_several_have_finds_all_of_them_and_its_kind_tells_them_apart() -> None:
    assert {one.name for one in find("keep")} >= {"campus.thin.keep", "campus.drop.keep", "rank.keep"}
    assert {one.kind for one in find("random")} == {"metric", "selector", "arm"}
    assert [one.kind for one in find("metric random")] == [one.kind for one in find("metrics random")] == ["metric"]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_a_setting_is_one_that_a_run_would_take(example: str) -> None:
    assert taken(example)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_lists_its_settings(name: str) -> None:
    (block,) = (one for one in find(name) if one.kind == "block")
    assert [row.name for row in block.options] == [row.name for row in rows(BLOCKS[name])]
    assert taken(block.example)


def test_a_setting_that_has_no_default_says_so() -> None:
    settings = every("settings")
    needed = [name for name, one in settings.items() if one.facts.get("default") == "none: give it"]
    assert {"campus.probes.path", "campus.thin.how", "campus.drop.by", "compare.test", "search.space"} <= set(needed)
    assert settings["campus.mix"].facts["default"] == "null"


def test_every_setting_stands_in_an_example_and_says_what_it_is_for() -> None:
    for name, one in every("settings").items():
        assert name.rpartition(".")[2] in one.example, name
        assert one.line, name


@pytest.mark.parametrize("word", REGISTRIES)
def test_every_part_has_its_card_its_options_and_a_recipe_that_names_it(word: str) -> None:
    names = next(kind for kind in ALL.values() if kind.word == word).names()
    assert [one.name for one in names] == REGISTRIES[word].names()
    for one in names:
        assert one in find(one.name)
        assert one.name in one.example
        assert taken(one.example)
        assert len(one.line) < 120, one.name
        assert [row.name for row in one.options] == [*REGISTRIES[word].options(one.name)]
        assert all(row.says for row in one.options), one.name


def test_an_option_is_found_by_its_part_and_by_its_name_alone() -> None:
    assert [one.name for one in find("root.power")] == ["root.power"]
    assert "root.power" in [one.name for one in find("power")]
    assert every("options")["root.power"].facts["default"] == "2.0"


def test_a_metric_that_is_turned_around_is_that_metric() -> None:
    assert [one.name for one in find("-length")] == ["length"]


def test_every_command_tells_its_flags_and_what_to_type() -> None:
    known = every("commands")
    assert set(COMMANDS) <= set(known)
    assert "--top" in [row.name for row in known["suspects"].options]
    assert known["check"].example == "campus-tune check recipe.yaml"
    assert all(
        one.example.startswith("campus-tune ") or name in ("eval",) for name, one in known.items() if one.example
    )


def test_every_page_to_read_on_is_one_of_the_guide() -> None:
    named = {one.page for kind in ALL.values() for one in kind.names()}
    assert named <= PAGES
    written = {path.stem for path in GUIDE.glob("*.md")}
    assert named <= written or len(written) < len(PAGES)


# -- the ledger --------------------------------------------------------------------------------------------------------


def asked_for(shape: Any, where: str = "") -> Iterator[str]:
    """The names of a shape's fields, those inside of others with a dot."""
    if isinstance(shape, dict):
        for name, inner in shape.items():
            full = where if name is str else f"{where}.{name.removesuffix('?')}".removeprefix(".")
            if name is not str:
                yield full
            yield from asked_for(inner, full)
    elif isinstance(shape, list | tuple):
        for inner in shape:
            yield from asked_for(inner, where)


@pytest.mark.parametrize("event", EVENTS)
def test_every_field_that_a_reader_asks_for_is_told(event: str) -> None:
    assert set(asked_for(EVENTS[event])) <= set(FIELDS[event])


def test_every_event_that_a_run_can_write_is_told() -> None:
    tree = ast.parse((PACKAGE / "run" / "told" / "events.py").read_text("utf-8"))
    written = {
        node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == "name"
        and isinstance(node.value, ast.Constant)
    }
    assert written == set(SAID) == set(FIELDS)


def test_a_field_is_found_inside_of_its_event() -> None:
    (scope,) = find("decision.scope")
    assert (scope.kind, scope.line) == ("field", FIELDS["decision"]["scope"])
    assert "offers.loss" in [row.name for row in find("decision.offers")[0].options]


# -- words -------------------------------------------------------------------------------------------------------------


def test_the_outcomes_are_those_that_a_decision_can_have() -> None:
    source = (PACKAGE / "method" / "decide.py").read_text("utf-8")
    known = every("outcomes")
    assert set(known) == set(OUTCOMES)
    assert {name for name in ("no order to offer", "handed over") if f'"{name}"' in source} <= set(known)


@pytest.mark.parametrize("word", ["learned_early", "suspect", "underpowered", "no detectable difference", "back off"])
def test_a_word_of_a_report_is_told(word: str) -> None:
    assert find(word)[0].line


def test_terms_that_no_file_is_about_are_said_once() -> None:
    told = every("terms")
    assert set(TERMS) < set(told)
    assert all(told[name].line == line for name, line in TERMS.items())  # no docstring says it as well


def test_docstrings_list_words_over_several_lines_and_cards_leave_tests_and_arguments_out() -> None:
    assert meanings("A.\n\n    one two   first\n              line\n    x = 3     no word\n") == {
        "one two": "first line"
    }
    doc = (
        "Line.\n\nMore.\n\nArgs:\n    a: b.\n\n>>> 1\n1\n\nReference:\n    Us.\n\nDiffers from the paper:\n    a lot.\n"
    )
    assert card(doc) == ("Line.", "More.\n\nDiffers from the paper: a lot.", "Us.")


# -- messages ----------------------------------------------------------------------------------------------------------


def raised() -> list[str]:
    kinds = {name for name in vars(errors) if name.endswith("Error")}
    return [one.text for one in said() if one.kind in kinds and len(re.findall(r"\w+", one.text)) > 8]


def test_an_error_of_ours_is_found_by_what_it_said() -> None:
    texts = raised()
    assert len(texts) > 400
    for text in texts[::25]:
        spoken = text.replace("…", "17")
        assert text in [one.name for one in find_message(spoken)], spoken


def test_a_message_says_which_error_it_is_and_why_it_is_raised() -> None:
    (found, *_) = find("something replaced the data loader")
    assert found.facts["it is a"].startswith("AuditError: The rows that reached the model")
    assert found.facts["said by"].endswith(".py")
    (tokens, *_) = find(
        "every row of `train` must have at least one token that carries loss, got 3 without (rows 1, 2, 5)"
    )
    assert "rows without a token that carries loss" in tokens.facts["because"]


def test_a_piece_that_stands_inside_of_another_text_is_found() -> None:
    assert find("lost another process")[0].facts["it is a"].startswith("PeerError: ")


def test_a_finding_is_told_with_its_remedy_and_how_grave_it_is() -> None:
    (found, *_) = find("The pacing opens nearly all rows from the start")
    assert found.kind == "warning"
    assert found.name.endswith("Lower its `start`; 0.01 is the default.")
    assert "which has none" not in [one.name for one in messages.warnings()]  # a piece of an error


def test_every_class_of_errors_is_told() -> None:
    assert set(every("errors")) == {
        name for name, one in vars(errors).items() if isinstance(one, type) and "Error" in name
    }
    assert find("ResumeError")[0].line.startswith("The checkpoint does not belong")


# -- as it is typed ----------------------------------------------------------------------------------------------------


def test_what_is_printed_is_plain_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "drop.by"]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert printed.startswith("campus.drop.by · setting\n")
    assert max(map(len, printed.splitlines())) <= 100
    assert printed.endswith("more        campus-tune guide wrong\n")


def test_many_meanings_are_a_list_and_few_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "gamma"]) == 0
    assert "focal.gamma" in capsys.readouterr().out
    assert main(["explain", "random"]) == 0
    assert capsys.readouterr().out.count("·") == 3


def test_json_is_one_document_with_all_that_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--json", "metric", "loss"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["asked"] == "metric loss"
    (found,) = told["found"]
    assert (found["kind"], found["name"], found["page"]) == ("metric", "loss", "parts")
    assert found["options"][0] | {"says": ""} == {
        "name": "reduce",
        "says": "",
        "must": "mean or sum",
        "default": "mean",
    }


@pytest.mark.parametrize(("asked", "offered"), [("stagess", "stages"), ("lerned_early", "learned_early")])
def test_a_name_that_nobody_knows_ends_with_2_and_those_near(
    asked: str, offered: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", asked]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"must be given a name of campus_tune, or a piece of what it said, got {asked!r}" in printed.err
    assert re.search(rf"Near it are: .*\b{offered}\b", printed.err)


def test_a_piece_of_a_name_offers_the_whole() -> None:
    assert "no detectable difference" in near("detectable")
    assert near("qqqqqq") == []


def test_without_a_name_it_says_where_names_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 2
    assert "`explain` must be given a name, got none. See `campus-tune list`" in capsys.readouterr().err


def test_a_field_of_trl_is_told_last(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "max_length"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("max_length · field of TRL or accelerate\n")
    assert "default     1024" in printed


def test_a_name_that_trl_and_the_ledger_have_is_told_of_both() -> None:
    assert [one.kind for one in find("learning_rate")] == ["field of TRL or accelerate", "field"]
    assert [one.name for one in find("decision.scope")] == ["decision.scope"]


def test_a_flag_is_told_by_the_commands_that_have_it() -> None:
    assert [one.name for one in find("--judge")] == ["suspects"]
    assert [one.name for one in find("report --markdown")] == ["report"]
    assert {"report", "eval compare"} == {one.name for one in find("--markdown")}


@pytest.mark.parametrize(
    ("variable", "value", "coloured"), [("X", "", True), ("NO_COLOR", "1", False), ("TERM", "dumb", False)]
)
def test_a_terminal_gets_colours_unless_it_wants_none(
    variable: str, value: str, coloured: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv(variable, value)
    assert main(["explain", "window"]) == 0
    printed = capsys.readouterr().out
    assert ("\x1b[36m" in printed) == coloured
    plain = re.sub(r"\x1b\[[0-9;]*m", "", printed)
    assert plain.startswith("campus.window · setting\n")
    assert max(map(len, plain.splitlines())) < 70


def test_a_text_is_laid_out_with_its_formulas_as_lines() -> None:
    one = KnownName(
        "metric", "m", "A line.", "Words\nthat go on.\n\n    f = a + b\n    g = 2", {"must be": "x", "none": ""},
        (NameRow("of", "what.", "a text", "y"),), "campus: {metrics: [m]}", "Us\n2020.", "parts", "mine 1.0",
    )  # fmt: skip
    assert explained(one, 60).split("\n\n") == [
        "m · metric\nA line.",
        "Words that go on.",
        "    f = a + b\n    g = 2",
        "must be     x",
        "  of  (a text; default y)\n      what.",
        "    campus: {metrics: [m]}",
        "paper       Us 2020.\ncomes from  mine 1.0\nmore        campus-tune guide parts",
    ]


# -- the page ----------------------------------------------------------------------------------------------------------


def test_the_page_of_parts_is_what_their_cards_say() -> None:
    page = PATH.read_text("utf-8")
    assert page == parts_page(), "write it anew: python -m campus_tune.cli.known.page"
    assert len(page.splitlines()) <= 120
    title, blank, sentence, *_ = page.splitlines()
    assert (title[:2], blank, len(sentence) <= 120) == ("# ", "", True)


def test_the_page_lists_every_setting_with_its_default_and_every_part_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACINGS._factories, "theirs", _theirs)
    page = parts_page()
    for row in rows(CampusConfig):
        assert f"- `{row.name}` (`{row.default}`): " in page
    for registry in REGISTRIES.values():
        assert all(f"\n- `{name}`" in page for name in registry.names() if name != "theirs")
    assert "theirs" not in page


def _theirs(start: float = 0.1) -> Any:
    """A pacing of another package."""
    return linear(start)
