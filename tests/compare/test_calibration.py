"""The verdict is honest on simulated comparisons, and the script that shows it counts rightly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from campus_tune.compare.verdict import HELPED, HURT
from eval import calibration

MOST = int(stats.binom.ppf(0.9999, 200, 0.05))  # false alarms of 200 that an honest 5 % may give


def options(*more: str) -> calibration.argparse.Namespace:
    return calibration.parse(["--resamples", "199", "--times", "200", *more])


@pytest.mark.parametrize("noise", calibration.NOISES)
def test_false_alarms_are_at_most_five_in_a_hundred(noise: calibration.Noise) -> None:
    found = calibration.ends(noise, 3, 60, 0.0, options())
    assert found.times == 200
    assert found.words[HELPED] + found.words[HURT] <= MOST
    assert found.covered >= 200 - MOST


def test_speed_raises_no_more_false_alarms_either() -> None:
    found = calibration.speeds(3, 0.15, 0.0, options())
    assert found.words[HELPED] + found.words[HURT] <= MOST


def test_an_effect_of_the_detectable_size_is_found_in_four_of_five_comparisons() -> None:
    noise = calibration.NOISES[2]
    size = calibration.planned(noise, 5, 60).detectable()
    found = calibration.ends(noise, 5, 60, -size, options())
    assert 0.70 <= found.share(HELPED) <= 0.90
    assert found.words[HURT] == 0


def test_the_planned_spread_is_what_simulated_differences_have() -> None:
    noise, rng = calibration.NOISES[2], np.random.default_rng(0)
    means = []
    for _ in range(2000):
        base, recipe = calibration.simulate(rng, noise, 3, 40)
        means.append(recipe.end.mean() - base.end.mean())
    assert np.std(means) == pytest.approx(calibration.planned(noise, 3, 40).stderr, rel=0.06)


def test_the_tables_have_a_line_per_cell(capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--times", "2", "--resamples", "100", "--seeds", "3", "--items", "40", "--multiples", "1"]
    calibration.main(few)
    printed = capsys.readouterr().out
    assert printed.count("| mostly seeds | 3 | 40 |") == 3
    assert printed.count("| 15% | 3 |") == 1
    assert "2 verdicts a cell, effect worth finding 2%" in printed


def write_runs(folder: Path, n: int) -> Path:
    rng = np.random.default_rng(0)
    for seed in range(n):
        end = float(rng.normal(1.0, 0.05))
        result = {
            "arm": "random", "kind": "baseline", "seed": seed, "status": "finished", "message": None,
            "shared": {}, "tokens": 200, "cost": {"all": 0.0}, "evaluation": None,
            "test": {"domains": ["a"], "domain": [0] * 40, "items": [str(i) for i in range(40)], "tokens": [2] * 40,
                     "loss": rng.normal(2 * end, 0.5, 40).tolist()},
            "curve": {"tokens": [0, 100, 200], "seconds": [0, 1, 2], "loss": [3.0, 1.0 + end / 2, end]},
        }  # fmt: skip
        path = folder / f"runs/random/seed-{seed}/result.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(result), "utf-8")
    return folder


def test_real_runs_are_split_at_random(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calibration.main(["--runs", str(write_runs(tmp_path, 7)), "--times", "5", "--resamples", "100"])
    printed = capsys.readouterr().out
    assert "5 random splits of 7 runs (40 items); splits overlap." in printed
    assert "| the end | 3 |" in printed
    assert "| speed | 3 |" in printed


def test_three_runs_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="at least 4 seeds of the baseline, got 3"):
        calibration.main(["--runs", str(write_runs(tmp_path, 3))])
