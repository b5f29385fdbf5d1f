"""Every registered pacing keeps what pacings promise, and a pacing that does not is found out."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from campus_tune.method.pacing import PACINGS, Pacing, build_pacing, scope_at
from campus_tune.testing import BrokenPromise, check_pacing
from tests.strategies import PACING_OPTIONS, examples, pacings
from tests.testing.mutants import registered


def test_every_registered_pacing_is_drawn_here_with_all_of_its_options() -> None:
    assert set(PACING_OPTIONS) >= set(PACINGS.names())
    for name, options in PACING_OPTIONS.items():
        assert name == "join" or sorted(options) == sorted(PACINGS.options(name))


@examples(60)
@given(pacings())
def test_every_pacing_keeps_what_pacings_promise(setting: dict[str, Any]) -> None:
    check_pacing(setting, draws=20)


@pytest.mark.parametrize("start", [0.99999, 1 - 1e-7, 1.0])
def test_a_piece_that_hardly_rises_is_stretched_without_its_rounding(start: float) -> None:
    first = {"name": "root", "power": 1.0, "start": 0.5, "until": 0.5, "to": 0.5}
    last = {"name": "root", "power": 3.0, "start": start, "until": 1.0, "to": 1.0}
    check_pacing({"name": "join", "pieces": [first, last]})


@given(pacings())
def test_joined_pacings_start_where_the_first_does(setting: dict[str, Any]) -> None:
    start = setting["pieces"][0]["start"] if setting["name"] == "join" else setting["start"]
    assert scope_at(build_pacing(setting), 0.0) == pytest.approx(start, abs=1e-9)


@pytest.mark.parametrize("name", PACINGS.names())
def test_a_card_has_the_formula_or_says_how_pieces_are_put_together(name: str) -> None:
    card = inspect.getdoc(PACINGS.get(name)) or ""
    assert "s(u) =" in card or name == "join"


@pytest.mark.parametrize("name", [name for name in PACINGS.names() if name != "join"])
def test_every_pacing_has_a_default_for_everything(name: str) -> None:
    check_pacing(name)


def in_place(u: Any) -> Any:
    u *= 0.5
    return u + 0.5


@pytest.mark.parametrize(
    ("curve", "promise"),
    [
        (in_place, r"`mutant` must leave the progress that it is given as it was"),
        (lambda u: u.max(), r"must give one float64 for each moment, shape \(\d+,\), got float64 \(\)"),
        (lambda u: np.float32(1) * u.astype(np.float32), r"must give one float64 for each moment.* got float32"),
        (lambda u: u, r"must give shares in \(0, 1\], never nothing, got 0\.0 to 1\.0"),
        (lambda u: 0.5 + u, r"must give shares in \(0, 1\]"),
        (lambda u: u * np.nan, r"must give shares in \(0, 1\]"),
        (lambda u: 1 - 0.5 * np.sin(np.pi * u), r"must never fall: .*Got 1\.0 at u = 0\.0, then 0\.\d+ at u = "),
        (lambda u: 0.5 + 0.4 * u, r"must end at exactly 1, .* got 0\.9 at u = 1"),
        (lambda u: np.linspace(0.3, 1, u.size).reshape(u.shape), r"must give each moment its own scope"),
        (lambda u: 0.2 + 0.8 * u, r"must start at its `start`, 0\.3, got 0\.2 at u = 0"),
    ],
)
def test_a_pacing_that_breaks_a_promise_is_found_out(curve: Callable[[Any], Any], promise: str) -> None:
    def part(start: float = 0.3) -> Pacing:
        """A pacing that does something that no pacing must do, for a test."""
        del start
        return curve

    with registered(PACINGS, part) as name, pytest.raises(BrokenPromise, match=promise):
        check_pacing(name)


def test_a_pacing_that_is_another_one_each_time_is_found_out() -> None:
    made = itertools.count()

    def part() -> Pacing:
        """A pacing that opens a little later each time it is made, for a test."""
        later = 1 + next(made)
        return lambda u: 0.1 + 0.9 * u**later

    with registered(PACINGS, part) as name, pytest.raises(BrokenPromise, match="the same scope for the same moment"):
        check_pacing(name)


def test_a_pacing_without_a_card_is_found_out() -> None:
    def part() -> Pacing:
        """All open."""
        return lambda u: np.ones_like(u)

    with (
        registered(PACINGS, part) as name,
        pytest.raises(BrokenPromise, match=r"its card, of 10 words .* 'All open\.'"),
    ):
        check_pacing(name)
