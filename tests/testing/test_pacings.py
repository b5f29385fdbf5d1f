"""What every registered pacing promises, whatever its options."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.pacing import PACINGS, build_pacing, scope_at
from tests.strategies import PACING_OPTIONS, pacings

ROUNDING = 1e-12
progress = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20).map(sorted)


def test_every_registered_pacing_is_drawn_here_with_all_of_its_options() -> None:
    assert sorted(PACING_OPTIONS) == PACINGS.names()
    assert len(PACINGS.names()) == 7
    for name, options in PACING_OPTIONS.items():
        assert name == "join" or sorted(options) == sorted(PACINGS.options(name))


@given(pacings(), progress)
def test_a_pacing_never_falls(setting: dict[str, Any], u: list[float]) -> None:
    assert (np.diff(build_pacing(setting)(np.array(u))) >= -ROUNDING).all()


@given(pacings())
def test_a_pacing_ends_at_exactly_one(setting: dict[str, Any]) -> None:
    assert scope_at(build_pacing(setting), 1.0) == 1.0


@given(pacings())
def test_a_pacing_starts_at_its_start(setting: dict[str, Any]) -> None:
    start = setting["pieces"][0]["start"] if setting["name"] == "join" else setting["start"]
    assert scope_at(build_pacing(setting), 0.0) == pytest.approx(start, abs=1e-9)


@given(pacings(), progress)
def test_a_scope_is_a_share_and_never_nothing(setting: dict[str, Any], u: list[float]) -> None:
    scope = build_pacing(setting)(np.array(u))
    assert ((scope > 0) & (scope <= 1)).all()


@given(pacings(), st.integers(1, 3), st.integers(1, 3))
def test_scopes_have_the_shape_of_the_progress_and_are_taken_one_by_one(
    setting: dict[str, Any], rows: int, columns: int
) -> None:
    pacing = build_pacing(setting)
    u = np.linspace(0, 1, rows * columns).reshape(rows, columns)
    assert pacing(u).shape == u.shape
    assert pacing(u).ravel().tolist() == pytest.approx([scope_at(pacing, x) for x in u.ravel()], abs=ROUNDING)


@pytest.mark.parametrize("name", PACINGS.names())
def test_a_card_has_the_formula_or_says_how_pieces_are_put_together(name: str) -> None:
    card = inspect.getdoc(PACINGS.get(name)) or ""
    assert "s(u) =" in card or name == "join"


@pytest.mark.parametrize("name", [name for name in PACINGS.names() if name != "join"])
def test_every_pacing_has_a_default_for_everything(name: str) -> None:
    assert scope_at(build_pacing(name), 1.0) == 1.0
