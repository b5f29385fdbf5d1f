"""Whose parts a recipe names, and what a run makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from campus_tune.method.pacing import PACINGS, Pacing, build_pacing
from campus_tune.method.selectors import SELECTORS, Selector, View
from campus_tune.metrics import METRICS
from campus_tune.metrics.length import Length
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.plugins import plugins_used
from campus_tune.run.identity import Identity
from campus_tune.words.errors import ResumeError
from tests.installed import lay_out


class Angular(Length):
    """Length under another name, as a package of somebody else would bring it."""


class First(Selector):
    """Takes the first offer, as a package of somebody else would bring it."""

    def choose(self, view: View) -> str:
        return view.names[0]


def level() -> Pacing:
    """The linear pacing under another name, as a package of somebody else would bring it."""
    return build_pacing("linear")


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two packages, one with a metric and a pacing, one with a selector."""
    for package, version in (("angles", "2.5"), ("firsts", "1.0")):
        lay_out(tmp_path, package, version, parts={"mine": f"{package}.parts"}, modules={})
    monkeypatch.syspath_prepend(tmp_path)
    parts: list[tuple[Any, str, Any, str]] = [
        (METRICS, "angular", Angular, "angles"),
        (PACINGS, "level", level, "angles"),
        (SELECTORS, "first", First, "firsts"),
    ]
    for registry, name, part, package in parts:
        monkeypatch.setattr(part, "__module__", f"{package}.parts")
        registry.register(name)(part)
    yield
    for registry, name, _, _ in parts:
        registry.forget(name)


@pytest.mark.parametrize(
    ("settings", "used"),
    [
        ({"metrics": ["length"]}, {}),
        ({"metrics": ["angular"]}, {"angles": "2.5"}),
        ({"metrics": ["-angular"]}, {"angles": "2.5"}),
        ({"metrics": [{"name": "rank_mean", "of": ["length", {"name": "angular"}]}]}, {"angles": "2.5"}),
        ({"metrics": [{"name": "column", "column": "angular"}]}, {}),
        ({"metrics": ["length"], "pacing": {"name": "join", "pieces": [{"name": "level"}]}}, {"angles": "2.5"}),
        ({"metrics": ["angular", "length"], "selector": "first"}, {"angles": "2.5", "firsts": "1.0"}),
    ],
)
def test_packages_are_those_of_the_parts_that_a_recipe_names(settings: dict[str, Any], used: dict[str, str]) -> None:
    assert plugins_used(CampusConfig(**settings)) == used


def test_a_checkpoint_of_another_version_of_a_plug_in_is_refused_and_both_are_named() -> None:
    def identity(future: dict[str, str]) -> Identity:
        return Identity(
            {"dataset": "d", "labels": "l", "global_batch": 8}, future, {"micro": 8, "world": 1, "accumulation": 1}, {}
        )

    saved, now = identity({"plug-in angles": "2.4"}).record(), identity({"plug-in angles": "2.5"})
    with pytest.raises(
        ResumeError, match=r"`plug-in angles`: '2\.4' in the checkpoint, '2\.5' now\..*resume: changed_future"
    ):
        now.refuse_other(saved, changed_future=False)
    now.refuse_other(saved, changed_future=True)
