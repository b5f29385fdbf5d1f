"""What is asked of a model sharded by FSDP2 is what the whole model says, and costs training nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.distributed.ranks import Warm

HERE = "tests.distributed.sharded_models:compare"


@pytest.fixture(scope="module", params=["llama", "soft caps", "lora"])
def found(request: pytest.FixtureRequest, warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What each of two ranks found."""
    out = tmp_path_factory.mktemp("out")
    return warm.run(HERE, 2, out=str(out), kind=request.param, timeout=600).ok.results


def test_losses_are_those_of_the_whole_model_however_many_rows_are_asked(found: list[Any]) -> None:
    for rank in found:
        sharded, whole = rank["losses"]
        for ours, theirs in zip(sharded, whole, strict=True):
            for name, values in theirs.items():
                np.testing.assert_allclose(ours[name], values, rtol=1e-5)
    assert found[0]["losses"] == found[1]["losses"]


def test_hidden_states_that_a_scorer_reads_are_those_of_the_whole_model(found: list[Any]) -> None:
    for rank in found:
        sharded, whole = rank["features"]
        np.testing.assert_allclose(sharded, whole, rtol=1e-4, atol=1e-6)
        assert rank["width"] == [32, 32]


def test_answers_are_those_that_one_process_writes_though_ranks_are_done_at_different_times(found: list[Any]) -> None:
    for rank in found:
        sharded, whole = rank["answers"]
        assert sharded == whole
        assert len({len(answer) for _, answer in whole}) > 3
    assert found[0]["answers"] == found[1]["answers"]


def test_the_fingerprint_is_that_of_the_whole_model(found: list[Any]) -> None:
    for rank in found:
        sharded, whole = rank["fingerprints"]
        assert sharded == whole


def test_parameters_are_counted_whole(found: list[Any]) -> None:
    for rank in found:
        sharded, whole = rank["counts"]
        assert sharded == whole
        assert sharded[0] > 10_000


def test_training_does_not_notice_what_is_asked_in_between(found: list[Any]) -> None:
    for rank in found:
        undisturbed, asked = rank["trained"]
        assert undisturbed == asked
        assert asked != ",".join(map(str, rank["fingerprints"][1]))  # it has learned something
