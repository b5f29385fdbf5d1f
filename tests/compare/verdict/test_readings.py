"""Gap and sharpness against the baseline: Student's t over seeds, domains, results of earlier versions, the table."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from campus_tune.compare.verdict.console_lines import readings
from campus_tune.compare.verdict.inputs import ArmResults, arm_of
from campus_tune.compare.verdict.readings import LastLook, compare_readings
from campus_tune.compare.verdict.verdict import Verdict, judge
from campus_tune.words.errors import DataError
from tests.compare.arms import an_arm, base, without
from tests.compare.verdict.test_inputs import result

MINE, THEIRS = np.array([0.5, 0.7, 0.6, 0.9]), np.array([0.4, 0.5, 0.6, 0.5])


def with_readings(arm: ArmResults, **values: Any) -> ArmResults:
    found: dict[tuple[str, str | None], Any] = {}
    for name, of_seeds in values.items():
        what, _, domain = name.partition("__")
        found[what.replace("_", " "), domain or None] = np.array(of_seeds)
    return replace(arm, readings=found)


def judged(mine: dict[str, Any], theirs: dict[str, Any]) -> Verdict:
    arms = with_readings(base(), **theirs), with_readings(an_arm(), **mine)
    return judge(arms, resamples=100)


def test_a_difference_has_students_t_over_the_seeds() -> None:
    found = judged({"sharpness": MINE}, {"sharpness": THEIRS}).readings["sharpness"]["recipe"].difference
    assert found is not None
    assert (found.mean, found.mean_against) == (pytest.approx(0.675), pytest.approx(0.5))
    assert found.value == pytest.approx(0.175)
    interval = stats.ttest_rel(MINE, THEIRS).confidence_interval()
    assert (found.low, found.high) == (pytest.approx(interval.low, rel=1e-4), pytest.approx(interval.high, rel=1e-4))
    assert found.n_seeds == 4


def test_domains_stand_beside_all_rows_and_what_only_one_arm_has_is_left_out() -> None:
    mine = {"merged_sharpness": MINE, "merged_sharpness__code": MINE / 2, "merged_sharpness__text": MINE, "x": MINE}
    theirs = {"merged_sharpness": THEIRS, "merged_sharpness__code": THEIRS, "sharpness": THEIRS}
    found = judged(mine, theirs).readings
    assert list(found) == ["merged sharpness"]
    of_arm = found["merged sharpness"]["recipe"]
    assert list(of_arm.domains) == ["code"]
    assert of_arm.domains["code"].mean == pytest.approx(0.3375)


def test_seeds_without_a_number_are_left_out_and_one_seed_has_no_interval() -> None:
    some = [0.5, np.nan, 0.6, np.nan]
    found = judged({"sharpness": some}, {"sharpness": THEIRS}).readings["sharpness"]["recipe"].difference
    assert found is not None
    assert found.by_seed == pytest.approx((0.1, 0.0))
    one = judged({"sharpness": some}, {"sharpness": [np.nan, 1.0, 0.5, np.nan]}).readings["sharpness"]["recipe"]
    assert one.difference is not None
    assert (one.difference.value, one.difference.low, one.difference.n_seeds) == (pytest.approx(0.1), None, 1)
    assert judged({"sharpness": some}, {"sharpness": [np.nan, 1.0, np.nan, 1.0]}).readings == {}


def test_seeds_are_paired_by_number_where_one_has_diverged() -> None:
    arm = without(an_arm(), 1, "NaN")
    arms = with_readings(arm, sharpness=MINE[[0, 2, 3]]), with_readings(base(), sharpness=THEIRS)
    found = compare_readings(arms[:1], arms[1])["sharpness"]["recipe"].difference
    assert found is not None
    assert found.by_seed == pytest.approx((0.1, 0.0, 0.4))
    with pytest.raises(DataError, match="one entry per seed in all its parts"):
        with_readings(arm, sharpness=MINE)


def test_what_runs_wrote_is_read_and_earlier_versions_wrote_less() -> None:
    part = {"value": 0.2, "grown": 0.1, "at_start": 0.1, "stderr": 0.01}
    sharp = {"value": 0.5, "relative": None, "merged": 0.7, "radius": 0.05, "rows": 64}
    new = result(
        0, gap={**part, "domains": {"a": {**part, "value": 0.3}}}, sharpness={**sharp, "domains": {"a": sharp}}
    )
    arm = arm_of([new, result(1, sharpness={"value": 0.4, "radius": 0.05}), result(2, gap=None)])
    known = {key: values.tolist() for key, values in arm.readings.items()}
    nothing = pytest.approx(float("nan"), nan_ok=True)
    assert known == {
        ("generalisation gap", None): [0.2, nothing, nothing],
        ("generalisation gap", "a"): [0.3, nothing, nothing],
        ("gap grown by training", None): [0.1, nothing, nothing],
        ("gap grown by training", "a"): [0.1, nothing, nothing],
        ("sharpness", None): [0.5, nothing, nothing],
        ("sharpness", "a"): [0.5, nothing, nothing],
        ("merged sharpness", None): [0.7, nothing, nothing],
        ("merged sharpness", "a"): [0.7, nothing, nothing],
    }
    assert arm_of([result(0), result(1)]).readings == {}


def test_a_verdict_keeps_them_and_one_of_an_earlier_version_has_none() -> None:
    verdict = judged({"sharpness": MINE, "sharpness__a": MINE}, {"sharpness": THEIRS, "sharpness__a": THEIRS})
    written = json.loads(json.dumps(verdict.to_mapping(), allow_nan=False))
    assert Verdict.from_mapping(written) == verdict
    assert Verdict.from_mapping({name: part for name, part in written.items() if name != "readings"}).readings == {}
    assert LastLook.from_mapping(LastLook(None).to_mapping()) == LastLook(None)


def test_the_console_shows_a_table_and_says_that_no_verdict_hangs_on_it() -> None:
    verdict = judged(
        {"generalisation_gap": MINE, "sharpness": [0.1, np.nan, np.nan, np.nan]},
        {"generalisation_gap": THEIRS, "sharpness": THEIRS},
    )
    table, _, note = readings(verdict)
    assert [re.split(r"\s{2,}", line) for line in table.splitlines()] == [
        ["arm", "generalisation gap", "sharpness"],
        ["random", "0.5", "0.4"],
        ["recipe", "0.675 (Δ −0.097 to +0.45)", "0.1"],
    ]
    assert "no verdict hangs on these" in note
    assert readings(judged({}, {})) == []
