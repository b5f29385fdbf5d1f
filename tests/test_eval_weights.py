"""The evaluation of weights: arms as recipes and comparisons have them, the arithmetic by hand, and small runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from campus_tune.method.levels import Groups
from campus_tune.method.weighting import Live
from campus_tune.recipe.config import CampusConfig
from eval import robust_level, weights
from eval.robust_level import NONE, STAGE, STEP, STEP_MEAN, Data, Loop
from eval.suspects import interval
from eval.weights import DIRT, RANDOM, RECIPE, SHUFFLED, TRIED

# -- recipes beside their controls -------------------------------------------------------------------------------------


def test_every_arm_of_every_recipe_is_one_that_a_run_takes() -> None:
    found = [*weights.arms([*TRIED])]
    assert len(found) == len(set(found)) == 2 + sum(1 + len(controls) for controls in TRIED.values()) == 18
    assert [epochs for name, _, epochs in found if not name] == [1, 2]
    for name, arm, epochs in found:
        config = CampusConfig.from_mapping(weights.campus_of(name or "focal", arm))
        assert config.stages == 10
        assert config.weighs == (arm in (RECIPE, SHUFFLED))
        assert (config.control == SHUFFLED) == (arm == SHUFFLED)
        assert (config.thin is not None) == (name in ("infobatch", "importance"))
        assert epochs in (1, 2)


def test_raters_are_right_about_seven_rows_of_ten() -> None:
    wrong = np.arange(60_000) % 3 == 0
    said = weights.votes(wrong, np.random.default_rng(0))
    assert set(np.round(said * 3)) == {0, 1, 2, 3}
    assert said[wrong].mean() == pytest.approx(0.3, abs=0.01)
    assert said[~wrong].mean() == pytest.approx(0.7, abs=0.01)


def kept(folder: Path, dirt: str, name: str, arm: str, losses: list[float], ess: float | None = None) -> None:
    """Runs of two held-out rows, one a seed."""
    for seed, loss in enumerate(losses):
        run = {"nll": [loss, 3 * loss], "tokens": [1, 3], "weights": [] if ess is None else [{"ess": ess}] * 2}
        epochs = weights.epochs_of(name or "robust")
        weights.file_of(folder, dirt, name, arm, epochs, seed).write_text(json.dumps(run | {"audit": None}))


def test_the_table_has_each_arm_over_shuffling_and_each_recipe_over_its_controls(tmp_path: Path) -> None:
    kept(tmp_path, "clean", "", RANDOM, [2.0, 4.0, 1.0])
    kept(tmp_path, "clean", "robust", RECIPE, [1.0, 4.4, 0.9], ess=0.5)
    kept(tmp_path, "clean", "robust", SHUFFLED, [2.0, 4.4])
    mean, half = interval([0.5, 1.1, 0.9])
    beside, width = interval([0.5, 1.0])
    ratios = "0.500 1.100 0.900"
    table = weights.table(tmp_path, [0, 1, 2], ["robust"]).splitlines()
    assert table[2:] == [
        "| clean |  | random | 1 | 2.000 4.000 1.000 nats | 1 |  |  |  |",
        f"| clean | robust | recipe | 1 | {ratios} | {mean:.3f} ± {half:.3f} |  | {beside:.3f} ± {width:.3f} | 0.50 |",
        "| clean | robust | shuffled_weights | 1 | 1.000 1.100 | 1.050 ± 0.635 |  |  | - |",
    ]
    assert weights.against({0: 1.0}, {1: 1.0}) == ("-", "-")


def test_files_of_different_runs_have_different_names(tmp_path: Path) -> None:
    names = {
        weights.file_of(tmp_path, dirt, name, arm, epochs, seed)
        for dirt in DIRT
        for name, arm, epochs in weights.arms([*TRIED])
        for seed in range(3)
    }
    assert len(names) == 2 * 18 * 3


def test_a_small_run_is_audited_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(weights, "DIRT", {"30 % wrong": ("swapped", 0.3)})
    command = ["run", "--keep", str(tmp_path), "--quick", "--recipes", "row_weights"]
    assert weights.main(command) == 0
    said = capsys.readouterr().out
    assert said.count("audit [3, 3]") == 2
    assert said.count("audit None") == 1  # of shuffling
    weights.main(command)
    again = capsys.readouterr().out
    assert "audit" not in again
    assert said.endswith(again)
    assert [line.split(" | ")[2] for line in again.splitlines()[2:]] == [RANDOM, RECIPE, SHUFFLED]


# -- a level that stands still -----------------------------------------------------------------------------------------


def data_of(n: int = 320) -> Data:
    rng = np.random.default_rng(0)
    pairs = [([1, 2, 3, *[4] * int(tokens)], 3) for tokens in rng.integers(1, 9, n)]
    tokens = np.array([len(ids) - 3 for ids, _ in pairs])
    return Data(pairs, tokens, Groups(np.arange(n) % 2, ("a", "b")), np.arange(n) % 4 == 0)


def weighed(level: str) -> tuple[Loop, Live, np.ndarray]:
    """A loop whose level was known at a stage's opening and has moved since; and the rows of a step."""
    loop, rng = Loop(data_of(), level, 0), np.random.default_rng(1)
    rows, later = rng.permutation(320)[:160], rng.permutation(320)[:160]
    visits = {"losses": rng.random(160) + 1, "tokens": loop.data.tokens[rows], "parts": np.ones(160)}
    loop.weighting.close(rows=rows, **visits)
    for moved, above in ((rows, 0.0), (later, 2.0)):
        loop.running.take(robust_level.Visits(moved, visits["losses"] + above, loop.data.tokens[moved], np.ones(160)))
    return loop, loop.weighting.live(0.5), rng.permutation(320)[:32]


def test_a_level_that_moves_is_the_running_one_and_one_that_stands_is_that_of_the_opening() -> None:
    losses = np.linspace(1, 6, 32)
    found = {}
    for level in (NONE, STAGE, STEP, STEP_MEAN):
        loop, live, rows = weighed(level)
        found[level] = loop._weights(live, rows, losses)
    mean, spread = loop.running.cells.mean[rows % 2], loop.running.cells.spread[rows % 2]
    moved = np.minimum(1, np.exp(1 - (losses - mean) / spread))
    assert found[NONE].tolist() == [1] * 32
    np.testing.assert_allclose(found[STAGE], live.of_rows(losses, live.numbers(rows), np))
    np.testing.assert_allclose(found[STEP], np.maximum(moved, 1e-3) / live.mean)
    tokens = loop.data.tokens[rows]
    assert (found[STEP_MEAN] * tokens).sum() == pytest.approx(tokens.sum())
    assert np.ptp(found[STEP_MEAN] / found[STEP]) < 1e-9
    assert (found[STEP] > found[STAGE]).any()


def test_a_quick_run_of_the_levels_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(robust_level, "DIRT", {"30 % wrong": ("swapped", 0.3)})
    command = ["--keep", str(tmp_path), "--quick"]
    assert robust_level.main(command) == 0
    said = capsys.readouterr().out
    assert said.count("seed-0: ") == 4
    robust_level.main(command)
    again = capsys.readouterr().out
    assert said.endswith(again)
    assert [line.split(" | ")[1] for line in again.splitlines()[2:]] == [NONE, STAGE, STEP, STEP_MEAN]
    assert again.splitlines()[2].startswith("| 30 % wrong | none | 1.000 | 1.000 ± nan | 1.000 ± nan | 1.000 | 1.000 |")
