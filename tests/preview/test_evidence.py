"""The table of what helps when: the one that is shipped holds together, and one that claims too much is refused."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from campus_tune.compare import verdict
from campus_tune.preview import evidence as read
from campus_tune.preview.evidence import (
    as_table,
    best_of,
    effect_words,
    evidence,
    read_evidence,
    short_table,
    whole_table,
)
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.errors import DataError
from tests.preview.made_up_evidence import acts, order, table, table_json

ROOT = Path(__file__).parents[2]


def test_the_table_that_is_shipped_is_one_and_travels_with_the_package() -> None:
    assert isinstance(evidence().rows, tuple)
    shipped = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["package-data"]
    assert "preview/evidence.json" in shipped["campus_tune"]


def test_every_arm_of_the_shipped_table_is_a_recipe_and_every_entry_is_in_the_log() -> None:
    for row in evidence().rows:
        for arm in row.arms.values():
            CampusConfig.from_mapping(arm.campus)
    headings = re.findall(r"^## (.*)$", (ROOT / "eval/LOG.md").read_text("utf-8"), flags=re.MULTILINE)
    assert not evidence().rows or any(evidence().log in heading for heading in headings)


def test_the_guide_shows_the_shipped_table_and_no_other() -> None:
    page = (ROOT / "campus_tune/guide/choosing.md").read_text("utf-8")
    assert whole_table(evidence()) in page
    assert page.count(whole_table(evidence()).splitlines()[0]) == 1


def test_the_short_table_has_what_helped_and_how_often_nothing_did() -> None:
    shown = short_table(table()).splitlines()
    helped = [row for row in table().rows if row.helps is not None]
    assert len(shown) == 2 + len(helped) + 2
    assert "| wrong | dropping suspects | 12 % lower (9.0 to 15 %; 8 seeds) |" in shown
    assert shown[-1] == f"In {len(table().rows) - len(helped)} other situations nothing that was tried helped for sure."


def test_its_verdicts_are_those_of_compare() -> None:
    assert set(read.VERDICTS) == set(verdict.WORDS)
    assert (read.HELPED, read.HURT) == (verdict.HELPED, verdict.HURT)


def changed(change: Callable[[Any], object]) -> Any:
    said = table_json()
    change(said)
    return said


WRONG: list[tuple[str, Callable[[Any], object]]] = [
    ("`log` must be text", lambda t: t.update(log=3)),
    ("`version` must be 1, got 2", lambda t: t.update(version=2)),
    ("different names", lambda t: t["situations"].append(t["situations"][0])),
    ("`clean_1: base` must be one of tasks, smol, got 'gpt'", lambda t: t["situations"][0].update(base="gpt")),
    ("`clean_1: kind` must be one of clean, wrong", lambda t: t["situations"][0].update(kind="odd")),
    ("`clean_1: helps` must be an arm that has helped, more", lambda t: t["situations"][0].update(helps="auto")),
    ("more than its controls, got 'x'", lambda t: t["situations"][0].update(helps="x")),
    ("more than its controls, got 'auto'", lambda t: t["situations"][3]["arms"]["auto"].update(beats_controls=False)),
    ("verdict` must be one of helped", lambda t: t["situations"][3]["arms"]["auto"].update(verdict="great")),
    ("must have effect, low and high to have helped", lambda t: t["situations"][3]["arms"]["auto"].update(low=None)),
]


@pytest.mark.parametrize(("told", "change"), WRONG)
def test_a_table_that_claims_what_was_not_judged_so_is_refused(told: str, change: Callable[[Any], object]) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        as_table(changed(change))


def test_a_file_that_is_missing_or_damaged_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must be the table of what was measured, got .*No such file.* Install"):
        read_evidence(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"version": 1', "utf-8")
    with pytest.raises(DataError, match=r"must be the table of what was measured, got .* python -m eval\.situations"):
        read_evidence(tmp_path / "half.json")
    (tmp_path / "whole.json").write_text(json.dumps(changed(lambda t: t.update(more=1))), "utf-8")
    assert read_evidence(tmp_path / "whole.json").rows[3].helps == "auto"  # further keys are let be


@pytest.mark.parametrize(
    ("arm", "words"),
    [
        ({"effect": -0.12, "low": -0.15, "high": -0.09}, "12 % lower (9.0 to 15 %; 8 seeds)"),
        ({"effect": 0.12, "low": 0.09, "high": 0.15}, "12 % higher (9.0 to 15 %; 8 seeds)"),
        ({"effect": 0.01, "low": -0.02, "high": 0.04}, "1.0 % higher (−2.0 % to +4.0 %; 8 seeds)"),
        ({"effect": -0.01, "low": -0.04, "high": 0.02}, "1.0 % lower (−4.0 % to +2.0 %; 8 seeds)"),
        ({"effect": -0.01, "low": None, "high": None, "seeds": 1}, "1.0 % lower (no interval; 1 seed)"),
        (
            {"effect": -0.12, "low": -0.15, "high": -0.09, "mean": 0.04},
            "the worst domain 12 % lower (9.0 to 15 %; 8 seeds), the mean 4.0 % higher",
        ),
        ({"effect": None, "low": None, "high": None}, "not measured (8 seeds)"),
    ],
)
def test_an_effect_in_words(arm: dict[str, Any], words: str) -> None:
    said = changed(lambda t: t["situations"][0].update(arms={"a": {**order(), "verdict": None, **arm}}))
    assert effect_words(as_table(said).rows[0].arms["a"]) == words


def test_the_whole_table_has_one_line_a_situation_with_what_helps_or_that_nothing_does() -> None:
    shown = whole_table(table()).splitlines()
    assert len(shown) == 2 + len(table().rows)
    assert "| `wrong_30` | wrong | dropping suspects | 12 % lower (9.0 to 15 %; 8 seeds) | helped |" in shown
    nothing = "dropping suspects: 0.4 % higher (−2.6 % to +3.4 %; 8 seeds)"  # lower than the order, which hurt
    assert f"| `wrong_5` | wrong | nothing that was tried | {nothing} | underpowered |" in shown
    assert "| `domains_99` | lagging | nothing that was tried | not measured | none |" in shown
    assert all(line.count(" | ") == 4 for line in shown if not line.startswith("|---"))


def test_what_a_row_shows_is_what_helps_else_the_lowest_else_nothing() -> None:
    arms = {
        "better": acts(-0.2, None),
        "auto": acts(),
        "unknown": {**order(), "effect": None, "low": None, "high": None},
    }
    said = changed(lambda t: t["situations"][3].update(arms=arms))
    assert [name for name, _ in filter(None, map(best_of, as_table(said).rows[3:4]))] == ["auto"]
    said["situations"][3]["helps"] = None
    assert [name for name, _ in filter(None, map(best_of, as_table(said).rows[3:4]))] == ["better"]
    assert best_of(table().rows[7]) is None
