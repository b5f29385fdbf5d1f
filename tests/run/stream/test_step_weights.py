"""What the rows of a step count, and by what they are known in front of the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data.prepared import TokenRows, read_rows
from campus_tune.method.levels import Groups
from campus_tune.method.view import PastStage
from campus_tune.method.weighting import Live, LiveEntry
from campus_tune.method.weights import Robust
from campus_tune.model.peers import Peers
from campus_tune.run.stream.shown import ShownBatch
from campus_tune.run.stream.step_weights import RowNumbers, StepWeights, step_weights
from campus_tune.run.stream.training_losses import TrainingLosses, file_of_stage
from campus_tune.run.stream.weighing import Weighing
from campus_tune.scores.cache import read_columns
from campus_tune.words.types import RowLosses
from tests.method.test_weighted_stages import weighting_of, weights_of
from tests.run.stream.test_shown import LAYOUTS, batch_of, row_sets
from tests.run.stream.test_watch import AUDIT
from tests.run.tiny_run import dataset
from tests.strategies import Plan, examples, plans


def as_rows(rows: list[tuple[list[int], list[int]]]) -> TokenRows:
    return read_rows(dataset([{"input_ids": ids, "labels": labels} for ids, labels in rows]))


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@given(rows=row_sets(), more=st.integers(0, 3))
def test_every_row_of_a_batch_finds_its_numbers_in_every_layout(
    layout: str, on_device: bool, rows: list[tuple[list[int], list[int]]], more: int
) -> None:
    planned = as_rows(rows)
    weights = StepWeights(1, np.arange(len(rows)), np.arange(len(rows)) + 1.0, None, Live())
    weighing = Weighing(AUDIT)
    weighing.begin_step(weights, planned, labelled=True)
    shown, padding = ShownBatch(batch_of(rows, layout, more)), more if layout in ("flat", "ends") else 0
    shown.on_device = on_device
    known, at = weighing._lines(shown, len(rows) + padding, torch.device("cpu"))
    numbers = RowNumbers.of(weights, planned, labelled=True)
    assert [numbers.planned[line] for line in at[known].tolist()] == numbers.planned.tolist()
    assert int((~known).sum()) == padding


SAME = [([5, 6, 7], [-100, 6, 7]), ([8, 9], [-100, 9]), ([5, 6, 7], [-100, 6, 7]), ([5, 6, 7], [-100, -100, 7])]


def numbers_of(labelled: bool, **more: Any) -> RowNumbers:
    level = (np.array([1.0, 3.0, np.nan]), np.array([0.5, 0.5, np.nan]))
    entry = LiveEntry("robust", Robust(), Groups(np.array([0, 1, 1, 2]), ("a", "b", "c")), level)
    live = Live((entry,))
    rows, planned = np.array([3, 2, 1, 0]), np.array([4.0, 3.0, 2.0, 1.0])
    return RowNumbers.of(StepWeights(1, rows, planned, more.get("shapes"), live), as_rows(SAME), labelled=labelled)


def test_rows_that_look_the_same_share_what_they_have() -> None:
    found = numbers_of(labelled=True)
    assert found.rows.tolist() == [0, 1, 2, 3]
    assert found.planned.tolist() == [2.0, 2.0, 2.0, 4.0]  # rows 0 and 2: (1 + 3) / 2
    np.testing.assert_array_equal(found.levels, [[2.0, 3.0, 2.0, np.nan], [0.5, 0.5, 0.5, np.nan]])
    assert found.places_of(np.array([2, 0])).tolist() == [2, 0]


def test_where_labels_are_not_known_tokens_tell_rows_apart() -> None:
    found = numbers_of(labelled=False)
    assert found.planned.tolist() == pytest.approx([8 / 3, 2.0, 8 / 3, 8 / 3])
    assert np.isnan(found.levels[:, [0, 2, 3]]).all(), "a level that is not known of one is not known of all"


def test_shapes_are_of_planned_weights_and_are_shared_too() -> None:
    shapes = [np.array([1.0]), np.array([0.5, 1.5]), np.array([1.0]), np.array([1.5, 0.5])]
    found = numbers_of(labelled=True, shapes=shapes)
    assert found.by_token is not None
    assert found.by_token.tolist() == [[1.5, 2.5], [2.0, 2.0], [1.5, 2.5], [4.0, 4.0]]


def test_a_rank_without_rows_has_no_numbers() -> None:
    weights = StepWeights(1, np.zeros(0, dtype=np.int64), np.zeros(0), [], Live())
    assert RowNumbers.of(weights, as_rows(SAME), labelled=True).planned.shape == (0,)


@examples(20)
@given(plan=plans(), seed=st.integers(0, 1000))
def test_every_step_has_the_weights_of_its_own_rows(plan: Plan, seed: int) -> None:
    made, rng = plan.make(), np.random.default_rng(seed)
    made.weighting = weighting_of(made.n_rows, made.global_batch, "column", "focal")
    while not made.finished:
        if made.needs_decision:
            made.open(plan.choose(made, made.offers()))
        rows = rng.permutation(made.step_rows()).tolist()
        found = step_weights(made, [rows[::2], [~rows[0]], rows[1::2]], None)
        assert found is not None
        assert found.rows.tolist() == rows[::2] + rows[1::2]
        assert made.stage is not None
        at = {int(row): place for place, row in enumerate(made.stage.rows)}
        assert found.planned.tolist() == [float(weights_of(made.stage)[at[int(row)]]) for row in found.rows]
        assert (found.step, found.live, found.shapes) == (made.step + 1, made.live, None)
        made.advance()
    made.weighting = None
    assert step_weights(made, [[0]], None) is None


# -- what is kept of them --------------------------------------------------------------------------------------------


def losses_of(rows: Any) -> RowLosses:
    losses = RowLosses.zeros(len(rows))
    losses.nll_sum[:], losses.tokens[:] = np.asarray(rows) + 1.0, 2
    return losses


class TwoRanks(Peers):
    """This rank and one more, which has trained rows of its own."""

    def __init__(self, other: Any) -> None:
        super().__init__(rank=0, world=2)
        self.other = other

    def gather(self, value: Any) -> Any:
        return [value, self.other._own]


def test_weights_of_all_ranks_stand_in_the_sequence_of_the_plan(tmp_path: Any) -> None:
    ours, theirs = TrainingLosses(), TrainingLosses()
    ours.add(np.array([7, 1]), losses_of([7, 1]), np.array([0.7, 0.1]), np.array([1.7, 1.1]))
    theirs.add(np.array([4, 2]), losses_of([4, 2]), np.array([0.4, 0.2]), np.array([1.4, 1.2]))
    planned = np.array([1, 2, 4, 7], dtype=np.int32)
    ours.share(TwoRanks(theirs), planned)
    assert ours.rows.tolist() == [1, 2, 4, 7]
    assert ours.weights is not None
    assert ours.weights.tolist() == [0.1, 0.2, 0.4, 0.7]
    again = TrainingLosses()
    again.load(ours.state())
    assert again.parts is not None
    assert again.parts.tolist() == [1.1, 1.2, 1.4, 1.7]
    again.close_stage(tmp_path, PastStage(0, "shuffle", 4))
    assert read_columns(tmp_path / file_of_stage(0))[0]["weight"].tolist() == [0.1, 0.2, 0.4, 0.7]
    assert again.weights is None


def test_a_rank_without_rows_and_a_stage_that_began_without_weights_count_one() -> None:
    ours, nobody = TrainingLosses(), TrainingLosses()
    ours.add(np.array([3]), losses_of([3]))
    ours.share(TwoRanks(nobody), np.array([3, 5], dtype=np.int32))
    assert ours.weights is None
    assert {"weights", "parts"}.isdisjoint(ours.state())
    ours.add(np.array([5]), losses_of([5]), np.array([2.0]))
    ours.share(TwoRanks(nobody), np.array([3, 5], dtype=np.int32))
    assert ours.weights is not None
    assert ours.weights.tolist() == [1.0, 2.0]
    assert ours.parts is None
