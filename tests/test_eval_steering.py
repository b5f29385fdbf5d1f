"""The evaluation of what steers: arms that a run takes, rows that are apart, the arithmetic by hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from campus_tune.recipe.config import CampusConfig
from eval import steering
from eval.steering import DOMAINS, PARTS, RANDOM
from eval.suspects import interval


def test_every_arm_is_one_that_a_run_takes() -> None:
    found = [*steering.arms([*PARTS])]
    assert len(found) == len(set(found)) == sum(map(len, PARTS.values()))
    for part, arm in found:
        config = CampusConfig.from_mapping(steering.campus_of(part, arm))
        assert config.is_shuffle or config.labels
        assert (config.steer.asks("review") is not None) == (arm == "little review, answered")
        assert (config.clock is not None) == (arm == "competence")
        assert (config.draw.domains is not None and config.draw.domains.reweight is not None) == (arm == "lagging")


@pytest.mark.parametrize("part", ["forgetful", "unequal"])
def test_nothing_that_is_trained_is_held_out(part: str) -> None:
    rows = steering.rows_of(part, 0, 50)
    sizes = Counter(row["domain"] for row in rows)
    wanted = dict.fromkeys(DOMAINS, 50) if part == "forgetful" else dict.fromkeys(DOMAINS, 20) | {DOMAINS[0]: 140}
    assert sizes == wanted
    trained = {steering._asked(row) for row in rows}
    for n, seed in ((steering.PROBES, steering.PROBE_SEED), (steering.TESTS, steering.TEST_SEED)):
        held_out = steering.held_out_rows(n, seed)
        assert Counter(row["domain"] for row in held_out) == dict.fromkeys(DOMAINS, n)
        assert not trained & {steering._asked(row) for row in held_out}


def test_other_seeds_train_other_rows() -> None:
    first, again, other = (steering.rows_of("bandits", seed, 20) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def kept(folder: Path, part: str, arm: str, losses: list[tuple[float, float]], fired: int = 0) -> None:
    """Runs of one held-out token in the first and in the last domain, one a seed."""
    for seed, loss in enumerate(losses):
        firings = [{"kind": "regression"}] * fired + [{"kind": "recovered"}]
        run = {"nll": [*loss], "tokens": [1, 1], "domains": [DOMAINS[0], DOMAINS[-1]], "firings": firings}
        steering.file_of(folder, part, arm, seed).write_text(json.dumps(run))


def test_the_table_has_each_arm_over_shuffling_by_domains(tmp_path: Path) -> None:
    kept(tmp_path, "clocks", RANDOM, [(1.0, 3.0), (2.0, 2.0), (1.0, 1.0)])
    kept(tmp_path, "clocks", "competence", [(2.0, 3.0), (2.0, 1.0)], fired=2)
    mean, half = interval([5 / 4, 3 / 4])
    lines = steering.table(tmp_path, [0, 1, 2], ["clocks"]).splitlines()[2:]
    assert lines == [
        "| clocks | random | 2.000 2.000 1.000 nats | 1.000 2.000 1.000 nats | 3.000 2.000 1.000 nats | 1 |  |",
        f"| clocks | competence | 1.250 0.750 | 2.000 1.000 | 1.000 0.500 | {mean:.3f} ± {half:.3f} | 2.0 |",
    ]


def test_what_is_kept_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def one_run(start: Path, part: str, arm: str, *, seed: int, n: int) -> dict[str, object]:
        asked.append((start.name, part, arm, seed, n))
        return {"nll": [1.0], "tokens": [2], "domains": [DOMAINS[0]], "firings": []}

    monkeypatch.setattr(steering, "one_run", one_run)
    kept(tmp_path, "clocks", "steps", [(1.0, 1.0)])
    steering.run_all(tmp_path, [0], ["clocks"], 60)
    assert asked == [("start", "clocks", RANDOM, 0, 60), ("start", "clocks", "competence", 0, 60)]
    steering.run_all(tmp_path, [0], ["clocks"], 60)
    assert len(asked) == 2


@pytest.mark.slow
def test_a_quick_run_goes_through(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert steering.main(["run", "--keep", str(tmp_path), "--quick", "--parts", "clocks"]) == 0
    runs = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert len(runs) == len(PARTS["clocks"])
    for run in runs.values():
        assert np.isfinite(run["nll"]).all()
        assert len(run["domains"]) == steering.TESTS * len(DOMAINS)
    assert "| clocks | competence |" in capsys.readouterr().out
