"""`campus-tune list`: kinds and their names, as a table and as JSON; what is a plug-in's says so."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from campus_tune.cli.known import ALL, kinds
from campus_tune.cli.main import main
from campus_tune.metrics import METRICS
from campus_tune.words import registry
from tests.installed import lay_out

COMMAS = '''
from dataclasses import dataclass
import numpy as np
from campus_tune.metrics import METRICS
from campus_tune.metrics.base import CpuMetric

@METRICS.register("commas")
@dataclass(frozen=True, kw_only=True)
class Commas(CpuMetric):
    """How many commas an answer has: more = harder.

    Args:
        least: below which a row has none, ≥ 0.
    """

    least: int = 0

    def scores(self, texts, *, num_proc=1, progress=True):
        return np.array([text.count(",") for text in texts.responses], dtype=float)
'''


@pytest.mark.parametrize("kind", ALL)
def test_every_kind_has_names_with_a_line_each(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = ALL[kind].names()
    assert len(lines) == len(names) + 1
    assert len({one.name for one in names}) == len(names) or kind in ("options", "warnings")
    assert all(one.line for one in names)


def test_without_a_kind_the_kinds_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["kind", *ALL]
    assert main(["list", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {one["kind"]: one["names"] for one in told["kinds"]}["metrics"] == len(METRICS.names())


def test_json_has_what_the_table_shows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "pacings", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kind"] == "pacings"
    assert main(["list", "pacing"]) == 0
    table = capsys.readouterr().out
    for one in told["names"]:
        assert one["from"] == "campus_tune"
        assert one["name"] in table
        assert one["line"] in table


def test_a_kind_that_nobody_knows_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "metrix"]) == 2
    assert "`list` takes settings, metrics, " in (said := capsys.readouterr().err)
    assert "got 'metrix'. Did you mean 'metrics'? Choose one." in said


def test_a_part_of_an_installed_package_is_listed_with_where_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out(tmp_path, "campus_commas", "1.2", parts={"mine": "campus_commas"}, modules={"campus_commas.py": COMMAS})
    monkeypatch.setattr(registry, "_failed", None)
    monkeypatch.syspath_prepend(tmp_path)
    kinds._parts.cache_clear()
    try:
        assert main(["list", "metrics"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split() == ["name", "from", "what", "it", "is"]
        assert [line.split()[:3] for line in lines if line.startswith("commas")] == [["commas", "campus_commas", "1.2"]]
        assert main(["explain", "commas"]) == 0
        printed = capsys.readouterr().out
        assert "How many commas an answer has: more = harder." in printed
        assert "comes from  campus_commas 1.2" in printed
        assert "    campus: {metrics: [commas]}" in printed
    finally:
        METRICS.forget("commas")
        kinds._parts.cache_clear()
        sys.modules.pop("campus_commas", None)


def test_a_terminal_gets_a_table_that_fits(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "dumb")
    assert main(["list", "regions"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60
    assert sum("still_learning" in line for line in lines) == 1


def test_a_narrow_terminal_breaks_the_names_and_keeps_what_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "dumb")
    assert main(["list", "settings"]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 40
    assert "Without any, rows" in " ".join(printed.split())
