"""Each pacing against its formula in the docstring, written again without numpy, and numbers worked by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.pacing import build_pacing, linear, root, scope_at
from campus_tune.words.errors import RecipeError
from tests.strategies import joins, simple_pacings

moments = st.floats(0.0, 1.0)


def by_hand(setting: Mapping[str, Any], u: float) -> float:
    """The docstrings' formulas, one number at a time."""
    o = dict(setting)
    name, s = o["name"], o.get("start", 0.2 if o["name"] == "step" else 0.01)
    if u == 1.0:
        return 1.0
    if name == "root":
        p = o.get("power", 2.0)
        return min(1.0, (u * (1 - s**p) + s**p) ** (1 / p))
    if name == "linear":
        return float(s + (1 - s) * u)
    if name == "quadratic":
        return float(s + (1 - s) * u * u)
    if name == "exponential":
        r = o.get("rate", 10.0)
        return float(s + (1 - s) * (math.exp(r * u) - 1) / (math.exp(r) - 1))
    if name == "logarithmic":
        r = o.get("rate", 10.0)
        return float(s + (1 - s) * (1 + math.log(u + (1 - u) * math.exp(-r)) / r))
    if name == "step":
        n = o.get("steps", 2)
        return float(min(1.0, s + (1 - s) * math.floor(n * u) / (n - 1)))
    return join_by_hand(o["pieces"], u)


def join_by_hand(pieces: list[dict[str, Any]], u: float) -> float:
    begun, reached = 0.0, by_hand(pieces[0], 0.0)
    for piece in pieces:
        if u <= piece["until"]:
            first = by_hand(piece, 0.0)
            local = by_hand(piece, (u - begun) / (piece["until"] - begun))
            if first == 1.0:
                return float(piece["to"] if u > begun else reached)
            return float(reached + (piece["to"] - reached) * (local - first) / (1 - first))
        begun, reached = piece["until"], piece["to"]
    raise AssertionError("the last piece ends at 1")


@given(simple_pacings(), moments)
def test_every_family_is_the_formula_of_its_docstring(setting: dict[str, Any], u: float) -> None:
    assert scope_at(build_pacing(setting), u) == pytest.approx(by_hand(setting, u), abs=1e-9)


@given(joins(), moments)
def test_a_join_maps_each_piece_onto_its_part_of_the_run_and_of_the_scope(setting: dict[str, Any], u: float) -> None:
    assert scope_at(build_pacing(setting), u) == pytest.approx(by_hand(setting, u), abs=1e-6)


@pytest.mark.parametrize(
    ("setting", "u", "scope"),
    [
        ({"name": "root", "power": 2, "start": 0.01}, 0.25, 0.500075),  # √(0.25·0.9999 + 0.0001)
        ({"name": "root", "power": 3, "start": 0.5}, 0.5, 0.8254818),  # ∛(0.5·0.875 + 0.125)
        ({"name": "linear", "start": 0.2}, 0.5, 0.6),
        ({"name": "quadratic", "start": 0.2}, 0.5, 0.4),
        ({"name": "exponential", "start": 0.1, "rate": 2.0}, 0.5, 0.3420473),  # 0.1 + 0.9/(e + 1)
        ({"name": "logarithmic", "start": 0.1, "rate": 2.0}, 0.5, 0.7452014),  # 0.1 + 0.9·(1 + ln((1 + e⁻²)/2)/2)
        ({"name": "step", "steps": 3, "start": 0.2}, 0.32, 0.2),
        ({"name": "step", "steps": 3, "start": 0.2}, 0.34, 0.6),
        ({"name": "step", "steps": 3, "start": 0.2}, 0.67, 1.0),
        ("linear", 0.5, 0.505),
        ("root", 0.0, 0.01),
    ],
)
def test_worked_numbers(setting: Any, u: float, scope: float) -> None:
    assert scope_at(build_pacing(setting), u) == pytest.approx(scope, abs=1e-6)


def test_the_worked_example_of_a_join() -> None:
    """Linear from 0.1 to half of the rows in 30 % of the run, then linear to the end."""
    pacing = build_pacing(
        {
            "name": "join",
            "pieces": [
                {"name": "linear", "start": 0.1, "until": 0.3, "to": 0.5},
                {"name": "linear", "until": 1, "to": 1},
            ],
        }
    )
    assert pacing(np.array([0.0, 0.15, 0.3, 0.65, 1.0])).tolist() == pytest.approx([0.1, 0.3, 0.5, 0.75, 1.0])


def test_a_join_may_stay_where_its_first_piece_starts() -> None:
    """√0.5 squared is a little more than 0.5 in floating point: no reason to refuse `to: 0.5`."""
    first = {"name": "root", "power": 0.5, "start": 0.5, "until": 0.5, "to": 0.5}
    pacing = build_pacing({"name": "join", "pieces": [first, {"name": "linear"}]})
    assert pacing(np.array([0.0, 0.4, 0.5, 1.0])).tolist() == pytest.approx([0.5, 0.5, 0.5, 1.0])


def test_a_root_of_power_one_is_linear() -> None:
    u = np.linspace(0, 1, 11)
    np.testing.assert_allclose(root(power=1.0, start=0.3)(u), linear(start=0.3)(u))


def test_root_slices_get_finer_and_exponential_ones_coarser() -> None:
    """The remark by which the root family was taken for CAMPUS' own."""
    k = np.linspace(0, 1, 20)
    assert (np.diff(build_pacing("root")(k), 2) < 0).all()
    assert (np.diff(build_pacing("exponential")(k), 2) > 0).all()


def test_a_start_too_small_for_a_large_power_is_kept() -> None:
    """In double precision 0.0001¹⁰⁰ is 0, and its root too: no row would be open."""
    assert scope_at(root(power=100.0, start=0.0001), 0.0) == 0.0001


def test_progress_outside_the_run_counts_as_its_ends() -> None:
    assert linear(start=0.5)(np.array([-1.0, 2.0])).tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ({"power": 2}, r"`pacing` must have a name, one of .*root.*, got \{'power': 2\}\."),
        ({"name": ["root"]}, r"`pacing` must have a name, one of "),
        ("rot", r"`pacing` must be one of .*, got 'rot'\. Did you mean 'root'\?"),
        ({"name": "root", "pwoer": 2}, r"`pacing: root` takes power, start, got 'pwoer'\. Did you mean 'power'\?"),
        ({"name": "root", "start": 0.0}, r"`start` must be a number in \(0, 1\], got 0\.0\. It is the share of rows"),
        ({"name": "linear", "start": 1.1}, r"`start` must be a number in \(0, 1\], got 1\.1\."),
        ({"name": "quadratic", "start": math.nan}, r"`start` must be a number in \(0, 1\], got nan\."),
        ({"name": "exponential", "start": True}, r"`start` must be a number in \(0, 1\], got True\."),
        ({"name": "logarithmic", "start": "1e-2"}, r"got '1e-2'\..*YAML reads 1e-2 as text: write 0\.01 or 1\.0e-2"),
        ({"name": "step", "start": -1}, r"`start` must be a number in \(0, 1\], got -1\."),
        ({"name": "root", "power": 0}, r"`power` must be a number in \[0\.01, 100\], got 0\. Larger bends"),
        ({"name": "root", "power": math.inf}, r"`power` must be a number in \[0\.01, 100\], got inf\."),
        ({"name": "exponential", "rate": 1000}, r"`rate` must be a number in \[0\.01, 100\], got 1000\."),
        ({"name": "logarithmic", "rate": "ten"}, r"`rate` must be a number in \[0\.01, 100\], got 'ten'\."),
        ({"name": "step", "steps": 1}, r"`steps` must be a whole number of at least 2, got 1\. Use 2 or more"),
        ({"name": "step", "steps": 2.5}, r"`steps` must be a whole number of at least 2, got 2\.5\."),
        ({"name": "step", "steps": True}, r"`steps` must be a whole number of at least 2, got True\."),
        ({"name": "join"}, r"`pieces` must name at least one pacing, got none\. Give \[\{name:"),
        ({"name": "join", "pieces": "root"}, r"`pieces` must be a list of mappings, got 'root'\. Give"),
        ({"name": "join", "pieces": ["root"]}, r"`pieces` must be a list of mappings, got \['root'\]\. Give"),
        (
            {"name": "join", "pieces": [{"name": "linear", "until": None}]},
            r"`until` of each piece must .* got None\. Write",
        ),
        ({"name": "join", "pieces": [{"name": "linear", "to": "x"}]}, r"`to` of each piece must be .* got 'x'\. Write"),
        (
            {"name": "join", "pieces": [{"name": "linear", "to": True}]},
            r"`to` of each piece must be .* got True\. Write",
        ),
        (
            {"name": "join", "pieces": [{"name": "linear", "until": 0.5}]},
            r"`until` of the pieces must grow and end at 1, got \[0\.5\]\. Order the pieces\.",
        ),
        (
            {"name": "join", "pieces": [{"name": "linear", "until": 0.5, "to": 1}, {"name": "linear"}]},
            r"`to` of the pieces must grow and end at 1, got \[1\.0, 1\.0\]\.",
        ),
        (
            {
                "name": "join",
                "pieces": [{"name": "linear", "start": 0.6, "until": 0.5, "to": 0.5}, {"name": "linear"}],
            },
            r"`to` of the first piece must be at least its start 0\.6, got 0\.5\. Raise it\.",
        ),
        (
            {"name": "join", "pieces": [{"name": "lineer"}]},
            r"`pacing` must be one of .*, got 'lineer'\. Did you mean 'linear'\?",
        ),
    ],
)
def test_a_wrong_setting_says_what_was_given_and_what_is_wanted(setting: Any, complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        build_pacing(setting)
