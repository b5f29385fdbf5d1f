"""The shares that a run leaves for a second one: a recipe takes them as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from campus_tune.method.probe_history import ProbeHistory, ProbeRows
from campus_tune.method.reweight import build_reweight
from campus_tune.method.reweighted import mean_shares
from campus_tune.method.steering import Steering
from campus_tune.method.view import History, PastStage
from campus_tune.recipe.config import CampusConfig
from campus_tune.run.told.shares_file import leave_shares, shares_block
from campus_tune.words.strict_yaml import read_value, read_yaml
from tests.strategies import examples, group_names

NAMES = ("code", "math")
BASE = np.array([0.75, 0.25])


def steering(name: str) -> Steering:
    options = {"targets": {"code": 0.5, "math": 0.1}} if name == "doremi" else {}
    made = Steering(reweight=build_reweight({"name": name, **options}), names=NAMES)
    rows = ProbeRows(np.arange(2), np.array([10.0, 10.0]), np.array([10, 10]), np.array([0, 0]))
    measured = ProbeHistory().taken(dict.fromkeys(NAMES, rows), stage=0, step=0, progress=0.0, mass=0.0, tokens=0)
    made.look(History([PastStage(0, "shuffle", 10)], measured=measured))
    return made


def test_a_second_run_takes_them(tmp_path: Path) -> None:
    made = steering("doremi")
    leave_shares(tmp_path, made, lambda _: BASE)
    block = read_yaml(tmp_path / "shares.yaml")
    config = CampusConfig.from_mapping({"selector": "shuffle", **block})
    assert config.domains is not None
    assert config.domains.shares == pytest.approx(
        dict(zip(NAMES, mean_shares(made, lambda _: BASE), strict=True)), abs=1e-6
    )
    assert config.domains.shares["math"] > 0.28


@pytest.mark.parametrize("name", ["lagging", "odm", None])
def test_others_leave_nothing(tmp_path: Path, name: str | None) -> None:
    leave_shares(tmp_path, None if name is None else steering(name), lambda _: BASE)
    assert list(tmp_path.iterdir()) == []


ODD = ["yes", "1e-3", "null", "~", "a: b", "#x", "- a", "'", '"', "{", "数学", "temperature", "12:30", "<<", "=", "a b"]
names = st.sampled_from(ODD) | group_names().map(lambda name: "".join(filter(str.isprintable, name)).strip() or "empty")


@examples(60)
@given(st.dictionaries(names, st.integers(0, 1000), min_size=2, max_size=7), st.booleans())
def test_any_names_and_shares_are_read_again(shares: dict[str, int], over_cells: bool) -> None:
    assume(any(shares.values()))
    parts = np.array(list(shares.values())) / sum(shares.values())
    block = read_value(shares_block(list(shares), parts, over_cells=over_cells), "block")
    config = CampusConfig.from_mapping({"metrics": ["length"], **block})
    assert config.domains is not None
    assert config.domains.shares == pytest.approx(dict(zip(shares, parts, strict=True)), abs=5e-6)
    assert config.domains.over == ("cells" if over_cells else "domains")
