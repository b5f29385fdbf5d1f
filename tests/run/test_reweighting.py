"""Runs whose shares follow losses: what is drawn, weighed, told and left behind is what the record says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campus_tune.recipe.config import CampusConfig
from campus_tune.run.ledger import read_ledger
from campus_tune.words.strict_yaml import read_yaml
from campus_tune.words.types import Json
from tests.run.tiny_run import task_rows, tiny_trainer

RECIPE: Json = {"selector": "shuffle", "metrics": [], "stages": 3, "budget": 1.0}
DOMAINS = sorted({row["domain"] for row in task_rows(60)})


def trained(out: Path, probes: int | None = 60, **recipe: Any) -> list[Json]:
    """The ledger of a run of twelve steps an epoch, two epochs."""
    tiny_trainer(out, config={**RECIPE, **recipe}, n=60, probes=probes, num_train_epochs=2).train()
    return read_ledger(out / "curriculum" / "ledger.jsonl")


def of(ledger: list[Json], event: str) -> list[Json]:
    return [one for one in ledger if one["event"] == event]


def test_rows_follow_the_domain_that_is_behind(tmp_path: Path) -> None:
    ledger = trained(tmp_path, domains={"reweight": {"name": "lagging", "rate": 5.0}})
    moved, decisions = of(ledger, "shares"), of(ledger, "decision")
    probes = {one["step"]: one["domains"] for one in of(ledger, "probes")}
    left = {name: probes[moved[0]["step"]][name]["loss"] / probes[0][name]["loss"] for name in DOMAINS}
    slowest = max(left, key=left.__getitem__)
    assert moved[0]["signal"][slowest] == pytest.approx(left[slowest] - np.mean(list(left.values())), abs=1e-6)
    assert moved[0]["after"][slowest] > moved[0]["before"][slowest]
    for record, earlier in zip(moved[1:], moved, strict=False):
        assert record["before"] == earlier["after"]
    for record in moved:
        stage = next(one for one in decisions if one["stage"] == record["stage"])
        assert sum(record["after"].values()) == pytest.approx(1)
        for name in DOMAINS:
            assert stage["shares"][name] == pytest.approx(record["after"][name], abs=1 / 20)
    assert not (tmp_path / "curriculum" / "shares.yaml").exists()


def test_doremi_weighs_rows_and_leaves_its_shares(tmp_path: Path) -> None:
    targets = dict.fromkeys(DOMAINS, 5.0)
    ledger = trained(tmp_path, domains={"by": "weights", "reweight": {"name": "doremi", "targets": targets}})
    moved = of(ledger, "shares")
    assert moved
    assert any(one["weights"]["max"] > 1.01 for one in of(ledger, "stage_end") if one["stage"] >= moved[0]["stage"])
    block = read_yaml(tmp_path / "curriculum" / "shares.yaml")
    config = CampusConfig.from_mapping({**RECIPE, **block})
    assert config.domains is not None
    assert sorted(config.domains.shares) == DOMAINS
    last = moved[-1]["after"]
    assert max(config.domains.shares, key=config.domains.shares.get) == max(last, key=last.get)


def test_odm_needs_no_probes(tmp_path: Path) -> None:
    recipe = {"stages": 8, "domains": {"reweight": {"name": "odm", "alpha": 0.0}}}
    moved = of(trained(tmp_path, None, **recipe), "shares")
    assert len(moved) > 1
    assert set(moved[-1]["signal"]) == set(DOMAINS)
