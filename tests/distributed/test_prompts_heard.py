"""Rewards of a generation whose answers are shared out over two processes, and what goes wrong on one of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from campus_tune.words.types import Json
from tests.distributed.ranks import PATIENT, Warm
from tests.run.prompts.tiny_prompts import GROUP

HEARD = "tests.distributed.prompt_runs:heard"
CUT: Json = {"per_device_train_batch_size": 6, "train": 24}  # a group lies on both ranks: 6 prompts of 4 answers


@pytest.mark.parametrize(("kind", "given"), [("grpo", {}), ("rloo", {"steps_per_generation": 4, "num_iterations": 2})])
def test_every_rank_hears_all_rewards_in_the_planned_sequence(
    warm: Warm, tmp_path: Path, kind: str, given: Json
) -> None:
    one, two = warm.run(HEARD, 2, out=str(tmp_path / "run"), kind=kind, **CUT, **given).ok.results
    for name in ("rows", "weighted", "tokens", "contradicting", "counts", "weights"):
        assert one[name] == two[name], name
    for generation in range(2):
        asked = one["asked"][generation] + two["asked"][generation]
        assert asked == np.repeat(one["rows"][generation], GROUP).tolist()
        own = one["own"][generation] + two["own"][generation]
        assert own == np.array(one["weighted"][generation]).reshape(-1).tolist()
    checked, passed, made, planned = one["counts"]
    assert checked == passed > 0
    assert made == planned == 2


def test_one_rank_that_is_handed_another_sequence_stops_all(warm: Warm, tmp_path: Path) -> None:
    report = warm.run(HEARD, 2, out=str(tmp_path / "run"), kind="grpo", shift=1, **CUT)
    assert all(report.codes)
    assert "were planned in this sequence, got another" in report.stderr[1]
    assert report.lingered < PATIENT


def test_a_reward_function_that_fails_on_one_rank_names_its_row_and_stops_all(warm: Warm, tmp_path: Path) -> None:
    report = warm.run(HEARD, 2, out=str(tmp_path / "run"), kind="grpo", fails_on=8, **CUT)
    assert all(report.codes)
    assert "got LookupError: no answer is known for row 8 (prompt 'task 8 of kind 0" in report.told()
    assert report.lingered < PATIENT
